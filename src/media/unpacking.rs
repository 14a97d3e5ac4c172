//! What is heard of codecs that are decoded packet by packet.

use crate::audio::conceal::Concealer;
use crate::audio::frame::WidePcm;
use crate::audio::packed::Filled;
use crate::audio::packed::PackedVoice;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::Step;

/// Decodes what the jitter buffer gave, and fills `linear` with it at the rate of `concealer`. `whole`: nothing of it
/// is missing, and who conceals is told later.
pub fn unpack(
    jitter: &JitterBuffer,
    packed: &mut PackedVoice,
    concealer: &mut Concealer,
    linear: &mut WidePcm,
    whole: bool,
) {
    let codec = jitter.codec_given();
    let factor = concealer.factor();
    let Some(desk) = jitter.desk() else { return };
    let mut rest = linear.as_mut_slice();
    for step in desk.steps() {
        let heard = match step {
            Step::Packet { bytes, units } => {
                packed.begin(codec, desk.bytes(bytes), usize::from(*units) * factor);
                continue;
            }
            Step::Drop(units) => {
                packed.leave_out(usize::from(*units) * factor);
                continue;
            }
            Step::Forget => {
                packed.forget();
                continue;
            }
            Step::Play(units) | Step::Missing { units, .. } | Step::Quiet(units) => {
                usize::from(*units) * factor
            }
        };
        let Some((part, after)) = rest.split_at_mut_checked(heard) else { return };
        match step {
            Step::Play(_) => {
                packed.take(part);
                if !whole {
                    concealer.heard(part);
                }
            }
            Step::Missing { next, .. } => {
                let next = next.as_ref().map(|(bytes, gap, units)| {
                    let samples = |units: &u16| usize::from(*units) * factor;
                    (desk.bytes(bytes), samples(gap), samples(units))
                });
                match packed.fill(codec, next, part) {
                    Filled::Decoder => {
                        concealer.heard(part);
                    }
                    Filled::Nobody => concealer.conceal(part),
                    Filled::Faded => concealer.pause(part),
                }
            }
            Step::Quiet(_) | Step::Packet { .. } | Step::Drop(_) | Step::Forget => {
                concealer.pause(part);
            }
        }
        rest = after;
    }
}
