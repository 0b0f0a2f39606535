//! Unwind tables: `.eh_frame`, `.eh_frame_hdr` and LSDAs for the new places of the code.
//!
//! Three kinds of functions: one that did not move, or moved whole, keeps the instructions of its FDEs
//! and its LSDA (whose addresses count from the function's start); only addresses in the record change.
//! One whose blocks moved apart gets an FDE for each fragment, with the rows of its old FDE replayed in
//! the new order, and a new LSDA for each fragment.
//!
//! Sizes are known after [`UnwindPlan::build`], before anyone has chosen where the tables go.

use postlink_base::AddressMap;
use postlink_image::{EhFrame, Image};

mod bytes;
mod cfi;
mod error;
mod function;
mod lsda;
mod plan;
mod program;
mod records;
mod row;
#[cfg(test)]
mod tests;

pub use error::{EmitUnwindError, UnwindFault};
pub use records::{UnwindAddrs, UnwindBytes};

/// A run of new code bytes and the old code it stands for.
///
/// - `old_len == new_len`: copied, byte for byte (or one branch encoded anew in the same length).
/// - `old_len == 0`: a jump that was added, or padding; it has the row in force at `old`.
/// - else: one branch instruction encoded anew; it has the row in force at `old`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First old address.
    pub old: u64,
    /// Old bytes.
    pub old_len: u32,
    /// First new address.
    pub new: u64,
    /// New bytes; a piece of 0 is ignored.
    pub new_len: u32,
}

impl Piece {
    /// Whether byte `i` of the old code is byte `i` of the new code.
    pub const fn is_linear(&self) -> bool {
        self.old_len == self.new_len
    }
}

/// The new code of one fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedFragment {
    /// First new address.
    pub new_start: u64,
    /// First new address after it.
    pub new_end: u64,
    /// In order of new addresses, disjoint, inside the fragment. What no piece covers is alignment.
    pub pieces: Vec<Piece>,
}

/// A function whose blocks moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedFunction {
    /// First old address.
    pub old_start: u64,
    /// First old address after it.
    pub old_end: u64,
    /// Fragment 0 holds the entry. None at all: the function has no code of its own any more, and no FDE.
    pub fragments: Vec<MovedFragment>,
}

/// The new unwind tables, but for the addresses of the tables themselves.
pub struct UnwindPlan<'a> {
    image: &'a Image<'a>,
    old: &'a EhFrame,
    contents: plan::Contents,
    layout: records::Layout,
}

impl<'a> UnwindPlan<'a> {
    /// Decides what the new tables say.
    ///
    /// `moved`: functions whose blocks moved, sorted by `old_start`, disjoint; each is described by one
    /// FDE inside of it, or by none. `map`: all code that moved, theirs and that of functions which
    /// moved whole.
    ///
    /// # Errors
    /// [`EmitUnwindError`] names the first function whose tables cannot follow it.
    pub fn build(
        image: &'a Image<'a>,
        eh: &'a EhFrame,
        moved: &[MovedFunction],
        map: &AddressMap,
    ) -> Result<Self, EmitUnwindError> {
        let contents = plan::contents(image, eh, moved, map)?;
        let layout = records::Layout::new(image, eh, &contents)?;
        Ok(Self { image, old: eh, contents, layout })
    }

    /// All functions for which [`UnwindPlan::build`] would fail, so that the caller can leave them in
    /// one piece and build again. Empty if it would succeed, but for the size of the tables.
    pub fn faults(
        image: &Image<'_>,
        eh: &EhFrame,
        moved: &[MovedFunction],
        map: &AddressMap,
    ) -> Vec<EmitUnwindError> {
        plan::faults(image, eh, moved, map)
    }

    /// Size of the new `.eh_frame` in bytes, terminator included.
    pub const fn eh_frame_size(&self) -> u64 {
        self.layout.eh_frame_size
    }

    /// Size of the new `.eh_frame_hdr` in bytes; 0 if the old file has none.
    pub const fn hdr_size(&self) -> u64 {
        self.layout.hdr_size()
    }

    /// Size of the new LSDAs in bytes, without the old ones, which stay where they are.
    pub const fn lsda_size(&self) -> u64 {
        self.layout.lsda_size
    }

    /// Alignment in bytes that the address of the new `.eh_frame` needs (4 or 8).
    pub const fn eh_frame_align(&self) -> u64 {
        self.layout.align
    }

    /// Alignment in bytes that the address of the new LSDAs needs.
    pub const fn lsda_align(&self) -> u64 {
        records::LSDA_ALIGN
    }

    /// Number of FDEs in the new `.eh_frame`.
    pub const fn fde_count(&self) -> usize {
        self.contents.fdes.len()
    }

    /// Writes the tables for the given places. Their sizes are those that the plan told.
    ///
    /// # Errors
    /// [`EmitUnwindError`] if something is too far away for its pointer.
    pub fn write(&self, addrs: UnwindAddrs) -> Result<UnwindBytes, EmitUnwindError> {
        records::write(self.image, self.old, &self.contents, &self.layout, addrs)
    }
}
