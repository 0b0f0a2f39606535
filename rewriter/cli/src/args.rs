//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_STATUS: &str = "\
Exit status: 0 written or proven; 1 refused (the input or profile is at fault) or not proven;
2 wrong arguments; 3 postlink contradicted itself. Unless it is 0, no output is written.";

/// Post-link binary optimizer for ELF.
#[derive(Parser)]
#[command(name = "postlink", version, about, max_term_width = 100, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lay a linked program out again: hot code together, cold code away
    Optimize(Optimize),
    /// Say what a file is, what may be rearranged in it and what is missing
    Doctor(Doctor),
    /// Print what was recovered from a file
    Dump(Dump),
    /// Check that a file is another file's program, laid out differently
    Verify(Verify),
    /// Show one function before and after: blocks, addresses, what refers to it
    Explain(Explain),
    /// Pack all that reproduces a run of `optimize` into one archive, to report a bug with
    Bundle(Bundle),
    /// Optimize a small program that postlink carries in itself, prove it, run it
    Demo(Demo),
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum ModeArg {
    /// Lay all code out again inside its old address range
    Full,
    /// Move only code that holds samples, to a segment of its own
    Hot,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum BlockOrderArg {
    /// Extended travelling salesman, by the profile (the default with one)
    ExtTsp,
    /// As in the input (the default without a profile)
    Keep,
    /// Backwards behind the entry: a stress test
    Reverse,
    /// By the seed: a stress test
    Random,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum SplitArg {
    /// Blocks without samples leave functions that have some (the default with a profile, if less than 4 MB of functions
    /// were executed)
    Cold,
    /// As cold, and blocks that are seldom executed go to a place between hot and cold code (the default with a profile,
    /// if 4 MB of functions or more were executed)
    Warm,
    /// Every block but the entry: a stress test
    All,
    /// By the seed: a stress test
    Random,
    /// Nothing (the default without a profile)
    None,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum IcfArg {
    /// Those that are only called, and whose addresses nobody can compare
    Safe,
    /// None
    None,
}

#[derive(Args)]
pub(crate) struct Optimize {
    /// The linked program or shared object, with its relocations kept (-Wl,--emit-relocs)
    pub(crate) input: PathBuf,
    /// Where to write the result
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// An execution profile (fdata); several are added up
    #[arg(short, long, value_name = "FILE")]
    pub(crate) profile: Vec<PathBuf>,
    /// What moves, and where to
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) mode: ModeArg,
    /// Order of blocks in functions
    #[arg(long, value_enum, value_name = "ORDER")]
    pub(crate) block_order: Option<BlockOrderArg>,
    /// Order of functions: cdsort, hfsort, keep, reverse, random, or a file with one name per line
    #[arg(long, value_name = "ORDER|FILE")]
    pub(crate) function_order: Option<String>,
    /// Which blocks leave the hot part of their function
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) split: Option<SplitArg>,
    /// Seed of the random orders
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Move only these functions (may be given several times)
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) only: Vec<String>,
    /// Do not move these functions (may be given several times)
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) skip: Vec<String>,
    /// Move only the first N functions that could move, in address order
    #[arg(long, value_name = "N")]
    pub(crate) max_functions: Option<usize>,
    /// In hot mode: treat every function as one that holds samples
    #[arg(long)]
    pub(crate) hot_all: bool,
    /// Accept a profile that does not fit the program
    #[arg(long)]
    pub(crate) allow_stale: bool,
    /// Number of threads (default: one per core)
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Leave the address map out of the output
    #[arg(long)]
    pub(crate) no_map: bool,
    /// Write the address map to this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) map_file: Option<PathBuf>,
    /// Keep the static relocations of loaded sections, brought up to date, for tools that ask for them
    #[arg(long)]
    pub(crate) keep_relocs: bool,
    /// Which of several equal functions become one
    #[arg(long, value_enum, value_name = "WHICH", default_value = "safe")]
    pub(crate) icf: IcfArg,
    /// Leave calls through the GOT as they are, even where the target is known
    #[arg(long)]
    pub(crate) keep_got_calls: bool,
    /// Do not check that the output is the input's program
    #[arg(long, conflicts_with = "report")]
    pub(crate) no_verify: bool,
    /// Write the summary, the evidence and a row per function to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Print wall time, CPU time and peak memory of each stage
    #[arg(long)]
    pub(crate) time: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// The linked program or shared object
    pub(crate) input: PathBuf,
    /// An execution profile (fdata), to weigh functions by samples
    #[arg(short, long, value_name = "FILE")]
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

#[derive(Args)]
pub(crate) struct Verify {
    /// The file as the linker wrote it
    pub(crate) old: PathBuf,
    /// The file that should be the same program
    pub(crate) new: PathBuf,
    /// The address map, if NEW does not hold it (`optimize --map-file`)
    #[arg(long, value_name = "FILE")]
    pub(crate) map: Option<PathBuf>,
    /// Write obligations, violations, counts, the evidence and a row per function to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// How many violations to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

#[derive(Args)]
pub(crate) struct Explain {
    /// The function: a symbol, or an old address as 0x...
    pub(crate) name: String,
    /// The file as the linker wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) old: PathBuf,
    /// What `optimize` made of it
    #[arg(long, value_name = "FILE")]
    pub(crate) new: PathBuf,
    /// The address map, if NEW does not hold it (`optimize --map-file`)
    #[arg(long, value_name = "FILE")]
    pub(crate) map: Option<PathBuf>,
    /// An execution profile (fdata), to show how often each block runs
    #[arg(short, long, value_name = "FILE")]
    pub(crate) profile: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Bundle {
    /// The linked program or shared object that shows the bug
    pub(crate) input: PathBuf,
    /// Where to write the archive (tar)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// An execution profile (fdata); several are added up
    #[arg(short, long, value_name = "FILE")]
    pub(crate) profile: Vec<PathBuf>,
    /// Do not run the optimization to see how it ends
    #[arg(long)]
    pub(crate) no_run: bool,
    /// Options of `optimize`
    #[arg(last = true, value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// Leave the files in this folder instead of a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
