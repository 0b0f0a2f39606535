//! Equal functions become one where nobody can tell, and nowhere else; the checker proves the one and refuses the other.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;

use std::collections::BTreeMap;
use std::process::Command;

use postlink_base::OldAddr;
use postlink_cfg::{FunctionId, Graphs, Program, fold_classes, recover};
use postlink_emit::{EmitOptions, assemble, emit};
use postlink_image::Image;
use postlink_layout::{BlockOrderChoice, FunctionOrderChoice, FunctionPlan, Mode, PlanOptions, SplitChoice, shape};
use postlink_verify::{CheckOptions, Proof, check};
use program::{Folder, postlink};

/// Pairs of functions `NAME_a` and `NAME_b`. `main` calls them all.
const SOURCE: &str = r#"
.macro begin name
.type \name, @function
.p2align 4
\name: .cfi_startproc
.endm
.macro end name
.cfi_endproc
.size \name, . - \name
.endm
.macro pair name, first, second
begin \name\()_a
\first
end \name\()_a
begin \name\()_b
\second
end \name\()_b
.endm
.macro save
push %rbx
.cfi_adjust_cfa_offset 8
.cfi_offset %rbx, -16
mov %edi, %ebx
.endm
.macro leave
pop %rbx
.cfi_adjust_cfa_offset -8
.cfi_restore %rbx
ret
.endm
.macro calling callee
save
call \callee
add %ebx, %eax
leave
.endm
.macro counting callee, more
save
xor %eax, %eax
sub $1, %edi
js 1f
call \callee
1: lea \more(%rax,%rbx), %eax
leave
.endm
.macro adding place
mov \place(%rip), %eax
add %edi, \place(%rip)
ret
.endm
.macro constant value
lea \value(%rdi), %eax
ret
.endm
.macro labelled name, where
lea 5(%rdi), %eax
\name: add $\where, %eax
ret
.endm
.macro framed says
push %rbx
.cfi_adjust_cfa_offset 8
.if \says
.cfi_offset %rbx, -16
.endif
lea 7(%rdi), %eax
leave
.endm
.text
pair called, "constant 1", "constant 1"
pair caller, "calling called_a", "calling called_b"
pair itself, "counting itself_a 1", "counting itself_b 1"
pair crossed, "counting crossed_b 2", "counting crossed_a 2"
pair ping, "counting pong_a 3", "counting pong_b 3"
pair pong, "counting ping_a 4", "counting ping_b 4"
pair same_place, "adding shared", "adding shared"
pair stored, "constant 2", "constant 2"
pair taken, "constant 3", "constant 3"
pair one_taken, "constant 4", "constant 4"
pair value, "constant 5", "constant 6"
pair place, "adding left", "adding right"
pair callee, "calling stored_a", "calling stored_b"
pair framed, "framed 1", "framed 0"
pair labelled, "labelled inside_a, 9", "labelled inside_b, 9"
.globl main
begin main
save
lea taken_a(%rip), %rax
lea taken_b(%rip), %rdx
cmp %rax, %rdx
je 1f
lea one_taken_a(%rip), %rax
mov $6, %edi
call *%rax
.irp name, called, caller, itself, crossed, ping, pong, same_place, stored, taken, one_taken, value, place, callee, framed, labelled
lea 3(%rbx), %edi
and $7, %edi
call \name\()_a
imul $31, %ebx, %ebx
add %eax, %ebx
lea 5(%rbx), %edi
and $7, %edi
call \name\()_b
imul $31, %ebx, %ebx
add %eax, %ebx
.endr
mov table(%rip), %rax
cmp table+8(%rip), %rax
je 1f
mov labels(%rip), %rax
cmp labels+8(%rip), %rax
je 1f
mov %ebx, %esi
lea format(%rip), %rdi
xor %eax, %eax
call printf
xor %eax, %eax
leave
.cfi_adjust_cfa_offset 8
.cfi_offset %rbx, -16
1: ud2
end main
.section .rodata
format: .asciz "%u\n"
.data
.p2align 3
shared: .long 1
left: .long 2
right: .long 3
.p2align 3
table: .quad stored_a, stored_b
labels: .quad inside_a, inside_b
.section .note.GNU-stack,"",@progbits
"#;

/// Each pair, and whether it may become one.
const PAIRS: [(&str, bool); 15] = [
    ("called", true),
    ("caller", true),
    ("itself", true),
    ("crossed", true),
    ("ping", true),
    ("pong", true),
    ("same_place", true),
    ("stored", false),
    ("taken", false),
    ("one_taken", true),
    ("value", false),
    ("place", false),
    ("callee", false),
    ("framed", false),
    ("labelled", false),
];

