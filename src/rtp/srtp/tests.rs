//! SRTP streams of two ends that talk, and of one that forges.

use super::*;
use crate::types::random::Random;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;

const NOW: Moment = Moment::START;

fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    SrtpKey::generate(suite, &[seed; SRTP_KEY_BYTES_MAX])
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: &u8| (*digit as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| value(&pair[0]) << 4 | value(&pair[1])).collect()
}

/// An RTP packet with 160 bytes of audio.
fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([sequence as u8; 160]);
    bytes
}

/// A receiver report with nothing in it.
fn report(ssrc: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 201, 0, 1];
    bytes.extend(ssrc.to_be_bytes());
    bytes
}

fn pair(suite: SrtpSuite) -> (SrtpSender, SrtpReceiver) {
    let key = key(suite, 1);
    (SrtpSender::new(&key).unwrap(), SrtpReceiver::new(&key).unwrap())
}

fn streams(receiver: &SrtpReceiver) -> Vec<(u32, u64)> {
    receiver.current.streams.iter().map(|stream| (stream.ssrc, stream.index)).collect()
}

/// The master key and salt of RFC 3711 §B.3 with packets that libsrtp protects with them.
#[test]
fn packets_look_as_those_of_libsrtp() {
    let rtp = hex("800f1234decafbadcafebabe abababababababababababababababab");
    let rtcp = hex("81c8000bcafebabe abababababababababababababababab");
    let cm = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let gcm = hex("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    for (suite, key, srtp, srtcp) in [
        (
            SrtpSuite::AesCm128HmacSha1_80,
            &cm,
            "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb",
            "81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798",
        ),
        (
            SrtpSuite::AesCm128HmacSha1_32,
            &cm,
            "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc",
            "81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798",
        ),
        (
            SrtpSuite::AeadAes128Gcm,
            &gcm,
            "800f1234decafbadcafebabe c5002ede04cfdd2eb91159e0880aa06e \
             d2976826f796b201df3131a127e8a392",
            "81c8000bcafebabe c98b8b5df0392a55852b6c21ac8e7025 \
             c52c6fbea2b3b446ea31123ba88ce61e 80000001",
        ),
    ] {
        let key = SrtpKey::new(suite, key).unwrap();
        let (mut sender, mut receiver) =
            (SrtpSender::new(&key).unwrap(), SrtpReceiver::new(&key).unwrap());
        let protected = sender.rtp(&rtp).unwrap();
        assert_eq!(protected, hex(srtp), "{suite}");
        assert_eq!(protected.len(), rtp.len() + suite.rtp_overhead());
        assert_eq!(receiver.rtp(NOW, &protected).unwrap(), rtp);
        let protected = sender.rtcp(&rtcp).unwrap();
        assert_eq!(protected, hex(srtcp), "{suite}");
        assert_eq!(protected.len(), rtcp.len() + suite.rtcp_overhead());
        assert_eq!(receiver.rtcp(NOW, &protected).unwrap(), rtcp);
    }
}

/// RFC 3711 §B.3: the authentication key that follows from that master key.
#[test]
fn the_tag_is_made_with_the_derived_key_of_the_rfc() {
    let master = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let derived = hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4");
    let key = SrtpKey::new(SrtpSuite::AesCm128HmacSha1_80, &master).unwrap();
    let protected = SrtpSender::new(&key).unwrap().rtp(&packet(7, 1)).unwrap();
    let (body, tag) = protected.split_at(protected.len() - 10);
    let algorithm = aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let hmac = aws_lc_rs::hmac::Key::new(algorithm, &derived);
    let expected = aws_lc_rs::hmac::sign(&hmac, &[body, &[0; 4]].concat());
    assert_eq!(tag, &expected.as_ref()[..10]);
}

