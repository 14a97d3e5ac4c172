//! The configuration that the README shows, loaded as an operator would have it.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

#[path = "support/readme.rs"]
mod readme;

use std::path::PathBuf;
use std::sync::Arc;
use tandem::config::Config;
use tandem::config::Inputs;
use tandem::config::environment;
use tandem::config::files::Memory;
use tandem::config::load;
use tandem::config::problem::Problems;
use tandem::config::secret::Secrets;
use tandem::telemetry::metric::Counter;
use tandem::telemetry::metric::Gauge;
use tandem::telemetry::metric::Histogram;
use tandem::types::secret::Secret;

/// A node for blocks that are profiles.
const NODE: &str =
    "database = \"private\"\n[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";
/// A folder that is named must be there; this file makes it.
const OTHER: &str = "schema_version = 1\nid = \"other\"\nextends = [\"generic\"]\n";

/// A machine that has what the README speaks of.
struct Machine {
    certificate: String,
    key: String,
}

impl Machine {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["sip.example.com".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

impl Secrets for Machine {
    fn env(&self, name: &str) -> Option<String> {
        (name == "ACME_PASSWORD").then(|| "secret".to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        match path {
            "/etc/tandem/sip.key" => Ok(self.key.clone()),
            "/etc/tandem/sip.pem" | "/etc/tandem/api.pem" | "/etc/tandem/carriers.pem" => {
                Ok(self.certificate.clone())
            }
            _ => Err("no such file".to_owned()),
        }
    }

    fn sealed(&self, _: &str) -> Option<Secret<String>> {
        None
    }
}

/// Loads a block; its first line names the file it belongs into.
fn load_block(block: &str) -> Result<Config, Problems> {
    let file = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap();
    // The block is the last and so takes the place of the node where it is one.
    let texts = [("tandem.toml", NODE), ("sip-profiles/other.toml", OTHER), (file, block)];
    let texts = texts.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
    load(&Inputs {
        config: Some("tandem.toml".into()),
        env: Vec::new(),
        files: &Memory(texts.into_iter().collect()),
        secrets: Arc::new(Machine::new()),
    })
}

#[test]
fn every_toml_block_is_a_configuration_without_problem_or_warning() {
    let blocks = readme::blocks("toml");
    let is_node = |block: &&String| block.starts_with("# tandem.toml\n");
    assert!(blocks.iter().filter(is_node).count() >= 2);
    assert!(blocks.iter().filter(|block| !is_node(block)).count() >= 2);
    for block in &blocks {
        let config = load_block(block).unwrap_or_else(|problems| panic!("{block}\n{problems}"));
        assert!(config.warnings().is_empty(), "{block}\n{:?}", config.warnings());
        assert!(config.check_can_run().is_ok(), "{block}");
        let trunks = usize::from(!is_node(&block));
        assert_eq!(config.trunks().len(), trunks, "a profile is a live trunk:\n{block}");
    }
}

#[test]
fn a_key_of_a_block_that_does_not_exist_is_found() {
    let block = readme::blocks("toml").remove(0).replace("database", "datbase");
    assert!(load_block(&block).unwrap_err().to_string().contains("did you mean `database`?"));
}

#[test]
fn the_full_block_has_every_key_there_is_with_its_default() {
    let full = readme::blocks("toml").into_iter().max_by_key(String::len).unwrap();
    let config = load_block(&full).unwrap();
    let minimal = load_block(readme::blocks("toml").first().unwrap()).unwrap();
    let of = |config: &Config| {
        let printed: toml::Table = config.print().parse().unwrap();
        printed.into_iter().filter(|(key, _)| key != "listener").collect::<toml::Table>()
    };
    assert_eq!(of(&config), of(&minimal), "what is shown are the defaults");
    let printed = config.print();
    for variable in environment::variables() {
        let key = variable.rsplit('_').next().unwrap().to_lowercase();
        assert!(printed.contains(&key), "{variable}");
    }
}

#[test]
fn every_metric_that_the_readme_speaks_of_is_there() {
    let counters = Counter::ALL.iter().map(|metric| metric.name());
    let histograms = Histogram::ALL.iter().map(|metric| metric.name());
    let gauges = Gauge::ALL.iter().map(|metric| metric.name());
    let known: Vec<_> = counters.chain(gauges).chain(histograms).collect();
    let is_metric = |text: &str| {
        text.ends_with("_total") || text.ends_with("_seconds") || text.starts_with("database_")
    };
    let spoken = readme::quoted(is_metric);
    assert!(spoken.len() >= 10, "{spoken:?}");
    for name in spoken {
        assert!(known.contains(&name), "{name}");
    }
}
