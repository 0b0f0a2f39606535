//! Reading numbers and encoded pointers of unwind tables.

use crate::UnwindError;

/// Pointer encodings of unwind tables (LSB Core, "DWARF Exception Header Encoding").
#[allow(missing_docs, reason = "the names are those of the LSB")]
pub mod eh_pe {
    pub const ABSPTR: u8 = 0x00;
    pub const ULEB128: u8 = 0x01;
    pub const UDATA2: u8 = 0x02;
    pub const UDATA4: u8 = 0x03;
    pub const UDATA8: u8 = 0x04;
    pub const SIGNED: u8 = 0x08;
    pub const SLEB128: u8 = 0x09;
    pub const SDATA2: u8 = 0x0a;
    pub const SDATA4: u8 = 0x0b;
    pub const SDATA8: u8 = 0x0c;
    /// The low bits: how the value is stored.
    pub const FORMAT: u8 = 0x0f;

    pub const PCREL: u8 = 0x10;
    pub const TEXTREL: u8 = 0x20;
    pub const DATAREL: u8 = 0x30;
    pub const FUNCREL: u8 = 0x40;
    pub const ALIGNED: u8 = 0x50;
    /// The middle bits: what is added to the value.
    pub const APPLICATION: u8 = 0x70;

    /// The result is the address of the pointer, not the pointer.
    pub const INDIRECT: u8 = 0x80;
    /// There is no value at all.
    pub const OMIT: u8 = 0xff;

    /// Bytes that a value of this encoding takes; `None` if that varies or the encoding is not valid.
    pub const fn size(encoding: u8) -> Option<u8> {
        match encoding & FORMAT {
            _ if encoding == OMIT => Some(0),
            ABSPTR | SIGNED | UDATA8 | SDATA8 => Some(8),
            UDATA4 | SDATA4 => Some(4),
            UDATA2 | SDATA2 => Some(2),
            _ => None,
        }
    }
}

/// A position in bytes of which the address in memory is known.
///
/// Every read moves the position on; every failed read names the address where it began.
#[derive(Clone, Debug)]
pub struct UnwindCursor<'d> {
    bytes: &'d [u8],
    base: u64,
    at: usize,
}

impl<'d> UnwindCursor<'d> {
    /// Starts at the first of `bytes`, which lies at address `base`. `base + bytes.len()` must not
    /// leave the address space.
    pub const fn new(bytes: &'d [u8], base: u64) -> Self {
        Self { bytes, base, at: 0 }
    }

    /// Address of the next byte.
    pub const fn addr(&self) -> u64 {
        self.base.wrapping_add(self.at as u64)
    }

