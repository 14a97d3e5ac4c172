//! Templates: text with the few placeholders a profile may use.

use crate::types::header::CallVariables;
use crate::types::header::VariableName;

/// What a placeholder of a template stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{caller}`: the caller ID as the carrier wants it written; empty for an anonymous call.
    Caller,
    /// `{called}`: the number dialled as the carrier wants it written.
    Called,
    /// `{gateway.host}`: the host of the gateway's URI.
    GatewayHost,
    /// `{from_host}`: the host of From.
    FromHost,
    /// `{area_code}`: that of the trunk.
    AreaCode,
    /// `{call.id}`: the identity of the call in records.
    CallId,
    /// `{var.NAME}`: a variable of the call.
    Variable(VariableName),
    /// `{traceparent}`: where the call stands in its trace (W3C Trace Context).
    Trace,
}

/// Which placeholders a template may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Host parts: what does not depend on a call.
    Host,
    /// User parts of From and Contact.
    User,
    /// URIs and display names of the caller.
    Caller,
    /// Values of added headers: everything that a carrier may be told.
    Header,
    /// Those of headers of an agent behind SIP: everything.
    Agent,
}

impl Scope {
    const fn takes(self, placeholder: &Placeholder) -> bool {
        match placeholder {
            Placeholder::GatewayHost | Placeholder::AreaCode => true,
            Placeholder::Caller | Placeholder::Called => !matches!(self, Self::Host),
            Placeholder::FromHost => matches!(self, Self::Caller | Self::Header | Self::Agent),
            Placeholder::CallId | Placeholder::Variable(_) => {
                matches!(self, Self::Header | Self::Agent)
            }
            Placeholder::Trace => matches!(self, Self::Agent),
        }
    }

    const fn names(self) -> &'static str {
        match self {
            Self::Host => "{gateway.host} and {area_code}",
            Self::User => "{caller}, {called}, {gateway.host} and {area_code}",
            Self::Caller => "{caller}, {called}, {from_host}, {gateway.host} and {area_code}",
            Self::Header => {
                "{caller}, {called}, {from_host}, {gateway.host}, {area_code}, {call.id} and \
                 {var.NAME}"
            }
            Self::Agent => {
                "{caller}, {called}, {from_host}, {gateway.host}, {area_code}, {call.id}, \
                 {traceparent} and {var.NAME}"
            }
        }
    }
}

/// What stands behind the placeholders for one request.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// See [`Placeholder::Caller`].
    pub caller: &'a str,
    /// See [`Placeholder::Called`].
    pub called: &'a str,
    /// See [`Placeholder::GatewayHost`].
    pub gateway_host: &'a str,
    /// See [`Placeholder::FromHost`].
    pub from_host: &'a str,
    /// See [`Placeholder::AreaCode`].
    pub area_code: &'a str,
    /// See [`Placeholder::CallId`].
    pub call_id: &'a str,
    /// See [`Placeholder::Variable`].
    pub variables: &'a CallVariables,
    /// See [`Placeholder::Trace`]; `None` where calls are not traced.
    pub trace: Option<&'a str>,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Placeholder),
}

impl Template {
    /// A template without placeholders.
    #[must_use]
    pub fn fixed(text: &str) -> Self {
        Self(if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] })
    }

    /// `{gateway.host}`.
    #[must_use]
    pub fn gateway_host() -> Self {
        Self(vec![Part::Place(Placeholder::GatewayHost)])
    }

    /// `{caller}`.
    #[must_use]
    pub fn caller() -> Self {
        Self(vec![Part::Place(Placeholder::Caller)])
    }

    /// `sip:{caller}@{from_host}`.
    #[must_use]
    pub fn caller_uri() -> Self {
        Self(vec![
            Part::Text("sip:".to_owned()),
            Part::Place(Placeholder::Caller),
            Part::Text("@".to_owned()),
            Part::Place(Placeholder::FromHost),
        ])
    }

    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// A sentence about a placeholder that is unknown, or of no use here, or about control
    /// characters.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("control characters are not allowed here".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('{') {
            push_text(&mut parts, before);
            let (name, tail) = tail.split_once('}').ok_or("a `{` has no `}`")?;
            let place = placeholder(name).filter(|place| scope.takes(place));
            let wrong = || format!("`{{{name}}}` means nothing here: there is {}", scope.names());
            parts.push(Part::Place(place.ok_or_else(wrong)?));
            rest = tail;
        }
        if rest.contains('}') {
            return Err("a `}` has no `{`".to_owned());
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }

    /// True when it is empty, whatever the call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text for one request; `None` when a variable it names is not set, or a trace that is not kept.
    #[must_use]
    pub fn fill(&self, values: &Values<'_>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            let text = match part {
                Part::Text(text) => text.as_str(),
                Part::Place(Placeholder::Caller) => values.caller,
                Part::Place(Placeholder::Called) => values.called,
                Part::Place(Placeholder::GatewayHost) => values.gateway_host,
                Part::Place(Placeholder::FromHost) => values.from_host,
                Part::Place(Placeholder::AreaCode) => values.area_code,
                Part::Place(Placeholder::CallId) => values.call_id,
                Part::Place(Placeholder::Variable(name)) => values.variables.get(name)?.as_str(),
                Part::Place(Placeholder::Trace) => values.trace?,
            };
            out.push_str(text);
        }
        Some(out)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn placeholder(name: &str) -> Option<Placeholder> {
    Some(match name {
        "caller" => Placeholder::Caller,
        "called" => Placeholder::Called,
        "gateway.host" => Placeholder::GatewayHost,
        "from_host" => Placeholder::FromHost,
        "area_code" => Placeholder::AreaCode,
        "call.id" => Placeholder::CallId,
        "traceparent" => Placeholder::Trace,
        _ => Placeholder::Variable(name.strip_prefix("var.")?.parse().ok()?),
    })
}

