//! Places of the old file that moved, coarsely.

use postlink_base::MapRange;

/// Whether something in a grain of 16 bytes, or a few bytes behind it, moved: one bit for each, so a table for 100 MB
/// takes 800 KB.
pub(crate) struct Places {
    low: u64,
    bits: Vec<u64>,
}

/// Power of two of a grain's size.
const GRAIN: u32 = 4;

/// A displacement counts from the end of its instruction, which is at most this far behind its field.
pub(super) const TAIL_MAX: u64 = 4;

/// Addresses are told by their low 32 bits.
const ADDR_MAX: u64 = u32::MAX as u64;

impl Places {
    /// `ranges` moved by the map, `others` by themselves. `None` for a file whose addresses do not fit in 32 bits.
    pub(crate) fn new(ranges: &[MapRange], others: impl Iterator<Item = (u64, u64)> + Clone) -> Option<Self> {
        let by_map = || ranges.iter().map(|range| (range.old.raw(), range.old_end().raw()));
        let all = || by_map().chain(others.clone());
        let low = all().map(|range| range.0).min().unwrap_or(0).saturating_sub(TAIL_MAX) >> GRAIN << GRAIN;
        let high = all().map(|range| range.1).max().unwrap_or(0);
        if high > ADDR_MAX {
            return None;
        }
        let grains = usize::try_from(high.saturating_sub(low) >> GRAIN).ok()? + 1;
        let mut this = Self { low, bits: vec![0; grains / 64 + 1] };
        for (start, end) in all().filter(|range| range.0 < range.1) {
            this.mark((start.saturating_sub(TAIL_MAX).max(low) - low) >> GRAIN, (end - 1 - low) >> GRAIN);
        }
        Some(this)
    }

    /// Marks the grains from `first` to `last`.
    fn mark(&mut self, first: u64, last: u64) {
        let mut at = first;
        while at <= last {
            let room = (64 - at % 64).min(last - at + 1);
            if let Some(word) = self.bits.get_mut((at / 64) as usize) {
                *word |= (u64::MAX >> (64 - room)) << (at % 64);
            }
            at += room;
        }
    }

    /// False only if nothing at `addr`, modulo 2^32, nor in the [`TAIL_MAX`] bytes behind it moved.
    #[inline]
    pub(crate) fn may_hold(&self, addr: u64) -> bool {
        let grain = (addr.wrapping_sub(self.low) as u32) >> GRAIN;
        self.bits.get((grain / 64) as usize).is_some_and(|word| word >> (grain % 64) & 1 != 0)
    }

    /// False only if nothing between `from` and `to` moved.
    pub(crate) fn may_hold_any(&self, from: u64, to: u64) -> bool {
        let from = from.max(self.low);
        let grain = |addr: u64| addr.saturating_sub(self.low) >> GRAIN;
        let (mut at, last) = (grain(from), grain(to).min((self.bits.len() as u64 * 64).saturating_sub(1)));
        while from <= to && at <= last {
            let room = (64 - at % 64).min(last - at + 1);
            let mask = (u64::MAX >> (64 - room)) << (at % 64);
            if self.bits.get((at / 64) as usize).is_some_and(|word| word & mask != 0) {
                return true;
            }
            at += room;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postlink_base::{MapKind, NewAddr, OldAddr};

    #[test]
    fn no_place_is_missed() {
        arbtest::arbtest(|u| {
            let mut ranges = Vec::new();
            let mut old = u64::from(u.arbitrary::<u16>()?);
            for _ in 0..u.int_in_range(0..=20)? {
                old += u64::from(u.int_in_range(0..=3000u16)?);
                let len = u.int_in_range(1..=2000u32)?;
                ranges.push(MapRange { old: OldAddr::new(old), new: NewAddr::new(1), len, kind: MapKind::Linear });
                old += u64::from(len);
            }
            let places = Places::new(&ranges, std::iter::empty()).unwrap();
            let is_moved = |addr: u64| ranges.iter().any(|range| addr >= range.old.raw() && addr < range.old_end().raw());
            for _ in 0..100 {
                let at = u.int_in_range(0..=old + 100)?;
                let moved = (0..=TAIL_MAX).any(|tail| is_moved(at + tail));
                assert!(!moved || places.may_hold(at) && places.may_hold(at + (1 << 32)) && places.may_hold(at.wrapping_sub(1 << 32)));
                let to = at + u64::from(u.int_in_range(0..=300u16)?);
                assert!(!(at..to).any(is_moved) || places.may_hold_any(at, to));
                let is_far = (at.saturating_sub(20)..at + 24).all(|addr| !is_moved(addr));
                assert!(!is_far || !places.may_hold(at));
            }
            Ok(())
        })
        .budget_ms(300);
    }

    #[test]
    fn high_addresses_are_refused() {
        let range = MapRange { old: OldAddr::new(1 << 32), new: NewAddr::new(1), len: 1, kind: MapKind::Linear };
        assert!(Places::new(&[range], std::iter::empty()).is_none());
        assert!(Places::new(&[], std::iter::once((0, 1 << 33))).is_none());
        assert!(!Places::new(&[], std::iter::empty()).unwrap().may_hold(0x40_0000));
    }
}
