//! Builds control-flow graphs from functions' bytes.

use postlink_base::{Id, IndexVec};
use postlink_isa::Flow;
use postlink_isa::x86_64::Stream;

use crate::offsets::Offsets;
use crate::program::sorted_range;
use crate::{Block, BlockId, CfgEdge, Class, EdgeKind, Function, FunctionCfg, FunctionId, Program, Target, Terminator};

/// Builds the graph of a function that is [`Class::Free`] (for others it is a best effort, fit for printing only).
pub fn build_cfg(program: &Program<'_>, id: FunctionId) -> FunctionCfg {
    GraphBuilder::new(program).build(id)
}

/// What there is at an offset that is more than an instruction which only goes on to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Control goes elsewhere, or the instruction reaches over the end of its block.
    Inst,
    Nop,
    /// A byte that starts no instruction.
    Byte,
}

#[derive(Clone, Copy)]
struct Mark {
    flow: Flow,
    at: u32,
    len: u8,
    what: What,
}

impl Mark {
    fn end(&self) -> u32 {
        self.at + u32::from(self.len)
    }
}

/// Builds graphs one after the other: each function is decoded once, and memory is used again.
pub struct GraphBuilder<'p, 'd> {
    program: &'p Program<'d>,
    /// In address order.
    marks: Vec<Mark>,
    /// Where blocks start.
    leaders: Offsets,
    /// Where branches of the function lead to.
    targets: Offsets,
    starts: Vec<u32>,
    /// For each leader its block; none if it is padding behind another block.
    block_of: Vec<Option<BlockId>>,
    blocks: Vec<Block>,
    edges: Vec<CfgEdge>,
}

/// One function.
#[derive(Clone, Copy)]
struct Source<'p, 'd> {
    program: &'p Program<'d>,
    id: FunctionId,
    function: &'p Function,
    bytes: &'p [u8],
    size: u32,
    labels: &'p [u64],
}

impl<'p, 'd> GraphBuilder<'p, 'd> {
    /// A builder of graphs of `program`.
    pub fn new(program: &'p Program<'d>) -> Self {
        Self {
            program,
            marks: Vec::new(),
            leaders: Offsets::default(),
            targets: Offsets::default(),
            starts: Vec::new(),
            block_of: Vec::new(),
            blocks: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// As [`build_cfg`].
    pub fn build(&mut self, id: FunctionId) -> FunctionCfg {
        let function = &self.program.functions[id];
        let bytes = self.program.bytes(function);
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let source = Source { program: self.program, id, function, bytes, size, labels: self.program.labels_of(function) };
        self.read(&source);
        self.cut(&source);
        self.resolve(&source);
        self.join(&source);
        let (blocks, edges) = (IndexVec::from_vec(self.blocks.clone()), self.edges.clone());
        FunctionCfg { function: id, start: function.start, blocks, edges }
    }

    /// Decodes the function and finds where blocks start.
    fn read(&mut self, source: &Source<'_, '_>) {
        let size = source.size;
        let Self { marks, leaders, targets, starts, .. } = self;
        leaders.clear(size);
        targets.clear(size);
        leaders.insert(0);
        source.labels.iter().for_each(|&label| leaders.insert(source.offset_of(label)));
        marks.clear();
        let mut stream = Stream::new(source.bytes, source.function.start);
        decode(&mut stream, 0, size, |mark| {
            match mark.flow {
                Flow::Jump { target } | Flow::Branch { target, .. } => {
                    if source.function.contains(target) {
                        targets.insert(source.offset_of(target));
                        leaders.insert(source.offset_of(target));
                    }
                    leaders.insert(mark.end());
                }
                // A trap ends no block: a handler may resume behind it.
                Flow::IndirectJump | Flow::Return => leaders.insert(mark.end()),
                _ => {}
            }
            marks.push(mark);
        });
        leaders.list(starts);
        // Own branches of free functions lead to instructions.
        let is_inst = |&label: &u64| source.program.is_inst_start(label);
        if source.function.class != Class::Free || !source.labels.iter().all(is_inst) {
            marks.clear();
            for (start, end) in ranges(starts, size) {
                decode(&mut stream, start, end, |mark| marks.push(mark));
            }
        }
    }

    /// Makes the blocks, with targets still as addresses.
    fn cut(&mut self, source: &Source<'_, '_>) {
        self.blocks.clear();
        self.block_of.clear();
        let mut marks = self.marks.as_slice();
        for (start, end) in ranges(&self.starts, source.size) {
            let count = marks.iter().take_while(|mark| mark.at < end).count();
            let (own, rest) = marks.split_at_checked(count).unwrap_or((marks, &[]));
            marks = rest;
            let block = source.block(own, start, end);
            let all_nops = block.body_end == start && matches!(block.terminator, Terminator::Fallthrough(_) | Terminator::Stop);
            let is_unreached = !self.targets.contains(start) && !source.is_label(start);
            // Traps behind a return or indirect jump stay behind it: processors do not guess beyond them (-mharden-sls).
            if let Some(last) = self.blocks.last_mut().filter(|last| is_unreached && last.end == start)
                && source.is_traps(&block)
                && matches!(last.terminator, Terminator::IndirectJump | Terminator::Stop)
            {
                (last.body_end, last.end) = (block.body_end, end);
                self.block_of.push(None);
                continue;
            }
            let last = self.blocks.last_mut().filter(|_| all_nops && is_unreached);
            if let Some(last) = last
                && matches!(last.terminator, Terminator::Jump { .. } | Terminator::IndirectJump | Terminator::Stop)
            {
                // Unreachable padding belongs to the block before it and needs no bytes.
                last.end = end;
                self.block_of.push(None);
                continue;
            }
            self.block_of.push(Some(BlockId::from_index(self.blocks.len())));
            // NOPs that something refers to (patchable entries) are there to be written over.
            let keep_nops = all_nops && (start == 0 || source.is_label(start));
            self.blocks.push(if keep_nops { Block { body_end: end, ..block } } else { block });
        }
    }

    /// Turns targets into blocks and adds what is known of the blocks' starts.
    fn resolve(&mut self, source: &Source<'_, '_>) {
        let Self { program, leaders, block_of, blocks, .. } = self;
        let function = source.function;
        let block_at = |target: u64| {
            let leader = function.contains(target).then(|| leaders.position(source.offset_of(target)))??;
            block_of.get(leader).copied().flatten()
        };
        let resolve = |target: Target| match target {
            Target::External(addr) => block_at(addr).map_or(target, Target::Block),
            Target::Block(_) => target,
        };
        let (mut labels, mut pads) = (source.labels, sorted_range(&program.landing_pads, function.start, function.end));
        for block in blocks {
            match &mut block.terminator {
                Terminator::Fallthrough(target) | Terminator::Jump { target, .. } => *target = resolve(*target),
                Terminator::Branch { taken, fall, .. } => (*taken, *fall) = (resolve(*taken), resolve(*fall)),
                Terminator::IndirectJump | Terminator::Stop => {}
            }
            let addr = function.start + u64::from(block.start);
            block.label = pass(&mut labels, addr);
            block.landing_pad = pass(&mut pads, addr);
        }
    }

    /// Lists the edges.
    fn join(&mut self, source: &Source<'_, '_>) {
        let Self { leaders, block_of, blocks, edges, .. } = self;
        edges.clear();
        let mut indirect: Option<Vec<BlockId>> = None;
        for (index, block) in blocks.iter().enumerate() {
            let from = BlockId::from_index(index);
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
                    let block_at = |offset: u32| block_of.get(leaders.position(offset)?).copied().flatten();
                    for &to in indirect.get_or_insert_with(|| source.indirect_targets(block_at)).iter() {
                        push(Target::Block(to), EdgeKind::Indirect);
                    }
                }
                Terminator::Stop => {}
            }
        }
    }
}

