//! What was agreed with the peer, put in force.

use crate::media::equipment::Equipment;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::outgoing::Outgoing;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::moment::Moment;

impl MediaSession {
    /// Gives a session what a plan needs, before it is put in force. What is left is what it does not need, to be freed
    /// elsewhere.
    pub fn equip(&mut self, with: &mut Equipment) {
        if self.wide.is_none() {
            self.wide = with.wide.take();
        }
        match (&mut self.packed, &mut with.packed) {
            (Some(ours), Some(other)) => ours.complete(other),
            (None, other) => self.packed = other.take(),
            (Some(_), None) => (),
        }
        if self.passage.is_none() {
            self.passage = with.passage.take();
        }
        if self.outgoing.is_none() {
            self.outgoing = with.outgoing.take();
        }
        if let Some(room) = with.room.take() {
            with.room = self.jitter.equip(room);
        }
    }

    /// Whether audio of `codec` can be decoded.
    pub(super) fn is_equipped_for(&self, codec: Codec) -> bool {
        if codec.is_passed() {
            return self.passage.is_some() && self.jitter.is_equipped();
        }
        let packed = || self.packed.as_ref().is_some_and(|packed| packed.speaks(codec));
        (!codec.is_wide() || self.wide.is_some()) && (!codec.is_packed() || packed())
    }

    /// Puts a plan in force: the first one, a hold, a resume, another address. One of a codec that is not G.711, or of
    /// packets longer than a tick, allocates where the session is not [equipped](Self::equip) for it.
    pub fn update(&mut self, now: Moment, plan: &MediaPlan, out: &mut TickOutput) {
        if self.hears() && !plan.direction.receives() {
            self.fall_silent(out);
        }
        self.agree(now, plan);
    }

    /// The same where nothing waits to be heard.
    pub(super) fn agree(&mut self, now: Moment, plan: &MediaPlan) {
        // Who is silent in a pause that it announced has not moved.
        let speaks = plan.direction.receives() && !self.judge.pausing;
        let heard_at = self.source.destination();
        self.source.signal(now, plan.remote, speaks);
        if self.source.destination() != heard_at {
            self.sender.mark();
        }
        let before = self.codec();
        let begins_stream = self.begins_stream(plan);
        self.remember_plan(plan);
        if !self.keeps_stream(plan) {
            self.drop_key();
        }
        let lacks_room = self.outgoing.is_none() && Outgoing::is_needed(plan);
        if lacks_room || !self.is_equipped_for(plan.codec) {
            self.equip(&mut Equipment::of(plan));
        }
        match (before.law(), plan.codec.law()) {
            _ if before == plan.codec => (),
            (Some(from), Some(to)) => {
                if let Some(outgoing) = &mut self.outgoing {
                    outgoing.convert(from, to);
                }
            }
            // Less than a packet of what was said is lost.
            (Some(_) | None, Some(_) | None) => self.forget_outgoing(),
        }
        if let Some(wide) = self.wide.as_mut().filter(|_| before != plan.codec) {
            wide.forget_narrow();
        }
        // What waits in the jitter buffer goes on as what it is, so that nothing is heard of the change.
        self.jitter.expect(plan.codec);
        if before.clock_rate() != plan.codec.clock_rate() {
            self.jitter.expect_another();
            self.receiver.expect_another();
        }
        self.sender.set_clock(plan.codec.clock_factor());
        self.digits_out.set_clock(plan.codec.clock_rate());
        if let Some(packed) = &mut self.packed {
            packed.set_terms(plan.opus);
        }
        let keys = plan.crypto.as_deref().map(|keys| (&keys.send, &keys.receive));
        if self.protection.update(now, keys) || begins_stream {
            self.sender.change_ssrc();
        }
        self.plan = Some(plan.clone());
        self.expected = None;
        self.quiet_ticks = 0;
    }

    /// Whether a plan asks for another stream of ours though our key stays. Who has another key at another address may
    /// be somebody else, who cannot know how often our numbers wrapped (RFC 3711 §3.3.1). And SRTP in place of RTP counts
    /// that from zero: under one key no number may come twice (§9.1).
    pub(super) fn begins_stream(&self, plan: &MediaPlan) -> bool {
        let Some(before) = &self.plan else { return false };
        match (&before.crypto, &plan.crypto) {
            (Some(keys), Some(next)) => {
                before.remote != plan.remote && keys.receive != next.receive
            }
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        }
    }
}
