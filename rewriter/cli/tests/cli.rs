//! The command line as a user meets it: what each command prints, on which stream, with which exit
//! status. The program is assembled here, so that every address in the expected text is known.
#![allow(clippy::expect_used, reason = "a test that cannot build its program has failed")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;

use program::{Folder, postlink};

#[test]
fn dump_functions_is_stable() {
    let folder = Folder::with_program("dump-functions");
    let expected = "\
# address size class reason fde parent name
0x401000 21 free - fde - _start
0x401020 46 free - fde - classify
0x401050 7 rigid CFG007 fde - where_am_i
";
    assert_eq!(postlink(&folder, &["dump", "functions", "program"]).stdout(), expected);
    let last = postlink(&folder, &["dump", "functions", "program", "0x401050"]);
    assert_eq!(last.stdout().lines().nth(1), expected.lines().nth(3));
    assert_eq!(last.stdout().lines().count(), 2);
}

#[test]
fn dump_cfg_is_stable() {
    let folder = Folder::with_program("dump-cfg");
    let expected = "\
function classify 0x401020 blocks 6
  bb0 +0x0..+0x8 body 6: branch Condition(7) bb5 else bb1
  bb1 +0x8..+0xf body 7: indirect-jump
    -> bb2 bb3 bb4
  bb2 +0xf..+0x15 body 6 label: stop
  bb3 +0x15..+0x1b body 6 label: stop
  bb4 +0x1b..+0x28 body 13 label: stop
  bb5 +0x28..+0x2e body 6: stop
";
    assert_eq!(postlink(&folder, &["dump", "cfg", "program", "classify"]).stdout(), expected);
    let dot = postlink(&folder, &["dump", "cfg", "program", "classify", "--format", "dot"]).stdout();
    assert!(dot.starts_with("digraph cfg {\n") && dot.ends_with("}\n"), "{dot}");
}

#[test]
fn dump_references_is_stable() {
    let folder = Folder::with_program("dump-references");
    let expected = "\
# from kind to evidence
_start+0x6 call classify reloc
classify+0x1d call where_am_i decoded
0x401058 abs64 classify+0xf reloc
0x401060 abs64 classify+0x15 reloc
0x401068 abs64 classify+0x1b reloc
";
    assert_eq!(postlink(&folder, &["dump", "references", "program"]).stdout(), expected);
}

#[test]
fn dump_unwind_is_stable() {
    let folder = Folder::with_program("dump-unwind");
    let expected = "\
# fde pc-begin pc-end lsda function
0x401088 0x401000 0x401015 - _start
0x4010b4 0x401020 0x40104e - classify
0x4010d0 0x401050 0x401057 - where_am_i
";
    assert_eq!(postlink(&folder, &["dump", "unwind", "program"]).stdout(), expected);
}

#[test]
fn dump_callgraph_is_stable() {
    let folder = Folder::with_program("dump-callgraph");
    let expected = "\
# caller callee kind places
_start classify call 1
classify where_am_i call 1
";
    assert_eq!(postlink(&folder, &["dump", "callgraph", "program"]).stdout(), expected);
}

#[test]
fn doctor_is_stable() {
    let folder = Folder::with_program("doctor");
    let expected = "\
kind           x86-64 executable at fixed addresses (no PIE), statically linked
code           87 bytes in 1 executable section
linker         not named in the file (GNU ld never is)
symbols        12 in .symtab, 3 of them functions
relocations    kept: 2 in code, 6 in data; 0 dynamic
unwinding      .eh_frame, 120 bytes; no exception tables
CET            no
debug info     none
build id       none: link with -Wl,--build-id to tell builds apart

what may move           functions                   bytes
  free                 2 ( 66.66 %)             67 ( 90.54 %)
  rigid                1 ( 33.33 %)              7 (  9.45 %)
  pinned               0 (  0.00 %)              0 (  0.00 %)

references to code, by evidence and by class of what they lead to
                      free     rigid    pinned      stub  no function
  reloc                  4         0         0         0            0
  dynamic                0         0         0         0            0
  decoded                0         1         0         0            0
  table                  0         0         0         0            0
  unwind                 2         1         0         0            0
  symbol                 2         1         0         0            0

why not free (report/CODES.md says more about each code)
  CFG007 rigid: 1 function, 7 bytes: a call into the function itself reads its own address
         where_am_i (7 bytes)

result   postlink optimize can rewrite this file
";
    let ran = postlink(&folder, &["doctor", "program"]);
    let (headline, rest) = ran.stdout().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("lines");
    assert!(headline.starts_with("file           program, ") && headline.ends_with("64-bit little-endian ELF"), "{headline}");
    assert_eq!(rest, expected);
    assert_eq!((ran.stderr().as_str(), ran.status()), ("", 0));
}

