//! `postlink optimize`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use postlink_base::IndexVec;
use postlink_cfg::{Class, FunctionId, Program};
use postlink_layout::{BlockOrderChoice, FunctionOrderChoice, FunctionPlan, Mode, PlanOptions, SplitChoice};
use postlink_profile::{
    Profile, ProfileError, STALE_BELOW_PERCENT, ShareOfCounts, attach_all, function_weights, merge, read_fdata,
};
use postlink_report::Diagnose as _;
use postlink_verify::Proof;

use crate::args::{BlockOrderArg, ModeArg, Optimize, SplitArg};
use crate::input;
use crate::outcome::{Stop, tell};
use crate::pipeline::{self, Failure, Options, Outcome};
use crate::stages::Stages;

/// What `optimize` does, said by its arguments; `demo` shares it.
pub(crate) fn run(arguments: &Optimize) -> Result<ExitCode, Stop> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Stop::usage(format!("--threads {threads}: {error}")))?;
    }
    let mut stages = Stages::new();
    if arguments.time {
        stages.listen();
    }
    let bytes = stages.run("read", || input::read(&arguments.input))?;
    let done = optimize(&arguments.input, &bytes, profile_files(&arguments.profile), arguments, &mut stages)?;
    stages.run("write", || store(&arguments.output, &done.bytes, &arguments.input))?;
    if let Some(path) = &arguments.map_file {
        store(path, &done.map, &arguments.input)?;
    }
    if !arguments.quiet {
        tell(&done.summary);
        tell(&format!("wrote {} in {:.2} s\n", arguments.output.display(), stages.total()));
    }
    if arguments.time {
        tell(&stages.text());
    }
    Ok(ExitCode::SUCCESS)
}

/// A finished output and what is to be said about it.
pub(crate) struct Done {
    pub(crate) bytes: Vec<u8>,
    pub(crate) map: Vec<u8>,
    pub(crate) summary: String,
}

/// From the input's bytes to the output's.
pub(crate) fn optimize(
    path: &Path,
    bytes: &[u8],
    profiles: impl Iterator<Item = Result<ProfileFile, Stop>>,
    arguments: &Optimize,
    stages: &mut Stages,
) -> Result<Done, Stop> {
    let image = input::parse_supported(path, bytes)?;
    let program = pipeline::front_end(&image, stages).map_err(|error| {
        Stop::refused("IMG002", format!("{}: {error}", path.display()))
            .hint("link the program again; if it stays, the compiler or assembler wrote a bad table")
    })?;
    let profile = stages.run("profile", || read_profiles(&program, profiles))?;
    let attached = stages.run("attach", || profile.as_ref().map(|profile| attach_all(profile, &program)));
    if let Some(attached) = &attached {
        refuse_stale(attached.share, arguments.allow_stale)?;
    }
    let options = Options {
        plan: plan_options(&program, arguments)?,
        verify: !arguments.no_verify,
        no_map: arguments.no_map,
        note_options: note_options(arguments),
    };
    let mut may_move = selection(&program, arguments)?;
    let outcome = pipeline::back_end(&program, profile.as_ref().zip(attached), &mut may_move, &options, stages).map_err(failure)?;
    let summary = summary(&program, profile.as_ref(), &outcome, bytes.len());
    let map = outcome.output.map.encode();
    Ok(Done { bytes: outcome.output.bytes, map, summary })
}

