//! Where the blocks of one function stand before and after, seen through the address map.

use postlink_base::{AddressMap, IndexVec, OldAddr};
use postlink_cfg::{BlockId, EdgeKind, FunctionCfg};

/// One block, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Which block of the graph.
    pub(crate) block: BlockId,
    /// Old address of its first byte.
    pub(crate) old: u64,
    /// Bytes in the old file, its terminator and padding included.
    pub(crate) old_size: u64,
    /// New address of what its first byte became.
    pub(crate) new: u64,
    /// Whether its code is anything but a terminator and padding, which may need no bytes any more.
    has_body: bool,
}

/// All blocks in the order of the new file.
pub(crate) fn placed(cfg: &FunctionCfg, map: &AddressMap) -> Vec<Placed> {
    let mut blocks: Vec<Placed> = cfg
        .blocks
        .iter_enumerated()
        .map(|(id, block)| {
            let old = cfg.start + u64::from(block.start);
            Placed {
                block: id,
                old,
                old_size: u64::from(block.end - block.start),
                new: map.to_new(OldAddr::new(old)).raw(),
                has_body: block.body_end > block.start,
            }
        })
        .collect();
    blocks.sort_by_key(|block| (block.new, block.has_body, block.old));
    blocks
}

/// Bytes by which a block may grow when its terminator is encoded anew (two long branches instead of
/// two short ones), and alignment behind it. What is further away than that is not the next block but
/// another fragment.
const GROWTH: u64 = 7 + 32;

/// How often control leaves straight order, by the counts of a profile: executed direct jumps and
/// taken branches inside the function, before and after. Indirect jumps are the same on both sides
/// and not counted.
pub(crate) fn taken(cfg: &FunctionCfg, edge_counts: &[u64], map: &AddressMap) -> (u64, u64) {
    let order = placed(cfg, map);
    let mut by_id: IndexVec<BlockId, Option<Placed>> = cfg.blocks.iter().map(|_| None).collect();
    for place in &order {
        by_id[place.block] = Some(*place);
    }
    let (mut before, mut after) = (0u64, 0u64);
    for (edge, &count) in cfg.edges.iter().zip(edge_counts) {
        if edge.kind == EdgeKind::Indirect {
            continue;
        }
        let (Some(from), Some(to)) = (by_id.get(edge.from).copied().flatten(), by_id.get(edge.to).copied().flatten())
        else {
            continue;
        };
        if from.old + from.old_size != to.old {
            before = before.saturating_add(count);
        }
        let next = order.get(order.partition_point(|place| place.new <= from.new));
        let empty = !from.has_body && from.block != to.block && from.new == to.new;
        let follows = next.is_some_and(|next| next.new == to.new) && to.new - from.new <= from.old_size + GROWTH;
        if !empty && !follows {
            after = after.saturating_add(count);
        }
    }
    (before, after)
}
