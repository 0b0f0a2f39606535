//! Placement and bytes: code, unwind tables, symbols, the file.

mod unwind;

pub use unwind::{
    EmitUnwindError, MovedFragment, MovedFunction, Piece, UnwindAddrs, UnwindBytes, UnwindFault, UnwindPlan,
};
