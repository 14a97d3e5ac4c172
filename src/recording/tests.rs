//! Recordings as files: written by the threads, read again, and mended after a kill.

use crate::audio::tape::TapeForm;
use crate::audio::tape::TapeIn;
use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeSide;
use crate::clock;
use crate::recording::audio::AudioFile;
use crate::recording::audio::Unreadable;
use crate::recording::keys::RecordingKeys;
use crate::recording::note::EndStatus;
use crate::recording::note::MarkerKind;
use crate::recording::note::Report;
use crate::recording::recorder::Outcome;
use crate::recording::recorder::Recorder;
use crate::recording::sink;
use crate::types::codec::Law;
use crate::types::id::TenantId;
use crate::types::limit::RECORDINGS_MAX;
use crate::types::recording::RecordingFault;
use crate::types::recording::RecordingOf;
use crate::types::secret::Secret;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Far more than anything here takes, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tandem-recordings-{}", clock::new_uuid()));
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn start(&self, keys: &RecordingKeys) -> (Recorder, mpsc::Receiver<Report>) {
        Recorder::start(&self.0, keys.clone()).expect("a recorder")
    }

    fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|own| own == suffix) {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn key(byte: u8) -> Secret<String> {
    Secret::new(STANDARD.encode([byte; 32]))
}

fn keys(bytes: &[u8]) -> RecordingKeys {
    let texts: Vec<_> = bytes.iter().map(|byte| key(*byte)).collect();
    RecordingKeys::new(&texts).expect("keys")
}

fn of() -> RecordingOf {
    RecordingOf {
        id: clock::new_recording_id(),
        call: clock::new_call_id(),
        tenant: TenantId::from_uuid(clock::new_uuid()),
    }
}

fn begin(recorder: &Recorder, of: RecordingOf) -> (Box<TapeIn>, oneshot::Receiver<Outcome>) {
    recorder.begin(of, TapeRate::Narrow).expect("it begins")
}

/// What is said in a tick: on the left its number, on the right the number's opposite.
fn say(tape: &mut TapeIn, tick: i16) {
    let linear = |sample: i16| [sample.to_le_bytes(); 160].concat();
    tape.sound(TapeSide::Heard, 0, TapeForm::Linear, &linear(tick + 1));
    tape.sound(TapeSide::Sent, 0, TapeForm::Linear, &linear(-(tick + 1)));
    tape.pass();
}

/// Says so many ticks, never faster than the recorder reads.
async fn say_all(tape: &mut TapeIn, ticks: std::ops::Range<i16>) {
    for tick in ticks {
        say(tape, tick);
        // A tick is eight items; the tape holds as many as thirty ticks.
        if tick % 16 == 15 {
            tokio::time::timeout(PATIENCE, async {
                while !tape.is_read() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .expect("the recorder reads");
        }
    }
}

fn expected(ticks: std::ops::Range<i16>) -> Vec<u8> {
    let pair = |tick: i16| [(tick + 1).to_le_bytes(), (-(tick + 1)).to_le_bytes()].concat();
    ticks.flat_map(|tick| pair(tick).repeat(160)).collect()
}

fn wav(mut file: AudioFile, from: u64, piece: usize) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; piece]);
    loop {
        match file.read_at(from + all.len() as u64, &mut bytes).expect("readable") {
            0 => return all,
            count => all.extend_from_slice(&bytes[..count]),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn outcome(outcome: oneshot::Receiver<Outcome>) -> Outcome {
    tokio::time::timeout(PATIENCE, outcome).await.expect("in time").expect("told")
}

async fn end_of(news: &mut mpsc::Receiver<Report>, of: RecordingOf) -> Report {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let report = news.recv().await.expect("news");
            if report.birth.of() == of && report.end.is_some() {
                return report;
            }
        }
    })
    .await
    .expect("in time")
}

