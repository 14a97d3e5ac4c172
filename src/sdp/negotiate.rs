//! Offer and answer (RFC 3264): which stream, which codec, which way.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::sdp::attribute::Connection;
use crate::sdp::attribute::annex_b;
use crate::sdp::attribute::number;
use crate::sdp::attribute::opus_terms;
use crate::sdp::attribute::payload_type;
use crate::sdp::attribute::tokens;
use crate::sdp::crypto::CryptoLine;
use crate::sdp::crypto::Written;
use crate::sdp::model::Media;
use crate::sdp::model::SessionDescription;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::LocalMedia;
use crate::sdp::plan::MediaCrypto;
use crate::sdp::plan::MediaPlan;
use crate::sdp::plan::NegotiationError;
use crate::sdp::plan::SrtpTerms;
use crate::sdp::write::PLAIN;
use crate::sdp::write::SECURE;
use crate::sdp::write::StreamText;
use crate::sdp::write::answer_text;
use crate::types::codec::Codec;
use crate::types::codec::OpusTerms;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::limit::SDP_CRYPTO_LINES_MAX;
use crate::types::srtp::SrtpPolicy;

/// What would come of an offer, before any port is taken for it.
///
/// # Errors
/// When the offer leads to no media.
pub fn plan(
    offer: &SessionDescription,
    caps: &Capabilities,
) -> Result<MediaPlan, NegotiationError> {
    judge(offer, caps).map(|judged| judged.plan)
}

/// An offer that leads to media: what is taken of it, until it is answered.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which of its streams.
    index: usize,
    /// Of the profile RTP/SAVP.
    secure: bool,
    /// The tag of the peer's key.
    tag: Option<u32>,
    /// Where we want media both ways.
    plan: MediaPlan,
}

/// Judges an offer, before any port is taken for it.
///
/// # Errors
/// When the offer leads to no media; the same as [`plan`] returns for it.
pub fn judge(offer: &SessionDescription, caps: &Capabilities) -> Result<Judged, NegotiationError> {
    let choice = choose(offer, caps)?;
    let tag = choice.crypto.as_ref().map(|(tag, _)| *tag);
    Ok(Judged { index: choice.index, secure: choice.secure, tag, plan: choice.plan(caps) })
}

/// Answers an offer: the first usable audio stream is taken, all others are refused with port 0, in
/// order. Returns the answer and what the media session must do from now on.
///
/// # Errors
/// When the offer leads to no media; the same as [`plan`] returns for it.
pub fn answer(
    offer: &SessionDescription,
    caps: &Capabilities,
    local: &LocalMedia,
) -> Result<(Vec<u8>, MediaPlan), NegotiationError> {
    judge(offer, caps).map(|judged| judged.answer(offer, caps, local))
}

impl Judged {
    /// The answer to the offer that was judged, by the same capabilities; as [`answer`] gives it.
    #[must_use]
    pub fn answer(
        mut self,
        offer: &SessionDescription,
        caps: &Capabilities,
        local: &LocalMedia,
    ) -> (Vec<u8>, MediaPlan) {
        self.plan.direction = self.plan.direction.and(local.direction);
        (self.text(offer, caps, local), self.plan)
    }

    fn text(&self, offer: &SessionDescription, caps: &Capabilities, local: &LocalMedia) -> Vec<u8> {
        let plan = &self.plan;
        let mut codecs: SmallVec<[Named; 2]> = SmallVec::new();
        codecs.push((plan.receive_payload_type, plan.codec));
        codecs.extend(plan.receive_also);
        let events: SmallVec<[_; 1]> =
            plan.dtmf_receive.into_iter().map(|kind| (kind, plan.dtmf_clock)).collect();
        // The tag is the offer's, the key our own (RFC 4568 §5.1.2).
        let keys = self.tag.zip(plan.crypto.as_ref());
        let key = keys.map(|(tag, keys)| Written { tag, key: &keys.send });
        let key: SmallVec<[Written<'_>; 1]> = key.into_iter().collect();
        answer_text(
            offer,
            self.index,
            local,
            &StreamText {
                codecs: &codecs,
                events: &events,
                dtmf_flash: caps.dtmf_flash,
                ptime: plan.ptime,
                ptime_max: caps.ptime_max.max(plan.ptime),
                direction: plan.direction,
                rtcp_mux: plan.rtcp_mux,
                asks_metrics: caps.asks_metrics,
                annex_b: plan.annex_b,
                protocol: if self.secure { SECURE } else { PLAIN },
                crypto: &key,
            },
        )
    }
}

/// Reads the answer to an offer of ours that was made with `offered`.
///
/// # Errors
/// When the answer refuses the stream, or names nothing that was offered.
pub fn accept(
    answer: &SessionDescription,
    offered: &Capabilities,
) -> Result<MediaPlan, NegotiationError> {
    // The answerer's order is the one that counts (RFC 3264 §7).
    let caps = Capabilities { order: AnswerOrder::Remote, ..offered.clone() };
    let choice = choose(answer, &caps)?;
    let mut plan = choice.plan(&caps);
    // What reaches us bears the payload types of our own offer, whatever the answer calls them.
    let also = caps.codecs.iter().copied().find(|codec| may_switch(*codec, plan.codec));
    plan.receive_payload_type = caps.payload_type(plan.codec);
    plan.receive_also = also.map(|codec| (caps.payload_type(codec), codec));
    let events = caps.events();
    let ours = events.iter().find(|(_, clock)| *clock == plan.dtmf_clock);
    plan.dtmf_receive = plan.dtmf_send.and(ours).map(|(kind, _)| *kind);
    Ok(plan)
}

/// An audio stream we can use, and the codecs we have in common, the chosen one first.
struct Choice<'a> {
    index: usize,
    media: Media<'a>,
    chosen: (PayloadType, Codec),
    also: Option<(PayloadType, Codec)>,
    /// Of the profile RTP/SAVP.
    secure: bool,
    crypto: Option<Keys>,
}

