//! Most instructions: copied together with the next one, and independent of where they stand.

use super::Walker;
use crate::decode::{Decoded, Flow, Undecodable};

/// The first instruction that needs a closer look. It is marked as visited.
pub(super) struct Stop<'d> {
    pub(super) old: u64,
    pub(super) bytes: &'d [u8],
    pub(super) decoded: Result<Decoded, Undecodable>,
}

impl<'d> Walker<'_, '_, 'd> {
    /// Steps from `old`, where `bytes` stand, over instructions for which `instruction` and `stutter`
    /// would find nothing to say: they and the next one lie in one linear piece and one function,
    /// their bytes are equal, and no field of them holds an address, but for a branch inside of the
    /// piece. `None`: an instruction that was visited before.
    pub(super) fn ahead(&mut self, old: u64, bytes: &'d [u8]) -> Option<Stop<'d>> {
        let cx = self.cx;
        let end = self.piece.end.min(self.extent.end);
        let shift = self.piece.new.wrapping_sub(self.piece.start);
        let copied = if self.piece.is_point { None } else { cx.new_code.from(old.wrapping_add(shift)) };
        let copied = copied.unwrap_or(&[]);
        let fields = &cx.relocations.fields;
        let (start, mut at) = (old, 0usize);
        let stop = loop {
            let old = start + at as u64;
            let bytes = bytes.get(at..).filter(|bytes| !bytes.is_empty());
            let Some(bytes) = bytes.filter(|_| cx.visited.insert(old)) else { break None };
            let decoded = self.eyes.decode(bytes, old);
            let stop = Some(Stop { old, bytes, decoded });
            let Ok(decoded) = decoded else { break stop };
            self.harvest.findings.checked.instructions += 1;
            let len = usize::from(decoded.len);
            let next = old + len as u64;
            let same = next < end && copied.get(at..).is_some_and(|copied| equal(bytes, copied, len));
            if !same || bytes.first() == Some(&0xcc) {
                break stop;
            }
            match decoded.flow {
                Flow::Nop => {}
                Flow::Next if decoded.memory.is_none() => {
                    while fields.get(self.field).is_some_and(|field| field.addr() < old) {
                        self.field += 1;
                    }
                    if fields.get(self.field).is_some_and(|field| field.addr() < next) {
                        break stop;
                    }
                }
                Flow::Conditional(_, target) if self.piece.contains(target) && cx.old_code.contains(target) => {
                    self.harvest.findings.checked.operands += 1;
                    self.push(target);
                }
                _ => break stop,
            }
            at += len;
        };
        let done = at as u64;
        self.cover(start, done + stop.as_ref().and_then(|stop| stop.decoded.ok()).map_or(0, |decoded| u64::from(decoded.len)));
        if done > 0 {
            self.mark_live(start.wrapping_add(shift), done);
        }
        stop
    }
}

/// Whether the first `len` bytes are the same.
#[inline]
fn equal(a: &[u8], b: &[u8], len: usize) -> bool {
    match (a.first_chunk::<16>(), b.first_chunk::<16>()) {
        (Some(a), Some(b)) if (1..=16).contains(&len) => {
            (u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b)) << (128 - 8 * len) == 0
        }
        _ => a.get(..len).is_some_and(|a| b.get(..len) == Some(a)),
    }
}
