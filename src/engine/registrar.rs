//! Registrations of trunks: one task for each trunk that registers, as long as the routing table has it.

pub(crate) mod request;

use crate::clock;
use crate::engine::registrar::request::Asked;
use crate::engine::registrar::request::Asker;
use crate::engine::registry::RegisteredWay;
use crate::engine::registry::RegistrationState;
use crate::engine::registry::SourceGuard;
use crate::engine::switch::Switch;
use crate::engine::way;
use crate::net::dns::Named;
use crate::routing::registration::TrunkRegistration;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkPath;
use crate::sip::endpoint::flow::Flow;
use crate::sip::register::Input;
use crate::sip::register::Output;
use crate::sip::register::Registration;
use crate::sip::register::RegistrationPolicy;
use crate::sip::register::Standing;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// First requests are spread by this much for each trunk that registers, and by no more than
/// [`SPREAD_MAX`] in all.
const SPREAD: Duration = Duration::from_millis(20);
const SPREAD_MAX: Duration = Duration::from_secs(30);
/// How long the removal of all bindings may take at the end.
const REMOVE_MAX: Duration = Duration::from_secs(3);

/// Keeps the trunks of the routing table registered until `draining` turns true, and then takes all
/// bindings away. `changes` tells that the table is another.
pub async fn run(
    switch: Arc<Switch>,
    mut changes: watch::Receiver<()>,
    mut draining: watch::Receiver<bool>,
) {
    let mut registrar = Registrar { switch, running: HashMap::new(), leaving: HashMap::new() };
    loop {
        let table = registrar.switch.table.load_full();
        registrar.follow(&table);
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
            }
        }
    }
    registrar.end().await;
}

/// What a registration is made by; when it changes, a new one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    registration: Arc<TrunkRegistration>,
    path: TrunkPath,
    /// Who says where it registers.
    named: Named,
    listener: u16,
}

struct Running {
    terms: Terms,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Registrar {
    switch: Arc<Switch>,
    running: HashMap<TrunkId, Running>,
    /// Those whose trunk is gone and whose binding is being taken away.
    leaving: HashMap<TrunkId, JoinHandle<()>>,
}

impl Registrar {
    fn terms(&self, trunk: &Arc<Trunk>) -> Option<Terms> {
        let registration = trunk.registration.clone().filter(|_| trunk.enabled)?;
        let hop = registration.next_hop();
        let (transport, at) = (way::transport_of(hop), way::address_of(hop));
        let listener = self.switch.listener_for(Some(trunk), transport, at);
        let named = way::named_by(trunk);
        Some(Terms { registration, path: trunk.path.clone(), named, listener })
    }

    fn follow(&mut self, table: &RoutingTable) {
        self.leaving.retain(|_, task| !task.is_finished());
        let wanted: HashMap<_, _> = table
            .trunks()
            .filter_map(|trunk| Some((trunk.id, (Arc::clone(trunk), self.terms(trunk)?))))
            .collect();
        let changed = |(id, running): (&TrunkId, &Running)| {
            let same = wanted.get(id).is_some_and(|(_, terms)| *terms == running.terms);
            (!same || running.task.is_finished()).then_some(*id)
        };
        let gone: Vec<_> = self.running.iter().filter_map(changed).collect();
        for id in gone {
            if let Some(running) = self.running.remove(&id) {
                running.stop.send_replace(true);
                self.leaving.insert(id, running.task);
            }
        }
        let new: Vec<_> =
            wanted.into_iter().filter(|(id, _)| !self.running.contains_key(id)).collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
        let start_within = SPREAD.saturating_mul(count).min(SPREAD_MAX);
        for (id, (trunk, terms)) in new {
            self.begin(id, &trunk, terms, start_within);
        }
    }

    fn begin(&mut self, id: TrunkId, trunk: &Trunk, terms: Terms, start_within: Duration) {
        let Some(mut task) = Registering::new(&self.switch, trunk, terms.clone(), start_within)
        else {
            return;
        };
        let (stop, stopping) = watch::channel(false);
        let before = self.leaving.remove(&id);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Its removal must not come after our binding.
                drop(before.await);
            }
            task.run(stopping).await;
        });
        self.running.insert(id, Running { terms, stop, task });
    }

    async fn end(self) {
        let ending = self.running.into_values().map(|running| {
            running.stop.send_replace(true);
            running.task
        });
        let tasks: Vec<_> = ending.chain(self.leaving.into_values()).collect();
        let all = async {
            for task in tasks {
                drop(task.await);
            }
        };
        if tokio::time::timeout(REMOVE_MAX, all).await.is_err() {
            tracing::warn!("a registrar did not answer the removal of our binding");
        }
    }
}

/// The request under way.
type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

/// One trunk's registration.
struct Registering {
    switch: Arc<Switch>,
    trunk: TrunkId,
    name: String,
    core: Registration,
    asker: Asker,
    standing: Standing,
    status: Option<u16>,
    /// The flow of the last request that was answered.
    flow: Option<Flow>,
    /// Who registers us may send us requests.
    expected: Option<SourceGuard>,
    lost: Arc<Notify>,
}

impl Registering {
    /// `None` before shards run, and when none does.
    fn new(
        switch: &Arc<Switch>,
        trunk: &Trunk,
        terms: Terms,
        start_within: Duration,
    ) -> Option<Self> {
        let policy = policy(&terms.registration, start_within);
        Some(Self {
            switch: Arc::clone(switch),
            trunk: trunk.id,
            name: trunk.name.clone(),
            core: Registration::new(policy, clock::random_u64()),
            asker: Asker::new(switch, terms)?,
            standing: Standing::Registering,
            status: None,
            flow: None,
            expected: None,
            lost: Arc::new(Notify::new()),
        })
    }

