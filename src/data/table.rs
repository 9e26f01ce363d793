//! Tables as CSV (RFC 4180) with a header: columns of numbers, or of classes.

use super::files;
use super::labels::Faults;
use crate::ir::diagnostic::closest;
use crate::ir::{Diagnostic, Diagnostics};
use std::path::Path;

/// A table whose cells are still text.
#[derive(Debug)]
pub(super) struct Table {
    /// The path, as messages show it.
    file: String,
    header: Vec<String>,
    /// The cells, row by row, and the line that each row begins on.
    rows: Vec<(u64, csv::StringRecord)>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, has no rows, has rows of different lengths, or has two columns of one name.
    pub fn read(path: &Path) -> Result<Table, Diagnostic> {
        let file = path.display().to_string();
        let bytes = files::read(path)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let header = reader.headers().map_err(|error| refuse(&file, &error))?.iter().map(str::to_string);
        let header: Vec<String> = header.collect();
        for (i, name) in header.iter().enumerate() {
            if header[..i].contains(name) {
                return Err(Diagnostic::new(format!("`{file}` has two columns called `{name}`"))
                    .expected("a header that names each column once")
                    .help("the first line of a table names its columns"));
            }
        }
        let mut rows = Vec::new();
        for record in reader.into_records() {
            let record = record.map_err(|error| refuse(&file, &error))?;
            let line = record.position().map_or(0, |position| {
                // A record begins behind the one before, perhaps with empty lines.
                let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
                let gap = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
                position.line() + gap.filter(|byte| **byte == b'\n').count() as u64
            });
            rows.push((line, record));
        }
        match rows.is_empty() {
            true => Err(Diagnostic::new(format!("`{file}` has no examples"))
                .expected("a line that names the columns, and a line an example")
                .found(if header.is_empty() { "an empty file" } else { "the first line alone" })),
            false => Ok(Table { file, header, rows }),
        }
    }

    /// The number of rows below the header.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The names of the columns that are not among `others`.
    pub fn all_but(&self, others: &[String]) -> Vec<String> {
        self.header.iter().filter(|name| !others.contains(name)).cloned().collect()
    }

    /// The places of columns.
    ///
    /// # Errors
    /// All names that the header does not have.
    pub fn columns(&self, names: &[String]) -> Result<Vec<usize>, Diagnostics> {
        let mut faults = Faults::default();
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            match self.header.iter().position(|known| known == name) {
                Some(place) => places.push(place),
                None => faults.push(self.no_column(name)),
            }
        }
        faults.into_result().map(|()| places)
    }

    fn no_column(&self, name: &str) -> Diagnostic {
        let known: Vec<String> = self.header.iter().take(20).map(|name| format!("`{name}`")).collect();
        let more = if self.header.len() > 20 { " and so on" } else { "" };
        let fault = Diagnostic::new(format!("`{}` has no column `{name}`", self.file));
        let mut fault = fault.expected(format!("one of {}{more}", known.join(", ")));
        let meant = closest(name, self.header.iter().take(1000).map(String::as_str));
        fault.help = match (meant, self.header.as_slice()) {
            (Some(meant), _) => Some(format!("did you mean `{meant}`?")),
            (None, [only]) if only.contains([';', '\t']) => Some("put commas between the cells".to_string()),
            (None, _) => None,
        };
        fault
    }

    /// The numbers of columns, row by row.
    ///
    /// # Errors
    /// All cells that are not finite numbers, each with its line and column.
    pub fn numbers(&self, columns: &[usize]) -> Result<Vec<f64>, Diagnostics> {
        let mut faults = Faults::default();
        let mut numbers = Vec::with_capacity(self.rows.len() * columns.len());
        for (row, (_, cells)) in self.rows.iter().enumerate() {
            for &column in columns {
                let cell = &cells[column];
                match cell.parse::<f64>() {
                    Ok(number) if number.is_finite() => numbers.push(number),
                    _ => faults.push(
                        Diagnostic::new(format!("{}: a cell is not a number", self.place(row, column)))
                            .expected("a finite number, such as -1.5e3")
                            .found(if cell.is_empty() { "an empty cell".to_string() } else { format!("{cell:?}") }),
                    ),
                }
            }
        }
        faults.into_result().map(|()| numbers)
    }

    /// The text of a column, row by row.
    pub fn texts(&self, column: usize) -> impl Iterator<Item = &str> + Clone {
        self.rows.iter().map(move |(_, cells)| &cells[column])
    }

    /// Where a cell stands, for messages.
    pub fn place(&self, row: usize, column: usize) -> String {
        format!("`{}` line {}, column `{}`", self.file, self.rows[row].0, self.header[column])
    }
}

