//! Call-chain clustering, C³, also known as HFSort.
//!
//! Source: Ottoni and Maher, "Optimizing Function Placement for Large-Scale Data-Center
//! Applications" (CGO 2017). Every executed function is a cluster. From the densest function to
//! the thinnest, the function's cluster is put behind the cluster of its most likely caller. Unlike
//! Pettis and Hansen's method, it cares who calls whom: the callee is placed *behind* its caller.

use std::collections::BTreeMap;

use super::{CallArc, FunctionNode, completed, executions, valid_calls};

/// The constants of call-chain clustering; the defaults are those that llvm-bolt and the linkers use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HfSortParams {
    /// Clusters do not grow beyond this. The paper says a page, for which llvm-bolt and the linkers
    /// take half a huge page, 1 MiB; with 4 KiB hardly anything would be merged.
    pub cluster_bytes_max: u64,
    /// A callee stays alone if fewer of its calls than this share come from its best caller.
    pub arc_share_min: f64,
    /// A caller's cluster does not take a callee that would thin its density by more than this factor.
    pub density_loss_max: f64,
}

impl Default for HfSortParams {
    fn default() -> Self {
        Self {
            cluster_bytes_max: 1 << 20,
            arc_share_min: 0.1,
            density_loss_max: 8.0,
        }
    }
}

/// A cluster: a list of functions, kept at the first of them.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    last: u32,
    size_bytes: u64,
    samples: f64,
}

impl Cluster {
    fn density(&self) -> f64 {
        self.samples / self.size_bytes as f64
    }
}

/// Orders functions by call-chain clustering: a permutation of `0..nodes.len()`.
///
/// What was never executed comes last, as in the input. Clusters come by falling density, ties by
/// index. O((functions + arcs) log).
pub fn hfsort_with_params(
    nodes: &[FunctionNode],
    calls: &[CallArc],
    params: &HfSortParams,
) -> Vec<u32> {
    let executions = executions(nodes, calls);
    let callers = best_callers(nodes, calls);
    let mut clusters: Vec<Cluster> = (0..)
        .zip(nodes.iter().zip(&executions))
        .map(|(function, (node, &samples))| Cluster {
            last: function,
            size_bytes: u64::from(node.size.max(1)),
            samples: samples as f64,
        })
        .collect();
    let mut executed: Vec<u32> = (0..)
        .zip(&executions)
        .filter_map(|(function, &samples)| (samples > 0).then_some(function))
        .collect();
    by_density(&mut executed, &clusters);

    let mut next: Vec<Option<u32>> = vec![None; nodes.len()];
    // Towards the first function of the cluster; a function that points to itself is one.
    let mut first: Vec<u32> = (0..).take(nodes.len()).collect();
    for &function in &executed {
        let Some(caller) = callers[function as usize] else {
            continue;
        };
        let calls_in = caller.calls_in.max(nodes[function as usize].entry_count);
        if (caller.count as f64) < params.arc_share_min * calls_in as f64 {
            continue;
        }
        let into = find(&mut first, caller.function);
        let from = find(&mut first, function);
        let (cluster, other) = (clusters[into as usize], clusters[from as usize]);
        let merged = Cluster {
            last: other.last,
            size_bytes: cluster.size_bytes + other.size_bytes,
            samples: cluster.samples + other.samples,
        };
        if into == from
            || merged.size_bytes > params.cluster_bytes_max
            || cluster.density() > merged.density() * params.density_loss_max
        {
            continue;
        }
        next[cluster.last as usize] = Some(from);
        first[from as usize] = into;
        clusters[into as usize] = merged;
    }

    let mut heads: Vec<u32> = (executed.into_iter())
        .filter(|&function| first[function as usize] == function)
        .collect();
    by_density(&mut heads, &clusters);
    let order = (heads.into_iter())
        .flat_map(|head| std::iter::successors(Some(head), |&function| next[function as usize]));
    completed(order, nodes.len())
}

/// Sorts functions by the density of their own clusters, the densest first, ties by index.
fn by_density(functions: &mut [u32], clusters: &[Cluster]) {
    let density = |function: u32| clusters[function as usize].density();
    functions
        .sort_by(|&left, &right| (density(right).total_cmp(&density(left))).then(left.cmp(&right)));
}

/// The caller from which most calls to a function come.
#[derive(Clone, Copy, Debug)]
struct Caller {
    function: u32,
    /// Calls from this caller.
    count: u64,
    /// Calls from all callers.
    calls_in: u64,
}

/// The best caller of each function, if it has one; among equal ones that with the smallest index.
fn best_callers(nodes: &[FunctionNode], calls: &[CallArc]) -> Vec<Option<Caller>> {
    let mut sums: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for call in valid_calls(nodes, calls) {
        let sum = sums.entry((call.callee, call.caller)).or_default();
        *sum = sum.saturating_add(call.count);
    }
    let mut best: Vec<Option<Caller>> = vec![None; nodes.len()];
    for ((callee, function), count) in sums {
        let entry = best[callee as usize].get_or_insert(Caller {
            function,
            count: 0,
            calls_in: 0,
        });
        entry.calls_in = entry.calls_in.saturating_add(count);
        if count > entry.count {
            (entry.function, entry.count) = (function, count);
        }
    }
    best
}

/// The first function of the cluster of `function`. Halves the paths that it walks.
fn find(first: &mut [u32], mut function: u32) -> u32 {
    while first[function as usize] != function {
        let above = first[function as usize];
        first[function as usize] = first[above as usize];
        function = first[function as usize];
    }
    function
}
