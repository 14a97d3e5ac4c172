//! API keys, the demo's data, and how a tenant reads its calls.

use crate::postgres;
use crate::rows;
use std::collections::BTreeMap;
use tandem::routing::table::RoutingTable;
use tandem::routing::table::TenantStatus;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::calls;
use tandem::store::calls::CallFilter;
use tandem::store::database::Database;
use tandem::store::demo;
use tandem::store::snapshot;
use tandem::store::statements;
use tandem::types::agent::AgentKind;
use tandem::types::agent::AnswerPolicy;
use tandem::types::id::ApiKeyId;
use tandem::types::id::CallId;
use tandem::types::id::TenantId;

#[tokio::test]
async fn a_key_opens_until_it_is_revoked_or_expires() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let other = rows::tenant(&database, "b").await;
    let scope = KeyScope::Tenant(tenant);
    let made = api_keys::create(&database, scope, KeyRole::Viewer, "x", None).await.unwrap();
    let key = made.key.expose();
    let holder = api_keys::verify_all_tenants(&database, key).await.unwrap().unwrap();
    assert_eq!((holder.id, holder.scope, holder.role), (made.id, scope, KeyRole::Viewer));
    // The key itself is nowhere in the table.
    let stored = format!("SELECT count(*) FROM api_keys k WHERE k::text LIKE '%{}%'", &key[4..20]);
    assert_eq!(postgres::count(&database, &stored).await, 0);

    let of_other = KeyScope::Tenant(other);
    assert!(!api_keys::revoke(&database, of_other, made.id).await.unwrap());
    assert!(api_keys::revoke(&database, scope, made.id).await.unwrap());
    assert!(!api_keys::revoke(&database, scope, made.id).await.unwrap());
    assert_eq!(api_keys::verify_all_tenants(&database, key).await.unwrap(), None);

    let noted = format!(
        "SELECT count(*) FROM audit_log WHERE subject_id = '{}' AND tenant_id = '{tenant}' \
         AND action IN ('create', 'revoke')",
        made.id
    );
    assert_eq!(postgres::count(&database, &noted).await, 2);

    let past = "2020-01-01T00:00:00Z".parse().ok();
    let old = api_keys::create(&database, scope, KeyRole::Admin, "old", past).await.unwrap();
    assert_eq!(api_keys::verify_all_tenants(&database, old.key.expose()).await.unwrap(), None);
}

#[tokio::test]
async fn keys_of_the_operator_open_all_tenants_and_those_of_deleted_tenants_nothing() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scopes = [KeyScope::AllTenants, KeyScope::Tenant(tenant)];
    let mut keys = Vec::new();
    for scope in scopes {
        keys.push(api_keys::create(&database, scope, KeyRole::Admin, "", None).await.unwrap());
    }
    postgres::execute(&database, "UPDATE tenants SET status = 'deleted'").await.unwrap();
    let verified = [
        api_keys::verify_all_tenants(&database, keys[0].key.expose()).await.unwrap(),
        api_keys::verify_all_tenants(&database, keys[1].key.expose()).await.unwrap(),
    ];
    assert_eq!(verified[0].as_ref().map(|holder| holder.scope), Some(KeyScope::AllTenants));
    assert_eq!(verified[1], None);
    let mut wrong = keys[0].key.expose().clone();
    wrong.replace_range(4..8, if wrong[4..8] == *"AAAA" { "BBBB" } else { "AAAA" });
    assert_eq!(api_keys::verify_all_tenants(&database, &wrong).await.unwrap(), None);
}

#[tokio::test]
async fn of_too_many_keys_the_platforms_stay_in_memory_and_the_newest_of_each_tenant() {
    let database = postgres::database().await;
    let platforms = api_keys::create(&database, KeyScope::AllTenants, KeyRole::Admin, "", None);
    let mut expected = vec![platforms.await.unwrap().id];
    let mut newest = Vec::new();
    for name in ["a", "b"] {
        let scope = KeyScope::Tenant(rows::tenant(&database, name).await);
        for _ in 0..4 {
            let made = api_keys::create(&database, scope, KeyRole::Admin, "", None).await.unwrap();
            newest.push(made.id);
        }
    }
    expected.extend([newest[7], newest[3], newest[6], newest[2]]);
    let valid = statements::all().into_iter().find(|sql| {
        sql.contains("FROM api_keys k") && sql.contains("k.hash") && sql.contains("LIMIT $1")
    });
    let mut owner = postgres::owner(&database).await;
    let held: Vec<(uuid::Uuid,)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT id FROM ({}) AS held", valid.unwrap())))
            .bind(5_i64)
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let held: Vec<_> = held.into_iter().map(|(id,)| ApiKeyId::from_uuid(id)).collect();
    assert_eq!(held, expected);
}

