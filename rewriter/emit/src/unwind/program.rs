//! Writing call frame instructions for a given sequence of rows.

use std::ops::Range;
use std::rc::Rc;

use postlink_image::Cie;

use super::UnwindFault;
use super::bytes::{put_sleb, put_uleb};
use super::cfi::cfa;
use super::row::{CfaRule, Row, RowId, Rule};

/// Deepest nesting of remembered states that is written. Compilers nest one deep, and some unwinders
/// keep a small fixed stack (gimli's default holds four rows, the current and the initial one included).
const REMEMBER_DEPTH_MAX: usize = 2;

/// Encodes rows as the instructions of an FDE of `cie`.
///
/// `starts`: from which distance in bytes from the FDE's start on which row of `table` is in force;
/// strictly rising, the first is 0. Row 0 of `table` is the CIE's initial row.
///
/// A change of rows is written as the difference of the two. Where a later change goes back to the row
/// before it, `DW_CFA_remember_state` and `DW_CFA_restore_state` (a byte each) are used if that is
/// shorter than the difference back: that is the usual shape of an epilogue in the middle of a function.
pub(crate) fn encode(cie: &Cie, table: &[Row<'_>], starts: &[(u64, RowId)]) -> Result<Vec<u8>, UnwindFault> {
    let mut changes = Vec::with_capacity(starts.len());
    let mut last: RowId = 0;
    for &(offset, row) in starts {
        if row != last {
            changes.push(Change { offset, from: last, to: row });
            last = row;
        }
    }
    let writer = Writer { cie, table };
    // Most changes are two or three bytes, and one or two to advance.
    let mut bytes = Vec::with_capacity(changes.len() * 4);
    let mut differences: Vec<Range<usize>> = Vec::with_capacity(changes.len());
    for change in &changes {
        let start = bytes.len();
        writer.difference(&mut bytes, writer.row(change.from), writer.row(change.to))?;
        differences.push(start..bytes.len());
    }
    let back = next_return(&changes, table.len());
    // Bytes saved by remembering the row before change `index`, and the change that goes back to it.
    let saving = |index: usize| {
        let restore = back.get(index).copied().flatten()?;
        let (left, returning) = (changes.get(index)?, changes.get(restore)?);
        // Unwinders differ on whether the size of the arguments is part of the remembered state.
        let same_args = writer.row(returning.from).args_size == writer.row(left.from).args_size;
        let saved = differences.get(restore)?.len().checked_sub(2).filter(|&saved| saved > 0)?;
        same_args.then_some((saved, restore))
    };

    let mut out = Vec::with_capacity(bytes.len() + changes.len() * 2);
    let mut offset = 0;
    // Indexes of the changes that will be written as `DW_CFA_restore_state`, innermost last.
    let mut restores: Vec<usize> = Vec::new();
    for (index, (change, difference)) in changes.iter().zip(&differences).enumerate() {
        writer.advance(&mut out, change.offset - offset)?;
        offset = change.offset;
        if restores.last() == Some(&index) {
            restores.pop();
            out.push(cfa::RESTORE_STATE);
            continue;
        }
        let restore = saving(index).filter(|&(saved, restore)| {
            // An interval that starts where this one ends would be cut off: the better one wins.
            restores.len() < REMEMBER_DEPTH_MAX
                && restores.last().is_none_or(|&outer| restore < outer)
                && saving(restore).is_none_or(|(other, _)| other <= saved)
        });
        if let Some((_, restore)) = restore {
            out.push(cfa::REMEMBER_STATE);
            restores.push(restore);
        }
        out.extend_from_slice(bytes.get(difference.clone()).unwrap_or(&[]));
    }
    Ok(out)
}

struct Change {
    offset: u64,
    from: RowId,
    to: RowId,
}

/// For each change, the index of the next change that goes back to the row it leaves.
fn next_return(changes: &[Change], row_count: usize) -> Vec<Option<usize>> {
    let mut next_to: Vec<Option<usize>> = vec![None; row_count];
    let mut back = vec![None; changes.len()];
    for (index, (change, slot)) in changes.iter().zip(&mut back).enumerate().rev() {
        *slot = next_to.get(change.from as usize).copied().flatten();
        if let Some(next) = next_to.get_mut(change.to as usize) {
            *next = Some(index);
        }
    }
    back
}

struct Writer<'a, 'd> {
    cie: &'a Cie,
    table: &'a [Row<'d>],
}

impl<'a, 'd> Writer<'a, 'd> {
    fn row(&self, id: RowId) -> &'a Row<'d> {
        self.table.get(id as usize).expect("row ids are indexes of their table")
    }

    fn advance(&self, out: &mut Vec<u8>, bytes: u64) -> Result<(), UnwindFault> {
        let unrepresentable =
            || UnwindFault::Unrepresentable { what: "location advance", value: bytes.cast_signed() };
        if !bytes.is_multiple_of(self.cie.code_align) {
            return Err(unrepresentable());
        }
        let factored = u32::try_from(bytes / self.cie.code_align).map_err(|_| unrepresentable())?;
        match factored {
            0 => {}
            1..=0x3f => out.push(cfa::ADVANCE_LOC | factored as u8),
            0x40..=0xff => out.extend([cfa::ADVANCE_LOC1, factored as u8]),
            0x100..=0xffff => {
                out.push(cfa::ADVANCE_LOC2);
                out.extend((factored as u16).to_le_bytes());
            }
            _ => {
                out.push(cfa::ADVANCE_LOC4);
                out.extend(factored.to_le_bytes());
            }
        }
        Ok(())
    }

