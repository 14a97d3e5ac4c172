//! The rules of the house that a compiler does not know: layers, file length, purity of the cores.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a failed check may panic")]

#[path = "tidy/faults_of_peers.rs"]
mod faults_of_peers;

use regex::Regex;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Longest file before its tests, in lines.
const FILE_LINES_MAX: usize = 600;
/// Longest file that is all tests, in lines.
const TEST_LINES_MAX: usize = 1_000;

/// Who may use whom inside the crate: the diagram of ARCHITECTURE.md. `types` is open to all.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    // Protocol cores.
    ("sip", &[]),
    ("sdp", &[]),
    ("rtp", &[]),
    ("audio", &[]),
    // Switch cores.
    ("routing", &[]),
    ("call", &["sdp", "routing"]),
    ("media", &["sdp", "rtp", "audio"]),
    ("agent", &["audio"]),
    ("cdr", &["routing", "call"]),
    // Shells. Every shell may read the clock.
    ("clock", &[]),
    ("telemetry", &["clock"]),
    ("config", &["routing", "sip", "clock"]),
    ("net", &["sip", "config", "telemetry", "clock"]),
    ("store", &["config", "routing", "cdr", "call", "telemetry", "clock"]),
    ("recording", &["audio", "config", "telemetry", "clock"]),
    ("webhook", &["config", "store", "net", "telemetry", "clock"]),
    (
        "engine",
        &[
            "sip",
            "sdp",
            "rtp",
            "audio",
            "routing",
            "call",
            "media",
            "agent",
            "cdr",
            "config",
            "net",
            "recording",
            "telemetry",
            "clock",
        ],
    ),
    (
        "api",
        &[
            "config",
            "routing",
            "call",
            "cdr",
            "agent",
            "store",
            "engine",
            "recording",
            "telemetry",
            "clock",
        ],
    ),
    // Programs.
    ("simulator", &["sip", "sdp", "rtp", "audio", "net", "config"]),
    (
        "certify",
        &["sip", "sdp", "audio", "routing", "call", "media", "config", "engine", "simulator"],
    ),
    ("caller", &["sip", "sdp", "rtp", "audio", "media", "net", "engine", "telemetry", "clock"]),
    (
        "server",
        &[
            "sip",
            "sdp",
            "rtp",
            "audio",
            "routing",
            "call",
            "media",
            "agent",
            "cdr",
            "clock",
            "telemetry",
            "config",
            "net",
            "store",
            "engine",
            "recording",
            "webhook",
            "api",
            "caller",
        ],
    ),
    ("cli", &["server", "config", "caller", "certify", "store", "routing", "telemetry", "clock"]),
    ("main", &["cli"]),
];

/// Modules without input or output: bytes, values and time in, bytes and values out.
const CORES: &[&str] =
    &["types", "sip", "sdp", "rtp", "audio", "routing", "call", "media", "agent", "cdr"];

/// What a core may not name, and what it does instead.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "be a state machine; a shell turns it"),
    ("sqlx", "take values; store reads rows"),
    ("axum", "take values; api reads requests"),
    ("metrics::", "put a count into the output; a shell counts it"),
    ("UdpSocket", "put the datagram into the output"),
    ("TcpStream", "put the bytes into the output"),
    ("TcpListener", "put the bytes into the output"),
    ("std::fs", "take the content"),
    ("std::env", "take the value"),
    ("std::thread", "be a state machine; a shell turns it"),
    ("std::time::Instant", "take `now: Moment`"),
    ("SystemTime", "take `now: Moment`"),
];

/// Files that may hold unsafe code, each reviewed for it.
const UNSAFE_FILES: &[&str] = &[
    "src/engine/os.rs",
    "src/net/rtp_socket.rs",
    "src/store/silent_peer.rs",
    // One instruction that is advice, and can do no harm: there is no safe one.
    "src/types/cache.rs",
    "tests/media_alloc.rs",
];

/// Names that hide a missing noun.
const VAGUE_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "manager", "misc", "service", "core"];

struct Source {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The module of the top level that this file belongs to; `None` outside `src/`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// True when all of the file is tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Numbered lines before the tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = tests_begin(&self.text);
        self.all_code().take_while(move |(number, _)| *number < tests)
    }

    /// Numbered lines of tests, without comments.
    fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.is_test() || self.path.ends_with("_tests.rs");
        let tests = if all { 0 } else { tests_begin(&self.text) };
        self.all_code().skip_while(move |(number, _)| *number < tests)
    }

    /// Numbered lines without comments, tests included.
    fn all_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The line at which the module of a file's tests begins. Tests in a file of their own (`mod tests;`) and
