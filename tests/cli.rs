//! The program's commands as a user types them: what they print and what they exit with.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-cli-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        let made = path.parent().map(fs::create_dir_all);
        assert!(matches!(made, None | Some(Ok(()))), "{made:?}");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What a command said: exit code, standard output, standard error.
#[derive(Debug, PartialEq, Eq)]
struct Said(Option<i32>, String, String);

fn tandem(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.current_dir(folder).env_clear().envs(env.iter().copied()).args(args);
    let output = command.output().unwrap_or_else(|error| panic!("tandem does not start: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said(output.status.code(), text(output.stdout), text(output.stderr))
}

const NODE: &str = r#"
database = "postgres://tandem:hunter2@db.invalid/tandem"

[[listener]]
name = "public"
bind = "127.0.0.1:0"
"#;

const TRUNK: &str = r#"
schema_version = 1
id = "acme"
extends = ["generic"]
enabled = true

[network]
remote_media_cidrs = ["192.0.2.0/24"]

[inbound]
source_cidrs = ["192.0.2.10/32"]

[limits]
channels_in = 10
"#;

#[test]
fn a_right_configuration_is_summed_up() {
    let folder = Folder::new("right");
    folder.write("tandem.toml", NODE);
    folder.write("sip-profiles/acme.toml", TRUNK);
    let said = tandem(&folder.0, &[], &["check"]);
    let summary = "\
configuration  tandem.toml
database       by address
listener       public 127.0.0.1:0 udp tcp
profiles       10, 1 of them live trunks
trunk          acme
no problem found
";
    assert_eq!(said, Said(Some(0), summary.into(), String::new()));
}

#[test]
fn every_problem_is_printed_with_its_place_and_the_exit_code_is_2() {
    let folder = Folder::new("wrong");
    folder.write("tandem.toml", "databse = \"private\"\n[media]\nports = [1, 2]\n");
    folder.write("sip-profiles/acme.toml", &TRUNK.replace("channels_in = 10", "channels_in = -1"));
    let Said(code, out, err) = tandem(&folder.0, &[], &["check"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for place in ["tandem: ", "tandem.toml:1:1: ", "tandem.toml:3:", "sip-profiles/acme.toml:14:"] {
        assert!(err.contains(place), "{place} is not in:\n{err}");
    }
    assert!(err.contains("`database`"), "no hint at the right spelling in:\n{err}");
}

#[test]
fn a_folder_of_profiles_is_checked_alone() {
    let folder = Folder::new("folder");
    folder.write("mine/acme.toml", TRUNK);
    let summary =
        "profiles       10, 1 of them live trunks\ntrunk          acme\nno problem found\n";
    // One of them stands for its folder: alone it may lack what it extends.
    for path in ["mine", "mine/acme.toml"] {
        let Said(code, out, _) = tandem(&folder.0, &[], &["check", path]);
        assert_eq!((code, out.as_str()), (Some(0), summary), "{path}");
    }
    let Said(code, out, _) = tandem(&folder.0.join("mine"), &[], &["check", "acme.toml"]);
    assert_eq!((code, out.as_str()), (Some(0), summary));
}

#[test]
fn the_printed_configuration_hides_secrets_and_shows_variables() {
    let folder = Folder::new("print");
    folder.write("tandem.toml", NODE);
    let env = [("TANDEM_LIMITS_CALLS", "40"), ("TANDEM_MEDIA_PORTS", "20000-20999")];
    let Said(code, out, err) = tandem(&folder.0, &env, &["print-config"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("database = \"postgres://tandem:***@db.invalid/tandem\""), "{out}");
    assert!(out.contains("[limits]\ncalls = 40\n"), "{out}");
    assert!(out.contains("ports = [20000, 20999]"), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
}

#[test]
fn the_variable_names_the_configuration_file() {
    let folder = Folder::new("variable");
    folder.write("elsewhere.toml", NODE);
    let said = tandem(&folder.0, &[("TANDEM_CONFIG", "elsewhere.toml")], &["check"]);
    assert!(said.1.starts_with("configuration  elsewhere.toml\n"), "{said:?}");
    let missing = tandem(&folder.0, &[], &["print-config", "--config", "missing.toml"]);
    assert_eq!(missing.0, Some(2));
    assert!(missing.2.contains("missing.toml"), "{missing:?}");
}

#[test]
fn what_cannot_run_is_not_said_to_be_without_a_problem() {
    let folder = Folder::new("not-runnable");
    folder.write("tandem.toml", "data_dir = \"data\"\n");
    let Said(code, out, err) = tandem(&folder.0, &[], &["check"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("not runnable   no database is configured"), "{out}");
    assert!(out.contains("not runnable   no listener is configured"), "{out}");
    assert!(out.ends_with("\nno other problem found\n"), "{out}");
}

#[test]
fn run_without_a_database_exits_2() {
    let folder = Folder::new("run");
    let Said(code, _, err) = tandem(&folder.0, &[], &["run"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("no database is configured"), "{err}");
}

#[test]
fn migrate_without_a_database_exits_2() {
    let folder = Folder::new("migrate");
    let Said(code, _, err) = tandem(&folder.0, &[], &["migrate"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("no database is configured"), "{err}");
}

#[test]
fn looking_at_a_private_database_that_never_was_makes_none() {
    let folder = Folder::new("look");
    let env = [("TANDEM_DATABASE", "private"), ("TANDEM_DATA_DIR", "data")];
    let Said(code, out, err) = tandem(&folder.0, &env, &["migrate", "--check"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("data holds no database"), "{err}");
    assert!(!folder.0.join("data").exists());
}

#[test]
fn wrong_arguments_exit_2_and_help_exits_0() {
    let folder = Folder::new("arguments");
    for args in [
        &["fly"][..],
        &[],
        &["explain", "--from", "1"],
        &["explain", "--from", "1", "--to", "2", "--source", "here"],
        &["explain", "--from", "1", "--to", "2", "--source", "192.0.2.1", "--header", "x"],
        &["demo", "--rtp-ports", "7-3"],
        &["check", "--verbose"],
    ] {
        assert_eq!(tandem(&folder.0, &[], args).0, Some(2), "{args:?}");
    }
    assert_eq!(tandem(&folder.0, &[], &["--help"]).0, Some(0));
    let version = concat!("tandem ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(tandem(&folder.0, &[], &["version"]), Said(Some(0), version.into(), String::new()));
}

/// What a node wrote that had one tenant, one AI profile and two numbers.
const COPY: &str = r#"{"head":{"version":1}}
{"tenant":{"id":"01900000-0000-7000-8000-000000000001","name":"Demo","status":"active","calls_max":0,"cps_max":0,"default_profile":"01900000-0000-7000-8000-000000000002"}}
{"ai_profile":{"id":"01900000-0000-7000-8000-000000000002","tenant_id":"01900000-0000-7000-8000-000000000001","name":"echo","agent":{"kind":"echo"}}}
{"number":{"id":"01900000-0000-7000-8000-000000000003","tenant_id":"01900000-0000-7000-8000-000000000001","first_number":"+15550101","last_number":"+15550101","trunk_id":null,"ai_profile_id":null,"is_active":true}}
{"number":{"id":"01900000-0000-7000-8000-000000000004","tenant_id":"01900000-0000-7000-8000-000000000001","first_number":"+15550198","last_number":"+15550198","trunk_id":null,"ai_profile_id":null,"is_active":false}}
{"end":{"rows":4}}
"#;

fn explain(folder: &Folder, to: &str, source: &str) -> Said {
    let args = ["explain", "--from", "+15550200", "--to", to, "--source", source];
    tandem(&folder.0, &[], &args)
}

#[test]
fn a_call_is_explained_from_the_copy_of_the_database() {
    let folder = Folder::new("explain");
    folder.write("tandem.toml", "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n");
    folder.write("sip-profiles/acme.toml", TRUNK);
    folder.write("data/routing-table.jsonl", COPY);
    let Said(code, out, err) = explain(&folder, "0015550101", "192.0.2.10");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let steps: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(steps.first(), Some(&"table"), "{out}");
    assert_eq!(steps.last(), Some(&"verdict"), "{out}");
    assert!(
        out.contains(
            "data/routing-table.jsonl\nsource     192.0.2.10 over udp at listener public\n"
        )
    );
    assert!(out.contains("acme: matches\n"), "{out}");
    assert!(out.contains("`0015550101` is +15550101"), "{out}");
}

#[test]
fn a_call_that_would_be_refused_says_why_and_exits_1() {
    let folder = Folder::new("refused");
    folder.write("tandem.toml", "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n");
    folder.write("sip-profiles/acme.toml", TRUNK);
    folder.write("data/routing-table.jsonl", COPY);
    for (to, source, why) in [
        ("+15550198", "192.0.2.10", "404 number_inactive"),
        ("+15550177", "192.0.2.10", "404 unknown_number"),
        ("+15550101", "198.51.100.1", "no trunk takes it"),
    ] {
        let Said(code, out, err) = explain(&folder, to, source);
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.contains(why), "{why} is not in: {err}");
        assert!(out.contains("\nverdict "), "{out}");
    }
}

/// The same trunk, calling out; its identity follows from its name.
const TRUNK_OUT: &str = r#"schema_version = 1
id = "acme"
extends = ["generic"]
enabled = true
[network]
remote_media_cidrs = ["192.0.2.0/24"]
[inbound]
source_cidrs = ["192.0.2.0/24"]
[outbound]
enabled = true
request_host = "acme.pstn.example"
gateway = [{ name = "edge", uri = "sip:edge.example;transport=tcp" }]
[headers]
outbound_set = [{ name = "X-Token", value_ref = "env:ACME_TOKEN" }]
[security]
allow_destinations = ["+1"]
"#;

#[test]
fn a_call_out_is_explained_down_to_its_invite() {
    let folder = Folder::new("explain-out");
    folder.write("tandem.toml", "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n");
    folder.write("sip-profiles/acme.toml", TRUNK_OUT);
    let way_out =
        "\"outbound_trunk_id\":\"696f830b-f275-8277-b806-e97647dee137\",\"name\":\"Demo\"";
    folder.write("data/routing-table.jsonl", &COPY.replace("\"name\":\"Demo\"", way_out));
    let ask = |from: &str, to: &str| {
        let args = ["explain", "--outbound", "--from", from, "--to", to];
        tandem(&folder.0, &[("ACME_TOKEN", "hunter2")], &args)
    };
    let Said(code, out, err) = ask("+15550101", "+15557654321");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for line in [
        "trunk      acme, the tenant's default\n",
        "caller     +15550101\n",
        "send       edge to edge.example over tcp (srv)\n",
        "invite     INVITE sip:+15557654321@acme.pstn.example\n",
        "invite     P-Asserted-Identity: <sip:+15550101@edge.example>\n",
        "invite     X-Token: ***\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let Said(code, out, err) = ask("+15550101", "+19005551234");
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("the call would not be placed: destination_denied"), "{err}");
    assert!(out.contains("+19005551234 is denied by +1900"), "{out}");
    // A number that is not in service is nobody's to show, one that is not ours is nobody's at all.
    assert!(ask("+15550198", "+15557654321").2.contains("caller_id_denied"));
    assert_eq!(ask("+15550999", "+15557654321").0, Some(2));
}

#[test]
fn a_broken_copy_of_the_database_is_no_empty_table() {
    let folder = Folder::new("broken");
    folder.write("tandem.toml", "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n");
    folder.write("data/routing-table.jsonl", COPY.split("{\"end\"").next().unwrap_or_default());
    let Said(code, _, err) = explain(&folder, "+15550101", "192.0.2.10");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("the end is missing"), "{err}");
}

#[test]
fn a_listener_that_is_not_configured_cannot_be_asked_about() {
    let folder = Folder::new("listener");
    folder.write("tandem.toml", "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n");
    let args =
        ["explain", "--from", "1", "--to", "2", "--source", "192.0.2.1", "--listener", "lan"];
    let Said(code, _, err) = tandem(&folder.0, &[], &args);
    assert_eq!((code, err.as_str()), (Some(2), "tandem: there is no listener `lan`\n"));
}

#[test]
fn a_profile_is_certified_against_its_carrier() {
    let folder = Folder::new("certify");
    let shipped = tandem(&folder.0, &[], &["certify", "twilio"]);
    assert_eq!(shipped.0, Some(0), "{shipped:?}");
    assert!(
        shipped.1.contains("carrier   twilio") && shipped.1.contains(" 0 failed"),
        "{shipped:?}"
    );
    let wrong = tandem(&folder.0, &[], &["certify", "twilio", "--seed-fault", "no-failover"]);
    assert_eq!(wrong.0, Some(1), "{wrong:?}");
    assert!(wrong.1.contains("but: the next gateway was not tried"), "{wrong:?}");
    // The address in the Request-URI is what Twilio answers 403: the profile of a beginner, not enabled.
    let own = "schema_version = 1\nid = \"mine\"\nextends = [\"twilio\"]\n\
               [vars]\ntrunk_domain = \"54.172.60.1\"\nusername = \"sbc\"\n";
    folder.write("sip-profiles/mine.toml", own);
    for profile in ["mine", "sip-profiles/mine.toml"] {
        let said = tandem(&folder.0, &[], &["certify", profile, "--only", "request-host"]);
        assert_eq!(said.0, Some(1), "{said:?}");
        assert!(said.1.contains("the host of the Request-URI is 54.172.60.1"), "{said:?}");
    }
    // A folder of copies that nobody has filled in yet is as good as none.
    let copy =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sip-profiles/telnyx.toml"));
    folder.write("sip-profiles/telnyx.toml", &copy.unwrap());
    let said = tandem(&folder.0, &[], &["certify", "telnyx"]);
    assert!(said.0 == Some(0) && said.1.contains(" 0 failed"), "{said:?}");
    let said = tandem(&folder.0, &[], &["certify", "tata"]);
    assert!(said.2.contains("one of") && said.2.contains("tata-registered"), "{said:?}");
    assert!(!said.2.contains("in-plan"), "nothing that can be tried: {said:?}");
    for template in ["in-plan", "_base"] {
        let said = tandem(&folder.0, &[], &["certify", template]);
        let words = format!("`{template}` is a template: try a profile that extends it");
        assert!(said.0 == Some(2) && said.2.contains(&words), "{said:?}");
        assert!(!said.2.contains("certified.toml"), "a file that nobody wrote: {said:?}");
    }
    for args in [["certify", "nobody", "--only", "busy"], ["certify", "twilio", "--only", "tea"]] {
        let said = tandem(&folder.0, &[], &args);
        assert_eq!(said.0, Some(2), "{said:?}");
    }
}
