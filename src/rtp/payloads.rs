//! `Payloads`: the rooms of the packets that wait in the jitter buffers of a thread. What they take goes by how much waits in
//! all of them, and not by how much may wait in each.
#![warn(clippy::indexing_slicing)]

use crate::types::cache::fetch;
use crate::types::limit::JITTER_PACKED_SHARES;
use crate::types::limit::JITTER_SLOTS;
use std::mem::MaybeUninit;

/// Bytes of a payload in one room: 20 ms of G.711, and what is left of three lines of a processor's cache.
const ROOM_BYTES: usize = 188;
/// Rooms of a sheet.
const SHEET_ROOMS: usize = 21;
/// Bits of a place that say which room of its sheet it is.
const ROOM_BITS: u32 = 5;
/// Most rooms that one buffer takes: one for each packet, and a further one for two shares of what it may keep.
const BUFFER_ROOMS: usize = JITTER_SLOTS + (JITTER_PACKED_SHARES - JITTER_SLOTS) / 2;
const _: () = assert!(SHEET_ROOMS <= 1 << ROOM_BITS);

/// A part of a payload.
#[repr(align(64))]
struct Room {
    bytes: [u8; ROOM_BYTES],
    /// Where the part after it is.
    next: Place,
}

/// Rooms on a page of memory that is their own.
#[repr(align(4096))]
pub struct Sheet([Room; SHEET_ROOMS]);

impl Sheet {
    const BLANK: Self =
        Self([const { Room { bytes: [0; ROOM_BYTES], next: Place::NONE } }; SHEET_ROOMS]);
}

/// Where a payload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// Where one without bytes begins.
    pub(super) const NONE: Self = Self(u32::MAX);

    const fn new(sheet: usize, room: u32) -> Self {
        Self((sheet as u32) << ROOM_BITS | room)
    }

    const fn sheet(self) -> usize {
        (self.0 >> ROOM_BITS) as usize
    }

    const fn room(self) -> u32 {
        self.0 & ((1 << ROOM_BITS) - 1)
    }
}

/// How many rooms so many bytes take.
pub(super) const fn rooms_of(length: usize) -> usize {
    length.div_ceil(ROOM_BYTES)
}

/// What waits in the jitter buffers of a thread, or in that of somebody alone.
///
/// Room for all that may wait is reserved when this is made, and nothing allocated or freed later. To room that nothing has
/// touched the system gives no memory. What was given back last is lent first, for the processor has it at hand: what comes
/// for one session is written where what was just played of another lay. Sheets at the end that are not needed any more are
/// [left](Self::draw_in), and once nothing waits there [unmade](Self::unmake_last) for the system to have their pages back.
pub struct Payloads {
    sheets: Vec<Sheet>,
    /// Of each sheet, bit n: its room n is lent.
    lent: Vec<u32>,
    /// Rooms of sheets in use that nobody has, in the order in which they were given back.
    free: Vec<Place>,
    /// Sheets in use, the first ones. Of the others nothing is lent any more.
    used: usize,
    most: usize,
}

impl std::fmt::Debug for Payloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payloads").field("lent", &self.lent()).finish_non_exhaustive()
    }
}

impl Payloads {
    /// None yet, and room for all that may wait in so many jitter buffers.
    #[must_use]
    pub fn with_room_for(buffers: usize) -> Self {
        let most = (buffers * BUFFER_ROOMS).div_ceil(SHEET_ROOMS);
        Self {
            sheets: Vec::with_capacity(most),
            lent: Vec::with_capacity(most),
            free: Vec::with_capacity(most * SHEET_ROOMS),
            used: 0,
            most,
        }
    }

    /// How many sheets are made, of 4 KB.
    #[must_use]
    pub const fn made(&self) -> usize {
        self.sheets.len()
    }

