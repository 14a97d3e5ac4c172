//! Recordings: lists and single ones, their audio, their deletion.

use crate::api::Context;
use crate::api::RequestId;
use crate::api::auth::Caller;
use crate::api::error;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::resource;
use crate::api::resource::Noun;
use crate::engine::originate::CallControl;
use crate::recording::audio::AudioFile;
use crate::recording::audio::Unreadable;
use crate::recording::encoded::EncodedForm;
use crate::recording::encoded::Encoding;
use crate::recording::encoded::Unencodable;
use crate::recording::recorder::Recorder;
use crate::store::recordings;
use crate::store::recordings::RECORDINGS;
use crate::store::resource::Fault;
use crate::store::resource::Resource;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use axum::Extension;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a client: then reading waits.
const PIECES_WAITING: usize = 4;

pub(super) struct Recordings;

impl Noun for Recordings {
    const RESOURCE: &'static Resource = &RECORDINGS;
}

/// Deletes a recording and its file.
pub(super) async fn delete(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let id = &caller.request_id;
    let (tenant, recording) = (caller.tenant()?, RecordingId::from_uuid(caller.item()?));
    let found = recordings::find(&context.database, tenant, recording).await;
    let found = found.map_err(|failed| error::database(&failed, id))?;
    if found.is_some_and(|(_, status)| status == OPEN) {
        return Err(still_open(&caller));
    }
    let done = resource::delete_item::<Recordings>(&context, &caller, recording.uuid(), &headers);
    let done = done.await?;
    // What is not removed at once is when the node looks for what is gone.
    if let Some(recorder) = recorder(&context) {
        let remove = move || recorder.delete(tenant, recording);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(remove).await {
            tracing::warn!(%error, "the file of a deleted recording is removed later");
        }
    }
    Ok(done)
}

/// The status of one that is written.
const OPEN: &str = "recording";

fn still_open(caller: &Caller) -> ApiError {
    let why = "it is still recorded: stop it, or wait for the end of its call".to_owned();
    error::fault(Fault::Conflict { field: None, why }, &caller.request_id)
}

fn recorder(context: &Context) -> Option<Recorder> {
    context.calls.as_ref().and_then(CallControl::recorder)
}

/// Gives the audio of a recording, or a part of it.
pub(super) async fn audio(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<AudioQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = &caller.request_id;
    let bad = |what| ErrorKind::BadParameter(what).of(id);
    let Query(query) = query.map_err(|_| bad("the parameter is format (wav, ogg or mp3)"))?;
    let form = form_of(&query, &headers).ok_or_else(|| bad("`format` is wav, ogg or mp3"))?;
    let (tenant, recording) = (caller.tenant()?, RecordingId::from_uuid(caller.item()?));
    let found = recordings::find(&context.database, tenant, recording).await;
    let found = found.map_err(|failed| error::database(&failed, id))?;
    let missing = |what| ErrorKind::NotFound(what).of(id);
    let (folder, status) = found.ok_or_else(|| missing("there is no such recording"))?;
    if status == OPEN {
        return Err(still_open(&caller));
    }
    let recorder = recorder(&context).filter(|recorder| recorder.folder_id() == folder);
    let recorder = recorder.ok_or_else(|| ErrorKind::RecordingAway.of(id))?;
    let file = open(recorder.clone(), (tenant, recording)).await;
    let file = file.map_err(|why| unreadable(&why, &caller))?;
    if let Some(form) = form {
        let serial = recording.uuid().as_u128() as u32;
        let encoding = recorder.encode(file, form, serial);
        return encoding
            .map(|encoding| encoded(encoding, form))
            .map_err(|why| unencodable(&why, &caller));
    }
    let etag = format!("\"{recording}\"");
    let wanted = wanted(&headers, &etag, file.length());
    Ok(answer(file, wanted, &etag, id))
}

/// How a recording is to be given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AudioQuery {
    format: Option<String>,
}

