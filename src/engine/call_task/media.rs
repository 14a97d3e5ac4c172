//! The media of a call's legs: ports, sessions, and who hears whom.

use crate::audio::bridge::Waiting;
use crate::audio::link::AgentEnd;
use crate::audio::link::link;
use crate::audio::ringback::RingbackForm;
use crate::call::event::CallEvent;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::input::Input;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::leg::Place;
use crate::call::side::LegSide;
use crate::clock;
use crate::engine::call_task::Task;
use crate::engine::media_events::MediaEvents;
use crate::engine::media_thread::MediaEvent;
use crate::engine::media_thread::MediaId;
use crate::engine::media_thread::MediaRules;
use crate::engine::media_thread::MediaSetup;
use crate::engine::media_thread::RtpPorts;
use crate::media::setup::JITTER_DEPTH_MS;
use crate::routing::signalling::DtmfSend;
use crate::routing::trunk::RtcpMode;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkMedia;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use std::net::IpAddr;
use std::sync::Arc;

/// The media of one leg.
#[derive(Default)]
pub(super) struct Slot {
    ports: Option<RtpPorts>,
    pub(super) open: Option<(MediaId, MediaEvents)>,
    /// The agent's end of the link, until an agent is started.
    pub(super) agent_end: Option<AgentEnd>,
    /// The trunk it goes by, as far as it is known.
    pub(super) trunk: Option<Arc<Trunk>>,
    /// Where our media was said to be.
    pub(super) place: Option<Place>,
}

