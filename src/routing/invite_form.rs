//! `InviteForm`: the texts of an INVITE to a gateway, ready to be sent.

use crate::routing::caller_id::Asserted;
use crate::routing::caller_id::DiversionPolicy;
use crate::routing::gateway::Gateway;
use crate::routing::outbound::DiversionReason;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound_trunk::HeaderText;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::outbound_trunk::RequestForm;
use crate::routing::table::Tenant;
use crate::routing::template::Template;
use crate::routing::template::Values;
use crate::routing::template::escaped_user;
use crate::routing::template::is_host;
use crate::routing::trail::TRAIL_HEADER;
use crate::routing::trail::is_number;
use crate::routing::trunk::Trunk;
use crate::types::header::CallVariables;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::limit::EXTRA_HEADERS_MAX;
use crate::types::number::E164;
use crate::types::transport::Transport;
use std::fmt;
use std::sync::Arc;

/// What stands for a caller who is withheld, in user parts.
const ANONYMOUS: &str = "anonymous";
/// The display name of such a caller (RFC 3323 §4.1.1.3).
const ANONYMOUS_NAME: &str = "Anonymous";

/// The texts of an INVITE to a gateway. None of them holds a line break.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteForm {
    /// The Request-URI. Its host is the carrier's wish; where it is sent is the gateway's next hop.
    pub uri: String,
    /// The URI of From.
    pub from: String,
    /// The display name of From, not yet quoted.
    pub from_display: Option<String>,
    /// The URI of To.
    pub to: String,
    /// The user part of our Contact, escaped.
    pub contact_user: String,
    /// Max-Forwards.
    pub max_forwards: u8,
    /// The value of a Route header above those of the dialog, if the gateway's proxy wants one.
    pub route: Option<String>,
    /// Headers beside the protocol's own, each once.
    pub headers: Vec<(FieldName, FieldValue)>,
}

impl fmt::Debug for InviteForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No URIs: they are telephone numbers.
        f.debug_struct("InviteForm").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// What all tries of one call by one trunk have in common.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) outbound: Arc<OutboundTrunk>,
    pub(crate) request: Arc<OutboundRequest>,
    /// The caller ID that is shown, or asserted while it is withheld.
    pub(crate) caller: E164,
    pub(crate) withheld: bool,
    /// The number that a redirection sent elsewhere.
    pub(crate) redirected_from: Option<E164>,
}

/// What a number is on the wire, and the rule that made it so.
pub(crate) struct OnWire {
    pub(crate) text: String,
    pub(crate) rule: Option<usize>,
}

impl Sender {
    /// The number dialled as the carrier wants it; `None` where a rule made nothing of it.
    pub(crate) fn called_on_wire(&self, called: E164) -> Option<OnWire> {
        on_wire(&self.outbound.called, called)
    }

    /// The caller as the carrier wants it.
    pub(crate) fn caller_on_wire(&self) -> Option<OnWire> {
        on_wire(&self.outbound.calling, self.caller)
    }

    /// The INVITE to a gateway; `None` where rules make no number of caller or called.
    pub(crate) fn form(&self, gateway: &Gateway, dialled: E164) -> Option<InviteForm> {
        let called = escaped_user(&self.called_on_wire(dialled)?.text);
        let caller = escaped_user(&self.caller_on_wire()?.text);
        let (form, policy) = (&self.outbound.form, &self.outbound.caller_id);
        let mut values = Values {
            caller: &caller,
            called: &called,
            gateway_host: &gateway.uri.host,
            from_host: "",
            area_code: &self.trunk.jurisdiction.area_code,
            call_id: &self.request.call_id,
            variables: &self.request.variables,
            trace: None,
        };
        let from_host = host(&form.from_host, &values);
        values.from_host = &from_host;
        let hidden = Values { caller: ANONYMOUS, ..values };
        let open = if self.withheld { hidden } else { values };
        let phone = phone_of(form);
        let (from, from_display) = if self.withheld {
            (policy.anonymous_from.clone(), Some(ANONYMOUS_NAME.to_owned()))
        } else {
            let user = policy.from_user.fill(&values).unwrap_or_default();
            let name = policy.display_name.fill(&values).filter(|name| !name.is_empty());
            (format!("sip:{user}@{from_host}{phone}"), name)
        };
        Some(InviteForm {
            uri: request_uri(form, gateway, &values),
            from,
            from_display,
            to: format!("sip:{called}@{}{phone}", host(&form.to_host, &values)),
            contact_user: form.contact_user.fill(&open).unwrap_or_default(),
            max_forwards: self.request.hops_left.unwrap_or(form.max_forwards),
            route: gateway.route(),
            headers: self.headers(&values, &open, phone),
        })
    }

