//! Which functions are executed, and who calls whom: without graphs.

use postlink_base::IndexVec;
use postlink_cfg::{FunctionId, Program};
use rayon::prelude::*;

use crate::code::entered_at;
use crate::data::{Branch, Profile, ProfileKind};

/// How much of a profile is about one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionWeight {
    /// Sum of the counts of records that start or end in it.
    pub samples: u64,
    /// Sum of the counts of records that lead from elsewhere to its start.
    pub entries: u64,
}

/// Calls from one place of one function to another function, or to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileCall {
    /// The function that calls or jumps.
    pub caller: FunctionId,
    /// The function that is entered at its start.
    pub callee: FunctionId,
    /// How often.
    pub count: u64,
    /// Address of the instruction.
    pub from: u64,
}

/// The weight of every function, zero for those without counts. One pass over the profile.
pub fn function_weights(profile: &Profile, program: &Program<'_>) -> IndexVec<FunctionId, FunctionWeight> {
    let mut weights: IndexVec<FunctionId, FunctionWeight> =
        program.functions.iter().map(|_| FunctionWeight::default()).collect();
    match profile.kind {
        ProfileKind::Branches => {
            let mut finder = Finder::new(program);
            for branch in &profile.branches {
                let from = finder.find(branch.from);
                let to = if from.is_some_and(|id| program.functions[id].contains(branch.to)) {
                    None
                } else {
                    program.function_at(branch.to)
                };
                if let Some(id) = from {
                    weights[id].samples = weights[id].samples.saturating_add(branch.count);
                }
                if let Some(id) = to {
                    let weight = &mut weights[id];
                    weight.samples = weight.samples.saturating_add(branch.count);
                    if program.functions[id].start == branch.to {
                        weight.entries = weight.entries.saturating_add(branch.count);
                    }
                }
            }
        }
        ProfileKind::Samples => {
            let mut finder = Finder::new(program);
            for sample in &profile.samples {
                if let Some(id) = finder.find(sample.addr) {
                    weights[id].samples = weights[id].samples.saturating_add(sample.count);
                }
            }
        }
    }
    weights
}

/// Calls and tail calls between functions, also through the procedure linkage table; sorted by
/// `(caller, callee, from)`, one per place and callee.
///
/// A record that leads to a function's start from inside of the same function is a call only if no
/// loop of the function starts there: the instruction decides.
pub fn call_arcs(profile: &Profile, program: &Program<'_>) -> Vec<ProfileCall> {
    use crate::code::Code as _;
    use postlink_isa::Flow;

    let call = |branch: &Branch| {
        let callee = entered_at(program, branch.to)?;
        let caller = program.function_at(branch.from)?;
        let is_call =
            caller != callee || matches!(program.flow(branch.from), Some(Flow::Call { .. } | Flow::IndirectCall));
        is_call.then_some(ProfileCall { caller, callee, count: branch.count, from: branch.from })
    };
    let mut calls: Vec<ProfileCall> =
        profile.branches.par_iter().chain(profile.plt_calls.par_iter()).filter_map(call).collect();
    calls.par_sort_unstable_by_key(|call| (call.caller, call.callee, call.from));
    calls
}

/// Finds the functions of addresses that come in ascending order, mostly in the function before.
struct Finder<'p, 'd> {
    program: &'p Program<'d>,
    last: Option<FunctionId>,
}

impl<'p, 'd> Finder<'p, 'd> {
    const fn new(program: &'p Program<'d>) -> Self {
        Self { program, last: None }
    }

    fn find(&mut self, addr: u64) -> Option<FunctionId> {
        if let Some(last) = self.last
            && self.program.functions[last].contains(addr)
        {
            return Some(last);
        }
        self.last = self.program.function_at(addr);
        self.last
    }
}
