//! P6: headers, segments and hardening.

use postlink_image::{Image, Segment, elf};

use crate::proof::{Findings, Obligation};
use crate::references::References;
use crate::walk::Context;

/// The page size that decides what a segment's permissions reach (x86-64).
const PAGE: u64 = 4096;

/// Bytes between two sections that are taken for padding.
const MAX_PADDING: u64 = 64;

/// User space on x86-64 has 47 bits.
const ADDRESS_SPACE_END: u64 = 1 << 47;

/// End of the last page that the segment occupies.
fn memory_end(segment: &Segment) -> u64 {
    segment.vaddr.saturating_add(segment.memsz).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

struct Check<'f> {
    findings: &'f mut Findings,
}

impl Check<'_> {
    fn fail(&mut self, rule: &'static str, old: String, new: String, message: &str) {
        self.findings.fail(Obligation::File, rule, (None, None), (old, new), message);
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, rule: &'static str, old: T, new: T, message: &str) {
        if old != new {
            self.fail(rule, format!("{old:x?}"), format!("{new:x?}"), message);
        }
    }
}

/// Checks headers and segments.
pub(crate) fn check(cx: &Context<'_, '_>, findings: &mut Findings) {
    let (old, new) = (cx.old, cx.new);
    let mut check = Check { findings };
    let (before, after) = (old.header(), new.header());
    check.equal("elf-header", (before.kind, before.machine), (after.kind, after.machine), "type and machine must stay");
    check.equal("elf-header", old.data().get(4..16), new.data().get(4..16), "the identification must stay");
    check.equal("elf-header", old.data().get(0x30..0x34), new.data().get(0x30..0x34), "e_flags must stay");
    let entry = if before.entry == 0 { 0 } else { cx.references.expected(before.entry) };
    check.equal("entry", entry, after.entry, "e_entry must be the mapped entry");
    check_loads(cx, &mut check);
    check_others(old, new, &cx.references, &mut check);
    check_sections(new, &mut check);
    let has_property = |image: &Image<'_>| image.section(".note.gnu.property").is_some();
    if has_property(old) && !has_property(new) && !new.sections().is_empty() {
        check.fail("gnu-property", ".note.gnu.property".to_owned(), String::new(), "the note is gone");
    }
}

fn loads(image: &Image<'_>) -> Vec<Segment> {
    image.segments().iter().filter(|segment| segment.kind == elf::PT_LOAD).copied().collect()
}

fn show(segment: &Segment) -> String {
    format!(
        "type {:#x} flags {:#x} offset {:#x} vaddr {:#x} filesz {:#x} memsz {:#x} align {:#x}",
        segment.kind, segment.flags, segment.offset, segment.vaddr, segment.filesz, segment.memsz, segment.align
    )
}

