//! `.eh_frame_hdr`: the table by which an unwinder finds the frame of an address.

use postlink_image::{Image, elf};

use super::Frames;
use crate::proof::{Findings, Obligation};

/// Checks that the search table of the new file is sorted and names exactly its frames.
pub(crate) fn check_header(old: &Image<'_>, new: &Image<'_>, frames: &Frames<'_>, findings: &mut Findings) {
    let mut fail = |rule, old_text: String, new_text: String, message: &str| {
        findings.fail(Obligation::Unwinding, rule, (None, None), (old_text, new_text), message);
    };
    let (before, after) = (old.segment(elf::PT_GNU_EH_FRAME), new.segment(elf::PT_GNU_EH_FRAME));
    let Some(segment) = after else {
        if before.is_some() {
            fail("eh-frame-hdr", "PT_GNU_EH_FRAME".to_owned(), String::new(), "the program header is gone");
        }
        return;
    };
    if let Some((_, section)) = new.section(".eh_frame_hdr")
        && (section.addr != segment.vaddr || section.size != segment.filesz)
    {
        fail("eh-frame-hdr", format!("{:#x}", section.addr), format!("{:#x}", segment.vaddr), "program header and section differ");
    }
    let Some(table) = new.bytes_at(segment.vaddr, segment.filesz).and_then(|bytes| read(bytes, segment.vaddr)) else {
        // Some linkers write a header without a table; then unwinders read `.eh_frame` itself.
        let same = before.and_then(|segment| old.bytes_at(segment.vaddr, segment.filesz)).is_some_and(|bytes| read(bytes, 0).is_none());
        if !same {
            fail("eh-frame-hdr", String::new(), format!("{:#x}", segment.vaddr), "the header cannot be read");
        }
        return;
    };
    if table.frames != frames.range().0 {
        let texts = (format!("{:#x}", frames.range().0), format!("{:#x}", table.frames));
        fail("eh-frame-hdr", texts.0, texts.1, "eh_frame_ptr does not lead to .eh_frame");
    }
    if let Some([a, b]) = table.entries.windows(2).find(|pair| matches!(pair, [a, b] if a.0 >= b.0)) {
        let text = format!("{:#x}, {:#x}", a.0, b.0);
        fail("eh-frame-hdr-order", String::new(), text, "the search table is not sorted, or has an address twice");
    }
    let mut found = table.entries;
    found.sort_unstable();
    // Of several frames with one start, linkers keep one in the table.
    let mut rest = found.as_slice();
    let mut is_found = |start: u64| {
        while let Some((_, behind)) = rest.split_first().filter(|(first, _)| first.0 < start) {
            rest = behind;
        }
        rest.first().is_some_and(|first| first.0 == start)
    };
    if let Some(missing) = frames.frames.iter().find(|frame| !is_found(frame.start)) {
        fail("eh-frame-hdr-entry", format!("{:#x}", missing.start), String::new(), "a frame is missing from the search table");
    }
    let records = &frames.records;
    let mut known = frames.frames.as_slice();
    let mut is_known = |entry: (u64, u64)| {
        while let Some((_, behind)) = known.split_first().filter(|(first, _)| (first.start, first.record) < entry) {
            known = behind;
        }
        known.first().is_some_and(|first| (first.start, first.record) == entry)
    };
    // Frames of discarded code are in the table as well.
    let stray = found.iter().find(|&&entry| {
        !is_known(entry) && !records.binary_search_by_key(&entry.1, |record| record.addr).is_ok_and(|at| {
            records.get(at).is_some_and(|record| record.code == Some(entry.0))
        })
    });
    if let Some(stray) = stray {
        fail("eh-frame-hdr-entry", String::new(), format!("{:#x} -> {:#x}", stray.0, stray.1), "an entry of the search table leads to another frame");
    }
}

struct Table {
    /// Where `.eh_frame` starts.
    frames: u64,
    /// Code address and record address.
    entries: Vec<(u64, u64)>,
}

/// Version 1 with the encodings that all linkers use: pcrel sdata4, udata4, datarel sdata4.
fn read(bytes: &[u8], addr: u64) -> Option<Table> {
    if bytes.get(..4)? != [1, 0x1b, 0x03, 0x3b] {
        return None;
    }
    let words = bytes.get(4..)?.as_chunks::<4>().0;
    let word = |at: usize| words.get(at).map(|word| i64::from(i32::from_le_bytes(*word)));
    let count = u32::try_from(word(1)? & 0xffff_ffff).ok()? as usize;
    let table = words.get(2..)?.as_chunks::<2>().0.get(..count)?;
    let at = |word: [u8; 4]| addr.wrapping_add_signed(i64::from(i32::from_le_bytes(word)));
    let entries = table.iter().map(|[code, record]| (at(*code), at(*record))).collect();
    Some(Table { frames: (addr + 4).wrapping_add_signed(word(0)?), entries })
}
