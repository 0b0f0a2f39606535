//! Block orders against exhaustive search, against scoring from scratch, and against hostile input.

use super::ext_tsp::{ExtTspParams, ext_tsp_score, search};
use super::merge::BlockObjective;
use super::units::Units;
use super::{BlockEdge, BlockGraph, BlockOrder, order_blocks};
use crate::chains::{Chains, GAIN_MIN, Join, Merge, Objective};
use crate::random::SplitMix64;

/// A block graph that owns its parts.
#[derive(Clone, Debug, Default)]
struct Owned {
    sizes: Vec<u32>,
    counts: Vec<u64>,
    edges: Vec<BlockEdge>,
}

impl Owned {
    /// Blocks of `size` bytes with no counts of their own, and edges `(src, dst, count)`,
    /// conditional where the source has another successor.
    fn new(blocks: usize, size: u32, edges: &[(u32, u32, u64)]) -> Self {
        let successors = |src| edges.iter().filter(|edge| edge.0 == src).count();
        Self {
            sizes: vec![size; blocks],
            counts: vec![0; blocks],
            edges: (edges.iter())
                .map(|&(src, dst, count)| BlockEdge {
                    src,
                    dst,
                    count,
                    conditional: successors(src) > 1,
                })
                .collect(),
        }
    }

    fn graph(&self) -> BlockGraph<'_> {
        BlockGraph {
            sizes: &self.sizes,
            counts: &self.counts,
            edges: &self.edges,
        }
    }

    fn ordered(&self) -> Vec<u32> {
        order_blocks(&self.graph(), BlockOrder::ExtTsp)
    }

    fn score(&self, order: &[u32]) -> f64 {
        ext_tsp_score(&self.graph(), order)
    }

    /// The best score of all orders that begin with block 0.
    fn optimum(&self) -> f64 {
        let mut order: Vec<u32> = (0..).take(self.sizes.len()).collect();
        let mut best = 0.0;
        self.permute(&mut order, 1, &mut best);
        best
    }

    fn permute(&self, order: &mut [u32], fixed: usize, best: &mut f64) {
        if fixed >= order.len() {
            *best = self.score(order).max(*best);
            return;
        }
        for other in fixed..order.len() {
            order.swap(fixed, other);
            self.permute(order, fixed + 1, best);
            order.swap(fixed, other);
        }
    }
}

fn below(random: &mut SplitMix64, bound: u64) -> u64 {
    random.next() % bound
}

/// A connected graph with one or two random successors per block, and the counts of `walks` random
/// walks from the entry (so that they conserve flow, as real ones nearly do).
fn random_flow(random: &mut SplitMix64, blocks: u32, walks: u32) -> Owned {
    let mut edges: Vec<(u32, u32, u64)> = Vec::new();
    for src in 0..blocks - 1 {
        edges.push((src, src + 1, 0));
        if below(random, 3) > 0 {
            let dst = 1 + below(random, u64::from(blocks) - 1) as u32;
            if dst != src + 1 {
                edges.push((src, dst, 0));
            }
        }
    }
    let mut owned = Owned::new(blocks as usize, 0, &edges);
    for size in &mut owned.sizes {
        *size = 1 + below(random, 60) as u32;
    }
    let bias: Vec<u64> = (0..blocks).map(|_| below(random, 101)).collect();
    let first_edge: Vec<usize> = (0..blocks)
        .map(|block| edges.partition_point(|edge| edge.0 < block))
        .collect();
    for _ in 0..walks {
        let mut block = 0;
        for _ in 0..64 {
            owned.counts[block as usize] += 1;
            let first = first_edge[block as usize];
            let successors = edges[first..].iter().take_while(|edge| edge.0 == block);
            let edge = match successors.count() {
                0 => break,
                1 => first,
                _ => first + usize::from(below(random, 100) < bias[block as usize]),
            };
            owned.edges[edge].count += 1;
            block = edges[edge].1;
        }
    }
    owned
}

/// The same graph with its blocks numbered at random, but for the entry.
fn renumbered(random: &mut SplitMix64, owned: &Owned) -> Owned {
    let mut new: Vec<u32> = (0..).take(owned.sizes.len()).collect();
    random.shuffle(&mut new[1..]);
    let mut result = owned.clone();
    for (old, &new) in new.iter().enumerate() {
        result.sizes[new as usize] = owned.sizes[old];
        result.counts[new as usize] = owned.counts[old];
    }
    for edge in &mut result.edges {
        (edge.src, edge.dst) = (new[edge.src as usize], new[edge.dst as usize]);
    }
    result
}

