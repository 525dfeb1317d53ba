//! Fetching: the pictures of some images, computed or read. Only those are decoded that are shown, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{Array as _, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::physical_plan::{ExecutionPlanProperties as _, execute_stream};
use futures::StreamExt as _;
use tessera_schemas::pixels::{self, Pixels};
use tessera_schemas::{IMAGE_ID, text};

use super::sheet::MOST_PIXELS;
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::engine::request::{Request, Rows};
use crate::store::DroppedRow;

/// Pictures by image.
pub struct Gallery {
    /// Pixels of each, from top to bottom.
    pub height: usize,
    /// Pixels of each, from left to right.
    pub width: usize,
    /// The pixels, by `image_id`.
    pub images: BTreeMap<String, Vec<u8>>,
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
}

/// Which pictures are read.
pub struct Wanted<'a> {
    /// Whose rows of the snapshot at the base are needed.
    pub leads: &'a (dyn Fn(&str) -> bool + Sync),
    /// Which pictures are.
    pub is_wanted: &'a (dyn Fn(&str) -> bool + Sync),
    /// How many there are at most.
    pub most: usize,
}

impl Gallery {
    /// The pictures of a stage that are wanted, and no more than a sheet has room for.
    ///
    /// # Errors
    /// As [`read_pictures`].
    pub async fn read(catalog: &Arc<Catalog>, node: usize, wanted: &Wanted<'_>) -> Result<Self> {
        let (height, width) = pixels::size(&catalog.schema(node))?;
        let most = wanted.most.min((MOST_PIXELS / (height * width).max(1)).max(1));
        let mut images = BTreeMap::new();
        let dropped = read_pictures(catalog, node, wanted.leads, |id, pixels| {
            if (wanted.is_wanted)(id) {
                images.insert(id.to_owned(), pixels.to_vec());
            }
            Ok(images.len() < most)
        })
        .await?;
        Ok(Self { height, width, images, dropped })
    }

    /// The pictures of these images. A row of the snapshot at the base is needed if a wanted id is its own or begins with it, as a
    /// crop's does with its image's.
    ///
    /// # Errors
    /// As [`read`](Self::read); or the stage has no picture of one.
    pub async fn of(catalog: &Arc<Catalog>, node: usize, ids: &BTreeSet<String>) -> Result<Self> {
        let leads = |id: &str| ids.range(id.to_owned()..).next().is_some_and(|next| next.starts_with(id));
        let wanted = Wanted { leads: &leads, is_wanted: &|id| ids.contains(id), most: ids.len() };
        let gallery = Self::read(catalog, node, &wanted).await?;
        if let Some(absent) = ids.iter().find(|id| !gallery.images.contains_key(*id)) {
            bail!(
                "stage `{}` has no pixels of image `{absent}`: its images have changed, run the pipeline again",
                catalog.name(node)
            );
        }
        Ok(gallery)
    }
}

/// Computes or reads pictures until `take` says no: `leads` says whose rows of the snapshot at the base are needed, and `take` is given all that
/// come of them. Returns what was left out on the way.
///
/// # Errors
/// The stage is none of pixels, has no snapshot at its base, or fails.
pub async fn read_pictures(
    catalog: &Arc<Catalog>,
    node: usize,
    leads: impl Fn(&str) -> bool + Sync,
    mut take: impl FnMut(&str, &[u8]) -> Result<bool>,
) -> Result<Vec<DroppedRow>> {
    let columns = Some(vec![IMAGE_ID.to_owned(), pixels::PIXELS.to_owned()]);
    let mut request = Request { columns, ..Request::default() };
    if !catalog.chain(node).1.is_empty() {
        match base_rows(catalog, node, &leads).await? {
            Some(rows) => request.rows = rows,
            None => return Ok(Vec::new()),
        }
    }
    each(catalog, node, request, |batch| {
        let found = Pixels::of(batch)?;
        for row in 0..found.len() {
            if !take(found.ids.value(row), found.row(row))? {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// The rows of the snapshot at a view's base that lead to what is wanted, in shares for all threads; nothing if there are none.
async fn base_rows(catalog: &Arc<Catalog>, node: usize, leads: &(dyn Fn(&str) -> bool + Sync)) -> Result<Option<Rows>> {
    let (base, _) = catalog.chain(node);
    let mut rows = Vec::new();
    each(catalog, base, Request::default(), |batch| {
        let ids = text(batch, IMAGE_ID)?;
        let places: UInt32Array = (0..ids.len() as u32).filter(|&row| leads(ids.value(row as usize))).collect();
        rows.push(take_record_batch(batch, &places)?);
        Ok(true)
    })
    .await?;
    let rows = concat_batches(&catalog.schema(base), &rows)?;
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let share = rows.num_rows().div_ceil(catalog.engine.threads.max(1));
    let starts = (0..rows.num_rows()).step_by(share);
    Ok(Some(Rows::Given(starts.map(|start| rows.slice(start, share.min(rows.num_rows() - start))).collect())))
}

/// Reads a table until `more` says no. Returns what was left out on the way.
///
/// # Errors
/// A stage has no snapshot, or fails.
pub async fn each(
    catalog: &Arc<Catalog>,
    node: usize,
    request: Request,
    mut more: impl FnMut(&RecordBatch) -> Result<bool>,
) -> Result<Vec<DroppedRow>> {
    let scan = catalog.scan(node, request).await?;
    if scan.plan.output_partitioning().partition_count() > 0 {
        let mut batches = execute_stream(scan.plan, catalog.engine.context.task_ctx()).map_err(convert::unwrap)?;
        while let Some(batch) = batches.next().await {
            if !more(&batch.map_err(convert::unwrap)?)? {
                break;
            }
        }
    }
    Ok((0..scan.state.dropped.len()).flat_map(|at| scan.state.take_dropped(at)).collect())
}
