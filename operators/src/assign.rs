//! `assign`: each image's nearest cluster, its pseudo-label (paper, section 3, step c), and the next one.
//!
//! Input: `features`, one vector an image, and `clusters`, as `kmeans` makes them. Output: `assignments`, with Euclidean
//! distances. Config: `column`, `min_size`, `small`. Exact: a row's result is the same bits in any batch, and of equally distant clusters the one
//! with the lower number comes first. A row with a NaN or an infinite value is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{IMAGE_ID, assignments, clusters, text};

use crate::config::Limits;
use crate::nearest::{self, Centres, Near, Nearest};
use crate::operator::{
    BindError, BindErrors, Binding, Column, ColumnKind, Context, Dropped, Inputs, Map, MapFn, Operator, Port, RunError,
    Scope,
};
use crate::shared::Shared;
use crate::vectors;

const FEATURES: &str = "features";
const CLUSTERS: &str = vectors::CENTROIDS.port;

/// Keys of an `assign` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column of vectors.
    #[serde(default = "vectors::feature")]
    column: String,
    /// Clusters with fewer images, by the column `size` of `clusters`, are small. With 0, no cluster is small.
    #[serde(default)]
    min_size: usize,
    /// What happens to an image whose nearest cluster is small.
    #[serde(default)]
    small: Small,
}

/// What happens to an image whose nearest cluster is small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Small {
    /// It goes to the nearest of the others.
    #[default]
    Merge,
    /// It is left out, and listed in the table `dropped`.
    Drop,
}

/// The bound operator.
pub struct Assign {
    column: String,
    min_size: usize,
    small: Small,
    schema: SchemaRef,
}

impl Operator for Assign {
    const NAME: &'static str = "assign";
    const SUMMARY: &'static str = "each image's nearest cluster and the next one";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("cluster", "the number of the nearest cluster"),
        ("distance", "the Euclidean distance to its centroid"),
        ("second_cluster", "the second nearest cluster; null where there is only one cluster"),
        ("second_distance", "the distance to that one's centroid"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.assigned]
op = "assign"
inputs = { features = "features", clusters = "clusters" }
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[
        Port::stream(FEATURES, &[Column::new(IMAGE_ID, ColumnKind::Text)]),
        Port::side(
            CLUSTERS,
            &[Column::new(clusters::CLUSTER, ColumnKind::Integer), Column::new(clusters::CENTROID, ColumnKind::Vector)],
        ),
    ];
    const LIMITS: Limits = &[("min_size", 1e12)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = BindErrors::default();
        let k = vectors::CENTROIDS.rows(inputs, FEATURES, &config.column, &mut errors);
        let centres = inputs.inputs.required(CLUSTERS);
        let Config { column, min_size, small } = config;
        let counted = centres.field_with_name(clusters::SIZE).is_ok_and(|field| *field.data_type() == DataType::Int64);
        if min_size > 0 && !counted {
            let fault =
                BindError::key("min_size", "its clusters do not say how many images they have (`size`, whole numbers)");
            errors.push(fault.help("`kmeans` counts them"));
        }
        errors.or(k.map(|k| Self { column, min_size, small, schema: assignments::schema(k) }))
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, port: &'static Port) -> Vec<String> {
        match input {
            FEATURES => vec![self.column.clone()],
            _ => {
                let size = (self.min_size > 0).then_some(clusters::SIZE);
                port.columns.iter().map(|column| column.name).chain(size).map(str::to_owned).collect()
            }
        }
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(Assigner { assign: self, centres: Shared::default() }))
    }
}

struct Assigner {
    assign: Assign,
    centres: Shared<Arc<Numbered>>,
}

impl Map for Assigner {
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let Assign { min_size, small, .. } = self.assign;
        let make = || Numbered::of(sides.required(CLUSTERS), min_size, small).map(Arc::new);
        let centres = self.centres.handle(make, Arc::clone)?;
        Ok(Box::new(Worker { column: self.assign.column.clone(), schema: self.assign.schema.clone(), centres }))
    }

    fn block(&self) -> usize {
        nearest::BLOCK
    }
}

/// Centres and the numbers of their clusters, which rise.
struct Numbered {
    numbers: Vec<i32>,
    /// The clusters whose images are left out, with the reason.
    refused: BTreeMap<i32, String>,
    centres: Centres<'static>,
}

