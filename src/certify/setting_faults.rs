//! Settings of a trunk that are wrong in a switch with a fault.

use crate::routing::health::AliveCodes;
use crate::routing::health::Probing;
use crate::routing::outbound_trunk::NeverAfter;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::outbound_trunk::RedirectPolicy;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::DigestAlgorithm;
use crate::routing::trunk::Trunk;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn other_media(trunk: &mut Trunk) {
    if trunk.media.srtp.policy == SrtpPolicy::Off {
        trunk.media.srtp.policy = SrtpPolicy::Required;
        trunk.media.srtp.needs_tls = false;
    } else {
        trunk.media.srtp.policy = SrtpPolicy::Off;
    }
}

pub(super) fn another_password(outbound: &mut OutboundTrunk) {
    if let Some(account) = &mut outbound.account {
        account.password = Secret::new("another".to_owned());
    }
}

pub(super) fn deaf_to_throttling(outbound: &mut OutboundTrunk) {
    outbound.failover.throttle.clear();
    outbound.failover.honour_retry_after = false;
}

pub(super) const fn tries_on_after_ringing(outbound: &mut OutboundTrunk) {
    outbound.failover.never_after = NeverAfter::EarlyMedia;
}

pub(super) const fn follows_redirects(outbound: &mut OutboundTrunk) {
    outbound.redirect.policy = RedirectPolicy::SameGateway;
    outbound.redirect.max = 3;
}

/// With one of the two limits gone, the other may still stand.
pub(super) fn no_channel_limit(trunk: &mut Trunk) {
    trunk.calls_max = 0;
    if let Some(outbound) = &mut trunk.outbound {
        let outbound = Arc::make_mut(outbound);
        outbound.limits.calls_max = 0;
        outbound.limits.cps_max = 0;
    }
}

pub(super) fn challenges(trunk: &mut Trunk) {
    trunk.digest = Some(DigestAccount {
        username: "carrier".to_owned(),
        password: Secret::new("carrier".to_owned()),
        realm: "tandem".to_owned(),
        algorithms: vec![DigestAlgorithm::Md5],
    });
}

pub(super) const fn unknown_unavailable(trunk: &mut Trunk) {
    trunk.response_map.unknown_did = 480;
}

pub(super) const fn no_answer_goes_on(trunk: &mut Trunk) {
    trunk.response_map.no_answer = 480;
}

pub(super) const fn short_timer_refused(trunk: &mut Trunk) {
    trunk.signalling.session_timer.spares_old_peers = false;
}

pub(super) fn answers_strangers(trunk: &mut Trunk) {
    trunk.sources.extend("0.0.0.0/0".parse::<IpNet>());
}

pub(super) fn probes_too_often(outbound: &mut OutboundTrunk) {
    outbound.health.probing = Some(Probing {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(4),
        down_after: 3,
        up_after: 2,
        alive: AliveCodes::Any,
        request_user: String::new(),
    });
}
