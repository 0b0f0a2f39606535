//! What the new FDEs say, before they have places.

use postlink_base::{AddressMap, MapKind, OldAddr};
use postlink_image::{Cie, EhFrame, Fde, Image, Lsda, eh_pe, elf, relr_addresses};
use rayon::prelude::*;

use super::cfi::{Scan, scan};
use super::function::{self, FragmentTables};
use super::lsda::LsdaBlob;
use super::row::instructions;
use super::{EmitUnwindError, MovedFragment, MovedFunction, Piece, UnwindFault};

/// New FDEs and what belongs to them.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// In the order of their old FDEs; further fragments follow the first one of their function.
    pub(crate) fdes: Vec<NewFde>,
    /// New LSDAs.
    pub(crate) lsdas: Vec<LsdaBlob>,
    /// New call frame programs, one after the other.
    pub(crate) programs: Vec<u8>,
    /// For each CIE: bytes of its instructions without trailing NOPs, and the new target of its
    /// personality pointer.
    pub(crate) cies: Vec<(usize, Option<u64>)>,
}

/// One FDE of the output.
#[derive(Debug)]
pub(crate) struct NewFde {
    /// Index of the old FDE.
    pub(crate) old: u32,
    /// 0 for the FDE that takes the place of the old one, else the number of the fragment.
    pub(crate) fragment: u32,
    pub(crate) pc_begin: u64,
    pub(crate) pc_range: u64,
    pub(crate) lsda: NewLsda,
    pub(crate) program: Program,
}

/// Where an FDE's LSDA is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewLsda {
    None,
    /// Where it was: address.
    Old(u64),
    /// Index in `Contents::lsdas`.
    New(u32),
}

/// An FDE's call frame instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// The first bytes of the old FDE's.
    Old(usize),
    /// Start and end in `Contents::programs`.
    New(usize, usize),
}

pub(crate) fn contents(
    image: &Image<'_>,
    eh: &EhFrame,
    moved: &[MovedFunction],
    map: &AddressMap,
) -> Result<Contents, EmitUnwindError> {
    let relocated = relocated_addresses(image, eh);
    let eh_end = eh.addr.saturating_add(eh.size);
    if let Some(&at) = relocated.iter().find(|&&at| at >= eh.addr && at < eh_end) {
        return Err(UnwindFault::DynamicRelocation { at }.of(0));
    }
    let mut contents = Contents { cies: Vec::with_capacity(eh.cies.len()), ..Contents::default() };
    for cie in &eh.cies {
        let bytes = instructions(image, cie.instructions.clone()).map_err(|fault| fault.of(0))?;
        let used = scan(bytes, cie.instructions.start, cie).map_err(|error| UnwindFault::from(error).of(0))?.used;
        contents.cies.push((used, personality(cie, map)));
    }
    let built = build_each(image, eh, moved, map, &relocated)?;
    // Fragments without any call site that is protected have the same few bytes: kept once.
    let mut empty_lsda = None;
    for (old, built) in (0u32..).zip(built) {
        match built? {
            Built::Kept { pc_begin, pc_range, program, lsda } => {
                let lsda = lsda.map_or(NewLsda::None, NewLsda::Old);
                let program = Program::Old(program);
                contents.fdes.push(NewFde { old, fragment: 0, pc_begin, pc_range, lsda, program });
            }
            Built::Fragments(fragments) => {
                for (fragment, tables) in (0u32..).zip(fragments) {
                    contents.add_fragment(old, fragment, tables, &mut empty_lsda);
                }
            }
        }
    }
    Ok(contents)
}

