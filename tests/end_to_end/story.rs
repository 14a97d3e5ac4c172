//! The story of `examples/`, as a newcomer runs it.

use crate::node::PATIENCE;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn the_story_of_the_examples_goes_well_on_a_switch_of_its_own() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story.py");
    let mut command = Command::new("python3");
    command.arg(script).env("TANDEM_BIN", env!("CARGO_BIN_EXE_tandem")).stdin(Stdio::null());
    for name in ["TANDEM_API", "TANDEM_API_KEY", "TANDEM_SIP"] {
        command.env_remove(name);
    }
    // A switch starts, makes a database, carries three calls and ends.
    let output = timeout(PATIENCE * 3, command.kill_on_drop(true).output()).await;
    let output = output.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for expected in [
        "a call comes in at +15550160",
        "verdict    +15550160 to Front desk",
        "hold        answered, on hold: True",
        "attach      answered",
        "record      ended by operator, interested: Wants to be called back.",
        "call.hold_begun",
        "transcript  caller: Please call me back.",
        "INVITE",
        "all of it went well",
    ] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}\n{err}");
    }
}
