//! Logging: to standard error, as text on a terminal and as JSON elsewhere.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error(
        "the log level is error, warn, info, debug or trace, or directives such as tandem::net=debug"
    )]
    Filter(#[source] ParseError),
    /// There is a logger already.
    #[error("logging is set up already")]
    Twice(#[source] TryInitError),
}

/// Sets up logging for this process. `level` is a level, or directives per module such as
/// `info,tandem::engine::call_task=debug`.
///
/// # Errors
/// When `level` cannot be read, or logging is set up already.
pub fn install(level: &str, format: LogFormat) -> Result<(), LoggingError> {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        // It would report a full disk or a closed pipe on standard error, and panic as that is the
        // very thing that refuses: a log that is lost must not take a call with it.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let installed = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init()
    };
    installed.map_err(LoggingError::Twice)
}

/// PostgreSQL's notices, such as that a table exists already, come at INFO, and nobody needs to do
/// anything about them: its warnings are enough, unless somebody asks for more by naming sqlx.
fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let is_quiet = matches!(level.trim(), "error" | "off") || level.contains("sqlx");
    let directives =
        if is_quiet { level.to_owned() } else { format!("{level},sqlx::postgres::notice=warn") };
    EnvFilter::try_new(directives).map_err(LoggingError::Filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_the_database_are_heard_by_those_who_ask() {
        for (level, quiet) in [
            ("info", true),
            ("", true),
            ("tandem=debug", true),
            ("error", false),
            ("sqlx=info", false),
        ] {
            let filter = filter(level).expect("a filter").to_string();
            assert_eq!(filter.contains("sqlx::postgres::notice=warn"), quiet, "{filter}");
        }
    }

    #[test]
    fn a_level_that_cannot_be_read_is_refused() {
        let refused = install("tandem=loud=very", LogFormat::Text);
        assert!(matches!(refused, Err(LoggingError::Filter(_))), "{refused:?}");
    }
}
