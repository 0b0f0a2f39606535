//! New code for one function whose blocks are laid out anew: bytes, and which old code they stand for.
//!
//! Blocks are copied; only direct jumps and conditional branches at their ends are encoded again, in
//! the shortest form that reaches, and calls through the GOT that become direct (`direct.rs`), which are as
//! long as before. Sizes are found by relaxation: every branch inside a fragment starts
//! short and grows when its target is too far. Branches only ever grow, so the loop ends; and a
//! fragment's size does not depend on where it is placed, because branches that leave it are long.

use postlink_base::IndexVec;
use postlink_cfg::{Block, BlockId, Fixup, FixupKind, FunctionCfg, GotCall, Target, Terminator};
use postlink_isa::BranchForm;
use postlink_isa::x86_64::{
    JCC_LONG, JCC_SHORT, JMP_LONG, JMP_SHORT, SHORT_ONLY_FAR, encode_jcc_long, encode_jcc_short, encode_jmp_long,
    encode_jmp_short, fits_i8,
};
use postlink_layout::FragmentPlan;

use crate::direct;
use crate::lines::LineStarts;

/// A run of new code and the old code it stands for, both as offsets (old from the function's start,
/// new from the fragment's start). Equal lengths: copied. Otherwise: see [`crate::Piece`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelaidPiece {
    pub(crate) old: u32,
    pub(crate) old_len: u32,
    pub(crate) new: u32,
    pub(crate) new_len: u32,
    pub(crate) copied: bool,
}

/// One fragment's new code, independent of its address but for `fixups`.
#[derive(Clone, Debug)]
pub(crate) struct RelaidFragment {
    pub(crate) code: Vec<u8>,
    pub(crate) align: u32,
    /// Hot: where it may start in a cache line.
    pub(crate) line_starts: Option<LineStarts>,
    /// Fields that depend on addresses; offsets are in `code`, targets are old addresses.
    pub(crate) fixups: Vec<Fixup>,
    /// Calls through the GOT that became direct.
    pub(crate) direct: u32,
    pub(crate) pieces: Vec<RelaidPiece>,
}

/// Why a function's new code cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayFault {
    #[error("a block is missing in the plan or stands in it twice")]
    Plan,
    #[error("the graph names bytes outside of the function")]
    Graph,
}

/// A branch at the end of a block, as it will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    what: ExitKind,
    target: Target,
    /// Position of the target's block in the fragment; none outside.
    to: Option<u32>,
    long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitKind {
    Jump,
    Condition(u8),
    /// `loop`, `jrcxz`: `long` means the form over two jumps.
    ShortOnly,
    /// `xbegin`.
    LongOnly,
}

impl Exit {
    const fn size(&self, old_len: u32) -> u32 {
        match (self.what, self.long) {
            (ExitKind::Jump, false) => JMP_SHORT,
            (ExitKind::Jump, true) => JMP_LONG,
            (ExitKind::Condition(_), false) => JCC_SHORT,
            (ExitKind::Condition(_), true) => JCC_LONG,
            (ExitKind::ShortOnly, false) | (ExitKind::LongOnly, _) => old_len,
            (ExitKind::ShortOnly, true) => old_len + SHORT_ONLY_FAR,
        }
    }
}

/// What is written behind a block's copied bytes: at most a branch and a jump.
#[derive(Clone, Copy, Debug, Default)]
struct Exits {
    branch: Option<Exit>,
    jump: Option<Exit>,
    /// Bytes of the block that are copied.
    body: u32,
    /// Bytes of the old terminator.
    old_len: u32,
}

/// For each block of a function the fragment that holds it and its position there.
type Places = IndexVec<BlockId, Option<(u32, u32)>>;

