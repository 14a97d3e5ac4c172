//! From the checked tree of a profile to the `Trunk` that routing uses.

use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::profile::Around;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tree::Place;
use crate::config::tree::Table;
use crate::config::tree::Value;
use crate::config::tree::View;
use crate::config::trunk_outbound;
use crate::config::trunk_registration;
use crate::routing::header_map::HeaderMap;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::RuleText;
use crate::routing::signalling::DtmfSend;
use crate::routing::signalling::EarlyMedia;
use crate::routing::signalling::InboundProgress;
use crate::routing::signalling::Prack;
use crate::routing::signalling::Progress;
use crate::routing::signalling::ReferOut;
use crate::routing::signalling::SessionTimer;
use crate::routing::signalling::TimerMethod;
use crate::routing::signalling::TimerMode;
use crate::routing::signalling::TimerRefresher;
use crate::routing::signalling::TrunkSignalling;
use crate::routing::trunk::DidSource;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::DigestAlgorithm;
use crate::routing::trunk::Jurisdiction;
use crate::routing::trunk::ResponseMap;
use crate::routing::trunk::RtcpMode;
use crate::routing::trunk::RtcpXr;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkMedia;
use crate::routing::trunk::TrunkSrtp;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::TRUNK_SOURCE_NAMES_MAX;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a trunk does not take from its profile.
pub(crate) struct TrunkIdentity {
    pub(crate) id: TrunkId,
    pub(crate) name: String,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) enabled: bool,
    /// Where problems of the trunk as a whole are shown.
    pub(crate) at: Place,
}

/// A trunk in the making.
pub(super) struct Build<'a> {
    pub(super) view: View<'a>,
    pub(super) enabled: bool,
    pub(super) at: Place,
    pub(super) sources: &'a Sources,
    pub(super) secrets: &'a dyn Secrets,
    pub(super) problems: &'a mut Vec<Problem>,
}

/// Makes a trunk of a tree the schema has passed. Where it has not, the values are senseless and the
/// problems are there already. Secrets are looked up, and contradictions reported, only for trunks
/// that are enabled.
pub(crate) fn build(
    tree: &Table,
    identity: TrunkIdentity,
    sources: &Sources,
    (around, problems): (&Around, &mut Vec<Problem>),
) -> Trunk {
    let (view, enabled, at) = (View(tree), identity.enabled, identity.at);
    let secrets = &*around.secrets;
    let mut build = Build { view, enabled, at, sources, secrets, problems };
    build.check_region(around.region.as_deref());
    build.check_ports(around.ports.as_ref());
    build.check_whole();
    let takes_calls = view.flag("inbound.enabled");
    Trunk {
        id: identity.id,
        name: identity.name,
        tenant: identity.tenant,
        enabled,
        listener: view.given("network.listener").and_then(|name| name.parse().ok()),
        sources: if takes_calls { networks(view, "inbound.source_cidrs") } else { Vec::new() },
        source_names: build.source_names(),
        request_hosts: view.texts("inbound.accept_ruri_hosts").map(str::to_owned).collect(),
        transports: view.texts("inbound.transports").filter_map(|t| t.parse().ok()).collect(),
        priority: view.number("inbound.match_priority"),
        required_headers: build.required_headers(),
        digest: build.digest(),
        did_sources: view
            .texts("inbound.did_sources")
            .filter_map(DidSource::from_spelling)
            .collect(),
        called: build.rules("numbers.inbound_called"),
        calling: build.rules("numbers.inbound_calling"),
        anonymous_allowed: view.text("inbound.anonymous") == "accept",
        response_map: response_map(view),
        media: media(view),
        calls_max: view.number("limits.channels"),
        calls_in_max: view.number("limits.channels_in"),
        cps_max: view.number("limits.cps_in"),
        jurisdiction: Jurisdiction {
            region: view.text("compliance.region").to_owned(),
            area_code: view.text("numbers.area_code").to_owned(),
            no_pstn_bridge: view.flag("compliance.no_pstn_to_pstn_bridge"),
        },
        signalling: signalling(view),
        headers: header_map(view),
        outbound: trunk_outbound::build(&mut build),
        registration: trunk_registration::build(&mut build),
        ring_timeout: Duration::from_secs(view.number("calls.ring_timeout_s")),
        stores_traces: view.text("calls.trace") == "stored",
        max_duration: Duration::from_secs(view.number("calls.max_duration_s")),
        refer_out: ReferOut::from_spelling(view.text("calls.refer_out")).unwrap_or(ReferOut::None),
        takes_refer: view.text("calls.refer_in") == "b2bua",
        answer_delay: Duration::from_millis(view.number("progress.answer_delay_ms")),
        inbound_progress: InboundProgress::from_spelling(view.text("progress.inbound_progress"))
            .unwrap_or(InboundProgress::Ringing),
        progress: progress(view),
        country: view.text("numbers.country").to_owned(),
        peer_names: build.peer_names(),
        path: build.path(),
    }
}

