//! Who is said to call, and where a call has been: what carriers and agents read of it on the wire, and
//! what is refused for it.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::key;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use crate::sipp_carrier;
use crate::sipp_carrier::Gateway;
use crate::sipp_carrier::by_udp;
use crate::sipp_carrier::in_order;
use crate::transfers::transfer;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::clock;
use tandem::store::api_keys::KeyRole;

/// Who calls, at this address.
const CALLER: &str = "127.0.0.2";
/// By which number, as its From says.
const CALLING: &str = "+15557702";
/// What comes with a call: where it has been, what the caller's side tells, and what it would like to be
/// believed.
const BROUGHT: &str = "Diversion: \"A, B\" <sip:+15550177@carrier.example>;reason=user-busy;counter=1\r\n\
     Diversion: <tel:+15550178>;reason=no-answer\r\n\
     Diversion: <sip:broken\r\n\
     History-Info: <sip:+15550178@carrier.example>;index=1, <sip:+15550177@carrier.example>;index=1.1\r\n\
     User-to-User: 00aabb;encoding=hex\r\nX-Case: seven; of nine\r\nX-Token: hunter2\r\n\
     P-Asserted-Identity: <sip:+15550199@evil.example>\r\nIdentity: forged\r\n\
     Remote-Party-ID: <sip:+15550199@evil.example>\r\n";
/// Where it has been, as one value.
const HISTORY: [&str; 2] = [
    "\"A, B\" <sip:+15550177@carrier.example>;reason=user-busy;counter=1, <tel:+15550178>;reason=no-answer",
    "<sip:+15550178@carrier.example>;index=1, <sip:+15550177@carrier.example>;index=1.1",
];

/// What SIPp printed of each call, in order: name and value of what was there.
fn printed(logged: &str) -> Vec<Vec<(&str, &str)>> {
    let calls = logged.split("call\n").skip(1);
    calls.map(|call| call.lines().filter_map(field).collect()).collect()
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(' ')?;
    Some((name, value.trim())).filter(|(_, value)| !value.is_empty())
}

fn of<'a>(call: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    call.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
}

