//! The output on its way to its name: written while it is proven, given its name once it is.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, AtFlags, CWD, fadvise, linkat};
use tempfile::NamedTempFile;

use crate::outcome::Stop;

/// A file that no folder lists: however the run ends, nothing is left of it unless it was given a name.
pub(crate) struct Draft {
    file: File,
}

impl Draft {
    /// Writes `bytes` into the folder of `path`.
    ///
    /// # Errors
    /// As the system says. Nobody is told: [`store`] tries again in the usual way, and tells.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(folder_of(path))?;
        // From one thread: two are slower, because a file takes one write at a time.
        file.write_all(bytes)?;
        // Starts writing to the disk and does not wait for it. Renaming over another file would do that otherwise (ext4),
        // when everybody waits; it is no loss if this fails.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Self { file })
    }

    /// Writes again what changed in the meantime, and gives the file the name `path`.
    fn finish(&self, path: &Path, bytes: &[u8], changed: &[Range<usize>], input: &Metadata) -> io::Result<()> {
        for range in changed {
            let bytes = bytes.get(range.clone()).ok_or(io::ErrorKind::InvalidInput)?;
            self.file.write_all_at(bytes, range.start as u64)?;
        }
        self.file.set_permissions(input.permissions())?;
        // A name can be given to such a file, but not one that is taken: another one first.
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let named = tempfile::Builder::new().make_in(folder_of(path), |name| {
            linkat(CWD, unnamed.as_str(), CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        })?;
        named.persist(path).map_err(|error| error.error)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives `bytes` the name `path` and the permissions of `input`; no half-written file ever has that name. `draft`, if
/// there is one, has these bytes already, but for the ranges of them in `changed`.
///
/// # Errors
/// CLI002.
pub(crate) fn store(
    path: &Path,
    bytes: &[u8],
    input: &Path,
    draft: Option<Draft>,
    changed: &[Range<usize>],
) -> Result<(), Stop> {
    let fail = |error: &dyn std::fmt::Display| {
        Stop::refused("CLI002", format!("cannot write {}: {error}", path.display()))
    };
    let input = std::fs::metadata(input).map_err(|error| fail(&error))?;
    // Some file systems cannot name such a file.
    if draft.is_some_and(|draft| draft.finish(path, bytes, changed, &input).is_ok()) {
        return Ok(());
    }
    let mut file = NamedTempFile::new_in(folder_of(path)).map_err(|error| fail(&error))?;
    file.write_all(bytes).map_err(|error| fail(&error))?;
    file.as_file().set_permissions(input.permissions()).map_err(|error| fail(&error))?;
    file.persist(path).map_err(|error| fail(&error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Names in a folder.
    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_is_what_would_have_been_written_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::write(&input, "").unwrap();
        std::fs::write(&output, "what was there before").unwrap();
        let draft = Draft::write(&output, b"a first draft").unwrap();
        assert_eq!(names(folder.path()), ["in", "out"]);
        store(&output, b"a final draft", &input, Some(draft), std::slice::from_ref(&(2..7))).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), b"a final draft");
        assert_eq!(names(folder.path()), ["in", "out"]);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions();
        assert_eq!(mode(&output), mode(&input));
    }

    #[test]
    fn without_a_usable_draft_everything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::write(&input, "").unwrap();
        store(&output, b"bytes", &input, None, &[]).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), b"bytes");
        let draft = Draft::write(&output, b"draft").unwrap();
        store(&output, b"other", &input, Some(draft), std::slice::from_ref(&(3..9))).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), b"other");
        assert_eq!(names(folder.path()), ["in", "out"]);
    }

    #[test]
    fn a_draft_without_a_future_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let draft = Draft::write(&output, b"bytes").unwrap();
        assert!(names(folder.path()).is_empty());
        drop(draft);
        assert!(names(folder.path()).is_empty());
        assert!(Draft::write(&output.join("nowhere"), b"bytes").is_err());
    }
}
