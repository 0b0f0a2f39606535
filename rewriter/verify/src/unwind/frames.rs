//! `.eh_frame`: frames, and their rows as digests. What is usual is read by its bytes, all else with gimli.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, EhFrame, EhFrameOffset, EndianSlice, LittleEndian,
    Pointer, RegisterRule, UnwindContext, UnwindSection as _,
};
use postlink_image::{Image, elf};
use rustc_hash::FxHashMap;

use super::digests::{RowDigests, mix, rule_digest, rule_kind};
use super::records::{Fields, Kind, Plain, Usual};
use super::steps::Start;

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Cie<'d> = CommonInformationEntry<Slice<'d>>;

/// One FDE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// First code address.
    pub(crate) start: u64,
    /// End of the code range.
    pub(crate) end: u64,
    /// Address of the record.
    pub(crate) record: u64,
    /// Address of the language-specific data.
    pub(crate) lsda: Option<u64>,
    /// Index into the CIEs.
    pub(super) cie: u32,
}

/// Start of a record in `.eh_frame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) addr: u64,
    /// First code address of an FDE; `None` for a CIE or the terminator.
    pub(crate) code: Option<u64>,
}

/// What is wrong with an `.eh_frame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("{0}")]
    Cfi(gimli::Error),
}

/// A CIE, what it says apart from call-frame instructions as a digest, and what its frames start with if that is usual.
struct KnownCie<'d> {
    cie: Cie<'d>,
    digest: u64,
    start: Option<Start>,
}

/// The unwind tables of one file.
pub(crate) struct Frames<'d> {
    section: EhFrame<Slice<'d>>,
    bytes: &'d [u8],
    addr: u64,
    size: u64,
    bases: BaseAddresses,
    cies: Vec<KnownCie<'d>>,
    /// Sorted by code address; frames of discarded code (outside of executable memory) are left out.
    pub(crate) frames: Vec<Frame>,
    /// In file order.
    pub(crate) records: Vec<Record>,
}

impl<'d> Frames<'d> {
    /// Reads all records; `None` if the file has no `.eh_frame`. `routine` gives the new address of a
    /// personality routine that a pointer names directly (static programs): such code may have moved.
    ///
    /// # Errors
    /// The first malformed record.
    pub(crate) fn read(
        image: &Image<'d>,
        is_code: impl Fn(u64) -> bool,
        routine: impl Fn(u64) -> u64,
    ) -> Result<Option<Self>, FrameError> {
        let Some((addr, data)) = find(image) else { return Ok(None) };
        let section_addr = |name| image.section(name).map_or(0, |(_, section)| section.addr);
        let bases = BaseAddresses::default()
            .set_eh_frame(addr)
            .set_eh_frame_hdr(section_addr(".eh_frame_hdr"))
            .set_text(section_addr(".text"))
            .set_got(section_addr(".got"));
        let mut section = EhFrame::new(data, LittleEndian);
        section.set_address_size(8);
        let mut this = Self {
            section,
            bytes: data,
            addr,
            size: data.len() as u64,
            bases,
            cies: Vec::new(),
            frames: Vec::new(),
            records: Vec::new(),
        };
        // Anything unusual is gimli's.
        if this.read_usual(image, &is_code, &routine).is_none() {
            (this.cies, this.frames, this.records) = (Vec::new(), Vec::new(), Vec::new());
            this.read_records(image, is_code, routine).map_err(FrameError::Cfi)?;
        }
        this.frames.sort_unstable_by_key(|frame| (frame.start, frame.end, frame.record));
        Ok(Some(this))
    }