/// What a client asks for, by the address or else by what it accepts; outer `None`: it cannot be understood. As it is
/// recorded is the inner `None`, and what is given who accepts anything.
fn form_of(query: &AudioQuery, headers: &HeaderMap) -> Option<Option<EncodedForm>> {
    match query.format.as_deref() {
        Some("wav") => return Some(None),
        Some("ogg") => return Some(Some(EncodedForm::Ogg)),
        Some("mp3") => return Some(Some(EncodedForm::Mp3)),
        Some(_) => return None,
        None => (),
    }
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let kinds = accepted.unwrap_or_default().split(',');
    let form =
        kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim()).find_map(|kind| {
            match kind {
                "audio/ogg" => Some(Some(EncodedForm::Ogg)),
                "audio/mpeg" => Some(Some(EncodedForm::Mp3)),
                "audio/wav" | "audio/x-wav" | "audio/*" | "*/*" => Some(None),
                _ => None,
            }
        });
    Some(form.flatten())
}

fn unencodable(why: &Unencodable, caller: &Caller) -> ApiError {
    match why {
        Unencodable::TooMany => ErrorKind::TooManyEncoded.of(&caller.request_id),
        Unencodable::Unreadable(why) => unreadable(why, caller),
        Unencodable::Encoder(_) => {
            tracing::warn!(request_id = %caller.request_id.0, %why, "a recording cannot be encoded");
            ErrorKind::RecordingUnreadable.about(None, why.to_string(), &caller.request_id)
        }
    }
}

/// The recording in another form, encoded as the client takes it. How long that is nobody knows before.
fn encoded(mut encoding: Encoding, form: EncodedForm) -> Response {
    let (pieces_in, pieces) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || {
        loop {
            let piece = match encoding.next_piece() {
                Ok(None) => return,
                Ok(Some(piece)) => Ok(Bytes::from(piece)),
                Err(why) => Err(std::io::Error::other(why.to_string())),
            };
            let failed = piece.is_err();
            if pieces_in.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    let mut response = streamed(pieces).into_response();
    let headers = response.headers_mut();
    let kind = match form {
        EncodedForm::Ogg => "audio/ogg",
        EncodedForm::Mp3 => "audio/mpeg",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

fn streamed(pieces: mpsc::Receiver<std::io::Result<Bytes>>) -> Body {
    Body::from_stream(stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|piece| (piece, pieces))
    }))
}

async fn open(
    recorder: Recorder,
    (tenant, recording): (TenantId, RecordingId),
) -> Result<AudioFile, Unreadable> {
    let opened = tokio::task::spawn_blocking(move || recorder.open(tenant, recording)).await;
    opened.unwrap_or_else(|_| Err(std::io::Error::other("opening it panicked").into()))
}

fn unreadable(why: &Unreadable, caller: &Caller) -> ApiError {
    match why {
        Unreadable::Missing => {
            ErrorKind::NotFound("the recording has no file").of(&caller.request_id)
        }
        Unreadable::Key | Unreadable::Changed | Unreadable::Disk(_) => {
            tracing::warn!(request_id = %caller.request_id.0, %why, "a recording cannot be read");
            ErrorKind::RecordingUnreadable.about(None, why.to_string(), &caller.request_id)
        }
    }
}

/// Which bytes a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// From the first to the last, both included.
    Part(u64, u64),
    /// None that are there.
    Nothing,
}

