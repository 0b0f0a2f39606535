//! Building originals, cached by a hash of everything that went in.
use crate::Settings;
use crate::case::Language;
use crate::process::{Finished, Line};
use crate::select::Build;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limits: far above what is needed on a busy machine.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(20);

/// Tools that the matrix needs. A missing one is an error, not a skip.
pub(crate) struct Toolchain {
    /// Folder with clang, ld.lld and llvm-bolt.
    pub(crate) llvm: PathBuf,
    /// Versions of everything, part of the cache key.
    versions: String,
    /// The program that loads shared objects.
    pub(crate) host: PathBuf,
}

/// An original, ready to be rewritten.
pub(crate) struct Built {
    pub(crate) folder: PathBuf,
    /// Files to rewrite, the program first.
    pub(crate) images: Vec<String>,
    pub(crate) reference: Finished,
    pub(crate) commands: Vec<String>,
}

impl Toolchain {
    /// Looks for every tool and builds the host.
    pub(crate) fn find(settings: &Settings) -> Result<Self, String> {
        let llvm = ["/usr/lib/llvm-19/bin", "/usr/lib/llvm-20/bin", "/usr/lib/llvm-18/bin", "/usr/bin"]
            .iter()
            .map(PathBuf::from)
            .find(|folder| folder.join("clang").exists() && folder.join("ld.lld").exists())
            .ok_or("no folder with clang and ld.lld: install clang and lld")?;
        std::fs::create_dir_all(&settings.scratch).map_err(|error| error.to_string())?;
        let clang = llvm.join("clang").to_string_lossy().into_owned();
        let lld = llvm.join("ld.lld").to_string_lossy().into_owned();
        let mut versions = String::new();
        for tool in [
            "gcc", "g++", &clang, "rustc", "ld.bfd", "ld.gold", &lld, "mold", "readelf", "strip", "objcopy", "objdump",
            "gdb",
        ] {
            let finished = Line::new(&settings.scratch, [tool, "--version"]).run(&settings.scratch, RUN_LIMIT)?;
            if !finished.succeeded() {
                return Err(format!("{tool} --version: {}", finished.status));
            }
            versions.push_str(String::from_utf8_lossy(&finished.stdout).lines().next().unwrap_or_default());
        }
        let source = settings.programs.join("support/host.c");
        let text = std::fs::read(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let host = settings.scratch.join(format!("host-{}", &blake3::hash(&text).to_hex()[..12]));
        if !host.exists() {
            let line = Line::new(
                &settings.scratch,
                ["gcc", "-O1", "-rdynamic", &source.to_string_lossy(), "-o", &host.to_string_lossy(), "-ldl"],
            );
            let finished = line.run(&settings.scratch, BUILD_LIMIT)?;
            if !finished.succeeded() {
                return Err(format!("{}\n{}", line.shell(), finished.excerpt()));
            }
        }
        Ok(Self { llvm, versions, host })
    }
}

fn add<S: AsRef<str>>(line: &mut Line, words: impl IntoIterator<Item = S>) {
    line.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
}

/// Flags from the directives for one axis value each.
fn extra<'a>(build: &'a Build<'_>) -> impl Iterator<Item = &'a String> {
    [build.compiler, build.kind, build.linker].into_iter().filter_map(|axis| build.variant.extra.get(axis)).flatten()
}

fn use_linker(linker: &str) -> String {
    format!("-fuse-ld={}", if linker == "ld" { "bfd" } else { linker })
}

/// File name of the program itself.
fn program_name(kind: &str) -> &'static str {
    if kind == "so" { "program.so" } else { "program" }
}

fn driver(toolchain: &Toolchain, compiler: &str, language: Language) -> String {
    match (compiler, language) {
        ("gcc", Language::Cxx) => "g++".to_owned(),
        ("gcc", _) => "gcc".to_owned(),
        (_, Language::Cxx) => toolchain.llvm.join("clang++").to_string_lossy().into_owned(),
        _ => toolchain.llvm.join("clang").to_string_lossy().into_owned(),
    }
}