pub(crate) struct Relay<'a> {
    pub(crate) cfg: &'a FunctionCfg,
    pub(crate) bytes: &'a [u8],
    /// Outward fixups of the function, sorted by offset.
    pub(crate) fixups: &'a [Fixup],
    /// Calls of the function that are to be direct.
    pub(crate) got_calls: &'a [GotCall],
    /// See [`postlink_layout::FunctionPlan::Relay`].
    pub(crate) prefer_fall: &'a [bool],
}

impl Relay<'_> {
    /// Assembles all fragments of the function.
    pub(crate) fn assemble(&self, plan: &[FragmentPlan]) -> Result<Vec<RelaidFragment>, RelayFault> {
        let mut places: Places = (0..self.cfg.blocks.len()).map(|_| None).collect();
        for (number, fragment) in (0u32..).zip(plan) {
            for (position, &block) in (0u32..).zip(&fragment.blocks) {
                let place = Some((number, position));
                if places.get(block).is_none() || std::mem::replace(&mut places[block], place).is_some() {
                    return Err(RelayFault::Plan);
                }
            }
        }
        let starts_with_entry = plan.first().and_then(|first| first.blocks.first()) == Some(&BlockId(0));
        if !starts_with_entry || places.iter().any(Option::is_none) {
            return Err(RelayFault::Plan);
        }
        (0u32..).zip(plan).map(|(number, fragment)| self.fragment(number, fragment, &places)).collect()
    }

    fn fragment(&self, number: u32, plan: &FragmentPlan, places: &Places) -> Result<RelaidFragment, RelayFault> {
        let order = &plan.blocks;
        let inside = |target: Target| match target {
            Target::Block(block) => {
                places.get(block).copied().flatten().filter(|place| place.0 == number).map(|place| place.1)
            }
            Target::External(_) => None,
        };
        let mut exits: Vec<Exits> = order
            .iter()
            .enumerate()
            .map(|(index, &block)| {
                let mut exits = self.exits(block, order.get(index + 1).copied());
                for exit in [&mut exits.branch, &mut exits.jump].into_iter().flatten() {
                    exit.to = inside(exit.target);
                    exit.long = exit.to.is_none();
                }
                exits
            })
            .collect();
        let starts = relax(&mut exits);
        self.write(plan, &exits, &starts)
    }

    /// What must be written behind `block` if `next` follows it.
    fn exits(&self, block_id: BlockId, next: Option<BlockId>) -> Exits {
        let block = &self.cfg.blocks[block_id];
        let follows = |target: Target| next.is_some_and(|next| target == Target::Block(next));
        let to_block = |what, target| Exit { what, target, to: None, long: false };
        let jump_unless_next = |target: Target| (!follows(target)).then_some(to_block(ExitKind::Jump, target));
        let (branch, jump) = match block.terminator {
            Terminator::Fallthrough(target) | Terminator::Jump { target, .. } => {
                (None, jump_unless_next(target))
            }
            Terminator::Branch { form, taken, fall, .. } => {
                let what = match form {
                    BranchForm::Condition(condition) => ExitKind::Condition(condition),
                    BranchForm::ShortOnly => ExitKind::ShortOnly,
                    BranchForm::LongOnly => ExitKind::LongOnly,
                };
                let prefer_fall = self.prefer_fall.get(block_id.0 as usize).copied().unwrap_or(false);
                match what {
                    ExitKind::Condition(condition)
                        if !follows(fall) && (follows(taken) || prefer_fall) =>
                    {
                        let inverted = ExitKind::Condition(condition ^ 1);
                        (Some(to_block(inverted, fall)), jump_unless_next(taken))
                    }
                    _ => (Some(to_block(what, taken)), jump_unless_next(fall)),
                }
            }
            Terminator::IndirectJump | Terminator::Stop => (None, None),
        };
        Exits { branch, jump, body: block.body_size(), old_len: u32::from(block.exit_size) }
    }

    fn write(&self, plan: &FragmentPlan, exits: &[Exits], starts: &[u32]) -> Result<RelaidFragment, RelayFault> {
        let size = starts.last().copied().unwrap_or(0);
        let mut out = Writer {
            relay: self,
            starts,
            fragment: RelaidFragment {
                code: Vec::with_capacity(size as usize),
                align: plan.align,
                line_starts: (!plan.line_costs.is_empty()).then(|| LineStarts::new(starts.get(1..).unwrap_or(&[]), &plan.line_costs, plan.align)),
                fixups: Vec::new(),
                direct: 0,
                pieces: Vec::with_capacity(plan.blocks.len() * 2),
            },
        };
        for (&block_id, &exits) in plan.blocks.iter().zip(exits) {
            let block = &self.cfg.blocks[block_id];
            out.body(block)?;
            out.exits(block, exits);
        }
        Ok(out.fragment)
    }
}

