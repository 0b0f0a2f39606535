//! What the arguments of `optimize` mean.

use postlink_base::IndexVec;
use postlink_cfg::{Class, FunctionId, Program};
use postlink_layout::{BlockOrderChoice, FunctionOrderChoice, Mode, PlanOptions, SplitChoice};

use crate::args::{BlockOrderArg, IcfArg, ModeArg, Optimize, SplitArg};
use crate::commands::dump;
use crate::outcome::Stop;

/// Orders of functions by name; anything else is a file.
const ORDERS: [&str; 5] = ["cdsort", "hfsort", "keep", "reverse", "random"];

/// Options for the note: what changes the output, and nothing that names a place or a time.
pub(super) fn note_options(arguments: &Optimize) -> Vec<String> {
    let mut options = vec![format!("mode={}", value_name(&arguments.mode))];
    if let Some(order) = arguments.block_order {
        options.push(format!("block-order={}", value_name(&order)));
    }
    if let Some(order) = arguments.function_order.as_deref() {
        options.push(format!("function-order={}", if ORDERS.contains(&order) { order } else { "file" }));
    }
    if let Some(split) = arguments.split {
        options.push(format!("split={}", value_name(&split)));
    }
    options.push(format!("seed={}", arguments.seed));
    options.push(format!("icf={}", value_name(&arguments.icf)));
    if arguments.keep_relocs {
        options.push("keep-relocs".to_owned());
    }
    if arguments.keep_got_calls {
        options.push("keep-got-calls".to_owned());
    }
    if arguments.hot_all {
        options.push("hot-all".to_owned());
    }
    options.extend(arguments.only.iter().map(|name| format!("only={name}")));
    options.extend(arguments.skip.iter().map(|name| format!("skip={name}")));
    options.extend(arguments.max_functions.map(|limit| format!("max-functions={limit}")));
    options
}

/// `--function-order FILE`, if a file is given.
pub(crate) fn order_file(arguments: &Optimize) -> Option<&str> {
    arguments.function_order.as_deref().filter(|order| !ORDERS.contains(order))
}

/// The options that make `arguments` again, apart from input, output, profiles and what is only reported.
/// `order_file` replaces the name of the file with the order of functions.
pub(crate) fn command_line(arguments: &Optimize, order_file: Option<&str>) -> Vec<String> {
    let mut line = vec![format!("--mode={}", value_name(&arguments.mode))];
    let mut push = |name: &str, value: Option<String>| line.extend(value.map(|value| format!("--{name}={value}")));
    push("block-order", arguments.block_order.as_ref().map(value_name));
    push("function-order", order_file.map(str::to_owned).or_else(|| arguments.function_order.clone()));
    push("split", arguments.split.as_ref().map(value_name));
    push("seed", Some(arguments.seed.to_string()));
    push("icf", matches!(arguments.icf, IcfArg::None).then(|| value_name(&arguments.icf)));
    arguments.only.iter().for_each(|name| push("only", Some(name.clone())));
    arguments.skip.iter().for_each(|name| push("skip", Some(name.clone())));
    push("max-functions", arguments.max_functions.map(|limit| limit.to_string()));
    push("threads", arguments.threads.map(|threads| threads.to_string()));
    for (flag, is_set) in [
        ("--hot-all", arguments.hot_all),
        ("--allow-stale", arguments.allow_stale),
        ("--no-map", arguments.no_map),
        ("--keep-relocs", arguments.keep_relocs),
        ("--keep-got-calls", arguments.keep_got_calls),
        ("--no-verify", arguments.no_verify),
    ] {
        line.extend(is_set.then(|| flag.to_owned()));
    }
    line
}

fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

pub(super) fn plan_options(program: &Program<'_>, arguments: &Optimize) -> Result<PlanOptions, Stop> {
    let has_profile = !arguments.profile.is_empty();
    let block_order = match arguments.block_order {
        Some(BlockOrderArg::ExtTsp) => BlockOrderChoice::ExtTsp,
        Some(BlockOrderArg::Keep) => BlockOrderChoice::Keep,
        Some(BlockOrderArg::Reverse) => BlockOrderChoice::Reverse,
        Some(BlockOrderArg::Random) => BlockOrderChoice::Random,
        None if has_profile => BlockOrderChoice::ExtTsp,
        None => BlockOrderChoice::Keep,
    };
    let split = match arguments.split {
        Some(SplitArg::Cold) => SplitChoice::Cold,
        Some(SplitArg::Warm) => SplitChoice::Warm,
        Some(SplitArg::All) => SplitChoice::All,
        Some(SplitArg::Random) => SplitChoice::Random,
        Some(SplitArg::None) => SplitChoice::None,
        None if has_profile => SplitChoice::ByProfile,
        None => SplitChoice::None,
    };
    let function_order = match arguments.function_order.as_deref() {
        Some("cdsort") => FunctionOrderChoice::CdSort,
        Some("hfsort") => FunctionOrderChoice::HfSort,
        Some("keep") => FunctionOrderChoice::Keep,
        Some("reverse") => FunctionOrderChoice::Reverse,
        Some("random") => FunctionOrderChoice::Random,
        Some(file) => FunctionOrderChoice::List(read_order(program, file)?),
        None if has_profile => FunctionOrderChoice::CdSort,
        None => FunctionOrderChoice::Keep,
    };
    Ok(PlanOptions {
        mode: match arguments.mode {
            ModeArg::Full => Mode::Full,
            ModeArg::Hot => Mode::Hot,
        },
        block_order,
        function_order,
        split,
        seed: arguments.seed,
        hot_all: arguments.hot_all,
        whole_only: false,
        fold: matches!(arguments.icf, IcfArg::Safe),
    })
}

/// Reads an order file: one symbol per line; empty lines and lines that start with `#` are skipped.
fn read_order(program: &Program<'_>, file: &str) -> Result<Vec<FunctionId>, Stop> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Stop::usage(format!("--function-order {file}: {error}"))
            .hint("give cdsort, hfsort, keep, reverse, random, or a file with one function name per line")
    })?;
    let names = dump::names(program);
    let wanted = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    // A name that is not there is no error: order files outlive programs.
    Ok(wanted.filter_map(|name| names.get(name.as_bytes()).copied()).collect())
}

/// Which functions the user allows to move.
pub(super) fn selection(program: &Program<'_>, arguments: &Optimize) -> Result<IndexVec<FunctionId, bool>, Stop> {
    let all = arguments.only.is_empty();
    let mut may_move: IndexVec<FunctionId, bool> = program.functions.iter().map(|_| all).collect();
    for name in &arguments.only {
        may_move[dump::find(program, name)?] = true;
    }
    for name in &arguments.skip {
        may_move[dump::find(program, name)?] = false;
    }
    if let Some(limit) = arguments.max_functions {
        let mut left = limit;
        for (id, function) in program.functions.iter_enumerated() {
            if may_move[id] && function.class != Class::Pinned {
                may_move[id] = left > 0;
                left = left.saturating_sub(1);
            }
        }
    }
    Ok(may_move)
}
