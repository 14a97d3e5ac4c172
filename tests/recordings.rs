//! Recordings of the built program: what left on the wire is what is recorded, whatever happens to disk and
//! process.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

#[path = "support/http.rs"]
mod http;
#[path = "support/phone.rs"]
mod phone;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/python.rs"]
mod python;
#[path = "support/switch.rs"]
mod switch;

use crate::http::Answer;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::phone::media::Media;
use crate::postgres::Scratch;
use crate::switch::Options;
use crate::switch::Switch;
use futures_util::FutureExt;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tandem::audio::g711;
use tandem::rtp::packet::RtpPacket;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::demo;
use tandem::types::codec::Codec;
use tandem::types::codec::Law;
use tokio::net::UdpSocket;
use tokio::time::interval;
use tokio::time::timeout;

const ECHO: &str = "+15550101";
const FRAME: usize = 160;
const POLL: Duration = Duration::from_millis(20);
/// Of recordings, in base64.
const KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// A switch whose recordings are in a folder of their own, encrypted or not.
struct Recorded {
    switch: Switch,
    key: String,
    folder: Scratch,
}

/// A telephone that talks and keeps what it hears.
struct Talking {
    phone: Phone,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Talking {
    fn drop(&mut self) {
        for task in &mut self.tasks {
            task.abort();
            // A packet that breaks the rules fails the test, though a task read it.
            if let Some(Err(ended)) = task.now_or_never()
                && !std::thread::panicking()
                && let Ok(wrong) = ended.try_into_panic()
            {
                std::panic::resume_unwind(wrong);
            }
        }
    }
}

/// Sound in which no two seconds are alike.
fn payload(packet: usize) -> Vec<u8> {
    (packet * FRAME..(packet + 1) * FRAME).map(|n| (n * 7 + n / 251) as u8 & 0x7f).collect()
}

/// A voice of tones, each fifth of a second another, with pauses.
fn song(packet: usize) -> Vec<u8> {
    let hz = [300.0, 520.0, 410.0, 0.0, 700.0, 350.0, 0.0, 610.0][packet / 10 % 8];
    let time = |at: usize| (packet * FRAME + at) as f32 / 8_000.0;
    let sample = |at: usize| (6_000.0 * (time(at) * hz * std::f32::consts::TAU).sin()) as i16;
    let linear: Vec<i16> = (0..FRAME).map(sample).collect();
    let mut ulaw = vec![0; FRAME];
    g711::encode(Law::Mu, &linear, &mut ulaw);
    ulaw
}

async fn talk(media: &UdpSocket, to: SocketAddr, payload: fn(usize) -> Vec<u8>) {
    let mut beat = interval(Duration::from_millis(20));
    for number in 0..100_000_usize {
        beat.tick().await;
        let payload = payload(number);
        let packet = RtpPacket {
            marker: false,
            payload_type: Codec::Pcmu.payload_type(),
            sequence: number as u16,
            timestamp: (number * FRAME) as u32,
            ssrc: 0x5ec0,
            payload: &payload,
        };
        let mut bytes = vec![0; 12 + FRAME];
        packet.write(&mut bytes).unwrap();
        drop(media.send_to(&bytes, to).await);
    }
}

impl Talking {
    async fn call(switch: &Switch) -> Self {
        Self::saying(switch, payload).await
    }

    async fn saying(switch: &Switch, payload: fn(usize) -> Vec<u8>) -> Self {
        let mut phone = Phone::new(switch.caller(2), switch.udp, ECHO).await;
        let answer: Heard = phone.call("").await;
        let to = SocketAddr::new(switch.udp.ip(), answer.audio_port());
        let bound = UdpSocket::bind((switch.caller(2), 0)).await.unwrap();
        let media = Arc::new(std::mem::replace(&mut phone.media, Media::new(bound)));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (listening, keeping) = (Arc::clone(&media), Arc::clone(&heard));
        let listens = tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, _)) = listening.recv_from(&mut buffer).await {
                keeping.lock().unwrap().push(buffer[..length].to_vec());
            }
        });
        let talks = tokio::spawn(async move { talk(&media, to, payload).await });
        Self { phone, heard, tasks: vec![listens, talks] }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// Waits until so many packets more were heard.
    async fn hears(&self, more: usize) {
        let enough = self.count() + more;
        let heard = async {
            while self.count() < enough {
                tokio::time::sleep(POLL).await;
            }
        };
        assert!(timeout(PATIENCE * 3, heard).await.is_ok(), "{} of {enough}", self.count());
    }

    /// What was heard by time stamps, from the first packet's on; `None` where nothing came.
    fn wire(&self) -> Vec<Option<i16>> {
        let heard = self.heard.lock().unwrap();
        let mut wire = Vec::new();
        let mut first = None;
        for bytes in heard.iter() {
            let Ok(packet) = RtpPacket::parse(bytes) else { continue };
            let at = packet.timestamp.wrapping_sub(*first.get_or_insert(packet.timestamp)) as usize;
            let mut decoded = vec![0; packet.payload.len()];
            g711::decode(Law::Mu, packet.payload, &mut decoded);
            wire.resize(wire.len().max(at + decoded.len()), None);
            for (to, sample) in wire[at..].iter_mut().zip(decoded) {
                *to = Some(sample);
            }
        }
        wire
    }
}

