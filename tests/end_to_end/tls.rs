//! SIP over TLS with peers of other make: OpenSSL's client and baresip.

use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550190";
const NAME: &str = "sip.example.com";

/// Puts a new certificate that proves [`NAME`] and its key into the folder.
fn renew(home: &Home) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    home.write("sip.key", &made.signing_key.serialize_pem());
    home.write("sip.pem", &made.cert.pem());
}

/// A node that speaks TLS alone, on a free port of 127.0.0.1.
async fn secure_node() -> Node {
    let more =
        "transports = [\"tls\"]\ntls_cert_file = \"sip.pem\"\ntls_key_ref = \"file:sip.key\"\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    renew(&home);
    let node = home.start().await;
    let overrides = json!({"inbound": {"source_cidrs": ["127.0.0.1"], "transports": ["tls"]}});
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, overrides),
    ])
    .await;
    node
}

/// OpenSSL as a client.
struct Client {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

fn openssl(address: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", NAME]);
    command.args(["-servername", NAME, "-connect", &address.to_string(), "-CAfile", "sip.pem"]);
    command.current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

impl Client {
    fn connect(address: SocketAddr, folder: &Path, options: &[&str]) -> Self {
        let mut child = openssl(address, folder).args(options).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, input, output }
    }

    /// Asks for the options; the status line of the answer, or nothing when there is no connection.
    async fn options(&mut self, number: u32) -> Option<String> {
        let request = format!(
            "OPTIONS sip:{NAME} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKo{number}\r\n\
             From: <sip:a@{NAME}>;tag=1\r\nTo: <sip:{NAME}>\r\nCall-ID: o{number}\r\n\
             CSeq: {number} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        // A connection that is gone shows when it is read.
        self.input.write_all(request.as_bytes()).await.ok();
        let status = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                if line.starts_with("SIP/2.0 ") {
                    return Some(line);
                }
            }
            None
        };
        timeout(PATIENCE, status).await.expect("an answer, or the end")
    }
}

