//! RTCP of a media session: what the peer reports, and what we do.

use crate::media::output::Port;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::Received;
use crate::media::session::written;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::srtp::Layer;
use crate::types::moment::Moment;
use std::net::SocketAddr;

impl MediaSession {
    pub(super) fn receive_rtcp(&mut self, now: Moment, datagram: &Received<'_>) {
        if !self.rules.rtcp {
            self.counters.unexpected += 1;
            return;
        }
        let known = self.source.destination().map(|address| address.ip());
        if known != Some(datagram.source.ip()) {
            self.counters.foreign += 1;
            return;
        }
        let Some(bytes) = self.unprotect(now, Layer::Rtcp, datagram.bytes) else { return };
        let compound = Compound::new(&bytes);
        if !compound.is_well_formed() {
            self.counters.malformed += 1;
            return;
        }
        self.counters.reports_in = self.counters.reports_in.saturating_add(1);
        for packet in compound {
            match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    self.receiver.sender_report(now, ssrc, info.ntp);
                    blocks.for_each(|block| self.sender.reported(now, &block));
                }
                RtcpPacket::ReceiverReport { blocks, .. } => {
                    blocks.for_each(|block| self.sender.reported(now, &block));
                }
                // The end of a call is the business of signalling.
                RtcpPacket::Goodbye { .. } | RtcpPacket::Other(_) => (),
            }
        }
    }

    pub(super) fn report(
        &mut self,
        now: Moment,
        out: &mut TickOutput,
        write: impl Fn(&Report<'_>, &mut [u8]) -> Option<usize>,
    ) {
        let Some((port, to)) = self.report_way_out() else { return };
        let report = Report {
            ssrc: self.sender.ssrc(),
            sender: self.sender.report(now),
            block: self.receiver.report(now),
            cname: &self.cname,
        };
        let mut bytes = [0; COMPOUND_BYTES_MAX];
        let length = write(&report, &mut bytes);
        let written = written(&bytes, length);
        if let Ok(bytes) = self.protection.send(Layer::Rtcp, written)
            && !written.is_empty()
        {
            out.transmit(port, to, &bytes);
        }
    }

    /// Where RTCP goes: where it was signalled, or beside the media of a source that was learned.
    fn report_way_out(&self) -> Option<(Port, SocketAddr)> {
        let plan = self.plan.as_ref().filter(|_| self.started)?;
        let media = self.source.destination()?;
        if plan.rtcp_mux {
            return Some((Port::Rtp, media));
        }
        if Some(media) == plan.remote {
            return plan.remote_rtcp.map(|to| (Port::Rtcp, to));
        }
        let beside = media.port().checked_add(1)?;
        Some((Port::Rtcp, SocketAddr::new(media.ip(), beside)))
    }
}
