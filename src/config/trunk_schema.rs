//! The schema of trunk profiles. `sip-profiles/_base.toml` holds the default and the meaning of each
//! key; a test holds the two together.

use crate::config::schema::Built;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::config::trunk_text as text;

const U32: Kind = Kind::Integer(0, 1_000_000);
const SECONDS: Kind = Kind::Integer(0, 604_800);
const MILLISECONDS: Kind = Kind::Integer(0, 600_000);
const STATUS: Kind = Kind::Integer(400, 699);
const TRANSPORTS: Kind = Kind::Choices(&["udp", "tcp", "tls"]);
const CODECS: Kind = Kind::Choices(&["PCMU", "PCMA", "G722", "OPUS", "L16_16K", "L16_8K", "G729"]);
const ALGORITHMS: Kind = Kind::Choices(&["MD5", "SHA-256", "SHA-512-256"]);
const SUITES: Kind =
    Kind::Choices(&["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"]);

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, built: Built::Yes }
}

/// The keys of a profile that belong to its file alone; a trunk of the database has them in its row.
pub(crate) const FILE_KEYS: [&str; 7] =
    ["schema_version", "id", "abstract", "extends", "enabled", "tenant", "description"];

/// A trunk profile.
pub(crate) const PROFILE: &[Key] = &[
    key("schema_version", Kind::Numbers(&[1])),
    key("id", Kind::Parsed(text::profile_name)),
    key("abstract", Kind::Flag),
    key("extends", Kind::ParsedList(text::profile_name)),
    key("enabled", Kind::Flag),
    key("tenant", Kind::Parsed(text::tenant)),
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
];

const NETWORK: &[Key] = &[
    key("listener", Kind::Parsed(text::listener)),
    key("source_address", Kind::Parsed(text::address_or_empty)),
    key("interface", Kind::Parsed(text::interface_or_empty)),
    key("advertise_sip", Kind::Parsed(text::host_port_or_auto)),
    key("advertise_rtp", Kind::Parsed(text::address_or_auto)),
    key("remote_media_cidrs", Kind::ParsedList(text::network)),
    key("rtp_port_range", Kind::Range(1024, 65_535)),
    key("symmetric_rtp", Kind::Choice(&["off", "latch_once"])),
    key("rtp_inactivity_s", SECONDS),
    key("dscp", Kind::Table(DSCP)),
    key("udp_max_bytes", Kind::Integer(500, 65_535)),
    key("udp_oversize", Kind::Choice(&["tcp", "compact", "fragment"])),
    key("keepalive", Kind::Table(KEEPALIVE)),
];

const DSCP: &[Key] = &[key("rtp", Kind::Integer(0, 63))];

const KEEPALIVE: &[Key] = &[key("tcp_crlf_s", SECONDS), key("udp_s", SECONDS)];

const INBOUND: &[Key] = &[
    key("enabled", Kind::Flag),
    key("match_priority", U32),
    key("source_cidrs", Kind::ParsedList(text::source_network)),
    key("source_dns", Kind::ParsedList(text::dns_name)),
    key("transports", TRANSPORTS),
    key("accept_ruri_hosts", Kind::ParsedList(text::host)),
    key("did_sources", Kind::Choices(&["request-uri", "to", "diversion", "p-called-party-id"])),
    key("require_headers", Kind::Tables(REQUIRED_HEADER)),
    key("tls_client", Kind::Table(TLS_CLIENT)),
    key("digest", Kind::Table(INBOUND_DIGEST)),
    key("trust_asserted_identity", Kind::Flag),
    key("anonymous", Kind::Choice(&["accept", "reject_433"])),
    key("unknown_did", STATUS),
    key("response_map", Kind::Table(RESPONSE_MAP)),
];

const REQUIRED_HEADER: &[Key] =
    &[key("name", Kind::Parsed(text::header_name)), key("value_ref", Kind::Secret(secret::check))];

const TLS_CLIENT: &[Key] = &[key("required", Kind::Flag), key("san", Kind::Texts)];

const INBOUND_DIGEST: &[Key] = &[
    key("mode", Kind::Choice(&["never", "required"])),
    key("username", Kind::Text),
    key("password_ref", Kind::Secret(secret::check)),
    key("realm", Kind::Parsed(text::realm)),
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
    key("enabled", Kind::Flag),
    key("strategy", Kind::Choice(&["priority_weight", "round_robin", "least_calls"])),
    key("request_host", Kind::Parsed(text::host_template)),
    key("from_host", Kind::Parsed(text::host_template)),
    key("to_host", Kind::Parsed(text::host_template)),
    key("user_phone", Kind::Flag),
    key("contact_user", Kind::Parsed(text::user_template)),
    key("max_forwards", Kind::Integer(1, 255)),
    key("digest", Kind::Table(OUTBOUND_DIGEST)),
    key("via_registered_flow", Kind::Flag),
    key("gateway", Kind::Tables(GATEWAY)),
];

