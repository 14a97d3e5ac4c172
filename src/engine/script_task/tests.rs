//! A script whose link ends: another one, or the end of its call, is on its way.

use super::*;
use crate::audio::link::link;
use crate::net::http_client::HttpClient;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::reach::Reach;
use crate::types::secret::Secret;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn setup(end: AgentEnd) -> ScriptSetup {
    let first = Replacement::Script(Box::default());
    let (call_id, tenant) =
        (CallId::from_uuid(Uuid::from_u128(1)), TenantId::from_uuid(Uuid::from_u128(2)));
    let web = Web {
        http: HttpClient::new(Reach { http: true, networks: Vec::new() }, TrustRoots::native()),
        auth_token: Secret::default(),
        timeout: PATIENCE,
        trace: None,
    };
    let call = AgentCall {
        call_id,
        tenant,
        caller: String::new(),
        dialled: "+15550100".parse().expect("a number"),
        variables: CallVariables::default(),
        trace: None,
        before: None,
    };
    let facts = CallFacts {
        call: call_id,
        tenant,
        from: String::new(),
        to: "+15550100".to_owned(),
        is_outbound: false,
        forwarded_from: None,
        headers: Vec::new(),
    };
    let nowhere = Path::new("/nonexistent");
    ScriptSetup {
        beginning: Beginning { first, fallback: None, after_answer: false },
        local: None,
        web,
        assets: Assets::in_folder(nowhere),
        speech: Speech::find("", nowhere),
        roots: TrustRoots::native(),
        health: AgentHealth::default(),
        call,
        facts,
        is_answered: true,
        recordings: String::new(),
        faults: FaultPolicy::NONE,
        end,
    }
}

/// A script that does what a check has it do, in a call that holds on to it.
fn task(end: AgentEnd) -> (Task, ScriptHandle, mailbox::Receiver<ScriptEvent>) {
    let (commands_in, commands) = mailbox::bounded(COMMANDS_MAX);
    let (events_in, events) = mailbox::bounded(COMMANDS_MAX);
    (Task::new(setup(end), commands, events_in), ScriptHandle(commands_in), events)
}

/// The script takes in the next thing that happened.
async fn step(task: &mut Task) {
    let woken = timeout(PATIENCE, task.next()).await.expect("something happened");
    task.woken(woken, &mut Vec::new()).await;
}

#[tokio::test]
async fn a_link_that_ends_before_another_came_does_not_end_the_script() {
    let (before, end) = link();
    let (mut task, handle, _events) = task(end);
    drop(before);
    step(&mut task).await;
    assert!(!task.over && task.orphaned.is_some());
    let (mut media, end) = link();
    handle.relink(end);
    step(&mut task).await;
    assert_eq!((task.over, task.orphaned), (false, None));
    assert!(media.push_digit('5'));
    let heard = timeout(PATIENCE, task.next()).await.expect("a key");
    assert!(matches!(heard, Woken::Link(LinkEvent::Digit('5'))), "it is heard over the new one");
}

#[tokio::test]
async fn a_script_that_is_left_without_a_link_ends_though_nobody_says_so() {
    let (media, end) = link();
    let (mut task, _handle, _events) = task(end);
    drop(media);
    step(&mut task).await;
    let until = task.orphaned.expect("the end of its patience");
    step(&mut task).await;
    assert!(task.over && clock::now() >= until);
}

#[tokio::test]
async fn a_link_that_comes_back_after_its_end_was_told_counts_as_ended() {
    let (media, end) = link();
    let (mut task, _handle, _events) = task(end);
    let mut back = task.end.take().expect("its link");
    drop(media);
    assert_eq!(back.next(), Some(LinkEvent::Closed));
    task.come_back(Some(*back)).await;
    assert!(!task.over && task.orphaned.is_some());
}
