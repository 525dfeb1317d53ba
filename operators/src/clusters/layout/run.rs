//! One run: landmarks are chosen and gathered, their neighbours read or looked for, and the map is made.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, StringArray};
use tessera_schemas::{IMAGE_ID, column, features, floats, int32, neighbours, points, text};

use super::descend::Descent;
use super::graph::Graph;
use super::{FEATURES, NEAR, Plane, kept, start};
use crate::clusters::gathered::{Gathered, Incoming};
use crate::clusters::search::{Lists, Values, Within, frame, waves};
use crate::nearest::Best;
use crate::operator::{Context, Operator, RunError, Sink, Tables, Whole, read_all};
use crate::random::Draw;

/// No neighbour.
const NONE: u32 = u32::MAX;
/// Images that are written at once.
const WRITTEN: usize = 1024;

/// A run.
pub struct Run {
    pub operator: Plane,
    pub context: Context,
}

/// Landmarks' neighbours, `n x width`, nearest first; [`NONE`] where there are no more.
struct Near {
    neighbours: Vec<u32>,
    distances: Vec<f32>,
    width: usize,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Plane { config, near, .. } = &self.operator;
        let (seed, threads) = (self.context.seed, self.context.threads);
        let (rows, are_all) = self.landmarks(tables, sink)?;
        if rows.count() == 0 {
            return Ok(());
        }
        let near = if *near && are_all { self.read(tables, &rows, sink)? } else { self.search(&rows, sink)? };
        sink.progress(0, 1, "first places");
        let graph = Graph::new(rows.count(), &near.neighbours, &near.distances, near.width, threads);
        let mut descent = Descent::new(start::places(&rows.values, rows.dimension, seed, threads));
        let epochs = config.epochs(rows.count());
        for epoch in 0..epochs {
            descent.step(&graph, epochs, seed, threads);
            sink.progress(epoch + 1, epochs, "epochs");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        sink.metric(0, 0, "kept", kept::share(&descent.places, &near.neighbours, near.width, threads));
        self.write(&rows, &descent.places, sink)
    }
}

