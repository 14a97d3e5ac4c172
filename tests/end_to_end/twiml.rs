//! Calls that web servers lead by documents, asked and signed as bots expect it; and servers that do not answer
//! as they should.

use crate::bot::Bot;
use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use crate::rtp::audio;
use crate::sipp_carrier::Gateway;
use crate::talk::Peer;
use crate::transfers::transfer;
use crate::twilio_client::Client;
use crate::web::Asked;
use crate::web::Page;
use crate::web::Web;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use tandem::audio::g711;
use tandem::store::api_keys::KeyRole;

const TOKEN: &str = "12345";
const REACH: &str = "[webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n";
/// Half a second of 400 Hz, more or less: µ-law that is no silence.
const SOUND: [u8; 4_000] = [0x2a; 4_000];
/// What a bot says that comes after it.
const SAID: u8 = 0x35;

/// A node whose number is led by a web server, which asks for keys and calls out by one carrier.
async fn node(agent: Value) -> (Node, Phone, String) {
    let mut home = Home::with("127.0.0.1:0", 100, REACH);
    home.set("BOT_TOKEN", TOKEN);
    let node = home.start().await;
    let far = carrier::carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], json!({})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, far, key)
}

async fn caller(node: &Node) -> Phone {
    Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await
}

async fn press(phone: &mut Phone, keys: &str) {
    for digit in keys.chars() {
        let relay = "Content-Type: application/dtmf-relay\r\n";
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        assert_eq!(phone.ask("INFO", relay, &body).await.status(), 200);
    }
}

/// Waits until a packet is heard that is of [`SOUND`] from end to end.
async fn hear_sound(phone: &Phone) {
    hear_level(phone, SOUND[0]).await;
}