/// All functions whose tables cannot follow them, in the order of their FDEs.
pub(crate) fn faults(
    image: &Image<'_>,
    eh: &EhFrame,
    moved: &[MovedFunction],
    map: &AddressMap,
) -> Vec<EmitUnwindError> {
    let (_, mut faults) = owners(eh, moved);
    // Without the functions that are at fault already the others can be built. The FDEs of those have
    // nothing to say for themselves then.
    let (faulty, known): (Vec<_>, Vec<_>) = moved.iter().cloned().partition(|function| {
        faults.binary_search_by_key(&function.old_start, |fault| fault.function).is_ok()
    });
    let in_faulty = |pc: u64| {
        let before = faulty.partition_point(|function| function.old_start <= pc).checked_sub(1);
        before.and_then(|index| faulty.get(index)).is_some_and(|function| pc < function.old_end)
    };
    let relocated = relocated_addresses(image, eh);
    match build_each(image, eh, &known, map, &relocated) {
        Ok(built) => {
            let more = built.into_iter().filter_map(Result::err);
            faults.extend(more.filter(|fault| !in_faulty(fault.function)));
        }
        Err(fault) => faults.push(fault),
    }
    faults
}

/// What becomes of each FDE of `eh`; indexed like them.
fn build_each(
    image: &Image<'_>,
    eh: &EhFrame,
    moved: &[MovedFunction],
    map: &AddressMap,
    relocated: &[u64],
) -> Result<Vec<Result<Built, EmitUnwindError>>, EmitUnwindError> {
    /// Records that one thread takes at a time.
    const BATCH: usize = 1024;
    let (owner, faults) = owners(eh, moved);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    let build = |(fde, owner): (&Fde, &Option<u32>)| {
        // An empty range describes nothing (clang writes them for functions without code), but in the
        // middle of other code's new place it would mislead a search.
        if fde.dead || fde.pc_begin == fde.pc_end {
            return Ok(Built::Fragments(Vec::new()));
        }
        let cie = eh.cie_of(fde).expect("the reader checks CIE indexes");
        match owner.and_then(|index| moved.get(index as usize)) {
            // Dropped, or another one's code and tables stand for it.
            Some(function) if function.fragments.is_empty() => Ok(Built::Fragments(Vec::new())),
            Some(function) => function::build(image, cie, fde, &function.fragments, map, relocated)
                .map(Built::Fragments)
                .map_err(|fault| fault.of(function.old_start)),
            None => keep(image, cie, fde, map, relocated).map_err(|fault| fault.of(fde.pc_begin)),
        }
    };
    Ok(eh.fdes.par_iter().zip(&owner).with_max_len(BATCH).map(build).collect())
}

impl Contents {
    fn add_program(&mut self, program: &[u8]) -> Program {
        let start = self.programs.len();
        self.programs.extend_from_slice(program);
        Program::New(start, self.programs.len())
    }

    fn add_fragment(&mut self, old: u32, fragment: u32, tables: FragmentTables, empty_lsda: &mut Option<u32>) {
        let FragmentTables { pc_begin, pc_range, program, lsda } = tables;
        /// Omit, omit, call sites as ULEB128, 0 bytes of them.
        const EMPTY: [u8; 4] = [0xff, 0xff, 0x01, 0x00];
        let lsda = match lsda {
            None => NewLsda::None,
            Some(blob) => {
                let is_empty = blob.bytes == EMPTY;
                match *empty_lsda {
                    Some(index) if is_empty => NewLsda::New(index),
                    _ => {
                        let index = u32::try_from(self.lsdas.len()).unwrap_or(u32::MAX);
                        self.lsdas.push(blob);
                        if is_empty {
                            *empty_lsda = Some(index);
                        }
                        NewLsda::New(index)
                    }
                }
            }
        };
        let program = self.add_program(&program);
        self.fdes.push(NewFde { old, fragment, pc_begin, pc_range, lsda, program });
    }
}

/// What becomes of one old FDE.
enum Built {
    /// Its instructions are copied: the first `program` bytes of them.
    Kept { pc_begin: u64, pc_range: u64, program: usize, lsda: Option<u64> },
    /// An FDE for each fragment.
    Fragments(Vec<FragmentTables>),
}

/// Where the personality pointer leads: a pointer variable stays, a routine may have moved.
fn personality(cie: &Cie, map: &AddressMap) -> Option<u64> {
    let personality = cie.personality.filter(|personality| personality.target != 0)?;
    let is_indirect = personality.encoding & eh_pe::INDIRECT != 0;
    Some(if is_indirect { personality.target } else { map.to_new(OldAddr::new(personality.target)).raw() })
}