#[tokio::test]
async fn openssl_reaches_the_switch_by_tls_1_2_and_1_3_and_by_nothing_older() {
    let node = secure_node().await;
    let (address, folder) = (node.listener("public", "tls"), node.home.folder());
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Client::connect(address, folder, &[version]);
        assert_eq!(client.options(1).await.as_deref(), Some("SIP/2.0 200 OK"), "{version}");
    }
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    assert_eq!(Client::connect(address, folder, &old).options(1).await, None);
    let refused = "sip_handshakes_failed_total{why=\"tls_nothing_in_common\"}";
    wait_for("it is counted", async || (node.metric(refused).await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_without_cutting_a_connection() {
    let node = secure_node().await;
    let (address, folder) = (node.listener("public", "tls"), node.home.folder());
    let mut old = Client::connect(address, folder, &[]);
    assert_eq!(old.options(1).await.as_deref(), Some("SIP/2.0 200 OK"));
    renew(&node.home);
    node.signal("HUP");
    // A new connection believes nobody but the new certificate.
    let works = async || Client::connect(address, folder, &[]).options(2).await;
    let status = wait_for("the new certificate is shown", works).await;
    assert_eq!(status, "SIP/2.0 200 OK");
    assert_eq!(old.options(3).await.as_deref(), Some("SIP/2.0 200 OK"), "the old one goes on");
}

#[tokio::test]
async fn a_signal_brings_another_certificate_into_force_without_cutting_a_connection() {
    let node = secure_node().await;
    let (address, folder) = (node.listener("public", "tls"), node.home.folder());
    let mut old = Client::connect(address, folder, &[]);
    assert_eq!(old.options(1).await.as_deref(), Some("SIP/2.0 200 OK"));
    // Files of other names: whoever watches those in force sees no change.
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    node.home.write("other.key", &made.signing_key.serialize_pem());
    node.home.write("other.pem", &made.cert.pem());
    let text = fs::read_to_string(folder.join("tandem.toml")).unwrap();
    let other = text.replace("sip.pem", "other.pem").replace("sip.key", "other.key");
    assert_ne!(other, text);
    node.home.write("tandem.toml", &other);
    node.signal("HUP");
    let believing = |authority| {
        let mut client = Client::connect(address, folder, &["-CAfile", authority]);
        async move { client.options(2).await }
    };
    let works = async || believing("other.pem").await;
    let status = wait_for("the other certificate is shown", works).await;
    assert_eq!(status, "SIP/2.0 200 OK");
    assert_eq!(believing("sip.pem").await, None, "the first one is shown no more");
    assert_eq!(old.options(3).await.as_deref(), Some("SIP/2.0 200 OK"), "the old one goes on");
}

/// Ten seconds of a hum, to be said.
fn voice(folder: &Path) -> PathBuf {
    let path = folder.join("voice.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&path, spec).unwrap();
    for sample in 0..80_000_i32 {
        file.write_sample((sample % 40) as i16 * 100).unwrap();
    }
    file.finalize().unwrap();
    path
}

#[tokio::test]
async fn a_call_by_the_command_proves_who_it_is_where_that_is_asked_for() {
    let more = "transports = [\"tls\"]\ntls_cert_file = \"sip.pem\"\ntls_key_ref = \"file:sip.key\"\n\
                tls_client_certs = \"require\"\ntls_client_ca_file = \"caller.pem\"\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    renew(&home);
    let caller = rcgen::generate_simple_self_signed(["caller.example".to_owned()]).unwrap();
    home.write("caller.key", &caller.signing_key.serialize_pem());
    home.write("caller.pem", &caller.cert.pem());
    let node = home.start().await;
    let client = json!({"required": true, "san": ["caller.example"]});
    let overrides = json!({"inbound": {"source_cidrs": ["127.0.0.1"], "transports": ["tls"],
                                       "tls_client": client}});
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, overrides),
    ])
    .await;
    let uri = format!("sips:{NUMBER}@{}", node.listener("public", "tls"));
    let call = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.current_dir(node.home.folder()).args(["call", &uri, "--duration", "1"]);
        command.args(["--ca-file", "sip.pem", "--server-name", NAME]).args(more);
        command.stdin(Stdio::null()).kill_on_drop(true);
        async move { timeout(PATIENCE, command.output()).await.expect("it ends").unwrap() }
    };
    let said = call(&["--cert-file", "caller.pem", "--key-file", "caller.key"]).await;
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    let said = call(&[]).await;
    assert_eq!(said.status.code(), Some(1), "without a certificate");
    let said = call(&["--cert-file", "caller.pem", "--key-file", "caller.pem"]).await;
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(2) && why.contains("--key-file: caller.pem"), "{why}");
}

#[tokio::test]
async fn baresip_calls_by_tls() {
    let node = secure_node().await;
    let folder = node.home.folder();
    let address = node.listener("public", "tls");
    let modules = ["account", "menu", "g711", "aufile", "uuid"];
    let modules: String = modules.iter().map(|name| format!("module {name}.so\n")).collect();
    node.home.write(
        "baresip/config",
        &format!(
            "module_path /usr/lib/baresip/modules\n{modules}sip_listen 127.0.0.1:0\n\
             sip_verify_server yes\nsip_cafile {}\naudio_source aufile,{}\n\
             audio_player aufile,{}\n",
            folder.join("sip.pem").display(),
            voice(folder).display(),
            folder.join("heard.wav").display(),
        ),
    );
    node.home.write("baresip/accounts", "<sip:caller@127.0.0.1;transport=tls>;regint=0\n");
    node.home.write("baresip/contacts", "");
    let mut baresip = Command::new("baresip");
    baresip.args(["-4", "-s", "-f"]).arg(folder.join("baresip"));
    baresip.args(["-t", "30", "-e", &format!("/dial sip:{NUMBER}@{address};transport=tls")]);
    baresip.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = baresip.spawn().expect("baresip is installed");
    let answered = "SELECT count(*) FROM calls WHERE answered_at IS NOT NULL";
    let heard = "media_packets_received_total";
    wait_for("baresip's call is answered and heard", async || {
        (node.count(answered).await == 1 && node.metric(heard).await > 20).then_some(())
    })
    .await;
    drop(child.stdin.take());
    child.start_kill().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.contains("SIP/2.0 200 OK") || said.contains("answered"), "{said}");
}
