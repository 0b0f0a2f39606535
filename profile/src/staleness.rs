//! Whether a profile was taken on this very program.

use postlink_cfg::{Class, Program, build_cfg};
use rayon::prelude::*;

use crate::attach::{AttachStats, attach};
use crate::data::Profile;
use crate::weights::counted_functions;

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

/// The share of a profile's counts that fits the program. Builds the graphs of all counted functions;
/// where they are built anyway, [`ShareOfCounts::of`] gives the same from what [`attach`] found.
pub fn staleness(profile: &Profile, program: &Program<'_>) -> ShareOfCounts {
    let attached = counted_functions(profile, program)
        .par_iter()
        // Where an indirect jump of other code leads is not known, so its records prove nothing.
        .filter(|&&id| program.functions[id].class == Class::Free)
        .map(|&id| attach(profile, program, &build_cfg(program, id)).1)
        .reduce(AttachStats::default, AttachStats::add);
    ShareOfCounts::of(profile, attached)
}
