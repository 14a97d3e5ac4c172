//! `Slab`: values under names that are never used twice.

/// Values found by index; a generation tells a value from the ones that had its place before.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Keeps `value` and names it.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            return name(index, place.generation);
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { generation: 0, value: Some(value) });
        name(index, 0)
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
        self.free.push(index);
        Some(value)
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
}
