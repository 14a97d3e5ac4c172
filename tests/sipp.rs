//! The built binary against SIPp and a real PostgreSQL: each scenario of `tests/scenarios`.

#[path = "support/http.rs"]
mod http;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/sipp.rs"]
mod sipp;
#[path = "support/switch.rs"]
mod switch;

use crate::sipp::Report;
use crate::sipp::Sipp;
use crate::switch::Options;
use crate::switch::Switch;
use std::net::IpAddr;
use std::net::Ipv4Addr;

const PARROT: &str = "+15550103";
const ECHO: &str = "+15550101";
const TONE: &str = "+15550102";
const LATE_TONE: &str = "+15550104";
const SHORT: &str = "+15550105";
const ANNOUNCEMENT: &str = "+15550106";
const REINVITE: &str = "+15550107";
const INACTIVE: &str = "+15550198";
const SUSPENDED: &str = "+15550199";
const NOBODYS: &str = "+15559999";

/// Records of calls that ended with a cause.
fn ended(cause: &str) -> String {
    format!("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL AND cause = '{cause}'")
}

const ALL: &str = "SELECT count(*) FROM calls";

/// Runs one call of `scenario` from a trusted address and waits for its only record, which must have
/// the cause.
async fn check(switch: &Switch, scenario: &str, number: &str, cause: &str) -> Report {
    let call = Sipp::new(scenario, switch.caller(2), switch.udp, number);
    let report = call.succeeds().await;
    switch.wait_for_count(&ended(cause), 1).await;
    assert_eq!(switch.count(ALL).await, 1, "one call, one record");
    report
}

/// The same on a switch of its own.
async fn check_alone(scenario: &str, number: &str, cause: &str) -> Switch {
    let switch = Switch::start().await;
    check(&switch, scenario, number, cause).await;
    switch
}

#[tokio::test]
async fn a_call_has_audio_both_ways_over_udp_and_tcp() {
    let switch = Switch::start().await;
    check(&switch, "basic", ECHO, "normal").await;
    Sipp::new("basic", switch.caller(3), switch.tcp, ECHO).over_tcp().succeeds().await;
    // Two seconds are a hundred packets each way; SIPp may be late with a few.
    let both_ways = format!(
        "{} AND packets_in BETWEEN 80 AND 110 AND packets_out BETWEEN 80 AND 120 AND codec = 'PCMU' \
         AND sip_status = 200 AND ended_by = 'caller' AND first_media_at IS NOT NULL",
        ended("normal")
    );
    switch.wait_for_count(&both_ways, 2).await;
    assert_eq!(switch.count("SELECT count(DISTINCT transport) FROM calls").await, 2);
}

#[tokio::test]
async fn a_law_is_spoken_where_nothing_else_is_offered() {
    let switch = check_alone("pcma", TONE, "normal").await;
    let sent = "SELECT count(*) FROM calls WHERE codec = 'PCMA' AND packets_out > 30";
    switch.wait_for_count(sent, 1).await;
}

#[tokio::test]
async fn a_delayed_offer_is_answered_in_the_ack() {
    let switch = check_alone("delayed-offer", ECHO, "normal").await;
    let both_ways = "SELECT count(*) FROM calls WHERE packets_in > 80 AND packets_out > 80";
    switch.wait_for_count(both_ways, 1).await;
}

#[tokio::test]
async fn a_caller_may_give_up_while_it_rings() {
    check_alone("cancel", LATE_TONE, "caller_cancelled").await;
    check_alone("cancel-at-once", LATE_TONE, "caller_cancelled").await;
}

#[tokio::test]
async fn no_rtp_is_sent_while_held() {
    let switch = check_alone("hold-resume", TONE, "normal").await;
    // 1 + 3 x 0.5 s to be heard, 3 x 1 s on hold: without the holds it were 275 packets.
    let heard = "SELECT count(*) FROM calls WHERE holds = 3 AND packets_out BETWEEN 90 AND 160";
    switch.wait_for_count(heard, 1).await;
}

#[tokio::test]
async fn every_refusal_has_its_own_status_and_reason() {
    for (scenario, number, cause) in [
        ("unknown-number", NOBODYS, "unknown_number"),
        ("inactive-number", INACTIVE, "number_inactive"),
        ("suspended-tenant", SUSPENDED, "tenant_suspended"),
        ("no-common-codec", ECHO, "no_common_codec"),
    ] {
        let switch = check_alone(scenario, number, cause).await;
        let explained = "SELECT count(*) FROM calls WHERE jsonb_array_length(decision) > 0";
        assert_eq!(switch.count(explained).await, 1, "{scenario} leaves its decision");
    }
}