#[tokio::test]
async fn what_is_on_the_tape_is_in_the_file_and_from_any_place_on() {
    for keys in [RecordingKeys::default(), keys(&[7])] {
        let folder = Folder::new();
        let (recorder, mut news) = folder.start(&keys);
        let of = of();
        let (mut tape, ended) = begin(&recorder, of);
        say_all(&mut tape, 0..240).await;
        assert_eq!(recorder.running(), 1);
        drop(tape);
        assert_eq!(outcome(ended).await, Outcome::Ready { duration_ms: 4_800 });
        let end = end_of(&mut news, of).await.end.expect("an end");
        let data = expected(0..240);
        assert_eq!((end.status, end.data_bytes), (EndStatus::Ready, data.len() as u64));
        assert_eq!((end.sha256, end.lost_ms), (sha256(&data), 0));
        let open = || recorder.open(of.tenant, of.id).expect("a file");
        let whole = wav(open(), 0, 10_000);
        assert_eq!(whole[44..], data);
        let mut reader = hound::WavReader::new(whole.as_slice()).expect("a WAV");
        assert_eq!((reader.spec().channels, reader.len()), (2, 2 * 160 * 240));
        assert_eq!(reader.samples::<i16>().nth(321).expect("there").expect("good"), -2);
        for from in [1, 43, 44, 16_400, 16_428, 60_001] {
            assert_eq!(wav(open(), from as u64, 777), whole[from..], "from {from}");
        }
        let plain = folder.files("wav").len();
        assert_eq!(
            (plain, folder.files("sealed").len()),
            if keys.is_empty() { (1, 0) } else { (0, 1) }
        );
        if let [file] = folder.files("sealed").as_slice() {
            let bytes = std::fs::read(file).expect("the file");
            let said = &data[..64];
            assert!(!bytes.windows(64).any(|window| window == said), "it is encrypted");
        }
        recorder.delete(of.tenant, of.id).expect("deleted");
        assert!(matches!(recorder.open(of.tenant, of.id), Err(Unreadable::Missing)));
        assert!(folder.files("note").is_empty());
    }
}

#[tokio::test]
async fn an_encrypted_file_opens_with_its_key_alone_and_as_it_was_written() {
    let folder = Folder::new();
    let (recorder, mut news) = folder.start(&keys(&[7]));
    let of = of();
    let (mut tape, _ended) = begin(&recorder, of);
    say_all(&mut tape, 0..64).await;
    drop(tape);
    end_of(&mut news, of).await;
    drop(recorder);
    let (other, _news) = folder.start(&keys(&[8]));
    assert!(matches!(other.open(of.tenant, of.id), Err(Unreadable::Key)));
    // A new key seals, the one before opens.
    let (rotated, _news) = folder.start(&keys(&[8, 7]));
    let whole = wav(rotated.open(of.tenant, of.id).expect("it opens"), 0, 4_096);
    assert_eq!(whole[44..], expected(0..64));
    let file = folder.files("sealed").remove(0);
    let bytes = std::fs::read(&file).expect("the file");
    // Wherever it is touched: in its header, its first piece or its last.
    for place in [3, 12, 20, 60, 200, bytes.len() - 1] {
        let mut touched = bytes.clone();
        touched[place] ^= 1;
        std::fs::write(&file, touched).expect("written");
        let read = rotated.open(of.tenant, of.id).and_then(|mut audio| {
            let (mut all, mut piece) = (0, vec![0; 4_096]);
            loop {
                match audio.read_at(44 + all, &mut piece)? {
                    0 => return Ok(()),
                    count => all += count as u64,
                }
            }
        });
        assert!(matches!(read, Err(Unreadable::Key | Unreadable::Changed)), "at {place}: {read:?}");
    }
}

