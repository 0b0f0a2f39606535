//! Developer tasks: `cargo xtask corpus-check | bench | nfc | ratchet`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line of our own: its output is its result"
)]

mod bench;
mod check;
mod corpus;
mod nfc;
mod postlink;
mod process;
mod ratchet;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Developer tasks", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Rewrite real programs in every layout, and check what they compute afterwards
    CorpusCheck(check::Arguments),
    /// Compare postlink with llvm-bolt: cost of the run, quality of the code
    Bench(bench::Arguments),
    /// Show that a change of the source changes no output
    Nfc(nfc::Arguments),
    /// Compare the instructions that postlink executes on a fixed input with what is committed
    Ratchet(ratchet::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::CorpusCheck(arguments) => check::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Nfc(arguments) => nfc::run(&arguments),
        Task::Ratchet(arguments) => ratchet::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