impl Numbered {
    fn of(batches: &[RecordBatch], min_size: usize, small: Small) -> Result<Self, RunError> {
        let clusters::Sorted { mut numbers, sizes, mut centroids, dimension } = clusters::sorted(batches)?;
        if numbers.is_empty() {
            return Err(RunError::Input("the table of clusters is empty: there is nothing to assign images to".into()));
        }
        if let Err(fault) = vectors::check(&centroids, dimension) {
            return Err(RunError::Input(format!("the centroid of cluster {} {fault}", numbers[fault.row])));
        }
        let mut refused = BTreeMap::new();
        if let Some(sizes) = sizes.filter(|_| min_size > 0) {
            let is_small = |&size: &i64| size < min_size as i64;
            if sizes.iter().all(is_small) {
                let largest = sizes.iter().max().expect("there are clusters");
                let message = format!("min_size is {min_size}, and the largest cluster has {largest} images: none is left");
                return Err(RunError::Input(message));
            }
            match small {
                Small::Merge => {
                    let large = |row: usize| !is_small(&sizes[row]);
                    let kept = centroids.chunks_exact(dimension).enumerate().filter(|(row, _)| large(*row));
                    centroids = kept.flat_map(|(_, centroid)| centroid).copied().collect();
                    numbers = (0..sizes.len()).filter(|&row| large(row)).map(|row| numbers[row]).collect();
                }
                Small::Drop => {
                    let of = |(number, size): (&i32, &i64)| {
                        (*number, format!("its cluster {number} has {size} images, fewer than {min_size}"))
                    };
                    refused = numbers.iter().zip(&sizes).filter(|(_, size)| is_small(size)).map(of).collect();
                }
            }
        }
        Ok(Self { numbers, refused, centres: Centres::new(centroids, dimension) })
    }

    fn nearest(&self, rows: &[f32]) -> Vec<assignments::Nearest> {
        let near = |near: Near| (self.numbers[near.centre as usize], near.squared.sqrt() as f32);
        let assignment = |found: Nearest| {
            let (cluster, distance) = near(found.first);
            assignments::Nearest { cluster, distance, second: found.second.map(near) }
        };
        self.centres.find::<Nearest>(rows, 1).into_iter().map(assignment).collect()
    }
}

