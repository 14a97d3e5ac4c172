//! Each key of trunk profiles becomes what it says: with another value a trunk differs in one place, which is
//! named here. What a place does is tested beside the code that reads it.

#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use tandem::config::profile::Profiles;
use tandem::config::profile::TrunkRow;
use tandem::config::secret::LocalSecrets;
use tandem::types::id::TrunkId;

/// Keys of files, of which a trunk has nothing, and those that a row of the database has itself.
const OF_FILES: &[&str] =
    &["schema_version", "id", "abstract", "extends", "enabled", "tenant", "description"];

fn secrets() -> Arc<LocalSecrets> {
    let env = [("SECRET", "s3cret"), ("OTHER", "0ther")];
    Arc::new(LocalSecrets::new(env.map(|(name, value)| (name.to_owned(), value.to_owned())), None))
}

/// A trunk that has everything switched on which other keys are about.
fn base() -> Value {
    json!({
        "inbound": {"source_cidrs": ["192.0.2.0/24"]},
        "outbound": {"enabled": true, "gateway": [{"name": "a", "uri": "sip:gw.example"}],
                     "digest": {"username": "u", "password_ref": "env:SECRET"}},
        "registration": {"enabled": true, "registrar": "sip:reg.example", "aor": "sip:u@reg.example",
                         "username": "u", "password_ref": "env:SECRET"},
        "options": {"interval_s": 60},
        "security": {"allow_destinations": ["+1"]},
    })
}

fn set(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for part in path.split('.') {
        if !at[part].is_object() && !at[part].is_null() {
            at[part] = Value::Null;
        }
        at = &mut at[part];
    }
    *at = value;
}

/// The lines of a trunk with these values.
fn lines(profiles: &Profiles, values: &[(&str, Value)]) -> Result<Vec<String>, String> {
    let mut overrides = base();
    for (key, value) in values {
        set(&mut overrides, key, value.clone());
    }
    let row = TrunkRow {
        id: TrunkId::from_uuid(uuid::Uuid::from_u128(1)),
        name: "row",
        tenant: None,
        enabled: true,
        profile: "generic",
        overrides: &overrides,
        sealed: BTreeMap::new(),
    };
    let trunk = profiles.compose(&row).map_err(|problems| format!("{values:?}: {problems}"))?;
    let text = format!("{trunk:#?}");
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// What of `with` is not in `without`, each line as often as it is there.
fn news(without: &[String], with: &[String]) -> Vec<String> {
    let mut left = without.to_vec();
    let mut new = Vec::new();
    for line in with {
        match left.iter().position(|own| own == line) {
            Some(at) => drop(left.swap_remove(at)),
            None => new.push(line.clone()),
        }
    }
    new
}

fn keys_of(path: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => keys_of(&full, inner, found),
            _ => found.push(full),
        }
    }
}

/// References that lead nowhere, where a trunk has what they lead to.
const NOWHERE: &[(&str, &str)] = &[
    ("inbound.digest.password_ref", "env:NOWHERE"),
    ("outbound.digest.password_ref", "env:NOWHERE"),
    ("registration.password_ref", "env:NOWHERE"),
    ("tls.ca_file", "/nowhere/ca.pem"),
    ("tls.cert_file", "/nowhere/cert.pem"),
    ("tls.key_ref", "env:NOWHERE"),
];
/// Keys that are compared with the node's own.
const OF_NODES: &[&str] = &["compliance.no_foreign_media"];

