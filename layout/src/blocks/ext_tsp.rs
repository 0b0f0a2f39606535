//! Ext-TSP: the score of a block order, and the search for a good one.
//!
//! Source: Newell and Pupyrev, "Improved Basic Block Reordering" (IEEE Transactions on Computers,
//! 2020, arXiv 1809.04676). A jump is worth its count if it falls through, a tenth of it or less if
//! it is short, nothing if it is long; find the order that is worth most. The problem is NP-hard.
//! The paper's heuristic merges chains greedily, trying for each pair all ways to cut the first and
//! join the pieces with the second; windows, weights and limits are those of LLVM 19.

use super::merge::BlockObjective;
use super::units::Units;
use super::{BlockEdge, BlockGraph};
use crate::chains::{Chain, Chains};

/// The constants of ext-TSP. The defaults are LLVM's (`CodeLayout.cpp`, version 19), so that scores
/// and orders can be compared with llvm-bolt's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExtTspParams {
    /// Worth of one execution of a conditional edge that falls through.
    pub fallthrough_weight_conditional: f64,
    /// Worth of one execution of an unconditional edge that falls through: it saves a jump
    /// instruction on top.
    pub fallthrough_weight_unconditional: f64,
    /// Worth of a conditional jump forward over (nearly) no bytes; falls linearly to 0 at the window.
    pub forward_weight_conditional: f64,
    /// Likewise for an unconditional jump.
    pub forward_weight_unconditional: f64,
    /// Worth of a conditional jump backward over (nearly) no bytes; falls linearly to 0 at the window.
    pub backward_weight_conditional: f64,
    /// Likewise for an unconditional jump.
    pub backward_weight_unconditional: f64,
    /// A forward jump over more bytes is worth nothing. From the jump's end to the target's start.
    pub forward_window_bytes: u64,
    /// A backward jump over more bytes is worth nothing. From the jump's end to the target's start.
    pub backward_window_bytes: u64,
    /// Chains do not grow beyond this many units (runs of blocks that stay together).
    pub chain_units_max: usize,
    /// In a chain of at most this many units, every cut is tried, in a longer one only the cuts
    /// where the other chain could fall through.
    pub split_units_max: usize,
    /// Chains whose densities (executions per byte) differ by more than this factor are not merged
    /// for their score: lukewarm blocks would dilute hot ones.
    pub density_ratio_max: f64,
    /// Steps of the search's inner loops that every function may use for cutting chains; beyond its
    /// allowance, chains are only appended, which is cheap. (Not in LLVM.) A dense graph uses it up:
    /// the dispatch of an interpreter by computed goto is one, and so is a hostile file.
    pub cut_steps_min: u64,
    /// Steps that a function may use for each of its units besides. Ordinary code needs about 3000.
    pub cut_steps_per_unit: u64,
}

impl Default for ExtTspParams {
    fn default() -> Self {
        Self {
            fallthrough_weight_conditional: 1.0,
            fallthrough_weight_unconditional: 1.05,
            forward_weight_conditional: 0.1,
            forward_weight_unconditional: 0.1,
            backward_weight_conditional: 0.1,
            backward_weight_unconditional: 0.1,
            forward_window_bytes: 1024,
            backward_window_bytes: 640,
            chain_units_max: 512,
            split_units_max: 128,
            density_ratio_max: 100.0,
            cut_steps_min: 1 << 27,
            cut_steps_per_unit: 10_000,
        }
    }
}

impl ExtTspParams {
    /// The worth of one execution of a jump that falls through.
    pub(super) fn fallthrough_weight(&self, conditional: bool) -> f64 {
        if conditional { self.fallthrough_weight_conditional } else { self.fallthrough_weight_unconditional }
    }

    /// No jump that does not fall through is worth more.
    pub(super) fn jump_weight_most(&self, conditional: bool) -> f64 {
        if conditional {
            self.forward_weight_conditional.max(self.backward_weight_conditional)
        } else {
            self.forward_weight_unconditional.max(self.backward_weight_unconditional)
        }
    }

