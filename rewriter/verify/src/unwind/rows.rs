//! The rows of all frames of both files.
//!
//! Most frames of code that did not move are alike in both: the same call-frame instructions for the same
//! addresses, under CIEs that say the same. They are run once.

use gimli::{DW_CFA_nop, DW_CFA_set_loc, UnwindContext};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::Frames;
use super::digests::AS_OLD;
use super::frames::Frame;

/// All rows of a file as `(first code address, digest)`, sorted; digest 0 says that no frame covers the
/// code from there on.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<(u64, u64)>,
    /// Start of the first frame whose CFI could not be run.
    pub(super) broken: Option<u64>,
}

/// The rows of both files. Those of the new one refer to the old one's where they can.
pub(super) fn of_both(old: Option<&Frames<'_>>, new: Option<&Frames<'_>>) -> (Rows, Rows) {
    let twins = match (old, new) {
        (Some(old), Some(new)) => twins(old, new),
        (_, new) => vec![None; new.map_or(0, |new| new.frames.len())],
    };
    let rest: Vec<usize> = (0..twins.len()).filter(|&at| twins.get(at).copied().flatten().is_none()).collect();
    let (old_runs, new_runs) = rayon::join(
        || old.map_or_else(Runs::default, |old| Runs::new(old, old.frames.len(), |at| at)),
        || new.map_or_else(Runs::default, |new| Runs::new(new, rest.len(), |at| rest.get(at).copied().unwrap_or(usize::MAX))),
    );
    let Some(new) = new else { return (merge((0..old_runs.count).map(|at| old_runs.get(at))), Rows::default()) };
    // Where frames overlap, rows of one hide rows of another.
    let is_simple = !old.is_some_and(Frames::overlap) && !new.overlap() && !old_runs.is_broken();
    let sources = if is_simple { stretches(&twins, &new.frames) } else { one_by_one(&twins) };
    rayon::join(
        || merge((0..old_runs.count).map(|at| old_runs.get(at))),
        || {
            merge(sources.iter().map(|source| match source {
                Source::AsOld(rows) => (&rows[..], None),
                Source::Old(at) => old_runs.get(*at as usize),
                Source::New(at) => new_runs.get(*at),
            }))
        },
    )
}

/// Where the rows of new frames come from: frames with the rows of old ones that follow each other in both files are
/// one stretch, and so is what is between them.
fn stretches(twins: &[Option<u32>], frames: &[Frame]) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let (mut rest, mut last) = (0, None);
    for (twin, frame) in twins.iter().zip(frames) {
        match (twin, sources.last_mut()) {
            (Some(twin), Some(Source::AsOld([_, end]))) if last == twin.checked_sub(1) => end.0 = frame.end,
            (Some(_), _) => sources.push(Source::AsOld([(frame.start, AS_OLD), (frame.end, 0)])),
            (None, _) => {
                sources.push(Source::New(rest));
                rest += 1;
            }
        }
        last = *twin;
    }
    sources
}

/// The same frame by frame.
fn one_by_one(twins: &[Option<u32>]) -> Vec<Source> {
    let mut rest = 0;
    let source = |twin: &Option<u32>| {
        twin.map_or_else(
            || {
                rest += 1;
                Source::New(rest - 1)
            },
            Source::Old,
        )
    };
    twins.iter().map(source).collect()
}

/// What gave the rows of a new frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The rows of old frames; these two stand for them.
    AsOld([(u64, u64); 2]),
    /// That of this old frame.
    Old(u32),
    /// This one of the new file.
    New(usize),
}

