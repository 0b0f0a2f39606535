//! Records by hand: order, places, header, refusals.

use postlink_base::{AddressMap, MapKind, MapRange, NewAddr, OldAddr};
use postlink_image::{EhFrame, EhFrameHdr, Image, Lsda};

use super::super::{EmitUnwindError, MovedFragment, MovedFunction, Piece, UnwindAddrs, UnwindBytes, UnwindFault, UnwindPlan};
use super::elf::{cie, elf_with, fde, record};

const EH_FRAME: u64 = 0x9000;
const ADDRS: UnwindAddrs = UnwindAddrs { eh_frame: 0x50000, hdr: Some(0x4f000), lsda: 0x60000 };

/// CFA grows at byte 4, shrinks at byte 12.
const PUSH_POP: [u8; 6] = [0x44, 0x0e, 16, 0x48, 0x0e, 8];

/// A CIE and FDEs for the given code, then a terminator.
fn eh_frame(functions: &[(u64, u64)]) -> Vec<u8> {
    let mut out = cie(false, 8);
    for &pc in functions {
        let at = EH_FRAME + out.len() as u64;
        out.extend(fde(at, EH_FRAME, pc, None, &PUSH_POP, 8));
    }
    out.extend([0; 4]);
    out
}

fn file(eh_frame: &[u8]) -> Vec<u8> {
    let header = [1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 0, 0, 0, 0];
    elf_with(&[(".text", 0x1000, &[0x90; 0x1000]), (".eh_frame_hdr", 0x8f00, &header), (".eh_frame", EH_FRAME, eh_frame)])
}

fn write(eh_frame: &[u8], moved: &[MovedFunction], ranges: &[MapRange]) -> Result<UnwindBytes, EmitUnwindError> {
    let file = file(eh_frame);
    let image = Image::parse(&file).unwrap();
    let eh = EhFrame::parse(&image).unwrap().unwrap();
    let map = AddressMap::from_ranges(ranges.to_vec()).unwrap();
    let plan = UnwindPlan::build(&image, &eh, moved, &map)?;
    let bytes = plan.write(ADDRS)?;
    let sizes = (bytes.eh_frame.len() as u64, bytes.hdr.len() as u64, bytes.lsda.len() as u64);
    assert_eq!(sizes, (plan.eh_frame_size(), plan.hdr_size(), plan.lsda_size()));
    Ok(bytes)
}

fn linear(old: u64, new: u64, len: u32) -> MapRange {
    MapRange { old: OldAddr::new(old), new: NewAddr::new(new), len, kind: MapKind::Linear }
}

fn piece(old: u64, new: u64, len: u32) -> Piece {
    Piece { old, old_len: len, new, new_len: len }
}

/// The new tables, read again.
fn read(bytes: &UnwindBytes) -> (EhFrame, Option<EhFrameHdr>) {
    let text = vec![0x90; 0x30000];
    let mut sections: Vec<super::elf::Content<'_>> = vec![(".text", 0x1000, &text), (".eh_frame", ADDRS.eh_frame, &bytes.eh_frame)];
    if !bytes.hdr.is_empty() {
        sections.push((".eh_frame_hdr", ADDRS.hdr.unwrap(), &bytes.hdr));
    }
    let file = elf_with(&sections);
    let image = Image::parse(&file).unwrap();
    (EhFrame::parse(&image).unwrap().unwrap(), EhFrameHdr::parse(&image).unwrap())
}

/// Function 0x1010..0x1020 in two fragments, hot part last.
fn split() -> (MovedFunction, [MapRange; 2]) {
    let fragment = |piece: Piece| MovedFragment {
        new_start: piece.new,
        new_end: piece.new + u64::from(piece.new_len),
        pieces: vec![piece],
    };
    let fragments = vec![fragment(piece(0x1010, 0x1500, 8)), fragment(piece(0x1018, 0x1100, 8))];
    let ranges = [linear(0x1010, 0x1500, 8), linear(0x1018, 0x1100, 8)];
    (MovedFunction { old_start: 0x1010, old_end: 0x1020, fragments }, ranges)
}

