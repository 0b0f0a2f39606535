//! A set of offsets in one function that knows the position of each among all.

/// One bit per byte of the function.
#[derive(Default)]
pub(crate) struct Offsets {
    size: u32,
    bits: Vec<u64>,
    /// Per word of `bits`: how many offsets are below it. Filled by [`Offsets::list`].
    below: Vec<u32>,
}

impl Offsets {
    /// Makes it the empty set of offsets below `size`.
    pub(crate) fn clear(&mut self, size: u32) {
        self.size = size;
        self.bits.clear();
        self.bits.resize(size.div_ceil(64) as usize, 0);
    }

    /// Adds an offset, unless it is not below the size.
    #[inline]
    pub(crate) fn insert(&mut self, offset: u32) {
        if offset < self.size
            && let Some(word) = self.bits.get_mut(offset as usize / 64)
        {
            *word |= 1 << (offset % 64);
        }
    }

    #[inline]
    pub(crate) fn contains(&self, offset: u32) -> bool {
        self.bits.get(offset as usize / 64).is_some_and(|word| word >> (offset % 64) & 1 != 0)
    }

    /// Writes all offsets to `list`, in ascending order.
    pub(crate) fn list(&mut self, list: &mut Vec<u32>) {
        list.clear();
        self.below.clear();
        for (index, &word) in self.bits.iter().enumerate() {
            let base = u32::try_from(index * 64).unwrap_or(u32::MAX);
            self.below.push(u32::try_from(list.len()).unwrap_or(u32::MAX));
            let mut rest = word;
            while rest != 0 {
                list.push(base + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
    }

    /// The position of an offset in what [`Offsets::list`] gave last.
    #[inline]
    pub(crate) fn position(&self, offset: u32) -> Option<usize> {
        let index = offset as usize / 64;
        let (word, below) = (self.bits.get(index)?, self.below.get(index)?);
        let bit = 1u64 << (offset % 64);
        (word & bit != 0).then(|| *below as usize + (word & (bit - 1)).count_ones() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_was_inserted() {
        arbtest::arbtest(|u| {
            let size = u.int_in_range(0..=300u32)?;
            let mut offsets = Offsets::default();
            offsets.clear(1000);
            offsets.insert(u.int_in_range(0..=999)?);
            offsets.clear(size);
            let mut expected = std::collections::BTreeSet::new();
            for _ in 0..u.int_in_range(0..=40)? {
                let offset = u.int_in_range(0..=size + 70)?;
                offsets.insert(offset);
                if offset < size {
                    expected.insert(offset);
                }
            }
            let mut list = vec![7];
            offsets.list(&mut list);
            assert_eq!(list, expected.iter().copied().collect::<Vec<u32>>());
            for offset in 0..size + 70 {
                assert_eq!(offsets.contains(offset), expected.contains(&offset));
                assert_eq!(offsets.position(offset), list.iter().position(|&one| one == offset));
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
