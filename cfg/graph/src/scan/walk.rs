//! The walk over one function's instructions.

use postlink_image::{Rela, reloc};
use postlink_isa::x86_64::{IndirectOperand, RegisterUse, Stream};
use postlink_isa::{Flow, Inst, PcUsage};

use super::{Found, Reader, Scan, Scanner, possible_targets};
use crate::code_relocs::is_irrelevant;
use crate::{Evidence, Fixup, FixupKind, Reason};

/// Where the distance stands in `lea` with a REX prefix.
const LEA_FIELD: u32 = 3;

pub(super) struct Walk<'r, 'a, 'd> {
    scanner: &'a Scanner<'a, 'd>,
    bytes: &'d [u8],
    start: u64,
    end: u64,
    pub(super) scan: Scan,
    found: &'r mut Found,
    /// Number of fixups of other functions.
    other_fixups: usize,
    starts: &'r mut [u64],
    own_targets: &'r mut Vec<u64>,
    /// Number of places inside of other functions that these take.
    other_places: usize,
    doubtful_targets: &'r mut Vec<u64>,
    code_read_as_data: &'r mut Vec<u64>,
    relocs_at: usize,
    /// Offset of the first instruction behind the last one that is no straight-line code.
    run: usize,
}

impl<'r, 'a, 'd> Walk<'r, 'a, 'd> {
    pub(super) fn new(reader: &'r mut Reader<'a, 'd>, bytes: &'d [u8], start: u64, end: u64) -> Self {
        reader.starts.clear();
        reader.starts.resize(bytes.len().div_ceil(64), 0);
        reader.own_targets.clear();
        reader.doubtful_targets.clear();
        reader.code_read_as_data.clear();
        Self {
            scanner: reader.scanner,
            bytes,
            start,
            end,
            scan: Scan::default(),
            other_fixups: reader.found.fixups.len(),
            starts: &mut reader.starts,
            own_targets: &mut reader.own_targets,
            other_places: reader.found.own_places.len(),
            found: &mut reader.found,
            doubtful_targets: &mut reader.doubtful_targets,
            code_read_as_data: &mut reader.code_read_as_data,
            relocs_at: reader.relocs_at,
            run: 0,
        }
    }

