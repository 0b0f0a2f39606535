//! Whether two functions unwind alike: what is digested, and what is compared.

use std::hash::Hasher;

use postlink_image::{Fde, Lsda, eh_pe};

use crate::{Function, Program};

/// The frame of a function, if there is one for all of it and nothing else. `Some(None)`: the file has no frames at all.
#[allow(clippy::option_option, reason = "both are answers, and only here")]
fn frame<'p>(program: &'p Program<'_>, function: &Function) -> Option<Option<&'p Fde>> {
    let Some(eh_frame) = &program.eh_frame else { return Some(None) };
    // Code without a frame of its own may be covered by another's.
    let fde = eh_frame.fdes.get(function.fde? as usize)?;
    ((fde.pc_begin, fde.pc_end) == (function.start, function.end) && !fde.dead).then_some(Some(fde))
}

/// Its call-frame instructions, without the NOPs at the end that fill the record up.
fn instructions<'d>(program: &Program<'d>, fde: &Fde) -> Option<&'d [u8]> {
    let range = fde.instructions();
    let instructions = program.image.bytes_at(range.start, range.end - range.start)?;
    let used = instructions.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    instructions.get(..used)
}

/// Feeds what is said about frames to `hasher`, but for exceptions; `None` if the function is compared with no other.
pub(super) fn hash(program: &Program<'_>, function: &Function, hasher: &mut impl Hasher) -> Option<()> {
    let Some(fde) = frame(program, function)? else { return Some(()) };
    hasher.write_u32(fde.cie << 1 | u32::from(fde.lsda.is_some()));
    hasher.write(instructions(program, fde)?);
    Some(())
}

pub(super) fn are_equal(program: &Program<'_>, a: &Function, b: &Function) -> bool {
    match (frame(program, a), frame(program, b)) {
        (Some(None), Some(None)) => true,
        (Some(Some(one)), Some(Some(other))) => {
            let are_alike = one.cie == other.cie && instructions(program, one) == instructions(program, other);
            are_alike && handlers(program, a).is_some_and(|handlers| Some(handlers) == self::handlers(program, b))
        }
        _ => false,
    }
}

/// Call sites as offsets, each with its chain of actions; nothing for a function without. `None` if they are compared with
/// no other's.
pub(super) fn handlers(program: &Program<'_>, function: &Function) -> Option<Vec<u64>> {
    let Some(fde) = frame(program, function)? else { return Some(Vec::new()) };
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
