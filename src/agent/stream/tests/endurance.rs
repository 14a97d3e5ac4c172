//! Connections that break in a call.

use super::*;
use crate::agent::session::Said;
use crate::types::limit::AGENT_RESUMES_MAX;

const LOST: Output = Output::Lost(HangupCause::AgentLost);
const BROKEN: Output = Output::Interrupted(HangupCause::AgentLost);

impl Lab {
    /// A running stream that is made anew when it breaks.
    fn enduring() -> Self {
        let mut lab = Self::new();
        lab.stream = lab.stream.enduring(FaultPolicy::USUAL, None);
        lab.put(Input::Started);
        lab.put(Input::Connected);
        lab.put(Input::CallAnswered);
        lab.take();
        lab
    }

    fn break_off(&mut self) -> Vec<Output> {
        self.put(Input::PeerClosed(PeerClose::Dropped));
        self.take()
    }
}

#[test]
fn an_agent_that_breaks_off_is_dialled_at_once_and_once_more_and_then_lost() {
    let mut lab = Lab::enduring();
    assert_eq!(lab.break_off(), [BROKEN, Output::Finish, Output::Reconnect]);
    lab.put(Input::ConnectFailed);
    assert_eq!(lab.take(), [Output::Close]);
    assert_eq!(lab.wait(), FaultPolicy::USUAL.pause);
    assert_eq!(lab.take(), [Output::Reconnect]);
    lab.put(Input::ConnectFailed);
    assert_eq!(lab.take(), [Output::Close, LOST]);
    assert_eq!(lab.stream.deadline(), None);
    lab.put(Input::Connected);
    assert_eq!(lab.take(), []);
}

#[test]
fn an_agent_that_does_not_come_back_in_time_is_missed_within_200_ms_once_its_words_were_played() {
    let mut lab = Lab::enduring();
    lab.break_off();
    let begun = lab.now;
    lab.now += Duration::from_millis(20);
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [], "it may be back at once");
    lab.wait();
    assert_eq!(lab.take(), [Output::Missed]);
    assert!(lab.now.since(begun) <= Duration::from_millis(160), "a tick of the media follows");
    assert_eq!(lab.wait(), Duration::from_millis(1_860), "it is told once; a dial takes 2 s");
    assert_eq!(lab.take(), [Output::Close]);

    let mut talking = Lab::enduring();
    talking.break_off();
    talking.now += Duration::from_millis(1_500);
    talking.put(Input::DeadlineReached);
    assert_eq!(talking.take(), [], "what it said before is still played");
    talking.put(Input::Drained);
    assert_eq!(talking.take(), [Output::Missed]);
}

