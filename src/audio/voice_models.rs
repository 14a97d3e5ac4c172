//! `VoiceModels`: the neural models that know voices, lent to those who hear something loud. Two pages of memory each, so
//! that what they take goes by how many callers speak at once, and not by how many there are.

use earshot::Detector;
use std::mem::MaybeUninit;

/// Samples a model takes at once, at 16 kHz: 16 ms.
pub const MODEL_SAMPLES: usize = 256;

/// A model on two pages of memory that are its own.
#[repr(align(4096))]
pub struct Paged(Detector);

/// A model that was lent: the key to it at whom it came from, and to nothing anywhere else.
#[derive(Debug, PartialEq, Eq)]
pub struct VoiceModel(u16);

/// The models of a thread, or of somebody alone.
///
/// Room for all is reserved when this is made, and nothing allocated or freed later. To room that nothing has touched the
/// system gives no memory: models are made one behind the other when they are wanted, and no further one is made while there
/// is one that nobody has. Those at the end that nobody has are [unmade](Self::unmake_last) for the system to have their
/// pages back.
pub struct VoiceModels {
    made: Vec<Paged>,
    /// Which of them somebody has.
    lent: Vec<bool>,
    most: usize,
}

impl std::fmt::Debug for VoiceModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoiceModels").field("lent", &self.lent()).finish_non_exhaustive()
    }
}

impl VoiceModels {
    /// None yet, and room for so many; 65,536 of them can be lent.
    #[must_use]
    pub fn with_room_for(most: usize) -> Self {
        Self { made: Vec::with_capacity(most), lent: Vec::with_capacity(most), most }
    }

    /// How many are made: as many as somebody had at once, until they are unmade.
    #[must_use]
    pub const fn made(&self) -> usize {
        self.made.len()
    }

