//! Child processes, measured.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What went wrong, in words: a task of a developer has no caller that would tell errors apart.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A finished child process and what it cost.
pub(crate) struct Finished {
    /// Exit status; 128 + signal for a killed process, 124 for one that ran out of time.
    pub(crate) status: i32,
    /// Wall time in seconds.
    pub(crate) wall: f64,
    /// User and system time of the process and of the children that it waited for, in seconds.
    pub(crate) cpu: f64,
    /// The largest resident set of any of these processes, in KiB.
    pub(crate) peak_kb: u64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The last lines of what the process said, for a message.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let all: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        all[all.len().saturating_sub(lines)..].join(" | ")
    }
}

/// A command line to be measured.
pub(crate) struct Job {
    words: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    limit: Duration,
}

impl Job {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            words: vec![program.into()],
            variables: Vec::new(),
            limit: Duration::from_secs(3600),
        }
    }

    pub(crate) fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    pub(crate) fn args<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs to the end. Errors are failures to start; what the process itself says is in the result.
    pub(crate) fn run(self) -> Result<Finished> {
        let costs =
            tempfile::NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
        // GNU time reads the kernel's accounts (wait4), which the standard library does not show.
        let mut command = Command::new("/usr/bin/time");
        command
            .arg("-o")
            .arg(costs.path())
            .args(["-f", "%U:%S:%M", "timeout", "-k", "10"]);
        command
            .arg(self.limit.as_secs().to_string())
            .args(&self.words);
        command.envs(self.variables).stdin(Stdio::null());
        let start = Instant::now();
        let output = command
            .output()
            .map_err(|error| format!("/usr/bin/time (run scripts/setup): {error}"))?;
        let wall = start.elapsed().as_secs_f64();
        let (cpu, peak_kb) = accounts(costs.path());
        Ok(Finished {
            status: output.status.code().unwrap_or(128),
            wall,
            cpu,
            peak_kb,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// As `run`, but any other status than 0 is an error.
    pub(crate) fn succeed(self) -> Result<Finished> {
        let name = self
            .words
            .iter()
            .take(3)
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let done = self.run()?;
        if done.status == 0 {
            Ok(done)
        } else {
            Err(format!("{name}: status {}: {}", done.status, done.tail(5)))
        }
    }
}

/// Sums of all lines `USER:SYSTEM:PEAK` in a file that GNU time or scripts/lib/cpu-time wrote; remarks about signals are
/// passed over.
pub(crate) fn accounts(path: &Path) -> (f64, u64) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut sum = (0.0, 0);
    for line in text.lines() {
        let fields: Vec<f64> = line
            .split(':')
            .filter_map(|field| field.parse().ok())
            .collect();
        if let [user, system, peak] = fields[..] {
            sum.0 += user + system;
            sum.1 = sum.1.max(peak as u64);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::Job;

    #[test]
    fn status_output_and_memory_of_a_child() {
        let done = Job::new("sh")
            .args(["-c", "echo out; echo err >&2; exit 3"])
            .run()
            .unwrap();
        assert_eq!(
            (done.status, done.stdout.as_str(), done.stderr.as_str()),
            (3, "out\n", "err\n")
        );
        assert!(
            done.peak_kb > 100 && done.peak_kb < 1_000_000,
            "{}",
            done.peak_kb
        );
        assert!(Job::new("sh").args(["-c", "exit 3"]).succeed().is_err());
    }

    #[test]
    fn a_signal_is_a_status() {
        let done = Job::new("sh").args(["-c", "kill -SEGV $$"]).run().unwrap();
        assert_eq!(done.status, 128 + 11);
    }
}
