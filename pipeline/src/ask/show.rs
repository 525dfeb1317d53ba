//! Pictures of a table's rows, so that a person can check them.
//!
//! What a table shows is decided by its columns: puzzles beside the images that they were cut from, tiles of other images framed; pixels
//! as a contact sheet, of images all over the table; assignments as a row of images a cluster, the nearest to its centre first, its number
//! in front; weights as the filters of their first layer. Only the images that are shown are decoded, however many there are.

pub mod canvas;
pub mod filters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type};
use datafusion::physical_plan::{ExecutionPlanProperties as _, execute_stream};
use futures::StreamExt as _;
use tessera_schemas::clusters::CLUSTER;
use tessera_schemas::pixels::{self, Pixels};
use tessera_schemas::puzzles::{self, Puzzles};
use tessera_schemas::{IMAGE_ID, floats, int32, text, weights};

use crate::ask::sql;
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::engine::request::{Request, Rows};
use crate::store::DroppedRow;
use canvas::{Canvas, LINE, number_width};

/// Pixels between images.
const GAP: usize = 6;
/// Pixels between the tiles of a puzzle.
const SEAM: usize = 2;
/// Thickness of a frame.
const FRAME: usize = 2;
/// Frames of tiles from another image.
const STRANGE: [u8; 3] = [230, 40, 40];
/// Numbers.
const INK: [u8; 3] = [40, 40, 40];
/// Images that are shown unless another number is asked for; of a cluster, of each one.
const FEW: usize = 9;
/// Rows of clusters that are shown unless others are named: the largest clusters.
const MOST_CLUSTERS: usize = 40;
/// Pixels of a picture.
const MOST_PIXELS: usize = 1 << 28;

/// A picture, and what is where on it.
pub struct Shown {
    /// The picture.
    pub canvas: Canvas,
    /// Its images, row by row.
    pub legend: Vec<Entry>,
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
    /// What else is to be said.
    pub note: Option<String>,
}

/// One image of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place, from 0.
    pub row: usize,
    /// Its place in the row, from 0.
    pub column: usize,
    /// Which image.
    pub image_id: String,
    /// Of puzzles: the permutation; of assignments: the cluster.
    pub number: Option<i64>,
    /// Of assignments: the distance to the centre.
    pub distance: Option<f64>,
}

/// What kinds of tables can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Puzzles,
    Pixels,
    Clusters,
    Weights,
}

impl Kind {
    fn of(schema: &SchemaRef) -> Option<Self> {
        let has = |name: &str| schema.field_with_name(name).is_ok();
        if puzzles::layout(schema).is_ok() {
            Some(Self::Puzzles)
        } else if pixels::size(schema).is_ok() && has(IMAGE_ID) {
            Some(Self::Pixels)
        } else if has(IMAGE_ID) && has(CLUSTER) && has("distance") {
            Some(Self::Clusters)
        } else if weights::network(schema).is_ok() && has("shape") && has("data") {
            Some(Self::Weights)
        } else {
            None
        }
    }
}

/// Draws `count` images of a stage's table; of assignments, `count` of each cluster, of those that are named; of weights, filters.
///
/// # Errors
/// The table has nothing to look at, a stage has no snapshot, or fails.
pub async fn show(catalog: &Arc<Catalog>, node: usize, count: Option<usize>, clusters: &[i32]) -> Result<Shown> {
    let kind = Kind::of(&catalog.schema(node));
    if !clusters.is_empty() && kind != Some(Kind::Clusters) {
        bail!("stage `{}` has no clusters to choose from: --clusters is for assignments", catalog.name(node));
    }
    let all = count.unwrap_or(usize::MAX);
    let count = count.unwrap_or(FEW);
    match kind {
        Some(Kind::Weights) => filters::draw(&catalog.collect(node, None).await?, all, catalog.name(node)),
        Some(Kind::Puzzles) => show_puzzles(catalog, node, count).await,
        Some(Kind::Pixels) => show_pixels(catalog, node, count).await,
        Some(Kind::Clusters) => show_clusters(catalog, node, count, clusters).await,
        None => {
            let fits: Vec<&str> = (0..catalog.plan.stages.len())
                .filter(|&other| Kind::of(&catalog.schema(other)).is_some())
                .map(|other| catalog.name(other))
                .collect();
            let fits = if fits.is_empty() { "none here are".to_owned() } else { format!("here: {}", fits.join(", ")) };
            bail!(
                "the table of stage `{}` is nothing to look at: puzzles, pixels, assignments and weights are; {fits}",
                catalog.name(node)
            )
        }
    }
}

