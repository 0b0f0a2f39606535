//! From a program and its counts to a plan.

mod align;
mod fold;
mod order;

use postlink_base::{Id, IndexVec};
use postlink_cfg::{BlockId, Class, EdgeKind, FunctionCfg, FunctionId, Graphs, Program, Terminator};
use rayon::prelude::*;
use tracing::trace_span;

use self::align::whole_align;
use self::fold::{FoldedWeights, Folds};
use crate::{
    BlockEdge, BlockGraph, BlockOrder, FragmentPlan, FunctionPlan, Mode, Part, Placed, Plan, Split, line_cost, order_blocks,
    split_blocks,
};

/// How functions are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionOrderChoice {
    /// Cache-directed sort by the profile.
    CdSort,
    /// C3 by the profile.
    HfSort,
    /// As in the input.
    Keep,
    /// Backwards.
    Reverse,
    /// By the seed.
    Random,
    /// These first, in this order.
    List(Vec<FunctionId>),
}

/// How blocks are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOrderChoice {
    /// Extended travelling salesman, by the profile.
    ExtTsp,
    /// As in the input.
    Keep,
    /// Entry first, the others backwards.
    Reverse,
    /// By the seed.
    Random,
}

/// Which blocks leave the hot part of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitChoice {
    /// None.
    None,
    /// Blocks that the profile never saw, in functions that it did see.
    Cold,
    /// These, and blocks that their functions seldom get to.
    Warm,
    /// As [`SplitChoice::Warm`] if the code that was executed is many times as large as caches are, else as
    /// [`SplitChoice::Cold`]: what is seldom executed for one input may be what another one executes, and a program that
    /// nearly fits into the cache has more to lose by that than to gain.
    ByProfile,
    /// All but the entry.
    All,
    /// By the seed.
    Random,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Full or hot.
    pub mode: Mode,
    /// Order of blocks.
    pub block_order: BlockOrderChoice,
    /// Order of functions.
    pub function_order: FunctionOrderChoice,
    /// Splitting.
    pub split: SplitChoice,
    /// Seed of the random choices.
    pub seed: u64,
    /// Hot mode without a profile: treat every function as one that holds samples.
    pub hot_all: bool,
    /// Move functions as one piece wherever that is possible: their unwind tables do not grow then.
    pub whole_only: bool,
    /// Let one of several equal functions stand for all where nobody can tell.
    pub fold: bool,
}

impl PlanOptions {
    /// Whether functions are to be taken apart.
    pub fn rearranges(&self) -> bool {
        self.block_order != BlockOrderChoice::Keep || self.split != SplitChoice::None
    }
}

/// Counts of one function, parallel to its graph.
pub struct Counts {
    /// Per block.
    pub blocks: Vec<u64>,
    /// Per edge of `FunctionCfg::edges`.
    pub edges: Vec<u64>,
    /// Whether the profile tells blocks apart at all; if it knows only how often the function was
    /// entered, nothing in it can be called cold.
    pub inside_known: bool,
}

/// A call between functions, as the profile saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightedCall {
    /// Calling function.
    pub caller: FunctionId,
    /// Called function.
    pub callee: FunctionId,
    /// Executions.
    pub count: u64,
    /// Old address of the call instruction.
    pub from: u64,
}

/// What the profile says about the program.
pub struct Weights<'a> {
    /// Samples and entries per function.
    pub functions: &'a IndexVec<FunctionId, (u64, u64)>,
    /// Calls.
    pub calls: &'a [WeightedCall],
    /// Counts of one function.
    pub counts: &'a (dyn Fn(&FunctionCfg) -> Counts + Sync),
}

/// What the order of functions asks of one of them.
#[derive(Default)]
struct Laid {
    /// Bytes of the hot fragment.
    hot_size: u32,
    /// Old offset of each block in the hot fragment and its place there, sorted; branches that become longer or go
    /// away are not counted in. Empty: the function stays in one piece.
    hot_offsets: Vec<(u32, u32)>,
    /// Sum of the counts of its records.
    samples: u64,
}

/// How much of the program's execution is one function's.
#[derive(Clone, Copy, Debug)]
struct Heat {
    /// Sum of the counts of its records.
    samples: u64,
    /// The same for the whole program.
    total: u64,
}

impl Heat {
    const fn is_hot(self) -> bool {
        self.samples > 0
    }

    /// A function that moves as one piece.
    const fn whole(self, align: u32, size: u32) -> (FunctionPlan, Laid) {
        let laid = Laid { hot_size: size, hot_offsets: Vec::new(), samples: self.samples };
        (FunctionPlan::Whole { align, hot: self.is_hot() }, laid)
    }
}

impl Laid {
    /// Where the instruction at `old` stands in the hot fragment; its end for one in another fragment.
    fn new_offset(&self, old: u32) -> u32 {
        let Some(index) = self.hot_offsets.partition_point(|offset| offset.0 <= old).checked_sub(1) else {
            return old.min(self.hot_size);
        };
        self.hot_offsets.get(index).map_or(0, |&(start, new)| new + (old - start)).min(self.hot_size)
    }
}

