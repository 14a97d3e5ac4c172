//! How good the audio of a leg was, each way, and when nobody was heard.

/// How good one way of a leg's audio was, from its beginning to now (RFC 3611 §4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WayQuality {
    /// The rating factor R of a conversation (ITU-T G.107), 0 to 100; `None` while the delay is unknown.
    pub rating: Option<f32>,
    /// Listening quality, 1 to 4.5; `None` before any audio.
    pub mos_lq: Option<f32>,
    /// Quality of a conversation, which delay harms too; `None` while the delay is unknown.
    pub mos_cq: Option<f32>,
    /// Packets that never came, in percent of those that were to be heard: none is while a hold goes on.
    pub loss_percent: f32,
    /// Packets that came and were not heard in their time, in percent: they came too late, there was no room, or they
    /// were cut out to take back delay.
    pub discard_percent: f32,
    /// Packets not played within bursts, in percent of those of bursts. A burst begins and ends with a packet that
    /// was not played and has no 16 in a row that were.
    pub burst_density_percent: f32,
    /// The same between bursts.
    pub gap_density_percent: f32,
    /// How long a burst is, mean, in ms.
    pub burst_ms: u32,
    /// How long the time between two is, mean, in ms.
    pub gap_ms: u32,
    /// Round trip by RTCP, in ms.
    pub round_trip_ms: Option<f32>,
    /// What the receiving end adds, by packets and jitter buffer, in ms.
    pub end_delay_ms: u32,
    /// How long a packet waits in the jitter buffer, in ms.
    pub buffer_ms: u32,
    /// The longest it may come to wait, in ms.
    pub buffer_max_ms: u32,
    /// How loud speech is, in dBm0.
    pub signal_dbm0: Option<f32>,
    /// How loud its pauses are, in dBm0.
    pub noise_dbm0: Option<f32>,
}

/// How good the audio of a leg was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// From the peer to us, as we measured it.
    pub inward: WayQuality,
    /// From us to the peer, as the peer told it (RTCP XR); `None`: it told nothing.
    pub outward: Option<WayQuality>,
    /// Audio that was made up for what did not come in time, in ms. A pause is none, said or not.
    pub concealed_ms: u64,
    /// For how long nobody was heard, in ms.
    pub unheard: Unheard,
}

/// For how long somebody was not heard, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    /// Nothing came from the peer, though it should have.
    pub no_audio_in_ms: u64,
    /// Nothing of ours reached the peer, by its own reports.
    pub no_audio_out_ms: u64,
    /// Neither the peer nor its agent said anything.
    pub dead_air_ms: u64,
}

/// Who is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioTrouble {
    /// Nothing comes from the peer, though it should.
    NoAudioIn,
    /// Nothing of ours reaches the peer, by its own reports.
    NoAudioOut,
    /// Neither the peer nor its agent says anything.
    DeadAir,
}

impl AudioTrouble {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoAudioIn, Self::NoAudioOut, Self::DeadAir];

    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAudioIn => "no_audio_in",
            Self::NoAudioOut => "no_audio_out",
            Self::DeadAir => "dead_air",
        }
    }
}

/// That somebody is not heard, or is again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleTold {
    /// Who.
    pub what: AudioTrouble,
    /// For how long by now, in ms.
    pub for_ms: u32,
    /// It is over.
    pub is_over: bool,
}