/// The nearest stage of pixels that a stage depends on.
///
/// # Errors
/// It depends on none.
pub fn pictures(catalog: &Catalog, node: usize) -> Result<usize> {
    let upstream = catalog.plan.graph.upstream(&[node]);
    // Stages stand behind those that they read: the last one is the nearest.
    let found = upstream.into_iter().rev().find(|&other| Kind::of(&catalog.schema(other)) == Some(Kind::Pixels));
    found.with_context(|| {
        format!("stage `{}` comes from no stage of pixels, and there is nothing to look at", catalog.name(node))
    })
}

/// Pictures by image.
struct Gallery {
    height: usize,
    width: usize,
    images: BTreeMap<String, Vec<u8>>,
    dropped: Vec<DroppedRow>,
}

impl Gallery {
    /// Computes or reads the pictures of some images, of at most `most`: `leads` says whose rows of the snapshot at the base are needed,
    /// `wanted` which pictures.
    async fn read(
        catalog: &Arc<Catalog>,
        node: usize,
        most: usize,
        leads: impl Fn(&str) -> bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let (height, width) = pixels::size(&catalog.schema(node))?;
        let mut images = BTreeMap::new();
        let dropped = read_pictures(catalog, node, leads, |id, pixels| {
            if wanted(id) {
                images.insert(id.to_owned(), pixels.to_vec());
            }
            Ok(images.len() < most)
        })
        .await?;
        Ok(Self { height, width, images, dropped })
    }

    /// The pictures of these images. A row of the snapshot at the base is needed if a wanted id is its own or begins with it, as a
    /// crop's does with its image's.
    async fn of(catalog: &Arc<Catalog>, node: usize, wanted: &BTreeSet<String>) -> Result<Self> {
        let leads = |id: &str| wanted.range(id.to_owned()..).next().is_some_and(|next| next.starts_with(id));
        let gallery = Self::read(catalog, node, wanted.len(), leads, |id| wanted.contains(id)).await?;
        if let Some(absent) = wanted.iter().find(|id| !gallery.images.contains_key(*id)) {
            bail!(
                "stage `{}` has no pixels of image `{absent}`: its images have changed, run the pipeline again",
                catalog.name(node)
            );
        }
        Ok(gallery)
    }
}