#[test]
fn each_key_of_a_profile_becomes_what_it_says_of_a_trunk() {
    let profiles = Profiles::built_in(secrets());
    let usual = lines(&profiles, &[]).unwrap();
    let mut wrong = Vec::new();
    for (key, value, more, place) in rows() {
        let mut values = more.clone();
        let without =
            if more.is_empty() { usual.clone() } else { lines(&profiles, &values).unwrap() };
        values.push((key, value));
        let with = lines(&profiles, &values).unwrap();
        assert!(!place.is_empty(), "{key}: nothing is expected of it");
        let new = news(&without, &with).join("");
        // What a value makes of a trunk is not there with another one.
        if !new.contains(place) || news(&with, &without).join("").contains(place) {
            wrong.push(format!("{key}: {place} in {new}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (key, reference) in NOWHERE {
        let mut values = if key.starts_with("inbound.") { digest() } else { Vec::new() };
        values.push((key, json!(reference)));
        let problems = lines(&profiles, &values).unwrap_err();
        assert!(problems.contains("nowhere") || problems.contains("NOWHERE"), "{key}: {problems}");
    }
}

#[test]
fn no_key_of_a_profile_is_left_out_of_these_tests() {
    let base: toml::Table = fs::read_to_string("sip-profiles/_base.toml").unwrap().parse().unwrap();
    let mut keys = Vec::new();
    keys_of("", &base, &mut keys);
    let rows = rows();
    let nowhere = NOWHERE.iter().map(|(key, _)| *key);
    let known: Vec<&str> = rows.iter().map(|row| row.0).chain(nowhere).collect();
    let left: Vec<_> = keys
        .iter()
        .map(String::as_str)
        .filter(|key| ![OF_FILES, OF_NODES, &known].iter().any(|some| some.contains(key)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

type Row = (&'static str, Value, Vec<(&'static str, Value)>, &'static str);

fn rows() -> Vec<Row> {
    let all = [
        network(),
        inbound(),
        outbound(),
        registration(),
        media(),
        numbers(),
        signalling(),
        limits(),
        bounds(),
    ];
    all.into_iter().flatten().collect()
}

const fn plain(key: &'static str, value: Value, place: &'static str) -> Row {
    (key, value, Vec::new(), place)
}

fn network() -> Vec<Row> {
    vec![
        plain("network.listener", json!("private"), "listener: Some(ListenerName(\"private\""),
        plain("network.source_address", json!("192.0.2.9"), "address: Some(192.0.2.9"),
        plain("network.interface", json!("eth1"), "interface: Some(InterfaceName(\"eth1\""),
        plain(
            "network.advertise_sip",
            json!("sbc.example"),
            "advertised: Some(Advertised {host: \"sbc.example\",port: None",
        ),
        plain("network.advertise_rtp", json!("192.0.2.8"), "advertise_rtp: Some(192.0.2.8"),
        plain(
            "network.remote_media_cidrs",
            json!(["198.51.100.0/24"]),
            "remote_cidrs: [198.51.100.0/24",
        ),
        plain("network.rtp_port_range", json!([20000, 20099]), "ports: Some(20000..=20099"),
        plain("network.symmetric_rtp", json!("off"), "symmetric: false"),
        plain("network.rtp_inactivity_s", json!(77), "77s"),
        plain("network.dscp.rtp", json!(34), "dscp: 34"),
        plain("network.udp_max_bytes", json!(1400), "bytes_max: 1400"),
        plain("network.udp_oversize", json!("fragment"), "oversize: Fragment"),
        plain("network.keepalive.tcp_crlf_s", json!(41), "keepalive: Some(41s"),
        plain("network.keepalive.udp_s", json!(26), "datagram_keepalive: Some(26s"),
    ]
}

fn inbound() -> Vec<Row> {
    vec![
        plain("inbound.enabled", json!(false), "sources: []"),
        plain("inbound.match_priority", json!(7), "priority: 7"),
        plain("inbound.source_cidrs", json!(["203.0.113.0/24"]), "203.0.113.0/24"),
        plain(
            "inbound.source_dns",
            json!(["sip.carrier.example"]),
            "source_names: [\"sip.carrier.example\"",
        ),
        plain("inbound.transports", json!(["tls", "tcp"]), "Tls"),
        plain(
            "inbound.accept_ruri_hosts",
            json!(["own.example"]),
            "request_hosts: [\"own.example\"",
        ),
        plain("inbound.did_sources", json!(["diversion"]), "Diversion"),
        plain(
            "inbound.require_headers",
            json!([{"name": "X-Token", "value_ref": "env:SECRET"}]),
            "required_headers: [(\"X-Token\"",
        ),
        (
            "inbound.tls_client.required",
            json!(true),
            vec![
                ("inbound.transports", json!(["tls"])),
                ("inbound.tls_client.san", json!(["c.example"])),
            ],
            "\"c.example\"",
        ),
        (
            "inbound.tls_client.san",
            json!(["d.example"]),
            vec![
                ("inbound.transports", json!(["tls"])),
                ("inbound.tls_client.required", json!(true)),
                ("inbound.tls_client.san", json!(["c.example"])),
            ],
            "\"d.example\"",
        ),
        (
            "inbound.digest.mode",
            json!("required"),
            vec![
                ("inbound.digest.username", json!("w")),
                ("inbound.digest.password_ref", json!("env:SECRET")),
            ],
            "digest: Some(",
        ),
        ("inbound.digest.username", json!("v"), digest(), "username: \"v\""),
        ("inbound.digest.realm", json!("realm.example"), digest(), "realm: \"realm.example\""),
        ("inbound.digest.algorithms", json!(["SHA-512-256"]), digest(), "Sha512_256"),
        plain("inbound.trust_asserted_identity", json!(true), "trust_asserted: true"),
        plain("inbound.anonymous", json!("reject_433"), "anonymous_allowed: false"),
        plain("inbound.unknown_did", json!(410), "unknown_did: 410"),
        plain("inbound.response_map.busy", json!(600), "busy: 600"),
        plain("inbound.response_map.no_answer", json!(408), "no_answer: 408"),
        plain("inbound.response_map.not_found", json!(604), "not_found: 604"),
        plain("inbound.response_map.policy", json!(603), "policy: 603"),
        plain("inbound.response_map.overload", json!(480), "overload: 480"),
        plain("inbound.response_map.draining", json!(500), "draining: 500"),
        plain("inbound.response_map.no_codec", json!(606), "no_codec: 606"),
    ]
}

fn outbound() -> Vec<Row> {
    vec![
        plain("outbound.enabled", json!(false), "outbound: None"),
        plain("outbound.strategy", json!("round_robin"), "strategy: RoundRobin"),
        plain("outbound.request_host", json!("r.example"), "\"r.example\""),
        plain("outbound.from_host", json!("f.example"), "\"f.example\""),
        plain("outbound.to_host", json!("t.example"), "\"t.example\""),
        plain("outbound.user_phone", json!(true), "user_phone: true"),
        plain("outbound.contact_user", json!("trunk"), "\"trunk\""),
        plain("outbound.max_forwards", json!(30), "max_forwards: 30"),
        plain("outbound.digest.username", json!("x"), "username: \"x\""),
        plain("outbound.digest.auth_username", json!("y"), "username: \"y\""),
        plain("outbound.digest.realm", json!("realm.example"), "realm: Some(\"realm.example\""),
        plain("outbound.digest.algorithms", json!(["SHA-512-256"]), "Sha512_256"),
        plain("outbound.via_registered_flow", json!(true), "via_registered_flow: true"),
        plain("outbound.gateway", json!([{"name": "b", "uri": "sip:b.example"}]), "\"b\""),
    ]
}

fn registration() -> Vec<Row> {
    vec![
        plain("registration.enabled", json!(false), "needs_registration: false"),
        plain(
            "registration.registrar",
            json!("sip:other.example"),
            "registrar: \"sip:other.example\"",
        ),
        plain(
            "registration.proxy",
            json!("sip:proxy.example;lr"),
            "proxy: Some(\"sip:proxy.example;lr\"",
        ),
        plain(
            "registration.aor",
            json!("sip:v@reg.example"),
            "aor: \"sip:v@reg.example\",contact_user: \"v\"",
        ),
        plain("registration.contact_user", json!("pilot"), "contact_user: \"pilot\""),
        plain("registration.username", json!("v"), "username: \"v\""),
        plain("registration.auth_username", json!("auth"), "username: \"auth\""),
        plain("registration.password_ref", json!(""), "account: None"),
        plain("registration.realm", json!("realm.example"), "realm: Some(\"realm.example\""),
        plain("registration.expires_s", json!(300), "expires: 300s"),
        plain("registration.refresh_ratio", json!(0.5), "refresh_percent: 50"),
        plain("registration.retry_s", json!([17]), "17s"),
        plain("registration.forbidden_retry_s", json!(901), "forbidden_retry: 901s"),
        plain("registration.needed_for_outbound", json!(false), "needs_registration: false"),
        plain("registration.use_service_route", json!(false), "use_service_route: false"),
        plain("registration.send_path", json!(true), "send_path: true"),
    ]
}

fn media() -> Vec<Row> {
    vec![
        plain("codecs.offer", json!(["PCMA", "G722"]), "G722"),
        plain("codecs.accept", json!(["PCMA", "G722"]), "G722"),
        plain("codecs.answer_order", json!("local"), "order_remote: false"),
        plain("codecs.ptime_ms", json!(30), "30"),
        plain("codecs.max_ptime_ms", json!(40), "40"),
        plain("codecs.rtcp", json!("mux"), "rtcp: Mux"),
        plain("codecs.rtcp_xr", json!("on"), "rtcp_xr: On"),
        plain("codecs.single_codec_answer", json!(false), "single_codec: false"),
        plain("dtmf.send", json!("info"), "dtmf_send: Info"),
        plain("dtmf.receive", json!(["rfc4733"]), "dtmf_info: false"),
        plain("dtmf.payload_type", json!(96), "96"),
        plain("dtmf.events", json!("0-16"), "dtmf_flash: true"),
        plain("dtmf.private", json!(true), "dtmf_private: true"),
        plain("dtmf.duration_ms", json!(200), "200"),
        plain("dtmf.gap_ms", json!(61), "61"),
        plain("srtp.policy", json!("optional"), "policy: Optional"),
        plain("srtp.offer_suites", json!(["AEAD_AES_128_GCM"]), "AeadAes128Gcm"),
        plain("srtp.accept_suites", json!(["AEAD_AES_128_GCM"]), "AeadAes128Gcm"),
        plain("srtp.send_mki", json!(true), "send_mki: true"),
        plain("srtp.send_lifetime", json!(true), "send_lifetime: true"),
        plain("srtp.needs_tls_signalling", json!(false), "needs_tls: false"),
        plain("tls.min_version", json!("1.3"), "min_version: V1_3"),
        plain("tls.verify", json!("none"), "verify: Nothing"),
        plain("tls.allow_wildcard_san", json!(true), "allow_wildcard: true"),
        plain("tls.expected_names", json!(["n.example"]), "expected_names: [\"n.example\""),
    ]
}

fn numbers() -> Vec<Row> {
    vec![
        plain("numbers.country", json!("IN"), "country: \"IN\""),
        plain("numbers.area_code", json!("80"), "area_code: \"80\""),
        plain("numbers.inbound_called", json!([{"match": "^7$", "to": "+1"}]), "\"^7$\""),
        plain("numbers.inbound_calling", json!([{"match": "^7$", "to": "+1"}]), "\"^7$\""),
        plain("numbers.outbound_called", json!([{"match": "^7$", "to": "+1"}]), "Regex(\"^7$\""),
        plain("numbers.outbound_calling", json!([{"match": "^7$", "to": "+1"}]), "Regex(\"^7$\""),
        plain("numbers.outbound_must_match", json!("^\\+1"), "\"^\\\\+1\""),
        plain("caller_id.policy", json!("pass"), "choice: Pass"),
        plain("caller_id.default", json!("+15550100"), "default: Some(E164(+15…00)"),
        plain("caller_id.allowed", json!(["+1555*"]), "\"+1555\""),
        plain("caller_id.on_disallowed", json!("reject"), "on_disallowed: Reject"),
        plain("caller_id.from_user", json!("pilot"), "\"pilot\""),
        plain("caller_id.display_name", json!("Acme"), "\"Acme\""),
        plain("caller_id.asserted", json!("ppi"), "asserted: Ppi"),
        plain("caller_id.asserted_uri", json!("sip:x@{from_host}"), "\"sip:x@\""),
        plain("caller_id.privacy", json!("force"), "privacy: Force"),
        plain(
            "caller_id.anonymous_from",
            json!("sip:nobody@example.invalid"),
            "anonymous_from: \"sip:nobody@example.invalid\"",
        ),
        plain("caller_id.diversion", json!("strip"), "diversion: Strip"),
        plain(
            "headers.outbound_set",
            json!([{"name": "X-Team", "value": "red"}]),
            "set: [(FieldName(X-Team)",
        ),
        plain("headers.outbound_pass", json!(["X-*"]), "text: \"X-\""),
        plain("headers.trail", json!(false), "trail: false"),
        plain("headers.inbound_to_vars", json!({"X-Call": "call"}), "variables: [(\"X-Call\""),
        plain("identity.verify", json!("observe"), "observe_identity: true"),
        plain("identity.verstat_header", json!("X-VerStat"), "verstat: Some(\"X-VerStat\""),
    ]
}

fn signalling() -> Vec<Row> {
    vec![
        plain("session_timer.mode", json!("require"), "mode: Require"),
        plain("session_timer.expires_s", json!(1200), "expires_s: 1200"),
        plain("session_timer.min_se_s", json!(120), "min_se_s: 120"),
        plain("session_timer.refresher", json!("local"), "refresher: Local"),
        plain("session_timer.method", json!("invite"), "method: Invite"),
        plain(
            "session_timer.reject_422_only_if_peer_supports_timer",
            json!(false),
            "spares_old_peers: false",
        ),
        plain("reliability.prack", json!("required"), "prack: Required"),
        plain("reliability.update", json!(false), "update: false"),
        plain("progress.early_media", json!("ignore"), "early_media: Ignore"),
        plain("progress.ringback_on_180_without_sdp", json!(false), "ringback: false"),
        plain("progress.inbound_progress", json!("183_sdp"), "inbound_progress: EarlyMedia"),
        plain("progress.answer_delay_ms", json!(1501), "answer_delay: 1.501s"),
        plain("progress.p_early_media", json!(true), "early_media_header: true"),
        plain("calls.no_reply_timeout_ms", json!(2001), "no_reply: 2.001s"),
        plain("calls.setup_timeout_s", json!(61), "setup: 61s"),
        plain("calls.ring_timeout_s", json!(46), "ring_timeout: 46s"),
        plain("calls.max_duration_s", json!(7201), "max_duration: 7201s"),
        plain("calls.redirect_3xx", json!("follow_same_gateway"), "policy: SameGateway"),
        (
            "calls.redirects_max",
            json!(3),
            vec![("calls.redirect_3xx", json!("follow_same_gateway"))],
            "max: 3",
        ),
        plain("calls.refer_in", json!("b2bua"), "takes_refer: true"),
        plain("calls.refer_out", json!("attended"), "refer_out: Attended"),
        plain("calls.trace", json!("memory"), "stores_traces: false"),
        plain("calls.hold", json!("inactive"), "silent_hold: true"),
    ]
}

fn limits() -> Vec<Row> {
    vec![
        plain("options.interval_s", json!(30), "interval: 30s"),
        plain("options.timeout_s", json!(3), "timeout: 3s"),
        plain("options.down_after", json!(4), "down_after: 4"),
        plain("options.up_after", json!(5), "up_after: 5"),
        plain("options.alive_codes", json!([200, 404]), "alive: List([200"),
        plain("options.request_user", json!("ping"), "request_user: \"ping\""),
        plain("limits.channels", json!(11), "calls_max: 11"),
        plain("limits.channels_in", json!(12), "calls_in_max: 12"),
        plain("limits.channels_out", json!(13), "calls_max: 13"),
        plain("limits.cps_out", json!(14), "cps_max: 14"),
        plain("limits.cps_in", json!(15), "cps_max: 15"),
        (
            "limits.cps_overflow",
            json!("reject_503"),
            vec![("limits.cps_out", json!(14))],
            "queue: 0ns",
        ),
        ("limits.queue_ms", json!(1999), vec![("limits.cps_out", json!(14))], "queue: 1.999s"),
        plain("limits.cps_per_remote_ip", json!(16), "cps_per_address: 16"),
        plain("failover.on_codes", json!([599]), "599"),
        plain("failover.on_timeout", json!(false), "on_timeout: false"),
        plain("failover.on_transport_error", json!(false), "on_transport_error: false"),
        plain("failover.never_after", json!("100"), "never_after: Trying"),
        plain(
            "failover.throttle_match",
            json!(["CPS limit"]),
            "throttle: [Pattern(Regex(\"CPS limit\"",
        ),
        plain("failover.retry_after", json!("ignore"), "honour_retry_after: false"),
        plain("failover.max_attempts", json!(2), "attempts_max: 2"),
        plain("failover.gateway_cooldown_s", json!(31), "cooldown: 31s"),
    ]
}

fn bounds() -> Vec<Row> {
    vec![
        plain("security.allow_destinations", json!(["+44"]), "\"+44\""),
        plain("security.deny_destinations", json!(["+1555"]), "\"+1555\""),
        plain("security.max_calls_per_destination_per_min", json!(9), "per_destination_min: 9"),
        plain("security.max_short_calls_pct", json!(35), "short_calls_pct: 35"),
        plain("security.daily_minutes", json!(600), "daily_minutes: 600"),
        (
            "security.daily_spend.amount",
            json!(25.0),
            vec![("security.rates", json!([{"prefix": "+1", "per_minute": 0.01}]))],
            "25000000,",
        ),
        (
            "security.daily_spend.currency",
            json!("INR"),
            vec![
                ("security.rates", json!([{"prefix": "+1", "per_minute": 0.01}])),
                ("security.daily_spend.amount", json!(25.0)),
            ],
            "currency: \"INR\"",
        ),
        plain(
            "security.rates",
            json!([{"prefix": "+1", "per_minute": 0.02}]),
            "rates: [Rate {prefix: Prefix(\"+1\"",
        ),
        plain("compliance.region", json!("IN"), "region: \"IN\""),
        plain("compliance.no_pstn_to_pstn_bridge", json!(true), "no_pstn_bridge: true"),
        ("compliance.calling_hours.tz", json!("Asia/Tokyo"), hours(), "\"Asia/Tokyo\""),
        ("compliance.calling_hours.from", json!("10:30"), hours(), "from: 10:30:00"),
        ("compliance.calling_hours.to", json!("20:30"), hours(), "to: 20:30:00"),
        plain("compliance.call_class", json!("service"), "class: Service"),
    ]
}

fn digest() -> Vec<(&'static str, Value)> {
    vec![
        ("inbound.digest.mode", json!("required")),
        ("inbound.digest.username", json!("w")),
        ("inbound.digest.password_ref", json!("env:SECRET")),
    ]
}

fn hours() -> Vec<(&'static str, Value)> {
    vec![
        ("compliance.calling_hours.tz", json!("Asia/Kolkata")),
        ("compliance.calling_hours.from", json!("09:00")),
        ("compliance.calling_hours.to", json!("21:00")),
    ]
}
