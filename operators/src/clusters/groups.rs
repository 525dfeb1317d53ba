//! `groups`: images that are near to each other, directly or over others: near-duplicates.
//!
//! Input: `near`, as `neighbours` makes it. Output: for each image the first of its group by `image_id`, and how many its group has; an image without near
//! others is a group of its own. Two images are of one group if a chain of neighbours, each at most `below` from the next, leads from one to the other. Metrics:
//! `groups`, those of two images or more, and `duplicates`, their images less one a group. Exact, and the same for any order of the rows.
//!
//! Memory: the ids, and some 60 bytes more an image.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, column, floats, neighbours, text};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Sink, Tables, Whole, read_all,
};

const NEAR: &str = "near";
const FIRST: &str = "first";
const SIZE: &str = "size";
/// The most images.
const MOST: usize = 1 << 31;
/// Images that are written at once.
const WRITTEN: usize = 8192;

/// Keys of a `groups` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest distance between two images that are near-duplicates of each other. With 0, only those with the same features are.
    below: f64,
}

/// The bound operator.
pub struct Groups {
    config: Config,
}

impl Operator for Groups {
    const NAME: &'static str = "groups";
    const SUMMARY: &'static str = "groups of images that are near to each other: near-duplicates";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("first", "the `image_id` that comes first in its group; its own where it has no near-duplicates"),
        ("size", "how many images its group has"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.duplicates]
op = "groups"
input = "near"
below = 0.1
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[Port::scan(
        NEAR,
        &[
            Column::new(IMAGE_ID, ColumnKind::Text),
            Column::new(neighbours::NEIGHBOUR, ColumnKind::Text),
            Column::new(neighbours::DISTANCE, ColumnKind::Any),
        ],
    )];
    const LIMITS: Limits = &[("below", 1e18)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn faults(config: &Config) -> Vec<BindError> {
        // NaN is none either.
        let none = config.below.is_nan() || config.below < 0.0;
        none.then(|| BindError::key("below", format!("{} is no distance: 0 or more", config.below))).into_iter().collect()
    }

    fn bind(config: Config, _: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let faults = Self::faults(&config);
        if faults.is_empty() { Ok(Self { config }) } else { Err(faults) }
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(Run { below: self.config.below }))
    }
}

fn schema() -> SchemaRef {
    let id = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![id(IMAGE_ID), id(FIRST), Field::new(SIZE, DataType::Int64, false)]))
}

struct Run {
    below: f64,
}

impl Whole for Run {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let mut images = Images::default();
        read_all(tables, NEAR, sink, "reading neighbours", |batch, _| {
            let (ids, others) = (text(batch, IMAGE_ID)?, text(batch, neighbours::NEIGHBOUR)?);
            let ids = column::without_nulls(ids, IMAGE_ID)?;
            let others = column::without_nulls(others, neighbours::NEIGHBOUR)?;
            let distances = column::without_nulls(floats(batch, neighbours::DISTANCE)?, neighbours::DISTANCE)?;
            for row in 0..batch.num_rows() {
                let (image, distance) = (images.number(ids.value(row))?, f64::from(distances.value(row)));
                if distance.is_nan() || distance < 0.0 {
                    let reason = format!("`{NEAR}` has a distance of {distance}, which is none");
                    return Err(RunError::Row { image_id: ids.value(row).to_owned(), reason });
                }
                let other = images.number(others.value(row))?;
                if distance <= self.below {
                    images.join(image, other);
                }
            }
            Ok(())
        })?;
        images.write(sink)
    }
}

/// Images, and what joins them: a forest (Tarjan, JACM 1975).
#[derive(Default)]
struct Images {
    numbers: HashMap<String, u32>,
    above: Vec<u32>,
}

impl Images {
    fn number(&mut self, id: &str) -> Result<u32, RunError> {
        if let Some(&number) = self.numbers.get(id) {
            return Ok(number);
        }
        let number = self.above.len();
        if number >= MOST {
            return Err(RunError::Input(format!("more than {MOST} images")));
        }
        self.numbers.insert(id.to_owned(), number as u32);
        self.above.push(number as u32);
        Ok(number as u32)
    }

    fn root(&mut self, mut image: u32) -> u32 {
        while self.above[image as usize] != image {
            let above = self.above[image as usize];
            self.above[image as usize] = self.above[above as usize];
            image = self.above[image as usize];
        }
        image
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.above[a.max(b) as usize] = a.min(b);
    }