/// The tag of the peer's line, and the keys.
type Keys = (u32, Arc<MediaCrypto>);

/// Finds the first audio stream we can use; where SRTP may be, the first encrypted one before others.
fn choose<'a>(
    description: &'a SessionDescription,
    caps: &Capabilities,
) -> Result<Choice<'a>, NegotiationError> {
    // The nearest miss is reported.
    let mut miss = NegotiationError::NoAudio;
    let mut plain = None;
    for (index, media) in description.media().enumerate() {
        if !media.kind.eq_ignore_ascii_case(b"audio") {
            continue;
        }
        match usable(index, media, caps) {
            Ok(choice) if choice.crypto.is_some() => return Ok(choice),
            Ok(choice) => plain = plain.or(Some(choice)),
            Err(why_not) => miss = nearer(miss, why_not),
        }
    }
    // Audio that gives way to a fax, say: without that there would be nothing left of the call.
    let is_live = |media: Media<'_>| media.port.is_some_and(|port| port > 0);
    if miss == NegotiationError::StreamRemoved && description.media().any(is_live) {
        miss = NegotiationError::NoAudio;
    }
    plain.ok_or(miss)
}

/// What we would make of one audio stream.
fn usable<'a>(
    index: usize,
    media: Media<'a>,
    caps: &Capabilities,
) -> Result<Choice<'a>, NegotiationError> {
    match media.port {
        None => return Err(NegotiationError::NoAudio),
        Some(0) => return Err(NegotiationError::StreamRemoved),
        Some(_) => (),
    }
    let (secure, crypto) = protection(media, &caps.srtp)?;
    let (chosen, also) = common_codecs(media, caps).ok_or(NegotiationError::NoCommonCodec)?;
    Ok(Choice { index, media, chosen, also, secure, crypto })
}

/// Whether a stream has the profile of SRTP, and its keys if it is to be encrypted.
fn protection(
    media: Media<'_>,
    terms: &SrtpTerms,
) -> Result<(bool, Option<Keys>), NegotiationError> {
    let secure = media.protocol.eq_ignore_ascii_case(SECURE.as_bytes());
    if !secure && !media.protocol.eq_ignore_ascii_case(PLAIN.as_bytes()) {
        return Err(NegotiationError::Transport);
    }
    let keys = || common_keys(media, terms);
    let unprotected = |why: NegotiationError| if secure { Err(why) } else { Ok((secure, None)) };
    match terms.policy {
        // RTP/AVP with `a=crypto` is taken as plain: the peer offers SRTP as a mere possibility.
        SrtpPolicy::Off => unprotected(NegotiationError::SrtpNotAllowed),
        SrtpPolicy::Optional if terms.exposed => unprotected(NegotiationError::SrtpExposed),
        SrtpPolicy::Optional => match keys() {
            Some(keys) => Ok((secure, Some(keys))),
            None => unprotected(NegotiationError::NoCommonSuite),
        },
        SrtpPolicy::Required if terms.exposed => Err(NegotiationError::SrtpExposed),
        SrtpPolicy::Required => match keys() {
            Some(keys) => Ok((secure, Some(keys))),
            None if secure => Err(NegotiationError::NoCommonSuite),
            None => Err(NegotiationError::SrtpRequired),
        },
    }
}

/// The first of the peer's keys whose suite we have, with ours: the order of the offer counts
/// (RFC 4568 §5.1.2).
fn common_keys(media: Media<'_>, terms: &SrtpTerms) -> Option<Keys> {
    media.section.attributes("crypto").take(SDP_CRYPTO_LINES_MAX).find_map(|value| {
        let line = CryptoLine::read(value)?;
        let send = terms.key(line.key.suite())?.clone();
        Some((line.tag, Arc::new(MediaCrypto { send, receive: line.key })))
    })
}

fn nearer(one: NegotiationError, other: NegotiationError) -> NegotiationError {
    let nearness = |miss| match miss {
        NegotiationError::NoAudio => 0,
        NegotiationError::StreamRemoved => 1,
        NegotiationError::Transport => 2,
        NegotiationError::SrtpNotAllowed
        | NegotiationError::SrtpRequired
        | NegotiationError::SrtpExposed
        | NegotiationError::NoCommonSuite => 3,
        NegotiationError::NoCommonCodec => 4,
    };
    if nearness(other) > nearness(one) { other } else { one }
}

type Named = (PayloadType, Codec);

/// The codec to use, and another one that both have.
fn common_codecs(media: Media<'_>, caps: &Capabilities) -> Option<(Named, Option<Named>)> {
    let mut common: SmallVec<[Named; 2]> = SmallVec::new();
    for format in media.format_list().filter_map(payload_type) {
        if let Some(codec) = codec_of(media, format)
            && caps.codecs.contains(&codec)
            && common.iter().all(|(_, known)| *known != codec)
        {
            common.push((format, codec));
        }
    }
    if caps.order == AnswerOrder::Local {
        common.sort_by_key(|(_, codec)| caps.codecs.iter().position(|ours| ours == codec));
    }
    let mut common = common.into_iter();
    let chosen = common.next()?;
    Some((chosen, common.find(|(_, codec)| may_switch(*codec, chosen.1))))
}

/// Whether a peer may go from the chosen codec to this one at any packet: G.711 needs no memory of what came before. From
/// a codec that only passes it may not, since the other leg would have to change too.
fn may_switch(codec: Codec, chosen: Codec) -> bool {
    codec != chosen && codec.law().is_some() && !chosen.is_passed()
}

