//! Stable text of what was recovered, for people and for golden tests.

use std::fmt::Write as _;

use postlink_base::Id;

use crate::{
    BlockId, CallGraph, CallKind, Class, DataRefKind, EdgeKind, FixupKind, FunctionCfg, FunctionId, Program, Target,
    Terminator, build_cfg,
};

/// One line per function: address, size, class, reason, name.
pub fn functions(program: &Program<'_>, filter: Option<FunctionId>) -> String {
    let mut out = String::from("# address size class reason fde parent name\n");
    for (id, function) in program.functions.iter_enumerated() {
        if filter.is_some_and(|wanted| wanted != id) {
            continue;
        }
        let reason = function.reason.map_or("-", crate::Reason::code);
        let parent = function.parent.map_or_else(|| "-".to_owned(), |parent| program.name(parent));
        let fde = if function.fde.is_some() { "fde" } else { "-" };
        let _ = writeln!(
            out,
            "{:#x} {} {} {} {} {} {}",
            function.start,
            function.size(),
            function.class.name(),
            reason,
            fde,
            parent,
            program.name(id)
        );
    }
    out
}

/// The graph of one function as text.
pub fn cfg(program: &Program<'_>, id: FunctionId) -> String {
    let graph = build_cfg(program, id);
    let mut out = String::new();
    let _ = writeln!(out, "function {} {:#x} blocks {}", program.name(id), graph.start, graph.blocks.len());
    for (block_id, block) in graph.blocks.iter_enumerated() {
        let mut marks = String::new();
        if block.landing_pad {
            marks.push_str(" landing-pad");
        }
        if block.label {
            marks.push_str(" label");
        }
        let _ = writeln!(
            out,
            "  {block_id} +{:#x}..+{:#x} body {}{marks}: {}",
            block.start,
            block.end,
            block.body_size(),
            terminator(program, &block.terminator)
        );
        let indirect: Vec<String> = graph
            .edges
            .iter()
            .filter(|edge| edge.from == block_id && edge.kind == EdgeKind::Indirect)
            .map(|edge| edge.to.to_string())
            .collect();
        if !indirect.is_empty() {
            let _ = writeln!(out, "    -> {}", indirect.join(" "));
        }
    }
    out
}

/// The graph of one function in the DOT language.
pub fn cfg_dot(program: &Program<'_>, id: FunctionId) -> String {
    let graph: FunctionCfg = build_cfg(program, id);
    let mut out = String::from("digraph cfg {\n  node [shape=box fontname=monospace];\n");
    let _ = writeln!(out, "  label={:?};", program.name(id));
    for (block_id, block) in graph.blocks.iter_enumerated() {
        let _ = writeln!(out, "  {} [label=\"{block_id} +{:#x}\\n{} bytes\"];", block_id.0, block.start, block.body_size());
    }
    for edge in &graph.edges {
        let style = match edge.kind {
            EdgeKind::Fallthrough => "",
            EdgeKind::Taken => " [style=bold]",
            EdgeKind::Indirect => " [style=dashed]",
        };
        let _ = writeln!(out, "  {} -> {}{style};", edge.from.0, edge.to.0);
    }
    out.push_str("}\n");
    out
}

fn terminator(program: &Program<'_>, terminator: &Terminator) -> String {
    let name = |target: &Target| target_name(program, target);
    match terminator {
        Terminator::Fallthrough(next) => format!("fallthrough {}", name(next)),
        Terminator::Jump { target, .. } => format!("jump {}", name(target)),
        Terminator::Branch { taken, fall, form, .. } => {
            format!("branch {form:?} {} else {}", name(taken), name(fall))
        }
        Terminator::IndirectJump => "indirect-jump".to_owned(),
        Terminator::Stop => "stop".to_owned(),
    }
}

fn target_name(program: &Program<'_>, target: &Target) -> String {
    match target {
        Target::Block(BlockId(block)) => format!("bb{block}"),
        Target::External(addr) => place(program, *addr),
    }
}

/// An address as `name+0x10`, or as a number.
pub fn place(program: &Program<'_>, addr: u64) -> String {
    match program.function_at(addr) {
        Some(id) if program.functions[id].start == addr => program.name(id),
        Some(id) => format!("{}+{:#x}", program.name(id), addr - program.functions[id].start),
        None => format!("{addr:#x}"),
    }
}

/// The call graph as text, one edge per line.
pub fn callgraph(program: &Program<'_>, filter: Option<FunctionId>) -> String {
    let graph = CallGraph::build(program).graph;
    let mut out = String::from("# caller callee kind places\n");
    for edge in graph.edge_indices() {
        let Some((from, to)) = graph.edge_endpoints(edge) else { continue };
        let (from, to) = (FunctionId::from_index(from.index()), FunctionId::from_index(to.index()));
        if filter.is_some_and(|wanted| wanted != from && wanted != to) {
            continue;
        }
        let Some(&(kind, places)) = graph.edge_weight(edge) else { continue };
        let _ = writeln!(out, "{} {} {} {places}", program.name(from), program.name(to), kind_name(kind));
    }
    out
}

