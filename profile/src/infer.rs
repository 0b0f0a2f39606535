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
//!    fallthroughs only lead forward, so there is no cycle in which counts could grow.
//! 2. *The only edge* out of a block, or into one, has the block's count. Each such edge is set once, so
//!    a cycle of jumps without records cannot grow either; a round of fallthroughs follows.
//!
//! Rounds are bounded by [`MAX_ROUNDS`]. The general problem is a minimum-cost flow (Levin, Newman and
//! Haber, "Complementing Missing and Inaccurate Profiling Using a Minimum Cost Circulation Algorithm",
//! HiPEAC 2008; He, Mestre, Pupyrev, Wang and Yu, "Profile Inference Revisited", POPL 2022); with
//! branch records, which name nearly every edge, the rules above leave little to it.

use postlink_base::Id;
use postlink_cfg::{EdgeKind, FunctionCfg};

use crate::attach::{Evidence, FunctionCounts, edge_ranges, incoming, is_fallthrough};

/// Rounds of both rules. Each makes progress along a whole row of fallthroughs, so few are needed.
const MAX_ROUNDS: usize = 8;

/// How well a function's counts add up.
pub(crate) struct Flow {
    pub(crate) imbalance_before: u64,
    pub(crate) imbalance_after: u64,
    pub(crate) executed: u64,
}

/// Counts of blocks and edges from what was recorded.
pub(crate) fn repair(cfg: &FunctionCfg, evidence: &Evidence) -> (FunctionCounts, Flow) {
    let mut state = State::new(cfg, evidence);
    let imbalance_before = state.imbalance();
    for _ in 0..MAX_ROUNDS {
        state.fallthroughs();
        if !state.only_edges() {
            break;
        }
    }
    let blocks: Vec<u64> = (0..cfg.blocks.len()).map(|block| state.block(block)).collect();
    let flow = Flow {
        imbalance_before,
        imbalance_after: state.imbalance(),
        executed: blocks.iter().fold(0, |sum, &count| sum.saturating_add(count)),
    };
    // An entry without a record of its own: nothing else leads to the first block.
    let first = blocks.first().copied().unwrap_or(0);
    let into_first = state.edges_into(0);
    let entry = evidence.entry.max(first.saturating_sub(into_first));
    let counts =
        FunctionCounts { entry, blocks, edges: state.edges, mispredicts: evidence.mispredicts.clone() };
    (counts, flow)
}

struct State<'a> {
    cfg: &'a FunctionCfg,
    evidence: &'a Evidence,
    /// Per edge: its count so far.
    edges: Vec<u64>,
    /// Per edge: recorded, or set by the second rule.
    known: Vec<bool>,
    /// Per block: range of its edges.
    ranges: Vec<(usize, usize)>,
    /// Per block: edges that lead to it.
    incoming: Vec<Vec<usize>>,
}

impl<'a> State<'a> {
    fn new(cfg: &'a FunctionCfg, evidence: &'a Evidence) -> Self {
        let incoming = incoming(cfg);
        Self {
            cfg,
            evidence,
            edges: evidence.edges.iter().map(|count| count.unwrap_or(0)).collect(),
            known: evidence.edges.iter().map(Option::is_some).collect(),
            ranges: edge_ranges(cfg),
            incoming: incoming.as_slice().to_vec(),
        }
    }

    fn outgoing(&self, block: usize) -> std::ops::Range<usize> {
        let (first, last) = self.ranges[block];
        first..last
    }

    /// Sum of the counts of edges into a block.
    fn edges_into(&self, block: usize) -> u64 {
        let edges = self.incoming.get(block).map_or(&[][..], Vec::as_slice);
        edges.iter().fold(0, |sum: u64, &edge| sum.saturating_add(self.edges[edge]))
    }

    fn inflow(&self, block: usize) -> u64 {
        let entry = if block == 0 { self.evidence.entry } else { 0 };
        self.edges_into(block).saturating_add(self.evidence.inflow[block]).saturating_add(entry)
    }

    fn outflow(&self, block: usize) -> u64 {
        let edges = self.outgoing(block).fold(0, |sum: u64, edge| sum.saturating_add(self.edges[edge]));
        edges.saturating_add(self.evidence.outflow[block])
    }

    fn block(&self, block: usize) -> u64 {
        self.inflow(block).max(self.outflow(block)).max(self.evidence.floor[block])
    }

    /// Blocks that stop, or that are entered by means no edge shows, have nothing to be compared with.
    fn imbalance(&self) -> u64 {
        (0..self.cfg.blocks.len())
            .filter(|&block| !self.outgoing(block).is_empty() && self.is_entered_by_edges_only(block))
            .fold(0, |sum, block| sum.saturating_add(self.inflow(block).abs_diff(self.outflow(block))))
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
                let rest = self.block(block).saturating_sub(others);
                self.edges[edge] = self.edges[edge].max(rest);
            }
        }
        for block in (0..self.cfg.blocks.len()).rev() {
            if let Some(edge) = self.missing_fallthrough(block) {
                let to = self.cfg.edges[edge].to.index();
                if self.is_entered_by_edges_only(to) {
                    let others = self.inflow(to).saturating_sub(self.edges[edge]);
                    let rest = self.block(to).saturating_sub(others);
                    self.edges[edge] = self.edges[edge].max(rest);
                }
            }
        }
    }

    /// Rule 2. Says whether it found anything.
    fn only_edges(&mut self) -> bool {
        let mut found = false;
        for block in 0..self.cfg.blocks.len() {
            let outgoing = self.outgoing(block);
            if outgoing.len() == 1 && self.is_missing_jump(outgoing.start) {
                let rest = self.block(block).saturating_sub(self.evidence.outflow[block]);
                found |= self.set(outgoing.start, rest);
            }
            if let [edge] = self.incoming[block][..]
                && self.is_missing_jump(edge)
                && self.is_entered_by_edges_only(block)
            {
                let rest = self.block(block).saturating_sub(self.evidence.inflow[block]);
                found |= self.set(edge, rest);
            }
        }
        found
    }

    fn is_missing_jump(&self, edge: usize) -> bool {
        !self.known[edge] && self.cfg.edges[edge].kind != EdgeKind::Fallthrough
    }

    fn set(&mut self, edge: usize, count: u64) -> bool {
        if count == 0 {
            return false;
        }
        self.edges[edge] = count;
        self.known[edge] = true;
        true
    }
}

#[cfg(test)]
mod tests;
