//! Headers of calls in: which caller is believed, what becomes a variable, and what is written down.

use crate::routing::decision::Decision;
use crate::routing::identify::Attempt;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::trunk::Trunk;
use crate::types::header::CallVariables;
use crate::types::header::FieldValue;
use crate::types::header::VariableName;
use smallvec::SmallVec;

/// The longest text of a peer that a step of a decision repeats, in bytes.
const NOTED_BYTES_MAX: usize = 160;
/// Asserted identities that are read; RFC 3325 §9.1 knows of two.
const IDENTITIES_MAX: usize = 4;
/// Headers that tell where a call has been; written down where they come.
const HISTORY: [&str; 3] = ["Diversion", "History-Info", "Reason"];

/// What a trunk makes of the headers of its calls in. By default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderMap {
    /// The carrier vouches for P-Asserted-Identity (RFC 3325) or Remote-Party-ID.
    pub trust_asserted: bool,
    /// Headers that become variables of the call, by name. What is not listed becomes none.
    pub variables: Vec<(String, VariableName)>,
    /// What is said of the caller's attestation (STIR, RFC 8224) is written down.
    pub observe_identity: bool,
    /// The header in which the carrier says how it verified the attestation.
    pub verstat: Option<String>,
}

/// Who calls, as the headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed<'a> {
    /// The user part, with its parameters.
    pub(crate) user: &'a [u8],
    /// The caller asked to be withheld (RFC 3323), and we are told the number all the same.
    pub(crate) withheld: bool,
}

/// The caller that is believed: who the carrier vouches for, else who From names.
pub(crate) fn claimed<'a>(
    trunk: &Trunk,
    attempt: &Attempt<'a>,
    decision: &mut Decision,
) -> Claimed<'a> {
    let asserted = ["P-Asserted-Identity", "Remote-Party-ID"].into_iter().find_map(|name| {
        let users: SmallVec<[&[u8]; IDENTITIES_MAX]> = (0..IDENTITIES_MAX)
            .map_while(|nth| (attempt.header)(name, nth))
            .flat_map(entries)
            .filter_map(user_of_address)
            .take(IDENTITIES_MAX)
            .collect();
        // RFC 3325 §9.1: a SIP identity and a telephone number may stand beside each other, in any order.
        let number = users.iter().find(|user| is_number(trunk, user)).or_else(|| users.first());
        number.map(|user| (name, *user))
    });
    // Nobody needs to be believed who wants to be known less.
    let withheld = wants_privacy(attempt);
    match asserted {
        Some((name, user)) if trunk.headers.trust_asserted => {
            decision.note("caller", format!("taken from {name}"));
            Claimed { user, withheld }
        }
        Some((name, _)) => {
            decision.note("caller", format!("{name} is not believed on this trunk"));
            Claimed { user: attempt.caller_user, withheld }
        }
        None => Claimed { user: attempt.caller_user, withheld },
    }
}

/// Whether a user part is a telephone number by the trunk's rules.
fn is_number(trunk: &Trunk, user: &[u8]) -> bool {
    let rewritten = dial_text(user).map(|text| trunk.calling.rewrite(&text).0);
    matches!(rewritten, Some(Rewritten::Number(_)))
}

/// The addresses of one line, which commas part.
fn entries(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let end = outside(line, b',', true);
        rest = end.and_then(|end| line.get(end + 1..));
        line.get(..end.unwrap_or(line.len()))
    })
}

/// Whether a caller asks not to be shown: by Privacy (RFC 3323 §4.2, RFC 3325 §9.3), or by the parameter of
/// a Remote-Party-ID.
fn wants_privacy(attempt: &Attempt<'_>) -> bool {
    let says = |value: &[u8], between: [char; 2], wanted: &[&str]| {
        let text = String::from_utf8_lossy(value).to_ascii_lowercase();
        text.split(between).any(|word| wanted.contains(&word.trim()))
    };
    let privacy = attempt.first("Privacy");
    let by_privacy =
        privacy.is_some_and(|value| says(value, [';', ','], &["id", "user", "header"]));
    let party = attempt.first("Remote-Party-ID").and_then(|value| {
        // What stands in quotes or in the address is no parameter of ours.
        value.get(outside_quotes(value, b'>')?..)
    });
    let private = ["privacy=full", "privacy=uri", "privacy=name,uri"];
    by_privacy || party.is_some_and(|params| says(params, [';', ';'], &private))
}

