//! Greedy merging of chains: the engine under the block order and the function order.
//!
//! A *chain* is a sequence of nodes that will stay next to each other, an *arc* a jump or a call
//! between two nodes. At first every node is a chain. The pair of chains whose merge gains most is
//! merged, until no merge gains anything. What a merge gains is the business of an [`Objective`].
//!
//! # Cost
//! The gain of each pair of adjacent chains is cached in a priority queue and evaluated again only
//! when one of the two has changed. That alone is quadratic at a hub, a chain with thousands of
//! neighbours (a dispatch loop, `malloc`): each of its merges would evaluate all of them. Beyond
//! [`EAGER_NEIGHBORS_MAX`] neighbours a cached gain therefore only becomes *stale*, and is evaluated
//! when it comes to the head of the queue: if it still has [`STALE_GAIN_KEPT_MIN`] of its value, the
//! merge is done, else it is queued again with its new value. A pair is thus evaluated a logarithmic
//! number of times, whatever the degree. Neighbour lists and arcs are merged small into large.
//!
//! Where an [`Objective`] has a bound that is much cheaper than the gain, a pair is queued by its bound at first and evaluated only
//! when it comes to the head of the queue: most are not before they change again. The merges that are done are the same.
//!
//! # Determinism
//! Neighbours are visited in the order of their ids, and equal gains are taken in the order of the
//! chains' first nodes.

mod neighbors;

use smallvec::{SmallVec, smallvec};

use self::neighbors::Neighbors;
use crate::queue::{Entry, Queue};

/// Up to this many neighbours, all gains of a merged chain are evaluated at once.
const EAGER_NEIGHBORS_MAX: usize = 64;

/// A stale gain that has kept this share of its value is still taken for the best.
const STALE_GAIN_KEPT_MIN: f64 = 0.9;

/// A smaller gain is rounding noise: no merge.
pub(crate) const GAIN_MIN: f64 = 1e-8;

/// A node: a basic block, a run of them, or a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// At least 1.
    pub(crate) size_bytes: u64,
    /// Executions; only the density of chains is made of it.
    pub(crate) count: f64,
}

/// The two nodes of an arc. They must exist and differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arc {
    pub(crate) src: u32,
    pub(crate) dst: u32,
}

/// Indexes of nodes or arcs. Most lists are short, and most graphs small: what is made for one of them would otherwise be
/// mostly allocations.
pub(crate) type Indexes = SmallVec<[u32; 4]>;

/// A sequence of nodes. A chain that was merged into another one is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// In order.
    pub(crate) nodes: Indexes,
    /// Arcs (by index) between two of the nodes, in no order that matters.
    pub(crate) inner_arcs: Indexes,
    pub(crate) size_bytes: u64,
    pub(crate) count: f64,
    /// Adjacent chain -> index of the pair.
    neighbors: Neighbors,
}

impl Chain {
    /// Executions per byte.
    pub(crate) fn density(&self) -> f64 {
        self.count / self.size_bytes as f64
    }

    /// The first node: the chain's name wherever ties are broken. `u32::MAX` if empty.
    pub(crate) fn head(&self) -> u32 {
        self.nodes.first().copied().unwrap_or(u32::MAX)
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its chain.
    pub(crate) chain: u32,
    /// Its index in that chain.
    pub(crate) index: u32,
    /// Bytes from the start of the chain.
    pub(crate) offset_bytes: u64,
}

/// How the second chain, Y, joins the first, X. The inserting and rotating ways cut X in two before
/// its node `at` (0 < `at` < number of nodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// X Y
    Append,
    /// X1 Y X2
    Insert { at: u32 },
    /// Y X2 X1
    RotateAfter { at: u32 },
    /// X2 X1 Y
    RotateBefore { at: u32 },
}

/// A merge of two chains and what it is worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    pub(crate) gain: f64,
    /// X, see [`Join`].
    pub(crate) first: u32,
    /// Y.
    pub(crate) second: u32,
    pub(crate) join: Join,
}

/// What a merge is worth.
pub(crate) trait Objective {
    /// The best way to merge chains `a` and `b`, which the arcs `between` connect (in either
    /// direction, at least one). `None` if they had better stay apart, or no merge gains more than
    /// [`GAIN_MIN`]. Must not depend on which of the two is called `a`.
    fn best_merge(&mut self, chains: &Chains, a: u32, b: u32, between: &[u32]) -> Option<Merge>;

