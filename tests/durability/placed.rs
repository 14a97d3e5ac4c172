//! Requests that name themselves place one call, whatever the database does.

use crate::Client;
use crate::ECHO;
use crate::Victim;
use crate::demo_path;
use crate::switch::Switch;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use tandem::clock;
use tandem::store::demo;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A carrier where everybody is busy, and the calls it heard of.
struct Carrier {
    calls: Arc<Mutex<HashSet<String>>>,
    task: JoinHandle<()>,
}

impl Carrier {
    async fn of(switch: &Switch) -> Self {
        let socket = UdpSocket::bind((switch.caller(9), 0)).await.unwrap();
        let trunk = json!({
            "inbound": {"source_cidrs": ["192.0.2.9/32"]},
            "outbound": {
                "enabled": true,
                "gateway": [{"name": "g", "uri": format!("sip:{}", socket.local_addr().unwrap()), "dns": "fixed"}],
            },
            "security": {"allow_destinations": ["+1555"], "max_calls_per_destination_per_min": 0},
            "caller_id": {"default": ECHO},
        });
        let id = clock::new_uuid();
        let sql = format!(
            "INSERT INTO trunks (id, name, profile, overrides) VALUES ('{id}', 'carrier', 'generic', '{trunk}'); \
             UPDATE tenants SET outbound_trunk_id = '{id}' WHERE id = '{}'",
            demo::TENANT
        );
        switch.change(&sql).await;
        let calls = Arc::<Mutex<HashSet<String>>>::default();
        let task = tokio::spawn(be_busy(socket, Arc::clone(&calls)));
        Self { calls, task }
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn be_busy(socket: UdpSocket, calls: Arc<Mutex<HashSet<String>>>) {
    let mut buffer = [0; 4_096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned();
        if !text.starts_with("INVITE ") {
            continue;
        }
        let header = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        calls.lock().unwrap().insert(header("Call-ID: ").to_owned());
        let kept = ["Via: ", "From: ", "Call-ID: ", "CSeq: "].map(header).join("\r\n");
        let answer = format!(
            "SIP/2.0 486 Busy Here\r\n{kept}\r\n{};tag=busy\r\nContent-Length: 0\r\n\r\n",
            header("To: ")
        );
        socket.send_to(answer.as_bytes(), from).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_names_itself_places_one_call_beside_a_frozen_and_a_dead_database() {
    let (victim, switch) = Victim::start().await;
    let (client, carrier) = (Client::of(&switch).await, Carrier::of(&switch).await);
    let (path, wish) = (demo_path("calls"), json!({"to": "+15550142", "from": ECHO}).to_string());
    let place = async |name: &str| client.ask_as(("POST", &path), name, &wish).await;
    let put_off = async |name: &str| {
        let answer = place(name).await;
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status, code.as_str()), (503, Some("database_unavailable")));
        assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    };
    // Whether it was asked for before, nobody can say: nothing is placed.
    let frozen = victim.freeze();
    put_off("lead-1").await;
    put_off("lead-1").await;
    drop(frozen);
    switch.wait_for_readiness("database", true).await;
    assert_eq!(carrier.calls(), 0);
    let first = place("lead-1").await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{}", first.body);
    for crash in [false, true] {
        let frozen = (!crash).then(|| victim.freeze());
        if crash {
            victim.cluster.crash().unwrap();
        }
        put_off("lead-1").await;
        put_off("lead-2").await;
        drop(frozen);
        if crash {
            victim.cluster.restart().unwrap();
        }
        switch.wait_for_readiness("database", true).await;
        let again = place("lead-1").await;
        let told = (again.status, again.json()["id"].clone());
        assert_eq!(told, (201, first.json()["id"].clone()), "{}", again.body);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    let second = place("lead-2").await;
    assert_eq!(second.status, 201, "{}", second.body);
    assert_ne!(second.json()["id"], first.json()["id"]);
    let outbound = "SELECT count(*) FROM calls WHERE direction = 'outbound'";
    switch.wait_for_count(outbound, 2).await;
    let over = "SELECT count(*) FROM calls WHERE direction = 'outbound' AND cause = 'busy'";
    switch.wait_for_count(over, 2).await;
    assert_eq!((carrier.calls(), switch.count(outbound).await), (2, 2));
}
