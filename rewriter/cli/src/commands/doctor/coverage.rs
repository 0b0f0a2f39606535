//! What may move: functions, bytes, samples and references by class, and the reasons.

use std::fmt::Write as _;

use postlink_cfg::{Class, Evidence, Function, FunctionId, Program, Reason};
use postlink_profile::{Profile, function_weights};

use crate::commands::printable;

const CLASSES: [Class; 3] = [Class::Free, Class::Rigid, Class::Pinned];
const EVIDENCE: [Evidence; 6] =
    [Evidence::Reloc, Evidence::Dynamic, Evidence::Decoded, Evidence::Table, Evidence::Unwind, Evidence::Symbol];

/// How many functions are named for each reason.
const NAMED: usize = 3;

/// A sum over functions.
#[derive(Clone, Copy, Default)]
struct Sum {
    functions: u64,
    bytes: u64,
    samples: u64,
}

impl Sum {
    fn add(&mut self, function: &Function, samples: u64) {
        self.functions += 1;
        self.bytes = self.bytes.saturating_add(function.size());
        self.samples = self.samples.saturating_add(samples);
    }
}

/// The functions that share a class and a reason.
struct Group {
    class: Class,
    reason: Reason,
    sum: Sum,
    members: Vec<FunctionId>,
}

/// References by what they lead to.
#[derive(Clone, Copy, Default)]
struct References {
    classes: [u64; 3],
    /// To linker stubs and start-up functions.
    stubs: u64,
    /// To code that belongs to no function.
    elsewhere: u64,
}

/// Everything that is printed about classes.
pub(crate) struct Coverage {
    classes: [Sum; 3],
    /// Linker stubs and start-up code, which no rewriter moves: counted apart.
    stubs: Sum,
    groups: Vec<Group>,
    references: [References; 6],
    samples: Option<Vec<u64>>,
}

const fn index(class: Class) -> usize {
    match class {
        Class::Free => 0,
        Class::Rigid => 1,
        Class::Pinned => 2,
    }
}

