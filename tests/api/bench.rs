//! The interface in this process, with a database of its own and two tenants.

use crate::http;
use crate::http::Answer;
use crate::postgres;
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tandem::api::Context;
use tandem::api::EventHub;
use tandem::api::KeyRate;
use tandem::api::Placing;
use tandem::api::Readiness;
use tandem::api::TokenKeys;
use tandem::clock;
use tandem::config::profile::Profiles;
use tandem::config::secret::LocalSecrets;
use tandem::config::secret::Secrets;
use tandem::engine::registry::Registry;
use tandem::engine::trace::Traces;
use tandem::engine::trunk_states::TrunkStates;
use tandem::routing::admission::NodeLimits;
use tandem::routing::contents::Contents;
use tandem::routing::table::RoutingTable;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::api_keys::NewKey;
use tandem::store::audit_queue::AuditQueue;
use tandem::store::audit_queue::Steered;
use tandem::store::database::Database;
use tandem::store::key_ring::KeyRing;
use tandem::store::seal::Sealer;
use tandem::store::snapshot::Composer;
use tandem::types::id::ApiKeyId;
use tandem::types::id::TenantId;
use tandem::types::limit::AUDIT_WAITING_MAX;
use tandem::types::reach::Reach;
use tandem::types::secret::Secret;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The interface with two tenants, of which the first has three calls.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) database: Database,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) tenants: [TenantId; 2],
    /// Keys of admins: of the first tenant, the second and the operator.
    pub(crate) keys: [String; 3],
    /// What makes rows usable.
    pub(crate) composing: watch::Sender<Composer>,
    audit: AuditQueue,
    _stop: watch::Sender<bool>,
}

/// The line of an admin's key.
fn row_of(made: &NewKey, scope: KeyScope) -> String {
    let tenant = match scope {
        KeyScope::Tenant(tenant) => Some(tenant.uuid()),
        KeyScope::AllTenants => None,
    };
    let hash = digest::digest(&digest::SHA256, made.key.expose().as_bytes());
    let (id, hash) = (made.id.uuid(), hash.as_ref());
    let row =
        json!({"id": id, "tenant_id": tenant, "role": "admin", "hash": hash, "expires_at": null});
    format!("{row}\n")
}

