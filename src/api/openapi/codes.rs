//! Which codes the refusals of a route have, in the document: those of the kinds of errors that it can meet.

use crate::api::error::ErrorKind;
use crate::api::openapi::follows;
use crate::api::openapi::is_audio;
use crate::api::openapi::is_of_call;
use crate::api::openapi::is_placing;
use crate::api::route::Route;
use crate::api::worded;
use crate::call::steer::Senseless;
use crate::types::cause::HangupCause;
use std::collections::BTreeSet;

/// Every code that a refusal may have: why calls are refused and commands senseless are among them.
pub(super) fn all() -> BTreeSet<&'static str> {
    kinds().map(ErrorKind::code).chain(worded::codes()).collect()
}

/// Those of a route under one status. A request may be refused before its route is known (`worded`).
pub(super) fn of(route: &Route, status: u16) -> BTreeSet<&'static str> {
    let met = kinds().filter(|kind| kind.status().as_u16() == status && is_met(*kind, route));
    met.map(ErrorKind::code).chain(worded::code_of(status)).collect()
}

fn kinds() -> impl Iterator<Item = ErrorKind> {
    let of_calls = HangupCause::all().map(ErrorKind::CallRefused);
    let senseless = Senseless::ALL.into_iter().map(ErrorKind::Senseless);
    ErrorKind::KINDS.into_iter().chain(of_calls).chain(senseless)
}

/// Whether a route can meet an error: some are of calls, recordings or events alone, all others may meet any request.
fn is_met(kind: ErrorKind, route: &Route) -> bool {
    let (is_below_call, is_read) = (is_of_call(route), route.method == "GET");
    match kind {
        ErrorKind::TooManyListeners => follows(route),
        ErrorKind::TooManyEncoded
        | ErrorKind::NoSuchPart
        | ErrorKind::RecordingAway
        | ErrorKind::RecordingUnreadable => is_audio(route),
        ErrorKind::KeyReused | ErrorKind::KeyBusy | ErrorKind::KeyUnsettled => is_placing(route),
        // Of a call that runs, only what calls somebody else is refused as a call is.
        ErrorKind::CallRefused(_) => {
            let calls = ["/transfer", "/supervise"];
            is_placing(route) || calls.iter().any(|end| route.path.ends_with(end))
        }
        ErrorKind::Senseless(_) | ErrorKind::NoRefer | ErrorKind::CallBusy => {
            is_below_call && !is_read
        }
        ErrorKind::CallAway | ErrorKind::CommandUnsure => is_below_call,
        ErrorKind::NodeBusy(_) => is_below_call || route.path.contains("/privacy/"),
        ErrorKind::NoCalls => route.path.contains("/calls") || follows(route),
        ErrorKind::TwilioParameter(_) | ErrorKind::NoPair | ErrorKind::CallAnswered => {
            route.is_twilios()
        }
        ErrorKind::BadParameter(_)
        | ErrorKind::BadBody(_)
        | ErrorKind::Invalid
        | ErrorKind::Conflict
        | ErrorKind::Stale
        | ErrorKind::TooLarge
        | ErrorKind::TooSlow
        | ErrorKind::NotJson(_)
        | ErrorKind::TooMany
        | ErrorKind::NoKey
        | ErrorKind::Forbidden
        | ErrorKind::ReadOnly(_)
        | ErrorKind::Platforms(_)
        | ErrorKind::NotFound(_)
        | ErrorKind::NoMethod
        | ErrorKind::DatabaseAway => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::answers;
    use crate::api::route;
    use serde_json::Value;

    fn named(route: &Route, status: &str) -> Vec<String> {
        let responses = answers::responses(route);
        let schema = &responses[status]["content"]["application/json"]["schema"];
        let words = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
        let text = |word: &Value| word.as_str().map(str::to_owned);
        words.into_iter().flatten().filter_map(text).collect()
    }

    fn route_of(method: &str, end: &str) -> &'static Route {
        let path = format!("/api/v1/tenants/{{tenant_id}}{end}");
        route::all().find(|route| route.method == method && route.path == path).unwrap()
    }

    #[test]
    fn every_refusal_of_every_route_names_codes_that_there_are() {
        let all = all();
        for route in route::all().filter(|route| !route.is_twilios()) {
            let responses = answers::responses(route);
            let statuses = responses.as_object().unwrap().keys();
            let refusals: Vec<_> =
                statuses.filter(|status| status.starts_with(['4', '5'])).collect();
            assert!(refusals.len() > 5, "{}", route.path);
            for status in refusals {
                let codes = named(route, status);
                assert!(!codes.is_empty(), "{} {} {status}", route.method, route.path);
                assert!(codes.iter().all(|code| all.contains(code.as_str())), "{codes:?}");
            }
        }
    }

    #[test]
    fn a_code_stands_where_it_is_met_and_nowhere_else() {
        let has = |(method, end): (&str, &str), status: &str, code: &str| {
            named(route_of(method, end), status).iter().any(|own| own == code)
        };
        let (numbers, place) = (("POST", "/numbers"), ("POST", "/calls"));
        let (hold, audio) = (("POST", "/calls/{id}/hold"), ("GET", "/recordings/{id}/audio"));
        let supervise = ("POST", "/calls/{id}/supervise");
        for (route, status, code, expected) in [
            (numbers, "409", "conflict", true),
            (numbers, "409", "already_on_hold", false),
            (numbers, "503", "database_unavailable", true),
            (numbers, "503", "recording_away", false),
            (numbers, "429", "rate_limited", true),
            (place, "409", "idempotency_key_busy", true),
            (place, "422", "idempotency_key_reused", true),
            (place, "409", "already_on_hold", false),
            (place, "429", "tenant_limit", true),
            (hold, "409", "already_on_hold", true),
            (hold, "409", "idempotency_key_busy", false),
            (hold, "429", "tenant_limit", false),
            (hold, "503", "command_unsure", true),
            (supervise, "409", "no_trunk", true),
            (supervise, "403", "destination_denied", true),
            (supervise, "403", "agent_forbidden", true),
            (supervise, "409", "agent_forbidden", false),
            (("POST", "/calls/{id}/supervise/mode"), "409", "no_trunk", false),
            (audio, "503", "recording_unreadable", true),
            (audio, "416", "no_such_part", true),
            (audio, "503", "command_unsure", false),
            (("GET", "/events"), "429", "too_many_listeners", true),
            (("GET", "/numbers"), "429", "too_many_listeners", false),
        ] {
            assert_eq!(has(route, status, code), expected, "{route:?} {status} {code}");
        }
    }
}
