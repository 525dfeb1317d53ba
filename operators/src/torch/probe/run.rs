//! A probe's run: layer by layer, regularisation by regularisation.

use tch::Tensor;

use super::Probe;
use super::table::{self, Row};
use crate::numbers::Numbers;
use crate::operator::{Context, RunError, Sink, Tables, Whole};
use crate::torch::linear::data::{Examples, Split};
use crate::torch::linear::fit::Fitter;
use crate::torch::linear::read::read;
use crate::torch::score;
use crate::torch::threads::Threads;

/// A layer's weaker regularisations are not tried any more when so many in a row were worse than the best: they take the longest.
const PATIENCE: usize = 2;

/// A bound operator with what the run gives it.
pub struct Run {
    pub probe: Probe,
    pub context: Context,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Self { probe, context } = *self;
        let _threads = Threads::new(context.threads)?;
        let _guard = tch::no_grad_guard();
        let spill = probe.exceeds(tables, sink)?.map(|most| (context.scratch.as_path(), most));
        let (mut examples, layers) = read(probe.wanted(), tables, context.seed, spill, sink)?;
        examples.check()?;
        sink.metric(0, 0, "unlabelled", examples.unlabelled as f64);
        if let Some(line) = examples.left_out() {
            sink.say(&line);
        }
        if examples.measure_validation() {
            sink.say(
                "no images are for the test: those for validation are measured, and `c` is chosen by a fifth of the others",
            );
        }
        let held_out = examples.hold_out();
        let mut rows = Vec::new();
        // A layer's values are given up before the next one's are looked at.
        for (place, (name, values)) in probe.columns.iter().zip(layers).enumerate() {
            let layer = OfLayer { probe: &probe, examples: &examples, name, values: &values, place };
            let mut fitter = Fitter::new(&values, &examples, &[Split::Train])?;
            let (best, tried) = layer.choose(&mut fitter, sink)?;
            rows.extend(tried);
            if examples.count(Split::Test) > 0 {
                let fitter = if held_out {
                    // Two of them would take twice the memory.
                    drop(fitter);
                    layer.fit_to_all(best.c, sink)?
                } else {
                    fitter.with(best.weights)
                };
                rows.extend(layer.test(&fitter, best.c, sink)?);
            }
            sink.progress((place + 1) * layer.steps(), layer.all_steps(), name);
        }
        sink.write(table::batch(&rows)?)
    }
}

/// What a regularisation gave.
struct Fit {
    c: f64,
    /// On validation.
    value: f64,
    weights: Tensor,
}

/// The place of the best, the first of several.
fn chosen(path: &[Fit]) -> usize {
    (0..path.len()).fold(0, |best, place| if path[place].value > path[best].value { place } else { best })
}

/// The probe of one layer.
struct OfLayer<'a> {
    probe: &'a Probe,
    examples: &'a Examples,
    /// The layer's column.
    name: &'a str,
    /// `n x D`.
    values: &'a Numbers<f32>,
    /// Its place among the layers.
    place: usize,
}

impl<'a> OfLayer<'a> {
    /// Steps of the progress bar for one layer: its fits, and the test.
    fn steps(&self) -> usize {
        self.probe.strengths.len() + 1
    }

    /// The same for all layers.
    fn all_steps(&self) -> usize {
        self.probe.columns.len() * self.steps()
    }

    /// Tries regularisations from strong to weak: each fit starts from the one before. Returns the one that is best on validation, and
    /// what all of them gave.
    fn choose(&self, fitter: &mut Fitter<'_>, sink: &mut dyn Sink) -> Result<(Fit, Vec<Row>), RunError> {
        let (mut path, mut rows) = (Vec::new(), Vec::new());
        for (tried, &c) in (1..).zip(&self.probe.strengths) {
            fitter.fit(c, self.probe.iterations, &|| sink.cancelled())?;
            let scores = fitter.scores(Split::Validation)?;
            let value = scores[0].value;
            path.push(Fit { c, value, weights: fitter.weights() });
            rows.extend(scores.into_iter().map(|score| self.row(c, Split::Validation, score)));
            let note = format!("{}: {value:.3} on validation with c = {c:e}", self.name);
            sink.progress(self.place * self.steps() + tried, self.all_steps(), &note);
            let most = path[chosen(&path)].value;
            if path.len() > PATIENCE && path.iter().rev().take(PATIENCE).all(|fit| fit.value < most) {
                break;
            }
        }
        let best = path.swap_remove(chosen(&path));
        rows.iter_mut().for_each(|row| row.chosen = row.c == best.c);
        Ok((best, rows))
    }

    /// Fits once more, to the images that were held out as well.
    fn fit_to_all(&self, c: f64, sink: &mut dyn Sink) -> Result<Fitter<'a>, RunError> {
        let mut fitter = Fitter::new(self.values, self.examples, &[Split::Train, Split::Validation])?;
        fitter.fit(c, self.probe.iterations, &|| sink.cancelled())?;
        Ok(fitter)
    }

    /// Measures on the test, and says once which classes could not be measured.
    fn test(&self, fitter: &Fitter<'_>, c: f64, sink: &mut dyn Sink) -> Result<Vec<Row>, RunError> {
        let scores = fitter.scores(Split::Test)?;
        if self.place == 0
            && !self.examples.exclusive
            && let Some(line) = score::unmeasured(&scores, &self.examples.classes)
        {
            sink.say(&line);
        }
        for score in scores.iter().filter(|score| score.class.is_none()) {
            sink.metric(0, 0, &format!("{}_{}", self.name, score.metric), score.value);
        }
        let row = |score| Row { chosen: true, ..self.row(c, Split::Test, score) };
        Ok(scores.into_iter().map(row).collect())
    }

    fn row(&self, c: f64, split: Split, score: score::Score) -> Row {
        Row { layer: self.name.to_owned(), c, chosen: false, split, score }
    }
}
