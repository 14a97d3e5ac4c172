//! Each rule, kept and broken once.

use super::Side;
use super::Streams;
use std::net::SocketAddr;

const OFFER: &str = "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
const ANSWER: &str = "m=audio 16400 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// What the switch sends, as it should, but for what a test changes.
struct Sender {
    streams: Streams,
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    dropped: u32,
}

impl Sender {
    fn new() -> Self {
        let mut sender = Self {
            streams: Streams::default(),
            from: "127.0.0.1:16400".parse().unwrap(),
            ssrc: 0xab,
            sequence: 0xfffe,
            timestamp: 0xffff_ff00,
            dropped: 0,
        };
        sender.says(Side::Telephone, "one", OFFER);
        sender.says(Side::Switch, "one", ANSWER);
        sender
    }

    /// One that has sent its first packets.
    fn talking() -> Self {
        let mut sender = Self::new();
        sender.audio(true).unwrap();
        sender.audio(false).unwrap();
        sender
    }

    fn says(&mut self, side: Side, call: &str, description: &str) {
        let message =
            format!("INVITE sip:x SIP/2.0\r\nCall-ID: {call}\r\n\r\nv=0\r\n{description}");
        self.streams.signalled(side, &message);
    }

    fn send(
        &mut self,
        kind: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> Result<(), String> {
        let mut bytes = vec![0x80, kind | u8::from(marker) << 7];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.streams.check(self.from, &bytes, self.dropped)
    }

    fn of(&mut self, kind: u8, marker: bool, payload: &[u8], samples: u32) -> Result<(), String> {
        let timestamp = self.timestamp;
        self.timestamp = self.timestamp.wrapping_add(samples);
        self.send(kind, marker, timestamp, payload)
    }

    fn audio(&mut self, marker: bool) -> Result<(), String> {
        self.of(0, marker, &[0xff; 160], 160)
    }

    /// A packet of an event that began so many packets before.
    fn event(&mut self, before: u32, marker: bool, end: bool, duration: u16) -> Result<(), String> {
        let [high, low] = duration.to_be_bytes();
        let began = self.timestamp.wrapping_sub(before * 160);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.send(101, marker, began, &[5, u8::from(end) << 7 | 10, high, low])
    }

    fn skip(&mut self, samples: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
    }
}

#[track_caller]
fn wrong(verdict: Result<(), String>, what: &str) {
    let text = verdict.expect_err(what);
    assert!(text.contains(what), "{text}");
    assert!(text.contains("the stream so far"), "{text}");
}

#[test]
fn a_call_with_gaps_keys_and_wrapping_numbers_is_as_it_should_be() {
    let mut sender = Sender::talking();
    sender.skip(1_600);
    sender.audio(true).unwrap();
    for (packet, end) in [(0, false), (1, false), (2, true), (3, true), (4, true)] {
        sender.event(packet, packet == 0, end, 160 * (packet.min(2) as u16 + 1)).unwrap();
    }
    sender.audio(false).unwrap();
    // A key straight after a pause, which is marked by that.
    sender.skip(320);
    for (packet, end) in [(0, true), (1, true), (2, true)] {
        sender.event(packet, packet == 0, end, 320).unwrap();
    }
    sender.audio(false).unwrap();
    wrong(sender.audio(true), "no marker is expected");
    for begins in [true, false] {
        let mut sender = if begins { Sender::new() } else { Sender::talking() };
        for (packet, end) in [(0, true), (1, true), (2, true)] {
            sender.event(packet, packet == 0, end, 320).unwrap();
        }
        wrong(sender.audio(true), "no marker is expected");
    }
}

#[test]
fn what_is_no_rtp_is_passed_over() {
    let mut sender = Sender::talking();
    for bytes in [&b""[..], b"SIP/2.0 200 OK", &[0x81, 200, 0, 1]] {
        sender.streams.check(sender.from, bytes, 0).unwrap();
    }
}

#[test]
fn a_header_is_of_version_2_and_has_nothing_more() {
    for (first, what) in [
        (0xc0, "version 2 is expected"),
        (0xa0, "no padding"),
        (0x90, "no extension"),
        (0x81, "no CSRC"),
    ] {
        let mut sender = Sender::new();
        let mut bytes = vec![first, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        wrong(sender.streams.check(sender.from, &bytes[..11], 0), "a header of 12 bytes");
        bytes.extend([0xff; 160]);
        wrong(sender.streams.check(sender.from, &bytes, 0), what);
    }
    wrong(Sender::new().of(0, true, &[], 0), "a payload is expected");
}

#[test]
fn payload_types_are_those_that_both_named() {
    let mut sender = Sender::talking();
    wrong(sender.of(8, false, &[0xd5; 160], 160), "payload type 8 is none");
    wrong(Sender::talking().of(96, false, &[0xd5; 160], 160), "payload type 96 is none");
    // By another offer: those of before are over once one of the new ones came.
    let mut sender = Sender::talking();
    sender.says(Side::Telephone, "one", &OFFER.replace(" 0 8", " 8"));
    sender.says(Side::Switch, "one", &ANSWER.replace(" 0 ", " 8 "));
    sender.audio(false).unwrap();
    sender.of(8, false, &[0xd5; 160], 160).unwrap();
    wrong(sender.audio(false), "payload type 0 is none");
}

#[test]
fn numbers_rise_by_one_but_for_what_the_socket_dropped() {
    let mut sender = Sender::talking();
    sender.sequence = sender.sequence.wrapping_sub(1);
    wrong(sender.audio(false), "it goes back, or is repeated");
    let mut sender = Sender::talking();
    sender.sequence = sender.sequence.wrapping_add(3);
    sender.skip(480);
    wrong(sender.audio(false), "3 before this one: 0 were lost");
    for (dropped, is_lossy) in [(2, false), (3, false), (0, true)] {
        let mut sender = Sender::talking();
        sender.sequence = sender.sequence.wrapping_add(3);
        sender.skip(480);
        sender.dropped = dropped;
        if is_lossy {
            sender.streams.allow_loss();
        }
        assert_eq!(sender.audio(false).is_ok(), dropped == 3 || is_lossy);
    }
}

#[test]
fn time_rises_by_what_was_sent_and_stands_for_whole_ticks() {
    let check = |units: u32, marker: bool| {
        let mut sender = Sender::talking();
        sender.skip(units);
        sender.audio(marker)
    };
    check(320, true).unwrap();
    wrong(check(320, false), "a marker is expected");
    wrong(check(80, true), "multiples of 160");
    wrong(check(0_u32.wrapping_sub(160), false), "or a later one");
    wrong(check(0, true), "no marker is expected");
    // A codec whose clock is no multiple of its bytes.
    let opus = "m=audio 4000 RTP/AVP 107 110\r\na=rtpmap:107 opus/48000/2\r\n\
                a=rtpmap:110 telephone-event/48000\r\n";
    let mut sender = Sender::new();
    sender.says(Side::Telephone, "one", opus);
    sender.says(Side::Switch, "one", &opus.replace("4000", "16400"));
    // 20 ms in one frame, and two of 10 ms.
    sender.of(107, true, &[9 << 3, 1, 2], 960).unwrap();
    sender.of(107, false, &[8 << 3 | 1, 1, 2], 960).unwrap();
    wrong(sender.of(107, false, &[9 << 3 | 3], 960), "are no packet of opus");
    (sender.sequence, sender.timestamp) = (sender.sequence.wrapping_sub(1), sender.timestamp - 960);
    wrong(sender.of(107, true, &[9 << 3, 1, 2], 960), "no marker");
}

#[test]
fn packets_of_30_ms_are_shorter_before_an_event_and_nothing_falls_away() {
    for (waits, falls) in [(0, 0), (80, 0), (160, 0), (0, 80), (0, 160)] {
        let mut sender = Sender::new();
        sender.of(0, true, &[0xff; 240], 240).unwrap();
        if waits > 0 {
            sender.of(0, false, &[0xff; 160][..waits], waits as u32).unwrap();
        }
        for packet in 0..3 {
            sender.event(packet, packet == 0, true, 320).unwrap();
        }
        sender.skip(falls);
        let behind = sender.of(0, false, &[0xff; 240], 240);
        if falls > 0 {
            wrong(behind, "a marker is expected");
        } else {
            behind.unwrap();
        }
    }
}

#[test]
fn an_event_is_ended_before_another_stream_begins_unless_its_call_is_over() {
    let both = "m=audio 4000 RTP/AVP 107 110\r\na=rtpmap:107 opus/48000/2\r\n\
                a=rtpmap:110 telephone-event/48000\r\n";
    for (ends, hung_up) in [(0, false), (2, false), (3, false), (0, true)] {
        let mut sender = Sender::talking();
        sender.event(0, true, false, 160).unwrap();
        for packet in 1..=ends {
            sender.event(packet, false, true, 320).unwrap();
        }
        if hung_up {
            sender.streams.signalled(Side::Switch, "BYE sip:x SIP/2.0\r\nCall-ID: one\r\n\r\n");
        }
        let call = if hung_up { "two" } else { "one" };
        sender.says(Side::Telephone, call, both);
        sender.says(Side::Switch, call, &both.replace("4000", "16400"));
        sender.ssrc = 0xcd;
        let begun = sender.of(107, true, &[9 << 3, 1], 960);
        if ends == 3 || hung_up {
            begun.unwrap();
        } else {
            wrong(begun, &format!("after {ends} of 3 ends"));
        }
    }
}

#[test]
fn an_event_has_the_clock_of_the_audio_where_that_is_agreed() {
    let lines = "m=audio 4000 RTP/AVP 107 102 110\r\na=rtpmap:107 opus/48000/2\r\n\
                 a=rtpmap:102 telephone-event/8000\r\na=rtpmap:110 telephone-event/48000\r\n";
    for (kind, agreed, is_right) in [
        (110, lines.to_owned(), true),
        (102, lines.to_owned(), false),
        (102, lines.replace(" 110", ""), true),
    ] {
        for begins in [true, false] {
            let mut sender = Sender { streams: Streams::default(), ..Sender::new() };
            sender.says(Side::Telephone, "one", &agreed);
            sender.says(Side::Switch, "one", &agreed.replace("4000", "16400"));
            if !begins {
                sender.of(107, true, &[9 << 3, 1], 960).unwrap();
            }
            let began = sender.timestamp;
            let mut verdict = Ok(());
            for packet in 0..3 {
                sender.skip(960);
                let payload = [5, 0x8a, 7, 0x80];
                verdict = verdict.and(sender.send(kind, packet == 0, began, &payload));
            }
            if is_right {
                verdict.unwrap();
                sender.of(107, false, &[9 << 3, 1], 960).unwrap();
            } else {
                wrong(verdict, "beside audio of 48000 Hz");
            }
        }
    }
}

#[test]
fn what_passes_through_may_leave_out_numbers_with_their_time() {
    let g729 = "m=audio 4000 RTP/AVP 18\r\n";
    let passing = || {
        let mut sender = Sender::new();
        sender.says(Side::Telephone, "one", g729);
        sender.says(Side::Switch, "one", &g729.replace("4000", "16400"));
        sender.of(18, true, &[7; 20], 160).unwrap();
        sender
    };
    let mut sender = passing();
    sender.sequence = sender.sequence.wrapping_add(1);
    sender.skip(80);
    sender.of(18, false, &[7; 12], 160).unwrap();
    let mut sender = passing();
    sender.sequence = sender.sequence.wrapping_add(1);
    wrong(sender.of(18, false, &[7; 20], 160), "numbers are left out, and no time");
    let mut sender = passing();
    sender.skip(80);
    wrong(sender.of(18, false, &[7; 20], 160), "a marker is expected");
}

#[test]
fn another_ssrc_comes_with_another_call_clock_or_key_and_none_comes_back() {
    let change = |prepare: fn(&mut Sender)| {
        let mut sender = Sender::talking();
        prepare(&mut sender);
        sender.ssrc = 0xcd;
        let changed = sender.audio(true);
        (sender, changed)
    };
    wrong(change(|_| ()).1, "nothing was signalled that brings another");
    let offered_again = |sender: &mut Sender| sender.says(Side::Telephone, "one", OFFER);
    wrong(change(offered_again).1, "nothing was signalled that brings another");
    let new_call = |sender: &mut Sender| {
        sender.streams.signalled(Side::Switch, "BYE sip:x SIP/2.0\r\nCall-ID: one\r\n\r\n");
        sender.says(Side::Telephone, "two", OFFER);
        sender.audio(false).unwrap();
        sender.says(Side::Switch, "two", ANSWER);
    };
    let (mut sender, changed) = change(new_call);
    changed.unwrap();
    sender.ssrc = 0xab;
    wrong(sender.audio(true), "SSRC 000000ab was given up before");
    let other_port = |sender: &mut Sender| {
        sender.says(Side::Telephone, "two", OFFER);
        sender.says(Side::Switch, "two", &ANSWER.replace("16400", "16402"));
    };
    wrong(change(other_port).1, "nothing was signalled that brings another");
    let keys = |sender: &mut Sender| {
        let with = format!("{ANSWER}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n");
        sender.says(Side::Switch, "one", &with);
    };
    change(keys).1.unwrap();

    let both = "m=audio 4000 RTP/AVP 0 107\r\na=rtpmap:107 opus/48000/2\r\n";
    let described = |sender: &mut Sender| {
        sender.says(Side::Telephone, "one", both);
        sender.says(Side::Switch, "one", &both.replace("4000", "16400"));
    };
    let mut sender = Sender::talking();
    described(&mut sender);
    wrong(sender.of(107, false, &[9 << 3, 1], 960), "has a clock of 48000 Hz");
    let mut sender = Sender::talking();
    described(&mut sender);
    sender.ssrc = 0xcd;
    sender.of(107, true, &[9 << 3, 1], 960).unwrap();
}

#[test]
fn what_is_read_late_may_be_of_another_ssrc_and_is_right_otherwise() {
    let late = || {
        let mut sender = Sender::talking();
        sender.event(0, true, false, 160).unwrap();
        sender.streams.read_late();
        sender.ssrc = 0xcd;
        sender.audio(true).unwrap();
        sender
    };
    late().audio(false).unwrap();
    let mut sender = late();
    sender.ssrc = 0xab;
    wrong(sender.audio(true), "SSRC 000000ab was given up before");
    let mut sender = late();
    sender.skip(320);
    wrong(sender.audio(false), "a marker is expected");
    wrong(late().of(8, false, &[0xd5; 160], 160), "payload type 8 is none");
    // What comes to another socket then is read as it comes.
    let mut sender = Sender::talking();
    sender.streams.read_late();
    sender.streams.moved();
    sender.ssrc = 0xcd;
    wrong(sender.audio(true), "nothing was signalled");
}

#[test]
fn with_other_keys_an_event_is_ended_first_and_payloads_are_read_once_decrypted() {
    for ends in [0, 2, 3] {
        let mut sender = Sender::talking();
        sender.event(0, true, false, 160).unwrap();
        let with = format!("{ANSWER}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n");
        sender.says(Side::Switch, "one", &with);
        sender.streams.come_decrypted();
        for packet in 1..=ends {
            sender.event(packet, false, true, 320).unwrap();
        }
        sender.ssrc = 0xcd;
        let begun = sender.audio(true);
        if ends < 3 {
            wrong(begun, &format!("after {ends} of 3 ends"));
            continue;
        }
        begun.unwrap();
        sender.skip(80);
        wrong(sender.audio(true), "multiples of 160");
    }
}

#[test]
fn a_stream_begins_with_a_marker_unless_it_was_under_way() {
    wrong(Sender::new().audio(false), "the first packet of a stream bears a marker");
    let mut sender = Sender::new();
    sender.streams.allow_joining();
    sender.audio(false).unwrap();
    // What began it may have found no room, or have gone to another socket.
    let mut sender = Sender::new();
    sender.dropped = 1;
    sender.audio(false).unwrap();
    let mut sender = Sender::new();
    sender.streams.moved();
    sender.audio(false).unwrap();
    // From a port that nobody has named it may be somebody else's, but not if it is named then.
    let mut sender = Sender::new();
    sender.from.set_port(16_402);
    sender.audio(false).unwrap();
    sender.of(8, false, &[0xd5; 160], 160).unwrap();
    sender.says(Side::Switch, "one", &ANSWER.replace("16400", "16402"));
    wrong(sender.audio(false), "was under way when its first packet came");
    // At another socket it goes on where it was, whatever was missed.
    let mut sender = Sender::talking();
    sender.streams.moved();
    sender.sequence = sender.sequence.wrapping_add(40);
    sender.skip(40 * 160);
    sender.audio(false).unwrap();
    sender.sequence = sender.sequence.wrapping_add(1);
    sender.skip(160);
    wrong(sender.audio(false), "1 before this one");
}

#[test]
fn an_event_has_one_time_one_marker_rising_durations_and_three_ends() {
    let begun = || {
        let mut sender = Sender::talking();
        sender.event(0, true, false, 160).unwrap();
        sender.event(1, false, false, 320).unwrap();
        sender
    };
    wrong(Sender::talking().event(0, false, false, 160), "first packet of an event bears a marker");
    wrong(begun().event(2, true, false, 480), "no marker is expected");
    wrong(begun().event(0, true, false, 160), "is under way and has no end");
    wrong(begun().event(2, false, false, 160), "a duration of 320 or more");
    wrong(begun().audio(false), "0 of 3 ends");
    let mut sender = begun();
    sender.event(2, false, true, 480).unwrap();
    sender.event(3, false, true, 480).unwrap();
    wrong(sender.audio(false), "2 of 3 ends");
    let ended = || {
        let mut sender = begun();
        for packet in 2..5 {
            sender.event(packet, false, true, 480).unwrap();
        }
        sender
    };
    ended().audio(false).unwrap();
    wrong(ended().event(5, false, true, 480), "its end was said three times");
    let mut sender = begun();
    sender.event(2, false, true, 480).unwrap();
    wrong(sender.event(3, false, true, 640), "nothing but its end, with 480");
    // The next key may cut the repetitions short.
    let mut sender = begun();
    sender.event(2, false, true, 480).unwrap();
    sender.event(0, true, false, 160).unwrap();
    let began = sender.timestamp.wrapping_sub(160);
    wrong(sender.send(101, false, began, &[6, 10, 1, 64]), "the same event is expected");
    wrong(Sender::talking().send(101, true, 0, &[5, 10, 1]), "4 bytes of an event");
    let at = Sender::talking().timestamp;
    wrong(Sender::talking().send(101, true, at, &[17, 10, 0, 160]), "a key is expected");
    // A long one goes on in another segment.
    let mut sender = Sender::talking();
    let at = sender.timestamp;
    sender.send(101, true, at, &[5, 10, 0xff, 0xff]).unwrap();
    sender.send(101, false, at.wrapping_add(0xffff), &[5, 10, 0, 160]).unwrap();
}
