//! How good the audio of a session is, each way, and who is not heard.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::g711;
use crate::audio::sound::FAINT;
use crate::media::event::MediaEvent;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::rtp::quality;
use crate::rtp::quality::Conditions;
use crate::rtp::quality::Impairment;
use crate::rtp::rtcp::Extensions;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::voip_block::VoipMetrics;
use crate::types::codec::Codec;
use crate::types::limit::TROUBLES_TOLD_MAX;
use crate::types::quality::AudioTrouble;
use crate::types::quality::Quality;
use crate::types::quality::TroubleTold;
use crate::types::quality::Unheard;
use crate::types::quality::WayQuality;

const TICK_MS: u64 = 20;
/// Nothing came from the peer for so many ticks: 5 s.
const NO_AUDIO_TICKS: u32 = 250;
/// Nothing at all came for so many ticks of a peer that reports, three times in that as a rule: it does not pause, it is
/// gone. 15 s.
const SIGNLESS_TICKS: u16 = 750;
/// Neither side said anything for so many ticks: 20 s.
const DEAD_AIR_TICKS: u32 = 1_000;
/// Packets that went out between two reports before the second says whether any arrived: 2 s of them.
const PACKETS_BETWEEN_MIN: u64 = 100;
/// Reports in a row after which a peer is believed that it hears nothing.
const DEAF_REPORTS: u8 = 3;
/// Mean square of a sine at 0 dBm0: 3.17 dB below the loudest that G.711 can say.
const POWER_0_DBM0: f64 = 32_124.0 * 32_124.0 / 2.0 / 2.075;
/// µs of a packet where nothing is known of it.
const PACKET_US: u32 = 20_000;

/// Judges the audio of a session.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// A packet of the peer came since the last tick.
    heard: bool,
    /// The peer said that it pauses: nothing is to come.
    pub(super) pausing: bool,
    /// Ticks since anything came of it, reports too.
    signless: u16,
    speech: Speech,
    /// What the peer told last of how it hears us.
    far: Option<WayQuality>,
    deaf: Deaf,
    nobody_in: Watch,
    nobody_out: Watch,
    dead_air: Watch,
    /// Troubles told, and their ends.
    told: u32,
}

/// How loud the peer's speech is.
#[derive(Debug, Default)]
struct Speech {
    /// Sum of the mean squares of its frames.
    power: f64,
    frames: u32,
    /// Samples that were played when it was listened to last.
    played: u64,
    /// Mean square of its pauses.
    noise: Option<f32>,
}

/// Whether the peer's reports say that it hears us.
#[derive(Debug, Default)]
struct Deaf {
    /// Packets sent at the last report, and the highest of our sequence numbers that it named.
    last: (u64, Option<u32>),
    /// Reports in a row without news of a packet of ours.
    reports: u8,
}

impl Deaf {
    /// Takes a report that came when `sent` packets were sent; `highest` of them is known to the peer.
    fn report(&mut self, sent: u64, highest: Option<u32>) {
        let (sent_before, highest_before) = self.last;
        if highest.is_some() && highest != highest_before {
            self.reports = 0;
        } else if sent.saturating_sub(sent_before) >= PACKETS_BETWEEN_MIN {
            self.reports = self.reports.saturating_add(1);
        } else {
            // Too few to tell; they count with the next.
            return;
        }
        self.last = (sent, highest);
    }

    const fn is_sure(&self) -> bool {
        self.reports >= DEAF_REPORTS
    }
}

/// For how long somebody has not been heard.
#[derive(Debug, Default)]
struct Watch {
    ticks: u32,
    /// It has been told.
    told: bool,
    /// Of all times that were long enough, in ticks.
    total: u64,
}

impl Watch {
    /// Lets a tick pass in which nobody was heard, or somebody was. What is to be told: for how many ms by now,
    /// and whether it is over.
    const fn pass(&mut self, unheard: bool, least: u32) -> Option<(u64, bool)> {
        if !unheard {
            let told = self.told;
            let for_ms = self.ticks as u64 * TICK_MS;
            (self.ticks, self.told) = (0, false);
            return if told { Some((for_ms, true)) } else { None };
        }
        self.ticks = self.ticks.saturating_add(1);
        if self.told {
            self.total += 1;
            return None;
        }
        if self.ticks < least {
            return None;
        }
        self.told = true;
        self.total += self.ticks as u64;
        Some((self.ticks as u64 * TICK_MS, false))
    }
}

impl Judge {
    /// A believed packet of the peer came.
    pub(super) const fn packet_came(&mut self) {
        self.heard = true;
    }

    /// Takes what a compound packet of the peer says of our stream, when so many packets were sent.
    pub(super) fn reported(&mut self, sent: u64, block: Option<ReportBlock>) {
        self.deaf.report(sent, block.map(|block| block.highest_sequence));
    }

