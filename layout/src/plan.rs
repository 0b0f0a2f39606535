//! The plan: what moves, in which order. No addresses.

use postlink_base::IndexVec;
use postlink_cfg::{BlockId, FunctionId};

use crate::Part;

/// Where moved code goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All code is laid out again inside the old text range; what does not fit goes behind.
    Full,
    /// Only planned functions move, to a segment of their own; the others stay.
    Hot,
}

/// Blocks of one function that stay together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentPlan {
    /// In the order in which they are to stand. The first fragment's first block is the entry.
    pub blocks: Vec<BlockId>,
    /// Alignment of the fragment's start in bytes, a power of two.
    pub align: u32,
    /// How hot it is: fragments of a kind stand together.
    pub part: Part,
    /// What a cache line with each of `blocks` costs; see [`line_cost`](crate::line_cost). The fragment starts, at
    /// a multiple of `align`, where its lines cost least. Empty: any multiple of `align` is as good.
    pub line_costs: Vec<u32>,
}

/// What happens to one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionPlan {
    /// It keeps its address.
    Stay,
    /// It moves as one piece.
    Whole {
        /// Alignment of its start in bytes, a power of two.
        align: u32,
        /// It is hot: it starts where it needs the fewest cache lines.
        hot: bool,
    },
    /// Its blocks are laid out anew: every block of its graph stands in exactly one fragment.
    Relay {
        /// Fragment 0 holds the entry.
        fragments: Vec<FragmentPlan>,
        /// Per block: when neither successor of its branch follows, the fallthrough side is the hotter
        /// one and gets the branch itself. Empty: the taken side is.
        prefer_fall: Vec<bool>,
    },
    /// An equal function, which is placed, stands for it: all references to it lead there.
    Fold {
        /// That function.
        into: FunctionId,
    },
}

impl FunctionPlan {
    /// Whether it has a place of its own in the order.
    pub const fn is_placed(&self) -> bool {
        matches!(self, Self::Whole { .. } | Self::Relay { .. })
    }

    /// The function that stands for it, if another one does.
    pub const fn folded(&self) -> Option<FunctionId> {
        match self {
            Self::Fold { into } => Some(*into),
            _ => None,
        }
    }
}

/// One fragment in the order of placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The function.
    pub function: FunctionId,
    /// Index of its fragment (0 for a function that moves whole).
    pub fragment: u32,
}

/// Order for a whole program.
///
/// # Invariants
/// 1. `order` names each fragment of each function that is placed exactly once.
/// 2. Only free functions are relaid; pinned ones stay.
/// 3. Only free functions are folded, into others of the same bytes that are placed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where moved code goes.
    pub mode: Mode,
    /// What happens to each function.
    pub functions: IndexVec<FunctionId, FunctionPlan>,
    /// The order of placement, hottest first.
    pub order: Vec<Placed>,
}
