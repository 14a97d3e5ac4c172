//! A binding through its life, in virtual time.

use super::*;
use crate::sip::message::Message;
use crate::sip::message::parse;
use bytes::Bytes;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn policy() -> RegistrationPolicy {
    RegistrationPolicy {
        expires: HOUR,
        refresh_percent: 80,
        retry: vec![Duration::from_secs(30), Duration::from_secs(60)],
        forbidden_retry: Duration::from_secs(900),
        start_within: Duration::ZERO,
        contact_user: "pilot".to_owned(),
    }
}

/// A response to a REGISTER; `more` are header lines.
fn response(status: u16, more: &str) -> Response {
    let text = format!(
        "SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
         From: <sip:pilot@sbc>;tag=a\r\nTo: <sip:pilot@sbc>;tag=b\r\nCall-ID: r\r\n\
         CSeq: 1 REGISTER\r\n{more}Content-Length: 0\r\n\r\n"
    );
    match parse(Bytes::from(text)) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

/// Runs inputs at their seconds and gives what came out of each.
struct Run {
    registration: Registration,
    now: Moment,
}

impl Run {
    fn started() -> Self {
        Self::started_with(policy())
    }

    fn started_with(policy: RegistrationPolicy) -> Self {
        let mut run =
            Self { registration: Registration::new(policy, 1), now: Moment::from_millis(1) };
        run.input(&Input::Started);
        assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
        run
    }

    fn input(&mut self, input: &Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        self.registration.handle(self.now, input, &mut out);
        out
    }

    fn answer(&mut self, status: u16, more: &str) -> Vec<Output> {
        self.input(&Input::Answered(&response(status, more)))
    }

    /// Goes to the deadline and gives the seconds until there.
    fn wait(&mut self) -> u64 {
        let at = self.registration.deadline().expect("a deadline");
        let waited = at.since(self.now);
        self.now = at;
        waited.as_secs()
    }
}

fn until(out: &[Output]) -> Option<Moment> {
    match out {
        [Output::Changed(Standing::Registered { until, .. })] => Some(*until),
        _ => None,
    }
}

#[test]
fn the_granted_life_counts_and_is_refreshed_at_four_fifths() {
    let mut run = Run::started();
    let out = run.answer(200, "Contact: <sip:pilot@10.0.0.1:5060>;expires=300\r\n");
    assert_eq!(until(&out), Some(run.now + Duration::from_secs(300)));
    assert_eq!(run.wait(), 240);
    assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
    assert!(run.registration.is_bound(run.now), "the old binding stands while it is refreshed");
}

#[test]
fn the_life_is_that_of_our_own_contact_among_several() {
    for (headers, granted) in [
        ("Contact: <sip:other@a>;expires=60, <sip:pilot@nat:1>;expires=120\r\n", 120),
        ("Contact: <sip:pilot@a>;expires=10\r\nContact: <sip:pilot@b>;expires=90\r\n", 90),
        ("Contact: <sip:renamed@a>;expires=77\r\n", 77),
        ("Contact: <sip:pilot@a>\r\nExpires: 55\r\n", 55),
        ("Expires: 44\r\n", 44),
        ("", 3600),
        ("Contact: <sip:pilot@a>;expires=rubbish\r\n", 3600),
    ] {
        let mut run = Run::started();
        let out = run.answer(200, headers);
        assert_eq!(until(&out), Some(run.now + Duration::from_secs(granted)), "{headers}");
    }
}

#[test]
fn a_success_that_binds_nothing_is_a_failure() {
    for headers in [
        "Contact: <sip:pilot@a>;expires=0\r\n",
        "Contact: <sip:x@a>, <sip:y@a>\r\n",
        "Expires: 0\r\n",
    ] {
        let mut run = Run::started();
        let out = run.answer(200, headers);
        assert!(
            matches!(out[..], [Output::Changed(Standing::Failed { status: Some(200), .. })]),
            "{headers}: {out:?}"
        );
    }
}

#[test]
fn a_service_route_is_kept_in_order_and_who_else_we_are_is_read_over() {
    let mut run = Run::started();
    let out = run.answer(
        200,
        "Service-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
         P-Associated-URI: <sip:+15550100@ims.example>\r\n",
    );
    let [Output::Changed(Standing::Registered { service_route, .. })] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(service_route[..], ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]);
}

#[test]
fn a_life_too_brief_is_raised_once_and_remembered() {
    let mut run = Run::started();
    assert_eq!(run.answer(423, "Min-Expires: 7200\r\n"), [Output::Register { expires_s: 7200 }]);
    let out = run.answer(423, "Min-Expires: 9000\r\n");
    assert!(matches!(out[..], [Output::Changed(Standing::Failed { status: Some(423), .. })]));
    run.wait();
    assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 7200 }]);
}

#[test]
fn a_senseless_minimum_is_a_failure() {
    for headers in ["", "Min-Expires: 60\r\n", "Min-Expires: x\r\n"] {
        let mut run = Run::started();
        let out = run.answer(423, headers);
        assert!(matches!(out[..], [Output::Changed(Standing::Failed { .. })]), "{headers}");
    }
}

