//! A page about a compiled network.
pub fn page(_: &str, _: &fusewright::Planned, _: &[(&str, std::time::Duration)]) -> String {
    String::new()
}
