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
    /// The condition, if it is a branch.
    pub(super) condition: u8,
    /// The address in the PC-relative field is the result.
    pub(super) takes_address: bool,
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

// What the maps below say of an opcode. The bits are laid out so that nearly all of a shape is computed without a
// branch: lengths of instructions are hard to foresee.

/// Length of the immediate or branch displacement at the end.
const IMM: u16 = 0x07;
/// A ModRM byte follows.
const MODRM: u16 = 0x08;
/// The immediate has 16 bits behind an operand size prefix.
const SIZED: u16 = 0x10;
/// The immediate has 64 bits behind REX.W.
const WIDE: u16 = 0x20;
/// There is no form with two registers.
const MEMORY: u16 = 0x40;
/// The address is the result.
const ADDRESS: u16 = 0x80;
/// The opcode is known; the kind stands above.
const KNOWN: u16 = 0x100;
const KIND_SHIFT: u32 = 9;

const fn kind(kind: Kind) -> u16 {
    KNOWN | (kind as u16) << KIND_SHIFT
}

static KINDS: [Kind; 16] = [
    Kind::Next,
    Kind::Nop,
    Kind::Jump8,
    Kind::Jump32,
    Kind::Branch8,
    Kind::Branch32,
    Kind::Call32,
    Kind::IndirectCall,
    Kind::IndirectJump,
    Kind::Return,
    Kind::Trap,
    Kind::Next,
    Kind::Next,
    Kind::Next,
    Kind::Next,
    Kind::Next,
];

/// The one-byte opcode map, by opcode and `reg` of the byte behind it. What is 0 is left to iced-x86; prefixes and
/// `0f` are among that.
static ONE: [u16; 256 * 8] = {
    let mut map = [0u16; 256 * 8];
    let mut at = 0usize;
    while at < map.len() {
        map[at] = one(at / 8, at % 8);
        at += 1;
    }
    map
};

const fn one(opcode: usize, reg: usize) -> u16 {
    match (opcode, reg) {
        (0x00..=0x3f, _) if opcode & 7 < 4 => KNOWN | MODRM,
        (0x00..=0x3f, _) if opcode & 7 == 4 => KNOWN | 1,
        (0x00..=0x3f, _) if opcode & 7 == 5 => KNOWN | SIZED | 4,
        (0x63 | 0x84..=0x8b | 0xd0..=0xd3 | 0xd8 | 0xdc, _) => KNOWN | MODRM,
        (0xda | 0xde | 0xdf, _) => KNOWN | MODRM | MEMORY,
        (0x8d, _) => KNOWN | MODRM | MEMORY | ADDRESS,
        (0x6b | 0x80 | 0x83 | 0xc0 | 0xc1, _) | (0xc6, 0) | (0xf6, 0 | 1) => KNOWN | MODRM | 1,
        (0x69 | 0x81, _) | (0xc7, 0) | (0xf7, 0 | 1) => KNOWN | MODRM | SIZED | 4,
        (0xf6 | 0xf7, 2..) | (0xfe, 0 | 1) | (0xff, 0 | 1 | 6) => KNOWN | MODRM,
        (0x50..=0x5f | 0x91..=0x99 | 0x9b..=0x9f | 0xa4..=0xa7 | 0xaa..=0xaf | 0xc9 | 0xcc | 0xf5 | 0xf8..=0xfd, _) => KNOWN,
        (0x6a | 0xa8 | 0xb0..=0xb7, _) => KNOWN | 1,
        (0x68 | 0xa9, _) => KNOWN | SIZED | 4,
        (0xb8..=0xbf, _) => KNOWN | SIZED | WIDE | 4,
        (0x70..=0x7f, _) => kind(Kind::Branch8) | 1,
        (0xe8, _) => kind(Kind::Call32) | 4,
        (0xe9, _) => kind(Kind::Jump32) | 4,
        (0xeb, _) => kind(Kind::Jump8) | 1,
        (0xc2, _) => kind(Kind::Return) | 2,
        (0xc3, _) => kind(Kind::Return),
        (0xf4, _) => kind(Kind::Trap),
        (0xff, 2) => kind(Kind::IndirectCall) | MODRM,
        (0xff, 4) => kind(Kind::IndirectJump) | MODRM,
        _ => 0,
    }
}

