//! `optimize --keep-relocs` on compiled programs: the relocations of the output give the words that stand there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;
#[path = "properties/relocs.rs"]
mod relocs;

use std::path::Path;
use std::process::Command;

use program::{Folder, postlink};

const PROGRAMS: [&str; 12] = [
    "c/switch_dense.c", "c/pointer_tables.c", "c/callbacks.c", "c/tls_models.c", "c/ifunc.c", "c/string_merge.c",
    "c/goto_threaded_code.c", "c/weak_undefined.c", "c/relr.c", "cxx/virtual_calls.cpp", "cxx/exceptions_nested.cpp", "cxx/rtti.cpp",
];

const LAYOUTS: [&[&str]; 3] = [
    &["--block-order", "random", "--function-order", "random", "--split", "random"],
    &["--block-order", "reverse", "--function-order", "reverse"],
    &["--mode", "hot", "--hot-all", "--split", "all"],
];

/// Folder of clang and ld.lld.
fn llvm() -> &'static str {
    let folders = ["/usr/lib/llvm-19/bin", "/usr/lib/llvm-20/bin", "/usr/lib/llvm-18/bin"];
    folders.into_iter().find(|folder| Path::new(folder).join("ld.lld").exists()).unwrap_or("/usr/bin")
}

/// Builds `source` as `old` in the folder; what it prints and returns.
fn build(folder: &Folder, source: &str, compiler: &str, linker: &str, kind: &[&str]) -> std::process::Output {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/programs");
    let mut line = Command::new(compiler);
    line.args(["-O2", "-w", "-Wl,-q", "-o"]).arg(folder.path("old")).arg(programs.join(source)).args(kind);
    line.args([format!("-B{}", llvm()), format!("-fuse-ld={linker}"), "-lm".to_owned(), "-lpthread".to_owned()]);
    let built = line.output().unwrap();
    assert!(built.status.success(), "{line:?}: {}", String::from_utf8_lossy(&built.stderr));
    Command::new(folder.path("old")).output().unwrap()
}

#[test]
fn kept_relocations_give_the_words_at_their_places() {
    let clang = |source: &str| format!("{}/clang{}", llvm(), if source.starts_with("cxx") { "++" } else { "" });
    let gcc = |source: &str| if source.starts_with("cxx") { "g++" } else { "gcc" }.to_owned();
    let mut direct = 0;
    for (index, source) in PROGRAMS.into_iter().enumerate() {
        for (number, linker) in ["bfd", "lld", "bfd", "lld"].into_iter().enumerate() {
            let folder = Folder::new(&format!("relocs-{index}-{number}"));
            let compiler = if number < 2 { gcc(source) } else { clang(source) };
            let kind: &[&str] = if (index + number) % 2 == 0 { &["-no-pie", "-fno-pie"] } else { &["-pie", "-fPIE"] };
            let expected = build(&folder, source, &compiler, linker, kind);
            let old = relocs::read(&folder.read("old"));
            for layout in LAYOUTS {
                let what = format!("{source} {compiler} {linker} {kind:?} {layout:?}");
                let mut arguments = vec!["optimize", "old", "-o", "new", "--keep-relocs"];
                arguments.extend(layout);
                let ran = postlink(&folder, &arguments);
                assert_eq!(ran.status(), 0, "{what}: {}", ran.stderr());
                let new = relocs::read(&folder.read("new"));
                if let Err(why) = relocs::compare(&old, &new, 0, ran.stderr().contains("folded into equal ones")) {
                    panic!("{what}: {why}");
                }
                direct += new.direct;
                let now = Command::new(folder.path("new")).output().unwrap();
                assert_eq!((now.status, &now.stdout), (expected.status, &expected.stdout), "{what}");
            }
        }
    }
    assert!(direct > 5_000, "only {direct} relocations");
}

#[test]
fn without_the_option_there_are_none_and_an_output_is_no_input() {
    let folder = Folder::with_program("relocs-none");
    assert_eq!(postlink(&folder, &["optimize", "program", "-o", "plain"]).status(), 0);
    assert!(relocs::read(&folder.read("plain")).counts.is_empty());
    let kept = postlink(&folder, &["optimize", "program", "-o", "kept", "--keep-relocs", "--block-order", "reverse"]);
    assert_eq!(kept.status(), 0, "{}", kept.stderr());
    assert!(kept.stderr().contains("POSTLINK_SECTION") && kept.stderr().contains(".rela.eh_frame"), "{}", kept.stderr());
    assert!(relocs::read(&folder.read("kept")).direct >= 4);
    let again = postlink(&folder, &["optimize", "kept", "-o", "again"]);
    assert_eq!(again.status(), 1);
    assert!(again.stderr().contains("POSTLINK_TARGET_UNSUPPORTED"), "{}", again.stderr());
    assert_eq!(postlink(&folder, &["verify", "program", "kept"]).status(), 0);
    // Tools of others read it, and drop what they do not want.
    folder.tool("strip", &["kept", "-o", "stripped"]);
    assert_eq!(postlink(&folder, &["verify", "program", "stripped"]).status(), 0);
}
