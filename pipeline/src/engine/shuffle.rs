//! The order of an epoch: rows by a hash, or drawn so that all classes come equally often.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use tessera_schemas::{IMAGE_ID, images};

/// Rows of one in-memory batch.
const BATCH: usize = 1024;
/// Between the id of a row that comes again in an epoch and how often it came before.
const AGAIN: char = '\u{1}';

/// Rows in the shuffled order of an epoch, cut into partitions.
pub struct Shuffled {
    /// The rows, by partition. With leads, each partition begins with the row before its first.
    pub partitions: Vec<Vec<RecordBatch>>,
    /// The ids in the same order.
    pub trails: Vec<StringArray>,
}

/// How rows are shuffled and cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// Rows of a partition.
    pub chunk: usize,
    /// Whether partitions begin with the row before their first.
    pub leads: bool,
    /// The id of the row behind which the first partition starts; by default with the first row.
    pub after: Option<&'a str>,
    /// The column of classes that are to come equally often; by default each row comes once.
    pub classes: Option<&'a str>,
}

/// Shuffles rows: ids sorted by a hash of seed, epoch and id.
///
/// With `classes` it is as many rows, an equal share of each class (give or take one): of a larger class some, others in each epoch; those
/// of a smaller one again and again, under ids of their own (see [`original`]), so that they are not augmented alike.
///
/// # Errors
/// There is no `image_id` column, no such column of classes, or no row of the id to start behind.
pub fn shuffle(rows: &RecordBatch, seed: u64, epoch: u64, cut: Cut<'_>) -> Result<Shuffled> {
    let Cut { chunk, leads, after, classes } = cut;
    let ids = images::ids(rows).map_err(|error| DataFusionError::External(error.into()))?;
    let order = order(ids, rows, &Hash::new(seed, epoch), classes)?;
    let mut shuffled = Shuffled { partitions: Vec::new(), trails: Vec::new() };
    let mut at = match after {
        None => 0,
        Some(id) => {
            let place = order.iter().position(|place| place.id == id);
            place.ok_or_else(|| DataFusionError::Execution(format!("there is no row of `{id}` to start behind")))? + 1
        }
    };
    while at < order.len() || shuffled.partitions.is_empty() {
        let end = at.saturating_add(chunk.max(1)).min(order.len());
        let mut picked: Vec<&Place<'_>> = Vec::with_capacity(end - at + 1);
        if leads && end > at {
            // The order is a circle: the first image follows the last.
            picked.push(&order[(at + order.len() - 1) % order.len()]);
        }
        picked.extend(&order[at..end]);
        let batches =
            picked.chunks(BATCH).map(|places| taken(rows, places, classes.is_some())).collect::<Result<Vec<_>>>()?;
        shuffled.partitions.push(batches);
        shuffled.trails.push(StringArray::from_iter_values(picked.iter().map(|place| &place.id)));
        at = end;
        if order.is_empty() {
            break;
        }
    }
    Ok(shuffled)
}

/// Where the rows of an epoch's shuffled order come.
pub struct Ranks {
    hash: Hash,
    /// The hashes of all ids, in the order's.
    sorted: Vec<u64>,
}

impl Ranks {
    /// The ranks in the order that [`shuffle`] makes.
    ///
    /// # Errors
    /// There is no `image_id` column, or no such column of classes.
    pub fn new(rows: &RecordBatch, seed: u64, epoch: u64, classes: Option<&str>) -> Result<Self> {
        let ids = images::ids(rows).map_err(|error| DataFusionError::External(error.into()))?;
        let hash = Hash::new(seed, epoch);
        let sorted = order(ids, rows, &hash, classes)?.iter().map(|place| hash.of(&place.id)).collect();
        Ok(Self { hash, sorted })
    }

    /// How many rows come before the row of that id; none if there is no such row.
    pub fn of(&self, id: &str) -> Option<usize> {
        self.sorted.binary_search(&self.hash.of(id)).ok()
    }
}

/// The id in the table of a row that came again in an epoch.
pub fn original(id: &str) -> &str {
    id.split(AGAIN).next().unwrap_or(id)
}

/// A row in its turn.
#[derive(Debug)]
struct Place<'a> {
    row: u32,
    id: Cow<'a, str>,
}

/// Where ids come in an epoch.
struct Hash(blake3::Hasher);

impl Hash {
    fn new(seed: u64, epoch: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes());
        Self(hasher)
    }

    fn of(&self, id: &str) -> u64 {
        let hash = self.0.clone().update(id.as_bytes()).finalize();
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
    }
}

