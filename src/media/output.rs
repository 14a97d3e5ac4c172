//! What a media session wants done: datagrams and events, in buffers that are used again; and what it is lent meanwhile.

use crate::audio::voice_models::VoiceModels;
use crate::media::event::MediaEvent;
use crate::rtp::payloads::Payloads;
use std::net::SocketAddr;
use std::ops::Range;

/// Which of a session's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The even one.
    Rtp,
    /// The odd one.
    Rtcp,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It came from nobody who is believed, or is nothing that belongs here.
    Refused,
    /// RTP of the peer.
    Media,
    /// RTCP of the peer.
    Report,
}

/// Gathers what sessions want done. The buffers keep their room, so that a tick allocates nothing. It has the models that
/// know voices, too, and the packets that wait to be heard. What a session has of these it has beyond the tick: it stays with
/// this, or gives it back before.
#[derive(Debug)]
pub struct TickOutput {
    bytes: Vec<u8>,
    transmits: Vec<(Port, SocketAddr, Range<usize>)>,
    events: Vec<MediaEvent>,
    models: VoiceModels,
    payloads: Payloads,
}

/// Who hears voices in one session: a listener, and who finds out who answered.
const MODELS_A_SESSION: usize = 2;

/// Room for what one session can want in one tick: two packets at 10 ms, one report, a goodbye.
const BYTES_CAPACITY: usize = 4_096;
const ITEMS_CAPACITY: usize = 32;

impl Default for TickOutput {
    fn default() -> Self {
        Self::new()
    }
}

impl TickOutput {
    /// An empty one, with all for one session.
    #[must_use]
    pub fn new() -> Self {
        Self::for_sessions(1, MODELS_A_SESSION)
    }

    /// An empty one, with room for the packets of so many sessions and for so many models. Further packets are lost, and
    /// further voices known by their vowels alone.
    #[must_use]
    pub fn for_sessions(sessions: usize, models: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(BYTES_CAPACITY),
            transmits: Vec::with_capacity(ITEMS_CAPACITY),
            events: Vec::with_capacity(ITEMS_CAPACITY),
            models: VoiceModels::with_room_for(models),
            payloads: Payloads::with_room_for(sessions),
        }
    }

    /// The models that know voices.
    pub const fn models(&mut self) -> &mut VoiceModels {
        &mut self.models
    }

    /// The packets that wait to be heard.
    pub const fn payloads(&mut self) -> &mut Payloads {
        &mut self.payloads
    }

    /// Forgets everything but its room and what it lends.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.transmits.clear();
        self.events.clear();
    }

    /// Asks that `bytes` be sent; empty ones are not. Beyond its room nothing is taken, and false returned.
    pub fn transmit(&mut self, port: Port, to: SocketAddr, bytes: &[u8]) -> bool {
        let start = self.bytes.len();
        let room = self.bytes.capacity() - start;
        if bytes.is_empty() || bytes.len() > room || self.transmits.len() == ITEMS_CAPACITY {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        self.transmits.push((port, to, start..self.bytes.len()));
        true
    }

    /// Reports `event`. Beyond its room nothing is taken.
    pub fn event(&mut self, event: MediaEvent) {
        if self.events.len() < ITEMS_CAPACITY {
            self.events.push(event);
        }
    }

    /// The datagrams to send, in order.
    pub fn transmits(&self) -> impl Iterator<Item = (Port, SocketAddr, &[u8])> {
        self.transmits.iter().map(|(port, to, range)| {
            (*port, *to, self.bytes.get(range.clone()).unwrap_or_default())
        })
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[MediaEvent] {
        &self.events
    }
}