/// The call graph in the DOT language.
pub fn callgraph_dot(program: &Program<'_>, filter: Option<FunctionId>) -> String {
    let graph = CallGraph::build(program).graph;
    let mut out = String::from("digraph calls {\n");
    for edge in graph.edge_indices() {
        let Some((from, to)) = graph.edge_endpoints(edge) else { continue };
        let (from, to) = (FunctionId::from_index(from.index()), FunctionId::from_index(to.index()));
        if filter.is_some_and(|wanted| wanted != from && wanted != to) {
            continue;
        }
        let _ = writeln!(out, "  {:?} -> {:?};", program.name(from), program.name(to));
    }
    out.push_str("}\n");
    out
}

const fn kind_name(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Call => "call",
        CallKind::Tail => "tail",
        CallKind::Address => "address",
    }
}

/// All references to code, one per line: place, encoding, target, evidence. With a filter, those to
/// and from one function.
pub fn references(program: &Program<'_>, filter: Option<FunctionId>) -> String {
    let mut out = String::from("# from kind to evidence\n");
    for (id, fixups) in program.fixups.iter_enumerated() {
        for fixup in fixups {
            let target = program.function_at(fixup.target);
            let code = program.image.exec_section_at(fixup.target).is_some();
            let wanted = filter.is_none_or(|wanted| wanted == id || target == Some(wanted));
            if !code || !wanted {
                continue;
            }
            let _ = writeln!(
                out,
                "{} {} {} {}",
                place(program, program.functions[id].start + u64::from(fixup.offset)),
                fixup_name(fixup.kind),
                place(program, fixup.target),
                fixup.evidence.name()
            );
        }
    }
    for data_ref in &program.data_refs {
        let target = program.function_at(data_ref.target);
        if filter.is_some() && filter != target {
            continue;
        }
        let from = if data_ref.addr == 0 {
            format!("file:{:#x}", data_ref.file_offset)
        } else {
            format!("{:#x}", data_ref.addr)
        };
        let kind = match data_ref.kind {
            DataRefKind::Abs64 => "abs64".to_owned(),
            DataRefKind::Abs32 => "abs32".to_owned(),
            DataRefKind::Pc32 => "pc32".to_owned(),
            DataRefKind::Pc64 => "pc64".to_owned(),
            DataRefKind::Delta64 => "delta64".to_owned(),
            DataRefKind::Table32 => format!("table32@{:#x}", data_ref.table_base()),
            DataRefKind::Table64 => format!("table64@{:#x}", data_ref.table_base()),
        };
        let _ = writeln!(out, "{from} {kind} {} {}", place(program, data_ref.target), data_ref.evidence.name());
    }
    out
}

const fn fixup_name(kind: FixupKind) -> &'static str {
    match kind {
        FixupKind::Call => "call",
        FixupKind::Branch32 => "branch32",
        FixupKind::Branch8 => "branch8",
        FixupKind::Address => "lea",
        FixupKind::Memory => "memory",
        FixupKind::Abs32 => "abs32",
        FixupKind::Abs32S => "abs32s",
        FixupKind::Delta64 => "delta64",
        FixupKind::Pc64 => "pc64",
    }
}

/// Unwind entries: one line per FDE, with its landing pads.
pub fn unwind(program: &Program<'_>, filter: Option<FunctionId>) -> String {
    let mut out = String::from("# fde pc-begin pc-end lsda function\n");
    let Some(eh_frame) = &program.eh_frame else { return out };
    for fde in &eh_frame.fdes {
        let id = program.function_at(fde.pc_begin);
        if filter.is_some() && filter != id {
            continue;
        }
        let lsda = fde.lsda.map_or_else(|| "-".to_owned(), |lsda| format!("{lsda:#x}"));
        let name = id.map_or_else(|| "-".to_owned(), |id| program.name(id));
        let _ = writeln!(out, "{:#x} {:#x} {:#x} {lsda} {name}", fde.addr, fde.pc_begin, fde.pc_end);
    }
    for &pad in crate::program::sorted_range(
        &program.landing_pads,
        filter.map_or(0, |id| program.functions[id].start),
        filter.map_or(u64::MAX, |id| program.functions[id].end),
    ) {
        let _ = writeln!(out, "landing-pad {}", place(program, pad));
    }
    out
}

/// How many functions and bytes are in each class, and why.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Per class (free, rigid, pinned): functions and bytes.
    pub classes: [(u64, u64); 3],
    /// Per reason: functions and bytes.
    pub reasons: Vec<(crate::Reason, u64, u64)>,
}

/// Counts functions by class. Linker stubs and sections that never move are left out.
pub fn coverage(program: &Program<'_>) -> Coverage {
    let mut found = Coverage { classes: [(0, 0); 3], reasons: Vec::new() };
    for reason in crate::Reason::ALL {
        found.reasons.push((reason, 0, 0));
    }
    for function in program.functions.iter() {
        if function.reason == Some(crate::Reason::SectionStays) {
            continue;
        }
        let class = match function.class {
            Class::Free => 0,
            Class::Rigid => 1,
            Class::Pinned => 2,
        };
        if let Some(slot) = found.classes.get_mut(class) {
            slot.0 += 1;
            slot.1 += function.size();
        }
        if let Some(slot) = found.reasons.iter_mut().find(|slot| Some(slot.0) == function.reason) {
            slot.1 += 1;
            slot.2 += function.size();
        }
    }
    found.reasons.retain(|slot| slot.1 > 0);
    found
}