impl Run {
    /// All images, or a choice of them, and whether they are all.
    fn landmarks(&self, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(Gathered, bool), RunError> {
        let Plane { config, dimension, .. } = &self.operator;
        let (expected, most) = (tables.rows(FEATURES)?, config.landmarks);
        let rank = |id: &str| Draw::new(self.context.seed, Plane::NAME, "landmarks", id, 0).bits();
        let mut limit = u64::MAX;
        if expected > most {
            let mut ranks = Vec::with_capacity(expected);
            read_all(tables, FEATURES, sink, "choosing landmarks", |batch, _| {
                ranks.extend(text(batch, IMAGE_ID)?.iter().flatten().map(rank));
                Ok(())
            })?;
            if ranks.len() > most {
                limit = *ranks.select_nth_unstable(most - 1).1;
            }
        }
        let mut rows = Incoming::new(&config.column, *dimension, expected.min(most), None)?;
        let wanted = |id: &str| limit == u64::MAX || rank(id) <= limit;
        read_all(tables, FEATURES, sink, "reading features", |batch, _| rows.add(batch, &wanted))?;
        if limit < u64::MAX {
            sink.say(&format!("the map is of {most} of {expected} images; `place` puts the others on it"));
        }
        Ok((rows.finish()?, limit == u64::MAX))
    }

    /// The neighbours that the stage's table has.
    fn read(&self, tables: &dyn Tables, rows: &Gathered, sink: &mut dyn Sink) -> Result<Near, RunError> {
        let most = self.operator.config.count;
        let width = most.min(rows.count());
        let mut near = Near::none(rows.count(), width);
        read_all(tables, NEAR, sink, "reading neighbours", |batch, _| {
            let (ids, others) = (text(batch, IMAGE_ID)?, text(batch, neighbours::NEIGHBOUR)?);
            let ranks = column::without_nulls(int32(batch, neighbours::RANK)?, neighbours::RANK)?;
            let distances = column::without_nulls(floats(batch, neighbours::DISTANCE)?, neighbours::DISTANCE)?;
            // Rows of one image come one behind the other, as a rule.
            let mut last: Option<(&str, usize)> = None;
            for row in 0..batch.num_rows() {
                let (id, other) = (known(ids, row)?, known(others, row)?);
                let image_id = || id.to_owned();
                let number = |id: &str| {
                    let unknown =
                        || format!("`{NEAR}` has `{id}`, and `{FEATURES}` has not: make both from the same features");
                    rows.ids.find(id).ok_or_else(|| RunError::Row { image_id: image_id(), reason: unknown() })
                };
                let vertex = match last {
                    Some((last, vertex)) if last == id => vertex,
                    _ => number(id)?,
                };
                last = Some((id, vertex));
                let (rank, distance) = (ranks.value(row), distances.value(row));
                let fault = |reason: String| Err(RunError::Row { image_id: image_id(), reason });
                if rank < 1 {
                    return fault(format!("`{NEAR}` has a rank of {rank}, and the nearest has 1"));
                }
                if !(distance >= 0.0 && distance.is_finite()) {
                    return fault(format!("`{NEAR}` has a distance of {distance}, which is none"));
                }
                let other = number(other)?;
                if other == vertex {
                    return fault(format!("`{NEAR}` has it as a neighbour of itself"));
                }
                if rank as usize > width {
                    continue;
                }
                let at = vertex * width + rank as usize - 1;
                if near.neighbours[at] != NONE {
                    return fault(format!("`{NEAR}` has two neighbours of rank {rank}"));
                }
                (near.neighbours[at], near.distances[at]) = (other as u32, distance);
            }
            Ok(())
        })?;
        near.check(rows)?;
        Ok(near)
    }

    /// The neighbours among the landmarks themselves.
    fn search(&self, rows: &Gathered, sink: &mut dyn Sink) -> Result<Near, RunError> {
        let threads = self.context.threads;
        let width = self.operator.config.count.min(rows.count() - 1);
        if width == 0 {
            return Ok(Near::none(rows.count(), 0));
        }
        let lists = Lists::one(Values::Of(&rows.values), frame(&rows.values, rows.dimension), true, threads);
        let mut near = Near { neighbours: Vec::new(), distances: Vec::new(), width };
        let units = lists.units();
        let find = |unit: usize| lists.others(&lists.members()[units[unit].clone()], &Within::All, width);
        waves(units.len(), threads, sink, "units of images searched for", find, |_, best: Vec<Best>| {
            for (other, squared) in best.into_iter().flat_map(Best::sorted) {
                near.neighbours.push(other);
                near.distances.push(squared.sqrt() as f32);
            }
            Ok(())
        })?;
        Ok(near)
    }

    fn write(&self, rows: &Gathered, places: &[[f32; 2]], sink: &mut dyn Sink) -> Result<(), RunError> {
        let count = rows.count();
        for first in (0..count).step_by(WRITTEN) {
            let some = first..count.min(first + WRITTEN);
            let ids: ArrayRef = Arc::new(StringArray::from_iter_values(some.clone().map(|number| rows.ids.get(number))));
            let values = rows.values[some.start * rows.dimension..some.end * rows.dimension].to_vec();
            let vectors = features::array(values, rows.dimension);
            sink.write(points::batch(&self.operator.schema, ids, &places[some], Some(vectors))?)?;
        }
        Ok(())
    }
}

fn known(ids: &StringArray, row: usize) -> Result<&str, RunError> {
    match ids.is_null(row) {
        true => Err(RunError::Input(format!("`{NEAR}` has a null where an `{IMAGE_ID}` should be"))),
        false => Ok(ids.value(row)),
    }
}

impl Near {
    fn none(count: usize, width: usize) -> Self {
        Self { neighbours: vec![NONE; count * width], distances: vec![0.0; count * width], width }
    }

    /// Whether ranks have no gaps, and distances rise with them.
    fn check(&self, rows: &Gathered) -> Result<(), RunError> {
        let pairs = self.neighbours.chunks_exact(self.width.max(1)).zip(self.distances.chunks_exact(self.width.max(1)));
        for (vertex, (row, distances)) in pairs.enumerate() {
            let there = row.iter().take_while(|&&other| other != NONE).count();
            let fault = |reason: String| Err(RunError::Row { image_id: rows.ids.get(vertex).to_owned(), reason });
            if there == 0 {
                return fault(format!("`{NEAR}` has no neighbours of it: make it from the same features"));
            }
            if row[there..].iter().any(|&other| other != NONE) {
                return fault(format!("`{NEAR}` has no neighbour of rank {}, and a farther one", there + 1));
            }
            if !distances[..there].is_sorted() {
                return fault(format!("its distances in `{NEAR}` do not rise with their ranks"));
            }
        }
        Ok(())
    }
}