fn refuse(file: &str, error: &csv::Error) -> Diagnostic {
    let line = error.position().map_or(String::new(), |position| format!(" line {}", position.line()));
    let fault = Diagnostic::new(format!("`{file}`{line} cannot be read as a table"));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => fault
            .expected(format!("{expected_len} cells, as many as the first line names"))
            .found(format!("{len}"))
            .help("put text with commas in double quotes"),
        csv::ErrorKind::Utf8 { .. } => fault.expected("UTF-8").found("other bytes"),
        _ => fault.found(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &[u8]) -> Result<Table, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        Table::read(&path).map(|table| Table { file: "t.csv".to_string(), ..table })
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_found_by_name() {
        let table = table(b"a, b ,\"c, d\"\n1, -2.5e1,x\n\n3,4,\"y \"\"z\"\"\"\n").unwrap();
        assert_eq!((table.len(), table.all_but(&names(&["b"]))), (2, names(&["a", "c, d"])));
        let columns = table.columns(&names(&["b", "a"])).unwrap();
        assert_eq!(table.numbers(&columns).unwrap(), [-25.0, 1.0, 4.0, 3.0]);
        let text = table.columns(&names(&["c, d"])).unwrap()[0];
        assert_eq!(table.texts(text).collect::<Vec<_>>(), ["x", "y \"z\""]);
        assert_eq!(table.place(1, 0), "`t.csv` line 4, column `a`");
    }

    #[test]
    fn lines_are_counted_as_they_are_written() {
        for text in [b"a,b\r\n1,2\r\n\r\n3,4\r\n5,6".as_slice(), b"a,b\n1,2\n\n3,4\n5,6\n"] {
            let rows = table(text).unwrap().rows;
            assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 5]);
        }
    }

    #[test]
    fn cells_that_are_no_numbers_are_all_told() {
        let table = table(b"a,b\n1,two\n,nan\n3,inf\n").unwrap();
        let faults = table.numbers(&[0, 1]).unwrap_err().0;
        let told: Vec<(&str, &str)> =
            faults.iter().map(|fault| (fault.title.as_str(), fault.found.as_deref().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("`t.csv` line 2, column `b`: a cell is not a number", "\"two\""),
                ("`t.csv` line 3, column `a`: a cell is not a number", "an empty cell"),
                ("`t.csv` line 3, column `b`: a cell is not a number", "\"nan\""),
                ("`t.csv` line 4, column `b`: a cell is not a number", "\"inf\""),
            ]
        );
    }

    #[test]
    fn bad_tables_are_refused() {
        for (text, title, found) in [
            (b"".as_slice(), "has no examples", "an empty file"),
            (b"a,b\n", "has no examples", "the first line alone"),
            (b"a,b\n1,2\n3\n", "line 3 cannot be read as a table", "1"),
            (b"a,b\n1,2\n3,4,5\n", "line 3 cannot be read as a table", "3"),
            (b"a,b\n1,\xff\n", "line 2 cannot be read as a table", "other bytes"),
        ] {
            let fault = table(text).unwrap_err();
            assert!(fault.title.contains(title) && fault.found.as_deref() == Some(found), "{fault:?}");
        }
        assert!(table(b"a,b,a\n1,2,3\n").unwrap_err().title.contains("two columns called `a`"));
        let fault = &table(b"age,sex\n1,2\n").unwrap().columns(&names(&["agee", "weight"])).unwrap_err().0;
        assert_eq!((fault.len(), fault[0].help.as_deref()), (2, Some("did you mean `age`?")));
        let fault = &table(b"a;b\n1;2\n").unwrap().columns(&names(&["a"])).unwrap_err().0[0];
        assert!(fault.help.is_some());
    }
}
