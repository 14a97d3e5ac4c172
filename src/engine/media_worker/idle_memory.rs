//! Memory of a thread that was lent and is nobody's any more, models of voices and rooms for packets: it goes back to the
//! system, some of it each second.

use crate::engine::media_worker::MediaThread;
use crate::engine::os;
use std::time::Duration;

/// Between two looks. Who makes a pause is likely to have spoken again within one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Models of which the memory is given back at once: some microseconds each for a thread that has ticks to run.
const MODELS_AT_ONCE_MAX: usize = 8;

/// The same of sheets of rooms for packets, of which each is half as much.
const SHEETS_AT_ONCE_MAX: usize = 16;

impl MediaThread {
    /// Unmakes some of what nobody has, once in a while: models, the last ones first, for each is lent before those behind it;
    /// and sheets, from which the packets were drawn in before.
    pub(super) fn return_idle(&mut self) {
        if self.desk.now < self.idle_looked_at + LOOK_EVERY {
            return;
        }
        self.idle_looked_at = self.desk.now;
        for _ in 0..MODELS_AT_ONCE_MAX {
            let Some(room) = self.desk.out.models().unmake_last() else { break };
            os::return_pages(room);
        }
        let payloads = self.desk.out.payloads();
        for _ in 0..SHEETS_AT_ONCE_MAX {
            let Some(room) = payloads.unmake_last() else { break };
            os::return_pages(room);
        }
        payloads.draw_in(SHEETS_AT_ONCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media_worker::Worker;
    use crate::rtp::jitter::Content;
    use crate::rtp::jitter::JitterBuffer;
    use crate::rtp::jitter::JitterConfig;
    use crate::rtp::packet::RtpPacket;
    use crate::types::codec::Codec;
    use crate::types::moment::Moment;
    use std::sync::Arc;

    #[test]
    fn models_that_nobody_has_are_unmade_some_a_second_and_those_before_one_that_is_lent_are_not() {
        let mut thread = MediaThread::new(Arc::new(Worker::new(0)));
        let mut lent: Vec<_> = (0..20).filter_map(|_| thread.desk.out.models().lend()).collect();
        assert_eq!(lent.len(), 20);
        let kept = lent.remove(3);
        lent.into_iter().for_each(|model| thread.desk.out.models().take_back(model));
        let mut made = Vec::new();
        for _ in 0..5 {
            // Many times a second.
            thread.desk.now += LOOK_EVERY / 2;
            thread.return_idle();
            thread.desk.now += LOOK_EVERY / 2;
            thread.return_idle();
            thread.return_idle();
            made.push(thread.desk.out.models().made());
        }
        assert_eq!(made, [12, 4, 4, 4, 4]);
        thread.desk.out.models().take_back(kept);
        thread.desk.now += LOOK_EVERY;
        thread.return_idle();
        assert_eq!(thread.desk.out.models().made(), 0);
    }

    #[test]
    fn rooms_that_no_packet_is_in_go_back_some_a_second_and_those_that_are_used_stay() {
        let mut thread = MediaThread::new(Arc::new(Worker::new(0)));
        let config = JitterConfig { depth_ms: 40, codec: Codec::Pcmu };
        let mut buffers: Vec<_> = (0..400).map(|_| JitterBuffer::new(config)).collect();
        let packet = RtpPacket {
            marker: false,
            payload_type: Codec::Pcmu.payload_type(),
            sequence: 1,
            timestamp: 0,
            ssrc: 1,
            payload: &[9; 160],
        };
        let payloads = thread.desk.out.payloads();
        for buffer in &mut buffers {
            buffer.push(Moment::START, &packet, Content::Audio, payloads);
        }
        assert_eq!((payloads.lent(), payloads.made()), (400, 20));
        for buffer in buffers.iter_mut().skip(1) {
            buffer.let_go(payloads);
        }
        let mut made = Vec::new();
        for _ in 0..4 {
            thread.desk.now += LOOK_EVERY;
            thread.return_idle();
            thread.return_idle();
            made.push(thread.desk.out.payloads().made());
        }
        assert_eq!((made, thread.desk.out.payloads().lent()), (vec![20, 4, 2, 2], 1));
    }
}
