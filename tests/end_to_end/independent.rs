//! Calls with rsipstack, a SIP stack of other make, on either end.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use rsipstack::EndpointBuilder;
use rsipstack::dialog::authenticate::Credential;
use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::dialog::DialogStateReceiver;
use rsipstack::dialog::dialog::DialogStateSender;
use rsipstack::dialog::dialog::TerminatedReason;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::platform::CancellationToken;
use rsipstack::sip::Header;
use rsipstack::sip::Method;
use rsipstack::sip::Response;
use rsipstack::sip::StatusCode;
use rsipstack::sip::Uri;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

/// A number whose agent is never ready.
const SLOW: &str = "+15550111";
/// A number behind a trunk that asks for a password.
const GUARDED: &str = "+15550112";

/// rsipstack with one UDP socket. Dropping it closes that.
pub(crate) struct Peer {
    pub(crate) layer: Arc<DialogLayer>,
    states: DialogStateReceiver,
    pub(crate) sender: DialogStateSender,
    pub(crate) address: SocketAddr,
    life: CancellationToken,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.life.cancel();
    }
}

impl Peer {
    pub(crate) async fn at(ip: &str) -> Self {
        let life = CancellationToken::new();
        let transports = TransportLayer::new(life.clone());
        let local = format!("{ip}:0").parse().unwrap();
        let udp = UdpConnection::create_connection(local, None, Some(life.child_token())).await;
        let udp = udp.unwrap();
        let address = udp.get_addr().get_socketaddr().unwrap();
        transports.add_transport(udp.into());
        let endpoint = EndpointBuilder::new()
            .with_cancel_token(life.clone())
            .with_transport_layer(transports)
            .build();
        let mut incoming = endpoint.incoming_transactions().unwrap();
        let layer = Arc::new(DialogLayer::new(endpoint.inner.clone()));
        let (sender, states) = layer.new_dialog_state_channel();
        tokio::spawn(async move { endpoint.serve().await });
        let (taker, states_of_calls) = (Arc::clone(&layer), sender.clone());
        let contact = uri(&format!("sip:peer@{address}"));
        tokio::spawn(async move {
            while let Some(transaction) = incoming.recv().await {
                take(&taker, &states_of_calls, &contact, transaction);
            }
        });
        Self { layer, states, sender, address, life }
    }

    /// A session description; nobody listens at its port.
    pub(crate) fn sdp(&self, version: u32) -> Vec<u8> {
        let ip = self.address.ip();
        format!(
            "v=0\r\no=- 7 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 9 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        )
        .into_bytes()
    }

    /// A call to `number` of the switch, or of the proxy before it, at `address`.
    fn wish(&self, address: SocketAddr, number: &str, password: Option<&str>) -> InviteOption {
        let credential = password.map(|password| Credential {
            username: "peer".to_owned(),
            password: password.to_owned(),
            realm: None,
            auth_username: None,
        });
        InviteOption {
            caller: uri(&format!("sip:+15557703@{}", self.address)),
            callee: uri(&format!("sip:{number}@{address}")),
            contact: uri(&format!("sip:peer@{}", self.address)),
            content_type: Some("application/sdp".to_owned()),
            offer: Some(self.sdp(1)),
            credential,
            ..InviteOption::default()
        }
    }

    async fn call(
        &self,
        node: &Node,
        number: &str,
        password: Option<&str>,
    ) -> (InviteDialog, Response) {
        self.invite(self.wish(node.sip(), number, password)).await
    }

    /// A call by a proxy that reaches the switch over UDP.
    pub(crate) async fn call_by(
        &self,
        proxy: SocketAddr,
        number: &str,
    ) -> (InviteDialog, Response) {
        let way = Header::Other("X-Way".into(), "udp".into());
        let wish = self.wish(proxy, number, None);
        self.invite(InviteOption { headers: Some(vec![way]), ..wish }).await
    }

    async fn invite(&self, wish: InviteOption) -> (InviteDialog, Response) {
        let invited = timeout(PATIENCE, self.layer.do_invite(wish, self.sender.clone())).await;
        let (dialog, response) = invited.expect("the call is answered").unwrap();
        (dialog, response.expect("a final response"))
    }

    /// The first state that `fits`; others are passed over.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        fits: impl Fn(DialogState) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                let state = self.states.recv().await.expect("the stack lives");
                if let Some(found) = fits(state) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }

