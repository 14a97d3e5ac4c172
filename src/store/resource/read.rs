//! Lists and single rows.

use crate::store::api_keys::KeyHolder;
use crate::store::database::Database;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::store::resource::Place;
use crate::store::resource::ROW;
use crate::store::resource::Resource;
use crate::store::resource::Row;
use crate::store::resource::Stored;
use crate::store::resource::field::Field;
use crate::store::resource::field::Kind;
use crate::types::number::E164;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Most rows of one page.
pub const PAGE_MAX: u32 = 200;

/// Which rows are wanted.
#[derive(Debug, Default)]
pub struct Filter {
    /// Fields, each with the text of the value it has; see [`Filter::equal`].
    equal: Vec<(&'static Field, Wanted)>,
    /// The row whose range holds this number.
    pub holds: Option<E164>,
}

#[derive(Debug)]
enum Wanted {
    Id(Uuid),
    Flag(bool),
    Text(String),
}

impl Filter {
    /// Wants rows whose `field` has the value that `text` spells.
    ///
    /// # Errors
    ///
    /// When it spells none.
    pub fn equal(&mut self, field: &'static Field, text: &str) -> Result<(), Fault> {
        let wanted = match field.kind {
            Kind::Id => Uuid::parse_str(text).ok().map(Wanted::Id),
            Kind::Flag => text.parse().ok().map(Wanted::Flag),
            Kind::Choice(words) => words.contains(&text).then(|| Wanted::Text(text.to_owned())),
            Kind::Text(..) | Kind::Number | Kind::Pattern(..) => {
                let is_one = field.check(&Value::from(text)).is_ok();
                is_one.then(|| Wanted::Text(text.to_owned()))
            }
            Kind::Integer(..) | Kind::Patterns(..) | Kind::Object | Kind::Objects | Kind::Time => {
                None
            }
        };
        let expected = || Fault::invalid(field.name, format!("it is {}", field.kind.expected()));
        self.equal.push((field, wanted.ok_or_else(expected)?));
        Ok(())
    }
}

/// Rows, the newest identity first.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Uuid>,
}

/// A page of rows of `place`; `after` is the `next` of the page before, `limit` is cut to [`PAGE_MAX`].
///
/// # Errors
///
/// When the database fails.
pub async fn list(
    (database, holder): (&Database, &KeyHolder),
    (resource, place): (&Resource, Place),
    filter: Filter,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Page, Fault> {
    let limit = limit.clamp(1, PAGE_MAX);
    let mut transaction = resource::begin(database, holder, resource).await?;
    let mut query = list_query((resource, place), filter, after, limit);
    let mut found: Vec<Stored> = query.build_query_as().fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let is_full = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| is_full).map(|stored| stored.id);
    Ok(Page { rows: found.into_iter().map(|stored| resource.show(stored)).collect(), next })
}

/// One row of `place`.
///
/// # Errors
///
/// When it is not there, or the database fails.
pub async fn get(
    database: &Database,
    holder: &KeyHolder,
    (resource, place): (&Resource, Place),
    id: Uuid,
) -> Result<Row, Fault> {
    let mut transaction = resource::begin(database, holder, resource).await?;
    let row = row(&mut transaction, (resource, place), id, false).await?;
    transaction.commit().await?;
    Ok(row)
}

/// One row within a transaction; `is_locked`: nobody else changes it until the end.
pub(in crate::store) async fn row(
    connection: &mut PgConnection,
    (resource, place): (&Resource, Place),
    id: Uuid,
    is_locked: bool,
) -> Result<Row, Fault> {
    let mut query = get_query((resource, place), id, is_locked);
    let stored = resource::one(&mut query, connection).await?;
    stored.map(|stored| resource.show(stored)).ok_or(Fault::Missing(resource.name))
}

pub(crate) fn get_query(
    (resource, place): (&Resource, Place),
    id: Uuid,
    is_locked: bool,
) -> QueryBuilder<Postgres> {
    let mut query =
        QueryBuilder::new(format!("SELECT {ROW} FROM {} t WHERE t.id = ", resource.table));
    query.push_bind(id);
    resource::push_place(&mut query, resource, place);
    if is_locked {
        query.push(" FOR UPDATE");
    }
    query
}

pub(crate) fn list_query(
    (resource, place): (&Resource, Place),
    filter: Filter,
    after: Option<Uuid>,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!("SELECT {ROW} FROM {} t WHERE true", resource.table));
    resource::push_place(&mut query, resource, place);
    for (field, wanted) in filter.equal {
        query.push(format!(" AND t.{} = ", field.column()));
        match wanted {
            Wanted::Id(id) => query.push_bind(id),
            Wanted::Flag(flag) => query.push_bind(flag),
            Wanted::Text(text) => query.push_bind(text),
        };
    }
    if let Some(number) = filter.holds {
        query
            .push(
                " AND int8range(tandem_number_rank(t.first_number), \
                 tandem_number_rank(t.last_number), '[]') @> tandem_number_rank(",
            )
            .push_bind(number.as_str().to_owned())
            .push(")");
    }
    if let Some(after) = after {
        query.push(" AND t.id < ").push_bind(after);
    }
    // One more than asked for tells whether there is a next page.
    query.push(" ORDER BY t.id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    query
}
