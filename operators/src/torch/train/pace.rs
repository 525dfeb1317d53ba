//! How far a run is in its course, by the rows that really come.
//!
//! An input's rows are counted before any image is read; those that a view leaves out (broken files, say) are known only once they
//! were met. A schedule over all rows would end early: with 90 broken files among 120, at a quarter. So the first epoch is measured by
//! how far each step reaches into the epoch's order, rows that were left out among those behind it; the others by the first one's steps,
//! since the same rows are left out of each. Where no row is left out, both are the number of steps.

/// What is known of an epoch before the first.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Rows of the input.
    rows: usize,
    /// Examples of a step.
    batch: usize,
    /// Passes over the data.
    epochs: usize,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Passes over the data that are done.
    pub epoch: usize,
    /// Steps of this one that are done.
    pub steps: usize,
    /// Examples that they had.
    pub images: usize,
    /// Steps of the first epoch, once it is done.
    pub first: Option<usize>,
    /// Of an epoch whose steps are not known: rows behind the last step, those that were left out among them.
    pub place: usize,
}

impl Pace {
    /// The pace of a training over so many rows.
    pub fn new(rows: usize, batch: usize, epochs: usize) -> Self {
        Self { rows, batch, epochs }
    }

    /// Rows of the input.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Steps of an epoch in which no row is left out.
    pub fn epoch(&self) -> usize {
        (self.rows / self.batch).max(1)
    }

    /// The next step's place in the course of the learning rate, in steps of epochs in which no row is left out. It is a whole number
    /// where that is so in this one.
    pub fn at(&self, reached: Reached) -> f64 {
        let Reached { epoch, steps, first, place, .. } = reached;
        let whole = self.epoch() as f64;
        let within = match first {
            Some(first) => steps as f64 * whole / first.max(1) as f64,
            None => place as f64 / self.batch as f64,
        };
        epoch as f64 * whole + within.min(whole)
    }

    /// How many steps there will be in all, as far as that is known.
    pub fn steps(&self, reached: Reached) -> usize {
        let lost = reached.place.saturating_sub(reached.images);
        let epoch = reached.first.unwrap_or_else(|| (self.rows.saturating_sub(lost) / self.batch).max(1).max(reached.steps));
        self.epochs * epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_losses_it_counts_steps() {
        // 44 rows in steps of 8 leave a rest of 4.
        let pace = Pace::new(44, 8, 3);
        let mut step = 0;
        for epoch in 0..3 {
            for steps in 0..5 {
                let first = (epoch > 0).then_some(5);
                let reached = Reached { epoch, steps, images: steps * 8, first, place: steps * 8 };
                assert_eq!((pace.at(reached), pace.steps(reached)), (step as f64, 15));
                step += 1;
            }
        }
        // Steps of any number, by any number of them.
        for (rows, batch) in [(1_281_167, 256), (97, 3), (60, 128)] {
            let pace = Pace::new(rows, batch, 2);
            for steps in 0..pace.epoch() {
                let at = |first| pace.at(Reached { epoch: 1, steps, images: steps * batch, first, place: steps * batch });
                assert_eq!(
                    (at(None), at(Some(pace.epoch()))),
                    ((pace.epoch() + steps) as f64, (pace.epoch() + steps) as f64)
                );
            }
        }
    }

    #[test]
    fn rows_that_are_left_out_do_not_end_it_early() {
        // 30 of 120 rows are sound: three steps of ten an epoch, in place of twelve.
        let pace = Pace::new(120, 10, 4);
        let begin = Reached { epoch: 0, steps: 0, images: 0, first: None, place: 0 };
        assert_eq!((pace.at(begin), pace.steps(begin)), (0.0, 48));
        let third = Reached { steps: 2, images: 20, place: 84, ..begin };
        assert!((pace.at(third) - 8.4).abs() < 1e-12, "84 of 120 rows are behind it");
        assert_eq!(pace.steps(third), 4 * 5, "64 rows are known to be lost");
        let last = Reached { epoch: 3, steps: 2, images: 20, first: Some(3), place: 0 };
        assert_eq!((pace.at(last), pace.steps(last)), (3.0 * 12.0 + 8.0, 12));
        // An epoch with more steps than the first does not run into the next.
        assert_eq!(pace.at(Reached { steps: 4, ..last }), 48.0);
    }
}
