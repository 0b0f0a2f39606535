//! P1: old and new code, walked in step.
//!
//! The claim of the map for one old address `o` is: *the new code at `map(o)` does what the old
//! code at `o` does.* Every old address that can be executed is visited once. Its instruction is
//! compared with the one at `map(o)`, and wherever control goes next, the place where the new
//! instruction goes must be the one that the map claims for the place where the old one goes. If
//! this holds at each visited address, then the pairs `(o, map(o))` are a bisimulation: by induction
//! over the run, both programs execute the same instructions (Milner, "Communication and
//! Concurrency", 1989, chapter 4). NOPs and direct jumps do nothing but move on, so they are stepped
//! over on both sides (a *stutter*), and a loop of nothing but jumps only matches such a loop.
//!
//! Addresses are independent of each other, so threads share nothing but the set of visited ones.

mod ahead;
mod compare;
mod got_call;
mod marks;
mod silent;

use std::sync::OnceLock;

use postlink_base::{NewAddr, OldAddr};
use postlink_image::Image;

use crate::bits::AddressSet;
use crate::code::{Claim, CodeView, Extent, Functions, Piece};
use crate::decode::{Decoded, Eyes, Flow};
use crate::fixed::Fixed;
use crate::got::ConstantSlots;
pub(crate) use compare::little;
use crate::proof::{Findings, Obligation, Violation};
use crate::references::References;
use crate::relocations::StaticRelocations;
use crate::unwind::UnwindTables;

/// What all threads read, and the sets that they fill.
pub(crate) struct Context<'a, 'd> {
    pub(crate) old: &'a Image<'d>,
    pub(crate) new: &'a Image<'d>,
    pub(crate) old_code: CodeView<'d>,
    pub(crate) new_code: CodeView<'d>,
    pub(crate) claim: &'a Claim<'a>,
    pub(crate) functions: Functions,
    pub(crate) relocations: &'a StaticRelocations,
    pub(crate) references: References<'a, 'a>,
    /// Code that need not be walked.
    pub(crate) fixed: Fixed,
    /// Address that GOT-relative fields count from.
    pub(crate) got: u64,
    pub(crate) slots: &'a ConstantSlots,
    pub(crate) old_tables: &'a UnwindTables,
    pub(crate) new_tables: &'a UnwindTables,
    /// New instructions that were added or encoded anew, and those of them whose unwind row is right
    /// for one of the ways they are reached on.
    pub(crate) glue_starts: AddressSet,
    pub(crate) glue_fits: AddressSet,
    /// Addresses of all relocated fields of old code, and what their relocations name; read when first needed.
    pub(crate) relocated: OnceLock<Vec<(u64, u64)>>,
    /// Old addresses from which a walk is started anyway.
    pub(crate) roots: AddressSet,
    /// Old addresses that are values somewhere.
    pub(crate) values: AddressSet,
    /// Old addresses whose instruction was compared.
    pub(crate) visited: AddressSet,
    /// Old bytes that belong to a visited instruction.
    pub(crate) old_covered: AddressSet,
    /// New bytes that belong to an instruction that can be executed.
    pub(crate) new_live: AddressSet,
}

/// An added or re-encoded branch whose unwind row is not that of the old code it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Misfit {
    /// The new instruction.
    pub(crate) new: u64,
    /// Old address that is executed next.
    pub(crate) old: u64,
}

/// What a walk brings home.
#[derive(Default)]
pub(crate) struct Harvest {
    pub(crate) findings: Findings,
    pub(crate) misfits: Vec<Misfit>,
    /// Addresses of distances that code takes (`lea`), the starts of tables: the address, and the
    /// old instruction.
    pub(crate) data_taken: Vec<(u64, u64)>,
    /// Code addresses that instructions take, with the instruction.
    pub(crate) code_taken: Vec<(u64, u64)>,
    /// Code addresses used as values by instructions: entries, labels, or constants among code.
    pub(crate) weak_roots: Vec<u64>,
    /// Code that did not move and was accepted although it does not match, because no known path
    /// reaches it.
    pub(crate) unreached: Vec<(u64, u64)>,
}

impl Harvest {
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.findings.merge(other.findings);
        self.misfits.extend(other.misfits);
        self.data_taken.extend(other.data_taken);
        self.code_taken.extend(other.code_taken);
        self.weak_roots.extend(other.weak_roots);
        self.unreached.extend(other.unreached);
        self
    }
}

