//! Tables and numbers as people read them.

use fusewright::ir::Dim;
use std::fmt;
use std::time::Duration;

/// Rows of cells in aligned columns; the first row is the heading.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Whether each column is aligned to the right.
    right: Vec<bool>,
}

impl Table {
    /// Columns by name; those that begin with `>` are aligned to the right.
    pub fn new(columns: &[&str]) -> Table {
        let right = columns.iter().map(|name| name.starts_with('>')).collect();
        let heading = columns.iter().map(|name| name.trim_start_matches('>').to_string()).collect();
        Table { rows: vec![heading], right }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let padded = if right { format!("{cell:>width$}") } else { format!("{cell:width$}") };
                line += &padded;
                line += "  ";
            }
            writeln!(f, "{}", line.trim_end())?;
            if i == 0 {
                let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
                writeln!(f, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }
}

/// `61,706`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `61,706`, or the expression where a symbol is in it.
pub fn amount(dim: &Dim) -> String {
    match dim.known() {
        Some(n) => grouped(n as u64),
        None => dim.to_string(),
    }
}

/// `61.7 KiB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..=9_999 => format!("{} B", grouped(n)),
        10_000..=9_999_999 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / (1 << 20) as f64),
    }
}

/// Microseconds or milliseconds.
pub fn time(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        ..10_000.0 => format!("{us:.1} us"),
        ..10_000_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["layer", ">size"]);
        table.row(["c1".to_string(), grouped(61706)]);
        assert_eq!(table.to_string(), "layer    size\n-----  ------\nc1     61,706\n");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 25_557_032].map(grouped), ["0", "999", "1,000", "25,557,032"]);
        assert_eq!(bytes(9_408), "9,408 B");
        assert_eq!(bytes(246_824), "241.0 KiB");
        assert_eq!(time(Duration::from_micros(1500)), "1500.0 us");
        assert_eq!(time(Duration::from_millis(15)), "15.0 ms");
    }
}
