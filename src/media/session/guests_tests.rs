//! Guests of a session in virtual time: who hears whom, to the sample.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::g711;
use crate::audio::link::LinkEvent;
use crate::audio::tape::TapeForm;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeSide;
use crate::audio::tape::tape;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;

const CALLER_HZ: u16 = 500;
const AGENT_HZ: u16 = 1_000;
const GUEST_HZ: u16 = 1_700;

/// A call that has, or has not, a guest.
struct Company {
    host: Scene,
    guest: Scene,
    caller: (Talker, Tone),
    visitor: (Talker, Tone),
    agent: Tone,
}

impl Company {
    fn new() -> Self {
        let tone = |hz| Tone::new(hz, 6_000);
        Self {
            host: Scene::new(plan()),
            guest: Scene::new(plan()),
            caller: (Talker::new(PEER, 7), tone(CALLER_HZ)),
            visitor: (Talker::new(PEER, 8), tone(GUEST_HZ)),
            agent: tone(AGENT_HZ),
        }
    }

    fn admit(&mut self, gains: GuestGains) {
        let (own, theirs) = BridgeEnd::pair();
        assert!(self.host.session.host(Box::default()).is_none());
        assert!(self.host.session.admit(0, gains, Box::new(own)).is_none());
        assert!(self.guest.session.bridge(Bridged::new(theirs)).is_none());
    }

    /// All of them speak at once.
    fn talk(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.host.agent.push_audio(&encoded(&mut self.agent));
            for (scene, (talker, tone)) in
                [(&mut self.host, &mut self.caller), (&mut self.guest, &mut self.visitor)]
            {
                let bytes = talker.audio(&encoded(tone));
                scene.receive(talker, &bytes);
                scene.tick();
            }
        }
    }

    /// What is heard in the last half second by the caller, the agent and the guest, of the three voices.
    fn heard(&self) -> [[bool; 3]; 3] {
        let agent: Vec<i16> = self.host.heard.iter().filter_map(of_agent).flatten().collect();
        [of_peer(&self.host), agent, of_peer(&self.guest)].map(|samples| {
            let last = &samples[samples.len() - 4_000..];
            [CALLER_HZ, AGENT_HZ, GUEST_HZ].map(|hz| share_at(last, hz) > 0.3)
        })
    }
}

fn encoded(tone: &mut Tone) -> [u8; 160] {
    let mut frame = [0; 160];
    g711::encode(Law::Mu, &tone.frame(), &mut frame);
    frame
}

fn decoded(bytes: &[u8]) -> Vec<i16> {
    bytes.iter().map(|byte| g711::ulaw_decode(*byte)).collect()
}

fn of_peer(scene: &Scene) -> Vec<i16> {
    scene.rtp().iter().flat_map(|packet| decoded(packet.payload)).collect()
}

fn of_agent(event: &LinkEvent) -> Option<Vec<i16>> {
    match event {
        LinkEvent::Audio(frame) => Some(decoded(frame)),
        _ => None,
    }
}

fn packets(scene: &Scene) -> Vec<Vec<u8>> {
    scene.rtp().iter().map(|packet| packet.payload.to_vec()).collect()
}

#[test]
fn a_guest_is_heard_by_whom_its_mode_says_and_by_nobody_else() {
    for (gains, caller, agent) in [
        (GuestGains::LISTENS, [false, true, false], [true, false, false]),
        (GuestGains::WHISPERS, [false, true, false], [true, false, true]),
        (GuestGains::SPEAKS, [false, true, true], [true, false, true]),
    ] {
        let mut company = Company::new();
        company.talk(10);
        company.admit(gains);
        company.talk(50);
        let heard = company.heard();
        assert_eq!(heard, [caller, agent, [true, true, false]], "{gains:?}");
    }
}

#[test]
fn who_does_not_hear_a_guest_gets_the_very_packets_it_got_without() {
    let mut alone = Company::new();
    alone.talk(120);
    for gains in [GuestGains::LISTENS, GuestGains::WHISPERS] {
        let mut company = Company::new();
        company.talk(40);
        company.admit(gains);
        company.talk(40);
        drop(company.host.session.dismiss(0));
        company.talk(40);
        assert_eq!(packets(&company.host), packets(&alone.host), "{gains:?}");
        if gains == GuestGains::LISTENS {
            assert_eq!(company.host.heard, alone.host.heard, "nor does its agent notice");
        }
    }
}

