//! `tandem call`: the test caller.

use crate::caller;
use crate::caller::Account;
use crate::caller::CallError;
use crate::caller::CallPlan;
use crate::caller::CallSummary;
use crate::caller::ConnectFailure;
use crate::caller::Control;
use crate::caller::Phase;
use crate::caller::Progress;
use crate::caller::Speech;
use crate::caller::Target;
use crate::cli::certificates;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::report;
use crate::types::codec::Codec;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use crate::types::tls::TlsCredentials;
use crate::types::tls::TlsSettings;
use crate::types::transport::Transport;
use clap::Args;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Keys that fit the queue of the sender.
const DIGITS_MAX: usize = 64;
/// The longest call, in seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// The highest tone that telephone audio carries, in Hz.
const TONE_HZ_MAX: i64 = 3_800;

/// A call to place.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tandem call sip:+15550101@127.0.0.1:5060 --tone 440 --duration 3
  tandem call sip:+15550100@127.0.0.1 --wav hello.wav --record answer.wav
  tandem call sip:+15550101@127.0.0.1 --local 127.0.0.2 --user demo --password demo --tone 440
  tandem call sips:+15550101@127.0.0.1 --ca-file demo-tls.pem --srtp --tone 440

Exit codes: 0 answered and audio was received, 1 anything else, 2 wrong arguments.")]
pub(crate) struct CallArgs {
    /// Whom to call: sip:USER@HOST[:PORT][;transport=tcp|tls] or sips:USER@HOST[:PORT]
    #[arg(value_name = "SIP-URI")]
    target: Target,
    /// Say a tone of so many Hz; without this and --wav, say nothing
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u16).range(50..=TONE_HZ_MAX),
          conflicts_with = "wav")]
    tone: Option<u16>,
    /// Say a WAV file, once
    #[arg(long, value_name = "FILE")]
    wav: Option<PathBuf>,
    /// Press these keys once the call is answered: 0-9, *, #, A-D
    #[arg(long, value_name = "KEYS", value_parser = keys)]
    dtmf: Option<String>,
    /// Write what is heard to a WAV file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Hang up so many seconds after the answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Give up when there is no answer for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    answer_within: Duration,
    /// Who seems to call: the user part of From
    #[arg(long, value_name = "USER", default_value = "tandem", value_parser = user)]
    from: String,
    /// User name for a challenge
    #[arg(long, value_name = "USER", requires = "password")]
    user: Option<String>,
    /// Its password; env:NAME reads it from a variable, so that no list of processes shows it
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    password: Option<String>,
    /// Call by udp, tcp or tls, whatever the URI says; sips: is called by tls alone
    #[arg(long, value_name = "NAME")]
    transport: Option<Transport>,
    /// Authorities of the certificate of the other side, in PEM; without it those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Our own certificate with its chain, in PEM, for a side that asks for one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// The name that its certificate must prove [default: the host of the URI]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The local address of signalling and media
    #[arg(long, value_name = "ADDRESS")]
    local: Option<IpAddr>,
    /// The local port of SIP over UDP; 0: any free one
    #[arg(long, value_name = "PORT", default_value = "0")]
    local_port: u16,
    /// Offer this codec only: pcmu, pcma, g722, opus, l16_16k or l16_8k; may be given again, the preferred one first
    #[arg(long = "codec", value_name = "NAME", value_parser = codec)]
    codecs: Vec<Codec>,
    /// Encrypt: required offers RTP/SAVP and takes nothing else, optional offers RTP/AVP with keys
    #[arg(long, value_name = "POLICY", value_parser = srtp, num_args = 0..=1, require_equals = true,
          default_value = "off", default_missing_value = "required")]
    srtp: SrtpPolicy,
    /// Offer this SRTP suite; may be given several times, the preferred one first
    #[arg(long = "srtp-suite", value_name = "NAME", value_parser = suite)]
    srtp_suites: Vec<SrtpSuite>,
    /// Fail when nothing but silence is heard
    #[arg(long)]
    require_sound: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Places the call and prints how it went.
///
/// # Errors
///
/// When the call could not be placed, was not answered, or brought no audio.
pub(crate) async fn run(args: CallArgs) -> Result<(), Failure> {
    let json = args.json;
    let summary = place(plan(args)?).await?;
    output::line(&if json { report::json(&summary) } else { report::text(&summary) });
    match &summary.problem {
        None => Ok(()),
        Some(problem) => Err(Failure::failed("the call failed").because(problem.clone())),
    }
}

