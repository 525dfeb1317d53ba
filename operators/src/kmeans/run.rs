//! One run: rows are gathered, starts tried, and the best written.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use tessera_schemas::clusters;

use super::config::{Config, Empty, Init};
use super::lloyd::{Lloyd, Round};
use super::previous::Previous;
use super::rows::Incoming;
use super::{CENTROIDS, FEATURES, Kmeans, mini_batch, start};
use crate::memory::Memory;
use crate::nearest::CodedRows;
use crate::operator::{Context, Operator, Order, RunError, Sink, Tables, Whole};
use crate::random::Draw;
use crate::vectors::{self, to_unit_length};

/// Bytes beside its feature that a row takes.
const ROW: usize = 50;
/// Bytes that a value of a centroid takes: itself, its code, and its sum.
const CENTROID: usize = 14;

/// A run.
pub struct Run {
    pub operator: Kmeans,
    pub context: Context,
}

/// A number for the `metrics` table: its iteration, name and value.
pub type Metric = (usize, &'static str, f64);

/// What one start led to.
struct Found {
    objective: f64,
    sizes: Vec<i64>,
    centroids: Vec<f32>,
    metrics: Vec<Metric>,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Kmeans { config, k, dimension, centroids } = &self.operator;
        let (k, dimension, threads, seed) = (*k, *dimension, self.context.threads, self.context.seed);
        let given = if centroids.is_empty() { None } else { Some(given(tables, k, config.spherical)?) };
        let previous = self.previous(tables, sink)?;
        let expected = tables.rows(FEATURES)?;
        // Known before anything is read, as a rule: bad rows may have been dropped.
        enough(k, expected)?;
        let folder = self.spools(expected, sink).then_some(self.context.scratch.as_path());
        let mut rows = Incoming::new(dimension, expected, config.spherical, folder)?;
        let mut read = 0;
        for batch in tables.scan(FEATURES, Order::Stored)? {
            let batch = batch?;
            rows.add(&batch, &config.column)?;
            read += batch.num_rows();
            sink.progress(read, expected, "reading features");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        let rows = rows.finish()?;
        enough(k, rows.count())?;
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, folder)?;
        let lloyd = |centroids| Lloyd::new(&rows, &coded, centroids, config.spherical, seed, threads);
        let first = |restart: usize| Draw::new(seed, Kmeans::NAME, "start", "", restart as u64);
        let mut warm = None;
        let mut counts = None;
        if let Some(previous) = previous {
            let started = previous.complete(&rows, &coded, k, &mut first(0), threads, &|| sink.cancelled())?;
            match previous.assign(lloyd(started), &|| sink.cancelled())? {
                Ok(assigned) => {
                    sink.goes_on();
                    counts = Some(previous.counts(k));
                    warm = Some(assigned);
                }
                Err(why) => afresh(&why, sink),
            }
        }
        let restarts = if warm.is_some() { 1 } else { config.restarts };
        let mut best: Option<Found> = None;
        for restart in 0..restarts {
            let (done, all) = (restart * config.iterations, restarts * config.iterations);
            sink.progress(done, all, "first centroids");
            let mut draw = first(restart);
            let (lloyd, round) = match (warm.take(), &given, config.init) {
                (Some((lloyd, round)), ..) => (lloyd, Some(round)),
                (None, Some(given), _) => (lloyd(given.clone()), None),
                (None, None, Init::Random) => (lloyd(start::random(&rows, k, &mut draw)), None),
                (None, None, Init::PlusPlus | Init::Previous) => {
                    let drawn = start::plus_plus(&rows, &coded, &[], k, &mut draw, threads, &|| sink.cancelled())?;
                    (lloyd(drawn), None)
                }
            };
            let found = match config.mini_batch {
                None => climb(lloyd, round, config, (done, all), sink)?,
                Some(size) => {
                    let mut draw = Draw::new(seed, Kmeans::NAME, "batches", "", restart as u64);
                    let (centroids, counts, frame) = (lloyd.into_centroids(), counts.take(), coded.frame());
                    let (centroids, mut metrics) = mini_batch::run(
                        &rows,
                        frame,
                        centroids,
                        counts,
                        config,
                        size,
                        threads,
                        &mut draw,
                        (done, all),
                        sink,
                    )?;
                    let mut lloyd = Lloyd::new(&rows, &coded, centroids, config.spherical, seed, threads);
                    let round = lloyd.assign(&|| sink.cancelled())?;
                    metrics.extend(round.metrics().map(|(name, value)| (config.iterations, name, value)));
                    Found::of(lloyd, metrics)
                }
            };
            if best.as_ref().is_none_or(|best| found.objective < best.objective) {
                best = Some(found);
            }
        }
        let Found { sizes, centroids, metrics, .. } = best.expect("there is at least one start");
        for (iteration, name, value) in metrics {
            sink.metric(iteration, iteration, name, value);
        }
        let kept: BooleanArray = sizes.iter().map(|&size| Some(config.empty != Empty::Drop || size > 0)).collect();
        let whole = clusters::batch(&clusters::schema(k, dimension), sizes, centroids)?;
        sink.write(filter_record_batch(&whole, &kept)?)
    }
}

