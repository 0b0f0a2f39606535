//! What a cache line of code costs.
//!
//! The cost model of cache-directed sort (see `functions/cdsort.rs`), for lines: a line that is executed `count`
//! times is found in the cache unless as many other lines as the cache holds were executed since. Very hot lines
//! are always there, so what counts are those in between: how many of them a function needs follows from where it starts.

/// Lines of a first-level instruction cache: 32 KiB of 64 bytes.
const CACHE_LINES: f64 = 512.0;

/// What is always counted, as a share of the executions: of two places the hotter code gets the better one even if
/// it never leaves the cache, since processors fetch and predict by aligned windows, too.
const ALWAYS: f64 = 0.01;

/// Expected misses of a line that is executed `count` times in a program that executes `total` lines; at least 1 if it
/// is executed at all.
///
/// `total` may be any measure of the program's executions in the same unit, such as the sum of its block counts.
pub fn line_cost(count: u64, total: u64) -> u32 {
    // (1 - count/total)^CACHE_LINES, as a quotient: the same on every machine, which exp and powf are not.
    let crowding = count as f64 / total.max(1) as f64 * CACHE_LINES;
    let misses = count as f64 / ((1.0 + crowding) * (1.0 + crowding)) + count as f64 * ALWAYS;
    if count == 0 { 0 } else { misses.clamp(1.0, f64::from(u32::MAX)) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_or_always_in_the_cache_costs_less() {
        let total = 1 << 30;
        assert_eq!(line_cost(0, total), 0);
        assert_eq!(line_cost(1, total), 1);
        let (rare, between, always) = (line_cost(1 << 10, total), line_cost(1 << 20, total), line_cost(1 << 27, total));
        assert!(rare < between, "{rare} {between}");
        assert!(f64::from(always) < 0.02 * f64::from(1 << 27), "{always}");
        assert_eq!(line_cost(u64::MAX, 0), u32::MAX);
    }
}