    /// [`Objective::best_merge`] of the same chains gains no more than this. `None` if there is no bound that is cheaper.
    fn gain_most(&mut self, _chains: &Chains, _a: u32, _b: u32, _between: &[u32]) -> Option<f64> {
        None
    }

    /// The chains `into` and `from` have become one, `into`.
    fn merged(&mut self, _into: u32, _from: u32) {}
}

/// Two adjacent chains.
#[derive(Clone, Debug)]
struct Pair {
    a: u32,
    b: u32,
    /// Arcs between them; empty once merged.
    arcs: Indexes,
    /// The cached merge; `None` if it would gain nothing.
    merge: Option<Merge>,
    /// The cached merge was evaluated before one of the chains changed.
    stale: bool,
    /// The gain of the cached merge is only a bound; nothing else of it is known.
    bound: bool,
}

/// All chains of a graph.
///
/// # Invariants
/// 1. Each node is in exactly one chain, at its [`Place`].
/// 2. Each arc is in `inner_arcs` of its chain, or in the one pair of its two chains, or its two
///    chains are together too long ever to be merged.
#[derive(Debug)]
pub(crate) struct Chains<'a> {
    nodes: &'a [Node],
    arcs: &'a [Arc],
    chains: Vec<Chain>,
    places: Vec<Place>,
    pairs: Vec<Pair>,
    /// The pairs that have a cached merge.
    queue: Queue,
    evaluations: u64,
    /// A list that is made again and again.
    scratch: Vec<u32>,
}

impl<'a> Chains<'a> {
    /// One chain per node; chain `i` has node `i`.
    pub(crate) fn new(nodes: &'a [Node], arcs: &'a [Arc]) -> Self {
        let chains = (0_u32..).zip(nodes).map(|(id, node)| Chain {
            nodes: smallvec![id],
            size_bytes: node.size_bytes,
            count: node.count,
            ..Chain::default()
        });
        let places = (0..).take(nodes.len()).map(|chain| Place {
            chain,
            index: 0,
            offset_bytes: 0,
        });
        let mut this = Self {
            nodes,
            arcs,
            chains: chains.collect(),
            places: places.collect(),
            pairs: Vec::new(),
            queue: Queue::new(0),
            evaluations: 0,
            scratch: Vec::new(),
        };
        for (id, &Arc { src, dst }) in (0..).zip(arcs) {
            debug_assert_ne!(src, dst, "an arc from a node to itself");
            if let Some(pair) = this.chains[src as usize].neighbors.get(dst) {
                this.pairs[pair as usize].arcs.push(id);
                continue;
            }
            let pair = this.pairs.len() as u32;
            this.pairs.push(Pair {
                a: src,
                b: dst,
                arcs: smallvec![id],
                merge: None,
                stale: false,
                bound: false,
            });
            this.chains[src as usize].neighbors.insert(dst, pair);
            this.chains[dst as usize].neighbors.insert(src, pair);
        }
        this.queue = Queue::new(this.pairs.len());
        this
    }

    /// The chain with this id.
    pub(crate) fn chain(&self, chain: u32) -> &Chain {
        &self.chains[chain as usize]
    }

    /// Where `node` is now.
    pub(crate) fn place(&self, node: u32) -> Place {
        self.places[node as usize]
    }

    /// The nodes of `arc`.
    pub(crate) fn arc(&self, arc: u32) -> Arc {
        self.arcs[arc as usize]
    }

    /// The size of `node`.
    pub(crate) fn node_size_bytes(&self, node: u32) -> u64 {
        self.nodes[node as usize].size_bytes
    }

    /// How often a merge was evaluated.
    pub(crate) fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// The chains that are left, in the order of their ids.
    pub(crate) fn into_chains(self) -> Vec<Chain> {
        let mut chains = self.chains;
        chains.retain(|chain| !chain.nodes.is_empty());
        chains
    }

