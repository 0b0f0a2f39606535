//! What can be wrong with unwind tables.

/// Malformed or unknown unwind data: names the field and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwindError {
    /// The section, record or table ends inside the field.
    #[error("{what} at {at:#x}: the data end before it does")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Its address.
        at: u64,
    },
    /// A LEB128 number of more than 64 bits.
    #[error("{what} at {at:#x}: the number has more than 64 bits")]
    Number {
        /// The field.
        what: &'static str,
        /// Its address.
        at: u64,
    },
    /// A pointer encoding that does not exist or has no meaning there.
    #[error("{what} at {at:#x}: pointer encoding {encoding:#04x} is not supported there")]
    Encoding {
        /// The field.
        what: &'static str,
        /// Its address.
        at: u64,
        /// The `DW_EH_PE_*` byte.
        encoding: u8,
    },
    /// A field has a value that the format does not allow, or that is unknown.
    #[error("{what} at {at:#x}: {value:#x} is not valid ({expected})")]
    Value {
        /// The field.
        what: &'static str,
        /// Its address.
        at: u64,
        /// Its value.
        value: u64,
        /// What would have been valid.
        expected: &'static str,
    },
    /// An address that no section with content holds.
    #[error("{what}: no section has content at {at:#x}")]
    NoContent {
        /// What should be there.
        what: &'static str,
        /// The address.
        at: u64,
    },
}
