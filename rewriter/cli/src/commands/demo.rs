//! `postlink demo`: the whole story on a program that the tool carries in itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use clap::Parser as _;
use postlink_base::AddressMap;
use postlink_cfg::{Class, build_cfg, recover};
use postlink_image::Image;
use postlink_profile::attach;
use postlink_verify::{CheckOptions, check, read_map};

use super::optimize::{ProfileFile, optimize, read_profiles};
use crate::args::{self, Arguments, Demo, Optimize};
use crate::blocks::taken;
use crate::input::Bytes;
use crate::outcome::Stop;
use crate::stages::Stages;

/// An interpreter of a small language, linked with `-Wl,-q`: testdata/demo/recipe made it.
const PROGRAM: &[u8] = include_bytes!("../../../../testdata/demo/tally");
/// How often each of its branches goes where, counted on one run.
const PROFILE: &[u8] = include_bytes!("../../../../testdata/demo/tally.fdata");

/// The profile, as if it had been read from a file.
fn profile() -> impl Iterator<Item = Result<ProfileFile, Stop>> {
    std::iter::once(Ok(("tally.fdata".to_owned(), Bytes::Given(PROFILE.into()))))
}

/// Timed runs of each program, one after the other in turn.
const RUNS: usize = 7;

pub(crate) fn run(arguments: &Demo) -> Result<ExitCode, Stop> {
    let temporary;
    let folder: &Path = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
            folder
        }
        None => {
            temporary = tempfile::Builder::new()
                .prefix("postlink-demo-")
                .tempdir()
                .map_err(|error| cannot("create a folder in", &std::env::temp_dir(), &error))?;
            temporary.path()
        }
    };
    let files = Files {
        old: folder.join("tally"),
        new: folder.join("tally.postlink"),
        profile: folder.join("tally.fdata"),
    };
    store(&files.old, PROGRAM)?;
    store(&files.profile, PROFILE)?;
    say(&format!(
        "1. The program: tally, a small interpreter ({} bytes, relocations kept), and its profile.\n   \
         $ postlink optimize tally -o tally.postlink --profile tally.fdata\n",
        PROGRAM.len()
    ));
    let done = optimize_it(&files)?;
    say(&indent(&done.summary));
    store(&files.new, &done.bytes)?;

    say("\n2. The proof, again, from the two files alone.\n   $ postlink verify tally tally.postlink\n");
    let proven = prove(&done.bytes)?;
    say(if proven { "   PROVEN: tally.postlink is the program tally\n" } else { "   NOT PROVEN\n" });

    say("\n3. Both programs run; their output is compared.\n");
    let (old, new) = (Runs::of(&files.old)?, Runs::of(&files.new)?);
    say(&indent(&String::from_utf8_lossy(&new.output.stdout)));
    let equal = old.output.stdout == new.output.stdout
        && old.output.stderr == new.output.stderr
        && old.output.status == new.output.status
        && old.output.status.success();
    say(if equal { "   same output, same exit status\n" } else { "   DIFFERENT output or exit status\n" });
    let (old, new) = time_in_turn(&files, old, new)?;

    say("\n4. Before and after.\n");
    say(&indent(&table(&done.bytes, &old, &new)?));
    if arguments.keep.is_some() {
        say(&format!("\nThe files are in {}.\n", folder.display()));
    } else {
        say("\nNext: `postlink demo --keep DIR` leaves the files; README.md tells how to do this with your own program.\n");
    }
    if equal && proven {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Stop::contradiction("POSTLINK_PROOF", "the demo's output is not the same program as its input")
        .hint("this is a bug of postlink: please report it, with this machine's processor and kernel version"))
}

struct Files {
    old: PathBuf,
    new: PathBuf,
    profile: PathBuf,
}

fn say(text: &str) {
    super::print(text);
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}

fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Stop {
    Stop::refused("CLI002", format!("cannot {what} {}: {error}", path.display()))
}

/// Writes an executable file.
fn store(path: &Path, bytes: &[u8]) -> Result<(), Stop> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).map_err(|error| cannot("write", path, &error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| cannot("write", path, &error))
}

