//! One bit per byte of an address range, set from many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which addresses of the executable sections start an instruction (10 MB for 84 MB of code).
pub(crate) struct InstStarts {
    /// `(start, end, words)` per executable section, sorted by address.
    ranges: Vec<(u64, u64, Vec<AtomicU64>)>,
}

impl InstStarts {
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
