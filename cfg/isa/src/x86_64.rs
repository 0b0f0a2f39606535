//! x86-64: common instructions by their shape, all others with iced-x86.

mod encode;
mod full;
mod shape;

pub use encode::{
    JCC_LONG, JCC_SHORT, JMP_LONG, JMP_SHORT, SHORT_ONLY_FAR, encode_jcc_long, encode_jcc_short, encode_jmp_long,
    encode_jmp_short, fits_i8, fits_i32,
};

use full::Full;
use shape::{Kind, Shape, plain_len, shape};

use crate::{BranchForm, Fields, Flow, Inst, PcRelative, PcUsage};

/// Decodes a byte range as a stream of instructions.
pub struct Stream<'a> {
    bytes: &'a [u8],
    /// Address of the first byte.
    addr: u64,
    /// Where the next instruction is read.
    at: usize,
    /// Where the last one was read.
    last: usize,
}

/// What an instruction does to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterUse {
    /// Computes it by adding: `add`, `sub`, or a `lea` of two registers.
    Computes,
    /// Writes it as its first operand in some other way.
    Writes,
    /// None of these.
    Other,
}

/// What an indirect jump's operand is, as far as one instruction tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndirectOperand {
    /// `jmp *%reg`: the register's number (0 is rax).
    Register(u8),
    /// `jmp *disp(,%index,8)`: no base register; the displacement may name a table.
    Table,
    /// Any other memory operand.
    Memory,
}

impl<'a> Stream<'a> {
    /// A stream over `bytes`, the first of which is at address `addr`.
    pub const fn new(bytes: &'a [u8], addr: u64) -> Self {
        Self { bytes, addr, at: 0, last: 0 }
    }

    /// Whether all bytes were consumed.
    pub const fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Where the next instruction is read, in bytes from the start of the range.
    #[inline]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Goes on at byte `position` of the range.
    pub const fn seek(&mut self, position: usize) {
        self.at = position;
    }

    /// Goes over the next instruction and gives its length, if it can be seen at a glance that it only goes on to the next
    /// one, is no NOP and has no position-dependent field. Else stays where it is and gives 0.
    #[inline]
    pub fn next_plain(&mut self) -> usize {
        let Some(window) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<16>()) else { return 0 };
        let len = plain_len(window);
        self.last = self.at;
        self.at += len;
        len
    }

    /// Decodes the next instruction; `None` if the bytes are not one. The stream then stays where it is,
    /// so a caller that goes on must [`Stream::seek`].
    #[inline]
    pub fn next_inst(&mut self) -> Option<Inst> {
        match self.next_plain() {
            0 => self.next_other(),
            len => Some(Inst { len: len as u8, flow: Flow::Next, pc_relative: None, is_nop: false }),
        }
    }

    /// Decodes the next instruction, which [`Stream::next_plain`] did not go over.
    pub fn next_other(&mut self) -> Option<Inst> {
        self.last = self.at;
        let rest = self.bytes.get(self.at..)?;
        let inst = match rest.first_chunk::<16>() {
            Some(window) => match shape(window) {
                Some(shape) => shape.inst(window, self.addr.wrapping_add(self.at as u64)),
                None => self.full().inst()?,
            },
            None => self.tail(rest)?,
        };
        self.at += usize::from(inst.len);
        Some(inst)
    }

    /// The next instruction, if fewer than 16 bytes are left.
    fn tail(&self, rest: &[u8]) -> Option<Inst> {
        let mut window = [0; 16];
        window.get_mut(..rest.len())?.copy_from_slice(rest);
        match shape(&window) {
            Some(shape) if usize::from(shape.len) <= rest.len() => {
                Some(shape.inst(&window, self.addr.wrapping_add(self.at as u64)))
            }
            _ => self.full().inst(),
        }
    }

    /// What iced-x86 says of the instruction read last.
    fn full(&self) -> Full<'a> {
        Full::read(self.bytes.get(self.last..).unwrap_or(&[]), self.addr.wrapping_add(self.last as u64))
    }

    /// The constant fields of the instruction decoded last.
    pub fn fields(&self) -> Fields {
        self.full().fields()
    }

    /// The operand of the instruction decoded last, which must be an indirect jump or call.
    pub fn indirect_operand(&self) -> IndirectOperand {
        self.full().indirect_operand()
    }

    /// What the instruction decoded last does to general register number `register`.
    pub fn use_of(&self, register: u8) -> RegisterUse {
        self.full().use_of(register)
    }

    /// The instruction decoded last, as text in AT&T syntax (for people only).
    pub fn text(&self) -> String {
        self.full().text()
    }
}

