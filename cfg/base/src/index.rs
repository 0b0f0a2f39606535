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
    /// An index for `count` addresses, `addr(0)..=addr(count - 1)`, in ascending order.
    pub fn new(count: usize, addr: impl Fn(usize) -> u64) -> Self {
        let Some(last) = count.checked_sub(1) else { return Self::default() };
        let (low, high) = (addr(0), addr(last));
        let span = high.saturating_sub(low);
        // The smallest power of two with at most `count` buckets, the last of which may be a part.
        let mut shift = 0;
        while span >> shift > last as u64 {
            shift += 1;
        }
        let buckets = usize::try_from(span >> shift).unwrap_or(0) + 1;
        let mut below = Vec::with_capacity(buckets + 1);
        for index in 0..count {
            let bucket = usize::try_from(addr(index).saturating_sub(low) >> shift).unwrap_or(0).min(buckets - 1);
            let position = u32::try_from(index).unwrap_or(u32::MAX);
            while below.len() <= bucket {
                below.push(position);
            }
        }
        below.resize(buckets + 1, u32::try_from(count).unwrap_or(u32::MAX));
        Self { low, shift, below }
    }

    /// The position of the last of the addresses that is not above `addr`, if there is one.
    /// `list` must be the list that the index was made from.
    pub fn last_at_or_below<T>(&self, list: &[T], addr: u64, key: impl Fn(&T) -> u64) -> Option<usize> {
        let distance = addr.checked_sub(self.low)?;
        let buckets = self.below.len().checked_sub(1)?;
        let bucket = usize::try_from(distance >> self.shift).unwrap_or(usize::MAX).min(buckets.checked_sub(1)?);
        let first = *self.below.get(bucket)? as usize;
        let last = *self.below.get(bucket + 1)? as usize;
        let near = list.get(first..last)?;
        // Most buckets hold one or two.
        let mut above = 0;
        if near.len() <= 8 {
            while near.get(above).is_some_and(|item| key(item) <= addr) {
                above += 1;
            }
        } else {
            above = near.partition_point(|item| key(item) <= addr);
        }
        (first + above).checked_sub(1)
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
            let index = AddressIndex::new(list.len(), |position| list[position]);
            let mut probes = list.clone();
            probes.extend(list.iter().flat_map(|addr| [addr.saturating_sub(1), addr.saturating_add(1)]));
            probes.extend([0, u64::MAX, u.arbitrary()?]);
            for probe in probes {
                let expected = list.partition_point(|&addr| addr <= probe).checked_sub(1);
                assert_eq!(index.last_at_or_below(&list, probe, |&addr| addr), expected, "{probe:#x} in {list:x?}");
            }
            Ok(())
        })
        .budget_ms(500);
    }
}
