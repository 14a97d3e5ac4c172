//! A bot for load tests: answers each 20 ms of a caller with 20 ms of tone, over Twilio Media Streams, at as little
//! cost as it can be done. Every five seconds it says how many streams there are and how evenly they come.
//!
//! `cargo run --release --example media_streams_bot -- [127.0.0.1:8765]`; recipe in `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a report")]
#![expect(clippy::disallowed_methods, reason = "a load generator has its own clock")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use futures_util::StreamExt;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use tandem::audio::g711;
use tandem::audio::tone::Tone;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::task::spawn_local;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const USUAL_ADDRESS: &str = "127.0.0.1:8765";
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Gaps between two frames of a stream are counted by the millisecond up to here.
const GAPS_MS: usize = 500;
/// Where the system says how long this thread has run, in ns.
const PROCESSOR_TIME: &str = "/proc/thread-self/schedstat";

/// What is reported.
struct Figures {
    streams: usize,
    frames: u64,
    /// How often frames came so many ms after the one before.
    gaps: Vec<u64>,
}

impl Figures {
    /// A frame came, so long after the one before.
    fn came(&mut self, gap: Option<Duration>) {
        self.frames += 1;
        let Some(gap) = gap else { return };
        let ms = usize::try_from(gap.as_millis()).unwrap_or(GAPS_MS);
        if let Some(count) = self.gaps.get_mut(ms.min(GAPS_MS)) {
            *count += 1;
        }
    }

    /// What this share of all gaps does not exceed, in ms.
    fn gap(&self, share: f64) -> usize {
        let all: u64 = self.gaps.iter().sum();
        let due = ((all as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        let reached = self.gaps.iter().position(|count| {
            sum += count;
            sum >= due
        });
        reached.unwrap_or_default()
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| USUAL_ADDRESS.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(serve(address)))
}

async fn serve(address: String) -> io::Result<()> {
    let listener = TcpListener::bind(&address).await?;
    println!("listening at ws://{}/", listener.local_addr()?);
    let figures = Figures { streams: 0, frames: 0, gaps: vec![0; GAPS_MS + 1] };
    let figures = Rc::new(RefCell::new(figures));
    spawn_local(report(Rc::clone(&figures)));
    let frame = Tone::new(440, 5_000).frame().map(g711::ulaw_encode);
    let payload: Rc<str> = STANDARD.encode(frame).into();
    loop {
        let (socket, _) = listener.accept().await?;
        let (figures, payload) = (Rc::clone(&figures), Rc::clone(&payload));
        spawn_local(async move {
            figures.borrow_mut().streams += 1;
            // One that breaks off is over, too.
            drop(converse(socket, &figures, &payload).await);
            figures.borrow_mut().streams -= 1;
        });
    }
}

async fn converse(
    socket: TcpStream,
    figures: &RefCell<Figures>,
    payload: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    socket.set_nodelay(true)?;
    let small = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    let mut stream = accept_async_with_config(socket, Some(small)).await?;
    let mut answer = None;
    let mut last: Option<Instant> = None;
    while let Some(message) = stream.next().await {
        let Message::Text(text) = message? else { continue };
        if text.starts_with("{\"event\":\"media\"") {
            let now = Instant::now();
            figures.borrow_mut().came(last.replace(now).map(|last| now - last));
            if let Some(answer) = &answer {
                stream.send(Message::Text(Utf8Bytes::clone(answer))).await?;
            }
        } else if text.starts_with("{\"event\":\"start\"") {
            let start: serde_json::Value = serde_json::from_str(&text)?;
            let sid = &start["streamSid"];
            let media = format!(
                "{{\"event\":\"media\",\"streamSid\":{sid},\"media\":{{\"payload\":\"{payload}\"}}}}"
            );
            answer = Some(Utf8Bytes::from(media));
        }
    }
    Ok(())
}

/// How long this thread has run.
fn processor_time() -> Duration {
    let text = fs::read_to_string(PROCESSOR_TIME).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

async fn report(figures: Rc<RefCell<Figures>>) {
    let mut before = processor_time();
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let spent = processor_time();
        let mut figures = figures.borrow_mut();
        let (half, most, nearly) = (figures.gap(0.5), figures.gap(0.99), figures.gap(0.999));
        let (frames, used) = (figures.frames, spent.saturating_sub(before));
        match used.as_nanos().checked_div(u128::from(frames)) {
            Some(each) => println!(
                "{} streams, {} frames/s, gaps p50 {half} ms, p99 {most} ms, p99.9 {nearly} ms, {each} ns a frame",
                figures.streams,
                frames / REPORT_EVERY.as_secs(),
            ),
            None => println!("{} streams, no frames", figures.streams),
        }
        figures.frames = 0;
        figures.gaps.fill(0);
        before = spent;
    }
}
