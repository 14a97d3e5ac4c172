//! What a leg may agree to, by the trunk it goes by.

use crate::call::dial::KeyWay;
use crate::call::dial::LegTerms;
use crate::clock;
use crate::engine::srtp_terms::srtp_terms;
use crate::routing::signalling::DtmfSend;
use crate::routing::signalling::Progress;
use crate::routing::signalling::ReferOut;
use crate::routing::trunk::RtcpMode;
use crate::routing::trunk::RtcpXr;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkMedia;
use crate::sdp::AnswerOrder;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::SrtpTerms;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Transport;

/// The terms of a leg that came in by `trunk` over `transport`.
pub(crate) fn inbound(trunk: &Trunk, transport: Transport) -> LegTerms {
    of_trunk(trunk, transport)
}

/// The terms of a leg dialled by `trunk` over `transport`.
pub(crate) fn outbound(trunk: &Trunk, transport: Transport) -> LegTerms {
    of_trunk(trunk, transport)
}

fn of_trunk(trunk: &Trunk, transport: Transport) -> LegTerms {
    let terms = of_media(&trunk.media, trunk.progress, transport);
    let joined_by = (trunk.refer_out == ReferOut::Attended).then_some(trunk.id);
    LegTerms { transfers: trunk.takes_refer, joined_by, ..terms }
}

/// The terms of a leg to a peer that no trunk describes.
pub(super) fn of_peer(transport: Transport, srtp: SrtpPolicy) -> LegTerms {
    let mut media = TrunkMedia::default();
    media.srtp.policy = srtp;
    of_media(&media, Progress::default(), transport)
}

fn of_media(media: &TrunkMedia, progress: Progress, transport: Transport) -> LegTerms {
    let (srtp, srtp_offered) = srtp_terms(&media.srtp, transport);
    LegTerms {
        capabilities: capabilities(media, srtp),
        codecs_offered: media.codecs_offered.clone(),
        srtp_offered,
        delayed_offer: false,
        progress,
        dtmf_info: media.dtmf_info,
        keys: match media.dtmf_send {
            DtmfSend::Rfc4733 => KeyWay::Media,
            DtmfSend::Info => KeyWay::Signalling { duration_ms: media.dtmf_ms.0 },
        },
        transfers: false,
        joined_by: None,
        hold: if media.silent_hold { Direction::Inactive } else { Direction::SendOnly },
        // RFC 8866 §5.2 wants a number that many implementations read as a signed 64-bit one.
        session_id: clock::random_u64() >> 2,
    }
}

fn capabilities(media: &TrunkMedia, srtp: SrtpTerms) -> Capabilities {
    Capabilities {
        codecs: media.codecs.clone(),
        order: if media.order_remote { AnswerOrder::Remote } else { AnswerOrder::Local },
        dtmf: media.dtmf_payload_type,
        dtmf_flash: media.dtmf_flash,
        ptime: media.ptime,
        ptime_max: media.ptime_max,
        rtcp_mux: media.rtcp == RtcpMode::Mux,
        asks_metrics: media.rtcp != RtcpMode::Off && media.rtcp_xr == RtcpXr::On,
        single_codec: media.single_codec,
        annex_b: false,
        srtp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::leg::Leg;
    use crate::call::leg::Place;
    use crate::types::id::TrunkId;
    use uuid::Uuid;

    /// The audio line of an answer to an offer of µ-law and A-law, by a trunk that takes A-law first.
    fn answered(order_remote: bool, single_codec: bool) -> String {
        use crate::types::codec::Codec;
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "t", Vec::new());
        trunk.media.codecs = vec![Codec::Pcma, Codec::Pcmu];
        (trunk.media.order_remote, trunk.media.single_codec) = (order_remote, single_codec);
        let mut leg = Leg::of(&inbound(&trunk, Transport::Udp));
        let address = "192.0.2.1".parse().unwrap();
        leg.place(Place { address, rtp_port: 30_000, rtcp_port: 30_001 });
        let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                     m=audio 40000 RTP/AVP 0 8\r\n";
        let answer = leg.answer(offer.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.lines().find(|line| line.starts_with("m=")).unwrap_or_default().to_owned()
    }

    #[test]
    fn an_answer_has_the_codecs_that_its_trunk_takes_in_the_order_of_either_side() {
        assert_eq!(answered(true, true), "m=audio 30000 RTP/AVP 0");
        assert_eq!(answered(false, true), "m=audio 30000 RTP/AVP 8");
        assert_eq!(answered(true, false), "m=audio 30000 RTP/AVP 0 8");
        assert_eq!(answered(false, false), "m=audio 30000 RTP/AVP 8 0");
    }
}
