//! Scripts followed in virtual time, with everything they can meet.

use super::*;
use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::DialStatus;
use crate::agent::script::step::Dial;
use crate::agent::script::step::DialRecord;
use crate::agent::script::step::DialTo;
use crate::agent::script::step::Gather;
use crate::agent::script::step::Listen;
use crate::agent::script::step::Method;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Prompt;
use crate::agent::script::step::Record;
use crate::agent::script::step::RejectReason;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Stream;
use crate::agent::script::vocabulary::Note;
use crate::audio::g711;
use crate::audio::tone::Tone;
use crate::types::id::RecordingId;
use bytes::Bytes;
use uuid::Uuid;

/// An interpreter and what it asked for since the last look.
struct Lab {
    interpreter: Interpreter,
    now: Moment,
    out: Vec<Output>,
}

const HOME: &str = "https://bot.example/voice";

fn url(address: &str) -> Next {
    Next::Url { address: address.to_owned(), method: Method::Post }
}

fn prompt(name: &str) -> Playing {
    Playing::once(Sound::Asset(name.to_owned()))
}

fn script(steps: &[Step]) -> Script {
    Script { steps: steps.to_vec(), remarks: Vec::new(), address: HOME.to_owned() }
}

fn error(code: u32) -> ScriptError {
    ScriptError { code, why: "why".to_owned(), url: HOME.to_owned(), is_skipped: false }
}

impl Lab {
    fn new(fallback: Option<Next>) -> Self {
        let first = Replacement::Next(url(HOME));
        let interpreter = Interpreter::new(Beginning { first, fallback, after_answer: false });
        let mut lab = Self { interpreter, now: Moment::START, out: Vec::new() };
        lab.put(Input::Started);
        lab
    }

    /// One whose first script has these steps, in a call that is answered once it asks for that.
    fn following(steps: &[Step]) -> Self {
        let mut lab = Self::new(None);
        let (job, _) = lab.asked();
        lab.put(Input::Script(job, Ok(script(steps))));
        if lab.out.contains(&Output::Ready) {
            lab.put(Input::Answered);
        }
        lab.out.retain(|output| !matches!(output, Output::Note(_) | Output::Ready));
        lab
    }

