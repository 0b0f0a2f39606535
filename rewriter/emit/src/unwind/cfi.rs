//! Decoding call frame instructions (DWARF 5, section 6.4.2, and the GNU extensions).

use postlink_image::{Cie, UnwindCursor, UnwindError};

use super::UnwindFault;
use super::row::Rule;

/// Opcodes.
pub(crate) mod cfa {
    pub(crate) const ADVANCE_LOC: u8 = 0x40;
    pub(crate) const OFFSET: u8 = 0x80;
    pub(crate) const RESTORE: u8 = 0xc0;
    pub(crate) const NOP: u8 = 0x00;
    pub(crate) const SET_LOC: u8 = 0x01;
    pub(crate) const ADVANCE_LOC1: u8 = 0x02;
    pub(crate) const ADVANCE_LOC2: u8 = 0x03;
    pub(crate) const ADVANCE_LOC4: u8 = 0x04;
    pub(crate) const OFFSET_EXTENDED: u8 = 0x05;
    pub(crate) const RESTORE_EXTENDED: u8 = 0x06;
    pub(crate) const UNDEFINED: u8 = 0x07;
    pub(crate) const SAME_VALUE: u8 = 0x08;
    pub(crate) const REGISTER: u8 = 0x09;
    pub(crate) const REMEMBER_STATE: u8 = 0x0a;
    pub(crate) const RESTORE_STATE: u8 = 0x0b;
    pub(crate) const DEF_CFA: u8 = 0x0c;
    pub(crate) const DEF_CFA_REGISTER: u8 = 0x0d;
    pub(crate) const DEF_CFA_OFFSET: u8 = 0x0e;
    pub(crate) const DEF_CFA_EXPRESSION: u8 = 0x0f;
    pub(crate) const EXPRESSION: u8 = 0x10;
    pub(crate) const OFFSET_EXTENDED_SF: u8 = 0x11;
    pub(crate) const DEF_CFA_SF: u8 = 0x12;
    pub(crate) const DEF_CFA_OFFSET_SF: u8 = 0x13;
    pub(crate) const VAL_OFFSET: u8 = 0x14;
    pub(crate) const VAL_OFFSET_SF: u8 = 0x15;
    pub(crate) const VAL_EXPRESSION: u8 = 0x16;
    pub(crate) const GNU_ARGS_SIZE: u8 = 0x2e;
    pub(crate) const GNU_NEGATIVE_OFFSET_EXTENDED: u8 = 0x2f;
}

/// One call frame instruction; offsets are in bytes, alignment factors multiplied in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cfi<'d> {
    Nop,
    Advance(u64),
    SetLoc(u64),
    DefCfa { register: u64, offset: i64 },
    DefCfaRegister(u64),
    DefCfaOffset(i64),
    DefCfaExpression(&'d [u8]),
    Set(u64, Rule<'d>),
    Restore(u64),
    RememberState,
    RestoreState,
    ArgsSize(u64),
}

/// Reads the instructions of one record.
pub(crate) struct CfiReader<'d> {
    cursor: UnwindCursor<'d>,
    code_align: u64,
    data_align: i64,
    pointer_encoding: u8,
}

impl<'d> CfiReader<'d> {
    /// `bytes` are instructions at address `addr` of `cie` or of an FDE that belongs to it.
    pub(crate) fn new(bytes: &'d [u8], addr: u64, cie: &Cie) -> Self {
        Self {
            cursor: UnwindCursor::new(bytes, addr),
            code_align: cie.code_align,
            data_align: cie.data_align,
            pointer_encoding: cie.fde_encoding,
        }
    }

    /// Address of the next instruction.
    pub(crate) const fn addr(&self) -> u64 {
        self.cursor.addr()
    }

