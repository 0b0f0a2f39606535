//! fdata, the text format of BOLT's profiles.
//!
//! Grammar (BOLT's `DataReader.cpp` and `profiles.md`); one space separates, LF ends, offsets are
//! hexadecimal without `0x`, counts decimal:
//!
//! ```text
//! file   := ["boltedcollection" LF] ["no_lbr" {SP event} LF] {(branch | memory) LF | sample LF}
//! branch := loc SP loc SP mispredicts SP count
//! sample := loc SP count                            only after no_lbr
//! loc    := ("0" | "1" | "2") SP name SP offset     0: not in this file; 1, 2: a symbol
//! memory := mloc SP mloc SP count                   mloc: as loc, but 3, 4, 5
//! ```
//!
//! In names a backslash stands before a space or a backslash.

use std::borrow::Cow;

use postlink_cfg::Program;
use postlink_isa::Flow;
use rayon::prelude::*;

use crate::code::Code;
use crate::data::{Branch, Profile, ProfileKind, ReadStats, Records, Sample};
use crate::error::{LineFault, OtherFormat, ProfileError};
use crate::names::{Names, Resolved};

/// Below this a part is not worth a thread of its own.
const MIN_PART_BYTES: usize = 1 << 18;

/// Reads one fdata file and resolves its names in `program`.
///
/// Lines are read in parallel. Several files are added with [`crate::merge`].
///
/// # Errors
/// [`ProfileError::Line`] (PRF001) for the first line that does not follow the grammar,
/// [`ProfileError::Format`] (PRF002) for another kind of file. Names and offsets that this file does
/// not have are no error: they are counted in [`ReadStats`].
pub fn read_fdata(bytes: &[u8], program: &Program<'_>) -> Result<Profile, ProfileError> {
    let names = Names::new(program.image);
    parse(bytes, &ProgramSymbols { names, program })
}

/// What the parser asks about a program.
pub(crate) trait Symbols: Sync {
    /// What a name designates.
    fn resolve(&self, name: &[u8]) -> Resolved;
    /// The code that a symbol's offsets may lead to, as `start..end`: its function; empty if there is none.
    fn bounds(&self, symbol: u64) -> (u64, u64);
    /// Where a record of a branch between two functions leads in truth, if it cannot lead to `to`.
    fn correct(&self, from: u64, to: u64) -> Option<u64>;
}

struct ProgramSymbols<'p, 'd> {
    names: Names<'d>,
    program: &'p Program<'d>,
}

impl Symbols for ProgramSymbols<'_, '_> {
    fn resolve(&self, name: &[u8]) -> Resolved {
        self.names.resolve(name)
    }

    fn bounds(&self, symbol: u64) -> (u64, u64) {
        if let Some(id) = self.program.function_at(symbol) {
            let function = &self.program.functions[id];
            return (function.start, function.end);
        }
        let ranges = self.program.image.exec_ranges();
        let range = ranges.iter().find(|range| (range.0..range.1).contains(&symbol));
        range.map_or((0, 0), |&(start, end, _)| (start, end))
    }

    fn correct(&self, from: u64, to: u64) -> Option<u64> {
        let entered = self.program.function_at(to)?;
        let function = &self.program.functions[entered];
        if function.start != to || function.contains(from) {
            return None;
        }
        let target = match self.program.flow(from)? {
            Flow::Jump { target } | Flow::Branch { target, .. } => target,
            _ => return None,
        };
        (target != to && function.contains(target)).then_some(target)
    }
}

/// Reads a file with the symbols of a program, or of a test.
pub(crate) fn parse(bytes: &[u8], symbols: &impl Symbols) -> Result<Profile, ProfileError> {
    if let Some(format) = other_format(bytes) {
        return Err(ProfileError::Format { format });
    }
    let header = Header::parse(bytes);
    let body = bytes.get(header.size..).unwrap_or(&[]);
    let parts = split_lines(body, rayon::current_num_threads().saturating_mul(4));
    let parts: Vec<Part<'_, _>> = parts
        .into_par_iter()
        .map(|lines| {
            let mut part = Part::new(symbols, header.kind);
            part.read(lines);
            part
        })
        .collect();
    let mut stats = ReadStats { lines: header.lines, ..ReadStats::default() };
    let mut records = Records::default();
    for part in parts {
        if let Some(fault) = part.fault {
            return Err(ProfileError::Line { line: stats.lines + part.stats.lines, fault });
        }
        stats = stats.add(part.stats);
        records.append(part.records);
    }
    Ok(Profile::new(records, header.kind, header.events, header.translated, stats))
}

