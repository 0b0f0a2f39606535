//! Places of records, and their bytes.

use postlink_image::{Cie, EhFrame, Image, eh_pe, elf};
use rayon::prelude::*;

use super::bytes::{put_pointer, put_uleb, put_value, uleb_len};
use super::plan::{Contents, NewFde, NewLsda, Program};
use super::row::instructions;
use super::{EmitUnwindError, UnwindFault};

/// New LSDAs start at multiples of this; compilers align them to 4.
pub(crate) const LSDA_ALIGN: u64 = 4;

/// Where the new tables go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindAddrs {
    /// Address of `.eh_frame`.
    pub eh_frame: u64,
    /// Address of `.eh_frame_hdr`; `None`: none is written.
    pub hdr: Option<u64>,
    /// Address of the new LSDAs.
    pub lsda: u64,
}

/// The new tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnwindBytes {
    /// `.eh_frame`.
    pub eh_frame: Vec<u8>,
    /// `.eh_frame_hdr`; empty if none was asked for or the old file has none.
    pub hdr: Vec<u8>,
    /// The new LSDAs.
    pub lsda: Vec<u8>,
    /// Old address of each record and terminator, and of the section's end, with its new address;
    /// sorted by old address. A record that was dropped leads to what follows it.
    pub record_map: Vec<(u64, u64)>,
}

/// One record of the output; its place is in [`Layout::records`].
#[derive(Clone, Copy, Debug)]
enum Record {
    Cie(u32),
    /// Index in `Contents::fdes`.
    Fde(u32),
    Terminator,
}

/// Places of all records, as distances from the start of their section.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) eh_frame_size: u64,
    pub(crate) lsda_size: u64,
    pub(crate) align: u64,
    records: Vec<(u32, Record)>,
    /// For each CIE.
    cie_offsets: Vec<u32>,
    /// For each new LSDA.
    lsda_offsets: Vec<u32>,
    /// Old address and new distance.
    record_map: Vec<(u64, u32)>,
    /// The search table: `pc_begin` and distance of the FDE. `None`: the old file has no header.
    table: Option<Vec<(u64, u32)>>,
}

impl Layout {
    pub(crate) const fn hdr_size(&self) -> u64 {
        match &self.table {
            Some(table) => HDR_SIZE + HDR_ENTRY_SIZE * table.len() as u64,
            None => 0,
        }
    }

    pub(crate) fn new(image: &Image<'_>, eh: &EhFrame, contents: &Contents) -> Result<Self, EmitUnwindError> {
        // Pointers of 8 bytes want records that are aligned like them; else 4, where the old linker
        // often padded to 8: that is room for the FDEs of further fragments.
        let align = if eh.cies.iter().any(|cie| eh_pe::size(cie.fde_encoding) == Some(8)) { 8 } else { 4 };
        let mut layout = Self { align, ..Self::default() };
        let mut placer = Placer { layout: &mut layout, eh, contents, at: 0, next_fde: 0, extra: Vec::new() };
        placer.place_all().map_err(|fault| fault.of(0))?;

        let mut lsda_size = 0u64;
        for blob in &contents.lsdas {
            lsda_size = lsda_size.next_multiple_of(LSDA_ALIGN);
            layout.lsda_offsets.push(u32::try_from(lsda_size).map_err(|_| UnwindFault::Size.of(0))?);
            lsda_size += blob.bytes.len() as u64;
        }
        layout.lsda_size = lsda_size;

        let had_header = image.segment(elf::PT_GNU_EH_FRAME).is_some() || image.section(".eh_frame_hdr").is_some();
        if had_header {
            layout.table = Some(search_table(&layout.records, contents));
        }
        Ok(layout)
    }
}

