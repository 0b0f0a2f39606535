//! `postlink explain`: one function, before and after.

use std::fmt::Write as _;
use std::process::ExitCode;

use postlink_base::{AddressMap, NewAddr, OldAddr};
use postlink_cfg::dump::{self, place};
use postlink_cfg::{BlockId, EdgeKind, FunctionCfg, FunctionId, Program, Target, Terminator, build_cfg, recover};
use postlink_image::Image;
use postlink_profile::{FunctionCounts, attach};
use postlink_report::{Row, text};
use serde::Serialize;

use super::optimize::{profile_files, read_profiles};
use super::{dump::find, printable, verify::address_map};
use crate::args::Explain;
use crate::blocks::{Placed, placed, taken};
use crate::input;
use crate::outcome::Stop;

pub(crate) fn run(arguments: &Explain) -> Result<ExitCode, Stop> {
    let old_bytes = input::read_program(&arguments.old)?;
    let new_bytes = input::read_program(&arguments.new)?;
    let image = input::parse_supported(&arguments.old, &old_bytes)?;
    let new = input::parse(&arguments.new, &new_bytes)?;
    let map = address_map(&arguments.new, &new, arguments.map.as_deref())?;
    let program = recover(&image).map_err(|error| Stop::refused("IMG002", error.to_string()))?;
    let profile = read_profiles(&program, profile_files(&arguments.profile))?;
    let id = find(&program, &arguments.name)?;
    let mut out = String::new();
    // A function and its split-off parts are one thing to its owner.
    let root = program.functions[id].parent.unwrap_or(id);
    let parts = program.functions.ids().filter(|&part| part == root || program.functions[part].parent == Some(root));
    for part in parts {
        let cfg = build_cfg(&program, part);
        let counts = profile.as_ref().map(|profile| attach(profile, &program, &cfg).0);
        explain(&mut out, &program, &new, &map, &cfg, counts.as_ref())?;
    }
    super::print(&out);
    Ok(ExitCode::SUCCESS)
}

/// One block in the table.
#[derive(Serialize)]
struct BlockRow {
    block: String,
    old: String,
    old_size: u64,
    new: String,
    new_size: Option<u64>,
    symbol: String,
    count: Option<u64>,
    then: String,
}

impl Row for BlockRow {
    const TABLE: &'static str = "explain-blocks";
    const VERSION: u32 = 1;
}

fn explain(
    out: &mut String,
    program: &Program<'_>,
    new: &Image<'_>,
    map: &AddressMap,
    cfg: &FunctionCfg,
    counts: Option<&FunctionCounts>,
) -> Result<(), Stop> {
    let id = cfg.function;
    let function = &program.functions[id];
    let entry = map.to_new(OldAddr::new(function.start));
    let _ = writeln!(out, "function   {}", printable(&program.name(id)));
    let _ = match function.reason {
        Some(reason) => writeln!(out, "class      {}: {} [{}]", function.class.name(), reason.text(), reason.code()),
        None => writeln!(out, "class      {}", function.class.name()),
    };
    let _ = writeln!(out, "old        {:#x}..{:#x}, {} bytes", function.start, function.end, function.size());
    let moved = map.moved(OldAddr::new(function.start)).is_some();
    let _ = writeln!(out, "new        {:#x}{}", entry.raw(), if moved { "" } else { " (did not move)" });
    let equal = equal(program, map, id);
    if let Some(first) = equal.first() {
        let more = if equal.len() > 1 { format!(" and {} more", equal.len() - 1) } else { String::new() };
        let _ = writeln!(out, "shared     its new code is that of {}{more} as well", printable(&program.name(*first)));
    }
    if let Some(counts) = counts {
        let (before, after) = taken(cfg, &counts.edges, map);
        let _ = writeln!(out, "profile    entered {} times; {before} jumps and taken branches before, {after} after", counts.entry);
    }
    let order = placed(cfg, map);
    let rows: Vec<BlockRow> = order
        .iter()
        .enumerate()
        .map(|(index, place)| {
            let fragment = new_function_at(new, NewAddr::new(place.new));
            let next = order.iter().skip(index).map(|place| place.new).find(|&new| new > place.new);
            BlockRow {
                block: place.block.to_string(),
                old: format!("{:#x}", place.old),
                old_size: place.old_size,
                new: format!("{:#x}", place.new),
                new_size: new_size(place, order.get(index + 1), next, fragment.as_ref()),
                symbol: fragment.map_or_else(|| "-".to_owned(), |fragment| fragment.name),
                count: counts.and_then(|counts| counts.blocks.get(place.block.0 as usize).copied()),
                then: then(program, cfg, place.block),
            }
        })
        .collect();
    let table = text(&rows).map_err(|error| Stop::contradiction("CLI002", format!("table of blocks: {error}")))?;
    let _ = writeln!(out, "\nblocks, in new order");
    for line in table.lines() {
        let _ = writeln!(out, "  {line}");
    }
    references(out, program, id);
    Ok(())
}

