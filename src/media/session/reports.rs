//! RTCP of a media session: what the peer reports, and what we do.

use crate::media::output::Port;
use crate::media::output::Taken;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::Received;
use crate::media::session::written;
use crate::media::setup::VoipMetricsRule;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::types::moment::Moment;
use std::net::IpAddr;
use std::net::SocketAddr;

impl MediaSession {
    pub(super) fn receive_rtcp(&mut self, now: Moment, datagram: &Received<'_>) -> Taken {
        if !self.rules.rtcp {
            self.counters.unexpected += 1;
            return Taken::Refused;
        }
        if !self.believes_reports_of(datagram.source.ip()) {
            self.counters.foreign += 1;
            return Taken::Refused;
        }
        let Some(bytes) = self.unprotect(now, Layer::Rtcp, datagram.bytes) else {
            return Taken::Refused;
        };
        let compound = Compound::new(&bytes);
        if !compound.is_well_formed() {
            self.counters.malformed += 1;
            return Taken::Refused;
        }
        if compound
            .filter_map(|packet| packet.reporter())
            .any(|it| Some(it) == self.receiver.ssrc())
        {
            self.reports_from = Some(datagram.source);
        }
        self.counters.reports_in = self.counters.reports_in.saturating_add(1);
        self.judge.report_came();
        if self.judge.pausing {
            // Nothing else may come of it for as long as it pauses.
            self.quiet_ticks = 0;
        }
        let (mut reports, mut ours) = (false, None);
        for packet in compound {
            let blocks = match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    self.receiver.sender_report(now, ssrc, info.ntp);
                    blocks
                }
                RtcpPacket::ReceiverReport { blocks, .. } => blocks,
                RtcpPacket::Extended(blocks) => {
                    self.judge.extended(self.sender.ssrc(), blocks);
                    continue;
                }
                // The end of a call is the business of signalling.
                RtcpPacket::Goodbye { .. } | RtcpPacket::Other(_) => continue,
            };
            reports = true;
            for block in blocks {
                self.sender.reported(now, &block);
                ours = ours.or(Some(block).filter(|block| block.ssrc == self.sender.ssrc()));
            }
        }
        if let (Some(block), Some(packed)) = (&ours, &mut self.packed) {
            packed.loss_is(block.fraction_lost);
        }
        if reports {
            self.judge.reported(self.sender.packets(), ours);
        }
        Taken::Report
    }

    /// Whether reports from `host` are the peer's. They have no numbers by which a source could prove itself, so their
    /// source is never learned: it follows that of the media, or is where the description has RTCP (RFC 3605).
    fn believes_reports_of(&self, host: IpAddr) -> bool {
        let said = self.plan.as_ref().and_then(|plan| plan.remote_rtcp);
        let known = [self.source.locked(), self.source.destination(), said];
        known.into_iter().flatten().any(|address| address.ip() == host)
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
            metrics: if self.tells_metrics() { self.metrics() } else { None },
        };
        let mut bytes = [0; COMPOUND_BYTES_MAX];
        let length = write(&report, &mut bytes);
        send_rtcp(&mut self.protection, (port, to), written(&bytes, length), out);
    }

    /// Says goodbye for a stream of ours that another took the place of (RFC 3550 §8.2).
    pub(super) fn leave_stream(&mut self, out: &mut TickOutput) {
        let Some(ssrc) = self.sender.take_left().filter(|_| self.rules.rtcp) else { return };
        let Some(way) = self.report_way_out() else { return };
        let report = Report { ssrc, sender: None, block: None, cname: &self.cname, metrics: None };
        let mut bytes = [0; COMPOUND_BYTES_MAX];
        let length = report.write_goodbye(&mut bytes);
        send_rtcp(&mut self.protection, way, written(&bytes, length), out);
    }

    /// Whether the peer is told how well we hear it (RFC 3611).
    fn tells_metrics(&self) -> bool {
        match self.rules.voip_metrics {
            VoipMetricsRule::Never => false,
            VoipMetricsRule::Asked => self.plan.as_ref().is_some_and(|plan| plan.metrics_asked),
            VoipMetricsRule::Always => true,
        }
    }

    /// Where RTCP goes: where it was signalled; for a source that was learned from where its reports come, or beside its media.
    fn report_way_out(&self) -> Option<(Port, SocketAddr)> {
        let plan = self.plan.as_ref().filter(|_| self.started)?;
        let media = self.source.destination()?;
        if plan.rtcp_mux {
            return Some((Port::Rtp, media));
        }
        if Some(media) == plan.remote {
            return plan.remote_rtcp.map(|to| (Port::Rtcp, to));
        }
        // A NAT need not give RTCP the next port; from where reports of that host come, they go (RFC 4961).
        if let Some(from) = self.reports_from.filter(|from| from.ip() == media.ip()) {
            return Some((Port::Rtcp, from));
        }
        let beside = media.port().checked_add(1)?;
        Some((Port::Rtcp, SocketAddr::new(media.ip(), beside)))
    }
}

/// Sends reports, encrypted where that was agreed. Those that cannot be are not sent.
fn send_rtcp(
    protection: &mut Protection,
    (port, to): (Port, SocketAddr),
    written: &[u8],
    out: &mut TickOutput,
) {
    if let Ok(bytes) = protection.send(Layer::Rtcp, written)
        && !written.is_empty()
    {
        out.transmit(port, to, &bytes);
    }
}
