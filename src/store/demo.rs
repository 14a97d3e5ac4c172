//! The demo's tenants, trunks and numbers: what `tandem demo` can be called at.

use crate::store::database::Database;
use crate::types::id::TenantId;
use serde_json::Value;
use serde_json::json;
use sqlx::Postgres;
use sqlx::Transaction;
use std::path::Path;
use uuid::Uuid;

/// The demo tenant, to whom all numbers but the last belong.
pub const TENANT: TenantId = TenantId::from_uuid(id(1));
/// A suspended tenant, who owns the last number.
pub const SUSPENDED_TENANT: TenantId = TenantId::from_uuid(id(2));
/// User and password of the trunk that challenges.
pub const DIGEST_USER: &str = "demo";
/// The file that holds the password, in the data directory: secrets are given by reference.
pub const PASSWORD_FILE: &str = "demo-digest-password";

/// The content of [`PASSWORD_FILE`]. No secret: the README names it, and only loopback may use it.
const PASSWORD: &str = "demo";

/// An identity that is the same in every demo, so that seeding twice changes nothing.
const fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number)
}

/// Why the demo's data are not there.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The database failed.
    #[error("the demo's tenants and numbers cannot be stored")]
    Database(#[from] sqlx::Error),
    /// The password file cannot be written.
    #[error("{PASSWORD_FILE} cannot be written")]
    Password(#[from] std::io::Error),
}

/// Puts the demo's data into the database, as they should be, whatever is there of them.
///
/// # Errors
///
/// See [`SeedError`]; the database is then as it was.
pub async fn seed(database: &Database, data_dir: &Path) -> Result<(), SeedError> {
    let password_file = data_dir.join(PASSWORD_FILE);
    std::fs::write(&password_file, PASSWORD)?;
    let mut transaction = database.node().begin().await?;
    for (tenant, name, status) in
        [(TENANT, "Demo", "active"), (SUSPENDED_TENANT, "Demo (suspended)", "suspended")]
    {
        sqlx::query(PUT_TENANT)
            .bind(tenant.uuid())
            .bind(name)
            .bind(status)
            .execute(&mut *transaction)
            .await?;
    }
    for (number, name, agent) in profiles() {
        sqlx::query(PUT_PROFILE)
            .bind(id(number))
            .bind(TENANT.uuid())
            .bind(name)
            .bind(number == RECEPTIONIST)
            .bind(agent)
            .execute(&mut *transaction)
            .await?;
    }
    for (number, name, overrides) in trunks(&password_file) {
        sqlx::query(PUT_TRUNK)
            .bind(id(number))
            .bind(name)
            .bind(overrides)
            .execute(&mut *transaction)
            .await?;
    }
    for number in NUMBERS {
        put_number(&mut transaction, number).await?;
    }
    transaction.commit().await?;
    Ok(())
}

const PARROT: u128 = 11;
const ECHO: u128 = 12;
const TONE: u128 = 13;
const LATE_TONE: u128 = 14;
const SHORT: u128 = 15;
const ANNOUNCE: u128 = 16;
const REINVITE: u128 = 17;
const RECEPTIONIST: u128 = 18;
const BOT: u128 = 19;
/// Where the bots of `examples/agents/` listen.
const BOT_URL: &str = "ws://127.0.0.1:8765/";

/// The default comes last: in the database of an earlier demo another one is, until it was put.
fn profiles() -> [(u128, &'static str, Value); 9] {
    [
        (PARROT, "Parrot", json!({"kind": "parrot"})),
        (ECHO, "Echo", json!({"kind": "echo"})),
        (TONE, "Tone", json!({"kind": "tone"})),
        (LATE_TONE, "Tone after ringing", json!({"kind": "tone", "answer": {"after_ms": 6000}})),
        (SHORT, "Hangs up after 3 s", json!({"kind": "parrot", "hangup_after_ms": 3000})),
        (ANNOUNCE, "Announcement", json!({"kind": "announce"})),
        (REINVITE, "Tone with a re-INVITE", json!({"kind": "tone", "reinvite_after_ms": 2000})),
        (BOT, "Bot on this machine", json!({"kind": "twilio", "url": BOT_URL})),
        (RECEPTIONIST, "Receptionist", json!({"kind": "receptionist"})),
    ]
}

/// Two shared trunks. The numbers name none, so both may bring calls for all of them.
fn trunks(password_file: &Path) -> [(u128, &'static str, Value); 2] {
    let password = format!("file:{}", password_file.display());
    let digest = json!({
        "mode": "required", "username": DIGEST_USER, "password_ref": password,
        "realm": "tandem", "algorithms": ["SHA-256", "MD5"]
    });
    let transports = ["udp", "tcp", "tls"];
    // Keys are taken over TLS alone; a plain call stays one.
    let srtp = json!({"policy": "optional"});
    let plain = json!({"source_cidrs": ["127.0.0.1/32"], "transports": transports});
    let challenged =
        json!({"source_cidrs": ["127.0.0.2/32"], "transports": transports, "digest": digest});
    [
        (21, "demo-local", json!({"inbound": plain, "srtp": srtp})),
        (22, "demo-digest", json!({"inbound": challenged, "srtp": srtp})),
    ]
}

/// A number of the demo; `profile` is one of the identities above.
#[derive(Clone, Copy)]
struct DemoNumber {
    id: u128,
    number: &'static str,
    tenant: TenantId,
    profile: Option<u128>,
    active: bool,
}

const fn number(id: u128, number: &'static str, profile: u128) -> DemoNumber {
    DemoNumber { id, number, tenant: TENANT, profile: Some(profile), active: true }
}

const NUMBERS: [DemoNumber; 11] = [
    number(100, "+15550100", RECEPTIONIST),
    number(101, "+15550101", ECHO),
    number(102, "+15550102", TONE),
    number(103, "+15550103", PARROT),
    number(104, "+15550104", LATE_TONE),
    number(105, "+15550105", SHORT),
    number(106, "+15550106", ANNOUNCE),
    number(107, "+15550107", REINVITE),
    number(108, "+15550108", BOT),
    DemoNumber { active: false, ..number(198, "+15550198", PARROT) },
    DemoNumber {
        id: 199,
        number: "+15550199",
        tenant: SUSPENDED_TENANT,
        profile: None,
        active: true,
    },
];

async fn put_number(
    transaction: &mut Transaction<'_, Postgres>,
    row: DemoNumber,
) -> sqlx::Result<()> {
    sqlx::query(PUT_NUMBER)
        .bind(id(row.id))
        .bind(row.tenant.uuid())
        .bind(row.number)
        .bind(row.profile.map(id))
        .bind(row.active)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(crate) const PUT_TENANT: &str = "INSERT INTO tenants (id, name, status) VALUES ($1, $2, $3) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, status = excluded.status";

pub(crate) const PUT_PROFILE: &str = "INSERT INTO ai_profiles (id, tenant_id, name, system_prompt, is_default, agent) \
     VALUES ($1, $2, $3, 'You answer calls of the demo.', $4, $5) \
     ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, name = excluded.name, \
         is_default = excluded.is_default, agent = excluded.agent";

pub(crate) const PUT_TRUNK: &str = "INSERT INTO trunks (id, name, profile, overrides) \
     VALUES ($1, $2, 'generic', $3) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, profile = excluded.profile, \
         overrides = excluded.overrides, enabled = true, tenant_id = NULL";

pub(crate) const PUT_NUMBER: &str = "INSERT INTO phone_numbers \
         (id, tenant_id, first_number, last_number, ai_profile_id, is_active, label) \
     VALUES ($1, $2, $3, $3, $4, $5, 'demo') \
     ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, \
         first_number = excluded.first_number, last_number = excluded.last_number, \
         ai_profile_id = excluded.ai_profile_id, is_active = excluded.is_active, trunk_id = NULL";
