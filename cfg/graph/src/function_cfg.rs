//! The control-flow graph of one function, built on demand from its bytes.

use std::borrow::Cow;

use postlink_base::{Id, IndexVec};
use postlink_isa::x86_64::Stream;
use postlink_isa::{BranchForm, Flow};

use crate::{BlockId, DataRefKind, FunctionId, Program};

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

/// Builds the graph of a function that is [`crate::Class::Free`] (for others it is a best effort, fit
/// for printing only).
pub fn build_cfg(program: &Program<'_>, id: FunctionId) -> FunctionCfg {
    let function = &program.functions[id];
    let bytes = program.bytes(function);
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let labels = program.labels_of(function);
    let offset_of = |addr: u64| u32::try_from(addr - function.start).unwrap_or(u32::MAX);

    // First pass: leaders.
    let mut leaders: Vec<u32> = vec![0];
    let mut targets: Vec<u32> = Vec::new();
    leaders.extend(labels.iter().map(|&label| offset_of(label)));
    let mut stream = Stream::new(bytes, function.start);
    let mut at = 0u32;
    while at < size {
        let plain = stream.next_plain();
        if plain != 0 {
            at += plain as u32;
            continue;
        }
        let Some(inst) = stream.next_other() else {
            at += 1;
            stream.seek(at as usize);
            continue;
        };
        at += u32::from(inst.len);
        match inst.flow {
            Flow::Jump { target } | Flow::Branch { target, .. } => {
                if function.contains(target) {
                    targets.push(offset_of(target));
                }
                leaders.push(at);
            }
            // A trap ends no block: a handler may resume behind it.
            Flow::IndirectJump | Flow::Return => leaders.push(at),
            _ => {}
        }
    }
    targets.sort_unstable();
    targets.dedup();
    leaders.extend_from_slice(&targets);
    leaders.sort_unstable();
    leaders.dedup();
    leaders.retain(|&leader| leader < size);

    let builder = Builder { program, id, bytes, size, leaders: &leaders, targets: &targets };
    let mut blocks = builder.blocks();
    let resolve = |target: u64, blocks: &IndexVec<BlockId, Block>| {
        if !function.contains(target) {
            return Target::External(target);
        }
        let offset = offset_of(target);
        match blocks.as_slice().binary_search_by_key(&offset, |block| block.start) {
            Ok(index) => Target::Block(BlockId::from_index(index)),
            Err(_) => Target::External(target),
        }
    };
    let resolved: Vec<Terminator> = blocks
        .iter()
        .map(|block| match block.terminator {
            Terminator::Jump { at, target: Target::External(target) } => {
                Terminator::Jump { at, target: resolve(target, &blocks) }
            }
            Terminator::Branch { at, form, taken: Target::External(taken), fall: Target::External(fall) } => {
                Terminator::Branch { at, form, taken: resolve(taken, &blocks), fall: resolve(fall, &blocks) }
            }
            Terminator::Fallthrough(Target::External(next)) => Terminator::Fallthrough(resolve(next, &blocks)),
            other => other,
        })
        .collect();
    for (block, terminator) in blocks.as_mut_slice().iter_mut().zip(resolved) {
        block.terminator = terminator;
        let addr = function.start + u64::from(block.start);
        block.landing_pad = program.landing_pads.binary_search(&addr).is_ok();
        block.label = labels.binary_search(&addr).is_ok();
    }
    let edges = edges(program, id, &blocks);
    FunctionCfg { function: id, start: function.start, blocks, edges }
}

struct Builder<'a, 'd> {
    program: &'a Program<'d>,
    id: FunctionId,
    bytes: &'a [u8],
    size: u32,
    leaders: &'a [u32],
    /// Leaders that a branch of the function leads to, sorted.
    targets: &'a [u32],
}

