//! What the merge of two chains of blocks adds to the ext-TSP score.
//!
//! A merge cuts chain X before one of its units and joins the pieces with chain Y. Scoring each of
//! the 3·(n−1)+1 results from scratch is what makes the usual implementations slow. Two facts make
//! it cheap:
//!
//! 1. Y stays whole, so its inner jumps keep their value. Only the *between* jumps gain, and only
//!    jumps inside X that cross the cut change.
//! 2. How such a jump changes does not depend on where exactly the cut is: inserting Y makes it
//!    longer by the size of Y; rotating X turns its distance d into (size of X) − d, the other way
//!    round. So each inner jump adds one number to a range of cuts, and a difference array sums them
//!    all in O(jumps + units).
//!
//! The difference array adds and subtracts large counts, so its sums carry rounding noise. It only
//! chooses the cut; the gain of the chosen merge is then summed directly over the jumps that change.

use super::ext_tsp::ExtTspParams;
use super::inside::Insides;
use super::units::Units;
use crate::chains::{Arc, Chains, GAIN_MIN, Join, Merge, Objective};

/// Cuts times between jumps that one evaluation may try. A pair that exceeds it (a dense graph) is
/// tried at the cuts of its [`NEAR_CUTS_MAX`] most executed jumps only.
const CUT_TRIALS_MAX: usize = 1 << 15;

/// Cuts that are tried where not all are.
const NEAR_CUTS_MAX: usize = 16;

/// The ext-TSP objective over units. Buffers are kept between evaluations.
pub(super) struct BlockObjective<'a> {
    params: &'a ExtTspParams,
    units: &'a Units,
    steps: u64,
    steps_max: u64,
    between: Vec<Between>,
    cuts: Vec<u32>,
    /// Gain inside X of inserting Y before unit `i`; one longer than X.
    insert_gain: Vec<f64>,
    inside: Insides,
}

/// A jump between X and Y; offsets are from the starts of their chains.
#[derive(Clone, Copy, Debug)]
struct Between {
    /// From X to Y, else from Y to X.
    leaves_x: bool,
    conditional: bool,
    count: f64,
    /// Index in X of the unit at X's end of the jump.
    x_index: u32,
    /// End of the jump's unit if it leaves X, else start of the target unit.
    x_offset: u64,
    /// Likewise in Y.
    y_offset: u64,
}

/// Two chains in the roles of X and Y.
#[derive(Clone, Copy, Debug)]
struct Roles {
    x: u32,
    y: u32,
    x_bytes: u64,
    y_bytes: u64,
    x_has_entry: bool,
    y_has_entry: bool,
}

impl Roles {
    fn swapped(self) -> Self {
        Self {
            x: self.y,
            y: self.x,
            x_bytes: self.y_bytes,
            y_bytes: self.x_bytes,
            x_has_entry: self.y_has_entry,
            y_has_entry: self.x_has_entry,
        }
    }

    /// Whether the entry stays first. (It is the first unit of its chain already.)
    fn allows(&self, join: Join) -> bool {
        match join {
            Join::Append | Join::Insert { .. } => !self.y_has_entry,
            Join::RotateAfter { .. } => !self.x_has_entry,
            Join::RotateBefore { .. } => !self.x_has_entry && !self.y_has_entry,
        }
    }
}

impl<'a> BlockObjective<'a> {
    pub(super) fn new(params: &'a ExtTspParams, units: &'a Units) -> Self {
        let per_unit = (params.cut_steps_per_unit).saturating_mul(units.nodes.len() as u64);
        Self {
            params,
            units,
            steps: 0,
            steps_max: params.cut_steps_min.saturating_add(per_unit),
            between: Vec::new(),
            cuts: Vec::new(),
            insert_gain: Vec::new(),
            inside: Insides::new(units.nodes.len()),
        }
    }

