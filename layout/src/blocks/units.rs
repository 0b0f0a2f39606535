//! Units: the runs of blocks that any good order keeps together, contracted to one node each.

use super::{BlockEdge, BlockGraph};
use crate::chains::{Arc, Node};

/// The executed part of a block graph, contracted.
///
/// A pair of blocks is *mutually forced* if the first has no successor but the second, and the
/// second no predecessor but the first; a unit is a maximal run of such pairs (LLVM merges the same
/// pairs first). Nothing is lost: a jump into a unit enters its first block, one out of it leaves
/// its last block, so that the score of an order of units is the score of its blocks, up to a
/// constant.
///
/// Units are numbered by their first block; unit 0 begins with the entry.
#[derive(Debug)]
pub(super) struct Units {
    /// One per unit.
    pub(super) nodes: Vec<Node>,
    /// The blocks of all units, in order.
    blocks: Vec<u32>,
    /// Where in `blocks` those of each unit end.
    ends: Vec<u32>,
    /// Executed jumps between different units, sorted by source, target and kind, none twice.
    pub(super) arcs: Vec<Arc>,
    /// The count of each arc.
    pub(super) arc_counts: Vec<f64>,
    /// Whether each arc is conditional.
    pub(super) arc_conditional: Vec<bool>,
    /// Possible jumps between different units, executed or not: `(count, source, target)`.
    pub(super) links: Vec<(u64, u32, u32)>,
}

/// Outside every unit: a block that was not executed.
const NO_UNIT: u32 = u32::MAX;

impl Units {
    /// Contracts the blocks that `hot` says yes to. Needs `hot[0]`.
    pub(super) fn new(graph: &BlockGraph<'_>, executions: &[u64], hot: &[bool]) -> Self {
        let next = forced_successors(graph, hot);
        let mut has_previous = vec![false; graph.len()];
        for &successor in next.iter().flatten() {
            has_previous[successor as usize] = true;
        }

        let mut unit_of = vec![NO_UNIT; graph.len()];
        let mut nodes = Vec::new();
        let mut blocks = Vec::with_capacity(graph.len());
        let mut ends: Vec<u32> = Vec::new();
        for first in (0..).take(graph.len()) {
            if !hot[first as usize] || has_previous[first as usize] {
                continue;
            }
            let mut node = Node {
                size_bytes: 0,
                count: 0.0,
            };
            let mut block = Some(first);
            while let Some(this) = block {
                unit_of[this as usize] = ends.len() as u32;
                node.size_bytes += graph.size_bytes(this);
                node.count += executions[this as usize].max(1) as f64;
                blocks.push(this);
                block = next[this as usize];
            }
            nodes.push(node);
            ends.push(blocks.len() as u32);
        }

        let mut jumps: Vec<(u32, u32, bool, u64)> = graph
            .valid_edges()
            .map(|edge| {
                let unit = |block: u32| unit_of[block as usize];
                (unit(edge.src), unit(edge.dst), edge.conditional, edge.count)
            })
            .filter(|&(src, dst, ..)| src != dst && src != NO_UNIT && dst != NO_UNIT)
            .collect();
        jumps.sort_unstable();
        jumps.dedup_by(|later, first| {
            let same = (later.0, later.1, later.2) == (first.0, first.1, first.2);
            if same {
                first.3 = first.3.saturating_add(later.3);
            }
            same
        });
        let executed = || jumps.iter().filter(|jump| jump.3 > 0);
        Self {
            nodes,
            blocks,
            ends,
            arcs: executed().map(|&(src, dst, ..)| Arc { src, dst }).collect(),
            arc_counts: executed().map(|jump| jump.3 as f64).collect(),
            arc_conditional: executed().map(|jump| jump.2).collect(),
            links: (jumps.iter())
                .map(|&(src, dst, _, count)| (count, src, dst))
                .collect(),
        }
    }

    /// The blocks of `unit`, in order.
    pub(super) fn blocks_of(&self, unit: u32) -> &[u32] {
        let start = unit.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.blocks[start as usize..self.ends[unit as usize] as usize]
    }
}