#[test]
fn fragments_stand_before_the_terminator_and_the_header_is_sorted() {
    let old = eh_frame(&[(0x1000, 0x1010), (0x1010, 0x1020), (0x9_0000, 0x9_0010), (0x1020, 0x1030)]);
    let (function, ranges) = split();
    let mut ranges = ranges.to_vec();
    ranges.push(linear(0x1020, 0x1000, 16));
    ranges.push(linear(0x1000, 0x1600, 16));
    let bytes = write(&old, &[function], &ranges).unwrap();
    let (eh, hdr) = read(&bytes);
    let places: Vec<_> = eh.fdes.iter().map(|fde| (fde.pc_begin, fde.pc_end)).collect();
    // The third function was discarded by the linker: its FDE is gone.
    assert_eq!(places, [(0x1600, 0x1610), (0x1500, 0x1508), (0x1000, 0x1010), (0x1100, 0x1108)]);
    assert!(eh.terminated && eh.terminators.len() == 1);
    let table: Vec<_> = hdr.unwrap().table.unwrap().iter().map(|entry| (entry.pc_begin, entry.fde)).collect();
    let at = |index: usize| eh.fdes[index].addr;
    assert_eq!(table, [(0x1000, at(2)), (0x1100, at(3)), (0x1500, at(1)), (0x1600, at(0))]);

    // The CIE and the old FDEs take 24 bytes; the first fragment needs fewer instructions, and 20.
    let expected = [
        (0x9000, ADDRS.eh_frame),
        (0x9018, at(0)),
        (0x9030, at(1)),
        (0x9048, at(2)),
        (0x9060, at(2)),
        (0x9078, eh.terminators[0]),
        (0x907c, ADDRS.eh_frame + 120),
    ];
    assert_eq!(bytes.record_map, expected);
    assert_eq!(at(2) - at(1), 20);
}

#[test]
fn the_second_fragment_starts_with_the_row_it_needs() {
    let (function, ranges) = split();
    let bytes = write(&eh_frame(&[(0x1010, 0x1020)]), &[function], &ranges).unwrap();
    let (eh, _) = read(&bytes);
    let program = |index: usize| {
        let range = eh.fdes[index].instructions();
        let at = |addr: u64| usize::try_from(addr - ADDRS.eh_frame).unwrap();
        &bytes.eh_frame[at(range.start)..at(range.end)]
    };
    assert_eq!(program(0), [0x44, 0x0e, 16]);
    assert_eq!(program(1), [0x0e, 16, 0x44, 0x0e, 8, 0, 0]);
}

#[test]
fn an_epilogue_in_the_middle_is_remembered_and_restored() {
    // Byte 8 resets the CFA and two registers, byte 9 brings them back: 6 bytes, or 2.
    let setup: &[u8] = &[0x0e, 0x80, 2, 0x83, 2, 0x86, 3];
    let mut program = setup.to_vec();
    program.extend([0x48, 0x0e, 8, 0xc3, 0xc6, 0x41]);
    program.extend(setup);
    let bytes = moved_program(&program);
    let mut expected = setup.to_vec();
    expected.extend([0x48, 0x0a, 0x0e, 8, 0xc3, 0xc6, 0x41, 0x0b]);
    assert!(contains(&bytes, &expected));
}

/// One function of 16 bytes at 0x1000 with these instructions, moved by 0x100 as one fragment.
fn moved_program(program: &[u8]) -> UnwindBytes {
    let mut old = cie(false, 8);
    let at = EH_FRAME + old.len() as u64;
    old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), None, program, 8));
    let fragment = MovedFragment { new_start: 0x1100, new_end: 0x1110, pieces: vec![piece(0x1000, 0x1100, 16)] };
    let function = MovedFunction { old_start: 0x1000, old_end: 0x1010, fragments: vec![fragment] };
    write(&old, &[function], &[linear(0x1000, 0x1100, 16)]).unwrap()
}

fn contains(bytes: &UnwindBytes, expected: &[u8]) -> bool {
    bytes.eh_frame.windows(expected.len()).any(|window| window == expected)
}

