//! The proof: the new file is the old program.
//!
//! [`check`] takes the old file, the new file and the address map, and discharges the obligations P1
//! to P7 (see [`Obligation`] and `docs/proof.md`). It decodes with yaxpeax-x86, reads unusual
//! unwind tables with gimli, usual ones and language-specific data by itself, and treats the map as a claim.
//!
//! **Invariant:** shares no code with the parts that recover the program or write the file.

mod bits;
mod code;
mod decode;
mod evidence;
mod file;
mod fixed;
mod folds;
mod gaps;
mod got;
mod hidden;
mod pointers;
mod proof;
mod references;
mod relocations;
mod returns;
mod roots;
mod run;
mod symbols;
mod tables;
mod taken;
mod unwind;
mod walk;

pub use evidence::{FunctionEvidence, ReferenceCounts, function_evidence};
pub use proof::{Checked, Obligation, ObligationSummary, Proof, Violation};
pub use run::{Before, CheckOptions, check, check_with, read_map};
