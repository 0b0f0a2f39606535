//! What the output takes over from the input as it is.

use std::ops::Range;

use postlink_base::Pages;
use postlink_image::Image;
use rayon::prelude::*;

use super::{PAGE, copied_end, no_memory};
use crate::EmitError;
use crate::placement::Placement;

const TRAP: u8 = 0xcc;

/// The start of the output: what is loaded of the input, and room for the appended code. Old code that moved away is traps.
pub(super) struct Copied {
    pub(super) out: Pages,
    /// Where the appended code begins.
    pub(super) rx_offset: u64,
}

impl Copied {
    pub(super) fn new(image: &Image<'_>, placement: &Placement, appended_start: u64) -> Result<Self, EmitError> {
        /// Bytes that one thread copies at a time.
        const PIECE: usize = 1 << 20;
        let appended_code = placement.appended_size;
        let data = image.data();
        let copied = usize::try_from(copied_end(image)).unwrap_or(0).min(data.len());
        let (mut size, mut rx_offset) = (copied as u64, 0);
        if appended_code > 0 {
            rx_offset = size.next_multiple_of(PAGE);
            size = rx_offset + appended_code;
        }
        // What follows is hardly more than the rest of the input.
        let more = data.len() - copied + 4 * PAGE as usize;
        let mut out = Pages::zeroed(usize::try_from(size).unwrap_or(0), more).map_err(no_memory)?;
        let mut traps: Vec<Range<usize>> = Vec::with_capacity(placement.vacated.len() + 1);
        let offset_of = |addr: u64| if addr == appended_start { Some(rx_offset) } else { image.offset_of(addr) };
        for &(start, end) in placement.vacated.iter().chain(&[(appended_start, appended_start + appended_code)]) {
            if start == end {
                continue;
            }
            if let Some(offset) = offset_of(start).and_then(|offset| usize::try_from(offset).ok()) {
                traps.push(offset..offset + usize::try_from(end - start).unwrap_or(0));
            }
        }
        traps.sort_unstable_by_key(|range| range.start);
        out.par_chunks_mut(PIECE).with_max_len(4).enumerate().for_each(|(index, piece)| {
            let start = index * PIECE;
            let end = start + piece.len();
            if let Some(old) = data.get(start..end.min(copied))
                && let Some(new) = piece.get_mut(..old.len())
            {
                new.copy_from_slice(old);
            }
            let first = traps.partition_point(|range| range.end <= start);
            for range in traps.iter().skip(first).take_while(|range| range.start < end) {
                if let Some(bytes) = piece.get_mut(range.start.saturating_sub(start)..range.end.min(end) - start) {
                    bytes.fill(TRAP);
                }
            }
        });
        Ok(Self { out, rx_offset })
    }
}
