//! The pipeline: from the input's bytes to a proven output, each stage a pure function of the ones
//! before.

use std::path::PathBuf;
use std::thread;

use postlink_base::{AddressMap, Digest, IndexVec};
use postlink_cfg::{CfgError, FunctionCfg, FunctionId, Graphs, Program, References, recover};
use postlink_emit::{Assembled, EmitError, EmitOptions, Output, assemble, emit};
use postlink_image::Image;
use postlink_layout::{Counts, Placed, Plan, PlanOptions, Shapes, WeightedCall, Weights, shape};
use postlink_profile::{Attached, FunctionCounts, Profile, attach, call_arcs};
use postlink_verify::{Before, CheckOptions, Proof, Violation, check_with};

use crate::draft::Draft;
use crate::note::Note;
use crate::stages::Stages;

/// What the pipeline does, apart from the plan's own options.
pub(crate) struct Options {
    pub(crate) plan: PlanOptions,
    pub(crate) verify: bool,
    pub(crate) no_map: bool,
    pub(crate) keep_relocs: bool,
    /// Leave calls through the GOT as they are.
    pub(crate) keep_got_calls: bool,
    /// Digest of the input file.
    pub(crate) input_digest: Digest,
    /// Options as they go into the output's note: no paths, no time.
    pub(crate) note_options: Vec<String>,
    /// Keep what a report on functions needs.
    pub(crate) report: bool,
    /// Where the output goes, if it is to be written while it is proven.
    pub(crate) draft: Option<PathBuf>,
}

/// What came out.
pub(crate) struct Outcome {
    pub(crate) output: Output,
    /// The output's note; the digest of the evidence is not in it yet.
    pub(crate) note: Note,
    pub(crate) plan: Plan,
    pub(crate) proof: Option<Proof>,
    /// The output as it was proven, if [`Options::draft`] asked for it and it could be written.
    pub(crate) draft: Option<Draft>,
    /// Functions that stay because their new code could not be written or proven, with the reason.
    pub(crate) contained: Vec<(FunctionId, String)>,
    /// Functions that were to be taken apart moved as one piece, for want of room for program headers.
    pub(crate) whole_only: bool,
}

/// Why there is no output.
pub(crate) enum Failure {
    Emit(EmitError),
    /// The proof failed in a way that keeping functions does not mend; what was kept before, and why.
    Unproven(Box<Proof>, Vec<String>),
    /// The output cannot even be read back.
    Unreadable(String),
}

/// Rounds of keeping functions that failed; each round keeps at least one more.
const MAX_ROUNDS: usize = 24;

/// Recovers the program; see [`recover`].
pub(crate) fn front_end<'d>(image: &'d Image<'d>, stages: &mut Stages) -> Result<Program<'d>, CfgError> {
    stages.run("recover", || recover(image))
}

