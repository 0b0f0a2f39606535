//! Reading an instruction by its head.
//!
//! How long an instruction is, what it does to control flow and where its PC-relative field stands
//! follow from its prefixes, opcode, ModRM and SIB byte, its *head*; displacement and immediate are
//! only carried along (Intel SDM volume 2, 2.1). A program has millions of instructions and some
//! ten thousand heads, so what yaxpeax said about a head is remembered.
//!
//! Nothing here knows an instruction set but for where a head ends, and that is not trusted either:
//! a head is remembered only if yaxpeax reads the instruction at hand and two more with other bytes
//! behind the same head alike. A head cut too short shows there; one cut too long costs time only.

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

/// A head: its bytes, first byte lowest, and its length in the highest byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head(u64);

/// Longest head that is remembered: EVEX prefix, opcode, ModRM and SIB.
const HEAD_MAX: u32 = 7;

impl Head {
    /// The head of the instruction at the start of `bytes`; `None` if it is too long to remember.
    #[inline]
    fn of(bytes: &[u8; 16]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let byte = |at: u32| (word >> (at * 8)) as u8;
        let at = u32::from(a & 0xf0 == 0x40);
        match step(byte(at)) {
            BARE => Some(Self::cut(word, at)),
            MODRM => Some(Self::cut(word, behind_modrm(word, at))),
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
        let (opcode_at, has_modrm) = match (step(byte(at)), byte(at + 1)) {
            (BARE, _) => (at, false),
            (MODRM, _) => (at, true),
            (ESCAPE, 0x38 | 0x3a) => (at + 2, true),
            (ESCAPE, opcode) => (at + 1, !is_bare_0f(opcode)),
            (VEX2, _) => (at + 2, true),
            (VEX3, _) => (at + 3, true),
            (EVEX, _) => (at + 4, true),
            _ => return None,
        };
        if opcode_at + 2 > HEAD_MAX {
            return None;
        }
        let last = if has_modrm { behind_modrm(word, opcode_at) } else { opcode_at };
        (last < HEAD_MAX).then(|| Self::cut(word, last))
    }

    /// The head that ends with byte `last` of `word`, which is below 7.
    #[inline]
    const fn cut(word: u64, last: u32) -> Self {
        Self(word & (u64::MAX >> (56 - last * 8)) | (last as u64 + 1) << 56)
    }

    const fn len(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Place in a table of `1 << BITS` heads.
    const fn slot(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize & ((1 << BITS) - 1)
    }
}

/// The last byte of a head whose opcode ends with byte `at`: ModRM or SIB.
#[inline]
const fn behind_modrm(word: u64, at: u32) -> u32 {
    let modrm = (word >> ((at + 1) * 8)) as u8;
    at + 1 + (modrm < 0xc0 && modrm & 7 == 4) as u32
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
            0x63 | 0x69 | 0x6b | 0x80..=0x8e | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => MODRM,
            0x00..=0x3f if at & 7 < 4 => MODRM,
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

const BITS: u32 = 15;

type Table = Box<[(Head, Form); 1 << BITS]>;

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
        let empty = || vec![(Head::default(), Form::default()); 1 << BITS].into_boxed_slice().try_into().ok();
        Self { table: spare.or_else(empty) }
    }

    /// The form of the instruction at the start of `bytes`, if its head is known.
    #[inline]
    pub(super) fn form(&self, bytes: &[u8; 16]) -> Option<Form> {
        let head = Head::of(bytes)?;
        let (known, form) = &self.table.as_ref()?[head.slot()];
        (*known == head).then_some(*form)
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
        let Some(head) = Head::of(bytes) else { return Ok(decoded) };
        let mut form_of = |seed: u8| {
            let mut other = *bytes;
            for (at, byte) in other.iter_mut().enumerate().skip(head.len()) {
                *byte = seed.wrapping_mul(at as u8 | 1) ^ seed >> 3;
            }
            Form::of(&decode(&other, addr).ok()?, &other, addr)
        };
        if let Some(form) = Form::of(&decoded, bytes, addr)
            && form_of(0x35) == Some(form)
            && form_of(0xd7) == Some(form)
            && let Some(table) = &mut self.table
        {
            table[head.slot()] = (head, form);
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
            if let (Some(_), Some(head)) = (eyes.heads.form(all), super::Head::of(all)) {
                by_head += 1;
                let other = next().to_le_bytes().repeat(2);
                bytes[head.len()..].copy_from_slice(&other[head.len()..]);
                assert_eq!(eyes.decode(&bytes, addr), eyes.plain.decode(&bytes, addr), "{bytes:02x?}");
            }
        }
        assert!(by_head > 100_000, "{by_head}");
    }
}
