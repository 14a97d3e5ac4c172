//! WAV files: reading what to say, writing what was heard.

use crate::audio::frame::Pcm;
use hound::SampleFormat;
use hound::WavReader;
use hound::WavSpec;
use hound::WavWriter;
use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::io::Cursor;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// Telephone audio.
const RATE_HZ: u32 = 8_000;
/// Rates that make sense for speech; others are a mistake.
const RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=192_000;
/// The longest file that is read, in seconds. Over it: refused.
const SECONDS_MAX: u32 = 1_800;

/// A WAV file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It cannot be read as WAV.
    #[error("{0} cannot be read as WAV")]
    Unreadable(PathBuf, #[source] hound::Error),
    /// Its sample rate is none of speech.
    #[error("{path} has {rate} samples a second; use 8000 to 192000")]
    Rate {
        /// The file.
        path: PathBuf,
        /// Its rate.
        rate: u32,
    },
    /// It is longer than anybody says.
    #[error("{0} is longer than {SECONDS_MAX} s")]
    TooLong(PathBuf),
    /// It has no samples.
    #[error("{0} holds no audio")]
    Empty(PathBuf),
    /// It cannot be written.
    #[error("{0} cannot be written")]
    Unwritable(PathBuf, #[source] hound::Error),
}

/// Reads a file as 8 kHz mono: channels are averaged, other rates resampled.
///
/// # Errors
///
/// See [`WavError`].
pub fn read(path: &Path) -> Result<Vec<i16>, WavError> {
    let unreadable = |error| WavError::Unreadable(path.to_owned(), error);
    samples_of(WavReader::open(path).map_err(unreadable)?, path)
}

/// Reads what came otherwise than from a file, in the same way. A header that claims more than came, as programs
/// write it that do not know their length yet, is believed as far as that goes.
///
/// # Errors
///
/// See [`WavError`].
pub fn decode(wav: &[u8]) -> Result<Vec<i16>, WavError> {
    let path = Path::new("what came");
    let unreadable = |error| WavError::Unreadable(path.to_owned(), error);
    let mut wav = wav.to_vec();
    let most = wav.len();
    if let Some(at) = chunk_of_data(&wav)
        && let Some(length) = wav.get_mut(at..at + 4)
        && let Ok(claimed) = length.try_into().map(u32::from_le_bytes)
    {
        // Whole samples of any usual form.
        let rest = most.saturating_sub(at + 4) / 8 * 8;
        let rest = u32::try_from(rest).unwrap_or(u32::MAX);
        if claimed > rest {
            length.copy_from_slice(&rest.to_le_bytes());
        }
    }
    samples_of(WavReader::new(Cursor::new(wav)).map_err(unreadable)?, path)
}

/// Where the length of the samples stands.
fn chunk_of_data(wav: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        let head = wav.get(at..at + 8)?;
        let (name, length) = head.split_at_checked(4)?;
        if name == b"data" {
            return Some(at + 4);
        }
        let length = u32::from_le_bytes(length.try_into().ok()?);
        at += 8 + usize::try_from(length).ok()?.next_multiple_of(2);
    }
}

fn samples_of<R: Read>(mut reader: WavReader<R>, path: &Path) -> Result<Vec<i16>, WavError> {
    let unreadable = |error| WavError::Unreadable(path.to_owned(), error);
    let spec = reader.spec();
    if !RATES_HZ.contains(&spec.sample_rate) {
        return Err(WavError::Rate { path: path.to_owned(), rate: spec.sample_rate });
    }
    // `duration` counts samples of one channel.
    if reader.duration() / spec.sample_rate >= SECONDS_MAX {
        return Err(WavError::TooLong(path.to_owned()));
    }
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>(),
        SampleFormat::Int => {
            let full = (1_u64 << spec.bits_per_sample.saturating_sub(1).min(31)) as f32;
            reader.samples::<i32>().map(|sample| sample.map(|s| s as f32 / full)).collect()
        }
    }
    .map_err(unreadable)?;
    let channels = usize::from(spec.channels.max(1));
    let mono: Vec<f32> =
        samples.chunks(channels).map(|all| all.iter().sum::<f32>() / all.len() as f32).collect();
    if mono.is_empty() {
        return Err(WavError::Empty(path.to_owned()));
    }
    Ok(resample(&mono, spec.sample_rate))
}

