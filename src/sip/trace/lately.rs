//! The lines of the dialogs of which something was noted last, so that those of a message are read once: the messages of
//! a dialog come in clusters, as when it is set up.

use crate::sip::trace::text::Lines;

/// So many dialogs. A rush of others has the lines of one be read again.
const DIALOGS_MAX: usize = 8;

/// The lines of some dialogs, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Lately {
    /// Whose lines stand in each place. In a place that nobody had yet there are none: they will do for any.
    numbers: [u64; DIALOGS_MAX],
    lines: [Lines; DIALOGS_MAX],
    /// The place that is given away next.
    next: usize,
}

impl Lately {
    /// The lines of a dialog, as far as they are read.
    pub(super) fn lines(&mut self, dialog: u64) -> &mut Lines {
        let known = self.numbers.iter().position(|number| *number == dialog);
        let place = known.unwrap_or_else(|| self.give_away(dialog));
        &mut self.lines[place % DIALOGS_MAX]
    }

    fn give_away(&mut self, dialog: u64) -> usize {
        let place = self.next % DIALOGS_MAX;
        self.next = place + 1;
        self.numbers[place] = dialog;
        self.lines[place].clear();
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::trace::text;
    use bytes::BytesMut;

    #[test]
    fn each_dialog_has_its_own_lines_however_many_there_are() {
        let mut lately = Lately::default();
        let of = |dialog: u64| format!("a line of dialog number {dialog}\r\n").into_bytes();
        let mut order: Vec<u64> = (0..3 * DIALOGS_MAX as u64).collect();
        order.extend([0, 1, 0, 20, 1, 23]);
        for dialog in order {
            let mut first = BytesMut::new();
            text::pack_first(&of(dialog), &mut first);
            for other in [dialog, dialog + 1] {
                let mut to = BytesMut::new();
                text::pack(&of(other), (&[&first], lately.lines(dialog)), &mut to);
                assert!(text::unpack(&to, &[&first]) == of(other), "{other} beside {dialog}");
                assert_eq!(to.len() < first.len(), other == dialog, "{other} beside {dialog}");
            }
        }
    }

    #[test]
    fn the_lines_of_the_last_dialogs_are_still_known() {
        let mut lately = Lately::default();
        let mut first = BytesMut::new();
        text::pack_first(b"a line of some length\r\n", &mut first);
        for dialog in 1..=9 {
            text::pack(b"", (&[&first], lately.lines(dialog)), &mut BytesMut::new());
        }
        let known = (1..=9).filter(|dialog| lately.numbers.contains(dialog));
        assert_eq!(known.collect::<Vec<_>>(), (2..=9).collect::<Vec<_>>());
        assert!((2..=9).all(|dialog| !lately.lines(dialog).is_empty()));
        assert!(lately.lines(1).is_empty(), "another took its place");
    }
}