/// The forced successor of each hot block that has one. Following them never leads in a circle, nor
/// to the entry.
fn forced_successors(graph: &BlockGraph<'_>, hot: &[bool]) -> Vec<Option<u32>> {
    /// What is known of the neighbours on one side of a block.
    #[derive(Clone, Copy, PartialEq)]
    enum Side {
        None,
        One(u32),
        Many,
    }
    impl Side {
        fn add(&mut self, block: u32) {
            *self = match *self {
                Self::None => Self::One(block),
                Self::One(present) if present == block => return,
                Self::One(_) | Self::Many => Self::Many,
            };
        }
    }
    let mut successors = vec![Side::None; graph.len()];
    let mut predecessors = vec![Side::None; graph.len()];
    for &BlockEdge { src, dst, .. } in graph.valid_edges() {
        if src != dst {
            successors[src as usize].add(dst);
            predecessors[dst as usize].add(src);
        }
    }
    let mut next: Vec<Option<u32>> = (0..)
        .zip(&successors)
        .map(|(block, side)| match *side {
            Side::One(successor)
                if successor != 0
                    && predecessors[successor as usize] == Side::One(block)
                    && hot[block as usize]
                    && hot[successor as usize] =>
            {
                Some(successor)
            }
            _ => None,
        })
        .collect();
    cut_circles(&mut next);
    next
}

/// Cuts each circle of `next` (in which no element is the next of two) before its smallest element,
/// so that a loop that nothing enters begins where it began. Linear: an element is visited by the
/// walk from its run's start, or by the one walk around its circle.
fn cut_circles(next: &mut [Option<u32>]) {
    let mut has_previous = vec![false; next.len()];
    for &successor in next.iter().flatten() {
        has_previous[successor as usize] = true;
    }
    let mut seen = vec![false; next.len()];
    let starts = (0..next.len()).filter(|&block| !has_previous[block]);
    for start in starts.chain(0..next.len()) {
        let mut block = start;
        while !seen[block] {
            seen[block] = true;
            match next[block] {
                // Runs are walked first, so what leads back to the start is a circle, and the
                // start is its smallest element because the starts ascend.
                Some(successor) if successor as usize == start => next[block] = None,
                Some(successor) => block = successor as usize,
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_cut_before_their_smallest_element() {
        // 1 -> 2 -> 0 is a run; 5 -> 3 -> 4 -> 5 a circle; 6 -> 6 a loop of one.
        let mut next = [None, Some(2), Some(0), Some(4), Some(5), Some(3), Some(6)];
        cut_circles(&mut next);
        assert_eq!(next, [None, Some(2), Some(0), Some(4), Some(5), None, None]);
    }

    #[test]
    fn runs_become_units_and_lose_only_inner_jumps() {
        let edge = |src, dst, count| BlockEdge {
            src,
            dst,
            count,
            conditional: src == 2,
        };
        // 0 -> 2 -> 1 | 2 -> 3 (parallel twice) -> 4 -> 0
        let edges = [
            edge(0, 2, 9),
            edge(2, 1, 2),
            edge(2, 3, 3),
            edge(2, 3, 4),
            edge(3, 4, 7),
            edge(4, 0, 7),
            edge(4, 77, 7),
        ];
        let graph = BlockGraph {
            sizes: &[1, 2, 3, 4, 0],
            counts: &[9, 2, 9, 7, 7],
            edges: &edges,
        };
        // 0 has one predecessor, but the entry is nobody's successor in a run.
        let units = Units::new(&graph, &graph.executions(), &[true; 5]);
        let blocks: Vec<&[u32]> = (0..3).map(|unit| units.blocks_of(unit)).collect();
        assert_eq!(blocks, [&[0, 2][..], &[1], &[3, 4]]);
        assert_eq!(units.nodes.len(), 3);
        assert_eq!(units.nodes[2].size_bytes, 5);
        assert_eq!(
            units.arcs,
            [
                Arc { src: 0, dst: 1 },
                Arc { src: 0, dst: 2 },
                Arc { src: 2, dst: 0 }
            ]
        );
        assert_eq!(units.arc_counts, [2.0, 7.0, 7.0]);
        assert_eq!(units.arc_conditional, [true, true, false]);
    }
}
