//! Documents as people write them, and as they should not.

use super::*;
use crate::agent::script::step::Dial;
use crate::agent::script::step::DialRecord;
use crate::agent::script::step::DialTo;
use crate::agent::script::step::Gather;
use crate::agent::script::step::Method;
use crate::agent::script::step::Next;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Prompt;
use crate::agent::script::step::Record;
use crate::agent::script::step::RejectReason;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Stream;
use crate::types::limit::DIAL_PARTIES_MAX;
use crate::types::limit::TWIML_BYTES_MAX;
use crate::types::peer::Credentials;
use crate::types::secret::Secret;
use proptest::prelude::any;
use proptest::proptest;
use std::time::Duration;

fn steps(inner: &str) -> Vec<Step> {
    let document = parse(format!("<Response>{inner}</Response>").as_bytes()).unwrap();
    assert_eq!(document.remarks, [], "{inner}");
    document.steps
}

fn remarks(inner: &str) -> Vec<String> {
    let document = parse(format!("<Response>{inner}</Response>").as_bytes()).unwrap();
    document.remarks.iter().map(ToString::to_string).collect()
}

fn error(document: &str) -> String {
    parse(document.as_bytes()).unwrap_err().to_string()
}

fn speech(text: &str) -> Sound {
    Sound::Speech { text: text.to_owned(), language: String::new(), voice: String::new() }
}

fn url(address: &str, method: Method) -> Next {
    Next::Url { address: address.to_owned(), method }
}

#[test]
fn what_is_said_and_played_is_read() {
    assert_eq!(
        steps(
            "<Say voice='alice' language=\"en-GB\" loop='2'>Hello &amp; <emphasis>good</emphasis>\n  day &#33;</Say>"
        ),
        [Step::Play(Playing {
            sound: Sound::Speech {
                text: "Hello & good day !".to_owned(),
                language: "en-GB".to_owned(),
                voice: "alice".to_owned(),
            },
            rounds: 2,
        })]
    );
    assert_eq!(
        steps(
            "<Play loop='0'> https://x.example/a.wav?b=1&amp;c=2 </Play><Play>asset:hold.wav</Play>"
        ),
        [
            Step::Play(Playing {
                sound: Sound::Url("https://x.example/a.wav?b=1&c=2".to_owned()),
                rounds: 1_000,
            }),
            Step::Play(Playing::once(Sound::Asset("hold.wav".to_owned()))),
        ]
    );
    assert_eq!(steps("<Play digits='12w#x'/>"), [Step::SendKeys("12w#".to_owned())]);
    assert_eq!(
        steps("<Pause/><Pause length='3'/>"),
        [1, 3].map(|seconds| Step::Pause(Duration::from_secs(seconds)))
    );
    assert_eq!(steps("<Say><![CDATA[a < b]]></Say>"), [Step::Play(Playing::once(speech("a < b")))]);
}

#[test]
fn keys_are_gathered_with_prompts_meanwhile() {
    let gather = |steps: Vec<Step>| match steps.into_iter().next() {
        Some(Step::Gather(gather)) => *gather,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        gather(steps(
            "<Gather numDigits='4' finishOnKey='*' timeout='7' action='/pin' method='GET' \
             actionOnEmptyResult='true' input='dtmf'><Say>Pin</Say><Pause length='2'/><Play>asset:a.wav</Play></Gather>"
        )),
        Gather {
            prompts: vec![
                Prompt::Play(Playing::once(speech("Pin"))),
                Prompt::Pause(Duration::from_secs(2)),
                Prompt::Play(Playing::once(Sound::Asset("a.wav".to_owned()))),
            ],
            digits_max: Some(4),
            finish_key: Some('*'),
            timeout: Duration::from_secs(7),
            next: url("/pin", Method::Get),
            even_empty: true,
        }
    );
    let plain = gather(steps("<Gather/>"));
    assert_eq!((plain.digits_max, plain.finish_key), (None, Some('#')));
    assert_eq!((plain.timeout, plain.next), (Duration::from_secs(5), url("", Method::Post)));
    assert_eq!(gather(steps("<Gather finishOnKey=''/>")).finish_key, None);
}

#[test]
fn a_stream_is_opened_with_its_parameters() {
    assert_eq!(
        steps(
            "<Connect action='/after'><Stream url='wss://bot.example/ws?a=1' name='n' statusCallback='/s'>\
             <Parameter name='a' value='1'/><Parameter name='b' value='&lt;2&gt;'/></Stream></Connect>"
        ),
        [
            Step::Stream(Box::new(Stream {
                url: "wss://bot.example/ws?a=1".to_owned(),
                name: "n".to_owned(),
                parameters: vec![
                    ("a".to_owned(), "1".to_owned()),
                    ("b".to_owned(), "<2>".to_owned())
                ],
                status: Some(url("/s", Method::Post)),
            })),
            Step::Redirect(url("/after", Method::Post)),
        ]
    );
}

