//! The media of a call's legs: ports, sessions, and who hears whom.

use crate::audio::bridge::Waiting;
use crate::audio::link::AgentEnd;
use crate::audio::link::MediaEnd;
use crate::audio::link::link_of;
use crate::audio::link::short_link;
use crate::audio::link::wide_link;
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
use crate::engine::dial::LegWay;
use crate::engine::dial::OfferedFor;
use crate::engine::dial::Rung;
use crate::engine::media_events::MediaEvents;
use crate::engine::media_home::MediaHome;
use crate::engine::media_thread::MediaEvent;
use crate::engine::media_thread::MediaId;
use crate::engine::media_thread::MediaRules;
use crate::engine::media_thread::MediaSetup;
use crate::engine::media_thread::RtpLocal;
use crate::engine::media_thread::RtpPorts;
use crate::engine::switch::Switch;
use crate::media::setup::JITTER_DEPTH_MS;
use crate::media::setup::VoipMetricsRule;
use crate::routing::signalling::DtmfSend;
use crate::routing::trunk::RtcpMode;
use crate::routing::trunk::RtcpXr;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkMedia;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use futures_util::future::BoxFuture;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// Ports held for parties that are rung at once by other ways than the first: with that one as many as a call
/// may ring. Over it, a party is not rung.
const HELD_MAX: usize = 9;

/// The media of one leg.
#[derive(Default)]
pub(super) struct Slot {
    ports: Option<RtpPorts>,
    pub(super) open: Option<(MediaId, MediaEvents)>,
    /// The agent's end of the link, until an agent is started.
    pub(super) agent_end: Option<Box<AgentEnd>>,
    /// The trunk it goes by, as far as it is known.
    pub(super) trunk: Option<Arc<Trunk>>,
    /// What its sockets are bound to.
    bound_to: Option<RtpLocal>,
    /// Somebody of several who are rung at once was told where it is.
    is_pinned: bool,
    /// Where others of those were told that it is: it moves there should one of them answer.
    held: Vec<(RtpLocal, RtpPorts)>,
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

    /// The same for who waits for several of them.
    pub(super) fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Option<MediaEvent>> {
        match &mut self.open {
            Some((_, events)) => events.poll_recv(context),
            None => Poll::Pending,
        }
    }

    pub(super) fn id(&self) -> Option<MediaId> {
        self.open.as_ref().map(|(id, _)| *id)
    }

    /// Whether the keys of its peer are kept from agents, recordings and records.
    fn keys_are_private(&self) -> bool {
        self.trunk.as_ref().is_some_and(|trunk| trunk.media.dtmf_private)
    }

    /// The place where it is, where that is fit for a way.
    fn here(&self, home: &MediaHome, within: Within<'_>) -> Option<Place> {
        let is_there = self.bound_to.as_ref() == Some(&home.local);
        let place =
            self.place.filter(|own| is_there && contains(within, own.rtp_port, own.rtcp_port));
        place.map(|place| Place { address: home.advertised, ..place })
    }

    /// The ports that are held for a way.
    fn held_for(&self, home: &MediaHome, within: Within<'_>) -> Option<usize> {
        self.held.iter().position(|(local, own)| {
            *local == home.local && contains(within, own.rtp_port, own.rtcp_port)
        })
    }

    /// Holds ports for one of several ways; gives the place that its party is told.
    fn hold(
        &mut self,
        switch: &Switch,
        home: MediaHome,
        within: Within<'_>,
    ) -> Result<Place, HangupCause> {
        if let Some((_, ports)) = self.held_for(&home, within).and_then(|at| self.held.get(at)) {
            return Ok(place(&home, ports));
        }
        if self.held.len() >= HELD_MAX {
            return Err(HangupCause::NoPorts);
        }
        let ports = switch.reserve_ports(home.local.clone(), within);
        let ports = ports.map_err(|_| HangupCause::NoPorts)?;
        let place = place(&home, &ports);
        self.held.push((home.local, ports));
        Ok(place)
    }
}

/// The ports that the trunk of a leg keeps to; `None`: to none.
type Within<'a> = Option<&'a RangeInclusive<u16>>;