/// Grows branches until all reach; returns the start of each position's block, and the end of the last one.
fn relax(exits: &mut [Exits]) -> Vec<u32> {
    let mut starts = vec![0u32; exits.len() + 1];
    loop {
        let mut at = 0u32;
        for (start, exits) in starts.iter_mut().zip(exits.iter()) {
            *start = at;
            at += exits.body;
            at += exits.branch.map_or(0, |exit| exit.size(exits.old_len));
            at += exits.jump.map_or(0, |exit| exit.size(0));
        }
        if let Some(end) = starts.last_mut() {
            *end = at;
        }
        let mut grew = false;
        for (&start, exits) in starts.iter().zip(exits.iter_mut()) {
            let old_len = exits.old_len;
            let mut end = start + exits.body;
            for exit in [&mut exits.branch, &mut exits.jump].into_iter().flatten() {
                end += exit.size(old_len);
                if exit.long || exit.what == ExitKind::LongOnly {
                    continue;
                }
                let target = exit.to.and_then(|position| starts.get(position as usize));
                let fits = target.is_some_and(|&target| fits_i8(i64::from(target) - i64::from(end)));
                if !fits {
                    exit.long = true;
                    grew = true;
                }
            }
        }
        if !grew {
            return starts;
        }
    }
}

struct Writer<'a, 'b> {
    relay: &'a Relay<'b>,
    starts: &'a [u32],
    fragment: RelaidFragment,
}

impl Writer<'_, '_> {
    fn at(&self) -> u32 {
        u32::try_from(self.fragment.code.len()).unwrap_or(u32::MAX)
    }

    fn piece(&mut self, old: u32, old_len: u32, new: u32, new_len: u32, copied: bool) {
        if old_len > 0 || new_len > 0 {
            self.fragment.pieces.push(RelaidPiece { old, old_len, new, new_len, copied });
        }
    }

    fn body(&mut self, block: &Block) -> Result<(), RelayFault> {
        let bytes = self.relay.bytes.get(block.start as usize..block.body_end as usize).ok_or(RelayFault::Graph)?;
        let new = self.at();
        self.fragment.code.extend_from_slice(bytes);
        self.piece(block.start, block.body_size(), new, block.body_size(), true);
        let fixups = self.relay.fixups;
        let first = fixups.partition_point(|fixup| fixup.offset < block.start);
        for fixup in fixups.iter().skip(first).take_while(|fixup| fixup.offset < block.body_end) {
            self.fragment.fixups.push(Fixup { offset: fixup.offset - block.start + new, ..*fixup });
        }
        if !self.relay.got_calls.is_empty() {
            self.direct_calls(block, new);
        }
        Ok(())
    }

    /// Makes the calls through the GOT in the copy of `block`, which starts at `new`, direct.
    fn direct_calls(&mut self, block: &Block, new: u32) {
        let RelaidFragment { code, fixups, direct, .. } = &mut self.fragment;
        let copied = fixups.partition_point(|fixup| fixup.offset < new);
        for fixup in fixups.iter_mut().skip(copied) {
            let place = self.relay.cfg.start + u64::from(fixup.offset - new + block.start);
            if let Some(call) = direct::at(self.relay.got_calls, place)
                && let Some(made) = direct::make(code, fixup, call)
            {
                *fixup = made;
                *direct += 1;
            }
        }
    }