#[test]
fn the_size_of_arguments_is_never_left_to_restore_state() {
    // libgcc keeps it across DW_CFA_restore_state, other unwinders do not: spelled out, both agree.
    let setup = [0x0e, 0x80, 2, 0x83, 2, 0x86, 3];
    let mut program = setup.to_vec();
    program.extend([0x44, 0x0e, 8, 0xc3, 0xc6, 0x2e, 32, 0x44]);
    program.extend(setup);
    program.extend([0x2e, 0]);
    let bytes = moved_program(&program);
    assert!(contains(&bytes, &[0x44, 0x0e, 0x80, 2, 0x2e, 0, 0x83, 2, 0x86, 3]));
}

#[test]
fn a_rule_of_the_cie_is_spelled_out_when_it_comes_back() {
    // Register 16 becomes undefined, then as the CIE has it: libgcc does not restore the CIE's rules.
    let bytes = moved_program(&[0x07, 16, 0x44, 0x06, 16]);
    assert!(contains(&bytes, &[0x07, 16, 0x44, 0x90, 1]));
}

#[test]
fn an_fde_of_nothing_is_dropped() {
    let bytes = write(&eh_frame(&[(0x1000, 0x1010), (0x1200, 0x1200)]), &[], &[]).unwrap();
    let (eh, hdr) = read(&bytes);
    assert_eq!((eh.fdes.len(), hdr.unwrap().table.unwrap().len()), (1, 1));
}

#[test]
fn an_lsda_that_names_addresses_is_written_anew_for_code_that_moved_whole() {
    const EXCEPT: u64 = 0x8000;
    let (stay, go) = ((0x1000, 0x1010), (0x1010, 0x1020));
    // @LPStart (absolute, 4 bytes) is 0x1000; bytes 0..4 land 12 bytes behind it, in the function that
    // stays, or 24 bytes, in the one that moves.
    for (pad, expected) in [(12, 0x100c), (24, 0x1508)] {
        let lsda = [0x03, 0x00, 0x10, 0, 0, 0xff, 0x01, 4, 0, 4, pad, 0];
        let mut old = cie(true, 8);
        for pc in [stay, go] {
            let at = EH_FRAME + old.len() as u64;
            old.extend(fde(at, EH_FRAME, pc, Some(EXCEPT), &[], 8));
        }
        let text = [0x90; 64];
        let sections = [(".text", 0x1000, &text[..]), (".gcc_except_table", EXCEPT, &lsda), (".eh_frame", EH_FRAME, &old)];
        let file = elf_with(&sections);
        let image = Image::parse(&file).unwrap();
        let eh = EhFrame::parse(&image).unwrap().unwrap();
        let map = AddressMap::from_ranges(vec![linear(0x1010, 0x1500, 16)]).unwrap();
        let bytes = UnwindPlan::build(&image, &eh, &[], &map).unwrap().write(ADDRS).unwrap();
        let (new, _) = read(&bytes);
        let pads: Vec<_> = new
            .fdes
            .iter()
            .map(|fde| {
                let addr = fde.lsda.unwrap();
                let lsda = match addr.checked_sub(ADDRS.lsda) {
                    Some(at) => Lsda::parse_bytes(&bytes.lsda[at as usize..], addr, fde.pc_begin),
                    None => Lsda::parse(&image, addr, fde.pc_begin),
                };
                (addr >= ADDRS.lsda, lsda.unwrap().call_sites[0].landing_pad.unwrap())
            })
            .collect();
        // What did not move keeps its LSDA as long as it is right.
        assert_eq!(pads, [(expected != 0x100c, expected), (true, expected)]);
    }
}

