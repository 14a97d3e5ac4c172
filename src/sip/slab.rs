//! `Slab`: values under names that are never used twice.

/// Room for so many values is not given back.
const KEPT: usize = 64;

/// Values found by index; a generation tells a value from the ones that had its place before. After a rush the places
/// at the end go.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    /// Places without a value. Some of them may be gone.
    free: Vec<u32>,
    values: usize,
    /// The first of a new place: that of no place that is gone was later.
    generation: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), values: 0, generation: 0 }
    }

    /// An empty one that gives no name that this one gave.
    pub(crate) fn successor(&self) -> Self {
        let behind = self.places.iter().map(|place| place.generation.wrapping_add(1)).max();
        let generation = behind.map_or(self.generation, |behind| behind.max(self.generation));
        Self { generation, ..Self::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.values
    }

    /// Keeps `value` and names it.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        self.values += 1;
        while let Some(index) = self.free.pop() {
            if let Some(place) = self.places.get_mut(index as usize)
                && place.value.is_none()
            {
                place.value = Some(value);
                return name(index, place.generation);
            }
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { generation: self.generation, value: Some(value) });
        name(index, self.generation)
    }

    /// All values, with their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &T)> {
        let places = (0_u32..).zip(&self.places);
        places.filter_map(|(index, place)| {
            Some((name(index, place.generation), place.value.as_ref()?))
        })
    }

    pub(crate) fn get(&self, name: u64) -> Option<&T> {
        let (index, generation) = parts(name);
        let place = self.places.get(index as usize)?;
        place.value.as_ref().filter(|_| place.generation == generation)
    }

    pub(crate) fn get_mut(&mut self, name: u64) -> Option<&mut T> {
        let (index, generation) = parts(name);
        let place = self.places.get_mut(index as usize)?;
        place.value.as_mut().filter(|_| place.generation == generation)
    }

    pub(crate) fn remove(&mut self, name: u64) -> Option<T> {
        let (index, generation) = parts(name);
        let place = self.places.get_mut(index as usize)?;
        if place.generation != generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.values -= 1;
        self.free.push(index);
        self.give_back();
        Some(value)
    }

    /// Lets the places at the end go that have no value, and their room once most of it is free.
    fn give_back(&mut self) {
        while let Some(place) = self.places.pop_if(|place| place.value.is_none()) {
            // Generations begin anew at 0 behind the last one.
            if place.generation.wrapping_sub(self.generation) < u32::MAX / 2 {
                self.generation = place.generation;
            }
        }
        let (count, room) = (self.places.len(), self.places.capacity());
        if room > KEPT && count < room / 4 {
            let room = KEPT.max(2 * count);
            self.places.shrink_to(room);
            self.free.retain(|index| (*index as usize) < count);
            self.free.shrink_to(room);
        }
    }
}

const fn name(index: u32, generation: u32) -> u64 {
    (generation as u64) << 32 | index as u64
}

const fn parts(name: u64) -> (u32, u32) {
    (name as u32, (name >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_used_twice() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        let second = slab.insert('b');
        assert_eq!(slab.remove(first), Some('a'));
        let third = slab.insert('c');
        assert_ne!(third, first);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.get(third), slab.len()), (Some(&'b'), Some(&'c'), 2));
        assert_eq!(slab.remove(second), Some('b'));
        assert_eq!(slab.all().collect::<Vec<_>>(), [(third, &'c')]);
    }

    #[test]
    fn the_room_of_a_rush_goes_with_it_and_its_names_do_not_come_back() {
        let mut slab = Slab::new();
        let mut names = std::collections::HashSet::new();
        let first = slab.insert(0);
        names.insert(first);
        for rush in 1..4 {
            let rushed: Vec<u64> = (0..1_000).map(|_| slab.insert(rush)).collect();
            assert!(rushed.iter().all(|name| names.insert(*name)), "{rush}");
            assert_eq!((slab.len(), slab.places.len()), (1_001, 1_001));
            // One that stays holds the places before it.
            let (stays, go) = rushed.split_last().expect("many");
            for name in go {
                assert_eq!(slab.remove(*name), Some(rush));
            }
            assert_eq!((slab.len(), slab.places.len()), (2, 1_001));
            let anew = slab.insert(rush);
            assert!(names.insert(anew));
            assert_eq!(slab.remove(*stays), Some(rush));
            assert_eq!(slab.remove(anew), Some(rush));
            assert!(slab.places.capacity() <= 2 * KEPT, "{}", slab.places.capacity());
            assert!(slab.free.capacity() <= 2 * KEPT, "{}", slab.free.capacity());
            assert!(rushed.iter().all(|name| slab.get(*name).is_none()));
        }
        assert_eq!((slab.len(), slab.get(first)), (1, Some(&0)));
    }

    #[test]
    fn a_successor_gives_no_name_that_was_given_before() {
        let mut slab = Slab::new();
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..5 {
            // Some are still there at its end, some had their place before those, and one life gives none.
            let kept: Vec<_> = (0..3).map(|_| slab.insert('a')).collect();
            let last = slab.insert('b');
            assert_eq!(slab.remove(last), Some('b'));
            let again = slab.insert('c');
            for name in kept.iter().chain([&last, &again]) {
                assert!(given.insert(*name), "{name} was given before");
            }
            slab = slab.successor().successor();
            assert_eq!(slab.len(), 0);
            assert!(given.iter().all(|name| slab.get(*name).is_none()));
        }
    }
}
