//! What can be wrong with a file.

/// A malformed ELF file: names the field and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The first bytes are not those of an ELF file.
    #[error("not an ELF file: the first four bytes are not 7f 45 4c 46")]
    NotElf,
    /// An ELF file of another class or byte order.
    #[error("only 64-bit little-endian ELF is understood (EI_CLASS {class}, EI_DATA {data} at offset 0x4)")]
    Class {
        /// `e_ident[EI_CLASS]`.
        class: u8,
        /// `e_ident[EI_DATA]`.
        data: u8,
    },
    /// A field names bytes that are not in the file.
    #[error("{field} at offset {at:#x}: range {offset:#x}+{size:#x} lies outside of the file ({file_size:#x} bytes)")]
    Bounds {
        /// The field that names the range.
        field: &'static str,
        /// File offset of the structure that holds the field.
        at: u64,
        /// Start of the range that was named.
        offset: u64,
        /// Its length in bytes.
        size: u64,
        /// Size of the file in bytes.
        file_size: u64,
    },
    /// A field has a value that the format does not allow.
    #[error("{field} at offset {at:#x}: {value:#x} is not valid ({expected})")]
    Value {
        /// The field.
        field: &'static str,
        /// File offset of the structure that holds the field.
        at: u64,
        /// Its value.
        value: u64,
        /// What would have been valid.
        expected: &'static str,
    },
}
