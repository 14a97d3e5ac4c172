//! Documents as the real `twilio` package writes them are read as they are meant.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use crate::agent_support::in_time;
use crate::python;
use std::time::Duration;
use tandem::agent::script::step::Dial;
use tandem::agent::script::step::DialRecord;
use tandem::agent::script::step::DialTo;
use tandem::agent::script::step::Gather;
use tandem::agent::script::step::Method;
use tandem::agent::script::step::Next;
use tandem::agent::script::step::Playing;
use tandem::agent::script::step::Prompt;
use tandem::agent::script::step::Record;
use tandem::agent::script::step::RejectReason;
use tandem::agent::script::step::Sound;
use tandem::agent::script::step::Step;
use tandem::agent::script::step::Stream;
use tandem::agent::twiml;
use tandem::types::peer::Credentials;
use tandem::types::secret::Secret;

fn url(address: &str, method: Method) -> Next {
    Next::Url { address: address.to_owned(), method }
}

fn speech(text: &str, language: &str, voice: &str) -> Sound {
    let (text, language, voice) = (text.to_owned(), language.to_owned(), voice.to_owned());
    Sound::Speech { text, language, voice }
}

fn fetched(address: &str) -> Sound {
    Sound::Url(address.to_owned())
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn talking() -> Vec<Step> {
    let said = speech("Fish & <chips>", "en-GB", "Polly.Amy");
    vec![
        Step::Play(Playing { sound: said, rounds: 2 }),
        Step::Play(Playing { sound: fetched("https://bot.example/tune.wav"), rounds: 3 }),
        Step::SendKeys("ww12#".to_owned()),
        Step::Pause(seconds(4)),
    ]
}

fn gathering() -> Vec<Step> {
    let gather = Gather {
        prompts: vec![
            Prompt::Play(Playing::once(speech("Which?", "", ""))),
            Prompt::Play(Playing::once(fetched("/which.wav"))),
            Prompt::Pause(seconds(1)),
        ],
        digits_max: Some(4),
        finish_key: Some('*'),
        timeout: seconds(7),
        next: url("/keys", Method::Get),
        even_empty: false,
    };
    vec![Step::Gather(Box::new(gather)), Step::Redirect(url("/again", Method::Get))]
}

fn streaming() -> Vec<Step> {
    let stream = Stream {
        url: "wss://bot.example/media".to_owned(),
        name: "desk".to_owned(),
        parameters: vec![("caller".to_owned(), "\"A\" & b".to_owned())],
        status: Some(url("/stream", Method::Post)),
    };
    vec![Step::Stream(Box::new(stream)), Step::Redirect(url("/after", Method::Post))]
}

fn dialling() -> Vec<Step> {
    let number = |text: &str| DialTo::Number(text.parse().unwrap());
    let own = Credentials { username: "u".to_owned(), password: Secret::new("p".to_owned()) };
    let desk = "sip:desk@pbx.example;transport=tcp".parse().unwrap();
    let whole = Dial {
        to: vec![number("+15550142"), number("+15550143"), DialTo::Peer(desk, Some(own))],
        caller_id: Some("+15550100".parse().unwrap()),
        timeout: seconds(20),
        limit: Some(seconds(600)),
        next: Some(url("/dialled", Method::Post)),
        record: Some(DialRecord { from_ringing: false, status: Some(url("/taped", Method::Get)) }),
    };
    vec![Step::Dial(Box::new(whole))]
}

fn dialling_one() -> Vec<Step> {
    let one = Dial {
        to: vec![DialTo::Number("+15550142".parse().unwrap())],
        caller_id: None,
        timeout: seconds(30),
        limit: None,
        next: None,
        record: None,
    };
    vec![Step::Dial(Box::new(one))]
}

fn recording() -> Vec<Step> {
    let record = Record {
        length_max: seconds(30),
        silence: Some(seconds(3)),
        finish_keys: "#".to_owned(),
        beep: false,
        next: Some(url("/recorded", Method::Post)),
        status: Some(url("/whole", Method::Post)),
    };
    vec![Step::Record(Box::new(record)), Step::HangUp]
}

#[tokio::test]
async fn documents_of_the_twilio_package_are_read_as_they_are_meant() {
    let mut writer = python::program("python");
    writer.arg(python::script("twilio_twiml.py"));
    let written = in_time("documents", writer.output()).await.unwrap();
    let why = String::from_utf8_lossy(&written.stderr);
    let lines = String::from_utf8(written.stdout).unwrap();
    let documents: Vec<String> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        talking(),
        gathering(),
        streaming(),
        dialling(),
        dialling_one(),
        recording(),
        vec![Step::Reject(RejectReason::Busy)],
        vec![Step::Reject(RejectReason::Rejected)],
        vec![Step::Play(Playing::once(speech("Please hold.", "", "")))],
    ];
    assert_eq!(documents.len(), expected.len(), "{why}");
    for (text, steps) in documents.iter().zip(expected) {
        let document = twiml::parse(text.as_bytes()).unwrap();
        assert_eq!(document.steps, steps, "{text}");
        let told: Vec<_> = document.remarks.iter().map(ToString::to_string).collect();
        // What this version does not know is told of, and all else is read without a word.
        let unknown = told.iter().filter(|remark| remark.contains("<Enqueue>")).count();
        let expected = usize::from(text.contains("<Enqueue>"));
        assert_eq!((told.len(), unknown), (expected, expected), "{text}: {told:?}");
    }
}