/// Of the first map what needs no second look, by opcode and the byte behind it: the length of an instruction that goes on to
/// the next one, is no NOP and has neither a PC-relative field nor a size that a prefix decides; else 0.
static PLAIN: [[u8; 256]; 256] = {
    let mut map = [[0u8; 256]; 256];
    let mut opcode = 0usize;
    while opcode < 256 {
        let mut reg = 0usize;
        while reg < 8 {
            let entry = ONE[opcode * 8 + reg];
            if entry & !(IMM | MODRM | SIZED) == KNOWN {
                let mut at = 0usize;
                while at < 32 {
                    let modrm = (at & 0x18) << 3 | reg << 3 | at & 7;
                    let operand = if entry & MODRM != 0 { OPERAND[modrm] } else { 0 };
                    if operand & PC_RELATIVE == 0 {
                        let baseless = if operand & MAYBE_BASELESS != 0 { MAYBE_LONGER } else { 0 };
                        map[opcode][modrm] = (1 + (operand & OPERAND_LEN) + (entry & IMM) as u8) | baseless;
                    }
                    at += 1;
                }
            }
            reg += 1;
        }
        opcode += 1;
    }
    map
};

/// Four bytes are to be added if the SIB byte has no base.
const MAYBE_LONGER: u8 = 0x80;

/// The opcodes behind `0f`: without prefix, behind `66`, `f2` and `f3`.
static TWO: [[u16; 256]; 4] = {
    let mut maps = [[0u16; 256]; 4];
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

const fn two(prefix: usize, opcode: usize) -> u16 {
    match (prefix, opcode) {
        (_, 0x05 | 0x31 | 0xa0..=0xa2 | 0xa8 | 0xa9 | 0xc8..=0xcf) => KNOWN,
        (_, 0x0b) => kind(Kind::Trap),
        (_, 0x80..=0x8f) => kind(Kind::Branch32) | 4,
        (_, 0x0d | 0x10 | 0x11 | 0x18..=0x1e | 0x2a | 0x2c | 0x2d | 0x40..=0x4f | 0x51 | 0x58..=0x5a | 0x5c..=0x5f | 0x90..=0x9f)
        | (_, 0xa3 | 0xa5 | 0xab | 0xad | 0xaf..=0xb1 | 0xb3 | 0xb6 | 0xb7 | 0xbb..=0xc1)
        | (0 | 1, 0x14 | 0x15 | 0x28 | 0x29 | 0x2e | 0x2f | 0x54..=0x57 | 0x60..=0x6b | 0x6e | 0x74..=0x76)
        | (0 | 1, 0xd1..=0xd5 | 0xd8..=0xe5 | 0xe8..=0xef | 0xf1..=0xf6 | 0xf8..=0xfe)
        | (0 | 1 | 3, 0x5b | 0x6f | 0x7e | 0x7f)
        | (0 | 2 | 3, 0x12)
        | (0 | 3, 0x16 | 0x52 | 0x53)
        | (1, 0x6c | 0x6d | 0x7c | 0x7d | 0xd0 | 0xd6)
        | (2, 0x7c | 0x7d | 0xd0)
        | (3, 0xb8)
        | (1..=3, 0xe6) => KNOWN | MODRM,
        (1, 0x12 | 0x16) | (0 | 1, 0x13 | 0x17 | 0xe7) | (_, 0x2b) => KNOWN | MODRM | MEMORY,
        (_, 0x70 | 0xa4 | 0xac | 0xc2) | (0 | 1, 0xc4 | 0xc6) => KNOWN | MODRM | 1,
        _ => 0,
    }
}

/// Bytes that a ModRM byte stands for, itself included, but for a displacement that only the SIB byte tells of.
const OPERAND_LEN: u8 = 0x07;
/// The displacement is PC-relative.
const PC_RELATIVE: u8 = 0x08;
/// A 32-bit displacement follows if the SIB byte has no base.
const MAYBE_BASELESS: u8 = 0x10;

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
    /// Bytes, REX and `0f` included.
    len: u32,
    /// The REX byte, or 0.
    rex: u8,
    /// Which of [`TWO`] holds: 0 for none, `66`, `f2`, `f3`.
    map: usize,
}

/// The length of an instruction that only goes on to the next one, is no NOP and has no PC-relative field, if the first
/// map tells it; else 0. This is most instructions, read without a branch that depends on them.
#[inline]
pub(super) fn plain_len(bytes: &[u8; 16]) -> usize {
    let (word, has_rex) = head(bytes);
    let entry = PLAIN[word as usize & 0xff][(word >> 8) as usize & 0xff];
    let len = usize::from(entry & !MAYBE_LONGER) + usize::from(has_rex & (entry != 0));
    if entry >= MAYBE_LONGER && word >> 16 & 7 == 5 { len + 4 } else { len }
}

/// The bytes behind a REX byte, if there is one in front.
#[inline]
const fn head(bytes: &[u8; 16]) -> (u64, bool) {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    if a & 0xf0 == 0x40 { (word >> 8, true) } else { (word, false) }
}

/// Place of the opcode in the lowest byte of `word` in the first map.
#[inline]
const fn in_first_map(word: u64) -> usize {
    (word as usize & 0xff) << 3 | (word >> 11) as usize & 7
}

