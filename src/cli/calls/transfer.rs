//! `tandem calls transfer`: connects a running call with somebody else, or settles how that goes on.

use crate::cli::api::ApiArgs;
use crate::cli::calls::State;
use crate::cli::calls::note_asked;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::id::CallId;
use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::json;

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tandem calls transfer 01980000-0000-7000-8000-000000000000 --to +15550142
  tandem calls transfer 01980000-0000-7000-8000-000000000000 --to +15550142 --mode attended
  tandem calls transfer 01980000-0000-7000-8000-000000000000 --mode confirm")]
pub(super) struct TransferArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// A number in the international form
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, conflicts_with = "uri")]
    to: Option<String>,
    /// A SIP address instead
    #[arg(long, value_name = "URI")]
    uri: Option<String>,
    /// How
    #[arg(long, value_enum, default_value_t = Mode::Bridge)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// We dial the target and bridge it with the caller
    Bridge,
    /// The agent speaks with the target first
    Attended,
    /// The carrier is asked to do it
    Refer,
    /// The agent has spoken with the target: bridge
    Confirm,
    /// Give the transfer under way up
    Withdraw,
}

impl TransferArgs {
    fn body(&self) -> Value {
        let mode = self.mode.to_possible_value();
        let mut body = json!({"mode": mode.as_ref().map(clap::builder::PossibleValue::get_name)});
        for (key, value) in [("to", &self.to), ("uri", &self.uri)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        body
    }
}

/// Asks for it. How it goes is told by the call's record, and that is said.
pub(super) async fn run(api: &ApiArgs, args: &TransferArgs) -> Result<(), Failure> {
    let client = api.client()?;
    let path = client.of_tenant(&format!("calls/{}/transfer", args.call))?;
    let answer = client.make(&path, &args.body()).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let state: State = answer.read()?;
    output::line(&state.text());
    match args.mode {
        Mode::Bridge | Mode::Attended | Mode::Refer => note_asked(api, "the transfer", args.call),
        Mode::Confirm | Mode::Withdraw => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: TransferArgs,
    }

    #[test]
    fn a_transfer_is_asked_for_as_it_is_typed() {
        let call = "01980000-0000-7000-8000-000000000000";
        let body = |words: &[&str]| {
            let typed = Typed::try_parse_from([&["transfer", call], words].concat());
            typed.map(|typed| typed.args.body()).ok()
        };
        let number = json!({"mode": "bridge", "to": "+15550142"});
        assert_eq!(body(&["--to", "+15550142"]), Some(number));
        let peer = json!({"mode": "attended", "uri": "sip:desk@192.0.2.7"});
        assert_eq!(body(&["--uri", "sip:desk@192.0.2.7", "--mode", "attended"]), Some(peer));
        assert_eq!(body(&["--mode", "confirm"]), Some(json!({"mode": "confirm"})));
        assert_eq!(body(&["--to", "+15550142", "--uri", "sip:a@b"]), None);
        assert_eq!(body(&["--mode", "hope"]), None);
    }
}
