//! What RTP of the switch must look like, packet by packet: header (RFC 3550 §5.1), payload types as they were agreed
//! (RFC 3264 §6.1), sequence numbers, time stamps and markers (RFC 3551 §4.1), telephone events (RFC 4733 §2.5), and
//! when another SSRC may come (RFC 3550 §8, RFC 7160 §4.1). Bytes in, a verdict out: no socket, no clock.
//!
//! A datagram is told from others by where it came from: the port of the switch that a session description of it
//! names. What comes from a port that none names yet may be of a call whose telephone sat here before: it must be a
//! sound stream too, but may have begun before, and with any payload type.

use super::agreed::Description;
use super::agreed::Dialog;
use super::agreed::Format;
use super::agreed::Side;
use super::agreed::call_id;
use super::agreed::static_format;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Length of a header without CSRCs and extension.
const HEADER: usize = 12;
/// Packets of a stream that are shown where one is wrong.
const SHOWN: usize = 24;
/// An event of RFC 4733 in one segment lasts no longer, in units of its clock.
const SEGMENT: u16 = 0xffff;

/// A packet as it is shown.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    marker: bool,
    kind: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: &'a [u8],
}

/// The same without its payload, of which the first bytes are kept.
#[derive(Clone, Copy, Debug)]
struct Shown {
    marker: bool,
    kind: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    length: usize,
    first: [u8; 4],
}

/// A telephone event that was begun.
#[derive(Clone, Copy, Debug)]
struct Event {
    timestamp: u32,
    code: u8,
    duration: u16,
    ends: u8,
    /// Packets of it were missed.
    partial: bool,
}

/// One SSRC.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    clock: u32,
    next: u16,
    /// Where what follows begins, if nothing lies between.
    due: u32,
    /// What lies between is a multiple of this, in units of the clock.
    grain: u32,
    /// Length of the last packet of audio; 0: none came.
    samples: u32,
    /// Its codec is not encoded by the switch.
    passed: bool,
    /// Where the next packet begins, and whether it bears a marker, cannot be told.
    blind: bool,
    event: Option<Event>,
    /// What the socket had dropped when the last one came.
    dropped: u32,
}

/// All that comes from one address.
#[derive(Debug)]
struct Source {
    address: SocketAddr,
    stream: Option<Stream>,
    /// SSRCs that were given up.
    left: Vec<u32>,
    /// Signalling has allowed another SSRC: of another call.
    may_change: bool,
    /// The same for other keys of this one, by which what was sent before still means what it did.
    rekeyed: bool,
    /// A codec of another clock was agreed on since its last packet, whatever is now.
    other_clock: bool,
    /// The stream was under way when its first packet came.
    joined: bool,
    shown: VecDeque<Shown>,
}

/// What a telephone hears of the switch.
#[derive(Debug, Default)]
pub struct Streams {
    dialogs: Vec<Dialog>,
    sources: Vec<Source>,
    /// Packets may be lost on the way.
    lossy: bool,
    /// The next stream may have begun elsewhere.
    joins: bool,
    /// What is read now was sent at any time.
    late: bool,
    /// What comes was decrypted, where it had to be.
    decrypted: bool,
    /// What the socket had dropped when the last datagram came.
    dropped: u32,
}

impl Streams {
    /// Packets may be lost on the way from now on: the network of the test loses some.
    pub const fn allow_loss(&mut self) {
        self.lossy = true;
    }

    /// The next stream that comes was sent to somebody else before: its first packet need not be marked.
    pub const fn allow_joining(&mut self) {
        self.joins = true;
    }

    /// What comes from now on is in the clear, whatever keys were agreed on: whoever has them decrypts it first.
    pub const fn come_decrypted(&mut self) {
        self.decrypted = true;
    }

    /// What is read from now on, until it moves, was sent at any time before: whatever SSRC it has may have been signalled since.
    pub const fn read_late(&mut self) {
        self.late = true;
    }

    /// The telephone hears it at another socket from now on. What was under way to the old one is missed.
    pub fn moved(&mut self) {
        for stream in self.sources.iter_mut().filter_map(|source| source.stream.as_mut()) {
            stream.blind = true;
            stream.dropped = u32::MAX;
            stream.miss_event();
        }
        // Whatever was sent to the old one, none of it was read.
        self.joins |= self.sources.is_empty();
        self.dropped = 0;
        self.late = false;
    }