#[test]
fn what_was_changed_on_its_way_is_refused_and_changes_nothing() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let protected = sender.rtp(&packet(7, 100)).unwrap();
        for bit in 0..protected.len() * 8 {
            let mut bad = protected.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.rtp(NOW, &bad).is_err(), "{suite} bit {bit}");
        }
        for length in 0..protected.len() {
            assert!(receiver.rtp(NOW, &protected[..length]).is_err(), "{suite} {length} bytes");
        }
        assert!(streams(&receiver).is_empty());
        // Among the bad ones were some of this stream with a number far ahead.
        assert_eq!(receiver.rtp(NOW, &protected).unwrap(), packet(7, 100));

        let protected = sender.rtcp(&report(7)).unwrap();
        for bit in 0..protected.len() * 8 {
            let mut bad = protected.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.rtcp(NOW, &bad).is_err(), "{suite} bit {bit}");
        }
        for length in 0..protected.len() {
            assert!(receiver.rtcp(NOW, &protected[..length]).is_err(), "{suite} {length} bytes");
        }
        assert_eq!(receiver.rtcp(NOW, &protected).unwrap(), report(7));
    }
}

/// rtc-srtp 0.21 takes an SRTCP packet without the flag of encryption for authentic, whatever its tag.
#[test]
fn a_report_that_says_it_is_not_encrypted_is_refused() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        assert!(receiver.rtcp(NOW, &sender.rtcp(&report(7)).unwrap()).is_ok());
        for ssrc in [7, 8] {
            let mut forged = report(ssrc);
            forged.resize(forged.len() + suite.rtcp_overhead(), 0);
            assert_eq!(receiver.rtcp(NOW, &forged), Err(SrtpError::Refused), "{suite}");
        }
    }
}

#[test]
fn another_key_is_refused() {
    for suite in SrtpSuite::ALL {
        let mut sender = SrtpSender::new(&key(suite, 2)).unwrap();
        let mut receiver = SrtpReceiver::new(&key(suite, 1)).unwrap();
        let refused = Err(SrtpError::Refused);
        assert_eq!(receiver.rtp(NOW, &sender.rtp(&packet(7, 1)).unwrap()), refused, "{suite}");
        assert_eq!(receiver.rtcp(NOW, &sender.rtcp(&report(7)).unwrap()), refused, "{suite}");
        assert!(receiver.rtp(NOW, &packet(7, 1)).is_err(), "plain RTP");
    }
}

#[test]
fn a_packet_is_believed_once() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let sent: Vec<BytesMut> =
            (0..200).map(|n| sender.rtp(&packet(7, 65_436_u16.wrapping_add(n))).unwrap()).collect();
        for at in [0, 2, 1, 199, 150, 100] {
            assert!(receiver.rtp(NOW, &sent[at]).is_ok(), "{suite} {at}");
        }
        for at in [0, 2, 1, 199, 150, 100, 60] {
            assert_eq!(receiver.rtp(NOW, &sent[at]), Err(SrtpError::Replayed), "{suite} {at}");
        }
        let reports: Vec<BytesMut> = (0..3).map(|_| sender.rtcp(&report(7)).unwrap()).collect();
        for (at, fine) in [(1, true), (0, true), (1, false), (2, true), (0, false)] {
            assert_eq!(receiver.rtcp(NOW, &reports[at]).is_ok(), fine, "{suite} {at}");
        }
    }
}

#[test]
fn the_counter_rolls_over_in_disorder_and_over_losses() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let send =
            |sender: &mut SrtpSender, index: u32| sender.rtp(&packet(7, index as u16)).unwrap();
        // In order to the sender; by steps of up to a third of a rollover.
        let indices = [65_000, 65_534, 65_535, 65_536, 65_537, 86_000, 107_000, 131_071, 131_073];
        let mut sent: Vec<_> =
            indices.iter().map(|index| (*index, send(&mut sender, *index))).collect();
        sent.swap(2, 3);
        sent.swap(7, 8);
        for (index, protected) in &sent {
            let plain = receiver.rtp(NOW, protected);
            assert_eq!(plain.as_deref(), Ok(&packet(7, *index as u16)[..]), "{suite} {index}");
        }
        assert_eq!(streams(&receiver), [(7, 131_073)]);
    }
}

