//! What a proof showed, as a document that anyone can make again from the two files.
//!
//! `optimize` and `verify` write the same bytes for the same pair of files: what the checker cannot know
//! (options, profile) is taken from the output's note. The note names the digest of these bytes, so nothing in
//! them depends on it: the output's digest is taken with the digits of both the build id and that digest zero.

use std::ops::Range;

use postlink_base::{AddressMap, Digest, digest};
use postlink_image::{Image, build_id};
use postlink_verify::{Checked, Proof};
use serde::Serialize;

use crate::note::{self, Note};

/// What the document is: its first field. docs/schema/evidence-v1.json describes it.
const SCHEMA: &str = "urn:postlink:evidence:v1";

/// The content of `evidence.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Evidence {
    schema: &'static str,
    /// Name and version of the tool whose checker made it.
    checker: &'static str,
    /// What the output's note says about its making; `None` without a note.
    recorded: Option<Recorded>,
    input: Input,
    output: Output,
    map: Map,
    proven: bool,
    obligations: Vec<ObligationEvidence>,
    checked: CheckedEvidence,
    /// What the proof rests on in this file beyond the general assumptions.
    notes: Vec<String>,
}

/// Taken from the note, not checked.
#[derive(Clone, Debug, Serialize)]
struct Recorded {
    tool: String,
    options: Vec<String>,
    profile_blake3: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Input {
    size: u64,
    blake3: String,
    build_id: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Output {
    size: u64,
    content_blake3: String,
}

#[derive(Clone, Debug, Serialize)]
struct Map {
    ranges: u64,
    blake3: String,
}

#[derive(Clone, Debug, Serialize)]
struct ObligationEvidence {
    id: &'static str,
    title: &'static str,
    checked: u64,
    violated: u64,
}

/// [`Checked`], field by field: one that is added there has to be added here.
#[derive(Clone, Debug, Serialize)]
struct CheckedEvidence {
    functions: u64,
    instructions: u64,
    fixed_bytes: u64,
    operands: u64,
    pointers: u64,
    table_entries: u64,
    unwind_rows: u64,
    call_sites: u64,
    symbols: u64,
    data_bytes: u64,
    dead_bytes: u64,
    assumed_no_return: u64,
    got_calls: u64,
    folded_functions: u64,
    folded_bytes: u64,
    undecoded_bytes: u64,
    unreached_bytes: u64,
}

impl From<&Checked> for CheckedEvidence {
    fn from(checked: &Checked) -> Self {
        let &Checked {
            functions,
            instructions,
            fixed_bytes,
            operands,
            pointers,
            table_entries,
            unwind_rows,
            call_sites,
            symbols,
            data_bytes,
            dead_bytes,
            assumed_no_return,
            got_calls,
            folded_functions,
            folded_bytes,
            undecoded_bytes,
            unreached_bytes,
        } = checked;
        Self {
            functions,
            instructions,
            fixed_bytes,
            operands,
            pointers,
            table_entries,
            unwind_rows,
            call_sites,
            symbols,
            data_bytes,
            dead_bytes,
            assumed_no_return,
            got_calls,
            folded_functions,
            folded_bytes,
            undecoded_bytes,
            unreached_bytes,
        }
    }
}

/// The digests and sizes of a pair of files.
pub(crate) struct Pair {
    /// Digest of the old file, in hexadecimal.
    pub(crate) old_blake3: String,
    /// Size of the new file.
    pub(crate) new_size: usize,
    /// See [`content`].
    pub(crate) new_content: Digest,
}

impl Evidence {
    /// `note` is the new file's; `map_bytes` the encoded map.
    pub(crate) fn new(
        old: &Image<'_>,
        pair: Pair,
        (map, map_bytes): (&AddressMap, &[u8]),
        note: Option<&Note>,
        proof: &Proof,
    ) -> Self {
        let recorded = note.map(|note| Recorded {
            tool: note.tool.clone(),
            options: note.options.clone(),
            profile_blake3: note.profile_blake3.clone(),
        });
        let obligations = proof.obligations.iter().map(|one| ObligationEvidence {
            id: one.obligation.id(),
            title: one.obligation.title(),
            checked: one.checked,
            violated: one.violated,
        });
        Self {
            schema: SCHEMA,
            checker: note::TOOL,
            recorded,
            input: Input {
                size: old.data().len() as u64,
                blake3: pair.old_blake3,
                build_id: note::build_id_text(old),
            },
            output: Output { size: pair.new_size as u64, content_blake3: pair.new_content.to_string() },
            map: Map { ranges: map.ranges().len() as u64, blake3: digest(map_bytes).to_string() },
            proven: proof.is_proven(),
            obligations: obligations.collect(),
            checked: CheckedEvidence::from(&proof.checked),
            notes: proof.notes.clone(),
        }
    }

    /// The bytes of `evidence.json`: the digest in the note is theirs.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them can always be written.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The digest of a file with the bytes of its build id zero and the digits of the note's digest `0`: what
/// [`postlink_emit::Output::content`] is when a file is written.
pub(crate) fn content(image: &Image<'_>, evidence_hash: Option<Range<usize>>) -> Digest {
    let id = build_id(image).and_then(|(id, offset)| {
        let start = usize::try_from(offset).ok()?;
        Some((start..start.checked_add(id.len())?, 0u8))
    });
    let mut blanks: Vec<(Range<usize>, u8)> = id.into_iter().chain(evidence_hash.map(|place| (place, b'0'))).collect();
    blanks.sort_by_key(|(place, _)| place.start);
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    for (place, filler) in blanks {
        // In a damaged file they may overlap or leave the file: then they are read as they are.
        let Some(before) = image.data().get(at..place.start).filter(|_| place.end <= image.data().len()) else { continue };
        hasher.update_rayon(before);
        hasher.update(&vec![filler; place.len()]);
        at = place.end;
    }
    hasher.update_rayon(image.data().get(at..).unwrap_or(&[]));
    Digest(*hasher.finalize().as_bytes())
}

/// Puts the digest of `evidence` into the note of a finished output. Gives its place there, if there was one.
pub(crate) fn record(evidence: &[u8], output: &mut [u8], note_offset: usize, note_size: usize) -> Option<Range<usize>> {
    let note = output.get_mut(note_offset..note_offset.checked_add(note_size)?)?;
    let place = note::hash_place(note)?;
    note.get_mut(place.clone())?.copy_from_slice(digest(evidence).to_string().as_bytes());
    Some(note_offset + place.start..note_offset + place.end)
}

/// How evidence that was made again compares with what the new file's note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// The note names the digest of these very bytes.
    Matches,
    /// It names another one.
    Differs,
    /// Another version of the tool recorded it, and its checker may count otherwise.
    OtherVersion,
    /// The symbols were stripped since, so that less could be compared.
    Stripped,
    /// The file has no note, or was written without proof.
    Nothing,
}

impl Agreement {
    /// Compares; `new` is the file that `note` was read from, and `content` its digest. The build id, which that
    /// digest leaves out, must have been taken from it.
    pub(crate) fn of(evidence: &[u8], note: Option<&Note>, new: &Image<'_>, content: Digest) -> Self {
        let id_fits = || build_id(new).is_none_or(|(id, _)| id.iter().eq(content.0.iter().cycle().take(id.len())));
        match note.and_then(|note| Some((note.evidence_blake3.as_deref()?, &note.tool))) {
            None => Self::Nothing,
            Some((recorded, _)) if recorded == digest(evidence).to_string() && id_fits() => Self::Matches,
            Some((_, tool)) if tool != note::TOOL => Self::OtherVersion,
            Some(_) if new.symtab().is_none() => Self::Stripped,
            Some(_) => Self::Differs,
        }
    }

    /// One line for people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Matches => "matches the note: the file is as it was written, and what was found then was found again",
            Self::Differs => "differs from what the note records: one of the files was changed since, or is another one",
            Self::OtherVersion => "recorded by another version of postlink, so the digests cannot be compared",
            Self::Stripped => "recorded before the file was stripped, so the digests cannot be compared",
            Self::Nothing => "the new file's note names none",
        }
    }
}
