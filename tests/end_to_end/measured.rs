//! What `/metrics` serves: the names, helps and labels of the table, and all on which the README has people alarmed.

use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::node::wait_for;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use tandem::telemetry::metric::Counter;
use tandem::telemetry::metric::Gauge;
use tandem::telemetry::metric::Histogram;

/// What is known of a metric: its kind, its label and its help.
type Known = (&'static str, &'static str, &'static str);

/// Gauges that the README would have watched.
const WATCHED: [&str; 6] = [
    "sip_shards_down",
    "media_threads_stalled",
    "media_threads_down",
    "media_refuses",
    "database_up",
    "journal_waiting_bytes",
];

fn known() -> BTreeMap<&'static str, Known> {
    let counters =
        Counter::ALL.iter().map(|own| (own.name(), ("counter", own.label(), own.help())));
    let gauges = Gauge::ALL.iter().map(|own| (own.name(), ("gauge", own.label(), own.help())));
    let histograms =
        Histogram::ALL.iter().map(|own| (own.name(), ("histogram", own.label(), own.help())));
    counters.chain(gauges).chain(histograms).collect()
}

/// The name of a sample and those of its labels.
fn sample(line: &str) -> (&str, Vec<&str>) {
    let name = line.split(['{', ' ']).next().unwrap();
    let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let names = labels.map(|(labels, _)| labels.split(',').filter_map(|one| one.split('=').next()));
    (name, names.into_iter().flatten().collect())
}

/// The metric of which a sample is.
fn metric_of<'n>(name: &'n str, known: &BTreeMap<&'static str, Known>) -> &'n str {
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| name.strip_suffix(part));
    whole.filter(|whole| known.get(*whole).is_some_and(|own| own.0 == "histogram")).unwrap_or(name)
}

#[tokio::test]
async fn what_is_served_is_in_the_table_and_what_is_to_be_watched_is_served() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    let over = node.post(&calls(1, &format!("/{call}/hangup")), &key, &Value::Null).await;
    assert_eq!(over.status, 202, "{}", over.body);
    hear_bye(&far).await;
    let text = wait_for("all that is watched is served", async || {
        let text = node.get("/metrics").await.body;
        let is_there = |name: &&str| text.lines().any(|line| sample(line).0 == *name);
        (WATCHED.iter().all(is_there) && text.contains("call_duration_seconds_count 1"))
            .then_some(text)
    })
    .await;
    let known = known();
    let mut served = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => assert_eq!(known[name].0, kind, "{line}"),
            ["#", "HELP", name, help] => assert_eq!(known[name].2, help, "{line}"),
            _ => {
                let (name, labels) = sample(line);
                let of = metric_of(name, &known);
                let own = known.get(of).unwrap_or_else(|| panic!("{line} is of no table"));
                let is_known = |label: &&str| *label == own.1 || *label == "le";
                assert!(labels.iter().all(is_known), "{line}: its label is {}", own.1);
                served += 1;
            }
        }
    }
    assert!(served > 100, "{text}");
    for counter in Counter::ALL.iter().filter(|own| own.label().is_empty()) {
        let line = format!("\n{} ", counter.name());
        assert!(text.contains(&line), "{} is not served before it moves", counter.name());
    }
}
