//! Codecs without a payload type of their own in offers and answers.

use crate::sdp::Direction;
use crate::sdp::LocalMedia;
use crate::sdp::negotiate::accept;
use crate::sdp::negotiate::answer;
use crate::sdp::parse::parse;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::MediaPlan;
use crate::sdp::plan::SrtpTerms;
use crate::sdp::write::offer;
use crate::types::codec::Codec;
use crate::types::codec::OpusTerms;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

fn caps(codecs: &[Codec]) -> Capabilities {
    Capabilities {
        codecs: codecs.to_vec(),
        order: AnswerOrder::Remote,
        dtmf: PayloadType::new(101),
        dtmf_flash: false,
        ptime: Ptime::MS_20,
        ptime_max: Ptime::from_ms(60).unwrap(),
        rtcp_mux: false,
        asks_metrics: false,
        single_codec: true,
        annex_b: false,
        srtp: SrtpTerms::default(),
    }
}

fn local() -> LocalMedia {
    LocalMedia {
        address: "198.51.100.7".parse().unwrap(),
        rtp_port: 16_400,
        rtcp_port: 16_401,
        session_id: 77,
        version: 3,
        direction: Direction::SendReceive,
    }
}

fn body(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
}

/// The media part of our answer, and the plan.
fn answered(media: &str, caps: &Capabilities) -> (String, MediaPlan) {
    let offered = parse(body(media).as_bytes()).unwrap();
    let (text, plan) = answer(&offered, caps, &local()).unwrap();
    (media_of(text), plan)
}

fn media_of(text: Vec<u8>) -> String {
    let text = String::from_utf8(text).unwrap().replace("\r\n", "\n");
    format!("m={}", text.split_once("m=").unwrap().1)
}

fn kind(value: u8) -> Option<PayloadType> {
    PayloadType::new(value)
}

const BROWSER: &str = "m=audio 4000 RTP/AVP 107 0 126 110\r\na=rtpmap:107 opus/48000/2\r\n\
     a=fmtp:107 minptime=10;useinbandfec=1;maxaveragebitrate=20000\r\n\
     a=rtpmap:126 telephone-event/8000\r\na=rtpmap:110 telephone-event/48000\r\n";

#[test]
fn opus_is_answered_under_the_number_of_its_offer_with_keys_at_its_clock() {
    let (text, plan) = answered(BROWSER, &caps(&[Codec::Pcmu, Codec::Opus]));
    assert_eq!(
        text,
        "m=audio 16400 RTP/AVP 107 110\na=rtpmap:107 opus/48000/2\n\
         a=fmtp:107 maxplaybackrate=16000;sprop-maxcapturerate=16000;stereo=0;useinbandfec=1\n\
         a=rtpmap:110 telephone-event/48000\na=fmtp:110 0-15\na=ptime:20\na=maxptime:60\n\
         a=sendrecv\n"
    );
    assert_eq!((plan.codec, plan.dtmf_clock), (Codec::Opus, 48_000));
    assert_eq!((Some(plan.send_payload_type), plan.dtmf_send), (kind(107), kind(110)));
    let opus = OpusTerms { fec: true, bitrate_max: 20_000, ..OpusTerms::default() };
    assert_eq!(plan.opus, opus);
    // Who wants G.711 first has it, with its own keys.
    let local_order =
        Capabilities { order: AnswerOrder::Local, ..caps(&[Codec::Pcmu, Codec::Opus]) };
    let (_, plan) = answered(BROWSER, &local_order);
    assert_eq!((plan.codec, plan.dtmf_send, plan.dtmf_clock), (Codec::Pcmu, kind(126), 8_000));
    assert_eq!(plan.opus, OpusTerms::default());
}

#[test]
fn keys_at_8_khz_do_beside_any_codec() {
    let media = "m=audio 4000 RTP/AVP 96 101\r\na=rtpmap:96 opus/48000/2\r\n\
                 a=rtpmap:101 telephone-event/8000\r\n";
    let (text, plan) = answered(media, &caps(&[Codec::Opus]));
    assert!(text.contains("a=rtpmap:101 telephone-event/8000\n"), "{text}");
    assert_eq!((plan.dtmf_send, plan.dtmf_clock), (kind(101), 8_000));
}

#[test]
fn linear_audio_is_told_apart_by_its_rate() {
    let media = "m=audio 4000 RTP/AVP 96 97 98\r\na=rtpmap:96 L16/44100/2\r\n\
                 a=rtpmap:97 L16/8000\r\na=rtpmap:98 L16/16000/1\r\n";
    let both = [Codec::L16Wide, Codec::L16];
    assert_eq!(answered(media, &caps(&both)).1.codec, Codec::L16);
    assert_eq!(answered(media, &caps(&both[..1])).1.codec, Codec::L16Wide);
    // 10 and 11 are linear audio at 44.1 kHz, which we do not have; 111 alone is nothing.
    let fixed = parse(body("m=audio 4000 RTP/AVP 10 11 111\r\n").as_bytes()).unwrap();
    assert!(answer(&fixed, &caps(&Codec::ALL), &local()).is_err());
}

