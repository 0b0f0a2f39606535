//! A coarse index into a sorted list of addresses.

const SHIFT: u32 = 8;

/// Above this much address space between the first and the last address, no index is built: such a
/// list is none of places in a text.
const INDEXED_MAX: u64 = 8 << 30;

/// Where to search in a list that is sorted by address. The list is given with each question.
#[derive(Default)]
pub(crate) struct Coarse {
    base: u64,
    /// The last address.
    last: u64,
    /// For each `1 << SHIFT` bytes from `base`: number of addresses before it.
    index: Vec<u32>,
}

impl Coarse {
    pub(crate) fn new<T>(list: &[T], addr: impl Fn(&T) -> u64) -> Self {
        let (Some(first), Some(last)) = (list.first(), list.last()) else { return Self::default() };
        let (base, last) = (addr(first) >> SHIFT << SHIFT, addr(last));
        let mut index = Vec::new();
        if let Some(span) = last.checked_sub(base).filter(|&span| span <= INDEXED_MAX)
            && u32::try_from(list.len()).is_ok()
        {
            let buckets = (span >> SHIFT) + 2;
            index.reserve_exact(usize::try_from(buckets).unwrap_or(0));
            let mut before = 0usize;
            for bucket in 0..buckets {
                let start = base + (bucket << SHIFT);
                while list.get(before).is_some_and(|item| addr(item) < start) {
                    before += 1;
                }
                index.push(before as u32);
            }
        }
        Self { base, last, index }
    }

    /// Number of entries of `list`, the one that the index was made of, at or before `at`.
    #[inline]
    pub(crate) fn upto<T>(&self, list: &[T], addr: impl Fn(&T) -> u64, at: u64) -> usize {
        // Most addresses outside of the list are those of data behind the code.
        if at >= self.last && !self.index.is_empty() {
            return list.len();
        }
        if let Some(bucket) = at.checked_sub(self.base).and_then(|distance| usize::try_from(distance >> SHIFT).ok())
            && let Some(&[low, high]) = self.index.get(bucket..).and_then(|index| index.first_chunk::<2>())
        {
            let (low, high) = (low as usize, high as usize);
            let within = list.get(low..high).unwrap_or(&[]);
            return low + within.partition_point(|item| addr(item) <= at);
        }
        list.partition_point(|item| addr(item) <= at)
    }

    /// Number of entries of `list` before `at`.
    #[inline]
    pub(crate) fn before<T>(&self, list: &[T], addr: impl Fn(&T) -> u64, at: u64) -> usize {
        at.checked_sub(1).map_or(0, |at| self.upto(list, addr, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_plain_search() {
        arbtest::arbtest(|u| {
            let mut list: Vec<u64> = Vec::new();
            let mut addr = u.arbitrary::<u32>()?.into();
            for _ in 0..u.int_in_range(0..=40)? {
                list.push(addr);
                addr += if u.ratio(1u8, 60)? { 9 << 30 } else { u64::from(u.int_in_range(0..=900u16)?) };
            }
            let index = Coarse::new(&list, |addr| *addr);
            for _ in 0..40 {
                let near = list.get(u.choose_index(list.len().max(1))?).copied().unwrap_or(0);
                let at = near.wrapping_add(u64::from(u.arbitrary::<u16>()?)).wrapping_sub(0x8000);
                assert_eq!(index.upto(&list, |addr| *addr, at), list.partition_point(|&addr| addr <= at));
                assert_eq!(index.before(&list, |addr| *addr, at), list.partition_point(|&addr| addr < at));
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
