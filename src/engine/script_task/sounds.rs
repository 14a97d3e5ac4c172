//! Sounds of scripts, had from wherever they are, as µ-law at 8 kHz.

use crate::agent::builtin::announce;
use crate::agent::builtin::prompts;
use crate::agent::script::step::Sound;
use crate::audio::g711;
use crate::engine::assets::Assets;
use crate::engine::script_task::web::Web;
use crate::engine::speech::Speech;
use crate::engine::wav;
use crate::types::codec::Law;
use crate::types::id::TenantId;
use crate::types::limit::SOUND_BYTES_MAX;
use bytes::Bytes;

/// Where sounds come from.
#[derive(Clone)]
pub(super) struct Sounds {
    pub(super) web: Web,
    pub(super) assets: Assets,
    pub(super) speech: Speech,
    pub(super) tenant: TenantId,
}

impl Sounds {
    /// A sound, or why it cannot be had.
    pub(super) async fn load(&self, sound: Sound) -> Result<Bytes, String> {
        match sound {
            Sound::Url(url) => {
                let answer = self.web.sound(url, SOUND_BYTES_MAX).await?;
                let kind = answer.content_type.unwrap_or_default().to_ascii_lowercase();
                on_thread(move || decode(&kind, &answer.body)).await
            }
            Sound::Asset(name) => {
                let name = name.parse().map_err(|error| format!("{error}"))?;
                let (assets, tenant) = (self.assets.clone(), self.tenant);
                let load = move || assets.load(tenant, &name).map_err(|error| error.to_string());
                on_thread(move || load().map(|audio| Bytes::from(audio.into_vec()))).await
            }
            Sound::Speech { text, language, voice: _ } => {
                self.speech.say(&text, &language).await.map_err(|error| error.to_string())
            }
            Sound::Prompt(name) => prompts::prompt(name).ok_or_else(|| format!("no prompt {name}")),
            Sound::Beep => Ok(announce::beep()),
        }
    }
}

async fn on_thread(
    work: impl FnOnce() -> Result<Bytes, String> + Send + 'static,
) -> Result<Bytes, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("it cannot be read".to_owned()))
}

/// What came by HTTP: WAV by its first bytes, else µ-law where the server says so.
fn decode(kind: &str, body: &[u8]) -> Result<Bytes, String> {
    if body.starts_with(b"RIFF") {
        let linear = wav::decode(body).map_err(|error| error.to_string())?;
        let mut audio = vec![0; linear.len()];
        g711::encode(Law::Mu, &linear, &mut audio);
        return Ok(audio.into());
    }
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if matches!(kind, "audio/basic" | "audio/x-mulaw" | "audio/mulaw" | "audio/pcmu") {
        return Ok(Bytes::copy_from_slice(body));
    }
    Err("it is neither WAV nor µ-law (audio/basic)".to_owned())
}
