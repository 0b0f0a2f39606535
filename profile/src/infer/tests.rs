//! Flow repair on small graphs.

use arbtest::arbtest;
use postlink_cfg::{Block, BlockId, CfgEdge, FunctionId, Target, Terminator};
use postlink_isa::BranchForm;

use super::*;

/// A graph of blocks of 16 bytes, given their edges; kinds follow from the targets.
fn graph(blocks: usize, edges: &[(usize, usize)]) -> FunctionCfg {
    let mut edges = edges.to_vec();
    edges.sort_by_key(|edge| edge.0);
    let block = |index: usize| {
        let out: Vec<usize> = edges.iter().filter(|edge| edge.0 == index).map(|edge| edge.1).collect();
        let id = |index: usize| Target::Block(BlockId::from_index(index));
        let at = index as u32 * 16 + 12;
        let terminator = match out[..] {
            [] => Terminator::Stop,
            [to] if to == index + 1 => Terminator::Fallthrough(id(to)),
            [to] => Terminator::Jump { at, target: id(to) },
            [fall, taken] | [taken, fall] if fall == index + 1 => {
                Terminator::Branch { at, form: BranchForm::Condition(4), taken: id(taken), fall: id(fall) }
            }
            _ => Terminator::IndirectJump,
        };
        let start = index as u32 * 16;
        Block { start, body_end: at, end: start + 16, terminator, exit_size: 0, landing_pad: false, label: false }
    };
    let blocks: Vec<Block> = (0..blocks).map(block).collect();
    let edges = edges
        .iter()
        .map(|&(from, to)| CfgEdge {
            from: BlockId::from_index(from),
            to: BlockId::from_index(to),
            kind: match blocks[from].terminator {
                Terminator::IndirectJump => EdgeKind::Indirect,
                Terminator::Jump { .. } => EdgeKind::Taken,
                _ if to == from + 1 => EdgeKind::Fallthrough,
                _ => EdgeKind::Taken,
            },
        })
        .collect();
    FunctionCfg { function: FunctionId(0), start: 0x1000, blocks: blocks.into_iter().collect(), edges }
}

/// Evidence with an entry count and counts of some edges.
fn evidence(cfg: &FunctionCfg, entry: u64, counts: &[(usize, usize, u64)]) -> Evidence {
    let mut evidence = Evidence::new(cfg);
    evidence.entry = entry;
    for &(from, to, count) in counts {
        let edge = cfg.edges.iter().position(|edge| (edge.from.index(), edge.to.index()) == (from, to)).unwrap();
        evidence.edges[edge] = Some(count);
    }
    evidence
}

const DIAMOND: [(usize, usize); 5] = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)];

#[test]
fn a_missing_fallthrough_is_what_remains() {
    let cfg = graph(4, &DIAMOND);
    let (counts, flow) = repair(&cfg, &evidence(&cfg, 10, &[(0, 2, 3), (1, 3, 7)]));
    // 0->1, 0->2, 1->2, 1->3, 2->3
    assert_eq!(counts.edges, [7, 3, 0, 7, 3]);
    assert_eq!(counts.blocks, [10, 7, 3, 10]);
    assert_eq!(counts.entry, 10);
    assert!(counts.inside_known);
    assert_eq!((flow.imbalance_before, flow.imbalance_after, flow.executed), (17, 0, 30));
}

#[test]
fn a_small_remainder_is_noise() {
    let cfg = graph(4, &DIAMOND);
    // Block 1 is entered 1000 times and left 990 times: nobody was in block 2.
    let noisy = [(0, 1, 1000), (1, 3, 990)];
    let (counts, _) = repair(&cfg, &evidence(&cfg, 1010, &noisy));
    assert_eq!(counts.blocks, [1010, 1000, 0, 990]);
    // Seldom, but it says so itself.
    let seldom = [(0, 1, 1000), (1, 3, 990), (2, 3, 12)];
    let (counts, _) = repair(&cfg, &evidence(&cfg, 1010, &seldom));
    assert_eq!(counts.blocks, [1010, 1002, 12, 1002]);
    // What is not small is no noise.
    let (counts, _) = repair(&cfg, &evidence(&cfg, 1000, &[(0, 1, 1000), (1, 3, 900)]));
    assert_eq!(counts.blocks, [1000, 1000, 100, 1000]);
}

#[test]
fn counts_travel_back_along_rows_to_the_entry() {
    let cfg = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    let mut known = evidence(&cfg, 0, &[]);
    known.floor[3] = 6;
    let (counts, _) = repair(&cfg, &known);
    assert_eq!(counts.blocks, [6, 6, 6, 6, 6]);
    assert_eq!((counts.entry, counts.inside_known), (6, true));
}

#[test]
fn recorded_edges_are_kept_even_if_they_contradict() {
    let cfg = graph(4, &DIAMOND);
    let all = [(0, 1, 1), (0, 2, 100), (1, 2, 50), (1, 3, 2), (2, 3, 9)];
    let (counts, flow) = repair(&cfg, &evidence(&cfg, 10, &all));
    assert_eq!(counts.edges, [1, 100, 50, 2, 9]);
    assert_eq!(counts.blocks, [101, 52, 150, 11]);
    assert!(flow.imbalance_after > 0);
}

#[test]
fn a_landing_pad_or_label_takes_nothing_from_the_block_above() {
    for facts in [(true, false), (false, true)] {
        let mut cfg = graph(3, &[(0, 1), (1, 2)]);
        let block = &mut cfg.blocks.as_mut_slice()[1];
        (block.landing_pad, block.label) = facts;
        let mut known = evidence(&cfg, 0, &[]);
        known.floor[1] = 5;
        assert_eq!(repair(&cfg, &known).0.blocks, [0, 5, 5]);
    }
}

