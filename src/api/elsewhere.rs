//! Commands to calls that run at another node: asked of it through the database, and answered as if the call ran here.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::CALL_PATH;
use crate::api::auth::Caller;
use crate::api::call_notes;
use crate::api::calls;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource;
use crate::api::route;
use crate::api::route::Route;
use crate::api::twilio;
use crate::clock;
use crate::store::call_commands;
use crate::store::call_commands::CallCommand;
use crate::store::call_commands::CommandAnswer;
use crate::store::call_commands::Progress;
use crate::store::call_commands::TakenCommand;
use crate::store::database::Database;
use crate::store::database::within;
use crate::store::resource::Members;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::CALL_COMMANDS_MAX;
use crate::types::limit::HTTP_BODY_BYTES_MAX;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use axum::Json;
use axum::Router;
use axum::body;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use uuid::Uuid;

/// How long the database may take for one word.
const WORD_MAX: Duration = Duration::from_secs(2);
/// How long another node may take to say that it has the call.
const TAKEN_MAX: Duration = Duration::from_secs(1);
/// From when on, since this was asked, no answer is waited for: with what the gate and the last word may take it is less
/// than a request has ([`API_ANSWER_S_MAX`](crate::types::limit::API_ANSWER_S_MAX)), so that it is said that nobody
/// knows what became of it.
const ANSWERED_MAX: Duration = Duration::from_millis(5_500);
/// How soon is looked first, and how often later.
const FIRST: Duration = Duration::from_millis(20);
const PERIOD: Duration = Duration::from_millis(160);
/// Longest answer: a call with all that happened to it.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Turns that were heard or said: a running call tells of them, and any node stores those of one that is over.
const TURNS: &str = "/transcript";

/// What a running call is told to do. Tokens open calls of their own node.
const COMMANDS: [&str; 18] = [
    "/hangup",
    "/hold",
    "/resume",
    "/transfer",
    "/play",
    "/play/stop",
    "/dtmf",
    "/mute",
    "/unmute",
    "/attach",
    "/record/start",
    "/record/stop",
    "/record/pause",
    "/record/resume",
    "/supervise",
    "/supervise/mode",
    "/supervise/stop",
    TURNS,
];

/// Whether a route tells a running call what to do: then it is done where the call runs.
pub(super) fn is_command(route: &Route) -> bool {
    let below = route.path.strip_prefix(CALL_PATH);
    let is_one = |below| COMMANDS.contains(&below);
    route.method == "POST" && (below.is_some_and(is_one) || route.path == twilio::CALL_PATH)
}

/// The routes of commands without their gates: for what a node was asked whose gate let it pass.
fn commands() -> Router<Context> {
    route::all()
        .filter(|route| is_command(route))
        .fold(Router::new(), |router, route| router.route(route.served_at(), (route.handler)()))
        .route(&format!("{CALL_PATH}{SHOWN}"), post(calls::show))
        .route(&format!("{CALL_PATH}{VARIABLES}"), post(call_notes::hear))
}

/// What nodes ask each other and nobody else them: how a call stands, and that its variables changed.
const SHOWN: &str = "/shown";
const VARIABLES: &str = "/variables";

/// A call that runs at another node, as that shows it; `None`: none says that it has it.
pub(super) async fn shown(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
) -> Option<Response> {
    let begun = clock::now();
    if is_here(context, key) || context.turns.is_silent(key.1, begun) {
        return None;
    }
    if !may_run(context, &caller.request_id, key).await.unwrap_or_default() {
        return None;
    }
    let _turn = context.turns.look()?;
    let asked = ask_beside(context, caller, key, (SHOWN, Vec::new()), begun).await;
    let Some(answer) = asked.ok()? else {
        context.turns.note_silent(key.1, clock::now());
        return None;
    };
    if answer.status != StatusCode::OK.as_u16() {
        return None;
    }
    let members: Members = serde_json::from_slice(&answer.body).ok()?;
    let tag = members.get("etag").and_then(Value::as_str).map(str::to_owned);
    Some(resource::tagged(StatusCode::OK, tag.as_deref(), Json(members)))
}

