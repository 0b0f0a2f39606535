//! `postlink optimize`.

mod options;
mod summary;

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use postlink_base::{Pages, digest};
use postlink_cfg::Program;
use postlink_image::Image;
use postlink_profile::{Profile, ProfileError, STALE_BELOW_PERCENT, Scanned, ShareOfCounts, attach_all, merge, scan_fdata};
use postlink_report::Diagnose as _;
use postlink_verify::Proof;

use super::bundle;
use crate::args::Optimize;
use crate::draft::{Draft, store};
use crate::evidence::{Evidence, Pair, record};
use crate::input::{self, Bytes};
use crate::kept_relocs;
use crate::outcome::{Stop, tell};
use crate::pipeline::{self, Failure, Options, Outcome};
use crate::report::{Report, Resource, file_name};
use crate::stages::Stages;
use options::{note_options, plan_options, selection};

pub(super) use options::{command_line, order_file};
use summary::{Samples, Summary};

/// What `optimize` does, said by its arguments; `demo` shares it.
pub(crate) fn run(arguments: &Optimize) -> Result<ExitCode, Stop> {
    use_threads(arguments)?;
    let mut stages = Stages::new();
    if arguments.time {
        stages.listen();
    }
    let bytes = stages.run("read", || input::read_program(&arguments.input))?;
    let mut taken = Vec::new();
    let profiles = profile_files(&arguments.profile).inspect(|file| {
        if let (Some(_), Ok((name, bytes))) = (&arguments.report, file) {
            taken.push(Resource::new(&file_name(Path::new(name)), bytes, Some("profile")));
        }
    });
    let done = optimize(&arguments.input, &bytes, profiles, arguments, Some(&arguments.output), &mut stages)?;
    if let Some(folder) = &arguments.report
        && let Some((report, evidence)) = done.report
    {
        let subject = Resource::new(&file_name(&arguments.output), &done.bytes, None);
        let mut dependencies = vec![Resource::new(&file_name(&arguments.input), &bytes, Some("old"))];
        dependencies.append(&mut taken);
        if let Some(order) = order_file(arguments) {
            dependencies.extend(Resource::read(Path::new(order), "function-order")?);
        }
        stages.run("report", || report.write(folder, &evidence, subject, dependencies))?;
    }
    stages.run("write", || store(&arguments.output, &done.bytes, &arguments.input, done.draft, &done.changed))?;
    if let Some(path) = &arguments.map_file {
        store(path, &done.map, &arguments.input, None, &[])?;
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

/// Takes as many threads as the arguments say.
pub(super) fn use_threads(arguments: &Optimize) -> Result<(), Stop> {
    match arguments.threads {
        None => Ok(()),
        Some(threads) => rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Stop::usage(format!("--threads {threads}: {error}"))),
    }
}

/// A finished output and what is to be said about it.
pub(crate) struct Done {
    pub(crate) bytes: Pages,
    pub(crate) map: Vec<u8>,
    pub(crate) summary: String,
    /// Written while the output was proven; see [`Options::draft`].
    draft: Option<Draft>,
    /// Where `bytes` differ from the draft.
    changed: Vec<Range<usize>>,
    /// With `--report`.
    report: Option<(Report, Evidence)>,
}

/// From the input's bytes to the output's. `draft`: where they go, if they are to be written meanwhile.
pub(crate) fn optimize(
    path: &Path,
    bytes: &[u8],
    mut profiles: impl Iterator<Item = Result<ProfileFile, Stop>> + Send,
    arguments: &Optimize,
    draft: Option<&Path>,
    stages: &mut Stages,
) -> Result<Done, Stop> {
    let image = input::parse_supported(path, bytes)?;
    let ahead = |profiles: &mut dyn Iterator<Item = Result<ProfileFile, Stop>>| {
        (profiles.next().map(|file| scan(&image, file)), digest(bytes))
    };
    let (program, (first, input_digest)) = if rayon::current_num_threads() > 1 {
        // Neither names nor digests need functions.
        thread::scope(|scope| {
            let (aside, profiles) = (stages.aside("profile"), &mut profiles);
            let reader = scope.spawn(move || aside.run(|| ahead(profiles)));
            let program = pipeline::front_end(&image, stages);
            (program, reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    } else {
        let done = stages.run("profile", || ahead(&mut profiles));
        (pipeline::front_end(&image, stages), done)
    };
    let mut program = program.map_err(|error| {
        Stop::refused("IMG002", format!("{}: {error}", path.display()))
            .hint("link the program again; if it stays, the compiler or assembler wrote a bad table")
    })?;
    let profile = stages.run("profile", || {
        let first = first.transpose()?.map(|scanned| scanned.bind(&program));
        merged(first, &program, profiles)
    })?;
    let attached = stages.run("attach", || profile.as_ref().map(|profile| attach_all(profile, &program)));
    if let Some(attached) = &attached {
        refuse_stale(attached.share, arguments.allow_stale)?;
    }
    let samples = attached.as_ref().map(|attached| Samples::new(&program, &attached.weights));
    let options = Options {
        plan: plan_options(&program, arguments)?,
        verify: !arguments.no_verify,
        no_map: arguments.no_map,
        keep_relocs: arguments.keep_relocs,
        keep_got_calls: arguments.keep_got_calls,
        input_digest,
        note_options: note_options(arguments),
        report: arguments.report.is_some(),
        draft: draft.map(Path::to_owned),
    };
    let mut may_move = selection(&program, arguments)?;
    let mut outcome = pipeline::back_end(&mut program, profile.as_ref().zip(attached), &mut may_move, &options, stages)
        .map_err(|failed| failure(failed, arguments))?;
    if options.keep_relocs && options.verify {
        stages.run("relocations", || check_relocations(&image, arguments, &outcome))?;
    }
    let map = std::mem::take(&mut outcome.output.encoded_map);
    let evidence = stages.run("evidence", || write_evidence(&image, &mut outcome, &map))?;
    let (evidence, changed) = evidence.unzip();
    let summary = Summary::new(&program, samples, &outcome, bytes.len());
    let mut report = None;
    if let (Some(evidence), Some(proof), true) = (evidence, &outcome.proof, options.report) {
        let new = input::parse(&arguments.output, &outcome.output.bytes)?;
        let mut made = stages.run("functions", || Report::new(&image, &new, &outcome.output.map, proof, &evidence))?;
        summary.add_to(&mut made)?;
        report = Some((made, evidence));
    }
    let summary = summary.text();
    let Outcome { output, plan, draft, .. } = outcome;
    // The process is about to end. To give all of this back, piece by piece, would take longer than what is left to do.
    std::mem::forget((program, profile, plan, output.map));
    Ok(Done { bytes: output.bytes, map, summary, draft, changed: changed.into_iter().collect(), report })
}

/// Refuses an output whose relocations do not give the words at their places.
fn check_relocations(old: &Image<'_>, arguments: &Optimize, outcome: &Outcome) -> Result<(), Stop> {
    let new = input::parse(&arguments.output, &outcome.output.bytes)?;
    kept_relocs::check(old, &new).map_err(|why| {
        Stop::contradiction("EMT004", why).hint("without --keep-relocs the output is written; please report it")
    })
}

/// Sums the proof up and puts the digest of that into the output's note, whose place it tells as well; `None` without
/// proof.
fn write_evidence(old: &Image<'_>, outcome: &mut Outcome, map: &[u8]) -> Result<Option<(Evidence, Range<usize>)>, Stop> {
    let Some(proof) = &outcome.proof else { return Ok(None) };
    let output = &mut outcome.output;
    let pair = Pair {
        old_blake3: outcome.note.input_blake3.clone(),
        new_size: output.bytes.len(),
        new_content: output.content,
    };
    let evidence = Evidence::new(old, pair, (&output.map, map), Some(&outcome.note), proof);
    let note_size = outcome.note.encode().len();
    let place = record(&evidence.bytes(), &mut output.bytes, output.note_offset, note_size)
        .ok_or_else(|| Stop::contradiction("EMT001", "the note has no place for the digest of the evidence"))?;
    Ok(Some((evidence, place)))
}

/// A profile's name for messages, and its bytes.
pub(crate) type ProfileFile = (String, Bytes);

/// Reads one file after the other, each when it is asked for: profiles are large, and nobody needs one
/// that has been taken in.
pub(crate) fn profile_files(paths: &[PathBuf]) -> impl Iterator<Item = Result<ProfileFile, Stop>> {
    paths.iter().map(|path| Ok((path.display().to_string(), Bytes::Read(input::read_aside(path)?))))
}

/// Takes in profiles and adds them up; `None` without files.
pub(crate) fn read_profiles(
    program: &Program<'_>,
    files: impl Iterator<Item = Result<ProfileFile, Stop>>,
) -> Result<Option<Profile>, Stop> {
    merged(None, program, files)
}

/// Takes in more profiles than the one that there may be already.
fn merged(
    first: Option<Profile>,
    program: &Program<'_>,
    files: impl Iterator<Item = Result<ProfileFile, Stop>>,
) -> Result<Option<Profile>, Stop> {
    let mut profiles = Vec::from_iter(first);
    for file in files {
        profiles.push(scan(program.image, file)?.bind(program));
    }
    if profiles.is_empty() {
        return Ok(None);
    }
    let profile = merge(profiles);
    profile.require_records().map_err(|error| refuse_profile("profile", &error))?;
    Ok(Some(profile))
}

/// Reads a profile, with the symbols of `image`.
fn scan(image: &Image<'_>, file: Result<ProfileFile, Stop>) -> Result<Scanned, Stop> {
    let (name, bytes) = file?;
    scan_fdata(&bytes, image).map_err(|error| refuse_profile(&name, &error))
}

fn refuse_profile(name: &str, error: &ProfileError) -> Stop {
    Stop::refused(error.code().as_str(), format!("{name}: {error}"))
        .hint("give a profile in BOLT's fdata text format, taken from this program")
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

fn failure(failure: Failure, arguments: &Optimize) -> Stop {
    let hint = format!(
        "this is a bug of postlink; to report it, if you may share the program, put all that shows it into one file:\n  {}",
        bundle::command_for(arguments)
    );
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn a_contradiction_names_the_command_that_bundles_it() {
        let line = ["postlink", "optimize", "dir/prog", "-o", "out", "-p", "a b", "--mode=hot"];
        let Ok(Arguments { command: Command::Optimize(arguments) }) = Arguments::try_parse_from(line) else {
            unreachable!("the line is one of optimize")
        };
        let stop = failure(Failure::Unreadable("why".to_owned()), &arguments);
        assert_eq!((stop.status(), stop.code()), (3, "POSTLINK_PROOF"));
        let command = "postlink bundle dir/prog -o prog.bundle.tar --profile 'a b' -- --mode=hot --seed=1";
        assert!(stop.text().lines().any(|line| line.trim() == command), "{}", stop.text());
    }
}
