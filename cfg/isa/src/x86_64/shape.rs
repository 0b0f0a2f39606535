//! Reading an instruction without its operands.
//!
//! How long an instruction is, what it does to control flow and where its PC-relative field stands follow
//! from its prefixes, opcode, ModRM and SIB byte (Intel SDM volume 2, chapter 2 and appendix A). The tables here
//! know the legacy encodings that compilers emit; of all others they know nothing, and iced-x86 decodes them.
//! What they say must be what iced-x86 says: `tests.rs` compares the two, exhaustively where that is possible.

/// What is known of an instruction without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Length in bytes, 1 to 15.
    pub(super) len: u8,
    pub(super) kind: Kind,
    /// The condition of a branch; of others, 1 if the address in the PC-relative field is the result (`lea`).
    pub(super) detail: u8,
    /// Offset of the PC-relative displacement of a memory operand, 0 for none.
    pub(super) field: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Next,
    Nop,
    Jump8,
    Jump32,
    Branch8,
    Branch32,
    Call32,
    IndirectCall,
    IndirectJump,
    Return,
    Trap,
}

/// The opcode is described by the other bits.
const KNOWN: u8 = 0x80;
/// A ModRM byte follows.
const MODRM: u8 = 0x01;
/// An 8-bit immediate stands at the end.
const IMM8: u8 = 0x02;
/// An immediate of 32 bits stands at the end, or of 16 behind an operand size prefix.
const IMM32: u8 = 0x04;
/// There is no form with two registers.
const MEMORY: u8 = 0x08;
/// More must be looked at.
const SPECIAL: u8 = 0x10;

/// The one-byte opcode map. What is 0 is left to iced-x86, prefixes included.
static ONE: [u8; 256] = {
    let mut map = [0u8; 256];
    let mut at = 0usize;
    while at < 256 {
        map[at] = match at {
            0x00..=0x3f if at & 7 < 4 => KNOWN | MODRM,
            0x00..=0x3f if at & 7 == 4 => KNOWN | IMM8,
            0x00..=0x3f if at & 7 == 5 => KNOWN | IMM32,
            0x63 | 0x84..=0x8b | 0xd0..=0xd3 | 0xd8 | 0xdc => KNOWN | MODRM,
            0xda | 0xde | 0xdf => KNOWN | MODRM | MEMORY,
            0x8d => KNOWN | MODRM | MEMORY | SPECIAL,
            0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 => KNOWN | MODRM | IMM8,
            0x69 | 0x81 => KNOWN | MODRM | IMM32,
            0x50..=0x5f | 0x91..=0x99 | 0x9b..=0x9f | 0xa4..=0xa7 | 0xaa..=0xaf | 0xc9 | 0xcc | 0xf5 | 0xf8..=0xfd => KNOWN,
            0x6a | 0xa8 | 0xb0..=0xb7 => KNOWN | IMM8,
            0x68 | 0xa9 => KNOWN | IMM32,
            0x0f | 0x70..=0x7f | 0x90 | 0xb8..=0xbf | 0xc2 | 0xc3 | 0xc6 | 0xc7 | 0xe8 | 0xe9 | 0xeb | 0xf4 | 0xf6 | 0xf7 | 0xfe
            | 0xff => SPECIAL,
            _ => 0,
        };
        at += 1;
    }
    map
};

/// The opcodes behind `0f`: without prefix, behind `66`, `f2` and `f3`.
static TWO: [[u8; 256]; 4] = {
    let mut maps = [[0u8; 256]; 4];
    let mut prefix = 0usize;
    while prefix < 4 {
        let mut at = 0usize;
        while at < 256 {
            maps[prefix][at] = two(prefix, at);
            at += 1;
        }
        prefix += 1;
    }
    maps
};

