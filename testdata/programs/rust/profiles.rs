// One program at other settings: size, debug, overflow checks, one unit of code generation with LTO, frame pointers, panic=abort.
//@ build: tag=size
//@ flags: -Copt-level=z
//@ build: tag=debug
//@ flags: -Copt-level=0 -Cdebuginfo=2
//@ build: tag=lto kinds=exec,pie
//@ flags: -Copt-level=3 -Clto=fat -Ccodegen-units=1
//@ build: tag=abort kinds=exec,pie,static-pie
//@ flags: -Copt-level=3 -Cpanic=abort -Cforce-frame-pointers=yes
#[inline(never)]
fn levenshtein(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = before + usize::from(ca != *cb);
            before = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}
fn run() -> i32 {
    for (a, b) in [("kitten", "sitting"), ("", "abc"), ("flaw", "lawn"), ("same", "same")] {
        println!("{a} {b} {}", levenshtein(a, b));
    }
    let collatz = (1u64..3000).map(|n| (std::iter::successors(Some(n), |&n| (n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 })).count(), n)).max();
    println!("{collatz:?}");
    0
}

#[no_mangle]
pub extern "C" fn program_main() -> i32 {
    run()
}

#[cfg(not(so))]
fn main() {
    std::process::exit(program_main());
}
