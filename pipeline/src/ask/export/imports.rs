//! Import files of other programs: what a table says of images, and where their files lie, for FiftyOne and Label Studio.
//!
//! The images stay where they are. Rows come in the table's order and are written as they come; in memory are some batches of them, the
//! names of the classes, and the paths of the images where the table itself does not say them.

mod fiftyone;
mod label_studio;
pub mod places;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tessera_schemas::boxes::{BOXES, Boxes};
use tessera_schemas::{IMAGE_ID, images, printable};

use super::Rows;
use crate::engine::catalog::Catalog;
use crate::watch::progress::Bar;
use places::Places;

/// A program whose import file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// A folder that FiftyOne loads: Dataset.from_dir(…, dataset_type=fiftyone.types.FiftyOneDataset).
    Fiftyone,
    /// A .json of tasks that Label Studio imports, and beside it an .xml with its labelling configuration.
    LabelStudio,
}

/// What an import file is to say.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The program that imports the file.
    pub program: Program,
    /// The column with the class of an image.
    pub by: Option<String>,
    /// The columns that are written beside the class; if there are none, all columns of types that the format has.
    pub columns: Vec<String>,
    /// The folder whose files Label Studio serves; with `None` it is the folder that holds the data set's folder.
    pub document_root: Option<PathBuf>,
    /// Whether files that are there are overwritten.
    pub force: bool,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// How many images the file names.
    pub rows: u64,
    /// How many columns the file has of each image, the id among them.
    pub columns: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Columns that were left out, for the format has no place for them.
    pub left_out: Vec<String>,
    /// Images whose boxes were left out, for nobody knows their size.
    pub without_size: u64,
    /// Sentences for the person who imports the file.
    pub beside: Vec<String>,
}

/// Which columns are read, and what for.
struct Told {
    /// All that are read.
    schema: SchemaRef,
    /// The columns that are written as they are, in the table's order.
    names: Vec<String>,
    /// The class.
    by: Option<String>,
    /// Whether there are boxes.
    boxes: bool,
    /// Whether there are width and height.
    size: bool,
    left_out: Vec<String>,
}

/// Writes the import file of a stage's table.
///
/// # Errors
/// The table has no images or not what is wanted of it, an image has no file of its own, or the disk says no.
pub fn write<'a>(
    catalog: &Arc<Catalog>,
    node: usize,
    to: &Path,
    wanted: &Wanted,
    places: &Places,
    open: impl FnOnce(&SchemaRef) -> Result<Rows<'a>>,
    bar: &Bar,
) -> Result<(Written, Rows<'a>)> {
    let told = Told::of(catalog, node, wanted, places)?;
    let mut writer = Writer::create(catalog, node, to, wanted, &told, places)?;
    let columns: BTreeSet<&String> = told.names.iter().chain(&told.by).collect();
    let columns = columns.len() + usize::from(told.boxes);
    let mut written = Written { columns, left_out: told.left_out.clone(), ..Written::default() };
    let mut rows = open(&told.schema)?;
    let expected = rows.expected;
    for batch in &mut rows {
        let batch = batch?;
        let mut items = Items::of(&batch, &told, places)?;
        writer.write(&mut items)?;
        written.rows += batch.num_rows() as u64;
        written.without_size += items.without_size;
        bar.at(written.rows, expected, "");
    }
    writer.finish(&mut written)?;
    Ok((written, rows))
}

enum Writer {
    Fiftyone(fiftyone::Dataset),
    LabelStudio(label_studio::Tasks),
}

impl Writer {
    fn create(catalog: &Catalog, node: usize, to: &Path, wanted: &Wanted, told: &Told, places: &Places) -> Result<Self> {
        Ok(match wanted.program {
            Program::Fiftyone => Self::Fiftyone(fiftyone::Dataset::create(catalog.name(node), to, wanted, told)?),
            Program::LabelStudio => {
                let snapshot = catalog.table(node).and_then(|table| table.manifest).map(|manifest| manifest.id.clone());
                let model = match &snapshot {
                    Some(id) => format!("{} {}", catalog.name(node), crate::store::snapshots::shown(id)),
                    None => catalog.name(node).to_owned(),
                };
                Self::LabelStudio(label_studio::Tasks::create(model, to, wanted, told, places)?)
            }
        })
    }

