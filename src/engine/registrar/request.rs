//! Sending one REGISTER: to one address after the other, until one answers.

use crate::clock;
use crate::engine::registrar::Terms;
use crate::engine::registry::SourceGuard;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::sip_shard::handle::REQUEST_TRIES_MAX;
use crate::engine::switch::Switch;
use crate::engine::way;
use crate::routing::registration::TrunkRegistration;
use crate::sip::digest::client::Account;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::OutboundRequest;
use crate::sip::endpoint::told::RequestAnswer;
use crate::sip::endpoint::told::RequestOutcome;
use crate::sip::locate::LocateError;
use crate::sip::locate::Target;
use crate::sip::message::Response;
use crate::sip::message::field::FieldValue;
use crate::sip::message::field::HeaderField;
use crate::sip::message::method::Method;
use crate::types::limit::SIP_CSEQ_MAX;
use crate::types::transport::Transport;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Addresses of one registrar that one request is tried at.
const ADDRESSES_MAX: usize = 4;
/// How long one address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the removal of a binding may take: the node waits for it.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);
/// How far CSeq jumps over a request whose end is not waited for: it may still answer challenges.
const CSEQ_SKIP: u32 = 16;

/// Makes the requests of one registration.
#[derive(Clone)]
pub(super) struct Asker {
    switch: Arc<Switch>,
    terms: Terms,
    /// RFC 3261 §10.2: all requests of a registration have the same, as long as its shard runs.
    call_id: FieldValue,
    shard: ShardHandle,
    memory: Memory,
    /// The address that answered last is asked first.
    known: Option<SocketAddr>,
}

/// What one request leaves for the next.
#[derive(Clone)]
pub(super) struct Memory {
    /// CSeq of the next request.
    cseq: u32,
    /// Answers challenges; lent to the request under way.
    digest: Option<Box<DigestClient>>,
}

/// What became of a request.
pub(super) struct Asked {
    /// None was asked, as DNS was not for want of room on our side.
    pub(super) is_unasked: bool,
    /// `None`: no address answered.
    pub(super) response: Option<Arc<Response>>,
    /// By what it was answered.
    pub(super) flow: Option<Flow>,
    pub(super) expected: Option<SourceGuard>,
    pub(super) memory: Memory,
}

/// DNS was not asked: too many questions are under way already.
#[derive(Debug)]
struct NoRoom;

impl Asker {
    /// `None` before shards run, and when none does.
    pub(super) fn new(switch: &Arc<Switch>, terms: Terms) -> Option<Self> {
        let (call_id, shard) = switch.new_call_id()?;
        let memory = Memory { cseq: 1, digest: digest(&terms) };
        let switch = Arc::clone(switch);
        Some(Self { switch, terms, call_id, shard, memory, known: None })
    }

    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes what the last request left, and who answered it.
    pub(super) fn learn(&mut self, memory: Memory, flow: Option<Flow>) {
        self.memory = memory;
        self.known = flow.map(|flow| flow.remote).or(self.known);
    }

    /// Goes on without the end of the request under way.
    pub(super) fn skip(&mut self) {
        self.memory.cseq = rising(self.memory.cseq, CSEQ_SKIP);
        self.memory.digest = digest(&self.terms);
    }

    /// Sends a REGISTER for `expires_s` seconds; 0 takes the binding away.
    pub(super) fn ask(&mut self, expires_s: u32) -> impl Future<Output = Asked> + Send + use<> {
        self.leave_ended_shard();
        self.clone().run(expires_s)
    }

    /// Goes on by another shard where its own is gone or hangs, which would send nothing. The registrar takes another Call-ID as
    /// from a client that began anew, and the binding, which is that of the same Contact, is taken over (RFC 3261 §10.3).
    fn leave_ended_shard(&mut self) {
        if self.shard.serves() {
            return;
        }
        if let Some((call_id, shard)) = self.switch.new_call_id() {
            (self.call_id, self.shard) = (call_id, shard);
        }
    }

    async fn run(mut self, expires_s: u32) -> Asked {
        let targets = match self.targets().await {
            Ok(targets) => targets,
            Err(NoRoom) => return Asked { is_unasked: true, ..self.over(Default::default()) },
        };
        let patience = if expires_s == 0 { REMOVE_PATIENCE } else { PATIENCE };
        let mut unwilling = None;
        let count = targets.len();
        for (index, target) in targets.iter().enumerate() {
            let Some((response, flow, expected)) = self.at(target, expires_s, patience).await
            else {
                continue;
            };
            let is_last = index + 1 == count;
            let asked = (Some(response), Some(flow), Some(expected));
            // RFC 3263 §4.3: one that is overloaded is passed over.
            if asked.0.as_ref().is_some_and(|response| response.status == 503) && !is_last {
                unwilling = Some(asked);
                continue;
            }
            return self.over(asked);
        }
        self.over(unwilling.unwrap_or_default())
    }

    fn over(
        self,
        (response, flow, expected): (Option<Arc<Response>>, Option<Flow>, Option<SourceGuard>),
    ) -> Asked {
        Asked { is_unasked: false, response, flow, expected, memory: self.memory }
    }

