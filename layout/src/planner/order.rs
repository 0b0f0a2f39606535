//! The order in which fragments are placed.

use postlink_base::{Id, IndexVec};
use postlink_cfg::{FunctionId, Program};

use super::{FunctionOrderChoice, Laid, PlanOptions, Weights};
use crate::{CallArc, FunctionNode, FunctionOrder, FunctionPlan, Part, Placed, order_functions};

/// The order of placement: first fragments in function order, then warm ones, then the others, in the same order each.
pub(super) fn order(
    program: &Program<'_>,
    weights: Option<&Weights<'_>>,
    options: &PlanOptions,
    (functions, laid): (&IndexVec<FunctionId, FunctionPlan>, &[Laid]),
) -> Vec<Placed> {
    let moving: Vec<u32> = (0..laid.len())
        .filter(|&index| functions.get(FunctionId::from_index(index)).is_some_and(FunctionPlan::is_placed))
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
        FunctionOrderChoice::List(list) => {
            let placed = |id: FunctionId| functions.get(id).and_then(FunctionPlan::folded).unwrap_or(id);
            list.iter().filter_map(|&id| node(placed(id))).collect()
        }
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
    let ordered: Vec<FunctionId> = order_functions(&nodes, &calls, choice)
        .into_iter()
        .filter_map(|node| moving.get(node as usize).map(|&index| FunctionId(index)))
        .collect();
    let is_hot = |id: FunctionId| laid.get(id.index()).is_some_and(|laid| laid.samples > 0);
    let others = |id: FunctionId, is_warm: bool| {
        let fragments = match functions.get(id) {
            Some(FunctionPlan::Relay { fragments, .. }) => fragments.as_slice(),
            _ => &[],
        };
        let wanted = fragments.iter().zip(0..).skip(1).filter(move |(fragment, _)| (fragment.part == Part::Warm) == is_warm);
        wanted.map(move |(_, fragment)| Placed { function: id, fragment })
    };
    let (hot, cold): (Vec<FunctionId>, Vec<FunctionId>) = ordered.into_iter().partition(|&id| is_hot(id));
    let mut order: Vec<Placed> = hot.iter().map(|&function| Placed { function, fragment: 0 }).collect();
    order.extend(hot.iter().flat_map(|&id| others(id, true)));
    order.extend(hot.iter().flat_map(|&id| others(id, false)));
    order.extend(cold.iter().map(|&function| Placed { function, fragment: 0 }));
    order.extend(cold.iter().flat_map(|&id| others(id, true).chain(others(id, false))));
    order
}