impl Recorded {
    async fn start(is_encrypted: bool) -> Self {
        let folder = Scratch::new();
        let file = folder.path().join("key");
        std::fs::write(&file, KEY).unwrap();
        let dir = folder.path().join("recordings");
        let key_ref = if is_encrypted { format!("file:{}", file.display()) } else { String::new() };
        let more = format!("[recordings]\ndir = '{}'\nkey_ref = '{key_ref}'\n", dir.display());
        let options = Options { more: Box::leak(more.into_boxed_str()), ..Options::default() };
        let switch = Switch::start_with(options).await;
        let key = key_of(&switch, KeyRole::Admin).await;
        Self { switch, key, folder }
    }

    async fn send_as(&self, key: &str, (method, path): (&str, &str), range: &str) -> Answer {
        let path = format!("/api/v1/tenants/{}/{path}", demo::TENANT);
        let mut headers = vec![("x-api-key", key.to_owned())];
        if !range.is_empty() {
            headers.push(("range", range.to_owned()));
        }
        http::request(self.switch.http, method, &path, &headers).await
    }

    async fn send(&self, method: &str, path: &str) -> Answer {
        self.send_as(&self.key, (method, path), "").await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// The only call there is.
    async fn call(&self) -> String {
        self.switch.wait_for_count("SELECT count(*) FROM calls", 1).await;
        self.switch.text("SELECT id::text FROM calls").await
    }

    async fn order(&self, call: &str, order: &str) -> Answer {
        self.send("POST", &format!("calls/{call}/record/{order}")).await
    }

    /// Such an order makes no sense at this moment, for this reason.
    async fn refuses(&self, call: &str, order: &str, code: &str) {
        let answer = self.order(call, order).await;
        assert_eq!((answer.status, &answer.json()["code"]), (409, &Value::from(code)), "{order}");
    }

    async fn status(&self, status: &str) -> Value {
        let count = format!("SELECT count(*) FROM recordings WHERE status = '{status}'");
        self.switch.wait_for_count(&count, 1).await;
        self.get("recordings").await["recordings"][0].clone()
    }

    async fn wav(&self, id: &str) -> Answer {
        let answer = self.send("GET", &format!("recordings/{id}/audio")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// Bytes of all files with this ending.
    fn bytes_on_disk(&self, suffix: &str) -> u64 {
        let tenant = self.folder.path().join(format!("recordings/{}", demo::TENANT));
        let files = std::fs::read_dir(tenant).into_iter().flatten().flatten();
        let files = files.filter(|file| file.path().extension().is_some_and(|own| own == suffix));
        files.map(|file| file.metadata().map_or(0, |about| about.len())).sum()
    }
}

async fn key_of(switch: &Switch, role: KeyRole) -> String {
    let scope = KeyScope::Tenant(demo::TENANT);
    let made = api_keys::create(&switch.database, scope, role, "", None).await.unwrap();
    made.key.expose().clone()
}

/// Left and right of a WAV.
fn channels(wav: &[u8]) -> (Vec<i16>, Vec<i16>) {
    let reader = hound::WavReader::new(wav).unwrap();
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 8_000));
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    let channel = |at: usize| samples.iter().copied().skip(at).step_by(2).collect();
    (channel(0), channel(1))
}

/// Where in what was heard the recording began: the place at which most of it fits.
fn begin_of(right: &[i16], wire: &[Option<i16>]) -> usize {
    let fits = |at: usize| {
        let pairs = right.iter().zip(&wire[at..]).step_by(7);
        pairs.filter(|(own, heard)| **own != 0 && Some(**own) == **heard).count()
    };
    (0..wire.len()).step_by(80).max_by_key(|at| fits(*at)).unwrap()
}

/// A part of a recording can be fetched, by who may hear it alone.
async fn is_heard_in_part_by_who_may(node: &Recorded, id: &str, whole: &[u8]) {
    let audio = format!("recordings/{id}/audio");
    let operator = key_of(&node.switch, KeyRole::Operator).await;
    let part = node.send_as(&operator, ("GET", &audio), "bytes=1000-1999").await;
    assert_eq!((part.status, part.bytes.as_slice()), (206, &whole[1_000..2_000]));
    let range = format!("bytes 1000-1999/{}", whole.len());
    assert_eq!(part.header("content-range"), Some(&*range));
    let beyond = node.send_as(&operator, ("GET", &audio), "bytes=99999999-").await;
    assert_eq!((beyond.status, &beyond.json()["code"]), (416, &Value::from("no_such_part")));
    assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{}", whole.len())));
    let viewer = key_of(&node.switch, KeyRole::Viewer).await;
    assert_eq!(node.send_as(&viewer, ("GET", &audio), "").await.status, 403);
    assert_eq!(node.send_as(&viewer, ("GET", "recordings"), "").await.status, 200);
    assert_eq!(
        node.send_as(&operator, ("DELETE", &format!("recordings/{id}")), "").await.status,
        403
    );
}

#[tokio::test]
async fn what_left_is_recorded_sample_for_sample_and_fetched_whole_or_in_part() {
    let node = Recorded::start(false).await;
    let mut talking = Talking::call(&node.switch).await;
    let call = node.call().await;
    talking.hears(25).await;
    assert_eq!(node.order(&call, "pause").await.json()["code"], "not_recording");
    let begun = node.order(&call, "start").await;
    assert_eq!((begun.status, &begun.json()["recording"]), (200, &Value::from("running")));
    let id = begun.json()["recording_id"].as_str().unwrap().to_owned();
    assert_eq!(node.order(&call, "start").await.json()["code"], "already_recording");
    talking.hears(150).await;
    assert_eq!(node.order(&call, "pause").await.json()["recording"], "paused");
    node.refuses(&call, "pause", "recording_paused").await;
    talking.hears(50).await;
    let early = node.send("GET", &format!("recordings/{id}/audio")).await;
    assert_eq!(early.status, 409, "{}", early.body);
    assert_eq!(node.send("DELETE", &format!("recordings/{id}")).await.status, 409);
    assert_eq!(node.order(&call, "resume").await.json()["recording"], "running");
    node.refuses(&call, "resume", "recording_not_paused").await;
    talking.hears(100).await;
    let stopped = node.order(&call, "stop").await.json();
    assert_eq!((&stopped["recording"], &stopped["recording_id"]), (&"off".into(), &Value::Null));
    node.refuses(&call, "resume", "not_recording").await;
    let row = node.status("ready").await;
    assert_eq!((row["id"].as_str(), row["call_id"].as_str()), (Some(&*id), Some(&*call)));
    talking.phone.hang_up().await;

    let whole = node.wav(&id).await;
    assert_eq!(whole.header("content-type"), Some("audio/wav"));
    let (left, right) = channels(&whole.bytes);
    assert_eq!(row["data_bytes"].as_u64().unwrap() as usize, whole.bytes.len() - 44);
    let marks: Vec<_> = row["markers"].as_array().unwrap().iter().collect();
    let [from, until] = ["paused", "resumed"].map(|what| {
        let mark = marks.iter().find(|mark| mark["what"] == what).unwrap();
        mark["at_ms"].as_u64().unwrap() as usize * 8
    });
    // A machine that did much else leaves gaps, and says so.
    let number = |mark: &Value, name: &str| mark[name].as_u64().unwrap() as usize * 8;
    let gaps: Vec<_> = marks
        .iter()
        .filter(|mark| mark["what"] == "gap")
        .map(|mark| number(mark, "at_ms")..number(mark, "at_ms") + number(mark, "for_ms") + 8)
        .collect();
    let wire = talking.wire();
    let begin = begin_of(&right, &wire);
    let (mut compared, mut different) = (0, 0);
    for (at, (own, heard)) in right.iter().zip(&wire[begin..]).enumerate() {
        if (from..until).contains(&at) {
            assert_eq!(*own, 0, "it was paused");
        } else if let Some(heard) = heard
            && !gaps.iter().any(|gap| gap.contains(&at))
        {
            (compared, different) = (compared + 1, different + usize::from(own != heard));
        }
    }
    assert!(compared > 20_000, "{compared} samples of {}", right.len());
    assert_eq!(different, 0, "of {compared} samples that were heard");
    assert!(left[from..until].iter().all(|sample| *sample == 0), "it was paused");
    assert!(left.iter().filter(|sample| **sample != 0).count() > 10_000, "the caller is heard");

    is_heard_in_part_by_who_may(&node, &id, &whole.bytes).await;

    // What happened is told.
    node.switch.wait_for_count("SELECT count(*) FROM calls WHERE ended_at IS NOT NULL", 1).await;
    let shown = node.get(&format!("calls/{call}")).await;
    let named = |event: &Value| event["name"].as_str().unwrap().to_owned();
    let events: Vec<_> = shown["events"].as_array().unwrap().iter().map(named).collect();
    let told: Vec<_> = events.iter().filter_map(|name| name.strip_prefix("recording_")).collect();
    assert_eq!(told, ["started", "paused", "resumed", "stopped", "ready"]);
    assert!(node.switch.metric("recordings_total{status=\"ready\"}").await == 1.0);

    assert_eq!(node.send("DELETE", &format!("recordings/{id}")).await.status, 204);
    assert_eq!(node.send("GET", &format!("recordings/{id}/audio")).await.status, 404);
    assert_eq!(node.bytes_on_disk("wav"), 0);
}

/// What FFmpeg makes of a file: left and right.
async fn decoded(node: &Recorded, bytes: &[u8], suffix: &str) -> [Vec<i16>; 2] {
    let file = node.folder.path().join(format!("fetched.{suffix}"));
    std::fs::write(&file, bytes).unwrap();
    let mut command = python::program("python");
    command.arg(python::script("decode_audio.py")).arg(&file).arg("8000");
    let output = timeout(PATIENCE * 3, command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pairs: Vec<i16> =
        output.stdout.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
    [0, 1].map(|channel| pairs.iter().copied().skip(channel).step_by(2).collect())
}

/// How alike two signals are when the second comes so many samples later, -1 to 1.
fn alike(one: &[i16], two: &[i16], later: usize) -> f64 {
    let sum = |pairs: &mut dyn Iterator<Item = (i16, i16)>| -> f64 {
        pairs.map(|(one, two)| f64::from(one) * f64::from(two)).sum()
    };
    let two = &two[later.min(two.len())..];
    let one = &one[..one.len().min(two.len())];
    let both = sum(&mut one.iter().copied().zip(two.iter().copied()));
    let of_one = sum(&mut one.iter().map(|s| (*s, *s)));
    let of_two = sum(&mut two[..one.len()].iter().map(|s| (*s, *s)));
    both / (of_one * of_two).sqrt().max(1.0)
}

#[tokio::test]
async fn a_recording_is_fetched_as_opus_or_mp3_in_which_ffmpeg_hears_the_same() {
    let node = Recorded::start(true).await;
    node.switch.change("UPDATE tenants SET record = 'all'").await;
    let mut talking = Talking::saying(&node.switch, song).await;
    talking.hears(200).await;
    talking.phone.hang_up().await;
    let id = node.status("ready").await["id"].as_str().unwrap().to_owned();
    let (left, right) = channels(&node.wav(&id).await.bytes);
    // Opus tells decoders what comes before the first sample; an MP3 begins with what its codec delays.
    for (suffix, kind, delay) in [("ogg", "audio/ogg", 0), ("mp3", "audio/mpeg", 1_105)] {
        let path = format!("recordings/{id}/audio?format={suffix}");
        let fetched = node.send("GET", &path).await;
        assert_eq!((fetched.status, fetched.header("content-type")), (200, Some(kind)));
        let heard = decoded(&node, &fetched.bytes, suffix).await;
        let longer = heard[0].len().checked_sub(left.len()).unwrap();
        assert!(if delay == 0 { longer == 0 } else { longer < 4_000 }, "{longer} samples longer");
        for (own, heard) in [&left, &right].into_iter().zip(&heard) {
            let alike = alike(own, heard, delay);
            assert!(alike > 0.9, "{suffix}: {alike}");
            assert!(self::alike(own, heard, delay + 13) < 0.9, "{suffix}: another place is worse");
        }
    }
    for (asked, blamed) in [("format=flac", Some("format")), ("form=ogg", None)] {
        let refused = node.send("GET", &format!("recordings/{id}/audio?{asked}")).await;
        let why = refused.json();
        assert_eq!((refused.status, why["code"].as_str()), (400, Some("bad_parameter")));
        assert_eq!(why["field"].as_str(), blamed, "{why}");
    }
    // A file that somebody changed is told of, and not heard as something else.
    let tenant = node.folder.path().join(format!("recordings/{}", demo::TENANT));
    for file in std::fs::read_dir(tenant).unwrap() {
        std::fs::write(file.unwrap().path(), [0; 8_192]).unwrap();
    }
    let changed = node.send("GET", &format!("recordings/{id}/audio")).await;
    let code = changed.json()["code"].as_str().map(str::to_owned);
    assert_eq!((changed.status, code.as_deref()), (503, Some("recording_unreadable")));
    assert_eq!(changed.header("retry-after"), None, "it is as it is");
}

#[tokio::test]
async fn a_tenants_calls_are_recorded_from_their_answer_and_a_kill_costs_half_a_second() {
    let mut node = Recorded::start(true).await;
    node.switch.change("UPDATE tenants SET record = 'all'").await;
    let talking = Talking::call(&node.switch).await;
    // Two pieces of half a second.
    let written = async {
        while node.bytes_on_disk("sealed") < 33_000 {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(timeout(PATIENCE * 3, written).await.is_ok(), "{}", node.switch.log());
    node.switch.kill().await;
    drop(talking);
    node.switch.restart().await;
    let row = node.status("interrupted").await;
    let wav = node.wav(row["id"].as_str().unwrap()).await;
    let (left, right) = channels(&wav.bytes);
    assert!(right.len() >= 8_192, "{}", right.len());
    assert!(left.iter().any(|sample| *sample != 0) && right.iter().any(|sample| *sample != 0));
    assert_eq!(row["duration_ms"].as_u64().unwrap() as usize, right.len() / 8);
    assert!(node.switch.metric("recordings_total{status=\"interrupted\"}").await == 1.0);
}

#[tokio::test]
async fn a_full_disk_ends_a_recording_and_no_call() {
    let node = Recorded::start(false).await;
    let mut talking = Talking::call(&node.switch).await;
    let call = node.call().await;
    assert_eq!(node.order(&call, "start").await.status, 200);
    let written = async {
        while node.bytes_on_disk("wav") < 17_000 {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(timeout(PATIENCE * 3, written).await.is_ok(), "{}", node.switch.log());
    limit(&node.switch, "--fsize=20000:");
    let row = node.status("failed").await;
    assert_eq!(row["why"], "disk_full", "{row}");
    // The call goes on, and may be recorded again once there is room.
    talking.hears(50).await;
    let look = node.get(&format!("calls/{call}")).await;
    assert_eq!(look["live"]["recording"], "off", "{look}");
    limit(&node.switch, "--fsize=unlimited:");
    assert_eq!(node.order(&call, "start").await.status, 200);
    talking.hears(50).await;
    talking.phone.hang_up().await;
    node.switch.wait_for_count("SELECT count(*) FROM recordings WHERE status = 'ready'", 1).await;
    let wav = node.wav(row["id"].as_str().unwrap()).await;
    let (_, right) = channels(&wav.bytes);
    let kept = right.len();
    assert!(kept >= 4_096 && kept % 4_096 == 0, "what was written by then is kept: {kept}");
    assert!(node.switch.metric("call_faults_total").await == 0.0, "{}", node.switch.log());
}

#[tokio::test]
async fn what_a_stopped_process_missed_is_a_gap_in_its_place() {
    let node = Recorded::start(false).await;
    let mut talking = Talking::call(&node.switch).await;
    let call = node.call().await;
    assert_eq!(node.order(&call, "start").await.status, 200);
    talking.hears(25).await;
    // Longer than a media thread makes up for.
    signal(&node.switch, "STOP");
    tokio::time::sleep(Duration::from_millis(500)).await;
    signal(&node.switch, "CONT");
    talking.hears(25).await;
    talking.phone.hang_up().await;
    let row = node.status("ready").await;
    let lost = row["lost_ms"].as_u64().unwrap();
    assert!(lost >= 60, "{row}");
    let gaps = row["markers"].as_array().unwrap().iter().filter(|mark| mark["what"] == "gap");
    assert_eq!(gaps.map(|gap| gap["for_ms"].as_u64().unwrap()).sum::<u64>(), lost, "{row}");
    assert!(node.switch.metric("recording_gaps_total").await >= 1.0);
    let wav = node.wav(row["id"].as_str().unwrap()).await;
    let (_, right) = channels(&wav.bytes);
    assert_eq!(row["duration_ms"].as_u64().unwrap() as usize, right.len() / 8);
}

fn signal(switch: &Switch, signal: &str) {
    let process = switch.process().to_string();
    let sent = std::process::Command::new("kill").args(["-s", signal, &process]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

/// Sets a limit of the running switch, as `prlimit` writes it. Only the soft one, so that it can be lifted.
fn limit(switch: &Switch, limit: &str) {
    let process = switch.process().to_string();
    let set = std::process::Command::new("prlimit").args(["--pid", &process, limit]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit is needed (Debian: util-linux)");
}
