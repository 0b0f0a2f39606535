//! Random programs in random layouts: each is assembled, linked, rewritten, proven, run and proven again from disk.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `POSTLINK_PROPERTIES=N` | how many programs; default 200 |
//! | `POSTLINK_PROPERTIES_SEED=N` | the seed of the first program; default 0 |
//! | `POSTLINK=PATH` | another postlink binary |
//!
//! A failure prints the seed and the commands and keeps the files. What is asked of every layout of every program:
//! postlink exits with 0 and says that the proof holds, no function had to be kept to get there, the program prints and
//! returns what the original does, and `verify` proves the pair from the two files alone. Where static relocations are kept, they give the words
//! at their places, and the output can be rewritten once more. Then a few bytes of the last
//! output are changed: what is still proven must still run as before.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "a test talks and fails by panicking")]

#[path = "properties/case.rs"]
mod case;
#[path = "properties/code.rs"]
mod code;
#[path = "properties/program.rs"]
mod program;
#[path = "properties/random.rs"]
mod random;
#[path = "properties/relocs.rs"]
mod relocs;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::{Tally, run};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn random_programs_survive_random_layouts() {
    let (first, count) = (number("POSTLINK_PROPERTIES_SEED", 0), number("POSTLINK_PROPERTIES", 200));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("properties");
    let next = AtomicUsize::new(first);
    let results = Mutex::new((Tally::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || results.lock().unwrap().1.len() >= 20 {
                        break;
                    }
                    let result = run(seed as u64, &folder.join(seed.to_string()));
                    let mut results = results.lock().unwrap();
                    match result {
                        Ok(tally) => results.0.add(&tally),
                        Err(why) => {
                            eprintln!(
                                "FAIL seed {seed}: {why}\n  again: POSTLINK_PROPERTIES_SEED={seed} POSTLINK_PROPERTIES=1 \
                                 cargo test --profile tested -p postlink --test properties\n"
                            );
                            results.1.push(seed);
                        }
                    }
                }
            });
        }
    });
    let (tally, failed) = results.into_inner().unwrap();
    println!("{tally:?}");
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    // A generator whose functions are all kept would test nothing.
    assert!(count < 50 || tally.relaid * 2 > tally.functions, "too few functions were laid out anew: {tally:?}");
    assert!(count < 50 || tally.relocations > 10 * count, "too few relocations were kept: {tally:?}");
    assert!(count < 50 || tally.direct_calls > count, "too few calls through the GOT became direct: {tally:?}");
    assert!(count < 50 || tally.folded * 20 > count, "too few functions were folded: {tally:?}");
    assert!(count < 50 || tally.harmless * 2 < tally.damaged, "damage that means nothing tests nothing: {tally:?}");
    assert!(count < 50 || tally.split * 10 > tally.functions, "too few functions were split: {tally:?}");
}
