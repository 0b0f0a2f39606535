//! Random call frame programs, random piece orders: equal rows at every byte.

use arbtest::arbitrary::{Result, Unstructured};
use postlink_base::{AddressMap, MapKind, MapRange, NewAddr, OldAddr};
use postlink_image::{EhFrame, Image};

use super::super::bytes::{put_sleb, put_uleb};
use super::super::{MovedFragment, MovedFunction, Piece, UnwindAddrs, UnwindPlan};
use super::compare::{check_lsdas, check_rows, gimli_rows};
use super::elf::{cie, elf_with, fde};

/// Cuts `start..end` into pieces, shuffles them into fragments that begin at `new_start`, adds jumps,
/// alignment and branches of other lengths. The map says where each old byte went.
pub(super) fn shuffle(
    u: &mut Unstructured<'_>,
    start: u64,
    end: u64,
    cut_at: Option<u64>,
    new_start: u64,
) -> Result<(MovedFunction, Vec<MapRange>)> {
    let mut cuts: Vec<u64> = (0..u.int_in_range(0..=12)?).map(|_| u.int_in_range(start..=end)).collect::<Result<_>>()?;
    cuts.extend([start, end]);
    cuts.extend(cut_at);
    cuts.sort_unstable();
    cuts.dedup();
    let mut spans: Vec<(u64, u64)> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    for index in (1..spans.len()).rev() {
        spans.swap(index, u.int_in_range(0..=index)?);
    }
    let mut function = MovedFunction { old_start: start, old_end: end, fragments: Vec::new() };
    let mut ranges = Vec::new();
    let mut at = new_start;
    let mut fragment = MovedFragment { new_start, new_end: new_start, pieces: Vec::new() };
    for (index, (old, old_end)) in spans.iter().copied().enumerate() {
        let old_len = (old_end - old) as u32;
        // A short span may stand for one branch that changes its length.
        let is_branch = old_len <= 6 && u.ratio(1, 3)?;
        let new_len = if is_branch { u.int_in_range(0..=9)? } else { old_len };
        let piece = Piece { old, old_len, new: at, new_len };
        fragment.pieces.push(piece);
        let kind = if piece.is_linear() { MapKind::Linear } else { MapKind::Point };
        ranges.push(MapRange { old: OldAddr::new(old), new: NewAddr::new(at), len: old_len, kind });
        at += u64::from(new_len);
        if u.ratio(1, 3)? {
            fragment.pieces.push(Piece { old: old_end - 1, old_len: 0, new: at, new_len: 5 });
            at += 5;
        }
        if u.ratio(1, 4)? {
            at += u.int_in_range(0..=20)?;
        }
        if u.ratio(1, 4)? || index + 1 == spans.len() {
            fragment.new_end = at;
            at += u.int_in_range(0..=300)?;
            let next = MovedFragment { new_start: at, new_end: at, pieces: Vec::new() };
            function.fragments.push(std::mem::replace(&mut fragment, next));
        }
    }
    Ok((function, ranges))
}

/// A random program whose advances stay inside `len` bytes.
fn program(u: &mut Unstructured<'_>, len: u64) -> Result<Vec<u8>> {
    const EXPRESSION: &[u8] = &[0x77, 0x08, 0x06]; // breg7 +8, deref
    let mut out = Vec::new();
    let mut left = len - 1;
    let mut remembered = 0;
    // gimli restores the size of the arguments together with the rest, libgcc does not: the programs
    // of compilers, and these, do not depend on that.
    let register = |u: &mut Unstructured<'_>| u.choose(&[0u64, 3, 6, 12, 15, 16, 17, 70]).copied();
    for _ in 0..u.int_in_range(0..=30)? {
        match u.int_in_range(0..=16)? {
            0..=4 => {
                let delta = u.int_in_range(0..=left.min(90))?;
                left -= delta;
                match delta {
                    0..=0x3f => out.push(0x40 | delta as u8),
                    _ if u.arbitrary()? => out.extend([2, delta as u8]),
                    _ => out.extend([3, delta as u8, 0]),
                }
            }
            5 => {
                out.extend([0x0c, 7]);
                put_uleb(&mut out, u.int_in_range(0..=300)?);
            }
            6 if !out.contains(&0x0f) => out.extend([0x0d, 6]),
            7 if !out.contains(&0x0f) => {
                out.push(0x0e);
                put_uleb(&mut out, u.int_in_range(0..=300)?);
            }
            8 => {
                out.push(0x12);
                put_uleb(&mut out, 7);
                put_sleb(&mut out, u.int_in_range(-20..=20)?);
            }
            9 => {
                out.extend([0x0f, 3]);
                out.extend(EXPRESSION);
            }
            10 => {
                out.push(0x05);
                put_uleb(&mut out, register(u)?);
                put_uleb(&mut out, u.int_in_range(0..=40)?);
            }
            11 => {
                out.push(*u.choose(&[0x11, 0x15])?);
                put_uleb(&mut out, register(u)?);
                put_sleb(&mut out, u.int_in_range(-40..=40)?);
            }
            12 => {
                out.push(*u.choose(&[0x06, 0x07, 0x08])?);
                put_uleb(&mut out, register(u)?);
            }
            13 => {
                out.push(0x09);
                put_uleb(&mut out, register(u)?);
                put_uleb(&mut out, 5);
            }
            14 => {
                out.push(*u.choose(&[0x10, 0x16])?);
                put_uleb(&mut out, register(u)?);
                out.push(3);
                out.extend(EXPRESSION);
            }
            15 if remembered < 2 => {
                out.push(0x0a);
                remembered += 1;
            }
            _ if remembered > 0 => {
                out.push(0x0b);
                remembered -= 1;
            }
            _ => {
                out.extend([0x80 | 3, 2]);
            }
        }
    }
    if u.ratio(1, 4)? && left > 0 {
        out.extend([0x2e, 32, 0x41, 0x2e, 0]);
    }
    Ok(out)
}

