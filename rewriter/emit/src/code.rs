//! New code for the whole program: assembled in parallel, placed, mapped, written.

use postlink_base::{AddressMap, Id, IndexVec, MapKind, MapRange, NewAddr, OldAddr};
use postlink_cfg::{Class, Fixup, FunctionId, GotCall, GotCalls, Graphs, Program};
use postlink_layout::{FunctionPlan, Plan};
use rayon::prelude::*;

use crate::lines::LineStarts;
use crate::placement::{Demand, Placement};
use crate::relay::{RelaidFragment, Relay};
use crate::relocator::Relocator;
use crate::direct;
use crate::{EmitError, MovedFragment, MovedFunction, Piece};

/// Rigid functions keep their address modulo this: the widest alignment that an instruction asks of
/// its operand in memory.
const RIGID_ALIGN: u32 = 64;

/// Functions without samples keep their address modulo this. Other input than the training's executes some of them, and their compiler
/// aligned them and their loops. Packed without gaps, L1I misses on unseen input are 25 % more on perl, 10 % on ripgrep and 9 % on
/// python (16 bytes: 10 % more on perl than 32; 64: 5 % more on ripgrep). Files are as large: in their old order they leave few gaps.
const COLD_ALIGN: u32 = 32;

/// New code of every function that is laid out anew, without addresses.
pub struct Assembled {
    fragments: Vec<Option<Box<[RelaidFragment]>>>,
    /// Calls through the GOT that are to be direct in functions that move.
    got_calls: GotCalls,
}

impl Assembled {
    pub(crate) fn of(&self, function: FunctionId) -> Option<&[RelaidFragment]> {
        self.fragments.get(function.index())?.as_deref()
    }

    /// Number of calls through the GOT that are direct if all of `plan` is written.
    pub(crate) fn direct_calls(&self, program: &Program<'_>, plan: &Plan) -> u64 {
        let count = |placed: &postlink_layout::Placed| match self.of(placed.function) {
            Some(all) => all.get(placed.fragment as usize).map_or(0, |fragment| u64::from(fragment.direct)),
            None => {
                let function = &program.functions[placed.function];
                self.got_calls.within(function.start, function.end).len() as u64
            }
        };
        plan.order.iter().map(count).sum()
    }
}

/// Assembles all functions that are laid out anew: their new code does not depend on the order in which they are placed.
/// `keep_got_calls`: calls through the GOT stay as they are, even if the slot always leads to the same function.
///
/// # Errors
/// [`EmitError::Function`] if one function cannot follow its plan (it can stay instead).
pub fn assemble(
    program: &Program<'_>,
    graphs: &Graphs,
    functions: &IndexVec<FunctionId, FunctionPlan>,
    keep_got_calls: bool,
) -> Result<Assembled, EmitError> {
    /// Functions that one thread takes at a time.
    const BATCH: usize = 256;
    let got_calls = if keep_got_calls { GotCalls::default() } else { GotCalls::find(program) };
    let fragments: Result<Vec<_>, EmitError> = (0..program.functions.len())
        .into_par_iter()
        .with_max_len(BATCH)
        .map(|index| {
            let id = FunctionId::from_index(index);
            let Some(FunctionPlan::Relay { fragments, prefer_fall }) = functions.get(id) else { return Ok(None) };
            let function = &program.functions[id];
            let cfg = graphs.get(program, id);
            let got_calls = got_calls.within(function.start, function.end);
            let relay = Relay { cfg: &cfg, bytes: program.bytes(function), fixups: &program.fixups[id], got_calls, prefer_fall };
            relay
                .assemble(fragments)
                .map(|fragments| Some(fragments.into_boxed_slice()))
                .map_err(|fault| EmitError::Function { start: function.start, what: fault.to_string() })
        })
        .collect();
    Ok(Assembled { fragments: fragments?, got_calls })
}

