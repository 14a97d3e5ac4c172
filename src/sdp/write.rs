//! From values to bytes: our offers and answers, and descriptions as they came.
#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use crate::sdp::attribute::tokens;
use crate::sdp::crypto::Written;
use crate::sdp::model::Media;
use crate::sdp::model::Section;
use crate::sdp::model::SessionDescription;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::LocalMedia;
use crate::sdp::plan::SrtpTerms;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::decimal::Decimal;
use crate::types::srtp::SrtpPolicy;

impl SessionDescription {
    /// The description with each line as it came, ended by CRLF.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Text::new();
        for line in self.all().lines() {
            out.bytes(&[line.kind, b'=']);
            out.bytes(line.value);
            out.end();
        }
        out.0
    }
}

/// The profile of plain RTP, and of an offer to which SRTP is a possibility.
pub(super) const PLAIN: &str = "RTP/AVP";

/// The profile of SRTP (RFC 3711).
pub(super) const SECURE: &str = "RTP/SAVP";

/// Our offer: one audio stream with every codec we have. Where SRTP is optional it is one stream of
/// RTP/AVP with keys: a peer without SRTP passes them over, while it would refuse RTP/SAVP, and take a
/// second stream for a second call.
#[must_use]
pub fn offer(caps: &Capabilities, local: &LocalMedia) -> Vec<u8> {
    let mut out = Text::new();
    out.session(local, b"0 0");
    let codecs: Vec<(PayloadType, Codec)> =
        caps.codecs.iter().map(|codec| (caps.payload_type(*codec), *codec)).collect();
    out.stream(
        local,
        &StreamText {
            codecs: &codecs,
            events: &caps.events(),
            dtmf_flash: caps.dtmf_flash,
            ptime: caps.ptime,
            ptime_max: caps.ptime_max,
            direction: local.direction,
            rtcp_mux: caps.rtcp_mux,
            asks_metrics: caps.asks_metrics,
            annex_b: caps.annex_b,
            protocol: if caps.srtp.policy == SrtpPolicy::Required { SECURE } else { PLAIN },
            crypto: &offered_keys(&caps.srtp),
        },
    );
    out.0
}

/// Our keys as an offer has them, numbered in our order.
fn offered_keys(terms: &SrtpTerms) -> Vec<Written<'_>> {
    if !terms.writes_keys() {
        return Vec::new();
    }
    (1..).zip(&terms.keys).map(|(tag, key)| Written { tag, key }).collect()
}

/// An answer that refuses every stream of `offer`: what a re-INVITE gets which takes the audio stream
/// out of the call (RFC 3264 §8.2).
#[must_use]
pub fn answer_without_media(offer: &SessionDescription, local: &LocalMedia) -> Vec<u8> {
    let mut out = Text::new();
    out.session(local, &timing(offer.session()));
    for media in offer.media() {
        out.refusal(media);
    }
    out.0
}

/// Whether `next` says something else than `previous`, apart from the version in `o=`. If so, it must be
/// written with a higher version; if not, `previous` is to be sent again (RFC 3264 §8).
#[must_use]
pub fn is_revision(previous: &[u8], next: &[u8]) -> bool {
    let lines = |text| {
        <[u8]>::split(text, |byte| *byte == b'\n').map(|line: &[u8]| {
            let is_origin = line.starts_with(b"o=");
            line.split(|byte| *byte == b' ')
                .enumerate()
                .filter(move |(index, _)| !(is_origin && *index == 2))
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
        })
    };
    !Iterator::eq(lines(previous), lines(next))
}

/// An answer in the making: accepts one stream and refuses the others, in the order of the offer.
pub(super) fn answer_text(
    offer: &SessionDescription,
    accepted: usize,
    local: &LocalMedia,
    stream: &StreamText<'_>,
) -> Vec<u8> {
    let mut out = Text::new();
    out.session(local, &timing(offer.session()));
    for (index, media) in offer.media().enumerate() {
        if index == accepted {
            out.stream(local, stream);
        } else {
            out.refusal(media);
        }
    }
    out.0
}

