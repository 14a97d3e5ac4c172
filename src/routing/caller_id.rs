//! Caller IDs of calls out: which number is shown, and in which headers.

use crate::routing::contents::Bar;
use crate::routing::contents::Number;
use crate::routing::destination::Prefix;
use crate::routing::table::RoutingTable;
use crate::routing::template::Template;
use crate::routing::trunk::Trunk;
use crate::types::id::TenantId;
use crate::types::number::E164;

/// How a trunk presents callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdPolicy {
    /// Which numbers may be shown.
    pub choice: Choice,
    /// Shown where none was asked for.
    pub default: Option<E164>,
    /// The allow list of [`Choice::AllowList`]. Empty: nothing.
    pub allowed: Vec<Allowed>,
    /// What becomes of a call that asked for another number.
    pub on_disallowed: OnDisallowed,
    /// The user part of From.
    pub from_user: Template,
    /// The display name of From; empty: none.
    pub display_name: Template,
    /// The header that asserts the caller.
    pub asserted: Asserted,
    /// The URI in it.
    pub asserted_uri: Template,
    /// Whether callers may withhold their number.
    pub privacy: Privacy,
    /// The URI of From in calls that withhold it.
    pub anonymous_from: String,
    /// How the carrier is told of forwarding.
    pub diversion: DiversionPolicy,
}

impl Default for CallerIdPolicy {
    fn default() -> Self {
        Self {
            choice: Choice::AllowList,
            default: None,
            allowed: vec![Allowed::Dids],
            on_disallowed: OnDisallowed::UseDefault,
            from_user: Template::caller(),
            display_name: Template::fixed(""),
            asserted: Asserted::Pai,
            asserted_uri: Template::caller_uri(),
            privacy: Privacy::Honour,
            anonymous_from: "sip:anonymous@anonymous.invalid".to_owned(),
            diversion: DiversionPolicy::Pass,
        }
    }
}

/// Which numbers may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Any number of the tenant, and on a forwarded call that of its caller.
    Pass,
    /// Those of the allow list.
    AllowList,
    /// The default, always.
    Fixed,
}

/// An entry of the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// This number.
    Number(E164),
    /// Numbers that begin so.
    Prefix(Prefix),
    /// `dids`: the tenant's numbers that may be called on this trunk.
    Dids,
}

/// What becomes of a call that asked for a number it may not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisallowed {
    /// The default is shown.
    UseDefault,
    /// It is refused.
    Reject,
}

/// The header that asserts the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asserted {
    /// P-Asserted-Identity (RFC 3325).
    Pai,
    /// P-Preferred-Identity (RFC 3325).
    Ppi,
    /// Remote-Party-ID (a draft many carriers still read).
    Rpid,
    /// None.
    None,
}

/// Whether callers may withhold their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Where the call asks for it.
    Honour,
    /// Always withheld.
    Force,
    /// Never: carriers that refuse calls without a number.
    Ignore,
}

/// How the carrier is told of forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiversionPolicy {
    /// A Diversion header (RFC 5806) that came with the call is passed on.
    Pass,
    /// A Diversion header names the number of ours that was called.
    Generate,
    /// A History-Info header (RFC 7044) does.
    HistoryInfo,
    /// Nothing.
    Strip,
}

/// Why no number may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerIdError {
    /// It belongs to another tenant.
    #[error("it belongs to another tenant")]
    AnotherTenants,
    /// It is no number of the tenant.
    #[error("it is not a number of the tenant")]
    NotOwn,
    /// The number is the tenant's, but not in service.
    #[error("it is not in service")]
    Inactive,
    /// The number is the tenant's, but may not be used.
    #[error("{0}")]
    Barred(Bar),
    /// The number is the tenant's, but the trunk does not list it.
    #[error("the trunk does not allow it")]
    NotListed,
    /// Neither the call nor the trunk names one.
    #[error("the call names none, and the trunk has no usable default")]
    Missing,
}

/// Whose caller ID is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) table: &'a RoutingTable,
    pub(crate) tenant: TenantId,
    pub(crate) trunk: &'a Trunk,
    /// What the call asked for.
    pub(crate) asked: Option<E164>,
    /// The caller of the call that is forwarded by this one.
    pub(crate) forwarded: Option<E164>,
    /// The number of the tenant that was called there.
    pub(crate) dialled: Option<E164>,
}

/// A number to show, and why it is not the one asked for, if it is not.
pub(crate) type Chosen = (E164, Option<CallerIdError>);

impl CallerIdPolicy {
    /// The number this call shows.
    pub(crate) fn choose(&self, asking: &Asking<'_>) -> Result<Chosen, CallerIdError> {
        let wanted = match self.choice {
            Choice::Fixed => None,
            Choice::Pass | Choice::AllowList => asking.asked.or(asking.forwarded),
        };
        let why_not = match wanted.map(|number| (number, self.permits(asking, number))) {
            Some((number, Ok(()))) => return Ok((number, None)),
            // Nobody asked for the caller of a forwarded call: that the trunk shows none refuses nothing.
            Some((_, Err(why))) if asking.asked.is_none() => Some(why),
            Some((_, Err(why))) => match self.on_disallowed {
                OnDisallowed::UseDefault => Some(why),
                OnDisallowed::Reject => return Err(why),
            },
            None => None,
        };
        // Who forwards calls to a trunk that shows no strangers shows the number that was called.
        let dialled = asking.dialled.filter(|number| self.permits(asking, *number).is_ok());
        if let Some(dialled) = dialled {
            return Ok((dialled, why_not));
        }
        let default = self.default.ok_or(why_not.unwrap_or(CallerIdError::Missing))?;
        owns(asking, default)?;
        Ok((default, why_not))
    }

    fn permits(&self, asking: &Asking<'_>, number: E164) -> Result<(), CallerIdError> {
        let own = owns(asking, number);
        match self.choice {
            Choice::Fixed => Err(CallerIdError::NotListed),
            Choice::Pass
                if own == Err(CallerIdError::NotOwn) && asking.forwarded == Some(number) =>
            {
                Ok(())
            }
            Choice::Pass => own,
            Choice::AllowList => {
                own?;
                let row = asking.table.number(number);
                let listed = self.allowed.iter().any(|entry| match entry {
                    Allowed::Number(allowed) => *allowed == number,
                    Allowed::Prefix(prefix) => prefix.covers(number),
                    Allowed::Dids => row.is_some_and(|row| may_be_called(asking, row)),
                });
                if listed { Ok(()) } else { Err(CallerIdError::NotListed) }
            }
        }
    }
}

fn may_be_called(asking: &Asking<'_>, row: &Number) -> bool {
    asking.table.belongs(row, asking.trunk)
}

/// Whether `number` is the tenant's to show. A number that is nobody's row, such as a caller ID the
/// carrier has verified, may be shown on a trunk that is the tenant's alone.
fn owns(asking: &Asking<'_>, number: E164) -> Result<(), CallerIdError> {
    match asking.table.number(number) {
        Some(row) if row.tenant != asking.tenant => Err(CallerIdError::AnotherTenants),
        Some(row) => match row.barred {
            Some(bar) => Err(CallerIdError::Barred(bar)),
            None if row.active => Ok(()),
            None => Err(CallerIdError::Inactive),
        },
        None if asking.trunk.tenant == Some(asking.tenant) => Ok(()),
        None => Err(CallerIdError::NotOwn),
    }
}
