//! A profile on the whole program, and whether it was taken on this very program.

use postlink_base::IndexVec;
use postlink_cfg::{Class, FunctionCfg, FunctionId, GraphBuilder, Graphs, Program};
use rayon::prelude::*;

use crate::attach::{AttachStats, FunctionCounts, attach_to};
use crate::data::{Near, Profile};
use crate::weights::{FunctionWeight, function_weights};

/// A share of the counts of a profile, as its two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareOfCounts {
    /// Counts of records that the program's code explains.
    pub matched: u64,
    /// Counts of all records with an end in the program.
    pub total: u64,
}

/// Below this share a profile is refused, in percent.
pub const STALE_BELOW_PERCENT: u64 = 50;

impl ShareOfCounts {
    /// Matched counts in percent of all, rounded down; 100 if there are none.
    pub fn percent(&self) -> u64 {
        match self.total {
            0 => 100,
            total => u64::try_from(u128::from(self.matched) * 100 / u128::from(total)).unwrap_or(100),
        }
    }

    /// Whether too little fits for the rest to be trusted: `POSTLINK_PROFILE_STALE`.
    pub fn is_stale(&self) -> bool {
        self.percent() < STALE_BELOW_PERCENT
    }

    /// The share of a profile whose functions' figures add up to `attached`. Records whose names or
    /// offsets this program does not have count as not matched.
    pub const fn of(profile: &Profile, attached: AttachStats) -> Self {
        let share = attached.share();
        Self { matched: share.matched, total: share.total.saturating_add(profile.stats.unresolved_count) }
    }
}

/// A profile on the graphs of the program.
#[derive(Debug, Default)]
pub struct Attached {
    /// What the profile has of every function.
    pub weights: IndexVec<FunctionId, FunctionWeight>,
    /// The graphs of all functions in `counts`.
    pub graphs: Graphs,
    /// Functions that have counts and may be rearranged, in id order.
    pub counts: Vec<(FunctionId, FunctionCounts)>,
    /// How much of the profile fits the program. Where an indirect jump of code that is not understood leads
    /// is not known, so records of such functions prove nothing and are left out.
    pub share: ShareOfCounts,
}

impl Attached {
    /// The counts of a function, `None` if the profile has none or it may not be rearranged.
    pub fn counts_of(&self, id: FunctionId) -> Option<&FunctionCounts> {
        let index = self.counts.binary_search_by_key(&id, |entry| entry.0).ok()?;
        self.counts.get(index).map(|entry| &entry.1)
    }
}

/// Builds the graphs of all counted functions and attaches the profile to each.
pub fn attach_all(profile: &Profile, program: &Program<'_>) -> Attached {
    /// Functions that one thread takes at a time.
    const BATCH: usize = 128;
    let weights = function_weights(profile, program);
    let counted = weights.iter_enumerated().filter(|(_, weight)| weight.samples > 0).map(|(id, _)| id);
    let functions: Vec<FunctionId> = counted.filter(|&id| program.functions[id].class == Class::Free).collect();
    let attached: Vec<(FunctionCfg, FunctionCounts, AttachStats)> = functions
        .par_iter()
        .with_max_len(BATCH)
        .map_init(
            || (GraphBuilder::new(program), Near::default()),
            |(builder, near), &id| {
                let cfg = builder.build(id);
                let (counts, stats) = attach_to(profile, program, &cfg, near);
                (cfg, counts, stats)
            },
        )
        .collect();
    let stats = attached.iter().fold(AttachStats::default(), |sum, one| sum.add(one.2));
    let mut all = Attached { weights, share: ShareOfCounts::of(profile, stats), ..Attached::default() };
    for (cfg, counts, _) in attached {
        all.counts.push((cfg.function, counts));
        all.graphs.insert(cfg);
    }
    all
}
