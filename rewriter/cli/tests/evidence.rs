//! Evidence that travels: what `--report` writes, what the note in the output says about it, and `bundle`.
#![allow(clippy::expect_used, reason = "a test that cannot build its program has failed")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;
#[path = "cli/schema.rs"]
mod schema;

use std::process::Command;

use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use program::{Folder, postlink};
use serde_json::Value;

const OPTIMIZE: [&str; 7] = ["optimize", "program", "-o", "out", "--block-order=reverse", "--function-order=reverse", "--split=all"];

/// The program of the other tests, with a build id.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.link("program", &["-Wl,-q", "-Wl,-Ttext=0x401000", "-Wl,--build-id=sha1"]);
    folder
}

fn optimize(folder: &Folder, more: &[&str]) {
    let ran = postlink(folder, &[&OPTIMIZE, more].concat());
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
}

fn json(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&folder.read(name)).expect("JSON")
}

fn blake3(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// By coreutils, which shares nothing with postlink.
fn sha256(folder: &Folder, name: &str) -> String {
    let done = Command::new("sha256sum").arg(folder.path(name)).output().expect("coreutils are installed");
    String::from_utf8(done.stdout).expect("text").split(' ').next().expect("a digest").to_owned()
}

/// The JSON in the note of a file.
fn note(folder: &Folder, name: &str) -> Value {
    let bytes = folder.read(name);
    let file = object::File::parse(&*bytes).expect("ELF");
    let section = file.section_by_name(".note.postlink").expect("the note").data().expect("its bytes");
    let start = section.iter().position(|&byte| byte == b'{').expect("an object");
    let end = section.iter().rposition(|&byte| byte == b'}').expect("an object");
    serde_json::from_slice(&section[start..=end]).expect("JSON")
}

fn schema_errors(pointer: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/schema/evidence-v1.json")).expect("JSON");
    schema::errors(&schema, pointer, value)
}

/// Rows of a table of a report.
fn rows(folder: &Folder, name: &str) -> Vec<Value> {
    let text = String::from_utf8(folder.read(name)).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Copies `out` to `changed` with `mov $20, %eax` made `mov $21, %eax`.
fn change(folder: &Folder) {
    let mut bytes = folder.read("out");
    let at = bytes.windows(5).position(|window| window == [0xb8, 20, 0, 0, 0]).expect("the instruction");
    bytes[at + 1] = 21;
    std::fs::write(folder.path("changed"), &bytes).expect("write the changed file");
}

#[test]
fn both_commands_write_the_evidence_that_the_note_names() {
    for (name, folder) in [("build-id", folder("evidence-same")), ("none", Folder::with_program("evidence-same-no-id"))] {
        optimize(&folder, &["--report", "made"]);
        let ran = postlink(&folder, &["verify", "program", "out", "--report", "checked"]);
        assert_eq!(ran.status(), 0, "{name}: {}", ran.stdout());
        assert!(ran.stdout().contains("\nevidence: matches the note"), "{name}: {}", ran.stdout());
        for file in ["evidence.json", "functions.tsv", "functions.jsonl", "verify-obligations.tsv", "verify-counts.jsonl"] {
            assert_eq!(folder.read(&format!("made/{file}")), folder.read(&format!("checked/{file}")), "{name}: {file}");
        }
        assert_eq!(note(&folder, "out")["evidence_blake3"], blake3(&folder.read("made/evidence.json")), "{name}");
        let evidence = json(&folder, "made/evidence.json");
        assert_eq!(evidence["proven"], true);
        assert_eq!(evidence["input"]["blake3"], blake3(&folder.read("program")));
        assert_eq!(evidence["input"]["build_id"].is_string(), name == "build-id");
        assert_eq!(evidence["output"]["size"], folder.read("out").len() as u64);
        assert_eq!(evidence["recorded"]["options"], serde_json::json!([
            "mode=full", "block-order=reverse", "function-order=reverse", "split=all", "seed=1", "icf=safe"
        ]));
        let summary = rows(&folder, "made/optimize-summary.jsonl");
        assert!(summary.iter().any(|row| row["what"] == "functions" && row["count"] == 3), "{summary:?}");
    }
}

#[test]
fn the_output_is_the_same_with_and_without_report() {
    let folder = folder("evidence-output");
    optimize(&folder, &[]);
    let plain = folder.read("out");
    assert_eq!(folder.names(), ["out", "program", "program.s"]);
    optimize(&folder, &["--report", "made", "--threads", "3"]);
    assert_eq!(folder.read("out"), plain);
    // The build id is the digest of the content that the evidence names.
    optimize(&folder, &["--report", "made"]);
    let content = json(&folder, "made/evidence.json")["output"]["content_blake3"].as_str().expect("a digest").to_owned();
    let file = object::File::parse(&*plain).expect("ELF");
    let id: String = file.build_id().expect("notes").expect("a build id").iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(id.len() == 40 && content.starts_with(&id), "{id} {content}");
}

#[test]
fn documents_follow_the_schema() {
    let folder = folder("evidence-schema");
    optimize(&folder, &["--report", "made", "--map-file", "map"]);
    assert_eq!(postlink(&folder, &["verify", "program", "out", "--map", "map", "--report", "checked"]).status(), 0);
    assert_eq!(postlink(&folder, &["verify", "program", "program", "--report", "itself"]).status(), 0);
    for report in ["made", "checked", "itself"] {
        let evidence = json(&folder, &format!("{report}/evidence.json"));
        let statement = json(&folder, &format!("{report}/statement.intoto.json"));
        assert_eq!(schema_errors("", &evidence), [""; 0], "{report}");
        assert_eq!(schema_errors("/$defs/statement", &statement), [""; 0], "{report}");
        assert_eq!(statement["predicate"]["evidence"], evidence, "{report}");
    }
    assert!(json(&folder, "itself/evidence.json")["recorded"].is_null());
    // The schema says no to what is wrong.
    let good = json(&folder, "made/evidence.json");
    for (place, wrong) in [
        ("/proven", Value::from("yes")),
        ("/input/blake3", Value::from("00")),
        ("/checked/symbols", Value::from(-1)),
        ("/obligations/0/id", Value::from("P8")),
        ("/obligations", Value::Array(Vec::new())),
        ("/schema", Value::from("urn:postlink:evidence:v2")),
        ("/recorded/profile_blake3", Value::from(7)),
        ("/recorded", serde_json::json!({})),
        ("/map", serde_json::json!({"ranges": 1, "blake3": "0".repeat(64), "more": 1})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).expect("a place in the evidence") = wrong;
        assert_eq!(schema_errors("", &bad).len(), 1, "{place}: {:?}", schema_errors("", &bad));
    }
}

#[test]
fn the_statement_names_files_by_their_digests() {
    let folder = folder("evidence-statement");
    std::fs::write(folder.path("p.fdata"), "1 _start 5 1 classify 0 0 3\n").expect("write a profile");
    std::fs::write(folder.path("order.txt"), "classify\n").expect("write an order");
    let line = ["optimize", "program", "-o", "out", "--profile", "p.fdata", "--function-order", "order.txt", "--report", "made"];
    let ran = postlink(&folder, &line);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    let statement = json(&folder, "made/statement.intoto.json");
    assert_eq!(schema_errors("/$defs/statement", &statement), [""; 0]);
    let check = |resource: &Value, name: &str| {
        assert_eq!(resource["name"], name);
        assert_eq!(resource["digest"]["sha256"], sha256(&folder, name), "{name}");
        assert_eq!(resource["digest"]["blake3"], blake3(&folder.read(name)), "{name}");
    };
    check(&statement["subject"][0], "out");
    let dependencies = statement["predicate"]["resolvedDependencies"].as_array().expect("a list");
    for (dependency, (name, role)) in
        dependencies.iter().zip([("program", "old"), ("p.fdata", "profile"), ("order.txt", "function-order")])
    {
        check(dependency, name);
        assert_eq!(dependency["annotations"]["role"], role);
    }
    assert_eq!(dependencies.len(), 3);
    // Every file of the folder but the statement itself.
    let mut named = vec!["statement.intoto.json".to_owned()];
    for file in statement["predicate"]["files"].as_array().expect("a list") {
        let name = file["name"].as_str().expect("a name").to_owned();
        assert_eq!(file["digest"]["blake3"], blake3(&folder.read(&format!("made/{name}"))), "{name}");
        named.push(name);
    }
    named.sort();
    let entries = std::fs::read_dir(folder.path("made")).expect("the report");
    let mut found: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found, named);
}

/// Bytes of a file at an address.
fn bytes_at(file: &object::File<'_>, addr: u64, size: u64) -> Vec<u8> {
    let found = file.segments().find_map(|segment| segment.data_range(addr, size).expect("a segment"));
    found.expect("bytes of a segment").to_vec()
}

#[test]
fn functions_are_told_with_digests_and_references() {
    let folder = folder("evidence-functions");
    optimize(&folder, &["--report", "made"]);
    let (old, new) = (folder.read("program"), folder.read("out"));
    let (old, new) = (object::File::parse(&*old).expect("ELF"), object::File::parse(&*new).expect("ELF"));
    let functions = rows(&folder, "made/functions.jsonl");
    let names: Vec<&str> = functions.iter().filter_map(|row| row["function"].as_str()).collect();
    assert_eq!(names, ["_start", "classify", "where_am_i"]);
    let mut claimed = Vec::new();
    for row in &functions {
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address");
        let text = |column: &str| row[column].as_str().expect("text");
        let old_bytes = bytes_at(&old, number(text("old_addr")), row["old_size"].as_u64().expect("a size"));
        assert_eq!(row["old_blake3"], blake3(&old_bytes), "{row}");
        let mut new_bytes = Vec::new();
        for range in text("new_ranges").split(' ') {
            let (addr, size) = range.split_once('+').expect("address and size");
            let (addr, size) = (number(addr), size.parse().expect("a size"));
            claimed.push((addr, addr + size));
            new_bytes.extend(bytes_at(&new, addr, size));
        }
        assert_eq!(row["new_blake3"], blake3(&new_bytes), "{row}");
        assert_eq!((&row["moved"], &row["violated"]), (&Value::from(true), &Value::from("")), "{row}");
        assert_eq!((&row["frames"], &row["symbols"]), (&Value::from(1), &Value::from(1)), "{row}");
    }
    claimed.sort_unstable();
    assert!(claimed.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{claimed:x?}");
    assert!(claimed.len() > functions.len(), "--split=all splits: {claimed:x?}");
    let classify = &functions[1];
    // Its table of three addresses; the field of the jump through it.
    assert_eq!((&classify["data_words"], &classify["relocated_places"]), (&Value::from(3), &Value::from(1)), "{classify}");
    assert_eq!(classify["obligations"], "P1 P2 P4 P5 P7");
    assert_eq!((&functions[0]["entry_points"], &classify["entry_points"]), (&Value::from(1), &Value::from(0)));
    assert_eq!((&functions[0]["data_words"], &functions[2]["data_words"]), (&Value::from(0), &Value::from(0)));
}

/// A table of functions, a constructor, and a `switch` with a table.
const PROGRAM_C: &str = r#"
int volatile sink;
__attribute__((noinline)) int first(int x) { return x + sink; }
__attribute__((noinline)) int second(int x) { return x * 3 - sink; }
int (*const volatile table[])(int) = { first, second, first };
__attribute__((constructor)) void before(void) { sink = 1; }
__attribute__((noinline)) int choose(int x) {
    switch (x) {
    case 0: return first(7);
    case 1: return second(x) + 1;
    case 2: sink = 9; return 4;
    case 3: return first(x) * second(x);
    case 4: sink = 2; return second(11);
    case 5: return table[x - 3](x);
    default: return 0;
    }
}
int main(int argc, char **argv) { (void)argv; return choose(argc) & 1; }
"#;

#[test]
fn references_are_counted_by_their_evidence() {
    let folder = Folder::new("evidence-references");
    std::fs::write(folder.path("program.c"), PROGRAM_C).expect("write the source");
    let count = |flags: &[&str], function: &str, column: &str| {
        let flags = [&["-O2", "-Wl,-q", "-o", "program", "program.c"], flags].concat();
        folder.tool("gcc", &flags);
        optimize(&folder, &["--report", "made"]);
        let functions = rows(&folder, "made/functions.jsonl");
        let row = functions.iter().find(|row| row["function"] == function).expect("the function");
        row[column].as_u64().expect("a count")
    };
    let (fixed, pie, relr) = (&["-no-pie", "-static"][..], &["-pie", "-fPIE"][..], &["-pie", "-fPIE", "-Wl,-z,pack-relative-relocs"][..]);
    for (flags, function, column, expected) in [
        (fixed, "first", "data_words", 2),
        (fixed, "second", "data_words", 1),
        (fixed, "first", "dynamic_relocations", 0),
        (fixed, "before", "init_words", 1),
        (fixed, "_start", "entry_points", 1),
        (pie, "first", "dynamic_relocations", 2),
        (pie, "first", "relr_words", 0),
        (pie, "choose", "table_entries", 6),
        (pie, "before", "dynamic_relocations", 1),
        (relr, "first", "relr_words", 2),
        (relr, "first", "dynamic_relocations", 0),
    ] {
        assert_eq!(count(flags, function, column), expected, "{flags:?}: {column} of {function}");
    }
}

#[test]
fn a_changed_file_is_not_proven_and_differs() {
    let folder = folder("evidence-changed");
    optimize(&folder, &[]);
    change(&folder);
    let ran = postlink(&folder, &["verify", "program", "changed", "--report", "rows"]);
    assert_eq!(ran.status(), 1);
    assert!(ran.stdout().contains("\nevidence: differs from what the note records"), "{}", ran.stdout());
    let evidence = json(&folder, "rows/evidence.json");
    assert_eq!(evidence["proven"], false);
    assert_eq!(evidence["obligations"][0]["violated"], 1);
    assert_eq!(schema_errors("", &evidence), [""; 0]);
    let functions = rows(&folder, "rows/functions.jsonl");
    let violated: Vec<(&str, &str)> = functions
        .iter()
        .map(|row| (row["function"].as_str().unwrap_or_default(), row["violated"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(violated, [("_start", ""), ("classify", "P1"), ("where_am_i", "")]);
    // Bytes that no obligation is about: proven, but not the file that was written.
    let mut bytes = folder.read("out");
    let at = bytes.windows(8).rposition(|window| window == b"\"seed=1\"").expect("the note");
    bytes[at + 6] = b'2';
    std::fs::write(folder.path("changed"), &bytes).expect("write the changed file");
    let ran = postlink(&folder, &["verify", "program", "changed"]);
    assert_eq!(ran.status(), 0, "{}", ran.stdout());
    assert!(ran.stdout().contains("\nevidence: differs from what the note records"), "{}", ran.stdout());
}

#[test]
fn evidence_that_cannot_be_compared_is_told_apart() {
    let folder = folder("evidence-stripped");
    optimize(&folder, &[]);
    let says = |file: &str, expected: &str| {
        let ran = postlink(&folder, &["verify", "program", file]);
        assert_eq!(ran.status(), 0, "{}", ran.stdout());
        assert!(ran.stdout().contains(&format!("\nevidence: {expected}")), "{file}: {}", ran.stdout());
    };
    says("program", "the new file's note names none");
    // Nothing moves, so that no table of the input is longer than the output's.
    optimize(&folder, &["--max-functions=0"]);
    folder.tool("strip", &["out"]);
    says("out", "recorded before the file was stripped");
    optimize(&folder, &["--no-verify"]);
    assert!(note(&folder, "out")["evidence_blake3"].is_null());
    says("out", "the new file's note names none");
    // What is not proven has no evidence to report.
    let ran = postlink(&folder, &[&OPTIMIZE[..], &["--no-verify", "--report", "made"]].concat());
    assert_eq!(ran.status(), 2);
    assert!(!folder.path("made").exists());
}

#[test]
fn damaged_outputs_do_not_panic() {
    let folder = folder("evidence-damaged");
    optimize(&folder, &[]);
    let out = folder.read("out");
    let note = out.windows(6).rposition(|window| window == b"tool\":").expect("the note");
    let file = object::File::parse(&*out).expect("ELF");
    let id = file.section_by_name(".note.gnu.build-id").and_then(|section| section.file_range()).expect("the build id");
    let id = usize::try_from(id.0).expect("an offset");
    // The notes' headers and texts, and the section headers at the end of the file.
    let places = (id..id + 20).chain((note - 24..note + 700).step_by(9)).chain((out.len() - 14 * 64..out.len()).step_by(5));
    let mut refused = 0;
    for place in places.filter(|&place| place < out.len()) {
        let mut bytes = out.clone();
        bytes[place] = !bytes[place];
        std::fs::write(folder.path("damaged"), &bytes).expect("write the damaged file");
        let ran = postlink(&folder, &["verify", "program", "damaged", "--report", "rows"]);
        assert!([0, 1].contains(&ran.status()), "byte {place:#x}: {}", ran.stderr());
        assert!(!ran.stdout().contains("evidence: matches") , "byte {place:#x}: {}", ran.stdout());
        refused += usize::from(ran.status() == 1);
    }
    assert!(refused > 10, "{refused} of them matter");
}

/// Unpacks `archive` and gives `bundle.json`.
fn unpack(folder: &Folder, archive: &str) -> Value {
    folder.tool("tar", &["xf", archive]);
    json(folder, "postlink-bundle/bundle.json")
}

#[test]
fn a_bundle_makes_the_same_output_again() {
    let folder = folder("bundle");
    std::fs::write(folder.path("p.fdata"), "1 _start 5 1 classify 0 0 3\n").expect("write a profile");
    std::fs::write(folder.path("order.txt"), "classify\n_start\n").expect("write an order");
    let options = ["--split=all", "--function-order=order.txt", "--skip=where_am_i"];
    let ran = postlink(&folder, &[&["optimize", "program", "-o", "out", "-p", "p.fdata"][..], &options].concat());
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    let bundle = |output: &str| {
        let ran = postlink(&folder, &[&["bundle", "program", "-o", output, "-p", "p.fdata", "--"][..], &options].concat());
        assert_eq!((ran.status(), ran.stdout().as_str()), (0, ""), "{}", ran.stderr());
        assert!(ran.stderr().contains("it shows: the run succeeds"), "{}", ran.stderr());
    };
    bundle("a.tar");
    // Neither the time nor the name of the archive is in it.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    bundle("b.tar");
    assert_eq!(folder.read("a.tar"), folder.read("b.tar"));

    let about = unpack(&folder, "a.tar");
    assert_eq!(about["outcome"]["output_blake3"], blake3(&folder.read("out")));
    assert_eq!(folder.read("postlink-bundle/input/program"), folder.read("program"));
    let command: Vec<&str> = about["command"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
    let mut again = Command::new(env!("CARGO_BIN_EXE_postlink"));
    let again = again.current_dir(folder.path("postlink-bundle")).args(&command[1..]).output().expect("postlink runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(folder.read("postlink-bundle/out"), folder.read("out"));
    let readme = String::from_utf8(folder.read("postlink-bundle/README.md")).expect("text");
    assert!(readme.contains(&format!("    {}\n", command.join(" "))), "{readme}");
    for file in about["files"].as_array().expect("a list") {
        let name = format!("postlink-bundle/{}", file["name"].as_str().expect("a name"));
        assert_eq!(file["blake3"], blake3(&folder.read(&name)), "{name}");
    }
}

#[test]
fn a_bundle_says_how_the_run_failed() {
    let folder = folder("bundle-failed");
    std::fs::write(folder.path("p.fdata"), "1 _start 5 1 classify 0 0 1\n1 classify 3 1 classify 7 0 100\n")
        .expect("write a profile");
    let ran = postlink(&folder, &["bundle", "program", "-o", "a.tar", "--profile", "p.fdata"]);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    let outcome = unpack(&folder, "a.tar")["outcome"].clone();
    assert_eq!((&outcome["status"], &outcome["stage"]), (&Value::from(1), &Value::from("attach")));
    assert_eq!(outcome["code"], "POSTLINK_PROFILE_STALE");
    assert!(outcome["message"].as_str().is_some_and(|message| message.starts_with("only ")), "{outcome}");
    assert!(outcome["output_blake3"].is_null());
    let ran = postlink(&folder, &["bundle", "program", "-o", "b.tar", "--no-run"]);
    assert_eq!(ran.status(), 0, "{}", ran.stderr());
    assert!(unpack(&folder, "b.tar")["outcome"].is_null());
}

#[test]
fn a_bundle_that_cannot_be_made_is_not_written() {
    let folder = folder("bundle-refused");
    for (arguments, status, says) in [
        (&["bundle", "program", "-o", "a.tar.zst"][..], 2, "plain tar"),
        (&["bundle", "program", "-o", "a.tar", "--", "--bad"], 2, "'--bad'"),
        (&["bundle", "program", "-o", "a.tar", "--", "-o", "x"], 2, "cannot be used multiple times"),
        (&["bundle", "missing", "-o", "a.tar"], 1, "cannot read missing"),
        (&["bundle", "program", "-o", "no/such/a.tar"], 1, "cannot write no/such/a.tar"),
    ] {
        let ran = postlink(&folder, arguments);
        assert_eq!(ran.status(), status, "{arguments:?}: {}", ran.stderr());
        assert!(ran.stderr().contains(says), "{arguments:?}: {}", ran.stderr());
    }
    assert_eq!(folder.names(), ["program", "program.s"]);
}
