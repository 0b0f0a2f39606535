//! Vocabulary of outcomes: codes, severities, rows, and how they are rendered.
//!
//! **Invariant:** knows no other crate of the workspace; decides nothing, prints nothing.

mod code;
mod render;
mod row;

pub use code::{Code, Diagnose, Severity};
pub use render::{json_lines, text, tsv};
pub use row::{Row, RowError};
