//! Free text, spoken by a program of the machine: `flite` or `espeak-ng`, whichever is installed.

use crate::audio::g711;
use crate::clock;
use crate::engine::wav;
use crate::types::codec::Law;
use crate::types::limit::SAY_TEXT_MAX;
use crate::types::limit::SPEECH_CACHE_BYTES_MAX;
use crate::types::limit::SPEECH_PROGRAMS_MAX;
use crate::types::limit::SPOKEN_BYTES_MAX;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// How long a program may take, with its turn: a caller hears nothing meanwhile.
const SPEAK_MAX: Duration = Duration::from_secs(10);
/// The programs, in the order in which they are looked for.
const PROGRAMS: [Program; 2] = [Program::Flite, Program::Espeak];

/// A program that speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// English alone, and the better to understand.
    Flite,
    /// Many languages.
    Espeak,
}

/// Why a text is not spoken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeechError {
    /// There is no program for it.
    #[error("no program that speaks is installed (flite or espeak-ng)")]
    NoProgram,
    /// It does not do it.
    #[error("{program} did not speak: {why}")]
    Failed {
        /// Which.
        program: &'static str,
        /// Why.
        why: String,
    },
    /// It took too long, and was ended.
    #[error("no speech within {} s", SPEAK_MAX.as_secs())]
    Late,
}

/// Speaks texts. Clones share one memory of what was said.
#[derive(Clone)]
pub struct Speech(Arc<Inner>);

struct Inner {
    programs: Vec<(Program, PathBuf)>,
    /// Where what is said is put for the moment.
    folder: PathBuf,
    turns: Semaphore,
    said: Mutex<Memory>,
}

/// What was said last.
#[derive(Default)]
struct Memory {
    texts: VecDeque<(Wording, Bytes)>,
    bytes: usize,
}

/// A text and its language.
type Wording = (String, String);

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speech").field("programs", &self.0.programs).finish_non_exhaustive()
    }
}

impl Speech {
    /// With the programs found in the folders of `path`, the content of the variable `PATH`; `folder` is for
    /// files of the moment.
    #[must_use]
    pub fn find(path: &str, folder: &Path) -> Self {
        let found = |program: Program| {
            let folders = path.split(':').filter(|folder| folder.starts_with('/'));
            let mut files = folders.map(|folder| Path::new(folder).join(program.name()));
            files.find(|file| file.is_file()).map(|file| (program, file))
        };
        let programs = PROGRAMS.into_iter().filter_map(found).collect();
        Self(Arc::new(Inner {
            programs,
            folder: folder.to_owned(),
            turns: Semaphore::new(SPEECH_PROGRAMS_MAX),
            said: Mutex::default(),
        }))
    }

    /// The name of the program that speaks; `None` where there is none.
    #[must_use]
    pub fn program(&self) -> Option<&'static str> {
        self.0.programs.first().map(|(program, _)| program.name())
    }

    /// `text` as µ-law at 8 kHz; of `language` as far as the machine can.
    ///
    /// # Errors
    /// [`SpeechError`].
    pub async fn say(&self, text: &str, language: &str) -> Result<Bytes, SpeechError> {
        let text: String = text.chars().filter(|c| !c.is_control()).take(SAY_TEXT_MAX).collect();
        let wording = (text, language_of(language));
        if let Some(said) = self.recall(&wording) {
            return Ok(said);
        }
        let spoken = tokio::time::timeout(SPEAK_MAX, self.speak(&wording)).await;
        let audio = spoken.map_err(|_| SpeechError::Late)??;
        self.remember(wording, audio.clone());
        Ok(audio)
    }

    async fn speak(&self, (text, language): &Wording) -> Result<Bytes, SpeechError> {
        let speaks = |(program, _): &&(Program, PathBuf)| match program {
            Program::Flite => language.is_empty() || language.starts_with("en"),
            Program::Espeak => true,
        };
        // A voice of another language is better than none.
        let programs = &self.0.programs;
        let own = programs.iter().find(speaks).or_else(|| programs.first());
        let (program, path) = own.ok_or(SpeechError::NoProgram)?;
        let failed = |why: String| SpeechError::Failed { program: program.name(), why };
        // The semaphore is never closed.
        let _turn = self.0.turns.acquire().await.map_err(|error| failed(error.to_string()))?;
        let ran = match program {
            Program::Flite => self.run_flite(path, text).await,
            Program::Espeak => run_espeak(path, text, language).await,
        };
        let wav = ran.map_err(|error| failed(error.to_string()))?;
        let linear = tokio::task::spawn_blocking(move || wav::decode(&wav)).await;
        let linear = linear.map_err(|error| failed(error.to_string()))?;
        let linear = linear.map_err(|error| failed(error.to_string()))?;
        let mut audio = vec![0; linear.len()];
        g711::encode(Law::Mu, &linear, &mut audio);
        Ok(audio.into())
    }

    /// It writes no WAV into a pipe, so it gets a file.
    async fn run_flite(&self, path: &Path, text: &str) -> io::Result<Vec<u8>> {
        let folder = self.0.folder.clone();
        let prepare = move || fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        tokio::task::spawn_blocking(prepare).await??;
        let file = Leftover(self.0.folder.join(format!("{:016x}.wav", clock::random_u64())));
        let mut command = bare(path);
        command.args(["-voice", "slt", "-f", "/dev/stdin", "-o"]).arg(&file.0);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        hand_over(&mut child, text).await?;
        ended(&mut child).await?;
        read_bounded(tokio::fs::File::open(&file.0).await?).await
    }

    fn recall(&self, wording: &Wording) -> Option<Bytes> {
        let mut memory = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let at = memory.texts.iter().position(|(own, _)| own == wording)?;
        let entry = memory.texts.remove(at)?;
        let audio = entry.1.clone();
        memory.texts.push_back(entry);
        Some(audio)
    }

    fn remember(&self, wording: Wording, audio: Bytes) {
        let mut memory = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        memory.bytes += audio.len();
        memory.texts.push_back((wording, audio));
        while memory.bytes > SPEECH_CACHE_BYTES_MAX {
            let Some((_, oldest)) = memory.texts.pop_front() else { break };
            memory.bytes = memory.bytes.saturating_sub(oldest.len());
        }
    }
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Flite => "flite",
            Self::Espeak => "espeak-ng",
        }
    }
}