/// Entries sorted by `pc_begin`; of several for one address the one that reaches farthest.
fn search_table(records: &[(u32, Record)], contents: &Contents) -> Vec<(u64, u32)> {
    let fde = |index: u32| contents.fdes.get(index as usize);
    let mut entries: Vec<(u64, u64, u32)> = records
        .iter()
        .filter_map(|&(at, record)| match record {
            Record::Fde(index) => fde(index).map(|fde| (fde.pc_begin, fde.pc_range, at)),
            _ => None,
        })
        .collect();
    entries.par_sort_by_key(|&(pc_begin, pc_range, _)| (pc_begin, u64::MAX - pc_range));
    entries.dedup_by_key(|entry| entry.0);
    entries.into_iter().map(|(pc_begin, _, at)| (pc_begin, at)).collect()
}

/// Walks the old records in file order and gives each its new place.
struct Placer<'a> {
    layout: &'a mut Layout,
    eh: &'a EhFrame,
    contents: &'a Contents,
    at: u64,
    /// Index of the first element of `contents.fdes` that has no place yet.
    next_fde: usize,
    /// FDEs of further fragments, which stand before the next terminator.
    extra: Vec<u32>,
}

impl Placer<'_> {
    fn place_all(&mut self) -> Result<(), UnwindFault> {
        let eh = self.eh;
        let mut fdes = (0u32..).zip(&eh.fdes).peekable();
        let mut cies = (0u32..).zip(&eh.cies).peekable();
        let mut terminators = eh.terminators.iter().copied().peekable();
        loop {
            let cie_at = cies.peek().map_or(u64::MAX, |(_, cie)| cie.addr);
            let fde_at = fdes.peek().map_or(u64::MAX, |(_, fde)| fde.addr);
            let terminator_at = terminators.peek().copied().unwrap_or(u64::MAX);
            if cie_at < fde_at.min(terminator_at) {
                if let Some((index, cie)) = cies.next() {
                    self.map(cie.addr)?;
                    self.layout.cie_offsets.push(offset(self.at)?);
                    self.place(Record::Cie(index), cie_size(cie, self.contents, index))?;
                }
            } else if fde_at < terminator_at {
                if let Some((index, fde)) = fdes.next() {
                    self.map(fde.addr)?;
                    self.place_fragments(index)?;
                }
            } else if let Some(addr) = terminators.next() {
                self.place_extra()?;
                self.map(addr)?;
                self.layout.records.push((offset(self.at)?, Record::Terminator));
                self.at += 4;
            } else {
                break;
            }
        }
        self.place_extra()?;
        self.map(eh.addr.saturating_add(eh.size))?;
        self.layout.eh_frame_size = self.at;
        Ok(())
    }

    fn map(&mut self, old: u64) -> Result<(), UnwindFault> {
        let new = offset(self.at)?;
        self.layout.record_map.push((old, new));
        Ok(())
    }

    /// Places the new FDE of old FDE `old`; further fragments wait for the next terminator.
    fn place_fragments(&mut self, old: u32) -> Result<(), UnwindFault> {
        while let Some(fde) = self.contents.fdes.get(self.next_fde).filter(|fde| fde.old == old) {
            let index = u32::try_from(self.next_fde).map_err(|_| UnwindFault::Size)?;
            self.next_fde += 1;
            if fde.fragment == 0 {
                self.place(Record::Fde(index), fde_size(self.eh, fde))?;
            } else {
                self.extra.push(index);
            }
        }
        Ok(())
    }

    fn place_extra(&mut self) -> Result<(), UnwindFault> {
        for index in std::mem::take(&mut self.extra) {
            if let Some(fde) = self.contents.fdes.get(index as usize) {
                self.place(Record::Fde(index), fde_size(self.eh, fde))?;
            }
        }
        Ok(())
    }

    fn place(&mut self, record: Record, size: u64) -> Result<(), UnwindFault> {
        self.layout.records.push((offset(self.at)?, record));
        self.at += size.next_multiple_of(self.layout.align);
        Ok(())
    }
}

fn offset(at: u64) -> Result<u32, UnwindFault> {
    u32::try_from(at).map_err(|_| UnwindFault::Size)
}

