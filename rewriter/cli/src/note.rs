//! The note that an output carries: by what, from what and how it was made, and the digest of the evidence.

use std::ops::Range;

use postlink_base::Digest;
use postlink_image::{Image, build_id, notes};
use serde::{Deserialize, Serialize};

/// Content of `.note.postlink`, as JSON. Nothing in it names a place or a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Name and version of the tool that wrote the file.
    pub(crate) tool: String,
    /// Digest of the input file.
    pub(crate) input_blake3: String,
    /// The input's build id, in hexadecimal.
    pub(crate) input_build_id: Option<String>,
    /// Digest of what the profiles count, added up; see [`postlink_profile::Profile`].
    pub(crate) profile_blake3: Option<String>,
    /// Options that change the output.
    pub(crate) options: Vec<String>,
    /// Whether the output was proven before it was written.
    pub(crate) proven: bool,
    /// Digest of the bytes of `evidence.json`; `None` without proof. Last, so that [`hash_place`] finds it.
    #[serde(default)]
    pub(crate) evidence_blake3: Option<String>,
}

/// Stands for the digest of the evidence until that is known.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the digest follows. Inside of a JSON string the quotation marks would have backslashes.
const KEY: &[u8] = b"\"evidence_blake3\":\"";

const OWNER: &[u8] = b"postlink";

/// Note type, as counted by the owner.
const KIND: u32 = 1;

/// The name and version of this program.
pub(crate) const TOOL: &str = concat!("postlink ", env!("CARGO_PKG_VERSION"));

impl Note {
    /// For an output made from `input`, whose digest is `digest`; that of the evidence is still to be filled in.
    pub(crate) fn new(
        input: &Image<'_>,
        digest: Digest,
        profile_blake3: Option<String>,
        options: &[String],
        proven: bool,
    ) -> Self {
        Self {
            tool: TOOL.to_owned(),
            input_blake3: digest.to_string(),
            input_build_id: build_id_text(input),
            profile_blake3,
            options: options.to_vec(),
            proven,
            evidence_blake3: proven.then(|| PLACEHOLDER.to_owned()),
        }
    }

    /// One ELF note with JSON inside.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings and lists of strings can always be written.
        let desc = serde_json::to_vec(self).unwrap_or_default();
        let mut note = Vec::with_capacity(desc.len() + 32);
        note.extend((OWNER.len() as u32 + 1).to_le_bytes());
        note.extend(u32::try_from(desc.len()).unwrap_or(0).to_le_bytes());
        note.extend(KIND.to_le_bytes());
        note.extend(OWNER);
        note.push(0);
        note.resize(note.len().next_multiple_of(4), 0);
        note.extend(desc);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    /// The note in `image`, and where in the file the digest of the evidence stands. `None` if there is no
    /// note or it is not understood.
    pub(crate) fn read(image: &Image<'_>) -> Option<(Self, Option<Range<usize>>)> {
        let (_, section) = image.section(".note.postlink")?;
        let data = image.section_data(section);
        let found = notes(data, section.align).into_iter().find(|note| note.owner == OWNER && note.kind == KIND)?;
        let note: Self = serde_json::from_slice(found.desc).ok()?;
        let start = usize::try_from(section.offset).ok()?;
        let place = hash_place(data).and_then(|place| Some(start.checked_add(place.start)?..start.checked_add(place.end)?));
        Some((note, place))
    }
}

/// Where the digest of the evidence stands in an encoded note.
pub(crate) fn hash_place(note: &[u8]) -> Option<Range<usize>> {
    let key = note.windows(KEY.len()).rposition(|window| window == KEY)?;
    let start = key + KEY.len();
    let end = start.checked_add(PLACEHOLDER.len())?;
    let is_digest = note.get(start..end)?.iter().all(u8::is_ascii_hexdigit) && note.get(end) == Some(&b'"');
    is_digest.then_some(start..end)
}

/// The build id in hexadecimal.
pub(crate) fn build_id_text(image: &Image<'_>) -> Option<String> {
    build_id(image).map(|(id, _)| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(option: &str) -> Note {
        Note {
            tool: TOOL.to_owned(),
            input_blake3: PLACEHOLDER.to_owned(),
            input_build_id: None,
            profile_blake3: None,
            options: vec![option.to_owned()],
            proven: true,
            evidence_blake3: Some("ab".repeat(32)),
        }
    }

    #[test]
    fn the_digest_is_found_whatever_the_options_say() {
        let fake = format!("x\"evidence_blake3\":\"{PLACEHOLDER}\"");
        for option in ["mode=full", &fake] {
            let encoded = note(option).encode();
            let place = hash_place(&encoded).expect("a digest");
            assert_eq!(encoded[place], *"ab".repeat(32).as_bytes(), "{option}");
        }
    }

    #[test]
    fn a_note_without_proof_has_no_digest() {
        let without = Note { evidence_blake3: None, proven: false, ..note("mode=full") };
        assert_eq!(hash_place(&without.encode()), None);
        for damaged in [&b"\"evidence_blake3\":\"0000"[..], b"", b"\"evidence_blake3\":\""] {
            assert_eq!(hash_place(damaged), None);
        }
    }
}
