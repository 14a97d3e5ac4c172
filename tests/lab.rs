//! The lab: two SIP endpoints call each other thousands of times over bad networks, in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::network::CALM;
use support::network::Lab;
use support::network::Plan;
use support::network::STORM;
use support::network::Side;
use support::network::Story;
use support::network::Weather;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::endpoint::policy::Reliable;
use tandem::sip::endpoint::policy::SessionTimerMode;
use tandem::sip::endpoint::policy::SessionTimerPolicy;
use tandem::types::moment::Moment;
use tandem::types::transport::Transport;

/// A call that is answered after `answer_ms` and ended by the caller.
const fn plain(answer_ms: u64, caller_hangs_up_ms: u64) -> Plan {
    Plan {
        ring_ms: Some(0),
        answer_ms,
        refuses: false,
        caller_hangs_up_ms: Some(caller_hangs_up_ms),
        called_hangs_up_ms: None,
        reinvite_ms: None,
    }
}

/// Runs `calls` random calls and asserts what holds for every network.
fn random_calls(seed: u64, calls: u64, transport: Transport, weather: Weather) -> Lab {
    let mut lab = Lab::new(seed, transport, weather);
    for _ in 0..calls {
        let plan = Plan::random(lab.random());
        let after_ms = lab.random().below(20_000);
        lab.plan(after_ms, plan);
    }
    lab.run();
    lab.assert_sound();
    lab
}

fn count(lab: &Lab, side: Side, holds: impl Fn(&Story) -> bool) -> usize {
    lab.of(side).filter(|story| holds(story)).count()
}

#[test]
fn a_calm_network_carries_every_call_without_a_repetition() {
    let mut lab = Lab::new(1, Transport::Udp, CALM);
    for number in 0..1_000 {
        lab.plan(number, plain(100, 5_000));
    }
    lab.run();
    lab.assert_sound();
    assert_eq!(
        count(&lab, Side::Caller, |it| it.answered == 1 && it.ends == ["bye answered"]),
        1_000
    );
    assert_eq!(count(&lab, Side::Called, |it| it.acknowledged == 1 && it.ends == ["bye"]), 1_000);
    assert_eq!(lab.counted.get(&Counter::RetransmissionSent), None);
    assert_eq!(lab.counted.get(&Counter::StrayAck), None);
    assert_eq!(lab.counted.get(&Counter::StrayResponse), None);
}

#[test]
fn a_stream_carries_every_call_without_a_repetition() {
    let weather = Weather { delay_ms_max: 40, ..CALM };
    let lab = random_calls(2, 1_000, Transport::Tcp, weather);
    assert_eq!(lab.counted.get(&Counter::RetransmissionSent), None);
    assert!(count(&lab, Side::Caller, |it| it.answered == 1) > 300);
}

#[test]
fn every_invite_becomes_exactly_one_call_in_a_storm() {
    for seed in 0..20 {
        let lab = random_calls(seed, 200, Transport::Udp, STORM);
        let answered = count(&lab, Side::Caller, |it| it.answered == 1);
        assert!(answered > 60, "{answered}");
        assert!(lab.counted[&Counter::RetransmissionSent] > 100);
    }
}

#[test]
fn no_dialog_leaks_after_the_call() {
    // Half of everything is lost: many calls fail, none is left behind.
    let weather = Weather { lost_percent: 50, ..STORM };
    for seed in 100..110 {
        random_calls(seed, 200, Transport::Udp, weather);
    }
}

#[test]
fn a_dead_network_ends_every_call() {
    let weather = Weather { lost_percent: 100, ..STORM };
    let lab = random_calls(3, 300, Transport::Udp, weather);
    let ended = |it: &Story| it.ends == ["refused 408"] || it.ends == ["bye answered"];
    assert_eq!(count(&lab, Side::Caller, ended), 300);
    assert_eq!(lab.of(Side::Called).count(), 0);
}

#[test]
fn cancel_and_answer_race_a_thousand_times_and_both_sides_agree() {
    let mut lab = Lab::new(4, Transport::Udp, Weather { delay_ms_max: 30, ..CALM });
    for number in 0..1_000 {
        // The caller gives up within 40 ms before or after the called party answers.
        let answer_ms = 200;
        let gives_up_ms = 160 + lab.random().below(80);
        lab.plan(number * 7, plain(answer_ms, gives_up_ms));
    }
    lab.run();
    lab.assert_sound();
    let cancelled = count(&lab, Side::Called, |it| it.ends == ["cancelled"]);
    let ended = count(&lab, Side::Called, |it| it.ends == ["bye"]);
    assert_eq!(cancelled + ended, 1_000);
    assert!(cancelled > 100 && ended > 100, "{cancelled} cancelled, {ended} ended");
    assert_eq!(count(&lab, Side::Caller, |it| it.ends == ["bye answered"]), 1_000);
}

#[test]
fn a_cancel_in_the_same_burst_as_its_invite_always_works() {
    let mut lab = Lab::new(5, Transport::Udp, CALM);
    for number in 0..1_000 {
        lab.plan(number * 3, plain(1_000, 0));
    }
    lab.run();
    lab.assert_sound();
    assert_eq!(count(&lab, Side::Called, |it| it.ends == ["cancelled"]), 1_000);
}

#[test]
fn both_sides_change_the_session_at_once_and_the_call_survives() {
    let mut lab = Lab::new(6, Transport::Udp, Weather { delay_ms_max: 20, ..CALM });
    for number in 0..1_000 {
        let plan = Plan { reinvite_ms: Some(1_000), ..plain(50, 30_000) };
        lab.plan(number * 10, plan);
    }
    lab.run();
    lab.assert_sound();
    assert!(count(&lab, Side::Caller, |it| it.ends == ["bye answered"]) >= 990);
    assert!(count(&lab, Side::Called, |it| it.ends == ["bye"]) >= 990);
}

