//! Executable memory of both files, functions of the old one, and the map as a claim.

use postlink_base::{AddressIndex, AddressMap, MapKind, MapRange};
use postlink_image::{Image, Symbol, elf};
use rayon::prelude::*;

use crate::fixed::Places;


/// Executable memory of one file: disjoint regions with their bytes, sorted by address.
pub(crate) struct CodeView<'d> {
    regions: Vec<(u64, &'d [u8])>,
    /// The longest region: nearly all code of a program is in one.
    widest: (u64, &'d [u8]),
}

impl<'d> CodeView<'d> {
    /// The executable sections: in the old file, other bytes of an executable segment are data.
    pub(crate) fn of_sections(image: &Image<'d>) -> Self {
        let sections = image.exec_ranges().iter().filter_map(|&(start, _, index)| {
            let section = image.sections().get(index)?;
            Some((start, image.section_data(section)))
        });
        Self::disjoint(sections.collect())
    }

    /// The executable segments: what the processor can execute.
    pub(crate) fn of_segments(image: &Image<'d>) -> Self {
        let segments = image.segments().iter().filter(|segment| {
            segment.kind == elf::PT_LOAD && segment.flags & elf::PF_X != 0
        });
        Self::disjoint(segments.filter_map(|load| Some((load.vaddr, image.bytes_at(load.vaddr, load.filesz)?))).collect())
    }

    fn disjoint(mut regions: Vec<(u64, &'d [u8])>) -> Self {
        regions.sort_unstable_by_key(|region| region.0);
        let mut end = 0;
        regions.retain(|(start, bytes)| {
            let free = *start >= end && !bytes.is_empty();
            if free {
                end = start.saturating_add(bytes.len() as u64);
            }
            free
        });
        let widest = regions.iter().copied().max_by_key(|region| region.1.len()).unwrap_or_default();
        Self { regions, widest }
    }

    /// The bytes from `addr` to the end of its region.
    #[inline]
    pub(crate) fn from(&self, addr: u64) -> Option<&'d [u8]> {
        let within = |(start, bytes): (u64, &'d [u8])| {
            let offset = usize::try_from(addr.checked_sub(start)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        };
        within(self.widest).or_else(|| {
            let index = self.regions.partition_point(|region| region.0 <= addr).checked_sub(1)?;
            within(*self.regions.get(index)?)
        })
    }

    /// Whether `addr` is executable.
    pub(crate) fn contains(&self, addr: u64) -> bool {
        self.from(addr).is_some()
    }

    /// `(start, end)` of each region, sorted.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.regions.iter().map(|(start, bytes)| (*start, start + bytes.len() as u64))
    }
}

/// A stretch of old code whose bytes all went the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) new: u64,
    /// All bytes correspond to the one address `new`.
    pub(crate) is_point: bool,
    /// The stretch did not move.
    pub(crate) is_same: bool,
    /// Number of the first range of the map that ends behind it, or that it is.
    range: usize,
}

impl Piece {
    /// The new address of `addr`, which must lie in the piece.
    #[inline]
    pub(crate) const fn new_of(&self, addr: u64) -> u64 {
        if self.is_point { self.new } else { self.new.wrapping_add(addr.wrapping_sub(self.start)) }
    }
    #[inline]
    pub(crate) const fn contains(&self, addr: u64) -> bool {
        addr >= self.start && addr < self.end
    }
    pub(crate) const fn nothing() -> Self {
        Self { start: 0, end: 0, new: 0, is_point: false, is_same: true, range: 0 }
    }
}

/// The address map with a coarse index, because it is asked for every branch.
pub(crate) struct Claim<'m> {
    ranges: &'m [MapRange],
    index: &'m AddressIndex,
    /// Where something moved, coarsely; `None` if most did.
    places: Option<Places>,
}

