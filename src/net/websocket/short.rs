//! A short text that came alone, as most do of an agent that speaks in time: it is read where it lies, past the library,
//! which would fill a buffer with zeros, share it and look into it twice for each.

/// What is read at once of a connection whose messages come alone, in bytes: 150 ms of audio at 8 kHz as JSON.
pub(super) const SHORT_BYTES: usize = 2_048;

/// A whole text that is not masked (RFC 6455 §5.2).
const WHOLE_TEXT: u8 = 0x81;

/// The greatest length that the second byte of a frame holds itself.
pub(super) const TINY_BYTES_MAX: usize = 125;

/// Stands there for a length in the next two bytes.
pub(super) const LENGTH_IN_TWO: u8 = 126;

/// The text in `bytes`, if they are one text and nothing else. All that is wrong with others is for the library to say.
pub(super) fn text_alone(bytes: &[u8]) -> Option<&str> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    if first != WHOLE_TEXT {
        return None;
    }
    let (length, text) = if second == LENGTH_IN_TWO {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(*length)), rest)
    } else {
        (usize::from(second), rest)
    };
    // Greater are that byte of one that is masked, and a length in eight bytes.
    let is_whole = text.len() == length && second <= LENGTH_IN_TWO;
    if is_whole { str::from_utf8(text).ok() } else { None }
}

/// The least that a server's message of `length` bytes takes on its connection: what is short takes least in one frame, what
/// is long in two, of which one is tiny.
pub(super) const fn framed_bytes(length: usize) -> usize {
    const SHORT_BYTES_MAX: usize = u16::MAX as usize;
    let heads = if length <= TINY_BYTES_MAX {
        2
    } else if length <= SHORT_BYTES_MAX {
        4
    } else {
        6
    };
    heads + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let head = match u8::try_from(length) {
            Ok(tiny @ 0..=125) => vec![0x81, tiny],
            _ => [&[0x81, 126], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
        };
        [head, vec![b'x'; length]].concat()
    }

    #[test]
    fn one_text_alone_is_read_and_nothing_else() {
        for length in [0, 1, 125, 126, 127, 300, 2_044] {
            let frame = frame(length);
            assert_eq!(framed_bytes(length), frame.len());
            assert_eq!(text_alone(&frame).map(str::len), Some(length));
            for count in 0..frame.len() {
                assert_eq!(text_alone(&frame[..count]), None, "the beginning of a text");
            }
            assert_eq!(text_alone(&[&frame[..], &[0x81]].concat()), None, "and of another");
            assert_eq!(text_alone(&[&frame[..], &frame].concat()), None, "two of them");
        }
    }

    #[test]
    fn what_is_not_a_plain_text_is_for_the_library() {
        let others: [&[u8]; 11] = [
            &[0x01, 1, b'a'],                     // the first part of one
            &[0x80, 1, b'a'],                     // its last
            &[0x82, 1, b'a'],                     // bytes
            &[0x88, 0],                           // the end
            &[0x89, 0],                           // a ping
            &[0xc1, 1, b'a'],                     // an extension
            &[0x81, 0x81, 0, 0, 0, 0, b'a'],      // masked
            &[0x81, 0x80, 0, 0, 0, 0],            // masked, without text
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 0], // a length in eight bytes
            &[0x81, 1, 0xff],                     // not UTF-8
            &[],
        ];
        for other in others {
            assert_eq!(text_alone(other), None, "{other:?}");
        }
        let masked_that_fits = [&[0x81, 0x82][..], &[0; 0x82]].concat();
        assert_eq!(text_alone(&masked_that_fits), None);
        let eight = [&[0x81, 127][..], &[b'x'; 127]].concat();
        assert_eq!(text_alone(&eight), None);
    }

    #[test]
    fn no_message_takes_less_than_is_counted_in_whatever_frames_it_comes() {
        let head = |length: usize| match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        for length in (0..400).chain(65_400..65_800).chain(131_000..131_200).chain([1_000_000]) {
            let in_two = |first: usize| head(first) + head(length - first);
            let firsts = (0..=length.min(126)).chain([length / 2, length.min(0xffff), length]);
            let least = firsts.map(in_two).chain([head(length)]).min().expect("some");
            assert!(framed_bytes(length) <= length + least, "{length}");
        }
        // A tiny one and one that just has no need of eight bytes.
        assert_eq!([0xffff, 0x1_0000].map(framed_bytes), [0xffff + 4, 0x1_0000 + 6]);
    }
}
