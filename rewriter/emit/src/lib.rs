//! Placement and bytes: code, unwind tables, symbols, the file.
//!
//! [`emit`] turns a plan (order only) into a file: it assembles what is laid out anew, gives every
//! fragment an address, derives the address map from that, and writes the old file again with a
//! journal of edits: code, every word that designates code, unwind tables, symbols, headers. What no
//! edit names stays byte-identical.
//!
//! **Invariant:** decides no order, and reads no profile.

mod code;
mod direct;
mod error;
mod file;
mod headers;
mod lines;
mod placement;
mod relay;
mod relocator;
mod room;
mod static_relocs;
mod symbols;
mod unwind;

pub use code::{Assembled, assemble};
pub use error::EmitError;
pub use file::{EmitOptions, Output, emit};
pub use unwind::{
    EmitUnwindError, MovedFragment, MovedFunction, Piece, UnwindAddrs, UnwindBytes, UnwindFault, UnwindPlan,
};