/// The same of this byte.
async fn hear_level(phone: &Phone, level: u8) {
    let mut buffer = [0; 2_048];
    let heard = async {
        loop {
            let length = phone.media.recv_from(&mut buffer).await.unwrap().0;
            let sound = audio(&buffer[..length]);
            if !sound.is_empty() && sound.iter().all(|byte| *byte == level) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the sound is heard");
}

/// The call of a phone, by its own identity.
async fn call_of(node: &Node, phone: &Phone) -> String {
    let sql = format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
    let count = sql.replace("id::text", "count(*)");
    crate::node::wait_for("the record is stored", async || {
        (node.count(&count).await > 0).then_some(())
    })
    .await;
    crate::postgres::text(&node.database(), &sql).await
}

fn notes<'r>(record: &'r Value, what: &str) -> Vec<&'r str> {
    let events = record["events"].as_array().unwrap().iter();
    let notes =
        events.filter(|event| event["name"] == "script_noted").map(|event| &event["detail"]);
    notes.filter(|note| note["what"] == what).map(|note| note["detail"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_web_server_leads_a_call_by_signed_requests_and_is_told_how_it_got_on() {
    let mut web = Web::start().await;
    let agent = json!({
        "kind": "twiml", "url": web.url("/voice?x=1"), "auth_token_ref": "env:BOT_TOKEN",
        "status_callback_url": web.url("/status"),
    });
    let (node, _far, key) = node(agent).await;
    web.put("/voice?x=1", Page::twiml(
        "<Gather numDigits='2' action='keys' method='GET'><Play>/menu.ulaw</Play></Gather><Enqueue/>",
    ));
    web.put("/menu.ulaw", Page::of("audio/basic", SOUND));
    let mut phone = caller(&node).await;
    let ok = phone.call("X-Room: 7\r\n").await;
    assert_eq!(ok.status(), 200);

    // The caller rings while its document is asked for.
    let mut bot = Client::new(&node, 1, TOKEN);
    let first = web.asked("/voice?x=1").await;
    assert_eq!(first.value("CallStatus"), "ringing");
    assert_eq!((first.value("To"), first.value("Direction")), (NUMBER, "inbound"));
    assert_eq!(first.value("SipHeader_X-Room"), "7");
    assert_eq!(first.value("AccountSid"), rows::tenant_id(1).account_sid());
    assert!(first.value("CallSid").starts_with("CA"), "{first:?}");
    assert!(bot.validates(&first, TOKEN).await, "{first:?}");
    assert!(!bot.validates(&first, "54321").await, "{first:?}");

    // Keys that are pressed while the prompt is heard.
    web.asked("/menu.ulaw").await;
    press(&mut phone, "57").await;
    web.put("/keys", Page::twiml("<Hangup/>"));
    let keys = web.asked("/keys").await;
    assert_eq!((keys.method.as_str(), keys.value("Digits")), ("GET", "57"));
    assert_eq!(keys.value("CallStatus"), "in-progress");
    assert!(bot.validates(&keys, TOKEN).await, "{keys:?}");
    hear_bye(&phone).await;

    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "completed") {
        let news = web.asked("/status").await;
        assert!(bot.validates(&news, TOKEN).await, "{news:?}");
        assert_eq!(news.value("SequenceNumber"), told.len().to_string());
        told.push(news.value("CallStatus").to_owned());
    }
    assert_eq!(told, ["initiated", "ringing", "in-progress", "completed"]);
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
    let remarks = notes(&record, "remark");
    assert!(remarks.iter().any(|remark| remark.contains("<Enqueue>")), "{remarks:?}");
}

#[tokio::test]
async fn a_text_is_spoken_by_the_program_of_the_machine() {
    let mut web = Web::start().await;
    let (node, _far, key) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    web.put("/voice", Page::twiml("<Say>Your table is ready.</Say><Redirect>/said</Redirect>"));
    web.put("/said", Page::twiml("<Hangup/>"));
    let mut phone = caller(&node).await;
    phone.call("").await;
    let mut buffer = [0; 2_048];
    let heard = async {
        let mut loud = 0;
        while loud < 20 {
            let length = phone.media.recv_from(&mut buffer).await.unwrap().0;
            let sound = audio(&buffer[..length]);
            // The larger half of all levels: comfort noise has none of them.
            loud += u32::from(sound.iter().any(|byte| byte & 0x7f < 0x40));
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("speech is heard");
    web.asked("/said").await;
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(notes(&record, "sound_failed"), [""; 0]);
}

#[tokio::test]
async fn a_document_opens_a_stream_and_goes_on_when_that_is_over() {
    let bot = Bot::bind().await;
    let mut web = Web::start().await;
    let (node, _far, _) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    web.put("/voice", Page::twiml(&format!(
        "<Connect><Stream url='{}' statusCallback='/stream'><Parameter name='mood' value='good'/></Stream>\
         </Connect><Redirect>/after</Redirect>",
        bot.url()
    )));
    web.put("/after", Page::twiml("<Play>/bye.ulaw</Play>"));
    web.put("/bye.ulaw", Page::of("audio/basic", SOUND));
    let mut phone = caller(&node).await;
    let (answered, mut stream) = tokio::join!(phone.call(""), bot.accept());
    assert_eq!(answered.status(), 200);
    assert_eq!(stream.start["start"]["customParameters"]["mood"], "good");
    assert_eq!(web.asked("/stream").await.value("StreamEvent"), "stream-started");
    stream.close(1000).await;
    assert_eq!(web.asked("/stream").await.value("StreamEvent"), "stream-stopped");
    assert_eq!(web.asked("/after").await.value("CallStatus"), "in-progress");
    web.asked("/bye.ulaw").await;
    hear_bye(&phone).await;
}

#[tokio::test]
async fn a_bot_of_a_document_that_says_nothing_does_not_hold_its_caller() {
    let bot = Bot::bind().await;
    let mut web = Web::start().await;
    let agent = json!({"kind": "twiml", "url": web.url("/voice"), "silence_limit_ms": 500});
    let (node, _far, _) = node(agent).await;
    web.put(
        "/voice",
        Page::twiml(&format!(
            "<Connect><Stream url='{}'/></Connect><Redirect>/after</Redirect>",
            bot.url()
        )),
    );
    web.put("/after", Page::twiml("<Hangup/>"));
    let mut phone = caller(&node).await;
    let (answered, _silent) = tokio::join!(phone.call(""), bot.accept());
    assert_eq!(answered.status(), 200);
    assert_eq!(web.asked("/after").await.value("CallStatus"), "in-progress");
    hear_bye(&phone).await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_document_the_fallback_is_asked_and_told() {
    let mut web = Web::start().await;
    let agent = json!({
        "kind": "twiml", "url": web.url("/voice"), "fallback_url": web.url("/fallback"),
        "timeout_ms": 2000,
    });
    let (node, _far, key) = node(agent).await;
    web.put("/fallback", Page::twiml("<Reject reason='busy'/>"));
    let peer = Peer::at("127.0.0.9", node.sip()).await;
    let bomb =
        "<!DOCTYPE r [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><Response><Say>&b;</Say></Response>";
    for (page, code) in [
        (Page::status("500 Oops"), "11200"),
        (Page::status("404 Not Found"), "11200"),
        (Page::Silence, "11200"),
        (Page::HangUp, "11200"),
        (Page::of("text/xml", "<Response><Say>"), "12100"),
        (Page::of("text/xml", bomb), "12100"),
        (Page::of("text/xml", "<Response>".repeat(10_000)), "11750"),
        (Page::of("text/xml", "x".repeat(10_000_000)), "11750"),
        (Page::of("audio/basic", SOUND), "12300"),
        (Page::to("/voice"), "11215"),
        (Page::twiml("<Connect><Stream url='http://x'/></Connect>"), "12100"),
    ] {
        web.put("/voice", page.clone());
        assert_eq!(peer.invite(NUMBER).await.refusal(), (486, "busy", false), "{page:?}");
        let fallback = web.asked("/fallback").await;
        assert_eq!(fallback.value("ErrorCode"), code, "{page:?}");
        assert!(fallback.value("ErrorUrl").ends_with("/voice"), "{page:?}");
        // It is well between, or it would not be asked any more.
        web.put("/voice", Page::twiml("<Reject reason='busy'/>"));
        for _ in 0..2 {
            assert_eq!(peer.invite(NUMBER).await.refusal(), (486, "busy", false));
        }
    }
    // A document that leads to itself and nowhere else ends, too.
    web.put("/voice", Page::twiml("<Redirect/>"));
    web.put("/fallback", Page::status("500 Oops"));
    let mut phone = caller(&node).await;
    phone.call("").await;
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "agent_unreachable", "the caller heard the announcement");
    let failed = notes(&record, "script_failed");
    assert!(failed.iter().any(|why| why.starts_with("11215")), "{failed:?}");
}

#[tokio::test]
async fn somebody_is_dialled_and_the_document_goes_on_when_they_are_gone() {
    let mut web = Web::start().await;
    let (node, mut far, key) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    let dial = format!("<Dial action='/dialled' timeout='30'>{CALLED}</Dial>");
    web.put("/voice", Page::twiml(&dial));
    let mut phone = caller(&node).await;
    phone.call("").await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "486 Busy Here", "", "").await;
    far.expect("ACK ").await;
    web.put("/dialled", Page::twiml(&dial));
    let told = web.asked("/dialled").await;
    assert_eq!(told.value("DialCallStatus"), "busy");

    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    web.put("/dialled", Page::twiml("<Hangup/>"));
    far.hang_up().await;
    let told = web.asked("/dialled").await;
    assert_eq!(told.value("DialCallStatus"), "completed");
    assert!(told.value("DialCallDuration").parse::<u32>().is_ok(), "{told:?}");
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
}

/// The files of this ending in a folder and all below it.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let found =
        entries.flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] });
    found.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[tokio::test]
