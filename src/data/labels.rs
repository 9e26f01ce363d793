//! Class labels by number or by name.

use crate::ir::diagnostic::closest;
use crate::ir::{Diagnostic, Diagnostics};

/// What class labels may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Labels are from 0 to below this number.
    pub classes: usize,
    /// The one label beside them, of places that count for nothing.
    pub ignore_index: i64,
    /// What the network calls its classes, in their order.
    pub names: Option<Vec<String>>,
}

impl Labels {
    /// Holds the cells of a table to what class labels are: none is empty; and where the network does not name its classes, all
    /// are numbers, or none is.
    ///
    /// # Errors
    /// All cells that are not; `place` says where they stand.
    pub(super) fn check_cells<'t>(
        &self,
        texts: impl Iterator<Item = &'t str> + Clone,
        place: impl Fn(usize) -> String,
    ) -> Result<(), Diagnostics> {
        let words = texts.clone().filter(|text| !text.is_empty() && number(text).is_none()).count();
        let numbers = texts.clone().filter(|text| number(text).is_some()).count();
        let are_mixed = self.names.is_none() && words > 0 && numbers > 0;
        let mut faults = Faults::default();
        for (row, text) in texts.enumerate() {
            if text.is_empty() {
                let fault = Diagnostic::new(format!("{}: a class label is missing", place(row)));
                faults.push(fault.expected("a number or a name").found("an empty cell"));
            } else if are_mixed && number(text).is_some() == (numbers < words) {
                let most = if numbers < words { "a name" } else { "a number" };
                let fault = Diagnostic::new(format!("{}: a class label is unlike the others", place(row)));
                let fault = fault.expected(format!("{most}, as in most rows")).found(format!("{text:?}"));
                faults.push(fault.help("where classes are called so, name them all in the network: `classes: [...]`"));
            }
        }
        faults.into_result()
    }
}

/// How examples call their classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// By their numbers.
    Numbers,
    /// By these names, in the order of the numbers.
    Names(Vec<String>),
}

/// The most faults of one file that are told.
const LIMIT: usize = 10;

/// The most names that a message lists.
const NAMES_LIMIT: usize = 20;

/// Collects the faults of a file, and counts those that are not told.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: Diagnostics,
    more: usize,
}

impl Faults {
    pub fn push(&mut self, fault: Diagnostic) {
        match self.told.0.len() < LIMIT {
            true => self.told.push(fault),
            false => self.more += 1,
        }
    }

    /// `Ok` where there are none.
    pub fn into_result(mut self) -> Result<(), Diagnostics> {
        if self.more > 0 {
            self.told.push(Diagnostic::new(format!("faults like these: {} more", self.more)));
        }
        self.told.into_result()
    }
}

impl Naming {
    /// How the classes of `texts` are called. Texts that are all numbers are labels themselves. Others are names:
    /// those of the network's classes, or, where it names none, their own in the order of the alphabet.
    ///
    /// # Errors
    /// Where there are more names than classes.
    pub fn of<'t>(texts: impl Iterator<Item = &'t str> + Clone, wanted: &Labels) -> Result<Naming, Diagnostic> {
        if texts.clone().all(|text| number(text).is_some()) {
            return Ok(Naming::Numbers);
        }
        let names = match &wanted.names {
            Some(names) => names.clone(),
            None => {
                let mut own: Vec<String> = texts.map(str::to_string).collect();
                own.sort_unstable();
                own.dedup();
                own
            }
        };
        match names.len() <= wanted.classes {
            true => Ok(Naming::Names(names)),
            false => Err(Diagnostic::new("there are more classes than the network tells apart")
                .expected(format!("at most {}", wanted.classes))
                .found(format!("{}: {}", names.len(), listed(&names)))),
        }
    }

    /// The label that a text is.
    ///
    /// # Errors
    /// Where it is none; `place` says where it stands.
    pub fn label(&self, text: &str, place: impl FnOnce() -> String) -> Result<i64, Diagnostic> {
        match self {
            Naming::Numbers => {
                let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= MOST;
                number(text).filter(whole).map(|number| number as i64).ok_or_else(|| {
                    Diagnostic::new(format!("{}: a class label is not a number", place()))
                        .expected("a whole number")
                        .found(format!("{text:?}"))
                })
            }
            Naming::Names(names) => {
                names.iter().position(|name| name == text).map(|label| label as i64).ok_or_else(|| {
                    let fault = Diagnostic::new(format!("{}: there is no class {text:?}", place()));
                    let mut fault = fault.expected(format!("one of {}", listed(names)));
                    let meant = closest(text, names.iter().take(1000).map(String::as_str));
                    fault.help = meant.map(|meant| format!("did you mean `{meant}`?"));
                    fault
                })
            }
        }
    }
}