/// Size and alignment of each fragment in the order of placement.
pub(crate) fn demands(program: &Program<'_>, plan: &Plan, assembled: &Assembled) -> Vec<Demand> {
    plan.order
        .iter()
        .map(|placed| match assembled.of(placed.function).and_then(|all| all.get(placed.fragment as usize)) {
            Some(fragment) => {
                Demand { size: u32::try_from(fragment.code.len()).unwrap_or(u32::MAX), align: fragment.align.max(1), residue: 0, line_starts: fragment.line_starts }
            }
            None => {
                let (align, hot) = match plan.functions.get(placed.function) {
                    Some(FunctionPlan::Whole { align, hot }) => ((*align).max(1), *hot),
                    _ => (1, false),
                };
                let function = &program.functions[placed.function];
                let size = u32::try_from(function.size()).unwrap_or(u32::MAX);
                // What is not understood may hold data that must stay aligned.
                if function.class == Class::Rigid {
                    let residue = (function.start % u64::from(RIGID_ALIGN)) as u32;
                    return Demand { size, align: RIGID_ALIGN, residue, line_starts: None };
                }
                if !hot {
                    let align = align.max(COLD_ALIGN);
                    return Demand { size, align, residue: (function.start % u64::from(align)) as u32, line_starts: None };
                }
                Demand { size, align, residue: 0, line_starts: Some(LineStarts::of_size(size)) }
            }
        })
        .collect()
}

/// What follows from the placement: the address map, and the pieces that unwind tables need.
pub(crate) struct Mapped {
    pub(crate) map: AddressMap,
    /// Relaid functions, sorted by old address.
    pub(crate) moved: Vec<MovedFunction>,
}

/// Turns placed fragments into the address map.
pub(crate) fn map(
    program: &Program<'_>,
    plan: &Plan,
    assembled: &Assembled,
    placement: &Placement,
) -> Result<Mapped, EmitError> {
    /// Fragments that one thread takes at a time.
    const BATCH: usize = 1024;
    let mut placed: Vec<(FunctionId, u32, u64)> =
        plan.order.iter().zip(&placement.starts).map(|(placed, &start)| (placed.function, placed.fragment, start)).collect();
    placed.par_sort_unstable();
    let folded = folded(plan, &placed);
    if !folded.is_empty() {
        placed.extend(folded);
        placed.par_sort_unstable();
    }
    // Functions are sorted by address, so what they give follows in order.
    let functions: Vec<&[(FunctionId, u32, u64)]> = placed.chunk_by(|left, right| left.0 == right.0).collect();
    let parts: Vec<(Vec<MapRange>, Vec<MovedFunction>)> = functions
        .par_chunks(BATCH)
        .with_max_len(1)
        .map(|functions| {
            let (mut ranges, mut moved) = (Vec::new(), Vec::new());
            for fragments in functions {
                let first = ranges.len();
                moved.extend(map_function((program, plan), assembled, fragments, &mut ranges));
                if let Some(ranges) = ranges.get_mut(first..) {
                    ranges.sort_unstable_by_key(|range| range.old);
                }
            }
            (ranges, moved)
        })
        .collect();
    let mut ranges = Vec::with_capacity(parts.iter().map(|part| part.0.len()).sum());
    let mut moved = Vec::with_capacity(parts.iter().map(|part| part.1.len()).sum());
    for (mut more_ranges, mut more_moved) in parts {
        ranges.append(&mut more_ranges);
        moved.append(&mut more_moved);
    }
    padding_entries(program, plan, placement, &mut ranges);
    Ok(Mapped { map: AddressMap::from_ranges(ranges)?, moved })
}

/// The fragments of functions that others stand for: where those of the others are, which are sorted.
fn folded(plan: &Plan, placed: &[(FunctionId, u32, u64)]) -> Vec<(FunctionId, u32, u64)> {
    let others = plan.functions.iter_enumerated().filter_map(|(id, plan)| Some((id, plan.folded()?)));
    let fragments = others.flat_map(|(id, into)| {
        let first = placed.partition_point(|fragment| fragment.0 < into);
        let own = placed.iter().skip(first).take_while(move |fragment| fragment.0 == into);
        own.map(move |&(_, number, start)| (id, number, start))
    });
    fragments.collect()
}

