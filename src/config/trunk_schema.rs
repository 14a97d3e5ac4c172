//! The schema of trunk profiles. `sip-profiles/_base.toml` holds the default and the meaning of each
//! key; a test holds the two together.

use crate::config::schema::Built;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::types::id::TenantId;
use crate::types::name::GatewayName;
use crate::types::name::ListenerName;
use crate::types::name::ProfileName;
use crate::types::transport::InterfaceName;
use ipnet::IpNet;
use std::net::IpAddr;

const U32: Kind = Kind::Integer(0, 1_000_000);
const SECONDS: Kind = Kind::Integer(0, 604_800);
const MILLISECONDS: Kind = Kind::Integer(0, 600_000);
const STATUS: Kind = Kind::Integer(400, 699);
const TRANSPORTS: Kind = Kind::Choices(&["udp", "tcp", "tls"]);
const CODECS: Kind = Kind::Choices(&["PCMU", "PCMA", "G722", "opus", "G729"]);
const ALGORITHMS: Kind = Kind::Choices(&["MD5", "SHA-256", "SHA-512-256"]);
const SUITES: Kind = Kind::Choices(&[
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_256_CM_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
]);
const SUITES_BUILT: &[&str] =
    &["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"];
/// Without meaning as long as the trunk does not call out.
const OUTBOUND: Built = Built::NoUnless("outbound.enabled");
/// Without meaning as long as the trunk does not register.
const REGISTRATION: Built = Built::NoUnless("registration.enabled");

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: Built::Yes }
}

const fn not_built(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: Built::No }
}

const fn only(name: &'static str, kind: Kind, words: &'static [&'static str]) -> Key {
    Key { name, kind, built: Built::Only(words) }
}

const fn outbound(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: OUTBOUND }
}

const fn registration(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: REGISTRATION }
}

/// The keys of a profile that belong to its file alone; a trunk of the database has them in its row.
pub(crate) const FILE_KEYS: [&str; 7] =
    ["schema_version", "id", "abstract", "extends", "enabled", "tenant", "description"];

/// A trunk profile.
pub(crate) const PROFILE: &[Key] = &[
    key("schema_version", Kind::Numbers(&[1])),
    key("id", Kind::Parsed(profile_name)),
    key("abstract", Kind::Flag),
    key("extends", Kind::ParsedList(profile_name)),
    key("enabled", Kind::Flag),
    key("tenant", Kind::Parsed(tenant)),
    key("description", Kind::Text),
    key("vars", Kind::Map),
    key("network", Kind::Table(NETWORK)),
    key("inbound", Kind::Table(INBOUND)),
    key("outbound", Kind::Table(OUTBOUND_KEYS)),
    key("registration", Kind::Table(REGISTRATION_KEYS)),
    key("codecs", Kind::Table(CODEC_KEYS)),
    key("dtmf", Kind::Table(DTMF)),
    key("srtp", Kind::Table(SRTP)),
    key("tls", Kind::Table(TLS)),
    key("numbers", Kind::Table(NUMBERS)),
    key("caller_id", Kind::Table(CALLER_ID)),
    key("headers", Kind::Table(HEADERS)),
    key("identity", Kind::Table(IDENTITY)),
    key("session_timer", Kind::Table(SESSION_TIMER)),
    key("reliability", Kind::Table(RELIABILITY)),
    key("progress", Kind::Table(PROGRESS)),
    key("calls", Kind::Table(CALLS)),
    key("options", Kind::Table(OPTIONS)),
    key("limits", Kind::Table(LIMITS)),
    key("failover", Kind::Table(FAILOVER)),
    key("security", Kind::Table(SECURITY)),
    key("compliance", Kind::Table(COMPLIANCE)),
    not_built("rest", Kind::Table(REST)),
];

const NETWORK: &[Key] = &[
    key("listener", Kind::Parsed(listener)),
    key("source_address", Kind::Parsed(address_or_empty)),
    key("interface", Kind::Parsed(interface_or_empty)),
    only("advertise_sip", Kind::Text, &["auto"]),
    key("advertise_rtp", Kind::Parsed(address_or_auto)),
    only("nat", Kind::Choice(&["none", "static", "symmetric"]), &["none"]),
    key("remote_media_cidrs", Kind::ParsedList(network)),
    not_built("rtp_port_range", Kind::Range(1024, 65_535)),
    only("symmetric_rtp", Kind::Choice(&["off", "latch_once", "latch_follow"]), &["latch_once"]),
    key("rtp_inactivity_s", SECONDS),
    not_built("dscp", Kind::Table(DSCP)),
    outbound("udp_max_bytes", Kind::Integer(500, 65_535)),
    outbound("udp_oversize", Kind::Choice(&["tcp", "compact", "fragment"])),
    key("keepalive", Kind::Table(KEEPALIVE)),
];