#[test]
fn tables_that_the_dynamic_linker_writes_are_refused() {
    const EXCEPT: u64 = 0x8000;
    let lsda = [0xff, 0x00, 16, 0x01, 4, 0, 4, 12, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut old = cie(true, 8);
    let at = EH_FRAME + old.len() as u64;
    old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), Some(EXCEPT), &[], 8));
    let text = [0x90; 64];
    for (place, refused) in [(EXCEPT + 11, true), (EXCEPT + 19, false), (at + 8, true), (0x7000, false)] {
        let mut rela = place.to_le_bytes().to_vec();
        rela.extend([8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let sections = [
            (".text", 0x1000, &text[..]),
            (".rela.dyn", 0x6000, &rela),
            (".gcc_except_table", EXCEPT, &lsda),
            (".eh_frame", EH_FRAME, &old),
        ];
        let file = elf_with(&sections);
        let image = Image::parse(&file).unwrap();
        let eh = EhFrame::parse(&image).unwrap().unwrap();
        let fragment = MovedFragment { new_start: 0x1100, new_end: 0x1110, pieces: vec![piece(0x1000, 0x1100, 16)] };
        let function = MovedFunction { old_start: 0x1000, old_end: 0x1010, fragments: vec![fragment] };
        let map = AddressMap::from_ranges(vec![linear(0x1000, 0x1100, 16)]).unwrap();
        let fault = UnwindPlan::build(&image, &eh, &[function], &map).err().map(|error| error.fault);
        assert_eq!(fault, refused.then_some(UnwindFault::DynamicRelocation { at: place }), "{place:#x}");
    }
}

#[test]
fn a_dropped_function_loses_its_fde() {
    let function = MovedFunction { old_start: 0x1010, old_end: 0x1020, fragments: Vec::new() };
    let bytes = write(&eh_frame(&[(0x1000, 0x1010), (0x1010, 0x1020)]), &[function], &[]).unwrap();
    let (eh, _) = read(&bytes);
    assert_eq!(eh.fdes.iter().map(|fde| fde.pc_begin).collect::<Vec<_>>(), [0x1000]);
}

#[test]
fn an_fde_that_begins_a_byte_early_follows_its_code() {
    // As glibc's __restore_rt: the byte before did not move along.
    let bytes = write(&eh_frame(&[(0x100f, 0x1020)]), &[], &[linear(0x1010, 0x1500, 16)]).unwrap();
    let (eh, _) = read(&bytes);
    assert_eq!((eh.fdes[0].pc_begin, eh.fdes[0].pc_end), (0x1500, 0x1510));
    let rows = super::compare::gimli_rows(&bytes.eh_frame, ADDRS.eh_frame);
    // Byte 4 of the FDE was byte 3 of the code.
    let starts: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(starts, [0x1500, 0x1503, 0x150b]);
}

#[test]
fn addresses_in_programs_are_mapped() {
    // DW_CFA_set_loc, pc-relative: the row changes at 0x1008.
    let mut old = cie(false, 8);
    let at = EH_FRAME + old.len() as u64;
    let field = at + 17 + 1;
    let mut program = vec![0x01];
    program.extend((0x1008u64.wrapping_sub(field) as u32).to_le_bytes());
    program.extend([0x0e, 16]);
    old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), None, &program, 8));
    for distance in [0, 0x500] {
        let bytes = write(&old, &[], &[linear(0x1000, 0x1000 + distance, 16)]).unwrap();
        let rows = super::compare::gimli_rows(&bytes.eh_frame, ADDRS.eh_frame);
        assert_eq!(rows.iter().map(|row| row.0 - distance).collect::<Vec<_>>(), [0x1000, 0x1008]);
    }
}

