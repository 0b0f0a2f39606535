//! The order of the checks.

use postlink_base::{AddressMap, MapError, OldAddr};
use postlink_image::{Image, Symbol};
use rayon::prelude::*;
use tracing::trace_span;

use crate::bits::AddressSet;
use crate::code::{Claim, CodeView, Functions, Landed};
use crate::fixed::Fixed;
use crate::got::ConstantSlots;
use crate::pointers::{DynamicRelocations, Pointer};
use crate::proof::{Findings, Obligation, Proof};
use crate::references::References;
use crate::relocations::StaticRelocations;
use crate::unwind::{Frames, UnwindTables};
use crate::walk::{Context, Harvest, Walker};
use crate::folds::{self, Folds};
use crate::{file, gaps, hidden, pointers, returns, roots, symbols, tables, taken, unwind};

/// What to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Keep [`Proof::table_targets`].
    pub table_targets: bool,
}

/// The address map that postlink put into `new`, `None` if the file has none (it is identical, was
/// stripped of it, or was written by another tool).
pub fn read_map(new: &Image<'_>) -> Option<Result<AddressMap, MapError>> {
    let (_, section) = new.section(".postlink.map")?;
    Some(AddressMap::decode(new.section_data(section)))
}

/// Shows that `new` is the program `old`, with its code where `map` says, or says where it is not.
///
/// Linear in the size of the files; uses all threads of the current rayon pool; the result does not
/// depend on their number.
pub fn check(old: &Image<'_>, new: &Image<'_>, map: &AddressMap, options: &CheckOptions) -> Proof {
    let before = trace_span!("relocations").in_scope(|| Before::read(old));
    check_with(&before, (old, new), map, options)
}

/// What the proof takes from the old file alone: it can be read while there is no new one yet.
pub struct Before {
    relocations: StaticRelocations,
    dynamic: DynamicRelocations,
    pointers: Vec<Pointer>,
    slots: ConstantSlots,
}

impl Before {
    /// Reads what the proof needs of `old`.
    pub fn read(old: &Image<'_>) -> Self {
        let relocations = StaticRelocations::read(old);
        let dynamic = DynamicRelocations::read(old);
        let pointers = pointers::collect(old, &relocations, &dynamic, &CodeView::of_sections(old));
        Self { relocations, dynamic, pointers, slots: ConstantSlots::read(old) }
    }
}

/// [`check`] with what was read before; `before` must be of the same old file.
pub fn check_with(before: &Before, (old, new): (&Image<'_>, &Image<'_>), map: &AddressMap, options: &CheckOptions) -> Proof {
    let mut doubt = false;
    loop {
        // Twice at most: without fixed code there is no doubt.
        if let Some(proof) = examine(before, (old, new), map, options, doubt) {
            return proof;
        }
        doubt = true;
    }
}

