//! Routing profiles: which trunks numbers of a plan and a country use.

use crate::api::auth::Caller;
use crate::api::resource::Noun;
use crate::store::resource::Place;
use crate::store::resource::Resource;
use crate::store::routing_profiles::ROUTING_PROFILES;

pub(super) struct RoutingProfiles;

impl Noun for RoutingProfiles {
    const RESOURCE: &'static Resource = &ROUTING_PROFILES;

    fn place(caller: &Caller) -> Place {
        caller.tenant.map_or(Place::Shared, Place::Of)
    }
}