    /// Steps of the inner loops so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether lukewarm blocks would dilute hot ones; see [`ExtTspParams::density_ratio_max`].
    fn are_too_different(&self, chains: &Chains<'_>, a: u32, b: u32) -> bool {
        let (density_a, density_b) = (chains.chain(a).density(), chains.chain(b).density());
        density_a.max(density_b) > density_a.min(density_b) * self.params.density_ratio_max
    }

    /// The best merge with the roles fixed.
    fn best_with_roles(
        &mut self,
        chains: &Chains<'_>,
        roles: Roles,
        arcs: &[u32],
    ) -> Option<Merge> {
        self.collect_between(chains, roles, arcs);
        let mut best = Merge {
            gain: GAIN_MIN,
            first: roles.x,
            second: roles.y,
            join: Join::Append,
        };
        if roles.allows(Join::Append) {
            best.gain = best.gain.max(self.between_value(roles, Join::Append, 0));
        }
        let between_most = self.between_most(chains, roles);
        // Inserting gains nothing inside X, and rotating there no more than at the best cut: without a chance to gain more
        // than by appending, nothing is summed.
        let inserts = roles.allows(Join::Insert { at: 0 }) && between_most > best.gain + GAIN_MIN;
        let rotates = (roles.allows(Join::RotateAfter { at: 0 }) || roles.allows(Join::RotateBefore { at: 0 }))
            && self.rotating_may_gain(chains, roles, between_most, best.gain);
        self.cuts.clear();
        if inserts || rotates {
            self.choose_cuts(chains, roles);
        }
        let mut cut_gain_best = best.gain;
        let mut cut_best = None;
        if !self.cuts.is_empty() {
            let units = chains.chain(roles.x).nodes.len();
            let inside = self.inside.of(self.params, self.units, chains, roles.x);
            self.steps += units as u64 + inside.len();
            if inserts {
                inside.sum_inserted(self.params, units, roles.y_bytes, &mut self.insert_gain);
            }
            let cuts = std::mem::take(&mut self.cuts);
            for &at in &cuts {
                let inserted = inserts.then(|| self.insert_gain[at as usize]);
                let rotated = rotates.then(|| self.inside.rotate_gain(roles.x, at));
                let ways = [
                    (Join::Insert { at }, inserted),
                    (Join::RotateAfter { at }, rotated),
                    (Join::RotateBefore { at }, rotated),
                ];
                for (join, inner_gain) in ways {
                    if let Some(inner_gain) = inner_gain
                        && inner_gain + between_most > cut_gain_best + GAIN_MIN
                        && roles.allows(join)
                    {
                        let gain = inner_gain + self.between_value(roles, join, cut_offset(chains, roles.x, at));
                        if gain > cut_gain_best + GAIN_MIN {
                            cut_gain_best = gain;
                            cut_best = Some(join);
                        }
                    }
                }
            }
            self.cuts = cuts;
        }
        if let Some(join) = cut_best {
            let gain = self.exact_gain(chains, roles, join);
            if gain > best.gain {
                best = Merge { gain, join, ..best };
            }
        }
        (best.gain > GAIN_MIN).then_some(best)
    }

    fn collect_between(&mut self, chains: &Chains<'_>, roles: Roles, arcs: &[u32]) {
        self.steps += arcs.len() as u64;
        self.between.clear();
        for &arc in arcs {
            let Arc { src, dst } = chains.arc(arc);
            let (src_place, dst_place) = (chains.place(src), chains.place(dst));
            let src_end = src_place.offset_bytes + chains.node_size_bytes(src);
            let leaves_x = src_place.chain == roles.x;
            let (x_place, x_offset, y_offset) = if leaves_x {
                (src_place, src_end, dst_place.offset_bytes)
            } else {
                (dst_place, dst_place.offset_bytes, src_end)
            };
            self.between.push(Between {
                leaves_x,
                conditional: self.units.arc_conditional[arc as usize],
                count: self.units.arc_counts[arc as usize],
                x_index: x_place.index,
                x_offset,
                y_offset,
            });
        }
    }

