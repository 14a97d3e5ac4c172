//! Session descriptions: a byte-tolerant grammar, and offer/answer into a `MediaPlan`.

mod attribute;
#[cfg(test)]
mod codec_tests;
mod crypto;
mod exercise;
mod model;
mod negotiate;
mod offered;
mod parse;
mod plan;
#[cfg(test)]
mod srtp_tests;
mod write;

pub use crate::sdp::attribute::Connection;
pub use crate::sdp::attribute::RtpMap;
pub use crate::sdp::exercise::exercise;
pub use crate::sdp::model::Line;
pub use crate::sdp::model::Media;
pub use crate::sdp::model::Section;
pub use crate::sdp::model::SessionDescription;
pub use crate::sdp::negotiate::Judged;
pub use crate::sdp::negotiate::accept;
pub use crate::sdp::negotiate::answer;
pub use crate::sdp::negotiate::judge;
pub use crate::sdp::negotiate::plan;
pub use crate::sdp::offered::Offered;
pub use crate::sdp::parse::ParseError;
pub use crate::sdp::parse::ParseErrorKind;
pub use crate::sdp::parse::parse;
pub use crate::sdp::plan::AnswerOrder;
pub use crate::sdp::plan::Capabilities;
pub use crate::sdp::plan::Direction;
pub use crate::sdp::plan::LocalMedia;
pub use crate::sdp::plan::MediaCrypto;
pub use crate::sdp::plan::MediaPlan;
pub use crate::sdp::plan::NegotiationError;
pub use crate::sdp::plan::SrtpTerms;
pub use crate::sdp::write::answer_without_media;
pub use crate::sdp::write::is_revision;
pub use crate::sdp::write::offer;