    /// Takes a SIP message of either side: descriptions and ends of calls matter, nothing else.
    pub fn signalled(&mut self, side: Side, message: &str) {
        let Some((head, body)) = message.split_once("\r\n\r\n") else { return };
        let Some(call) = call_id(head) else { return };
        if head.starts_with("BYE ") {
            self.dialogs.iter_mut().filter(|it| it.call == call).for_each(|it| it.is_over = true);
        }
        if let Some(description) = Description::read(body) {
            self.described(side, call, description);
        }
    }

    fn described(&mut self, side: Side, call: &str, description: Description) {
        self.dialogs.retain(|dialog| dialog.call != call || !dialog.is_over);
        let known = self.dialogs.iter().position(|dialog| dialog.call == call);
        let port = description.port;
        let mut dialog = known.map_or_else(|| Dialog::new(call), |at| self.dialogs.remove(at));
        let first = side == Side::Switch && dialog.switch.is_none();
        let rekeyed = dialog.describe(side, description);
        let clock = dialog.audio_clock();
        self.dialogs.push(dialog);
        for source in &mut self.sources {
            let named = source.address.port() == port;
            source.other_clock |= named
                && source.stream.as_ref().zip(clock).is_some_and(|(it, clock)| it.clock != clock);
            if known.is_none()
                && let Some(stream) = &mut source.stream
            {
                // Who hangs up while a key is down hears no end of it.
                stream.miss_event();
            }
            match side {
                // A new call may be given a port that was another's.
                Side::Telephone if known.is_none() => source.may_change = true,
                Side::Switch if known.is_none() && named => source.may_change = true,
                // Its answer says where its media comes from: from nowhere else, then.
                Side::Switch if first && !named => source.may_change = false,
                Side::Telephone | Side::Switch => source.rekeyed |= rekeyed,
            }
        }
    }

    /// Takes a datagram that came from `from`, when the socket had dropped so many in all.
    ///
    /// # Errors
    ///
    /// When the switch should not have sent it so: what was expected, and the stream so far.
    pub fn check(&mut self, from: SocketAddr, bytes: &[u8], dropped: u32) -> Result<(), String> {
        if is_foreign(bytes) {
            return Ok(());
        }
        let known = self.sources.iter().position(|source| source.address == from);
        let at = known.unwrap_or_else(|| {
            self.sources.push(Source::new(from));
            self.sources.len() - 1
        });
        let (lossy, joins) = (self.lossy, &mut self.joins);
        let named = |dialog: &&mut Dialog| {
            dialog.switch.as_ref().is_some_and(|switch| switch.port == from.port())
        };
        let dialog = self.dialogs.iter_mut().rev().find(named);
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        let known = Known {
            dropped,
            lossy,
            late: self.late,
            lost: lossy || dropped != std::mem::replace(&mut self.dropped, dropped),
            sealed: !self.decrypted && dialog.as_ref().is_some_and(|it| it.is_sealed()),
        };
        let wrong = match source.take(bytes, dialog, known, joins) {
            Ok(()) => return Ok(()),
            Err(wrong) => wrong,
        };
        let last = source.shown.back();
        let line = Packet::read(bytes).map_or_else(|_| String::new(), |it| it.shown().line(last));
        let head = bytes.get(..bytes.len().min(32)).unwrap_or_default();
        Err(format!(
            "RTP of the switch from {from} is wrong: {wrong}\nthis packet:\n{line}  {} bytes: \
             {head:02x?}\nthe stream so far:\n{}\ngiven up: {:x?}; calls: {:?}\n",
            bytes.len(),
            source.story(),
            source.left,
            self.dialogs
        ))
    }
}

/// What one packet is judged by beside the stream itself.
#[derive(Clone, Copy)]
struct Known {
    dropped: u32,
    lossy: bool,
    late: bool,
    /// Something was lost right before it, of this stream or another.
    lost: bool,
    /// Payloads are encrypted.
    sealed: bool,
}