/// All rows of an epoch in their order: by the hash of their ids.
fn order<'a>(ids: &'a StringArray, rows: &RecordBatch, hash: &Hash, classes: Option<&str>) -> Result<Vec<Place<'a>>> {
    let mut order: Vec<Place<'_>> = match classes {
        None => (0..ids.len()).map(|row| Place { row: row as u32, id: ids.value(row).into() }).collect(),
        Some(column) => balanced(ids, rows, column, hash)?,
    };
    order.sort_by_cached_key(|place| (hash.of(&place.id), place.id.clone()));
    Ok(order)
}

/// As many places as there are rows, in equal shares for the classes. Rows without a class are a class.
fn balanced<'a>(ids: &'a StringArray, rows: &RecordBatch, column: &str, hash: &Hash) -> Result<Vec<Place<'a>>> {
    let missing =
        || DataFusionError::Execution(format!("the rows to shuffle have no column `{column}` to balance classes by"));
    let classes = cast(rows.column_by_name(column).ok_or_else(missing)?, &DataType::Int64)?;
    let classes = classes.as_primitive::<Int64Type>();
    let mut members: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
    for (row, class) in classes.iter().enumerate() {
        members.entry(class).or_default().push(row);
    }
    // Which classes get the rows that are left over changes from epoch to epoch.
    let mut turns: Vec<_> = members.into_iter().collect();
    turns.sort_by_cached_key(|(class, _)| hash.of(&format!("{class:?}")));
    let (share, over) = (ids.len() / turns.len().max(1), ids.len() % turns.len().max(1));
    let mut places = Vec::with_capacity(ids.len());
    for (turn, (_, mut members)) in turns.into_iter().enumerate() {
        members.sort_by_cached_key(|&row| (hash.of(ids.value(row)), ids.value(row)));
        for place in 0..share + usize::from(turn < over) {
            let (row, again) = (members[place % members.len()], place / members.len());
            let id = ids.value(row);
            let id = if again == 0 { Cow::Borrowed(id) } else { Cow::Owned(format!("{id}{AGAIN}{again}")) };
            places.push(Place { row: row as u32, id });
        }
    }
    Ok(places)
}

