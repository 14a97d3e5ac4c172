//! The command line: one file a subcommand.

mod api;
mod call;
mod calls;
mod certificates;
mod certify;
mod check;
mod columns;
mod configuration;
mod demo;
mod explain;
mod failure;
mod keys;
mod listing;
mod migrate;
mod numbers;
mod output;
mod print_config;
mod report;
mod run;
mod seal_key;
mod secrets;
mod self_signed;
mod table;
mod tenants;
mod trunks;
mod version;

use crate::cli::call::CallArgs;
use crate::cli::calls::CallsArgs;
use crate::cli::certify::CertifyArgs;
use crate::cli::check::CheckArgs;
use crate::cli::configuration::ConfigArgs;
use crate::cli::demo::DemoArgs;
use crate::cli::explain::ExplainArgs;
use crate::cli::failure::Failure;
use crate::cli::keys::KeysArgs;
use crate::cli::migrate::MigrateArgs;
use crate::cli::numbers::NumbersArgs;
use crate::cli::run::RunArgs;
use crate::cli::secrets::SecretsArgs;
use crate::cli::tenants::TenantsArgs;
use crate::cli::trunks::TrunksArgs;
use crate::server::wake_pace;
use clap::Parser;
use clap::Subcommand;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread;
use tokio::runtime::Builder;

/// What `tandem` is told on its command line.
#[derive(Debug, Parser)]
#[command(
    name = "tandem",
    version,
    about = "A SIP/RTP softswitch for AI voice agents",
    after_help = "Exit codes: 0 done, 1 failed, 2 bad configuration or arguments."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the switch until SIGTERM or Ctrl-C, which let running calls finish first.
    Run(RunArgs),
    /// Run a switch with a database, a tenant and numbers of its own, and call it once.
    Demo(DemoArgs),
    /// Check the configuration and every trunk profile; print all problems with their places.
    Check(CheckArgs),
    /// Try a trunk profile against a simulation of its carrier; print what passes and what does not.
    Certify(CertifyArgs),
    /// Print the configuration in force, with defaults and TANDEM_* variables; secrets are hidden.
    PrintConfig(ConfigArgs),
    /// Print step by step how a call would be routed, without a call; exit code 1 where it is refused.
    Explain(ExplainArgs),
    /// Call a SIP URI, speak, listen, hang up, and print how it went.
    Call(Box<CallArgs>),
    /// List, show, trace and steer the calls of a tenant, by the API of a switch.
    Calls(CallsArgs),
    /// Show how the trunks of a tenant stand, by the API of a switch.
    Trunks(TrunksArgs),
    /// List, show, add, import and remove the numbers of a tenant, by the API of a switch.
    Numbers(NumbersArgs),
    /// List, show and make tenants, by the API of a switch.
    Tenants(TenantsArgs),
    /// List, make, rotate and revoke API keys, by the API of a switch; make the first one in its database.
    Keys(KeysArgs),
    /// Seal secrets in the database again after a change of keys.
    Secrets(SecretsArgs),
    /// Bring the database to the schema of this program.
    Migrate(MigrateArgs),
    /// Print the version.
    Version,
}

/// Runs the program: reads the command line, does what it says, prints why where that fails.
#[must_use]
pub fn main() -> ExitCode {
    // clap prints its own errors and exits 2; `--help` and `--version` exit 0.
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure.chain());
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => serve(run::run(args)),
        Command::Demo(args) => serve(demo::run(args)),
        Command::Check(args) => check::run(&args),
        Command::Certify(args) => certify::run(&args),
        Command::PrintConfig(args) => print_config::run(&args),
        Command::Explain(args) => block_on(explain::run(args)),
        Command::Call(args) => block_on(call::run(*args)),
        Command::Calls(args) => block_on(calls::run(args)),
        Command::Trunks(args) => block_on(trunks::run(args)),
        Command::Numbers(args) => block_on(numbers::run(args)),
        Command::Tenants(args) => block_on(tenants::run(args)),
        Command::Keys(args) => block_on(keys::run(args)),
        Command::Secrets(args) => block_on(secrets::run(args)),
        Command::Migrate(args) => block_on(migrate::run(args)),
        Command::Version => version::run(),
    }
}

/// Runs a command to its end.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    finish(runtime(), work)
}

/// Runs the switch to its end. Only its threads have a pace: a command asks one thing after the other, and would wait each time.
fn serve(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut runtime = runtime();
    runtime.on_thread_park(wake_pace::rest_before_sleep);
    finish(runtime, work)
}

/// Runs `work` on a runtime of its own, whose threads end with it.
fn finish(
    mut runtime: Builder,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime
        .build()
        .map_err(|error| Failure::failed("cannot start the runtime").because(error))?;
    runtime.block_on(work)
}

/// Half of the processors are left to the media threads: on more, each message would wake a thread on another processor.
fn runtime() -> Builder {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut runtime = Builder::new_multi_thread();
    runtime.enable_all().worker_threads(processors.div_ceil(2)).thread_name("tandem-io");
    runtime
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        for command in Arguments::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {argument}", command.get_name());
            }
        }
    }

    const README: &str = include_str!("../../README.md");

    /// The words of a line as a shell splits them, up to a comment. Single quotes alone are known.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            match at % 2 {
                1 => words.push(part.to_owned()),
                _ => words.extend(part.split_whitespace().map(str::to_owned)),
            }
        }
        let end = words.iter().position(|word| word.starts_with('#')).unwrap_or(words.len());
        words.truncate(end);
        words
    }

    #[test]
    fn every_command_line_of_the_readme_is_understood() {
        let lines: Vec<&str> = README
            .lines()
            .map(|line| line.strip_prefix("$ ").unwrap_or(line))
            .filter(|line| line.starts_with("tandem ") && !line.starts_with("tandem:"))
            .collect();
        assert!(lines.len() >= 8, "{lines:?}");
        for line in lines {
            let parsed = Arguments::try_parse_from(words(line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        let demo = README.split("DEMO_ARGS=\"").nth(1).and_then(|rest| rest.split('"').next());
        let line = format!("tandem demo {}", demo.unwrap_or("--gone"));
        assert!(Arguments::try_parse_from(words(&line)).is_ok(), "{line}");
    }

    #[test]
    fn every_command_that_the_readme_speaks_of_is_there() {
        let spoken: Vec<&str> =
            README.split('`').filter(|text| text.starts_with("tandem ")).collect();
        assert!(spoken.len() >= 4, "{spoken:?}");
        for line in spoken.into_iter().filter(|line| !line.contains('\n')) {
            let Err(error) = Arguments::try_parse_from(words(line)) else { continue };
            let kind = error.kind();
            assert_eq!(kind, clap::error::ErrorKind::MissingRequiredArgument, "{line}: {error}");
        }
    }
}
