//! Making a source's snapshot. Where files have rows of their own, all rows are made, which reads no image, and parts whose rows came
//! out the same stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use tessera_datasets::layout::{Found, Role};
use tessera_datasets::{Entry, Fingerprint, LeftOut};
use tessera_operators::operator::RunError;
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, images, text};

use super::decide::listed::{left_out, sample};
use super::shards;
use crate::engine::catalog::{Catalog, has_columns};
use crate::store::thin::few_gone;
use crate::store::writer::TableWriter;
use crate::store::{DroppedRow, Manifest, Part};
use crate::watch::progress::Bar;

/// Parts of less than half the usual rows that are left alone.
const MOST_SMALL: usize = 8;

/// Makes the parts of a source's table, and says how many rows are not those of earlier parts.
///
/// # Errors
/// A file cannot be read or understood, or the disk says no.
pub async fn read(
    catalog: &Arc<Catalog>,
    node: usize,
    mut writer: TableWriter,
    prints: Vec<Fingerprint>,
    listed: Vec<DroppedRow>,
    previous: Option<Arc<Manifest>>,
    bar: &Bar,
) -> Result<(Vec<Part>, u64)> {
    let (catalog, bar) = (catalog.clone(), bar.clone());
    let work = move || {
        let source = catalog.source(node)?;
        let are_shards = prints.iter().any(|print| source.role(&print.entry.path) == Role::Shard);
        let previous = previous.filter(|_| source.lists_images());
        if previous.is_none() && !are_shards {
            // As they come: there may be many.
            let mut found = Vec::new();
            emit(&catalog, node, &prints, &mut |one| {
                found.extend(one.left_out);
                writer.write(&one.rows)
            })?;
            let parts = writer.finish(all_left_out(&catalog, node, listed, found)?)?;
            let rows = parts.iter().map(|part| part.rows).sum();
            return Ok((parts, rows));
        }
        let (all, found) = collect(&catalog, node, &prints, &bar)?;
        let left_out = all_left_out(&catalog, node, listed, found)?;
        let Some(previous) = previous else {
            let rows = all.num_rows() as u64;
            writer.write(&all)?;
            return Ok((writer.finish(left_out)?, rows));
        };
        let (mut parts, rows) = update(&catalog, node, writer, all, &previous)?;
        parts.iter_mut().for_each(|part| part.dropped.clear());
        if let Some(first) = parts.first_mut() {
            first.dropped = left_out;
        }
        Ok((parts, rows))
    };
    tokio::task::spawn_blocking(work).await?
}

/// What of a data set is no row, as its listing and its files say.
///
/// # Errors
/// There is some, and may not be.
fn all_left_out(
    catalog: &Catalog,
    node: usize,
    mut listed: Vec<DroppedRow>,
    found: Vec<LeftOut>,
) -> Result<Vec<DroppedRow>> {
    let name = catalog.name(node);
    if let (Some(first), true) = (found.first(), catalog.plan.stages[node].refuses_drops) {
        let more = if found.len() > 1 { format!(" (and {} more like it)", found.len() - 1) } else { String::new() };
        let place = catalog.source(node)?.root().join(&first.path);
        bail!("stage `{name}`: {}: {}{more}", place.display(), first.reason);
    }
    listed.extend(found.into_iter().map(|one| left_out(name, one)));
    Ok(listed)
}

/// Has the operator read files.
fn emit(catalog: &Catalog, node: usize, prints: &[Fingerprint], take: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
    let mut emit = |found: Found| take(found).map_err(|error| RunError::Engine(format!("{error:#}")));
    let (source, files) = (catalog.source(node)?, catalog.engine.files.as_ref());
    let fail = |error: RunError| catalog.failed(node, error);
    source.read(files, prints, &mut emit).map_err(fail)?;
    still(catalog, node, prints)
}

