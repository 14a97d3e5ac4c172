//! `AudioSocket`: packets over TCP, of a type, a length in 16 bits with the high byte first, and a payload.
//!
//! It has neither marks nor a clear: an agent that paces itself stops by not sending. What it sends ahead is
//! queued.

use crate::agent::dialect::Act;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::dialect::When;
use crate::agent::dialect::Wish;
use crate::agent::dialect::played;
use crate::agent::session::AgentCall;
use crate::agent::story::Past;
use crate::audio::transcode::FromAgent;
use crate::audio::transcode::ToAgent;
use crate::types::agent::AgentAudio;
use crate::types::agent::AudioSocketAgent;
use crate::types::id::CallId;
use bytes::BufMut;
use bytes::BytesMut;

const HANGUP: u8 = 0x00;
const UUID: u8 = 0x01;
const DTMF: u8 = 0x03;
const AUDIO_8: u8 = 0x10;
const AUDIO_16: u8 = 0x12;
const AUDIO_24: u8 = 0x13;
const ERROR: u8 = 0xff;

const HEADER_BYTES: usize = 3;

/// One connection.
#[derive(Debug)]
pub struct AudioSocket {
    call: CallId,
    to: ToAgent,
    /// The type of our audio packets.
    kind: u8,
    from: FromAgent,
    /// The caller makes use of 16 kHz.
    wide: bool,
    /// The rate of the agent's audio so far.
    rate: u32,
    reading: Reading,
    /// Where messages are written, and audio is turned; used again.
    buffer: BytesMut,
}

/// Where in the stream of packets the agent is.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// So many bytes of a header are there.
    Header([u8; HEADER_BYTES], usize),
    /// So many bytes of a packet's payload are still to come.
    Payload(u8, usize),
}

const START: Reading = Reading::Header([0; HEADER_BYTES], 0);

impl AudioSocket {
    /// A connection with `agent` for `call`.
    #[must_use]
    pub fn new(agent: &AudioSocketAgent, call: &AgentCall) -> Self {
        let kind = match agent.rate {
            16_000 => AUDIO_16,
            24_000 => AUDIO_24,
            _ => AUDIO_8,
        };
        Self {
            call: call.call_id,
            to: ToAgent::new(AgentAudio::L16 { rate: agent.rate }),
            kind,
            from: FromAgent::new(AgentAudio::L16 { rate: agent.rate }),
            wide: false,
            rate: agent.rate,
            reading: START,
            buffer: BytesMut::new(),
        }
    }

    fn packet(&mut self, kind: u8, payload: &[u8]) -> Act {
        // Payloads of ours are short.
        let length = u16::try_from(payload.len()).unwrap_or(0);
        self.buffer.reserve(HEADER_BYTES + payload.len());
        self.buffer.put_u8(kind);
        self.buffer.put_u16(length);
        self.buffer.put_slice(payload);
        Act::Send(Message::Binary(self.buffer.split().freeze()))
    }

    fn audio(&mut self, push: impl FnOnce(&mut ToAgent, &mut BytesMut), wide: bool) -> Act {
        self.wide = wide;
        self.from.to_wide(wide);
        self.buffer.reserve(HEADER_BYTES + self.to.frame_bytes());
        self.buffer.put_u8(self.kind);
        self.buffer.put_u16(u16::try_from(self.to.frame_bytes()).unwrap_or(0));
        push(&mut self.to, &mut self.buffer);
        Act::Send(Message::Binary(self.buffer.split().freeze()))
    }

    /// A header is whole; what follows it is its payload, if it has one.
    fn begin(&mut self, [kind, high, low]: [u8; HEADER_BYTES], acts: &mut Vec<Act>) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        self.reading = if length == 0 { START } else { Reading::Payload(kind, length) };
        let rate = match kind {
            HANGUP => {
                return acts.push(Act::Ask(Wish::HangUp, When::Played));
            }
            AUDIO_8 => 8_000,
            AUDIO_16 => 16_000,
            AUDIO_24 => 24_000,
            // What only the other side sends tells us nothing.
            UUID | DTMF | ERROR => {
                return acts.push(Act::Unknown);
            }
            _ => return acts.push(Act::Garbled(Garbled::Bytes)),
        };
        if rate != self.rate {
            self.rate = rate;
            self.from = FromAgent::new(AgentAudio::L16 { rate });
            self.from.to_wide(self.wide);
        }
    }

    fn payload(&mut self, kind: u8, bytes: &[u8], acts: &mut Vec<Act>) {
        if matches!(kind, AUDIO_8 | AUDIO_16 | AUDIO_24) {
            self.from.push(bytes, &mut self.buffer);
            if !self.buffer.is_empty() {
                acts.push(played(&self.from, self.buffer.split().freeze()));
            }
        }
    }
}