/// Size before alignment, length field included.
fn cie_size(cie: &Cie, contents: &Contents, index: u32) -> u64 {
    let used = contents.cies.get(index as usize).map_or(0, |cie| cie.0);
    cie.instructions.start - cie.addr + used as u64
}

fn fde_size(eh: &EhFrame, fde: &NewFde) -> u64 {
    let Some(cie) = eh.fdes.get(fde.old as usize).and_then(|old| eh.cie_of(old)) else { return 0 };
    let pointers = 2 * u64::from(eh_pe::size(cie.fde_encoding).unwrap_or(0));
    let augmentation = if cie.has_augmentation_data() {
        let data = lsda_field_size(cie);
        uleb_len(data) as u64 + data
    } else {
        0
    };
    let program = program_bytes_len(fde) as u64;
    4 + 4 + pointers + augmentation + program
}

const fn program_bytes_len(fde: &NewFde) -> usize {
    match fde.program {
        Program::Old(len) => len,
        Program::New(start, end) => end - start,
    }
}

fn lsda_field_size(cie: &Cie) -> u64 {
    u64::from(cie.lsda_encoding.and_then(eh_pe::size).unwrap_or(0))
}

/// Bytes before the search table.
const HDR_SIZE: u64 = 12;
/// Bytes of one entry of the search table.
const HDR_ENTRY_SIZE: u64 = 8;

pub(crate) fn write(
    image: &Image<'_>,
    eh: &EhFrame,
    contents: &Contents,
    layout: &Layout,
    addrs: UnwindAddrs,
) -> Result<UnwindBytes, EmitUnwindError> {
    let mut out = UnwindBytes::default();
    for (blob, &at) in contents.lsdas.iter().zip(&layout.lsda_offsets) {
        out.lsda.resize(at as usize, 0);
        blob.write(&mut out.lsda, addrs.lsda.wrapping_add(at.into())).map_err(|fault| fault.of(0))?;
    }
    out.eh_frame.reserve(usize::try_from(layout.eh_frame_size).unwrap_or(0));
    let writer = Writer { image, eh, contents, layout, addrs };
    for &(at, record) in &layout.records {
        debug_assert_eq!(out.eh_frame.len(), at as usize, "records follow each other");
        match record {
            Record::Terminator => out.eh_frame.extend([0; 4]),
            Record::Cie(index) => {
                writer.cie(&mut out.eh_frame, index).map_err(|fault| fault.of(0))?;
            }
            Record::Fde(index) => {
                let Some(fde) = contents.fdes.get(index as usize) else { continue };
                let function = eh.fdes.get(fde.old as usize).map_or(0, |old| old.pc_begin);
                writer.fde(&mut out.eh_frame, fde).map_err(|fault| fault.of(function))?;
            }
        }
    }
    let new = |at: u32| addrs.eh_frame.wrapping_add(at.into());
    out.record_map = layout.record_map.iter().map(|&(old, at)| (old, new(at))).collect();
    if let (Some(hdr), Some(table)) = (addrs.hdr, &layout.table) {
        out.hdr = write_hdr(hdr, addrs.eh_frame, table).map_err(|fault| fault.of(0))?;
    }
    Ok(out)
}

struct Writer<'a> {
    image: &'a Image<'a>,
    eh: &'a EhFrame,
    contents: &'a Contents,
    layout: &'a Layout,
    addrs: UnwindAddrs,
}