impl Shape {
    /// The instruction of this shape at the start of `window`, which stands at `addr`.
    #[inline(always)]
    fn inst(self, window: &[u8; 16], addr: u64) -> Inst {
        let next = addr.wrapping_add(u64::from(self.len));
        let is_nop = self.kind == Kind::Nop;
        if matches!(self.kind, Kind::Next | Kind::Nop) && self.field == 0 {
            return Inst { len: self.len, flow: Flow::Next, pc_relative: None, is_nop };
        }
        let distance = |at: u8| {
            let at = usize::from(at);
            let field = window.get(at..).and_then(|field| field.first_chunk::<4>());
            field.map_or(0, |field| i64::from(i32::from_le_bytes(*field)))
        };
        let branch = |width: u8| {
            let offset = self.len - width;
            let short = || i64::from(window[usize::from(offset) & 15].cast_signed());
            let distance = if width == 1 { short() } else { distance(offset) };
            PcRelative { offset, width, target: next.wrapping_add_signed(distance), usage: PcUsage::Branch }
        };
        let (flow, pc_relative) = match self.kind {
            Kind::Call32 => {
                let to = branch(4);
                (Flow::Call { target: to.target }, Some(to))
            }
            Kind::Jump8 | Kind::Jump32 => {
                let to = branch(if self.kind == Kind::Jump8 { 1 } else { 4 });
                (Flow::Jump { target: to.target }, Some(to))
            }
            Kind::Branch8 | Kind::Branch32 => {
                let to = branch(if self.kind == Kind::Branch8 { 1 } else { 4 });
                (Flow::Branch { target: to.target, form: BranchForm::Condition(self.condition) }, Some(to))
            }
            Kind::Next | Kind::Nop | Kind::IndirectCall | Kind::IndirectJump | Kind::Return | Kind::Trap => {
                let flow = match self.kind {
                    Kind::IndirectCall => Flow::IndirectCall,
                    Kind::IndirectJump => Flow::IndirectJump,
                    Kind::Return => Flow::Return,
                    Kind::Trap => Flow::Trap,
                    _ => Flow::Next,
                };
                let usage = if self.takes_address { PcUsage::Address } else { PcUsage::Memory };
                let target = next.wrapping_add_signed(distance(self.field));
                (flow, (self.field != 0).then_some(PcRelative { offset: self.field, width: 4, target, usage }))
            }
        };
        Inst { len: self.len, flow, pc_relative, is_nop }
    }
}

#[cfg(test)]
mod same;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Inst {
        Stream::new(bytes, 0x1000).next_inst().unwrap()
    }

    #[test]
    fn classifies_control_flow() {
        assert_eq!(one(&[0xeb, 0x10]).flow, Flow::Jump { target: 0x1012 });
        assert_eq!(one(&[0x75, 0xfe]).flow, Flow::Branch { target: 0x1000, form: BranchForm::Condition(5) });
        assert_eq!(
            one(&[0x0f, 0x8f, 0, 0, 0, 0]).flow,
            Flow::Branch { target: 0x1006, form: BranchForm::Condition(15) }
        );
        assert_eq!(one(&[0xe3, 0x02]).flow, Flow::Branch { target: 0x1004, form: BranchForm::ShortOnly });
        assert_eq!(one(&[0xe2, 0x02]).flow, Flow::Branch { target: 0x1004, form: BranchForm::ShortOnly });
        assert_eq!(
            one(&[0xc7, 0xf8, 4, 0, 0, 0]).flow,
            Flow::Branch { target: 0x100a, form: BranchForm::LongOnly }
        );
        assert_eq!(one(&[0xe8, 0, 0, 0, 0]).flow, Flow::Call { target: 0x1005 });
        assert_eq!(one(&[0xff, 0xe0]).flow, Flow::IndirectJump);
        assert_eq!(one(&[0x3e, 0xff, 0xe0]).flow, Flow::IndirectJump);
        assert_eq!(one(&[0xff, 0x15, 0, 0, 0, 0]).flow, Flow::IndirectCall);
        assert_eq!(one(&[0xc3]).flow, Flow::Return);
        assert_eq!(one(&[0xf3, 0xc3]).flow, Flow::Return);
        assert_eq!(one(&[0x0f, 0x0b]).flow, Flow::Trap);
        assert_eq!(one(&[0xf4]).flow, Flow::Trap);
        assert_eq!(one(&[0xcc]).flow, Flow::Next);
        assert_eq!(one(&[0x0f, 0x05]).flow, Flow::Next);
        assert_eq!(one(&[0xcd, 0x80]).flow, Flow::Next);
        assert!(Stream::new(&[0x06], 0).next_inst().is_none());
    }

    #[test]
    fn finds_position_dependent_fields() {
        // lea 0x10(%rip),%rax
        let lea = one(&[0x48, 0x8d, 0x05, 0x10, 0, 0, 0]).pc_relative.unwrap();
        assert_eq!(lea, PcRelative { offset: 3, width: 4, target: 0x1017, usage: PcUsage::Address });
        // cmpl $1,0x10(%rip): the immediate stands behind the displacement
        let cmp = one(&[0x83, 0x3d, 0x10, 0, 0, 0, 1]);
        assert_eq!(cmp.pc_relative.unwrap(), PcRelative { offset: 2, width: 4, target: 0x1017, usage: PcUsage::Memory });
        let fields = |bytes: &[u8]| {
            let mut stream = Stream::new(bytes, 0x1000);
            stream.next_inst().unwrap();
            stream.fields()
        };
        assert_eq!(fields(&[0x83, 0x3d, 0x10, 0, 0, 0, 1]).immediate, (6, 1));
        // mov $0x401000,%edi
        assert_eq!(fields(&[0xbf, 0, 0x10, 0x40, 0]).immediate, (1, 4));
        // jmp *0x402000(,%rax,8)
        let table = [0xff, 0x24, 0xc5, 0, 0x20, 0x40, 0];
        assert_eq!(fields(&table).displacement, (3, 4));
        assert!(one(&table).pc_relative.is_none());
    }

    #[test]
    fn nops_and_what_is_none() {
        assert!(one(&[0x90]).is_nop);
        assert!(one(&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]).is_nop);
        assert!(!one(&[0xf3, 0x90]).is_nop);
        assert!(!one(&[0xf3, 0x0f, 0x1e, 0xfa]).is_nop);
    }
}
