//! The output file, put together.

use std::io;

use postlink_base::{AddressMap, Digest, Pages};
use postlink_cfg::Program;
use postlink_image::{Image, Segment, elf};
use postlink_layout::Plan;
use tracing::trace_span;

mod copied;
mod places;
mod relocs;
mod rest;
mod sections;
mod tables;

use self::copied::Copied;
use self::places::{Place, ReadOnly, UnwindPlaces, unwind_places};
use crate::code::Assembled;
use crate::placement::Placement;
use crate::relocator::Relocator;
use crate::room::{self, Headers};
use crate::{EmitError, UnwindAddrs, UnwindBytes, UnwindPlan, code, placement, static_relocs};

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
    pub bytes: Pages,
    /// Where code went.
    pub map: AddressMap,
    /// The same, encoded.
    pub encoded_map: Vec<u8>,
    /// Sections of the input that the output does not have, static relocations not counted.
    pub dropped_sections: Vec<String>,
    /// Tables of static relocations that the output does not have although it was to keep them.
    pub dropped_relocations: Vec<String>,
    /// Bytes of code in the appended segment.
    pub appended_code: u64,
    /// Calls through the GOT that became direct.
    pub direct_calls: u64,
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

/// Writes `program` as `plan` says. `assembled` are the functions of that plan.
///
/// # Errors
/// [`EmitError::Function`] if one function cannot be written as planned (it can stay instead); others if
/// the file as a whole cannot be written.
pub fn emit(
    program: &Program<'_>,
    assembled: Assembled,
    plan: &Plan,
    options: &EmitOptions,
) -> Result<Output, EmitError> {
    let image = program.image;
    let span = trace_span!("place").entered();
    let demands = code::demands(program, plan, &assembled);
    let memory_end = loads(image).map(|segment| segment.vaddr + segment.memsz).max().unwrap_or(0);
    if memory_end > ADDRESS_SPACE_END {
        let why = format!("a segment ends at {memory_end:#x}, which is outside of a program's address space");
        return Err(EmitError::Room { what: "new segments", why });
    }
    let appended_start = memory_end.next_multiple_of(PAGE);
    let placement = placement::place(program, plan, &demands, appended_start);
    let code::Mapped { map, moved } = code::map(program, plan, &assembled, &placement)?;
    drop(span);
    let span = trace_span!("unwind").entered();
    let appended_code = placement.appended_size;
    // Planning the unwind tables has stretches that only one thread works on; the copy needs nothing of it.
    let (unwind, copied) = rayon::join(
        || match &program.eh_frame {
            Some(eh_frame) if !map.ranges().is_empty() => UnwindPlan::build(image, eh_frame, &moved, &map).map(Some),
            _ => Ok(None),
        },
        || Copied::new(image, &placement, appended_start),
    );
    let (unwind, copied) = (unwind?, copied?);

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

    let mut assembly = Assembly {
        program,
        out: copied.out,
        placement: &placement,
        appended_start,
        appended_code,
        rx_offset: copied.rx_offset,
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
    assembly.reserve()?;
    drop(span);
    let span = trace_span!("unwind bytes").entered();
    // To free what the plan was made of takes as long.
    let (unwind_bytes, ()) = rayon::join(
        || unwind.as_ref().map_or_else(|| Ok(UnwindBytes::default()), |unwind| assembly.unwind_bytes(unwind, &places)),
        || drop(moved),
    );
    let unwind_bytes = unwind_bytes?;
    drop(unwind);
    drop(span);
    let span = trace_span!("code").entered();
    let relocator = Relocator {
        map: &map,
        eh_frame: program.eh_frame.as_ref().map_or((0, 0), |eh| (eh.addr, eh.addr + eh.size)),
        eh_records: unwind_bytes.record_map.clone(),
        moved_data: moved_data(image, &assembly, &places),
    };
    let offsets = assembly.offsets();
    code::write(program, plan, &assembled, &placement, &relocator, |addr| offsets.of(addr), &mut assembly.out)?;
    if plan.mode == postlink_layout::Mode::Hot {
        assembly.entry_jumps(plan, &relocator);
    }
    drop(span);
    let _span = trace_span!("finish").entered();
    assembly.store_unwind(&places, &unwind_bytes)?;
    let (dropped, encoded_map) = assembly.finish(plan, &assembled, &relocator, &places, &map, options)?;
    let (dropped_relocations, dropped_sections) =
        dropped.into_iter().partition(|name| name.starts_with(".rela.") || name.starts_with(".rel."));
    let content = assembly.build_id();
    let moved_headers = assembly.headers == Headers::Moved;
    let note_offset = assembly.note_offset;
    let bytes = assembly.out;
    drop(relocator);
    let direct_calls = assembled.direct_calls(program, plan);
    // To free it takes a while, and somebody has the time.
    rayon::spawn(move || drop(assembled));
    Ok(Output {
        bytes,
        map,
        encoded_map,
        dropped_sections,
        dropped_relocations,
        appended_code,
        direct_calls,
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

fn no_memory(error: io::Error) -> EmitError {
    EmitError::Room { what: "the output in memory", why: error.to_string() }
}

/// Where new addresses are in the output.
#[derive(Clone, Copy)]
struct Offsets<'a> {
    image: &'a Image<'a>,
    /// Start and end of what is appended, and its file offset.
    code: (u64, u64, u64),
    read_only: (u64, u64, u64),
}

impl Offsets<'_> {
    fn of(&self, addr: u64) -> Option<usize> {
        let offset = if let Some((start, _, offset)) = [self.code, self.read_only].into_iter().find(|&(start, end, _)| addr >= start && addr < end) {
            addr - start + offset
        } else {
            self.image.offset_of(addr)?
        };
        usize::try_from(offset).ok()
    }
}

struct Assembly<'a, 'd> {
    program: &'a Program<'d>,
    out: Pages,
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

impl<'a> Assembly<'a, '_> {
    fn image(&self) -> &Image<'_> {
        self.program.image
    }

    /// Makes room for the appended read-only segment.
    fn reserve(&mut self) -> Result<(), EmitError> {
        let mut size = self.out.len() as u64;
        if self.headers == Headers::Moved {
            self.ro_offset = self.read_only.start.wrapping_sub(first_load_bias(self.image()));
            size = self.ro_offset + self.read_only.end - self.read_only.start;
        } else if self.read_only.is_used() {
            self.ro_offset = size.next_multiple_of(PAGE);
            size = self.ro_offset + self.read_only.end - self.read_only.start;
        }
        self.out.grow(usize::try_from(size).unwrap_or(0)).map_err(no_memory)
    }

    /// Where the next thing that is not loaded goes.
    fn pad_to(&mut self, align: u64) -> Result<u64, EmitError> {
        let at = (self.out.len() as u64).next_multiple_of(align);
        self.out.grow(usize::try_from(at).unwrap_or(0)).map_err(no_memory)?;
        Ok(at)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), EmitError> {
        self.out.extend(bytes).map_err(no_memory)
    }

    fn offsets(&self) -> Offsets<'a> {
        Offsets {
            image: self.program.image,
            code: (self.appended_start, self.appended_start + self.appended_code, self.rx_offset),
            read_only: (self.read_only.start, self.read_only.end, self.ro_offset),
        }
    }

    /// File offset of a new address.
    fn offset_of(&self, addr: u64) -> Option<usize> {
        self.offsets().of(addr)
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Option<()> {
        let offset = self.offset_of(addr)?;
        self.out.put(offset, bytes).map(drop)
    }

    /// Zeros where the input has a section.
    fn clear(&mut self, addr: u64, size: u64) -> Option<()> {
        let offset = self.offset_of(addr)?;
        self.out.get_mut(offset..offset.checked_add(usize::try_from(size).ok()?)?)?.fill(0);
        Some(())
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
                // The range is old text, which is in the file: it was filled with traps.
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
            let _ = self.clear(eh_frame.addr, eh_frame.size);
        }
        if let Some((_, header)) = self.program.image.section(".eh_frame_hdr") {
            let _ = self.clear(header.addr, header.size);
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
}
