//! From symbols and offsets to addresses in functions.

use postlink_cfg::Program;
use postlink_isa::Flow;
use rayon::prelude::*;

use crate::code::Code as _;
use crate::data::{Branch, Profile, ProfileKind, ReadStats, Records, Sample};
use crate::fdata::{End, Record, Scanned};

/// What is asked about a program.
pub(crate) trait Functions: Sync {
    /// The code that a symbol's offsets may lead to, as `start..end`: its function; empty if there is none.
    fn bounds(&self, symbol: u64) -> (u64, u64);
    /// Where a record of a branch between two functions leads in truth, if it cannot lead to `to`.
    fn correct(&self, from: u64, to: u64) -> Option<u64>;
}

impl Functions for Program<'_> {
    fn bounds(&self, symbol: u64) -> (u64, u64) {
        if let Some(id) = self.function_at(symbol) {
            let function = &self.functions[id];
            return (function.start, function.end);
        }
        let ranges = self.image.exec_ranges();
        let range = ranges.iter().find(|range| (range.0..range.1).contains(&symbol));
        range.map_or((0, 0), |&(start, end, _)| (start, end))
    }

    fn correct(&self, from: u64, to: u64) -> Option<u64> {
        let entered = self.function_at(to)?;
        let function = &self.functions[entered];
        if function.start != to || function.contains(from) {
            return None;
        }
        let target = match self.flow(from)? {
            Flow::Jump { target } | Flow::Branch { target, .. } => target,
            _ => return None,
        };
        (target != to && function.contains(target)).then_some(target)
    }
}

impl Scanned {
    /// The profile of `program`: that of the image in whose symbols the names were looked up.
    pub fn bind(self, program: &Program<'_>) -> Profile {
        self.bind_to(program)
    }

    pub(crate) fn bind_to(self, functions: &impl Functions) -> Profile {
        let kind = self.kind;
        let parts: Vec<Part<'_, _>> = self
            .parts
            .into_par_iter()
            .map(|records| {
                let mut part = Part::new(functions);
                for record in &records {
                    match kind {
                        ProfileKind::Branches => part.branch(record),
                        ProfileKind::Samples => part.sample(record),
                    }
                }
                part
            })
            .collect();
        let mut stats = self.stats;
        let mut records = Records::default();
        for part in parts {
            stats = stats.add(part.stats);
            records.append(part.records);
        }
        Profile::new(records, kind, self.events, self.translated, stats)
    }
}

/// One end of a record, in functions.
#[derive(Clone, Copy)]
enum Place {
    At {
        addr: u64,
        /// Where its function starts.
        function: u64,
    },
    Outside,
    Plt(u64),
    Unknown,
    Ambiguous,
    OutOfRange,
}

/// What one thread binds.
struct Part<'p, F> {
    functions: &'p F,
    records: Records,
    stats: ReadStats,
    /// The symbols whose bounds were asked for last, as source and target.
    last: [(u64, (u64, u64)); 2],
}

impl<'p, F: Functions> Part<'p, F> {
    fn new(functions: &'p F) -> Self {
        // No function is there.
        let none = (u64::MAX, (0, 0));
        Self { functions, records: Records::default(), stats: ReadStats::default(), last: [none, none] }
    }

    /// Places one end; `side` is 0 for the source and 1 for the target.
    fn place(&mut self, end: End, side: usize) -> Place {
        match end {
            End::Symbol { symbol, offset } => {
                let known = self.last.iter().find(|known| known.0 == symbol).copied();
                let known = known.unwrap_or_else(|| (symbol, self.functions.bounds(symbol)));
                self.last[side] = known;
                let (function, end) = known.1;
                match symbol.checked_add(offset) {
                    Some(addr) if (function..end).contains(&addr) => Place::At { addr, function },
                    _ => Place::OutOfRange,
                }
            }
            End::Outside => Place::Outside,
            End::Plt(callee) => Place::Plt(callee),
            End::Unknown => Place::Unknown,
            End::Ambiguous => Place::Ambiguous,
        }
    }

    fn sample(&mut self, record: &Record) {
        match self.place(record.from, 0) {
            Place::At { addr, .. } => self.records.samples.push(Sample { addr, count: record.count }),
            other => self.unresolved(other, record.count),
        }
    }

    fn branch(&mut self, record: &Record) {
        let &Record { count, mispredicts, .. } = record;
        let (from, to) = (self.place(record.from, 0), self.place(record.to, 1));
        for end in [from, to] {
            if matches!(end, Place::Unknown | Place::Ambiguous | Place::OutOfRange) {
                self.unresolved(end, count);
                return;
            }
        }
        // Code in the linkage table is not rearranged: a record from there comes from outside.
        let from_addr = if let Place::At { addr, .. } = from { addr } else { 0 };
        let mut to_addr = if let Place::At { addr, .. } = to { addr } else { 0 };
        if from_addr == 0 && to_addr == 0 {
            self.stats.external += 1;
            return;
        }
        if let (Place::At { function: left, .. }, Place::At { function: entered, .. }) = (from, to)
            && left != entered
            && let Some(target) = self.functions.correct(from_addr, to_addr)
        {
            to_addr = target;
            self.stats.corrected += 1;
        }
        if let Place::Plt(callee) = to
            && callee != 0
        {
            self.records.plt_calls.push(Branch { from: from_addr, to: callee, count, mispredicts });
        }
        self.records.branches.push(Branch { from: from_addr, to: to_addr, count, mispredicts });
    }

    fn unresolved(&mut self, end: Place, count: u64) {
        match end {
            Place::Unknown => self.stats.unknown_names += 1,
            Place::Ambiguous => self.stats.ambiguous_names += 1,
            Place::OutOfRange => self.stats.out_of_range += 1,
            Place::At { .. } | Place::Outside | Place::Plt(_) => {
                self.stats.external += 1;
                return;
            }
        }
        self.stats.unresolved_count = self.stats.unresolved_count.saturating_add(count);
    }
}