/// The checks. Unless `doubt`, code that did not move is not walked where that can be avoided; `None`
/// if then code remains of which only a walk from there can tell whether it is executed: it does not match, or was
/// padding in a function and differs.
fn examine(
    before: &Before,
    (old, new): (&Image<'_>, &Image<'_>),
    map: &AddressMap,
    options: &CheckOptions,
    doubt: bool,
) -> Option<Proof> {
    let Before { relocations, dynamic, pointers, slots } = before;
    let mut findings = Findings::default();
    if let Some(tool) = foreign(new, map) {
        findings.notes.push(format!(
            "the new file was written by {tool} and has no address map: which new code stands for which old code is not known, so P1, P3, P4 and P5 cannot be checked"
        ));
        let texts = (String::new(), tool.to_owned());
        findings.fail(Obligation::File, "no-address-map", (None, None), texts, "a rewritten file without an address map cannot be proven");
        return Some(findings.into_proof());
    }
    let span = trace_span!("frames").entered();
    let old_code = CodeView::of_sections(old);
    let new_code = CodeView::of_segments(new);
    let claim = Claim::new(map);
    let (old_frames, new_frames) = read_frames(old, new, (&old_code, &new_code), &claim, &mut findings);
    if !claim.is_empty() && !relocations.cover_code {
        let texts = (String::new(), String::new());
        findings.fail(Obligation::Pointers, "no-relocations", (None, None), texts, "code moved, but the old file has no static relocations: words that should have changed cannot be found");
    }
    drop(span);
    let span = trace_span!("rows").entered();
    let (old_tables, new_tables) = UnwindTables::of_both((old, old_frames.as_ref()), (new, new_frames.as_ref()));
    if let Some(start) = new_tables.broken.filter(|&start| old_tables.broken != Some(start)) {
        let texts = (String::new(), format!("{start:#x}"));
        findings.fail(Obligation::Unwinding, "cfi", (None, Some(start)), texts, "the call-frame instructions of a frame cannot be run");
    }
    drop(span);
    let span = trace_span!("roots").entered();
    let extents: Vec<(u64, u64)> =
        old_frames.iter().flat_map(|frames| frames.frames.iter().map(|frame| (frame.start, frame.end))).collect();
    let starts = extents.iter().map(|extent| extent.0);
    let set = |view: &CodeView<'_>| AddressSet::new(view.ranges());
    let ((roots, root_set, values), (functions, old_sets, new_sets)) = rayon::join(
        || {
            let values = roots::values(old, &old_code, pointers, dynamic);
            let set = roots::collect(old, &old_code, pointers, dynamic, starts, old_tables.landing_pads());
            (set.members(), set, values)
        },
        || {
            let functions = Functions::new(old, &old_code, &extents);
            (functions, [set(&old_code), set(&old_code)], [set(&new_code), set(&new_code), set(&new_code)])
        },
    );
    let ([visited, old_covered], [glue_starts, glue_fits, new_live]) = (old_sets, new_sets);
    let references = References::new(old, new, &claim, old_frames.as_ref().zip(new_frames.as_ref()), &functions);
    let mut cx = Context {
        fixed: Fixed::default(),
        old_tables: &old_tables,
        new_tables: &new_tables,
        glue_starts,
        glue_fits,
        relocated: std::sync::OnceLock::new(),
        roots: root_set,
        values,
        visited,
        old_covered,
        new_live,
        old,
        new,
        claim: &claim,
        functions,
        relocations,
        references,
        got: got(old),
        slots,
        old_code,
        new_code,
    };
    findings.checked.functions = cx.functions.ranges().len() as u64;
    drop(span);

    if !doubt {
        trace_span!("fixed code").in_scope(|| {
            cx.fixed = Fixed::find(&cx);
            findings.checked.operands += cx.fixed.operands;
            findings.checked.fixed_bytes += cx.leave_out_fixed();
        });
    }
    let (mut harvest, entries) = trace_span!("walk").in_scope(|| walk_all(&cx, &roots, options));

    // P2 and P3.
    let span = trace_span!("data").entered();
    let (mut explained, found) = tables::check(&cx, &entries);
    harvest = harvest.merge(found);
    explained.extend(pointers::check(new, pointers, &cx.references, &mut findings));
    explained.par_sort();
    pointers::check_data(old, new, &cx.references, dynamic, &explained, &mut findings);
    dynamic.check(old, new, &cx.references, &mut findings);
    pointers::check_tags(old, new, &cx.references, &mut findings);
    returns::check(&cx, pointers, &mut findings);
    hidden::check(&cx, &mut findings);
    drop(span);
    let span = trace_span!("gaps").entered();
    let (unmapped, landed) = rayon::join(
        || {
            let mut findings = Findings::default();
            let reused = gaps::check_unmapped(&cx, &mut findings);
            (findings, reused)
        },
        || {
            let folds = Folds::find(&claim, &cx.functions);
            let landed = Landed::new(&claim, folds.others());
            (folds, landed)
        },
    );
    let (folds, landed) = landed;
    let (unmapped, reused) = unmapped;
    findings.merge(unmapped);
    harvest.unreached.extend(reused);
    if cx.fixed.may_lead_into(&cx, &harvest.unreached) {
        return None;
    }
    folds::check_overlap(&cx, &folds, &landed, &mut findings);
    folds::check_values(&cx, &folds, &mut findings);
    drop(span);

    // P4.
    let span = trace_span!("unwind").entered();
    let pads = unwind::check(&cx, &mut findings);
    let mut walker = Walker::new(&cx);
    for (old_pad, new_pad) in pads {
        if !walker.leads_to(old_pad, new_pad) {
            findings.violate(Obligation::Unwinding, || {
                unwind::violation("landing-pad", old_pad, new_pad, &cx.functions, "the landing pad is not the mapped one")
            });
        }
    }
    harvest = harvest.merge(walker.harvest);
    unwind::check_misfits(&mut harvest, &cx);

    drop(span);

    // P5 beside the rest of P4, P6 and P7: each of them is one thread's work.
    let span = trace_span!("symbols, file").entered();
    let (symbol_findings, ()) = rayon::join(
        || {
            let mut findings = Findings::default();
            symbols::check(&cx, &landed, &mut findings);
            findings
        },
        || {
            if let Some(frames) = &new_frames {
                unwind::check_header(old, new, frames, &mut findings);
            }
            if let (Some(old_frames), Some(new_frames)) = (&old_frames, &new_frames) {
                unwind::check_forms(&cx, (old_frames, new_frames), &mut findings);
                unwind::check_ends((old_frames, new_frames), &landed, &cx.new_live, &cx.functions, &mut findings);
            }
            file::check(&cx, &mut findings);
            gaps::check_residue(&cx, &mut findings);
        },
    );
    drop(span);
    findings.merge(symbol_findings);
    findings.merge(harvest.findings);
    add_notes(&mut findings);
    let mut proof = findings.into_proof();
    if options.table_targets {
        proof.table_targets = entries.iter().map(|entry| OldAddr::new(entry.target)).collect();
    }
    Some(proof)
}