    /// The addresses to ask, in order.
    async fn targets(&self) -> Result<Vec<Target>, NoRoom> {
        let any = [Transport::Udp, Transport::Tcp];
        let search = way::uri_search(self.terms.registration.next_hop(), &any);
        let found = match search {
            Ok(search) => way::locate(&self.switch.dns, self.terms.named, search).await,
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(found) => found,
            Err(LocateError::TooMany) => return Err(NoRoom),
            Err(error) => {
                tracing::info!(%error, "a registrar cannot be located");
                Vec::new()
            }
        };
        let mut targets = way::permitted(&self.switch.roots, &self.terms.path, found);
        targets.sort_by_key(|target| Some(target.address) != self.known);
        targets.truncate(ADDRESSES_MAX);
        Ok(targets)
    }

    async fn at(
        &mut self,
        target: &Target,
        expires_s: u32,
        patience: Duration,
    ) -> Option<(Arc<Response>, Flow, SourceGuard)> {
        let to = way::destination(&self.terms.path, target, self.terms.listener);
        let connected = self.switch.flows.connect(&to);
        let unreachable = |error| tracing::info!(%error, "no way to a registrar");
        let flow = connected.map_err(unreachable).ok()?;
        let expected = self.switch.registry.expect_from(target.address.ip());
        let answer = self.answer(flow, expires_s, patience).await?;
        self.memory = Memory { cseq: rising(answer.cseq, 1), digest: answer.digest };
        match answer.outcome {
            RequestOutcome::Answered(response) => Some((response, flow, expected)),
            RequestOutcome::TimedOut
            | RequestOutcome::Unreachable
            | RequestOutcome::Unwritable
            | RequestOutcome::Full => None,
        }
    }

    /// Sends a request by `flow`, again where a fault of ours cut it off: CSeq goes on, for it may have arrived.
    async fn answer(
        &mut self,
        flow: Flow,
        expires_s: u32,
        patience: Duration,
    ) -> Option<RequestAnswer> {
        for _ in 0..REQUEST_TRIES_MAX {
            let request = self.request(flow, expires_s, patience);
            let answer = self.shard.request(Box::new(request)).await;
            if answer.is_some() {
                return answer;
            }
            self.skip();
            self.leave_ended_shard();
        }
        None
    }

    fn request(&mut self, flow: Flow, expires_s: u32, patience: Duration) -> OutboundRequest {
        OutboundRequest {
            call_id: Some(self.call_id.clone()),
            cseq: self.memory.cseq,
            advertised: self.terms.path.advertised.clone(),
            datagrams: self.terms.path.datagrams,
            digest: self.memory.digest.take().or_else(|| digest(&self.terms)),
            patience,
            ..register(&self.terms.registration, flow, expires_s)
        }
    }
}

/// A REGISTER of a trunk for `expires_s` seconds, without what the last one left: Call-ID, CSeq and nonces.
pub(crate) fn register(
    registration: &TrunkRegistration,
    flow: Flow,
    expires_s: u32,
) -> OutboundRequest {
    let expires = HeaderField::new("Expires", &expires_s.to_string()).ok();
    let proxy = registration.proxy.clone().filter(|_| registration.proxy_is_route);
    OutboundRequest {
        routes: proxy.into_iter().collect(),
        from: registration.aor.clone(),
        to: registration.aor.clone(),
        contact_user: Some(registration.contact_user.clone()),
        supports_path: registration.send_path,
        headers: expires.into_iter().collect(),
        patience: PATIENCE,
        ..OutboundRequest::new(Token(0), flow, Method::Register, &registration.registrar)
    }
}

/// A CSeq number that is higher by `by`. After two thousand million requests it begins anew.
const fn rising(cseq: u32, by: u32) -> u32 {
    let next = cseq.saturating_add(by);
    if next > SIP_CSEQ_MAX { 1 } else { next }
}

fn digest(terms: &Terms) -> Option<Box<DigestClient>> {
    digest_client(&terms.registration, clock::random_u64())
}

