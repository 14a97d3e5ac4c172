//! How an agent is dialled, and what it is told of the call by then.

use crate::agent::asterisk;
use crate::agent::session::AgentCall;
use crate::agent::story::Continuation;
use crate::agent::twilio;
use crate::engine::agent_task::connection::Connection;
use crate::engine::agent_task::connection::Wire;
use crate::engine::awaited::AwaitedAgents;
use crate::net::websocket;
use crate::net::websocket::ConnectError;
use crate::net::websocket::TrustRoots;
use crate::types::agent::Access;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::RealtimeAgent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use std::future::Future;
use std::pin::Pin;
use tracing::Instrument;

/// Tells an agent in which trace its call is (W3C Trace Context §3.2).
const TRACE_HEADER: &str = "traceparent";

/// Tells an agent that the call was led before: by a connection of it that broke, or by another agent.
const RESUMED_HEADER: &str = "x-tandem-resumed";

/// Says who we are (RFC 6750 §2.1, RFC 7617 §2).
const AUTHORIZATION: &str = "authorization";

/// What we would speak (RFC 6455 §11.3.4).
const SUBPROTOCOL_HEADER: &str = "sec-websocket-protocol";
/// How the agent is dialled.
pub(in crate::engine::agent_task) enum Dialling {
    /// It is not.
    Never,
    /// Over a WebSocket.
    WebSocket {
        url: String,
        headers: Vec<(&'static str, String)>,
        access: Access,
        roots: TrustRoots,
    },
    /// Over TCP, at this host and port.
    Tcp(String, TrustRoots),
    /// It dials us.
    Awaited(AwaitedAgents),
}

impl Dialling {
    pub(in crate::engine::agent_task) fn new(
        settings: &AgentSettings,
        call: &AgentCall,
        (roots, awaited): (TrustRoots, AwaitedAgents),
    ) -> Self {
        let (url, access, own) = match &settings.kind {
            AgentKind::Twilio(agent) => {
                let signature = twilio::signature(&agent.auth_token, &agent.url);
                let signed = signature.map(|value| (twilio::SIGNATURE_HEADER, value));
                (agent.url.clone(), &agent.access, signed)
            }
            AgentKind::ChanWebsocket(agent) => {
                let Some(url) = &agent.url else { return Self::Awaited(awaited) };
                let protocol = asterisk::SUBPROTOCOL.to_owned();
                (url.clone(), &agent.access, Some((SUBPROTOCOL_HEADER, protocol)))
            }
            AgentKind::AudioSocket(agent) => return Self::Tcp(agent.address.clone(), roots),
            AgentKind::Realtime(agent) => {
                let mut headers = realtime_headers(agent);
                headers.extend(resumed_header(call));
                headers.extend(trace_header(call));
                return Self::WebSocket {
                    url: agent.url.clone(),
                    headers,
                    access: agent.access.clone(),
                    roots,
                };
            }
            AgentKind::Echo
            | AgentKind::Tone { .. }
            | AgentKind::Announce
            | AgentKind::Parrot
            | AgentKind::Sip(_)
            | AgentKind::Forward(_)
            | AgentKind::Script(_)
            | AgentKind::Twiml(_) => return Self::Never,
        };
        let mut headers = Vec::new();
        headers.extend(resumed_header(call));
        headers.extend(own);
        headers.extend(trace_header(call));
        headers.extend(authorization(access));
        Self::WebSocket { url, headers, access: access.clone(), roots }
    }

