//! House rules that a machine can check.
#![allow(
    clippy::expect_used,
    reason = "a test that cannot read the sources has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Top-level folders from the bottom up: a crate imports from its own folder and those before it.
const LAYERS: [&str; 6] = ["report", "cfg", "profile", "layout", "rewriter", "xtask"];

/// No file is longer; most should be much shorter.
const MAX_LINES: usize = 1000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// All files that git knows, with paths from the root.
fn tracked() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    let listed = git
        .current_dir(root())
        .args(["ls-files", "-z"])
        .output()
        .expect("git runs");
    assert!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let files: Vec<PathBuf> = names
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("a tracked text file")
}

/// Rust sources: path and text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let rust = tracked()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.filter(|path| !path.starts_with("testdata"))
        .map(|path| {
            let text = text(&path);
            (path, text)
        })
        .collect()
}

/// Dependencies between crates of the workspace: name, folder and the dependencies that are not only
/// for tests.
fn crates() -> BTreeMap<String, (PathBuf, Vec<String>)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = cargo.output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let crates: BTreeMap<_, _> = packages
        .iter()
        .map(|package| {
            let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
            let folder = manifest
                .parent()
                .expect("a folder")
                .strip_prefix(root())
                .expect("a member")
                .to_owned();
            let dependencies = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter();
            let normal =
                dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
            let names = normal
                .filter_map(|dependency| Some(dependency["name"].as_str()?.to_owned()))
                .collect();
            (
                package["name"].as_str().expect("a name").to_owned(),
                (folder, names),
            )
        })
        .collect();
    assert!(crates.len() >= 10, "{crates:?}");
    crates
}

fn layer(folder: &Path) -> usize {
    let top = folder
        .iter()
        .next()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    LAYERS
        .iter()
        .position(|layer| *layer == top)
        .expect("every folder of a crate is a layer")
}

#[test]
fn folders_depend_downwards_only() {
    let crates = crates();
    for (name, (folder, dependencies)) in &crates {
        for dependency in dependencies {
            let Some((other, _)) = crates.get(dependency) else {
                continue;
            };
            assert!(
                layer(other) <= layer(folder),
                "{name} ({}) may not depend on {dependency} ({})",
                folder.display(),
                other.display()
            );
        }
    }
}

#[test]
fn the_checker_shares_nothing_with_what_it_checks() {
    let crates = crates();
    let (_, dependencies) = crates.get("postlink-verify").expect("the checker");
    let ours: Vec<&str> = dependencies
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("postlink"))
        .collect();
    for name in &ours {
        assert!(
            ["postlink-base", "postlink-image", "postlink-report"].contains(name),
            "postlink-verify uses {name}"
        );
    }
    assert!(!ours.is_empty());
}

#[test]
fn libraries_stay_where_they_belong() {
    for (library, homes) in [
        ("iced_x86", &["cfg/isa"][..]),
        ("yaxpeax_x86", &["rewriter/verify"]),
        (
            "object",
            &[
                "cfg/image",
                "rewriter/cli/tests",
                "rewriter/verify/tests",
                "rewriter/emit/src/unwind/tests",
            ],
        ),
        ("petgraph", &["cfg/graph"]),
        ("clap", &["rewriter/cli", "xtask"]),
    ] {
        let uses = [format!("use {library}::"), format!("use {library};")];
        for (path, text) in rust_files() {
            let here = text.lines().any(|line| {
                uses.iter()
                    .any(|pattern| line.trim_start().starts_with(pattern.as_str()))
            });
            assert!(
                !here || homes.iter().any(|home| path.starts_with(home)),
                "{}: uses {library}",
                path.display()
            );
        }
    }
}

#[test]
fn files_are_short_and_named_as_agreed() {
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{}: {lines} lines, at most {MAX_LINES}",
            path.display()
        );
        assert!(
            path.file_name().is_some_and(|name| name != "mod.rs"),
            "{}: foo.rs and foo/ instead",
            path.display()
        );
        assert!(
            text.starts_with("//!") || text.starts_with("#!"),
            "{}: says nothing about its subject",
            path.display()
        );
    }
}

