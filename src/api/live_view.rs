//! What clients see of a call that runs.

use crate::api::views::CallView;
use crate::api::views::EventView;
use crate::call::side::Seat;
use crate::call::supervision::SupervisorStanding;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::engine::errand::LiveCall;
use crate::engine::errand::Snapshot;
use crate::engine::media_thread::MediaStatistics;
use crate::store::calls::detail_of;
use crate::store::quality::of_quality;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// How a running call stands: the answer to every command.
#[derive(Debug, Serialize)]
pub(super) struct StandingView {
    id: String,
    state: &'static str,
    phase: &'static str,
    on_hold: bool,
    held_by_caller: bool,
    caller_muted: bool,
    agent_muted: bool,
    playing: Option<String>,
    recording: &'static str,
    recording_id: Option<String>,
    /// The one that was called or changed, else the first.
    supervisor: Option<SupervisorView>,
    supervisors: Vec<SupervisorView>,
    agent: &'static str,
    ai_profile_id: Option<String>,
    variables: Value,
}

/// A supervisor of a running call.
#[derive(Clone, Copy, Debug, Serialize)]
struct SupervisorView {
    leg: &'static str,
    mode: &'static str,
    state: &'static str,
}

/// The same with the figures of its media up to now.
#[derive(Debug, Serialize)]
pub(super) struct LiveView {
    #[serde(flatten)]
    standing: StandingView,
    legs: Vec<LegView>,
}

/// Figures of one leg's media; "in" is from its peer to us.
#[derive(Debug, Serialize)]
struct LegView {
    leg: &'static str,
    packets_in: u64,
    packets_out: u64,
    lost_in: u64,
    late_in: u64,
    lost_out: Option<u64>,
    jitter_in_ms: f32,
    jitter_out_ms: Option<f32>,
    round_trip_ms: Option<f32>,
    mos_in: Option<f32>,
    mos_out: Option<f32>,
    jitter_buffer_ms: u32,
    playout_queue_ms: u32,
    played_ms: u64,
    underruns: u32,
    concealed: u64,
    first_packet_ms: Option<u64>,
    srtp_suite: Option<&'static str>,
    quality: Value,
}

pub(super) fn variables(variables: &CallVariables) -> Value {
    let all = variables.iter().map(|(name, value)| (name.to_string(), json!(value.as_str())));
    Value::Object(all.collect())
}

impl StandingView {
    pub(super) fn of(call: CallId, snapshot: &Snapshot) -> Self {
        let standing = &snapshot.standing;
        let supervisors: Vec<_> = standing.supervisors.iter().map(SupervisorView::of).collect();
        Self {
            id: call.to_string(),
            state: snapshot.state.as_str(),
            phase: standing.phase.as_str(),
            on_hold: standing.on_hold,
            held_by_caller: standing.held_by_caller,
            caller_muted: standing.caller_muted,
            agent_muted: standing.agent_muted,
            playing: standing.playing.clone(),
            recording: standing.recording.as_str(),
            recording_id: standing.recording.id().map(|id| id.to_string()),
            supervisor: supervisors.first().copied(),
            supervisors,
            agent: standing.agent,
            ai_profile_id: snapshot.profile.map(|id| id.to_string()),
            variables: variables(&snapshot.variables),
        }
    }

    /// The same as the answer to who called or changed the supervisor in this seat; `None`: the first one.
    pub(super) fn about(mut self, seat: Option<Seat>) -> Self {
        if let Some(seat) = seat {
            let mut all = self.supervisors.iter();
            self.supervisor = all.find(|own| own.leg == seat.leg_name()).copied();
        }
        self
    }
}

impl SupervisorView {
    const fn of(own: &SupervisorStanding) -> Self {
        Self {
            leg: own.seat.leg_name(),
            mode: own.mode.as_str(),
            state: if own.is_present { "present" } else { "calling" },
        }
    }
}

impl LiveView {
    pub(super) fn of(call: CallId, live: &LiveCall) -> Self {
        let legs = live.legs.iter().map(|(leg, figures)| LegView::of(leg, figures));
        Self { standing: StandingView::of(call, &live.snapshot), legs: legs.collect() }
    }
}

impl LegView {
    fn of(leg: &'static str, figures: &MediaStatistics) -> Self {
        Self {
            leg,
            packets_in: figures.packets_in,
            packets_out: figures.packets_out,
            lost_in: figures.lost_in,
            late_in: figures.late_in,
            lost_out: figures.lost_out,
            jitter_in_ms: figures.jitter_in_ms,
            jitter_out_ms: figures.jitter_out_ms,
            round_trip_ms: figures.round_trip_ms,
            mos_in: figures.mos_in,
            mos_out: figures.mos_out,
            jitter_buffer_ms: figures.jitter_level_ms,
            playout_queue_ms: figures.playout_ms,
            played_ms: figures.played_ms,
            underruns: figures.underruns,
            concealed: figures.concealed,
            first_packet_ms: figures.first_packet_ms,
            srtp_suite: figures.srtp.map(|suite| suite.as_str()),
            quality: of_quality(&figures.quality),
        }
    }
}

impl CallView {
    /// The record of a running call lags behind it: what is known better is shown.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot) {
        let stages = &snapshot.stages;
        self.status = snapshot.state.as_str();
        let times = &mut self.times;
        for (time, stage) in [
            (&mut times.ringing, stages.ringing),
            (&mut times.agent_ready, stages.agent_ready),
            (&mut times.answered, stages.answered),
            (&mut times.acknowledged, stages.acknowledged),
            (&mut times.first_media, stages.first_media),
            (&mut times.fallback, stages.fallback),
        ] {
            *time = time.or_else(|| stage.map(clock::wall));
        }
    }
}

impl EventView {
    /// What happened since the record was last written.
    pub(super) fn of_live(timed: &TimedEvent) -> Self {
        Self {
            seq: i32::try_from(timed.seq).unwrap_or(i32::MAX),
            at: clock::wall(timed.at),
            name: timed.event.name().to_owned(),
            detail: detail_of(&timed.event).unwrap_or_else(|| json!({})),
        }
    }
}