/// Answers the challenges to a trunk's registration, where it has an account; `seed` makes its cnonces.
pub(crate) fn digest_client(
    registration: &TrunkRegistration,
    seed: u64,
) -> Option<Box<DigestClient>> {
    let account = registration.account.as_ref()?;
    let account = Account {
        realm: account.realm.clone(),
        ..Account::new(&account.username, account.password.clone())
    };
    Some(Box::new(DigestClient::new(vec![account], seed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::registrar::Next;
    use crate::engine::registrar::Registering;
    use crate::engine::shards::Shards;
    use crate::engine::sip_shard::lives::Node;
    use crate::engine::sip_shard::lives::answer;
    use crate::engine::sip_shard::lives::field;
    use crate::engine::switch::tests::Nobody;
    use crate::engine::switch::tests::idle;
    use crate::net::dns::Named;
    use crate::net::dns::tests::Server;
    use crate::routing::trunk::Trunk;
    use crate::routing::trunk::TrunkPath;
    use crate::sip::register::Input;
    use crate::sip::register::Standing;
    use crate::types::id::TrunkId;
    use uuid::Uuid;

    fn terms() -> Terms {
        let registration = TrunkRegistration {
            registrar: "sip:registrar.example".to_owned(),
            proxy: None,
            proxy_is_route: false,
            aor: "sip:acme@registrar.example".to_owned(),
            contact_user: "acme".to_owned(),
            account: None,
            expires: Duration::from_secs(600),
            refresh_percent: 50,
            retry: vec![Duration::from_secs(30)],
            forbidden_retry: Duration::from_secs(600),
            use_service_route: false,
            send_path: false,
        };
        let (registration, path) = (Arc::new(registration), TrunkPath::default());
        Terms { registration, path, named: Named::ByOperator, listener: 0 }
    }

    #[test]
    fn a_registration_goes_on_by_another_shard_when_its_own_is_gone() {
        let switch = Arc::new(idle(Arc::new(Nobody), 21_334..=21_337));
        let (runs, _take) = ShardHandle::by_hand();
        switch.shards.set(Shards::new(vec![runs])).unwrap();
        let mut asker = Asker::new(&switch, terms()).expect("a shard");
        let first = asker.call_id.clone();
        drop(asker.ask(600));
        assert_eq!(asker.call_id, first, "a refresh is the same registration's");
        let (gone, take) = ShardHandle::by_hand();
        drop(take);
        asker.shard = gone;
        drop(asker.ask(600));
        assert!(asker.shard.is_running());
        assert_ne!(asker.call_id, first, "what is answered comes to the other shard");
        let second = asker.call_id.clone();
        drop(asker.ask(0));
        assert_eq!(asker.call_id, second);
    }

    #[tokio::test]
    async fn a_registrar_that_was_not_asked_as_tenants_have_no_room_has_not_failed() {
        let server = Server::start().await;
        let mut switch = idle(Arc::new(Nobody), 22_404..=22_407);
        switch.dns = server.dns_of_the_operator();
        let switch = Arc::new(switch);
        let (runs, _take) = ShardHandle::by_hand();
        switch.shards.set(Shards::new(vec![runs])).unwrap();
        let trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "t", Vec::new());
        for is_tenants in [true, false] {
            let mut terms = terms();
            if is_tenants {
                terms.named = Named::ByTenant(None);
            }
            let registering = Registering::new(&switch, &trunk, terms, Duration::ZERO);
            let mut registering = registering.expect("a shard");
            registering.apply(&Input::Started);
            let Next::Ask(expires_s) = registering.apply(&Input::DeadlineReached) else {
                panic!("it is due")
            };
            let asked = registering.asker.ask(expires_s).await;
            assert!(matches!(registering.asked(asked), Next::Wait));
            // The name that the operator's has is none: that is a failure.
            let has_failed = matches!(registering.standing, Standing::Failed { .. });
            assert_eq!(has_failed, !is_tenants, "{:?}", registering.standing);
            assert!(registering.core.next_request().is_some());
        }
    }

    #[tokio::test]
    async fn the_names_of_a_tenants_own_trunk_are_looked_up_as_the_tenants() {
        let server = Server::start().await;
        let mut switch = idle(Arc::new(Nobody), 21_408..=21_411);
        switch.dns = server.dns_of_the_operator();
        let switch = Arc::new(switch);
        let (runs, _take) = ShardHandle::by_hand();
        switch.shards.set(Shards::new(vec![runs])).unwrap();
        let mut own = terms();
        own.named = Named::ByTenant(None);
        drop(Asker::new(&switch, own).expect("a shard").targets().await);
        assert_eq!(server.asked(), 0);
        drop(Asker::new(&switch, terms()).expect("a shard").targets().await);
        assert!(server.asked() > 0, "the operator's");
    }

    #[tokio::test]
    async fn a_request_that_a_fault_of_its_shard_cut_off_goes_once_more() {
        let node = Node::start(21_350..=21_353).await;
        let at = node.peer.local_addr().unwrap();
        let mut terms = terms();
        let registrar = format!("sip:{at}");
        terms.registration =
            Arc::new(TrunkRegistration { registrar, ..terms.registration.as_ref().clone() });
        let mut asker = Asker::new(&node.switch, terms).expect("a shard");
        let asking = tokio::spawn(asker.ask(600));
        let first = node.hears("REGISTER", "").await;
        node.strike().await;
        let again = loop {
            let heard = node.hears("REGISTER", "").await;
            // What the first shard said again before its end may still be on its way.
            if field(&heard, "CSeq") != field(&first, "CSeq") {
                break heard;
            }
        };
        assert_eq!(field(&again, "Call-ID"), field(&first, "Call-ID"));
        let number =
            |request: &str| field(request, "CSeq").split(' ').next().map(str::parse::<u32>);
        assert!(number(&again).unwrap().unwrap() > number(&first).unwrap().unwrap(), "{again}");
        node.says(&answer(&again, "200 OK", at)).await;
        let asked = asking.await.expect("it ends");
        assert_eq!(asked.response.map(|response| response.status), Some(200));
    }
}
