//! Where in a cache line a hot fragment should start.
//!
//! A fragment that starts at a line needs the fewest lines, but leaves the rest of the line before it empty, and
//! cache with it. It may as well start elsewhere as long as its lines cost no more; a line costs what its most
//! expensive block does (`postlink_layout::line_cost`).

/// Bytes of a cache line.
pub(crate) const LINE: u32 = 64;

/// Offsets in a line at which a fragment may start: bit `n` for offset `n`. Bit 0 is always set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineStarts(u64);

impl LineStarts {
    /// For blocks of which the first starts at 0 and block `i` ends at `ends[i]`, with the cost of a line for each. Only
    /// multiples of `align` are looked at.
    pub(crate) fn new(ends: &[u32], costs: &[u32], align: u32) -> Self {
        let (ends, costs) = joined(ends, costs);
        let best = cost_from(0, &ends, &costs, u64::MAX);
        let offsets = (0..LINE).step_by(align.max(1) as usize).skip(1);
        let as_good = |&offset: &u32| cost_from(offset, &ends, &costs, best) <= best;
        Self(offsets.filter(as_good).fold(1, |bits, offset| bits | 1 << offset))
    }

    /// For `size` bytes that are all alike.
    pub(crate) fn of_size(size: u32) -> Self {
        Self::new(&[size], &[1], 1)
    }

    /// The next start from `at` on that is a multiple of `align`.
    pub(crate) fn next_from(self, at: u64, align: u64) -> u64 {
        let align = align.max(1);
        let at = at.next_multiple_of(align);
        if align >= u64::from(LINE) {
            return at;
        }
        // Multiples of `align` are among the 64 addresses from `at` on, offset 0 is one of them.
        let allowed = self.0.rotate_right((at % u64::from(LINE)) as u32);
        (0..u64::from(LINE)).step_by(align as usize).find(|step| allowed >> step & 1 == 1).map_or(at, |step| at + step)
    }
}

/// The same without empty blocks; neighbours that cost as much count as one.
fn joined(ends: &[u32], costs: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let (mut joined_ends, mut joined_costs) = (Vec::with_capacity(ends.len()), Vec::with_capacity(ends.len()));
    let mut start = 0;
    for (&end, &cost) in ends.iter().zip(costs) {
        if end <= start {
            continue;
        }
        start = end;
        match joined_ends.last_mut() {
            Some(last) if joined_costs.last() == Some(&cost) => *last = end,
            _ => {
                joined_ends.push(end);
                joined_costs.push(cost);
            }
        }
    }
    (joined_ends, joined_costs)
}

/// What the lines of a fragment cost that starts at `offset` of a line; some number above `most` if it is more than that.
fn cost_from(offset: u32, ends: &[u32], costs: &[u32], most: u64) -> u64 {
    let mut total = 0u64;
    // The line that was begun last, and the cost of it as far as seen.
    let (mut line, mut line_cost) = (0, 0);
    let mut start = 0;
    for (&end, &cost) in ends.iter().zip(costs) {
        if end <= start {
            continue;
        }
        let (first, last) = (start.saturating_add(offset) / LINE, (end - 1).saturating_add(offset) / LINE);
        if first != line {
            total += u64::from(line_cost);
            line_cost = 0;
            if total > most {
                return total;
            }
        }
        line_cost = line_cost.max(cost);
        if last > first {
            total += u64::from(line_cost) + u64::from(cost) * u64::from(last - first - 1);
            line_cost = cost;
        }
        line = last;
        start = end;
    }
    total + u64::from(line_cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_a_line_may_start_where_it_still_fits() {
        let starts = LineStarts::of_size(24);
        assert_eq!(starts, LineStarts((1 << 41) - 1));
        assert_eq!(starts.next_from(100, 1), 100);
        assert_eq!(starts.next_from(105, 1), 128);
        assert_eq!(starts.next_from(97, 16), 128, "112 is too late in its line");
        assert_eq!(starts.next_from(65, 16), 80);
        assert_eq!(starts.next_from(65, 256), 256);
        assert_eq!(LineStarts::of_size(64), LineStarts(1));
        assert_eq!(LineStarts::of_size(70).0.count_ones(), 59);
    }

    #[test]
    fn a_cold_tail_may_spill_into_a_line_of_its_own_only_if_that_costs_nothing() {
        // 40 hot bytes, 24 that are never executed: they may lie in another line.
        assert_eq!(LineStarts::new(&[40, 64], &[9, 0], 1).0.count_ones(), 25);
        // If they are, all of it should be in one line.
        assert_eq!(LineStarts::new(&[40, 64], &[9, 1], 1), LineStarts(1));
    }

    #[test]
    fn costs_are_those_of_each_line_counted_one_by_one() {
        let (ends, costs) = ([10, 10, 75, 80, 300, 301], [5, 100, 2, 2, 1, 40]);
        for offset in 0..LINE {
            let mut lines = [0u32; 8];
            let mut start = 0;
            for (&end, &cost) in ends.iter().zip(&costs) {
                for byte in start..end {
                    let line = &mut lines[((byte + offset) / LINE) as usize];
                    *line = (*line).max(cost);
                }
                start = end;
            }
            let expected = lines.iter().map(|&cost| u64::from(cost)).sum();
            assert_eq!(cost_from(offset, &ends, &costs, u64::MAX), expected);
            let (ends, costs) = joined(&ends, &costs);
            assert_eq!(costs, [5, 2, 1, 40]);
            assert_eq!(cost_from(offset, &ends, &costs, u64::MAX), expected);
        }
    }
}