    fn write(&mut self, items: &mut Items<'_>) -> Result<()> {
        match self {
            Self::Fiftyone(dataset) => dataset.write(items),
            Self::LabelStudio(tasks) => tasks.write(items),
        }
    }

    fn finish(self, written: &mut Written) -> Result<()> {
        match self {
            Self::Fiftyone(dataset) => dataset.finish(written),
            Self::LabelStudio(tasks) => tasks.finish(written),
        }
    }
}

impl Told {
    fn of(catalog: &Catalog, node: usize, wanted: &Wanted, places: &Places) -> Result<Self> {
        let schema = catalog.schema(node);
        if schema.column_with_name(IMAGE_ID).is_none() {
            bail!("the table of stage `{}` has no `{IMAGE_ID}`, so it says nothing of images", catalog.name(node));
        }
        // It says which columns there are.
        super::columns(&schema, &wanted.columns)?;
        if let Some(by) = &wanted.by {
            check_class(&schema, by)?;
        }
        let is_wanted = |name: &str| wanted.columns.is_empty() || wanted.columns.iter().any(|wanted| wanted == name);
        let is_whole = |name: &str| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Int64);
        let size = is_whole("width") && is_whole("height");
        let boxes = is_wanted(BOXES) && schema.column_with_name(BOXES).is_some();
        if boxes && !size {
            bail!(
                "column `{BOXES}` is in pixels, and there are no columns `width` and `height` to measure them by: leave it out by \
                 --columns, or write a table that has them, as `images` does"
            );
        }
        let (mut names, mut left_out) = (Vec::new(), Vec::new());
        for field in schema.fields() {
            let name = field.name();
            // Where bytes lie is told as a path or a URL.
            let is_ours =
                name == BOXES && boxes || wanted.columns.is_empty() && ["source", "digest"].contains(&name.as_str());
            if is_ours || !is_wanted(name) && name != IMAGE_ID {
                continue;
            }
            let has_place = match wanted.program {
                Program::Fiftyone => fiftyone::has_place(name),
                Program::LabelStudio => name != label_studio::IMAGE,
            };
            if has_place && is_plain(field) {
                names.push(name.clone());
            } else {
                left_out.push(name.clone());
            }
        }
        if wanted.program == Program::Fiftyone {
            if let Some(by) = wanted.by.as_ref().filter(|by| !fiftyone::has_place(by)) {
                bail!("FiftyOne has no field `{by}` of a user's: a `sql` stage gives the column another name");
            }
            // They are its metadata, and the class is a field of its own.
            names.retain(|name| !(size && ["width", "height"].contains(&name.as_str())) && Some(name) != wanted.by.as_ref());
        }
        let mut read: BTreeSet<&str> = names.iter().map(String::as_str).chain([IMAGE_ID]).collect();
        read.extend(wanted.by.as_deref());
        read.extend(boxes.then_some(BOXES));
        read.extend(if size { vec!["width", "height"] } else { Vec::new() });
        read.extend(matches!(places, Places::Told(_)).then_some("source"));
        let fields = schema.fields().iter().filter(|field| read.contains(field.name().as_str())).cloned();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { schema, names, by: wanted.by.clone(), boxes, size, left_out })
    }

    /// The columns that are told as they are.
    fn fields(&self) -> impl Iterator<Item = &Arc<Field>> {
        self.names.iter().filter_map(|name| self.schema.fields().find(name).map(|(_, field)| field))
    }
}

