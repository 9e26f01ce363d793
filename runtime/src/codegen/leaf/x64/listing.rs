//! Instructions as text.

use iced_x86::{Decoder, DecoderOptions, DefaultFastFormatterTraitOptions, Mnemonic, SpecializedFormatter};

/// What stands above each loop.
const LOOP: &str = "; loop";

/// The instructions of `code`, a line each; blocks begin at `starts`, and some are the start of a loop. Addresses are places in
/// the code, behind which its constants lie. What only aligns loops is left out.
pub fn list(code: &[u8], starts: &[usize], is_loop: impl Fn(usize) -> bool) -> String {
    let mut listing = String::new();
    let mut formatter = SpecializedFormatter::<DefaultFastFormatterTraitOptions>::new();
    for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        let here = |start: &usize| *start as u64 == instruction.ip();
        for (block, _) in starts.iter().enumerate().filter(|(_, start)| here(start)) {
            if is_loop(block) {
                listing.push_str(LOOP);
                listing.push('\n');
            }
            listing.push_str(&format!("block{block}:\n"));
        }
        if instruction.mnemonic() != Mnemonic::Nop {
            listing.push_str("    ");
            formatter.format(&instruction, &mut listing);
            listing.push('\n');
        }
    }
    listing
}
