//! Which ranges of the executable sections are functions: from symbols, FDEs and references.

use postlink_image::{EhFrame, Image, elf};
use postlink_isa::Flow;
use postlink_isa::x86_64::Stream;

/// A candidate for a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) section: usize,
    pub(crate) symbol: Option<u32>,
    /// No symbol or FDE gives the size.
    pub(crate) guessed: bool,
    /// Symbols or FDEs overlap in part here.
    pub(crate) overlapping: bool,
    /// The bytes are a linker's stubs (PLT) or a section that never moves.
    pub(crate) stub: bool,
}

/// What symbols and FDEs say about code.
pub(crate) struct Discovered {
    /// Sorted, disjoint.
    pub(crate) extents: Vec<Extent>,
    /// Addresses in executable sections that symbols name (functions or not), sorted, distinct.
    pub(crate) symbol_addrs: Vec<u64>,
    /// Addresses of labels: symbols without type and size; sorted, distinct.
    pub(crate) labels: Vec<u64>,
    /// Ranges in executable sections that symbols call data (`STT_OBJECT`), sorted.
    pub(crate) objects: Vec<(u64, u64)>,
    /// Sections in which functions may move.
    pub(crate) movable: Vec<usize>,
}

/// Whether functions of that section may move inside it. Others may be bounded by symbols that the
/// program observes (`__start_NAME`), or are the linker's own stubs.
fn is_movable(name: &[u8]) -> bool {
    [b".text".as_slice(), b".ltext"].iter().any(|text| {
        // `.ltext`: clang's code in the large code model.
        name.strip_prefix(*text).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    })
}

/// Sections that are the linker's or the C library's glue: one stub each, never split into functions.
fn is_stub(name: &[u8]) -> bool {
    name == b".init" || name == b".fini" || name == b".iplt" || name == b".plt" || name.starts_with(b".plt.")
}

struct Item {
    start: u64,
    end: u64,
    /// Lower is better: global function, weak, local, then an FDE without symbol.
    rank: u8,
    symbol: Option<u32>,
}

pub(crate) fn discover(image: &Image<'_>, eh_frame: Option<&EhFrame>) -> Discovered {
    let mut items: Vec<Item> = Vec::new();
    let mut unsized_functions: Vec<(u64, u32)> = Vec::new();
    let mut symbol_addrs = Vec::new();
    let mut objects = Vec::new();
    let mut labels = Vec::new();
    if let Some(table) = image.symtab() {
        for (index, symbol) in table.iter().enumerate() {
            if !symbol.is_defined() || matches!(symbol.kind(), elf::STT_SECTION | elf::STT_FILE | elf::STT_TLS) {
                continue;
            }
            let Some(section) = image.exec_section_at(symbol.value) else { continue };
            if !symbol_in_section(symbol.section, section) {
                continue;
            }
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            symbol_addrs.push(symbol.value);
            if symbol.kind() == elf::STT_NOTYPE && symbol.size == 0 {
                labels.push(symbol.value);
            }
            if symbol.kind() == elf::STT_OBJECT {
                objects.push((symbol.value, symbol.value.saturating_add(symbol.size.max(1))));
            } else if symbol.is_function() && symbol.size > 0 {
                let rank = match symbol.binding() {
                    elf::STB_GLOBAL => 0,
                    elf::STB_WEAK => 1,
                    _ => 2,
                };
                let end = symbol.value.saturating_add(symbol.size);
                items.push(Item { start: symbol.value, end, rank, symbol: Some(index) });
            } else if symbol.is_function() {
                unsized_functions.push((symbol.value, index));
            }
        }
    }
    for fde in eh_frame.map_or(&[][..], |eh| &eh.fdes) {
        if fde.pc_end > fde.pc_begin && image.exec_section_at(fde.pc_begin).is_some() {
            items.push(Item { start: fde.pc_begin, end: fde.pc_end, rank: 3, symbol: None });
        }
    }
    let by_place = |item: &Item| (item.start, std::cmp::Reverse(item.end), item.rank, item.symbol);
    rayon::join(
        || {
            symbol_addrs.sort_unstable();
            symbol_addrs.dedup();
            labels.sort_unstable();
            labels.dedup();
            objects.sort_unstable();
        },
        || items.sort_by_key(by_place),
    );
    unsized_functions.sort_unstable();

    let mut extents: Vec<Extent> = Vec::new();
    let mut ranks: Vec<u8> = Vec::new();
    for item in items {
        let Some(section) = image.exec_section_at(item.start) else { continue };
        let Some(header) = image.sections().get(section) else { continue };
        if is_stub(header.name) {
            continue;
        }
        let end = item.end.min(header.addr + header.size);
        if let (Some(last), Some(rank)) = (extents.last_mut(), ranks.last_mut())
            && item.start < last.end
        {
            // Equal starts are sorted longest first, so one that ends later starts later too. A size that reaches
            // behind the section counts as well: symbols in a table of jumps have its size (clang's -fsanitize=cfi).
            if item.end > last.end {
                last.end = end;
                last.overlapping = true;
            }
            if item.start == last.start && item.symbol.is_some() && item.rank < *rank {
                last.symbol = item.symbol;
                *rank = item.rank;
            }
            continue;
        }
        ranks.push(item.rank);
        extents.push(Extent {
            start: item.start,
            end,
            section,
            symbol: item.symbol,
            guessed: false,
            overlapping: item.end > end,
            stub: false,
        });
    }
    // Functions whose symbol has no size reach up to whatever comes next.
    let mut guessed = Vec::new();
    for (index, &(start, symbol)) in unsized_functions.iter().enumerate() {
        if extent_at(&extents, start).is_some() {
            continue;
        }
        if index > 0 && unsized_functions.get(index - 1).is_some_and(|before| before.0 == start) {
            continue;
        }
        let next = unsized_functions.iter().skip(index + 1).map(|next| next.0).find(|&next| next > start);
        if let Some(extent) = guess_extent(image, &extents, &objects, start, next, Some(symbol)) {
            guessed.push(extent);
        }
    }
    extents.extend(guessed);
    for &(start, end, section) in image.exec_ranges() {
        if image.sections().get(section).is_some_and(|header| is_stub(header.name)) {
            extents.push(Extent {
                start,
                end,
                section,
                symbol: None,
                guessed: false,
                overlapping: false,
                stub: true,
            });
        }
    }
    extents.sort_by_key(|extent| extent.start);
    extents.retain(|extent| extent.end > extent.start);
    let movable = (0..image.sections().len())
        .filter(|&index| {
            image.sections().get(index).is_some_and(|section| {
                section.is_exec() && section.kind == elf::SHT_PROGBITS && is_movable(section.name)
            })
        })
        .collect();
    Discovered { extents, symbol_addrs, labels, objects, movable }
}

