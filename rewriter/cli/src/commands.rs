//! One file per subcommand.

mod doctor;
mod dump;
mod optimize;

use std::process::ExitCode;

use crate::args::{Arguments, Command};
use crate::outcome::Stop;

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Stop> {
    match arguments.command {
        Command::Optimize(optimize) => optimize::run(&optimize),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Dump(dump) => dump::run(&dump),
    }
}

/// Prints data on stdout. A reader that went away is not an error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
