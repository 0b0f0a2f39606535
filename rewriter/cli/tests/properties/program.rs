//! Random programs in assembly: functions with arbitrary control flow that always end.
//!
//! Two registers hold the state of the run: `%r14` a checksum over the numbers of the executed blocks,
//! `%r15` the fuel. Every block burns fuel, and where none is left `out` prints the checksum and exits with its low
//! bits. `%r13` holds a generator that decides branches, so that every edge of a small graph is taken now and then.
//! Nothing depends on an address: what the original prints every right layout must print.

use std::fmt::Write as _;

use crate::random::Random;

/// How a program will be linked, as far as its code must know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// At a fixed address: absolute operands are allowed.
    Exec,
    /// Position-independent.
    Pie,
}

/// A program as text, and what a profile may say of it.
pub(crate) struct Program {
    /// For the assembler.
    pub(crate) text: String,
    /// Names of functions, as fdata spells them, by number.
    pub(crate) names: Vec<String>,
    /// For each branch the functions that it leaves and reaches. The offsets in them are in section `.probes` of the
    /// object file: two 8-byte words for each branch.
    pub(crate) probes: Vec<(usize, usize)>,
}

/// How a function keeps its frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// No unwind entry.
    NoCfi,
    /// Distances from `%rsp`.
    Sp,
    /// Distances from `%rbp` once that is set.
    Bp,
}

/// A block: frames are set up and taken down on edges, so that every path agrees on what is on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Pushes done when it is entered: 0 to 2.
    pub(crate) enter: usize,
    /// And when it is left.
    pub(crate) leave: usize,
}

/// One function under construction.
pub(crate) struct Function {
    pub(crate) number: usize,
    pub(crate) frame: Frame,
    /// Bytes of locals that the second push takes.
    pub(crate) locals: usize,
    pub(crate) blocks: Vec<Block>,
}

/// Everything that is being written.
pub(crate) struct Writer<'r> {
    pub(crate) random: &'r mut Random,
    pub(crate) kind: Kind,
    pub(crate) functions: usize,
    pub(crate) text: String,
    /// Tables, behind the code.
    pub(crate) tables: String,
    pub(crate) probes: Vec<(usize, usize)>,
    /// The function that was written last runs into the next one: nothing may stand between them.
    pub(crate) falls_into_next: bool,
    /// Numbers of the leaves that stand in front of what is being written.
    pub(crate) leaves: Vec<usize>,
    words: String,
    labels: usize,
    block_ids: usize,
    /// What the function that was written last was made of.
    last: Option<Origin>,
}

/// The state that a function was written from.
struct Origin {
    random: Random,
    block_ids: usize,
    leaves: usize,
}

const HEAD: &str = "\
        .text
        .globl _start
        .type _start, @function
_start: .cfi_startproc
        .cfi_undefined rip
        xor %ebx, %ebx
        xor %ebp, %ebp
        xor %eax, %eax
        xor %ecx, %ecx
        xor %edx, %edx
        pxor %xmm0, %xmm0
";

const OUT: &str = "
        .type out, @function
out:    .cfi_startproc
        mov %r14, %rax
        lea digits+16(%rip), %rsi
        mov $16, %ecx
1:      mov %eax, %edx
        and $15, %edx
        add $'a', %edx
        dec %rsi
        mov %dl, (%rsi)
        shr $4, %rax
        dec %ecx
        jnz 1b
        mov $1, %eax
        mov $1, %edi
        lea digits(%rip), %rsi
        mov $17, %edx
        syscall
        mov %r14d, %edi
        and $127, %edi
        mov $60, %eax
        syscall
        hlt
        .cfi_endproc
        .size out, . - out

        .globl __gxx_personality_v0
        .type __gxx_personality_v0, @function
__gxx_personality_v0:
        ret
        .size __gxx_personality_v0, . - __gxx_personality_v0
";

const DATA: &str = "
        .section .rodata.cst16, \"aM\", @progbits, 16
        .p2align 4
