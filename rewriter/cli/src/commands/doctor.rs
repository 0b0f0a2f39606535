//! `postlink doctor`: what a file is, what may be rearranged in it, and what is missing.

mod coverage;
mod identity;

use std::path::Path;
use std::process::ExitCode;

use postlink_cfg::recover;
use postlink_image::{Image, check_supported};
use postlink_profile::{STALE_BELOW_PERCENT, attach_all};

use self::coverage::Coverage;
use super::optimize::{profile_files, read_profiles};
use crate::args::Doctor;
use crate::input;
use crate::outcome::Stop;

pub(crate) fn run(arguments: &Doctor) -> Result<ExitCode, Stop> {
    let path = &arguments.input;
    let bytes = input::read_program(path)?;
    // What the file is goes to stdout even if the rest is refused: it explains the refusal.
    super::print(&identity::headline(path, &bytes));
    let image = input::parse(path, &bytes)?;
    super::print(&identity::page(&image));
    check_supported(&image).map_err(|reason| {
        Stop::refused("POSTLINK_TARGET_UNSUPPORTED", format!("{}: {reason}", path.display())).hint(reason.hint())
    })?;
    let text = body(path, &image, arguments)?;
    super::print(&text);
    Ok(ExitCode::SUCCESS)
}

fn body(path: &Path, image: &Image<'_>, arguments: &Doctor) -> Result<String, Stop> {
    let program =
        recover(image).map_err(|error| Stop::refused("IMG002", format!("{}: {error}", path.display())))?;
    let profile = read_profiles(&program, profile_files(&arguments.profile))?;
    let mut out = Coverage::new(&program, profile.as_ref()).text(&program);
    if let Some(profile) = &profile {
        let share = attach_all(profile, &program).share;
        out.push_str(&format!("\nprofile  {} % of its counts fit this program", share.percent()));
        out.push_str(if share.is_stale() { ": it is STALE" } else { "\n" });
        if share.is_stale() {
            out.push_str(&format!(
                " [POSTLINK_PROFILE_STALE] (at least {STALE_BELOW_PERCENT} % must); take one of this very build\n"
            ));
        }
    }
    out.push_str("\nresult   postlink optimize can rewrite this file\n");
    Ok(out)
}