#[test]
fn somebody_is_dialled_by_number_or_address() {
    let dial = |to, next| {
        let timeout = Duration::from_secs(30);
        let to = vec![to];
        Step::Dial(Box::new(Dial { to, caller_id: None, timeout, limit: None, next, record: None }))
    };
    let number = DialTo::Number("+15550142".parse().unwrap());
    assert_eq!(steps("<Dial>+1 (555) 01-42</Dial>"), [dial(number.clone(), None)]);
    assert_eq!(
        steps("<Dial action='/done'><Number>15550142</Number></Dial>"),
        [dial(number, Some(url("/done", Method::Post)))]
    );
    let peer = DialTo::Peer("sip:a@b.example;transport=tls".parse().unwrap(), None);
    assert_eq!(
        steps(
            "<Dial timeout='9' timeLimit='60' callerId='+15550100'><Sip>sip:a@b.example;transport=tls</Sip></Dial>"
        ),
        [Step::Dial(Box::new(Dial {
            to: vec![peer],
            caller_id: Some("+15550100".parse().unwrap()),
            timeout: Duration::from_secs(9),
            limit: Some(Duration::from_secs(60)),
            next: None,
            record: None,
        }))]
    );
}

#[test]
fn several_are_dialled_at_once_and_recorded_where_that_is_asked_for() {
    let dialled = |inner: &str| match steps(inner).as_slice() {
        [Step::Dial(dial)] => dial.as_ref().clone(),
        steps => panic!("{steps:?}"),
    };
    let dial = dialled(
        "<Dial record='record-from-ringing-dual' recordingStatusCallback='/whole'>\
         <Number>+15550142</Number><Sip username='u' password='p'>sip:a@b.example</Sip>\
         <Number>+15550143</Number></Dial>",
    );
    let number = |text: &str| DialTo::Number(text.parse().unwrap());
    let own = Credentials { username: "u".to_owned(), password: Secret::new("p".to_owned()) };
    let peer = DialTo::Peer("sip:a@b.example".parse().unwrap(), Some(own));
    assert_eq!(dial.to, [number("+15550142"), peer, number("+15550143")]);
    let status = Some(url("/whole", Method::Post));
    assert_eq!(dial.record, Some(DialRecord { from_ringing: true, status }));
    for (value, expected) in [
        ("true", Some(false)),
        ("record-from-answer", Some(false)),
        ("record-from-ringing", Some(true)),
        ("do-not-record", None),
        ("false", None),
    ] {
        let dial = dialled(&format!("<Dial record='{value}'>+15550142</Dial>"));
        assert_eq!(dial.record.map(|record| record.from_ringing), expected, "{value}");
    }
    let many = "<Number>+15550142</Number>".repeat(12);
    let document = format!("<Response><Dial>{many}</Dial></Response>");
    let read = parse(document.as_bytes()).unwrap().steps;
    let [Step::Dial(dial)] = &read[..] else { panic!("{read:?}") };
    assert_eq!(dial.to.len(), DIAL_PARTIES_MAX);
    let told = remarks(&format!("<Dial>{many}</Dial>"));
    assert!(told.iter().any(|remark| remark.contains("the first 10 parties alone")), "{told:?}");
}

#[test]
fn the_rest_of_the_verbs_is_read() {
    assert_eq!(
        steps("<Record maxLength='20' timeout='0' finishOnKey='1#' playBeep='false' action='/r'/>"),
        [Step::Record(Box::new(Record {
            length_max: Duration::from_secs(20),
            silence: None,
            finish_keys: "1#".to_owned(),
            beep: false,
            next: Some(url("/r", Method::Post)),
            status: None,
        }))]
    );
    assert_eq!(
        steps(
            "<Redirect method='GET'>../other</Redirect><Reject/><Reject reason='busy'/><Hangup/>"
        ),
        [
            Step::Redirect(url("../other", Method::Get)),
            Step::Reject(RejectReason::Rejected),
            Step::Reject(RejectReason::Busy),
            Step::HangUp,
        ]
    );
    let whole = "\u{feff}  <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- hi --><Response/>\n";
    assert_eq!(parse(whole.as_bytes()), Ok(Document::default()));
}

