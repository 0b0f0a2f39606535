//! The command line: arguments, files, exit codes; everything else is in the crates below.

mod args;
mod blocks;
mod commands;
mod draft;
mod evidence;
mod input;
mod kept_relocs;
mod note;
mod outcome;
mod pipeline;
mod report;
mod stages;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own wish is 2 for errors and 0 for --help and --version.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(outcome::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match commands::run(arguments) {
        Ok(code) => code,
        Err(stop) => stop.report(),
    }
}
