//! From records to the blocks and edges of one function.

use postlink_base::Id;
use postlink_cfg::{BlockId, EdgeKind, FunctionCfg, Program, Target, Terminator};
use postlink_isa::Flow;

use crate::code::Code;
use crate::data::{Branch, Near, Profile, ProfileKind};
use crate::staleness::ShareOfCounts;
use crate::{infer, samples};

/// Counts of one function, parallel to its [`FunctionCfg`].
///
/// All zero if the profile has nothing on the function. Counts saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionCounts {
    /// How often the function was entered at its start from outside, recursion included.
    pub entry: u64,
    /// How often each block was executed, in block order.
    pub blocks: Vec<u64>,
    /// How often each edge was taken, parallel to `cfg.edges`.
    pub edges: Vec<u64>,
    /// Mispredictions of each edge, parallel to `cfg.edges`; empty if none was recorded.
    pub mispredicts: Vec<u64>,
    /// Whether any record tells what happens inside. If not, only the number of entries is known: every
    /// block that can be reached without an exception has that count, because none is known to be cold,
    /// and the order of blocks is better left as it is.
    pub inside_known: bool,
}

/// How the records of one function fit its graph.
///
/// A branch record belongs to the function it leaves, or to the one it enters if it comes from outside
/// of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachStats {
    /// Sum of the counts of records that fit.
    pub matched: u64,
    /// Sum of the counts of records that do not: nothing in the code explains them.
    pub unmatched: u64,
    /// Sum over blocks of the difference between what flows in and out, as recorded.
    pub imbalance_before: u64,
    /// The same after inference.
    pub imbalance_after: u64,
    /// Sum of block counts after inference: the denominator of both.
    pub executed: u64,
}

impl AttachStats {
    /// The sum of two functions' figures.
    #[must_use]
    pub const fn add(self, other: Self) -> Self {
        Self {
            matched: self.matched.saturating_add(other.matched),
            unmatched: self.unmatched.saturating_add(other.unmatched),
            imbalance_before: self.imbalance_before.saturating_add(other.imbalance_before),
            imbalance_after: self.imbalance_after.saturating_add(other.imbalance_after),
            executed: self.executed.saturating_add(other.executed),
        }
    }

    /// Matched counts of all.
    pub const fn share(&self) -> ShareOfCounts {
        ShareOfCounts { matched: self.matched, total: self.matched.saturating_add(self.unmatched) }
    }
}

/// Attaches a profile to one function and repairs what does not add up.
pub fn attach(profile: &Profile, program: &Program<'_>, cfg: &FunctionCfg) -> (FunctionCounts, AttachStats) {
    attach_to(profile, program, cfg, &mut Near::default())
}

pub(crate) fn attach_to(
    profile: &Profile,
    code: &impl Code,
    cfg: &FunctionCfg,
    near: &mut Near,
) -> (FunctionCounts, AttachStats) {
    match profile.kind {
        ProfileKind::Branches => {
            let mut attacher = Attacher::new(code, cfg, profile.translated);
            attacher.leaving(profile, near);
            attacher.arriving(profile, near);
            let (counts, flow) = infer::repair(cfg, &attacher.evidence);
            let stats = AttachStats {
                matched: attacher.matched,
                unmatched: attacher.unmatched,
                imbalance_before: flow.imbalance_before,
                imbalance_after: flow.imbalance_after,
                executed: flow.executed,
            };
            (counts, stats)
        }
        ProfileKind::Samples => samples::attach(profile, code, cfg),
    }
}

/// What the records say about one function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Entries at the function's start, other than by an edge.
    pub(crate) entry: u64,
    /// Per edge: its count, `None` if no record names it.
    pub(crate) edges: Vec<Option<u64>>,
    /// Per edge: mispredictions; empty if there are none.
    pub(crate) mispredicts: Vec<u64>,
    /// Per block: entries at its start from elsewhere, other than by an edge.
    pub(crate) inflow: Vec<u64>,
    /// Per block: exits by its terminator, other than by an edge.
    pub(crate) outflow: Vec<u64>,
    /// Per block: it was executed at least as often, says something in its middle.
    pub(crate) floor: Vec<u64>,
}

impl Evidence {
    pub(crate) fn new(cfg: &FunctionCfg) -> Self {
        let blocks = cfg.blocks.len();
        Self {
            entry: 0,
            edges: vec![None; cfg.edges.len()],
            mispredicts: Vec::new(),
            inflow: vec![0; blocks],
            outflow: vec![0; blocks],
            floor: vec![0; blocks],
        }
    }

    /// Whether a record says what happens inside: an edge, or anything at another block than the first.
    /// Where there is no edge, there is nothing to know.
    pub(crate) fn knows_inside(&self) -> bool {
        let blocks = [&self.inflow, &self.outflow, &self.floor];
        self.edges.is_empty()
            || self.edges.iter().any(Option::is_some)
            || blocks.iter().any(|counts| counts.iter().skip(1).any(|&count| count > 0))
    }
}