fn check_class(schema: &SchemaRef, by: &str) -> Result<()> {
    let known = || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    let field = schema
        .field_with_name(by)
        .ok()
        .with_context(|| format!("there is no column `{by}` of classes; columns: {}", known()))?;
    if !is_plain(field) {
        bail!("column `{by}` holds {}, which is no class", field.data_type());
    }
    Ok(())
}

/// Whether a value is one number, text, truth value or time.
fn is_plain(field: &Field) -> bool {
    let kind = field.data_type();
    kind.is_integer()
        || kind.is_floating()
        || kind.is_temporal() && !matches!(kind, DataType::Duration(_) | DataType::Interval(_))
        || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean)
}

/// Some rows, checked.
struct Items<'a> {
    told: &'a Told,
    rows: &'a RecordBatch,
    ids: &'a StringArray,
    /// The absolute path or URL of each image's file.
    addresses: Vec<String>,
    classes: Option<StringArray>,
    boxes: Option<Boxes<'a>>,
    without_size: u64,
}

/// A box as parts of its image's width and height.
struct Rectangle<'a> {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    label: &'a str,
    difficult: bool,
}

impl<'a> Items<'a> {
    fn of(rows: &'a RecordBatch, told: &'a Told, places: &Places) -> Result<Self> {
        let class = |by: &String| -> Result<StringArray> {
            let column = rows.column_by_name(by).with_context(|| format!("no column `{by}`"))?;
            Ok(cast(column, &DataType::Utf8)
                .with_context(|| format!("column `{by}` is no class"))?
                .as_string::<i32>()
                .clone())
        };
        let classes = told.by.as_ref().map(class).transpose()?;
        let boxes = if told.boxes { Some(Boxes::of(rows)?) } else { None };
        let (ids, addresses) = (images::ids(rows)?, places.of(rows)?);
        Ok(Self { told, rows, ids, addresses, classes, boxes, without_size: 0 })
    }

    /// The class of a row.
    fn class(&self, row: usize) -> Option<&str> {
        self.classes.as_ref().filter(|classes| classes.is_valid(row)).map(|classes| classes.value(row))
    }

    /// Width and height of a row's image, where they are known.
    fn size(&self, row: usize) -> Option<(i64, i64)> {
        if !self.told.size {
            return None;
        }
        let of = |name| {
            let values = self.rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
            Some(values.value(row)).filter(|value| values.is_valid(row) && *value > 0)
        };
        Some((of("width")?, of("height")?))
    }

    /// The boxes of a row; none if nobody said what its image shows, or its size is not known, which is counted.
    ///
    /// # Errors
    /// A side is no number.
    fn rectangles(&mut self, row: usize) -> Result<Option<Vec<Rectangle<'a>>>> {
        let Some(boxes) = self.boxes.and_then(|boxes| boxes.row(row)) else { return Ok(None) };
        let Some((width, height)) = self.size(row) else {
            self.without_size += u64::from(boxes.len() > 0);
            return Ok(None);
        };
        let (width, height) = (width as f64, height as f64);
        let one = |one: tessera_schemas::boxes::Boxed<'a>| {
            if ![one.x0, one.y0, one.x1, one.y1].iter().all(|side| side.is_finite()) {
                bail!("image `{}`: a side of a box is no number", printable(self.ids.value(row)));
            }
            Ok(Rectangle {
                left: f64::from(one.x0) / width,
                top: f64::from(one.y0) / height,
                width: (f64::from(one.x1) - f64::from(one.x0)) / width,
                height: (f64::from(one.y1) - f64::from(one.y0)) / height,
                label: one.label,
                difficult: one.difficult,
            })
        };
        boxes.map(one).collect::<Result<Vec<_>>>().map(Some)
    }
}

/// Names of classes in their order: by number, where all are whole numbers.
fn sorted(classes: BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> = classes.into_iter().collect();
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    if numbers.is_some() {
        names.sort_by_key(|name| name.parse::<i64>().ok());
    }
    names
}
