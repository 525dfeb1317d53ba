//! Chance: what a network's loss and accuracy would be if all that it had learnt was how common each answer is.
//!
//! A training can run to its end, with a falling learning rate and a moving bar, and have learnt nothing: its loss is then that of the
//! best constant answer, and its features are no better than random weights'. Nothing else tells.

use serde::{Deserialize, Serialize};

use crate::torch::examples::Content;

/// A loss is at chance from this share of chance's on. A network that learns nothing comes as near as the noise of its own dropout and
/// batch statistics lets it, a few thousandths (2,500 puzzles of 24 permutations: 3.18, and ln 24 = 3.178); one that begins to learn
/// leaves a fiftieth behind within an epoch or two.
const LOSS_SHARE: f64 = 0.98;
/// An accuracy is at chance up to so many standard deviations of as many guesses above the commonest answer's share: by luck alone,
/// one training in forty that learnt nothing is above. Few examples so need a higher accuracy to count as learnt from.
const DEVIATIONS: f64 = 2.0;

/// How often each answer was the right one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(Vec<u64>);

/// The loss and the accuracy that need no learning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance {
    /// The mean loss of an example under the best constant answer.
    pub loss: f64,
    /// The share of right answers, if the commonest is always given.
    pub accuracy: f64,
    /// How many answers there were.
    answers: u64,
}

impl Tally {
    /// Adds a step's right answers: one class an example, or of several questions an example -1, 0 or 1 for each.
    pub fn add(&mut self, content: &Content, classes: &[i64]) {
        let mut count = |place: usize| {
            if self.0.len() <= place {
                self.0.resize(place + 1, 0);
            }
            self.0[place] += 1;
        };
        match content {
            Content::Presence { targets } => {
                let questions = classes.chunks_exact(targets.len()).flat_map(|row| row.iter().enumerate());
                questions.filter(|(_, shown)| **shown != 0).for_each(|(at, &shown)| count(2 * at + usize::from(shown > 0)));
            }
            Content::Puzzles { .. } | Content::Images { .. } => classes.iter().for_each(|&class| count(class as usize)),
        }
    }

    /// Of several questions: whether some example answers yes, and some no.
    pub fn both(&self) -> bool {
        [0, 1].into_iter().all(|answer| self.0.iter().skip(answer).step_by(2).any(|&count| count > 0))
    }

    /// What needs no learning, for so many `examples`. With classes, `smoothing` of a right one's weight is spread over all `classes`.
    pub fn chance(&self, content: &Content, classes: usize, smoothing: f64, examples: usize) -> Chance {
        let answers: u64 = self.0.iter().sum();
        let bits = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        let (loss, right) = match content {
            Content::Presence { .. } => {
                let questions = self.0.chunks(2).map(|pair| [pair[0], pair.get(1).copied().unwrap_or_default()]);
                questions.fold((0.0, 0), |(loss, right), [no, yes]| {
                    let all = (no + yes).max(1) as f64;
                    let entropy = bits(no as f64 / all) + bits(yes as f64 / all);
                    (loss + entropy * (no + yes) as f64 / examples.max(1) as f64, right + no.max(yes))
                })
            }
            Content::Puzzles { .. } | Content::Images { .. } => {
                let share = |place: usize| self.0.get(place).copied().unwrap_or_default() as f64 / answers.max(1) as f64;
                let smooth = |share: f64| (1.0 - smoothing) * share + smoothing / classes as f64;
                let loss = (0..classes).map(|class| bits(smooth(share(class)))).sum();
                (loss, self.0.iter().copied().max().unwrap_or_default())
            }
        };
        Chance { loss, accuracy: right as f64 / answers.max(1) as f64, answers }
    }
}

impl Chance {
    /// Whether such a loss and accuracy are no better, as far as so few answers can tell. Either alone may be: a network that is sure of
    /// its wrong answers has a high loss, and one that is only beginning to learn a low accuracy.
    pub fn holds(&self, loss: f64, accuracy: f64) -> bool {
        let deviation = (self.accuracy * (1.0 - self.accuracy) / self.answers.max(1) as f64).sqrt();
        // With one answer only there is nothing to learn, and nothing to be told of it.
        self.loss > 0.0 && loss >= LOSS_SHARE * self.loss && accuracy <= self.accuracy + DEVIATIONS * deviation
    }

    /// What to say of a training that ended so, at that learning rate, of a network with or without batch normalisation.
    pub fn line(&self, content: &Content, loss: f64, accuracy: f64, rate: f64, normed: bool) -> String {
        let network = if normed { "" } else { "a network with batch normalisation (`small`, `vgg16-bn`, `resnet18`), " };
        let task = match content {
            Content::Puzzles { .. } => "easier puzzles (`jigsaw`: `grid = 2`, fewer `permutations`, `max_occluded = 0`)",
            Content::Images { .. } | Content::Presence { .. } => {
                "fewer classes, or look whether they are those of the images"
            }
        };
        format!(
            "it has learnt nothing: {}. Its weights are worth no more than those that it started with. Try a `learning_rate` of {} or {} ({rate} now), \
             a `warmup` of an epoch, {network}more `epochs`, more images, {task}",
            self.beside(loss, accuracy),
            rounded(rate / 10.0),
            rounded(rate * 10.0)
        )
    }