/// What our description of an audio stream says.
pub(super) struct StreamText<'a> {
    pub(super) codecs: &'a [(PayloadType, Codec)],
    /// Telephone events, each with its clock in Hz.
    pub(super) events: &'a [(PayloadType, u32)],
    pub(super) dtmf_flash: bool,
    pub(super) ptime: Ptime,
    pub(super) ptime_max: Ptime,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) asks_metrics: bool,
    pub(super) annex_b: bool,
    pub(super) protocol: &'a str,
    pub(super) crypto: &'a [Written<'a>],
}

/// The `t=` of an answer is that of the offer (RFC 3264 §6), if that can be read.
fn timing(session: Section<'_>) -> Vec<u8> {
    let line = session.lines().find(|line| line.kind == b't');
    let mut words = line.into_iter().flat_map(|line| tokens(line.value));
    match (words.next(), words.next(), words.next()) {
        (Some(start), Some(stop), None) if is_time(start) && is_time(stop) => {
            [start, b" ", stop].concat()
        }
        _ => b"0 0".to_vec(),
    }
}

fn is_time(word: &[u8]) -> bool {
    word.len() <= 20 && word.iter().all(u8::is_ascii_digit)
}

/// Room for a plain description.
const TEXT_BYTES: usize = 256;

/// A description being written.
struct Text(Vec<u8>);

impl Text {
    fn new() -> Self {
        Self(Vec::with_capacity(TEXT_BYTES))
    }

    fn session(&mut self, local: &LocalMedia, timing: &[u8]) {
        self.bytes(b"v=0\r\n");
        self.bytes(b"o=- ");
        self.number(local.session_id);
        self.bytes(b" ");
        self.number(local.version);
        self.bytes(b" ");
        self.place(local.address);
        self.bytes(b"s=-\r\n");
        self.bytes(b"c=");
        self.place(local.address);
        self.bytes(b"t=");
        self.bytes(timing);
        self.end();
    }

