//! Tables of distances among code that count from another place than themselves.
//!
//! Assemblers resolve `dq target - $$` between labels of one section; no relocation says that there is a distance, nor from where it
//! counts. ffmpeg's FFT dispatches by such a table: one `lea` takes the table, another one the base. Code at the base and
//! what the table leads to keep their places then.

use super::{Class, Facts, FixupKind, Program, Reason, lower, takes_address};
use crate::FunctionId;

/// Longest distance from the base.
const DISTANCE_MAX: u64 = 1 << 24;

/// Entries that may be left out in front, because the index counts from a higher number than 0.
const SKIPPED_MAX: usize = 4;

/// Distinct entries that make a table.
const ENTRIES_MIN: usize = 2;

/// Entries that are read of one.
const ENTRIES_MAX: usize = 1 << 12;

/// Pairs of table and base that are tried for one function. Nothing that a function takes moves if it has more.
const PAIRS_MAX: usize = 1 << 10;

pub(super) fn pin(program: &mut Program<'_>, facts: &Facts<'_, '_>) {
    // Few functions take the address of a place in code that is no function's.
    let others = facts.outward.iter().filter(|outward| takes_address(outward.kind) && !matches!(outward.kind, FixupKind::Pc64));
    let others = others.map(|outward| (outward.from, outward.target));
    let own = facts.own_places.iter().filter_map(|&(from, place)| Some((program.function_at(from)?, place)));
    let mut places: Vec<(FunctionId, u64)> = others.chain(own).collect();
    places.sort_unstable();
    places.dedup();
    let mut stay: Vec<u64> = Vec::new();
    for group in places.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(id, _)) = group.first() else { continue };
        let taken = program.fixups[id].iter().filter(|fixup| takes_address(fixup.kind)).map(|fixup| fixup.target);
        let mut bases: Vec<u64> = taken.chain(group.iter().map(|place| place.1)).collect();
        bases.retain(|&base| program.image.exec_section_at(base).is_some());
        bases.sort_unstable();
        bases.dedup();
        if group.len().saturating_mul(bases.len()) > PAIRS_MAX {
            stay.append(&mut bases);
        }
        for &(_, table) in group {
            for &base in bases.iter().filter(|&&base| base != table) {
                for width in [8, 4] {
                    let found = targets(program, table, base, width);
                    if !found.is_empty() {
                        stay.extend([table, base].into_iter().chain(found));
                    }
                }
            }
        }
    }
    stay.sort_unstable();
    stay.dedup();
    for place in stay {
        if let Some(id) = program.function_at(place) {
            lower(&mut program.functions[id], Class::Pinned, Reason::AddressArithmetic);
        }
    }
}

/// What words of `width` bytes at `table` lead to if they count from `base`; nothing if they are no distances.
fn targets(program: &Program<'_>, table: u64, base: u64, width: usize) -> Vec<u64> {
    let image = program.image;
    let (Some(section), Some(home)) = (image.exec_section_at(table), image.exec_section_at(base)) else { return Vec::new() };
    if section != home {
        return Vec::new();
    }
    let Some(section) = image.sections().get(section) else { return Vec::new() };
    let room = section.addr.saturating_add(section.size).saturating_sub(table);
    let Some(bytes) = image.bytes_at(table, room) else { return Vec::new() };
    let target = |bytes: &[u8]| {
        let distance = match *bytes {
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => return None,
        };
        let target = base.wrapping_add_signed(distance);
        (distance != 0 && distance.unsigned_abs() <= DISTANCE_MAX && section.contains(target)).then_some(target)
    };
    let mut words = bytes.chunks_exact(width).map(target).peekable();
    for _ in 0..SKIPPED_MAX {
        words.next_if(Option::is_none);
    }
    let mut found: Vec<u64> = words.map_while(|target| target).take(ENTRIES_MAX).collect();
    found.sort_unstable();
    found.dedup();
    if found.len() < ENTRIES_MIN { Vec::new() } else { found }
}
