//! P4: at every instruction, the new file unwinds as the old one did.
//!
//! Both `.eh_frame`s are run into tables "from this address on, this row"; a row is a digest of the
//! CFA rule, all register rules, the personality routine and the other properties of its frame.
//! Copied code must have equal rows at every byte, which includes every instruction boundary; code
//! without a frame must stay without one. Instructions that exist only in the new file (jumps, NOPs)
//! are checked with the addresses that the walk noted for them.

mod digests;
mod frames;
mod header;
mod lsda;
mod records;
mod routines;
mod rows;
mod steps;

use postlink_base::{AddressIndex, MapKind, NewAddr, OldAddr};
use postlink_image::Image;
use rayon::prelude::*;

pub(crate) use frames::Frames;
pub(crate) use header::check_header;
pub(crate) use routines::check as check_forms;

use crate::bits::AddressSet;
use crate::code::{Claim, CodeView, Functions, Landed};
use crate::proof::{Findings, Obligation, Violation};
use crate::walk::{Context, Harvest};
use digests::AS_OLD;
use lsda::Site;
use rows::Rows;

/// Rows and call sites of one file, by code address.
pub(crate) struct UnwindTables {
    rows: Vec<(u64, u64)>,
    index: AddressIndex,
    sites: Vec<Site>,
    site_index: AddressIndex,
    /// Start of the first frame whose CFI or LSDA could not be read.
    pub(crate) broken: Option<u64>,
}

/// The LSDA of a frame could not be read.
const UNREADABLE: u64 = 3;

impl UnwindTables {
    /// The tables of both files; empty for a file without `.eh_frame`.
    pub(crate) fn of_both(
        (old, old_frames): (&Image<'_>, Option<&Frames<'_>>),
        (new, new_frames): (&Image<'_>, Option<&Frames<'_>>),
    ) -> (Self, Self) {
        let (old_rows, new_rows) = rows::of_both(old_frames, new_frames);
        rayon::join(|| Self::new(old, old_frames, old_rows), || Self::new(new, new_frames, new_rows))
    }

    fn new(image: &Image<'_>, frames: Option<&Frames<'_>>, Rows { rows, broken }: Rows) -> Self {
        let parts: Vec<Vec<Site>> = frames
            .map_or(&[][..], |frames| &frames.frames)
            .par_chunks(1024)
            .map(|frames| {
                let mut sites = Vec::new();
                for frame in frames {
                    let Some(addr) = frame.lsda else { continue };
                    let first = sites.len();
                    if lsda::read(image, addr, frame.start, frame.end, &mut sites).is_none() {
                        sites.truncate(first);
                        sites.push(Site { start: frame.start, actions: UNREADABLE, pad: addr });
                    }
                    sites.push(Site { start: frame.end, actions: lsda::NO_DATA, pad: 0 });
                }
                sites
            })
            .collect();
        let mut sites: Vec<Site> = Vec::new();
        for site in parts.into_iter().flatten() {
            match sites.last_mut() {
                Some(last) if last.start == site.start => *last = site,
                _ => sites.push(site),
            }
        }
        let index = AddressIndex::new(&rows, |row| row.0);
        let site_index = AddressIndex::new(&sites, |site| site.start);
        Self { rows, index, sites, site_index, broken }
    }

    /// Addresses of all landing pads.
    pub(crate) fn landing_pads(&self) -> impl Iterator<Item = u64> + '_ {
        self.sites.iter().filter(|site| site.pad != 0 && site.actions != UNREADABLE).map(|site| site.pad)
    }

    /// The row at `addr`, and where the next one starts. In the new file, it may be [`AS_OLD`].
    fn row(&self, addr: u64) -> (u64, u64) {
        let upto = self.index.upto(&self.rows, |row| row.0, addr);
        let row = upto.checked_sub(1).and_then(|at| self.rows.get(at)).map_or(0, |row| row.1);
        (row, self.rows.get(upto).map_or(u64::MAX, |next| next.0))
    }
}

/// The row of the old file at `addr`.
pub(crate) fn old_row(cx: &Context<'_, '_>, addr: u64) -> u64 {
    cx.old_tables.row(addr).0
}

/// The row of the new file that all bytes from `addr` to the one at `last` have, if there is one.
pub(crate) fn new_row(cx: &Context<'_, '_>, addr: u64, last: u64) -> Option<u64> {
    let at = |addr: u64| match cx.new_tables.row(addr) {
        (AS_OLD, next) => {
            let (row, old_next) = cx.old_tables.row(addr);
            (row, next.min(old_next))
        }
        row => row,
    };
    let (row, next) = at(addr);
    (last < next || at(last).0 == row).then_some(row)
}

/// A stretch of code that was copied.
#[derive(Clone, Copy)]
struct Copied {
    old: u64,
    new: u64,
    len: u64,
}

/// Live code that did not move.
fn unmoved(claim: &Claim<'_>, functions: &Functions, code: &CodeView<'_>, covered: &AddressSet) -> Vec<Copied> {
    let (mut all, between): (Vec<Copied>, Vec<Copied>) = rayon::join(
        || functions.ranges().par_iter().flat_map_iter(|&range| unmoved_parts(claim, range)).collect(),
        || unmoved_between(claim, functions, code, covered),
    );
    all.extend(between);
    all
}

