//! `tandem calls show`: the record of one call.

use crate::cli::api::ApiArgs;
use crate::cli::calls::length;
use crate::cli::columns;
use crate::cli::columns::Columns;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::id::CallId;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The stages of a call in the order in which it reaches them, as they are named and shown.
const STAGES: [(&str, &str); 9] = [
    ("arrived", "arrived"),
    ("decided", "decided"),
    ("ringing", "ringing"),
    ("agent_ready", "agent ready"),
    ("answered", "answered"),
    ("acknowledged", "acknowledged"),
    ("first_media", "first media"),
    ("fallback", "fallback"),
    ("ended", "ended"),
];

#[derive(Deserialize)]
struct Detail {
    id: String,
    direction: String,
    caller: String,
    dialled: Option<String>,
    dialled_as: String,
    status: String,
    sip_status: Option<i16>,
    cause: Option<String>,
    q850: Option<i16>,
    ended_by: Option<String>,
    agent_failure: Option<String>,
    codec: Option<String>,
    duration_ms: i64,
    source: Option<String>,
    transport: Option<String>,
    sip_call_id: String,
    trunk_id: Option<String>,
    ai_profile_id: Option<String>,
    times: BTreeMap<String, Option<Timestamp>>,
    media: Option<Media>,
    #[serde(default)]
    decision: Vec<Step>,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Media {
    packets_in: i64,
    packets_out: i64,
    lost_in: i64,
    late_in: i64,
    lost_out: Option<i64>,
    jitter_in_ms: Option<f64>,
    round_trip_ms: Option<f64>,
    mos_in: Option<f64>,
    mos_out: Option<f64>,
    srtp_suite: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    what: String,
    detail: String,
}

#[derive(Deserialize)]
struct Event {
    at: Timestamp,
    name: String,
    detail: Value,
}

/// Prints the record of `call`.
pub(super) async fn run(api: &ApiArgs, call: CallId) -> Result<(), Failure> {
    let client = api.client()?;
    let answer = client.get(&client.of_tenant(&format!("calls/{call}"))?).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let detail: Detail = answer.read()?;
    let mut parts = vec![columns::facts(&facts(&detail))];
    if !detail.decision.is_empty() {
        parts.push(decision(&detail.decision));
    }
    if !detail.events.is_empty() {
        parts.push(events(&detail.events));
    }
    output::line(&parts.join("\n\n"));
    Ok(())
}

fn facts(detail: &Detail) -> Vec<(&'static str, Option<String>)> {
    let number = |number: Option<i16>| number.map(|number| number.to_string());
    let peer = detail.source.as_ref().map(|source| match &detail.transport {
        Some(transport) => format!("{source} over {transport}"),
        None => source.clone(),
    });
    let peer_is = if detail.direction == "outbound" { "sent to" } else { "from" };
    let mut facts = vec![
        ("call", Some(detail.id.clone())),
        ("way", Some(detail.direction.clone())),
        ("caller", Some(detail.caller.clone())),
        ("dialled", detail.dialled.clone()),
        ("dialled as", Some(detail.dialled_as.clone())),
        (peer_is, peer),
        ("status", Some(detail.status.clone())),
        ("sip status", number(detail.sip_status)),
        ("cause", detail.cause.clone()),
        ("q.850", number(detail.q850)),
        ("ended by", detail.ended_by.clone()),
        ("agent", detail.agent_failure.clone()),
        ("seconds", length(detail.cause.as_deref(), detail.duration_ms)),
        ("codec", detail.codec.clone()),
        ("trunk", detail.trunk_id.clone()),
        ("ai profile", detail.ai_profile_id.clone()),
        ("sip call-id", Some(detail.sip_call_id.clone())),
    ];
    facts.extend(STAGES.map(|(stage, name)| {
        let at = detail.times.get(stage).copied().flatten();
        (name, at.map(|at| format!("{at:.3}")))
    }));
    if let Some(media) = &detail.media {
        facts.extend(media_facts(media));
    }
    facts
}

fn media_facts(media: &Media) -> Vec<(&'static str, Option<String>)> {
    let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1} ms"));
    let mos = |mos: Option<f64>| mos.map(|mos| format!("{mos:.2}"));
    let lost_out = media.lost_out.map_or(String::new(), |lost| format!(", {lost} out"));
    vec![
        ("packets", Some(format!("{} in, {} out", media.packets_in, media.packets_out))),
        ("lost", Some(format!("{} in, {} late{lost_out}", media.lost_in, media.late_in))),
        ("jitter", ms(media.jitter_in_ms)),
        ("round trip", ms(media.round_trip_ms)),
        ("mos in", mos(media.mos_in)),
        ("mos out", mos(media.mos_out)),
        ("srtp", media.srtp_suite.clone()),
    ]
}

fn decision(steps: &[Step]) -> String {
    let mut table = Columns::new(&["DECISION", ""]);
    for step in steps {
        table.row([step.what.clone(), step.detail.clone()]);
    }
    table.text()
}

fn events(events: &[Event]) -> String {
    let mut table = Columns::new(&["AT", "EVENT", "DETAIL"]);
    for event in events {
        let detail = match &event.detail {
            Value::Object(fields) if fields.is_empty() => String::new(),
            other => other.to_string(),
        };
        table.row([format!("{:.3}", event.at), event.name.clone(), detail]);
    }
    table.text()
}
