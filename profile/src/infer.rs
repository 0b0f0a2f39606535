//! Makes counts add up: what flows into a block flows out of it.
//!
//! A recorded count is kept. What is inferred is the count of edges without a record:
//!
//! 1. *Fallthroughs.* Processors record taken branches only, so a missing fallthrough is what remains of
//!    its source's count behind the other exits, or of its target's count behind the other entries,
//!    whichever is more. Along a row of blocks with missing fallthroughs `f_i` from block `i` to `i+1`,
//!    with `d_i = in_i - out_i` of what is recorded at block `i`, conservation reads
//!    `f_i = f_{i-1} + d_i`, within `f_i >= 0`. One sweep forward makes each `f_i` at least that, one
//!    sweep backward raises `f_{i-1}` to `f_i - d_i` where it is less, and nothing is left to do:
//!    fallthroughs only lead forward, so there is no cycle in which counts could grow. Behind other exits (or entries) that
//!    are recorded, a small remainder is no fallthrough but noise: see [`NOISE`].
//! 2. *The only jump.* The only jump without a record out of a block has what remains of the block's
//!    count, and likewise the only one into a block. Only a remainder of more than half of the block's
//!    count is believed: jumps are recorded as a rule, and less is noise, an exception or a call that did
//!    not return.
//! 3. *Indirect jumps.* If no target of an indirect jump is recorded (llvm-bolt's instrumentation passes
//!    over functions that it does not understand), each gets the same part of what remains.
//!
//! Rules 2 and 3 set an edge once, so a cycle of jumps without records cannot grow either.
//!
//! Where nothing but the entry is recorded, nothing is inferred: see [`unknown_inside`].
//!
//! Rounds are bounded by [`MAX_ROUNDS`]. The general problem is a minimum-cost flow (Levin, Newman and
//! Haber, "Complementing Missing and Inaccurate Profiling Using a Minimum Cost Circulation Algorithm",
//! HiPEAC 2008; He, Mestre, Pupyrev, Wang and Yu, "Profile Inference Revisited", POPL 2022); with
//! branch records, which name nearly every edge, the rules above leave little to it.

use postlink_base::Id;
use postlink_cfg::{EdgeKind, FunctionCfg};

use crate::attach::{Evidence, FunctionCounts, Incoming, edge_ranges, is_fallthrough};

/// Rounds of both rules. Each makes progress along a whole row of fallthroughs, so few are needed.
const MAX_ROUNDS: usize = 8;

/// A remainder of at most this part of a block's count, beside recorded exits or entries, is noise: samples never add up, counters of
/// several threads lose increments, and some executions end in an exception. Taken for a fallthrough, it would make
/// code warm that never runs. If it is one, what it leads to has records of its own, and the sweep backward finds it.
const NOISE: u64 = 16;

/// How well a function's counts add up.
pub(crate) struct Flow {
    pub(crate) imbalance_before: u64,
    pub(crate) imbalance_after: u64,
    pub(crate) executed: u64,
}

/// Counts of blocks and edges from what was recorded.
pub(crate) fn repair(cfg: &FunctionCfg, evidence: &Evidence) -> (FunctionCounts, Flow) {
    if !evidence.knows_inside() {
        return unknown_inside(cfg, evidence);
    }
    let mut state = State::new(cfg, evidence);
    let imbalance_before = state.imbalance();
    for _ in 0..MAX_ROUNDS {
        state.fallthroughs();
        if !state.jumps() {
            break;
        }
    }
    let blocks: Vec<u64> = (0..cfg.blocks.len()).map(|block| state.block(block)).collect();
    // An entry without a record of its own: nothing else leads to the first block.
    let first = blocks.first().copied().unwrap_or(0);
    let into_first = if blocks.is_empty() { 0 } else { state.edges_into(0) };
    let entry = evidence.entry.max(first.saturating_sub(into_first));
    state.enter(entry);
    let flow = Flow {
        imbalance_before,
        imbalance_after: state.imbalance(),
        executed: blocks.iter().fold(0, |sum, &count| sum.saturating_add(count)),
    };
    let counts = FunctionCounts {
        entry,
        blocks,
        edges: state.edges,
        mispredicts: evidence.mispredicts.clone(),
        inside_known: true,
    };
    (counts, flow)
}

