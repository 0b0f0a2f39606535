//! The outcome: obligations, violations, and what was looked at.

use postlink_base::{NewAddr, OldAddr};

/// What has to hold for the new file to be the old program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obligation {
    /// P1: old and new code, walked in step, execute the same instructions.
    Code,
    /// P2: every byte of data is unchanged, or is part of a code pointer whose target is mapped.
    Pointers,
    /// P3: every entry of every jump table, read as the code reads it, leads to the mapped target.
    Tables,
    /// P4: unwinding agrees at every instruction.
    Unwinding,
    /// P5: symbols and exports agree through the map.
    Symbols,
    /// P6: headers, segments and hardening properties are sound and no weaker than they were.
    File,
    /// P7: bytes that no longer hold live code are traps, and nothing leads there.
    Residue,
}

impl Obligation {
    /// All obligations, P1 to P7.
    pub const ALL: [Self; 7] =
        [Self::Code, Self::Pointers, Self::Tables, Self::Unwinding, Self::Symbols, Self::File, Self::Residue];

    /// `P1` to `P7`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Code => "P1",
            Self::Pointers => "P2",
            Self::Tables => "P3",
            Self::Unwinding => "P4",
            Self::Symbols => "P5",
            Self::File => "P6",
            Self::Residue => "P7",
        }
    }

    /// One word for the page that people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Pointers => "pointers",
            Self::Tables => "tables",
            Self::Unwinding => "unwinding",
            Self::Symbols => "symbols",
            Self::File => "file",
            Self::Residue => "nothing left behind",
        }
    }
}

/// One place where the new file is not shown to be the old program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The obligation that does not hold.
    pub obligation: Obligation,
    /// The place in the old file.
    pub old_addr: Option<OldAddr>,
    /// Which check failed: stable, kebab-case.
    pub rule: &'static str,
    /// The place in the new file.
    pub new_addr: Option<NewAddr>,
    /// Disassembly or value in the old file.
    pub old_text: String,
    /// Disassembly or value in the new file.
    pub new_text: String,
    /// Start of the old code range (FDE or function symbol) that is to be pinned to contain the
    /// violation. `None`: it concerns the file as a whole.
    pub function: Option<OldAddr>,
    /// What was expected.
    pub message: String,
}

/// What was looked at, as counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Functions: code ranges named by an FDE or a function symbol.
    pub functions: u64,
    /// Instructions walked in step in both files.
    pub instructions: u64,
    /// Bytes of code that did not move, compared without decoding (`docs/proof.md`, P1).
    pub fixed_bytes: u64,
    /// Position-dependent operands of instructions.
    pub operands: u64,
    /// Words of data that hold a code address, dynamic relocations and dynamic tags included.
    pub pointers: u64,
    /// Jump-table entries.
    pub table_entries: u64,
    /// Rows of unwind tables compared.
    pub unwind_rows: u64,
    /// Call-site ranges compared.
    pub call_sites: u64,
    /// Symbols, static and dynamic.
    pub symbols: u64,
    /// Bytes of data compared.
    pub data_bytes: u64,
    /// Bytes of executable memory shown to hold no live code.
    pub dead_bytes: u64,
    /// Calls at the very end of a function, where the old and the new code go on differently; they
    /// are taken not to return (`docs/proof.md`, assumption A4).
    pub assumed_no_return: u64,
    /// Calls through the GOT that became direct (`docs/proof.md`, assumption A9).
    pub got_calls: u64,
    /// Functions whose code is that of an equal one (`docs/proof.md`, assumption A10).
    pub folded_functions: u64,
    /// Their bytes in the old file.
    pub folded_bytes: u64,
    /// Bytes of code that did not move and that the second decoder does not know; kept byte for byte.
    pub undecoded_bytes: u64,
    /// Bytes inside of functions that no known path reaches; kept byte for byte.
    pub unreached_bytes: u64,
}

impl Checked {
    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.functions += other.functions;
        self.instructions += other.instructions;
        self.fixed_bytes += other.fixed_bytes;
        self.operands += other.operands;
        self.pointers += other.pointers;
        self.table_entries += other.table_entries;
        self.unwind_rows += other.unwind_rows;
        self.call_sites += other.call_sites;
        self.symbols += other.symbols;
        self.data_bytes += other.data_bytes;
        self.dead_bytes += other.dead_bytes;
        self.assumed_no_return += other.assumed_no_return;
        self.got_calls += other.got_calls;
        self.folded_functions += other.folded_functions;
        self.folded_bytes += other.folded_bytes;
        self.undecoded_bytes += other.undecoded_bytes;
        self.unreached_bytes += other.unreached_bytes;
    }
}

/// One line per obligation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObligationSummary {
    /// Which one.
    pub obligation: Obligation,
    /// Single comparisons made for it.
    pub checked: u64,
    /// Comparisons that failed; at least the number of its [`Violation`]s, of which only the first
    /// thousands are kept.
    pub violated: u64,
}