    fn put(&mut self, input: Input<'_>) {
        self.interpreter.handle(self.now, input, &mut self.out);
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The only thing it wants, which is a script.
    fn asked(&mut self) -> (u32, Answers) {
        let out = self.take();
        let mut asks = out.iter().filter_map(|output| match output {
            Output::Ask { job, answers, .. } => Some((*job, answers.clone())),
            _ => None,
        });
        let ask = asks.next().unwrap_or_else(|| panic!("{out:?}"));
        assert!(asks.next().is_none(), "{out:?}");
        ask
    }

    fn asked_where(&self) -> Next {
        let asked = self.out.iter().find_map(|output| match output {
            Output::Ask { next, .. } => Some(next.clone()),
            _ => None,
        });
        asked.unwrap_or_else(|| panic!("{:?}", self.out))
    }

    /// It loads this sound, which comes, and is on its way to the caller; gives its mark.
    fn hear(&mut self, name: &str) -> u64 {
        let out = self.take();
        let [Output::Load { job, sound: Sound::Asset(own) }] = &out[..] else { panic!("{out:?}") };
        assert_eq!(own, name);
        self.put(Input::Sound(*job, Ok(Bytes::from_static(b"abc"))));
        let out = self.take();
        let [Output::Play(_), Output::Mark(mark), Output::Finish] = &out[..] else {
            panic!("{out:?}")
        };
        *mark
    }

    /// It says this from the beginning to the end.
    fn hear_out(&mut self, name: &str) {
        let mark = self.hear(name);
        self.put(Input::MarkPlayed(mark));
    }

    fn wait(&mut self) {
        self.now = self.interpreter.deadline().expect("it waits for something");
        self.put(Input::DeadlineReached);
    }

    fn speak(&mut self, hz: u16, frames: usize) {
        let mut tone = Tone::new(hz, 8_000);
        for _ in 0..frames {
            let frame = tone.frame().map(g711::ulaw_encode);
            self.put(Input::Audio(&frame));
        }
    }
}

#[test]
fn a_script_is_asked_for_at_once_and_answers_the_call_with_its_first_word() {
    let mut lab = Lab::new(None);
    assert_eq!(lab.asked_where(), url(HOME));
    let (job, _) = lab.asked();
    lab.put(Input::Script(job + 1, Ok(script(&[Step::HangUp]))));
    assert_eq!(lab.take(), [], "nobody asked for that one");
    lab.put(Input::Script(job, Ok(script(&[Step::Play(prompt("a"))]))));
    let out = lab.take();
    assert!(matches!(&out[..], [Output::Note(_), Output::Ready]), "{out:?}");
    lab.put(Input::Answered);
    lab.hear_out("a");
    assert_eq!(lab.take(), [Output::HangUp]);
    lab.put(Input::Digit('1'));
    assert_eq!((lab.take(), lab.interpreter.deadline()), (Vec::new(), None));
}

#[test]
fn a_call_of_ours_gets_its_script_when_it_is_answered() {
    let first = Replacement::Next(url(HOME));
    let beginning = Beginning { first, fallback: None, after_answer: true };
    let interpreter = Interpreter::new(beginning);
    let mut lab = Lab { interpreter, now: Moment::START, out: Vec::new() };
    lab.put(Input::Started);
    assert_eq!(lab.take(), [Output::Ready]);
    lab.put(Input::Answered);
    lab.asked();
}

#[test]
fn a_call_is_refused_before_it_was_answered() {
    let mut lab =
        Lab::following(&[Step::Pause(Duration::from_secs(2)), Step::Reject(RejectReason::Busy)]);
    assert_eq!(lab.take(), []);
    lab.wait();
    assert_eq!(lab.take(), [Output::Reject(RejectReason::Busy)]);
}

#[test]
fn a_sound_of_which_nothing_is_heard_is_not_waited_for_for_ever() {
    let mut lab = Lab::following(&[Step::Play(prompt("a"))]);
    lab.hear("a");
    lab.wait();
    assert_eq!(lab.now, Moment::START + Duration::from_secs(30));
    assert_eq!(lab.take(), [Output::HangUp]);
}

#[test]
fn a_sound_that_nobody_hears_is_waited_for_until_somebody_does() {
    let mut lab = Lab::following(&[Step::Play(prompt("a"))]);
    let mark = lab.hear("a");
    lab.put(Input::Unheard);
    assert_eq!(lab.interpreter.deadline(), None);
    lab.now += Duration::from_secs(3_600);
    lab.put(Input::Digit('1'));
    assert_eq!(lab.take(), []);
    lab.put(Input::MarkPlayed(mark));
    assert_eq!(lab.take(), [Output::HangUp]);
}

#[test]
fn sounds_are_heard_one_after_another_as_often_as_is_said() {
    let twice = Playing { rounds: 2, ..prompt("b") };
    let mut lab =
        Lab::following(&[Step::Play(prompt("a")), Step::Play(twice), Step::Play(prompt("c"))]);
    lab.hear_out("a");
    let mark = lab.hear("b");
    lab.put(Input::MarkPlayed(mark + 7));
    assert_eq!(lab.take(), [], "a mark of something else");
    lab.put(Input::MarkPlayed(mark));
    let out = lab.take();
    let [Output::Play(_), Output::Mark(again), Output::Finish] = &out[..] else {
        panic!("{out:?}")
    };
    lab.put(Input::MarkPlayed(*again));
    let out = lab.take();
    let [Output::Load { job, .. }] = &out[..] else { panic!("{out:?}") };
    lab.put(Input::Sound(*job, Err("it is gone".to_owned())));
    let out = lab.take();
    assert!(
        matches!(&out[..], [Output::Note(Note { what: NoteKind::SoundFailed, detail }), Output::HangUp] if detail == "it is gone"),
        "{out:?}"
    );
}

fn gather(prompts: &[&str], digits_max: Option<u32>) -> Step {
    let prompts = prompts.iter().map(|name| Prompt::Play(prompt(name))).collect();
    let timeout = Duration::from_secs(5);
    let (next, finish_key) = (url("/keys"), Some('#'));
    Step::Gather(Box::new(Gather {
        prompts,
        digits_max,
        finish_key,
        timeout,
        next,
        even_empty: false,
    }))
}

#[test]
fn a_wait_among_keys_takes_half_a_second_behind_those_before_it() {
    let keys = |keys: &str| Output::SendKeys(keys.to_owned());
    let mut lab = Lab::following(&[Step::SendKeys("12ww3w".to_owned()), Step::HangUp]);
    assert_eq!(lab.take(), [keys("12")]);
    assert_eq!(lab.interpreter.deadline(), Some(lab.now + Duration::from_millis(1_400)));
    lab.wait();
    assert_eq!(lab.take(), [keys("3")]);
    lab.wait();
    assert_eq!(lab.take(), [Output::HangUp]);
    let mut lab = Lab::following(&[Step::SendKeys("w5#".to_owned()), Step::HangUp]);
    assert_eq!(lab.take(), []);
    lab.wait();
    assert_eq!(lab.take(), [keys("5#"), Output::HangUp]);
}

#[test]
fn keys_are_gathered_until_there_are_enough_or_one_ends_them() {
    let mut lab = Lab::following(&[gather(&["menu"], Some(2)), Step::HangUp]);
    lab.hear("menu");
    lab.put(Input::Digit('1'));
    assert_eq!(lab.take(), [Output::Clear], "the prompt falls silent");
    lab.put(Input::Digit('2'));
    assert_eq!(lab.asked_where(), url("https://bot.example/keys"));
    assert_eq!(lab.asked().1.digits.as_deref(), Some("12"));

    let mut lab = Lab::following(&[gather(&[], None), Step::HangUp]);
    for digit in "123#".chars() {
        lab.put(Input::Digit(digit));
    }
    let (_, answers) = lab.asked();
    assert_eq!((answers.digits.as_deref(), answers.finished_on), (Some("123"), Some('#')));
}

#[test]
fn who_presses_nothing_is_waited_for_after_the_prompt_and_no_longer() {
    let mut lab = Lab::following(&[gather(&["menu", "more"], None), Step::HangUp]);
    lab.hear_out("menu");
    lab.hear_out("more");
    assert_eq!(lab.interpreter.deadline(), Some(lab.now + Duration::from_secs(5)));
    lab.wait();
    assert_eq!(lab.take(), [Output::HangUp]);
    // A key each four seconds is waited for.
    let mut lab = Lab::following(&[gather(&[], None)]);
    for digit in "12".chars() {
        lab.now += Duration::from_secs(4);
        lab.put(Input::DeadlineReached);
        lab.put(Input::Digit(digit));
    }
    lab.wait();
    assert_eq!(lab.asked().1.digits.as_deref(), Some("12"));
}

#[test]
fn a_prompt_that_comes_after_the_first_key_is_not_heard() {
    let mut lab = Lab::following(&[gather(&["menu"], Some(2))]);
    let out = lab.take();
    let [Output::Load { job, .. }] = &out[..] else { panic!("{out:?}") };
    lab.put(Input::Digit('1'));
    lab.take();
    lab.put(Input::Sound(*job, Ok(Bytes::from_static(b"late"))));
    assert_eq!(lab.take(), []);
}

fn stream() -> Step {
    Step::Stream(Box::new(Stream {
        url: "ws://bot.example/ws".to_owned(),
        name: "bot".to_owned(),
        parameters: Vec::new(),
        status: Some(url("/status")),
    }))
}

#[test]
fn an_agent_answers_the_call_by_being_there_and_gives_way_to_the_next_step() {
    let mut lab = Lab::following(&[stream(), Step::Play(prompt("bye"))]);
    assert!(matches!(&lab.take()[..], [Output::OpenStream(_)]));
    lab.put(Input::StreamReady);
    let out = lab.take();
    assert!(
        matches!(&out[..], [Output::Ready, Output::Tell { next, .. }] if *next == url("https://bot.example/status")),
        "{out:?}"
    );
    lab.put(Input::Answered);
    lab.put(Input::StreamEnded(None));
    assert!(matches!(lab.out.remove(0), Output::Tell { .. }));
    lab.hear_out("bye");
    assert_eq!(lab.take(), [Output::HangUp]);
}

#[test]
fn an_agent_that_fails_is_left_for_the_next_step_or_for_whoever_takes_over() {
    let failed = || Input::StreamEnded(Some(HangupCause::AgentUnreachable));
    let mut lab = Lab::following(&[stream(), Step::HangUp]);
    lab.put(failed());
    assert_eq!(lab.out.last(), Some(&Output::HangUp));
    let mut lab = Lab::following(&[stream()]);
    lab.put(failed());
    assert_eq!(lab.out.last(), Some(&Output::Failed(HangupCause::AgentUnreachable)));
    let mut lab = Lab::following(&[stream()]);
    lab.put(Input::StreamReady);
    lab.put(Input::StreamEnded(Some(HangupCause::AgentLost)));
    assert_eq!(lab.out.last(), Some(&Output::Lost(HangupCause::AgentLost)));
}

#[test]
fn a_script_that_cannot_be_had_is_replaced_once() {
    let mut lab = Lab::new(Some(url("https://bot.example/fallback")));
    let (job, _) = lab.asked();
    lab.put(Input::Script(job, Err(error(11_200))));
    assert_eq!(lab.asked_where(), url("https://bot.example/fallback"));
    let (job, answers) = lab.asked();
    assert_eq!(answers.error, Some(error(11_200)));
    lab.put(Input::Script(job, Err(error(12_100))));
    let out = lab.take();
    assert_eq!(out.last(), Some(&Output::Failed(HangupCause::AgentUnreachable)));
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Note(note) if note.detail.starts_with("12100")))
    );
}

