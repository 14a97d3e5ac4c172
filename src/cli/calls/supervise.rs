//! `tandem calls supervise`: somebody hears a call that is in progress, beside others who do.

use crate::cli::api::ApiArgs;
use crate::cli::calls::note_asked;
use crate::cli::calls::steer;
use crate::cli::failure::Failure;
use crate::types::id::CallId;
use clap::ArgGroup;
use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::json;

#[derive(Args, Clone, Debug)]
#[command(
    group(ArgGroup::new("wish").args(["to", "uri", "mode", "stop"]).required(true).multiple(true)),
    after_help = "\
Examples:
  tandem calls supervise 01980000-0000-7000-8000-000000000000 --to +15550142
  tandem calls supervise 01980000-0000-7000-8000-000000000000 --mode barge
  tandem calls supervise 01980000-0000-7000-8000-000000000000 --stop --leg supervisor_2"
)]
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
    #[arg(long, value_name = "MODE", conflicts_with = "stop")]
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

impl SuperviseArgs {
    fn command(&self) -> (&'static str, Value) {
        let mode = self.mode.unwrap_or(Mode::Listen).word();
        match (&self.to, &self.uri) {
            _ if self.stop => ("supervise/stop", json!({"leg": self.leg})),
            (Some(to), _) => ("supervise", json!({"to": to, "mode": mode})),
            (None, Some(uri)) => ("supervise", json!({"uri": uri, "mode": mode})),
            (None, None) => ("supervise/mode", json!({"mode": mode, "leg": self.leg})),
        }
    }
}

pub(super) async fn run(api: &ApiArgs, args: &SuperviseArgs) -> Result<(), Failure> {
    let (name, body) = args.command();
    steer::command(api, args.call, name, body).await?;
    if args.to.is_some() || args.uri.is_some() {
        note_asked(api, "the supervisor", args.call);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        args: SuperviseArgs,
    }

    fn typed(words: &[&str]) -> Result<(&'static str, Value), String> {
        let call = "01980000-0000-7000-8000-000000000000";
        let typed = Typed::try_parse_from([&["supervise", call], words].concat());
        typed.map(|typed| typed.args.command()).map_err(|why| why.to_string())
    }

    #[test]
    fn a_supervisor_is_asked_for_as_it_is_typed() {
        let boss = json!({"to": "+15550142", "mode": "listen"});
        assert_eq!(typed(&["--to", "+15550142"]), Ok(("supervise", boss)));
        let desk = json!({"uri": "sip:desk@192.0.2.7", "mode": "whisper"});
        let words = ["--uri", "sip:desk@192.0.2.7", "--mode", "whisper"];
        assert_eq!(typed(&words), Ok(("supervise", desk)));
        let second = json!({"mode": "barge", "leg": "supervisor_2"});
        let words = ["--mode", "barge", "--leg", "supervisor_2"];
        assert_eq!(typed(&words), Ok(("supervise/mode", second)));
        assert_eq!(typed(&["--stop"]), Ok(("supervise/stop", json!({"leg": null}))));
        for words in [
            &["--stop", "--mode", "barge"][..],
            &["--to", "+15550142", "--uri", "sip:a@b"],
            &["--to", "+15550142", "--leg", "supervisor_2"],
        ] {
            assert!(typed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_may_be_asked_for_is_named_where_nothing_is() {
        for words in [&[][..], &["--leg", "supervisor_2"]] {
            let said = typed(words).expect_err("nothing is asked for");
            for option in ["--to <NUMBER>", "--uri <URI>", "--mode <MODE>", "--stop"] {
                assert!(said.contains(option), "{words:?}: {said}");
            }
        }
    }
}
