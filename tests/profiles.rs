//! The profiles that are shipped: each loads, stays disabled, and works once it is filled in.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use tandem::config::Config;
use tandem::config::Inputs;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::problem::Problems;
use tandem::config::profile::Profiles;
use tandem::config::secret::LocalSecrets;
use tandem::routing::numbers::Rewritten;
use tandem::routing::outbound_trunk::OutboundTrunk;
use tandem::routing::trunk::Trunk;

const NODE: &str = r#"database = "private"
region = "IN"
[[listener]]
name = "public"
bind = "127.0.0.1:5060"
"#;

/// What an admin fills in, for each shipped profile that is no template.
const FILLED: [(&str, &str); 7] = [
    (
        "generic",
        "[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n[outbound]\nenabled = true\n\
         [security]\nallow_destinations = [\"+1\"]\n",
    ),
    ("twilio", "[vars]\ntrunk_domain = \"acme.pstn.twilio.com\"\nusername = \"sbc\"\n"),
    ("telnyx", "[vars]\nusername = \"acme\"\n[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n"),
    ("tata-ip-auth", "[caller_id]\ndefault = \"+918068167000\"\n"),
    ("tata-registered", "[caller_id]\ndefault = \"+918068167000\"\n"),
    ("airtel-ims", "[vars]\npilot = \"+918068167000\"\n"),
    ("smartflo", "[network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n"),
];

fn secrets() -> Arc<LocalSecrets> {
    let names = [
        "TWILIO_TRUNK_PASSWORD",
        "TWILIO_ORIG_TOKEN",
        "TELNYX_PASSWORD",
        "TATA_SIP_PASSWORD",
        "AIRTEL_SIP_PASSWORD",
    ];
    Arc::new(LocalSecrets::new(names.map(|name| (name.to_owned(), "s3cret".to_owned())), None))
}

fn load_with(node: &str, profile: &str) -> Result<Config, Problems> {
    let files = [("tandem.toml", node), ("sip-profiles/own.toml", profile)];
    load(&Inputs {
        config: Some("tandem.toml".into()),
        env: Vec::new(),
        files: &Memory(
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect(),
        ),
        secrets: secrets(),
    })
}

/// An enabled copy of a shipped profile, filled in.
fn enabled(profile: &str, filled: &str) -> String {
    format!("schema_version = 1\nid = \"own\"\nextends = [\"{profile}\"]\nenabled = true\n{filled}")
}

/// The trunk of an enabled copy.
fn trunk(profile: &str) -> Trunk {
    let (_, filled) = FILLED.iter().find(|(name, _)| *name == profile).unwrap();
    let text = enabled(profile, filled);
    match load_with(NODE, &text) {
        Ok(config) => config.trunks().first().unwrap().clone(),
        Err(problems) => panic!("{profile}: {problems}"),
    }
}

fn outbound(profile: &str) -> Arc<OutboundTrunk> {
    trunk(profile).outbound.unwrap()
}

#[test]
fn every_shipped_profile_works_once_it_is_filled_in() {
    let shipped = Profiles::built_in(secrets());
    let mut names: Vec<_> = shipped.ids().filter(|id| !["_base", "in-plan"].contains(id)).collect();
    names.sort_unstable();
    let mut filled: Vec<_> = FILLED.iter().map(|(name, _)| *name).collect();
    filled.sort_unstable();
    assert_eq!(names, filled, "a shipped profile is not tried");
    for (profile, filled) in FILLED {
        if let Err(problems) = load_with(NODE, &enabled(profile, filled)) {
            panic!("{profile}: {problems}");
        }
        let trunk = trunk(profile);
        let outbound = trunk.outbound.as_ref().unwrap();
        assert!(!outbound.gateways.is_empty() && !outbound.destinations.allow.is_empty());
        assert!(!trunk.sources.is_empty());
    }
}

#[test]
fn trunks_that_register_say_where_as_whom_and_with_what() {
    let registration = |profile| trunk(profile).registration;
    let tata = registration("tata-registered").unwrap();
    assert_eq!((tata.next_hop(), tata.proxy_is_route), ("sip:10.0.76.11:5060", false));
    assert_eq!(
        (tata.aor.as_str(), tata.contact_user.as_str()),
        ("sip:68167000@10.0.76.11", "68167000")
    );
    assert_eq!((tata.expires.as_secs(), tata.refresh_percent), (300, 80));
    let account = tata.account.as_ref().unwrap();
    assert_eq!(
        (account.username.as_str(), account.password.expose().as_str()),
        ("68167000", "s3cret")
    );
    let airtel = registration("airtel-ims").unwrap();
    assert_eq!(airtel.registrar, "sip:ka.ims.airtel.in");
    assert_eq!(airtel.next_hop(), "sip:10.5.70.19:5060;transport=udp;lr");
    assert!(airtel.proxy_is_route && airtel.retry.len() == 5);
    for profile in ["tata-registered", "airtel-ims"] {
        let outbound = outbound(profile);
        assert!(outbound.via_registered_flow && outbound.needs_registration, "{profile}");
    }
    assert_eq!(registration("twilio"), None);
}

#[test]
fn every_file_is_built_in_and_none_is_enabled() {
    let mut files: Vec<String> = std::fs::read_dir("sip-profiles")
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort_unstable();
    let shipped = Profiles::built_in(secrets());
    let mut ids: Vec<String> = shipped.ids().map(str::to_owned).collect();
    ids.sort_unstable();
    assert_eq!(files, ids);
    for name in files {
        let text = std::fs::read_to_string(format!("sip-profiles/{name}.toml")).unwrap();
        let off = ["\nenabled = false", "\nabstract = true"].iter().any(|line| text.contains(line));
        assert!(off, "{name} does not say that it is disabled");
        assert!(text.starts_with("# "), "{name} does not say what it is for");
    }
}

