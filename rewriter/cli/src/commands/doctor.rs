//! `postlink doctor`.

use std::fmt::Write as _;
use std::process::ExitCode;

use postlink_cfg::dump::coverage;
use postlink_cfg::recover;

use crate::args::Doctor;
use crate::input;
use crate::outcome::Stop;

pub(crate) fn run(arguments: &Doctor) -> Result<ExitCode, Stop> {
    let bytes = input::read(&arguments.input)?;
    let image = input::parse_supported(&arguments.input, &bytes)?;
    let program = recover(&image).map_err(|error| Stop::refused("IMG002", error.to_string()))?;
    let found = coverage(&program);
    let total: (u64, u64) = found.classes.iter().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    let mut out = String::new();
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    for (name, class) in ["free", "rigid", "pinned"].iter().zip(&found.classes) {
        let _ = writeln!(
            out,
            "{name:7} {:>8} functions ({:.2} %) {:>11} bytes ({:.2} %)",
            class.0,
            share(class.0, total.0),
            class.1,
            share(class.1, total.1)
        );
    }
    for (reason, functions, size) in &found.reasons {
        let _ = writeln!(out, "  {} {functions:>6} functions {size:>9} bytes: {}", reason.code(), reason.text());
    }
    super::print(&out);
    Ok(ExitCode::SUCCESS)
}
