//! The call graph.

use petgraph::graph::{DiGraph, NodeIndex};
use postlink_base::Id;

use crate::{FixupKind, FunctionId, Program};

/// How one function hands control to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// A direct call.
    Call,
    /// A direct jump to another function.
    Tail,
    /// The address is taken: an indirect call may follow.
    Address,
}

/// Direct calls, tail calls and taken addresses between the functions of the program.
pub struct CallGraph {
    /// Node `i` is function `i`; parallel edges are one edge with the number of places as weight.
    pub graph: DiGraph<FunctionId, (CallKind, u32), u32>,
}

impl CallGraph {
    /// Builds the graph from the program's fixups.
    pub fn build(program: &Program<'_>) -> Self {
        let mut graph = DiGraph::with_capacity(program.functions.len(), program.functions.len() * 4);
        for id in program.functions.ids() {
            graph.add_node(id);
        }
        let mut own: Vec<(u32, CallKind)> = Vec::new();
        for (id, fixups) in program.fixups.iter_enumerated() {
            own.clear();
            for fixup in fixups {
                let kind = match fixup.kind {
                    FixupKind::Call => CallKind::Call,
                    FixupKind::Branch32 | FixupKind::Branch8 => CallKind::Tail,
                    _ => CallKind::Address,
                };
                if let Some(target) = program.function_at(fixup.target) {
                    own.push((target.0, kind));
                }
            }
            own.sort_unstable();
            for group in own.chunk_by(|a, b| a == b) {
                if let Some(&(target, kind)) = group.first() {
                    let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
                    graph.add_edge(NodeIndex::new(id.index()), NodeIndex::new(target as usize), (kind, count));
                }
            }
        }
        Self { graph }
    }
}
