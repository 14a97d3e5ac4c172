//! `Line`: the media of the test caller's one call: speaks, listens, presses keys, reports.

use crate::audio::conceal::Concealer;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::g711;
use crate::audio::packed::PackedVoice;
use crate::audio::sound::Sound;
use crate::audio::wide::WideVoice;
use crate::caller::call::Output;
use crate::caller::ear::Ear;
use crate::caller::ear::Heard;
use crate::caller::headers::Carried;
use crate::caller::headers::HeaderFaults;
use crate::caller::headers::Headers;
use crate::caller::voice::Voice;
use crate::media::unpacking::unpack;
use crate::rtp::classify::Datagram;
use crate::rtp::classify::classify;
use crate::rtp::dtmf;
use crate::rtp::dtmf::DtmfEvent;
use crate::rtp::jitter::Content;
use crate::rtp::jitter::Frame;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::JitterConfig;
use crate::rtp::jitter::JitterRoom;
use crate::rtp::jitter::JitterStatistics;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::rtp::receiver::Receiver;
use crate::rtp::receiver::ReceiverStatistics;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::schedule::ReportSchedule;
use crate::rtp::sender::Feedback;
use crate::rtp::sender::Sender;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::codec::PayloadType;
use crate::types::limit::RTP_PACKED_BYTES_MAX;
use crate::types::limit::RTP_PACKET_BYTES_MAX;
use crate::types::moment::Moment;
use crate::types::random::Random;
use crate::types::srtp::SrtpSuite;
use std::net::SocketAddr;
use std::time::Duration;

/// The time of one frame.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Delay of the jitter buffer, in ms.
pub(super) const JITTER_MS: u16 = 60;
const CLOCK_HZ: u32 = 8_000;
const FRAME_UNITS: u32 = FRAME_SAMPLES as u32;
/// Length of a key press and the pause after it, in ms.
const KEY_MS: (u32, u32) = (120, 80);
/// Silence between the answer and the first key: some switches open their ears late.
const KEY_DELAY: Duration = Duration::from_millis(300);
/// Keys of the other side that are kept. Over it: not told.
const KEYS_HEARD_MAX: usize = 256;
/// Ticks made up for after a late wake-up. Over it: time is skipped.
const TICKS_LATE_MAX: u32 = 10;

/// What a line counted.
#[derive(Clone, Debug)]
pub(super) struct LineCounts {
    pub(super) sent: u64,
    pub(super) received: ReceiverStatistics,
    pub(super) jitter: JitterStatistics,
    pub(super) feedback: Feedback,
    /// Packets that were no RTP of this session.
    pub(super) foreign: u64,
    /// Packets whose headers are not as they should be.
    pub(super) headers: HeaderFaults,
    /// Packets whose headers were looked at.
    pub(super) judged: u64,
    /// How media was encrypted.
    pub(super) srtp: Option<SrtpSuite>,
    /// Encrypted packets that did not authenticate, or came twice.
    pub(super) refused: u64,
    pub(super) first_packet: Option<Moment>,
    pub(super) heard: Heard,
    pub(super) keys_heard: String,
}

/// The media of one call.
pub(super) struct Line {
    plan: Option<MediaPlan>,
    /// The one before, as long as nothing came by the one of now.
    plan_before: Option<MediaPlan>,
    headers: Headers,
    protection: Protection,
    /// When the call was answered: from then on there is something to say.
    answered: Option<Moment>,
    next_tick: Option<Moment>,
    sender: Sender,
    receiver: Receiver,
    jitter: JitterBuffer,
    payloads: Payloads,
    concealer: Concealer,
    wide: WideVoice,
    /// What a codec needs that is decoded packet by packet, with its concealment.
    packed: Option<(Box<PackedVoice>, Concealer)>,
    keys_out: dtmf::Sender,
    keys_in: dtmf::Receiver,
    keys_heard: String,
    voice: Voice,
    /// Audio that does not fill a packet yet, in the codec of the plan.
    unsent: Vec<u8>,
    schedule: Option<ReportSchedule>,
    cname: String,
    random: Random,
    ear: Ear,
    foreign: u64,
    refused: u64,
    first_packet: Option<Moment>,
}