#[test]
fn doctor_weighs_by_samples() {
    let folder = Folder::with_program("doctor-profile");
    std::fs::write(folder.path("p.fdata"), "1 _start 5 1 classify 0 0 3\n1 classify 1c 1 where_am_i/1 0 0 1\n")
        .expect("write a profile");
    let text = postlink(&folder, &["doctor", "program", "--profile", "p.fdata"]).stdout();
    assert!(text.contains("where_am_i"), "{text}");
    assert!(text.contains("profile  100 % of its counts fit this program\n"), "{text}");
    let free = text.lines().find(|line| line.starts_with("  free")).expect("a line for free functions");
    assert!(!free.ends_with("(100.00 %)") && free.matches('%').count() == 3, "{free}");
}

#[test]
fn doctor_says_what_is_missing() {
    let folder = Folder::new("doctor-missing");
    folder.link("plain", &[]);
    folder.link("stripped", &[]);
    folder.tool("strip", &["stripped"]);
    folder.link("haskell", &["-Wl,-q", "-Wl,--defsym=stg_upd_frame_info=0"]);
    std::fs::write(folder.path("text"), "#!/bin/sh\n").expect("write a script");
    for (file, on_stdout, on_stderr, hint) in [
        ("plain", "relocations    not kept for code", "linked without --emit-relocs", "-Wl,-q"),
        ("stripped", "no .symtab: the file is stripped", "no symbol table", "strip the output"),
        ("haskell", "x86-64 executable", "code of GHC (Haskell)", "cannot be rewritten"),
        ("text", "script", "not an ELF file", "64-bit little-endian ELF"),
    ] {
        let ran = postlink(&folder, &["doctor", file]);
        assert_eq!(ran.status(), 1, "{file}");
        assert!(ran.stdout().contains(on_stdout), "{file}: {}", ran.stdout());
        let stderr = ran.stderr();
        assert!(stderr.starts_with("error[POSTLINK_TARGET_UNSUPPORTED]: "), "{file}: {stderr}");
        let told = stderr.lines().nth(1).unwrap_or_default();
        assert!(stderr.contains(on_stderr) && told.starts_with("hint: ") && told.contains(hint), "{file}: {stderr}");
    }
}

#[test]
fn optimize_verify_and_explain_agree() {
    let folder = Folder::with_program("optimize");
    let optimize = ["optimize", "program", "-o", "out", "--block-order", "reverse", "--function-order", "reverse"];
    let ran = postlink(&folder, &optimize);
    assert_eq!((ran.status(), ran.stdout().as_str()), (0, ""), "{}", ran.stderr());
    assert!(ran.stderr().contains("proof      P1-P7 hold: 3 functions"), "{}", ran.stderr());
    assert_eq!(folder.names(), ["out", "program", "program.s"], "no other file is left");
    let status = std::process::Command::new(folder.path("out")).status().expect("the output runs");
    assert_eq!(status.code(), Some(30));

    let verified = postlink(&folder, &["verify", "program", "out", "--report", "rows"]);
    assert_eq!((verified.status(), verified.stderr().as_str()), (0, ""));
    assert!(verified.stdout().ends_with("\nPROVEN: out is the program program\n"), "{}", verified.stdout());
    let rows = String::from_utf8(folder.read("rows/verify-obligations.tsv")).expect("text");
    assert_eq!(rows.lines().next(), Some("obligation\ttitle\tchecked\tviolated"));
    assert_eq!(rows.lines().skip(1).filter(|line| line.starts_with('P') && line.ends_with("\t0")).count(), 7, "{rows}");

    let explained = postlink(&folder, &["explain", "classify", "--old", "program", "--new", "out"]).stdout();
    for expected in ["function   classify\n", "class      free\n", "\n  reloc: 4\n", "_start+0x6 call classify"] {
        assert!(explained.contains(expected), "{expected:?} in {explained}");
    }
    // Six blocks, and the entry stays first though the order is reversed.
    let blocks: Vec<&str> = explained.lines().filter(|line| line.starts_with("  bb")).collect();
    assert_eq!(blocks.len(), 6, "{explained}");
    assert!(blocks[0].starts_with("  bb0 ") && blocks[1].starts_with("  bb5 "), "{explained}");
}

#[test]
fn verify_refuses_another_program() {
    let folder = Folder::with_program("verify");
    let optimize = ["optimize", "program", "-o", "out", "--block-order", "reverse", "--map-file", "map"];
    assert_eq!(postlink(&folder, &optimize).status(), 0);
    folder.tool("objcopy", &["--remove-section=.postlink.map", "out"]);
    // The map is elsewhere: with it proven, without it not.
    assert_eq!(postlink(&folder, &["verify", "program", "out", "--map", "map"]).status(), 0);
    assert_eq!(postlink(&folder, &["verify", "program", "out"]).status(), 1);
    // `mov $20, %eax` becomes `mov $21, %eax`.
    let mut bytes = folder.read("out");
    let at = bytes.windows(5).position(|window| window == [0xb8, 20, 0, 0, 0]).expect("the instruction");
    bytes[at + 1] = 21;
    std::fs::write(folder.path("changed"), &bytes).expect("write the changed file");
    let ran = postlink(&folder, &["verify", "program", "changed", "--map", "map", "--report", "rows"]);
    assert_eq!(ran.status(), 1);
    let page = ran.stdout();
    assert!(page.starts_with("violations, "), "violations come first: {page}");
    assert!(page.contains("P1 ") && page.contains("NOT PROVEN [POSTLINK_PROOF]: changed"), "{page}");
    let rows = String::from_utf8(folder.read("rows/verify-violations.jsonl")).expect("text");
    assert!(rows.contains("\"code\":\"POSTLINK_PROOF\",\"obligation\":\"P1\""), "{rows}");
    // A map that is none.
    let ran = postlink(&folder, &["verify", "program", "out", "--map", "program.s"]);
    assert_eq!(ran.status(), 1);
    assert!(ran.stderr().starts_with("error[POSTLINK_PROOF]: program.s: address map"), "{}", ran.stderr());
}