/// The codec of a format: what its rtpmap says, or the static assignment where there is none.
fn codec_of(media: Media<'_>, format: PayloadType) -> Option<Codec> {
    match media.rtpmap(format) {
        Some(map) => map.codec(),
        None => Codec::of_static(format),
    }
}

impl Choice<'_> {
    /// What follows from it where we want media both ways.
    fn plan(&self, caps: &Capabilities) -> MediaPlan {
        let (format, codec) = self.chosen;
        let events = caps.dtmf.and_then(|_| self.telephone_event(codec));
        let dtmf = events.map(|(kind, _)| kind);
        let rtcp_mux = caps.rtcp_mux && self.media.section.attribute("rtcp-mux").is_some();
        let remote = self.remote();
        MediaPlan {
            codec,
            send_payload_type: format,
            receive_payload_type: format,
            receive_also: self.also.filter(|_| !caps.single_codec),
            dtmf_send: dtmf,
            dtmf_receive: dtmf,
            dtmf_clock: events.map_or(codec.clock_rate(), |(_, clock)| clock),
            opus: match codec {
                Codec::Opus => opus_terms(self.media.format_parameters(format)),
                Codec::Pcmu
                | Codec::Pcma
                | Codec::G722
                | Codec::L16Wide
                | Codec::L16
                | Codec::G729 => OpusTerms::default(),
            },
            annex_b: codec == Codec::G729
                && caps.annex_b
                && annex_b(self.media.format_parameters(format)),
            ptime: codec.fitting(self.ptime(caps)),
            remote,
            remote_rtcp: if rtcp_mux { remote } else { self.remote_rtcp(remote) },
            rtcp_mux,
            metrics_asked: self.media.asks_metrics(),
            direction: self.direction(),
            crypto: self.crypto.as_ref().map(|(_, keys)| Arc::clone(keys)),
        }
    }

    /// The first telephone-event format with the codec's clock (RFC 4733 §2.1), else with that of 8 kHz, as some write
    /// it beside any codec; and its clock. Who names no better one would neither hear nor send keys without it. What
    /// we send under its number has the clock of the stream all the same: an event in it cannot have another.
    fn telephone_event(&self, codec: Codec) -> Option<(PayloadType, u32)> {
        let (own, usual) = (codec.clock_rate(), 8_000);
        let usual = (usual != own).then_some(usual);
        std::iter::once(own).chain(usual).find_map(|clock| {
            let format = self.media.format_list().filter_map(payload_type).find(|format| {
                self.media.rtpmap(*format).is_some_and(|map| map.is_telephone_event(clock))
            })?;
            Some((format, clock))
        })
    }

    /// The packet time the peer asks for, within what both can do: the longest of ours that is not
    /// longer.
    fn ptime(&self, caps: &Capabilities) -> Ptime {
        let asked = self.media.number("ptime").filter(|ms| *ms > 0);
        let longest = self.media.number("maxptime").filter(|ms| *ms > 0).unwrap_or(u64::MAX);
        let wanted = asked.unwrap_or_else(|| u64::from(caps.ptime.ms()));
        let limit = wanted.min(longest).min(u64::from(caps.ptime_max.ms()));
        let fitting = [60, 40, 30, 20, 10].into_iter().find(|ms| u64::from(*ms) <= limit);
        fitting.and_then(Ptime::from_ms).or(Ptime::from_ms(10)).unwrap_or(caps.ptime)
    }

    fn remote(&self) -> Option<SocketAddr> {
        let port = self.media.port?;
        match self.media.connection()? {
            Connection::Address(address) => Some(SocketAddr::new(address, port)),
            Connection::Unspecified | Connection::Unusable => None,
        }
    }

    /// Where `a=rtcp` says, else the port above RTP's (RFC 3605).
    fn remote_rtcp(&self, remote: Option<SocketAddr>) -> Option<SocketAddr> {
        let remote = remote?;
        let value = self.media.section.attribute("rtcp").unwrap_or_default();
        let port = tokens(value).next().and_then(number).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port.filter(|port| *port != 0) else {
            let above = remote.port().checked_add(1)?;
            return Some(SocketAddr::new(remote.ip(), above));
        };
        // `53020 IN IP4 192.0.2.1`: what follows the port has the form of a `c=` line.
        let rest = value.iter().position(u8::is_ascii_whitespace).and_then(|at| value.get(at..));
        match Connection::read(rest.unwrap_or_default()) {
            Connection::Address(address) => Some(SocketAddr::new(address, port)),
            Connection::Unspecified | Connection::Unusable => {
                Some(SocketAddr::new(remote.ip(), port))
            }
        }
    }

    /// What the peer's direction leaves of ours.
    fn direction(&self) -> Direction {
        let allowed = self.media.direction().reversed();
        let held = self.media.connection() == Some(Connection::Unspecified);
        // RFC 3264 §8.4: 0.0.0.0 asks us to stop sending, and says nothing about what it sends.
        if held { allowed.and(Direction::ReceiveOnly) } else { allowed }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::sdp::parse::parse;
    use crate::sdp::write::answer_without_media;
    use crate::sdp::write::is_revision;
    use crate::sdp::write::offer;
    use crate::types::cause::HangupCause;
    use crate::types::random::Random;

    fn caps() -> Capabilities {
        Capabilities {
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            order: AnswerOrder::Remote,
            dtmf: PayloadType::new(101),
            dtmf_flash: false,
            ptime: Ptime::MS_20,
            ptime_max: Ptime::from_ms(40).unwrap(),
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: false,
            annex_b: false,
            srtp: SrtpTerms::default(),
        }
    }

    fn local() -> LocalMedia {
        LocalMedia {
            address: "198.51.100.7".parse().unwrap(),
            rtp_port: 16400,
            rtcp_port: 16401,
            session_id: 77,
            version: 3,
            direction: Direction::SendReceive,
        }
    }

    /// What was agreed, in one line.
    fn summary(plan: &MediaPlan) -> String {
        let show = |value: Option<PayloadType>| value.map_or("-".into(), |it| it.to_string());
        let address = |value: Option<SocketAddr>| value.map_or("-".into(), |it| it.to_string());
        let also = plan.receive_also.map_or("-".into(), |(it, codec)| format!("{codec}:{it}"));
        format!(
            "{} send {} receive {} also {also} dtmf {} ptime {} to {} rtcp {} {}",
            plan.codec,
            plan.send_payload_type,
            plan.receive_payload_type,
            show(plan.dtmf_send),
            plan.ptime.ms(),
            address(plan.remote),
            address(plan.remote_rtcp),
            plan.direction.as_str(),
        )
    }

    fn answered(body: &[u8], caps: &Capabilities) -> (String, MediaPlan) {
        let offered = parse(body).unwrap();
        let (text, agreed) = answer(&offered, caps, &local()).unwrap();
        assert_eq!(plan(&offered, caps), Ok(agreed.clone()));
        (String::from_utf8(text).unwrap(), agreed)
    }

    /// Answers `body` and compares the plan and the media part of the answer.
    fn check(body: &str, expected: &str, media: &str) {
        let (text, agreed) = answered(body.as_bytes(), &caps());
        assert_eq!(summary(&agreed), expected, "{body}");
        let (_, ours) = text.split_once("m=").unwrap();
        let ours = format!("m={}", ours.replace("\r\n", "\n"));
        assert_eq!(ours, media, "{body}");
    }

    /// An offer with the given lines below a usual session part.
    fn body(media: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
    }

    fn check_plan(media: &str, expected: &str) {
        let (_, agreed) = answered(body(media).as_bytes(), &caps());
        assert_eq!(summary(&agreed), expected, "{media}");
    }

    fn check_refused(media: &str, expected: NegotiationError) {
        let offered = parse(body(media).as_bytes()).unwrap();
        assert_eq!(plan(&offered, &caps()), Err(expected), "{media}");
        assert_eq!(answer(&offered, &caps(), &local()).unwrap_err(), expected, "{media}");
    }

    #[test]
    fn a_twilio_offer_is_answered() {
        check(
            "v=0\r\no=root 1049131353 1049131353 IN IP4 172.18.155.180\r\ns=Twilio Media Gateway\r\n\
             c=IN IP4 168.86.128.100\r\nt=0 0\r\nm=audio 17564 RTP/AVP 0 8 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:20\r\na=sendrecv\r\n",
            "PCMU send 0 receive 0 also PCMA:8 dtmf 101 ptime 20 to 168.86.128.100:17564 \
             rtcp 168.86.128.100:17565 sendrecv",
            "m=audio 16400 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n\
             a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=ptime:20\na=maxptime:40\n\
             a=sendrecv\n",
        );
    }

    #[test]
    fn an_asterisk_offer_is_answered() {
        check(
            "v=0\r\no=- 1324901698 1324901698 IN IP4 203.0.113.5\r\ns=Asterisk\r\n\
             c=IN IP4 203.0.113.5\r\nt=0 0\r\nm=audio 11238 RTP/AVP 107 8 0 96\r\n\
             a=rtpmap:107 opus/48000/2\r\na=fmtp:107 useinbandfec=1\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\n\
             a=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n",
            "PCMA send 8 receive 8 also PCMU:0 dtmf 96 ptime 20 to 203.0.113.5:11238 \
             rtcp 203.0.113.5:11239 sendrecv",
            "m=audio 16400 RTP/AVP 8 0 96\na=rtpmap:8 PCMA/8000\na=rtpmap:0 PCMU/8000\n\
             a=rtpmap:96 telephone-event/8000\na=fmtp:96 0-15\na=ptime:20\na=maxptime:40\n\
             a=sendrecv\n",
        );
    }

    #[test]
    fn a_cisco_offer_with_fax_is_answered() {
        check(
            "v=0\r\no=CiscoSystemsSIP-GW-UserAgent 9110 7563 IN IP4 10.1.1.1\r\ns=SIP Call\r\n\
             c=IN IP4 10.1.1.1\r\nt=0 0\r\nm=audio 18330 RTP/AVP 18 0 100 19\r\n\
             c=IN IP4 10.1.1.2\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:100 X-NSE/8000\r\na=fmtp:100 192-194\r\n\
             a=rtpmap:19 CN/8000\r\na=X-sqn:0\r\na=X-cap: 1 image udptl t38\r\n\
             m=image 18332 udptl t38\r\na=T38FaxVersion:0\r\n",
            "PCMU send 0 receive 0 also - dtmf - ptime 20 to 10.1.1.2:18330 rtcp 10.1.1.2:18331 \
             sendrecv",
            "m=audio 16400 RTP/AVP 0\na=rtpmap:0 PCMU/8000\na=ptime:20\na=maxptime:40\na=sendrecv\n\
             m=image 0 udptl t38\n",
        );
    }

    #[test]
    fn an_rtpengine_offer_with_dynamic_types_and_video_is_answered() {
        check(
            "v=0\r\no=alice 3 4 IN IP4 192.0.2.9\r\ns=-\r\nt=3034423619 3042462419\r\n\
             m=video 30010 RTP/AVP 99\r\nc=IN IP4 192.0.2.9\r\na=rtpmap:99 H264/90000\r\n\
             m=audio 30000 RTP/AVP 97 111 127 126\r\nc=IN IP4 192.0.2.9\r\n\
             a=rtpmap:111 PCMU/8000\r\na=rtpmap:97 iLBC/8000\r\na=rtpmap:127 telephone-event/48000\r\n\
             a=rtpmap:126 telephone-event/8000\r\na=ptime:30\r\na=rtcp:30007 IN IP4 192.0.2.10\r\n\
             a=rtcp-mux\r\na=ssrc:1 cname:x\r\na=recvonly\r\n",
            "PCMU send 111 receive 111 also - dtmf 126 ptime 30 to 192.0.2.9:30000 \
             rtcp 192.0.2.10:30007 sendonly",
            "m=video 0 RTP/AVP 99\nm=audio 16400 RTP/AVP 111 126\na=rtpmap:111 PCMU/8000\n\
             a=rtpmap:126 telephone-event/8000\na=fmtp:126 0-15\na=ptime:30\na=maxptime:40\n\
             a=sendonly\n",
        );
    }

    #[test]
    fn a_tata_offer_without_rtpmaps_is_answered() {
        check(
            "v=0\no=SBC 1 1 IN IP4 198.51.100.20\nc=IN IP4 198.51.100.20\nm=audio 40000 RTP/AVP 8 18 101\n\
             a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=fmtp:18 annexb=no\n",
            "PCMA send 8 receive 8 also - dtmf 101 ptime 20 to 198.51.100.20:40000 \
             rtcp 198.51.100.20:40001 sendrecv",
            "m=audio 16400 RTP/AVP 8 101\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\n\
             a=fmtp:101 0-15\na=ptime:20\na=maxptime:40\na=sendrecv\n",
        );
    }

    #[test]
    fn the_session_part_is_ours_with_the_time_of_the_offer() {
        let head = |body: &str, local: LocalMedia| {
            let (text, _) = answer(&parse(body.as_bytes()).unwrap(), &caps(), &local).unwrap();
            String::from_utf8(text).unwrap().split_once("m=").unwrap().0.to_owned()
        };
        assert_eq!(
            head("t=5 9\nm=audio 4000 RTP/AVP 0\n", local()),
            "v=0\r\no=- 77 3 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=5 9\r\n"
        );
        let address: IpAddr = "2001:db8::7".parse().unwrap();
        assert_eq!(
            head("t=x y\nm=audio 4000 RTP/AVP 0\n", LocalMedia { address, ..local() }),
            "v=0\r\no=- 77 3 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:db8::7\r\nt=0 0\r\n"
        );
    }

    #[test]
    fn the_order_of_codecs_is_theirs_or_ours_and_one_may_be_all() {
        let body = body("m=audio 4000 RTP/AVP 8 0\r\n");
        let (_, agreed) = answered(body.as_bytes(), &caps());
        assert_eq!(agreed.codec, Codec::Pcma);
        let ours = Capabilities { order: AnswerOrder::Local, ..caps() };
        let (text, agreed) = answered(body.as_bytes(), &ours);
        assert_eq!(agreed.codec, Codec::Pcmu);
        assert!(text.contains("m=audio 16400 RTP/AVP 0 8\r\n"), "{text}");
        let single = Capabilities { single_codec: true, ..caps() };
        let offered = parse(body.as_bytes()).unwrap();
        let (text, agreed) = answer(&offered, &single, &local()).unwrap();
        assert_eq!(agreed.receive_also, None);
        assert_eq!(plan(&offered, &single), Ok(agreed));
        assert!(String::from_utf8(text).unwrap().contains("m=audio 16400 RTP/AVP 8\r\n"));
        let pcma = Capabilities { codecs: vec![Codec::Pcma], ..ours };
        assert_eq!(answered(body.as_bytes(), &pcma).1.codec, Codec::Pcma);
    }

    #[test]
    fn packet_times_are_those_asked_for_within_what_both_can_do() {
        let check = |lines: &str, expected: u8| {
            let (_, agreed) =
                answered(body(&format!("m=audio 4000 RTP/AVP 0\r\n{lines}")).as_bytes(), &caps());
            assert_eq!(agreed.ptime.ms(), expected, "{lines}");
        };
        check("", 20);
        check("a=ptime:10", 10);
        check("a=ptime:30", 30);
        check("a=ptime:60", 40);
        check("a=ptime:25", 20);
        check("a=ptime:5", 10);
        check("a=ptime:0", 20);
        check("a=ptime:20.0", 20);
        check("a=ptime: 30 ms", 30);
        check("a=ptime:x", 20);
        check("a=ptime:99999999999999999999999", 20);
        check("a=maxptime:10", 10);
        check("a=ptime:40\r\na=maxptime:30", 30);
    }

    #[test]
    fn holds_of_every_style_stop_our_media() {
        let check = |lines: &str, expected: Direction, remote: bool| {
            let (text, agreed) = answered(body(lines).as_bytes(), &caps());
            assert_eq!(agreed.direction, expected, "{lines}");
            assert_eq!(agreed.remote.is_some(), remote, "{lines}");
            assert!(text.contains(&format!("a={}\r\n", expected.as_str())), "{lines}: {text}");
        };
        let audio = "m=audio 4000 RTP/AVP 0\r\n";
        check(&format!("{audio}a=sendonly"), Direction::ReceiveOnly, true);
        check(&format!("{audio}a=inactive"), Direction::Inactive, true);
        check(&format!("{audio}a=recvonly"), Direction::SendOnly, true);
        check(&format!("{audio}a=sendrecv"), Direction::SendReceive, true);
        check(&format!("a=sendonly\r\n{audio}"), Direction::ReceiveOnly, true);
        check(&format!("a=inactive\r\n{audio}a=sendrecv"), Direction::SendReceive, true);
        check(&format!("{audio}c=IN IP4 0.0.0.0"), Direction::ReceiveOnly, false);
        check(&format!("{audio}c=IN IP6 ::"), Direction::ReceiveOnly, false);
        check(&format!("{audio}c=IN IP4 0.0.0.0\r\na=sendonly"), Direction::ReceiveOnly, false);
        check(&format!("{audio}c=IN IP4 0.0.0.0\r\na=recvonly"), Direction::Inactive, false);
        check(&format!("{audio}c=IN IP4 0.0.0.0\r\na=inactive"), Direction::Inactive, false);
    }

    #[test]
    fn our_own_hold_is_part_of_the_answer() {
        let held = LocalMedia { direction: Direction::SendOnly, ..local() };
        for (theirs, expected) in [
            ("sendrecv", Direction::SendOnly),
            ("recvonly", Direction::SendOnly),
            ("sendonly", Direction::Inactive),
        ] {
            let offered =
                parse(body(&format!("m=audio 4000 RTP/AVP 0\r\na={theirs}")).as_bytes()).unwrap();
            assert_eq!(answer(&offered, &caps(), &held).unwrap().1.direction, expected);
        }
    }

    #[test]
    fn addresses_come_from_the_nearest_level() {
        let prefix = "PCMU send 0 receive 0 also - dtmf - ptime 20 to";
        let audio = "m=audio 4000 RTP/AVP 0\r\n";
        check_plan(audio, &format!("{prefix} 192.0.2.1:4000 rtcp 192.0.2.1:4001 sendrecv"));
        check_plan(
            &format!("{audio}c=IN IP6 2001:db8::5"),
            &format!("{prefix} [2001:db8::5]:4000 rtcp [2001:db8::5]:4001 sendrecv"),
        );
        check_plan(
            &format!("{audio}a=rtcp:4100"),
            &format!("{prefix} 192.0.2.1:4000 rtcp 192.0.2.1:4100 sendrecv"),
        );
        check_plan(
            &format!("{audio}a=rtcp:99999"),
            &format!("{prefix} 192.0.2.1:4000 rtcp 192.0.2.1:4001 sendrecv"),
        );
        check_plan("m=audio 65535 RTP/AVP 0", &format!("{prefix} 192.0.2.1:65535 rtcp - sendrecv"));
        check_plan(
            &format!("{audio}c=IN IP4 sbc.example.com"),
            &format!("{prefix} - rtcp - sendrecv"),
        );
        check_plan(
            "m=audio 4000/2 RTP/AVP 0",
            &format!("{prefix} 192.0.2.1:4000 rtcp 192.0.2.1:4001 sendrecv"),
        );
    }

    #[test]
    fn a_shared_port_needs_both_sides() {
        let mux = Capabilities { rtcp_mux: true, ..caps() };
        let with = body("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\na=rtcp:4001");
        let without = body("m=audio 4000 RTP/AVP 0\r\n");
        let (text, agreed) = answered(with.as_bytes(), &mux);
        assert!(agreed.rtcp_mux && text.contains("a=rtcp-mux\r\n"));
        assert_eq!(agreed.remote_rtcp, agreed.remote);
        for (body, caps) in [(&with, &caps()), (&without, &mux), (&without, &caps())] {
            let (text, agreed) = answered(body.as_bytes(), caps);
            assert!(!agreed.rtcp_mux && !text.contains("rtcp-mux"));
            assert_eq!(agreed.remote_rtcp.map(|address| address.port()), Some(4001));
        }
    }

    #[test]
    fn who_asks_how_well_it_is_heard_is_told_and_we_ask_where_the_trunk_wants_it() {
        let asks = Capabilities { asks_metrics: true, ..caps() };
        for (lines, asked) in [
            ("", false),
            ("a=rtcp-xr:rcvr-rtt=all voip-metrics\r\n", true),
            ("a=rtcp-xr:pkt-loss-rle\r\n", false),
        ] {
            let offer = body(&format!("m=audio 4000 RTP/AVP 0\r\n{lines}"));
            let (text, agreed) = answered(offer.as_bytes(), &caps());
            assert_eq!(agreed.metrics_asked, asked, "{lines}");
            assert!(!text.contains("rtcp-xr"));
            let (text, _) = answered(offer.as_bytes(), &asks);
            assert!(text.contains("a=rtcp-xr:voip-metrics\r\n"), "{text}");
        }
    }

    #[test]
    fn an_odd_rtcp_port_of_ours_is_said() {
        let offered = parse(body("m=audio 4000 RTP/AVP 0").as_bytes()).unwrap();
        let odd = LocalMedia { rtcp_port: 17000, ..local() };
        let text = |local| String::from_utf8(answer(&offered, &caps(), local).unwrap().0).unwrap();
        assert!(text(&odd).ends_with("a=rtcp:17000\r\n"));
        assert!(!text(&local()).contains("a=rtcp:"));
    }

    #[test]
    fn only_the_first_usable_audio_is_taken_and_the_rest_refused_as_it_came() {
        let offered = parse(
            &[
                body("").as_bytes(),
                b"m=audio 4000 RTP/SAVP 0\nm=audio 0 RTP/AVP 0\nm=audio 4002 RTP/AVP 18\n\
                  m=audio 4004 rtp/avp 8\nm=audio 4006 RTP/AVP 0\n\
                  m=application 9 UDP/DTLS/SCTP webrtc-datachannel\nm=message 1 TCP/MSRP *\n\
                  m=x-new 70000 a/b c  d\xe9\nm=\n",
            ]
            .concat(),
        )
        .unwrap();
        let (text, agreed) = answer(&offered, &caps(), &local()).unwrap();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(agreed.remote.unwrap().port(), 4004);
        let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(
            ours,
            [
                "m=audio 0 RTP/SAVP 0",
                "m=audio 0 RTP/AVP 0",
                "m=audio 0 RTP/AVP 18",
                "m=audio 16400 RTP/AVP 8",
                "m=audio 0 RTP/AVP 0",
                "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
                "m=message 0 TCP/MSRP *",
                "m=x-new 0 a/b c  d\u{fffd}",
                "m=audio 0 RTP/AVP 0",
            ]
        );
    }

    #[test]
    fn what_leads_to_no_media_is_refused_with_its_reason() {
        use NegotiationError as E;
        check_refused("", E::NoAudio);
        check_refused("m=video 4000 RTP/AVP 0", E::NoAudio);
        check_refused("m=audio RTP/AVP 0", E::NoAudio);
        check_refused("m=audio 70000 RTP/AVP 0", E::NoAudio);
        check_refused("m=audio 0 RTP/AVP 0", E::StreamRemoved);
        check_refused("m=audio 0 RTP/AVP 0\r\nm=image 0 udptl t38", E::StreamRemoved);
        check_refused("m=audio 0 RTP/AVP 0\r\nm=image 5 udptl t38", E::NoAudio);
        check_refused(
            "m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x",
            E::SrtpNotAllowed,
        );
        check_refused("m=audio 4000 UDP/TLS/RTP/SAVPF 0", E::Transport);
        check_refused("m=audio 4000 RTP/AVPF 0", E::Transport);
        check_refused(
            "m=audio 4000 RTP/AVP 18 101\r\na=rtpmap:101 telephone-event/8000",
            E::NoCommonCodec,
        );
        check_refused("m=audio 4000 RTP/AVP", E::NoCommonCodec);
        check_refused("m=audio 4000 RTP/AVP 96 97 300 x", E::NoCommonCodec);
        check_refused("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 G723/8000", E::NoCommonCodec);
        check_refused("m=audio 4000 RTP/SAVP 0\r\nm=audio 4002 RTP/AVP 18", E::NoCommonCodec);
        assert_eq!(E::NoCommonCodec.cause(), HangupCause::NoCommonCodec);
        for none in [E::NoAudio, E::StreamRemoved] {
            assert_eq!(none.cause(), HangupCause::NoAudio);
        }
        assert_eq!(E::Transport.cause(), HangupCause::BadSdp);
    }

    #[test]
    fn a_stream_that_is_taken_out_is_answered_with_port_zero() {
        let offered = parse(body("m=audio 0 RTP/AVP 0\r\nm=image 5 udptl t38").as_bytes()).unwrap();
        let text = String::from_utf8(answer_without_media(&offered, &local())).unwrap();
        assert!(
            text.ends_with("t=0 0\r\nm=audio 0 RTP/AVP 0\r\nm=image 0 udptl t38\r\n"),
            "{text}"
        );
    }

    #[test]
    fn telephone_events_need_the_clock_of_the_codec_and_our_consent() {
        let lines = "m=audio 4000 RTP/AVP 0 96 97\r\na=rtpmap:96 telephone-event/16000\r\n";
        assert_eq!(answered(body(lines).as_bytes(), &caps()).1.dtmf_receive, None);
        let both = body(&format!("{lines}a=rtpmap:97 TELEPHONE-EVENT/8000/1\r\n"));
        assert_eq!(answered(both.as_bytes(), &caps()).1.dtmf_receive, PayloadType::new(97));
        let without = Capabilities { dtmf: None, ..caps() };
        let (text, agreed) = answered(both.as_bytes(), &without);
        assert!(agreed.dtmf_send.is_none() && !text.contains("telephone-event"));
    }

    #[test]
    fn telephone_events_name_the_flash_key_where_the_trunk_wants_it() {
        let lines =
            "m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n";
        for (dtmf_flash, last) in [(false, 15), (true, 16)] {
            let caps = Capabilities { dtmf_flash, ..caps() };
            let text = answered(body(lines).as_bytes(), &caps).0;
            assert!(text.contains(&format!("a=fmtp:96 0-{last}\r\n")), "{text}");
            let text = String::from_utf8(offer(&caps, &local())).unwrap();
            assert!(text.contains(&format!("a=fmtp:101 0-{last}\r\n")), "{text}");
        }
    }

    #[test]
    fn our_offer_is_accepted_by_its_answer() {
        let text = String::from_utf8(offer(&caps(), &local())).unwrap();
        assert_eq!(
            text,
            "v=0\r\no=- 77 3 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
             m=audio 16400 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:40\r\n\
             a=sendrecv\r\n"
        );
        let check = |lines: &str, expected: Result<&str, NegotiationError>| {
            let agreed = accept(&parse(body(lines).as_bytes()).unwrap(), &caps());
            assert_eq!(
                agreed.as_ref().map(summary).map_err(|error| *error),
                expected.map(str::to_owned)
            );
        };
        check(
            "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n",
            Ok("PCMA send 8 receive 8 also PCMU:0 dtmf 96 ptime 20 to 192.0.2.1:4000 \
                rtcp 192.0.2.1:4001 sendrecv"),
        );
        // Payload types of the answerer's own choice are for what we send.
        check(
            "m=audio 4000 RTP/AVP 99\r\na=rtpmap:99 PCMA/8000\r\na=sendonly",
            Ok("PCMA send 99 receive 8 also PCMU:0 dtmf - ptime 20 to 192.0.2.1:4000 \
                rtcp 192.0.2.1:4001 recvonly"),
        );
        check("m=audio 0 RTP/AVP 0", Err(NegotiationError::StreamRemoved));
        check("m=audio 4000 RTP/AVP 18", Err(NegotiationError::NoCommonCodec));
    }

    #[test]
    fn an_answer_uses_our_type_for_events_that_reach_us() {
        let lines = "m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\n";
        let agreed = accept(&parse(body(lines).as_bytes()).unwrap(), &caps()).unwrap();
        assert_eq!(agreed.dtmf_send, PayloadType::new(96));
        assert_eq!(agreed.dtmf_receive, PayloadType::new(101));
    }

    #[test]
    fn two_of_us_agree() {
        let mux = Capabilities { rtcp_mux: true, ..caps() };
        let offered = parse(&offer(&mux, &local())).unwrap();
        let other = LocalMedia { rtp_port: 18000, rtcp_port: 18001, ..local() };
        let (text, theirs) = answer(&offered, &mux, &other).unwrap();
        let ours = accept(&parse(&text).unwrap(), &mux).unwrap();
        assert_eq!((ours.codec, ours.dtmf_send), (theirs.codec, theirs.dtmf_receive));
        assert_eq!(ours.remote.unwrap().port(), 18000);
        assert_eq!(theirs.remote.unwrap().port(), 16400);
        assert!(ours.rtcp_mux && theirs.rtcp_mux);
    }

    #[test]
    fn a_text_that_differs_in_its_version_alone_is_no_revision() {
        let text = offer(&caps(), &local());
        let newer = offer(&caps(), &LocalMedia { version: 4, ..local() });
        let held = offer(&caps(), &LocalMedia { direction: Direction::SendOnly, ..local() });
        assert!(!is_revision(&text, &text));
        assert!(!is_revision(&text, &newer));
        assert!(is_revision(&text, &held));
        assert!(is_revision(&text, &offer(&caps(), &LocalMedia { session_id: 5, ..local() })));
    }

    #[test]
    fn what_we_write_satisfies_the_oracle() {
        for media in
            ["m=audio 4000 RTP/AVP 0 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n"]
        {
            let (text, agreed) = answered(body(media).as_bytes(), &caps());
            for text in [text, String::from_utf8(offer(&caps(), &local())).unwrap()] {
                let read = ezk_sdp_types::SessionDescription::parse(&text.as_str().into()).unwrap();
                let stream = &read.media_descriptions[0];
                assert_eq!(stream.media.port, 16400);
                assert_eq!(stream.media.proto, ezk_sdp_types::TransportProtocol::RtpAvp);
                let last = stream.rtpmap.last().unwrap();
                assert_eq!((last.encoding.as_str(), last.clock_rate), ("telephone-event", 8000));
            }
            assert_eq!(agreed.direction, Direction::ReceiveOnly);
        }
    }

    #[test]
    fn the_oracle_reads_well_formed_bodies_as_we_do() {
        for media in [
            "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
            "m=audio 4000 RTP/AVP 97 8\r\nc=IN IP4 192.0.2.77\r\na=rtpmap:97 PCMA/8000\r\na=inactive\r\n",
            "m=video 5000 RTP/AVP 99\r\nm=audio 4002 RTP/AVP 8\r\na=recvonly\r\na=rtcp-mux\r\n",
        ] {
            let text = body(media);
            let ours = parse(text.as_bytes()).unwrap();
            let theirs = ezk_sdp_types::SessionDescription::parse(&text.as_str().into()).unwrap();
            assert_eq!(ours.media().count(), theirs.media_descriptions.len());
            for (ours, theirs) in ours.media().zip(&theirs.media_descriptions) {
                assert_eq!(ours.kind, theirs.media.media_type.to_string().as_bytes());
                assert_eq!(ours.port, Some(theirs.media.port));
                assert_eq!(ours.direction().as_str(), theirs.direction.as_str());
                let formats: Vec<_> = ours.format_list().filter_map(payload_type).collect();
                assert_eq!(
                    formats.iter().map(|format| u32::from(format.get())).collect::<Vec<_>>(),
                    theirs.media.fmts.iter().map(|it| u32::from(*it)).collect::<Vec<_>>()
                );
                for map in &theirs.rtpmap {
                    let found = ours.rtpmap(PayloadType::new(map.payload).unwrap()).unwrap();
                    assert_eq!(found.name, map.encoding.as_bytes());
                    assert_eq!(found.clock_rate, u64::from(map.clock_rate));
                }
            }
        }
    }

    #[test]
    fn no_odd_line_fails_a_usable_offer() {
        for odd in [
            "a=rtpmap:\r\na=rtpmap:x y\r\na=rtpmap:0\r\na=fmtp\r\n",
            "a=crypto:99999999999999999999 X y\r\na=candidate:\r\na=group:BUNDLE\r\na=\r\n=\r\n:\r\n",
            "k=clear\r\nz=1 2\r\nb=AS:99999999999999999999\r\nr=\r\ne=\r\np=\r\nu=\r\nq=?\r\n",
            "a=ptime\r\na=maxptime\r\na=rtcp\r\na=rtcp:-1\r\na=rtcp:x IN IP4\r\n",
            "\0\0\0\r\n\x01\x02\r\n  \t \r\nnonsense\r\n",
            "a=sendrecv garbage\r\na=\u{e9}\u{e9}\r\n",
        ] {
            check_plan(
                &format!("{odd}m=audio 4000 RTP/AVP 0\r\n{odd}"),
                "PCMU send 0 receive 0 also - dtmf - ptime 20 to 192.0.2.1:4000 rtcp 192.0.2.1:4001 \
                 sendrecv",
            );
        }
    }

    #[test]
    fn mutated_offers_break_nothing() {
        let seeds = [
            body(
                "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:4001\r\n",
            ),
            body("m=image 1 udptl t38\r\nm=audio 4000/2 RTP/AVP 96\r\na=rtpmap:96 PCMA/8000/1\r\n"),
            body(
                "a=sendonly\r\nm=audio 4000 RTP/AVP 8\r\nc=IN IP6 ::1\r\na=ptime:30\r\na=rtcp-mux\r\n",
            ),
        ];
        let mut random = Random::from_seed(42);
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(4) {
                    0 => bytes[at] = random.next_u32() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\r\n=:/ 0\xff"[random.below(8) as usize]),
                    _ => {
                        let end = (at + random.below(30) as usize).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        let to = random.below(bytes.len() as u64) as usize;
                        bytes.splice(to..to, piece);
                    }
                }
            }
            crate::sdp::exercise(&bytes);
        }
    }
}
