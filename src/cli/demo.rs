//! `tandem demo`: a switch with a database, a tenant and numbers of its own.

use crate::caller;
use crate::caller::CallPlan;
use crate::caller::NotATarget;
use crate::caller::Speech;
use crate::cli::configuration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::report;
use crate::cli::run;
use crate::cli::run::Asked;
use crate::cli::run::Signals;
use crate::cli::seal_key;
use crate::cli::self_signed::SelfSigned;
use crate::clock;
use crate::config;
use crate::config::Config;
use crate::config::Inputs;
use crate::config::files::Memory;
use crate::server;
use crate::server::Server;
use crate::store;
use crate::store::api_keys;
use crate::store::api_keys::KeyRole;
use crate::store::api_keys::KeyScope;
use crate::store::calls;
use crate::store::calls::CallFilter;
use crate::store::calls::PAGE_MAX;
use crate::store::calls::StoredCall;
use crate::store::demo::TENANT;
use crate::store::private_cluster;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::tls::TlsSettings;
use crate::types::transport::Transport;
use clap::Args;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The number the demonstration calls.
const ECHO: &str = "+15550101";
/// What it says there, in Hz.
const TONE_HZ: u16 = 440;
/// How long it talks.
const CALL_LENGTH: Duration = Duration::from_secs(3);
/// How long the record may take to reach the database.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
const RECORD_POLL: Duration = Duration::from_millis(50);
/// How long the key that is printed works.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The folder of root's demonstration: PostgreSQL runs as a user of its own then, which may not pass
/// root's home.
const ROOT_DATA_DIR: &str = "/var/lib/tandem-demo";
/// Where the system says which signals this process ignores.
const SIGNALS: &str = "/proc/self/status";
/// What can be called.
const NUMBERS: [(&str, &str); 11] = [
    ("+15550100", "receptionist: greets, listens, answers and says goodbye"),
    ("+15550101", "echo"),
    ("+15550102", "continuous tone"),
    ("+15550103", "parrot: repeats what you say; 9 ends the call"),
    ("+15550104", "rings 6 s, then the tone"),
    ("+15550105", "answers and hangs up after 3 s"),
    ("+15550106", "announcement, then hang-up"),
    ("+15550107", "tone; sends a re-INVITE after 2 s"),
    ("+15550108", "a bot of yours at ws://127.0.0.1:8765/: see examples/agents/"),
    ("+15550198", "not in service: 404"),
    ("+15550199", "of a suspended tenant: 403"),
];

/// How the demonstration runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// The address SIP is heard at, over UDP and TCP: one of 127.0.0.0/8; port 0: any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5060", value_parser = own_address)]
    pub(crate) sip: SocketAddr,
    /// SIP is heard over TLS too, with a certificate made for it, and the demo calls itself so
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true,
          default_missing_value = "127.0.0.1:5061", value_parser = own_address)]
    pub(crate) tls: Option<SocketAddr>,
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
    let made = |at: SocketAddr| SelfSigned::make(&args.data_dir, at.ip());
    let certificate = args.tls.map(made).transpose()?;
    let seal_key = seal_key::of(&args.data_dir)?;
    let config = configured(&args, &seal_key, certificate.as_ref())?;
    run::install_logging(&config)?;
    let outlives_terminal = hang_up_is_ignored(&fs::read_to_string(SIGNALS).unwrap_or_default());
    let mut signals = Signals::new()?;
    let prepared = server::prepare(&config).await.map_err(run::not_started)?;
    let seeded = store::demo::seed(prepared.database(), &args.data_dir).await;
    seeded.map_err(|error| Failure::failed("cannot fill the database").because(error))?;
    let server = server::start_on(config, prepared).await.map_err(run::not_started)?;
    output::line(&server.addresses().ready_line());
    let called = tokio::select! {
        called = call_itself(&server, certificate.as_ref()) => called,
        _ = signals.next() => Err(Failure::failed("stopped before the call was over")),
    };
    if called.is_ok() && !args.once {
        let key = key_for_today(&server).await?;
        output::line(&invitation(&server, key.expose(), certificate.as_ref()));
        serve(server, &mut signals, outlives_terminal).await;
    } else {
        server.stop(std::future::ready(())).await;
    }
    called
}

