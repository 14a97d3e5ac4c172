//! The keys of the API as they stand in memory, so that calls can be steered while the database is away.

use crate::clock;
use crate::store::api_keys;
use crate::store::api_keys::KeyHolder;
use crate::store::changes::FollowStatus;
use crate::store::database;
use crate::store::database::Database;
use crate::store::key_file;
use crate::store::key_file::KeyFile;
use crate::store::key_file::KeyRow;
use crate::store::tenants;
use crate::types::id::ApiKeyId;
use crate::types::id::TenantId;
use crate::types::limit::API_KEYS_HELD_MAX;
use crate::types::limit::KEY_LOOKUPS_MAX;
use crate::types::limit::TENANTS_SEEN_MAX;
use jiff::Timestamp;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the database may take to say whose a key is; then it is asked of what is in memory.
const VERIFY_MAX: Duration = Duration::from_secs(2);

/// How long the disk is waited for.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// Every key that opens something, by its hash; of too many those of the platform, and the newest of each tenant.
///
/// Only the task that follows the database writes it, in the order of the database's changes: a key that
/// was revoked does not come back.
#[derive(Debug)]
pub struct KeyRing {
    keys: RwLock<HashMap<Vec<u8>, Held>>,
    status: Arc<FollowStatus>,
    /// Where they are kept for a start without the database.
    file: Option<Arc<KeyFile>>,
    /// Who asks the database: with connections of the switch itself, of which most are left to it.
    asking: Semaphore,
    /// Tenants that were found: their rows stay, also those of deleted ones.
    tenants: RwLock<HashSet<TenantId>>,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self::new(Arc::default(), None)
    }
}

#[derive(Clone, Debug)]
struct Held {
    holder: KeyHolder,
    expires: Option<Timestamp>,
}

impl Held {
    fn valid(&self) -> Option<KeyHolder> {
        let is_over = self.expires.is_some_and(|expires| expires <= clock::wall_now());
        (!is_over).then(|| self.holder.clone())
    }
}

fn held_of(rows: Vec<KeyRow>) -> HashMap<Vec<u8>, Held> {
    let held = rows.into_iter().filter_map(|row| {
        let holder = api_keys::holder(row.id, row.tenant_id, &row.role)?;
        Some((row.hash, Held { holder, expires: row.expires_at.map(|time| time.0) }))
    });
    held.collect()
}

impl KeyRing {
    /// A ring with the keys of `file`, which is kept up to date, of a node whose step with the database `status` tells.
    /// Blocks.
    #[must_use]
    pub fn new(status: Arc<FollowStatus>, file: Option<PathBuf>) -> Self {
        let rows = file.as_deref().map_or(Ok(Vec::new()), key_file::read);
        let rows = rows.unwrap_or_else(|error| {
            tracing::warn!(%error, "the file of the API's keys cannot be read: until the database answers none opens");
            Vec::new()
        });
        let file = file.map(|path| Arc::new(KeyFile::new(path)));
        let (keys, asking) = (RwLock::new(held_of(rows)), Semaphore::new(KEY_LOOKUPS_MAX));
        Self { keys, status, file, asking, tenants: RwLock::default() }
    }

    /// Who holds `key`. The database is asked while it answers, for it knows of a revocation first; a node
    /// that is cut off answers of what it saw last.
    ///
    /// # Errors
    ///
    /// When the database fails and the key is not in memory.
    pub async fn verify(&self, database: &Database, key: &str) -> sqlx::Result<Option<KeyHolder>> {
        if !self.status.is_in_step()
            && let Some(holder) = self.held(key)
        {
            return Ok(Some(holder));
        }
        match self.asked(api_keys::verify_all_tenants(database, key)).await {
            Ok(holder) => Ok(holder),
            Err(error) => self.held(key).map(Some).ok_or(error),
        }
    }

    /// Who holds the key of this identity, if it opens anything still: what is signed in its name falls with it. Asked
    /// in the same way.
    ///
    /// # Errors
    ///
    /// When the database fails and the key is not in memory.
    pub async fn holder(
        &self,
        database: &Database,
        key: ApiKeyId,
    ) -> sqlx::Result<Option<KeyHolder>> {
        if !self.status.is_in_step()
            && let Some(holder) = self.held_by_id(key)
        {
            return Ok(Some(holder));
        }
        match self.asked(api_keys::holder_all_tenants(database, key)).await {
            Ok(holder) => Ok(holder),
            Err(error) => self.held_by_id(key).map(Some).ok_or(error),
        }
    }

