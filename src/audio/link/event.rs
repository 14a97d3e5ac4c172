//! What the media end of a link tells the agent's end.

use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;

/// What the agent's task learns from the media thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The next 20 ms of the caller, G.711 of the law that is spoken at the agent's end
    /// ([`AgentEnd::speak`](crate::audio::link::AgentEnd::speak)). One comes every 20 ms for as long as the session
    /// lives, silence where the caller sent nothing.
    Audio([u8; FRAME_BYTES]),
    /// The same at 16 kHz: the caller's codec has them, and hears what the agent says at that rate.
    WideAudio(Box<WidePcm>),
    /// The caller pressed a key.
    Digit(char),
    /// Everything queued before this mark was played, or dropped by a clear.
    Mark {
        /// As given to [`AgentEnd::push_mark`](crate::audio::link::AgentEnd::push_mark).
        id: u64,
        /// Played of the present utterance, in ms. An utterance begins with the first audio after
        /// the start, a clear, a finish, or a gap of more than 400 ms.
        played_ms: u64,
    },
    /// A clear took effect: nothing queued before it will be heard. Its marks follow as `Mark`.
    Cleared {
        /// Played of the interrupted utterance, in ms; 0 when nothing was playing.
        played_ms: u64,
        /// Samples that left the queue by being played, since the clear before or the link's beginning.
        samples: u64,
    },
    /// The caller heard a gap inside a reply: the queue ran empty, or the media thread left ticks out.
    Underrun {
        /// Length of the gap, in ms.
        ms: u32,
    },
    /// The caller speaks over the agent, whose profile wants to be told.
    BargeIn {
        /// Played of the present utterance until then, in ms.
        heard_ms: u64,
    },
    /// Nobody hears the agent, whose caller is on hold or talks with somebody else: what it says now is dropped. Told once for
    /// each utterance.
    Unheard {
        /// Played of it until then, in ms.
        heard_ms: u64,
    },
    /// The caller stopped speaking and waits for the agent to say something; false: it does not any more. Told when it
    /// changes.
    CallerWaits(bool),
    /// The last audio before a [`AgentEnd::finish`](crate::audio::link::AgentEnd::finish) was played.
    Drained,
    /// The media session is gone, or has another link. Reported once, last.
    Closed,
}

/// What came over a link, but for what was heard where it lay.
#[derive(Debug)]
pub enum Came {
    /// 20 ms of G.711, which were given to who hears them.
    Heard,
    /// Something else.
    Event(LinkEvent),
}
