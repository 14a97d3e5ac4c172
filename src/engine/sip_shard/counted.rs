//! What a shard counts of its endpoint, as metrics.

use crate::sip::endpoint::event::Counter;
use crate::telemetry::metric;

pub(super) fn count(counter: Counter) {
    let what = match counter {
        Counter::Malformed(what) => {
            return metric::labelled(metric::Counter::SipMessagesMalformed, what.as_str())
                .increment(1);
        }
        Counter::StrayAck => "stray_ack",
        Counter::StrayResponse => "stray_response",
        Counter::StrayCancel => "stray_cancel",
        Counter::UnknownDialog => "unknown_dialog",
        Counter::RetransmissionAbsorbed => "retransmission_absorbed",
        Counter::RetransmissionSent => "retransmission_sent",
        Counter::Merged => "merged",
        Counter::RefusedRequest => "refused_request",
        Counter::ShardFull => "shard_full",
        Counter::AckTimeout => "ack_timeout",
        Counter::ByeChallenged => "bye_challenged",
        Counter::RequestTimeout => "request_timeout",
        Counter::RequestUnreached => "request_unreached",
        Counter::RequestTooLong => "request_too_long",
        Counter::ResponseOnClosedFlow => "response_on_closed_flow",
        Counter::RefusedOnce => "refused_once",
        Counter::RefusalWithheld => "refusal_withheld",
        Counter::Unwritable => "unwritable",
        Counter::SenselessCommand => "senseless_command",
        Counter::TooManyForks => "too_many_forks",
        Counter::Loop => "loop",
        Counter::ReliableOutOfOrder => "reliable_out_of_order",
        Counter::PrackTimeout => "prack_timeout",
    };
    metric::labelled(metric::Counter::SipEndpointEvents, what).increment(1);
}