    async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut asking: Option<Asking> = None;
        let mut is_stopping = false;
        let mut next = self.apply(&Input::Started);
        loop {
            match next {
                Next::Ask(expires_s) => asking = Some(Box::pin(self.asker.ask(expires_s))),
                Next::Wait => {}
                Next::End => break,
            }
            let deadline = self.core.deadline();
            next = tokio::select! {
                biased;
                // A sender that is gone means the same.
                _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                    is_stopping = true;
                    if asking.take().is_some() {
                        self.asker.skip();
                    }
                    self.apply(&Input::Stopped)
                }
                asked = asked(asking.as_mut()) => {
                    asking = None;
                    self.asked(asked)
                }
                () = self.lost.notified() => {
                    if self.is_flow_gone() {
                        // What is under way may go by another connection. Its answer would be that to a
                        // request nobody made: the core waits before it asks anew.
                        if asking.take().is_some() {
                            self.asker.skip();
                        }
                        self.apply(&Input::FlowLost)
                    } else {
                        Next::Wait
                    }
                }
                () = sleep_until(deadline) => self.apply(&Input::DeadlineReached),
            };
        }
        self.switch.registry.forget_registration(self.trunk);
    }

    fn asked(&mut self, asked: Asked) -> Next {
        let Asked { is_unasked, response, flow, expected, memory } = asked;
        self.asker.learn(memory, flow);
        let Some(response) = response else {
            return self.apply(if is_unasked { &Input::Unasked } else { &Input::Unanswered });
        };
        self.status = Some(response.status);
        if (200..300).contains(&response.status) {
            self.flow = flow;
            self.expected = expected;
        }
        let next = self.apply(&Input::Answered(&response));
        // A connection that closed before it was noted could not tell us.
        self.check_flow(next)
    }

    /// Whether the connection of the registration is gone since this was asked last.
    fn is_flow_gone(&mut self) -> bool {
        let is_gone = |flow: &mut Flow| {
            flow.transport.is_reliable() && self.switch.flows.why_closed(flow.id).is_some()
        };
        let is_gone = self.flow.take_if(is_gone).is_some();
        if is_gone {
            tracing::info!(trunk = self.name, "the connection of a registration is lost");
        }
        is_gone
    }

    /// What follows instead of `next` when the connection of the registration is gone.
    fn check_flow(&mut self, next: Next) -> Next {
        if !self.is_flow_gone() {
            return next;
        }
        match next {
            Next::Wait => self.apply(&Input::FlowLost),
            Next::Ask(_) | Next::End => next,
        }
    }

    /// Tells the core, notes how things stand, and says what to do.
    fn apply(&mut self, input: &Input<'_>) -> Next {
        let mut out = Vec::new();
        self.core.handle(clock::now(), input, &mut out);
        let mut next = Next::Wait;
        for output in out {
            match output {
                Output::Register { expires_s } => next = Next::Ask(expires_s),
                Output::Changed(standing) => self.change(standing),
                Output::Finished => next = Next::End,
            }
        }
        self.note();
        next
    }

    fn change(&mut self, standing: Standing) {
        let trunk = self.name.as_str();
        let registrar = self.asker.terms().registration.registrar_host().to_owned();
        match &standing {
            Standing::Registered { .. } => {
                if !matches!(self.standing, Standing::Registered { .. }) {
                    tracing::info!(trunk, registrar, "a trunk is registered");
                }
            }
            Standing::Failed { status, retry_at } => {
                let retry_s = retry_at.since(clock::now()).as_secs();
                let status = status.unwrap_or(0);
                tracing::warn!(trunk, registrar, status, retry_s, "a trunk is not registered");
            }
            Standing::Removed => tracing::info!(trunk, registrar, "a trunk registers no more"),
            Standing::Registering => {}
        }
        self.standing = standing;
    }

    fn note(&self) {
        let registration = &self.asker.terms().registration;
        let routes = match &self.standing {
            Standing::Registered { service_route, .. } if registration.use_service_route => {
                service_route.iter().map(|it| it.trim_matches(['<', '>']).to_owned()).collect()
            }
            Standing::Registered { .. }
            | Standing::Registering
            | Standing::Failed { .. }
            | Standing::Removed => Vec::new(),
        };
        let state = RegistrationState {
            registrar: registration.registrar_host().to_owned(),
            standing: self.standing.clone(),
            status: self.status,
            next: self.core.next_request(),
            way: self.flow.map(|flow| RegisteredWay { flow, routes }),
        };
        self.switch.registry.note_registration(self.trunk, state, &self.lost);
    }
}

/// How a trunk registers, for the core; the first request is sent within `start_within`.
pub(crate) fn policy(
    registration: &TrunkRegistration,
    start_within: Duration,
) -> RegistrationPolicy {
    RegistrationPolicy {
        expires: registration.expires,
        refresh_percent: registration.refresh_percent,
        retry: registration.retry.clone(),
        forbidden_retry: registration.forbidden_retry,
        start_within,
        contact_user: registration.contact_user.clone(),
    }
}

/// What a registration does next.
enum Next {
    Ask(u32),
    Wait,
    End,
}

async fn asked(asking: Option<&mut Asking>) -> Asked {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}
