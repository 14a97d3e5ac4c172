//! Campaigns.

use crate::api::resource::Noun;
use crate::store::campaigns::CAMPAIGNS;
use crate::store::resource::Resource;

pub(super) struct Campaigns;

impl Noun for Campaigns {
    const RESOURCE: &'static Resource = &CAMPAIGNS;
}