/// Plans, emits and proves, until every function that moves is proven. Of the program, functions and names are left.
pub(crate) fn back_end<'d>(
    program: &mut Program<'d>,
    profile: Option<(&Profile, Attached)>,
    may_move: &mut IndexVec<FunctionId, bool>,
    options: &Options,
    stages: &mut Stages,
) -> Result<Outcome, Failure> {
    let (profile, attached) = profile.unzip();
    let mut attached = attached.unwrap_or_default();
    let profile_digest = profile.map(|profile| profile.digest.to_string());
    let note = Note::new(program.image, options.input_digest, profile_digest, &options.note_options, options.verify);
    let mut emit_options = EmitOptions {
        note: note.encode(),
        no_map: options.no_map,
        may_move_headers: false,
        keep_relocs: options.keep_relocs,
    };
    let mut plan_options = options.plan.clone();
    let mut contained: Vec<(FunctionId, String)> = Vec::new();
    let weights = profile.map(|profile| stages.run("weigh", || weigh(program, profile, &attached)));
    let mut last: Option<Failure> = None;
    let mut before: Option<Before> = None;
    let mut forgotten = false;
    let mut stuck: Vec<(FunctionId, String)> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        if std::mem::take(&mut forgotten) {
            *program = front_end(program.image, stages).map_err(|error| Failure::Unreadable(error.to_string()))?;
        }
        if !stuck.is_empty() && !keep_surroundings(program, std::mem::take(&mut stuck), may_move, &mut contained) {
            break;
        }
        let counts = |cfg: &FunctionCfg| match attached.counts_of(cfg.function) {
            Some(known) => layout_counts(known.clone()),
            None => counts_of(program, profile, cfg),
        };
        let weights = weights.as_ref().map(|weights| Weights {
            functions: &weights.functions,
            calls: &weights.calls,
            counts: &counts,
        });
        let shapes = stages.run("plan", || shape(program, &attached.graphs, weights.as_ref(), &plan_options, may_move));
        let (order, assembled) = order_and_assemble(program, &attached.graphs, &shapes, weights.as_ref(), (&plan_options, options.keep_got_calls), stages);
        let plan = shapes.into_plan(plan_options.mode, order);
        // A later round is rare and builds them again. To free them takes a while, and somebody has the time.
        let graphs = std::mem::take(&mut attached);
        rayon::spawn(move || drop(graphs));
        let output = match assembled.and_then(|assembled| {
            emit_and_read_before((program, assembled, &plan, &emit_options), options.verify.then_some(&mut before), stages)
        }) {
            Ok(output) => output,
            // Less to add needs less room; the table itself moves only when nothing else helps.
            Err(EmitError::HeaderRoom) if !plan_options.whole_only && !emit_options.may_move_headers => {
                plan_options.whole_only = true;
                continue;
            }
            Err(EmitError::HeaderRoom) if !emit_options.may_move_headers => {
                emit_options.may_move_headers = true;
                plan_options = options.plan.clone();
                continue;
            }
            Err(error) => {
                let culprit = culprit(program, &error);
                match culprit {
                    Some(id) if keep(id, error.to_string(), may_move, &mut contained) => {
                        last = Some(Failure::Emit(error));
                        continue;
                    }
                    _ => return Err(Failure::Emit(error)),
                }
            }
        };
        if !options.verify {
            let whole_only = plan_options.whole_only && options.plan.rearranges();
            return Ok(Outcome { output, note, plan, proof: None, draft: None, contained, whole_only });
        }
        // The proof needs the memory more; another round is rare.
        let references = program.take_references();
        forgotten = true;
        let (proof, draft) = prove_and_draft(program.image, references, &mut before, &output, options, stages);
        let proof = proof?;
        if proof.is_proven() {
            let whole_only = plan_options.whole_only && options.plan.rearranges();
            return Ok(Outcome { output, note, plan, proof: Some(proof), draft, contained, whole_only });
        }
        drop(draft);
        let mut progress = false;
        // What stands behind an unknown instruction was not looked at: others may only follow from that.
        let is_unknown = |violation: &&Violation| violation.rule == "undecodable";
        let only_unknown = proof.violations.iter().any(|violation| is_unknown(&violation));
        for violation in proof.violations.iter().filter(|violation| !only_unknown || is_unknown(violation)) {
            // The checker does not know functions in assembly that have no size.
            if let Some(id) = violation.function.or(violation.old_addr).and_then(|addr| program.function_at(addr.raw())) {
                let why = format!(
                    "{} {}: {}; old {} `{}`, new {} `{}`",
                    violation.obligation.id(),
                    violation.rule,
                    violation.message,
                    violation.old_addr.map_or_else(|| "-".to_owned(), |addr| addr.to_string()),
                    violation.old_text,
                    violation.new_addr.map_or_else(|| "-".to_owned(), |addr| addr.to_string()),
                    violation.new_text,
                );
                if keep(id, why.clone(), may_move, &mut contained) {
                    progress = true;
                } else {
                    stuck.push((id, why));
                }
            }
        }
        let kept = contained.iter().map(|(_, why)| why.clone()).collect();
        let failure = Failure::Unproven(Box::new(proof), kept);
        if progress {
            stuck.clear();
        } else if stuck.is_empty() {
            return Err(failure);
        }
        last = Some(failure);
    }
    Err(last.unwrap_or_else(|| Failure::Unreadable("no round was made".into())))
}

/// Orders the functions and assembles them, beside each other: neither needs the other.
fn order_and_assemble(
    program: &Program<'_>,
    graphs: &Graphs,
    shapes: &Shapes,
    weights: Option<&Weights<'_>>,
    (options, keep_got_calls): (&PlanOptions, bool),
    stages: &mut Stages,
) -> (Vec<Placed>, Result<Assembled, EmitError>) {
    let aside = stages.aside("order");
    stages.run("assemble", || {
        rayon::join(
            || aside.run(|| shapes.order(program, weights, options)),
            || assemble(program, graphs, shapes.functions(), keep_got_calls),
        )
    })
}

