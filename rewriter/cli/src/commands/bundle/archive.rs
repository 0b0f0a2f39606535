//! A tar file that depends on nothing but names and contents.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// Files of an archive, held until it is written.
pub(super) struct Archive {
    root: &'static str,
    /// Name, content and mode.
    files: Vec<(String, Vec<u8>, u32)>,
}

impl Archive {
    /// An empty one; all names will be in the folder `root`.
    pub(super) const fn new(root: &'static str) -> Self {
        Self { root, files: Vec::new() }
    }

    /// Adds a file; `mode` holds its permissions.
    pub(super) fn add(&mut self, name: &str, bytes: Vec<u8>, mode: u32) {
        self.files.push((name.to_owned(), bytes, mode));
    }

    /// Names and contents, in the order in which they were added.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes, _)| (name.as_str(), bytes.as_slice()))
    }

    /// Writes the files, sorted by name, without owner and time; the archive gets its name when it is complete.
    /// Only its owner can read it.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write(mut self, path: &Path) -> io::Result<()> {
        self.files.sort();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tar::Builder::new(BufWriter::new(tempfile::NamedTempFile::new_in(folder)?));
        for (name, bytes, mode) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            builder.append_data(&mut header, format!("{}/{name}", self.root), bytes.as_slice())?;
        }
        let mut file = builder.into_inner()?;
        file.flush()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}
