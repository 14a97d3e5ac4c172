//! What an agent hears of a peer over a network that loses and delays.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::g711;
use crate::audio::link::LinkEvent;
use crate::audio::link::link;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use crate::audio::voice::Voice;
use crate::media::listener::Listener;
use crate::sdp::Direction;
use crate::types::barge_in::BargeIn;
use crate::types::barge_in::BargeInMode;
use crate::types::limit::TURNS_TOLD_MAX;
use crate::types::limit::UNDERRUNS_TOLD_MAX;
use crate::types::talk::Talk;
use std::cell::Cell;
use std::cell::RefCell;
use std::time::Duration;

fn encoded(linear: &Pcm) -> Encoded {
    let mut frame = SILENCE;
    g711::encode(Law::Mu, linear, &mut frame);
    frame
}

/// The frames the agent was given.
pub(super) fn heard(scene: &Scene) -> Vec<Pcm> {
    let frames = scene.heard.iter().filter_map(|event| match event {
        LinkEvent::Audio(frame) => Some(frame),
        _ => None,
    });
    let decode = |frame: &_| {
        let mut linear = [0; FRAME_SAMPLES];
        g711::decode(Law::Mu, frame, &mut linear);
        linear
    };
    frames.map(|frame| decode(&frame[..])).collect()
}

pub(super) fn rms(frame: &[i16]) -> f64 {
    let sum: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (sum / frame.len() as f64).sqrt()
}

#[test]
fn a_lost_packet_is_made_up_for() {
    let mut scene = Scene::new(plan());
    let (mut talker, mut tone) = (Talker::new(PEER, 7), Tone::new(400, 8_000));
    for tick in 0..40 {
        let bytes = talker.audio(&encoded(&tone.frame()));
        if tick != 30 {
            scene.receive(&talker, &bytes);
        }
        scene.tick();
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.concealed, statistics.lost_in), (1, 1));
    for (tick, frame) in heard(&scene).iter().enumerate().skip(5) {
        assert!(share_at(frame, 400) > 0.98 && rms(frame) > 4_500.0, "{tick}: {}", rms(frame));
    }
}