/// `text` as the user part of a SIP URI: what RFC 3261 §25.1 does not allow there is escaped.
#[must_use]
pub fn escaped_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// True for a host name, an IPv4 address or an IPv6 address in brackets.
#[must_use]
pub fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']');
        return inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    proptest! {
        #[test]
        fn an_escaped_user_holds_nothing_that_ends_a_user_part(text in any::<String>()) {
            let user = escaped_user(&text);
            prop_assert!(!user.contains(['@', ':', ';', '<', '>', '"', ' ', '\r', '\n', '\0']));
        }

        #[test]
        fn no_template_holds_a_control_character(text in any::<String>()) {
            if let Ok(template) = Template::parse(&text, Scope::Header) {
                let variables = CallVariables::default();
                let filled = template.fill(&values(&variables)).unwrap_or_default();
                prop_assert!(!filled.chars().any(char::is_control));
            }
        }
    }

    fn values(variables: &CallVariables) -> Values<'_> {
        Values {
            caller: "8068167000",
            called: "09876543210",
            gateway_host: "sbc.example",
            from_host: "own.example",
            area_code: "80",
            call_id: "01920000",
            variables,
            trace: None,
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let mut variables = CallVariables::default();
        variables.set("campaign".parse().unwrap(), "spring sale".parse().unwrap());
        let fill =
            |text: &str| Template::parse(text, Scope::Header).unwrap().fill(&values(&variables));
        for (text, expected) in [
            ("sip:{caller}@{from_host}", Some("sip:8068167000@own.example")),
            ("{called}/{gateway.host}/{area_code}", Some("09876543210/sbc.example/80")),
            ("c={var.campaign};id={call.id}", Some("c=spring sale;id=01920000")),
            ("{var.nobody}", None),
            ("plain", Some("plain")),
            ("", Some("")),
        ] {
            assert_eq!(fill(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn agents_alone_are_told_of_the_trace_where_there_is_one() {
        let variables = CallVariables::default();
        let template = Template::parse("{traceparent}", Scope::Agent).unwrap();
        let traced = Values { trace: Some("00-7-8-01"), ..values(&variables) };
        assert_eq!(template.fill(&traced).as_deref(), Some("00-7-8-01"));
        assert_eq!(template.fill(&values(&variables)), None);
        let all = "{caller}{called}{from_host}{gateway.host}{area_code}{call.id}{var.x}";
        assert!(Template::parse(all, Scope::Agent).is_ok());
    }

    #[test]
    fn a_placeholder_is_refused_where_it_means_nothing() {
        for (text, scope) in [
            ("{caller}", Scope::Host),
            ("{from_host}", Scope::User),
            ("{var.x}", Scope::Caller),
            ("{traceparent}", Scope::Header),
            ("{nobody}", Scope::Header),
            ("{var.Bad}", Scope::Header),
            ("{caller", Scope::Header),
            ("caller}", Scope::Header),
            ("a\r\nb", Scope::Header),
        ] {
            assert!(Template::parse(text, scope).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for good in ["example.com", "10.0.0.1", "[2001:db8::1]", "a", "acme.pstn.twilio.com."] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a b", "a@b", "a:5060", "[2001:db8::1", "a..b", "a;b", "a>b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
