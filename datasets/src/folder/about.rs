//! A table beside the images that says more of them: `metadata.csv`, `.jsonl` or `.parquet`, as in Hugging Face's imagefolder.
//!
//! Its column `file_name` has an image's path from the folder that the table lies in. Its other columns become the images' own; `label`
//! goes before what the folder says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::{IMAGE_ID, text};

use super::LABEL;
use crate::tables::{self, Reading};
use crate::{Entry, Error, Files, Fingerprint};

/// The name of such a table, less its ending.
pub(super) const NAME: &str = "metadata";
/// Its endings.
const ENDINGS: [&str; 3] = ["csv", "jsonl", "parquet"];
/// The column that names images.
const FILE_NAME: &str = "file_name";

/// Whether a file is such a table.
pub(super) fn is_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(stem, ending)| stem == NAME && ENDINGS.contains(&ending))
}

/// The tables beside a data set's images, whose columns are known.
#[derive(Debug)]
pub(super) struct About {
    /// Their paths.
    paths: Vec<String>,
    /// As they are read.
    schema: SchemaRef,
    /// The columns that images get.
    fields: Vec<FieldRef>,
}

/// What the tables say.
pub(super) struct Told {
    rows: RecordBatch,
    /// Which row is an image's.
    places: HashMap<String, u32>,
}

fn entries(files: &dyn Files, root: &Path, path: &str) -> Result<Vec<Entry>, Error> {
    let listed = files.list(&root.join(path))?.files;
    Ok(listed.into_iter().map(|entry| Entry { path: path.into(), ..entry }).collect())
}

impl About {
    /// Reads the columns of these tables; none if there is no table.
    ///
    /// # Errors
    /// One cannot be read, names no images, or has other columns than the first.
    pub(super) fn open(files: &dyn Files, root: &Path, paths: &[String]) -> Result<Option<Self>, Error> {
        let Some(first) = paths.first() else { return Ok(None) };
        let mut all = Vec::new();
        for path in paths {
            all.extend(entries(files, root, path)?);
        }
        let schema = tables::schema(files, root, &all, &Reading::default())?;
        let fail = |message: String| Error::format(root.join(first), message);
        if schema.field_with_name(FILE_NAME).is_ok_and(|field| *field.data_type() != DataType::Utf8) {
            return Err(fail(format!("its column `{FILE_NAME}` should be text")));
        }
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        if !names.contains(&FILE_NAME) {
            let others = names.iter().filter(|name| **name != IMAGE_ID).copied().collect::<Vec<_>>().join(", ");
            return Err(fail(format!("has no column `{FILE_NAME}`, which says whose row it is; it has {others}")));
        }
        let more = schema.fields().iter().filter(|field| ![FILE_NAME, IMAGE_ID].contains(&field.name().as_str()));
        let fields = more.map(|field| {
            let kind = if field.name() == LABEL { DataType::Utf8 } else { field.data_type().clone() };
            let plain = Field::new(field.name(), kind, true).with_metadata(field.metadata().clone());
            Arc::new(plain)
        });
        let fields = fields.collect();
        Ok(Some(Self { paths: paths.to_vec(), schema, fields }))
    }

    /// Whether a file is one of the tables.
    pub(super) fn is_of(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    /// The columns that images get.
    pub(super) fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.fields.iter()
    }

    /// Reads the tables.
    ///
    /// # Errors
    /// One cannot be read, or has two rows of one image.
    pub(super) fn read(&self, files: &dyn Files, root: &Path, prints: &[Fingerprint]) -> Result<Told, Error> {
        let (mut batches, mut places, mut count) = (Vec::new(), HashMap::new(), 0);
        for print in prints.iter().filter(|print| self.is_of(&print.entry.path)) {
            let path = &*print.entry.path;
            let fail = |message: String| Error::format(root.join(path), message);
            let below = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let one = std::slice::from_ref(print);
            let mut take_in = |batch: RecordBatch| -> Result<(), Error> {
                let names = text(&batch, FILE_NAME).map_err(|error| fail(error.to_string()))?;
                for name in names {
                    let name = name.ok_or_else(|| fail(format!("row {} has no `{FILE_NAME}`", count + 1)))?;
                    let image = format!("{below}{}", name.trim_start_matches("./"));
                    if places.insert(image, count).is_some() {
                        return Err(fail(format!("has two rows of `{name}`")));
                    }
                    count += 1;
                }
                batches.push(batch);
                Ok(())
            };
            tables::read(files, root, one, &self.schema, &Reading::default(), &mut take_in)?;
        }
        let all = concat_batches(&self.schema, &batches).map_err(|error| Error::format(root, error))?;
        let columns = self.fields.iter().map(|field| {
            let column = all.column_by_name(field.name()).expect("it is one of the table's");
            cast(column, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| Error::format(root, error))?;
        let schema = Arc::new(Schema::new(self.fields.clone()));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options);
        Ok(Told { rows: rows.map_err(|error| Error::format(root, error))?, places })
    }
}

impl Told {
    /// A column's values for some images; none if the tables have no such column.
    pub(super) fn column(&self, name: &str, paths: &[&str]) -> Option<Result<ArrayRef, Error>> {
        let column = self.rows.column_by_name(name)?;
        let rows: UInt32Array = paths.iter().map(|path| self.places.get(*path).copied()).collect();
        Some(take(column, &rows, None).map_err(|error| Error::format(NAME, error)))
    }

    /// Images that the tables name, and that are not among these.
    pub(super) fn lacking<'a>(&'a self, is_there: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
        let mut lacking: Vec<&str> = self.places.keys().map(String::as_str).filter(|path| !is_there(path)).collect();
        lacking.sort_unstable();
        lacking
    }
}
