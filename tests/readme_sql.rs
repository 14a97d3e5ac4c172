//! The SQL and the agents that the README shows, in a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/readme.rs"]
mod readme;

use sqlx::AssertSqlSafe;
use std::path::Path;
use std::sync::Arc;
use tandem::config::Inputs;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::secret::LocalSecrets;
use tandem::routing::explain::Question;
use tandem::routing::explain::explain;
use tandem::routing::inbound::Verdict;
use tandem::routing::table::RoutingTable;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyScope;
use tandem::store::snapshot;
use tandem::store::snapshot::Composer;
use tandem::store::snapshot::Snapshot;
use tandem::types::transport::Transport;

/// What routing reads of the database, with the profiles and secrets the README assumes.
async fn load_all(database: &tandem::store::database::Database) -> Snapshot {
    let variables = ["BOT_TOKEN", "AGENT_PASSWORD", "OPENAI_API_KEY"]
        .map(|name| (name.to_owned(), "x".to_owned()));
    let secrets = LocalSecrets::new(variables, None);
    let secrets = Arc::new(secrets);
    let files = Memory::default();
    let inputs = Inputs { config: None, env: Vec::new(), files: &files, secrets: secrets.clone() };
    let profiles = load(&inputs).unwrap().profiles().clone();
    let composer =
        Composer { profiles, secrets, sealer: Default::default(), file_trunks: Vec::new() };
    snapshot::load_all_tenants(database, &composer).await.unwrap()
}

fn inserts() -> String {
    let block = readme::blocks("sql").into_iter().find(|block| block.contains("phone_numbers"));
    block.unwrap()
}

#[tokio::test]
async fn the_rows_of_the_readme_make_a_number_that_can_be_called() {
    let database = postgres::database().await;
    postgres::execute(&database, &inserts()).await.unwrap();
    let snapshot = load_all(&database).await;
    assert!(snapshot.faults.is_empty(), "{:?}", snapshot.faults);
    let question = Question {
        listener: "public".parse().unwrap(),
        transport: Transport::Udp,
        source: "192.0.2.10".parse().unwrap(),
        from: "+15557777".to_owned(),
        to: "00442079460042".to_owned(),
        headers: Vec::new(),
    };
    let (verdict, decision) = explain(&RoutingTable::new(snapshot.contents), &question);
    assert!(matches!(verdict, Verdict::Route(_)), "{decision}");
    let shown = readme::blocks("text").into_iter().find(|block| block.contains("request-uri"));
    let shown = shown.unwrap().replace("table      the database\n", "");
    assert_eq!(decision.to_string().trim_end(), shown.trim_end(), "as the README shows it");
}

/// Without the privileges of a superuser, whom policies do not bind.
#[tokio::test]
async fn the_rows_of_the_readme_can_be_put_in_by_an_ordinary_owner() {
    let database = postgres::database().await;
    let sql = format!(
        "CREATE ROLE readme_owner; GRANT tandem_node, tandem_api TO readme_owner; \
         SET SESSION AUTHORIZATION readme_owner; {}",
        inserts()
    );
    postgres::execute(&database, &sql).await.unwrap();
    assert_eq!(postgres::count(&database, "SELECT count(*) FROM phone_numbers").await, 1);
}

#[tokio::test]
async fn every_agent_of_the_readme_is_one_that_routing_can_use() {
    let database = postgres::database().await;
    postgres::execute(&database, &inserts()).await.unwrap();
    let agents: Vec<_> =
        readme::blocks("json").into_iter().filter(|block| block.contains("\"kind\"")).collect();
    assert!(agents.len() >= 3);
    for (at, agent) in agents.iter().enumerate() {
        let mut connection = postgres::owner(&database).await;
        let insert = "INSERT INTO ai_profiles (id, tenant_id, name, system_prompt, agent) \
                      SELECT gen_random_uuid(), id, $1, 'You answer.', $2::jsonb FROM tenants";
        let query = sqlx::query(AssertSqlSafe(insert)).bind(at.to_string()).bind(agent);
        query.execute(&mut connection).await.unwrap();
    }
    let snapshot = load_all(&database).await;
    assert!(snapshot.faults.is_empty(), "{:?}", snapshot.faults);
    assert_eq!(snapshot.contents.ai_profiles.len(), agents.len() + 1);
}

#[tokio::test]
async fn the_key_that_the_readme_puts_in_opens_its_tenant() {
    let database = postgres::database().await;
    postgres::execute(&database, &inserts()).await.unwrap();
    let blocks = readme::blocks("sh");
    let block = blocks.iter().find(|block| block.contains("INSERT INTO api_keys")).unwrap();
    let sql = readme::between(block, "<<'SQL'\n", "SQL\n").unwrap();
    let key = format!("tdm_{}", "A".repeat(43));
    let tenant = "(SELECT id FROM tenants)";
    let sql = sql.replace(":'key'", &format!("'{key}'")).replace(":'tenant'", tenant);
    postgres::execute(&database, &sql).await.unwrap();
    let holder = api_keys::verify_all_tenants(&database, &key).await.unwrap().unwrap();
    assert!(matches!(holder.scope, KeyScope::Tenant(_)));
    assert_eq!(holder.role.as_str(), "viewer");
}

#[tokio::test]
async fn the_query_for_records_is_one_the_database_understands() {
    let database = postgres::database().await;
    let block = readme::blocks("sql").into_iter().find(|block| block.contains("FROM calls"));
    postgres::execute(&database, &block.unwrap()).await.unwrap();
}

#[test]
fn the_files_that_the_readme_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for scenario in ["basic.xml", "load-calls.xml", "load-signalling.xml", "tone.ulaw"] {
        assert!(root.join("tests/scenarios").join(scenario).is_file(), "{scenario}");
    }
    for file in ["ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", ".env.example"]
    {
        assert!(root.join(file).is_file(), "{file}");
    }
}