/// For each new frame, the number of the old frame that has the same rows, if one is known to.
fn twins(old: &Frames<'_>, new: &Frames<'_>) -> Vec<Option<u32>> {
    let mut known: FxHashMap<(u64, String), usize> = FxHashMap::default();
    let mut kinds = |frames: &Frames<'_>| -> Vec<Option<usize>> {
        let mut number = |cie: u32| {
            let next = known.len();
            Some(*known.entry(frames.kind(cie)?).or_insert(next))
        };
        (0..frames.cie_count()).map(&mut number).collect()
    };
    let (old_kinds, new_kinds) = (kinds(old), kinds(new));
    let kind = |kinds: &[Option<usize>], cie: u32| kinds.get(cie as usize).copied().flatten();
    let extent = |frame: &Frame| (frame.start, frame.end);
    let twin = |frame: &Frame, at: usize| {
        let other = old.frames.get(at).filter(|other| extent(other) == extent(frame))?;
        let is_alike = kind(&new_kinds, frame.cie)? == kind(&old_kinds, other.cie)?
            && are_alike(old.instructions(other)?, new.instructions(frame)?);
        u32::try_from(at).ok().filter(|_| is_alike)
    };
    let parts: Vec<Vec<Option<u32>>> = new
        .frames
        .par_chunks(CHUNK)
        .map(|frames| {
            let mut at = frames.first().map_or(0, |first| old.frames.partition_point(|old| extent(old) < extent(first)));
            let mut next = |frame: &Frame| {
                while old.frames.get(at).is_some_and(|old| extent(old) < extent(frame)) {
                    at += 1;
                }
                twin(frame, at)
            };
            frames.iter().map(&mut next).collect()
        })
        .collect();
    parts.concat()
}

/// Whether two records have the same call-frame instructions, but for NOPs at the end, and none that says another
/// thing at another place.
fn are_alike(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let Some((same, rest)) = long.split_at_checked(short.len()) else { return false };
    if same != short || rest.iter().any(|&byte| byte != DW_CFA_nop.0) {
        return false;
    }
    // Otherwise what is behind is the end of an instruction, if there is something behind.
    rest.is_empty() && !short.contains(&DW_CFA_set_loc.0) || is_whole(short)
}

/// Whether these are call-frame instructions up to the end, and none of them holds an address.
fn is_whole(mut bytes: &[u8]) -> bool {
    while let Some((&first, rest)) = bytes.split_first() {
        let operands = match first & 0xc0 {
            0x80 => number(rest),
            0x40 | 0xc0 => Some(rest),
            _ => operands(first, rest),
        };
        let Some(rest) = operands else { return false };
        bytes = rest;
    }
    true
}

/// What is behind the operands of an instruction without a number in its opcode (DWARF 5, table 7.29). `None`
/// for expressions, `DW_CFA_set_loc`, and what is not known.
fn operands(opcode: u8, bytes: &[u8]) -> Option<&[u8]> {
    match opcode {
        // nop, remember_state, restore_state.
        0x00 | 0x0a | 0x0b => Some(bytes),
        // advance_loc1, 2 and 4.
        0x02 => bytes.get(1..),
        0x03 => bytes.get(2..),
        0x04 => bytes.get(4..),
        // restore_extended, undefined, same_value, def_cfa_register, def_cfa_offset, its signed form, GNU_args_size.
        0x06 | 0x07 | 0x08 | 0x0d | 0x0e | 0x13 | 0x2e => number(bytes),
        // offset_extended, register, def_cfa, and the signed forms.
        0x05 | 0x09 | 0x0c | 0x11 | 0x12 => number(number(bytes)?),
        _ => None,
    }
}

/// What is behind the LEB128 number at the start of `bytes`.
fn number(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    bytes.get(last + 1..)
}

/// Frames that one thread runs in one go.
const CHUNK: usize = 512;

/// The rows of some frames of a file, frame by frame.
#[derive(Default)]
struct Runs {
    count: usize,
    chunks: Vec<Chunk>,
}

#[derive(Default)]
struct Chunk {
    rows: Vec<(u64, u64)>,
    /// For each frame, where its rows end, and its start if its CFI could not be run.
    frames: Vec<(usize, Option<u64>)>,
}

impl Runs {
    /// Runs `count` frames, of which `number` tells the numbers.
    fn new(frames: &Frames<'_>, count: usize, number: impl Fn(usize) -> usize + Sync) -> Self {
        let run = |chunk: usize| {
            let mut context = UnwindContext::new();
            let mut this = Chunk { rows: Vec::with_capacity(CHUNK * 6), frames: Vec::with_capacity(CHUNK) };
            for at in chunk * CHUNK..((chunk + 1) * CHUNK).min(count) {
                let Some(frame) = frames.frames.get(number(at)) else { continue };
                let is_broken = frames.frame_rows(frame, &mut context, &mut this.rows).is_err();
                this.frames.push((this.rows.len(), is_broken.then_some(frame.start)));
            }
            this
        };
        Self { count, chunks: (0..count.div_ceil(CHUNK)).into_par_iter().with_max_len(4).map(run).collect() }
    }

