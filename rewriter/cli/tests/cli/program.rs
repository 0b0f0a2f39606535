//! Programs for tests of the command line, and running postlink on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A call, a switch with a table of addresses, and a function that reads its own address (rigid).
pub(crate) const SOURCE: &str = r#"
        .text
        .globl _start
        .type _start, @function
_start: .cfi_startproc
        .cfi_undefined rip
        mov $2, %edi
        call classify
        mov %eax, %edi
        mov $60, %eax
        syscall
        ud2
        .cfi_endproc
        .size _start, . - _start

        .p2align 4
        .globl classify
        .type classify, @function
classify:
        .cfi_startproc
        mov %edi, %eax
        cmp $2, %rax
        ja .Lother
        jmp *.Ltable(,%rax,8)
.Lzero: mov $10, %eax
        ret
.Lone:  mov $20, %eax
        ret
.Ltwo:  push %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_offset %rbx, -16
        call where_am_i
        pop %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        mov $30, %eax
        ret
.Lother:
        mov $40, %eax
        ret
        .cfi_endproc
        .size classify, . - classify

        .p2align 4
        .type where_am_i, @function
where_am_i:
        .cfi_startproc
        call 1f
1:      .cfi_adjust_cfa_offset 8
        pop %rax
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
        .size where_am_i, . - where_am_i

        .section .rodata
        .p2align 3
.Ltable:
        .quad .Lzero, .Lone, .Ltwo
        .section .note.GNU-stack, "", @progbits
"#;

/// A folder of one test, made anew by each run.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    /// With `program`, linked from [`SOURCE`]: relocations kept, its code at 0x401000.
    pub(crate) fn with_program(name: &str) -> Self {
        let folder = Self::new(name);
        folder.link("program", &["-Wl,-q", "-Wl,-Ttext=0x401000"]);
        folder
    }

    pub(crate) fn link(&self, output: &str, flags: &[&str]) {
        std::fs::write(self.path("program.s"), SOURCE).expect("write the source");
        let mut gcc = Command::new("gcc");
        gcc.current_dir(&self.0).args(["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"]);
        gcc.args(["-o", output, "program.s"]).args(flags);
        let done = gcc.output().expect("gcc runs (scripts/setup installs it)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Runs a tool of binutils in the folder.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) {
        let done = Command::new(name).current_dir(&self.0).args(arguments).output().expect("binutils are installed");
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file that the test wrote")
    }

    /// Names of all files in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder of the test");
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        names.sort();
        names
    }
}

/// What a command did.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
    /// The exit status; -1 if a signal ended it.
    pub(crate) fn status(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }
}

/// Runs postlink in that folder.
pub(crate) fn postlink(folder: &Folder, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postlink"));
    Ran(command.current_dir(&folder.0).args(arguments).output().expect("postlink runs"))
}