#[test]
fn failures_wait_longer_each_time_and_never_less_than_told() {
    let mut run = Run::started();
    for (least, most) in [(30, 36), (60, 72), (60, 72)] {
        run.input(&Input::Unanswered);
        let waited = run.wait();
        assert!((least..=most).contains(&waited), "{waited}");
        assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
    }
    run.answer(200, "");
    run.wait();
    run.input(&Input::DeadlineReached);
    // The binding stands for another fifth of its life: it is tried again within that.
    assert_eq!(run.answer(500, ""), []);
    assert!((30..=36).contains(&run.wait()), "a success starts the waits anew");
}

#[test]
fn trunks_that_failed_together_do_not_try_again_together() {
    let retries: Vec<u128> = (0..50)
        .map(|seed| {
            let mut registration = Registration::new(policy(), seed);
            let mut out = Vec::new();
            for input in [Input::Started, Input::DeadlineReached, Input::Unanswered] {
                registration.handle(Moment::START, &input, &mut out);
            }
            registration.deadline().expect("a deadline").since(Moment::START).as_millis()
        })
        .collect();
    assert!(retries.iter().all(|retry| (30_000..=36_000).contains(retry)), "{retries:?}");
    assert!(retries.iter().min() < Some(&31_500) && retries.iter().max() > Some(&34_500));
}

#[test]
fn who_will_not_have_us_is_asked_rarely() {
    for status in [401, 403, 404, 407] {
        let mut run = Run::started();
        let out = run.answer(status, "");
        assert!(
            matches!(out[..], [Output::Changed(Standing::Failed { status: Some(told), .. })] if told == status)
        );
        assert!(run.wait() >= 900, "{status}");
    }
}

#[test]
fn who_will_not_have_us_is_not_hammered_whatever_the_policy_says() {
    let policy = RegistrationPolicy { forbidden_retry: Duration::ZERO, ..policy() };
    let mut run = Run::started_with(policy);
    for _ in 0..20 {
        run.answer(403, "");
        assert!(run.wait() >= 5);
        assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
    }
}

#[test]
fn retry_after_is_obeyed_from_some_seconds_to_an_hour() {
    for (told, least, most) in [(0, 5, 6), (7, 7, 9), (86_400, 3_600, 4_320)] {
        let mut run = Run::started();
        run.answer(503, &format!("Retry-After: {told}\r\n"));
        let waited = run.wait();
        assert!((least..=most).contains(&waited), "{told}: {waited}");
    }
}

#[test]
fn a_binding_is_used_until_its_end_when_the_refresh_fails() {
    let mut run = Run::started();
    run.answer(200, "Expires: 100\r\n");
    run.wait();
    run.input(&Input::DeadlineReached);
    assert_eq!(run.input(&Input::Unanswered), [], "nobody need know yet");
    assert_eq!(run.wait(), 20, "tried again when the binding ends, though 30 s are due");
    run.input(&Input::DeadlineReached);
    let out = run.input(&Input::Unanswered);
    assert!(matches!(out[..], [Output::Changed(Standing::Failed { status: None, .. })]));
}

#[test]
fn what_was_not_asked_is_asked_soon_and_is_no_failure() {
    let mut run = Run::started();
    // However often that is so, no binding that stands is given up, nor one that is not there.
    for _ in 0..10 {
        assert_eq!(run.input(&Input::Unasked), []);
        assert!((5..10).contains(&run.wait()));
        assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
    }
    // The waits after failures begin with the first one.
    run.input(&Input::Unanswered);
    assert!((30..=36).contains(&run.wait()));
    run.input(&Input::DeadlineReached);
    run.answer(200, "Expires: 100\r\n");
    assert_eq!(run.wait(), 80);
    run.input(&Input::DeadlineReached);
    assert_eq!(run.input(&Input::Unasked), []);
    assert!(run.registration.is_bound(run.now));
    run.wait();
    run.input(&Input::DeadlineReached);
    run.now += Duration::from_secs(20);
    assert_eq!(run.input(&Input::Unasked), [Output::Changed(Standing::Registering)], "it ended");
}

#[test]
fn a_binding_that_ends_while_its_refresh_is_unanswered_is_shown_as_ended() {
    let mut run = Run::started();
    run.answer(200, "Expires: 60\r\n");
    assert_eq!(run.wait(), 48);
    run.input(&Input::DeadlineReached);
    assert_eq!(run.registration.next_request(), None);
    assert_eq!(run.input(&Input::DeadlineReached), [], "it stands yet");
    assert_eq!(run.wait(), 12, "the registrar says nothing");
    assert_eq!(run.input(&Input::DeadlineReached), [Output::Changed(Standing::Registering)]);
    assert_eq!(run.registration.deadline(), None, "told once");
    assert_eq!(run.input(&Input::DeadlineReached), []);
    // Whatever then comes of the request counts as ever.
    let out = run.answer(200, "Expires: 60\r\n");
    assert_eq!(until(&out), Some(run.now + Duration::from_secs(60)));
    run.wait();
    run.input(&Input::DeadlineReached);
    run.wait();
    run.input(&Input::DeadlineReached);
    let out = run.input(&Input::Unanswered);
    assert!(matches!(out[..], [Output::Changed(Standing::Failed { status: None, .. })]), "{out:?}");
}

