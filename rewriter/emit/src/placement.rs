//! Addresses for moved code: first the free ranges of its old section, then a segment behind.

use postlink_base::Id;
use postlink_cfg::{FunctionId, Program};
use postlink_layout::{FunctionPlan, Mode, Plan};

use crate::lines::LineStarts;

/// A fragment's size and alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) size: u32,
    pub(crate) align: u32,
    /// The start's remainder modulo `align`.
    pub(crate) residue: u32,
    /// For hot code, with `residue` 0: where it may start in a cache line.
    pub(crate) line_starts: Option<LineStarts>,
}

impl Demand {
    /// The first address from `at` on that meets the alignment.
    fn start_from(&self, at: u64) -> u64 {
        if let Some(starts) = self.line_starts {
            return starts.next_from(at, u64::from(self.align));
        }
        let (align, residue) = (u64::from(self.align.max(1)), u64::from(self.residue));
        at + (residue % align + align - at % align) % align
    }
}

/// Where everything goes.
#[derive(Debug)]
pub(crate) struct Placement {
    /// New address of each fragment, in the order of `Plan::order`.
    pub(crate) starts: Vec<u64>,
    /// Bytes used in the appended segment.
    pub(crate) appended_size: u64,
    /// Ranges of old text that hold nothing any more or hold new code: to be filled with traps before
    /// new code is written. Sorted.
    pub(crate) vacated: Vec<(u64, u64)>,
}

/// Free ranges of one section.
struct Arena {
    section: u32,
    /// Sorted, disjoint: `(start, end)`; the first one is filled first.
    free: Vec<(u64, u64)>,
    next: usize,
}

/// Leftovers that are worth remembering.
const MIN_HOLE: u64 = 32;

/// Gives every fragment of `plan` an address. `demands` are parallel to `plan.order`; the appended
/// segment starts at `appended_start`.
pub(crate) fn place(program: &Program<'_>, plan: &Plan, demands: &[Demand], appended_start: u64) -> Placement {
    let mut arenas = match plan.mode {
        Mode::Full => arenas(program, plan),
        Mode::Hot => Vec::new(),
    };
    let vacated = match plan.mode {
        Mode::Full => arenas.iter().flat_map(|arena| arena.free.iter().copied()).collect(),
        Mode::Hot => moved_extents(program, plan),
    };
    for arena in &mut arenas {
        arena.forget_small();
    }
    let mut appended = appended_start;
    let mut starts = Vec::with_capacity(demands.len());
    for (placed, demand) in plan.order.iter().zip(demands) {
        let section = program.functions[placed.function].section;
        let arena = arenas.iter_mut().find(|arena| arena.section == section);
        let start = arena.and_then(|arena| arena.take(*demand)).unwrap_or_else(|| {
            let start = demand.start_from(appended);
            appended = start + u64::from(demand.size);
            start
        });
        starts.push(start);
    }
    Placement { starts, appended_size: appended - appended_start, vacated }
}

impl Arena {
    /// Drops ranges that are too small to be worth trying. They are vacated all the same.
    fn forget_small(&mut self) {
        let last = self.free.last().copied();
        self.free.retain(|range| range.1 - range.0 >= MIN_HOLE || Some(*range) == last);
    }

    fn take(&mut self, demand: Demand) -> Option<u64> {
        let size = u64::from(demand.size);
        // Holes before the current range are only tried for a few steps: a program has few of them,
        // and the code that comes late is cold.
        let first = self.next.saturating_sub(8);
        for index in first..self.free.len() {
            let range = self.free.get_mut(index)?;
            let start = demand.start_from(range.0);
            if start + size <= range.1 {
                range.0 = start + size;
                if index > self.next {
                    self.next = index;
                }
                return Some(start);
            }
        }
        None
    }
}

/// What is free in each movable section once the moving functions are gone.
fn arenas(program: &Program<'_>, plan: &Plan) -> Vec<Arena> {
    let mut arenas = Vec::new();
    for &section in &program.movable_sections {
        let Some(header) = program.image.sections().get(section) else { continue };
        let (start, end) = (header.addr, header.addr + header.size);
        let functions = program.functions.as_slice();
        let first = functions.partition_point(|function| function.start < start);
        let mut fixed: Vec<(u64, u64)> = functions
            .iter()
            .enumerate()
            .skip(first)
            .take_while(|(_, function)| function.start < end)
            .filter(|(index, _)| matches!(plan.functions.get(FunctionId::from_index(*index)), Some(FunctionPlan::Stay)))
            .map(|(_, function)| (function.start, function.end))
            .collect();
        fixed.extend(program.obstacles.iter().filter(|obstacle| obstacle.0 >= start && obstacle.1 <= end));
        // Padding that control runs through stays with the function behind it.
        let stays = |next: u64| {
            let id = program.function_at(next);
            id.is_none_or(|id| matches!(plan.functions.get(id), Some(FunctionPlan::Stay)))
        };
        let passed = program.padding_entries.iter().filter(|entry| entry.0 >= start && entry.1 <= end && stays(entry.1));
        // From where the function in front of it ends.
        let behind = |next: u64| functions.partition_point(|function| function.start < next).checked_sub(1).and_then(|index| functions.get(index));
        fixed.extend(passed.map(|&(addr, next)| (behind(next).map_or(addr, |function| function.end.max(start).min(addr)), next)));
        fixed.sort_unstable();
        let mut free = Vec::new();
        let mut at = start;
        for (fixed_start, fixed_end) in fixed {
            if fixed_start > at {
                free.push((at, fixed_start));
            }
            at = at.max(fixed_end);
        }
        if end > at {
            free.push((at, end));
        }
        arenas.push(Arena { section: u32::try_from(section).unwrap_or(u32::MAX), free, next: 0 });
    }
    arenas
}

fn moved_extents(program: &Program<'_>, plan: &Plan) -> Vec<(u64, u64)> {
    program
        .functions
        .iter_enumerated()
        .filter(|(id, _)| !matches!(plan.functions.get(*id), Some(FunctionPlan::Stay)))
        .map(|(id, function)| (function.start, end_with_padding(program, id)))
        .collect()
}

/// The end of a function that moves away, padding behind it included if nothing refers to it.
fn end_with_padding(program: &Program<'_>, id: FunctionId) -> u64 {
    let end = program.functions[id].end;
    let Some(next) = program.functions.as_slice().get(id.index() + 1) else { return end };
    let holds = |sorted: &[(u64, u64)]| {
        let index = sorted.partition_point(|entry| entry.0 < end);
        sorted.get(index).is_some_and(|entry| entry.0 < next.start)
    };
    let used = holds(&program.obstacles) || holds(&program.padding_entries);
    let same_section = next.section == program.functions[id].section;
    if used || !same_section { end } else { next.start }
}