impl Source {
    const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            left: Vec::new(),
            may_change: false,
            rekeyed: false,
            other_clock: false,
            joined: false,
            shown: VecDeque::new(),
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        mut dialog: Option<&mut Dialog>,
        known: Known,
        joins: &mut bool,
    ) -> Result<(), String> {
        let packet = Packet::read(bytes)?;
        let is_named = dialog.is_some();
        // What was on its way of a call before, to the same port, keeps to what was agreed there.
        let of_before = self.may_change
            && self.stream.as_ref().is_some_and(|stream| stream.ssrc == packet.ssrc);
        let format = match dialog.as_mut().filter(|_| !of_before) {
            Some(dialog) => dialog.format(packet.kind)?,
            None => static_format(packet.kind),
        };
        let audio_clock = dialog.as_ref().and_then(|dialog| dialog.audio_clock());
        let clock = format.as_ref().map(|format| match audio_clock {
            // An event has the clock of the audio beside it.
            Some(clock) if format.is_event() => clock,
            Some(_) | None => format.clock,
        });
        self.leave_for(packet.ssrc, clock, is_named, known)?;
        // The end of an event may still come of the stream before.
        self.other_clock &= format.as_ref().is_some_and(Format::is_event);
        if is_named && std::mem::take(&mut self.joined) {
            return Err("the stream of this call was under way when its first packet came".into());
        }
        if let (Some(dialog), Some(format)) = (&dialog, &format)
            && format.is_event()
            && let Some(clock) = self.audio_clock().or(audio_clock)
            && format.clock != clock
            && dialog.has_events(clock)
        {
            return Err(format!(
                "an event of {} Hz beside audio of {clock} Hz, whose own is agreed",
                format.clock
            ));
        }
        match &mut self.stream {
            Some(stream) => stream.follow(&packet, format.as_ref(), known)?,
            None => {
                if !packet.marker && !known.lost && !std::mem::take(joins) {
                    if is_named {
                        return Err("the first packet of a stream bears a marker".into());
                    }
                    self.joined = true;
                }
                let clock = clock.unwrap_or(8_000);
                self.stream = Some(Stream::begin(&packet, (format.as_ref(), clock), known)?);
            }
        }
        self.shown.push_back(packet.shown());
        if self.shown.len() > SHOWN {
            self.shown.pop_front();
        }
        Ok(())
    }

    /// Leaves the stream under way where `ssrc` is another one, unless nothing brings another.
    fn leave_for(
        &mut self,
        ssrc: u32,
        clock: Option<u32>,
        is_named: bool,
        known: Known,
    ) -> Result<(), String> {
        let Some(before) = self.stream.as_ref().filter(|before| before.ssrc != ssrc) else {
            return Ok(());
        };
        let old = before.ssrc;
        if self.left.contains(&ssrc) {
            return Err(format!("SSRC {ssrc:08x} was given up before"));
        }
        let other_clock = self.other_clock || clock.is_some_and(|clock| clock != before.clock);
        let signalled = self.may_change || self.rekeyed || other_clock;
        if !(signalled || !is_named || known.late) {
            return Err(format!(
                "SSRC {ssrc:08x} where {old:08x} is under way, and nothing was signalled that brings \
                 another: no new call, no codec of another clock, no other keys"
            ));
        }
        if let Some(event) = before.event.filter(|_| is_named && !known.lost && !known.late)
            && !event.partial
            && event.ends != 3
        {
            return Err(format!(
                "another SSRC, after {} of 3 ends of event {} under {old:08x}",
                event.ends, event.code
            ));
        }
        self.left.push(old);
        self.stream = None;
        (self.may_change, self.rekeyed, self.other_clock) = (false, false, false);
        Ok(())
    }

    /// That of the audio which came last.
    fn audio_clock(&self) -> Option<u32> {
        self.stream.as_ref().filter(|stream| stream.samples > 0).map(|stream| stream.clock)
    }

    fn story(&self) -> String {
        let mut text = String::new();
        let mut before = None;
        for shown in &self.shown {
            text += &shown.line(before);
            before = Some(shown);
        }
        if let Some(Stream { next, due, clock, .. }) = &self.stream {
            text += &format!("  expected next: seq {next}, time {due} at {clock} Hz");
        }
        text
    }
}

impl Shown {
    fn line(&self, before: Option<&Self>) -> String {
        let Self { marker, kind, sequence, timestamp, ssrc, length, first } = self;
        let step = before.map_or(0, |it| timestamp.wrapping_sub(it.timestamp).cast_signed());
        let mark = if *marker { 'M' } else { ' ' };
        format!(
            "  seq {sequence:5}  time {timestamp:10} ({step:+6})  ssrc {ssrc:08x}  \
             type {kind:3} {mark}  {length:3} bytes {first:02x?}\n"
        )
    }
}

impl Stream {
    /// The first packet of an SSRC.
    fn begin(
        packet: &Packet<'_>,
        (format, clock): (Option<&Format>, u32),
        known: Known,
    ) -> Result<Self, String> {
        let mut stream = Self {
            ssrc: packet.ssrc,
            clock,
            next: packet.sequence,
            due: packet.timestamp,
            grain: clock / 50,
            samples: 0,
            passed: false,
            blind: true,
            event: None,
            dropped: known.dropped,
        };
        stream.follow(packet, format, known)?;
        Ok(stream)
    }

