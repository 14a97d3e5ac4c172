//! Trunks of the database: rows of `trunks`, each a profile and what differs from it.

use crate::config::problem::Problems;
use crate::config::profile;
use crate::routing::table::Trunk;
use crate::store::api_keys::KeyHolder;
use crate::store::database::Database;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::store::resource::Resource;
use crate::store::resource::change::Draft;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::snapshot::Composer;
use crate::store::snapshot::RowFault;
use crate::store::time::Time;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::reach::Reach;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use uuid::Uuid;

/// A row of `trunks`. Its secrets are references or sealed, so a copy of it on disk tells none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct TrunkRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Option<Uuid>,
    pub(crate) name: String,
    pub(crate) profile: String,
    pub(crate) overrides: serde_json::Value,
    pub(crate) enabled: bool,
    // Files written by an earlier version lack it.
    #[serde(default)]
    pub(crate) sealed: serde_json::Value,
}

pub(crate) const ALL: &str =
    "SELECT id, tenant_id, name, profile, overrides, enabled, sealed FROM trunks";

pub(crate) const SOME: &str = "SELECT id, tenant_id, name, profile, overrides, enabled, sealed FROM trunks WHERE id = ANY($1)";

impl TrunkRow {
    /// The trunk of this row.
    pub(crate) fn trunk(&self, composer: &Composer) -> Result<Trunk, RowFault> {
        self.compose(composer)
            .map_err(|problems| RowFault::new("trunks", self.id, &self.name, &problems.to_string()))
    }

    fn compose(&self, composer: &Composer) -> Result<Trunk, Problems> {
        let row = profile::TrunkRow {
            id: TrunkId::from_uuid(self.id),
            name: &self.name,
            tenant: self.tenant_id.map(TenantId::from_uuid),
            enabled: self.enabled,
            profile: &self.profile,
            overrides: &self.overrides,
            sealed: composer.sealer.open_all(self.id, &self.sealed),
        };
        composer.profiles.compose(&row)
    }
}

/// Judges the trunk that a draft would make, with what is sealed in its row, as it will be made for calls, and where a
/// tenant's requests would go, as far as the text tells.
///
/// # Errors
///
/// The first value that cannot be used, by its path; the others are named in the text.
pub fn check(
    (composer, reach): (&Composer, &Reach),
    tenant: Option<TenantId>,
    draft: &Draft<'_>,
    sealed: &serde_json::Value,
) -> Result<(), Fault> {
    let text = |name| draft.after(name).as_str().unwrap_or_default().to_owned();
    let row = TrunkRow {
        id: draft.id,
        tenant_id: tenant.map(TenantId::uuid),
        name: text("name"),
        profile: text("profile"),
        overrides: draft.after("overrides"),
        // What is left out on creation is enabled.
        enabled: draft.after("enabled").as_bool().unwrap_or(true),
        sealed: sealed.clone(),
    };
    let problems = match row.compose(composer) {
        // One that stands already is judged whenever something is sent: it can be disabled at least.
        Ok(trunk) => {
            let is_given = ["profile", "overrides"].iter().any(|it| draft.given.contains_key(*it));
            return if is_given { judge_peers(&trunk, reach) } else { Ok(()) };
        }
        Err(problems) => problems,
    };
    let messages: Vec<_> = problems.list().iter().map(|one| one.message.as_str()).collect();
    let why = messages.join("; ");
    // A problem names the path of its value first.
    let path = why.split('`').nth(1);
    let field = match path {
        Some(_)
            if why.starts_with("there is no profile") || why.starts_with("the profile names") =>
        {
            "profile".to_owned()
        }
        Some(path) => format!("overrides.{path}"),
        None => "overrides".to_owned(),
    };
    Err(Fault::Invalid { field, why })
}

/// Judges the addresses that a tenant names as its trunk's peers. A name is judged whenever something is sent there.
fn judge_peers(trunk: &Trunk, reach: &Reach) -> Result<(), Fault> {
    if !trunk.path.is_tenants {
        return Ok(());
    }
    let refused = |field: String| move |why: &str| Fault::Invalid { field, why: why.to_owned() };
    for (index, gateway) in trunk.outbound.iter().flat_map(|own| own.gateways.iter().enumerate()) {
        let (name, uri) = match &gateway.proxy {
            Some(proxy) => ("proxy", proxy),
            None => ("uri", &gateway.uri),
        };
        let field = format!("overrides.outbound.gateway[{index}].{name}");
        reach.judge_call(&uri.to_string()).map_err(refused(field))?;
    }
    if let Some(registration) = &trunk.registration {
        let name = if registration.proxy.is_some() { "proxy" } else { "registrar" };
        let field = format!("overrides.registration.{name}");
        reach.judge_call(registration.next_hop()).map_err(refused(field))?;
    }
    Ok(())
}

/// When the newest call of each of these trunks came, as far as the holder may see their calls.
///
/// # Errors
///
/// When the database fails.
pub async fn newest_calls(
    database: &Database,
    holder: &KeyHolder,
    trunks: &[Uuid],
) -> Result<HashMap<Uuid, Timestamp>, Fault> {
    let mut transaction = resource::begin(database, holder, &TRUNKS).await?;
    let found: Vec<(Uuid, Option<Time>)> =
        sqlx::query_as(NEWEST_CALLS).bind(trunks).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(found.into_iter().filter_map(|(id, time)| Some((id, time?.0))).collect())
}

pub(crate) const NEWEST_CALLS: &str = "SELECT t.id, (SELECT c.arrived_at FROM calls c \
         WHERE c.trunk_id = t.id AND c.direction = 'inbound' ORDER BY c.id DESC LIMIT 1) \
     FROM unnest($1::uuid[]) AS t(id)";

/// Trunks as the API manages them.
pub const TRUNKS: Resource = Resource {
    name: "trunk",
    plural: "trunks",
    table: "trunks",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is; null: shared by all.")
            .given(Given::Never)
            .nullable(),
        Field::new(
            "name",
            Kind::Pattern(Form::new(is_name, "^[a-z0-9-]{1,64}$", "1 to 64 of a-z, 0-9 and -")),
            "Its name; no two trunks of a tenant share one, nor two of those that all share. A tenant means its own by it.",
        )
        .given(Given::Required)
        .filter(),
        Field::new(
            "profile",
            Kind::Pattern(Form::new(
                is_profile,
                "^_?[a-z0-9-]{1,64}$",
                "the id of a trunk profile",
            )),
            "The trunk profile it extends. The secrets of the node that it names are not a tenant's: its trunk has \
             its own in `overrides`.",
        )
        .given(Given::Required)
        .filter(),
        Field::new(
            "overrides",
            Kind::Object,
            "What differs from the profile, in the keys of a profile. A secret in it is `sealed:NAME`, one \
             of the trunk's `secrets`.",
        ),
        Field::new("enabled", Kind::Flag, "Whether it carries calls.").filter(),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: true,
    is_switchs: false,
    deactivates: None,
};

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_profile(text: &str) -> bool {
    is_name(text.strip_prefix('_').unwrap_or(text)) && text.len() <= 64
}
