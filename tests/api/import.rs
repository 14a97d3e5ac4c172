//! Many numbers at once.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::http;
use crate::http::Answer;
use crate::postgres;
use serde_json::json;

const PLATFORM: usize = 2;

async fn import(bench: &Bench, key: usize, kind: &str, table: &str) -> Answer {
    let headers = [("x-api-key", bench.keys[key].clone()), ("content-type", kind.to_owned())];
    let path = bench.path(0, "numbers/import");
    http::request_as(bench.address, ("POST", &path), &headers, table).await
}

#[tokio::test]
async fn each_row_of_an_import_is_judged_for_itself() {
    let bench = Bench::new().await;
    let other = json!({"first_number": "+15550150"});
    bench.make(&bench.path(1, "numbers"), PLATFORM, other).await;
    let table = "number,last_number,label,is_active\r\n\
                 +15550100,,\"Front, desk\",yes\r\n\
                 nonsense,,,\r\n\
                 +15550150,,somebody's,\r\n\
                 +15550110,+15550119,range,no\r\n\
                 +15550115,,within the range,\r\n\
                 +15550120\r\n";
    let answer = import(&bench, PLATFORM, "text/csv; charset=utf-8", table).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let report = answer.json();
    assert_eq!((&report["created"], &report["failed"]), (&json!(2), &json!(4)));
    let told: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["error"]["code"].as_str()))
        .collect();
    let (conflict, invalid) = (Some("conflict"), Some("invalid_value"));
    assert_eq!(
        told,
        [(2, None), (3, invalid), (4, conflict), (5, None), (6, conflict), (7, invalid)]
    );
    let number = &report["rows"][1]["first_number"];
    assert_eq!(number, "nonsense", "a refused row is named by what stood in it");
    let list = bench.read(&bench.path(0, "numbers"), PLATFORM).await;
    let labels: Vec<_> = list["numbers"].as_array().unwrap().iter().map(|n| &n["label"]).collect();
    assert_eq!(labels, ["range", "Front, desk"]);
    let sql = "SELECT count(*) FROM audit_log WHERE subject = 'number' AND action = 'create'";
    assert_eq!(postgres::count(&bench.database, sql).await, 3);
}

#[tokio::test]
async fn what_the_platform_alone_says_of_a_number_no_tenant_imports() {
    let bench = Bench::new().await;
    let trunk = json!({"name": "own", "profile": "generic"});
    let trunk = bench.make(&bench.path(0, "trunks"), 0, trunk).await;
    let trunk = trunk["id"].as_str().unwrap();
    for (column, value) in [("compliance_state", "approved"), ("assignment_status", "reserved")] {
        let table = format!("number,trunk_id,{column}\n+15550100,{trunk},{value}\n");
        let report = import(&bench, 0, "text/csv", &table).await.json();
        assert_eq!((&report["created"], &report["failed"]), (&json!(0), &json!(1)), "{report}");
        let error = &report["rows"][0]["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("platforms_only"), &json!(column)));
    }
    assert_eq!(postgres::count(&bench.database, "SELECT count(*) FROM phone_numbers").await, 0);
    let table = format!("number,trunk_id,compliance_state\n+15550100,{trunk},approved\n");
    let report = import(&bench, PLATFORM, "text/csv", &table).await.json();
    assert_eq!((&report["created"], &report["failed"]), (&json!(1), &json!(0)), "{report}");
}

#[tokio::test]
async fn what_is_no_table_is_not_imported() {
    let bench = Bench::new().await;
    check_error(&import(&bench, PLATFORM, "text/csv", "").await, 400, "bad_body");
    let json = import(&bench, PLATFORM, "application/json", "number\n+15550100").await;
    check_error(&json, 415, "unsupported_type");
    let many = format!("number\n{}", "+15550100\n".repeat(2_001));
    check_error(&import(&bench, PLATFORM, "text/csv", &many).await, 400, "bad_body");
    let long = format!("number\n{}", "x".repeat(1_100_000));
    check_error(&import(&bench, PLATFORM, "text/csv", &long).await, 413, "too_large");
    let open = import(&bench, PLATFORM, "text/csv", "number,label\n+15550100,\"a\n").await;
    check_error(&open, 400, "bad_body");
    assert!(open.body.contains("line 2"), "{}", open.body);
    let short = import(&bench, PLATFORM, "text/csv", "number,label\n+15550100").await;
    let report = short.json();
    let why = &report["rows"][0]["error"]["message"];
    assert_eq!(why, "the row has 1 cells, the heading 2", "{report}");
    let unknown = import(&bench, PLATFORM, "text/csv", "number,colour\n+15550100,red").await;
    assert_eq!(unknown.json()["rows"][0]["error"]["field"], "colour", "{}", unknown.body);
    assert_eq!(postgres::count(&bench.database, "SELECT count(*) FROM phone_numbers").await, 0);
}
