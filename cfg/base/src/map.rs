//! The address map: where every byte of moved code went.

use crate::{AddressIndex, NewAddr, OldAddr};

/// How the bytes of one range correspond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapKind {
    /// Byte `i` of the old range is byte `i` of the new one.
    Linear,
    /// Every byte of the old range corresponds to the one new address: a branch that was encoded
    /// anew (its new address), or code that needs no bytes any more, such as a removed NOP or jump
    /// (the address of what is executed next).
    Point,
}

/// One contiguous piece of moved code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapRange {
    /// First old byte.
    pub old: OldAddr,
    /// Where it went.
    pub new: NewAddr,
    /// Number of old bytes, never 0.
    pub len: u32,
    /// How the bytes inside correspond.
    pub kind: MapKind,
}

impl MapRange {
    /// First old address after the range.
    pub const fn old_end(&self) -> OldAddr {
        self.old.wrapping_add(self.len as u64)
    }
}

/// Old address to new address, for every byte that moved.
///
/// # Invariants
/// 1. Ranges are sorted by old address, are not empty and do not overlap.
/// 2. They cover each moved function completely, so an address outside of all ranges did not move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap {
    ranges: Vec<MapRange>,
    index: AddressIndex,
}

/// Why bytes are no address map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The magic number at the start is missing.
    #[error("address map: no magic number `PLMAP1` at offset 0")]
    Magic,
    /// The bytes end inside a number, or a number is longer than 64 bits.
    #[error("address map: bad number at offset {offset:#x}")]
    Number {
        /// Offset of the number from the start of the map.
        offset: usize,
    },
    /// Ranges overlap, are empty, or leave the address space.
    #[error("address map: range {index} overlaps its neighbour, is empty or leaves the address space")]
    Range {
        /// Index of the range.
        index: u64,
    },
}

const MAGIC: &[u8; 8] = b"PLMAP1\0\0";

impl AddressMap {
    /// Builds a map; sorts the ranges and drops empty ones. Neighbours that continue each other
    /// linearly are joined.
    ///
    /// # Errors
    /// [`MapError::Range`] if two ranges overlap.
    pub fn from_ranges(mut ranges: Vec<MapRange>) -> Result<Self, MapError> {
        ranges.retain(|range| range.len > 0);
        ranges.sort_unstable_by_key(|range| range.old);
        let mut end = OldAddr::new(0);
        for (index, range) in ranges.iter().enumerate() {
            if range.old < end || range.old.checked_add(u64::from(range.len)).is_none() {
                return Err(MapError::Range { index: index as u64 });
            }
            end = range.old_end();
        }
        // In place: of a large program there are millions.
        ranges.dedup_by(|range, last| {
            let continues = last.kind == MapKind::Linear
                && range.kind == MapKind::Linear
                && last.old_end() == range.old
                && last.new.wrapping_add(u64::from(last.len)) == range.new;
            match last.len.checked_add(range.len).filter(|_| continues) {
                Some(len) => {
                    last.len = len;
                    true
                }
                None => false,
            }
        });
        ranges.shrink_to_fit();
        Ok(Self::indexed(ranges))
    }

    /// All ranges, sorted by old address.
    pub fn ranges(&self) -> &[MapRange] {
        &self.ranges
    }

    /// The index of [`AddressMap::ranges`] by old address.
    pub const fn index(&self) -> &AddressIndex {
        &self.index
    }

    /// The range that holds `old`.
    pub fn range_of(&self, old: OldAddr) -> Option<&MapRange> {
        let index = self.index.last_upto(&self.ranges, |range| range.old.raw(), old.raw())?;
        self.ranges.get(index).filter(|range| old < range.old_end())
    }

    /// The ranges from the first one on that ends behind `old`.
    pub fn ranges_from(&self, old: OldAddr) -> &[MapRange] {
        let before = self.index.before(&self.ranges, |range| range.old.raw(), old.raw());
        let reaches_in = before.checked_sub(1).filter(|&last| self.ranges.get(last).is_some_and(|last| last.old_end() > old));
        self.ranges.get(reaches_in.unwrap_or(before)..).unwrap_or(&[])
    }

    /// The new address of `old` if it moved, else `None`.
    pub fn moved(&self, old: OldAddr) -> Option<NewAddr> {
        let range = self.range_of(old)?;
        Some(match range.kind {
            MapKind::Linear => range.new.wrapping_add(old.raw() - range.old.raw()),
            MapKind::Point => range.new,
        })
    }

    /// The new address of `old`: the address itself if it did not move.
    pub fn to_new(&self, old: OldAddr) -> NewAddr {
        self.moved(old).unwrap_or(NewAddr::new(old.raw()))
    }

