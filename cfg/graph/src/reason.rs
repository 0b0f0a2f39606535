//! Why a function may not be rearranged, or not even moved.

/// Why a function is rigid or pinned. Every reason has a stable code (report/CODES.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "`text` and CODES.md say what each means")]
pub enum Reason {
    SectionStays,
    UnknownIndirectJump,
    InteriorAddressTaken,
    MidInstructionTarget,
    DataInCode,
    UndecodableBytes,
    CallPopIdiom,
    UnexplainedTableEntry,
    UnexplainedCodeReference,
    ReferenceIntoInstruction,
    FallsOffTheEnd,
    ShortBranchOut,
    UnwindInconsistent,
    LsdaNotUnderstood,
    OverlappingSymbols,
    PositionDependentField,
    UnmatchedRelocation,
    AddressArithmetic,
    UserRequest,
    ProofFailed,
    ReturnAddress,
    TextRelocation,
    HiddenDistances,
    PatchedCode,
    EndGuessed,
    CodeBoundary,
}

impl Reason {
    /// All reasons, in code order.
    pub const ALL: [Self; 26] = [
        Self::SectionStays,
        Self::UnknownIndirectJump,
        Self::InteriorAddressTaken,
        Self::MidInstructionTarget,
        Self::DataInCode,
        Self::UndecodableBytes,
        Self::CallPopIdiom,
        Self::UnexplainedTableEntry,
        Self::UnexplainedCodeReference,
        Self::ReferenceIntoInstruction,
        Self::FallsOffTheEnd,
        Self::ShortBranchOut,
        Self::UnwindInconsistent,
        Self::LsdaNotUnderstood,
        Self::OverlappingSymbols,
        Self::PositionDependentField,
        Self::UnmatchedRelocation,
        Self::AddressArithmetic,
        Self::UserRequest,
        Self::ProofFailed,
        Self::ReturnAddress,
        Self::TextRelocation,
        Self::HiddenDistances,
        Self::PatchedCode,
        Self::EndGuessed,
        Self::CodeBoundary,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SectionStays => "CFG001",
            Self::UnknownIndirectJump => "CFG002",
            Self::InteriorAddressTaken => "CFG003",
            Self::MidInstructionTarget => "CFG004",
            Self::DataInCode => "CFG005",
            Self::UndecodableBytes => "CFG006",
            Self::CallPopIdiom => "CFG007",
            Self::UnexplainedTableEntry => "CFG008",
            Self::UnexplainedCodeReference => "CFG009",
            Self::ReferenceIntoInstruction => "CFG010",
            Self::FallsOffTheEnd => "CFG011",
            Self::ShortBranchOut => "CFG012",
            Self::UnwindInconsistent => "CFG013",
            Self::LsdaNotUnderstood => "CFG014",
            Self::OverlappingSymbols => "CFG015",
            Self::PositionDependentField => "CFG016",
            Self::UnmatchedRelocation => "CFG017",
            Self::AddressArithmetic => "CFG018",
            Self::UserRequest => "CFG019",
            Self::ProofFailed => "CFG020",
            Self::ReturnAddress => "CFG021",
            Self::TextRelocation => "CFG022",
            Self::HiddenDistances => "CFG023",
            Self::PatchedCode => "CFG024",
            Self::EndGuessed => "CFG025",
            Self::CodeBoundary => "CFG026",
        }
    }

    /// One line for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SectionStays => "stands in a section that is not laid out again",
            Self::UnknownIndirectJump => "an indirect jump with no jump table that explains it",
            Self::InteriorAddressTaken => "the code takes the address of a place inside the function",
            Self::MidInstructionTarget => "a branch lands inside an instruction",
            Self::DataInCode => "data stands between the instructions",
            Self::UndecodableBytes => "bytes that are no instruction",
            Self::CallPopIdiom => "a call into the function itself reads its own address",
            Self::UnexplainedTableEntry => "a PC-relative word of data may point here, but its table was not found",
            Self::UnexplainedCodeReference => "bytes that may be code or data refer to it",
            Self::ReferenceIntoInstruction => "a pointer leads into the middle of an instruction",
            Self::FallsOffTheEnd => "control may run off its end into something that cannot be moved with it",
            Self::ShortBranchOut => "an 8-bit branch leaves the function and cannot be widened",
            Self::UnwindInconsistent => "its unwind entries do not match its extent",
            Self::LsdaNotUnderstood => "its exception table is not understood",
            Self::OverlappingSymbols => "its symbols overlap in part",
            Self::PositionDependentField => "an operand holds a distance that only moves as a whole",
            Self::UnmatchedRelocation => "a relocation does not match the instruction at its place",
            Self::AddressArithmetic => "a jump is computed by adding to the address of this code",
            Self::UserRequest => "kept by request",
            Self::ProofFailed => "the proof of its new code failed",
            Self::ReturnAddress => "what stands behind one of its calls must stay there",
            Self::TextRelocation => "the dynamic linker writes into its instructions",
            Self::HiddenDistances => "a table holds distances into it that no relocation tells of",
            Self::PatchedCode => "the program writes over its instructions",
            Self::EndGuessed => "code stands behind a trap in it, and nothing says where it ends",
            Self::CodeBoundary => "something takes an address at which code ends, here or nearby",
        }
    }
}
