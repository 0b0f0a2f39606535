//! Stable outcome codes.

use serde::{Serialize, Serializer};

/// A stable code of an outcome: `POSTLINK_` and a name in capitals, or three capitals and three
/// digits. Every code is documented in `CODES.md`; none is given a new meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

const PREFIX: &[u8] = b"POSTLINK_";

impl Code {
    /// A code of the right shape; use in `const { }` so that the shape is checked by the compiler.
    ///
    /// # Panics
    /// If the shape is wrong.
    pub const fn new(code: &'static str) -> Self {
        assert!(is_well_formed(code.as_bytes()), "a code is POSTLINK_NAME or three capitals and three digits");
        Self(code)
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

const fn is_well_formed(code: &[u8]) -> bool {
    if code.len() == 6 {
        let mut index = 0;
        while index < 6 {
            let fits = if index < 3 { code[index].is_ascii_uppercase() } else { code[index].is_ascii_digit() };
            if !fits {
                return false;
            }
            index += 1;
        }
        return true;
    }
    if code.len() <= PREFIX.len() {
        return false;
    }
    let mut index = 0;
    while index < code.len() {
        let fits = if index < PREFIX.len() {
            code[index] == PREFIX[index]
        } else {
            let underscore_fits = index > PREFIX.len() && index + 1 < code.len();
            code[index].is_ascii_uppercase() || (code[index] == b'_' && underscore_fits)
        };
        if !fits {
            return false;
        }
        index += 1;
    }
    true
}

/// What an outcome means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// The output is right, but the user may want something else.
    Warning,
    /// A function or record was left as it was; the output is right.
    Kept,
    /// The input or profile is at fault; nothing is written. Exit status 1.
    Refused,
    /// postlink contradicted itself; nothing is written. Exit status 3.
    Bug,
}

impl Severity {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Bug => "bug",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An outcome that has a code. Its `Display` is the message.
pub trait Diagnose: std::fmt::Display {
    /// The stable code.
    fn code(&self) -> Code;
    /// What it means for the run.
    fn severity(&self) -> Severity;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for good in ["CFG001", "POSTLINK_PROOF", "POSTLINK_PROFILE_STALE"] {
            assert!(is_well_formed(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "CFG01",
            "cfg001",
            "CFG0011",
            "CF0001",
            "POSTLINK_",
            "POSTLINK__A",
            "POSTLINK_A_",
            "POSTLINK_a",
            "OTHER_NAME",
        ] {
            assert!(!is_well_formed(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn display_pads() {
        assert_eq!(format!("{:8}|", Code::new("CFG001")), "CFG001  |");
    }
}
