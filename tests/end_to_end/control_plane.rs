//! Tenants, trunks and numbers made by the API of a running switch, and what calls find of them.

use crate::http;
use crate::http::Answer;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::talk;
use crate::talk::Peer;
use crate::talk::Talk;
use rcgen::generate_simple_self_signed;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;

const NUMBER: &str = "+15550171";
const SEAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A node whose API is asked with a key of the platform's admin.
struct Admin {
    node: Node,
    key: String,
}

impl Admin {
    async fn of(node: Node) -> Self {
        let scope = KeyScope::AllTenants;
        let made = api_keys::create(&node.database(), scope, KeyRole::Admin, "", None).await;
        Self { key: made.unwrap().key.expose().clone(), node }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", format!("Bearer {}", self.key))];
        http::request_with(self.node.http(), (method, path), &headers, &body.to_string()).await
    }

    /// Makes or changes a thing, and waits until routing has it.
    async fn put(&self, method: &str, path: &str, body: Value) -> Value {
        let changes = "routing_changes_total";
        let due = self.node.metric(changes).await + 1;
        let answer = self.send(method, path, &body).await;
        assert!([200, 201].contains(&answer.status), "{method} {path}: {}", answer.body);
        wait_for("the change is in force", async || {
            (self.node.metric(changes).await >= due).then_some(())
        })
        .await;
        answer.json()
    }
}

#[tokio::test]
async fn what_the_api_makes_takes_calls_and_what_it_turns_off_refuses_them() {
    let home = Home::with("127.0.0.1:0", 100, "[secrets]\nkey_ref = \"file:seal.key\"\n");
    home.write("seal.key", SEAL_KEY);
    let admin = Admin::of(home.start().await).await;
    let tenant = admin.put("POST", "/api/v1/tenants", json!({"name": "acme"})).await;
    let path = |rest: &str| format!("/api/v1/tenants/{}/{rest}", tenant["id"].as_str().unwrap());
    let item = |noun: &str, of: &Value| path(&format!("{noun}/{}", of["id"].as_str().unwrap()));
    let profile = json!({
        "name": "Front desk", "system_prompt": "You answer.", "agent": {"kind": "tone"}
    });
    admin.put("POST", &path("ai-profiles"), profile).await;
    let trunk = json!({
        "name": "carrier", "profile": "generic", "secrets": {"password": "hunter2"},
        "overrides": {
            "inbound": {
                "source_cidrs": ["127.0.0.1/32"],
                "digest": {
                    "mode": "never", "username": "u", "password_ref": "sealed:password"
                }
            }
        },
    });
    let trunk = admin.put("POST", &path("trunks"), trunk).await;
    assert!(trunk["last_invite_at"].is_null(), "{trunk}");
    let number = json!({"first_number": NUMBER, "trunk_id": trunk["id"]});
    let number = admin.put("POST", &path("numbers"), number).await;

    let node = &admin.node;
    let call = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    wait_for("the trunk has a call", async || {
        let trunk = node.read(&item("trunks", &trunk), &admin.key).await;
        (trunk["calls"] == 1).then_some(())
    })
    .await;
    assert_eq!(call.hang_up().await.problem, None);
    wait_for("the trunk's last call is told", async || {
        let trunk = node.read(&item("trunks", &trunk), &admin.key).await;
        trunk["last_invite_at"].is_string().then_some(())
    })
    .await;

    let peer = Peer::at("127.0.0.1", node.sip()).await;
    admin.put("PATCH", &item("numbers", &number), json!({"is_active": false})).await;
    assert_eq!(peer.invite(NUMBER).await.refusal(), (404, "number_inactive", false));
    admin.put("PATCH", &item("numbers", &number), json!({"is_active": true})).await;
    let tenant_path = format!("/api/v1/tenants/{}", tenant["id"].as_str().unwrap());
    admin.put("PATCH", &tenant_path, json!({"status": "suspended"})).await;
    assert_eq!(peer.invite(NUMBER).await.refusal(), (403, "tenant_suspended", false));
    admin.put("PATCH", &tenant_path, json!({"status": "active"})).await;
    let again = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    assert_eq!(again.hang_up().await.problem, None);
    assert!(!node.log().contains("hunter2"), "a secret is in the log");
}

#[tokio::test]
async fn with_a_certificate_the_api_speaks_https_and_shows_a_renewed_one() {
    let tls = "[http]\nbind = \"127.0.0.1:0\"\ntls_cert_file = \"api.pem\"\n\
               tls_key_ref = \"file:api.key\"\n";
    let home = Home::new();
    let listener = "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
    let text = home.configuration("database = \"private\"", 100, listener);
    let plain = "http = { bind = \"127.0.0.1:0\" }\n";
    assert!(text.contains(plain), "{text}");
    home.write("tandem.toml", &format!("{}{tls}", text.replace(plain, "")));
    let renew = |home: &Home, name: &str| {
        let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        home.write("api.pem", &made.cert.pem());
        home.write("api.key", &made.signing_key.serialize_pem());
        home.write(name, &made.cert.pem());
    };
    renew(&home, "first.pem");
    let admin = Admin::of(home.start().await).await;
    let url = format!("https://{}", admin.node.http());
    let ask = async |authority: &str| {
        let args = ["tenants", "list", "--api", &url, "--ca-file", authority];
        admin.node.ask(&admin.key, &args).await
    };
    let said = ask("first.pem").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    renew(&admin.node.home, "second.pem");
    admin.node.signal("HUP");
    wait_for("the renewed certificate is shown", async || {
        (ask("second.pem").await.code == Some(0)).then_some(())
    })
    .await;
}
