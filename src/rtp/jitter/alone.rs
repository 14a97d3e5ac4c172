//! A jitter buffer with payloads of its own.

use crate::rtp::jitter::Content;
use crate::rtp::jitter::Frame;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::JitterConfig;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::rtp::payloads::rooms_of;
use crate::types::moment::Moment;
use std::ops::Deref;
use std::ops::DerefMut;

pub(super) struct Alone {
    pub(super) buffer: JitterBuffer,
    pub(super) payloads: Payloads,
}

impl Alone {
    pub(super) fn new(config: JitterConfig) -> Self {
        Self { buffer: JitterBuffer::new(config), payloads: Payloads::with_room_for(1) }
    }

    pub(super) fn push(&mut self, arrival: Moment, packet: &RtpPacket<'_>, content: Content) {
        self.buffer.push(arrival, packet, content, &mut self.payloads);
    }

    pub(super) fn pop(&mut self, now: Moment) -> Frame<'_> {
        self.buffer.pop(now, &mut self.payloads)
    }

    pub(super) fn instead(&mut self) -> Frame<'_> {
        self.buffer.instead(&mut self.payloads)
    }

    pub(super) fn reset(&mut self) {
        self.buffer.reset(&mut self.payloads);
    }

    /// What is lent is what waits, and no more.
    pub(super) fn check_rooms(&self) {
        let waiting = self.buffer.slots.iter().filter(|slot| slot.used);
        let rooms: usize = waiting.map(|slot| rooms_of(slot.length.into())).sum();
        assert_eq!(self.payloads.lent(), rooms);
    }
}

impl Deref for Alone {
    type Target = JitterBuffer;

    fn deref(&self) -> &JitterBuffer {
        &self.buffer
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut JitterBuffer {
        &mut self.buffer
    }
}
