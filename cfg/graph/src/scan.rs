//! Functions' bytes, decoded once: their fixups and what stands in the way of rearranging them.

mod walk;

use std::sync::OnceLock;

use postlink_base::ListPlace;
use postlink_image::Image;
use postlink_isa::x86_64::Stream;

use crate::bits::CodeSet;
use crate::code_relocs::CodeRelocs;
use crate::{Fixup, Reason};
use walk::Walk;

/// What the bytes of one function say.
#[derive(Clone, Copy, Default)]
pub(crate) struct Scan {
    /// Where its fixups are, sorted by offset.
    pub(crate) fixups: ListPlace,
    /// Number of indirect jumps.
    pub(crate) indirect_jumps: u32,
    /// Indirect jumps through a register that was computed by adding.
    pub(crate) computed_jumps: u32,
    /// Reasons against rearranging; the function may still move as a whole.
    pub(crate) rigid: Option<Reason>,
    /// Reasons against moving.
    pub(crate) pinned: Option<Reason>,
    /// Control reaches the end: by falling, not counting a call as the last instruction.
    pub(crate) falls_through: bool,
    /// A trap (`ud2`, `hlt`) is not the last instruction.
    pub(crate) has_code_behind_trap: bool,
    /// An operand holds the distance from some place in code.
    pub(crate) counts_from_code: bool,
    /// The last instruction is a call.
    pub(crate) ends_with_call: bool,
    pub(crate) has_calls: bool,
    pub(crate) short_branch_out: bool,
}

/// There is one for each function.
const _: () = assert!(size_of::<Scan>() <= 28);

/// What several functions say, in the order in which they were scanned.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) fixups: Vec<Fixup>,
    pub(crate) doubts: Vec<Doubt>,
    /// GOT slots that the code reads as the address of a symbol defined here.
    pub(crate) got_slots: Vec<u64>,
    /// 8-byte words of absolute code addresses between instructions: their addresses.
    pub(crate) inline_words: Vec<u64>,
    /// A function's address, and that of a place inside of it that it takes.
    pub(crate) own_places: Vec<(u64, u64)>,
}

/// Code that must stay because of what a function refers to.
#[derive(Clone, Copy)]
pub(crate) struct Doubt {
    /// The function's address.
    pub(crate) from: u64,
    pub(crate) target: u64,
    /// [`Reason::UnexplainedCodeReference`] if bytes that may be data refer to it, should they be code;
    /// [`Reason::DataInCode`] if the function reads it as data.
    pub(crate) reason: Reason,
}

/// The context of a scan.
pub(crate) struct Scanner<'a, 'd> {
    pub(crate) image: &'a Image<'d>,
    pub(crate) relocs: &'a CodeRelocs<'d>,
    /// Data symbols inside executable sections.
    pub(crate) objects: &'a [(u64, u64)],
    /// Address range of `.eh_frame`.
    pub(crate) unwind: (u64, u64),
    /// Where the starts of instructions are noted.
    pub(crate) inst_starts: &'a CodeSet,
    /// The address of `_GLOBAL_OFFSET_TABLE_`, if a function counts from it in a way in which it matters.
    pub(crate) got: OnceLock<Option<u64>>,
}

/// Scans functions one after the other, in address order if that is possible: memory is used again, and relocations are
/// looked for where the last ones were.
pub(crate) struct Reader<'a, 'd> {
    scanner: &'a Scanner<'a, 'd>,
    part: u32,
    found: Found,
    /// One bit per byte: an instruction starts here.
    starts: Vec<u64>,
    own_targets: Vec<u64>,
    /// Addresses in executable sections that bytes which may be data refer to, if they are code.
    doubtful_targets: Vec<u64>,
    /// Addresses outside of the function in executable sections that it reads as data.
    code_read_as_data: Vec<u64>,
    /// Where the last function's relocations were.
    relocs_at: usize,
}

impl Scanner<'_, '_> {
    /// The address that distances from the GOT count from.
    fn got(&self) -> Option<u64> {
        let section = |name| self.image.section(name).map(|(_, section)| section.addr);
        *self.got.get_or_init(|| {
            let by_symbol = self.image.symtab().and_then(|table| {
                let symbol = table.iter().find(|symbol| table.name(symbol) == b"_GLOBAL_OFFSET_TABLE_")?;
                Some(symbol.value)
            });
            by_symbol.or_else(|| section(".got.plt")).or_else(|| section(".got"))
        })
    }