    fn write(mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        let mut ids: Vec<(String, u32)> = std::mem::take(&mut self.numbers).into_iter().collect();
        ids.sort_unstable();
        // By each group's root: the place of its first image, and its size.
        let mut groups: Vec<(u32, i64)> = vec![(0, 0); ids.len()];
        for (place, (_, image)) in ids.iter().enumerate() {
            let (first, size) = &mut groups[self.root(*image) as usize];
            *first = if *size == 0 { place as u32 } else { *first };
            *size += 1;
        }
        let many = groups.iter().filter(|(_, size)| *size > 1);
        let (count, images) = many.fold((0, 0), |(count, images), (_, size)| (count + 1, images + size));
        sink.metric(0, 0, "groups", f64::from(count));
        sink.metric(0, 0, "duplicates", (images - i64::from(count)) as f64);
        for some in ids.chunks(WRITTEN) {
            let of: Vec<(u32, i64)> = some.iter().map(|(_, image)| groups[self.root(*image) as usize]).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(some.iter().map(|(id, _)| id))),
                Arc::new(StringArray::from_iter_values(of.iter().map(|(first, _)| &ids[*first as usize].0))),
                Arc::new(Int64Array::from_iter_values(of.iter().map(|(_, size)| *size))),
            ];
            sink.write(RecordBatch::try_new(schema(), columns)?)?;
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::compute::concat_batches;
    use proptest::prelude::*;
    use serde_json::json;
    use tessera_schemas::int64;
    use tessera_schemas::neighbours::Neighbour;

    use super::*;
    use crate::trial::{self, Record};

    type Edge = (usize, usize, f32);

    /// The first image and the size of each image's group.
    type Found = BTreeMap<String, (String, i64)>;

    fn run(edges: &[Edge], below: f64) -> Result<(Found, Record), RunError> {
        let names: Vec<String> = (0..100).map(|number| format!("{number:02}.jpg")).collect();
        let row = |&(a, b, distance): &Edge| Neighbour { image_id: &names[a], rank: 1, neighbour: &names[b], distance };
        let near = neighbours::batch(&edges.iter().map(row).collect::<Vec<_>>()).unwrap();
        let operator: Groups = trial::bind(json!({"below": below}), &[(NEAR, near.schema())]).unwrap();
        let mut record = Record::default();
        trial::kernel(operator, 0, 1)?.run(&trial::Memory([(NEAR, vec![near])].into()), &mut record)?;
        let all = concat_batches(&schema(), &record.batches).unwrap();
        let (ids, first, size) = (text(&all, IMAGE_ID)?, text(&all, FIRST)?, int64(&all, SIZE)?);
        let row = |row: usize| (ids.value(row).to_owned(), (first.value(row).to_owned(), size.value(row)));
        let found: BTreeMap<_, _> = (0..all.num_rows()).map(row).collect();
        assert_eq!(found.len(), all.num_rows(), "an image has one row");
        Ok((found, record))
    }

    #[test]
    fn chains_make_groups_and_what_is_too_far_does_not() {
        let edges = [(4, 2, 0.1), (2, 7, 0.05), (9, 7, 0.1), (9, 3, 0.11), (3, 5, 0.0), (1, 9, 5.0)];
        let (found, record) = run(&edges, f64::from(0.1f32)).unwrap();
        let of = |id: &str| (found[id].0.as_str(), found[id].1);
        for id in ["02.jpg", "04.jpg", "07.jpg", "09.jpg"] {
            assert_eq!(of(id), ("02.jpg", 4));
        }
        assert_eq!((of("03.jpg"), of("05.jpg"), of("01.jpg")), (("03.jpg", 2), ("03.jpg", 2), ("01.jpg", 1)));
        assert_eq!((record.values("groups"), record.values("duplicates")), (vec![2.0], vec![4.0]));
        assert_eq!(run(&edges, 0.0).unwrap().1.values("groups"), [1.0]);
        assert!(run(&[], 1.0).unwrap().0.is_empty());
    }

    #[test]
    fn faults_are_named() {
        let error = run(&[(1, 2, f32::NAN)], 1.0).err().unwrap().to_string();
        assert_eq!(error, "image `01.jpg`: `near` has a distance of NaN, which is none");
        let errors = trial::bind::<Groups>(json!({"below": -0.5}), &[(NEAR, neighbours::schema())]).err().unwrap();
        assert_eq!(errors[0].message, "-0.5 is no distance: 0 or more");
    }

    proptest! {
        #[test]
        fn groups_are_the_parts_that_hang_together(edges in proptest::collection::vec((0usize..60, 0usize..60, 0u8..4), 0..80)) {
            let edges: Vec<Edge> = edges.into_iter().map(|(a, b, distance)| (a, b, f32::from(distance))).collect();
            let (found, _) = run(&edges, 1.0).unwrap();
            // The lowest number that can be reached, by passing it on until nothing changes.
            let mut lowest: Vec<usize> = (0..60).collect();
            for _ in 0..60 {
                for &(a, b, _) in edges.iter().filter(|edge| edge.2 <= 1.0) {
                    let low = lowest[a].min(lowest[b]);
                    (lowest[a], lowest[b]) = (low, low);
                }
            }
            for (id, (first, size)) in &found {
                let number: usize = id[..2].parse().unwrap();
                prop_assert_eq!(first, &format!("{:02}.jpg", lowest[number]));
                prop_assert_eq!(*size, lowest.iter().filter(|low| **low == lowest[number]).count() as i64);
            }
            // The order of the rows is nothing to it.
            let back: Vec<Edge> = edges.iter().rev().copied().collect();
            prop_assert_eq!(run(&back, 1.0).unwrap().0, found);
        }
    }
}
