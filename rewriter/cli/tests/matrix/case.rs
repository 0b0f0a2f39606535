//! Programs and their directives.
//!
//! The comment lines at the top of a source file may carry directives, `//@ KEY: VALUE` (`#@` in assembly):
//!
//! | key | value |
//! |---|---|
//! | `build` | opens a variant: `compilers=gcc,clang kinds=exec,pie,so,static,static-pie linkers=ld,gold,lld,mold tag=NAME`, each with these defaults |
//! | `flags` | compile and link flags of the open variant, or of all when no variant is open; `-O2` unless it names another level |
//! | `gcc`, `clang`, `ld`, `gold`, `lld`, `mold` | further flags for that compiler or linker |
//! | `exec`, `pie`, `so`, `static`, `static-pie` | further flags for that kind |
//! | `library` | a source under `support/`, linked as `libNAME.so`; it is rewritten too |
//! | `library-flags` | flags for it; `{support}` is the folder `support/`, here and in other flags |
//! | `plugin` | a source under `support/`, built as `NAME.so` beside the program, for `dlopen`; it is rewritten too |
//! | `exit` | expected exit status, default 0 |
//! | `gdb` | a function: the backtrace at its breakpoint must name the same functions before and after |
//! | `profile` | `instrumented`: counts from an instrumented run where llvm-bolt is installed |
//! | `skip` | `COMPILER.KIND.LINKER reason`, `*` for any: a combination whose original does not work |
//! | `stays` | a reason why no function of this program needs to move |
//! | `whole` | a reason why only layouts that split no function are run |
//! | `kept` | `FUNCTION reason`: the proof may have this function kept; that of any other is a failure |
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Source language, from the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Language {
    /// `c/*.c`
    C,
    /// `cxx/*.cpp`
    Cxx,
    /// `asm/*.s`
    Asm,
    /// `rust/*.rs`
    Rust,
}

/// One product of compilers, kinds and linkers with its flags.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) tag: String,
    pub(crate) compilers: Vec<String>,
    pub(crate) kinds: Vec<String>,
    pub(crate) linkers: Vec<String>,
    pub(crate) flags: Vec<String>,
    /// Flags by name of a compiler, a linker or a kind.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// One program.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) language: Language,
    pub(crate) path: PathBuf,
    pub(crate) source: String,
    pub(crate) variants: Vec<Variant>,
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) library_flags: Vec<String>,
    pub(crate) plugins: Vec<PathBuf>,
    pub(crate) exit: i32,
    pub(crate) gdb: Option<String>,
    pub(crate) instrumented: bool,
    pub(crate) stays: bool,
    pub(crate) whole: bool,
    /// Functions that the proof may have kept.
    pub(crate) kept: Vec<String>,
    /// Compiler, kind and linker patterns.
    pub(crate) skip: Vec<[String; 3]>,
}

pub(crate) const KINDS: [&str; 5] = ["exec", "pie", "so", "static", "static-pie"];
pub(crate) const LINKERS: [&str; 4] = ["ld", "gold", "lld", "mold"];

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

fn default_variant(language: Language) -> Variant {
    let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
    Variant {
        tag: String::new(),
        compilers: if language == Language::Rust { list(&["rustc"]) } else { list(&["gcc", "clang"]) },
        kinds: if language == Language::Rust { list(&["exec", "pie", "so", "static-pie"]) } else { list(&KINDS) },
        linkers: list(&LINKERS),
        flags: Vec::new(),
        extra: BTreeMap::new(),
    }
}

fn parse_build(language: Language, value: &str) -> Result<Variant, String> {
    let mut variant = default_variant(language);
    for item in value.split_whitespace() {
        let (key, list) = item.split_once('=').ok_or_else(|| format!("`{item}` is not KEY=LIST"))?;
        let list: Vec<String> = list.split(',').map(str::to_owned).collect();
        let known: &[&str] = match key {
            "compilers" => &["gcc", "clang", "rustc"],
            "kinds" => &KINDS,
            "linkers" => &LINKERS,
            "tag" => &[],
            _ => return Err(format!("unknown key `{key}`")),
        };
        if let Some(bad) = list.iter().find(|item| !known.is_empty() && !known.contains(&item.as_str())) {
            return Err(format!("unknown {key} `{bad}`"));
        }
        match key {
            "compilers" => variant.compilers = list,
            "kinds" => variant.kinds = list,
            "linkers" => variant.linkers = list,
            _ => variant.tag = list.concat(),
        }
    }
    Ok(variant)
}

