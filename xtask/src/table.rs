//! Tab-separated files.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::Result;

/// Rows under a head, all of one width.
pub(crate) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &'static [&'static str]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds a row; tabs and line ends in cells become blanks.
    pub(crate) fn push(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len(), "a row has the head's width");
        self.rows.push(
            cells
                .iter()
                .map(|cell| cell.replace(['\t', '\n', '\r'], " "))
                .collect(),
        );
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = self.head.join("\t");
        text.push('\n');
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.join("\t"));
        }
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The rows of a file that `Table` wrote, without its head; none if there is no such file.
pub(crate) fn read(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .skip(1)
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Table, read};

    #[test]
    fn rows_survive_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut table = Table::new(&["a", "b"]);
        table.push(vec!["1".to_owned(), "two\tthree\n".to_owned()]);
        table.write(file.path()).unwrap();
        assert_eq!(read(file.path()), [["1", "two three "]]);
    }
}
