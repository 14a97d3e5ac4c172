//! Offer and answer (RFC 3264): which stream, which codec, which way.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;

use smallvec::SmallVec;

use crate::sdp::attribute::Connection;
use crate::sdp::attribute::number;
use crate::sdp::attribute::payload_type;
use crate::sdp::attribute::tokens;
use crate::sdp::model::Media;
use crate::sdp::model::SessionDescription;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::LocalMedia;
use crate::sdp::plan::MediaPlan;
use crate::sdp::plan::NegotiationError;
use crate::sdp::write::StreamText;
use crate::sdp::write::answer_text;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

/// What would come of an offer, before any port is taken for it.
///
/// # Errors
/// When the offer leads to no media.
pub fn plan(
    offer: &SessionDescription,
    caps: &Capabilities,
) -> Result<MediaPlan, NegotiationError> {
    choose(offer, caps).map(|choice| choice.plan(caps, Direction::SendReceive))
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
    let choice = choose(offer, caps)?;
    let mut plan = choice.plan(caps, local.direction);
    let chosen = (plan.receive_payload_type, plan.codec);
    let mut codecs: SmallVec<[(PayloadType, Codec); 2]> = SmallVec::new();
    codecs.push(chosen);
    if caps.single_codec {
        plan.receive_also = None;
    }
    codecs.extend(plan.receive_also);
    let text = answer_text(
        offer,
        choice.index,
        local,
        &StreamText {
            codecs: &codecs,
            dtmf: plan.dtmf_receive,
            ptime: plan.ptime,
            ptime_max: caps.ptime_max.max(plan.ptime),
            direction: plan.direction,
            rtcp_mux: plan.rtcp_mux,
        },
    );
    Ok((text, plan))
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
    let mut plan = choice.plan(&caps, Direction::SendReceive);
    // What reaches us bears the payload types of our own offer, whatever the answer calls them.
    let also = caps.codecs.iter().copied().find(|codec| *codec != plan.codec);
    plan.receive_payload_type = plan.codec.static_payload_type();
    plan.receive_also = also.map(|codec| (codec.static_payload_type(), codec));
    plan.dtmf_receive = plan.dtmf_send.and(caps.dtmf);
    Ok(plan)
}

/// An audio stream we can use, and the codecs we have in common, the chosen one first.
struct Choice<'a> {
    index: usize,
    media: Media<'a>,
    chosen: (PayloadType, Codec),
    also: Option<(PayloadType, Codec)>,
}

/// Finds the first audio stream we can use.
fn choose<'a>(
    description: &'a SessionDescription,
    caps: &Capabilities,
) -> Result<Choice<'a>, NegotiationError> {
    // The nearest miss is reported.
    let mut miss = NegotiationError::NoAudio;
    for (index, media) in description.media().enumerate() {
        if !media.kind.eq_ignore_ascii_case(b"audio") {
            continue;
        }
        let why_not = match media.port {
            None => NegotiationError::NoAudio,
            Some(0) => NegotiationError::StreamRemoved,
            // RTP/AVP with `a=crypto` is taken as plain: the peer offers SRTP as a mere possibility.
            Some(_) if !media.protocol.eq_ignore_ascii_case(b"RTP/AVP") => {
                NegotiationError::Transport
            }
            Some(_) => match common_codecs(media, caps) {
                Some((chosen, also)) => return Ok(Choice { index, media, chosen, also }),
                None => NegotiationError::NoCommonCodec,
            },
        };
        miss = nearer(miss, why_not);
    }
    Err(miss)
}

fn nearer(one: NegotiationError, other: NegotiationError) -> NegotiationError {
    let nearness = |miss| match miss {
        NegotiationError::NoAudio => 0,
        NegotiationError::StreamRemoved => 1,
        NegotiationError::Transport => 2,
        NegotiationError::NoCommonCodec => 3,
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
    Some((chosen, common.next()))
}

/// The codec of a format: what its rtpmap says, or the static assignment where there is none.
fn codec_of(media: Media<'_>, format: PayloadType) -> Option<Codec> {
    match media.rtpmap(format) {
        Some(map) => map.codec(),
        None => [Codec::Pcmu, Codec::Pcma].into_iter().find(|c| c.static_payload_type() == format),
    }
}

impl Choice<'_> {
    fn plan(&self, caps: &Capabilities, ours: Direction) -> MediaPlan {
        let (format, codec) = self.chosen;
        let dtmf = caps.dtmf.and_then(|_| self.telephone_event(codec));
        let rtcp_mux = caps.rtcp_mux && self.media.section.attribute("rtcp-mux").is_some();
        let remote = self.remote();
        MediaPlan {
            codec,
            send_payload_type: format,
            receive_payload_type: format,
            receive_also: self.also,
            dtmf_send: dtmf,
            dtmf_receive: dtmf,
            ptime: self.ptime(caps),
            remote,
            remote_rtcp: if rtcp_mux { remote } else { self.remote_rtcp(remote) },
            rtcp_mux,
            direction: self.direction(ours),
        }
    }

    /// The first telephone-event format with the codec's clock (RFC 4733 §2.1).
    fn telephone_event(&self, codec: Codec) -> Option<PayloadType> {
        self.media.format_list().filter_map(payload_type).find(|format| {
            self.media.rtpmap(*format).is_some_and(|map| map.is_telephone_event(codec))
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
    fn direction(&self, ours: Direction) -> Direction {
        let allowed = self.media.direction().reversed();
        let held = self.media.connection() == Some(Connection::Unspecified);
        // RFC 3264 §8.4: 0.0.0.0 asks us to stop sending, and says nothing about what it sends.
        let allowed = if held { allowed.and(Direction::ReceiveOnly) } else { allowed };
        ours.and(allowed)
    }
}