impl Dialect for AudioSocket {
    /// The protocol has no place for more than the call's id, by which the agent knows it again.
    fn open(&mut self, _: Option<Past<'_>>, acts: &mut Vec<Act>) {
        self.reading = START;
        self.from.reset();
        let id = *self.call.uuid().as_bytes();
        acts.push(self.packet(UUID, &id));
        acts.push(Act::Ready);
    }

    fn text(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
        Err(Garbled::NotAMessage)
    }

    fn binary(&mut self, bytes: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
        let mut rest = bytes;
        loop {
            match self.reading {
                Reading::Header(mut header, have) => {
                    let Some((byte, after)) = rest.split_first() else { return Ok(()) };
                    rest = after;
                    if let Some(place) = header.get_mut(have) {
                        *place = *byte;
                    }
                    if have + 1 < HEADER_BYTES {
                        self.reading = Reading::Header(header, have + 1);
                    } else {
                        self.begin(header, acts);
                    }
                }
                Reading::Payload(kind, left) => {
                    let (now, after) = rest.split_at(left.min(rest.len()));
                    rest = after;
                    self.payload(kind, now, acts);
                    let left = left - now.len();
                    self.reading = if left == 0 { START } else { Reading::Payload(kind, left) };
                    if left > 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
        match news {
            News::Audio(frame) => acts.push(self.audio(|to, out| to.push(frame, out), false)),
            News::WideAudio(wide) => {
                acts.push(self.audio(|to, out| to.push_wide(wide, out), true));
            }
            News::Digit(digit) => {
                let digit = u8::try_from(digit).unwrap_or(b'?');
                acts.push(self.packet(DTMF, &[digit]));
            }
            News::Ended => acts.push(self.packet(HANGUP, &[])),
            News::SkippedFrames(_)
            | News::Mark(_)
            | News::Cleared(_)
            | News::Relinked
            | News::Level(_)
            | News::BargeIn(_)
            | News::Unheard(_)
            | News::Answer(_)
            | News::TransferFailed(_) => (),
        }
    }

    fn pings(&self) -> bool {
        false
    }

    /// To close is enough to hang up. Whoever does so within a packet had more to say.
    fn leaves_by_closing(&self) -> bool {
        matches!(self.reading, Reading::Header(_, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dialect::testing::call;
    use crate::agent::dialect::testing::torment;
    use crate::audio::g711;
    use crate::types::random::Random;
    use std::time::Duration;

    fn socket(rate: u32) -> AudioSocket {
        let agent = AudioSocketAgent {
            address: "agent:9092".to_owned(),
            rate,
            connect_timeout: Duration::from_secs(2),
        };
        AudioSocket::new(&agent, &call())
    }

    fn packet(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![kind];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn told(socket: &mut AudioSocket, news: News<'_>) -> Vec<u8> {
        let mut acts = Vec::new();
        socket.tell(news, &mut acts);
        match acts.as_slice() {
            [Act::Send(Message::Binary(bytes))] => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn played(acts: &[Act]) -> Vec<u8> {
        let audio = acts.iter().filter_map(|act| match act {
            Act::Play(audio) => Some(audio.to_vec()),
            _ => None,
        });
        audio.flatten().collect()
    }

    #[test]
    fn another_connection_begins_with_a_packet_of_its_own() {
        let mut socket = socket(8_000);
        let mut acts = Vec::new();
        // Broken off within a packet.
        socket.binary(&packet(AUDIO_8, &[1; 320])[..100], &mut acts).unwrap();
        socket.open(None, &mut acts);
        acts.clear();
        socket.binary(&packet(HANGUP, &[]), &mut acts).unwrap();
        assert_eq!(acts, [Act::Ask(Wish::HangUp, When::Played)]);
    }

    #[test]
    fn who_closes_within_a_packet_did_not_mean_to_leave() {
        let mut socket = socket(8_000);
        assert!(socket.leaves_by_closing());
        let mut acts = Vec::new();
        for byte in packet(AUDIO_8, &[1; 4]).iter().take(6) {
            socket.binary(&[*byte], &mut acts).unwrap();
            assert!(!socket.leaves_by_closing());
        }
        socket.binary(&[1], &mut acts).unwrap();
        assert!(socket.leaves_by_closing());
    }

    #[test]
    fn the_call_is_named_first_and_its_audio_follows() {
        let mut socket = socket(8_000);
        let mut acts = Vec::new();
        socket.open(None, &mut acts);
        let mut first = vec![1, 0, 16];
        first.extend(call().call_id.uuid().as_bytes());
        assert_eq!(acts, [Act::Send(Message::Binary(first.into())), Act::Ready]);
        let frame = told(&mut socket, News::Audio(&[0x10; 160]));
        let mut expected = vec![0x10, 1, 0x40];
        expected.extend((0..160).flat_map(|_| g711::ulaw_decode(0x10).to_le_bytes()));
        assert_eq!(frame, expected);
        assert_eq!(told(&mut socket, News::Digit('#')), [3, 0, 1, b'#']);
        assert_eq!(told(&mut socket, News::Ended), [0, 0, 0]);
    }

    #[test]
    fn wider_audio_has_a_type_of_its_own() {
        let frame = told(&mut socket(16_000), News::Audio(&[0xff; 160]));
        assert_eq!((&frame[..3], frame.len()), (&[0x12, 2, 0x80][..], 643));
        let frame = told(&mut socket(24_000), News::Audio(&[0xff; 160]));
        assert_eq!((&frame[..3], frame.len()), (&[0x13, 3, 0xc0][..], 963));
    }

    #[test]
    fn packets_are_read_however_the_network_cuts_them() {
        let samples: Vec<u8> = (0..500_i16).flat_map(|n| (n * 60).to_le_bytes()).collect();
        let mut stream = packet(AUDIO_8, &samples[..321]);
        stream.extend(packet(AUDIO_8, &samples[321..]));
        stream.extend(packet(ERROR, &[1]));
        stream.extend(packet(HANGUP, &[]));
        let mut whole = Vec::new();
        socket(8_000).binary(&stream, &mut whole).unwrap();
        let expected: Vec<u8> = (0..500_i16).map(|n| g711::ulaw_encode(n * 60)).collect();
        assert_eq!(played(&whole), expected);
        assert_eq!(whole.last(), Some(&Act::Ask(Wish::HangUp, When::Played)));
        for size in [1, 2, 3, 5, 64] {
            let mut socket = socket(8_000);
            let mut acts = Vec::new();
            for piece in stream.chunks(size) {
                socket.binary(piece, &mut acts).unwrap();
            }
            assert_eq!(played(&acts), expected, "in pieces of {size}");
            assert_eq!(acts.last(), whole.last());
        }
    }

    #[test]
    fn an_agent_may_speak_at_another_rate_than_it_hears() {
        let mut socket = socket(8_000);
        let mut acts = Vec::new();
        socket.binary(&packet(AUDIO_24, &[0; 960]), &mut acts).unwrap();
        socket.binary(&packet(AUDIO_16, &[0; 640]), &mut acts).unwrap();
        assert_eq!(played(&acts).len(), 320);
    }

    #[test]
    fn a_strange_packet_is_a_fault_and_what_follows_is_still_read() {
        let mut socket = socket(8_000);
        let mut acts = Vec::new();
        let mut stream = packet(0x42, &[9; 700]);
        stream.extend(packet(AUDIO_8, &[0, 0]));
        socket.binary(&stream, &mut acts).unwrap();
        assert_eq!(acts.first(), Some(&Act::Garbled(Garbled::Bytes)));
        assert_eq!(played(&acts), [g711::ulaw_encode(0)]);
        assert_eq!(socket.text(b"{}", &mut acts), Err(Garbled::NotAMessage));
    }

    #[test]
    fn no_bytes_panic_or_make_more_audio_than_came() {
        let mut random = Random::from_seed(4);
        for _ in 0..200 {
            let mut socket = socket(8_000);
            let mut acts = Vec::new();
            let mut bytes = vec![0; random.below(3_000) as usize];
            random.fill(&mut bytes);
            let _read = socket.binary(&bytes, &mut acts);
            assert!(played(&acts).len() <= bytes.len());
        }
    }

    #[test]
    fn no_bytes_break_a_connection() {
        torment(|| Box::new(socket(24_000)), &["a", "{}"]);
    }
}
