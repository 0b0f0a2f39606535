//! `postlink bundle`: one archive with all that reproduces a run of `optimize`.

mod archive;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use postlink_base::digest;
use serde::Serialize;

use super::optimize::{command_line, optimize, order_file, profile_files, use_threads};
use crate::args::{Arguments, Bundle, Command, Optimize};
use crate::input::{self, Bytes};
use crate::note::TOOL;
use crate::outcome::{Stop, tell};
use crate::report::file_name;
use crate::stages::Stages;
use archive::Archive;

/// The one folder in the archive.
const ROOT: &str = "postlink-bundle";

/// What `bundle.json` is: its first field.
const SCHEMA: &str = "urn:postlink:bundle:v1";

/// Exit status of a program of ours that panicked.
const PANICKED: u8 = 101;

pub(crate) fn run(arguments: &Bundle) -> Result<ExitCode, Stop> {
    check_name(&arguments.output)?;
    let optimize = parse(arguments)?;
    let bytes = input::read(&optimize.input)?;
    let order = order_file(&optimize).map(|file| Ok((file, input::read(Path::new(file))?))).transpose()?;

    let name = format!("input/{}", file_name(&optimize.input));
    let mut profiles: Vec<(String, Vec<u8>)> = Vec::new();
    for (path, file) in optimize.profile.iter().zip(profile_files(&optimize.profile)) {
        let (_, bytes) = file?;
        profiles.push((format!("profiles/{}-{}", profiles.len() + 1, file_name(path)), bytes.to_vec()));
    }
    let order_name = order.as_ref().map(|(file, _)| format!("order/{}", file_name(Path::new(file))));
    let command = command(&optimize, &name, &profiles, order_name.as_deref());
    let ended = (!arguments.no_run).then(|| ended(&optimize, &name, &bytes, &profiles));

    let mut archive = Archive::new(ROOT);
    archive.add(&name, bytes, 0o755);
    for (name, bytes) in profiles {
        archive.add(&name, bytes, 0o644);
    }
    if let (Some(name), Some((_, bytes))) = (order_name, order) {
        archive.add(&name, bytes, 0o644);
    }
    let about = About { schema: SCHEMA, tool: TOOL, command: &command, outcome: ended.as_ref(), files: files(&archive) };
    let mut json = serde_json::to_vec_pretty(&about)
        .map_err(|error| Stop::contradiction("CLI002", format!("bundle.json: {error}")))?;
    json.push(b'\n');
    archive.add("bundle.json", json, 0o644);
    archive.add("README.md", readme(&command, ended.as_ref()).into_bytes(), 0o644);
    archive
        .write(&arguments.output)
        .map_err(|error| Stop::refused("CLI002", format!("cannot write {}: {error}", arguments.output.display())))?;
    tell(&format!("wrote {}\n", arguments.output.display()));
    if let Some(ended) = &ended {
        tell(&format!("it shows: {}\n", ended.text()));
    }
    tell("It holds the whole program: look at README.md in it before you give it to anyone.\n");
    Ok(ExitCode::SUCCESS)
}

/// The command that makes a bundle of a run with `arguments`, for a shell.
pub(super) fn command_for(arguments: &Optimize) -> String {
    let path = |path: &Path| path.display().to_string();
    let mut words = vec!["postlink".to_owned(), "bundle".to_owned(), path(&arguments.input)];
    words.extend(["-o".to_owned(), format!("{}.bundle.tar", file_name(&arguments.input))]);
    for profile in &arguments.profile {
        words.extend(["--profile".to_owned(), path(profile)]);
    }
    words.push("--".to_owned());
    words.extend(command_line(arguments, None));
    shell(&words)
}

fn check_name(output: &Path) -> Result<(), Stop> {
    if output.extension().is_some_and(|extension| extension == "tar") {
        return Ok(());
    }
    Err(Stop::usage(format!("--output {}: the archive is a plain tar file", output.display()))
        .hint("give a name that ends with .tar, and compress the file afterwards if you like"))
}

/// Reads the options of `optimize` as `optimize` would.
fn parse(arguments: &Bundle) -> Result<Optimize, Stop> {
    use std::ffi::{OsStr, OsString};
    let mut line: Vec<OsString> = ["postlink", "optimize", "-o", "out"].map(OsString::from).to_vec();
    for profile in &arguments.profile {
        line.extend([OsStr::new("--profile"), profile.as_os_str()].map(OsString::from));
    }
    line.extend(arguments.options.iter().map(OsString::from));
    line.extend([OsStr::new("--"), arguments.input.as_os_str()].map(OsString::from));
    match Arguments::try_parse_from(line).map(|parsed| parsed.command) {
        Ok(Command::Optimize(optimize)) => Ok(optimize),
        Ok(_) => Err(Stop::usage("the options behind -- are not those of optimize")),
        Err(error) => Err(Stop::usage(format!("the options behind -- are not those of optimize: {}", first_line(&error)))
            .hint("postlink bundle IN -o FILE.tar [--profile FILE]... -- [OPTIONS OF OPTIMIZE, without -o]")),
    }
}

