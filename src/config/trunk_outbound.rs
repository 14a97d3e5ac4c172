//! From the checked tree of a profile to how its trunk calls out.

use crate::config::problem::Problem;
use crate::config::tree::View;
use crate::config::trunk::Build;
use crate::routing::caller_id::Allowed;
use crate::routing::caller_id::Asserted;
use crate::routing::caller_id::CallerIdPolicy;
use crate::routing::caller_id::Choice;
use crate::routing::caller_id::DiversionPolicy;
use crate::routing::caller_id::OnDisallowed;
use crate::routing::caller_id::Privacy;
use crate::routing::destination::Destinations;
use crate::routing::destination::Micros;
use crate::routing::destination::Prefix;
use crate::routing::destination::Rate;
use crate::routing::gateway::Gateway;
use crate::routing::gateway::HopUri;
use crate::routing::gateway::Lookup;
use crate::routing::gateway::Strategy;
use crate::routing::health::AliveCodes;
use crate::routing::health::HealthPolicy;
use crate::routing::health::Probing;
use crate::routing::outbound_trunk::Budget;
use crate::routing::outbound_trunk::CallClass;
use crate::routing::outbound_trunk::CallingHours;
use crate::routing::outbound_trunk::ClientAccount;
use crate::routing::outbound_trunk::Compliance;
use crate::routing::outbound_trunk::Failover;
use crate::routing::outbound_trunk::HeaderPolicy;
use crate::routing::outbound_trunk::HeaderText;
use crate::routing::outbound_trunk::NeverAfter;
use crate::routing::outbound_trunk::OutboundLimits;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::outbound_trunk::Patience;
use crate::routing::outbound_trunk::Pattern;
use crate::routing::outbound_trunk::Redirect;
use crate::routing::outbound_trunk::RedirectPolicy;
use crate::routing::outbound_trunk::RequestForm;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::routing::trunk::DigestAlgorithm;
use crate::types::header::NameGlob;
use crate::types::limit::TRUNK_GATEWAYS_MAX;
use crate::types::transport::Transport;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;

/// OPTIONS more often than this get a source banned at some carriers.
const PROBE_INTERVAL_MIN_S: i64 = 15;

/// How the trunk calls out; `None` where it does not.
pub(crate) fn build(build: &mut Build<'_>) -> Option<Arc<OutboundTrunk>> {
    let view = build.view;
    if !view.flag("outbound.enabled") {
        return None;
    }
    build.check_outbound();
    let seconds = |path| Duration::from_secs(view.number(path));
    let millis = |path| Duration::from_millis(view.number(path));
    let outbound = OutboundTrunk {
        gateways: view.tables("outbound.gateway").filter_map(|(_, table)| gateway(table)).collect(),
        strategy: match view.text("outbound.strategy") {
            "round_robin" => Strategy::RoundRobin,
            "least_calls" => Strategy::LeastCalls,
            _ => Strategy::PriorityWeight,
        },
        form: form(view),
        account: build.account(),
        via_registered_flow: view.flag("outbound.via_registered_flow"),
        needs_registration: view.flag("registration.enabled")
            && view.flag("registration.needed_for_outbound"),
        called: build.rules("numbers.outbound_called"),
        calling: build.rules("numbers.outbound_calling"),
        must_match: Pattern::parse(view.text("numbers.outbound_must_match")).ok(),
        caller_id: caller_id(view),
        headers: build.headers(),
        failover: failover(view),
        patience: Patience {
            no_reply: millis("calls.no_reply_timeout_ms"),
            setup: seconds("calls.setup_timeout_s"),
        },
        redirect: Redirect {
            policy: match view.text("calls.redirect_3xx") {
                "follow_same_gateway" => RedirectPolicy::SameGateway,
                "follow_allow_list" => RedirectPolicy::OwnGateways,
                _ => RedirectPolicy::Reject,
            },
            max: view.number("calls.redirects_max"),
        },
        health: health(view),
        limits: OutboundLimits {
            calls_max: view.number("limits.channels_out"),
            cps_max: view.number("limits.cps_out"),
            queue: match view.text("limits.cps_overflow") {
                "queue" => millis("limits.queue_ms"),
                _ => Duration::ZERO,
            },
            cps_per_address: view.number("limits.cps_per_remote_ip"),
        },
        destinations: Destinations {
            allow: prefixes(view, "security.allow_destinations"),
            deny: prefixes(view, "security.deny_destinations"),
        },
        budget: budget(view),
        compliance: compliance(view),
    };
    Some(Arc::new(outbound))
}

