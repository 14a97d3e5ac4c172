//! The signalling of calls that ended: what is read is what was stored.

use crate::journal::upload_and_close;
use crate::journal::write_calls;
use crate::postgres;
use crate::postgres::Scratch;
use crate::rows;
use bytes::Bytes;
use tandem::clock;
use tandem::store::journal::Journal;
use tandem::store::traces;
use tandem::store::traces::StoredMessage;
use tandem::store::traces::StoredTrace;

fn message(at: &str, way: &'static str, bytes: &'static [u8]) -> StoredMessage {
    StoredMessage {
        at: at.parse().unwrap(),
        way: way.into(),
        transport: "udp".into(),
        local: "[::1]:5060".into(),
        remote: "127.0.0.2:5061".into(),
        bytes: Bytes::from_static(bytes),
    }
}

#[tokio::test]
async fn signalling_is_read_as_it_was_stored() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scratch = Scratch::new();
    let journal = Journal::open(&scratch.path().join("journal")).unwrap();
    let calls = write_calls(&journal, tenant, 3).await;
    upload_and_close(&journal, &database).await;

    let first = message("2026-11-22T23:59:59.000007Z", "in", b"\0\xff\xfe\"\\\r\n{},");
    let second = message("2026-11-22T23:59:59.999999Z", "out", b"");
    let other = message("1969-12-31T23:59:59.5Z", "in", b"a");
    let stored = [
        StoredTrace { messages: vec![first, second], left_out: 3 },
        StoredTrace::default(),
        StoredTrace { messages: vec![other.clone()], left_out: 0 },
    ];
    let mut all: Vec<_> = calls.iter().copied().zip(stored.clone()).collect();
    // What has no record is not stored, and holds up nothing.
    let late = StoredTrace { messages: vec![other.clone()], left_out: 1 };
    all.push((clock::new_call_id(), late.clone()));
    traces::put_all_tenants(&database, &all).await.unwrap();
    // What is there stays as it is.
    traces::put_all_tenants(&database, &[(calls[2], late)]).await.unwrap();
    traces::put_all_tenants(&database, &[]).await.unwrap();

    for (call, stored) in calls.iter().zip(stored) {
        assert_eq!(traces::get(&database, tenant, *call).await.unwrap(), stored);
    }
    assert_eq!(postgres::count(&database, "SELECT count(*) FROM sip_messages").await, 3);
}