/// What happens to each function, before any of them is placed: all of a plan but the order.
pub struct Shapes {
    functions: IndexVec<FunctionId, FunctionPlan>,
    /// Parallel to `functions`.
    laid: Vec<Laid>,
    /// What the profile says if functions were folded.
    weights: Option<FoldedWeights>,
}

impl Shapes {
    /// What happens to each function.
    pub const fn functions(&self) -> &IndexVec<FunctionId, FunctionPlan> {
        &self.functions
    }

    /// The order of placement, hottest first; see [`Plan::order`].
    pub fn order(&self, program: &Program<'_>, weights: Option<&Weights<'_>>, options: &PlanOptions) -> Vec<Placed> {
        let folded = self.weights.as_ref().zip(weights).map(|(folded, weights)| folded.with(weights));
        order::order(program, folded.as_ref().or(weights), options, (&self.functions, &self.laid))
    }

    /// The plan with [`Shapes::order`].
    pub fn into_plan(self, mode: Mode, order: Vec<Placed>) -> Plan {
        Plan { mode, functions: self.functions, order }
    }
}

/// Lays out each function of the program by itself. `may_move` says which functions the user allows to move.
pub fn shape(
    program: &Program<'_>,
    graphs: &Graphs,
    weights: Option<&Weights<'_>>,
    options: &PlanOptions,
    may_move: &IndexVec<FunctionId, bool>,
) -> Shapes {
    let span = trace_span!("choose").entered();
    let taken = program.address_taken();
    let samples_of = |id: FunctionId| weights.and_then(|weights| weights.functions.get(id)).map_or(0, |weight| weight.0);
    let total = weights.map_or(0, |weights| weights.functions.iter().fold(0u64, |sum, weight| sum.saturating_add(weight.0)));
    let stays = staying(program, options, may_move, &samples_of);
    let split = match options.split {
        SplitChoice::ByProfile if executed_bytes(program, &samples_of) >= WARM_FROM => SplitChoice::Warm,
        SplitChoice::ByProfile => SplitChoice::Cold,
        split => split,
    };
    let options = &PlanOptions { split, ..options.clone() };
    drop(span);
    let span = trace_span!("fold").entered();
    let folds = if options.fold { Folds::find(program, &stays, &taken) } else { Folds::default() };
    let folded = weights.and_then(|weights| folds.weights(program, weights));
    let folded_weights = folded.as_ref().zip(weights).map(|(folded, weights)| folded.with(weights));
    let heats = folded_weights.as_ref().or(weights);
    let samples_of = |id: FunctionId| heats.and_then(|weights| weights.functions.get(id)).map_or(0, |weight| weight.0);
    drop(span);
    let _span = trace_span!("blocks").entered();
    let (functions, laid): (Vec<FunctionPlan>, Vec<Laid>) = (0..program.functions.len())
        .into_par_iter()
        .with_max_len(BATCH)
        .map(|index| {
            let id = FunctionId::from_index(index);
            if stays.get(index).copied().unwrap_or(true) {
                return (FunctionPlan::Stay, Laid::default());
            }
            if let Some(into) = folds.representative(id) {
                return (FunctionPlan::Fold { into }, Laid::default());
            }
            let align = whole_align(program, id, taken.get(index).copied().unwrap_or(true));
            let counts = |cfg: &FunctionCfg| weights.map(|weights| folds.counts((program, graphs), weights, cfg));
            lay_function((program, graphs), counts, options, id, align, Heat { samples: samples_of(id), total })
        })
        .unzip();
    Shapes { functions: functions.into_iter().collect(), laid, weights: folded }
}

/// Functions that one thread takes at a time.
const BATCH: usize = 256;

/// Bytes of executed functions from which on [`SplitChoice::ByProfile`] splits warm blocks off: 128 times a first-level
/// cache of 32 KiB.
const WARM_FROM: u64 = 4 << 20;

/// How large the functions with samples are together.
fn executed_bytes(program: &Program<'_>, samples_of: &impl Fn(FunctionId) -> u64) -> u64 {
    let executed = program.functions.iter_enumerated().filter(|(id, _)| samples_of(*id) > 0);
    executed.map(|(_, function)| function.size()).sum()
}

/// Which functions keep their address, as far as the plan can tell.
fn staying(
    program: &Program<'_>,
    options: &PlanOptions,
    may_move: &IndexVec<FunctionId, bool>,
    samples_of: &impl Fn(FunctionId) -> u64,
) -> Vec<bool> {
    let mut stays: Vec<bool> = program
        .functions
        .iter_enumerated()
        .map(|(id, function)| {
            let cold = options.mode == Mode::Hot && !options.hot_all && samples_of(id) == 0;
            function.class == Class::Pinned || !may_move.get(id).copied().unwrap_or(true) || cold
        })
        .collect();
    program.spread_stays(&mut stays);
    stays
}

