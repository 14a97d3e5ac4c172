//! Schemathesis as a client: requests made of the document that the switch serves, good ones and bad ones, are
//! answered as the document says.

use crate::http;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::python;
use serde_json::Value;
use serde_json::json;
use std::process::Stdio;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tokio::process::Command;
use tokio::time::timeout;

const SEAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Requests of each kind that are made for an operation. The more, the longer; the seed is fixed.
const EXAMPLES: &str = "4";
/// What is held against each answer. Not among them: that all that fits the document is accepted, for it
/// cannot say which profile, number or trunk there is, nor what goes with what.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method";

/// What ends a tenant or a key, or changes whether a tenant's calls pass.
const ENDS: [&str; 4] =
    ["delete_tenants_one", "patch_tenants_one", "delete_api_keys_one", "post_api_keys_one_rotate"];

/// A client that reads this file of the folder.
fn client(node: &Node, file: &str, key: &str) -> Command {
    let mut command = python::program("schemathesis");
    command.current_dir(node.home.folder()).args(["--config-file", file, "run"]);
    command.arg(format!("http://{}/api/v1/openapi.json", node.http()));
    command.args(["-H", &format!("X-Api-Key: {key}"), "--seed", "20261121", "--no-color"]);
    command.args(["--phases", "examples,fuzzing", "--max-examples", EXAMPLES, "--checks", CHECKS]);
    command.args(["--generation-database", "none", "--no-shrink", "--warnings", "off"]);
    command
}

/// Runs it; it finds nothing.
async fn succeeds(mut command: Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = timeout(PATIENCE * 5, output).await.expect("it ends").unwrap();
    let (out, err) = (&output.stdout, &output.stderr);
    let [out, err] = [out, err].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}\n{err}");
}

/// The operations that were left out, with a tenant and keys that nothing else needs.
async fn what_ends_is_tried_too(node: &Node, key: &str) {
    let make = async |path: &str, body: Value| {
        let made = node.post(path, key, &body).await.json();
        made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    };
    let tenant = make("/api/v1/tenants", json!({"name": "ending"})).await;
    let revoked = make("/api/v1/api-keys", json!({"role": "read-only"})).await;
    let rotated = make("/api/v1/api-keys", json!({"role": "read-only"})).await;
    node.home.write(
        "ending.toml",
        &format!(
            "[parameters]\n\"path.tenant_id\" = \"{tenant}\"\n\
             [[operations]]\ninclude-operation-id = \"delete_api_keys_one\"\n\
             parameters = {{ \"path.id\" = \"{revoked}\" }}\n\
             [[operations]]\ninclude-operation-id = \"post_api_keys_one_rotate\"\n\
             parameters = {{ \"path.id\" = \"{rotated}\" }}\n"
        ),
    );
    let mut command = client(node, "ending.toml", key);
    for tried in ENDS {
        command.args(["--include-operation-id", tried]);
    }
    succeeds(command).await;
    // Each came to its good end.
    for (action, subject) in [("revoke", revoked), ("rotate", rotated), ("update", tenant)] {
        let noted = format!(
            "SELECT count(*) FROM audit_log WHERE action = '{action}' AND subject_id = '{subject}'"
        );
        assert!(node.count(&noted).await > 0, "{action}");
    }
}

#[tokio::test]
async fn a_client_made_of_the_document_finds_no_answer_that_is_not_in_it() {
    let home = Home::with("127.0.0.1:0", 100, "[secrets]\nkey_ref = \"file:seal.key\"\n");
    home.write("seal.key", SEAL_KEY);
    let node = home.start().await;
    let scope = KeyScope::AllTenants;
    let made = api_keys::create(&node.database(), scope, KeyRole::Admin, "", None).await;
    let key = made.unwrap().key.expose().clone();
    let made = node.post("/api/v1/tenants", &key, &json!({"name": "schema"})).await.json();
    let tenant = made["id"].as_str().unwrap();
    let account = format!("AC{}", tenant.replace('-', ""));
    // The tenant of the paths is one that is there; other identities are found in answers, or are none.
    node.home.write(
        "schemathesis.toml",
        &format!(
            "[parameters]\n\"path.tenant_id\" = \"{tenant}\"\n\
             \"path.account_sid\" = \"{account}\"\n\
             [[operations]]\ninclude-path-regex = \"^/2010-04-01/\"\n\
             auth.basic = {{ username = \"{account}\", password = \"{key}\" }}\n"
        ),
    );
    let mut command = client(&node, "schemathesis.toml", &key);
    // Events never end; and tenant and key are to stay until the end.
    command.args(["--exclude-path-regex", "/events$"]);
    for kept in ENDS {
        command.args(["--exclude-operation-id", kept]);
    }
    succeeds(command).await;
    // It did try: hundreds of requests came, and many were good.
    let (good, bad) = (
        node.metric("api_requests_total{status=\"2xx\"}").await,
        node.metric("api_requests_total{status=\"4xx\"}").await,
    );
    assert!(good > 30 && bad > 150, "{good} good and {bad} bad requests");
    assert_eq!(node.metric("api_requests_total{status=\"5xx\"}").await, 0, "{}", node.log());
    what_ends_is_tried_too(&node, &key).await;
    assert_eq!(node.metric("api_requests_total{status=\"5xx\"}").await, 0, "{}", node.log());
    let answer = http::request(node.http(), "GET", "/healthz", &[]).await;
    assert_eq!(answer.status, 200);
}
