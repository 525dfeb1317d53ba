//! One run: rows are gathered, starts tried, and the best written.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use tessera_schemas::clusters;

use super::config::{Config, Empty, Init};
use super::lloyd::{Given, Lloyd, Precision, Round};
use super::previous::Previous;
use super::rows::{Directions, Incoming};
use super::{CENTROIDS, FEATURES, Kmeans, mini_batch, start};
use crate::decode::OnError;
use crate::memory::Memory;
use crate::nearest::CodedRows;
use crate::operator::{Context, Operator, Order, RunError, Sink, Tables, Whole, read_all};
use crate::random::Draw;
use crate::vectors::{self, to_unit_length};

/// Bytes beside its feature, its code and its id that a row takes: its cluster, its weight for the start, and its place.
const ROW: usize = 16;
/// Bytes that a row's id takes, beside what attaches to it: few have more.
const ID: usize = 40;
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

/// The centroids to start from.
struct Start {
    /// The clusters' numbers, rising.
    numbers: Vec<i32>,
    /// As many as numbers, `x dimension`.
    centroids: Vec<f32>,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Kmeans { config, k, dimension, centroids } = &self.operator;
        let (k, dimension, threads, seed) = (*k, *dimension, self.context.threads, self.context.seed);
        let given = if centroids.is_empty() { None } else { Some(Start::read(tables, k, config)?) };
        let there = given.as_ref().map_or(k, |start| start.numbers.len());
        let previous = self.previous(tables, sink)?;
        let expected = tables.rows(FEATURES)?;
        // Known before anything is read, as a rule: bad rows may have been dropped.
        enough(there, expected).map_err(RunError::Input)?;
        let folder = self.context.scratch.as_path();
        let spill = self.exceeds(expected, sink).map(|most| (folder, most));
        let directions =
            config.spherical.then_some(Directions { drop: config.on_error == OnError::Drop, dropped: Vec::new() });
        let mut rows = Incoming::new(dimension, expected, directions, spill)?;
        read_all(tables, FEATURES, sink, "reading features", |batch, sink| {
            rows.add(batch, &config.column)?;
            rows.dropped().for_each(|row| sink.leave_out(row));
            Ok(())
        })?;
        let folder = spill.map(|(folder, _)| folder);
        let rows = rows.finish(folder)?;
        enough(there, rows.count()).map_err(RunError::Input)?;
        sink.progress(0, config.restarts * config.iterations, "coding features");
        let coded = CodedRows::new(rows.frame(), &rows.values, threads, folder)?;
        let precision = Precision::of(&rows, threads);
        let same =
            Given { rows: &rows, coded: &coded, precision: &precision, spherical: config.spherical, seed, threads, folder };
        let first = |restart: usize| Draw::new(seed, Kmeans::NAME, "start", "", restart as u64);
        let mut warm = None;
        let mut counts = None;
        if let Some(previous) = previous {
            let started = previous.complete(same, k, &mut first(0), &|| sink.cancelled())?;
            match previous.assign(Lloyd::new(same, started)?, &|| sink.cancelled())? {
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
                (None, Some(start), _) => (Lloyd::new(same, start.centroids.clone())?, None),
                (None, None, Init::Random) => (Lloyd::new(same, start::random(&rows, k, &mut draw))?, None),
                (None, None, Init::PlusPlus | Init::Previous) => {
                    let drawn = start::plus_plus(same, &[], k, &mut draw, &|| sink.cancelled())?;
                    (Lloyd::new(same, drawn)?, None)
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
                    let mut lloyd = Lloyd::new(same, centroids)?;
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
        let numbers = given.map_or_else(|| (0..k as i32).collect(), |start| start.numbers);
        let kept: BooleanArray = sizes.iter().map(|&size| Some(config.empty != Empty::Drop || size > 0)).collect();
        let whole = clusters::numbered(&clusters::schema(k, dimension), numbers, sizes, centroids)?;
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

    /// Whether rows must go to files; then it says so, and how many bytes may be held.
    fn exceeds(&self, rows: usize, sink: &mut dyn Sink) -> Option<usize> {
        let Kmeans { config, k, dimension, .. } = &self.operator;
        let stored = rows * (size_of::<f32>() * dimension + CodedRows::bytes(*dimension) + ROW);
        let needed = stored + rows * ID + k * dimension * CENTROID;
        Memory::exceeded(config.memory, Memory(needed as u64), Memory(stored as u64), sink)
    }
}

/// Says why the last centroids are of no use.
fn afresh(why: &str, sink: &mut dyn Sink) {
    sink.say(&format!("starts afresh and not from the last centroids: {why}"));
}

/// Whether there are as many images as clusters, or what is wrong.
pub(super) fn enough(k: usize, n: usize) -> Result<(), String> {
    if k <= n { Ok(()) } else { Err(format!("k is {k}, but there are {n} images: a cluster needs at least one")) }
}

impl Start {
    /// From the table of centroids. It may have fewer than the `k` that it says of itself, where a run has left out empty clusters: then
    /// those that are there keep their numbers.
    fn read(tables: &dyn Tables, k: usize, config: &Config) -> Result<Self, RunError> {
        let batches = tables.scan(CENTROIDS, Order::Stored)?.collect::<Result<Vec<_>, _>>()?;
        let clusters::Sorted { numbers, mut centroids, dimension, .. } = clusters::sorted(&batches)?;
        let numbers = match numbers.len() {
            0 => return Err(RunError::Input(format!("`{CENTROIDS}` is empty: there is nothing to start from"))),
            found if found == k => (0..k as i32).collect(),
            found if found > k || config.k.is_some() => {
                let message = format!("k is {k}, but `{CENTROIDS}` has {found} rows");
                let help = if found < k { "; leave `k` out to start from those" } else { "" };
                return Err(RunError::Input(message + help));
            }
            _ => numbers,
        };
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RunError::Input(format!("`{CENTROIDS}` has cluster {} twice", pair[0])));
        }
        if let Some(number) = numbers.iter().find(|number| !(0..k as i32).contains(number)) {
            return Err(RunError::Input(format!(
                "`{CENTROIDS}` has a cluster {number}, and its clusters should be 0 to {}",
                k - 1
            )));
        }
        if let Err(fault) = vectors::check(&centroids, dimension) {
            return Err(RunError::Input(format!("row {} of `{CENTROIDS}` {fault}", fault.row)));
        }
        for (row, centroid) in centroids.chunks_exact_mut(dimension).enumerate().filter(|_| config.spherical) {
            if !to_unit_length(centroid) {
                return Err(RunError::Input(format!("row {row} of `{CENTROIDS}` is all zeros, which have no direction")));
            }
        }
        Ok(Self { numbers, centroids })
    }
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
        let relocated = if config.empty == Empty::Farthest { lloyd.relocate()? } else { 0 };
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
