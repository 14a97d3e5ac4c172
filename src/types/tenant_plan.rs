//! `TenantPlan`: what a tenant has bought.

use std::fmt;
use std::str::FromStr;

/// What a tenant has bought. Routing profiles may be for the tenants of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TenantPlan {
    /// The smallest.
    Starter,
    /// The one above.
    Growth,
    /// As agreed.
    Custom,
}

/// The text names no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plan is starter, growth or custom")]
pub struct UnknownPlan;

impl TenantPlan {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Growth => "growth",
            Self::Custom => "custom",
        }
    }
}

impl FromStr for TenantPlan {
    type Err = UnknownPlan;

    fn from_str(text: &str) -> Result<Self, UnknownPlan> {
        [Self::Starter, Self::Growth, Self::Custom]
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or(UnknownPlan)
    }
}

impl fmt::Display for TenantPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