#[test]
fn where_no_server_is_asked_the_call_goes_to_whoever_takes_over_for_that() {
    let mut lab = Lab::new(Some(url("https://bot.example/fallback")));
    let (job, _) = lab.asked();
    lab.put(Input::Script(job, Err(ScriptError::skipped(HOME.to_owned()))));
    assert_eq!(lab.asked_where(), url("https://bot.example/fallback"), "another may be there");
    let (job, _) = lab.asked();
    lab.put(Input::Script(job, Err(ScriptError::skipped(HOME.to_owned()))));
    assert_eq!(lab.take().last(), Some(&Output::Failed(HangupCause::AgentCircuitOpen)));
}

#[test]
fn scripts_that_lead_nowhere_are_given_up() {
    let mut lab = Lab::new(Some(url("https://bot.example/fallback")));
    for _ in 0..SCRIPTS_IDLE_MAX {
        let (job, _) = lab.asked();
        lab.put(Input::Script(job, Ok(script(&[Step::Redirect(url(""))]))));
    }
    assert_eq!(lab.take().last(), Some(&Output::Failed(HangupCause::AgentUnreachable)));
    // One that says something each time may go on for ever.
    let steps = [Step::Pause(Duration::from_secs(1)), Step::Redirect(url(""))];
    let mut lab = Lab::following(&steps);
    for _ in 0..SCRIPTS_IDLE_MAX * 3 {
        lab.wait();
        let (job, _) = lab.asked();
        lab.put(Input::Script(job, Ok(script(&steps))));
    }
    // One that dials who is never there may not.
    let dial = Step::Dial(Box::new(Dial { next: Some(url("")), ..dial() }));
    let mut lab = Lab::following(std::slice::from_ref(&dial));
    for _ in 0..SCRIPTS_IDLE_MAX - 1 {
        lab.put(Input::DialEnded(DialAnswer {
            status: DialStatus::Failed,
            duration: Duration::ZERO,
        }));
        let (job, _) = lab.asked();
        lab.put(Input::Script(job, Ok(script(std::slice::from_ref(&dial)))));
    }
    lab.put(Input::DialEnded(DialAnswer { status: DialStatus::Failed, duration: Duration::ZERO }));
    assert_eq!(lab.take().last(), Some(&Output::Lost(HangupCause::AgentUnreachable)));
}