/// The rows at those places, with the ids that they have there.
fn taken(rows: &RecordBatch, places: &[&Place<'_>], renamed: bool) -> Result<RecordBatch> {
    let taken = take_record_batch(rows, &UInt32Array::from_iter_values(places.iter().map(|place| place.row)))?;
    if !renamed {
        return Ok(taken);
    }
    let at = taken.schema().index_of(IMAGE_ID)?;
    let mut columns = taken.columns().to_vec();
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(places.iter().map(|place| &place.id)));
    columns[at] = ids;
    Ok(RecordBatch::try_new(taken.schema(), columns)?)
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
        let whole = shuffle(&rows(50), 1, 0, Cut { chunk: 50, leads: true, after: None, classes: None }).unwrap();
        let order: Vec<&str> = whole.trails[0].iter().flatten().skip(1).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted.len(), 50);
        sorted.dedup();
        assert_eq!(sorted.len(), 50);
        assert_ne!(sorted, order);
        let cut = shuffle(&rows(50), 1, 0, Cut { chunk: 7, leads: true, after: None, classes: None }).unwrap();
        assert_eq!(cut.trails.len(), 8);
        let mut at = 0;
        for (trail, partition) in cut.trails.iter().zip(&cut.partitions) {
            let rows = partition.iter().flat_map(|batch| images::ids(batch).unwrap().iter().flatten());
            assert!(rows.eq(trail.iter().flatten()), "the rows are those of the ids");
            assert_eq!(trail.value(0), order[(at + 49) % 50]);
            let rest: Vec<&str> = trail.iter().flatten().skip(1).collect();
            assert_eq!(rest, order[at..at + rest.len()]);
            at += rest.len();
        }
        assert_eq!((cut.partitions.len(), at), (8, 50));
    }

    #[test]
    fn a_scan_may_start_behind_any_row() {
        let whole = shuffle(&rows(20), 1, 3, Cut { chunk: 20, leads: true, after: None, classes: None }).unwrap();
        let order: Vec<&str> = whole.trails[0].iter().flatten().skip(1).collect();
        for start in [1, 7, 19, 20] {
            let cut = Cut { chunk: usize::MAX, leads: true, after: Some(order[start - 1]), classes: None };
            let rest = shuffle(&rows(20), 1, 3, cut).unwrap();
            assert_eq!(rest.trails.len(), 1);
            let found: Vec<&str> = rest.trails[0].iter().flatten().collect();
            // The row before the first is its lead.
            let expected = if start == 20 { &[][..] } else { &order[start - 1..] };
            assert_eq!(found, expected);
        }
        let ranks = Ranks::new(&rows(20), 1, 3, None).unwrap();
        assert!(order.iter().enumerate().all(|(place, id)| ranks.of(id) == Some(place)));
        assert_eq!((ranks.of(""), ranks.of("020")), (None, None));
        let error = shuffle(&rows(20), 1, 3, Cut { chunk: 9, leads: false, after: Some("x"), classes: None })
            .err()
            .unwrap()
            .to_string();
        assert!(error.ends_with("there is no row of `x` to start behind"), "{error}");
    }

    #[test]
    fn epochs_differ_and_the_rest_of_the_set_does_not_matter() {
        let with_seed = |seed, n, epoch| -> Vec<String> {
            let shuffled =
                shuffle(&rows(n), seed, epoch, Cut { chunk: 1000, leads: false, after: None, classes: None }).unwrap();
            shuffled.trails[0].iter().flatten().map(str::to_owned).collect()
        };
        let order = |n, epoch| with_seed(1, n, epoch);
        assert_ne!(order(50, 0), order(50, 1));
        assert_ne!(order(50, 0), with_seed(2, 50, 0));
        let fewer: Vec<String> = order(50, 0).into_iter().filter(|id| id.as_str() < "040").collect();
        assert_eq!(fewer, order(40, 0));
        assert!(order(0, 0).is_empty());
    }

    #[test]
    fn classes_come_equally_often() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..50).map(|i| format!("{i:02}"))));
        // 1, 5, 44 rows: 17, 17, 16 of each, in some order.
        let class = |row| {
            if row == 0 {
                7
            } else if row < 6 {
                2
            } else {
                0
            }
        };
        let classes: ArrayRef = Arc::new(arrow::array::Int32Array::from_iter_values((0..50).map(class)));
        let rows = RecordBatch::try_from_iter([("image_id", ids), ("cluster", classes)]).unwrap();
        let epoch = |epoch, chunk, after: Option<&str>| {
            let cut = Cut { chunk, leads: false, after, classes: Some("cluster") };
            let shuffled = shuffle(&rows, 1, epoch, cut).unwrap();
            let ids = |batch: &RecordBatch| -> Vec<String> {
                let (ids, classes) =
                    (images::ids(batch).unwrap(), batch.column(1).as_primitive::<arrow::datatypes::Int32Type>());
                for (id, found) in ids.iter().flatten().zip(classes.values()) {
                    assert_eq!(*found, class(original(id).parse().unwrap()));
                }
                ids.iter().flatten().map(str::to_owned).collect()
            };
            shuffled.partitions.iter().flatten().flat_map(ids).collect::<Vec<_>>()
        };
        let count = |ids: &[String], range: std::ops::Range<usize>| {
            ids.iter().filter(|id| range.contains(&original(id).parse().unwrap())).count()
        };
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..30 {
            let ids = epoch(number, 1000, None);
            let mut shares = [count(&ids, 0..1), count(&ids, 1..6), count(&ids, 6..50)];
            shares.sort_unstable();
            assert_eq!(shares, [16, 17, 17]);
            let alike: std::collections::BTreeSet<_> = ids.iter().collect();
            assert_eq!(alike.len(), 50, "repeats have ids of their own");
            for row in 1..6 {
                assert!((3..=4).contains(&count(&ids, row..row + 1)));
            }
            seen.extend(ids.iter().map(|id| original(id).to_owned()));
            assert_eq!(epoch(number, 7, None), ids);
            let ranks = Ranks::new(&rows, 1, number, Some("cluster")).unwrap();
            assert!(ids.iter().enumerate().all(|(place, id)| ranks.of(id) == Some(place)), "also where rows come again");
            assert_eq!(epoch(number, 1000, Some(&ids[30])), ids[31..]);
        }
        assert_eq!(seen.len(), 50, "all of a large class come in time");
        let cut = Cut { chunk: 9, leads: false, after: None, classes: Some("label") };
        let error = shuffle(&rows, 1, 0, cut).err().unwrap().to_string();
        assert!(error.ends_with("have no column `label` to balance classes by"), "{error}");
    }
}