    pub(crate) async fn until_ended(&mut self) -> TerminatedReason {
        let ended = |state| match state {
            DialogState::Terminated(_, reason) => Some(reason),
            _ => None,
        };
        self.until("the end", ended).await
    }

    /// The call of the switch that has just come.
    pub(crate) async fn called(&mut self) -> InviteDialog {
        let calling = |state| match state {
            DialogState::Calling(id) => Some(id),
            _ => None,
        };
        let id = self.until("a call", calling).await;
        match self.layer.get_dialog(&id) {
            Some(Dialog::Invite(dialog)) => dialog,
            _ => panic!("no dialog {id}"),
        }
    }

    /// Answers the call of the switch that has just come, and waits for its ACK.
    pub(crate) async fn accept(&mut self) -> InviteDialog {
        let dialog = self.called().await;
        dialog.ringing(None, None).unwrap();
        let headers = vec![Header::ContentType("application/sdp".into())];
        dialog.accept(Some(headers), Some(self.sdp(1))).unwrap();
        let confirmed = |state| matches!(state, DialogState::Confirmed(..)).then_some(());
        self.until("its ACK", confirmed).await;
        dialog
    }

    /// Has the call changed; the status of the answer.
    pub(crate) async fn change(&self, dialog: &InviteDialog) -> u16 {
        let headers = vec![Header::ContentType("application/sdp".into())];
        status(dialog.reinvite(Some(headers), Some(self.sdp(3))).await.unwrap())
    }

    /// Answers the switch's re-INVITE.
    pub(crate) async fn answer_again(&mut self) {
        let updated = |state| match state {
            DialogState::Updated(_, request, handle) => {
                assert_eq!(request.method, Method::Invite);
                Some(handle)
            }
            _ => None,
        };
        let handle = self.until("a re-INVITE", updated).await;
        let headers = vec![Header::ContentType("application/sdp".into())];
        handle.respond(StatusCode::OK, Some(headers), Some(self.sdp(2))).await.unwrap();
        let confirmed = |state| matches!(state, DialogState::Confirmed(..)).then_some(());
        self.until("its ACK", confirmed).await;
    }
}

pub(crate) fn uri(text: &str) -> Uri {
    Uri::try_from(text).unwrap()
}

/// Gives a request of the switch to its call.
fn take(
    layer: &DialogLayer,
    sender: &DialogStateSender,
    contact: &Uri,
    mut transaction: Transaction,
) {
    if let Some(mut dialog) = layer.match_dialog(&transaction) {
        tokio::spawn(async move { dialog.handle(&mut transaction).await.unwrap() });
    } else if transaction.original.method == Method::Invite {
        let made = layer.get_or_create_server_invite(
            &transaction,
            sender.clone(),
            None,
            Some(contact.clone()),
        );
        let mut dialog = made.unwrap();
        tokio::spawn(async move { dialog.handle(&mut transaction).await.unwrap() });
    }
}

/// A node that knows the peer at 127.0.0.1, and one at 127.0.0.8 whom it asks for a password: by MD5,
/// since rsipstack 0.7.14 takes a challenge by SHA-256 for no SIP message.
async fn node(peer: &Peer) -> (Node, String) {
    let home = Home::new();
    home.write("password", "s3cret");
    let node = home.start().await;
    let digest = json!({"mode": "required", "username": "peer", "password_ref": "file:password",
                        "realm": "tandem.example", "algorithms": ["MD5"]});
    let guarded = json!({"inbound": {"source_cidrs": ["127.0.0.8/32"], "digest": digest}});
    let waits = json!({"kind": "tone", "answer": {"after_ms": 60_000}});
    node.put(&[
        carrier::trunk(4, "127.0.0.1/32", &[peer.address], json!({})),
        rows::trunk_with(7, guarded),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "tone", "reinvite_after_ms": 500})),
        rows::number(3, 1, 2, NUMBER),
        rows::profile(5, 1, waits),
        rows::number(6, 1, 5, SLOW),
        rows::profile(8, 1, json!({"kind": "tone"})),
        rows::number(9, 1, 8, GUARDED),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, key)
}

/// Waits for so many closed records of a cause.
pub(crate) async fn recorded(node: &Node, cause: &str, who: &str, count: i64) {
    let sql = format!("SELECT count(*) FROM calls WHERE cause = '{cause}' AND ended_by = '{who}'");
    wait_for(cause, async || (node.count(&sql).await == count).then_some(())).await;
}

fn status(response: Option<Response>) -> u16 {
    response.map_or(0, |response| response.status_code.code())
}

