//! The session descriptions a simulated carrier writes, and what it reads in ours.

use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpSuite;
use std::net::SocketAddr;

/// The keys of a carrier's media, of 30 and of 28 bytes; nobody encrypts with them.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const SHORT_KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVuCg==";
/// The payload types of G.711, and the telephone-event of a carrier's own offers.
const CODECS: [&str; 2] = ["0", "8"];
const EVENTS: &str = "101";

/// A session description of the carrier's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Where it takes media.
    pub media: SocketAddr,
    /// Which way media flows, as the carrier sees it: `sendrecv` and such.
    pub direction: &'static str,
    /// RTP/SAVP with a key of this suite.
    pub suite: Option<SrtpSuite>,
    /// The tag of the key, which an answer has of its offer (RFC 4568 §5.1.2).
    pub tag: String,
    /// Payload types of codecs, in order.
    pub codecs: Vec<String>,
    /// Payload type of telephone-event.
    pub events: String,
    /// How much audio it wants in a packet, in ms.
    pub ptime: u8,
    /// The version of the description.
    pub version: u32,
    /// The connection address of RFC 2543 holds: 0.0.0.0.
    pub null_address: bool,
    /// A fax instead of audio: T.38.
    pub is_fax: bool,
}

impl Description {
    /// An offer of both G.711 codecs.
    #[must_use]
    pub fn offer(media: SocketAddr, suite: Option<SrtpSuite>) -> Self {
        Self {
            media,
            direction: "sendrecv",
            suite,
            tag: "1".to_owned(),
            codecs: CODECS.map(str::to_owned).to_vec(),
            events: EVENTS.to_owned(),
            ptime: 20,
            version: 1,
            null_address: false,
            is_fax: false,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let (ip, port, version) = (self.media.ip(), self.media.port(), self.version);
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        let connection = if self.null_address { "0.0.0.0".to_owned() } else { ip.to_string() };
        if self.is_fax {
            return format!(
                "v=0\r\no=carrier 7 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\n\
                 t=0 0\r\nm=image {port} udptl t38\r\n"
            );
        }
        let protocol = if self.suite.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
        let (codecs, events) = (self.codecs.join(" "), &self.events);
        let mut text = format!(
            "v=0\r\no=carrier 7 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {connection}\r\n\
             t=0 0\r\nm=audio {port} {protocol} {codecs} {events}\r\n\
             a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-16\r\n"
        );
        if let Some(suite) = self.suite {
            let is_long = suite.key_bytes() + suite.salt_bytes() == SRTP_KEY_BYTES_MAX;
            let (tag, key) = (&self.tag, if is_long { KEY } else { SHORT_KEY });
            text.push_str(&format!("a=crypto:{tag} {} inline:{key}\r\n", suite.as_str()));
        }
        text.push_str(&format!("a=ptime:{}\r\na={}\r\n", self.ptime, self.direction));
        text
    }
}

/// What a carrier sees in a description of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The protocol of the audio stream.
    pub protocol: String,
    /// The port of the audio stream.
    pub port: u16,
    /// Its payload types that are G.711, in order.
    pub codecs: Vec<String>,
    /// The payload type of telephone-event.
    pub events: Option<String>,
    /// How much audio it wants in a packet, in ms.
    pub ptime: Option<u8>,
    /// The direction of its attributes; `sendrecv` where none stands.
    pub direction: String,
    /// Its first key: tag and suite.
    pub key: Option<(String, SrtpSuite)>,
}

impl Seen {
    /// Reads a description; `None` where it has no audio.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let audio = text.lines().find_map(|line| line.strip_prefix("m=audio "))?;
        let mut words = audio.split_whitespace();
        let port = words.next()?.parse().ok()?;
        let protocol = words.next()?.to_owned();
        let codecs = words.filter(|word| CODECS.contains(word)).map(str::to_owned).collect();
        let event = |line: &str| {
            let (payload, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            name.starts_with("telephone-event").then(|| payload.to_owned())
        };
        let direction =
            |line: &&str| ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"].contains(line);
        Some(Self {
            protocol,
            port,
            codecs,
            events: text.lines().find_map(event),
            ptime: text.lines().find_map(|line| line.strip_prefix("a=ptime:")?.parse().ok()),
            direction: text
                .lines()
                .find(direction)
                .map_or("sendrecv", |line| line.trim_start_matches("a="))
                .to_owned(),
            key: text.lines().find_map(key),
        })
    }

    /// The carrier's answer to it: the first codec it has.
    #[must_use]
    pub fn answer(&self, media: SocketAddr) -> Description {
        let events = self.events.clone().unwrap_or_else(|| EVENTS.to_owned());
        let first = self.codecs.first().cloned().unwrap_or_else(|| CODECS[0].to_owned());
        let key = self.key.clone().filter(|_| self.protocol == "RTP/SAVP");
        // RFC 3264 §6.1: who is held sends nothing.
        let direction = match self.direction.as_str() {
            "sendonly" => "recvonly",
            "recvonly" => "sendonly",
            "inactive" => "inactive",
            _ => "sendrecv",
        };
        let fresh = Description::offer(media, None);
        let answer = Description { codecs: vec![first], events, direction, ..fresh };
        match key {
            Some((tag, suite)) => Description { tag, suite: Some(suite), ..answer },
            None => answer,
        }
    }
}

/// Tag and suite of a line with a key.
fn key(line: &str) -> Option<(String, SrtpSuite)> {
    let mut words = line.strip_prefix("a=crypto:")?.split_whitespace();
    let tag = words.next()?.to_owned();
    Some((tag, SrtpSuite::from_name(words.next()?.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let media: SocketAddr = "192.0.2.9:4000".parse().unwrap();
        let offer = Description::offer(media, Some(SrtpSuite::AesCm128HmacSha1_32));
        let seen = Seen::of(offer.text().as_bytes()).unwrap();
        assert_eq!((seen.port, seen.protocol.as_str()), (4000, "RTP/SAVP"));
        assert_eq!(seen.key, Some(("1".to_owned(), SrtpSuite::AesCm128HmacSha1_32)));
        assert_eq!((seen.codecs.len(), seen.events.as_deref()), (2, Some("101")));
        assert_eq!(seen.direction, "sendrecv");
        assert_eq!(seen.answer(media).codecs, ["0"]);
        for (offered, answered) in [("sendrecv", "sendrecv"), ("sendonly", "recvonly")] {
            let seen = Seen { direction: offered.to_owned(), ..seen.clone() };
            assert_eq!(seen.answer(media).direction, answered);
        }
    }
}
