//! Code that stayed where it was, and for which no instruction has to be decoded.
//!
//! A *stretch* is a function, or the space between two. It is *fixed* if none of its bytes moved and,
//! whatever instructions the processor finds in it, wherever they start, the new ones are the same and
//! each of their operands designates the mapped place:
//!
//! - Each byte is equal, but for fields that a static relocation names. The old field must hold what the
//!   relocation says (symbol, addend), the new one the mapped address.
//! - A PC-relative operand has four bytes, which stand behind `e8`, `e9`, `0f 8x` or `c7 f8`, or behind a ModRM
//!   byte with mode 0 and base 5, in front of which is an opcode that has one; and the place that it designates counts from the end of the instruction,
//!   0, 1, 2 or 4 bytes further on (Intel SDM volume 2, 2.2.1.6 and appendix A). At each such place in the stretch, whether
//!   it is in an instruction or not, these four bytes lead to a place that did not move; or they are a
//!   field as above; or they share bytes with one, which is then no other operand.
//! - Branches of one byte reach 128 bytes. The same holds for them where something that close moved.
//! - No absolute field keeps the address of what moved.
//! - A stretch between functions some byte of which differs counts as moved here: padding may be reused.
//! - What follows on it did not move either; where that is the space between two functions, it is fixed.
//!
//! So the walk need not enter it. What it leads to in code that moved are roots of the walk; a stretch
//! that leads to another place there is walked. So is every stretch for which one of the above is not so,
//! for whatever reason: nothing is a violation here.

mod judge;
mod places;
mod witness;

use rayon::prelude::*;

use crate::walk::Context;
use judge::Judge;
pub(crate) use places::Places;
pub(crate) use witness::Witnesses;

/// What was found without decoding.
#[derive(Default)]
pub(crate) struct Fixed {
    /// Fixed functions, neighbours joined, sorted.
    ranges: Vec<(u64, u64)>,
    /// Fields that were compared.
    pub(crate) operands: u64,
    /// Starts of tables of distances that code in them may take, with the instruction.
    pub(crate) taken: Vec<(u64, u64)>,
}

/// What one thread found out about neighbouring stretches.
struct Part {
    verdicts: Vec<(Stretch, bool)>,
    operands: u64,
    taken: Vec<(u64, u64)>,
}

/// A function, or what stands between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
    is_function: bool,
}

impl Fixed {
    /// Looks at all code that did not move.
    pub(crate) fn find(cx: &Context<'_, '_>) -> Self {
        let stretches = stretches(cx);
        // Padding may have given way to something else.
        let is_changed = |stretch: &&Stretch| !stretch.is_function && !is_same(cx, stretch);
        let changed: Vec<(u64, u64)> =
            stretches.par_iter().filter(is_changed).map(|stretch| (stretch.start, stretch.end)).collect();
        let others = cx.references.moved().chain(changed.iter().copied());
        let Some(places) = Places::new(cx.claim.ranges(), others) else { return Self::default() };
        let witnesses = Witnesses::new(cx.old);
        let parts: Vec<Part> = stretches
            .par_chunks(512)
            .with_max_len(4)
            .map(|stretches| {
                let mut judge = Judge::new(cx, (&places, &changed), &witnesses);
                let verdicts = stretches.iter().map(|stretch| (*stretch, judge.is_clean(stretch.start, stretch.end))).collect();
                Part { verdicts, operands: judge.operands, taken: judge.taken }
            })
            .collect();
        let mut this = Self::default();
        // From the last one on: what follows on a stretch decides as well.
        let mut next = Stretch { start: u64::MAX, end: u64::MAX, is_function: false };
        let mut is_next_fixed = false;
        for part in parts.iter().rev() {
            for (stretch, is_clean) in part.verdicts.iter().rev() {
                let goes_on = stretch.end != next.start
                    || is_next_fixed
                    || next.is_function && cx.claim.piece(next.start).is_same && cx.roots.contains(next.start);
                is_next_fixed = *is_clean && goes_on;
                // Between functions there is mostly padding, which no frame may cover: others look at it.
                if is_next_fixed && stretch.is_function {
                    match this.ranges.last_mut() {
                        Some(range) if range.0 == stretch.end => range.0 = stretch.start,
                        _ => this.ranges.push((stretch.start, stretch.end)),
                    }
                }
                next = *stretch;
            }
        }
        this.ranges.reverse();
        this.operands = parts.iter().map(|part| part.operands).sum();
        this.taken = parts.into_iter().flat_map(|part| part.taken).filter(|taken| this.contains(taken.1)).collect();
        this
    }

    /// Whether the function that holds `addr` is fixed.
    pub(crate) fn contains(&self, addr: u64) -> bool {
        let upto = self.ranges.partition_point(|range| range.0 <= addr);
        upto.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|range| addr < range.1)
    }

    /// Whether something in fixed code may be an operand that leads into one of `ranges`.
    pub(crate) fn may_lead_into(&self, cx: &Context<'_, '_>, ranges: &[(u64, u64)]) -> bool {
        if self.ranges.is_empty() || ranges.is_empty() {
            return false;
        }
        let Some(places) = Places::new(&[], ranges.iter().copied()) else { return true };
        self.ranges.par_iter().any(|&(start, end)| judge::may_lead_into(cx, &places, start, end))
    }

    /// Fixed functions, neighbours joined, sorted.
    pub(crate) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }
}

/// Whether the bytes at the same address are the same.
fn is_same(cx: &Context<'_, '_>, stretch: &Stretch) -> bool {
    let Ok(len) = usize::try_from(stretch.end - stretch.start) else { return false };
    let old = cx.old_code.from(stretch.start).and_then(|bytes| bytes.get(..len));
    old.is_some() && old == cx.new_code.from(stretch.start).and_then(|bytes| bytes.get(..len))
}

/// All old code, cut at the bounds of functions.
fn stretches(cx: &Context<'_, '_>) -> Vec<Stretch> {
    let functions = cx.functions.ranges();
    let mut all = Vec::with_capacity(functions.len() * 2);
    for (start, end) in cx.old_code.ranges() {
        let mut at = start;
        let mut upto = functions.partition_point(|function| function.0 <= start);
        while at < end {
            while functions.get(upto).is_some_and(|function| function.0 <= at) {
                upto += 1;
            }
            let holds = |function: &&(u64, u64)| at < function.1;
            let function = upto.checked_sub(1).and_then(|before| functions.get(before)).filter(holds);
            let next = || functions.get(upto).map_or(u64::MAX, |function| function.0);
            let stop = function.map_or_else(next, |function| function.1).min(end);
            all.push(Stretch { start: at, end: stop, is_function: function.is_some_and(|function| function.0 == at) });
            at = stop;
        }
    }
    all
}
