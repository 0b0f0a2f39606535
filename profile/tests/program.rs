//! Profiles of a real, small program: names, blocks, calls, staleness.
//!
//! The program is assembled and linked by the test; without a compiler the tests are skipped, loudly,
//! or fail if `POSTLINK_REQUIRE_TOOLS=1`.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking and says so when it is skipped"
)]

use std::path::Path;
use std::process::Command;

use postlink_base::Id;
use postlink_cfg::{FunctionCfg, FunctionId, Program, build_cfg, recover};
use postlink_image::Image;
use postlink_profile::{
    AttachStats, FunctionCounts, Profile, ProfileKind, attach, attach_all, call_arcs, function_weights, merge,
    read_fdata,
};

/// Two files with a local `helper` each. `work` is laid out by hand:
///
/// ```text
/// 00 push %rbx          bb0
/// 01 mov $5, %ebx
/// 06 call helper        bb1, loop head
/// 0b dec %ebx
/// 0d jne 06
/// 0f nop                bb2
/// 10 call helper
/// 15 pop %rbx
/// 16 ret
/// ```
const FIRST: &str = "
    .file \"first.c\"
    .text
    .globl work
    .type work, @function
work:
    push %rbx
    mov $5, %ebx
1:  call helper
    dec %ebx
    jne 1b
    nop
    call helper
    pop %rbx
    ret
    .size work, .-work
    .type helper, @function
helper:
    test %edi, %edi
    je 1f
    inc %edi
1:  ret
    .size helper, .-helper
";
const SECOND: &str = "
    .file \"second.c\"
    .text
    .globl _start
    .type _start, @function
_start:
    call work
    call helper
    jmp tail
    .size _start, .-_start
    .type helper, @function
helper:
    mov $1, %eax
    ret
    .size helper, .-helper
    .globl tail
    .type tail, @function
tail:
    mov $60, %eax
    xor %edi, %edi
    syscall
    ud2
    .size tail, .-tail
";

/// The linked program, or `None` if there is no compiler.
fn link() -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("first.s"), FIRST).unwrap();
    std::fs::write(path("second.s"), SECOND).unwrap();
    let run = |dir: &Path| {
        Command::new("cc")
            .current_dir(dir)
            .args(["-nostdlib", "-static", "-no-pie", "-Wl,-q", "-o", "program", "first.s", "second.s"])
            .status()
    };
    match run(dir.path()) {
        Ok(status) if status.success() => Some(std::fs::read(path("program")).unwrap()),
        outcome => {
            assert!(std::env::var_os("POSTLINK_REQUIRE_TOOLS").is_none(), "no program to test with: {outcome:?}");
            eprintln!("SKIPPED: cc cannot link a program here: {outcome:?}");
            None
        }
    }
}