#[tokio::test]
async fn the_demo_can_be_seeded_twice_and_routes() {
    let database = postgres::database().await;
    let directory = postgres::Scratch::new();
    for _ in 0..2 {
        demo::seed(&database, directory.path()).await.unwrap();
    }
    let snapshot = snapshot::load_all_tenants(&database, &rows::composer()).await.unwrap();
    assert_eq!(snapshot.faults, []);
    assert_eq!(snapshot.contents.trunks.len(), 2);
    let digest = snapshot.contents.trunks.iter().find_map(|trunk| trunk.digest.clone()).unwrap();
    assert_eq!(digest.username, demo::DIGEST_USER);
    assert!(digest.password.expose().ends_with(demo::PASSWORD_FILE));
    assert_eq!(digest.algorithms.len(), 2);
    let table = RoutingTable::new(snapshot.contents);
    let agents: BTreeMap<u32, String> = (100..=108)
        .map(|number| {
            let row = table.number(format!("+15550{number}").parse().unwrap()).unwrap();
            let profile = table.ai_profile(row.ai_profile.unwrap()).unwrap();
            (number, format!("{:?}", profile.agent.kind))
        })
        .collect();
    let kinds: Vec<&str> = agents.values().map(String::as_str).collect();
    let tone = format!("{:?}", AgentKind::Tone { hz: 440 });
    assert!(kinds[0].starts_with("Script(Receptionist("), "{kinds:?}");
    assert_eq!(kinds[1..], ["Echo", &tone, "Parrot", &tone, "Parrot", "Announce", &tone, kinds[8]]);
    assert!(kinds[8].contains("ws://127.0.0.1:8765/"), "{kinds:?}");
    let number = |text: &str| table.number(text.parse().unwrap()).unwrap();
    let late = table.ai_profile(number("+15550104").ai_profile.unwrap()).unwrap();
    assert!(matches!(late.agent.answer, AnswerPolicy::After(wait) if wait.as_secs() == 6));
    assert!(!number("+15550198").active);
    let suspended = table.tenant(number("+15550199").tenant).unwrap();
    assert_eq!(suspended.status, TenantStatus::Suspended);
    assert!(table.tenant(demo::TENANT).unwrap().default_profile.is_some());
}

async fn call(database: &Database, tenant: TenantId, caller: &str) -> CallId {
    let id = tandem::clock::new_call_id();
    let sql = format!(
        "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, \
             decision, arrived_at) \
         VALUES ('{id}', 1, '{tenant}', 'inbound', 'x', '{caller}', '+15550100', '[]', now())"
    );
    postgres::execute(database, &sql).await.unwrap();
    id
}

#[tokio::test]
async fn calls_come_newest_first_page_by_page() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let other = rows::tenant(&database, "b").await;
    let mut made = Vec::new();
    for index in 0..5 {
        made.push(call(&database, tenant, &format!("+1555000{index}")).await);
        call(&database, other, "+15550009").await;
    }
    made.reverse();
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let filter = CallFilter::default();
        let page = calls::list(&database, tenant, &filter, after, 2).await.unwrap();
        assert!(page.calls.len() <= 2);
        read.extend(page.calls.iter().map(|call| call.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, made);
    let filter = CallFilter {
        caller: Some("+15550003".to_owned()),
        from: "2020-01-01T00:00:00Z".parse().ok(),
        ..CallFilter::default()
    };
    let page = calls::list(&database, tenant, &filter, None, 50).await.unwrap();
    assert_eq!(page.calls.iter().map(|call| call.id).collect::<Vec<_>>(), [made[1]]);
    let filter = CallFilter { until: filter.from, ..CallFilter::default() };
    assert_eq!(calls::list(&database, tenant, &filter, None, 50).await.unwrap().calls, []);
}

#[tokio::test]
async fn a_call_of_another_tenant_is_not_there() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let other = rows::tenant(&database, "b").await;
    let id = call(&database, other, "x").await;
    assert!(calls::get(&database, tenant, id).await.unwrap().is_none());
    let (found, events) = calls::get(&database, other, id).await.unwrap().unwrap();
    assert_eq!((found.id, found.route.tenant, events.len()), (id, Some(other), 0));
    assert!(calls::get_all_tenants(&database, id).await.unwrap().is_some());
}
