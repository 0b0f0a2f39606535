//! Whether a stretch of code is the same program in both files, whatever its instructions are.

use super::places::{Places, TAIL_MAX};
use super::witness::{Near, Witness, Witnesses};
use crate::code::Piece;
use crate::relocations::FieldKind;
use crate::walk::{Context, little};

/// Looks at one stretch after the other.
pub(super) struct Judge<'c, 'a, 'd> {
    cx: &'c Context<'a, 'd>,
    places: &'c Places,
    /// Stretches between functions that differ; `places` has them.
    changed: &'c [(u64, u64)],
    witnesses: &'c Witnesses<'d>,
    /// The piece of the map that the last stretch was in.
    piece: Piece,
    /// Where relocations were looked for last.
    near: Near,
    /// A relocated field at or behind the last stretch.
    field: usize,
    /// End of the last field that was found right as an operand.
    patched: usize,
    /// Fields that were compared.
    pub(super) operands: u64,
    /// Starts of tables of distances that an instruction may take, with its place.
    pub(super) taken: Vec<(u64, u64)>,
}

/// The bytes of a stretch and of what an instruction at its end may reach, in both files.
#[derive(Clone, Copy)]
struct Pair<'d> {
    start: u64,
    old: &'d [u8],
    new: &'d [u8],
}

/// An instruction has at most 15 bytes: one that starts in a stretch ends in this many more at the latest.
const MARGIN: u64 = 14;

/// Room for the rest of a word and of a field at the end of what is looked at.
const SLACK: u64 = 16;

/// Branches of one byte reach so far from the bounds of their instruction.
const NEAR: u64 = 128;

/// Each byte of the word.
const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte that is zero.
const fn zeros(word: u64) -> u64 {
    let low = all(0x7f);
    !((word & low).wrapping_add(low) | word | low)
}

/// The bytes of `word` behind which a PC-relative operand of four bytes may stand. `before` is the word
/// one byte back.
const fn far(word: u64, before: u64) -> u64 {
    let modrm = zeros((word & all(0xc7)) ^ all(0x05));
    let branch = zeros((word & all(0xfe)) ^ all(0xe8));
    let conditional = zeros(((word & all(0xf0)) ^ all(0x80)) | (before ^ all(0x0f)));
    let begin = zeros((word ^ all(0xf8)) | (before ^ all(0xc7)));
    modrm | branch | conditional | begin
}

/// The bytes of `word` that may be the opcode of a branch of one byte.
const fn near(word: u64) -> u64 {
    let conditional = zeros((word & all(0xf0)) ^ all(0x70));
    let count = zeros((word & all(0xfc)) ^ all(0xe0));
    conditional | count | zeros(word ^ all(0xeb))
}

/// Whether `byte`, in front of a PC-relative operand, is a ModRM byte and no opcode.
const fn is_modrm(byte: u8) -> bool {
    byte & 0xc7 == 0x05
}

/// Whether the one-byte opcode has a ModRM byte (Intel SDM volume 2, table A-2).
const fn has_modrm(opcode: u8) -> bool {
    match opcode {
        0x00..=0x3f => opcode & 7 < 4,
        0x63 | 0x69 | 0x6b | 0x80..=0x8f | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => true,
        _ => false,
    }
}

/// Whether an opcode that has a ModRM byte may end in front of the byte at `at`: one of one byte, of those
/// behind `0f`, `0f 38` and `0f 3a`, and behind the prefixes VEX, XOP, EVEX and REX2, which have a fixed length.
fn may_be_modrm(bytes: &[u8], at: usize) -> bool {
    let back = |back: usize| at.checked_sub(back).and_then(|at| bytes.get(at)).copied();
    back(1).is_some_and(has_modrm)
        || back(2) == Some(0x0f)
        || back(3) == Some(0x0f) && matches!(back(2), Some(0x38 | 0x3a))
        || matches!(back(3), Some(0xc5 | 0xd5))
        || matches!(back(4), Some(0xc4 | 0x8f))
        || back(5) == Some(0x62)
}

