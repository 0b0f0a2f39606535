//! What stands in the blocks of a random program, and how they end.

use std::fmt::Write as _;

use crate::program::{Frame, Function, Kind, Writer, block_label};

const CONDITIONS: [&str; 16] =
    ["jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg"];

impl Writer<'_> {
    /// One or a few instructions that change nothing but the checksum and scratch registers.
    pub(crate) fn body(&mut self, function: &Function, depth: usize, short: bool) {
        let word = 8 * self.random.below(4);
        let number = self.random.below(1 << 31);
        let number = if self.random.chance(50) { number & 127 } else { number };
        match self.random.below(if short { 9 } else { 18 }) {
            0 => self.line(format!("add words+{word}(%rip), %r14")),
            1 => self.line(format!("xorl ${number}, words+{word}(%rip)")),
            2 => self.line(format!("lea words(%rip), %rdx\n        add {word}(%rdx), %r14")),
            3 => self.line(format!("lea {}(%r14,%r13,2), %r14", number & 0xffff)),
            4 => {
                let size = self.random.between(1, 11);
                self.line(format!(".nops {size}"));
            }
            5 => self.line("paddq constants(%rip), %xmm0\n        movd %xmm0, %eax\n        add %rax, %r14"),
            6 => {
                self.line("push %r13");
                self.adjust(function, depth, 8);
                self.line("pop %rax");
                self.adjust(function, depth, -8);
                self.line("add %rax, %r14");
            }
            7 if self.kind == Kind::Exec => self.line(format!("add words+{word}, %r14")),
            8 if depth > 0 && function.frame == Frame::Sp => self.line("lea 3(%rbx,%r13), %rbx\n        xor %rbx, %r14"),
            9 => {
                let size = self.random.between(12, 200);
                self.line(format!(".nops {size}"));
            }
            10 => {
                let (on, condition) = (self.label(), *self.random.pick(&CONDITIONS));
                self.decide();
                self.branch(function.number, condition, &on, function.number);
                self.line(format!("add ${number}, %r14"));
                self.text.push_str(&format!("{on}:\n"));
            }
            _ => self.call(function.number),
        }
    }

    fn adjust(&mut self, function: &Function, depth: usize, by: isize) {
        if function.frame == Frame::Sp || function.frame == Frame::Bp && depth == 0 {
            self.line(format!(".cfi_adjust_cfa_offset {by}"));
        }
    }

    fn call(&mut self, from: usize) {
        let to = self.any_function();
        let slot = 8 * self.random.below(8);
        match self.random.below(16) {
            0 => self.line(format!("lea f{to}(%rip), %rax\n        call *%rax")),
            1 if self.kind == Kind::Exec => self.line(format!("mov $f{to}, %eax\n        call *%rax")),
            2 if self.kind == Kind::Exec => self.line(format!("movabs $f{to}, %rax\n        call *%rax")),
            1 | 2 => self.line(format!("call *f{to}@GOTPCREL(%rip)")),
            3 => self.line(format!("mov f{to}@GOTPCREL(%rip), %rax\n        call *%rax")),
            4 => self.line(format!("call *pointers+{slot}(%rip)")),
            5 => {
                self.line("mov %r13d, %eax\n        and $7, %eax\n        lea pointers(%rip), %rdx");
                self.line("call *(%rdx,%rax,8)");
            }
            6 if self.kind == Kind::Exec => {
                self.line("mov %r13d, %eax\n        and $7, %eax\n        call *pointers(,%rax,8)");
            }
            8 if !self.leaves.is_empty() => {
                let leaf = *self.random.pick(&self.leaves);
                self.line(format!("call leaf{leaf}"));
            }
            7 => self.branch(from, "call", &format!("f{to}@PLT"), to),
            _ => self.branch(from, "call", &format!("f{to}"), to),
        }
    }

    /// Sets the flags, differently every time.
    fn decide(&mut self) {
        let shift = self.random.between(8, 55);
        let number = self.random.below(128);
        self.line("imul $0x5deece66d & 0x7fffffff, %r13, %r13\n        add $11, %r13");
        self.line(format!("mov %r13, %rax\n        shr ${shift}, %rax"));
        match self.random.below(6) {
            0 => self.line("add %al, %al"),
            1 => self.line(format!("test ${number}, %al")),
            2 => self.line(format!("sub ${number}, %al")),
            3 => self.line("bt $3, %eax"),
            _ => self.line(format!("cmp ${number}, %al")),
        }
    }

    /// `jrcxz` and its relatives: to the block itself, or over a jump.
    pub(crate) fn short_branch(&mut self, function: usize, index: usize) {
        let mnemonic = *self.random.pick(&["jrcxz", "jecxz", "loop", "loope", "loopne"]);
        self.line("mov %r13, %rcx\n        shr $11, %rcx\n        and $3, %ecx");
        if self.random.chance(50) {
            let label = block_label(function, index);
            self.branch(function, mnemonic, &label, function);
        } else {
            let (over, on) = (self.label(), self.label());
            self.branch(function, mnemonic, &over, function);
            self.branch(function, "jmp", &on, function);
            self.text.push_str(&format!("{over}:\n"));
            self.line("inc %r14");
            self.text.push_str(&format!("{on}:\n"));
        }
    }

    /// How block `index` ends; `last`: no function follows.
    pub(crate) fn end_of_block(&mut self, function: &Function, index: usize, last: bool) {
        let number = function.number;
        let leave = function.blocks[index].leave;
        let same: Vec<usize> = (0..function.blocks.len()).filter(|&other| function.blocks[other].enter == leave).collect();
        let target = |writer: &mut Self| block_label(number, *writer.random.pick(&same));
        let falls = function.blocks.get(index + 1).is_some_and(|next| next.enter == leave);
        let at_end = index + 1 == function.blocks.len();
        let condition = *self.random.pick(&CONDITIONS);
        let choice = self.random.below(20);
        // Control may run into the next function where that follows and expects no frame.
        if at_end && leave == 0 && !last && choice == 0 && function.frame == Frame::NoCfi {
            // Not behind a call: one that ends a function is taken not to return (docs/proof.md, A4).
            self.falls_into_next = true;
            return self.line("lea 1(%r14), %r14");
        }
        match choice {
            0..=3 if falls => {}
            4..=9 if falls => {
                self.decide();
                let label = if self.random.chance(5) { block_label(number, index + 1) } else { target(self) };
                self.branch(number, condition, &label, number);
            }
            10 if falls && leave == 0 => {
                let to = self.any_function();
                self.decide();
                self.branch(number, condition, &format!("f{to}"), to);
            }
            11..=13 => self.table_jump(function, &same),
            14 => {
                // Two branches on one decision, and a jump behind them.
                self.decide();
                let labels = [target(self), target(self), target(self)];
                self.branch(number, condition, &labels[0], number);
                let second = *self.random.pick(&["jp", "jne", "jb", "jo"]);
                self.branch(number, second, &labels[1], number);
                self.branch(number, "jmp", &labels[2], number);
            }
            15 if leave == 0 => {
                let to = self.any_function();
                self.branch(number, "jmp", &format!("f{to}"), to);
            }
            16 if leave == 0 && self.random.chance(30) => {
                let slot = 8 * self.random.below(8);
                self.line(format!("jmp *pointers+{slot}(%rip)"));
            }
            17 if self.random.chance(40) => self.line("call out"),
            18 if self.random.chance(10) && !same.is_empty() => {
                // A label as a value: nothing but the word in data tells of it.
                let (label, word) = (target(self), self.label());
                let _ = writeln!(self.tables, "        .section .data.pointers, \"aw\"\n        .p2align 3\n{word}: .quad {label}");
                self.line(format!("mov {word}(%rip), %rax\n        jmp *%rax"));
            }
            _ if leave == 0 && self.random.chance(60) => {
                let ret = *self.random.pick(&["ret", "ret", "ret", "rep ret"]);
                self.line(ret);
            }
            _ if falls && self.random.chance(70) => {}
            _ => {
                // Where no block is entered at this depth, only an end is left.
                if same.is_empty() {
                    self.line("jmp out");
                } else {
                    let label = target(self);
                    self.branch(number, "jmp", &label, number);
                }
            }
        }
    }

    /// A jump through a table of addresses or of distances.
    fn table_jump(&mut self, function: &Function, same: &[usize]) {
        let number = function.number;
        if same.is_empty() {
            return self.line("jmp out");
        }
        let size = self.random.between(2, 9);
        let table = self.label();
        let default = block_label(number, *self.random.pick(same));
        let entries: Vec<String> = (0..size).map(|_| block_label(number, *self.random.pick(same))).collect();
        self.decide();
        let mask = (size + 1).next_power_of_two() - 1;
        self.line(format!("shr $1, %eax\n        and ${mask}, %eax\n        cmp ${}, %eax", size - 1));
        self.branch(number, "ja", &default, number);
        let by_distance = self.random.chance(50);
        let notrack = if self.random.chance(15) { "notrack " } else { "" };
        if by_distance && self.random.chance(15) {
            // Two jumps through one table.
            let on = self.label();
            self.line(format!("lea {table}(%rip), %rdx\n        movslq (%rdx,%rax,4), %rax\n        add %rdx, %rax"));
            self.line("test $16, %r13b");
            self.branch(number, "jne", &on, number);
            self.line("inc %r14\n        jmp *%rax");
            self.text.push_str(&format!("{on}:\n"));
            self.line("jmp *%rax");
        } else if by_distance {
            self.line(format!("lea {table}(%rip), %rdx\n        movslq (%rdx,%rax,4), %rax\n        add %rdx, %rax"));
            self.line(format!("{notrack}jmp *%rax"));
        } else if self.kind == Kind::Exec && self.random.chance(60) {
            self.line(format!("{notrack}jmp *{table}(,%rax,8)"));
        } else {
            self.line(format!("lea {table}(%rip), %rdx\n        {notrack}jmp *(%rdx,%rax,8)"));
        }
        let section = if self.kind == Kind::Exec || by_distance { ".rodata,\"a\"" } else { ".data.rel.ro,\"aw\"" };
        let _ = writeln!(self.tables, "        .section {section}\n        .p2align {}\n{table}:", if by_distance { 2 } else { 3 });
        for entry in entries {
            let _ = if by_distance {
                writeln!(self.tables, "        .long {entry} - {table}")
            } else {
                writeln!(self.tables, "        .quad {entry}")
            };
        }
        if self.random.chance(10) {
            // Another table, or something else, does not always follow.
            self.tables.push_str("        .long 0x1234567, 0\n");
        }
    }

    /// The table of function pointers.
    pub(crate) fn pointers(&mut self) {
        self.tables.push_str("        .section .data.pointers, \"aw\"\n        .p2align 3\npointers:\n");
        for _ in 0..8 {
            let to = self.any_function();
            let _ = writeln!(self.tables, "        .quad f{to}");
        }
    }
}
