//! What a file is, as far as its headers, notes and comments tell.

use std::fmt::Write as _;
use std::path::Path;

use postlink_image::{DynamicTable, Image, build_id, elf, notes, relr_addresses};

use crate::commands::printable;

const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;
const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
/// `GNU_PROPERTY_X86_FEATURE_1_AND` (x86-64 psABI, "Program Property").
const X86_FEATURE_1_AND: u32 = 0xc000_0002;

/// One line: name, size and format.
pub(crate) fn headline(path: &Path, bytes: &[u8]) -> String {
    format!("file           {}, {} bytes, {}\n", printable(&path.display().to_string()), bytes.len(), format_of(bytes))
}

fn format_of(bytes: &[u8]) -> &'static str {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    match bytes {
        [] => "empty",
        [0x7f, b'E', b'L', b'F', 1, ..] => "32-bit ELF",
        [0x7f, b'E', b'L', b'F', 2, 2, ..] => "64-bit big-endian ELF",
        [0x7f, b'E', b'L', b'F', 2, 1, ..] => "64-bit little-endian ELF",
        [0x7f, b'E', b'L', b'F', ..] => "damaged ELF",
        _ if starts(b"!<arch>\n") || starts(b"!<thin>\n") => "static library (ar): link it first",
        _ if starts(b"MZ") => "Windows program (PE)",
        _ if starts(&[0xcf, 0xfa, 0xed, 0xfe]) || starts(&[0xca, 0xfe, 0xba, 0xbe]) => "macOS program (Mach-O)",
        _ if starts(b"BC\xc0\xde") => "LLVM bitcode: link it first",
        _ if starts(b"#!") => "script",
        _ if starts(b"PERFILE2") => "perf.data profile",
        _ => "no known program format",
    }
}

/// The other lines about the file.
pub(crate) fn page(image: &Image<'_>) -> String {
    let mut out = String::new();
    let mut line = |what: &str, text: &str| {
        let _ = writeln!(out, "{what:<14} {text}");
    };
    line("kind", &kind(image));
    let code = image.sections().iter().filter(|section| section.is_exec());
    let (sections, bytes) =
        code.fold((0u64, 0u64), |sum, section| (sum.0 + 1, sum.1.saturating_add(section.size)));
    line("code", &format!("{bytes} bytes in {sections} executable section{}", if sections == 1 { "" } else { "s" }));
    let (linker, compilers) = tools(image);
    line("linker", &linker);
    for compiler in compilers.iter().take(4) {
        line("compiler", compiler);
    }
    line("symbols", &symbols(image));
    line("relocations", &relocations(image));
    line("unwinding", &unwinding(image));
    line("CET", &cet(image));
    line("debug info", &debug_information(image));
    line("build id", &build_id(image).map_or_else(|| "none: link with -Wl,--build-id to tell builds apart".into(), |id| hex(id.0)));
    if let Some(tool) = rewritten(image) {
        line("rewritten", tool);
    }
    out
}

fn kind(image: &Image<'_>) -> String {
    let header = image.header();
    let machine = match header.machine {
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_AARCH64 => "AArch64".to_owned(),
        other => format!("machine type {other}"),
    };
    let dynamic = DynamicTable::read(image);
    let has_interpreter = image.segment(elf::PT_INTERP).is_some();
    let has_dynamic = image.segment(elf::PT_DYNAMIC).is_some();
    let pie = dynamic.value(DT_FLAGS_1).is_some_and(|flags| flags & DF_1_PIE != 0);
    let what = match header.kind {
        elf::ET_REL => "object file (not linked yet)",
        elf::ET_EXEC if has_interpreter => "executable at fixed addresses (no PIE), dynamically linked",
        elf::ET_EXEC if has_dynamic => "executable at fixed addresses (no PIE), with a dynamic section",
        elf::ET_EXEC => "executable at fixed addresses (no PIE), statically linked",
        elf::ET_DYN if has_interpreter => "position-independent executable (PIE), dynamically linked",
        elf::ET_DYN if pie => "position-independent executable (static PIE)",
        elf::ET_DYN => "shared object",
        elf::ET_CORE => "core dump",
        _ => "unknown ELF type",
    };
    format!("{machine} {what}")
}

