//! Encrypted media with the test caller, and with baresip's SRTP.

use crate::carrier::calls;
use crate::carrier::key;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tandem::audio::tone::Tone;
use tandem::audio::tone::share_at;
use tandem::caller::CallProblem;
use tandem::store::api_keys::KeyRole;
use tandem::types::srtp::SrtpPolicy;
use tandem::types::srtp::SrtpSuite;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550190";
/// What the agent says, in Hz.
pub(crate) const AGENT_HZ: u16 = 600;
const NAME: &str = "sip.example.com";
const BARESIP_SUITE: &str = "AES_CM_128_HMAC_SHA1_80";
/// baresip sends two RTCP packets in the clear, which the switch does not believe: an `APP` called
/// `PING` that opens the way, when its SRTP is not up yet, and after its SIP `BYE`, when its SRTP is gone
/// already, an RTCP `BYE` with the reason "Adjo", which a capture shows and which meets a session that
/// is not closed yet.
const BARESIP_CLEAR_MAX: i64 = 2;

/// A node whose trunk has this table of SRTP and takes calls over these transports.
async fn node(srtp: Value, transports: &[&str]) -> Node {
    let listener = format!(
        "transports = {}\ntls_cert_file = \"sip.pem\"\ntls_key_ref = \"file:sip.key\"\n",
        json!(transports)
    );
    let home = Home::with("127.0.0.1:0", 100, &listener);
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    home.write("sip.key", &made.signing_key.serialize_pem());
    home.write("sip.pem", &made.cert.pem());
    let node = home.start().await;
    let inbound = json!({"source_cidrs": ["127.0.0.1"], "transports": transports});
    let agent = json!({"kind": "tone", "hz": AGENT_HZ});
    node.put(&[
        rows::tenant(1, 0),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
        rows::trunk_with(4, json!({"inbound": inbound, "srtp": srtp})),
    ])
    .await;
    node
}

/// Calls with this policy; how it was refused, or the suite by the caller and by the call's record.
async fn call(node: &Node, policy: SrtpPolicy, suite: SrtpSuite) -> Result<&'static str, String> {
    let mut plan = talk::plan(node.listener("public", "udp"), NUMBER);
    plan.srtp = policy;
    plan.srtp_suites = vec![suite];
    plan.duration = Duration::from_millis(1_500);
    let summary = Talk::dial(plan).over().await;
    if let Some(CallProblem::Refused { status, reason, .. }) = &summary.problem {
        return Err(format!("{status} {}", reason.clone().unwrap_or_default()));
    }
    assert_eq!(summary.problem, None);
    assert_eq!(summary.media.refused, 0);
    assert!(summary.heard.is_tone(AGENT_HZ), "{summary:?}");
    let suite = summary.media.srtp.map_or("none", SrtpSuite::as_str);
    recorded(node, suite, 0, &format!("AND signalling_id = '{}'", summary.call_id)).await;
    Ok(suite)
}

/// Waits for the record of a call, whose packets were encrypted by `suite`, and all but so many of
/// the caller's believed.
async fn recorded(node: &Node, suite: &str, refused_max: i64, which: &str) {
    let closed = format!("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL {which}");
    wait_for("the call is recorded", async || (node.count(&closed).await == 1).then_some(())).await;
    let figure = async |name| {
        node.count(&format!("SELECT {name} FROM calls WHERE ended_at IS NOT NULL {which}")).await
    };
    let of_suite = format!("{closed} AND coalesce(srtp_suite, 'none') = '{suite}'");
    assert_eq!(node.count(&of_suite).await, 1, "{suite}");
    let (received, sent) = (figure("packets_in").await, figure("packets_out").await);
    assert!(received > 20 && sent > 20, "{received} packets from the caller, {sent} to it");
    let refused = figure("srtp_refused").await;
    assert!(refused <= refused_max, "{refused} packets refused");
}

