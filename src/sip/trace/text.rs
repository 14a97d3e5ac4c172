//! The text of messages as a dialog keeps it: lines that an earlier message has are written as their place in it.
//!
//! Messages of a dialog say much the same: the Via, From and Call-ID of a request are in each answer to it, a Contact is in
//! all that its user agent says.

use crate::types::id_map::mix;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr_iter;
use memchr::memrchr;
use smallvec::SmallVec;

/// Messages in which lines are looked for: the first of the dialog, which stay while it does.
pub(super) const SOURCES_MAX: usize = 7;
/// Lines that begin there, in each of these: a peer must not have us search for long.
const SOURCE_BYTES_MAX: usize = 2_048;
/// So many in all, for the same reason.
const SOURCE_LINES_MAX: usize = 96;
/// Lines of a message that are looked for, for the same reason.
const LINES_MAX: usize = 64;
/// Shorter ones are written.
const LINE_BYTES_MIN: usize = 12;

/// Set in the first byte of a copied piece. Not set: two bytes of length, and the bytes of a plain one.
const COPIED: u8 = 0x80;
const PLAIN_BYTES_MAX: usize = 0x7fff;
/// 12 bits are for where a copied piece begins, and 12 for its length.
const PLACE_BITS: u32 = 12;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

/// A piece of what is kept of an earlier message.
#[derive(Clone, Copy, Debug)]
struct Place {
    source: usize,
    from: usize,
    length: usize,
}

impl Place {
    const fn end(&self) -> usize {
        self.from + self.length
    }

    fn write(&self, to: &mut BytesMut) {
        let (source, from) = ((self.source as u32) << (2 * PLACE_BITS), self.from as u32);
        let word = u32::from(COPIED) << 24 | source | from << PLACE_BITS | self.length as u32;
        to.extend_from_slice(&word.to_be_bytes());
    }

    fn read(word: [u8; 4]) -> Self {
        let word = u32::from_be_bytes(word);
        Self {
            source: (word >> (2 * PLACE_BITS) & u32::from(!COPIED)) as usize,
            from: (word >> PLACE_BITS & PLACE_MASK) as usize,
            length: (word & PLACE_MASK) as usize,
        }
    }

    fn of<'s>(&self, sources: &[&'s [u8]]) -> &'s [u8] {
        let source = sources.get(self.source).copied().unwrap_or_default();
        source.get(self.from..self.end()).unwrap_or_default()
    }
}

/// What is kept of a message, piece by piece.
enum Piece<'k> {
    Plain(&'k [u8]),
    Copied(Place),
}

impl<'k> Piece<'k> {
    /// The first piece, and what is behind it.
    fn first(kept: &'k [u8]) -> Option<(Self, &'k [u8])> {
        let ([first, second], behind) = kept.split_first_chunk()?;
        if first & COPIED != 0 {
            let (word, later) = kept.split_first_chunk()?;
            return Some((Self::Copied(Place::read(*word)), later));
        }
        let length = usize::from(u16::from_be_bytes([*first, *second]));
        let (plain, later) = behind.split_at_checked(length)?;
        Some((Self::Plain(plain), later))
    }

    /// The text that it stands for.
    fn text(&self, sources: &[&'k [u8]]) -> &'k [u8] {
        match self {
            Self::Plain(plain) => plain,
            Self::Copied(place) => place.of(sources),
        }
    }
}

/// A line of an earlier message, written there.
#[derive(Clone, Copy, Debug)]
struct Line {
    source: u8,
    from: u16,
    length: u16,
}

impl Line {
    fn place(self) -> Place {
        let (source, from) = (usize::from(self.source), usize::from(self.from));
        Place { source, from, length: usize::from(self.length) }
    }
}

/// The lines that are looked for: those of a dialog's first messages, read once while they are kept.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// A mark of each line: all are searched at once for that of another.
    marks: SmallVec<[u8; SOURCE_LINES_MAX]>,
    lines: SmallVec<[Line; SOURCE_LINES_MAX]>,
    /// Messages whose lines these are.
    sources: usize,
}

impl Lines {
    /// Forgets them: another dialog's are to be read.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.lines.clear();
        self.sources = 0;
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Reads what is kept of the dialog's first messages, as far as it is not read yet.
    fn read(&mut self, sources: &[&[u8]]) {
        let known = self.sources;
        for (source, kept) in sources.iter().enumerate().take(SOURCES_MAX).skip(known) {
            let mut rest = *kept;
            while let Some((piece, later)) = Piece::first(rest) {
                if let Piece::Plain(plain) = piece {
                    let from = kept.len() - later.len() - plain.len();
                    self.add((source, from), plain);
                }
                rest = later;
            }
            self.sources = source + 1;
        }
    }