/// The variables that the headers of a call set; one that cannot be a value is left out and named.
pub(crate) fn variables(
    trunk: &Trunk,
    attempt: &Attempt<'_>,
    decision: &mut Decision,
) -> CallVariables {
    let mut variables = CallVariables::default();
    for (header, name) in &trunk.headers.variables {
        let Some(value) = attempt.first(header) else { continue };
        let kept =
            FieldValue::from_bytes(value).is_ok_and(|value| variables.set(name.clone(), value));
        let words = if kept { "is set by" } else { "is left out: no text of one line in" };
        decision.note("variable", format!("{name} {words} {header}"));
    }
    variables
}

/// Writes down where the call has been, and what is said of the caller's attestation. Nothing is
/// believed of it: whoever reaches the port can write these headers.
pub(crate) fn note_claims(trunk: &Trunk, attempt: &Attempt<'_>, decision: &mut Decision) {
    for name in HISTORY {
        if let Some(value) = attempt.first(name) {
            decision.note("history", format!("{name}: {}", shown(value)));
        }
    }
    let map = &trunk.headers;
    if !map.observe_identity {
        return;
    }
    if let Some(name) = &map.verstat {
        match attempt.first(name) {
            Some(value) => decision.note("identity", format!("{name}: {}", shown(value))),
            // RFC 8224 and carriers alike: absent is not failed.
            None => decision.note("identity", format!("no {name}")),
        }
    }
    match attempt.first("Identity") {
        Some(value) => {
            decision.note("identity", format!("Identity of {} bytes, not verified", value.len()));
        }
        None => decision.note("identity", "no Identity"),
    }
}

/// A peer's text for a decision: short, on one line.
fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let short = text.get(..text.floor_char_boundary(NOTED_BYTES_MAX)).unwrap_or_default();
    let mut line: String = short.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if short.len() < text.len() {
        line.push('…');
    }
    line
}

/// The user part of the first address of a header, or the number of its `tel:` URI with the scheme;
/// `None` where there is none.
fn user_of_address(value: &[u8]) -> Option<&[u8]> {
    let uri = match outside_quotes(value, b'<') {
        Some(open) => {
            let rest = value.get(open + 1..)?;
            rest.get(..rest.iter().position(|byte| *byte == b'>')?)?
        }
        None => value.split(|byte| matches!(byte, b';' | b',')).next()?.trim_ascii(),
    };
    let scheme = uri.iter().position(|byte| *byte == b':')?;
    let (name, rest) = (uri.get(..scheme)?, uri.get(scheme + 1..)?);
    if name.eq_ignore_ascii_case(b"tel") {
        return Some(uri);
    }
    if !name.eq_ignore_ascii_case(b"sip") && !name.eq_ignore_ascii_case(b"sips") {
        return None;
    }
    let user = rest.get(..rest.iter().position(|byte| *byte == b'@')?)?;
    (!user.is_empty()).then_some(user)
}

/// Where a byte first stands outside a quoted string.
fn outside_quotes(value: &[u8], wanted: u8) -> Option<usize> {
    outside(value, wanted, false)
}

