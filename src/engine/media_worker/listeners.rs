//! Whom a session lets hear its peer beside the agent.

use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;
use crate::media::answering_machine::AnsweringMachineDetector;
use crate::media::listener::Listener;

impl MediaThread {
    pub(super) fn listen(&mut self, id: MediaId, listener: Option<Box<Listener>>) {
        // Where the session is closed already, the one that was brought is what is left over.
        let mut left = listener;
        self.with(id, |hosted, _| left = hosted.session.listen_with(left.take()));
        if let Some(mut listener) = left {
            listener.give_back_model(self.desk.out.models());
            self.discard(Garbage::Listener(listener));
        }
    }

    pub(super) fn screen(&mut self, id: MediaId, machine: Box<AnsweringMachineDetector>) {
        let mut left = Some(machine);
        self.with(id, |hosted, _| {
            left = left.take().and_then(|machine| hosted.session.screen_with(machine));
        });
        if let Some(mut machine) = left {
            machine.give_back_model(self.desk.out.models());
            self.discard(Garbage::AnsweringMachine(machine));
        }
    }
}
