//! The output file, put together.

use postlink_base::{AddressMap, Digest, digest};
use postlink_cfg::{Graphs, Program};
use postlink_image::{DynamicTable, Image, Section, Segment, build_id, elf};
use postlink_layout::Plan;
use tracing::trace_span;

mod relocs;

use self::relocs::is_relocation_table;
use crate::headers::{self, NewSection};
use crate::placement::Placement;
use crate::relocator::Relocator;
use crate::room::{self, Headers};
use crate::{EmitError, UnwindAddrs, UnwindBytes, UnwindPlan, code, placement, static_relocs, symbols};

/// What the output carries besides the program.
#[derive(Clone, Debug, Default)]
pub struct EmitOptions {
    /// Text of the note in `.note.postlink`.
    pub note: Vec<u8>,
    /// Leave the address map out of the file.
    pub no_map: bool,
    /// Let the program header table move to the end of the file if it cannot grow where it stands.
    /// Such a file runs everywhere, but `strip` (binutils 2.40) damages it.
    pub may_move_headers: bool,
    /// Bring the static relocations up to date instead of leaving them out. Those of debug information and of unwind
    /// tables are left out all the same.
    pub keep_relocs: bool,
}

/// A finished output.
pub struct Output {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Where code went.
    pub map: AddressMap,
    /// Sections of the input that the output does not have, static relocations not counted.
    pub dropped_sections: Vec<String>,
    /// Tables of static relocations that the output does not have although it was to keep them.
    pub dropped_relocations: Vec<String>,
    /// Bytes of code in the appended segment.
    pub appended_code: u64,
    /// The program header table moved; see [`EmitOptions::may_move_headers`].
    pub moved_headers: bool,
    /// File offset of the note, [`EmitOptions::note`], in `bytes`.
    pub note_offset: usize,
    /// Digest of `bytes` with all bytes of the build id zero. The build id is taken from it, so bytes of the
    /// note that are filled in later are covered as they were given.
    pub content: Digest,
}

const PAGE: u64 = 0x1000;

/// First address that no program can have: user space on x86-64 has 47 bits.
const ADDRESS_SPACE_END: u64 = 1 << 47;

/// How many bytes of the output may lie empty between its old end and a program header table that had
/// to move (its file offset follows from its address).
const MAX_HOLE: u64 = 1 << 30;

const TRAP: u8 = 0xcc;

/// Where the unwind tables go.
struct UnwindPlaces {
    eh_frame: Option<Place>,
    hdr: Option<Place>,
    lsda: Option<Place>,
}

/// One table's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    addr: u64,
    size: u64,
    /// In the appended read-only segment.
    appended: bool,
}

/// Grows while things are put into the appended read-only segment.
struct ReadOnly {
    start: u64,
    end: u64,
    /// What a shorter `.eh_frame` leaves free of its old range: used first, it needs no segment.
    slack: (u64, u64),
}

impl ReadOnly {
    fn new(start: u64) -> Self {
        Self { start, end: start, slack: (0, 0) }
    }
    /// Takes bytes from the slack if they fit there, else from the segment.
    fn take_slack(&mut self, size: u64, align: u64, residue: u64) -> u64 {
        let align = align.max(1);
        let addr = self.slack.0 + (residue % align + align - self.slack.0 % align) % align;
        if addr + size <= self.slack.1 {
            self.slack.0 = addr + size;
            return addr;
        }
        self.take(size, align, residue)
    }
    /// Whether that much fits into the slack, whatever its alignment.
    const fn has_slack(&self, size: u64) -> bool {
        self.slack.1 >= self.slack.0 + size + 16
    }
    /// Takes `size` bytes whose address is `residue` modulo `align`.
    fn take(&mut self, size: u64, align: u64, residue: u64) -> u64 {
        let align = align.max(1);
        let base = self.end;
        let addr = base + (residue % align + align - base % align) % align;
        self.end = addr + size;
        addr
    }
    const fn is_used(&self) -> bool {
        self.end > self.start
    }
}

