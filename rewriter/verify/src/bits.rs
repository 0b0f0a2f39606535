//! Sets of addresses in executable memory, one bit per byte, shared between threads.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

/// Words whose members one thread lists in one go.
const MEMBER_WORDS: u64 = 1 << 13;

/// A set of code addresses.
///
/// One bit for each byte of the given ranges, so a set over 84 MB of text takes 10.5 MB. All
/// operations are relaxed: the walk needs each address to be taken once, not an order of events.
pub(crate) struct AddressSet {
    /// `(start, end, first bit)`, sorted, disjoint.
    ranges: Vec<(u64, u64, u64)>,
    /// The longest range: nearly all code of a program is in one section.
    widest: (u64, u64, u64),
    words: Vec<AtomicU64>,
}

impl AddressSet {
    /// An empty set over `ranges`, which must be sorted and disjoint.
    pub(crate) fn new(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut first = 0u64;
        let mut kept = Vec::new();
        for (start, end) in ranges {
            kept.push((start, end, first));
            // Each range starts a new word.
            first += (end - start).div_ceil(64) * 64;
        }
        // In place, and the compiler sees that nothing changes: memory is taken when it is first written to.
        let words = vec![0u64; usize::try_from(first / 64).unwrap_or(0)].into_iter().map(AtomicU64::new).collect();
        let widest = kept.iter().copied().max_by_key(|range| range.1 - range.0).unwrap_or_default();
        Self { ranges: kept, widest, words }
    }

    /// Bit number of `addr` and the number of bits up to the end of its range.
    #[inline]
    fn bit(&self, addr: u64) -> Option<(u64, u64)> {
        let (mut start, mut end, mut first) = self.widest;
        if addr < start || addr >= end {
            let index = self.ranges.partition_point(|range| range.0 <= addr).checked_sub(1)?;
            (start, end, first) = *self.ranges.get(index)?;
        }
        (addr >= start && addr < end).then(|| (first + (addr - start), end - addr))
    }

    /// Adds `addr`; false if it was there or lies outside of all ranges.
    #[inline]
    pub(crate) fn insert(&self, addr: u64) -> bool {
        let Some((bit, _)) = self.bit(addr) else { return false };
        let mask = 1u64 << (bit % 64);
        let Some(word) = self.words.get((bit / 64) as usize) else { return false };
        // No look before: a page that is read first is mapped twice, the second time with an interrupt of all threads.
        word.fetch_or(mask, Ordering::Relaxed) & mask == 0
    }

    /// Adds addresses one after the other, from `addr` on and in its range.
    pub(crate) fn marker(&self, addr: u64) -> Marker<'_> {
        let base = self.bit(addr).map_or(0, |(bit, _)| bit.wrapping_sub(addr));
        Marker { words: &self.words, base, word: usize::MAX, seen: u64::MAX, mask: 0, twice: 0 }
    }

    /// Whether `addr` is in the set.
    #[inline]
    pub(crate) fn contains(&self, addr: u64) -> bool {
        self.bit(addr).is_some_and(|(bit, _)| {
            self.words.get((bit / 64) as usize).is_some_and(|word| word.load(Ordering::Relaxed) >> (bit % 64) & 1 != 0)
        })
    }

    /// Adds `len` addresses from `addr`, as far as they lie in the range of `addr`.
    pub(crate) fn insert_range(&self, addr: u64, len: u64) {
        let Some((mut bit, room)) = self.bit(addr) else { return };
        let mut left = len.min(room);
        while left > 0 {
            let offset = bit % 64;
            let here = left.min(64 - offset);
            let mask = (u64::MAX >> (64 - here)) << offset;
            if let Some(word) = self.words.get((bit / 64) as usize)
                && here == 64
            {
                // Nothing is lost where all bits are set.
                word.store(mask, Ordering::Relaxed);
            } else if let Some(word) = self.words.get((bit / 64) as usize) {
                word.fetch_or(mask, Ordering::Relaxed);
            }
            bit += here;
            left -= here;
        }
    }

    /// All addresses in the set, sorted.
    pub(crate) fn members(&self) -> Vec<u64> {
        let parts = self.ranges.par_iter().flat_map_iter(|&(start, end, first)| {
            let count = (end - start).div_ceil(64);
            (0..count.div_ceil(MEMBER_WORDS)).map(move |part| (start, first / 64, part * MEMBER_WORDS, count.min((part + 1) * MEMBER_WORDS)))
        });
        let members = |(start, first, from, to): (u64, u64, u64, u64)| {
            (from..to).flat_map(move |at| {
                let mut word = self.words.get((first + at) as usize).map_or(0, |word| word.load(Ordering::Relaxed));
                std::iter::from_fn(move || {
                    let bit = u64::from(word.trailing_zeros());
                    let is_some = word != 0;
                    word &= word.wrapping_sub(1);
                    is_some.then_some(start + at * 64 + bit)
                })
            })
        };
        parts.flat_map_iter(members).collect()
    }

    /// The first address in `from..end` that is (`set`) or is not in the set; `from..end` must lie
    /// in one range.
    pub(crate) fn next(&self, from: u64, end: u64, set: bool) -> Option<u64> {
        let mut addr = from;
        while addr < end {
            let (bit, room) = self.bit(addr)?;
            let word = self.words.get((bit / 64) as usize)?.load(Ordering::Relaxed);
            let word = if set { word } else { !word } >> (bit % 64);
            if word != 0 {
                let found = addr + u64::from(word.trailing_zeros());
                return (found < end).then_some(found);
            }
            let step = 64 - bit % 64;
            if step >= room {
                return None;
            }
            addr += step;
        }
        None
    }
}

