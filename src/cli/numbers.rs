//! `tandem numbers`: the numbers of a tenant, by the API.

use crate::cli::api::Answer;
use crate::cli::api::ApiArgs;
use crate::cli::api::Client;
use crate::cli::api::query;
use crate::cli::columns::Columns;
use crate::cli::failure::Failure;
use crate::cli::listing;
use crate::cli::listing::Kind;
use crate::cli::listing::PageArgs;
use crate::cli::output;
use crate::types::number::E164;
use bytes::Bytes;
use clap::Args;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use uuid::Uuid;

const NUMBERS: Kind = Kind {
    plural: "numbers",
    columns: &[
        ("ID", "id"),
        ("FIRST", "first_number"),
        ("LAST", "last_number"),
        ("ACTIVE", "is_active"),
        ("TRUNK", "trunk_id"),
        ("AI PROFILE", "ai_profile_id"),
        ("LABEL", "label"),
    ],
};

/// What to do with numbers.
#[derive(Args, Clone, Debug)]
pub(crate) struct NumbersArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The numbers and ranges of the tenant
    List {
        #[command(flatten)]
        page: PageArgs,
        /// Only the one that holds this number
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        number: Option<E164>,
    },
    /// One number or range
    Show {
        /// The number, in the international form or by id; of a range any number it holds
        #[arg(value_name = "NUMBER")]
        number: Which,
    },
    /// Add a number, or a range of them
    Add(AddArgs),
    /// Add the numbers of a CSV file; each row is made or refused by itself
    Import {
        /// The file; its first row names the columns: number or first_number, last_number, trunk_id,
        /// ai_profile_id, label ...; `-` reads the standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a number or range away; its calls are refused then
    Remove {
        /// The number, in the international form or by id; a range by its id alone
        #[arg(value_name = "NUMBER")]
        number: Which,
    },
}

/// A number or range, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Id(Uuid),
    Number(E164),
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = || text.parse().map(Self::Number);
        let read = text.parse().map(Self::Id).or_else(|_| number());
        read.map_err(|_| "it is neither a number in the international form nor an id")
    }
}

/// A row of a list, as far as it is asked for.
#[derive(Deserialize)]
struct Held {
    id: Uuid,
    first_number: String,
    last_number: String,
}

#[derive(Deserialize)]
struct HeldPage {
    numbers: Vec<Held>,
}