    fn follow(
        &mut self,
        packet: &Packet<'_>,
        format: Option<&Format>,
        known: Known,
    ) -> Result<(), String> {
        let passed = self.passed || format.is_some_and(|format| format.name == "g729");
        let missed = u32::from(packet.sequence.wrapping_sub(self.next));
        let lost = self.lost(missed, passed, known)?;
        if lost {
            self.blind = true;
            self.event = None;
        }
        if let Some(format) = format.filter(|format| !format.is_event())
            && format.clock != self.clock
        {
            // An event may have come first, whose clock need not tell.
            if self.samples > 0 {
                return Err(format!(
                    "{} has a clock of {} Hz, under the SSRC of one of {} Hz",
                    format.name, format.clock, self.clock
                ));
            }
            (self.clock, self.grain) = (format.clock, format.clock / 50);
        }
        match format {
            _ if known.sealed => self.sealed(packet)?,
            Some(format) if format.is_event() => self.event(packet, lost)?,
            // How long noise lasts it does not say (RFC 3389 §4).
            Some(format) if format.name != "cn" => {
                self.audio(packet, format, passed && !lost && missed > 0)?;
            }
            Some(_) | None => self.sealed(packet)?,
        }
        self.next = packet.sequence.wrapping_add(1);
        self.dropped = known.dropped;
        Ok(())
    }

    /// What there is still to come of an event may not come.
    const fn miss_event(&mut self) {
        if let Some(event) = &mut self.event {
            event.partial = true;
        }
    }

    /// Whether packets before this one were lost where they may be.
    fn lost(&self, missed: u32, passed: bool, known: Known) -> Result<bool, String> {
        if missed == 0 {
            return Ok(false);
        }
        let wrong = |why: &str| {
            let Self { next, .. } = self;
            Err(format!("sequence number {next} is expected, {missed} before this one: {why}"))
        };
        if missed >= 0x8000 {
            return wrong("it goes back, or is repeated");
        }
        let dropped = known.dropped.wrapping_sub(self.dropped);
        if known.lossy || self.dropped == u32::MAX || missed <= dropped {
            return Ok(true);
        }
        // What never reached the switch is left out here too, if it only passes through: `audio` looks at its time.
        if passed {
            return Ok(false);
        }
        wrong(&format!(
            "{dropped} were lost in the socket of the telephone since, and none elsewhere"
        ))
    }

    fn ahead(&self, packet: &Packet<'_>) -> Result<u32, String> {
        let Self { due, grain, .. } = self;
        let ahead = packet.timestamp.wrapping_sub(*due).cast_signed();
        let Ok(ahead) = u32::try_from(ahead) else {
            return Err(format!("time stamp {due} is expected, or a later one: it is {ahead}"));
        };
        if ahead % (*grain).max(1) != 0 {
            return Err(format!(
                "time stamp {due} is expected, or multiples of {grain} later: +{ahead}"
            ));
        }
        Ok(ahead)
    }

    fn audio(&mut self, packet: &Packet<'_>, format: &Format, hole: bool) -> Result<(), String> {
        let Some(samples) = format.samples(packet.payload) else {
            return Err(format!("{} bytes are no packet of {}", packet.payload.len(), format.name));
        };
        let tick = self.clock / 50;
        self.passed = format.name == "g729";
        if !samples.is_multiple_of(tick) || self.passed {
            self.grain = self.clock / 100;
        }
        if let Some(event) = self.event.take().filter(|event| !event.partial && event.ends != 3) {
            return Err(format!("audio, after {} of 3 ends of an event", event.ends));
        }
        let ahead = self.ahead(packet)?;
        if !self.blind {
            if ahead > 0 && !packet.marker && !hole {
                return Err(format!(
                    "a marker is expected: it is {ahead} later than what follows on"
                ));
            }
            if packet.marker && ahead == 0 {
                return Err("no marker is expected: it follows on without a gap".into());
            }
            if hole && ahead == 0 {
                return Err("numbers are left out, and no time".into());
            }
        }
        self.due = packet.timestamp.wrapping_add(samples);
        (self.samples, self.blind) = (samples, false);
        Ok(())
    }

