//! `MessageBudget`: what messages of agents that are not played yet may hold of a node's memory, and who of those that
//! want some of it goes on.
//!
//! Whoever finds no room waits, and reads nothing meanwhile, so that its agent is held back by TCP. Most of the budget is
//! common. Of that a connection may take more while [`FAIR`] times of what it would then hold are free: so those that
//! hold much stop first, and something is left for those that need little. The rest, as much as the longest message
//! takes, is for one at a time, who goes first: of those that wait the one that waits longest.
//!
//! Why it never stands still: a connection that holds something reads its message, waits, or has it whole.
//!
//! - One that has it whole gives all back once that is played or its call is over, and needs nothing for either.
//! - One that reads and is waited for is broken when its agent takes longer than [`Terms::patience`] over the message.
//! - Where some wait, one of them goes first until its message is whole, it is done with or it is gone. What it pays from
//!   its own room is no more than that room. It finds too little only where others that went first before it have not
//!   given theirs back; each of those has its message whole, and so will.
//!
//! So whoever goes first comes to an end, and each that waits goes first in its turn. Nobody who waits is broken for it.
//!
//! What is given back goes to those for whom it is enough, in their name, before they are woken: no more are woken than
//! there is room for, none of them finds it gone, and none is passed over by one that comes later and holds as much.

use crate::types::limit::AGENT_MESSAGE_BYTES_MAX;
use crate::types::limit::AGENT_MESSAGES_BYTES_MAX;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

/// What is paid at once, in bytes.
pub(super) const STEP_BYTES: usize = 64 * 1_024;

/// How many times what a connection would hold has to be free.
const FAIR: usize = 8;

/// How long an agent may take over a message for which others wait: 16 MiB at 2.3 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(60);

/// What messages of agents may hold of a node's memory.
#[derive(Debug)]
pub(crate) struct MessageBudget {
    terms: Terms,
    ledger: Mutex<Ledger>,
}

/// What does not change of a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// All of it, in bytes.
    pub(crate) most: usize,
    /// The most that one connection pays, in bytes: its longest message. So much is for the one that goes first.
    pub(crate) share: usize,
    /// How long an agent may take over a message for the end of which others wait.
    pub(crate) patience: Duration,
}

/// That of this process.
pub(super) static NODE: MessageBudget = MessageBudget::of(Terms {
    most: AGENT_MESSAGES_BYTES_MAX,
    share: AGENT_MESSAGE_BYTES_MAX,
    patience: PATIENCE,
});

/// From which room a step was paid.
#[derive(Clone, Copy, Debug)]
enum Room {
    Common,
    OfTheFirst,
}

/// By when it first waited since all was done with.
type Turn = u64;

#[derive(Debug)]
struct Ledger {
    /// Paid from the common room, in bytes.
    common: usize,
    /// Paid from the room of whoever goes first, in bytes: by the one that does, and by those that did.
    of_the_first: usize,
    /// Who goes first. Somebody does where anybody waits.
    first: Option<Turn>,
    /// Who waits, by what it holds. As many as there are connections at most, which are bounded elsewhere.
    waiting: BTreeMap<(usize, Turn), Waker>,
    /// Who was given a step, and has not looked yet.
    given: BTreeMap<Turn, Room>,
    /// The next that waits has this turn.
    next: Turn,
}