impl Build<'_> {
    /// What is wrong only in an enabled trunk that calls out, and only as a whole.
    fn check_outbound(&mut self) {
        if !self.enabled {
            return;
        }
        let view = self.view;
        self.check_gateways();
        if view.list("security.allow_destinations").is_empty() {
            let path = "security.allow_destinations";
            self.warn(path, "`security.allow_destinations` is empty: nothing may be called".into());
        }
        let (user, password) = ("outbound.digest.username", "outbound.digest.password_ref");
        let login = view.given(user).or(view.given("outbound.digest.auth_username"));
        if login.is_some() != view.given(password).is_some() {
            let message = "`outbound.digest` has both a `username` and a `password_ref`, or none";
            self.error(password, message.to_owned());
        }
        let path = "outbound.via_registered_flow";
        if view.flag(path) && !view.flag("registration.enabled") {
            self.error(path, format!("`{path}` needs `registration.enabled`"));
        }
        let interval = view.integer("options.interval_s");
        if (1..PROBE_INTERVAL_MIN_S).contains(&interval) {
            let message = format!(
                "`options.interval_s` is 0 or at least {PROBE_INTERVAL_MIN_S}: carriers ban who asks \
                 more often"
            );
            self.error("options.interval_s", message);
        }
        let spend = view.fraction("security.daily_spend.amount");
        if spend > 0.0 && view.list("security.rates").is_empty() {
            let message =
                "`security.daily_spend` needs `security.rates`: what has no price is not called";
            self.error("security.daily_spend", message.to_owned());
        }
        let given = |path| view.given(path).is_some();
        let hours = ["compliance.calling_hours.from", "compliance.calling_hours.to"].map(given);
        let zone = given("compliance.calling_hours.tz");
        if hours != [false; 2] && (hours != [true; 2] || !zone) {
            let message = "`compliance.calling_hours` has `tz`, `from` and `to`, or none of them";
            self.error("compliance.calling_hours", message.to_owned());
        }
        self.check_caller_id();
    }

    fn check_gateways(&mut self) {
        let view = self.view;
        let gateways: Vec<_> = view.tables("outbound.gateway").collect();
        if gateways.is_empty() {
            let message = "a trunk that calls out needs an `[[outbound.gateway]]`".to_owned();
            self.error("outbound.gateway", message);
        }
        if gateways.len() > TRUNK_GATEWAYS_MAX {
            let message = format!("a trunk has at most {TRUNK_GATEWAYS_MAX} gateways");
            self.error("outbound.gateway", message);
        }
        for (index, (node, table)) in gateways.iter().enumerate() {
            let (name, uri) = (table.text("name"), table.text("uri"));
            let twice = gateways.iter().take(index).any(|(_, other)| other.text("name") == name);
            let message = match (name, uri) {
                ("", _) | (_, "") => "has a `name` and a `uri`",
                _ if twice => "has a name of its own",
                _ => continue,
            };
            let message = format!("`outbound.gateway[{index}]` {message}");
            self.problems.push(Problem::error(self.sources, node.at, message));
        }
    }

    fn check_caller_id(&mut self) {
        let policy = caller_id(self.view);
        let listed = |number| {
            policy.allowed.iter().any(|entry| match entry {
                Allowed::Number(allowed) => *allowed == number,
                Allowed::Prefix(prefix) => prefix.covers(number),
                Allowed::Dids => true,
            })
        };
        match (policy.choice, policy.default) {
            (Choice::Fixed, None) => {
                let message = "`caller_id.policy` is \"fixed\", so there is a `caller_id.default`";
                self.error("caller_id.default", message.to_owned());
            }
            (Choice::AllowList, Some(default)) if !listed(default) => {
                let message = "`caller_id.default` is not in `caller_id.allowed`";
                self.error("caller_id.default", message.to_owned());
            }
            (Choice::AllowList, None) if policy.allowed.is_empty() => {
                let message = "`caller_id.allowed` is empty: no call could show a number";
                self.error("caller_id.allowed", message.to_owned());
            }
            _ => {}
        }
    }

    fn account(&mut self) -> Option<ClientAccount> {
        let view = self.view;
        let path = "outbound.digest.password_ref";
        let username = view
            .given("outbound.digest.auth_username")
            .or(view.given("outbound.digest.username"))?;
        Some(ClientAccount {
            username: username.to_owned(),
            password: self.secret(view.text(path), path, view.node(path).map(|node| node.at)),
            realm: view.given("outbound.digest.realm").map(str::to_owned),
            algorithms: view
                .texts("outbound.digest.algorithms")
                .filter_map(DigestAlgorithm::from_token)
                .collect(),
        })
    }

    fn headers(&mut self) -> HeaderPolicy {
        let mut set = Vec::new();
        for (index, (node, header)) in self.view.tables("headers.outbound_set").enumerate() {
            let path = format!("headers.outbound_set[{index}]");
            let (value, reference) = (header.given("value"), header.given("value_ref"));
            let name = header.text("name").parse();
            let text = match (value, reference) {
                (Some(text), None) => {
                    Template::parse(text, Scope::Header).ok().map(HeaderText::Template)
                }
                (None, Some(reference)) => {
                    let path = format!("{path}.value_ref");
                    Some(HeaderText::Secret(self.secret(reference, &path, Some(node.at))))
                }
                (None, None) | (Some(_), Some(_)) => None,
            };
            match (name, text) {
                (Ok(name), Some(text)) => set.push((name, text)),
                _ => {
                    let message = format!("`{path}` has a `name`, and a `value` or a `value_ref`");
                    self.problems.push(Problem::error(self.sources, node.at, message));
                }
            }
        }
        let pass = self.view.texts("headers.outbound_pass").filter_map(NameGlob::parse).collect();
        HeaderPolicy { set, pass, trail: self.view.flag("headers.trail") }
    }
}

