//! From a program and its counts to a plan.

use postlink_base::{Id, IndexVec};
use postlink_cfg::{
    BlockId, Class, DataRef, EdgeKind, FixupKind, FunctionCfg, FunctionId, Graphs, Program, Terminator,
};
use rayon::prelude::*;
use tracing::trace_span;

use crate::{
    BlockEdge, BlockGraph, BlockOrder, CallArc, FragmentPlan, FunctionNode, FunctionOrder, FunctionPlan, Mode,
    Placed, Plan, Split, line_cost, order_blocks, order_functions, split_blocks,
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

/// One function's share of the plan, before fragments are ordered.
struct Laid {
    plan: FunctionPlan,
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
}

impl Laid {
    const fn whole(align: u32, size: u32, heat: Heat) -> Self {
        let plan = FunctionPlan::Whole { align, hot: heat.is_hot() };
        Self { plan, hot_size: size, hot_offsets: Vec::new(), samples: heat.samples }
    }

    /// Where the instruction at `old` stands in the hot fragment; its end for one in another fragment.
    fn new_offset(&self, old: u32) -> u32 {
        let Some(index) = self.hot_offsets.partition_point(|offset| offset.0 <= old).checked_sub(1) else {
            return old.min(self.hot_size);
        };
        self.hot_offsets.get(index).map_or(0, |&(start, new)| new + (old - start)).min(self.hot_size)
    }
}

/// Plans the layout of the whole program. `may_move` says which functions the user allows to move.
pub fn plan(
    program: &Program<'_>,
    graphs: &Graphs,
    weights: Option<&Weights<'_>>,
    options: &PlanOptions,
    may_move: &IndexVec<FunctionId, bool>,
) -> Plan {
    let span = trace_span!("choose").entered();
    let taken = address_taken(program);
    let samples_of = |id: FunctionId| weights.and_then(|weights| weights.functions.get(id)).map_or(0, |weight| weight.0);
    let total = weights.map_or(0, |weights| weights.functions.iter().fold(0u64, |sum, weight| sum.saturating_add(weight.0)));
    let stays = staying(program, options, may_move, &samples_of);
    drop(span);
    let span = trace_span!("blocks").entered();
    let laid: Vec<Laid> = (0..program.functions.len())
        .into_par_iter()
        .map(|index| {
            let id = FunctionId::from_index(index);
            if stays.get(index).copied().unwrap_or(true) {
                return Laid { plan: FunctionPlan::Stay, hot_size: 0, hot_offsets: Vec::new(), samples: 0 };
            }
            let align = whole_align(program, id, taken.get(index).copied().unwrap_or(true));
            lay_function((program, graphs), weights, options, id, align, Heat { samples: samples_of(id), total })
        })
        .collect();
    drop(span);
    let _span = trace_span!("functions").entered();
    let order = order(program, weights, options, &laid);
    let functions = laid.into_iter().map(|laid| laid.plan).collect();
    Plan { mode: options.mode, functions, order }
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

/// Functions whose address is a value somewhere: their alignment may be relied upon (the low bits of
/// pointers to members, tagged pointers).
fn address_taken(program: &Program<'_>) -> Vec<bool> {
    let mut taken = vec![false; program.functions.len()];
    let mut mark = |target: u64| {
        if let Some(id) = program.function_at(target)
            && let Some(flag) = taken.get_mut(id.index())
        {
            *flag = true;
        }
    };
    for fixups in program.fixups.iter() {
        for fixup in fixups.iter().filter(|fixup| !matches!(fixup.kind, FixupKind::Call | FixupKind::Branch32 | FixupKind::Branch8 | FixupKind::Memory)) {
            mark(fixup.target);
        }
    }
    program.data_refs.iter().map(|data_ref: &DataRef| data_ref.target).for_each(&mut mark);
    if let Some(table) = program.image.dynsym() {
        table.iter().filter(|symbol| symbol.is_defined()).for_each(|symbol| mark(symbol.value));
    }
    mark(program.image.header().entry);
    taken
}

/// Alignment of a function: its old one where its address is a value, up to the alignment of its
/// section (which is the largest that any function in it asked for).
fn whole_align(program: &Program<'_>, id: FunctionId, address_taken: bool) -> u32 {
    if !address_taken {
        return 1;
    }
    let function = &program.functions[id];
    let section = program.image.sections().get(function.section as usize);
    let most = section.map_or(16, |section| section.align.clamp(1, 4096));
    1 << function.start.trailing_zeros().min(most.trailing_zeros())
}

fn lay_function(
    (program, graphs): (&Program<'_>, &Graphs),
    weights: Option<&Weights<'_>>,
    options: &PlanOptions,
    id: FunctionId,
    align: u32,
    heat: Heat,
) -> Laid {
    let function = &program.functions[id];
    let size = u32::try_from(function.size()).unwrap_or(u32::MAX);
    let stress = options.block_order == BlockOrderChoice::Reverse
        || options.block_order == BlockOrderChoice::Random
        || matches!(options.split, SplitChoice::All | SplitChoice::Random);
    let profiled = heat.is_hot()
        && (options.block_order == BlockOrderChoice::ExtTsp || options.split == SplitChoice::Cold);
    let wanted = (stress || profiled) && !options.whole_only;
    let relay = function.class == Class::Free && (wanted || function.traits.must_relay);
    if !relay {
        return Laid::whole(align, size, heat);
    }
    let cfg = graphs.get(program, id);
    let counts = match weights {
        Some(weights) if heat.is_hot() => (weights.counts)(&cfg),
        _ => Counts {
            blocks: vec![0; cfg.blocks.len()],
            edges: vec![0; cfg.edges.len()],
            inside_known: false,
        },
    };
    let blind = !counts.inside_known && !stress;
    if blind && !function.traits.must_relay {
        return Laid::whole(align, size, heat);
    }
    if options.whole_only || blind {
        let kept = PlanOptions { block_order: BlockOrderChoice::Keep, split: SplitChoice::None, ..options.clone() };
        return lay_blocks(&cfg, &counts, &kept, align, heat);
    }
    lay_blocks(&cfg, &counts, options, align, heat)
}

fn lay_blocks(cfg: &FunctionCfg, counts: &Counts, options: &PlanOptions, align: u32, heat: Heat) -> Laid {
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
        SplitChoice::All => Split::All,
        SplitChoice::Random => Split::Random { seed },
    };
    let order = order_blocks(&graph, block_order);
    let cold = split_blocks(&graph, split);
    let is_cold = |block: &BlockId| cold.get(block.index()).copied().unwrap_or(false);
    let blocks: Vec<BlockId> = order.into_iter().map(BlockId).collect();
    let (cold_blocks, hot_blocks): (Vec<BlockId>, Vec<BlockId>) = blocks.into_iter().partition(is_cold);
    let mut hot_size = 0;
    let mut hot_offsets = Vec::with_capacity(hot_blocks.len());
    for &block in &hot_blocks {
        hot_offsets.push((cfg.blocks[block].start, hot_size));
        hot_size += sizes.get(block.index()).copied().unwrap_or(0);
    }
    hot_offsets.sort_unstable();
    // Without counts of its blocks all of a hot function is alike.
    let cost = |&block: &BlockId| match counts.blocks.get(block.index()) {
        Some(&count) if counts.inside_known => line_cost(count, heat.total),
        _ => 1,
    };
    let line_costs = if heat.is_hot() { hot_blocks.iter().map(cost).collect() } else { Vec::new() };
    let mut fragments = vec![FragmentPlan { blocks: hot_blocks, align, line_costs }];
    if !cold_blocks.is_empty() {
        fragments.push(FragmentPlan { blocks: cold_blocks, align: 1, line_costs: Vec::new() });
    }
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
    Laid { plan: FunctionPlan::Relay { fragments, prefer_fall }, hot_size, hot_offsets, samples: heat.samples }
}

/// The order of placement: first fragments in function order, then the others in the same order.
fn order(
    program: &Program<'_>,
    weights: Option<&Weights<'_>>,
    options: &PlanOptions,
    laid: &[Laid],
) -> Vec<Placed> {
    let moving: Vec<u32> = (0..laid.len())
        .filter(|&index| laid.get(index).is_some_and(|laid| laid.plan != FunctionPlan::Stay))
        .filter_map(|index| u32::try_from(index).ok())
        .collect();
    let mut node_of = vec![u32::MAX; laid.len()];
    for (node, &index) in moving.iter().enumerate() {
        if let Some(slot) = node_of.get_mut(index as usize) {
            *slot = u32::try_from(node).unwrap_or(u32::MAX);
        }
    }
    // How hot a function is for its callers, not how long it runs: a function with a long loop inside would attract
    // others that its loop never meets. A profile of samples knows nothing else, though.
    let knows_entries = weights.is_some_and(|weights| weights.functions.iter().any(|weight| weight.1 > 0));
    let nodes: Vec<FunctionNode> = moving
        .iter()
        .filter_map(|&index| {
            let laid = laid.get(index as usize)?;
            let entry_count = weights
                .and_then(|weights| weights.functions.get(FunctionId(index)))
                .map_or(0, |weight| weight.1);
            let samples = if knows_entries { entry_count.max(laid.samples.min(1)) } else { laid.samples };
            Some(FunctionNode { size: laid.hot_size, samples, entry_count })
        })
        .collect();
    let node = |id: FunctionId| node_of.get(id.index()).copied().filter(|&node| node != u32::MAX);
    let calls: Vec<CallArc> = weights
        .map_or(&[][..], |weights| weights.calls)
        .iter()
        .filter_map(|call| {
            let function = program.functions.get(call.caller)?;
            let caller_offset = u32::try_from(call.from.saturating_sub(function.start)).unwrap_or(u32::MAX);
            let laid = laid.get(call.caller.index())?;
            Some(CallArc {
                caller: node(call.caller)?,
                callee: node(call.callee)?,
                count: call.count,
                caller_offset: laid.new_offset(caller_offset),
            })
        })
        .collect();
    let list: Vec<u32> = match &options.function_order {
        FunctionOrderChoice::List(list) => list.iter().filter_map(|&id| node(id)).collect(),
        _ => Vec::new(),
    };
    let choice = match &options.function_order {
        FunctionOrderChoice::CdSort => FunctionOrder::CdSort,
        FunctionOrderChoice::HfSort => FunctionOrder::HfSort,
        FunctionOrderChoice::Keep => FunctionOrder::Keep,
        FunctionOrderChoice::Reverse => FunctionOrder::Reverse,
        FunctionOrderChoice::Random => FunctionOrder::Random { seed: options.seed },
        FunctionOrderChoice::List(_) => FunctionOrder::List(&list),
    };
    let functions: Vec<FunctionId> = order_functions(&nodes, &calls, choice)
        .into_iter()
        .filter_map(|node| moving.get(node as usize).map(|&index| FunctionId(index)))
        .collect();
    let is_hot = |id: FunctionId| laid.get(id.index()).is_some_and(|laid| laid.samples > 0);
    let fragments_of = |id: FunctionId| match laid.get(id.index()).map(|laid| &laid.plan) {
        Some(FunctionPlan::Relay { fragments, .. }) => u32::try_from(fragments.len()).unwrap_or(1),
        _ => 1,
    };
    let rest = |id: FunctionId| (1..fragments_of(id)).map(move |fragment| Placed { function: id, fragment });
    let (hot, cold): (Vec<FunctionId>, Vec<FunctionId>) = functions.into_iter().partition(|&id| is_hot(id));
    let mut order: Vec<Placed> = hot.iter().map(|&function| Placed { function, fragment: 0 }).collect();
    order.extend(hot.iter().flat_map(|&id| rest(id)));
    order.extend(cold.iter().map(|&function| Placed { function, fragment: 0 }));
    order.extend(cold.iter().flat_map(|&id| rest(id)));
    order
}