impl<'m> Claim<'m> {
    pub(crate) fn new(map: &'m AddressMap) -> Self {
        let ranges = map.ranges();
        let moved: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
        let span = ranges.first().zip(ranges.last()).map_or(0, |(first, last)| last.old_end().raw() - first.old.raw());
        let places = if moved < span / 2 { Places::new(ranges, std::iter::empty()) } else { None };
        Self { ranges, index: map.index(), places }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) const fn ranges(&self) -> &'m [MapRange] {
        self.ranges
    }

    /// The piece that holds `old`.
    #[inline]
    pub(crate) fn piece(&self, old: u64) -> Piece {
        let upto = self.index.upto(self.ranges, |range| range.old.raw(), old);
        let holds = |at: &usize| self.ranges.get(*at).is_some_and(|range| old < range.old_end().raw());
        self.piece_at(old, upto.checked_sub(1).filter(holds).unwrap_or(upto))
    }

    /// The pieces from the one that holds `from` to the one that holds the byte before `to`.
    pub(crate) fn pieces(&self, from: u64, to: u64) -> impl Iterator<Item = Piece> + '_ {
        let (mut at, mut next) = (from, self.index.upto(self.ranges, |range| range.old.raw(), from).saturating_sub(1));
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            while self.ranges.get(next).is_some_and(|range| range.old_end().raw() <= at) {
                next += 1;
            }
            let piece = self.piece_at(at, next);
            at = piece.end;
            Some(piece)
        })
    }

    /// The piece that holds `old`. Range `next` is the first one that ends behind it.
    fn piece_at(&self, old: u64, next: usize) -> Piece {
        match self.ranges.get(next) {
            Some(range) if range.old.raw() <= old => Piece {
                start: range.old.raw(),
                end: range.old_end().raw(),
                new: range.new.raw(),
                is_point: range.kind == MapKind::Point,
                is_same: false,
                range: next,
            },
            following => {
                let start = next.checked_sub(1).and_then(|at| self.ranges.get(at)).map_or(0, |range| range.old_end().raw());
                let end = following.map_or(u64::MAX, |range| range.old.raw());
                Piece { start, end, new: start, is_point: false, is_same: true, range: next }
            }
        }
    }

    /// The piece behind `piece`, which is one of this map.
    pub(crate) fn behind(&self, piece: &Piece) -> Piece {
        self.piece_at(piece.end, piece.range + usize::from(!piece.is_same))
    }

    /// False only if `old` did not move.
    #[inline]
    pub(crate) fn may_move(&self, old: u64) -> bool {
        let is_within = self.ranges.first().is_some_and(|first| old >= first.old.raw())
            && self.ranges.last().is_some_and(|last| old < last.old_end().raw());
        is_within && self.places.as_ref().is_none_or(|places| places.may_hold(old))
    }

    /// True only if nothing in `from..to` moved.
    pub(crate) fn stays(&self, from: u64, to: u64) -> bool {
        self.places.as_ref().is_some_and(|places| !places.may_hold_any(from, to))
    }

    /// The claimed new address of `old`.
    #[inline]
    pub(crate) fn to_new(&self, old: u64) -> u64 {
        if self.may_move(old) { self.piece(old).new_of(old) } else { old }
    }
}

/// Where the linear pieces of the map went, in order of new addresses.
pub(crate) struct Landed<'m> {
    ranges: &'m [MapRange],
    /// Parts of ranges.
    parts: Vec<Landing>,
    /// Indexes of ranges, and behind them of parts: a map of a large program has millions.
    order: Vec<u32>,
}

/// One linear piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    pub(crate) new: u64,
    pub(crate) new_end: u64,
    pub(crate) old: u64,
}

impl<'m> Landed<'m> {
    /// `without`: old ranges, sorted and disjoint, that are left out.
    pub(crate) fn new(claim: &Claim<'m>, without: impl Iterator<Item = (u64, u64)>) -> Self {
        let ranges = claim.ranges;
        let mut parts: Vec<Landing> = Vec::new();
        let mut order: Vec<(u64, u32)> = Vec::with_capacity(ranges.len());
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let mut without = without.peekable();
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| range.kind == MapKind::Linear) {
            let (start, end) = (range.old.raw(), range.old_end().raw());
            while without.next_if(|out| out.1 <= start).is_some() {}
            if without.peek().is_none_or(|out| out.0 >= end) {
                order.push((range.new.raw(), number(index)));
                continue;
            }
            let mut add = |from: u64, to: u64| {
                if from < to {
                    let new = range.new.raw().wrapping_add(from - start);
                    order.push((new, number(ranges.len().saturating_add(parts.len()))));
                    parts.push(Landing { new, new_end: new.saturating_add(to - from), old: from });
                }
            };
            let mut at = start;
            while let Some(&out) = without.peek().filter(|out| out.0 < end) {
                add(at, out.0);
                at = at.max(out.1);
                // It may reach into the next range.
                if out.1 > end {
                    break;
                }
                without.next();
            }
            add(at, end);
        }
        order.par_sort_unstable();
        Self { ranges, parts, order: order.iter().map(|&(_, index)| index).collect() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<Landing> {
        self.landing(*self.order.get(at)?)
    }

    fn landing(&self, index: u32) -> Option<Landing> {
        let Some(range) = self.ranges.get(index as usize) else {
            return self.parts.get((index as usize).checked_sub(self.ranges.len())?).copied();
        };
        let new = range.new.raw();
        Some(Landing { new, new_end: new.saturating_add(u64::from(range.len)), old: range.old.raw() })
    }

    /// Number of pieces that start before `new`.
    pub(crate) fn before(&self, new: u64) -> usize {
        self.order.partition_point(|&index| self.landing(index).is_some_and(|landing| landing.new < new))
    }

    /// Whether a piece holds `new`.
    pub(crate) fn holds(&self, new: u64) -> bool {
        let upto = self.before(new.saturating_add(1));
        upto.checked_sub(1).and_then(|at| self.get(at)).is_some_and(|piece| new < piece.new_end)
    }
}

/// Code ranges of the old file that an FDE or a function symbol names, sorted and disjoint.
pub(crate) struct Functions {
    ranges: Vec<(u64, u64)>,
    index: AddressIndex,
}

/// The range that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// False for the space between functions.
    pub(crate) is_function: bool,
}

