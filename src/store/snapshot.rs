//! Reads everything that routing needs, as it stood at one moment.

use crate::config::profile::Profiles;
use crate::config::secret::Secrets;
use crate::routing::table::AiProfile;
use crate::routing::table::Contents;
use crate::routing::table::Trunk;
use crate::store::ai_profiles;
use crate::store::ai_profiles::AiProfileRow;
use crate::store::campaigns;
use crate::store::campaigns::CampaignRow;
use crate::store::database::Database;
use crate::store::numbers;
use crate::store::numbers::NumberRow;
use crate::store::routing_profiles;
use crate::store::routing_profiles::RoutingProfileRow;
use crate::store::seal::Sealer;
use crate::store::tenants;
use crate::store::tenants::TenantRow;
use crate::store::trunks;
use crate::store::trunks::TrunkRow;
use futures_util::TryStreamExt;
use sqlx::Postgres;
use sqlx::Transaction;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What makes rows of the database into things that routing can use.
#[derive(Clone)]
pub struct Composer {
    /// The profiles that trunks of the database extend.
    pub profiles: Profiles,
    /// Where the secrets behind references are.
    pub secrets: Arc<dyn Secrets>,
    /// What seals and opens the secrets of rows.
    pub sealer: Sealer,
    /// The trunks that are profile files; they stand beside those of the database.
    pub file_trunks: Vec<Trunk>,
}

impl fmt::Debug for Composer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composer").field("profiles", &self.profiles).finish_non_exhaustive()
    }
}

/// A row that routing cannot use. The rest of the table works without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table} {id}{name}: {why}")]
pub struct RowFault {
    table: &'static str,
    id: Uuid,
    name: String,
    why: String,
}

impl RowFault {
    pub(crate) fn new(table: &'static str, id: Uuid, name: &str, why: &str) -> Self {
        let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
        Self { table, id, name, why: why.to_owned() }
    }
}

/// A routing table's contents and where they were taken.
#[derive(Debug)]
pub struct Snapshot {
    /// The contents.
    pub contents: Contents,
    /// Up to which change they reach; `None`: unknown, so that following begins with reading all.
    pub seq: Option<i64>,
    /// The rows that were left out.
    pub faults: Vec<RowFault>,
    /// The trunks of the database as they stand there.
    pub(crate) trunk_rows: Vec<TrunkRow>,
}

/// What is known of the database before it is followed.
#[derive(Debug, Default)]
pub struct Known {
    /// Up to which change everything is in force; `None`: everything has to be read.
    pub(crate) seq: Option<i64>,
    /// Its trunks, for a reload of profile files while it is away.
    pub(crate) trunk_rows: Vec<TrunkRow>,
}

impl From<Option<i64>> for Known {
    /// Up to a change, and nothing of trunks.
    fn from(seq: Option<i64>) -> Self {
        Self { seq, trunk_rows: Vec::new() }
    }
}

impl Snapshot {
    /// The contents, and what following begins with.
    #[must_use]
    pub fn split(self) -> (Contents, Known) {
        (self.contents, Known { seq: self.seq, trunk_rows: self.trunk_rows })
    }

    /// What is known without the database and without the table's file: the trunks that are profile
    /// files. Their callers are answered, though no number is known.
    #[must_use]
    pub fn of_files(composer: &Composer) -> Self {
        let mut collected = Collected::new(composer);
        collected.contents.is_trunks_only = true;
        collected.snapshot(None)
    }
}

/// Reads all tenants, profiles, numbers and trunks.
///
/// # Errors
///
/// When the database fails; rows that cannot be used are no error but faults of the snapshot.
pub async fn load_all_tenants(database: &Database, composer: &Composer) -> sqlx::Result<Snapshot> {
    let mut transaction = begin(database).await?;
    let seq = last_seq(&mut transaction).await?;
    let mut collected = Collected::new(composer);
    let mut rows = sqlx::query_as::<_, TenantRow>(tenants::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.tenant(row);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, AiProfileRow>(ai_profiles::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.ai_profile(&row);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, NumberRow>(numbers::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.number(&row);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, TrunkRow>(trunks::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.trunk(row);
    }
    drop(rows);
    let mut rows =
        sqlx::query_as::<_, RoutingProfileRow>(routing_profiles::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.routing_profile(row);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, CampaignRow>(campaigns::ALL).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        collected.campaign(row);
    }
    drop(rows);
    transaction.commit().await?;
    Ok(collected.snapshot(Some(seq)))
}

pub(crate) const READ_ONE_MOMENT: &str =
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
pub(crate) const LAST_SEQ: &str = "SELECT coalesce(max(seq), 0) FROM routing_changes";

/// Begins to read as of one moment, so that rows and sequence number belong together.
pub(crate) async fn begin(database: &Database) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut transaction = database.node().begin().await?;
    sqlx::query(READ_ONE_MOMENT).execute(&mut *transaction).await?;
    Ok(transaction)
}

pub(crate) async fn last_seq(transaction: &mut Transaction<'_, Postgres>) -> sqlx::Result<i64> {
    sqlx::query_scalar(LAST_SEQ).fetch_one(&mut **transaction).await
}

/// Contents in the making, and what had to be left out.
pub(crate) struct Collected<'a> {
    composer: &'a Composer,
    contents: Contents,
    faults: Vec<RowFault>,
    trunk_rows: Vec<TrunkRow>,
}

impl<'a> Collected<'a> {
    pub(crate) fn new(composer: &'a Composer) -> Self {
        let contents = Contents { trunks: composer.file_trunks.clone(), ..Contents::default() };
        Self { composer, contents, faults: Vec::new(), trunk_rows: Vec::new() }
    }

    pub(crate) fn tenant(&mut self, row: TenantRow) {
        match row.tenant() {
            Ok(tenant) => self.contents.tenants.push(tenant),
            Err(fault) => self.faults.push(fault),
        }
    }

    pub(crate) fn ai_profile(&mut self, row: &AiProfileRow) {
        let profile: Result<AiProfile, RowFault> = row.ai_profile(self.composer);
        match profile {
            Ok(profile) => self.contents.ai_profiles.push(profile),
            Err(fault) => self.faults.push(fault),
        }
    }

    pub(crate) fn number(&mut self, row: &NumberRow) {
        match row.number() {
            Ok(number) => self.contents.numbers.push(number),
            Err(fault) => self.faults.push(fault),
        }
    }

    pub(crate) fn trunk(&mut self, row: TrunkRow) {
        match row.trunk(self.composer) {
            Ok(trunk) => self.contents.trunks.push(trunk),
            Err(fault) => self.faults.push(fault),
        }
        self.trunk_rows.push(row);
    }

    pub(crate) fn routing_profile(&mut self, row: RoutingProfileRow) {
        self.contents.routing_profiles.push(row.routing_profile());
    }

    pub(crate) fn campaign(&mut self, row: CampaignRow) {
        match row.campaign() {
            Ok(campaign) => self.contents.campaigns.push(campaign),
            Err(fault) => self.faults.push(fault),
        }
    }

    pub(crate) fn snapshot(self, seq: Option<i64>) -> Snapshot {
        Snapshot { contents: self.contents, seq, faults: self.faults, trunk_rows: self.trunk_rows }
    }
}