const OUTBOUND_DIGEST: &[Key] = &[
    key("username", Kind::Text),
    key("auth_username", Kind::Text),
    key("password_ref", Kind::Secret(secret::check)),
    key("realm", Kind::Parsed(text::realm)),
    key("algorithms", ALGORITHMS),
];

const GATEWAY: &[Key] = &[
    key("name", Kind::Parsed(text::gateway_name)),
    key("uri", Kind::Parsed(text::hop_uri)),
    key("proxy", Kind::Parsed(text::hop_uri)),
    key("transport", Kind::Choice(&["udp", "tcp", "tls"])),
    key("dns", Kind::Choice(&["srv", "a_all", "fixed"])),
    key("priority", Kind::Integer(0, 65_535)),
    key("weight", Kind::Integer(0, 65_535)),
    key("channels", U32),
    key("cps", U32),
];

const REGISTRATION_KEYS: &[Key] = &[
    key("enabled", Kind::Flag),
    key("registrar", Kind::Parsed(text::sip_uri_or_empty)),
    key("proxy", Kind::Parsed(text::sip_uri_or_empty)),
    key("aor", Kind::Parsed(text::sip_uri_or_empty)),
    key("contact_user", Kind::Parsed(text::uri_user_or_empty)),
    key("username", Kind::Text),
    key("auth_username", Kind::Text),
    key("password_ref", Kind::Secret(secret::check)),
    key("realm", Kind::Text),
    key("expires_s", Kind::Integer(30, 604_800)),
    key("refresh_ratio", Kind::Fraction(0.1, 0.99)),
    key("retry_s", Kind::Integers(1, 86_400)),
    key("forbidden_retry_s", Kind::Integer(30, 604_800)),
    key("needed_for_outbound", Kind::Flag),
    key("use_service_route", Kind::Flag),
    key("send_path", Kind::Flag),
];

const CODEC_KEYS: &[Key] = &[
    key("offer", CODECS),
    key("accept", CODECS),
    key("answer_order", Kind::Choice(&["remote", "local"])),
    key("ptime_ms", Kind::Numbers(&[10, 20, 30, 40, 60])),
    key("max_ptime_ms", Kind::Numbers(&[10, 20, 30, 40, 60])),
    key("rtcp", Kind::Choice(&["on", "mux", "off"])),
    key("rtcp_xr", Kind::Choice(&["off", "asked", "on"])),
    key("single_codec_answer", Kind::Flag),
];

const DTMF: &[Key] = &[
    key("send", Kind::Choice(&["rfc4733", "info"])),
    key("receive", Kind::Choices(&["rfc4733", "info", "inband"])),
    key("payload_type", Kind::Integer(96, 127)),
    key("events", Kind::Choice(&["0-15", "0-16"])),
    key("duration_ms", Kind::Integer(40, 2_000)),
    key("gap_ms", Kind::Integer(20, 2_000)),
    key("private", Kind::Flag),
];

const SRTP: &[Key] = &[
    key("policy", Kind::Choice(&["off", "optional", "required"])),
    key("offer_suites", SUITES),
    key("accept_suites", SUITES),
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
    key("country", Kind::Parsed(text::country_or_empty)),
    key("area_code", Kind::Parsed(text::digits_or_empty)),
    key("inbound_called", Kind::Rules),
    key("inbound_calling", Kind::Rules),
    key("outbound_called", Kind::Rules),
    key("outbound_calling", Kind::Rules),
    key("outbound_must_match", Kind::Parsed(text::pattern)),
];

const CALLER_ID: &[Key] = &[
    key("policy", Kind::Choice(&["pass", "allow_list", "fixed"])),
    key("default", Kind::Parsed(text::number_or_empty)),
    key("allowed", Kind::ParsedList(text::allowed_caller)),
    key("on_disallowed", Kind::Choice(&["default", "reject"])),
    key("from_user", Kind::Parsed(text::user_template)),
    key("display_name", Kind::Parsed(text::caller_template)),
    key("asserted", Kind::Choice(&["pai", "ppi", "rpid", "none"])),
    key("asserted_uri", Kind::Parsed(text::uri_template)),
    key("privacy", Kind::Choice(&["honour", "force", "ignore"])),
    key("anonymous_from", Kind::Parsed(text::sip_uri)),
    key("diversion", Kind::Choice(&["pass", "generate", "history-info", "strip"])),
];

