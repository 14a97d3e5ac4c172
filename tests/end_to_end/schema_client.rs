//! Schemathesis as a client: requests made of the document that the switch serves, good ones and bad ones, are
//! answered as the document says.

use crate::http;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::python;
use serde_json::json;
use std::process::Stdio;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tokio::time::timeout;

const SEAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Requests of each kind that are made for an operation. The more, the longer; the seed is fixed.
const EXAMPLES: &str = "4";
/// What is held against each answer. Not among them: that all that fits the document is accepted, for it
/// cannot say which profile, number or trunk there is, nor what goes with what.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method";

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
    let mut command = python::program("schemathesis");
    command.current_dir(node.home.folder()).args(["--config-file", "schemathesis.toml", "run"]);
    command.arg(format!("http://{}/api/v1/openapi.json", node.http()));
    command.args(["-H", &format!("X-Api-Key: {key}"), "--seed", "20261121", "--no-color"]);
    command.args(["--phases", "examples,fuzzing", "--max-examples", EXAMPLES, "--checks", CHECKS]);
    command.args(["--generation-database", "none", "--no-shrink", "--warnings", "off"]);
    // Events never end; and tenant and key are to stay until the end.
    command.args(["--exclude-path-regex", "/events$"]);
    for kept in [
        "delete_tenants_one",
        "patch_tenants_one",
        "delete_api_keys_one",
        "post_api_keys_one_rotate",
    ] {
        command.args(["--exclude-operation-id", kept]);
    }
    let output = command.stdin(Stdio::null()).output();
    let output = timeout(PATIENCE * 5, output).await.expect("it ends").unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    // It did try: hundreds of requests came, and many were good.
    let (good, bad) = (
        node.metric("api_requests_total{status=\"2xx\"}").await,
        node.metric("api_requests_total{status=\"4xx\"}").await,
    );
    assert!(good > 30 && bad > 150, "{good} good and {bad} bad requests\n{out}");
    assert_eq!(node.metric("api_requests_total{status=\"5xx\"}").await, 0, "{}", node.log());
    let answer = http::request(node.http(), "GET", "/healthz", &[]).await;
    assert_eq!(answer.status, 200);
}
