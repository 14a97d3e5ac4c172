//! What a trunk's signalling settings mean to the SIP endpoint.

use crate::routing::signalling::Prack;
use crate::routing::signalling::TimerMethod;
use crate::routing::signalling::TimerMode;
use crate::routing::signalling::TimerRefresher;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::endpoint::policy::RefreshMethod;
use crate::sip::endpoint::policy::RefresherChoice;
use crate::sip::endpoint::policy::Reliable;
use crate::sip::endpoint::policy::SessionTimerMode;
use crate::sip::endpoint::policy::SessionTimerPolicy;

/// The policy of dialogs of a trunk; `takes_refer` where the call may be transferred by its peer.
#[must_use]
pub fn dialog_policy(trunk: &Trunk, takes_refer: bool) -> DialogPolicy {
    let signalling = &trunk.signalling;
    let timer = &signalling.session_timer;
    let session = SessionTimerPolicy {
        mode: match timer.mode {
            TimerMode::Off => SessionTimerMode::Off,
            TimerMode::Accept => SessionTimerMode::Accept,
            TimerMode::Offer => SessionTimerMode::Offer,
            TimerMode::Require => SessionTimerMode::Require,
        },
        expires_s: timer.expires_s,
        min_se_s: timer.min_se_s,
        refresher: match timer.refresher {
            TimerRefresher::Auto => RefresherChoice::Auto,
            TimerRefresher::Local => RefresherChoice::Local,
            TimerRefresher::Remote => RefresherChoice::Remote,
        },
        method: match timer.method {
            TimerMethod::Auto => RefreshMethod::Auto,
            TimerMethod::Update => RefreshMethod::Update,
            TimerMethod::Invite => RefreshMethod::Invite,
        },
        spares_old_peers: timer.spares_old_peers,
    };
    let reliable = match signalling.prack {
        Prack::Off => Reliable::Off,
        Prack::Supported => Reliable::Supported,
        Prack::Required => Reliable::Required,
    };
    let datagrams = trunk.path.datagrams;
    DialogPolicy { session, reliable, takes_update: signalling.update, takes_refer, datagrams }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::signalling::SessionTimer;
    use crate::routing::signalling::TrunkSignalling;
    use crate::types::id::TrunkId;
    use crate::types::transport::DatagramRule;
    use crate::types::transport::Oversize;
    use uuid::Uuid;

    fn trunk() -> Trunk {
        Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "acme", Vec::new())
    }

    #[test]
    fn the_defaults_of_both_are_the_same() {
        assert_eq!(dialog_policy(&trunk(), false), DialogPolicy::default());
    }

    #[test]
    fn every_setting_reaches_the_endpoint() {
        let session_timer = SessionTimer {
            mode: TimerMode::Offer,
            expires_s: 900,
            min_se_s: 120,
            refresher: TimerRefresher::Local,
            method: TimerMethod::Invite,
            spares_old_peers: false,
        };
        let mut trunk = trunk();
        trunk.signalling = TrunkSignalling { session_timer, prack: Prack::Off, update: false };
        let datagrams = DatagramRule { bytes_max: 900, oversize: Oversize::Tcp, may_stream: false };
        trunk.path.datagrams = datagrams;
        let session = SessionTimerPolicy {
            mode: SessionTimerMode::Offer,
            expires_s: 900,
            min_se_s: 120,
            refresher: RefresherChoice::Local,
            method: RefreshMethod::Invite,
            spares_old_peers: false,
        };
        let reliable = Reliable::Off;
        let (takes_update, takes_refer) = (false, true);
        let expected = DialogPolicy { session, reliable, takes_update, takes_refer, datagrams };
        assert_eq!(dialog_policy(&trunk, true), expected);
    }
}
