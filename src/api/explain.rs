//! What would happen to a call, step by step, without a call.

use crate::api::Context;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::wish::Sent;
use crate::clock;
use crate::routing::decision::Decision;
use crate::routing::decision::Step;
use crate::routing::explain::Question;
use crate::routing::explain::explain;
use crate::routing::explain::explain_outbound;
use crate::routing::inbound::Verdict;
use crate::routing::outbound::OutboundRequest;
use crate::routing::table::RoutingTable;
use crate::store::resource::Fault;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::name::ListenerName;
use crate::types::number::E164;
use crate::types::random::Random;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// The listener of a call where the node has none; trunks mostly take any.
const LISTENER: &str = "public";
/// Longest text of a question, and most headers.
const TEXT_MAX: usize = 512;
const HEADERS_MAX: usize = 32;

/// A call that is only thought of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    direction: Direction,
    from: Option<String>,
    to: String,
    /// Of a call in: the address it would come from, how, where, and with what.
    source: Option<String>,
    transport: Option<String>,
    listener: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    /// Of a call out: the trunk by id or name, and whether the caller is withheld.
    trunk: Option<String>,
    anonymous: Option<bool>,
    /// Of a call out: the campaign it would be for.
    campaign_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Inbound,
    Outbound,
}

/// What would become of it.
#[derive(Debug, Serialize)]
pub(super) struct ExplanationView {
    /// Whether it would be carried.
    accepted: bool,
    /// Why it would not.
    cause: Option<&'static str>,
    /// The SIP status it would be answered with; null: it would not be answered.
    sip_status: Option<u16>,
    tenant_id: Option<String>,
    trunk_id: Option<String>,
    number_id: Option<String>,
    ai_profile_id: Option<String>,
    decision: Vec<StepView>,
}

#[derive(Debug, Serialize)]
struct StepView {
    what: &'static str,
    detail: String,
}

type Answer = Result<Json<ExplanationView>, ApiError>;