/// What did not move of one function.
fn unmoved_parts<'a>(claim: &'a Claim<'_>, (start, end): (u64, u64)) -> impl Iterator<Item = Copied> + 'a {
    let stays = claim.stays(start, end);
    let whole = stays.then_some(Copied { old: start, new: start, len: end - start });
    let pieces = (!stays).then(|| claim.pieces(start, end)).into_iter().flatten().filter(|piece| piece.is_same);
    whole.into_iter().chain(pieces.map(move |piece| {
        let (from, to) = (piece.start.max(start), piece.end.min(end));
        Copied { old: from, new: from, len: to - from }
    }))
}

/// The instructions between functions that did not move.
fn unmoved_between(claim: &Claim<'_>, functions: &Functions, code: &CodeView<'_>, covered: &AddressSet) -> Vec<Copied> {
    let mut all = Vec::new();
    for (start, end) in code.ranges() {
        let mut at = start;
        while at < end {
            let extent = functions.extent(at);
            let stop = extent.end.min(end);
            while !extent.is_function
                && let Some(from) = covered.next(at, stop, true)
            {
                let to = covered.next(from, stop, false).unwrap_or(stop);
                let piece = claim.piece(from);
                at = to.min(piece.end);
                if piece.is_same {
                    all.push(Copied { old: from, new: from, len: at - from });
                }
            }
            at = stop;
        }
    }
    all
}

/// Compares rows and call sites of all copied code: linear pieces of the map, and live code that did
/// not move. Gives pairs of landing pads, old and new, still to be compared.
pub(crate) fn check(cx: &Context<'_, '_>, findings: &mut Findings) -> Vec<(u64, u64)> {
    let unmoved = unmoved(cx.claim, &cx.functions, &cx.old_code, &cx.old_covered);
    let new_part = || Part { findings: Findings::default(), pads: Vec::new(), functions: &cx.functions };
    let moved = cx.claim.ranges().par_chunks(4096).with_max_len(1).map(|chunk| {
        let mut part = new_part();
        for range in chunk.iter().filter(|range| range.kind == MapKind::Linear) {
            let stretch = Copied { old: range.old.raw(), new: range.new.raw(), len: u64::from(range.len) };
            part.stretch(&stretch, cx);
        }
        part.finish()
    });
    let kept = unmoved.par_chunks(1024).with_max_len(1).map(|chunk| {
        let mut part = new_part();
        chunk.iter().for_each(|stretch| part.stretch(stretch, cx));
        part.finish()
    });
    let parts: Vec<(Findings, Vec<(u64, u64)>)> = moved.chain(kept).collect();
    let mut pads = Vec::new();
    for (part, more) in parts {
        findings.merge(part);
        pads.extend(more);
    }
    pads.sort_unstable();
    pads.dedup();
    pads
}

/// Instructions that only the new file has and whose row fits none of the ways they are reached on.
/// Call sites do not matter there: a direct jump throws nothing.
pub(crate) fn check_misfits(harvest: &mut Harvest, cx: &Context<'_, '_>) {
    harvest.misfits.sort_unstable();
    harvest.misfits.dedup_by_key(|misfit| misfit.new);
    for misfit in &harvest.misfits {
        if !cx.glue_fits.contains(misfit.new) {
            harvest.findings.violate(Obligation::Unwinding, || {
                violation("added-instruction", misfit.old, misfit.new, &cx.functions, "an added or re-encoded branch has the row of neither its origin nor its target")
            });
        }
    }
}

/// A new frame must end with code: what lies behind the last instruction belongs to nobody.
pub(crate) fn check_ends(
    (old, new): (&Frames<'_>, &Frames<'_>),
    landed: &Landed<'_>,
    live: &AddressSet,
    functions: &Functions,
    findings: &mut Findings,
) {
    for frame in &new.frames {
        let last = frame.end - 1;
        let is_kept = || {
            let upto = old.frames.partition_point(|old| old.start <= frame.start);
            upto.checked_sub(1).and_then(|at| old.frames.get(at)).is_some_and(|old| (old.start, old.end) == (frame.start, frame.end))
        };
        if !live.contains(last) && !landed.holds(last) && !is_kept() {
            findings.violate(Obligation::Unwinding, || {
                violation("frame-end", frame.start, frame.end, functions, "the frame reaches behind the last instruction of its code")
            });
        }
    }
}

struct Part<'a> {
    findings: Findings,
    pads: Vec<(u64, u64)>,
    functions: &'a Functions,
}