/// One thread's walk.
pub(crate) struct Walker<'c, 'a, 'd> {
    cx: &'c Context<'a, 'd>,
    pub(crate) eyes: Eyes,
    pub(crate) harvest: Harvest,
    stack: Vec<u64>,
    piece: Piece,
    extent: Extent,
    /// Index of the first relocated field at or behind the instruction at hand.
    field: usize,
    /// The silent steps of the last look.
    path: Vec<(u64, u8)>,
    /// Old and new bytes known to be covered and live, not yet in the sets.
    covered: (u64, u64),
    live: (u64, u64),
}

/// Why an instruction does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mismatch {
    rule: &'static str,
    message: &'static str,
}

impl<'c, 'a, 'd> Walker<'c, 'a, 'd> {
    pub(crate) fn new(cx: &'c Context<'a, 'd>) -> Self {
        Self {
            cx,
            eyes: Eyes::new(),
            harvest: Harvest::default(),
            stack: Vec::new(),
            piece: Piece::nothing(),
            extent: Extent::nothing(),
            field: 0,
            path: Vec::new(),
            covered: (0, 0),
            live: (0, 0),
        }
    }

    /// Visits everything that can be executed from `root` and was not visited before.
    pub(crate) fn run(&mut self, root: u64) {
        self.stack.push(root);
        while let Some(start) = self.stack.pop() {
            if !self.cx.visited.contains(start) {
                self.field = self.cx.relocations.fields_before_near(self.field, start);
                self.straight(start);
                self.flush();
            }
        }
    }

    /// Follows the old code from `start` until it meets an address that was visited.
    fn straight(&mut self, start: u64) {
        let mut old = start;
        loop {
            let Some(bytes) = self.cx.old_code.from(old) else { return };
            if !self.piece.contains(old) {
                self.piece = self.piece_of(old);
            }
            if !self.extent.contains(old) {
                self.extent = self.cx.functions.extent(old);
            }
            let Some(stop) = self.ahead(old, bytes) else { return };
            let bytes = stop.bytes;
            old = stop.old;
            let Ok(decoded) = stop.decoded else { return self.undecodable(old, bytes) };
            let next = old.wrapping_add(u64::from(decoded.len));
            old = match decoded.flow {
                Flow::Nop => {
                    self.stutter(old, next, &decoded);
                    next
                }
                Flow::Jump(target) if self.cx.old_code.contains(target) => {
                    self.stutter(old, target, &decoded);
                    // Jumps of code that is not walked may close a loop. No function is walked in part.
                    let is_inside = self.extent.is_function && self.extent.contains(target);
                    if target <= old || !is_inside && self.cx.fixed.contains(target) {
                        self.check_divergence(old);
                    }
                    if self.cx.roots.contains(target) {
                        return;
                    }
                    self.field = self.cx.relocations.fields_before_near(self.field, target);
                    target
                }
                _ => match self.instruction(old, bytes, &decoded) {
                    Some(next) => next,
                    None => return,
                },
            };
        }
    }

    /// The piece that holds `old`, often the one at hand or the next one.
    fn piece_of(&self, old: u64) -> Piece {
        let Self { cx, piece, .. } = self;
        let behind = || Some(cx.claim.behind(piece)).filter(|_| old == piece.end && old > 0);
        if piece.contains(old) { *piece } else { behind().unwrap_or_else(|| cx.claim.piece(old)) }
    }

    /// The claimed new address of `old`.
    fn to_new(&self, old: u64) -> u64 {
        let Self { cx, piece, .. } = self;
        if piece.contains(old) || old == piece.end { self.piece_of(old).new_of(old) } else { cx.claim.to_new(old) }
    }

    /// A NOP or jump from `old` to `next`: the new code must get from the one place to the other
    /// without doing anything.
    fn stutter(&mut self, old: u64, next: u64, decoded: &Decoded) {
        let new = self.piece.new_of(old);
        let expected = self.to_new(next);
        if new == expected {
            return;
        }
        // A NOP that was copied with what follows it.
        if decoded.flow == Flow::Nop && new.wrapping_add(u64::from(decoded.len)) == expected {
            let same = self.same_bytes(old, new, usize::from(decoded.len));
            if same {
                self.mark_live(new, u64::from(decoded.len));
                return;
            }
        }
        if !self.leads(next, new, old) {
            self.violation(old, new, "stutter", "the old code goes on without doing anything; the new code does not lead to the same place");
        }
    }

