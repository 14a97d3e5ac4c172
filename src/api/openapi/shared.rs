//! Refusals that several routes have in common: said once in the document, and referred to.

use crate::store::resource::Members;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// Leaves references in `paths` where routes refuse alike; what they refer to, by its name (`Refusal409`,
/// `Refusal409_2` ...).
pub(super) fn refusals(paths: &mut Members) -> Members {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for_each(paths, |_, refusal| *met.entry(refusal.to_string()).or_default() += 1);
    let (mut shared, mut names) = (Members::new(), BTreeMap::new());
    let mut forms: BTreeMap<String, usize> = BTreeMap::new();
    for_each(paths, |status, refusal| {
        let text = refusal.to_string();
        if met.get(&text).is_none_or(|count| *count == 1) {
            return;
        }
        let name = names.entry(text).or_insert_with(|| {
            let form = forms.entry(status.to_owned()).or_default();
            *form += 1;
            let name = match *form {
                1 => format!("Refusal{status}"),
                form => format!("Refusal{status}_{form}"),
            };
            shared.insert(name.clone(), refusal.clone());
            name
        });
        *refusal = json!({"$ref": format!("#/components/responses/{name}")});
    });
    shared
}

fn for_each(paths: &mut Members, mut act: impl FnMut(&str, &mut Value)) {
    let operations =
        paths.values_mut().filter_map(Value::as_object_mut).flat_map(Members::values_mut);
    for operation in operations {
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for (status, response) in responses.into_iter().flatten() {
            if status.starts_with(['4', '5']) {
                act(status, response);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_routes_refuse_alike_stands_once_and_what_one_alone_does_stays_there() {
        let operation = |busy: &str| {
            json!({"responses": {
                "200": {"description": "Done."},
                "404": {"description": "There is no such thing."},
                "503": {"description": busy},
            }})
        };
        let mut paths = Members::new();
        paths.insert("/a".to_owned(), json!({"get": operation("x"), "post": operation("y")}));
        paths.insert("/b".to_owned(), json!({"get": operation("x"), "put": operation("y")}));
        paths.insert("/c".to_owned(), json!({"get": operation("z")}));
        let shared = refusals(&mut paths);
        let names: Vec<_> = shared.keys().map(String::as_str).collect();
        assert_eq!(names, ["Refusal404", "Refusal503", "Refusal503_2"]);
        assert_eq!(shared["Refusal503_2"]["description"], "y");
        let of = |path: &str, method: &str| paths[path][method]["responses"].clone();
        assert_eq!(of("/b", "put")["503"], json!({"$ref": "#/components/responses/Refusal503_2"}));
        assert_eq!(of("/c", "get")["404"], json!({"$ref": "#/components/responses/Refusal404"}));
        assert_eq!(of("/c", "get")["503"], json!({"description": "z"}));
        assert_eq!(of("/a", "get")["200"], json!({"description": "Done."}));
    }
}
