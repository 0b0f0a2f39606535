//! One old instruction against one new instruction.

use super::{Mismatch, Walker};
use crate::references::References;
use crate::decode::{Decoded, Flow, PcRelative};
use crate::proof::Obligation;
use crate::relocations::FieldKind;

/// Length of the new instruction, and where the new code goes on for the old fallthrough.
type Matched = (u8, u64);

const fn mismatch(rule: &'static str, message: &'static str) -> Mismatch {
    Mismatch { rule, message }
}

const OTHER: Mismatch = mismatch("instruction", "the new instruction is another one");
const TARGET: Mismatch = mismatch("branch-target", "the branch does not lead to the mapped target");

impl Walker<'_, '_, '_> {
    /// Compares the old instruction `bytes` at `old` with the new one at `new`.
    pub(super) fn matches(&mut self, old: u64, bytes: &[u8], decoded: &Decoded, new: u64) -> Result<Matched, Mismatch> {
        let not_code = mismatch("not-executable", "the mapped address is not executable");
        let new_bytes = self.cx.new_code.from(new).ok_or(not_code)?;
        let len = bytes.len();
        let is_equal = new_bytes.get(..len) == Some(bytes);
        // Equal bytes decode equally, but for the place they stand at.
        let other = if is_equal {
            shifted(decoded, new.wrapping_sub(old))
        } else {
            self.eyes.decode(new_bytes, new).map_err(|_| mismatch("undecodable-new", "no instruction at the mapped address"))?
        };
        let new_next = new.wrapping_add(u64::from(other.len));
        let same_head = |tail: usize| {
            let head = len.saturating_sub(tail);
            usize::from(other.len) == len && new_bytes.get(..head) == bytes.get(..head)
        };
        match (decoded.flow, other.flow) {
            (Flow::Conditional(condition, target), Flow::Conditional(other_condition, other_target)) => {
                self.harvest.findings.checked.operands += 1;
                let next = if condition == other_condition {
                    self.check_target(old, target, other_target)?;
                    new_next
                } else if condition ^ 1 == other_condition {
                    self.check_target(old, target, new_next)?;
                    other_target
                } else {
                    return Err(mismatch("condition", "the condition of the branch differs"));
                };
                Ok((other.len, next))
            }
            (Flow::ShortConditional(_, target), Flow::ShortConditional(_, other_target)) if same_head(1) => {
                self.harvest.findings.checked.operands += 1;
                self.check_target(old, target, other_target)?;
                Ok((other.len, new_next))
            }
            (Flow::Call(target), Flow::Call(other_target)) | (Flow::Begin(target), Flow::Begin(other_target))
                if same_head(4) =>
            {
                self.harvest.findings.checked.operands += 1;
                self.check_target(old, target, other_target)?;
                Ok((other.len, new_next))
            }
            (Flow::IndirectCall, Flow::Call(other_target)) => {
                self.got_call(old, bytes, decoded, (new_bytes, other_target))?;
                Ok((other.len, new_next))
            }
            // A jump out of the code, such as to an undefined weak symbol.
            (Flow::Jump(target), Flow::Jump(other_target)) => {
                if target == other_target { Ok((other.len, new_next)) } else { Err(TARGET) }
            }
            (
                Flow::Next | Flow::IndirectCall | Flow::IndirectJump | Flow::End,
                Flow::Next | Flow::IndirectCall | Flow::IndirectJump | Flow::End,
            ) => {
                if usize::from(other.len) != len {
                    return Err(OTHER);
                }
                let new_bytes = new_bytes.get(..len).unwrap_or(&[]);
                self.check_operands(old, bytes, decoded, new, new_bytes, &other)?;
                Ok((other.len, new_next))
            }
            _ => Err(OTHER),
        }
    }

    fn check_target(&mut self, old: u64, target: u64, new_target: u64) -> Result<(), Mismatch> {
        if !self.cx.old_code.contains(target) {
            return if target == new_target { Ok(()) } else { Err(TARGET) };
        }
        if self.leads(target, new_target, old) { Ok(()) } else { Err(TARGET) }
    }

    /// Checks the bytes of an instruction that is no direct branch: equal, but for fields that hold
    /// an address, and those right.
    fn check_operands(
        &mut self,
        old: u64,
        bytes: &[u8],
        decoded: &Decoded,
        new: u64,
        new_bytes: &[u8],
        other: &Decoded,
    ) -> Result<(), Mismatch> {
        let cx = self.cx;
        // Bytes outside of fields must be equal.
        let mut open = 0u16;
        match (decoded.memory, other.memory) {
            (None, None) => {}
            (Some(memory), Some(other)) if memory.at == other.at => {
                self.harvest.findings.checked.operands += 1;
                open |= 0xf << memory.at;
                let is_end = || {
                    let field = old + u64::from(memory.at);
                    memory.target == other.target && References::means_an_end(cx.old, field, memory.target)
                };
                if !cx.references.fits(memory.target, other.target) && !is_end() {
                    return Err(mismatch("memory-operand", "the PC-relative operand does not lead to the mapped address"));
                }
                // Operands of other instructions may count from there.
                if memory.taken && memory.target != other.target && !cx.relocations.from_code.is_empty() && cx.old_code.contains(memory.target) {
                    return Err(mismatch("base-in-code", "operands count from places in code, and this one moved"));
                }
                if memory.taken && cx.old_code.contains(memory.target) {
                    self.harvest.code_taken.push((memory.target, old));
                }
                if cx.references.loses_low_bit(memory.target) {
                    self.harvest.findings.lost_low_bit(Obligation::Code, memory.target, other.target);
                }
            }
            _ => return Err(OTHER),
        }
        let fields = &cx.relocations.fields;
        while fields.get(self.field).is_some_and(|field| field.addr() < old) {
            self.field += 1;
        }
        let end = old.wrapping_add(bytes.len() as u64);
        let mut index = self.field;
        while let Some(field) = fields.get(index).filter(|field| field.addr() < end) {
            index += 1;
            let at = usize::try_from(field.addr() - old).unwrap_or(usize::MAX);
            let Some((value, new_value)) = read(bytes, new_bytes, at, field.kind().width()) else { continue };
            let here = field.addr().wrapping_sub(old).wrapping_add(new);
            let is_memory = decoded.memory.is_some_and(|memory| usize::from(memory.at) == at);
            let (target, expected) = match field.kind() {
                FieldKind::GotLoad if is_memory || at + 4 != bytes.len() => continue,
                _ if is_memory => continue,
                FieldKind::Abs32 => (value, cx.references.expected(value)),
                FieldKind::Abs32S | FieldKind::GotLoad => {
                    let target = i64::from(value as u32 as i32).cast_unsigned();
                    (target, cx.references.expected(target))
                }
                FieldKind::Abs64 => (value, cx.references.expected(value)),
                FieldKind::FromGot64 => {
                    let target = cx.got.wrapping_add(value);
                    // The start of a table, perhaps.
                    if cx.relocations.may_be_distance(target) && cx.relocations.distance_at(target).is_some() {
                        self.harvest.data_taken.push((target, old));
                    }
                    (target, cx.references.expected(target).wrapping_sub(cx.got))
                }
                FieldKind::FromHere64 => {
                    let target = field.addr().wrapping_add(value);
                    (target, cx.references.expected(target).wrapping_sub(here))
                }
            };
            if field.kind().is_absolute() && new_value != value && !cx.relocations.from_code.is_empty() && cx.old_code.contains(target) {
                return Err(mismatch("base-in-code", "operands count from places in code, and this one moved"));
            }
            if field.kind() != FieldKind::GotLoad && cx.old_code.contains(target) {
                self.harvest.code_taken.push((target, old));
            }
            self.harvest.findings.checked.operands += 1;
            let mask = if field.kind().width() == 4 { 0xffff_ffff } else { u64::MAX };
            let keeps = new_value == value && field.kind().is_absolute() && cx.references.may_keep(target);
            let is_end = || {
                new_value == value
                    && field.kind().is_absolute()
                    && References::means_an_end(cx.old, field.addr(), target)
            };
            if new_value != expected & mask && !keeps && !is_end() {
                return Err(mismatch("absolute-operand", "the operand does not hold the mapped address"));
            }
            if cx.references.loses_low_bit(target) {
                self.harvest.findings.lost_low_bit(Obligation::Code, target, cx.references.expected(target));
            }
            open |= ((1u32 << field.kind().width()) - 1).wrapping_shl(u32::try_from(at).unwrap_or(0)) as u16;
            if cx.old_code.contains(target) {
                cx.values.insert(target);
                self.push_taken(target);
            }
        }
        let differs = bytes.iter().zip(new_bytes).enumerate().any(|(at, (a, b))| a != b && open >> at & 1 == 0);
        if differs { Err(OTHER) } else { Ok(()) }
    }
}

/// The same field of both instructions, zero-extended.
fn read(old: &[u8], new: &[u8], at: usize, width: u8) -> Option<(u64, u64)> {
    let end = at.checked_add(usize::from(width))?;
    Some((little(old.get(at..end)?), little(new.get(at..end)?)))
}

/// A little-endian number of up to 8 bytes.
pub(crate) fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// What the same bytes mean `distance` bytes further on.
fn shifted(decoded: &Decoded, distance: u64) -> Decoded {
    let by = |target: u64| target.wrapping_add(distance);
    let flow = match decoded.flow {
        Flow::Jump(target) => Flow::Jump(by(target)),
        Flow::Conditional(condition, target) => Flow::Conditional(condition, by(target)),
        Flow::ShortConditional(opcode, target) => Flow::ShortConditional(opcode, by(target)),
        Flow::Begin(target) => Flow::Begin(by(target)),
        Flow::Call(target) => Flow::Call(by(target)),
        flow => flow,
    };
    let memory = decoded.memory.map(|memory| PcRelative { target: by(memory.target), ..memory });
    Decoded { flow, memory, ..*decoded }
}