    /// The worth of `count` executions of a jump that ends at `src_end` and goes to `dst_start`
    /// (bytes from a common origin).
    pub(super) fn jump_value(
        &self,
        conditional: bool,
        count: f64,
        src_end: u64,
        dst_start: u64,
    ) -> f64 {
        let by_kind = |if_conditional, if_not| if conditional { if_conditional } else { if_not };
        if src_end == dst_start {
            return count * self.fallthrough_weight(conditional);
        }
        let (distance_bytes, window_bytes, weight) = if src_end < dst_start {
            let weight = by_kind(
                self.forward_weight_conditional,
                self.forward_weight_unconditional,
            );
            (dst_start - src_end, self.forward_window_bytes, weight)
        } else {
            let weight = by_kind(
                self.backward_weight_conditional,
                self.backward_weight_unconditional,
            );
            (src_end - dst_start, self.backward_window_bytes, weight)
        };
        if distance_bytes >= window_bytes {
            return 0.0;
        }
        count * weight * (1.0 - distance_bytes as f64 / window_bytes as f64)
    }
}

/// The ext-TSP score of an order with the default constants; see [`ext_tsp_score_with_params`].
pub fn ext_tsp_score(graph: &BlockGraph<'_>, order: &[u32]) -> f64 {
    ext_tsp_score_with_params(graph, order, &ExtTspParams::default())
}

/// The ext-TSP score of an order: the more, the better; 0 at the least.
///
/// `order` lists block indexes and need not be complete: edges of blocks that it leaves out are
/// worth nothing, as if they were far away. Linear.
pub fn ext_tsp_score_with_params(
    graph: &BlockGraph<'_>,
    order: &[u32],
    params: &ExtTspParams,
) -> f64 {
    let mut starts: Vec<Option<u64>> = vec![None; graph.len()];
    let mut end = 0;
    for &block in order {
        if let Some(start) = starts.get_mut(block as usize)
            && start.is_none()
        {
            *start = Some(end);
            end += graph.size_bytes(block);
        }
    }
    let value = |edge: &BlockEdge| {
        let src_start = starts[edge.src as usize]?;
        let dst_start = starts[edge.dst as usize]?;
        let src_end = src_start + graph.size_bytes(edge.src);
        Some(params.jump_value(edge.conditional, edge.count as f64, src_end, dst_start))
    };
    graph.valid_edges().filter_map(value).sum()
}

/// The best order that the search finds: a permutation of all blocks that starts with block 0.
///
/// Blocks that were never executed come last, in their old order. The score is never below that of
/// the old order. Ties break by block index.
///
/// Near-linear in blocks and edges where blocks have few edges; the work on hubs and dense graphs
/// is limited: merge gains at hubs are evaluated lazily, and see
/// [`ExtTspParams::cut_steps_min`].
pub fn ext_tsp_order_with_params(graph: &BlockGraph<'_>, params: &ExtTspParams) -> Vec<u32> {
    search(graph, params).0
}

/// What the search has cost, in steps of its inner loops and evaluated merges.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(test), allow(dead_code, reason = "only the scaling tests read it"))]
pub(super) struct Work {
    pub(super) steps: u64,
    pub(super) evaluations: u64,
}