    pub(super) fn has_object(&self) -> bool {
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
        if let Some(word) = self.starts.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn marked(&self, at: usize) -> bool {
        self.starts.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    fn rigid(&mut self, reason: Reason) {
        self.scan.rigid.get_or_insert(reason);
    }

    pub(super) fn linear(&mut self) {
        let mut relocs = self.scanner.relocs.from(self.start, self.relocs_at);
        let mut next_rela = relocs.next();
        // Offset of the first field with a relocation that was not looked at yet.
        let offset_of = |rela: Option<Rela>, start: u64| rela.map_or(u64::MAX, |rela| rela.offset.saturating_sub(start));
        let mut next_field = offset_of(next_rela, self.start);
        let mut stream = Stream::new(self.bytes, self.start);
        let bytes = self.bytes;
        while !stream.at_end() {
            // Nearly all instructions are passed here, but never the last one of the function: 16 bytes must be there.
            // `last`: where the one before the next one starts.
            let (mut at, mut last) = (stream.position(), usize::MAX);
            loop {
                if let Some(word) = self.starts.get_mut(at / 64) {
                    *word |= 1 << (at % 64);
                }
                let plain = stream.next_plain();
                if plain == 0 || next_field < (at + plain) as u64 {
                    break;
                }
                last = at;
                at += plain;
            }
            stream.seek(at);
            if last != usize::MAX {
                // Flow::Next, unless it is a breakpoint: `last_flow`.
                self.scan.falls_through = at - last != 1 || bytes.get(last) != Some(&0xcc);
            }
            let Some(inst) = stream.next_other() else {
                self.rigid(Reason::UndecodableBytes);
                return;
            };
            let next = at + usize::from(inst.len);
            let mut own: [Option<Rela>; 2] = [None, None];
            let mut count = 0;
            while next_field < next as u64 {
                if let Some(slot) = own.get_mut(count) {
                    *slot = next_rela;
                    count += 1;
                }
                next_rela = relocs.next();
                next_field = offset_of(next_rela, self.start);
            }
            self.instruction(&stream, &inst, at, own.iter().flatten());
            self.last_flow(&inst, next);
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
        self.scan.ends_with_call = matches!(inst.flow, Flow::Call { .. } | Flow::IndirectCall);
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
    pub(super) fn reachable(&mut self, entries: &[u64]) {
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
        // No label: data is meant, at some distance.
        let is_amid = |&(_, target): &(u64, u64)| {
            let Ok(at) = usize::try_from(target - self.start) else { return false };
            covered.get(at).copied().unwrap_or(false) && !self.marked(at)
        };
        if self.found.own_places.iter().skip(self.other_places).any(is_amid) {
            self.scan.pinned.get_or_insert(Reason::ReferenceIntoInstruction);
        }
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
                        self.doubtful_targets.push(target);
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
            self.found.inline_words.push(rela.offset);
        } else {
            // A distance or a short address: whatever it means stays true if neither side moves.
            self.doubtful_targets.push(value.wrapping_add_signed(rela.addend));
            self.doubtful_targets.push(value);
        }
        self.scan.pinned.get_or_insert(Reason::DataInCode);
    }

    fn instruction<'i>(&mut self, stream: &Stream<'_>, inst: &Inst, at: usize, relocs: impl Iterator<Item = &'i Rela>) {
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
            Flow::Trap if at + usize::from(inst.len) < self.bytes.len() => self.scan.has_code_behind_trap = true,
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
                    self.code_read_as_data.push(fixup.target);
                }
                _ => {}
            }
            self.found.fixups.push(fixup);
            return;
        }
        match fixup.kind {
            FixupKind::Branch32 | FixupKind::Branch8 => self.own_targets.push(fixup.target),
            FixupKind::Call if fixup.target == self.start => self.found.fixups.push(fixup),
            FixupKind::Call => {
                self.own_targets.push(fixup.target);
                self.rigid(Reason::CallPopIdiom);
            }
            FixupKind::Address if fixup.target == self.start => self.found.fixups.push(fixup),
            // `lea` of itself: from there clang's large code model counts to the GOT.
            FixupKind::Address if fixup.target == self.start + u64::from(fixup.offset.saturating_sub(LEA_FIELD)) => {
                self.rigid(Reason::PositionDependentField);
            }
            FixupKind::Address => self.take_own(fixup.target),
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
            self.found.got_slots.push(pc.target);
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
        let fixups = &mut self.found.fixups;
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
                // 0 is what the dynamic linker writes over: its own tables say where that leads.
                if word != 0 && scanner.is_interesting(word) {
                    push(word, FixupKind::Delta64);
                }
            }
            (reloc::GOTOFF64 | reloc::PLTOFF64, Some(8)) => {
                // The distance may be that of an entry of the PLT, where another file may replace the symbol.
                let through_plt = || {
                    let word = stored(8).and_then(|bytes| bytes.first_chunk::<8>()).map(|bytes| u64::from_le_bytes(*bytes));
                    let target = scanner.got().zip(word).map(|(got, word)| got.wrapping_add(word));
                    target.is_some_and(|target| target != nominal && image.exec_section_at(target).is_some())
                };
                if image.exec_section_at(nominal).is_some() && !(rela.kind == reloc::PLTOFF64 && through_plt()) {
                    push(nominal, FixupKind::Delta64);
                }
            }
            (reloc::PC64 | reloc::GOTPC64 | reloc::GOTPCREL64, Some(8)) => {
                push(nominal, FixupKind::Pc64);
                self.rigid(Reason::PositionDependentField);
            }
            (reloc::PC32 | reloc::PLT32 | reloc::GOTPC32, Some(4)) => {
                // Not the operand of a PC-relative instruction, or a call that was relaxed away. It counts from a place in code,
                // perhaps another function's, whose address is in a register.
                if distance {
                    self.doubtful_targets.extend([value, nominal].into_iter().filter(|&addr| image.exec_section_at(addr).is_some()));
                    self.scan.counts_from_code = true;
                    self.scan.pinned.get_or_insert(Reason::PositionDependentField);
                }
            }
            (reloc::GOT32 | reloc::GOT64 | reloc::GOTPLT64, _) => {}
            _ => {
                let code = image.exec_section_at(nominal).is_some() || image.exec_section_at(value).is_some();
                let absolute = matches!(rela.kind, reloc::R64 | reloc::R32 | reloc::R32S | reloc::R16 | reloc::R8);
                if code && absolute {
                    if rela.kind == reloc::R64 {
                        self.found.inline_words.push(rela.offset);
                    } else {
                        self.doubtful_targets.push(nominal);
                    }
                    self.scan.pinned.get_or_insert(Reason::UnmatchedRelocation);
                }
            }
        }
    }

    /// An absolute operand that designates a place inside the function: a label used as a value.
    fn check_own_address(&mut self) {
        let last = self.found.fixups.get(self.other_fixups..).and_then(<[Fixup]>::last);
        let taken = last.map(|fixup| (fixup.kind, fixup.target)).filter(|&(kind, target)| {
            !kind.is_pc_relative() && self.inside(target) && target != self.start
        });
        if let Some((_, target)) = taken {
            self.take_own(target);
        }
    }

    /// The address of a place inside the function is taken.
    fn take_own(&mut self, target: u64) {
        self.found.own_places.push((self.start, target));
        self.rigid(Reason::InteriorAddressTaken);
    }

    fn looks_like_distance(&self, field_at: usize, nominal: u64) -> bool {
        let field = self.bytes.get(field_at..).and_then(|bytes| bytes.first_chunk::<4>());
        let place = self.start + field_at as u64;
        field.is_some_and(|bytes| {
            i64::from(i32::from_le_bytes(*bytes)) == nominal.wrapping_sub(place).cast_signed()
        })
    }
}
