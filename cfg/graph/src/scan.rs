//! One function's bytes, decoded once: its fixups and what stands in the way of rearranging it.

use postlink_image::{Image, Rela, reloc};
use postlink_isa::x86_64::{IndirectOperand, RegisterUse, Stream};
use postlink_isa::{Flow, Inst, PcUsage};

use crate::code_relocs::{CodeRelocs, is_irrelevant};
use crate::{Evidence, Fixup, FixupKind, Reason};

/// What the bytes of one function say.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) fixups: Vec<Fixup>,
    /// One bit per byte: an instruction starts here.
    pub(crate) starts: Vec<u64>,
    /// Reasons against rearranging; the function may still move as a whole.
    pub(crate) rigid: Option<Reason>,
    /// Reasons against moving.
    pub(crate) pinned: Option<Reason>,
    /// Number of indirect jumps.
    pub(crate) indirect_jumps: u32,
    /// Indirect jumps through a register that was computed by adding.
    pub(crate) computed_jumps: u32,
    /// Control reaches the end: by falling, not counting a call as the last instruction.
    pub(crate) falls_through: bool,
    pub(crate) has_calls: bool,
    pub(crate) short_branch_out: bool,
    /// Addresses in executable sections that bytes which may be data refer to, if they are code.
    pub(crate) doubtful_targets: Vec<u64>,
    /// GOT slots that the code reads as the address of a symbol defined here: `(slot, value)`.
    pub(crate) got_slots: Vec<(u64, u64)>,
    /// 8-byte words of absolute code addresses between instructions: their addresses.
    pub(crate) inline_words: Vec<u64>,
    /// Addresses outside of the function in executable sections that it reads as data.
    pub(crate) code_read_as_data: Vec<u64>,
}

/// The context of a scan.
pub(crate) struct Scanner<'a, 'd> {
    pub(crate) image: &'a Image<'d>,
    pub(crate) relocs: &'a CodeRelocs<'d>,
    /// Data symbols inside executable sections.
    pub(crate) objects: &'a [(u64, u64)],
    /// Address range of `.eh_frame`.
    pub(crate) unwind: (u64, u64),
}

impl Scanner<'_, '_> {
    /// Whether something at `addr` may have another address in the output: code, or unwind records.
    fn is_interesting(&self, addr: u64) -> bool {
        self.image.exec_section_at(addr).is_some() || (addr >= self.unwind.0 && addr < self.unwind.1)
    }

    /// Decodes `start..end` front to back. If anything is odd, decodes again what is reachable from
    /// the start, from `entries` and by direct branches, and treats the rest as possibly data.
    pub(crate) fn scan(&self, start: u64, end: u64, entries: &[u64]) -> Scan {
        let Some(bytes) = self.image.bytes_at(start, end - start) else {
            return Scan { pinned: Some(Reason::UndecodableBytes), ..Scan::default() };
        };
        let mut walk = Walk::new(self, bytes, start, end);
        walk.linear();
        if walk.scan.rigid.is_some() || walk.has_object() {
            let first = walk.scan.rigid;
            let mut careful = Walk::new(self, bytes, start, end);
            careful.reachable(entries);
            if careful.scan.rigid.is_none() {
                careful.scan.rigid = first.or(Some(Reason::DataInCode));
            }
            walk = careful;
        }
        walk.finish()
    }
}

struct Walk<'a, 'd, 'b> {
    scanner: &'a Scanner<'a, 'd>,
    bytes: &'b [u8],
    start: u64,
    end: u64,
    scan: Scan,
    own_targets: Vec<u64>,
    /// Offset of the first instruction behind the last one that is no straight-line code.
    run: usize,
}

impl<'a, 'd, 'b> Walk<'a, 'd, 'b> {
    fn new(scanner: &'a Scanner<'a, 'd>, bytes: &'b [u8], start: u64, end: u64) -> Self {
        let scan = Scan { starts: vec![0; bytes.len().div_ceil(64)], ..Scan::default() };
        Self { scanner, bytes, start, end, scan, own_targets: Vec::new(), run: 0 }
    }

    fn has_object(&self) -> bool {
        let objects = self.scanner.objects;
        let index = objects.partition_point(|object| object.1 <= self.start);
        objects.get(index).is_some_and(|object| object.0 < self.end)
    }

