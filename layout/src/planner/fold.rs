//! Which functions disappear because an equal one stands for them, and what the profile says then.

use postlink_base::{Id, IndexVec};
use postlink_cfg::{FoldClass, FunctionCfg, FunctionId, Graphs, Program, fold_classes};

use super::{Counts, WeightedCall, Weights};

/// Functions that are folded.
#[derive(Debug, Default)]
pub(super) struct Folds {
    /// By function: the one that stands for it. Empty if there is none at all.
    into: Vec<Option<FunctionId>>,
    /// In order of their representatives.
    classes: Vec<FoldClass>,
}

impl Folds {
    /// All that can be folded among the functions that move.
    pub(super) fn find(program: &Program<'_>, stays: &[bool], taken: &[bool]) -> Self {
        let moves: Vec<bool> = stays.iter().map(|stays| !stays).collect();
        let classes = fold_classes(program, &moves, taken);
        if classes.is_empty() {
            return Self::default();
        }
        let mut into = vec![None; program.functions.len()];
        for class in &classes {
            for other in &class.others {
                if let Some(slot) = into.get_mut(other.index()) {
                    *slot = Some(class.representative);
                }
            }
        }
        Self { into, classes }
    }

    /// The function that stands for `id`, if another one does.
    pub(super) fn representative(&self, id: FunctionId) -> Option<FunctionId> {
        self.into.get(id.index()).copied().flatten()
    }

    /// Those that `id` stands for.
    fn others(&self, id: FunctionId) -> &[FunctionId] {
        let at = self.classes.binary_search_by_key(&id, |class| class.representative).ok();
        at.and_then(|at| self.classes.get(at)).map_or(&[], |class| &class.others)
    }

    /// Samples, entries and calls with those of folded functions given to their representatives; `None` if there are none.
    pub(super) fn weights(&self, program: &Program<'_>, weights: &Weights<'_>) -> Option<FoldedWeights> {
        if self.classes.is_empty() {
            return None;
        }
        let mut functions: IndexVec<FunctionId, (u64, u64)> = weights.functions.iter().copied().collect();
        for class in &self.classes {
            for &other in &class.others {
                let (samples, entries) = std::mem::take(&mut functions[other]);
                let sum = &mut functions[class.representative];
                *sum = (sum.0.saturating_add(samples), sum.1.saturating_add(entries));
            }
        }
        let start = |id: FunctionId| program.functions.get(id).map_or(0, |function| function.start);
        let calls = weights.calls.iter().map(|call| {
            let caller = self.representative(call.caller).unwrap_or(call.caller);
            let callee = self.representative(call.callee).unwrap_or(call.callee);
            let from = call.from.wrapping_sub(start(call.caller)).wrapping_add(start(caller));
            WeightedCall { caller, callee, count: call.count, from }
        });
        Some(FoldedWeights { functions, calls: calls.collect() })
    }

    /// Counts of `cfg` and of all functions that it stands for, added up: equal bytes have equal graphs.
    pub(super) fn counts(&self, (program, graphs): (&Program<'_>, &Graphs), weights: &Weights<'_>, cfg: &FunctionCfg) -> Counts {
        let mut sum = (weights.counts)(cfg);
        for &other in self.others(cfg.function) {
            if weights.functions.get(other).is_none_or(|weight| weight.0 == 0) {
                continue;
            }
            let graph = graphs.get(program, other);
            let more = (weights.counts)(&graph);
            let is_same = (graph.blocks.len(), graph.edges.len()) == (cfg.blocks.len(), cfg.edges.len());
            if !is_same || sum.inside_known && !more.inside_known {
                continue;
            }
            if more.inside_known && !sum.inside_known {
                sum = more;
                continue;
            }
            let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to = to.saturating_add(*from));
            add(&mut sum.blocks, &more.blocks);
            add(&mut sum.edges, &more.edges);
        }
        sum
    }
}

/// What the profile says once functions are folded.
#[derive(Debug)]
pub(super) struct FoldedWeights {
    functions: IndexVec<FunctionId, (u64, u64)>,
    calls: Vec<WeightedCall>,
}

impl FoldedWeights {
    /// As weights; the counts of single functions are those of `weights`.
    pub(super) fn with<'a>(&'a self, weights: &Weights<'a>) -> Weights<'a> {
        Weights { functions: &self.functions, calls: &self.calls, counts: weights.counts }
    }
}
