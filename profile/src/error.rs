//! Why a profile is refused.

use postlink_report::{Code, Diagnose, Severity};

/// What is wrong with a line of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// The line ends before its last field.
    MissingField,
    /// Something stands behind the last field.
    TrailingText,
    /// The kind of a location is none of 0 to 5.
    LocationKind,
    /// A name is empty.
    EmptyName,
    /// An offset is no hexadecimal number of at most 16 digits.
    Offset,
    /// A count is no decimal number.
    Count,
}

impl LineFault {
    const fn text(self) -> &'static str {
        match self {
            Self::MissingField => "a field is missing",
            Self::TrailingText => "there is text behind the last field",
            Self::LocationKind => "a location starts with none of 0 to 5",
            Self::EmptyName => "a name is empty",
            Self::Offset => "an offset is no hexadecimal number",
            Self::Count => "a count is no decimal number",
        }
    }
}

impl std::fmt::Display for LineFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// What a file that is no fdata seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherFormat {
    /// Output of `perf record`.
    PerfData,
    /// An ELF file.
    Elf,
    /// BOLT's YAML profile, whose block numbers and hashes are BOLT's own.
    BoltYaml,
    /// A compressed file (zstd, gzip, xz).
    Compressed,
}

impl OtherFormat {
    const fn text(self) -> &'static str {
        match self {
            Self::PerfData => "perf.data",
            Self::Elf => "ELF",
            Self::BoltYaml => "BOLT YAML",
            Self::Compressed => "compressed",
        }
    }
}

impl std::fmt::Display for OtherFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A line does not follow the grammar.
    #[error("line {line} of the profile: {fault}")]
    Line {
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The file is something else.
    #[error("the profile is a {format} file, not fdata")]
    Format {
        /// What it seems to be.
        format: OtherFormat,
    },
    /// The profile counts nothing in this file.
    #[error("the profile has no record of this file")]
    Empty,
}

impl Diagnose for ProfileError {
    fn code(&self) -> Code {
        match self {
            Self::Line { .. } => const { Code::new("PRF001") },
            Self::Format { .. } => const { Code::new("PRF002") },
            Self::Empty => const { Code::new("PRF003") },
        }
    }
    fn severity(&self) -> Severity {
        Severity::Refused
    }
}