impl Writer<'_> {
    fn cie(&self, out: &mut Vec<u8>, index: u32) -> Result<(), UnwindFault> {
        let (Some(cie), Some(&(used, personality))) =
            (self.eh.cies.get(index as usize), self.contents.cies.get(index as usize))
        else {
            return Ok(());
        };
        let start = out.len();
        let header = cie.addr..cie.instructions.start + used as u64;
        out.extend_from_slice(instructions(self.image, header)?);
        if let Some(old) = cie.personality {
            let at = start + usize::try_from(old.field - cie.addr).unwrap_or(usize::MAX);
            let mut field = Vec::with_capacity(8);
            put_pointer(&mut field, self.addr(at), old.encoding, personality)?;
            if let Some(slot) = out.get_mut(at..at + field.len()) {
                slot.copy_from_slice(&field);
            }
        }
        self.finish(out, start)
    }

    fn fde(&self, out: &mut Vec<u8>, fde: &NewFde) -> Result<(), UnwindFault> {
        let Some(old) = self.eh.fdes.get(fde.old as usize) else { return Ok(()) };
        let Some(cie) = self.eh.cie_of(old) else { return Ok(()) };
        let cie_offset = self.layout.cie_offsets.get(old.cie as usize).copied().unwrap_or(0);
        let start = out.len();
        out.extend([0; 4]);
        // Counts from itself back to the CIE.
        let distance = u32::try_from(out.len() - cie_offset as usize).map_err(|_| UnwindFault::Size)?;
        out.extend(distance.to_le_bytes());
        let at = self.addr(out.len());
        put_pointer(out, at, cie.fde_encoding, Some(fde.pc_begin))?;
        let encoding = cie.fde_encoding & eh_pe::FORMAT;
        let at = self.addr(out.len());
        put_value(out, encoding, fde.pc_range).ok_or(UnwindFault::PointerRange { at, target: fde.pc_range, encoding })?;
        if cie.has_augmentation_data() {
            put_uleb(out, lsda_field_size(cie));
            if let Some(encoding) = cie.lsda_encoding {
                let target = match fde.lsda {
                    NewLsda::None => None,
                    NewLsda::Old(addr) => Some(addr),
                    NewLsda::New(index) => {
                        let at = self.layout.lsda_offsets.get(index as usize).copied().unwrap_or(0);
                        Some(self.addrs.lsda.wrapping_add(at.into()))
                    }
                };
                let at = self.addr(out.len());
                put_pointer(out, at, encoding, target)?;
            }
        }
        match fde.program {
            Program::Old(len) => {
                let range = old.instructions();
                out.extend_from_slice(instructions(self.image, range.start..range.start + len as u64)?);
            }
            Program::New(start, end) => {
                out.extend_from_slice(self.contents.programs.get(start..end).unwrap_or(&[]));
            }
        }
        self.finish(out, start)
    }

    /// Pads the record that began at `start` with NOPs and writes its length.
    fn finish(&self, out: &mut Vec<u8>, start: usize) -> Result<(), UnwindFault> {
        let align = usize::try_from(self.layout.align).unwrap_or(8);
        out.resize(start + (out.len() - start).next_multiple_of(align), 0);
        let length = u32::try_from(out.len() - start - 4).map_err(|_| UnwindFault::Size)?;
        if let Some(slot) = out.get_mut(start..start + 4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }

    const fn addr(&self, at: usize) -> u64 {
        self.addrs.eh_frame.wrapping_add(at as u64)
    }
}

/// LSB Core, "Exception Frame Header": the one form that libgcc searches by bisection.
fn write_hdr(addr: u64, eh_frame: u64, table: &[(u64, u32)]) -> Result<Vec<u8>, UnwindFault> {
    const RELATIVE: u8 = eh_pe::DATAREL | eh_pe::SDATA4;
    let mut out = vec![1, eh_pe::PCREL | eh_pe::SDATA4, eh_pe::UDATA4, RELATIVE];
    put_pointer(&mut out, addr.wrapping_add(4), eh_pe::PCREL | eh_pe::SDATA4, Some(eh_frame))?;
    let count = u32::try_from(table.len()).map_err(|_| UnwindFault::Size)?;
    out.extend(count.to_le_bytes());
    for &(pc_begin, at) in table {
        let fde = eh_frame.wrapping_add(at.into());
        for target in [pc_begin, fde] {
            let wrong = UnwindFault::PointerRange { at: addr, target, encoding: RELATIVE };
            put_value(&mut out, eh_pe::SDATA4, target.wrapping_sub(addr)).ok_or(wrong)?;
        }
    }
    Ok(out)
}