struct Worker {
    column: String,
    schema: SchemaRef,
    centres: Arc<Numbered>,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (rows, _) = vectors::of_images(batch, &self.column)?;
        let ids = tessera_schemas::column(batch, IMAGE_ID)?.clone();
        let found = self.centres.nearest(&rows);
        let refused = &self.centres.refused;
        let assigned = assignments::batch(&self.schema, ids, &found)?;
        if refused.is_empty() {
            return Ok(assigned);
        }
        let ids = text(batch, IMAGE_ID)?;
        for (row, reason) in found.iter().enumerate().filter_map(|(row, near)| Some((row, refused.get(&near.cluster)?))) {
            scope.dropped.push(Dropped { image_id: ids.value(row).to_owned(), reason: reason.clone() });
        }
        let kept: BooleanArray = found.iter().map(|near| Some(!refused.contains_key(&near.cluster))).collect();
        Ok(filter_record_batch(&assigned, &kept)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::random::Draw;
    use crate::trial::{self, features as features_table};

    fn clusters_table(centroids: &[f32], dimension: usize) -> RecordBatch {
        let k = centroids.len() / dimension;
        clusters::batch(&clusters::schema(k, dimension), vec![1; k], centroids.to_vec()).unwrap()
    }

    fn bound(config: serde_json::Value, rows: &RecordBatch, centres: &RecordBatch) -> Result<Assign, Vec<BindError>> {
        trial::bind(config, &[(FEATURES, rows.schema()), (CLUSTERS, centres.schema())])
    }

    fn open(rows: &RecordBatch, centres: &[RecordBatch]) -> Result<Box<dyn MapFn>, RunError> {
        trial::open(bound(json!({}), rows, &centres[0]).unwrap(), &[(CLUSTERS, centres.to_vec())])
    }

    #[test]
    fn the_nearest_and_the_next_come_with_their_distances() {
        let rows = features_table(&[("a", &[0.0, 0.0]), ("b", &[3.0, 5.0])]);
        let centres = clusters_table(&[3.0, 4.0, 0.0, 1.0], 2);
        let found = trial::call_worker(&mut *open(&rows, &[centres]).unwrap(), &rows).unwrap();
        let expected = [
            assignments::Nearest { cluster: 1, distance: 1.0, second: Some((0, 5.0)) },
            assignments::Nearest { cluster: 0, distance: 1.0, second: Some((1, 5.0)) },
        ];
        let ids = tessera_schemas::column(&rows, IMAGE_ID).unwrap().clone();
        assert_eq!(found, assignments::batch(&assignments::schema(2), ids, &expected).unwrap());
    }

    #[test]
    fn a_choice_of_clusters_in_any_order_keeps_their_numbers() {
        let rows = features_table(&[("a", &[0.0]), ("b", &[9.0])]);
        let all = clusters_table(&[0.0, 5.0, 9.0, 20.0], 1);
        let found = trial::call_worker(&mut *open(&rows, &[all.slice(2, 2), all.slice(1, 1)]).unwrap(), &rows).unwrap();
        assert_eq!(tessera_schemas::int32(&found, "cluster").unwrap().values(), &[1, 2]);
    }

    #[test]
    fn small_clusters_are_merged_or_dropped() {
        let rows = features_table(&[("a", &[0.0]), ("b", &[4.0]), ("c", &[9.0])]);
        let centres = clusters::batch(&clusters::schema(3, 1), vec![10, 2, 3], vec![0.0, 5.0, 9.0]).unwrap();
        let of = |config| {
            let operator = bound(config, &rows, &centres).unwrap();
            let mut worker = trial::open(operator, &[(CLUSTERS, vec![centres.clone()])])?;
            let mut dropped = Vec::new();
            let found = worker.call(&rows, &mut trial::scope(&mut dropped))?;
            let dropped: Vec<_> = dropped.into_iter().map(|row| format!("{}: {}", row.image_id, row.reason)).collect();
            Ok::<_, RunError>((tessera_schemas::int32(&found, "cluster")?.values().to_vec(), dropped))
        };
        assert_eq!(of(json!({"min_size": 2})).unwrap().0, [0, 1, 2]);
        assert_eq!(of(json!({"min_size": 3})).unwrap(), (vec![0, 0, 2], vec![]));
        let dropped = vec!["b: its cluster 1 has 2 images, fewer than 3".to_owned()];
        assert_eq!(of(json!({"min_size": 3, "small": "drop"})).unwrap(), (vec![0, 2], dropped));
        let error = of(json!({"min_size": 11})).unwrap_err().to_string();
        assert_eq!(error, "min_size is 11, and the largest cluster has 10 images: none is left");
    }

    #[test]
    fn one_cluster_leaves_the_second_null() {
        let rows = features_table(&[("a", &[0.0])]);
        let found = trial::call_worker(&mut *open(&rows, &[clusters_table(&[2.0], 1)]).unwrap(), &rows).unwrap();
        assert_eq!(found.column(3).null_count(), 1);
        assert_eq!(found.column(4).null_count(), 1);
    }

    #[test]
    fn faults_name_what_was_found() {
        let rows = features_table(&[("a", &[0.0, 1.0])]);
        let errors = bound(json!({}), &rows, &clusters_table(&[1.0; 3], 3)).err().unwrap();
        assert_eq!(errors[0].message, "centroids have 3 dimensions, but `feature` has 2");
        let errors = bound(json!({"column": "conv4"}), &rows, &clusters_table(&[1.0; 2], 2)).err().unwrap();
        assert_eq!(errors[0].at, crate::operator::At::Key("column".into()));
        assert_eq!(errors[0].help.as_deref(), Some("columns of vectors: feature"));
        let bad = features_table(&[("a", &[0.0, 1.0]), ("b/c.jpg", &[0.0, f32::NAN])]);
        let error = trial::call_worker(&mut *open(&rows, &[clusters_table(&[1.0; 2], 2)]).unwrap(), &bad).unwrap_err();
        assert!(matches!(&error, RunError::Row { image_id, .. } if image_id == "b/c.jpg"), "{error}");
        let error = open(&rows, &[clusters_table(&[1.0, f32::NAN], 2)]).err().unwrap();
        assert!(error.to_string().starts_with("the centroid of cluster 0 has NaN in dimension 1"), "{error}");
        let error = open(&rows, &[clusters_table(&[1.0; 2], 2).slice(0, 0)]).err().unwrap().to_string();
        assert_eq!(error, "the table of clusters is empty: there is nothing to assign images to");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn batches_change_no_bit(cuts in proptest::collection::vec(0usize..150, 0..6), seed: u64) {
            let mut draw = Draw::new(seed, "test", "values", "", 0);
            let mut vector = || (0..7).map(|_| draw.unit() as f32).collect::<Vec<_>>();
            let values: Vec<_> = (0..150).map(|number| (format!("{number:03}"), vector())).collect();
            let rows = features_table(&values.iter().map(|(id, v)| (id.as_str(), v.as_slice())).collect::<Vec<_>>());
            let centres = clusters_table(&(0..40).flat_map(|_| vector()).collect::<Vec<_>>(), 7);
            let mut worker = open(&rows, &[centres]).unwrap();
            let whole = trial::call_worker(&mut *worker, &rows).unwrap();
            let mut bounds: Vec<_> = cuts.into_iter().chain([0, 150]).collect();
            bounds.sort_unstable();
            for pair in bounds.windows(2) {
                let part = trial::call_worker(&mut *worker, &rows.slice(pair[0], pair[1] - pair[0])).unwrap();
                prop_assert_eq!(part, whole.slice(pair[0], pair[1] - pair[0]));
            }
        }
    }
}