/// Writes `program` as `plan` says. `graphs` are the program's, as far as they were built; they are freed as soon as
/// they are not needed any more.
///
/// # Errors
/// [`EmitError::Function`] if one function cannot follow its plan (it can stay instead); others if
/// the file as a whole cannot be written.
pub fn emit(
    program: &Program<'_>,
    graphs: Graphs,
    plan: &Plan,
    options: &EmitOptions,
) -> Result<Output, EmitError> {
    let image = program.image;
    let assembled = trace_span!("assemble").in_scope(|| code::assemble(program, &graphs, plan))?;
    drop(graphs);
    let span = trace_span!("place").entered();
    let demands = code::demands(program, plan, &assembled);
    let memory_end = loads(image).map(|segment| segment.vaddr + segment.memsz).max().unwrap_or(0);
    if memory_end > ADDRESS_SPACE_END {
        let why = format!("a segment ends at {memory_end:#x}, which is outside of a program's address space");
        return Err(EmitError::Room { what: "new segments", why });
    }
    let appended_start = memory_end.next_multiple_of(PAGE);
    let placement = placement::place(program, plan, &demands, appended_start);
    let mapped = code::map(program, plan, &assembled, &placement)?;
    drop(span);
    let span = trace_span!("unwind").entered();
    let unwind = match &program.eh_frame {
        Some(eh_frame) if !mapped.map.ranges().is_empty() => {
            Some(UnwindPlan::build(image, eh_frame, &mapped.moved, &mapped.map)?)
        }
        _ => None,
    };

    let appended_code = placement.appended_size;
    let mut ro_start = (appended_start + appended_code).next_multiple_of(PAGE);
    let mut read_only = ReadOnly::new(ro_start);
    let mut places = unwind_places(program, unwind.as_ref(), &mut read_only);
    let more = u64::from(appended_code > 0) + u64::from(read_only.is_used());
    let mut headers = room::find(program, more);
    let block_fits_slack = matches!(&headers, Headers::InPlace { block: Some(block) }
        if read_only.has_slack(block.end - block.start));
    if headers != (Headers::InPlace { block: None }) && !read_only.is_used() && !block_fits_slack {
        // What makes room needs a segment of its own.
        headers = room::find(program, more + 1);
    }
    if headers == Headers::Moved {
        if !options.may_move_headers {
            return Err(EmitError::HeaderRoom);
        }
        ro_start = moved_table_start(image, ro_start, appended_code);
        read_only = ReadOnly::new(ro_start);
        places = unwind_places(program, unwind.as_ref(), &mut read_only);
        let segments = image.segments().len() as u64 + u64::from(appended_code > 0) + 1;
        read_only.take(segments * 56, 8, 0);
        let hole = ro_start.wrapping_sub(first_load_bias(image)).saturating_sub(image.data().len() as u64);
        if hole > MAX_HOLE {
            let why = format!("their place in the file would follow {hole} empty bytes, as much as the program's memory has");
            return Err(EmitError::Room { what: "program headers", why });
        }
    }
    let moved_block = match &headers {
        Headers::InPlace { block: Some(block) } => {
            let new = read_only.take_slack(block.end - block.start, 16, block.start);
            Some((block.clone(), new))
        }
        _ => None,
    };

    drop(span);
    let span = trace_span!("copy").entered();
    let mut assembly = Assembly {
        program,
        out: Vec::new(),
        placement: &placement,
        appended_start,
        appended_code,
        rx_offset: 0,
        ro_offset: 0,
        read_only,
        headers,
        moved_block,
        note_offset: 0,
        added_branches: Vec::new(),
    };
    if options.keep_relocs {
        assembly.added_branches = static_relocs::added_branches(program, plan, &assembled, &placement);
    }
    assembly.reserve();
    drop(span);
    let span = trace_span!("unwind bytes").entered();
    let unwind_bytes = match &unwind {
        Some(unwind) => assembly.unwind_bytes(unwind, &places)?,
        None => UnwindBytes::default(),
    };
    drop(span);
    let span = trace_span!("code").entered();
    let relocator = Relocator {
        map: &mapped.map,
        eh_frame: program.eh_frame.as_ref().map_or((0, 0), |eh| (eh.addr, eh.addr + eh.size)),
        eh_records: unwind_bytes.record_map.clone(),
        moved_data: moved_data(image, &assembly, &places),
    };
    assembly.fill_vacated();
    code::write(program, plan, &assembled, &placement, &relocator, |addr, bytes| assembly.store(addr, bytes))?;
    if plan.mode == postlink_layout::Mode::Hot {
        assembly.entry_jumps(plan, &relocator);
    }
    drop(span);
    let _span = trace_span!("finish").entered();
    assembly.store_unwind(&places, &unwind_bytes)?;
    let dropped = assembly.finish(plan, &assembled, &relocator, &places, &mapped.map, options)?;
    let (dropped_relocations, dropped_sections) =
        dropped.into_iter().partition(|name| name.starts_with(".rela.") || name.starts_with(".rel."));
    let content = assembly.build_id();
    let moved_headers = assembly.headers == Headers::Moved;
    let note_offset = assembly.note_offset;
    let bytes = std::mem::take(&mut assembly.out);
    drop(assembly);
    drop(relocator);
    Ok(Output {
        bytes,
        map: mapped.map,
        dropped_sections,
        dropped_relocations,
        appended_code,
        moved_headers,
        note_offset,
        content,
    })
}