/// Walks from all roots, reads the jump tables that turn up, and walks on until nothing is new.
fn walk_all(cx: &Context<'_, '_>, roots: &[u64], options: &CheckOptions) -> (Harvest, Vec<tables::Entry>) {
    let mut harvest = trace_span!("code").in_scope(|| walk(cx, roots));
    harvest.data_taken.extend_from_slice(&cx.fixed.taken);
    let span = trace_span!("tables").entered();
    let mut tables = tables::Tables::new(cx, &harvest.data_taken, &tables::sweep(cx), options.table_targets);
    drop(span);
    let _span = trace_span!("rest").entered();
    let mut rest_done = false;
    loop {
        let mut more = tables.read(&mut harvest.data_taken);
        // A case that cannot happen leads to the padding behind a function.
        let (inside, behind) = more.iter().partition(|&&target| cx.functions.extent(target).is_function);
        more = inside;
        harvest.weak_roots.extend::<Vec<u64>>(behind);
        more.sort_unstable();
        more.dedup();
        // Ends: each round but one visits an address that was not visited before.
        if !more.is_empty() {
            harvest = harvest.merge(walk(cx, &more));
        } else if rest_done {
            let (entries, kept) = tables.into_entries();
            harvest.findings.checked.table_entries += kept;
            return (harvest, entries);
        } else {
            rest_done = true;
            let code_taken = std::mem::take(&mut harvest.code_taken);
            taken::check(cx, &code_taken, &mut harvest.findings);
            let labels = std::mem::take(&mut harvest.weak_roots);
            harvest = harvest.merge(gaps::walk_rest(cx, labels));
        }
    }
}

fn walk(cx: &Context<'_, '_>, roots: &[u64]) -> Harvest {
    /// Roots that one thread takes at a time: enough of them to be worth a walker, if there are many.
    const MANY: usize = 1024;
    let some = (roots.len() / (rayon::current_num_threads() * 8)).clamp(1, MANY);
    roots
        .par_chunks(some)
        .with_max_len(1)
        .fold(
            || Walker::new(cx),
            |mut walker, roots| {
                roots.iter().for_each(|&root| walker.run(root));
                walker
            },
        )
        .map(|walker| walker.harvest)
        .reduce(Harvest::default, Harvest::merge)
}

