//! Keys of trunk profiles about the network and the signalling: what is taken, and what it becomes.

#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tandem::config::Config;
use tandem::config::Inputs;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::problem::Problems;
use tandem::config::profile::Profiles;
use tandem::config::profile::TrunkRow;
use tandem::config::secret::LocalSecrets;
use tandem::routing::trunk::Trunk;
use tandem::types::id::TrunkId;

const NODE: &str = r#"database = "private"
[[listener]]
name = "public"
bind = "127.0.0.1:5060"
"#;

fn secrets() -> Arc<LocalSecrets> {
    Arc::new(LocalSecrets::new([], None))
}

/// Loads a node and one profile file.
fn load_profile(text: &str) -> Result<Config, Problems> {
    let files = [("tandem.toml", NODE), ("sip-profiles/x.toml", text)];
    let texts = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    load(&Inputs {
        config: Some("tandem.toml".into()),
        env: Vec::new(),
        files: &Memory(texts.collect()),
        secrets: secrets(),
    })
}

fn compose(profile: &str, overrides: &Value) -> Result<Trunk, Problems> {
    Profiles::built_in(secrets()).compose(&TrunkRow {
        id: TrunkId::from_uuid(uuid::Uuid::from_u128(1)),
        name: "row",
        tenant: None,
        enabled: true,
        profile,
        overrides,
        sealed: std::collections::BTreeMap::new(),
    })
}

#[test]
fn keys_that_never_did_anything_are_unknown_keys() {
    let text = "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\n\
                [network]\nnat = \"none\"\n\
                [registration]\ngin = false\n\
                [calls]\nforking = \"follow_last_18x\"\n\
                [options]\nanswer_inbound = true\n\
                [rest]\nkind = \"x\"\n\
                [numbers]\ncanonical = \"e164\"\n";
    let problems = load_profile(text).unwrap_err().to_string();
    for problem in [
        "x.toml:5:1: there is no key `network.nat`",
        "x.toml:7:1: there is no key `registration.gin`",
        "x.toml:9:1: there is no key `calls.forking`",
        "x.toml:11:1: there is no key `options.answer_inbound`",
        "x.toml:12:2: there is no key `rest`",
        "x.toml:15:1: there is no key `numbers.canonical`",
    ] {
        assert!(problems.contains(problem), "{problem} in {problems}");
    }
}

#[test]
fn a_trunk_may_be_told_another_address_of_ours_than_the_listeners() {
    let advertised = |text: &str| {
        let overrides = json!({
            "inbound": { "source_cidrs": ["192.0.2.1"] }, "network": { "advertise_sip": text },
        });
        compose("generic", &overrides)
            .map(|trunk| trunk.path.advertised.map(|own| (own.host.clone(), own.port)))
    };
    let is = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(advertised("auto").unwrap(), None);
    assert_eq!(advertised("sbc.example").unwrap(), is("sbc.example", None));
    assert_eq!(advertised("203.0.113.7:5070").unwrap(), is("203.0.113.7", Some(5070)));
    assert_eq!(advertised("2001:db8::7").unwrap(), is("[2001:db8::7]", None));
    for bad in ["", "0.0.0.0", "a b", "sbc.example:x", "sip:sbc.example"] {
        let problems = advertised(bad).unwrap_err().to_string();
        assert!(problems.contains("`network.advertise_sip`: "), "{problems}");
    }
}

#[test]
fn keep_alives_and_traffic_classes_are_what_the_profile_says() {
    let trunk = |network: Value| {
        let overrides = json!({ "inbound": { "source_cidrs": ["192.0.2.1"] }, "network": network });
        compose("generic", &overrides)
    };
    let plain = trunk(json!({})).unwrap();
    assert_eq!((plain.path.datagram_keepalive, plain.media.dscp), (None, 46));
    let keepalive = json!({ "tcp_crlf_s": 40, "udp_s": 25 });
    let own = trunk(json!({ "keepalive": keepalive, "dscp": { "rtp": 34 } })).unwrap();
    assert_eq!(own.path.datagram_keepalive, Some(Duration::from_secs(25)));
    assert_eq!((own.path.keepalive, own.media.dscp), (Some(Duration::from_secs(40)), 34));
    let problems = |dscp: Value| trunk(json!({ "dscp": dscp })).unwrap_err().to_string();
    assert!(problems(json!({ "rtp": 64 })).contains("`network.dscp.rtp` is a whole number"));
    // That of SIP is the listener's: its sockets serve every trunk.
    assert!(problems(json!({ "sip": 24 })).contains("there is no key `network.dscp.sip`"));
}

#[test]
fn callers_are_known_by_names_and_hosts_as_the_profile_says() {
    let trunk = |inbound: Value| compose("generic", &json!({ "inbound": inbound }));
    let hosts = json!(["sip.example", "[2001:db8::7]", "192.0.2.1"]);
    let named = trunk(json!({
        "source_cidrs": [], "source_dns": ["SIP.carrier.example"], "accept_ruri_hosts": hosts
    }));
    let named = named.unwrap();
    assert_eq!(named.source_names, ["sip.carrier.example"]);
    assert!(named.sources.is_empty() && named.request_hosts.len() == 3);
    let problems = |inbound: Value| trunk(inbound).unwrap_err().to_string();
    let empty = problems(json!({ "source_cidrs": [] }));
    assert!(empty.contains("needs `inbound.source_cidrs`: nobody can call by it"), "{empty}");
    for bad in ["192.0.2.1", "a b", "", "sip.example:5060"] {
        let found = problems(json!({ "source_dns": [bad] }));
        assert!(found.contains("is no name in DNS"), "{bad}: {found}");
    }
    let found = problems(json!({ "accept_ruri_hosts": ["sip.example:5060"] }));
    assert!(found.contains("is no host"), "{found}");
    let many: Vec<String> = (0..17).map(|number| format!("s{number}.example")).collect();
    let found = problems(json!({ "source_dns": many }));
    assert!(found.contains("more than 16 names"), "{found}");
}

#[test]
fn the_signalling_of_calls_is_stored_unless_the_profile_says_otherwise() {
    let stored = |calls: serde_json::Value| {
        let overrides = json!({ "inbound": { "source_cidrs": ["192.0.2.1"] }, "calls": calls });
        compose("generic", &overrides).unwrap().stores_traces
    };
    assert!(stored(json!({})));
    assert!(!stored(json!({ "trace": "memory" })));
}

#[test]
fn a_hold_is_said_as_the_profile_says() {
    let silent = |calls: serde_json::Value| {
        let overrides = json!({ "inbound": { "source_cidrs": ["192.0.2.1"] }, "calls": calls });
        compose("generic", &overrides).unwrap().media.silent_hold
    };
    assert!(!silent(json!({})));
    assert!(silent(json!({ "hold": "inactive" })));
}
