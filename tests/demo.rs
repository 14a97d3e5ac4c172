//! `tandem demo --once`: the whole path, by the program itself, as a newcomer runs it.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

fn demo(data_dir: &Path, rtp_ports: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["demo", "--once", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--rtp-ports", rtp_ports, "--data-dir"])
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn check(child: Child) {
    let output = child.wait_with_output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    for expected in ["\"ready\":true", "verdict   passed", "the record in PostgreSQL", "normal"] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}\n{err}");
    }
}

#[test]
fn two_demos_at_once_each_call_themselves_and_find_their_record() {
    let base = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
    let (one, two) = (base.join("one"), base.join("two"));
    let first = demo(&one, "42000-42099");
    let second = demo(&two, "42100-42199");
    check(first);
    check(second);
    // The same folder again: the database is there already.
    check(demo(&one, "42000-42099"));
    std::fs::remove_dir_all(&base).unwrap();
}
