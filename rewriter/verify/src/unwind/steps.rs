//! Call-frame instructions as compilers write them for x86-64, run from their bytes.
//!
//! A large program has millions of them, and few kinds: what moves the CFA, saves registers, and remembers and
//! restores a row (DWARF 5, 6.4.2 and table 7.29). Whatever else there is, is gimli's, and so is all that is wrong.

use gimli::{CallFrameInstruction, RegisterRule};

use super::digests::{RowDigests, rule_digest};

/// Registers that have rules: the general ones, and the return address.
const REGISTERS: usize = 17;

/// Rows that are remembered at a time; gimli has room for two at least.
const DEPTH: usize = 2;

/// One row.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Register and offset of the CFA.
    cfa: (u16, i64),
    args_size: u64,
    /// Digest of each register's rule, 0 for none.
    rules: [u64; REGISTERS],
    /// Sum of `rules`.
    sum: u64,
}

/// What the frames of a CIE start with.
#[derive(Clone, Debug)]
pub(super) struct Start {
    row: Row,
    data_factor: i64,
}

/// Reads numbers and bytes one after the other.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    /// A LEB128 number of 28 bits at most.
    #[inline]
    fn number(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl Row {
    const fn empty() -> Self {
        Self { cfa: (0, 0), args_size: 0, rules: [0; REGISTERS], sum: 0 }
    }

    #[inline]
    fn set(&mut self, register: u32, digest: u64) -> Option<()> {
        let rule = self.rules.get_mut(register as usize)?;
        self.sum = self.sum.wrapping_add(digest).wrapping_sub(*rule);
        *rule = digest;
        Some(())
    }

    fn save(&mut self, register: u32, factored: u32, data_factor: i64) -> Option<()> {
        let offset = i64::from(factored).wrapping_mul(data_factor);
        let register_number = u16::try_from(register).ok()?;
        self.set(register, rule_digest(register_number, &RegisterRule::Offset(offset))?)
    }
}

impl Start {
    /// Of a CIE with these factors and initial instructions; `None` if one of them is unusual.
    pub(super) fn new(
        code_factor: u64,
        data_factor: i64,
        initial: impl Iterator<Item = Option<CallFrameInstruction<usize>>>,
    ) -> Option<Self> {
        let mut row = Row::empty();
        for instruction in initial {
            match instruction? {
                CallFrameInstruction::Nop => {}
                CallFrameInstruction::DefCfa { register, offset } => row.cfa = (register.0, i64::from(u32::try_from(offset).ok()?)),
                CallFrameInstruction::Offset { register, factored_offset } => {
                    row.save(register.0.into(), u32::try_from(factored_offset).ok()?, data_factor)?;
                }
                _ => return None,
            }
        }
        (code_factor == 1).then_some(Self { row, data_factor })
    }

    /// Runs `instructions` for the code `start..end` and gives its rows to `digests`. `None`: there is an unusual
    /// instruction, or something is wrong; some rows may have been given.
    pub(super) fn run(&self, instructions: &[u8], (start, end): (u64, u64), digests: &mut RowDigests<'_>) -> Option<()> {
        let mut bytes = Bytes(instructions);
        let (mut row, mut remembered, mut depth) = (self.row, [Row::empty(); DEPTH], 0usize);
        let mut at = start;
        let mut go = |row: &Row, delta: u32| {
            let next = at.checked_add(u64::from(delta))?;
            digests.add(at, next.min(end), row.args_size, row.cfa, row.sum);
            at = next;
            Some(())
        };
        while !bytes.0.is_empty() {
            let [opcode] = bytes.fixed()?;
            let low = u32::from(opcode & 0x3f);
            match opcode {
                0x40..=0x7f => go(&row, low)?,
                0x80..=0xbf => row.save(low, bytes.number()?, self.data_factor)?,
                0xc0..=0xff => row.set(low, *self.row.rules.get(low as usize)?)?,
                // nop
                0x00 => {}
                // advance_loc1, 2 and 4
                0x02 => go(&row, u8::from_le_bytes(bytes.fixed()?).into())?,
                0x03 => go(&row, u16::from_le_bytes(bytes.fixed()?).into())?,
                0x04 => go(&row, u32::from_le_bytes(bytes.fixed()?))?,
                // remember_state, restore_state
                0x0a => {
                    *remembered.get_mut(depth)? = row;
                    depth += 1;
                }
                0x0b => {
                    depth = depth.checked_sub(1)?;
                    row = *remembered.get(depth)?;
                }
                // def_cfa, def_cfa_register, def_cfa_offset
                0x0c => row.cfa = (u16::try_from(bytes.number()?).ok()?, bytes.number()?.into()),
                0x0d => row.cfa.0 = u16::try_from(bytes.number()?).ok()?,
                0x0e => row.cfa.1 = bytes.number()?.into(),
                // GNU_args_size
                0x2e => row.args_size = bytes.number()?.into(),
                _ => return None,
            }
        }
        digests.add(at, end, row.args_size, row.cfa, row.sum);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::{frames_of, rows_by_gimli, rows_of};
    use arbtest::arbitrary::{Result, Unstructured};

    /// Instructions as compilers write them, and now and then another byte.
    fn instructions(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for _ in 0..u.int_in_range(0..=24)? {
            let small = u.int_in_range(0..=0x3fu8)?;
            let register = u.int_in_range(0..=17u8)?;
            match u.int_in_range(0..=40u8)? {
                0..=9 => bytes.push(0x40 | small),
                10..=14 => bytes.extend([0x80 | register, small]),
                15..=17 => bytes.push(0xc0 | register),
                18..=22 => bytes.extend([0x0e, small]),
                23..=25 => bytes.extend([0x0d, register]),
                26..=28 => bytes.extend([0x0c, register, small]),
                29..=31 => bytes.push(0x0a),
                32..=34 => bytes.push(0x0b),
                35 => bytes.extend([0x02, u.arbitrary()?]),
                36 => bytes.extend([0x03, u.arbitrary()?, u.int_in_range(0..=1)?]),
                37 => bytes.extend([0x04, u.arbitrary()?, 0, 0, u.arbitrary()?]),
                38 => bytes.extend([0x2e, 0x80 | small, u.arbitrary()?]),
                39 => bytes.push(0),
                _ => bytes.push(u.arbitrary()?),
            }
        }
        Ok(bytes)
    }

    #[test]
    fn rows_are_those_of_gimli() {
        let (mut same, mut by_bytes) = (0u32, 0u32);
        arbtest::arbtest(|u| {
            let initial = if u.ratio(1, 4)? { instructions(u)? } else { vec![0x0c, 7, 8, 0x90, 1, 0, 0] };
            let size = u32::from(u.arbitrary::<u16>()? % 700);
            let frames = frames_of(*u.choose(&[1, 1, 1, 2])?, *u.choose(&[0x78u8, 0x78, 0x7c, 8])?, &initial, size, &instructions(u)?);
            let Some(frames) = frames else { return Ok(()) };
            let gimlis = rows_by_gimli(&frames);
            if let Some(rows) = rows_of(&frames) {
                assert_eq!(gimlis.as_ref(), Ok(&rows));
                by_bytes += 1;
            }
            same += 1;
            Ok(())
        })
        .budget_ms(1000);
        // How many there are depends on the machine; of few, no share can be told.
        assert!(by_bytes > 0 && (same < 200 || by_bytes > same / 6), "{by_bytes} of {same}");
    }
}
