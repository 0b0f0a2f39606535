//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Post-link binary optimizer for ELF.
#[derive(Parser)]
#[command(name = "postlink", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say what a file is, what may be rearranged in it and what is missing
    Doctor(Doctor),
    /// Print what was recovered from a file
    Dump(Dump),
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// The linked program or shared object
    pub(crate) input: PathBuf,
    /// An execution profile (fdata), to weigh functions by samples
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum DumpWhat {
    /// One line per function
    Functions,
    /// The control-flow graph of one function
    Cfg,
    /// Calls, tail calls and taken addresses
    Callgraph,
    /// Every reference to code and its evidence
    References,
    /// Unwind entries and landing pads
    Unwind,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum DumpFormat {
    /// Plain text, stable
    Text,
    /// The DOT language (cfg and callgraph)
    Dot,
}

#[derive(Args)]
pub(crate) struct Dump {
    /// What to print
    pub(crate) what: DumpWhat,
    /// The linked program or shared object
    pub(crate) input: PathBuf,
    /// Only this function (a symbol, or an address as 0x...)
    pub(crate) name: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: DumpFormat,
}