impl Source<'_, '_> {
    fn offset_of(&self, addr: u64) -> u32 {
        u32::try_from(addr - self.function.start).unwrap_or(u32::MAX)
    }

    fn is_label(&self, offset: u32) -> bool {
        self.labels.binary_search(&(self.function.start + u64::from(offset))).is_ok()
    }

    /// Whether there is nothing in the block but `int3`, and NOPs at its end.
    fn is_traps(&self, block: &Block) -> bool {
        let bytes = self.bytes.get(block.start as usize..block.body_end as usize).unwrap_or(&[]);
        let runs_on = matches!(block.terminator, Terminator::Fallthrough(_) | Terminator::Stop);
        runs_on && !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0xcc)
    }

    /// The block from `start` to `end`, in which the `marks` are, with targets still as addresses.
    fn block(&self, marks: &[Mark], start: u32, end: u32) -> Block {
        // Back over the NOPs at its end.
        let mut at = marks.last().map_or(end, |mark| mark.end().max(end));
        let mut kept = None;
        let mut rest = marks;
        while let Some((mark, before)) = rest.split_last()
            && mark.end() == at
            && mark.what != What::Inst
        {
            if mark.what == What::Byte {
                kept.get_or_insert(at);
            }
            at = mark.at;
            rest = before;
        }
        // End of the last instruction that must be kept.
        let kept = kept.unwrap_or(at);
        let last = rest.last().filter(|mark| mark.end() == at);
        let last_is_call = last.is_some_and(|mark| matches!(mark.flow, Flow::Call { .. } | Flow::IndirectCall));
        let exit = last.filter(|mark| matches!(mark.flow, Flow::Jump { .. } | Flow::Branch { .. }));
        let terminator = marks.iter().rev().find_map(|mark| {
            let (at, end) = (mark.at, mark.end());
            match mark.flow {
                Flow::Jump { target } => Some((at, Terminator::Jump { at, target: Target::External(target) })),
                Flow::Branch { target, form } => {
                    let (taken, fall) = (Target::External(target), Target::External(self.address_after(end)));
                    Some((at, Terminator::Branch { at, form, taken, fall }))
                }
                Flow::IndirectJump => Some((end, Terminator::IndirectJump)),
                Flow::Return => Some((end, Terminator::Stop)),
                _ => None,
            }
        });
        let stops = || end >= self.size && (last_is_call && !self.function.traits.size_guessed || !self.function.traits.falls_through);
        let (body_end, terminator) = match terminator {
            Some(terminator) => terminator,
            None if stops() => (kept, Terminator::Stop),
            None => (kept, Terminator::Fallthrough(Target::External(self.address_after(end)))),
        };
        let exit_size = exit.map_or(0, |mark| mark.len);
        Block { start, body_end, end, terminator, exit_size, landing_pad: false, label: false }
    }

    /// The address that control reaches behind the byte before `offset`.
    fn address_after(&self, offset: u32) -> u64 {
        if offset < self.size {
            return self.function.start + u64::from(offset);
        }
        self.program.fallthrough_target(self.id).unwrap_or(self.function.end)
    }

    /// Blocks that an indirect jump of the function may reach: those that words of data designate.
    fn indirect_targets(&self, block_at: impl Fn(u32) -> Option<BlockId>) -> Vec<BlockId> {
        let function = self.function;
        let targets = self.program.jump_targets_in(function.start, function.end).iter();
        // In order, and so are the blocks.
        targets.filter_map(|&target| block_at(self.offset_of(target))).collect()
    }
}

