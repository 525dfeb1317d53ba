//! The images of a table's rows, as the files that they were made from: a folder a class, a tar, or Parquet.
//!
//! Bytes are read where the rows of the data set say that they lie, and held against their digests. A folder is what `images` and
//! torchvision's `ImageFolder` read; a tar is WebDataset's; Parquet is what Hugging Face's `datasets` loads with pictures and classes.

mod folder;
mod parquet;
mod tar;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use tessera_datasets::header::Header;
use tessera_schemas::{BYTES, IMAGE_ID, images};

use crate::engine::catalog::Catalog;
use crate::engine::fetch::{self, Place};
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::Bar;

/// Images whose bytes are in memory at once.
const BATCH_ROWS: usize = 64;
/// Columns that say where images lie.
const LOCATED: [&str; 3] = [IMAGE_ID, "source", "digest"];
/// What a row without a class is put under.
const NO_CLASS: &str = "none";

/// What is exported, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The column with the class of an image.
    pub by: Option<String>,
    /// Whether files of a folder may be hard links to those of the data set.
    pub hard_links: bool,
    /// Whether files that are there are overwritten.
    pub force: bool,
}

/// Images of a table, with what it says of them.
pub(super) struct Images<'a> {
    catalog: &'a Catalog,
    places: BTreeMap<String, Place>,
    /// The table's own rows, less columns that are many numbers.
    rows: RecordBatch,
    /// `image_id`, `source` and `digest` of those rows.
    located: RecordBatch,
    /// Their classes.
    classes: Option<StringArray>,
}

/// One image.
pub(super) struct Image<'a> {
    /// Which row of the table.
    row: usize,
    id: &'a str,
    bytes: &'a [u8],
    class: Option<&'a str>,
}

/// The end of a path that is no folder's.
fn ending(to: &Path) -> Option<&str> {
    to.extension().and_then(|ending| ending.to_str()).filter(|ending| ["parquet", "tar"].contains(ending))
}

/// Whether images that are written there are files of their own.
pub fn is_folder(to: &Path) -> bool {
    ending(to).is_none()
}

/// Writes the images of a stage's table: into a tar or a Parquet file if the path ends so, else into a folder, where `placed` is told of
/// each its path below. Returns how many.
///
/// # Errors
/// The table has no images, one cannot be read, or the disk says no.
pub async fn write(
    catalog: &Arc<Catalog>,
    node: usize,
    to: &Path,
    wanted: &Wanted,
    bar: &Bar,
    placed: &mut dyn FnMut(&str, &str),
) -> Result<u64> {
    let images = Images::open(catalog, node, wanted.by.as_deref()).await?;
    let mut work = |images: Images<'_>| match ending(to) {
        Some("parquet") => parquet::write(&images, to, wanted, bar),
        Some(_) => tar::write(&images, to, wanted, bar),
        None => folder::write(&images, to, wanted, bar, placed),
    };
    tokio::task::block_in_place(|| work(images))
}

impl<'a> Images<'a> {
    async fn open(catalog: &'a Catalog, node: usize, by: Option<&str>) -> Result<Self> {
        let schema = catalog.schema(node);
        if schema.column_with_name(IMAGE_ID).is_none() {
            bail!("the table of stage `{}` has no `{IMAGE_ID}`, so it says nothing of images", catalog.name(node));
        }
        let is_small = |field: &&Arc<Field>| {
            !matches!(field.data_type(), DataType::FixedSizeList(..) | DataType::Binary | DataType::LargeBinary)
        };
        let names: Vec<String> = schema.fields().iter().filter(is_small).map(|field| field.name().clone()).collect();
        let rows = all(catalog, node, names).await?;
        let classes = match by {
            Some(by) => Some(class_names(&rows, by)?),
            None => None,
        };
        let sources = located(catalog, node).await?;
        let mut at: HashMap<&str, u32> = HashMap::with_capacity(sources.num_rows());
        at.extend(images::ids(&sources)?.iter().flatten().zip(0..));
        let find = |id: Option<&str>| {
            let id = id.context("a row has no image_id")?;
            at.get(id).copied().with_context(|| format!("`{id}` is not an image of the data set, but made of one"))
        };
        let places = images::ids(&rows)?.iter().map(find).collect::<Result<Vec<u32>>>()?;
        let located = take_record_batch(&sources, &UInt32Array::from(places))?;
        Ok(Self { catalog, places: catalog.roots(node)?, rows, located, classes })
    }

    fn count(&self) -> usize {
        self.rows.num_rows()
    }

