//! P3: tables of distances, read as the code reads them.
//!
//! A table of absolute addresses is made of ordinary pointers (P2). What remains are the tables of
//! position-independent code: entry `i` is `target - base`, and the code computes `base + entry`
//! with a base that it takes with `lea` (or by its distance from the GOT). A relocation against such an entry says that it is a
//! distance; only the code says from where. So the base of an entry is the nearest address at or
//! before it that visited code takes, with nothing but distances in between. A distance that counts
//! from its own place (`.long target - .`) is told apart by where it leads.

use postlink_base::{NewAddr, OldAddr};
use postlink_image::{Image, Symbol};
use rayon::prelude::*;

use crate::code::Functions;
use crate::decode::Eyes;
use crate::proof::{Obligation, Violation};
use crate::symbols::ColdNames;
use crate::walk::{Context, Harvest, Walker, little};

/// A place that code takes and where distances stand: the start of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Base {
    addr: u64,
    /// Index of the first entry in the list of distances.
    first: usize,
    width: u8,
    /// Whether its entries were read.
    is_read: bool,
}

/// One entry and what it designates in the old program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it stands.
    pub(crate) addr: u64,
    pub(crate) width: u8,
    /// What it counts from.
    base: u64,
    pub(crate) target: u64,
    reader: Option<u64>,
}

/// Addresses of data that code takes which the walk has not reached yet: the body of one `switch` may
/// hold another one, whose table would be taken for the end of the first one's. Only the bounds of
/// tables come from here; the code itself is compared when it is reached.
pub(crate) fn sweep(cx: &Context<'_, '_>) -> Vec<(u64, u64)> {
    cx.functions
        .ranges()
        .par_chunks(512)
        .with_max_len(4)
        .flat_map_iter(|functions| {
            let mut eyes = Eyes::new();
            let mut taken = Vec::new();
            for &(start, end) in functions {
                let mut at = start;
                while let Some(from) = cx.old_covered.next(at, end, false) {
                    let to = cx.old_covered.next(from, end, true).unwrap_or(end);
                    at = from;
                    let mut rest = cx.old_code.from(at).unwrap_or(&[]);
                    while at < to {
                        let form = rest.first_chunk::<16>().and_then(|whole| eyes.form(whole));
                        if let Some(len) = form.and_then(|form| form.plain_len()) {
                            at += u64::from(len);
                            rest = rest.get(usize::from(len)..).unwrap_or(&[]);
                            continue;
                        }
                        let Ok(decoded) = eyes.decode(rest, at) else { break };
                        if let Some(memory) = decoded.memory
                            && memory.taken
                            && cx.relocations.distance_at(memory.target).is_some()
                        {
                            taken.push((memory.target, at));
                        }
                        at += u64::from(decoded.len);
                        rest = rest.get(usize::from(decoded.len)..).unwrap_or(&[]);
                    }
                    at = to;
                }
            }
            taken
        })
        .collect()
}

/// Which code a table may lead to.
struct Reach<'a> {
    functions: &'a Functions,
    /// Starts of parts of functions that the compiler split off.
    cold: Vec<u64>,
}

impl<'a> Reach<'a> {
    fn new(cx: &'a Context<'_, '_>) -> Self {
        let mut cold = Vec::new();
        if let Some(table) = cx.old.symtab() {
            let names = ColdNames::new(table.strings());
            let is_cold = |symbol: &Symbol| symbol.is_defined() && names.holds(symbol.name);
            let value = |at: usize| table.get(at).filter(is_cold).map(|symbol| symbol.value);
            cold = (0..table.len()).into_par_iter().filter_map(value).collect();
        }
        cold.sort_unstable();
        Self { functions: &cx.functions, cold }
    }

    /// A `switch` leads into its function or a part of it that was split off; a case that cannot
    /// happen may lead to the end, which is the start of another function.
    fn may_lead(&self, reader: u64, target: u64) -> bool {
        let extent = self.functions.extent(target);
        let is_cold = |start: u64| self.cold.binary_search(&start).is_ok();
        extent.start == reader || extent.start == target || extent.is_function && (is_cold(extent.start) || is_cold(reader))
    }
}

/// What one thread read.
#[derive(Default)]
struct Read {
    /// Numbers of the bases that have a table.
    bases: Vec<usize>,
    /// With the numbers of their distances.
    entries: Vec<(usize, Entry)>,
    /// Numbers of distances that are entries which are what they were and lead into a function that stayed.
    kept: Vec<usize>,
    /// Old code that was not visited.
    targets: Vec<u64>,
}