    fn inside(&self, addr: u64) -> bool {
        addr >= self.start && addr < self.end
    }

    fn is_code(&self, addr: u64) -> bool {
        self.scanner.image.exec_section_at(addr).is_some()
    }

    fn mark(&mut self, at: usize) {
        if let Some(word) = self.scan.starts.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn marked(&self, at: usize) -> bool {
        self.scan.starts.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    fn rigid(&mut self, reason: Reason) {
        self.scan.rigid.get_or_insert(reason);
    }

    fn linear(&mut self) {
        let mut relocs = self.scanner.relocs.in_range(self.start, self.end).peekable();
        // Offset of the first field with a relocation that was not looked at yet.
        let offset_of = |rela: Option<&Rela>, start: u64| rela.map_or(u64::MAX, |rela| rela.offset - start);
        let mut next_field = offset_of(relocs.peek(), self.start);
        let mut stream = Stream::new(self.bytes, self.start);
        let mut at = 0usize;
        while at < self.bytes.len() {
            let plain = stream.next_plain();
            self.mark(at);
            if plain != 0 && next_field >= (at + plain) as u64 {
                at += plain;
                // Flow::Next, unless it is a breakpoint: `last_flow`.
                self.scan.falls_through = plain != 1 || self.bytes.get(at - 1) != Some(&0xcc);
                continue;
            }
            stream.seek(at);
            let Some(inst) = stream.next_other() else {
                self.rigid(Reason::UndecodableBytes);
                return;
            };
            let next = at + usize::from(inst.len);
            let mut own: [Option<Rela>; 2] = [None, None];
            let mut count = 0;
            while next_field < next as u64 {
                let rela = relocs.next();
                if let Some(slot) = own.get_mut(count) {
                    *slot = rela;
                    count += 1;
                }
                next_field = offset_of(relocs.peek(), self.start);
            }
            self.instruction(&stream, &inst, at, own.iter().flatten());
            self.last_flow(&inst, next);
            at = next;
        }
        self.check_own_targets();
    }

    fn last_flow(&mut self, inst: &Inst, next: usize) {
        if inst.is_nop {
            return;
        }
        // A breakpoint as the last thing: what compilers put behind code that does not return.
        let is_breakpoint = inst.len == 1 && next.checked_sub(1).and_then(|last| self.bytes.get(last)) == Some(&0xcc);
        self.scan.falls_through = matches!(inst.flow, Flow::Next | Flow::Branch { .. }) && !is_breakpoint;
    }

    fn check_own_targets(&mut self) {
        let bad = self.own_targets.iter().any(|&target| {
            !usize::try_from(target - self.start).is_ok_and(|offset| self.marked(offset))
        });
        if bad {
            self.rigid(Reason::MidInstructionTarget);
        }
    }

    /// Follows control flow from the entries; what it does not reach may be data.
    fn reachable(&mut self, entries: &[u64]) {
        let mut relocs: Vec<Rela> = self.scanner.relocs.in_range(self.start, self.end).collect();
        relocs.dedup();
        let mut covered = vec![false; self.bytes.len()];
        let mut work: Vec<u64> = entries.iter().copied().filter(|&addr| self.inside(addr)).collect();
        work.push(self.start);
        while let Some(addr) = work.pop() {
            let Ok(mut at) = usize::try_from(addr - self.start) else { continue };
            if self.marked(at) {
                continue;
            }
            let mut stream = Stream::new(self.bytes, self.start);
            stream.seek(at);
            self.run = at;
            while at < self.bytes.len() && !self.marked(at) {
                let Some(inst) = stream.next_inst() else {
                    self.rigid(Reason::UndecodableBytes);
                    break;
                };
                let next = at + usize::from(inst.len);
                if covered.get(at).copied().unwrap_or(false) {
                    self.rigid(Reason::MidInstructionTarget);
                }
                covered.iter_mut().take(next).skip(at).for_each(|byte| *byte = true);
                self.mark(at);
                let (from, to) = (self.start + at as u64, self.start + next as u64);
                let first = relocs.partition_point(|rela| rela.offset < from);
                let own: Vec<Rela> = relocs.iter().skip(first).take_while(|rela| rela.offset < to).copied().collect();
                self.instruction(&stream, &inst, at, own.iter());
                match inst.flow {
                    Flow::Jump { target } | Flow::Branch { target, .. } | Flow::Call { target }
                        if self.inside(target) =>
                    {
                        work.push(target);
                    }
                    _ => {}
                }
                if next >= self.bytes.len() {
                    self.last_flow(&inst, next);
                }
                at = next;
                if matches!(inst.flow, Flow::Jump { .. } | Flow::IndirectJump | Flow::Return | Flow::Trap) {
                    break;
                }
            }
        }
        self.check_own_targets();
        self.doubtful_bytes(&covered, &relocs);
    }

    /// Bytes that no path reaches: if they were code after all, which code would they refer to?
    fn doubtful_bytes(&mut self, covered: &[bool], relocs: &[Rela]) {
        let mut at = 0usize;
        while at < covered.len() {
            if covered.get(at).copied().unwrap_or(true) {
                at += 1;
                continue;
            }
            let run = covered.iter().skip(at).take_while(|&&byte| !byte).count();
            let run_bytes = self.bytes.get(at..at + run).unwrap_or(&[]);
            let addr = self.start + at as u64;
            if !crate::discover::is_padding(run_bytes, addr) {
                let mut leaves = false;
                for target in possible_targets(run_bytes, addr) {
                    if self.inside(target) {
                        continue;
                    }
                    leaves |= self.scanner.image.bytes_at(target, 1).is_some();
                    if self.is_code(target) {
                        self.scan.doubtful_targets.push(target);
                    }
                }
                // Code here would refer to things at a fixed distance: it must not move then.
                if leaves {
                    self.scan.pinned.get_or_insert(Reason::DataInCode);
                }
                for rela in relocs.iter().filter(|rela| rela.offset >= addr && rela.offset < addr + run as u64) {
                    self.data_word(rela);
                }
            }
            at += run;
        }
    }

    /// A relocation on bytes that are no instruction.
    fn data_word(&mut self, rela: &Rela) {
        let Some(value) = self.scanner.relocs.symbol_value(rela) else { return };
        if is_irrelevant(rela.kind) {
            return;
        }
        if rela.kind == reloc::R64 {
            self.scan.inline_words.push(rela.offset);
        } else {
            // A distance or a short address: whatever it means stays true if neither side moves.
            self.scan.doubtful_targets.push(value.wrapping_add_signed(rela.addend));
            self.scan.doubtful_targets.push(value);
        }
        self.scan.pinned.get_or_insert(Reason::DataInCode);
    }

    fn instruction<'r>(&mut self, stream: &Stream<'_>, inst: &Inst, at: usize, relocs: impl Iterator<Item = &'r Rela>) {
        let addr = self.start + at as u64;
        let offset = u32::try_from(at).unwrap_or(u32::MAX);
        let mut evidence = Evidence::Decoded;
        let mut passes_end = false;
        for rela in relocs {
            let field = u8::try_from(rela.offset - addr).unwrap_or(0);
            match inst.pc_relative {
                Some(pc) if pc.offset == field => {
                    evidence = Evidence::Reloc;
                    passes_end = self.scanner.relocs.passes_end(self.scanner.image, rela);
                    self.got_slot(rela, inst, &pc);
                }
                _ => {
                    self.absolute_field(stream, inst, at, field, rela);
                    self.check_own_address();
                }
            }
        }
        match inst.flow {
            Flow::IndirectJump => {
                self.scan.indirect_jumps += 1;
                if let IndirectOperand::Register(register) = stream.indirect_operand()
                    && register < 16
                    && self.adds_up(register, at)
                {
                    self.scan.computed_jumps += 1;
                }
            }
            Flow::Call { .. } | Flow::IndirectCall => self.scan.has_calls = true,
            _ => {}
        }
        if !matches!(inst.flow, Flow::Next) {
            self.run = at + usize::from(inst.len);
        }
        if let Some(pc) = inst.pc_relative {
            let kind = match (pc.usage, inst.flow, pc.width) {
                (PcUsage::Branch, Flow::Call { .. }, _) => FixupKind::Call,
                (PcUsage::Branch, _, 1) => FixupKind::Branch8,
                (PcUsage::Branch, ..) => FixupKind::Branch32,
                (PcUsage::Address, ..) => FixupKind::Address,
                (PcUsage::Memory, ..) => FixupKind::Memory,
            };
            let field = Fixup {
                target: pc.target,
                offset: offset + u32::from(pc.offset),
                kind,
                tail: inst.len.saturating_sub(pc.offset + pc.width),
                evidence,
                passes_end,
            };
            self.pc_relative(field);
        }
    }

    /// Whether the straight-line code in front of offset `end` computes a register by adding, and nothing
    /// writes it after that. Few instructions are indirect jumps, so their runs are decoded again.
    fn adds_up(&self, register: u8, end: usize) -> bool {
        let mut stream = Stream::new(self.bytes, self.start);
        stream.seek(self.run);
        let (mut at, mut added) = (self.run, false);
        while at < end {
            let Some(inst) = stream.next_inst() else { return false };
            match stream.use_of(register) {
                RegisterUse::Computes => added = true,
                RegisterUse::Writes => added = false,
                RegisterUse::Other => {}
            }
            at += usize::from(inst.len);
        }
        added
    }

    fn pc_relative(&mut self, fixup: Fixup) {
        if !self.inside(fixup.target) {
            match fixup.kind {
                FixupKind::Branch8 => self.scan.short_branch_out = true,
                FixupKind::Memory if self.is_code(fixup.target) => {
                    self.scan.code_read_as_data.push(fixup.target);
                }
                _ => {}
            }
            self.scan.fixups.push(fixup);
            return;
        }
        match fixup.kind {
            FixupKind::Branch32 | FixupKind::Branch8 => self.own_targets.push(fixup.target),
            FixupKind::Call if fixup.target == self.start => self.scan.fixups.push(fixup),
            FixupKind::Call => {
                self.own_targets.push(fixup.target);
                self.rigid(Reason::CallPopIdiom);
            }
            FixupKind::Address if fixup.target == self.start => self.scan.fixups.push(fixup),
            FixupKind::Address => self.rigid(Reason::InteriorAddressTaken),
            _ => self.rigid(Reason::DataInCode),
        }
    }

    /// A load through the GOT of a symbol that this file defines: the slot holds a code address.
    fn got_slot(&mut self, rela: &Rela, inst: &Inst, pc: &postlink_isa::PcRelative) {
        let through_got = matches!(
            rela.kind,
            reloc::GOTPCREL | reloc::GOTPCRELX | reloc::REX_GOTPCRELX | 43 | 46 | 49
        );
        if !through_got || pc.usage != PcUsage::Memory || matches!(inst.flow, Flow::Call { .. }) {
            return;
        }
        if let Some(value) = self.scanner.relocs.symbol_value(rela)
            && self.is_code(value)
        {
            self.scan.got_slots.push((pc.target, value));
        }
    }

    /// A relocation on a displacement or immediate that is no PC-relative operand.
    fn absolute_field(&mut self, stream: &Stream<'_>, inst: &Inst, at: usize, field: u8, rela: &Rela) {
        if is_irrelevant(rela.kind) {
            return;
        }
        let fields = stream.fields();
        let width = [fields.displacement, fields.immediate]
            .into_iter()
            .find(|&(offset, width)| width > 0 && offset == field)
            .map(|(_, width)| width);
        // Without a symbol the bytes still tell: lld writes symbol 0 for sections that have no symbol of
        // their own, such as .eh_frame.
        let value = match self.scanner.relocs.symbol_value(rela) {
            Some(value) => value,
            None if rela.symbol == 0 => 0,
            None => return,
        };
        let nominal = value.wrapping_add_signed(rela.addend);
        let field_at = at + usize::from(field);
        let stored = |width: usize| self.bytes.get(field_at..field_at + width);
        let tail = inst.len.saturating_sub(field + width.unwrap_or(0));
        let offset = u32::try_from(field_at).unwrap_or(u32::MAX);
        let distance = self.looks_like_distance(field_at, nominal);
        let image = self.scanner.image;
        let passes_end = self.scanner.relocs.passes_end(image, rela);
        let scanner = self.scanner;
        let fixups = &mut self.scan.fixups;
        let mut push = |target: u64, kind: FixupKind| {
            fixups.push(Fixup { target, offset, kind, tail, evidence: Evidence::Reloc, passes_end });
        };
        match (rela.kind, width) {
            (reloc::GOTPCRELX | reloc::REX_GOTPCRELX | reloc::GOTPCREL | reloc::R32 | reloc::R32S | 43 | 46 | 49, Some(4)) => {
                let Some(bytes) = stored(4).and_then(|bytes| bytes.first_chunk::<4>()) else { return };
                // The bytes count, not the type: a GOT load may have been relaxed to an immediate.
                let unsigned = u64::from(u32::from_le_bytes(*bytes));
                let signed = i64::from(i32::from_le_bytes(*bytes)).cast_unsigned();
                let is_signed = rela.kind != reloc::R32;
                let target = if is_signed { signed } else { unsigned };
                if scanner.is_interesting(target) {
                    push(target, if is_signed { FixupKind::Abs32S } else { FixupKind::Abs32 });
                }
            }
            (reloc::R64, Some(8)) => {
                let Some(bytes) = stored(8).and_then(|bytes| bytes.first_chunk::<8>()) else { return };
                let word = u64::from_le_bytes(*bytes);
                let target = if word == 0 { nominal } else { word };
                if scanner.is_interesting(target) {
                    push(target, FixupKind::Delta64);
                }
            }
            (reloc::GOTOFF64 | reloc::PLTOFF64, Some(8)) => {
                if image.exec_section_at(nominal).is_some() {
                    push(nominal, FixupKind::Delta64);
                }
            }
            (reloc::PC64 | reloc::GOTPC64 | reloc::GOTPCREL64, Some(8)) => {
                push(nominal, FixupKind::Pc64);
                self.rigid(Reason::PositionDependentField);
            }
            (reloc::PC32 | reloc::PLT32 | reloc::GOTPC32, Some(4)) => {
                // Not the operand of a PC-relative instruction, or a call that was relaxed away.
                if distance {
                    push(nominal, FixupKind::Pc32Field);
                    self.rigid(Reason::PositionDependentField);
                }
            }
            (reloc::GOT32 | reloc::GOT64 | reloc::GOTPLT64, _) => {}
            _ => {
                let code = image.exec_section_at(nominal).is_some() || image.exec_section_at(value).is_some();
                let absolute = matches!(rela.kind, reloc::R64 | reloc::R32 | reloc::R32S | reloc::R16 | reloc::R8);
                if code && absolute {
                    if rela.kind == reloc::R64 {
                        self.scan.inline_words.push(rela.offset);
                    } else {
                        self.scan.doubtful_targets.push(nominal);
                    }
                    self.scan.pinned.get_or_insert(Reason::UnmatchedRelocation);
                }
            }
        }
    }

    /// An absolute operand that designates a place inside the function: a label used as a value.
    fn check_own_address(&mut self) {
        let taken = self.scan.fixups.last().is_some_and(|fixup| {
            !fixup.kind.is_pc_relative() && self.inside(fixup.target) && fixup.target != self.start
        });
        if taken {
            self.rigid(Reason::InteriorAddressTaken);
        }
    }

    fn looks_like_distance(&self, field_at: usize, nominal: u64) -> bool {
        let field = self.bytes.get(field_at..).and_then(|bytes| bytes.first_chunk::<4>());
        let place = self.start + field_at as u64;
        field.is_some_and(|bytes| {
            i64::from(i32::from_le_bytes(*bytes)) == nominal.wrapping_sub(place).cast_signed()
        })
    }

    fn finish(mut self) -> Scan {
        self.scan.fixups.sort_unstable_by_key(|fixup| (fixup.offset, fixup.kind));
        self.scan.fixups.dedup();
        self.scan.fixups.shrink_to_fit();
        self.scan
    }
}

/// Every address that `bytes` would refer to if they were code, decoding from the first byte and
/// again from each byte at which decoding failed.
pub(crate) fn possible_targets(bytes: &[u8], addr: u64) -> Vec<u64> {
    let mut targets = Vec::new();
    let mut stream = Stream::new(bytes, addr);
    let mut at = 0usize;
    while at < bytes.len() {
        match stream.next_inst() {
            Some(inst) => {
                targets.extend(inst.pc_relative.map(|pc| pc.target));
                at += usize::from(inst.len);
            }
            None => {
                at += 1;
                stream.seek(at);
            }
        }
    }
    targets
}
