//! Which blocks of a function leave its hot fragment.

use crate::blocks::BlockGraph;
use crate::random::SplitMix64;

/// How to split a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Not at all.
    None,
    /// What was never executed becomes cold, if it is worth it; see [`SplitParams`].
    Cold,
    /// Besides, what the function seldom gets to becomes warm, if it is worth it.
    Warm,
    /// Everything but the entry block: a stress for the emitter, not an optimization.
    All,
    /// Each block but the entry by the toss of a coin: likewise.
    Random {
        /// Which tosses; see the splitmix64 generator of this crate.
        seed: u64,
    },
}

/// The fragment of its function that a block goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// With the entry.
    Hot,
    /// Executed, but seldom.
    Warm,
    /// Never executed, as far as is known.
    Cold,
}

/// When [`Split::Cold`] and [`Split::Warm`] split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitParams {
    /// Fewer bytes than this (in the whole function) stay where they are: another fragment
    /// costs an unwind entry, alignment, and longer branches to it. Of warm and of cold bytes each; too few cold
    /// ones go with the warm ones.
    pub bytes_min: u64,
    /// A block is warm if it is executed less often than this share of the function's entry.
    pub warm_share: f64,
}

impl Default for SplitParams {
    fn default() -> Self {
        Self {
            bytes_min: 32,
            warm_share: 0.05,
        }
    }
}

/// Says for each block where it goes, with the default parameters; see [`split_blocks_with_params`].
pub fn split_blocks(graph: &BlockGraph<'_>, split: Split) -> Vec<Part> {
    split_blocks_with_params(graph, split, &SplitParams::default())
}

/// Says for each block where it goes: one [`Part`] per block. The entry (block 0) stays hot.
///
/// A block at the end of an executed edge is executed, whatever its own count says. For
/// [`Split::Cold`] and [`Split::Warm`], a function without any count is not split: nothing is known about it,
/// and all of it is equally cold. Linear.
pub fn split_blocks_with_params(
    graph: &BlockGraph<'_>,
    split: Split,
    params: &SplitParams,
) -> Vec<Part> {
    let mut parts = match split {
        Split::None => vec![Part::Hot; graph.len()],
        Split::All => vec![Part::Cold; graph.len()],
        Split::Random { seed } => {
            let mut random = SplitMix64::new(seed);
            let mut toss = || if random.next() >> 63 == 1 { Part::Cold } else { Part::Hot };
            (0..graph.len()).map(|_| toss()).collect()
        }
        Split::Cold => by_counts(graph, params.bytes_min, 0.0),
        Split::Warm => by_counts(graph, params.bytes_min, params.warm_share),
    };
    if let Some(entry) = parts.first_mut() {
        *entry = Part::Hot;
    }
    parts
}

/// Parts by counts; each part but the hot one only if it has `bytes_min` bytes.
fn by_counts(graph: &BlockGraph<'_>, bytes_min: u64, warm_share: f64) -> Vec<Part> {
    let executions = graph.executions();
    if executions.iter().all(|&count| count == 0) {
        return vec![Part::Hot; graph.len()];
    }
    let warm_below = executions.first().map_or(0.0, |&entry| entry as f64 * warm_share);
    let part = |(block, &count): (usize, &u64)| match count {
        _ if block == 0 => Part::Hot,
        0 => Part::Cold,
        _ if (count as f64) < warm_below => Part::Warm,
        _ => Part::Hot,
    };
    let mut parts: Vec<Part> = executions.iter().enumerate().map(part).collect();
    let bytes_of = |parts: &[Part], wanted: Part| -> u64 {
        let sizes = parts.iter().zip(graph.sizes).filter(|(part, _)| **part == wanted);
        sizes.map(|(_, &size)| u64::from(size)).sum()
    };
    let rename = |parts: &mut [Part], from: Part, to: Part| {
        parts.iter_mut().filter(|part| **part == from).for_each(|part| *part = to);
    };
    if bytes_of(&parts, Part::Warm) < bytes_min {
        rename(&mut parts, Part::Warm, Part::Hot);
    }
    if bytes_of(&parts, Part::Cold) < bytes_min {
        let to = if parts.contains(&Part::Warm) { Part::Warm } else { Part::Hot };
        rename(&mut parts, Part::Cold, to);
    }
    parts
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
            [Part::Hot, Part::Hot, Part::Cold, Part::Cold]
        );
        assert_eq!(
            split_blocks(&graph(&[8, 8, 16, 15], &counts, &[]), Split::Cold),
            [Part::Hot; 4]
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
            [Part::Hot, Part::Hot, Part::Hot, Part::Cold]
        );
    }

    #[test]
    fn nothing_is_cold_without_a_profile() {
        assert_eq!(
            split_blocks(&graph(&[64; 3], &[0; 3], &[]), Split::Cold),
            [Part::Hot; 3]
        );
        assert!(split_blocks(&graph(&[], &[], &[]), Split::All).is_empty());
    }

    #[test]
    fn what_a_function_seldom_gets_to_is_warm() {
        let counts = [1000, 0, 49, 50, 4000];
        let sizes = [64; 5];
        let graph = graph(&sizes, &counts, &[]);
        let (hot, warm, cold) = (Part::Hot, Part::Warm, Part::Cold);
        assert_eq!(split_blocks(&graph, Split::Warm), [hot, cold, warm, hot, hot]);
        let sizes = [64, 8, 64, 64, 64];
        let few_cold = BlockGraph { sizes: &sizes, ..graph };
        assert_eq!(split_blocks(&few_cold, Split::Warm), [hot, warm, warm, hot, hot]);
        assert_eq!(split_blocks(&graph, Split::Cold), [hot, cold, hot, hot, hot]);
        let at_least = |bytes_min| SplitParams { bytes_min, ..SplitParams::default() };
        assert_eq!(split_blocks_with_params(&graph, Split::Warm, &at_least(65)), [hot; 5]);
    }

    #[test]
    fn warm_is_what_the_entry_is_not() {
        // A loop of a function that is seldom entered: nothing in it is less often executed than its entry.
        let counts = [1, 1_000_000, 1];
        assert_eq!(split_blocks(&graph(&[64; 3], &counts, &[]), Split::Warm), [Part::Hot; 3]);
    }

    #[test]
    fn stress_splits_spare_the_entry() {
        let graph = graph(&[1; 64], &[1; 64], &[]);
        let all = split_blocks(&graph, Split::All);
        assert!(all[0] == Part::Hot && all[1..].iter().all(|part| *part == Part::Cold));
        assert_eq!(split_blocks(&graph, Split::None), [Part::Hot; 64]);
        let seeds: Vec<Vec<Part>> = (0..8)
            .map(|seed| split_blocks(&graph, Split::Random { seed }))
            .collect();
        for cold in &seeds {
            let cold_blocks = cold.iter().filter(|part| **part == Part::Cold).count();
            assert!(cold[0] == Part::Hot && (16..48).contains(&cold_blocks), "{cold_blocks}");
        }
        assert_ne!(seeds[0], seeds[1]);
        assert_eq!(seeds[3], split_blocks(&graph, Split::Random { seed: 3 }));
    }
}