#[test]
fn an_agent_that_is_back_learns_what_was_said_and_what_the_caller_did_meanwhile() {
    let mut lab = Lab::enduring();
    lab.stream.recount(&Said { by_agent: true, text: "Hello.".to_owned() });
    lab.put(Input::Audio(&[1; FRAME_BYTES]));
    lab.mark("lost");
    lab.take();
    lab.break_off();
    lab.put(Input::Audio(&[2; FRAME_BYTES]));
    lab.put(Input::Digit('7'));
    lab.put(Input::MarkPlayed(1));
    lab.put(Input::ConnectFailed);
    lab.wait();
    lab.put(Input::Audio(&[3; FRAME_BYTES]));
    lab.take();
    lab.put(Input::Connected);
    assert!(lab.out.contains(&Output::Resumed) && !lab.out.contains(&Output::Ready));
    let sent = lab.sent();
    let events: Vec<_> = sent.iter().map(|message| message["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["connected", "start", "media", "dtmf", "media"]);
    let start = &sent[1]["start"];
    assert_eq!(start["callSid"], "CA00000000000000000000000000000001", "the same call");
    assert_eq!(start["customParameters"]["tandem_resumed"], "reconnect");
    let told = r#"[{"speaker":"agent","text":"Hello."}]"#;
    assert_eq!(start["customParameters"]["tandem_transcript"], told);
    assert_eq!(sent[2]["sequenceNumber"], "2", "the numbers begin anew");
    lab.put(Input::MarkPlayed(1));
    assert_eq!(lab.take(), [], "the mark was another connection's");
    assert_eq!(lab.break_off(), [BROKEN, Output::Finish, Output::Reconnect], "it may break again");
}

#[test]
fn what_waited_for_a_connection_that_broke_is_kept_where_it_is_of_the_caller() {
    let mut lab = Lab::enduring();
    lab.mark("lost");
    lab.put(Input::SendBlocked);
    lab.put(Input::MarkPlayed(1));
    lab.put(Input::Digit('7'));
    lab.stream.held = true;
    lab.take();
    let expected = [Output::Hold(false), BROKEN, Output::Finish, Output::Reconnect];
    assert_eq!(lab.break_off(), expected, "what it said before is played, whatever it held back");
    lab.put(Input::Connected);
    let sent = lab.sent();
    let events: Vec<_> = sent.iter().map(|message| message["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["connected", "start", "dtmf"], "the mark was another connection's");
}

#[test]
fn what_the_caller_says_meanwhile_is_bounded() {
    let mut lab = Lab::enduring();
    lab.break_off();
    for _ in 0..10 * AGENT_OUTBOX_FRAMES_MAX {
        lab.put(Input::Audio(&[2; FRAME_BYTES]));
    }
    lab.put(Input::Connected);
    let sent = lab.sent();
    assert_eq!(sent.len(), 2 + AGENT_OUTBOX_FRAMES_MAX);
    // It is the end of it that is kept, where it was said.
    let at = |frame: usize| (frame * 20).to_string();
    assert_eq!(sent[2]["media"]["timestamp"], at(9 * AGENT_OUTBOX_FRAMES_MAX + 1));
    let last = sent.last().expect("a message");
    assert_eq!(last["media"]["timestamp"], at(10 * AGENT_OUTBOX_FRAMES_MAX));
}

#[test]
fn an_agent_that_breaks_off_again_and_again_is_lost() {
    let mut lab = Lab::enduring();
    for _ in 0..AGENT_RESUMES_MAX {
        assert_eq!(lab.break_off().last(), Some(&Output::Reconnect));
        lab.put(Input::Connected);
        lab.take();
    }
    assert_eq!(lab.break_off(), [LOST, Output::Close]);
}

#[test]
fn an_agent_that_stays_silent_on_the_phone_is_taken_for_lost_where_the_profile_says_so() {
    let limit = Duration::from_secs(4);
    let faults = FaultPolicy { silence: Some(limit), ..FaultPolicy::USUAL };
    let mut lab = Lab::new();
    lab.stream = lab.stream.enduring(faults, None);
    lab.put(Input::Started);
    lab.put(Input::Connected);
    lab.take();
    assert_eq!(lab.stream.deadline(), Some(lab.now + PING_INTERVAL), "not before the answer");
    lab.put(Input::CallAnswered);
    assert_eq!(lab.wait(), limit);
    assert_eq!(lab.take().first(), Some(&Output::Interrupted(HangupCause::AgentSilent)));
    lab.put(Input::Connected);
    lab.text(r#"{"event":"media","media":{"payload":"/w=="}}"#);
    lab.take();
    assert_eq!(lab.wait(), PING_INTERVAL, "it was heard");
}

const LIMIT: Duration = Duration::from_secs(4);
const WORD: &str = r#"{"event":"media","media":{"payload":"/w=="}}"#;

impl Lab {
    /// Within a call whose agent may take so long, and has not spoken yet.
    fn owing_words(mut self) -> Self {
        let faults = FaultPolicy { silence: Some(LIMIT), ..FaultPolicy::USUAL };
        self.stream = self.stream.enduring(faults, None);
        self.put(Input::Started);
        self.put(Input::Connected);
        self.put(Input::CallAnswered);
        self.take();
        self
    }

    /// Its agent has, and the caller waits for more.
    fn owing_an_answer() -> Self {
        let mut lab = Self::new().owing_words();
        lab.text(WORD);
        lab.take();
        assert_eq!(lab.stream.deadline(), Some(lab.now + PING_INTERVAL), "the caller's turn");
        lab.put(Input::CallerWaits(true));
        lab
    }
}

#[test]
fn an_agent_that_stalls_in_the_call_is_dialled_again_and_missed_as_one_that_never_spoke() {
    let mut lab = Lab::owing_an_answer();
    assert_eq!(lab.wait(), LIMIT);
    let silent = Output::Interrupted(HangupCause::AgentSilent);
    assert_eq!(lab.take(), [silent.clone(), Output::Finish, Output::Reconnect]);
    lab.put(Input::Drained);
    assert!(lab.wait() <= Duration::from_millis(160), "a tick of the media follows");
    assert_eq!(lab.take(), [Output::Missed]);
    // What the caller does meanwhile is not for the new connection, which has as long for its first words.
    lab.put(Input::CallerWaits(false));
    lab.put(Input::Connected);
    lab.take();
    assert_eq!(lab.wait(), LIMIT);
    assert_eq!(lab.take().first(), Some(&silent));
}

impl Lab {
    /// Its agent's connection breaks, this happens, and it is back.
    fn broken_while(&mut self, inputs: &[Input<'_>]) {
        assert_eq!(self.break_off(), [BROKEN, Output::Finish, Output::Reconnect]);
        for input in inputs {
            self.put(*input);
        }
        self.put(Input::Connected);
        self.take();
    }
}

#[test]
fn an_agent_that_spoke_before_its_connection_broke_may_listen_once_it_is_back() {
    let mut lab = Lab::new().owing_words();
    lab.text(WORD);
    lab.take();
    for _ in 0..2 {
        lab.broken_while(&[]);
        assert_eq!(lab.stream.deadline(), Some(lab.now + PING_INTERVAL), "the caller's turn");
    }
    lab.put(Input::CallerWaits(true));
    assert_eq!(lab.wait(), LIMIT);
    assert_eq!(lab.take().first(), Some(&Output::Interrupted(HangupCause::AgentSilent)));
    // One that never spoke, or was silent, is to speak at once.
    lab.put(Input::Connected);
    lab.take();
    lab.broken_while(&[]);
    assert_eq!(lab.wait(), LIMIT);
    let mut mute = Lab::new().owing_words();
    mute.broken_while(&[]);
    assert_eq!(mute.wait(), LIMIT);
}

#[test]
fn an_agent_that_is_back_owes_an_answer_to_a_caller_who_waits() {
    let again = [Input::CallerWaits(false), Input::CallerWaits(true)];
    for meanwhile in [&again[..0], &again[..]] {
        let mut lab = Lab::owing_an_answer();
        lab.broken_while(meanwhile);
        assert_eq!(lab.wait(), LIMIT, "{meanwhile:?}");
    }
    let mut lab = Lab::new().owing_words();
    lab.text(WORD);
    lab.take();
    lab.broken_while(&[Input::CallerWaits(true)]);
    assert_eq!(lab.wait(), LIMIT);
    for nobody in [Input::CallerWaits(false), Input::Relinked] {
        let mut lab = Lab::owing_an_answer();
        lab.broken_while(&[nobody]);
        assert_eq!(lab.stream.deadline(), Some(lab.now + PING_INTERVAL), "{nobody:?}");
    }
}

#[test]
fn an_agent_owes_nothing_once_it_spoke_or_asked_or_its_caller_waits_no_more() {
    let ends: [fn(&mut Lab); 4] = [
        |lab| lab.text(WORD),
        |lab| {
            let mut room = [0; AUDIO_ROOM_BYTES];
            assert!(lab.stream.read_audio(WORD.as_bytes(), &mut room).is_some());
        },
        |lab| lab.put(Input::CallerWaits(false)),
        |lab| lab.put(Input::Relinked),
    ];
    for (which, end) in ends.into_iter().enumerate() {
        let mut lab = Lab::owing_an_answer();
        lab.now += LIMIT / 2;
        end(&mut lab);
        let ping = lab.stream.deadline().expect("a ping");
        assert!(ping.since(lab.now) > LIMIT, "{which}");
        lab.put(Input::CallerWaits(true));
        assert_eq!(lab.stream.deadline(), Some(lab.now + LIMIT), "{which}: the next turn");
    }
    let mut asks = Lab::of_words().owing_words();
    asks.text("here");
    asks.put(Input::CallerWaits(true));
    asks.text("to sales");
    asks.take();
    asks.put(Input::Drained);
    assert_eq!(asks.take(), [Output::TransferRequested("sales".to_owned())]);
    asks.now += LIMIT;
    asks.put(Input::DeadlineReached);
    assert_eq!(asks.take(), []);
}

#[test]
fn nothing_a_caller_does_moves_the_end_of_patience_with_an_agent_that_never_spoke() {
    let mut lab = Lab::new().owing_words();
    let due = Some(lab.now + LIMIT);
    for waits in [true, false, true] {
        lab.now += Duration::from_secs(1);
        lab.put(Input::CallerWaits(waits));
        assert_eq!(lab.stream.deadline(), due);
    }
}

#[test]
fn an_agent_may_stay_silent_where_the_profile_has_no_limit() {
    let mut lab = Lab::enduring();
    lab.text(WORD);
    lab.take();
    lab.put(Input::CallerWaits(true));
    assert_eq!((lab.wait(), lab.take()), (PING_INTERVAL, vec![Output::Ping]));
}

/// Nothing is due of an agent that nobody reads but pings, and once it is read words are within `limit`.
fn check_due_once_read(lab: &mut Lab, limit: Duration) {
    lab.take();
    for _ in 0..5 {
        assert_eq!(lab.wait(), PING_INTERVAL);
    }
    assert!(lab.take().iter().all(|output| *output == Output::Ping));
    lab.put(Input::PlayoutRoom);
    assert_eq!(lab.wait(), limit, "from when it can be heard");
    assert_eq!(lab.take().first(), Some(&Output::Interrupted(HangupCause::AgentSilent)));
}

#[test]
fn an_agent_that_nobody_reads_is_not_taken_for_silent() {
    let limit = Duration::from_secs(4);
    let faults = FaultPolicy { silence: Some(limit), ..FaultPolicy::USUAL };
    for is_read in [true, false] {
        let mut lab = Lab::new();
        lab.stream = lab.stream.enduring(faults, None);
        lab.put(Input::Started);
        lab.put(Input::Connected);
        // Its first words are a long message, for which there is no room when the call is answered or a moment later.
        if is_read {
            lab.put(Input::CallAnswered);
            lab.put(Input::PlayoutFull);
        } else {
            lab.put(Input::PlayoutFull);
            lab.put(Input::CallAnswered);
        }
        check_due_once_read(&mut lab, limit);
    }
}

#[test]
fn an_answer_is_not_due_from_an_agent_that_nobody_reads_and_is_once_it_is_read() {
    let limit = Duration::from_secs(4);
    for is_read in [true, false] {
        let mut lab = Lab::new();
        let faults = FaultPolicy { silence: Some(limit), ..FaultPolicy::USUAL };
        lab.stream = lab.stream.enduring(faults, None);
        for input in [Input::Started, Input::Connected, Input::CallAnswered] {
            lab.put(input);
        }
        lab.text(r#"{"event":"media","media":{"payload":"AAEC"}}"#);
        // Its answer is a long message, for which there is no room when the caller stops speaking or a moment later.
        let both = [Input::CallerWaits(true), Input::PlayoutFull];
        for input in both.into_iter().cycle().skip(usize::from(is_read)).take(2) {
            lab.put(input);
        }
        check_due_once_read(&mut lab, limit);
    }
}

#[test]
fn an_agent_that_is_read_again_while_it_is_dialled_anew_answers_pings() {
    let mut lab = Lab::enduring();
    lab.put(Input::PlayoutFull);
    lab.break_off();
    lab.put(Input::PlayoutRoom);
    lab.put(Input::Connected);
    assert_eq!(lab.wait(), PING_INTERVAL);
    assert_eq!(lab.wait(), PONG_TIMEOUT);
    assert_eq!(lab.take().last(), Some(&Output::Reconnect), "it is lost again");
}

#[test]
fn the_circuit_may_forbid_the_first_dial_and_any_other() {
    let mut lab = Lab::new();
    lab.put(Input::Started);
    lab.put(Input::ConnectSkipped);
    assert_eq!(
        lab.take(),
        [Output::Connect, Output::Failed(HangupCause::AgentCircuitOpen)],
        "no second dial"
    );
    let mut lab = Lab::enduring();
    lab.break_off();
    lab.put(Input::ConnectSkipped);
    assert_eq!(lab.take(), [LOST], "for what broke its connection");
}

#[test]
fn the_end_of_the_call_ends_an_agent_that_is_dialled_again() {
    let mut lab = Lab::enduring();
    lab.break_off();
    lab.put(Input::CallEnded);
    assert_eq!((lab.take(), lab.stream.deadline()), (vec![Output::Close], None));
}

#[test]
fn an_agent_that_comes_into_a_call_of_another_is_told_so() {
    let mut lab = Lab::new();
    lab.stream = lab.stream.enduring(FaultPolicy::USUAL, Some(Story::default()));
    lab.put(Input::Started);
    lab.put(Input::Connected);
    let sent = lab.sent();
    assert_eq!(sent[1]["start"]["customParameters"]["tandem_resumed"], "takeover");
    assert_eq!(sent[1]["start"]["customParameters"].get("tandem_transcript"), None);
}

#[test]
fn a_garbled_agent_is_not_dialled_again() {
    let mut lab = Lab::enduring();
    lab.put(Input::PeerClosed(PeerClose::Violated));
    assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentGarbage), Output::Close]);
}

#[test]
fn another_link_leaves_nothing_to_wait_for() {
    let mut lab = Lab::open();
    lab.mark("a");
    lab.take();
    lab.put(Input::Relinked);
    assert_eq!(lab.echoed(), ["a"], "what it was behind is not played any more");

    let mut words = Lab::of_words_open();
    words.text("to sales");
    words.take();
    words.put(Input::Relinked);
    let out = words.take();
    assert_eq!(out.first(), Some(&Output::TransferRequested("sales".to_owned())));
    words.put(Input::PeerClosed(PeerClose::Frame(None)));
    words.take();
    words.put(Input::Relinked);
    assert_eq!(words.take(), [Output::HangupRequested]);
}

#[test]
fn a_wish_from_before_the_break_is_granted_once_its_words_were_played() {
    let mut lab = Lab::of_words_open();
    lab.stream = lab.stream.enduring(FaultPolicy::USUAL, None);
    lab.text("to sales");
    lab.break_off();
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
}

#[test]
fn what_ends_the_words_from_before_a_break_grants_no_wish_of_the_new_connection() {
    let broken = |limit: Option<&str>| {
        let mut lab = Lab::of_words_open();
        lab.stream = lab.stream.enduring(FaultPolicy::USUAL, None);
        limit.into_iter().for_each(|wish| lab.text(wish));
        lab.break_off();
        lab
    };
    let back = |lab: &mut Lab| {
        lab.put(Input::Connected);
        lab.text("here");
        lab.take();
    };
    // It is back before its words were played, and says goodbye.
    let mut lab = broken(None);
    back(&mut lab);
    lab.text("bye");
    lab.take();
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [], "that was the end of the words before");
    lab.put(Input::Drained);
    assert_eq!(lab.take(), [Output::HangupRequested]);

    // It leaves politely instead.
    let mut left = broken(None);
    back(&mut left);
    left.put(Input::PeerClosed(PeerClose::Frame(None)));
    left.take();
    left.put(Input::Drained);
    assert_eq!(left.take(), []);
    left.put(Input::Drained);
    assert_eq!(left.take(), [Output::HangupRequested]);

    // Its words had been played before it was back.
    let mut late = broken(None);
    late.put(Input::Drained);
    back(&mut late);
    late.text("bye");
    late.put(Input::Drained);
    assert!(late.take().contains(&Output::HangupRequested));

    // Its words will never be played: it clears them, or the link is another.
    for relinks in [false, true] {
        let mut dropped = broken(None);
        back(&mut dropped);
        if relinks {
            dropped.put(Input::Relinked)
        } else {
            dropped.text("stop")
        }
        dropped.text("bye");
        dropped.put(Input::Drained);
        assert!(dropped.take().contains(&Output::HangupRequested), "{relinks}");
    }

    // A wish from before the break, and one from after it, have an end of words each.
    let mut both = broken(Some("to sales"));
    back(&mut both);
    both.text("bye");
    both.take();
    for granted in [vec![], vec![Output::TransferRequested("sales".to_owned())]] {
        both.put(Input::Drained);
        assert_eq!(both.take(), granted);
    }
    both.put(Input::Drained);
    assert_eq!(both.take(), [Output::HangupRequested]);
}

#[test]
fn what_was_dropped_is_counted_over_all_connections() {
    let mut lab = Lab::enduring();
    let flood = |lab: &mut Lab| {
        for _ in 0..AGENT_OUTBOX_FRAMES_MAX + 7 {
            lab.put(Input::Audio(&[2; FRAME_BYTES]));
        }
        for _ in 0..AGENT_OUTBOX_EVENTS_MAX + 3 {
            lab.put(Input::Digit('1'));
        }
    };
    let dropped = |lab: &Lab| {
        let counters = lab.stream.counters();
        (counters.frames_dropped, counters.events_dropped)
    };
    lab.put(Input::SendBlocked);
    flood(&mut lab);
    assert_eq!(dropped(&lab), (7, 3));
    // What waits for the agent is full of the same already.
    lab.break_off();
    assert_eq!(dropped(&lab), (7, 3), "each is counted once");
    flood(&mut lab);
    let both = (14 + AGENT_OUTBOX_FRAMES_MAX as u64, 6 + AGENT_OUTBOX_EVENTS_MAX as u64);
    assert_eq!(dropped(&lab), both);
    lab.put(Input::Connected);
    assert_eq!(dropped(&lab), both);
    lab.put(Input::CallEnded);
    assert_eq!(dropped(&lab), both);
}

#[test]
fn audio_that_is_held_is_let_go_when_the_agent_leaves_and_held_on_another_link() {
    let mut lab = Lab::of_words_open();
    lab.text("hold");
    lab.take();
    lab.put(Input::Relinked);
    assert_eq!(lab.take().first(), Some(&Output::Hold(true)));
    lab.put(Input::PeerClosed(PeerClose::Frame(Some(CLOSE_NORMAL))));
    assert_eq!(lab.take(), [Output::Hold(false), Output::Finish]);

    let mut rude = Lab::of_words_open();
    rude.text("hold");
    rude.text("bye");
    rude.take();
    rude.put(Input::PeerClosed(PeerClose::Dropped));
    assert_eq!(rude.take(), [Output::Hold(false), Output::Finish]);

    let mut free = Lab::of_words_open();
    free.text("hold");
    free.text("go on");
    free.take();
    free.put(Input::PeerClosed(PeerClose::Frame(None)));
    assert_eq!(free.take(), [Output::Finish]);
}

#[test]
fn a_clear_that_is_answered_while_the_connection_is_broken_is_known_to_the_next() {
    #[derive(Debug)]
    struct Counts(std::sync::Arc<std::sync::atomic::AtomicU64>);
    impl Dialect for Counts {
        fn open(&mut self, _: Option<Past<'_>>, acts: &mut Vec<Act>) {
            acts.push(Act::Ready);
        }

        fn text(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
            Ok(())
        }

        fn binary(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
            Ok(())
        }

        fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
            let told = match news {
                News::Cleared(samples) => samples,
                News::Relinked => 1,
                _ => 0,
            };
            self.0.fetch_add(told, std::sync::atomic::Ordering::Relaxed);
            acts.push(Act::Send(Message::Text("nobody reads this".into())));
        }
    }
    let told = std::sync::Arc::default();
    let dialect: Box<dyn Dialect> = Box::new(Counts(std::sync::Arc::clone(&told)));
    let stream = AgentStream::new((dialect, Duration::from_secs(3)));
    let stream = stream.enduring(FaultPolicy::USUAL, None);
    let mut lab = Lab { stream, now: Moment::from_millis(1_000), out: Vec::new() };
    lab.put(Input::Started);
    lab.put(Input::Connected);
    lab.break_off();
    lab.put(Input::Cleared(500));
    lab.put(Input::Relinked);
    assert_eq!(lab.take(), []);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 501);
}