    fn add(&mut self, (source, mut from): (usize, usize), plain: &[u8]) {
        let mut rest = plain;
        while let Some((line, later)) = next_line(rest) {
            if from >= SOURCE_BYTES_MAX || self.lines.len() >= SOURCE_LINES_MAX {
                return;
            }
            if let Some(mark) = mark_of(line) {
                let (source, from, length) = (source as u8, from as u16, line.len() as u16);
                self.marks.push(mark);
                self.lines.push(Line { source, from, length });
            }
            from += line.len();
            rest = later;
        }
    }

    /// Where the line with this mark stands in the sources.
    fn find(&self, (mark, line): (u8, &[u8]), sources: &[&[u8]]) -> Option<Place> {
        memchr_iter(mark, &self.marks).find_map(|at| {
            let place = self.lines.get(at)?.place();
            (place.length == line.len() && place.of(sources) == line).then_some(place)
        })
    }
}

/// What tells lines apart at a glance, of one that is neither too short nor too long. It is made of its last bytes: those
/// of lines with the same name differ there, if anywhere.
fn mark_of(line: &[u8]) -> Option<u8> {
    let is_sought = (LINE_BYTES_MIN..=SOURCE_BYTES_MAX).contains(&line.len());
    let tail = line.last_chunk().filter(|_| is_sought)?;
    let [mark, ..] = mix(u64::from_be_bytes(*tail) ^ line.len() as u64).to_be_bytes();
    Some(mark)
}

/// Room that a message needs at most.
pub(super) const fn room(message: &[u8]) -> usize {
    message.len() + 2 * (2 + message.len() / PLAIN_BYTES_MAX)
}

/// Writes `message` behind `to` as the first of its dialog.
pub(super) fn pack_first(message: &[u8], to: &mut BytesMut) {
    for piece in message.chunks(PLAIN_BYTES_MAX) {
        to.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        to.extend_from_slice(piece);
    }
}

/// Writes `message` behind `to`. `sources` is what is kept of the dialog's first messages, [`SOURCES_MAX`] at most, and
/// `lines` are theirs, as many as are read: those of another dialog will not do.
pub(super) fn pack(message: &[u8], (sources, lines): (&[&[u8]], &mut Lines), to: &mut BytesMut) {
    lines.read(sources);
    let lines = &*lines;
    let (mut rest, mut plain) = (message, 0);
    let mut copied: Option<Place> = None;
    let mut looks = if lines.is_empty() { 0 } else { LINES_MAX };
    while looks > 0 || copied.is_some() {
        if let Some(place) = &mut copied {
            let more = behind(place, rest, sources);
            if more > 0 {
                place.length += more;
                rest = rest.get(more..).unwrap_or_default();
                continue;
            }
        }
        let Some((line, later)) = next_line(rest) else { break };
        if let Some(place) = find(line, (lines, sources), &mut looks) {
            end_plain(&mut plain, message, rest, to);
            if let Some(before) = copied.replace(place) {
                before.write(to);
            }
        } else {
            if let Some(before) = copied.take() {
                before.write(to);
            }
            plain += line.len();
        }
        rest = later;
    }
    if let Some(last) = copied {
        last.write(to);
    }
    plain += rest.len();
    end_plain(&mut plain, message, &[], to);
}

/// The text of what [`pack`] wrote beside the same sources.
pub(super) fn unpack(kept: &[u8], sources: &[&[u8]]) -> Bytes {
    let pieces = || std::iter::successors(Piece::first(kept), |&(_, rest)| Piece::first(rest));
    let texts = || pieces().map(move |(piece, _)| piece.text(sources));
    let mut text = Vec::with_capacity(texts().map(<[u8]>::len).sum());
    texts().for_each(|piece| text.extend_from_slice(piece));
    text.into()
}

/// A line with its end, and what is behind it.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    text.split_at_checked(length).filter(|(line, _)| !line.is_empty())
}

/// How much of `rest`, line by line, stands behind a piece that is copied. All of it is compared at once: most lines of a
/// message stand where they stood in an earlier one.
fn behind(place: &Place, rest: &[u8], sources: &[&[u8]]) -> usize {
    let source = sources.get(place.source).copied().unwrap_or_default();
    let later = source.get(place.end()..).unwrap_or_default();
    let most = (PLACE_MASK as usize).saturating_sub(place.length).min(later.len());
    let same = alike(rest, later.get(..most).unwrap_or_default());
    if same == rest.len() {
        return same;
    }
    memrchr(b'\n', rest.get(..same).unwrap_or_default()).map_or(0, |at| at + 1)
}

