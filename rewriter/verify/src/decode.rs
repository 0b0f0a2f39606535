//! One instruction, as far as the proof has to understand it.
//!
//! yaxpeax-x86 says how long an instruction is, what it does to control flow and which operands it
//! has; it does not say where an operand's bytes stand. For that the prefixes and opcode are
//! scanned here, and the field that is found must hold the displacement that yaxpeax decoded: two
//! readings that have to agree.

mod heads;
mod shape;

use yaxpeax_arch::{Decoder as _, LengthedInstruction as _, U8Reader};
use yaxpeax_x86::amd64::{InstDecoder, Instruction, Opcode, Operand, RegSpec};

pub(crate) use heads::Form;
use heads::Heads;
use shape::shape;

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next instruction.
    Next,
    /// To the next instruction, and nothing else happens.
    Nop,
    /// To a fixed place, and nothing else happens.
    Jump(u64),
    /// `jcc`: condition code as encoded (bit 0 inverts it), target.
    Conditional(u8, u64),
    /// `loop*`, `j*cxz`: opcode byte, target. Reach only 127 bytes and have no inverse.
    ShortConditional(u8, u64),
    /// `xbegin`: to the next instruction, or to the abort handler.
    Begin(u64),
    /// Direct call.
    Call(u64),
    /// Indirect call.
    IndirectCall,
    /// Indirect jump.
    IndirectJump,
    /// Return, or an instruction after which nothing is executed (`ud2`, `hlt`).
    End,
}

/// A PC-relative memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PcRelative {
    /// Offset of the four displacement bytes in the instruction.
    pub(crate) at: u8,
    /// The address it designates.
    pub(crate) target: u64,
    /// Whether the address itself is taken (`lea`), not what is stored there.
    pub(crate) taken: bool,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Length in bytes, 1 to 15.
    pub(crate) len: u8,
    /// Control flow.
    pub(crate) flow: Flow,
    /// PC-relative memory operand.
    pub(crate) memory: Option<PcRelative>,
    /// Whether it is `endbr64`.
    pub(crate) is_endbr: bool,
}

/// Why bytes could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// yaxpeax does not know the instruction, or the bytes end.
    Unknown,
    /// The two readings of a PC-relative operand differ.
    Disagreement,
}

/// The decoder; cheap to create, one per thread.
pub(crate) struct Eyes {
    plain: Plain,
    heads: Heads,
}

/// yaxpeax, and the instruction that it read last.
struct Plain {
    decoder: InstDecoder,
    instruction: Instruction,
}

impl Eyes {
    pub(crate) fn new() -> Self {
        let plain = Plain { decoder: InstDecoder::default(), instruction: Instruction::default() };
        Self { plain, heads: Heads::new() }
    }

    /// Decodes the first instruction of `bytes`, which stands at `addr`.
    #[inline]
    pub(crate) fn decode(&mut self, bytes: &[u8], addr: u64) -> Result<Decoded, Undecodable> {
        let Some(whole) = bytes.first_chunk::<16>() else { return self.decode_short(bytes, addr) };
        match self.heads.form(whole) {
            Some(form) => Ok(form.read(whole, addr)),
            None => self.learn(whole, addr),
        }
    }

    /// The same for bytes behind which there are no others: what is in them does not depend on those.
    fn decode_short(&mut self, bytes: &[u8], addr: u64) -> Result<Decoded, Undecodable> {
        let mut whole = [0u8; 16];
        whole.iter_mut().zip(bytes).for_each(|(byte, known)| *byte = *known);
        match self.decode(&whole, addr) {
            Ok(decoded) if usize::from(decoded.len) <= bytes.len() => Ok(decoded),
            _ => self.plain.decode(bytes, addr),
        }
    }

    /// The form of the first instruction of `bytes`, if one of its kind was decoded before.
    #[inline]
    pub(crate) fn form(&self, bytes: &[u8; 16]) -> Option<Form> {
        self.heads.form(bytes)
    }

    #[cold]
    fn learn(&mut self, bytes: &[u8; 16], addr: u64) -> Result<Decoded, Undecodable> {
        let Self { plain, heads } = self;
        heads.learn(bytes, addr, |bytes, addr| plain.decode(bytes, addr))
    }

    /// Disassembles the first instruction of `bytes` for people.
    pub(crate) fn text(&mut self, bytes: &[u8], addr: u64) -> String {
        let known = self.plain.decode(bytes, addr);
        let by_yaxpeax = self.plain.decoder.decode_slice(bytes).is_ok();
        let Some(decoded) = known.ok().filter(|_| by_yaxpeax) else {
            let shown = bytes.get(..bytes.len().min(8)).unwrap_or(&[]);
            return format!("(bytes {})", hex(shown));
        };
        let target = match (decoded.flow, decoded.memory) {
            (
                Flow::Jump(target)
                | Flow::Conditional(_, target)
                | Flow::ShortConditional(_, target)
                | Flow::Begin(target)
                | Flow::Call(target),
                _,
            ) => format!("  -> {target:#x}"),
            (_, Some(memory)) => format!("  [{:#x}]", memory.target),
            _ => String::new(),
        };
        format!("{}{target}", self.plain.instruction)
    }
}

