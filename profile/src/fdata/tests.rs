//! The grammar, with symbols of a test instead of a file.

use arbtest::arbtest;

use super::*;
use crate::bind::Functions;
use crate::data::{Branch, Sample, merge};

/// `main` 0x1000..0x1100, `a b\c` 0x2000..0x2010, `gone@PLT`, `own@PLT` for `main`, two `twin`s.
struct Fake;

fn resolve(name: &[u8]) -> Resolved {
    match name {
        b"main" => Resolved::Address(0x1000),
        b"a b\\c" => Resolved::Address(0x2000),
        b"gone@PLT" => Resolved::Plt(0),
        b"own@PLT" => Resolved::Plt(0x1000),
        b"twin" => Resolved::Ambiguous,
        _ => Resolved::Unknown,
    }
}

fn parse(bytes: &[u8]) -> Result<Profile, ProfileError> {
    Ok(scan(bytes, &resolve)?.bind_to(&Fake))
}

impl Functions for Fake {
    fn bounds(&self, symbol: u64) -> (u64, u64) {
        match symbol {
            0x1000 => (0x1000, 0x1100),
            0x2000 => (0x2000, 0x2010),
            _ => (0, 0),
        }
    }
    fn correct(&self, from: u64, to: u64) -> Option<u64> {
        (from == 0x2008 && to == 0x1000).then_some(0x1020)
    }
}

fn read(text: &str) -> Profile {
    parse(text.as_bytes()).unwrap()
}

fn branch(from: u64, to: u64, count: u64, mispredicts: u64) -> Branch {
    Branch { from, to, count, mispredicts }
}

#[track_caller]
fn check_fault(text: &str, line: u64, fault: LineFault) {
    let error = parse(text.as_bytes()).unwrap_err();
    assert_eq!(error, ProfileError::Line { line, fault }, "{text:?}");
}

#[test]
fn branches() {
    let profile = read("1 main 10 1 main fF 3 7\n0 [unknown] 0 1 main 0 0 5\n1 main 10 0 libc.so.6 1234 0 2\n");
    let expected = [branch(0, 0x1000, 5, 0), branch(0x1010, 0, 2, 0), branch(0x1010, 0x10ff, 7, 3)];
    assert_eq!(profile.branches, expected);
    assert_eq!(profile.kind, ProfileKind::Branches);
    assert_eq!((profile.stats.lines, profile.stats.records), (3, 3));
}

#[test]
fn names_with_escapes() {
    let profile = read("1 main 1 2 a\\ b\\\\c f 0 9");
    assert_eq!(profile.branches, [branch(0x1001, 0x200f, 9, 0)]);
}

#[test]
fn a_name_that_begins_like_the_one_before() {
    let profile = read("1 main 1 1 main\\  1 0 9\n1 main 1 1 main2 1 0 9\n1 main 2 1 main 3 0 9\n1 a\\ b\\\\c 1 1 a\\ b\\\\c 2 0 9\n");
    assert_eq!(profile.branches, [branch(0x1002, 0x1003, 9, 0), branch(0x2001, 0x2002, 9, 0)]);
    assert_eq!(profile.stats.unknown_names, 2);
    check_fault("1 main 1 1 main 2 0 9\n1 main 1 1 main  0 9\n", 2, LineFault::Offset);
    check_fault("1 main 1 1 main 2 0 9\n1 main 1 1 main", 2, LineFault::MissingField);
}

#[test]
fn equal_records_add_up_and_saturate() {
    let profile = read("1 main 1 1 main 2 1 4\n1 main 2 1 main 3 0 18446744073709551615\n1 main 1 1 main 2 2 6\n");
    assert_eq!(profile.branches, [branch(0x1001, 0x1002, 10, 3), branch(0x1002, 0x1003, u64::MAX, 0)]);
    let twice = merge(vec![profile.clone(), profile]);
    assert_eq!(twice.branches[0].count, 20);
    assert_eq!(twice.branches[1].count, u64::MAX);
    assert_eq!(read("1 main 1 1 main 2 0 99999999999999999999\n").branches[0].count, u64::MAX);
}