/// Adds the ranges of one function, in any order. Gives its pieces if it was laid out anew, or has no code of its own any
/// more, and has unwind tables.
fn map_function(
    (program, plan): (&Program<'_>, &Plan),
    assembled: &Assembled,
    placed: &[(FunctionId, u32, u64)],
    ranges: &mut Vec<MapRange>,
) -> Option<MovedFunction> {
    let id = placed.first()?.0;
    let function = &program.functions[id];
    let folded = plan.functions.get(id).and_then(postlink_layout::FunctionPlan::folded);
    let source = folded.unwrap_or(id);
    let mut moved = Vec::new();
    for &(_, number, start) in placed {
        let Some(fragment) = assembled.of(source).and_then(|all| all.get(number as usize)) else {
            ranges.push(MapRange {
                old: OldAddr::new(function.start),
                new: NewAddr::new(start),
                len: u32::try_from(function.size()).unwrap_or(u32::MAX),
                kind: MapKind::Linear,
            });
            continue;
        };
        let mut pieces = Vec::with_capacity(fragment.pieces.len());
        for piece in &fragment.pieces {
            let (old, new) = (function.start + u64::from(piece.old), start + u64::from(piece.new));
            if piece.old_len > 0 {
                let kind = if piece.copied { MapKind::Linear } else { MapKind::Point };
                ranges.push(MapRange { old: OldAddr::new(old), new: NewAddr::new(new), len: piece.old_len, kind });
            }
            if piece.new_len > 0 {
                pieces.push(Piece { old, old_len: piece.old_len, new, new_len: piece.new_len });
            }
        }
        let new_end = start + fragment.code.len() as u64;
        moved.push(MovedFragment { new_start: start, new_end, pieces });
    }
    if folded.is_some() {
        // The tables of the function that stands for it say the same.
        moved.clear();
    }
    let has_tables = function.fde.is_some() && (!moved.is_empty() || folded.is_some());
    has_tables.then_some(MovedFunction { old_start: function.start, old_end: function.end, fragments: moved })
}

/// Padding that something refers to leads to wherever the function behind it went.
fn padding_entries(program: &Program<'_>, plan: &Plan, placement: &Placement, ranges: &mut Vec<MapRange>) {
    if program.padding_entries.is_empty() {
        return;
    }
    let mut entries: Vec<(u64, u64)> = plan
        .order
        .iter()
        .zip(&placement.starts)
        .filter(|(placed, _)| placed.fragment == 0)
        .map(|(placed, &start)| (program.functions[placed.function].start, start))
        .collect();
    entries.sort_unstable();
    let padding = &program.padding_entries;
    for (index, &(addr, next)) in padding.iter().enumerate() {
        let Ok(position) = entries.binary_search_by_key(&next, |entry| entry.0) else { continue };
        let Some(&(_, new)) = entries.get(position) else { continue };
        let end = padding.get(index + 1).map_or(next, |after| after.0.min(next));
        ranges.push(MapRange {
            old: OldAddr::new(addr),
            new: NewAddr::new(new),
            len: u32::try_from(end - addr).unwrap_or(0),
            kind: MapKind::Point,
        });
    }
}

/// New code, or old code whose operands change, and its place in the output.
struct Job<'a> {
    function: FunctionId,
    /// What is copied there first; `None` if the code stands there already.
    source: Option<&'a [u8]>,
    fixups: &'a [Fixup],
    /// Those of the function that are to be direct and are not yet.
    got_calls: &'a [GotCall],
    new: u64,
    offset: usize,
    size: usize,
}

