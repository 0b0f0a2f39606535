//! `postlink dump`.

use std::process::ExitCode;

use postlink_cfg::{FunctionId, Program, dump, recover};

use crate::args::{Dump, DumpFormat, DumpWhat};
use crate::input;
use crate::outcome::Stop;

pub(crate) fn run(arguments: &Dump) -> Result<ExitCode, Stop> {
    let bytes = input::read_program(&arguments.input)?;
    let image = input::parse_supported(&arguments.input, &bytes)?;
    let program = recover(&image).map_err(|error| Stop::refused("IMG002", error.to_string()))?;
    let filter = arguments.name.as_deref().map(|name| find(&program, name)).transpose()?;
    let dot = arguments.format == DumpFormat::Dot;
    let text = match (arguments.what, filter) {
        (DumpWhat::Functions, _) => dump::functions(&program, filter),
        (DumpWhat::Cfg, Some(id)) if dot => dump::cfg_dot(&program, id),
        (DumpWhat::Cfg, Some(id)) => dump::cfg(&program, id),
        (DumpWhat::Cfg, None) if dot => return Err(Stop::usage("dump cfg --format dot needs the name of a function")),
        (DumpWhat::Cfg, None) => program.functions.ids().map(|id| dump::cfg(&program, id)).collect(),
        (DumpWhat::Callgraph, _) if dot => dump::callgraph_dot(&program, filter),
        (DumpWhat::Callgraph, _) => dump::callgraph(&program, filter),
        (DumpWhat::References, _) => dump::references(&program, filter),
        (DumpWhat::Unwind, _) => dump::unwind(&program, filter),
    };
    super::print(&text);
    Ok(ExitCode::SUCCESS)
}

/// All names of functions; of equal names the first symbol's function.
pub(crate) fn names<'d>(program: &Program<'d>) -> std::collections::HashMap<&'d [u8], FunctionId> {
    let mut names = std::collections::HashMap::new();
    let Some(table) = program.symtab() else { return names };
    for symbol in table.iter().filter(|symbol| symbol.is_defined()) {
        if let Some(id) = program.function_at(symbol.value)
            && program.functions[id].start == symbol.value
        {
            names.entry(table.name(&symbol)).or_insert(id);
        }
    }
    names
}

/// The function with that symbol, or at that address.
pub(crate) fn find(program: &Program<'_>, name: &str) -> Result<FunctionId, Stop> {
    let found = match name.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16)) {
        Some(Ok(addr)) => program.function_at(addr),
        _ => {
            let addr = program.symtab().and_then(|table| {
                table
                    .iter()
                    .find(|symbol| symbol.is_defined() && table.name(symbol) == name.as_bytes())
                    .map(|symbol| symbol.value)
            });
            addr.and_then(|addr| program.function_at(addr))
        }
    };
    found.ok_or_else(|| {
        Stop::usage(format!("no function is called {name}")).hint("`postlink dump functions FILE` lists them all")
    })
}
