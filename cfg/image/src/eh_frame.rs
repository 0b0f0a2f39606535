//! `.eh_frame`: the records that say how to unwind each function.
//!
//! Source: LSB Core, "Exception Frames"; System V psABI for x86-64, section 4.2.4. Extended (64-bit)
//! record lengths are refused: libgcc does not understand them either.

use std::ops::Range;

use crate::consts::elf;
use crate::{Image, Section};

mod cursor;
mod error;
mod hdr;
#[cfg(test)]
pub(crate) mod tests;

pub use cursor::{UnwindCursor, eh_pe};
pub use error::UnwindError;
pub use hdr::{EhFrameHdr, EhFrameHdrEntry};

/// All records of the `.eh_frame` section.
///
/// # Invariants
/// 1. `cies` and `fdes` are sorted by address (file order); no records overlap.
/// 2. `fdes[i].cie` is an index into `cies`, of a record before the FDE.
/// 3. `pc_begin <= pc_end`, and instruction ranges lie inside their record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EhFrame {
    /// Index of the section.
    pub section: usize,
    /// Address of the section.
    pub addr: u64,
    /// Size of the section in bytes.
    pub size: u64,
    /// Common information entries in file order.
    pub cies: Vec<Cie>,
    /// Frame description entries in file order.
    pub fdes: Vec<Fde>,
    /// Addresses of zero length words: the first one of each run of them. An unwinder that walks the
    /// records (a static program without `.eh_frame_hdr`) stops there.
    pub terminators: Vec<u64>,
    /// Whether the section ends with a zero length word.
    pub terminated: bool,
}

/// A common information entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cie {
    /// Address of the record: of its length field.
    pub addr: u64,
    /// Size of the record in bytes, length field included.
    pub size: u32,
    /// Version: 1, 3 or 4.
    pub version: u8,
    /// Augmentation string, without its terminating 0: empty or `z` and letters of `LPRSB`.
    pub augmentation: Box<[u8]>,
    /// Code alignment factor, never 0.
    pub code_align: u64,
    /// Data alignment factor.
    pub data_align: i64,
    /// Column of the return address.
    pub return_register: u64,
    /// Encoding of `pc_begin` in FDEs (`DW_EH_PE_absptr` if there is no `R`).
    pub fde_encoding: u8,
    /// Encoding of the LSDA pointer in FDEs, if they have one.
    pub lsda_encoding: Option<u8>,
    /// The personality routine.
    pub personality: Option<Personality>,
    /// Whether the frames are signal frames (`S`): the return address is that of the interrupted
    /// instruction itself.
    pub signal_frame: bool,
    /// Addresses of the initial instructions, padding included.
    pub instructions: Range<u64>,
}

/// The pointer to a personality routine in a CIE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Personality {
    /// `DW_EH_PE_*` of the pointer.
    pub encoding: u8,
    /// Address of the pointer.
    pub field: u64,
    /// The address it designates, before indirection; 0 for null.
    pub target: u64,
}

/// A frame description entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fde {
    /// Address of the record: of its length field.
    pub addr: u64,
    /// First address it describes.
    pub pc_begin: u64,
    /// First address after what it describes.
    pub pc_end: u64,
    /// Address of the language-specific data area, if there is one.
    pub lsda: Option<u64>,
    /// Size of the record in bytes, length field included.
    pub size: u32,
    /// Index of its CIE.
    pub cie: u32,
    /// Distance of the instructions from `addr` in bytes.
    pub instructions_offset: u32,
    /// Describes no code of this file: a linker discarded the function but not its FDE.
    pub dead: bool,
}

/// 170,000 of them are kept.
const _: () = assert!(size_of::<Fde>() <= 56);

impl Fde {
    /// Address of the first byte after the record.
    pub const fn end(&self) -> u64 {
        self.addr + self.size as u64
    }
    /// Addresses of the call frame instructions, padding included.
    pub const fn instructions(&self) -> Range<u64> {
        self.addr + self.instructions_offset as u64..self.end()
    }
    /// Whether it describes `pc`.
    pub const fn covers(&self, pc: u64) -> bool {
        self.pc_begin <= pc && pc < self.pc_end
    }
}

impl Cie {
    /// Address of the first byte after the record.
    pub const fn end(&self) -> u64 {
        self.addr + self.size as u64
    }
    /// Whether FDEs carry an augmentation length (`z`).
    pub fn has_augmentation_data(&self) -> bool {
        self.augmentation.first() == Some(&b'z')
    }
}