fn dial() -> Dial {
    Dial {
        to: vec![DialTo::Number("+15550142".parse().unwrap())],
        caller_id: None,
        timeout: Duration::from_secs(30),
        limit: Some(Duration::from_secs(60)),
        next: Some(url("/dialled")),
        record: None,
    }
}

#[test]
fn whoever_was_dialled_may_talk_for_as_long_as_is_said() {
    let mut lab = Lab::following(&[Step::Dial(Box::new(dial()))]);
    assert!(matches!(&lab.take()[..], [Output::Dial(_)]));
    assert_eq!(lab.interpreter.deadline(), None);
    lab.put(Input::DialAnswered);
    lab.wait();
    assert_eq!(lab.take(), [Output::EndDial]);
    let answer = DialAnswer { status: DialStatus::Completed, duration: Duration::from_secs(60) };
    lab.put(Input::DialEnded(answer));
    assert_eq!(lab.asked().1.dial, Some(answer));
}

fn taped(from_ringing: bool) -> Step {
    let record = Some(DialRecord { from_ringing, status: Some(url("/taped")) });
    Step::Dial(Box::new(Dial { record, ..dial() }))
}

#[test]
fn a_conversation_is_recorded_from_its_answer_and_told_of_once_it_is_whole() {
    let mut lab = Lab::following(&[taped(false)]);
    assert!(matches!(&lab.take()[..], [Output::Dial(_)]), "a ringing telephone is not recorded");
    lab.put(Input::DialAnswered);
    assert_eq!(lab.take(), [Output::BeginRecording]);
    let id = RecordingId::from_uuid(Uuid::from_u128(7));
    lab.put(Input::RecordingBegun(id));
    let answer = DialAnswer { status: DialStatus::Completed, duration: Duration::from_secs(9) };
    lab.put(Input::DialEnded(answer));
    assert_eq!(lab.take(), [Output::EndRecording], "its script is not asked before it is whole");
    let made = (id, Duration::from_secs(9));
    lab.put(Input::Recorded(Some(made)));
    let out = lab.take();
    let [Output::Tell { answers: told, .. }, Output::Ask { answers, .. }] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!((told.recording, told.dial), (Some(made), None));
    assert_eq!((answers.recording, answers.dial), (Some(made), Some(answer)));
}