const DSCP: &[Key] = &[key("sip", Kind::Integer(0, 63)), key("rtp", Kind::Integer(0, 63))];

const KEEPALIVE: &[Key] = &[key("tcp_crlf_s", SECONDS), not_built("udp_s", SECONDS)];

const INBOUND: &[Key] = &[
    key("enabled", Kind::Flag),
    key("match_priority", U32),
    key("source_cidrs", Kind::ParsedList(source_network)),
    not_built("source_dns", Kind::Texts),
    key("transports", TRANSPORTS),
    not_built("accept_ruri_hosts", Kind::Texts),
    key("did_sources", Kind::Choices(&["request-uri", "to", "diversion", "p-called-party-id"])),
    key("require_headers", Kind::Tables(REQUIRED_HEADER)),
    key("tls_client", Kind::Table(TLS_CLIENT)),
    key("digest", Kind::Table(INBOUND_DIGEST)),
    not_built("trust_asserted_identity", Kind::Flag),
    not_built("trusted_headers", Kind::Texts),
    key("anonymous", Kind::Choice(&["accept", "reject_433"])),
    key("unknown_did", STATUS),
    key("response_map", Kind::Table(RESPONSE_MAP)),
];

const REQUIRED_HEADER: &[Key] =
    &[key("name", Kind::Parsed(header_name)), key("value_ref", Kind::Secret(secret::check))];

const TLS_CLIENT: &[Key] = &[key("required", Kind::Flag), key("san", Kind::Texts)];

const INBOUND_DIGEST: &[Key] = &[
    key("mode", Kind::Choice(&["never", "required"])),
    key("username", Kind::Text),
    key("password_ref", Kind::Secret(secret::check)),
    key("realm", Kind::Parsed(realm)),
    key("algorithms", ALGORITHMS),
];

const RESPONSE_MAP: &[Key] = &[
    key("busy", STATUS),
    key("no_answer", STATUS),
    key("not_found", STATUS),
    key("policy", STATUS),
    key("overload", STATUS),
    key("draining", STATUS),
    key("no_codec", STATUS),
];

const OUTBOUND_KEYS: &[Key] = &[
    not_built("enabled", Kind::Flag),
    outbound("strategy", Kind::Choice(&["priority_weight", "round_robin", "least_calls"])),
    outbound("request_host", Kind::Text),
    outbound("from_host", Kind::Text),
    outbound("to_host", Kind::Text),
    outbound("user_phone", Kind::Flag),
    outbound("contact_user", Kind::Text),
    outbound("max_forwards", Kind::Integer(1, 255)),
    outbound("offer", Kind::Choice(&["early", "delayed"])),
    outbound("digest", Kind::Table(OUTBOUND_DIGEST)),
    outbound("via_registered_flow", Kind::Flag),
    outbound("gateway", Kind::Tables(GATEWAY)),
];

const OUTBOUND_DIGEST: &[Key] = &[
    key("username", Kind::Text),
    key("auth_username", Kind::Text),
    key("password_ref", Kind::Secret(secret::check)),
    key("realm", Kind::Text),
    key("algorithms", ALGORITHMS),
];

const GATEWAY: &[Key] = &[
    key("name", Kind::Parsed(gateway_name)),
    key("uri", Kind::Parsed(sip_uri)),
    key("proxy", Kind::Parsed(sip_uri)),
    key("transport", Kind::Choice(&["udp", "tcp", "tls"])),
    key("dns", Kind::Choice(&["srv", "a_all", "fixed"])),
    key("priority", Kind::Integer(0, 65_535)),
    key("weight", Kind::Integer(0, 65_535)),
    key("channels", U32),
    key("cps", U32),
];