fn plan(args: CallArgs) -> Result<CallPlan, Failure> {
    let target = match args.transport {
        Some(transport) => args
            .target
            .by(transport)
            .map_err(|error| Failure::configuration("--transport").because(error))?,
        None => args.target,
    };
    let mut plan = CallPlan::new(target);
    plan.local = args.local;
    plan.local_port = args.local_port;
    plan.from_user = args.from;
    plan.tls = Arc::new(TlsSettings {
        authorities: args
            .ca_file
            .as_deref()
            .map(|path| certificates_of(path, "--ca-file"))
            .transpose()?
            .unwrap_or_default(),
        credentials: args
            .cert_file
            .as_deref()
            .zip(args.key_file.as_deref())
            .map(credentials)
            .transpose()?,
        ..TlsSettings::default()
    });
    plan.server_name = args.server_name;
    plan.account = match args.user.zip(args.password) {
        Some((user, password)) => Some(Account { user, password: secret(password)? }),
        None => None,
    };
    if !args.codecs.is_empty() {
        plan.codecs = args.codecs;
    }
    plan.srtp = args.srtp;
    if !args.srtp_suites.is_empty() {
        plan.srtp_suites = args.srtp_suites;
    }
    plan.speech = match (args.tone, args.wav) {
        (Some(hz), _) => Speech::Tone { hz },
        (None, Some(path)) => Speech::Wav(path),
        (None, None) => Speech::Silence,
    };
    plan.digits = args.dtmf.unwrap_or_default();
    plan.record = args.record;
    plan.duration = args.duration;
    plan.answer_limit = args.answer_within;
    plan.needs_sound = args.require_sound;
    Ok(plan)
}

/// The certificates of a file, in DER.
fn certificates_of(path: &Path, flag: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let found = certificates::read(path, flag)?.into_iter();
    Ok(found.map(|certificate| certificate.as_ref().to_vec()).collect())
}

/// What we prove to a side that asks.
fn credentials((chain, key): (&Path, &Path)) -> Result<TlsCredentials, Failure> {
    let broken = || Failure::configuration(format!("--key-file: {}", key.display()));
    let text = fs::read_to_string(key).map_err(|error| broken().because(error))?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| broken().because(error))?;
    let chain = certificates_of(chain, "--cert-file")?;
    Ok(TlsCredentials { chain, key: Secret::new(text) })
}

/// The password itself, or that of the variable it names.
fn secret(text: String) -> Result<Secret<String>, Failure> {
    match text.strip_prefix("env:") {
        None => Ok(Secret::new(text)),
        Some(name) => std::env::var(name)
            .map(Secret::new)
            .map_err(|error| Failure::configuration("--password").because(error)),
    }
}

/// Places the call under the eyes of the user, who may end it with Ctrl-C.
async fn place(plan: CallPlan) -> Result<CallSummary, Failure> {
    let duration = plan.duration;
    let (stop, stopping) = watch::channel(false);
    let (progress, watched) = watch::channel(Progress::default());
    let bar = tokio::spawn(show(watched, duration));
    let interrupt = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            // The second one finds a call that is already ending; it ends within seconds.
            stop.send_replace(true);
        }
    });
    let control = Control { stop: stopping, progress };
    let placed = caller::place_controlled(plan, control).await;
    interrupt.abort();
    // The bar ends when the call has dropped its side of the channel.
    drop(bar.await);
    let failed = |hint| Failure::failed(format!("the call could not be placed{hint}"));
    placed.map_err(|error| match error {
        CallError::Tls(_, ConnectFailure::UnknownAuthority) => failed(
            " (--ca-file names the authority of a certificate that the system does not know)",
        )
        .because(error),
        CallError::Tls(_, ConnectFailure::WrongName) => {
            failed(" (--server-name says whom the certificate must name)").because(error)
        }
        other => failed("").because(other),
    })
}

/// Draws how far the call is, on a terminal only.
async fn show(mut progress: watch::Receiver<Progress>, duration: Duration) {
    if !io::stderr().is_terminal() {
        return;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(100));
    let spinner = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let talking = ProgressStyle::with_template("{bar:30} {msg}");
    bar.set_message("calling");
    if let Ok(style) = spinner {
        bar.set_style(style);
    }
    let mut phase = Phase::Calling;
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        if phase != now.phase && now.phase == Phase::Talking {
            bar.set_length(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            if let Ok(style) = &talking {
                bar.set_style(style.clone());
            }
        }
        phase = now.phase;
        match phase {
            Phase::Calling => {}
            Phase::Talking | Phase::Ending => {
                let talked = now.talked.min(duration).as_millis();
                bar.set_position(u64::try_from(talked).unwrap_or(u64::MAX));
                bar.set_message(format!(
                    "{:.1} of {:.1} s, {} packets sent, {} received",
                    now.talked.as_secs_f32(),
                    duration.as_secs_f32(),
                    now.sent,
                    now.received
                ));
            }
        }
    }
    bar.finish_and_clear();
}

