//! What is wrong about a transfer by the carrier in a switch with a fault.

use crate::call::input::LegInput;
use crate::certify::fault::header;
use crate::certify::fault::with_user;
use crate::certify::subject::Subject;

fn refer_to(text: String, edit: impl Fn(&str) -> String) -> Option<String> {
    if !text.starts_with("REFER ") {
        return Some(text);
    }
    Some(header(&text, "Refer-To", |value| Some(edit(value))))
}

/// The number is named as nobody can dial it.
pub(super) fn number_without_prefix(text: String, _: &Subject) -> Option<String> {
    refer_to(text, |value| with_user(value, |user| user.trim_start_matches(['+', '0']).to_owned()))
}

/// The number is named at the carrier's address.
pub(super) fn at_an_address(text: String, subject: &Subject) -> Option<String> {
    refer_to(text, |value| {
        let user = value.split_once('@').map_or(value, |(user, _)| user);
        format!("{user}@{}>", subject.edge().ip())
    })
}

/// The number is not said to be one.
pub(super) fn without_user_phone(text: String, _: &Subject) -> Option<String> {
    refer_to(text, |value| value.replace(";user=phone", ""))
}

/// The carrier's word on how a transfer stands is taken for another one.
pub(super) fn misread(input: LegInput, (said, taken_for): (u16, u16)) -> LegInput {
    match input {
        LegInput::ReferProgressed { status } if status == said => {
            LegInput::ReferProgressed { status: taken_for }
        }
        input => input,
    }
}

/// The carrier's refusal is taken for its consent.
pub(super) fn refusal_misread(input: LegInput) -> LegInput {
    match input {
        LegInput::ReferFailed { .. } => LegInput::ReferProgressed { status: 202 },
        input => input,
    }
}