impl Build<'_> {
    pub(crate) fn error(&mut self, path: &str, message: String) {
        self.problems.push(Problem::error(self.sources, self.place(path), message));
    }

    pub(crate) fn warn(&mut self, path: &str, message: String) {
        self.problems.push(Problem::warning(self.sources, self.place(path), message));
    }

    /// The value may stand in a file the trunk extends; the trunk itself is where it is missing.
    fn place(&self, path: &str) -> Place {
        match self.view.node(path) {
            Some(node) if node.at.source == self.at.source => node.at,
            _ => self.at,
        }
    }

    /// Media that must stay in a country is carried by nodes of that country alone.
    fn check_region(&mut self, node: Option<&str>) {
        let path = "compliance.no_foreign_media";
        let own = self.view.text("compliance.region");
        let Some(node) = node.filter(|_| self.enabled && self.view.flag(path)) else { return };
        if own.is_empty() {
            let message = format!("`{path}` needs `compliance.region`");
            self.error(path, message);
        } else if node != own {
            let message = format!(
                "`{path}`: this trunk's media stays in {own}; a node there says `region = {own:?}` in \
                 tandem.toml"
            );
            self.error(path, message);
        }
    }

    /// Firewalls know the part of the ports that a trunk keeps to; the node has to have it.
    fn check_ports(&mut self, node: Option<&RangeInclusive<u16>>) {
        let path = "network.rtp_port_range";
        let Some(own) = ports(self.view).filter(|_| self.enabled) else { return };
        if own.start().saturating_add(own.start() % 2) >= *own.end() {
            let message = format!("`{path}` has no even port with an odd one after it");
            self.error(path, message);
        } else if let Some(node) = node
            && !(node.contains(own.start()) && node.contains(own.end()))
        {
            let message = format!(
                "`{path}`: {} to {} is not within the node's ports, {} to {}",
                own.start(),
                own.end(),
                node.start(),
                node.end()
            );
            self.error(path, message);
        }
    }

    /// What is wrong only in an enabled trunk, and only as a whole.
    fn check_whole(&mut self) {
        if !self.enabled {
            return;
        }
        let view = self.view;
        if view.flag("inbound.enabled") {
            let wanted = [
                ("inbound.transports", "nobody can call by it"),
                ("inbound.did_sources", "no number would be found"),
                ("codecs.accept", "no call could have audio"),
            ];
            for (path, why) in wanted {
                if view.list(path).is_empty() {
                    self.error(path, format!("an enabled trunk needs `{path}`: {why}"));
                }
            }
            let paths = ["inbound.source_cidrs", "inbound.source_dns"];
            if paths.iter().all(|path| view.list(path).is_empty()) {
                let [path, _] = paths;
                self.error(path, format!("an enabled trunk needs `{path}`: nobody can call by it"));
            }
            if view.list("network.remote_media_cidrs").is_empty() {
                let message = "`network.remote_media_cidrs` is empty: media is taken from anywhere";
                self.warn("network.remote_media_cidrs", message.to_owned());
            }
        }
        if view.integer("codecs.max_ptime_ms") < view.integer("codecs.ptime_ms") {
            let message = "`codecs.max_ptime_ms` is below `codecs.ptime_ms`".to_owned();
            self.error("codecs.max_ptime_ms", message);
        }
        self.check_srtp();
        if view.integer("session_timer.expires_s") < view.integer("session_timer.min_se_s") {
            let message = "`session_timer.expires_s` is below `session_timer.min_se_s`".to_owned();
            self.error("session_timer.expires_s", message);
        }
        if view.text("inbound.digest.mode") == "required" {
            for path in ["inbound.digest.username", "inbound.digest.password_ref"] {
                if view.text(path).is_empty() {
                    self.error(
                        path,
                        format!("`inbound.digest.mode` is \"required\", so is `{path}`"),
                    );
                }
            }
            if view.list("inbound.digest.algorithms").is_empty() {
                let path = "inbound.digest.algorithms";
                self.error(path, format!("`{path}` names at least one"));
            }
        }
    }

    /// A trunk that encrypts must be able to agree on keys.
    fn check_srtp(&mut self) {
        let view = self.view;
        let policy = view.text("srtp.policy");
        if !matches!(policy, "optional" | "required") {
            return;
        }
        for path in ["srtp.offer_suites", "srtp.accept_suites"] {
            if view.list(path).is_empty() {
                self.error(path, format!("`srtp.policy` is \"{policy}\": `{path}` names a suite"));
            }
        }
        let has_tls = view.texts("inbound.transports").any(|transport| transport == "tls");
        let needs_tls = view.flag("srtp.needs_tls_signalling");
        if policy == "required" && needs_tls && view.flag("inbound.enabled") && !has_tls {
            let message = "`srtp.policy` is \"required\" and `srtp.needs_tls_signalling` is true: \
                           without \"tls\" in `inbound.transports` every call would be refused";
            self.error("srtp.policy", message.to_owned());
        }
    }

    pub(crate) fn secret(
        &mut self,
        reference: &str,
        path: &str,
        at: Option<Place>,
    ) -> Secret<String> {
        if !self.enabled || reference.is_empty() || secret::check(reference).is_err() {
            return Secret::default();
        }
        let own = at.filter(|at| at.source == self.at.source).unwrap_or(self.at);
        if let Some(advice) = secret::advice(self.secrets, reference) {
            let message = format!("`{path}`: {advice}");
            self.problems.push(Problem::warning(self.sources, own, message));
        }
        match secret::resolve(self.secrets, reference) {
            Ok(secret) => secret,
            Err(why) => {
                let message = format!("`{path}`: {why}");
                self.problems.push(Problem::error(self.sources, own, message));
                Secret::default()
            }
        }
    }

    /// The names whose addresses may call in.
    fn source_names(&mut self) -> Vec<String> {
        let view = self.view;
        let path = "inbound.source_dns";
        if !view.flag("inbound.enabled") {
            return Vec::new();
        }
        let names: Vec<String> = view.texts(path).map(str::to_ascii_lowercase).collect();
        if self.enabled && names.len() > TRUNK_SOURCE_NAMES_MAX {
            self.error(path, format!("`{path}` has more than {TRUNK_SOURCE_NAMES_MAX} names"));
        }
        names
    }

    fn required_headers(&mut self) -> Vec<(String, Secret<String>)> {
        let mut headers = Vec::new();
        for (index, (node, header)) in self.view.tables("inbound.require_headers").enumerate() {
            let path = format!("inbound.require_headers[{index}]");
            let (name, reference) = (header.text("name"), header.text("value_ref"));
            if name.is_empty() || reference.is_empty() {
                let message = format!("`{path}` has a `name` and a `value_ref`");
                self.problems.push(Problem::error(self.sources, node.at, message));
            }
            let value = self.secret(reference, &format!("{path}.value_ref"), Some(node.at));
            headers.push((name.to_owned(), value));
        }
        headers
    }

    fn digest(&mut self) -> Option<DigestAccount> {
        let view = self.view;
        if view.text("inbound.digest.mode") != "required" {
            return None;
        }
        let path = "inbound.digest.password_ref";
        Some(DigestAccount {
            username: view.text("inbound.digest.username").to_owned(),
            password: self.secret(view.text(path), path, view.node(path).map(|node| node.at)),
            realm: view.given("inbound.digest.realm").unwrap_or("tandem").to_owned(),
            algorithms: view
                .texts("inbound.digest.algorithms")
                .filter_map(DigestAlgorithm::from_token)
                .collect(),
        })
    }

    pub(crate) fn rules(&mut self, path: &str) -> NumberRules {
        let texts: Vec<RuleText> = self
            .view
            .tables(path)
            .map(|(_, rule)| RuleText {
                pattern: rule.text("match").to_owned(),
                to: rule.text("to").to_owned(),
            })
            .collect();
        match NumberRules::compile(&texts, self.view.text("numbers.area_code")) {
            Ok(rules) => rules,
            Err(errors) => {
                // Rules are checked one by one with the schema; what is left is a missing area code.
                for error in errors.iter().filter(|_| self.enabled) {
                    let message = format!("`{path}[{}]`: {}", error.index, error.message);
                    let at = self.view.list(path).get(error.index).map_or(self.at, |rule| {
                        match &rule.value {
                            Value::Table(rule) => {
                                rule.get("to").map_or(self.at, |entry| entry.node.at)
                            }
                            _ => rule.at,
                        }
                    });
                    self.problems.push(Problem::error(self.sources, at, message));
                }
                NumberRules::default()
            }
        }
    }
}

