//! Writing to the terminal.

use std::io;
use std::io::Write;

/// Prints `text` and a newline on standard output.
///
/// A reader that went away (`tandem explain | head -1`) is no failure of the command.
pub(crate) fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints why the command was not done on standard error.
pub(crate) fn error(text: &str) {
    drop(writeln!(io::stderr().lock(), "tandem: {text}"));
}

/// Prints something the operator should look at on standard error.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
