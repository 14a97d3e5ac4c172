//! `Headers`: the header fields of a readable message, its core fields already typed.

use crate::sip::message::header::BadValue;
use crate::sip::message::header::contact::Contact;
use crate::sip::message::header::content_type::ContentType;
use crate::sip::message::header::cseq::CSeq;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::header::rack::RAck;
use crate::sip::message::header::reason::Reason;
use crate::sip::message::header::replaces::Replaces;
use crate::sip::message::header::retry_after::RetryAfter;
use crate::sip::message::header::session_expires::MinSe;
use crate::sip::message::header::session_expires::SessionExpires;
use crate::sip::message::header::token_list::TokenList;
use crate::sip::message::header::via::Via;
use crate::sip::message::name::HeaderName;
use crate::sip::message::span::Span;
use crate::sip::message::table::HeaderTable;
use crate::sip::message::table::Values;
use bytes::Bytes;

/// The header fields of a message. Via, From, To, Call-ID and CSeq are there and readable.
#[derive(Clone, Debug)]
pub struct Headers {
    pub(crate) table: HeaderTable,
    pub(crate) top_via: Via,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: Span,
    pub(crate) cseq: CSeq,
    pub(crate) max_forwards: Option<u8>,
}

impl Headers {
    /// The topmost Via entry.
    #[must_use]
    pub const fn top_via(&self) -> &Via {
        &self.top_via
    }

    /// From.
    #[must_use]
    pub const fn from(&self) -> &NameAddr {
        &self.from
    }

    /// To.
    #[must_use]
    pub const fn to(&self) -> &NameAddr {
        &self.to
    }

    /// Call-ID, compared byte for byte (RFC 3261 §8.1.1.4).
    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        self.call_id.of(self.table.raw())
    }

    /// CSeq.
    #[must_use]
    pub const fn cseq(&self) -> &CSeq {
        &self.cseq
    }

    /// Max-Forwards, when it is there.
    #[must_use]
    pub const fn max_forwards(&self) -> Option<u8> {
        self.max_forwards
    }

    /// All header lines.
    #[must_use]
    pub const fn table(&self) -> &HeaderTable {
        &self.table
    }

    /// The value of the first line with this name, as it stands.
    #[must_use]
    pub fn first(&self, name: HeaderName) -> Option<&[u8]> {
        self.table.first(name)
    }

    /// All values of this name in order; the lines of list fields are split at top-level commas.
    #[must_use]
    pub fn all(&self, name: HeaderName) -> Values<'_> {
        self.table.all(name)
    }

    /// The values of all lines whose name is spelt `name`, without case.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.table.named(name)
    }

    /// Every Via entry in order, read only now.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via, BadValue>> {
        self.all(HeaderName::Via).map(|entry| Via::parse(self.bytes_of(entry)))
    }

    /// The same below the topmost one, which [is read](Self::top_via) already.
    pub fn lower_vias(&self) -> impl Iterator<Item = Result<Via, BadValue>> {
        self.all(HeaderName::Via).skip(1).map(|entry| Via::parse(self.bytes_of(entry)))
    }

    /// Every Contact entry in order.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact, BadValue>> {
        self.all(HeaderName::Contact).map(|entry| Contact::parse(self.bytes_of(entry)))
    }

    /// The first Contact that is an address; `None` when there is none or it cannot be read.
    #[must_use]
    pub fn contact(&self) -> Option<NameAddr> {
        self.addresses(HeaderName::Contact).next()?.ok()
    }

    /// Every Route entry in order.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr, BadValue>> {
        self.addresses(HeaderName::Route)
    }

    /// Every Record-Route entry in the order of the message.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr, BadValue>> {
        self.addresses(HeaderName::RecordRoute)
    }

    /// Every address of a header field such as Diversion, P-Asserted-Identity, Remote-Party-ID,
    /// Path or Refer-To.
    pub fn addresses(&self, name: HeaderName) -> impl Iterator<Item = Result<NameAddr, BadValue>> {
        self.all(name).map(|entry| NameAddr::parse(self.bytes_of(entry)))
    }

    /// Refer-To (RFC 3515).
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn refer_to(&self) -> Result<Option<NameAddr>, BadValue> {
        self.addresses(HeaderName::ReferTo).next().transpose()
    }

    /// The tokens of Require, Supported, Unsupported, Allow and the like.
    #[must_use]
    pub const fn tokens(&self, name: HeaderName) -> TokenList<'_> {
        TokenList::new(self, name)
    }

    /// Content-Type.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn content_type(&self) -> Result<Option<ContentType<'_>>, BadValue> {
        self.first(HeaderName::ContentType).map(ContentType::parse).transpose()
    }

    /// Session-Expires (RFC 4028).
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, BadValue> {
        self.first(HeaderName::SessionExpires).map(SessionExpires::parse).transpose()
    }

    /// Min-SE (RFC 4028).
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn min_se(&self) -> Result<Option<MinSe>, BadValue> {
        self.first(HeaderName::MinSe).map(MinSe::parse).transpose()
    }

    /// Retry-After.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn retry_after(&self) -> Result<Option<RetryAfter>, BadValue> {
        self.first(HeaderName::RetryAfter).map(RetryAfter::parse).transpose()
    }

    /// RAck of a PRACK (RFC 3262).
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn rack(&self) -> Result<Option<RAck>, BadValue> {
        self.first(HeaderName::RAck).map(|value| RAck::parse(&self.bytes_of(value))).transpose()
    }

    /// Replaces (RFC 3891).
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn replaces(&self) -> Result<Option<Replaces>, BadValue> {
        self.first(HeaderName::Replaces).map(Replaces::parse).transpose()
    }

    /// Every Reason entry that can be read (RFC 3326).
    pub fn reasons(&self) -> impl Iterator<Item = Reason<'_>> {
        self.all(HeaderName::Reason).filter_map(|entry| Reason::parse(entry).ok())
    }

    /// `part`, which must come from this message, sharing its memory.
    #[must_use]
    pub fn bytes_of(&self, part: &[u8]) -> Bytes {
        self.table.slice(Span::within(self.table.raw(), part))
    }
}