/// All tables, read as the walk comes upon the code that uses them.
pub(crate) struct Tables<'c, 'a, 'd> {
    cx: &'c Context<'a, 'd>,
    reach: Reach<'c>,
    /// Sorted by address.
    bases: Vec<Base>,
    entries: Vec<Entry>,
    /// Number of entries that are not among them: they are what they were and lead into a function that stayed.
    kept: u64,
    keep_all: bool,
    /// Whether an entry was made of the distance of that number.
    is_entry: Vec<bool>,
}

impl<'c, 'a, 'd> Tables<'c, 'a, 'd> {
    /// `taken` and `hints` bound the tables: addresses of data that visited code and other code
    /// takes, with the address of the instruction. `keep_all`: entries that did not change are wanted as well.
    pub(crate) fn new(cx: &'c Context<'a, 'd>, taken: &[(u64, u64)], hints: &[(u64, u64)], keep_all: bool) -> Self {
        let distances = &cx.relocations.distances;
        let mut bases: Vec<Base> = taken
            .par_iter()
            .chain(hints)
            .filter_map(|&(addr, _)| {
                let first = cx.relocations.distance_at(addr)?;
                Some(Base { addr, first, width: distances.get(first)?.1, is_read: false })
            })
            .collect();
        bases.par_sort_unstable();
        bases.dedup();
        let is_entry = vec![false; distances.len()];
        Self { cx, reach: Reach::new(cx), bases, entries: Vec::new(), kept: 0, keep_all, is_entry }
    }

    /// Reads the tables whose bases are among `taken` and were not read before. Gives the old code
    /// that they lead to.
    pub(crate) fn read(&mut self, taken: &mut Vec<(u64, u64)>) -> Vec<u64> {
        taken.par_sort_unstable();
        taken.dedup();
        let this = &*self;
        let by_base: Vec<&[(u64, u64)]> = taken.chunk_by(|a, b| a.0 == b.0).collect();
        let found: Vec<Read> = by_base
            .par_chunks(64)
            .with_max_len(1)
            .map(|bases| {
                let mut read = Read::default();
                bases.iter().for_each(|taken| this.read_base(taken, &mut read));
                read
            })
            .collect();
        taken.clear();
        let mut targets = Vec::new();
        for read in found {
            for at in read.bases {
                if let Some(base) = self.bases.get_mut(at) {
                    base.is_read = true;
                }
            }
            targets.extend(read.targets);
            // Of two readings of an entry the first one is checked.
            let mut is_first = |number: usize| {
                self.is_entry.get_mut(number).is_some_and(|is_entry| !std::mem::replace(is_entry, true))
            };
            self.kept += read.kept.iter().filter(|&&number| is_first(number)).count() as u64;
            self.entries.extend(read.entries.iter().filter(|(number, _)| is_first(*number)).map(|(_, entry)| *entry));
        }
        targets
    }

    /// Reads the table at one base, which these instructions take, if it was not read before.
    fn read_base(&self, taken: &[(u64, u64)], read: &mut Read) {
        let Some(&(addr, _)) = taken.first() else { return };
        let Ok(at) = self.bases.binary_search_by_key(&addr, |base| base.addr) else { return };
        let limit = self.bases.get(at + 1).map_or(usize::MAX, |next| next.first);
        let Some(&base) = self.bases.get(at).filter(|base| !base.is_read) else { return };
        // Code that takes the end of the data before the table is no reader of it.
        let reads = |&(_, instruction): &(u64, u64)| {
            let reader = self.cx.functions.entry(instruction).unwrap_or(instruction);
            self.read_table(base, limit, reader, read)
        };
        if taken.iter().any(reads) {
            read.bases.push(at);
        }
    }

