//! Plans that read a table: files or shuffled rows at the leaf, the views' maps on top.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use tessera_schemas::images;

use super::Engine;
use super::operator_exec::{OperatorExec, ScanState};
use super::sound::SoundFiles;
use super::step::Step;
use crate::store::{Health, Part, StageStore};

/// Rows of one in-memory batch of a shuffled scan.
const SHUFFLED_ROWS: usize = 1024;

/// A part to read, and what is known of its bytes.
#[derive(Debug, Clone)]
pub struct PartFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What the manifest says of it.
    pub part: Part,
    /// Whether it was looked at.
    pub health: Arc<Health>,
}

impl PartFile {
    /// A part of a stage's store.
    pub fn of(store: &StageStore, part: &Part) -> Self {
        Self { path: store.part(part), part: part.clone(), health: store.health().clone() }
    }
}

/// Reads parts, each as one partition, rows in their order. A part that is damaged fails before its first row.
pub fn files(
    schema: &SchemaRef,
    parts: &[PartFile],
    projection: Option<Vec<usize>>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut source = ParquetSource::new(schema.clone()).with_parquet_file_reader_factory(Arc::new(SoundFiles::new()));
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    let groups = parts
        .iter()
        .map(|part| {
            let path = std::path::absolute(&part.path)?;
            let location =
                object_store::path::Path::from_absolute_path(&path).map_err(|e| DataFusionError::External(e.into()))?;
            let mut file = PartitionedFile::new(String::new(), part.part.bytes).with_extension(part.clone());
            file.object_meta.location = location;
            Ok(FileGroup::new(vec![file]))
        })
        .collect::<Result<Vec<_>>>()?;
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(projection)?
        .with_limit(limit)
        .with_preserve_order(true)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// Rows in the shuffled order of an epoch, cut into partitions.
pub struct Shuffled {
    /// The rows, by partition. With leads, each partition begins with the row before its first.
    pub partitions: Vec<Vec<RecordBatch>>,
    /// The ids in the same order.
    pub trails: Vec<StringArray>,
}

/// How shuffled rows are cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// Rows of a partition.
    pub chunk: usize,
    /// Whether partitions begin with the row before their first.
    pub leads: bool,
    /// The id of the row behind which the first partition starts; by default with the first row.
    pub after: Option<&'a str>,
}

/// Shuffles rows: ids sorted by a hash of seed, epoch and id.
///
/// # Errors
/// There is no `image_id` column, or no row of the id to start behind.
pub fn shuffle(rows: &RecordBatch, seed: u64, epoch: u64, cut: Cut<'_>) -> Result<Shuffled> {
    let Cut { chunk, leads, after } = cut;
    let ids = images::ids(rows).map_err(|error| DataFusionError::External(error.into()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes());
    let place = |row: u32| {
        let mut hasher = hasher.clone();
        let hash = hasher.update(ids.value(row as usize).as_bytes()).finalize();
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
    };
    let mut order: Vec<(u64, u32)> = (0..ids.len() as u32).map(|row| (place(row), row)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| ids.value(a.1 as usize).cmp(ids.value(b.1 as usize))));
    let order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
    let mut shuffled = Shuffled { partitions: Vec::new(), trails: Vec::new() };
    let mut at = match after {
        None => 0,
        Some(id) => {
            let place = order.iter().position(|&row| ids.value(row as usize) == id);
            place.ok_or_else(|| DataFusionError::Execution(format!("there is no row of `{id}` to start behind")))? + 1
        }
    };
    while at < order.len() || shuffled.partitions.is_empty() {
        let end = at.saturating_add(chunk.max(1)).min(order.len());
        let mut picked: Vec<u32> = Vec::with_capacity(end - at + 1);
        if leads && end > at {
            // The order is a circle: the first image follows the last.
            picked.push(order[(at + order.len() - 1) % order.len()]);
        }
        picked.extend(&order[at..end]);
        let batches = picked
            .chunks(SHUFFLED_ROWS)
            .map(|rows_of_batch| Ok(take_record_batch(rows, &UInt32Array::from(rows_of_batch.to_vec()))?))
            .collect::<Result<Vec<_>>>()?;
        shuffled.partitions.push(batches);
        shuffled.trails.push(StringArray::from_iter_values(picked.iter().map(|&row| ids.value(row as usize))));
        at = end;
        if order.is_empty() {
            break;
        }
    }
    Ok(shuffled)
}

