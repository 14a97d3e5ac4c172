//! The script that leads a call: what it is told and what it asks for.

use crate::agent::script::answers::CallFacts;
use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::DialStatus;
use crate::agent::script::step::Dial;
use crate::agent::script::step::DialTo;
use crate::agent::script::step::Method;
use crate::agent::script::step::Next;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Replacement;
use crate::agent::script::vocabulary::Script;
use crate::agent::twiml;
use crate::audio::link::AgentEnd;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::event::CallDirection;
use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::Input;
use crate::call::record::RecordOrder;
use crate::call::steer::Order;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;
use crate::clock;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentEvent;
use crate::engine::call_task::Task;
use crate::engine::call_task::status::StatusCallback;
use crate::engine::call_task::voice::Speaker;
use crate::engine::mailbox;
use crate::engine::partner;
use crate::engine::script_task;
use crate::engine::script_task::DialNews;
use crate::engine::script_task::RecordNews;
use crate::engine::script_task::ScriptEvent;
use crate::engine::script_task::ScriptHandle;
use crate::engine::script_task::ScriptSetup;
use crate::engine::script_task::web::Web;
use crate::recording::recorder::Outcome;
use crate::types::agent::AgentKind;
use crate::types::agent::TwimlAgent;
use crate::types::agent::TwimlSource;
use crate::types::agent::WebAddress;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::AiProfileId;
use crate::types::id::RecordingId;
use crate::types::moment::Moment;
use crate::types::number::E164;
use crate::types::script::ProfileScript;
use crate::types::secret::Secret;
use std::sync::Arc;
use std::time::Duration;

/// How long web servers may take that no profile names.
const WEB_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a script comes from.
pub(super) enum ScriptPlan {
    /// A web server.
    Web(Box<TwimlAgent>),
    /// The profile.
    Local(Box<ProfileScript>),
}

impl ScriptPlan {
    /// That of an agent; `None`: no script leads its calls.
    pub(super) fn of(kind: &AgentKind) -> Option<Self> {
        match kind {
            AgentKind::Twiml(agent) => Some(Self::Web(agent.clone())),
            AgentKind::Script(script) => Some(Self::Local(script.clone())),
            _ => None,
        }
    }
}

/// What a script has under way in its call.
#[derive(Default)]
pub(super) struct ScriptState {
    /// When whom it dialled answered.
    dial_answered: Option<Moment>,
    /// The recording it waits for.
    recording: Option<ScriptRecording>,
}

#[derive(Clone, Copy)]
struct ScriptRecording {
    id: RecordingId,
    begun: Moment,
    /// It was begun for the script; else the call is recorded anyway.
    is_own: bool,
}

impl Task {
    pub(super) fn start_script(
        &self,
        plan: ScriptPlan,
        call: AgentCall,
        end: AgentEnd,
        events: mailbox::Sender<ScriptEvent>,
    ) -> ScriptHandle {
        let facts = self.facts();
        let after_answer = facts.is_outbound;
        let (beginning, local, web) = match plan {
            ScriptPlan::Web(agent) => {
                let fallback = agent.fallback.as_ref().map(next);
                let first = first(&agent.source);
                (Beginning { first, fallback, after_answer }, None, self.web_of(&agent))
            }
            ScriptPlan::Local(script) => {
                let first = Replacement::Next(Next::Part(0));
                let web = Web {
                    http: self.switch.http.clone(),
                    auth_token: Secret::default(),
                    timeout: WEB_TIMEOUT,
                    trace: self.trace_context(),
                };
                (Beginning { first, fallback: None, after_answer }, Some(script), web)
            }
        };
        let (tenant, base) = (self.route.tenant.id, &self.switch.public_url);
        let recordings = format!("{base}/api/v1/tenants/{tenant}/calls/{}/recordings/", self.id());
        let setup = ScriptSetup {
            beginning,
            local,
            web,
            assets: self.switch.assets.clone(),
            speech: self.switch.speech.clone(),
            roots: self.switch.roots.clone(),
            health: self.switch.registry.agent_health(),
            call,
            facts,
            is_answered: self.call.is_answered(),
            recordings,
            faults: self.route.profile.agent.faults,
            end,
        };
        script_task::start(setup, events)
    }

    /// Who is told how the call gets on, if anybody.
    pub(super) fn status_callback(&self) -> Option<Box<StatusCallback>> {
        let AgentKind::Twiml(agent) = &self.route.profile.agent.kind else { return None };
        let Next::Url { address, method } = next(agent.status.as_ref()?) else { return None };
        let to = (address, method);
        Some(Box::new(StatusCallback::start(self.web_of(agent), to, self.facts())))
    }

    fn web_of(&self, agent: &TwimlAgent) -> Web {
        Web {
            http: self.switch.http.clone(),
            auth_token: agent.auth_token.clone(),
            timeout: agent.timeout,
            trace: self.trace_context(),
        }
    }

