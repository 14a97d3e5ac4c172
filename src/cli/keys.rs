//! `tandem keys`: API keys, by the API, and the first one in the database.

use crate::cli::api::Answer;
use crate::cli::api::ApiArgs;
use crate::cli::columns;
use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::listing;
use crate::cli::listing::Kind;
use crate::cli::listing::PageArgs;
use crate::cli::output;
use crate::clock;
use crate::config::node::Database as Choice;
use crate::store::api_keys;
use crate::store::api_keys::KeyScope;
use crate::store::database::Database;
use crate::store::private_cluster::PrivateCluster;
use clap::Args;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// How long the database may take to make a key.
const DATABASE_LIMIT: Duration = Duration::from_secs(10);
const WHOSE: &str = "whose? give --tenant ID, or set TANDEM_TENANT, or give --platform";
const NO_ACCOUNT: &str = "an account is a tenant's: give --tenant ID, and no --platform";
const KEYS: Kind = Kind {
    plural: "api_keys",
    columns: &[
        ("ID", "id"),
        ("ROLE", "role"),
        ("LABEL", "label"),
        ("CREATED", "created_at"),
        ("EXPIRES", "expires_at"),
        ("REVOKED", "revoked_at"),
    ],
};

/// What to do with API keys.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Roles: tenant-admin, tenant-operator and read-only; with --platform platform-admin, platform-operator and
read-only. The key is printed once, alone on standard output. With --twilio it is printed as the pair that
clients of Twilio are opened with.

Examples:
  tandem keys create --platform --role platform-admin --in-database
  tandem keys create --role tenant-operator --label dialler
  tandem keys create --role tenant-operator --label bot --twilio
  tandem keys rotate 01980000-0000-7000-8000-000000000000 --keep 3600")]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Keys of the platform, which open every tenant, instead of the tenant's
    #[arg(long, global = true)]
    platform: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The keys there are, without the keys themselves
    List(PageArgs),
    /// Make a key and print it; it is never shown again
    Create(CreateArgs),
    /// Make a key with the rights of another, print it, and end the other one
    Rotate(RotateArgs),
    /// Revoke a key at once
    Revoke {
        /// The key, by id
        #[arg(value_name = "ID")]
        id: Uuid,
    },
}