/// A profile's name for messages, and its bytes.
pub(crate) type ProfileFile = (String, Cow<'static, [u8]>);

/// Reads one file after the other, each when it is asked for: profiles are large, and nobody needs one
/// that has been taken in.
pub(crate) fn profile_files(paths: &[PathBuf]) -> impl Iterator<Item = Result<ProfileFile, Stop>> {
    paths.iter().map(|path| Ok((path.display().to_string(), input::read(path)?.into())))
}

/// Takes in profiles and adds them up; `None` without files.
pub(crate) fn read_profiles(
    program: &Program<'_>,
    files: impl Iterator<Item = Result<ProfileFile, Stop>>,
) -> Result<Option<Profile>, Stop> {
    let refuse = |name: &str, error: &ProfileError| {
        Stop::refused(error.code().as_str(), format!("{name}: {error}"))
            .hint("give a profile in BOLT's fdata text format, taken from this program")
    };
    let mut profiles = Vec::new();
    for file in files {
        let (name, bytes) = file?;
        profiles.push(read_fdata(&bytes, program).map_err(|error| refuse(&name, &error))?);
    }
    if profiles.is_empty() {
        return Ok(None);
    }
    let profile = merge(profiles);
    profile.require_records().map_err(|error| refuse("profile", &error))?;
    Ok(Some(profile))
}

/// Refuses a profile of another program.
fn refuse_stale(share: ShareOfCounts, allow_stale: bool) -> Result<(), Stop> {
    if !share.is_stale() || allow_stale {
        return Ok(());
    }
    Err(Stop::refused(
        "POSTLINK_PROFILE_STALE",
        format!(
            "only {} % of the profile's counts fit this program ({} of {}; at least {STALE_BELOW_PERCENT} % must)",
            share.percent(),
            share.matched,
            share.total
        ),
    )
    .hint("take a profile of this very build, or accept the loss with --allow-stale"))
}

/// Options for the note: what changes the output, and nothing that names a place or a time.
fn note_options(arguments: &Optimize) -> Vec<String> {
    let mut options = vec![format!("mode={}", if arguments.mode == ModeArg::Hot { "hot" } else { "full" })];
    if let Some(order) = arguments.block_order {
        options.push(format!("block-order={}", value_name(&order)));
    }
    if let Some(order) = arguments.function_order.as_deref() {
        let known = ["cdsort", "hfsort", "keep", "reverse", "random"].contains(&order);
        options.push(format!("function-order={}", if known { order } else { "file" }));
    }
    if let Some(split) = arguments.split {
        options.push(format!("split={}", value_name(&split)));
    }
    options.push(format!("seed={}", arguments.seed));
    options
}

fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn failure(failure: Failure) -> Stop {
    let hint = "this is a bug of postlink; keep the input and the options to report it";
    match failure {
        Failure::Emit(error) => Stop::contradiction("EMT001", error.to_string()).hint(hint),
        Failure::Unreadable(what) => {
            Stop::contradiction("POSTLINK_PROOF", format!("the output cannot be read back: {what}")).hint(hint)
        }
        Failure::Unproven(proof, kept) => {
            let mut text = format!("the output is not proven\n{}", violations(&proof, 10));
            for why in kept.iter().take(5) {
                let _ = writeln!(text, "  kept before that: {why}");
            }
            Stop::contradiction("POSTLINK_PROOF", text).hint(hint)
        }
    }
}

/// The first violations, one paragraph each.
pub(crate) fn violations(proof: &Proof, limit: usize) -> String {
    let mut out = String::new();
    for violation in proof.violations.iter().take(limit) {
        let place = |addr: Option<u64>| addr.map_or_else(|| "-".to_owned(), |addr| format!("{addr:#x}"));
        let _ = writeln!(
            out,
            "  {} {}: {}\n    old {} {}\n    new {} {}",
            violation.obligation.id(),
            violation.rule,
            violation.message,
            place(violation.old_addr.map(|addr| addr.raw())),
            violation.old_text,
            place(violation.new_addr.map(|addr| addr.raw())),
            violation.new_text
        );
    }
    let rest = proof.violations.len().saturating_sub(limit);
    if rest > 0 {
        let _ = writeln!(out, "  and {rest} more");
    }
    out
}

fn summary(program: &Program<'_>, profile: Option<&Profile>, outcome: &Outcome, old_size: usize) -> String {
    let mut out = String::new();
    let mut counts = [0u64; 3];
    let mut split = 0u64;
    for plan in outcome.plan.functions.iter() {
        match plan {
            FunctionPlan::Stay => counts[0] += 1,
            FunctionPlan::Whole { .. } => counts[1] += 1,
            FunctionPlan::Relay { fragments, .. } => {
                counts[2] += 1;
                split += u64::from(fragments.len() > 1);
            }
        }
    }
    let total = program.functions.len();
    let _ = writeln!(
        out,
        "functions  {total}: {} laid out anew ({split} split), {} moved whole, {} kept in place",
        counts[2], counts[1], counts[0]
    );
    let pinned = program.functions.iter().filter(|function| {
        function.class == Class::Pinned && function.reason != Some(postlink_cfg::Reason::SectionStays)
    });
    let rigid = program.functions.iter().filter(|function| function.class == Class::Rigid).count();
    let pinned = pinned.count();
    if rigid + pinned > 0 {
        let _ = writeln!(out, "           {rigid} rigid, {pinned} pinned: `postlink doctor` names the reasons");
    }
    if let Some(profile) = profile {
        let weights = function_weights(profile, program);
        let all: u64 = weights.iter().fold(0, |sum, weight| sum.saturating_add(weight.samples));
        let free: u64 = weights
            .iter_enumerated()
            .filter(|(id, _)| program.functions[*id].class == Class::Free)
            .fold(0, |sum, (_, weight)| sum.saturating_add(weight.samples));
        let hot = weights.iter().filter(|weight| weight.samples > 0).count();
        let _ = writeln!(
            out,
            "profile    {hot} functions with samples; {:.2} % of all samples in functions that may be rearranged",
            percent(free, all)
        );
    }
    for (id, why) in &outcome.contained {
        let _ = writeln!(out, "kept       {} [CFG020]: {why}", program.name(*id));
    }
    if let Some(proof) = &outcome.proof {
        let checked = &proof.checked;
        let _ = writeln!(
            out,
            "proof      P1-P7 hold: {} functions, {} instructions, {} pointers, {} table entries, {} unwind rows",
            checked.functions, checked.instructions, checked.pointers, checked.table_entries, checked.unwind_rows
        );
    }
    let new_size = outcome.output.bytes.len();
    let _ = writeln!(
        out,
        "size       {old_size} -> {new_size} bytes ({:+.1} %), {} bytes of code behind the old text",
        (new_size as f64 / old_size as f64 - 1.0) * 100.0,
        outcome.output.appended_code
    );
    if outcome.whole_only {
        let _ = writeln!(
            out,
            "warning[{}]: the program header table has little room to grow: functions were moved as one piece",
            "EMT002"
        );
    }
    if outcome.output.moved_headers {
        let _ = writeln!(
            out,
            "warning[{}]: the program header table had to move: do not run strip on the output (llvm-strip works)",
            "EMT003"
        );
    }
    if !outcome.output.dropped_sections.is_empty() {
        let _ = writeln!(
            out,
            "warning[POSTLINK_SECTION]: debug information is left out: {}",
            outcome.output.dropped_sections.join(" ")
        );
    }
    out
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn plan_options(program: &Program<'_>, arguments: &Optimize) -> Result<PlanOptions, Stop> {
    let has_profile = !arguments.profile.is_empty();
    let block_order = match arguments.block_order {
        Some(BlockOrderArg::ExtTsp) => BlockOrderChoice::ExtTsp,
        Some(BlockOrderArg::Keep) => BlockOrderChoice::Keep,
        Some(BlockOrderArg::Reverse) => BlockOrderChoice::Reverse,
        Some(BlockOrderArg::Random) => BlockOrderChoice::Random,
        None if has_profile => BlockOrderChoice::ExtTsp,
        None => BlockOrderChoice::Keep,
    };
    let split = match arguments.split {
        Some(SplitArg::Cold) => SplitChoice::Cold,
        Some(SplitArg::All) => SplitChoice::All,
        Some(SplitArg::Random) => SplitChoice::Random,
        Some(SplitArg::None) => SplitChoice::None,
        None if has_profile => SplitChoice::Cold,
        None => SplitChoice::None,
    };
    let function_order = match arguments.function_order.as_deref() {
        Some("cdsort") => FunctionOrderChoice::CdSort,
        Some("hfsort") => FunctionOrderChoice::HfSort,
        Some("keep") => FunctionOrderChoice::Keep,
        Some("reverse") => FunctionOrderChoice::Reverse,
        Some("random") => FunctionOrderChoice::Random,
        Some(file) => FunctionOrderChoice::List(order_file(program, file)?),
        None if has_profile => FunctionOrderChoice::CdSort,
        None => FunctionOrderChoice::Keep,
    };
    Ok(PlanOptions {
        mode: match arguments.mode {
            ModeArg::Full => Mode::Full,
            ModeArg::Hot => Mode::Hot,
        },
        block_order,
        function_order,
        split,
        seed: arguments.seed,
        hot_all: arguments.hot_all,
        whole_only: false,
    })
}

/// Reads an order file: one symbol per line; empty lines and lines that start with `#` are skipped.
fn order_file(program: &Program<'_>, file: &str) -> Result<Vec<FunctionId>, Stop> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Stop::usage(format!("--function-order {file}: {error}"))
            .hint("give cdsort, hfsort, keep, reverse, random, or a file with one function name per line")
    })?;
    let names = super::dump::names(program);
    let wanted = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    // A name that is not there is no error: order files outlive programs.
    Ok(wanted.filter_map(|name| names.get(name.as_bytes()).copied()).collect())
}