/// Computes or reads pictures until `take` says no: `leads` says whose rows of the snapshot at the base are needed, and `take` is given all that come
/// of them. Returns what was left out on the way.
///
/// # Errors
/// The stage is none of pixels, has no snapshot at its base, or fails.
pub async fn read_pictures(
    catalog: &Arc<Catalog>,
    node: usize,
    leads: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, &[u8]) -> Result<bool>,
) -> Result<Vec<DroppedRow>> {
    let (base, views) = catalog.chain(node);
    let mut request = Request { columns: Some(vec![IMAGE_ID.to_owned(), pixels::PIXELS.to_owned()]), ..Request::default() };
    if !views.is_empty() {
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
            return Ok(Vec::new());
        }
        let share = rows.num_rows().div_ceil(catalog.engine.threads.max(1));
        let starts = (0..rows.num_rows()).step_by(share);
        let slices = starts.map(|start| rows.slice(start, share.min(rows.num_rows() - start)));
        request.rows = Rows::Given(slices.collect());
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

/// Reads a table until `more` says no. Returns what was left out on the way.
async fn each(
    catalog: &Arc<Catalog>,
    node: usize,
    request: Request,
    mut more: impl FnMut(&RecordBatch) -> Result<bool>,
) -> Result<Vec<DroppedRow>> {
    let scan = catalog.scan(node, request).await?;
    let partitions = scan.plan.output_partitioning().partition_count();
    if partitions > 0 {
        let mut batches = execute_stream(scan.plan, catalog.engine.context.task_ctx()).map_err(convert::unwrap)?;
        while let Some(batch) = batches.next().await {
            if !more(&batch.map_err(convert::unwrap)?)? {
                break;
            }
        }
    }
    Ok((0..scan.state.dropped.len()).flat_map(|at| scan.state.take_dropped(at)).collect())
}

/// Columns of a sheet of so many images, about as wide as high.
fn columns(count: usize, height: usize, width: usize) -> usize {
    let ratio = height as f64 / width as f64;
    ((count as f64 * ratio).sqrt().ceil() as usize).clamp(1, count.max(1))
}

/// Where a cell of a sheet lies.
fn place(at: usize, columns: usize, height: usize, width: usize) -> (usize, usize) {
    (GAP + at % columns * (width + GAP), GAP + at / columns * (height + GAP))
}

/// An empty sheet of so many cells.
///
/// # Errors
/// It is larger than anybody could look at.
fn sheet(count: usize, columns: usize, height: usize, width: usize) -> Result<Canvas> {
    let rows = count.div_ceil(columns);
    let (across, down) = (GAP + columns * (width + GAP), GAP + rows * (height + GAP));
    if across.saturating_mul(down) > MOST_PIXELS {
        bail!("a sheet of {count} would have {across} x {down} pixels, and {MOST_PIXELS} are the most: ask for fewer");
    }
    Ok(Canvas::new(across, down))
}

async fn show_pixels(catalog: &Arc<Catalog>, node: usize, count: usize) -> Result<Shown> {
    let (base, _) = catalog.chain(node);
    let mut ids = Vec::new();
    for batch in catalog.collect(base, Some(vec![IMAGE_ID.to_owned()])).await? {
        ids.extend(text(&batch, IMAGE_ID)?.iter().flatten().map(str::to_owned));
    }
    // Images all over the table, so that every class has its chance.
    ids.sort_unstable();
    let chosen: BTreeSet<String> = spread(count, ids.len()).map(|at| ids[at].clone()).collect();
    let multiplies = catalog.multiplies(node).await?;
    let wanted = |id: &str| multiplies || chosen.contains(id);
    let most = if multiplies { usize::MAX } else { chosen.len() };
    let gallery = Gallery::read(catalog, node, most, |id| chosen.contains(id), wanted).await?;
    let (height, width) = (gallery.height, gallery.width);
    let images: Vec<(&String, &Vec<u8>)> = gallery.images.iter().collect();
    let shown = count.min(images.len());
    let columns = columns(shown, height, width);
    let mut canvas = sheet(shown.max(1), columns, height, width)?;
    let mut legend = Vec::new();
    for (at, from) in spread(count, images.len()).enumerate() {
        let (image_id, image) = images[from];
        canvas.put(place(at, columns, height, width), (height, width), image);
        let (row, column) = (at / columns, at % columns);
        legend.push(Entry { row, column, image_id: image_id.clone(), number: None, distance: None });
    }
    Ok(Shown { canvas, legend, dropped: gallery.dropped, note: None })
}

/// Up to `count` of `0..of`, in equal steps.
fn spread(count: usize, of: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(of);
    (0..shown).map(move |at| at * of / shown)
}

async fn show_puzzles(catalog: &Arc<Catalog>, node: usize, count: usize) -> Result<Shown> {
    let layout = puzzles::layout(&catalog.schema(node))?;
    let bytes = layout.tile * layout.tile * 3;
    let mut found: Vec<(String, i32, u32, Vec<u8>)> = Vec::new();
    let mut dropped = each(catalog, node, Request::default(), |batch| {
        let (ids, puzzles) = (text(batch, IMAGE_ID)?, Puzzles::of(batch)?);
        let occluded = batch.column_by_name("occluded").and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let tiles = puzzles.tiles.chunks_exact(bytes * layout.grid * layout.grid);
        for (row, tiles) in tiles.enumerate().take(count - found.len()) {
            let mask = occluded.map_or(0, |mask| mask.value(row));
            found.push((ids.value(row).to_owned(), puzzles.permutations[row], mask, tiles.to_vec()));
        }
        Ok(found.len() < count)
    })
    .await?;
    let wanted = found.iter().map(|(id, ..)| id.clone()).collect();
    let gallery = Gallery::of(catalog, pictures(catalog, node)?, &wanted).await?;
    dropped.extend(gallery.dropped);
    let board = layout.grid * layout.tile + (layout.grid - 1) * SEAM;
    let (height, width) = (board.max(gallery.height), gallery.width + GAP + board);
    let columns = columns(found.len(), height, width);
    let mut canvas = sheet(found.len().max(1), columns, height, width)?;
    let mut legend = Vec::new();
    for (at, (image_id, permutation, occluded, tiles)) in found.into_iter().enumerate() {
        let (x, y) = place(at, columns, height, width);
        if let Some(image) = gallery.images.get(&image_id) {
            canvas.put((x, y), (gallery.height, gallery.width), image);
        }
        for (number, tile) in tiles.chunks_exact(bytes).enumerate() {
            let step = layout.tile + SEAM;
            let left = x + gallery.width + GAP + number % layout.grid * step;
            let corner = (left, y + number / layout.grid * step);
            canvas.put(corner, (layout.tile, layout.tile), tile);
            if occluded >> number & 1 == 1 {
                canvas.frame(corner, (layout.tile, layout.tile), FRAME, STRANGE);
            }
        }
        let (row, column) = (at / columns, at % columns);
        legend.push(Entry { row, column, image_id, number: Some(permutation.into()), distance: None });
    }
    Ok(Shown { canvas, legend, dropped, note: None })
}

async fn show_clusters(catalog: &Arc<Catalog>, node: usize, count: usize, clusters: &[i32]) -> Result<Shown> {
    let stage = catalog.name(node);
    let pictures = pictures(catalog, node)?;
    let chosen = if clusters.is_empty() {
        String::new()
    } else {
        format!("WHERE cluster IN ({})", clusters.iter().map(i32::to_string).collect::<Vec<_>>().join(", "))
    };
    let query = format!(
        "SELECT CAST(cluster AS INT) AS cluster, image_id, CAST(distance AS REAL) AS distance, size FROM (
           SELECT cluster, image_id, distance, count(*) OVER (PARTITION BY cluster) AS size,
                  row_number() OVER (PARTITION BY cluster ORDER BY distance, image_id) AS place
           FROM \"{}\" {chosen}) WHERE place <= {count} ORDER BY cluster, distance, image_id",
        stage.replace('"', "\"\"")
    );
    let answer = sql::query(catalog, &query).await?;
    let mut rows: BTreeMap<i32, (i64, Vec<(String, f32)>)> = BTreeMap::new();
    for batch in &answer.batches {
        let (cluster, ids) = (int32(batch, CLUSTER)?, text(batch, IMAGE_ID)?);
        let (distance, size) = (floats(batch, "distance")?, batch.column(3).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let entry = rows.entry(cluster.value(row)).or_insert_with(|| (size.value(row), Vec::new()));
            entry.1.push((ids.value(row).to_owned(), distance.value(row)));
        }
    }
    if let Some(absent) = clusters.iter().find(|cluster| !rows.contains_key(cluster)) {
        bail!("no image of stage `{stage}` is in cluster {absent}");
    }
    let mut note = None;
    if clusters.is_empty() && rows.len() > MOST_CLUSTERS {
        let mut sizes: Vec<(i64, i32)> = rows.iter().map(|(cluster, (size, _))| (-size, *cluster)).collect();
        sizes.sort_unstable();
        let kept: BTreeSet<i32> = sizes.into_iter().take(MOST_CLUSTERS).map(|(_, cluster)| cluster).collect();
        note = Some(format!("of {} clusters, the {MOST_CLUSTERS} largest: --clusters 3,17 chooses others", rows.len()));
        rows.retain(|cluster, _| kept.contains(cluster));
    }
    let wanted = rows.values().flat_map(|(_, images)| images.iter().map(|(id, _)| id.clone())).collect();
    let gallery = Gallery::of(catalog, pictures, &wanted).await?;
    let (height, width) = (gallery.height.max(LINE), gallery.width);
    let margin = rows.keys().map(|&cluster| number_width(cluster.into())).max().unwrap_or(0) + GAP;
    let count = rows.values().map(|(_, images)| images.len()).max().unwrap_or(1);
    let inner = sheet((rows.len() * count).max(1), count, height, width)?;
    let mut canvas = Canvas::new(inner.width + margin, inner.height);
    let mut legend = Vec::new();
    for (row, (cluster, (_, images))) in rows.into_iter().enumerate() {
        let (_, y) = place(row * count, count, height, width);
        canvas.number((GAP, y + (height - LINE) / 2), cluster.into(), INK);
        for (column, (image_id, distance)) in images.into_iter().enumerate() {
            let (x, y) = place(row * count + column, count, height, width);
            if let Some(image) = gallery.images.get(&image_id) {
                canvas.put((x + margin, y), (gallery.height, gallery.width), image);
            }
            let (number, distance) = (Some(cluster.into()), Some(f64::from(distance)));
            legend.push(Entry { row, column, image_id, number, distance });
        }
    }
    Ok(Shown { canvas, legend, dropped: gallery.dropped, note })
}