impl Slot {
    /// The next event of the session, or nothing ever without one.
    pub(super) async fn heard(&mut self) -> Option<MediaEvent> {
        match &mut self.open {
            Some((_, events)) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn id(&self) -> Option<MediaId> {
        self.open.as_ref().map(|(id, _)| *id)
    }
}

impl Task {
    /// Finds out who answered, where that was asked for.
    pub(super) fn screen(&self) {
        if let Some(media) = self.media.id().filter(|_| self.route.screened) {
            self.switch.media.screen(media, Box::default());
        }
    }

    pub(super) fn media_event(
        &mut self,
        side: LegSide,
        event: Option<MediaEvent>,
    ) -> Option<Input> {
        let fault = Input::HangupRequested { cause: HangupCause::SwitchFault, by: Party::Switch };
        match event {
            Some(MediaEvent::FirstPacket) => Some(Input::Media(side, MediaInput::FirstPacket)),
            Some(MediaEvent::Digit { digit, .. }) => {
                Some(Input::Media(side, MediaInput::Digit(digit)))
            }
            Some(MediaEvent::Played { clip }) => Some(Input::Media(side, MediaInput::Played(clip))),
            Some(MediaEvent::Talk(talk)) => {
                self.note(CallEvent::Talk(talk));
                None
            }
            Some(MediaEvent::TimedOut) => Some(Input::Media(side, MediaInput::TimedOut)),
            Some(MediaEvent::Failed) => Some(fault),
            None => {
                // The media thread dropped the session: nothing can be heard any more.
                if let Some(slot) = self.slot(side) {
                    slot.open = None;
                }
                Some(fault)
            }
        }
    }

    /// The slot of a leg; `None` of one that was never dialled.
    fn slot(&mut self, side: LegSide) -> Option<&mut Slot> {
        match side {
            LegSide::Near => Some(&mut self.media),
            LegSide::Far | LegSide::Third => Some(self.others().slot(side)),
        }
    }

    pub(super) async fn run_media(&mut self, side: LegSide, output: MediaOutput) {
        match output {
            MediaOutput::Reserve => self.reserve_media(side),
            MediaOutput::Open => self.open_media(side),
            MediaOutput::Update(plan) => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.update(media, plan);
                }
            }
            MediaOutput::StartPlayout => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.start_playout(media);
                }
            }
            MediaOutput::Close => self.close_media(side).await,
            MediaOutput::Play(number) => {
                let clip = self.clip.take_if(|clip| clip.number() == number);
                if let Some((media, clip)) = self.media_id(side).zip(clip) {
                    self.switch.media.play(media, clip);
                }
            }
            MediaOutput::StopPlaying => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.stop_playing(media);
                }
            }
            MediaOutput::Mute { inward, outward } => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.mute(media, inward, outward);
                }
            }
            MediaOutput::Record(order) => self.record(order),
            MediaOutput::SendDigit(digit) => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.send_digit(media, digit);
                }
            }
        }
    }

    pub(super) fn media_id(&mut self, side: LegSide) -> Option<MediaId> {
        self.slot(side)?.id()
    }

    fn reserve_media(&mut self, side: LegSide) {
        if side == LegSide::Near {
            self.media.trunk = Some(Arc::clone(&self.route.trunk));
        }
        let within = match side {
            LegSide::Near => self.route.trunk.media.ports.as_ref(),
            // It is known when the first gateway is chosen.
            LegSide::Far | LegSide::Third => None,
        };
        let reserved = self.switch.media.reserve(self.listener.bind, within);
        let listener = self.listener.rtp_address;
        let Some(slot) = self.slot(side) else { return };
        let input = match reserved {
            Ok(ports) => {
                let place = Place {
                    address: rtp_address(slot.trunk.as_deref(), listener),
                    rtp_port: ports.rtp_port,
                    rtcp_port: ports.rtcp_port,
                };
                slot.ports = Some(ports);
                slot.place = Some(place);
                MediaInput::Reserved(place)
            }
            Err(_) => MediaInput::Refused(HangupCause::NoPorts),
        };
        self.own.push_back(Input::Media(side, input));
    }

    fn open_media(&mut self, side: LegSide) {
        let Some(slot) = self.slot(side) else { return };
        let Some(ports) = slot.ports.take() else { return };
        let (media_end, agent_end) = link();
        let rules = slot
            .trunk
            .as_ref()
            .map_or_else(|| media_rules(&TrunkMedia::default()), |trunk| media_rules(&trunk.media));
        ports.classify(rules.dscp);
        let setup = MediaSetup {
            plan: None,
            seed: clock::random_u64(),
            rules,
            jitter_depth_ms: JITTER_DEPTH_MS,
            playout_held: true,
        };
        let opened = self.switch.media.open(ports, setup, media_end);
        let Some(slot) = self.slot(side) else { return };
        let input = match opened {
            Ok(media) => {
                slot.open = Some(media);
                slot.agent_end = Some(agent_end);
                MediaInput::Opened
            }
            Err(_) => MediaInput::Refused(HangupCause::Overload),
        };
        self.own.push_back(Input::Media(side, input));
    }

    /// Lets the media of a leg go by the rules of the trunk it goes by from now on, before its peer is
    /// told where it is; gives that place.
    ///
    /// # Errors
    /// `NoPorts` where the trunk keeps to ports of which none is free.
    pub(super) fn go_by(
        &mut self,
        side: LegSide,
        trunk: Arc<Trunk>,
    ) -> Result<Option<Place>, HangupCause> {
        let (bind, listener) = (self.listener.bind, self.listener.rtp_address);
        let media = self.switch.media.clone();
        let Some(slot) = self.slot(side) else { return Ok(None) };
        let Some((id, _)) = &slot.open else { return Ok(None) };
        media.rule(*id, media_rules(&trunk.media));
        let address = rtp_address(Some(trunk.as_ref()), listener);
        let mut place = slot.place.map(|place| Place { address, ..place });
        let within = trunk.media.ports.as_ref();
        let is_outside = |place: Place| {
            within.is_some_and(|own| {
                !own.contains(&place.rtp_port) || !own.contains(&place.rtcp_port)
            })
        };
        if place.is_some_and(is_outside) {
            let ports = media.reserve(bind, within).map_err(|_| HangupCause::NoPorts)?;
            let (rtp_port, rtcp_port) = (ports.rtp_port, ports.rtcp_port);
            place = Some(Place { address, rtp_port, rtcp_port });
            ports.classify(trunk.media.dscp);
            media.move_to(*id, ports);
        }
        slot.place = place;
        slot.trunk = Some(trunk);
        Ok(place)
    }

    async fn close_media(&mut self, side: LegSide) {
        let Some(slot) = self.slot(side) else { return };
        slot.ports = None;
        slot.agent_end = None;
        let figures = match slot.open.take() {
            Some((media, events)) => {
                drop(events);
                Some(Box::new(self.switch.media.close(media).await.figures()))
            }
            None => None,
        };
        if side == LegSide::Near {
            self.end_recordings().await;
        }
        self.own.push_back(Input::Media(side, MediaInput::Closed(figures)));
    }

    /// Lets audio go one way and no other.
    pub(super) fn connect(&mut self, path: AudioPath) {
        match path {
            AudioPath::Others => {
                let others = [LegSide::Far, LegSide::Third].map(|side| self.media_id(side));
                if let [Some(far), Some(third)] = others {
                    self.switch.media.bridge(far, third);
                }
            }
            AudioPath::Agent(side) => {
                let Some(media) = self.media_id(side) else { return };
                self.switch.media.unbridge(media);
                self.give_voice_to(media);
            }
            AudioPath::Bridge(_)
            | AudioPath::Early(_)
            | AudioPath::Waiting(_)
            | AudioPath::Apart => self.connect_near(path),
        }
    }

    /// The near leg hears somebody else from now on. Once that is over, whoever is left waits.
    fn connect_near(&mut self, path: AudioPath) {
        let Some(near) = self.media.id() else {
            for side in [LegSide::Far, LegSide::Third] {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.isolate(media, Waiting::Noise);
                }
            }
            return;
        };
        match path {
            AudioPath::Bridge(side) => {
                if let Some(other) = self.media_id(side) {
                    self.switch.media.bridge(near, other);
                }
            }
            AudioPath::Early(side) => {
                if let Some(other) = self.media_id(side) {
                    self.switch.media.bridge_one_way(other, near);
                }
            }
            AudioPath::Waiting(comfort) => {
                let trunk = self.media.trunk.as_ref().unwrap_or(&self.route.trunk);
                self.switch.media.isolate(near, waiting(comfort, &trunk.country));
            }
            // Before an answer nothing of the agent's is played; what it says then is its greeting.
            AudioPath::Apart => self.switch.media.unbridge(near),
            AudioPath::Agent(_) | AudioPath::Others => (),
        }
    }

    /// Whoever speaks does so to this session from now on; what it had queued for another is dropped.
    fn give_voice_to(&mut self, media: MediaId) {
        let Some(voice) = &mut self.voice else { return };
        if voice.heard_by == Some(media) {
            return;
        }
        let before = voice.heard_by.replace(media);
        let (media_end, agent_end) = link();
        // The agent lets go of its link before anybody closes the other end: that would end it.
        voice.speaker.relink(agent_end);
        self.switch.media.attach(media, media_end);
        if let Some(before) = before {
            self.switch.media.isolate(before, Waiting::Noise);
        }
    }
}