/// A call by a trunk of its own, and what SIPp is to print of it. `HOST` stands for its address, `OWN` for
/// the number that was called before, where there is one.
struct Case {
    /// More of the trunk's profile.
    profile: Value,
    from: String,
    /// What tells the caller beside From: everything of [`TELLING`] that is there.
    told: Vec<(&'static str, String)>,
}

/// What tells the caller, or where a call has been.
const TELLING: [&str; 6] = ["pai", "ppi", "rpid", "privacy", "diversion", "history"];

impl Case {
    fn new(profile: Value, from: &str, told: &[(&'static str, &str)]) -> Self {
        let told = told.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { profile, from: from.to_owned(), told }
    }

    /// Compares it with what SIPp printed.
    fn check(&self, call: &[(&str, &str)], host: &str, own: &str) {
        let profile = &self.profile;
        let filled = |text: &str| text.replace("HOST", host).replace("OWN", own);
        let from = of(call, "from").and_then(|from| from.split(";tag=").next());
        assert_eq!(from, Some(filled(&self.from).as_str()), "{profile}: {call:?}");
        for name in TELLING {
            let told = self.told.iter().find(|(told, _)| *told == name);
            let told = told.map(|(_, value)| filled(value));
            assert_eq!(of(call, name), told.as_deref(), "{name}, {profile}: {call:?}");
        }
        let contact = of(call, "contact").unwrap();
        assert_eq!(contact.contains("anonymous"), self.is_withheld(), "{contact}");
    }

    fn is_withheld(&self) -> bool {
        self.from.starts_with("\"Anonymous\"")
    }
}

/// From of a caller who is withheld.
const WITHHELD: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// Calls that an application places, and whether they are to be withheld.
fn placed() -> Vec<(bool, Case)> {
    let own = "<sip:OWN@HOST>";
    let party = |privacy: &str| format!("{own};party=calling;screen=yes;privacy={privacy}");
    let set = |asserted: &str| json!({"caller_id": {"asserted": asserted}});
    let ppi = json!({"caller_id": {"asserted": "ppi", "asserted_uri": "sip:{caller}@customer.example"},
                     "outbound": {"user_phone": true}});
    let account = json!({"caller_id": {"asserted": "none", "from_user": "acct-7",
                                       "display_name": "Acme \"West\""}});
    let force = json!({"caller_id": {"privacy": "force",
                                     "anonymous_from": "sip:restricted@own.example"}});
    let id = ("privacy", "id");
    let preferred = "<sip:OWN@customer.example;user=phone>";
    let restricted = "\"Anonymous\" <sip:restricted@own.example>";
    vec![
        (false, Case::new(json!({}), own, &[("pai", own)])),
        (false, Case::new(ppi, "<sip:OWN@HOST;user=phone>", &[("ppi", preferred)])),
        (false, Case::new(set("rpid"), own, &[("rpid", &party("off"))])),
        (false, Case::new(account, "\"Acme \\\"West\\\"\" <sip:acct-7@HOST>", &[])),
        (true, Case::new(json!({}), WITHHELD, &[("pai", own), id])),
        (true, Case::new(set("ppi"), WITHHELD, &[("ppi", own), id])),
        (true, Case::new(set("rpid"), WITHHELD, &[("rpid", &party("full")), id])),
        (true, Case::new(set("none"), WITHHELD, &[id])),
        (true, Case::new(json!({"caller_id": {"privacy": "ignore"}}), own, &[("pai", own)])),
        (false, Case::new(force, restricted, &[("pai", own), id])),
        (false, Case::new(json!({"caller_id": {"policy": "fixed"}}), own, &[("pai", own)])),
    ]
}

#[tokio::test]
async fn a_carrier_reads_who_calls_as_its_trunk_says_and_as_the_application_wishes() {
    let cases = placed();
    let gateway = Gateway::new("carrier-prints", cases.len() as u32).await;
    let at = in_order(&[by_udp(gateway.address)]);
    let profiles = cases.iter().map(|(_, case)| case.profile.clone());
    let trunks = (4..).zip(profiles).map(|(n, more)| sipp_carrier::trunk(n, at.clone(), more));
    let (node, key) = sipp_carrier::node(trunks.collect()).await;
    for (n, (anonymous, _)) in (4..).zip(&cases) {
        let wish = json!({"to": CALLED, "from": NUMBER, "trunk": format!("trunk-{n}"),
                          "anonymous": anonymous});
        let call = place(&node, &key, wish).await;
        let (record, steps) = sipp_carrier::outcome(&node, &key, &call).await;
        assert_eq!(record["cause"], "busy", "{steps}");
    }
    let host = gateway.address.ip().to_string();
    let report = gateway.finishes().await;
    let calls = printed(&report.logged);
    assert_eq!(calls.len(), cases.len(), "{}", report.logged);
    for (call, (_, case)) in calls.iter().zip(cases) {
        case.check(call, &host, NUMBER);
    }
}

/// A number of the tenant whose calls out go by this trunk.
fn forwarded(id: u128, number: &str, trunk: u128) -> String {
    let [id, tenant, profile, trunk] = [id, 1, 30, trunk].map(rows::uuid);
    format!(
        "INSERT INTO phone_numbers (id, tenant_id, first_number, last_number, ai_profile_id, outbound_trunk_id) \
         VALUES ('{id}', '{tenant}', '{number}', '{number}', '{profile}', '{trunk}')"
    )
}

/// Calls a number, with more headers and another From where it is named; the final response.
async fn call(node: &Node, number: &str, headers: &str, as_whom: &str) -> (Phone, Heard) {
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), number).await;
    let offer = phone.sdp();
    let own = format!("From: <sip:{CALLING}@{}>", phone.local());
    let whom = if as_whom.is_empty() { own.clone() } else { format!("From: {as_whom}") };
    let invite = phone.request("INVITE", headers, &offer).replace(&own, &whom);
    phone.send(invite).await;
    let outcome = phone.outcome("INVITE").await;
    if outcome.status() == 200 {
        phone.confirm(&outcome);
    }
    phone.acknowledge().await;
    (phone, outcome)
}

/// Calls that are forwarded: From and more headers of the call in, and what is told of the call out.
fn passed_on() -> Vec<([&'static str; 2], Case)> {
    let of_trunk = |caller_id: Value| {
        json!({"caller_id": caller_id,
               "headers": {"outbound_set": [{"name": "X-Team", "value": "{var.case}"}],
                           "outbound_pass": ["User-to-User", "X-*", "P-*"]}})
    };
    let own = "<sip:OWN@HOST>";
    let shown = format!("<sip:{CALLING}@HOST>");
    let shown = shown.as_str();
    let [diversion, history] = HISTORY;
    // Ours stands for the two that came, too.
    let ours = "<sip:OWN@HOST>;reason=unconditional;counter=3";
    // RFC 7044: what came stays, and ours is numbered after it.
    let ends =
        format!("<sip:OWN@HOST>;index=1.1.1, <sip:{CALLED}@HOST;cause=302>;index=1.1.1.1;mp=1.1.1");
    let chain = format!("{history}, {ends}");
    let open = ["", ""];
    let nobody = ["<sip:anonymous@anonymous.invalid>", ""];
    let hidden = ["", "Privacy: id\r\n"];
    let id = ("privacy", "id");
    let generate = || json!({"policy": "pass", "diversion": "generate"});
    let chained = json!({"policy": "pass", "diversion": "history-info", "asserted": "ppi"});
    let strip = || json!({"policy": "pass", "diversion": "strip"});
    let kept = json!({"policy": "pass", "diversion": "strip", "privacy": "ignore"});
    let all = [
        (open, json!({}), own, vec![("pai", own), ("diversion", diversion), ("history", history)]),
        (open, generate(), shown, vec![("pai", shown), ("diversion", ours)]),
        (open, chained, shown, vec![("ppi", shown), ("history", chain.as_str())]),
        (open, json!({"diversion": "strip"}), own, vec![("pai", own)]),
        (nobody, generate(), WITHHELD, vec![("pai", own), ("diversion", ours), id]),
        (hidden, strip(), WITHHELD, vec![("pai", own), id]),
        (hidden, kept, own, vec![("pai", own)]),
    ];
    let case = |(brought, policy, from, told): ([&'static str; 2], Value, &str, Vec<_>)| {
        (brought, Case::new(of_trunk(policy), from, &told))
    };
    all.into_iter().map(case).collect()
}

#[tokio::test]
async fn a_forwarded_call_tells_the_carrier_where_it_has_been_and_never_who_it_claims_to_be_from() {
    let cases = passed_on();
    let gateway = Gateway::new("carrier-prints", cases.len() as u32).await;
    let at = in_order(&[by_udp(gateway.address)]);
    let profiles = cases.iter().map(|(_, case)| case.profile.clone());
    let trunks = (4..).zip(profiles).map(|(n, more)| sipp_carrier::trunk(n, at.clone(), more));
    let (node, _) = sipp_carrier::node(trunks.collect()).await;
    let number = |n: usize| format!("+1555016{n}");
    let inbound = json!({"inbound": {"source_cidrs": [format!("{CALLER}/32")]},
                         "headers": {"inbound_to_vars": {"X-Case": "case"}}});
    let mut all = vec![
        rows::trunk_with(29, inbound),
        rows::profile(30, 1, json!({"kind": "forward", "to": CALLED})),
    ];
    let id = |n: usize| n as u128;
    all.extend((0..cases.len()).map(|n| forwarded(40 + id(n), &number(n), 4 + id(n))));
    node.put(&all).await;
    for (n, ([whom, headers], _)) in cases.iter().enumerate() {
        let headers = format!("{BROUGHT}{headers}");
        let (_, outcome) = call(&node, &number(n), &headers, whom).await;
        assert_eq!(outcome.status(), 486, "{outcome:?}");
    }
    let host = gateway.address.ip().to_string();
    let report = gateway.finishes().await;
    let calls = printed(&report.logged);
    assert_eq!(calls.len(), cases.len(), "{}", report.logged);
    for (n, (call, (_, case))) in calls.iter().zip(cases).enumerate() {
        case.check(call, &host, &number(n));
        assert_eq!(of(call, "uui"), Some("00aabb;encoding=hex"));
        assert_eq!(of(call, "team"), Some("seven; of nine"));
        assert_eq!(of(call, "token"), Some("hunter2"));
        let said = format!("{call:?}");
        assert!(!said.contains("5550199") && !said.contains("forged"), "{said}");
        assert!(!case.is_withheld() || !said.contains(CALLING), "{said}");
    }
}

/// A node for calls of `CALLER` to a number with this agent, made for the address of a far side, by which the
/// tenant calls out too; with more of the trunk.
async fn node(agent: impl FnOnce(SocketAddr) -> Value, more: Value) -> (Node, Phone, String) {
    let node = Home::new().start().await;
    let far = carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent(far.local())),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, far, key)
}

#[tokio::test]
async fn a_transferred_caller_brings_its_headers_along_to_numbers_and_to_addresses() {
    let more = json!({
        "caller_id": {"diversion": "generate"},
        "headers": {"inbound_to_vars": {"X-Case": "case"}, "outbound_pass": ["User-to-User"],
                    "outbound_set": [{"name": "X-Team", "value": "{var.case}"}]},
    });
    let (node, far, key) = node(|_| json!({"kind": "echo"}), more).await;
    let (mut phone, ok) = call(&node, NUMBER, BROUGHT, "").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    let sql = format!("FROM calls WHERE signalling_id = '{}'", phone.call_id);
    wait_for("the record", async || {
        (node.count(&format!("SELECT count(*) {sql}")).await == 1).then_some(())
    })
    .await;
    let id = crate::postgres::text(&node.database(), &format!("SELECT id::text {sql}")).await;

    transfer(&node, &key, &id, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    let diverted = format!("<sip:{NUMBER}@127.0.0.9>;reason=deflection;counter=3");
    assert_eq!(invite.all("diversion"), [diverted]);
    assert_eq!(invite.all("user-to-user"), ["00aabb;encoding=hex"]);
    assert_eq!(invite.all("x-team"), ["seven; of nine"]);
    for absent in ["x-case", "x-token", "identity", "history-info", "remote-party-id", "privacy"] {
        assert!(invite.all(absent).is_empty(), "{absent}: {invite:?}");
    }
    assert_eq!(invite.all("p-asserted-identity"), [format!("<sip:{NUMBER}@127.0.0.9>")]);
    refuse(&far, &invite, "486 Busy Here", "").await;

    let mut peer = carrier(&node, "127.0.0.12").await;
    let wish = json!({"uri": format!("sip:desk@{}", peer.local())});
    let path = calls(1, &format!("/{id}/transfer"));
    wait_for("the caller is back with the agent", async || {
        (node.post(&path, &key, &wish).await.status == 202).then_some(())
    })
    .await;
    let invite = answer(&mut peer).await;
    assert_eq!([invite.header("diversion"), invite.header("history-info")], HISTORY);
    assert_eq!(invite.all("user-to-user"), ["00aabb;encoding=hex"]);
    assert!(invite.all("x-case").is_empty() && invite.all("x-token").is_empty(), "{invite:?}");
    phone.hang_up().await;
    peer.expect("BYE ").await;
}

#[tokio::test]
async fn a_sip_agent_reads_what_came_with_the_call_and_what_the_profile_lets_it_know() {
    let agent = |far: SocketAddr| {
        json!({"kind": "sip", "uri": format!("sip:bot@{far}"), "pass_headers": ["X-C*", "X-Token"],
               "headers": {"X-Room": "seven", "X-Dialled": "{called} for {caller}",
                           "X-Team": "{var.case}", "X-None": "{var.nobody}", "X-Case": "ours"}})
    };
    let more = json!({
        "inbound": {"require_headers": [{"name": "X-Token", "value_ref": "env:TRUNK_TOKEN"}]},
        "headers": {"inbound_to_vars": {"X-Case": "case"}},
    });
    let mut home = Home::new();
    home.set("TRUNK_TOKEN", "hunter2");
    let node = home.start().await;
    let mut far = carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent(far.local())),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    // Without its secret the trunk is nobody's; the record says what was missing.
    for headers in ["", "X-Token: hunter3\r\n"] {
        let (phone, refused) = call(&node, NUMBER, headers, "").await;
        assert_eq!(refused.status(), 403, "{refused:?}");
        assert_eq!(node.record(&phone.call_id).await.cause, "unknown_source");
        let sql = format!(
            "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND decision::text LIKE \
             '%header X-Token is missing or wrong%' AND decision::text NOT LIKE '%hunter%'",
            phone.call_id
        );
        assert_eq!(node.count(&sql).await, 1);
    }
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "an agent was called");