#[test]
fn a_mode_changes_in_the_middle_and_the_guest_leaves_no_trace() {
    let mut company = Company::new();
    company.admit(GuestGains::LISTENS);
    company.talk(50);
    company.host.session.regard(0, GuestGains::SPEAKS);
    company.talk(50);
    let [caller, agent, _] = company.heard();
    assert_eq!((caller, agent), ([false, true, true], [true, false, true]));
    company.host.session.regard(0, GuestGains::WHISPERS);
    company.talk(50);
    let [caller, agent, _] = company.heard();
    assert_eq!((caller, agent), ([false, true, false], [true, false, true]));
    assert!(company.host.session.dismiss(0).is_some());
    assert!(company.host.session.dismiss(0).is_none());
    company.talk(50);
    let [caller, agent, guest] = company.heard();
    assert_eq!((caller, agent), ([false, true, false], [true, false, false]));
    assert_eq!(guest, [false; 3], "it hears noise");
    // Nothing that was heard jumps further than these tones do by themselves.
    for line in [of_peer(&company.host), of_peer(&company.guest)] {
        let jump = line.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs());
        assert!(jump.max() < Some(2 * 6_000), "{line:?}");
    }
}

#[test]
fn a_guest_hears_two_legs_that_are_bridged_and_whispers_to_the_second() {
    let mut company = Company::new();
    let (mut far, mut far_voice) =
        (Scene::new(plan()), (Talker::new(PEER, 9), Tone::new(2_600, 6_000)));
    let (one, two) = BridgeEnd::pair();
    assert!(company.host.session.bridge(Bridged::new(one)).is_none());
    assert!(far.session.bridge(Bridged::new(two)).is_none());
    company.admit(GuestGains::WHISPERS);
    for _ in 0..60 {
        let bytes = far_voice.0.audio(&encoded(&mut far_voice.1));
        far.receive(&far_voice.0, &bytes);
        far.tick();
        company.talk(1);
    }
    let shares = |scene: &Scene| {
        let samples = of_peer(scene);
        let last = &samples[samples.len() - 4_000..];
        [CALLER_HZ, AGENT_HZ, GUEST_HZ, 2_600].map(|hz| share_at(last, hz) > 0.3)
    };
    assert_eq!(shares(&company.host), [false, false, false, true], "the caller");
    assert_eq!(shares(&far), [true, false, true, false], "whom it talks with");
    assert_eq!(shares(&company.guest), [true, false, false, true], "the guest");
    let agent: Vec<i16> = company.host.heard.iter().filter_map(of_agent).flatten().collect();
    assert!(agent.iter().all(|sample| *sample == 0), "the agent is not in it");
}

#[test]
fn the_tone_of_a_key_reaches_whom_a_leg_is_bridged_with_though_somebody_listens() {
    let sent =
        [(false, true), (true, true), (true, false)].map(|(is_listened_to, keys_private)| {
            let mut company = Company::new();
            let rules = MediaRules { tones_heard: true, keys_private, ..MediaRules::default() };
            let setup = MediaSetup { playout_held: false, rules, ..MediaSetup::new(None, 1) };
            company.host = Scene::with(setup);
            let host = &mut company.host;
            let without_events = MediaPlan { dtmf_receive: None, ..plan() };
            host.session.update(host.now, &without_events, &mut host.out);
            let mut far = Scene::new(plan());
            let (one, two) = BridgeEnd::pair();
            assert!(company.host.session.bridge(Bridged::new(one)).is_none());
            assert!(far.session.bridge(Bridged::new(two)).is_none());
            if is_listened_to {
                company.admit(GuestGains::LISTENS);
            }
            let (mut row, mut column) = (Tone::new(770, 5_000), Tone::new(1_336, 5_000));
            for tick in 0..60 {
                let mut linear = [0; 160];
                if (20..30).contains(&tick) {
                    let tones = row.frame().into_iter().zip(column.frame());
                    linear.iter_mut().zip(tones).for_each(|(to, (one, two))| *to = one + two);
                }
                let mut bytes = [0; 160];
                g711::encode(Law::Mu, &linear, &mut bytes);
                let packet = company.caller.0.audio(&bytes);
                company.host.receive(&company.caller.0, &packet);
                company.host.tick();
                company.guest.tick();
                far.tick();
            }
            assert_eq!(company.host.count(|event| matches!(event, MediaEvent::Digit { .. })), 1);
            [packets(&far), packets(&company.guest)]
        });
    let is_loud = |bytes: &&Vec<u8>| share_at(&decoded(bytes), 770) > 0.3;
    let [alone, private, open] = &sent;
    assert!(alone[0].iter().filter(is_loud).count() >= 9, "the tone passes");
    assert_eq!(alone[0], open[0]);
    // Who listens hears nothing of it where keys are kept from others: it alone waits until it is told from a voice.
    assert_eq!(alone[0], private[0], "it passes as it did");
    let heard = [private, open].map(|[_, guest]| guest.iter().filter(is_loud).count());
    assert!(heard[0] == 0 && heard[1] >= 9, "{heard:?}");
}