fn check_loads(cx: &Context<'_, '_>, check: &mut Check<'_>) {
    let (before, after) = (loads(cx.old), loads(cx.new));
    let mut last_end = 0u64;
    for load in &after {
        if load.align > 1 && (!load.align.is_power_of_two() || load.vaddr % load.align != load.offset % load.align) {
            check.fail("segment-alignment", String::new(), show(load), "address and offset must agree modulo the alignment");
        }
        if load.vaddr % PAGE != load.offset % PAGE {
            check.fail("segment-alignment", String::new(), show(load), "address and offset must agree modulo the page size");
        }
        if load.vaddr / PAGE * PAGE < last_end {
            check.fail("segment-order", String::new(), show(load), "segments must ascend and not share pages");
        }
        last_end = memory_end(load);
        // Memory that is in no file only where there was some: a kernel refuses what is too much.
        let adds = load.memsz > load.filesz
            && !before.iter().any(|old| old.vaddr <= load.vaddr && load.vaddr < memory_end(old) && last_end <= memory_end(old));
        if load.memsz < load.filesz || adds {
            check.fail("memory-size", String::new(), show(load), "the segment has less memory than bytes, or more than it had");
        }
        if last_end > ADDRESS_SPACE_END && before.iter().all(|old| memory_end(old) <= ADDRESS_SPACE_END) {
            check.fail("address-space", String::new(), show(load), "no program can have memory at these addresses");
        }
        if load.flags & elf::PF_R == 0 && !before.iter().any(|old| old.flags == load.flags && old.vaddr == load.vaddr) {
            check.fail("unreadable", String::new(), show(load), "a segment cannot be read");
        }
        let writable_code = load.flags & (elf::PF_W | elf::PF_X) == elf::PF_W | elf::PF_X;
        if writable_code && !before.iter().any(|old| old.flags == load.flags && old.vaddr == load.vaddr) {
            check.fail("writable-code", String::new(), show(load), "a segment is both writable and executable");
        }
    }
    // What was loaded is loaded with the same permissions, zero-filled memory included.
    for old in &before {
        let mut at = old.vaddr;
        let end = old.vaddr.saturating_add(old.memsz);
        while at < end {
            let Some(new) = after.iter().find(|new| at >= new.vaddr && at - new.vaddr < new.memsz) else {
                if let Some(next) = vacated_until(cx, at) {
                    at = next;
                    continue;
                }
                check.fail("memory-missing", show(old), format!("{at:#x}"), "memory that was loaded is not");
                break;
            };
            if new.flags != old.flags {
                check.fail("permissions", show(old), show(new), "the permissions of loaded memory differ");
                break;
            }
            at = new.vaddr.saturating_add(new.memsz);
        }
        // The file part must not shrink into zero-filled memory or grow over it.
        let last = end.saturating_sub(1);
        if let Some(new) = after.iter().find(|new| last >= new.vaddr && last - new.vaddr < new.memsz)
            && old.memsz > old.filesz
            && (new.vaddr.saturating_add(new.filesz) > old.vaddr.saturating_add(old.filesz))
        {
            check.fail("zero-fill", show(old), show(new), "zero-filled memory comes from the file");
        }
    }
    // Executable memory that was not: only the new text.
    for new in after.iter().filter(|new| new.flags & elf::PF_X != 0) {
        let mut at = new.vaddr;
        let end = new.vaddr.saturating_add(new.memsz);
        while at < end {
            if let Some(old) = before.iter().find(|old| old.flags & elf::PF_X != 0 && at >= old.vaddr && at - old.vaddr < old.memsz) {
                at = old.vaddr.saturating_add(old.memsz);
                continue;
            }
            let section = cx.new.sections().iter().find(|section| section.is_exec() && section.contains(at));
            match section {
                Some(section) => at = section.addr.saturating_add(section.size),
                // Between sections: fill bytes only. Memory that is not in the file (it may be as large
                // as a header says) has no business being executable.
                None => {
                    let bytes = cx.new.bytes_at(at, 1);
                    if bytes.is_none_or(|bytes| bytes != [0xcc] && bytes != [0]) {
                        check.fail("newly-executable", String::new(), format!("{at:#x} in {}", show(new)), "bytes outside of executable sections became executable");
                        break;
                    }
                    at += 1;
                }
            }
        }
    }
}

/// If what was at `addr` is elsewhere now: the end of the part of its page for which that is known. Unwind tables are
/// found by the program header, and compared by content (P4): a shorter one leaves its last bytes free, and `strip` takes
/// them off the segment.
fn vacated_until(cx: &Context<'_, '_>, addr: u64) -> Option<u64> {
    let next_page = (addr / PAGE).saturating_add(1).saturating_mul(PAGE);
    if cx.old.exec_section_at(addr).is_some() && !cx.claim.piece(addr).is_same {
        return Some(next_page);
    }
    let sections = || cx.old.sections().iter().filter(|section| section.is_alloc() && section.size > 0);
    if let Some(section) = sections().find(|section| section.contains(addr)) {
        let is_unwind = matches!(section.name, b".eh_frame" | b".eh_frame_hdr");
        return is_unwind.then(|| next_page.min(section.addr.saturating_add(section.size)));
    }
    // Padding between two sections.
    let next = sections().map(|section| section.addr).filter(|&start| start > addr).min()?;
    (next - addr <= MAX_PADDING).then(|| next_page.min(next))
}

