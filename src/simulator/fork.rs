//! A call that a carrier gives to two telephones, and one whose session interval it finds too short.

use crate::simulator::carrier::ANSWER_AFTER;
use crate::simulator::carrier::Carrier;
use crate::simulator::description::Seen;
use crate::simulator::judge::text;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::types::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// The tag of the telephone that answers second.
const TAG: &[u8] = b"fork";
/// How far its media is from that of the first.
const PORTS_APART: u16 = 40;

/// What the second telephone heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// Its answer was acknowledged.
    pub acked: bool,
    /// It was hung up.
    pub ended: bool,
}

impl Carrier {
    /// The second telephone of a call that forked.
    #[must_use]
    pub const fn forked(&self) -> Option<Fork> {
        self.fork
    }

    pub(super) fn is_of_fork(&self, request: &Request) -> bool {
        self.fork.is_some() && request.headers.to().tag() == Some(TAG)
    }

    /// The second telephone rings first, and answers second.
    pub(super) fn fork(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        self.fork = Some(Fork::default());
        let media = self.subscription().media;
        let media = SocketAddr::new(media.ip(), media.port() + PORTS_APART);
        let late = ANSWER_AFTER + Duration::from_millis(500);
        for (status, at) in [(183, now), (200, now + late)] {
            let mut writer = ResponseWriter::to(request, source, status, Some(TAG));
            self.write_way(&mut writer, edge, request);
            let Some(seen) = Seen::of(&request.body) else { return };
            let answer = seen.answer(media).text();
            self.send(at, edge, writer.finish_with("application/sdp", answer.as_bytes()));
        }
    }

    /// A request of ours to the second telephone.
    pub(super) fn fork_hears(
        &mut self,
        now: Moment,
        ends: (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        self.check_way(ends.0, request);
        let Some(fork) = &mut self.fork else { return };
        match request.method {
            Method::Ack => fork.acked = true,
            Method::Bye => {
                fork.ended = true;
                self.reply(now, ends, request, 200);
            }
            _ => self.reply(now, ends, request, 200),
        }
    }

    /// Whether the session interval that an INVITE asks for is below `least` seconds.
    pub(super) fn is_too_short(&self, request: &Request, least: u32) -> bool {
        let asked = text(request.headers.first(HeaderName::SessionExpires));
        let seconds = asked.split(';').next().and_then(|text| text.trim().parse::<u32>().ok());
        seconds.is_some_and(|seconds| seconds < least)
    }

    /// RFC 4028 §9: 422, once.
    pub(super) fn want_interval(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        least: u32,
    ) {
        let again = request.headers.cseq().number > 1 && !self.model().challenges;
        if again {
            self.complain(format!(
                "the INVITE asks for less than {least} s again, though 422 said that this is the least"
            ));
        }
        let mut writer = ResponseWriter::to(request, source, 422, Some(b"carrier"));
        writer.number(HeaderName::MinSe, least);
        self.send(now, edge, writer.finish());
    }
}