/// single items for tests end no code.
fn tests_begin(text: &str) -> usize {
    let lines = text.lines().zip(text.lines().skip(1));
    let here = |(line, next): (&str, &str)| {
        let next = next.strip_prefix("pub(super) ").unwrap_or(next);
        line.starts_with("#[cfg(test)]") && next.starts_with("mod ") && next.ends_with('{')
    };
    lines.map(here).position(|begins| begins).map_or(usize::MAX, |at| at + 1)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets", "examples"] {
        collect(&root.join(folder), &mut found);
    }
    let relative = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let inside = path.strip_prefix(root).unwrap().to_str().unwrap();
        Source { path: inside.replace('\\', "/"), text }
    };
    let sources: Vec<_> = found.into_iter().map(relative).collect();
    assert!(sources.len() > 20, "tidy does not find the sources");
    sources
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Collects what is wrong in any file, so that one run shows everything.
fn check(judge: impl Fn(&Source, &mut Vec<String>)) {
    let mut report = String::new();
    for source in sources() {
        let mut faults = Vec::new();
        judge(&source, &mut faults);
        for fault in faults {
            writeln!(report, "{}{fault}", source.path).unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The identifiers that follow `prefix` in `line`.
fn followers<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let at_word = |at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    };
    line.match_indices(prefix).filter(move |(at, _)| at_word(*at)).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn used_module(line: &str) -> Option<&str> {
    followers(line, "crate::").find(|name| name.starts_with(|letter: char| letter.is_lowercase()))
}

#[test]
fn modules_use_only_the_layers_below_them() {
    check(|source, faults| {
        let Some(module) = source.module().filter(|module| *module != "lib") else { return };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!(": `{module}` is not in the layer table of tests/tidy.rs"));
            return;
        };
        let prefix = if module == "main" { "tandem::" } else { "crate::" };
        for (number, line) in source.all_code() {
            for used in followers(line, prefix) {
                let known = LAYERS.iter().any(|(name, _)| *name == used);
                if known && used != module && used != "types" && !allowed.contains(&used) {
                    faults.push(format!(":{number}: `{module}` may not use `{used}`"));
                }
            }
        }
    });
}

#[test]
fn imports_from_the_crate_are_not_grouped() {
    // A group would hide what the layer check looks for.
    check(|source, faults| {
        for (number, line) in source.all_code() {
            if ["use crate::{", "pub use crate::{", "use crate::*"]
                .iter()
                .any(|group| line.trim_start().starts_with(group))
            {
                faults.push(format!(":{number}: one `use` per item"));
            }
        }
    });
}

#[test]
fn cores_do_no_input_or_output() {
    check(|source, faults| {
        let is_core = source.module().is_some_and(|module| CORES.contains(&module));
        if !is_core || source.is_test() {
            return;
        }
        for (number, line) in source.code() {
            for (name, instead) in IMPURE {
                if line.contains(name) {
                    faults.push(format!(":{number}: a core may not use `{name}`; {instead}"));
                }
            }
        }
    });
}

#[test]
fn unsafe_code_stays_in_the_reviewed_files() {
    check(|source, faults| {
        if UNSAFE_FILES.contains(&source.path.as_str()) || source.path == "tests/tidy.rs" {
            return;
        }
        for (number, line) in source.all_code() {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if words.any(|word| word == "unsafe" || word == "unsafe_code") {
                faults.push(format!(":{number}: unsafe code outside the reviewed files"));
            }
        }
    });
}

#[test]
fn files_are_short() {
    check(|source, faults| {
        let code = source.text.lines().count().min(tests_begin(&source.text) - 1);
        let (lines, most) = (code, if source.is_test() { TEST_LINES_MAX } else { FILE_LINES_MAX });
        if lines > most {
            faults.push(format!(": {lines} lines before its tests, at most {most}"));
        }
    });
}

#[test]
fn files_open_with_what_lives_there() {
    check(|source, faults| {
        if !source.text.starts_with("//! ") {
            faults.push(":1: the first line is `//!` and one sentence".to_owned());
        }
    });
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TO", "FIX", "X"].into_iter().zip(["DO", "ME", "XX"]);
    let marks: Vec<_> = marks.map(|(start, end)| format!("{start}{end}")).collect();
    check(|source, faults| {
        for (at, line) in source.text.lines().enumerate() {
            let found = marks.iter().find(|mark| {
                followers(line, mark).any(str::is_empty) && !line.contains(&format!("{mark}-"))
            });
            if let Some(mark) = found {
                faults.push(format!(":{}: `{mark}`: do it or drop it", at + 1));
            }
            if line.trim_start().starts_with("#[ignore") {
                faults.push(format!(":{}: a test runs or goes", at + 1));
            }
        }
    });
}

#[test]
fn files_are_named_after_what_they_hold() {
    check(|source, faults| {
        let parts = source.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
        if let Some(name) = parts.into_iter().find(|name| VAGUE_NAMES.contains(name)) {
            faults.push(format!(": `{name}` names nothing; find the noun"));
        }
    });
}