/// Counts of a function of which only the entries are known.
///
/// llvm-bolt does not instrument what it does not understand, interpreters' main loops among them, but
/// counts the calls. Zero would say that such a function's blocks are cold, which is what nobody knows:
/// each block that can be reached without an exception has the entry's count, evenly spread over its
/// edges.
fn unknown_inside(cfg: &FunctionCfg, evidence: &Evidence) -> (FunctionCounts, Flow) {
    let entry = evidence.entry.max(evidence.floor.first().copied().unwrap_or(0));
    let ranges = edge_ranges(cfg);
    let mut blocks = vec![0; cfg.blocks.len()];
    let mut edges = vec![0; cfg.edges.len()];
    if entry > 0 {
        let is_root = |&block: &usize| {
            let facts = &cfg.blocks.as_slice()[block];
            block == 0 || (facts.label && !facts.landing_pad)
        };
        let mut pending: Vec<usize> = (0..cfg.blocks.len()).filter(is_root).collect();
        while let Some(block) = pending.pop() {
            if blocks[block] != 0 {
                continue;
            }
            blocks[block] = entry;
            let (first, last) = ranges[block];
            edges[first..last].fill(entry / (last - first).max(1) as u64);
            pending.extend(cfg.edges[first..last].iter().map(|edge| edge.to.index()));
        }
    }
    let flow = Flow { imbalance_before: 0, imbalance_after: 0, executed: entry };
    (FunctionCounts { entry, blocks, edges, mispredicts: Vec::new(), inside_known: false }, flow)
}

struct State<'a> {
    cfg: &'a FunctionCfg,
    evidence: &'a Evidence,
    /// Entries at the function's start.
    entry: u64,
    /// Per edge: its count so far.
    edges: Vec<u64>,
    /// Per edge: recorded, or set by the second rule.
    known: Vec<bool>,
    /// Per block: sum of all that flows in and of all that flows out. Exact, so that a count can be replaced.
    flows: Vec<(u128, u128)>,
    /// Per block: range of its edges.
    ranges: Vec<(usize, usize)>,
    /// Per block: edges that lead to it.
    incoming: Incoming,
}

impl<'a> State<'a> {
    fn new(cfg: &'a FunctionCfg, evidence: &'a Evidence) -> Self {
        let edges: Vec<u64> = evidence.edges.iter().map(|count| count.unwrap_or(0)).collect();
        let outside = evidence.inflow.iter().zip(&evidence.outflow);
        let mut flows: Vec<(u128, u128)> = outside.map(|(&into, &out)| (into.into(), out.into())).collect();
        if let Some(first) = flows.first_mut() {
            first.0 += u128::from(evidence.entry);
        }
        for (edge, &count) in cfg.edges.iter().zip(&edges) {
            flows[edge.to.index()].0 += u128::from(count);
            flows[edge.from.index()].1 += u128::from(count);
        }
        Self {
            cfg,
            evidence,
            entry: evidence.entry,
            flows,
            edges,
            known: evidence.edges.iter().map(Option::is_some).collect(),
            ranges: edge_ranges(cfg),
            incoming: Incoming::new(cfg),
        }
    }

    /// Sets the entries at the function's start.
    fn enter(&mut self, entry: u64) {
        if let Some(first) = self.flows.first_mut() {
            first.0 = first.0 - u128::from(self.entry) + u128::from(entry);
        }
        self.entry = entry;
    }

    fn outgoing(&self, block: usize) -> std::ops::Range<usize> {
        let (first, last) = self.ranges[block];
        first..last
    }

    /// Sum of the counts of edges into a block.
    fn edges_into(&self, block: usize) -> u64 {
        self.incoming.of(block).fold(0, |sum: u64, edge| sum.saturating_add(self.edges[edge]))
    }

    fn inflow(&self, block: usize) -> u64 {
        u64::try_from(self.flows[block].0).unwrap_or(u64::MAX)
    }

    fn outflow(&self, block: usize) -> u64 {
        u64::try_from(self.flows[block].1).unwrap_or(u64::MAX)
    }

