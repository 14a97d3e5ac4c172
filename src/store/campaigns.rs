//! Campaigns: rows of `campaigns` as routing reads them.

use crate::routing::campaign::Campaign;
use crate::routing::outbound_trunk::CallingHours;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Form;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::store::snapshot::RowFault;
use crate::types::id::AiProfileId;
use crate::types::id::CampaignId;
use crate::types::id::TenantId;
use jiff::civil::Time;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// A row of `campaigns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct CampaignRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) ai_profile_id: Option<Uuid>,
    pub(crate) time_zone: String,
    pub(crate) window_from: Option<String>,
    pub(crate) window_until: Option<String>,
    pub(crate) weekdays: Vec<String>,
    pub(crate) calls_max: i32,
}

pub(crate) const ALL: &str = "SELECT id, tenant_id, name, status, ai_profile_id, time_zone, window_from, \
     window_until, weekdays, calls_max FROM campaigns";

pub(crate) const SOME: &str = "SELECT id, tenant_id, name, status, ai_profile_id, time_zone, window_from, \
     window_until, weekdays, calls_max FROM campaigns WHERE id = ANY($1)";

/// The days of a week, as the database and APIs spell them.
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl CampaignRow {
    /// The campaign of this row.
    pub(crate) fn campaign(self) -> Result<Campaign, RowFault> {
        let fault = |why: &str| RowFault::new("campaigns", self.id, &self.name, why);
        let zone = TimeZone::get(&self.time_zone).map_err(|_| fault("time_zone is not known"))?;
        let hours = match (&self.window_from, &self.window_until) {
            (Some(from), Some(to)) => {
                let (from, to) = (time(from), time(to));
                let hours = from.zip(to).map(|(from, to)| CallingHours { from, to });
                Some(hours.ok_or_else(|| fault("its window has what is no time"))?)
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(fault("half of its window is missing"));
            }
        };
        let weekdays = self.weekdays.iter().map(|day| weekday(day)).collect::<Option<_>>();
        Ok(Campaign {
            id: CampaignId::from_uuid(self.id),
            tenant: TenantId::from_uuid(self.tenant_id),
            active: self.status == "active",
            ai_profile: self.ai_profile_id.map(AiProfileId::from_uuid),
            hours,
            weekdays: weekdays.ok_or_else(|| fault("weekdays has what is no day"))?,
            zone,
            calls_max: u32::try_from(self.calls_max).map_err(|_| fault("calls_max < 0"))?,
            name: self.name,
        })
    }
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':').filter(|_| text.len() == 5)?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(text: &str) -> Option<Weekday> {
    WEEKDAYS.iter().find(|(name, _)| *name == text).map(|(_, day)| *day)
}

/// Campaigns as the API manages them.
pub const CAMPAIGNS: Resource = Resource {
    name: "campaign",
    plural: "campaigns",
    table: "campaigns",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is.").given(Given::Never),
        Field::new("name", Kind::Text(1, 200), "Its name; a tenant has no two of one name.")
            .given(Given::Required)
            .filter(),
        Field::new(
            "status",
            Kind::Choice(&["active", "paused"]),
            "Paused: its calls are refused until it is active again.",
        )
        .filter(),
        Field::new(
            "ai_profile_id",
            Kind::Id,
            "Who speaks; null: the profile of the caller's number, else the tenant's default.",
        )
        .nullable()
        .filter(),
        Field::new(
            "time_zone",
            Kind::Pattern(Form::new(is_zone, "", "the name of a time zone, such as Asia/Kolkata")),
            "The zone of its window and days.",
        ),
        Field::new(
            "window_from",
            Kind::Pattern(Form::new(
                is_time,
                "^([01][0-9]|2[0-3]):[0-5][0-9]$",
                "a time of the day, such as 09:00",
            )),
            "When of the day its calls begin; null, with `window_until`: the whole day.",
        )
        .nullable(),
        Field::new(
            "window_until",
            Kind::Pattern(Form::new(
                is_time,
                "^([01][0-9]|2[0-3]):[0-5][0-9]$",
                "a time of the day, such as 21:00",
            )),
            "When of the day no more of its calls begin. Before `window_from`: a night.",
        )
        .nullable(),
        Field::new(
            "weekdays",
            Kind::Patterns(
                7,
                Form::new(
                    is_weekday,
                    "^(mon|tue|wed|thu|fri|sat|sun)$",
                    "days: mon, tue, wed, thu, fri, sat, sun",
                ),
            ),
            "On which days it calls. A night belongs to the day it begins on.",
        ),
        Field::new(
            "calls_max",
            Kind::Integer(0, 1_000_000),
            "Most calls at once on a node; 0: no limit of its own.",
        ),
        Field::new("created_at", Kind::Time, "When it was made.").given(Given::Never),
        Field::new("updated_at", Kind::Time, "When it was last changed.").given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};

fn is_zone(text: &str) -> bool {
    text.len() <= 64 && TimeZone::get(text).is_ok()
}

fn is_time(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') && time(text).is_some()
}

fn is_weekday(text: &str) -> bool {
    weekday(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_what_is_none() {
        for (text, is) in
            [("09:00", true), ("23:59", true), ("24:00", false), ("9:00", false), ("+9:00", false)]
        {
            assert_eq!(is_time(text), is, "{text}");
        }
    }
}