    /// What to say of a training that learnt its examples, and nothing that holds for others.
    pub fn line_of_others(&self, loss: f64, accuracy: f64) -> String {
        format!(
            "what it has learnt does not hold for `validation`: {}. Try more images, `augment`, fewer `epochs`, or a larger \
             `weight_decay`",
            self.beside(loss, accuracy)
        )
    }

    /// A loss and an accuracy, and chance's.
    fn beside(&self, loss: f64, accuracy: f64) -> String {
        format!(
            "a loss of {loss:.3} and {:.1} % right are what chance gives ({:.3} and {:.1} %)",
            accuracy * 100.0,
            self.loss,
            self.accuracy * 100.0
        )
    }
}

/// Without the last digits that a product of decimals has.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.3e}").parse().unwrap_or(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn puzzles() -> Content {
        Content::Puzzles { normalisation: "tile".to_owned() }
    }

    /// `each` examples of each of so many classes.
    fn even(classes: i64, each: usize) -> Tally {
        let mut tally = Tally::default();
        (0..each).for_each(|_| tally.add(&puzzles(), &(0..classes).collect::<Vec<_>>()));
        tally
    }

    #[test]
    fn chance_is_that_of_the_commonest_answer() {
        let chance = even(24, 100).chance(&puzzles(), 24, 0.0, 2400);
        assert!((chance.loss - 24f64.ln()).abs() < 1e-12 && (chance.accuracy - 1.0 / 24.0).abs() < 1e-12, "{chance:?}");
        // Smoothing does not change what an even guess costs, and makes a sure answer cost something.
        assert!((even(24, 9).chance(&puzzles(), 24, 0.1, 216).loss - 24f64.ln()).abs() < 1e-12);
        let mut skewed = Tally::default();
        skewed.add(&puzzles(), &[0, 0, 0, 2]);
        let chance = skewed.chance(&puzzles(), 3, 0.0, 4);
        assert!((chance.loss - (4f64.ln() - 0.75 * 3f64.ln())).abs() < 1e-12 && chance.accuracy == 0.75, "{chance:?}");
        assert!(skewed.chance(&puzzles(), 3, 0.3, 4).loss > chance.loss);
    }

    #[test]
    fn chance_of_several_questions_is_their_sum() {
        let content = Content::Presence { targets: vec!["cat".to_owned(), "dog".to_owned()] };
        let mut tally = Tally::default();
        tally.add(&content, &[1, -1, -1, -1, -1, 0, -1, -1]);
        let chance = tally.chance(&content, 2, 0.0, 4);
        let quarter = 4f64.ln() - 0.75 * 3f64.ln();
        assert!((chance.loss - quarter).abs() < 1e-12, "all three known answers about dogs are no: {chance:?}");
        assert_eq!((chance.accuracy, chance.answers, tally.both()), (6.0 / 7.0, 7, true));
        let mut no = Tally::default();
        no.add(&content, &[-1, 0, -1, -1]);
        assert!(!no.both());
    }

    #[test]
    fn what_has_learnt_is_told_from_what_has_not() {
        // 2,500 puzzles of 24 permutations, as they came out: what was learnt is seen from the first percent on.
        let chance = even(24, 104).chance(&puzzles(), 24, 0.0, 2496);
        for (loss, accuracy, expected) in [
            (3.18, 0.042, true),
            (3.20, 0.045, true),
            (3.15, 0.040, true),
            (4.50, 0.049, true),
            (3.05, 0.045, false),
            (3.17, 0.060, false),
            (1.20, 0.600, false),
        ] {
            assert_eq!(chance.holds(loss, accuracy), expected, "{loss} {accuracy} beside {chance:?}");
        }
        // Of twelve images in three classes, seven right are within luck; of twelve hundred, seven hundred are not.
        assert!(even(3, 4).chance(&puzzles(), 3, 0.0, 12).holds(1.2, 7.0 / 12.0));
        assert!(!even(3, 400).chance(&puzzles(), 3, 0.0, 1200).holds(1.2, 7.0 / 12.0));
        // One class alone is always right.
        assert!(!even(1, 40).chance(&puzzles(), 1, 0.0, 40).holds(0.0, 1.0));
        let line = chance.line(&puzzles(), 3.18, 0.042, 0.05, true);
        let begins = "it has learnt nothing: a loss of 3.180 and 4.2 % right are what chance gives (3.178 and 4.2 %). ";
        assert!(line.starts_with(begins) && line.contains("a `learning_rate` of 0.005 or 0.5 (0.05 now)"), "{line}");
        assert!(!line.contains("batch normalisation"), "it has that: {line}");
        assert!(chance.line(&puzzles(), 3.18, 0.042, 0.05, false).contains("batch normalisation"));
    }
}