/// Reads batches in memory.
pub fn memory(schema: &SchemaRef, partitions: &[Vec<RecordBatch>]) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(MemorySourceConfig::try_new_exec(partitions, schema.clone(), None)?)
}

/// Puts steps on top of a plan.
pub fn stack(
    mut plan: Arc<dyn ExecutionPlan>,
    steps: &[Arc<Step>],
    state: &Arc<ScanState>,
    engine: &Arc<Engine>,
) -> Arc<dyn ExecutionPlan> {
    for (at, step) in steps.iter().enumerate() {
        plan = Arc::new(OperatorExec::new(plan, step.clone(), state.clone(), engine.clone(), at == 0));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize) -> RecordBatch {
        let ids: arrow::array::ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("{i:03}"))));
        RecordBatch::try_from_iter([("image_id", ids)]).unwrap()
    }

    #[test]
    fn every_row_comes_once_behind_its_lead() {
        let whole = shuffle(&rows(50), 1, 0, Cut { chunk: 50, leads: true, after: None }).unwrap();
        let order: Vec<&str> = whole.trails[0].iter().flatten().skip(1).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted.len(), 50);
        sorted.dedup();
        assert_eq!(sorted.len(), 50);
        assert_ne!(sorted, order);
        let cut = shuffle(&rows(50), 1, 0, Cut { chunk: 7, leads: true, after: None }).unwrap();
        assert_eq!(cut.trails.len(), 8);
        let mut at = 0;
        for trail in &cut.trails {
            assert_eq!(trail.value(0), order[(at + 49) % 50]);
            let rest: Vec<&str> = trail.iter().flatten().skip(1).collect();
            assert_eq!(rest, order[at..at + rest.len()]);
            at += rest.len();
        }
    }

    #[test]
    fn a_scan_may_start_behind_any_row() {
        let whole = shuffle(&rows(20), 1, 3, Cut { chunk: 20, leads: true, after: None }).unwrap();
        let order: Vec<&str> = whole.trails[0].iter().flatten().skip(1).collect();
        for start in [1, 7, 19, 20] {
            let cut = Cut { chunk: usize::MAX, leads: true, after: Some(order[start - 1]) };
            let rest = shuffle(&rows(20), 1, 3, cut).unwrap();
            assert_eq!(rest.trails.len(), 1);
            let found: Vec<&str> = rest.trails[0].iter().flatten().collect();
            // The row before the first is its lead.
            let expected = if start == 20 { &[][..] } else { &order[start - 1..] };
            assert_eq!(found, expected);
        }
        let error = shuffle(&rows(20), 1, 3, Cut { chunk: 9, leads: false, after: Some("x") }).err().unwrap().to_string();
        assert!(error.ends_with("there is no row of `x` to start behind"), "{error}");
    }

    #[test]
    fn epochs_differ_and_the_rest_of_the_set_does_not_matter() {
        let order = |n, epoch| -> Vec<String> {
            let shuffled = shuffle(&rows(n), 1, epoch, Cut { chunk: 1000, leads: false, after: None }).unwrap();
            shuffled.trails[0].iter().flatten().map(str::to_owned).collect()
        };
        assert_ne!(order(50, 0), order(50, 1));
        let fewer: Vec<String> = order(50, 0).into_iter().filter(|id| id.as_str() < "040").collect();
        assert_eq!(fewer, order(40, 0));
        assert!(order(0, 0).is_empty());
    }
}