impl Plain {
    /// Decodes with yaxpeax.
    fn decode(&mut self, bytes: &[u8], addr: u64) -> Result<Decoded, Undecodable> {
        let mut reader = U8Reader::new(bytes);
        let inst = &mut self.instruction;
        if self.decoder.decode_into(inst, &mut reader).is_err() {
            return vector_only(bytes, addr).or_else(|| padlock(bytes)).ok_or(Undecodable::Unknown);
        }
        let len = u8::try_from(inst.len().to_const_len()).map_err(|_| Undecodable::Unknown)?;
        let Some(bytes) = bytes.get(..usize::from(len)) else { return Err(Undecodable::Unknown) };
        let next = addr.wrapping_add(u64::from(len));
        let shape = shape(bytes);
        let opcode = inst.opcode();
        let mut is_endbr = false;
        let flow = match opcode {
            Opcode::NOP if shape.is_nop() => Flow::Nop,
            Opcode::JMP => relative(inst, next).map_or(Flow::IndirectJump, Flow::Jump),
            Opcode::CALL => relative(inst, next).map_or(Flow::IndirectCall, Flow::Call),
            Opcode::JMPF | Opcode::JMPE => Flow::IndirectJump,
            Opcode::CALLF => Flow::IndirectCall,
            Opcode::RETURN
            | Opcode::RETF
            | Opcode::IRET
            | Opcode::IRETD
            | Opcode::IRETQ
            | Opcode::UIRET
            | Opcode::SYSRET
            | Opcode::SYSEXIT
            | Opcode::UD0
            | Opcode::UD1
            | Opcode::UD2
            | Opcode::HLT => Flow::End,
            // yaxpeax tells `jecxz` from `jrcxz`; so do the bytes, by their prefix.
            _ if shape.is_short_conditional() => {
                Flow::ShortConditional(shape.opcode, relative(inst, next).ok_or(Undecodable::Disagreement)?)
            }
            Opcode::XBEGIN => Flow::Begin(relative(inst, next).ok_or(Undecodable::Unknown)?),
            Opcode::ENDBR64 => {
                is_endbr = true;
                Flow::Next
            }
            _ if shape.is_conditional_jump() => {
                if !opcode.is_jcc() {
                    return Err(Undecodable::Disagreement);
                }
                Flow::Conditional(shape.opcode & 0xf, relative(inst, next).ok_or(Undecodable::Unknown)?)
            }
            _ if opcode.is_jcc() || shape.is_relative() => return Err(Undecodable::Disagreement),
            _ => Flow::Next,
        };
        let memory = match pc_relative(inst) {
            None => None,
            Some(displacement) => {
                // The field follows the ModRM byte, which follows the opcode.
                let at = shape.opcode_at + 2;
                let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
                if field.map(|field| i32::from_le_bytes(*field)) != Some(displacement) {
                    return Err(Undecodable::Disagreement);
                }
                let target = next.wrapping_add_signed(i64::from(displacement));
                let target = if shape.address_size { target & 0xffff_ffff } else { target };
                let at = u8::try_from(at).map_err(|_| Undecodable::Disagreement)?;
                Some(PcRelative { at, target, taken: opcode == Opcode::LEA })
            }
        };
        Ok(Decoded { len, flow, memory, is_endbr })
    }
}

/// VIA PadLock, which libgcrypt and OpenSSL use: no operands but registers (PadLock Programming Guide, 1.60).
fn padlock(bytes: &[u8]) -> Option<Decoded> {
    let is_repeated = bytes.first() == Some(&0xf3);
    let opcode = bytes.get(usize::from(is_repeated)..)?.first_chunk::<3>()?;
    let is_known = match opcode {
        // xstore has a form without a prefix.
        [0x0f, 0xa7, 0xc0] => true,
        // montmul, xsha1, xsha256; xcrypt in its five modes.
        [0x0f, 0xa6, 0xc0 | 0xc8 | 0xd0] | [0x0f, 0xa7, 0xc8 | 0xd0 | 0xd8 | 0xe0 | 0xe8] => is_repeated,
        _ => false,
    };
    is_known.then(|| Decoded { len: 3 + u8::from(is_repeated), flow: Flow::Next, memory: None, is_endbr: false })
}