#[test]
fn whom_a_peer_of_private_keys_is_bridged_with_notices_nothing_of_who_listens() {
    let heard = [false, true].map(|listens| {
        let mut company = Company::new();
        let rules = MediaRules { keys_private: true, ..MediaRules::default() };
        let setup = MediaSetup { playout_held: false, rules, ..MediaSetup::new(None, 1) };
        company.host = Scene::with(setup);
        company.host.session.update(company.host.now, &plan(), &mut company.host.out);
        let mut far = Scene::new(plan());
        let (one, two) = BridgeEnd::pair();
        assert!(company.host.session.bridge(Bridged::new(one)).is_none());
        assert!(far.session.bridge(Bridged::new(two)).is_none());
        for tick in 0..120 {
            match tick {
                40 if listens => company.admit(GuestGains::LISTENS),
                80 if listens => drop(company.host.session.dismiss(0)),
                _ => (),
            }
            company.talk(1);
            far.tick();
        }
        (packets(&far), of_peer(&company.guest))
    });
    let [(alone, _), (listened_to, guest)] = &heard;
    assert_eq!(alone, listened_to, "no word comes twice, and none is bitten off");
    assert!(share_at(&guest[50 * 160..75 * 160], CALLER_HZ) > 0.3, "who listens hears it");
}

#[test]
fn a_recording_has_what_was_said_by_the_peer_and_what_was_truly_sent() {
    for gains in [GuestGains::WHISPERS, GuestGains::SPEAKS] {
        let mut company = Company::new();
        let (into, mut out) = tape(TapeRate::Narrow);
        assert!(company.host.session.record(Box::new(into)).is_none());
        company.admit(gains);
        let (mut heard, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            company.talk(1);
            while let Some(item) = out.next_item() {
                let TapeItem::Sound(sound) = item else { continue };
                assert_eq!(sound.form(), TapeForm::Law(Law::Mu));
                let bytes = sound.bytes().to_vec();
                match sound.side {
                    TapeSide::Heard => heard.extend(decoded(&bytes)),
                    TapeSide::Sent => sent.push(bytes),
                }
            }
        }
        assert_eq!(sent, packets(&company.host), "{gains:?}");
        assert!(share_at(&heard, CALLER_HZ) > 0.9, "{gains:?}");
    }
}

#[test]
fn a_muted_caller_is_not_heard_by_a_guest_and_keys_of_a_guest_are_nobodys() {
    let mut company = Company::new();
    company.admit(GuestGains::SPEAKS);
    company.host.session.mute(true, false);
    company.talk(50);
    for units in [160, 320, 480] {
        let bytes = company.visitor.0.event(5, units, units == 480);
        company.guest.receive(&company.visitor.0, &bytes);
        company.talk(1);
    }
    company.talk(30);
    assert_eq!(company.heard()[2], [false, true, false]);
    let is_digit = |event: &LinkEvent| matches!(event, LinkEvent::Digit(_));
    assert!(!company.host.heard.iter().any(is_digit));
    assert!(company.host.rtp().iter().all(|packet| packet.payload_type.get() == 0));
}

/// A guest beside the first, with a voice of its own.
struct Other {
    scene: Scene,
    talker: Talker,
    voice: Tone,
}

impl Other {
    fn admitted(host: &mut MediaSession, place: usize, gains: GuestGains, hz: u16) -> Self {
        let (own, theirs) = BridgeEnd::pair();
        assert!(host.admit(place, gains, Box::new(own)).is_none());
        let mut scene = Scene::new(plan());
        assert!(scene.session.bridge(Bridged::new(theirs)).is_none());
        Self { scene, talker: Talker::new(PEER, 9), voice: Tone::new(hz, 6_000) }
    }