fn gateway(table: View<'_>) -> Option<Arc<Gateway>> {
    let mut uri: HopUri = table.text("uri").parse().ok()?;
    let transport: Option<Transport> = table.given("transport").and_then(|text| text.parse().ok());
    uri.transport = transport.or(uri.transport);
    Some(Arc::new(Gateway {
        name: table.text("name").parse().ok()?,
        uri,
        proxy: table.given("proxy").and_then(|proxy| proxy.parse().ok()),
        lookup: match table.text("dns") {
            "a_all" => Lookup::AllAddresses,
            "fixed" => Lookup::Fixed,
            _ => Lookup::Srv,
        },
        priority: table.number("priority"),
        weight: table.node("weight").map_or(100, |_| table.number("weight")),
        calls_max: table.number("channels"),
        cps_max: table.number("cps"),
    }))
}

fn template(view: View<'_>, path: &str, scope: Scope) -> Template {
    Template::parse(view.text(path), scope).unwrap_or_else(|_| Template::fixed(""))
}

fn form(view: View<'_>) -> RequestForm {
    RequestForm {
        request_host: template(view, "outbound.request_host", Scope::Host),
        from_host: template(view, "outbound.from_host", Scope::Host),
        to_host: template(view, "outbound.to_host", Scope::Host),
        contact_user: template(view, "outbound.contact_user", Scope::User),
        user_phone: view.flag("outbound.user_phone"),
        max_forwards: view.number("outbound.max_forwards"),
        early_media_header: view.flag("progress.p_early_media"),
    }
}

fn caller_id(view: View<'_>) -> CallerIdPolicy {
    CallerIdPolicy {
        choice: match view.text("caller_id.policy") {
            "pass" => Choice::Pass,
            "fixed" => Choice::Fixed,
            _ => Choice::AllowList,
        },
        default: view.text("caller_id.default").parse().ok(),
        allowed: view.texts("caller_id.allowed").filter_map(allowed).collect(),
        on_disallowed: match view.text("caller_id.on_disallowed") {
            "reject" => OnDisallowed::Reject,
            _ => OnDisallowed::UseDefault,
        },
        from_user: template(view, "caller_id.from_user", Scope::User),
        display_name: template(view, "caller_id.display_name", Scope::Caller),
        asserted: match view.text("caller_id.asserted") {
            "ppi" => Asserted::Ppi,
            "rpid" => Asserted::Rpid,
            "none" => Asserted::None,
            _ => Asserted::Pai,
        },
        asserted_uri: template(view, "caller_id.asserted_uri", Scope::Caller),
        privacy: match view.text("caller_id.privacy") {
            "force" => Privacy::Force,
            "ignore" => Privacy::Ignore,
            _ => Privacy::Honour,
        },
        anonymous_from: view.text("caller_id.anonymous_from").to_owned(),
        diversion: match view.text("caller_id.diversion") {
            "generate" => DiversionPolicy::Generate,
            "history-info" => DiversionPolicy::HistoryInfo,
            "strip" => DiversionPolicy::Strip,
            _ => DiversionPolicy::Pass,
        },
    }
}

