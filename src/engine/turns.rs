//! `Turns`: whose turn it is, where things of the operator and of tenants wait for a place.

use crate::types::id::TenantId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ops::Bound;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// All of them.
    pub(super) all: usize,
    /// Those that tenants may have together: no tenant takes the others from the operator.
    pub(super) tenants: usize,
    /// Those that one tenant may have.
    pub(super) tenant: usize,
}

/// Things that wait for a place, each of them once, and the places that are taken.
#[derive(Debug)]
pub(super) struct Turns<T> {
    places: Places,
    operators: Line<T>,
    tenants: BTreeMap<TenantId, Line<T>>,
    /// Places that tenants have.
    of_tenants: usize,
    /// The tenant whose turn was last.
    last: Option<TenantId>,
    waiting: BTreeSet<T>,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    taken: usize,
}

impl<T> Line<T> {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), taken: 0 }
    }
}

impl<T: Clone + Ord> Turns<T> {
    pub(super) const fn new(places: Places) -> Self {
        Self {
            places,
            operators: Line::new(),
            tenants: BTreeMap::new(),
            of_tenants: 0,
            last: None,
            waiting: BTreeSet::new(),
        }
    }

    /// Has a thing wait for its turn, as the last of its owner's; `None` is the operator. One that waits keeps its turn.
    pub(super) fn push(&mut self, owner: Option<TenantId>, thing: T) {
        if self.waiting.insert(thing.clone()) {
            self.line(owner).waiting.push_back(thing);
        }
    }

    /// Whether a thing waits.
    pub(super) fn waits(&self, thing: &T) -> bool {
        self.waiting.contains(thing)
    }

    /// Gives a place to the thing whose turn it is: those of the operator first, then one of each tenant after the
    /// other. `None`: there is none, or no place for it.
    pub(super) fn begin(&mut self) -> Option<(Option<TenantId>, T)> {
        if self.operators.taken + self.of_tenants >= self.places.all {
            return None;
        }
        let is_operators = !self.operators.waiting.is_empty();
        let owner = if is_operators { None } else { Some(self.next_tenant()?) };
        let line = self.line(owner);
        let thing = line.waiting.pop_front()?;
        line.taken += 1;
        if owner.is_some() {
            self.of_tenants += 1;
            self.last = owner;
        }
        self.waiting.remove(&thing);
        Some((owner, thing))
    }

    fn next_tenant(&self) -> Option<TenantId> {
        if self.of_tenants >= self.places.tenants {
            return None;
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = self.tenants.range((after, Bound::Unbounded)).chain(self.tenants.iter());
        let may_begin =
            |line: &Line<T>| !line.waiting.is_empty() && line.taken < self.places.tenant;
        in_turn.find(|(_, line)| may_begin(line)).map(|(tenant, _)| *tenant)
    }

    /// Takes back the place of a thing of this owner's.
    pub(super) fn end(&mut self, owner: Option<TenantId>) {
        let line = self.line(owner);
        line.taken = line.taken.saturating_sub(1);
        if owner.is_some() {
            self.of_tenants = self.of_tenants.saturating_sub(1);
        }
        self.forget_idle();
    }

    /// Lets those go that wait and are wanted no more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&T) -> bool) {
        self.waiting.retain(&is_wanted);
        self.operators.waiting.retain(&is_wanted);
        for line in self.tenants.values_mut() {
            line.waiting.retain(&is_wanted);
        }
        self.forget_idle();
    }

    fn line(&mut self, owner: Option<TenantId>) -> &mut Line<T> {
        match owner {
            Some(tenant) => self.tenants.entry(tenant).or_insert_with(Line::new),
            None => &mut self.operators,
        }
    }

    fn forget_idle(&mut self) {
        self.tenants.retain(|_, line| line.taken > 0 || !line.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const PLACES: Places = Places { all: 8, tenants: 6, tenant: 4 };

    fn tenant(n: u128) -> Option<TenantId> {
        Some(TenantId::from_uuid(Uuid::from_u128(n)))
    }

    fn begun(turns: &mut Turns<u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.begin()).map(|(_, thing)| thing).collect()
    }

    #[test]
    fn nobody_takes_the_places_of_others() {
        let mut turns = Turns::new(PLACES);
        for thing in 100..200 {
            turns.push(tenant(1), thing);
        }
        assert_eq!(begun(&mut turns), [100, 101, 102, 103], "those that one tenant may have");
        for thing in 200..300 {
            turns.push(tenant(2), thing);
        }
        assert_eq!(begun(&mut turns), [200, 201], "the rest of those that tenants may have");
        for thing in 0..100 {
            turns.push(None, thing);
        }
        assert_eq!(begun(&mut turns), [0, 1], "the operator's own");
        // Of a place of tenants that is free the operator has the first use.
        turns.end(tenant(1));
        assert_eq!(begun(&mut turns), [2]);
        turns.retain(|thing| *thing >= 100);
        turns.end(None);
        assert_eq!(begun(&mut turns), [104], "whose turn it is");
    }

    #[test]
    fn tenants_have_their_turns_one_after_the_other() {
        let mut turns = Turns::new(Places { all: 1, ..PLACES });
        turns.push(None, 0);
        assert_eq!(begun(&mut turns), [0]);
        for thing in [10, 11, 12] {
            turns.push(tenant(1), thing);
        }
        turns.push(tenant(2), 20);
        turns.push(tenant(3), 30);
        let mut order = Vec::new();
        turns.end(None);
        while let Some((owner, thing)) = turns.begin() {
            order.push(thing);
            turns.end(owner);
        }
        assert_eq!(order, [10, 20, 30, 11, 12]);
        assert!(turns.tenants.is_empty(), "nothing is left of them");
    }

    #[test]
    fn a_thing_waits_once_and_may_wait_again_when_it_began() {
        let mut turns = Turns::new(PLACES);
        for _ in 0..3 {
            turns.push(tenant(1), 1);
        }
        assert!(turns.waits(&1));
        assert_eq!(begun(&mut turns), [1]);
        assert!(!turns.waits(&1));
        turns.push(tenant(1), 1);
        assert_eq!(begun(&mut turns), [1]);
        turns.push(tenant(1), 2);
        turns.retain(|_| false);
        assert!(!turns.waits(&2) && turns.begin().is_none());
    }
}
