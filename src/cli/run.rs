//! `tandem run`: the switch.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Config;
use crate::config::node::LogFormat as Format;
use crate::server;
use crate::server::Server;
use crate::server::StartError;
use crate::telemetry::logging;
use crate::telemetry::logging::LogFormat;
use clap::Args;
use std::path::PathBuf;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// How the switch runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Runs the switch until it is told to stop.
///
/// # Errors
///
/// When the configuration is wrong, or the switch cannot start.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let file = configuration::file(args.config);
    let config = configuration::load(file.clone())?;
    install_logging(&config)?;
    let mut signals = Signals::new()?;
    let server = server::start(config).await.map_err(not_started)?;
    output::line(&server.addresses().ready_line());
    serve(server, &mut signals, file).await;
    Ok(())
}

/// Serves until a signal ends it: SIGHUP reloads, SIGTERM and Ctrl-C drain, a second one hurries. A `file` that was
/// there at the start and is gone is a fault, and not a configuration of defaults.
async fn serve(server: Server, signals: &mut Signals, file: Option<PathBuf>) {
    while let Asked::Reload = signals.next().await {
        match configuration::read(configuration::file(file.clone()), Vec::new()) {
            Ok(config) => server.reload(&config),
            Err(problems) => {
                tracing::error!(%problems, "the configuration has problems; the old one stays in force");
            }
        }
    }
    server.stop(async { while let Asked::Reload = signals.next().await {} }).await;
}

/// Sets up logging as the configuration says.
pub(super) fn install_logging(config: &Config) -> Result<(), Failure> {
    let format = match config.node().log_format {
        Format::Auto => LogFormat::Auto,
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    logging::install(&config.node().log_level, format)
        .map_err(|error| Failure::configuration("cannot set up logging").because(error))
}

/// Why the switch did not start, with the exit code that belongs to it.
pub(super) fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Configuration(problems) => configuration::refuse(&problems),
        error if error.is_configuration() => {
            Failure::configuration("the switch did not start").because(error)
        }
        error => Failure::failed("the switch did not start").because(error),
    }
}

/// What a signal asks for.
pub(super) enum Asked {
    Reload,
    Stop,
}

/// The signals of a running switch.
pub(super) struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed("cannot watch signals").because(error))
        };
        Ok(Self {
            hang_up: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }
}
