//! Function orders on call graphs whose best order is known, and on hostile ones.

use super::cdsort::{CdSortParams, search};
use super::hfsort::{HfSortParams, hfsort_with_params};
use super::{CallArc, FunctionNode, FunctionOrder, order_functions};
use crate::random::SplitMix64;

fn functions(sizes_and_samples: &[(u32, u64)]) -> Vec<FunctionNode> {
    (sizes_and_samples.iter())
        .map(|&(size, samples)| FunctionNode {
            size,
            samples,
            entry_count: samples,
        })
        .collect()
}

fn calls(arcs: &[(u32, u32, u64)]) -> Vec<CallArc> {
    (arcs.iter())
        .map(|&(caller, callee, count)| CallArc {
            caller,
            callee,
            count,
            caller_offset: 0,
        })
        .collect()
}

const SORTS: [FunctionOrder<'static>; 2] = [FunctionOrder::CdSort, FunctionOrder::HfSort];

#[test]
fn trivial_orders_do_what_they_say() {
    let nodes = functions(&[(1, 1); 5]);
    let order = |order| order_functions(&nodes, &[], order);
    assert_eq!(order(FunctionOrder::Keep), [0, 1, 2, 3, 4]);
    assert_eq!(order(FunctionOrder::Reverse), [4, 3, 2, 1, 0]);
    assert_eq!(order(FunctionOrder::List(&[3, 9, 1, 3])), [3, 1, 0, 2, 4]);
    let random: Vec<Vec<u32>> = (0..20)
        .map(|seed| order(FunctionOrder::Random { seed }))
        .collect();
    assert!(random.iter().any(|order| *order != random[0]));
    assert_eq!(random[7], order(FunctionOrder::Random { seed: 7 }));
}

#[test]
fn what_was_never_executed_comes_last_as_it_was() {
    let mut nodes = functions(&[(10, 0), (10, 5), (10, 0), (10, 0), (10, 50), (10, 0)]);
    for sort in SORTS {
        assert_eq!(order_functions(&nodes, &[], sort), [4, 1, 0, 2, 3, 5]);
    }
    // A counted call is execution enough.
    nodes[4].samples = 0;
    let calls = calls(&[(4, 3, 7), (0, 2, 0)]);
    for sort in SORTS {
        assert_eq!(order_functions(&nodes, &calls, sort)[3..], [0, 2, 5]);
    }
}

#[test]
fn a_chain_of_calls_is_laid_out_along_itself() {
    // 3 -> 1 -> 4 -> 0; 2 is hot and by itself.
    let nodes = functions(&[(100, 100), (100, 100), (10, 900), (100, 100), (100, 100)]);
    let calls = calls(&[(3, 1, 100), (1, 4, 100), (4, 0, 100)]);
    assert_eq!(
        order_functions(&nodes, &calls, FunctionOrder::HfSort),
        [2, 3, 1, 4, 0]
    );
    let order = order_functions(&nodes, &calls, FunctionOrder::CdSort);
    assert_eq!(order[0], 2);
    let path: Vec<u32> = order[1..].to_vec();
    // Neighbours in the call chain are neighbours in the order, in one direction or the other.
    assert!(path == [3, 1, 4, 0] || path == [0, 4, 1, 3], "{path:?}");
}

#[test]
fn a_callee_goes_behind_its_most_frequent_caller() {
    let nodes = functions(&[(100, 50), (100, 60), (100, 70)]);
    let order = order_functions(
        &nodes,
        &calls(&[(0, 2, 10), (1, 2, 60)]),
        FunctionOrder::HfSort,
    );
    let place = |function| order.iter().position(|&it| it == function);
    assert_eq!(place(2), place(1).map(|place| place + 1));
}

#[test]
fn hfsort_respects_its_limits() {
    let nodes = functions(&[(600, 100), (600, 90), (10, 500), (100_000, 90)]);
    let arcs = calls(&[(0, 1, 90)]);
    let tight = HfSortParams {
        cluster_bytes_max: 1_000,
        ..HfSortParams::default()
    };
    let loose = HfSortParams::default();
    // Merged, 0 and 1 are behind 2 together; apart, they are there one by one: the same order. So
    // look at a function between them in density.
    let mut nodes_between = nodes.clone();
    nodes_between[3].size = 630;
    assert_eq!(
        hfsort_with_params(&nodes_between, &arcs, &loose),
        [2, 0, 1, 3]
    );
    nodes_between[3].samples = 99;
    nodes_between[3].size = 600;
    assert_eq!(
        hfsort_with_params(&nodes_between, &arcs, &loose),
        [2, 3, 0, 1]
    );
    assert_eq!(
        hfsort_with_params(&nodes_between, &arcs, &tight),
        [2, 0, 3, 1]
    );
    // A huge thin callee would thin its caller too much: 2 stays first and alone.
    let to_thin = calls(&[(2, 3, 90)]);
    assert_eq!(hfsort_with_params(&nodes, &to_thin, &loose), [2, 0, 1, 3]);
    let glued = HfSortParams {
        density_loss_max: f64::INFINITY,
        ..loose
    };
    assert_eq!(hfsort_with_params(&nodes, &to_thin, &glued), [0, 1, 2, 3]);
    // 5 of 90 calls: not its caller.
    let rare = calls(&[(2, 1, 5)]);
    assert_eq!(hfsort_with_params(&nodes, &rare, &loose), [2, 0, 1, 3]);
}

#[test]
fn cdsort_puts_the_call_site_near_the_callee() {
    // The call is at the end of a long caller: the callee belongs behind it; at the start: before.
    let nodes = functions(&[(1000, 100), (1000, 100)]);
    let with_offset = |caller_offset| {
        let mut arcs = calls(&[(0, 1, 100)]);
        arcs[0].caller_offset = caller_offset;
        order_functions(&nodes, &arcs, FunctionOrder::CdSort)
    };
    assert_eq!(with_offset(990), [0, 1]);
    // Behind: 990 bytes to go. Before: 1010. Behind is nearer still.
    assert_eq!(with_offset(10), [0, 1]);
    // A short callee before a call at the start is nearer.
    let nodes = functions(&[(1000, 100), (20, 100)]);
    assert_eq!(
        order_functions(&nodes, &calls(&[(0, 1, 100)]), FunctionOrder::CdSort),
        [1, 0]
    );
}

#[test]
fn cdsort_chains_do_not_exceed_their_limit() {
    let nodes = functions(&[(64, 10); 4]);
    let mut arcs = calls(&[(3, 0, 10), (0, 2, 5), (2, 1, 9)]);
    for call in &mut arcs {
        call.caller_offset = 60;
    }
    let free = search(&nodes, &arcs, &CdSortParams::default()).0;
    assert_eq!(free, [3, 0, 2, 1]);
    let pairs = CdSortParams {
        chain_functions_max: 2,
        ..CdSortParams::default()
    };
    // Two chains of the same density, so by their first functions.
    assert_eq!(search(&nodes, &arcs, &pairs).0, [2, 1, 3, 0]);
}

#[test]
fn calls_become_shorter_than_in_the_old_order() {
    // Twenty modules whose functions are interleaved in the old order.
    let mut random = SplitMix64::new(3);
    let nodes = functions(&[(200, 0); 400]);
    let arcs: Vec<(u32, u32, u64)> = (0..2_000)
        .map(|_| {
            let module = (random.next() % 20) as u32;
            let member = |random: &mut SplitMix64| module + 20 * (random.next() % 20) as u32;
            (
                member(&mut random),
                member(&mut random),
                1 + random.next() % 50,
            )
        })
        .collect();
    let mean_distance = |order: &[u32]| {
        let mut place = vec![0_u32; order.len()];
        for (index, &function) in (0..).zip(order) {
            place[function as usize] = index;
        }
        let weighted: u64 = (arcs.iter())
            .map(|&(caller, callee, count)| {
                count * u64::from(place[caller as usize].abs_diff(place[callee as usize]))
            })
            .sum();
        weighted as f64 / arcs.iter().map(|arc| arc.2).sum::<u64>() as f64
    };
    let kept = mean_distance(&order_functions(&nodes, &[], FunctionOrder::Keep));
    for sort in SORTS {
        let sorted = mean_distance(&order_functions(&nodes, &calls(&arcs), sort));
        println!("{sort:?}: {sorted}, kept {kept}");
        assert!(sorted < kept / 3.0, "{sort:?}: {sorted}, kept {kept}");
    }
}

#[test]
fn any_input_gives_a_permutation_that_does_not_depend_on_the_order_of_calls() {
    arbtest::arbtest(|u| {
        let mut nodes = Vec::new();
        for _ in 0..u.int_in_range(0..=30)? {
            nodes.push(FunctionNode {
                size: *u.choose(&[0, 1, 40, 5000, u32::MAX])?,
                samples: *u.choose(&[0, 1, 1000, u64::MAX])?,
                entry_count: *u.choose(&[0, 1, u64::MAX])?,
            });
        }
        let mut arcs = Vec::new();
        for _ in 0..u.int_in_range(0..=80)? {
            arcs.push(CallArc {
                caller: u.int_in_range(0..=31)?,
                callee: u.int_in_range(0..=31)?,
                count: *u.choose(&[0, 1, 300, u64::MAX])?,
                caller_offset: *u.choose(&[0, 17, u32::MAX])?,
            });
        }
        let list: Vec<u32> = u.arbitrary()?;
        let orders = [
            FunctionOrder::CdSort,
            FunctionOrder::HfSort,
            FunctionOrder::Keep,
            FunctionOrder::Reverse,
            FunctionOrder::Random {
                seed: u.arbitrary()?,
            },
            FunctionOrder::List(&list),
        ];
        let reversed: Vec<CallArc> = arcs.iter().rev().copied().collect();
        for order in orders {
            let found = order_functions(&nodes, &arcs, order);
            assert_eq!(found, order_functions(&nodes, &reversed, order));
            let mut sorted = found;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq((0..).take(nodes.len())));
        }
        Ok(())
    });
}

#[test]
fn a_function_that_everyone_calls_costs_no_more_than_others() {
    // Everybody calls function 0, and one other.
    let program = |size: u32| {
        let mut random = SplitMix64::new(11);
        let nodes = functions(&vec![(100, 100); size as usize]);
        let mut arcs = Vec::new();
        for caller in 1..size {
            let other = (random.next() % u64::from(size)) as u32;
            arcs.push((caller, 0, 1 + random.next() % 1000));
            arcs.push((caller, other, 1 + random.next() % 100));
        }
        (nodes, calls(&arcs))
    };
    let evaluations_per_function = |size: u32| {
        let (nodes, arcs) = program(size);
        let (_, evaluations) = search(&nodes, &arcs, &CdSortParams::default());
        evaluations as f64 / f64::from(size)
    };
    let (small, large) = (
        evaluations_per_function(1_000),
        evaluations_per_function(32_000),
    );
    println!("{small}, {large}");
    assert!(large < 2.0 * small && large < 60.0, "{small}, then {large}");
}