    /// Whether it has an entry.
    fn read_table(&self, base: Base, limit: usize, reader: u64, read: &mut Read) -> bool {
        let cx = self.cx;
        let mut next = base.addr;
        let mut has_entry = false;
        // Most entries lead into the function that reads them.
        let own = Some(cx.functions.extent(reader)).filter(|own| own.start == reader);
        let piece = cx.claim.piece(reader);
        let stayed = !self.keep_all && piece.is_same && own.is_some_and(|own| own.end <= piece.end);
        let distances = &cx.relocations.distances;
        for (number, &(addr, width)) in distances.iter().enumerate().take(limit).skip(base.first) {
            if addr != next || width != base.width {
                break;
            }
            next = next.wrapping_add(u64::from(width));
            let Some(distance) = distance(cx.old, addr, width) else { break };
            let from_base = base.addr.wrapping_add_signed(distance);
            let from_here = addr.wrapping_add_signed(distance);
            let is_own = own.is_some_and(|own| own.contains(from_base));
            let entry = if is_own || self.reach.may_lead(reader, from_base) {
                Entry { addr, width, base: base.addr, target: from_base, reader: Some(reader) }
            } else if cx.functions.entry(from_here) == Some(from_here) {
                Entry { addr, width, base: addr, target: from_here, reader: None }
            } else {
                break;
            };
            has_entry = true;
            if cx.old_code.contains(entry.target) && !cx.visited.contains(entry.target) {
                read.targets.push(entry.target);
            }
            let is_kept = stayed && is_own && self::distance(cx.new, addr, width) == Some(distance);
            if is_kept {
                read.kept.push(number);
            } else {
                read.entries.push((number, entry));
            }
        }
        has_entry
    }

    /// All entries with the distances that count from their own place and lead to a
    /// function, and the number of those that need no further look. Other distances that no code was seen
    /// to read are left out; what they may lead to may be a value.
    pub(crate) fn into_entries(self) -> (Vec<Entry>, u64) {
        let Self { cx, mut entries, is_entry, kept, .. } = self;
        entries.par_iter().for_each(|entry| {
            cx.values.insert(entry.target);
        });
        for (&(addr, width), _) in cx.relocations.distances.iter().zip(&is_entry).filter(|(_, is_entry)| !**is_entry) {
            let Some(target) = distance(cx.old, addr, width).map(|distance| addr.wrapping_add_signed(distance)) else { continue };
            cx.values.insert(target);
            if cx.functions.entry(target) == Some(target) {
                entries.push(Entry { addr, width, base: addr, target, reader: None });
            }
        }
        (entries, kept)
    }
}

/// The signed number at `addr`.
fn distance(image: &Image<'_>, addr: u64, width: u8) -> Option<i64> {
    let value = little(image.bytes_at(addr, u64::from(width))?);
    Some(if width == 4 { i64::from(value as u32 as i32) } else { value.cast_signed() })
}

/// Checks each entry in the new file. Gives the words that may differ from the old file, and what
/// the walk of jumps on the way brought home.
pub(crate) fn check(cx: &Context<'_, '_>, entries: &[Entry]) -> (Vec<(u64, u8)>, Harvest) {
    let parts: Vec<(Vec<(u64, u8)>, Harvest)> = entries
        .par_chunks(8192)
        .with_max_len(1)
        .map(|entries| {
            let mut walker = Walker::new(cx);
            let mut explained = Vec::new();
            for entry in entries {
                check_entry(cx, entry, &mut walker, &mut explained);
            }
            (explained, walker.harvest)
        })
        .collect();
    parts.into_iter().fold((Vec::new(), Harvest::default()), |(mut explained, harvest), (more, other)| {
        explained.extend(more);
        (explained, harvest.merge(other))
    })
}

fn check_entry(cx: &Context<'_, '_>, entry: &Entry, walker: &mut Walker<'_, '_, '_>, explained: &mut Vec<(u64, u8)>) {
    walker.harvest.findings.checked.table_entries += 1;
    let new_target = distance(cx.new, entry.addr, entry.width).map(|distance| entry.base.wrapping_add_signed(distance));
    let expected = cx.references.expected(entry.target);
    if expected != entry.target || new_target != Some(entry.target) {
        explained.push((entry.addr, entry.width));
    }
    let fits = new_target == Some(expected)
        || cx.old_code.contains(entry.target) && new_target.is_some_and(|target| walker.leads_to(entry.target, target));
    if !fits {
        let message = format!("the entry of the table at {:#x} must lead to {expected:#x}", entry.base);
        walker.harvest.findings.violate(Obligation::Tables, || Violation {
            obligation: Obligation::Tables,
            old_addr: Some(OldAddr::new(entry.addr)),
            rule: "table-entry",
            new_addr: Some(NewAddr::new(entry.addr)),
            old_text: format!("-> {:#x}", entry.target),
            new_text: new_target.map_or_else(|| "(no data)".to_owned(), |target| format!("-> {target:#x}")),
            function: cx.functions.entry(entry.target).or(entry.reader).map(OldAddr::new),
            message,
        });
    }
}