#[test]
fn every_library_states_its_invariant() {
    let mut seen = 0;
    for (path, text) in rust_files()
        .iter()
        .filter(|(path, _)| path.ends_with("src/lib.rs"))
    {
        assert!(
            text.contains("//! **Invariant:**"),
            "{}: no invariant",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 8, "{seen} libraries");
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not hold them.
    let words: Vec<String> = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("todo", "!("),
        ("unimplemented", "!("),
        ("dbg", "!("),
    ]
    .iter()
    .map(|(head, tail)| format!("{head}{tail}"))
    .collect();
    // Folders of somebody's machine.
    let places: Vec<String> = [("/wo", "rk/"), ("/ho", "me/"), ("/tmp/", "brief")]
        .iter()
        .map(|(head, tail)| format!("{head}{tail}"))
        .collect();
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for word in &words {
                let found = line.find(word.as_str()).is_some_and(|at| {
                    let whole =
                        |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                    whole(line[..at].chars().next_back())
                        && (word.ends_with('(') || whole(line[at + word.len()..].chars().next()))
                });
                assert!(!found, "{}:{}: {word}", path.display(), number + 1);
            }
            for place in &places {
                assert!(
                    !line.contains(place.as_str()),
                    "{}:{}: names {place}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// Whether `code` has the shape of an outcome code.
fn is_code(code: &str) -> bool {
    if let Some(name) = code.strip_prefix("POSTLINK_") {
        return name
            .split('_')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase()));
    }
    let (Some(letters), Some(digits)) = (code.get(..3), code.get(3..)) else {
        return false;
    };
    digits.len() == 3
        && letters.chars().all(|c| c.is_ascii_uppercase())
        && digits.chars().all(|c| c.is_ascii_digit())
}

/// Codes that stand as string literals in the sources of the product, with one place each.
fn codes_in_sources() -> BTreeMap<String, PathBuf> {
    let mut codes = BTreeMap::new();
    for (path, text) in rust_files() {
        let in_tests = path
            .iter()
            .any(|part| part == "tests" || part == "tests.rs");
        let product =
            path.iter().any(|part| part == "src") && !in_tests && !path.starts_with("xtask");
        if !product {
            continue;
        }
        for literal in text.split('"').filter(|part| is_code(part)) {
            codes
                .entry(literal.to_owned())
                .or_insert_with(|| path.clone());
        }
    }
    assert!(codes.len() >= 20, "{codes:?}");
    codes
}

#[test]
fn codes_are_unique_documented_and_used() {
    let documented: Vec<String> = text(Path::new("report/CODES.md"))
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|heading| is_code(heading.trim()))
        .map(|heading| heading.trim().to_owned())
        .collect();
    let unique: BTreeSet<&String> = documented.iter().collect();
    assert_eq!(
        unique.len(),
        documented.len(),
        "a code has two sections: {documented:?}"
    );
    let used = codes_in_sources();
    for (code, path) in &used {
        assert!(
            unique.contains(code),
            "{code} ({}) has no section in report/CODES.md",
            path.display()
        );
    }
    for code in documented
        .iter()
        .filter(|code| !code.starts_with("POSTLINK_"))
    {
        assert!(
            used.contains_key(code),
            "{code} is documented, but nothing reports it"
        );
    }
}

/// Paths in backticks or link targets of a document that look like files of ours.
fn paths_in(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, part) in document.split('`').enumerate() {
        let is_path = part.contains('/')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        if index % 2 == 1 && is_path && !part.starts_with('/') && !part.starts_with('.') {
            found.push(part.to_owned());
        }
    }
    for part in document.split("](").skip(1) {
        let target = part.split(')').next().unwrap_or_default();
        if !target.starts_with("http") && !target.starts_with('#') {
            found.push(target.to_owned());
        }
    }
    found
}

#[test]
fn documents_name_files_that_exist() {
    let mut seen = 0;
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for path in paths_in(&text(Path::new(document))) {
            let top = path.split('/').next().unwrap_or_default();
            // `apt-get/cargo` and the like are no paths; ours begin with a folder or file of the root.
            if path.contains('/') && !root().join(top).exists() {
                continue;
            }
            assert!(
                root().join(&path).exists(),
                "{document}: {path} does not exist"
            );
            seen += 1;
        }
    }
    assert!(seen >= 25, "{seen} paths");
}

#[test]
fn architecture_is_one_sitting() {
    let lines = text(Path::new("ARCHITECTURE.md")).lines().count();
    assert!(lines <= 120, "ARCHITECTURE.md: {lines} lines, at most 120");
}