fn lay_function(
    (program, graphs): (&Program<'_>, &Graphs),
    counts: impl Fn(&FunctionCfg) -> Option<Counts>,
    options: &PlanOptions,
    id: FunctionId,
    align: u32,
    heat: Heat,
) -> (FunctionPlan, Laid) {
    let function = &program.functions[id];
    let size = u32::try_from(function.size()).unwrap_or(u32::MAX);
    let stress = options.block_order == BlockOrderChoice::Reverse
        || options.block_order == BlockOrderChoice::Random
        || matches!(options.split, SplitChoice::All | SplitChoice::Random);
    let profiled = heat.is_hot()
        && (options.block_order == BlockOrderChoice::ExtTsp || matches!(options.split, SplitChoice::Cold | SplitChoice::Warm));
    let wanted = (stress || profiled) && !options.whole_only;
    let relay = function.class == Class::Free && (wanted || function.traits.must_relay);
    if !relay {
        return heat.whole(align, size);
    }
    let cfg = graphs.get(program, id);
    let known = if heat.is_hot() { counts(&cfg) } else { None };
    let counts = known.unwrap_or_else(|| Counts {
        blocks: vec![0; cfg.blocks.len()],
        edges: vec![0; cfg.edges.len()],
        inside_known: false,
    });
    let blind = !counts.inside_known && !stress;
    if blind && !function.traits.must_relay {
        return heat.whole(align, size);
    }
    if options.whole_only || blind {
        let kept = PlanOptions { block_order: BlockOrderChoice::Keep, split: SplitChoice::None, ..options.clone() };
        return lay_blocks(&cfg, &counts, &kept, align, heat);
    }
    lay_blocks(&cfg, &counts, options, align, heat)
}

fn lay_blocks(cfg: &FunctionCfg, counts: &Counts, options: &PlanOptions, align: u32, heat: Heat) -> (FunctionPlan, Laid) {
    let sizes: Vec<u32> = cfg.blocks.iter().map(|block| block.end - block.start).collect();
    let edges: Vec<BlockEdge> = cfg
        .edges
        .iter()
        .zip(counts.edges.iter().chain(std::iter::repeat(&0)))
        .map(|(edge, &count)| BlockEdge {
            src: edge.from.0,
            dst: edge.to.0,
            count,
            conditional: matches!(cfg.blocks[edge.from].terminator, Terminator::Branch { .. }),
        })
        .collect();
    let graph = BlockGraph { sizes: &sizes, counts: &counts.blocks, edges: &edges };
    // The seed is mixed with the address so that each function gets an order of its own.
    let seed = options.seed ^ cfg.start.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let block_order = match options.block_order {
        BlockOrderChoice::ExtTsp => BlockOrder::ExtTsp,
        BlockOrderChoice::Keep => BlockOrder::Keep,
        BlockOrderChoice::Reverse => BlockOrder::Reverse,
        BlockOrderChoice::Random => BlockOrder::Random { seed },
    };
    let split = match options.split {
        SplitChoice::None => Split::None,
        SplitChoice::Cold => Split::Cold,
        // Resolved by then.
        SplitChoice::Warm | SplitChoice::ByProfile => Split::Warm,
        SplitChoice::All => Split::All,
        SplitChoice::Random => Split::Random { seed },
    };
    let order = order_blocks(&graph, block_order);
    let parts = split_blocks(&graph, split);
    // Without counts of its blocks all of a hot function is alike.
    let cost = |&block: &BlockId| match counts.blocks.get(block.index()) {
        Some(&count) if counts.inside_known => line_cost(count, heat.total),
        _ => 1,
    };
    let fragment = |part: Part| {
        let is_in = |block: &BlockId| parts.get(block.index()).copied().unwrap_or(Part::Hot) == part;
        let blocks: Vec<BlockId> = order.iter().map(|&block| BlockId(block)).filter(is_in).collect();
        let has_costs = heat.is_hot() && part != Part::Cold;
        let line_costs = if has_costs { blocks.iter().map(cost).collect() } else { Vec::new() };
        FragmentPlan { blocks, align: if part == Part::Hot { align } else { 1 }, part, line_costs }
    };
    let hot = fragment(Part::Hot);
    let mut hot_size = 0;
    let mut hot_offsets = Vec::with_capacity(hot.blocks.len());
    for &block in &hot.blocks {
        hot_offsets.push((cfg.blocks[block].start, hot_size));
        hot_size += sizes.get(block.index()).copied().unwrap_or(0);
    }
    hot_offsets.sort_unstable();
    let others = [Part::Warm, Part::Cold].into_iter().map(fragment).filter(|fragment| !fragment.blocks.is_empty());
    let fragments = std::iter::once(hot).chain(others).collect();
    // Per block: counts of the taken and of the fallthrough side.
    let mut sides = vec![(0u64, 0u64); cfg.blocks.len()];
    for (edge, &count) in cfg.edges.iter().zip(&counts.edges) {
        let Some(side) = sides.get_mut(edge.from.index()) else { continue };
        match edge.kind {
            EdgeKind::Taken => side.0 = side.0.saturating_add(count),
            EdgeKind::Fallthrough => side.1 = side.1.saturating_add(count),
            EdgeKind::Indirect => {}
        }
    }
    let prefer_fall = sides.iter().map(|&(taken, fall)| fall > taken).collect();
    (FunctionPlan::Relay { fragments, prefer_fall }, Laid { hot_size, hot_offsets, samples: heat.samples })
}