/// Tells a call that runs at another node how its variables changed, which the record has by then.
///
/// # Errors
///
/// When it is not told, as far as is known.
pub(super) async fn change_variables(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
    change: &Members,
) -> Result<(), ApiError> {
    let (begun, id) = (clock::now(), &caller.request_id);
    if is_here(context, key) || matches!(may_run(context, id, key).await, Ok(false)) {
        return Ok(());
    }
    let body = serde_json::to_vec(change).unwrap_or_default();
    let asked = match context.turns.ask() {
        Some(_turn) => ask_beside(context, caller, key, (VARIABLES, body), begun).await,
        None => Ok(None),
    };
    match asked {
        Ok(Some(_)) => Ok(()),
        // One that is over meanwhile has nobody to tell.
        Ok(None) if matches!(may_run(context, id, key).await, Ok(false)) => Ok(()),
        // Not to be sent again as if nothing was done.
        Ok(None) | Err(_) => Err(ErrorKind::CommandUnsure.about(None, UNTOLD.to_owned(), id)),
    }
}

const UNTOLD: &str =
    "it is stored with the call's record; whether the running call was told is not known";

/// Whether a call runs here, or none does.
fn is_here(context: &Context, (tenant, call): (TenantId, CallId)) -> bool {
    context.calls.as_ref().is_none_or(|calls| calls.is_running(tenant, call))
}

/// Asks the node that has a call, which may be another one; `None`: none has it. `begun`: when this was asked.
async fn ask_beside(
    context: &Context,
    caller: &Caller,
    key: (TenantId, CallId),
    (below, body): (&str, Vec<u8>),
    begun: Moment,
) -> sqlx::Result<Option<CommandAnswer>> {
    let command = CallCommand {
        tenant: key.0,
        call: key.1,
        path: format!("/api/v1/tenants/{}/calls/{}{below}", key.0, key.1),
        kind: Some("application/json".to_owned()),
        body,
        credentials: None,
        holder: caller.holder.clone(),
        request_id: caller.request_id.0.clone(),
    };
    let asked = ask(context, &command, begun).await;
    asked.inspect_err(|error| {
        tracing::warn!(%error, "another node does not say what it was asked of a call");
    })
}

const BUSY: ErrorKind =
    ErrorKind::NodeBusy("as many commands wait for other nodes as may at once; try again shortly");

/// Stands before the handlers of commands: what is asked of a call that does not run here goes to the node where it
/// does. One that is over, or never was, is left to the handler.
pub(super) async fn pass(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri().clone();
    if let Err(error) = check_audit(&context, &caller, &uri) {
        return error::in_form_of(&uri, error);
    }
    match try_elsewhere(&context, &caller, request).await {
        Ok(Passed::Answered(answer)) => answer,
        Ok(Passed::Here(request)) => next.run(request).await,
        Err(error) => error::in_form_of(&uri, error),
    }
}

/// What cannot be noted is not done; but who can end a call can always.
fn check_audit(context: &Context, caller: &Caller, uri: &Uri) -> Result<(), ApiError> {
    // Turns are noted with what they say, by the database or not at all.
    let is_own = uri.path().ends_with(TURNS);
    if context.audit.has_room() || uri.path().ends_with("/hangup") || twilio::is_of(uri) || is_own {
        return Ok(());
    }
    let full = "as much waits for the audit log as may: the database has been away for long; calls can be hung up";
    Err(ErrorKind::NodeBusy(full).of(&caller.request_id))
}

/// Whether a call that does not run here may run at another node, as far as the database knows.
///
/// # Errors
///
/// When the database does not say.
pub(super) async fn may_run(
    context: &Context,
    id: &RequestId,
    key: (TenantId, CallId),
) -> Result<bool, ApiError> {
    let (database, node) = (&context.database, context.placing.node());
    let may = within(WORD_MAX, call_commands::may_run_elsewhere(database, node, key)).await;
    may.map_err(|error| error::database(&error, id))
}

enum Passed {
    Here(Request),
    Answered(Response),
}

