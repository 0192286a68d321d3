//! Which commands came together: they are counted when they are answered, and cost no reading of the clock each.

/// Commands by their places in the table, with how many there were of each. At most as many entries as the table has.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<(usize, u64)>);

impl Tally {
    /// One more.
    pub(super) fn add(&mut self, place: usize) {
        // Most pipelines have commands of one or two kinds.
        match self.0.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => self.0.push((place, 1)),
        }
    }

    /// Takes them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (usize, u64)> {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once() {
        let mut tally = Tally::default();
        [3, 3, 5, 3, 0, 5].into_iter().for_each(|place| tally.add(place));
        assert_eq!(tally.drain().collect::<Vec<_>>(), [(3, 3), (5, 2), (0, 1)]);
        assert_eq!(tally.drain().count(), 0);
    }
}
