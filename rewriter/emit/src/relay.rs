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
}

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
        let mut seen: IndexVec<BlockId, bool> = (0..self.cfg.blocks.len()).map(|_| false).collect();
        for &block in plan.iter().flat_map(|fragment| &fragment.blocks) {
            if self.cfg.blocks.get(block).is_none() || std::mem::replace(&mut seen[block], true) {
                return Err(RelayFault::Plan);
            }
        }
        let starts_with_entry = plan.first().and_then(|first| first.blocks.first()) == Some(&BlockId(0));
        if !starts_with_entry || seen.iter().any(|seen| !seen) {
            return Err(RelayFault::Plan);
        }
        plan.iter().map(|fragment| self.fragment(fragment)).collect()
    }

    fn fragment(&self, plan: &FragmentPlan) -> Result<RelaidFragment, RelayFault> {
        let order = &plan.blocks;
        let mut position: Vec<Option<u32>> = vec![None; self.cfg.blocks.len()];
        for (index, block) in order.iter().enumerate() {
            if let Some(slot) = position.get_mut(block.0 as usize) {
                *slot = u32::try_from(index).ok();
            }
        }
        let inside = |target: Target| match target {
            Target::Block(block) => position.get(block.0 as usize).copied().flatten(),
            Target::External(_) => None,
        };
        let mut exits: Vec<Exits> = order
            .iter()
            .enumerate()
            .map(|(index, &block)| {
                let mut exits = self.exits(block, order.get(index + 1).copied());
                for exit in [&mut exits.branch, &mut exits.jump].into_iter().flatten() {
                    exit.long = inside(exit.target).is_none();
                }
                exits
            })
            .collect();
        let starts = self.relax(order, &mut exits, &inside);
        self.write(plan, &exits, &starts, &inside)
    }

    /// What must be written behind `block` if `next` follows it.
    fn exits(&self, block_id: BlockId, next: Option<BlockId>) -> Exits {
        let block = &self.cfg.blocks[block_id];
        let follows = |target: Target| next.is_some_and(|next| target == Target::Block(next));
        let jump_unless_next = |target: Target| {
            (!follows(target)).then_some(Exit { what: ExitKind::Jump, target, long: false })
        };
        match block.terminator {
            Terminator::Fallthrough(target) | Terminator::Jump { target, .. } => {
                Exits { branch: None, jump: jump_unless_next(target) }
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
                        Exits {
                            branch: Some(Exit { what: inverted, target: fall, long: false }),
                            jump: jump_unless_next(taken),
                        }
                    }
                    _ => Exits {
                        branch: Some(Exit { what, target: taken, long: false }),
                        jump: jump_unless_next(fall),
                    },
                }
            }
            Terminator::IndirectJump | Terminator::Stop => Exits::default(),
        }
    }

    /// Grows branches until all reach; returns the start of each position's block.
    fn relax(
        &self,
        order: &[BlockId],
        exits: &mut [Exits],
        inside: &impl Fn(Target) -> Option<u32>,
    ) -> Vec<u32> {
        let old_lens: Vec<u32> = order.iter().map(|&block| u32::from(self.cfg.blocks[block].exit_size)).collect();
        let mut starts = vec![0u32; order.len() + 1];
        loop {
            let mut at = 0u32;
            for (index, &block) in order.iter().enumerate() {
                starts[index] = at;
                at += self.cfg.blocks[block].body_size();
                let old_len = old_lens.get(index).copied().unwrap_or(0);
                if let Some(exits) = exits.get(index) {
                    at += exits.branch.map_or(0, |exit| exit.size(old_len));
                    at += exits.jump.map_or(0, |exit| exit.size(0));
                }
            }
            starts[order.len()] = at;
            let mut grew = false;
            for (index, &block) in order.iter().enumerate() {
                let old_len = old_lens.get(index).copied().unwrap_or(0);
                let Some(exits) = exits.get_mut(index) else { continue };
                let mut end = starts[index] + self.cfg.blocks[block].body_size();
                for exit in [&mut exits.branch, &mut exits.jump].into_iter().flatten() {
                    end += exit.size(old_len);
                    if exit.long || exit.what == ExitKind::LongOnly {
                        continue;
                    }
                    let target = inside(exit.target).and_then(|position| starts.get(position as usize));
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

    fn write(
        &self,
        plan: &FragmentPlan,
        exits: &[Exits],
        starts: &[u32],
        inside: &impl Fn(Target) -> Option<u32>,
    ) -> Result<RelaidFragment, RelayFault> {
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
        for (index, &block_id) in plan.blocks.iter().enumerate() {
            let block = &self.cfg.blocks[block_id];
            out.body(block)?;
            let exits = exits.get(index).copied().unwrap_or_default();
            out.exits(block, exits, u32::from(block.exit_size), inside);
        }
        Ok(out.fragment)
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

    fn exits(&mut self, block: &Block, exits: Exits, old_len: u32, inside: &impl Fn(Target) -> Option<u32>) {
        let old_at = match block.terminator {
            Terminator::Branch { at, .. } | Terminator::Jump { at, .. } => at,
            _ => block.body_end,
        };
        let behind = old_at + old_len;
        if let Some(exit) = exits.branch {
            let new = self.at();
            self.write_exit(exit, old_at, old_len, inside);
            let new_len = self.at() - new;
            self.piece(old_at, old_len, new, new_len, false);
        }
        if matches!(block.terminator, Terminator::Jump { .. }) {
            // A jump whose target follows needs no bytes.
            let new = self.at();
            if let Some(exit) = exits.jump {
                self.write_exit(exit, old_at, 0, inside);
            }
            self.piece(old_at, old_len, new, self.at() - new, false);
        }
        // Padding behind the block: nothing executes there but on the way to what follows.
        self.piece(behind, block.end - behind, self.at(), 0, false);
        if let Some(exit) = exits.jump
            && !matches!(block.terminator, Terminator::Jump { .. })
        {
            let new = self.at();
            self.write_exit(exit, old_at, 0, inside);
            self.piece(behind, 0, new, self.at() - new, false);
        }
    }

    fn write_exit(&mut self, exit: Exit, old_at: u32, old_len: u32, inside: &impl Fn(Target) -> Option<u32>) {
        let end = self.at() + exit.size(old_len);
        let position = inside(exit.target).and_then(|position| self.starts.get(position as usize));
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
