//! `Failure`: why a command was not done, and the exit code that says so.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Whose doing it is that a command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The work was tried and failed: exit code 1.
    Failed,
    /// The configuration or the arguments are wrong; nothing was tried: exit code 2.
    Configuration,
}

/// Why a command was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// The work was tried and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Failed, message: message.into(), source: None }
    }

    /// The configuration or the arguments are wrong.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Configuration, message: message.into(), source: None }
    }

    /// Adds the error it follows from.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The message and every error it follows from, for people.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(error) = next {
            let message = error.to_string();
            // Some errors repeat their source in their own text.
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            next = error.source();
        }
        text
    }

    /// What the program exits with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            FailureKind::Failed => ExitCode::from(1),
            FailureKind::Configuration => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failure_prints_every_error_it_follows_from_once() {
        let inner = Failure::failed("cannot bind").because(io::Error::other("address in use"));
        let outer = Failure::failed("cannot start").because(inner);
        assert_eq!(outer.chain(), "cannot start: cannot bind: address in use");
        let repeats = Failure::failed("broken: full").because(io::Error::other("full"));
        assert_eq!(repeats.chain(), "broken: full");
    }
}