fn loads<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a Segment> {
    image.segments().iter().filter(|segment| segment.kind == elf::PT_LOAD)
}

/// Data that has another address now: old start, old end, new start.
fn moved_data(image: &Image<'_>, assembly: &Assembly<'_, '_>, places: &UnwindPlaces) -> Vec<(u64, u64, u64)> {
    let block = assembly.moved_block.iter().map(|(block, new)| (block.start, block.end, *new));
    let header = image.section(".eh_frame_hdr").and_then(|(_, old)| {
        let new = places.hdr?;
        (new.addr != old.addr).then_some((old.addr, old.addr + old.size, new.addr))
    });
    block.chain(header).collect()
}

/// Address minus file offset in the first load segment.
fn first_load_bias(image: &Image<'_>) -> u64 {
    loads(image).next().map_or(0, |first| first.vaddr.wrapping_sub(first.offset))
}

/// End of what is copied from the input: all that is loaded, and the program headers.
fn copied_end(image: &Image<'_>) -> u64 {
    // A segment without bytes in the file may name any offset; one inside the file is that of an empty
    // section, which stays inside.
    let file_size = image.data().len() as u64;
    let file_end = loads(image).map(|segment| (segment.offset + segment.filesz).min(file_size)).max().unwrap_or(0);
    file_end.max(image.header().phoff + image.segments().len() as u64 * 56)
}

/// Start of a read-only segment that holds the program headers: its address minus its file offset
/// must equal the first load segment's, and its offset must lie behind everything else.
fn moved_table_start(image: &Image<'_>, lowest: u64, appended_code: u64) -> u64 {
    let bias = first_load_bias(image);
    let behind = (copied_end(image).next_multiple_of(PAGE) + appended_code).next_multiple_of(PAGE);
    lowest.max(behind.wrapping_add(bias)).next_multiple_of(PAGE)
}

/// Chooses places: in place if the new table fits there, the header table's bytes as well if that
/// helps, else the appended segment.
fn unwind_places(program: &Program<'_>, unwind: Option<&UnwindPlan<'_>>, read_only: &mut ReadOnly) -> UnwindPlaces {
    let none = UnwindPlaces { eh_frame: None, hdr: None, lsda: None };
    let (Some(unwind), Some(eh_frame)) = (unwind, &program.eh_frame) else { return none };
    let image = program.image;
    let header = image.section(".eh_frame_hdr").map(|(_, section)| (section.addr, section.size));
    let (need, align) = (unwind.eh_frame_size(), unwind.eh_frame_align());
    let mut hdr_place = header.filter(|_| unwind.hdr_size() > 0).map(|(addr, size)| {
        let fits = unwind.hdr_size() <= size;
        let addr = if fits { addr } else { 0 };
        Place { addr, size: unwind.hdr_size(), appended: !fits }
    });
    let mut eh_place = Place { addr: eh_frame.addr, size: need, appended: false };
    if need > eh_frame.size || eh_frame.addr % align != 0 {
        let joined = header.filter(|&(addr, size)| {
            let start = addr.next_multiple_of(align);
            let adjacent = addr + size <= eh_frame.addr && eh_frame.addr - (addr + size) < 16;
            adjacent && start + need <= eh_frame.addr + eh_frame.size
        });
        match (joined, &mut hdr_place) {
            (Some((addr, _)), Some(hdr)) => {
                eh_place.addr = addr.next_multiple_of(align);
                hdr.appended = true;
            }
            _ => eh_place = Place { addr: 0, size: need, appended: true },
        }
    }
    if eh_place.appended {
        eh_place.addr = read_only.take(need, align.max(8), 0);
    } else {
        let free = (eh_place.addr + need).next_multiple_of(16);
        read_only.slack = (free, (eh_frame.addr + eh_frame.size).max(free));
    }
    if let Some(hdr) = &mut hdr_place
        && hdr.appended
    {
        hdr.addr = read_only.take(hdr.size, 4, 0);
    }
    let lsda = (unwind.lsda_size() > 0).then(|| Place {
        addr: read_only.take_slack(unwind.lsda_size(), unwind.lsda_align(), 0),
        size: unwind.lsda_size(),
        appended: true,
    });
    UnwindPlaces { eh_frame: Some(eh_place), hdr: hdr_place, lsda }
}