/// Metrics that no test makes move, and why none can or need.
const UNTESTED_METRICS: &[(&str, &str)] =
    &[("sip_shard_queue_messages", "read once a second; a queue is empty again long before")];

/// A row of the table of metrics.
struct MetricRow {
    /// Counter, Gauge or Histogram.
    kind: &'static str,
    entry: String,
    /// On the wire.
    name: String,
}

fn metric_rows(sources: &[Source]) -> Vec<MetricRow> {
    let table = sources.iter().find(|source| source.path == "src/telemetry/metric.rs").unwrap();
    let (mut kind, mut rows) = ("", Vec::new());
    for (_, line) in table.code() {
        let line = line.trim();
        let opened = line.strip_suffix(" {");
        if let Some(name) =
            ["Counter", "Gauge", "Histogram"].into_iter().find(|k| opened == Some(k))
        {
            kind = name;
        }
        let row = line.split_once(", \"").filter(|_| line.ends_with(';'));
        if let Some((entry, (name, _))) =
            row.and_then(|(entry, rest)| Some((entry, rest.split_once('"')?)))
        {
            rows.push(MetricRow { kind, entry: entry.to_owned(), name: name.to_owned() });
        }
    }
    assert!(rows.len() > 30, "tidy does not find the table of metrics");
    rows
}

#[test]
fn every_metric_is_moved_by_somebody() {
    let all = sources();
    let mut idle = Vec::new();
    for MetricRow { kind, entry, .. } in metric_rows(&all) {
        let prefix = format!("{kind}::");
        let is_moved = |source: &Source| {
            !matches!(source.module(), None | Some("telemetry"))
                && source.code().any(|(_, line)| followers(line, &prefix).any(|own| own == entry))
        };
        if !all.iter().any(is_moved) {
            idle.push(entry);
        }
    }
    assert!(idle.is_empty(), "no code outside telemetry/ touches {idle:?}");
}

#[test]
fn every_metric_is_named_by_a_test() {
    let all = sources();
    let is_named = |source: &Source, name: &str| {
        let tests = if source.is_test() { 0 } else { tests_begin(&source.text) };
        let ends = ["", "_count", "_sum"];
        source.path != "tests/tidy.rs"
            && source.module() != Some("telemetry")
            && source
                .all_code()
                .filter(|(number, _)| *number >= tests)
                .any(|(_, line)| followers(line, name).any(|rest| ends.contains(&rest)))
    };
    let mut unnamed = Vec::new();
    for MetricRow { name, .. } in metric_rows(&all) {
        let is_tested = all.iter().any(|source| is_named(source, &name));
        let is_excused = UNTESTED_METRICS.iter().any(|(own, _)| *own == name);
        assert!(!(is_tested && is_excused), "{name} is tested: it needs no excuse");
        if !is_tested && !is_excused {
            unnamed.push(name);
        }
    }
    assert!(unnamed.is_empty(), "no test names {unnamed:?}: make one move it");
}

#[test]
fn the_layer_table_has_no_arrow_back() {
    let position = |name: &str| LAYERS.iter().position(|(layer, _)| *layer == name);
    for (name, allowed) in LAYERS {
        for used in *allowed {
            assert!(position(used) < position(name), "{name} -> {used} points back");
            let from_core = CORES.contains(name);
            assert!(!from_core || CORES.contains(used), "{name} is a core, {used} is not");
        }
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(used_module("use crate::store::calls;"), Some("store"));
    assert_eq!(used_module("    $crate::sip::parse(x)"), Some("sip"));
    assert_eq!(used_module("use my_crate::store;"), None);
    assert_eq!(tests_begin("use a;\n#[cfg(test)]\nmod tests;\nfn a() {}\n"), usize::MAX);
    assert_eq!(tests_begin("#[cfg(test)]\nimpl A {\n}\nfn a() {}\n"), usize::MAX);
    assert_eq!(tests_begin("#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\nmod t {\n"), 4);
}

/// The keys of `table`, with the paths to them.
fn key_paths(path: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => key_paths(&full, inner, found),
            _ => found.push(full),
        }
    }
}

/// Files that hold what trunks are made into.
const TRUNK_TYPES: &[&str] = &[
    "src/routing/trunk.rs",
    "src/routing/outbound_trunk.rs",
    "src/routing/registration.rs",
    "src/routing/signalling.rs",
];