/// Refuses files that changed since they were hashed, before they were read.
fn still(catalog: &Catalog, node: usize, prints: &[Fingerprint]) -> Result<()> {
    let source = catalog.source(node)?;
    // What the row of an image says of its file is its digest.
    let is_read = |print: &&Fingerprint| source.role(&print.entry.path) != Role::Image;
    let mut opened = prints.iter().filter(is_read).map(|print| &print.entry).peekable();
    if opened.peek().is_some() {
        let now = source.list(catalog.engine.files.as_ref()).map_err(|error| catalog.failed(node, error))?.files;
        let find = |entry: &&Entry| now.binary_search_by(|other| other.path.cmp(&entry.path)).ok().map(|at| &now[at]);
        if let Some(changed) = opened.find(|entry| find(entry) != Some(*entry)) {
            bail!("stage `{}`: {} changed while it was read; run again", catalog.name(node), changed.path);
        }
    }
    Ok(())
}

/// The rows that a table is to have, as they come out now, and of each image that is still wanted its row and what it says.
struct Wanted {
    all: RecordBatch,
    open: BTreeMap<String, (u32, Digest)>,
}

/// Rows of an earlier part that are wanted: images of the same bytes under the same name.
#[derive(Default)]
struct Holds {
    /// Their places in the part, in order.
    places: Vec<u32>,
    /// Which rows they are now.
    now: Vec<u32>,
    /// How many of them say something else by now, such as when their file was touched.
    touched: u64,
}

impl Wanted {
    fn new(all: RecordBatch) -> Result<Self> {
        let rows = text(&all, IMAGE_ID)?.iter().flatten().zip(digests(&all)?).zip(0..);
        let open = rows.map(|((id, digest), row)| (id.to_owned(), (row, digest))).collect();
        Ok(Self { all, open })
    }

    /// Which of some earlier rows hold; they are wanted no more.
    fn take(&mut self, earlier: &RecordBatch) -> Result<Holds> {
        let (ids, were, are) = (text(earlier, IMAGE_ID)?, text(earlier, "digest")?, text(&self.all, "digest")?);
        let mut holds = Holds::default();
        for (row, digest) in digests(earlier)?.into_iter().enumerate() {
            let Some(&(now, wanted)) = self.open.get(ids.value(row)) else { continue };
            if were.value(row) != are.value(now as usize) {
                continue;
            }
            self.open.remove(ids.value(row));
            holds.places.push(row as u32);
            holds.now.push(now);
            holds.touched += u64::from(wanted != digest);
        }
        Ok(holds)
    }

    /// Some of the rows.
    fn rows(&self, rows: Vec<u32>) -> Result<RecordBatch> {
        Ok(take_record_batch(&self.all, &UInt32Array::from(rows))?)
    }

    /// The rows that are still wanted.
    fn rest(&self) -> Result<RecordBatch> {
        self.rows(self.open.values().map(|(row, _)| *row).collect())
    }
}

/// A fingerprint of each row.
fn digests(rows: &RecordBatch) -> Result<Vec<Digest>> {
    let schema = rows.schema();
    Ok(digest::rows(rows, schema.fields().iter().map(|field| field.name()))?)
}

