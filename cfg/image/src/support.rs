//! Which files postlink rewrites at all.

use memchr::memmem;

use crate::consts::elf;
use crate::{Image, SymbolTable};

/// Why a well-formed file is refused, and what its owner can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Another architecture.
    #[error("machine type {machine} is not x86-64")]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// Not an executable or shared object.
    #[error("ELF type {kind} is neither an executable nor a shared object")]
    Kind {
        /// `e_type`.
        kind: u16,
    },
    /// No section headers.
    #[error("the file has no section headers")]
    NoSections,
    /// No symbol table.
    #[error("the file is stripped: it has no symbol table (.symtab)")]
    Stripped,
    /// The linker dropped the relocations.
    #[error("the file has no relocations for its code: it was linked without --emit-relocs")]
    NoRelocations,
    /// Written by postlink or llvm-bolt.
    #[error("the file was already rewritten by {tool} (section {section})")]
    Rewritten {
        /// The tool that wrote it.
        tool: &'static str,
        /// The section that says so.
        section: &'static str,
    },
    /// The Glasgow Haskell Compiler's output.
    #[error("the file has code of GHC (Haskell), which keeps tables of its runtime system between the instructions and finds them by their distance")]
    Ghc,
}

impl Unsupported {
    /// What to do next.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Machine { .. } => "postlink rewrites x86-64 files only",
            Self::Kind { .. } => "give the linked program or shared object, not an object file or a core",
            Self::NoSections => "give the file as the linker wrote it, with its section headers",
            Self::Stripped => "optimize first and strip the output; remove -s, strip=true or a strip step from the link",
            Self::NoRelocations => {
                "relink with -Wl,--emit-relocs (short -Wl,-q; for cargo: RUSTFLAGS=\"-C link-arg=-Wl,-q\", no strip)"
            }
            Self::Rewritten { .. } => "give the file as the linker wrote it",
            Self::Ghc => "Haskell programs cannot be rewritten; libraries in C that they load can",
        }
    }
}

/// Checks that postlink can work on `image` at all.
///
/// # Errors
/// The reason why not.
pub fn check_supported(image: &Image<'_>) -> Result<(), Unsupported> {
    let header = image.header();
    if header.machine != elf::EM_X86_64 {
        return Err(Unsupported::Machine { machine: header.machine });
    }
    if header.kind != elf::ET_EXEC && header.kind != elf::ET_DYN {
        return Err(Unsupported::Kind { kind: header.kind });
    }
    if image.sections().is_empty() {
        return Err(Unsupported::NoSections);
    }
    for (section, tool) in
        [(".note.postlink", "postlink"), (".note.bolt_info", "llvm-bolt"), (".bolt.org.text", "llvm-bolt")]
    {
        if image.section(section).is_some() {
            return Err(Unsupported::Rewritten { tool, section });
        }
    }
    if image.symtab().is_none_or(|table| table.len() <= 1) {
        return Err(Unsupported::Stripped);
    }
    let describes_code = |target: usize| image.sections().get(target).is_some_and(|section| section.is_exec());
    if !image.static_relocations().any(|(_, target)| describes_code(target)) {
        return Err(Unsupported::NoRelocations);
    }
    if image.symtab().is_some_and(|table| has_ghc_code(&table)) {
        return Err(Unsupported::Ghc);
    }
    Ok(())
}

/// Whether the file refers to what GHC's runtime system pushes in front of every suspended computation, be it in a
/// library.
fn has_ghc_code(table: &SymbolTable<'_>) -> bool {
    const NAME: &[u8] = b"stg_upd_frame_info";
    memmem::find(table.strings(), NAME).is_some()
        && table.iter().any(|symbol| table.name(&symbol) == NAME)
}
