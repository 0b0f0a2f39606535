//! Cache-directed sort.
//!
//! Source: the algorithm that LLVM calls CDSort (`CodeLayout.cpp`, reviews D152834 and D154834; the
//! successor of HFSort+), with the constants of version 19. Chains of functions are merged greedily;
//! a merge gains by two models. *Frequency*: the instruction cache is `cache_entries` lines of
//! `cache_bytes`; a chain misses with the probability that the last `cache_entries` line accesses
//! were none of its own, so that denser chains miss less. *Distance*: a call is the better the
//! nearer its target, by the inverse fourth root of the distance.

use super::{CallArc, FunctionNode, completed, executions, valid_calls};
use crate::chains::{Arc, Chain, Chains, GAIN_MIN, Join, Merge, Node, Objective};

/// The constants of cache-directed sort. The defaults are LLVM's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CdSortParams {
    /// Lines of the modelled cache.
    pub cache_entries: u32,
    /// Bytes of a line of the modelled cache (in the size of pages rather than of hardware lines).
    pub cache_bytes: u32,
    /// Chains do not grow beyond this many functions.
    pub chain_functions_max: usize,
    /// The distance of a call counts by its inverse 2ⁿ-th root; LLVM's exponent 0.25 is n = 2. A
    /// number of square roots, not an exponent, because a square root is the same on every machine
    /// and `powf` is not.
    pub distance_square_roots: u32,
    /// Weight of the frequency model against the distance model.
    pub frequency_scale: f64,
}

impl Default for CdSortParams {
    fn default() -> Self {
        Self {
            cache_entries: 16,
            cache_bytes: 2048,
            chain_functions_max: 128,
            distance_square_roots: 2,
            frequency_scale: 0.25,
        }
    }
}

/// Orders functions by cache-directed sort: a permutation of `0..nodes.len()`.
///
/// What was never executed comes last, as in the input. Chains come by falling density, ties by
/// index. Near-linear in functions and arcs, also where functions have very many callers.
pub fn cdsort_with_params(
    nodes: &[FunctionNode],
    calls: &[CallArc],
    params: &CdSortParams,
) -> Vec<u32> {
    search(nodes, calls, params).0
}

/// [`cdsort_with_params`], and the number of merges that it evaluated.
pub(super) fn search(
    nodes: &[FunctionNode],
    calls: &[CallArc],
    params: &CdSortParams,
) -> (Vec<u32>, u64) {
    let executions = executions(nodes, calls);
    let chain_nodes: Vec<Node> = (nodes.iter().zip(&executions))
        .map(|(node, &count)| Node {
            size_bytes: u64::from(node.size.max(1)),
            count: count as f64,
        })
        .collect();
    let mut sorted: Vec<CallArc> = valid_calls(nodes, calls).copied().collect();
    sorted.sort_unstable_by_key(|call| (call.caller, call.callee, call.caller_offset, call.count));
    let arcs: Vec<Arc> = (sorted.iter())
        .map(|call| Arc {
            src: call.caller,
            dst: call.callee,
        })
        .collect();
    let executed = || chain_nodes.iter().filter(|node| node.count > 0.0);
    let mut objective = CallObjective {
        params,
        calls: &sorted,
        executions: executed().map(|node| node.count).sum(),
        far: nearness(executed().map(|node| node.size_bytes).sum(), params),
    };
    let mut chains = Chains::new(&chain_nodes, &arcs);
    chains.merge_all(&mut objective, params.chain_functions_max);
    let evaluations = chains.evaluations();
    let mut executed: Vec<Chain> = chains.into_chains();
    executed.retain(|chain| chain.count > 0.0);
    executed.sort_by(|left, right| {
        (right.density().total_cmp(&left.density())).then(left.head().cmp(&right.head()))
    });
    let first = executed.into_iter().flat_map(|chain| chain.nodes);
    (completed(first, nodes.len()), evaluations)
}

/// What a call over `distance_bytes` is worth: 1 for one byte, less the farther it is.
fn nearness(distance_bytes: u64, params: &CdSortParams) -> f64 {
    let distance = if distance_bytes == 0 {
        0.1
    } else {
        distance_bytes as f64
    };
    let root = (0..params.distance_square_roots).fold(distance, |root, _| root.sqrt());
    1.0 / root
}

struct CallObjective<'a> {
    params: &'a CdSortParams,
    /// One per arc.
    calls: &'a [CallArc],
    /// Of the whole program.
    executions: f64,
    /// What a call between two chains is taken to be worth: its distance is the whole program.
    far: f64,
}

impl CallObjective<'_> {
    /// How many executions miss the cache in `size_bytes` of code that is executed `count` times.
    fn misses(&self, count: f64, size_bytes: f64) -> f64 {
        let line_executions = count / size_bytes * f64::from(self.params.cache_bytes);
        if line_executions >= self.executions {
            return 0.0;
        }
        let elsewhere = 1.0 - line_executions / self.executions;
        (0..self.params.cache_entries).fold(count, |misses, _| misses * elsewhere)
    }

    /// What the distance model gains by putting `second` behind `first`.
    fn distance_gain(&self, chains: &Chains<'_>, first: u32, between: &[u32]) -> f64 {
        let first_bytes = chains.chain(first).size_bytes;
        let start = |function: u32| {
            let place = chains.place(function);
            let chain_start = if place.chain == first { 0 } else { first_bytes };
            chain_start + place.offset_bytes
        };
        let gain = |&arc: &u32| {
            let call = &self.calls[arc as usize];
            let from = start(call.caller) + u64::from(call.caller_offset);
            let distance_bytes = from.abs_diff(start(call.callee));
            call.count as f64 * (nearness(distance_bytes, self.params) - self.far)
        };
        between.iter().map(gain).sum()
    }
}

impl Objective for CallObjective<'_> {
    fn best_merge(
        &mut self,
        chains: &Chains<'_>,
        a: u32,
        b: u32,
        between: &[u32],
    ) -> Option<Merge> {
        // In the order of the input, which also wins a tie.
        let (low, high) = if chains.chain(a).head() <= chains.chain(b).head() {
            (a, b)
        } else {
            (b, a)
        };
        let (low_chain, high_chain) = (chains.chain(low), chains.chain(high));
        let (low_bytes, high_bytes) = (low_chain.size_bytes as f64, high_chain.size_bytes as f64);
        let (low_count, high_count) = (low_chain.count, high_chain.count);
        let frequency_gain = self.misses(low_count, low_bytes)
            + self.misses(high_count, high_bytes)
            - self.misses(low_count + high_count, low_bytes + high_bytes);
        let in_order = self.distance_gain(chains, low, between);
        let swapped = self.distance_gain(chains, high, between);
        let (first, second, distance_gain) = if swapped > in_order + GAIN_MIN {
            (high, low, swapped)
        } else {
            (low, high, in_order)
        };
        // Per byte of the smaller one: short chains grow first.
        let gain = (distance_gain + self.params.frequency_scale * frequency_gain)
            / low_bytes.min(high_bytes);
        (gain > GAIN_MIN).then_some(Merge {
            gain,
            first,
            second,
            join: Join::Append,
        })
    }
}