#[test]
fn the_only_missing_jump_has_the_rest_if_that_is_most() {
    // 0 -> 1 -> 2 -> 0 by a jump; 2 -> 3.
    let cfg = graph(4, &[(0, 1), (0, 3), (1, 2), (2, 3), (3, 1)]);
    let (counts, _) = repair(&cfg, &evidence(&cfg, 100, &[(0, 1, 10)]));
    assert_eq!(counts.edges[1], 90);
    let (counts, _) = repair(&cfg, &evidence(&cfg, 100, &[(0, 1, 90)]));
    assert_eq!(counts.edges[1], 0);
}

#[test]
fn cycles_of_unrecorded_jumps_do_not_grow() {
    // 1 -> 3 -> 1 without an exit, entered 10 times.
    let cfg = graph(4, &[(0, 1), (1, 3), (3, 1)]);
    let (counts, _) = repair(&cfg, &evidence(&cfg, 10, &[(0, 1, 10)]));
    assert!(counts.blocks.iter().all(|&count| count <= 20), "{:?}", counts.blocks);
}

#[test]
fn an_indirect_jump_without_records_is_spread_evenly() {
    let cfg = graph(6, &[(0, 1), (1, 3), (1, 4), (1, 5)]);
    let (counts, _) = repair(&cfg, &evidence(&cfg, 9, &[(0, 1, 9)]));
    assert_eq!(counts.edges, [9, 3, 3, 3]);
}

#[test]
fn nothing_is_cold_where_only_the_entry_is_known() {
    // 4 is reached by an exception only, and leads to 5.
    let mut cfg = graph(6, &[(0, 1), (0, 2), (1, 2), (2, 3), (4, 5)]);
    let pad = &mut cfg.blocks.as_mut_slice()[4];
    (pad.landing_pad, pad.label) = (true, true);
    let (counts, flow) = repair(&cfg, &evidence(&cfg, 8, &[]));
    assert_eq!(counts.blocks, [8, 8, 8, 8, 0, 0]);
    assert_eq!(counts.edges, [4, 4, 8, 8, 0]);
    assert_eq!((counts.entry, counts.inside_known, flow.executed), (8, false, 8));
}

#[test]
fn counts_saturate() {
    let cfg = graph(4, &DIAMOND);
    let most = u64::MAX;
    let (counts, _) = repair(&cfg, &evidence(&cfg, most, &[(0, 1, most), (0, 2, most), (2, 3, most)]));
    assert_eq!(counts.blocks, [most; 4]);
}

#[test]
fn nothing_comes_from_nothing() {
    let cfg = graph(4, &DIAMOND);
    let (counts, flow) = repair(&cfg, &Evidence::new(&cfg));
    assert_eq!(counts.blocks, [0; 4]);
    assert_eq!((counts.entry, counts.inside_known, flow.executed), (0, false, 0));
    let empty = graph(0, &[]);
    assert!(repair(&empty, &Evidence::new(&empty)).0.blocks.is_empty());
}

#[test]
fn any_graph_and_any_counts() {
    arbtest(|u| {
        let blocks = u.int_in_range(1..=8)?;
        let mut edges = Vec::new();
        for from in 0..blocks {
            for _ in 0..u.int_in_range(0..=3)? {
                edges.push((from, u.int_in_range(0..=blocks - 1)?));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let cfg = graph(blocks, &edges);
        let mut known = Evidence::new(&cfg);
        known.entry = u.arbitrary()?;
        for edge in &mut known.edges {
            *edge = u.arbitrary()?;
        }
        for block in 0..blocks {
            known.floor[block] = u64::from(u.arbitrary::<u8>()?);
            known.inflow[block] = u64::from(u.arbitrary::<u8>()?);
            known.outflow[block] = u64::from(u.arbitrary::<u8>()?);
        }
        let (counts, _) = repair(&cfg, &known);
        for (index, edge) in cfg.edges.iter().enumerate() {
            if let Some(count) = known.edges[index] {
                assert_eq!(counts.edges[index], count);
            }
            assert!(counts.blocks[edge.from.index()] >= counts.edges[index]);
            assert!(counts.blocks[edge.to.index()] >= counts.edges[index]);
        }
        for (block, &count) in counts.blocks.iter().enumerate() {
            assert!(count >= known.floor[block].max(known.inflow[block]).max(known.outflow[block]));
        }
        Ok(())
    });
}

/// The argument for rule 1: after two sweeps a third finds nothing to do.
#[test]
fn two_sweeps_settle_a_row() {
    arbtest(|u| {
        let blocks = u.int_in_range(2..=9)?;
        let edges: Vec<(usize, usize)> = (1..blocks).map(|to| (to - 1, to)).collect();
        let cfg = graph(blocks, &edges);
        let mut known = Evidence::new(&cfg);
        for block in 0..blocks {
            known.floor[block] = u64::from(u.arbitrary::<u8>()?);
            known.inflow[block] = u64::from(u.arbitrary::<u8>()?);
            known.outflow[block] = u64::from(u.arbitrary::<u8>()?);
        }
        let mut state = State::new(&cfg, &known);
        state.fallthroughs();
        let settled = state.edges.clone();
        state.fallthroughs();
        assert_eq!(state.edges, settled);
        Ok(())
    });
}