#[tokio::test]
async fn media_is_encrypted_where_the_trunk_wants_it() {
    let suites: Vec<&str> = SrtpSuite::ALL.iter().map(|suite| suite.as_str()).collect();
    let srtp =
        json!({"policy": "required", "needs_tls_signalling": false, "accept_suites": suites});
    let node = node(srtp, &["udp"]).await;
    for suite in SrtpSuite::ALL {
        let agreed = call(&node, SrtpPolicy::Required, suite).await;
        assert_eq!(agreed, Ok(suite.as_str()));
    }
    let agreed = call(&node, SrtpPolicy::Optional, SrtpSuite::AesCm128HmacSha1_32).await;
    assert_eq!(agreed, Ok("AES_CM_128_HMAC_SHA1_32"), "RTP/AVP with a key");
    let plain = call(&node, SrtpPolicy::Off, SrtpSuite::AesCm128HmacSha1_80).await.unwrap_err();
    assert!(plain.starts_with("488 ") && plain.contains("srtp_mismatch"), "{plain}");
}

#[tokio::test]
async fn a_trunk_without_srtp_and_one_that_wants_tls_for_it_refuse_keys() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let off = node(json!({}), &["udp"]).await;
    let refused = call(&off, SrtpPolicy::Required, suite).await.unwrap_err();
    assert!(refused.starts_with("488 ") && refused.contains("srtp_mismatch"), "{refused}");
    assert_eq!(call(&off, SrtpPolicy::Optional, suite).await, Ok("none"));
    drop(off);
    let optional = node(json!({"policy": "optional"}), &["udp"]).await;
    let refused = call(&optional, SrtpPolicy::Required, suite).await.unwrap_err();
    assert!(refused.starts_with("488 ") && refused.contains("srtp_mismatch"), "{refused}");
    assert_eq!(call(&optional, SrtpPolicy::Optional, suite).await, Ok("none"));
}

/// That packets roll over while a call is held is tried in virtual time (`the_roc_survives_hold`): here it might take
/// twenty minutes.
#[tokio::test]
async fn new_offers_for_a_hold_and_its_end_leave_the_keys_of_a_call_as_they_were() {
    let srtp = json!({"policy": "required", "needs_tls_signalling": false});
    let node = node(srtp, &["udp"]).await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let mut plan = talk::plan(node.listener("public", "udp"), NUMBER);
    plan.srtp = SrtpPolicy::Required;
    let mut talk = Talk::answered(plan).await;
    talk.hear(20).await;
    let running = node.read(&calls(1, "?live=true"), &key).await;
    let call = running["calls"][0]["id"].as_str().unwrap();
    for order in ["hold", "resume"] {
        let path = calls(1, &format!("/{call}/{order}"));
        let answer = node.post(&path, &key, &json!({})).await;
        assert_eq!(answer.status, 200, "{order}: {}", answer.body);
        talk.hear(50).await;
    }
    let summary = talk.hang_up().await;
    assert_eq!((summary.problem.as_ref(), summary.reinvites), (None, 2), "{summary:?}");
    assert_eq!(summary.media.refused, 0, "{summary:?}");
    assert!(summary.heard.is_tone(AGENT_HZ), "{summary:?}");
    recorded(&node, "AES_CM_128_HMAC_SHA1_80", 0, "").await;
}

/// Ten seconds of a tone: baresip's own generator does not speak at 8 kHz.
pub(crate) fn write_tone(path: &Path) {
    let (channels, bits_per_sample, sample_format) = (1, 16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels, sample_rate: 8_000, bits_per_sample, sample_format };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    let mut tone = Tone::new(440, 8_000);
    for _ in 0..80_000 {
        wav.write_sample(tone.sample()).unwrap();
    }
    wav.finalize().unwrap();
}