/// Ended by somebody's BYE. An offer that crosses it may be answered 481 before it comes, which ends a call as
/// well (RFC 3261 §12.2.1.2).
fn hung_up(story: &Story) -> bool {
    story.ends == ["bye"] || story.ends == ["bye answered"]
}

#[test]
fn a_hang_up_and_new_offers_race_a_thousand_times_and_the_call_ends_once() {
    let mut lab = Lab::new(12, Transport::Udp, Weather { delay_ms_max: 20, ..CALM });
    for number in 0..1_000 {
        // Both offer anew a second after the answer, and one of them hangs up around that time.
        let around = lab.random().below(120);
        let plan = if number % 2 == 0 {
            plain(50, 1_020 + around)
        } else {
            Plan { called_hangs_up_ms: Some(940 + around), ..plain(50, 60_000) }
        };
        lab.plan(number * 10, Plan { reinvite_ms: Some(1_000), ..plan });
    }
    lab.run();
    lab.assert_sound();
    for side in [Side::Caller, Side::Called] {
        let by_bye = count(&lab, side, hung_up);
        assert!(by_bye >= 950, "{side:?}: {by_bye}");
    }
}

#[test]
fn both_sides_hang_up_at_once_a_thousand_times_and_the_call_ends_once() {
    let mut lab = Lab::new(13, Transport::Udp, Weather { delay_ms_max: 30, ..CALM });
    for number in 0..1_000 {
        let (own, theirs) = (lab.random().below(60), lab.random().below(60));
        let called_hangs_up_ms = Some(980 + theirs);
        lab.plan(number * 10, Plan { called_hangs_up_ms, ..plain(50, 1_060 + own) });
    }
    lab.run();
    lab.assert_sound();
    for side in [Side::Caller, Side::Called] {
        assert_eq!(count(&lab, side, hung_up), 1_000, "{side:?}");
        // Whose BYE came first differs, so they did cross.
        let first = count(&lab, side, |it| it.ends == ["bye"]);
        assert!((50..950).contains(&first), "{side:?}: {first}");
    }
}

/// Calls with every extension on.
fn demanding() -> DialogPolicy {
    let mode = SessionTimerMode::Require;
    let session = SessionTimerPolicy { mode, ..SessionTimerPolicy::default() };
    DialogPolicy { session, reliable: Reliable::Required, ..DialogPolicy::default() }
}

#[test]
fn prack_under_load_is_stable() {
    for seed in 0..10 {
        let mut lab = Lab::with_policy(seed, Transport::Udp, STORM, demanding());
        for _ in 0..200 {
            let plan = Plan::random(lab.random());
            let after_ms = lab.random().below(20_000);
            lab.plan(after_ms, plan);
        }
        lab.run();
        lab.assert_sound();
        assert!(count(&lab, Side::Caller, |it| it.answered == 1) > 60);
        assert_eq!(lab.counted.get(&Counter::PrackTimeout), None);
    }
}

#[test]
fn a_calm_network_carries_reliable_responses_without_a_repetition() {
    let mut lab = Lab::with_policy(1, Transport::Udp, CALM, demanding());
    for number in 0..500 {
        lab.plan(number, plain(100 + number % 2, 5_000));
    }
    lab.run();
    lab.assert_sound();
    assert_eq!(count(&lab, Side::Caller, |it| it.answered == 1), 500);
    for counter in [Counter::RetransmissionSent, Counter::StrayResponse, Counter::StrayAck] {
        assert_eq!(lab.counted.get(&counter), None, "{counter:?}");
    }
}

#[test]
fn long_calls_live_by_their_refreshes_over_a_bad_network() {
    let mut lab = Lab::with_policy(2, Transport::Udp, STORM, demanding());
    for number in 0..100 {
        lab.plan(number * 100, plain(50, 3 * 3_600_000));
    }
    lab.run();
    lab.assert_sound();
    let ended = |it: &Story| it.ends == ["bye answered"] || it.ends == ["bye"];
    let lived = count(&lab, Side::Called, |it| it.acknowledged == 1 && ended(it));
    assert!(lived >= 95, "{lived} of 100");
}

#[test]
fn a_hang_up_at_every_millisecond_of_a_call_leaves_nothing() {
    // Ringing leaves at 0, the answer at 60; each message takes up to 20 ms.
    for policy in [DialogPolicy::default(), demanding()] {
        let weather = Weather { delay_ms_max: 20, ..CALM };
        let mut lab = Lab::with_policy(11, Transport::Udp, weather, policy);
        for hang_up_ms in 0..200 {
            for called_ms in [None, Some(1), Some(15)] {
                let plan = Plan { called_hangs_up_ms: called_ms, ..plain(60, hang_up_ms) };
                lab.plan(hang_up_ms * 200, plan);
            }
        }
        lab.run();
        lab.assert_sound();
    }
}

#[test]
fn everything_is_quiet_64_t1_after_the_last_word() {
    let lab = random_calls(7, 100, Transport::Udp, CALM);
    // The last call begins before 20 s, lasts at most 30 s, and its last transaction 32 s.
    let limit = Moment::START + Duration::from_secs(20 + 30 + 32);
    assert!(lab.now < limit, "{}", lab.now);
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let lab = random_calls(seed, 100, Transport::Udp, STORM);
        let mut stories: Vec<String> =
            lab.stories.iter().map(|(key, story)| format!("{key:?} {story:?}")).collect();
        stories.sort();
        (lab.now, stories)
    };
    assert_eq!(history(8), history(8));
    assert_ne!(history(8), history(9));
}
