//! Execution profiles: read, attach to the program, infer what is missing.
//!
//! [`read_fdata`] resolves the names of a profile to addresses of the old file ([`scan_fdata`] does so as far as that goes
//! before functions are known); [`function_weights`]
//! and [`call_arcs`] are cheap views of the whole; [`attach`] gives the counts of one function's blocks
//! and edges, [`attach_all`] those of all, and with them whether the profile belongs to this program at all.
//!
//! **Invariant:** knows neither layout nor output; a profile never changes what may move.

mod attach;
mod bind;
mod code;
mod data;
mod error;
mod fdata;
mod infer;
mod names;
mod samples;
mod staleness;
mod weights;

pub use attach::{AttachStats, FunctionCounts, attach};
pub use data::{Branch, Profile, ProfileKind, ReadStats, Sample, merge};
pub use error::{LineFault, OtherFormat, ProfileError};
pub use fdata::{Scanned, read_fdata, scan_fdata};
pub use staleness::{Attached, STALE_BELOW_PERCENT, ShareOfCounts, attach_all};
pub use weights::{FunctionWeight, ProfileCall, call_arcs, function_weights};