#[test]
fn refuses_what_cannot_follow() {
    let fault = |old: &[u8], moved: &[MovedFunction], ranges: &[MapRange]| write(old, moved, ranges).unwrap_err();
    let whole = |start: u64, end: u64| {
        let fragment = MovedFragment { new_start: 0x1700, new_end: 0x1700, pieces: Vec::new() };
        MovedFunction { old_start: start, old_end: end, fragments: vec![fragment] }
    };
    let two = eh_frame(&[(0x1010, 0x1018), (0x1018, 0x1020)]);
    let error = fault(&two, &[whole(0x1010, 0x1020)], &[]);
    assert_eq!((error.function, error.fault), (0x1010, UnwindFault::SeveralFdes { count: 2 }));
    let wide = eh_frame(&[(0x1000, 0x1020)]);
    assert!(matches!(fault(&wide, &[whole(0x1010, 0x1020)], &[]).fault, UnwindFault::FdeOutside { .. }));
    let apart = fault(&wide, &[], &[linear(0x1000, 0x1100, 16), linear(0x1010, 0x1300, 16)]);
    assert!(matches!(apart.fault, UnwindFault::MovedApart { at: 0x1010, .. }));
    // Only half of it moved, and the other half is no padding (0x90 is, for the first 64 bytes).
    let large = eh_frame(&[(0x1000, 0x1100)]);
    assert!(matches!(fault(&large, &[], &[linear(0x1000, 0x1500, 16)]).fault, UnwindFault::MovedApart { .. }));
    assert!(matches!(fault(&large, &[], &[linear(0x1080, 0x1500, 0x80)]).fault, UnwindFault::MovedApart { .. }));

    let (mut function, ranges) = split();
    function.fragments[0].pieces.push(piece(0x1012, 0x1504, 2));
    assert!(matches!(fault(&eh_frame(&[(0x1010, 0x1020)]), &[function], &ranges).fault, UnwindFault::Piece { old: 0x1012 }));
    let (mut function, ranges) = split();
    function.old_start = 0x1008;
    function.fragments[0].pieces.insert(0, piece(0x1008, 0x14f8, 8));
    function.fragments[0].new_start = 0x14f8;
    let error = fault(&eh_frame(&[(0x1010, 0x1020)]), &[function], &ranges);
    assert_eq!(error.fault, UnwindFault::Undescribed { old: 0x1008 });
}

#[test]
fn all_faults_are_named_at_once() {
    let old = eh_frame(&[(0x1000, 0x1008), (0x1008, 0x1010), (0x1010, 0x1020), (0x1020, 0x1030), (0x1030, 0x1040)]);
    let file = file(&old);
    let image = Image::parse(&file).unwrap();
    let eh = EhFrame::parse(&image).unwrap().unwrap();
    let function = |start: u64, end: u64, piece: Piece| {
        let fragment = MovedFragment { new_start: start, new_end: end, pieces: vec![piece] };
        MovedFunction { old_start: start, old_end: end, fragments: vec![fragment] }
    };
    let moved = [
        function(0x1000, 0x1010, piece(0x1000, 0x1000, 16)), // two FDEs
        function(0x1010, 0x1020, piece(0x1010, 0x100f, 16)), // outside of its fragment
        function(0x1020, 0x1030, piece(0x1020, 0x1020, 16)), // right
    ];
    let map = AddressMap::from_ranges(vec![linear(0x1004, 0x1404, 12), linear(0x1030, 0x1500, 4), linear(0x1034, 0x1600, 12)]).unwrap();
    let faults = UnwindPlan::faults(&image, &eh, &moved, &map);
    assert_eq!(faults.iter().map(|fault| fault.function).collect::<Vec<_>>(), [0x1000, 0x1010, 0x1030]);
}

#[test]
fn an_expression_with_the_instruction_pointer_pins_its_code() {
    let mut old = cie(false, 8);
    let at = EH_FRAME + old.len() as u64;
    // The PLT's: def_cfa_expression (breg7 8, breg16 0, lit15, and, lit11, ge, lit3, shl, plus)
    let plt = [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), None, &plt, 8));
    assert!(write(&old, &[], &[]).is_ok());
    let error = write(&old, &[], &[linear(0x1000, 0x1100, 16)]).unwrap_err();
    assert_eq!(error.fault, UnwindFault::PositionDependent { operation: 0x80 });
}

#[test]
fn a_personality_that_moved_is_followed_and_a_variable_is_not() {
    for (encoding, expected) in [(0x1b, 0x1500), (0x9b, 0x1010)] {
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(b"zPR\0\x01\x78\x10\x06");
        body.push(encoding);
        body.extend((0x1010u64.wrapping_sub(EH_FRAME + 18) as u32).to_le_bytes());
        body.extend([0x1b, 0x0c, 7, 8]);
        let old = record(body, 4);
        let (_, ranges) = split();
        let (eh, _) = read(&write(&old, &[], &ranges).unwrap());
        assert_eq!(eh.cies[0].personality.unwrap().target, expected);
    }
}

