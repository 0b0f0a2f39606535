//! Counts of one workload, addresses resolved in one file.

use postlink_base::Digest;
use rayon::prelude::*;

use crate::ProfileError;

/// How often control went from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Branch {
    /// Address of the instruction that control left: a branch, a call, a return, or the last one of a
    /// block that falls through. 0: outside of the file.
    pub from: u64,
    /// Address that control reached. 0: outside of the file.
    pub to: u64,
    /// How often.
    pub count: u64,
    /// How often the processor had predicted otherwise.
    pub mispredicts: u64,
}

/// How often the program was seen at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The address.
    pub addr: u64,
    /// How often.
    pub count: u64,
}

/// What a profile counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    /// Branches, by hardware records or instrumentation.
    Branches,
    /// Samples of the instruction pointer.
    Samples,
}

impl ProfileKind {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Samples => "samples",
        }
    }
}

/// What was found while reading. `*_count` are sums of counts, the others numbers of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Lines of the file.
    pub lines: u64,
    /// Branch and sample records among them.
    pub records: u64,
    /// Records of memory accesses, which are not used.
    pub memory_records: u64,
    /// Records that name a symbol this file does not have.
    pub unknown_names: u64,
    /// Records that name one of several local symbols without saying which.
    pub ambiguous_names: u64,
    /// Records with an offset past the end of the function that they name.
    pub out_of_range: u64,
    /// Sum of the counts of the three kinds of records above, which are not used.
    pub unresolved_count: u64,
    /// Records with neither end in this file.
    pub external: u64,
    /// Records of a direct jump to another function's inside that name that function's start instead
    /// (llvm-bolt 19's instrumentation writes them); their target was put right.
    pub corrected: u64,
}

impl ReadStats {
    pub(crate) const fn add(self, other: Self) -> Self {
        Self {
            lines: self.lines.saturating_add(other.lines),
            records: self.records.saturating_add(other.records),
            memory_records: self.memory_records.saturating_add(other.memory_records),
            unknown_names: self.unknown_names.saturating_add(other.unknown_names),
            ambiguous_names: self.ambiguous_names.saturating_add(other.ambiguous_names),
            out_of_range: self.out_of_range.saturating_add(other.out_of_range),
            unresolved_count: self.unresolved_count.saturating_add(other.unresolved_count),
            external: self.external.saturating_add(other.external),
            corrected: self.corrected.saturating_add(other.corrected),
        }
    }
}

/// Counts of one workload, or of several that were merged.
///
/// # Invariants
/// 1. `branches` is sorted by `(from, to)` without duplicates; no record has both 0.
/// 2. `plt_calls` likewise; `from` is a call or jump through the procedure linkage table, `to` the
///    function in this file that it reaches. Each of them is in `branches` too, with `to` 0.
/// 3. `samples` is sorted by address without duplicates.
/// 4. `by_to` holds target and index of every branch with `to` other than 0, sorted by `(to, from)`.
/// 5. `digest` depends on `kind`, `branches`, `plt_calls` and `samples` alone, so neither on the order
///    of lines nor on how records were spread over files.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Branch records.
    pub branches: Vec<Branch>,
    /// Calls through the procedure linkage table to functions of this file.
    pub plt_calls: Vec<Branch>,
    /// Samples.
    pub samples: Vec<Sample>,
    /// What is counted.
    pub kind: ProfileKind,
    /// Names of the sampled events, if the file tells, sorted.
    pub events: Vec<String>,
    /// Whether it was taken on an optimized program and translated back: a branch record's source may
    /// then be any instruction of its block.
    pub translated: bool,
    /// Digest of the content.
    pub digest: Digest,
    /// What was found while reading.
    pub stats: ReadStats,
    pub(crate) by_to: Vec<(u64, u32)>,
}

/// A profile whose records are in any order, with duplicates.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) branches: Vec<Branch>,
    pub(crate) plt_calls: Vec<Branch>,
    pub(crate) samples: Vec<Sample>,
}

impl Records {
    pub(crate) fn append(&mut self, mut other: Self) {
        self.branches.append(&mut other.branches);
        self.plt_calls.append(&mut other.plt_calls);
        self.samples.append(&mut other.samples);
    }
}

impl Profile {
    pub(crate) fn new(
        mut records: Records,
        kind: ProfileKind,
        mut events: Vec<String>,
        translated: bool,
        stats: ReadStats,
    ) -> Self {
        merge_branches(&mut records.branches);
        merge_branches(&mut records.plt_calls);
        let samples = &mut records.samples;
        samples.par_sort_unstable();
        samples.dedup_by(|next, kept| {
            let same = next.addr == kept.addr;
            if same {
                kept.count = kept.count.saturating_add(next.count);
            }
            same
        });
        events.sort_unstable();
        events.dedup();
        let Records { mut branches, mut plt_calls, mut samples } = records;
        // They stay until the output is proven.
        branches.shrink_to_fit();
        plt_calls.shrink_to_fit();
        samples.shrink_to_fit();
        let (by_to, digest) =
            rayon::join(|| by_target(&branches), || content_digest(kind, &branches, &plt_calls, &samples));
        Self { branches, plt_calls, samples, kind, events, translated, digest, stats, by_to }
    }

    /// Whether it counts nothing in this file.
    pub const fn is_empty(&self) -> bool {
        match self.kind {
            ProfileKind::Branches => self.branches.is_empty(),
            ProfileKind::Samples => self.samples.is_empty(),
        }
    }

