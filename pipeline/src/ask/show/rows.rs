//! Which rows are shown: some of all over a table of pixels, the first puzzles, of clusters the images nearest to their centres.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::AsArray as _;
use arrow::datatypes::{Int64Type, UInt32Type};
use tessera_schemas::clusters::CLUSTER;
use tessera_schemas::puzzles::{self, Puzzles};
use tessera_schemas::{IMAGE_ID, floats, int32, text};

use super::gallery::each;
use crate::ask::sql;
use crate::engine::catalog::Catalog;
use crate::engine::request::Request;
use crate::store::DroppedRow;

/// Rows of clusters that are shown unless others are named: the largest clusters.
pub const MOST_CLUSTERS: usize = 40;

/// Up to `count` of `0..of`, in equal steps.
pub fn spread(count: usize, of: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(of);
    (0..shown).map(move |at| at * of / shown)
}

/// The ids of up to so many rows of a table, from all over it, so that every class has its chance.
///
/// # Errors
/// The table was never made.
pub async fn all_over(catalog: &Arc<Catalog>, node: usize, count: usize) -> Result<BTreeSet<String>> {
    let mut ids = Vec::new();
    for batch in catalog.collect(node, Some(vec![IMAGE_ID.to_owned()])).await? {
        ids.extend(text(&batch, IMAGE_ID)?.iter().flatten().map(str::to_owned));
    }
    ids.sort_unstable();
    Ok(spread(count, ids.len()).map(|at| ids[at].clone()).collect())
}

/// A puzzle.
pub struct Puzzle {
    /// The image that it was cut from.
    pub image_id: String,
    /// Its permutation's number.
    pub permutation: i32,
    /// A bit for each tile that is of another image.
    pub occluded: u32,
    /// Its tiles, one after the other.
    pub tiles: Vec<u8>,
}

/// The first puzzles of a table, and what was left out before them.
///
/// # Errors
/// A stage has no snapshot, or fails.
pub async fn first_puzzles(catalog: &Arc<Catalog>, node: usize, count: usize) -> Result<(Vec<Puzzle>, Vec<DroppedRow>)> {
    let layout = puzzles::layout(&catalog.schema(node))?;
    let bytes = layout.tile * layout.tile * 3 * layout.grid * layout.grid;
    let mut found: Vec<Puzzle> = Vec::new();
    let dropped = each(catalog, node, Request::default(), |batch| {
        let (ids, puzzles) = (text(batch, IMAGE_ID)?, Puzzles::of(batch)?);
        let masks = batch.column_by_name("occluded").and_then(|column| column.as_primitive_opt::<UInt32Type>());
        for (row, tiles) in puzzles.tiles.chunks_exact(bytes).enumerate().take(count - found.len()) {
            let (image_id, permutation) = (ids.value(row).to_owned(), puzzles.permutations[row]);
            let occluded = masks.map_or(0, |masks| masks.value(row));
            found.push(Puzzle { image_id, permutation, occluded, tiles: tiles.to_vec() });
        }
        Ok(found.len() < count)
    })
    .await?;
    Ok((found, dropped))
}

/// The clusters to show, and how many there are.
///
/// # Errors
/// A cluster that is named has no image, or the table was never made.
pub async fn chosen_clusters(catalog: &Arc<Catalog>, node: usize, named: &[i32]) -> Result<(BTreeMap<i32, usize>, usize)> {
    let stage = catalog.name(node);
    let query = format!(
        "SELECT CAST(cluster AS INT) AS cluster, count(*) AS size FROM {} WHERE cluster IS NOT NULL GROUP BY cluster",
        quoted(stage)
    );
    let mut sizes: Vec<(usize, i32)> = Vec::new();
    for batch in &sql::query(catalog, &query).await?.batches {
        let (cluster, size) = (int32(batch, CLUSTER)?, batch.column(1).as_primitive::<Int64Type>());
        sizes.extend((0..batch.num_rows()).map(|row| (size.value(row) as usize, cluster.value(row))));
    }
    let all = sizes.len();
    if let Some(absent) = named.iter().find(|named| !sizes.iter().any(|(_, cluster)| cluster == *named)) {
        bail!("no image of stage `{stage}` is in cluster {absent}");
    }
    sizes.sort_unstable_by_key(|&(size, cluster)| (std::cmp::Reverse(size), cluster));
    sizes.retain(|(_, cluster)| named.is_empty() || named.contains(cluster));
    sizes.truncate(if named.is_empty() { MOST_CLUSTERS } else { usize::MAX });
    Ok((sizes.into_iter().map(|(size, cluster)| (cluster, size)).collect(), all))
}

/// Of each of these clusters, up to `count` images and their distances, the nearest to its centre first.
///
/// # Errors
/// The table was never made.
pub async fn nearest(
    catalog: &Arc<Catalog>,
    node: usize,
    clusters: &BTreeMap<i32, usize>,
    count: usize,
) -> Result<BTreeMap<i32, Vec<(String, f32)>>> {
    let mut rows: BTreeMap<i32, Vec<(String, f32)>> = BTreeMap::new();
    if clusters.is_empty() {
        return Ok(rows);
    }
    let chosen = clusters.keys().map(i32::to_string).collect::<Vec<_>>().join(", ");
    let query = format!(
        "SELECT CAST(cluster AS INT) AS cluster, image_id, CAST(distance AS REAL) AS distance FROM (
           SELECT cluster, image_id, distance, row_number() OVER (PARTITION BY cluster ORDER BY distance, image_id) AS place
           FROM {} WHERE cluster IN ({chosen})) WHERE place <= {count} ORDER BY cluster, distance, image_id",
        quoted(catalog.name(node))
    );
    for batch in &sql::query(catalog, &query).await?.batches {
        let (cluster, ids, distance) = (int32(batch, CLUSTER)?, text(batch, IMAGE_ID)?, floats(batch, "distance")?);
        for row in 0..batch.num_rows() {
            rows.entry(cluster.value(row)).or_default().push((ids.value(row).to_owned(), distance.value(row)));
        }
    }
    Ok(rows)
}

/// A stage's name as SQL takes any.
fn quoted(stage: &str) -> String {
    format!("\"{}\"", stage.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_from_all_over() {
        assert_eq!(spread(3, 10).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(spread(5, 2).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(5, 0).count(), 0);
    }
}