    /// Whether the CFI of a frame could not be run.
    fn is_broken(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.frames.iter().any(|frame| frame.1.is_some()))
    }

    /// The rows of frame `at` of those that were run, and its start if it is broken.
    fn get(&self, at: usize) -> (&[(u64, u64)], Option<u64>) {
        let Some(chunk) = self.chunks.get(at / CHUNK) else { return (&[], None) };
        let Some(&(end, broken)) = chunk.frames.get(at % CHUNK) else { return (&[], None) };
        let start = (at % CHUNK).checked_sub(1).and_then(|before| chunk.frames.get(before)).map_or(0, |before| before.0);
        (chunk.rows.get(start..end).unwrap_or(&[]), broken)
    }
}

/// Joins the rows of frames that are sorted by address.
fn merge<'a>(runs: impl Iterator<Item = (&'a [(u64, u64)], Option<u64>)> + Clone) -> Rows {
    let mut rows: Vec<(u64, u64)> = Vec::with_capacity(runs.clone().map(|run| run.0.len()).sum());
    let mut broken = None;
    for (run, error) in runs {
        broken = broken.or(error);
        // Rows of one frame ascend, and neighbours differ.
        if let (Some(&(start, digest)), Some(last)) = (run.first(), rows.last())
            && start > last.0
        {
            rows.extend_from_slice(run.get(usize::from(last.1 == digest)..).unwrap_or(&[]));
            continue;
        }
        for &(start, digest) in run {
            match rows.last_mut() {
                // The end marker of the frame before, where the next frame follows directly.
                Some(last) if last.0 == start => last.1 = digest,
                Some(last) if last.1 == digest => {}
                _ => rows.push((start, digest)),
            }
        }
    }
    rows.shrink_to_fit();
    // Frames may overlap: then the one that starts last counts, as it does for unwinders.
    if !rows.is_sorted_by_key(|row| row.0) {
        rows.sort_by_key(|row| row.0);
    }
    Rows { rows, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_alike_but_for_nops_behind_the_last_one() {
        // def_cfa_offset 16; offset r6 at cfa-16; advance 3; def_cfa_register r6.
        let some = [0x0e, 0x10, 0x86, 0x02, 0x43, 0x0d, 0x06];
        let padded = |nops: usize| [&some[..], &vec![0; nops]].concat();
        assert!(are_alike(&some, &padded(5)) && are_alike(&padded(3), &some) && are_alike(&padded(2), &padded(2)));
        // Another instruction, and an operand that the zeros belong to.
        assert!(!are_alike(&some, &[&padded(0)[..], &[0x41]].concat()));
        assert!(!are_alike(&[0x0e], &[0x0e, 0]) && !are_alike(&[0x0e, 0x80], &[0x0e, 0x80, 0, 0]));
        assert!(are_alike(&[0x03, 0, 1], &[0x03, 0, 1, 0]) && !are_alike(&[0x03, 1], &[0x03, 1, 0]));
        // An address, or what may be one; expressions are not looked into.
        assert!(!are_alike(&[0x01, 2, 3, 4, 5], &[0x01, 2, 3, 4, 5]) && !are_alike(&[0x0f, 1, 0x30], &[0x0f, 1, 0x30, 0]));
        assert!(are_alike(&[0x0f, 2, 0x30, 0x31], &[0x0f, 2, 0x30, 0x31]));
    }

    #[test]
    fn frames_that_follow_each_other_in_both_files_are_one_stretch() {
        let frame = |start: u64, end: u64| Frame { start, end, record: 0, lsda: None, cie: 0 };
        let frames = [frame(1, 5), frame(8, 9), frame(9, 12), frame(20, 30), frame(30, 31), frame(40, 50)];
        let as_old = |start: u64, end: u64| Source::AsOld([(start, AS_OLD), (end, 0)]);
        let sources = stretches(&[Some(0), Some(1), None, Some(2), Some(3), Some(5)], &frames);
        // Old frame 4 stands between the last two.
        assert_eq!(sources, [as_old(1, 9), Source::New(0), as_old(20, 31), as_old(40, 50)]);
        assert_eq!(one_by_one(&[None, Some(7), None]), [Source::New(0), Source::Old(7), Source::New(1)]);
    }
}
