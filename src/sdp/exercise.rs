//! What a fuzzer does with a body: everything a peer can make us do with it.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use crate::sdp::negotiate::accept;
use crate::sdp::negotiate::answer;
use crate::sdp::negotiate::plan;
use crate::sdp::parse::parse;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::LocalMedia;
use crate::sdp::write::answer_without_media;
use crate::sdp::write::offer;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

/// Parses and answers `data`.
///
/// # Panics
/// When an invariant is broken: an answer of ours must be readable, have the streams of the offer in its
/// order, at most one of them not refused, and an offer must be answered if its plan says so.
pub fn exercise(data: &[u8]) {
    let Ok(offered) = parse(data) else { return };
    let again = parse(&offered.write());
    assert_eq!(again.as_ref(), Ok(&offered), "write and parse are inverse");
    let caps = Capabilities {
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        order: AnswerOrder::Remote,
        dtmf: PayloadType::new(101),
        ptime: Ptime::MS_20,
        ptime_max: Ptime::MS_20,
        rtcp_mux: true,
        single_codec: false,
    };
    let local = LocalMedia {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_port: 16384,
        rtcp_port: 16385,
        session_id: 1,
        version: 1,
        direction: Direction::SendReceive,
    };
    let planned = plan(&offered, &caps);
    let refused = answer_without_media(&offered, &local);
    assert_eq!(open_streams(&offered, &refused), 0);
    match answer(&offered, &caps, &local) {
        Ok((text, agreed)) => {
            assert_eq!(planned.as_ref(), Ok(&agreed), "plan and answer agree");
            assert_eq!(open_streams(&offered, &text), 1);
        }
        Err(error) => assert_eq!(planned, Err(error), "plan and answer agree"),
    }
    // The same bytes as an answer to our offer.
    if let Ok(agreed) = accept(&offered, &caps) {
        assert!(agreed.remote.is_none_or(|remote| remote.port() != 0));
    }
    assert!(parse(&offer(&caps, &local)).is_ok_and(|offer| plan(&offer, &caps).is_ok()));
}

/// Streams of the answer that are not refused; checks that it has the streams of the offer.
fn open_streams(offered: &crate::sdp::SessionDescription, answer: &[u8]) -> usize {
    let Ok(answer) = parse(answer) else { panic!("our own answer must be readable") };
    assert_eq!(answer.media().count(), offered.media().count(), "a stream for each stream");
    for (ours, theirs) in answer.media().zip(offered.media()) {
        if ours.port == Some(0) && !theirs.kind.is_empty() {
            assert_eq!(ours.kind, theirs.kind, "the streams in order");
        }
    }
    answer.media().filter(|media| media.port != Some(0)).count()
}
