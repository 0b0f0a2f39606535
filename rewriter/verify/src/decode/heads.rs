//! Reading an instruction by its head.
//!
//! How long an instruction is, what it does to control flow and where its PC-relative field stands
//! follow from its prefixes, opcode, ModRM and SIB byte, its *head*; displacement and immediate are
//! only carried along (Intel SDM volume 2, 2.1). A program has millions of instructions and some
//! ten thousand heads, so what yaxpeax said about a head is remembered.
//!
//! Nothing here knows an instruction set but for where a head ends, and that is not trusted either:
//! a head is remembered only if yaxpeax reads the instruction at hand and two more with other bytes
//! behind the same head, and other registers in it, alike. A head cut too short shows there; one cut too long costs time only.

use std::cell::Cell;

use super::{Decoded, Flow, PcRelative};

/// An instruction without the values of its displacement and immediate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// Length in bytes, 1 to 15.
    len: u8,
    kind: Kind,
    /// Condition of a `jcc`, opcode of a short conditional jump.
    detail: u8,
    /// Offset of the PC-relative displacement, 0 for none.
    field: u8,
    taken: bool,
    is_endbr: bool,
    address_size: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Next,
    Nop,
    Jump8,
    Jump32,
    Conditional8,
    Conditional32,
    ShortConditional,
    Begin,
    Call,
    IndirectCall,
    IndirectJump,
    End,
}

impl Form {
    /// The form of `decoded`, which was read from `bytes` at `addr`; `None` if its target is not told
    /// by its last bytes, or its field does not hold what yaxpeax decoded.
    fn of(decoded: &Decoded, bytes: &[u8; 16], addr: u64) -> Option<Self> {
        let (kind, detail) = match decoded.flow {
            Flow::Next => (Kind::Next, 0),
            Flow::Nop => (Kind::Nop, 0),
            Flow::IndirectCall => (Kind::IndirectCall, 0),
            Flow::IndirectJump => (Kind::IndirectJump, 0),
            Flow::End => (Kind::End, 0),
            Flow::Jump(_) if decoded.len == 2 => (Kind::Jump8, 0),
            Flow::Jump(_) => (Kind::Jump32, 0),
            Flow::Conditional(condition, _) if decoded.len == 2 => (Kind::Conditional8, condition),
            Flow::Conditional(condition, _) => (Kind::Conditional32, condition),
            Flow::ShortConditional(opcode, _) => (Kind::ShortConditional, opcode),
            Flow::Begin(_) => (Kind::Begin, 0),
            Flow::Call(_) => (Kind::Call, 0),
        };
        let address_size = super::shape(bytes).address_size;
        let (field, taken) = decoded.memory.map_or((0, false), |memory| (memory.at, memory.taken));
        let form = Self { len: decoded.len, kind, detail, field, taken, is_endbr: decoded.is_endbr, address_size };
        (form.read(bytes, addr) == *decoded).then_some(form)
    }

    /// The length, if the instruction goes on to the next one and no field of it is PC-relative.
    #[inline]
    pub(crate) fn plain_len(&self) -> Option<u8> {
        (matches!(self.kind, Kind::Next | Kind::Nop) && self.field == 0).then_some(self.len)
    }

