//! Configuration as operators meet it: texts in, a configuration or every problem out.

#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

mod secrets;

use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tandem::config::Config;
use tandem::config::Inputs;
use tandem::config::environment;
use tandem::config::files::Disk;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::node::Database;
use tandem::config::node::UnknownSource;
use tandem::config::problem::Problems;
use tandem::config::profile::Profiles;
use tandem::config::profile::TrunkRow;
use tandem::config::secret::LocalSecrets;
use tandem::config::secret::Opener;
use tandem::routing::numbers::NumberRules;
use tandem::routing::numbers::Rewritten;
use tandem::routing::numbers::RuleText;
use tandem::routing::signalling::Prack;
use tandem::routing::signalling::TimerMethod;
use tandem::routing::signalling::TimerMode;
use tandem::routing::signalling::TimerRefresher;
use tandem::routing::trunk::Trunk;
use tandem::routing::trunk::TrunkSrtp;
use tandem::types::id::TrunkId;
use tandem::types::secret::Secret;
use tandem::types::srtp::SrtpPolicy;
use tandem::types::srtp::SrtpSuite;

const NODE: &str = r#"database = "private"
[[listener]]
name = "public"
bind = "127.0.0.1:5060"
"#;

fn secrets() -> Arc<LocalSecrets> {
    let env = [
        ("TOKEN", "s3cret"),
        ("URL", "postgres://u:hidden@db/x"),
        ("EMPTY", ""),
        ("SEAL_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("OLD_SEAL_KEY", "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="),
        ("OTLP_AUTHORIZATION", "Bearer x"),
        ("RECORDING_KEY", "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8="),
        ("OLD_RECORDING_KEY", "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8="),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let open: Opener = Box::new(|name| (name == "known").then(|| Secret::new("opened".into())));
    Arc::new(LocalSecrets::new(env, Some(open)))
}

fn load_with(files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, Problems> {
    let texts = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    let config = files.iter().any(|(path, _)| *path == "tandem.toml");
    load(&Inputs {
        config: config.then(|| "tandem.toml".into()),
        env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        files: &Memory(texts.collect()),
        secrets: secrets(),
    })
}

/// Loads a node and one profile file.
fn load_profile(text: &str) -> Result<Config, Problems> {
    load_with(&[("tandem.toml", NODE), ("sip-profiles/x.toml", text)], &[])
}

fn problems_of(result: Result<Config, Problems>) -> String {
    match result {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

fn compose(profile: &str, overrides: &serde_json::Value) -> Result<Trunk, Problems> {
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

fn problem_of_row(profile: &str, overrides: &serde_json::Value) -> String {
    match compose(profile, overrides) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

const BAD_NODE: &str = r#"database = "mysql://x"
[[listener]]
name = "public"
bind = "0.0.0.0:5060"
transport = ["udp"]
[[listener]]
name = "Carrier"
bind = "here"
[media]
ports = [16385, 32767]
threads = "many"
[log]
level = "loud"
"#;

const BAD_PROFILE: &str = r#"schema_version = 1
id = "x"
extends = ["generik"]
[inbound]
source_cidrs = ["10.0.0.0/8", "nowhere"]
transport = ["udp"]
[codecs]
  ptime_ms = 25
[numbers]
inbound_called = [{ match = '^(\d+$', to = "+${1}" }, { match = '^1$', to = "${1}" }]
"#;

const EVERY_PROBLEM: &str = r#"sip-profiles/x.toml:3:12: there is no profile `generik`; did you mean `generic`?
    extends = ["generik"]
               ^
sip-profiles/x.toml:5:17: `inbound.source_cidrs[0]`: 10.0.0.0/8 is too wide a network to trust: at most /16, or /32 of IPv6
    source_cidrs = ["10.0.0.0/8", "nowhere"]
                    ^
sip-profiles/x.toml:5:31: `inbound.source_cidrs[1]`: "nowhere" is no network: write 192.0.2.0/24
    source_cidrs = ["10.0.0.0/8", "nowhere"]
                                  ^
sip-profiles/x.toml:6:1: there is no key `inbound.transport`; did you mean `transports`?
    transport = ["udp"]
    ^
sip-profiles/x.toml:8:14: `codecs.ptime_ms` is 10, 20, 30, 40 or 60, not 25
    ptime_ms = 25
               ^
sip-profiles/x.toml:10:29: `numbers.inbound_called[0]`: unclosed group
    inbound_called = [{ match = '^(\d+$', to = "+${1}" }, { match = '^1$', to = "${1}" }]
                                ^
sip-profiles/x.toml:10:77: `numbers.inbound_called[1]`: `match` has no group 1
    inbound_called = [{ match = '^(\d+$', to = "+${1}" }, { match = '^1$', to = "${1}" }]
                                                                                ^
tandem.toml:1:12: `database`: write "private", "postgres://...", "env:NAME" or "file:PATH"
    database = ***
               ^
tandem.toml:4:8: listener `public` binds every address, so it needs `advertise_sip`: the address peers reach it at
    bind = "0.0.0.0:5060"
           ^
tandem.toml:5:1: there is no key `listener[0].transport`; did you mean `transports`?
    transport = ["udp"]
    ^
tandem.toml:7:8: `listener[1].name`: a name has 1 to 64 of the characters a-z, 0-9 and -, or begins with _ for a template
    name = "Carrier"
           ^
tandem.toml:8:8: `listener[1].bind`: "here" is no address and port: write 0.0.0.0:5060
    bind = "here"
           ^
tandem.toml:10:9: `media.ports` begins with an even port: RTP is even, its RTCP the next
    ports = [16385, 32767]
            ^
tandem.toml:11:11: `media.threads` is a whole number from 0 to 256, not text
    threads = "many"
              ^
tandem.toml:13:9: `log.level` is "error", "warn", "info", "debug" or "trace", not "loud"
    level = "loud"
            ^"#;

#[test]
fn every_problem_is_shown_at_once_with_its_line_and_a_caret() {
    let files = [("tandem.toml", BAD_NODE), ("sip-profiles/x.toml", BAD_PROFILE)];
    assert_eq!(problems_of(load_with(&files, &[])), EVERY_PROBLEM);
}

#[test]
fn a_syntax_error_names_its_line() {
    let text = problems_of(load_with(&[("tandem.toml", "database = \n[log]\nlevel = \"x")], &[]));
    assert!(text.contains("tandem.toml:1:"), "{text}");
    assert!(text.contains("tandem.toml:3:"), "{text}");
}

/// Every leaf of a TOML table with a value of another type.
fn wrong_leaves(prefix: &str, table: &toml::Table, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let wrong = match value {
            toml::Value::String(_) => "12345",
            toml::Value::Array(_) | toml::Value::Table(_) => "true",
            _ => "\"text\"",
        };
        found.push((path.clone(), wrong.to_owned()));
        if let toml::Value::Table(inner) = value {
            wrong_leaves(&path, inner, found);
        }
    }
}

#[test]
fn a_wrong_type_of_any_key_is_one_problem_at_its_place() {
    let base = std::fs::read_to_string("sip-profiles/_base.toml").unwrap();
    let base: toml::Table = toml::from_str(&base).unwrap();
    let mut keys = Vec::new();
    wrong_leaves("", &base, &mut keys);
    assert!(keys.len() > 200, "{} keys", keys.len());
    for (path, wrong) in keys {
        // A dotted key keeps each case on one line.
        let mut lines = vec!["schema_version = 1".to_owned(), "id = \"x\"".to_owned()];
        lines.retain(|line| !line.starts_with(&format!("{path} ")));
        lines.push(format!("{path} = {wrong}"));
        let loaded = load_profile(&lines.join("\n"));
        let Err(problems) = loaded else { panic!("{path} = {wrong} was accepted") };
        let [problem] = problems.list() else { panic!("{path}: {problems}") };
        let place = (problem.file.as_str(), problem.line, problem.column);
        assert_eq!(place, ("sip-profiles/x.toml", lines.len(), path.len() + 4), "{problem}");
        assert!(problem.message.contains(&format!("`{path}`")), "{problem}");
    }
}

#[test]
fn the_profiles_of_the_repository_are_right() {
    let config = load(&Inputs {
        config: None,
        env: vec![("TANDEM_PROFILES_DIR".into(), "sip-profiles".into())],
        files: &Disk,
        secrets: secrets(),
    })
    .unwrap();
    let files = std::fs::read_dir("sip-profiles").unwrap().count();
    assert_eq!(config.profiles().ids().count(), files);
    assert!(config.trunks().is_empty(), "carrier profiles are shipped disabled");
    assert!(config.warnings().is_empty());
}

#[test]
fn the_defaults_of_the_base_profile_are_those_of_the_code() {
    let trunk = compose("_base", &json!({ "inbound": { "source_cidrs": ["192.0.2.0/24"] } }));
    let sources = vec!["192.0.2.0/24".parse().unwrap()];
    let id = TrunkId::from_uuid(uuid::Uuid::from_u128(1));
    let expected = Trunk::new(id, "row", sources);
    assert_eq!(format!("{:?}", trunk.unwrap()), format!("{expected:?}"));
}

#[test]
fn an_enabled_profile_is_a_trunk() {
    let config = load_profile(
        r#"schema_version = 1
id = "acme"
extends = ["generic"]
enabled = true
tenant = "01920000-0000-7000-8000-000000000001"
[vars]
net = "198.51.100"
[network]
listener = "public"
remote_media_cidrs = ["{vars.net}.0/24"]
[inbound]
source_cidrs = ["{vars.net}.7"]
require_headers = [{ name = "X-Token", value_ref = "env:TOKEN" }]
response_map = { no_answer = 486 }
digest = { mode = "required", username = "u", password_ref = "sealed:known" }
[limits]
channels = 30
channels_in = 10
"#,
    )
    .unwrap();
    let [trunk] = config.trunks() else { panic!("{:?}", config.trunks()) };
    assert_eq!((trunk.name.as_str(), trunk.enabled), ("acme", true));
    let tenant = trunk.tenant.map(|tenant| tenant.to_string());
    assert_eq!(tenant.as_deref(), Some("01920000-0000-7000-8000-000000000001"));
    assert_eq!(trunk.sources, ["198.51.100.7/32".parse().unwrap()]);
    assert_eq!(trunk.media.remote_cidrs, ["198.51.100.0/24".parse().unwrap()]);
    let header = trunk.required_headers.first().map(|(name, value)| (name.as_str(), value));
    assert_eq!(header, Some(("X-Token", &Secret::new("s3cret".to_owned()))));
    let account = trunk.digest.as_ref().unwrap();
    assert_eq!((account.password.expose().as_str(), account.algorithms.len()), ("opened", 2));
    assert_eq!((trunk.response_map.no_answer, trunk.response_map.busy), (486, 486));
    assert_eq!((trunk.calls_max, trunk.calls_in_max), (30, 10));
    let (called, _) = trunk.called.rewrite("0014155550123");
    assert_eq!(called, Rewritten::Number("+14155550123".parse().unwrap()));
    // The identity of a file's trunk does not change between starts and nodes.
    assert_eq!(trunk.id.to_string(), "696f830b-f275-8277-b806-e97647dee137");
}

#[test]
fn session_timer_and_reliability_of_a_profile_reach_the_trunk() {
    let overrides = json!({
        "inbound": { "source_cidrs": ["192.0.2.0/24"] },
        "session_timer": {
            "mode": "require",
            "expires_s": 900,
            "min_se_s": 300,
            "refresher": "remote",
            "method": "update",
            "reject_422_only_if_peer_supports_timer": false
        },
        "reliability": { "prack": "required", "update": false }
    });
    let signalling = compose("_base", &overrides).unwrap().signalling;
    let timer = signalling.session_timer;
    assert_eq!((timer.mode, timer.refresher), (TimerMode::Require, TimerRefresher::Remote));
    assert_eq!((timer.expires_s, timer.min_se_s), (900, 300));
    assert_eq!((timer.method, timer.spares_old_peers), (TimerMethod::Update, false));
    assert_eq!((signalling.prack, signalling.update), (Prack::Required, false));
    let problems = problem_of_row(
        "_base",
        &json!({
            "inbound": { "source_cidrs": ["192.0.2.0/24"] },
            "session_timer": { "expires_s": 200, "min_se_s": 300 }
        }),
    );
    assert!(problems.contains("`session_timer.expires_s` is below"), "{problems}");
}

#[test]
fn srtp_is_what_the_profile_says() {
    let text = |transports: &str, srtp: &str| {
        format!(
            "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\nenabled = true\n\
             [network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n\
             [inbound]\nsource_cidrs = [\"192.0.2.1\"]\ntransports = [{transports}]\n[srtp]\n{srtp}\n"
        )
    };
    let srtp = |srtp: &str| {
        let config = load_profile(&text("\"udp\"", srtp)).unwrap();
        let [trunk] = config.trunks() else { panic!("{:?}", config.trunks()) };
        trunk.media.srtp.clone()
    };
    assert_eq!(srtp(""), TrunkSrtp::default());
    let own = srtp(
        "policy = \"required\"\nneeds_tls_signalling = false\nsend_mki = true\nsend_lifetime = true\n\
         offer_suites = [\"AEAD_AES_128_GCM\", \"AES_CM_128_HMAC_SHA1_32\"]\n\
         accept_suites = [\"AEAD_AES_128_GCM\", \"AEAD_AES_128_GCM\"]",
    );
    let expected = TrunkSrtp {
        policy: SrtpPolicy::Required,
        suites_offered: vec![SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_32],
        suites: vec![SrtpSuite::AeadAes128Gcm],
        send_mki: true,
        send_lifetime: true,
        needs_tls: false,
    };
    assert_eq!(own, expected);
    assert_eq!(srtp("policy = \"optional\"").policy, SrtpPolicy::Optional);

    let problems = |srtp: &str| problems_of(load_profile(&text("\"udp\", \"tcp\"", srtp)));
    let hopeless = problems("policy = \"required\"");
    assert!(hopeless.contains("every call would be refused"), "{hopeless}");
    let empty = problems("policy = \"optional\"\naccept_suites = []");
    assert!(empty.contains("`srtp.accept_suites` names a suite"), "{empty}");
}

#[test]
fn keys_of_calls_out_mean_nothing_while_the_trunk_calls_nobody() {
    let overrides = json!({
        "inbound": { "source_cidrs": ["192.0.2.1"] },
        "caller_id": { "asserted": "ppi" },
        "security": { "allow_destinations": ["+1"] },
        "registration": { "expires_s": 300 },
        "outbound": { "gateway": [{ "name": "a", "uri": "sip:example.com" }] },
    });
    assert!(compose("generic", &overrides).is_ok());
}

#[test]
fn a_trunk_that_registers_must_be_whole() {
    let text = |registration: &str| {
        format!(
            "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\nenabled = true\n\
             [inbound]\nsource_cidrs = [\"192.0.2.1\"]\n[registration]\nenabled = true\n{registration}"
        )
    };
    let problems = |registration: &str| problems_of(load_profile(&text(registration)));
    let empty = problems("password_ref = \"env:NOBODY\"\n");
    for key in ["registrar", "aor"] {
        let expected = format!("a trunk that registers needs `registration.{key}`");
        assert!(empty.contains(&expected), "{empty}");
    }
    assert!(empty.contains("`registration.password_ref` needs `registration.username`"), "{empty}");
    let whole = "registrar = \"sip:example.com\"\naor = \"sip:u@example.com\"\n";
    assert!(load_profile(&text(whole)).is_ok());
    for (line, expected) in [
        ("gin = true", "x.toml:11:1: there is no key `registration.gin`"),
        ("contact_user = \"a b\"", "is no user of a SIP URI"),
        ("forbidden_retry_s = 0", "`registration.forbidden_retry_s`"),
    ] {
        let found = problems(&format!("{whole}{line}\n"));
        assert!(found.contains(expected), "{found}");
    }
    let swapped = "registrar = \"sip:u@example.com\"\naor = \"sip:example.com\"\n";
    let found = problems(swapped);
    assert!(found.contains("is a domain: leave out the part before @"), "{found}");
    assert!(found.contains("`registration.aor` has a user"), "{found}");
}

#[test]
fn calls_by_the_flow_of_a_registration_need_one() {
    let overrides = json!({
        "inbound": { "source_cidrs": ["192.0.2.1"] },
        "outbound": {
            "enabled": true,
            "via_registered_flow": true,
            "gateway": [{ "name": "a", "uri": "sip:example.com" }],
        },
    });
    let problems = compose("generic", &overrides).unwrap_err().to_string();
    assert!(
        problems.contains("`outbound.via_registered_flow` needs `registration.enabled`"),
        "{problems}"
    );
}

#[test]
fn an_enabled_trunk_must_be_whole() {
    let problems = problems_of(load_profile(
        r#"schema_version = 1
id = "x"
enabled = true
[network]
listener = "publik"
[inbound]
digest = { mode = "required" }
require_headers = [{ name = "X-Token", value_ref = "env:NOBODY" }, { name = "Y" }]
[codecs]
ptime_ms = 60
max_ptime_ms = 20
[numbers]
inbound_called = [{ match = '^(\d{7})$', to = "+1{area_code}${1}" }]
"#,
    ));
    for expected in [
        "x.toml:3:11: an enabled trunk needs `inbound.source_cidrs`: nobody can call by it",
        "x.toml:3:11: warning: `network.remote_media_cidrs` is empty",
        "x.toml:5:12: `network.listener`: there is no listener `publik`; did you mean `public`?",
        "x.toml:3:11: `inbound.digest.mode` is \"required\", so is `inbound.digest.username`",
        "x.toml:3:11: `inbound.digest.mode` is \"required\", so is `inbound.digest.password_ref`",
        "`inbound.require_headers[0].value_ref`: env:NOBODY: the variable is not set",
        "x.toml:8:68: `inbound.require_headers[1]` has a `name` and a `value_ref`",
        "x.toml:11:16: `codecs.max_ptime_ms` is below `codecs.ptime_ms`",
        "x.toml:13:47: `numbers.inbound_called[0]`: `{area_code}` is used, but",
    ] {
        assert!(problems.contains(expected), "{expected}\nis not in\n{problems}");
    }
}

#[test]
fn extends_lays_each_profile_once_and_the_later_wins() {
    let files = [
        ("tandem.toml", NODE),
        (
            "sip-profiles/a.toml",
            "schema_version = 1\nid = \"a\"\nabstract = true\nextends = [\"_base\"]\n\
             [calls]\nring_timeout_s = 11\nmax_duration_s = 22\n",
        ),
        (
            "sip-profiles/b.toml",
            "schema_version = 1\nid = \"b\"\nabstract = true\nextends = [\"_base\"]\n\
             [calls]\nring_timeout_s = 33\n[inbound]\nsource_cidrs = [\"192.0.2.1\"]\n",
        ),
        (
            "sip-profiles/c.toml",
            "schema_version = 1\nid = \"c\"\nenabled = true\nextends = [\"a\", \"b\"]\n\
             [network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n",
        ),
    ];
    let config = load_with(&files, &[]).unwrap();
    let [trunk] = config.trunks() else { panic!("{:?}", config.trunks()) };
    assert_eq!((trunk.ring_timeout.as_secs(), trunk.max_duration.as_secs()), (33, 22));
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_circle_of_extends_is_an_error() {
    let file = |id: &str, extends: &str| {
        format!("schema_version = 1\nid = \"{id}\"\nextends = [\"{extends}\"]\n")
    };
    let (a, b) = (file("a", "b"), file("b", "a"));
    let files = [("tandem.toml", NODE), ("sip-profiles/a.toml", &a), ("sip-profiles/b.toml", &b)];
    let problems = problems_of(load_with(&files, &[]));
    assert!(problems.contains("`extends` goes in a circle: a -> b -> a"), "{problems}");
    let own = problems_of(load_profile(&file("x", "x")));
    assert!(own.contains("`extends` goes in a circle: x -> x"), "{own}");
}

#[test]
fn two_files_with_one_id_and_a_file_without_are_errors() {
    let text = "schema_version = 1\nid = \"same\"\n";
    let files = [
        ("sip-profiles/a.toml", text),
        ("sip-profiles/b.toml", text),
        ("sip-profiles/c.toml", "enabled = false\n"),
    ];
    let problems = problems_of(load_with(&files, &[]));
    assert!(problems.contains("b.toml:2:6: `id` \"same\" is taken by sip-profiles/a.toml"));
    assert!(problems.contains("c.toml:1:1: a profile has an `id`"), "{problems}");
}

#[test]
fn an_unknown_variable_of_a_profile_is_an_error() {
    let problems = problems_of(load_profile(
        "schema_version = 1\nid = \"x\"\ndescription = \"{vars.sbc_ipp}\"\n\
         [vars]\nsbc_ip = \"192.0.2.1\"\n",
    ));
    let expected = "x.toml:3:15: there is no `sbc_ipp` in `[vars]`; did you mean `sbc_ip`?";
    assert!(problems.contains(expected), "{problems}");
}

#[test]
fn a_trunk_of_the_database_extends_a_profile() {
    let trunk = compose(
        "in-plan",
        &json!({
            "numbers": { "area_code": "80" },
            "inbound": { "source_cidrs": ["10.0.76.11/32"], "anonymous": "reject_433" },
            "network": null,
        }),
    )
    .unwrap();
    let (called, rule) = trunk.called.rewrite("68167005");
    assert_eq!((called, rule), (Rewritten::Number("+918068167005".parse().unwrap()), Some(4)));
    assert!(!trunk.anonymous_allowed);
}

#[test]
fn problems_of_a_trunk_of_the_database_name_it_and_the_key() {
    let check = |profile: &str, overrides: serde_json::Value, expected: &str| {
        assert_eq!(problem_of_row(profile, &overrides), expected);
    };
    check("genric", json!({}), "trunk row: there is no profile `genric`; did you mean `generic`?");
    check("generic", json!([1]), "trunk row: overrides are an object");
    check(
        "generic",
        json!({ "id": "x" }),
        "trunk row: `id` belongs to the trunk, not to its overrides",
    );
    check(
        "generic",
        json!({ "codecs": { "ptime_ms": 25 } }),
        "trunk row: `codecs.ptime_ms` is 10, 20, 30, 40 or 60, not 25",
    );
    check(
        "generic",
        json!({ "srtp": { "policy": "dtls" } }),
        "trunk row: `srtp.policy` is \"off\", \"optional\" or \"required\", not \"dtls\"",
    );
    let nobody = "trunk row: an enabled trunk needs `inbound.source_cidrs`: nobody can call by it";
    let problems = problem_of_row("_base", &json!({}));
    assert!(problems.starts_with(nobody), "{problems}");
}

#[test]
fn indian_numbers_read_as_the_plan_says() {
    let plan = std::fs::read_to_string("sip-profiles/in-plan.toml").unwrap();
    let plan: toml::Table = toml::from_str(&plan).unwrap();
    let rules = |list: &str| {
        let texts: Vec<RuleText> = plan["numbers"][list]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| RuleText {
                pattern: rule["match"].as_str().unwrap().into(),
                to: rule["to"].as_str().unwrap().into(),
            })
            .collect();
        NumberRules::compile(&texts, "80").unwrap()
    };
    let check = |list: &str, from: &[&str], expected: &str| {
        for from in from {
            let text = rules(list).apply(from).map(|(_, text)| text);
            assert_eq!(text.as_deref(), Some(expected), "{list} of {from}");
        }
    };
    let mobile = ["9876543210", "09876543210", "919876543210", "+919876543210", "00919876543210"];
    check("inbound_calling", &mobile, "+919876543210");
    check("inbound_calling", &["9180123456"], "+919180123456");
    check("inbound_calling", &["0014155550123", "+14155550123"], "+14155550123");
    check("inbound_calling", &["Anonymous", "UNKNOWN"], "anonymous");
    check("inbound_calling", &["1401234567"], "+911401234567");
    check("inbound_calling", &["1600112345"], "+911600112345");
    let pilot = ["8068167005", "68167005", "+918068167005"];
    check("inbound_called", &pilot, "+918068167005");
    check("outbound_called", &["+919876543210"], "09876543210");
    check("outbound_called", &["+911141234567"], "01141234567");
    check("outbound_called", &["+911800123456"], "1800123456");
    check("outbound_called", &["+14155550123"], "0014155550123");
    check("outbound_calling", &["+918068167000"], "8068167000");
}

#[test]
fn the_generic_rules_take_numbers_with_and_without_plus() {
    let overrides = json!({ "inbound": { "source_cidrs": ["192.0.2.1"] } });
    let trunk = compose("generic", &overrides).unwrap();
    let expected = Rewritten::Number("+15550100".parse().unwrap());
    for text in ["+15550100", "15550100", "0015550100"] {
        assert_eq!(trunk.called.rewrite(text).0, expected, "{text}");
        assert_eq!(trunk.calling.rewrite(text).0, expected, "{text}");
    }
    assert_eq!(trunk.called.rewrite("alice").0, Rewritten::Unusable);
    assert_eq!(trunk.calling.rewrite("Restricted").0, Rewritten::Anonymous);
}

#[test]
fn a_node_reads_as_written() {
    let node = r#"database = "env:URL"
data_dir = "/var/lib/tandem"
[[listener]]
name = "public"
bind = "0.0.0.0:5060"
advertise_sip = "sip.example.com:5080"
advertise_rtp = "203.0.113.10"
unknown_source = "refuse"
dscp = 24
[[listener]]
name = "inside"
bind = "[::1]:5060"
transports = ["tcp"]
[media]
ports = [20000, 20999]
threads = 2
realtime = false
[limits]
calls = 400
cps = 20
"#;
    let config = load_with(&[("tandem.toml", node)], &[]).unwrap();
    let node = config.node();
    let url = Secret::new("postgres://u:hidden@db/x".to_owned());
    assert_eq!(node.database, Some(Database::Url(url)));
    let [public, inside] = node.listeners.as_slice() else { panic!("{:?}", node.listeners) };
    assert_eq!(public.advertise_host, "sip.example.com");
    assert_eq!((public.advertise_port, public.transports.len()), (Some(5080), 2));
    assert_eq!(public.advertise_rtp.to_string(), "203.0.113.10");
    assert_eq!(public.unknown_source, UnknownSource::Refuse);
    assert_eq!((public.dscp, inside.dscp), (24, 0));
    assert_eq!((inside.advertise_host.as_str(), inside.advertise_port), ("[::1]", None));
    assert_eq!(inside.advertise_rtp.to_string(), "::1");
    assert_eq!((node.media.ports.clone(), node.media.threads), (20000..=20999, Some(2)));
    assert_eq!((node.limits.calls_max, node.limits.cps_max), (400, 20));
    assert_eq!(node.sip_shards, None);
    assert!(config.warnings().is_empty() && config.check_can_run().is_ok());
}

#[test]
fn listeners_that_cannot_both_be_bound_are_an_error() {
    let check = |second: &str, expected: Option<&str>| {
        let node = format!("{NODE}[[listener]]\n{second}");
        let problems = problems_of(load_with(&[("tandem.toml", &node)], &[]));
        assert!(problems.contains(expected.unwrap_or("no problem")), "{second}: {problems}");
    };
    let taken = Some("listener `public` binds this address too");
    check("name = \"b\"\nbind = \"127.0.0.1:5060\"\n", taken);
    check("name = \"b\"\nbind = \"0.0.0.0:5060\"\nadvertise_sip = \"192.0.2.1\"\n", taken);
    check("name = \"b\"\nbind = \"127.0.0.1:5061\"\n", None);
    check("name = \"b\"\nbind = \"127.0.0.2:5060\"\n", None);
    check(
        "name = \"public\"\nbind = \"127.0.0.2:5060\"\n",
        Some("a second listener with the name"),
    );
    check("name = \"b\"\nbind = \"127.0.0.2:5060\"\ntransports = []\n", Some("speaks nothing"));
    let both = "name = \"b\"\nbind = \"127.0.0.2:5061\"\ntransports = [\"tcp\", \"tls\"]\n";
    check(both, Some("tcp and tls cannot share a port; give tls a listener of its own"));
    let tls = "name = \"b\"\nbind = \"127.0.0.1:5060\"\ntransports = [\"tls\"]\n";
    check(tls, Some("speaks tls, so it needs `tls_cert_file`"));
    let name = "name = \"b\"\nbind = \"0.0.0.0:1\"\nadvertise_sip = \"sip.example.com\"\n";
    check(name, Some("so it needs `advertise_rtp`"));
    check("bind = \"127.0.0.2:5060\"\n", Some("`listener[1]` has no `name`"));
}

#[test]
fn what_is_odd_but_possible_is_a_warning() {
    let node = format!("{NODE}[http]\nbind = \"0.0.0.0:8080\"\n[media]\nports = [20000, 20009]\n");
    let config = load_with(&[("tandem.toml", &node)], &[("TANDEM_MEDIA_PORT", "1")]).unwrap();
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    let all = warnings.join("\n");
    assert_eq!(warnings.len(), 3, "{all}");
    assert!(all.contains("tandem.toml:6:8: warning: `http.bind` is not on loopback"), "{all}");
    assert!(all.contains("`media.ports` has room for 5 calls only"), "{all}");
    assert!(all.contains("TANDEM_MEDIA_PORT: warning") || all.contains("TANDEM_MEDIA_PORT:1:1"));
    assert!(all.contains("did you mean TANDEM_MEDIA_PORTS?"), "{all}");
}

#[test]
fn a_node_without_database_or_listener_loads_but_cannot_run() {
    let config = load_with(&[], &[]).unwrap();
    let missing = config.check_can_run().unwrap_err().to_string();
    assert!(missing.contains("no database") && missing.contains("no listener"), "{missing}");
}

#[test]
fn variables_outrank_the_file() {
    let env = [
        ("TANDEM_HTTP_BIND", "127.0.0.1:9000"),
        ("TANDEM_MEDIA_PORTS", "30000-30999"),
        ("TANDEM_MEDIA_REALTIME", "false"),
        ("TANDEM_LISTENER_PUBLIC_BIND", "127.0.0.1:5070"),
        ("TANDEM_LISTENER_CARRIER_MPLS_BIND", "127.0.0.3:5060"),
        ("TANDEM_LISTENER_CARRIER_MPLS_TRANSPORTS", "udp"),
        ("TANDEM_CONFIG", "x"),
        ("PATH", "/bin"),
    ];
    let config = load_with(&[("tandem.toml", NODE)], &env).unwrap();
    let node = config.node();
    assert_eq!((node.http.bind.port(), node.media.ports.clone()), (9000, 30000..=30999));
    assert!(!node.media.realtime);
    let listeners: Vec<String> = node
        .listeners
        .iter()
        .map(|l| format!("{} {} {}", l.name, l.bind, l.transports.len()))
        .collect();
    assert_eq!(listeners, ["public 127.0.0.1:5070 2", "carrier-mpls 127.0.0.3:5060 1"]);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_wrong_variable_is_named() {
    let env = [
        ("TANDEM_MEDIA_PORTS", "many"),
        ("TANDEM_LIMITS_CALLS", "-1"),
        ("TANDEM_LOG_LEVEL", "loud"),
        ("TANDEM_LISTENER_PUBLIC_TRANSPORTS", "udp,sctp"),
        ("TANDEM_DATABASE", "oracle://tiger"),
    ];
    let problems = problems_of(load_with(&[("tandem.toml", NODE)], &env));
    for expected in [
        "TANDEM_MEDIA_PORTS:1:1: `media.ports` is two numbers from 1024 to 65535, the lower first",
        "TANDEM_LIMITS_CALLS:1:1: `limits.calls` is a whole number from 0 to 1000000, not -1",
        "TANDEM_LOG_LEVEL:1:1: `log.level` is",
        "TANDEM_LISTENER_PUBLIC_TRANSPORTS:1:1: `listener[0].transports[1]` is",
        "TANDEM_DATABASE:1:1: `database`: write",
    ] {
        assert!(problems.contains(expected), "{expected}\nis not in\n{problems}");
    }
    assert!(!problems.contains("tiger"), "{problems}");
}

#[test]
fn the_api_speaks_tls_with_a_certificate_and_its_key_and_knows_origins() {
    let files = Certificates::new();
    let check = |more: &str, expected: &str| {
        let problems =
            problems_of(load_with(&[("tandem.toml", &format!("{NODE}[http]\n{more}"))], &[]));
        assert!(problems.contains(expected), "{more}: {problems}");
    };
    let pair = |certificate, key| {
        let (certificate, key) = (files.path(certificate), files.path(key));
        format!("tls_cert_file = \"{certificate}\"\ntls_key_ref = \"file:{key}\"\n")
    };
    check(&pair("good.pem", "good.key"), "no problem");
    check(&pair("good.pem", "old.key"), "`http.tls_key_ref`: the private key is not");
    check(&pair("none.pem", "good.key"), "`http.tls_cert_file`: ");
    check("tls_cert_file = \"x\"", "`http.tls_cert_file` and `http.tls_key_ref` go together");
    check("tls_key_ref = \"env:TOKEN\"", "`http.tls_cert_file` and `http.tls_key_ref` go together");
    check("[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::35]:5353\"]", "no problem");
    for server in ["dns.example", "192.0.2.53:", "0.0.0.0", "192.0.2.53:0", ""] {
        check(&format!("[dns]\nservers = [\"{server}\"]"), "is no DNS server");
    }
    for good in ["", "https://tandem.example", "http://192.0.2.1:8080/api/"] {
        check(&format!("public_url = \"{good}\""), "no problem");
    }
    for wrong in
        ["tandem.example", "https://", "https:///x", "https://a b", "https://a?b", "ftp://a"]
    {
        check(&format!("public_url = \"{wrong}\""), "is no address");
    }
    check("cors_origins = [\"https://app.example:8443\", \"http://[::1]\"]", "no problem");
    for origin in ["*", "app.example", "https://app.example/", "https://", "https://App.example"] {
        check(&format!("cors_origins = [\"{origin}\"]"), "is no origin");
    }
}

#[test]
fn what_seals_secrets_is_a_key_of_256_bits() {
    let with =
        |reference| load_with(&[("tandem.toml", NODE)], &[("TANDEM_SECRETS_KEY_REF", reference)]);
    let problems = problems_of(with("env:TOKEN"));
    assert!(problems.contains("`secrets.key_ref`: env:TOKEN holds no key: 32"), "{problems}");
    assert!(!problems.contains("s3cret"), "{problems}");
    assert!(
        problems_of(with("env:NONE")).contains("`secrets.key_ref`: env:NONE: the variable is not")
    );
    // What opens sealed secrets cannot be one of them.
    for wrong in ["hunter2", "sealed:known"] {
        let problems = problems_of(with(wrong));
        assert!(problems.contains("\"env:NAME\" or \"file:PATH\""), "{problems}");
        assert!(!problems.contains("sealed") && !problems.contains("hunter2"), "{problems}");
    }
    assert_eq!(with("env:SEAL_KEY").unwrap().node().seal_keys.len(), 1);
    let recording = |reference| {
        load_with(&[("tandem.toml", NODE)], &[("TANDEM_RECORDINGS_KEY_REF", reference)])
    };
    let problems = problems_of(recording("env:TOKEN"));
    assert!(problems.contains("`recordings.key_ref`: env:TOKEN holds no key: 32"), "{problems}");
    let read = recording("env:RECORDING_KEY").unwrap();
    assert_eq!((read.node().recordings.keys.len(), read.node().seal_keys.len()), (1, 0));
    let dir = &read.node().recordings.dir;
    assert!(dir.ends_with("data/recordings"), "{}", dir.display());
}

#[test]
fn the_example_environment_has_every_variable_and_is_accepted() {
    let text = std::fs::read_to_string(".env.example").unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let env: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').unwrap()).collect();
    let mut names: Vec<&str> = env.iter().map(|(name, _)| *name).collect();
    let mut all = environment::variables();
    names.sort_unstable();
    all.sort_unstable();
    assert_eq!(names, all);
    let profiles = [("sip-profiles/x.toml", "schema_version = 1\nid = \"x\"\n")];
    let config = load_with(&profiles, &env).unwrap();
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    assert!(config.check_can_run().is_ok());
    for (name, value) in env {
        let alone =
            load_with(&profiles, &[("TANDEM_LISTENER_PUBLIC_BIND", "127.0.0.1:0"), (name, value)]);
        if name != "TANDEM_LISTENER_PUBLIC_BIND" {
            assert!(alone.is_ok(), "{name}={value}: {}", problems_of(alone));
        }
    }
}

#[test]
fn the_printed_configuration_hides_secrets_and_loads_again() {
    let node = NODE.replace("private", "postgres://u:hunter2@db/x");
    let profile = r#"schema_version = 1
id = "acme"
extends = ["generic"]
enabled = true
[inbound]
digest = { mode = "required", username = "u", password_ref = "env:TOKEN" }
"#;
    let files = [("tandem.toml", node.as_str()), ("sip-profiles/acme.toml", profile)];
    let printed = load_with(&files, &[]).unwrap().print();
    assert!(printed.contains("postgres://u:***@db/x"), "{printed}");
    assert!(printed.contains("password_ref = \"env:TOKEN\""), "{printed}");
    assert!(!printed.contains("hunter2") && !printed.contains("s3cret"), "{printed}");
    let mut table: toml::Table = toml::from_str(&printed).unwrap();
    let profile = table.remove("profile").unwrap();
    assert_eq!(profile["acme"]["calls"]["ring_timeout_s"].as_integer(), Some(45));
    let again = toml::to_string(&table).unwrap();
    let config = load_with(&[("tandem.toml", &again), files[1]], &[]).unwrap();
    assert_eq!(config.node().listeners.len(), 1);
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let missing = load(&Inputs {
        config: Some(Path::new("/nonexistent/tandem.toml").into()),
        env: Vec::new(),
        files: &Disk,
        secrets: secrets(),
    });
    assert!(problems_of(missing).starts_with("/nonexistent/tandem.toml: "));
    let dir = load_with(&[("tandem.toml", NODE)], &[("TANDEM_PROFILES_DIR", "nowhere")]);
    assert!(problems_of(dir).starts_with("nowhere: "));
    let text = format!("{NODE}[profiles]\ndir = \"nowhere\"\n");
    let dir = problems_of(load_with(&[("tandem.toml", &text)], &[]));
    assert!(dir.starts_with("tandem.toml:6:7: `profiles.dir`: nowhere: "), "{dir}");
}

/// A folder with certificates; gone with the check.
struct Certificates(PathBuf);

impl Drop for Certificates {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Certificates {
    fn new() -> Self {
        let name = format!("tandem-config-tls-{}", tandem::clock::random_u64());
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir(&folder.0).unwrap();
        for (name, year) in [("good", 2100), ("old", 2020)] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["sbc.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 6, 1);
            let certificate = params.self_signed(&key).unwrap();
            folder.write(&format!("{name}.pem"), &certificate.pem());
            folder.write(&format!("{name}.key"), &key.serialize_pem());
        }
        folder.write("empty.pem", "nothing here\n");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn listener(&self, certificate: &str, key: &str, more: &str) -> String {
        let (certificate, key) = (self.path(certificate), self.path(key));
        format!(
            "{NODE}[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:5061\"\n\
             transports = [\"tls\"]\ntls_cert_file = \"{certificate}\"\n\
             tls_key_ref = \"file:{key}\"\n{more}"
        )
    }
}

#[test]
fn what_a_tls_listener_shows_is_checked_before_a_peer_does() {
    let files = Certificates::new();
    let check = |(certificate, key): (&str, &str), more: &str, expected: &str| {
        let text = files.listener(certificate, key, more);
        let problems = problems_of(load_with(&[("tandem.toml", &text)], &[]));
        assert!(problems.contains(expected), "{certificate} {key} {more}: {problems}");
    };
    let good = ("good.pem", "good.key");
    check(good, "", "no problem");
    check(("good.pem", "old.key"), "", "tandem.toml:10:15: `tls_key_ref`: the private key is not");
    check(("old.pem", "old.key"), "", "tandem.toml:9:17: `tls_cert_file`: the certificate in");
    check(("old.pem", "old.key"), "", "has expired on 2020-06-01T00:00:00Z");
    check(("none.pem", "good.key"), "", "tandem.toml:9:17: `tls_cert_file`: ");
    check(("empty.pem", "good.key"), "", "holds no certificate in PEM");
    check(("good.pem", "none.key"), "", "tandem.toml:10:15: `tls_key_ref`: file:");
    check(("good.pem", "empty.pem"), "", "holds no private key in PEM");
    let request = "tls_client_certs = \"request\"\n";
    check(
        good,
        request,
        "tandem.toml:11:20: listener `tls` asks peers for certificates, so it needs",
    );
    let authorities = format!("{request}tls_client_ca_file = \"{}\"\n", files.path("empty.pem"));
    check(good, &authorities, "tandem.toml:12:22: `tls_client_ca_file`: ");
    let authorities = format!("{request}tls_client_ca_file = \"{}\"\n", files.path("good.pem"));
    check(good, &authorities, "no problem");
    check(
        good,
        "tls_min_version = \"1.1\"\n",
        "`listener[1].tls_min_version` is \"1.2\" or \"1.3\"",
    );
}

#[test]
fn a_trunk_says_how_its_carrier_is_reached_and_believed() {
    let files = Certificates::new();
    let profile = |tls: &str| {
        format!(
            "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\nenabled = true\n\
             [network]\nsource_address = \"192.0.2.9\"\ninterface = \"eth1\"\n\
             remote_media_cidrs = [\"192.0.2.0/24\"]\nudp_oversize = \"compact\"\n\
             keepalive = {{ tcp_crlf_s = 30 }}\n\
             [inbound]\nsource_cidrs = [\"192.0.2.1\"]\ntransports = [\"tls\"]\n\
             tls_client = {{ required = true, san = [\"sbc.example\"] }}\n\
             [tls]\nallow_wildcard_san = true\n{tls}"
        )
    };
    let own = format!(
        "ca_file = \"{0}/good.pem\"\ncert_file = \"{0}/good.pem\"\nkey_ref = \"file:{0}/good.key\"\n",
        files.0.display()
    );
    let config = load_profile(&profile(&own)).unwrap();
    let [trunk] = config.trunks() else { panic!("one trunk") };
    assert_eq!(trunk.path.local.address, Some("192.0.2.9".parse().unwrap()));
    assert_eq!(trunk.path.local.interface.as_ref().map(|name| name.as_str()), Some("eth1"));
    assert_eq!(trunk.path.keepalive.map(|every| every.as_secs()), Some(30));
    assert_eq!(trunk.peer_names, ["sbc.example"]);
    let tls = &trunk.path.tls;
    assert!(tls.allow_wildcard && tls.credentials.is_some());
    assert_eq!(tls.authorities.len(), 1);
    let check = |tls: &str, expected: &str| {
        let problems = problems_of(load_profile(&profile(tls)));
        assert!(problems.contains(expected), "{tls}: {problems}");
    };
    check("ca_file = \"/nowhere.pem\"\n", "`tls.ca_file`: /nowhere.pem: ");
    check("verify = \"pin\"\n", "`tls.ca_file` holds the certificates that are believed");
    check("cert_file = \"/x.pem\"\n", "`tls.cert_file` and `tls.key_ref` go together");
    let mixed = own.replace("good.key", "old.key");
    check(&mixed, "sip-profiles/x.toml:19:11: `tls.key_ref`: the private key is not that");
    let nobody = profile("").replace(", san = [\"sbc.example\"]", "");
    assert!(problems_of(load_profile(&nobody)).contains("`inbound.tls_client.required` needs"));
    let udp = profile("").replace("[\"tls\"]\ntls_client", "[\"udp\", \"tls\"]\ntls_client");
    assert!(problems_of(load_profile(&udp)).contains("alone: calls by another"));
}