impl Run {
    /// The centroids of the stage's last table, if it is to go on from them and they are of use; says why not.
    fn previous(&self, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<Option<Previous>, RunError> {
        let Kmeans { config, k, dimension, .. } = &self.operator;
        if self.operator.goes_on_from().is_none() {
            return Ok(None);
        }
        let Some(table) = tables.last()? else { return Ok(None) };
        match Previous::new(&table, *k, *dimension, config.spherical) {
            Ok(previous) => Ok(Some(previous)),
            Err(why) => {
                afresh(&why, sink);
                Ok(None)
            }
        }
    }

    /// Whether features must go to a file; then it says so.
    fn spools(&self, rows: usize, sink: &mut dyn Sink) -> bool {
        let Kmeans { config, k, dimension, .. } = &self.operator;
        let features = rows * (size_of::<f32>() * dimension + CodedRows::bytes(*dimension));
        let needed = Memory((features + rows * ROW + k * dimension * CENTROID) as u64);
        let (budget, whose) = match config.memory {
            Some(memory) => (memory, "`memory` is"),
            None => (Memory::free(), "what is free is"),
        };
        let spools = needed > budget;
        if spools {
            let values = Memory(features as u64);
            sink.say(&format!(
                "features go to a temporary file of {values} in the store: {whose} {budget}, and {needed} are needed"
            ));
        }
        spools
    }
}

/// Says why the last centroids are of no use.
fn afresh(why: &str, sink: &mut dyn Sink) {
    sink.say(&format!("starts afresh and not from the last centroids: {why}"));
}

fn enough(k: usize, n: usize) -> Result<(), RunError> {
    if k <= n {
        return Ok(());
    }
    Err(RunError::Input(format!("k is {k}, but there are {n} images: a cluster needs at least one")))
}

/// The centroids to start from, `k x dimension`.
fn given(tables: &dyn Tables, k: usize, spherical: bool) -> Result<Vec<f32>, RunError> {
    let batches = tables.scan(CENTROIDS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
    let clusters::Sorted { numbers, mut centroids, dimension, .. } = clusters::sorted(&batches)?;
    if numbers.len() != k {
        return Err(RunError::Input(format!("k is {k}, but `{CENTROIDS}` has {} rows", numbers.len())));
    }
    if let Err(fault) = vectors::check(&centroids, dimension) {
        return Err(RunError::Input(format!("row {} of `{CENTROIDS}` {fault}", fault.row)));
    }
    for (row, centroid) in centroids.chunks_exact_mut(dimension).enumerate().filter(|_| spherical) {
        if !to_unit_length(centroid) {
            return Err(RunError::Input(format!("row {row} of `{CENTROIDS}` is all zeros, which have no direction")));
        }
    }
    Ok(centroids)
}

impl Found {
    fn of(lloyd: Lloyd<'_>, metrics: Vec<Metric>) -> Self {
        Self { objective: lloyd.objective(), sizes: lloyd.sizes().to_vec(), centroids: lloyd.into_centroids(), metrics }
    }
}

/// Iterates until nothing is left to gain.
///
/// `first` is what the assignment to the first centroids found, where that was done; `done` how many iterations came before, and of how
/// many in all.
fn climb(
    mut lloyd: Lloyd<'_>,
    first: Option<Round>,
    config: &Config,
    (done, all): (usize, usize),
    sink: &mut dyn Sink,
) -> Result<Found, RunError> {
    let first = first.map_or_else(|| lloyd.assign(&|| sink.cancelled()), Ok)?;
    let mut rounds = vec![first];
    for iteration in 1..=config.iterations {
        let relocated = if config.empty == Empty::Farthest { lloyd.relocate() } else { 0 };
        lloyd.update();
        let split = if config.empty == Empty::Split { lloyd.split() } else { 0 };
        let (before, round) = (rounds[iteration - 1], lloyd.assign(&|| sink.cancelled())?);
        rounds.push(round);
        let note = format!("objective {:.6e}, {:.2} % moved", round.objective, 100.0 * round.moved);
        sink.progress(done + iteration, all, &note);
        let gained = before.objective - round.objective;
        let refilled = relocated + split;
        if round.moved == 0.0 || (config.tolerance > 0.0 && refilled == 0 && gained <= config.tolerance * before.objective) {
            break;
        }
    }
    let rounds = rounds.iter().enumerate();
    let metrics = rounds.flat_map(|(number, round)| round.metrics().map(|(name, value)| (number, name, value))).collect();
    Ok(Found::of(lloyd, metrics))
}
