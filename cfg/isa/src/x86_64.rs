//! x86-64, decoded with iced-x86.

mod encode;

pub use encode::{
    JCC_LONG, JCC_SHORT, JMP_LONG, JMP_SHORT, SHORT_ONLY_FAR, encode_jcc_long, encode_jcc_short, encode_jmp_long,
    encode_jmp_short, fits_i8, fits_i32,
};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::{BranchForm, Fields, Flow, Inst, PcRelative, PcUsage};

/// Decodes a byte range as a stream of instructions.
pub struct Stream<'a> {
    decoder: Decoder<'a>,
    instruction: Instruction,
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
    pub fn new(bytes: &'a [u8], addr: u64) -> Self {
        Self {
            decoder: Decoder::with_ip(64, bytes, addr, DecoderOptions::NONE),
            instruction: Instruction::default(),
        }
    }

    /// Whether all bytes were consumed.
    pub fn at_end(&self) -> bool {
        !self.decoder.can_decode()
    }

    /// Goes on at byte `position` of the range.
    pub fn seek(&mut self, position: usize, addr: u64) {
        // Positions come from the caller's own walk over the same bytes; one past the end is allowed.
        let _ = self.decoder.set_position(position);
        self.decoder.set_ip(addr);
    }

    /// Decodes the next instruction; `None` if the bytes are not one. The stream then stands behind
    /// the bytes that the decoder looked at, so a caller that goes on must [`Stream::seek`].
    #[inline]
    pub fn next_inst(&mut self) -> Option<Inst> {
        self.decoder.decode_out(&mut self.instruction);
        let instruction = &self.instruction;
        if instruction.is_invalid() {
            return None;
        }
        let flow = flow(instruction)?;
        let mut pc_relative = None;
        if instruction.op0_kind() == OpKind::NearBranch64 {
            let offsets = self.decoder.get_constant_offsets(instruction);
            pc_relative = Some(PcRelative {
                offset: narrow(offsets.immediate_offset()),
                width: narrow(offsets.immediate_size()),
                target: instruction.near_branch_target(),
                usage: PcUsage::Branch,
            });
        } else if instruction.is_ip_rel_memory_operand() {
            let offsets = self.decoder.get_constant_offsets(instruction);
            let usage = if instruction.mnemonic() == Mnemonic::Lea { PcUsage::Address } else { PcUsage::Memory };
            pc_relative = Some(PcRelative {
                offset: narrow(offsets.displacement_offset()),
                width: narrow(offsets.displacement_size()),
                target: instruction.ip_rel_memory_address(),
                usage,
            });
        }
        Some(Inst {
            len: u8::try_from(instruction.len()).unwrap_or(0),
            flow,
            pc_relative,
            is_nop: instruction.mnemonic() == Mnemonic::Nop,
        })
    }

    /// The constant fields of the instruction decoded last.
    pub fn fields(&self) -> Fields {
        let offsets = self.decoder.get_constant_offsets(&self.instruction);
        let field = |has: bool, offset: usize, size: usize| if has { (narrow(offset), narrow(size)) } else { (0, 0) };
        Fields {
            displacement: field(
                offsets.has_displacement(),
                offsets.displacement_offset(),
                offsets.displacement_size(),
            ),
            immediate: field(offsets.has_immediate(), offsets.immediate_offset(), offsets.immediate_size()),
        }
    }

    /// The operand of the instruction decoded last, which must be an indirect jump or call.
    pub fn indirect_operand(&self) -> IndirectOperand {
        let instruction = &self.instruction;
        if instruction.op0_kind() == OpKind::Register {
            return IndirectOperand::Register(register_number(instruction.op0_register()));
        }
        if instruction.memory_base() == Register::None && instruction.memory_index() != Register::None {
            return IndirectOperand::Table;
        }
        IndirectOperand::Memory
    }

    /// If the instruction decoded last computes a general register by adding (`add`, `sub`, or a
    /// `lea` of two registers), that register's number.
    pub fn computes_register(&self) -> Option<u8> {
        let instruction = &self.instruction;
        let adds = match instruction.mnemonic() {
            Mnemonic::Add | Mnemonic::Sub => true,
            Mnemonic::Lea => {
                instruction.memory_base() != Register::None
                    && instruction.memory_base() != Register::RIP
                    && instruction.memory_index() != Register::None
            }
            _ => false,
        };
        (adds && instruction.op0_kind() == OpKind::Register).then(|| register_number(instruction.op0_register()))
    }

    /// If the instruction decoded last writes its first operand and that is a general register: the
    /// register's number.
    pub fn written_register(&self) -> Option<u8> {
        let instruction = &self.instruction;
        let reads_only = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt);
        (!reads_only && instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().is_gpr())
        .then(|| register_number(instruction.op0_register()))
    }

    /// The instruction decoded last, as text in AT&T syntax (for people only).
    pub fn text(&self) -> String {
        use iced_x86::Formatter as _;
        let mut formatter = iced_x86::GasFormatter::new();
        formatter.options_mut().set_branch_leading_zeros(false);
        formatter.options_mut().set_uppercase_hex(false);
        let mut text = String::new();
        formatter.format(&self.instruction, &mut text);
        text
    }
}

/// Offsets and sizes inside an instruction are below 16.
fn narrow(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

/// Number of the full 64-bit register that `register` is part of, 0 (rax) to 15; 255 if it is none.
fn register_number(register: Register) -> u8 {
    if register.is_gpr() { u8::try_from(register.full_register().number()).unwrap_or(255) } else { 255 }
}

#[inline]
fn flow(instruction: &Instruction) -> Option<Flow> {
    Some(match instruction.flow_control() {
        FlowControl::Next if instruction.code() == Code::Hlt => Flow::Trap,
        FlowControl::Next => Flow::Next,
        // Control comes back from system calls, and from breakpoints: `int3` is what
        // `__builtin_debugtrap` becomes, and a debugger or handler goes on behind it.
        FlowControl::Interrupt => Flow::Next,
        FlowControl::Exception => Flow::Trap,
        FlowControl::UnconditionalBranch => {
            // A far jump with an immediate does not exist in 64-bit mode.
            Flow::Jump { target: instruction.near_branch_target() }
        }
        FlowControl::IndirectBranch => Flow::IndirectJump,
        FlowControl::ConditionalBranch => {
            let target = instruction.near_branch_target();
            let form = if instruction.is_jcc_short_or_near() {
                BranchForm::Condition(condition(instruction))
            } else {
                BranchForm::ShortOnly
            };
            Flow::Branch { target, form }
        }
        FlowControl::Return => Flow::Return,
        FlowControl::Call => {
            if instruction.op0_kind() == OpKind::NearBranch64 {
                Flow::Call { target: instruction.near_branch_target() }
            } else {
                // syscall, sysenter and their kind: control comes back behind them.
                Flow::Next
            }
        }
        FlowControl::IndirectCall => Flow::IndirectCall,
        FlowControl::XbeginXabortXend => {
            if instruction.op0_kind() == OpKind::NearBranch64 {
                Flow::Branch { target: instruction.near_branch_target(), form: BranchForm::LongOnly }
            } else {
                Flow::Next
            }
        }
    })
}

/// The low nibble of the opcode of a `jcc`: 0x70+cc short, 0x0f 0x80+cc long.
fn condition(instruction: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match instruction.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g | C::None => 15,
    }
}

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