#[test]
fn a_recording_of_a_conversation_holds_nothing_up() {
    let answer = DialAnswer { status: DialStatus::NoAnswer, duration: Duration::ZERO };
    // From the first ring, of somebody who never answers; its end is not told in time.
    let mut lab = Lab::following(&[taped(true)]);
    assert!(matches!(&lab.take()[..], [Output::Dial(_), Output::BeginRecording]));
    lab.put(Input::RecordingBegun(RecordingId::from_uuid(Uuid::from_u128(7))));
    lab.put(Input::DialEnded(answer));
    assert_eq!(lab.take(), [Output::EndRecording]);
    lab.wait();
    let (_, answers) = lab.asked();
    assert_eq!((answers.recording, answers.dial), (None, Some(answer)));
    // One that cannot be made is not tried again, and waited for by nobody.
    let mut lab = Lab::following(&[taped(true)]);
    lab.put(Input::Recorded(None));
    lab.put(Input::DialAnswered);
    lab.take();
    lab.put(Input::DialEnded(answer));
    assert_eq!(lab.asked().1.dial, Some(answer));
    // Another script ends it with the conversation; the call's end with itself.
    let mut lab = Lab::following(&[taped(false)]);
    lab.put(Input::DialAnswered);
    lab.put(Input::RecordingBegun(RecordingId::from_uuid(Uuid::from_u128(7))));
    lab.take();
    lab.put(Input::Replaced(Replacement::Script(Box::new(script(&[Step::HangUp])))));
    let out = lab.take();
    assert_eq!(out[..2], [Output::EndRecording, Output::EndDial]);
    let mut lab = Lab::following(&[taped(false)]);
    lab.put(Input::DialAnswered);
    lab.put(Input::RecordingBegun(RecordingId::from_uuid(Uuid::from_u128(7))));
    lab.take();
    lab.put(Input::CallEnded);
    assert!(matches!(&lab.take()[..], [Output::Tell { .. }]));
}