async fn a_dialled_conversation_is_recorded_and_whoever_asked_for_it_is_told_where_it_is() {
    let mut web = Web::start().await;
    let (node, mut far, key) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    web.put("/voice", Page::twiml(&format!(
        "<Dial action='/dialled' record='record-from-answer-dual' recordingStatusCallback='/taped'>\
         {CALLED}</Dial>"
    )));
    let mut phone = caller(&node).await;
    let answered = phone.call("").await;
    let invite = answer(&mut far).await;
    hears((&phone, answered.audio_port()), &far, 17).await;
    hears((&far, invite.audio_port()), &phone, 21).await;
    web.put("/dialled", Page::twiml("<Hangup/>"));
    far.hang_up().await;
    let taped = web.asked("/taped").await;
    assert_eq!(taped.value("RecordingStatus"), "completed", "{taped:?}");
    let told = web.asked("/dialled").await;
    assert_eq!(told.value("DialCallStatus"), "completed", "{told:?}");
    let id = told.value("RecordingUrl").rsplit('/').next().unwrap();
    assert_eq!(taped.value("RecordingUrl").rsplit('/').next(), Some(id), "{taped:?}");
    assert!(told.value("RecordingDuration").parse::<u32>().unwrap() >= 1, "{told:?}");
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    shown(&node, 1, &call, &key).await;
    let stored = format!("SELECT count(*) FROM recordings WHERE id = '{id}' AND status = 'ready'");
    wait_for("it is stored", async || (node.count(&stored).await == 1).then_some(())).await;
    // Each side has a channel of its own: what the one said is not in that of the other.
    let [file] = &files(&node.home.data_dir(), ".wav")[..] else { panic!("one recording") };
    let samples = hound::WavReader::open(file).unwrap().into_samples::<i16>();
    let samples: Vec<i16> = samples.map(Result::unwrap).collect();
    let has = |channel: usize, level: u8| {
        let channel: Vec<i16> = samples.chunks_exact(2).map(|pair| pair[channel]).collect();
        // What falls away passes by many a level.
        let mut runs = channel.chunk_by(|one, other| one == other);
        runs.any(|run| run.len() >= 160 && run[0] == g711::ulaw_decode(level))
    };
    assert_eq!([has(0, 17), has(0, 21), has(1, 17), has(1, 21)], [true, false, false, true]);
}

