//! Stepping over NOPs and direct jumps.

use super::Walker;
use crate::decode::Flow;

/// Where silent steps end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    /// The first address whose instruction does something; in a loop of jumps, its lowest address.
    pub(super) addr: u64,
    /// Whether the steps never end.
    pub(super) cyclic: bool,
}

/// Limit on silent steps. Chains of jumps are short; runs of NOPs fill at most a page.
const STEPS_MAX: usize = 8192;

impl Walker<'_, '_, '_> {
    /// Follows NOPs and direct jumps of the new code from `start`; leaves the steps in `self.path`.
    pub(super) fn silent(&mut self, start: u64) -> Silent {
        self.path.clear();
        let (mut at, mut anchor, mut power) = (start, start, 1usize);
        for step in 1..=STEPS_MAX {
            let Some(bytes) = self.cx.new_code.from(at) else { break };
            let Ok(decoded) = self.eyes.decode(bytes, at) else { break };
            let next = match decoded.flow {
                Flow::Nop => at.wrapping_add(u64::from(decoded.len)),
                Flow::Jump(target) if self.cx.new_code.contains(target) => target,
                _ => break,
            };
            self.path.push((at, decoded.len));
            at = next;
            // Brent's cycle detection.
            if at == anchor {
                let lowest = self.path.iter().rev().take(step).map(|step| step.0);
                let cycle_len = self.path.iter().rev().position(|step| step.0 == anchor).map_or(step, |back| back + 1);
                let addr = lowest.take(cycle_len).min().unwrap_or(at);
                return Silent { addr, cyclic: true };
            }
            if step == power {
                anchor = at;
                power = power.saturating_mul(2);
            }
        }
        Silent { addr: at, cyclic: false }
    }

    /// Whether the new code at `new` leads, without doing anything, to where the map says that the
    /// old code at `old` went. `before` is the old instruction that leads there.
    pub(super) fn leads(&mut self, old: u64, new: u64, before: u64) -> bool {
        let claimed = self.to_new(old);
        if claimed == new {
            return true;
        }
        let end = self.silent(claimed);
        let claimed_path = std::mem::take(&mut self.path);
        let found = self.silent(new) == end;
        if found {
            let path = std::mem::take(&mut self.path);
            self.keep_glue(&path, old, before);
            self.keep_glue(&claimed_path, old, before);
            self.path = path;
        }
        found
    }

    /// The address to which the new call returns that stands for the old one at `call`; none if no call stands there.
    pub(crate) fn return_of(&mut self, call: u64) -> Option<u64> {
        let at = self.silent(self.to_new(call)).addr;
        let decoded = self.eyes.decode(self.cx.new_code.from(at)?, at).ok()?;
        matches!(decoded.flow, Flow::Call(_) | Flow::IndirectCall).then(|| at.wrapping_add(u64::from(decoded.len)))
    }

    /// Notes that the new instructions of `path` can be executed on the way to old address `next`.
    pub(super) fn keep_glue(&mut self, path: &[(u64, u8)], next: u64, before: u64) {
        for &(new, len) in path {
            self.cx.new_live.insert_range(new, u64::from(len));
            self.glue(new, len, next, before);
        }
    }

    /// An old jump backwards may be part of a loop that does nothing but jump: then the new code
    /// must never do anything either.
    pub(super) fn check_divergence(&mut self, old: u64) {
        let mut at = old;
        for _ in 0..STEPS_MAX {
            let Some(bytes) = self.cx.old_code.from(at) else { return };
            let Ok(decoded) = self.eyes.decode(bytes, at) else { return };
            at = match decoded.flow {
                Flow::Nop => at.wrapping_add(u64::from(decoded.len)),
                Flow::Jump(target) => target,
                _ => return,
            };
            if at == old {
                let new = self.piece.new_of(old);
                let silent = self.silent(new);
                let path = std::mem::take(&mut self.path);
                self.keep_glue(&path, old, old);
                if !silent.cyclic {
                    self.violation(old, new, "divergence", "the old code loops forever without doing anything; the new code does not");
                }
                return;
            }
        }
    }
}