/// A vector instruction that yaxpeax does not know (2.2.0: `kmovw k1, r9d` and its like, and all of XOP). None of
/// them changes control flow, and their length follows from prefix, opcode map and ModRM alone
/// (Intel SDM volume 2, 2.3.5 and 2.7.1; AMD APM volume 4, 1.2.5). Other maps have instructions of other kinds (APX).
fn vector_only(bytes: &[u8], addr: u64) -> Option<Decoded> {
    let shape = shape(bytes);
    // No prefix of the old kind may stand before VEX and EVEX, but for segments and address size.
    let lead = bytes.first().copied()?;
    if !shape.vector || !matches!((lead, shape.map), (0xc4 | 0xc5, 1..=3) | (0x62, 1..=3 | 5 | 6) | (0x8f, 8..=10)) {
        return None;
    }
    let modrm_at = shape.opcode_at + 1;
    let modrm = bytes.get(modrm_at).copied()?;
    let (mode, base) = (modrm >> 6, modrm & 7);
    let mut len = modrm_at + 1;
    let mut memory_at = None;
    if mode != 3 {
        let sib = (base == 4).then(|| bytes.get(len).copied());
        len += usize::from(sib.is_some());
        len += match (mode, base, sib) {
            (1, ..) => 1,
            (2, ..) => 4,
            (_, 5, _) => {
                memory_at = Some(len);
                4
            }
            (_, _, Some(sib)) if sib? & 7 == 5 => 4,
            _ => 0,
        };
    }
    len += match (shape.map, shape.opcode) {
        (3 | 8, _) | (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) => 1,
        (10, _) => 4,
        _ => 0,
    };
    bytes.get(..len)?;
    let next = addr.wrapping_add(len as u64);
    let memory = match memory_at {
        None => None,
        Some(at) => {
            let field = bytes.get(at..)?.first_chunk::<4>()?;
            let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes(*field)));
            Some(PcRelative { at: u8::try_from(at).ok()?, target, taken: false })
        }
    };
    Some(Decoded { len: u8::try_from(len).ok()?, flow: Flow::Next, memory, is_endbr: false })
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Target of a relative branch operand.
fn relative(inst: &Instruction, next: u64) -> Option<u64> {
    match inst.operand(0) {
        Operand::ImmediateI8 { imm } => Some(next.wrapping_add_signed(i64::from(imm))),
        Operand::ImmediateI32 { imm } => Some(next.wrapping_add_signed(i64::from(imm))),
        _ => None,
    }
}

/// Displacement of a memory operand relative to the instruction pointer.
fn pc_relative(inst: &Instruction) -> Option<i32> {
    const RIP: RegSpec = RegSpec::rip();
    const EIP: RegSpec = RegSpec::eip();
    for index in 0..inst.operand_count() {
        match inst.operand(index) {
            Operand::MemDeref { base } | Operand::MemDerefMasked { base, .. } if base == RIP || base == EIP => {
                return Some(0);
            }
            Operand::Disp { base, disp } | Operand::DispMasked { base, disp, .. } if base == RIP || base == EIP => {
                return Some(disp);
            }
            _ => {}
        }
    }
    None
}

/// yaxpeax gives a length as an address difference; it never exceeds 15.
trait ConstLen {
    fn to_const_len(self) -> u64;
}

