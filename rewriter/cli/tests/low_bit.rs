//! A function whose address is a value keeps an even address: the checker asks for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;

use std::collections::BTreeSet;
use std::process::Command;

use postlink_cfg::{FunctionId, Graphs, recover};
use postlink_emit::{EmitOptions, assemble, emit};
use postlink_image::Image;
use postlink_layout::{BlockOrderChoice, FunctionOrderChoice, FunctionPlan, Mode, PlanOptions, SplitChoice, shape};
use postlink_verify::{CheckOptions, Obligation, check};
use program::Folder;

/// Functions of an odd number of bytes, known by a table, by an operand, and by calls only.
const SOURCE: &str = r#"
.macro function name, value
.globl \name
.type \name, @function
.p2align 4
\name: .cfi_startproc
    movl $\value, %eax
    nop
    ret
    .cfi_endproc
.size \name, . - \name
.endm
.text
function in_table_a, 1
function in_table_b, 2
function in_table_c, 3
function in_code_a, 4
function in_code_b, 5
function in_code_c, 6
function called_a, 7
function called_b, 8
function called_c, 9
.globl main
.type main, @function
.p2align 4
main: .cfi_startproc
    leaq in_code_a(%rip), %rax
    leaq in_code_b(%rip), %rcx
    leaq in_code_c(%rip), %rdx
    call called_a
    call called_b
    call called_c
    xorl %eax, %eax
    ret
    .cfi_endproc
.size main, . - main
.data
.globl table
table: .quad in_table_a, in_table_b, in_table_c
.section .note.GNU-stack,"",@progbits
"#;

#[test]
fn an_odd_address_that_is_a_value_is_no_proof() {
    for kind in [["-no-pie", "-fno-pie"], ["-pie", "-fPIE"]] {
        let folder = Folder::new(&format!("low-bit{}", kind[0]));
        std::fs::write(folder.path("p.s"), SOURCE).unwrap();
        let mut line = Command::new("gcc");
        let built = line.args(["-Wl,-q", "-o"]).arg(folder.path("old")).arg(folder.path("p.s")).args(kind).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let bytes = folder.read("old");
        let image = Image::parse(&bytes).unwrap();
        let program = recover(&image).unwrap();
        let options = PlanOptions {
            mode: Mode::Full,
            block_order: BlockOrderChoice::Keep,
            function_order: FunctionOrderChoice::Keep,
            split: SplitChoice::None,
            seed: 0,
            hot_all: false,
            whole_only: false,
            fold: false,
        };
        let proof_with = |align: Option<u32>| {
            let graphs = Graphs::default();
            let may_move = program.functions.iter().map(|_| true).collect();
            let shapes = shape(&program, &graphs, None, &options, &may_move);
            let order = shapes.order(&program, None, &options);
            let mut plan = shapes.into_plan(Mode::Full, order);
            for index in 0..program.functions.len() {
                if let (FunctionPlan::Whole { align: old, hot }, Some(align)) =
                    (&mut plan.functions[FunctionId(u32::try_from(index).unwrap())], align)
                {
                    // Others keep more of their address than they are asked to.
                    (*old, *hot) = (align, true);
                }
            }
            let assembled = assemble(&program, &graphs, &plan.functions, false).unwrap();
            let output = emit(&program, assembled, &plan, &EmitOptions { note: b"{}".to_vec(), ..EmitOptions::default() }).unwrap();
            let new = Image::parse(&output.bytes).unwrap();
            check(&image, &new, &output.map, &CheckOptions::default())
        };
        let as_planned = proof_with(None);
        assert!(as_planned.is_proven(), "{:?}", as_planned.violations);
        // One behind the other, of seven bytes each.
        let packed = proof_with(Some(1));
        let rules: BTreeSet<(Obligation, &str)> =
            packed.violations.iter().map(|violation| (violation.obligation, violation.rule)).collect();
        assert!(rules.contains(&(Obligation::Pointers, "low-bit")), "{kind:?}: {:?}", packed.violations);
        assert!(rules.contains(&(Obligation::Code, "low-bit")), "{kind:?}: {:?}", packed.violations);
        assert!(rules.iter().all(|rule| rule.1 == "low-bit"), "nothing else is wrong: {rules:?}");
        // The function at fault is the one that moved to an odd address; those that are only called may.
        let symbols = image.symtab().unwrap();
        let named = |name: &str| symbols.iter().find(|symbol| symbols.name(symbol) == name.as_bytes()).unwrap().value;
        let blamed: BTreeSet<u64> = packed.violations.iter().map(|violation| violation.function.unwrap().raw()).collect();
        assert!(blamed.iter().all(|entry| entry % 2 == 0), "{blamed:x?}");
        assert!(["called_a", "called_b", "called_c"].iter().all(|name| !blamed.contains(&named(name))), "{kind:?}");
        assert!(["in_table_a", "in_table_b", "in_table_c"].iter().any(|name| blamed.contains(&named(name))), "{kind:?}");
        assert!(["in_code_a", "in_code_b", "in_code_c"].iter().any(|name| blamed.contains(&named(name))), "{kind:?}");
    }
}