#[test]
fn no_key_of_a_trunk_profile_is_without_effect() {
    let sources = sources();
    // Each key is read where trunks are made ...
    let base: toml::Table = fs::read_to_string("sip-profiles/_base.toml").unwrap().parse().unwrap();
    let mut keys = Vec::new();
    key_paths("", &base, &mut keys);
    assert!(keys.len() > 100, "tidy does not find the keys");
    let is_maker = |source: &&Source| {
        source.path.starts_with("src/config/") && !source.path.ends_with("/trunk_schema.rs")
    };
    let made: String =
        sources.iter().filter(is_maker).flat_map(Source::code).map(|(_, line)| line).collect();
    // For people alone.
    let spoken = ["description"];
    let is_read = |key: &&String| {
        let name = key.rsplit('.').next().unwrap();
        let is_read = [format!("\"{key}\""), format!("\"{name}\""), format!(".{name}\"")];
        is_read.iter().any(|text| made.contains(text.as_str()))
    };
    let unread: Vec<&String> = keys.iter().filter(|key| !is_read(key)).collect();
    assert_eq!(unread, spoken, "these are in the schema, and nothing is made of them");
    // ... and what is made of it is used by somebody else.
    let is_user = |source: &&Source| {
        source.path.starts_with("src/") && !source.path.starts_with("src/config/")
    };
    let used: String = sources
        .iter()
        .filter(is_user)
        .flat_map(|source| source.code().map(|(_, line)| format!("{line}\n")))
        .collect();
    for types in sources.iter().filter(|source| TRUNK_TYPES.contains(&source.path.as_str())) {
        let fields = types.code().filter_map(|(_, line)| line.strip_prefix("    pub "));
        let fields = fields.filter(|line| line.ends_with(',') && !line.contains('('));
        for field in fields.filter_map(|line| line.split_once(": ")).map(|(field, _)| field) {
            let reads = used.match_indices(&format!(".{field}")).any(|(at, text)| {
                let next = used[at + text.len()..].chars().next();
                !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
            });
            assert!(reads, "{}: nobody reads `{field}`", types.path);
        }
    }
}

/// Fields that keys become whose rows in `tests/trunk_every_key.rs` do not name them.
const FIELDS_OF_KEYS: &[(&str, &str)] = &[
    ("numbers.outbound_calling", "calling"),
    ("numbers.outbound_must_match", "must_match"),
    ("security.deny_destinations", "deny"),
];

/// What each key becomes is told by its row there. What that does is tried elsewhere: by a test that gives the key a
/// value, or sets the field it becomes.
#[test]
fn what_each_key_of_a_trunk_profile_does_is_tried_by_a_test_that_sets_it() {
    const ROWS: &str = "tests/trunk_every_key.rs";
    let sources = sources();
    let tests = |source: &&Source| ![ROWS, "tests/tidy.rs"].contains(&source.path.as_str());
    let lines = sources.iter().filter(tests).flat_map(Source::test_code);
    let tried: String = lines.map(|(_, line)| format!("{line}\n")).collect();
    let rows = &sources.iter().find(|source| source.path == ROWS).unwrap().text;
    // The key, its value, what it needs beside it, and what it becomes.
    let row = r#""((?:[a-z0-9_]+\.)+[a-z0-9_]+)",\s*json!\((?s:.*?)\),\s*(?:vec!\[(?s:.*?)\],\s*|digest\(\),\s*|hours\(\),\s*)?"((?:[^"\\]|\\.)*)""#;
    let row = Regex::new(row).unwrap();
    let all = |pattern: &str| -> HashSet<&str> {
        let pattern = Regex::new(pattern).unwrap();
        pattern.captures_iter(&tried).filter_map(|found| Some(found.get(1)?.as_str())).collect()
    };
    let given: HashSet<&str> =
        [r#""([a-z0-9_]+)":"#, r"\b(\w+) = ", r#""([a-z0-9_]+\.[a-z0-9_.]+)""#]
            .iter()
            .flat_map(|pattern| all(pattern))
            .collect();
    let set: HashSet<&str> =
        [r"((?:\.\w+)+) \+?= ", r"\b(\w+): ", r"((?:\.\w+)+)\.(?:push|clone_from|insert|extend)\("]
            .iter()
            .flat_map(|pattern| all(pattern))
            .flat_map(|path| path.split('.'))
            .collect();
    let named = Regex::new(r"(\w+): ").unwrap();
    let mut untried = Vec::new();
    let mut count = 0;
    for found in row.captures_iter(rows) {
        count += 1;
        let (key, place) = (&found[1], &found[2]);
        let name = key.rsplit('.').next().unwrap();
        let known = FIELDS_OF_KEYS.iter().filter(|(own, _)| *own == key).map(|(_, field)| *field);
        let named = named.captures_iter(place).filter_map(|field| Some(field.get(1)?.as_str()));
        let is_given = given.contains(name) || given.contains(key);
        if !is_given && !named.chain(known).any(|field| set.contains(field)) {
            untried.push(key.to_owned());
        }
    }
    assert!(count > 170, "tidy finds only {count} rows of {ROWS}");
    assert!(untried.is_empty(), "no test sets {untried:?}, or what they become");
}
