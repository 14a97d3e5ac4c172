//! What the API lists, shown: pages and single things of any kind.

use crate::cli::api::Answer;
use crate::cli::api::ApiArgs;
use crate::cli::api::query;
use crate::cli::columns;
use crate::cli::columns::Columns;
use crate::cli::failure::Failure;
use crate::cli::output;
use clap::Args;
use serde_json::Map;
use serde_json::Value;

/// Which page.
#[derive(Args, Clone, Debug)]
pub(crate) struct PageArgs {
    /// So many at most, 1 to 200
    #[arg(long, value_name = "N", default_value = "50",
          value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Go on where a page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// A kind of thing: what the API calls several, and the headings and members that are shown.
pub(crate) struct Kind {
    pub(crate) plural: &'static str,
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

/// Prints a page of what is at `path`; `more` narrows it.
///
/// # Errors
///
/// When the API is not reached or refuses.
pub(crate) async fn list(
    api: &ApiArgs,
    path: &str,
    kind: &Kind,
    page: &PageArgs,
    more: &[(&str, Option<String>)],
) -> Result<(), Failure> {
    let own = [("limit", Some(page.limit.to_string())), ("cursor", page.cursor.clone())];
    let parameters = query(&[&own[..], more].concat());
    let answer = api.client()?.get(&format!("{path}{parameters}")).await?;
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let mut found: Map<String, Value> = answer.read()?;
    let heads: Vec<&str> = kind.columns.iter().map(|(head, _)| *head).collect();
    let mut table = Columns::new(&heads);
    if let Some(Value::Array(rows)) = found.remove(kind.plural) {
        for row in rows {
            table.row(kind.columns.iter().map(|(_, member)| cell(row.get(member))));
        }
    }
    output::line(&table.text());
    if let Some(Value::String(next)) = found.get("next") {
        output::note(&format!("there are more: --cursor {}", columns::plain(next)));
    }
    Ok(())
}

/// Prints one thing that the API answered.
///
/// # Errors
///
/// When it is no object.
pub(crate) fn show(api: &ApiArgs, answer: &Answer) -> Result<(), Failure> {
    if api.json {
        output::line(&answer.text());
        return Ok(());
    }
    let members: Map<String, Value> = answer.read()?;
    let is_shown = |name: &&String| name.as_str() != "id" && name.as_str() != "etag";
    let names = members.keys().filter(is_shown).map(String::as_str);
    let facts: Vec<_> = ["id"]
        .into_iter()
        .chain(names)
        .map(|name| (name, Some(cell(members.get(name))).filter(|cell| !cell.is_empty())))
        .collect();
    output::line(&columns::facts(&facts));
    Ok(())
}

/// Prints `done`, or the answer where JSON is wanted and there is one.
pub(crate) fn done(api: &ApiArgs, answer: &Answer, done: &str) {
    match (api.json, answer.bytes().is_empty()) {
        (true, false) => output::line(&answer.text()),
        (true, true) => {}
        (false, _) => output::line(done),
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(is)) => if *is { "yes" } else { "no" }.to_owned(),
        Some(other) => other.to_string(),
    }
}