/// The functions that have the same new code, in order.
fn equal(program: &Program<'_>, map: &AddressMap, id: FunctionId) -> Vec<FunctionId> {
    let function = &program.functions[id];
    let Some(entry) = map.moved(OldAddr::new(function.start)) else { return Vec::new() };
    let is_equal = |other: &postlink_cfg::Function| {
        other.size() == function.size() && map.moved(OldAddr::new(other.start)) == Some(entry)
    };
    let all = program.functions.iter_enumerated();
    all.filter(|(other, function)| *other != id && is_equal(function)).map(|(other, _)| other).collect()
}

/// Bytes up to the next block or the end of the fragment. Of several blocks at one place all but the
/// last have no bytes.
fn new_size(place: &Placed, following: Option<&Placed>, next: Option<u64>, fragment: Option<&Fragment>) -> Option<u64> {
    if following.is_some_and(|following| following.new == place.new) {
        return Some(0);
    }
    let end = fragment?.end;
    Some(next.map_or(end, |next| next.min(end)).saturating_sub(place.new))
}

/// A function symbol of the new file.
struct Fragment {
    name: String,
    end: u64,
}

fn new_function_at(new: &Image<'_>, addr: NewAddr) -> Option<Fragment> {
    let table = new.symtab()?;
    let symbol = table.iter().find(|symbol| {
        symbol.is_function() && symbol.is_defined() && addr.raw().checked_sub(symbol.value).is_some_and(|at| at < symbol.size)
    })?;
    let name = printable(&String::from_utf8_lossy(table.name(&symbol)));
    Some(Fragment { name, end: symbol.value.saturating_add(symbol.size) })
}

/// Where control goes from a block.
fn then(program: &Program<'_>, cfg: &FunctionCfg, block: BlockId) -> String {
    let name = |target: &Target| match target {
        Target::Block(block) => block.to_string(),
        Target::External(addr) => place(program, *addr),
    };
    match cfg.blocks.get(block).map(|block| block.terminator) {
        Some(Terminator::Fallthrough(next)) => name(&next),
        Some(Terminator::Jump { target, .. }) => name(&target),
        Some(Terminator::Branch { taken, fall, .. }) => format!("{} or {}", name(&taken), name(&fall)),
        Some(Terminator::IndirectJump) => {
            let targets = cfg.edges.iter().filter(|edge| edge.from == block && edge.kind == EdgeKind::Indirect);
            let mut targets: Vec<BlockId> = targets.map(|edge| edge.to).collect();
            targets.sort_unstable();
            targets.dedup();
            format!("indirect, {} targets", targets.len())
        }
        Some(Terminator::Stop) | None => "end".to_owned(),
    }
}

/// How many references of one kind are listed; the rest is counted.
const LISTED: usize = 12;

fn references(out: &mut String, program: &Program<'_>, id: FunctionId) {
    let name = program.name(id);
    let own_name = |place: &str| place == name || place.strip_prefix(&name).is_some_and(|rest| rest.starts_with("+0x"));
    let all = dump::references(program, Some(id));
    let mut by_evidence: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in all.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.rsplit(' ');
        let (Some(evidence), Some(to)) = (words.next(), words.next()) else { continue };
        if !own_name(to) {
            continue;
        }
        match by_evidence.iter_mut().find(|known| known.0 == evidence) {
            Some(known) => known.1.push(line),
            None => by_evidence.push((evidence, vec![line])),
        }
    }
    let _ = writeln!(out, "\nreferences to it, by evidence (from, kind, to)");
    if by_evidence.is_empty() {
        let _ = writeln!(out, "  none");
    }
    by_evidence.sort_unstable();
    for (evidence, lines) in by_evidence {
        let _ = writeln!(out, "  {evidence}: {}", lines.len());
        for line in lines.iter().take(LISTED) {
            let _ = writeln!(out, "    {}", printable(line.strip_suffix(evidence).unwrap_or(line).trim_end()));
        }
        if lines.len() > LISTED {
            let _ = writeln!(out, "    and {} more", lines.len() - LISTED);
        }
    }
    out.push('\n');
}
