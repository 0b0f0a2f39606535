//! One bit per byte of an address range, set from many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

/// A set of addresses in executable sections (10 MB for 84 MB of code).
pub(crate) struct CodeSet {
    /// `(start, end, words)` per executable section, sorted by address.
    ranges: Vec<(u64, u64, Vec<AtomicU64>)>,
}

impl CodeSet {
    pub(crate) fn new(ranges: &[(u64, u64, usize)]) -> Self {
        let ranges = ranges
            .iter()
            .map(|&(start, end, _)| {
                let words = usize::try_from((end - start).div_ceil(64)).unwrap_or(0);
                (start, end, (0..words).map(|_| AtomicU64::new(0)).collect())
            })
            .collect();
        Self { ranges }
    }

    fn word(&self, addr: u64) -> Option<(&AtomicU64, u64)> {
        let index = self.ranges.partition_point(|range| range.0 <= addr).checked_sub(1)?;
        let (start, end, words) = self.ranges.get(index)?;
        if addr >= *end {
            return None;
        }
        let bit = addr - start;
        words.get(usize::try_from(bit / 64).ok()?).map(|word| (word, 1u64 << (bit % 64)))
    }

    pub(crate) fn get(&self, addr: u64) -> bool {
        self.word(addr).is_some_and(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    /// Adds an address; says whether it lies in an executable section, so that this was possible.
    pub(crate) fn insert(&self, addr: u64) -> bool {
        let place = self.word(addr);
        if let Some((word, mask)) = place
            && word.load(Ordering::Relaxed) & mask == 0
        {
            word.fetch_or(mask, Ordering::Relaxed);
        }
        place.is_some()
    }

    /// All addresses in ascending order.
    pub(crate) fn list(&self) -> Vec<u64> {
        let mut list = Vec::new();
        for (start, _, words) in &self.ranges {
            let parts: Vec<Vec<u64>> = words
                .par_chunks(CHUNK)
                .enumerate()
                .map(|(chunk, words)| list_words(words, start + (chunk * CHUNK) as u64 * 64))
                .collect();
            list.reserve_exact(parts.iter().map(Vec::len).sum());
            parts.iter().for_each(|part| list.extend_from_slice(part));
        }
        list
    }

    /// Copies the bits of one function in, whose first bit is `addr`. The order of merging does not
    /// matter, so relaxed ordering is enough.
    pub(crate) fn merge(&self, addr: u64, local: &[u64]) {
        for (index, &word) in local.iter().enumerate() {
            if word == 0 {
                continue;
            }
            let base = addr + index as u64 * 64;
            let mut rest = word;
            // Two target words at most hold these 64 bits.
            let Some((first, mask)) = self.word(base) else { continue };
            let shift = mask.trailing_zeros();
            first.fetch_or(word << shift, Ordering::Relaxed);
            if shift > 0 {
                rest >>= 64 - shift;
                if rest != 0
                    && let Some((second, _)) = self.word(base + u64::from(64 - shift))
                {
                    second.fetch_or(rest, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Words of a set that one thread lists at a time.
const CHUNK: usize = 1 << 14;

/// The addresses in some words of a set, the first of which is about the 64 addresses from `base` on.
fn list_words(words: &[AtomicU64], mut base: u64) -> Vec<u64> {
    let mut list = Vec::new();
    for word in words {
        let mut rest = word.load(Ordering::Relaxed);
        while rest != 0 {
            list.push(base + u64::from(rest.trailing_zeros()));
            rest &= rest - 1;
        }
        base = base.saturating_add(64);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_was_inserted() {
        let set = CodeSet::new(&[(0x1000, 0x1041, 1), (0x1100, 0x1300, 2)]);
        let inside = [0x12ff, 0x1000, 0x1040, 0x1000, 0x1100, 0x113f, 0x1140];
        assert!(inside.into_iter().all(|addr| set.insert(addr)));
        assert!([0xfff, 0x1041, 0x10ff, 0x1300, 0, u64::MAX].into_iter().all(|addr| !set.insert(addr)));
        assert_eq!(set.list(), [0x1000, 0x1040, 0x1100, 0x113f, 0x1140, 0x12ff]);
        assert!(set.get(0x1140) && !set.get(0x1141));
        // Several chunks.
        let set = CodeSet::new(&[(0x1000, 0x1000 + 3 * CHUNK as u64 * 64, 1)]);
        let expected: Vec<u64> = (0x1000..0x1000 + 3 * CHUNK as u64 * 64).step_by(7777).collect();
        expected.iter().for_each(|&addr| assert!(set.insert(addr)));
        assert_eq!(set.list(), expected);
    }
}
