//! `.eh_frame_hdr`: the search table of `.eh_frame` (LSB Core, "Exception Frame Header").

use super::content_from;
use crate::consts::elf;
use crate::{Image, UnwindCursor, UnwindError, eh_pe};

/// The parsed `.eh_frame_hdr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EhFrameHdr {
    /// Address of the header.
    pub addr: u64,
    /// Size in bytes: of the segment `PT_GNU_EH_FRAME`, else of the section.
    pub size: u64,
    /// Encoding of the pointer to `.eh_frame`.
    pub eh_frame_encoding: u8,
    /// Encoding of the number of entries.
    pub count_encoding: u8,
    /// Encoding of the table's entries.
    pub table_encoding: u8,
    /// Address of `.eh_frame`.
    pub eh_frame: u64,
    /// The search table in file order, if there is one.
    pub table: Option<Vec<EhFrameHdrEntry>>,
}

/// One entry of the search table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EhFrameHdrEntry {
    /// First address that the FDE describes.
    pub pc_begin: u64,
    /// Address of the FDE.
    pub fde: u64,
}

impl EhFrameHdr {
    /// Reads what `PT_GNU_EH_FRAME` names, else the section `.eh_frame_hdr`; `None` if there is
    /// neither.
    ///
    /// # Errors
    /// [`UnwindError`] for the first field that is malformed.
    pub fn parse(image: &Image<'_>) -> Result<Option<Self>, UnwindError> {
        let segment = image.segment(elf::PT_GNU_EH_FRAME).filter(|segment| segment.filesz > 0);
        let section = image.section(".eh_frame_hdr").filter(|(_, section)| section.is_alloc());
        let (addr, size) = match (segment, section) {
            (Some(segment), _) => (segment.vaddr, segment.filesz),
            (None, Some((_, section))) => (section.addr, section.size),
            (None, None) => return Ok(None),
        };
        let data = match image.bytes_at(addr, size) {
            Some(data) => data,
            None => {
                let rest = content_from(image, addr, ".eh_frame_hdr")?;
                let size = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
                rest.get(..size).unwrap_or(&[])
            }
        };
        let mut cursor = UnwindCursor::new(data, addr);
        let version = cursor.u8(".eh_frame_hdr version")?;
        if version != 1 {
            let (what, expected) = (".eh_frame_hdr version", "1");
            return Err(UnwindError::Value { what, at: addr, value: version.into(), expected });
        }
        let eh_frame_encoding = cursor.u8(".eh_frame_hdr encoding")?;
        let count_encoding = cursor.u8(".eh_frame_hdr encoding")?;
        let table_encoding = cursor.u8(".eh_frame_hdr encoding")?;
        let base = Some(addr);
        let eh_frame = cursor.pointer(eh_frame_encoding, base, ".eh_frame_hdr eh_frame_ptr")?.unwrap_or(0);
        let mut header = Self { addr, size, eh_frame_encoding, count_encoding, table_encoding, eh_frame, table: None };
        if count_encoding == eh_pe::OMIT || table_encoding == eh_pe::OMIT {
            return Ok(Some(header));
        }
        let count_at = cursor.addr();
        let count = cursor.pointer(count_encoding, base, ".eh_frame_hdr fde_count")?.unwrap_or(0);
        // An entry takes two bytes at least, so that a huge count cannot reserve memory for itself.
        if count > data.len() as u64 / 2 {
            let (what, expected) = (".eh_frame_hdr fde_count", "a table that fits the section");
            return Err(UnwindError::Value { what, at: count_at, value: count, expected });
        }
        let mut table = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for _ in 0..count {
            // A stored 0 is an address here (the header itself), never null.
            let mut entry = |what| {
                let at = cursor.addr();
                let base = match table_encoding & eh_pe::APPLICATION {
                    eh_pe::DATAREL => addr,
                    eh_pe::PCREL => at,
                    0 => 0,
                    _ => return Err(UnwindError::Encoding { what, at, encoding: table_encoding }),
                };
                cursor.raw_value(table_encoding, what).map(|raw| base.wrapping_add(raw))
            };
            let pc_begin = entry(".eh_frame_hdr initial location")?;
            let fde = entry(".eh_frame_hdr FDE address")?;
            table.push(EhFrameHdrEntry { pc_begin, fde });
        }
        header.table = Some(table);
        Ok(Some(header))
    }

    /// Whether the search table, if there is one, is sorted so that bisection works.
    pub fn is_sorted(&self) -> bool {
        self.table.as_ref().is_none_or(|table| table.is_sorted_by_key(|entry| entry.pc_begin))
    }
}