    /// Merges until no merge gains anything. No chain gets more than `nodes_max` nodes.
    pub(crate) fn merge_all(&mut self, objective: &mut impl Objective, nodes_max: usize) {
        if nodes_max < 2 {
            return;
        }
        for pair in 0..self.pairs.len() {
            self.consider(pair as u32, objective);
        }
        while let Some(candidate) = self.queue.pop() {
            let pair = &self.pairs[candidate.id as usize];
            if pair.bound {
                self.evaluate(candidate.id, objective);
                continue;
            }
            let mut merge = pair.merge;
            if pair.stale {
                merge = self.best_merge(candidate.id, objective);
                if merge.is_none_or(|merge| merge.gain < candidate.gain * STALE_GAIN_KEPT_MIN) {
                    self.enqueue(candidate.id, merge);
                    continue;
                }
            }
            if let Some(merge) = merge {
                let (into, from) = self.merge(candidate.id, merge, nodes_max);
                objective.merged(into, from);
                self.refresh(into, objective);
            }
        }
    }

    fn best_merge(&mut self, pair: u32, objective: &mut impl Objective) -> Option<Merge> {
        self.evaluations += 1;
        let Pair { a, b, ref arcs, .. } = self.pairs[pair as usize];
        objective.best_merge(self, a, b, arcs)
    }

    /// Queues the pair by its bound, or evaluates it if there is none.
    fn consider(&mut self, pair: u32, objective: &mut impl Objective) {
        let Pair { a, b, ref arcs, .. } = self.pairs[pair as usize];
        match objective.gain_most(self, a, b, arcs) {
            None => self.evaluate(pair, objective),
            Some(gain) if gain > GAIN_MIN => {
                self.enqueue(pair, Some(Merge { gain, first: a, second: b, join: Join::Append }));
                self.pairs[pair as usize].bound = true;
            }
            Some(_) => self.enqueue(pair, None),
        }
    }

    fn evaluate(&mut self, pair: u32, objective: &mut impl Objective) {
        let merge = self.best_merge(pair, objective);
        self.enqueue(pair, merge);
    }

    /// Makes `merge` the pair's cached merge, fresh, and queues it.
    fn enqueue(&mut self, pair: u32, merge: Option<Merge>) {
        let entry = &mut self.pairs[pair as usize];
        entry.merge = merge;
        entry.stale = false;
        entry.bound = false;
        self.requeue(pair);
    }

    /// Brings the queue up to date with the pair's cached merge.
    fn requeue(&mut self, pair: u32) {
        let Pair { a, b, merge, .. } = self.pairs[pair as usize];
        let Some(Merge { gain, .. }) = merge else {
            self.queue.remove(pair);
            return;
        };
        let (a, b) = (self.chain(a).head(), self.chain(b).head());
        self.queue.set(Entry {
            gain,
            tie: (a.min(b), a.max(b)),
            id: pair,
        });
    }

    /// Carries out `merge` of the chains of `pair`, and returns the id of the result and the one that is gone.
    ///
    /// Neighbours with which it could grow beyond `nodes_max` cease to be neighbours: chains never
    /// shrink.
    fn merge(&mut self, pair: u32, merge: Merge, nodes_max: usize) -> (u32, u32) {
        let mut nodes = std::mem::take(&mut self.scratch);
        self.join(merge, &mut nodes);
        // The id of the result is the one with more neighbours: theirs need not be told.
        let Pair { a, b, .. } = self.pairs[pair as usize];
        let (into, from) = if self.chain(a).neighbors.len() >= self.chain(b).neighbors.len() {
            (a, b)
        } else {
            (b, a)
        };
        let mut absorbed = std::mem::take(&mut self.chains[from as usize]);
        let between = std::mem::take(&mut self.pairs[pair as usize].arcs);
        self.pairs[pair as usize].merge = None;

        let target = &mut self.chains[into as usize];
        target.neighbors.remove(from);
        target.size_bytes += absorbed.size_bytes;
        target.count += absorbed.count;
        append_smaller(&mut target.inner_arcs, absorbed.inner_arcs);
        append_smaller(&mut target.inner_arcs, between);
        target.nodes.clear();
        target.nodes.extend_from_slice(&nodes);
        self.scratch = nodes;
        self.place_nodes(into);

        let room = nodes_max.saturating_sub(self.chain(into).nodes.len());
        let is_full = |this: &Self, other: u32| this.chain(other).nodes.len() > room;
        let too_long: Vec<(u32, u32)> =
            self.chain(into).neighbors.iter().filter(|&(other, _)| is_full(self, other)).collect();
        absorbed.neighbors.remove(into);
        for (other, lost) in too_long {
            self.chains[into as usize].neighbors.remove(other);
            self.part(other, into, lost);
        }
        for (other, pair) in absorbed.neighbors.iter() {
            if is_full(self, other) {
                self.part(other, from, pair);
            } else {
                self.adopt(into, from, other, pair);
            }
        }
        (into, from)
    }