/// [`ext_tsp_order_with_params`] and its cost.
pub(super) fn search(graph: &BlockGraph<'_>, params: &ExtTspParams) -> (Vec<u32>, Work) {
    let executions = graph.executions();
    let hot: Vec<bool> = (executions.iter().enumerate())
        .map(|(block, &count)| block == 0 || count > 0)
        .collect();
    let with_heat = |wanted: bool| {
        let hot = &hot;
        (0_u32..)
            .zip(hot)
            .filter_map(move |(block, &is)| (is == wanted).then_some(block))
    };
    // Taking cold blocks out only shortens jumps, so this is at least as good as the old order.
    let kept: Vec<u32> = with_heat(true).chain(with_heat(false)).collect();
    if graph.len() < 2 {
        return (kept, Work::default());
    }

    let units = Units::new(graph, &executions, &hot);
    let mut objective = BlockObjective::new(params, &units);
    let mut chains = Chains::new(&units.nodes, &units.arcs);
    chains.merge_all(&mut objective, params.chain_units_max);
    let work = Work {
        steps: objective.steps(),
        evaluations: chains.evaluations(),
    };
    let found: Vec<u32> = concatenated(&units, &chains.into_chains())
        .into_iter()
        .flat_map(|unit| units.blocks_of(unit).iter().copied())
        .chain(with_heat(false))
        .collect();
    let score = |order: &[u32]| ext_tsp_score_with_params(graph, order, params);
    if score(&found) >= score(&kept) {
        (found, work)
    } else {
        (kept, work)
    }
}

/// All units in the order of their chains. First, a chain whose last unit can go on to another
/// chain's first unit is joined with it, the most executed such link first: it costs nothing and
/// saves a jump. Then the results are sorted by falling density, the entry's before all others.
fn concatenated(units: &Units, chains: &[Chain]) -> Vec<u32> {
    let mut chain_ending_with = vec![None; units.nodes.len()];
    let mut chain_beginning_with = vec![None; units.nodes.len()];
    for (index, chain) in chains.iter().enumerate() {
        if let (Some(&first), Some(&last)) = (chain.nodes.first(), chain.nodes.last()) {
            chain_beginning_with[first as usize] = Some(index);
            chain_ending_with[last as usize] = Some(index);
        }
    }
    let mut links: Vec<(std::cmp::Reverse<u64>, usize, usize)> = (units.links.iter())
        .filter(|&&(_, _, dst)| dst != 0)
        .filter_map(|&(count, src, dst)| {
            let src_chain = chain_ending_with[src as usize]?;
            let dst_chain = chain_beginning_with[dst as usize]?;
            Some((std::cmp::Reverse(count), src_chain, dst_chain))
        })
        .collect();
    links.sort_unstable();

    // Joined chains are lists; `list_end` and `list_start` are right for the chains at the ends.
    let mut next = vec![None; chains.len()];
    let mut list_end: Vec<usize> = (0..chains.len()).collect();
    let mut list_start = list_end.clone();
    let mut is_start = vec![true; chains.len()];
    for (_, src, dst) in links {
        if next[src].is_none() && is_start[dst] && list_start[src] != dst {
            next[src] = Some(dst);
            is_start[dst] = false;
            let (start, end) = (list_start[src], list_end[dst]);
            list_end[start] = end;
            list_start[end] = start;
        }
    }

    let first_node = |chain: usize| chains[chain].nodes.first().copied();
    let mut lists: Vec<(f64, Option<u32>, usize)> = (0..chains.len())
        .filter(|&start| is_start[start])
        .map(|start| {
            let members = || std::iter::successors(Some(start), |&chain| next[chain]);
            let count: f64 = members().map(|chain| chains[chain].count).sum();
            let size_bytes: u64 = members().map(|chain| chains[chain].size_bytes).sum();
            (count / size_bytes as f64, first_node(start), start)
        })
        .collect();
    // No two have the same first node.
    lists.sort_unstable_by(|&(left_density, left, _), &(right_density, right, _)| {
        let is_entry = |first: Option<u32>| first == Some(0);
        (is_entry(right).cmp(&is_entry(left))).then(right_density.total_cmp(&left_density)).then(left.cmp(&right))
    });
    let mut order = Vec::with_capacity(units.nodes.len());
    for (_, _, start) in lists {
        for chain in std::iter::successors(Some(start), |&chain| next[chain]) {
            order.extend_from_slice(&chains[chain].nodes);
        }
    }
    order
}
