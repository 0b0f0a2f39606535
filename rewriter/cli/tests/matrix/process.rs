//! Running commands with a time limit, their output in files.
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finished {
    /// `exit N`, `signal N` or `timeout`.
    pub(crate) status: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Finished {
    pub(crate) fn succeeded(&self) -> bool {
        self.status == "exit 0"
    }

    /// First lines of stderr, for messages.
    pub(crate) fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(6).collect();
        lines.join("\n")
    }
}

/// A command line with its folder and environment, printable for reproduction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) folder: std::path::PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) words: Vec<String>,
}

impl Line {
    pub(crate) fn new<S: Into<String>>(folder: &Path, words: impl IntoIterator<Item = S>) -> Self {
        Self { folder: folder.to_owned(), environment: Vec::new(), words: words.into_iter().map(Into::into).collect() }
    }

    /// The command as one would type it in a shell.
    pub(crate) fn shell(&self) -> String {
        let mut text = format!("cd {} &&", quote(&self.folder.to_string_lossy()));
        for (name, value) in &self.environment {
            text.push_str(&format!(" {name}={}", quote(value)));
        }
        for word in &self.words {
            text.push(' ');
            text.push_str(&quote(word));
        }
        text
    }

    /// Runs to the end, or kills after `limit`.
    ///
    /// Output goes through files in `logs`, not pipes: a child that outlives its parent cannot block us.
    pub(crate) fn run(&self, logs: &Path, limit: Duration) -> Result<Finished, String> {
        use std::os::unix::process::ExitStatusExt;
        let unique = blake3::hash(self.shell().as_bytes()).to_hex();
        let out_path = logs.join(format!(".out-{}", &unique[..12]));
        let err_path = logs.join(format!(".err-{}", &unique[..12]));
        let create = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        let (program, arguments) = self.words.split_first().ok_or("empty command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(create(&out_path)?)
            .stderr(create(&err_path)?)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let started = Instant::now();
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| format!("{program}: {error}"))? {
                break match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exit {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "unknown".to_owned(),
                };
            }
            if started.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                break "timeout".to_owned();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let finished = Finished { status, stdout: read(&out_path)?, stderr: read(&err_path)? };
        let _ = std::fs::remove_file(out_path);
        let _ = std::fs::remove_file(err_path);
        Ok(finished)
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