/// Decodes from `start` on until `end` is reached.
fn decode(stream: &mut Stream<'_>, start: u32, end: u32, mut each: impl FnMut(Mark)) {
    let offset_of = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
    stream.seek(start as usize);
    loop {
        let mut last = stream.position();
        while stream.position() < end as usize {
            let plain = stream.next_plain();
            if plain == 0 {
                break;
            }
            last = stream.position() - plain;
        }
        let at = stream.position();
        if at >= end as usize {
            if at > end as usize && at > last {
                let len = u8::try_from(at - last).unwrap_or(u8::MAX);
                each(Mark { flow: Flow::Next, at: offset_of(last), len, what: What::Inst });
            }
            return;
        }
        let Some(inst) = stream.next_other() else {
            each(Mark { flow: Flow::Next, at: offset_of(at), len: 1, what: What::Byte });
            stream.seek(at + 1);
            continue;
        };
        let goes_on = matches!(inst.flow, Flow::Next | Flow::Trap);
        if inst.is_nop || !goes_on || stream.position() > end as usize {
            let what = if inst.is_nop { What::Nop } else { What::Inst };
            each(Mark { flow: inst.flow, at: offset_of(at), len: inst.len, what });
        }
    }
}

/// From each start to the next one, the last one to `size`.
fn ranges(starts: &[u32], size: u32) -> impl Iterator<Item = (u32, u32)> {
    let ends = starts.iter().skip(1).copied().chain([size]);
    starts.iter().copied().zip(ends)
}

/// Goes on in a sorted list to what is not below `addr`; says whether that is `addr` itself.
fn pass(sorted: &mut &[u64], addr: u64) -> bool {
    while let Some((&first, rest)) = sorted.split_first()
        && first < addr
    {
        *sorted = rest;
    }
    sorted.first() == Some(&addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(offset, length, what)` of the marks in `start..end`.
    fn marks(bytes: &[u8], start: u32, end: u32) -> Vec<(u32, u8, What)> {
        let mut marks = Vec::new();
        decode(&mut Stream::new(bytes, 0x1000), start, end, |mark| marks.push((mark.at, mark.len, mark.what)));
        marks
    }

    #[test]
    fn marks_what_is_not_plain() {
        // push %rbp; mov %rsp,%rbp; xchg %ax,%ax; a byte that is none; call; ret; movabs $0,%rax
        let bytes = [
            &[0x55, 0x48, 0x89, 0xe5, 0x66, 0x90, 0x06, 0xe8, 0, 0, 0, 0, 0xc3][..],
            &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x55; 16],
        ]
        .concat();
        let (nop, byte, call, ret) = ((4, 2, What::Nop), (6, 1, What::Byte), (7, 5, What::Inst), (12, 1, What::Inst));
        assert_eq!(marks(&bytes, 0, 39), [nop, byte, call, ret]);
        assert_eq!(marks(&bytes, 1, 7), [nop, byte]);
        // The last instruction reaches over the end: a call, a NOP, a plain one.
        assert_eq!(marks(&bytes, 0, 8), [nop, byte, call]);
        assert_eq!(marks(&bytes, 0, 5), [nop]);
        assert_eq!(marks(&bytes, 12, 20), [ret, (13, 10, What::Inst)]);
        assert_eq!(marks(&bytes, 12, 13), [ret]);
        assert_eq!(marks(&bytes, 7, 7), []);
    }

    #[test]
    fn passes_in_a_sorted_list() {
        let mut list = &[2, 5, 5, 9][..];
        let found: Vec<u64> = (0..12).filter(|&addr| pass(&mut list, addr)).collect();
        assert_eq!((found, list), (vec![2, 5, 9], &[][..]));
    }
}