fn read_frames<'d>(
    old: &Image<'d>,
    new: &Image<'d>,
    (old_code, new_code): (&CodeView<'_>, &CodeView<'_>),
    claim: &Claim<'_>,
    findings: &mut Findings,
) -> (Option<Frames<'d>>, Option<Frames<'d>>) {
    let (before, after) = rayon::join(
        || Frames::read(old, |addr| old_code.contains(addr), |addr| claim.to_new(addr)),
        || Frames::read(new, |addr| new_code.contains(addr), |addr| addr),
    );
    let mut fail = |addr: Option<u64>, text: String, message: &str| {
        findings.fail(Obligation::Unwinding, "eh-frame", (addr, None), (String::new(), text), message);
    };
    let before = before.unwrap_or_else(|error| {
        fail(None, error.to_string(), "the old .eh_frame cannot be read");
        None
    });
    let after = after.unwrap_or_else(|error| {
        fail(None, error.to_string(), "the new .eh_frame cannot be read");
        None
    });
    if before.is_some() != after.is_some() {
        fail(None, String::new(), "only one of the files has unwind tables");
    }
    let overlaps = |frames: &Frames<'_>| frames.frames.windows(2).filter(|pair| matches!(pair, [a, b] if a.end > b.start)).count();
    if let (Some(before), Some(after)) = (&before, &after)
        && overlaps(after) > overlaps(before)
    {
        fail(None, String::new(), "frames overlap that did not");
    }
    (before, after)
}

/// Whether `text` is a string at the start of `bytes`, which a zero or their end ends.
fn is_string(bytes: &[u8], text: &[u8]) -> bool {
    bytes.strip_prefix(text).is_some_and(|rest| rest.first().is_none_or(|&end| end == 0))
}

/// Address of the global offset table, as `_GLOBAL_OFFSET_TABLE_` means it.
fn got(old: &Image<'_>) -> u64 {
    let by_symbol = old.symtab().and_then(|table| {
        let name = |symbol: &Symbol| table.strings().get(symbol.name as usize..).unwrap_or(&[]);
        let mut symbols = table.iter();
        symbols.find(|symbol| is_string(name(symbol), b"_GLOBAL_OFFSET_TABLE_")).map(|symbol| symbol.value)
    });
    let by_section = || old.section(".got.plt").or_else(|| old.section(".got")).map_or(0, |(_, section)| section.addr);
    by_symbol.unwrap_or_else(by_section)
}

/// The tool that moved the code of `new` without telling where.
fn foreign(new: &Image<'_>, map: &AddressMap) -> Option<&'static str> {
    let is_bolt = new.section(".note.bolt_info").is_some() || new.section(".bolt.org.text").is_some();
    (map.ranges().is_empty() && is_bolt).then_some("llvm-bolt")
}

fn add_notes(findings: &mut Findings) {
    let checked = findings.checked;
    if checked.assumed_no_return > 0 {
        findings.notes.push(format!(
            "{} calls that end a function are taken not to return (docs/proof.md, A4)",
            checked.assumed_no_return
        ));
    }
    if checked.got_calls > 0 {
        findings.notes.push(format!(
            "{} calls through slots of the GOT became direct: nobody may write those slots once the file is relocated (docs/proof.md, A9)",
            checked.got_calls
        ));
    }
    if checked.folded_functions > 0 {
        findings.notes.push(format!(
            "{} functions have the code of equal ones: nobody may tell them apart by return addresses or by their names in backtraces (docs/proof.md, A10)",
            checked.folded_functions
        ));
    }
    if checked.undecoded_bytes > 0 {
        findings.notes.push(format!(
            "{} bytes of code are unknown to the second decoder; they did not move and were kept byte for byte",
            checked.undecoded_bytes
        ));
    }
    if checked.unreached_bytes > 0 {
        findings.notes.push(format!(
            "{} bytes among the code are reached by no known path; they were kept byte for byte",
            checked.unreached_bytes
        ));
    }
}