    fn exits(&mut self, block: &Block, exits: Exits) {
        let old_len = exits.old_len;
        let old_at = match block.terminator {
            Terminator::Branch { at, .. } | Terminator::Jump { at, .. } => at,
            _ => block.body_end,
        };
        let behind = old_at + old_len;
        if let Some(exit) = exits.branch {
            let new = self.at();
            self.write_exit(exit, old_at, old_len);
            let new_len = self.at() - new;
            self.piece(old_at, old_len, new, new_len, false);
        }
        if matches!(block.terminator, Terminator::Jump { .. }) {
            // A jump whose target follows needs no bytes.
            let new = self.at();
            if let Some(exit) = exits.jump {
                self.write_exit(exit, old_at, 0);
            }
            self.piece(old_at, old_len, new, self.at() - new, false);
        }
        // Padding behind the block: nothing executes there but on the way to what follows.
        self.piece(behind, block.end - behind, self.at(), 0, false);
        if let Some(exit) = exits.jump
            && !matches!(block.terminator, Terminator::Jump { .. })
        {
            let new = self.at();
            self.write_exit(exit, old_at, 0);
            // It unwinds as the branch does; what stood behind the branch need not be where it goes.
            let like = if matches!(block.terminator, Terminator::Branch { .. }) { old_at } else { behind };
            self.piece(like, 0, new, self.at() - new, false);
        }
    }

    fn write_exit(&mut self, exit: Exit, old_at: u32, old_len: u32) {
        let end = self.at() + exit.size(old_len);
        let position = exit.to.and_then(|position| self.starts.get(position as usize));
        let distance = position.map_or(0, |&start| i64::from(start) - i64::from(end));
        let short = i8::try_from(distance).unwrap_or(0);
        let long = i32::try_from(distance).unwrap_or(0);
        match (exit.what, exit.long) {
            (ExitKind::Jump, false) => self.fragment.code.extend(encode_jmp_short(short)),
            (ExitKind::Jump, true) => self.fragment.code.extend(encode_jmp_long(long)),
            (ExitKind::Condition(condition), false) => {
                self.fragment.code.extend(encode_jcc_short(condition, short));
            }
            (ExitKind::Condition(condition), true) => {
                self.fragment.code.extend(encode_jcc_long(condition, long));
            }
            (ExitKind::ShortOnly | ExitKind::LongOnly, is_long) => {
                let old = self.relay.bytes.get(old_at as usize..(old_at + old_len) as usize).unwrap_or(&[]);
                self.fragment.code.extend_from_slice(old);
                if exit.what == ExitKind::LongOnly {
                    self.patch_tail(&long.to_le_bytes());
                } else if is_long {
                    // Taken: over the short jump; not taken: the short jump over the long one.
                    self.patch_tail(&2i8.to_le_bytes());
                    self.fragment.code.extend(encode_jmp_short(5));
                    self.fragment.code.extend(encode_jmp_long(long));
                } else {
                    self.patch_tail(&short.to_le_bytes());
                }
            }
        }
        let leaves = position.is_none();
        if leaves {
            let target = match exit.target {
                Target::External(addr) => addr,
                Target::Block(block) => {
                    self.relay.cfg.start + u64::from(self.relay.cfg.blocks.get(block).map_or(0, |block| block.start))
                }
            };
            self.fragment.fixups.push(Fixup {
                target,
                offset: end - 4,
                kind: FixupKind::Branch32,
                tail: 0,
                evidence: postlink_cfg::Evidence::Decoded,
                passes_end: false,
            });
        }
    }

    /// Writes over the last bytes.
    fn patch_tail(&mut self, bytes: &[u8]) {
        let at = self.fragment.code.len().saturating_sub(bytes.len());
        if let Some(tail) = self.fragment.code.get_mut(at..) {
            tail.copy_from_slice(bytes);
        }
    }
}