/// Eight bytes from `at` on, with zeros behind the end.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    rest.first_chunk::<8>().map_or_else(|| little(rest), |chunk| u64::from_le_bytes(*chunk))
}

/// The signed number of four bytes at `at`.
#[inline]
fn displacement(bytes: &[u8], at: usize) -> Option<i64> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    Some(i64::from(i32::from_le_bytes(*field)))
}

/// Positions of the bytes that are marked in `marks`, lowest first.
fn positions(mut marks: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = marks.trailing_zeros() as usize / 8;
        let is_some = marks != 0;
        marks &= marks.wrapping_sub(1);
        is_some.then_some(at)
    })
}

impl<'c, 'a, 'd> Judge<'c, 'a, 'd> {
    pub(super) fn new(
        cx: &'c Context<'a, 'd>,
        (places, changed): (&'c Places, &'c [(u64, u64)]),
        witnesses: &'c Witnesses<'d>,
    ) -> Self {
        Self { cx, places, changed, witnesses, piece: Piece::nothing(), near: Near::default(), field: 0, patched: 0, operands: 0, taken: Vec::new() }
    }

    /// Whether the stretch did not move, and all that may be an operand in it leads to the mapped place.
    pub(super) fn is_clean(&mut self, start: u64, end: u64) -> bool {
        let before = self.operands;
        let is_clean = self.look(start, end);
        if !is_clean {
            // The walk counts them.
            self.operands = before;
        }
        is_clean
    }

    fn look(&mut self, start: u64, end: u64) -> bool {
        let cx = self.cx;
        if !self.piece.contains(start) {
            self.piece = cx.claim.piece(start);
        }
        if !self.piece.is_same || self.piece.end < end {
            return false;
        }
        let Some(old) = cx.old_code.from(start) else { return false };
        let upto = |len: u64| usize::try_from((end - start).saturating_add(len)).unwrap_or(usize::MAX).min(old.len());
        let (reach, len) = (upto(MARGIN), upto(MARGIN + SLACK));
        let new = cx.new_code.from(start).and_then(|new| new.get(..len));
        let Some((old, new)) = old.get(..len).zip(new) else { return false };
        let pair = Pair { start, old, new };
        let is_near = self.places.may_hold_any(start.saturating_sub(NEAR), start)
            || self.places.may_hold_any(end, end.saturating_add(NEAR + MARGIN));
        let (mut explained, mut last) = (0usize, 0u64);
        self.patched = 0;
        for at in (0..reach).step_by(8) {
            let (here, there) = (word(old, at), word(new, at));
            if here != there {
                match self.explain(pair, at, here ^ there, explained) {
                    Some(upto) => explained = upto,
                    None => return false,
                }
            }
            let before = here << 8 | last;
            last = here >> 56;
            // A field that was just checked needs no second look.
            let checked = explained;
            let mut operands = positions(far(here, before)).map(|byte| at + byte).filter(|byte| byte + 5 != checked);
            if !operands.all(|byte| self.is_far_clean(pair, byte)) {
                return false;
            }
            explained = explained.max(self.patched);
            if is_near && !positions(near(here)).all(|byte| self.is_near_clean(pair, at + byte)) {
                return false;
            }
        }
        self.are_absolute_clean(pair)
    }

    /// Whether the four bytes behind the one at `at` lead to what did not move, or are no operand, or a
    /// field that was changed as it had to be.
    #[inline]
    fn is_far_clean(&mut self, pair: Pair<'_>, at: usize) -> bool {
        let Some(distance) = displacement(pair.old, at + 1) else { return true };
        let target = pair.start.wrapping_add(at as u64 + 5).wrapping_add_signed(distance);
        // `lea` of a table.
        if at > 0
            && pair.old.get(at - 1) == Some(&0x8d)
            && pair.old.get(at).is_some_and(|&byte| is_modrm(byte))
            && self.cx.relocations.may_be_distance(target)
            && self.cx.relocations.distance_at(target).is_some()
        {
            self.taken.push((target, pair.start + at as u64 - 1));
        }
        // `lea` of a place in code that is no function: a table of distances, perhaps, for the walk.
        if self.cx.old_code.contains(target)
            && at > 0
            && pair.old.get(at - 1) == Some(&0x8d)
            && pair.old.get(at).is_some_and(|&byte| is_modrm(byte))
            && self.cx.functions.entry(target) != Some(target)
        {
            return false;
        }
        !self.places.may_hold(target) || self.is_operand_clean(pair, at, target)
    }

