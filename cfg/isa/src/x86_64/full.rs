//! Instructions as iced-x86 decodes them.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{IndirectOperand, RegisterUse};
use crate::{BranchForm, Fields, Flow, Inst, PcRelative, PcUsage};

/// One instruction with its operands.
pub(super) struct Full<'a> {
    decoder: Decoder<'a>,
    instruction: Instruction,
}

impl<'a> Full<'a> {
    /// Decodes the instruction at the start of `bytes`, which is at address `addr`.
    pub(super) fn read(bytes: &'a [u8], addr: u64) -> Self {
        let mut decoder = Decoder::with_ip(64, bytes, addr, DecoderOptions::NONE);
        let instruction = decoder.decode();
        Self { decoder, instruction }
    }

    /// What a rewriter must know of it; `None` if it is none.
    pub(super) fn inst(&self) -> Option<Inst> {
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

    /// Its constant fields.
    pub(super) fn fields(&self) -> Fields {
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

    /// The operand of an indirect jump or call.
    pub(super) fn indirect_operand(&self) -> IndirectOperand {
        let instruction = &self.instruction;
        if instruction.op0_kind() == OpKind::Register {
            return IndirectOperand::Register(register_number(instruction.op0_register()));
        }
        if instruction.memory_base() == Register::None && instruction.memory_index() != Register::None {
            return IndirectOperand::Table;
        }
        IndirectOperand::Memory
    }

    /// What it does to general register number `register`.
    pub(super) fn use_of(&self, register: u8) -> RegisterUse {
        let instruction = &self.instruction;
        let first_is_register = instruction.op0_kind() == OpKind::Register;
        if !first_is_register || register_number(instruction.op0_register()) != register {
            return RegisterUse::Other;
        }
        match instruction.mnemonic() {
            Mnemonic::Add | Mnemonic::Sub => RegisterUse::Computes,
            Mnemonic::Lea
                if instruction.memory_base() != Register::None
                    && instruction.memory_base() != Register::RIP
                    && instruction.memory_index() != Register::None =>
            {
                RegisterUse::Computes
            }
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt => RegisterUse::Other,
            _ if instruction.op_count() > 0 => RegisterUse::Writes,
            _ => RegisterUse::Other,
        }
    }

    /// As text in AT&T syntax (for people only).
    pub(super) fn text(&self) -> String {
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