impl Line {
    /// A line that waits for a media plan. `digits` are pressed after the answer.
    pub(super) fn new(seed: u64, voice: Voice, digits: &str) -> Self {
        let mut random = Random::from_seed(seed);
        let mut keys_out = dtmf::Sender::new(CLOCK_HZ, KEY_MS.0, KEY_MS.1);
        for digit in digits.chars() {
            // The plan was checked to have only keys, and no more than fit.
            keys_out.push(digit);
        }
        Self {
            plan: None,
            plan_before: None,
            headers: Headers::default(),
            protection: Protection::Plain,
            answered: None,
            next_tick: None,
            sender: Sender::new(random.next_u64()),
            receiver: Receiver::new(CLOCK_HZ),
            jitter: JitterBuffer::new(JitterConfig { depth_ms: JITTER_MS, codec: Codec::Pcmu }),
            payloads: Payloads::with_room_for(1),
            concealer: Concealer::default(),
            wide: WideVoice::default(),
            packed: None,
            keys_out,
            keys_in: dtmf::Receiver::new(CLOCK_HZ),
            keys_heard: String::new(),
            voice,
            unsent: Vec::new(),
            schedule: None,
            cname: format!("{:016x}", random.next_u64()),
            random,
            ear: Ear::new(),
            foreign: 0,
            refused: 0,
            first_packet: None,
        }
    }

    /// Uses `plan` from now on: early media, the answer, or a re-INVITE.
    pub(super) fn update(&mut self, now: Moment, plan: MediaPlan) {
        self.next_tick.get_or_insert(now + TICK);
        if self.schedule.is_none() {
            self.schedule = Some(ReportSchedule::new(now, self.random.next_u64()));
        }
        if self.plan.as_ref().is_none_or(|old| old.codec != plan.codec) {
            self.unsent.clear();
            self.equip(&plan);
        }
        let keys = plan.crypto.as_deref().map(|keys| (&keys.send, &keys.receive));
        if self.protection.update(now, keys) {
            self.sender.change_ssrc();
        }
        if self.plan.as_ref() != Some(&plan) {
            self.headers.may_change();
            self.plan_before = self.plan.replace(plan);
        }
    }

    /// Provides for the codec and the clocks of a plan.
    fn equip(&mut self, plan: &MediaPlan) {
        self.sender.set_clock(plan.codec.clock_factor());
        self.keys_out.set_clock(plan.codec.clock_rate());
        self.keys_in.set_clock(plan.dtmf_clock);
        if plan.codec.is_packed() {
            let mut packed = Box::new(PackedVoice::new(plan.codec));
            packed.set_terms(plan.opus);
            let factor = if plan.codec.is_wide() { 2 } else { 1 };
            self.packed = Some((packed, Concealer::new(factor)));
            self.jitter.equip(JitterRoom::default());
        }
    }

    /// The plan in force.
    pub(super) const fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    /// The call is answered: speech and keys begin.
    pub(super) fn answered(&mut self, now: Moment) {
        self.headers.may_change();
        self.answered.get_or_insert(now);
    }

    /// Whether keys are still to be pressed and the other side takes them.
    pub(super) fn is_pressing_keys(&self) -> bool {
        let takes_keys = |plan: &MediaPlan| plan.dtmf_send.is_some() && plan.direction.sends();
        self.keys_out.is_busy() && self.plan.as_ref().is_some_and(takes_keys)
    }

