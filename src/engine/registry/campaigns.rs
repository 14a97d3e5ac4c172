//! How many calls campaigns have on this node.

use crate::engine::registry::Registry;
use crate::routing::campaign::Campaign;
use crate::types::cause::HangupCause;
use crate::types::id::CampaignId;
use std::sync::Arc;

/// A place among the calls of a campaign; dropping it gives it back.
#[derive(Debug)]
pub struct CampaignGuard {
    registry: Arc<Registry>,
    campaign: CampaignId,
}

impl Registry {
    /// Takes a place for one more call of a campaign.
    ///
    /// # Errors
    /// `CampaignLimit`: it has as many as it may.
    pub fn enter_campaign(
        self: &Arc<Self>,
        campaign: &Campaign,
    ) -> Result<CampaignGuard, HangupCause> {
        let mut inner = self.lock();
        // Bounded by the calls of the node: who has none is not in it.
        let calls = inner.campaigns.get(&campaign.id).copied().unwrap_or_default();
        if campaign.calls_max > 0 && calls >= campaign.calls_max {
            return Err(HangupCause::CampaignLimit);
        }
        inner.campaigns.insert(campaign.id, calls.saturating_add(1));
        drop(inner);
        Ok(CampaignGuard { registry: Arc::clone(self), campaign: campaign.id })
    }
}

impl Drop for CampaignGuard {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Some(calls) = inner.campaigns.get_mut(&self.campaign) {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                inner.campaigns.remove(&self.campaign);
            }
        }
    }
}
