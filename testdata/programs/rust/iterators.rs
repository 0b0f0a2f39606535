// Iterator chains, sorting, hashing, strings, big integer arithmetic: much inlined generic code.
//@ profile: instrumented
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
fn sieve(n: usize) -> Vec<usize> {
    let mut composite = vec![false; n + 1];
    (2..=n).filter(|&i| { if composite[i] { return false; } (i * i..=n).step_by(i).for_each(|j| composite[j] = true); true }).collect()
}
fn shortest(grid: &[&str]) -> Option<usize> {
    let cells: Vec<Vec<u8>> = grid.iter().map(|r| r.bytes().collect()).collect();
    let (h, w) = (cells.len() as i32, cells[0].len() as i32);
    let mut seen = HashSet::from([(0, 0)]);
    let mut queue = VecDeque::from([(0i32, 0i32, 0usize)]);
    while let Some((y, x, d)) = queue.pop_front() {
        if (y, x) == (h - 1, w - 1) { return Some(d); }
        for (dy, dx) in [(0, 1), (1, 0), (0, -1), (-1, 0)] {
            let (ny, nx) = (y + dy, x + dx);
            if (0..h).contains(&ny) && (0..w).contains(&nx) && cells[ny as usize][nx as usize] == b'.' && seen.insert((ny, nx)) { queue.push_back((ny, nx, d + 1)); }
        }
    }
    None
}
fn factorial(n: u32) -> String {
    let mut digits = vec![1u32];
    for k in 2..=n {
        let mut carry = 0u64;
        for d in &mut digits { let v = u64::from(*d) * u64::from(k) + carry; *d = (v % 1_000_000_000) as u32; carry = v / 1_000_000_000; }
        while carry > 0 { digits.push((carry % 1_000_000_000) as u32); carry /= 1_000_000_000; }
    }
    let mut text = digits.last().map(u32::to_string).unwrap_or_default();
    for d in digits.iter().rev().skip(1) { text.push_str(&format!("{d:09}")); }
    text
}
fn run() -> i32 {
    let primes = sieve(500);
    println!("{} {:?}", primes.len(), primes.iter().rev().take(5).collect::<Vec<_>>());
    let words = "one two three two one four three two".split(' ');
    let mut counts: Vec<_> = words.fold(HashMap::new(), |mut m, w| { *m.entry(w).or_insert(0) += 1; m }).into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    println!("{counts:?}");
    println!("{:?} {:?}", shortest(&["..#.", "#...", "..#.", "#..."]), shortest(&[".#", "#."]));
    let mut heap: BinaryHeap<_> = (0..20).map(|i| (i * 37) % 23).collect();
    let ordered: Vec<i32> = std::iter::from_fn(|| heap.pop()).collect();
    println!("{ordered:?} {:?}", ordered.windows(2).map(|w| w[0] - w[1]).collect::<BTreeSet<_>>());
    println!("{}", factorial(60));
    println!("{}", "grüße, 世界".chars().rev().flat_map(char::to_uppercase).collect::<String>());
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
