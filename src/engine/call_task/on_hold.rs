//! What a caller hears that waits: the music of its profile, where that has some.

use crate::audio::bridge::MusicPlace;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::side::LegSide;
use crate::engine::call_task::Task;
use std::sync::Arc;

impl Task {
    /// Lets a near leg that waits on hold hear its profile's music, once that was read. The call does not wait for the
    /// disk; and where the wait is over by then, nobody has the music any more.
    pub(super) fn play_on_hold(&self, path: AudioPath) {
        let name = self.route.profile.agent.hold_music.clone();
        let (Some(name), Some(near)) = (name.filter(|_| is_wait(path)), self.media.id()) else {
            return;
        };
        let place = MusicPlace::default();
        self.switch.media.isolate_with_music(near, Arc::clone(&place));
        let (assets, tenant) = (self.switch.assets.clone(), self.route.tenant.id);
        tokio::task::spawn_blocking(move || match assets.load_shared(tenant, &name) {
            // It was put nowhere before.
            Ok(music) => drop(place.set(music)),
            Err(error) => tracing::warn!(%error, "there is no music on hold"),
        });
    }
}

/// Whether the near leg waits on hold, or for its agent, which talks with another.
const fn is_wait(path: AudioPath) -> bool {
    match path {
        AudioPath::Waiting(Comfort::Hold) => true,
        AudioPath::Agent(side) => !matches!(side, LegSide::Near),
        AudioPath::Waiting(_)
        | AudioPath::Bridge(_)
        | AudioPath::Others
        | AudioPath::Early(_)
        | AudioPath::Apart => false,
    }
}