    /// The instruction of this form at the start of `bytes`, which stands at `addr`.
    #[inline]
    pub(crate) fn read(&self, bytes: &[u8; 16], addr: u64) -> Decoded {
        let next = addr.wrapping_add(u64::from(self.len));
        let long = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            next.wrapping_add_signed(field.map_or(0, |field| i64::from(i32::from_le_bytes(*field))))
        };
        let end = usize::from(self.len);
        let far = || long(end.wrapping_sub(4));
        let near = || {
            let distance = bytes.get(end.wrapping_sub(1)).copied().unwrap_or(0);
            next.wrapping_add_signed(i64::from(distance.cast_signed()))
        };
        let flow = match self.kind {
            Kind::Next => Flow::Next,
            Kind::Nop => Flow::Nop,
            Kind::Jump8 => Flow::Jump(near()),
            Kind::Jump32 => Flow::Jump(far()),
            Kind::Conditional8 => Flow::Conditional(self.detail, near()),
            Kind::Conditional32 => Flow::Conditional(self.detail, far()),
            Kind::ShortConditional => Flow::ShortConditional(self.detail, near()),
            Kind::Begin => Flow::Begin(far()),
            Kind::Call => Flow::Call(far()),
            Kind::IndirectCall => Flow::IndirectCall,
            Kind::IndirectJump => Flow::IndirectJump,
            Kind::End => Flow::End,
        };
        let memory = (self.field != 0).then(|| {
            let target = long(usize::from(self.field));
            let target = if self.address_size { target & 0xffff_ffff } else { target };
            PcRelative { at: self.field, target, taken: self.taken }
        });
        Decoded { len: self.len, flow, memory, is_endbr: self.is_endbr }
    }
}

/// A head: its bytes, first byte lowest, and its length in the highest byte. Bits that name a register and nothing else
/// are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head(u64);

/// Longest head that is remembered: EVEX prefix, opcode, ModRM and SIB.
const HEAD_MAX: u32 = 7;

/// Where a head ends, and which of its bits count.
#[derive(Clone, Copy)]
struct Cut {
    /// Its last byte, below [`HEAD_MAX`].
    last: u32,
    mask: u64,
}

impl Cut {
    /// Behind the opcode in byte `at`, without ModRM byte.
    #[inline(always)]
    const fn bare(at: u32) -> Self {
        Self { last: at, mask: u64::MAX >> (56 - at * 8) }
    }

    /// Behind the ModRM or SIB byte of the opcode that ends with byte `at` of `word`, which is below 6. `names_register`: the
    /// reg field of the ModRM byte is no part of the opcode, and neither are scale and index in the SIB byte.
    #[inline(always)]
    const fn behind_modrm(word: u64, at: u32, names_register: bool) -> Self {
        let modrm = (word >> ((at + 1) * 8)) as u8;
        let has_sib = modrm < 0xc0 && modrm & 7 == 4;
        let last = at + 1 + has_sib as u32;
        let free = (names_register as u64 * (0x38 | (has_sib as u64 * 0xf800))) << ((at + 1) * 8);
        Self { last, mask: u64::MAX >> (56 - (last & 7) * 8) & !free }
    }

    /// The head at the start of `bytes`; `None` if it is too long to remember.
    #[inline(always)]
    fn of(bytes: &[u8; 16]) -> Option<Self> {
        let word = first_bytes(bytes);
        let at = u32::from(word as u8 & 0xf0 == 0x40);
        match step((word >> (at * 8)) as u8) {
            BARE => Some(Self::bare(at)),
            REGISTER => Some(Self::behind_modrm(word, at, true)),
            MODRM => Some(Self::behind_modrm(word, at, false)),
            _ => Self::of_long(word),
        }
    }

    /// The same for opcodes of more than one byte, and behind prefixes other than REX.
    fn of_long(word: u64) -> Option<Self> {
        let byte = |at: u32| (word >> (at * 8)) as u8;
        let mut at = 0u32;
        while at < 3 && step(byte(at)) == PREFIX {
            at += 1;
        }
        at += u32::from(byte(at) & 0xf0 == 0x40);
        // To the last byte of the opcode.
        let (opcode_at, modrm) = match (step(byte(at)), byte(at + 1)) {
            (BARE, _) => (at, None),
            (step @ (MODRM | REGISTER), _) => (at, Some(step == REGISTER)),
            (ESCAPE, 0x38 | 0x3a) => (at + 2, Some(false)),
            (ESCAPE, opcode) => (at + 1, (!is_bare_0f(opcode)).then(|| names_register_0f(opcode))),
            (VEX2, _) => (at + 2, Some(false)),
            (VEX3, _) => (at + 3, Some(false)),
            (EVEX, _) => (at + 4, Some(false)),
            _ => return None,
        };
        if opcode_at + 2 > HEAD_MAX {
            return None;
        }
        let cut = modrm.map_or_else(|| Self::bare(opcode_at), |names_register| Self::behind_modrm(word, opcode_at, names_register));
        (cut.last < HEAD_MAX).then_some(cut)
    }
}

