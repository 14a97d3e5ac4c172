//! Somebody between the switch and a bot, who passes everything on and finds out in which tick the switch read a
//! `clear` of the bot. The switch writes one frame of the caller for each tick, so frames count its ticks; a mark that
//! it gives back stands between two of them.

use crate::line::Sound;
use crate::line::TONE_HZ;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::f32::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tandem::audio::g711;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

/// Comes back when the switch reads the clear behind it: a clear gives all marks back at once.
const READ: &str = "between-read";
/// Comes back in the tick that plays the last of the tone and of the silence behind it.
const END: &str = "between-end";
const FRAME: usize = 160;
const TONE_FRAMES: usize = 20;
const SILENT_FRAMES: usize = 5;

/// What the switch did with a clear, in frames that it had written until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cleared {
    /// When it had read the clear.
    read: u32,
    /// Before the frame of the tick in which it had played the tone, and the silence behind it.
    end: u32,
}

impl Cleared {
    /// How many ticks after the one in which the clear was read had words of the bot in them. `heard` is what the
    /// caller heard, by the time stamps of the packets.
    ///
    /// # Panics
    ///
    /// When the tone was not heard.
    pub(crate) fn ticks_with_words(self, heard: &[(u32, Sound)]) -> i64 {
        let is_tone = |part: &[(u32, Sound)]| part.iter().all(|(_, sound)| *sound == Sound::Tone);
        let at = heard.windows(TONE_FRAMES - 2).position(is_tone).expect("the tone is heard");
        let (first, rest) = heard.split_at(at);
        let tone = rest.iter().take_while(|(_, sound)| *sound == Sound::Tone).last();
        let (tone, _) = tone.expect("it has an end");
        let words = first.iter().rfind(|(_, sound)| *sound == Sound::Words);
        let (words, _) = words.expect("the bot was heard before");
        // The packet of a tick leaves in it, and so does the frame that is written next.
        let between = i64::from(tone.wrapping_sub(*words) / FRAME as u32);
        let last = i64::from(self.end) + 1 - SILENT_FRAMES as i64 - between;
        last - i64::from(self.read)
    }
}

/// Who stands between.
pub(crate) struct Between {
    pub(crate) url: String,
    armed: Arc<AtomicBool>,
    cleared: Option<oneshot::Receiver<Cleared>>,
}

impl Between {
    /// Takes one stream of the switch and passes it on to the bot at `bot`.
    pub(crate) async fn stand(bot: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let (armed, (tell, cleared)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
        let (bot, is_armed) = (bot.to_owned(), Arc::clone(&armed));
        tokio::spawn(async move {
            let (switch, _) = listener.accept().await.unwrap();
            let switch = accept_async(switch).await.unwrap();
            let host = bot.trim_start_matches("ws://").trim_end_matches('/');
            let stream = TcpStream::connect(host).await.unwrap();
            let (bot, _) = client_async(&bot, stream).await.unwrap();
            let passing = Passing { switch, bot, frames: 0, read: 0, tell: Some(tell) };
            passing.on(&is_armed).await;
        });
        Self { url, armed, cleared: Some(cleared) }
    }

    /// The next clear is the one that matters.
    pub(crate) fn watch(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// What the switch did with it.
    pub(crate) async fn cleared(&mut self) -> Cleared {
        self.cleared.take().expect("asked once").await.expect("the stream goes on")
    }
}

struct Passing {
    switch: WebSocketStream<TcpStream>,
    bot: WebSocketStream<TcpStream>,
    frames: u32,
    read: u32,
    tell: Option<oneshot::Sender<Cleared>>,
}

impl Passing {
    /// Passes everything on until one side has gone.
    async fn on(mut self, armed: &AtomicBool) {
        loop {
            tokio::select! {
                said = self.switch.next() => {
                    let Some(Ok(message)) = said else { break };
                    if self.of_switch(&message).await && self.bot.send(message).await.is_err() {
                        break;
                    }
                }
                said = self.bot.next() => {
                    let Some(Ok(message)) = said else { break };
                    if event(&message)["event"] == "clear" && armed.swap(false, Ordering::Relaxed) {
                        let mark = json!({"event": "mark", "mark": {"name": READ}});
                        self.switch.feed(Message::text(mark.to_string())).await.unwrap();
                    }
                    if self.switch.send(message).await.is_err() {
                        break;
                    }
                }
            }
        }
        drop((self.switch.close(None).await, self.bot.close(None).await));
    }

    /// Looks at what the switch says; whether it is for the bot.
    async fn of_switch(&mut self, message: &Message) -> bool {
        let event = event(message);
        self.frames += u32::from(event["event"] == "media");
        match event["mark"]["name"].as_str() {
            Some(READ) => {
                self.read = self.frames;
                self.switch.feed(Message::text(tone().to_string())).await.unwrap();
                let mark = json!({"event": "mark", "mark": {"name": END}});
                self.switch.send(Message::text(mark.to_string())).await.unwrap();
                false
            }
            Some(END) => {
                let cleared = Cleared { read: self.read, end: self.frames };
                if let Some(tell) = self.tell.take() {
                    assert!(tell.send(cleared).is_ok(), "it is waited for");
                }
                false
            }
            Some(_) | None => !(message.is_ping() || message.is_pong()),
        }
    }
}

fn event(message: &Message) -> Value {
    message.to_text().ok().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The tone, with some silence behind it.
fn tone() -> Value {
    let sample = |n: usize| (TAU * f32::from(TONE_HZ) * n as f32 / 8_000.0).sin() * 8_000.0;
    let mut audio: Vec<u8> =
        (0..TONE_FRAMES * FRAME).map(|n| g711::ulaw_encode(sample(n) as i16)).collect();
    audio.resize(audio.len() + SILENT_FRAMES * FRAME, 0xff);
    json!({"event": "media", "media": {"payload": STANDARD.encode(audio)}})
}
