//! `Field`: one value of a resource: what it may be, who may set it and when.

use crate::store::resource::Fault;
use crate::store::resource::Members;
use crate::store::resource::Resource;
use crate::types::number::E164;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use uuid::Uuid;

/// One value of a resource.
#[derive(Debug)]
pub struct Field {
    /// Its name, for clients and as a column.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// When it may be given.
    pub given: Given,
    /// Whether null is a value of it, which clears it.
    pub is_nullable: bool,
    /// Whether lists can be narrowed by it.
    pub is_filter: bool,
    /// Whether only the platform may set it.
    pub is_platforms: bool,
    /// What it says, for people.
    pub about: &'static str,
}

/// When a value may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It must be given on creation, and may be changed.
    Required,
    /// It may be given and changed; left out on creation, the schema's default holds.
    Optional,
    /// It must be given on creation, and stays.
    RequiredOnce,
    /// It may be given on creation, and stays.
    OptionalOnce,
    /// It is the switch's.
    Never,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A UUID.
    Id,
    /// A text of so many characters at least and at most; one of white space alone counts as empty.
    Text(usize, usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number between these.
    Integer(i64, i64),
    /// True or false.
    Flag,
    /// A telephone number in the international form.
    Number,
    /// A text of this form.
    Pattern(Form),
    /// A list of texts, so many at most, each of this form.
    Patterns(usize, Form),
    /// An object; what it may hold is checked by who reads it.
    Object,
    /// A list of objects, which the switch makes.
    Objects,
    /// A time in RFC 3339.
    Time,
}

/// The form of a text.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Judges it.
    pub is_good: fn(&str) -> bool,
    /// A regular expression (ECMA 262) that every good text matches; empty: there is none.
    pub pattern: &'static str,
    /// What it is, for people.
    pub about: &'static str,
}

impl Form {
    /// A form.
    #[must_use]
    pub const fn new(
        is_good: fn(&str) -> bool,
        pattern: &'static str,
        about: &'static str,
    ) -> Self {
        Self { is_good, pattern, about }
    }
}

impl Field {
    /// A field that may be given and changed.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        let given = Given::Optional;
        let (is_nullable, is_filter, is_platforms) = (false, false, false);
        Self { name, kind, given, is_nullable, is_filter, is_platforms, about }
    }

    /// The same, given at another time.
    #[must_use]
    pub const fn given(mut self, given: Given) -> Self {
        self.given = given;
        self
    }

    /// The same, and null is a value.
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        self.is_nullable = true;
        self
    }

    /// The same, and lists can be narrowed by it.
    #[must_use]
    pub const fn filter(mut self) -> Self {
        self.is_filter = true;
        self
    }

    /// The same, set by the platform alone.
    #[must_use]
    pub const fn platforms(mut self) -> Self {
        self.is_platforms = true;
        self
    }

    pub(crate) const fn column(&self) -> &'static str {
        self.name
    }

    /// Judges a value that was given.
    ///
    /// # Errors
    ///
    /// What it may be.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::Null if self.is_nullable => Ok(()),
            Value::Null => Err("it cannot be null".to_owned()),
            value => self.kind.check(value),
        }
    }
}

/// Longer texts are not told back to who gave them.
const SHOWN_MAX: usize = 64;