#[derive(Args, Clone, Debug)]
struct CreateArgs {
    /// What its holder may do
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// A note for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Print it as TWILIO_ACCOUNT_SID=... and TWILIO_AUTH_TOKEN=..., for a bot
    #[arg(long)]
    twilio: bool,
    /// When it stops to open anything, as 2026-12-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// Make it in the database of the configuration, without the API: for the first key
    #[arg(long)]
    in_database: bool,
    /// The configuration file [default: TANDEM_CONFIG, else ./tandem.toml if it is there]
    #[arg(long, value_name = "FILE", requires = "in_database")]
    config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct RotateArgs {
    /// The key, by id
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Seconds for which the old one opens what it did, at most a week
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    keep: u64,
    /// Print it as TWILIO_ACCOUNT_SID=... and TWILIO_AUTH_TOKEN=..., for a bot
    #[arg(long)]
    twilio: bool,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    key: String,
}

/// Does what is asked of keys.
///
/// # Errors
///
/// When the API is not reached or refuses, or the database does.
pub(crate) async fn run(args: KeysArgs) -> Result<(), Failure> {
    let is_pair = match &args.command {
        Command::Create(create) => create.twilio,
        Command::Rotate(rotate) => rotate.twilio,
        Command::List(_) | Command::Revoke { .. } => false,
    };
    if is_pair && (args.platform || args.api.tenant.is_none()) {
        // Before a key is made that is not told.
        return Err(Failure::configuration(NO_ACCOUNT));
    }
    if let Command::Create(create) = &args.command
        && create.in_database
    {
        return create_in_database(&args, create).await;
    }
    let (api, client) = (&args.api, args.api.client()?);
    let path = match args.platform {
        true => "/api/v1/api-keys".to_owned(),
        false if args.api.tenant.is_none() => return Err(Failure::configuration(WHOSE)),
        false => client.of_tenant("api-keys")?,
    };
    match &args.command {
        Command::List(page) => listing::list(api, &path, &KEYS, page, &[]).await,
        Command::Create(create) => {
            let mut body = json!({"role": create.role, "label": create.label});
            if let (Some(expires), Some(members)) = (create.expires, body.as_object_mut()) {
                members.insert("expires_at".to_owned(), json!(expires));
            }
            tell_made(&args, &client.make(&path, &body).await?, create.twilio)
        }
        Command::Rotate(rotate) => {
            let path = format!("{path}/{}/rotate", rotate.id);
            let answer = client.make(&path, &json!({"keep_s": rotate.keep})).await?;
            tell_made(&args, &answer, rotate.twilio)
        }
        Command::Revoke { id } => {
            let answer = client.delete(&format!("{path}/{id}")).await?;
            listing::done(api, &answer, &format!("key {id} is revoked"));
            Ok(())
        }
    }
}

/// A key that the API made.
fn tell_made(args: &KeysArgs, answer: &Answer, is_pair: bool) -> Result<(), Failure> {
    if args.api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let Made { id, key } = answer.read()?;
    tell(args, (&columns::plain(&id), &columns::plain(&key)), is_pair)
}

/// The key alone on standard output, so that a variable may take it.
fn tell(args: &KeysArgs, (id, key): (&str, &str), is_pair: bool) -> Result<(), Failure> {
    if !is_pair {
        output::note(&format!("key {id}; it is shown this once:"));
        output::line(key);
        return Ok(());
    }
    let Some(tenant) = args.api.tenant.filter(|_| !args.platform) else {
        return Err(Failure::configuration(NO_ACCOUNT));
    };
    output::note(&format!("key {id}; its token is shown this once:"));
    output::line(&format!("TWILIO_ACCOUNT_SID={}", tenant.account_sid()));
    output::line(&format!("TWILIO_AUTH_TOKEN={key}"));
    Ok(())
}

/// Makes a key where no key opens the API yet. Whoever reads the configuration has the database anyway.
async fn create_in_database(args: &KeysArgs, create: &CreateArgs) -> Result<(), Failure> {
    let scope = match (args.platform, args.api.tenant) {
        (true, _) => KeyScope::AllTenants,
        (false, Some(tenant)) => KeyScope::Tenant(tenant),
        (false, None) => {
            return Err(Failure::configuration(WHOSE));
        }
    };
    let role = scope.role_of(&create.role).ok_or_else(|| {
        Failure::configuration(format!("--role: `{}` is none; see --help", create.role))
    })?;
    if create.expires.is_some_and(|expires| expires <= clock::wall_now()) {
        return Err(Failure::configuration("--expires: that is over"));
    }
    let database = database(create.config.clone())?;
    let making = api_keys::create(&database, scope, role, &create.label, create.expires);
    let failed = || Failure::failed("the key cannot be made in the database");
    let made = tokio::time::timeout(DATABASE_LIMIT, making).await;
    let made = made.map_err(|error| failed().because(error))?;
    let made = made.map_err(|error| failed().because(error))?;
    if args.api.json {
        let view =
            json!({"id": made.id.to_string(), "role": create.role, "key": made.key.expose()});
        output::line(&view.to_string());
    } else {
        tell(args, (&made.id.to_string(), made.key.expose()), create.twilio)?;
    }
    Ok(())
}

/// The database of the configuration; a private one while its node runs.
fn database(config: Option<PathBuf>) -> Result<Database, Failure> {
    let config = configuration::load(config)?;
    match &config.node().database {
        Some(Choice::Url(url)) => Database::at(url.expose())
            .map_err(|error| Failure::configuration("`database` cannot be used").because(error)),
        Some(Choice::Private) => {
            PrivateCluster::running(&config.node().data_dir).ok_or_else(|| {
                Failure::failed("the private database does not run; it does while the switch runs")
            })
        }
        None => Err(Failure::configuration(configuration::NO_DATABASE)),
    }
}