#[test]
fn gaps_between_call_sites_stay_and_added_jumps_do_not_make_any() {
    const EXCEPT: u64 = 0x8000;
    // 0..4 lands at 12, 4..8 nothing said, 8..12 lands at 12.
    let lsda = [0xff, 0xff, 0x01, 8, 0, 4, 12, 0, 8, 4, 12, 0];
    let mut old = cie(true, 8);
    let at = EH_FRAME + old.len() as u64;
    old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), Some(EXCEPT), &[], 8));
    let file = elf_with(&[(".text", 0x1000, &[0x90; 64]), (".gcc_except_table", EXCEPT, &lsda), (".eh_frame", EH_FRAME, &old)]);
    let image = Image::parse(&file).unwrap();
    let eh = EhFrame::parse(&image).unwrap().unwrap();
    let check = |pieces: Vec<Piece>, expected: &[(u64, u64, u64)]| {
        let end = pieces.last().map(|piece| piece.new + u64::from(piece.new_len)).unwrap();
        let ranges = pieces.iter().filter(|piece| piece.old_len > 0).map(|piece| linear(piece.old, piece.new, piece.old_len));
        let map = AddressMap::from_ranges(ranges.collect()).unwrap();
        let fragment = MovedFragment { new_start: 0x2000, new_end: end, pieces };
        let function = MovedFunction { old_start: 0x1000, old_end: 0x1010, fragments: vec![fragment] };
        let plan = UnwindPlan::build(&image, &eh, &[function], &map).unwrap();
        let bytes = plan.write(ADDRS).unwrap();
        let lsda = Lsda::parse_bytes(&bytes.lsda, ADDRS.lsda, 0x2000).unwrap();
        let sites: Vec<_> = lsda.call_sites.iter().map(|site| (site.start, site.end(), site.landing_pad.unwrap())).collect();
        assert_eq!(sites, expected);
    };
    let jump = |new: u64| Piece { old: 0x1003, old_len: 0, new, new_len: 5 };
    check(vec![piece(0x1000, 0x2000, 16)], &[(0x2000, 0x2004, 0x200c), (0x2008, 0x200c, 0x200c)]);
    // The outer two beside each other, with a jump and alignment between them: joined.
    let pieces = vec![piece(0x1000, 0x2000, 4), jump(0x2004), piece(0x1008, 0x2010, 4), piece(0x1004, 0x2014, 4), piece(0x100c, 0x2018, 4)];
    check(pieces, &[(0x2000, 0x2014, 0x2018)]);
    // The landing pad first: it needs @LPStart, and the unprotected part still separates.
    let pieces = vec![piece(0x100c, 0x2000, 4), piece(0x1008, 0x2004, 4), piece(0x1004, 0x2008, 4), piece(0x1000, 0x200c, 4)];
    check(pieces, &[(0x2004, 0x2008, 0x2000), (0x200c, 0x2010, 0x2000)]);
}

#[test]
fn hostile_programs_do_not_panic() {
    arbtest::arbtest(|u| {
        let mut old = cie(true, 8);
        let at = EH_FRAME + old.len() as u64;
        old.extend(fde(at, EH_FRAME, (0x1000, 0x1010), Some(0x8000), u.arbitrary::<&[u8]>()?, 8));
        for _ in 0..u.int_in_range(0..=3)? {
            let at = u.choose_index(old.len())?;
            old[at] = u.arbitrary()?;
        }
        let mut lsda = vec![0xff, 0x9b, 0x20, 0x01];
        lsda.extend(u.arbitrary::<&[u8]>()?);
        let text = [0x90; 64];
        let file = elf_with(&[(".text", 0x1000, &text), (".gcc_except_table", 0x8000, &lsda), (".eh_frame", EH_FRAME, &old)]);
        let image = Image::parse(&file).unwrap();
        let Ok(Some(eh)) = EhFrame::parse(&image) else { return Ok(()) };
        let (function, ranges) = super::random::shuffle(u, 0x1000, 0x1010, None, 0x20000)?;
        let map = AddressMap::from_ranges(ranges).unwrap();
        if let Ok(plan) = UnwindPlan::build(&image, &eh, &[function], &map) {
            let _ = plan.write(ADDRS);
        }
        Ok(())
    })
    .budget_ms(500);
}