const REGISTRATION_KEYS: &[Key] = &[
    not_built("enabled", Kind::Flag),
    registration("registrar", Kind::Parsed(sip_uri_or_empty)),
    registration("proxy", Kind::Parsed(sip_uri_or_empty)),
    registration("aor", Kind::Parsed(sip_uri_or_empty)),
    registration("contact_user", Kind::Text),
    registration("username", Kind::Text),
    registration("auth_username", Kind::Text),
    registration("password_ref", Kind::Secret(secret::check)),
    registration("realm", Kind::Text),
    registration("expires_s", Kind::Integer(30, 604_800)),
    registration("refresh_ratio", Kind::Fraction(0.1, 0.99)),
    registration("retry_s", Kind::Integers(1, 86_400)),
    registration("forbidden_retry_s", SECONDS),
    registration("needed_for_outbound", Kind::Flag),
    registration("gin", Kind::Flag),
    registration("use_service_route", Kind::Flag),
    registration("send_path", Kind::Flag),
];

const CODEC_KEYS: &[Key] = &[
    only("offer", CODECS, &["PCMU", "PCMA"]),
    only("accept", CODECS, &["PCMU", "PCMA"]),
    key("answer_order", Kind::Choice(&["remote", "local"])),
    key("ptime_ms", Kind::Numbers(&[10, 20, 30, 40, 60])),
    key("max_ptime_ms", Kind::Numbers(&[10, 20, 30, 40, 60])),
    not_built("comfort_noise", Kind::Flag),
    only("rtcp", Kind::Choice(&["on", "mux", "off"]), &["on", "mux"]),
    only("fax", Kind::Choice(&["reject", "g711_passthrough", "t38"]), &["g711_passthrough"]),
    key("single_codec_answer", Kind::Flag),
];

const DTMF: &[Key] = &[
    only("send", Kind::Choice(&["rfc4733", "info", "inband"]), &["rfc4733"]),
    only("receive", Kind::Choices(&["rfc4733", "info", "inband"]), &["rfc4733", "info"]),
    key("payload_type", Kind::Integer(96, 127)),
    not_built("events", Kind::Choice(&["0-15", "0-16"])),
    not_built("duration_ms", Kind::Integer(40, 2_000)),
    not_built("gap_ms", Kind::Integer(20, 2_000)),
    not_built("answer_with_offered_pt", Kind::Flag),
];

const SRTP: &[Key] = &[
    key("policy", Kind::Choice(&["off", "optional", "required"])),
    not_built("keying", Kind::Choice(&["sdes", "dtls"])),
    only("offer_suites", SUITES, SUITES_BUILT),
    only("accept_suites", SUITES, SUITES_BUILT),
    key("send_mki", Kind::Flag),
    key("send_lifetime", Kind::Flag),
    key("needs_tls_signalling", Kind::Flag),
];

const TLS: &[Key] = &[
    key("min_version", Kind::Choice(&["1.2", "1.3"])),
    key("verify", Kind::Choice(&["ca", "pin", "none"])),
    key("ca_file", Kind::Text),
    key("allow_wildcard_san", Kind::Flag),
    key("expected_names", Kind::Texts),
    key("cert_file", Kind::Text),
    key("key_ref", Kind::Secret(secret::check)),
];

const NUMBERS: &[Key] = &[
    key("country", Kind::Parsed(country_or_empty)),
    key("canonical", Kind::Choice(&["e164"])),
    key("area_code", Kind::Parsed(digits_or_empty)),
    key("inbound_called", Kind::Rules),
    key("inbound_calling", Kind::Rules),
    outbound("outbound_called", Kind::Rules),
    outbound("outbound_calling", Kind::Rules),
    outbound("outbound_must_match", Kind::Parsed(pattern)),
];

const CALLER_ID: &[Key] = &[
    outbound("policy", Kind::Choice(&["pass", "allow_list", "fixed"])),
    outbound("default", Kind::Text),
    outbound("allowed", Kind::Texts),
    outbound("on_disallowed", Kind::Choice(&["default", "reject"])),
    outbound("from_user", Kind::Text),
    outbound("display_name", Kind::Text),
    outbound("asserted", Kind::Choice(&["pai", "ppi", "rpid", "none"])),
    outbound("asserted_uri", Kind::Text),
    outbound("privacy", Kind::Choice(&["honour", "force", "ignore"])),
    outbound("anonymous_from", Kind::Text),
    outbound("diversion", Kind::Choice(&["pass", "generate", "history-info", "strip"])),
];

const HEADERS: &[Key] = &[
    not_built("user_agent", Kind::Text),
    outbound("outbound_set", Kind::Texts),
    outbound("outbound_remove", Kind::Texts),
    outbound("outbound_pass", Kind::Texts),
    not_built("inbound_to_vars", Kind::Map),
];