#[test]
fn a_packet_is_no_longer_than_the_codec_has_it() {
    for (codec, asked, sent) in [
        (Codec::Opus, 30, 20),
        (Codec::Opus, 60, 60),
        (Codec::L16Wide, 60, 40),
        (Codec::L16, 60, 60),
        (Codec::Pcmu, 30, 30),
    ] {
        let number = codec.payload_type();
        let (name, rate) = (codec.encoding_name(), codec.clock_rate());
        let channels = codec.channels();
        let media = format!(
            "m=audio 4000 RTP/AVP {number}\r\na=rtpmap:{number} {name}/{rate}/{channels}\r\n\
             a=ptime:{asked}\r\n"
        );
        assert_eq!(answered(&media, &caps(&[codec])).1.ptime.ms(), sent, "{codec}");
    }
}

#[test]
fn our_offer_has_keys_for_each_clock_and_no_number_twice() {
    let caps = caps(&Codec::ALL);
    let text = media_of(offer(&caps, &local()));
    assert_eq!(
        text,
        "m=audio 16400 RTP/AVP 0 8 9 111 113 114 18 101 127 126\na=rtpmap:0 PCMU/8000\n\
         a=rtpmap:8 PCMA/8000\na=rtpmap:9 G722/8000\na=rtpmap:111 opus/48000/2\n\
         a=fmtp:111 maxplaybackrate=16000;sprop-maxcapturerate=16000;stereo=0;useinbandfec=1\n\
         a=rtpmap:113 L16/16000\na=rtpmap:114 L16/8000\na=rtpmap:18 G729/8000\n\
         a=fmtp:18 annexb=no\na=rtpmap:101 telephone-event/8000\n\
         a=fmtp:101 0-15\na=rtpmap:127 telephone-event/48000\na=fmtp:127 0-15\n\
         a=rtpmap:126 telephone-event/16000\na=fmtp:126 0-15\na=ptime:20\na=maxptime:60\n\
         a=sendrecv\n"
    );
    // A trunk may have its keys where we have a codec.
    for taken in [111, 113, 127] {
        let caps = Capabilities { dtmf: kind(taken), ..caps.clone() };
        let text = media_of(offer(&caps, &local()));
        let line = text.lines().next().unwrap();
        let mut numbers: Vec<_> = line.split(' ').skip(3).collect();
        assert_eq!(numbers.len(), 10);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 10, "{line}");
    }
}

#[test]
fn an_answer_may_call_our_codecs_and_keys_by_other_numbers() {
    let caps = caps(&[Codec::Pcmu, Codec::Opus]);
    let answer = "m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\n\
                  a=rtpmap:97 telephone-event/48000\r\n";
    let plan = accept(&parse(body(answer).as_bytes()).unwrap(), &caps).unwrap();
    assert_eq!((Some(plan.send_payload_type), plan.dtmf_send), (kind(96), kind(97)));
    assert_eq!((Some(plan.receive_payload_type), plan.dtmf_receive), (kind(111), kind(127)));
    assert_eq!(plan.receive_also.map(|(_, codec)| codec), Some(Codec::Pcmu));
}

#[test]
fn frames_of_noise_are_among_those_of_g729_where_both_sides_allow_them() {
    let with = |annex_b| Capabilities { annex_b, ..caps(&[Codec::G729, Codec::Pcmu]) };
    for (line, ours, agreed) in [
        ("a=fmtp:18 annexb=no\r\n", true, false),
        ("a=fmtp:18 AnnexB = No\r\n", true, false),
        ("a=fmtp:18 annexb=yes\r\n", true, true),
        // What is left out means yes (RFC 4856 §2.1.9).
        ("", true, true),
        ("a=fmtp:18 x=1;annexb=no\r\n", true, false),
        ("", false, false),
    ] {
        let media =
            format!("m=audio 4000 RTP/AVP 18 101 0\r\n{line}a=rtpmap:101 telephone-event/8000\r\n");
        let (text, plan) = answered(&media, &with(ours));
        assert_eq!((plan.codec, plan.annex_b), (Codec::G729, agreed), "{line}");
        let said = if agreed { "yes" } else { "no" };
        let start = format!(
            "m=audio 16400 RTP/AVP 18 101\na=rtpmap:18 G729/8000\na=fmtp:18 annexb={said}\n"
        );
        assert!(text.starts_with(&start), "{text}");
    }
    // Nobody goes from it to another codec without signalling: the other leg would have to follow.
    let several = Capabilities { single_codec: false, ..with(true) };
    let (text, plan) = answered("m=audio 4000 RTP/AVP 18 0\r\n", &several);
    assert_eq!(plan.receive_also, None);
    assert!(text.starts_with("m=audio 16400 RTP/AVP 18\n"), "{text}");
    let answer = "m=audio 4000 RTP/AVP 18 0\r\na=fmtp:18 annexb=yes\r\n";
    for ours in [true, false] {
        let plan = accept(&parse(body(answer).as_bytes()).unwrap(), &with(ours)).unwrap();
        assert_eq!((plan.codec, plan.annex_b, plan.receive_also), (Codec::G729, ours, None));
    }
}