/// What a caller of this country hears.
fn waiting(comfort: Comfort, country: &str) -> Waiting {
    match comfort {
        Comfort::Ringback => Waiting::Ringback(RingbackForm::of_country(country)),
        Comfort::Connecting => Waiting::Connecting(RingbackForm::of_country(country)),
        Comfort::Quiet => Waiting::Quiet,
        Comfort::Silence | Comfort::Hold => Waiting::Noise,
    }
}

/// What a trunk says of the media of its legs.
pub(crate) fn media_rules(media: &TrunkMedia) -> MediaRules {
    let (key_ms, key_gap_ms) = media.dtmf_ms;
    MediaRules {
        inactivity: media.inactivity,
        allowed: media.remote_cidrs.clone(),
        rtcp: media.rtcp != RtcpMode::Off,
        dscp: media.dscp,
        symmetric: media.symmetric,
        keys_signalled: media.dtmf_send == DtmfSend::Info,
        tones_heard: media.dtmf_tones,
        key_ms,
        key_gap_ms,
    }
}

/// The address that the peer of a leg is told to send media to.
pub(super) fn rtp_address(trunk: Option<&Trunk>, listener: IpAddr) -> IpAddr {
    trunk.and_then(|trunk| trunk.media.advertise_rtp).unwrap_or(listener)
}