    let headers = format!("{BROUGHT}X-Color: green\r\nX-Other: no\r\n");
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", &headers, &offer);
    phone.send(invite).await;
    let invite = answer(&mut far).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    assert_eq!([invite.header("diversion"), invite.header("history-info")], HISTORY);
    for (name, value) in [
        ("x-room", "seven"),
        ("x-dialled", &format!("{NUMBER} for {CALLING}")),
        ("x-team", "seven; of nine"),
        ("x-case", "ours"),
        ("x-color", "green"),
    ] {
        assert_eq!(invite.all(name), [value], "{name}");
    }
    for absent in
        ["x-none", "x-token", "x-other", "user-to-user", "identity", "p-asserted-identity"]
    {
        assert!(invite.all(absent).is_empty(), "{absent}: {invite:?}");
    }
    phone.hang_up().await;
    far.expect("BYE ").await;
}

#[tokio::test]
async fn a_caller_without_a_number_is_refused_by_a_trunk_that_wants_one() {
    let more = json!({"inbound": {"anonymous": "reject_433"}});
    let (node, _far, _) = node(|_| json!({"kind": "echo"}), more).await;
    for (whom, headers) in [
        ("\"Anonymous\" <sip:anonymous@anonymous.invalid>", ""),
        ("<sip:Restricted@carrier.example>", ""),
        ("<sip:anonymous.invalid>", ""),
        ("", "Privacy: user;id\r\n"),
        ("", "Remote-Party-ID: <sip:+15557702@carrier.example>;party=calling;privacy=full\r\n"),
    ] {
        let (phone, refused) = call(&node, NUMBER, headers, whom).await;
        assert_eq!(refused.status(), 433, "{whom} {headers}: {refused:?}");
        assert_eq!(node.record(&phone.call_id).await.cause, "policy");
        let sql = format!(
            "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND sip_status = 433 AND coalesce(caller, '') = '' \
             AND decision::text LIKE '%takes no caller without a number%'",
            phone.call_id
        );
        assert_eq!(node.count(&sql).await, 1, "{whom} {headers}");
    }
    let (mut phone, ok) = call(&node, NUMBER, "Privacy: none\r\n", "").await;
    assert_eq!(ok.status(), 200);
    phone.hang_up().await;
}