struct Assembly<'a, 'd> {
    program: &'a Program<'d>,
    out: Vec<u8>,
    placement: &'a Placement,
    appended_start: u64,
    appended_code: u64,
    rx_offset: u64,
    ro_offset: u64,
    read_only: ReadOnly,
    headers: Headers,
    moved_block: Option<(room::Block, u64)>,
    note_offset: usize,
    /// Filled if static relocations are kept.
    added_branches: Vec<static_relocs::AddedBranch>,
}

impl Assembly<'_, '_> {
    fn image(&self) -> &Image<'_> {
        self.program.image
    }

    /// Copies what is loaded and makes room for the appended segments.
    fn reserve(&mut self) {
        let image = self.program.image;
        let copied = usize::try_from(copied_end(image)).unwrap_or(0).min(image.data().len());
        let appended = (self.appended_code + (self.read_only.end - self.read_only.start)) as usize;
        self.out.reserve(copied + appended + (image.data().len() - copied) / 2 + 4 * PAGE as usize);
        self.out.extend_from_slice(image.data().get(..copied).unwrap_or(&[]));
        if self.appended_code > 0 {
            self.rx_offset = self.pad_to(PAGE);
            let size = usize::try_from(self.appended_code).unwrap_or(0);
            self.out.resize(self.out.len() + size, TRAP);
        }
        if self.headers == Headers::Moved {
            self.ro_offset = self.read_only.start.wrapping_sub(first_load_bias(image));
            let size = self.ro_offset + self.read_only.end - self.read_only.start;
            self.out.resize(usize::try_from(size).unwrap_or(0), 0);
        } else if self.read_only.is_used() {
            self.ro_offset = self.pad_to(PAGE);
            let size = usize::try_from(self.read_only.end - self.read_only.start).unwrap_or(0);
            self.out.resize(self.out.len() + size, 0);
        }
    }

    fn pad_to(&mut self, align: u64) -> u64 {
        let at = (self.out.len() as u64).next_multiple_of(align);
        self.out.resize(usize::try_from(at).unwrap_or(0), 0);
        at
    }

    /// File offset of a new address.
    fn offset_of(&self, addr: u64) -> Option<usize> {
        let rx_end = self.appended_start + self.appended_code;
        let offset = if addr >= self.appended_start && addr < rx_end {
            addr - self.appended_start + self.rx_offset
        } else if addr >= self.read_only.start && addr < self.read_only.end {
            addr - self.read_only.start + self.ro_offset
        } else {
            self.image().offset_of(addr)?
        };
        usize::try_from(offset).ok()
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Option<()> {
        let offset = self.offset_of(addr)?;
        self.out.get_mut(offset..offset.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    /// Old code that moved away becomes traps.
    fn fill_vacated(&mut self) {
        for &(start, end) in &self.placement.vacated {
            let Some(offset) = self.offset_of(start) else { continue };
            let size = usize::try_from(end - start).unwrap_or(0);
            if let Some(bytes) = self.out.get_mut(offset..offset + size) {
                bytes.fill(TRAP);
            }
        }
    }

    /// In hot mode the old entry leads to the new one: for callers that nobody could see.
    fn entry_jumps(&mut self, plan: &Plan, relocator: &Relocator<'_>) {
        for (id, function) in self.program.functions.iter_enumerated() {
            let stays = matches!(plan.functions.get(id), Some(postlink_layout::FunctionPlan::Stay) | None);
            if stays || function.size() < 5 || function.traits.size_guessed {
                continue;
            }
            let new = relocator.to_new(function.start);
            let distance = new.wrapping_sub(function.start + 5).cast_signed();
            if let Ok(distance) = i32::try_from(distance) {
                let jump = postlink_isa::x86_64::encode_jmp_long(distance);
                // The range is old text, which is in the file: fill_vacated wrote there.
                let _ = self.store(function.start, &jump);
                self.added_branches.push(static_relocs::AddedBranch {
                    place: function.start + 1,
                    target: function.start,
                    function: (function.start, function.start),
                });
            }
        }
    }

    fn unwind_bytes(&self, unwind: &UnwindPlan<'_>, places: &UnwindPlaces) -> Result<UnwindBytes, EmitError> {
        let shift = |place: &Place| place.addr;
        Ok(unwind.write(UnwindAddrs {
            eh_frame: places.eh_frame.as_ref().map_or(0, shift),
            hdr: places.hdr.as_ref().map(shift),
            lsda: places.lsda.as_ref().map_or(0, shift),
        })?)
    }

    fn store_unwind(&mut self, places: &UnwindPlaces, bytes: &UnwindBytes) -> Result<(), EmitError> {
        let Some(eh_place) = places.eh_frame else { return Ok(()) };
        // Nothing of the old tables may be left.
        if let Some(eh_frame) = &self.program.eh_frame {
            let zeros = vec![0u8; usize::try_from(eh_frame.size).unwrap_or(0)];
            let _ = self.store(eh_frame.addr, &zeros);
        }
        if let Some((_, header)) = self.program.image.section(".eh_frame_hdr") {
            let zeros = vec![0u8; usize::try_from(header.size).unwrap_or(0)];
            let _ = self.store(header.addr, &zeros);
        }
        let mut put = |place: Option<Place>, bytes: &[u8]| match place {
            Some(place) if !bytes.is_empty() => self
                .store(place.addr, bytes)
                .ok_or_else(|| EmitError::Room { what: "unwind tables", why: "their place is not in the file".into() }),
            _ => Ok(()),
        };
        put(Some(eh_place), &bytes.eh_frame)?;
        put(places.hdr, &bytes.hdr)?;
        put(places.lsda, &bytes.lsda)
    }

    /// Everything that is not loaded, and all headers.
    fn finish(
        &mut self,
        plan: &Plan,
        assembled: &code::Assembled,
        relocator: &Relocator<'_>,
        places: &UnwindPlaces,
        map: &AddressMap,
        options: &EmitOptions,
    ) -> Result<Vec<String>, EmitError> {
        let image = self.program.image;
        if let Some((block, new)) = &self.moved_block {
            let (new, size) = (*new, block.end - block.start);
            let old = image.bytes_at(block.start, size).unwrap_or(&[]).to_vec();
            if let Some(offset) = self.image().offset_of(block.start).and_then(|offset| usize::try_from(offset).ok())
                && let Some(bytes) = self.out.get_mut(offset..offset + old.len())
            {
                bytes.fill(0);
            }
            self.store(new, &old);
        }
        let (mut sections, dropped) = self.sections(places, options);
        let map_of_sections = headers::section_map(image.sections().len(), &sections);
        let appended_index = sections
            .iter()
            .position(|section| section.name == b".text.postlink" && section.old_index.is_none())
            .and_then(|index| u16::try_from(index).ok());
        let section_addrs: Vec<(usize, u64)> = sections
            .iter()
            .filter_map(|section| {
                let old = section.old_index?;
                let changed = image.sections().get(old).is_some_and(|old| old.addr != section.addr);
                changed.then_some((old, section.addr))
            })
            .collect();
        let context = symbols::Context {
            program: self.program,
            plan,
            assembled,
            relocator,
            section_map: &map_of_sections,
            appended_code: appended_index
                .map(|index| (self.appended_start, self.appended_start + self.appended_code, index)),
            section_addrs: &section_addrs,
            fragment_starts: symbols::fragment_starts(plan, assembled, self.placement),
        };
        if let Some(table) = image.dynsym() {
            let bytes = symbols::dynsym(&context, &table);
            if let Some(section) = image.sections().get(table.section) {
                self.store(self.block_addr(section.addr), &bytes);
            }
            self.dynamic_tags();
        }
        let symtab = image.symtab().map(|table| (table.section, symbols::symtab(&context, &table)));
        drop(context);
        let strtab_index = symtab
            .as_ref()
            .and_then(|(index, _)| image.sections().get(*index))
            .map(|section| section.link as usize);

        // Contents of sections that are not loaded, in order.
        let (names, name_offsets) = headers::section_names(&sections);
        let encoded_map = map.encode();
        for index in 0..sections.len() {
            let section = &sections[index];
            // Relocations depend on what is written last; see below.
            if section.flags & elf::SHF_ALLOC != 0 || section.kind == elf::SHT_NULL || is_relocation_table(section) {
                continue;
            }
            let content: &[u8] = match section.old_index {
                Some(old) if Some(old) == symtab.as_ref().map(|(index, _)| *index) => {
                    symtab.as_ref().map_or(&[], |(_, symtab)| &symtab.symbols)
                }
                Some(old) if Some(old) == strtab_index => symtab.as_ref().map_or(&[], |(_, symtab)| &symtab.strings),
                Some(old) if old == image.header().shstrndx as usize => &names,
                Some(old) => image.sections().get(old).map_or(&[], |old| image.section_data(old)),
                None if section.name == b".postlink.map" => &encoded_map,
                None => &options.note,
            };
            let align = section.align.clamp(1, PAGE);
            let is_symtab = section.kind == elf::SHT_SYMTAB;
            let is_note = section.old_index.is_none() && section.name == b".note.postlink";
            let size = content.len() as u64;
            let offset = self.pad_to(align);
            if is_note {
                self.note_offset = self.out.len();
            }
            self.out.extend_from_slice(content);
            let section = &mut sections[index];
            section.offset = offset;
            section.size = size;
            if is_symtab && let Some((_, symtab)) = &symtab {
                section.info = symtab.locals;
            }
        }
        self.patch_words(relocator, &sections)?;
        if let Some((_, symtab)) = symtab.as_ref().filter(|_| options.keep_relocs) {
            self.relative_words(relocator);
            self.static_relocations(relocator, symtab, &map_of_sections, appended_index, places, &mut sections);
        }
        self.write_headers(&sections, &map_of_sections, &name_offsets, relocator, places)?;
        Ok(dropped)
    }

    /// The sections of the output, in order; those that are not loaded have no offset yet. Also the
    /// names of sections that are left out.
    fn sections(&self, places: &UnwindPlaces, options: &EmitOptions) -> (Vec<NewSection>, Vec<String>) {
        let image = self.program.image;
        let mut dropped = Vec::new();
        let mut loaded = Vec::new();
        let mut appended = Vec::new();
        let mut rest = Vec::new();
        let mut relocations = Vec::new();
        if self.appended_code > 0 {
            let flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
            let (addr, offset, size) = (self.appended_start, self.rx_offset, self.appended_code);
            appended.push(NewSection::fresh(b".text.postlink", elf::SHT_PROGBITS, flags, addr, offset, size, 64));
        }
        for (index, section) in image.sections().iter().enumerate() {
            let mut new = NewSection::kept(index, section);
            if index == 0 {
                loaded.push(new);
                continue;
            }
            if !section.is_alloc() {
                if is_static_relocation(section) {
                    if options.keep_relocs && static_relocs::is_kept(image, section, places.eh_frame.is_some()) {
                        new.info_is_section = true;
                        relocations.push(new);
                    } else if options.keep_relocs {
                        dropped.push(section.display_name().into_owned());
                    }
                    continue;
                }
                if is_debug(section.name) {
                    dropped.push(section.display_name().into_owned());
                    continue;
                }
                rest.push(new);
                continue;
            }
            if let Some(place) = self.new_place(index, section, places) {
                new.addr = place.addr;
                new.size = place.size;
                new.offset = self.offset_of(place.addr).map_or(0, |offset| offset as u64);
                if place.appended {
                    appended.push(new);
                    continue;
                }
            }
            loaded.push(new);
        }
        if let Some(lsda) = places.lsda {
            let offset = self.offset_of(lsda.addr).map_or(0, |offset| offset as u64);
            let name = b".gcc_except_table.postlink";
            appended.push(NewSection::fresh(name, elf::SHT_PROGBITS, elf::SHF_ALLOC, lsda.addr, offset, lsda.size, 4));
        }
        loaded.extend(appended);
        // By address, as strip and objcopy expect it; the null section has address 0 and stays first.
        loaded.sort_by_key(|section| section.addr);
        let at = rest
            .iter()
            .position(|section| matches!(section.kind, elf::SHT_SYMTAB | elf::SHT_STRTAB))
            .unwrap_or(rest.len());
        let mut own = vec![NewSection::fresh(b".note.postlink", elf::SHT_NOTE, 0, 0, 0, 0, 4)];
        if !options.no_map {
            own.push(NewSection::fresh(b".postlink.map", elf::SHT_PROGBITS, 0, 0, 0, 0, 1));
        }
        rest.splice(at..at, own);
        loaded.extend(rest);
        let code = loaded.iter().position(|section| section.old_index.is_none() && section.name == b".text.postlink");
        if let Some(code) = code.filter(|_| !relocations.is_empty()) {
            let mut table = NewSection::fresh(b".rela.text.postlink", elf::SHT_RELA, elf::SHF_INFO_LINK, 0, 0, 0, 8);
            table.info = u32::try_from(code).unwrap_or(0);
            table.old_link = image.symtab().map_or(0, |symtab| u32::try_from(symtab.section).unwrap_or(0));
            table.entsize = 24;
            relocations.push(table);
        }
        loaded.extend(relocations);
        (loaded, dropped)
    }

    /// The new address of something that may stand in the moved block.
    fn block_addr(&self, addr: u64) -> u64 {
        match &self.moved_block {
            Some((block, new)) if addr >= block.start && addr < block.end => addr - block.start + new,
            _ => addr,
        }
    }

    /// Dynamic tags that designate tables in the moved block.
    fn dynamic_tags(&mut self) {
        const TABLES: [u64; 7] =
            [elf::DT_HASH, elf::DT_STRTAB, elf::DT_SYMTAB, 0x6fff_fef5, 0x6fff_fff0, 0x6fff_fffc, 0x6fff_fffe];
        for entry in DynamicTable::read(self.program.image).entries {
            let new = self.block_addr(entry.value);
            if !TABLES.contains(&entry.tag) || new == entry.value {
                continue;
            }
            let at = usize::try_from(entry.value_offset).unwrap_or(usize::MAX);
            if let Some(field) = at.checked_add(8).and_then(|end| self.out.get_mut(at..end)) {
                field.copy_from_slice(&new.to_le_bytes());
            }
        }
    }

    /// The new place of a loaded section that moved or changed its size.
    fn new_place(&self, index: usize, section: &Section<'_>, places: &UnwindPlaces) -> Option<Place> {
        if self.program.eh_frame.as_ref().is_some_and(|eh| eh.section == index) {
            return places.eh_frame;
        }
        if section.name == b".eh_frame_hdr" {
            return places.hdr;
        }
        let (block, new) = self.moved_block.as_ref()?;
        block.sections.contains(&index).then(|| Place {
            addr: section.addr - block.start + new,
            size: section.size,
            appended: true,
        })
    }

    /// Words outside of code that designate code.
    fn patch_words(&mut self, relocator: &Relocator<'_>, sections: &[NewSection]) -> Result<(), EmitError> {
        let image = self.program.image;
        let loaded_end = loads(image).map(|segment| segment.offset + segment.filesz).max().unwrap_or(0);
        for data_ref in &self.program.data_refs {
            let offset = if data_ref.file_offset < loaded_end {
                Some(data_ref.file_offset)
            } else {
                // A section that is not loaded has a new place in the file.
                sections.iter().find_map(|section| {
                    let old = image.sections().get(section.old_index?)?;
                    let inside = data_ref.file_offset >= old.offset && data_ref.file_offset - old.offset < old.size;
                    // .bss has a size but no bytes in the file: its offsets are those of what follows.
                    let in_file = !old.is_alloc() && old.kind != elf::SHT_NOBITS;
                    (inside && in_file).then(|| data_ref.file_offset - old.offset + section.offset)
                })
            };
            let Some(offset) = offset.and_then(|offset| usize::try_from(offset).ok()) else { continue };
            relocator.patch_data(&mut self.out, offset, data_ref).ok_or(EmitError::Field {
                offset: data_ref.file_offset,
                width: 4,
                target: data_ref.target,
            })?;
        }
        Ok(())
    }

    fn write_headers(
        &mut self,
        sections: &[NewSection],
        section_map: &[u16],
        name_offsets: &[u32],
        relocator: &Relocator<'_>,
        places: &UnwindPlaces,
    ) -> Result<(), EmitError> {
        let image = self.program.image;
        let shoff = self.pad_to(8);
        let table = headers::section_headers(sections, section_map, name_offsets);
        self.out.extend_from_slice(&table);
        let segments = self.segments(places);
        let table = headers::program_headers(&segments);
        let phoff = match self.headers {
            Headers::InPlace { .. } => image.header().phoff,
            Headers::Moved => self.read_only_table_offset(table.len() as u64),
        };
        let at = usize::try_from(phoff).unwrap_or(0);
        self.out
            .get_mut(at..at + table.len())
            .ok_or_else(|| EmitError::Room { what: "program headers", why: "the table leaves the file".into() })?
            .copy_from_slice(&table);
        let entry = relocator.to_new(image.header().entry);
        let old_names = image.header().shstrndx as usize;
        let names = section_map.get(old_names).copied().unwrap_or(0);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = self.out.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(0x18, &entry.to_le_bytes());
        put(0x20, &phoff.to_le_bytes());
        put(0x28, &shoff.to_le_bytes());
        put(0x38, &u16::try_from(segments.len()).unwrap_or(u16::MAX).to_le_bytes());
        put(0x3c, &u16::try_from(sections.len()).unwrap_or(0).to_le_bytes());
        put(0x3e, &names.to_le_bytes());
        Ok(())
    }

    /// The moved program header table is the last thing in the read-only segment.
    fn read_only_table_offset(&self, size: u64) -> u64 {
        self.ro_offset + (self.read_only.end - self.read_only.start) - size
    }

    fn segments(&self, places: &UnwindPlaces) -> Vec<Segment> {
        let image = self.program.image;
        let mut segments: Vec<Segment> = image.segments().to_vec();
        let extra = u64::from(self.appended_code > 0) + u64::from(self.read_only.is_used());
        let table_size = (segments.len() as u64 + extra) * 56;
        for segment in &mut segments {
            match segment.kind {
                elf::PT_PHDR => {
                    segment.filesz = table_size;
                    segment.memsz = table_size;
                    if self.headers == Headers::Moved {
                        segment.offset = self.read_only_table_offset(table_size);
                        segment.vaddr = self.read_only.end - table_size;
                        segment.paddr = segment.vaddr;
                    }
                }
                elf::PT_GNU_EH_FRAME => {
                    if let Some(hdr) = places.hdr {
                        segment.vaddr = hdr.addr;
                        segment.paddr = hdr.addr;
                        segment.filesz = hdr.size;
                        segment.memsz = hdr.size;
                        segment.offset = self.offset_of(hdr.addr).map_or(0, |offset| offset as u64);
                    }
                }
                elf::PT_INTERP | elf::PT_NOTE | elf::PT_GNU_PROPERTY => {
                    if let Some((block, new)) = &self.moved_block
                        && segment.vaddr >= block.start
                        && segment.vaddr < block.end
                    {
                        let addr = segment.vaddr - block.start + new;
                        segment.vaddr = addr;
                        segment.paddr = addr;
                        segment.offset = self.offset_of(addr).map_or(0, |offset| offset as u64);
                    }
                }
                elf::PT_LOAD if segment.offset == 0 && self.headers != Headers::Moved => {
                    // The table may have grown over the end of a segment that holds only headers.
                    let end = image.header().phoff + table_size;
                    segment.filesz = segment.filesz.max(end);
                    segment.memsz = segment.memsz.max(end);
                }
                _ => {}
            }
        }
        let last_load = segments.iter().rposition(|segment| segment.kind == elf::PT_LOAD).map_or(0, |index| index + 1);
        let mut new = Vec::new();
        if self.appended_code > 0 {
            let flags = elf::PF_R | elf::PF_X;
            new.push(headers::load_segment(flags, self.rx_offset, self.appended_start, self.appended_code));
        }
        if self.read_only.is_used() {
            let size = self.read_only.end - self.read_only.start;
            new.push(headers::load_segment(elf::PF_R, self.ro_offset, self.read_only.start, size));
        }
        segments.splice(last_load..last_load, new);
        segments
    }

    /// Writes a new build id, derived from the content of the whole file with the old id zeroed. Gives that
    /// content's digest.
    fn build_id(&mut self) -> Digest {
        let place = build_id(self.program.image).and_then(|(id, offset)| {
            let offset = match &self.moved_block {
                Some((block, new)) if offset >= block.offset && offset < block.offset + (block.end - block.start) => {
                    self.offset_of(*new)? + usize::try_from(offset - block.offset).ok()?
                }
                _ => usize::try_from(offset).ok()?,
            };
            Some(offset..offset.checked_add(id.len())?)
        });
        if let Some(field) = place.clone().and_then(|place| self.out.get_mut(place)) {
            field.fill(0);
        }
        let digest = digest(&self.out);
        if let Some(field) = place.and_then(|place| self.out.get_mut(place)) {
            for (byte, value) in field.iter_mut().zip(digest.0.iter().cycle()) {
                *byte = *value;
            }
        }
        digest
    }
}

fn is_static_relocation(section: &Section<'_>) -> bool {
    section.kind == elf::SHT_RELA || section.kind == elf::SHT_REL
}

/// Debug information describes addresses that are no longer true.
fn is_debug(name: &[u8]) -> bool {
    [&b".debug"[..], b".zdebug", b".gdb_index", b".stab", b".gnu_debuglink", b".gnu_debugaltlink", b".gnu.debuglto"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