#[test]
fn samples_and_headers_in_either_order() {
    for header in ["no_lbr cycles:u branches\nboltedcollection\n", "boltedcollection\r\nno_lbr branches cycles:u\r\n"] {
        let profile = read(&format!("{header}1 main 8 3\n1 main 8 4\n1 gone 0 1\n"));
        assert_eq!(profile.samples, [Sample { addr: 0x1008, count: 7 }]);
        assert_eq!(profile.kind, ProfileKind::Samples);
        assert_eq!(profile.events, ["branches", "cycles:u"]);
        assert!(profile.translated);
        assert_eq!((profile.stats.lines, profile.stats.unknown_names), (5, 1));
    }
}

#[test]
fn what_cannot_be_resolved_is_counted() {
    let text = "1 main 0 1 nobody 0 0 2\n1 twin 0 1 main 0 0 3\n1 main 100 1 main 0 0 4\n\
                1 main ffffffffffffffff 1 main 0 0 8\n0 a 0 0 b 0 0 16\n4 main 0 5 heap 20 7\n\n";
    let profile = read(text);
    let stats = profile.stats;
    assert!(profile.branches.is_empty());
    assert_eq!((stats.unknown_names, stats.ambiguous_names, stats.out_of_range), (1, 1, 2));
    assert_eq!((stats.unresolved_count, stats.external, stats.memory_records, stats.lines), (17, 1, 1, 7));
    assert_eq!(profile.require_records(), Err(ProfileError::Empty));
}

#[test]
fn calls_through_the_linkage_table_leave_the_file_but_are_known() {
    let profile = read("1 main 5 1 own@PLT 0 0 3\n1 main 9 1 gone@PLT 0 0 4\n");
    assert_eq!(profile.branches, [branch(0x1005, 0, 3, 0), branch(0x1009, 0, 4, 0)]);
    assert_eq!(profile.plt_calls, [branch(0x1005, 0x1000, 3, 0)]);
}

#[test]
fn jumps_that_name_the_start_instead_of_the_inside_are_put_right() {
    let profile = read("1 a\\ b\\\\c 8 1 main 0 0 3\n1 a\\ b\\\\c 9 1 main 0 0 3\n");
    assert_eq!(profile.branches, [branch(0x2008, 0x1020, 3, 0), branch(0x2009, 0x1000, 3, 0)]);
    assert_eq!(profile.stats.corrected, 1);
}

#[test]
fn faulty_lines() {
    check_fault("1 main 0 1 main 0 0 5\n1 main 0 1 main 0 5\n", 2, LineFault::MissingField);
    check_fault("1 main 0 1 main 0 0 5 6", 1, LineFault::TrailingText);
    check_fault("1 main 0 1 main 0 0 5 ", 1, LineFault::TrailingText);
    check_fault("6 main 0 1 main 0 0 5", 1, LineFault::LocationKind);
    check_fault("1 main 0 3 main 0 0 5", 1, LineFault::LocationKind);
    check_fault("B 10 20 5 0", 1, LineFault::LocationKind);
    check_fault("boltedcollection\n1  0 1 main 0 0 5", 2, LineFault::EmptyName);
    check_fault("1 main 0x5 1 main 0 0 5", 1, LineFault::Offset);
    check_fault("1 main 11111111111111111 1 main 0 0 5", 1, LineFault::Offset);
    check_fault("1 main 0 1 main 0 0 -5", 1, LineFault::Count);
    check_fault("1 main 0 1 main 0 0 ", 1, LineFault::MissingField);
    check_fault("no_lbr\n1 main 0 1 main 0 0 5", 2, LineFault::TrailingText);
    check_fault("4 main 0 1 main 0 5", 1, LineFault::LocationKind);
}

