//! Recovery: bytes to functions, references, control-flow graphs and the call graph.
//!
//! [`recover`] decodes every instruction once, in parallel, as a stream, and keeps what a rewriter
//! needs to know for the whole program: extents, position-dependent operands that leave a function,
//! references with their evidence, and what may move. The graph of one function ([`FunctionCfg`]) is
//! built on demand from the bytes again, so that memory grows with functions, not with instructions.
//!
//! **Invariant:** knows neither profile nor layout nor output.

mod bits;
mod build;
mod callgraph;
mod classify;
mod code_relocs;
mod data_refs;
mod discover;
pub mod dump;
mod fold;
mod function_cfg;
mod got;
mod offsets;
mod outward;
mod program;
mod reason;
mod recover;
mod scan;
mod tables;
mod taken;

pub use callgraph::{CallGraph, CallKind};
pub use build::{GraphBuilder, build_cfg};
pub use fold::{FoldClass, fold_classes};
pub use function_cfg::{Block, CfgEdge, EdgeKind, FunctionCfg, Graphs, Target, Terminator};
pub use got::{GotCall, GotCalls};
pub use program::{
    BlockId, Class, DataRef, DataRefKind, Evidence, Fixup, FixupKind, Function, FunctionId, JumpTable, Program,
    References, Traits,
};
pub use reason::Reason;
pub use recover::{CfgError, recover};