/// Adds addresses of one word of the set at a time.
pub(crate) struct Marker<'s> {
    words: &'s [AtomicU64],
    /// Number of the bit of an address, less the address.
    base: u64,
    /// The word at hand: its index, its bits when it was read, and bits to be added.
    word: usize,
    seen: u64,
    mask: u64,
    twice: u64,
}

impl Marker<'_> {
    /// Adds `addr`; false if it was there.
    #[inline]
    pub(crate) fn insert(&mut self, addr: u64) -> bool {
        let bit = self.base.wrapping_add(addr);
        let word = (bit / 64) as usize;
        if word != self.word {
            self.flush();
            self.word = word;
            self.seen = self.words.get(word).map_or(u64::MAX, |word| word.load(Ordering::Relaxed));
        }
        let one = 1u64 << (bit % 64);
        let is_new = (self.seen | self.mask) & one == 0;
        if is_new {
            self.mask |= one;
        }
        is_new
    }

    fn flush(&mut self) {
        let mask = std::mem::take(&mut self.mask);
        if mask != 0
            && let Some(word) = self.words.get(self.word)
        {
            let before = word.fetch_or(mask, Ordering::Relaxed);
            self.twice += u64::from((before & mask).count_ones());
        }
        self.word = usize::MAX;
    }

    /// Number of addresses that another thread added between a look and the addition: for each of
    /// them, both were told that it was new.
    pub(crate) fn finish(mut self) -> u64 {
        self.flush();
        self.twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_see_each_other_at_word_ends() {
        let set = AddressSet::new([(0x1003, 0x1103), (0x2000, 0x2010)].into_iter());
        let (mut a, mut b) = (set.marker(0x1003), set.marker(0x1010));
        assert!(a.insert(0x1003) && !a.insert(0x1003) && a.insert(0x1020));
        assert!(b.insert(0x1020) && !set.contains(0x1020));
        // The next word.
        assert!(a.insert(0x1043) && set.contains(0x1020) && !set.contains(0x1043));
        assert_eq!(a.finish(), 0);
        assert!(!b.insert(0x1043));
        assert_eq!(b.finish(), 1);
        assert!(set.contains(0x1003) && set.contains(0x1020) && set.contains(0x1043) && !set.contains(0x1004));
        let mut last = set.marker(0x2000);
        assert!(last.insert(0x200f) && last.finish() == 0 && set.contains(0x200f));
    }

    #[test]
    fn ranges_and_neighbours() {
        let set = AddressSet::new([(0x1003, 0x1103), (0x2000, 0x2010)].into_iter());
        assert!(set.insert(0x1003));
        assert!(!set.insert(0x1003));
        assert!(!set.insert(0x1103));
        set.insert_range(0x1040, 130);
        assert!(!set.contains(0x103f) && set.contains(0x1040) && set.contains(0x10c1) && !set.contains(0x10c2));
        assert_eq!(set.next(0x1004, 0x1103, true), Some(0x1040));
        assert_eq!(set.next(0x1040, 0x1103, false), Some(0x10c2));
        assert_eq!(set.next(0x10c2, 0x1103, true), None);
        set.insert_range(0x2008, 100);
        assert!(set.contains(0x200f) && !set.contains(0x2010));
        assert_eq!(set.next(0x2008, 0x2010, false), None);
        let all: Vec<u64> = [0x1003].into_iter().chain(0x1040..0x10c2).chain(0x2008..0x2010).collect();
        assert_eq!(set.members(), all);
    }
}