/// Lets baresip call for a few seconds over a transport, with mandatory SRTP; returns what it heard.
async fn baresip(node: &Node, transport: &str) -> Vec<i16> {
    let folder = node.home.folder();
    let address = node.listener("public", transport);
    // The account names the encryption, so that has to be there before it.
    let modules = ["srtp", "account", "menu", "g711", "aufile", "sndfile", "uuid"];
    write_tone(&folder.join("said.wav"));
    let modules: String = modules.iter().map(|name| format!("module {name}.so\n")).collect();
    node.home.write(
        "baresip/config",
        &format!(
            "module_path /usr/lib/baresip/modules\n{modules}sip_listen 127.0.0.1:0\n\
             sip_verify_server yes\nsip_cafile {}\naudio_source aufile,{}\nsnd_path {}\n",
            folder.join("sip.pem").display(),
            folder.join("said.wav").display(),
            folder.display(),
        ),
    );
    let account =
        format!("<sip:caller@127.0.0.1;transport={transport}>;regint=0;mediaenc=srtp-mand\n");
    node.home.write("baresip/accounts", &account);
    node.home.write("baresip/contacts", "");
    let mut command = Command::new("baresip");
    command.args(["-4", "-f"]).arg(folder.join("baresip"));
    command.args(["-t", "4", "-e", &format!("/dial sip:{NUMBER}@{address};transport={transport}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("baresip is installed");
    timeout(PATIENCE, child.wait()).await.expect("baresip ends").unwrap();
    let heard = decoded(folder).pop().expect("it was answered");
    let mut wav = hound::WavReader::open(heard).unwrap();
    wav.samples().map(|sample| sample.unwrap()).collect()
}

/// What baresip's decoder made of what came, a file for each call.
pub(crate) fn decoded(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).collect()
}

/// The second before the last sample was the agent's tone.
pub(crate) fn assert_tone(heard: &[i16]) {
    let tail = &heard[heard.len().saturating_sub(8_000)..];
    assert!(tail.len() >= 4_000, "{} samples", heard.len());
    assert!(share_at(&tail[..4_000], AGENT_HZ) > 0.8);
}

#[tokio::test]
async fn baresip_and_the_switch_understand_each_other_encrypted() {
    let srtp = json!({"policy": "required", "needs_tls_signalling": false});
    let node = node(srtp, &["udp"]).await;
    assert_tone(&baresip(&node, "udp").await);
    // The first of baresip's suites that the trunk accepts.
    recorded(&node, BARESIP_SUITE, BARESIP_CLEAR_MAX, "").await;
}

#[tokio::test]
async fn baresip_calls_with_tls_and_srtp() {
    let node = node(json!({"policy": "required"}), &["tls"]).await;
    assert_tone(&baresip(&node, "tls").await);
    // The first of baresip's suites that the trunk accepts.
    recorded(&node, BARESIP_SUITE, BARESIP_CLEAR_MAX, "").await;
}

#[tokio::test]
async fn the_command_calls_over_tls_whom_the_certificate_proves_and_encrypts() {
    let node = node(json!({"policy": "required"}), &["tls"]).await;
    let mut other = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    other.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    node.home.write("other.pem", &other.pem());
    let uri = format!("sips:{NUMBER}@{}", node.listener("public", "tls"));
    let call = async |more: &[&str]| {
        let args = ["call", &uri, "--duration", "1.5", "--require-sound"];
        node.ask("", &[&args[..], more].concat()).await
    };
    let proven = ["--ca-file", "sip.pem", "--server-name", NAME];
    let said = call(&[&proven[..], &["--srtp"]].concat()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("AES_CM_128_HMAC_SHA1_80"), "{said:?}");
    assert!(!said.out.contains("\nheaders "), "{said:?}");
    let said = call(&proven).await;
    assert!(said.code == Some(1) && said.out.contains("srtp_mismatch"), "{said:?}");
    for (proof, words) in [
        (["--ca-file", "sip.pem", "--server-name", "other.example.com"], "--server-name says whom"),
        (["--ca-file", "other.pem", "--server-name", NAME], "--ca-file names the authority"),
    ] {
        let said = call(&proof).await;
        assert!(said.code == Some(1) && said.err.contains(words), "{said:?}");
    }
}