/// For each block, where its edges start in `cfg.edges` (invariant 2 there: grouped by source).
pub(crate) fn edge_ranges(cfg: &FunctionCfg) -> Vec<(usize, usize)> {
    let mut ranges = vec![(0, 0); cfg.blocks.len()];
    for (index, edge) in cfg.edges.iter().enumerate() {
        if let Some(range) = ranges.get_mut(edge.from.index()) {
            if range.1 == 0 {
                range.0 = index;
            }
            range.1 = index + 1;
        }
    }
    ranges
}

/// Sums the counts of records that share one address in the middle of a block.
#[derive(Default)]
struct RunningSum {
    addr: u64,
    sum: u64,
}

impl RunningSum {
    fn add(&mut self, addr: u64, count: u64) -> u64 {
        if self.addr != addr {
            *self = Self { addr, sum: 0 };
        }
        self.sum = self.sum.saturating_add(count);
        self.sum
    }
}

struct Attacher<'a, C> {
    code: &'a C,
    cfg: &'a FunctionCfg,
    end: u64,
    /// See [`Profile::translated`].
    translated: bool,
    ranges: Vec<(usize, usize)>,
    evidence: Evidence,
    matched: u64,
    unmatched: u64,
}

/// A place in the function.
#[derive(Clone, Copy)]
struct Place {
    block: BlockId,
    offset: u32,
    at_start: bool,
}

impl<'a, C: Code> Attacher<'a, C> {
    fn new(code: &'a C, cfg: &'a FunctionCfg, translated: bool) -> Self {
        let size = cfg.blocks.as_slice().last().map_or(0, |block| block.end);
        Self {
            code,
            cfg,
            end: cfg.start.saturating_add(u64::from(size)),
            translated,
            ranges: edge_ranges(cfg),
            evidence: Evidence::new(cfg),
            matched: 0,
            unmatched: 0,
        }
    }

    fn place(&self, addr: u64) -> Option<Place> {
        let offset = u32::try_from(addr.checked_sub(self.cfg.start)?).ok()?;
        let block = self.cfg.block_at(offset)?;
        Some(Place { block, offset, at_start: self.cfg.blocks[block].start == offset })
    }

    fn contains(&self, addr: u64) -> bool {
        addr >= self.cfg.start && addr < self.end
    }

    fn count(&mut self, matched: bool, count: u64) {
        let sum = if matched { &mut self.matched } else { &mut self.unmatched };
        *sum = sum.saturating_add(count);
    }

    /// Records that leave from the function.
    fn leaving(&mut self, profile: &Profile, near: &mut Near) {
        let mut running = RunningSum::default();
        for branch in profile.branches_from(self.cfg.start, self.end, near) {
            let matched = self.place(branch.from).is_some_and(|from| {
                self.code.is_inst_start(branch.from)
                    && if self.contains(branch.to) {
                        self.inside(branch, from, &mut running)
                    } else {
                        self.outward(branch, from, &mut running)
                    }
            });
            self.count(matched, branch.count);
        }
    }

    /// A record with both ends in the function. Says whether the code explains it.
    fn inside(&mut self, branch: &Branch, from: Place, running: &mut RunningSum) -> bool {
        let Some(to) = self.place(branch.to) else { return false };
        // Where a block was translated back to its first instruction, the instruction tells nothing.
        let flow = self.code.flow(branch.from);
        let is_call = matches!(flow, Some(Flow::Call { .. } | Flow::IndirectCall));
        if to.at_start && !(is_call && to.block.index() == 0) && self.edge(branch, from.block, to.block) {
            return true;
        }
        if is_call && to.at_start {
            self.raise(from.block, running.add(branch.from, branch.count));
            if to.block.index() == 0 {
                self.evidence.entry = self.evidence.entry.saturating_add(branch.count);
                return true;
            }
            // The callee threw. llvm-bolt's instrumentation knows such edges.
            if self.cfg.blocks[to.block].landing_pad {
                add(&mut self.evidence.inflow, to.block, branch.count);
                return true;
            }
            return false;
        }
        // A block that others end here goes on, to an instruction that others start a block with.
        if to.block == from.block && to.offset > from.offset && self.code.is_inst_start(branch.to) {
            self.raise(from.block, branch.count);
            return true;
        }
        match flow {
            // Recursion returns.
            Some(Flow::Return) if self.code.is_inst_start(branch.to) && self.code.follows_call(branch.to) => {
                add(&mut self.evidence.outflow, from.block, branch.count);
                self.raise(to.block, branch.count);
                true
            }
            // A target that recovery does not know.
            Some(Flow::IndirectJump) if to.at_start => {
                add(&mut self.evidence.outflow, from.block, branch.count);
                add(&mut self.evidence.inflow, to.block, branch.count);
                true
            }
            _ => false,
        }
    }

    /// Adds to the edge between two blocks. Says whether there is one.
    fn edge(&mut self, branch: &Branch, from: BlockId, to: BlockId) -> bool {
        let Some(&(first, last)) = self.ranges.get(from.index()) else { return false };
        let Some(index) = (first..last).find(|&index| self.cfg.edges[index].to == to) else { return false };
        let count = &mut self.evidence.edges[index];
        *count = Some(count.unwrap_or(0).saturating_add(branch.count));
        if branch.mispredicts > 0 {
            let mispredicts = &mut self.evidence.mispredicts;
            mispredicts.resize(self.cfg.edges.len(), 0);
            mispredicts[index] = mispredicts[index].saturating_add(branch.mispredicts);
        }
        true
    }

