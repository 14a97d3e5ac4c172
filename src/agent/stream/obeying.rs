//! What a stream's agent asks for, and what it is told.

use crate::agent::dialect::Act;
use crate::agent::dialect::AudioRoom;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::dialect::When;
use crate::agent::dialect::Wish;
use crate::agent::outbox::Waiting;
use crate::agent::session::Output;
use crate::agent::stream::AgentStream;
use crate::agent::stream::DRAIN_MAX;
use crate::agent::stream::State;
use crate::agent::stream::grant;
use crate::agent::stream::lost;
use crate::audio::link::FRAME_BYTES;
use crate::audio::link::REPLY_END;
use crate::types::cache::fetch;
use crate::types::cause::HangupCause;
use crate::types::limit::AGENT_GARBAGE_MAX;
use crate::types::limit::AGENT_MARK_BYTES_MAX;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::limit::AGENT_WISHES_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;

impl AgentStream {
    pub(super) fn act(&mut self, now: Moment, act: Act, out: &mut Vec<Output>) {
        match act {
            Act::Ready => {
                if matches!(self.state, State::Greeting { .. }) {
                    self.state = State::Open;
                    self.come(now, out);
                }
            }
            Act::Fail => match self.state {
                State::Greeting { .. } => self.state = self.connect_failed(now, out),
                State::Open => self.state = self.lose(now, HangupCause::AgentLost, out),
                State::Idle
                | State::Connecting { .. }
                | State::Pausing { .. }
                | State::Draining { .. }
                | State::Over => (),
            },
            Act::Send(message) => self.send(Waiting::Message(message), out),
            Act::Play(audio) => self.play(audio, out),
            Act::PlayWide(audio) => {
                self.counters.audio_bytes += audio.len() as u64;
                self.heard_words();
                out.push(Output::PlayWide(audio));
            }
            Act::Mark(name) => {
                self.counters.marks += 1;
                self.queue_mark(name, out);
            }
            Act::Over => out.push(Output::Mark(REPLY_END)),
            Act::Clear(marks) => self.clear(now, marks, out),
            Act::Hold(held) => {
                self.held = held;
                out.push(Output::Hold(held));
            }
            Act::Stay => self.stay(),
            Act::Ask(wish, when) => {
                self.heard_words();
                match when {
                    When::Now => grant(wish, out),
                    When::Played => self.wish(now, wish, out),
                }
            }
            Act::Note(said) => {
                self.recount(&said);
                out.push(Output::Said(said));
            }
            Act::Unknown => self.counters.unknown += 1,
            Act::Complain(word) => self.complained(word),
            Act::Garbled(garbled) => self.state = self.bear_garbage(garbled, out),
        }
    }

    pub(super) fn play(&mut self, audio: Bytes, out: &mut Vec<Output>) {
        self.counters.audio_bytes += audio.len() as u64;
        self.heard_words();
        out.push(Output::Play(audio));
    }

    pub(super) fn clear(&mut self, now: Moment, marks: Marks, out: &mut Vec<Output>) {
        self.counters.clears += 1;
        self.stale_drains = 0;
        out.push(Output::Clear);
        // What the media still tell of these marks is then about marks unknown to us.
        while let Some((_, name)) = self.marks.pop_front() {
            if marks == Marks::Echoed {
                self.send(Waiting::Mark(name), out);
            }
        }
        // What they waited for will not be played.
        while !self.wishes.is_empty() {
            self.grant_next(now, out);
        }
    }

    /// The end of the call is not wanted any more. What marks its place in the queue may still be there.
    fn stay(&mut self) {
        let before = self.wishes.len();
        self.wishes.retain(|wish| *wish != Wish::HangUp);
        self.stale_drains += before - self.wishes.len();
        if self.wishes.is_empty() {
            self.wishes_due = None;
        }
    }

    pub(super) fn wish(&mut self, now: Moment, wish: Wish, out: &mut Vec<Output>) {
        if self.wishes.len() >= AGENT_WISHES_MAX {
            return self.counters.unknown += 1;
        }
        self.wishes.push_back(wish);
        out.push(Output::Finish);
        if self.answered {
            self.wishes_due.get_or_insert(now + DRAIN_MAX);
        }
    }

    pub(super) fn grant_next(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(wish) = self.wishes.pop_front() else { return };
        grant(wish, out);
        self.wishes_due = (!self.wishes.is_empty() && self.answered).then(|| now + DRAIN_MAX);
    }

    pub(super) fn queue_mark(&mut self, mut name: String, out: &mut Vec<Output>) {
        if self.marks.len() >= AGENT_MARKS_MAX
            && let Some((_, oldest)) = self.marks.pop_front()
        {
            self.send(Waiting::Mark(oldest), out);
        }
        // From 1 on: `REPLY_END` is none of them.
        self.next_mark += 1;
        name.truncate(name.floor_char_boundary(AGENT_MARK_BYTES_MAX));
        self.marks.push_back((self.next_mark, name));
        out.push(Output::Mark(self.next_mark));
    }

    /// Marks are played in order, so those before a played one were played too.
    pub(super) fn mark_played(&mut self, id: u64, out: &mut Vec<Output>) {
        while self.marks.front().is_some_and(|(oldest, _)| *oldest <= id) {
            if let Some((_, name)) = self.marks.pop_front() {
                self.send(Waiting::Mark(name), out);
            }
        }
    }