fn contains(within: Within<'_>, rtp_port: u16, rtcp_port: u16) -> bool {
    within.is_none_or(|own| own.contains(&rtp_port) && own.contains(&rtcp_port))
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
        match event {
            Some(MediaEvent::FirstPacket) => Some(Input::Media(side, MediaInput::FirstPacket)),
            Some(MediaEvent::Pressed) => Some(Input::Media(side, MediaInput::Pressed)),
            Some(MediaEvent::Digit { digit, .. }) => {
                Some(Input::Media(side, MediaInput::Digit(digit)))
            }
            Some(MediaEvent::Played { clip }) => Some(Input::Media(side, MediaInput::Played(clip))),
            Some(MediaEvent::Talk(talk)) => {
                self.note(CallEvent::Talk(side, talk));
                None
            }
            Some(MediaEvent::Trouble(trouble)) => {
                self.note(CallEvent::AudioTrouble(side, trouble));
                None
            }
            Some(MediaEvent::TimedOut) => Some(Input::Media(side, MediaInput::TimedOut)),
            Some(MediaEvent::Failed) => Some(fault_of(side)),
            None => {
                // The media thread dropped the session: nothing can be heard any more.
                if let Some(slot) = self.slot(side) {
                    slot.open = None;
                }
                Some(fault_of(side))
            }
        }
    }

    /// Whether the keys of the near leg's peer are kept from agents, recordings and records.
    pub(super) fn keys_are_private(&self) -> bool {
        self.media.keys_are_private()
    }

    /// The slot of a leg; `None` of one that was never dialled.
    fn slot(&mut self, side: LegSide) -> Option<&mut Slot> {
        match side {
            LegSide::Near => Some(&mut self.media),
            LegSide::Far | LegSide::Third | LegSide::Supervisor(_) => {
                Some(self.others().slot(side))
            }
        }
    }

    /// Has the media of a leg do something. What lasts is given back.
    pub(super) fn run_media(
        &mut self,
        side: LegSide,
        output: MediaOutput,
    ) -> Option<BoxFuture<'_, ()>> {
        match output {
            MediaOutput::Reserve => self.reserve_media(side),
            MediaOutput::Open => self.open_media(side),
            MediaOutput::Update(plan) => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.update(media, plan);
                }
            }
            MediaOutput::Expect(offered) => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.expect(media, offered);
                }
            }
            MediaOutput::StartPlayout => {
                if let Some(media) = self.media_id(side) {
                    self.switch.media.start_playout(media);
                }
            }
            MediaOutput::Close => return Some(Box::pin(self.close_media(side))),
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
        None
    }

    /// The session of a leg, where it has one.
    pub(super) fn media_id(&self, side: LegSide) -> Option<MediaId> {
        match side {
            LegSide::Near => self.media.id(),
            LegSide::Far | LegSide::Third | LegSide::Supervisor(_) => {
                self.others.as_ref()?.media_id(side)
            }
        }
    }

    fn reserve_media(&mut self, side: LegSide) {
        if side == LegSide::Near {
            self.media.trunk = Some(Arc::clone(&self.route.trunk));
        }
        // That of another leg is known when its first address is chosen; it moves there.
        let trunk = Some(&self.route.trunk).filter(|_| side == LegSide::Near);
        let within = trunk.and_then(|trunk| trunk.media.ports.as_ref());
        let own = &self.listener;
        let is_ipv6 = own.rtp_address.is_ipv6();
        let home = MediaHome::of(&self.switch.listeners, own, trunk.map(Arc::as_ref), is_ipv6);
        let reserved = self.switch.reserve_ports(home.local.clone(), within);
        let Some(slot) = self.slot(side) else { return };
        if side != LegSide::Near {
            // Of the leg that had this place before.
            slot.trunk = None;
        }
        let input = match reserved {
            Ok(ports) => {
                let place = place(&home, &ports);
                slot.ports = Some(ports);
                slot.place = Some(place);
                slot.bound_to = Some(home.local);
                slot.is_pinned = false;
                slot.held.clear();
                MediaInput::Reserved(place)
            }
            Err(_) => MediaInput::Refused(HangupCause::NoPorts),
        };
        self.own.push_back(Input::Media(side, input));
    }

    /// A link for whoever answers the call: at 16 kHz too, where both the agent and the trunk may have them, else of the
    /// agent's law.
    fn voice_link(&self) -> (MediaEnd, AgentEnd) {
        let agent = &self.route.profile.agent.kind;
        if agent.queues_little() {
            return short_link();
        }
        let media = &self.route.trunk.media;
        let mut codecs = media.codecs.iter().chain(&media.codecs_offered);
        let is_wide = codecs.any(|codec| codec.is_wide());
        if is_wide && agent.hears_wide() { wide_link() } else { link_of(agent.law()) }
    }

    /// The same for the agent that the call has already, which is to talk with this leg.
    pub(super) fn voice_link_to(&mut self, side: LegSide) -> (MediaEnd, AgentEnd) {
        let (media_end, mut agent_end) = self.voice_link();
        if self.keys_are_private() || self.slot(side).is_some_and(|slot| slot.keys_are_private()) {
            agent_end.keep_keys_private();
        }
        (media_end, agent_end)
    }

    fn open_media(&mut self, side: LegSide) {
        let (media_end, agent_end) = self.voice_link();
        let Some(slot) = self.slot(side) else { return };
        let Some(mut ports) = slot.ports.take() else { return };
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
                slot.agent_end = Some(Box::new(agent_end));
                MediaInput::Opened
            }
            Err(_) => MediaInput::Refused(HangupCause::Overload),
        };
        self.own.push_back(Input::Media(side, input));
    }

    /// Lets the media of a leg go the way that its signalling goes from now on, by the rules of that trunk,
    /// before its peer is told where they are; gives that place. While several are rung at once, they stay where
    /// the first was told, and ports are held for each other place; they move to that of whoever answers.
    ///
    /// # Errors
    /// `NoPorts` where none is free of those that the way keeps to.
    pub(super) fn go_by(
        &mut self,
        side: LegSide,
        way: LegWay,
    ) -> Result<Option<Place>, HangupCause> {
        let LegWay { trunk, listener, is_ipv6, rung, .. } = way;
        let switch = Arc::clone(&self.switch);
        let media = &switch.media;
        let listener = switch.listener(listener).unwrap_or(&self.listener);
        let described = trunk.as_deref();
        let home = MediaHome::of(&switch.listeners, listener, described, is_ipv6);
        let Some(slot) = self.slot(side) else { return Ok(None) };
        let Some((id, _)) = slot.open else { return Ok(None) };
        let none = TrunkMedia::default();
        let terms = trunk.as_ref().map_or(&none, |trunk| &trunk.media);
        let within = terms.ports.as_ref();
        let here = slot.here(&home, within);
        if here.is_none() && slot.is_pinned && rung == Rung::BesideOthers {
            return slot.hold(&switch, home, within).map(Some);
        }
        media.rule(id, media_rules(terms));
        let place = match here {
            Some(place) => place,
            None => {
                let mut ports = match slot.held_for(&home, within) {
                    Some(at) => slot.held.swap_remove(at).1,
                    None => {
                        let ports = switch.reserve_ports(home.local.clone(), within);
                        ports.map_err(|_| HangupCause::NoPorts)?
                    }
                };
                let place = place(&home, &ports);
                ports.classify(terms.dscp);
                media.move_to(id, ports);
                slot.bound_to = Some(home.local);
                place
            }
        };
        slot.is_pinned = rung == Rung::BesideOthers;
        if !slot.is_pinned {
            slot.held.clear();
        }
        slot.place = Some(place);
        slot.trunk = trunk;
        Ok(Some(place))
    }

    /// Holds a place for the media of the near leg should they go by this listener; `None`: it is where they are.
    ///
    /// # Errors
    /// `NoPorts`.
    pub(super) fn hold_place(
        &mut self,
        listener: u16,
        is_ipv6: bool,
    ) -> Result<Option<Place>, HangupCause> {
        let Some(way) = self.other_way(listener, is_ipv6, Rung::BesideOthers) else {
            return Ok(None);
        };
        self.media.is_pinned = true;
        self.go_by(LegSide::Near, way)
    }

    /// The media of the near leg go by this listener from now on.
    pub(super) fn take_place(&mut self, listener: u16, is_ipv6: bool) {
        let Some(way) = self.other_way(listener, is_ipv6, Rung::First) else { return };
        if let Some(listener) = self.switch.listener(listener) {
            self.listener = Arc::clone(listener);
        }
        // What was held is taken: nothing is reserved that may not be there.
        if let Err(cause) = self.go_by(LegSide::Near, way) {
            tracing::warn!(%cause, "media stay where they were");
        }
    }

    /// Nobody takes the place that was held for the near leg.
    pub(super) fn let_place_go(&mut self) {
        self.media.is_pinned = false;
        self.media.held.clear();
    }

    /// The way of the near leg by this listener, where that is not the call's own.
    fn other_way(&self, listener: u16, is_ipv6: bool, rung: Rung) -> Option<LegWay> {
        let own = self.switch.listener(listener)?;
        let trunk = self.media.trunk.clone();
        let offered_for = OfferedFor::default();
        let way = LegWay { trunk, terms: None, offered_for, listener, is_ipv6, rung };
        (own.name != self.listener.name).then_some(way)
    }

    async fn close_media(&mut self, side: LegSide) {
        let Some(slot) = self.slot(side) else { return };
        slot.ports = None;
        slot.held.clear();
        slot.agent_end = None;
        let figures = match slot.open.take() {
            Some((media, mut events)) => {
                self.keep_voice(side, media);
                let figures = self.switch.media.close(media).await.figures();
                // Keys alone still matter: the last one is often why the call ends.
                while let Some(event) = events.try_recv() {
                    if let MediaEvent::Digit { digit, .. } = event {
                        self.own.push_back(Input::Media(side, MediaInput::Digit(digit)));
                    }
                }
                Some(Box::new(figures))
            }
            None => None,
        };
        if side == LegSide::Near {
            self.end_recordings().await;
        }
        self.own.push_back(Input::Media(side, MediaInput::Closed(figures)));
    }

    /// Keeps whoever speaks to a session of a far leg that closes: it has not ended with this. It is back with the near
    /// leg, which may yet be on hold; where that is gone it waits for the next.
    fn keep_voice(&mut self, side: LegSide, media: MediaId) {
        if side == LegSide::Near || self.voice.as_ref().is_none_or(|it| it.heard_by != Some(media))
        {
            return;
        }
        if let Some(near) = self.media.id() {
            return self.give_voice_to(LegSide::Near, near);
        }
        let (mut media_end, agent_end) = self.voice_link_to(side);
        media_end.note_heard(true);
        if let Some(voice) = &mut self.voice {
            voice.heard_by = None;
            voice.speaker.relink(agent_end);
            voice.unheard = Some(Box::new(media_end));
        }
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
                self.give_voice_to(side, media);
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

    /// Whoever speaks does so to this session from now on, and is interrupted by its peer; what it had queued for another
    /// is dropped.
    fn give_voice_to(&mut self, side: LegSide, media: MediaId) {
        let (mut media_end, agent_end) = self.voice_link_to(side);
        // The link is another one, the agent is not.
        media_end.note_heard(true);
        let Some(voice) = &mut self.voice else { return };
        if voice.heard_by == Some(media) {
            return;
        }
        let before = voice.heard_by.replace(media);
        // The agent lets go of its link before anybody closes the other end: that would end it.
        voice.speaker.relink(agent_end);
        voice.unheard = None;
        let listener = self.listener_of_voice(self.is_announcing());
        self.switch.media.attach(media, media_end);
        self.switch.media.listen(media, listener);
        if let Some(before) = before {
            self.switch.media.isolate(before, Waiting::Noise);
            self.switch.media.listen(before, None);
        }
    }
}

