//! Rows that tests put into the database.

use crate::postgres;
use std::fmt::Write;
use std::sync::Arc;
use tandem::clock;
use tandem::config::profile::Profiles;
use tandem::config::secret::Secrets;
use tandem::store::database::Database;
use tandem::store::snapshot::Composer;
use tandem::types::id::TenantId;
use tandem::types::secret::Secret;
use uuid::Uuid;

pub(crate) async fn tenant(database: &Database, name: &str) -> TenantId {
    let id = clock::new_uuid();
    let sql = format!("INSERT INTO tenants (id, name) VALUES ('{id}', '{name}')");
    postgres::execute(database, &sql).await.unwrap();
    TenantId::from_uuid(id)
}

pub(crate) async fn ai_profile(database: &Database, tenant: TenantId, agent: &str) -> Uuid {
    let id = clock::new_uuid();
    let sql = format!(
        "INSERT INTO ai_profiles (id, tenant_id, name, system_prompt, agent) \
         VALUES ('{id}', '{tenant}', '{id}', 'x', '{agent}')"
    );
    postgres::execute(database, &sql).await.unwrap();
    id
}

pub(crate) fn insert_number(tenant: TenantId, first: &str, last: &str) -> String {
    format!(
        "INSERT INTO phone_numbers (id, tenant_id, first_number, last_number) \
         VALUES ('{}', '{tenant}', '{first}', '{last}')",
        clock::new_uuid()
    )
}

pub(crate) async fn number(database: &Database, tenant: TenantId, number: &str) {
    postgres::execute(database, &insert_number(tenant, number, number)).await.unwrap();
}

pub(crate) async fn trunk(database: &Database, tenant: Option<TenantId>, name: &str) -> Uuid {
    let id = clock::new_uuid();
    let mut owner = "NULL".to_owned();
    if let Some(tenant) = tenant {
        owner.clear();
        write!(owner, "'{tenant}'").unwrap();
    }
    let sql = format!(
        "INSERT INTO trunks (id, tenant_id, name, profile) \
         VALUES ('{id}', {owner}, '{name}', 'generic')"
    );
    postgres::execute(database, &sql).await.unwrap();
    id
}

/// Composes with the built-in profiles; `file:` gives the path itself as the secret.
pub(crate) fn composer() -> Composer {
    let secrets: Arc<dyn Secrets> = Arc::new(PathIsSecret);
    Composer {
        profiles: Profiles::built_in(Arc::clone(&secrets)),
        secrets,
        sealer: Default::default(),
        file_trunks: Vec::new(),
    }
}

struct PathIsSecret;

impl Secrets for PathIsSecret {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Ok(path.to_owned())
    }

    fn sealed(&self, _: &str) -> Option<Secret<String>> {
        None
    }
}
