//! One build through all its layouts.
use crate::build::{self, Built, RUN_LIMIT, Toolchain};
use crate::checks::{self, Functions};
use crate::layouts::{self, Layout, Order, Request, Tool};
use crate::outcome::{Failure, Tally};
use crate::process::{Finished, Line};
use crate::select::{self, Build};
use crate::{Settings, build_failure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const OPTIMIZE_LIMIT: Duration = Duration::from_secs(120);

/// Everything about the original that outputs are compared with.
struct Original {
    built: Built,
    complaints: Vec<BTreeSet<String>>,
    functions: Vec<Functions>,
    profiles: Vec<PathBuf>,
    gdb: Option<Vec<String>>,
}

/// What failed, the first line of the message being its cause.
type Broken = (&'static str, String);

fn setup(message: impl ToString) -> Broken {
    ("setup", message.to_string())
}

/// Builds the original and tries every layout.
pub(crate) fn run_build(settings: &Settings, toolchain: &Toolchain, build: &Build<'_>) -> Tally {
    let mut tally = Tally::default();
    let label = build.label();
    let built = match build::make(settings, toolchain, build) {
        Ok(built) => built,
        Err((kind, message, commands)) => {
            tally.failures.push(build_failure(label, kind, message, commands));
            return tally;
        }
    };
    let commands = built.commands.clone();
    let original = match describe(toolchain, build, built) {
        Ok(original) => original,
        Err((kind, message)) => {
            tally.failures.push(build_failure(label, kind, message, commands));
            return tally;
        }
    };
    tally.passed += 1;
    for (index, layout) in layouts::all().enumerate() {
        let wanted = if settings.layouts.is_empty() {
            settings.all || select::includes_layout(build, index)
        } else {
            settings.layouts.contains(&layout.to_string())
        };
        if !wanted {
            continue;
        }
        let splits = matches!(layout.order, Order::Random1 | Order::Random2 | Order::SplitAll | Order::Profile);
        if build.case.whole && splits {
            continue;
        }
        let folder = settings.scratch.join("rewritten").join(label.replace([':', '/'], "_")).join(layout.to_string());
        let mut trial =
            Trial {
                settings,
                toolchain,
                build,
                original: &original,
                layout,
                folder,
                commands: commands.clone(),
                unstrippable: false,
            };
        match trial.run(&mut tally) {
            Ok(()) => {
                tally.passed += 1;
                let _ = std::fs::remove_dir_all(&trial.folder);
            }
            Err((kind, message)) => tally.failures.push(Failure {
                label: label.clone(),
                layout: layout.to_string(),
                kind,
                message,
                commands: trial.commands,
                kept: Some(trial.folder),
            }),
        }
    }
    tally
}

fn describe(toolchain: &Toolchain, build: &Build<'_>, built: Built) -> Result<Original, Broken> {
    let (mut complaints, mut functions, mut profiles) = (Vec::new(), Vec::new(), Vec::new());
    for (index, image) in built.images.iter().enumerate() {
        let path = built.folder.join(image);
        complaints.push(checks::readelf_complaints(&path, &built.folder).map_err(setup)?);
        functions.push(checks::functions(&path).map_err(setup)?);
        let profile = built.folder.join(format!("{image}.v4.fdata"));
        if !profile.exists() {
            let measured = if index == 0 && build.case.instrumented {
                instrumented_profile(toolchain, build, &built)?
            } else {
                None
            };
            let text = match measured {
                Some(text) => text,
                None => checks::synthetic_profile(&path, &built.folder).map_err(setup)?,
            };
            std::fs::write(&profile, text).map_err(setup)?;
        }
        profiles.push(profile);
    }
    let gdb = match (&build.case.gdb, build.kind) {
        (Some(function), "exec" | "pie" | "static") => {
            let run = build::run_line(toolchain, build, &built.folder);
            Some(checks::gdb_frames(&run, function, &built.folder).map_err(|error| ("gdb on the original", error))?)
        }
        _ => None,
    };
    Ok(Original { built, complaints, functions, profiles, gdb })
}

/// Counts from an instrumented run; `None` where llvm-bolt is not installed or does not know the kind of file.
fn instrumented_profile(toolchain: &Toolchain, build: &Build<'_>, built: &Built) -> Result<Option<String>, Broken> {
    let bolt = toolchain.llvm.join("llvm-bolt");
    if !bolt.exists() || !matches!(build.kind, "exec" | "pie") {
        return Ok(None);
    }
    let folder = built.folder.join("instrumented");
    std::fs::create_dir_all(&folder).map_err(setup)?;
    let image = &built.images[0];
    let counts = folder.join("counts.fdata");
    let line = Line::new(
        &folder,
        [
            bolt.to_string_lossy().into_owned(),
            built.folder.join(image).to_string_lossy().into_owned(),
            "-instrument".to_owned(),
            format!("-instrumentation-file={}", counts.display()),
            "-o".to_owned(),
            folder.join(image).to_string_lossy().into_owned(),
        ],
    );
    let finished = line.run(&folder, OPTIMIZE_LIMIT).map_err(setup)?;
    if !finished.succeeded() {
        return Ok(None);
    }
    let _ = build::run_line(toolchain, build, &folder).run(&folder, RUN_LIMIT).map_err(setup)?;
    Ok(std::fs::read_to_string(counts).ok().filter(|text| !text.is_empty()))
}

struct Trial<'a> {
    settings: &'a Settings,
    toolchain: &'a Toolchain,
    build: &'a Build<'a>,
    original: &'a Original,
    layout: Layout,
    folder: PathBuf,
    /// Everything typed so far, for the reader who wants to see the failure again.
    commands: Vec<String>,
    /// The tool warned that the output does not survive GNU strip.
    unstrippable: bool,
}

impl Trial<'_> {
    fn run(&mut self, tally: &mut Tally) -> Result<(), Broken> {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).map_err(setup)?;
        let original = self.original;
        for (index, image) in original.built.images.iter().enumerate() {
            let old = original.built.folder.join(image);
            let new = self.folder.join(image);
            self.rewrite(&old, &new, &original.profiles[index], 2)?;
            self.check_file(index, &old, &new, tally)?;
        }
        let folder = self.folder.clone();
        self.compare_run(&folder, "")?;
        // The dearer checks: on one layout of each mode.
        if self.layout.order == Order::Random1 {
            self.check_determinism()?;
        }
        if self.layout.order == Order::Reverse && !self.unstrippable {
            self.check_roundtrip("strip", &["strip"])?;
            self.check_roundtrip("objcopy", &["objcopy", "--strip-debug"])?;
        }
        if self.layout.order == Order::SplitAll {
            self.check_gdb()?;
        }
        Ok(())
    }

    fn rewrite(&mut self, old: &Path, new: &Path, profile: &Path, threads: u32) -> Result<(), Broken> {
        let request = Request { layout: self.layout, old, new, profile, threads };
        let line = self.settings.tool.line(&self.toolchain.llvm, &self.folder, &request);
        self.commands.push(line.shell());
        let finished = line.run(&self.folder, OPTIMIZE_LIMIT).map_err(setup)?;
        let kind = match finished.status.as_str() {
            "exit 0" if new.exists() => {
                // The tool says itself that GNU strip cannot handle this output (report/CODES.md).
                let said = String::from_utf8_lossy(&finished.stderr);
                self.unstrippable |= said.contains("[EMT003]");
                // The output is right, but the first one was not.
                let may_be_kept = |line: &&str| self.build.case.kept.iter().any(|name| line.contains(&format!(" {name} [CFG020]")));
                return match said.lines().find(|line| line.contains("[CFG020]") && !may_be_kept(line)) {
                    Some(line) => Err(("kept because of the proof", line.to_owned())),
                    None => Ok(()),
                };
            }
            "exit 0" => "no output with exit status 0",
            "exit 1" => "refused",
            "exit 2" => "usage error",
            "exit 3" => "contradicted itself",
            "timeout" => "tool timeout",
            _ => "tool died",
        };
        Err((kind, format!("{}\n{}", cause(&finished), finished.excerpt())))
    }

    fn check_file(&self, index: usize, old: &Path, new: &Path, tally: &mut Tally) -> Result<(), Broken> {
        let complaints = checks::readelf_complaints(new, &self.folder).map_err(|error| ("readelf", error))?;
        if let Some(complaint) = complaints.difference(&self.original.complaints[index]).next() {
            return Err(("readelf", format!("new complaint (hexadecimal digits left out): {complaint}")));
        }
        let functions = checks::functions(new).map_err(|error| ("symbols", error))?;
        let (count, moved) =
            checks::moved(&self.original.functions[index], &functions).map_err(|error| ("symbols", error))?;
        let size = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len()).map_err(setup);
        let numbers = [1, size(old)?, size(new)?, count, moved];
        let sums = tally.layouts.entry(self.layout.to_string()).or_default();
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
        // Equal behaviour proves nothing when nothing happened.
        let must_move = matches!(self.layout.order, Order::Reverse | Order::Random1 | Order::Random2);
        if must_move && moved == 0 && index == 0 && !self.build.case.stays && self.settings.tool != Tool::Identity {
            return Err(("nothing moved", format!("no function has a new address, of {count}")));
        }
        Ok(())
    }

    fn compare_run(&mut self, folder: &Path, what: &str) -> Result<(), Broken> {
        let line = build::run_line(self.toolchain, self.build, folder);
        self.commands.push(line.shell());
        let finished = line.run(&self.folder, RUN_LIMIT).map_err(setup)?;
        let reference = &self.original.built.reference;
        if finished.status != reference.status {
            let message = format!("{what}{} instead of {}\n{}", finished.status, reference.status, finished.excerpt());
            return Err(("status differs", message));
        }
        if finished.stdout != reference.stdout {
            let (old, new) = (String::from_utf8_lossy(&reference.stdout), String::from_utf8_lossy(&finished.stdout));
            let mut pairs = old.lines().zip(new.lines());
            let (old, new) = pairs.find(|(old, new)| old != new).unwrap_or(("", "(one output is longer)"));
            return Err(("stdout differs", format!("{what}old `{old}`, new `{new}`")));
        }
        Ok(())
    }

    /// Another name, another thread count: the same bytes.
    fn check_determinism(&mut self) -> Result<(), Broken> {
        if self.settings.tool == Tool::Bolt {
            // It embeds its command line, output name included.
            return Ok(());
        }
        let again = self.folder.join("again");
        std::fs::create_dir_all(&again).map_err(setup)?;
        for (index, image) in self.original.built.images.iter().enumerate() {
            let new = again.join(image);
            let original = self.original;
            self.rewrite(&original.built.folder.join(image), &new, &original.profiles[index], 1)?;
            let (first, second) =
                (std::fs::read(self.folder.join(image)).map_err(setup)?, std::fs::read(new).map_err(setup)?);
            if first != second {
                return Err(("not deterministic", format!("{image}: two runs, two files")));
            }
        }
        Ok(())
    }

    /// The output, treated by a binary utility, still runs; relocations are gone, as after any `strip`.
    fn check_roundtrip(&mut self, name: &'static str, command: &[&str]) -> Result<(), Broken> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).map_err(setup)?;
        for image in &self.original.built.images {
            let mut line = Line::new(&self.folder, command.iter().copied());
            if command[0] == "strip" {
                line.words.push("-o".to_owned());
                line.words.push(folder.join(image).to_string_lossy().into_owned());
                line.words.push(self.folder.join(image).to_string_lossy().into_owned());
            } else {
                line.words.push(self.folder.join(image).to_string_lossy().into_owned());
                line.words.push(folder.join(image).to_string_lossy().into_owned());
            }
            self.commands.push(line.shell());
            let finished = line.run(&self.folder, RUN_LIMIT).map_err(setup)?;
            if !finished.succeeded() || !finished.stderr.is_empty() {
                return Err((name, format!("{}\n{}", cause(&finished), finished.excerpt())));
            }
            // objcopy gives labels at the end of a TLS section in a static program another value.
            if command[0] == "strip" {
                self.check_proof(&self.original.built.folder.join(image), &folder.join(image))?;
            }
        }
        self.compare_run(&folder, &format!("after {name}: "))
    }

    /// What other tools made of the output is still the program.
    fn check_proof(&mut self, old: &Path, new: &Path) -> Result<(), Broken> {
        let Tool::Postlink(tool) = &self.settings.tool else { return Ok(()) };
        let (old, new) = (old.to_string_lossy(), new.to_string_lossy());
        let line = Line::new(&self.folder, [tool.as_str(), "verify", &old, &new]);
        self.commands.push(line.shell());
        let finished = line.run(&self.folder, OPTIMIZE_LIMIT).map_err(setup)?;
        if finished.status != "exit 0" {
            return Err(("not proven", format!("{}\n{}", finished.status, finished.excerpt())));
        }
        Ok(())
    }

    fn check_gdb(&mut self) -> Result<(), Broken> {
        let (Some(function), Some(frames)) = (&self.build.case.gdb, &self.original.gdb) else { return Ok(()) };
        let line = build::run_line(self.toolchain, self.build, &self.folder);
        let found = checks::gdb_frames(&line, function, &self.folder).map_err(|error| ("gdb", error))?;
        if &found != frames {
            return Err(("gdb", format!("backtrace differs\nold: {}\nnew: {}", frames.join(" "), found.join(" "))));
        }
        Ok(())
    }
}

/// The line of stderr that says why: an outcome code where there is one, else the last line.
fn cause(finished: &Finished) -> String {
    let text = String::from_utf8_lossy(&finished.stderr).into_owned();
    let mut lines = text.lines();
    let mut code = lines.find(|line| line.starts_with("error") || line.contains("panicked"));
    // The line below says which obligation is broken, or where the panic was.
    if code.is_some_and(|line| line.contains("POSTLINK_PROOF") || line.contains("panicked")) {
        code = lines.next().or(code);
    }
    let line = code.or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or_default();
    format!("{}: {line}", finished.status)
}
