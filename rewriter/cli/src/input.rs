//! Reading and refusing input files.

use std::path::Path;

use postlink_image::{Image, ImageError, check_supported};

use crate::outcome::Stop;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|error| Stop::refused("CLI002", format!("cannot read {}: {error}", path.display())))
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
