//! The tone of ringing that callers hear from us, measured on the wire.

use crate::bot::Bot;
use crate::bot::Stream;
use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::pick_up;
use crate::node::Node;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rtp::audio;
use crate::transfers::talking;
use crate::transfers::transfer;
use serde_json::json;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::tone::share_at;
use tandem::clock;
use tandem::types::codec::Law;
use tandem::types::moment::Moment;
use tokio::time::timeout;

/// Peak above which 20 ms are a tone; comfort noise is far below it.
const LOUD: u16 = 1_000;

/// What was heard: lengths of sound and pause in turn, in ms, and all that sounded.
struct Tone {
    cadence: Vec<u32>,
    sound: Vec<i16>,
}

impl Tone {
    /// The first `turns` sounds and pauses that the telephone hears. Packets are placed by their number,
    /// so that neither a late one nor a lost one changes a length; a lost one counts as the one before.
    async fn heard(phone: &Phone, turns: usize) -> Self {
        let mut tone = Self { cadence: Vec::new(), sound: Vec::new() };
        let (mut last, mut sounded) = (None, false);
        let mut buffer = [0; 2_048];
        while tone.cadence.len() <= turns {
            let next = timeout(PATIENCE, phone.media.recv_from(&mut buffer)).await;
            let (length, _) = next.expect("media goes on").unwrap();
            let packet = &buffer[..length];
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            let mut linear = [0; 160];
            g711::decode(Law::Mu, audio(packet), &mut linear);
            let sounds = linear.iter().any(|sample| sample.unsigned_abs() > LOUD);
            let steps = last.map_or(1, |last| u32::from(sequence.wrapping_sub(last)));
            last = Some(sequence);
            if !sounds && tone.cadence.is_empty() {
                continue;
            }
            if sounds {
                tone.sound.extend(linear);
            }
            match tone.cadence.last_mut().filter(|_| sounds == sounded) {
                Some(length) => *length += 20 * steps,
                None => tone.cadence.push(20),
            }
            sounded = sounds;
        }
        tone.cadence.truncate(turns);
        tone
    }

    /// The share of the power of all that sounded at these frequencies.
    fn share_at(&self, frequencies: &[u16]) -> f32 {
        frequencies.iter().map(|hz| share_at(&self.sound, *hz)).sum()
    }
}

#[tokio::test]
async fn a_caller_who_is_passed_on_hears_the_ringing_of_its_country_until_there_is_more_to_hear() {
    let more = json!({"numbers": {"country": "IN"}});
    let (node, mut target, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let (mut phone, port, call) = talking(&node).await;
    transfer(&node, &key, &call, json!({"to": CALLED})).await;
    let invite = target.expect("INVITE ").await;
    target.respond(&invite, "180 Ringing", "", "").await;

    let tone = Tone::heard(&phone, 5).await;
    assert_eq!(tone.cadence, [400, 200, 400, 2_000, 400]);
    // 400 Hz that 25 Hz modulate: each sound on its own, since the modulation begins anew nowhere.
    let first = Tone { sound: tone.sound[..3_200].to_vec(), ..tone };
    assert!(first.share_at(&[375, 400, 425]) > 0.9, "{}", first.share_at(&[375, 400, 425]));
    assert!(first.share_at(&[375]) > 0.1 && first.share_at(&[425]) > 0.1);

    // The target's own announcement takes the tone's place, and a bare 180 does not bring it back.
    target.take(&invite);
    target.respond(&invite, "183 Session Progress", "", &target.sdp()).await;
    hears((&target, invite.audio_port()), &phone, 0x31).await;
    target.respond(&invite, "180 Ringing", "", "").await;
    hears((&target, invite.audio_port()), &phone, 0x32).await;
    pick_up(&mut target, &invite).await;
    hears((&phone, port), &target, 0x33).await;
    hears((&target, invite.audio_port()), &phone, 0x34).await;
    phone.hang_up().await;
    hear_bye(&target).await;
}

#[tokio::test]
async fn our_tone_takes_the_place_of_a_targets_early_media_where_its_trunk_says_so() {
    let more = json!({"numbers": {"country": "US"}, "progress": {"early_media": "ringback"}});
    let (node, mut target, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let (mut phone, port, call) = talking(&node).await;
    transfer(&node, &key, &call, json!({"to": CALLED})).await;
    let invite = target.expect("INVITE ").await;
    target.take(&invite);
    target.respond(&invite, "183 Session Progress", "", &target.sdp()).await;
    let tone = Tone::heard(&phone, 1).await;
    assert_eq!(tone.cadence, [2_000]);
    let (low, high) = (tone.share_at(&[440]), tone.share_at(&[480]));
    assert!(low > 0.45 && high > 0.45, "{low} {high}");
    pick_up(&mut target, &invite).await;
    hears((&phone, port), &target, 0x35).await;
    phone.hang_up().await;
    hear_bye(&target).await;
}

/// A bot says a second of this.
const SAID: u8 = 0x37;

/// The bot comes only now: all that it says is heard, and then it hangs up.
async fn bot_comes(bot: &Bot, phone: &Phone) {
    speaks(bot.accept().await, phone).await;
}

/// All that a bot says is heard, and then it hangs up.
async fn speaks(mut stream: Stream, phone: &Phone) {
    stream.say_bytes(&[SAID; 8_000]).await;
    let mut buffer = [0; 2_048];
    let heard = async {
        let mut whole = 0;
        while whole < 45 {
            let length = phone.media.recv_from(&mut buffer).await.unwrap().0;
            let sound = audio(&buffer[..length]);
            whole += u32::from(!sound.is_empty() && sound.iter().all(|byte| *byte == SAID));
        }
    };
    timeout(PATIENCE, heard).await.expect("it is heard");
    stream.close(1000).await;
    hear_bye(phone).await;
}

#[tokio::test]
async fn who_is_answered_before_the_bot_is_there_hears_ringing_until_it_is() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url(), "answer": "immediate",
                       "connect_timeout_ms": 30_000});
    let more = json!({"numbers": {"country": "IN"}});
    let (node, mut target, key) = call_out::node(agent, more).await;
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    phone.call("").await;
    assert_eq!(Tone::heard(&phone, 3).await.cadence, [400, 200, 400]);
    bot_comes(&bot, &phone).await;

    call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = target.expect("INVITE ").await;
    pick_up(&mut target, &invite).await;
    assert_eq!(Tone::heard(&target, 3).await.cadence, [400, 200, 400]);
    bot_comes(&bot, &target).await;
}

