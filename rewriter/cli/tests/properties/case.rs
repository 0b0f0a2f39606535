//! One case: a program, its builds, and the layouts that it is written in.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use object::{Object as _, ObjectSection as _};

use crate::program::{Kind, Program, generate};
use crate::random::Random;
use crate::relocs;

/// What the cases had to do, to see that it was something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) layouts: usize,
    /// Functions in all layouts, and how many of them were laid out anew, split, moved in one piece.
    pub(crate) functions: usize,
    pub(crate) relaid: usize,
    pub(crate) split: usize,
    pub(crate) whole: usize,
    /// Static relocations that were kept and give the word at their place.
    pub(crate) relocations: usize,
    /// Calls through the GOT that became direct.
    pub(crate) direct_calls: usize,
    /// Functions that were folded into equal ones.
    pub(crate) folded: usize,
    /// Damaged outputs, and how many of them were proven all the same.
    pub(crate) damaged: usize,
    pub(crate) harmless: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.layouts += other.layouts;
        self.functions += other.functions;
        self.relaid += other.relaid;
        self.split += other.split;
        self.whole += other.whole;
        self.relocations += other.relocations;
        self.direct_calls += other.direct_calls;
        self.folded += other.folded;
        self.damaged += other.damaged;
        self.harmless += other.harmless;
    }
}

/// Runs a command in `folder`, with ten seconds of processor time.
fn command(folder: &Path, line: &str) -> Result<Output, String> {
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args(["-c", &format!("ulimit -t 10; exec {line}")]).env("LC_ALL", "C");
    shell.output().map_err(|error| error.to_string())
}

