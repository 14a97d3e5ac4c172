//! The verbs of a document, each read into steps.

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
use crate::agent::script::step::Step;
use crate::agent::script::step::Stream;
use crate::agent::twiml::Remark;
use crate::agent::twiml::TwimlError;
use crate::agent::twiml::attributes::Attributes;
use crate::agent::twiml::tree::Element;
use crate::types::limit::DIAL_PARTIES_MAX;
use crate::types::limit::KEYS_SENT_MAX;
use crate::types::limit::SAY_TEXT_MAX;
use crate::types::limit::STREAM_PARAMETERS_MAX;
use crate::types::limit::TWIML_VERBS_MAX;
use crate::types::number::E164;
use crate::types::peer::Credentials;
use crate::types::secret::Secret;
use std::time::Duration;

/// Rounds of a sound that is to be heard for ever: nobody listens for longer.
const FOR_EVER: u32 = 1_000;
/// Longest time a verb may name, in seconds.
const SECONDS_MAX: u32 = 3_600;
/// Longest `timeLimit`, in seconds: four hours, as with Twilio a day is no use.
const TALK_SECONDS_MAX: u32 = 86_400;
const GATHER_TIMEOUT: Duration = Duration::from_secs(5);
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest ringing, in seconds.
const DIAL_SECONDS_MAX: u32 = 600;
const RECORD_SILENCE: Duration = Duration::from_secs(5);
const RECORD_MAX: Duration = Duration::from_secs(3_600);
const ANY_KEY: &str = "1234567890*#";
/// Longest name or value of a parameter, in bytes.
const PARAMETER_BYTES_MAX: usize = 500;

type Done<T> = Result<T, TwimlError>;

/// What a document asks for, in order.
pub(super) fn steps(root: &Element, remarks: &mut Vec<Remark>) -> Done<Vec<Step>> {
    if root.name != "Response" {
        return Err(wrong(root, "the document is no <Response>"));
    }
    let mut steps = Vec::new();
    for child in &root.children {
        if steps.len() >= TWIML_VERBS_MAX {
            return Err(wrong(child, &format!("more than {TWIML_VERBS_MAX} verbs")));
        }
        read(child, &mut steps, remarks)?;
    }
    Ok(steps)
}

fn read(verb: &Element, steps: &mut Vec<Step>, remarks: &mut Vec<Remark>) -> Done<()> {
    match verb.name.as_str() {
        "Say" => steps.extend(say(verb, remarks).map(Step::Play)),
        "Play" => steps.extend(play(verb, remarks)),
        "Pause" => steps.push(Step::Pause(pause(verb, remarks))),
        "Gather" => steps.push(Step::Gather(Box::new(gather(verb, remarks)))),
        "Connect" => connect(verb, steps, remarks)?,
        "Dial" => steps.push(Step::Dial(Box::new(dial(verb, remarks)?))),
        "Record" => steps.push(Step::Record(Box::new(record(verb, remarks)))),
        "Redirect" => {
            let mut given = Attributes::of(verb);
            let method = given.method("method", remarks);
            given.finish(remarks);
            let address = verb.text.trim().to_owned();
            steps.push(Step::Redirect(Next::Url { address, method }));
        }
        "Reject" => steps.push(Step::Reject(reject(verb, remarks))),
        "Hangup" => {
            Attributes::of(verb).finish(remarks);
            steps.push(Step::HangUp);
        }
        _ => unknown(verb, remarks),
    }
    Ok(())
}

/// What is not known is read over, and told of.
fn unknown(element: &Element, remarks: &mut Vec<Remark>) {
    let shown: String = element.name.chars().take(64).collect();
    remarks.push(Remark { at: element.at, what: format!("<{shown}> is not supported here") });
}

fn wrong(element: &Element, what: &str) -> TwimlError {
    TwimlError { at: element.at, what: what.to_owned() }
}

fn rounds(given: &mut Attributes<'_>, remarks: &mut Vec<Remark>) -> u32 {
    match given.number("loop", (0, FOR_EVER), remarks) {
        Some(0) => FOR_EVER,
        Some(rounds) => rounds,
        None => 1,
    }
}

