//! Keys of trunk profiles about media: what is taken, and what it becomes.

#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tandem::config::Inputs;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::profile::Profiles;
use tandem::config::profile::TrunkRow;
use tandem::config::secret::LocalSecrets;
use tandem::routing::signalling::DtmfSend;
use tandem::routing::signalling::EarlyMedia;
use tandem::routing::signalling::InboundProgress;
use tandem::routing::signalling::Progress;
use tandem::routing::trunk::RtcpMode;
use tandem::routing::trunk::RtcpXr;
use tandem::routing::trunk::Trunk;
use tandem::types::id::TrunkId;

fn composed(overrides: &Value) -> Result<Trunk, String> {
    let mut whole = json!({"inbound": {"source_cidrs": ["192.0.2.0/24"]}});
    for (table, keys) in overrides.as_object().unwrap() {
        whole.as_object_mut().unwrap().insert(table.clone(), keys.clone());
    }
    let row = TrunkRow {
        id: TrunkId::from_uuid(uuid::Uuid::from_u128(1)),
        name: "row",
        tenant: None,
        enabled: true,
        profile: "generic",
        overrides: &whole,
        sealed: std::collections::BTreeMap::new(),
    };
    let profiles = Profiles::built_in(Arc::new(LocalSecrets::new([], None)));
    profiles.compose(&row).map_err(|problems| problems.to_string())
}

#[test]
fn what_no_call_could_have_is_not_in_the_schema() {
    for (table, key, value) in [
        ("codecs", "comfort_noise", json!(false)),
        ("codecs", "fax", json!("g711_passthrough")),
        ("dtmf", "answer_with_offered_pt", json!(true)),
        ("srtp", "keying", json!("sdes")),
        ("progress", "early_media_is_answer", json!(false)),
    ] {
        let problems = composed(&json!({table: {key: value}})).unwrap_err();
        assert!(problems.contains(&format!("there is no key `{table}.{key}`")), "{problems}");
    }
    for (table, key, value, told) in [
        ("codecs", "offer", json!(["G728"]), "\"L16_8K\" or \"G729\", not \"G728\""),
        ("codecs", "accept", json!(["opus"]), "\"L16_8K\" or \"G729\", not \"opus\""),
        ("dtmf", "send", json!("inband"), "\"rfc4733\" or \"info\", not \"inband\""),
        ("dtmf", "receive", json!(["mf"]), "or \"inband\", not \"mf\""),
        ("network", "symmetric_rtp", json!("latch_follow"), "\"off\" or \"latch_once\""),
        ("srtp", "offer_suites", json!(["AEAD_AES_256_GCM"]), "\"AEAD_AES_128_GCM\", not"),
    ] {
        let problems = composed(&json!({table: {key: value}})).unwrap_err();
        assert!(problems.contains(told), "{told} in {problems}");
        assert!(!problems.contains("not supported in this version"), "{problems}");
    }
}

#[test]
fn every_key_about_media_reaches_the_trunk() {
    let usual = composed(&json!({})).unwrap();
    let (media, progress) = (&usual.media, Progress::default());
    assert_eq!((media.dtmf_send, media.dtmf_flash), (DtmfSend::Rfc4733, false));
    assert_eq!((media.dtmf_ms, media.symmetric, &media.ports), ((120, 80), true, &None));
    assert!(media.dtmf_info && !media.dtmf_tones && !media.dtmf_private);
    assert_eq!((usual.progress, usual.inbound_progress), (progress, InboundProgress::Ringing));
    let other = composed(&json!({
        "dtmf": {"send": "info", "receive": ["inband"], "events": "0-16", "duration_ms": 200,
                 "gap_ms": 60, "private": true},
        "codecs": {"rtcp": "off", "rtcp_xr": "on"},
        "network": {"symmetric_rtp": "off", "rtp_port_range": [20_000, 20_099]},
        "progress": {"early_media": "ignore", "ringback_on_180_without_sdp": false,
                     "inbound_progress": "183_sdp"},
        "numbers": {"country": "IN"},
    }))
    .unwrap();
    let media = &other.media;
    assert_eq!((media.dtmf_send, media.dtmf_flash), (DtmfSend::Info, true));
    assert_eq!((media.dtmf_ms, media.rtcp), ((200, 60), RtcpMode::Off));
    assert_eq!((media.rtcp_xr, usual.media.rtcp_xr), (RtcpXr::On, RtcpXr::Asked));
    assert!(media.dtmf_private);
    assert!(media.dtmf_tones && !media.dtmf_info && media.dtmf_payload_type.is_none());
    assert_eq!((media.symmetric, &media.ports), (false, &Some(20_000..=20_099)));
    let progress = Progress { early_media: EarlyMedia::Ignore, ringback: false };
    assert_eq!((other.progress, other.inbound_progress), (progress, InboundProgress::EarlyMedia));
    assert_eq!(other.country, "IN");
}

#[test]
fn a_part_of_the_ports_is_one_that_the_node_has_and_that_holds_a_call() {
    let problems = |range: &str| {
        let node = "database = \"private\"\nmedia = { ports = [20000, 20999] }\n\
                    [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:5060\"\n";
        let profile = format!(
            "schema_version = 1\nid = \"x\"\nextends = [\"generic\"]\nenabled = true\n\
             [inbound]\nsource_cidrs = [\"192.0.2.1\"]\n[network]\nrtp_port_range = {range}\n"
        );
        let files = [("tandem.toml", node.to_owned()), ("sip-profiles/x.toml", profile)];
        let texts = files.into_iter().map(|(path, text)| (PathBuf::from(path), text));
        let loaded = load(&Inputs {
            config: Some("tandem.toml".into()),
            env: Vec::new(),
            files: &Memory(texts.collect()),
            secrets: Arc::new(LocalSecrets::new([], None)),
        });
        loaded.err().map_or_else(String::new, |problems| problems.to_string())
    };
    assert_eq!(problems("[20100, 20199]"), "");
    assert_eq!(problems("[]"), "");
    let outside = "20900 to 21099 is not within the node's ports, 20000 to 20999";
    assert!(problems("[20900, 21099]").contains(outside), "{}", problems("[20900, 21099]"));
    for range in ["[20101, 20102]", "[20100, 20100]", "[65535, 65535]"] {
        assert!(
            problems(range).contains("has no even port with an odd one"),
            "{}",
            problems(range)
        );
    }
}