    /// The next instruction, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Cfi<'d>>, UnwindError> {
        if self.cursor.is_empty() {
            return Ok(None);
        }
        let at = self.cursor.addr();
        let opcode = self.cursor.u8("call frame instruction")?;
        let low = u64::from(opcode & 0x3f);
        let cursor = &mut self.cursor;
        let instruction = match opcode & 0xc0 {
            cfa::ADVANCE_LOC => self.advance(low, at)?,
            cfa::OFFSET => {
                let factored = cursor.uleb("DW_CFA_offset")?;
                Cfi::Set(low, Rule::Offset(self.unsigned(factored, at)?))
            }
            cfa::RESTORE => Cfi::Restore(low),
            _ => self.extended(opcode, at)?,
        };
        Ok(Some(instruction))
    }

    fn extended(&mut self, opcode: u8, at: u64) -> Result<Cfi<'d>, UnwindError> {
        let cursor = &mut self.cursor;
        Ok(match opcode {
            cfa::NOP => Cfi::Nop,
            cfa::SET_LOC => {
                Cfi::SetLoc(cursor.pointer(self.pointer_encoding, None, "DW_CFA_set_loc")?.unwrap_or(0))
            }
            cfa::ADVANCE_LOC1 => {
                let factored = cursor.u8("DW_CFA_advance_loc1")?;
                self.advance(factored.into(), at)?
            }
            cfa::ADVANCE_LOC2 => {
                let factored = cursor.u16("DW_CFA_advance_loc2")?;
                self.advance(factored.into(), at)?
            }
            cfa::ADVANCE_LOC4 => {
                let factored = cursor.u32("DW_CFA_advance_loc4")?;
                self.advance(factored.into(), at)?
            }
            cfa::OFFSET_EXTENDED | cfa::VAL_OFFSET | cfa::GNU_NEGATIVE_OFFSET_EXTENDED => {
                let register = cursor.uleb("register")?;
                let factored = cursor.uleb("offset")?;
                let offset = self.unsigned(factored, at)?;
                let rule = match opcode {
                    cfa::OFFSET_EXTENDED => Rule::Offset(offset),
                    cfa::VAL_OFFSET => Rule::ValOffset(offset),
                    _ => Rule::Offset(offset.checked_neg().ok_or_else(|| overflow(at))?),
                };
                Cfi::Set(register, rule)
            }
            cfa::OFFSET_EXTENDED_SF | cfa::VAL_OFFSET_SF => {
                let register = cursor.uleb("register")?;
                let factored = cursor.sleb("offset")?;
                let offset = self.signed(factored, at)?;
                Cfi::Set(
                    register,
                    if opcode == cfa::VAL_OFFSET_SF { Rule::ValOffset(offset) } else { Rule::Offset(offset) },
                )
            }
            cfa::RESTORE_EXTENDED => Cfi::Restore(cursor.uleb("register")?),
            cfa::UNDEFINED => Cfi::Set(cursor.uleb("register")?, Rule::Undefined),
            cfa::SAME_VALUE => Cfi::Set(cursor.uleb("register")?, Rule::SameValue),
            cfa::REGISTER => {
                let register = cursor.uleb("register")?;
                Cfi::Set(register, Rule::Register(cursor.uleb("register")?))
            }
            cfa::EXPRESSION | cfa::VAL_EXPRESSION => {
                let register = cursor.uleb("register")?;
                let length = cursor.uleb("expression length")?;
                let expression = cursor.take(length, "expression")?;
                Cfi::Set(
                    register,
                    match opcode {
                        cfa::EXPRESSION => Rule::Expression(expression),
                        _ => Rule::ValExpression(expression),
                    },
                )
            }
            cfa::REMEMBER_STATE => Cfi::RememberState,
            cfa::RESTORE_STATE => Cfi::RestoreState,
            cfa::DEF_CFA => {
                let register = cursor.uleb("register")?;
                let offset = cursor.uleb("CFA offset")?;
                Cfi::DefCfa { register, offset: positive(offset, at)? }
            }
            cfa::DEF_CFA_SF => {
                let register = cursor.uleb("register")?;
                let factored = cursor.sleb("CFA offset")?;
                Cfi::DefCfa { register, offset: self.signed(factored, at)? }
            }
            cfa::DEF_CFA_REGISTER => Cfi::DefCfaRegister(cursor.uleb("register")?),
            cfa::DEF_CFA_OFFSET => Cfi::DefCfaOffset(positive(cursor.uleb("CFA offset")?, at)?),
            cfa::DEF_CFA_OFFSET_SF => {
                let factored = cursor.sleb("CFA offset")?;
                Cfi::DefCfaOffset(self.signed(factored, at)?)
            }
            cfa::DEF_CFA_EXPRESSION => {
                let length = cursor.uleb("expression length")?;
                Cfi::DefCfaExpression(cursor.take(length, "expression")?)
            }
            cfa::GNU_ARGS_SIZE => Cfi::ArgsSize(cursor.uleb("DW_CFA_GNU_args_size")?),
            _ => {
                let (what, expected) = ("call frame instruction", "a DWARF 5 or GNU opcode of x86-64");
                return Err(UnwindError::Value { what, at, value: opcode.into(), expected });
            }
        })
    }

    fn advance(&self, factored: u64, at: u64) -> Result<Cfi<'d>, UnwindError> {
        factored.checked_mul(self.code_align).map(Cfi::Advance).ok_or_else(|| overflow(at))
    }
    fn unsigned(&self, factored: u64, at: u64) -> Result<i64, UnwindError> {
        self.signed(positive(factored, at)?, at)
    }
    fn signed(&self, factored: i64, at: u64) -> Result<i64, UnwindError> {
        factored.checked_mul(self.data_align).ok_or_else(|| overflow(at))
    }
}