#[test]
fn scores_are_those_of_the_paper() {
    // 0 falls through to 1 (unconditional); 1 jumps forward over 2 to 3; 3 jumps back to 1.
    let mut owned = Owned::new(4, 100, &[(0, 1, 10), (1, 3, 20), (3, 1, 40), (1, 2, 0)]);
    let forward = 0.1 * 20.0 * (1.0 - 100.0 / 1024.0);
    let backward = 0.1 * 40.0 * (1.0 - 300.0 / 640.0);
    let expected = 1.05 * 10.0 + forward + backward;
    assert!((owned.score(&[0, 1, 2, 3]) - expected).abs() < 1e-9);
    // A conditional fallthrough is worth 1.
    assert!(
        (owned.score(&[0, 1, 3]) - (10.5 + 20.0 + 0.1 * 40.0 * (1.0 - 200.0 / 640.0))).abs() < 1e-9
    );
    // At the windows' ends, nothing.
    owned.sizes = vec![100, 100, 1024, 640];
    assert!((owned.score(&[0, 1, 2, 3]) - 10.5).abs() < 1e-9);
    // Blocks that are left out are out of reach.
    assert_eq!(owned.score(&[1, 2]), 0.0);
}

#[test]
fn the_hot_side_of_a_branch_falls_through() {
    let owned = Owned::new(4, 16, &[(0, 1, 10), (0, 2, 90), (1, 3, 10), (2, 3, 90)]);
    assert_eq!(owned.ordered(), [0, 2, 3, 1]);
}

#[test]
fn a_loop_is_rotated_and_its_cold_exit_left_outside() {
    // 0 -> 1 (head, leaves for 4) -> 2 (leaves for 3, an error) -> 1.
    let owned = Owned::new(
        5,
        16,
        &[
            (0, 1, 1),
            (1, 4, 1),
            (1, 2, 1000),
            (2, 3, 0),
            (2, 1, 1000),
            (3, 4, 0),
        ],
    );
    let order = owned.ordered();
    assert_eq!(order.last(), Some(&3), "never executed: last");
    assert!(
        (owned.score(&order) - owned.optimum()).abs() < 1e-9,
        "{order:?}"
    );
}

#[test]
fn never_executed_blocks_come_last_as_they_were() {
    let owned = Owned::new(
        7,
        8,
        &[
            (0, 1, 0),
            (0, 5, 7),
            (5, 3, 7),
            (1, 2, 0),
            (2, 6, 0),
            (6, 4, 0),
            (4, 3, 0),
        ],
    );
    assert_eq!(owned.ordered(), [0, 5, 3, 1, 2, 4, 6]);
    let unknown = Owned::new(5, 8, &[(0, 4, 0), (4, 2, 0), (2, 0, 0)]);
    assert_eq!(unknown.ordered(), [0, 1, 2, 3, 4]);
}

#[test]
fn trivial_orders_do_what_they_say() {
    let owned = Owned::new(5, 1, &[]);
    let order = |order| order_blocks(&owned.graph(), order);
    assert_eq!(order(BlockOrder::Keep), [0, 1, 2, 3, 4]);
    assert_eq!(order(BlockOrder::Reverse), [0, 4, 3, 2, 1]);
    let random: Vec<Vec<u32>> = (0..20)
        .map(|seed| order(BlockOrder::Random { seed }))
        .collect();
    assert!(random.iter().any(|order| *order != random[0]));
    assert_eq!(random[7], order(BlockOrder::Random { seed: 7 }));
    for orders in [BlockOrder::Keep, BlockOrder::Reverse, BlockOrder::ExtTsp] {
        assert!(order_blocks(&Owned::default().graph(), orders).is_empty());
    }
}