    /// A record that leaves the function. Says whether the code explains it.
    fn outward(&mut self, branch: &Branch, from: Place, running: &mut RunningSum) -> bool {
        let block = self.cfg.blocks[from.block];
        let known = branch.to == 0 || self.code.is_inst_start(branch.to) || !self.code.is_in_function(branch.to);
        let ends_block = match block.terminator {
            Terminator::Jump { at, target } => at == from.offset && target != Target::Block(from.block),
            Terminator::Branch { at, .. } => at == from.offset,
            _ => false,
        };
        match self.code.flow(branch.from) {
            Some(Flow::Call { .. } | Flow::IndirectCall) => {
                self.raise(from.block, running.add(branch.from, branch.count));
                known && (branch.to == 0 || self.code.is_entry(branch.to) || !self.code.is_in_function(branch.to))
            }
            Some(Flow::Return | Flow::IndirectJump) => {
                add(&mut self.evidence.outflow, from.block, branch.count);
                known
            }
            Some(Flow::Jump { target } | Flow::Branch { target, .. }) if ends_block => {
                add(&mut self.evidence.outflow, from.block, branch.count);
                branch.to == 0 || branch.to == target || branch.to == self.end
            }
            // Control runs over the function's end into the next one.
            _ if block.terminator == Terminator::Fallthrough(Target::External(branch.to)) => {
                add(&mut self.evidence.outflow, from.block, branch.count);
                true
            }
            // Somewhere in the block is the call or jump.
            _ if self.translated => {
                self.raise(from.block, running.add(branch.from, branch.count));
                known
            }
            _ => false,
        }
    }

    /// Records that come from elsewhere.
    fn arriving(&mut self, profile: &Profile, near: &mut Near) {
        let mut running = RunningSum::default();
        for branch in profile.branches_to(self.cfg.start, self.end, near) {
            if self.contains(branch.from) {
                continue;
            }
            let matched = self.arrival(&branch, &mut running);
            if branch.from == 0 {
                self.count(matched, branch.count);
            }
        }
    }

    fn arrival(&mut self, branch: &Branch, running: &mut RunningSum) -> bool {
        let Some(to) = self.place(branch.to) else { return false };
        if to.offset == 0 {
            self.evidence.entry = self.evidence.entry.saturating_add(branch.count);
            return true;
        }
        if !self.code.is_inst_start(branch.to) {
            return false;
        }
        // A return to behind a call is no entry: the block in front of it runs on. The same holds for
        // what llvm-bolt's instrumentation says to come from nowhere: it repeats what it could not
        // explain by what it counts in a function, so it is no more than a lower bound.
        if to.at_start && branch.from != 0 && !self.code.follows_call(branch.to) {
            add(&mut self.evidence.inflow, to.block, branch.count);
        } else {
            let sum = running.add(branch.to, branch.count);
            self.raise(to.block, sum);
        }
        to.at_start || self.code.follows_call(branch.to)
    }

    fn raise(&mut self, block: BlockId, count: u64) {
        if let Some(floor) = self.evidence.floor.get_mut(block.index()) {
            *floor = count.max(*floor);
        }
    }
}

fn add(counts: &mut [u64], block: BlockId, count: u64) {
    if let Some(sum) = counts.get_mut(block.index()) {
        *sum = sum.saturating_add(count);
    }
}

/// Edges by target: for each block those that lead to it, in edge order.
pub(crate) struct Incoming {
    /// Block `b` has `edges[starts[b]..starts[b + 1]]`.
    starts: Vec<u32>,
    edges: Vec<u32>,
}

impl Incoming {
    pub(crate) fn new(cfg: &FunctionCfg) -> Self {
        let mut starts = vec![0u32; cfg.blocks.len() + 1];
        for edge in &cfg.edges {
            starts[edge.to.index() + 1] += 1;
        }
        for block in 0..cfg.blocks.len() {
            starts[block + 1] += starts[block];
        }
        let mut next = starts.clone();
        let mut edges = vec![0u32; cfg.edges.len()];
        for (index, edge) in (0u32..).zip(&cfg.edges) {
            let place = &mut next[edge.to.index()];
            edges[*place as usize] = index;
            *place += 1;
        }
        Self { starts, edges }
    }

    /// Edges to a block.
    pub(crate) fn of(&self, block: usize) -> impl Iterator<Item = usize> + Clone {
        let range = self.starts[block] as usize..self.starts[block + 1] as usize;
        self.edges[range].iter().map(|&edge| edge as usize)
    }
}

/// Whether an edge needs no branch.
pub(crate) fn is_fallthrough(cfg: &FunctionCfg, edge: usize) -> bool {
    cfg.edges.get(edge).is_some_and(|edge| edge.kind == EdgeKind::Fallthrough)
}
