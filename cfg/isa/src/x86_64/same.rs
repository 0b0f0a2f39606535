//! Shapes say what iced-x86 says: tests.

use super::{Full, Stream};
use crate::Inst;

const ADDR: u64 = 0x7fff_fff0;

/// The instruction at the start of `bytes` must be the same by shape and by iced-x86.
fn check(bytes: &[u8]) -> Option<Inst> {
    let inst = Stream::new(bytes, ADDR).next_inst();
    assert_eq!(inst, Full::read(bytes, ADDR).inst(), "{bytes:02x?}");
    inst
}

fn has_shape(bytes: &[u8; 16]) -> bool {
    super::shape(bytes).is_some()
}

fn random(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Every opcode of the two maps and every ModRM byte behind every kind of prefix.
#[test]
fn every_head() {
    const LEGACY: [&[u8]; 12] =
        [&[], &[0x66], &[0xf2], &[0xf3], &[0x2e], &[0x64, 0x66], &[0x66, 0x66, 0x3e], &[0x66, 0xf3], &[0xf2, 0x66], &[0x67], &[0xf0], &[0xf3, 0xf2]];
    let mut by_shape = 0u32;
    for legacy in LEGACY {
        for rex in (0x3f..=0x4f_u8).filter(|&rex| legacy.is_empty() || matches!(rex, 0x3f | 0x40 | 0x41 | 0x48 | 0x4f)) {
            for escape in [&[][..], &[0x0f]] {
                for opcode in 0..=255u8 {
                    let mut head = legacy.to_vec();
                    head.extend((rex != 0x3f).then_some(rex));
                    head.extend(escape);
                    head.push(opcode);
                    for modrm in 0..=255u8 {
                        // Scale, index and base: one without base and one with.
                        for sib in [0x25, 0xd1] {
                            let mut bytes = [0x80 ^ opcode.rotate_left(3) ^ modrm; 16];
                            bytes[..head.len()].copy_from_slice(&head);
                            bytes[head.len()] = modrm;
                            bytes[head.len() + 1] = sib;
                            check(&bytes);
                            by_shape += u32::from(has_shape(&bytes));
                            if modrm & 7 != 4 {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(by_shape > 4_000_000, "{by_shape}");
}

/// Arbitrary bytes with likely and unlikely beginnings, of any length up to more than an instruction has.
#[test]
fn arbitrary_bytes() {
    const LEADS: [u8; 24] = [
        0x66, 0xf2, 0xf3, 0x48, 0x41, 0x4c, 0x0f, 0x0f, 0x0f, 0x38, 0x3a, 0xc4, 0xc5, 0x62, 0x8f, 0x67, 0x2e, 0x64, 0xe8, 0xe9, 0x70,
        0xff, 0xc7, 0x8d,
    ];
    let mut next = random(0x1234_5678_9abc_def1);
    let (mut instructions, mut others) = (0u32, 0u32);
    for _ in 0..400_000 {
        let choice = next();
        let mut bytes = [next().to_le_bytes(), next().to_le_bytes(), next().to_le_bytes()].concat();
        for (at, byte) in bytes.iter_mut().take((choice % 4) as usize).enumerate() {
            *byte = LEADS[(choice >> (8 * (at + 1))) as usize % LEADS.len()];
        }
        bytes.truncate((choice >> 56) as usize % 24 + 1);
        if check(&bytes).is_some() { instructions += 1 } else { others += 1 }
    }
    assert!(instructions > 100_000 && others > 50_000, "{instructions} {others}");
}

/// What is too long by its prefixes, and what ends too early, is none.
#[test]
fn limits_of_length() {
    for prefix in [0x66, 0x2e, 0xf2, 0x3e] {
        for count in 0..18 {
            for rest in [&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0][..], &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], &[0xe9, 1, 2, 3, 4], &[0x90], &[0x2b, 0x05, 0, 0, 0, 0]] {
                let bytes = [&vec![prefix; count][..], rest, &[0x90; 16]].concat();
                for len in 0..bytes.len() {
                    check(&bytes[..len]);
                }
            }
        }
    }
}

/// Real code, read at every offset: that of this test.
#[test]
fn real_code_at_every_offset() {
    let file = std::env::current_exe().and_then(std::fs::read).unwrap();
    let mut by_shape = 0u32;
    let code = &file[file.len() / 4..][..1 << 20];
    for at in 0..code.len() - 16 {
        check(&code[at..at + 16]);
        by_shape += u32::from(has_shape(code[at..].first_chunk().unwrap()));
    }
    assert!(by_shape > 400_000, "{by_shape}");
}
