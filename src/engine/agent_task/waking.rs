//! What an agent's task is woken for: some hundred times a second for audio, which is passed on right here.

use crate::agent::dialect::AUDIO_ROOM_BYTES;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::audio::link::Came;
use crate::audio::link::FRAME_BYTES;
use crate::clock;
use crate::engine::agent_task::Task;
use crate::engine::agent_task::connection::Connection;
use crate::engine::agent_task::connection::Heard;
use crate::engine::agent_task::handle::Command;
use crate::engine::agent_task::playing::Pending;
use crate::net::websocket::ConnectError;
use crate::types::cache::fetch;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::Context;
use std::task::Poll;
use tracing::Instrument;

/// What the task woke up for.
pub(super) enum Wake {
    Command(Command),
    Deadline,
    /// Something of the link, which was handled where it came.
    Link,
    /// A dial that the circuit does not let through.
    Skipped,
    Dialled(Box<Result<Connection, ConnectError>>),
    Heard(Heard),
}

impl Task {
    /// Leads the agent until it is over. To enter the span of the call is to look it up far away, and audio says nothing
    /// that is logged: so only what else happens is in it.
    pub(super) async fn run(&mut self) {
        let mut out = Vec::new();
        self.session.handle(clock::now(), Input::Started, &mut out);
        let span = self.span.clone();
        self.perform(&mut out).instrument(span).await;
        while !self.over {
            let wake = poll_fn(|cx| self.poll(cx, &mut out)).await;
            let is_done = out.is_empty() && matches!(wake, Wake::Link | Wake::Heard(Heard::Given));
            if is_done {
                self.feed(&mut out);
            }
            if !is_done || !out.is_empty() {
                let span = self.span.clone();
                self.go_on(wake, &mut out).instrument(span).await;
            }
        }
    }

    /// Does what `wake` asks for, and what that brings with it.
    async fn go_on(&mut self, wake: Wake, out: &mut Vec<Output>) {
        self.handle(wake, out);
        self.perform(out).await;
        self.feed(out);
        self.perform(out).await;
    }

    /// The present, as of when the task was polled.
    pub(super) fn now(&mut self) -> Moment {
        *self.now.get_or_insert_with(clock::now)
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<Output>) -> Poll<Wake> {
        if self.now.is_none() {
            self.fetch();
        }
        let now = self.now();
        let wake = self.look(now, cx, out);
        if wake.is_pending() {
            self.alarm.set(self.deadline(), now, cx);
            self.now = None;
        }
        wake
    }

    /// The next moment at which something is due.
    fn deadline(&self) -> Option<Moment> {
        let due = self.session.deadline();
        match self.orphaned {
            Some(until) => Some(due.map_or(until, |due| due.min(until))),
            None => due,
        }
    }

    /// Has the processor fetch what is used whenever the task is woken. It lies in many places, and by then none of them
    /// is in a cache: looked for one after the other they would take longer than what is done with them.
    fn fetch(&self) {
        self.end.fetch();
        self.session.fetch();
        self.commands.fetch();
        if let Some(socket) = &self.socket {
            fetch(&**socket);
        }
    }

    fn look(&mut self, now: Moment, cx: &mut Context<'_>, out: &mut Vec<Output>) -> Poll<Wake> {
        if std::mem::take(&mut self.skipped) {
            return Poll::Ready(Wake::Skipped);
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command.unwrap_or(Command::End)));
        }
        if self.alarm.take_due(now) {
            return Poll::Ready(Wake::Deadline);
        }
        self.end.register(cx.waker());
        let (session, socket) = (&mut self.session, &mut self.socket);
        let hear = |frame: &[u8; FRAME_BYTES]| {
            let is_told = socket.as_mut().is_some_and(|socket| {
                // What is to be done already would come first.
                out.is_empty() && socket.send_text(|text| session.write_frame(frame, text))
            });
            if !is_told {
                session.handle(now, Input::Audio(frame), out);
            }
        };
        match self.end.next_or_hear(hear) {
            Some(Came::Heard) => return Poll::Ready(Wake::Link),
            Some(Came::Event(event)) => {
                self.handle_link(now, event, out);
                return Poll::Ready(Wake::Link);
            }
            None => {}
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(result) = dial.as_mut().poll(cx)
        {
            self.dial = None;
            return Poll::Ready(Wake::Dialled(Box::new(result)));
        }
        self.listen(now, cx, out).map(Wake::Heard)
    }

    /// Hears the agent. Its audio goes to the link from where it was read, unless something waits to go there before.
    fn listen(&mut self, now: Moment, cx: &mut Context<'_>, out: &mut Vec<Output>) -> Poll<Heard> {
        let Some(socket) = &mut self.socket else { return Poll::Pending };
        let (session, end, pending) = (&mut self.session, &mut self.end, &mut self.pending);
        let mut is_audio = false;
        let hear = |text: &str| {
            let mut room = [0; AUDIO_ROOM_BYTES];
            let is_next = out.is_empty() && pending.is_empty();
            let audio = if is_next { session.read_audio(text.as_bytes(), &mut room) } else { None };
            let Some(audio) = audio else {
                session.handle(now, Input::Text(text.as_bytes()), out);
                return;
            };
            is_audio = true;
            let (_, rest) = audio.split_at(end.push_audio(audio).min(audio.len()));
            if !rest.is_empty() {
                pending.push_back(Pending::Audio(Bytes::copy_from_slice(rest)));
            }
        };
        let heard = socket.poll(self.full, cx, hear);
        if is_audio {
            self.note_served();
        }
        heard
    }
}
