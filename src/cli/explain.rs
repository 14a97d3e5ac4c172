//! `tandem explain`: what would happen to a call, step by step, without a call.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table;
use crate::config::Config;
use crate::routing::explain::Question;
use crate::routing::explain::explain;
use crate::routing::inbound::Verdict;
use crate::types::name::ListenerName;
use crate::types::transport::Transport;
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;

/// The listener of a call where none is configured; trunks mostly take any.
const LISTENER: &str = "public";

/// A call that is only thought of.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// Who would call: a number, or a sip: or tel: URI
    #[arg(long, value_name = "CALLER", allow_hyphen_values = true)]
    from: String,
    /// What would be dialled: a number, or a sip: or tel: URI
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    to: String,
    /// The address the INVITE would come from
    #[arg(long, value_name = "ADDRESS")]
    source: IpAddr,
    /// How it would come: udp, tcp or tls
    #[arg(long, value_name = "NAME", default_value = "udp")]
    transport: Transport,
    /// The listener it would arrive at [default: the first one configured]
    #[arg(long, value_name = "NAME")]
    listener: Option<ListenerName>,
    /// A header it would carry; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints every step of the decision.
///
/// # Errors
///
/// When the call would be refused, or there is no table to decide with.
pub(crate) async fn run(args: ExplainArgs) -> Result<(), Failure> {
    let config = configuration::load(args.config)?;
    let listener = listener(&config, args.listener)?;
    let loaded = table::load(&config).await?;
    let question = Question {
        listener,
        transport: args.transport,
        source: args.source,
        from: args.from,
        to: args.to,
        headers: args.headers,
    };
    let (verdict, decision) = explain(&loaded.table, &question);
    output::line(&format!("{:<10} {}", "table", loaded.origin));
    output::line(decision.to_string().trim_end());
    match verdict {
        Verdict::Route(_) => Ok(()),
        // `explain` takes credentials as given, so nothing is challenged.
        Verdict::Challenge(trunk) => {
            Err(Failure::failed(format!("trunk {} would ask for credentials", trunk.name)))
        }
        Verdict::Refuse(refusal) => {
            let (status, cause) = (refusal.status, refusal.cause.code());
            Err(Failure::failed(format!("the call would be refused: {status} {cause}")))
        }
        Verdict::Unknown => {
            Err(Failure::failed("the call would not be answered: no trunk takes it"))
        }
    }
}

/// The listener named, else the first one.
fn listener(config: &Config, named: Option<ListenerName>) -> Result<ListenerName, Failure> {
    let mut listeners = config.node().listeners.iter().map(|listener| &listener.name);
    match named {
        Some(name) if config.node().listeners.is_empty() || listeners.any(|own| *own == name) => {
            Ok(name)
        }
        Some(name) => Err(Failure::configuration(format!("there is no listener `{name}`"))),
        None => match listeners.next() {
            Some(first) => Ok(first.clone()),
            None => LISTENER
                .parse()
                .map_err(|error| Failure::configuration("no listener").because(error)),
        },
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