/// For each FDE, the index of the moved function that it describes; and the functions for which that
/// has no answer.
fn owners(eh: &EhFrame, moved: &[MovedFunction]) -> (Vec<Option<u32>>, Vec<EmitUnwindError>) {
    let mut faults = Vec::new();
    let mut owner = vec![None; eh.fdes.len()];
    let by_pc = eh.by_pc();
    let fde_of = |index: u32| eh.fdes.get(index as usize);
    // Ranges may overlap in a malformed file: how far back one must look for one that reaches in.
    let mut reach = Vec::with_capacity(by_pc.len());
    let mut farthest = 0;
    for &index in &by_pc {
        farthest = fde_of(index).map_or(farthest, |fde| fde.pc_end.max(farthest));
        reach.push(farthest);
    }
    for (number, function) in (0u32..).zip(moved) {
        let first = reach.partition_point(|&end| end <= function.old_start);
        let candidates = by_pc.get(first..).unwrap_or(&[]).iter().map_while(|&index| {
            fde_of(index).filter(|fde| fde.pc_begin < function.old_end).map(|fde| (index, fde))
        });
        let inside: Vec<_> = candidates
            .filter(|(_, fde)| fde.pc_end > function.old_start && fde.pc_begin < fde.pc_end)
            .take(2)
            .collect();
        match inside.as_slice() {
            [] => {}
            [(index, fde)] => {
                if fde.pc_begin < function.old_start || fde.pc_end > function.old_end {
                    let fault = UnwindFault::FdeOutside { pc_begin: fde.pc_begin, pc_end: fde.pc_end };
                    faults.push(fault.of(function.old_start));
                    continue;
                }
                if let Some(slot) = owner.get_mut(*index as usize) {
                    *slot = Some(number);
                }
            }
            _ => faults.push(UnwindFault::SeveralFdes { count: inside.len() }.of(function.old_start)),
        }
    }
    (owner, faults)
}

/// An FDE of code that did not move or moved as one piece.
fn keep(
    image: &Image<'_>,
    cie: &Cie,
    fde: &Fde,
    map: &AddressMap,
    relocated: &[u64],
) -> Result<Built, UnwindFault> {
    let bytes = instructions(image, fde.instructions())?;
    let Scan { used, sets_loc, position_dependent } = scan(bytes, fde.instructions().start, cie)?;
    let Shift { distance, begin, end } = shift(image, fde, map)?;
    if let Some(operation) = position_dependent.filter(|_| distance != 0) {
        return Err(UnwindFault::PositionDependent { operation });
    }
    let pc_begin = begin.wrapping_add(distance);
    let pc_range = end - begin;
    let keeps_lsda = keeps_lsda(image, fde, distance, map)?;
    if !sets_loc && begin == fde.pc_begin && keeps_lsda {
        return Ok(Built::Kept { pc_begin, pc_range, program: used, lsda: fde.lsda });
    }
    // Advances and call sites count from the start that has changed, addresses are spelled out, or
    // landing pads went elsewhere: write it anew, as one fragment.
    let len = u32::try_from(pc_range).map_err(|_| UnwindFault::Size)?;
    let new_end = pc_begin.checked_add(pc_range).ok_or(UnwindFault::Piece { old: begin })?;
    let fragment = MovedFragment {
        new_start: pc_begin,
        new_end,
        pieces: vec![Piece { old: begin, old_len: len, new: pc_begin, new_len: len }],
    };
    function::build(image, cie, fde, &[fragment], map, relocated).map(Built::Fragments)
}

