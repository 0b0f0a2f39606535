//! Relocation tables: RELA, read in place, and RELR, expanded.

use object::LittleEndian as LE;
use object::elf::Rela64;
use object::pod;

/// One relocation with addend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rela {
    /// Address of the field that is relocated (in linked files; not a section offset).
    pub offset: u64,
    /// Index of the symbol.
    pub symbol: u32,
    /// `R_*`.
    pub kind: u32,
    /// Addend.
    pub addend: i64,
}

/// A table of relocations.
#[derive(Clone, Copy)]
pub struct RelaTable<'d> {
    raw: &'d [Rela64<LE>],
}

impl<'d> RelaTable<'d> {
    pub(crate) fn new(data: &'d [u8]) -> Self {
        let whole = data.get(..data.len() / 24 * 24).unwrap_or(&[]);
        Self { raw: pod::slice_from_all_bytes(whole).unwrap_or(&[]) }
    }
    /// Number of relocations.
    pub const fn len(&self) -> usize {
        self.raw.len()
    }
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
    /// Relocation number `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Rela> {
        self.raw.get(index).map(|raw| {
            let info = raw.r_info.get(LE);
            Rela {
                offset: raw.r_offset.get(LE),
                symbol: (info >> 32) as u32,
                kind: (info & 0xffff_ffff) as u32,
                addend: raw.r_addend.get(LE),
            }
        })
    }
    /// All relocations in table order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Rela> + use<'d> {
        let table = *self;
        (0..table.len()).map(move |index| {
            table.get(index).unwrap_or(Rela { offset: 0, symbol: 0, kind: 0, addend: 0 })
        })
    }
}

/// The addresses that an `SHT_RELR` section names, in order (gABI proposal "relative relocations").
///
/// Each is the address of a word that holds its own addend. An 8-byte word names at most 63 of them,
/// so the result is bounded by 63 times the section's size.
pub fn relr_addresses(data: &[u8]) -> Vec<u64> {
    let mut addresses = Vec::with_capacity(data.len() / 8);
    let mut next = 0u64;
    for word in data.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        if word & 1 == 0 {
            addresses.push(word);
            next = word.wrapping_add(8);
        } else {
            for bit in 1..64u64 {
                if word >> bit & 1 != 0 {
                    addresses.push(next.wrapping_add((bit - 1) * 8));
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relr_address_words_and_bitmaps() {
        let mut data = Vec::new();
        for word in [0x1000u64, 0b1011, 1 << 63 | 1, 0x8000] {
            data.extend(word.to_le_bytes());
        }
        // After 0x1000 the first bitmap starts at 0x1008, the second 63 words later.
        let second = 0x1008 + 63 * 8 + 62 * 8;
        assert_eq!(relr_addresses(&data), [0x1000, 0x1008, 0x1018, second, 0x8000]);
    }
}