    /// Whether the new code at `new` stands for the old code at `old`, but for silent steps.
    pub(crate) fn leads_to(&mut self, old: u64, new: u64) -> bool {
        self.leads(old, new, old)
    }

    fn same_bytes(&self, old: u64, new: u64, len: usize) -> bool {
        let old = self.cx.old_code.from(old).and_then(|bytes| bytes.get(..len));
        let new = self.cx.new_code.from(new).and_then(|bytes| bytes.get(..len));
        old.is_some() && old == new
    }

    /// Compares one instruction that does something. Gives the old address to go on with.
    fn instruction(&mut self, old: u64, bytes: &[u8], decoded: &Decoded) -> Option<u64> {
        let bytes = bytes.get(..usize::from(decoded.len))?;
        let claimed = self.piece.new_of(old);
        let mut new = claimed;
        let mut matched = self.matches(old, bytes, decoded, claimed);
        if matched.is_err() {
            // The map may name a jump or NOP in front of it.
            let silent = self.silent(claimed);
            if silent.addr != claimed && !silent.cyclic {
                let path = std::mem::take(&mut self.path);
                let again = self.matches(old, bytes, decoded, silent.addr);
                if again.is_ok() {
                    if decoded.is_endbr {
                        self.violation(old, claimed, "endbr-behind-jump", "an indirect branch must find endbr64 as the first instruction");
                    }
                    self.keep_glue(&path, old, old);
                    new = silent.addr;
                    matched = again;
                }
                self.path = path;
            }
        }
        let old_next = old.wrapping_add(u64::from(decoded.len));
        let (new_len, new_next) = match matched {
            Ok(found) => found,
            Err(mismatch) => {
                self.violation(old, claimed, mismatch.rule, mismatch.message);
                (0, 0)
            }
        };
        if new_len > 0 {
            self.mark_live(new, u64::from(new_len));
            if self.piece.is_point || new != claimed {
                self.glue(new, new_len, old, old);
            }
        }
        self.push_targets(old, decoded);
        // A trap between functions is padding: a place to which a case that cannot happen leads.
        // A handler may resume behind a trap inside of a function.
        let resumes = || is_trap(bytes) && self.extent.is_function && old_next < self.extent.end;
        if !has_next(decoded.flow) && !resumes() || !self.extent.is_function && bytes == [0xcc] {
            return None;
        }
        // To a `pop`, as a rule, which makes the return address a value.
        if let Flow::Call(target) = decoded.flow
            && (!self.extent.is_function || self.extent.contains(target) && target != self.extent.start)
        {
            self.cx.values.insert(old_next);
        }
        // `call` over constants in its own function, to a `pop`: what follows is no code.
        if let Flow::Call(target) = decoded.flow
            && target > old_next
            && self.extent.is_function
            && self.extent.contains(target)
            && !self.cx.roots.contains(target)
        {
            self.harvest.weak_roots.push(old_next);
            return None;
        }
        if new_len > 0 {
            self.check_next(old, decoded, old_next, new_next)?;
        } else if self.extent.is_function && old_next >= self.extent.end {
            return None;
        }
        self.cx.old_code.contains(old_next).then_some(old_next)
    }

    /// The old instruction falls through to `old_next`, the new one to `new_next`. `None`: nothing
    /// is known to follow.
    fn check_next(&mut self, old: u64, decoded: &Decoded, old_next: u64, new_next: u64) -> Option<()> {
        let is_last = self.extent.is_function && old_next >= self.extent.end;
        if !is_last {
            let piece = &self.piece;
            if !piece.is_point && piece.contains(old_next) && piece.new_of(old_next) == new_next {
                return Some(());
            }
        }
        // Between functions, padding may have given way to other code: what counts is behind it.
        let old_next = if is_last { self.behind_padding(old_next) } else { old_next };
        let in_code = self.cx.old_code.contains(old_next);
        let is_call = matches!(decoded.flow, Flow::Call(_) | Flow::IndirectCall);
        if is_last && is_call {
            self.harvest.findings.checked.assumed_no_return += 1;
            return None;
        }
        if in_code && self.leads(old_next, new_next, old) {
            // Behind the last instruction there is padding up to the next function, a root itself,
            // or, in hand-written code, a part without a symbol.
            if is_last {
                self.push_taken(old_next);
            }
            return (!is_last).then_some(());
        }
        if !in_code && (is_call || self.piece.is_same) {
            self.harvest.findings.checked.assumed_no_return += 1;
            return None;
        }
        if is_last {
            let silent = self.silent(new_next);
            let traps = self.cx.new_code.from(silent.addr).is_some_and(|bytes| {
                bytes.first() == Some(&0xcc) || bytes.starts_with(&[0x0f, 0x0b])
            });
            if traps {
                return None;
            }
        }
        let new = self.piece.new_of(old);
        self.violation(old, new, "successor", "what follows in the new code is not what follows in the old code");
        None
    }