const IDENTITY: &[Key] = &[
    not_built("verify", Kind::Choice(&["off", "observe", "enforce"])),
    not_built("verstat_header", Kind::Text),
    not_built("sign", Kind::Choice(&["off", "on"])),
];

const SESSION_TIMER: &[Key] = &[
    key("mode", Kind::Choice(&["off", "accept", "offer", "require"])),
    key("expires_s", Kind::Integer(90, 86_400)),
    key("min_se_s", Kind::Integer(90, 86_400)),
    key("refresher", Kind::Choice(&["auto", "local", "remote"])),
    key("method", Kind::Choice(&["auto", "update", "invite"])),
    key("reject_422_only_if_peer_supports_timer", Kind::Flag),
];

const RELIABILITY: &[Key] =
    &[key("prack", Kind::Choice(&["off", "supported", "required"])), key("update", Kind::Flag)];

const PROGRESS: &[Key] = &[
    outbound("early_media", Kind::Choice(&["cut_through", "ringback", "ignore"])),
    outbound("ringback_on_180_without_sdp", Kind::Flag),
    outbound("early_media_is_answer", Kind::Flag),
    only("inbound_progress", Kind::Choice(&["180", "183_sdp", "none"]), &["180", "none"]),
    key("answer_delay_ms", MILLISECONDS),
    not_built("p_early_media", Kind::Flag),
];

const CALLS: &[Key] = &[
    outbound("no_reply_timeout_ms", MILLISECONDS),
    outbound("setup_timeout_s", SECONDS),
    key("ring_timeout_s", Kind::Integer(1, 3_600)),
    key("max_duration_s", Kind::Integer(1, 604_800)),
    outbound("forking", Kind::Choice(&["follow_last_18x", "first_18x"])),
    outbound("redirect_3xx", Kind::Choice(&["reject", "follow_same_gateway", "follow_allow_list"])),
    only("refer_in", Kind::Choice(&["reject", "b2bua"]), &["reject"]),
    only("refer_out", Kind::Choice(&["none", "blind", "attended"]), &["none"]),
    not_built("hold", Kind::Choice(&["sendonly", "inactive"])),
];

const OPTIONS: &[Key] = &[
    not_built("interval_s", SECONDS),
    not_built("timeout_s", Kind::Integer(1, 32)),
    not_built("down_after", Kind::Integer(1, 100)),
    not_built("up_after", Kind::Integer(1, 100)),
    not_built("alive_codes", Kind::WordOrIntegers(&["any", "2xx"])),
    not_built("request_user", Kind::Text),
    not_built("answer_inbound", Kind::Flag),
];

const LIMITS: &[Key] = &[
    key("channels", U32),
    key("channels_in", U32),
    outbound("channels_out", U32),
    outbound("cps_out", U32),
    key("cps_in", U32),
    outbound("cps_overflow", Kind::Choice(&["queue", "reject_503"])),
    outbound("queue_ms", MILLISECONDS),
    outbound("cps_per_remote_ip", U32),
];

const FAILOVER: &[Key] = &[
    outbound("on_codes", Kind::Integers(300, 699)),
    outbound("on_timeout", Kind::Flag),
    outbound("on_transport_error", Kind::Flag),
    outbound("never_after", Kind::Choice(&["100", "180", "early_media"])),
    outbound("throttle_match", Kind::ParsedList(pattern)),
    outbound("retry_after", Kind::Choice(&["honour", "ignore"])),
    outbound("max_attempts", Kind::Integer(1, 100)),
    outbound("gateway_cooldown_s", SECONDS),
];

const SECURITY: &[Key] = &[
    outbound("allow_destinations", Kind::ParsedList(prefix)),
    outbound("deny_destinations", Kind::ParsedList(prefix)),
    outbound("max_calls_per_destination_per_min", U32),
    outbound("max_short_calls_pct", Kind::Integer(0, 100)),
    outbound("daily_minutes", Kind::Integer(0, 1_000_000_000)),
    outbound("daily_spend", Kind::Table(SPEND)),
    not_built("unmatched_source", Kind::Choice(&["drop"])),
];

const SPEND: &[Key] =
    &[key("amount", Kind::Fraction(0.0, 1e12)), key("currency", Kind::Parsed(currency))];