    /// What web servers are told of the call.
    fn facts(&self) -> CallFacts {
        let passing = self.route.passing.as_deref();
        let headers = passing.map(|passing| passing.headers()).unwrap_or_default();
        let text = |(name, value): &(FieldName, FieldValue)| {
            (name.as_str().to_owned(), value.as_str().to_owned())
        };
        CallFacts {
            call: self.id(),
            tenant: self.route.tenant.id,
            from: self.route.caller.clone(),
            to: self.route.dialled.to_string(),
            is_outbound: self.log.record().direction == CallDirection::Outbound,
            forwarded_from: passing
                .and_then(|passing| passing.diversion.as_ref())
                .and_then(|diversion| diverting_number(diversion.as_str())),
            headers: headers.iter().map(text).collect(),
        }
    }

    fn script(&self) -> Option<&ScriptHandle> {
        match &self.voice.as_ref()?.speaker {
            Speaker::Script(handle) => Some(handle),
            Speaker::Agent(_) => None,
        }
    }

    pub(super) async fn script_event(&mut self, event: ScriptEvent) -> Option<Input> {
        match event {
            ScriptEvent::Ready => Some(Input::Agent(AgentInput::Ready)),
            ScriptEvent::Failed(cause) => Some(Input::Agent(AgentInput::Failed(cause))),
            ScriptEvent::Lost(cause) => Some(Input::Agent(AgentInput::Lost(cause))),
            ScriptEvent::HangUp => Some(Input::Agent(AgentInput::HungUp)),
            ScriptEvent::Rejected(cause) => {
                // Who was answered cannot be refused any more.
                let cause = if self.call.is_answered() { HangupCause::Normal } else { cause };
                Some(Input::HangupRequested { cause, by: Party::Agent })
            }
            ScriptEvent::Dial(dial) => self.dial_for_script(*dial),
            ScriptEvent::EndDial => Some(Input::TransferWithdrawn),
            ScriptEvent::BeginRecording => {
                self.begin_script_recording().await;
                None
            }
            ScriptEvent::EndRecording => {
                self.end_script_recording().await;
                None
            }
            ScriptEvent::Keys(keys) => {
                self.send_keys_for_agent(&keys).await;
                None
            }
            ScriptEvent::Attach(profile) => self.attach_for_script(profile).await,
            ScriptEvent::Noted(note) => {
                let (what, mut detail) = (note.what.as_str(), note.detail);
                if note.what == NoteKind::StreamFailed
                    && let Some(why) = self.stream_fault(&detail)
                {
                    detail = format!("{detail} ({why})");
                }
                self.note(CallEvent::ScriptNoted { what, detail });
                None
            }
            ScriptEvent::Agent(AgentEvent::TransferRequested(to)) => self.transfer_for_agent(&to),
            ScriptEvent::Agent(AgentEvent::DigitsRequested(keys)) => {
                self.send_keys_for_agent(&keys).await;
                None
            }
            ScriptEvent::Agent(AgentEvent::Failed(cause, why) | AgentEvent::Lost(cause, why)) => {
                self.keep_fault(cause, why);
                None
            }
            ScriptEvent::Agent(AgentEvent::Notes(counters)) => {
                self.note_link(&counters);
                None
            }
            ScriptEvent::Agent(AgentEvent::Interrupted(cause, why)) => {
                self.keep_fault(cause, why);
                Some(Input::Agent(AgentInput::Interrupted(cause)))
            }
            ScriptEvent::Agent(AgentEvent::Missed) => Some(Input::Agent(AgentInput::Missed)),
            ScriptEvent::Agent(AgentEvent::Resumed) => Some(Input::Agent(AgentInput::Resumed)),
            // The rest was of the connection, and is done with.
            ScriptEvent::Agent(_) => None,
        }
    }

    fn dial_for_script(&mut self, dial: Dial) -> Option<Input> {
        let from = dial.caller_id;
        let mut requests = dial.to.into_iter().map(|to| request_to(to, from, dial.timeout));
        let mut request = requests.next()?;
        request.beside = requests.map(|request| request.target).collect();
        let input = Input::TransferRequested(TransferRequest::Dial(Box::new(request)));
        self.script_state.dial_answered = None;
        match self.call.check_transfer(&input) {
            Ok(()) => Some(input),
            Err(why) => {
                let detail = format!("not dialled: {}", why.text());
                self.note(CallEvent::ScriptNoted { what: "remark", detail });
                self.dial_ended(DialStatus::Failed);
                None
            }
        }
    }

    /// The call tells how it goes with whom the script dialled.
    pub(super) fn tell_script(&mut self, news: TransferNews) {
        match news {
            TransferNews::Answered => {
                self.script_state.dial_answered = Some(clock::now());
                if let Some(script) = self.script() {
                    script.dialled(DialNews::Answered);
                }
            }
            TransferNews::Ended => self.dial_ended(DialStatus::Completed),
            TransferNews::Failed(cause) => {
                self.dial_ended(match cause {
                    HangupCause::Busy | HangupCause::Rejected => DialStatus::Busy,
                    HangupCause::NoAnswer => DialStatus::NoAnswer,
                    _ => DialStatus::Failed,
                });
            }
            TransferNews::Withdrawn => self.dial_ended(DialStatus::Canceled),
            TransferNews::Begun | TransferNews::Consulting | TransferNews::Completed => (),
        }
    }