#[tokio::test]
async fn a_file_whose_process_was_killed_is_mended_at_the_next_start() {
    for keys in [RecordingKeys::default(), keys(&[7])] {
        let folder = Folder::new();
        let (killed, _news) = folder.start(&keys);
        let of = of();
        let (mut tape, _ended) = begin(&killed, of);
        say_all(&mut tape, 0..240).await;
        tape.pause(true);
        tape.pass();
        // Its process does not exist any more; the threads of this one do not hold the file from being read.
        let (next, _news) = loop {
            let suffix = if keys.is_empty() { "wav" } else { "sealed" };
            let file = folder.files(suffix).remove(0);
            let note = folder.files("note").remove(0);
            // Six pieces are whole by then.
            let is_written = std::fs::metadata(&file).expect("there").len() > 98_304;
            let is_marked = std::fs::read_to_string(note).expect("a note").contains("paused");
            if is_written && is_marked {
                // What a kill in the middle of a write leaves.
                let mut bytes = std::fs::read(&file).expect("the file");
                bytes.extend_from_slice(&[9; 33]);
                std::fs::write(&file, bytes).expect("written");
                break folder.start(&keys);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let mut reports = Vec::new();
        next.recover(|report| reports.push(report));
        assert_eq!(reports.len(), 1);
        let report = reports.remove(0);
        assert_eq!(report.birth.of(), of);
        let end = report.end.expect("an end");
        assert_eq!((end.status, end.why), (EndStatus::Interrupted, None));
        let whole = wav(next.open(of.tenant, of.id).expect("it opens"), 0, 10_000);
        let data = &whole[44..];
        assert_eq!((data.len() as u64, sha256(data)), (end.data_bytes, end.sha256));
        assert!(data.len() >= 98_304, "{}", data.len());
        let whole_part = data.len().min(expected(0..240).len()) & !3;
        assert_eq!(data[..98_304.min(whole_part)], expected(0..240)[..98_304.min(whole_part)]);
        assert!(hound::WavReader::new(whole.as_slice()).is_ok());
        assert_eq!(end.markers.first().map(|marker| marker.what), Some(MarkerKind::Paused));
        // A second look finds the same, and the note stays until the database has it.
        let (third, _news) = folder.start(&keys);
        let mut again = Vec::new();
        third.recover(|report| again.push(report));
        assert_eq!(again.remove(0).end.expect("an end").status, EndStatus::Interrupted);
        third.forget_note(of.id);
        assert!(folder.files("note").is_empty());
        drop(tape);
    }
}

#[tokio::test]
async fn what_was_told_of_can_be_closed_after_a_kill_at_that_moment() {
    for _ in 0..50 {
        let folder = Folder::new();
        let (recorder, mut news) = folder.start(&keys(&[7]));
        let of = of();
        let (_tape, _outcome) = begin(&recorder, of);
        let born = tokio::time::timeout(PATIENCE, news.recv()).await.expect("in time");
        assert!(born.is_some_and(|report| report.birth.of() == of && report.end.is_none()));
        // What a kill would leave just now.
        let (next, _news) = folder.start(&keys(&[7]));
        let mut reports = Vec::new();
        next.recover(|report| reports.push(report));
        let ends = reports.into_iter().map(|report| report.end.expect("an end").status);
        assert_eq!(ends.collect::<Vec<_>>(), [EndStatus::Interrupted]);
    }
}

#[tokio::test]
async fn a_recording_that_cannot_be_written_fails_and_says_why() {
    let folder = Folder::new();
    let (recorder, mut news) = folder.start(&RecordingKeys::default());
    let of = of();
    // A file is where the tenant's folder should be.
    std::fs::write(folder.0.join(of.tenant.to_string()), "x").expect("written");
    let (mut tape, ended) = begin(&recorder, of);
    let failed = outcome(ended).await;
    assert_eq!(failed, Outcome::Failed("disk_error".to_owned()));
    // Whoever goes on speaking is held up by nothing.
    for tick in 0..400 {
        say(&mut tape, tick);
    }
    let end = end_of(&mut news, of).await.end.expect("an end");
    assert_eq!((end.status, end.why.as_deref()), (EndStatus::Failed, Some("disk_error")));
    assert_eq!(recorder.running(), 0);
}

#[test]
fn a_disk_without_room_is_told_from_one_that_is_broken() {
    for (number, fault) in [
        (nix::errno::Errno::ENOSPC, RecordingFault::DiskFull),
        (nix::errno::Errno::EDQUOT, RecordingFault::DiskFull),
        (nix::errno::Errno::EFBIG, RecordingFault::DiskFull),
        (nix::errno::Errno::EIO, RecordingFault::Disk),
        (nix::errno::Errno::EROFS, RecordingFault::Disk),
    ] {
        assert_eq!(sink::fault_of(&io::Error::from_raw_os_error(number as i32)), fault, "{number}");
    }
}

#[tokio::test]
async fn a_gap_is_silent_and_marked_and_what_follows_is_in_its_place() {
    let folder = Folder::new();
    let (recorder, mut news) = folder.start(&RecordingKeys::default());
    let of = of();
    let (mut tape, _ended) = begin(&recorder, of);
    say_all(&mut tape, 0..16).await;
    tape.skip(10);
    say_all(&mut tape, 16..32).await;
    tape.sound(TapeSide::Heard, 0, TapeForm::Law(Law::Mu), &[0x10; 160]);
    tape.pass();
    drop(tape);
    let end = end_of(&mut news, of).await.end.expect("an end");
    let marks: Vec<_> =
        end.markers.iter().map(|marker| (marker.at_ms, marker.what, marker.for_ms)).collect();
    assert_eq!(marks, [(320, MarkerKind::Gap, Some(200))]);
    assert_eq!((end.lost_ms, end.duration_ms), (200, 860));
    let whole = wav(recorder.open(of.tenant, of.id).expect("it opens"), 44, 4_096);
    let silence = vec![0; 10 * 640];
    let expected = [expected(0..16), silence, expected(16..32)].concat();
    assert_eq!(whole[..expected.len()], expected);
}

#[tokio::test]
async fn what_found_no_room_is_told_whole_wherever_the_recording_ends() {
    let folder = Folder::new();
    let (recorder, mut news) = folder.start(&RecordingKeys::default());
    let of = of();
    let (mut tape, _ended) = begin(&recorder, of);
    // Far more than a tape holds, faster than anybody reads it.
    for _ in 0..4_000 {
        tape.sound(TapeSide::Heard, 0, TapeForm::Law(Law::Mu), &[0x10; 160]);
        tape.pass();
    }
    drop(tape);
    let end = end_of(&mut news, of).await.end.expect("an end");
    assert_eq!(end.duration_ms, 80_000);
    let whole = wav(recorder.open(of.tenant, of.id).expect("it opens"), 44, 65_536);
    let is_heard = |quad: &&[u8; 4]| quad[..2] != [0, 0];
    let heard = whole.as_chunks::<4>().0.iter().filter(is_heard).count() as u64;
    assert_eq!(heard / 8 + end.lost_ms, 80_000, "{:?}", end.markers);
}

#[tokio::test]
async fn there_are_so_many_recordings_at_once_and_no_more() {
    let folder = Folder::new();
    let (recorder, _news) = folder.start(&RecordingKeys::default());
    let mut tapes = Vec::new();
    let refused = loop {
        match recorder.begin(of(), TapeRate::Narrow) {
            Ok((tape, _outcome)) => tapes.push(tape),
            // The threads have not begun the last ones yet.
            Err(fault) if tapes.len() < RECORDINGS_MAX => {
                assert_eq!(fault, RecordingFault::TooMany);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!((refused, tapes.len()), (RecordingFault::TooMany, RECORDINGS_MAX));
    tapes.clear();
    tokio::time::timeout(PATIENCE, async {
        while recorder.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all end");
    assert!(recorder.begin(of(), TapeRate::Narrow).is_ok());
}
