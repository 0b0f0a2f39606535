//! The corpus: what scripts/corpus builds and scripts/profile measures.

use std::path::{Path, PathBuf};

use crate::process::{Job, Result};

/// The checkout, its cache and its scripts.
pub(crate) struct Corpus {
    pub(crate) root: PathBuf,
    pub(crate) cache: PathBuf,
}

/// One program, built and profiled.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// The file to be rewritten.
    pub(crate) path: PathBuf,
    /// Its profile, fdata.
    pub(crate) profile: PathBuf,
    /// Size of the file in bytes.
    pub(crate) size: u64,
}

impl Corpus {
    /// The corpus of the checkout that this crate lies in.
    pub(crate) fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root
            .canonicalize()
            .map_err(|error| format!("{}: {error}", root.display()))?;
        let cache =
            std::env::var_os("POSTLINK_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
        std::fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
        Ok(Self { root, cache })
    }

    pub(crate) fn script(&self, name: &str) -> Job {
        Job::new(self.root.join("scripts").join(name))
    }

    /// An empty folder under the cache.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.cache.join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// The named programs, or all of them, built and profiled, smallest first.
    pub(crate) fn programs(&self, names: &[String]) -> Result<Vec<Program>> {
        let listed = self.script("corpus").arg("--list").succeed()?.stdout;
        let known: Vec<&str> = listed.split_whitespace().collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!(
                "no program '{unknown}' in the corpus: {}",
                known.join(" ")
            ));
        }
        let wanted: Vec<&str> = if names.is_empty() {
            known
        } else {
            names.iter().map(String::as_str).collect()
        };
        let mut programs = Vec::new();
        for name in wanted {
            // Both do nothing when all is there.
            self.script("corpus").arg(name).succeed()?;
            self.script("profile").arg(name).succeed()?;
            let path = PathBuf::from(
                self.script("corpus")
                    .args(["--path", name])
                    .succeed()?
                    .stdout
                    .trim(),
            );
            let profile = path.with_file_name("train.fdata");
            let size = size_of(&path)?;
            programs.push(Program {
                name: name.to_owned(),
                path,
                profile,
                size,
            });
        }
        programs.sort_by(|a, b| (a.size, &a.name).cmp(&(b.size, &b.name)));
        Ok(programs)
    }

    /// Runs the original and `binary` on a workload: an error says how they differ.
    pub(crate) fn compare(&self, program: &Program, binary: &Path, phase: &str) -> Result<()> {
        let done = self
            .script("compare")
            .arg(&program.name)
            .arg(binary)
            .arg(phase)
            .run()?;
        if done.status == 0 {
            Ok(())
        } else {
            Err(format!(
                "{phase}: {} | {}",
                done.stdout.trim(),
                done.tail(4)
            ))
        }
    }
}

pub(crate) fn size_of(path: &Path) -> Result<u64> {
    std::fs::metadata(path)
        .map(|data| data.len())
        .map_err(|error| format!("{}: {error}", path.display()))
}