/// The greatest label, far beyond any number of classes: f64 has all whole numbers up to here.
const MOST: f64 = (1u64 << 53) as f64;

/// The number that a text is, such as `3` or `3.0`, if it is one.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn listed(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(NAMES_LIMIT).map(|name| format!("`{name}`")).collect();
    first.join(", ") + if names.len() > NAMES_LIMIT { " and so on" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(classes: usize, names: Option<&[&str]>) -> Labels {
        let names = names.map(|names| names.iter().map(ToString::to_string).collect());
        Labels { classes, ignore_index: -100, names }
    }

    fn read(texts: &[&str], wanted: &Labels) -> Result<Vec<i64>, Diagnostic> {
        let naming = Naming::of(texts.iter().copied(), wanted)?;
        texts.iter().map(|text| naming.label(text, || "here".to_string())).collect()
    }

    #[test]
    fn numbers_are_labels_and_names_are_numbered() {
        assert_eq!(read(&["2", "0", "2"], &labels(3, None)).unwrap(), [2, 0, 2]);
        assert_eq!(read(&["pear", "apple", "pear"], &labels(3, None)).unwrap(), [1, 0, 1]);
        assert_eq!(read(&["pear", "apple"], &labels(3, Some(&["plum", "pear", "apple"]))).unwrap(), [1, 2]);
        // Programs write whole numbers of a column with a gap like this.
        assert_eq!(read(&["2.0", "10.0", "1e1"], &labels(11, None)).unwrap(), [2, 10, 10]);
        // Numbers are numbers even where names are numbers too.
        assert_eq!(read(&["2", "1"], &labels(3, Some(&["1", "2", "3"]))).unwrap(), [2, 1]);
    }

    #[test]
    fn unknown_classes_are_told() {
        let fault = read(&["pear", "aple"], &labels(3, Some(&["pear", "apple"]))).unwrap_err();
        assert_eq!(fault.title, "here: there is no class \"aple\"");
        assert_eq!(fault.expected.as_deref(), Some("one of `pear`, `apple`"));
        assert_eq!(fault.help.as_deref(), Some("did you mean `apple`?"));
        let fault = read(&["a", "b", "c"], &labels(2, None)).unwrap_err();
        assert_eq!((fault.expected.as_deref(), fault.found.as_deref()), (Some("at most 2"), Some("3: `a`, `b`, `c`")));
        for text in ["x", "0.5", "1e300", "nan", ""] {
            let fault = Naming::Numbers.label(text, || "line 3".to_string()).unwrap_err();
            assert_eq!(fault.title, "line 3: a class label is not a number", "{text}");
        }
    }

    #[test]
    fn cells_are_alike() {
        let faults = |texts: &[&str], labels: &Labels| -> Vec<String> {
            let checked = labels.check_cells(texts.iter().copied(), |row| row.to_string());
            checked.err().map_or(Vec::new(), |faults| faults.0.into_iter().map(|fault| fault.title).collect())
        };
        assert!(faults(&["0", "2.0", "1"], &labels(3, None)).is_empty());
        assert!(faults(&["a", "b", "1st"], &labels(3, None)).is_empty());
        assert!(faults(&["a", "7"], &labels(3, Some(&["a", "7"]))).is_empty());
        assert_eq!(faults(&["0", "nan", "1"], &labels(3, None)), ["1: a class label is unlike the others"]);
        assert_eq!(faults(&["0", "a", "b"], &labels(3, None)), ["0: a class label is unlike the others"]);
        assert_eq!(faults(&["a", ""], &labels(3, Some(&["a", ""]))), ["1: a class label is missing"]);
    }

    #[test]
    fn not_all_faults_are_told() {
        let mut faults = Faults::default();
        (0..25).for_each(|i| faults.push(Diagnostic::new(format!("{i}"))));
        let told = faults.into_result().unwrap_err();
        assert_eq!((told.0.len(), told.0[10].title.as_str()), (11, "faults like these: 15 more"));
        assert!(Faults::default().into_result().is_ok());
    }
}
