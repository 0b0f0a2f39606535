//! Near-equal profiles. Where the hot code of a program is about as large as the cache, functions that are placed in another,
//! equally good order may miss twice as often: one order is one sample. Both tools are given profiles whose counts
//! differ by so little that it means nothing, and each orders by them as it does.

/// No count differs by more than this share of it.
const SHARE: f64 = 0.02;

/// The fdata `profile` with each count changed by up to [`SHARE`]; which one of them, `seed` says. What was executed still was.
pub(super) fn near_equal(profile: &str, seed: u64) -> String {
    let mut out = String::with_capacity(profile.len() + profile.len() / 16);
    for (number, line) in (0u64..).zip(profile.lines()) {
        match line.rsplit_once(' ').and_then(|(head, count)| Some((head, count.parse::<u64>().ok()?))) {
            Some((head, count)) => {
                // Between -1 and 1.
                let chance = (mixed(seed, number) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                let changed = (count as f64 * (1.0 + SHARE * chance)).round() as u64;
                out.push_str(&format!("{head} {}", changed.max(count.min(1))));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// The splitmix64 generator, for any position (Steele et al., "Fast splittable pseudorandom number generators", 2014).
const fn mixed(seed: u64, number: u64) -> u64 {
    let state = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

#[cfg(test)]
mod tests {
    use super::near_equal;

    #[test]
    fn counts_differ_a_little_and_nothing_else_does() {
        let lines: Vec<String> = (0..500u64).map(|at| format!("1 f {at:x} 1 g 0 7 {}", at * 1000)).collect();
        let profile = format!("boltedcollection\n{}\n", lines.join("\n"));
        let (one, other) = (near_equal(&profile, 1), near_equal(&profile, 2));
        assert_eq!(one, near_equal(&profile, 1));
        assert_ne!(one, other);
        assert!(one.starts_with("boltedcollection\n1 f 0 1 g 0 7 0\n"));
        let changes: Vec<f64> = (lines.iter().zip(one.lines().skip(1)).skip(1))
            .map(|(old, new)| {
                let (head, count) = old.rsplit_once(' ').unwrap();
                let (new_head, new_count) = new.rsplit_once(' ').unwrap();
                assert_eq!(head, new_head);
                new_count.parse::<f64>().unwrap() / count.parse::<f64>().unwrap() - 1.0
            })
            .collect();
        assert!(changes.iter().all(|change| change.abs() <= 0.0205), "{changes:?}");
        assert!(changes.iter().any(|&change| change > 0.015) && changes.iter().any(|&change| change < -0.015));
        assert_eq!(near_equal("1 f 0 1 g 0 0 1\n", 3), "1 f 0 1 g 0 0 1\n");
    }
}
