//! The jumps inside chains, as the evaluation of merges wants them.
//!
//! A chain is evaluated with each of its neighbours, and again whenever one of them has changed. What its own jumps are
//! worth, and what each of them gains when the chain is rotated across it, depends on nobody else: it is worked out once,
//! when a cut of the chain first comes into question, and kept until the chain changes.

use super::ext_tsp::ExtTspParams;
use super::units::Units;
use crate::chains::{Arc, Chains};

/// A jump inside a chain. The cuts that it crosses are `low + 1 ..= high`.
#[derive(Clone, Copy, Debug)]
struct Jump {
    low: u32,
    high: u32,
    forward: bool,
    conditional: bool,
    count: f64,
    /// From the jump's end to its target's start, in whichever direction.
    distance_bytes: u64,
    /// What it is worth where it is.
    value: f64,
    /// What it gains if the chain is rotated at a cut that it crosses.
    rotated: f64,
}

impl Jump {
    /// What it gains if `bytes` come into it.
    fn inserted(&self, params: &ExtTspParams, bytes: u64) -> f64 {
        // What is worth nothing is not worth less from farther away.
        if self.value == 0.0 {
            return 0.0;
        }
        let distance_bytes = self.distance_bytes + bytes;
        let (src_end, dst_start) = if self.forward { (0, distance_bytes) } else { (distance_bytes, 0) };
        params.jump_value(self.conditional, self.count, src_end, dst_start) - self.value
    }

    const fn crosses(&self, at: u32) -> bool {
        self.low < at && at <= self.high
    }
}

/// The jumps inside one chain.
#[derive(Debug, Default)]
pub(super) struct Inside {
    jumps: Vec<Jump>,
    /// Gain inside the chain of rotating it so that unit `i` comes first; one longer than the chain.
    rotate_gain: Vec<f64>,
    /// The greatest of those at a cut.
    rotate_most: f64,
}

impl Inside {
    fn fill(&mut self, params: &ExtTspParams, units: &Units, chains: &Chains<'_>, chain: u32) {
        let chain = chains.chain(chain);
        self.jumps.clear();
        self.rotate_gain.clear();
        self.rotate_gain.resize(chain.nodes.len() + 1, 0.0);
        for &arc in &chain.inner_arcs {
            let Arc { src, dst } = chains.arc(arc);
            let (src_place, dst_place) = (chains.place(src), chains.place(dst));
            let src_end = src_place.offset_bytes + chains.node_size_bytes(src);
            let dst_start = dst_place.offset_bytes;
            let (conditional, count) = (units.arc_conditional[arc as usize], units.arc_counts[arc as usize]);
            let value = params.jump_value(conditional, count, src_end, dst_start);
            let forward = src_place.index < dst_place.index;
            let (low, high, distance_bytes, elsewhere) = if forward {
                let elsewhere = params.jump_value(conditional, count, src_end + chain.size_bytes, dst_start);
                (src_place.index, dst_place.index, dst_start - src_end, elsewhere)
            } else {
                let elsewhere = params.jump_value(conditional, count, src_end, dst_start + chain.size_bytes);
                (dst_place.index, src_place.index, src_end - dst_start, elsewhere)
            };
            let rotated = elsewhere - value;
            self.jumps.push(Jump { low, high, forward, conditional, count, distance_bytes, value, rotated });
            add(&mut self.rotate_gain, (low, high), rotated);
        }
        sum_up(&mut self.rotate_gain);
        let cuts = self.rotate_gain.get(1..chain.nodes.len()).unwrap_or_default();
        self.rotate_most = cuts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    }

    /// The number of jumps.
    pub(super) const fn len(&self) -> u64 {
        self.jumps.len() as u64
    }

    /// No cut at which the chain is rotated gains more inside it.
    pub(super) const fn rotate_most(&self) -> f64 {
        self.rotate_most
    }

    /// Fills `gains` with what the chain of `units` units gains inside if `bytes` come in before unit `i`.
    pub(super) fn sum_inserted(&self, params: &ExtTspParams, units: usize, bytes: u64, gains: &mut Vec<f64>) {
        gains.clear();
        gains.resize(units + 1, 0.0);
        for jump in &self.jumps {
            let inserted = jump.inserted(params, bytes);
            if inserted != 0.0 {
                add(gains, (jump.low, jump.high), inserted);
            }
        }
        sum_up(gains);
    }

    /// What is gained inside by a cut before unit `at`, summed over the jumps that change and no others: by the insertion of
    /// so many bytes, or without them by rotation.
    pub(super) fn exact_gain(&self, params: &ExtTspParams, at: u32, inserted_bytes: Option<u64>) -> f64 {
        let gain = |jump: &Jump| inserted_bytes.map_or(jump.rotated, |bytes| jump.inserted(params, bytes));
        self.jumps.iter().filter(|jump| jump.crosses(at)).fold(0.0, |sum, jump| sum + gain(jump))
    }
}

/// Adds `gain` to the cuts `low + 1 ..= high` of an array of differences.
fn add(differences: &mut [f64], (low, high): (u32, u32), gain: f64) {
    if let Some(first) = differences.get_mut(low as usize + 1) {
        *first += gain;
    }
    if let Some(behind) = differences.get_mut(high as usize + 1) {
        *behind -= gain;
    }
}

/// Makes sums of differences.
fn sum_up(differences: &mut [f64]) {
    let mut sum = 0.0;
    for difference in differences {
        sum += *difference;
        *difference = sum;
    }
}

/// The jumps inside each chain, as far as somebody has asked. Chains that have merged leave their buffers to others.
#[derive(Debug)]
pub(super) struct Insides {
    by_chain: Vec<Option<Inside>>,
    free: Vec<Inside>,
}

impl Insides {
    pub(super) fn new(chains: usize) -> Self {
        Self { by_chain: std::iter::repeat_with(|| None).take(chains).collect(), free: Vec::new() }
    }

    /// The jumps inside `chain`.
    pub(super) fn of(&mut self, params: &ExtTspParams, units: &Units, chains: &Chains<'_>, chain: u32) -> &Inside {
        let Self { by_chain, free } = self;
        by_chain[chain as usize].get_or_insert_with(|| {
            let mut inside = free.pop().unwrap_or_default();
            inside.fill(params, units, chains, chain);
            inside
        })
    }

    /// Gain inside `chain`, whose jumps somebody has asked for, of rotating it so that unit `at` comes first.
    pub(super) fn rotate_gain(&self, chain: u32, at: u32) -> f64 {
        self.by_chain[chain as usize].as_ref().map_or(0.0, |inside| inside.rotate_gain[at as usize])
    }

    /// `chain` has changed.
    pub(super) fn forget(&mut self, chain: u32) {
        self.free.extend(self.by_chain[chain as usize].take());
    }
}
