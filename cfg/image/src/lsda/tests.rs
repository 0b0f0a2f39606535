//! LSDAs by hand, of this test program, and random bytes.

use super::*;
use crate::eh_frame::EhFrame;

fn elf_of(lsda: &[u8]) -> Vec<u8> {
    crate::eh_frame::tests::elf_with(&[(".gcc_except_table", 0x4000, 2, lsda)])
}

/// Two call sites, a chain "type 2, then specification at -1", one list `[1, 0]`.
const CATCHES: [u8; 31] = [
    0xff, 0x03, 23, 0x01, 8, // @LPStart omitted, udata4 types 23 bytes on, call sites uleb128
    0x02, 0x05, 0x20, 0x01, // call site 0x1002..0x1007 lands at 0x1020 with action 1
    0x09, 0x01, 0x00, 0x00, // call site 0x1009..0x100a lands nowhere
    0x02, 0x01, // action: type 2, next record right behind
    0x7f, 0x00, // action: specification at byte 0, end
    0x00, // filler
    0x22, 0x22, 0, 0, 0x11, 0x11, 0, 0, // type 2, type 1
    0x01, 0x00, // the specification
    0xaa, 0xaa, 0xaa,
];

#[test]
fn reads_call_sites_and_tables() {
    let file = elf_of(&CATCHES);
    let image = Image::parse(&file).unwrap();
    let lsda = Lsda::parse(&image, 0x4000, 0x1000).unwrap();
    let expected = [
        CallSite { start: 0x1002, len: 5, landing_pad: Some(0x1020), action: 1 },
        CallSite { start: 0x1009, len: 1, landing_pad: None, action: 0 },
    ];
    assert_eq!(lsda.call_sites, expected);
    assert_eq!((lsda.lp_start, lsda.ttype_base), (0x1000, Some(0x401a)));
    let chain = lsda.action_chain(&image, 1).unwrap();
    assert_eq!(chain, [Action { filter: 2, next: Some(0x400f) }, Action { filter: -1, next: None }]);
    let tables = lsda.tables(&image).unwrap();
    let expected = LsdaTables { actions: 0x400d..0x4011, type_count: 2, specifications: 0x401a..0x401c };
    assert_eq!(tables, expected);
    assert_eq!(lsda.type_entry(&image, 1), Ok(Some(0x1111)));
    assert_eq!(lsda.type_entry(&image, 2), Ok(Some(0x2222)));
    assert!(lsda.type_entry(&image, 0).is_err() && lsda.type_entry(&image, 9).is_err());
}

#[test]
fn a_loop_of_actions_ends() {
    let mut looping = CATCHES;
    looping[16] = 0x7d; // the second record's successor is the first one
    let file = elf_of(&looping);
    let image = Image::parse(&file).unwrap();
    let lsda = Lsda::parse(&image, 0x4000, 0x1000).unwrap();
    assert!(lsda.tables(&image).is_ok());
    assert!(matches!(lsda.action_chain(&image, 1), Err(UnwindError::Value { what: "next action", .. })));
}

#[test]
fn hostile_bytes_do_not_panic() {
    arbtest::arbtest(|u| {
        let mut data = CATCHES.to_vec();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(data.len())?;
            data[at] = u.arbitrary()?;
        }
        data.extend(u.arbitrary::<Vec<u8>>()?);
        let file = elf_of(&data);
        let image = Image::parse(&file).unwrap();
        if let Ok(lsda) = Lsda::parse(&image, 0x4000, u.arbitrary()?) {
            let _ = lsda.tables(&image);
            for site in &lsda.call_sites {
                let _ = lsda.action_chain(&image, site.action);
            }
            let _ = lsda.type_entry(&image, u.arbitrary()?);
        }
        Ok(())
    })
    .budget_ms(300);
}

#[test]
fn reads_all_lsdas_of_this_test_program() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let image = Image::parse(&file).unwrap();
    let eh_frame = EhFrame::parse(&image).unwrap().unwrap();
    let mut pads = 0;
    for fde in &eh_frame.fdes {
        let Some(addr) = fde.lsda else { continue };
        let lsda = Lsda::parse(&image, addr, fde.pc_begin).unwrap();
        lsda.tables(&image).unwrap();
        let mut last_end = fde.pc_begin;
        for site in &lsda.call_sites {
            assert!(last_end <= site.start && site.end() <= fde.pc_end);
            last_end = site.end();
            if let Some(pad) = site.landing_pad {
                assert!(fde.covers(pad));
                pads += 1;
            }
        }
    }
    assert!(pads > 100);
}