    /// Takes what the peer tells of how it hears the stream `ssrc`.
    pub(super) fn extended(&mut self, ssrc: u32, blocks: Extensions<'_>) {
        let ours = blocks.voip_metrics().filter(|metrics| metrics.ssrc == ssrc);
        if let Some(metrics) = ours.last() {
            self.far = Some(metrics.quality());
        }
    }

    /// A believed report of the peer came: it is there, though it may say nothing.
    pub(super) const fn report_came(&mut self) {
        self.signless = 0;
    }

    /// Whether a packet of the peer came since the last tick, or none is to come: it pauses. Of one that `reports` that
    /// is believed while it does; of another nobody can tell.
    fn is_there(&mut self, reports: bool) -> bool {
        let came = std::mem::take(&mut self.heard);
        self.signless = if came { 0 } else { self.signless.saturating_add(1) };
        came || (self.pausing && !(reports && self.signless > SIGNLESS_TICKS))
    }

    fn tell(&mut self, what: AudioTrouble, told: Option<(u64, bool)>, out: &mut TickOutput) {
        let Some((for_ms, is_over)) = told else { return };
        if self.told >= TROUBLES_TOLD_MAX {
            return;
        }
        self.told += 1;
        let for_ms = u32::try_from(for_ms).unwrap_or(u32::MAX);
        out.event(MediaEvent::Trouble(TroubleTold { what, for_ms, is_over }));
    }

    const fn unheard(&self) -> Unheard {
        Unheard {
            no_audio_in_ms: self.nobody_in.total * TICK_MS,
            no_audio_out_ms: self.nobody_out.total * TICK_MS,
            dead_air_ms: self.dead_air.total * TICK_MS,
        }
    }
}

impl MediaSession {
    /// Looks back on a tick.
    pub(super) fn judge(&mut self, out: &mut TickOutput) {
        self.measure_speech();
        let talks = self.started && self.plan.as_ref().is_some_and(|plan| !plan.is_held());
        let reports = self.counters.reports_in > 0;
        let judge = &mut self.judge;
        let is_there = judge.is_there(reports);
        let told = judge.nobody_in.pass(talks && !is_there, NO_AUDIO_TICKS);
        judge.tell(AudioTrouble::NoAudioIn, told, out);
        // How long it takes to be sure is in the reports.
        let told = judge.nobody_out.pass(talks && judge.deaf.is_sure(), 1);
        judge.tell(AudioTrouble::NoAudioOut, told, out);
        // Two people may be silent together.
        let says = self.bridged.is_some() || !self.concealer.was_quiet() || self.says();
        let judge = &mut self.judge;
        let silent = talks && !says && !judge.nobody_in.told;
        let told = judge.dead_air.pass(silent, DEAD_AIR_TICKS);
        judge.tell(AudioTrouble::DeadAir, told, out);
    }

    /// Whether what was sent in this tick can be heard.
    pub(super) fn says(&self) -> bool {
        let mut said = [0; FRAME_SAMPLES];
        g711::decode(self.said.0, &self.said.1, &mut said);
        said.iter().any(|sample| sample.unsigned_abs() > FAINT)
    }

    fn measure_speech(&mut self) {
        if self.codec().is_passed() {
            // Nobody hears here how loud it is.
            return;
        }
        let speech = &mut self.judge.speech;
        let played = self.jitter.statistics().played_samples;
        if played <= std::mem::replace(&mut speech.played, played) {
            return;
        }
        let (power, noise) = self.concealer.powers();
        speech.noise = noise;
        if !self.concealer.was_quiet() {
            speech.power += f64::from(power);
            speech.frames = speech.frames.saturating_add(1);
        }
    }

    /// How good the audio is, up to now.
    pub(super) fn quality(&self) -> Quality {
        let missing_ms = self.jitter.statistics().missing_samples / SAMPLES_PER_MS as u64;
        Quality {
            inward: self.inward(),
            outward: self.judge.far,
            concealed_ms: missing_ms,
            unheard: self.judge.unheard(),
        }
    }

    /// What the peer is told of how well we hear it; `None`: nothing was heard yet.
    pub(super) fn metrics(&self) -> Option<VoipMetrics> {
        let ssrc = self.receiver.ssrc()?;
        Some(VoipMetrics::of(ssrc, &self.inward()))
    }

    /// What its codec does to the audio of both ways.
    pub(super) fn impairment(&self) -> Impairment {
        match self.codec() {
            Codec::Pcmu | Codec::Pcma => Impairment::G711_CONCEALED,
            Codec::G722 => Impairment::G722,
            Codec::Opus => Impairment::OPUS,
            Codec::L16Wide | Codec::L16 => Impairment::LINEAR,
            Codec::G729 => Impairment::G729A,
        }
    }