const fn two(prefix: usize, opcode: usize) -> u8 {
    match (prefix, opcode) {
        (_, 0x05 | 0x31 | 0xa0..=0xa2 | 0xa8 | 0xa9 | 0xc8..=0xcf) => KNOWN,
        (_, 0x0b | 0x1f | 0x80..=0x8f | 0xba) => SPECIAL,
        (_, 0x0d | 0x10 | 0x11 | 0x18..=0x1e | 0x2a | 0x2c | 0x2d | 0x40..=0x4f | 0x51 | 0x58 | 0x59 | 0x5c..=0x5f | 0x90..=0x9f)
        | (_, 0xa3 | 0xa5 | 0xab | 0xad | 0xaf..=0xb1 | 0xb3 | 0xb6 | 0xb7 | 0xbb..=0xc1)
        | (0 | 2 | 3, 0x12)
        | (0 | 3, 0x16)
        | (0 | 1, 0x14 | 0x15 | 0x28 | 0x29 | 0x2e | 0x2f | 0x54..=0x57 | 0x60..=0x6b | 0x6e | 0x6f | 0x74..=0x76 | 0x7e)
        | (0 | 1, 0xd1..=0xd5 | 0xd8..=0xe5 | 0xe8..=0xef | 0xf1..=0xf6 | 0xf8..=0xfe)
        | (0, 0x52 | 0x53)
        | (1, 0x6c | 0x6d | 0x7c | 0x7d | 0xd0 | 0xd6)
        | (2, 0x7c | 0x7d | 0xd0)
        | (3, 0x52 | 0x53 | 0x6f | 0x7e | 0xb8)
        | (0 | 1 | 3, 0x5b)
        | (_, 0x5a)
        | (0 | 1, 0x7f)
        | (3, 0x7f)
        | (1..=3, 0xe6) => KNOWN | MODRM,
        (1, 0x12 | 0x16) | (0 | 1, 0x13 | 0x17 | 0xe7) | (_, 0x2b) => KNOWN | MODRM | MEMORY,
        (_, 0x70 | 0xa4 | 0xac | 0xc2) | (0 | 1, 0xc4 | 0xc6) => KNOWN | MODRM | IMM8,
        _ => 0,
    }
}

/// Bytes that a ModRM byte stands for, itself included, but for a displacement that only the SIB byte tells of.
const OPERAND_LEN: u8 = 0x07;
/// The displacement is PC-relative.
const PC_RELATIVE: u8 = 0x10;
/// A 32-bit displacement follows if the SIB byte has no base.
const MAYBE_BASELESS: u8 = 0x20;

static OPERAND: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut modrm = 0usize;
    while modrm < 256 {
        let (mode, base) = (modrm >> 6, modrm & 7);
        let sib = (mode < 3 && base == 4) as u8;
        table[modrm] = match (mode, base) {
            (0, 4) => 2 | MAYBE_BASELESS,
            (0, 5) => 5 | PC_RELATIVE,
            (0, _) | (3, _) => 1,
            (1, _) => 2 + sib,
            _ => 5 + sib,
        };
        modrm += 1;
    }
    table
};

/// What stands in front of the opcode.
#[derive(Clone, Copy)]
struct Prefixes {
    /// Bytes, REX included.
    len: usize,
    /// The REX byte, or 0.
    rex: u8,
    /// Which of [`TWO`] holds: 0 for none, `66`, `f2`, `f3`.
    map: usize,
}

impl Prefixes {
    const fn wide(self) -> bool {
        self.rex & 8 != 0
    }

    /// Width of an immediate that the operand size decides.
    const fn imm(self) -> usize {
        if self.map == 1 && !self.wide() { 2 } else { 4 }
    }
}

/// The shape of the instruction at the start of `bytes`; `None` if it is not among those known here. It may be longer
/// than the code that `bytes` was taken from.
#[inline]
pub(super) fn shape(bytes: &[u8; 16]) -> Option<Shape> {
    let [first, second, ..] = *bytes;
    let has_rex = first & 0xf0 == 0x40;
    let (opcode, rex) = if has_rex { (second, first) } else { (first, 0) };
    let entry = ONE[usize::from(opcode)];
    if entry & (KNOWN | SPECIAL) == KNOWN {
        return plain(bytes, Prefixes { len: usize::from(has_rex), rex, map: 0 }, usize::from(has_rex), entry);
    }
    if entry != 0 {
        return special(bytes, Prefixes { len: usize::from(has_rex), rex, map: 0 }, opcode);
    }
    // Behind a REX byte a prefix would make it void.
    if has_rex { None } else { prefixed(bytes) }
}

/// The same with prefixes other than REX in front.
fn prefixed(bytes: &[u8; 16]) -> Option<Shape> {
    let (mut len, mut map) = (0usize, 0usize);
    while len < 10 {
        map = match (bytes[len & 15], map) {
            (0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65, map) => map,
            (0x66, 0 | 1) => 1,
            (0xf2, 0) => 2,
            (0xf3, 0) => 3,
            (0x66 | 0xf2 | 0xf3, _) => return None,
            _ => break,
        };
        len += 1;
    }
    let byte = bytes[len & 15];
    let rex = if byte & 0xf0 == 0x40 { byte } else { 0 };
    len += usize::from(rex != 0);
    let opcode = bytes[len & 15];
    let entry = ONE[usize::from(opcode)];
    let prefixes = Prefixes { len, rex, map };
    match entry {
        0 => None,
        _ if entry & SPECIAL == 0 => plain(bytes, prefixes, len, entry),
        _ => special(bytes, prefixes, opcode),
    }
    .filter(|shape| shape.len <= 15)
}

