//! The encryption of a recording: its own key, sealed under one of the node's, and pieces that open alone.
//!
//! A file is a header (form, key's name, rate, and the recording's key sealed) and pieces of
//! [`CHUNK_BYTES`], each with its tag. A piece is bound to its recording and place; the last says that it is the
//! last and is shorter, so that a file that was cut is known. AES-256-GCM throughout; the counter of the pieces is
//! the nonce, which is safe because the key is of this file alone.

use crate::clock;
use crate::recording::keys::KEY_BYTES;
use crate::recording::keys::NAME_BYTES;
use crate::recording::keys::RecordingKey;
use crate::recording::keys::RecordingKeys;
use crate::types::id::RecordingId;
use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use zeroize::Zeroize;

/// Bytes of samples in a piece: half a second at 8 kHz.
pub(super) const CHUNK_BYTES: usize = 16_384;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a whole piece in the file.
pub(super) const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = MAGIC.len() + NAME_BYTES + 4 + NONCE_LEN + WRAPPED_BYTES;

const MAGIC: &[u8; 8] = b"TANDREC1";
const WRAPPED_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// What seals and opens the pieces of one recording.
pub(super) struct Envelope {
    id: RecordingId,
    key: LessSafeKey,
}

impl Envelope {
    /// A new one with a key of its own, and the header that keeps it; `None` where the library fails.
    pub(super) fn new(id: RecordingId, hz: u32, under: &RecordingKey) -> Option<(Self, Vec<u8>)> {
        let mut key = [0; KEY_BYTES];
        clock::fill_random(&mut key);
        let envelope = Self { id, key: data_key(&key)? };
        let mut header = [MAGIC.as_slice(), &under.name, &hz.to_le_bytes()].concat();
        let mut nonce = [0; NONCE_LEN];
        clock::fill_random(&mut nonce);
        let mut wrapped = key.to_vec();
        key.zeroize();
        let bound = Aad::from([header.as_slice(), id.uuid().as_bytes()].concat());
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        under.key.seal_in_place_append_tag(nonce_of, bound, &mut wrapped).ok()?;
        header.extend_from_slice(&nonce);
        header.extend_from_slice(&wrapped);
        Some((envelope, header))
    }

    /// What opens the pieces after this header, and the rate; `None` where the key is not there or the header was
    /// changed.
    pub(super) fn open(
        id: RecordingId,
        header: &[u8],
        keys: &RecordingKeys,
    ) -> Option<(Self, u32)> {
        let (bound, rest) = header.split_at_checked(MAGIC.len() + NAME_BYTES + 4)?;
        let (name, hz) = bound.strip_prefix(MAGIC)?.split_at_checked(NAME_BYTES)?;
        let hz = u32::from_le_bytes(hz.try_into().ok()?);
        let (nonce, wrapped) = rest.split_at_checked(NONCE_LEN)?;
        let under = keys.named(name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from([bound, id.uuid().as_bytes().as_slice()].concat());
        let mut wrapped = wrapped.to_vec();
        let key =
            under.key.open_in_place(nonce, aad, &mut wrapped).ok().and_then(|key| data_key(key));
        wrapped.zeroize();
        Some((Self { id, key: key? }, hz))
    }

    /// Seals the piece in `bytes`, in place; false where the library fails.
    pub(super) fn seal(&self, index: u64, is_last: bool, bytes: &mut Vec<u8>) -> bool {
        let bound = self.bound(index, is_last);
        self.key.seal_in_place_append_tag(nonce(index), bound, bytes).is_ok()
    }

    /// Opens a piece in place; `None` where it is not what was sealed for this place.
    pub(super) fn open_piece<'a>(
        &self,
        index: u64,
        is_last: bool,
        bytes: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let bound = self.bound(index, is_last);
        self.key.open_in_place(nonce(index), bound, bytes).ok().map(|plain| &*plain)
    }

    fn bound(&self, index: u64, is_last: bool) -> Aad<[u8; 25]> {
        let mut bound = [0; 25];
        let id = self.id.uuid();
        let parts = id.as_bytes().iter().copied().chain(index.to_le_bytes());
        for (to, byte) in bound.iter_mut().zip(parts.chain([u8::from(is_last)])) {
            *to = byte;
        }
        Aad::from(bound)
    }
}

fn data_key(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}

fn nonce(index: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    for (to, byte) in nonce.iter_mut().skip(4).zip(index.to_be_bytes()) {
        *to = byte;
    }
    Nonce::assume_unique_for_key(nonce)
}