    /// The same as `read_records` gives, if there is nothing in the section but CIEs and FDEs of the usual form, or
    /// FDEs that gimli reads.
    fn read_usual(&mut self, image: &Image<'d>, is_code: &impl Fn(u64) -> bool, routine: &impl Fn(u64) -> u64) -> Option<()> {
        let mut by_offset: FxHashMap<usize, (u32, Option<Usual>)> = FxHashMap::default();
        let (section, bases) = (self.section, self.bases.clone());
        let (mut at, mut last) = (0usize, (usize::MAX, (0, None)));
        loop {
            let plain = Plain::at(self.bytes, at)?;
            let record = self.addr + at as u64;
            match plain.kind {
                Kind::End => break,
                Kind::Cie => {
                    let cie = section.cie_from_offset(&bases, EhFrameOffset(at)).ok()?;
                    self.records.push(Record { addr: record, code: None });
                    by_offset.insert(at, (u32::try_from(self.cies.len()).ok()?, Usual::of(&cie)));
                    self.know(cie, routine);
                }
                Kind::Fde(cie_at) => {
                    if last.0 != cie_at {
                        last = (cie_at, *by_offset.get(&cie_at)?);
                    }
                    let (cie, usual) = last.1;
                    let fields = if let Some(usual) = usual {
                        plain.fields(record, usual)?
                    } else {
                        let known = &self.cies.get(cie as usize)?.cie;
                        let fde = section.fde_from_offset(&bases, EhFrameOffset(at), |_, _, _| Ok(known.clone())).ok()?;
                        let lsda = fde.lsda().map_or(0, |pointer| resolve(pointer, image));
                        Fields { start: fde.initial_address(), end: fde.end_address(), lsda }
                    };
                    let Fields { start, end, lsda } = fields;
                    self.records.push(Record { addr: record, code: Some(start) });
                    if is_code(start) && end > start {
                        self.frames.push(Frame { start, end, record, lsda: Some(lsda).filter(|&lsda| lsda != 0), cie });
                    }
                }
            }
            at = plain.end;
        }
        self.records.push(Record { addr: self.addr + at as u64, code: None });
        Some(())
    }

    fn read_records(
        &mut self,
        image: &Image<'d>,
        is_code: impl Fn(u64) -> bool,
        routine: impl Fn(u64) -> u64,
    ) -> Result<(), gimli::Error> {
        let mut by_offset: FxHashMap<usize, u32> = FxHashMap::default();
        let section = self.section;
        let bases = self.bases.clone();
        let mut entries = section.entries(&bases);
        let mut end = self.addr;
        while let Some(entry) = entries.next()? {
            match entry {
                CieOrFde::Cie(cie) => {
                    let addr = self.addr + cie.offset() as u64;
                    end = addr + cie.entry_len() as u64 + 4;
                    self.records.push(Record { addr, code: None });
                    by_offset.insert(cie.offset(), u32::try_from(self.cies.len()).unwrap_or(u32::MAX));
                    self.know(cie, &routine);
                }
                CieOrFde::Fde(partial) => {
                    let EhFrameOffset(at) = partial.cie_offset();
                    let index = by_offset.get(&at).copied().ok_or(gimli::Error::NoUnwindInfoForAddress)?;
                    let known = self.cies.get(index as usize).map(|known| known.cie.clone());
                    let fde = partial.parse(|_, _, _| known.clone().ok_or(gimli::Error::NoUnwindInfoForAddress))?;
                    let record = self.addr + fde.offset() as u64;
                    end = record + fde.entry_len() as u64 + 4;
                    let (start, stop) = (fde.initial_address(), fde.end_address());
                    self.records.push(Record { addr: record, code: Some(start) });
                    let lsda = fde.lsda().map(|pointer| resolve(pointer, image)).filter(|&addr| addr != 0);
                    if is_code(start) && stop > start {
                        self.frames.push(Frame { start, end: stop, record, lsda, cie: index });
                    }
                }
            }
        }
        // The terminator, or the end of the section: what a pointer behind the last record means.
        self.records.push(Record { addr: end, code: None });
        Ok(())
    }

    fn know(&mut self, cie: Cie<'d>, routine: &impl Fn(u64) -> u64) {
        let mut initial = cie.instructions(&self.section, &self.bases);
        let initial = std::iter::from_fn(|| initial.next().map_or(Some(None), |instruction| instruction.map(Some)));
        let start = Start::new(cie.code_alignment_factor(), cie.data_alignment_factor(), initial);
        let digest = cie_digest(&cie, routine);
        self.cies.push(KnownCie { cie, digest, start });
    }

    /// Address range of the section.
    pub(crate) const fn range(&self) -> (u64, u64) {
        (self.addr, self.addr + self.size)
    }

    /// Whether code belongs to more than one frame.
    pub(super) fn overlap(&self) -> bool {
        self.frames.windows(2).any(|pair| matches!(pair, [a, b] if a.end > b.start))
    }