#[tokio::test]
async fn rsipstack_calls_changes_the_call_and_either_side_hangs_up() {
    let mut peer = Peer::at("127.0.0.1").await;
    let (node, key) = node(&peer).await;
    let (dialog, answer) = peer.call(&node, NUMBER, None).await;
    assert_eq!(answer.status_code, StatusCode::OK, "{answer}");
    assert!(String::from_utf8_lossy(&answer.body).contains("m=audio "), "{answer}");
    peer.answer_again().await;
    assert_eq!(peer.change(&dialog).await, 200);
    assert_eq!(status(dialog.options(None).await.unwrap()), 200);
    dialog.bye().await.unwrap();
    recorded(&node, "normal", "caller", 1).await;

    let (dialog, _) = peer.call(&node, GUARDED, None).await;
    let open = "FROM calls WHERE ended_at IS NULL";
    let call = wait_for("the record is stored", async || {
        let count = node.count(&format!("SELECT count(*) {open}")).await;
        let sql = format!("SELECT id::text {open}");
        if count == 1 { Some(crate::postgres::text(&node.database(), &sql).await) } else { None }
    })
    .await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    // The end of the first call is told as well.
    while !matches!(peer.until_ended().await, TerminatedReason::UasBye) {}
    assert!(matches!(dialog.state(), DialogState::Terminated(..)));
    recorded(&node, "normal", "operator", 1).await;
}

#[tokio::test]
async fn rsipstack_gives_up_while_it_rings() {
    let mut peer = Peer::at("127.0.0.1").await;
    let (node, _) = node(&peer).await;
    let wish = peer.wish(node.sip(), SLOW, None);
    let (dialog, outcome) = peer.layer.do_invite_async(wish, peer.sender.clone()).unwrap();
    let early = |state| matches!(state, DialogState::Early(..)).then_some(());
    peer.until("it rings", early).await;
    dialog.cancel().await.unwrap();
    let outcome = timeout(PATIENCE, outcome).await.expect("the call ends").unwrap().unwrap();
    assert_eq!(status(outcome.1), 487);
    recorded(&node, "caller_cancelled", "caller", 1).await;
}

#[tokio::test]
async fn rsipstack_answers_the_challenge_of_a_trunk_with_the_right_password_alone() {
    let peer = Peer::at("127.0.0.8").await;
    let (node, _) = node(&peer).await;
    let (_, refusal) = peer.call(&node, GUARDED, Some("guess")).await;
    assert!(matches!(refusal.status_code.code(), 401 | 403), "{refusal}");
    recorded(&node, "bad_credentials", "switch", 1).await;
    let (dialog, answer) = peer.call(&node, GUARDED, Some("s3cret")).await;
    assert_eq!(answer.status_code, StatusCode::OK, "{answer}");
    dialog.bye().await.unwrap();
    recorded(&node, "normal", "caller", 1).await;
}

#[tokio::test]
async fn rsipstack_is_called_hears_a_reinvite_and_either_side_hangs_up() {
    let mut peer = Peer::at("127.0.0.1").await;
    let (node, key) = node(&peer).await;
    for ours in [false, true] {
        let wish = json!({"to": CALLED, "ai_profile_id": rows::uuid(2).to_string()});
        let call = place(&node, &key, wish).await;
        let dialog = peer.accept().await;
        peer.answer_again().await;
        if ours {
            let path = calls(1, &format!("/{call}/hangup"));
            assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
        } else {
            dialog.bye().await.unwrap();
        }
        let ended = peer.until_ended().await;
        assert_eq!(matches!(ended, TerminatedReason::UacBye), ours, "{ended:?}");
        let record = shown(&node, 1, &call, &key).await;
        let by = if ours { "operator" } else { "caller" };
        assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!(by)));
    }
}

#[tokio::test]
async fn rsipstack_is_called_and_the_call_is_given_up_while_it_rings() {
    let mut peer = Peer::at("127.0.0.1").await;
    let (node, key) = node(&peer).await;
    let call =
        place(&node, &key, json!({"to": CALLED, "ai_profile_id": rows::uuid(8).to_string()})).await;
    let dialog = peer.called().await;
    dialog.ringing(None, None).unwrap();
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let ended = peer.until_ended().await;
    assert!(matches!(ended, TerminatedReason::UacCancel), "{ended:?}");
    let record = shown(&node, 1, &call, &key).await;
    assert!(record["times"]["answered"].is_null(), "{record}");
}