/// An instruction whose opcode ends with byte `at` and is described by `entry`.
#[inline]
fn plain(bytes: &[u8; 16], prefixes: Prefixes, at: usize, entry: u8) -> Option<Shape> {
    let mut len = at + 1;
    let mut field = 0;
    if entry & MODRM != 0 {
        let modrm = bytes[(at + 1) & 15];
        if entry & MEMORY != 0 && modrm >= 0xc0 {
            return None;
        }
        let operand = OPERAND[usize::from(modrm)];
        len += usize::from(operand & OPERAND_LEN);
        if operand & MAYBE_BASELESS != 0 && bytes[(at + 2) & 15] & 7 == 5 {
            len += 4;
        }
        if operand & PC_RELATIVE != 0 {
            field = (at + 2) as u8;
        }
    }
    if entry & (IMM8 | IMM32) != 0 {
        len += if entry & IMM8 != 0 { 1 } else { prefixes.imm() };
    }
    Some(Shape { len: len as u8, kind: Kind::Next, detail: 0, field })
}

/// Branches, and opcodes of which more must be known than where they stand in the map.
#[inline]
fn special(bytes: &[u8; 16], prefixes: Prefixes, opcode: u8) -> Option<Shape> {
    let at = prefixes.len;
    let bare = |kind: Kind, more: usize| Some(Shape { len: (at + 1 + more) as u8, kind, detail: 0, field: 0 });
    let reg = bytes[(at + 1) & 15] >> 3 & 7;
    let operand = |more: u8| plain(bytes, prefixes, at, KNOWN | MODRM | more);
    match opcode {
        0x0f => escaped(bytes, prefixes, bytes[(at + 1) & 15]),
        0x70..=0x7f => Some(Shape { len: (at + 2) as u8, kind: Kind::Branch8, detail: opcode & 15, field: 0 }),
        0xe8 => bare(Kind::Call32, 4),
        0xe9 => bare(Kind::Jump32, 4),
        0xeb => bare(Kind::Jump8, 1),
        0xc3 => bare(Kind::Return, 0),
        0xc2 => bare(Kind::Return, 2),
        0xf4 => bare(Kind::Trap, 0),
        0x8d => plain(bytes, prefixes, at, KNOWN | MODRM | MEMORY).map(|shape| Shape { detail: 1, ..shape }),
        // `xchg` behind REX.B, `pause` behind f3.
        0x90 if prefixes.rex & 1 == 0 && prefixes.map != 3 => bare(Kind::Nop, 0),
        0xb8..=0xbf => bare(Kind::Next, if prefixes.wide() { 8 } else { prefixes.imm() }),
        0xf6 => operand(if reg < 2 { IMM8 } else { 0 }),
        0xf7 => operand(if reg < 2 { IMM32 } else { 0 }),
        0xc6 if reg == 0 => operand(IMM8),
        0xc7 if reg == 0 => operand(IMM32),
        0xfe if reg < 2 => operand(0),
        0xff => match reg {
            0 | 1 | 6 => operand(0),
            2 => operand(0).map(|shape| Shape { kind: Kind::IndirectCall, ..shape }),
            4 => operand(0).map(|shape| Shape { kind: Kind::IndirectJump, ..shape }),
            _ => None,
        },
        _ => None,
    }
}

/// An instruction whose opcode is `0f opcode`.
#[inline]
fn escaped(bytes: &[u8; 16], prefixes: Prefixes, opcode: u8) -> Option<Shape> {
    let at = prefixes.len + 1;
    let entry = TWO[prefixes.map & 3][usize::from(opcode)];
    if entry & KNOWN != 0 {
        return plain(bytes, prefixes, at, entry);
    }
    let reg = bytes[(at + 1) & 15] >> 3 & 7;
    match opcode {
        0x80..=0x8f => Some(Shape { len: (at + 5) as u8, kind: Kind::Branch32, detail: opcode & 15, field: 0 }),
        0x1f => {
            let kind = if reg == 0 { Kind::Nop } else { Kind::Next };
            plain(bytes, prefixes, at, KNOWN | MODRM).map(|shape| Shape { kind, ..shape })
        }
        0x0b => Some(Shape { len: (at + 1) as u8, kind: Kind::Trap, detail: 0, field: 0 }),
        0xba if reg >= 4 => plain(bytes, prefixes, at, KNOWN | MODRM | IMM8),
        _ => None,
    }
}