pub(super) async fn explain_call(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Answer {
    let id = &caller.request_id;
    let refused = |fault| error::fault(fault, id);
    let wish: Wish = sent.wish(id)?;
    wish.check().map_err(refused)?;
    let table = context.trunks.table();
    let view = match wish.direction {
        Direction::Inbound => {
            let question = wish.question(&context).map_err(refused)?;
            let (verdict, decision) = explain(&table, &question);
            let view = ExplanationView::inbound(&verdict, &decision);
            // What is another's, or nobody's, a tenant is not told.
            let own = caller.tenant.filter(|_| !caller.is_platform());
            let is_told = own.is_none_or(|own| view.tenant_id == Some(own.to_string()));
            if is_told { view } else { ExplanationView::of_nobody(&question) }
        }
        Direction::Outbound => {
            let request = wish.request(&table, caller.tenant).map_err(refused)?;
            ExplanationView::outbound(&table, request)
        }
    };
    Ok(Json(view))
}

impl Wish {
    fn check(&self) -> Result<(), Fault> {
        let headers = self.headers.iter().flatten().flat_map(|(name, value)| [name, value]);
        let texts = [
            &self.from,
            &self.source,
            &self.transport,
            &self.listener,
            &self.trunk,
            &self.campaign_id,
        ];
        let mut all = texts.into_iter().flatten().chain([&self.to]).chain(headers);
        if all.any(|text| text.len() > TEXT_MAX) {
            return Err(Fault::invalid("", format!("a text has at most {TEXT_MAX} characters")));
        }
        if self.headers.as_ref().is_some_and(|headers| headers.len() > HEADERS_MAX) {
            return Err(Fault::invalid("headers", format!("there are at most {HEADERS_MAX}")));
        }
        let is_in = self.direction == Direction::Inbound;
        for (name, given, fits) in [
            ("source", self.source.is_some(), is_in),
            ("transport", self.transport.is_some(), is_in),
            ("listener", self.listener.is_some(), is_in),
            ("headers", self.headers.is_some(), is_in),
            ("trunk", self.trunk.is_some(), !is_in),
            ("anonymous", self.anonymous.is_some(), !is_in),
            ("campaign_id", self.campaign_id.is_some(), !is_in),
        ] {
            if given && !fits {
                let way = if is_in { "outbound" } else { "inbound" };
                return Err(Fault::invalid(name, format!("only {way} calls have one")));
            }
        }
        Ok(())
    }

    fn question(self, context: &Context) -> Result<Question, Fault> {
        let source = self.source.as_deref().and_then(|text| text.parse().ok());
        let source = source
            .ok_or_else(|| Fault::invalid("source", "it is the address a call would come from"))?;
        let transport = self.transport.as_deref().unwrap_or("udp").parse();
        let transport =
            transport.map_err(|_| Fault::invalid("transport", "it is udp, tcp or tls"))?;
        let listener = match &self.listener {
            Some(name) => listener_named(context, name)?,
            None => first_listener(context)?,
        };
        let headers = self.headers.unwrap_or_default().into_iter().collect();
        let from = self.from.unwrap_or_default();
        Ok(Question { listener, transport, source, from, to: self.to, headers })
    }

    /// The tenant is that of the path, or whose number calls.
    fn request(
        self,
        table: &RoutingTable,
        tenant: Option<TenantId>,
    ) -> Result<OutboundRequest, Fault> {
        let number = |name: &str| format!("`{name}` is a number in the international form");
        let from = self.from.as_deref().map(str::parse::<E164>).transpose();
        let from = from.map_err(|_| Fault::invalid("from", number("from")))?;
        let owner = || Some(table.number(from?)?.tenant);
        let tenant = tenant.or_else(owner).ok_or_else(|| {
            Fault::invalid("from", "it is no number of a tenant: ask under the tenant's own path")
        })?;
        let to = self.to.parse().map_err(|_| Fault::invalid("to", number("to")))?;
        let mut request = OutboundRequest::new(tenant, to);
        (request.from, request.anonymous) = (from, self.anonymous.unwrap_or_default());
        let campaign = self.campaign_id.as_deref().map(str::parse).transpose();
        request.campaign =
            campaign.map_err(|_| Fault::invalid("campaign_id", "it is the id of a campaign"))?;
        // As `POST .../calls` would: by its numbers and in its window.
        request.is_placed = true;
        if let Some(text) = &self.trunk {
            let missing = || Fault::invalid("trunk", "the tenant has no such trunk");
            request.trunk = Some(table.trunk_named(tenant, text).ok_or_else(missing)?.id);
        }
        Ok(request)
    }
}

fn listener_named(context: &Context, name: &str) -> Result<ListenerName, Fault> {
    let missing = || Fault::invalid("listener", "there is no such listener");
    let name: ListenerName = name.parse().map_err(|_| missing())?;
    let Some(control) = &context.calls else { return Ok(name) };
    let is_there = control.listeners().any(|own| *own == name);
    if is_there { Ok(name) } else { Err(missing()) }
}

fn first_listener(context: &Context) -> Result<ListenerName, Fault> {
    let first = context.calls.as_ref().and_then(|control| control.listeners().next().cloned());
    let public = || LISTENER.parse().map_err(|_| Fault::invalid("listener", "give one"));
    first.map_or_else(public, Ok)
}

impl ExplanationView {
    fn new(accepted: bool, decision: &Decision) -> Self {
        let step = |step: &Step| StepView { what: step.what, detail: step.detail.clone() };
        Self {
            accepted,
            cause: None,
            sip_status: None,
            tenant_id: None,
            trunk_id: None,
            number_id: None,
            ai_profile_id: None,
            decision: decision.steps().iter().map(step).collect(),
        }
    }

    fn inbound(verdict: &Verdict, decision: &Decision) -> Self {
        let mut view = Self::new(matches!(verdict, Verdict::Route(_)), decision);
        match verdict {
            Verdict::Route(route) => {
                view.tenant_id = Some(route.tenant.id.to_string());
                view.trunk_id = Some(route.trunk.id.to_string());
                view.number_id = Some(route.number.id.to_string());
                view.ai_profile_id = Some(route.profile.id.to_string());
            }
            Verdict::Refuse(refusal) => {
                view.cause = Some(refusal.cause.code());
                view.sip_status = Some(refusal.status);
                view.tenant_id = refusal.tenant.as_ref().map(|tenant| tenant.id.to_string());
                view.trunk_id = Some(refusal.trunk.id.to_string());
                view.number_id = refusal.number.as_ref().map(|number| number.id.to_string());
            }
            // `explain` takes credentials as given, so that nothing is challenged.
            Verdict::Challenge(trunk) => {
                let cause = HangupCause::CredentialsRequired;
                view.cause = Some(cause.code());
                view.sip_status = Some(cause.sip_status());
                view.trunk_id = Some(trunk.id.to_string());
            }
            Verdict::Unknown => view.cause = Some(HangupCause::UnknownSource.code()),
        }
        view
    }

    /// A call that would not come to the tenant that asks.
    fn of_nobody(question: &Question) -> Self {
        let mut decision = Decision::new();
        let Question { source, transport, listener, .. } = question;
        decision.note("source", format!("{source} over {transport} at listener {listener}"));
        decision.note("tenant", "the call would not come to this tenant; the platform may see why");
        Self::new(false, &decision)
    }

    fn outbound(table: &RoutingTable, request: OutboundRequest) -> Self {
        let tenant = Some(request.tenant.to_string());
        let mut random = Random::from_seed(clock::random_u64());
        let planned = explain_outbound(table, clock::wall_now(), request, &mut random);
        let mut view = match planned {
            Ok(plan) => {
                let mut view = Self::new(true, &plan.decision);
                view.trunk_id = plan.tries.first().map(|first| first.trunk.id.to_string());
                view.number_id = plan.number.as_ref().map(|number| number.id.to_string());
                view
            }
            Err(refusal) => {
                let mut view = Self::new(false, &refusal.decision);
                view.cause = Some(refusal.cause.code());
                view.trunk_id = refusal.trunk.as_ref().map(|trunk| trunk.id.to_string());
                view
            }
        };
        view.tenant_id = tenant;
        view
    }
}