#[tokio::test]
async fn a_number_is_reached_through_its_own_trunk_only() {
    let switch = Switch::start().await;
    let bind = format!(
        "UPDATE phone_numbers SET trunk_id = (SELECT id FROM trunks WHERE name = 'test') \
         WHERE first_number = '{ECHO}'"
    );
    switch.change(&bind).await;
    let from_other = switch.caller(130);
    Sipp::new("foreign-number", from_other, switch.udp, ECHO).succeeds().await;
    switch.wait_for_count(&ended("number_not_on_trunk"), 1).await;
    Sipp::new("bye-at-once", switch.caller(2), switch.udp, ECHO).succeeds().await;
}

#[tokio::test]
async fn an_unknown_source_gets_silence_or_403_as_the_listener_says() {
    let switch = Switch::start().await;
    Sipp::new("untrusted", switch.caller(200), switch.udp, ECHO).succeeds().await;
    let switch =
        Switch::start_with(Options { refuses_strangers: true, ..Options::default() }).await;
    Sipp::new("untrusted-refused", switch.caller(200), switch.udp, ECHO).succeeds().await;
}

#[tokio::test]
async fn a_trunk_that_challenges_takes_the_right_password_only() {
    let switch = Switch::start().await;
    let call = |scenario, password| {
        Sipp::new(scenario, switch.caller(70), switch.udp, ECHO)
            .args(&["-au", "demo", "-ap", password])
    };
    call("digest-wrong", "guess").succeeds().await;
    switch.wait_for_count(&ended("bad_credentials"), 1).await;
    call("digest", "demo").succeeds().await;
    switch.wait_for_count(&ended("normal"), 1).await;
    // A challenge and the INVITE that answers it are one attempt.
    assert_eq!(switch.count(ALL).await, 2);
    let explained = "SELECT count(*) FROM calls WHERE decision @? '$[*] ? (@.what == \"challenge\")' \
        AND decision::text LIKE CASE cause WHEN 'normal' THEN '%authenticated as `demo`%' \
                                           ELSE '%wrong credentials%' END";
    assert_eq!(switch.count(explained).await, 2);
}

#[tokio::test]
async fn a_challenged_caller_who_never_comes_back_leaves_a_record() {
    let mut switch = Switch::start().await;
    let refused = "SELECT count(*) FROM calls WHERE cause = 'credentials_required' \
        AND sip_status = 401 AND ended_by = 'switch' AND trunk_ref IS NOT NULL AND tenant_id IS NULL \
        AND decision::text LIKE '%nobody came back%'";
    Sipp::new("challenged", switch.caller(70), switch.udp, ECHO).succeeds().await;
    // He has 32 s; until then the attempt is open.
    assert_eq!(switch.count(ALL).await, 0);
    switch.wait_for_count(refused, 1).await;
    // A switch that stops waits for nobody.
    Sipp::new("challenged", switch.caller(70), switch.udp, ECHO).succeeds().await;
    switch.terminate();
    assert!(switch.ended().await.success());
    assert_eq!((switch.count(refused).await, switch.count(ALL).await), (2, 2));
}

#[tokio::test]
async fn repeated_messages_make_one_call() {
    check_alone("retransmissions", ECHO, "normal").await;
}

#[tokio::test]
async fn a_call_whose_answer_is_never_acknowledged_is_hung_up() {
    check_alone("lost-ack", ECHO, "ack_timeout").await;
}

#[tokio::test]
async fn the_switch_hangs_up_when_its_agent_is_done() {
    for number in [SHORT, ANNOUNCEMENT] {
        let switch = check_alone("bye-from-us", number, "normal").await;
        let by = "SELECT count(*) FROM calls WHERE ended_by IN ('agent', 'switch')";
        switch.wait_for_count(by, 1).await;
    }
}

#[tokio::test]
async fn a_call_survives_our_reinvite() {
    check_alone("reinvite-from-us", REINVITE, "normal").await;
}

#[tokio::test]
async fn a_call_may_end_before_it_has_begun_to_speak() {
    check_alone("bye-at-once", PARROT, "normal").await;
}