/// A ring that holds the keys of these lines, as a node finds them that starts without its database.
fn ring_of(rows: &str) -> KeyRing {
    let scratch = postgres::Scratch::new();
    let file = scratch.path().join("api-keys.jsonl");
    std::fs::write(&file, rows).unwrap();
    KeyRing::new(Arc::default(), Some(file))
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with_rate(0).await
    }

    /// The same with so many requests a second for each key.
    pub(crate) async fn with_rate(rate: u32) -> Self {
        let database = postgres::database().await;
        Self::on(database.clone(), (rate, false), database).await
    }

    /// The same of a node that has seen its keys in the database.
    pub(crate) async fn with_rate_of_known_keys(rate: u32) -> Self {
        let database = postgres::database().await;
        Self::on(database.clone(), (rate, true), database).await
    }

    /// The same whose audit log is in a database that is away, and has no room any more.
    pub(crate) async fn with_full_audit_log() -> Self {
        let nowhere = Database::at("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let bench = Self::on(postgres::database().await, (0, false), nowhere).await;
        for _ in 0..AUDIT_WAITING_MAX {
            let entry = Steered {
                tenant: bench.tenants[0],
                key: ApiKeyId::from_uuid(clock::new_uuid()),
                action: "hold",
                call: clock::new_call_id(),
                detail: Value::Null,
            };
            bench.audit.note(entry).await;
        }
        bench
    }

    async fn on(
        database: Database,
        (rate, keys_are_known): (u32, bool),
        of_audit: Database,
    ) -> Self {
        let tenants = [tenant(&database, "a").await, tenant(&database, "b").await];
        let (mut keys, mut rows) = (Vec::new(), String::new());
        for scope in
            [KeyScope::Tenant(tenants[0]), KeyScope::Tenant(tenants[1]), KeyScope::AllTenants]
        {
            let made = api_keys::create(&database, scope, KeyRole::Admin, "", None).await.unwrap();
            rows.push_str(&row_of(&made, scope));
            keys.push(made.key.expose().clone());
        }
        let ring = if keys_are_known { ring_of(&rows) } else { KeyRing::default() };
        let draining = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let flag = Arc::clone(&draining);
        let readiness = Arc::new(move || Readiness {
            draining: flag.load(Ordering::Relaxed),
            routing: true,
            database: true,
            journal: true,
            signalling: true,
            media: true,
            calls: 0,
        });
        let table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(Contents::default())));
        let traces = Traces::new(&[], Arc::clone(&table));
        let trunks = TrunkStates::new(table, Registry::new(NodeLimits::default()));
        let secrets: Arc<dyn Secrets> =
            Arc::new(LocalSecrets::new([("CARRIER".to_owned(), "of the node".to_owned())], None));
        let key = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned());
        let composer = Composer {
            profiles: Profiles::built_in(Arc::clone(&secrets)),
            secrets,
            sealer: Sealer::new([&key]).unwrap(),
            file_trunks: Vec::new(),
        };
        let (composing, composer) = watch::channel(composer);
        let audit = AuditQueue::start(of_audit, None, stopping.clone()).0;
        let context = Context {
            database: database.clone(),
            keys: Arc::new(ring),
            metrics: None,
            readiness,
            traces,
            trunks,
            calls: None,
            composer,
            rate: Arc::new(KeyRate::new(rate)),
            origins: ["https://app.example".to_owned()].into(),
            events: EventHub::start(None, stopping.clone()),
            tokens: TokenKeys::default(),
            reach: Arc::new(Reach { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] }),
            agents: Arc::new(Reach::default()),
            audit: audit.clone(),
            placing: Arc::new(Placing::new(clock::new_node_id(), watch::channel(true).1)),
            turns: Arc::default(),
        };
        tokio::spawn(tandem::api::serve(listener, None, context, stopping));
        let keys = keys.try_into().unwrap();
        Self { address, database, draining, tenants, keys, composing, audit, _stop: stop }
    }

    pub(crate) async fn call(&self, tenant: TenantId, caller: &str) -> String {
        let id = clock::new_call_id().to_string();
        let sql = format!(
            "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, \
                                dialled, decision, arrived_at, ended_at, cause, sip_status) \
             VALUES ('{id}', 2, '{tenant}', 'inbound', 'x@y', '{caller}', '15550100', '+15550100', \
                     '[{{\"what\": \"trunk\", \"detail\": \"t\"}}]', now(), now(), 'normal', 200); \
             INSERT INTO call_events (call_id, seq, tenant_id, at, name) \
             VALUES ('{id}', 0, '{tenant}', now(), 'arrived'), ('{id}', 1, '{tenant}', now(), 'ended')"
        );
        postgres::execute(&self.database, &sql).await.unwrap();
        id
    }

    pub(crate) async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let header = key.map(|key| ("authorization", format!("Bearer {key}")));
        http::request(self.address, "GET", path, header.as_slice()).await
    }

    pub(crate) async fn calls(&self, tenant: TenantId, query: &str, key: &str) -> Value {
        let path = format!("/api/v1/tenants/{tenant}/calls{query}");
        let answer = self.get(&path, Some(key)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Another key.
    pub(crate) async fn key(&self, scope: KeyScope, role: KeyRole) -> String {
        let made = api_keys::create(&self.database, scope, role, "", None).await.unwrap();
        made.key.expose().clone()
    }

    /// Sends a JSON body with the key of that place.
    pub(crate) async fn send(
        &self,
        (method, path): (&str, &str),
        key: usize,
        body: &Value,
    ) -> Answer {
        self.send_if((method, path), key, body, None).await
    }

    /// The same under the condition that the thing still has this tag.
    pub(crate) async fn send_if(
        &self,
        (method, path): (&str, &str),
        key: usize,
        body: &Value,
        tag: Option<&str>,
    ) -> Answer {
        let mut headers = vec![("authorization", format!("Bearer {}", self.keys[key]))];
        headers.extend(tag.map(|tag| ("if-match", tag.to_owned())));
        let content = if body.is_null() { String::new() } else { body.to_string() };
        http::request_with(self.address, (method, path), &headers, &content).await
    }

    /// Makes a thing and answers it.
    pub(crate) async fn make(&self, path: &str, key: usize, body: Value) -> Value {
        let answer = self.send(("POST", path), key, &body).await;
        assert_eq!(answer.status, 201, "{path} {body}: {}", answer.body);
        answer.json()
    }

    /// What a GET with the key of that place answers.
    pub(crate) async fn read(&self, path: &str, key: usize) -> Value {
        let answer = self.get(path, Some(&self.keys[key])).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// The path of a thing of one of the tenants.
    pub(crate) fn path(&self, tenant: usize, rest: &str) -> String {
        format!("/api/v1/tenants/{}/{rest}", self.tenants[tenant])
    }
}

/// A tenant by its name.
async fn tenant(database: &Database, name: &str) -> TenantId {
    let id = clock::new_uuid();
    let sql = format!("INSERT INTO tenants (id, name) VALUES ('{id}', '{name}')");
    postgres::execute(database, &sql).await.unwrap();
    TenantId::from_uuid(id)
}

pub(crate) fn ids(page: &Value) -> Vec<&str> {
    page["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap()).collect()
}

/// Every refusal is a problem object.
pub(crate) fn check_error(answer: &Answer, status: u16, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_str()), (status, Some(code)), "{body}");
    static DOCUMENT: LazyLock<Value> = LazyLock::new(tandem::api::openapi::document);
    let codes = &DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert!(codes.as_array().unwrap().contains(&body["code"]), "{code} is not in the document");
    let names = body.as_object().unwrap().keys();
    let known = ["code", "message", "field", "request_id"];
    assert!(names.clone().all(|name| known.contains(&name.as_str())), "{body}");
    assert!(!body["message"].as_str().unwrap().is_empty(), "{body}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
}

/// The same, of a value.
pub(crate) fn check_field(answer: &Answer, status: u16, code: &str, field: &str) {
    check_error(answer, status, code);
    assert_eq!(answer.json()["field"], field, "{}", answer.body);
}