/// To 8 kHz, by the mean over the time of each sample; that damps what would fold back.
fn resample(samples: &[f32], rate: u32) -> Vec<i16> {
    let step = f64::from(rate) / f64::from(RATE_HZ);
    let count = (samples.len() as f64 / step) as usize;
    let sample = |index: usize| {
        let (start, end) = (index as f64 * step, (index + 1) as f64 * step);
        let mut sum = 0.0;
        for (at, value) in samples.iter().enumerate().skip(start as usize) {
            let overlap = end.min((at + 1) as f64) - start.max(at as f64);
            if overlap <= 0.0 {
                break;
            }
            sum += f64::from(*value) * overlap;
        }
        (sum / step * f64::from(i16::MAX)).clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
    };
    (0..count).map(sample).collect()
}

/// Writes what is heard.
pub struct Recorder {
    path: PathBuf,
    writer: WavWriter<BufWriter<File>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins a file of 8 kHz mono, 16 bits.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self, WavError> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: RATE_HZ,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(path, spec)
            .map_err(|error| WavError::Unwritable(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends a frame.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub fn write(&mut self, frame: &Pcm) -> Result<(), WavError> {
        for sample in frame {
            self.writer
                .write_sample(*sample)
                .map_err(|error| WavError::Unwritable(self.path.clone(), error))?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub fn finish(self) -> Result<(), WavError> {
        let Self { path, writer } = self;
        writer.finalize().map_err(|error| WavError::Unwritable(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::tone::share_at;

    /// A path for one test, in the folder of temporary files.
    fn path(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tandem-wav-{test}-{}.wav", std::process::id()))
    }

    fn write(path: &Path, spec: WavSpec, seconds: f32) {
        let mut writer = WavWriter::create(path, spec).unwrap();
        let count = (spec.sample_rate as f32 * seconds) as usize;
        for n in 0..count {
            let turns = 440.0 * n as f32 / spec.sample_rate as f32;
            let value = (turns * std::f32::consts::TAU).sin() * 0.5;
            for _ in 0..spec.channels {
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(value).unwrap(),
                    SampleFormat::Int => {
                        let full = (1_i64 << (spec.bits_per_sample - 1)) as f32;
                        writer.write_sample((value * full) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn any_common_form_becomes_8_khz_mono() {
        for (channels, rate, bits, format) in [
            (1, 8_000, 16, SampleFormat::Int),
            (2, 44_100, 16, SampleFormat::Int),
            (1, 48_000, 24, SampleFormat::Int),
            (2, 16_000, 32, SampleFormat::Float),
            (1, 11_025, 8, SampleFormat::Int),
        ] {
            let path = path(&format!("{rate}-{bits}-{channels}"));
            let spec = WavSpec {
                channels,
                sample_rate: rate,
                bits_per_sample: bits,
                sample_format: format,
            };
            write(&path, spec, 0.5);
            let samples = read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(samples.len().abs_diff(4_000) <= 1, "{rate}: {}", samples.len());
            let share = share_at(&samples, 440);
            assert!(share > 0.9, "{rate}/{bits}/{channels}: {share}");
            let peak = samples.iter().copied().max().unwrap();
            assert!((13_500..=16_900).contains(&peak), "{rate}: {peak}");
        }
    }

    #[test]
    fn a_header_that_does_not_know_its_length_is_believed_as_far_as_there_is_something() {
        let path = path("streamed");
        let spec = WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        write(&path, spec, 0.5);
        let mut wav = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let whole = decode(&wav).unwrap();
        assert_eq!(whole.len(), 4_000);
        let at = chunk_of_data(&wav).unwrap();
        wav[at..at + 4].copy_from_slice(&0x7fff_f000_u32.to_le_bytes());
        assert_eq!(decode(&wav).unwrap(), whole);
        for length in 0..at + 4 {
            assert!(decode(&wav[..length]).is_err(), "{length}");
        }
        assert!(decode(b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn what_is_no_speech_is_refused() {
        let path = path("refused");
        let spec = |rate| WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        write(&path, spec(4_000), 0.1);
        assert!(matches!(read(&path), Err(WavError::Rate { rate: 4_000, .. })));
        write(&path, spec(8_000), 0.0);
        assert!(matches!(read(&path), Err(WavError::Empty(_))));
        std::fs::write(&path, b"no wave").unwrap();
        assert!(matches!(read(&path), Err(WavError::Unreadable(..))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(WavError::Unreadable(..))));
    }

    #[test]
    fn what_is_recorded_can_be_read_again() {
        let path = path("recorded");
        let mut recorder = Recorder::create(&path).unwrap();
        recorder.write(&[1_000; FRAME_SAMPLES]).unwrap();
        recorder.write(&[-1_000; FRAME_SAMPLES]).unwrap();
        recorder.finish().unwrap();
        let samples = read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(samples.len(), 2 * FRAME_SAMPLES);
        assert!(samples.iter().take(160).all(|sample| (990..=1_000).contains(sample)));
        assert!(Recorder::create(Path::new("/no/such/folder/x.wav")).is_err());
    }
}