    fn event(&mut self, packet: &Packet<'_>, lost: bool) -> Result<(), String> {
        let [code, flags, high, low] = *packet.payload else {
            return Err(format!("4 bytes of an event are expected, not {}", packet.payload.len()));
        };
        let duration = u16::from_be_bytes([high, low]);
        let ends = flags >> 7;
        if code > 16 || flags & 0x40 != 0 {
            return Err(format!(
                "event {code}, flags {flags:#04x}: a key is expected, and R not set"
            ));
        }
        let tick = self.clock / 50;
        let now = Event { timestamp: packet.timestamp, code, duration, ends, partial: lost };
        match self.event {
            Some(before) if before.timestamp == packet.timestamp => {
                self.event = Some(before.goes_on(&now, packet.marker)?);
                self.due = self.due.wrapping_add(tick);
                return Ok(());
            }
            Some(before) if before.is_continued_by(&now, packet.marker) => {
                self.due = self.due.wrapping_add(tick);
            }
            Some(before) if before.ends == 0 && !before.partial => {
                return Err(format!("event {} is under way and has no end", before.code));
            }
            _ if lost || (self.blind && !packet.marker && self.event.is_none()) => {
                // Somewhere within one.
                self.blind = true;
                self.due = packet.timestamp;
            }
            Some(_) | None => {
                self.ahead(packet)?;
                if !packet.marker {
                    return Err("the first packet of an event bears a marker".into());
                }
                self.due = packet.timestamp.wrapping_add(tick);
                self.blind = false;
            }
        }
        self.event = Some(Event { partial: now.partial || self.blind, ..now });
        Ok(())
    }

    /// One of which the header alone can be read.
    fn sealed(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        let passed = packet.timestamp.wrapping_sub(self.due).cast_signed();
        if passed < 0 {
            return Err(format!("time stamp {} is expected, or a later one: {passed}", self.due));
        }
        (self.due, self.blind, self.event) = (packet.timestamp, true, None);
        Ok(())
    }
}

impl Event {
    /// The same with another packet of it.
    fn goes_on(self, next: &Self, marker: bool) -> Result<Self, String> {
        let Self { code, duration, ends, partial, .. } = self;
        let wrong = |what: &str| Err(format!("within event {code}, {what}"));
        if marker {
            return wrong("no marker is expected");
        }
        if next.code != code {
            return wrong("the same event is expected");
        }
        if next.duration < duration {
            return wrong(&format!("a duration of {duration} or more is expected"));
        }
        if ends > 0 && (next.ends == 0 || next.duration != duration) {
            return wrong(&format!("nothing but its end, with {duration}, may be repeated"));
        }
        if ends == 3 && !partial {
            return wrong("its end was said three times");
        }
        Ok(Self { duration: next.duration, ends: ends + next.ends, ..self })
    }

    /// RFC 4733 §2.5.1.3: the next segment of a long one.
    const fn is_continued_by(&self, next: &Self, marker: bool) -> bool {
        let step = next.timestamp.wrapping_sub(self.timestamp);
        !marker
            && self.ends == 0
            && self.code == next.code
            && self.duration == SEGMENT
            && step == SEGMENT as u32
    }
}

impl<'a> Packet<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(format!("a header of 12 bytes is expected, not {}", bytes.len()));
        };
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *header;
        if flags >> 6 != 2 {
            return Err(format!("version 2 is expected, not {}", flags >> 6));
        }
        for (bits, what) in [(0x20, "padding"), (0x10, "extension"), (0x0f, "CSRC")] {
            if flags & bits != 0 {
                return Err(format!("no {what} is expected: {flags:#04x}"));
            }
        }
        if payload.is_empty() {
            return Err("a payload is expected".into());
        }
        Ok(Self {
            marker: kind & 0x80 != 0,
            kind: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            payload,
        })
    }

    fn shown(&self) -> Shown {
        let mut first = [0; 4];
        first.iter_mut().zip(self.payload).for_each(|(place, byte)| *place = *byte);
        let Self { marker, kind, sequence, timestamp, ssrc, payload } = *self;
        Shown { marker, kind, sequence, timestamp, ssrc, length: payload.len(), first }
    }
}

/// Whether a datagram is no RTP at all: RTCP beside it (RFC 5761 §4), or SIP for whose telephone sat here before.
fn is_foreign(bytes: &[u8]) -> bool {
    matches!(bytes, [] | [b'A'..=b'Z', ..] | [128..=191, 192..=223, ..])
}

#[cfg(test)]
#[path = "stream_rules_tests.rs"]
mod tests;