    #[cold]
    #[inline(never)]
    fn is_operand_clean(&mut self, pair: Pair<'_>, at: usize, target: u64) -> bool {
        let has_tail = pair.old.get(at).is_some_and(|&byte| is_modrm(byte));
        let tails: &[u64] = if has_tail { &[0, 1, 2, TAIL_MAX] } else { &[0] };
        if !tails.iter().any(|&tail| self.is_moved(target.wrapping_add(tail))) {
            return true;
        }
        if has_tail && !may_be_modrm(pair.old, at) {
            return true;
        }
        let field = pair.start + at as u64 + 1;
        let found = self.witnesses.within(&mut self.near, field, field + 4, |witness| holds(pair, witness));
        match found.only() {
            Some(witness) if witness.addr == field && witness.is_relative => {
                let is_right = self.is_patched(pair, &witness);
                self.operands += u64::from(is_right);
                self.patched = at + 5;
                is_right
            }
            // The bytes are another operand.
            found => found.is_some(),
        }
    }

    #[inline]
    fn is_near_clean(&self, pair: Pair<'_>, at: usize) -> bool {
        let Some(&distance) = pair.old.get(at + 1) else { return true };
        let target = pair.start.wrapping_add(at as u64 + 2).wrapping_add_signed(i64::from(distance.cast_signed()));
        !self.places.may_hold(target) || !self.is_moved(target)
    }

    /// Whether the old place at `addr`, or at its low half, has another address in the new file, or its
    /// bytes may be others.
    fn is_moved(&self, addr: u64) -> bool {
        let low = addr & 0xffff_ffff;
        let upto = self.changed.partition_point(|changed| changed.0 <= low);
        let is_changed = || upto.checked_sub(1).and_then(|at| self.changed.get(at)).is_some_and(|changed| low < changed.1);
        self.cx.references.expected(low) != low || is_changed()
    }

    /// Whether all bytes that differ in the word at `at`, as `differs` tells, and that stand behind `explained`
    /// belong to fields that hold the mapped address. Gives the end of the last one.
    #[cold]
    #[inline(never)]
    fn explain(&mut self, pair: Pair<'_>, at: usize, differs: u64, explained: usize) -> Option<usize> {
        let mut upto = explained;
        for byte in 0..8 {
            if differs >> (byte * 8) & 0xff == 0 || at + byte < upto {
                continue;
            }
            let addr = pair.start + (at + byte) as u64;
            let witness = self.witnesses.within(&mut self.near, addr, addr + 1, |witness| holds(pair, witness)).only()?;
            let is_right = if witness.is_relative { self.is_patched(pair, &witness) } else { self.is_mapped(pair, &witness) };
            if !is_right {
                return None;
            }
            self.operands += 1;
            upto = usize::try_from(witness.addr - pair.start).ok()? + usize::from(witness.width);
        }
        Some(upto)
    }

