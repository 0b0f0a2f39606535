//! The tables of one function whose blocks moved: an FDE program and an LSDA for each fragment.

use postlink_base::{AddressMap, OldAddr};
use postlink_image::{Cie, Fde, Image, Lsda};

use super::lsda::{LsdaBlob, LsdaSource};
use super::program::encode;
use super::row::{RowId, Rows};
use super::{MovedFragment, UnwindFault};

/// What the FDE of one fragment says.
#[derive(Debug)]
pub(crate) struct FragmentTables {
    /// New address of the fragment.
    pub(crate) pc_begin: u64,
    /// Bytes.
    pub(crate) pc_range: u64,
    /// Call frame instructions, without padding.
    pub(crate) program: Vec<u8>,
    /// The LSDA, if the function has one.
    pub(crate) lsda: Option<LsdaBlob>,
}

/// Builds the tables of all `fragments` of the function that `fde` describes.
///
/// Addresses that no piece of a fragment stands for (alignment) continue the row before them. An empty
/// fragment has no tables.
pub(crate) fn build(
    image: &Image<'_>,
    cie: &Cie,
    fde: &Fde,
    fragments: &[MovedFragment],
    map: &AddressMap,
    relocated: &[u64],
) -> Result<Vec<FragmentTables>, UnwindFault> {
    let rows = Rows::replay(image, cie, fde)?;
    let lsda = match fde.lsda {
        Some(addr) => {
            let lsda = Lsda::parse(image, addr, fde.pc_begin)?;
            Some(LsdaSource::new(image, lsda, relocated)?)
        }
        None => None,
    };
    let target = |old: u64| map.to_new(OldAddr::new(old)).raw();
    fragments
        .iter()
        .filter(|fragment| fragment.new_start != fragment.new_end)
        .map(|fragment| {
            check_pieces(fragment)?;
            let pc_range = fragment.new_end - fragment.new_start;
            let program = encode(cie, &rows.table, &rows_of(fragment, fde, &rows)?)?;
            let lsda = lsda.as_ref().map(|lsda| lsda.fragment(fragment, &target)).transpose()?;
            Ok(FragmentTables { pc_begin: fragment.new_start, pc_range, program, lsda })
        })
        .collect()
}

/// Pieces must be in order, inside their fragment, and linear ones of equal length.
fn check_pieces(fragment: &MovedFragment) -> Result<(), UnwindFault> {
    let mut end = fragment.new_start;
    for piece in &fragment.pieces {
        let new_end = piece.new.checked_add(piece.new_len.into());
        let old_end = piece.old.checked_add(piece.old_len.into());
        match new_end {
            Some(new_end) if piece.new >= end && new_end <= fragment.new_end && old_end.is_some() => end = new_end,
            _ => return Err(UnwindFault::Piece { old: piece.old }),
        }
    }
    match fragment.pieces.first() {
        Some(piece) if fragment.new_end < fragment.new_start => Err(UnwindFault::Piece { old: piece.old }),
        None if fragment.new_end < fragment.new_start => Err(UnwindFault::Piece { old: fragment.new_start }),
        _ => Ok(()),
    }
}

/// From which distance on which row is in force in the fragment.
fn rows_of(fragment: &MovedFragment, fde: &Fde, rows: &Rows<'_>) -> Result<Vec<(u64, RowId)>, UnwindFault> {
    let mut starts: Vec<(u64, RowId)> = Vec::with_capacity(fragment.pieces.len());
    let mut push = |new: u64, row: RowId| {
        // The first row also holds for alignment before the first piece.
        let distance = if starts.is_empty() { 0 } else { new - fragment.new_start };
        if starts.last().is_none_or(|last| last.1 != row) {
            starts.push((distance, row));
        }
    };
    for piece in fragment.pieces.iter().filter(|piece| piece.new_len > 0) {
        if piece.old >= fde.pc_end && piece.old_len > 0 {
            // Trailing padding that no FDE described: any row will do, the one in force is free.
            continue;
        }
        let undescribed = UnwindFault::Undescribed { old: piece.old };
        let first = rows.index_at(piece.old).ok_or(undescribed)?;
        let in_force = rows.starts.get(first..).unwrap_or(&[]);
        if let Some(row) = in_force.first() {
            push(piece.new, row.1);
        }
        if piece.is_linear() {
            let old_end = piece.old + u64::from(piece.old_len);
            let inside = in_force.iter().skip(1).take_while(|start| start.0 < old_end);
            inside.for_each(|start| push(piece.new + (start.0 - piece.old), start.1));
        }
    }
    Ok(starts)
}
