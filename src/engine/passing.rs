//! What of a call that came in goes on with it: collected from its INVITE, and written for peers by address.

use crate::routing::passing::History;
use crate::routing::passing::Passing;
use crate::routing::template::Template;
use crate::routing::template::Values;
use crate::routing::trail::Diverted;
use crate::routing::trail::TRAIL_HEADER;
use crate::routing::trail::Trail;
use crate::routing::trunk::Trunk;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::header::NameGlob;
use crate::types::limit::DIVERSIONS_READ_MAX;
use crate::types::limit::EXTRA_HEADERS_MAX;

/// What may go on with a call that came by `trunk`; `None` where nothing may.
pub(super) fn of_invite(headers: &Headers, trunk: &Trunk) -> Option<Box<Passing>> {
    let came = CameBy::of(headers);
    let diverted = came.diverted().iter().fold(0_u32, |sum, by| sum.saturating_add(by.times));
    let diversion = (addresses(headers, HeaderName::Diversion), diverted);
    let mut passing = Passing::new(diversion, history_of(headers));
    for (known, name, value) in headers.table().iter() {
        if !is_of_dialog(known) {
            passing.take(trunk, name, value);
        }
    }
    Some(Box::new(passing)).filter(|passing| !passing.is_empty())
}

/// Headers of nearly every INVITE that the switch writes itself, and so never passes on: they are told by
/// their number here, without a look at their text.
const fn is_of_dialog(name: HeaderName) -> bool {
    matches!(
        name,
        HeaderName::Via
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::Contact
            | HeaderName::MaxForwards
            | HeaderName::RecordRoute
            | HeaderName::Allow
            | HeaderName::Supported
            | HeaderName::UserAgent
            | HeaderName::ContentType
            | HeaderName::ContentLength
    )
}

/// Where the call of an INVITE has been, as its headers say.
#[derive(Debug)]
pub(crate) struct CameBy {
    diverted: Vec<NameAddr>,
    history: Vec<NameAddr>,
}

impl CameBy {
    pub(crate) fn of(headers: &Headers) -> Self {
        let read = |name| headers.addresses(name).flatten().take(DIVERSIONS_READ_MAX).collect();
        Self { diverted: read(HeaderName::Diversion), history: read(HeaderName::HistoryInfo) }
    }

    pub(crate) fn diverted(&self) -> Vec<Diverted<'_>> {
        let one = |by: &NameAddr| -> u32 {
            let counter = by.param("counter").and_then(|value| std::str::from_utf8(value).ok());
            counter.and_then(|text| text.trim().parse().ok()).unwrap_or(1)
        };
        let all = self.diverted.iter();
        all.map(|by| Diverted { user: by.uri().user().unwrap_or_default(), times: one(by) })
            .collect()
    }

    pub(crate) fn history(&self) -> Vec<&[u8]> {
        self.history.iter().map(|entry| entry.uri().user().unwrap_or_default()).collect()
    }
}

fn history_of(headers: &Headers) -> Option<History> {
    let entries = addresses(headers, HeaderName::HistoryInfo)?;
    let last = headers.addresses(HeaderName::HistoryInfo).flatten().last()?;
    Some(History::new(entries, last.uri().user().unwrap_or_default(), last.param("index")))
}

/// The entries of a header that are addresses, in order, as one value; `None` where there is none, and where
/// they are too long together: what is left of a chain would tell another story.
fn addresses(headers: &Headers, name: HeaderName) -> Option<FieldValue> {
    let mut text = String::new();
    for entry in headers.all(name) {
        if NameAddr::parse(headers.bytes_of(entry)).is_err() {
            continue;
        }
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(entry.trim());
    }
    text.parse().ok().filter(|_| !text.is_empty())
}

/// The headers of an INVITE to a peer by its address: its trail, its own, where the call has been, and what is to be
/// passed on. Each name stands there once, and the first counts.
pub(super) fn to_peer(
    values: &Values<'_>,
    (own, pass): (&[(FieldName, Template)], &[NameGlob]),
    (passing, trail): (Option<&Passing>, &Trail),
) -> Vec<(FieldName, FieldValue)> {
    let filled = |(name, text): &(FieldName, Template)| {
        Some((name.clone(), text.fill(values)?.parse().ok()?))
    };
    let trail = trail.to_value().map(|value| (FieldName::own(TRAIL_HEADER), value));
    let mut headers: Vec<(FieldName, FieldValue)> =
        trail.into_iter().chain(own.iter().filter_map(filled)).collect();
    let Some(passing) = passing else { return headers };
    let entries = passing.history.as_ref().map(|history| &history.entries);
    let history = [("Diversion", passing.diversion.as_ref()), ("History-Info", entries)];
    let history = history
        .into_iter()
        .filter_map(|(name, value)| Some((FieldName::own(name), value?.clone())));
    for (name, value) in history.chain(passing.passed(pass).cloned()) {
        let same = |own: &FieldName| own.as_str().eq_ignore_ascii_case(name.as_str());
        if headers.len() < EXTRA_HEADERS_MAX && !headers.iter().any(|(own, _)| same(own)) {
            headers.push((name, value));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_by_its_number_could_not_be_passed_anyway() {
        let of_dialog: Vec<&str> = [
            HeaderName::Via,
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
            HeaderName::Contact,
            HeaderName::MaxForwards,
            HeaderName::RecordRoute,
            HeaderName::Allow,
            HeaderName::Supported,
            HeaderName::UserAgent,
            HeaderName::ContentType,
            HeaderName::ContentLength,
        ]
        .into_iter()
        .filter(|name| is_of_dialog(*name))
        .map(HeaderName::as_str)
        .collect();
        assert_eq!(of_dialog.len(), 13);
        for name in of_dialog {
            assert!(name.parse::<FieldName>().is_err(), "{name} is one that may be passed on");
        }
        assert!(!is_of_dialog(HeaderName::Other));
    }
}
