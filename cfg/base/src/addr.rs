//! Addresses that cannot be mixed up.

use std::fmt;
use std::marker::PhantomData;

/// Address space of the file we were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Old {}
/// Address space of the file we are writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum New {}

/// A virtual address as written in the ELF file (`p_vaddr`, `st_value`), in bytes.
///
/// Not a run-time address (a load bias is already subtracted) and not a file offset. `S` says whose
/// it is: [`Old`] or [`New`]. There is no `From<u64>` and no arithmetic between the two spaces; the
/// one way across is [`crate::AddressMap::to_new`].
pub struct Addr<S>(u64, PhantomData<S>);

/// An address of the input file.
pub type OldAddr = Addr<Old>;
/// An address of the output file.
pub type NewAddr = Addr<New>;

impl<S> Addr<S> {
    /// Wraps a raw `p_vaddr`-space value. Call it where bytes are decoded.
    #[inline]
    pub const fn new(raw: u64) -> Self {
        Self(raw, PhantomData)
    }

    /// The raw `p_vaddr`-space value.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, or `None` past the end of the address space.
    #[inline]
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self::new)
    }

    /// The address `bytes` further on, modulo 2^64 (the processor's own arithmetic).
    #[inline]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_add(bytes))
    }

    /// Signed distance `self - from` in bytes: what a PC-relative operand encodes.
    #[inline]
    pub const fn distance_from(self, from: Self) -> i64 {
        self.0.wrapping_sub(from.0).cast_signed()
    }
}

impl<S> Clone for Addr<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Addr<S> {}
impl<S> PartialEq for Addr<S> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<S> Eq for Addr<S> {}
impl<S> PartialOrd for Addr<S> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<S> Ord for Addr<S> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<S> std::hash::Hash for Addr<S> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<S> fmt::Debug for Addr<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
impl<S> fmt::Display for Addr<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A position in a file, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Index into the section header table of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionIndex(pub u32);
