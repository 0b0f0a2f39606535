//! Reading and refusing input files.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use postlink_image::{Image, ImageError, check_supported};
use rayon::prelude::*;

use crate::outcome::Stop;

/// Bytes that one thread reads at a time.
const PIECE: usize = 4 << 20;

/// Reads a whole file, on all threads if it is a large one.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    let fail = |error: &dyn std::fmt::Display| Stop::refused("CLI002", format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(|error| fail(&error))?;
    let size = file.metadata().map_err(|error| fail(&error))?;
    // Pipes and devices have no size and are read to their end.
    if !size.is_file() || size.len() <= PIECE as u64 {
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
        return Ok(bytes);
    }
    let mut bytes = vec![0; usize::try_from(size.len()).map_err(|error| fail(&error))?];
    bytes
        .par_chunks_mut(PIECE)
        .enumerate()
        .try_for_each(|(index, piece)| file.read_exact_at(piece, (index * PIECE) as u64))
        .map_err(|error| fail(&error))?;
    Ok(bytes)
}

/// Parses an ELF file.
pub(crate) fn parse<'d>(path: &Path, bytes: &'d [u8]) -> Result<Image<'d>, Stop> {
    Image::parse(bytes).map_err(|error| {
        let code = match error {
            ImageError::NotElf | ImageError::Class { .. } => "POSTLINK_TARGET_UNSUPPORTED",
            _ => "IMG001",
        };
        let hint = match code {
            "IMG001" => "the file is damaged or truncated: copy or link it again",
            _ => "give a 64-bit little-endian ELF executable or shared object",
        };
        Stop::refused(code, format!("{}: {error}", path.display())).hint(hint)
    })
}

/// Parses an ELF file and refuses what cannot be rewritten.
pub(crate) fn parse_supported<'d>(path: &Path, bytes: &'d [u8]) -> Result<Image<'d>, Stop> {
    let image = parse(path, bytes)?;
    check_supported(&image).map_err(|reason| {
        Stop::refused("POSTLINK_TARGET_UNSUPPORTED", format!("{}: {reason}", path.display())).hint(reason.hint())
    })?;
    Ok(image)
}