impl Extent {
    #[inline]
    pub(crate) const fn contains(&self, addr: u64) -> bool {
        addr >= self.start && addr < self.end
    }
    pub(crate) const fn nothing() -> Self {
        Self { start: 0, end: 0, is_function: false }
    }
}

impl Functions {
    /// `frames`: code ranges of FDEs, sorted. They win over symbols, whose sizes are hand-written in
    /// assembly; a symbol's range counts as far as no FDE covers it.
    pub(crate) fn new(image: &Image<'_>, code: &CodeView<'_>, frames: &[(u64, u64)]) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(frames.len());
        let mut end = 0;
        for &(start, stop) in frames {
            let start = start.max(end);
            if start < stop && code.contains(start) {
                ranges.push((start, stop));
                end = stop;
            }
        }
        let index = AddressIndex::new(&ranges, |range| range.0);
        let uncovered = |symbol: Symbol| {
            let at = index.upto(&ranges, |range| range.0, symbol.value);
            let covered = at.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| symbol.value < range.1);
            let next = ranges.get(at).map_or(u64::MAX, |range| range.0);
            let end = symbol.value.saturating_add(symbol.size).min(next);
            (!covered && code.contains(symbol.value)).then_some((symbol.value, end))
        };
        let mut extra: Vec<(u64, u64)> = Vec::new();
        for table in [image.symtab(), image.dynsym()].into_iter().flatten() {
            let symbols = (0..table.len()).into_par_iter().filter_map(|at| table.get(at));
            let sized = symbols.filter(|symbol| symbol.is_function() && symbol.is_defined() && symbol.size > 0);
            extra.par_extend(sized.filter_map(uncovered));
        }
        extra.sort_unstable();
        let mut end = 0;
        for (start, stop) in extra {
            let start = start.max(end);
            if start < stop {
                ranges.push((start, stop));
                end = stop;
            }
        }
        ranges.sort_unstable();
        let index = AddressIndex::new(&ranges, |range| range.0);
        Self { ranges, index }
    }

    pub(crate) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Start of the first function behind `addr`, the highest address if there is none.
    pub(crate) fn start_behind(&self, addr: u64) -> u64 {
        let upto = self.index.upto(&self.ranges, |range| range.0, addr);
        self.ranges.get(upto).map_or(u64::MAX, |range| range.0)
    }

    /// The extent that holds `addr`.
    pub(crate) fn extent(&self, addr: u64) -> Extent {
        let upto = self.index.upto(&self.ranges, |range| range.0, addr);
        let before = upto.checked_sub(1).and_then(|index| self.ranges.get(index));
        if let Some(&(start, end)) = before
            && addr < end
        {
            return Extent { start, end, is_function: true };
        }
        let start = before.map_or(0, |range| range.1);
        let end = self.ranges.get(upto).map_or(u64::MAX, |range| range.0);
        Extent { start, end, is_function: false }
    }

    /// Start of the function that holds `addr`.
    pub(crate) fn entry(&self, addr: u64) -> Option<u64> {
        let extent = self.extent(addr);
        extent.is_function.then_some(extent.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postlink_base::{NewAddr, OldAddr};

    #[test]
    fn claim_agrees_with_the_map() {
        arbtest::arbtest(|u| {
            let mut ranges = Vec::new();
            let mut old = 0x40_0000u64;
            for _ in 0..u.int_in_range(0..=30)? {
                old += u64::from(u.int_in_range(0..=900u16)?);
                let len = u.int_in_range(1..=700u32)?;
                let kind = if u.arbitrary()? { MapKind::Linear } else { MapKind::Point };
                ranges.push(MapRange { old: OldAddr::new(old), new: NewAddr::new(u.arbitrary()?), len, kind });
                old += u64::from(len);
            }
            let map = AddressMap::from_ranges(ranges).unwrap();
            let claim = Claim::new(&map);
            for _ in 0..50 {
                let at = 0x3f_ff00 + u.int_in_range(0..=60_000u64)?;
                assert_eq!(claim.to_new(at), map.to_new(OldAddr::new(at)).raw());
                let piece = claim.piece(at);
                assert!(piece.contains(at) && (piece.is_same || claim.may_move(at)));
                    let (from, to) = (at, at + u.int_in_range(0..=900u64)?);
                assert!(!claim.stays(from, to) || piece.is_same && piece.end >= to);
                assert!(piece.end == u64::MAX || claim.behind(&piece) == claim.piece(piece.end));
                let mut reached = at;
                for piece in claim.pieces(at, at + 3000) {
                    assert_eq!(piece, claim.piece(reached));
                    reached = piece.end;
                }
                assert!(reached >= at + 3000);
            }
            Ok(())
        })
        .budget_ms(300);
    }
}