/// The images of files, by `image_id`, and what of the files is none.
fn collect(catalog: &Catalog, node: usize, prints: &[Fingerprint], bar: &Bar) -> Result<(RecordBatch, Vec<LeftOut>)> {
    let schema = &catalog.plan.stages[node].schema;
    let source = catalog.source(node)?;
    let (mut batches, mut left_out) = (Vec::new(), Vec::new());
    let is_shard = |print: &Fingerprint| source.role(&print.entry.path) == Role::Shard;
    let are_shards = prints.iter().any(is_shard);
    let images: Vec<Fingerprint>;
    let files = if are_shards {
        images = prints.iter().filter(|print| !is_shard(print)).cloned().collect();
        &images[..]
    } else {
        prints
    };
    if !are_shards || files.iter().any(|print| source.role(&print.entry.path) == Role::Image) {
        emit(catalog, node, files, &mut |found| {
            batches.push(RecordBatch::try_new(schema.clone(), found.rows.columns().to_vec())?);
            left_out.extend(found.left_out);
            Ok(())
        })?;
    }
    if !are_shards {
        return Ok((concat_batches(schema, &batches)?, left_out));
    }
    let found = shards::rows(catalog, node, prints, &|done, total| bar.at(done, total, "bytes of shards read"))?;
    still(catalog, node, prints)?;
    batches.extend(found.rows);
    left_out.extend(found.left_out);
    let all = concat_batches(schema, &batches)?;
    let ids = images::ids(&all)?;
    let mut order: Vec<u32> = match catalog.limit {
        Some(limit) => sample(ids.iter().flatten(), limit).into_iter().map(|at| at as u32).collect(),
        None => (0..all.num_rows() as u32).collect(),
    };
    order.sort_by_key(|&row| ids.value(row as usize));
    Ok((take_record_batch(&all, &UInt32Array::from(order))?, left_out))
}

/// Keeps the parts of which nearly every row holds, less the rows that do not, unless they are damaged; one with rows of files that were
/// touched is written anew, its rows in their places. Rows of the others that hold, and rows of files that changed and of new ones,
/// form new parts. When there are [`MOST_SMALL`] small parts, the rows of those go with them, as long as they are no more than what is
/// written anyway: so small parts stay few, and each row is written a few times at most.
fn update(
    catalog: &Catalog,
    node: usize,
    mut writer: TableWriter,
    all: RecordBatch,
    previous: &Manifest,
) -> Result<(Vec<Part>, u64)> {
    let store = catalog.store.stage(catalog.name(node));
    let schema = &catalog.plan.stages[node].schema;
    let mut wanted = Wanted::new(all)?;
    let is_small = |part: &Part| part.rows as usize * 2 < catalog.part_rows(node);
    let (mut kept, mut small, mut fresh) = (Vec::new(), Vec::new(), 0);
    let mut loose: Vec<RecordBatch> = Vec::new();
    let shelf = store.shelf()?;
    for part in previous.parts.iter().filter(|part| shelf.holds(part)) {
        let rows = store.read(part)?;
        if !has_columns(&rows.schema(), schema) {
            continue;
        }
        let rows = RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?;
        let Holds { places, now, touched } = wanted.take(&rows)?;
        fresh += touched;
        if few_gone(part.file_rows(), places.len() as u64) {
            let gone: Vec<u32> = (0..rows.num_rows() as u32).filter(|row| places.binary_search(row).is_err()).collect();
            let rest = if touched > 0 { store.anew(part, &wanted.rows(now)?)? } else { store.without(part, &gone)? };
            if is_small(&rest) { small.push(rest) } else { kept.push(rest) }
        } else if !places.is_empty() {
            loose.push(wanted.rows(now)?);
        }
    }
    loose.push(wanted.rest()?);
    fresh += wanted.open.len() as u64;
    let mut written: u64 = loose.iter().map(|rows| rows.num_rows() as u64).sum();
    small.sort_by_key(|part| part.rows);
    let are_many = small.len() >= MOST_SMALL;
    for part in small {
        if are_many && part.rows <= written {
            written += part.rows;
            let rows = store.read(&part)?;
            loose.push(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?);
        } else {
            kept.push(part);
        }
    }
    let loose = concat_batches(schema, &loose)?;
    let ids = images::ids(&loose)?;
    let mut order: Vec<u32> = (0..loose.num_rows() as u32).collect();
    order.sort_by_key(|&row| ids.value(row as usize));
    if !order.is_empty() || kept.is_empty() {
        writer.write(&take_record_batch(&loose, &UInt32Array::from(order))?)?;
        kept.extend(writer.finish(Vec::new())?);
    }
    kept.sort_by(|a, b| a.ids.cmp(&b.ids));
    Ok((kept, fresh))
}
