//! `tandem calls`: the calls of a tenant, by the API.

mod show;
mod steer;
mod supervise;
mod trace;
mod transfer;

use crate::cli::api::ApiArgs;
use crate::cli::api::query;
use crate::cli::calls::steer::AttachArgs;
use crate::cli::calls::steer::DispositionArgs;
use crate::cli::calls::steer::DtmfArgs;
use crate::cli::calls::steer::MuteArgs;
use crate::cli::calls::steer::PlayArgs;
use crate::cli::calls::steer::RecordArgs;
use crate::cli::calls::supervise::SuperviseArgs;
use crate::cli::calls::trace::TraceArgs;
use crate::cli::calls::transfer::TransferArgs;
use crate::cli::columns::Columns;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::id::CallId;
use clap::Args;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;

/// What to do with calls.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tandem calls list --limit 20
  tandem calls list --caller +15550142 --from 2026-01-31T00:00:00Z
  tandem calls list --live
  tandem calls record 01980000-0000-7000-8000-000000000000 pause
  tandem calls mute 01980000-0000-7000-8000-000000000000 caller
  tandem calls trace 01980000-0000-7000-8000-000000000000
  tandem calls trace 01980000-0000-7000-8000-000000000000 --pcap call.pcap")]
pub(crate) struct CallsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The calls of a tenant, the newest first
    List(ListArgs),
    /// One call: its record, how it was decided, and what happened
    Show(CallArgs),
    /// End a call that is in progress
    Hangup(CallArgs),
    /// Put the caller on hold
    Hold(CallArgs),
    /// Take the caller back from hold
    Resume(CallArgs),
    /// Let the caller hear a sound of the node
    Play(PlayArgs),
    /// Send keys
    Dtmf(DtmfArgs),
    /// Let silence be heard in place of one side
    Mute(MuteArgs),
    /// Let a muted side be heard again
    Unmute(MuteArgs),
    /// Put the agent of another AI profile in place of the present one
    Attach(AttachArgs),
    /// Let somebody hear a call in progress, whisper to its agent, or speak with both
    Supervise(SuperviseArgs),
    /// Begin, end, pause or resume the recording of a call in progress
    Record(RecordArgs),
    /// File a call, also one that is over
    Disposition(DispositionArgs),
    /// Connect a call that is in progress with somebody else
    Transfer(TransferArgs),
    /// The SIP messages of a call: a ladder, the messages, or a capture file
    Trace(TraceArgs),
}

#[derive(Args, Clone, Debug)]
struct CallArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    /// So many at most, 1 to 200
    #[arg(long, value_name = "N", default_value = "50",
          value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Go on where a page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Only of this caller
    #[arg(long, value_name = "CALLER", allow_hyphen_values = true)]
    caller: Option<String>,
    /// Only to this number, in the international form
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    dialled: Option<String>,
    /// Only those that ended so: normal, busy, no_answer ...
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Only those that began at this time or later, as 2026-01-31T09:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only those that began before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Those that run: of the node that is asked as it knows them, of others as they are stored
    #[arg(long, conflicts_with_all = ["caller", "dialled", "cause", "from", "until"])]
    live: bool,
}

#[derive(Deserialize)]
struct Page {
    calls: Vec<Row>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    direction: String,
    caller: String,
    dialled: Option<String>,
    dialled_as: String,
    status: String,
    cause: Option<String>,
    duration_ms: i64,
    times: Times,
}

#[derive(Deserialize)]
struct Times {
    arrived: Timestamp,
}

#[derive(Deserialize)]
struct State {
    id: String,
    state: String,
    phase: String,
}

/// Does what is asked of calls.
///
/// # Errors
///
/// When the API is not reached or refuses, or an argument is wrong.
pub(crate) async fn run(args: CallsArgs) -> Result<(), Failure> {
    match &args.command {
        Command::List(list) => list_calls(&args.api, list).await,
        Command::Show(call) => show::run(&args.api, call.call).await,
        Command::Hangup(call) => hang_up(&args.api, call.call).await,
        Command::Hold(call) => steer::hold(&args.api, call.call).await,
        Command::Resume(call) => steer::resume(&args.api, call.call).await,
        Command::Play(play) => steer::play(&args.api, play).await,
        Command::Dtmf(keys) => steer::send_keys(&args.api, keys).await,
        Command::Mute(mute) => steer::mute(&args.api, mute, "mute").await,
        Command::Record(record) => steer::record(&args.api, record).await,
        Command::Unmute(mute) => steer::mute(&args.api, mute, "unmute").await,
        Command::Attach(attach) => steer::attach(&args.api, attach).await,
        Command::Supervise(supervise) => supervise::run(&args.api, supervise).await,
        Command::Disposition(notes) => steer::file(&args.api, notes).await,
        Command::Transfer(transfer) => transfer::run(&args.api, transfer).await,
        Command::Trace(trace) => trace::run(&args.api, trace).await,
    }
}

async fn list_calls(api: &ApiArgs, list: &ListArgs) -> Result<(), Failure> {
    let parameters = query(&[
        ("limit", Some(list.limit.to_string())),
        ("cursor", list.cursor.clone()),
        ("caller", list.caller.clone()),
        ("dialled", list.dialled.clone()),
        ("cause", list.cause.clone()),
        ("from", list.from.map(|time| time.to_string())),
        ("until", list.until.map(|time| time.to_string())),
        ("live", list.live.then(|| "true".to_owned())),
    ]);
    let client = api.client()?;
    let answer = client.get(&client.of_tenant(&format!("calls{parameters}"))?).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let page: Page = answer.read()?;
    let heads = ["ARRIVED", "CALL", "WAY", "CALLER", "DIALLED", "STATUS", "SECONDS", "CAUSE"];
    let mut table = Columns::new(&heads);
    for call in page.calls {
        table.row([
            format!("{:.0}", call.times.arrived),
            call.id,
            call.direction,
            call.caller,
            call.dialled.unwrap_or(call.dialled_as),
            call.status,
            length(call.cause.as_deref(), call.duration_ms).unwrap_or_default(),
            call.cause.unwrap_or_default(),
        ]);
    }
    output::line(&table.text());
    if let Some(next) = page.next {
        output::note(&format!("there are more: --cursor {next}"));
    }
    Ok(())
}

async fn hang_up(api: &ApiArgs, call: CallId) -> Result<(), Failure> {
    let client = api.client()?;
    let answer = client.post(&client.of_tenant(&format!("calls/{call}/hangup"))?).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let state: State = answer.read()?;
    output::line(&state.text());
    Ok(())
}

impl State {
    fn text(&self) -> String {
        format!("call {} is {}, {}", self.id, self.state, self.phase)
    }
}

/// Says of what was asked for, and may yet fail, where it is told how it goes.
fn note_asked(api: &ApiArgs, what: &str, call: CallId) {
    if !api.json {
        output::note(&format!(
            "{what} is asked for: how it goes is among the events of `tandem calls show {call}`"
        ));
    }
}

/// How long a call talked, in seconds as people read them; of one that has no cause yet that is not known.
fn length(cause: Option<&str>, milliseconds: i64) -> Option<String> {
    cause.map(|_| format!("{}.{}", milliseconds / 1_000, milliseconds % 1_000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_is_over_has_a_length() {
        assert_eq!(length(Some("normal"), 24_585).as_deref(), Some("24.5"));
        assert_eq!(length(Some("busy"), 0).as_deref(), Some("0.0"));
        assert_eq!(length(None, 0), None);
    }
}