fn keys(text: &str) -> Result<String, String> {
    let keys = text.to_ascii_uppercase();
    let is_key = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D');
    if keys.is_empty() || !keys.chars().all(is_key) || keys.len() > DIGITS_MAX {
        return Err(format!("write 1 to {DIGITS_MAX} of the keys 0-9, *, #, A-D"));
    }
    Ok(keys)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(_) | Err(_) => Err(format!("write a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

/// RFC 3261 §25.1, the characters of `user` that need no escape, and escapes.
fn user(text: &str) -> Result<String, String> {
    let may_be = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/%".contains(c);
    if text.is_empty() || !text.chars().all(may_be) {
        return Err("write a number, or a name without blanks and @".to_owned());
    }
    Ok(text.to_owned())
}

fn srtp(text: &str) -> Result<SrtpPolicy, String> {
    match text {
        "off" => Ok(SrtpPolicy::Off),
        "optional" => Ok(SrtpPolicy::Optional),
        "required" => Ok(SrtpPolicy::Required),
        _ => Err("write off, optional or required".to_owned()),
    }
}

fn suite(text: &str) -> Result<SrtpSuite, String> {
    SrtpSuite::from_name(text.as_bytes())
        .ok_or_else(|| format!("write one of {}", SrtpSuite::ALL.map(SrtpSuite::as_str).join(", ")))
}

fn codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text)
        .filter(|codec| !codec.is_passed())
        .ok_or_else(|| "write pcmu, pcma, g722, opus, l16_16k or l16_8k".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        call: CallArgs,
    }

    fn parse(args: &[&str]) -> Result<CallPlan, String> {
        let line = [&["call", "sip:+15550101@127.0.0.1:5060"], args].concat();
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        plan(line.call).map_err(|failure| failure.chain())
    }

    #[test]
    fn a_call_is_planned_as_it_is_typed() {
        let plan = parse(&[]).unwrap();
        assert_eq!(plan.speech, Speech::Silence);
        assert_eq!(plan.codecs, [Codec::Pcmu, Codec::Pcma]);
        assert!(plan.account.is_none());
        assert_eq!(plan.srtp, SrtpPolicy::Off);
        assert_eq!(parse(&["--srtp"]).unwrap().srtp, SrtpPolicy::Required);
        let suites = ["--srtp=optional", "--srtp-suite", "AEAD_AES_128_GCM"];
        let encrypted = parse(&suites).unwrap();
        assert_eq!(encrypted.srtp, SrtpPolicy::Optional);
        assert_eq!(encrypted.srtp_suites, [SrtpSuite::AeadAes128Gcm]);
        let line = "--tone 440 --duration 2.5 --answer-within 5 --dtmf 12#d --from +15550200 \
                    --user demo --password demo --transport tcp --local 127.0.0.2 --codec pcma \
                    --require-sound";
        let plan = parse(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(plan.speech, Speech::Tone { hz: 440 });
        assert_eq!(plan.duration, Duration::from_millis(2_500));
        assert_eq!(plan.answer_limit, Duration::from_secs(5));
        assert_eq!(plan.digits, "12#D");
        assert_eq!(plan.from_user, "+15550200");
        let account = plan.account.unwrap();
        assert_eq!((account.user.as_str(), account.password.expose().as_str()), ("demo", "demo"));
        assert_eq!(plan.target.transport(), Transport::Tcp);
        assert_eq!(plan.local, Some(IpAddr::from([127, 0, 0, 2])));
        assert_eq!(plan.codecs, [Codec::Pcma]);
        assert!(plan.needs_sound);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["--tone", "440", "--wav", "x.wav"][..],
            &["--tone", "5000"],
            &["--dtmf", "12x"],
            &["--dtmf", ""],
            &["--duration", "-1"],
            &["--duration", "NaN"],
            &["--user", "demo"],
            &["--password", "demo"],
            &["--transport", "sctp"],
            &["--ca-file", "/nowhere/at/all"],
            &["--codec", "g729"],
            &["--srtp=maybe"],
            &["--srtp-suite", "ROT13"],
            &["--from", "a b"],
            &["--user", "demo", "--password", "env:TANDEM_NO_SUCH_VARIABLE"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
