//! Hearing the peer beside its agent: who interrupts, how long an answer takes, and gaps in what an agent says.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::voice_models::VoiceModels;
use crate::media::answering_machine::AnsweringMachineDetector;
use crate::media::answering_machine::TOLD_AT_ONCE_MAX;
use crate::media::event::MediaEvent;
use crate::media::listener::AgentDoes;
use crate::media::listener::Listener;
use crate::media::listener::Verdict;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::sdp::MediaPlan;
use crate::types::codec::Law;
use crate::types::limit::ANSWERER_EVENTS_MAX;
use crate::types::limit::BARGE_INS_TOLD_MAX;
use crate::types::limit::TURNS_TOLD_MAX;
use crate::types::limit::UNDERRUNS_TOLD_MAX;
use crate::types::limit::UNHEARD_TOLD_MAX;
use crate::types::talk::BargeInOutcome;
use crate::types::talk::Talk;

const TICK_MS: u64 = 20;

/// Who hears the peer.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Beside its agent.
    listener: Option<Box<Listener>>,
    /// For who it is that answered.
    machine: Option<Box<AnsweringMachineDetector>>,
    told: Told,
}

/// Events about the talk of peer and agent that were told. Each kind has places of its own: an agent that stutters is to
/// hide no turn.
#[derive(Debug, Default)]
struct Told {
    turns: u8,
    barge_ins: u8,
    unheard: u8,
    underruns: u8,
    answerer: u8,
}

impl Told {
    /// Whether one more is told.
    fn take(&mut self, talk: Talk) -> bool {
        let (count, most) = match talk {
            Talk::Turn(_) => (&mut self.turns, TURNS_TOLD_MAX),
            Talk::BargeIn { .. } => (&mut self.barge_ins, BARGE_INS_TOLD_MAX),
            Talk::Unheard { .. } => (&mut self.unheard, UNHEARD_TOLD_MAX),
            Talk::Underrun { .. } => (&mut self.underruns, UNDERRUNS_TOLD_MAX),
            Talk::Answerer(_) => (&mut self.answerer, ANSWERER_EVENTS_MAX),
        };
        let has_place = *count < most;
        *count += u8::from(has_place);
        has_place
    }
}

impl MediaSession {
    /// Lets `listener` hear the peer, `None`: nobody. Returns the one before, to be freed elsewhere; it may have a
    /// [model](TickOutput::models). An agent that waits because of that one goes on: no other would let it.
    pub const fn listen_with(&mut self, listener: Option<Box<Listener>>) -> Option<Box<Listener>> {
        self.playout.resume();
        std::mem::replace(&mut self.ears.listener, listener)
    }

    /// Lets `machine` find out who answered, from now on. Returns one that did before, to be freed elsewhere; it may have a
    /// [model](TickOutput::models).
    pub const fn screen_with(
        &mut self,
        machine: Box<AnsweringMachineDetector>,
    ) -> Option<Box<AnsweringMachineDetector>> {
        self.ears.machine.replace(machine)
    }

    /// Gives back the models that were lent to it: before it leaves their thread, and it may come to another.
    pub fn give_back_models(&mut self, models: &mut VoiceModels) {
        if let Some(listener) = &mut self.ears.listener {
            listener.give_back_model(models);
        }
        if let Some(machine) = &mut self.ears.machine {
            machine.give_back_model(models);
        }
    }

    /// The peer pressed a key that its audio does not have: what its agent says after a pause is an answer.
    pub const fn key_pressed(&mut self) {
        self.playout.caller_is_heard();
    }

    fn screen(&mut self, heard: &Encoded, out: &mut TickOutput) {
        let Some(machine) = self.ears.machine.as_mut().filter(|machine| !machine.is_done()) else {
            return;
        };
        let mut linear = [0; FRAME_SAMPLES];
        g711::decode(Law::Mu, heard, &mut linear);
        let mut told = [None; TOLD_AT_ONCE_MAX];
        let mut places = told.iter_mut();
        machine.push(&linear, out.models(), |event| {
            if let Some(place) = places.next() {
                *place = Some(event);
            }
        });
        for event in told.into_iter().flatten() {
            self.tell_talk(Talk::Answerer(event), out);
        }
    }