fn say(verb: &Element, remarks: &mut Vec<Remark>) -> Option<Playing> {
    let mut given = Attributes::of(verb);
    let rounds = rounds(&mut given, remarks);
    let language = given.text("language").unwrap_or_default().trim().to_owned();
    let voice = given.text("voice").unwrap_or_default().trim().to_owned();
    let mut text = verb.text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > SAY_TEXT_MAX {
        given.remark(
            format!("the text is longer than {SAY_TEXT_MAX} characters and is cut"),
            remarks,
        );
        text = text.chars().take(SAY_TEXT_MAX).collect();
    }
    if text.is_empty() {
        given.remark("there is nothing to say".to_owned(), remarks);
    }
    given.finish(remarks);
    let sound = Sound::Speech { text, language, voice };
    let is_said = matches!(&sound, Sound::Speech { text, .. } if !text.is_empty());
    is_said.then_some(Playing { sound, rounds })
}

fn play(verb: &Element, remarks: &mut Vec<Remark>) -> Vec<Step> {
    let mut given = Attributes::of(verb);
    let rounds = rounds(&mut given, remarks);
    let mut steps = Vec::new();
    if let Some(keys) = given.text("digits") {
        let known = |key: &char| "0123456789*#ABCDw".contains(*key);
        let keys: String = keys.chars().filter(known).take(KEYS_SENT_MAX).collect();
        if !keys.is_empty() {
            steps.push(Step::SendKeys(keys));
        }
    }
    let address = verb.text.trim();
    if let Some(name) = address.strip_prefix("asset:") {
        let sound = Sound::Asset(name.to_owned());
        steps.push(Step::Play(Playing { sound, rounds }));
    } else if !address.is_empty() {
        let sound = Sound::Url(address.to_owned());
        steps.push(Step::Play(Playing { sound, rounds }));
    } else if steps.is_empty() {
        given.remark("there is nothing to play".to_owned(), remarks);
    }
    given.finish(remarks);
    steps
}

fn pause(verb: &Element, remarks: &mut Vec<Remark>) -> Duration {
    let mut given = Attributes::of(verb);
    let length = given.seconds("length", (0, SECONDS_MAX), remarks);
    given.finish(remarks);
    length.unwrap_or(Duration::from_secs(1))
}

fn gather(verb: &Element, remarks: &mut Vec<Remark>) -> Gather {
    let mut given = Attributes::of(verb);
    let input = given.text("input").unwrap_or("dtmf");
    if !input.split_whitespace().eq(["dtmf"]) {
        given.remark("keys alone are gathered: speech is not recognised".to_owned(), remarks);
    }
    let digits_max = given.number("numDigits", (1, 1_000), remarks);
    let finish_key = match given.text("finishOnKey") {
        None => Some('#'),
        Some(key) => key.trim().chars().next().filter(|key| ANY_KEY.contains(*key)),
    };
    let timeout = match given.text("timeout").map(str::trim) {
        Some("auto") => None,
        _ => given.seconds("timeout", (1, SECONDS_MAX), remarks),
    };
    let next = given.next("action", "method", remarks);
    let even_empty = given.flag("actionOnEmptyResult", remarks).unwrap_or(false);
    given.ignore(&["language", "bargeIn", "dtmfDetection"]);
    given.finish(remarks);
    let mut prompts = Vec::new();
    for child in &verb.children {
        match child.name.as_str() {
            "Say" => prompts.extend(say(child, remarks).map(Prompt::Play)),
            "Play" => {
                prompts.extend(play(child, remarks).into_iter().filter_map(|step| match step {
                    Step::Play(playing) => Some(Prompt::Play(playing)),
                    _ => None,
                }))
            }
            "Pause" => prompts.push(Prompt::Pause(pause(child, remarks))),
            _ => unknown(child, remarks),
        }
    }
    Gather {
        prompts,
        digits_max,
        finish_key,
        timeout: timeout.unwrap_or(GATHER_TIMEOUT),
        next: next.unwrap_or_else(itself),
        even_empty,
    }
}

