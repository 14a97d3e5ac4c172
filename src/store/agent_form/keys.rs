//! Which keys of an `agent` column belong to which kinds of agent. The API's document is made of it.

use crate::store::agent_form::FormKind;
use serde_json::Value;

/// The kinds, by their names.
const KINDS: [(&str, FormKind); 14] = [
    ("twilio", FormKind::Twilio),
    ("chan_websocket", FormKind::ChanWebsocket),
    ("audiosocket", FormKind::AudioSocket),
    ("realtime", FormKind::Realtime),
    ("echo", FormKind::Echo),
    ("tone", FormKind::Tone),
    ("announce", FormKind::Announce),
    ("parrot", FormKind::Parrot),
    ("sip", FormKind::Sip),
    ("forward", FormKind::Forward),
    ("twiml", FormKind::Twiml),
    ("dtmf_ivr", FormKind::DtmfIvr),
    ("voicemail", FormKind::Voicemail),
    ("receptionist", FormKind::Receptionist),
];

/// What every kind takes, beside `kind`.
const OF_ALL: [&str; 8] = [
    "answer",
    "barge_in",
    "barge_in_least_ms",
    "barge_in_confirm_ms",
    "hangup_after_ms",
    "reinvite_after_ms",
    "comfort",
    "hold_music",
];

const SIP: &[FormKind] = &[FormKind::Sip];
const ASKED: &[FormKind] = &[FormKind::Sip, FormKind::ChanWebsocket];
const CHANNEL: &[FormKind] = &[FormKind::ChanWebsocket];
const REALTIME: &[FormKind] = &[FormKind::Realtime];
const TWIML: &[FormKind] = &[FormKind::Twiml];
const SIGNED: &[FormKind] = &[FormKind::Twilio, FormKind::Twiml];
const WEB: &[FormKind] = &[FormKind::Twilio, FormKind::ChanWebsocket, FormKind::Realtime];
const LOCATED: &[FormKind] =
    &[FormKind::Twilio, FormKind::ChanWebsocket, FormKind::Realtime, FormKind::Twiml];
const TOLD: &[FormKind] = &[FormKind::Twilio, FormKind::ChanWebsocket];
const SPOKEN: &[FormKind] = &[FormKind::ChanWebsocket, FormKind::AudioSocket, FormKind::Realtime];
const DIALLED: &[FormKind] =
    &[FormKind::Twilio, FormKind::ChanWebsocket, FormKind::AudioSocket, FormKind::Realtime];
/// Whose failures are borne: bots over a connection of ours, and those of a document's streams.
const LOOKED_AFTER: &[FormKind] = &[
    FormKind::Twilio,
    FormKind::ChanWebsocket,
    FormKind::AudioSocket,
    FormKind::Realtime,
    FormKind::Twiml,
];

/// What only some kinds take.
const OF_SOME: [(&str, &[FormKind]); 40] = [
    ("url", LOCATED),
    ("auth_token_ref", SIGNED),
    ("bearer_token_ref", TOLD),
    ("client_certificate_ref", WEB),
    ("client_key_ref", WEB),
    ("incoming", CHANNEL),
    ("address", &[FormKind::AudioSocket]),
    ("audio", SPOKEN),
    ("control", CHANNEL),
    ("api_key_ref", REALTIME),
    ("api_key_header", REALTIME),
    ("generation", REALTIME),
    ("instructions", REALTIME),
    ("voice", REALTIME),
    ("greeting", REALTIME),
    ("transcription_model", REALTIME),
    ("turn_detection", REALTIME),
    ("tools", REALTIME),
    ("transfer_to", REALTIME),
    ("parameters", TOLD),
    ("connect_timeout_ms", DIALLED),
    ("reconnects", LOOKED_AFTER),
    ("reconnect_pause_ms", LOOKED_AFTER),
    ("silence_limit_ms", LOOKED_AFTER),
    ("hz", &[FormKind::Tone]),
    ("uri", SIP),
    ("username", ASKED),
    ("password_ref", ASKED),
    ("headers", SIP),
    ("pass_headers", SIP),
    ("srtp", SIP),
    ("to", &[FormKind::Forward]),
    ("method", TWIML),
    ("fallback_url", TWIML),
    ("status_callback_url", TWIML),
    ("timeout_ms", TWIML),
    ("menu", &[FormKind::DtmfIvr]),
    ("mailbox", &[FormKind::DtmfIvr, FormKind::Voicemail]),
    ("script", &[FormKind::Receptionist]),
    ("ring_timeout_ms", &[FormKind::Sip, FormKind::Forward]),
];

/// Each kind of agent by its name, with the keys that it takes beside `kind`.
pub(crate) fn of_kinds() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    KINDS.into_iter().map(|(name, kind)| {
        let own = OF_SOME.into_iter().filter(move |(_, of)| of.contains(&kind));
        (name, own.map(|(key, _)| key).chain(OF_ALL).collect())
    })
}

/// A key of `form` that this kind does not read: that is a mistake, not a decoration. Null is nothing given.
pub(super) fn stray(kind: FormKind, form: &Value) -> Option<&'static str> {
    let is_given = |key: &str| form.get(key).is_some_and(|value| !value.is_null());
    let stray = OF_SOME.into_iter().find(|(key, of)| is_given(key) && !of.contains(&kind));
    stray.map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::agent_form::AgentForm;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeSet;

    /// What a list of serde's in the text of an error names.
    fn named(error: &str) -> BTreeSet<String> {
        let (_, list) = error.split_once("expected one of ").unwrap();
        list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
    }

    fn why(value: Value) -> String {
        AgentForm::deserialize(value).err().unwrap().to_string()
    }

    #[test]
    fn every_key_and_every_kind_that_is_read_has_its_place_here() {
        let keys = OF_SOME.into_iter().map(|(key, _)| key).chain(OF_ALL).chain(["kind"]);
        let keys: BTreeSet<_> = keys.map(str::to_owned).collect();
        assert_eq!(keys, named(&why(json!({"kind": "echo", "colour": 1}))));
        let kinds: BTreeSet<_> = KINDS.into_iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(kinds, named(&why(json!({"kind": "robot"}))));
        for (name, kind) in KINDS {
            assert!(AgentForm::deserialize(json!({"kind": name})).unwrap().kind == kind, "{name}");
        }
    }

    #[test]
    fn null_is_nothing_given() {
        assert_eq!(stray(FormKind::Echo, &json!({"kind": "echo", "url": null})), None);
        assert_eq!(stray(FormKind::Echo, &json!({"kind": "echo", "url": "x"})), Some("url"));
        assert_eq!(stray(FormKind::Twiml, &json!({"kind": "twiml", "url": "x"})), None);
    }
}
