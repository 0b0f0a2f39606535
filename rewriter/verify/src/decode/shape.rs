//! Prefixes and opcode, read without yaxpeax.

/// The outer form of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Opcode map: 0 one-byte, 1 after `0f`, 2 after `0f 38`, 3 after `0f 3a`; others as VEX, EVEX
    /// and XOP number them.
    pub(super) map: u8,
    pub(super) opcode: u8,
    pub(super) opcode_at: usize,
    /// `f3` or `f2` prefix.
    pub(super) repeat: bool,
    /// `67` prefix.
    pub(super) address_size: bool,
    /// `REX.B`.
    pub(super) rex_b: bool,
    /// Encoded with VEX, EVEX or XOP.
    pub(super) vector: bool,
}

impl Shape {
    /// The documented NOP encodings only: `90`, `0f 1f /0`, with any prefix that changes nothing.
    pub(super) const fn is_nop(&self) -> bool {
        !self.vector && !self.repeat && ((self.map == 0 && self.opcode == 0x90 && !self.rex_b) || (self.map == 1 && self.opcode == 0x1f))
    }

    /// `loop*`, `j*cxz`.
    pub(super) const fn is_short_conditional(&self) -> bool {
        !self.vector && self.map == 0 && matches!(self.opcode, 0xe0..=0xe3)
    }

    /// `call rel32`, `jmp rel32`, `jmp rel8`.
    pub(super) const fn is_relative(&self) -> bool {
        !self.vector && self.map == 0 && matches!(self.opcode, 0xe8 | 0xe9 | 0xeb)
    }

    pub(super) const fn is_conditional_jump(&self) -> bool {
        !self.vector && ((self.map == 0 && self.opcode & 0xf0 == 0x70) || (self.map == 1 && self.opcode & 0xf0 == 0x80))
    }
}

/// Scans prefixes and opcode (Intel SDM volume 2, chapter 2). `bytes` is one whole instruction.
pub(super) fn shape(bytes: &[u8]) -> Shape {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let mut at = 0;
    let mut shape =
        Shape { map: 0, opcode: 0, opcode_at: 0, repeat: false, address_size: false, rex_b: false, vector: false };
    while at < bytes.len() {
        match byte(at) {
            0x67 => shape.address_size = true,
            0xf2 | 0xf3 => shape.repeat = true,
            0x66 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
            _ => break,
        }
        at += 1;
    }
    while byte(at) & 0xf0 == 0x40 {
        shape.rex_b = byte(at) & 1 != 0;
        at += 1;
    }
    match byte(at) {
        0xc5 => (shape.map, shape.vector, at) = (1, true, at + 2),
        0xc4 => (shape.map, shape.vector, at) = (byte(at + 1) & 0x1f, true, at + 3),
        0x62 => (shape.map, shape.vector, at) = (byte(at + 1) & 0x7, true, at + 4),
        // `8f /0` is `pop`; a map number of 8 or more cannot be its ModRM byte with /0.
        0x8f if byte(at + 1) & 0x1f >= 8 => (shape.map, shape.vector, at) = (byte(at + 1) & 0x1f, true, at + 3),
        0x0f => match byte(at + 1) {
            0x38 => (shape.map, at) = (2, at + 2),
            0x3a => (shape.map, at) = (3, at + 2),
            _ => (shape.map, at) = (1, at + 1),
        },
        _ => {}
    }
    shape.opcode = byte(at);
    shape.opcode_at = at;
    shape
}