    /// Tells the agent something, or keeps it for when it reads again.
    pub(super) fn inform(&mut self, now: Moment, news: News<'_>, out: &mut Vec<Output>) -> State {
        if self.outbox.is_blocked()
            && let Some(waiting) = Waiting::of(news)
        {
            self.outbox.push(waiting);
            return self.state;
        }
        if matches!(news, News::Audio(_) | News::WideAudio(_)) {
            self.counters.frames_sent += 1;
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.dialect.tell(news, &mut acts);
        self.carry_out(now, acts, out)
    }

    /// Appends to `text` the message that tells the agent of a frame of the caller, where
    /// [`Input::Audio`](crate::agent::session::Input::Audio) would make one [`Output::Send`] of it and nothing else.
    /// Most are told so, past the list of acts and without a message of their own; `false` decides nothing.
    pub fn write_frame(&mut self, frame: &[u8; FRAME_BYTES], text: &mut Vec<u8>) -> bool {
        let is_next = self.state == State::Open && !self.outbox.is_blocked();
        let is_told = is_next && self.broken.is_none() && self.dialect.write_frame(frame, text);
        self.counters.frames_sent += u64::from(is_told);
        is_told
    }

    /// The audio that a text is, put into `room`, where [`Input::Text`](crate::agent::session::Input::Text) would make one
    /// [`Output::Play`] of it and nothing else. It is played then; `None` decides nothing.
    pub fn read_audio<'a>(&mut self, text: &[u8], room: &'a mut AudioRoom) -> Option<&'a [u8]> {
        if self.state != State::Open || self.broken.is_some() {
            return None;
        }
        let audio = self.dialect.audio_in(text, room)?;
        self.counters.messages += 1;
        self.counters.audio_bytes += audio.len() as u64;
        self.heard_words();
        Some(audio)
    }

    /// Whether [`Input::Level`](crate::agent::session::Input::Level) is wanted.
    #[must_use]
    pub fn wants_level(&self) -> bool {
        self.state == State::Open && self.dialect.wants_level()
    }

    /// Has the processor fetch what 20 ms of audio need, one way or the other.
    pub fn fetch(&self) {
        fetch(&self.state);
        fetch(&self.liveness);
        fetch(&self.outbox);
        fetch(&self.counters);
        fetch(&*self.dialect);
    }

    pub(super) fn send(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        if self.outbox.is_blocked() {
            self.outbox.push(waiting);
        } else {
            self.write(waiting, out);
        }
    }

    pub(super) fn write_waiting(&mut self, out: &mut Vec<Output>) {
        self.outbox.unblock();
        while let Some(waiting) = self.outbox.pop() {
            self.write(waiting, out);
        }
    }

    pub(super) fn write(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        match waiting {
            Waiting::Audio(frame) => {
                self.counters.frames_sent += 1;
                self.write_news(News::Audio(&frame), out);
            }
            Waiting::WideAudio(wide) => {
                self.counters.frames_sent += 1;
                self.write_news(News::WideAudio(&wide), out);
            }
            Waiting::SkippedFrames(frames) => self.write_news(News::SkippedFrames(frames), out),
            Waiting::Digit(digit) => self.write_news(News::Digit(digit), out),
            Waiting::Mark(name) => self.write_news(News::Mark(&name), out),
            Waiting::BargeIn(heard_ms) => self.write_news(News::BargeIn(heard_ms), out),
            Waiting::Unheard(heard_ms) => self.write_news(News::Unheard(heard_ms), out),
            Waiting::Message(message) => out.push(sent(message)),
        }
    }

    /// Does what is asked for, and keeps the emptied list for the next time.
    pub(super) fn carry_out(
        &mut self,
        now: Moment,
        mut acts: Vec<Act>,
        out: &mut Vec<Output>,
    ) -> State {
        for act in acts.drain(..) {
            if self.state != State::Over {
                self.act(now, act, out);
            }
        }
        self.acts = acts;
        self.state
    }

    /// Writes what does nothing but be written.
    pub(super) fn write_news(&mut self, news: News<'_>, out: &mut Vec<Output>) {
        let mut acts = std::mem::take(&mut self.acts);
        self.dialect.tell(news, &mut acts);
        for act in acts.drain(..) {
            match act {
                Act::Send(message) => self.write(Waiting::Message(message), out),
                // The answer to an interruption that was told late.
                Act::Clear(_) => {
                    self.marks.clear();
                    self.stale_drains = 0;
                    out.push(Output::Clear);
                }
                Act::Stay => self.stay(),
                Act::Ready
                | Act::Fail
                | Act::Play(_)
                | Act::PlayWide(_)
                | Act::Mark(_)
                | Act::Over
                | Act::Hold(_)
                | Act::Ask(..)
                | Act::Note(_)
                | Act::Unknown
                | Act::Complain(_)
                | Act::Garbled(_) => (),
            }
        }
        self.acts = acts;
    }

    pub(super) fn bear_garbage(&mut self, garbled: Garbled, out: &mut Vec<Output>) -> State {
        self.count_garbage(garbled);
        if self.counters.garbage.total() < AGENT_GARBAGE_MAX {
            return self.state;
        }
        match self.state {
            State::Greeting { .. } => {
                out.push(Output::Close);
                out.push(Output::Failed(HangupCause::AgentGarbage));
                State::Over
            }
            State::Idle
            | State::Connecting { .. }
            | State::Pausing { .. }
            | State::Open
            | State::Draining { .. }
            | State::Over => lost(HangupCause::AgentGarbage, out),
        }
    }
}

fn sent(message: Message) -> Output {
    match message {
        Message::Text(text) => Output::Send(text),
        Message::Binary(bytes) => Output::SendBinary(bytes),
    }
}
