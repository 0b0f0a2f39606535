//! Language-specific data: which landing pad an exception in a range of code reaches, and what it
//! is told there. A reader of its own for the format that `__gxx_personality_v0`, Rust's and C's
//! personality routines share (gcc's `except.c`, LLVM's "Exception Handling" tables).

use std::hash::{DefaultHasher, Hash, Hasher};

use postlink_image::Image;

/// A range of code and what happens to an exception that comes out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// First code address; the range ends where the next one starts.
    pub(crate) start: u64,
    /// Digest of the way it is handled; [`NO_DATA`], [`TERMINATE`] or the content of the actions.
    pub(crate) actions: u64,
    /// Address of the landing pad, 0 for none.
    pub(crate) pad: u64,
}

/// No LSDA covers the code: the exception passes through.
pub(crate) const NO_DATA: u64 = 0;
/// An LSDA without a call site for the code: the program is terminated (C++) or aborts (Rust).
pub(crate) const TERMINATE: u64 = 1;

/// Limit on the steps taken through action and exception-specification lists; real ones have a few.
const STEPS_MAX: usize = 4096;

/// Reads the data at `addr` for the frame `start..end` and appends its ranges, in order, with
/// [`TERMINATE`] in the gaps. `None` if it is malformed.
pub(crate) fn read(image: &Image<'_>, addr: u64, start: u64, end: u64, out: &mut Vec<Site>) -> Option<()> {
    let mut cursor = Cursor { image, at: addr };
    let pads_encoding = cursor.u8()?;
    let pads_base = if pads_encoding == OMIT { start } else { cursor.encoded(pads_encoding)? };
    let types_encoding = cursor.u8()?;
    let types_base = if types_encoding == OMIT {
        None
    } else {
        let distance = cursor.uleb()?;
        Some(cursor.at.checked_add(distance)?)
    };
    let sites_encoding = cursor.u8()?;
    let sites_size = cursor.uleb()?;
    let actions_base = cursor.at.checked_add(sites_size)?;
    let types = Types { image, base: types_base, encoding: types_encoding };
    let first = out.len();
    let mut free_from = start;
    let mut remembered: Option<(u64, u64)> = None;
    while cursor.at < actions_base {
        let offset = cursor.offset(sites_encoding)?;
        let len = cursor.offset(sites_encoding)?;
        let pad = cursor.offset(sites_encoding)?;
        let action = cursor.uleb()?;
        let from = start.checked_add(offset)?;
        let to = from.checked_add(len)?;
        // The personality routine stops at the first entry that starts behind the address, so
        // entries out of order are not found; overlapping ones are found first.
        if from < free_from || to > end {
            return None;
        }
        if len == 0 {
            continue;
        }
        if from > free_from {
            out.push(Site { start: free_from, actions: TERMINATE, pad: 0 });
        }
        free_from = to;
        let pad = if pad == 0 { 0 } else { pads_base.wrapping_add(pad) };
        let actions = match remembered {
            Some((known, digest)) if known == action => digest,
            _ => types.actions(actions_base, action)?,
        };
        remembered = Some((action, actions));
        out.push(Site { start: from, actions, pad });
    }
    if free_from < end {
        out.push(Site { start: free_from, actions: TERMINATE, pad: 0 });
    }
    let _ = first;
    Some(())
}

/// The type table, read backwards from its base.
struct Types<'a, 'd> {
    image: &'a Image<'d>,
    base: Option<u64>,
    encoding: u8,
}

impl Types<'_, '_> {
    /// Digest of the chain that starts at action `first` (1-based offset; 0: a cleanup).
    fn actions(&self, actions_base: u64, first: u64) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        if first != 0 {
            let mut cursor = Cursor { image: self.image, at: actions_base.checked_add(first - 1)? };
            for step in 0.. {
                if step == STEPS_MAX {
                    return None;
                }
                let filter = cursor.sleb()?;
                filter.hash(&mut hasher);
                match filter {
                    0 => {}
                    1.. => self.type_info(filter.unsigned_abs())?.hash(&mut hasher),
                    _ => self.specification(filter.unsigned_abs(), &mut hasher)?,
                }
                let next_at = cursor.at;
                let next = cursor.sleb()?;
                if next == 0 {
                    break;
                }
                cursor.at = next_at.checked_add_signed(next)?;
            }
        }
        // Apart from the two constants above.
        Some(hasher.finish() | 2)
    }

    /// What entry `index` of the type table designates; 0 is "any exception".
    fn type_info(&self, index: u64) -> Option<u64> {
        let width = match self.encoding & 0x0f {
            0x00 | 0x04 | 0x0c => 8,
            0x03 | 0x0b => 4,
            0x02 | 0x0a => 2,
            _ => return None,
        };
        let at = self.base?.checked_sub(index.checked_mul(width)?)?;
        Cursor { image: self.image, at }.encoded(self.encoding)
    }

    /// A list of allowed types (`throw(A, B)`), stored behind the type table.
    fn specification(&self, distance: u64, hasher: &mut DefaultHasher) -> Option<()> {
        let mut cursor = Cursor { image: self.image, at: self.base?.checked_add(distance - 1)? };
        for _ in 0..STEPS_MAX {
            let index = cursor.uleb()?;
            if index == 0 {
                return Some(());
            }
            self.type_info(index)?.hash(hasher);
        }
        None
    }
}

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;

struct Cursor<'a, 'd> {
    image: &'a Image<'d>,
    at: u64,
}

impl Cursor<'_, '_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.image.bytes_at(self.at, N as u64)?.first_chunk::<N>()?;
        self.at = self.at.checked_add(N as u64)?;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0u32..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn sleb(&mut self) -> Option<i64> {
        let mut value = 0i64;
        for shift in (0u32..64).step_by(7) {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let unused = 57u32.saturating_sub(shift);
                return Some(if unused == 0 { value } else { value << unused >> unused });
            }
        }
        None
    }

    /// The bare number of an encoding, without its base.
    fn number(&mut self, encoding: u8) -> Option<u64> {
        Some(match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.bytes()?),
            0x01 => self.uleb()?,
            0x02 => u64::from(u16::from_le_bytes(self.bytes()?)),
            0x03 => u64::from(u32::from_le_bytes(self.bytes()?)),
            0x09 => self.sleb()?.cast_unsigned(),
            0x0a => i64::from(i16::from_le_bytes(self.bytes()?)).cast_unsigned(),
            0x0b => i64::from(i32::from_le_bytes(self.bytes()?)).cast_unsigned(),
            _ => return None,
        })
    }

    /// A call-site field: an offset, so the encoding must not name a base.
    fn offset(&mut self, encoding: u8) -> Option<u64> {
        if encoding & 0xf0 == 0 { self.number(encoding) } else { None }
    }

    /// A pointer (LSB, "DWARF exception header encoding"). 0 stays 0: the null pointer. An indirect
    /// pointer is told by the place it is read from.
    fn encoded(&mut self, encoding: u8) -> Option<u64> {
        let at = self.at;
        let value = self.number(encoding)?;
        if value == 0 {
            return Some(0);
        }
        let base = match encoding & 0x70 {
            0x00 => 0,
            0x10 => at,
            _ => return None,
        };
        Some(base.wrapping_add(value))
    }
}