impl Job<'_> {
    const fn end(&self) -> usize {
        self.offset.saturating_add(self.size)
    }

    fn write(&self, code: &mut [u8], program: &Program<'_>, relocator: &Relocator<'_>) -> Result<(), EmitError> {
        if let Some(source) = self.source {
            code.copy_from_slice(source);
        }
        let start = program.functions[self.function].start;
        for fixup in self.fixups {
            // What stays and refers to what stays is as it was.
            if self.source.is_none() && relocator.to_new(fixup.target) == fixup.target {
                continue;
            }
            let call = direct::at(self.got_calls, start + u64::from(fixup.offset));
            let made = call.and_then(|call| direct::make(code, fixup, call));
            let fixup = made.as_ref().unwrap_or(fixup);
            relocator.patch_code(code, fixup, start, self.new).ok_or_else(|| EmitError::Function {
                start,
                what: format!("its operand at +{:#x} cannot reach {:#x}", fixup.offset, fixup.target),
            })?;
        }
        Ok(())
    }
}

/// Writes every moved fragment, and the operands of staying functions that change, into `out`: the output, in which
/// staying functions are already. `offset_of`: the place in `out` of a new address.
pub(crate) fn write(
    program: &Program<'_>,
    plan: &Plan,
    assembled: &Assembled,
    placement: &Placement,
    relocator: &Relocator<'_>,
    offset_of: impl Fn(u64) -> Option<usize> + Sync,
    out: &mut [u8],
) -> Result<(), EmitError> {
    /// Jobs that one thread does in a row.
    const BATCH: usize = 512;
    let mut jobs = Vec::with_capacity(placement.starts.len() + program.functions.len());
    for (placed, &new) in plan.order.iter().zip(&placement.starts) {
        let (source, fixups, got_calls) = match assembled.of(placed.function).and_then(|all| all.get(placed.fragment as usize)) {
            Some(fragment) => (fragment.code.as_slice(), fragment.fixups.as_slice(), &[][..]),
            None => {
                let function = &program.functions[placed.function];
                let got_calls = assembled.got_calls.within(function.start, function.end);
                (program.bytes(function), &program.fixups[placed.function], got_calls)
            }
        };
        let offset = offset_of(new).ok_or_else(|| unplaced(new))?;
        jobs.push(Job { function: placed.function, source: Some(source), fixups, got_calls, new, offset, size: source.len() });
    }
    let staying = |index: usize| {
        let id = FunctionId::from_index(index);
        let (function, fixups) = (&program.functions[id], &program.fixups[id]);
        let stays = matches!(plan.functions.get(id), Some(FunctionPlan::Stay) | None);
        (stays && !fixups.is_empty()).then(|| {
            let offset = offset_of(function.start).ok_or_else(|| unplaced(function.start))?;
            let size = program.bytes(function).len();
            Ok(Job { function: id, source: None, fixups, got_calls: &[], new: function.start, offset, size })
        })
    };
    let staying: Vec<Result<Job<'_>, EmitError>> = (0..program.functions.len()).into_par_iter().filter_map(staying).collect();
    for job in staying {
        jobs.push(job?);
    }
    jobs.par_sort_unstable_by_key(|job| (job.offset, job.end()));
    // Each batch has the part of the output up to the next one's for itself.
    let mut parts = Vec::with_capacity(jobs.len() / BATCH + 1);
    let (mut rest, mut at) = (out, 0);
    for batch in jobs.chunks(BATCH) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
        let part = rest.split_at_mut_checked(first.offset.wrapping_sub(at)).map(|(_, behind)| behind);
        let (part, behind) = part
            .and_then(|part| part.split_at_mut_checked(last.end() - first.offset))
            .ok_or_else(|| unplaced(first.new))?;
        parts.push((part, batch));
        (rest, at) = (behind, last.end());
    }
    let failures: Vec<EmitError> = parts
        .into_par_iter()
        .with_max_len(1)
        .filter_map(|(part, batch)| {
            let base = batch.first()?.offset;
            let write = |job: &Job<'_>| {
                let code = part.get_mut(job.offset - base..job.end() - base).ok_or_else(|| unplaced(job.new))?;
                job.write(code, program, relocator)
            };
            batch.iter().map(write).find_map(Result::err)
        })
        .collect();
    // In order of addresses: the same one whatever the threads do.
    failures.into_iter().next().map_or(Ok(()), Err)
}

fn unplaced(new: u64) -> EmitError {
    EmitError::Room { what: "code", why: format!("the address {new:#x} is not in the file") }
}
