//! Which way requests of ours take: at once, or after a search; as datagrams, or by a stream.

use super::Context;
use super::Due;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogId;
use super::event::Output;
use super::flow::Flow;
use super::timers::Armed;
use super::told::Search;
use super::transact::Acked;
use super::transact::Purpose;
use crate::sip::invite::Usage;
use crate::sip::locate::NextHop;
use crate::sip::message::write;
use crate::sip::transaction::key::ClientKey;
use crate::types::limit::SIP_SEARCHES_MAX;
use crate::types::transport::DatagramRule;
use crate::types::transport::Oversize;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::time::Duration;

/// How long a request waits for where it shall go, before it goes where the peer was heard last.
const SEARCH_MAX: Duration = Duration::from_secs(2);

/// The way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Where it goes, unless a search for `hop` finds something better.
    pub(super) flow: Flow,
    /// The next hop, where its way is still to be found.
    pub(super) hop: Option<NextHop>,
}

impl From<Flow> for Way {
    fn from(flow: Flow) -> Self {
        Self { flow, hop: None }
    }
}

impl Way {
    /// The same where a search has found it before.
    pub(super) fn known_to(self, usage: Option<&Usage>) -> Self {
        let known = usage.and_then(|usage| usage.located.as_ref());
        match known.filter(|known| self.hop.as_ref() == Some(&known.0)) {
            Some(known) => Self::from(known.1),
            None => self,
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Routed {
    /// It is sent.
    Now(Flow, Bytes),
    /// It waits for a search, and is sent by this flow where nothing is found.
    Later(NextHop, Flow, Bytes),
    /// It is too long, and may not go by a stream.
    TooLong,
}

/// Requests that wait for the same search.
#[derive(Debug)]
pub(super) struct Seeking {
    dialog: Option<DialogId>,
    hop: NextHop,
    waiting: Vec<Waiting>,
    timer: Option<Armed>,
}

/// What waits for a search.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The request of a client transaction.
    Client(u64),
    /// The ACK to a 2xx of this transaction.
    Ack(u64, Acked),
}

/// The bytes of a request that fit a datagram, or what else becomes of it.
enum Fit {
    Datagram(Bytes),
    Stream(Bytes),
    TooLong(Bytes),
}

/// How a request goes to a UDP target of which datagrams above `rule.bytes_max` may be lost (RFC 3261
/// §18.1.1).
fn fit(bytes: Bytes, rule: DatagramRule) -> Fit {
    if bytes.len() <= rule.bytes_max {
        return Fit::Datagram(bytes);
    }
    match rule.oversize {
        Oversize::Fragment => Fit::Datagram(bytes),
        Oversize::Tcp => Fit::Stream(bytes),
        Oversize::Compact => {
            let short = write::rewritten(&bytes, Transport::Udp, true);
            if short.len() <= rule.bytes_max {
                Fit::Datagram(short)
            } else if rule.may_stream {
                Fit::Stream(bytes)
            } else {
                Fit::TooLong(short)
            }
        }
    }
}

impl Endpoint {
    /// How a request is sent: the one place where its size counts.
    pub(super) fn route(
        &self,
        (owner, purpose): (Option<DialogId>, Purpose),
        way: Way,
        bytes: Bytes,
    ) -> Routed {
        let Way { flow, hop } = way;
        if flow.transport.is_reliable() {
            return match hop {
                Some(hop) => Routed::Later(hop, flow, bytes),
                None => Routed::Now(flow, bytes),
            };
        }
        let by_stream = |hop: &NextHop| hop.transport.is_some_and(Transport::is_reliable);
        if let Some(hop) = hop.as_ref().filter(|hop| by_stream(hop)) {
            return Routed::Later(hop.clone(), flow, bytes);
        }
        match (fit(bytes, self.datagram_rule(owner, purpose)), hop) {
            (Fit::Datagram(bytes), Some(hop)) => Routed::Later(hop, flow, bytes),
            (Fit::Datagram(bytes), None) => Routed::Now(flow, bytes),
            (Fit::Stream(bytes), hop) => {
                let here = || NextHop {
                    host: flow.remote.ip().to_string(),
                    port: Some(flow.remote.port()),
                    transport: None,
                    secure: false,
                };
                let hop = NextHop { transport: Some(Transport::Tcp), ..hop.unwrap_or_else(here) };
                Routed::Later(hop, flow, bytes)
            }
            // These end something, or keep it up: better in fragments than never.
            (Fit::TooLong(bytes), _) if is_needed(purpose) => Routed::Now(flow, bytes),
            (Fit::TooLong(_), _) => Routed::TooLong,
        }
    }

    fn datagram_rule(&self, owner: Option<DialogId>, purpose: Purpose) -> DatagramRule {
        if let Purpose::Outside(place) = purpose {
            return self.outside_rule(place);
        }
        let usage = owner.and_then(|dialog| self.usages.get(dialog.0));
        usage.map_or_else(DatagramRule::default, |usage| usage.policy.datagrams)
    }

    /// Sends a request of ours in a client transaction of its own; `None` for one that is too long.
    pub(super) fn begin_client(
        &mut self,
        cx: &mut Context<'_>,
        key: ClientKey,
        of: (Option<DialogId>, Purpose),
        (way, bytes): (Way, Bytes),
    ) -> Option<u64> {
        match self.route(of, way, bytes) {
            Routed::Now(flow, bytes) => {
                let id = self.keep_client(key, of, (flow, bytes));
                self.start_client(cx, id);
                Some(id)
            }
            Routed::Later(hop, flow, bytes) => {
                let id = self.keep_client(key, of, (flow, bytes));
                self.seek(cx, (of.0, hop, flow), Waiting::Client(id));
                Some(id)
            }
            Routed::TooLong => {
                cx.count(Counter::RequestTooLong);
                None
            }
        }
    }

    /// Sends the ACK to a 2xx.
    pub(super) fn send_ack(
        &mut self,
        cx: &mut Context<'_>,
        (owner, transaction): (Option<DialogId>, u64),
        (way, mut acked): (Way, Acked),
    ) {
        match self.route((owner, Purpose::Nothing), way, acked.bytes.clone()) {
            Routed::Now(flow, bytes) => {
                acked = Acked { flow, bytes, ..acked };
                cx.transmit(acked.flow, acked.bytes.clone());
                self.keep_ack(transaction, acked);
            }
            Routed::Later(hop, flow, bytes) => {
                acked = Acked { flow, bytes, is_sent: false, ..acked };
                self.keep_ack(transaction, acked.clone());
                self.seek(cx, (owner, hop, flow), Waiting::Ack(transaction, acked));
            }
            // An ACK counts as needed.
            Routed::TooLong => {}
        }
    }

    /// Keeps an ACK for each repetition of its 2xx.
    fn keep_ack(&mut self, transaction: u64, acked: Acked) {
        let Some(transaction) = self.transactions.get_mut(transaction) else { return };
        transaction.acks.retain(|kept| kept.tag != acked.tag);
        transaction.acks.push(acked);
    }

    /// Has the way to `hop` looked for, unless that is being done for the same dialog. Over the bound of
    /// searches nothing is found.
    fn seek(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, hop, from): (Option<DialogId>, NextHop, Flow),
        waiting: Waiting,
    ) {
        let mut same = self.searches.values_mut();
        if let Some(seeking) = same.find(|seeking| seeking.dialog == dialog && seeking.hop == hop) {
            return seeking.waiting.push(waiting);
        }
        if self.searches.len() >= SIP_SEARCHES_MAX {
            return self.go(cx, waiting, None);
        }
        self.next_search += 1;
        let number = self.next_search;
        let mut timer = None;
        self.timers.arm(&mut timer, cx.now + SEARCH_MAX, Due::Search(number));
        let seeking = Seeking { dialog, hop: hop.clone(), waiting: vec![waiting], timer };
        self.searches.insert(number, seeking);
        cx.out.push(Output::Locate(Box::new(Search { number, dialog, hop, from })));
    }

    /// Sends what waited for a search. `found` is a flow that leads there.
    pub(super) fn located(&mut self, cx: &mut Context<'_>, number: u64, found: Option<Flow>) {
        let Some(mut seeking) = self.searches.remove(&number) else { return };
        self.timers.disarm(&mut seeking.timer);
        let usage = seeking.dialog.and_then(|dialog| self.usages.get_mut(dialog.0));
        // A connection may close: it is asked for each time, and found again.
        let known = found.filter(|flow| !flow.transport.is_reliable());
        if let (Some(usage), Some(flow)) = (usage, known) {
            usage.located = Some(Box::new((seeking.hop, flow)));
        }
        for waiting in seeking.waiting {
            self.go(cx, waiting, found);
        }
    }

    fn go(&mut self, cx: &mut Context<'_>, waiting: Waiting, found: Option<Flow>) {
        match waiting {
            Waiting::Client(id) => {
                if let Some(flow) = found {
                    self.lead_client(id, flow);
                }
                self.start_client(cx, id);
            }
            Waiting::Ack(transaction, acked) => {
                let acked = match found {
                    Some(flow) => acked.led(flow),
                    None => Acked { is_sent: true, ..acked },
                };
                cx.transmit(acked.flow, acked.bytes.clone());
                self.keep_ack(transaction, acked);
            }
        }
    }
}

/// True for requests that are never given up for their size.
const fn is_needed(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Bye | Purpose::Prack(..) | Purpose::Parting | Purpose::Nothing => true,
        Purpose::Invite
        | Purpose::Asking
        | Purpose::Info
        | Purpose::Refer
        | Purpose::Notify
        | Purpose::Outside(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: usize, rule: DatagramRule) -> (&'static str, usize) {
        let head = "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>\r\n\
                    Call-ID: x\r\nContent-Length: 0\r\nUser-Agent: tandem\r\nX: ";
        let fill = "x".repeat(bytes - head.len() - 4);
        match fit(format!("{head}{fill}\r\n\r\n").into(), rule) {
            Fit::Datagram(bytes) => ("datagram", bytes.len()),
            Fit::Stream(bytes) => ("stream", bytes.len()),
            Fit::TooLong(bytes) => ("too long", bytes.len()),
        }
    }

    #[test]
    fn a_request_too_long_for_udp_is_carried_as_the_trunk_wants() {
        let rule = |oversize, may_stream| DatagramRule { bytes_max: 1_300, oversize, may_stream };
        // Names and User-Agent are shorter by 44 bytes in compact form.
        let cases = [
            (1_300, rule(Oversize::Tcp, true), ("datagram", 1_300)),
            (1_301, rule(Oversize::Tcp, true), ("stream", 1_301)),
            (1_301, rule(Oversize::Compact, true), ("datagram", 1_257)),
            (1_344, rule(Oversize::Compact, false), ("datagram", 1_300)),
            (1_345, rule(Oversize::Compact, true), ("stream", 1_345)),
            (1_345, rule(Oversize::Compact, false), ("too long", 1_301)),
            (9_000, rule(Oversize::Fragment, true), ("datagram", 9_000)),
        ];
        for (bytes, rule, expected) in cases {
            assert_eq!(sized(bytes, rule), expected, "{bytes} {rule:?}");
        }
    }
}