#[test]
fn small_graphs_come_close_to_the_optimum() {
    let mut random = SplitMix64::new(2020);
    let (mut share_sum, mut share_min, mut graphs, mut better) = (0.0, 1.0_f64, 0, 0);
    for round in 0..600 {
        let flow = random_flow(&mut random, 2 + round % 6, 200);
        let owned = renumbered(&mut random, &flow);
        let (found, optimum) = (owned.score(&owned.ordered()), owned.optimum());
        let kept = owned.score(&order_blocks(&owned.graph(), BlockOrder::Keep));
        assert!(found >= kept - 1e-9, "{owned:?}");
        assert!(found <= optimum + 1e-6, "{owned:?}");
        share_sum += found / optimum;
        share_min = share_min.min(found / optimum);
        graphs += 1;
        better += usize::from(found > kept + 1e-9);
    }
    let share = share_sum / f64::from(graphs);
    println!("mean {share}, worst {share_min}, better than kept {better} of {graphs}");
    assert!(share > 0.99, "mean share of the optimum: {share}");
    assert!(share_min > 0.75, "worst share of the optimum: {share_min}");
    assert!(better > 400, "the old order was beaten {better} times");
}

/// Checks each answer of an objective against scores from scratch.
struct Checked<'a> {
    inner: BlockObjective<'a>,
    units: &'a Units,
    params: &'a ExtTspParams,
    merges_of_each_kind: [u32; 4],
    pairs: u32,
    /// Pairs that gain more than half of their bound.
    close_bounds: u32,
}

impl Checked<'_> {
    /// The score of all jumps among `order`, and nothing else.
    fn score(&self, order: &[u32]) -> f64 {
        let mut sum = 0.0;
        let mut starts = vec![None; self.units.nodes.len()];
        let mut end = 0;
        for &unit in order {
            starts[unit as usize] = Some(end);
            end += self.units.nodes[unit as usize].size_bytes;
        }
        for (index, arc) in self.units.arcs.iter().enumerate() {
            if let (Some(src), Some(dst)) = (starts[arc.src as usize], starts[arc.dst as usize]) {
                sum += self.params.jump_value(
                    self.units.arc_conditional[index],
                    self.units.arc_counts[index],
                    src + self.units.nodes[arc.src as usize].size_bytes,
                    dst,
                );
            }
        }
        sum
    }

    fn gain_of(&self, x: &[u32], y: &[u32], join: Join) -> f64 {
        let cut = |at: u32| x.split_at(at as usize);
        let order = match join {
            Join::Append => [x, y].concat(),
            Join::Insert { at } => [cut(at).0, y, cut(at).1].concat(),
            Join::RotateAfter { at } => [y, cut(at).1, cut(at).0].concat(),
            Join::RotateBefore { at } => [cut(at).1, cut(at).0, y].concat(),
        };
        if order.contains(&0) && order[0] != 0 {
            return f64::NEG_INFINITY;
        }
        self.score(&order) - self.score(x) - self.score(y)
    }
}

impl Objective for Checked<'_> {
    fn merged(&mut self, into: u32, from: u32) {
        self.inner.merged(into, from);
    }

    fn best_merge(
        &mut self,
        chains: &Chains<'_>,
        a: u32,
        b: u32,
        between: &[u32],
    ) -> Option<Merge> {
        let most = self.inner.gain_most(chains, a, b, between).expect("there is a bound");
        let found = self.inner.best_merge(chains, a, b, between);
        assert!(found.is_none_or(|merge| merge.gain <= most), "{found:?} gains more than {most}");
        self.pairs += 1;
        self.close_bounds += u32::from(found.is_some_and(|merge| merge.gain > 0.5 * most));
        let (a_nodes, b_nodes) = (&chains.chain(a).nodes, &chains.chain(b).nodes);
        let mut best = f64::NEG_INFINITY;
        for (x, y) in [(a_nodes, b_nodes), (b_nodes, a_nodes)] {
            best = best.max(self.gain_of(x, y, Join::Append));
            for at in 1..x.len() as u32 {
                for join in [
                    Join::Insert { at },
                    Join::RotateAfter { at },
                    Join::RotateBefore { at },
                ] {
                    best = best.max(self.gain_of(x, y, join));
                }
            }
        }
        match found {
            None => assert!(best <= 2.0 * GAIN_MIN, "missed a gain of {best}"),
            Some(merge) => {
                let (x, y) = (
                    &chains.chain(merge.first).nodes,
                    &chains.chain(merge.second).nodes,
                );
                let claimed = self.gain_of(x, y, merge.join);
                assert!(
                    (claimed - merge.gain).abs() < 1e-6,
                    "{merge:?} gains {claimed}"
                );
                assert!(
                    (best - merge.gain).abs() < 1e-6,
                    "{merge:?} is not the best, {best}"
                );
                self.merges_of_each_kind[match merge.join {
                    Join::Append => 0,
                    Join::Insert { .. } => 1,
                    Join::RotateAfter { .. } => 2,
                    Join::RotateBefore { .. } => 3,
                }] += 1;
            }
        }
        found
    }
}