/// Whether the LSDA is right as it is when the function moves by `distance`: landing pads count from
/// the function's start and move along with it.
fn keeps_lsda(image: &Image<'_>, fde: &Fde, distance: u64, map: &AddressMap) -> Result<bool, UnwindFault> {
    let Some(addr) = fde.lsda else { return Ok(true) };
    let lsda = match Lsda::parse(image, addr, fde.pc_begin) {
        Ok(lsda) => lsda,
        // Of a language we do not know, or malformed: nobody needs it to change.
        Err(_) if distance == 0 => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    if distance != 0 && lsda.lp_start_encoding != eh_pe::OMIT {
        return Ok(false);
    }
    let moves_along = |pad: u64| map.to_new(OldAddr::new(pad)).raw() == pad.wrapping_add(distance);
    Ok(lsda.call_sites.iter().filter_map(|site| site.landing_pad).all(moves_along))
}

/// How far the code moved that an FDE describes, and which part of the old range still is described.
struct Shift {
    distance: u64,
    begin: u64,
    end: u64,
}

/// Most padding bytes behind a function that its FDE may describe although they did not move along.
const PADDING_MAX: u64 = 64;

fn shift(image: &Image<'_>, fde: &Fde, map: &AddressMap) -> Result<Shift, UnwindFault> {
    let (begin, end) = (fde.pc_begin, fde.pc_end);
    let apart = |at| UnwindFault::MovedApart { pc_begin: begin, pc_end: end, at };
    let mut inside = map.ranges_from(OldAddr::new(begin)).iter().take_while(|range| range.old.raw() < end);
    let Some(range) = inside.next() else { return Ok(Shift { distance: 0, begin, end }) };
    if range.kind != MapKind::Linear {
        return Err(apart(range.old.raw()));
    }
    let distance = range.new.raw().wrapping_sub(range.old.raw());
    let covered = (range.old.raw().max(begin), range.old_end().raw());
    let mut covered_end = covered.1;
    for next in inside {
        let same = next.kind == MapKind::Linear && next.new.raw().wrapping_sub(next.old.raw()) == distance;
        if !same || next.old.raw() != covered_end {
            return Err(apart(next.old.raw()));
        }
        covered_end = next.old_end().raw();
    }
    let covered_end = covered_end.min(end);
    if distance == 0 {
        return Ok(Shift { distance, begin, end });
    }
    // glibc's FDE of the signal return code begins one byte before the code, for the sake of unwinders
    // that look up the address before a return address.
    if covered.0 - begin > 1 {
        return Err(apart(begin));
    }
    if !is_padding(image, covered_end, end) {
        return Err(apart(covered_end));
    }
    Ok(Shift { distance, begin: covered.0, end: covered_end })
}

/// Whether all of `start..end` can be padding: bytes that occur in NOPs, traps or zeros, and few of them.
fn is_padding(image: &Image<'_>, start: u64, end: u64) -> bool {
    if end <= start {
        return true;
    }
    let bytes = (end - start <= PADDING_MAX).then(|| image.bytes_at(start, end - start)).flatten();
    bytes.is_some_and(|bytes| {
        bytes.iter().all(|byte| matches!(byte, 0 | 0x0f | 0x1f | 0x2e | 0x40 | 0x44 | 0x66 | 0x80 | 0x84 | 0x90 | 0xcc))
    })
}

/// Sorted addresses in unwind tables that the dynamic linker writes to.
fn relocated_addresses(image: &Image<'_>, eh: &EhFrame) -> Vec<u64> {
    let is_table = |index: usize, name: &[u8]| index == eh.section || name.starts_with(b".gcc_except_table");
    let tables: Vec<_> = image
        .sections()
        .iter()
        .enumerate()
        .filter(|(index, section)| section.is_alloc() && is_table(*index, section.name))
        .map(|(_, section)| section)
        .collect();
    let in_table = |at: &u64| tables.iter().any(|section| section.contains(*at));
    let mut addresses = Vec::new();
    for section in image.dynamic_relocations() {
        addresses.extend(image.rela_table(section).iter().map(|rela| rela.offset).filter(in_table));
    }
    for section in image.sections().iter().filter(|section| section.kind == elf::SHT_RELR) {
        addresses.extend(relr_addresses(image.section_data(section)).into_iter().filter(in_table));
    }
    addresses.sort_unstable();
    addresses
}