/// RFC 9110 §14.2: one range is served; of a header that cannot be read, and of many, all is given.
fn wanted(headers: &HeaderMap, etag: &str, length: u64) -> Wanted {
    let condition = headers.get(header::IF_RANGE);
    if condition.is_some_and(|condition| condition.as_bytes() != etag.as_bytes()) {
        return Wanted::All;
    }
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let Some((from, until)) = range
        .and_then(|range| range.strip_prefix("bytes="))
        .filter(|range| !range.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::All;
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let last = length.saturating_sub(1);
    match (number(from), number(until)) {
        (Some(from), _) if from >= length => Wanted::Nothing,
        (Some(from), Some(until)) if until >= from => Wanted::Part(from, until.min(last)),
        (Some(from), None) if until.is_empty() => Wanted::Part(from, last),
        (None, Some(0)) if from.is_empty() => Wanted::Nothing,
        (None, Some(count)) if from.is_empty() => Wanted::Part(length.saturating_sub(count), last),
        (Some(_) | None, _) => Wanted::All,
    }
}

fn answer(file: AudioFile, wanted: Wanted, etag: &str, id: &RequestId) -> Response {
    let length = file.length();
    let (status, from, until) = match wanted {
        Wanted::All => (StatusCode::OK, 0, length),
        Wanted::Part(from, last) => (StatusCode::PARTIAL_CONTENT, from, last.saturating_add(1)),
        Wanted::Nothing => {
            let range = format!("bytes */{length}");
            return ([(header::CONTENT_RANGE, range)], ErrorKind::NoSuchPart.of(id))
                .into_response();
        }
    };
    let mut response = (status, body(file, from, until)).into_response();
    let headers = response.headers_mut();
    let from_static = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, from_static("audio/wav"));
    headers.insert(header::ACCEPT_RANGES, from_static("bytes"));
    // What people said is kept nowhere on its way.
    headers.insert(header::CACHE_CONTROL, from_static("private, no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(until - from));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", until - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

/// The bytes, read and decrypted as the client takes them. What cannot be read cuts the answer.
fn body(mut file: AudioFile, from: u64, until: u64) -> Body {
    let (pieces_in, pieces) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut place = from;
        while place < until {
            let room = usize::try_from(until - place).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let mut piece = vec![0; room];
            let piece = match file.read_at(place, &mut piece) {
                Ok(0) => Err(std::io::Error::other("the file became shorter")),
                Ok(count) => {
                    piece.truncate(count);
                    place += count as u64;
                    Ok(Bytes::from(piece))
                }
                Err(why) => Err(std::io::Error::other(why.to_string())),
            };
            let failed = piece.is_err();
            if pieces_in.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    streamed(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_that_of_the_address_or_else_what_is_accepted() {
        let form = |format: Option<&str>, accept: &str| {
            let query = AudioQuery { format: format.map(str::to_owned) };
            let value = HeaderValue::from_str(accept).unwrap();
            form_of(&query, &HeaderMap::from_iter([(header::ACCEPT, value)]))
        };
        assert_eq!(form(None, "*/*"), Some(None));
        assert_eq!(form(None, "text/html, audio/mpeg;q=0.9, */*"), Some(Some(EncodedForm::Mp3)));
        assert_eq!(form(None, "audio/wav, audio/ogg"), Some(None));
        assert_eq!(form(Some("ogg"), "audio/wav"), Some(Some(EncodedForm::Ogg)));
        assert_eq!(form(Some("wav"), "audio/ogg"), Some(None));
        assert_eq!(form(Some("flac"), "*/*"), None);
    }

    #[test]
    fn a_range_is_read_as_it_is_meant() {
        let of = |range: &str| {
            let value = HeaderValue::from_str(range).unwrap();
            wanted(&HeaderMap::from_iter([(header::RANGE, value)]), "\"x\"", 100)
        };
        assert_eq!(wanted(&HeaderMap::new(), "\"x\"", 100), Wanted::All);
        assert_eq!(of("bytes=0-"), Wanted::Part(0, 99));
        assert_eq!(of("bytes=10-19"), Wanted::Part(10, 19));
        assert_eq!(of("bytes=10-1000"), Wanted::Part(10, 99));
        assert_eq!(of("bytes=-30"), Wanted::Part(70, 99));
        assert_eq!(of("bytes=-300"), Wanted::Part(0, 99));
        assert_eq!(of("bytes=100-"), Wanted::Nothing);
        assert_eq!(of("bytes=-0"), Wanted::Nothing);
        for senseless in ["bytes=9-1", "bytes=a-b", "bytes=-", "bytes=1-2,5-6", "lines=1-2", "5-6"]
        {
            assert_eq!(of(senseless), Wanted::All, "{senseless}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"y\""));
        assert_eq!(wanted(&headers, "\"x\"", 100), Wanted::All);
        assert_eq!(wanted(&headers, "\"y\"", 100), Wanted::Part(1, 2));
    }
}
