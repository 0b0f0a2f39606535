//! A minimal ELF file with given sections, each in a segment of its own.

use postlink_image::elf as consts;

/// Name, address, content. `.text*` is executable, `.rela*` holds relocations.
pub(super) type Content<'a> = (&'a str, u64, &'a [u8]);

/// The bytes of an executable with these sections.
pub(super) fn elf_with(sections: &[Content<'_>]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut file = vec![0u8; 64 + 56 * sections.len()];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16] = 2;
    file[18] = 62;
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54] = 56;
    file[56] = sections.len() as u8;
    file[58] = 64;
    let mut headers = vec![[0u64; 10]];
    for (index, (name, addr, data)) in sections.iter().enumerate() {
        let offset = file.len() as u64;
        file.extend_from_slice(data);
        let exec = if name.starts_with(".text") { consts::SHF_EXECINSTR } else { 0 };
        let kind = if name.starts_with(".rela") { consts::SHT_RELA } else { consts::SHT_PROGBITS };
        let (kind, size) = (u64::from(kind), data.len() as u64);
        headers.push([names.len() as u64, kind, consts::SHF_ALLOC | exec, *addr, offset, size, 0, 0, 1, 0]);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let segment = &mut file[64 + 56 * index..][..56];
        segment[0] = 1;
        segment[4] = 4;
        for (field, value) in [offset, *addr, *addr, size, size, 1].into_iter().enumerate() {
            segment[8 + field * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
    }
    let offset = file.len() as u64;
    headers.push([names.len() as u64, 3, 0, 0, offset, names.len() as u64 + 1, 0, 0, 1, 0]);
    names.push(0);
    file.extend_from_slice(&names);
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
    file[60] = headers.len() as u8;
    file[62] = headers.len() as u8 - 1;
    file
}

/// Prefixes `body` with its length and pads it with NOPs.
pub(super) fn record(mut body: Vec<u8>, align: usize) -> Vec<u8> {
    body.resize((body.len() + 4).next_multiple_of(align) - 4, 0);
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend(body);
    out
}

/// A `zR` CIE (`zLR` with `lsda`), code alignment 1, data alignment -8, CFA `rsp + 8`.
pub(super) fn cie(lsda: bool, align: usize) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1];
    let rest: &[u8] = if lsda { b"zLR\0\x01\x78\x10\x02\x1b\x1b" } else { b"zR\0\x01\x78\x10\x01\x1b" };
    body.extend(rest);
    body.extend([0x0c, 7, 8, 0x90, 1]);
    record(body, align)
}

/// An FDE at address `at` of the CIE at `cie`.
pub(super) fn fde(at: u64, cie: u64, pc: (u64, u64), lsda: Option<u64>, program: &[u8], align: usize) -> Vec<u8> {
    let mut body = ((at + 4 - cie) as u32).to_le_bytes().to_vec();
    body.extend((pc.0.wrapping_sub(at + 8) as u32).to_le_bytes());
    body.extend(((pc.1 - pc.0) as u32).to_le_bytes());
    match lsda {
        Some(lsda) => {
            body.push(4);
            body.extend((lsda.wrapping_sub(at + 17) as u32).to_le_bytes());
        }
        None => body.push(0),
    }
    body.extend(program);
    record(body, align)
}
