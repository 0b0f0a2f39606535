//! Which builds of a program are run: all, or a small choice that covers every value of every axis.
use crate::case::{Case, Variant};

/// One way to build one program.
#[derive(Clone, Copy)]
pub(crate) struct Build<'a> {
    pub(crate) case: &'a Case,
    pub(crate) variant: &'a Variant,
    pub(crate) compiler: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) linker: &'a str,
    /// Position among the chosen builds of its variant.
    pub(crate) position: usize,
}

impl Build<'_> {
    /// `c/hello:gcc.pie.lld`, with `+TAG` for a named variant.
    pub(crate) fn label(&self) -> String {
        let tag = if self.variant.tag.is_empty() { String::new() } else { format!("+{}", self.variant.tag) };
        format!("{}{tag}:{}.{}.{}", self.case.name, self.compiler, self.kind, self.linker)
    }
}

/// Combinations that the toolchain itself cannot build with relocations kept, with what was seen.
const IMPOSSIBLE: &[(&str, &str, &str)] = &[
    // ld.gold: --no-dynamic-linker: unknown option
    ("*", "static-pie", "gold"),
    // ld.gold: internal error in do_layout, with --gc-sections, which rustc always passes
    ("rustc", "*", "gold"),
    // ld.mold 1.10: assertion in get_output_sym_idx, in a quarter of the programs; ifunc dies at startup
    ("gcc", "exec", "mold"),
    ("gcc", "static", "mold"),
];

/// Whether the fixed choice includes this layout for this build: builds at even positions have one half
/// of the layouts, builds at odd positions the other, so that two builds see all of them.
pub(crate) fn includes_layout(build: &Build<'_>, layout_index: usize) -> bool {
    // The orders of one mode follow each other: shift the second mode by one, or a build would have one mode only.
    let mode = layout_index / crate::layouts::ORDERS.len();
    (layout_index + mode + build.position).is_multiple_of(2)
}

/// The builds of one program, in a fixed order.
pub(crate) fn builds_of(case: &Case, all: bool) -> Vec<Build<'_>> {
    let mut chosen = Vec::new();
    for variant in &case.variants {
        let mut candidates = Vec::new();
        for compiler in &variant.compilers {
            for kind in &variant.kinds {
                for linker in &variant.linkers {
                    let matches = |pattern: &str, value: &str| pattern == "*" || pattern == value;
                    let impossible = IMPOSSIBLE
                        .iter()
                        .any(|(c, k, l)| matches(c, compiler) && matches(k, kind) && matches(l, linker))
                        || case
                            .skip
                            .iter()
                            .any(|[c, k, l]| matches(c, compiler) && matches(k, kind) && matches(l, linker));
                    if !impossible {
                        candidates.push(Build { case, variant, compiler, kind, linker, position: 0 });
                    }
                }
            }
        }
        let builds = if all { candidates } else { covering(candidates) };
        chosen.extend(builds.into_iter().enumerate().map(|(position, build)| Build { position, ..build }));
    }
    chosen
}

/// A subset in which each compiler, kind and linker of the candidates occurs. The order in which
/// candidates are tried depends on a hash of the label, so that programs differ in their pairs.
fn covering(mut candidates: Vec<Build<'_>>) -> Vec<Build<'_>> {
    candidates.sort_by_cached_key(|build| *blake3::hash(build.label().as_bytes()).as_bytes());
    let mut covered: Vec<&str> = Vec::new();
    let mut chosen: Vec<Build<'_>> = Vec::new();
    loop {
        let gain = |build: &Build<'_>| {
            [build.compiler, build.kind, build.linker].iter().filter(|value| !covered.contains(*value)).count()
        };
        // max_by_key returns the last maximum; reversed, so the first in hash order wins.
        let Some(best) = candidates.iter().rev().max_by_key(|build| gain(build)).copied() else { break };
        if gain(&best) == 0 {
            break;
        }
        covered.extend([best.compiler, best.kind, best.linker]);
        chosen.push(best);
    }
    chosen
}
