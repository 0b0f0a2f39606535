//! Why unwind tables cannot be written.

use postlink_image::UnwindError;

/// The unwind tables of one function cannot be rewritten as planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unwind tables of the function at {function:#x}: {fault}")]
pub struct EmitUnwindError {
    /// Old address of the function (of the FDE's `pc_begin` where no function is known).
    pub function: u64,
    /// What is wrong.
    pub fault: UnwindFault,
}

/// What is wrong with the unwind tables of a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwindFault {
    /// The old tables are malformed.
    #[error(transparent)]
    Malformed(#[from] UnwindError),
    /// More than one FDE describes a function whose blocks moved.
    #[error("{count} FDEs describe it")]
    SeveralFdes {
        /// How many.
        count: usize,
    },
    /// An FDE reaches beyond the function whose blocks moved.
    #[error("its FDE describes {pc_begin:#x}..{pc_end:#x}, which is more than the function")]
    FdeOutside {
        /// Start of the FDE's range.
        pc_begin: u64,
        /// End of the FDE's range.
        pc_end: u64,
    },
    /// The bytes that one FDE describes did not move together.
    #[error("the code that one FDE describes ({pc_begin:#x}..{pc_end:#x}) moved apart at {at:#x}")]
    MovedApart {
        /// Start of the FDE's range.
        pc_begin: u64,
        /// End of the FDE's range.
        pc_end: u64,
        /// First address that went elsewhere.
        at: u64,
    },
    /// The caller's pieces overlap, leave their fragment, or are out of order.
    #[error("the piece of old code at {old:#x} overlaps another one or lies outside of its fragment")]
    Piece {
        /// Old address of the piece.
        old: u64,
    },
    /// A piece has no unwind information although its function has.
    #[error("no FDE describes the code at {old:#x}, but one describes the function")]
    Undescribed {
        /// Old address of the piece.
        old: u64,
    },
    /// A row that call frame instructions cannot express with the CIE's alignment factors.
    #[error("{what} {value} cannot be written with the CIE's alignment factors")]
    Unrepresentable {
        /// The part of the row.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// Call frame instructions that contradict each other.
    #[error("call frame instruction at {at:#x}: {what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// Address of the instruction.
        at: u64,
    },
    /// A limit that no compiler reaches.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A DWARF expression whose value depends on where the code is, or that is not understood.
    #[error("a DWARF expression depends on the address of the code, or is unknown (operation {operation:#04x})")]
    PositionDependent {
        /// The `DW_OP_*`.
        operation: u8,
    },
    /// The dynamic linker writes into the tables.
    #[error("a dynamic relocation applies to the unwind tables at {at:#x}")]
    DynamicRelocation {
        /// Address of the field.
        at: u64,
    },
    /// The call-site table is not sorted: personality routines would not find all of its entries.
    #[error("the call site at {at:#x} is out of order")]
    CallSiteOrder {
        /// Start of the call site.
        at: u64,
    },
    /// A pointer does not fit its encoding at the new place.
    #[error("the pointer to {target:#x} at {at:#x} does not fit encoding {encoding:#04x}")]
    PointerRange {
        /// New address of the field.
        at: u64,
        /// What it points to.
        target: u64,
        /// `DW_EH_PE_*`.
        encoding: u8,
    },
    /// Tables of 4 GiB or more.
    #[error("the new unwind tables are 4 GiB or larger")]
    Size,
}

impl UnwindFault {
    pub(crate) const fn of(self, function: u64) -> EmitUnwindError {
        EmitUnwindError { function, fault: self }
    }
}
