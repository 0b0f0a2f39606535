//! One file per subcommand.

mod bundle;
mod demo;
mod doctor;
mod dump;
mod explain;
mod optimize;
mod verify;

use std::process::ExitCode;

use crate::args::{Arguments, Command};
use crate::outcome::Stop;

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Stop> {
    match arguments.command {
        Command::Optimize(optimize) => optimize::run(&optimize),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Dump(dump) => dump::run(&dump),
        Command::Verify(verify) => verify::run(&verify),
        Command::Explain(explain) => explain::run(&explain),
        Command::Bundle(bundle) => bundle::run(&bundle),
        Command::Demo(demo) => demo::run(&demo),
    }
}

/// Prints data on stdout. A reader that went away is not an error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// A name from a file, with control characters escaped: it must not reach a terminal as it is.
pub(crate) fn printable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