#[test]
fn a_lost_flow_registers_anew_at_once_and_then_waits() {
    let mut run = Run::started();
    run.answer(200, "");
    run.now += Duration::from_secs(40);
    assert_eq!(
        run.input(&Input::FlowLost),
        [Output::Changed(Standing::Registering), Output::Register { expires_s: 3600 }]
    );
    assert!(!run.registration.is_bound(run.now));
    run.input(&Input::FlowLost);
    assert!(run.wait() >= 30, "a registrar that closes on us is not hammered");
}

#[test]
fn a_flow_that_is_lost_while_a_refresh_waits_takes_the_binding_with_it() {
    let mut run = Run::started();
    run.answer(200, "");
    run.wait();
    run.input(&Input::DeadlineReached);
    assert_eq!(run.answer(503, "Retry-After: 600\r\n"), [], "it still stands");
    run.now += Duration::from_secs(10);
    assert!(run.registration.is_bound(run.now));
    assert_eq!(run.input(&Input::FlowLost), [Output::Changed(Standing::Registering)]);
    assert!(!run.registration.is_bound(run.now));
    assert_eq!(run.input(&Input::FlowLost), [], "there was but one");
    assert_eq!(run.wait(), 5);
    assert_eq!(run.input(&Input::DeadlineReached), [Output::Register { expires_s: 3600 }]);
}

#[test]
fn a_registrar_that_binds_and_closes_is_not_hammered() {
    let mut run = Run::started();
    run.answer(200, "");
    let out = run.input(&Input::FlowLost);
    assert!(matches!(out[..], [Output::Changed(Standing::Failed { .. })]), "{out:?}");
    assert!(run.wait() >= 30);
}

#[test]
fn a_stop_takes_the_binding_away_and_waits_for_no_success() {
    for end in
        [Input::Unanswered, Input::Unasked, Input::FlowLost, Input::Answered(&response(500, ""))]
    {
        let mut run = Run::started();
        run.answer(200, "");
        assert_eq!(run.input(&Input::Stopped), [Output::Register { expires_s: 0 }]);
        assert_eq!(run.input(&end), [Output::Changed(Standing::Removed), Output::Finished]);
        assert_eq!(run.registration.deadline(), None);
    }
}

#[test]
fn a_stop_without_a_binding_is_the_end() {
    let mut run = Run::started();
    run.answer(403, "");
    assert_eq!(run.input(&Input::Stopped), [Output::Changed(Standing::Removed), Output::Finished]);
}

#[test]
fn many_trunks_start_spread_over_the_time_given() {
    let starts: Vec<u64> = (0..50)
        .map(|seed| {
            let policy = RegistrationPolicy { start_within: Duration::from_secs(10), ..policy() };
            let mut registration = Registration::new(policy, seed);
            registration.handle(Moment::START, &Input::Started, &mut Vec::new());
            registration.deadline().expect("a deadline").as_millis()
        })
        .collect();
    assert!(starts.iter().all(|start| *start <= 10_000));
    assert!(starts.iter().min() < Some(&2_000) && starts.iter().max() > Some(&8_000));
}

proptest! {
    #[test]
    fn whatever_happens_it_asks_one_thing_at_a_time_and_not_too_often(
        inputs in proptest::collection::vec((0_u8..9, 0_u32..100_000), 1..60),
        forbidden_retry_s in 0_u64..1_000,
    ) {
        let forbidden_retry = Duration::from_secs(forbidden_retry_s);
        let mut run = Run::started_with(RegistrationPolicy { forbidden_retry, ..policy() });
        let mut outstanding = true;
        let mut requests = 0_u32;
        for (what, number) in inputs {
            run.now += Duration::from_millis(u64::from(number));
            let expires = response(200, &format!("Expires: {}\r\n", number % 400));
            let failed = response(300 + u16::try_from(number % 400).unwrap_or(0), "");
            let input = match what {
                0 => Input::Started,
                1 if outstanding => Input::Answered(&expires),
                2 if outstanding => Input::Answered(&failed),
                3 if outstanding => Input::Unanswered,
                4 => Input::FlowLost,
                5 if outstanding => Input::Unasked,
                _ => Input::DeadlineReached,
            };
            let answered = matches!(input, Input::Answered(_) | Input::Unanswered | Input::Unasked);
            let out = run.input(&input);
            let asked = out.iter().filter(|out| matches!(out, Output::Register { .. })).count();
            prop_assert!(asked <= 1);
            requests += u32::try_from(asked).unwrap_or(0);
            outstanding = asked == 1 || (outstanding && !answered && !matches!(input, Input::FlowLost));
            if !outstanding {
                prop_assert!(run.registration.deadline().is_some(), "it never gives up for good");
            }
        }
        prop_assert!(requests < 61);
    }
}
