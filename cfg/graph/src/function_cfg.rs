//! The control-flow graph of one function.

use std::borrow::Cow;

use postlink_base::{Id, IndexVec};
use postlink_isa::BranchForm;

use crate::{BlockId, FunctionId, Program, build_cfg};

/// Where a branch or fallthrough leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A block of the same function.
    Block(BlockId),
    /// An address outside of the function.
    External(u64),
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// Control goes on to the next block in old order, or to what follows the function.
    Fallthrough(Target),
    /// A direct jump, which is encoded anew.
    Jump {
        /// Offset of the instruction in the function.
        at: u32,
        /// Where to.
        target: Target,
    },
    /// A conditional branch, which is encoded anew.
    Branch {
        /// Offset of the instruction in the function.
        at: u32,
        /// Possible encodings.
        form: BranchForm,
        /// Where it goes when taken.
        taken: Target,
        /// Where it goes when not taken.
        fall: Target,
    },
    /// A jump through a register or memory, part of the copied bytes.
    IndirectJump,
    /// Control does not go on: return, or a trap or call at the end of the function.
    Stop,
}

/// A basic block: entered at the top, left at the bottom. Offsets are from the function's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First byte.
    pub start: u32,
    /// Byte after the last one that is copied: the terminator that is encoded anew and padding NOPs
    /// are not.
    pub body_end: u32,
    /// Start of the next block in old order.
    pub end: u32,
    /// How it ends.
    pub terminator: Terminator,
    /// Bytes of a terminator that is encoded anew, 0 if it has none.
    pub exit_size: u8,
    /// It is entered by an exception.
    pub landing_pad: bool,
    /// Something outside of the function, or a table, refers to it.
    pub label: bool,
}

impl Block {
    /// Bytes that are copied.
    pub const fn body_size(&self) -> u32 {
        self.body_end - self.start
    }
}

/// What kind of edge leaves a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// Not taken, or no terminator.
    Fallthrough,
    /// Taken direct jump or branch.
    Taken,
    /// One possible target of an indirect jump.
    Indirect,
}

/// An edge between two blocks of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CfgEdge {
    /// Source.
    pub from: BlockId,
    /// Destination.
    pub to: BlockId,
    /// Kind.
    pub kind: EdgeKind,
}

/// The control-flow graph of one function.
///
/// # Invariants
/// 1. `bb0` is the entry; blocks are in old address order and cover the function without gaps.
/// 2. Edges are grouped by source, in block order.
#[derive(Clone, Debug)]
pub struct FunctionCfg {
    /// The function.
    pub function: FunctionId,
    /// Old address of the entry.
    pub start: u64,
    /// Blocks.
    pub blocks: IndexVec<BlockId, Block>,
    /// Edges.
    pub edges: Vec<CfgEdge>,
}

impl FunctionCfg {
    /// The block that holds the byte at `offset`.
    pub fn block_at(&self, offset: u32) -> Option<BlockId> {
        let index = self.blocks.as_slice().partition_point(|block| block.start <= offset).checked_sub(1)?;
        let id = BlockId::from_index(index);
        self.blocks.get(id).filter(|block| offset < block.end).map(|_| id)
    }
}

/// Graphs that were built already and will be asked for again; the others are built when somebody asks.
#[derive(Debug, Default)]
pub struct Graphs {
    /// By function; shorter than the number of functions if the last ones have none.
    built: Vec<Option<Box<FunctionCfg>>>,
}

impl Graphs {
    /// Keeps a graph.
    pub fn insert(&mut self, cfg: FunctionCfg) {
        let index = cfg.function.index();
        if self.built.len() <= index {
            self.built.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.built.get_mut(index) {
            *slot = Some(Box::new(cfg));
        }
    }

    /// The graph of a function of `program`, which must be the program that all graphs here belong to.
    pub fn get<'a>(&'a self, program: &Program<'_>, id: FunctionId) -> Cow<'a, FunctionCfg> {
        match self.built.get(id.index()) {
            Some(Some(cfg)) => Cow::Borrowed(cfg),
            _ => Cow::Owned(build_cfg(program, id)),
        }
    }
}