    fn difference(&self, out: &mut Vec<u8>, from: &Row<'_>, to: &Row<'_>) -> Result<(), UnwindFault> {
        if from.cfa != to.cfa {
            self.cfa(out, from.cfa, to.cfa)?;
        }
        if from.args_size != to.args_size {
            out.push(cfa::GNU_ARGS_SIZE);
            put_uleb(out, to.args_size);
        }
        if Rc::ptr_eq(&from.rules, &to.rules) {
            return Ok(());
        }
        // Both are sorted by register; what only one of them has is found by the look-up in the other.
        for &(register, rule) in to.rules.iter() {
            if from.rule(register) != Some(rule) {
                self.rule(out, register, rule)?;
            }
        }
        for &(register, _) in from.rules.iter() {
            if to.rule(register).is_none() {
                // Unspecified can only mean that the CIE says nothing. Where it does, restoring is left
                // alone: DWARF goes back to the CIE's rule, libgcc to none at all.
                match u8::try_from(register) {
                    Ok(register @ 0..=0x3f) => out.push(cfa::RESTORE | register),
                    _ => {
                        out.push(cfa::RESTORE_EXTENDED);
                        put_uleb(out, register);
                    }
                }
            }
        }
        Ok(())
    }

    fn cfa(&self, out: &mut Vec<u8>, from: CfaRule<'_>, to: CfaRule<'_>) -> Result<(), UnwindFault> {
        let (register, offset) = match to {
            CfaRule::RegisterOffset { register, offset } => (register, offset),
            CfaRule::Expression(expression) => {
                out.push(cfa::DEF_CFA_EXPRESSION);
                put_uleb(out, expression.len() as u64);
                out.extend_from_slice(expression);
                return Ok(());
            }
            CfaRule::Unspecified => {
                return Err(UnwindFault::Unrepresentable { what: "missing CFA rule", value: 0 });
            }
        };
        match from {
            CfaRule::RegisterOffset { offset: old, .. } if old == offset => {
                out.push(cfa::DEF_CFA_REGISTER);
                put_uleb(out, register);
            }
            CfaRule::RegisterOffset { register: old, .. } if old == register => {
                match self.unsigned_or_factored("CFA offset", offset)? {
                    Offset::Unsigned(offset) => {
                        out.push(cfa::DEF_CFA_OFFSET);
                        put_uleb(out, offset);
                    }
                    Offset::Factored(factored) => {
                        out.push(cfa::DEF_CFA_OFFSET_SF);
                        put_sleb(out, factored);
                    }
                }
            }
            _ => match self.unsigned_or_factored("CFA offset", offset)? {
                Offset::Unsigned(offset) => {
                    out.push(cfa::DEF_CFA);
                    put_uleb(out, register);
                    put_uleb(out, offset);
                }
                Offset::Factored(factored) => {
                    out.push(cfa::DEF_CFA_SF);
                    put_uleb(out, register);
                    put_sleb(out, factored);
                }
            },
        }
        Ok(())
    }

    fn rule(&self, out: &mut Vec<u8>, register: u64, rule: Rule<'_>) -> Result<(), UnwindFault> {
        match rule {
            Rule::Undefined => {
                out.push(cfa::UNDEFINED);
                put_uleb(out, register);
            }
            Rule::SameValue => {
                out.push(cfa::SAME_VALUE);
                put_uleb(out, register);
            }
            Rule::Register(other) => {
                out.push(cfa::REGISTER);
                put_uleb(out, register);
                put_uleb(out, other);
            }
            Rule::Offset(offset) => {
                let factored = self.factored("register offset", offset)?;
                match (u64::try_from(factored), u8::try_from(register)) {
                    (Ok(factored), Ok(register @ 0..=0x3f)) => {
                        out.push(cfa::OFFSET | register);
                        put_uleb(out, factored);
                    }
                    (Ok(factored), _) => {
                        out.push(cfa::OFFSET_EXTENDED);
                        put_uleb(out, register);
                        put_uleb(out, factored);
                    }
                    (Err(_), _) => {
                        out.push(cfa::OFFSET_EXTENDED_SF);
                        put_uleb(out, register);
                        put_sleb(out, factored);
                    }
                }
            }
            Rule::ValOffset(offset) => {
                let factored = self.factored("register value offset", offset)?;
                out.push(if factored < 0 { cfa::VAL_OFFSET_SF } else { cfa::VAL_OFFSET });
                put_uleb(out, register);
                match u64::try_from(factored) {
                    Ok(factored) => put_uleb(out, factored),
                    Err(_) => put_sleb(out, factored),
                }
            }
            Rule::Expression(expression) | Rule::ValExpression(expression) => {
                let is_value = matches!(rule, Rule::ValExpression(_));
                out.push(if is_value { cfa::VAL_EXPRESSION } else { cfa::EXPRESSION });
                put_uleb(out, register);
                put_uleb(out, expression.len() as u64);
                out.extend_from_slice(expression);
            }
        }
        Ok(())
    }

    /// `offset` divided by the data alignment factor.
    fn factored(&self, what: &'static str, offset: i64) -> Result<i64, UnwindFault> {
        let align = self.cie.data_align;
        let unrepresentable = UnwindFault::Unrepresentable { what, value: offset };
        match (offset, align) {
            (0, _) => Ok(0),
            (_, 0) => Err(unrepresentable),
            _ if offset.checked_rem(align) == Some(0) => offset.checked_div(align).ok_or(unrepresentable),
            _ => Err(unrepresentable),
        }
    }

    fn unsigned_or_factored(&self, what: &'static str, offset: i64) -> Result<Offset, UnwindFault> {
        match u64::try_from(offset) {
            Ok(offset) => Ok(Offset::Unsigned(offset)),
            Err(_) => self.factored(what, offset).map(Offset::Factored),
        }
    }
}

/// A CFA offset as its instruction stores it.
enum Offset {
    Unsigned(u64),
    Factored(i64),
}