fn networks(view: View<'_>, path: &str) -> Vec<IpNet> {
    let network = |text: &str| {
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    };
    view.texts(path).filter_map(network).collect()
}

fn header_map(view: View<'_>) -> HeaderMap {
    let variables = match view.node("headers.inbound_to_vars").map(|node| &node.value) {
        Some(Value::Table(table)) => table
            .iter()
            .filter_map(|(header, entry)| match &entry.node.value {
                Value::Text(name) => Some((header.clone(), name.parse().ok()?)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    HeaderMap {
        trust_asserted: view.flag("inbound.trust_asserted_identity"),
        variables,
        observe_identity: view.text("identity.verify") == "observe",
        verstat: view.given("identity.verstat_header").map(str::to_owned),
    }
}

fn response_map(view: View<'_>) -> ResponseMap {
    ResponseMap {
        busy: view.number("inbound.response_map.busy"),
        no_answer: view.number("inbound.response_map.no_answer"),
        not_found: view.number("inbound.response_map.not_found"),
        unknown_did: view.number("inbound.unknown_did"),
        policy: view.number("inbound.response_map.policy"),
        overload: view.number("inbound.response_map.overload"),
        draining: view.number("inbound.response_map.draining"),
        no_codec: view.number("inbound.response_map.no_codec"),
    }
}

/// The schema allows only words that are read here.
fn signalling(view: View<'_>) -> TrunkSignalling {
    let default = TrunkSignalling::default();
    let timer = default.session_timer;
    let word = |name: &str| view.text(&format!("session_timer.{name}")).to_owned();
    TrunkSignalling {
        session_timer: SessionTimer {
            mode: TimerMode::from_spelling(&word("mode")).unwrap_or(timer.mode),
            expires_s: view.number("session_timer.expires_s"),
            min_se_s: view.number("session_timer.min_se_s"),
            refresher: TimerRefresher::from_spelling(&word("refresher")).unwrap_or(timer.refresher),
            method: TimerMethod::from_spelling(&word("method")).unwrap_or(timer.method),
            spares_old_peers: view.flag("session_timer.reject_422_only_if_peer_supports_timer"),
        },
        prack: Prack::from_spelling(view.text("reliability.prack")).unwrap_or(default.prack),
        update: view.flag("reliability.update"),
    }
}

fn progress(view: View<'_>) -> Progress {
    let early_media = EarlyMedia::from_spelling(view.text("progress.early_media"));
    Progress {
        early_media: early_media.unwrap_or(EarlyMedia::CutThrough),
        ringback: view.flag("progress.ringback_on_180_without_sdp"),
    }
}

fn media(view: View<'_>) -> TrunkMedia {
    let codecs = |path| view.texts(path).filter_map(Codec::from_name).collect();
    let ptime = |path| Ptime::from_ms(view.number(path)).unwrap_or(Ptime::MS_20);
    let receives = |way: &str| view.texts("dtmf.receive").any(|own| own == way);
    let inactivity = view.number("network.rtp_inactivity_s");
    TrunkMedia {
        codecs_offered: codecs("codecs.offer"),
        codecs: codecs("codecs.accept"),
        order_remote: view.text("codecs.answer_order") != "local",
        single_codec: view.flag("codecs.single_codec_answer"),
        ptime: ptime("codecs.ptime_ms"),
        ptime_max: ptime("codecs.max_ptime_ms"),
        dtmf_payload_type: PayloadType::new(view.number("dtmf.payload_type"))
            .filter(|_| receives("rfc4733")),
        dtmf_info: receives("info"),
        dtmf_tones: receives("inband"),
        dtmf_private: view.flag("dtmf.private"),
        dtmf_send: DtmfSend::from_spelling(view.text("dtmf.send")).unwrap_or(DtmfSend::Rfc4733),
        dtmf_flash: view.text("dtmf.events") == "0-16",
        dtmf_ms: (view.number("dtmf.duration_ms"), view.number("dtmf.gap_ms")),
        rtcp: match view.text("codecs.rtcp") {
            "mux" => RtcpMode::Mux,
            "off" => RtcpMode::Off,
            _ => RtcpMode::On,
        },
        rtcp_xr: match view.text("codecs.rtcp_xr") {
            "off" => RtcpXr::Off,
            "on" => RtcpXr::On,
            _ => RtcpXr::Asked,
        },
        remote_cidrs: networks(view, "network.remote_media_cidrs"),
        symmetric: view.text("network.symmetric_rtp") != "off",
        ports: ports(view),
        inactivity: (inactivity > 0).then_some(Duration::from_secs(inactivity)),
        dscp: view.number("network.dscp.rtp"),
        silent_hold: view.text("calls.hold") == "inactive",
        advertise_rtp: view.text("network.advertise_rtp").parse().ok(),
        srtp: srtp(view),
    }
}

/// The part of the node's RTP ports that a trunk keeps to.
fn ports(view: View<'_>) -> Option<RangeInclusive<u16>> {
    let numbers: Vec<u16> = view
        .list("network.rtp_port_range")
        .iter()
        .filter_map(|node| match node.value {
            Value::Integer(port) => u16::try_from(port).ok(),
            _ => None,
        })
        .collect();
    match *numbers.as_slice() {
        [first, last] => Some(first..=last),
        _ => None,
    }
}

fn srtp(view: View<'_>) -> TrunkSrtp {
    let suites = |path| -> Vec<SrtpSuite> {
        let mut suites: Vec<SrtpSuite> = Vec::new();
        for suite in view.texts(path).filter_map(|name| SrtpSuite::from_name(name.as_bytes())) {
            if !suites.contains(&suite) {
                suites.push(suite);
            }
        }
        suites
    };
    TrunkSrtp {
        policy: match view.text("srtp.policy") {
            "optional" => SrtpPolicy::Optional,
            "required" => SrtpPolicy::Required,
            _ => SrtpPolicy::Off,
        },
        suites_offered: suites("srtp.offer_suites"),
        suites: suites("srtp.accept_suites"),
        send_mki: view.flag("srtp.send_mki"),
        send_lifetime: view.flag("srtp.send_lifetime"),
        needs_tls: view.flag("srtp.needs_tls_signalling"),
    }
}