impl Kind {
    fn check(self, value: &Value) -> Result<(), String> {
        let text = value.as_str();
        let good = match self {
            Self::Id => text.is_some_and(|text| Uuid::parse_str(text).is_ok()),
            Self::Text(least, most) => text.is_some_and(|text| {
                text.chars().count() <= most
                    && text.trim().chars().count() >= least
                    && !text.contains('\0')
            }),
            Self::Choice(words) => text.is_some_and(|text| words.contains(&text)),
            Self::Integer(least, most) => {
                value.as_i64().is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Flag => value.is_boolean(),
            Self::Number => text.is_some_and(|text| text.parse::<E164>().is_ok()),
            Self::Pattern(form) => text.is_some_and(form.is_good),
            Self::Patterns(most, form) => value.as_array().is_some_and(|list| {
                let is_good = |one: &Value| one.as_str().is_some_and(form.is_good);
                list.len() <= most && list.iter().all(is_good)
            }),
            Self::Object => value.is_object() && !has_nul(value),
            Self::Objects => value.is_array() && !has_nul(value),
            Self::Time => text.is_some_and(|text| {
                text.parse::<Timestamp>().is_ok_and(|time| !is_before_our_era(time))
            }),
        };
        if good {
            return Ok(());
        }
        let wrong = self.wrong_one(value);
        let wrong = wrong.map_or(String::new(), |one| format!(", which `{one}` is not"));
        Err(format!("it is {}{wrong}", self.expected()))
    }

    /// The first short text of a list that is not what each of them has to be.
    fn wrong_one(self, value: &Value) -> Option<&str> {
        let Self::Patterns(_, form) = self else { return None };
        let mut texts = value.as_array()?.iter().filter_map(Value::as_str);
        texts.find(|text| text.len() <= SHOWN_MAX && !(form.is_good)(text))
    }

    /// What a value of it is, for people.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Id => "a UUID".to_owned(),
            Self::Text(least, most) => format!("a text of {least} to {most} characters"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Number => "a number in the international form, such as +15550100".to_owned(),
            Self::Pattern(form) => form.about.to_owned(),
            Self::Patterns(most, form) => format!("a list of at most {most}, each {}", form.about),
            Self::Object => "an object".to_owned(),
            Self::Objects => "a list of objects".to_owned(),
            Self::Time => "a time in RFC 3339".to_owned(),
        }
    }

    /// A value of the database as clients see it.
    pub(crate) fn shown(self, value: Value) -> Value {
        match (self, value) {
            // PostgreSQL writes the offset of its session; times are shown in one form.
            (Self::Time, Value::String(text)) => {
                let time = text.parse::<Timestamp>().map(|time| time.to_string());
                Value::String(time.unwrap_or(text))
            }
            (_, value) => value,
        }
    }
}

/// The first year that a time of a request may be of; no time that is read is of one after 9999.
const YEAR_MIN: i16 = 1;

/// Judges a time that a request names.
///
/// # Errors
///
/// Where it is before our era: PostgreSQL knows only some of those years, and writes them in another form.
pub(crate) fn check_time(field: &str, time: Option<Timestamp>) -> Result<(), Fault> {
    if time.is_some_and(is_before_our_era) {
        return Err(Fault::invalid(field, "it is a time in the years 0001 to 9999"));
    }
    Ok(())
}

fn is_before_our_era(time: Timestamp) -> bool {
    TimeZone::UTC.to_datetime(time).year() < YEAR_MIN
}

