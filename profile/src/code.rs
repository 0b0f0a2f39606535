//! What the instructions at the ends of a record are.

use postlink_cfg::{FunctionId, Program};
use postlink_isa::Flow;
use postlink_isa::x86_64::Stream;

/// Longest instruction in bytes (x86-64).
const MAX_INST_BYTES: u64 = 15;

/// Answers questions about single instructions of a program.
pub(crate) trait Code: Sync {
    /// Whether an instruction starts at `addr`.
    fn is_inst_start(&self, addr: u64) -> bool;
    /// What the instruction at `addr` does to control flow; `None` if none starts there.
    fn flow(&self, addr: u64) -> Option<Flow>;
    /// Whether `addr` is where a function starts.
    fn is_entry(&self, addr: u64) -> bool;
    /// Whether `addr` lies in a function.
    fn is_in_function(&self, addr: u64) -> bool;

    /// Whether the instruction right before `addr` is a call, so that `addr` is where it returns to.
    fn follows_call(&self, addr: u64) -> bool {
        let previous = (1..=MAX_INST_BYTES).filter_map(|length| addr.checked_sub(length));
        let previous = previous.into_iter().find(|&start| self.is_inst_start(start));
        previous.is_some_and(|start| matches!(self.flow(start), Some(Flow::Call { .. } | Flow::IndirectCall)))
    }
}

impl Code for Program<'_> {
    fn is_inst_start(&self, addr: u64) -> bool {
        Program::is_inst_start(self, addr)
    }

    fn flow(&self, addr: u64) -> Option<Flow> {
        if !Program::is_inst_start(self, addr) {
            return None;
        }
        let bytes = self.image.bytes_at(addr, MAX_INST_BYTES).or_else(|| {
            // The last instructions of a segment.
            let function = &self.functions[self.function_at(addr)?];
            self.image.bytes_at(addr, function.end - addr)
        })?;
        Stream::new(bytes, addr).next_inst().map(|inst| inst.flow)
    }

    fn is_entry(&self, addr: u64) -> bool {
        entered_at(self, addr).is_some()
    }

    fn is_in_function(&self, addr: u64) -> bool {
        self.function_at(addr).is_some()
    }
}

/// The function that starts at `addr`.
pub(crate) fn entered_at(program: &Program<'_>, addr: u64) -> Option<FunctionId> {
    program.function_at(addr).filter(|&id| program.functions[id].start == addr)
}