#[test]
fn merge_gains_are_differences_of_scores() {
    let params = ExtTspParams {
        density_ratio_max: f64::INFINITY,
        // Small windows, so that their edges are met.
        forward_window_bytes: 200,
        backward_window_bytes: 150,
        ..ExtTspParams::default()
    };
    let mut random = SplitMix64::new(7);
    let mut merges_of_each_kind = [0; 4];
    let (mut pairs, mut close_bounds) = (0, 0);
    for blocks in 2..40 {
        let owned = random_flow(&mut random, blocks, 300);
        let graph = owned.graph();
        let units = Units::new(&graph, &graph.executions(), &vec![true; blocks as usize]);
        let mut objective = Checked {
            inner: BlockObjective::new(&params, &units),
            units: &units,
            params: &params,
            merges_of_each_kind,
            pairs,
            close_bounds,
        };
        // Without bounds: every pair is evaluated at once.
        let mut eager = Chains::new(&units.nodes, &units.arcs);
        eager.merge_all(&mut objective, params.chain_units_max);
        Checked { merges_of_each_kind, pairs, close_bounds, .. } = objective;
        let mut lazy = Chains::new(&units.nodes, &units.arcs);
        lazy.merge_all(&mut BlockObjective::new(&params, &units), params.chain_units_max);
        assert!(lazy.evaluations() <= eager.evaluations());
        let nodes = |chains: Chains<'_>| chains.into_chains().into_iter().map(|chain| chain.nodes).collect::<Vec<_>>();
        assert_eq!(nodes(lazy), nodes(eager), "{blocks} blocks");
    }
    assert!(close_bounds > pairs / 4, "{close_bounds} of {pairs}");
    println!("{merges_of_each_kind:?}");
    assert!(
        merges_of_each_kind.iter().all(|&merges| merges > 10),
        "{merges_of_each_kind:?}"
    );
}

#[test]
fn dissimilar_densities_are_kept_apart_but_links_still_fall_through() {
    // The loop 1-2 is 1000 times as hot as the way into it, so no merge for its score; but it costs
    // nothing that 0 falls through into it.
    let owned = Owned::new(4, 16, &[(0, 1, 1), (1, 2, 2000), (2, 1, 1999), (2, 3, 1)]);
    assert_eq!(owned.ordered(), [0, 1, 2, 3]);
}

fn assert_permutation(order: &[u32], blocks: usize) {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq((0..).take(blocks)), "{order:?}");
    assert!(order.first().is_none_or(|&first| first == 0), "{order:?}");
}

#[test]
fn any_input_gives_a_permutation_that_does_not_depend_on_the_order_of_edges() {
    arbtest::arbtest(|u| {
        let blocks = u.int_in_range(0..=24)?;
        let mut owned = Owned::default();
        for _ in 0..blocks {
            owned.sizes.push(*u.choose(&[0, 1, 7, 64, 4000, u32::MAX])?);
            if u.ratio(3, 4)? {
                owned
                    .counts
                    .push(*u.choose(&[0, 1, 1000, 1 << 40, u64::MAX])?);
            }
        }
        for _ in 0..u.int_in_range(0..=60)? {
            owned.edges.push(BlockEdge {
                src: u.int_in_range(0..=25)?,
                dst: u.int_in_range(0..=25)?,
                count: *u.choose(&[0, 1, 2, 500, 1 << 40, u64::MAX])?,
                conditional: u.arbitrary()?,
            });
        }
        let orders = [
            BlockOrder::ExtTsp,
            BlockOrder::Keep,
            BlockOrder::Reverse,
            BlockOrder::Random {
                seed: u.arbitrary()?,
            },
        ];
        for order in orders {
            assert_permutation(&order_blocks(&owned.graph(), order), blocks);
        }
        let order = owned.ordered();
        let kept: Vec<u32> = (0..).take(blocks).collect();
        assert!(owned.score(&order) >= owned.score(&kept) * (1.0 - 1e-12));
        owned.edges.reverse();
        assert_eq!(owned.ordered(), order);
        Ok(())
    });
}

