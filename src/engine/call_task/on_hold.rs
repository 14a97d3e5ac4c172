//! What a caller hears that waits: the music of its profile, where that has some.

use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::engine::call_task::Task;
use std::time::Duration;

/// How long a disk may take for the music; after that the caller hears noise.
const READ_MAX: Duration = Duration::from_secs(1);

impl Task {
    /// Lets a near leg that waits on hold hear its profile's music.
    pub(super) async fn play_on_hold(&mut self, path: AudioPath) {
        let name = self.route.profile.agent.hold_music.clone();
        let is_on_hold = path == AudioPath::Waiting(Comfort::Hold);
        let (Some(name), Some(near)) = (name.filter(|_| is_on_hold), self.media.id()) else {
            return;
        };
        let (assets, tenant) = (self.switch.assets.clone(), self.route.tenant.id);
        let read = tokio::task::spawn_blocking(move || assets.load_shared(tenant, &name));
        match tokio::time::timeout(READ_MAX, read).await {
            Ok(Ok(Ok(music))) => self.switch.media.isolate_with_music(near, music),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "there is no music on hold"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the music on hold was not read in time"),
        }
    }
}