/// How long it rings at least in what follows.
const RINGS_MS: u64 = 2_000;

/// A caller that hears it ring.
async fn ringing(node: &Node) -> Phone {
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    assert!(phone.expect("SIP/2.0 18").await.audio_port() > 0);
    phone
}

/// It is answered; when.
async fn is_answered(phone: &mut Phone) -> Moment {
    let ok = phone.outcome("INVITE").await;
    let at = clock::now();
    assert_eq!(ok.status(), 200);
    phone.confirm(&ok);
    phone.acknowledge().await;
    at
}

#[tokio::test]
async fn it_rings_for_as_long_as_the_profile_says_and_until_the_agent_is_there() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url(), "connect_timeout_ms": 60_000,
                       "answer": {"after_ms": RINGS_MS}});
    let more = json!({"numbers": {"country": "GB"}, "progress": {"inbound_progress": "183_sdp"}});
    let (node, _far, _key) = call_out::node(agent, more).await;
    // One that is there at once waits.
    let begun = clock::now();
    let mut phone = ringing(&node).await;
    let stream = bot.accept().await;
    let rang = is_answered(&mut phone).await.since(begun);
    assert!(rang >= Duration::from_millis(RINGS_MS), "{rang:?}");
    speaks(stream, &phone).await;
    // For one that is late it rings on, past that time.
    let mut phone = ringing(&node).await;
    assert_eq!(Tone::heard(&phone, 5).await.cadence, [400, 200, 400, 2_000, 400]);
    let early = phone.hear_within(SILENCE).await;
    assert!(early.is_none(), "{early:?}");
    let stream = bot.accept().await;
    is_answered(&mut phone).await;
    speaks(stream, &phone).await;
}

#[tokio::test]
async fn a_caller_hears_ringing_of_ours_as_early_media_where_its_carrier_wants_it() {
    let more = json!({
        "numbers": {"country": "GB"},
        "progress": {"inbound_progress": "183_sdp", "answer_delay_ms": 3_500},
    });
    let (node, _far, _key) = call_out::node(json!({"kind": "echo"}), more).await;
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let progress = phone.expect("SIP/2.0 183").await;
    assert!(progress.audio_port() > 0, "{progress:?}");
    let tone = Tone::heard(&phone, 3).await;
    assert_eq!(tone.cadence, [400, 200, 400]);
    assert!(tone.share_at(&[400, 450]) > 0.9, "{}", tone.share_at(&[400, 450]));
    let ok = phone.outcome("INVITE").await;
    assert_eq!((ok.status(), &ok.body), (200, &progress.body));
    phone.confirm(&ok);
    phone.acknowledge().await;
    hears((&phone, ok.audio_port()), &phone, 0x36).await;
    phone.hang_up().await;
    assert_eq!(node.record(&phone.call_id).await.cause, "normal");

    // Who leaves the offer to us hears of it by 180 alone, and may give up meanwhile.
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let invite = phone.request("INVITE", "", "");
    phone.send(&invite).await;
    assert_eq!(phone.expect("SIP/2.0 18").await.status(), 180);
    phone
        .send(invite.replace("INVITE sip:", "CANCEL sip:").replace(" INVITE\r\n", " CANCEL\r\n"))
        .await;
    assert_eq!(phone.outcome("INVITE").await.status(), 487);
}
