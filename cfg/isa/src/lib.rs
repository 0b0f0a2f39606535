//! Instruction sets: decode, classify, patch.
//!
//! Only what a rewriter must know about an instruction: its length, what it does to control flow, and
//! which of its bytes depend on its own address. The decoder's own types never leave this crate.
//!
//! **Invariant:** knows neither ELF files nor graphs.

pub mod x86_64;

/// What an instruction does to control flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Control goes on behind the instruction (system calls included).
    Next,
    /// Unconditional direct jump.
    Jump {
        /// Where to.
        target: u64,
    },
    /// Conditional direct branch; control goes on behind it when it is not taken.
    Branch {
        /// Where to.
        target: u64,
        /// How it can be encoded.
        form: BranchForm,
    },
    /// Direct call.
    Call {
        /// Where to.
        target: u64,
    },
    /// Call through a register or memory.
    IndirectCall,
    /// Jump through a register or memory.
    IndirectJump,
    /// Return, also from an interrupt or system call.
    Return,
    /// Control does not go on: `ud2`, `hlt`.
    Trap,
}

/// The encodings that a conditional branch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchForm {
    /// `jcc`: short and long form, invertible; the 4-bit condition code.
    Condition(u8),
    /// `loop`, `loope`, `loopne`, `jrcxz`: an 8-bit displacement only, not invertible.
    ShortOnly,
    /// `xbegin`: a 32-bit displacement only, not invertible.
    LongOnly,
}

/// A field of an instruction whose content depends on the instruction's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcRelative {
    /// Offset of the field from the start of the instruction, in bytes.
    pub offset: u8,
    /// Width of the field in bytes: 1 or 4.
    pub width: u8,
    /// The address that the field designates.
    pub target: u64,
    /// What the instruction does with that address.
    pub usage: PcUsage,
}

/// What a PC-relative operand is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcUsage {
    /// Control goes there.
    Branch,
    /// The address itself is the result (`lea`).
    Address,
    /// Memory there is read or written.
    Memory,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inst {
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// Effect on control flow.
    pub flow: Flow,
    /// The position-dependent field, if there is one (x86-64 has at most one).
    pub pc_relative: Option<PcRelative>,
    /// Whether the instruction is a NOP that may be left out.
    pub is_nop: bool,
}

/// The constant fields of an instruction as `(offset, width)` in bytes; width 0 if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The displacement of a memory operand.
    pub displacement: (u8, u8),
    /// The (first) immediate operand, a branch displacement included.
    pub immediate: (u8, u8),
}
