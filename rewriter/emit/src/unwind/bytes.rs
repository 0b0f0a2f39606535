//! Writing LEB128 numbers and encoded pointers.

use postlink_image::eh_pe;

use super::UnwindFault;

/// Appends an unsigned LEB128 number.
pub(crate) fn put_uleb(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends an unsigned LEB128 number of exactly `width` bytes, padded if it is shorter.
pub(crate) fn put_uleb_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    for index in 1..=width {
        let more = if index < width { 0x80 } else { 0 };
        out.push((value & 0x7f) as u8 | more);
        value >>= 7;
    }
}

/// Appends a signed LEB128 number.
pub(crate) fn put_sleb(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Bytes that an unsigned LEB128 number takes.
pub(crate) const fn uleb_len(value: u64) -> usize {
    let bits = 64 - value.leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Appends a pointer to `target` (`None`: null, stored as 0) as `encoding` says, at address `at`.
pub(crate) fn put_pointer(
    out: &mut Vec<u8>,
    at: u64,
    encoding: u8,
    target: Option<u64>,
) -> Result<(), UnwindFault> {
    let value = match (target, encoding & eh_pe::APPLICATION) {
        (None, _) => 0,
        (Some(target), eh_pe::PCREL) => target.wrapping_sub(at),
        (Some(target), _) => target,
    };
    put_value(out, encoding, value).ok_or(UnwindFault::PointerRange { at, target: target.unwrap_or(0), encoding })
}

/// Appends `value` in the format of `encoding`; `None` if it does not fit.
pub(crate) fn put_value(out: &mut Vec<u8>, encoding: u8, value: u64) -> Option<()> {
    let signed = value.cast_signed();
    match encoding & eh_pe::FORMAT {
        eh_pe::ABSPTR | eh_pe::SIGNED | eh_pe::UDATA8 | eh_pe::SDATA8 => out.extend(value.to_le_bytes()),
        eh_pe::UDATA4 => out.extend(u32::try_from(value).ok()?.to_le_bytes()),
        eh_pe::SDATA4 => out.extend(i32::try_from(signed).ok()?.to_le_bytes()),
        eh_pe::UDATA2 => out.extend(u16::try_from(value).ok()?.to_le_bytes()),
        eh_pe::SDATA2 => out.extend(i16::try_from(signed).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}
