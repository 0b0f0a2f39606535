//! Rows: how to unwind from one address, and the replay of a record into its rows.

use std::rc::Rc;

use postlink_image::{Cie, Fde, Image};
use rustc_hash::FxHashMap;

use super::UnwindFault;
use super::cfi::{Cfi, CfiReader, check_expression};

/// Most registers that one row may have rules for; x86-64 code saves 6, `ms_abi` functions 18.
const RULE_COUNT_MAX: usize = 48;
/// Most different rows of one function.
const ROW_COUNT_MAX: usize = 1 << 14;
/// Deepest nesting of `DW_CFA_remember_state`.
const REMEMBER_DEPTH_MAX: usize = 64;

/// How to find the canonical frame address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum CfaRule<'d> {
    /// Not said yet: only before the first instruction of a CIE.
    #[default]
    Unspecified,
    RegisterOffset { register: u64, offset: i64 },
    Expression(&'d [u8]),
}

/// How to find the caller's value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule<'d> {
    Undefined,
    SameValue,
    /// Saved at this distance from the CFA, in bytes.
    Offset(i64),
    /// Is the CFA plus this.
    ValOffset(i64),
    Register(u64),
    Expression(&'d [u8]),
    ValExpression(&'d [u8]),
}

/// The rules of all registers: sorted by register; what is not there is unspecified.
pub(crate) type Rules<'d> = Vec<(u64, Rule<'d>)>;

/// How to unwind from one address.
///
/// Rows are cloned at every change of the CFA, but the register rules change rarely: they are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Row<'d> {
    pub(crate) cfa: CfaRule<'d>,
    /// Bytes of arguments on the stack that a landing pad must drop (`DW_CFA_GNU_args_size`).
    pub(crate) args_size: u64,
    pub(crate) rules: Rc<Rules<'d>>,
}

impl<'d> Row<'d> {
    pub(crate) fn rule(&self, register: u64) -> Option<Rule<'d>> {
        let index = self.rules.binary_search_by_key(&register, |rule| rule.0).ok()?;
        self.rules.get(index).map(|rule| rule.1)
    }

    fn set(&mut self, register: u64, rule: Option<Rule<'d>>) -> Result<(), UnwindFault> {
        if self.rule(register) == rule {
            return Ok(());
        }
        let rules = Rc::make_mut(&mut self.rules);
        match (rules.binary_search_by_key(&register, |rule| rule.0), rule) {
            (Ok(index), Some(rule)) => rules.splice(index..=index, [(register, rule)]).for_each(drop),
            (Ok(index), None) => drop(rules.remove(index)),
            (Err(index), Some(rule)) => rules.insert(index, (register, rule)),
            (Err(_), None) => {}
        }
        if rules.len() > RULE_COUNT_MAX {
            return Err(UnwindFault::TooMany { what: "register rules", limit: RULE_COUNT_MAX });
        }
        Ok(())
    }
}

/// Index of a row in [`Rows::table`].
pub(crate) type RowId = u32;

/// All rows of one FDE.
pub(crate) struct Rows<'d> {
    /// The different rows. Row 0 is the initial one, after the CIE's instructions.
    pub(crate) table: Vec<Row<'d>>,
    /// From which old address on which row is in force; strictly rising, the first is `pc_begin`.
    pub(crate) starts: Vec<(u64, RowId)>,
}

impl<'d> Rows<'d> {
    /// Replays the instructions of `fde`, or of its CIE alone if `fde` is `None`.
    ///
    /// `DW_CFA_restore_state` does not touch the size of the arguments: that is what libgcc does.
    pub(crate) fn replay(image: &Image<'d>, cie: &Cie, fde: &Fde) -> Result<Self, UnwindFault> {
        let mut initial = Row::default();
        let mut machine = Machine { reader: reader(image, cie, cie.instructions.clone())?, initial: None };
        let mut loc = 0;
        let mut stack = Vec::new();
        while machine.step(&mut initial, &mut loc, &mut stack)? {
            if loc != 0 {
                let what = "a CIE cannot advance the location";
                return Err(UnwindFault::Invalid { what, at: machine.reader.addr() });
            }
        }
        let mut rows = Self { table: vec![initial.clone()], starts: Vec::new() };
        let mut ids = FxHashMap::default();
        let mut row = initial.clone();
        machine = Machine { reader: reader(image, cie, fde.instructions())?, initial: Some(initial) };
        stack.clear();
        loc = fde.pc_begin;
        let mut row_start = loc;
        loop {
            let more = machine.step(&mut row, &mut loc, &mut stack)?;
            if loc == row_start && more {
                continue;
            }
            // The location advanced, which leaves the row as it is, or this is the end: the row was in
            // force from `row_start` on.
            let id = intern(&mut rows.table, &mut ids, &row)?;
            if rows.starts.last().is_none_or(|last| last.1 != id) {
                rows.starts.push((row_start, id));
            }
            if !more {
                return Ok(rows);
            }
            row_start = loc;
        }
    }