/// The shape of the instruction at the start of `bytes`; `None` if it is not among those known here. It may be longer
/// than the code that `bytes` was taken from.
#[inline(always)]
pub(super) fn shape(bytes: &[u8; 16]) -> Option<Shape> {
    let (word, has_rex) = head(bytes);
    let prefixes = Prefixes { len: u32::from(has_rex), rex: if has_rex { bytes[0] } else { 0 }, map: 0 };
    match ONE[in_first_map(word)] {
        0 => special(bytes, word, prefixes),
        entry => shaped(word, prefixes, entry),
    }
}

/// The same for opcodes that are not in the first map, and behind other prefixes.
#[inline]
fn special(bytes: &[u8; 16], word: u64, prefixes: Prefixes) -> Option<Shape> {
    match word as u8 {
        0x0f => escaped(word >> 8, prefixes),
        0x90 => nop(prefixes),
        // Behind a REX byte a prefix would make it void.
        _ if prefixes.rex == 0 => prefixed(bytes),
        _ => None,
    }
}

/// With prefixes other than REX in front.
fn prefixed(bytes: &[u8; 16]) -> Option<Shape> {
    // Opcode, ModRM and SIB byte must be among the eight bytes behind the prefixes.
    const MAX: usize = 7;
    let (mut len, mut map) = (0usize, 0usize);
    while len < MAX {
        map = match (bytes[len], map) {
            (0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65, map) => map,
            (0x66, 0 | 1) => 1,
            (0xf2, 0) => 2,
            (0xf3, 0) => 3,
            (0x66 | 0xf2 | 0xf3, _) => return None,
            _ => break,
        };
        len += 1;
    }
    let rex = if bytes[len] & 0xf0 == 0x40 { bytes[len] } else { 0 };
    len += usize::from(rex != 0);
    let word = u64::from_le_bytes(*bytes.get(len..)?.first_chunk::<8>()?);
    let prefixes = Prefixes { len: len as u32, rex, map };
    let entry = ONE[in_first_map(word)];
    match word as u8 {
        0x0f => escaped(word >> 8, prefixes),
        0x90 => nop(prefixes),
        _ => shaped(word, prefixes, entry),
    }
}

/// `90` is `xchg` behind REX.B and `pause` behind `f3`.
const fn nop(prefixes: Prefixes) -> Option<Shape> {
    if prefixes.rex & 1 != 0 || prefixes.map == 3 {
        return None;
    }
    Some(Shape { len: prefixes.len as u8 + 1, kind: Kind::Nop, condition: 0, takes_address: false, field: 0 })
}

/// An instruction whose opcode is `0f` and the lowest byte of `word`.
#[inline(always)]
fn escaped(word: u64, prefixes: Prefixes) -> Option<Shape> {
    let prefixes = Prefixes { len: prefixes.len + 1, ..prefixes };
    let reg = word >> 11 & 7;
    let entry = match word as u8 {
        0x1f if reg == 0 => kind(Kind::Nop) | MODRM,
        0x1f => KNOWN | MODRM,
        0xba if reg >= 4 => KNOWN | MODRM | 1,
        opcode => TWO[prefixes.map & 3][usize::from(opcode)],
    };
    shaped(word, prefixes, entry)
}

/// An instruction the last byte of whose opcode is the lowest one of `word` and described by `entry`.
#[inline(always)]
fn shaped(word: u64, prefixes: Prefixes, entry: u16) -> Option<Shape> {
    let (modrm, base) = ((word >> 8) as u8, (word >> 16) as u32 & 7);
    let operand = OPERAND[usize::from(modrm)];
    let has_modrm = u32::from(entry & MODRM != 0);
    let baseless = u32::from(operand & MAYBE_BASELESS != 0) & u32::from(base == 5);
    let operand_len = (u32::from(operand & OPERAND_LEN) + baseless * 4) * has_modrm;
    let wide = u32::from(prefixes.rex & 8 != 0);
    let longer = u32::from(entry & WIDE != 0) & wide;
    let shorter = u32::from(entry & SIZED != 0) & u32::from(prefixes.map == 1) & (wide ^ 1);
    let imm = u32::from(entry & IMM) + longer * 4 - shorter * 2;
    let len = prefixes.len + 1 + operand_len + imm;
    let pc_relative = u32::from(operand & PC_RELATIVE != 0) & has_modrm;
    if entry == 0 || entry & MEMORY != 0 && modrm >= 0xc0 || len > 15 {
        return None;
    }
    Some(Shape {
        len: len as u8,
        kind: KINDS[usize::from(entry >> KIND_SHIFT) & 15],
        condition: word as u8 & 15,
        takes_address: entry & ADDRESS != 0,
        field: ((prefixes.len + 2) * pc_relative) as u8,
    })
}