/// What clap says, without the usage of another command.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The command that reproduces the run, in the archive's folder.
fn command(arguments: &Optimize, input: &str, profiles: &[(String, Vec<u8>)], order: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> = ["postlink", "optimize", input, "-o", "out"].map(str::to_owned).to_vec();
    for (name, _) in profiles {
        words.extend(["--profile".to_owned(), name.clone()]);
    }
    words.extend(command_line(arguments, order));
    words
}

/// How the run ended.
#[derive(Serialize)]
struct Ended {
    /// Exit status that `optimize` would have.
    status: u8,
    /// The stage that ran last.
    stage: &'static str,
    code: Option<&'static str>,
    message: Option<String>,
    /// Digest of the output, if there is one.
    output_blake3: Option<String>,
}

impl Ended {
    fn text(&self) -> String {
        match (&self.message, self.code) {
            (None, _) => "the run succeeds".to_owned(),
            (Some(message), Some(code)) => format!("exit status {}, stage {}: error[{code}]: {message}", self.status, self.stage),
            (Some(message), None) => format!("exit status {}, stage {}: {message}", self.status, self.stage),
        }
    }
}

/// Runs the optimization without writing anything. A panic is what such a bundle may be about.
fn ended(arguments: &Optimize, input: &str, bytes: &[u8], profiles: &[(String, Vec<u8>)]) -> Ended {
    let mut stages = Stages::new();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        use_threads(arguments)?;
        let profiles = profiles.iter().map(|(name, bytes)| Ok((name.clone(), Bytes::Given(bytes.clone().into()))));
        optimize(Path::new(input), bytes, profiles, arguments, None, &mut stages)
    }));
    let stage = stages.last();
    match ran {
        Ok(Ok(done)) => {
            Ended { status: 0, stage, code: None, message: None, output_blake3: Some(digest(&done.bytes).to_string()) }
        }
        Ok(Err(stop)) => {
            let message = Some(stop.message().to_owned());
            Ended { status: stop.status(), stage, code: Some(stop.code()), message, output_blake3: None }
        }
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
            let message = Some(format!("panicked: {}", text.unwrap_or("no message")));
            Ended { status: PANICKED, stage, code: None, message, output_blake3: None }
        }
    }
}

/// The content of `bundle.json`.
#[derive(Serialize)]
struct About<'a> {
    schema: &'static str,
    tool: &'static str,
    /// Word by word.
    command: &'a [String],
    /// `None` if it was not run.
    outcome: Option<&'a Ended>,
    files: Vec<FileAbout>,
}

#[derive(Serialize)]
struct FileAbout {
    name: String,
    size: u64,
    blake3: String,
}

fn files(archive: &Archive) -> Vec<FileAbout> {
    let about = |(name, bytes): (&str, &[u8])| FileAbout {
        name: name.to_owned(),
        size: bytes.len() as u64,
        blake3: digest(bytes).to_string(),
    };
    archive.files().map(about).collect()
}

fn readme(command: &[String], ended: Option<&Ended>) -> String {
    let outcome = ended.map_or_else(|| "It was not run when this archive was made.".to_owned(), Ended::text);
    let digest = ended
        .and_then(|ended| ended.output_blake3.as_ref())
        .map_or_else(String::new, |digest| format!("\nThe output's blake3 digest is {digest}.\n"));
    format!(
        "# A run of postlink\n\n\
         This archive holds a program, the profiles and the options of one run of `postlink optimize`. Anyone who has it\n\
         has the program: give it only to people who may have that.\n\n\
         With {TOOL}, in this folder:\n\n    {}\n\n\
         What happens:\n\n    {}\n{digest}\n\
         `bundle.json` says the same for programs, with the digests of the files.\n",
        shell(command),
        outcome.trim_end().replace('\n', "\n    ")
    )
}

/// Words as a shell reads them.
fn shell(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:,@%".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(is_plain) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_hint_is_read_back_as_the_same_options() {
        let line = [
            "postlink", "optimize", "in put", "-o", "out", "-p", "a", "-p", "b'c", "--only", "f(int)", "--skip", "g", "--mode",
            "hot", "--block-order", "random", "--split", "all", "--seed", "7", "--function-order", "x y", "--max-functions",
            "3", "--hot-all", "--allow-stale", "--no-map", "--threads", "2", "--no-verify", "--icf", "none",
        ];
        let Ok(Arguments { command: Command::Optimize(optimize) }) = Arguments::try_parse_from(line) else {
            unreachable!("the line is one of optimize")
        };
        assert_eq!(
            command_for(&optimize),
            "postlink bundle 'in put' -o 'in put.bundle.tar' --profile a --profile 'b'\\''c' -- --mode=hot \
             --block-order=random '--function-order=x y' --split=all --seed=7 --icf=none '--only=f(int)' --skip=g \
             --max-functions=3 --threads=2 --hot-all --allow-stale --no-map --no-verify"
        );
        let bundle = Bundle {
            input: PathBuf::from("in put"),
            output: PathBuf::from("b.tar"),
            profile: optimize.profile.clone(),
            no_run: true,
            options: command_line(&optimize, None),
        };
        let again = parse(&bundle).expect("its own options");
        assert_eq!(command_for(&again), command_for(&optimize));
    }
}