    /// When the next tick is due.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        self.next_tick
    }

    /// Ends the stream with an RTCP BYE. Nothing is sent or heard afterwards.
    pub(super) fn close(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.next_tick.take().is_some() {
            self.report(now, |report, packet| report.write_goodbye(packet), out);
        }
    }

    /// Everything that was counted.
    pub(super) fn counts(&self) -> LineCounts {
        LineCounts {
            sent: self.sender.packets(),
            received: self.receiver.statistics(),
            jitter: self.jitter.statistics(),
            feedback: self.sender.feedback(),
            foreign: self.foreign,
            headers: self.headers.faults(),
            judged: self.headers.judged(),
            srtp: self.protection.suite(),
            refused: self.refused,
            first_packet: self.first_packet,
            heard: self.ear.heard(),
            keys_heard: self.keys_heard.clone(),
        }
    }

    /// Takes a datagram that came to either port.
    pub(super) fn receive(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        match classify(datagram) {
            Datagram::Rtp => match self.protection.receive(now, Layer::Rtp, datagram) {
                Ok(datagram) => self.receive_rtp(now, from, &datagram),
                Err(_) => {
                    self.refused += 1;
                    self.headers.pass_over();
                }
            },
            Datagram::Rtcp => match self.protection.receive(now, Layer::Rtcp, datagram) {
                Ok(datagram) => self.receive_rtcp(now, &datagram),
                Err(_) => self.refused += 1,
            },
            Datagram::Stun
            | Datagram::Zrtp
            | Datagram::Dtls
            | Datagram::Turn
            | Datagram::Unknown => self.foreign += 1,
        }
    }

    fn receive_rtp(&mut self, now: Moment, from: SocketAddr, datagram: &[u8]) {
        let packet = RtpPacket::parse(datagram);
        if let Ok(packet) = &packet {
            self.judge(from, packet);
        }
        let (Ok(packet), Some(plan)) = (packet, &self.plan) else {
            self.foreign += 1;
            return;
        };
        if Some(packet.payload_type) == plan.dtmf_receive {
            self.receiver.receive(now, &packet, Content::Other);
            self.jitter.push(now, &packet, Content::Other, &mut self.payloads);
            let keys = &mut self.keys_heard;
            self.keys_in.receive(now, &packet, |event| note_key(keys, event));
            return;
        }
        let Some(codec) = plan.receive_codec(packet.payload_type) else {
            self.foreign += 1;
            return;
        };
        self.jitter.expect(codec);
        self.receiver.set_clock(codec.clock_rate());
        self.first_packet.get_or_insert(now);
        self.receiver.receive(now, &packet, Content::Audio);
        self.jitter.push(now, &packet, Content::Audio, &mut self.payloads);
    }

    /// Looks at the header of a packet that came from where the other side has its media.
    fn judge(&mut self, from: SocketAddr, packet: &RtpPacket<'_>) {
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.remote == Some(from)) else {
            return self.headers.pass_over();
        };
        let kind = packet.payload_type;
        let agreed = carried(plan, kind);
        if agreed.is_some() {
            self.plan_before = None;
        }
        // What was sent before may still be on its way.
        let before = self.plan_before.as_ref().and_then(|plan| carried(plan, kind));
        match agreed.or(before) {
            Some(carried) => self.headers.take(packet, carried),
            None if self.answered.is_some() => self.headers.unagreed(packet),
            // Until the answer all that was offered may come (RFC 3264 §5.1).
            None => self.headers.pass_over(),
        }
    }

    fn receive_rtcp(&mut self, now: Moment, datagram: &[u8]) {
        for packet in Compound::new(datagram) {
            let blocks = match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    self.receiver.sender_report(now, ssrc, info.ntp);
                    blocks
                }
                RtcpPacket::ReceiverReport { blocks, .. } => blocks,
                RtcpPacket::Goodbye { .. } | RtcpPacket::Extended(_) | RtcpPacket::Other(_) => {
                    continue;
                }
            };
            for block in blocks {
                self.sender.reported(now, &block);
            }
        }
    }

    /// Does what is due at `now`: hears and says 20 ms for each tick.
    pub(super) fn tick(&mut self, now: Moment, out: &mut Vec<Output>) {
        let mut made = 0;
        while let Some(due) = self.next_tick.filter(|due| *due <= now) {
            self.next_tick = Some(due + TICK);
            made += 1;
            if made > TICKS_LATE_MAX {
                self.sender.skip(FRAME_UNITS);
                continue;
            }
            self.hear(now, out);
            self.say(now, out);
        }
        if self.schedule.as_mut().is_some_and(|schedule| schedule.is_due(now)) {
            self.report(now, |report, packet| report.write(packet), out);
        }
    }

    fn hear(&mut self, now: Moment, out: &mut Vec<Output>) {
        let mut linear: Pcm = [0; FRAME_SAMPLES];
        let mut audio: Option<Encoded> = None;
        let frame = self.jitter.pop(now, &mut self.payloads);
        let speaks = matches!(frame, Frame::Audio(_) | Frame::Mixed(..) | Frame::Missing);
        match frame {
            Frame::Audio(payload) | Frame::Mixed(payload, _) => audio = payload.try_into().ok(),
            Frame::Missing => self.concealer.conceal(&mut linear),
            Frame::Quiet => self.concealer.pause(&mut linear),
            Frame::Empty => self.concealer.forget(),
        }
        if self.jitter.desk().is_some() && speaks {
            linear = self.unpacked();
            self.ear.hear(&linear);
        } else if let Some(audio) = audio {
            linear = self.decode(&audio);
            self.concealer.heard(&mut linear);
            self.ear.hear(&linear);
        }
        out.push(Output::Heard(Box::new(linear)));
        let keys = &mut self.keys_heard;
        self.keys_in.expire(now, |event| note_key(keys, event));
    }

    /// 20 ms of a codec that is decoded packet by packet.
    fn unpacked(&mut self) -> Pcm {
        let (mut wide, mut linear) = ([0; WIDE_SAMPLES], [0; FRAME_SAMPLES]);
        let Some((packed, concealer)) = &mut self.packed else { return linear };
        unpack(&self.jitter, packed, concealer, &mut wide, false);
        if concealer.is_wide() {
            return self.wide.narrow(&wide);
        }
        for (to, sample) in linear.iter_mut().zip(wide) {
            *to = sample;
        }
        linear
    }

    fn decode(&mut self, audio: &Encoded) -> Pcm {
        let Some(law) = self.jitter.codec_given().law() else {
            let mut wide = [0; WIDE_SAMPLES];
            self.wide.decode(audio, &mut wide);
            return self.wide.narrow(&wide);
        };
        let mut linear = [0; FRAME_SAMPLES];
        g711::decode(law, audio, &mut linear);
        linear
    }

    fn say(&mut self, now: Moment, out: &mut Vec<Output>) {
        let speaks = self.answered.is_some();
        let way = self.plan.as_ref().filter(|plan| speaks && plan.direction.sends());
        let Some((plan, to)) = way.and_then(|plan| Some((plan, plan.remote?))) else {
            self.sender.skip(FRAME_UNITS);
            return;
        };
        let may_press = self.answered.is_some_and(|answered| now.since(answered) >= KEY_DELAY);
        let mut packet = [0; RTP_PACKET_BYTES_MAX];
        // What waits for its packet to be full falls away where a key begins, and its time goes by.
        let factor = if plan.codec.is_wide() { 2 } else { 1 };
        let packed = self.packed.as_ref().map_or(0, |(packed, _)| packed.waits() / factor);
        let waits = (self.unsent.len() + packed) as u32;
        if let Some(payload_type) = plan.dtmf_send.filter(|_| may_press)
            && let Some(event) = self.keys_out.tick(self.sender.timestamp_after(waits))
        {
            self.sender.miss(waits);
            self.unsent.clear();
            if let Some((packed, _)) = &mut self.packed {
                packed.forget_waiting();
            }
            let length = self.sender.event(payload_type, &event, FRAME_UNITS, &mut packet);
            send(&mut self.protection, written(&packet, length), to, out);
            return;
        }
        let mut frame: Encoded = SILENCE;
        g711::encode(plan.codec.law().unwrap_or(Law::Mu), &self.voice.frame(), &mut frame);
        if plan.codec.is_packed() {
            let plan = plan.clone();
            self.say_packed(&plan, to, &frame, out);
            return;
        }
        if plan.codec.is_wide() {
            (frame, _) = self.wide.encode(&Sound::Law(Law::Mu, frame));
        }
        self.unsent.extend_from_slice(&frame);
        let samples = plan.ptime.samples(CLOCK_HZ);
        while let Some((payload, rest)) = self.unsent.split_at_checked(samples as usize) {
            let length = self.sender.audio(plan.send_payload_type, payload, samples, &mut packet);
            send(&mut self.protection, written(&packet, length), to, out);
            self.unsent = rest.to_vec();
        }
    }

    /// Says 20 ms of µ-law in a codec that is encoded packet by packet.
    fn say_packed(
        &mut self,
        plan: &MediaPlan,
        to: SocketAddr,
        frame: &Encoded,
        out: &mut Vec<Output>,
    ) {
        let Some((packed, _)) = &mut self.packed else { return };
        let (wide, narrow) = self.wide.widen(&Sound::Law(Law::Mu, *frame));
        packed.say(if plan.codec.is_wide() { &wide } else { &narrow });
        let units = plan.ptime.samples(CLOCK_HZ);
        let samples = units as usize * if plan.codec.is_wide() { 2 } else { 1 };
        let mut payload = [0; RTP_PACKED_BYTES_MAX];
        let mut packet = [0; RTP_PACKET_BYTES_MAX];
        while let Some(length) = packed.packet(plan.codec, samples, &mut payload) {
            let payload = payload.get(..length).unwrap_or_default();
            let length = self.sender.audio(plan.send_payload_type, payload, units, &mut packet);
            send(&mut self.protection, written(&packet, length), to, out);
        }
    }

    fn report(
        &mut self,
        now: Moment,
        write: impl Fn(&Report<'_>, &mut [u8]) -> Option<usize>,
        out: &mut Vec<Output>,
    ) {
        let Some(plan) = &self.plan else { return };
        let (remote, mux) = (plan.remote_rtcp, plan.rtcp_mux);
        let report = Report {
            ssrc: self.sender.ssrc(),
            sender: self.sender.report(now),
            block: self.receiver.report(now),
            cname: self.cname.as_bytes(),
            metrics: None,
        };
        let mut packet = [0; COMPOUND_BYTES_MAX];
        let length = write(&report, &mut packet);
        let protected = self.protection.send(Layer::Rtcp, written(&packet, length));
        if let (Some(_), Ok(protected), Some(to)) = (length, protected, remote) {
            let bytes = protected.into_owned();
            out.push(if mux { Output::Rtp { bytes, to } } else { Output::Rtcp { bytes, to } });
        }
    }
}

/// What packets of a payload type carry by a plan; `None`: it has no such type.
fn carried(plan: &MediaPlan, payload_type: PayloadType) -> Option<Carried> {
    if Some(payload_type) == plan.dtmf_receive {
        return Some(Carried::Event);
    }
    plan.receive_codec(payload_type).map(Carried::Audio)
}

fn written(packet: &[u8], length: Option<usize>) -> &[u8] {
    length.and_then(|length| packet.get(..length)).unwrap_or_default()
}

/// Sends a packet, encrypted where that was agreed. One that cannot be is not sent.
fn send(protection: &mut Protection, packet: &[u8], to: SocketAddr, out: &mut Vec<Output>) {
    if packet.is_empty() {
        return;
    }
    if let Ok(bytes) = protection.send(Layer::Rtp, packet) {
        out.push(Output::Rtp { bytes: bytes.into_owned(), to });
    }
}

fn note_key(keys: &mut String, event: DtmfEvent) {
    match event {
        DtmfEvent::Ended { digit, .. } if keys.len() < KEYS_HEARD_MAX => keys.push(digit),
        DtmfEvent::Ended { .. } | DtmfEvent::Started(_) => (),
    }
}
