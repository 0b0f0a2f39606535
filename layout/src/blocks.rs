//! The order of the blocks of one function.

pub(crate) mod ext_tsp;
mod inside;
mod merge;
mod units;

#[cfg(test)]
mod tests;

use crate::random::SplitMix64;

/// One edge of a block graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEdge {
    /// Index of the block that is left.
    pub src: u32,
    /// Index of the block that is entered.
    pub dst: u32,
    /// How often the edge was executed, as the profile claims; 0 for an edge that is only possible.
    pub count: u64,
    /// Whether it leaves a conditional branch (taken or not), in contrast to the only way on.
    pub conditional: bool,
}

/// The input of a block order.
///
/// `sizes` (bytes) and `counts` (executions) have one entry per block; block 0 is the entry and
/// comes first in every order. Blocks without a count have count 0. Edges may come in any order and
/// may be parallel; an edge that names a block which does not exist is ignored.
#[derive(Clone, Copy, Debug)]
pub struct BlockGraph<'a> {
    /// Size of each block in bytes; an estimate is good enough. 0 counts as 1.
    pub sizes: &'a [u32],
    /// How often each block was executed.
    pub counts: &'a [u64],
    /// All edges inside the function, executed or not.
    pub edges: &'a [BlockEdge],
}

impl BlockGraph<'_> {
    /// The number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// The edges whose two ends exist.
    pub(crate) fn valid_edges(&self) -> impl Iterator<Item = &BlockEdge> {
        let blocks = self.len();
        let exists = move |block: u32| (block as usize) < blocks;
        self.edges
            .iter()
            .filter(move |edge| exists(edge.src) && exists(edge.dst))
    }

    /// The size of `block` in bytes, at least 1: two blocks must never share a place, or a jump
    /// over an empty block would count as a fallthrough.
    pub(crate) fn size_bytes(&self, block: u32) -> u64 {
        u64::from(self.sizes[block as usize].max(1))
    }

    /// How often each block was executed, at the least: the largest of its own count, the sum of
    /// the edges into it and the sum of the edges out of it (all saturating).
    ///
    /// Sampled profiles are not consistent; a block that an executed edge leads to was executed.
    pub(crate) fn executions(&self) -> Vec<u64> {
        let mut entered = vec![0_u64; self.len()];
        let mut left = vec![0_u64; self.len()];
        for edge in self.valid_edges() {
            let (src, dst) = (edge.src as usize, edge.dst as usize);
            left[src] = left[src].saturating_add(edge.count);
            entered[dst] = entered[dst].saturating_add(edge.count);
        }
        (entered.into_iter().zip(left).enumerate())
            .map(|(block, (entered, left))| {
                let own = self.counts.get(block).copied().unwrap_or(0);
                own.max(entered).max(left)
            })
            .collect()
    }
}

/// How to order the blocks of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOrder {
    /// The order with the best ext-TSP score that we find; see [`ext_tsp_order_with_params`](crate::ext_tsp_order_with_params).
    ExtTsp,
    /// As in the input.
    Keep,
    /// The entry, then all others backwards.
    Reverse,
    /// The entry, then all others shuffled.
    Random {
        /// Which of the random orders; see the splitmix64 generator of this crate.
        seed: u64,
    },
}

/// Orders the blocks of one function: a permutation of `0..sizes.len()` that starts with 0.
///
/// Linear, but for [`BlockOrder::ExtTsp`].
pub fn order_blocks(graph: &BlockGraph<'_>, order: BlockOrder) -> Vec<u32> {
    let mut kept: Vec<u32> = (0..).take(graph.len()).collect();
    let Some((_, others)) = kept.split_first_mut() else {
        return kept;
    };
    match order {
        BlockOrder::Keep => {}
        BlockOrder::Reverse => others.reverse(),
        BlockOrder::Random { seed } => SplitMix64::new(seed).shuffle(others),
        BlockOrder::ExtTsp => {
            return ext_tsp::ext_tsp_order_with_params(graph, &ext_tsp::ExtTspParams::default());
        }
    }
    kept
}
