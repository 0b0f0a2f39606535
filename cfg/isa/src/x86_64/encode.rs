//! The few instructions that postlink writes itself: jumps and conditional branches.

/// Length of `jmp rel8`.
pub const JMP_SHORT: u32 = 2;
/// Length of `jmp rel32`.
pub const JMP_LONG: u32 = 5;
/// Length of `jcc rel8`.
pub const JCC_SHORT: u32 = 2;
/// Length of `jcc rel32`.
pub const JCC_LONG: u32 = 6;
/// Bytes behind a rel8-only branch whose target is far: `jmp short +5` over `jmp rel32 target`.
pub const SHORT_ONLY_FAR: u32 = JMP_SHORT + JMP_LONG;

/// Whether `distance` is a valid 8-bit displacement.
#[inline]
pub const fn fits_i8(distance: i64) -> bool {
    distance >= -128 && distance <= 127
}

/// Whether `distance` is a valid 32-bit displacement.
#[inline]
pub const fn fits_i32(distance: i64) -> bool {
    distance >= i32::MIN as i64 && distance <= i32::MAX as i64
}

/// `jmp rel8`.
#[inline]
pub const fn encode_jmp_short(displacement: i8) -> [u8; 2] {
    [0xeb, displacement.cast_unsigned()]
}

/// `jmp rel32`.
#[inline]
pub const fn encode_jmp_long(displacement: i32) -> [u8; 5] {
    let d = displacement.to_le_bytes();
    [0xe9, d[0], d[1], d[2], d[3]]
}

/// `jcc rel8`; `condition` is the 4-bit condition code.
#[inline]
pub const fn encode_jcc_short(condition: u8, displacement: i8) -> [u8; 2] {
    [0x70 | (condition & 0xf), displacement.cast_unsigned()]
}

/// `jcc rel32`; `condition` is the 4-bit condition code.
#[inline]
pub const fn encode_jcc_long(condition: u8, displacement: i32) -> [u8; 6] {
    let d = displacement.to_le_bytes();
    [0x0f, 0x80 | (condition & 0xf), d[0], d[1], d[2], d[3]]
}