#[test]
fn the_same_keys_again_change_nothing() {
    for suite in SrtpSuite::ALL {
        let (ours, theirs) = (key(suite, 1), key(suite, 2));
        let mut here = Srtp::new(&ours, &theirs).unwrap();
        let mut there = Srtp::new(&theirs, &ours).unwrap();
        let mut replay = None;
        for index in (10_000_u32..300_000).step_by(20_000) {
            for side in [&mut here, &mut there] {
                let keys = if side.send.key == ours { (&ours, &theirs) } else { (&theirs, &ours) };
                assert_eq!(side.update(NOW, keys.0, keys.1), Ok(false));
            }
            let protected = here.send.rtp(&packet(7, index as u16)).unwrap();
            assert!(there.receive.rtp(NOW, &protected).is_ok(), "{suite} {index}");
            replay = Some(protected);
        }
        assert_eq!(here.update(NOW, &ours, &theirs), Ok(false));
        assert_eq!(there.update(NOW, &theirs, &ours), Ok(false));
        let again = there.receive.rtp(NOW, &replay.unwrap());
        assert_eq!(again, Err(SrtpError::Replayed), "the window is kept too");
        assert!(there.receive.before.is_none());
    }
}

/// A sender and a receiver whose stream 7 has rolled over twice, and a new key.
fn rolled_over(suite: SrtpSuite) -> (SrtpSender, SrtpReceiver, SrtpKey) {
    let (mut sender, mut receiver) = pair(suite);
    for index in (0_u32..=140_000).step_by(20_000) {
        receiver.rtp(NOW, &sender.rtp(&packet(7, index as u16)).unwrap()).unwrap();
    }
    (sender, receiver, key(suite, 9))
}

#[test]
fn with_a_new_key_the_counter_may_begin_anew() {
    for suite in SrtpSuite::ALL {
        let (_, mut receiver, new_key) = rolled_over(suite);
        receiver.update(NOW, &new_key).unwrap();
        let mut sender = SrtpSender::new(&new_key).unwrap();
        for n in 0..5 {
            let plain = receiver.rtp(NOW, &sender.rtp(&packet(7, 8_929 + n)).unwrap());
            assert_eq!(plain.unwrap(), packet(7, 8_929 + n), "{suite}");
        }
        assert_eq!(streams(&receiver), [(7, 8_933)]);
    }
}

#[test]
fn with_a_new_key_the_counter_may_go_on() {
    for suite in SrtpSuite::ALL {
        // Just behind where the old key ended, and so far on that the next rollover lies between.
        for next in [140_001_u64, 140_000 + 30_000, 196_609] {
            let (_, mut receiver, new_key) = rolled_over(suite);
            receiver.update(NOW, &new_key).unwrap();
            let mut sender = SrtpSender::new(&new_key).unwrap();
            let stream = Stream { ssrc: 7, index: next };
            if next - 140_000 >= 1 << 15 {
                let between = Stream { ssrc: 7, index: 165_000 };
                advance_sender(&mut sender, between);
                let protected = sender.rtp(&packet(7, 165_000_u32 as u16)).unwrap();
                assert!(receiver.rtp(NOW, &protected).is_ok());
            } else {
                advance_sender(&mut sender, stream);
            }
            for n in 0..5 {
                let sequence = (next + n) as u16;
                let protected = sender.rtp(&packet(7, sequence)).unwrap();
                let plain = receiver.rtp(NOW, &protected);
                assert_eq!(plain.unwrap(), packet(7, sequence), "{suite} {next}");
                assert_eq!(receiver.rtp(NOW, &protected), Err(SrtpError::Replayed));
            }
        }
    }
}

/// Brings a sender to a stream's index, as if it had sent all before it.
fn advance_sender(sender: &mut SrtpSender, stream: Stream) {
    for index in (0..stream.index).step_by(30_000).chain([stream.index - 1]) {
        sender.rtp(&packet(stream.ssrc, index as u16)).unwrap();
    }
}

