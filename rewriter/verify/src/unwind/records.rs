//! Records of `.eh_frame` in the form that compilers write, read by their fields.

use gimli::{DW_EH_PE_pcrel, DW_EH_PE_sdata4, EndianSlice, LittleEndian};

type Cie<'d> = gimli::CommonInformationEntry<EndianSlice<'d, LittleEndian>>;

/// What starts at an offset of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The terminator, or the end of the section.
    End,
    Cie,
    /// With the offset of its CIE.
    Fde(usize),
}

/// A record with a length of 32 bits that ends in the section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'d> {
    pub(super) kind: Kind,
    /// Offset behind it.
    pub(super) end: usize,
    /// What is behind its length and the word that tells its kind.
    rest: &'d [u8],
}

/// The fields of an FDE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Address of the language-specific data; 0 for none.
    pub(super) lsda: u64,
}

/// How the FDEs of a CIE hold addresses, if in the usual way: distances of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    has_lsda: bool,
}

impl Usual {
    pub(super) fn of(cie: &Cie<'_>) -> Option<Self> {
        let usual = Some(DW_EH_PE_pcrel | DW_EH_PE_sdata4);
        let lsda = cie.lsda_encoding();
        (cie.fde_address_encoding() == usual && (lsda.is_none() || lsda == usual)).then_some(Self { has_lsda: lsda.is_some() })
    }
}

impl<'d> Plain<'d> {
    /// The record at offset `at` of `section`. `None`: another form, or none at all.
    pub(super) fn at(section: &'d [u8], at: usize) -> Option<Self> {
        let record = section.get(at..)?;
        if record.is_empty() {
            return Some(Self { kind: Kind::End, end: at, rest: record });
        }
        let len = u32::from_le_bytes(*record.first_chunk::<4>()?);
        if len == 0 {
            return Some(Self { kind: Kind::End, end: at, rest: &[] });
        }
        let len = usize::try_from(len).ok().filter(|&len| len < 0xffff_fff0)?;
        let record = record.get(4..)?.get(..len)?;
        let (distance, rest) = record.split_first_chunk::<4>()?;
        let kind = match u32::from_le_bytes(*distance) as usize {
            0 => Kind::Cie,
            distance => Kind::Fde((at + 4).checked_sub(distance)?),
        };
        Some(Self { kind, end: at + 4 + len, rest })
    }

    /// The fields of this FDE, which stands at `addr` and belongs to such a CIE.
    pub(super) fn fields(&self, addr: u64, usual: Usual) -> Option<Fields> {
        let distance = |at: usize| {
            let field = self.rest.get(at..)?.first_chunk::<4>()?;
            Some(i64::from(i32::from_le_bytes(*field)))
        };
        let place = |at: usize| Some(addr.wrapping_add(8 + at as u64).wrapping_add_signed(distance(at)?));
        let size = *self.rest.get(8)?;
        // One byte of LEB128, and that much behind it.
        let whole = size < 0x80 && self.rest.len() >= 9 + usize::from(size) && (!usual.has_lsda || size >= 4);
        let start = place(0).filter(|_| whole)?;
        let lsda = if usual.has_lsda { place(9)? } else { 0 };
        Some(Fields { start, end: start.wrapping_add_signed(distance(4)?), lsda })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameOffset, UnwindSection as _};
    use std::collections::HashMap;

    /// Address of the section.
    const ADDR: u64 = 0x40_0000;

    fn record(bytes: &mut Vec<u8>, id: u32, content: &[u8]) -> usize {
        let at = bytes.len();
        bytes.extend_from_slice(&u32::try_from(content.len() + 4).unwrap().to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(content);
        at
    }

    /// A CIE with and one without language-specific data, and FDEs of both.
    fn section() -> Vec<u8> {
        let mut bytes = Vec::new();
        let plain = record(&mut bytes, 0, b"\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0");
        let with_lsda = record(&mut bytes, 0, b"\x01zPLR\0\x01\x78\x10\x07\x9b\x10\x20\x30\0\x1b\x1b\x0c\x07\x08\x90\x01\0\0");
        for (cie, content) in [
            (plain, &b"\x10\x02\0\0\x40\0\0\0\0\x0e\x10\0\0"[..]),
            (with_lsda, b"\x10\x03\0\0\x30\0\0\0\x04\x50\x50\0\0\x0e\x10\0\0"),
            (plain, b"\x90\xff\xff\xff\x08\0\0\0\0\0\0\0\0"),
        ] {
            let id = u32::try_from(bytes.len() + 4 - cie).unwrap();
            record(&mut bytes, id, content);
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    /// Reads records as long as they are plain, compares each with what gimli reads; the number of FDEs.
    fn compare(bytes: &[u8]) -> usize {
        let mut section = EhFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        let bases = BaseAddresses::default().set_eh_frame(ADDR).set_text(0x1000).set_got(0x2000);
        let mut entries = section.entries(&bases);
        let mut cies = HashMap::new();
        let (mut at, mut count) = (0, 0);
        loop {
            let Some(plain) = Plain::at(bytes, at) else { return count };
            let entry = entries.next();
            match plain.kind {
                Kind::End => {
                    assert!(entry.unwrap().is_none());
                    return count;
                }
                Kind::Cie => {
                    let Ok(entry) = entry else { return count };
                    let Some(CieOrFde::Cie(cie)) = entry else { panic!("no CIE at {at}") };
                    assert_eq!((cie.offset(), at + 4 + cie.entry_len()), (at, plain.end));
                    assert_eq!(section.cie_from_offset(&bases, EhFrameOffset(at)).as_ref(), Ok(&cie));
                    cies.insert(at, cie);
                }
                Kind::Fde(cie_at) => {
                    let Some(cie) = cies.get(&cie_at) else { return count };
                    let Some(fields) = Usual::of(cie).and_then(|usual| plain.fields(ADDR + at as u64, usual)) else { return count };
                    let Ok(Some(CieOrFde::Fde(partial))) = entry else { panic!("no FDE at {at}") };
                    assert_eq!((partial.offset(), at + 4 + partial.entry_len(), partial.cie_offset().0), (at, plain.end, cie_at));
                    let fde = partial.parse(|_, _, _| Ok(cie.clone())).unwrap();
                    let lsda = fde.lsda().map_or(0, gimli::Pointer::pointer);
                    assert_eq!(fields, Fields { start: fde.initial_address(), end: fde.end_address(), lsda });
                    count += 1;
                }
            }
            at = plain.end;
        }
    }

    #[test]
    fn fields_are_what_gimli_reads() {
        assert_eq!(compare(&section()), 3);
        arbtest::arbtest(|u| {
            let mut bytes = section();
            for _ in 0..u.int_in_range(0..=6)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = if u.arbitrary()? { u.arbitrary()? } else { *u.choose(&[0, 1, 4, 0x1b, 0x9b, 0x80, 0xff])? };
            }
            bytes.truncate(u.int_in_range(0..=bytes.len())?.max(bytes.len() * usize::from(u.arbitrary::<bool>()?)));
            compare(&bytes);
            Ok(())
        })
        .budget_ms(500);
    }
}