#[derive(Args, Clone, Debug)]
struct AddArgs {
    /// The number, or the first of a range
    #[arg(value_name = "NUMBER")]
    first: String,
    /// The last of a range
    #[arg(value_name = "LAST")]
    last: Option<String>,
    /// The trunk it is called on, by id; without it any shared one, where the key is the platform's
    #[arg(long, value_name = "ID")]
    trunk: Option<Uuid>,
    /// Who answers, by id; without it the tenant's default profile
    #[arg(long, value_name = "ID")]
    ai_profile: Option<Uuid>,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// Does what is asked of numbers.
///
/// # Errors
///
/// When the API is not reached or refuses.
pub(crate) async fn run(args: NumbersArgs) -> Result<(), Failure> {
    let api = &args.api;
    let client = api.client()?;
    let path = client.of_tenant("numbers")?;
    match args.command {
        Command::List { page, number } => {
            let more = [("number", number.map(|number| number.to_string()))];
            listing::list(api, &path, &NUMBERS, &page, &more).await
        }
        Command::Show { number } => {
            let id = match number {
                Which::Id(id) => id,
                Which::Number(number) => held(&client, &path, &number).await?.id,
            };
            listing::show(api, &client.get(&format!("{path}/{id}")).await?)
        }
        Command::Add(add) => listing::show(api, &client.make(&path, &add.body()).await?),
        Command::Import { file } => {
            let table = read(&file)?;
            report(api, &client.send_table(&format!("{path}/import"), table).await?)
        }
        Command::Remove { number } => {
            let (id, name) = match number {
                Which::Id(id) => (id, id.to_string()),
                Which::Number(number) => {
                    (alone(&client, &path, &number).await?, number.to_string())
                }
            };
            let answer = client.delete(&format!("{path}/{id}")).await?;
            listing::done(api, &answer, &format!("number {name} is gone"));
            Ok(())
        }
    }
}

/// The number or range of the tenant that holds a number.
///
/// # Errors
///
/// When the API is not reached or refuses, or there is none.
async fn held(client: &Client, path: &str, number: &E164) -> Result<Held, Failure> {
    let parameters = query(&[("number", Some(number.to_string()))]);
    let page: HeldPage = client.get(&format!("{path}{parameters}")).await?.read()?;
    let missing = || Failure::failed(format!("the tenant has no number {number}"));
    page.numbers.into_iter().next().ok_or_else(missing)
}

/// The id of a number that is no part of a range: nobody takes a hundred numbers away by naming one.
///
/// # Errors
///
/// As [`held`], and when a range holds it.
async fn alone(client: &Client, path: &str, number: &E164) -> Result<Uuid, Failure> {
    let Held { id, first_number, last_number } = held(client, path, number).await?;
    if first_number == last_number {
        return Ok(id);
    }
    let why = format!(
        "{number} is in the range from {first_number} to {last_number}, which goes as a whole: numbers remove {id}"
    );
    Err(Failure::failed(why))
}

/// What became of an import.
#[derive(Deserialize)]
struct Import {
    created: usize,
    failed: usize,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    line: usize,
    first_number: String,
    id: Option<String>,
    error: Option<RowError>,
}

#[derive(Deserialize)]
struct RowError {
    message: String,
}

fn read(file: &Path) -> Result<Bytes, Failure> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut text).map(drop)
    } else {
        fs::read(file).map(|bytes| text = bytes)
    };
    let broken = |error| Failure::configuration(file.display().to_string()).because(error);
    read.map(|()| Bytes::from(text)).map_err(broken)
}

/// Prints what became of each row.
///
/// # Errors
///
/// When a row was refused: the others are made.
fn report(api: &ApiArgs, answer: &Answer) -> Result<(), Failure> {
    let import: Import = answer.read()?;
    if api.json {
        output::line(&answer.text());
    } else {
        output::line(&import.table());
    }
    match import.failed {
        0 => Ok(()),
        1 => Err(Failure::failed("a row was refused; the others are made".to_owned())),
        failed => Err(Failure::failed(format!("{failed} rows were refused; the others are made"))),
    }
}

impl Import {
    fn table(&self) -> String {
        let mut table = Columns::new(&["LINE", "NUMBER", "ID", "REFUSED"]);
        for row in &self.rows {
            // It names the column itself.
            let why = row.error.as_ref().map(|error| error.message.clone());
            let id = row.id.clone().unwrap_or_else(|| "-".to_owned());
            table.row([
                row.line.to_string(),
                row.first_number.clone(),
                id,
                why.unwrap_or_default(),
            ]);
        }
        format!("{}\n{} created, {} refused", table.text(), self.created, self.failed)
    }
}

impl AddArgs {
    fn body(self) -> Value {
        let id = |id: Option<Uuid>| id.map(|id| id.to_string());
        let members = [
            ("first_number", Some(self.first)),
            ("last_number", self.last),
            ("trunk_id", id(self.trunk)),
            ("ai_profile_id", id(self.ai_profile)),
            ("label", self.label),
        ];
        let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(
            given.map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_named_by_its_digits_or_its_id() {
        let id = "01980000-0000-7000-8000-000000000000";
        assert_eq!(id.parse::<Which>(), Ok(Which::Id(id.parse().unwrap())));
        let number = Which::Number("+15550100".parse().unwrap());
        assert_eq!("+15550100".parse::<Which>(), Ok(number));
        for wrong in ["", "desk", "15550100", "+1555x"] {
            assert!(wrong.parse::<Which>().is_err(), "{wrong}");
        }
    }
}