impl Builder<'_, '_> {
    /// Blocks with targets still as addresses.
    fn blocks(&self) -> IndexVec<BlockId, Block> {
        let function = &self.program.functions[self.id];
        let mut blocks: IndexVec<BlockId, Block> = IndexVec::new();
        let mut stream = Stream::new(self.bytes, function.start);
        for (index, &start) in self.leaders.iter().enumerate() {
            let end = self.leaders.get(index + 1).copied().unwrap_or(self.size);
            stream.seek(start as usize);
            let mut at = start;
            // End of the last instruction that must be kept.
            let mut kept = start;
            let mut terminator = None;
            let mut last_is_call = false;
            let mut exit_size = 0;
            while at < end {
                let plain = stream.next_plain();
                if plain != 0 {
                    at += plain as u32;
                    kept = at;
                    last_is_call = false;
                    exit_size = 0;
                    continue;
                }
                let Some(inst) = stream.next_other() else {
                    at += 1;
                    kept = at;
                    stream.seek(at as usize);
                    continue;
                };
                let inst_at = at;
                at += u32::from(inst.len);
                if inst.is_nop {
                    continue;
                }
                last_is_call = matches!(inst.flow, Flow::Call { .. } | Flow::IndirectCall);
                exit_size = if matches!(inst.flow, Flow::Jump { .. } | Flow::Branch { .. }) { inst.len } else { 0 };
                match inst.flow {
                    Flow::Jump { target } => {
                        terminator = Some((inst_at, Terminator::Jump { at: inst_at, target: Target::External(target) }));
                    }
                    Flow::Branch { target, form } => {
                        let taken = Target::External(target);
                        let fall = Target::External(self.address_after(at));
                        terminator = Some((inst_at, Terminator::Branch { at: inst_at, form, taken, fall }));
                    }
                    Flow::IndirectJump => terminator = Some((at, Terminator::IndirectJump)),
                    Flow::Return => terminator = Some((at, Terminator::Stop)),
                    _ => {}
                }
                kept = at;
            }
            let all_nops = kept == start;
            let (body_end, terminator) = match terminator {
                Some((body_end, terminator)) => (body_end, terminator),
                None if end >= self.size && (last_is_call || !function.traits.falls_through) => {
                    (kept, Terminator::Stop)
                }
                None => {
                    let next = Target::External(self.address_after(end));
                    (kept, Terminator::Fallthrough(next))
                }
            };
            if all_nops && self.is_padding_behind_stop(&blocks, start) {
                // Unreachable padding belongs to the block before it and needs no bytes.
                let last = BlockId::from_index(blocks.len().saturating_sub(1));
                blocks[last].end = end;
                continue;
            }
            // NOPs that something refers to (patchable entries) are there to be written over.
            let keep_nops = all_nops && (start == 0 || self.is_label(start));
            let body_end = if keep_nops { at.min(end) } else { body_end };
            blocks.push(Block { start, body_end, end, terminator, exit_size, landing_pad: false, label: false });
        }
        blocks
    }

    /// The address that control reaches behind the byte before `offset`.
    fn address_after(&self, offset: u32) -> u64 {
        let function = &self.program.functions[self.id];
        if offset < self.size {
            return function.start + u64::from(offset);
        }
        self.program.fallthrough_target(self.id).unwrap_or(function.end)
    }

    fn is_label(&self, offset: u32) -> bool {
        let addr = self.program.functions[self.id].start + u64::from(offset);
        self.program.labels.binary_search(&addr).is_ok()
    }

    fn is_padding_behind_stop(&self, blocks: &IndexVec<BlockId, Block>, start: u32) -> bool {
        let Some(last) = blocks.as_slice().last() else { return false };
        let stops = matches!(last.terminator, Terminator::Jump { .. } | Terminator::IndirectJump | Terminator::Stop);
        stops && !self.is_label(start) && self.targets.binary_search(&start).is_err()
    }
}

fn edges(program: &Program<'_>, id: FunctionId, blocks: &IndexVec<BlockId, Block>) -> Vec<CfgEdge> {
    let mut edges = Vec::with_capacity(blocks.len() * 2);
    let mut indirect: Option<Vec<BlockId>> = None;
    for (from, block) in blocks.iter_enumerated() {
        let mut push = |target: Target, kind: EdgeKind| {
            if let Target::Block(to) = target {
                edges.push(CfgEdge { from, to, kind });
            }
        };
        match block.terminator {
            Terminator::Fallthrough(next) => push(next, EdgeKind::Fallthrough),
            Terminator::Jump { target, .. } => push(target, EdgeKind::Taken),
            Terminator::Branch { taken, fall, .. } => {
                push(taken, EdgeKind::Taken);
                push(fall, EdgeKind::Fallthrough);
            }
            Terminator::IndirectJump => {
                for &to in indirect.get_or_insert_with(|| indirect_targets(program, id, blocks)).iter() {
                    push(Target::Block(to), EdgeKind::Indirect);
                }
            }
            Terminator::Stop => {}
        }
    }
    edges
}

/// Blocks that an indirect jump of the function may reach: those that words of data designate.
fn indirect_targets(program: &Program<'_>, id: FunctionId, blocks: &IndexVec<BlockId, Block>) -> Vec<BlockId> {
    let function = &program.functions[id];
    let mut targets: Vec<BlockId> = program
        .data_targets_in(function.start, function.end)
        .iter()
        .filter(|&&(target, kind)| target != function.start && !matches!(kind, DataRefKind::Pc32 | DataRefKind::Pc64))
        .filter_map(|&(target, _)| {
            let offset = u32::try_from(target - function.start).ok()?;
            blocks.as_slice().binary_search_by_key(&offset, |block| block.start).ok()
        })
        .map(BlockId::from_index)
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}
