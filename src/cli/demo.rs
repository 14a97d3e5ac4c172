//! `tandem demo`: a switch with a database, a tenant and numbers of its own.

use crate::cli::failure::Failure;
use clap::Args;
use std::env;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// How the demonstration runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// The address SIP is heard at, over UDP and TCP; port 0: any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5060")]
    pub(crate) sip: SocketAddr,
    /// The address HTTP is heard at; port 0: any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// The ports of RTP and RTCP, two for each call
    #[arg(long, value_name = "A-B", default_value = "16384-32767", value_parser = ports)]
    pub(crate) rtp_ports: RangeInclusive<u16>,
    /// The folder of the database and the journal; a second demo at once needs another
    #[arg(long, value_name = "DIR", default_value_os_t = default_data_dir())]
    pub(crate) data_dir: PathBuf,
    /// Place one call, print how it went and its stored record, and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Runs the demonstration.
///
/// # Errors
///
/// When the switch cannot start, or its call to itself fails.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    drop(args);
    Err(Failure::failed("the demonstration is not wired yet"))
}

/// `A-B`, from an even port, with room for one call at least.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port >= 1024);
    let range = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
    match range {
        Some((first, last)) if first % 2 == 0 && first < last => Ok(first..=last),
        Some((first, last)) if first < last => {
            Err(format!("{first} is odd; RTP takes an even port and RTCP the next"))
        }
        _ => Err("write two ports from 1024 on, the lower first: 16384-32767".to_owned()),
    }
}

/// A folder of the user's, as the XDG base directories have it; else one for temporary files.
fn default_data_dir() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local").join("share")))
        .unwrap_or_else(env::temp_dir)
        .join("tandem-demo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_begins_with_an_even_port_and_has_room_for_a_call() {
        for (text, expected) in [
            ("16384-32767", Some(16_384..=32_767)),
            ("20000 - 20001", Some(20_000..=20_001)),
            ("20001-20010", None),
            ("20010-20000", None),
            ("20000-20000", None),
            ("80-90", None),
            ("20000", None),
            ("a-b", None),
        ] {
            assert_eq!(ports(text).ok(), expected, "{text}");
        }
    }
}