/// Exactly what the command line does with these arguments.
fn optimize_it(files: &Files) -> Result<super::optimize::Done, Stop> {
    let text = |path: &Path| path.as_os_str().to_owned();
    let words = ["postlink".into(), "optimize".into(), text(&files.old), "-o".into(), text(&files.new), "-p".into(), text(&files.profile)];
    let options: Optimize = match Arguments::try_parse_from(words) {
        Ok(Arguments { command: args::Command::Optimize(options) }) => options,
        Ok(_) => return Err(Stop::usage("the demo's own arguments are not those of optimize")),
        Err(error) => return Err(Stop::usage(error.to_string())),
    };
    optimize(&files.old, PROGRAM, profile(), &options, None, &mut Stages::new())
}

fn prove(new: &[u8]) -> Result<bool, Stop> {
    let (old, new) = (parse(PROGRAM)?, parse(new)?);
    let Some(Ok(map)) = read_map(&new) else { return Ok(false) };
    Ok(check(&old, &new, &map, &CheckOptions::default()).is_proven())
}

fn parse(bytes: &[u8]) -> Result<Image<'_>, Stop> {
    Image::parse(bytes).map_err(|error| Stop::contradiction("IMG001", format!("the demo's own file: {error}")))
}

/// What one program did, and how long it took each time.
struct Runs {
    output: Output,
    times: Vec<Duration>,
}

impl Runs {
    fn of(path: &Path) -> Result<Self, Stop> {
        let (output, _) = execute(path)?;
        Ok(Self { output, times: Vec::new() })
    }

    fn again(&mut self, path: &Path) -> Result<(), Stop> {
        let (_, time) = execute(path)?;
        self.times.push(time);
        self.times.sort_unstable();
        Ok(())
    }

    fn milliseconds(&self, pick: impl Fn(&[Duration]) -> Option<&Duration>) -> f64 {
        pick(&self.times).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

fn execute(path: &Path) -> Result<(Output, Duration), Stop> {
    let start = Instant::now();
    let output = Command::new(path).output().map_err(|error| {
        cannot("run", path, &error)
            .hint("the folder for temporary files may forbid programs: name another one with --keep DIR or TMPDIR")
    })?;
    Ok((output, start.elapsed()))
}

/// In turn, so that whatever else the machine does hits both alike.
fn time_in_turn(files: &Files, mut old: Runs, mut new: Runs) -> Result<(Runs, Runs), Stop> {
    for _ in 0..RUNS {
        old.again(&files.old)?;
        new.again(&files.new)?;
    }
    Ok((old, new))
}

fn table(new_bytes: &[u8], old: &Runs, new: &Runs) -> Result<String, Stop> {
    let (image, new_image) = (parse(PROGRAM)?, parse(new_bytes)?);
    let program = recover(&image)
        .map_err(|error| Stop::contradiction("IMG002", format!("the demo's own file: {error}")))?;
    let map = match read_map(&new_image) {
        Some(Ok(map)) => map,
        _ => AddressMap::default(),
    };
    let profile = read_profiles(&program, profile())?;
    let (mut before, mut after) = (0u64, 0u64);
    if let Some(profile) = &profile {
        for (id, function) in program.functions.iter_enumerated() {
            if function.class != Class::Pinned {
                let cfg = build_cfg(&program, id);
                let (counts, _) = attach(profile, &program, &cfg);
                let (function_before, function_after) = taken(&cfg, &counts.edges, &map);
                before = before.saturating_add(function_before);
                after = after.saturating_add(function_after);
            }
        }
    }
    let mut out = String::new();
    let mut line = |what: &str, old: f64, new: f64, digits: usize| {
        let change = if old == 0.0 { 0.0 } else { (new / old - 1.0) * 100.0 };
        let _ = writeln!(out, "{what:<44} {old:>13.digits$} {new:>13.digits$} {change:>+8.1} %");
    };
    line("file size, bytes", PROGRAM.len() as f64, new_bytes.len() as f64, 0);
    line("jumps and taken branches, by the profile", before as f64, after as f64, 0);
    let median = |times: &[Duration]| times.len() / 2;
    line(
        &format!("median time of {RUNS} runs, ms (noisy)"),
        old.milliseconds(|times| times.get(median(times))),
        new.milliseconds(|times| times.get(median(times))),
        1,
    );
    line("fastest run, ms (noisy)", old.milliseconds(<[_]>::first), new.milliseconds(<[_]>::first), 1);
    Ok(format!("{:<44} {:>13} {:>13} {:>10}\n{out}", "", "before", "after", "change"))
}