    /// The map as bytes: magic, number of ranges, then for each range three LEB128 numbers: gap to
    /// the end of the range before (unsigned), `len * 2 + kind` (unsigned), and the signed distance
    /// of the new address from the new end of the range before.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        uleb(&mut out, self.ranges.len() as u64);
        let (mut old_end, mut new_end) = (0u64, 0u64);
        for range in &self.ranges {
            uleb(&mut out, range.old.raw() - old_end);
            uleb(&mut out, u64::from(range.len) * 2 + u64::from(range.kind == MapKind::Point));
            sleb(&mut out, range.new.raw().wrapping_sub(new_end).cast_signed());
            old_end = range.old_end().raw();
            new_end = new_end_of(range);
        }
        out
    }

    /// Reads what [`AddressMap::encode`] wrote. Bytes after the last range are ignored.
    ///
    /// # Errors
    /// [`MapError`] for anything that is not such a map.
    pub fn decode(bytes: &[u8]) -> Result<Self, MapError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(MapError::Magic);
        }
        let mut at = MAGIC.len();
        let count = read_uleb(bytes, &mut at)?;
        // A range takes at least three bytes, so a huge count cannot reserve memory for itself.
        if count > bytes.len() as u64 / 3 {
            return Err(MapError::Number { offset: MAGIC.len() });
        }
        let mut ranges = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let (mut old_end, mut new_end) = (0u64, 0u64);
        for index in 0..count {
            let gap = read_uleb(bytes, &mut at)?;
            let len_kind = read_uleb(bytes, &mut at)?;
            let new_delta = read_sleb(bytes, &mut at)?;
            let old = old_end.checked_add(gap).ok_or(MapError::Range { index })?;
            let len = u32::try_from(len_kind / 2).map_err(|_| MapError::Range { index })?;
            let range = MapRange {
                old: OldAddr::new(old),
                new: NewAddr::new(new_end.wrapping_add(new_delta.cast_unsigned())),
                len,
                kind: if len_kind % 2 == 0 { MapKind::Linear } else { MapKind::Point },
            };
            if len == 0 || range.old.checked_add(u64::from(len)).is_none() {
                return Err(MapError::Range { index });
            }
            old_end = range.old_end().raw();
            new_end = new_end_of(&range);
            ranges.push(range);
        }
        Ok(Self::indexed(ranges))
    }

    fn indexed(ranges: Vec<MapRange>) -> Self {
        let index = AddressIndex::new(&ranges, |range| range.old.raw());
        Self { ranges, index }
    }
}

/// Where the next range most likely goes: behind this one.
const fn new_end_of(range: &MapRange) -> u64 {
    match range.kind {
        MapKind::Linear => range.new.raw().wrapping_add(range.len as u64),
        MapKind::Point => range.new.raw(),
    }
}

fn uleb(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn sleb(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn read_uleb(bytes: &[u8], at: &mut usize) -> Result<u64, MapError> {
    let start = *at;
    let mut value = 0u64;
    let mut shift = 0u32;
    loop {
        let byte = *bytes.get(*at).ok_or(MapError::Number { offset: start })?;
        *at += 1;
        if shift > 63 || (shift == 63 && byte & 0x7e != 0) {
            return Err(MapError::Number { offset: start });
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
    }
}

fn read_sleb(bytes: &[u8], at: &mut usize) -> Result<i64, MapError> {
    let start = *at;
    let mut value = 0i64;
    let mut shift = 0u32;
    loop {
        let byte = *bytes.get(*at).ok_or(MapError::Number { offset: start })?;
        *at += 1;
        if shift > 63 {
            return Err(MapError::Number { offset: start });
        }
        value |= i64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            if shift < 64 && byte & 0x40 != 0 {
                value |= -1 << shift;
            }
            return Ok(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(old: u64, new: u64, len: u32, kind: MapKind) -> MapRange {
        MapRange { old: OldAddr::new(old), new: NewAddr::new(new), len, kind }
    }

    #[test]
    fn looks_up_linear_point_and_unmoved() {
        let map = AddressMap::from_ranges(vec![
            range(0x2000, 0x1000, 16, MapKind::Linear),
            range(0x2010, 0x5000, 5, MapKind::Point),
        ])
        .unwrap();
        assert_eq!(map.to_new(OldAddr::new(0x2003)).raw(), 0x1003);
        assert_eq!(map.to_new(OldAddr::new(0x2012)).raw(), 0x5000);
        assert_eq!(map.moved(OldAddr::new(0x2015)), None);
        assert_eq!(map.to_new(OldAddr::new(0x1fff)).raw(), 0x1fff);
    }

    #[test]
    fn joins_neighbours_and_refuses_overlap() {
        let joined = AddressMap::from_ranges(vec![
            range(0x14, 0x104, 4, MapKind::Linear),
            range(0x10, 0x100, 4, MapKind::Linear),
        ])
        .unwrap();
        assert_eq!(joined.ranges(), [range(0x10, 0x100, 8, MapKind::Linear)]);
        let overlap = vec![range(0x10, 0x100, 8, MapKind::Linear), range(0x17, 0, 1, MapKind::Point)];
        assert_eq!(AddressMap::from_ranges(overlap), Err(MapError::Range { index: 1 }));
    }

    #[test]
    fn encodes_and_decodes_random_maps() {
        arbtest::arbtest(|u| {
            let mut ranges = Vec::new();
            let mut old = 0u64;
            for _ in 0..u.int_in_range(0..=40)? {
                old += u64::from(u.arbitrary::<u16>()?);
                let len = u.int_in_range(1..=70_000u32)?;
                let kind = if u.arbitrary()? { MapKind::Linear } else { MapKind::Point };
                ranges.push(range(old, u.arbitrary()?, len, kind));
                old += u64::from(len);
            }
            let map = AddressMap::from_ranges(ranges).unwrap();
            assert_eq!(AddressMap::decode(&map.encode()).unwrap(), map);
            for probe in [u64::from(u.arbitrary::<u16>()?), u.int_in_range(0..=old)?, old, u.arbitrary()?] {
                let first = map.ranges().partition_point(|range| range.old_end().raw() <= probe);
                assert_eq!(map.ranges_from(OldAddr::new(probe)), &map.ranges()[first..], "{probe:#x}");
            }
            Ok(())
        })
        .budget_ms(300);
    }

    #[test]
    fn hostile_bytes_do_not_panic() {
        arbtest::arbtest(|u| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(u.arbitrary::<Vec<u8>>()?);
            let _ = AddressMap::decode(&bytes);
            Ok(())
        })
        .budget_ms(300);
    }
}