/// Command line for a C, C++ or assembly image.
fn native(
    toolchain: &Toolchain,
    build: &Build<'_>,
    folder: &Path,
    source: &Path,
    shared: bool,
    flags: &[String],
) -> Line {
    let language = match source.extension().and_then(|extension| extension.to_str()) {
        Some("cpp") => Language::Cxx,
        Some("s") => Language::Asm,
        _ => Language::C,
    };
    let kind = if shared { "so" } else { build.kind };
    let support = build.case.path.parent().and_then(Path::parent).map(|programs| programs.join("support"));
    let support = support.unwrap_or_default().to_string_lossy().into_owned();
    let flags: Vec<String> = flags.iter().map(|flag| flag.replace("{support}", &support)).collect();
    let mut line = Line::new(folder, [driver(toolchain, build.compiler, language)]);
    if !flags.iter().any(|flag| flag.starts_with("-O")) && language != Language::Asm {
        add(&mut line, ["-O2"]);
    }
    if language != Language::Asm {
        // Unused arguments and such: warnings are about the toolchain, not about us.
        add(&mut line, ["-w"]);
    }
    add(
        &mut line,
        match kind {
            "exec" => &["-fno-pie", "-no-pie"][..],
            "pie" => &["-fPIE", "-pie"],
            "so" => &["-fPIC", "-shared", "-DPROGRAM_SO"],
            "static" => &["-fno-pie", "-static"],
            _ => &["-fPIE", "-static-pie"],
        },
    );
    // Libraries are searched for what came before them only.
    let (libraries, flags): (Vec<String>, Vec<String>) = flags.into_iter().partition(|flag| flag.starts_with("-l"));
    add(&mut line, &flags);
    if build.compiler == "gcc" {
        // gcc looks for linkers in its own search path only.
        add(&mut line, [format!("-B{}", toolchain.llvm.display())]);
    } else {
        add(&mut line, ["-Wno-unused-command-line-argument"]);
    }
    add(&mut line, [use_linker(build.linker), "-Wl,-q".to_owned()]);
    add(&mut line, [source.to_string_lossy()]);
    add(&mut line, &libraries);
    line
}

fn rust(toolchain: &Toolchain, build: &Build<'_>, folder: &Path) -> Line {
    let mut line =
        Line::new(folder, ["rustc", "--edition=2021", "-Awarnings", "--crate-name=program", "-Clink-arg=-Wl,-q"]);
    if !build.variant.flags.iter().any(|flag| flag.contains("opt-level")) {
        add(&mut line, ["-Copt-level=2"]);
    }
    add(
        &mut line,
        match build.kind {
            "exec" => &["-Crelocation-model=static"][..],
            "so" => &["--crate-type=cdylib", "--cfg=so"],
            "static" => &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"],
            "static-pie" => &["-Ctarget-feature=+crt-static"],
            _ => &[],
        },
    );
    add(
        &mut line,
        [format!("-Clink-arg={}", use_linker(build.linker)), format!("-Clink-arg=-B{}", toolchain.llvm.display())],
    );
    add(&mut line, &build.variant.flags);
    add(&mut line, extra(build));
    add(&mut line, [build.case.path.to_string_lossy().as_ref(), "-o", program_name(build.kind)]);
    line
}

/// The command that runs the program in `folder`.
pub(crate) fn run_line(toolchain: &Toolchain, build: &Build<'_>, folder: &Path) -> Line {
    let program = folder.join(program_name(build.kind)).to_string_lossy().into_owned();
    let mut line = if build.kind == "so" {
        Line::new(folder, [toolchain.host.to_string_lossy().into_owned(), program])
    } else {
        Line::new(folder, [program])
    };
    if !build.case.libraries.is_empty() {
        line.environment.push(("LD_LIBRARY_PATH".to_owned(), folder.to_string_lossy().into_owned()));
    }
    line
}

