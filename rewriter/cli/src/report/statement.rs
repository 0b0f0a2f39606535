//! The in-toto Statement: which file the evidence is about, in the form that supply-chain tools read.
//!
//! Source: in-toto Attestation Framework, Statement v1 and ResourceDescriptor v1. It is not signed.

use std::path::Path;

use postlink_base::digest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::file_name;
use crate::evidence::Evidence;
use crate::input;
use crate::outcome::Stop;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// What the predicate is; docs/schema/evidence-v1.json describes it.
const PREDICATE: &str = "urn:postlink:evidence-predicate:v1";

/// The content of `statement.intoto.json`.
#[derive(Serialize)]
pub(super) struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [Resource; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

#[derive(Serialize)]
struct Predicate<'a> {
    evidence: &'a Evidence,
    /// The other files of the report.
    files: Vec<Resource>,
    /// What the subject was made from or compared with.
    #[serde(rename = "resolvedDependencies")]
    resolved_dependencies: Vec<Resource>,
}

/// A file by name and digests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Resource {
    name: String,
    digest: Digests,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Role>,
}

#[derive(Clone, Debug, Serialize)]
struct Digests {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    blake3: String,
}

#[derive(Clone, Debug, Serialize)]
struct Role {
    role: &'static str,
}

impl Resource {
    /// With both digests; `role` says what a dependency is used as.
    pub(crate) fn new(name: &str, bytes: &[u8], role: Option<&'static str>) -> Self {
        let (sha256, blake3) = rayon::join(|| sha256(bytes), || digest(bytes).to_string());
        Self { name: name.to_owned(), digest: Digests { sha256: Some(sha256), blake3 }, annotations: role.map(|role| Role { role }) }
    }

    /// A file that was read before; `None` for a pipe, which cannot be read again.
    ///
    /// # Errors
    /// CLI002.
    pub(crate) fn read(path: &Path, role: &'static str) -> Result<Option<Self>, Stop> {
        if !path.is_file() {
            return Ok(None);
        }
        Ok(Some(Self::new(&file_name(path), &input::read(path)?, Some(role))))
    }

    /// A file of the report.
    pub(super) fn of_report(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), digest: Digests { sha256: None, blake3: digest(bytes).to_string() }, annotations: None }
    }
}

impl<'a> Statement<'a> {
    pub(super) fn new(subject: Resource, evidence: &'a Evidence, files: Vec<Resource>, dependencies: Vec<Resource>) -> Self {
        Self {
            kind: STATEMENT,
            subject: [subject],
            predicate_type: PREDICATE,
            predicate: Predicate { evidence, files, resolved_dependencies: dependencies },
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-4, example of one block.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
