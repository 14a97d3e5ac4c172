//! A caller's telephone that speaks and listens all the time, whatever else this machine does.

use crate::phone::media::ThreadMedia;
use crate::rtp::audio;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::tone::share_at;
use tandem::clock;
use tandem::engine::wav;
use tandem::types::moment::Moment;
use tokio::process::Command;

const FRAME: usize = 160;
const PACKET: Duration = Duration::from_millis(20);
/// A packet with a sample louder than this has somebody's words, or a tone, in it.
const LOUD: i16 = 1_000;
/// What is taken for a tone and not for words, in Hz: nobody speaks like that.
pub(crate) const TONE_HZ: u16 = 1_900;

/// What a packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    Silence,
    Words,
    Tone,
}

/// What was said and heard over a telephone.
#[derive(Default)]
struct Spoken {
    to_say: Mutex<VecDeque<[u8; FRAME]>>,
    /// What came, by its RTP time stamp.
    heard: Mutex<Vec<(u32, Sound)>>,
    over: AtomicBool,
}

/// A telephone's media. It has a thread of its own, and the processor before all others where that is allowed: a
/// telephone is another machine, which this one's load never keeps from sending.
pub(crate) struct Line(Arc<Spoken>, Option<JoinHandle<()>>);

impl Line {
    pub(crate) fn open(socket: ThreadMedia, to: SocketAddr) -> Self {
        let spoken = Arc::new(Spoken::default());
        let shared = Arc::clone(&spoken);
        let thread = std::thread::spawn(move || {
            come_first();
            let mut beat = Beat::new(socket, to);
            while !shared.over.load(Ordering::Relaxed) {
                let said = shared.to_say.lock().unwrap().pop_front().unwrap_or([0xff; FRAME]);
                beat.say(&said);
                beat.hear(|heard| shared.heard.lock().unwrap().push(heard));
            }
        });
        Self(spoken, Some(thread))
    }

    /// Packets with the other side's words so far.
    pub(crate) fn loud(&self) -> usize {
        self.0.heard.lock().unwrap().iter().filter(|(_, sound)| *sound == Sound::Words).count()
    }

    /// All that came, by its RTP time stamp.
    pub(crate) fn heard(&self) -> Vec<(u32, Sound)> {
        self.0.heard.lock().unwrap().clone()
    }

    /// Speaks a sentence.
    pub(crate) async fn say(&self, folder: &Path, text: &str) {
        let path = folder.join("sentence.wav");
        let mut command = Command::new("flite");
        let status = command.args(["-voice", "slt", "-t", text, "-o"]).arg(&path).status().await;
        assert!(status.expect("flite is installed: scripts/setup test").success(), "{text}");
        let samples = wav::read(&path).unwrap();
        let frames = samples.chunks_exact(FRAME).map(|chunk| {
            let mut frame = [0xff; FRAME];
            for (byte, sample) in frame.iter_mut().zip(chunk) {
                *byte = g711::ulaw_encode(*sample);
            }
            frame
        });
        self.0.to_say.lock().unwrap().extend(frames);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        // A packet that breaks the rules fails the test, though it was read here.
        if let Some(Err(wrong)) = self.1.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(wrong);
        }
    }
}

/// Lets this thread run before all that are not as urgent. Where that is forbidden it runs as the others do.
fn come_first() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let mut command = std::process::Command::new("chrt");
    command.args(["--fifo", "--pid", "1"]).arg(thread.file_name().unwrap());
    drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
}

/// Sends a packet of 20 ms when it is due, counted from the first.
struct Beat {
    socket: ThreadMedia,
    to: SocketAddr,
    began: Moment,
    packets: u32,
}

impl Beat {
    fn new(socket: ThreadMedia, to: SocketAddr) -> Self {
        Self { socket, to, began: clock::now(), packets: 0 }
    }

    fn say(&mut self, said: &[u8; FRAME]) {
        let mut packet = vec![0x80, 0];
        packet.extend((self.packets as u16).to_be_bytes());
        packet.extend((self.packets * 160).to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend(said);
        drop(self.socket.send_to(&packet, self.to));
        self.packets += 1;
    }

    /// Takes what comes until the next packet is due.
    fn hear(&self, mut heard: impl FnMut((u32, Sound))) {
        let due = self.began + PACKET * self.packets;
        loop {
            let left = due.since(clock::now());
            if left < Duration::from_millis(1) {
                return std::thread::sleep(left);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 2_048];
            let Ok((length, _)) = self.socket.recv_from(&mut buffer) else { continue };
            let timestamp = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
            heard((timestamp, sound(audio(&buffer[..length]))));
        }
    }
}

fn sound(ulaw: &[u8]) -> Sound {
    let linear: Vec<i16> = ulaw.iter().map(|byte| g711::ulaw_decode(*byte)).collect();
    if linear.iter().all(|sample| sample.abs() <= LOUD) {
        Sound::Silence
    } else if share_at(&linear, TONE_HZ) > 0.9 {
        Sound::Tone
    } else {
        Sound::Words
    }
}