impl Coverage {
    pub(crate) fn new(program: &Program<'_>, profile: Option<&Profile>) -> Self {
        let samples: Option<Vec<u64>> = profile
            .map(|profile| function_weights(profile, program).iter().map(|weight| weight.samples).collect());
        let weight = |id: FunctionId| {
            samples.as_ref().and_then(|samples| samples.get(id.0 as usize)).copied().unwrap_or(0)
        };
        let mut classes = [Sum::default(); 3];
        let mut stubs = Sum::default();
        let mut groups: Vec<Group> = Vec::new();
        for (id, function) in program.functions.iter_enumerated() {
            if function.reason == Some(Reason::SectionStays) {
                stubs.add(function, weight(id));
                continue;
            }
            classes[index(function.class)].add(function, weight(id));
            let Some(reason) = function.reason else { continue };
            let known = groups.iter().position(|group| group.class == function.class && group.reason == reason);
            let at = known.unwrap_or_else(|| {
                groups.push(Group { class: function.class, reason, sum: Sum::default(), members: Vec::new() });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(at) {
                group.sum.add(function, weight(id));
                group.members.push(id);
            }
        }
        for group in &mut groups {
            group.members.sort_by_key(|&id| std::cmp::Reverse((weight(id), program.functions[id].size())));
            group.members.truncate(NAMED);
        }
        groups.sort_by_key(|group| (group.class, std::cmp::Reverse((group.sum.samples, group.sum.bytes)), group.reason));
        let references = references(program);
        Self { classes, stubs, groups, references, samples }
    }

    pub(crate) fn text(&self, program: &Program<'_>) -> String {
        let mut out = String::new();
        self.classes_text(&mut out);
        self.references_text(&mut out);
        self.reasons_text(&mut out, program);
        out
    }

    fn classes_text(&self, out: &mut String) {
        let total = self.classes.iter().fold(Sum::default(), |total, class| Sum {
            functions: total.functions + class.functions,
            bytes: total.bytes.saturating_add(class.bytes),
            samples: total.samples.saturating_add(class.samples),
        });
        let _ = write!(out, "\nwhat may move  {:>18} {:>23}", "functions", "bytes");
        let with_samples = self.samples.is_some();
        out.push_str(if with_samples { "                 samples\n" } else { "\n" });
        for (class, sum) in CLASSES.iter().zip(&self.classes) {
            let _ = write!(
                out,
                "  {:<12} {:>9} {} {:>14} {}",
                class.name(),
                sum.functions,
                percent(sum.functions, total.functions),
                sum.bytes,
                percent(sum.bytes, total.bytes)
            );
            if with_samples {
                let _ = write!(out, " {:>14} {}", sum.samples, percent(sum.samples, total.samples));
            }
            out.push('\n');
        }
        if self.stubs.functions > 0 {
            let _ = writeln!(
                out,
                "  and {} linker stubs and start-up functions of {} bytes, which always stay where they are",
                self.stubs.functions, self.stubs.bytes
            );
        }
    }

    fn references_text(&self, out: &mut String) {
        let _ = writeln!(out, "\nreferences to code, by evidence and by class of what they lead to");
        let _ =
            writeln!(out, "  {:<12} {:>11} {:>9} {:>9} {:>9} {:>12}", "", "free", "rigid", "pinned", "stub", "no function");
        for (evidence, found) in EVIDENCE.iter().zip(&self.references) {
            let [free, rigid, pinned] = found.classes;
            let _ = writeln!(
                out,
                "  {:<12} {free:>11} {rigid:>9} {pinned:>9} {:>9} {:>12}",
                evidence.name(),
                found.stubs,
                found.elsewhere
            );
        }
    }

    fn reasons_text(&self, out: &mut String, program: &Program<'_>) {
        if self.groups.is_empty() {
            return;
        }
        let _ = writeln!(out, "\nwhy not free (report/CODES.md says more about each code)");
        for group in &self.groups {
            let plural = if group.sum.functions == 1 { "" } else { "s" };
            let _ = write!(
                out,
                "  {} {}: {} function{plural}, {} bytes",
                group.reason.code(),
                group.class.name(),
                group.sum.functions,
                group.sum.bytes
            );
            if self.samples.is_some() {
                let _ = write!(out, ", {} samples", group.sum.samples);
            }
            let _ = writeln!(out, ": {}", group.reason.text());
            let names: Vec<String> = group
                .members
                .iter()
                .map(|&id| format!("{} ({} bytes)", printable(&program.name(id)), program.functions[id].size()))
                .collect();
            let more = group.sum.functions.saturating_sub(names.len() as u64);
            let and_more = if more > 0 { format!(", and {more} more") } else { String::new() };
            let _ = writeln!(out, "         {}{and_more}", names.join(", "));
        }
    }
}

/// Counts every known reference to code by its evidence and by the class of its target.
fn references(program: &Program<'_>) -> [References; 6] {
    let mut found = [References::default(); 6];
    let mut count = |evidence: Evidence, target: u64| {
        let slot = EVIDENCE.iter().position(|&known| known == evidence).and_then(|at| found.get_mut(at));
        let Some(slot) = slot else { return };
        match program.function_at(target) {
            Some(id) if program.functions[id].reason == Some(Reason::SectionStays) => slot.stubs += 1,
            Some(id) => slot.classes[index(program.functions[id].class)] += 1,
            None => slot.elsewhere += 1,
        }
    };
    let is_code = |addr: u64| program.image.exec_section_at(addr).is_some();
    for (_, fixups) in program.fixups.iter_enumerated() {
        for fixup in fixups.iter().filter(|fixup| is_code(fixup.target)) {
            count(fixup.evidence, fixup.target);
        }
    }
    for data_ref in &program.data_refs {
        count(data_ref.evidence, data_ref.target);
    }
    for fde in program.eh_frame.iter().flat_map(|table| &table.fdes).filter(|fde| !fde.dead) {
        count(Evidence::Unwind, fde.pc_begin);
    }
    for &pad in &program.landing_pads {
        count(Evidence::Unwind, pad);
    }
    for symbol in program.symtab().iter().flat_map(|table| table.iter()) {
        if symbol.is_function() && symbol.is_defined() {
            count(Evidence::Symbol, symbol.value);
        }
    }
    found
}

/// Rounded down: 100 % is said of all, never of nearly all.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("({:>3}.{:02} %)", hundredths / 100, hundredths % 100)
}