#[tokio::test]
async fn a_caller_leaves_a_message_and_whoever_asked_for_it_is_told_where_it_is() {
    let mut web = Web::start().await;
    let (node, _far, _) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    web.put(
        "/voice",
        Page::twiml(
            "<Record action='/recorded' maxLength='1' recordingStatusCallback='/whole'/>\
             <Play>/never.ulaw</Play>",
        ),
    );
    web.put("/recorded", Page::twiml("<Hangup/>"));
    let mut phone = caller(&node).await;
    phone.call("").await;
    let told = web.asked("/recorded").await;
    assert_eq!(told.value("CallStatus"), "in-progress", "{told:?}");
    assert!(told.value("RecordingSid").starts_with("RE"), "{told:?}");
    let id = told.value("RecordingUrl").rsplit('/').next().unwrap();
    let duration: u32 = told.value("RecordingDuration").parse().unwrap();
    assert!(duration >= 1, "{told:?}");
    let whole = web.asked("/whole").await;
    assert_eq!(whole.value("RecordingStatus"), "completed", "{whole:?}");
    assert_eq!(whole.value("RecordingSid"), told.value("RecordingSid"), "{whole:?}");
    hear_bye(&phone).await;
    let stored = format!("SELECT count(*) FROM recordings WHERE id = '{id}' AND status = 'ready'");
    wait_for("it is stored", async || (node.count(&stored).await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_caller_who_was_passed_on_is_brought_back_to_a_document() {
    let mut web = Web::start().await;
    let (node, mut far, token) = node(json!({"kind": "echo"})).await;
    let mut bot = Client::new(&node, 1, &token);
    web.put("/back", Page::twiml("<Play>/sound.ulaw</Play><Hangup/>"));
    web.put("/sound.ulaw", Page::of("audio/basic", SOUND));
    let mut phone = caller(&node).await;
    let answered = phone.call("").await;
    let call = call_of(&node, &phone).await;
    let sid = call.parse::<tandem::types::id::CallId>().unwrap().call_sid();
    transfer(&node, &token, &call, json!({"to": CALLED, "mode": "bridge"})).await;
    let invite = answer(&mut far).await;
    hears((&phone, answered.audio_port()), &far, 17).await;
    hears((&far, invite.audio_port()), &phone, 21).await;
    let led = bot.lead(&sid, json!({"url": web.url("/back")})).await;
    assert_eq!(led["sid"], sid, "{led}");
    assert_eq!(web.asked("/back").await.value("CallStatus"), "in-progress");
    hear_bye(&far).await;
    hear_sound(&phone).await;
    hear_bye(&phone).await;
    let record = shown(&node, 1, &call, &token).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
}

/// Waits until a message of the call begins so and has this.
async fn traced(node: &Node, (call, key): (&str, &str), start: &str, part: &str) {
    let path = carrier::calls(1, &format!("/{call}/trace"));
    wait_for("the message", async || {
        let trace = node.read(&path, key).await;
        let mut texts = trace["messages"].as_array()?.iter().filter_map(|it| it["text"].as_str());
        texts.any(|text| text.starts_with(start) && text.contains(part)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_are_rung_at_once_and_the_first_that_answers_has_the_caller() {
    let mut web = Web::start().await;
    let (node, mut far, key) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    let desk = Gateway::new("party-let-go", 1).await;
    let dial = format!(
        "<Dial action='/dialled'><Number>{CALLED}</Number><Sip>sip:desk@{}</Sip></Dial>",
        desk.address
    );
    web.put("/voice", Page::twiml(&dial));
    let mut phone = caller(&node).await;
    let answered = phone.call("").await;
    let invite = far.expect("INVITE ").await;
    let call = call_of(&node, &phone).await;
    // Both ring before one of them answers.
    traced(&node, (&call, &key), "SIP/2.0 180", "<sip:desk@").await;
    pick_up(&mut far, &invite).await;
    hears((&phone, answered.audio_port()), &far, 17).await;
    hears((&far, invite.audio_port()), &phone, 21).await;
    // SIPp was told that somebody else answered.
    desk.finishes().await;
    web.put("/dialled", Page::twiml("<Hangup/>"));
    far.hang_up().await;
    assert_eq!(web.asked("/dialled").await.value("DialCallStatus"), "completed");
    hear_bye(&phone).await;
    let record = shown(&node, 1, &call, &key).await;
    let events = record["events"].as_array().unwrap().iter();
    let answers = events.filter(|event| event["name"] == "leg_answered").count();
    assert_eq!(answers, 1, "{record}");
}

#[tokio::test]
async fn a_late_answer_is_hung_up_and_the_call_goes_on_when_nobody_answers() {
    let mut web = Web::start().await;
    let (node, mut far, key) = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    let mut desk = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), "desk").await;
    let dial = format!(
        "<Dial action='/dialled'><Number>{CALLED}</Number><Sip>sip:desk@{}</Sip></Dial>",
        desk.local()
    );
    web.put("/voice", Page::twiml(&dial));
    let mut phone = caller(&node).await;
    let answered = phone.call("").await;
    let (first, second) = (far.expect("INVITE ").await, desk.expect("INVITE ").await);
    far.respond(&first, "180 Ringing", "", "").await;
    // The second has it, by other terms than those of the trunk; the first answers when it is too late.
    pick_up(&mut desk, &second).await;
    let cancel = far.expect("CANCEL ").await;
    assert!(cancel.header("reason").starts_with("SIP;cause=200"), "{cancel:?}");
    far.answer(&cancel, "200 OK").await;
    far.take(&first);
    far.respond(&first, "200 OK", "", &far.sdp()).await;
    far.expect("ACK ").await;
    hear_bye(&far).await;
    hears((&phone, answered.audio_port()), &desk, 17).await;
    hears((&desk, second.audio_port()), &phone, 21).await;

    web.put("/dialled", Page::twiml(&dial));
    desk.hang_up().await;
    assert_eq!(web.asked("/dialled").await.value("DialCallStatus"), "completed");
    let (first, second) = (far.expect("INVITE ").await, desk.expect("INVITE ").await);
    refuse(&desk, &second, "480 Temporarily Unavailable", "").await;
    web.put("/dialled", Page::twiml("<Hangup/>"));
    refuse(&far, &first, "486 Busy Here", "").await;
    let told = web.asked("/dialled").await;
    assert_eq!(told.value("DialCallStatus"), "no-answer", "{told:?}");
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn a_menu_leads_to_a_mailbox_and_the_message_is_a_recording_of_the_call() {
    let agent = json!({
        "kind": "dtmf_ivr",
        "menu": {"prompt": {"asset": "menu.ulaw"}, "timeout_ms": 60_000, "keys": {"0": "voicemail"}},
        "mailbox": {"greeting": {"asset": "speak.ulaw"}, "max_length_s": 2},
    });
    let (node, _far, key) = node(agent).await;
    let assets = node.assets();
    std::fs::create_dir_all(&assets).unwrap();
    std::fs::write(assets.join("menu.ulaw"), [0x2a; 80_000]).unwrap();
    std::fs::write(assets.join("speak.ulaw"), SOUND).unwrap();
    let mut phone = caller(&node).await;
    phone.call("").await;
    // The menu is heard: keys mean something from now on.
    hear_sound(&phone).await;
    press(&mut phone, "0").await;
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
    let events = record["events"].as_array().unwrap().iter();
    let names: Vec<_> = events.map(|event| event["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"recording_started"), "{names:?}");
    assert!(names.contains(&"recording_ready"), "{names:?}");
}

#[tokio::test]
async fn a_menu_hands_its_caller_to_the_agent_of_another_profile() {
    let bot = Bot::bind().await;
    let keys = json!({"1": {"agent": rows::uuid(7).to_string()}});
    let menu = json!({"prompt": {"asset": "menu.ulaw"}, "timeout_ms": 60_000, "keys": keys});
    let (node, _far, key) = node(json!({"kind": "dtmf_ivr", "menu": menu})).await;
    node.put(&[rows::profile(7, 1, json!({"kind": "twilio", "url": bot.url()}))]).await;
    let assets = node.assets();
    std::fs::create_dir_all(&assets).unwrap();
    std::fs::write(assets.join("menu.ulaw"), [SOUND[0]; 80_000]).unwrap();
    let mut phone = caller(&node).await;
    phone.call("").await;
    hear_sound(&phone).await;
    let ((), mut stream) = tokio::join!(press(&mut phone, "1"), bot.accept());
    stream.say_bytes(&[SAID; 8_000]).await;
    hear_level(&phone, SAID).await;
    stream.close(1000).await;
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
    let attached = format!(
        "SELECT count(*) FROM call_events WHERE call_id = '{call}' AND name = 'agent_attached'"
    );
    assert_eq!(node.count(&attached).await, 1);
}

#[tokio::test]
async fn a_menu_hands_its_caller_to_whom_another_profile_reaches_by_telephone() {
    let keys = json!({"1": {"agent": rows::uuid(7).to_string()},
                      "2": {"agent": rows::uuid(8).to_string()}});
    let menu = json!({"prompt": {"asset": "menu.ulaw"}, "timeout_ms": 60_000, "keys": keys});
    let (node, mut far, key) = node(json!({"kind": "dtmf_ivr", "menu": menu})).await;
    let desk = format!("sip:desk@{}", far.local());
    node.put(&[
        rows::profile(7, 1, json!({"kind": "forward", "to": CALLED})),
        rows::profile(8, 1, json!({"kind": "sip", "uri": desk})),
    ])
    .await;
    let assets = node.assets();
    std::fs::create_dir_all(&assets).unwrap();
    std::fs::write(assets.join("menu.ulaw"), [SOUND[0]; 80_000]).unwrap();
    for (pressed, reached) in [("1", CALLED), ("2", "desk")] {
        let mut phone = caller(&node).await;
        let port = phone.call("").await.audio_port();
        hear_sound(&phone).await;
        press(&mut phone, pressed).await;
        let invite = far.expect("INVITE ").await;
        assert!(invite.start.contains(&format!("sip:{reached}@")), "{invite:?}");
        pick_up(&mut far, &invite).await;
        hears((&phone, port), &far, 0x33).await;
        hears((&far, invite.audio_port()), &phone, 0x34).await;
        phone.hang_up().await;
        hear_bye(&far).await;
        let call = call_of(&node, &phone).await;
        let record = shown(&node, 1, &call, &key).await;
        assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
        let attached = format!(
            "SELECT count(*) FROM call_events WHERE call_id = '{call}' AND name = 'agent_attached'"
        );
        assert_eq!(node.count(&attached).await, 1);
    }
}

#[tokio::test]
async fn a_receptionist_greets_asks_who_says_nothing_and_takes_its_leave() {
    let script = json!({"patience_ms": 300, "lines": []});
    let (node, _far, key) = node(json!({"kind": "receptionist", "script": script})).await;
    let mut phone = caller(&node).await;
    phone.call("").await;
    hear_bye(&phone).await;
    let call = call_of(&node, &phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("agent")));
    assert_eq!(notes(&record, "sound_failed"), [""; 0]);
    // Three prompts that come with the program, and their silences.
    assert!(record["duration_ms"].as_u64().unwrap() > 8_000, "{record}");
}

#[tokio::test]
async fn a_bot_written_for_twilio_leads_its_calls_by_documents() {
    let mut web = Web::start().await;
    let (node, mut far, token) = node(json!({"kind": "echo"})).await;
    let mut bot = Client::new(&node, 1, &token);
    // A call that is placed gets its document once it is answered.
    let wish = json!({"to": CALLED, "from_": NUMBER, "url": web.url("/voice"),
                      "status_callback": web.url("/status")});
    web.put("/voice", Page::twiml("<Pause length='600'/>"));
    let placed = bot.create(wish).await;
    let sid = placed["sid"].as_str().unwrap_or_else(|| panic!("{placed}")).to_owned();
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let asked = web.asked("/voice").await;
    assert_eq!((asked.value("CallSid"), asked.value("CallStatus")), (sid.as_str(), "in-progress"));
    assert_eq!((asked.value("Direction"), asked.value("To")), ("outbound-api", CALLED));
    assert!(bot.validates(&asked, &token).await, "{asked:?}");
    // Its document is replaced at once, whatever it waits for.
    web.put("/other", Page::twiml("<Pause length='600'/>"));
    let led = bot.lead(&sid, json!({"url": web.url("/other"), "method": "GET"})).await;
    assert_eq!(led["sid"], sid, "{led}");
    assert_eq!(web.asked("/other").await.method, "GET");
    let refused = bot.lead(&sid, json!({"twiml": "<Response><Say>"})).await;
    assert_eq!((&refused["refused"], &refused["code"]), (&json!(400), &json!(20001)), "{refused}");
    let led = bot.lead(&sid, json!({"twiml": "<Response><Hangup/></Response>"})).await;
    assert_eq!(led["sid"], sid, "{led}");
    hear_bye(&far).await;
    let mut last = async || loop {
        let news: Asked = web.asked("/status").await;
        if news.value("CallStatus") == "completed" {
            return news;
        }
    };
    assert!(last().await.value("CallDuration").parse::<u32>().is_ok());

    // The agent of a running call gives way to a document.
    let call = call_out::place(&node, &token, json!({"to": CALLED, "from": NUMBER})).await;
    let invite: Heard = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let sid = call.parse::<tandem::types::id::CallId>().unwrap().call_sid();
    bot.wait_for(&sid, "in-progress").await;
    bot.lead(&sid, json!({"twiml": "<Response><Hangup/></Response>"})).await;
    hear_bye(&far).await;
    bot.wait_for(&sid, "completed").await;
}
