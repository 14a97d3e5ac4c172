//! Campaigns: when, with which numbers and how many at once a tenant calls for one purpose.

use crate::routing::outbound_trunk::CallingHours;
use crate::types::cause::HangupCause;
use crate::types::id::AiProfileId;
use crate::types::id::CampaignId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use std::fmt;

/// A campaign. Which numbers are its own stands in the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Its identity.
    pub id: CampaignId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Its name, for operators.
    pub name: String,
    /// False: paused.
    pub active: bool,
    /// Who speaks; `None`: the profile of the caller's number, else the tenant's default.
    pub ai_profile: Option<AiProfileId>,
    /// When of the day it calls; `None`: always.
    pub hours: Option<CallingHours>,
    /// On which days it calls. A window that spans midnight belongs to the day it begins on.
    pub weekdays: Vec<Weekday>,
    /// The zone of hours and days.
    pub zone: TimeZone,
    /// Most calls at once; 0 is no limit of its own.
    pub calls_max: u32,
}

/// Why a campaign does not call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It is paused.
    Paused,
    /// It does not call on this day.
    Day(Weekday),
    /// It does not call at this time of the day.
    Time(jiff::civil::Time),
}

impl Objection {
    /// The cause of the refusal.
    #[must_use]
    pub const fn cause(self) -> HangupCause {
        match self {
            Self::Paused => HangupCause::CampaignPaused,
            Self::Day(_) | Self::Time(_) => HangupCause::CampaignClosed,
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("it is paused"),
            Self::Day(day) => write!(f, "it does not call on a {day:?}"),
            Self::Time(time) => write!(f, "it does not call at {time:.0}"),
        }
    }
}

impl Campaign {
    /// Whether it calls at this time.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn check(&self, wall: Timestamp) -> Result<(), Objection> {
        if !self.active {
            return Err(Objection::Paused);
        }
        let local = wall.to_zoned(self.zone.clone());
        let mut day = local.weekday();
        if let Some(hours) = &self.hours {
            if !hours.contain(local.time()) {
                return Err(Objection::Time(local.time()));
            }
            if hours.to < hours.from && local.time() < hours.to {
                day = day.previous();
            }
        }
        if self.weekdays.contains(&day) { Ok(()) } else { Err(Objection::Day(day)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Time;
    use uuid::Uuid;

    fn campaign(from: i8, to: i8, weekdays: &[Weekday]) -> Campaign {
        let time = |hour| Time::new(hour, 0, 0, 0).unwrap();
        Campaign {
            id: CampaignId::from_uuid(Uuid::nil()),
            tenant: TenantId::from_uuid(Uuid::nil()),
            name: "c".to_owned(),
            active: true,
            ai_profile: None,
            hours: Some(CallingHours { from: time(from), to: time(to) }),
            weekdays: weekdays.to_vec(),
            zone: TimeZone::get("Asia/Kolkata").unwrap(),
            calls_max: 0,
        }
    }

    #[test]
    fn a_window_is_of_the_campaigns_zone_and_days() {
        let day = campaign(9, 21, &[Weekday::Monday]);
        // 2026-03-02 is a Monday; India is 5:30 ahead.
        for (at, expected) in [
            ("2026-03-02T03:30:00Z", Ok(())),
            ("2026-03-02T15:29:59Z", Ok(())),
            ("2026-03-02T03:29:00Z", Err(Objection::Time(Time::new(8, 59, 0, 0).unwrap()))),
            ("2026-03-02T15:30:00Z", Err(Objection::Time(Time::new(21, 0, 0, 0).unwrap()))),
            ("2026-03-03T05:00:00Z", Err(Objection::Day(Weekday::Tuesday))),
        ] {
            assert_eq!(day.check(at.parse().unwrap()), expected, "{at}");
        }
        let paused = Campaign { active: false, ..day };
        assert_eq!(paused.check("2026-03-02T05:00:00Z".parse().unwrap()), Err(Objection::Paused));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let night = campaign(22, 2, &[Weekday::Monday]);
        for (at, calls) in [
            ("2026-03-02T17:00:00Z", true),
            ("2026-03-02T20:00:00Z", true),
            ("2026-03-01T20:00:00Z", false),
            ("2026-03-02T21:00:00Z", false),
        ] {
            assert_eq!(night.check(at.parse().unwrap()).is_ok(), calls, "{at}");
        }
    }
}