    /// The personality routine of each CIE, if it has one.
    pub(super) fn routines(&self) -> impl Iterator<Item = Option<Pointer>> + '_ {
        self.cies.iter().map(|known| known.cie.personality())
    }

    /// Number of CIEs.
    pub(super) fn cie_count(&self) -> u32 {
        u32::try_from(self.cies.len()).unwrap_or(u32::MAX)
    }

    /// What a CIE says, in words, if it says the same wherever it stands.
    pub(super) fn kind(&self, cie: u32) -> Option<(u64, String)> {
        use gimli::CallFrameInstruction as Instruction;
        let KnownCie { cie, digest, .. } = self.cies.get(cie as usize)?;
        let mut words = format!(
            "{:?} {} {} {:?}",
            cie.encoding(),
            cie.code_alignment_factor(),
            cie.data_alignment_factor(),
            cie.fde_address_encoding()
        );
        let mut instructions = cie.instructions(&self.section, &self.bases);
        while let Some(instruction) = instructions.next().ok()? {
            // Those hold places in the section.
            let is_bound = matches!(
                instruction,
                Instruction::SetLoc { .. }
                    | Instruction::DefCfaExpression { .. }
                    | Instruction::Expression { .. }
                    | Instruction::ValExpression { .. }
            );
            if is_bound {
                return None;
            }
            write!(words, " {instruction:?}").ok()?;
        }
        Some((*digest, words))
    }

    /// The call-frame instructions of `frame` as bytes; `None` if its record has not the usual form.
    pub(super) fn instructions(&self, frame: &Frame) -> Option<&'d [u8]> {
        let cie = &self.cies.get(frame.cie as usize)?.cie;
        if cie.fde_address_encoding() != Some(gimli::DW_EH_PE_pcrel | gimli::DW_EH_PE_sdata4) {
            return None;
        }
        // Length, CIE pointer, address and size, of 4 bytes each; the augmentation data behind its size.
        let record = self.bytes.get(usize::try_from(frame.record - self.addr).ok()?..)?;
        let len = u32::from_le_bytes(*record.first_chunk::<4>()?);
        let record = record.get(4..)?.get(..usize::try_from(len).ok().filter(|&len| len < 0xffff_fff0)?)?;
        let size = *record.get(12)?;
        record.get(13 + usize::from(size)..).filter(|_| size < 0x80)
    }

    /// Appends the rows of `frame` as `(first code address, digest)`; digest 0 says that it ends there.
    pub(super) fn frame_rows(
        &self,
        frame: &Frame,
        context: &mut UnwindContext<usize>,
        rows: &mut Vec<(u64, u64)>,
    ) -> Result<(), gimli::Error> {
        let first = rows.len();
        if self.usual_rows(frame, rows).is_none() {
            rows.truncate(first);
            self.any_rows(frame, context, rows)?;
        }
        rows.push((frame.end, 0));
        Ok(())
    }

    /// The rows of a frame of the usual form; `None` if it is of another one, and may be wrong.
    fn usual_rows(&self, frame: &Frame, rows: &mut Vec<(u64, u64)>) -> Option<()> {
        let known = self.cies.get(frame.cie as usize)?;
        let mut digests = RowDigests::new(known.digest, rows);
        known.start.as_ref()?.run(self.instructions(frame)?, (frame.start, frame.end), &mut digests)
    }

    /// The rows of any frame, as gimli reads them.
    fn any_rows(
        &self,
        frame: &Frame,
        context: &mut UnwindContext<usize>,
        rows: &mut Vec<(u64, u64)>,
    ) -> Result<(), gimli::Error> {
        let known = self.cies.get(frame.cie as usize).ok_or(gimli::Error::NoUnwindInfoForAddress)?;
        let mut digests = RowDigests::new(known.digest, rows);
        let offset = EhFrameOffset(usize::try_from(frame.record - self.addr).unwrap_or(usize::MAX));
        let fde = self.section.fde_from_offset(&self.bases, offset, |_, _, _| Ok(known.cie.clone()))?;
        let mut table = fde.rows(&self.section, &self.bases, context)?;
        while let Some(row) = table.next_row()? {
            let (start, end) = (row.start_address(), row.end_address().min(frame.end));
            if start >= end {
                continue;
            }
            let slice = |expression: &gimli::UnwindExpression<usize>| {
                Ok::<_, gimli::Error>(bytes_digest(expression.get(&self.section)?.0.slice()))
            };
            // Rules stand in the order in which they were first given: sum up without order.
            let mut rules = 0u64;
            for (register, rule) in row.registers() {
                let digest = match rule {
                    RegisterRule::Expression(expression) => mix(rule_kind(5, register.0), slice(expression)?),
                    RegisterRule::ValExpression(expression) => mix(rule_kind(6, register.0), slice(expression)?),
                    rule => rule_digest(register.0, rule).unwrap_or(0),
                };
                rules = rules.wrapping_add(digest);
            }
            match row.cfa() {
                CfaRule::RegisterAndOffset { register, offset } => {
                    digests.add(start, end, row.saved_args_size(), (register.0, *offset), rules);
                }
                CfaRule::Expression(expression) => {
                    digests.add_rule(start, row.saved_args_size(), (1, slice(expression)?), rules);
                }
            }
        }
        Ok(())
    }
}

