//! The folder that `--report` fills: tables, the evidence, and an in-toto Statement about them.

mod rows;
mod statement;

use std::path::Path;

use postlink_base::AddressMap;
use postlink_image::Image;
use postlink_report::{Row, RowError, json_lines, tsv};
use postlink_verify::{Proof, function_evidence};

use crate::evidence::Evidence;
use crate::outcome::Stop;
use statement::Statement;

pub(crate) use rows::counts;
pub(crate) use statement::Resource;

/// Files of a report, by name, in the order in which the statement names them.
pub(crate) struct Report {
    files: Vec<(String, Vec<u8>)>,
}

impl Report {
    /// What a proof of the pair showed: `evidence.json`, the tables of the checker, one row per function.
    ///
    /// # Errors
    /// A table that cannot be rendered: a mistake in its row's type.
    pub(crate) fn new(
        old: &Image<'_>,
        new: &Image<'_>,
        map: &AddressMap,
        proof: &Proof,
        evidence: &Evidence,
    ) -> Result<Self, Stop> {
        let mut report = Self { files: vec![("evidence.json".to_owned(), evidence.bytes())] };
        report.table(&rows::obligations(proof))?;
        report.table(&rows::violations(proof))?;
        report.table(&rows::counts(&proof.checked))?;
        report.table(&rows::functions(&function_evidence(old, new, map, proof)))?;
        Ok(report)
    }

    /// Adds one table as `TABLE.tsv` and `TABLE.jsonl`.
    ///
    /// # Errors
    /// A mistake in the row's type.
    pub(crate) fn table<R: Row>(&mut self, rows: &[R]) -> Result<(), Stop> {
        let render = |text: Result<String, RowError>| {
            text.map_err(|error| Stop::contradiction("CLI002", format!("table {}: {error}", R::TABLE)))
        };
        for (extension, text) in [("tsv", render(tsv(rows))?), ("jsonl", render(json_lines(rows))?)] {
            self.files.push((format!("{}.{extension}", R::TABLE), text.into_bytes()));
        }
        Ok(())
    }

    /// Writes everything, with a statement on `subject`, to `folder`, which is created.
    ///
    /// # Errors
    /// CLI002.
    pub(crate) fn write(
        self,
        folder: &Path,
        evidence: &Evidence,
        subject: Resource,
        dependencies: Vec<Resource>,
    ) -> Result<(), Stop> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Stop::refused("CLI002", format!("cannot create {}: {error}", folder.display())))?;
        let resources = self.files.iter().map(|(name, bytes)| Resource::of_report(name, bytes)).collect();
        let statement = Statement::new(subject, evidence, resources, dependencies);
        let mut json = serde_json::to_vec_pretty(&statement)
            .map_err(|error| Stop::contradiction("CLI002", format!("statement: {error}")))?;
        json.push(b'\n');
        for (name, bytes) in self.files.iter().map(|(name, bytes)| (name.as_str(), bytes)).chain([("statement.intoto.json", &json)]) {
            let path = folder.join(name);
            std::fs::write(&path, bytes)
                .map_err(|error| Stop::refused("CLI002", format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(())
    }
}

/// The last part of a path: what a file is called wherever it is.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
