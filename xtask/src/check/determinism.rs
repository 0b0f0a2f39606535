//! The same bytes for the same input, profile and options.

use std::ffi::OsString;
use std::path::Path;

use super::Line;
use crate::corpus::{Program, size_of};
use crate::postlink::{Layout, Tool};
use crate::process::Result;

/// Rewrites with one thread, two threads, from another path, and with the profile's lines in another order.
pub(super) fn check(tool: &Tool, program: &Program) -> Line {
    let mut line = Line::new(&program.name, "determinism", program.size);
    if let Err(fault) = steps(tool, program, &mut line) {
        line.faults.push(fault);
    }
    line
}

fn steps(tool: &Tool, program: &Program, line: &mut Line) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
    let at = |name: &str| folder.path().join(name);
    let text = |error: std::io::Error| format!("{}: {error}", program.name);

    let copy = at("other name");
    std::fs::copy(&program.path, &copy).map_err(text)?;
    let profile = std::fs::read_to_string(&program.profile).map_err(text)?;
    let shuffled = at("shuffled.fdata");
    std::fs::write(&shuffled, shuffle(&profile)).map_err(text)?;

    let variants: [(&str, &Path, &Path, &[&str]); 4] = [
        (
            "1 thread",
            &program.path,
            &program.profile,
            &["--threads", "1"],
        ),
        (
            "2 threads",
            &program.path,
            &program.profile,
            &["--threads", "2"],
        ),
        ("other path", &copy, &program.profile, &[]),
        ("shuffled profile", &program.path, &shuffled, &[]),
    ];
    for layout in [Layout::Full, Layout::Hot] {
        let reference = at("reference");
        for (index, (name, input, profile, threads)) in variants.into_iter().enumerate() {
            let mut options = layout.options(profile);
            options.extend(threads.iter().map(OsString::from));
            let output = if index == 0 {
                reference.clone()
            } else {
                at("output")
            };
            let run = tool.optimize_with(input, options, &output)?;
            if run.status != 0 {
                return Err(format!(
                    "{}, {name}: status {}: {}",
                    layout.name(),
                    run.status,
                    run.tail(3)
                ));
            }
            line.wall += run.wall;
            line.peak_kb = line.peak_kb.max(run.peak_kb);
            line.new_size = size_of(&output)?;
            if let Some(offset) = first_difference(&reference, &output)? {
                line.faults.push(format!(
                    "{}: {name}: differs from 1 thread at byte {offset:#x}",
                    layout.name()
                ));
            }
        }
    }
    Ok(())
}

/// The lines in another, fixed order: every 7919th, as long as there are any.
fn shuffle(profile: &str) -> String {
    const STRIDE: usize = 7919;
    let lines: Vec<&str> = profile.lines().collect();
    let mut out = String::with_capacity(profile.len() + 1);
    for start in (0..STRIDE.min(lines.len())).rev() {
        for line in lines.iter().skip(start).step_by(STRIDE) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The first offset where two files differ; the length of the shorter one, if one is the other's beginning.
pub(crate) fn first_difference(a: &Path, b: &Path) -> Result<Option<usize>> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (a, b) = (read(a)?, read(b)?);
    if a == b {
        return Ok(None);
    }
    let shorter = a.len().min(b.len());
    Ok(Some(
        a.iter()
            .zip(&b)
            .position(|(a, b)| a != b)
            .unwrap_or(shorter),
    ))
}

#[cfg(test)]
mod tests {
    use super::{first_difference, shuffle};

    #[test]
    fn a_shuffle_keeps_every_line() {
        let text: String = (0..20_000).map(|line| format!("{line}\n")).collect();
        let other = shuffle(&text);
        assert_ne!(text, other);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(&other));
    }

    #[test]
    fn differences_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (a, b, c) = (file("a", "abcd"), file("b", "abxd"), file("c", "ab"));
        assert_eq!(first_difference(&a, &a), Ok(None));
        assert_eq!(first_difference(&a, &b), Ok(Some(2)));
        assert_eq!(first_difference(&a, &c), Ok(Some(2)));
    }
}
