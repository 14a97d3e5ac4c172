//! What a fuzzer does with a body: everything a peer can make us do with it.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use crate::sdp::model::SessionDescription;
use crate::sdp::negotiate::accept;
use crate::sdp::negotiate::answer;
use crate::sdp::negotiate::plan;
use crate::sdp::parse::parse;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::LocalMedia;
use crate::sdp::plan::MediaPlan;
use crate::sdp::plan::SrtpTerms;
use crate::sdp::write::answer_without_media;
use crate::sdp::write::offer;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;

/// Parses and answers `data`.
///
/// # Panics
/// When an invariant is broken: an answer of ours must be readable, have the streams of the offer in its
/// order, at most one of them not refused, and an offer must be answered if its plan says so.
pub fn exercise(data: &[u8]) {
    let Ok(offered) = parse(data) else { return };
    let again = parse(&offered.write());
    assert_eq!(again.as_ref(), Ok(&offered), "write and parse are inverse");
    for policy in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        negotiate(&offered, &capabilities(policy));
    }
}

fn capabilities(policy: SrtpPolicy) -> Capabilities {
    let keys = SrtpSuite::ALL.map(|suite| SrtpKey::generate(suite, &[7; SRTP_KEY_BYTES_MAX]));
    Capabilities {
        codecs: vec![Codec::Pcmu, Codec::Pcma, Codec::Opus, Codec::L16],
        order: AnswerOrder::Remote,
        dtmf: PayloadType::new(101),
        dtmf_flash: false,
        ptime: Ptime::MS_20,
        ptime_max: Ptime::MS_20,
        rtcp_mux: true,
        asks_metrics: true,
        single_codec: false,
        annex_b: false,
        srtp: SrtpTerms { policy, keys: keys.to_vec(), exposed: false },
    }
}

fn negotiate(offered: &SessionDescription, caps: &Capabilities) {
    let local = LocalMedia {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_port: 16384,
        rtcp_port: 16385,
        session_id: 1,
        version: 1,
        direction: Direction::SendReceive,
    };
    let planned = plan(offered, caps);
    let refused = answer_without_media(offered, &local);
    assert_eq!(open_streams(offered, &refused), 0);
    match answer(offered, caps, &local) {
        Ok((text, agreed)) => {
            assert_eq!(planned.as_ref(), Ok(&agreed), "plan and answer agree");
            assert_eq!(open_streams(offered, &text), 1);
            assert_encrypted(&agreed, caps.srtp.policy);
        }
        Err(error) => assert_eq!(planned, Err(error), "plan and answer agree"),
    }
    // The same bytes as an answer to our offer.
    if let Ok(agreed) = accept(offered, caps) {
        assert!(agreed.remote.is_none_or(|remote| remote.port() != 0));
        assert_encrypted(&agreed, caps.srtp.policy);
    }
    assert!(parse(&offer(caps, &local)).is_ok_and(|offer| plan(&offer, caps).is_ok()));
}

/// Policy holds whatever the peer wrote, and both keys are of one suite.
fn assert_encrypted(agreed: &MediaPlan, policy: SrtpPolicy) {
    match policy {
        SrtpPolicy::Off => assert!(agreed.crypto.is_none()),
        SrtpPolicy::Optional => (),
        SrtpPolicy::Required => assert!(agreed.crypto.is_some()),
    }
    if let Some(keys) = &agreed.crypto {
        assert_eq!(keys.send.suite(), keys.receive.suite());
    }
}

/// Streams of the answer that are not refused; checks that it has the streams of the offer.
fn open_streams(offered: &SessionDescription, answer: &[u8]) -> usize {
    let Ok(answer) = parse(answer) else { panic!("our own answer must be readable") };
    assert_eq!(answer.media().count(), offered.media().count(), "a stream for each stream");
    for (ours, theirs) in answer.media().zip(offered.media()) {
        if ours.port == Some(0) && !theirs.kind.is_empty() {
            assert_eq!(ours.kind, theirs.kind, "the streams in order");
        }
    }
    answer.media().filter(|media| media.port != Some(0)).count()
}