impl Ledger {
    const fn new() -> Self {
        Self {
            common: 0,
            of_the_first: 0,
            first: None,
            waiting: BTreeMap::new(),
            given: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes a step for one that holds so much, where there is room for it.
    fn take(&mut self, terms: Terms, (held, turn): (usize, Option<Turn>)) -> Option<Room> {
        let free = terms.most.saturating_sub(terms.share).saturating_sub(self.common);
        if (held + STEP_BYTES).saturating_mul(FAIR) <= free {
            self.common += STEP_BYTES;
            return Some(Room::Common);
        }
        let goes_first = turn.is_some() && self.first == turn;
        if goes_first && self.of_the_first + STEP_BYTES <= terms.share {
            self.of_the_first += STEP_BYTES;
            return Some(Room::OfTheFirst);
        }
        None
    }

    fn put_back(&mut self, room: Room) {
        match room {
            Room::Common => self.common -= STEP_BYTES,
            Room::OfTheFirst => self.of_the_first -= STEP_BYTES,
        }
    }

    fn new_turn(&mut self) -> Turn {
        let turn = self.next;
        self.next += 1;
        turn
    }

    /// Whoever has this turn goes first no more.
    fn step_back(&mut self, turn: Turn) {
        if self.first == Some(turn) {
            self.first = None;
        }
    }

    /// Gives what is free to those that wait, as far as it goes, and names whom to wake.
    fn serve(&mut self, terms: Terms) -> Vec<Waker> {
        let mut woken = Vec::new();
        if self.waiting.is_empty() {
            return woken;
        }
        let longest = || self.waiting.keys().map(|(_, turn)| *turn).min();
        self.first = self.first.or_else(longest);
        let first = self.waiting.keys().find(|(_, turn)| Some(*turn) == self.first).copied();
        if let Some(first) = first {
            woken.extend(self.give(terms, first));
        }
        // Who holds least may take most: where it is not enough for that one, it is for nobody.
        while let Some((least, _)) = self.waiting.first_key_value() {
            let least = *least;
            let Some(waker) = self.give(terms, least) else { break };
            woken.push(waker);
        }
        woken
    }

    /// Gives a step to one that waits, where there is room for it.
    fn give(&mut self, terms: Terms, (held, turn): (usize, Turn)) -> Option<Waker> {
        let room = self.take(terms, (held, Some(turn)))?;
        self.given.insert(turn, room);
        self.waiting.remove(&(held, turn))
    }
}

impl MessageBudget {
    /// A budget on these terms.
    pub(crate) const fn of(terms: Terms) -> Self {
        Self { terms, ledger: Mutex::new(Ledger::new()) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something given back, and wakes those for whom it is enough.
    fn give_back(&self, give: impl FnOnce(&mut Ledger)) {
        let woken = {
            let mut ledger = self.ledger();
            give(&mut ledger);
            ledger.serve(self.terms)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// What is held of it, in bytes, and how many wait or were given what they did not look for yet.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (usize, usize) {
        let ledger = self.ledger();
        let held = ledger.common + ledger.of_the_first;
        (held, ledger.waiting.len() + ledger.given.len())
    }

    /// Whether one goes first.
    #[cfg(test)]
    pub(super) fn has_first(&self) -> bool {
        self.ledger().first.is_some()
    }
}

/// What one connection has of a budget.
#[derive(Debug)]
pub(super) struct Account {
    budget: &'static MessageBudget,
    /// Bytes paid from the common room.
    common: usize,
    /// Bytes paid from that of whoever goes first.
    of_the_first: usize,
    /// Since it waited.
    turn: Option<Turn>,
    waits: bool,
}

impl Account {
    /// One that holds nothing.
    pub(super) const fn of(budget: &'static MessageBudget) -> Self {
        Self { budget, common: 0, of_the_first: 0, turn: None, waits: false }
    }

    /// What it paid, in bytes.
    pub(super) const fn held(&self) -> usize {
        self.common + self.of_the_first
    }

    /// Whether it paid for as much as its connection can hold.
    pub(super) const fn has_its_share(&self) -> bool {
        self.held() >= self.budget.terms.share
    }

    /// Whether it waits for room.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// How long an agent may take over a message for the end of which others wait.
    pub(super) const fn patience(&self) -> Duration {
        self.budget.terms.patience
    }

    /// Whether anybody waits for room.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.budget.ledger().waiting.is_empty()
    }

    /// Pays for another step, or waits until there is room for it.
    pub(super) fn poll_more(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut ledger = self.budget.ledger();
        let room = match self.turn {
            Some(turn) if self.waits => ledger.given.remove(&turn),
            _ => self.take(&mut ledger),
        };
        self.waits = room.is_none();
        match room {
            Some(Room::Common) => self.common += STEP_BYTES,
            Some(Room::OfTheFirst) => self.of_the_first += STEP_BYTES,
            None => {
                if let Some(turn) = self.turn {
                    // Each time it may be another task that asks.
                    ledger.waiting.insert((self.held(), turn), cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Takes a step, if need be in its turn, which it has from then on.
    fn take(&mut self, ledger: &mut Ledger) -> Option<Room> {
        let (terms, held) = (self.budget.terms, self.held());
        ledger.take(terms, (held, self.turn)).or_else(|| {
            let turn = *self.turn.get_or_insert_with(|| ledger.new_turn());
            ledger.first.get_or_insert(turn);
            ledger.take(terms, (held, Some(turn)))
        })
    }

    /// Nothing more is needed for its message: another may go first.
    pub(super) fn stop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let (held, waits) = (self.held(), std::mem::take(&mut self.waits));
            self.budget.give_back(|ledger| leave(ledger, (held, turn), waits));
        }
    }

    /// Nothing is held any more.
    pub(super) fn give_back(&mut self) {
        self.stop();
        if self.held() > 0 {
            let common = std::mem::take(&mut self.common);
            let of_the_first = std::mem::take(&mut self.of_the_first);
            self.budget.give_back(|ledger| {
                ledger.common -= common;
                ledger.of_the_first -= of_the_first;
            });
        }
    }
}

/// One that holds so much has its turn no more.
fn leave(ledger: &mut Ledger, (held, turn): (usize, Turn), waits: bool) {
    ledger.step_back(turn);
    if waits {
        ledger.waiting.remove(&(held, turn));
        if let Some(room) = ledger.given.remove(&turn) {
            ledger.put_back(room);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.give_back();
    }
}