/// The same, outside angle brackets too where these count.
fn outside(value: &[u8], wanted: u8, brackets: bool) -> Option<usize> {
    let (mut quoted, mut escaped, mut enclosed) = (false, false, false);
    for (at, byte) in value.iter().enumerate() {
        match (quoted, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, false, b'"') if !enclosed => quoted = !quoted,
            (false, _, byte) if *byte == wanted && !enclosed => return Some(at),
            (false, _, b'<') => enclosed = brackets,
            (false, _, b'>') => enclosed = false,
            (_, _, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::explain::Question;
    use crate::routing::explain::explain;
    use crate::routing::inbound::Verdict;
    use crate::routing::outbound::tests::number;
    use crate::routing::outbound::tests::tenant;
    use crate::routing::outbound::tests::tenant_id;
    use crate::routing::outbound::tests::trunk_id;
    use crate::routing::table::AiProfile;
    use crate::routing::table::Contents;
    use crate::routing::table::RoutingTable;
    use crate::types::agent::AgentKind;
    use crate::types::agent::AgentSettings;
    use crate::types::agent::AnswerPolicy;
    use crate::types::barge_in::BargeIn;
    use crate::types::fault_policy::FaultPolicy;
    use crate::types::id::AiProfileId;
    use crate::types::transport::Transport;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn no_header_panics_the_address_reader(value in any::<Vec<u8>>()) {
            let user = user_of_address(&value);
            prop_assert!(user.is_none_or(|user| !user.is_empty()));
            prop_assert!(!shown(&value).chars().any(char::is_control));
        }
    }

    #[test]
    fn the_user_of_an_address_is_found_in_every_form() {
        for (value, user) in [
            ("<sip:+15550100@carrier.example;user=phone>", Some("+15550100")),
            ("\"A <sip:x@y> \\\" B\" <sip:+15550100@h>;privacy=off", Some("+15550100")),
            ("sip:+15550100@carrier.example;party=calling", Some("+15550100")),
            ("<tel:+15550100>", Some("tel:+15550100")),
            ("<sip:+15550100@h>, <tel:+15550199>", Some("+15550100")),
            ("<sips:bob;x=1@h>", Some("bob;x=1")),
            ("<sip:host>", None),
            ("<sip:@host>", None),
            ("<http://x@y>", None),
            ("<sip:+1555", None),
            ("", None),
        ] {
            let found = user_of_address(value.as_bytes());
            assert_eq!(found, user.map(str::as_bytes), "{value}");
        }
    }

    /// What routing makes of a call with these headers: the caller shown, the variables, the steps.
    fn routed(map: HeaderMap, headers: &[(&str, &str)]) -> (String, CallVariables, String) {
        let mut trunk = Trunk::new(trunk_id(1), "t", vec!["192.0.2.0/24".parse().unwrap()]);
        trunk.headers = map;
        let profile = AiProfileId::from_uuid(Uuid::from_u128(1));
        let mut owner = tenant(1, None);
        owner.default_profile = Some(profile);
        let settings = AgentSettings {
            kind: AgentKind::Echo,
            answer: AnswerPolicy::Immediate,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        };
        let table = RoutingTable::new(Contents {
            tenants: vec![owner],
            ai_profiles: vec![AiProfile {
                id: profile,
                tenant: tenant_id(1),
                name: "a".into(),
                agent: settings,
                fallback: Vec::new(),
                record: None,
                ask: None,
            }],
            numbers: vec![number(1, 1, "+15550100")],
            trunks: vec![trunk],
            ..Contents::default()
        });
        let question = Question {
            listener: "public".parse().unwrap(),
            transport: Transport::Udp,
            source: "192.0.2.1".parse().unwrap(),
            from: "+15550111".into(),
            to: "+15550100".into(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        let (verdict, decision) = explain(&table, &question);
        let Verdict::Route(route) = verdict else { panic!("{decision}") };
        (route.caller.shown().to_owned(), route.variables, decision.to_string())
    }

    #[test]
    fn an_asserted_caller_is_believed_of_carriers_that_are_trusted_alone() {
        let headers = [("P-Asserted-Identity", "\"X\" <sip:+15550122@carrier.example>")];
        let (caller, _, steps) = routed(HeaderMap::default(), &headers);
        assert_eq!(caller, "+15550111");
        assert!(steps.contains("P-Asserted-Identity is not believed on this trunk"), "{steps}");
        let trusted = HeaderMap { trust_asserted: true, ..HeaderMap::default() };
        assert_eq!(routed(trusted.clone(), &headers).0, "+15550122");
        let other = [("Remote-Party-ID", "<sip:+15550133@h>;party=calling")];
        assert_eq!(routed(trusted.clone(), &other).0, "+15550133");
        assert_eq!(routed(trusted.clone(), &[]).0, "+15550111");
        // Who asked to be withheld is, although the carrier tells us.
        let withheld = [headers[0], ("Privacy", "critical; ID")];
        assert_eq!(routed(trusted.clone(), &withheld).0, "");
        assert_eq!(routed(trusted.clone(), &[headers[0], ("Privacy", "none")]).0, "+15550122");
        let party = |tail| [("Remote-Party-ID", tail)];
        let full = party("\"a;privacy=off\" <sip:+15550133@h>;screen=yes;privacy=full");
        assert_eq!(routed(trusted.clone(), &full).0, "");
        let open = party("\"a>;privacy=full\" <sip:+15550133@h;privacy=full>;privacy=off");
        assert_eq!(routed(trusted, &open).0, "+15550133");
        // To be known less nobody has to be believed.
        assert_eq!(routed(HeaderMap::default(), &[("Privacy", "user;id")]).0, "");
    }

    #[test]
    fn of_two_asserted_identities_the_one_with_the_number_is_the_callers() {
        let trusted = HeaderMap { trust_asserted: true, ..HeaderMap::default() };
        let (name, tel) = ("P-Asserted-Identity", "<tel:+15550122>");
        let alice = "\"A, <B>\" <sip:alice@carrier.example;x=1,2>;y=z";
        for headers in [
            &[(name, format!("{alice}, {tel}"))][..],
            &[(name, format!("{tel}, {alice}"))],
            &[(name, alice.to_owned()), (name, tel.to_owned())],
            &[(name, tel.to_owned()), (name, alice.to_owned())],
            &[(name, "<sip:+15550122@h>, <tel:+15550133>".to_owned())],
            &[(name, format!("rubbish, {tel}"))],
        ] {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert_eq!(routed(trusted.clone(), &headers).0, "+15550122", "{headers:?}");
        }
        // Without a number it is the first.
        assert_eq!(routed(trusted.clone(), &[(name, alice)]).0, "alice");
        let many = format!("{}{tel}", "<sip:alice@h>, ".repeat(1_000));
        assert_eq!(routed(trusted, &[(name, &many)]).0, "alice", "so many are not read");
    }

    #[test]
    fn only_listed_headers_become_variables_and_only_in_one_line() {
        let variable = |header: &str, name: &str| (header.to_owned(), name.parse().unwrap());
        let map = HeaderMap {
            variables: vec![
                variable("X-Call", "carrier_call"),
                variable("User-to-User", "uui"),
                variable("X-Bad", "bad"),
                variable("X-Absent", "absent"),
            ],
            ..HeaderMap::default()
        };
        let (_, variables, steps) = routed(
            map,
            &[("x-call", "CA1"), ("User-to-User", "00;x"), ("X-Bad", "a\r\nb"), ("X-Other", "1")],
        );
        let set: Vec<_> = variables.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(set, ["carrier_call=CA1", "uui=00;x"]);
        assert!(steps.contains("bad is left out"), "{steps}");
        assert!(!steps.contains("X-Other"), "{steps}");
    }

    #[test]
    fn attestation_is_written_down_and_nothing_more() {
        let map = HeaderMap {
            observe_identity: true,
            verstat: Some("X-Twilio-VerStat".into()),
            ..HeaderMap::default()
        };
        let headers = [
            ("X-Twilio-VerStat", "TN-Validation-Passed-A"),
            ("Identity", "eyJ"),
            ("Diversion", "<sip:+15550100@twilio.example>;x=\u{7}"),
        ];
        let (_, _, steps) = routed(map.clone(), &headers);
        for step in [
            "identity   X-Twilio-VerStat: TN-Validation-Passed-A\n",
            "identity   Identity of 3 bytes, not verified\n",
            "history    Diversion: <sip:+15550100@twilio.example>;x=?\n",
        ] {
            assert!(steps.contains(step), "{step} in {steps}");
        }
        let (_, _, steps) = routed(map, &[]);
        assert!(steps.contains("no X-Twilio-VerStat") && steps.contains("no Identity"), "{steps}");
        let (_, _, steps) = routed(HeaderMap::default(), &headers);
        assert!(!steps.contains("VerStat"), "{steps}");
    }
}
