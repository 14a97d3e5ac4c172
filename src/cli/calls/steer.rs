//! `tandem calls hold`, `resume`, `play`, `dtmf`, `mute`, `unmute`, `attach`, `record`, `disposition`: what is done
//! with a call that is in progress, or said of one.

use crate::cli::api::ApiArgs;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::id::AiProfileId;
use crate::types::id::CallId;
use clap::Args;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

#[derive(Args, Clone, Debug)]
pub(super) struct PlayArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// The name of a .wav or .ulaw file in the node's folder of sounds, or a tone such as tone:busy
    #[arg(value_name = "SOUND", required_unless_present = "stop", conflicts_with = "stop")]
    asset: Option<String>,
    /// So often
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: u32,
    /// So much louder or quieter, -40 to 12 dB
    #[arg(long, value_name = "DB", default_value = "0", allow_negative_numbers = true)]
    gain_db: i8,
    /// Together with whom the caller talks with, not instead
    #[arg(long)]
    beside: bool,
    /// End what is played
    #[arg(long)]
    stop: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct DtmfArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// 1 to 32 of 0-9, *, # and A-D
    #[arg(value_name = "KEYS")]
    digits: String,
    /// To whom the caller talks with, where that is another leg
    #[arg(long)]
    far: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct MuteArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// Who is not heard; `agent` is whoever the caller talks with
    #[arg(value_name = "PARTY")]
    party: Party,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Party {
    Caller,
    Agent,
}

#[derive(Args, Clone, Debug)]
pub(super) struct AttachArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// The AI profile whose agent takes over, by id
    #[arg(value_name = "PROFILE")]
    profile: AiProfileId,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RecordArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// What becomes of its recording; `pause` records silence
    #[arg(value_name = "ORDER")]
    order: RecordOrder,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RecordOrder {
    Start,
    Stop,
    Pause,
    Resume,
}

#[derive(Args, Clone, Debug)]
pub(super) struct DispositionArgs {
    /// The call, by id; it may be over
    #[arg(value_name = "CALL")]
    call: CallId,
    /// How it is filed, such as `sold`
    #[arg(value_name = "DISPOSITION")]
    disposition: String,
    /// What came of it
    #[arg(long, value_name = "TEXT")]
    outcome: Option<String>,
    /// What was said
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
}

#[derive(Deserialize)]
struct Standing {
    id: String,
    state: String,
    phase: String,
    on_hold: bool,
    caller_muted: bool,
    agent_muted: bool,
    playing: Option<String>,
    recording: String,
    recording_id: Option<String>,
    supervisors: Vec<Supervisor>,
    agent: String,
}

#[derive(Deserialize)]
struct Supervisor {
    leg: String,
    mode: String,
    state: String,
}

pub(super) async fn hold(api: &ApiArgs, call: CallId) -> Result<(), Failure> {
    command(api, call, "hold", json!({})).await
}

pub(super) async fn resume(api: &ApiArgs, call: CallId) -> Result<(), Failure> {
    command(api, call, "resume", json!({})).await
}

pub(super) async fn play(api: &ApiArgs, args: &PlayArgs) -> Result<(), Failure> {
    if args.stop {
        return command(api, args.call, "play/stop", json!({})).await;
    }
    let PlayArgs { call, asset, repeat, gain_db, beside, .. } = args;
    let wish = json!({"asset": asset, "repeat": repeat, "gain_db": gain_db, "beside": beside});
    command(api, *call, "play", wish).await
}

pub(super) async fn send_keys(api: &ApiArgs, args: &DtmfArgs) -> Result<(), Failure> {
    let leg = if args.far { "far" } else { "near" };
    command(api, args.call, "dtmf", json!({"digits": args.digits, "leg": leg})).await
}

pub(super) async fn mute(api: &ApiArgs, args: &MuteArgs, name: &str) -> Result<(), Failure> {
    let party = match args.party {
        Party::Caller => "caller",
        Party::Agent => "agent",
    };
    command(api, args.call, name, json!({"party": party})).await
}

pub(super) async fn record(api: &ApiArgs, args: &RecordArgs) -> Result<(), Failure> {
    let name = match args.order {
        RecordOrder::Start => "record/start",
        RecordOrder::Stop => "record/stop",
        RecordOrder::Pause => "record/pause",
        RecordOrder::Resume => "record/resume",
    };
    command(api, args.call, name, json!({})).await
}

pub(super) async fn attach(api: &ApiArgs, args: &AttachArgs) -> Result<(), Failure> {
    command(api, args.call, "attach", json!({"ai_profile_id": args.profile.to_string()})).await
}

pub(super) async fn file(api: &ApiArgs, args: &DispositionArgs) -> Result<(), Failure> {
    let mut notes = json!({"disposition": args.disposition});
    for (name, text) in [("outcome", &args.outcome), ("summary", &args.summary)] {
        if let (Some(text), Some(notes)) = (text, notes.as_object_mut()) {
            notes.insert(name.to_owned(), json!(text));
        }
    }
    let client = api.client()?;
    let path = client.of_tenant(&format!("calls/{}", args.call))?;
    let answer = client.change(&path, &notes).await?;
    if api.json {
        output::line(&answer.text());
    } else {
        output::line(&format!("call {} is filed as {}", args.call, args.disposition));
    }
    Ok(())
}

pub(super) async fn command(
    api: &ApiArgs,
    call: CallId,
    name: &str,
    body: Value,
) -> Result<(), Failure> {
    let client = api.client()?;
    let path = client.of_tenant(&format!("calls/{call}/{name}"))?;
    let answer = client.make(&path, &body).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let standing: Standing = answer.read()?;
    output::line(&standing.text());
    Ok(())
}

impl Standing {
    fn text(&self) -> String {
        let mut text = format!("call {} is {}, {}", self.id, self.state, self.phase);
        for (word, is_so) in [
            ("on hold", self.on_hold),
            ("caller muted", self.caller_muted),
            ("agent muted", self.agent_muted),
        ] {
            if is_so {
                text = format!("{text}, {word}");
            }
        }
        if let Some(sound) = &self.playing {
            text = format!("{text}, playing {sound}");
        }
        if let Some(id) = &self.recording_id {
            text = format!("{text}, recording {} ({id})", self.recording);
        }
        for Supervisor { leg, mode, state } in &self.supervisors {
            text = format!("{text}, {leg} {state} ({mode})");
        }
        format!("{text}, agent {}", self.agent)
    }
}