    /// Whether the between jumps and the best cut could be worth more than `best`.
    fn rotating_may_gain(&mut self, chains: &Chains<'_>, roles: Roles, between_most: f64, best: f64) -> bool {
        let units = chains.chain(roles.x).nodes.len();
        units >= 2
            && self.steps <= self.steps_max
            && self.inside.of(self.params, self.units, chains, roles.x).rotate_most() + between_most > best + GAIN_MIN
    }

    /// The between jumps are worth no more than this after any join that cuts X: one that leads to Y's start from a unit
    /// that a cut can follow and one from Y's end to a unit that a cut can precede fall through, the others are short jumps.
    /// A little more, for the rounding.
    fn between_most(&mut self, chains: &Chains<'_>, roles: Roles) -> f64 {
        self.steps += self.between.len() as u64;
        let last = chains.chain(roles.x).nodes.len().saturating_sub(1);
        let (mut jumps, mut into_y, mut out_of_y) = (0.0, 0.0f64, 0.0f64);
        for jump in &self.between {
            let short = jump.count * self.params.jump_weight_most(jump.conditional);
            let fall = jump.count * self.params.fallthrough_weight(jump.conditional);
            jumps += short;
            if jump.leaves_x && jump.y_offset == 0 && (jump.x_index as usize) < last {
                into_y = into_y.max(fall - short);
            } else if !jump.leaves_x && jump.y_offset == roles.y_bytes && jump.x_index > 0 {
                out_of_y = out_of_y.max(fall - short);
            }
        }
        (jumps + into_y + out_of_y) * (1.0 + 1e-9)
    }

    /// What the between jumps are worth after `join`, whose cut is at `cut_offset` bytes.
    fn between_value(&mut self, roles: Roles, join: Join, cut_offset: u64) -> f64 {
        self.steps += self.between.len() as u64;
        let first_piece_bytes = cut_offset;
        let second_piece_bytes = roles.x_bytes - cut_offset;
        // Where Y starts, and what is added to the offsets of X before and after the cut. The
        // offsets after the cut are at least `cut_offset`, so the subtraction comes last.
        let (at, y_start, add_before, add_after, subtract_after) = match join {
            Join::Append => (u32::MAX, roles.x_bytes, 0, 0, 0),
            Join::Insert { at } => (at, first_piece_bytes, 0, roles.y_bytes, 0),
            Join::RotateAfter { at } => (
                at,
                0,
                roles.y_bytes + second_piece_bytes,
                roles.y_bytes,
                first_piece_bytes,
            ),
            Join::RotateBefore { at } => {
                (at, roles.x_bytes, second_piece_bytes, 0, first_piece_bytes)
            }
        };
        let mut sum = 0.0;
        for jump in &self.between {
            let x = if jump.x_index < at {
                jump.x_offset + add_before
            } else {
                jump.x_offset + add_after - subtract_after
            };
            let y = y_start + jump.y_offset;
            let (src_end, dst_start) = if jump.leaves_x { (x, y) } else { (y, x) };
            sum += self
                .params
                .jump_value(jump.conditional, jump.count, src_end, dst_start);
        }
        sum
    }

    /// Decides at which units X is cut: everywhere in short chains, else where a between jump could
    /// become a fallthrough.
    fn choose_cuts(&mut self, chains: &Chains<'_>, roles: Roles) {
        self.cuts.clear();
        let units = chains.chain(roles.x).nodes.len() as u32;
        if units < 2 || self.steps > self.steps_max {
            return;
        }
        if units as usize <= self.params.split_units_max
            && units as usize * self.between.len() <= CUT_TRIALS_MAX
        {
            self.cuts.extend(1..units);
            return;
        }
        let mut near: Vec<(f64, u32)> = (self.between.iter())
            .filter_map(|jump| {
                let (touches_end_of_y, at) = if jump.leaves_x {
                    (jump.y_offset == 0, jump.x_index + 1)
                } else {
                    (jump.y_offset == roles.y_bytes, jump.x_index)
                };
                (touches_end_of_y && (1..units).contains(&at)).then_some((jump.count, at))
            })
            .collect();
        self.steps += self.between.len() as u64;
        near.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        near.truncate(NEAR_CUTS_MAX);
        self.cuts.extend(near.into_iter().map(|(_, at)| at));
        self.cuts.sort_unstable();
        self.cuts.dedup();
    }

