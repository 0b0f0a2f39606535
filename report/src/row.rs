//! Rows of report tables.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// One row of a report table: a flat struct of numbers, words and addresses.
///
/// The struct is the table: its fields are the columns, in their order. Text, TSV and JSON are
/// renderings of the same rows.
pub trait Row: Serialize {
    /// Name of the table, as in the name of its file.
    const TABLE: &'static str;
    /// Version of its columns; a column that is removed or changes its name or meaning raises it.
    const VERSION: u32;
}

/// Why rows cannot be rendered: a mistake in the type of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowError {
    /// The row is no struct with named fields.
    NotAStruct,
    /// A column holds a list or a struct.
    NotFlat,
    /// Rows of one table have different columns.
    UnevenColumns,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAStruct => "a row is no struct with named fields",
            Self::NotFlat => "a column holds a list or a struct",
            Self::UnevenColumns => "rows of one table have different columns",
        })
    }
}

impl std::error::Error for RowError {}

/// The columns of one row, in the order of the struct's fields (a `serde_json::Map` would sort them).
pub(crate) struct Columns(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a struct")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// One row as a JSON object.
pub(crate) fn to_json<R: Row>(row: &R) -> Result<String, RowError> {
    serde_json::to_string(row).ok().filter(|json| json.starts_with('{')).ok_or(RowError::NotAStruct)
}

/// Names and cells of all rows.
pub(crate) struct Table {
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn new<R: Row>(rows: &[R]) -> Result<Self, RowError> {
        let mut table = Self { names: Vec::new(), rows: Vec::with_capacity(rows.len()) };
        for (index, row) in rows.iter().enumerate() {
            let Columns(columns) = serde_json::from_str(&to_json(row)?).map_err(|_| RowError::NotAStruct)?;
            let (names, cells): (Vec<String>, Vec<Value>) = columns.into_iter().unzip();
            if cells.iter().any(|cell| cell.is_array() || cell.is_object()) {
                return Err(RowError::NotFlat);
            }
            if index == 0 {
                table.names = names;
            } else if table.names != names {
                return Err(RowError::UnevenColumns);
            }
            table.rows.push(cells);
        }
        Ok(table)
    }
}