    /// How many rooms are lent. Counts them.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.iter().map(|lent| lent.count_ones() as usize).sum()
    }

    /// Leaves some of the sheets in use, the last ones, `at_most` so many, while the others have room to spare for what waits
    /// there. That is played soon, and nothing more comes.
    pub fn draw_in(&mut self, at_most: usize) {
        let spare = SHEET_ROOMS * (1 + self.used / 8);
        let needless = self.free.len().saturating_sub(spare) / SHEET_ROOMS;
        let left = needless.min(at_most);
        if left > 0 {
            let used = self.used.saturating_sub(left);
            self.used = used;
            self.free.retain(|place| place.sheet() < used);
        }
    }

    /// Unmakes the last sheet where it was left and nothing waits there any more, and shows its room: what lies there does not
    /// matter, and its page may be the system's.
    pub fn unmake_last(&mut self) -> Option<&mut MaybeUninit<Sheet>> {
        if self.sheets.len() <= self.used {
            return None;
        }
        self.lent.pop_if(|lent| *lent == 0)?;
        self.sheets.truncate(self.lent.len());
        self.sheets.spare_capacity_mut().first_mut()
    }

    /// Keeps `payload`, and says where it begins. `None`: there is no room for all of it.
    pub(super) fn keep(&mut self, payload: &[u8]) -> Option<Place> {
        let mut first = Place::NONE;
        // From its end on, as each room is to know the one after it.
        for (count, part) in payload.chunks(ROOM_BYTES).rev().enumerate() {
            let Some(place) = self.lend() else {
                self.take_back(first, count);
                return None;
            };
            if let Some(room) = self.room_mut(place) {
                room.next = first;
                if let Some(bytes) = room.bytes.get_mut(..part.len()) {
                    bytes.copy_from_slice(part);
                }
            }
            first = place;
        }
        Some(first)
    }

    /// A payload of so many bytes, which begins at `first`, waits no longer.
    pub(super) fn give_back(&mut self, first: Place, length: usize) {
        self.take_back(first, rooms_of(length));
    }

    /// What lies in one room of the payload of `length` bytes that begins at `first`: from its byte `from` on.
    pub(super) fn part(&self, first: Place, length: usize, from: usize) -> &[u8] {
        let mut place = first;
        for _ in 0..from / ROOM_BYTES {
            place = self.after(place);
        }
        let (begin, left) = (from % ROOM_BYTES, length.saturating_sub(from));
        let end = (begin + left).min(ROOM_BYTES);
        self.room(place).and_then(|room| room.bytes.get(begin..end)).unwrap_or_default()
    }

    /// The whole of it, part by part.
    pub(super) fn parts(&self, first: Place, length: usize) -> impl Iterator<Item = &[u8]> {
        (0..length).step_by(ROOM_BYTES).scan(first, move |place, from| {
            let part = self.part(*place, length - from, 0);
            *place = self.after(*place);
            Some(part)
        })
    }

    /// Has the processor fetch the first part of a payload.
    pub(super) fn fetch(&self, first: Place) {
        self.room(first).into_iter().for_each(fetch);
    }

    fn room(&self, place: Place) -> Option<&Room> {
        self.sheets.get(place.sheet())?.0.get(place.room() as usize)
    }

    fn room_mut(&mut self, place: Place) -> Option<&mut Room> {
        self.sheets.get_mut(place.sheet())?.0.get_mut(place.room() as usize)
    }

    fn after(&self, place: Place) -> Place {
        self.room(place).map_or(Place::NONE, |room| room.next)
    }

    fn lend(&mut self) -> Option<Place> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.open_sheet()?,
        };
        *self.lent.get_mut(place.sheet())? |= 1 << place.room();
        Some(place)
    }

    /// Takes one more sheet in use, which was left or is made now, and of it a room that nobody has.
    #[cold]
    #[inline(never)]
    fn open_sheet(&mut self) -> Option<Place> {
        loop {
            let sheet = self.used;
            if sheet == self.sheets.len() {
                if sheet >= self.most {
                    return None;
                }
                self.sheets.push(Sheet::BLANK);
                self.lent.push(0);
            }
            self.used += 1;
            let lent = *self.lent.get(sheet)?;
            let free = (0..SHEET_ROOMS as u32).rev().filter(|room| lent >> room & 1 == 0);
            self.free.extend(free.map(|room| Place::new(sheet, room)));
            if let Some(place) = self.free.pop() {
                return Some(place);
            }
        }
    }

    /// Takes back so many rooms, from `first` on.
    fn take_back(&mut self, first: Place, count: usize) {
        let mut place = first;
        for left in (0..count).rev() {
            let lent = self.lent.get_mut(place.sheet());
            let Some(lent) = lent.filter(|lent| **lent >> place.room() & 1 == 1) else { return };
            *lent &= !(1 << place.room());
            if place.sheet() < self.used {
                self.free.push(place);
            }
            if left > 0 {
                place = self.after(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    fn read(payloads: &Payloads, place: Place, length: usize) -> Vec<u8> {
        payloads.parts(place, length).flatten().copied().collect()
    }

    fn packets(payloads: &mut Payloads, count: usize) -> Vec<Place> {
        (0..count).map(|n| payloads.keep(&[n as u8; 160]).expect("there is room")).collect()
    }

    fn give_back(payloads: &mut Payloads, places: &[Place]) {
        places.iter().for_each(|place| payloads.give_back(*place, 160));
    }

    #[test]
    fn a_sheet_is_a_page_and_20_ms_of_g711_are_three_lines() {
        assert_eq!((size_of::<Sheet>(), align_of::<Sheet>()), (4_096, 4_096));
        assert_eq!((size_of::<Room>(), align_of::<Room>(), rooms_of(160)), (192, 64, 1));
    }

    #[test]
    fn what_was_given_back_last_is_lent_first() {
        let mut payloads = Payloads::with_room_for(8);
        let places = packets(&mut payloads, 60);
        let order = [7, 50, 22, 3].map(|at| places[at]);
        give_back(&mut payloads, &order);
        let again = packets(&mut payloads, 4);
        assert_eq!(again, order.into_iter().rev().collect::<Vec<_>>());
        // While one is played for each that comes, no more is touched.
        let made = payloads.made();
        let mut last = again[0];
        for _ in 0..1_000 {
            payloads.give_back(last, 160);
            let next = payloads.keep(&[5; 160]).expect("there is room");
            assert_eq!(next, last);
            last = next;
        }
        assert_eq!(payloads.made(), made);
    }

    #[test]
    fn payloads_of_any_length_are_what_they_were_and_nothing_is_lent_when_all_are_back() {
        let mut random = Random::from_seed(5);
        let mut payloads = Payloads::with_room_for(10);
        let base = (payloads.sheets.as_ptr(), payloads.free.as_ptr(), payloads.lent.as_ptr());
        let mut waiting: Vec<(Place, Vec<u8>)> = Vec::new();
        for step in 0..20_000_u32 {
            if random.below(2) == 0 && waiting.len() < 100 {
                let length = random.below(1_281) as usize;
                let bytes: Vec<u8> = (0..length).map(|n| (n as u32 ^ step) as u8).collect();
                if let Some(place) = payloads.keep(&bytes) {
                    waiting.push((place, bytes));
                }
            } else if !waiting.is_empty() {
                let at = random.below(waiting.len() as u64) as usize;
                let (place, bytes) = waiting.swap_remove(at);
                assert!(read(&payloads, place, bytes.len()) == bytes, "{} bytes", bytes.len());
                payloads.give_back(place, bytes.len());
            }
            if step % 50 == 0 {
                payloads.draw_in(2);
                payloads.unmake_last();
            }
            let lent: usize = waiting.iter().map(|(_, bytes)| rooms_of(bytes.len())).sum();
            assert_eq!(payloads.lent(), lent);
        }
        for (place, bytes) in waiting {
            assert!(read(&payloads, place, bytes.len()) == bytes);
            payloads.give_back(place, bytes.len());
        }
        assert_eq!(payloads.lent(), 0);
        let after = (payloads.sheets.as_ptr(), payloads.free.as_ptr(), payloads.lent.as_ptr());
        assert_eq!(after, base, "nothing was allocated");
    }

    #[test]
    fn beyond_the_room_nothing_is_kept_and_nothing_of_it_stays_lent() {
        let mut payloads = Payloads::with_room_for(1);
        let all = payloads.most * SHEET_ROOMS;
        assert!((BUFFER_ROOMS..BUFFER_ROOMS + SHEET_ROOMS).contains(&all));
        let places = packets(&mut payloads, all - 2);
        assert_eq!(payloads.keep(&[1; 3 * ROOM_BYTES]), None);
        assert_eq!(payloads.lent(), all - 2);
        assert!(payloads.keep(&[1; 2 * ROOM_BYTES]).is_some());
        assert_eq!(payloads.keep(&[1]), None);
        assert_eq!(payloads.keep(&[]), Some(Place::NONE), "it takes none");
        give_back(&mut payloads, &places[..1]);
        assert_eq!(payloads.keep(&[1]), Some(places[0]));
    }

    #[test]
    fn what_was_given_back_already_or_is_of_nobody_here_changes_nothing() {
        let mut payloads = Payloads::with_room_for(1);
        let places = packets(&mut payloads, 2);
        give_back(&mut payloads, &places[..1]);
        give_back(&mut payloads, &places[..1]);
        payloads.give_back(Place::NONE, 160);
        payloads.give_back(Place::new(70, 3), 160);
        assert_eq!(payloads.lent(), 1);
        let [one, two] = [0, 1].map(|_| payloads.keep(&[7; 160]).expect("there is room"));
        assert_ne!(one, two);
    }

    #[test]
    fn sheets_that_are_not_needed_are_left_and_unmade_once_nothing_waits_there() {
        let mut payloads = Payloads::with_room_for(10);
        let places = packets(&mut payloads, 10 * SHEET_ROOMS);
        assert_eq!(payloads.made(), 10);
        payloads.draw_in(8);
        assert!(payloads.unmake_last().is_none(), "all of them are needed");
        // One stays on each sheet.
        let (kept, over): (Vec<Place>, Vec<Place>) =
            places.into_iter().partition(|place| place.room() == 4);
        give_back(&mut payloads, &over);
        payloads.draw_in(3);
        assert_eq!(payloads.used, 7, "no more than is asked");
        payloads.draw_in(8);
        assert_eq!(payloads.used, 2, "with a sheet to spare");
        assert!(payloads.unmake_last().is_none(), "something waits there");
        let base = payloads.sheets.as_ptr();
        // What comes goes where what plays on stays; what is played there comes no more.
        give_back(&mut payloads, &kept[2..]);
        let next = packets(&mut payloads, 8);
        assert!(next.iter().all(|place| place.sheet() < 2), "{next:?}");
        for left in (2..10).rev() {
            let room: *const MaybeUninit<Sheet> = payloads.unmake_last().expect("nobody is there");
            assert_eq!(room.cast::<Sheet>(), base.wrapping_add(left));
            assert_eq!(payloads.made(), left);
        }
        assert!(payloads.unmake_last().is_none(), "those are in use");
        let more = packets(&mut payloads, 10 * SHEET_ROOMS - 10);
        assert_eq!((payloads.made(), payloads.lent()), (10, 10 * SHEET_ROOMS));
        assert_eq!(read(&payloads, more[180], 160), [180; 160]);
    }

    #[test]
    fn a_sheet_that_was_left_is_in_use_again_before_a_further_one_is_made() {
        let mut payloads = Payloads::with_room_for(10);
        let places = packets(&mut payloads, 6 * SHEET_ROOMS);
        give_back(&mut payloads, &places[2..]);
        let last = places.last().expect("many").sheet();
        assert_eq!(last, 5);
        payloads.draw_in(100);
        assert_eq!(payloads.used, 2);
        let again = packets(&mut payloads, 6 * SHEET_ROOMS - 2);
        assert_eq!((payloads.made(), payloads.used), (6, 6));
        let mut all = [&places[..2], &again[..]].concat();
        all.sort_by_key(|place| place.0);
        all.dedup();
        assert_eq!(all.len(), 6 * SHEET_ROOMS, "each is one's own");
    }
}