    fn headers(
        &self,
        values: &Values<'_>,
        open: &Values<'_>,
        phone: &str,
    ) -> Vec<(FieldName, FieldValue)> {
        let mut headers = Headers(Vec::new());
        self.identity(values, phone, &mut headers);
        self.diversion(values, &mut headers);
        if self.outbound.form.early_media_header {
            headers.own("P-Early-Media", "supported");
        }
        let policy = &self.outbound.headers;
        if let Some(trail) = self.request.trail.as_ref().filter(|_| policy.trail) {
            headers.add(FieldName::own(TRAIL_HEADER), trail.clone());
        }
        for (name, text) in &policy.set {
            let value = match text {
                HeaderText::Template(template) => template.fill(open),
                HeaderText::Secret(secret) => Some(secret.expose().clone()),
            };
            if let Some(Ok(value)) = value.map(|value| value.parse()) {
                headers.add(name.clone(), value);
            }
        }
        for (name, value) in &self.request.headers {
            if policy.pass.iter().any(|glob| glob.covers(name.as_str())) {
                headers.add(name.clone(), value.clone());
            }
        }
        headers.0
    }

    /// The header that asserts the caller, and Privacy (RFC 3323, 3325).
    fn identity(&self, values: &Values<'_>, phone: &str, headers: &mut Headers) {
        let policy = &self.outbound.caller_id;
        let uri = policy.asserted_uri.fill(values).unwrap_or_default();
        match policy.asserted {
            Asserted::Pai => headers.own("P-Asserted-Identity", &format!("<{uri}{phone}>")),
            Asserted::Ppi => headers.own("P-Preferred-Identity", &format!("<{uri}{phone}>")),
            Asserted::Rpid => {
                let privacy = if self.withheld { "full" } else { "off" };
                let tail = format!("party=calling;screen=yes;privacy={privacy}");
                headers.own("Remote-Party-ID", &format!("<{uri}{phone}>;{tail}"));
            }
            Asserted::None => {}
        }
        if self.withheld {
            headers.own("Privacy", "id");
        }
    }

    /// Who sent the call on: a redirection of the carrier, or we by forwarding.
    fn diversion(&self, values: &Values<'_>, headers: &mut Headers) {
        let policy = self.outbound.caller_id.diversion;
        if let (DiversionPolicy::Pass, Some(came)) = (policy, &self.request.forwarding) {
            let entries = came.history.as_ref().map(|history| &history.entries);
            for (name, value) in [("Diversion", came.diversion.as_ref()), ("History-Info", entries)]
            {
                if let Some(value) = value {
                    headers.own(name, value.as_str());
                }
            }
        }
        let by = match (self.redirected_from, &self.request.forwarding) {
            (Some(number), _) => on_wire(&self.outbound.called, number)
                .map(|w| (w, DiversionReason::Unconditional, number)),
            (None, Some(forwarding)) => on_wire(&self.outbound.calling, forwarding.dialled)
                .map(|w| (w, forwarding.reason, forwarding.dialled)),
            (None, None) => None,
        };
        let Some((wire, reason, number)) = by else { return };
        let (own, host, called) = (escaped_user(&wire.text), values.from_host, values.called);
        match policy {
            DiversionPolicy::Generate => {
                let reason = reason.as_str();
                // One entry stands for those before it too, so that a circle is counted (RFC 5806).
                let before = self.request.forwarding.as_ref().map_or(0, |came| came.diverted);
                let counter = before.saturating_add(1);
                let value = format!("<sip:{own}@{host}>;reason={reason};counter={counter}");
                headers.own("Diversion", &value);
            }
            DiversionPolicy::HistoryInfo => {
                let own = format!("<sip:{own}@{host}>");
                let next = format!("<sip:{called}@{host};cause={}>", reason.cause());
                let came = self.request.forwarding.as_ref().and_then(|came| came.history.as_ref());
                let names_it = |user: &[u8]| is_number(&self.trunk, user, number);
                // RFC 7044 §9.2: what came before stays, else nobody finds a circle in it.
                if let Some(whole) = came.and_then(|came| came.extended(&own, &next, names_it)) {
                    headers.own("History-Info", &whole);
                }
                // Also where that became too long for a header.
                headers.own("History-Info", &format!("{own};index=1, {next};index=1.1;mp=1"));
            }
            DiversionPolicy::Pass | DiversionPolicy::Strip => {}
        }
    }
}