fn must(folder: &Path, line: &str) -> Result<Output, String> {
    let done = command(folder, line)?;
    if done.status.success() {
        return Ok(done);
    }
    Err(format!("{line}: {}\n{}{}", done.status, String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

/// Runs the case of that seed in `folder`, which is removed if nothing fails.
pub(crate) fn run(seed: u64, folder: &Path) -> Result<Tally, String> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let tally = build_and_rewrite(seed, folder).map_err(|why| format!("in {}: {why}", folder.display()))?;
    let _ = std::fs::remove_dir_all(folder);
    Ok(tally)
}

fn build_and_rewrite(seed: u64, folder: &Path) -> Result<Tally, String> {
    let mut random = Random::new(seed);
    let kind = *random.pick(&[Kind::Exec, Kind::Pie]);
    let program = generate(&mut random, kind);
    std::fs::write(folder.join("program.s"), &program.text).map_err(|error| error.to_string())?;
    // Most linkers make calls through the GOT direct if the assembler lets them.
    let relax = if seed.is_multiple_of(3) { "no" } else { "yes" };
    must(folder, &format!("as -mrelax-relocations={relax} -o program.o program.s"))?;
    let mut link = match random.below(10) {
        0..=3 => "ld".to_owned(),
        4..=7 => lld(),
        8 => "ld.gold".to_owned(),
        _ => "mold".to_owned(),
    };
    link.push_str(" -q -o old program.o");
    if kind == Kind::Pie {
        link.push_str(" -pie -dynamic-linker /lib64/ld-linux-x86-64.so.2");
    }
    for (percent, option) in [(30, " --build-id"), (20, " -z noseparate-code"), (20, " -z norelro"), (15, " --gc-sections"), (80, " --eh-frame-hdr")] {
        // gold does not know the one, and dies of an internal error of the other together with -q.
        let known = !link.starts_with("ld.gold") || ![" -z noseparate-code", " --gc-sections"].contains(&option);
        if random.chance(percent) && known {
            link.push_str(option);
        }
    }
    must(folder, &link)?;
    let expected = command(folder, "./old")?;
    if !matches!(expected.status.code(), Some(0..=127)) || expected.stdout.len() != 17 {
        return Err(format!("the original does not work: {}; {link}", expected.status));
    }
    write_profile(&mut random, &program, folder)?;
    let mut tally = Tally::default();
    for number in 0..3 {
        let options = options(&mut random, number);
        layout(folder, &options, &expected, &mut tally).map_err(|why| format!("{why}\n  linked: {link}\n  options: {options}"))?;
    }
    for _ in 0..4 {
        damage(&mut random, folder, &expected, &mut tally).map_err(|why| format!("{why}\n  linked: {link}"))?;
    }
    Ok(tally)
}

/// Changes a byte or a few of the last output. What `verify` still proves must still do the same.
fn damage(random: &mut Random, folder: &Path, expected: &Output, tally: &mut Tally) -> Result<(), String> {
    let mut bytes = std::fs::read(folder.join("new")).map_err(|error| error.to_string())?;
    for _ in 0..*random.pick(&[1, 1, 1, 2, 8]) {
        // Most of the file is not loaded; what is stands in front.
        let end = if random.chance(80) { bytes.len() / 2 } else { bytes.len() };
        let at = random.below(end);
        bytes[at] = if random.chance(50) { bytes[at] ^ 1 << random.below(8) } else { random.below(256) as u8 };
    }
    let damaged = folder.join("damaged");
    std::fs::write(&damaged, bytes).map_err(|error| error.to_string())?;
    let permissions = std::fs::metadata(folder.join("new")).map_err(|error| error.to_string())?.permissions();
    std::fs::set_permissions(&damaged, permissions).map_err(|error| error.to_string())?;
    let done = command(folder, &format!("{} verify old damaged", postlink()))?;
    tally.damaged += 1;
    match done.status.code() {
        Some(0) => {
            tally.harmless += 1;
            same_run(folder, "./damaged", expected).map_err(|why| format!("proven, although {why}"))
        }
        Some(1) => Ok(()),
        _ => Err(format!("verify of a damaged file: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr))),
    }
}

/// Rewrites an output once more: its relocations must be good enough for that. What says that it is an output is renamed.
fn again(folder: &Path, new: &[u8], expected: &Output) -> Result<(), String> {
    let mut bytes = new.to_vec();
    for (name, other) in [(b".note.postlink\0", b".note.somebody\0"), (b".text.postlink\0", b".text.somebody\0")] {
        let places: Vec<usize> = bytes.windows(name.len()).enumerate().filter(|(_, part)| part == name).map(|(at, _)| at).collect();
        places.iter().for_each(|&at| bytes[at..at + name.len()].copy_from_slice(other));
    }
    std::fs::write(folder.join("disguised"), bytes).map_err(|error| error.to_string())?;
    let options = "--block-order random --function-order random --split random --threads 1";
    must(folder, &format!("{} optimize disguised -o again {options}", postlink()))?;
    must(folder, "chmod +x again")?;
    same_run(folder, "./again", expected).map_err(|why| format!("rewritten again, {why}"))
}

fn same_run(folder: &Path, program: &str, expected: &Output) -> Result<(), String> {
    let ran = command(folder, program)?;
    if (ran.status.code(), &ran.stdout) == (expected.status.code(), &expected.stdout) {
        return Ok(());
    }
    Err(format!(
        "the output does something else: {} {:?}, not {} {:?}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        expected.status,
        String::from_utf8_lossy(&expected.stdout)
    ))
}

fn postlink() -> String {
    std::env::var("POSTLINK").unwrap_or_else(|_| env!("CARGO_BIN_EXE_postlink").to_owned())
}

/// lld, under any of the names that Debian gives it.
fn lld() -> String {
    let folders = ["/usr/lib/llvm-19/bin", "/usr/lib/llvm-20/bin", "/usr/lib/llvm-18/bin", "/usr/bin"];
    let found = folders.iter().map(|folder| format!("{folder}/ld.lld")).find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| "ld.lld".to_owned())
}

fn options(random: &mut Random, number: usize) -> String {
    let profile = random.chance(40);
    let hot = random.chance(35);
    let mut text = format!("--mode {}", if hot { "hot" } else { "full" });
    if profile {
        text.push_str(" --profile profile.fdata --allow-stale");
    }
    let mut add = |option: &str, choices: &[&str], with_profile: &[&str]| {
        let all: Vec<&str> = choices.iter().chain(if profile { with_profile } else { &[] }).copied().collect();
        // The first layout of each program is as random as can be; the others leave out some options.
        let choice = if number == 0 { "random" } else { random.pick(&all) };
        if number == 0 || random.chance(80) {
            let _ = write!(text, " --{option} {choice}");
        }
    };
    add("block-order", &["keep", "reverse", "random", "random"], &["ext-tsp"]);
    add("function-order", &["keep", "reverse", "random", "random"], &["cdsort", "hfsort"]);
    add("split", &["none", "all", "random", "random"], &["cold", "warm"]);
    let _ = write!(text, " --seed {}", random.below(1000));
    if hot && (!profile || random.chance(40)) {
        text.push_str(" --hot-all");
    }
    if random.chance(10) {
        let _ = write!(text, " --max-functions {}", random.below(8));
    }
    for _ in 0..2 {
        if random.chance(15) {
            // There are two functions at least.
            let _ = write!(text, " --skip f{}", random.below(2));
        }
    }
    if random.chance(5) {
        let _ = write!(text, " --only f{} --only out", random.below(2));
    }
    if random.chance(30) {
        text.push_str(" --keep-relocs");
    }
    text
}

/// Counts for the branches of the program: invented, some of them zero, most of them left out.
fn write_profile(random: &mut Random, program: &Program, folder: &Path) -> Result<(), String> {
    let bytes = std::fs::read(folder.join("program.o")).map_err(|error| error.to_string())?;
    let object = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
    let section = object.section_by_name(".probes").ok_or("no .probes")?;
    let words = section.data().map_err(|error| error.to_string())?;
    let mut text = "1 _start 0 1 f0 0 0 1\n".to_owned();
    for (&(from, to), offsets) in program.probes.iter().zip(words.chunks_exact(16)) {
        let word = |at: usize| offsets[at..at + 8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        if random.chance(60) {
            let size = random.between(1, 16);
            let count = random.below(1 << size);
            let (from, to) = (&program.names[from], &program.names[to]);
            let _ = writeln!(text, "1 {from} {:x} 1 {to} {:x} {} {count}", word(0), word(8), count / 3);
        }
    }
    std::fs::write(folder.join("profile.fdata"), text).map_err(|error| error.to_string())
}

fn layout(folder: &Path, options: &str, expected: &Output, tally: &mut Tally) -> Result<(), String> {
    let postlink = postlink();
    let done = must(folder, &format!("{postlink} optimize old -o new --threads 1 {options}"))?;
    let told = String::from_utf8_lossy(&done.stderr);
    if !told.contains("P1-P7 hold") || told.contains("CFG020") {
        return Err(format!("not proven at once:\n{told}"));
    }
    same_run(folder, "./new", expected)?;
    must(folder, &format!("{postlink} verify old new"))?;
    if options.contains("--keep-relocs") {
        let file = |name: &str| std::fs::read(folder.join(name)).map_err(|error| error.to_string());
        let (old, new) = (relocs::read(&file("old")?), relocs::read(&file("new")?));
        relocs::compare(&old, &new, direct_calls(&told), folded(&told) > 0)?;
        tally.relocations += new.direct;
        // In hot mode, old entries hold jumps that belong to nothing any more: not a file to rewrite.
        if options.contains("--mode full") {
            again(folder, &file("new")?, expected)?;
        }
    }
    count(&told, tally).ok_or_else(|| format!("no counts of functions in\n{told}"))
}

/// Reads `functions  12: 9 laid out anew (3 split), 1 moved whole, 2 kept in place`.
fn count(told: &str, tally: &mut Tally) -> Option<()> {
    let line = told.lines().find_map(|line| line.strip_prefix("functions "))?;
    let numbers: Vec<usize> =
        line.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).filter_map(|part| part.parse().ok()).collect();
    let [functions, relaid, split, whole, _kept] = numbers[..] else { return None };
    tally.layouts += 1;
    tally.functions += functions;
    tally.relaid += relaid;
    tally.split += split;
    tally.whole += whole;
    tally.direct_calls += direct_calls(told);
    tally.folded += folded(told);
    Some(())
}

/// Reads `           2 folded into equal ones (40 bytes)`.
fn folded(told: &str) -> usize {
    let line = told.lines().find_map(|line| line.split_once(" folded into equal ones"));
    line.and_then(|(count, _)| count.trim().parse().ok()).unwrap_or(0)
}

/// Reads `calls      5 through the GOT made direct`.
fn direct_calls(told: &str) -> usize {
    let calls = |line: &str| line.strip_prefix("calls ")?.trim().strip_suffix(" through the GOT made direct")?.parse().ok();
    told.lines().find_map(calls).unwrap_or(0)
}