#[test]
fn line_numbers_count_across_parts() {
    let line = "1 main 1 1 main 2 0 1\n";
    let good = 3 * MIN_PART_BYTES / line.len();
    let mut text = line.repeat(good);
    text.push_str("1 main 1 1 main 2 0 x\n");
    text.push_str(&line.repeat(good));
    check_fault(&text, good as u64 + 1, LineFault::Count);
    let profile = read(&line.repeat(good));
    assert_eq!(profile.branches, [branch(0x1001, 0x1002, good as u64, 0)]);
    assert_eq!(profile.stats.lines, good as u64);
}

#[test]
fn other_formats_are_named() {
    for (text, format) in [
        (&b"PERFILE2h"[..], OtherFormat::PerfData),
        (b"\x7fELF\x02", OtherFormat::Elf),
        (b"---\nheader:\n", OtherFormat::BoltYaml),
        (b"\x1f\x8b\x08", OtherFormat::Compressed),
    ] {
        assert_eq!(parse(text).unwrap_err(), ProfileError::Format { format });
    }
}

#[test]
fn errors_have_codes() {
    use postlink_report::{Diagnose as _, Severity};
    let errors = [
        parse(b"x").unwrap_err(),
        parse(b"PERFILE2").unwrap_err(),
        read("").require_records().unwrap_err(),
    ];
    assert_eq!(errors.each_ref().map(|error| error.code().as_str()), ["PRF001", "PRF002", "PRF003"]);
    assert!(errors.iter().all(|error| error.severity() == Severity::Refused));
    assert_eq!(errors[0].to_string(), "line 1 of the profile: a location starts with none of 0 to 5");
}

#[test]
fn digest_is_that_of_the_content() {
    let (a, b, c) = ("1 main 1 1 main 2 0 4\n", "1 main 2 1 main 3 0 5\n", "0 x 0 1 main 0 0 6\n");
    let whole = read(&[a, b, c].concat());
    assert_eq!(whole.digest, read(&[c, b, a].concat()).digest);
    assert_eq!(whole.digest, merge(vec![read(&[b, c].concat()), read(a)]).digest);
    assert_ne!(whole.digest, read(&[a, b].concat()).digest);
    assert_ne!(whole.digest, read(&[a, a, b, c].concat()).digest);
}

#[test]
fn merging_prefers_branches_and_passes_over_empty_files() {
    let (branches, samples, nothing) = (read("1 main 1 1 main 2 0 4\n"), read("no_lbr e\n1 main 1 4\n"), read(""));
    assert_eq!(merge(vec![samples.clone(), branches]).kind, ProfileKind::Branches);
    let merged = merge(vec![nothing, samples]);
    assert_eq!((merged.kind, merged.is_empty()), (ProfileKind::Samples, false));
    assert!(merge(Vec::new()).is_empty());
}

#[test]
fn hostile_bytes() {
    arbtest(|u| {
        let bytes: Vec<u8> = u.arbitrary()?;
        let _ = parse(&bytes);
        Ok(())
    });
}

#[test]
fn hostile_lines() {
    const WORDS: [&str; 16] = [
        "0",
        "1",
        "2",
        "4",
        "main",
        "own@PLT",
        "twin",
        "a\\ b\\\\c",
        "\\",
        " ",
        "\n",
        "ff",
        "18446744073709551615",
        "no_lbr",
        "boltedcollection",
        "\r",
    ];
    arbtest(|u| {
        let mut text = String::new();
        while !u.is_empty() {
            text.push_str(u.choose(&WORDS)?);
            if u.ratio(3, 4)? {
                text.push(' ');
            }
        }
        if let Ok(profile) = parse(text.as_bytes()) {
            assert!(profile.branches.is_sorted_by(|a, b| (a.from, a.to) < (b.from, b.to)));
            assert!(profile.samples.is_sorted_by(|a, b| a.addr < b.addr));
        }
        Ok(())
    });
}
