//! Results: counting, grouping by cause, printing.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One broken expectation, with what is needed to see it again.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) label: String,
    /// `reverse.full`; empty for the original.
    pub(crate) layout: String,
    /// Short fixed name of what went wrong: the first half of the group key.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) commands: Vec<String>,
    /// Folder whose files were kept.
    pub(crate) kept: Option<PathBuf>,
}

impl Failure {
    pub(crate) fn headline(&self) -> String {
        let layout = if self.layout.is_empty() { "original" } else { &self.layout };
        format!("{} {layout}: {}: {}", self.label, self.kind, self.message.lines().next().unwrap_or_default())
    }

    pub(crate) fn detail(&self) -> String {
        let mut text = format!("FAIL {}\n", self.headline());
        for line in self.message.lines().skip(1) {
            let _ = writeln!(text, "    {line}");
        }
        for command in &self.commands {
            let _ = writeln!(text, "  $ {command}");
        }
        if let Some(kept) = &self.kept {
            let _ = writeln!(text, "  files: {}", kept.display());
        }
        text
    }

    /// Message with the numbers removed: equal causes have equal keys.
    fn cause(&self) -> String {
        let mut cause = String::new();
        for word in self.message.lines().next().unwrap_or_default().split_whitespace() {
            let volatile = word.contains('/') || word.chars().any(|c| c.is_ascii_digit());
            // P1 to P7 are names of obligations.
            let name = word.starts_with("POSTLINK_") || (word.starts_with('P') && word.len() == 2);
            let shown = if volatile && !name { "#" } else { word };
            cause.push(' ');
            cause.push_str(shown);
        }
        format!("{}:{cause}", self.kind)
    }
}

/// Counts of a build or of the whole run.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failures: Vec<Failure>,
    /// Per layout: files, bytes before, bytes after, functions, functions that moved.
    pub(crate) layouts: BTreeMap<String, [u64; 5]>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        for (layout, numbers) in other.layouts {
            let sums = self.layouts.entry(layout).or_default();
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number;
            }
        }
    }

    /// How much each layout did: a rewriter that moves nothing must not look good.
    pub(crate) fn statistics(&self) -> String {
        let mut text = String::from("layout            files  size after/before  functions moved\n");
        for (layout, [files, before, after, functions, moved]) in &self.layouts {
            let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
            let _ = writeln!(
                text,
                "{layout:<16} {files:>6} {:>16.1} % {:>14.1} %",
                percent(*after, *before),
                percent(*moved, *functions)
            );
        }
        text
    }
}

/// Failures grouped by cause, most frequent first, each with its first case.
pub(crate) fn groups(failures: &[Failure]) -> String {
    let mut groups: BTreeMap<String, Vec<&Failure>> = BTreeMap::new();
    for failure in failures {
        groups.entry(failure.cause()).or_default().push(failure);
    }
    let mut sorted: Vec<_> = groups.into_iter().collect();
    sorted.sort_by_key(|(cause, members)| (std::cmp::Reverse(members.len()), cause.clone()));
    let mut text = String::new();
    for (cause, members) in sorted {
        let mut programs: Vec<&str> =
            members.iter().map(|failure| failure.label.split(':').next().unwrap_or_default()).collect();
        programs.dedup();
        let _ = writeln!(text, "{:>5} x {cause}", members.len());
        if let Some(first) = members.first() {
            let _ = writeln!(text, "        first: {} {}", first.label, first.layout);
        }
        let shown: Vec<&str> = programs.iter().take(12).copied().collect();
        let _ = writeln!(text, "        {} programs: {}", programs.len(), shown.join(" "));
    }
    text
}
