//! Programs of others in Python, in the environment that `scripts/setup test` makes.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use std::path::Path;
use std::path::PathBuf;
use tokio::process::Command;

/// A program of the environment: `python`, or one that a package brings.
pub fn program(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run scripts/setup test", path.display());
    let mut command = Command::new(path);
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    command
}

/// One of our own scripts.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}