async fn try_elsewhere(
    context: &Context,
    caller: &Caller,
    request: Request,
) -> Result<Passed, ApiError> {
    let (Some(calls), Ok(tenant), Ok(item)) = (&context.calls, caller.tenant(), caller.item())
    else {
        return Ok(Passed::Here(request));
    };
    let (begun, key) = (clock::now(), (tenant, CallId::from_uuid(item)));
    if calls.is_running(key.0, key.1) {
        return Ok(Passed::Here(request));
    }
    // The handler says so where the database is away.
    if !may_run(context, &caller.request_id, key).await.unwrap_or_default() {
        return Ok(Passed::Here(request));
    }
    let turn = context.turns.ask().ok_or(BUSY.of(&caller.request_id))?;
    let (parts, body) = request.into_parts();
    let Ok(bytes) = body::to_bytes(body, HTTP_BODY_BYTES_MAX).await else {
        return Err(ErrorKind::TooLarge.of(&caller.request_id));
    };
    let command = command(caller, key, (&parts, &bytes));
    let are_turns = command.path.ends_with(TURNS);
    let asked = ask(context, &command, begun).await;
    drop(turn);
    match asked {
        Ok(Some(answer)) => Ok(Passed::Answered(passed_on(answer))),
        // Its call may have ended this moment.
        Ok(None) if are_turns => Ok(Passed::Here(Request::from_parts(parts, Body::from(bytes)))),
        // A node that is busy with much else may have it: no application is to take this for its end.
        Ok(None) => Err(ErrorKind::CallAway.of(&caller.request_id)),
        Err(error) => {
            tracing::warn!(%error, "a command to a call at another node is not answered");
            Err(ErrorKind::CommandUnsure.of(&caller.request_id))
        }
    }
}

fn command(
    caller: &Caller,
    (tenant, call): (TenantId, CallId),
    (parts, body): (&Parts, &Bytes),
) -> CallCommand {
    let said = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let kind = said(header::CONTENT_TYPE);
    // What a web server that the request names is to know us by.
    let credentials = said(header::AUTHORIZATION).filter(|_| twilio::is_of(&parts.uri));
    CallCommand {
        tenant,
        call,
        path: parts.uri.path().to_owned(),
        kind: kind.map(str::to_owned),
        body: body.to_vec(),
        credentials: credentials.map(|text| Secret::new(text.to_owned())),
        holder: caller.holder.clone(),
        request_id: caller.request_id.0.clone(),
    }
}

/// The answer of the node that has the call; `None`: none has it. `begun`: when this was asked.
async fn ask(
    context: &Context,
    command: &CallCommand,
    begun: Moment,
) -> sqlx::Result<Option<CommandAnswer>> {
    let (database, sealer) = (&context.database, context.composer.borrow().sealer.clone());
    let asked = clock::now();
    let id = within(WORD_MAX, call_commands::ask(database, &sealer, command)).await?;
    let mut pause = FIRST;
    loop {
        let waited = clock::now().since(asked);
        match within(WORD_MAX, call_commands::progress(database, &sealer, id)).await? {
            Progress::Answered(answer) => {
                forget(database, id);
                return Ok(Some(answer));
            }
            Progress::Waiting if waited >= TAKEN_MAX => {
                // Who takes it at this moment does it, and is waited for.
                if within(WORD_MAX, call_commands::take_back(database, id)).await? {
                    return Ok(None);
                }
            }
            Progress::Taken if clock::now().since(begun) >= ANSWERED_MAX => {
                forget(database, id);
                return Err(sqlx::Error::PoolTimedOut);
            }
            Progress::Lost => return Err(sqlx::Error::RowNotFound),
            Progress::Waiting | Progress::Taken => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PERIOD);
    }
}

/// Takes a command away that nobody waits for any more.
fn forget(database: &Database, id: Uuid) {
    let database = database.clone();
    tokio::spawn(async move { within(WORD_MAX, call_commands::forget(&database, id)).await });
}