/// Serves until a signal ends it. SIGHUP says that the terminal is gone: nobody could hurry it then,
/// so it ends at once, and there is nothing to read again, for the demonstration has no file.
async fn serve(server: Server, signals: &mut Signals, outlives_terminal: bool) {
    let asked = loop {
        match signals.next().await {
            Asked::Reload if outlives_terminal => {}
            asked @ (Asked::Reload | Asked::Stop) => break asked,
        }
    };
    match asked {
        Asked::Reload => server.stop(std::future::ready(())).await,
        Asked::Stop => server.stop(async { _ = signals.next().await }).await,
    }
}

/// Whether whoever started us wants SIGHUP ignored, as `nohup` does; `status` is the system's table of
/// this process, in which the lowest bit of the mask is the first signal.
fn hang_up_is_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// The configuration of the demonstration; only logging can be changed by variables.
fn configured(
    args: &DemoArgs,
    seal_key: &Path,
    certificate: Option<&SelfSigned>,
) -> Result<Config, Failure> {
    let path = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned());
    let mut text = format!(
        "database = \"private\"\ndata_dir = {}\n\
         [[listener]]\nname = \"demo\"\nbind = \"{}\"\ntransports = [\"udp\", \"tcp\"]\n\
         [log]\nlevel = \"warn\"\n[media]\nports = [{}, {}]\nthreads = 1\n\
         [http]\nbind = \"{}\"\n\
         [agents]\nallow_networks = [\"127.0.0.0/8\", \"::1\"]\n\
         [webhooks]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\", \"::1\"]\n\
         [secrets]\nkey_ref = {}\n",
        path(&args.data_dir),
        args.sip,
        args.rtp_ports.start(),
        args.rtp_ports.end(),
        args.http,
        file_reference(seal_key),
    );
    if let Some((bind, made)) = args.tls.zip(certificate) {
        let key = file_reference(&made.key);
        text.push_str(&format!(
            "[[listener]]\nname = \"demo-tls\"\nbind = \"{bind}\"\ntransports = [\"tls\"]\n\
             tls_cert_file = {}\ntls_key_ref = {key}\n",
            path(&made.certificate)
        ));
    }
    let file = PathBuf::from("demo.toml");
    let files = Memory(BTreeMap::from([(file.clone(), text)]));
    let is_log = |(name, _): &(String, String)| name.starts_with("TANDEM_LOG_");
    let inputs = Inputs {
        config: Some(file),
        env: env::vars().filter(is_log).collect(),
        files: &files,
        secrets: configuration::secrets(),
    };
    config::load(&inputs).map_err(|problems| configuration::refuse(&problems))
}

/// How the configuration names a secret in a file.
fn file_reference(path: &Path) -> toml::Value {
    toml::Value::from(format!("file:{}", path.display()))
}

/// Calls the echo through the real socket and reads the record of that call back.
async fn call_itself(server: &Server, tls: Option<&SelfSigned>) -> Result<(), Failure> {
    let (transport, scheme, how) = match tls {
        None => (Transport::Udp, "sip", ""),
        Some(_) => (Transport::Tls, "sips", " over TLS, encrypted"),
    };
    let Some(target) = server.addresses().sip_over(transport) else {
        return Err(Failure::failed("there is no listener to call"));
    };
    let uri = format!("{scheme}:{ECHO}@{target}");
    let called = uri
        .parse()
        .map_err(|error: NotATarget| Failure::failed("cannot be called").because(error))?;
    let mut plan = CallPlan::new(called);
    plan.speech = Speech::Tone { hz: TONE_HZ };
    plan.duration = CALL_LENGTH;
    plan.needs_sound = true;
    if let Some(made) = tls {
        let authorities = vec![made.der.clone()];
        plan.tls = Arc::new(TlsSettings { authorities, ..TlsSettings::default() });
        plan.srtp = SrtpPolicy::Required;
    }
    let tone = format!("with a tone of {TONE_HZ} Hz");
    output::line(&format!("calling {ECHO} (the echo) at {target}{how}, {tone}"));
    let summary = caller::place(plan)
        .await
        .map_err(|error| Failure::failed("the call could not be placed").because(error))?;
    output::line(&report::text(&summary));
    if let Some(problem) = summary.problem {
        return Err(Failure::failed("the call failed").because(problem));
    }
    if !summary.heard.is_tone(TONE_HZ) {
        return Err(Failure::failed("the echo did not bring the tone back"));
    }
    let record = stored(server, &summary.call_id).await?;
    output::line(&format!("the record in PostgreSQL:\n{}", shown(&record)));
    match &record.media {
        Some(media) if media.packets_in > 0 && media.packets_out > 0 => Ok(()),
        _ => Err(Failure::failed("the record shows no audio both ways")),
    }
}

