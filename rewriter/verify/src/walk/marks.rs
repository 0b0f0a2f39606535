//! What a walk notes about bytes: old ones that belong to visited instructions, new ones that can be
//! executed, and how instructions unwind that only the new file has.

use rayon::prelude::*;

use super::{Context, Misfit, Walker};
use crate::unwind::{new_row, old_row};

impl Context<'_, '_> {
    /// Marks fixed code as if it had been walked. Gives its size.
    pub(crate) fn leave_out_fixed(&self) -> u64 {
        let mark = |&(start, end): &(u64, u64)| {
            for set in [&self.visited, &self.old_covered, &self.new_live] {
                set.insert_range(start, end - start);
            }
            end - start
        };
        self.fixed.ranges().par_iter().map(mark).sum()
    }
}

impl Walker<'_, '_, '_> {
    /// Remembers that the new bytes can be executed.
    pub(super) fn mark_live(&mut self, new: u64, len: u64) {
        if self.live.1 == new {
            self.live.1 = new.wrapping_add(len);
        } else {
            self.flush_live();
            self.live = (new, new.wrapping_add(len));
        }
    }

    /// Remembers that a visited instruction has the old bytes.
    pub(super) fn cover(&mut self, old: u64, len: u64) {
        if self.covered.1 == old {
            self.covered.1 = old.wrapping_add(len);
        } else {
            self.flush_covered();
            self.covered = (old, old.wrapping_add(len));
        }
    }

    pub(super) fn flush(&mut self) {
        self.flush_covered();
        self.flush_live();
    }

    fn flush_covered(&mut self) {
        let (start, end) = std::mem::take(&mut self.covered);
        if end > start {
            self.cx.old_covered.insert_range(start, end - start);
        }
    }

    fn flush_live(&mut self) {
        let (start, end) = std::mem::take(&mut self.live);
        if end > start {
            self.cx.new_live.insert_range(start, end - start);
        }
    }

    /// Checks how a new instruction unwinds that was added or encoded anew. `next` and `before` are
    /// the old addresses that it stands between; a consistent program has one row for both.
    pub(super) fn glue(&mut self, new: u64, len: u8, next: u64, before: u64) {
        let cx = self.cx;
        // Counted once, whichever walkers come here: another one may not have found out yet that it fits.
        let is_first = cx.glue_starts.insert(new);
        if !is_first && cx.glue_fits.contains(new) {
            return;
        }
        self.harvest.findings.checked.unwind_rows += u64::from(is_first);
        // An old instruction that stands where it stood was not added: padding that stayed.
        let stayed = cx.old_code.contains(new)
            && cx.claim.to_new(new) == new
            && self.same_bytes(new, new, usize::from(len))
            && new_row(cx, new, new) == Some(old_row(cx, new));
        if stayed {
            cx.glue_fits.insert(new);
            return;
        }
        let row = new_row(cx, new, new.saturating_add(u64::from(len.max(1)) - 1));
        if row.is_some_and(|row| row == old_row(cx, next) || row == old_row(cx, before)) {
            cx.glue_fits.insert(new);
        } else {
            self.harvest.misfits.push(Misfit { new, old: next });
        }
    }
}