    /// The first old address from `from` on that is no NOP between functions.
    fn behind_padding(&mut self, from: u64) -> u64 {
        let mut at = from;
        while !self.cx.functions.extent(at).is_function
            && let Some(Ok(decoded)) = self.cx.old_code.from(at).map(|bytes| self.eyes.decode(bytes, at))
            && decoded.flow == Flow::Nop
        {
            at = at.wrapping_add(u64::from(decoded.len));
        }
        at
    }

    /// Puts what `decoded` can reach on the stack, but for the fallthrough.
    fn push_targets(&mut self, old: u64, decoded: &Decoded) {
        match decoded.flow {
            Flow::Conditional(_, target)
            | Flow::ShortConditional(_, target)
            | Flow::Begin(target)
            | Flow::Call(target)
            | Flow::Jump(target) => self.push(target),
            _ => {}
        }
        if let Some(memory) = decoded.memory {
            if self.cx.old_code.contains(memory.target) {
                self.cx.values.insert(memory.target);
                if memory.taken {
                    self.push_taken(memory.target);
                }
            } else if memory.taken && self.cx.relocations.distance_at(memory.target).is_some() {
                self.harvest.data_taken.push((memory.target, old));
            }
        }
    }

    fn push(&mut self, target: u64) {
        if self.cx.old_code.contains(target) && !self.cx.roots.contains(target) && !self.cx.visited.contains(target) {
            self.stack.push(target);
        }
    }

    /// A code address used as a value.
    fn push_taken(&mut self, target: u64) {
        if !self.cx.old_code.contains(target) {
            return;
        }
        // Constants among code look the same: to be walked with care, see `gaps`.
        if !self.cx.roots.contains(target) && !self.cx.visited.contains(target) {
            self.harvest.weak_roots.push(target);
        }
    }

    /// Bytes that yaxpeax cannot decode. They are accepted where nothing moved and nothing changed
    /// up to the end of the function.
    fn undecodable(&mut self, old: u64, bytes: &[u8]) {
        let end = self.extent.end.min(self.piece.end);
        let len = usize::try_from(end.saturating_sub(old)).unwrap_or(usize::MAX).min(bytes.len());
        let new = self.piece.new_of(old);
        let same = self.piece.is_same && end >= self.extent.end.min(old + bytes.len() as u64) && self.same_bytes(old, old, len);
        if same {
            self.harvest.findings.checked.undecoded_bytes += len as u64;
            self.cx.old_covered.insert_range(old, len as u64);
            self.mark_live(old, len as u64);
        } else {
            self.violation(old, new, "undecodable", "the second decoder does not know the old instruction");
        }
    }

    /// Records a violation of P1 with both instructions as text.
    fn violation(&mut self, old: u64, new: u64, rule: &'static str, message: &str) {
        let Self { cx, eyes, harvest, .. } = self;
        harvest.findings.violate(Obligation::Code, || Violation {
            obligation: Obligation::Code,
            old_addr: Some(OldAddr::new(old)),
            rule,
            new_addr: Some(NewAddr::new(new)),
            old_text: cx.old_code.from(old).map_or_else(String::new, |bytes| eyes.text(bytes, old)),
            new_text: cx.new_code.from(new).map_or_else(|| "(not executable)".to_owned(), |bytes| eyes.text(bytes, new)),
            function: cx.functions.entry(old).map(OldAddr::new),
            message: message.to_owned(),
        });
    }
}

/// `ud0`, `ud1`, `ud2` or `hlt`, by their opcodes behind any prefixes.
fn is_trap(bytes: &[u8]) -> bool {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let at = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    matches!(bytes.get(at..), Some([0x0f, 0x0b | 0xb9 | 0xff, ..] | [0xf4, ..]))
}

/// Whether control may go on behind the instruction.
const fn has_next(flow: Flow) -> bool {
    !matches!(flow, Flow::Jump(_) | Flow::IndirectJump | Flow::End)
}
