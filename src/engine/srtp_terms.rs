//! What a trunk and the way of its signalling allow of SRTP, with fresh keys for one leg.

use crate::clock;
use crate::routing::trunk::TrunkSrtp;
use crate::sdp::SrtpTerms;
use crate::types::srtp::Mki;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use crate::types::transport::Transport;

/// The identifier of our keys where a trunk wants one.
const OUR_MKI: Mki = Mki { value: 1, length: 1 };

/// The lifetime our keys bear where a trunk wants one: more packets than any call has.
const OUR_LIFETIME: u64 = 1 << 31;

/// The terms of a leg's answers and of its offers. Both hold the same keys, made for this leg alone.
pub(super) fn srtp_terms(trunk: &TrunkSrtp, transport: Transport) -> (SrtpTerms, SrtpTerms) {
    let exposed = trunk.needs_tls && transport != Transport::Tls;
    let terms = |keys| SrtpTerms { policy: trunk.policy, keys, exposed };
    if trunk.policy == SrtpPolicy::Off || exposed {
        return (terms(Vec::new()), terms(Vec::new()));
    }
    let mut answers: Vec<SrtpKey> = Vec::new();
    answers.extend(trunk.suites.iter().map(|suite| new_key(trunk, *suite)));
    let offered = |suite: &SrtpSuite| {
        let known = answers.iter().find(|key| key.suite() == *suite).cloned();
        known.unwrap_or_else(|| new_key(trunk, *suite))
    };
    let offers = trunk.suites_offered.iter().map(offered).collect();
    (terms(answers), terms(offers))
}

fn new_key(trunk: &TrunkSrtp, suite: SrtpSuite) -> SrtpKey {
    let mut key = clock::new_srtp_key(suite);
    key.mki = trunk.send_mki.then_some(OUR_MKI);
    key.lifetime = trunk.send_lifetime.then_some(OUR_LIFETIME);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(policy: SrtpPolicy) -> TrunkSrtp {
        TrunkSrtp {
            policy,
            suites_offered: vec![SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_80],
            ..TrunkSrtp::default()
        }
    }

    #[test]
    fn a_suite_has_one_key_for_answers_and_offers_and_each_leg_its_own() {
        let trunk = trunk(SrtpPolicy::Optional);
        let (answers, offers) = srtp_terms(&trunk, Transport::Tls);
        let suites = |terms: &SrtpTerms| terms.keys.iter().map(SrtpKey::suite).collect::<Vec<_>>();
        assert_eq!(suites(&answers), trunk.suites);
        assert_eq!(suites(&offers), trunk.suites_offered);
        let common = SrtpSuite::AesCm128HmacSha1_80;
        assert_eq!(answers.key(common), offers.key(common));
        let (other, _) = srtp_terms(&trunk, Transport::Tls);
        assert_ne!(answers.key(common), other.key(common));
        assert_eq!(answers.key(common).map(|key| (key.mki, key.lifetime)), Some((None, None)));
        let marked = TrunkSrtp { send_mki: true, send_lifetime: true, ..trunk };
        let (answers, _) = srtp_terms(&marked, Transport::Tls);
        let key = answers.key(common).unwrap();
        assert_eq!((key.mki, key.lifetime), (Some(OUR_MKI), Some(OUR_LIFETIME)));
    }

    #[test]
    fn keys_are_made_for_tls_alone_unless_the_trunk_says_otherwise() {
        let strict = trunk(SrtpPolicy::Required);
        for transport in [Transport::Udp, Transport::Tcp] {
            let (answers, offers) = srtp_terms(&strict, transport);
            assert!(answers.exposed && answers.keys.is_empty() && offers.keys.is_empty());
            let lax = TrunkSrtp { needs_tls: false, ..strict.clone() };
            let (answers, offers) = srtp_terms(&lax, transport);
            assert!(!answers.exposed && !answers.keys.is_empty() && !offers.keys.is_empty());
        }
        assert!(srtp_terms(&trunk(SrtpPolicy::Off), Transport::Tls).0.keys.is_empty());
    }
}