/// With how many bytes both begin.
fn alike(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(ours, theirs)| ours == theirs).count();
    let (one, other) = (one.get(whole..), other.get(whole..));
    let bytes = one.unwrap_or_default().iter().zip(other.unwrap_or_default());
    whole + bytes.take_while(|(ours, theirs)| ours == theirs).count()
}

fn find(line: &[u8], (lines, sources): (&Lines, &[&[u8]]), looks: &mut usize) -> Option<Place> {
    let mark = mark_of(line).filter(|_| *looks > 0)?;
    *looks -= 1;
    lines.find((mark, line), sources)
}

/// Writes the `plain` bytes of `message` that end where `rest` begins.
fn end_plain(plain: &mut usize, message: &[u8], rest: &[u8], to: &mut BytesMut) {
    let end = message.len() - rest.len();
    let begin = end - std::mem::take(plain);
    pack_first(message.get(begin..end).unwrap_or_default(), to);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs messages as a dialog does, and gives what is kept of each: the same whether the lines of those before are
    /// known or read for each.
    fn packed(messages: &[Vec<u8>]) -> Vec<Bytes> {
        let mut kept: Vec<Bytes> = Vec::new();
        let mut known = Lines::default();
        for message in messages {
            let to = packed_beside(message, &sources(&kept), &mut known);
            assert!(to.len() <= room(message), "{} of {}", to.len(), message.len());
            assert!(to == packed_beside(message, &sources(&kept), &mut Lines::default()));
            kept.push(to.freeze());
        }
        kept
    }

    fn packed_beside(message: &[u8], sources: &[&[u8]], lines: &mut Lines) -> BytesMut {
        let mut to = BytesMut::new();
        pack(message, (sources, lines), &mut to);
        to
    }

    fn sources(kept: &[Bytes]) -> Vec<&[u8]> {
        kept.iter().take(SOURCES_MAX).map(|bytes| &**bytes).collect()
    }

    fn assert_same(messages: &[Vec<u8>]) -> usize {
        let kept = packed(messages);
        for (message, bytes) in messages.iter().zip(&kept) {
            assert!(unpack(bytes, &sources(&kept)) == *message, "{message:?}");
        }
        kept.iter().map(Bytes::len).sum()
    }

    #[test]
    fn a_call_takes_little_more_than_what_its_messages_do_not_share() {
        const TO: &str = "To: <sip:+15550100@127.0.0.1:5060>";
        const CONTACT: &str =
            "Contact: <sip:127.0.0.1:5060>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n";
        const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
            m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
        let from = "From: <sip:+15550199@127.0.0.1:5070>;tag=7f3a90c1";
        let id = "Call-ID: 1-4711@127.0.0.1";
        let head = |branch: u8, to: &str, cseq: &str| {
            format!(
                "Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-4711-1-{branch}\r\n{from}\r\n{TO}{to}\r\n{id}\r\nCSeq: {cseq}\r\n"
            )
        };
        let (tag, peer) =
            (";tag=c0ffee77", "Contact: <sip:a@127.0.0.1:5070>\r\nMax-Forwards: 70\r\n");
        let messages = [
            format!(
                "INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\n{}{peer}\r\n{SDP}",
                head(0, "", "1 INVITE")
            ),
            format!("SIP/2.0 100 Trying\r\n{}\r\n", head(0, "", "1 INVITE")),
            format!("SIP/2.0 180 Ringing\r\n{}{CONTACT}\r\n", head(0, tag, "1 INVITE")),
            format!("SIP/2.0 200 OK\r\n{}{CONTACT}\r\n{SDP}", head(0, tag, "1 INVITE")),
            format!("ACK sip:127.0.0.1:5060 SIP/2.0\r\n{}{peer}\r\n", head(5, tag, "1 ACK")),
            format!("BYE sip:127.0.0.1:5060 SIP/2.0\r\n{}{peer}\r\n", head(7, tag, "2 BYE")),
            format!("SIP/2.0 200 OK\r\n{}\r\n", head(7, tag, "2 BYE")),
        ];
        let messages = messages.map(String::into_bytes);
        let whole: usize = messages.iter().map(Vec::len).sum();
        let kept = assert_same(&messages);
        assert!(kept * 2 < whole, "{kept} of {whole} bytes");
    }

    #[test]
    fn whatever_is_packed_comes_out_as_it_was() {
        let lines: [&[u8]; 9] = [
            b"\n",
            b"\r\n",
            b"a line of some length\r\n",
            b"another line of it\n",
            &[0x80; 20],
            &[0xff; 13],
            b"no end of a line",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n",
            &[b'x'; 900],
        ];
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..2_000 {
            let messages: Vec<Vec<u8>> = (0..next(10))
                .map(|_| (0..next(14)).flat_map(|_| lines[next(lines.len())].to_vec()).collect())
                .collect();
            assert_same(&messages);
        }
        // The longest that a socket takes, and lines at the bounds.
        let long = vec![b'y'; 65_535];
        let many = b"twelve bytes\n".repeat(5_000);
        let far = [vec![b'z'; 2_040], b"over the bound of a source\r\n".to_vec()].concat();
        assert_same(&[far.clone(), long.clone(), long, many.clone(), many, far]);
    }

    #[test]
    fn no_peer_has_us_look_for_more_than_some_lines() {
        let line = |number: usize| format!("line number {number:04}\n").into_bytes();
        let plain = |message: &[u8]| {
            let mut to = BytesMut::new();
            pack_first(message, &mut to);
            to
        };
        let lines_of = |sources: &[&[u8]]| {
            let mut lines = Lines::default();
            lines.read(sources);
            lines.lines.len()
        };
        // Neither in more lines, nor in longer messages, nor for more of them.
        let source = plain(&(0..1_000).flat_map(line).collect::<Vec<_>>());
        assert_eq!(lines_of(&[&source]), SOURCE_LINES_MAX);
        let long = plain(
            &(0..4).flat_map(|_| [vec![b'-'; 1_023], vec![b'\n']].concat()).collect::<Vec<_>>(),
        );
        assert_eq!(lines_of(&[&long]), 2);
        let others = (5_000..5_000 + LINES_MAX).flat_map(line);
        let message: Vec<u8> = others.chain(line(7)).collect();
        let to = packed_beside(&message, &[&source], &mut Lines::default());
        assert_eq!(to.len(), message.len() + 2, "the last line was not looked for");
        assert!(unpack(&to, &[&source]) == message);
        let message: Vec<u8> = (5_001..5_000 + LINES_MAX).flat_map(line).chain(line(7)).collect();
        let to = packed_beside(&message, &[&source], &mut Lines::default());
        assert_eq!(to.len(), message.len() + 2 - line(7).len() + 4, "it was");
        assert!(unpack(&to, &[&source]) == message);
    }

    #[test]
    fn the_lines_of_a_message_are_read_once() {
        let first: &[u8] = b"a line of some length\r\n";
        let mut kept = BytesMut::new();
        pack_first(first, &mut kept);
        let mut lines = Lines::default();
        lines.read(&[&kept]);
        lines.read(&[&kept]);
        assert_eq!((lines.lines.len(), lines.sources), (1, 1));
        // Of a message that says the same nothing is left to be read.
        let second = packed_beside(first, &[&kept], &mut lines);
        assert_eq!(second.len(), 4);
        lines.read(&[&kept, &second]);
        assert_eq!((lines.lines.len(), lines.sources), (1, 2));
    }

    #[test]
    fn what_stands_as_it_stood_is_one_piece_up_to_the_line_that_differs() {
        let first: &[u8] =
            b"a line of some length\r\nanother line of it\r\nand one more of these\r\nits end";
        let mut kept = BytesMut::new();
        pack_first(first, &mut kept);
        // All of it; from the second line on; and behind that what only begins as the last line does.
        for (from, more, length) in [(0, "", 4), (23, "", 4), (23, "s", 4 + 2 + "its ends".len())] {
            let message = [first.get(from..).unwrap(), more.as_bytes()].concat();
            let to = packed_beside(&message, &[&kept], &mut Lines::default());
            assert_eq!(to.len(), length, "{from} {more}");
            assert!(unpack(&to, &[&kept]) == message, "{from} {more}");
        }
        for length in 0..first.len() {
            let other = [first.get(..length).unwrap(), b"\0"].concat();
            assert_eq!(alike(first, &other), length);
            assert_eq!(alike(&other, first), length);
            assert_eq!(alike(first, first.get(..length).unwrap()), length);
        }
    }

    #[test]
    fn lines_with_the_same_mark_are_told_apart() {
        let line = |byte: u8| [&[byte][..], b" ends as the others do\r\n"].concat();
        let messages = [line(b'a'), line(b'b'), line(b'c'), [line(b'c'), line(b'a')].concat()];
        assert_eq!(mark_of(&messages[0]), mark_of(&messages[2]));
        assert_same(&messages);
        assert_eq!(packed(&messages).last().map(Bytes::len), Some(8));
    }
}
