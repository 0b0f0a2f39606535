//! Old address to new address for everything that operands and words designate, and the fields that
//! hold such addresses.

use postlink_base::{AddressMap, OldAddr};
use postlink_cfg::{DataRef, DataRefKind, Fixup, FixupKind};
use postlink_isa::x86_64::fits_i32;

/// Where old addresses are found in the new file.
pub(crate) struct Relocator<'a> {
    pub(crate) map: &'a AddressMap,
    /// Old `.eh_frame`: start, end; records moved inside it.
    pub(crate) eh_frame: (u64, u64),
    /// Old and new addresses of `.eh_frame` records, sorted by old address.
    pub(crate) eh_records: Vec<(u64, u64)>,
    /// Sections that moved as a whole: old start, old end, new start.
    pub(crate) moved_data: Vec<(u64, u64, u64)>,
}

impl Relocator<'_> {
    /// The new address of `old`.
    #[inline]
    pub(crate) fn to_new(&self, old: u64) -> u64 {
        if let Some(new) = self.map.moved(OldAddr::new(old)) {
            return new.raw();
        }
        if old >= self.eh_frame.0 && old < self.eh_frame.1 {
            return match self.eh_records.binary_search_by_key(&old, |record| record.0) {
                Ok(index) => self.eh_records.get(index).map_or(old, |record| record.1),
                Err(_) => old,
            };
        }
        self.moved_data
            .iter()
            .find(|range| old >= range.0 && old < range.1)
            .map_or(old, |range| old - range.0 + range.2)
    }

    /// Writes one field of code. `code` holds the bytes whose first one was at `old_start` and is at
    /// `new_start`; `None` if the field cannot hold its new content.
    pub(crate) fn patch_code(&self, code: &mut [u8], fixup: &Fixup, old_start: u64, new_start: u64) -> Option<()> {
        let at = fixup.offset as usize;
        let target = if fixup.passes_end { fixup.target } else { self.to_new(fixup.target) };
        let place = new_start.wrapping_add(u64::from(fixup.offset));
        match fixup.kind {
            FixupKind::Call | FixupKind::Branch32 | FixupKind::Address | FixupKind::Memory => {
                let next = place.wrapping_add(4 + u64::from(fixup.tail));
                let distance = target.wrapping_sub(next).cast_signed();
                write_i32(code, at, distance)
            }
            FixupKind::Branch8 => {
                let next = place.wrapping_add(1 + u64::from(fixup.tail));
                let distance = i8::try_from(target.wrapping_sub(next).cast_signed()).ok()?;
                *code.get_mut(at)? = distance.cast_unsigned();
                Some(())
            }
            FixupKind::Abs32 => {
                let field = code.get_mut(at..at + 4)?;
                field.copy_from_slice(&u32::try_from(target).ok()?.to_le_bytes());
                Some(())
            }
            FixupKind::Abs32S => write_i32(code, at, target.cast_signed()),
            FixupKind::Delta64 => add_i64(code, at, target.wrapping_sub(fixup.target).cast_signed()),
            FixupKind::Pc64 => {
                let old_place = old_start.wrapping_add(u64::from(fixup.offset));
                let moved = target.wrapping_sub(fixup.target).wrapping_sub(place.wrapping_sub(old_place));
                add_i64(code, at, moved.cast_signed())
            }
        }
    }

    /// Writes one word of data; `file` is the output, `offset` the word's place in it, `target` where it leads now.
    pub(crate) fn patch_data(file: &mut [u8], offset: usize, data_ref: &DataRef, target: u64) -> Option<()> {
        match data_ref.kind {
            DataRefKind::Abs64 => {
                file.get_mut(offset..offset + 8)?.copy_from_slice(&target.to_le_bytes());
                Some(())
            }
            DataRefKind::Abs32 => {
                let field = file.get_mut(offset..offset + 4)?;
                field.copy_from_slice(&u32::try_from(target).ok()?.to_le_bytes());
                Some(())
            }
            DataRefKind::Pc32 => write_i32(file, offset, target.wrapping_sub(data_ref.addr).cast_signed()),
            DataRefKind::Table32 => write_i32(file, offset, target.wrapping_sub(data_ref.table_base()).cast_signed()),
            DataRefKind::Pc64 | DataRefKind::Table64 => {
                // `in_table` is 0 for a distance from the word itself.
                let distance = target.wrapping_sub(data_ref.table_base());
                file.get_mut(offset..offset + 8)?.copy_from_slice(&distance.to_le_bytes());
                Some(())
            }
            DataRefKind::Delta64 => add_i64(file, offset, target.wrapping_sub(data_ref.target).cast_signed()),
        }
    }
}

fn write_i32(bytes: &mut [u8], at: usize, value: i64) -> Option<()> {
    if !fits_i32(value) {
        return None;
    }
    let value = i32::try_from(value).ok()?;
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

fn add_i64(bytes: &mut [u8], at: usize, delta: i64) -> Option<()> {
    let field = bytes.get_mut(at..at.checked_add(8)?)?;
    let old = i64::from_le_bytes(*field.first_chunk::<8>()?);
    field.copy_from_slice(&old.wrapping_add(delta).to_le_bytes());
    Some(())
}