/// PostgreSQL stores no NUL in a text.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl Resource {
    /// Judges what was given for a new row (`is_new`) or for a change, by a key of the platform or not.
    ///
    /// # Errors
    ///
    /// The first value that cannot be used.
    pub fn check(&self, given: &Members, is_new: bool, is_platform: bool) -> Result<(), Fault> {
        for (name, value) in given {
            let field = self.field(name).ok_or_else(|| {
                Fault::invalid(name.as_str(), format!("a {} has no such field", self.name))
            })?;
            match field.given {
                Given::Never => {
                    return Err(Fault::invalid(name.as_str(), "it is the switch's to set"));
                }
                Given::RequiredOnce | Given::OptionalOnce if !is_new => {
                    return Err(Fault::invalid(name.as_str(), "it cannot be changed"));
                }
                Given::Required | Given::Optional | Given::RequiredOnce | Given::OptionalOnce => {}
            }
            if field.is_platforms && !is_platform {
                return Err(Fault::Forbidden(name.clone()));
            }
            field.check(value).map_err(|why| Fault::invalid(name.as_str(), why))?;
        }
        let required =
            |field: &&Field| is_new && matches!(field.given, Given::Required | Given::RequiredOnce);
        let missing =
            self.fields.iter().filter(required).find(|field| !given.contains_key(field.name));
        match missing {
            Some(field) => Err(Fault::invalid(field.name, "it is missing")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const THING: Resource = Resource {
        name: "thing",
        plural: "things",
        table: "things",
        fields: &[
            Field::new("name", Kind::Text(1, 5), "").given(Given::Required),
            Field::new("number", Kind::Number, "").given(Given::OptionalOnce),
            Field::new("owner", Kind::Id, "").nullable(),
            Field::new("plan", Kind::Choice(&["a", "b"]), "").platforms(),
            Field::new("limit", Kind::Integer(0, 9), ""),
            Field::new("more", Kind::Object, ""),
            Field::new("at", Kind::Time, "").given(Given::Never),
            Field::new(
                "keys",
                Kind::Patterns(2, Form::new(is_key, "", "a key of a telephone")),
                "",
            ),
        ],
        exclusive: None,
        has_secrets: false,
        is_switchs: false,
        deactivates: None,
    };

    fn is_key(text: &str) -> bool {
        text.len() == 1 && text != "x"
    }

    fn judged(given: Value, is_new: bool) -> Result<(), String> {
        let Value::Object(given) = given else { panic!("no object") };
        THING.check(&given, is_new, false).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_fits_its_description_passes() {
        assert_eq!(judged(json!({"name": "x", "number": "+15550100", "limit": 9}), true), Ok(()));
        assert_eq!(judged(json!({"owner": null, "more": {"a": [1]}}), false), Ok(()));
    }

    #[test]
    fn what_does_not_is_named_by_its_field() {
        for (given, is_new, field) in [
            (json!({}), true, "`name`"),
            (json!({"name": " "}), true, "`name`"),
            (json!({"name": "abcdef"}), false, "`name`"),
            (json!({"name": null}), false, "`name`"),
            (json!({"name": "a\u{0}"}), false, "`name`"),
            (json!({"number": "+15550100"}), false, "`number`"),
            (json!({"name": "x", "number": "0100"}), true, "`number`"),
            (json!({"owner": "me"}), false, "`owner`"),
            (json!({"limit": 10}), false, "`limit`"),
            (json!({"limit": 1.5}), false, "`limit`"),
            (json!({"more": []}), false, "`more`"),
            (json!({"more": {"a": ["\u{0}"]}}), false, "`more`"),
            (json!({"at": "2026-01-01T00:00:00Z"}), false, "`at`"),
            (json!({"colour": 1}), false, "`colour`"),
        ] {
            let error = judged(given.clone(), is_new).unwrap_err();
            assert!(error.starts_with(field), "{given}: {error}");
        }
    }

    #[test]
    fn of_a_list_the_one_that_is_wrong_is_named() {
        let said = |keys: Value| judged(json!({"keys": keys}), false);
        let expected = "`keys`: it is a list of at most 2, each a key of a telephone";
        assert_eq!(said(json!(["1", "x"])), Err(format!("{expected}, which `x` is not")));
        assert_eq!(said(json!(["1", "2", "3"])), Err(expected.to_owned()), "each is right");
        assert_eq!(said(json!(["1", 2])), Err(expected.to_owned()));
        assert_eq!(said(json!(["y".repeat(65)])), Err(expected.to_owned()), "too long to be told");
    }

    #[test]
    fn what_is_the_platforms_is_not_a_tenants_to_set() {
        let given = Members::from_iter([("plan".to_owned(), json!("a"))]);
        assert!(
            matches!(THING.check(&given, false, false), Err(Fault::Forbidden(field)) if field == "plan")
        );
        assert!(THING.check(&given, false, true).is_ok());
    }
}
