//! What a trunk's signalling settings mean to the SIP endpoint.

use crate::engine::inbound_digest::algorithm;
use crate::routing::outbound_trunk::ClientAccount;
use crate::routing::signalling::Prack;
use crate::routing::signalling::TimerMethod;
use crate::routing::signalling::TimerMode;
use crate::routing::signalling::TimerRefresher;
use crate::routing::trunk::Trunk;
use crate::sip::digest::client::Account;
use crate::sip::endpoint::policy::DialogPolicy;
use crate::sip::endpoint::policy::RefreshMethod;
use crate::sip::endpoint::policy::RefresherChoice;
use crate::sip::endpoint::policy::Reliable;
use crate::sip::endpoint::policy::SessionTimerMode;
use crate::sip::endpoint::policy::SessionTimerPolicy;
use std::sync::Arc;

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

/// With what challenges are answered in a call that came by a trunk: as in its calls out, else as it registers.
#[must_use]
pub fn accounts(trunk: &Trunk) -> Arc<[Account]> {
    let calling = trunk.outbound.as_ref().and_then(|outbound| outbound.account.as_ref());
    let registering = trunk.registration.as_ref().and_then(|own| own.account.as_ref());
    calling.into_iter().chain(registering).map(account).collect()
}

/// A trunk's account as digests know it.
#[must_use]
pub fn account(own: &ClientAccount) -> Account {
    Account {
        username: own.username.clone(),
        password: own.password.clone(),
        realm: own.realm.clone(),
        algorithms: own.algorithms.iter().map(|it| algorithm(*it)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::outbound_trunk::OutboundTrunk;
    use crate::routing::registration::TrunkRegistration;
    use crate::routing::signalling::SessionTimer;
    use crate::routing::signalling::TrunkSignalling;
    use crate::types::id::TrunkId;
    use crate::types::secret::Secret;
    use crate::types::transport::DatagramRule;
    use crate::types::transport::Oversize;
    use std::time::Duration;
    use uuid::Uuid;

    fn trunk() -> Trunk {
        Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "acme", Vec::new())
    }

    #[test]
    fn challenges_are_answered_as_in_calls_out_and_else_as_the_trunk_registers() {
        let own = |username: &str| {
            Some(ClientAccount {
                username: username.to_owned(),
                password: Secret::new("secret".to_owned()),
                realm: None,
                algorithms: Vec::new(),
            })
        };
        let names = |calling: &str, registering: &str| {
            let mut trunk = trunk();
            let account = own(calling).filter(|_| !calling.is_empty());
            trunk.outbound =
                Some(Arc::new(OutboundTrunk { account, ..OutboundTrunk::new(Vec::new()) }));
            let account = own(registering).filter(|_| !registering.is_empty());
            trunk.registration = Some(Arc::new(registration(account)));
            accounts(&trunk).iter().map(|it| it.username.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("calls", "registers"), ["calls", "registers"]);
        assert_eq!(names("", "registers"), ["registers"]);
        assert_eq!(names("calls", ""), ["calls"]);
        assert_eq!(accounts(&trunk()).len(), 0);
    }

    fn registration(account: Option<ClientAccount>) -> TrunkRegistration {
        TrunkRegistration {
            registrar: "sip:registrar.example".to_owned(),
            proxy: None,
            proxy_is_route: false,
            aor: "sip:acme@registrar.example".to_owned(),
            contact_user: "acme".to_owned(),
            account,
            expires: Duration::from_secs(600),
            refresh_percent: 50,
            retry: vec![Duration::from_secs(30)],
            forbidden_retry: Duration::from_secs(600),
            use_service_route: false,
            send_path: false,
        }
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
