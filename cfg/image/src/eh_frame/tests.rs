//! Real sections of compiled programs, hand-made ones, and random bytes.

use gimli::{BaseAddresses, CieOrFde, EhFrame as GimliEhFrame, LittleEndian, UnwindSection};

use super::*;
use crate::elf as consts;

/// A minimal ELF file: one executable section at 0x1000 and `.eh_frame` at 0x2000.
pub(crate) fn elf_with(sections: &[(&str, u64, u64, &[u8])]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut file = vec![0u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16] = 2;
    file[18] = 62;
    let mut headers = vec![[0u64; 10]];
    for (name, addr, flags, data) in sections {
        let offset = file.len() as u64;
        file.extend_from_slice(data);
        let kind = u64::from(consts::SHT_PROGBITS);
        headers.push([names.len() as u64, kind, *flags, *addr, offset, data.len() as u64, 0, 0, 1, 0]);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    let offset = file.len() as u64;
    let strings = [names.len() as u64, 3, 0, 0, offset, names.len() as u64 + 1, 0, 0, 1, 0];
    names.push(0);
    file.extend_from_slice(&names);
    headers.push(strings);
    let shoff = file.len() as u64;
    for [name, kind, flags, addr, offset, size, link, info, align, entsize] in &headers {
        file.extend(u32::try_from(*name).unwrap().to_le_bytes());
        file.extend(u32::try_from(*kind).unwrap().to_le_bytes());
        for value in [flags, addr, offset, size] {
            file.extend(value.to_le_bytes());
        }
        file.extend(u32::try_from(*link).unwrap().to_le_bytes());
        file.extend(u32::try_from(*info).unwrap().to_le_bytes());
        file.extend(align.to_le_bytes());
        file.extend(entsize.to_le_bytes());
    }
    file[40..48].copy_from_slice(&shoff.to_le_bytes());
    file[58] = 64;
    file[60] = headers.len() as u8;
    file[62] = headers.len() as u8 - 1;
    file
}

const TEXT: (&str, u64, u64, &[u8]) = (".text", 0x1000, consts::SHF_ALLOC | consts::SHF_EXECINSTR, &[0x90; 0x100]);

fn parse(eh_frame: &[u8]) -> Result<EhFrame, UnwindError> {
    let file = elf_with(&[TEXT, (".eh_frame", 0x2000, consts::SHF_ALLOC, eh_frame)]);
    let image = Image::parse(&file).unwrap();
    EhFrame::parse(&image).map(|parsed| parsed.unwrap_or_default())
}

/// Prefixes `body` with its length.
fn record(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// A `zPLR` CIE of 28 bytes: code alignment 1, data alignment -8, personality at 0x1100.
fn cie() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1];
    body.extend(b"zPLR\0\x01\x78\x10\x07\x9b");
    // The personality's field lies 4 + 5 + 10 bytes behind the section's start.
    body.extend((0x3000u32 - (0x2000 + 19)).to_le_bytes());
    body.extend([0x1b, 0x1b, 0x0c, 7, 8]);
    assert_eq!(body.len(), 24);
    record(&body)
}

/// An FDE at `at` bytes into the section for `pc` of 16 bytes with an LSDA at 0x4000.
fn fde(at: u32, pc: u32) -> Vec<u8> {
    let mut body = (at + 4).to_le_bytes().to_vec();
    body.extend(pc.wrapping_sub(0x2000 + at + 8).to_le_bytes());
    body.extend(16u32.to_le_bytes());
    body.push(4);
    body.extend(0x4000u32.wrapping_sub(0x2000 + at + 17).to_le_bytes());
    body.extend([0x0e, 16, 0]);
    record(&body)
}

#[test]
fn reads_records_by_hand() {
    let mut section = cie();
    section.extend(fde(28, 0x1010));
    section.extend([0; 4]);
    section.extend(fde(28 + 24 + 4, 0x9000));
    section.extend([0; 8]);
    let parsed = parse(&section).unwrap();
    assert_eq!(parsed.terminators, [0x2034, 0x2050]);
    assert!(parsed.terminated);
    let cie = &parsed.cies[0];
    assert_eq!((cie.addr, cie.size, &*cie.augmentation), (0x2000, 28, &b"zPLR"[..]));
    assert_eq!((cie.code_align, cie.data_align, cie.return_register), (1, -8, 16));
    assert_eq!(cie.personality, Some(Personality { encoding: 0x9b, field: 0x2013, target: 0x3000 }));
    assert_eq!((cie.fde_encoding, cie.lsda_encoding), (0x1b, Some(0x1b)));
    assert_eq!(cie.instructions, 0x2019..0x201c);
    let first = parsed.fdes[0];
    assert_eq!((first.addr, first.size, first.cie), (0x201c, 24, 0));
    assert_eq!((first.pc_begin, first.pc_end, first.lsda), (0x1010, 0x1020, Some(0x4000)));
    assert_eq!(first.instructions(), 0x2031..0x2034);
    assert!(!first.dead);
    assert!(parsed.fdes[1].dead, "nothing executable is at 0x9000");
    assert_eq!(parsed.by_pc(), [0]);
}