#[test]
fn another_script_takes_over_at_once_whatever_runs() {
    let by = || Input::Replaced(Replacement::Script(Box::new(script(&[Step::HangUp]))));
    let mut lab = Lab::following(&[Step::Play(prompt("a")), Step::Play(prompt("b"))]);
    lab.hear("a");
    lab.put(by());
    let out = lab.take();
    assert_eq!((out.first(), out.last()), (Some(&Output::Clear), Some(&Output::HangUp)));
    // Who speaks through a stream is ended first.
    let mut lab = Lab::following(&[stream()]);
    lab.put(Input::StreamReady);
    lab.take();
    lab.put(by());
    assert_eq!(lab.take().first(), Some(&Output::CloseStream));
    lab.put(Input::StreamEnded(None));
    assert_eq!(lab.take().last(), Some(&Output::HangUp));
    let mut lab = Lab::following(&[Step::Dial(Box::new(dial()))]);
    lab.take();
    lab.put(by());
    assert_eq!(lab.take().first(), Some(&Output::EndDial));
    lab.put(Input::DialEnded(DialAnswer {
        status: DialStatus::Canceled,
        duration: Duration::ZERO,
    }));
    assert_eq!(lab.take().last(), Some(&Output::HangUp));
    // What was asked for before is not wanted any more.
    let mut lab = Lab::new(None);
    let (old, _) = lab.asked();
    lab.put(Input::Replaced(Replacement::Next(url(HOME))));
    let (new, _) = lab.asked();
    lab.put(Input::Script(old, Ok(script(&[Step::Reject(RejectReason::Busy)]))));
    assert_eq!(lab.take(), []);
    lab.put(Input::Script(new, Ok(script(&[Step::HangUp]))));
    assert_eq!(lab.take().last(), Some(&Output::HangUp));
}

fn fetched(name: &str) -> Playing {
    Playing::once(Sound::Url(format!("https://bot.example/{name}")))
}

impl Lab {
    /// The sounds it asks for, with their numbers, and whether anything is played.
    fn loads(&mut self) -> (Vec<(u32, String)>, bool) {
        let out = self.take();
        let is_played = out.iter().any(|output| matches!(output, Output::Play(_)));
        let load = |output: Output| match output {
            Output::Load { job, sound: Sound::Url(url) } => {
                Some((job, url.rsplit('/').next().unwrap().to_owned()))
            }
            _ => None,
        };
        (out.into_iter().filter_map(load).collect(), is_played)
    }

    fn come(&mut self, job: u32) {
        self.put(Input::Sound(job, Ok(Bytes::from_static(b"abc"))));
    }
}

