//! Why a peer ended a dialog, as its call is told of it.

use crate::call::input::LegInput;
use crate::sip::endpoint::event::DialogEnd;
use crate::sip::message::header::reason::Reason;

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
}
