//! Reads arbitrary bytes as TwiML and follows what comes of it: the body of the fuzz target of documents.

use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::DialStatus;
use crate::agent::script::interpreter::Interpreter;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::Output;
use crate::agent::script::vocabulary::Replacement;
use crate::agent::script::vocabulary::Script;
use crate::agent::twiml;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

/// Turns of the interpreter after which a document has gone on for long enough.
const TURNS_MAX: u32 = 300;

/// Reads `data` and follows it to its end, or for a while; every document that is asked for is the same again.
/// Panics when a promise is broken.
pub fn exercise(data: &[u8]) {
    let Ok(document) = twiml::parse(data) else { return };
    let address = "https://bot.example/voice".to_owned();
    let remarks = document.remarks.iter().map(ToString::to_string).collect();
    let script = Script { steps: document.steps, remarks, address };
    let first = Replacement::Script(Box::new(script.clone()));
    let beginning = Beginning { first, fallback: None, after_answer: false };
    let mut interpreter = Interpreter::new(beginning);
    let (mut now, mut out) = (Moment::START, Vec::new());
    interpreter.handle(now, Input::Started, &mut out);
    for _ in 0..TURNS_MAX {
        let Some(output) = (!out.is_empty()).then(|| out.remove(0)) else {
            let Some(deadline) = interpreter.deadline() else { break };
            now = deadline.max(now + Duration::from_millis(1));
            interpreter.handle(now, Input::DeadlineReached, &mut out);
            continue;
        };
        if let Some(input) = answer(output, &script) {
            interpreter.handle(now, input, &mut out);
        }
    }
    interpreter.handle(now, Input::CallEnded, &mut out);
    assert_eq!(interpreter.deadline(), None, "a script that is over waits for something");
}

/// What a world in which everything works answers.
fn answer(output: Output, script: &Script) -> Option<Input<'static>> {
    match output {
        Output::Ready => Some(Input::Answered),
        Output::Ask { job, .. } => Some(Input::Script(job, Ok(script.clone()))),
        Output::Load { job, .. } => Some(Input::Sound(job, Ok(Bytes::from_static(b"sound")))),
        Output::Mark(mark) => Some(Input::MarkPlayed(mark)),
        Output::OpenStream(_) => Some(Input::StreamReady),
        Output::CloseStream => Some(Input::StreamEnded(None)),
        Output::Dial(_) => {
            let (status, duration) = (DialStatus::Busy, Duration::ZERO);
            Some(Input::DialEnded(DialAnswer { status, duration }))
        }
        Output::EndRecording => Some(Input::Recorded(None)),
        Output::Failed(_)
        | Output::Lost(_)
        | Output::HangUp
        | Output::Reject(_)
        | Output::Tell { .. }
        | Output::Play(_)
        | Output::Finish
        | Output::Clear
        | Output::SendKeys(_)
        | Output::EndDial
        | Output::BeginRecording
        | Output::Attach(_)
        | Output::Note(_) => None,
    }
}
