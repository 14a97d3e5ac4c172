//! The crate's contexts: how they are made, and brought to where a stream is.

use super::REPLAY_WINDOW;
use super::SrtpError;
use super::Stream;
use super::why;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::providers::AwsLcRsCrypto;
use rtc_srtp::option::srtcp_replay_protection;
use rtc_srtp::option::srtp_replay_protection;
use rtc_srtp::protection_profile::ProtectionProfile;

/// A context that remembers which packets it has seen.
pub(super) fn new_context(key: &SrtpKey) -> Result<Context, SrtpError> {
    context(key, Some(REPLAY_WINDOW))
}

/// A context to try packets in. It remembers none: the crate opens the window of a stream before it has
/// authenticated anything, so that a forged packet could shut out those that follow.
pub(super) fn new_probe(key: &SrtpKey) -> Result<Context, SrtpError> {
    context(key, None)
}

fn context(key: &SrtpKey, window: Option<usize>) -> Result<Context, SrtpError> {
    let profile = match key.suite() {
        SrtpSuite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpSuite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        SrtpSuite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
    };
    Context::new(
        key.expose_key(),
        key.expose_salt(),
        profile,
        window.map(srtp_replay_protection),
        window.map(srtcp_replay_protection),
        &AwsLcRsCrypto,
    )
    .map_err(|_| SrtpError::Unusable)
}

/// Brings the rollover counter of a stream to where it was under another key, just before `stream`'s
/// index. The crate cannot be told a counter; it is shown packets made for it, three for each rollover,
/// which nobody else ever sees.
pub(super) fn advance(
    key: &SrtpKey,
    context: &mut Context,
    stream: Stream,
) -> Result<(), SrtpError> {
    let last = stream.index.saturating_sub(1);
    show(key, context, stream.ssrc, (0..last).step_by(STEP).chain([last]))
}

/// Brings a stream to where it was in another context of the same key: the packet of its index and all
/// before count as seen.
pub(super) fn resume(
    key: &SrtpKey,
    context: &mut Context,
    stream: Stream,
) -> Result<(), SrtpError> {
    let first = (stream.index + 1).saturating_sub(REPLAY_WINDOW as u64);
    let indexes = (0..first).step_by(STEP).chain(first..=stream.index);
    show(key, context, stream.ssrc, indexes)
}

/// Less than half a rollover.
const STEP: usize = 30_000;

/// Shows packets of these indexes, which rise, to a context.
fn show(
    key: &SrtpKey,
    context: &mut Context,
    ssrc: u32,
    indexes: impl Iterator<Item = u64>,
) -> Result<(), SrtpError> {
    let mut maker = new_probe(key)?;
    let [c0, c1, c2, c3] = ssrc.to_be_bytes();
    for index in indexes {
        let [s0, s1] = (index as u16).to_be_bytes();
        let packet = [0x80, 0, s0, s1, 0, 0, 0, 0, c0, c1, c2, c3];
        let protected = maker.encrypt_rtp(&packet).map_err(why)?;
        context.decrypt_rtp(&protected).map_err(why)?;
    }
    Ok(())
}
