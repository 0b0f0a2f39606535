//! Reading and refusing input files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use postlink_base::Pages;
use postlink_image::{Image, ImageError, check_supported};
use rayon::prelude::*;

use crate::outcome::Stop;

/// Bytes that one thread reads at a time.
const PIECE: usize = 4 << 20;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// A file's bytes.
pub(crate) enum Bytes {
    Given(Cow<'static, [u8]>),
    Read(Pages),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Given(bytes) => bytes,
            Self::Read(pages) => pages,
        }
    }
}

/// Reads a program, on all threads if it is a large one.
pub(crate) fn read_program(path: &Path) -> Result<Pages, Stop> {
    read_pages(path, |file, pages| {
        let pieces = pages.par_chunks_mut(PIECE).with_max_len(1).enumerate();
        pieces.try_for_each(|(index, piece)| file.read_exact_at(piece, (index * PIECE) as u64))
    })
}

/// Reads a file that may be large while the other threads have something to do.
pub(crate) fn read_aside(path: &Path) -> Result<Pages, Stop> {
    read_pages(path, |file, pages| file.read_exact_at(pages, 0))
}

fn read_pages(path: &Path, fill: impl FnOnce(&File, &mut [u8]) -> io::Result<()>) -> Result<Pages, Stop> {
    let read = || {
        let mut file = File::open(path)?;
        let size = file.metadata()?;
        // Pipes, devices and files of /proc have no size and are read to their end.
        if !size.is_file() || size.len() == 0 {
            let (mut pages, mut bytes) = (Pages::zeroed(0, 0)?, Vec::new());
            file.read_to_end(&mut bytes)?;
            pages.extend(&bytes)?;
            return Ok(pages);
        }
        let size = usize::try_from(size.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut pages = Pages::zeroed(size, 0)?;
        fill(&file, &mut pages)?;
        Ok(pages)
    };
    read().map_err(|error: io::Error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Stop {
    Stop::refused("CLI002", format!("cannot read {}: {error}", path.display()))
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