const HEADERS: &[Key] = &[
    key("outbound_set", Kind::Tables(OUTBOUND_HEADER)),
    key("outbound_pass", Kind::ParsedList(text::name_glob)),
    key("trail", Kind::Flag),
    key("inbound_to_vars", Kind::MapOf(text::header_name, text::variable_name)),
];

const OUTBOUND_HEADER: &[Key] = &[
    key("name", Kind::Parsed(text::field_name)),
    key("value", Kind::Parsed(text::header_template)),
    key("value_ref", Kind::Secret(secret::check)),
];

const IDENTITY: &[Key] = &[
    key("verify", Kind::Choice(&["off", "observe"])),
    key("verstat_header", Kind::Parsed(text::header_name_or_empty)),
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
    key("early_media", Kind::Choice(&["cut_through", "ringback", "ignore"])),
    key("ringback_on_180_without_sdp", Kind::Flag),
    key("inbound_progress", Kind::Choice(&["180", "183_sdp", "none"])),
    key("answer_delay_ms", MILLISECONDS),
    key("p_early_media", Kind::Flag),
];

const CALLS: &[Key] = &[
    key("no_reply_timeout_ms", MILLISECONDS),
    key("setup_timeout_s", SECONDS),
    key("ring_timeout_s", Kind::Integer(1, 3_600)),
    key("max_duration_s", Kind::Integer(1, 604_800)),
    key("redirect_3xx", Kind::Choice(&["reject", "follow_same_gateway", "follow_allow_list"])),
    key("redirects_max", Kind::Integer(1, 5)),
    key("refer_in", Kind::Choice(&["reject", "b2bua"])),
    key("refer_out", Kind::Choice(&["none", "blind", "attended"])),
    key("trace", Kind::Choice(&["stored", "memory"])),
    key("hold", Kind::Choice(&["sendonly", "inactive"])),
];

const OPTIONS: &[Key] = &[
    key("interval_s", SECONDS),
    key("timeout_s", Kind::Integer(1, 32)),
    key("down_after", Kind::Integer(1, 100)),
    key("up_after", Kind::Integer(1, 100)),
    key("alive_codes", Kind::WordOrIntegers(&["any", "2xx"])),
    key("request_user", Kind::Parsed(text::user_text)),
];

const LIMITS: &[Key] = &[
    key("channels", U32),
    key("channels_in", U32),
    key("channels_out", U32),
    key("cps_out", U32),
    key("cps_in", U32),
    key("cps_overflow", Kind::Choice(&["queue", "reject_503"])),
    key("queue_ms", MILLISECONDS),
    key("cps_per_remote_ip", U32),
];

const FAILOVER: &[Key] = &[
    key("on_codes", Kind::Integers(300, 699)),
    key("on_timeout", Kind::Flag),
    key("on_transport_error", Kind::Flag),
    key("never_after", Kind::Choice(&["100", "180", "early_media"])),
    key("throttle_match", Kind::ParsedList(text::pattern)),
    key("retry_after", Kind::Choice(&["honour", "ignore"])),
    key("max_attempts", Kind::Integer(1, 100)),
    key("gateway_cooldown_s", SECONDS),
];

const SECURITY: &[Key] = &[
    key("allow_destinations", Kind::ParsedList(text::prefix)),
    key("deny_destinations", Kind::ParsedList(text::prefix)),
    key("max_calls_per_destination_per_min", U32),
    key("max_short_calls_pct", Kind::Integer(0, 100)),
    key("daily_minutes", Kind::Integer(0, 1_000_000_000)),
    key("daily_spend", Kind::Table(SPEND)),
    key("rates", Kind::Tables(RATE)),
];

const SPEND: &[Key] =
    &[key("amount", Kind::Fraction(0.0, 1e12)), key("currency", Kind::Parsed(text::currency))];

const RATE: &[Key] = &[
    key("prefix", Kind::Parsed(text::prefix_or_plus)),
    key("per_minute", Kind::Fraction(0.0, 1e6)),
    key("increment_s", Kind::Integer(1, 3_600)),
];

const COMPLIANCE: &[Key] = &[
    key("region", Kind::Parsed(text::country_or_empty)),
    key("no_foreign_media", Kind::Flag),
    key("no_pstn_to_pstn_bridge", Kind::Flag),
    key("calling_hours", Kind::Table(HOURS)),
    key("call_class", Kind::Choice(&["any", "service", "promotional"])),
];

const HOURS: &[Key] = &[
    key("tz", Kind::Parsed(text::time_zone)),
    key("from", Kind::Parsed(text::time_of_day)),
    key("to", Kind::Parsed(text::time_of_day)),
];