/// A file that goes with whoever waits for it.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a file of speech stays");
        }
    }
}

async fn run_espeak(path: &Path, text: &str, language: &str) -> io::Result<Vec<u8>> {
    let mut command = bare(path);
    command.args(["--stdin", "--stdout", "-v", if language.is_empty() { "en" } else { language }]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // It may write before it has read everything.
    let (given, read) = tokio::join!(hand_over(&mut child, text), read_bounded(output));
    given?;
    ended(&mut child).await?;
    read
}

/// A program that knows nothing of ours, and is killed when nobody waits for it any more.
fn bare(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("LANG", "C.UTF-8").current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Texts go by a pipe: one that looks like an option is still a text.
async fn hand_over(child: &mut Child, text: &str) -> io::Result<()> {
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    input.write_all(text.as_bytes()).await?;
    input.write_all(b"\n").await?;
    input.shutdown().await
}

async fn ended(child: &mut Child) -> io::Result<()> {
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

async fn read_bounded(from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let most = SPOKEN_BYTES_MAX as u64;
    from.take(most + 1).read_to_end(&mut read).await?;
    if read.len() as u64 > most {
        return Err(io::Error::other("it speaks for too long"));
    }
    Ok(read)
}

/// The language in letters, digits and hyphens alone: it becomes the argument of a program.
fn language_of(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 16
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_plain { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speaks by one of the programs in `tests/speech`: those are no programs that speak, but do as one would.
    fn speech(folder: &str) -> Speech {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/speech").join(folder);
        Speech::find(folder.to_str().unwrap(), Path::new("/no/such/folder"))
    }

    #[tokio::test]
    async fn without_a_program_nothing_is_spoken() {
        let speech = Speech::find("relative:/no/such/folder", Path::new("/no/such/folder"));
        assert_eq!(speech.say("hello", "").await, Err(SpeechError::NoProgram));
        assert_eq!(speech.program(), None);
    }

    #[tokio::test]
    async fn a_text_is_handed_over_by_a_pipe_whatever_it_looks_like() {
        // What the program is given becomes its samples, two bytes each, the end of the line among them.
        let speech = speech("parrot");
        let text = r#"--help; $(kill 1) `x` 'y' "z" -w!!!!!!!"#;
        let audio = speech.say(text, "de-DE").await.unwrap();
        assert_eq!(audio.len(), text.len().div_ceil(2));
        // It is remembered: the same again needs no program.
        assert_eq!(speech.recall(&(text.to_owned(), "de-de".to_owned())), Some(audio));
        assert_eq!(speech.recall(&(text.to_owned(), "en".to_owned())), None);
    }

    #[tokio::test]
    async fn a_program_that_fails_or_says_rubbish_is_told_of() {
        for folder in ["failing", "rubbish"] {
            let said = speech(folder).say("hello", "").await;
            let expected = matches!(said, Err(SpeechError::Failed { program: "espeak-ng", .. }));
            assert!(expected, "{folder}: {said:?}");
        }
    }

    #[test]
    fn a_language_is_a_plain_word_or_none() {
        assert_eq!(language_of("en-GB"), "en-gb");
        for bad in ["", "--path=/etc", "en gb", "\u{e4}", "abcdefghijklmnopqrst"] {
            assert_eq!(language_of(bad), "", "{bad}");
        }
    }
}
