//! The tones of a key, for a peer that takes no telephone events (ITU-T Q.23).

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::g711;
use crate::audio::keys::COLUMN_HZ;
use crate::audio::keys::KEYS;
use crate::audio::keys::ROW_HZ;
use crate::audio::tone::Tone;
use crate::media::session::MediaSession;
use crate::rtp::dtmf_turn;
use crate::types::codec::Law;

/// Peak of each of the two tones of a key: -9 dBm0.
const KEY_AMPLITUDE: i16 = 8_100;

/// Makes the tones of keys.
#[derive(Debug, Default)]
pub(super) struct KeyTone {
    sounding: Option<(char, [Tone; 2])>,
}

impl KeyTone {
    /// 20 ms of the tones of `digit`; they go on where those of the tick before end.
    fn frame(&mut self, digit: Option<char>) -> Option<Encoded> {
        let goes_on = self.sounding.as_ref().is_some_and(|(sounding, _)| Some(*sounding) == digit);
        if !goes_on {
            self.sounding = digit.and_then(|digit| Some((digit, tones_of(digit)?)));
        }
        self.sounding.as_mut().map(|(_, tones)| sum(tones))
    }
}

impl MediaSession {
    /// The tones of a key of ours, or of one that is passed on, in this tick.
    pub(super) fn next_tone(&mut self) -> Option<Encoded> {
        let relay = self.bridged.as_mut().map(|bridged| bridged.relay());
        let digit = dtmf_turn::next_tone(&mut self.digits_out, relay);
        self.key_tone.frame(digit)
    }
}

fn tones_of(digit: char) -> Option<[Tone; 2]> {
    let find = |keys: &[u8; 4]| keys.iter().position(|key| char::from(*key) == digit);
    let (row, column) = KEYS.iter().zip(ROW_HZ).find_map(|(keys, hz)| Some((hz, find(keys)?)))?;
    let column = COLUMN_HZ.get(column)?;
    Some([row, *column].map(|hz| Tone::new(hz, KEY_AMPLITUDE)))
}

fn sum(tones: &mut [Tone; 2]) -> Encoded {
    let [one, two] = tones;
    let mut linear: Pcm = one.frame();
    for (sample, other) in linear.iter_mut().zip(two.frame()) {
        *sample = sample.saturating_add(other);
    }
    let mut frame = [0; FRAME_SAMPLES];
    g711::encode(Law::Mu, &linear, &mut frame);
    frame
}