#[test]
fn usage_errors_have_status_2_and_write_nothing() {
    let folder = Folder::with_program("usage");
    let cases: [&[&str]; 6] = [
        &[],
        &["optimize", "program"],
        &["optimize", "program", "-o", "out", "--mode", "half"],
        &["optimize", "program", "-o", "out", "--only", "nobody"],
        &["verify", "program"],
        &["explain", "nobody", "--old", "program", "--new", "program"],
    ];
    for arguments in cases {
        let ran = postlink(&folder, arguments);
        assert_eq!((ran.status(), ran.stdout().as_str()), (2, ""), "{arguments:?}");
        assert!(!ran.stderr().is_empty(), "{arguments:?}");
    }
    assert_eq!(folder.names(), ["program", "program.s"]);
    for arguments in [["--help"], ["--version"]] {
        let ran = postlink(&folder, &arguments);
        assert_eq!((ran.status(), ran.stderr().as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn unreadable_and_unwritable_files_are_refused() {
    let folder = Folder::with_program("files");
    for arguments in [
        &["doctor", "missing"][..],
        &["verify", "missing", "program"],
        &["optimize", "missing", "-o", "out"],
        &["optimize", "program", "-o", "no/such/folder/out"],
        &["optimize", "program", "-o", "out", "--profile", "missing"],
    ] {
        let ran = postlink(&folder, arguments);
        assert_eq!(ran.status(), 1, "{arguments:?}");
        assert!(ran.stderr().starts_with("error[CLI002]: cannot "), "{arguments:?}: {}", ran.stderr());
    }
    assert_eq!(folder.names(), ["program", "program.s"]);
}

#[test]
fn a_stale_profile_is_refused() {
    let folder = Folder::with_program("stale");
    // One call that is there, and many branches in the middle of instructions.
    std::fs::write(folder.path("p.fdata"), "1 _start 5 1 classify 0 0 1\n1 classify 3 1 classify 7 0 100\n")
        .expect("write a profile");
    let ran = postlink(&folder, &["optimize", "program", "-o", "out", "--profile", "p.fdata"]);
    assert_eq!(ran.status(), 1);
    assert!(ran.stderr().starts_with("error[POSTLINK_PROFILE_STALE]: "), "{}", ran.stderr());
    assert_eq!(folder.names(), ["p.fdata", "program", "program.s"]);
}

#[test]
fn the_demo_is_proven_and_the_same() {
    let folder = Folder::new("demo");
    let ran = postlink(&folder, &["demo", "--keep", "files"]);
    assert_eq!(ran.status(), 0, "{}{}", ran.stdout(), ran.stderr());
    let text = ran.stdout();
    for expected in ["PROVEN: tally.postlink is the program tally", "same output, same exit status", "primes below 200000: 17984"] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    let (old, new) = (folder.read("files/tally"), folder.read("files/tally.postlink"));
    assert!(new.len() <= old.len() && new != old, "{} -> {}", old.len(), new.len());
    let row = text.lines().find(|line| line.contains("taken branches, by the profile")).expect("the row");
    let numbers: Vec<u64> = row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[1] < numbers[0], "{row}");
}

#[test]
fn a_new_segment_without_permissions_is_not_proven() {
    let folder = Folder::with_program("cli-permissions");
    let ran = postlink(&folder, &["optimize", "program", "-o", "new", "--mode", "hot", "--hot-all", "--split", "all"]);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    let mut new = folder.read("new");
    let number = |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let start = number(&new, 0x20);
    let last = (0..number(&new, 0x38)).map(|index| start + 56 * index).rfind(|&at| number(&new, at) == 1).expect("a segment");
    new[last + 4] &= !4;
    std::fs::write(folder.path("damaged"), &new).expect("write the damaged file");
    assert_eq!(postlink(&folder, &["verify", "program", "new"]).status(), 0);
    let ran = postlink(&folder, &["verify", "program", "damaged"]);
    assert_eq!(ran.status(), 1, "{}", ran.stdout());
    assert!(ran.stdout().contains("cannot be read"), "{}", ran.stdout());
}