fn check_others(old: &Image<'_>, new: &Image<'_>, references: &References<'_, '_>, check: &mut Check<'_>) {
    let kept = |segment: &&Segment| segment.kind != elf::PT_LOAD && segment.kind != PT_NULL;
    let (before, after): (Vec<_>, Vec<_>) =
        (old.segments().iter().filter(kept).collect(), new.segments().iter().filter(kept).collect());
    let kinds = |segments: &[&Segment]| {
        let mut kinds: Vec<u32> = segments.iter().map(|segment| segment.kind).collect();
        kinds.sort_unstable();
        kinds
    };
    check.equal("program-headers", kinds(&before), kinds(&after), "the program headers beside PT_LOAD must stay");
    for (index, segment) in before.iter().enumerate() {
        let rank = before.iter().take(index).filter(|other| other.kind == segment.kind).count();
        let Some(found) = after.iter().filter(|other| other.kind == segment.kind).nth(rank) else { continue };
        let mut expected = **segment;
        expected.vaddr = references.expected(segment.vaddr);
        expected.paddr = found.paddr;
        expected.offset = found.offset;
        match segment.kind {
            // The table may have grown, and moved where there was no room; see below.
            elf::PT_PHDR => {
                (expected.filesz, expected.memsz, expected.vaddr) = (found.filesz, found.memsz, found.vaddr);
            }
            // gold counts up to the alignment and strip does not: what is set aside is the same.
            elf::PT_TLS
                if segment.align > 0
                    && found.memsz >= found.filesz
                    && found.memsz.checked_next_multiple_of(segment.align)
                        == segment.memsz.checked_next_multiple_of(segment.align) =>
            {
                expected.memsz = found.memsz;
            }
            // Unwind tables are compared by content, see P4.
            elf::PT_GNU_EH_FRAME => {
                (expected.filesz, expected.memsz, expected.vaddr) = (found.filesz, found.memsz, found.vaddr);
            }
            _ => {}
        }
        if **found != expected {
            check.fail("program-header", show(segment), show(found), "the program header must stay as it was");
        }
        // Some linkers leave 0 in fields that nobody reads.
        let was_sound = old.offset_of(segment.vaddr) == Some(segment.offset);
        let is_sound = new.offset_of(found.vaddr) == Some(found.offset);
        if found.filesz > 0 && was_sound && !is_sound && !matches!(found.kind, elf::PT_GNU_STACK | elf::PT_TLS) {
            check.fail("program-header", show(segment), show(found), "address and file offset do not belong together");
        }
        if segment.kind == elf::PT_PHDR {
            let first = loads(new).first().map(|load| load.vaddr.wrapping_sub(load.offset));
            check.equal("phdr", Some(new.header().phoff), Some(found.offset), "PT_PHDR must describe e_phoff");
            check.equal("phdr", first, Some(found.vaddr.wrapping_sub(found.offset)), "AT_PHDR is computed from the first PT_LOAD");
            check.equal("phdr", (new.segments().len() * 56) as u64, found.filesz, "PT_PHDR must hold all program headers");
        }
    }
}

const PT_NULL: u32 = 0;

/// Section headers must say what the program headers say: `strip` and debuggers go by them.
fn check_sections(new: &Image<'_>, check: &mut Check<'_>) {
    let mut in_file: Vec<(u64, u64, String)> = Vec::new();
    for section in new.sections() {
        if section.kind == elf::SHT_NULL {
            continue;
        }
        let name = section.display_name().into_owned();
        if section.kind != elf::SHT_NOBITS && section.size > 0 {
            in_file.push((section.offset, section.offset + section.size, name.clone()));
        }
        if !section.is_alloc() || section.size == 0 || section.flags & elf::SHF_TLS != 0 && section.kind == elf::SHT_NOBITS {
            continue;
        }
        let load = new.segments().iter().find(|load| {
            load.kind == elf::PT_LOAD && section.addr >= load.vaddr && section.addr - load.vaddr < load.memsz
        });
        let fits = load.is_some_and(|load| {
            let offset_fits = section.kind == elf::SHT_NOBITS || section.addr - load.vaddr + load.offset == section.offset;
            offset_fits && section.addr.saturating_add(section.size) <= load.vaddr.saturating_add(load.memsz)
        });
        if !fits {
            check.fail("section-header", String::new(), format!("{name} at {:#x}", section.addr), "no segment loads the section as its header says");
            continue;
        }
        let flags = load.map_or(0, |load| load.flags);
        if section.flags & elf::SHF_EXECINSTR != 0 && flags & elf::PF_X == 0 || section.flags & elf::SHF_WRITE != 0 && flags & elf::PF_W == 0 {
            check.fail("section-header", String::new(), name, "the segment's permissions are not those of the section");
        }
    }
    in_file.sort_unstable();
    for pair in in_file.windows(2) {
        let [(_, end, first), (start, _, second)] = pair else { continue };
        if end > start {
            check.fail("section-overlap", first.clone(), second.clone(), "sections overlap in the file");
        }
    }
}
