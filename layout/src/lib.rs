//! Order: of blocks in a function, of functions in a program, and which blocks are cold.
//!
//! Pure functions over plain slices. Same input, same order: nothing here depends on hash order,
//! on threads, on time or on the platform's mathematical library; ties break by id and floating
//! point numbers compare by `total_cmp`. Every algorithm has trivial siblings (keep, reverse,
//! random), because *any* order must give a working program.
//!
//! **Invariant:** knows neither bytes nor addresses nor the ELF file; sizes are estimates.

mod blocks;
mod chains;
mod functions;
mod heat;
mod plan;
mod planner;
mod queue;
mod random;
mod split;

pub use blocks::ext_tsp::{
    ExtTspParams, ext_tsp_order_with_params, ext_tsp_score, ext_tsp_score_with_params,
};
pub use blocks::{BlockEdge, BlockGraph, BlockOrder, order_blocks};
pub use functions::cdsort::{CdSortParams, cdsort_with_params};
pub use functions::hfsort::{HfSortParams, hfsort_with_params};
pub use functions::{CallArc, FunctionNode, FunctionOrder, order_functions};
pub use heat::line_cost;
pub use planner::{
    BlockOrderChoice, Counts, FunctionOrderChoice, PlanOptions, Shapes, SplitChoice, WeightedCall, Weights, shape,
};
pub use plan::{FragmentPlan, FunctionPlan, Mode, Placed, Plan};
pub use split::{Part, Split, SplitParams, split_blocks, split_blocks_with_params};