/// Steps and evaluations of a search, per block and edge.
fn work_per_item(owned: &Owned, params: &ExtTspParams) -> (f64, f64) {
    let (order, work) = search(&owned.graph(), params);
    assert_permutation(&order, owned.sizes.len());
    let items = (owned.sizes.len() + owned.edges.len()) as f64;
    (work.steps as f64 / items, work.evaluations as f64 / items)
}

#[test]
fn work_grows_linearly_with_the_function() {
    // Jumps of local reach, as in compiled code.
    let local = |blocks: u32| {
        let mut random = SplitMix64::new(5);
        let mut edges = Vec::new();
        for src in 0..blocks - 1 {
            edges.push((src, src + 1, below(&mut random, 1000)));
            let dst = (src + below(&mut random, 40) as u32)
                .saturating_sub(12)
                .max(1);
            edges.push((src, dst.min(blocks - 1), below(&mut random, 1000)));
        }
        let mut owned = Owned::new(0, 0, &edges[..0]);
        owned.sizes = (0..blocks)
            .map(|_| 4 + below(&mut random, 40) as u32)
            .collect();
        owned.edges = (edges.iter())
            .map(|&(src, dst, count)| BlockEdge {
                src,
                dst,
                count,
                conditional: true,
            })
            .collect();
        owned
    };
    let (small, _) = work_per_item(&local(1_000), &ExtTspParams::default());
    let (large, evaluations) = work_per_item(&local(16_000), &ExtTspParams::default());
    println!("steps per item {small}, {large}; evaluations {evaluations}");
    assert!(large < 2.0 * small, "steps per item: {small}, then {large}");
    assert!(evaluations < 20.0, "{evaluations}");
}

#[test]
fn a_hub_costs_no_more_than_other_blocks() {
    // A dispatch loop: block 1 jumps to every handler, every handler jumps back.
    let dispatch = |handlers: u32| {
        let mut random = SplitMix64::new(5);
        let mut edges = vec![(0, 1, 1)];
        for handler in 2..handlers + 2 {
            let count = 1000 + below(&mut random, 10_000);
            edges.extend([(1, handler, count), (handler, 1, count)]);
        }
        let mut owned = Owned::new(0, 0, &[]);
        owned.sizes = vec![8; handlers as usize + 2];
        owned.edges = (edges.iter())
            .map(|&(src, dst, count)| BlockEdge {
                src,
                dst,
                count,
                conditional: src == 1,
            })
            .collect();
        owned
    };
    // Else the hub's density keeps everything away from it.
    let params = ExtTspParams {
        density_ratio_max: f64::INFINITY,
        ..ExtTspParams::default()
    };
    let (_, small) = work_per_item(&dispatch(500), &params);
    let (steps, large) = work_per_item(&dispatch(16_000), &params);
    println!("evaluations per item {small}, {large}; steps {steps}");
    assert!(large < 20.0, "evaluations per item: {small}, then {large}");
    assert!(steps < 10_000.0, "{steps}");
}

#[test]
fn a_dense_graph_stops_at_the_limits() {
    // Every block jumps to every other one.
    let dense = |blocks: u32| {
        let mut random = SplitMix64::new(9);
        let mut owned = Owned::new(0, 0, &[]);
        owned.sizes = vec![3; blocks as usize];
        for src in 0..blocks {
            owned.edges.extend((0..blocks).map(|dst| BlockEdge {
                src,
                dst,
                count: 1 + below(&mut random, 1 << 20),
                conditional: true,
            }));
        }
        owned
    };
    let limited = ExtTspParams {
        cut_steps_min: 0,
        cut_steps_per_unit: 1_000,
        ..ExtTspParams::default()
    };
    let (free, _) = work_per_item(&dense(150), &ExtTspParams::default());
    let (steps, _) = work_per_item(&dense(150), &limited);
    println!("steps per item {free}, limited {steps}");
    assert!(steps < free / 3.0, "{steps}, without limit {free}");
}
