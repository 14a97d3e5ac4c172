//! `tandem trunks`: how the trunks of a tenant stand, by the API.

use crate::cli::api::ApiArgs;
use crate::cli::columns;
use crate::cli::columns::Columns;
use crate::cli::failure::Failure;
use crate::cli::output;
use clap::Args;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// What to see of trunks.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A tenant's key sees the trunks of its tenant, a key of the platform the shared ones too; without a tenant it
sees the shared ones, those of profile files among them.

Examples:
  tandem trunks list
  tandem trunks show carrier-one")]
pub(crate) struct TrunksArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The trunks with their registration, gateways and calls
    List,
    /// One trunk with each of its gateways
    Show {
        /// The trunk, by id or name
        #[arg(value_name = "TRUNK")]
        trunk: String,
    },
}

#[derive(Deserialize)]
struct Page {
    trunks: Vec<Value>,
}

#[derive(Deserialize)]
struct Trunk {
    id: String,
    name: String,
    enabled: bool,
    /// The trunks of the platform are listed without it.
    #[serde(default = "is_shared")]
    shared: bool,
    calls: u32,
    registration: Option<Registration>,
    gateways: Vec<Gateway>,
}

#[derive(Deserialize)]
struct Registration {
    state: String,
    registrar: String,
    status: Option<u16>,
    until: Option<Timestamp>,
    next_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Gateway {
    name: String,
    state: String,
    until: Option<Timestamp>,
    /// Those of its addresses that are not ready.
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    address: String,
    transport: String,
    state: String,
    until: Option<Timestamp>,
}

/// Prints how trunks stand.
///
/// # Errors
///
/// When the API is not reached or refuses, or there is no such trunk.
pub(crate) async fn run(args: TrunksArgs) -> Result<(), Failure> {
    let client = args.api.client()?;
    let path = match args.api.tenant {
        Some(_) => client.of_tenant("trunks?limit=200")?,
        None => "/api/v1/trunk-states".to_owned(),
    };
    let answer = client.get(&path).await?;
    match &args.command {
        Command::List if args.api.json => output::line(&answer.text()),
        Command::List => output::line(&list(&trunks(answer.read()?)?)),
        Command::Show { trunk } => {
            let found = answer.read::<Page>()?.trunks.into_iter().find(|one| is(one, trunk));
            let missing =
                || Failure::failed(format!("there is no trunk `{trunk}` that this key sees"));
            let found = found.ok_or_else(missing)?;
            output::line(&if args.api.json { found.to_string() } else { show(&read(found)?) });
        }
    }
    Ok(())
}

fn is(trunk: &Value, wanted: &str) -> bool {
    ["id", "name"].iter().any(|field| trunk.get(field).and_then(Value::as_str) == Some(wanted))
}

fn trunks(page: Page) -> Result<Vec<Trunk>, Failure> {
    page.trunks.into_iter().map(read).collect()
}

fn read(trunk: Value) -> Result<Trunk, Failure> {
    serde_json::from_value(trunk)
        .map_err(|error| Failure::failed("the API tells of trunks in another way").because(error))
}

fn list(trunks: &[Trunk]) -> String {
    let mut table = Columns::new(&["TRUNK", "OF", "ENABLED", "CALLS", "REGISTRATION", "GATEWAYS"]);
    for trunk in trunks {
        let gateways = trunk.gateways.iter().map(|one| format!("{} {}", one.name, one.state));
        table.row([
            trunk.name.clone(),
            owner(trunk).to_owned(),
            yes(trunk.enabled).to_owned(),
            trunk.calls.to_string(),
            trunk.registration.as_ref().map(|own| own.state.clone()).unwrap_or_default(),
            gateways.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.text()
}

fn show(trunk: &Trunk) -> String {
    let registration = trunk.registration.as_ref();
    let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.0}"));
    let facts = columns::facts(&[
        ("trunk", Some(trunk.name.clone())),
        ("id", Some(trunk.id.clone())),
        ("of", Some(owner(trunk).to_owned())),
        ("enabled", Some(yes(trunk.enabled).to_owned())),
        ("calls", Some(trunk.calls.to_string())),
        ("registration", registration.map(|own| own.state.clone())),
        ("registrar", registration.map(|own| own.registrar.clone())),
        ("last status", registration.and_then(|own| own.status).map(|status| status.to_string())),
        ("bound until", time(registration.and_then(|own| own.until))),
        ("asks again", time(registration.and_then(|own| own.next_at))),
    ]);
    if trunk.gateways.is_empty() {
        return facts;
    }
    let mut table = Columns::new(&["GATEWAY", "STATE", "UNTIL"]);
    for gateway in &trunk.gateways {
        let until = time(gateway.until).unwrap_or_default();
        table.row([gateway.name.clone(), gateway.state.clone(), until]);
        for own in &gateway.addresses {
            let until = time(own.until).unwrap_or_default();
            table.row([format!("  {} {}", own.address, own.transport), own.state.clone(), until]);
        }
    }
    format!("{facts}\n\n{}", table.text())
}

const fn is_shared() -> bool {
    true
}

const fn owner(trunk: &Trunk) -> &'static str {
    if trunk.shared { "all tenants" } else { "tenant" }
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
