//! Damaged input: truncated at every length, bytes flipped at random. Every command ends by itself,
//! with a status that it documents, within bounded memory, and leaves no half-written file.
#![allow(clippy::expect_used, reason = "a test that cannot build its program has failed")]

#[path = "cli/program.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod program;

use std::path::Path;
use std::process::{Command, Output};

use program::Folder;

/// Runs postlink with 2 GB of address space and 20 s of processor time: unbounded memory ends in an abort,
/// an endless loop in a signal, and both fail the test.
fn limited(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", "ulimit -v 2000000; ulimit -t 20; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_postlink")).args(arguments).env("RAYON_NUM_THREADS", "1");
    command.output().expect("sh runs")
}

/// Runs the commands on one damaged file and says what went wrong.
fn check(folder: &Path, what: &str, bytes: &[u8], commands: &[&[&str]]) -> Option<String> {
    std::fs::write(folder.join("input"), bytes).expect("write the damaged file");
    for &arguments in commands {
        let ran = limited(folder, arguments);
        let wrote = folder.join("output").exists();
        let status = ran.status.code();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        let coded = status == Some(0) || !stderr.is_empty() && stderr.contains("error[") || arguments[0] == "verify";
        // 3 is postlink's own doubt about what it wrote: it keeps damage from getting through.
        let known = matches!(status, Some(0 | 1)) || status == Some(3) && arguments[0] == "optimize";
        let wrote_rightly = arguments[0] != "optimize" || wrote == (status == Some(0));
        if !known || !coded || !wrote_rightly || stderr.contains("panicked") {
            return Some(format!("{what}: {}: status {status:?}, output written: {wrote}\n{stderr}", arguments.join(" ")));
        }
        if wrote {
            std::fs::remove_file(folder.join("output")).expect("remove the output");
        }
    }
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the test")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    (names != ["good", "input"]).then(|| format!("{what}: files left behind: {names:?}"))
}

const COMMANDS: [&[&str]; 3] = [
    &["optimize", "input", "-o", "output", "--block-order", "reverse", "--function-order", "reverse", "--keep-relocs"],
    &["doctor", "input"],
    &["verify", "good", "input"],
];

/// Spreads `count` damaged files over two threads; fails with the first few complaints.
fn check_all(name: &str, count: usize, make: impl Fn(usize, &[u8]) -> (String, Vec<u8>) + Sync) {
    let folder = Folder::new(name);
    folder.link("program", &["-Wl,-q"]);
    let program = folder.read("program");
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (make, program) = (&make, &program);
                let own = folder.path(&format!("worker{worker}"));
                scope.spawn(move || {
                    std::fs::create_dir_all(&own).expect("a folder for the worker");
                    std::fs::write(own.join("good"), program).expect("write the program");
                    let complaints = (worker..count).step_by(2).filter_map(|index| {
                        let (what, bytes) = make(index, program);
                        // All read the file alike: the first one sees every case, the others some.
                        let commands = if index % 8 < 2 { &COMMANDS[..] } else { &COMMANDS[..1] };
                        check(&own, &what, &bytes, commands)
                    });
                    complaints.take(3).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn truncated_at_every_length() {
    let folder = Folder::new("truncated-size");
    folder.link("program", &["-Wl,-q"]);
    let size = folder.read("program").len();
    check_all("truncated", size, |length, program| {
        (format!("truncated to {length} bytes"), program.get(..length).unwrap_or(program).to_vec())
    });
}

#[test]
fn random_bytes_changed() {
    check_all("flipped", 1600, |index, program| {
        // splitmix64: the same damage on every run.
        let mut state = index as u64;
        let mut random = move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut bytes = program.to_vec();
        let mut places = Vec::new();
        for _ in 0..=random() % 4 {
            let place = usize::try_from(random() % bytes.len() as u64).expect("a small number");
            if let Some(byte) = bytes.get_mut(place) {
                // Small and extreme values find more than random ones.
                *byte = match random() % 4 {
                    0 => 0xff,
                    1 => 0,
                    2 => byte.wrapping_add(1),
                    _ => random().to_le_bytes()[0],
                };
                places.push(format!("{place:#x}={byte:#x}"));
            }
        }
        (format!("case {index}: bytes {}", places.join(" ")), bytes)
    });
}