#[test]
fn packets_under_the_key_before_are_believed_for_a_short_time() {
    for suite in SrtpSuite::ALL {
        let (mut before, mut receiver, new_key) = rolled_over(suite);
        let late: Vec<BytesMut> =
            (0..3).map(|n| before.rtp(&packet(7, 8_930 + n)).unwrap()).collect();
        let late_report = before.rtcp(&report(7)).unwrap();
        receiver.update(NOW, &new_key).unwrap();
        let mut sender = SrtpSender::new(&new_key).unwrap();
        assert!(receiver.rtp(NOW, &sender.rtp(&packet(7, 8_940)).unwrap()).is_ok());
        assert_eq!(receiver.rtp(NOW, &late[0]).unwrap(), packet(7, 8_930), "{suite}");
        assert!(receiver.rtp(NOW, &late[0]).is_err(), "but once");
        assert!(receiver.rtcp(NOW, &late_report).is_ok());
        assert!(receiver.rtcp(NOW, &sender.rtcp(&report(7)).unwrap()).is_ok());
        let soon = NOW + OVERLAP - Duration::from_millis(1);
        assert!(receiver.rtp(soon, &late[1]).is_ok());
        assert_eq!(receiver.rtp(NOW + OVERLAP, &late[2]), Err(SrtpError::Refused));
        assert!(receiver.before.is_none());
        assert!(receiver.rtp(NOW + OVERLAP, &sender.rtp(&packet(7, 8_941)).unwrap()).is_ok());
    }
}

#[test]
fn a_new_key_of_ours_is_told() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut protection = Protection::default();
    let gcm = SrtpSuite::AeadAes128Gcm;
    assert_eq!(protection.suite(), None);
    assert!(!protection.update(NOW, Some((&key(suite, 1), &key(suite, 2)))), "the first one");
    assert!(!protection.update(NOW, Some((&key(suite, 1), &key(suite, 3)))), "theirs is new");
    assert!(protection.update(NOW, Some((&key(gcm, 1), &key(gcm, 3)))));
    assert_eq!(protection.suite(), Some(gcm));
    assert!(!protection.update(NOW, None));
    assert_eq!(protection.suite(), None);
}

#[test]
fn a_stream_may_change_its_ssrc_and_strangers_leave_no_trace() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let mut stranger = SrtpSender::new(&key(suite, 8)).unwrap();
        for n in 0..100 {
            let bad = stranger.rtp(&packet(1_000 + n, 1)).unwrap();
            assert_eq!(receiver.rtp(NOW, &bad), Err(SrtpError::Refused));
            let bad = stranger.rtcp(&report(1_000 + n)).unwrap();
            assert_eq!(receiver.rtcp(NOW, &bad), Err(SrtpError::Refused));
            let tried = receiver.current.strangers.as_ref().map_or(0, |(_, tried)| *tried);
            assert!(tried < SRTP_STRANGERS_MAX);
        }
        assert!(streams(&receiver).is_empty() && receiver.current.reporters.is_empty());
        for ssrc in 0..40 {
            let fits = (ssrc as usize) < SRTP_STREAMS_MAX;
            let protected = sender.rtp(&packet(ssrc, 5)).unwrap();
            assert!(receiver.rtp(NOW, &protected).is_ok(), "{suite} {ssrc}");
            let protected = sender.rtcp(&report(ssrc)).unwrap();
            assert_eq!(receiver.rtcp(NOW, &protected).is_ok(), fits, "{suite} {ssrc}");
        }
        assert_eq!(streams(&receiver).len(), SRTP_STREAMS_MAX);
        let replayed = sender.rtp(&packet(3, 6)).unwrap();
        assert!(receiver.rtp(NOW, &replayed).is_ok());
        assert_eq!(receiver.rtp(NOW, &replayed), Err(SrtpError::Replayed));
    }
}