const COMPLIANCE: &[Key] = &[
    key("region", Kind::Parsed(country_or_empty)),
    not_built("no_foreign_media", Kind::Flag),
    outbound("no_pstn_to_pstn_bridge", Kind::Flag),
    outbound("calling_hours", Kind::Table(HOURS)),
    outbound("call_class", Kind::Choice(&["any", "service", "promotional"])),
];

const HOURS: &[Key] = &[
    key("tz", Kind::Text),
    key("from", Kind::Parsed(time_of_day)),
    key("to", Kind::Parsed(time_of_day)),
];

const REST: &[Key] = &[
    key("kind", Kind::Text),
    key("account_sid", Kind::Text),
    key("trunk_sid", Kind::Text),
    key("api_key_ref", Kind::Secret(secret::check)),
    key("api_secret_ref", Kind::Secret(secret::check)),
    key("webhook_auth_token_ref", Kind::Secret(secret::check)),
];

fn profile_name(text: &str) -> Result<(), String> {
    text.parse::<ProfileName>().map(|_| ()).map_err(|error| error.to_string())
}

fn listener(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    text.parse::<ListenerName>().map(|_| ()).map_err(|error| error.to_string())
}

fn gateway_name(text: &str) -> Result<(), String> {
    text.parse::<GatewayName>().map(|_| ()).map_err(|error| error.to_string())
}

fn tenant(text: &str) -> Result<(), String> {
    if text == "*" || text.parse::<TenantId>().is_ok() {
        return Ok(());
    }
    Err("write \"*\" for a trunk all tenants share, or the id of one tenant".to_owned())
}

fn address_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} is not an IP address"))
}

fn address_or_auto(text: &str) -> Result<(), String> {
    if text == "auto" || text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()) {
        return Ok(());
    }
    Err(format!("{text:?} is neither \"auto\" nor an IP address a peer can reach"))
}

fn interface_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    text.parse::<InterfaceName>().map(|_| ()).map_err(|error| error.to_string())
}

fn network(text: &str) -> Result<(), String> {
    let good = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    if good { Ok(()) } else { Err(format!("{text:?} is no network: write 192.0.2.0/24")) }
}

/// The widest network calls are taken from: a wider one is a mistake, or an open door.
const SOURCE_PREFIX_V4_MIN: u8 = 16;
const SOURCE_PREFIX_V6_MIN: u8 = 32;

fn source_network(text: &str) -> Result<(), String> {
    network(text)?;
    let narrow = match text.parse::<IpNet>() {
        Ok(IpNet::V4(net)) => net.prefix_len() >= SOURCE_PREFIX_V4_MIN,
        Ok(IpNet::V6(net)) => net.prefix_len() >= SOURCE_PREFIX_V6_MIN,
        Err(_) => true,
    };
    if narrow {
        return Ok(());
    }
    let (v4, v6) = (SOURCE_PREFIX_V4_MIN, SOURCE_PREFIX_V6_MIN);
    Err(format!("{text} is too wide a network to trust: at most /{v4}, or /{v6} of IPv6"))
}

fn header_name(text: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    Err(format!("{text:?} is no header name"))
}

fn realm(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err("a realm has no quotes, backslashes or control characters".to_owned());
    }
    Ok(())
}

fn sip_uri(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("{text:?} is no SIP URI: write sip:host or sip:host:port")),
    }
}

fn sip_uri_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { sip_uri(text) }
}

fn country_or_empty(text: &str) -> Result<(), String> {
    let two = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
    if text.is_empty() || two {
        return Ok(());
    }
    Err(format!("{text:?} is no country: write two capital letters, as in \"IN\""))
}

fn digits_or_empty(text: &str) -> Result<(), String> {
    if text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err("an area code has at most 8 digits".to_owned())
}

fn pattern(text: &str) -> Result<(), String> {
    regex::Regex::new(text).map(|_| ()).map_err(|_| format!("{text:?} is no regular expression"))
}

fn prefix(text: &str) -> Result<(), String> {
    let digits = text.strip_prefix('+').unwrap_or("");
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{text:?} is no prefix: write + and digits, as in \"+44\""))
}

fn currency(text: &str) -> Result<(), String> {
    if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err("a currency has three capital letters".to_owned())
}

fn time_of_day(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let part = |text: &str, max: u8| {
        text.len() == 2 && text.parse::<u8>().is_ok_and(|number| number <= max)
    };
    match text.split_once(':') {
        Some((hours, minutes)) if part(hours, 23) && part(minutes, 59) => Ok(()),
        _ => Err(format!("{text:?} is no time of day: write 09:00")),
    }
}
