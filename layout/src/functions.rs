//! The order of the functions of a program.

pub(crate) mod cdsort;
pub(crate) mod hfsort;

#[cfg(test)]
mod tests;

use crate::random::SplitMix64;

/// What a function order needs to know of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionNode {
    /// Bytes of the hot fragment; an estimate is good enough. 0 counts as 1.
    pub size: u32,
    /// How much time is spent here: the sum of its block counts, or its entry count.
    pub samples: u64,
    /// How often it was called.
    pub entry_count: u64,
}

/// Calls from one function to another, at one place or summed over several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallArc {
    /// Index of the caller.
    pub caller: u32,
    /// Index of the callee.
    pub callee: u32,
    /// How often, as the profile claims.
    pub count: u64,
    /// Where the call is in the caller's hot fragment, in bytes from its start.
    pub caller_offset: u32,
}

/// How to order the functions of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionOrder<'a> {
    /// Cache-directed sort; see [`cdsort_with_params`](crate::cdsort_with_params).
    CdSort,
    /// Call-chain clustering; see [`hfsort_with_params`](crate::hfsort_with_params).
    HfSort,
    /// As in the input.
    Keep,
    /// Backwards.
    Reverse,
    /// Shuffled.
    Random {
        /// Which of the random orders; see the splitmix64 generator of this crate.
        seed: u64,
    },
    /// These first, then the others as in the input. Indexes that do not exist, or come again, are
    /// ignored.
    List(&'a [u32]),
}

/// Orders the functions of a program: a permutation of `0..nodes.len()`.
///
/// [`FunctionOrder::CdSort`] and [`FunctionOrder::HfSort`] put what was executed first (samples,
/// entry count or a counted call at either end), and the rest behind it as in the input. Arcs that
/// name a function which does not exist are ignored.
pub fn order_functions(
    nodes: &[FunctionNode],
    calls: &[CallArc],
    order: FunctionOrder<'_>,
) -> Vec<u32> {
    let mut kept: Vec<u32> = (0..).take(nodes.len()).collect();
    match order {
        FunctionOrder::Keep => {}
        FunctionOrder::Reverse => kept.reverse(),
        FunctionOrder::Random { seed } => SplitMix64::new(seed).shuffle(&mut kept),
        FunctionOrder::List(first) => return completed(first.iter().copied(), nodes.len()),
        FunctionOrder::CdSort => {
            return cdsort::cdsort_with_params(nodes, calls, &cdsort::CdSortParams::default());
        }
        FunctionOrder::HfSort => {
            return hfsort::hfsort_with_params(nodes, calls, &hfsort::HfSortParams::default());
        }
    }
    kept
}

/// `first` without repetitions and unknown functions, then all others in the order of the input.
fn completed(first: impl IntoIterator<Item = u32>, functions: usize) -> Vec<u32> {
    let mut placed = vec![false; functions];
    let mut order = Vec::with_capacity(functions);
    for function in first.into_iter().chain((0..).take(functions)) {
        if let Some(placed) = placed.get_mut(function as usize)
            && !*placed
        {
            *placed = true;
            order.push(function);
        }
    }
    order
}

/// Calls from one function to another one, both of which exist.
fn valid_calls<'a>(
    nodes: &[FunctionNode],
    calls: &'a [CallArc],
) -> impl Iterator<Item = &'a CallArc> {
    let functions = nodes.len();
    let exists = move |function: u32| (function as usize) < functions;
    calls.iter().filter(move |call| {
        exists(call.caller) && exists(call.callee) && call.caller != call.callee && call.count > 0
    })
}

/// How much each function was executed, at the least: the largest of its samples, its entry count,
/// the calls to it and the calls from it. 0 means: never.
fn executions(nodes: &[FunctionNode], calls: &[CallArc]) -> Vec<u64> {
    let mut called = vec![0_u64; nodes.len()];
    let mut calling = vec![0_u64; nodes.len()];
    for call in valid_calls(nodes, calls) {
        let (caller, callee) = (call.caller as usize, call.callee as usize);
        calling[caller] = calling[caller].saturating_add(call.count);
        called[callee] = called[callee].saturating_add(call.count);
    }
    (nodes.iter().zip(called).zip(calling))
        .map(|((node, called), calling)| {
            (node.samples.max(node.entry_count))
                .max(called)
                .max(calling)
        })
        .collect()
}
