//! The form of the column `answer_webhook` of AI profiles.

use crate::store::field_path;
use crate::types::answer_hook::AnswerHook;
use crate::types::secret::Secret;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

const TIMEOUT_MS_DEFAULT: u64 = 2_000;
/// Longest wait. A caller hears nothing meanwhile.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookForm {
    url: String,
    #[serde(default)]
    secret_ref: String,
    timeout_ms: Option<u64>,
}

/// Reads an `answer_webhook`; `resolve` finds the secret behind a reference. Null: there is none.
///
/// # Errors
///
/// What is wrong with it, naming the key.
pub(crate) fn parse(
    value: &Value,
    resolve: &dyn Fn(&str) -> Result<Secret<String>, String>,
) -> Result<Option<AnswerHook>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let form: HookForm = field_path::read(value)?;
    let is_url = form.url.starts_with("https://") || form.url.starts_with("http://");
    if !is_url || form.url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("`url` is no https:// address".to_owned());
    }
    let secret = match form.secret_ref.as_str() {
        "" => Secret::default(),
        reference => resolve(reference).map_err(|why| format!("`secret_ref`: {why}"))?,
    };
    let timeout_ms = form.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
    if !TIMEOUT_MS.contains(&timeout_ms) {
        let (least, most) = (TIMEOUT_MS.start(), TIMEOUT_MS.end());
        return Err(format!("`timeout_ms` is {timeout_ms}; it is {least} to {most}"));
    }
    Ok(Some(AnswerHook { url: form.url, secret, timeout: Duration::from_millis(timeout_ms) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Option<AnswerHook>, String> {
        parse(&value, &|name| match name {
            "sealed:hook" => Ok(Secret::new("s".to_owned())),
            _ => Err("there is no such secret".to_owned()),
        })
    }

    #[test]
    fn a_webhook_has_a_url_and_a_bounded_patience() {
        assert_eq!(read(Value::Null), Ok(None));
        let plain = read(json!({"url": "https://app.example/who"})).unwrap().unwrap();
        assert_eq!((plain.timeout, plain.secret.expose().as_str()), (Duration::from_secs(2), ""));
        let signed = json!({"url": "http://x/", "secret_ref": "sealed:hook", "timeout_ms": 100});
        assert_eq!(read(signed).unwrap().unwrap().secret.expose(), "s");
        for (bad, why) in [
            (json!({}), "`url`: missing"),
            (json!({"url": "ftp://x/"}), "`url`"),
            (json!({"url": "https://x y/"}), "`url`"),
            (json!({"url": "https://x/", "secret_ref": "sealed:other"}), "`secret_ref`"),
            (json!({"url": "https://x/", "timeout_ms": 99}), "`timeout_ms`"),
            (json!({"url": "https://x/", "timeout_ms": 10_001}), "`timeout_ms`"),
            (json!({"url": "https://x/", "colour": 1}), "`colour`: unknown"),
        ] {
            let said = read(bad.clone()).unwrap_err();
            assert!(said.starts_with(why), "{bad}: {said}");
        }
    }
}