/// Linker and compilers, from `.comment` and gold's note. GNU ld leaves no mark.
fn tools(image: &Image<'_>) -> (String, Vec<String>) {
    let comment = image.section(".comment").map_or(&[][..], |(_, section)| image.section_data(section));
    let mut linker = None;
    let mut compilers: Vec<String> = Vec::new();
    for text in comment.split(|&byte| byte == 0).filter(|text| !text.is_empty()) {
        let text = printable(&String::from_utf8_lossy(text.get(..120).unwrap_or(text)));
        if let Some(name) = text.strip_prefix("Linker: ") {
            linker = Some(name.to_owned());
        } else if text.starts_with("mold ") {
            linker = Some(text);
        } else if !compilers.contains(&text) {
            compilers.push(text);
        }
    }
    let gold = image.section(".note.gnu.gold-version").is_some().then(|| "GNU gold".to_owned());
    (linker.or(gold).unwrap_or_else(|| "not named in the file (GNU ld never is)".to_owned()), compilers)
}

fn symbols(image: &Image<'_>) -> String {
    match image.symtab() {
        Some(table) if table.len() > 1 => {
            let functions = table.iter().filter(|symbol| symbol.is_function() && symbol.is_defined()).count();
            format!("{} in .symtab, {functions} of them functions", table.len() - 1)
        }
        _ => "no .symtab: the file is stripped".to_owned(),
    }
}

fn relocations(image: &Image<'_>) -> String {
    let (mut code, mut data) = (0u64, 0u64);
    for (table, target) in image.static_relocations() {
        let Some(target) = image.sections().get(target) else { continue };
        let count = image.rela_table(table).iter().len() as u64;
        if target.is_exec() {
            code += count;
        } else if target.is_alloc() {
            data += count;
        }
    }
    let kept = if code == 0 {
        "not kept for code (link with -Wl,-q)".to_owned()
    } else {
        format!("kept: {code} in code, {data} in data")
    };
    let dynamic: u64 = image.dynamic_relocations().map(|table| image.rela_table(table).iter().len() as u64).sum();
    let relr: u64 = image
        .sections()
        .iter()
        .filter(|section| section.kind == elf::SHT_RELR)
        .map(|section| relr_addresses(image.section_data(section)).len() as u64)
        .sum();
    let packed = if relr > 0 { format!(", {relr} packed (RELR)") } else { String::new() };
    format!("{kept}; {dynamic} dynamic{packed}")
}

fn unwinding(image: &Image<'_>) -> String {
    let size = |name: &str| image.section(name).map(|(_, section)| section.size);
    match (size(".eh_frame"), size(".gcc_except_table")) {
        (None, _) => "no .eh_frame: functions are known by symbols and references only".to_owned(),
        (Some(frames), None) => format!(".eh_frame, {frames} bytes; no exception tables"),
        (Some(frames), Some(tables)) => format!(".eh_frame, {frames} bytes; exception tables, {tables} bytes"),
    }
}

fn cet(image: &Image<'_>) -> String {
    let flags = image.section(".note.gnu.property").and_then(|(_, section)| {
        let found = notes(image.section_data(section), section.align);
        let note = found.into_iter().find(|note| note.owner == b"GNU" && note.kind == NT_GNU_PROPERTY_TYPE_0)?;
        property(note.desc, X86_FEATURE_1_AND)
    });
    match flags.unwrap_or(0) & 3 {
        0 => "no".to_owned(),
        1 => "indirect branch tracking (IBT)".to_owned(),
        2 => "shadow stack (SHSTK)".to_owned(),
        _ => "indirect branch tracking (IBT) and shadow stack (SHSTK)".to_owned(),
    }
}

/// The 4-byte value of one property: type, size, data padded to 8 bytes.
fn property(mut rest: &[u8], wanted: u32) -> Option<u32> {
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    loop {
        let kind = word(rest)?;
        let size = word(rest.get(4..)?)? as usize;
        if kind == wanted && size == 4 {
            return word(rest.get(8..)?);
        }
        rest = rest.get(8usize.checked_add(size.checked_next_multiple_of(8)?)?..)?;
    }
}

fn debug_information(image: &Image<'_>) -> String {
    let debug = image.sections().iter().filter(|section| {
        section.name.starts_with(b".debug_") || section.name.starts_with(b".zdebug_") || section.name == b".gdb_index"
    });
    let (sections, bytes) = debug.fold((0u64, 0u64), |sum, section| (sum.0 + 1, sum.1.saturating_add(section.size)));
    if sections == 0 {
        "none".to_owned()
    } else {
        format!("{bytes} bytes in {sections} sections, which the output will not have [POSTLINK_SECTION]")
    }
}

fn rewritten(image: &Image<'_>) -> Option<&'static str> {
    [(".note.postlink", "by postlink"), (".note.bolt_info", "by llvm-bolt"), (".bolt.org.text", "by llvm-bolt")]
        .into_iter()
        .find(|(section, _)| image.section(section).is_some())
        .map(|(_, tool)| tool)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(64).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