    /// The identity of a key that was seen in the database: enough to pace its requests, and not to let one in.
    #[must_use]
    pub fn known(&self, key: &str) -> Option<ApiKeyId> {
        self.held(key).map(|holder| holder.id)
    }

    /// Whether there is such a tenant, for who opens all; what the database does not say is left to who asks it next.
    pub async fn has_tenant(&self, database: &Database, tenant: TenantId) -> bool {
        let is_seen =
            || self.tenants.read().unwrap_or_else(PoisonError::into_inner).contains(&tenant);
        if is_seen() {
            return true;
        }
        match database::within(VERIFY_MAX, tenants::is_there(database, tenant)).await {
            Ok(false) => false,
            Err(_) => true,
            Ok(true) => {
                let mut seen = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
                if seen.len() >= TENANTS_SEEN_MAX {
                    seen.clear();
                }
                seen.insert(tenant);
                true
            }
        }
    }

    /// Asks the database once it is its turn, all within the time that asking may take.
    async fn asked<T>(&self, look_up: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        let in_turn = async {
            // It is never closed.
            let _turn = self.asking.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            look_up.await
        };
        database::within(VERIFY_MAX, in_turn).await
    }

    fn held(&self, key: &str) -> Option<KeyHolder> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&api_keys::hash(key)).and_then(Held::valid)
    }

    /// Looked for one by one: so is asked only while the database is away.
    fn held_by_id(&self, key: ApiKeyId) -> Option<KeyHolder> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.values().find(|held| held.holder.id == key).and_then(Held::valid)
    }

    /// Reads all keys anew; they are to be written then.
    pub(crate) async fn read(&self, database: &Database) -> sqlx::Result<()> {
        let rows: Vec<KeyRow> = sqlx::query_as(api_keys::VALID)
            .bind(i64::try_from(API_KEYS_HELD_MAX).unwrap_or(i64::MAX))
            .fetch_all(database.node())
            .await?;
        let held = held_of(rows.clone());
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = held;
        if let Some(file) = &self.file {
            file.put(rows);
        }
        Ok(())
    }

    /// Writes the file if it is not as the keys are: at once and until it is, for a key that was revoked is to open
    /// nothing after a start, either. A disk that hangs is not waited for: the database is in order.
    pub(crate) async fn write_file(&self) {
        let Some(file) = self.file.clone().filter(|file| file.waits()) else { return };
        let writing = tokio::task::spawn_blocking(move || file.write());
        if tokio::time::timeout(WRITE_MAX, writing).await.is_err() {
            tracing::error!("the disk takes long to write the file of the API's keys");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::time::Time;
    use uuid::Uuid;

    #[test]
    fn a_key_in_memory_opens_nothing_any_more_once_its_time_is_over() {
        let ring = KeyRing::default();
        let now = clock::wall_now();
        let hour = Duration::from_secs(3_600);
        let keys = [("ever", None), ("still", Some(now + hour)), ("over", Some(now - hour))];
        let ids = keys.map(|_| ApiKeyId::from_uuid(clock::new_uuid()));
        let rows = keys.iter().zip(ids).map(|((key, expires), id)| KeyRow {
            id: id.uuid(),
            tenant_id: Some(Uuid::nil()),
            role: "admin".to_owned(),
            hash: api_keys::hash(key),
            expires_at: expires.map(Time),
        });
        *ring.keys.write().unwrap() = held_of(rows.collect());
        for ((key, _), id) in keys.iter().zip(ids) {
            let expected = (*key != "over").then_some(id);
            assert_eq!(ring.held(key).map(|holder| holder.id), expected, "{key}");
            assert_eq!(ring.held_by_id(id).map(|holder| holder.id), expected, "{key}");
            assert_eq!(ring.known(key), expected, "{key}");
        }
        assert_eq!(ring.known("nobody's"), None);
    }
}
