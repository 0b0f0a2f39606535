//! Which blocks of a function are cold and go to its cold fragment.

use crate::blocks::BlockGraph;
use crate::random::SplitMix64;

/// How to split a function into a hot and a cold fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Not at all.
    None,
    /// What was never executed, if it is worth it; see [`SplitParams`].
    Cold,
    /// Everything but the entry block: a stress for the emitter, not an optimization.
    All,
    /// Each block but the entry by the toss of a coin: likewise.
    Random {
        /// Which tosses; see the splitmix64 generator of this crate.
        seed: u64,
    },
}

/// When [`Split::Cold`] splits. The defaults split exactly the blocks that were never executed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitParams {
    /// Fewer cold bytes than this (in the whole function) stay where they are: a second fragment
    /// costs an unwind entry, alignment, and longer branches to it.
    pub cold_bytes_min: u64,
    /// A block is cold if its count is at most this share of the hottest block's count. 0 means
    /// blocks that were never executed.
    pub cold_share_max: f64,
}

impl Default for SplitParams {
    fn default() -> Self {
        Self {
            cold_bytes_min: 32,
            cold_share_max: 0.0,
        }
    }
}

/// Says for each block whether it is cold, with the default parameters; see
/// [`split_blocks_with_params`].
pub fn split_blocks(graph: &BlockGraph<'_>, split: Split) -> Vec<bool> {
    split_blocks_with_params(graph, split, &SplitParams::default())
}

/// Says for each block whether it is cold: one `bool` per block. The entry (block 0) never is.
///
/// A block at the end of an executed edge is executed, whatever its own count says. For
/// [`Split::Cold`], a function without any count is not split: nothing is known about it, and all
/// of it is equally cold. Linear.
pub fn split_blocks_with_params(
    graph: &BlockGraph<'_>,
    split: Split,
    params: &SplitParams,
) -> Vec<bool> {
    let mut cold = match split {
        Split::None => vec![false; graph.len()],
        Split::All => vec![true; graph.len()],
        Split::Random { seed } => {
            let mut random = SplitMix64::new(seed);
            (0..graph.len()).map(|_| random.next() >> 63 == 1).collect()
        }
        Split::Cold => return never_executed(graph, params),
    };
    if let Some(entry) = cold.first_mut() {
        *entry = false;
    }
    cold
}

/// The blocks that are cold by their counts, or none where that is not worth a fragment.
fn never_executed(graph: &BlockGraph<'_>, params: &SplitParams) -> Vec<bool> {
    let executions = graph.executions();
    let hottest = executions.iter().copied().max().unwrap_or(0);
    let cold_count_max = hottest as f64 * params.cold_share_max;
    let cold: Vec<bool> = (executions.iter().enumerate())
        .map(|(block, &count)| block != 0 && (count == 0 || count as f64 <= cold_count_max))
        .collect();
    let cold_bytes: u64 = (cold.iter().zip(graph.sizes))
        .filter(|(cold, _)| **cold)
        .map(|(_, &size)| u64::from(size))
        .sum();
    if hottest == 0 || cold_bytes < params.cold_bytes_min {
        return vec![false; graph.len()];
    }
    cold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockEdge;

    fn graph<'a>(sizes: &'a [u32], counts: &'a [u64], edges: &'a [BlockEdge]) -> BlockGraph<'a> {
        BlockGraph {
            sizes,
            counts,
            edges,
        }
    }

    #[test]
    fn never_executed_blocks_are_cold_if_they_are_big_enough() {
        let counts = [0, 10, 0, 0];
        assert_eq!(
            split_blocks(&graph(&[8, 8, 16, 16], &counts, &[]), Split::Cold),
            [false, false, true, true]
        );
        assert_eq!(
            split_blocks(&graph(&[8, 8, 16, 15], &counts, &[]), Split::Cold),
            [false; 4]
        );
    }

    #[test]
    fn an_executed_edge_makes_its_ends_hot() {
        let edges = [BlockEdge {
            src: 1,
            dst: 2,
            count: 1,
            conditional: true,
        }];
        assert_eq!(
            split_blocks(&graph(&[64; 4], &[5, 5, 0, 0], &edges), Split::Cold),
            [false, false, false, true]
        );
    }

    #[test]
    fn nothing_is_cold_without_a_profile() {
        assert_eq!(
            split_blocks(&graph(&[64; 3], &[0; 3], &[]), Split::Cold),
            [false; 3]
        );
        assert!(split_blocks(&graph(&[], &[], &[]), Split::All).is_empty());
    }

    #[test]
    fn a_share_makes_lukewarm_blocks_cold() {
        let params = SplitParams {
            cold_share_max: 0.01,
            ..SplitParams::default()
        };
        assert_eq!(
            split_blocks_with_params(
                &graph(&[64; 4], &[1, 1000, 10, 11], &[]),
                Split::Cold,
                &params
            ),
            [false, false, true, false]
        );
    }

    #[test]
    fn stress_splits_spare_the_entry() {
        let graph = graph(&[1; 64], &[1; 64], &[]);
        let all = split_blocks(&graph, Split::All);
        assert!(!all[0] && all[1..].iter().all(|cold| *cold));
        assert_eq!(split_blocks(&graph, Split::None), [false; 64]);
        let seeds: Vec<Vec<bool>> = (0..8)
            .map(|seed| split_blocks(&graph, Split::Random { seed }))
            .collect();
        for cold in &seeds {
            let cold_blocks = cold.iter().filter(|cold| **cold).count();
            assert!(!cold[0] && (16..48).contains(&cold_blocks), "{cold_blocks}");
        }
        assert_ne!(seeds[0], seeds[1]);
        assert_eq!(seeds[3], split_blocks(&graph, Split::Random { seed: 3 }));
    }
}