    fn talk(&mut self) {
        let bytes = self.talker.audio(&encoded(&mut self.voice));
        self.scene.receive(&self.talker, &bytes);
        self.scene.tick();
    }
}

#[test]
fn several_guests_hear_each_other_as_the_peer_does_and_stay_when_one_leaves() {
    const SECOND_HZ: u16 = 2_300;
    const THIRD_HZ: u16 = 2_900;
    const LAST_HZ: u16 = 3_500;
    let voices = [CALLER_HZ, AGENT_HZ, GUEST_HZ, SECOND_HZ, THIRD_HZ, LAST_HZ];
    let heard = |samples: &[i16]| {
        let last = &samples[samples.len() - 4_000..];
        let is_there = |hz: &u16| {
            let share = share_at(last, *hz);
            assert!(!(0.02..0.1).contains(&share), "{hz} Hz is neither there nor not: {share}");
            share > 0.1
        };
        voices.into_iter().filter(is_there).collect::<Vec<_>>()
    };
    let mut company = Company::new();
    company.admit(GuestGains::SPEAKS);
    let host = &mut company.host.session;
    let mut others = [
        Other::admitted(host, 1, GuestGains::SPEAKS, SECOND_HZ),
        Other::admitted(host, 2, GuestGains::WHISPERS, THIRD_HZ),
        Other::admitted(host, 3, GuestGains::LISTENS, LAST_HZ),
    ];
    let talk = |company: &mut Company, others: &mut [Other]| {
        for _ in 0..60 {
            others.iter_mut().for_each(Other::talk);
            company.talk(1);
        }
        let agent: Vec<i16> = company.host.heard.iter().filter_map(of_agent).flatten().collect();
        let [caller, guest] = [&company.host, &company.guest].map(|scene| heard(&of_peer(scene)));
        let others = others.iter().map(|other| heard(&of_peer(&other.scene))).collect::<Vec<_>>();
        (caller, heard(&agent), guest, others)
    };

    let (caller, agent, guest, others_hear) = talk(&mut company, &mut others);
    assert_eq!(caller, [AGENT_HZ, GUEST_HZ, SECOND_HZ]);
    assert_eq!(agent, [CALLER_HZ, GUEST_HZ, SECOND_HZ, THIRD_HZ], "a whisper is for it alone");
    assert_eq!(guest, [CALLER_HZ, AGENT_HZ, SECOND_HZ], "itself it does not hear");
    let both = [CALLER_HZ, AGENT_HZ, GUEST_HZ, SECOND_HZ];
    assert_eq!(others_hear, [&[CALLER_HZ, AGENT_HZ, GUEST_HZ][..], &both, &both]);

    // One leaves, and who only listened speaks: the others go on as they did.
    assert!(company.host.session.dismiss(1).is_some());
    company.host.session.regard(3, GuestGains::SPEAKS);
    let (caller, agent, guest, others_hear) = talk(&mut company, &mut others);
    assert_eq!(caller, [AGENT_HZ, GUEST_HZ, LAST_HZ]);
    assert_eq!(agent, [CALLER_HZ, GUEST_HZ, THIRD_HZ, LAST_HZ]);
    assert_eq!(guest, [CALLER_HZ, AGENT_HZ, LAST_HZ]);
    let whisperer = [CALLER_HZ, AGENT_HZ, GUEST_HZ, LAST_HZ];
    let last = [CALLER_HZ, AGENT_HZ, GUEST_HZ];
    assert_eq!(others_hear, [&[] as &[u16], &whisperer, &last]);
}

#[test]
fn places_that_are_none_take_nobody() {
    let mut company = Company::new();
    let end = || Box::new(BridgeEnd::pair().0);
    let session = &mut company.host.session;
    assert!(session.admit(0, GuestGains::SPEAKS, end()).is_some(), "it is no host yet");
    assert!(session.host(Box::default()).is_none());
    assert!(session.host(Box::default()).is_some(), "once is enough");
    assert!(session.admit(GUESTS_MAX, GuestGains::SPEAKS, end()).is_some());
    assert!(session.admit(1, GuestGains::SPEAKS, end()).is_none());
    assert!(session.admit(1, GuestGains::LISTENS, end()).is_some(), "the one before");
    session.regard(0, GuestGains::SPEAKS);
    session.regard(GUESTS_MAX, GuestGains::SPEAKS);
    assert!(session.dismiss(0).is_none() && session.dismiss(GUESTS_MAX).is_none());
    assert!(session.dismiss(1).is_some());
}