impl Part<'_> {
    fn stretch(&mut self, stretch: &Copied, cx: &Context<'_, '_>) {
        self.rows(stretch, cx.old_tables, cx.new_tables);
        self.sites(stretch, cx.old_tables, cx.new_tables);
    }

    fn finish(mut self) -> (Findings, Vec<(u64, u64)>) {
        self.pads.sort_unstable();
        self.pads.dedup();
        (self.findings, self.pads)
    }

    fn rows(&mut self, stretch: &Copied, old: &UnwindTables, new: &UnwindTables) {
        let mut old_rows = Steps::new(&old.rows, &old.index, stretch.old);
        let mut new_rows = Steps::new(&new.rows, &new.index, stretch.new);
        let mut at = 0;
        while at < stretch.len {
            let (old_row, old_left) = old_rows.at(stretch.old + at);
            let (mut new_row, mut new_left) = new_rows.at(stretch.new.wrapping_add(at));
            if new_row == AS_OLD {
                let new_at = stretch.new.wrapping_add(at);
                let (row, left) = if stretch.old == stretch.new {
                    (old_row, old_left)
                } else {
                    let (row, next) = old.row(new_at);
                    (row, next - new_at)
                };
                (new_row, new_left) = (row, new_left.min(left));
            }
            self.findings.checked.unwind_rows += 1;
            if old_row != new_row {
                let (old, new) = (stretch.old + at, stretch.new.wrapping_add(at));
                let message = match (old_row, new_row) {
                    (0, _) => "code that had no frame is covered by one",
                    (_, 0) => "no frame covers the code",
                    _ => "CFA, register rules or properties of the frame differ",
                };
                let functions = self.functions;
                self.findings.violate(Obligation::Unwinding, || violation("unwind-row", old, new, functions, message));
                return;
            }
            at = at.saturating_add(old_left.min(new_left).max(1));
        }
    }

    fn sites(&mut self, stretch: &Copied, old: &UnwindTables, new: &UnwindTables) {
        if old.sites.is_empty() && new.sites.is_empty() {
            return;
        }
        let mut old_sites = Steps::new(&old.sites, &old.site_index, stretch.old);
        let mut new_sites = Steps::new(&new.sites, &new.site_index, stretch.new);
        let mut at = 0;
        while at < stretch.len {
            let ((old_actions, old_pad), old_left) = old_sites.at(stretch.old + at);
            let ((new_actions, new_pad), new_left) = new_sites.at(stretch.new.wrapping_add(at));
            let (old_at, new_at) = (stretch.old + at, stretch.new.wrapping_add(at));
            if old_actions == UNREADABLE {
                // Kept as it was: same data (P2) for the same code.
                if (new_actions, new_pad) != (old_actions, old_pad) || old_at != new_at {
                    let functions = self.functions;
                    self.findings.violate(Obligation::Unwinding, || {
                        violation("lsda-unreadable", old_at, new_at, functions, "the language-specific data of moved code cannot be read")
                    });
                    return;
                }
            } else if old_actions != new_actions || (old_pad == 0) != (new_pad == 0) {
                let functions = self.functions;
                self.findings.violate(Obligation::Unwinding, || {
                    violation("call-site", old_at, new_at, functions, "an exception here is handled in another way")
                });
                return;
            }
            if old_actions > lsda::TERMINATE {
                self.findings.checked.call_sites += 1;
                if old_pad != 0 && old_actions != UNREADABLE && self.pads.last() != Some(&(old_pad, new_pad)) {
                    self.pads.push((old_pad, new_pad));
                }
            }
            at = at.saturating_add(old_left.min(new_left).max(1));
        }
    }
}

pub(crate) fn violation(rule: &'static str, old: u64, new: u64, functions: &Functions, message: &str) -> Violation {
    Violation {
        obligation: Obligation::Unwinding,
        old_addr: Some(OldAddr::new(old)),
        rule,
        new_addr: Some(NewAddr::new(new)),
        old_text: String::new(),
        new_text: String::new(),
        function: functions.entry(old).map(OldAddr::new),
        message: message.to_owned(),
    }
}

/// A table "from this address on".
trait Step: Copy {
    type Value: Copy + Default;
    fn start(&self) -> u64;
    fn value(&self) -> Self::Value;
}

impl Step for (u64, u64) {
    type Value = u64;
    fn start(&self) -> u64 {
        self.0
    }
    fn value(&self) -> u64 {
        self.1
    }
}

impl Step for Site {
    type Value = (u64, u64);
    fn start(&self) -> u64 {
        self.start
    }
    fn value(&self) -> (u64, u64) {
        (self.actions, self.pad)
    }
}

/// A position in such a table that moves forward.
struct Steps<'a, T> {
    table: &'a [T],
    /// Number of entries that start at or before the address at hand.
    upto: usize,
}

impl<'a, T: Step> Steps<'a, T> {
    fn new(table: &'a [T], index: &AddressIndex, addr: u64) -> Self {
        Self { table, upto: index.upto(table, Step::start, addr) }
    }

    /// The value at `addr`, which never decreases, and how many bytes it lasts.
    fn at(&mut self, addr: u64) -> (T::Value, u64) {
        while self.table.get(self.upto).is_some_and(|step| step.start() <= addr) {
            self.upto += 1;
        }
        let value = self.upto.checked_sub(1).and_then(|at| self.table.get(at)).map_or_else(T::Value::default, Step::value);
        let left = self.table.get(self.upto).map_or(u64::MAX, |step| step.start() - addr);
        (value, left)
    }
}
