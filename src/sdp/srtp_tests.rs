//! SRTP in offers and answers: what each policy makes of them.

use crate::sdp::Direction;
use crate::sdp::LocalMedia;
use crate::sdp::negotiate::accept;
use crate::sdp::negotiate::answer;
use crate::sdp::negotiate::plan;
use crate::sdp::parse::parse;
use crate::sdp::plan::AnswerOrder;
use crate::sdp::plan::Capabilities;
use crate::sdp::plan::MediaCrypto;
use crate::sdp::plan::NegotiationError;
use crate::sdp::plan::NegotiationError as E;
use crate::sdp::plan::SrtpTerms;
use crate::sdp::write::is_revision;
use crate::sdp::write::offer;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::srtp::Mki;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use std::sync::Arc;

const CM_80: SrtpSuite = SrtpSuite::AesCm128HmacSha1_80;
const CM_32: SrtpSuite = SrtpSuite::AesCm128HmacSha1_32;
const GCM: SrtpSuite = SrtpSuite::AeadAes128Gcm;

/// 30 bytes of `w`, 28 of `g`.
const KEY: &str = "d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3";
const GCM_KEY: &str = "Z2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZ2dnZw==";

fn caps(policy: SrtpPolicy, suites: &[SrtpSuite]) -> Capabilities {
    let key = |suite: &SrtpSuite| SrtpKey::generate(*suite, &[0x11; SRTP_KEY_BYTES_MAX]);
    Capabilities {
        codecs: vec![Codec::Pcmu],
        order: AnswerOrder::Remote,
        dtmf: PayloadType::new(101),
        dtmf_flash: false,
        ptime: Ptime::MS_20,
        ptime_max: Ptime::MS_20,
        rtcp_mux: false,
        asks_metrics: false,
        single_codec: true,
        annex_b: false,
        srtp: SrtpTerms { policy, keys: suites.iter().map(key).collect(), exposed: false },
    }
}

fn local() -> LocalMedia {
    LocalMedia {
        address: "198.51.100.7".parse().unwrap(),
        rtp_port: 16400,
        rtcp_port: 16401,
        session_id: 77,
        version: 3,
        direction: Direction::SendReceive,
    }
}

fn body(media: &str) -> Vec<u8> {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
        .into_bytes()
}

/// What is answered: the `m=` lines and `a=crypto` lines, and the suite agreed on.
fn answered(
    media: &str,
    caps: &Capabilities,
) -> Result<(Vec<String>, Option<SrtpSuite>), NegotiationError> {
    let offered = parse(&body(media)).unwrap();
    let (text, agreed) = answer(&offered, caps, &local())?;
    assert_eq!(plan(&offered, caps), Ok(agreed.clone()));
    let text = String::from_utf8(text).unwrap();
    let shown = |line: &&str| line.starts_with("m=") || line.starts_with("a=crypto");
    let lines = text.lines().filter(shown).map(str::to_owned).collect();
    Ok((lines, agreed.crypto.map(|keys| keys.receive.suite())))
}

fn check(media: &str, caps: &Capabilities, lines: &[&str], suite: Option<SrtpSuite>) {
    let (text, agreed) = answered(media, caps).unwrap();
    assert_eq!(text, lines, "{media}");
    assert_eq!(agreed, suite, "{media}");
}

fn refused(media: &str, caps: &Capabilities, why: NegotiationError) {
    assert_eq!(answered(media, caps).unwrap_err(), why, "{media}");
}

const OUR_KEY: &str = "ERERERERERERERERERERERERERERERERERERERER";
const OUR_GCM_KEY: &str = "EREREREREREREREREREREREREREREREREREREQ==";