    /// Address after the last byte.
    pub const fn end(&self) -> u64 {
        self.base.wrapping_add(self.bytes.len() as u64)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`UnwindError::Truncated`] if there are fewer, here and in all other reads.
    pub fn take(&mut self, count: u64, what: &'static str) -> Result<&'d [u8], UnwindError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, taken)) => {
                self.at = end;
                Ok(taken)
            }
            None => Err(UnwindError::Truncated { what, at: self.addr() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], UnwindError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let array = rest.first_chunk::<N>().ok_or(UnwindError::Truncated { what, at: self.addr() })?;
        self.at += N;
        Ok(*array)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, UnwindError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, UnwindError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, UnwindError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, UnwindError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 number of at most 64 bits; padding (`80 00`) is allowed.
    pub fn uleb(&mut self, what: &'static str) -> Result<u64, UnwindError> {
        let start = self.addr();
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8(what).map_err(|_| UnwindError::Truncated { what, at: start })?;
            let low = u64::from(byte & 0x7f);
            let fits = match shift {
                0..=57 => true,
                58..=63 => low >> (64 - shift) == 0,
                _ => low == 0,
            };
            // Padding beyond 16 bytes is no number that a compiler writes.
            if !fits || shift > 7 * 16 {
                return Err(UnwindError::Number { what, at: start });
            }
            if shift < 64 {
                value |= low << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A signed LEB128 number of at most 64 bits.
    pub fn sleb(&mut self, what: &'static str) -> Result<i64, UnwindError> {
        let start = self.addr();
        let mut value = 0i64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8(what).map_err(|_| UnwindError::Truncated { what, at: start })?;
            if shift >= 70 || (shift == 63 && byte & 0x7f != 0 && byte & 0x7f != 0x7f) {
                return Err(UnwindError::Number { what, at: start });
            }
            value |= i64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                if shift < 64 && byte & 0x40 != 0 {
                    value |= -1 << shift;
                }
                return Ok(value);
            }
        }
    }

    /// A byte string up to, without, its terminating 0.
    pub fn c_string(&mut self, what: &'static str) -> Result<&'d [u8], UnwindError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let length = rest.iter().position(|&byte| byte == 0);
        let length = length.ok_or(UnwindError::Truncated { what, at: self.addr() })?;
        let string = self.take(length as u64, what)?;
        self.at += 1;
        Ok(string)
    }

    /// The stored number of an encoded value, sign-extended if its format is signed, nothing added.
    ///
    /// # Errors
    /// [`UnwindError::Encoding`] for a format that does not exist.
    pub fn raw_value(&mut self, encoding: u8, what: &'static str) -> Result<u64, UnwindError> {
        match encoding & eh_pe::FORMAT {
            eh_pe::ABSPTR | eh_pe::SIGNED | eh_pe::UDATA8 | eh_pe::SDATA8 => self.u64(what),
            eh_pe::ULEB128 => self.uleb(what),
            eh_pe::SLEB128 => self.sleb(what).map(i64::cast_unsigned),
            eh_pe::UDATA2 => self.u16(what).map(u64::from),
            eh_pe::SDATA2 => self.u16(what).map(|value| i64::from(value.cast_signed()).cast_unsigned()),
            eh_pe::UDATA4 => self.u32(what).map(u64::from),
            eh_pe::SDATA4 => self.u32(what).map(|value| i64::from(value.cast_signed()).cast_unsigned()),
            _ => Err(UnwindError::Encoding { what, at: self.addr(), encoding }),
        }
    }

    /// An encoded pointer: the address it designates, before indirection, or `None` for null (a
    /// stored 0, whatever is to be added to it).
    ///
    /// `data_base` is what `DW_EH_PE_datarel` counts from, if that is known here.
    ///
    /// # Errors
    /// [`UnwindError::Encoding`] for `omit`, `textrel`, `funcrel`, `aligned` and unknown encodings.
    pub fn pointer(
        &mut self,
        encoding: u8,
        data_base: Option<u64>,
        what: &'static str,
    ) -> Result<Option<u64>, UnwindError> {
        let at = self.addr();
        let base = match encoding & eh_pe::APPLICATION {
            _ if encoding == eh_pe::OMIT => None,
            0 => Some(0),
            eh_pe::PCREL => Some(at),
            eh_pe::DATAREL => data_base,
            _ => None,
        };
        let base = base.ok_or(UnwindError::Encoding { what, at, encoding })?;
        let raw = self.raw_value(encoding, what)?;
        Ok((raw != 0).then(|| base.wrapping_add(raw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_limits() {
        let read = |bytes: &[u8]| UnwindCursor::new(bytes, 0).uleb("x");
        assert_eq!(read(&[0xe5, 0x8e, 0x26]), Ok(624_485));
        assert_eq!(read(&[0x81, 0x80, 0x00]), Ok(1));
        let mut widest = vec![0xff; 9];
        widest.push(1);
        assert_eq!(read(&widest), Ok(u64::MAX));
        *widest.last_mut().unwrap() = 2;
        assert_eq!(read(&widest), Err(UnwindError::Number { what: "x", at: 0 }));
        assert_eq!(read(&[0x80; 40]), Err(UnwindError::Number { what: "x", at: 0 }));
        assert_eq!(read(&[0x80]), Err(UnwindError::Truncated { what: "x", at: 0 }));
        let read = |bytes: &[u8]| UnwindCursor::new(bytes, 0).sleb("x");
        assert_eq!(read(&[0x78]), Ok(-8));
        assert_eq!(read(&[0x80, 0x7f]), Ok(-128));
        let mut lowest = vec![0x80; 9];
        lowest.push(0x7f);
        assert_eq!(read(&lowest), Ok(i64::MIN));
        assert!(read(&[0x80; 12]).is_err());
    }

    #[test]
    fn pointers_add_their_base_but_null_stays_null() {
        let bytes = (-16i32).to_le_bytes();
        let read = |bytes: &[u8], encoding| UnwindCursor::new(bytes, 0x1000).pointer(encoding, Some(0x5000), "p");
        assert_eq!(read(&bytes, eh_pe::PCREL | eh_pe::SDATA4), Ok(Some(0xff0)));
        assert_eq!(read(&bytes, eh_pe::DATAREL | eh_pe::SDATA4), Ok(Some(0x4ff0)));
        assert_eq!(read(&bytes, eh_pe::INDIRECT | eh_pe::PCREL | eh_pe::SDATA4), Ok(Some(0xff0)));
        assert_eq!(read(&bytes, eh_pe::UDATA4), Ok(Some(0xffff_fff0)));
        assert_eq!(read(&bytes, eh_pe::UDATA2), Ok(Some(0xfff0)));
        assert_eq!(read(&[0; 8], eh_pe::PCREL | eh_pe::SDATA4), Ok(None));
        for encoding in [eh_pe::OMIT, eh_pe::TEXTREL, eh_pe::FUNCREL, eh_pe::ALIGNED, 0x07] {
            assert!(matches!(read(&[1; 8], encoding), Err(UnwindError::Encoding { .. })), "{encoding:#x}");
        }
        assert!(UnwindCursor::new(&[1; 8], 0).pointer(eh_pe::DATAREL | eh_pe::SDATA4, None, "p").is_err());
    }
}