    /// Takes what this tick made of the talk of peer and agent.
    pub(super) fn listen(&mut self, heard: &Encoded, out: &mut TickOutput) {
        let now_ms = self.ticks * TICK_MS;
        if let Some(underrun) = self.playout.take_underrun() {
            let talk = Talk::Underrun {
                // It went on in the tick before: what the agent says comes after what is heard.
                at_ms: short(now_ms.saturating_sub(TICK_MS)),
                ms: underrun.ms,
                node_late: underrun.node_late,
            };
            self.tell_talk(talk, out);
        }
        self.screen(heard, out);
        if self.ears.listener.is_none() {
            // Nobody knows whether what the agent says after a pause is an answer.
            self.playout.caller_is_heard();
        }
        // What is no noise of the line is known from its first packet on.
        let hears = self.bridged.is_none() && self.counters.first_packet_ms.is_some();
        let Some(listener) = &mut self.ears.listener else { return };
        if !hears {
            return listener.stop_hearing(out.models());
        }
        let agent = AgentDoes {
            queued: self.playout.queued_ms() > 0,
            speaks: self.playout.is_speaking() && self.started && !self.steered.is_playing(),
        };
        let (mut of_peer, mut of_agent) = ([0; FRAME_SAMPLES], [0; FRAME_SAMPLES]);
        g711::decode(Law::Mu, heard, &mut of_peer);
        g711::decode(self.said.0, &self.said.1, &mut of_agent);
        let spoke = listener.caller_speaks();
        let sound = (&of_peer, &of_agent);
        let (verdict, turn) = listener.hear(now_ms, sound, agent, out.models());
        if listener.caller_speaks() {
            self.playout.caller_is_heard();
        } else if spoke {
            self.playout.caller_stopped();
        }
        if let Some(mut turn) = turn {
            // What the agent does is that of the tick before.
            let spoken_ms = turn.spoken_ms.saturating_sub(short(TICK_MS));
            turn.spoken_ms = spoken_ms.max(turn.first_byte_ms);
            self.tell_talk(Talk::Turn(turn), out);
        }
        self.carry_out(now_ms, verdict, out);
        if self.playout.caller_waits() && !self.agent_has_the_word() {
            self.playout.nobody_waits();
        }
    }

    /// Whether it is for the agent to answer what the peer says: not on hold, and not where the peer is not heard, or talks
    /// with somebody else beside it.
    fn agent_has_the_word(&self) -> bool {
        let is_held = self.plan.as_ref().is_none_or(MediaPlan::is_held);
        !is_held && !self.steered.inward && !self.guest_speaks()
    }

    fn carry_out(&mut self, now_ms: u64, verdict: Verdict, out: &mut TickOutput) {
        let (heard_ms, outcome) = match verdict {
            Verdict::GoOn => return,
            Verdict::Pause => return self.playout.pause(),
            Verdict::Resume => {
                self.playout.resume();
                (self.playout.heard_ms(), BargeInOutcome::Resumed)
            }
            Verdict::Notify => (self.playout.notify(), BargeInOutcome::Told),
            Verdict::Flush => (self.playout.flush(), BargeInOutcome::Interrupted),
        };
        let (at_ms, heard_ms) = (short(now_ms), short(heard_ms));
        self.tell_talk(Talk::BargeIn { at_ms, heard_ms, outcome }, out);
    }

    /// What the agent says is dropped from now on: nobody hears it.
    pub(super) fn agent_is_unheard(&mut self, heard_ms: u64, out: &mut TickOutput) {
        let (at_ms, heard_ms) = (short(self.ticks * TICK_MS), short(heard_ms));
        self.tell_talk(Talk::Unheard { at_ms, heard_ms }, out);
    }

    /// Tells the call, a bounded number of times.
    fn tell_talk(&mut self, talk: Talk, out: &mut TickOutput) {
        if self.ears.told.take(talk) {
            out.event(MediaEvent::Talk(talk));
        }
    }
}

/// Milliseconds of a session; none lasts 49 days.
fn short(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}
