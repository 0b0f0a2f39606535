//! `postlink optimize`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use postlink_base::IndexVec;
use postlink_cfg::{Class, FunctionId, Program, recover};
use postlink_emit::{EmitError, EmitOptions, emit};
use postlink_layout::{BlockOrderChoice, FunctionOrderChoice, Mode, PlanOptions, SplitChoice, plan};

use crate::args::{BlockOrderArg, ModeArg, Optimize, SplitArg};
use crate::input;
use crate::outcome::Stop;

pub(crate) fn run(arguments: &Optimize) -> Result<ExitCode, Stop> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Stop::usage(format!("--threads {threads}: {error}")))?;
    }
    let bytes = input::read(&arguments.input)?;
    let image = input::parse_supported(&arguments.input, &bytes)?;
    let program = recover(&image).map_err(|error| Stop::refused("IMG002", error.to_string()))?;
    let options = plan_options(&program, arguments)?;
    let mut may_move = selection(&program, arguments)?;
    // A function that cannot follow its plan stays where it is; each round removes at least one.
    const MAX_ROUNDS: usize = 32;
    let mut rounds = 0;
    let output = loop {
        let plan = plan(&program, None, &options, &may_move);
        match emit(&program, &plan, &EmitOptions { note: Vec::new(), no_map: arguments.no_map }) {
            Ok(output) => break output,
            Err(EmitError::Function { start, .. }) if rounds < MAX_ROUNDS => {
                rounds += 1;
                match program.function_at(start) {
                    Some(id) if may_move[id] => may_move[id] = false,
                    _ => return Err(Stop::contradiction("EMT001", format!("the function at {start:#x} fails in place"))),
                }
            }
            Err(error) => return Err(Stop::contradiction("EMT002", error.to_string())),
        }
    };
    store(&arguments.output, &output.bytes, &arguments.input)?;
    Ok(ExitCode::SUCCESS)
}

fn plan_options(program: &Program<'_>, arguments: &Optimize) -> Result<PlanOptions, Stop> {
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
        Some(SplitArg::All) => SplitChoice::All,
        Some(SplitArg::Random) => SplitChoice::Random,
        Some(SplitArg::None) => SplitChoice::None,
        None if has_profile => SplitChoice::Cold,
        None => SplitChoice::None,
    };
    let function_order = match arguments.function_order.as_deref() {
        Some("cdsort") => FunctionOrderChoice::CdSort,
        Some("hfsort") => FunctionOrderChoice::HfSort,
        Some("keep") => FunctionOrderChoice::Keep,
        Some("reverse") => FunctionOrderChoice::Reverse,
        Some("random") => FunctionOrderChoice::Random,
        Some(file) => FunctionOrderChoice::List(order_file(program, file)?),
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
    })
}

/// Reads an order file: one symbol per line; empty lines and lines that start with `#` are skipped.
fn order_file(program: &Program<'_>, file: &str) -> Result<Vec<FunctionId>, Stop> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Stop::usage(format!("--function-order {file}: {error}"))
            .hint("give cdsort, hfsort, keep, reverse, random, or a file with one function name per line")
    })?;
    let wanted: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut ids = Vec::new();
    for name in wanted {
        // A name that is not there is no error: order files outlive programs.
        if let Ok(id) = super::dump::find(program, name) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Which functions the user allows to move.
fn selection(program: &Program<'_>, arguments: &Optimize) -> Result<IndexVec<FunctionId, bool>, Stop> {
    let all = arguments.only.is_empty();
    let mut may_move: IndexVec<FunctionId, bool> = program.functions.iter().map(|_| all).collect();
    for name in &arguments.only {
        may_move[super::dump::find(program, name)?] = true;
    }
    for name in &arguments.skip {
        may_move[super::dump::find(program, name)?] = false;
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

/// Writes the output beside its final name and renames it, so that no half-written file ever has that
/// name; with the input's permissions.
fn store(path: &Path, bytes: &[u8], input: &Path) -> Result<(), Stop> {
    let fail = |error: &dyn std::fmt::Display| {
        Stop::refused("CLI002", format!("cannot write {}: {error}", path.display()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| fail(&error))?;
    file.write_all(bytes).map_err(|error| fail(&error))?;
    let permissions = std::fs::metadata(input).map_err(|error| fail(&error))?.permissions();
    std::fs::set_permissions(file.path(), permissions).map_err(|error| fail(&error))?;
    file.persist(path).map_err(|error| fail(&error.error))?;
    Ok(())
}