/// All build commands of one build, with the names of the files they make.
fn commands(toolchain: &Toolchain, build: &Build<'_>, folder: &Path) -> (Vec<Line>, Vec<String>) {
    let mut lines = Vec::new();
    let mut images = vec![program_name(build.kind).to_owned()];
    let mut link_with = Vec::new();
    for (source, prefix) in
        build.case.libraries.iter().map(|s| (s, "lib")).chain(build.case.plugins.iter().map(|s| (s, "")))
    {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let file = format!("{prefix}{stem}.so");
        let flags: &[String] = if prefix.is_empty() { &[] } else { &build.case.library_flags };
        let mut line = native(toolchain, build, folder, source, true, flags);
        add(&mut line, ["-o", &file, &format!("-Wl,-soname,{file}")]);
        lines.push(line);
        if !prefix.is_empty() {
            link_with.push(format!("./{file}"));
        }
        images.push(file);
    }
    if build.case.language == Language::Rust {
        lines.push(rust(toolchain, build, folder));
    } else {
        let mut flags = build.variant.flags.clone();
        flags.extend(extra(build).cloned());
        let mut line = native(toolchain, build, folder, &build.case.path, false, &flags);
        add(&mut line, link_with);
        add(&mut line, ["-o", program_name(build.kind)]);
        lines.push(line);
    }
    (lines, images)
}

/// Builds, runs twice and remembers; or finds the same build in the cache.
///
/// Errors: kind of failure, message, commands so far.
pub(crate) fn make(
    settings: &Settings,
    toolchain: &Toolchain,
    build: &Build<'_>,
) -> Result<Built, (&'static str, String, Vec<String>)> {
    let key_folder = Path::new("/matrix");
    let (key_lines, _) = commands(toolchain, build, key_folder);
    let mut hasher = blake3::Hasher::new();
    hasher.update(toolchain.versions.as_bytes());
    hasher.update(build.case.source.as_bytes());
    let header = settings.programs.join("program.h");
    for file in build.case.libraries.iter().chain(&build.case.plugins).chain([&header]) {
        let bytes =
            std::fs::read(file).map_err(|error| ("setup", format!("{}: {error}", file.display()), Vec::new()))?;
        hasher.update(&bytes);
    }
    for line in &key_lines {
        hasher.update(line.shell().as_bytes());
    }
    let folder = settings.scratch.join("originals").join(&hasher.finalize().to_hex()[..20]);
    let (lines, images) = commands(toolchain, build, &folder);
    let mut shown: Vec<String> = lines.iter().map(Line::shell).collect();
    let run = run_line(toolchain, build, &folder);
    shown.push(run.shell());
    let setup = |error: std::io::Error, shown: &Vec<String>| ("setup", error.to_string(), shown.clone());
    let done = folder.join("reference.status");
    if let (Ok(status), Ok(stdout)) = (std::fs::read_to_string(&done), std::fs::read(folder.join("reference.stdout"))) {
        let reference = Finished { status, stdout, stderr: Vec::new() };
        return Ok(Built { folder, images, reference, commands: shown });
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| setup(error, &shown))?;
    for line in &lines {
        let finished = line.run(&folder, BUILD_LIMIT).map_err(|error| ("setup", error, shown.clone()))?;
        if !finished.succeeded() {
            return Err(("does not build", format!("{}\n{}", finished.status, finished.excerpt()), shown));
        }
    }
    let first = run.run(&folder, RUN_LIMIT).map_err(|error| ("setup", error, shown.clone()))?;
    let second = run.run(&folder, RUN_LIMIT).map_err(|error| ("setup", error, shown.clone()))?;
    let expected = format!("exit {}", build.case.exit);
    if first.status != expected {
        let output = String::from_utf8_lossy(&first.stdout);
        let last = output.lines().last().unwrap_or_default();
        return Err((
            "original fails",
            format!("{} instead of {expected}\n{}\n{last}", first.status, first.excerpt()),
            shown,
        ));
    }
    if (&first.status, &first.stdout) != (&second.status, &second.stdout) {
        return Err(("original is not deterministic", String::new(), shown));
    }
    if first.stdout.is_empty() {
        return Err(("original prints nothing", String::new(), shown));
    }
    std::fs::write(folder.join("reference.stdout"), &first.stdout).map_err(|error| setup(error, &shown))?;
    std::fs::write(&done, &first.status).map_err(|error| setup(error, &shown))?;
    Ok(Built { folder, images, reference: first, commands: shown })
}
