//! CODES.md is what scripts and users rely on.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

const CODES: &str = include_str!("../CODES.md");

/// Code to the text of its section, in the order of the file.
fn sections() -> Vec<(&'static str, &'static str)> {
    CODES.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a heading and a text")).collect()
}

#[test]
fn every_code_says_what_it_means_why_and_what_to_do() {
    for (code, text) in sections() {
        assert!(text.contains("\nSeverity: "), "{code} has no severity");
        let parts: Vec<usize> = ["**Meaning.**", "**Cause.**", "**What to do.**"]
            .iter()
            .map(|part| text.find(part).unwrap_or_else(|| panic!("{code}: no {part}")))
            .collect();
        assert!(parts.is_sorted(), "{code}: {parts:?}");
    }
}

#[test]
fn codes_are_well_formed_and_unique() {
    let mut seen = BTreeMap::new();
    for (code, _) in sections() {
        // Panics if the shape is wrong.
        assert_eq!(postlink_report::Code::new(code).as_str(), code);
        assert_eq!(seen.insert(code, ()), None, "{code} twice");
    }
    for gate in [
        "POSTLINK_LAYOUT_POLICY",
        "POSTLINK_PROFILE_STALE",
        "POSTLINK_PROOF",
        "POSTLINK_RELOCATION",
        "POSTLINK_SECTION",
        "POSTLINK_SIZE_BUDGET",
        "POSTLINK_SYMBOL",
        "POSTLINK_TARGET_UNSUPPORTED",
    ] {
        assert!(seen.contains_key(gate), "{gate}");
    }
}

#[test]
fn numbered_codes_have_no_gaps() {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for (code, _) in sections().into_iter().filter(|(code, _)| code.len() == 6) {
        let (part, number) = code.split_at(3);
        let number: u32 = number.parse().expect("three digits");
        assert_eq!(last.insert(part, number).unwrap_or(0) + 1, number, "{code}");
    }
    assert_eq!(last.get("CFG"), Some(&29));
}