/// Takes what these functions lead to out of the plan, themselves being out of it already: nothing in them has to change then.
/// Says whether something was in it.
fn keep_surroundings(
    program: &Program<'_>,
    stuck: Vec<(FunctionId, String)>,
    may_move: &mut IndexVec<FunctionId, bool>,
    contained: &mut Vec<(FunctionId, String)>,
) -> bool {
    let mut progress = false;
    for (id, why) in stuck {
        let others = program.fixups[id].iter().filter_map(|fixup| program.function_at(fixup.target));
        for other in others {
            progress |= keep(other, why.clone(), may_move, contained);
        }
    }
    progress
}

/// Takes a function out of the plan; says whether it was in it.
fn keep(
    id: FunctionId,
    why: String,
    may_move: &mut IndexVec<FunctionId, bool>,
    contained: &mut Vec<(FunctionId, String)>,
) -> bool {
    let fresh = std::mem::replace(&mut may_move[id], false);
    if fresh {
        contained.push((id, why));
    }
    fresh
}

/// Emits. Meanwhile what the proof takes from the input alone is read into `before`, unless it is there already: emission
/// has stretches that only one thread works on.
fn emit_and_read_before(
    (program, assembled, plan, emit_options): (&Program<'_>, Assembled, &Plan, &EmitOptions),
    before: Option<&mut Option<Before>>,
    stages: &mut Stages,
) -> Result<Output, EmitError> {
    thread::scope(|scope| {
        // One thread means one.
        if let Some(before) = before.filter(|before| before.is_none() && rayon::current_num_threads() > 1) {
            let aside = stages.aside("proof's input");
            scope.spawn(move || *before = Some(aside.run(|| Before::read(program.image))));
        }
        stages.run("emit", || emit(program, assembled, plan, emit_options))
    })
}

/// Proves the output. Meanwhile a thread of its own, for which the system does most of the work, frees `references`, which the
/// proof does not need, and writes the draft.
fn prove_and_draft(
    old: &Image<'_>,
    references: References,
    before: &mut Option<Before>,
    output: &Output,
    options: &Options,
    stages: &mut Stages,
) -> (Result<Proof, Failure>, Option<Draft>) {
    // One thread means one.
    let path = options.draft.as_ref().filter(|_| rayon::current_num_threads() > 1);
    thread::scope(|scope| {
        let writer = path.map(|path| {
            let aside = stages.aside("write");
            scope.spawn(move || {
                drop(references);
                aside.run(|| Draft::write(path, &output.bytes).ok())
            })
        });
        let proof = stages.run("verify", || {
            let before = before.get_or_insert_with(|| Before::read(old));
            prove((before, old), &output.bytes, &output.map, options.report)
        });
        let Some(writer) = writer else { return (proof, None) };
        match stages.run("write", || writer.join()) {
            Ok(draft) => (proof, draft),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn prove((before, old): (&Before, &Image<'_>), new: &[u8], map: &AddressMap, report: bool) -> Result<Proof, Failure> {
    let new = Image::parse(new).map_err(|error| Failure::Unreadable(error.to_string()))?;
    let mut options = CheckOptions::default();
    options.table_targets = report;
    Ok(check_with(before, (old, &new), map, &options))
}

/// The function at fault for a failure of emission, if it is one function's.
fn culprit(program: &Program<'_>, error: &EmitError) -> Option<FunctionId> {
    match error {
        EmitError::Function { start, .. } => program.function_at(*start),
        EmitError::Unwind(error) => program.function_at(error.function),
        EmitError::Field { target, .. } => program.function_at(*target),
        _ => None,
    }
}

struct ProgramWeights {
    functions: IndexVec<FunctionId, (u64, u64)>,
    calls: Vec<WeightedCall>,
}

fn weigh(program: &Program<'_>, profile: &Profile, attached: &Attached) -> ProgramWeights {
    let functions = attached.weights.iter().map(|weight| (weight.samples, weight.entries)).collect();
    let calls = call_arcs(profile, program)
        .into_iter()
        .map(|call| WeightedCall { caller: call.caller, callee: call.callee, count: call.count, from: call.from })
        .collect();
    ProgramWeights { functions, calls }
}

fn counts_of(program: &Program<'_>, profile: Option<&Profile>, cfg: &FunctionCfg) -> Counts {
    match profile {
        Some(profile) => layout_counts(attach(profile, program, cfg).0),
        None => Counts {
            blocks: vec![0; cfg.blocks.len()],
            edges: vec![0; cfg.edges.len()],
            inside_known: false,
        },
    }
}

fn layout_counts(counts: FunctionCounts) -> Counts {
    Counts { blocks: counts.blocks, edges: counts.edges, inside_known: counts.inside_known }
}