/// `SHN_XINDEX` symbols are taken at their address: files with that many sections are rare.
fn symbol_in_section(stored: u16, section: usize) -> bool {
    stored == elf::SHN_XINDEX || usize::from(stored) == section
}

pub(crate) fn extent_at(extents: &[Extent], addr: u64) -> Option<usize> {
    let index = extents.partition_point(|extent| extent.start <= addr).checked_sub(1)?;
    extents.get(index).filter(|extent| addr < extent.end).map(|_| index)
}

/// A function at `start` in a gap, which ends before the next known thing, trailing padding excluded.
pub(crate) fn guess_extent(
    image: &Image<'_>,
    extents: &[Extent],
    objects: &[(u64, u64)],
    start: u64,
    next: Option<u64>,
    symbol: Option<u32>,
) -> Option<Extent> {
    let section = image.exec_section_at(start)?;
    let header = image.sections().get(section)?;
    if is_stub(header.name) {
        return None;
    }
    let mut limit = header.addr + header.size;
    if let Some(extent) = extents.get(extents.partition_point(|extent| extent.start <= start)) {
        limit = limit.min(extent.start);
    }
    if let Some(object) = objects.get(objects.partition_point(|object| object.0 <= start)) {
        limit = limit.min(object.0);
    }
    if let Some(next) = next {
        limit = limit.min(next);
    }
    let bytes = image.bytes_at(start, limit.checked_sub(start)?)?;
    let end = start + trimmed_len(bytes, start) as u64;
    (end > start).then_some(Extent {
        start,
        end,
        section,
        symbol,
        guessed: true,
        overlapping: false,
        stub: false,
    })
}

/// Length of `bytes` without trailing padding: NOPs, and traps or zeros behind a terminator.
fn trimmed_len(bytes: &[u8], addr: u64) -> usize {
    let mut stream = Stream::new(bytes, addr);
    let (mut at, mut end) = (0usize, 0usize);
    let mut terminated = false;
    while at < bytes.len() {
        if terminated && bytes.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == 0)) {
            break;
        }
        let Some(inst) = stream.next_inst() else {
            at += 1;
            end = at;
            terminated = false;
            stream.seek(at);
            continue;
        };
        at += usize::from(inst.len);
        let is_trap_byte = inst.len == 1 && bytes.get(at - 1) == Some(&0xcc);
        if inst.is_nop || (terminated && is_trap_byte) {
            continue;
        }
        end = at;
        terminated = matches!(inst.flow, Flow::Jump { .. } | Flow::IndirectJump | Flow::Return | Flow::Trap)
            || matches!(inst.flow, Flow::Call { .. } | Flow::IndirectCall);
    }
    end
}

/// Whether `bytes`, found between functions, are padding: NOPs, traps or zeros only.
pub(crate) fn is_padding(bytes: &[u8], addr: u64) -> bool {
    let mut stream = Stream::new(bytes, addr);
    let mut at = 0usize;
    while let Some(&byte) = bytes.get(at) {
        if byte == 0 || byte == 0xcc {
            at += 1;
            continue;
        }
        stream.seek(at);
        match stream.next_inst() {
            Some(inst) if inst.is_nop => at += usize::from(inst.len),
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_nops_and_traps_behind_a_terminator() {
        assert_eq!(trimmed_len(&[0xc3, 0x66, 0x90, 0x90], 0), 1);
        assert_eq!(trimmed_len(&[0xc3, 0xcc, 0xcc], 0), 1);
        assert_eq!(trimmed_len(&[0x31, 0xc0, 0xcc], 0), 3);
        assert_eq!(trimmed_len(&[0xc3, 0, 0, 0], 0), 1);
    }

    #[test]
    fn padding_is_recognised() {
        assert!(is_padding(&[0x66, 0x90, 0xcc, 0, 0x0f, 0x1f, 0], 0));
        assert!(!is_padding(&[0x90, 0x55], 0));
    }
}