#[test]
fn the_offer_of_a_secure_twilio_trunk_is_answered_with_its_tag_and_our_key() {
    let offer = format!(
        "m=audio 17564 RTP/SAVP 0 8 101\r\na=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    );
    let ours = caps(SrtpPolicy::Required, &[CM_32, CM_80]);
    let line = format!("a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{OUR_KEY}");
    check(&offer, &ours, &["m=audio 16400 RTP/SAVP 0 101", &line], Some(CM_80));
    let agreed = plan(&parse(&body(&offer)).unwrap(), &ours).unwrap().crypto.unwrap();
    assert_eq!(agreed.receive.expose_both(), [b'w'; 30]);
    assert_eq!(agreed.send.expose_both(), [0x11; 30]);
}

#[test]
fn a_policy_of_off_refuses_srtp_and_takes_best_effort_as_plain() {
    let off = caps(SrtpPolicy::Off, &[CM_80]);
    let keys = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    refused(&format!("m=audio 4000 RTP/SAVP 0\r\n{keys}"), &off, E::SrtpNotAllowed);
    check(&format!("m=audio 4000 RTP/AVP 0\r\n{keys}"), &off, &["m=audio 16400 RTP/AVP 0"], None);
    let both = format!("m=audio 4000 RTP/SAVP 0\r\n{keys}m=audio 4002 RTP/AVP 0\r\n");
    check(&both, &off, &["m=audio 0 RTP/SAVP 0", "m=audio 16400 RTP/AVP 0"], None);
    assert!(!String::from_utf8(offer(&off, &local())).unwrap().contains("crypto"));
}

#[test]
fn an_optional_policy_encrypts_where_the_peer_offers_it() {
    let optional = caps(SrtpPolicy::Optional, &[CM_80, CM_32]);
    let keys = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^20\r\n");
    let ours = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{OUR_KEY}");
    for profile in ["RTP/AVP", "RTP/SAVP", "rtp/savp"] {
        let offer = format!("m=audio 4000 {profile} 0\r\n{keys}");
        let expected = format!("m=audio 16400 {} 0", profile.to_ascii_uppercase());
        check(&offer, &optional, &[&expected, &ours], Some(CM_32));
    }
    check("m=audio 4000 RTP/AVP 0\r\n", &optional, &["m=audio 16400 RTP/AVP 0"], None);
    let unknown = "a=crypto:1 F8_128_HMAC_SHA1_80 inline:x\r\na=crypto\r\na=crypto:1 x y z\r\n";
    let plain = ["m=audio 16400 RTP/AVP 0"];
    check(&format!("m=audio 4000 RTP/AVP 0\r\n{unknown}"), &optional, &plain, None);
    refused(&format!("m=audio 4000 RTP/SAVP 0\r\n{unknown}"), &optional, E::NoCommonSuite);
    refused("m=audio 4000 RTP/SAVP 0\r\n", &optional, E::NoCommonSuite);
}

#[test]
fn of_two_streams_the_encrypted_one_is_taken() {
    let optional = caps(SrtpPolicy::Optional, &[CM_80]);
    let keys = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let ours = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{OUR_KEY}");
    let plain_first = format!("m=audio 4002 RTP/AVP 0\r\nm=audio 4000 RTP/SAVP 0\r\n{keys}");
    let lines = ["m=audio 0 RTP/AVP 0", "m=audio 16400 RTP/SAVP 0", &ours];
    check(&plain_first, &optional, &lines, Some(CM_80));
    let secure_first = format!("m=audio 4000 RTP/SAVP 0\r\n{keys}m=audio 4002 RTP/AVP 0\r\n");
    let lines = ["m=audio 16400 RTP/SAVP 0", &ours, "m=audio 0 RTP/AVP 0"];
    check(&secure_first, &optional, &lines, Some(CM_80));
}

#[test]
fn a_required_policy_refuses_what_is_not_encrypted() {
    let required = caps(SrtpPolicy::Required, &[CM_80]);
    refused("m=audio 4000 RTP/AVP 0\r\n", &required, E::SrtpRequired);
    refused("m=audio 4000 RTP/SAVP 0\r\n", &required, E::NoCommonSuite);
    let gcm =
        format!("m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AEAD_AES_128_GCM inline:{GCM_KEY}\r\n");
    refused(&gcm, &required, E::NoCommonSuite);
    let weak = format!(
        "m=audio 4000 RTP/SAVP 0\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP\r\n"
    );
    refused(&weak, &required, E::NoCommonSuite);
    // It says plain, but is ready to encrypt, and does once we answer with a key.
    let keys = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let (lines, suite) = answered(&format!("m=audio 4000 RTP/AVP 0\r\n{keys}"), &required).unwrap();
    assert_eq!((lines.len(), suite), (2, Some(CM_80)));
    for error in [E::SrtpRequired, E::SrtpNotAllowed, E::SrtpExposed, E::NoCommonSuite] {
        assert_eq!(error.cause().code(), "srtp_mismatch");
        assert_eq!(error.cause().sip_status(), 488);
    }
}

#[test]
fn keys_over_signalling_that_others_can_read_are_refused() {
    let exposed = |policy| {
        let mut caps = caps(policy, &[CM_80]);
        caps.srtp.exposed = true;
        caps
    };
    let keys = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let secure = format!("m=audio 4000 RTP/SAVP 0\r\n{keys}");
    let best_effort = format!("m=audio 4000 RTP/AVP 0\r\n{keys}");
    refused(&secure, &exposed(SrtpPolicy::Optional), E::SrtpExposed);
    refused(&secure, &exposed(SrtpPolicy::Required), E::SrtpExposed);
    refused(&best_effort, &exposed(SrtpPolicy::Required), E::SrtpExposed);
    let plain = ["m=audio 16400 RTP/AVP 0"];
    check(&best_effort, &exposed(SrtpPolicy::Optional), &plain, None);
    for policy in [SrtpPolicy::Optional, SrtpPolicy::Required] {
        let ours = String::from_utf8(offer(&exposed(policy), &local())).unwrap();
        assert!(!ours.contains("crypto"), "{ours}");
    }
}

#[test]
fn the_first_line_of_the_offer_that_we_can_follow_counts() {
    let ours = caps(SrtpPolicy::Required, &[CM_80, CM_32, GCM]);
    let offer = format!(
        "m=audio 4000 RTP/SAVP 0\r\n\
         a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}{KEY}\r\n\
         a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP\r\n\
         a=crypto:3 AEAD_AES_128_GCM inline:{GCM_KEY}\r\n\
         a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
    );
    let line = format!("a=crypto:3 AEAD_AES_128_GCM inline:{OUR_GCM_KEY}");
    check(&offer, &ours, &["m=audio 16400 RTP/SAVP 0", &line], Some(GCM));
}

/// A plain peer answers RTP/AVP and passes the key over; it would refuse RTP/SAVP, and the call with it.
#[test]
fn preferred_srtp_does_not_offer_savp() {
    let optional = caps(SrtpPolicy::Optional, &[GCM, CM_80]);
    let text = String::from_utf8(offer(&optional, &local())).unwrap();
    let media: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(media, ["m=audio 16400 RTP/AVP 0 101"]);
    assert_eq!(text.matches("a=crypto:").count(), 2);
    let plain = parse(&body("m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n")).unwrap();
    assert_eq!(accept(&plain, &optional).unwrap().crypto, None);
}

#[test]
fn our_offer_lists_every_suite_and_its_answer_picks_one() {
    let text = |policy| {
        let text = String::from_utf8(offer(&caps(policy, &[GCM, CM_80]), &local())).unwrap();
        let shown = |line: &&str| line.starts_with("m=") || line.starts_with("a=crypto");
        text.lines().filter(shown).map(str::to_owned).collect::<Vec<_>>()
    };
    let keys = [
        format!("a=crypto:1 AEAD_AES_128_GCM inline:{OUR_GCM_KEY}"),
        format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{OUR_KEY}"),
    ];
    let with = |media: &str| [vec![media.to_owned()], keys.to_vec()].concat();
    assert_eq!(text(SrtpPolicy::Required), with("m=audio 16400 RTP/SAVP 0 101"));
    assert_eq!(text(SrtpPolicy::Optional), with("m=audio 16400 RTP/AVP 0 101"));

    let agreed = |policy, media: &str| {
        let agreed = accept(&parse(&body(media)).unwrap(), &caps(policy, &[GCM, CM_80]))?;
        Ok(agreed.crypto.map(|keys: Arc<MediaCrypto>| (keys.send.suite(), keys.receive.suite())))
    };
    let keys = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    for profile in ["RTP/AVP", "RTP/SAVP"] {
        let media = format!("m=audio 4000 {profile} 0\r\n{keys}");
        for policy in [SrtpPolicy::Optional, SrtpPolicy::Required] {
            assert_eq!(agreed(policy, &media), Ok(Some((CM_80, CM_80))), "{profile}");
        }
    }
    assert_eq!(agreed(SrtpPolicy::Optional, "m=audio 4000 RTP/AVP 0\r\n"), Ok(None));
    let plain = agreed(SrtpPolicy::Required, "m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(plain, Err(E::SrtpRequired), "the answer may not drop the encryption");
    let other =
        format!("m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
    assert_eq!(agreed(SrtpPolicy::Required, &other), Err(E::NoCommonSuite), "never offered");
}

#[test]
fn what_our_keys_bear_is_written_and_the_text_stays_the_same() {
    let mut marked = caps(SrtpPolicy::Required, &[CM_80]);
    for key in &mut marked.srtp.keys {
        key.mki = Some(Mki { value: 1, length: 1 });
        key.lifetime = Some(1 << 31);
    }
    let text = String::from_utf8(offer(&marked, &local())).unwrap();
    assert!(text.contains(&format!("inline:{OUR_KEY}|2^31|1:1\r\n")), "{text}");
    // A re-INVITE says the same keys again: no revision.
    assert!(!is_revision(text.as_bytes(), &offer(&marked, &local())));
}

#[test]
fn the_oracle_reads_our_keys() {
    let required = caps(SrtpPolicy::Required, &[CM_80, CM_32]);
    let text = String::from_utf8(offer(&required, &local())).unwrap();
    let read = ezk_sdp_types::SessionDescription::parse(&text.as_str().into()).unwrap();
    let stream = &read.media_descriptions[0];
    assert_eq!(stream.media.proto, ezk_sdp_types::TransportProtocol::RtpSavp);
    let crypto: Vec<_> = stream.crypto.iter().map(|line| (line.tag, line.keys.len())).collect();
    assert_eq!(crypto, [(1, 1), (2, 1)]);
    let theirs = format!("{:?}", stream.crypto[0].suite).to_ascii_uppercase();
    assert!(theirs.replace('_', "").contains("AESCM128HMACSHA180"), "{theirs}");
    assert_eq!(stream.crypto[0].keys[0].key_and_salt.as_str(), OUR_KEY);
}