/// The hour of the day that comes so many hours after this one, by UTC.
fn hour_in(hours: i64) -> String {
    let now = clock::wall_now().as_second() / 3_600;
    format!("{:02}:00", (now + hours) % 24)
}

#[tokio::test]
async fn what_the_law_of_a_trunk_forbids_is_refused_and_the_record_says_why() {
    let place_of = |area: &str, hours: Value| {
        json!({"compliance": {"region": "IN", "no_pstn_to_pstn_bridge": true, "calling_hours": hours},
               "numbers": {"area_code": area}, "inbound": {"response_map": {"policy": 603}}})
    };
    let closed = json!({"tz": "UTC", "from": hour_in(5), "to": hour_in(8)});
    let open = json!({"tz": "UTC", "from": hour_in(22), "to": hour_in(3)});
    let node = Home::new().start().await;
    let far = carrier(&node, "127.0.0.9").await;
    let at = [far.local()];
    let unknown = "192.0.2.9/32";
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &at, place_of("80", json!({}))),
        carrier::trunk(5, unknown, &at, place_of("22", closed)),
        carrier::trunk(6, unknown, &at, place_of("80", open)),
        carrier::tenant(1, 5),
        rows::profile(30, 1, json!({"kind": "forward", "to": CALLED})),
        forwarded(40, NUMBER, 5),
        forwarded(41, "+15550111", 6),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;

    // Of two places of one country: refused before anybody is rung.
    let (phone, refused) = call(&node, NUMBER, "", "").await;
    assert_eq!(refused.status(), 603, "{refused:?}");
    assert_eq!(node.record(&phone.call_id).await.cause, "toll_bypass");
    let sql = format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
    let id = crate::postgres::text(&node.database(), &sql).await;
    let record = carrier::shown(&node, 1, &id, &key).await;
    let told = record.to_string();
    assert!(told.contains("may not be joined to a call of trunk trunk-4: toll bypass"), "{told}");

    // Of one place: forwarded, although the hours of calls nobody asked for are over by none.
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), "+15550111").await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = far.expect("INVITE ").await;
    refuse(&far, &invite, "486 Busy Here", "").await;
    assert_eq!(phone.outcome("INVITE").await.status(), 486);
    phone.acknowledge().await;

    let wish = |from: &str| json!({"to": CALLED, "from": from, "agent": {"kind": "echo"}});
    let denied = node.post(&calls(1, ""), &key, &wish(NUMBER)).await;
    assert_eq!(denied.json()["code"], "outside_hours", "{}", denied.body);
    let sql = "SELECT count(*) FROM calls WHERE cause = 'outside_hours' \
               AND decision::text LIKE '%trunk-5: calls from %, and it is %'";
    wait_for("the record", async || (node.count(sql).await == 1).then_some(())).await;
    place(&node, &key, wish("+15550111")).await;
    let invite = far.expect("INVITE ").await;
    refuse(&far, &invite, "486 Busy Here", "").await;
}