impl EhFrame {
    /// Reads the loaded section named `.eh_frame` (else the one of type `SHT_X86_64_UNWIND`, in
    /// files whose sections have no such name); `None` if there is none.
    ///
    /// # Errors
    /// [`UnwindError`] for the first record that is malformed or not understood.
    pub fn parse(image: &Image<'_>) -> Result<Option<Self>, UnwindError> {
        let Some((index, section)) = find(image) else { return Ok(None) };
        let data = image.section_data(section);
        if data.is_empty() {
            return Ok(None);
        }
        let mut parsed =
            Self { section: index, addr: section.addr, size: section.size, ..Self::default() };
        let exec = ExecRanges { ranges: image.exec_ranges() };
        let mut cursor = UnwindCursor::new(data, section.addr);
        let mut in_terminator = false;
        while !cursor.is_empty() {
            let addr = cursor.addr();
            let length = cursor.u32("record length")?;
            if length == 0 {
                if !in_terminator {
                    parsed.terminators.push(addr);
                }
                in_terminator = true;
                continue;
            }
            in_terminator = false;
            if length >= 0xffff_fff0 {
                let expected = "a length below 4 GiB";
                return Err(UnwindError::Value { what: "record length", at: addr, value: length.into(), expected });
            }
            let body_addr = cursor.addr();
            let body = cursor.take(length.into(), "record")?;
            let mut body = UnwindCursor::new(body, body_addr);
            let id = body.u32("CIE pointer")?;
            if id == 0 {
                parsed.cies.push(read_cie(body, addr, length + 4)?);
            } else {
                let cie_addr = body_addr.wrapping_sub(id.into());
                let (cie_index, cie) = parsed.cie_at(cie_addr).ok_or(UnwindError::Value {
                    what: "CIE pointer",
                    at: body_addr,
                    value: id.into(),
                    expected: "the distance from a CIE before the record",
                })?;
                let fde = read_fde(body, addr, length + 4, cie_index, cie, &exec)?;
                parsed.fdes.push(fde);
            }
        }
        parsed.terminated = in_terminator;
        parsed.fdes.shrink_to_fit();
        Ok(Some(parsed))
    }

    /// Nearly all FDEs belong to the last CIE read, the others are found by bisection.
    fn cie_at(&self, addr: u64) -> Option<(u32, &Cie)> {
        let last = self.cies.len().checked_sub(1)?;
        let index = match self.cies.get(last) {
            Some(cie) if cie.addr == addr => last,
            _ => self.cies.binary_search_by_key(&addr, |cie| cie.addr).ok()?,
        };
        Some((u32::try_from(index).ok()?, self.cies.get(index)?))
    }

    /// The CIE of an FDE of this table.
    pub fn cie_of(&self, fde: &Fde) -> Option<&Cie> {
        self.cies.get(fde.cie as usize)
    }

    /// Indexes of the FDEs that are not dead, sorted by `pc_begin` (then by file order).
    pub fn by_pc(&self) -> Vec<u32> {
        let mut order: Vec<u32> =
            (0u32..).zip(&self.fdes).filter(|(_, fde)| !fde.dead).map(|(index, _)| index).collect();
        order.sort_by_key(|&index| self.fdes.get(index as usize).map_or(0, |fde| fde.pc_begin));
        order
    }
}

/// Initialised memory of the section that holds `addr`, from `addr` to the section's end.
pub(crate) fn content_from<'d>(image: &Image<'d>, addr: u64, what: &'static str) -> Result<&'d [u8], UnwindError> {
    let content = |section: &Section<'d>| {
        let offset = usize::try_from(addr - section.addr).ok()?;
        image.section_data(section).get(offset..)
    };
    let tls_bss = |section: &Section<'_>| section.kind == elf::SHT_NOBITS;
    image
        .sections()
        .iter()
        .filter(|section| section.contains(addr) && !tls_bss(section))
        .find_map(content)
        .ok_or(UnwindError::NoContent { what, at: addr })
}

fn find<'i, 'd>(image: &'i Image<'d>) -> Option<(usize, &'i Section<'d>)> {
    let mut loaded = image.sections().iter().enumerate().filter(|(_, section)| section.is_alloc());
    let named = loaded.clone().find(|(_, section)| section.name == b".eh_frame");
    named.or_else(|| {
        loaded.find(|(_, section)| section.kind == elf::SHT_X86_64_UNWIND && section.name != b".eh_frame_hdr")
    })
}

/// Answers whether an address is code; remembers nothing, FDEs are few enough.
struct ExecRanges<'i> {
    ranges: &'i [(u64, u64, usize)],
}

impl ExecRanges<'_> {
    fn contains(&self, addr: u64) -> bool {
        let index = self.ranges.partition_point(|range| range.0 <= addr);
        index.checked_sub(1).and_then(|index| self.ranges.get(index)).is_some_and(|range| addr < range.1)
    }
}

