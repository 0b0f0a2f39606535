//! P1: addresses in code that instructions take and that may be no labels: data may be meant that stands near, or a table of distances
//! among the code.

mod inline_tables;

use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol, elf};

use crate::decode::Eyes;
use crate::proof::{Findings, Obligation, Violation};
use crate::walk::Context;

/// Data between functions that is so near may be meant by an address in code.
const NEAR: u64 = 4096;

/// Looks at the addresses inside of functions that instructions take and that moved: one in the middle of an instruction, or near data
/// between functions, may mean data at some distance, which stays. Nothing but what is executed for sure may have been walked.
pub(crate) fn check(cx: &Context<'_, '_>, taken: &[(u64, u64)], findings: &mut Findings) {
    let mut places: Vec<(u64, u64)> = taken.iter().copied().filter(|&(place, _)| cx.functions.entry(place) != Some(place)).collect();
    places.sort_unstable();
    places.dedup_by_key(|place| place.0);
    let names = names_of(cx.old, &places);
    inline_tables::check(cx, taken, &places, &names, findings);
    let mut eyes = Eyes::new();
    // A name makes it a label: functions in assembly often have no size, by which they would be known.
    for ((place, instruction), _) in places.into_iter().zip(names).filter(|(_, name)| *name == Name::None) {
        if cx.claim.piece(place).is_same {
            continue;
        }
        let is_amid = cx.old_covered.contains(place) && !cx.visited.contains(place);
        if is_amid || is_near_data(cx, &mut eyes, place) {
            findings.violate(Obligation::Code, || Violation {
                obligation: Obligation::Code,
                old_addr: Some(OldAddr::new(place)),
                rule: "taken-near-data",
                new_addr: Some(NewAddr::new(cx.claim.to_new(place))),
                old_text: format!("taken at {instruction:#x}"),
                new_text: String::new(),
                function: cx.functions.entry(place).or(cx.functions.entry(instruction)).map(OldAddr::new),
                message: "the address is no label for sure, and data may be meant that did not move along".to_owned(),
            });
        }
    }
}

/// What a place in code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    None,
    Label,
    Function,
}

/// What each of `places` is called; these are sorted.
fn names_of(image: &Image<'_>, places: &[(u64, u64)]) -> Vec<Name> {
    let mut names = vec![Name::None; places.len()];
    for table in [image.symtab(), image.dynsym()].into_iter().flatten().filter(|_| !places.is_empty()) {
        let is_name = |symbol: &Symbol| symbol.is_defined() && !matches!(symbol.kind(), elf::STT_SECTION | elf::STT_FILE | elf::STT_TLS);
        for symbol in table.iter().filter(is_name) {
            let at = places.binary_search_by_key(&symbol.value, |place| place.0);
            if let Some(name) = at.ok().and_then(|at| names.get_mut(at)) {
                *name = (*name).max(if symbol.is_function() { Name::Function } else { Name::Label });
            }
        }
    }
    names
}

/// Whether bytes between functions near `place` are neither executed nor padding.
fn is_near_data(cx: &Context<'_, '_>, eyes: &mut Eyes, place: u64) -> bool {
    let (mut at, end) = (place.saturating_sub(NEAR), place.saturating_add(NEAR));
    while at < end {
        let extent = cx.functions.extent(at);
        let stop = extent.end.min(end);
        while !extent.is_function
            && at < stop
            && let Some(bytes) = cx.old_code.from(at)
        {
            let room = stop.min(at.saturating_add(bytes.len() as u64));
            let Some(from) = cx.old_covered.next(at, room, false) else { break };
            let to = cx.old_covered.next(from, room, true).unwrap_or(room);
            let rest = cx.old_code.from(from).and_then(|bytes| bytes.get(..usize::try_from(to - from).ok()?)).unwrap_or(&[]);
            // What begins before the stretch that is looked at may be padding cut in two.
            let is_whole = from != place.saturating_sub(NEAR);
            if is_whole && crate::gaps::padding(rest, eyes, true) < rest.len() {
                return true;
            }
            at = to;
        }
        at = stop.max(at + 1);
    }
    false
}