/// The document that is read, asked for anew.
const fn itself() -> Next {
    Next::Url { address: String::new(), method: Method::Post }
}

fn connect(verb: &Element, steps: &mut Vec<Step>, remarks: &mut Vec<Remark>) -> Done<()> {
    let mut given = Attributes::of(verb);
    let next = given.next("action", "method", remarks);
    given.finish(remarks);
    let before = steps.len();
    for child in &verb.children {
        match child.name.as_str() {
            "Stream" => steps.push(Step::Stream(Box::new(stream(child, remarks)?))),
            _ => unknown(child, remarks),
        }
    }
    if steps.len() == before {
        return Err(wrong(verb, "<Connect> holds no <Stream>"));
    }
    steps.extend(next.map(Step::Redirect));
    Ok(())
}

fn stream(element: &Element, remarks: &mut Vec<Remark>) -> Done<Stream> {
    let mut given = Attributes::of(element);
    let url = given.text("url").unwrap_or_default().trim();
    let scheme = ["wss://", "ws://"].iter().any(|scheme| url.starts_with(scheme));
    if !scheme || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong(element, "the url of <Stream> is no ws:// or wss:// address"));
    }
    let name = given.text("name").unwrap_or_default().trim().to_owned();
    let status = given.next("statusCallback", "statusCallbackMethod", remarks);
    if given.text("track").is_some_and(|track| track.trim() != "inbound_track") {
        given.remark("the track is that of the caller".to_owned(), remarks);
    }
    given.finish(remarks);
    let mut parameters: Vec<(String, String)> = Vec::new();
    for child in &element.children {
        if child.name != "Parameter" {
            unknown(child, remarks);
            continue;
        }
        let mut given = Attributes::of(child);
        let name = given.text("name").unwrap_or_default();
        let value = given.text("value").unwrap_or_default();
        if name.is_empty() || name.len() + value.len() > PARAMETER_BYTES_MAX {
            let what = format!("a name, and with its value {PARAMETER_BYTES_MAX} bytes at most");
            given.remark(what, remarks);
        } else if parameters.len() >= STREAM_PARAMETERS_MAX {
            given.remark("there are too many".to_owned(), remarks);
        } else {
            parameters.retain(|(known, _)| known != name);
            parameters.push((name.to_owned(), value.to_owned()));
        }
        given.finish(remarks);
    }
    Ok(Stream { url: url.to_owned(), name, parameters, status })
}

fn dial(verb: &Element, remarks: &mut Vec<Remark>) -> Done<Dial> {
    let mut given = Attributes::of(verb);
    let next = given.next("action", "method", remarks);
    let timeout = given.seconds("timeout", (1, DIAL_SECONDS_MAX), remarks);
    let limit = given.seconds("timeLimit", (1, TALK_SECONDS_MAX), remarks);
    let caller_id = match given.text("callerId") {
        None => None,
        Some(text) => {
            let number = number(text);
            if number.is_none() {
                given.remark("callerId is no number".to_owned(), remarks);
            }
            number
        }
    };
    let record = dial_record(&mut given, remarks);
    // We bridge once the other side answers, and let the caller hear ringing until then, as this asks.
    given.ignore(&["answerOnBridge"]);
    let mut to = parties(verb, remarks)?;
    if to.is_empty() {
        to.extend(number(verb.text.trim()).map(DialTo::Number));
    }
    if to.is_empty() {
        return Err(wrong(verb, "<Dial> holds nobody that can be called"));
    }
    if to.len() > DIAL_PARTIES_MAX {
        given.remark(format!("the first {DIAL_PARTIES_MAX} parties alone are called"), remarks);
        to.truncate(DIAL_PARTIES_MAX);
    }
    given.finish(remarks);
    Ok(Dial { to, caller_id, timeout: timeout.unwrap_or(DIAL_TIMEOUT), limit, next, record })
}

