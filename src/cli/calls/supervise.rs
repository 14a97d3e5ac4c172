//! `tandem calls supervise`: somebody hears a call that is in progress, beside others who do.

use crate::cli::api::ApiArgs;
use crate::cli::calls::note_asked;
use crate::cli::calls::steer;
use crate::cli::failure::Failure;
use crate::types::id::CallId;
use clap::Args;
use clap::ValueEnum;
use serde_json::json;

#[derive(Args, Clone, Debug)]
pub(super) struct SuperviseArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// Who is called, beside those who hear it already: a number in the international form
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, conflicts_with_all = ["uri", "stop"])]
    to: Option<String>,
    /// The same by a sip: or sips: address
    #[arg(long, value_name = "URI", conflicts_with = "stop")]
    uri: Option<String>,
    /// Who hears the supervisor: nobody, whom the caller talks with, or both. Without `--to` and `--uri`: from now
    /// on
    #[arg(long, value_name = "MODE", required_unless_present_any = ["to", "uri", "stop"], conflicts_with = "stop")]
    mode: Option<Mode>,
    /// Hang the supervisor up
    #[arg(long)]
    stop: bool,
    /// The supervisor that `--mode` or `--stop` is for, by its leg, where there are several
    #[arg(long, value_name = "LEG", conflicts_with_all = ["to", "uri"])]
    leg: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Listen,
    Whisper,
    Barge,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Whisper => "whisper",
            Self::Barge => "barge",
        }
    }
}

pub(super) async fn run(api: &ApiArgs, args: &SuperviseArgs) -> Result<(), Failure> {
    let mode = args.mode.unwrap_or(Mode::Listen).word();
    let (name, body) = match (&args.to, &args.uri) {
        _ if args.stop => ("supervise/stop", json!({"leg": args.leg})),
        (Some(to), _) => ("supervise", json!({"to": to, "mode": mode})),
        (None, Some(uri)) => ("supervise", json!({"uri": uri, "mode": mode})),
        (None, None) => ("supervise/mode", json!({"mode": mode, "leg": args.leg})),
    };
    steer::command(api, args.call, name, body).await?;
    if args.to.is_some() || args.uri.is_some() {
        note_asked(api, "the supervisor", args.call);
    }
    Ok(())
}