    /// Refuses a profile that counts nothing in this file.
    ///
    /// # Errors
    /// [`ProfileError::Empty`].
    pub const fn require_records(&self) -> Result<(), ProfileError> {
        if self.is_empty() { Err(ProfileError::Empty) } else { Ok(()) }
    }

    /// Branches that leave from `start..end`, sorted by `(from, to)`.
    pub(crate) fn branches_from(&self, start: u64, end: u64, near: &mut Near) -> impl Iterator<Item = &Branch> {
        near.from = partition_near(&self.branches, near.from, |branch| branch.from < start);
        let rest = self.branches.get(near.from..).unwrap_or(&[]);
        rest.iter().take_while(move |branch| branch.from < end)
    }

    /// Branches that lead into `start..end`, sorted by `(to, from)`.
    pub(crate) fn branches_to(&self, start: u64, end: u64, near: &mut Near) -> impl Iterator<Item = Branch> {
        near.to = partition_near(&self.by_to, near.to, |&(to, _)| to < start);
        let rest = self.by_to.get(near.to..).unwrap_or(&[]);
        rest.iter().take_while(move |&&(to, _)| to < end).map(|&(_, index)| self.branches[index as usize])
    }

    /// Samples in `start..end`, sorted.
    pub(crate) fn samples_in(&self, start: u64, end: u64) -> &[Sample] {
        let first = self.samples.partition_point(|sample| sample.addr < start);
        let rest = self.samples.get(first..).unwrap_or(&[]);
        let count = rest.partition_point(|sample| sample.addr < end);
        rest.get(..count).unwrap_or(&[])
    }
}

/// Where the records of a function were found: those of the next one are near. Any other place costs time only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Near {
    from: usize,
    to: usize,
}

/// [`slice::partition_point`], in steps that grow from position `near` on.
fn partition_near<T>(list: &[T], near: usize, below: impl Fn(&T) -> bool) -> usize {
    let Some((before, rest)) = list.split_at_checked(near) else { return list.partition_point(below) };
    if before.last().is_some_and(|last| !below(last)) {
        return before.partition_point(below);
    }
    let (mut low, mut step) = (0, 1);
    while rest.get(low + step - 1).is_some_and(&below) {
        low += step;
        step *= 2;
    }
    let high = rest.len().min(low + step - 1);
    near + low + rest.get(low..high).unwrap_or(&[]).partition_point(below)
}

/// Adds profiles of the same file. Counts add up and saturate.
///
/// If any of them counts branches, the result counts branches: samples of the others are kept but not
/// used, because their unit is another one.
pub fn merge(mut profiles: Vec<Profile>) -> Profile {
    // Nothing to add: usual, and all of it is in order already.
    if profiles.len() == 1
        && let Some(only) = profiles.pop_if(|only| !only.is_empty())
    {
        return only;
    }
    let kind_of_records = |kind: ProfileKind| profiles.iter().any(|one| one.kind == kind && !one.is_empty());
    let kind = if kind_of_records(ProfileKind::Branches) || !kind_of_records(ProfileKind::Samples) {
        ProfileKind::Branches
    } else {
        ProfileKind::Samples
    };
    let mut records = Records::default();
    let mut events = Vec::new();
    let mut translated = false;
    let mut stats = ReadStats::default();
    for profile in profiles {
        stats = stats.add(profile.stats);
        events.extend(profile.events);
        translated |= profile.translated;
        records.append(Records { branches: profile.branches, plt_calls: profile.plt_calls, samples: profile.samples });
    }
    Profile::new(records, kind, events, translated, stats)
}

/// Targets in the file with the numbers of their branches, sorted.
fn by_target(branches: &[Branch]) -> Vec<(u64, u32)> {
    let mut by_to: Vec<(u64, u32)> = (0u32..)
        .zip(branches)
        .filter(|(_, branch)| branch.to != 0)
        .map(|(index, branch)| (branch.to, index))
        .collect();
    // Branches of one target are in the order of their sources already.
    by_to.par_sort_unstable();
    by_to.shrink_to_fit();
    by_to
}

fn merge_branches(branches: &mut Vec<Branch>) {
    branches.par_sort_unstable();
    branches.dedup_by(|next, kept| {
        let same = (next.from, next.to) == (kept.from, kept.to);
        if same {
            kept.count = kept.count.saturating_add(next.count);
            kept.mispredicts = kept.mispredicts.saturating_add(next.mispredicts);
        }
        same
    });
}

fn content_digest(kind: ProfileKind, branches: &[Branch], plt_calls: &[Branch], samples: &[Sample]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut put = |words: &[u64]| {
        for word in words {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        if buffer.len() >= 1 << 16 {
            hasher.update(&buffer);
            buffer.clear();
        }
    };
    put(&[match kind {
        ProfileKind::Branches => 0,
        ProfileKind::Samples => 1,
    }]);
    for list in [branches, plt_calls] {
        put(&[list.len() as u64]);
        list.iter().for_each(|branch| put(&[branch.from, branch.to, branch.count, branch.mispredicts]));
    }
    put(&[samples.len() as u64]);
    samples.iter().for_each(|sample| put(&[sample.addr, sample.count]));
    hasher.update(&buffer);
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_from_anywhere() {
        for len in 0..20u32 {
            let list: Vec<u32> = (0..len).collect();
            for (near, split) in (0..25).flat_map(|near| (0..=len).map(move |split| (near, split))) {
                assert_eq!(partition_near(&list, near, |&one| one < split), split as usize, "{len} {near} {split}");
            }
        }
    }
}
