//! `tandem tenants`: tenants, by the API.

use crate::cli::api::ApiArgs;
use crate::cli::failure::Failure;
use crate::cli::listing;
use crate::cli::listing::Kind;
use crate::cli::listing::PageArgs;
use crate::types::id::TenantId;
use clap::Args;
use clap::Subcommand;
use serde_json::json;

const PATH: &str = "/api/v1/tenants";
const TENANTS: Kind = Kind {
    plural: "tenants",
    columns: &[
        ("ID", "id"),
        ("NAME", "name"),
        ("STATUS", "status"),
        ("PLAN", "plan"),
        ("CALLS MAX", "calls_max"),
        ("CPS MAX", "cps_max"),
    ],
};

/// What to do with tenants.
#[derive(Args, Clone, Debug)]
#[command(after_help = "A key of the platform is needed; that of a tenant shows its tenant.")]
pub(crate) struct TenantsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// All tenants
    List(PageArgs),
    /// One tenant
    Show {
        /// The tenant, by id
        #[arg(value_name = "TENANT")]
        id: TenantId,
    },
    /// Make a tenant
    Create(CreateArgs),
}

#[derive(Args, Clone, Debug)]
struct CreateArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Calls at once; 0: no limit of its own
    #[arg(long, value_name = "N", default_value = "0")]
    calls_max: u32,
    /// New calls a second; 0: no limit of its own
    #[arg(long, value_name = "N", default_value = "0")]
    cps_max: u32,
}

/// Does what is asked of tenants.
///
/// # Errors
///
/// When the API is not reached or refuses.
pub(crate) async fn run(args: TenantsArgs) -> Result<(), Failure> {
    let api = &args.api;
    match &args.command {
        Command::List(page) => listing::list(api, PATH, &TENANTS, page, &[]).await,
        Command::Show { id } => {
            listing::show(api, &api.client()?.get(&format!("{PATH}/{id}")).await?)
        }
        Command::Create(CreateArgs { name, calls_max, cps_max }) => {
            let body = json!({"name": name, "calls_max": calls_max, "cps_max": cps_max});
            listing::show(api, &api.client()?.make(PATH, &body).await?)
        }
    }
}