/// A random LSDA for a function of `len` bytes: cleanups, catches of two types, one specification.
fn lsda(u: &mut Unstructured<'_>, len: u64) -> Result<(Vec<u8>, Option<u64>)> {
    let mut table = Vec::new();
    let mut at = 0;
    let mut first_pad = None;
    while at + 2 < len && u.ratio(3, 4)? {
        at += u.int_in_range(0..=8.min(len - at - 2))?;
        let size = u.int_in_range(1..=(len - at).min(30))?;
        let pad = if u.ratio(2, 3)? { u.int_in_range(1..=len - 1)? } else { 0 };
        if pad != 0 {
            first_pad.get_or_insert(pad);
        }
        let action = if pad == 0 { 0 } else { *u.choose(&[0, 0, 1, 3, 5])? };
        for value in [at, size, pad, action] {
            put_uleb(&mut table, value);
        }
        at += size;
    }
    // Actions: 1: type 1, then 3: cleanup; 5: specification 0, then 7: type 2.
    let actions = [1, 1, 0, 0, 0x7f, 1, 2, 0];
    let types = [0x40, 1, 0, 0, 0x80, 1, 0, 0];
    let mut out = vec![0xff, 0x9b];
    let middle = 1 + 2 + table.len() + actions.len() + types.len();
    let mut offset = Vec::new();
    put_uleb(&mut offset, middle as u64);
    out.extend(offset);
    out.push(1);
    super::super::bytes::put_uleb_padded(&mut out, table.len() as u64, 2);
    out.extend(table);
    out.extend(actions);
    out.extend(types);
    out.extend([1, 2, 0]);
    Ok((out, first_pad))
}

#[test]
fn rows_and_call_sites_survive_any_order() {
    let mut pads = 0;
    arbtest::arbtest(|u| {
        const EH_FRAME: u64 = 0x9000;
        const EXCEPT: u64 = 0x8000;
        let len = u.int_in_range(2..=400u64)?;
        let (lsda, pad) = lsda(u, len)?;
        // One function after another: random, then one that moves whole, then one that stays.
        let mut eh_frame = cie(true, 8);
        for (pc, lsda) in [((0x1000, 0x1000 + len), Some(EXCEPT)), ((0x2000, 0x2040), None), ((0x3000, 0x3040), None)] {
            let at = EH_FRAME + eh_frame.len() as u64;
            eh_frame.extend(fde(at, EH_FRAME, pc, Some(lsda.unwrap_or(at + 17)), &program(u, pc.1 - pc.0)?, 8));
        }
        eh_frame.extend([0; 4]);
        let text = vec![0x90; 0x3000];
        let file = elf_with(&[(".text", 0x1000, &text), (".gcc_except_table", EXCEPT, &lsda), (".eh_frame", EH_FRAME, &eh_frame)]);
        let image = Image::parse(&file).unwrap();
        let eh = EhFrame::parse(&image).unwrap().unwrap();

        let (function, mut ranges) = shuffle(u, 0x1000, 0x1000 + len, pad.map(|pad| 0x1000 + pad), 0x20000)?;
        ranges.push(MapRange { old: OldAddr::new(0x2000), new: NewAddr::new(0x1800), len: 0x40, kind: MapKind::Linear });
        let map = AddressMap::from_ranges(ranges).unwrap();
        let moved = [function];
        let plan = UnwindPlan::build(&image, &eh, &moved, &map).unwrap();
        let addrs = UnwindAddrs { eh_frame: 0x50000, hdr: None, lsda: 0x60000 };
        let new = plan.write(addrs).unwrap();
        assert_eq!((new.eh_frame.len() as u64, new.lsda.len() as u64), (plan.eh_frame_size(), plan.lsda_size()));

        let old_rows = gimli_rows(&eh_frame, EH_FRAME);
        let new_rows = gimli_rows(&new.eh_frame, addrs.eh_frame);
        check_rows(&old_rows, &new_rows, &moved);
        let whole = |old: u64, new: u64| Piece { old, old_len: 0x40, new, new_len: 0x40 };
        let fragments = [whole(0x2000, 0x1800), whole(0x3000, 0x3000)];
        let fragments = fragments.map(|piece| MovedFragment { new_start: piece.new, new_end: piece.new + 0x40, pieces: vec![piece] });
        check_rows(&old_rows, &new_rows, &fragments.map(|fragment| MovedFunction { fragments: vec![fragment], ..Default::default() }));

        let new_text = vec![0x90; 0x30000];
        let new_file = elf_with(&[(".text", 0x1000, &new_text), (".gcc_except_table", addrs.lsda, &new.lsda), (".eh_frame", addrs.eh_frame, &new.eh_frame)]);
        let new_image = Image::parse(&new_file).unwrap();
        pads += check_lsdas(&image, &new_image, &moved, &|pad| map.to_new(OldAddr::new(pad)).raw());
        Ok(())
    })
    .budget_ms(2_000);
    assert!(pads > 1000, "the generator makes landing pads");
}
