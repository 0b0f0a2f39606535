//! Pairs of an original and a file that stands for the same program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An original and its counterpart.
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

const C: [&str; 17] = [
    "hello", "switch_dense", "switch_nested", "switch_sparse", "switch_vm", "callbacks", "cold_parts", "pointer_tables",
    "tail_calls", "goto_static_table", "relr", "ifunc", "cet", "varargs", "init_order", "big_function",
    "equal_functions",
];
const CXX: [&str; 9] = [
    "exceptions_cleanup", "exceptions_nested", "exceptions_cold", "exceptions_switch", "virtual_calls", "templates",
    "relative_vtables", "rtti", "equal_functions",
];

/// Of these, `twice` and `name` move; the others stay and lead to them.
const KEPT: &str = r#"
#include <stdio.h>
__attribute__((noinline)) int twice(int n) { return n * 2 + 1; }
__attribute__((noinline)) int name(int n) { switch (n) { case 0: puts("zero"); break; case 1: puts("one"); break; case 2: puts("two"); break;
    case 3: puts("three"); break; case 4: puts("four"); break; case 5: puts("five"); break; default: return n; } return 7; }
typedef int (*step)(int);
__attribute__((noinline)) step choose(int n) { return n & 1 ? twice : name; }
__attribute__((noinline)) int both(int n) { return twice(n) + name(n) * 3; }
__attribute__((noinline)) int last(int n) { return n > 3 ? twice(n - 1) : name(n + 1); }
__attribute__((noinline)) int loop(int n) { int sum = 0; for (int i = 0; i < n; i++) { sum += choose(i)(i); sum ^= both(i); } return sum; }
int main(int argc, char **argv) { (void)argv; printf("%d\n", loop(argc + 5) + last(argc)); return 0; }
"#;

/// Builds the programs and rewrites them. Without a `postlink` binary beside the test (or in
/// `POSTLINK`), a file stands for itself.
pub(crate) fn all(folder: &Path, most: usize) -> Vec<Pair> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/programs");
    let postlink = find_postlink();
    let mut pairs = Vec::new();
    let sources = C.iter().map(|name| (format!("c/{name}.c"), "gcc")).chain(CXX.iter().map(|name| (format!("cxx/{name}.cpp"), "g++")));
    let kept = folder.join("kept.c");
    std::fs::write(&kept, KEPT).unwrap();
    let sources = sources.map(|(source, compiler)| (programs.join(&source), source, compiler)).take(most);
    let kept = [0, 1].map(|_| (kept.clone(), "kept.c".to_owned(), "gcc"));
    for (index, (file, source, compiler)) in sources.chain(kept).enumerate() {
        let flags: &[&str] = match index % 3 {
            0 => &["-fPIE", "-pie"],
            1 => &["-fno-pie", "-no-pie"],
            _ => &["-fPIE", "-pie", "-fcf-protection=full", "-Wl,-z,pack-relative-relocs"],
        };
        let old = folder.join(format!("old-{index}"));
        let built = Command::new(compiler)
            .args(["-O2", "-Wl,-q", "-w", "-fno-ipa-icf"])
            .args(flags)
            .arg(file)
            .arg("-o")
            .arg(&old)
            .args(["-lm", "-lpthread"])
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("{source}: {compiler} could not build it");
            continue;
        }
        let new = folder.join(format!("new-{index}"));
        let layout: &[&str] = match index % 4 {
            _ if source == "kept.c" => &["--mode", "hot", "--hot-all", "--only", "twice", "--only", "name"],
            0 => &["--block-order", "reverse", "--split", "all"],
            1 => &["--block-order", "random", "--function-order", "random", "--split", "random"],
            2 => &["--block-order", "reverse"],
            // Code that stays and leads to code that moved, and the other way round.
            _ => &["--mode", "hot", "--block-order", "reverse", "--hot-all", "--max-functions", "9"],
        };
        let rewritten = postlink.as_ref().is_some_and(|postlink| {
            let mut command = Command::new(postlink);
            command.arg("optimize").arg(&old).arg("-o").arg(&new).arg("--no-verify").args(layout);
            command.output().is_ok_and(|output| output.status.success())
        });
        let old = std::fs::read(&old).unwrap();
        let new = if rewritten { std::fs::read(&new).unwrap() } else { old.clone() };
        let how = if rewritten { layout.join(" ") } else { "identity".to_owned() };
        pairs.push(Pair { name: format!("{source} {} ({how})", flags.join(" ")), old, new });
    }
    pairs
}

pub(crate) fn find_postlink() -> Option<PathBuf> {
    if let Ok(path) = std::env::var("POSTLINK") {
        return Some(PathBuf::from(path));
    }
    // .../target/<profile>/deps/mutations-<hash>
    let folder = std::env::current_exe().ok()?.ancestors().nth(2)?.to_path_buf();
    Some(folder.join("postlink")).filter(|path| path.exists())
}