fn read_cie(mut body: UnwindCursor<'_>, addr: u64, size: u32) -> Result<Cie, UnwindError> {
    let version_at = body.addr();
    let version = body.u8("CIE version")?;
    if !matches!(version, 1 | 3 | 4) {
        let expected = "1, 3 or 4";
        return Err(UnwindError::Value { what: "CIE version", at: version_at, value: version.into(), expected });
    }
    let augmentation_at = body.addr();
    let augmentation = body.c_string("CIE augmentation")?;
    let unknown = |value: u8| UnwindError::Value {
        what: "CIE augmentation",
        at: augmentation_at,
        value: value.into(),
        expected: "empty, or z and letters of LPRSB",
    };
    if version == 4 {
        let at = body.addr();
        let sizes = (body.u8("CIE address size")?, body.u8("CIE segment selector size")?);
        if sizes != (8, 0) {
            let expected = "8-byte addresses without segment selectors";
            return Err(UnwindError::Value { what: "CIE address size", at, value: sizes.0.into(), expected });
        }
    }
    let code_align_at = body.addr();
    let code_align = body.uleb("CIE code alignment factor")?;
    if code_align == 0 {
        let (what, expected) = ("CIE code alignment factor", "not 0");
        return Err(UnwindError::Value { what, at: code_align_at, value: 0, expected });
    }
    let data_align = body.sleb("CIE data alignment factor")?;
    let return_register = match version {
        1 => u64::from(body.u8("CIE return address column")?),
        _ => body.uleb("CIE return address column")?,
    };
    let mut cie = Cie {
        addr,
        size,
        version,
        augmentation: augmentation.into(),
        code_align,
        data_align,
        return_register,
        fde_encoding: eh_pe::ABSPTR,
        lsda_encoding: None,
        personality: None,
        signal_frame: false,
        instructions: 0..0,
    };
    if let Some((&first, letters)) = augmentation.split_first() {
        if first != b'z' {
            return Err(unknown(first));
        }
        let length = body.uleb("CIE augmentation length")?;
        let data_addr = body.addr();
        let mut data = UnwindCursor::new(body.take(length, "CIE augmentation data")?, data_addr);
        for &letter in letters {
            match letter {
                b'L' => {
                    let encoding = data.u8("LSDA encoding")?;
                    cie.lsda_encoding = (encoding != eh_pe::OMIT).then_some(encoding);
                }
                b'P' => {
                    let encoding = data.u8("personality encoding")?;
                    if encoding != eh_pe::OMIT {
                        let field = data.addr();
                        let target = data.pointer(encoding, None, "personality pointer")?.unwrap_or(0);
                        cie.personality = Some(Personality { encoding, field, target });
                    }
                }
                b'R' => {
                    let at = data.addr();
                    let encoding = data.u8("FDE pointer encoding")?;
                    if eh_pe::size(encoding).is_none_or(|size| size == 0) || encoding & eh_pe::INDIRECT != 0 {
                        return Err(UnwindError::Encoding { what: "FDE pointer encoding", at, encoding });
                    }
                    cie.fde_encoding = encoding;
                }
                b'S' => cie.signal_frame = true,
                // Return addresses signed with the B key: of AArch64, no data.
                b'B' => {}
                _ => return Err(unknown(letter)),
            }
        }
    }
    cie.instructions = body.addr()..body.end();
    Ok(cie)
}

fn read_fde(
    mut body: UnwindCursor<'_>,
    addr: u64,
    size: u32,
    cie_index: u32,
    cie: &Cie,
    exec: &ExecRanges<'_>,
) -> Result<Fde, UnwindError> {
    let pc_begin = body.pointer(cie.fde_encoding, None, "FDE pc_begin")?.unwrap_or(0);
    let range_at = body.addr();
    // The range is a size: of the same format, nothing added.
    let range = body.raw_value(cie.fde_encoding & eh_pe::FORMAT & !eh_pe::SIGNED, "FDE pc_range")?;
    let pc_end = pc_begin.checked_add(range).ok_or(UnwindError::Value {
        what: "FDE pc_range",
        at: range_at,
        value: range,
        expected: "a range inside the address space",
    })?;
    let mut lsda = None;
    if cie.has_augmentation_data() {
        let length = body.uleb("FDE augmentation length")?;
        let data_addr = body.addr();
        let mut data = UnwindCursor::new(body.take(length, "FDE augmentation data")?, data_addr);
        if let Some(encoding) = cie.lsda_encoding {
            if encoding & eh_pe::INDIRECT != 0 {
                return Err(UnwindError::Encoding { what: "FDE LSDA pointer", at: data_addr, encoding });
            }
            lsda = data.pointer(encoding, None, "FDE LSDA pointer")?;
        }
    }
    // glibc's FDE of the signal return code begins one byte before it: look at both ends.
    let dead = !exec.contains(pc_begin) && !exec.contains(pc_end.saturating_sub(1));
    let instructions_offset = u32::try_from(body.addr() - addr).unwrap_or(size);
    Ok(Fde { addr, pc_begin, pc_end, lsda, size, cie: cie_index, instructions_offset, dead })
}