    /// Whether the new field leads to the mapped place, wherever the instruction ends.
    fn is_patched(&self, pair: Pair<'_>, witness: &Witness) -> bool {
        let Some(at) = witness.addr.checked_sub(pair.start).and_then(|at| usize::try_from(at).ok()) else { return false };
        let byte = |back: usize| at.checked_sub(back).and_then(|at| pair.old.get(at)).copied();
        let tails: &[u64] = match (byte(2), byte(1)) {
            (_, Some(last)) if is_modrm(last) => &[0, 1, 2, TAIL_MAX],
            (_, Some(0xe8 | 0xe9)) | (Some(0x0f), Some(0x80..=0x8f)) => &[0],
            _ => return false,
        };
        let (Some(old), Some(new)) = (displacement(pair.old, at), displacement(pair.new, at)) else { return false };
        let end = witness.addr.wrapping_add(4);
        let (target, new_target) = (end.wrapping_add_signed(old), end.wrapping_add_signed(new));
        // What is not the target of a branch may be an address that is a value.
        let is_value = is_modrm(byte(1).unwrap_or(0));
        let loses_low_bit = |tail: &u64| is_value && self.cx.references.loses_low_bit(target.wrapping_add(*tail));
        if is_value {
            // Nothing stands behind the operand of `lea`.
            let tails = if byte(2) == Some(0x8d) { &[0][..] } else { tails };
            tails.iter().for_each(|tail| {
                self.cx.values.insert(target.wrapping_add(*tail));
            });
        }
        let leads = |&tail: &u64| self.cx.references.expected(target.wrapping_add(tail)) == new_target.wrapping_add(tail);
        tails.iter().all(leads) && !tails.iter().any(loses_low_bit) && self.is_known(target)
    }

    /// Whether the new field holds the mapped address.
    fn is_mapped(&self, pair: Pair<'_>, witness: &Witness) -> bool {
        let Some(at) = witness.addr.checked_sub(pair.start).and_then(|at| usize::try_from(at).ok()) else { return false };
        let new = pair.new.get(at..).and_then(|rest| rest.get(..usize::from(witness.width))).map(little);
        let mask = if witness.width == 4 { 0xffff_ffff } else { u64::MAX };
        self.cx.values.insert(witness.value);
        let is_right = new == Some(self.cx.references.expected(witness.value) & mask);
        is_right && !self.cx.references.loses_low_bit(witness.value) && self.is_known(witness.value)
    }

    /// Whether the walk starts at the place anyway, if it is code.
    fn is_known(&self, target: u64) -> bool {
        !self.cx.old_code.contains(target) || self.cx.roots.contains(target)
    }

    /// Whether no field with the relocation of an absolute address keeps the address of what moved.
    fn are_absolute_clean(&mut self, pair: Pair<'_>) -> bool {
        let fields = &self.cx.relocations.fields;
        let end = pair.start + pair.old.len() as u64;
        self.field = self.cx.relocations.fields_before_near(self.field, pair.start);
        let here = fields.get(self.field..).unwrap_or(&[]).iter().take_while(|field| field.addr() < end);
        here.into_iter().all(|field| {
            let at = usize::try_from(field.addr() - pair.start).unwrap_or(usize::MAX);
            let width = field.kind().width();
            let bytes = |bytes: &[u8]| bytes.get(at..).and_then(|rest| rest.get(..usize::from(width))).map(little);
            // The rest of it belongs to another stretch.
            let (Some(value), Some(new)) = (bytes(pair.old), bytes(pair.new)) else { return true };
            let target = match field.kind() {
                FieldKind::Abs32 | FieldKind::Abs64 => value,
                FieldKind::Abs32S | FieldKind::GotLoad => i64::from(value as u32 as i32).cast_unsigned(),
                FieldKind::FromGot64 | FieldKind::FromHere64 => return false,
            };
            if !self.places.may_hold(target) {
                return true;
            }
            let mask = if width == 4 { 0xffff_ffff } else { u64::MAX };
            let expected = self.cx.references.expected(target);
            if !self.is_moved(target) {
                return true;
            }
            let is_right = field.kind() != FieldKind::GotLoad && new == expected & mask && self.is_known(target);
            if is_right {
                self.cx.values.insert(target);
            }
            is_right
        })
    }
}