    /// Index in `starts` of the row in force at old address `pc`; `None` before the first one.
    pub(crate) fn index_at(&self, pc: u64) -> Option<usize> {
        self.starts.partition_point(|start| start.0 <= pc).checked_sub(1)
    }
}

/// Tables up to this size are searched from the end; most functions have fewer different rows.
const LINEAR_SEARCH_MAX: usize = 16;

/// The index of `row` in `table`, where it is added if it is new. `ids` is filled when searching takes
/// too long.
fn intern<'d>(
    table: &mut Vec<Row<'d>>,
    ids: &mut FxHashMap<Row<'d>, RowId>,
    row: &Row<'d>,
) -> Result<RowId, UnwindFault> {
    let id_of = |index: usize| RowId::try_from(index).unwrap_or(RowId::MAX);
    let known = if table.len() <= LINEAR_SEARCH_MAX {
        table.iter().rposition(|known| known == row).map(id_of)
    } else {
        if ids.is_empty() {
            ids.extend(table.iter().enumerate().map(|(index, known)| (known.clone(), id_of(index))));
        }
        ids.get(row).copied()
    };
    if let Some(id) = known {
        return Ok(id);
    }
    if table.len() >= ROW_COUNT_MAX {
        return Err(UnwindFault::TooMany { what: "different rows", limit: ROW_COUNT_MAX });
    }
    let id = id_of(table.len());
    if !ids.is_empty() {
        ids.insert(row.clone(), id);
    }
    table.push(row.clone());
    Ok(id)
}

fn reader<'d>(
    image: &Image<'d>,
    cie: &Cie,
    range: std::ops::Range<u64>,
) -> Result<CfiReader<'d>, UnwindFault> {
    Ok(CfiReader::new(instructions(image, range.clone())?, range.start, cie))
}

/// The bytes of a record's instructions.
pub(crate) fn instructions<'d>(
    image: &Image<'d>,
    range: std::ops::Range<u64>,
) -> Result<&'d [u8], UnwindFault> {
    if range.is_empty() {
        return Ok(&[]);
    }
    let what = "call frame instructions";
    let missing = postlink_image::UnwindError::NoContent { what, at: range.start };
    Ok(image.bytes_at(range.start, range.end - range.start).ok_or(missing)?)
}

struct Machine<'d> {
    reader: CfiReader<'d>,
    /// What `DW_CFA_restore` goes back to; `None` while the CIE itself is replayed.
    initial: Option<Row<'d>>,
}

impl<'d> Machine<'d> {
    /// Executes one instruction; `false` at the end.
    fn step(
        &mut self,
        row: &mut Row<'d>,
        loc: &mut u64,
        stack: &mut Vec<(CfaRule<'d>, Rc<Rules<'d>>)>,
    ) -> Result<bool, UnwindFault> {
        let at = self.reader.addr();
        let invalid = |what| UnwindFault::Invalid { what, at };
        let Some(instruction) = self.reader.next()? else { return Ok(false) };
        match instruction {
            Cfi::Nop => {}
            Cfi::Advance(bytes) => {
                *loc = loc.checked_add(bytes).ok_or_else(|| invalid("the location leaves the address space"))?;
            }
            Cfi::SetLoc(target) => {
                if target < *loc {
                    return Err(invalid("the location goes back"));
                }
                *loc = target;
            }
            Cfi::DefCfa { register, offset } => row.cfa = CfaRule::RegisterOffset { register, offset },
            Cfi::DefCfaRegister(register) => match &mut row.cfa {
                CfaRule::RegisterOffset { register: old, .. } => *old = register,
                _ => return Err(invalid("there is no CFA register to replace")),
            },
            Cfi::DefCfaOffset(offset) => match &mut row.cfa {
                CfaRule::RegisterOffset { offset: old, .. } => *old = offset,
                _ => return Err(invalid("there is no CFA offset to replace")),
            },
            Cfi::DefCfaExpression(expression) => {
                check_expression(expression)?;
                row.cfa = CfaRule::Expression(expression);
            }
            Cfi::Set(register, rule) => {
                if let Rule::Expression(expression) | Rule::ValExpression(expression) = rule {
                    check_expression(expression)?;
                }
                row.set(register, Some(rule))?;
            }
            Cfi::Restore(register) => {
                let initial = self.initial.as_ref().ok_or_else(|| invalid("nothing to restore in a CIE"))?;
                row.set(register, initial.rule(register))?;
            }
            Cfi::RememberState => {
                if stack.len() >= REMEMBER_DEPTH_MAX {
                    return Err(UnwindFault::TooMany { what: "remembered states", limit: REMEMBER_DEPTH_MAX });
                }
                stack.push((row.cfa, Rc::clone(&row.rules)));
            }
            Cfi::RestoreState => {
                let saved = stack.pop().ok_or_else(|| invalid("there is no remembered state"))?;
                (row.cfa, row.rules) = saved;
            }
            Cfi::ArgsSize(size) => row.args_size = size,
        }
        Ok(true)
    }
}