#[tokio::test]
async fn options_are_answered_within_calls_and_without() {
    check_alone("options-in-call", ECHO, "normal").await;
    let switch = Switch::start().await;
    Sipp::new("options", switch.caller(2), switch.udp, "ping").succeeds().await;
}

/// Sets a limit of the trunk `test` to one.
fn limit_trunk(limit: &str) -> String {
    format!(
        "UPDATE trunks SET overrides = overrides || '{{\"limits\": {{\"{limit}\": 1}}}}' \
         WHERE name = 'test'"
    )
}

#[tokio::test]
async fn above_a_rate_new_calls_get_503_and_the_others_go_on() {
    let node = Switch::start_with(Options { cps_max: 1, ..Options::default() }).await;
    let tenant = Switch::start().await;
    tenant.change("UPDATE tenants SET cps_max = 1").await;
    let trunk = Switch::start().await;
    trunk.change(&limit_trunk("cps_in")).await;
    for (switch, cause) in [(node, "node_limit"), (tenant, "tenant_limit"), (trunk, "trunk_limit")]
    {
        let calls = Sipp::new("rate-limit", switch.caller(2), switch.udp, TONE).calls(20, 50, 0);
        let report = calls.succeeds().await;
        assert_eq!(report.successful, 20, "{}", report.text);
        let closed = "SELECT count(*) FROM calls WHERE ended_at IS NOT NULL";
        switch.wait_for_count(closed, 20).await;
        let (taken, refused) =
            (switch.count(&ended("normal")).await, switch.count(&ended(cause)).await);
        assert_eq!(taken + refused, 20, "{cause}");
        // One a second, and the calls come within half of one on any machine that keeps up.
        assert!(taken >= 1 && refused >= 1, "{cause}: {taken} taken, {refused} refused");
        let counted = format!("calls_refused_total{{cause=\"{cause}\"}}");
        assert_eq!(switch.metric(&counted).await, refused as f64);
    }
}

#[tokio::test]
async fn over_a_limit_new_calls_get_503_and_running_ones_go_on() {
    let node = Switch::start_with(Options { calls_max: 1, ..Options::default() }).await;
    let tenant = Switch::start().await;
    tenant.change("UPDATE tenants SET calls_max = 1").await;
    let trunk = Switch::start().await;
    trunk.change(&limit_trunk("channels_in")).await;
    for (switch, scenario, cause) in [
        (node, "node-limit", "node_limit"),
        (tenant, "tenant-limit", "tenant_limit"),
        (trunk, "trunk-limit", "trunk_limit"),
    ] {
        let first = Sipp::new("basic", switch.caller(2), switch.udp, TONE).start();
        switch.wait_for_calls(1).await;
        Sipp::new(scenario, switch.caller(3), switch.udp, TONE).succeeds().await;
        let report = first.report().await;
        assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
        switch.wait_for_count(&ended(cause), 1).await;
        switch.wait_for_count(&ended("normal"), 1).await;
        // The permit came back.
        Sipp::new("bye-at-once", switch.caller(2), switch.udp, TONE).succeeds().await;
    }
}

#[tokio::test]
async fn a_stopping_switch_finishes_its_calls_and_takes_no_new_ones() {
    let mut switch = Switch::start().await;
    let first = Sipp::new("basic", switch.caller(2), switch.udp, TONE).start();
    switch.wait_for_calls(1).await;
    switch.terminate();
    switch.wait_for_readiness("draining", true).await;
    Sipp::new("draining", switch.caller(3), switch.udp, TONE).succeeds().await;
    let report = first.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
    assert!(switch.ended().await.success());
    assert_eq!(switch.count(&ended("normal")).await, 1, "the journal was flushed");
}