/// Whether four bytes or one that may be an operand of an instruction in `start..end` lead to one of `places`.
pub(super) fn may_lead_into(cx: &Context<'_, '_>, places: &Places, start: u64, end: u64) -> bool {
    let bytes = cx.old_code.from(start).unwrap_or(&[]);
    let reach = usize::try_from((end - start).saturating_add(MARGIN)).unwrap_or(usize::MAX).min(bytes.len());
    let mut last = 0u64;
    (0..reach).step_by(8).any(|at| {
        let here = word(bytes, at);
        let before = here << 8 | last;
        last = here >> 56;
        let behind = |byte: usize, len: u64| start.wrapping_add((at + byte) as u64 + 1 + len);
        let is_far = |byte: usize| displacement(bytes, at + byte + 1).is_some_and(|by| places.may_hold(behind(byte, 4).wrapping_add_signed(by)));
        let is_near = |byte: usize| {
            let distance = bytes.get(at + byte + 1).map(|by| i64::from(by.cast_signed()));
            distance.is_some_and(|by| places.may_hold(behind(byte, 1).wrapping_add_signed(by)))
        };
        positions(far(here, before)).any(is_far) || positions(near(here)).any(is_near)
    })
}

/// Whether the old field holds what its relocation says.
fn holds(pair: Pair<'_>, witness: &Witness) -> bool {
    let at = witness.addr.checked_sub(pair.start).and_then(|at| usize::try_from(at).ok());
    let field = at.and_then(|at| pair.old.get(at..)).and_then(|rest| rest.get(..usize::from(witness.width)));
    let mask = if witness.width == 4 { 0xffff_ffff } else { u64::MAX };
    field.map(little) == Some(witness.value & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_found_by_the_bytes_before_them() {
        arbtest::arbtest(|u| {
            let likely = [0x05, 0x3d, 0x0f, 0x80, 0x8f, 0xc7, 0xf8, 0xe8, 0xe9, 0x70, 0xe3, 0xeb, 0xc5, 0x62];
            let mut bytes = [0u8; 9];
            for byte in &mut bytes {
                *byte = if u.arbitrary()? { *u.choose(&likely)? } else { u.arbitrary()? };
            }
            let (before, here) = (word(&bytes, 0), word(&bytes, 1));
            let pairs = || bytes.windows(2).map(|pair| (pair[0], pair[1]));
            let is_far = |(first, byte): (u8, u8)| {
                matches!((first, byte), (_, 0xe8 | 0xe9) | (0x0f, 0x80..=0x8f) | (0xc7, 0xf8)) || byte >> 6 == 0 && byte & 7 == 5
            };
            let is_near = |(_, byte): (u8, u8)| matches!(byte, 0x70..=0x7f | 0xe0..=0xe3 | 0xeb);
            let places = |is_one: &dyn Fn((u8, u8)) -> bool| -> Vec<usize> {
                pairs().enumerate().filter(|&(_, pair)| is_one(pair)).map(|(at, _)| at).collect()
            };
            assert_eq!(positions(far(here, before)).collect::<Vec<_>>(), places(&is_far));
            assert_eq!(positions(near(here)).collect::<Vec<_>>(), places(&is_near));
            Ok(())
        })
        .budget_ms(300);
    }

    #[test]
    fn a_modrm_byte_follows_an_opcode() {
        // The ModRM byte is the last one: lea, add, movaps, pshufb, palignr, VEX of two and three bytes, EVEX.
        for code in ["488d05", "0105", "0f2805", "660f380005", "660f3a0f05", "c5fb1005", "c4e2790005", "62f17c481005", "ff15", "d905"] {
            let bytes: Vec<u8> = (0..code.len()).step_by(2).map(|at| u8::from_str_radix(&code[at..at + 2], 16).unwrap()).collect();
            assert!(is_modrm(bytes[bytes.len() - 1]) && may_be_modrm(&bytes, bytes.len() - 1), "{code}");
        }
        // Stack protector, `cmp eax`, `add eax`: SIB and opcodes.
        for bytes in [&[0x64, 0x48, 0x8b, 0x04, 0x25][..], &[0x24, 0x83, 0xe0, 0xfd, 0x3d], &[0xb7, 0x47, 0x24, 0x05], &[0x05]] {
            assert!(!may_be_modrm(bytes, bytes.len() - 1), "{bytes:x?}");
        }
    }
}