    fn inward(&self) -> WayQuality {
        let (received, jitter) = (self.receiver.statistics(), self.jitter.statistics());
        let spread = self.jitter.spread();
        let packet_us = if received.packet_us == 0 { PACKET_US } else { received.packet_us };
        let packet_ms = packet_us as f32 / 1_000.0;
        // Of what was to be heard: what came in a hold was not.
        let percent = |count| quality::loss_percent(spread.packets.into(), count, 0);
        let end_delay_ms = packet_us / 1_000 + u32::from(self.jitter.waited_ms());
        let round_trip = self.sender.feedback().round_trip;
        let round_trip_ms = round_trip.map(|time| time.as_secs_f32() * 1_000.0);
        let heard = jitter.played_samples > 0;
        let rating = |delay_ms: f32| {
            heard.then(|| {
                quality::rating(&Conditions {
                    impairment: self.impairment(),
                    loss_percent: spread.density * 100.0,
                    burst_ratio: spread.ratio,
                    delay_ms,
                })
            })
        };
        let listening = rating(0.0);
        let talking = round_trip_ms.and_then(|trip| rating(trip / 2.0 + end_delay_ms as f32));
        WayQuality {
            rating: talking.map(|rating| rating.clamp(0.0, 100.0)),
            mos_lq: listening.map(quality::mos_of),
            mos_cq: talking.map(quality::mos_of),
            loss_percent: percent(jitter.lost),
            discard_percent: percent(jitter.late + jitter.discarded),
            burst_density_percent: spread.burst_density * 100.0,
            gap_density_percent: spread.gap_density * 100.0,
            burst_ms: (spread.burst_packets * packet_ms) as u32,
            gap_ms: (spread.gap_packets * packet_ms) as u32,
            round_trip_ms,
            end_delay_ms,
            buffer_ms: self.jitter.target_ms().into(),
            buffer_max_ms: self.jitter.longest_ms().into(),
            signal_dbm0: self.judge.speech.level(),
            noise_dbm0: self.judge.speech.noise.and_then(|power| dbm0(power.into())),
        }
    }
}

impl Speech {
    fn level(&self) -> Option<f32> {
        if self.frames == 0 { None } else { dbm0(self.power / f64::from(self.frames)) }
    }
}

/// The level of a mean square; `None` of silence.
fn dbm0(power: f64) -> Option<f32> {
    (power >= 1.0).then(|| (10.0 * (power / POWER_0_DBM0).log10()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(watch: &mut Watch, ticks: u32, unheard: bool) -> Vec<(u64, bool)> {
        (0..ticks).filter_map(|_| watch.pass(unheard, NO_AUDIO_TICKS)).collect()
    }

    #[test]
    fn trouble_is_told_once_when_it_is_long_enough_and_once_when_it_is_over() {
        let mut watch = Watch::default();
        assert_eq!(passes(&mut watch, 249, true), []);
        assert_eq!(passes(&mut watch, 1, false), []);
        assert_eq!(passes(&mut watch, 400, true), [(5_000, false)]);
        assert_eq!(passes(&mut watch, 100, false), [(8_000, true)]);
        assert_eq!(watch.total, 400, "short ones are none");
        assert_eq!(passes(&mut watch, 250, true), [(5_000, false)]);
        assert_eq!(watch.total, 650);
    }

    #[test]
    fn a_peer_is_deaf_when_no_news_of_ours_is_in_its_reports() {
        let mut deaf = Deaf::default();
        // It has heard nothing and names no stream; too few packets tell nothing.
        for (sent, sure) in [(50, false), (250, false), (300, false), (500, false), (750, true)] {
            deaf.report(sent, None);
            assert_eq!(deaf.is_sure(), sure, "{sent}");
        }
        deaf.report(1_000, Some(77));
        assert!(!deaf.is_sure(), "it hears us");
        for sent in [1_250, 1_500] {
            deaf.report(sent, Some(77));
            assert!(!deaf.is_sure());
        }
        deaf.report(1_750, Some(77));
        assert!(deaf.is_sure(), "it has heard nothing since");
        deaf.report(1_760, Some(87));
        assert!(!deaf.is_sure());
    }

    #[test]
    fn a_full_scale_tone_is_3_dbm0() {
        let level = dbm0(32_124.0 * 32_124.0 / 2.0).unwrap();
        assert!((level - 3.17).abs() < 0.01, "{level}");
        assert!((dbm0(2_600.0).unwrap() + 50.0).abs() < 0.5);
        assert_eq!(dbm0(0.0), None);
    }
}