/// Headers in the making: each name once, the first wins; bounded.
struct Headers(Vec<(FieldName, FieldValue)>);

impl Headers {
    fn own(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = value.parse() {
            self.add(FieldName::own(name), value);
        }
    }

    fn add(&mut self, name: FieldName, value: FieldValue) {
        let known = self.0.iter().any(|(own, _)| own.as_str().eq_ignore_ascii_case(name.as_str()));
        if !known && self.0.len() < EXTRA_HEADERS_MAX {
            self.0.push((name, value));
        }
    }
}

fn on_wire(rules: &crate::routing::numbers::NumberRules, number: E164) -> Option<OnWire> {
    let written = match rules.apply(number.as_str()) {
        Some((rule, text)) => OnWire { text, rule: Some(rule) },
        None => OnWire { text: number.as_str().to_owned(), rule: None },
    };
    (!written.text.is_empty()).then_some(written)
}

fn host(template: &Template, values: &Values<'_>) -> String {
    let filled = template.fill(values).filter(|host| is_host(host));
    filled.unwrap_or_else(|| values.gateway_host.to_owned())
}

/// A number as the Request-URI of a call to it by this gateway of the trunk has it: so the carrier finds whom a REFER
/// names, and whose call that is. `None` where the trunk does not call out, or its rules make no number of it.
#[must_use]
pub fn called_uri(trunk: &Trunk, gateway: &Gateway, number: E164) -> Option<String> {
    let outbound = trunk.outbound.as_ref()?;
    let called = escaped_user(&on_wire(&outbound.called, number)?.text);
    let none = CallVariables::default();
    let values = Values {
        caller: "",
        called: &called,
        gateway_host: &gateway.uri.host,
        from_host: "",
        area_code: &trunk.jurisdiction.area_code,
        call_id: "",
        variables: &none,
        trace: None,
    };
    Some(request_uri(&outbound.form, gateway, &values))
}

/// The Request-URI: the number called, at the host that the carrier wants.
fn request_uri(form: &RequestForm, gateway: &Gateway, values: &Values<'_>) -> String {
    let place = request_place(&form.request_host, gateway, values);
    format!("sip:{}@{place}{}", values.called, phone_of(form))
}

/// What says of a URI that its user is a telephone number, where the carrier wants that said.
const fn phone_of(form: &RequestForm) -> &'static str {
    if form.user_phone { ";user=phone" } else { "" }
}

/// The host of the Request-URI. Where it is the gateway's own, its port and transport stand there too:
/// such a URI also says where it goes (RFC 3261 §19.1.2).
fn request_place(template: &Template, gateway: &Gateway, values: &Values<'_>) -> String {
    let mut place = host(template, values);
    if place == gateway.uri.host {
        if let Some(port) = gateway.uri.port {
            place.push_str(&format!(":{port}"));
        }
        if let Some(transport) = gateway.uri.transport.filter(|own| *own != Transport::Udp) {
            place.push_str(&format!(";transport={transport}"));
        }
    }
    place
}

impl DiversionReason {
    /// The token of a Diversion header (RFC 5806).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unconditional => "unconditional",
            Self::Busy => "user-busy",
            Self::NoAnswer => "no-answer",
            Self::Unavailable => "unavailable",
            Self::Deflection => "deflection",
        }
    }

    /// The `cause` of a History-Info entry (RFC 4458 §2).
    const fn cause(self) -> u16 {
        match self {
            Self::Unconditional => 302,
            Self::Busy => 486,
            Self::NoAnswer => 408,
            Self::Unavailable => 404,
            Self::Deflection => 480,
        }
    }
}