#[test]
fn the_next_sound_is_had_while_the_one_before_it_is_heard() {
    let steps = ["a", "b", "c"].map(|name| Step::Play(fetched(name)));
    let mut lab = Lab::new(None);
    let (job, _) = lab.asked();
    lab.put(Input::Script(job, Ok(script(&steps))));
    // The first one while the call is answered.
    let (first, _) = lab.loads();
    assert_eq!(first.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a"]);
    lab.come(first[0].0);
    lab.put(Input::Answered);
    let (second, is_played) = lab.loads();
    assert_eq!(second.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(is_played, "it was there already");
    // It comes while the first is heard, and is asked for no more.
    lab.come(second[0].0);
    assert_eq!(lab.loads(), (vec![], false));
    lab.put(Input::MarkPlayed(1));
    let (third, is_played) = lab.loads();
    assert!(is_played && third.len() == 1 && third[0].1 == "c", "{third:?}");
    // One that is late is waited for where it is.
    lab.put(Input::MarkPlayed(2));
    assert_eq!(lab.loads(), (vec![], false));
    lab.come(third[0].0);
    assert_eq!(lab.loads(), (vec![], true));
}

#[test]
fn a_sound_that_cannot_be_had_ahead_is_asked_for_once_more() {
    let mut lab = Lab::following(&["a", "b"].map(|name| Step::Play(fetched(name))));
    let (asked, _) = lab.loads();
    let [(first, _), (second, _)] = &asked[..] else { panic!("{asked:?}") };
    lab.put(Input::Sound(*second, Err("away".to_owned())));
    lab.come(*first);
    lab.put(Input::MarkPlayed(1));
    let (again, _) = lab.loads();
    assert!(again.len() == 1 && again[0].1 == "b", "{again:?}");
    lab.put(Input::Sound(again[0].0, Err("away".to_owned())));
    assert_eq!(lab.take().last(), Some(&Output::HangUp), "twice in vain is enough");
}

#[test]
fn prompts_are_had_ahead_and_what_another_script_needs_is_not_taken_for_them() {
    let prompts = ["a", "b"].map(|name| Prompt::Play(fetched(name))).to_vec();
    let gather = Gather {
        prompts,
        digits_max: None,
        finish_key: None,
        timeout: Duration::from_secs(5),
        next: url("/keys"),
        even_empty: false,
    };
    let mut lab = Lab::following(&[Step::Gather(Box::new(gather))]);
    let (asked, _) = lab.loads();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let by = script(&[Step::Play(fetched("b"))]);
    lab.put(Input::Replaced(Replacement::Script(Box::new(by))));
    let (fresh, _) = lab.loads();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    lab.come(asked[1].0);
    assert_eq!(lab.loads(), (vec![], false));
    lab.come(fresh[0].0);
    assert_eq!(lab.loads(), (vec![], true));
}

fn record(beep: bool) -> Step {
    Step::Record(Box::new(Record {
        length_max: Duration::from_secs(20),
        silence: Some(Duration::from_secs(2)),
        finish_keys: "#".to_owned(),
        beep,
        next: Some(url("/recorded")),
        status: None,
    }))
}

const ID: RecordingId = RecordingId::from_uuid(Uuid::from_u128(9));

#[test]
fn a_recording_ends_with_silence_a_key_or_its_time() {
    let made = || Input::Recorded(Some((ID, Duration::from_secs(3))));
    for how in 0..3 {
        let mut lab = Lab::following(&[record(false)]);
        assert_eq!(lab.take(), [Output::BeginRecording]);
        lab.put(Input::RecordingBegun(ID));
        lab.speak(300, 50);
        assert_eq!(lab.take(), []);
        match how {
            0 => lab.speak(0, 120),
            1 => lab.put(Input::Digit('#')),
            _ => lab.wait(),
        }
        assert_eq!(lab.take(), [Output::EndRecording], "{how}");
        lab.put(made());
        let (_, answers) = lab.asked();
        assert_eq!(answers.recording, Some((ID, Duration::from_secs(3))));
        assert_eq!(answers.digits.as_deref(), (how == 1).then_some("#"));
    }
}

#[test]
fn a_recording_begins_after_its_beep_and_a_failed_one_is_left_out() {
    let mut lab = Lab::following(&[record(true), Step::HangUp]);
    let out = lab.take();
    let [Output::Load { job, sound: Sound::Beep }] = &out[..] else { panic!("{out:?}") };
    lab.put(Input::Sound(*job, Ok(Bytes::from_static(b"beep"))));
    let out = lab.take();
    let [Output::Play(_), Output::Mark(mark), Output::Finish] = &out[..] else { panic!("{out:?}") };
    lab.put(Input::MarkPlayed(*mark));
    assert_eq!(lab.take(), [Output::BeginRecording]);
    lab.put(Input::Recorded(None));
    assert_eq!(lab.take().last(), Some(&Output::HangUp));
}

#[test]
fn a_caller_who_hangs_up_ends_its_message_and_who_waits_for_it_is_told() {
    let mut lab = Lab::following(&[record(false)]);
    lab.put(Input::RecordingBegun(ID));
    lab.take();
    lab.now += Duration::from_secs(4);
    lab.put(Input::CallEnded);
    let out = lab.take();
    let [Output::Tell { next, answers, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*next, url("https://bot.example/recorded"));
    assert_eq!(answers.digits.as_deref(), Some("hangup"));
    assert_eq!(answers.recording, Some((ID, Duration::from_secs(4))));
}

#[test]
fn the_end_of_what_the_caller_says_is_waited_for() {
    let listen = Step::Listen(Listen {
        patience: Duration::from_secs(6),
        silence: Duration::from_millis(600),
        spoke: 4,
        silent: 5,
    });
    let listening = || Lab::following(std::slice::from_ref(&listen));
    let mut lab = listening();
    lab.speak(0, 50);
    lab.speak(300, 40);
    lab.speak(0, 20);
    assert_eq!(lab.take(), [], "the caller may only be breathing");
    lab.speak(0, 40);
    assert_eq!(lab.asked_where(), Next::Part(4));
    let mut lab = listening();
    lab.speak(0, 50);
    lab.wait();
    assert_eq!(lab.asked_where(), Next::Part(5));
    let mut lab = listening();
    lab.put(Input::Digit('2'));
    assert_eq!(lab.asked().1.digits.as_deref(), Some("2"));
}