/// Waits for the record of a call to be closed in the database.
async fn stored(server: &Server, signalling_id: &str) -> Result<StoredCall, Failure> {
    let deadline = clock::now() + RECORD_PATIENCE;
    loop {
        let all = CallFilter::default();
        let page = calls::list(server.database(), TENANT, &all, None, PAGE_MAX).await;
        let page =
            page.map_err(|error| Failure::failed("cannot read the record").because(error))?;
        match page.calls.into_iter().find(|call| call.signalling_id == signalling_id) {
            Some(record) if record.times.ended.is_some() => return Ok(record),
            _ if clock::now() >= deadline => {
                return Err(Failure::failed("the record did not reach PostgreSQL in time"));
            }
            _ => tokio::time::sleep(RECORD_POLL).await,
        }
    }
}

/// A record as a table for people.
fn shown(record: &StoredCall) -> String {
    let mut lines = vec![
        ("call", record.id.to_string()),
        ("caller", record.caller.clone()),
        ("dialled", record.dialled.clone().unwrap_or_default()),
        ("codec", record.codec.clone().unwrap_or_default()),
        ("duration", format!("{} ms", record.duration_ms)),
        ("cause", record.cause.clone().unwrap_or_default()),
        ("ended by", record.ended_by.clone().unwrap_or_default()),
    ];
    if let Some(media) = &record.media {
        let packets = format!("{} in, {} out", media.packets_in, media.packets_out);
        lines.push(("packets", packets));
        if let Some(suite) = &media.srtp_suite {
            lines.push(("srtp", suite.clone()));
        }
        lines.push(("lost", format!("{} in", media.lost_in)));
        lines.push(("MOS", media.mos_in.map_or("-".to_owned(), |mos| format!("{mos:.2} in"))));
    }
    let line = |(name, value): (&str, String)| format!("  {name:<9} {value}");
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A key that reads the demo tenant's calls for a day.
async fn key_for_today(server: &Server) -> Result<Secret<String>, Failure> {
    let expires = clock::wall(clock::now() + KEY_LIFE);
    let scope = KeyScope::Tenant(TENANT);
    let made =
        api_keys::create(server.database(), scope, KeyRole::Viewer, "demo", Some(expires)).await;
    made.map(|made| made.key)
        .map_err(|error| Failure::failed("cannot make an API key").because(error))
}

/// How to call the demonstration.
fn invitation(server: &Server, key: &str, tls: Option<&SelfSigned>) -> String {
    let addresses = server.addresses();
    let secure = addresses.sip_over(Transport::Tls).zip(tls).map(|(sip, made)| {
        let authority = made.certificate.display();
        format!(
            "TLS, SRTP:  tandem call sips:+15550101@{sip} --ca-file {authority} --srtp --tone 440\n"
        )
    });
    let secure = secure.unwrap_or_default();
    let sip = addresses.sip_over(Transport::Udp).map_or(String::new(), |sip| sip.to_string());
    let http = addresses.http;
    let numbers = NUMBERS.map(|(number, what)| format!("  {number}  {what}")).join("\n");
    format!(
        "\nThe demonstration runs. Call it from this machine:\n{numbers}\n\
         softphone:  dial sip:+15550100@{sip} (no account; from 127.0.0.1)\n\
         baresip:    baresip -e '/dial sip:+15550101@{sip}'\n\
         test call:  tandem call sip:+15550103@{sip} --tone 440 --duration 5\n\
         digest:     tandem call sip:+15550101@{sip} --local 127.0.0.2 --user demo --password demo --tone 440\n\
         {secure}\
         SIPp:       sipp -sn uac -i 127.0.0.1 -s +15550101 -d 2000 -m 10 {sip}\n\
         records:    curl -H 'Authorization: Bearer {key}' http://{http}/api/v1/tenants/{TENANT}/calls\n\
         the same:   TANDEM_API=http://{http} TANDEM_API_KEY={key} TANDEM_TENANT={TENANT} tandem calls list\n\
         health:     curl http://{http}/readyz http://{http}/metrics\n\
         Ctrl-C ends it once running calls are over; twice, at once. So does closing the terminal, at once."
    )
}

/// An address to which calls come from one that the demo trusts: 127.0.0.1 or 127.0.0.2. From any other
/// its own call too would be a stranger's.
fn own_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write an address and a port: 127.0.0.1:5060".to_owned())?;
    let is_own = address.ip().is_ipv4() && address.ip().is_loopback();
    is_own.then_some(address).ok_or_else(|| {
        "the demo trusts this machine's 127.0.0.1 alone, so it is heard in 127.0.0.0/8 only; \
         use `tandem run` for other addresses"
            .to_owned()
    })
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

fn default_data_dir() -> PathBuf {
    if private_cluster::is_root().unwrap_or(false) {
        return PathBuf::from(ROOT_DATA_DIR);
    }
    user_data_dir(|name| env::var_os(name))
}

/// A folder of the user's, as the XDG base directories have it; else one for temporary files.
fn user_data_dir(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let path = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    path("XDG_DATA_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".local").join("share")))
        .unwrap_or_else(env::temp_dir)
        .join("tandem-demo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_a_user_lie_where_the_xdg_variables_say() {
        let with = |variables: &[(&str, &str)]| {
            let variables: BTreeMap<_, _> = variables.iter().copied().collect();
            user_data_dir(|name| variables.get(name).map(OsString::from))
        };
        let home = ("HOME", "/home/a");
        assert_eq!(with(&[home]), Path::new("/home/a/.local/share/tandem-demo"));
        assert_eq!(with(&[home, ("XDG_DATA_HOME", "/data")]), Path::new("/data/tandem-demo"));
        // A relative path is no path there.
        assert_eq!(with(&[("XDG_DATA_HOME", "data"), home]), with(&[home]));
        assert_eq!(with(&[]), env::temp_dir().join("tandem-demo"));
    }

    #[test]
    fn webhooks_of_this_machine_can_be_tried() {
        let folder = env::temp_dir().join(format!("tandem-hooks-{:016x}", clock::random_u64()));
        let args = DemoArgs {
            sip: SocketAddr::from(([127, 0, 0, 1], 5060)),
            tls: None,
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            rtp_ports: 20_000..=20_099,
            data_dir: folder.clone(),
            once: true,
        };
        let seal_key = seal_key::of(&folder).unwrap();
        let config = configured(&args, &seal_key, None).unwrap();
        let node = config.node();
        assert_eq!(node.seal_keys.len(), 1, "their secrets are sealed");
        assert!(node.webhooks.reach.http && !node.webhooks.reach.networks.is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sip_is_heard_where_trusted_callers_can_call() {
        for taken in [[127, 0, 0, 1], [127, 0, 0, 9]] {
            let address = SocketAddr::from((taken, 5070));
            assert_eq!(own_address(&address.to_string()), Ok(address));
        }
        for refused in ["0.0.0.0:5060", "192.0.2.1:5060", "[::]:5060", "[::1]:5060"] {
            let why = own_address(refused).unwrap_err();
            assert!(why.contains("`tandem run`"), "{refused}: {why}");
        }
        for unreadable in ["localhost:5060", "127.0.0.1"] {
            assert!(own_address(unreadable).is_err(), "{unreadable}");
        }
    }

    #[test]
    fn nohup_is_seen_in_the_table_of_the_process() {
        let table =
            |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(hang_up_is_ignored(&table("0000000000001001")));
        assert!(!hang_up_is_ignored(&table("0000000000001000")));
        assert!(!hang_up_is_ignored("SigBlk:\t0000000000000001\n"));
    }

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
