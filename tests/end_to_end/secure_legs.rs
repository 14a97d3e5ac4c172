//! Calls that go on to baresip over TLS with SRTP: placed, forwarded, and to an agent behind a SIP address.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::kamailio::own_address;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::rows;
use crate::srtp::AGENT_HZ;
use crate::srtp::assert_tone;
use crate::srtp::decoded;
use crate::srtp::write_tone;
use crate::talk;
use crate::talk::Talk;
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

/// What baresip says, in Hz.
const BARESIP_HZ: u16 = 440;
/// Numbers whose calls are forwarded, and taken by an agent behind a SIP address.
const FORWARDED: &str = "+15550111";
const AGENTS: &str = "+15550112";

/// baresip that answers every call to [`CALLED`] over TLS, and takes no media in the clear.
async fn baresip(home: &Home) -> (Child, SocketAddr) {
    let folder = home.folder();
    let address = SocketAddr::new(own_address(), 5061);
    let made = rcgen::generate_simple_self_signed([address.ip().to_string()]).unwrap();
    home.write("peer.pem", &made.cert.pem());
    home.write("peer-and-key.pem", &(made.cert.pem() + &made.signing_key.serialize_pem()));
    write_tone(&folder.join("said.wav"));
    // The account names the encryption, so that has to be there before it.
    let modules = ["srtp", "account", "menu", "g711", "aufile", "sndfile", "uuid"];
    let modules: String = modules.iter().map(|name| format!("module {name}.so\n")).collect();
    home.write(
        "baresip/config",
        &format!(
            "module_path /usr/lib/baresip/modules\n{modules}sip_listen {}:5060\n\
             sip_certificate {}\naudio_source aufile,{}\nsnd_path {}\n",
            address.ip(),
            folder.join("peer-and-key.pem").display(),
            folder.join("said.wav").display(),
            folder.display(),
        ),
    );
    let account = format!(
        "<sip:{CALLED}@{address};transport=tls>;regint=0;answermode=auto;mediaenc=srtp-mand\n"
    );
    home.write("baresip/accounts", &account);
    home.write("baresip/contacts", "");
    let mut command = Command::new("baresip");
    command.args(["-4", "-f"]).arg(folder.join("baresip"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let child = command.spawn().expect("baresip is installed");
    wait_for("baresip listens", async || TcpStream::connect(address).await.ok()).await;
    (child, address)
}

/// A node whose calls out go to baresip, encrypted; its callers speak in the clear.
async fn node() -> (Node, Child) {
    let mut home = Home::new();
    let (child, address) = baresip(&home).await;
    // An agent's certificate has to be of an authority that the machine trusts.
    home.point("SSL_CERT_FILE", "peer.pem");
    let node = home.start().await;
    let secure = json!({
        "inbound": {"enabled": false},
        "outbound": {"gateway": [{"name": "baresip", "dns": "fixed",
                                  "uri": format!("sip:{address};transport=tls")}]},
        "tls": {"verify": "pin", "ca_file": "peer.pem"},
        "srtp": {"policy": "required"},
    });
    let agent = json!({"kind": "sip", "srtp": "required",
                       "uri": format!("sip:{CALLED}@{address};transport=tls")});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[], secure),
        rows::trunk(5, "127.0.0.1/32"),
        carrier::tenant(1, 4),
        rows::profile(6, 1, json!({"kind": "tone", "hz": AGENT_HZ})),
        rows::profile(7, 1, json!({"kind": "forward", "to": CALLED})),
        rows::profile(8, 1, agent),
        rows::number(9, 1, 6, NUMBER),
        rows::number(10, 1, 7, FORWARDED),
        rows::number(11, 1, 8, AGENTS),
    ])
    .await;
    (node, child)
}

#[tokio::test]
async fn calls_go_on_to_baresip_by_tls_and_srtp() {
    let (node, _baresip) = node().await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    // Three seconds of what baresip hears.
    let heard = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 48_000);
    wait_for("baresip hears the agent", async || {
        decoded(node.home.folder()).iter().any(heard).then_some(())
    })
    .await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "normal", "{}", steps(&record));
    let encrypted = format!(
        "SELECT count(*) FROM calls WHERE id = '{call}' \
         AND srtp_suite = 'AES_CM_128_HMAC_SHA1_80' AND packets_in > 50 AND packets_out > 50"
    );
    assert_eq!(node.count(&encrypted).await, 1, "{record}");
    let files = wait_for("baresip closes its file", async || {
        let heard = decoded(node.home.folder());
        let read = |path| hound::WavReader::open(path).ok().filter(|wav| wav.len() > 8_000);
        heard.into_iter().find_map(read)
    });
    let samples: Vec<i16> = files.await.samples().map(|sample| sample.unwrap()).collect();
    assert_tone(&samples);

    for number in [FORWARDED, AGENTS] {
        let mut talk = Talk::answered(talk::plan(node.sip(), number)).await;
        talk.hear(150).await;
        let summary = talk.hang_up().await;
        assert_eq!(summary.problem, None, "{number}");
        assert!(summary.heard.is_tone(BARESIP_HZ), "{number}: {summary:?}");
        let record = node.record(&summary.call_id).await;
        assert_eq!((record.cause.as_str(), record.agent_failure), ("normal", None), "{number}");
    }
}
