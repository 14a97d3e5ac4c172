//! How a dialog ended and why its peer ended it, as the call is told of it.

use crate::call::input::LegInput;
use crate::sip::endpoint::event::DialogEnd;
use crate::sip::message::header::reason::Reason;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;

/// What the end of a dialog means to the call.
pub(in crate::engine) fn end(how: &DialogEnd) -> (HangupCause, Party) {
    match how {
        DialogEnd::Bye { reason } => {
            (HangupCause::of_hang_up(q850_of(reason.as_deref())), Party::Caller)
        }
        DialogEnd::AckTimeout => (HangupCause::AckTimeout, Party::Switch),
        DialogEnd::SessionExpired => (HangupCause::SessionExpired, Party::Switch),
        DialogEnd::PeerTimeout | DialogEnd::FlowLost => (HangupCause::PeerTimeout, Party::Switch),
        DialogEnd::ByeAnswered => (HangupCause::Normal, Party::Switch),
    }
}

/// Why a peer ended a dialog, where it said so.
pub(in crate::engine) fn reason_of(how: &DialogEnd) -> Option<LegInput> {
    match how {
        DialogEnd::Bye { reason } => explained(reason.as_deref()),
        DialogEnd::AckTimeout
        | DialogEnd::SessionExpired
        | DialogEnd::PeerTimeout
        | DialogEnd::FlowLost
        | DialogEnd::ByeAnswered => None,
    }
}

/// What a value of `Reason` says; one that cannot be read says nothing.
pub(super) fn explained(value: Option<&[u8]>) -> Option<LegInput> {
    let reason = Reason::parse(value?).ok()?.told()?;
    Some(LegInput::Explained(Box::new(reason)))
}

/// The cause of Q.850 that a value of `Reason` names.
fn q850_of(value: Option<&[u8]>) -> Option<u8> {
    Reason::parse(value?).ok()?.q850()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn of_bye(reason: &'static [u8]) -> Option<String> {
        let how = DialogEnd::Bye { reason: Some(Bytes::from_static(reason)) };
        reason_of(&how).map(|input| match input {
            LegInput::Explained(reason) => Reason::value_of(&reason),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_call_is_told_what_its_peer_said_and_of_garbage_nothing() {
        let said = b"Q.850;cause=41;text=\"Temporary failure\"".as_slice();
        assert_eq!(of_bye(said).as_deref(), Some("Q.850;cause=41;text=\"Temporary failure\""));
        for garbage in [b"".as_slice(), b";", b";cause=41", b"\xff\xfe;cause=1", b"Q 850;cause=41"]
        {
            assert_eq!(of_bye(garbage), None, "{garbage:?}");
        }
        assert_eq!(reason_of(&DialogEnd::Bye { reason: None }), None);
        assert_eq!(reason_of(&DialogEnd::PeerTimeout), None);
    }

    #[test]
    fn a_hang_up_for_a_failure_of_the_network_is_no_ordinary_end() {
        for (reason, cause) in [
            (None, HangupCause::Normal),
            (Some("Q.850;cause=16;text=\"Normal\""), HangupCause::Normal),
            (Some("Q.850;cause=41;text=\"Temporary failure\""), HangupCause::PeerFailed),
            (Some("q.850 ; cause=38"), HangupCause::PeerFailed),
            (Some("SIP;cause=41"), HangupCause::Normal),
            (Some("Q.850;cause=1041"), HangupCause::Normal),
            (Some(";;=garbage, %%%"), HangupCause::Normal),
        ] {
            let how =
                DialogEnd::Bye { reason: reason.map(|value| Bytes::from_static(value.as_bytes())) };
            assert_eq!(end(&how), (cause, Party::Caller), "{reason:?}");
        }
    }
}