    /// A connection to come, and the id under which the agent is awaited where it dials us.
    /// `again`: in a call in which its connection broke.
    pub(in crate::engine::agent_task) fn dial(&self, again: bool) -> (Dial, Option<String>) {
        match self {
            Self::Never => (Box::pin(async { Err(ConnectError::Url) }), None),
            Self::WebSocket { url, headers, access, roots } => {
                let (url, mut headers) = (url.clone(), headers.clone());
                if again {
                    headers.retain(|(name, _)| *name != RESUMED_HEADER);
                    headers.push((RESUMED_HEADER, Continuation::Reconnected.as_str().to_owned()));
                }
                let (identity, roots) = (access.identity.clone(), roots.clone());
                let dial = async move {
                    let terms = (&roots, identity.as_ref());
                    let dialled = websocket::connect(&url, &headers, terms).await?;
                    Ok(Connection::new(Wire::from(dialled)))
                };
                (Box::pin(dial.in_current_span()), None)
            }
            Self::Tcp(address, roots) => {
                let (address, roots) = (address.clone(), roots.clone());
                let dial = async move {
                    let stream = websocket::connect_tcp(&address, &roots).await?;
                    Ok(Connection::new(Wire::Tcp(stream, BytesMut::new(), BytesMut::new())))
                };
                (Box::pin(dial.in_current_span()), None)
            }
            Self::Awaited(agents) => {
                let awaited = agents.wait();
                let id = awaited.id().to_owned();
                let dial = async move {
                    let came = awaited.came().await.ok_or(ConnectError::Url)?;
                    Ok(Connection::new(Wire::Came(Box::new(came))))
                };
                (Box::pin(dial.in_current_span()), Some(id))
            }
        }
    }
}

/// Says that an agent takes over in a call that another led.
fn resumed_header(call: &AgentCall) -> Option<(&'static str, String)> {
    call.before.as_ref().map(|_| (RESUMED_HEADER, Continuation::TookOver.as_str().to_owned()))
}

/// Says who we are to an agent that wants to know.
fn authorization(access: &Access) -> Option<(&'static str, String)> {
    let bearer = access.bearer.expose();
    if !bearer.is_empty() {
        return Some((AUTHORIZATION, format!("Bearer {bearer}")));
    }
    let account = access.basic.as_ref()?;
    let pair = format!("{}:{}", account.username, account.password.expose());
    Some((AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair))))
}

/// Says in which trace the call is.
fn trace_header(call: &AgentCall) -> Option<(&'static str, String)> {
    call.trace.map(|trace| (TRACE_HEADER, trace.to_string()))
}

/// A server's key, and its generation where it is not the present one.
fn realtime_headers(agent: &RealtimeAgent) -> Vec<(&'static str, String)> {
    let key = agent.api_key.expose();
    let mut headers = Vec::new();
    if !key.is_empty() {
        headers.push(if agent.is_bearer {
            (AUTHORIZATION, format!("Bearer {key}"))
        } else {
            ("api-key", key.clone())
        });
    }
    if agent.is_beta {
        headers.push(("openai-beta", "realtime=v1".to_owned()));
    }
    headers
}

pub(in crate::engine::agent_task) type Dial =
    Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::agent::AgentAudio;
    use crate::types::agent::AnswerPolicy;
    use crate::types::agent::TwilioAgent;
    use crate::types::barge_in::BargeIn;
    use crate::types::fault_policy::FaultPolicy;
    use crate::types::header::CallVariables;
    use crate::types::id::CallId;
    use crate::types::id::TenantId;
    use crate::types::secret::Secret;
    use crate::types::trace_context::TraceContext;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn every_agent_behind_a_web_socket_is_told_in_which_trace_its_call_is() {
        let trace = TraceContext { trace: 10, span: 11, is_sampled: true };
        let call = AgentCall {
            call_id: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            caller: String::new(),
            dialled: "+15550100".parse().unwrap(),
            variables: CallVariables::default(),
            trace: Some(trace),
            before: None,
        };
        let (url, connect_timeout) = ("wss://bot.example/".to_owned(), Duration::from_secs(5));
        let twilio = AgentKind::Twilio(TwilioAgent {
            url: url.clone(),
            auth_token: Secret::default(),
            parameters: Vec::new(),
            access: Access::default(),
            connect_timeout,
        });
        let realtime = AgentKind::Realtime(Box::new(RealtimeAgent {
            url,
            access: Access::default(),
            api_key: Secret::default(),
            is_bearer: true,
            is_beta: false,
            audio: AgentAudio::Ulaw,
            instructions: String::new(),
            voice: None,
            greets: false,
            transcription_model: None,
            turn_detection: None,
            tools: Vec::new(),
            transfer_to: Vec::new(),
            connect_timeout,
        }));
        for kind in [twilio, realtime] {
            let settings = AgentSettings {
                kind: kind.clone(),
                answer: AnswerPolicy::Immediate,
                barge_in: BargeIn::OFF,
                hangup_after: None,
                reinvite_after: None,
                faults: FaultPolicy::USUAL,
                hold_music: None,
            };
            let places = (TrustRoots::native(), AwaitedAgents::default());
            let Dialling::WebSocket { headers, .. } = Dialling::new(&settings, &call, places)
            else {
                panic!("{kind:?} is not dialled")
            };
            assert!(headers.contains(&(TRACE_HEADER, trace.to_string())), "{kind:?}: {headers:?}");
        }
    }
}
