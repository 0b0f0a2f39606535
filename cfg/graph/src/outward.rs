//! References from code to code that lead anywhere but to a function's entry.
//!
//! Of millions of references nearly all are calls of functions. What the others mean is asked several times over, so
//! they are picked out once.

use postlink_base::Id;
use rayon::prelude::*;

use crate::{FixupKind, FunctionId, Program};

/// A reference into a function or between functions, or a branch to the entry of a cold part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outward {
    /// The function whose code refers.
    pub(crate) from: FunctionId,
    /// The function that it leads to; none between functions.
    pub(crate) to: Option<FunctionId>,
    pub(crate) target: u64,
    pub(crate) kind: FixupKind,
}

/// All of them, in order of `from`.
pub(crate) fn from_code(program: &Program<'_>, is_cold: &[bool]) -> Vec<Outward> {
    let exec = program.image.exec_ranges();
    let code = exec.first().map_or(0, |range| range.0)..exec.iter().map(|range| range.1).max().unwrap_or(0);
    let code = &code;
    (0..program.fixups.len())
        .into_par_iter()
        .with_min_len(1024)
        .flat_map_iter(|index| {
            let from = FunctionId::from_index(index);
            program.fixups.at(index).iter().filter(|fixup| code.contains(&fixup.target)).filter_map(move |fixup| {
                let (target, kind) = (fixup.target, fixup.kind);
                let to = match program.place_of(target) {
                    Some((to, true)) => {
                        let branch = matches!(kind, FixupKind::Branch32 | FixupKind::Branch8);
                        (branch && is_cold.get(to.index()).copied().unwrap_or(false)).then_some(Some(to))
                    }
                    Some((to, false)) => Some(Some(to)),
                    None => program.image.exec_section_at(target).is_some().then_some(None),
                };
                to.map(|to| Outward { from, to, target, kind })
            })
        })
        .collect()
}
