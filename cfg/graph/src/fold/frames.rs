//! Whether two functions unwind alike: what is digested, and what is compared.

use std::hash::Hasher;

use postlink_image::{Fde, Lsda, eh_pe};

use crate::{Function, Program};

/// What the unwind tables say of a function, with all places in it as offsets.
#[derive(PartialEq, Eq)]
struct Frame<'d> {
    cie: u32,
    instructions: &'d [u8],
    /// Call sites, and the actions that they lead to; nothing without exceptions.
    handlers: Vec<u64>,
}

/// Feeds what is compared to `hasher`; `None` if the function has tables that are compared with no other's.
pub(super) fn hash(program: &Program<'_>, function: &Function, hasher: &mut impl Hasher) -> Option<()> {
    let Some(frame) = frame(program, function)? else {
        hasher.write_u32(u32::MAX);
        return Some(());
    };
    hasher.write_u32(frame.cie);
    hasher.write(frame.instructions);
    frame.handlers.iter().for_each(|&word| hasher.write_u64(word));
    Some(())
}

pub(super) fn are_equal(program: &Program<'_>, a: &Function, b: &Function) -> bool {
    frame(program, a).zip(frame(program, b)).is_some_and(|(a, b)| a == b)
}

/// `None`: not to be compared; `Some(None)`: the file has no tables at all.
#[allow(clippy::option_option, reason = "both are answers, and only here")]
fn frame<'d>(program: &Program<'d>, function: &Function) -> Option<Option<Frame<'d>>> {
    let Some(eh_frame) = &program.eh_frame else { return Some(None) };
    // Code without a frame may be covered by another's.
    let fde = eh_frame.fdes.get(function.fde? as usize)?;
    if (fde.pc_begin, fde.pc_end) != (function.start, function.end) || fde.dead {
        return None;
    }
    let range = fde.instructions();
    let instructions = program.image.bytes_at(range.start, range.end - range.start)?;
    // NOPs at the end fill the record up.
    let used = instructions.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let handlers = handlers(program, fde)?;
    Some(Some(Frame { cie: fde.cie, instructions: instructions.get(..used)?, handlers }))
}

/// Call sites as offsets, each with its chain of actions.
fn handlers(program: &Program<'_>, fde: &Fde) -> Option<Vec<u64>> {
    let Some(addr) = fde.lsda else { return Some(Vec::new()) };
    let lsda = Lsda::parse(program.image, addr, fde.pc_begin).ok()?;
    if lsda.lp_start_encoding != eh_pe::OMIT {
        return None;
    }
    // Apart from a function without such data.
    let mut words = vec![lsda.call_sites.len() as u64 + 1];
    // Neighbours often have the same one.
    let mut last: Option<(u64, Vec<u64>)> = None;
    for site in &lsda.call_sites {
        let pad = site.landing_pad.map_or(u64::MAX, |pad| pad.wrapping_sub(fde.pc_begin));
        words.extend([site.start.wrapping_sub(fde.pc_begin), site.len, pad]);
        let chain = match last.take() {
            Some((action, chain)) if action == site.action => chain,
            _ => actions(program, &lsda, site.action)?,
        };
        words.extend(&chain);
        last = Some((site.action, chain));
    }
    Some(words)
}

/// The chain of actions, with the types that are caught; `None` for exception specifications, which few programs have.
fn actions(program: &Program<'_>, lsda: &Lsda, action: u64) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    for one in lsda.action_chain(program.image, action).ok()? {
        words.push(one.filter.cast_unsigned());
        match u64::try_from(one.filter) {
            Ok(0) => {}
            Ok(number) => words.push(lsda.type_entry(program.image, number).ok()?.unwrap_or(0)),
            Err(_) => return None,
        }
    }
    // The length keeps chains apart.
    words.insert(0, words.len() as u64);
    Some(words)
}
