//! What a request asks for in its body: read in one place, and refused by the name of what does not fit.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::resource;
use crate::store::field_path;
use crate::store::resource::Fault;
use crate::store::resource::Members;
use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::convert::Infallible;

/// The body of a request as it came. It is read once it is known that who asks may.
pub(super) struct Sent {
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
}

impl FromRequest<Context> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Infallible> {
        let headers = request.headers().clone();
        Ok(Self { headers, body: Bytes::from_request(request, context).await })
    }
}

impl Sent {
    /// Its members, where it is a JSON object.
    pub(super) fn members(self, id: &RequestId) -> Result<Members, ApiError> {
        resource::members(&self.headers, self.body, id)
    }

    /// What it asks for.
    pub(super) fn wish<T: DeserializeOwned>(self, id: &RequestId) -> Result<T, ApiError> {
        read(self.members(id)?).map_err(|fault| error::fault(fault, id))
    }

    /// The same where a body is not needed: none, or one that says nothing, asks for what is meant without.
    pub(super) fn wish_if_any<T: DeserializeOwned + Default>(
        self,
        id: &RequestId,
    ) -> Result<T, ApiError> {
        if self.body.as_ref().is_ok_and(|body| says_nothing(body)) {
            return Ok(T::default());
        }
        self.wish(id)
    }
}

fn says_nothing(body: &[u8]) -> bool {
    let is_empty = || serde_json::from_slice::<Members>(body).is_ok_and(|own| own.is_empty());
    matches!(body.trim_ascii(), b"" | b"null") || is_empty()
}

/// What an object asks for.
///
/// # Errors
///
/// The path of the first value that does not fit, and why.
pub(super) fn read<T: DeserializeOwned>(given: Members) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let why = error.inner().to_string();
        Fault::invalid(field_path::field(error.path(), &why), why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read")]
        count: u64,
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        word: Word,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Yes,
    }

    #[test]
    fn a_body_says_nothing_when_it_is_none_or_has_no_members() {
        for body in ["", " \n", "null", "{}", " { } "] {
            assert!(says_nothing(body.as_bytes()), "{body}");
        }
        for body in ["{\"leg\": null}", "[]", "0", "{", "\u{0}"] {
            assert!(!says_nothing(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_path() {
        for (given, field) in [
            (json!({}), "count"),
            (json!({"count": "one"}), "count"),
            (json!({"count": -1}), "count"),
            (json!({"count": 1, "colour": 2}), "colour"),
            (json!({"count": 1, "list": 2}), "list"),
            (json!({"count": 1, "list": [{"word": "yes"}, {}]}), "list.1.word"),
            (json!({"count": 1, "list": [{"word": "no"}]}), "list.0.word"),
            (json!({"count": 1, "list": [{"word": "yes", "x": 1}]}), "list.0.x"),
        ] {
            let Value::Object(members) = given.clone() else { panic!("no object") };
            match read::<Outer>(members) {
                Err(Fault::Invalid { field: found, .. }) => assert_eq!(found, field, "{given}"),
                other => panic!("{given}: {other:?}"),
            }
        }
        let fits = Members::from_iter([("count".to_owned(), json!(1))]);
        assert!(read::<Outer>(fits).is_ok());
    }
}