    /// The gain of `join`, summed over the jumps that change and no others.
    fn exact_gain(&mut self, chains: &Chains<'_>, roles: Roles, join: Join) -> f64 {
        let (at, rotates) = match join {
            Join::Append => return self.between_value(roles, join, 0),
            Join::Insert { at } => (at, false),
            Join::RotateAfter { at } | Join::RotateBefore { at } => (at, true),
        };
        let inner = self.inside.of(self.params, self.units, chains, roles.x);
        self.steps += inner.len();
        let gain = inner.exact_gain(self.params, at, (!rotates).then_some(roles.y_bytes));
        gain + self.between_value(roles, join, cut_offset(chains, roles.x, at))
    }
}

/// Bytes of the chain before its unit `at`.
fn cut_offset(chains: &Chains<'_>, chain: u32, at: u32) -> u64 {
    chains
        .place(chains.chain(chain).nodes[at as usize])
        .offset_bytes
}

impl Objective for BlockObjective<'_> {
    fn merged(&mut self, into: u32, from: u32) {
        self.inside.forget(into);
        self.inside.forget(from);
    }

    /// The between jumps as short as possible, but for those that can fall through: two at the most, one at each end of the
    /// chain that stays whole; and the best rotation of either chain.
    fn gain_most(&mut self, chains: &Chains<'_>, a: u32, b: u32, between: &[u32]) -> Option<f64> {
        self.steps += between.len() as u64;
        if self.are_too_different(chains, a, b) {
            return Some(0.0);
        }
        let (mut jumps, mut first, mut second) = (0.0, 0.0f64, 0.0f64);
        for &arc in between {
            let Arc { src, dst } = chains.arc(arc);
            let (conditional, count) = (self.units.arc_conditional[arc as usize], self.units.arc_counts[arc as usize]);
            let short = count * self.params.jump_weight_most(conditional);
            jumps += short;
            let (from, to) = (chains.place(src), chains.place(dst));
            let is_last = from.index as usize + 1 == chains.chain(from.chain).nodes.len();
            if dst != 0 && (is_last || to.index == 0) {
                let falls = count * self.params.fallthrough_weight(conditional) - short;
                second = second.max(falls.min(first));
                first = first.max(falls);
            }
        }
        let mut rotating = 0.0f64;
        for chain in [a, b] {
            let nodes = &chains.chain(chain).nodes;
            if nodes.len() > 1 && chains.chain(chain).head() != 0 && self.steps <= self.steps_max {
                rotating = rotating.max(self.inside.of(self.params, self.units, chains, chain).rotate_most());
            }
        }
        // A little more, for the rounding.
        Some((jumps + first + second + rotating) * (1.0 + 1e-9) + GAIN_MIN)
    }

    fn best_merge(
        &mut self,
        chains: &Chains<'_>,
        a: u32,
        b: u32,
        between: &[u32],
    ) -> Option<Merge> {
        self.steps += 1;
        let (chain_a, chain_b) = (chains.chain(a), chains.chain(b));
        if self.are_too_different(chains, a, b) {
            return None;
        }
        let (x, y) = if chain_a.head() <= chain_b.head() {
            (a, b)
        } else {
            (b, a)
        };
        let roles = Roles {
            x,
            y,
            x_bytes: chains.chain(x).size_bytes,
            y_bytes: chains.chain(y).size_bytes,
            x_has_entry: chains.chain(x).head() == 0,
            y_has_entry: chains.chain(y).head() == 0,
        };
        let one = self.best_with_roles(chains, roles, between);
        let other = self.best_with_roles(chains, roles.swapped(), between);
        match (one, other) {
            (Some(one), Some(other)) if other.gain > one.gain + GAIN_MIN => Some(other),
            (Some(one), _) => Some(one),
            (None, other) => other,
        }
    }
}