#[test]
fn who_pauses_is_heard_as_noise_as_loud_as_it_says() {
    let mut scene = Scene::new(plan());
    let (mut talker, mut tone) = (Talker::new(PEER, 7), Tone::new(400, 8_000));
    for _ in 0..20 {
        let bytes = talker.audio(&encoded(&tone.frame()));
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let bytes = talker.packet(13, &[50]);
    scene.receive(&talker, &bytes);
    // Nothing has to come in a pause, however long it is.
    for seconds in 0..10 {
        scene.ticks(50);
        let statistics = scene.session.statistics();
        assert_eq!((statistics.concealed, statistics.lost_in), (0, 0));
        let noise = heard(&scene).into_iter().rev().take(40).flatten().collect::<Vec<i16>>();
        // -50 dB of full scale are 104; the noise is even, so its rms wavers.
        assert!((80.0..=130.0).contains(&rms(&noise)), "{seconds} s: {}", rms(&noise));
    }
    let bytes = talker.packet(13, &[70]);
    scene.receive(&talker, &bytes);
    scene.ticks(100);
    let noise = heard(&scene).into_iter().rev().take(40).flatten().collect::<Vec<i16>>();
    assert!((7.0..=14.0).contains(&rms(&noise)), "it says that it is less: {}", rms(&noise));
}

#[test]
fn in_silence_the_delay_becomes_what_the_network_needs_and_no_word_is_cut() {
    let mut scene = Scene::new(plan());
    let (mut talker, mut tone) = (Talker::new(PEER, 7), Tone::new(400, 8_000));
    let mut said = 0;
    for tick in 0..500 {
        let speaks = tick % 50 < 30;
        said += usize::from(speaks);
        let frame = if speaks { encoded(&tone.frame()) } else { SILENCE };
        let bytes = talker.audio(&frame);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    assert!(scene.session.statistics().jitter_level_ms <= 20, "{:?}", scene.session.statistics());
    let loud = heard(&scene).iter().filter(|frame| rms(&frame[80..]) > 4_500.0).count();
    assert_eq!(loud, said);
    assert_eq!(scene.session.statistics().concealed, 0);
}

#[test]
fn keys_in_the_audio_are_heard_and_muted_where_no_events_were_agreed_on() {
    for (tones_heard, events, keys_private) in [
        (true, false, false),
        (true, true, false),
        (false, false, false),
        (true, false, true),
        (true, true, true),
        (false, false, true),
    ] {
        let dtmf_receive = plan().dtmf_receive.filter(|_| events);
        let rules = MediaRules { tones_heard, keys_private, ..MediaRules::default() };
        let setup = MediaSetup { playout_held: false, rules, ..MediaSetup::new(None, 1) };
        let mut scene = Scene::with(setup);
        scene.session.update(scene.now, &MediaPlan { dtmf_receive, ..plan() }, &mut scene.out);
        let mut talker = Talker::new(PEER, 7);
        let (mut row, mut column) = (Tone::new(770, 5_000), Tone::new(1_336, 5_000));
        for tick in 0..60 {
            let mut linear = [0; FRAME_SAMPLES];
            if (20..30).contains(&tick) {
                let tones = row.frame().into_iter().zip(column.frame());
                linear = [0; FRAME_SAMPLES];
                linear.iter_mut().zip(tones).for_each(|(to, (one, two))| *to = one + two);
            }
            let bytes = talker.audio(&encoded(&linear));
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        let told = scene.count(|event| matches!(event, MediaEvent::Digit { digit: '5', .. }));
        let loud = heard(&scene).iter().filter(|frame| rms(&frame[..]) > 1_000.0).count();
        let hears = tones_heard && !events;
        assert_eq!(told, usize::from(hears), "{tones_heard} {events}");
        assert_eq!(scene.session.statistics().digits, u32::from(hears));
        let hidden = hears || keys_private;
        if hidden {
            assert!(loud <= 2, "{loud}")
        } else {
            assert!(loud >= 10, "{loud}")
        }
        if keys_private {
            assert!(heard(&scene).iter().all(|frame| rms(&frame[..]) < 1.0), "nothing of it");
        }
    }
}

#[test]
fn an_answer_is_timed_by_the_packet_that_it_begins_in() {
    const SAYS: u8 = 0x10;
    let mut scene = Scene::new(plan());
    let (least, confirm) = (Duration::from_millis(80), Duration::from_millis(300));
    let policy = BargeIn { mode: BargeInMode::Notify, least, confirm };
    scene.session.listen_with(Some(Box::new(Listener::new(policy))));
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    for tick in 1..=160 {
        let speaks = (25..75).contains(&tick);
        let linear = if speaks { voice.frame() } else { [0; FRAME_SAMPLES] };
        let bytes = talker.audio(&encoded(&linear));
        scene.receive(&talker, &bytes);
        if tick == 120 {
            assert_eq!(scene.agent.push_audio(&[SAYS; 3_200]), 3_200);
        }
        scene.tick();
    }
    let packets = scene.rtp();
    assert_eq!(packets.len(), 160, "one a tick");
    let first = packets.iter().position(|packet| packet.payload.contains(&SAYS)).unwrap();
    let turns = scene.events.iter().filter_map(|event| match event {
        MediaEvent::Talk(Talk::Turn(turn)) => Some(*turn),
        _ => None,
    });
    let turns: Vec<_> = turns.collect();
    let [turn] = turns[..] else { panic!("{turns:?}") };
    assert_eq!(turn.spoken_ms as usize, (first + 1) * 20, "{turn:?}");
    assert!(turn.stopped_ms < turn.first_byte_ms, "{turn:?}");
}

/// Gaps that are told of an agent that breaks off for a second in the middle of its words, while the caller does this.
fn gaps_beside(
    policy: Option<BargeIn>,
    caller: impl FnMut(usize) -> Option<Vec<u8>>,
) -> Vec<(u32, u32)> {
    gaps_beside_keys(policy, caller, None)
}

/// The same where a key of the caller comes by its signalling before this tick.
fn gaps_beside_keys(
    policy: Option<BargeIn>,
    mut caller: impl FnMut(usize) -> Option<Vec<u8>>,
    signalled: Option<usize>,
) -> Vec<(u32, u32)> {
    let mut scene = Scene::new(plan());
    scene.session.listen_with(policy.map(|policy| Box::new(Listener::new(policy))));
    let source = Talker::new(PEER, 7);
    for tick in 0..250 {
        if let Some(bytes) = caller(tick) {
            scene.receive(&source, &bytes);
        }
        if tick == 100 || tick == 160 {
            assert_eq!(scene.agent.push_audio(&[super::tests::LOUD; 1_600]), 1_600);
        }
        if signalled == Some(tick) {
            scene.session.key_pressed();
        }
        scene.tick();
    }
    let gaps = scene.events.iter().filter_map(|event| match event {
        MediaEvent::Talk(Talk::Underrun { at_ms, ms, node_late: false }) => Some((*at_ms, *ms)),
        _ => None,
    });
    assert_eq!(scene.session.statistics().underruns as usize, gaps.clone().count());
    gaps.collect()
}

#[test]
fn a_long_gap_of_an_agent_is_told_unless_the_caller_was_heard_in_it() {
    let (least, confirm) = (Duration::from_millis(80), Duration::from_millis(300));
    let policy = || Some(BargeIn { mode: BargeInMode::Off, least, confirm });
    // A caller that says nothing, but in these ticks.
    let says = |speech: std::ops::Range<usize>| {
        let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
        move |tick| {
            let linear = if speech.contains(&tick) { voice.frame() } else { [0; FRAME_SAMPLES] };
            Some(talker.audio(&encoded(&linear)))
        }
    };
    // From tick 100 on it speaks for ten, and from tick 160 on again.
    let told = [(161 * 20, 1_000)];
    assert_eq!(gaps_beside(policy(), says(0..0)), told);
    assert_eq!(gaps_beside(policy(), says(130..155)), [], "an answer");
    assert_eq!(gaps_beside(policy(), says(30..60)), told, "the answer broke off");
    assert_eq!(gaps_beside(policy(), |_| None), told, "nobody heard it yet");
    assert_eq!(gaps_beside(None, says(0..0)), [], "nobody knows what the caller said");
    let mut talker = Talker::new(PEER, 7);
    let presses = move |tick| match tick {
        130..135 => Some(talker.event(5, 160 * (tick as u16 - 129), tick == 134)),
        _ => None,
    };
    assert_eq!(gaps_beside(policy(), presses), [], "a key");
    assert_eq!(gaps_beside_keys(policy(), |_| None, Some(130)), [], "one by its signalling");
}

/// When the agent's task is told that its caller waits, and that it does not any more, in ticks. The caller speaks from
/// tick 25 to 75 and in those of `again`; before each tick something is done.
fn waits_of(
    again: std::ops::Range<usize>,
    mut does: impl FnMut(&mut Scene, usize),
) -> Vec<(usize, bool)> {
    let mut scene = Scene::new(plan());
    scene.session.listen_with(Some(Box::new(Listener::new(BargeIn::OFF))));
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    for tick in 0..250 {
        let speaks = (25..75).contains(&tick) || again.contains(&tick);
        let linear = if speaks { voice.frame() } else { [0; FRAME_SAMPLES] };
        let bytes = talker.audio(&encoded(&linear));
        scene.receive(&talker, &bytes);
        does(&mut scene, tick);
        scene.tick();
    }
    let (mut tick, mut told) = (0, Vec::new());
    for event in &scene.heard {
        match event {
            LinkEvent::Audio(_) => tick += 1,
            LinkEvent::CallerWaits(waits) => told.push((tick, *waits)),
            _ => (),
        }
    }
    told
}

/// The same of whom does something once, long after the caller stopped: it is told to wait, and then of the end of that.
fn ends_of_wait(at: usize, does: impl Fn(&mut Scene)) -> Option<usize> {
    let told = waits_of(0..0, |scene, tick| {
        if tick == at {
            does(scene)
        }
    });
    let [(stopped, true), rest @ ..] = &told[..] else { panic!("{told:?}") };
    // Its detector waits for another word, and packets wait for each other.
    assert!((80..=95).contains(stopped), "it stopped at 75: {told:?}");
    match rest {
        [] => None,
        [(ended, false)] => Some(*ended),
        _ => panic!("{told:?}"),
    }
}

#[test]
fn an_agents_task_is_told_that_its_caller_waits_until_the_agent_has_something_to_say() {
    let says = |scene: &mut Scene| assert_eq!(scene.agent.push_audio(&SILENCE), 160);
    assert_eq!(ends_of_wait(120, |_| ()), None);
    assert_eq!(ends_of_wait(120, says), Some(120), "be it silence");
    let goes_on = waits_of(130..160, |_, _| ());
    let [(_, true), (spoke, false), (stopped, true)] = goes_on[..] else { panic!("{goes_on:?}") };
    assert!((131..=145).contains(&spoke) && (165..=180).contains(&stopped), "{goes_on:?}");
    // It still has something to say when the caller stops, whom it need not have heard.
    let talks = |scene: &mut Scene, tick: usize| {
        if tick == 60 {
            assert_eq!(scene.agent.push_audio(&[0x50; 8_000]), 8_000);
        }
    };
    assert_eq!(waits_of(0..0, talks), []);
}

/// What ends the wait for an agent's words, and its name.
type End<'a> = (&'a str, &'a dyn Fn(&mut Scene));

#[test]
fn a_caller_waits_for_no_agent_that_does_not_have_the_word() {
    let (bridge, _other) = BridgeEnd::pair();
    let (seat, _guest) = BridgeEnd::pair();
    let (bridge, seat) = (Cell::new(Some(bridge)), Cell::new(Some(seat)));
    let ends: [End<'_>; 6] = [
        ("a key", &|scene: &mut Scene| scene.session.key_pressed()),
        ("on hold", &|scene: &mut Scene| {
            let direction = Direction::SendOnly;
            scene.session.update(scene.now, &MediaPlan { direction, ..plan() }, &mut scene.out);
        }),
        ("muted", &|scene: &mut Scene| scene.session.mute(true, false)),
        ("an announcement", &|scene: &mut Scene| {
            let clip = Clip::new(1, vec![super::tests::LOUD; 1_600].into(), 1);
            assert!(scene.session.play(Box::new(clip)).is_none());
        }),
        ("transferred", &|scene: &mut Scene| {
            let bridge = bridge.take().expect("once");
            assert!(scene.session.bridge(Bridged::new(bridge)).is_none());
        }),
        ("with somebody else", &|scene: &mut Scene| {
            scene.session.host(Box::default());
            let seat = Box::new(seat.take().expect("once"));
            assert!(scene.session.admit(0, GuestGains::SPEAKS, seat).is_none());
        }),
    ];
    for (what, end) in ends {
        assert_eq!(ends_of_wait(120, end), Some(120), "{what}");
    }
    // Whoever only listens is nobody to speak to.
    let (seat, _guest) = BridgeEnd::pair();
    let seat = Cell::new(Some(seat));
    let listens = |scene: &mut Scene| {
        scene.session.host(Box::default());
        let seat = Box::new(seat.take().expect("once"));
        assert!(scene.session.admit(0, GuestGains::LISTENS, seat).is_none());
    };
    assert_eq!(ends_of_wait(120, listens), None);
}

#[test]
fn an_agent_that_goes_to_another_session_is_waited_for_at_none() {
    let (mut end, mut other) = link();
    let fresh = RefCell::new(&mut end);
    let exchanges = |scene: &mut Scene| scene.session.exchange(&mut fresh.borrow_mut());
    assert_eq!(ends_of_wait(120, exchanges), Some(120));
    drop(end);
    let told: Vec<_> = std::iter::from_fn(|| other.next()).collect();
    assert!(!told.iter().any(|event| matches!(event, LinkEvent::CallerWaits(_))), "{told:?}");
}

#[test]
fn an_agent_that_stutters_does_not_hide_its_turns() {
    let mut scene = Scene::new(plan());
    scene.session.listen_with(Some(Box::new(Listener::new(BargeIn::OFF))));
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    // Half of the time it is silent within a reply: more often than turns and gaps are told together.
    let stutters = usize::from(TURNS_TOLD_MAX) + usize::from(UNDERRUNS_TOLD_MAX);
    let (stops, answers) = (stutters * 10 + 100, stutters * 10 + 150);
    for tick in 0..answers + 50 {
        let speaks = (stops - 50..stops).contains(&tick);
        let linear = if speaks { voice.frame() } else { [0; FRAME_SAMPLES] };
        let bytes = talker.audio(&encoded(&linear));
        scene.receive(&talker, &bytes);
        if (tick % 10 == 0 && tick < stutters * 10) || tick == answers {
            assert_eq!(scene.agent.push_audio(&[0x50; 800]), 800);
        }
        scene.tick();
    }
    assert!(scene.session.statistics().underruns as usize >= stutters - 1);
    let underruns = scene.count(|event| matches!(event, MediaEvent::Talk(Talk::Underrun { .. })));
    assert_eq!(underruns, usize::from(UNDERRUNS_TOLD_MAX));
    assert_eq!(scene.count(|event| matches!(event, MediaEvent::Talk(Talk::Turn(_)))), 1);
}

#[test]
fn what_a_line_is_full_of_from_its_first_packet_on_interrupts_nobody() {
    let mut scene = Scene::new(plan());
    let (least, confirm) = (Duration::from_millis(80), Duration::from_millis(300));
    let policy = BargeIn { mode: BargeInMode::Flush, least, confirm };
    scene.session.listen_with(Some(Box::new(Listener::new(policy))));
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    // Not so loud that the line's noise could be its echo.
    assert_eq!(scene.agent.push_audio(&[0x50; 40_000]), 40_000);
    for tick in 0..200 {
        // Before, there is nothing, which is no silence: any noise would stand out from that.
        if tick >= 100 {
            let bytes = talker.audio(&encoded(&voice.frame()));
            scene.receive(&talker, &bytes);
        }
        scene.tick();
    }
    let interruptions =
        scene.count(|event| matches!(event, MediaEvent::Talk(Talk::BargeIn { .. })));
    assert_eq!(interruptions, 0);
}

#[test]
fn an_agent_that_waits_for_what_was_heard_goes_on_where_nobody_listens_any_more() {
    let mut scene = Scene::new(plan());
    let (least, confirm) = (Duration::from_millis(80), Duration::from_secs(5));
    let policy = BargeIn { mode: BargeInMode::Pause, least, confirm };
    scene.session.listen_with(Some(Box::new(Listener::new(policy))));
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    let mut hear = |scene: &mut Scene, ticks: usize, speaks: bool| {
        for _ in 0..ticks {
            let linear = if speaks { voice.frame() } else { [0; FRAME_SAMPLES] };
            let bytes = talker.audio(&encoded(&linear));
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        scene.agent.queued_ms()
    };
    hear(&mut scene, 25, false);
    assert_eq!(scene.agent.push_audio(&[0x50; 40_000]), 40_000);
    hear(&mut scene, 25, false);
    let queued_ms = hear(&mut scene, 40, true);
    assert_eq!(hear(&mut scene, 10, true), queued_ms, "it waits");
    assert!(scene.session.listen_with(None).is_some());
    assert_eq!(hear(&mut scene, 10, true), queued_ms - 200);
}

/// Samples of a tone pair from the `from`th to the `to`th, over so many frames.
fn key_between(from: usize, to: usize, frames: usize) -> Vec<Pcm> {
    let (mut row, mut column) = (Tone::new(770, 5_000), Tone::new(1_336, 5_000));
    let mut samples = vec![0; frames * FRAME_SAMPLES];
    samples[from..to].fill_with(|| row.sample() + column.sample());
    samples.as_chunks::<FRAME_SAMPLES>().0.to_vec()
}

#[test]
fn where_keys_are_private_no_sample_of_a_tone_is_heard_or_recorded_wherever_it_begins() {
    use crate::audio::tape::TapeItem;
    use crate::audio::tape::TapeRate;
    use crate::audio::tape::TapeSide;
    use crate::audio::tape::tape;
    for begins in (0..320).step_by(23) {
        let rules = MediaRules { tones_heard: true, keys_private: true, ..MediaRules::default() };
        let setup = MediaSetup { playout_held: false, rules, ..MediaSetup::new(None, 1) };
        let mut scene = Scene::with(setup);
        scene.session.update(
            scene.now,
            &MediaPlan { dtmf_receive: None, ..plan() },
            &mut scene.out,
        );
        let (into, mut taped) = tape(TapeRate::Narrow);
        scene.session.record(Box::new(into));
        let mut talker = Talker::new(PEER, 7);
        let from = 30 * FRAME_SAMPLES + begins;
        for (at, frame) in key_between(from, from + 640 + begins, 60).iter().enumerate() {
            // A word before and one after it are heard.
            let word = at == 10 || at == 50;
            let bytes = talker.audio(&if word { [0x20; 160] } else { encoded(frame) });
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        scene.ticks(10);
        assert_eq!(scene.count(|event| matches!(event, MediaEvent::Digit { .. })), 1, "{begins}");
        let loud = |frame: &&Pcm| rms(&frame[..]) >= 1.0;
        let heard = heard(&scene);
        let agent = heard.iter().filter(loud).count();
        // Of the last word a little goes on, since nothing comes after the end.
        assert!((2..=12).contains(&agent), "{begins}: {agent}");
        let tone = |frame: &&Pcm| share_at(&frame[..], 770) + share_at(&frame[..], 1_336) > 0.5;
        assert_eq!(heard.iter().filter(loud).filter(tone).count(), 0, "{begins}");
        let mut places = Vec::new();
        while let Some(item) = taped.next_item() {
            if let TapeItem::Sound(sound) = item
                && sound.side == TapeSide::Heard
            {
                places.push(sound.at / 160);
            }
        }
        // Where it was heard, not where it was known to be none: two ticks after it came.
        // In the silence between them the delay became shorter by a frame.
        assert!(matches!(places[..], [12, 51 | 52]), "{begins}: {places:?}");
    }
}

#[test]
fn a_tone_that_comes_beside_its_event_is_heard_by_nobody_to_its_end() {
    for (keys_private, bridged, supervised) in [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, true, true),
    ] {
        let rules = MediaRules { keys_private, ..MediaRules::default() };
        let setup = MediaSetup {
            playout_held: false,
            rules,
            jitter_depth_ms: 100,
            ..MediaSetup::new(Some(plan()), 1)
        };
        let mut scene = Scene::with(setup);
        let (own, mut other) = BridgeEnd::pair();
        if bridged {
            scene.session.bridge(Bridged::new(own));
        }
        let (for_guest, _guest) = BridgeEnd::pair();
        if supervised {
            scene.session.host(Box::default());
            scene.session.admit(0, GuestGains::LISTENS, Box::new(for_guest));
        }
        let mut talker = Talker::new(PEER, 7);
        let mut passed = 0;
        // The carrier sends audio all the time, and the event as soon as it knows the key: after 40 ms.
        let frames = key_between(30 * FRAME_SAMPLES, 40 * FRAME_SAMPLES, 70);
        for (at, frame) in frames.iter().enumerate() {
            let bytes = talker.audio(&encoded(frame));
            scene.receive(&talker, &bytes);
            if (32..42).contains(&at) {
                let units = ((at - 29) * 160) as u16;
                let stamp = talker.timestamp;
                talker.timestamp = stamp.wrapping_sub(units.into());
                let bytes = talker.event(5, units.min(1_600), at >= 39);
                talker.timestamp = stamp;
                scene.receive(&talker, &bytes);
            }
            scene.tick();
            while let Some(sound) = other.hear(|_| ()) {
                let mut linear = [0; FRAME_SAMPLES];
                g711::decode(Law::Mu, &sound.as_law(Law::Mu), &mut linear);
                passed += usize::from(rms(&linear) > 1_000.0);
            }
        }
        let digits = scene.count(|event| matches!(event, MediaEvent::Digit { digit: '5', .. }));
        assert_eq!(digits, 1);
        let loud = heard(&scene).iter().filter(|frame| rms(&frame[..]) > 100.0).count();
        assert_eq!((loud, passed), (0, 0), "private {keys_private}, bridged {bridged}");
    }
}