const LAYOUTS: [&[&str]; 8] = [
    &[],
    &["--block-order", "reverse", "--function-order", "reverse", "--split", "all", "--keep-relocs"],
    &["--block-order", "random", "--function-order", "random", "--split", "random", "--seed", "7"],
    &["--mode", "hot", "--hot-all", "--keep-relocs"],
    &["--mode", "hot", "--hot-all", "--block-order", "reverse", "--split", "all"],
    &["--skip", "main"],
    &["--mode", "hot", "--hot-all", "--skip", "main"],
    &["--icf", "none"],
];

const KINDS: [&[&str]; 3] = [&["-pie", "-fPIE"], &["-no-pie", "-fno-pie"], &["-static", "-no-pie", "-fno-pie"]];

fn build(name: &str, flags: &[&str]) -> Folder {
    let folder = Folder::new(name);
    std::fs::write(folder.path("p.s"), SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-Wl,-q", "-o"]).arg(folder.path("old")).arg(folder.path("p.s")).args(flags);
    let built = gcc.output().unwrap();
    assert!(built.status.success(), "{gcc:?}: {}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// Values of the symbols of a file.
fn symbols(bytes: &[u8]) -> BTreeMap<String, u64> {
    let image = Image::parse(bytes).unwrap();
    let table = image.symtab().unwrap();
    table.iter().map(|symbol| (String::from_utf8_lossy(table.name(&symbol)).into_owned(), symbol.value)).collect()
}

#[test]
fn pairs_become_one_where_nobody_can_tell() {
    for (number, kind) in KINDS.into_iter().enumerate() {
        let folder = build(&format!("fold-{number}"), kind);
        let expected = Command::new(folder.path("old")).output().unwrap();
        assert!(expected.status.success() && expected.stdout.len() > 2, "{expected:?}");
        let old = symbols(&folder.read("old"));
        for layout in LAYOUTS {
            let what = format!("{kind:?} {layout:?}");
            let ran = postlink(&folder, &[&["optimize", "old", "-o", "new", "--report", "report"], layout].concat());
            assert_eq!(ran.status(), 0, "{what}: {}", ran.stderr());
            assert!(!ran.stderr().contains("CFG020"), "{what}: {}", ran.stderr());
            let bytes = folder.read("new");
            let (new, map) = (symbols(&bytes), postlink_verify::read_map(&Image::parse(&bytes).unwrap()).unwrap().unwrap());
            let folds = !layout.contains(&"--icf");
            for (name, is_one) in PAIRS {
                let [a, b] = ["a", "b"].map(|end| format!("{name}_{end}"));
                assert_eq!(new[&a] == new[&b], is_one && folds, "{what}: {name}");
                assert_eq!(map.to_new(OldAddr::new(old[&b])).raw(), new[&b], "{what}: {name}");
            }
            assert_eq!(ran.stderr().contains(" folded into equal ones ("), folds, "{what}: {}", ran.stderr());
            let rows = String::from_utf8(folder.read("report/functions.jsonl")).unwrap();
            let rows: Vec<serde_json::Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            for (name, is_one) in PAIRS {
                let shared = |end| {
                    let row = rows.iter().find(|row| row["function"] == format!("{name}_{end}")).unwrap();
                    (row["shared_with"].as_str().map(str::to_owned), row["new_blake3"].clone())
                };
                let first = (is_one && folds).then(|| format!("{:#x}", old[&format!("{name}_a")]));
                assert_eq!((shared("a").0, shared("b").0), (first.clone(), first.clone()), "{what}: {name}");
                assert!(first.is_none() || shared("a").1 == shared("b").1, "{what}: {name}");
            }
            let explained = postlink(&folder, &["explain", "called_b", "--old", "old", "--new", "new"]).stdout();
            assert_eq!(explained.contains("is that of called_a as well"), folds, "{what}: {explained}");
            let now = Command::new(folder.path("new")).output().unwrap();
            assert_eq!((now.status, now.stdout), (expected.status, expected.stdout.clone()), "{what}");
            assert_eq!(postlink(&folder, &["verify", "old", "new"]).status(), 0, "{what}");
        }
    }
}

/// How a program is laid out: mode, which blocks are split off, and a function that stays.
type Layout = (Mode, SplitChoice, Option<FunctionId>);

/// The program with one function folded into another one, whether they are equal or not.
fn folded(program: &Program<'_>, image: &Image<'_>, (from, into): (FunctionId, FunctionId), (mode, split, stays): Layout) -> Option<Proof> {
    let options = PlanOptions {
        mode,
        block_order: BlockOrderChoice::Keep,
        function_order: FunctionOrderChoice::Keep,
        split,
        seed: 0,
        hot_all: true,
        whole_only: false,
        fold: false,
    };
    let graphs = Graphs::default();
    let may_move = program.functions.ids().map(|id| Some(id) != stays).collect();
    let shapes = shape(program, &graphs, None, &options, &may_move);
    let order = shapes.order(program, None, &options).into_iter().filter(|placed| placed.function != from).collect();
    let mut plan = shapes.into_plan(mode, order);
    plan.functions[from] = FunctionPlan::Fold { into };
    let assembled = assemble(program, &graphs, &plan.functions, false).ok()?;
    let output = emit(program, assembled, &plan, &EmitOptions { note: b"{}".to_vec(), ..EmitOptions::default() }).ok()?;
    let new = Image::parse(&output.bytes).unwrap();
    Some(check(image, &new, &output.map, &CheckOptions::default()))
}

/// The rules that are violated.
fn rules(proof: &Proof) -> Vec<&'static str> {
    let mut rules: Vec<&str> = proof.violations.iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn what_is_folded_without_right_is_no_proof() {
    let refused: [(&str, &[&str]); 7] = [
        ("stored", &["value-shared"]),
        ("taken", &["value-shared"]),
        ("labelled", &["value-in-shared-code"]),
        ("value", &["instruction"]),
        ("place", &["memory-operand"]),
        ("callee", &["branch-target"]),
        ("framed", &["unwind-row"]),
    ];
    for (number, kind) in KINDS[..2].iter().enumerate() {
        let folder = build(&format!("fold-wrong-{number}"), kind);
        let bytes = folder.read("old");
        let image = Image::parse(&bytes).unwrap();
        let program = recover(&image).unwrap();
        let old = symbols(&bytes);
        let id = |name: &str| program.function_at(old[name]).unwrap();
        // Code that stays and takes addresses is compared without being decoded.
        let layouts = [
            (Mode::Full, SplitChoice::None, None),
            (Mode::Full, SplitChoice::All, None),
            (Mode::Hot, SplitChoice::None, Some(id("main"))),
            (Mode::Full, SplitChoice::None, Some(id("main"))),
        ];
        for layout in layouts {
            let fold = |from: &str, into: &str| folded(&program, &image, (id(from), id(into)), layout).unwrap();
            for (name, is_one) in PAIRS {
                let [a, b] = ["a", "b"].map(|end| format!("{name}_{end}"));
                // What leads to what is equal only once that is one as well.
                if matches!(name, "caller" | "itself" | "ping" | "pong") {
                    continue;
                }
                for (from, into) in [(&a, &b), (&b, &a)] {
                    let proof = fold(from, into);
                    let found = rules(&proof);
                    assert_eq!(proof.is_proven(), is_one, "{kind:?} {layout:?} {from} into {into}: {:#?}", proof.violations);
                    if let Some((_, expected)) = refused.iter().find(|refused| refused.0 == name) {
                        assert!(expected.iter().all(|rule| found.contains(rule)), "{kind:?} {layout:?} {from} into {into}: {found:?}");
                    }
                    // Somebody can be kept, so that the rest is proven.
                    assert!(is_one || proof.violations.iter().any(|violation| violation.function.is_some()), "{:#?}", proof.violations);
                }
            }
        }
    }
}

#[test]
fn any_two_functions_are_one_only_if_they_are_equal() {
    let folder = build("fold-any", KINDS[0]);
    let bytes = folder.read("old");
    let image = Image::parse(&bytes).unwrap();
    let program = recover(&image).unwrap();
    let all: Vec<FunctionId> = program.functions.ids().collect();
    let classes = fold_classes(&program, &vec![true; all.len()], &program.address_taken());
    let class = |id: FunctionId| classes.iter().position(|class| class.representative == id || class.others.contains(&id));
    let (mut refused, mut proven) = (0, 0);
    for &from in &all {
        for &into in &all {
            let (one, other) = (&program.functions[from], &program.functions[into]);
            let may_move = |function: &postlink_cfg::Function| function.class == postlink_cfg::Class::Free;
            if from == into || !may_move(one) || !may_move(other) || one.size() != other.size() {
                continue;
            }
            let Some(proof) = folded(&program, &image, (from, into), (Mode::Full, SplitChoice::None, None)) else { continue };
            if proof.is_proven() {
                assert!(class(from).is_some() && class(from) == class(into), "{} into {}", program.name(from), program.name(into));
                proven += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(refused > 50 && proven >= 6, "{refused} refused, {proven} proven");
}
