//! A transfer that we ask a carrier for (RFC 3515): what it makes of whom we name, and how it tells what
//! came of it.

use crate::simulator::carrier::Carrier;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::types::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// From one word on a transfer to the next.
const WORD_EVERY: Duration = Duration::from_secs(1);

/// What becomes of transfers that a carrier is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transferring {
    /// They are made: that is told by NOTIFY, and the call hung up with it.
    #[default]
    Made,
    /// They are refused: status, reason phrase.
    Refused(u16, &'static str),
    /// They are taken, and whoever is named does not answer: status, reason phrase.
    Fails(u16, &'static str),
    /// They are taken, and nothing more is heard of them.
    Silent,
    /// They are taken and told to stand so, and then the call is hung up: status, reason phrase.
    HungUpAfter(u16, &'static str),
}

/// What a carrier knows of transfers.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    becomes: Transferring,
    /// When it tells what came of the one that was asked for.
    known_at: Option<Moment>,
}

impl Carrier {
    /// What becomes of transfers from now on.
    pub const fn will_transfer(&mut self, becomes: Transferring) {
        self.transfers.becomes = becomes;
    }

    /// A REFER of ours.
    pub(super) fn referred(
        &mut self,
        now: Moment,
        ends: (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        if let Err((status, phrase, words)) = self.judge_target(request) {
            self.complain(words);
            return self.refuse(now, ends, request, (status, phrase, None));
        }
        let (words, hangs_up) = match self.transfers.becomes {
            Transferring::Refused(status, phrase) => {
                return self.refuse(now, ends, request, (status, phrase, None));
            }
            Transferring::Made => (vec![(100, "Trying"), (200, "OK")], true),
            Transferring::Fails(status, phrase) => (vec![(100, "Trying"), (status, phrase)], false),
            Transferring::Silent => (Vec::new(), false),
            Transferring::HungUpAfter(status, phrase) => (vec![(status, phrase)], true),
        };
        let (edge, source) = ends;
        let mut writer = ResponseWriter::to(request, source, 202, None);
        writer.header(HeaderName::Contact, format!("<{}>", self.contact(edge)));
        self.send(now, edge, writer.finish());
        self.tell(now, &words, hangs_up);
    }

    /// The words on a transfer, and the end of the call after the last of them.
    fn tell(&mut self, now: Moment, words: &[(u16, &str)], hangs_up: bool) {
        let mut at = now;
        self.transfers.known_at = None;
        for (status, phrase) in words {
            at += WORD_EVERY;
            let is_last = *status >= 200;
            let state = if is_last { "terminated;reason=noresource" } else { "active;expires=60" };
            let lines = ["Event: refer".to_owned(), format!("Subscription-State: {state}")];
            let body = format!("SIP/2.0 {status} {phrase}\r\n");
            self.later(at, &Method::Notify, (&lines, Some(&body)));
            if is_last {
                self.transfers.known_at = Some(at);
            }
        }
        if hangs_up {
            self.later(at, &Method::Bye, (&[], None));
        }
    }

    /// A BYE of ours: whoever hangs up before the outcome is told loses the caller at some carriers.
    pub(super) fn check_transfer(&mut self, now: Moment) {
        if self.transfers.known_at.take().is_some_and(|at| now < at) {
            self.complain("BYE came before the NOTIFY that tells what came of the transfer");
        }
    }
}
