//! Why a program cannot be written.

use crate::EmitUnwindError;

/// A failure of emission.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// One function cannot be written as planned; it can stay where it is instead.
    #[error("the function at {start:#x} cannot be written as planned: {what}")]
    Function {
        /// Old address of its entry.
        start: u64,
        /// What is in the way.
        what: String,
    },
    /// A field of data cannot hold the new address of what it designates.
    #[error("the {width}-byte field at file offset {offset:#x} cannot hold the new address of {target:#x}")]
    Field {
        /// File offset in the input.
        offset: u64,
        /// Width in bytes.
        width: u8,
        /// Old address that it designates.
        target: u64,
    },
    /// The moved code overlaps: a bug.
    #[error("the address map contradicts itself: {0}")]
    Map(#[from] postlink_base::MapError),
    /// The unwind tables cannot be written.
    #[error("{0}")]
    Unwind(#[from] EmitUnwindError),
    /// The program header table cannot grow where it stands.
    #[error("the program header table has no room to grow: nothing that stands behind it may move")]
    HeaderRoom,
    /// The file leaves no room for what must be added to it.
    #[error("no room for {what}: {why}")]
    Room {
        /// What does not fit.
        what: &'static str,
        /// Why.
        why: String,
    },
}
