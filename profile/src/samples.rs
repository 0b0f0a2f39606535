//! Counts from samples of the instruction pointer.
//!
//! A block of `n` instructions that runs once is sampled about `n` times as often as one of a single
//! instruction, so a block's count is `samples * 1000 / n` (as in BOLT, so that figures compare; the
//! factor keeps small counts apart). Blocks without a sample that lie alone between others take their
//! neighbour's count, within [`MAX_ROUNDS`]. A block's count is then spread over its successors in
//! proportion to their counts, evenly if none has any (BOLT's `estimateEdgeCounts`). The result is an
//! estimate: rows of equal counts, not a flow that conserves.

use postlink_base::Id;
use postlink_cfg::FunctionCfg;

use crate::attach::{AttachStats, FunctionCounts, Incoming, edge_ranges};
use crate::code::Code;
use crate::data::Profile;

/// What a sample in a block of one instruction counts.
const SCALE: u64 = 1000;
/// How far a count travels into blocks without samples.
const MAX_ROUNDS: usize = 8;

pub(crate) fn attach(profile: &Profile, code: &impl Code, cfg: &FunctionCfg) -> (FunctionCounts, AttachStats) {
    let mut stats = AttachStats::default();
    let mut blocks = Vec::with_capacity(cfg.blocks.len());
    for block in cfg.blocks.iter() {
        let (start, end) = (cfg.start + u64::from(block.start), cfg.start + u64::from(block.end));
        let mut sum = 0u64;
        for sample in profile.samples_in(start, end) {
            if code.is_inst_start(sample.addr) {
                sum = sum.saturating_add(sample.count);
            } else {
                stats.unmatched = stats.unmatched.saturating_add(sample.count);
            }
        }
        stats.matched = stats.matched.saturating_add(sum);
        let insts = if sum == 0 { 1 } else { (start..end).filter(|&addr| code.is_inst_start(addr)).count() };
        blocks.push(sum.saturating_mul(SCALE) / (insts.max(1) as u64));
    }
    if stats.matched > 0 {
        fill_gaps(cfg, &mut blocks);
    }
    let edges = spread(cfg, &blocks);
    stats.executed = blocks.iter().fold(0, |sum, &count| sum.saturating_add(count));
    let entry = blocks.first().copied().unwrap_or(0);
    (FunctionCounts { entry, blocks, edges, mispredicts: Vec::new(), inside_known: stats.matched > 0 }, stats)
}

/// Gives blocks without samples the count of a neighbour that is their only one and has no other.
fn fill_gaps(cfg: &FunctionCfg, blocks: &mut [u64]) {
    let ranges = edge_ranges(cfg);
    let incoming = Incoming::new(cfg);
    // Edges that are the only one out of their source and into their target.
    let sole: Vec<(usize, usize)> = cfg
        .edges
        .iter()
        .filter(|edge| {
            let (first, last) = ranges[edge.from.index()];
            last - first == 1 && incoming.of(edge.to.index()).count() == 1 && edge.to.index() != 0
        })
        .map(|edge| (edge.from.index(), edge.to.index()))
        .collect();
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for &(from, to) in &sole {
            let (before, after) = (blocks[from], blocks[to]);
            if before == 0 && after != 0 {
                blocks[from] = after;
                changed = true;
            } else if after == 0 && before != 0 {
                blocks[to] = before;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
}

/// Spreads each block's count over its edges.
fn spread(cfg: &FunctionCfg, blocks: &[u64]) -> Vec<u64> {
    let mut edges = vec![0; cfg.edges.len()];
    for (block, &(first, last)) in edge_ranges(cfg).iter().enumerate() {
        let total = blocks.get(block).copied().unwrap_or(0);
        let weight = |edge: usize| u128::from(blocks.get(cfg.edges[edge].to.index()).copied().unwrap_or(0));
        let sum: u128 = (first..last).map(weight).sum();
        for (edge, count) in edges.iter_mut().enumerate().take(last).skip(first) {
            let share = match sum {
                0 => u128::from(total) / ((last - first) as u128),
                _ => u128::from(total) * weight(edge) / sum,
            };
            *count = u64::try_from(share).unwrap_or(u64::MAX);
        }
    }
    edges
}