#[test]
fn what_is_not_known_is_told_of_with_its_place_and_read_over() {
    assert_eq!(
        remarks("<Say>a</Say>\n  <Enqueue>b</Enqueue>"),
        ["2:3: <Enqueue> is not supported here"]
    );
    for (inner, expected) in [
        ("<Say colour='red'>a</Say>", "1:11: <Say>: colour is not supported"),
        ("<Say loop='many'>a</Say>", "1:11: <Say>: loop is no number from 0 to 1000"),
        ("<Say> </Say>", "1:11: <Say>: there is nothing to say"),
        ("<Play/>", "1:11: <Play>: there is nothing to play"),
        ("<Gather input='speech'/>", "keys alone are gathered"),
        ("<Gather><Dial>1</Dial></Gather>", "1:19: <Dial> is not supported here"),
        ("<Dial callerId='me'>+15550142</Dial>", "callerId is no number"),
        ("<Dial record='maybe'>+15550142</Dial>", "record says nothing that is known"),
        ("<Dial><Sip codecs='u'>sip:a@b</Sip></Dial>", "codecs is not supported"),
        (
            "<Dial><Number url='/whisper'>+15550142</Number></Dial>",
            "<Number>: url is not supported",
        ),
        ("<Record transcribe='true'/>", "not transcribed"),
        ("<Reject reason='tired'/>", "neither rejected nor busy"),
        ("<Redirect method='PUT'>/x</Redirect>", "neither GET nor POST"),
        (
            "<Connect><Stream url='ws://x'><Parameter name=''/></Stream></Connect>",
            "<Parameter>: a name",
        ),
        ("<Connect><Stream url='ws://x' track='both_tracks'/></Connect>", "the track"),
    ] {
        let all = remarks(inner);
        assert!(all.iter().any(|remark| remark.contains(expected)), "{inner}: {all:?}");
    }
    let many = "<X/>".repeat(100);
    assert_eq!(remarks(&many).len(), TWIML_REMARKS_MAX);
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_place() {
    let deep =
        format!("<Response><Say>{}x{}</Say></Response>", "<b>".repeat(40), "</b>".repeat(40));
    let wide = format!("<Response>{}</Response>", "<Say>x</Say>".repeat(300));
    let elements = format!("<Response><Say>{}</Say></Response>", "<b/>".repeat(2_000));
    let long = format!("<Response><Say>{}</Say></Response>", "x".repeat(TWIML_BYTES_MAX));
    let bomb = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><Response><Say>&b;</Say></Response>";
    let fetched = "<!DOCTYPE r SYSTEM \"http://127.0.0.1/x\"><Response/>";
    for (document, expected) in [
        ("", "1:1: the document is empty"),
        ("hello", "1:1: text outside of the element"),
        ("{\"a\": 1}", "text outside"),
        ("<Response>", "1:1: <Response> is not closed"),
        ("<Response>\n<Say>a</Play></Response>", "2:"),
        ("<Response><Say a=1>x</Say></Response>", "1:11"),
        ("<Response><Say a='1' a='2'>x</Say></Response>", "1:11"),
        ("<Response/><Response/>", "a second element"),
        ("<response/>", "no <Response>"),
        ("<Response><Say>&xxe;</Say></Response>", "1:16: an unknown entity"),
        ("<Response><Connect/></Response>", "1:11: <Connect> holds no <Stream>"),
        ("<Response><Connect><Stream url='https://x'/></Connect></Response>", "no ws:// or wss://"),
        ("<Response><Dial>sales</Dial></Response>", "nobody that can be called"),
        ("<Response><Dial><Sip>mailto:x</Sip></Dial></Response>", "no sip: or sips:"),
        (&deep, "elements deeper than 16"),
        (&wide, "more than 250 verbs"),
        (&elements, "more than 1000 elements"),
        (&long, "longer than 65536 bytes"),
        (bomb, "1:1: a document type is not read"),
        (fetched, "a document type is not read"),
    ] {
        let shown = document.chars().take(60).collect::<String>();
        assert!(error(document).contains(expected), "{shown}: {}", error(document));
    }
    assert!(parse(&[b'<', 0xff, b'>']).unwrap_err().what.contains("not UTF-8"));
}

#[test]
fn a_text_that_is_too_long_is_cut_and_told_of() {
    let document = format!("<Response><Say>{}</Say></Response>", "\u{e4}".repeat(5_000));
    let document = parse(document.as_bytes()).unwrap();
    let Some(Step::Play(Playing { sound: Sound::Speech { text, .. }, .. })) =
        document.steps.first()
    else {
        panic!("{:?}", document.steps)
    };
    assert_eq!((text.chars().count(), document.remarks.len()), (4_096, 1));
}

proptest! {
    #[test]
    fn no_document_panics_whatever_it_holds(bytes in any::<Vec<u8>>(), inner in "[<>/&;!A-Za-z='\" \\[\\]-]{0,80}") {
        exercise(&bytes);
        exercise(format!("<Response>{inner}</Response>").as_bytes());
        exercise(format!("<Response><Gather>{inner}</Gather><Redirect/></Response>").as_bytes());
    }
}
