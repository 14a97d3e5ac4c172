//! `tandem calls trace`: the SIP messages of one call.

use crate::cli::api::ApiArgs;
use crate::cli::columns;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::id::CallId;
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Numbers and addresses of people: for the eyes of whoever asked.
const FILE_MODE: u32 = 0o600;

#[derive(Args, Clone, Debug)]
pub(super) struct TraceArgs {
    /// The call, by id
    #[arg(value_name = "CALL")]
    call: CallId,
    /// Draw the messages as arrows between the parties (the default)
    #[arg(long, conflicts_with_all = ["messages", "pcap"])]
    ladder: bool,
    /// Print the messages whole; secrets are masked
    #[arg(long, conflicts_with = "pcap")]
    messages: bool,
    /// Write a capture file for Wireshark or sngrep; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Trace {
    messages: Vec<Message>,
    left_out: u32,
}

#[derive(Deserialize)]
struct Message {
    at: Timestamp,
    way: String,
    transport: String,
    local: String,
    remote: String,
    text: String,
}

/// Prints or writes the signalling of a call.
pub(super) async fn run(api: &ApiArgs, args: &TraceArgs) -> Result<(), Failure> {
    let client = api.client()?;
    let path = client.of_tenant(&format!("calls/{}/trace", args.call))?;
    if let Some(file) = &args.pcap {
        let answer = client.get(&format!("{path}/pcap")).await?;
        return write(file, answer.bytes()).map_err(|error| {
            Failure::failed(format!("{} cannot be written", file.display())).because(error)
        });
    }
    if api.json {
        output::line(&client.get(&path).await?.text());
    } else if args.messages {
        output::line(&messages(&client.get(&path).await?.read()?));
    } else {
        let ladder = client.get(&format!("{path}/ladder")).await?;
        output::line(&columns::plain_lines(&ladder.text()));
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if file.as_os_str() == "-" {
        return io::stdout().lock().write_all(bytes);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    options.open(file)?.write_all(bytes)
}

fn messages(trace: &Trace) -> String {
    let mut parts: Vec<String> = trace.messages.iter().map(message).collect();
    if trace.left_out > 0 {
        parts.push(format!("({} messages in between were not kept)", trace.left_out));
    }
    parts.join("\n\n")
}

fn message(message: &Message) -> String {
    let Message { at, way, transport, local, remote, text } = message;
    let arrow = if way == "in" { "<-" } else { "->" };
    let head = format!("--- {at:.3} {local} {arrow} {remote} over {transport}");
    format!("{}\n{}", columns::plain(&head), columns::plain_lines(text.trim_end()))
}