/// Which functions the user allows to move.
fn selection(program: &Program<'_>, arguments: &Optimize) -> Result<IndexVec<FunctionId, bool>, Stop> {
    let all = arguments.only.is_empty();
    let mut may_move: IndexVec<FunctionId, bool> = program.functions.iter().map(|_| all).collect();
    for name in &arguments.only {
        may_move[super::dump::find(program, name)?] = true;
    }
    for name in &arguments.skip {
        may_move[super::dump::find(program, name)?] = false;
    }
    if let Some(limit) = arguments.max_functions {
        let mut left = limit;
        for (id, function) in program.functions.iter_enumerated() {
            if may_move[id] && function.class != Class::Pinned {
                may_move[id] = left > 0;
                left = left.saturating_sub(1);
            }
        }
    }
    Ok(may_move)
}

/// Writes the output beside its final name and renames it, so that no half-written file ever has that
/// name; with the input's permissions.
fn store(path: &Path, bytes: &[u8], input: &Path) -> Result<(), Stop> {
    let fail = |error: &dyn std::fmt::Display| {
        Stop::refused("CLI002", format!("cannot write {}: {error}", path.display()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(|error| fail(&error))?;
    input::write(file.as_file(), bytes).map_err(|error| fail(&error))?;
    let permissions = std::fs::metadata(input).map_err(|error| fail(&error))?.permissions();
    std::fs::set_permissions(file.path(), permissions).map_err(|error| fail(&error))?;
    file.persist(path).map_err(|error| fail(&error.error))?;
    Ok(())
}