constants:
        .quad 0x0123456789abcdef, 0x7f4a7c159e3779b9
        .section .data.rel.local.personality, \"aw\"
        .p2align 3
personality: .quad __gxx_personality_v0
        .section .data.words, \"aw\"
        .p2align 3
words:  .quad 17, 34, 51, 68
digits: .ascii \"0123456789abcdef\\n\"
";

/// A program of that kind.
pub(crate) fn generate(random: &mut Random, kind: Kind) -> Program {
    let functions = random.between(2, 9);
    let mut writer = Writer {
        random,
        kind,
        functions,
        text: HEAD.to_owned(),
        tables: String::new(),
        probes: Vec::new(),
        falls_into_next: false,
        leaves: Vec::new(),
        words: String::new(),
        labels: 0,
        block_ids: 0,
        last: None,
    };
    writer.start();
    let mut sizes_kept = Vec::new();
    for number in 0..functions {
        sizes_kept.push(writer.function_or_twin(number));
    }
    writer.text.push_str(OUT);
    writer.pointers();
    let Writer { text, tables, probes, words, .. } = writer;
    let text = format!(
        "{text}{tables}{DATA}        .section .probes, \"\", @progbits\n{words}        .section .note.GNU-stack, \"\", @progbits\n"
    );
    let names = sizes_kept.iter().enumerate().map(|(number, global)| format!("f{number}{}", if *global { "" } else { "/1" }));
    Program { text, names: names.collect(), probes }
}

