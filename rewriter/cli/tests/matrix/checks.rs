//! Checks on rewritten files that do not depend on what the program does.
use crate::process::Line;
use object::{Object as _, ObjectSymbol as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Warnings and errors of `readelf -a`, numbers removed, or an error when it fails.
pub(crate) fn readelf_complaints(file: &Path, logs: &Path) -> Result<BTreeSet<String>, String> {
    let line = Line::new(logs, ["readelf", "-aW", &file.to_string_lossy()]);
    let finished = line.run(logs, LIMIT)?;
    if !finished.succeeded() {
        return Err(format!("readelf -aW: {} {}", finished.status, finished.excerpt()));
    }
    // Without the addresses, the same complaint about the original and about the output compares equal.
    let normal = |text: &str| text.chars().filter(|c| !c.is_ascii_hexdigit()).collect::<String>();
    let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    let warnings =
        stdout.lines().filter(|line| line.contains("Warning:") || line.contains("Error:") || line.contains("<corrupt"));
    Ok(stderr.lines().chain(warnings).map(normal).collect())
}

/// Addresses of functions by name.
/// (Equal ones may have one address in the new file.)
pub(crate) type Functions = BTreeMap<Vec<u8>, Vec<u64>>;

/// Function symbols with a size.
pub(crate) fn functions(file: &Path) -> Result<Functions, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let elf = object::File::parse(&*bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut functions = Functions::new();
    for symbol in elf.symbols() {
        if symbol.is_definition() && symbol.kind() == object::SymbolKind::Text && symbol.size() > 0 {
            let name = symbol.name_bytes().map_err(|error| format!("{}: {error}", file.display()))?;
            functions.entry(name.to_vec()).or_default().push(symbol.address());
        }
    }
    Ok(functions)
}

/// How many functions there are and how many have a new address; an error names a lost symbol.
pub(crate) fn moved(old: &Functions, new: &Functions) -> Result<(u64, u64), String> {
    let (mut count, mut moved) = (0, 0);
    for (name, addresses) in old {
        let Some(found) = new.get(name) else {
            return Err(format!("function symbol lost: {}", String::from_utf8_lossy(name)));
        };
        if found.len() < addresses.len() {
            return Err(format!("function symbol lost, one of several: {}", String::from_utf8_lossy(name)));
        }
        count += addresses.len() as u64;
        moved += addresses.iter().filter(|&address| !found.contains(address)).count() as u64;
    }
    Ok((count, moved))
}

/// A profile in BOLT's text format with a count for every direct branch and call that objdump shows.
///
/// Grammar: `1 FROM OFFSET 1 TO OFFSET MISPREDICTIONS COUNT`; a target offset of 0 is a call. Local symbols
/// carry an ordinal; names that occur twice are left out. The counts are invented, from a hash, some of them
/// zero: they conserve no flow, as real samples do not either. objdump is a decoder that postlink does not share.
pub(crate) fn synthetic_profile(file: &Path, logs: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let elf = object::File::parse(&*bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    // Name as objdump shows it -> name in the profile; `None` when it is ambiguous.
    let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
    for symbol in elf.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if symbol.is_definition() && symbol.kind() == object::SymbolKind::Text && symbol.size() > 0 {
            let escaped = name.replace('\\', "\\\\").replace(' ', "\\ ");
            let shown = if symbol.is_local() { format!("{escaped}/1") } else { escaped };
            names.entry(name.to_owned()).and_modify(|entry| *entry = None).or_insert(Some(shown));
        }
    }
    let line = Line::new(logs, ["objdump", "-d", "--no-show-raw-insn", &file.to_string_lossy()]);
    let finished = line.run(logs, LIMIT)?;
    if !finished.succeeded() {
        return Err(format!("objdump: {} {}", finished.status, finished.excerpt()));
    }
    let mut text = String::new();
    let mut function: Option<(u64, &str)> = None;
    let listing = String::from_utf8_lossy(&finished.stdout).into_owned();
    for line in listing.lines() {
        // `0000000000401136 <main>:`
        if let Some((address, name)) = line.split_once(" <").filter(|_| line.ends_with(">:") && !line.starts_with(' '))
        {
            let known = name.strip_suffix(">:").and_then(|name| names.get(name)).and_then(Option::as_deref);
            function = u64::from_str_radix(address, 16).ok().zip(known);
            continue;
        }
        // `  40113a:\tcall   401106 <greet>` or `  40113a:\tjne    401150 <main+0x1a>`
        let (Some((start, from)), Some((address, instruction))) = (function, line.split_once(":\t")) else { continue };
        let Ok(address) = u64::from_str_radix(address.trim(), 16) else { continue };
        let branch = instruction.starts_with("call ") || instruction.starts_with('j');
        let target = instruction.split_once(" <").and_then(|(_, rest)| rest.strip_suffix('>'));
        let (true, Some(target)) = (branch, target) else { continue };
        let (name, offset) = match target.rsplit_once("+0x") {
            Some((name, offset)) => (name, u64::from_str_radix(offset, 16).unwrap_or(0)),
            None => (target, 0),
        };
        let Some(to) = names.get(name).and_then(Option::as_deref) else { continue };
        let Some(from_offset) = address.checked_sub(start) else { continue };
        let branch = format!("1 {from} {from_offset:x} 1 {to} {offset:x} ");
        let dice = u64::from(blake3::hash(branch.as_bytes()).as_bytes()[0]);
        if dice >= 64 || instruction.starts_with("call ") {
            text.push_str(&format!("{branch}{} {}\n", dice % 3, dice * dice % 1009 + 1));
        }
    }
    if text.is_empty() {
        // All calls of a small shared object may go through its PLT: plain samples, at the functions' beginnings.
        text.push_str("no_lbr cycles:u\n");
        for name in names.values().flatten() {
            text.push_str(&format!("1 {name} 0 100\n"));
        }
    }
    Ok(text)
}

/// Function names of the backtrace that gdb shows at a breakpoint.
pub(crate) fn gdb_frames(run: &Line, function: &str, logs: &Path) -> Result<Vec<String>, String> {
    let mut line =
        Line::new(&run.folder, ["gdb", "-nx", "-batch", "-ex", "set confirm off", "-ex", "set breakpoint pending on"]);
    line.environment.clone_from(&run.environment);
    line.environment.push(("DEBUGINFOD_URLS".to_owned(), String::new()));
    for command in [format!("break {function}"), "run".to_owned(), "bt".to_owned(), "kill".to_owned()] {
        line.words.extend(["-ex".to_owned(), command]);
    }
    line.words.push("--args".to_owned());
    line.words.extend(run.words.iter().cloned());
    let finished = line.run(logs, LIMIT)?;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let mut frames = Vec::new();
    for frame in text.lines().filter(|line| line.starts_with('#')) {
        // `#1  0x0000000000401136 in main ()` or `#0  f (x=1) at file.c:3`
        let rest = frame.split_once("  ").map_or("", |(_, rest)| rest);
        let rest = rest
            .split_once(" in ")
            .map_or(rest, |(address, rest)| if address.starts_with("0x") { rest } else { address });
        // gdb marks parts of a function that stand apart; what called main is of no interest.
        let name = rest.split(" (").next().unwrap_or_default().replace("[cold]", "");
        let name = name.split(".cold").next().unwrap_or_default().to_owned();
        let is_main = name == "main";
        frames.push(name);
        if is_main {
            break;
        }
    }
    if frames.is_empty() {
        return Err(format!("gdb shows no frames\n{}\n{}", line.shell(), finished.excerpt()));
    }
    Ok(frames)
}
