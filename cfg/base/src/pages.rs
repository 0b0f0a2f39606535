//! Memory for whole files.

use std::io;
use std::ops::{Deref, DerefMut, Range};

use memmap2::{Advice, MmapMut};
use rayon::prelude::*;

/// Bytes that one thread copies at a time.
const PIECE: usize = 1 << 20;

/// Bytes in pages of their own, huge ones where the system has them. All are zero until they are written to, and those that
/// never are cost nothing: it may be made larger than it needs to be, and grows into its room without being cleared.
pub struct Pages {
    map: MmapMut,
    len: usize,
}

impl Pages {
    /// `len` zeros, with room for `more`.
    ///
    /// # Errors
    /// The system has no memory for that.
    pub fn zeroed(len: usize, more: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len.saturating_add(more).max(1))?;
        // A system without huge pages says that this is invalid: nothing is lost.
        let _ = map.advise(Advice::HugePage);
        Ok(Self { map, len })
    }

    /// Makes it `len` bytes long, if it is not that long yet.
    ///
    /// # Errors
    /// The system has no memory for that.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if len > self.map.len() {
            let mut larger = Self::zeroed(self.len, len.saturating_sub(self.len).max(self.len / 4))?;
            copy(self, &mut larger);
            *self = larger;
        }
        self.len = self.len.max(len);
        Ok(())
    }

    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// The system has no memory for that.
    pub fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = self.len;
        self.grow(start.saturating_add(bytes.len()))?;
        self.put(start, bytes);
        Ok(())
    }

    /// Copies `bytes` to `start`, on all threads if they are many; `None` if they do not fit in there.
    pub fn put(&mut self, start: usize, bytes: &[u8]) -> Option<Range<usize>> {
        let place = start..start.checked_add(bytes.len())?;
        copy(bytes, self.get_mut(place.clone())?);
        Some(place)
    }
}

/// Both are equally long.
fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(PIECE).with_max_len(4).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.get(..self.len).unwrap_or_default()
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.get_mut(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_beyond_their_room_and_are_zero_where_nothing_was_written() {
        let mut pages = Pages::zeroed(3, 2).unwrap();
        pages.copy_from_slice(b"abc");
        pages.grow(5).unwrap();
        assert_eq!(&pages[..], b"abc\0\0");
        let many = vec![7; 3 * PIECE + 1];
        pages.extend(&many).unwrap();
        assert_eq!(pages.len(), 5 + many.len());
        assert!(pages.starts_with(b"abc\0\0\x07") && pages[5..] == many[..]);
        // Never shorter.
        pages.grow(1).unwrap();
        assert_eq!(pages.len(), 5 + many.len());
        assert_eq!(pages.put(1, b"xy"), Some(1..3));
        assert!(pages.starts_with(b"axy\0\0\x07"));
        assert_eq!(pages.put(pages.len() - 1, b"xy"), None);
        assert_eq!(pages.put(usize::MAX, b"xy"), None);
    }

    #[test]
    fn none_at_all() {
        let mut pages = Pages::zeroed(0, 0).unwrap();
        assert!(pages.is_empty());
        pages.extend(b"a").unwrap();
        assert_eq!(&pages[..], b"a");
    }
}