fn passed_on(answer: CommandAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response =
        (status, [(header::CONTENT_TYPE, "application/json")], answer.body).into_response();
    if let Some(seconds) = answer.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Does what other nodes were asked of calls that run here, as long as it is told of them.
pub async fn carry_out(context: Context, mut told: mpsc::Receiver<(TenantId, CallId)>) {
    let router = commands().with_state(context.clone());
    let turns = Arc::new(Semaphore::new(CALL_COMMANDS_MAX));
    while let Some(key) = told.recv().await {
        let runs = context.calls.as_ref().is_some_and(|calls| calls.is_running(key.0, key.1));
        // Whoever asked is told that nobody has it where too many are under way.
        let Some(turn) = Arc::clone(&turns).try_acquire_owned().ok().filter(|_| runs) else {
            continue;
        };
        let (context, router) = (context.clone(), router.clone());
        tokio::spawn(async move {
            carry_out_of(&context, &router, key).await;
            drop(turn);
        });
    }
}

async fn carry_out_of(context: &Context, router: &Router, key: (TenantId, CallId)) {
    let (database, node) = (&context.database, context.placing.node());
    let sealer = context.composer.borrow().sealer.clone();
    let taken = match within(WORD_MAX, call_commands::take(database, &sealer, node, key)).await {
        Ok(taken) => taken,
        Err(error) => {
            tracing::debug!(%error, "what another node was asked is not taken");
            return;
        }
    };
    for TakenCommand { id, is_sealed, request_id, command } in taken {
        // Who could not open it could not seal an answer that is opened.
        let is_sealed = is_sealed && command.is_some();
        let answer = match command {
            Some(command) => answer(router.clone(), command).await,
            None => unopened(request_id).await,
        };
        let answering = call_commands::answer(database, &sealer, (id, is_sealed), &answer);
        let told = within(WORD_MAX, answering).await;
        if let Err(error) = told {
            tracing::warn!(%error, "what was done for another node is not told to it");
        }
    }
}

/// The command was sealed by a key that this node has not: it is not done.
async fn unopened(request_id: String) -> CommandAnswer {
    tracing::error!(
        request_id,
        "another node sealed a command with a key that this one has not (secrets.key_ref)"
    );
    let id = RequestId(request_id);
    carried(ErrorKind::CallAway.of(&id).into_response(), &id).await
}

/// What the handler of a command answers. Who asked was judged by the gate of the node that was asked.
async fn answer(router: Router, command: CallCommand) -> CommandAnswer {
    let request_id = RequestId(command.request_id);
    let caller = Caller {
        holder: command.holder,
        tenant: Some(command.tenant),
        item: Some(command.call.to_string()),
        request_id: request_id.clone(),
    };
    let id = request_id.clone();
    let mut request = Request::post(command.path).extension(caller).extension(request_id);
    if let Some(kind) = command.kind {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    if let Some(credentials) = command.credentials {
        request = request.header(header::AUTHORIZATION, credentials.expose());
    }
    let Ok(request) = request.body(Body::from(command.body)) else { return failed(&id).await };
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => carried(response, &id).await,
        Err(never) => match never {},
    }
}

/// An answer as it goes to the node that asked.
async fn carried(response: Response, id: &RequestId) -> CommandAnswer {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after_s = retry_after.and_then(|text| text.to_str().ok()?.parse().ok());
    match body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await {
        Ok(body) => CommandAnswer { status, retry_after_s, body: body.to_vec() },
        Err(_) => failed(id).await,
    }
}

/// Of what was done nobody is told how it went.
async fn failed(id: &RequestId) -> CommandAnswer {
    let problem = ErrorKind::CommandUnsure.of(id).into_response();
    let status = problem.status().as_u16();
    let body = body::to_bytes(problem.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
    CommandAnswer { status, retry_after_s: None, body: body.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_a_route_and_nothing_else_is_sent_elsewhere() {
        let sent: Vec<_> =
            route::all().filter(|route| is_command(route)).map(|route| route.path).collect();
        assert_eq!(sent.len(), COMMANDS.len() + 1, "{sent:?}");
        assert!(sent.contains(&twilio::CALL_PATH), "{sent:?}");
        // Building the router shows that no path stands twice.
        drop(commands());
    }
}