    /// How many of them somebody has.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.iter().filter(|lent| **lent).count()
    }

    /// Lends a model that has heard nothing, the first of those that nobody has: so the last ones fall free. `None`: there is
    /// no room for one more.
    pub fn lend(&mut self) -> Option<VoiceModel> {
        let Some(at) = self.lent.iter().position(|lent| !lent) else { return self.lend_new() };
        let key = u16::try_from(at).ok()?;
        self.made.get_mut(at)?.0.reset();
        *self.lent.get_mut(at)? = true;
        Some(VoiceModel(key))
    }

    #[cold]
    #[inline(never)]
    fn lend_new(&mut self) -> Option<VoiceModel> {
        let key = u16::try_from(self.made.len()).ok()?;
        if self.made.len() >= self.most {
            return None;
        }
        self.made.push(Paged(Detector::const_default()));
        self.lent.push(true);
        Some(VoiceModel(key))
    }

    /// Takes back a model that was lent here.
    pub fn take_back(&mut self, model: VoiceModel) {
        let VoiceModel(at) = model;
        if let Some(lent) = self.lent.get_mut(usize::from(at)) {
            *lent = false;
        }
    }

    /// What a model that was lent here makes of the next 16 ms at 16 kHz, 0 to 1.
    pub fn score(&mut self, model: &VoiceModel, samples: &[i16; MODEL_SAMPLES]) -> f32 {
        self.made.get_mut(usize::from(model.0)).map_or(0.0, |model| model.0.predict_i16(samples))
    }

    /// Unmakes the last model where nobody has it, and shows its room: what lies there does not matter, and its pages may be
    /// the system's.
    pub fn unmake_last(&mut self) -> Option<&mut MaybeUninit<Paged>> {
        self.lent.pop_if(|lent| !*lent)?;
        self.made.truncate(self.lent.len());
        self.made.spare_capacity_mut().first_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(models: &mut VoiceModels, count: usize) -> Vec<VoiceModel> {
        (0..count).map(|_| models.lend().expect("there is room")).collect()
    }

    /// What a model makes of a sound that goes on.
    fn heard(models: &mut VoiceModels, model: &VoiceModel) -> Vec<u32> {
        let sound = std::array::from_fn(|n| if n % 40 < 20 { 6_000 } else { -6_000 });
        (0..6).map(|_| models.score(model, &sound).to_bits()).collect()
    }

    #[test]
    fn each_lies_on_pages_of_its_own() {
        assert_eq!((size_of::<Paged>(), align_of::<Paged>()), (8_192, 4_096));
    }

    #[test]
    fn no_more_are_made_than_somebody_has_at_once() {
        let mut models = VoiceModels::with_room_for(100);
        assert_eq!((models.made(), models.lent()), (0, 0), "none before one is wanted");
        for _ in 0..50 {
            let lent = keys(&mut models, 3);
            assert_eq!((models.made(), models.lent()), (3, 3));
            lent.into_iter().for_each(|model| models.take_back(model));
            assert_eq!((models.made(), models.lent()), (3, 0));
        }
    }

    #[test]
    fn what_was_given_back_is_lent_again_before_anything_further_and_the_first_of_it_first() {
        let mut models = VoiceModels::with_room_for(100);
        let mut lent = keys(&mut models, 4);
        for at in [3, 0, 1] {
            let model = lent.remove(at);
            models.take_back(model);
        }
        assert_eq!(lent, [VoiceModel(1)]);
        let again = keys(&mut models, 4);
        assert_eq!(again, [0, 2, 3, 4].map(VoiceModel));
        assert_eq!((models.made(), models.lent()), (5, 5));
    }

    #[test]
    fn one_that_is_lent_again_has_heard_nothing() {
        let mut models = VoiceModels::with_room_for(2);
        let model = models.lend().expect("there is room");
        let first = heard(&mut models, &model);
        assert_ne!(heard(&mut models, &model), first, "it goes by what came before");
        models.take_back(model);
        let again = models.lend().expect("there is room");
        assert_eq!((heard(&mut models, &again), models.made()), (first, 1));
    }

    #[test]
    fn each_hears_for_itself() {
        let mut models = VoiceModels::with_room_for(2);
        let [one, other] = [0, 1].map(|_| models.lend().expect("there is room"));
        let first = heard(&mut models, &one);
        assert_eq!(heard(&mut models, &other), first);
    }

    #[test]
    fn beyond_the_room_nobody_gets_one_and_the_room_stays_where_it_is() {
        let mut models = VoiceModels::with_room_for(2);
        let place = models.made.as_ptr();
        let mut lent = keys(&mut models, 2);
        assert_eq!(models.lend(), None);
        models.take_back(lent.remove(0));
        assert_eq!(models.lend(), Some(VoiceModel(0)));
        assert_eq!((models.made.as_ptr(), models.made()), (place, 2));
    }

    #[test]
    fn the_last_ones_that_nobody_has_are_unmade_and_made_anew() {
        let mut models = VoiceModels::with_room_for(8);
        let lent = keys(&mut models, 4);
        assert!(models.unmake_last().is_none(), "somebody has it");
        let mut lent: Vec<_> = lent.into_iter().map(Some).collect();
        for at in [0, 2, 3] {
            models.take_back(lent[at].take().expect("lent"));
        }
        let base = models.made.as_ptr();
        for left in [3, 2] {
            let room: *const MaybeUninit<Paged> = models.unmake_last().expect("nobody has it");
            assert_eq!(room.cast::<Paged>(), base.wrapping_add(left), "the room of the last one");
            assert_eq!(models.made(), left);
        }
        assert!(models.unmake_last().is_none(), "somebody has the second");
        assert_eq!(keys(&mut models, 3), [0, 2, 3].map(VoiceModel));
        let kept = lent[1].take().expect("lent");
        let fresh = heard(&mut models, &kept);
        assert_eq!(heard(&mut models, &VoiceModel(3)), fresh);
    }
}
