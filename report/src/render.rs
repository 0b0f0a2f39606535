//! Renderings of rows: aligned text for people, TSV and JSON lines for programs.

use std::fmt::Write as _;

use serde_json::Value;

use crate::row::{Row, RowError, Table, to_json};

/// JSON lines: one object per row, `table` and `version` before the columns.
///
/// # Errors
/// [`RowError::NotAStruct`].
pub fn json_lines<R: Row>(rows: &[R]) -> Result<String, RowError> {
    let mut out = String::new();
    for row in rows {
        let json = to_json(row)?;
        let columns = json.get(1..).ok_or(RowError::NotAStruct)?;
        let comma = if columns == "}" { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{{\"table\":\"{}\",\"version\":{}{comma}{columns}", R::TABLE, R::VERSION);
    }
    Ok(out)
}

/// Tab-separated values: a line with the names of the columns, one line per row. Tab, line end and
/// backslash in a cell are written `\t`, `\n`, `\r`, `\\`; an absent value is empty. No rows give an
/// empty text.
///
/// # Errors
/// [`RowError`].
pub fn tsv<R: Row>(rows: &[R]) -> Result<String, RowError> {
    let table = Table::new(rows)?;
    let mut out = String::new();
    if !table.rows.is_empty() {
        push_line(&mut out, table.names.iter().map(|name| escape_tsv(name)));
    }
    for row in &table.rows {
        push_line(&mut out, row.iter().map(|cell| escape_tsv(&plain(cell))));
    }
    Ok(out)
}

/// An aligned table: numbers to the right, words to the left, control characters escaped (names come
/// from the input file and must not reach a terminal as they are), an absent value as `-`.
///
/// # Errors
/// [`RowError`].
pub fn text<R: Row>(rows: &[R]) -> Result<String, RowError> {
    let table = Table::new(rows)?;
    if table.rows.is_empty() {
        return Ok(String::new());
    }
    let cells: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(printable).collect()).collect();
    let columns: Vec<Column> = table
        .names
        .iter()
        .enumerate()
        .map(|(index, name)| Column {
            width: cells
                .iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .fold(name.chars().count(), usize::max),
            right: table.rows.iter().filter_map(|row| row.get(index)).all(|cell| cell.is_number() || cell.is_null()),
        })
        .collect();
    let mut out = String::new();
    push_aligned(&mut out, &columns, &table.names);
    for row in &cells {
        push_aligned(&mut out, &columns, row);
    }
    Ok(out)
}

struct Column {
    width: usize,
    right: bool,
}

fn push_line(out: &mut String, cells: impl Iterator<Item = String>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push('\t');
        }
        out.push_str(&cell);
    }
    out.push('\n');
}

fn push_aligned(out: &mut String, columns: &[Column], cells: &[String]) {
    let line_start = out.len();
    for (index, (column, cell)) in columns.iter().zip(cells).enumerate() {
        if index > 0 {
            out.push_str("  ");
        }
        let padding = column.width.saturating_sub(cell.chars().count());
        if column.right {
            out.extend(std::iter::repeat_n(' ', padding));
        }
        out.push_str(cell);
        if !column.right {
            out.extend(std::iter::repeat_n(' ', padding));
        }
    }
    let line_end = out.trim_end_matches(' ').len().max(line_start);
    out.truncate(line_end);
    out.push('\n');
}

fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn printable(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => {
            let escape = |c: char| c.is_control() || is_direction_mark(c);
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if escape(c) { out.extend(c.escape_default()) } else { out.push(c) }
            }
            out
        }
        other => other.to_string(),
    }
}

/// Characters that change the direction of the text around them.
const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape_tsv(cell: &str) -> String {
    let mut out = String::with_capacity(cell.len());
    for c in cell.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::Code;

    #[derive(Serialize)]
    struct Sizes {
        name: String,
        bytes: u64,
        kept: Option<Code>,
    }
    impl Row for Sizes {
        const TABLE: &'static str = "sizes";
        const VERSION: u32 = 2;
    }

    fn rows() -> Vec<Sizes> {
        vec![
            Sizes { name: "main".into(), bytes: 1200, kept: None },
            Sizes { name: "a\tb\\\u{1b}[31m".into(), bytes: 7, kept: Some(const { Code::new("CFG002") }) },
        ]
    }

    #[test]
    fn json_has_table_version_and_columns_in_order() {
        let json = json_lines(&rows()).unwrap();
        let first = json.lines().next().unwrap();
        assert_eq!(first, r#"{"table":"sizes","version":2,"name":"main","bytes":1200,"kept":null}"#);
        let second: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
        assert_eq!(second["name"], "a\tb\\\u{1b}[31m");
    }

    #[test]
    fn tsv_has_one_line_per_row_whatever_the_cells_hold() {
        assert_eq!(tsv(&rows()).unwrap(), "name\tbytes\tkept\nmain\t1200\t\na\\tb\\\\\u{1b}[31m\t7\tCFG002\n");
        assert_eq!(tsv::<Sizes>(&[]).unwrap(), "");
    }

    #[test]
    fn text_is_aligned_and_harmless() {
        let got = text(&rows()).unwrap();
        let expected =
            [r"name             bytes  kept", r"main              1200  -", r"a\tb\\u{1b}[31m      7  CFG002"];
        assert_eq!(got.lines().collect::<Vec<_>>(), expected);
    }

    #[derive(Serialize)]
    struct Nested {
        list: Vec<u8>,
    }
    impl Row for Nested {
        const TABLE: &'static str = "nested";
        const VERSION: u32 = 1;
    }
    #[derive(Serialize)]
    struct Number(u64);
    impl Row for Number {
        const TABLE: &'static str = "number";
        const VERSION: u32 = 1;
    }

    #[test]
    fn only_flat_structs_are_rows() {
        assert_eq!(tsv(&[Nested { list: vec![1] }]), Err(RowError::NotFlat));
        assert_eq!(json_lines(&[Number(1)]), Err(RowError::NotAStruct));
        assert_eq!(text(&[Number(1)]), Err(RowError::NotAStruct));
    }
}