impl ConstLen for yaxpeax_arch::AddressDiff<u64> {
    fn to_const_len(self) -> u64 {
        use yaxpeax_arch::AddressBase as _;
        0u64.wrapping_offset(self).to_linear() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], flow: Flow, memory: Option<(u8, u64)>) {
        let mut padded = bytes.to_vec();
        padded.extend([0xcc; 16]);
        let decoded = Eyes::new().decode(&padded, 0x1000).unwrap();
        assert_eq!(usize::from(decoded.len), bytes.len(), "{}", hex(bytes));
        assert_eq!(decoded.flow, flow, "{}", hex(bytes));
        assert_eq!(decoded.memory.map(|memory| (memory.at, memory.target)), memory, "{}", hex(bytes));
    }

    #[test]
    fn xop_instructions() {
        check(&[0x8f, 0xe8, 0x78, 0x97, 0xd1, 0x20], Flow::Next, None); // vpmacsdql
        check(&[0x8f, 0xe9, 0x78, 0xe2, 0xc1], Flow::Next, None); // vphsubwd
        check(&[0x8f, 0xe8, 0x68, 0xa2, 0x1d, 0x10, 0, 0, 0, 0x20], Flow::Next, Some((5, 0x101a))); // vpcmov
        check(&[0x8f, 0xea, 0x78, 0x10, 0x0d, 0, 0x10, 0, 0, 4, 0, 0, 0], Flow::Next, Some((5, 0x200d))); // bextr
        // APX has other instructions behind EVEX: `adc $1, %eax`.
        assert_eq!(Eyes::new().decode(&[0x62, 0xf4, 0x7c, 0x08, 0x83, 0xd0, 0x01, 0x90], 0x1000), Err(Undecodable::Unknown));
    }

    #[test]
    fn padlock_instructions() {
        check(&[0x0f, 0xa7, 0xc0], Flow::Next, None); // xstore
        check(&[0xf3, 0x0f, 0xa6, 0xc8], Flow::Next, None); // rep xsha1
        check(&[0xf3, 0x0f, 0xa7, 0xe8], Flow::Next, None); // rep xcryptofb
        for bytes in [[0x0f, 0xa6, 0xc8, 0x90], [0x0f, 0xa7, 0xf0, 0x90], [0xf3, 0x0f, 0xa6, 0xd8]] {
            assert_eq!(Eyes::new().decode(&bytes, 0x1000), Err(Undecodable::Unknown), "{}", hex(&bytes));
        }
    }

    #[test]
    fn control_flow() {
        check(&[0x90], Flow::Nop, None);
        check(&[0x66, 0x90], Flow::Nop, None);
        check(&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], Flow::Nop, None);
        check(&[0xf3, 0x90], Flow::Next, None); // pause
        check(&[0x41, 0x90], Flow::Next, None); // xchg r8, rax
        check(&[0xf3, 0x0f, 0x1e, 0xfa], Flow::Next, None);
        check(&[0xeb, 0xfe], Flow::Jump(0x1000), None);
        check(&[0xe9, 0, 1, 0, 0], Flow::Jump(0x1105), None);
        check(&[0xf2, 0xe9, 0, 1, 0, 0], Flow::Jump(0x1106), None);
        check(&[0x7e, 0x10], Flow::Conditional(0xe, 0x1012), None);
        check(&[0x0f, 0x8f, 0xfa, 0xff, 0xff, 0xff], Flow::Conditional(0xf, 0x1000), None);
        check(&[0xe3, 0x02], Flow::ShortConditional(0xe3, 0x1004), None);
        check(&[0x67, 0xe3, 0x02], Flow::ShortConditional(0xe3, 0x1005), None);
        check(&[0x67, 0xe2, 0x02], Flow::ShortConditional(0xe2, 0x1005), None);
        check(&[0xe2, 0x02], Flow::ShortConditional(0xe2, 0x1004), None);
        check(&[0xe8, 0, 0, 0, 0], Flow::Call(0x1005), None);
        check(&[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0], Flow::Call(0x1008), None);
        check(&[0x67, 0xe8, 0, 0, 0, 0], Flow::Call(0x1006), None);
        check(&[0xff, 0xe0], Flow::IndirectJump, None);
        check(&[0x3e, 0xff, 0xe2], Flow::IndirectJump, None);
        check(&[0xff, 0x15, 0, 0, 0, 0], Flow::IndirectCall, Some((2, 0x1006)));
        check(&[0xff, 0x25, 0xfa, 0xff, 0xff, 0xff], Flow::IndirectJump, Some((2, 0x1000)));
        check(&[0xc3], Flow::End, None);
        check(&[0xf3, 0xc3], Flow::End, None);
        check(&[0x0f, 0x0b], Flow::End, None);
        check(&[0xf4], Flow::End, None);
        check(&[0xc7, 0xf8, 0x10, 0, 0, 0], Flow::Begin(0x1016), None);
    }

    #[test]
    fn vector_instructions_that_yaxpeax_does_not_know() {
        check(&[0xc4, 0xc1, 0x78, 0x92, 0xc9], Flow::Next, None);
        check(&[0xc5, 0xf8, 0x92, 0xc9], Flow::Next, None);
    }

    #[test]
    fn pc_relative_fields() {
        check(&[0x48, 0x8d, 0x05, 4, 3, 2, 1], Flow::Next, Some((3, 0x0102_1307 + 4)));
        check(&[0xc7, 0x05, 8, 0, 0, 0, 1, 2, 3, 4], Flow::Next, Some((2, 0x1012)));
        check(&[0x66, 0x0f, 0x3a, 0x0f, 0x05, 16, 0, 0, 0, 7], Flow::Next, Some((5, 0x101a)));
        check(&[0xc5, 0xfb, 0x10, 0x05, 16, 0, 0, 0], Flow::Next, Some((4, 0x1018)));
        check(&[0xc4, 0xe2, 0x79, 0x00, 0x05, 16, 0, 0, 0], Flow::Next, Some((5, 0x1019)));
        check(&[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x05, 16, 0, 0, 0], Flow::Next, Some((6, 0x101a)));
        check(&[0x48, 0x8b, 0x05, 0, 0, 0, 0], Flow::Next, Some((3, 0x1007)));
        check(&[0x8b, 0x04, 0x25, 0, 0, 0, 0], Flow::Next, None);
    }
}
