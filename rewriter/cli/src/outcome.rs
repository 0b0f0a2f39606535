//! How a run ends: exit status and what is said on stderr.

use std::process::ExitCode;

/// Exit status 1: the input is at fault or a gate failed; nothing was written.
pub(crate) const REFUSED: u8 = 1;
/// Exit status 2: wrong arguments.
pub(crate) const USAGE: u8 = 2;
/// Exit status 3: postlink contradicted itself; nothing was written.
const CONTRADICTION: u8 = 3;

/// Says something to the user: on stderr, so that stdout holds data only.
#[expect(clippy::print_stderr, reason = "this is where the user is told")]
pub(crate) fn tell(text: &str) {
    eprint!("{text}");
}

/// Why a command stopped before its end.
#[derive(Debug)]
pub(crate) struct Stop {
    status: u8,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Stop {
    /// The input or profile is at fault.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: REFUSED, code, message: message.into(), hint: None }
    }
    /// The arguments are at fault.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: USAGE, code: "CLI001", message: message.into(), hint: None }
    }
    /// postlink's own checks failed.
    pub(crate) fn contradiction(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: CONTRADICTION, code, message: message.into(), hint: None }
    }
    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// The exit status.
    pub(crate) const fn status(&self) -> u8 {
        self.status
    }
    /// The outcome's code.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }
    /// The message, without the code.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
    /// Message and hint as they are printed.
    pub(crate) fn text(&self) -> String {
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("hint: {hint}\n"));
        format!("error[{}]: {}\n{hint}", self.code, self.message)
    }
    /// Prints the reason and gives the exit status.
    pub(crate) fn report(self) -> ExitCode {
        tell(&self.text());
        ExitCode::from(self.status)
    }
}
