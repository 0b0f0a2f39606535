//! Most instructions: copied together with the next one, and independent of where they stand.

use super::Walker;
use crate::decode::{Decoded, Flow, Form, Undecodable};

/// The first instruction that needs a closer look. It is marked as visited.
pub(super) struct Stop<'d> {
    pub(super) old: u64,
    pub(super) bytes: &'d [u8],
    pub(super) decoded: Result<Decoded, Undecodable>,
}

/// Where plain instructions end, and the form of the next one if it is known.
struct Plain {
    at: usize,
    form: Option<Form>,
}

impl<'d> Walker<'_, '_, 'd> {
    /// Steps from `old`, where `bytes` stand, over instructions for which `instruction` and `stutter`
    /// would find nothing to say: they and the next one lie in one linear piece and one function,
    /// their bytes are equal, and no field of them holds an address, but for branches inside of the
    /// piece, and plain calls. `None`: an instruction that was visited before.
    pub(super) fn ahead(&mut self, old: u64, bytes: &'d [u8]) -> Option<Stop<'d>> {
        let cx = self.cx;
        let end = self.piece.end.min(self.extent.end);
        let shift = self.piece.new.wrapping_sub(self.piece.start);
        let copied = if self.piece.is_point { None } else { cx.new_code.from(old.wrapping_add(shift)) };
        let copied = copied.unwrap_or(&[]);
        let (start, mut at) = (old, 0usize);
        let stop = loop {
            let plain = self.plain(start, at, end, bytes, copied);
            at = plain.at;
            let old = start + at as u64;
            let bytes = bytes.get(at..).filter(|bytes| !bytes.is_empty());
            let Some(bytes) = bytes.filter(|_| cx.visited.insert(old)) else { break None };
            let whole = bytes.first_chunk::<16>();
            let decoded = match (plain.form, whole) {
                (Some(form), Some(whole)) => Ok(form.read(whole, old)),
                _ => self.eyes.decode(bytes, old),
            };
            let stop = Some(Stop { old, bytes, decoded });
            let Ok(decoded) = decoded else { break stop };
            self.harvest.findings.checked.instructions += 1;
            let copied = copied.get(at..).and_then(|copied| copied.first_chunk::<16>());
            let pair = whole.zip(copied).filter(|_| old + u64::from(decoded.len) < end);
            let (Some((whole, copied)), Flow::Conditional(_, target) | Flow::Call(target)) = (pair, decoded.flow) else { break stop };
            let is_done = match decoded.flow {
                Flow::Call(_) => decoded.len == 5 && self.is_call(old, target, copied),
                _ => self.piece.contains(target) && cx.old_code.contains(target) && equal(whole, copied, decoded.len),
            };
            if !is_done {
                break stop;
            }
            self.harvest.findings.checked.operands += 1;
            self.push(target);
            at += usize::from(decoded.len);
        };
        let done = at as u64;
        self.cover(start, done + stop.as_ref().and_then(|stop| stop.decoded.ok()).map_or(0, |decoded| u64::from(decoded.len)));
        if done > 0 {
            self.mark_live(start.wrapping_add(shift), done);
        }
        stop
    }

    /// Steps over instructions without any field that holds an address. `bytes` stand at `start`,
    /// `copied` at their new place; goes from `at` on, and up to `end` with the last instruction but one.
    #[inline]
    fn plain(&mut self, start: u64, mut at: usize, end: u64, bytes: &[u8], copied: &[u8]) -> Plain {
        let mut marker = self.cx.visited.marker(start);
        let mut count = 0u64;
        let mut field = self.next_field(start.wrapping_add(at as u64));
        let form = loop {
            let whole = |bytes: &'_ [u8]| bytes.get(at..)?.first_chunk::<16>().copied();
            let (Some(old_whole), Some(new_whole)) = (whole(bytes), whole(copied)) else { break None };
            let Some(form) = self.eyes.form(&old_whole) else { break None };
            let old = start.wrapping_add(at as u64);
            // `int3` between functions is padding.
            let Some(len) = form.plain_len().filter(|_| old_whole[0] != 0xcc) else { break Some(form) };
            let next = old.wrapping_add(u64::from(len));
            if next >= end || !equal(&old_whole, &new_whole, len) {
                break Some(form);
            }
            if field < next {
                field = self.next_field(old);
                if field < next {
                    break Some(form);
                }
            }
            if !marker.insert(old) {
                break Some(form);
            }
            count += 1;
            at = at.wrapping_add(usize::from(len));
        };
        self.harvest.findings.checked.instructions += count - marker.finish();
        Plain { at, form }
    }

    /// Address of the first relocated field at or behind `old`, which never decreases.
    #[inline]
    fn next_field(&mut self, old: u64) -> u64 {
        let fields = &self.cx.relocations.fields;
        while fields.get(self.field).is_some_and(|field| field.addr() < old) {
            self.field += 1;
        }
        fields.get(self.field).map_or(u64::MAX, |field| field.addr())
    }

    /// Whether `copied`, for the `call rel32` at `old` to `target`, is a `call rel32` to where the map
    /// says that the target went.
    #[inline]
    fn is_call(&self, old: u64, target: u64, copied: &[u8; 16]) -> bool {
        let [0xe8, a, b, c, d, ..] = *copied else { return false };
        let new_next = self.piece.new_of(old).wrapping_add(5);
        let new_target = new_next.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
        // A call forward in its own function may go over constants.
        !self.extent.contains(target) && self.cx.old_code.contains(target) && self.cx.claim.to_new(target) == new_target
    }
}

/// Whether the first `len` bytes, 1 to 15, are the same.
#[inline]
fn equal(a: &[u8; 16], b: &[u8; 16], len: u8) -> bool {
    (u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b)).wrapping_shl(128 - 8 * u32::from(len)) == 0
}