fn check(test: impl Fn(&Program<'_>)) {
    let Some(bytes) = link() else { return };
    let image = Image::parse(&bytes).unwrap();
    test(&recover(&image).unwrap());
}

fn read(program: &Program<'_>, text: &str) -> Profile {
    read_fdata(text.as_bytes(), program).unwrap()
}

/// Functions in the order of their addresses: work, helper, `_start`, helper, tail.
fn ids(program: &Program<'_>) -> [FunctionId; 5] {
    let names: Vec<String> = program.functions.ids().map(|id| program.name(id)).collect();
    assert_eq!(names, ["work", "helper", "_start", "helper", "tail"]);
    std::array::from_fn(FunctionId::from_index)
}

fn attached(profile: &Profile, program: &Program<'_>, id: FunctionId) -> (FunctionCfg, FunctionCounts, AttachStats) {
    let cfg = build_cfg(program, id);
    let (counts, stats) = attach(profile, program, &cfg);
    assert_eq!((counts.blocks.len(), counts.edges.len()), (cfg.blocks.len(), cfg.edges.len()));
    (cfg, counts, stats)
}

/// What llvm-bolt's instrumentation writes when `_start` calls `work` ten times and it loops 5 times.
const COUNTS: &str = "1 _start 0 1 work 0 0 10
1 _start 5 1 helper/2 0 0 10
1 _start a 1 tail 0 0 10
1 work 1 1 work 6 0 10
1 work 6 1 helper/1 0 0 50
1 work d 1 work 6 2 40
1 work d 1 work f 0 10
1 work 10 1 helper/1 0 0 10
1 helper/1 2 1 helper/1 6 0 60
0 [unknown] 0 1 _start 0 0 10
";

#[test]
fn local_names_are_numbered_by_address_or_have_their_file() {
    check(|program| {
        let [_, first, _, second, _] = ids(program);
        for (name, id) in [
            ("helper/1", Some(first)),
            ("helper/2", Some(second)),
            ("helper/first.c/1", Some(first)),
            ("helper/second.c/1", Some(second)),
            ("helper/3", None),
            ("helper/0", None),
            ("helper/second.c/2", None),
            ("helper/third.c/1", None),
            ("helper", None),
            ("nobody", None),
        ] {
            let profile = read(program, &format!("0 x 0 1 {name} 0 0 1\n"));
            let found: Vec<u64> = profile.branches.iter().map(|branch| branch.to).collect();
            let expected: Vec<u64> = id.iter().map(|&id| program.functions[id].start).collect();
            assert_eq!(found, expected, "{name}");
            let stats = profile.stats;
            assert_eq!(stats.ambiguous_names, u64::from(name == "helper"));
            assert_eq!(stats.unknown_names, u64::from(id.is_none() && name != "helper"), "{name}");
        }
        let by_fde = format!("0 x 0 1 __BOLT_FDE_FUNCat{:x} 2 0 1\n", program.functions[second].start);
        assert_eq!(read(program, &by_fde).branches[0].to, program.functions[second].start + 2);
        // work is 0x17 bytes long.
        assert_eq!(read(program, "0 x 0 1 work 16 0 1\n").stats.out_of_range, 0);
        assert_eq!(read(program, "0 x 0 1 work 17 0 1\n").stats.out_of_range, 1);
    });
}

#[test]
fn counts_of_blocks_and_edges() {
    check(|program| {
        let [work, helper, start, ..] = ids(program);
        let profile = read(program, COUNTS);
        let (cfg, counts, stats) = attached(&profile, program, work);
        assert_eq!(counts.entry, 10);
        assert_eq!(counts.blocks, [10, 50, 10]);
        // bb0->bb1, bb1->bb1, bb1->bb2
        assert_eq!(cfg.edges.len(), 3);
        assert_eq!(counts.edges, [10, 40, 10]);
        assert_eq!(counts.mispredicts, [0, 2, 0]);
        assert_eq!((stats.matched, stats.unmatched, stats.imbalance_after), (120, 0, 0));
        let (_, counts, _) = attached(&profile, program, helper);
        assert_eq!((counts.entry, &counts.blocks[..]), (60, &[60, 0, 60][..]));
        let (_, counts, _) = attached(&profile, program, start);
        assert_eq!((counts.entry, counts.blocks[0]), (10, 10));
    });
}

#[test]
fn taken_branches_are_enough() {
    check(|program| {
        let [work, ..] = ids(program);
        // As a processor records them: calls, returns and the taken branch, no fallthrough.
        let text = "1 _start 0 1 work 0 0 10\n1 work 6 1 helper/1 0 0 50\n1 helper/1 6 1 work b 0 50\n\
                    1 work d 1 work 6 0 40\n1 work 10 1 helper/1 0 0 10\n1 helper/1 6 1 work 15 0 10\n\
                    1 work 16 1 _start 5 0 10\n";
        let profile = read(program, text);
        let (_, counts, stats) = attached(&profile, program, work);
        assert_eq!(counts.blocks, [10, 50, 10]);
        assert_eq!(counts.edges, [10, 40, 10]);
        assert_eq!((stats.unmatched, stats.imbalance_after), (0, 0));
        assert!(stats.imbalance_before > 0);
        assert_eq!(attach_all(&profile, program).share.percent(), 100);
    });
}

#[test]
fn weights_and_calls() {
    check(|program| {
        let [work, first, start, second, tail] = ids(program);
        let profile = read(program, COUNTS);
        let weights = function_weights(&profile, program);
        let of = |id: FunctionId| (weights[id].samples, weights[id].entries);
        assert_eq!(of(work), (10 + 10 + 50 + 50 + 10, 10));
        assert_eq!(of(first), (50 + 10 + 60, 60));
        assert_eq!(of(tail), (10, 10));
        let calls = call_arcs(&profile, program);
        let calls: Vec<_> = calls.iter().map(|call| (call.caller, call.callee, call.count)).collect();
        let expected =
            [(work, first, 50), (work, first, 10), (start, work, 10), (start, second, 10), (start, tail, 10)];
        assert_eq!(calls, expected);
    });
}

#[test]
fn a_fresh_profile_fits_and_one_of_another_program_does_not() {
    check(|program| {
        let share = attach_all(&read(program, COUNTS), program).share;
        assert_eq!((share.matched, share.total), (220, 220));
        assert!(!share.is_stale());
        // Every offset of work moved by one, as if it had been compiled anew.
        let moved = "1 work 2 1 work 7 0 10\n1 work 7 1 helper/1 0 0 50\n1 work e 1 work 7 0 40\n\
                     1 work e 1 work 10 0 10\n1 _start 5 1 helper/2 0 0 10\n1 renamed 5 1 work 0 0 10\n";
        let share = attach_all(&read(program, moved), program).share;
        assert_eq!((share.matched, share.total), (10, 130));
        assert!(share.is_stale());
    });
}

#[test]
fn wrong_records_change_no_count() {
    check(|program| {
        let [work, ..] = ids(program);
        // A branch where there is none, one into an instruction, a call to the inside of a function.
        let wrong = "1 work 1 1 work f 0 900\n1 work d 1 work 8 0 900\n1 work b 1 tail 0 0 900\n";
        let profile = merge(vec![read(program, COUNTS), read(program, wrong)]);
        let (_, counts, stats) = attached(&profile, program, work);
        assert_eq!(counts.blocks, [10, 50, 10]);
        assert_eq!((stats.matched, stats.unmatched), (120, 2700));
    });
}

#[test]
fn a_translated_profile_may_name_any_instruction_of_a_block() {
    check(|program| {
        let [work, ..] = ids(program);
        // Sources are the first instructions of their blocks.
        let text = "1 work 0 1 work 6 0 10\n1 work 6 1 work 6 0 40\n1 work 6 1 work f 0 10\n1 work 0 1 tail 0 0 10\n";
        let share = |text: &str| attached(&read(program, text), program, work).2.share();
        assert_eq!(share(text).percent(), 85);
        assert_eq!(share(&format!("boltedcollection\n{text}")).percent(), 100);
    });
}

#[test]
fn only_the_entry_is_known() {
    check(|program| {
        let [work, ..] = ids(program);
        let (_, counts, _) = attached(&read(program, "0 x 0 1 work 0 0 8\n"), program, work);
        assert_eq!((counts.entry, counts.inside_known), (8, false));
        assert!(attached(&read(program, COUNTS), program, work).1.inside_known);
    });
}

#[test]
fn samples() {
    check(|program| {
        let [work, ..] = ids(program);
        // bb0 has 2 instructions, bb1 three, bb2 four with its NOP.
        let profile = read(program, "no_lbr cycles:u\n1 work 0 2\n1 work 6 20\n1 work d 10\n1 work 15 4\n1 work 7 3\n");
        assert_eq!(profile.kind, ProfileKind::Samples);
        let (_, counts, stats) = attached(&profile, program, work);
        assert_eq!(counts.blocks, [1000, 10_000, 1000]);
        // bb1 -> bb1 and bb1 -> bb2 by the counts of their targets.
        assert_eq!(counts.edges, [1000, 9090, 909]);
        assert_eq!((stats.matched, stats.unmatched), (36, 3));
        assert_eq!(function_weights(&profile, program)[work].samples, 39);
        assert!(call_arcs(&profile, program).is_empty());
    });
}
