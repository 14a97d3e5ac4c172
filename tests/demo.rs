//! `tandem demo`: the whole path, by the program itself, as a newcomer runs it.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tandem::store::private_cluster::PrivateCluster;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::time::timeout;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn demo(data_dir: &Path, rtp_ports: &str) -> Child {
    demo_with(data_dir, rtp_ports, &[])
}

fn demo_with(data_dir: &Path, rtp_ports: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["demo", "--once", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--rtp-ports", rtp_ports, "--data-dir"])
        .arg(data_dir)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end of a demo that went well; what it printed.
fn check(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    for expected in ["\"ready\":true", "verdict   passed", "the record in PostgreSQL", "normal"] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}\n{err}");
    }
    assert!(!out.contains("\nheaders "), "the switch sent wrong RTP:\n{out}");
    out.into_owned()
}

#[test]
fn two_demos_at_once_each_call_themselves_and_find_their_record() {
    let base = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
    let (one, two) = (base.join("one"), base.join("two"));
    let first = demo(&one, "42000-42099");
    let second = demo(&two, "42100-42199");
    check(first);
    check(second);
    // The same folder again: the database is there already. And encrypted.
    let out = check(demo_with(&one, "42000-42099", &["--tls=127.0.0.1:0"]));
    assert!(
        out.contains("over TLS, encrypted") && out.contains("AES_CM_128_HMAC_SHA1_80"),
        "{out}"
    );
    std::fs::remove_dir_all(&base).unwrap();
}

#[tokio::test]
async fn a_demo_ends_with_its_terminal_and_reads_no_configuration() {
    let base = std::env::temp_dir().join(format!("tandem-demo-hup-{}", std::process::id()));
    let data = base.join("data");
    std::fs::create_dir_all(&base).unwrap();
    std::fs::write(base.join("tandem.toml"), "no configuration at all").unwrap();
    // Whoever runs the tests may ignore SIGHUP, which a child inherits and the demo then honours.
    let mut child = tokio::process::Command::new("env")
        .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_tandem")])
        .args(["demo", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--rtp-ports", "42200-42299", "--data-dir"])
        .arg(&data)
        .current_dir(&base)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let invited = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Ctrl-C ends it") {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, invited).await.unwrap(), "it ended before it was ready");
    let process = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &process]).status().unwrap().success());
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(!err.contains("configuration"), "{err}");
    assert!(PrivateCluster::running(&data).is_none(), "PostgreSQL was left running");
    std::fs::remove_dir_all(&base).unwrap();
}