fn positive(value: u64, at: u64) -> Result<i64, UnwindError> {
    i64::try_from(value).map_err(|_| overflow(at))
}

const fn overflow(at: u64) -> UnwindError {
    UnwindError::Value { what: "call frame instruction", at, value: 0, expected: "offsets of 63 bits" }
}

/// What one must know of a program before it is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Bytes up to the end of the last instruction that is no NOP.
    pub(crate) used: usize,
    /// Whether it sets addresses, so that its bytes depend on where they are.
    pub(crate) sets_loc: bool,
    /// First operation of an expression that makes it unfit for moved code.
    pub(crate) position_dependent: Option<u8>,
}

/// Decodes all instructions once.
pub(crate) fn scan(bytes: &[u8], addr: u64, cie: &Cie) -> Result<Scan, UnwindError> {
    let mut reader = CfiReader::new(bytes, addr, cie);
    let mut scan = Scan::default();
    while let Some(instruction) = reader.next()? {
        let expression = match instruction {
            Cfi::Nop => continue,
            Cfi::SetLoc(_) => {
                scan.sets_loc = true;
                None
            }
            Cfi::DefCfaExpression(expression)
            | Cfi::Set(_, Rule::Expression(expression) | Rule::ValExpression(expression)) => Some(expression),
            _ => None,
        };
        scan.used = usize::try_from(reader.addr() - addr).unwrap_or(bytes.len());
        if let Some(UnwindFault::PositionDependent { operation }) =
            expression.and_then(|expression| check_expression(expression).err())
        {
            scan.position_dependent.get_or_insert(operation);
        }
    }
    Ok(scan)
}

/// Refuses expressions that read the instruction pointer (the PLT's do) or contain addresses.
///
/// # Errors
/// [`UnwindFault::PositionDependent`], also for operations that are not known here.
pub(crate) fn check_expression(expression: &[u8]) -> Result<(), UnwindFault> {
    /// DWARF number of the return address column, which stands for `rip`.
    const RIP: u64 = 16;
    let mut cursor = UnwindCursor::new(expression, 0);
    while !cursor.is_empty() {
        let operation = cursor.u8("operation")?;
        let refuse = UnwindFault::PositionDependent { operation };
        match operation {
            // deref, dup, drop, over, swap ... xderef, abs ... plus, shl ... xor, eq ... ne, lit, reg, nop
            0x06 | 0x12..=0x14 | 0x16..=0x22 | 0x24..=0x27 | 0x29..=0x2e | 0x30..=0x6f | 0x96 => {}
            // const1u, const1s, pick, deref_size
            0x08 | 0x09 | 0x15 | 0x94 => drop(cursor.take(1, "operand")?),
            // const2u, const2s, bra, skip
            0x0a | 0x0b | 0x28 | 0x2f => drop(cursor.take(2, "operand")?),
            0x0c | 0x0d => drop(cursor.take(4, "operand")?),
            0x0e | 0x0f => drop(cursor.take(8, "operand")?),
            // constu, plus_uconst
            0x10 | 0x23 => drop(cursor.uleb("operand")?),
            // consts
            0x11 => drop(cursor.sleb("operand")?),
            // breg
            0x70..=0x8f if u64::from(operation - 0x70) != RIP => drop(cursor.sleb("operand")?),
            // bregx
            0x92 => {
                let register = cursor.uleb("operand")?;
                cursor.sleb("operand")?;
                if register == RIP {
                    return Err(refuse);
                }
            }
            _ => return Err(refuse),
        }
    }
    Ok(())
}