/// The result of comparing two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// P1 to P7 in order.
    pub obligations: [ObligationSummary; 7],
    /// Sorted by obligation, then by old address.
    pub violations: Vec<Violation>,
    /// Counts of what was compared.
    pub checked: Checked,
    /// What the proof rests on in this file beyond the general assumptions, or could not look at.
    pub notes: Vec<String>,
    /// What the entries of tables of distances lead to in the old program, in order of the entries. Empty
    /// unless [`CheckOptions::table_targets`](crate::CheckOptions::table_targets) was set.
    pub table_targets: Vec<OldAddr>,
}

impl Proof {
    /// Whether every obligation holds.
    pub fn is_proven(&self) -> bool {
        self.violations.is_empty() && self.obligations.iter().all(|summary| summary.violated == 0)
    }
}

/// How many violations of one obligation are kept as text; the rest is only counted.
const KEPT_PER_OBLIGATION: u64 = 4000;

/// Collects violations and counts; one per thread, merged at the end.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<Violation>,
    pub(crate) violated: [u64; 7],
    pub(crate) checked: Checked,
    pub(crate) notes: Vec<String>,
}

impl Findings {
    /// Records a violation. `make` builds the text and is not called for one too many.
    pub(crate) fn violate(&mut self, obligation: Obligation, make: impl FnOnce() -> Violation) {
        let count = &mut self.violated[obligation as usize];
        *count += 1;
        if *count <= KEPT_PER_OBLIGATION {
            self.violations.push(make());
        }
    }

    /// Shorthand for violations without disassembly.
    pub(crate) fn fail(
        &mut self,
        obligation: Obligation,
        rule: &'static str,
        (old_addr, new_addr): (Option<u64>, Option<u64>),
        (old_text, new_text): (String, String),
        message: &str,
    ) {
        self.violate(obligation, || Violation {
            obligation,
            old_addr: old_addr.map(OldAddr::new),
            rule,
            new_addr: new_addr.map(NewAddr::new),
            old_text,
            new_text,
            function: None,
            message: message.to_owned(),
        });
    }

    /// The same with both places, and the function that is at fault.
    pub(crate) fn fail_in(
        &mut self,
        obligation: Obligation,
        rule: &'static str,
        (old_addr, new_addr): (u64, u64),
        (old_text, new_text): (String, String),
        function: Option<u64>,
        message: &str,
    ) {
        self.violate(obligation, || Violation {
            obligation,
            old_addr: Some(OldAddr::new(old_addr)),
            rule,
            new_addr: Some(NewAddr::new(new_addr)),
            old_text,
            new_text,
            function: function.map(OldAddr::new),
            message: message.to_owned(),
        });
    }

    /// The address of the function at `old`, which was even, is a value and is odd now: its own fault.
    pub(crate) fn lost_low_bit(&mut self, obligation: Obligation, old: u64, new: u64) {
        self.violate(obligation, || Violation {
            obligation,
            old_addr: Some(OldAddr::new(old)),
            rule: "low-bit",
            new_addr: Some(NewAddr::new(new)),
            old_text: format!("{old:#x}"),
            new_text: format!("{new:#x}"),
            function: Some(OldAddr::new(old)),
            message: "the address of this function is a value somewhere; it was even and is odd now".to_owned(),
        });
    }

    /// Number of violations so far.
    pub(crate) fn total(&self) -> u64 {
        self.violated.iter().sum()
    }

    /// Takes over what `other` found.
    pub(crate) fn merge(&mut self, other: Self) {
        for (count, more) in self.violated.iter_mut().zip(other.violated) {
            *count += more;
        }
        self.violations.extend(other.violations);
        self.checked.add(&other.checked);
        self.notes.extend(other.notes);
    }

    /// The final result, independent of the order in which threads reported.
    pub(crate) fn into_proof(mut self) -> Proof {
        self.violations.sort_unstable();
        self.notes.sort_unstable();
        self.notes.dedup();
        let checked = self.checked;
        let violated = self.violated;
        let obligations = Obligation::ALL.map(|obligation| ObligationSummary {
            obligation,
            checked: match obligation {
                Obligation::Code => checked.instructions + checked.operands + checked.fixed_bytes,
                Obligation::Pointers => checked.pointers + checked.data_bytes,
                Obligation::Tables => checked.table_entries,
                Obligation::Unwinding => checked.unwind_rows + checked.call_sites,
                Obligation::Symbols => checked.symbols,
                Obligation::File => 1,
                Obligation::Residue => checked.dead_bytes,
            },
            violated: violated[obligation as usize],
        });
        Proof { obligations, violations: self.violations, checked, notes: self.notes, table_targets: Vec::new() }
    }
}