/// Reads the directives of one source.
pub(crate) fn parse(
    name: String,
    language: Language,
    path: PathBuf,
    source: String,
    support: &Path,
) -> Result<Case, String> {
    let mut case = Case {
        name,
        language,
        path,
        source: String::new(),
        variants: Vec::new(),
        libraries: Vec::new(),
        library_flags: Vec::new(),
        plugins: Vec::new(),
        exit: 0,
        gdb: None,
        instrumented: false,
        stays: false,
        whole: false,
        kept: Vec::new(),
        skip: Vec::new(),
    };
    let mut common = default_variant(language);
    for line in source.lines() {
        let Some(comment) = line.strip_prefix("//").or_else(|| line.strip_prefix('#')) else { break };
        let Some(directive) = comment.strip_prefix('@') else { continue };
        let (key, value) = directive.split_once(':').ok_or_else(|| format!("`{line}`: no colon"))?;
        let (key, value) = (key.trim(), value.trim());
        match key {
            "build" => {
                let mut variant = parse_build(language, value).map_err(|error| format!("`{line}`: {error}"))?;
                variant.flags.extend(common.flags.iter().cloned());
                variant.extra.clone_from(&common.extra);
                case.variants.push(variant);
            }
            "flags" => case.variants.last_mut().unwrap_or(&mut common).flags.extend(words(value)),
            "library" => case.libraries.push(support.join(value)),
            "library-flags" => case.library_flags.extend(words(value)),
            "plugin" => case.plugins.push(support.join(value)),
            "exit" => case.exit = value.parse().map_err(|_| format!("`{line}`: not a number"))?,
            "gdb" => case.gdb = Some(value.to_owned()),
            "profile" if value == "instrumented" => case.instrumented = true,
            "skip" => {
                let mut parts = value.split(['.', ' ']).map(str::to_owned);
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(compiler), Some(kind), Some(linker), Some(_)) => case.skip.push([compiler, kind, linker]),
                    _ => return Err(format!("`{line}`: not COMPILER.KIND.LINKER reason")),
                }
            }
            "stays" => case.stays = true,
            "whole" => case.whole = true,
            "kept" => match value.split_once(' ') {
                Some((function, _reason)) => case.kept.push(function.to_owned()),
                None => return Err(format!("`{line}`: not FUNCTION reason")),
            },
            _ if key == "gcc" || key == "clang" || KINDS.contains(&key) || LINKERS.contains(&key) => {
                let variant = case.variants.last_mut().unwrap_or(&mut common);
                variant.extra.entry(key.to_owned()).or_default().extend(words(value));
            }
            _ => return Err(format!("`{line}`: unknown directive")),
        }
    }
    if case.variants.is_empty() {
        case.variants.push(common);
    }
    case.source = source;
    Ok(case)
}

/// All programs, sorted by language and name.
pub(crate) fn load_all(programs: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let languages = [
        ("asm", "s", Language::Asm),
        ("c", "c", Language::C),
        ("cxx", "cpp", Language::Cxx),
        ("rust", "rs", Language::Rust),
    ];
    for (folder, extension, language) in languages {
        let folder_path = programs.join(folder);
        let entries = std::fs::read_dir(&folder_path).map_err(|error| format!("{}: {error}", folder_path.display()))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| format!("{}: {error}", folder_path.display()))?.path();
            if path.extension().is_none_or(|found| found != extension) {
                return Err(format!("{}: not a .{extension} file", path.display()));
            }
            paths.push(path);
        }
        paths.sort();
        for path in paths {
            let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{folder}/{stem}");
            let case = parse(name, language, path.clone(), source, &programs.join("support"))
                .map_err(|error| format!("{}: {error}", path.display()))?;
            cases.push(case);
        }
    }
    Ok(cases)
}