    fn dial_ended(&mut self, status: DialStatus) {
        let answered = self.script_state.dial_answered.take();
        let duration = answered.map_or(Duration::ZERO, |at| clock::now().since(at));
        if let Some(script) = self.script() {
            script.dialled(DialNews::Ended(DialAnswer { status, duration }));
        }
    }

    async fn begin_script_recording(&mut self) {
        let begun = clock::now();
        let running = self.call.recording().id();
        let (id, is_own) = match running {
            Some(id) => (id, false),
            None => (clock::new_recording_id(), true),
        };
        self.script_state.recording = Some(ScriptRecording { id, begun, is_own });
        if is_own && let Err(why) = self.order(Order::Record(RecordOrder::Start(id))).await {
            self.script_state.recording = None;
            let detail = format!("not recorded: {}", why.text());
            self.note(CallEvent::ScriptNoted { what: "record_failed", detail });
            return self.tell_recording(RecordNews::Failed);
        }
        // It may have failed at once, which was told by then.
        if self.script_state.recording.is_some() {
            self.tell_recording(RecordNews::Begun(id));
        }
    }

    async fn end_script_recording(&mut self) {
        let Some(recording) = self.script_state.recording else { return };
        if recording.is_own {
            // Its outcome follows once it is written.
            if self.order(Order::Record(RecordOrder::Stop)).await.is_err() {
                tracing::debug!("a recording of a script had ended before");
            }
        } else {
            self.script_state.recording = None;
            let length = clock::now().since(recording.begun);
            self.tell_recording(RecordNews::Ready(recording.id, length));
        }
    }

    /// A recording ended, which may be the one the script waits for.
    pub(super) fn tell_script_recorded(&mut self, id: RecordingId, outcome: &Outcome) {
        if self.script_state.recording.take_if(|own| own.id == id).is_none() {
            return;
        }
        self.tell_recording(match outcome {
            Outcome::Ready { duration_ms } => {
                RecordNews::Ready(id, Duration::from_millis(*duration_ms))
            }
            Outcome::Failed(_) => RecordNews::Failed,
        });
    }

    fn tell_recording(&self, news: RecordNews) {
        if let Some(script) = self.script() {
            script.recorded(news);
        }
    }

    /// The agent of another profile takes over: by the link, or by telephone.
    async fn attach_for_script(&mut self, profile: AiProfileId) -> Option<Input> {
        let table = self.switch.table.load_full();
        let own = table.ai_profile(profile).filter(|own| own.tenant == self.route.tenant.id);
        let done = match own {
            Some(profile) => {
                self.attach_profile(Arc::clone(profile), false).await.map_err(|why| why.text())
            }
            None => Err("the tenant has no such profile"),
        };
        let why = done.err()?;
        let detail = format!("not attached: {why}");
        self.note(CallEvent::ScriptNoted { what: "remark", detail });
        Some(Input::Agent(AgentInput::Lost(HangupCause::AgentUnreachable)))
    }

    /// Another script takes over at once: from the one that leads the call, or from its agent.
    pub(super) fn replace_script(&self, source: &TwimlSource) -> bool {
        self.script().is_some_and(|script| script.replace(first(source)))
    }
}

/// A leg to one of those whom a script dials.
fn request_to(to: DialTo, caller_id: Option<E164>, ring_max: Duration) -> DialRequest {
    let mut request = match to {
        DialTo::Number(to) => partner::transferred_to(to, ring_max),
        DialTo::Peer(uri, own) => {
            let mut request = partner::to_peer(uri, ring_max);
            if let DialTarget::Uri { credentials, .. } = &mut request.target {
                *credentials = own;
            }
            request
        }
    };
    if let DialTarget::Number { from, .. } = &mut request.target {
        *from = caller_id;
    }
    request
}

/// The script that a source names. A document that came with the call was read before.
fn first(source: &TwimlSource) -> Replacement {
    match source {
        TwimlSource::Web(address) => Replacement::Next(next(address)),
        TwimlSource::Document(text) => {
            let document = twiml::parse(text.as_bytes()).unwrap_or_default();
            let remarks = document.remarks.iter().map(ToString::to_string).collect();
            let address = String::new();
            Replacement::Script(Box::new(Script { steps: document.steps, remarks, address }))
        }
    }
}

fn next(address: &WebAddress) -> Next {
    let method = if address.by_get { Method::Get } else { Method::Post };
    Next::Url { address: address.url.clone(), method }
}

/// The number of the first entry of a Diversion header (RFC 5806).
fn diverting_number(diversion: &str) -> Option<String> {
    let (_, rest) = diversion.split_once(':')?;
    let user: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '+').collect();
    (!user.is_empty()).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_passed_a_call_on_is_read_out_of_its_diversion() {
        for (diversion, expected) in [
            ("<sip:+15550101@carrier.example>;reason=unconditional", Some("+15550101")),
            ("\"Desk\" <tel:+15550101>", Some("+15550101")),
            ("<sip:anonymous@anonymous.invalid>", None),
            ("nonsense", None),
        ] {
            assert_eq!(diverting_number(diversion).as_deref(), expected, "{diversion}");
        }
    }
}
