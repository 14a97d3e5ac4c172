//! `[otlp]` of `tandem.toml`: the collector that traces of calls are posted to.

use crate::config::node::key;
use crate::config::problem::Problem;
use crate::config::problem::Sources;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::secret;
use crate::config::secret::Secrets;
use crate::config::tree::View;
use crate::types::reach::Reach;
use crate::types::secret::Secret;
use crate::types::trace_context::Sampling;

/// `[otlp]`.
pub(crate) const OTLP: &[Key] = &[
    key("endpoint", Kind::Parsed(check_endpoint)),
    key("authorization_ref", Kind::Secret(secret::check_own)),
    key("service_name", Kind::Parsed(check_service_name)),
    key("sample_percent", Kind::Integer(0, 100)),
];

/// Where a collector takes traces that says nothing else (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";

/// The collector of traces.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where traces are posted, whole.
    pub endpoint: String,
    /// The header `Authorization` of each post.
    pub authorization: Option<Secret<String>>,
    /// What the node is called there.
    pub service_name: String,
    /// Which calls are traced.
    pub sampling: Sampling,
}

/// Who sets the configuration says where the collector is: unlike URLs of tenants it may be anywhere.
#[must_use]
pub fn reach() -> Reach {
    let all = ["0.0.0.0/0", "::/0"];
    Reach { http: true, networks: all.iter().filter_map(|text| text.parse().ok()).collect() }
}

pub(crate) fn read(
    view: View<'_>,
    sources: &Sources,
    secrets: &dyn Secrets,
    problems: &mut Vec<Problem>,
) -> Option<OtlpSettings> {
    let path = "otlp.authorization_ref";
    // A reference of the wrong form was reported with the schema.
    let given = view.given(path).filter(|text| secret::check_own(text).is_ok());
    let authorization = given.and_then(|text| match secret::resolve(secrets, text) {
        Ok(value) => Some(value),
        Err(why) => {
            if let Some(node) = view.node(path) {
                problems.push(Problem::error(sources, node.at, format!("`{path}`: {why}")));
            }
            None
        }
    });
    let endpoint = view.given("otlp.endpoint").filter(|text| check_endpoint(text).is_ok())?;
    Some(OtlpSettings {
        endpoint: whole(endpoint),
        authorization,
        service_name: view.text("otlp.service_name").to_owned(),
        sampling: Sampling::of_percent(view.number("otlp.sample_percent")),
    })
}

/// The address with a path, where it has none.
fn whole(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']));
    if has_path { endpoint.to_owned() } else { format!("{base}{TRACES_PATH}") }
}

fn check_endpoint(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let wrong = |why| format!("{why}: write http://127.0.0.1:4318");
    reach().destination(text).map(drop).map_err(wrong)
}

fn check_service_name(text: &str) -> Result<(), String> {
    let is_good = (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    if is_good { Ok(()) } else { Err("it is a name of 1 to 100 characters".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_gets_the_one_of_the_protocol() {
        for (given, whole_one) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://c.example/otlp/traces", "https://c.example/otlp/traces"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(check_endpoint(given), Ok(()));
            assert_eq!(whole(given), whole_one);
        }
        for wrong in ["127.0.0.1:4318", "grpc://x:4317", "http://", "http://a b"] {
            assert!(check_endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