/// An entry of `caller_id.allowed`.
pub(crate) fn allowed(text: &str) -> Option<Allowed> {
    match text.strip_suffix('*') {
        Some(prefix) => prefix.parse().ok().map(Allowed::Prefix),
        None if text == "dids" => Some(Allowed::Dids),
        None => text.parse().ok().map(Allowed::Number),
    }
}

fn failover(view: View<'_>) -> Failover {
    Failover {
        on_codes: view.numbers("failover.on_codes").collect(),
        on_timeout: view.flag("failover.on_timeout"),
        on_transport_error: view.flag("failover.on_transport_error"),
        never_after: match view.text("failover.never_after") {
            "100" => NeverAfter::Trying,
            "early_media" => NeverAfter::EarlyMedia,
            _ => NeverAfter::Ringing,
        },
        throttle: view
            .texts("failover.throttle_match")
            .filter_map(|text| Pattern::parse(text).ok())
            .collect(),
        honour_retry_after: view.text("failover.retry_after") != "ignore",
        attempts_max: view.number("failover.max_attempts"),
    }
}

fn health(view: View<'_>) -> HealthPolicy {
    let interval: u64 = view.number("options.interval_s");
    HealthPolicy {
        probing: (interval > 0).then(|| Probing {
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(view.number("options.timeout_s")),
            down_after: view.number("options.down_after"),
            up_after: view.number("options.up_after"),
            alive: match view.text("options.alive_codes") {
                "any" => AliveCodes::Any,
                "2xx" => AliveCodes::Success,
                _ => AliveCodes::List(view.numbers("options.alive_codes").collect()),
            },
            request_user: view.text("options.request_user").to_owned(),
        }),
        cooldown: Duration::from_secs(view.number("failover.gateway_cooldown_s")),
    }
}

fn prefixes(view: View<'_>, path: &str) -> Vec<Prefix> {
    view.texts(path).filter_map(|text| text.parse().ok()).collect()
}

/// Money of a profile, a number with a fraction, in millionths. The schema has bounded it.
fn micros(amount: f64) -> Micros {
    Micros((amount.max(0.0) * 1e6).round() as u64)
}

fn budget(view: View<'_>) -> Budget {
    let rate = |table: View<'_>| {
        let increment = table.node("increment_s").map_or(60, |_| table.number("increment_s"));
        Some(Rate {
            prefix: table.text("prefix").parse().ok()?,
            per_minute: micros(table.fraction("per_minute")),
            increment: Duration::from_secs(increment),
        })
    };
    Budget {
        per_destination_min: view.number("security.max_calls_per_destination_per_min"),
        short_calls_pct: view.number("security.max_short_calls_pct"),
        daily_minutes: view.number("security.daily_minutes"),
        daily_spend: micros(view.fraction("security.daily_spend.amount")),
        currency: view.text("security.daily_spend.currency").to_owned(),
        rates: view.tables("security.rates").filter_map(|(_, table)| rate(table)).collect(),
    }
}

fn compliance(view: View<'_>) -> Compliance {
    let time = |path: &str| {
        let (hour, minute) = view.text(path).split_once(':')?;
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    };
    let hours = |from, to| Some(CallingHours { from: from?, to: to? });
    let (from, to) = ("compliance.calling_hours.from", "compliance.calling_hours.to");
    let zone = view.given("compliance.calling_hours.tz");
    Compliance {
        hours: hours(time(from), time(to)),
        zone: zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC),
        class: match view.text("compliance.call_class") {
            "service" => CallClass::Service,
            "promotional" => CallClass::Promotional,
            _ => CallClass::Any,
        },
    }
}
