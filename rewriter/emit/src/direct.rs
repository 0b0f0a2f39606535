//! `call *slot(%rip)` (`ff 15`) becomes `addr32 call` (`67 e8`), which is as long and what linkers write when they relax such a
//! call: where a [`GotCall`] says that the slot always leads to the same function.

use postlink_cfg::{Fixup, FixupKind, GotCall};

const THROUGH_GOT: [u8; 2] = [0xff, 0x15];
const DIRECT: [u8; 2] = [0x67, 0xe8];

/// The call whose displacement was at old address `place`; `calls` are sorted.
pub(crate) fn at(calls: &[GotCall], place: u64) -> Option<GotCall> {
    calls.binary_search_by_key(&place, |call| call.place).ok().and_then(|index| calls.get(index)).copied()
}

/// Changes the opcode in `code` and gives the field that the call has then. `None`: there is no such call.
pub(crate) fn make(code: &mut [u8], fixup: &Fixup, call: GotCall) -> Option<Fixup> {
    if fixup.kind != FixupKind::Memory || fixup.tail != 0 {
        return None;
    }
    let end = fixup.offset as usize;
    let opcode = code.get_mut(end.checked_sub(2)?..end)?;
    if *opcode != THROUGH_GOT {
        return None;
    }
    opcode.copy_from_slice(&DIRECT);
    Some(Fixup { target: call.target, kind: FixupKind::Call, passes_end: false, ..*fixup })
}

/// Whether the two bytes in front of a displacement, in the input and (as a number) in the output, are such a change.
pub(crate) fn is_change(old: &[u8], new: u64) -> bool {
    old == THROUGH_GOT && new == u64::from(u16::from_le_bytes(DIRECT))
}