fn bytes_digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// What a CIE says about all of its frames, apart from CFI.
fn cie_digest(cie: &Cie<'_>, routine: &impl Fn(u64) -> u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    cie.return_address_register().0.hash(&mut hasher);
    cie.is_signal_trampoline().hash(&mut hasher);
    cie.has_lsda().hash(&mut hasher);
    match cie.personality() {
        None => 0u64.hash(&mut hasher),
        // An indirect pointer is told by the place it is read from: its content is data, see P2.
        Some(Pointer::Direct(addr)) => (1u8, routine(addr)).hash(&mut hasher),
        Some(Pointer::Indirect(addr)) => (2u8, addr).hash(&mut hasher),
    }
    hasher.finish()
}

/// The address that a pointer stands for.
fn resolve(pointer: Pointer, image: &Image<'_>) -> u64 {
    match pointer {
        Pointer::Direct(addr) => addr,
        Pointer::Indirect(addr) => {
            image.bytes_at(addr, 8).and_then(|bytes| bytes.first_chunk::<8>()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
        }
    }
}

/// `.eh_frame`: by its section, or, without section headers, through `.eh_frame_hdr`'s segment.
fn find<'d>(image: &Image<'d>) -> Option<(u64, &'d [u8])> {
    if let Some((_, section)) = image.section(".eh_frame")
        && section.kind != elf::SHT_NOBITS
    {
        return Some((section.addr, image.section_data(section)));
    }
    // With section headers, a header without table means that there is none.
    if !image.sections().is_empty() {
        return None;
    }
    let hdr = image.segment(elf::PT_GNU_EH_FRAME)?;
    let bytes = image.bytes_at(hdr.vaddr, 8)?.first_chunk::<8>()?;
    // Version 1, eh_frame_ptr pcrel sdata4: the one form that linkers write.
    if bytes[0] != 1 || bytes[1] != 0x1b {
        return None;
    }
    let distance = i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let addr = (hdr.vaddr + 4).wrapping_add_signed(i64::from(distance));
    let load = image.segments().iter().find(|segment| {
        segment.kind == elf::PT_LOAD && addr >= segment.vaddr && addr - segment.vaddr < segment.filesz
    })?;
    Some((addr, image.bytes_at(addr, load.vaddr + load.filesz - addr)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Address of the section.
    const ADDR: u64 = 0x40_0000;

    /// One CIE with one FDE for `size` bytes of code; `None` if gimli cannot read them.
    pub(in crate::unwind) fn frames_of(code_factor: u8, data_factor: u8, initial: &[u8], size: u32, instructions: &[u8]) -> Option<Frames<'static>> {
        let mut bytes = Vec::new();
        let cie = [&[0, 0, 0, 0, 1][..], b"zR\0", &[code_factor, data_factor, 16, 1, 0x1b], initial].concat();
        bytes.extend(u32::try_from(cie.len()).unwrap().to_le_bytes());
        bytes.extend(cie);
        let record = bytes.len();
        let id = u32::try_from(record + 4).unwrap();
        let fde = [&id.to_le_bytes()[..], &0x1000u32.to_le_bytes(), &size.to_le_bytes(), &[0], instructions].concat();
        bytes.extend(u32::try_from(fde.len()).unwrap().to_le_bytes());
        bytes.extend(fde);
        let bytes: &'static [u8] = bytes.leak();
        let bases = BaseAddresses::default().set_eh_frame(ADDR);
        let mut section = EhFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        let cie = section.cie_from_offset(&bases, EhFrameOffset(0)).ok()?;
        let start = ADDR + record as u64 + 8 + 0x1000;
        let frame = Frame { start, end: start + u64::from(size), record: ADDR + record as u64, lsda: None, cie: 0 };
        let (addr, size) = (ADDR, bytes.len() as u64);
        let mut frames =
            Frames { section, bytes, addr, size, bases, cies: Vec::new(), frames: vec![frame], records: Vec::new() };
        frames.know(cie, &|addr| addr);
        Some(frames)
    }

    pub(in crate::unwind) fn rows_of(frames: &Frames<'_>) -> Option<Vec<(u64, u64)>> {
        let mut rows = Vec::new();
        frames.usual_rows(&frames.frames[0], &mut rows).map(|()| rows)
    }

    pub(in crate::unwind) fn rows_by_gimli(frames: &Frames<'_>) -> Result<Vec<(u64, u64)>, gimli::Error> {
        let mut rows = Vec::new();
        frames.any_rows(&frames.frames[0], &mut UnwindContext::new(), &mut rows).map(|()| rows)
    }
}