/// Whom a <Dial> calls.
fn parties(verb: &Element, remarks: &mut Vec<Remark>) -> Done<Vec<DialTo>> {
    let mut to = Vec::new();
    for child in &verb.children {
        let text = child.text.trim();
        let mut given = Attributes::of(child);
        match child.name.as_str() {
            "Number" => {
                let number = number(text);
                to.push(DialTo::Number(
                    number.ok_or_else(|| wrong(child, "<Number> holds no number"))?,
                ));
            }
            "Sip" => {
                let username = given.text("username").filter(|name| !name.is_empty());
                let password = given.text("password").unwrap_or_default().to_owned();
                let credentials = username.map(|username| Credentials {
                    username: username.to_owned(),
                    password: Secret::new(password),
                });
                let scheme = ["sip:", "sips:"].iter().any(|scheme| text.starts_with(scheme));
                let peer = text.parse().ok().filter(|_| scheme);
                let peer =
                    peer.ok_or_else(|| wrong(child, "<Sip> holds no sip: or sips: address"))?;
                to.push(DialTo::Peer(peer, credentials));
            }
            _ => {
                unknown(child, remarks);
                continue;
            }
        }
        given.finish(remarks);
    }
    Ok(to)
}

/// What is recorded of a conversation. Each side is a channel of its own anyway.
fn dial_record(given: &mut Attributes<'_>, remarks: &mut Vec<Remark>) -> Option<DialRecord> {
    let status = given.next("recordingStatusCallback", "recordingStatusCallbackMethod", remarks);
    // What was said is kept as it was said, and the callback is made once, when it is complete.
    given.ignore(&["trim", "recordingTrack", "recordingStatusCallbackEvent"]);
    let from_ringing = match given.text("record")?.trim() {
        "false" | "do-not-record" => return None,
        "true" | "record-from-answer" | "record-from-answer-dual" => false,
        "record-from-ringing" | "record-from-ringing-dual" => true,
        _ => {
            given.remark("record says nothing that is known".to_owned(), remarks);
            return None;
        }
    };
    Some(DialRecord { from_ringing, status })
}

/// A number as people write it: with its + or without, and with marks between its digits.
fn number(text: &str) -> Option<E164> {
    let text = text.trim();
    let plain: String = text.chars().filter(|c| !" -().".contains(*c)).collect();
    let plain = if plain.starts_with('+') { plain } else { format!("+{plain}") };
    plain.parse().ok()
}

fn record(verb: &Element, remarks: &mut Vec<Remark>) -> Record {
    let mut given = Attributes::of(verb);
    let next = given.next("action", "method", remarks);
    let length_max = given.seconds("maxLength", (1, SECONDS_MAX * 4), remarks);
    let silence = given.number("timeout", (0, SECONDS_MAX), remarks);
    let silence = match silence {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(u64::from(seconds))),
        None => Some(RECORD_SILENCE),
    };
    let finish_keys = match given.text("finishOnKey") {
        None => ANY_KEY.to_owned(),
        Some(keys) => keys.chars().filter(|key| ANY_KEY.contains(*key)).collect(),
    };
    let beep = given.flag("playBeep", remarks).unwrap_or(true);
    let status = given.next("recordingStatusCallback", "recordingStatusCallbackMethod", remarks);
    // What was said is kept as it was said, and the callback is made once, when it is complete.
    given.ignore(&["trim", "recordingStatusCallbackEvent"]);
    if given.flag("transcribe", remarks) == Some(true) {
        given.remark("what is recorded is not transcribed".to_owned(), remarks);
    }
    given.finish(remarks);
    Record {
        length_max: length_max.unwrap_or(RECORD_MAX),
        silence,
        finish_keys,
        beep,
        next: Some(next.unwrap_or_else(itself)),
        status,
    }
}

fn reject(verb: &Element, remarks: &mut Vec<Remark>) -> RejectReason {
    let mut given = Attributes::of(verb);
    let reason = match given.text("reason").map(str::trim) {
        None | Some("rejected") => RejectReason::Rejected,
        Some("busy") => RejectReason::Busy,
        Some(_) => {
            given.remark("the reason is neither rejected nor busy".to_owned(), remarks);
            RejectReason::Rejected
        }
    };
    given.finish(remarks);
    reason
}