#[tokio::test]
async fn what_a_carrier_says_of_a_caller_is_in_the_record_and_believed_as_its_trunk_says() {
    let headers = "X-Twilio-VerStat: TN-Validation-Passed-A\r\nIdentity: eyJhbGciOiJFUzI1NiJ9..abc\r\n\
                   P-Asserted-Identity: <sip:+15550199@carrier.example>\r\n";
    let identity = json!({"verify": "observe", "verstat_header": "X-Twilio-VerStat"});
    let trusting = json!({"inbound": {"trust_asserted_identity": true}, "identity": identity});
    for (more, caller, noted) in [(trusting, "+15550199", true), (json!({}), CALLING, false)] {
        let (node, _far, key) = node(|_| json!({"kind": "echo"}), more).await;
        let (mut phone, ok) = call(&node, NUMBER, headers, "").await;
        assert_eq!(ok.status(), 200, "{ok:?}");
        phone.hang_up().await;
        node.record(&phone.call_id).await;
        let sql = format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
        let id = crate::postgres::text(&node.database(), &sql).await;
        let record = shown(&node, 1, &id, &key).await;
        assert_eq!(record["caller"], json!(caller));
        let steps = steps(&record);
        assert_eq!(steps.contains("X-Twilio-VerStat: TN-Validation-Passed-A"), noted, "{steps}");
        assert_eq!(steps.contains("Identity of 25 bytes, not verified"), noted, "{steps}");
        assert_ne!(steps.contains("P-Asserted-Identity is not believed"), noted, "{steps}");
    }
}