#[test]
fn a_peer_that_begins_anew_often_is_heard_and_nothing_of_before_is_taken_again() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let mut heard = Vec::new();
        let mut say = |receiver: &mut SrtpReceiver, ssrc, sequence| {
            let protected = sender.rtp(&packet(ssrc, sequence)).unwrap();
            assert!(receiver.rtp(NOW, &protected).is_ok(), "{suite} {ssrc} {sequence}");
            heard.push(protected);
        };
        // One goes on all the time, over a rollover of its counter; one comes back at the end.
        for sequence in [40_000, 60_000, 10] {
            say(&mut receiver, 1, sequence);
        }
        say(&mut receiver, 2, 5);
        for other in 0..60_u16 {
            say(&mut receiver, 1, 11 + other);
            say(&mut receiver, 100 + u32::from(other), 7);
            assert!(receiver.current.streams.len() <= SRTP_STREAMS_MAX);
        }
        assert!(streams(&receiver).contains(&(1, (1 << 16) + 70)), "{receiver:?}");
        assert!(!streams(&receiver).iter().any(|(ssrc, _)| *ssrc == 2), "{receiver:?}");
        say(&mut receiver, 2, 6);
        for (place, protected) in heard.iter().enumerate() {
            assert!(receiver.rtp(NOW, protected).is_err(), "{suite} {place}");
        }
        // There is an end to it, and who is there already is heard on.
        let mut refused = 0;
        for other in 0..100_u32 {
            let protected = sender.rtp(&packet(1_000 + other, 7)).unwrap();
            refused += u32::from(receiver.rtp(NOW, &protected).is_err());
        }
        assert!(refused > 0 && receiver.current.retired.len() <= SRTP_RETIRED_MAX);
        let last = streams(&receiver).last().copied().unwrap();
        let protected = sender.rtp(&packet(last.0, last.1 as u16 + 1)).unwrap();
        assert!(receiver.rtp(NOW, &protected).is_ok(), "{suite}");
    }
}

#[test]
fn the_first_packet_of_a_stream_cannot_be_replayed() {
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let first = sender.rtp(&packet(7, 5)).unwrap();
        let first_report = sender.rtcp(&report(7)).unwrap();
        assert!(receiver.rtp(NOW, &first).is_ok());
        assert!(receiver.rtcp(NOW, &first_report).is_ok());
        assert_eq!(receiver.rtp(NOW, &first), Err(SrtpError::Replayed), "{suite}");
        assert_eq!(receiver.rtcp(NOW, &first_report), Err(SrtpError::Replayed), "{suite}");
    }
}

#[test]
fn packets_bear_the_identifier_of_their_key() {
    for suite in SrtpSuite::ALL {
        for (value, length) in [(1, 1), (0x0102_0304, 4), (7, 32)] {
            let mut marked = key(suite, 1);
            marked.mki = Some(Mki { value, length });
            let mut sender = SrtpSender::new(&marked).unwrap();
            let mut receiver = SrtpReceiver::new(&marked).unwrap();
            let mut plain = SrtpSender::new(&key(suite, 1)).unwrap();
            let protected = sender.rtp(&packet(7, 1)).unwrap();
            let unmarked = plain.rtp(&packet(7, 1)).unwrap();
            assert_eq!(protected.len(), unmarked.len() + usize::from(length));
            assert!(receiver.rtp(NOW, &unmarked).is_err(), "{suite} names no key");
            assert_eq!(receiver.rtp(NOW, &protected).unwrap(), packet(7, 1), "{suite} {length}");
            let protected = sender.rtcp(&report(7)).unwrap();
            assert_eq!(receiver.rtcp(NOW, &protected).unwrap(), report(7), "{suite} {length}");
            let mut other = protected.to_vec();
            let at = other.len() - suite.rtcp_tag_after_mki() - 1;
            other[at] ^= 1;
            assert_eq!(receiver.rtcp(NOW, &other), Err(SrtpError::Refused));
        }
    }
}