    /// Where we are, and the end of its line. By hand where it can be: formatting an address costs more than all the rest.
    fn place(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.bytes(b"IN IP4 ");
                let [first, others @ ..] = address.octets();
                self.octet(first);
                for octet in others {
                    self.bytes(b".");
                    self.octet(octet);
                }
            }
            IpAddr::V6(address) => self.add(format_args!("IN IP6 {address}")),
        }
        self.end();
    }

    fn octet(&mut self, octet: u8) {
        if octet >= 100 {
            self.0.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            self.0.push(b'0' + octet / 10 % 10);
        }
        self.0.push(b'0' + octet % 10);
    }

    /// A number. By hand, as what each of our descriptions says: formatting it costs several times as much.
    fn number(&mut self, number: impl Into<u64>) {
        self.bytes(Decimal::of(number.into()).as_bytes());
    }

    /// A line with a number at its end.
    fn counted(&mut self, text: &[u8], number: impl Into<u64>) {
        self.bytes(text);
        self.number(number);
        self.end();
    }

    fn stream(&mut self, local: &LocalMedia, stream: &StreamText<'_>) {
        self.bytes(b"m=audio ");
        self.number(local.rtp_port);
        self.bytes(b" ");
        self.bytes(stream.protocol.as_bytes());
        let formats = stream.codecs.iter().map(|(payload_type, _)| *payload_type);
        let events = stream.events.iter().map(|(payload_type, _)| *payload_type);
        for payload_type in formats.chain(events) {
            self.bytes(b" ");
            self.number(payload_type.get());
        }
        self.end();
        for (payload_type, codec) in stream.codecs {
            self.codec(*payload_type, *codec, stream.annex_b);
        }
        for (payload_type, clock_rate) in stream.events {
            self.rtpmap(*payload_type, b"telephone-event", *clock_rate);
            self.end();
            self.bytes(b"a=fmtp:");
            self.number(payload_type.get());
            self.bytes(if stream.dtmf_flash { b" 0-16\r\n" } else { b" 0-15\r\n" });
        }
        for key in stream.crypto {
            self.line(format_args!("a=crypto:{key}"));
        }
        self.counted(b"a=ptime:", stream.ptime.ms());
        self.counted(b"a=maxptime:", stream.ptime_max.ms());
        self.bytes(b"a=");
        self.bytes(stream.direction.as_str().as_bytes());
        self.end();
        if stream.rtcp_mux {
            self.bytes(b"a=rtcp-mux\r\n");
        }
        if stream.asks_metrics {
            self.bytes(b"a=rtcp-xr:voip-metrics\r\n");
        }
        if local.rtcp_port != local.rtp_port.wrapping_add(1) {
            self.counted(b"a=rtcp:", local.rtcp_port);
        }
    }

    /// What a payload type stands for. The line goes on.
    fn rtpmap(&mut self, payload_type: PayloadType, name: &[u8], clock_rate: u32) {
        self.bytes(b"a=rtpmap:");
        self.number(payload_type.get());
        self.bytes(b" ");
        self.bytes(name);
        self.bytes(b"/");
        self.number(clock_rate);
    }

    fn codec(&mut self, payload_type: PayloadType, codec: Codec, annex_b: bool) {
        self.rtpmap(payload_type, codec.encoding_name().as_bytes(), codec.clock_rate());
        if codec.channels() != 1 {
            self.add(format_args!("/{}", codec.channels()));
        }
        self.end();
        if codec == Codec::Opus {
            // What we hear and say: 16 kHz of one channel, and correction is made use of (RFC 7587 §6.1).
            self.line(format_args!(
                "a=fmtp:{payload_type} maxplaybackrate=16000;sprop-maxcapturerate=16000;\
                 stereo=0;useinbandfec=1"
            ));
        }
        if codec == Codec::G729 {
            // Always said, since what is left out means yes to some and no to others (RFC 7261 §3).
            let annex_b = if annex_b { "yes" } else { "no" };
            self.line(format_args!("a=fmtp:{payload_type} annexb={annex_b}"));
        }
    }

    /// An `m=` line as it came, with port 0. One that lacks something is filled up, because the answer
    /// must have as many streams as the offer.
    fn refusal(&mut self, media: Media<'_>) {
        self.bytes(b"m=");
        self.words(if media.kind.is_empty() { b"audio" } else { media.kind });
        self.bytes(b" 0 ");
        self.words(if media.protocol.is_empty() { b"RTP/AVP" } else { media.protocol });
        self.bytes(b" ");
        self.words(if media.formats.is_empty() { b"0" } else { media.formats });
        self.end();
    }

    /// Bytes of the peer's, which cannot hold CR or LF; a NUL among them is not passed on.
    fn words(&mut self, words: &[u8]) {
        self.0.extend(words.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.add(line);
        self.end();
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a `Vec` does not fail.
        self.0.write_fmt(text).unwrap_or_default();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parse::parse;

    #[test]
    fn a_place_is_written_as_it_reads() {
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 255 - octet, 10, 0]);
            let mut text = Text::new();
            text.place(address);
            assert_eq!(String::from_utf8(text.0), Ok(format!("IN IP4 {address}\r\n")));
        }
        let mut text = Text::new();
        text.place("2001:db8::1".parse().unwrap());
        assert_eq!(text.0, b"IN IP6 2001:db8::1\r\n");
    }

    #[test]
    fn the_time_of_an_offer_is_said_again_where_it_can_be_read() {
        for (time, said) in [
            ("t=0 0", "0 0"),
            ("t= 3034423619\t3042462419 ", "3034423619 3042462419"),
            ("t=0", "0 0"),
            ("t=1 2 3", "0 0"),
            ("t=1 -2", "0 0"),
            ("t=123456789012345678901 0", "0 0"),
            ("a=x", "0 0"),
        ] {
            let offer = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n{time}\r\n\
                 m=audio 9 RTP/AVP 0\r\n"
            );
            let offer = parse(offer.as_bytes()).unwrap();
            assert_eq!(timing(offer.session()), said.as_bytes(), "{time}");
        }
    }
}
