//! A call through the GOT that became direct.

use super::{Mismatch, Walker};
use crate::decode::Decoded;
use crate::relocations::FieldKind;

impl Walker<'_, '_, '_> {
    /// Whether `call *slot(%rip)`, `bytes` at `old`, calls what `addr32 call` to `new_target`, the first of `new_bytes`, does: the slot
    /// always holds the entry of one function, and that is where the new call leads.
    ///
    /// The linker must have made the slot for this operand. A variable of the program may be changed before its page is protected.
    pub(super) fn got_call(
        &mut self,
        old: u64,
        bytes: &[u8],
        decoded: &Decoded,
        (new_bytes, new_target): (&[u8], u64),
    ) -> Result<(), Mismatch> {
        let fault = |message| Mismatch { rule: "got-call", message };
        let cx = self.cx;
        let memory = match (bytes, new_bytes, decoded.memory) {
            ([0xff, 0x15, _, _, _, _], [0x67, 0xe8, _, _, _, _, ..], Some(memory)) if memory.at == 2 && !memory.taken => memory,
            _ => return Err(fault("the indirect call became a direct one in another way than `ff 15` becomes `67 e8`")),
        };
        let place = old.wrapping_add(2);
        let fields = cx.relocations.fields.get(cx.relocations.fields_before(place)..).unwrap_or(&[]);
        let through_got = fields.first().is_some_and(|field| field.addr() == place && field.kind() == FieldKind::GotLoad);
        if !through_got {
            return Err(fault("the call that became direct is not one through a slot that the linker made for it"));
        }
        let Some(target) = cx.slots.content(cx.old, memory.target) else {
            return Err(fault("the slot of the call that became direct may hold another address when the program runs"));
        };
        if !cx.old_code.contains(target) || cx.functions.entry(target) != Some(target) {
            return Err(fault("the slot of the call that became direct does not hold the entry of a function"));
        }
        if cx.claim.to_new(target) != new_target {
            return Err(fault("the call that became direct does not lead to where the function in its slot went"));
        }
        self.harvest.findings.checked.operands += 1;
        self.harvest.findings.checked.got_calls += 1;
        // The old program may go there in no other way.
        self.push(target);
        Ok(())
    }
}