    /// Gives an edge another count.
    fn replace(&mut self, edge: usize, count: u64) {
        let old = u128::from(std::mem::replace(&mut self.edges[edge], count));
        let (from, to) = (self.cfg.edges[edge].from.index(), self.cfg.edges[edge].to.index());
        let replaced = |sum: u128| sum - old + u128::from(count);
        self.flows[to].0 = replaced(self.flows[to].0);
        self.flows[from].1 = replaced(self.flows[from].1);
    }

    fn block(&self, block: usize) -> u64 {
        self.inflow(block).max(self.outflow(block)).max(self.evidence.floor[block])
    }

    /// Blocks that stop, or that are entered by means no edge shows, have nothing to be compared with.
    fn imbalance(&self) -> u64 {
        (0..self.cfg.blocks.len())
            .filter(|&block| !self.outgoing(block).is_empty() && self.has_known_inflow(block))
            .fold(0, |sum, block| sum.saturating_add(self.inflow(block).abs_diff(self.outflow(block))))
    }

    fn has_known_inflow(&self, block: usize) -> bool {
        self.is_entered_by_edges_only(block) || (block == 0 && self.entry > 0)
    }

    fn is_entered_by_edges_only(&self, block: usize) -> bool {
        let facts = &self.cfg.blocks.as_slice()[block];
        block != 0 && !facts.landing_pad && !facts.label
    }

    /// The edge without a record by which a block falls through.
    fn missing_fallthrough(&self, block: usize) -> Option<usize> {
        self.outgoing(block).find(|&edge| is_fallthrough(self.cfg, edge) && !self.known[edge])
    }

    /// Rule 1.
    fn fallthroughs(&mut self) {
        for block in 0..self.cfg.blocks.len() {
            if let Some(edge) = self.missing_fallthrough(block) {
                let others = self.outflow(block).saturating_sub(self.edges[edge]);
                let rest = remainder(self.block(block), others);
                self.replace(edge, self.edges[edge].max(rest));
            }
        }
        for block in (0..self.cfg.blocks.len()).rev() {
            if let Some(edge) = self.missing_fallthrough(block) {
                let to = self.cfg.edges[edge].to.index();
                if self.is_entered_by_edges_only(to) {
                    let others = self.inflow(to).saturating_sub(self.edges[edge]);
                    let rest = remainder(self.block(to), others);
                    self.replace(edge, self.edges[edge].max(rest));
                }
            }
        }
    }

    /// Rules 2 and 3. Says whether they found anything.
    fn jumps(&mut self) -> bool {
        let mut found = false;
        for block in 0..self.cfg.blocks.len() {
            let count = self.block(block);
            if count == 0 {
                continue;
            }
            let rest = count.saturating_sub(self.outflow(block));
            if rest > count / 2 {
                let outgoing = self.outgoing(block);
                if let Some(edge) = self.only_missing(outgoing.clone()) {
                    found |= self.set(edge, rest);
                } else if outgoing.clone().all(|edge| self.is_missing(edge, EdgeKind::Indirect)) {
                    let part = rest / (outgoing.len().max(1) as u64);
                    for edge in outgoing {
                        found |= self.set(edge, part);
                    }
                }
            }
            let rest = count.saturating_sub(self.inflow(block));
            if rest > count / 2
                && self.is_entered_by_edges_only(block)
                && let Some(edge) = self.only_missing(self.incoming.of(block))
            {
                found |= self.set(edge, rest);
            }
        }
        found
    }

    /// The edge without a record among those of a block, if there is one and it is a jump.
    fn only_missing(&self, edges: impl Iterator<Item = usize>) -> Option<usize> {
        let mut missing = edges.filter(|&edge| !self.known[edge]);
        let edge = missing.next()?;
        (missing.next().is_none() && !is_fallthrough(self.cfg, edge)).then_some(edge)
    }

    fn is_missing(&self, edge: usize, kind: EdgeKind) -> bool {
        !self.known[edge] && self.cfg.edges[edge].kind == kind
    }

    fn set(&mut self, edge: usize, count: u64) -> bool {
        if count == 0 {
            return false;
        }
        self.replace(edge, count);
        self.known[edge] = true;
        true
    }
}

/// What is left of a block's count behind `others`, the exits (or entries) that are recorded; see [`NOISE`].
const fn remainder(count: u64, others: u64) -> u64 {
    let rest = count.saturating_sub(others);
    if others > 0 && rest <= count / NOISE { 0 } else { rest }
}

#[cfg(test)]
mod tests;