/// RFC 3711 figure 1: the identifier stands before the tag; RFC 7714 §8.3: behind it.
#[test]
fn the_identifier_stands_where_the_rfcs_have_it() {
    for (suite, from_end) in [(SrtpSuite::AesCm128HmacSha1_80, 10), (SrtpSuite::AeadAes128Gcm, 0)] {
        let mut marked = key(suite, 1);
        marked.mki = Some(Mki { value: 0xabcd, length: 2 });
        let protected = SrtpSender::new(&marked).unwrap().rtp(&packet(7, 1)).unwrap();
        let end = protected.len() - from_end;
        assert_eq!(protected[end - 2..end], [0xab, 0xcd], "{suite}");
    }
}

#[test]
fn a_key_lives_as_long_as_its_owner_said() {
    for suite in SrtpSuite::ALL {
        let mut short = key(suite, 1);
        short.lifetime = Some(3);
        let (mut sender, mut lasting) =
            (SrtpSender::new(&short).unwrap(), SrtpSender::new(&key(suite, 1)).unwrap());
        let mut receiver = SrtpReceiver::new(&short).unwrap();
        for n in 0..3 {
            assert!(sender.rtp(&packet(7, n)).is_ok());
            assert!(receiver.rtp(NOW, &lasting.rtp(&packet(7, n)).unwrap()).is_ok());
        }
        assert_eq!(sender.rtp(&packet(7, 3)), Err(SrtpError::Expired), "{suite}");
        let more = lasting.rtp(&packet(7, 3)).unwrap();
        assert_eq!(receiver.rtp(NOW, &more), Err(SrtpError::Expired), "{suite}");
        assert!(sender.rtcp(&report(7)).is_ok(), "reports have a bound of their own");
        sender.reports = SRTCP_PACKETS_MAX - 2;
        assert!(sender.rtcp(&report(7)).is_ok());
        assert_eq!(sender.rtcp(&report(7)), Err(SrtpError::Expired));
    }
}

#[test]
fn keys_do_not_print() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let shown = format!("{:?}", Srtp::new(&key(suite, 0xab), &key(suite, 0xab)).unwrap());
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
    assert!(shown.contains("AES_CM_128_HMAC_SHA1_80 ***"), "{shown}");
}

#[test]
fn whatever_comes_breaks_nothing() {
    let mut random = Random::from_seed(7);
    for suite in SrtpSuite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let (mut taken, mut next) = (0, 0);
        for _ in 0..3_000 {
            next += 1;
            let mut bytes = match random.below(4) {
                0 => sender.rtcp(&report(7)).unwrap().to_vec(),
                1 => {
                    let mut noise = vec![0; random.below(80) as usize];
                    random.fill(&mut noise);
                    noise
                }
                _ => sender.rtp(&packet(7, next)).unwrap().to_vec(),
            };
            for _ in 0..random.below(3) {
                match random.below(3) {
                    0 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
                    1 => bytes.extend([random.next_u32() as u8; 3]),
                    _ => {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 0x91);
                    }
                }
            }
            taken += u32::from(receiver.rtp(NOW, &bytes).is_ok());
            taken += u32::from(receiver.rtcp(NOW, &bytes).is_ok());
        }
        assert!(taken > 300, "{suite} {taken}");
        assert_eq!(streams(&receiver).len(), 1);
    }
}

#[test]
fn a_stream_without_protection_passes_as_it_is_and_a_broken_one_not_at_all() {
    for layer in [Layer::Rtp, Layer::Rtcp] {
        let bytes = packet(7, 1);
        assert_eq!(Protection::Plain.send(layer, &bytes).as_deref(), Ok(&bytes[..]));
        assert_eq!(Protection::Plain.receive(NOW, layer, &bytes).as_deref(), Ok(&bytes[..]));
        assert_eq!(Protection::Broken.send(layer, &bytes), Err(SrtpError::Unusable));
        assert_eq!(Protection::Broken.receive(NOW, layer, &bytes), Err(SrtpError::Unusable));
    }
}