#[inline]
const fn first_bytes(bytes: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Head {
    /// The head of the instruction at the start of `bytes`; `None` if it is too long to remember.
    #[inline]
    fn of(bytes: &[u8; 16]) -> Option<Self> {
        let cut = Cut::of(bytes)?;
        Some(Self(first_bytes(bytes) & cut.mask | (u64::from(cut.last) + 1) << 56))
    }

    /// Place in a table of `1 << BITS` pairs of heads.
    const fn slot(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize & ((1 << BITS) - 1)
    }
}

/// What a first byte says about the bytes behind it.
const BARE: u8 = 0;
const MODRM: u8 = 1;
const PREFIX: u8 = 2;
const REX: u8 = 3;
const ESCAPE: u8 = 4;
const VEX2: u8 = 5;
const VEX3: u8 = 6;
const EVEX: u8 = 7;
/// Two prefixes of which the second one counts, XOP, or no instruction.
const OTHER: u8 = 8;
/// [`MODRM`], and its reg field names a register, whatever it is.
const REGISTER: u8 = 9;

#[inline]
fn step(byte: u8) -> u8 {
    STEPS[usize::from(byte)]
}

/// The one-byte opcode map (Intel SDM volume 2, table A-2).
static STEPS: [u8; 256] = {
    let mut steps = [BARE; 256];
    let mut at = 0usize;
    while at < 256 {
        steps[at] = match at {
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => PREFIX,
            0x0f => ESCAPE,
            0x40..=0x4f => REX,
            0xc5 => VEX2,
            0xc4 => VEX3,
            0x62 => EVEX,
            0x8f => OTHER,
            0x63 | 0x69 | 0x6b | 0x84..=0x8b | 0x8d => REGISTER,
            0x80..=0x83 | 0x8c | 0x8e | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => MODRM,
            0x00..=0x3f if at & 7 < 4 => REGISTER,
            _ => BARE,
        };
        at += 1;
    }
    steps
};

/// Opcodes behind `0f` without ModRM byte (Intel SDM volume 2, table A-3): `syscall`, `ud2`, `jcc`,
/// `bswap` and their like.
const fn is_bare_0f(opcode: u8) -> bool {
    matches!(opcode, 0x05..=0x0b | 0x30..=0x37 | 0x77 | 0x80..=0x8f | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf)
}

/// Opcodes behind `0f` whose reg field names a register, whatever it is (Intel SDM volume 2, table A-3): moves, conversions,
/// conditional moves, `movzx` and their like. There are more.
const fn names_register_0f(opcode: u8) -> bool {
    matches!(opcode, 0x10 | 0x11 | 0x28 | 0x29 | 0x2c..=0x2f | 0x40..=0x4f | 0x51 | 0x54..=0x5f | 0x6e | 0x6f | 0x7f | 0xa3 | 0xab | 0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf)
}

const BITS: u32 = 13;

/// Two heads share a place, the one that was learned last in front: otherwise a rare one pushes out a common one, and to learn
/// that again takes three readings.
type Table = Box<[[(Head, Form); 2]; 1 << BITS]>;

thread_local! {
    /// The table of a reader that is gone, for the next one of this thread.
    static SPARE: Cell<Option<Table>> = const { Cell::new(None) };
}

/// Heads that were read before.
pub(super) struct Heads {
    /// Taken only by `drop`.
    table: Option<Table>,
}

impl Heads {
    pub(super) fn new() -> Self {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let empty = || vec![[(Head::default(), Form::default()); 2]; 1 << BITS].into_boxed_slice().try_into().ok();
        Self { table: spare.or_else(empty) }
    }

    /// The form of the instruction at the start of `bytes`, if its head is known.
    #[inline]
    pub(super) fn form(&self, bytes: &[u8; 16]) -> Option<Form> {
        let head = Head::of(bytes)?;
        let [first, second] = &self.table.as_ref()?[head.slot()];
        if first.0 == head {
            return Some(first.1);
        }
        (second.0 == head).then_some(second.1)
    }

    /// The instruction at the start of `bytes`, as `decode` reads it. Remembers how it reads all
    /// that start with the same head.
    pub(super) fn learn<E>(
        &mut self,
        bytes: &[u8; 16],
        addr: u64,
        mut decode: impl FnMut(&[u8; 16], u64) -> Result<Decoded, E>,
    ) -> Result<Decoded, E> {
        let decoded = decode(bytes, addr)?;
        let (Some(head), Some(cut)) = (Head::of(bytes), Cut::of(bytes)) else { return Ok(decoded) };
        let kept = cut.mask.to_le_bytes();
        let mut form_of = |seed: u8| {
            let mut other = *bytes;
            for (at, byte) in other.iter_mut().enumerate() {
                let kept = kept.get(at).copied().unwrap_or(0);
                *byte = *byte & kept | (seed.wrapping_mul(at as u8 | 1) ^ seed >> 3) & !kept;
            }
            Form::of(&decode(&other, addr).ok()?, &other, addr)
        };
        if let Some(form) = Form::of(&decoded, bytes, addr)
            && form_of(0x35) == Some(form)
            && form_of(0xd7) == Some(form)
            && let Some(table) = &mut self.table
        {
            let [first, second] = &mut table[head.slot()];
            *second = std::mem::replace(first, (head, form));
        }
        Ok(decoded)
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        let table = self.table.take();
        // An error: no thread-local storage any more, the thread ends.
        let _ = SPARE.try_with(|spare| spare.set(table));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Eyes;

    /// Instructions made of likely and unlikely first bytes, read with and without memory of heads.
    #[test]
    fn heads_change_nothing() {
        const LEADS: [u8; 24] = [
            0x66, 0xf2, 0xf3, 0x48, 0x41, 0x4c, 0x0f, 0x0f, 0x0f, 0x38, 0x3a, 0xc4, 0xc5, 0x62, 0x8f, 0x67, 0x2e, 0x64, 0xe8, 0xe9,
            0x70, 0xff, 0xc7, 0x8d,
        ];
        let mut eyes = Eyes::new();
        let mut by_head = 0u32;
        let mut random = 0x1234_5678_9abc_def1_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for _ in 0..400_000 {
            let [low, high, choice] = [next(), next(), next()];
            let mut bytes = [low.to_le_bytes(), high.to_le_bytes()].concat();
            for (at, byte) in bytes.iter_mut().take((choice % 4) as usize).enumerate() {
                *byte = LEADS[(choice >> (8 * (at + 1))) as usize % LEADS.len()];
            }
            let addr = next() >> 8;
            let plain = eyes.plain.decode(&bytes, addr);
            // The first time may teach the head, the second time must use it alike, with other bytes behind.
            assert_eq!(eyes.decode(&bytes, addr), plain, "{bytes:02x?}");
            assert_eq!(eyes.decode(&bytes, addr), plain, "{bytes:02x?}");
            let cut = (choice >> 60) as usize;
            assert_eq!(eyes.decode(&bytes[..cut], addr), eyes.plain.decode(&bytes[..cut], addr), "{:02x?}", &bytes[..cut]);
            let all = bytes.first_chunk::<16>().unwrap();
            if let (Some(_), Some(cut)) = (eyes.heads.form(all), super::Cut::of(all)) {
                by_head += 1;
                let (other, kept) = (next().to_le_bytes().repeat(2), u128::from(cut.mask).to_le_bytes());
                for ((byte, other), kept) in bytes.iter_mut().zip(other).zip(kept) {
                    *byte = *byte & kept | other & !kept;
                }
                assert_eq!(eyes.decode(&bytes, addr), eyes.plain.decode(&bytes, addr), "{bytes:02x?}");
            }
        }
        assert!(by_head > 100_000, "{by_head}");
    }
}