#[test]
fn an_indian_trunk_needs_a_node_in_india() {
    let (_, filled) = FILLED.iter().find(|(name, _)| *name == "tata-ip-auth").unwrap();
    let text = enabled("tata-ip-auth", filled);
    let abroad = NODE.replace("\"IN\"", "\"SG\"");
    let problems = load_with(&abroad, &text).unwrap_err().to_string();
    assert!(problems.contains("this trunk's media stays in IN"), "{problems}");
    assert!(load_with(NODE, &text).is_ok());
}

/// What the rules of a trunk make of a number that a carrier wrote.
fn inbound(trunk: &Trunk, calling: bool, text: &str) -> String {
    let rules = if calling { &trunk.calling } else { &trunk.called };
    match rules.rewrite(text).0 {
        Rewritten::Number(number) => number.to_string(),
        Rewritten::Anonymous => "anonymous".to_owned(),
        Rewritten::Unusable => "unusable".to_owned(),
    }
}

#[test]
fn numbers_read_as_indian_carriers_write_them() {
    let tata = trunk("tata-registered");
    for (calling, text, expected) in [
        (true, "9876543210", "+919876543210"),
        (true, "09876543210", "+919876543210"),
        (true, "919876543210", "+919876543210"),
        (true, "+919876543210", "+919876543210"),
        (true, "00919876543210", "+919876543210"),
        (true, "9180123456", "+919180123456"),
        (true, "0014155550123", "+14155550123"),
        (true, "Anonymous", "anonymous"),
        (true, "1401234567", "+911401234567"),
        (true, "1600112345", "+911600112345"),
        (false, "8068167005", "+918068167005"),
        (false, "68167005", "+918068167005"),
        (false, "+918068167005", "+918068167005"),
    ] {
        assert_eq!(inbound(&tata, calling, text), expected, "{text}");
    }
}

#[test]
fn numbers_are_written_as_each_carrier_dials_them() {
    for (profile, calling, number, expected) in [
        ("tata-registered", false, "+919876543210", "09876543210"),
        ("tata-registered", false, "+911141234567", "01141234567"),
        ("tata-registered", false, "+911800123456", "1800123456"),
        ("tata-registered", false, "+14155550123", "0014155550123"),
        ("tata-registered", true, "+918068167000", "8068167000"),
        ("airtel-ims", false, "+919876543210", "+919876543210"),
    ] {
        let outbound = outbound(profile);
        let rules = if calling { &outbound.calling } else { &outbound.called };
        let written = rules.apply(number).map(|(_, text)| text);
        assert_eq!(written.as_deref(), Some(expected), "{profile} {number}");
    }
}

#[test]
fn the_defaults_of_calls_out_are_those_of_the_code() {
    let text = "[outbound]\nenabled = true\ngateway = [{ name = \"a\", uri = \"sip:a.example\" }]\n\
                [security]\nallow_destinations = [\"+1\"]\ndeny_destinations = []\n\
                [inbound]\nsource_cidrs = [\"192.0.2.1\"]\n\
                [network]\nremote_media_cidrs = [\"192.0.2.0/24\"]\n";
    let config = load_with(NODE, &enabled("_base", text)).unwrap();
    let built = config.trunks().first().unwrap().outbound.clone().unwrap();
    let mut expected = OutboundTrunk::new(built.gateways.clone());
    expected.destinations.allow = vec!["+1".parse().unwrap()];
    expected.budget.currency = "USD".into();
    let name = tandem::types::header::NameGlob::parse("User-to-User").unwrap();
    expected.headers.pass = vec![name];
    assert_eq!(format!("{built:?}"), format!("{expected:?}"));
}

#[test]
fn a_trunk_that_calls_out_must_be_whole() {
    let text = r#"
[network]
remote_media_cidrs = ["192.0.2.0/24"]
[inbound]
source_cidrs = ["192.0.2.1"]
[outbound]
enabled = true
request_host = "{caller}"
digest = { username = "u" }
gateway = [
  { name = "a", uri = "sip:a.example" },
  { name = "a", uri = "sip:b.example" },
  { name = "c" },
]
[caller_id]
policy = "fixed"
asserted_uri = "<{caller}>"
[headers]
outbound_set = [
  { name = "Via", value = "x" },
  { name = "X-A", value = "{var.UPPER}" },
  { name = "X-B" },
]
[options]
interval_s = 5
[security]
daily_spend = { amount = 10, currency = "USD" }
[compliance]
calling_hours = { tz = "Mars/Olympus", from = "09:00", to = "" }
"#;
    let problems = load_with(NODE, &enabled("_base", text)).unwrap_err().to_string();
    for expected in [
        "`outbound.request_host`: `{caller}` means nothing here",
        "`outbound.digest` has both a `username` and a `password_ref`",
        "`outbound.gateway[1]` has a name of its own",
        "`outbound.gateway[2]` has a `name` and a `uri`",
        "`caller_id.policy` is \"fixed\", so there is a `caller_id.default`",
        "`caller_id.asserted_uri`: ",
        "`headers.outbound_set[0].name`: this header is written by the switch itself",
        "`headers.outbound_set[1].value`: `{var.UPPER}` means nothing here",
        "`headers.outbound_set[2]` has a `name`, and a `value` or a `value_ref`",
        "`options.interval_s` is 0 or at least 15",
        "`security.daily_spend` needs `security.rates`",
        "warning: `security.allow_destinations` is empty",
        "\"Mars/Olympus\" is no time zone",
        "`compliance.calling_hours` has `tz`, `from` and `to`, or none",
    ] {
        assert!(problems.contains(expected), "{expected}\nis not in\n{problems}");
    }
}
