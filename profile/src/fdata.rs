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
use std::io::BufRead as _;

use postlink_cfg::Program;
use postlink_image::Image;
use rayon::prelude::*;

use crate::data::{Profile, ProfileKind, ReadStats};
use crate::error::{LineFault, OtherFormat, ProfileError};
use crate::names::{Names, Resolved};

/// Below this a part is not worth a thread of its own.
const MIN_PART_BYTES: usize = 1 << 18;

/// Reads one fdata file and resolves its names in `program`.
///
/// Several files are added with [`crate::merge`].
///
/// # Errors
/// As [`scan_fdata`].
pub fn read_fdata(bytes: &[u8], program: &Program<'_>) -> Result<Profile, ProfileError> {
    Ok(scan_fdata(bytes, program.image)?.bind(program))
}

/// Reads one fdata file and looks its names up among the symbols of `image`, for which no function needs to be known yet.
/// Lines are read in parallel.
///
/// # Errors
/// [`ProfileError::Line`] (PRF001) for the first line that does not follow the grammar,
/// [`ProfileError::Format`] (PRF002) for another kind of file. Names and offsets that this file does
/// not have are no error: they are counted in [`ReadStats`].
pub fn scan_fdata(bytes: &[u8], image: &Image<'_>) -> Result<Scanned, ProfileError> {
    let names = Names::new(image);
    scan(bytes, &|name: &[u8]| names.resolve(name))
}

/// The records of a file whose names were looked up.
#[derive(Debug)]
pub struct Scanned {
    pub(crate) kind: ProfileKind,
    pub(crate) events: Vec<String>,
    pub(crate) translated: bool,
    /// Numbers of lines and records.
    pub(crate) stats: ReadStats,
    /// In parts of about equal size.
    pub(crate) parts: Vec<Vec<Record>>,
}

/// A branch, or a sample at `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) count: u64,
    pub(crate) mispredicts: u64,
}

/// One end of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// In this file, if the offset fits the symbol's function.
    Symbol { symbol: u64, offset: u64 },
    Outside,
    /// A stub for a function of this file, or 0.
    Plt(u64),
    Unknown,
    Ambiguous,
}

/// Reads a file; `resolve` says what a name designates.
pub(crate) fn scan(bytes: &[u8], resolve: &(impl Fn(&[u8]) -> Resolved + Sync)) -> Result<Scanned, ProfileError> {
    if let Some(format) = other_format(bytes) {
        return Err(ProfileError::Format { format });
    }
    let header = Header::parse(bytes);
    let body = bytes.get(header.size..).unwrap_or(&[]);
    let parts = split_lines(body, rayon::current_num_threads().saturating_mul(4));
    let parts: Vec<Part<'_, _>> = parts
        .into_par_iter()
        .map(|lines| {
            let mut part = Part::new(resolve, header.kind);
            part.read(lines);
            part
        })
        .collect();
    let mut stats = ReadStats { lines: header.lines, ..ReadStats::default() };
    let mut records = Vec::with_capacity(parts.len());
    for part in parts {
        if let Some(fault) = part.fault {
            return Err(ProfileError::Line { line: stats.lines + part.stats.lines, fault });
        }
        stats = stats.add(part.stats);
        records.push(part.records);
    }
    Ok(Scanned { kind: header.kind, events: header.events, translated: header.translated, stats, parts: records })
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

/// What one thread reads.
struct Part<'t, R> {
    resolve: &'t R,
    kind: ProfileKind,
    records: Vec<Record>,
    stats: ReadStats,
    fault: Option<LineFault>,
    /// Lines come in runs of one function: the names that were resolved last, as source and target.
    last: [(&'t [u8], Resolved); 2],
}

impl<'t, R: Fn(&[u8]) -> Resolved> Part<'t, R> {
    fn new(resolve: &'t R, kind: ProfileKind) -> Self {
        let none: (&[u8], Resolved) = (&[], Resolved::Unknown);
        Self { resolve, kind, records: Vec::new(), stats: ReadStats::default(), fault: None, last: [none, none] }
    }

    /// Reads lines up to the first faulty one.
    fn read(&mut self, mut text: &'t [u8]) {
        while !text.is_empty() {
            let mut rest = text;
            // The C library looks at many bytes at once.
            let size = rest.skip_until(b'\n').unwrap_or(text.len());
            let line = text.get(..size).unwrap_or(text);
            let line = trim_cr(line.strip_suffix(b"\n").unwrap_or(line));
            text = rest;
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
                self.records.push(Record { from, to, count, mispredicts });
            }
            Some(b'0'..=b'2') => {
                let from = self.location(&mut fields, 0)?;
                let count = decimal(fields.next()?)?;
                fields.end()?;
                self.stats.records += 1;
                self.records.push(Record { from, to: End::Outside, count, mispredicts: 0 });
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

    /// Reads a location; `side` is 0 for the source and 1 for the target.
    fn location(&mut self, fields: &mut Fields<'t>, side: usize) -> Result<End, LineFault> {
        let [kind @ b'0'..=b'2'] = fields.next()? else { return Err(LineFault::LocationKind) };
        let repeated = self.last.iter().map(|known| known.0).find(|name| fields.is_next(name));
        let name = match repeated {
            Some(name) => fields.take(name.len()),
            None => fields.name()?,
        };
        let offset = hex(fields.next()?).ok_or(LineFault::Offset)?;
        if *kind == b'0' {
            return Ok(End::Outside);
        }
        let known = self.last.iter().find(|known| known.0 == name).copied();
        let known = known.unwrap_or_else(|| (name, (self.resolve)(&unescape(name))));
        self.last[side] = known;
        Ok(match known.1 {
            Resolved::Address(symbol) => End::Symbol { symbol, offset },
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

    /// Whether the next field is this one, of which it is known that it ends at its end.
    fn is_next(&self, field: &[u8]) -> bool {
        let rest = self.rest.unwrap_or(&[]);
        !field.is_empty() && rest.get(field.len()) == Some(&b' ') && rest.starts_with(field)
    }

    /// The next field, of `size` bytes.
    fn take(&mut self, size: usize) -> &'t [u8] {
        let rest = self.rest.unwrap_or(&[]);
        self.cut(rest, Some(size))
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