#[tokio::test]
async fn a_small_load_leaves_a_record_for_every_call() {
    let switch = Switch::start().await;
    let load = |scenario, last| {
        Sipp::new(scenario, switch.caller(last), switch.udp, ECHO).calls(40, 20, 500)
    };
    let gauges = async {
        for name in ["calls_open", "media_sessions", "sip_dialogs", "sip_transactions"] {
            switch.wait_for_metric(name, |value| value >= 1.0).await;
        }
    };
    let (calls, signalling, ()) = tokio::join!(
        load("load-calls", 2).succeeds(),
        load("load-signalling", 3).succeeds(),
        gauges
    );
    assert_eq!((calls.successful, signalling.successful), (40, 40));
    switch.wait_for_count(&ended("normal"), 80).await;
    assert_eq!(switch.count(ALL).await, 80);
    switch.wait_for_calls(0).await;
    for name in ["calls_open", "media_sessions", "sip_dialogs"] {
        switch.wait_for_metric(name, |value| value == 0.0).await;
    }
    // Their birth, their answer and their end.
    assert!(switch.metric("records_journalled_total").await >= 80.0);
    switch.wait_for_metric("records_stored_total", |stored| stored >= 80.0).await;
    assert_eq!(switch.metric("call_setup_seconds_count{direction=\"inbound\"}").await, 80.0);
    assert_eq!(switch.metric("call_duration_seconds_count").await, 80.0);
    switch.wait_for_metric("routing_numbers", |numbers| numbers == 11.0).await;
}

/// UDP sockets of the switch's own address, but for that of SIP: those of its media.
fn media_sockets(switch: &Switch) -> usize {
    let IpAddr::V4(address) = switch.udp.ip() else { panic!("{}", switch.udp) };
    let own = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
    let signalling = format!("{own}{:04X}", switch.udp.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let locals = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    locals.filter(|local| local.starts_with(&own) && *local != signalling).count()
}

#[tokio::test]
async fn many_calls_of_no_length_leave_nothing_behind_and_others_alone() {
    const SHORT_CALLS: u32 = 1_500;
    let switch = Switch::start().await;
    let beside = Sipp::new("load-calls", switch.caller(2), switch.udp, ECHO).calls(1, 1, 20_000);
    let beside = beside.start();
    switch.wait_for_answers(1).await;
    assert!(media_sockets(&switch) > 0, "of the call beside");
    // No more at once than a slow machine can bear: it then takes its time.
    let short = Sipp::new("bye-at-once", switch.caller(3), switch.udp, ECHO)
        .calls(SHORT_CALLS, 50, 0)
        .args(&["-l", "30"]);
    let report = short.succeeds().await;
    assert_eq!(report.successful, u64::from(SHORT_CALLS), "{}", report.text);
    let report = beside.report().await;
    assert_eq!((report.successful, report.failed), (1, 0), "{}", report.text);
    let calls = i64::from(SHORT_CALLS) + 1;
    switch.wait_for_count(&ended("normal"), calls).await;
    assert_eq!(switch.count(ALL).await, calls);
    switch.wait_for_calls(0).await;
    for name in ["calls_open", "media_sessions", "sip_dialogs", "media_threads_stalled"] {
        switch.wait_for_metric(name, |value| value == 0.0).await;
    }
    assert_eq!(media_sockets(&switch), 0, "a port is left open");
    assert_eq!(switch.total("call_faults_total").await, 0.0, "{}", switch.log());
    // The next one has audio like the one beside.
    Sipp::new("basic", switch.caller(4), switch.udp, ECHO).succeeds().await;
    let both_ways = format!("{} AND packets_in > 80 AND packets_out > 80", ended("normal"));
    switch.wait_for_count(&both_ways, 2).await;
}

#[tokio::test]
async fn calls_go_on_and_keep_their_records_while_the_switch_is_killed() {
    let mut switch = Switch::start().await;
    let calls = Sipp::new("load-calls", switch.caller(2), switch.udp, TONE).calls(10, 50, 60_000);
    let running = calls.start();
    switch.wait_for_calls(10).await;
    // A record is on disk at most 50 ms after its call began.
    switch.wait_for_count(ALL, 10).await;
    switch.kill().await;
    drop(running);
    switch.restart().await;
    switch.wait_for_count(&ended("interrupted"), 10).await;
    assert_eq!(switch.count(ALL).await, 10);
    // The port is free at once and calls are taken again.
    Sipp::new("bye-at-once", switch.caller(4), switch.udp, ECHO).succeeds().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let switch = Switch::start().await;
    let address = switch.udp.to_string();
    let scratch = postgres::Scratch::new();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["demo", "--once", "--sip", &address, "--http", "127.0.0.1:0", "--data-dir"])
        .arg(scratch.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("udp {address} is in use")), "{said}");
    assert_eq!(switch.udp.ip(), switch.caller(1));
    assert_ne!(switch.caller(1), IpAddr::V4(Ipv4Addr::LOCALHOST));
}