    /// Makes `other` forget its neighbour `chain`, and their pair.
    fn part(&mut self, other: u32, chain: u32, pair: u32) {
        self.chains[other as usize].neighbors.remove(chain);
        self.queue.remove(pair);
        let pair = &mut self.pairs[pair as usize];
        pair.merge = None;
        pair.arcs = Indexes::new();
    }

    /// Fills `nodes` with those of a merged chain, in order.
    fn join(&self, merge: Merge, nodes: &mut Vec<u32>) {
        let x = &self.chain(merge.first).nodes[..];
        let y = &self.chain(merge.second).nodes[..];
        let cut = |at: u32| x.split_at(at as usize);
        let parts = match merge.join {
            Join::Append => [x, y, &[]],
            Join::Insert { at } => [cut(at).0, y, cut(at).1],
            Join::RotateAfter { at } => [y, cut(at).1, cut(at).0],
            Join::RotateBefore { at } => [cut(at).1, cut(at).0, y],
        };
        nodes.clear();
        parts.iter().for_each(|part| nodes.extend_from_slice(part));
    }

    /// Restores invariant 1 for one chain.
    fn place_nodes(&mut self, chain: u32) {
        let mut offset_bytes = 0;
        for (index, &node) in (0..).zip(&self.chains[chain as usize].nodes) {
            self.places[node as usize] = Place {
                chain,
                index,
                offset_bytes,
            };
            offset_bytes += self.nodes[node as usize].size_bytes;
        }
    }

    /// Makes the pair `moved` of chains `from` and `other` one of `into` and `other`, joining it
    /// with the pair that these may have already.
    fn adopt(&mut self, into: u32, from: u32, other: u32, moved: u32) {
        self.chains[other as usize].neighbors.remove(from);
        let Some(present) = self.chains[into as usize].neighbors.get(other) else {
            let entry = &mut self.pairs[moved as usize];
            (entry.a, entry.b) = (into, other);
            self.chains[into as usize].neighbors.insert(other, moved);
            self.chains[other as usize].neighbors.insert(into, moved);
            return;
        };
        let gone = &mut self.pairs[moved as usize];
        let arcs = std::mem::take(&mut gone.arcs);
        let (gone_merge, gone_bound) = (gone.merge.take(), gone.bound);
        self.queue.remove(moved);
        let entry = &mut self.pairs[present as usize];
        append_smaller(&mut entry.arcs, arcs);
        entry.bound |= gone_bound;
        // The guess for the joined pair, until it is evaluated: both gains together.
        if let Some(gone_merge) = gone_merge {
            let gain = gone_merge.gain + entry.merge.map_or(0.0, |merge| merge.gain);
            entry.merge = Some(Merge { gain, ..gone_merge });
            self.requeue(present);
        }
    }

    /// Considers the pairs of a chain that has changed again, or marks them stale if they are too many.
    fn refresh(&mut self, chain: u32, objective: &mut impl Objective) {
        let mut pairs = std::mem::take(&mut self.scratch);
        pairs.clear();
        pairs.extend(self.chain(chain).neighbors.iter().map(|(_, pair)| pair));
        let eager = pairs.len() <= EAGER_NEIGHBORS_MAX;
        for &pair in &pairs {
            if eager {
                self.consider(pair, objective);
            } else {
                self.pairs[pair as usize].stale = true;
            }
        }
        self.scratch = pairs;
    }
}

/// Appends the shorter list to the longer one.
fn append_smaller(into: &mut Indexes, mut other: Indexes) {
    if into.len() < other.len() {
        std::mem::swap(into, &mut other);
    }
    into.extend_from_slice(&other);
}