impl Writer<'_> {
    /// A line of code.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str("        ");
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    /// A new local label.
    pub(crate) fn label(&mut self) -> String {
        self.labels += 1;
        format!(".L{}", self.labels)
    }

    /// A branch from `from` to a label of `to`, which the profile may count.
    pub(crate) fn branch(&mut self, from: usize, mnemonic: &str, target: &str, to: usize) {
        let here = self.label();
        let _ = writeln!(self.text, "{here}:  {mnemonic} {target}");
        let target = target.trim_end_matches("@PLT");
        let _ = writeln!(self.words, "        .quad {here} - f{from}, {target} - f{to}");
        self.probes.push((from, to));
    }

    /// Any function.
    pub(crate) fn any_function(&mut self) -> usize {
        self.random.below(self.functions)
    }

    fn start(&mut self) {
        let fuel = self.random.between(50, 3000);
        let seed = self.random.below(1 << 30);
        self.line(format!("mov ${seed}, %r13d"));
        self.line("mov $1, %r14d");
        self.line(format!("mov ${fuel}, %r15d"));
        let again = self.label();
        self.text.push_str(&format!("{again}:\n"));
        for number in 0..self.functions {
            if number == 0 || self.random.chance(70) {
                self.line(format!("call f{number}"));
            }
        }
        self.line("dec %r15");
        self.line(format!("jns {again}"));
        self.line("call out");
        self.line("ud2\n        .cfi_endproc\n        .size _start, . - _start");
    }

    /// One function, or the one before it once more: then they are equal but for what each says of itself.
    fn function_or_twin(&mut self, number: usize) -> bool {
        let is_twin = self.random.chance(40) && !self.falls_into_next && number + 1 < self.functions;
        let origin = self.last.take().filter(|_| is_twin);
        if let Some(origin) = origin {
            let after = self.random.fork();
            *self.random = origin.random;
            let (block_ids, leaves) = (self.block_ids, self.leaves.split_off(origin.leaves));
            self.block_ids = origin.block_ids;
            let global = self.function(number);
            *self.random = after;
            self.block_ids = self.block_ids.max(block_ids);
            self.leaves.extend(leaves);
            return global;
        }
        self.last = Some(Origin { random: self.random.clone(), block_ids: self.block_ids, leaves: self.leaves.len() });
        self.function(number)
    }

    /// One function; returns whether its symbol is global.
    fn function(&mut self, number: usize) -> bool {
        let last = number + 1 == self.functions;
        let count = self.random.between(1, 14);
        let frame = *self.random.pick(&[Frame::NoCfi, Frame::Sp, Frame::Sp, Frame::Sp, Frame::Bp, Frame::Bp]);
        let levels = if frame == Frame::NoCfi { 1 } else { 3 };
        let mut blocks: Vec<Block> = (0..count)
            .map(|index| {
                let enter = if index == 0 { 0 } else { self.random.below(levels) };
                Block { enter, leave: enter }
            })
            .collect();
        for index in 0..count {
            // A block may leave at any depth that another is entered at; depth 0 can always return.
            let leave = match self.random.below(4) {
                0 => self.random.pick(&blocks).enter,
                1 => 0,
                _ => blocks.get(index + 1).map_or(0, |next| next.enter),
            };
            blocks[index].leave = leave;
        }
        let locals = 8 * self.random.between(1, 40);
        let function = Function { number, frame, locals, blocks };
        let global = self.random.chance(50);
        self.text.push('\n');
        let follows = std::mem::take(&mut self.falls_into_next);
        match self.random.below(10) {
            _ if follows => {}
            0 => self.line(".section .text.unlikely, \"ax\""),
            1 => self.line(format!(".section .text.f{number}, \"ax\"")),
            _ => self.line(".text"),
        }
        if !follows && self.random.chance(60) {
            let align = self.random.between(1, 6);
            let fill = if self.random.chance(20) { ", 0xcc" } else { "" };
            self.line(format!(".p2align {align}{fill}"));
        }
        if global {
            self.line(format!(".globl f{number}"));
        }
        self.line(format!(".type f{number}, @function"));
        if self.random.chance(10) {
            self.text.push_str(&format!("f{number}_alias:\n"));
            self.line(format!(".type f{number}_alias, @function"));
            self.line(format!(".size f{number}_alias, .Lend{number} - f{number}"));
        }
        self.text.push_str(&format!("f{number}:\n"));
        let handles = frame != Frame::NoCfi && self.random.chance(25);
        if frame != Frame::NoCfi {
            self.line(".cfi_startproc");
        }
        if handles {
            self.line(format!(".cfi_personality 0x9b, personality\n        .cfi_lsda 0x1b, .Llsda{number}"));
        }
        let mut depth = 0;
        for index in 0..count {
            if index > 0 && self.random.chance(15) {
                let align = self.random.between(1, 5);
                self.line(format!(".p2align {align}"));
            }
            self.declare(&function, depth, function.blocks[index].enter);
            depth = self.block(&function, index, last);
        }
        if frame != Frame::NoCfi {
            self.line(".cfi_endproc");
        }
        self.text.push_str(&format!(".Lend{number}:\n"));
        if handles {
            self.call_sites(number, count);
        }
        self.line(format!(".size f{number}, . - f{number}"));
        if !self.falls_into_next {
            // A function so small that what it leaves behind is hardly worth a thought.
            self.line(format!(".type leaf{number}, @function"));
            self.text.push_str(&format!("leaf{number}:\n"));
            self.line("lea 9(%r14), %r14\n        ret");
            self.line(format!(".size leaf{number}, . - leaf{number}"));
            self.leaves.push(number);
        }
        global
    }

    /// An exception table whose call sites are blocks and whose landing pads are other blocks. Nobody throws; the
    /// proof compares it.
    fn call_sites(&mut self, number: usize, blocks: usize) {
        let mut sites = String::new();
        for block in 0..blocks {
            if self.random.chance(50) {
                continue;
            }
            let start = block_label(number, block);
            let end = if block + 1 < blocks { block_label(number, block + 1) } else { format!(".Lend{number}") };
            let pad = match self.random.below(blocks) {
                0 => "0".to_owned(),
                pad => format!("{} - f{number}", block_label(number, pad)),
            };
            let _ = writeln!(sites, "        .uleb128 {start} - f{number}, {end} - {start}, {pad}, 0");
        }
        let _ = write!(
            self.tables,
            "        .section .gcc_except_table, \"a\"\n.Llsda{number}:\n        .byte 0xff, 0xff, 1\n        \
             .uleb128 .Lsites{number}e - .Lsites{number}\n.Lsites{number}:\n{sites}.Lsites{number}e:\n"
        );
    }

    /// CFI for a place at depth `to` that stands behind one at depth `from`.
    fn declare(&mut self, function: &Function, from: usize, to: usize) {
        if from == to || function.frame == Frame::NoCfi {
            return;
        }
        let by_bp = function.frame == Frame::Bp;
        let saved = if by_bp { "%rbp" } else { "%rbx" };
        match to {
            0 => {
                self.line(".cfi_def_cfa %rsp, 8");
                self.line(format!(".cfi_restore {saved}"));
            }
            _ => {
                if by_bp {
                    self.line(".cfi_def_cfa %rbp, 16");
                } else {
                    self.line(format!(".cfi_def_cfa %rsp, {}", 16 + if to == 2 { function.locals } else { 0 }));
                }
                self.line(format!(".cfi_offset {saved}, -16"));
            }
        }
    }

    /// Code that changes the depth of the frame, with its CFI.
    fn change(&mut self, function: &Function, from: usize, to: usize) {
        let (by_bp, locals) = (function.frame == Frame::Bp, function.locals);
        let mut at = from;
        while at != to {
            let next = if at < to { at + 1 } else { at - 1 };
            match (at, next) {
                (0, 1) if by_bp => {
                    self.line("push %rbp\n        .cfi_def_cfa_offset 16\n        .cfi_offset %rbp, -16");
                    self.line("mov %rsp, %rbp\n        .cfi_def_cfa_register %rbp");
                }
                (0, 1) => self.line("push %rbx\n        .cfi_adjust_cfa_offset 8\n        .cfi_rel_offset %rbx, 0"),
                (1, 2) => {
                    self.line(format!("sub ${locals}, %rsp"));
                    if !by_bp {
                        self.line(format!(".cfi_adjust_cfa_offset {locals}"));
                    }
                }
                (2, 1) => {
                    self.line(format!("add ${locals}, %rsp"));
                    if !by_bp {
                        self.line(format!(".cfi_adjust_cfa_offset -{locals}"));
                    }
                }
                _ if by_bp => self.line("pop %rbp\n        .cfi_def_cfa %rsp, 8\n        .cfi_restore %rbp"),
                _ => self.line("pop %rbx\n        .cfi_adjust_cfa_offset -8\n        .cfi_restore %rbx"),
            }
            at = next;
        }
    }

    /// One block; returns the depth behind it in the text.
    fn block(&mut self, function: &Function, index: usize, last: bool) -> usize {
        let block = function.blocks[index];
        self.block_ids += 1;
        let id = self.block_ids;
        self.text.push_str(&format!("{}:\n", block_label(function.number, index)));
        if index == 0 && self.random.chance(20) {
            self.line("endbr64");
        }
        self.line("imul $0x01000193, %r14, %r14");
        self.line(format!("add ${id}, %r14"));
        self.line("dec %r15");
        if self.random.chance(70) {
            let condition = self.random.pick(&["js", "jl", "js"]);
            self.line(format!("{condition} out"));
        } else {
            let on = self.label();
            self.branch(function.number, "jns", &on, function.number);
            self.line("call out");
            if self.random.chance(50) {
                let trap = self.random.pick(&["ud2", "int3", "hlt", "nop"]);
                self.line(trap);
            }
            self.text.push_str(&format!("{on}:\n"));
        }
        // Blocks that end in an 8-bit branch to themselves stay below 128 bytes.
        let short = self.random.chance(8);
        let most = if short { 1 } else { 5 };
        for _ in 0..self.random.below(most + 1) {
            self.body(function, block.enter, short);
        }
        if short && block.enter == block.leave {
            self.short_branch(function.number, index);
        }
        self.change(function, block.enter, block.leave);
        self.end_of_block(function, index, last);
        block.leave
    }
}

/// The label of a block; that of block 0 is the function itself.
pub(crate) fn block_label(function: usize, block: usize) -> String {
    if block == 0 { format!("f{function}") } else { format!(".Lf{function}b{block}") }
}
