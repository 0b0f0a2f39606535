//! A first guess for binary searches by address.

/// Says where in a sorted list of addresses a search has to look: the list's span is cut into as many
/// equal buckets as it has entries, so that few are left to compare.
///
/// It holds no addresses itself and belongs to the list it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressIndex {
    low: u64,
    shift: u32,
    /// Per bucket: how many addresses lie below its start; one more entry at the end.
    below: Vec<u32>,
}

impl AddressIndex {
    /// An index for `list`, which is sorted by `key`.
    pub fn new<T>(list: &[T], key: impl Fn(&T) -> u64) -> Self {
        let (Some(first), Some(last)) = (list.first(), list.last()) else { return Self::default() };
        let (low, count) = (key(first), list.len() as u64);
        let span = key(last).saturating_sub(low);
        // Positions are kept as 32 bits; a longer list is searched without help.
        if u32::try_from(count).is_err() {
            return Self::default();
        }
        // The smallest power of two with at most `count` buckets, the last of which may be a part.
        let mut shift = 0;
        while span >> shift >= count {
            shift += 1;
        }
        let buckets = usize::try_from(span >> shift).unwrap_or(0) + 1;
        let mut below = Vec::with_capacity(buckets + 1);
        for (position, item) in (0u32..).zip(list) {
            let bucket = usize::try_from(key(item).saturating_sub(low) >> shift).unwrap_or(0).min(buckets - 1);
            while below.len() <= bucket {
                below.push(position);
            }
        }
        below.resize(buckets + 1, count as u32);
        Self { low, shift, below }
    }

    /// The number of entries whose address is not above `addr`. `list` must be the list that the index was made from.
    #[inline]
    pub fn upto<T>(&self, list: &[T], key: impl Fn(&T) -> u64, addr: u64) -> usize {
        let Some(buckets) = self.below.len().checked_sub(1) else { return list.partition_point(|item| key(item) <= addr) };
        let Some(distance) = addr.checked_sub(self.low) else { return 0 };
        let bucket = usize::try_from(distance >> self.shift).unwrap_or(usize::MAX).min(buckets.saturating_sub(1));
        let bound = |bucket: usize| self.below.get(bucket).map_or(0, |&position| position as usize);
        let first = bound(bucket);
        let near = list.get(first..bound(bucket + 1)).unwrap_or(&[]);
        first + near.partition_point(|item| key(item) <= addr)
    }

    /// The number of entries whose address is below `addr`.
    #[inline]
    pub fn before<T>(&self, list: &[T], key: impl Fn(&T) -> u64, addr: u64) -> usize {
        addr.checked_sub(1).map_or(0, |addr| self.upto(list, key, addr))
    }

    /// The position of the last entry whose address is not above `addr`, if there is one.
    #[inline]
    pub fn last_upto<T>(&self, list: &[T], key: impl Fn(&T) -> u64, addr: u64) -> Option<usize> {
        self.upto(list, key, addr).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn finds_what_a_binary_search_finds() {
        arbtest::arbtest(|u| {
            let mut list = Vec::new();
            let mut addr = u64::from(u.arbitrary::<u32>()?);
            for _ in 0..u.int_in_range(0..=60)? {
                list.push(addr);
                let step = u.int_in_range(0..=40u32)?;
                addr = addr.saturating_add(u.int_in_range(0..=1u64 << step)?);
            }
            let index = AddressIndex::new(&list, |&addr| addr);
            let mut probes = list.clone();
            probes.extend(list.iter().flat_map(|addr| [addr.saturating_sub(1), addr.saturating_add(1)]));
            probes.extend([0, u64::MAX, u.arbitrary()?]);
            for probe in probes {
                let (upto, before) = (list.partition_point(|&addr| addr <= probe), list.partition_point(|&addr| addr < probe));
                assert_eq!(index.upto(&list, |&addr| addr, probe), upto, "{probe:#x} in {list:x?}");
                assert_eq!(index.before(&list, |&addr| addr, probe), before, "{probe:#x} in {list:x?}");
                assert_eq!(index.last_upto(&list, |&addr| addr, probe), upto.checked_sub(1));
            }
            Ok(())
        })
        .budget_ms(500);
    }
}
