//! `tandem explain`: what would happen to a call, step by step, without a call.

use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table;
use crate::clock;
use crate::config::Config;
use crate::routing::decision::Decision;
use crate::routing::explain::Question;
use crate::routing::explain::explain;
use crate::routing::explain::explain_outbound;
use crate::routing::inbound::Verdict;
use crate::routing::outbound::OutboundRequest;
use crate::routing::table::RoutingTable;
use crate::types::id::TenantId;
use crate::types::name::ListenerName;
use crate::types::number::E164;
use crate::types::random::Random;
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
    #[arg(long, value_name = "ADDRESS", required_unless_present = "outbound")]
    source: Option<IpAddr>,
    /// Explain a call out: --from is one of our numbers, --to the number that is called
    #[arg(long, conflicts_with_all = ["source", "transport", "listener", "headers"])]
    outbound: bool,
    /// The tenant that would call [default: the one --from belongs to]
    #[arg(long, value_name = "ID", requires = "outbound")]
    tenant: Option<TenantId>,
    /// The trunk that would be asked for, by name
    #[arg(long, value_name = "NAME", requires = "outbound")]
    trunk: Option<String>,
    /// The caller would be withheld
    #[arg(long, requires = "outbound")]
    anonymous: bool,
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
    let config = configuration::load(args.config.clone())?;
    let Some(source) = args.source else { return call_out(&config, args).await };
    let listener = listener(&config, args.listener)?;
    let loaded = table::load(&config).await?;
    let question = Question {
        listener,
        transport: args.transport,
        source,
        from: args.from,
        to: args.to,
        headers: args.headers,
    };
    let (verdict, decision) = explain(&loaded.table, &question);
    print(&loaded.origin, &decision);
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

/// Prints where the table is from, and every step.
fn print(origin: &str, decision: &Decision) {
    let width = decision.name_width();
    output::line(&format!("{:<width$} {origin}", "table"));
    output::line(decision.to_string().trim_end());
}

/// Prints every step of a call out, and the INVITE to each gateway.
async fn call_out(config: &Config, args: ExplainArgs) -> Result<(), Failure> {
    let loaded = table::load(config).await?;
    let request = outbound_request(&loaded.table, &args)?;
    let mut random = Random::from_seed(clock::random_u64());
    let planned = explain_outbound(&loaded.table, clock::wall_now(), request, &mut random);
    match planned {
        Ok(plan) => {
            print(&loaded.origin, &plan.decision);
            Ok(())
        }
        Err(refusal) => {
            print(&loaded.origin, &refusal.decision);
            let cause = refusal.cause.code();
            Err(Failure::failed(format!("the call would not be placed: {cause}")))
        }
    }
}

fn outbound_request(table: &RoutingTable, args: &ExplainArgs) -> Result<OutboundRequest, Failure> {
    let from: Option<E164> = args.from.parse().ok();
    let owner = from.and_then(|from| table.number(from)).map(|number| number.tenant);
    let Some(tenant) = args.tenant.or(owner) else {
        let message =
            format!("{} is no number of ours: say whose call it is by --tenant", args.from);
        return Err(Failure::configuration(message));
    };
    let to = args.to.parse();
    let to = to.map_err(|error| Failure::configuration("--to is no number").because(error))?;
    let mut request = OutboundRequest::new(tenant, to);
    (request.from, request.anonymous) = (from, args.anonymous);
    if let Some(name) = &args.trunk {
        let trunk = table.trunk_named(tenant, name);
        let none = || Failure::configuration(format!("the tenant has no trunk `{name}`"));
        request.trunk = Some(trunk.ok_or_else(none)?.id);
    }
    Ok(request)
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