fn other_format(bytes: &[u8]) -> Option<OtherFormat> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"PERFILE2") || starts(b"2ELIFREP") {
        Some(OtherFormat::PerfData)
    } else if starts(b"\x7fELF") {
        Some(OtherFormat::Elf)
    } else if starts(b"---") {
        Some(OtherFormat::BoltYaml)
    } else if starts(b"\x28\xb5\x2f\xfd") || starts(b"\x1f\x8b") || starts(b"\xfd7zXZ") {
        Some(OtherFormat::Compressed)
    } else {
        None
    }
}

/// The lines before the first record.
struct Header {
    size: usize,
    lines: u64,
    kind: ProfileKind,
    events: Vec<String>,
    translated: bool,
}

impl Header {
    fn parse(bytes: &[u8]) -> Self {
        let mut header = Self { size: 0, lines: 0, kind: ProfileKind::Branches, events: Vec::new(), translated: false };
        // The two lines in either order.
        for _ in 0..2 {
            let rest = bytes.get(header.size..).unwrap_or(&[]);
            let Some(line) = rest.split(|&byte| byte == b'\n').next() else { break };
            let mut words = trim_cr(line).split(|&byte| byte == b' ').filter(|word| !word.is_empty());
            match words.next() {
                Some(b"boltedcollection") => header.translated = true,
                Some(b"no_lbr") => {
                    header.kind = ProfileKind::Samples;
                    header.events.extend(words.map(|word| String::from_utf8_lossy(word).into_owned()));
                }
                _ => break,
            }
            header.size = (header.size + line.len() + 1).min(bytes.len());
            header.lines += 1;
        }
        header
    }
}

/// Splits text at line ends into about `count` parts.
fn split_lines(text: &[u8], count: usize) -> Vec<&[u8]> {
    let size = text.len().div_ceil(count.max(1)).max(MIN_PART_BYTES);
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line_end = rest.get(size..).and_then(|tail| tail.iter().position(|&byte| byte == b'\n'));
        let end = line_end.map_or(rest.len(), |tail| size + tail + 1);
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    parts
}

/// One end of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    At {
        addr: u64,
        /// Where its function starts.
        function: u64,
    },
    Outside,
    /// A stub for a function of this file.
    Plt(u64),
    Unknown,
    Ambiguous,
    OutOfRange,
}

/// A name that was resolved, with the bounds of its function.
#[derive(Clone, Copy)]
struct Known<'t> {
    name: &'t [u8],
    resolved: Resolved,
    bounds: (u64, u64),
}

/// What one thread reads.
struct Part<'t, S> {
    symbols: &'t S,
    kind: ProfileKind,
    records: Records,
    stats: ReadStats,
    fault: Option<LineFault>,
    /// Lines come in runs of one function: the names that were resolved last, as source and target.
    last: [Known<'t>; 2],
}

impl<'t, S: Symbols> Part<'t, S> {
    fn new(symbols: &'t S, kind: ProfileKind) -> Self {
        let none = Known { name: &[], resolved: Resolved::Unknown, bounds: (0, 0) };
        Self {
            symbols,
            kind,
            records: Records::default(),
            stats: ReadStats::default(),
            fault: None,
            last: [none, none],
        }
    }

    /// Reads lines up to the first faulty one.
    fn read(&mut self, mut text: &'t [u8]) {
        while !text.is_empty() {
            let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
            let line = trim_cr(text.get(..end).unwrap_or(&[]));
            text = text.get(end + 1..).unwrap_or(&[]);
            self.stats.lines += 1;
            if line.is_empty() {
                continue;
            }
            if let Err(fault) = self.line(line) {
                self.fault = Some(fault);
                return;
            }
        }
    }

    fn line(&mut self, line: &'t [u8]) -> Result<(), LineFault> {
        let mut fields = Fields { rest: Some(line) };
        match line.first() {
            Some(b'0'..=b'2') if self.kind == ProfileKind::Branches => {
                let from = self.location(&mut fields, 0)?;
                let to = self.location(&mut fields, 1)?;
                let mispredicts = decimal(fields.next()?)?;
                let count = decimal(fields.next()?)?;
                fields.end()?;
                self.stats.records += 1;
                self.branch(from, to, count, mispredicts);
            }
            Some(b'0'..=b'2') => {
                let at = self.location(&mut fields, 0)?;
                let count = decimal(fields.next()?)?;
                fields.end()?;
                self.stats.records += 1;
                match at {
                    End::At { addr, .. } => self.records.samples.push(Sample { addr, count }),
                    other => self.unresolved(other, count),
                }
            }
            Some(b'3'..=b'5') => {
                for _ in 0..2 {
                    let [b'3'..=b'5'] = fields.next()? else { return Err(LineFault::LocationKind) };
                    fields.name()?;
                    hex(fields.next()?).ok_or(LineFault::Offset)?;
                }
                decimal(fields.next()?)?;
                fields.end()?;
                self.stats.memory_records += 1;
            }
            _ => return Err(LineFault::LocationKind),
        }
        Ok(())
    }