#[test]
fn refuses_what_it_does_not_understand() {
    let check = |edit: &dyn Fn(&mut Vec<u8>), at: u64| {
        let mut section = cie();
        section.extend(fde(28, 0x1010));
        edit(&mut section);
        let error = parse(&section).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{at:#x}")), "{text} does not name {at:#x}");
    };
    check(&|section| section[8] = 2, 0x2008); // version
    check(&|section| section[10] = b'X', 0x2009); // augmentation letter
    check(&|section| section[14] = 0, 0x200e); // code alignment
    check(&|section| section[24] = 0x11, 0x2018); // FDE pointers as LEB128
    check(&|section| section[28..32].copy_from_slice(&[0xff; 4]), 0x201c); // extended length
    check(&|section| section[32] = 31, 0x2020); // CIE pointer beside the CIE
}

#[test]
fn truncated_record_is_an_error() {
    let mut section = cie();
    section.extend(fde(28, 0x1010));
    for len in 1..section.len() {
        let cut = parse(&section[..len]);
        assert_eq!(cut.is_ok(), len == 28, "cut at {len}");
    }
}

#[test]
fn hostile_bytes_do_not_panic() {
    arbtest::arbtest(|u| {
        let mut section = cie();
        section.extend(fde(28, 0x1010));
        section.extend(u.arbitrary::<Vec<u8>>()?);
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(section.len())?;
            section[at] = u.arbitrary()?;
        }
        let _ = parse(&section);
        let _ = parse(u.arbitrary::<&[u8]>()?);
        let header = elf_with(&[TEXT, (".eh_frame_hdr", 0x2000, 2, u.arbitrary::<&[u8]>()?)]);
        let _ = EhFrameHdr::parse(&Image::parse(&header).unwrap());
        Ok(())
    })
    .budget_ms(300);
}

/// The test program itself has everything rustc and the C runtime write; gimli reads it too.
#[test]
fn agrees_with_gimli_on_this_test_program() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let image = Image::parse(&file).unwrap();
    let parsed = EhFrame::parse(&image).unwrap().unwrap();
    let data = image.section_data(&image.sections()[parsed.section]);
    let bases = BaseAddresses::default().set_eh_frame(parsed.addr);
    let section = GimliEhFrame::new(data, LittleEndian);
    let mut fdes = parsed.fdes.iter();
    let mut entries = section.entries(&bases);
    let mut cie_count = 0;
    while let Some(entry) = entries.next().unwrap() {
        match entry {
            CieOrFde::Cie(_) => cie_count += 1,
            CieOrFde::Fde(partial) => {
                let expected = partial.parse(GimliEhFrame::cie_from_offset).unwrap();
                let fde = fdes.next().unwrap();
                assert_eq!(fde.addr, parsed.addr + expected.offset() as u64);
                assert_eq!((fde.pc_begin, fde.pc_end), (expected.initial_address(), expected.end_address()));
                let lsda = expected.lsda().map(|pointer| pointer.pointer()).filter(|&lsda| lsda != 0);
                assert_eq!(fde.lsda, lsda);
                assert!(!fde.dead);
            }
        }
    }
    assert_eq!(parsed.cies.len(), cie_count);
    assert!(fdes.next().is_none() && parsed.fdes.len() > 100);

    let header = EhFrameHdr::parse(&image).unwrap().unwrap();
    assert!(header.is_sorted());
    assert_eq!(header.eh_frame, parsed.addr);
    let table = header.table.unwrap();
    let expected: Vec<_> = parsed.by_pc().iter().map(|&index| parsed.fdes[index as usize]).collect();
    assert_eq!(table.len(), expected.len());
    for (entry, fde) in table.iter().zip(expected) {
        assert_eq!((entry.pc_begin, entry.fde), (fde.pc_begin, fde.addr));
    }
}
