//! `tandem version`: which program this is.

use crate::cli::failure::Failure;
use crate::cli::output;

/// Prints name and version.
///
/// # Errors
///
/// None; like every command it returns one.
#[expect(clippy::unnecessary_wraps, reason = "commands share one signature")]
pub(crate) fn run() -> Result<(), Failure> {
    output::line(concat!("tandem ", env!("CARGO_PKG_VERSION")));
    Ok(())
}