    /// Whether something at `addr` may have another address in the output: code, or unwind records.
    fn is_interesting(&self, addr: u64) -> bool {
        self.image.exec_section_at(addr).is_some() || (addr >= self.unwind.0 && addr < self.unwind.1)
    }
}

impl<'a, 'd> Reader<'a, 'd> {
    /// A reader whose fixups become part number `part` of all.
    pub(crate) fn new(scanner: &'a Scanner<'a, 'd>, part: u32) -> Self {
        let (starts, own_targets, doubtful_targets, code_read_as_data) = Default::default();
        let found = Found::default();
        Self { scanner, part, found, starts, own_targets, doubtful_targets, code_read_as_data, relocs_at: 0 }
    }

    /// Decodes `start..end` front to back. If anything is odd, decodes again what is reachable from
    /// the start, from `entries` and by direct branches, and treats the rest as possibly data.
    pub(crate) fn scan(&mut self, start: u64, end: u64, entries: impl FnOnce() -> Vec<u64>) -> Scan {
        let scanner = self.scanner;
        let Some(bytes) = scanner.image.bytes_at(start, end - start) else {
            return Scan { pinned: Some(Reason::UndecodableBytes), ..Scan::default() };
        };
        self.relocs_at = scanner.relocs.first_in(start, self.relocs_at);
        let before = self.found.lens();
        let [first_fixup, ..] = before;
        let mut walk = Walk::new(self, bytes, start, end);
        walk.linear();
        // A field that only moves with the whole is no sign of data.
        let is_odd = walk.scan.rigid.is_some_and(|reason| reason != Reason::PositionDependentField);
        if is_odd || walk.has_object() {
            let first = walk.scan.rigid;
            self.found.truncate(before);
            walk = Walk::new(self, bytes, start, end);
            walk.reachable(&entries());
            if walk.scan.rigid.is_none() {
                walk.scan.rigid = first.or(Some(Reason::DataInCode));
            }
        }
        let mut scan = walk.scan;
        scan.fixups = self.finish_fixups(first_fixup);
        scanner.inst_starts.merge(start, &self.starts);
        let doubt = |reason: Reason| move |&target: &u64| Doubt { from: start, target, reason };
        self.found.doubts.extend(self.doubtful_targets.iter().map(doubt(Reason::UnexplainedCodeReference)));
        self.found.doubts.extend(self.code_read_as_data.iter().map(doubt(Reason::DataInCode)));
        scan
    }

    /// Sorts the fixups from position `start` on, those of the last function.
    fn finish_fixups(&mut self, start: usize) -> ListPlace {
        let fixups = &mut self.found.fixups;
        let key = |fixup: &Fixup| (fixup.offset, fixup.kind);
        let own = fixups.get_mut(start..).unwrap_or_default();
        if !own.is_sorted_by_key(key) {
            own.sort_unstable_by_key(key);
        }
        if own.windows(2).any(|pair| pair.first() == pair.last()) {
            let mut own = fixups.split_off(start);
            own.dedup();
            fixups.append(&mut own);
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        ListPlace { part: self.part, start: number(start), len: number(fixups.len() - start) }
    }

    /// What all the functions said.
    pub(crate) fn finish(mut self) -> Found {
        self.found.fixups.shrink_to_fit();
        self.found
    }
}

impl Found {
    const fn lens(&self) -> [usize; 4] {
        [self.fixups.len(), self.got_slots.len(), self.inline_words.len(), self.own_places.len()]
    }

    fn truncate(&mut self, [fixups, got_slots, inline_words, own_places]: [usize; 4]) {
        self.fixups.truncate(fixups);
        self.got_slots.truncate(got_slots);
        self.inline_words.truncate(inline_words);
        self.own_places.truncate(own_places);
    }
}

/// Every address that `bytes` would refer to if they were code, decoding from the first byte and
/// again from each byte at which decoding failed.
pub(crate) fn possible_targets(bytes: &[u8], addr: u64) -> Vec<u64> {
    let mut targets = Vec::new();
    let mut stream = Stream::new(bytes, addr);
    let mut at = 0usize;
    while at < bytes.len() {
        match stream.next_inst() {
            Some(inst) => {
                targets.extend(inst.pc_relative.map(|pc| pc.target));
                at += usize::from(inst.len);
            }
            None => {
                at += 1;
                stream.seek(at);
            }
        }
    }
    targets
}