    /// Hands out the images of some rows, with their bytes.
    fn read(&self, start: usize, take: &mut dyn FnMut(Image<'_>) -> Result<()>) -> Result<usize> {
        if self.catalog.engine.interrupt.asked() {
            return Err(Interrupted.into());
        }
        let located = self.located.slice(start, BATCH_ROWS.min(self.count() - start));
        let (fetched, unread) = fetch::fetch(&self.catalog.engine, &self.places, &located)?;
        if let Some((row, reason)) = unread.first() {
            bail!("image `{}` {reason}", images::ids(&located)?.value(*row));
        }
        let (ids, bytes) = (images::ids(&fetched)?, fetched.column_by_name(BYTES).context("no bytes")?.as_binary::<i32>());
        for at in 0..located.num_rows() {
            let row = start + at;
            let class = self.classes.as_ref().filter(|classes| classes.is_valid(row)).map(|classes| classes.value(row));
            take(Image { row, id: ids.value(at), bytes: bytes.value(at), class })?;
        }
        Ok(start + located.num_rows())
    }

    /// All images, one after the other.
    fn each(&self, bar: &Bar, mut take: impl FnMut(Image<'_>) -> Result<()>) -> Result<u64> {
        let mut start = 0;
        while start < self.count() {
            start = self.read(start, &mut take)?;
            bar.at(start as u64, self.count() as u64, "images");
        }
        Ok(start as u64)
    }
}

impl Image<'_> {
    /// A name for its file: the id, one folder deep, with an ending that says what it is.
    fn file_name(&self) -> String {
        let name = safe(self.id);
        let ending = match Header::of(self.bytes).format {
            Some("jpeg") => "jpg",
            Some("tiff") => "tif",
            Some(format) => format,
            None => return name,
        };
        let has = tessera_datasets::folder::naming::extension(&name).to_ascii_lowercase();
        let is_it =
            has == ending || ending == "jpg" && ["jpeg", "jpe", "jfif"].contains(&&*has) || ending == "tif" && has == "tiff";
        if is_it { name } else { format!("{name}.{ending}") }
    }
}

/// A text as a name on any disk: no folder, nothing hidden, nothing that leads away.
fn safe(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| match c {
            '/' | '\\' => '_',
            c if c.is_control() || "<>:\"|?*".contains(c) => '_',
            c => c,
        })
        .collect();
    let name = name.trim_matches(' ');
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name.to_owned() }
}

/// All rows of a table, with some of its columns, by `image_id`.
async fn all(catalog: &Catalog, node: usize, columns: Vec<String>) -> Result<RecordBatch> {
    let schema = catalog.schema(node);
    let fields: Vec<Field> = columns.iter().map(|name| schema.field_with_name(name).cloned()).collect::<Result<_, _>>()?;
    let batches = catalog.collect(node, Some(columns.clone())).await?;
    let wanted = Arc::new(Schema::new(fields));
    let project = |batch: &RecordBatch| -> Result<RecordBatch> {
        let column = |name: &String| batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`"));
        Ok(RecordBatch::try_new(wanted.clone(), columns.iter().map(column).collect::<Result<_>>()?)?)
    };
    let rows = concat_batches(&wanted, &batches.iter().map(project).collect::<Result<Vec<_>>>()?)?;
    let ids = images::ids(&rows)?;
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by_key(|&row| ids.value(row as usize));
    Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
}

/// `image_id`, `source` and `digest` of the images that a table is about: its own, or those of the data sets that it comes from.
async fn located(catalog: &Catalog, node: usize) -> Result<RecordBatch> {
    let mut found: Option<RecordBatch> = None;
    for table in tables_of_images(catalog, node)? {
        let rows = all(catalog, table, LOCATED.map(str::to_owned).to_vec()).await?;
        found = Some(match found {
            None => rows,
            Some(before) => concat_batches(&before.schema(), [&before, &rows])?,
        });
    }
    found.context("there is no table of images")
}

/// Whether a stage's table says where images lie.
fn locates_images(catalog: &Catalog, node: usize) -> bool {
    let schema = catalog.schema(node);
    LOCATED.iter().all(|name| schema.column_with_name(name).is_some())
}

/// Whether a stage lists the images of a data set.
pub fn lists_images(catalog: &Catalog, node: usize) -> bool {
    catalog.plan.graph.nodes[node].spec.inputs().is_empty() && locates_images(catalog, node)
}

/// The tables that say where the images of a stage's table lie: itself, or those of the data sets that it comes from.
///
/// # Errors
/// It comes from none.
pub(super) fn tables_of_images(catalog: &Catalog, node: usize) -> Result<Vec<usize>> {
    if locates_images(catalog, node) {
        return Ok(vec![node]);
    }
    let tables: Vec<usize> =
        catalog.plan.graph.upstream(&[node]).into_iter().filter(|&node| lists_images(catalog, node)).collect();
    if tables.is_empty() {
        let name = catalog.name(node);
        bail!("the table of stage `{name}` comes from no data set of images, whose files could be written");
    }
    Ok(tables)
}

/// A column as classes.
fn class_names(rows: &RecordBatch, by: &str) -> Result<StringArray> {
    let column: &ArrayRef = rows.column_by_name(by).with_context(|| {
        let known: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        format!("there is no column `{by}` to sort by; columns: {}", known.join(", "))
    })?;
    let texts = cast(column, &DataType::Utf8).with_context(|| format!("column `{by}` is no class"))?;
    Ok(texts.as_string::<i32>().clone())
}