/// The media of a leg are lost by a fault of ours: that ends the call, but for one that only supervises.
const fn fault_of(side: LegSide) -> Input {
    match side {
        LegSide::Near | LegSide::Far | LegSide::Third => {
            Input::HangupRequested { cause: HangupCause::SwitchFault, by: Party::Switch }
        }
        LegSide::Supervisor(_) => Input::Media(side, MediaInput::Failed),
    }
}

/// What a caller of this country hears.
fn waiting(comfort: Comfort, country: &str) -> Waiting {
    match comfort {
        Comfort::Ringback => Waiting::Ringback(RingbackForm::of_country(country)),
        Comfort::Connecting => Waiting::Connecting(RingbackForm::of_country(country)),
        Comfort::Starting => Waiting::Starting(RingbackForm::of_country(country)),
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
        voip_metrics: match media.rtcp_xr {
            RtcpXr::Off => VoipMetricsRule::Never,
            RtcpXr::Asked => VoipMetricsRule::Asked,
            RtcpXr::On => VoipMetricsRule::Always,
        },
        dscp: media.dscp,
        symmetric: media.symmetric,
        keys_signalled: media.dtmf_send == DtmfSend::Info,
        tones_heard: media.dtmf_tones,
        keys_private: media.dtmf_private,
        key_ms,
        key_gap_ms,
    }
}

fn place(home: &MediaHome, ports: &RtpPorts) -> Place {
    let RtpPorts { rtp_port, rtcp_port, .. } = *ports;
    Place { address: home.advertised, rtp_port, rtcp_port }
}
