//! Schemathesis as a client: requests made of the document that the switch serves, good ones and bad ones, are
//! answered as the document says.

use crate::carrier;
use crate::http;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::python;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::process::Stdio;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550136";
const SEAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Requests of each kind that are made for an operation. The more, the longer; the seed is fixed.
const EXAMPLES: &str = "4";
/// The same where there are few operations.
const EXAMPLES_OF_FEW: &str = "12";
/// What is held against each answer. Not among them: that all that fits the document is accepted, for it
/// cannot say which profile, number or trunk there is, nor what goes with what.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method";

/// What ends a tenant or a key, or changes whether a tenant's calls pass.
const ENDS: [&str; 4] =
    ["delete_tenants_one", "patch_tenants_one", "delete_api_keys_one", "post_api_keys_one_rotate"];

/// What ends a call, or may; and how it looks to Twilio's clients, who do the same.
const ENDS_A_CALL: [&str; 3] =
    ["post_tenants_calls_one_hangup", "get_twilio_calls_one", "post_twilio_calls_one"];

/// A client that reads this file of the folder.
fn client(node: &Node, file: &str, key: &str) -> Command {
    let mut command = python::program("schemathesis");
    command.current_dir(node.home.folder()).args(["--config-file", file, "run"]);
    command.arg(format!("http://{}/api/v1/openapi.json", node.http()));
    command.args(["-H", &format!("X-Api-Key: {key}"), "--seed", "20261121", "--no-color"]);
    command.args(["--phases", "examples,fuzzing", "--checks", CHECKS]);
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
    command.args(["--max-examples", EXAMPLES]);
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
    command.args(["--max-examples", EXAMPLES]);
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

#[tokio::test]
async fn a_client_made_of_the_document_commands_a_running_call_and_finds_nothing_either() {
    // Names in made-up addresses are looked up nowhere else: nobody answers there.
    let config = "[secrets]\nkey_ref = \"file:seal.key\"\n[dns]\nservers = [\"127.0.0.1:9\"]\n";
    let home = Home::with("127.0.0.1:0", 100, config);
    home.write("seal.key", SEAL_KEY);
    let node = home.start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "echo"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let scope = KeyScope::AllTenants;
    let made = api_keys::create(&node.database(), scope, KeyRole::Admin, "", None).await;
    let key = made.unwrap().key.expose().clone();
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.duration = PATIENCE * 20;
    let mut talk = Talk::answered(plan).await;
    talk.hear(10).await;
    let tenant = rows::uuid(1).to_string();
    let account = format!("AC{}", tenant.replace('-', ""));
    let running = node.read(&carrier::calls(1, "?live=true"), &key).await;
    let call = running["calls"][0]["id"].as_str().unwrap_or_else(|| panic!("{running}"));
    let call_sid = format!("CA{}", call.replace('-', ""));
    node.home.write(
        "running.toml",
        &format!(
            "[parameters]\n\"path.tenant_id\" = \"{tenant}\"\n\"path.id\" = \"{call}\"\n\
             \"path.account_sid\" = \"{account}\"\n\"path.call_sid\" = \"{call_sid}\"\n\
             [[operations]]\ninclude-path-regex = \"^/2010-04-01/\"\n\
             auth.basic = {{ username = \"{account}\", password = \"{key}\" }}\n"
        ),
    );
    let of_running = || {
        let mut command = client(&node, "running.toml", &key);
        command.args(["--max-examples", EXAMPLES_OF_FEW]);
        command
    };
    let mut steering = of_running();
    steering.args(["--include-path-regex", r"/calls/\{id\}", "--exclude-path-regex", "/events$"]);
    steering.args(["--exclude-operation-id", ENDS_A_CALL[0]]);
    succeeds(steering).await;
    // It is the same call, it goes on, and some of it was done to it.
    let shown = node.read(&carrier::calls(1, &format!("/{call}")), &key).await;
    assert_eq!(shown["live"]["state"], "answered", "{shown}");
    for action in ["hold", "mute", "send_dtmf"] {
        let noted = format!(
            "SELECT count(*) FROM audit_log WHERE action = '{action}' AND subject_id = '{call}'"
        );
        wait_for(action, async || (node.count(&noted).await > 0).then_some(())).await;
    }
    let mut ending = of_running();
    for ends in ENDS_A_CALL {
        ending.args(["--include-operation-id", ends]);
    }
    succeeds(ending).await;
    talk.over().await;
    let record = carrier::shown(&node, 1, call, &key).await;
    assert_eq!((&record["status"], &record["ended_by"]), (&json!("ended"), &json!("operator")));
    assert_eq!(node.metric("api_requests_total{status=\"5xx\"}").await, 0, "{}", node.log());
}
