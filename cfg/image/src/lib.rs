//! The ELF reader: headers, sections, segments, symbols, relocations, notes, unwind tables.
//!
//! An [`Image`] borrows the file's bytes and checks, once, that every range that a header names lies
//! inside them; after that, reading cannot fail for a reason of bounds. Addresses are `p_vaddr`-space
//! values of *this* file; the stages above say whether that file is the old or the new one.
//!
//! **Invariant:** knows neither instructions nor profiles, and never writes.

mod consts;
mod dynamic;
mod eh_frame;
mod error;
mod file;
mod lsda;
mod note;
mod relocation;
mod support;
mod symbol;

pub use consts::{elf, reloc};
pub use dynamic::{DynamicEntry, DynamicTable};
pub use eh_frame::{Cie, EhFrame, EhFrameHdr, EhFrameHdrEntry, Fde, Personality, UnwindCursor, UnwindError, eh_pe};
pub use error::ImageError;
pub use file::{Header, Image, Section, Segment};
pub use lsda::{Action, CallSite, Lsda, LsdaTables};
pub use note::{Note, build_id, notes};
pub use relocation::{Rela, RelaTable, relr_addresses};
pub use support::{Unsupported, check_supported};
pub use symbol::{Symbol, SymbolTable};