    fn branch(&mut self, from: End, to: End, count: u64, mispredicts: u64) {
        for end in [from, to] {
            if matches!(end, End::Unknown | End::Ambiguous | End::OutOfRange) {
                self.unresolved(end, count);
                return;
            }
        }
        // Code in the linkage table is not rearranged: a record from there comes from outside.
        let from_addr = if let End::At { addr, .. } = from { addr } else { 0 };
        let mut to_addr = if let End::At { addr, .. } = to { addr } else { 0 };
        if from_addr == 0 && to_addr == 0 {
            self.stats.external += 1;
            return;
        }
        if let (End::At { function: left, .. }, End::At { function: entered, .. }) = (from, to)
            && left != entered
            && let Some(target) = self.symbols.correct(from_addr, to_addr)
        {
            to_addr = target;
            self.stats.corrected += 1;
        }
        if let End::Plt(callee) = to
            && callee != 0
        {
            self.records.plt_calls.push(Branch { from: from_addr, to: callee, count, mispredicts });
        }
        self.records.branches.push(Branch { from: from_addr, to: to_addr, count, mispredicts });
    }

    fn unresolved(&mut self, end: End, count: u64) {
        match end {
            End::Unknown => self.stats.unknown_names += 1,
            End::Ambiguous => self.stats.ambiguous_names += 1,
            End::OutOfRange => self.stats.out_of_range += 1,
            End::At { .. } | End::Outside | End::Plt(_) => {
                self.stats.external += 1;
                return;
            }
        }
        self.stats.unresolved_count = self.stats.unresolved_count.saturating_add(count);
    }

    /// Reads a location; `side` is 0 for the source and 1 for the target.
    fn location(&mut self, fields: &mut Fields<'t>, side: usize) -> Result<End, LineFault> {
        let [kind @ b'0'..=b'2'] = fields.next()? else { return Err(LineFault::LocationKind) };
        let name = fields.name()?;
        let offset = hex(fields.next()?).ok_or(LineFault::Offset)?;
        if *kind == b'0' {
            return Ok(End::Outside);
        }
        let known = self.last.iter().find(|known| known.name == name).copied();
        let known = known.unwrap_or_else(|| {
            let resolved = self.symbols.resolve(&unescape(name));
            let bounds = if let Resolved::Address(addr) = resolved { self.symbols.bounds(addr) } else { (0, 0) };
            Known { name, resolved, bounds }
        });
        self.last[side] = known;
        let (function, end) = known.bounds;
        Ok(match known.resolved {
            Resolved::Address(symbol) => match symbol.checked_add(offset) {
                Some(addr) if (function..end).contains(&addr) => End::At { addr, function },
                _ => End::OutOfRange,
            },
            Resolved::Plt(callee) => End::Plt(callee),
            Resolved::Unknown => End::Unknown,
            Resolved::Ambiguous => End::Ambiguous,
        })
    }
}

/// The fields of a line.
struct Fields<'t> {
    /// What is not read yet; `None` behind the last field.
    rest: Option<&'t [u8]>,
}

impl<'t> Fields<'t> {
    fn next(&mut self) -> Result<&'t [u8], LineFault> {
        let rest = self.rest.ok_or(LineFault::MissingField)?;
        let space = rest.iter().position(|&byte| byte == b' ');
        Ok(self.cut(rest, space))
    }

    /// A name, with its escapes.
    fn name(&mut self) -> Result<&'t [u8], LineFault> {
        let rest = self.rest.ok_or(LineFault::MissingField)?;
        let mut escaped = false;
        let space = rest.iter().position(|&byte| {
            let ends = byte == b' ' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let name = self.cut(rest, space);
        if name.is_empty() { Err(LineFault::EmptyName) } else { Ok(name) }
    }

    fn cut(&mut self, rest: &'t [u8], space: Option<usize>) -> &'t [u8] {
        let (field, rest) = match space {
            Some(space) => (rest.get(..space), rest.get(space + 1..)),
            None => (Some(rest), None),
        };
        self.rest = rest;
        field.unwrap_or(&[])
    }

    const fn end(&self) -> Result<(), LineFault> {
        if self.rest.is_some() { Err(LineFault::TrailingText) } else { Ok(()) }
    }
}

fn trim_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn unescape(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return Cow::Borrowed(name);
    }
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        let byte = if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte };
        plain.push(byte);
    }
    Cow::Owned(plain)
}

/// A hexadecimal number of 1 to 16 digits.
pub(crate) fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// A decimal number; what does not fit into 64 bits saturates, like every count.
fn decimal(digits: &[u8]) -> Result<u64, LineFault> {
    if digits.is_empty() {
        return Err(LineFault::MissingField);
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        if digit.is_ascii_digit() {
            Ok(value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
        } else {
            Err(LineFault::Count)
        }
    })
}

#[cfg(test)]
mod tests;
