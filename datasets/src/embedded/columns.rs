//! Which column of a file holds the images, and what the others are.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use serde_json::Value;
use tessera_schemas::{IMAGE_ID, images};

use super::NAME;
use crate::folder::SPLIT;

/// Key of a file's metadata with what Hugging Face's `datasets` knows of its columns.
const HUGGING_FACE: &str = "huggingface";
/// Fields of a struct that is an image.
pub(super) const BYTES: &str = "bytes";
pub(super) const PATH: &str = "path";
/// The column of classes.
const LABEL: &str = "label";

/// A file's columns.
#[derive(Debug)]
pub(super) struct Columns {
    /// The schema of the table of images.
    schema: SchemaRef,
    /// The column of images.
    image: String,
    /// The column of classes.
    label: Option<String>,
    /// Columns of classes, and these.
    classes: Vec<(String, Vec<String>)>,
    /// The columns that are handed on, by their names in the file; behind those that images have.
    handed: Vec<String>,
    own_ids: bool,
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Whether a column is a struct of an image's bytes.
fn is_image_struct(field: &Field) -> bool {
    let DataType::Struct(fields) = field.data_type() else { return false };
    fields.iter().any(|field| field.name() == BYTES && is_binary(field.data_type()))
}

/// What `datasets` knows of the columns.
pub(super) fn features(schema: &Schema) -> Value {
    let known = schema.metadata().get(HUGGING_FACE).and_then(|text| serde_json::from_str::<Value>(text).ok());
    known.map_or(Value::Null, |known| known["info"]["features"].clone())
}

/// Whether there is a column that is known to be one of images.
pub(super) fn has_images(schema: &Schema) -> bool {
    let known = features(schema);
    schema.fields().iter().any(|field| is_image_struct(field) || known[field.name()]["_type"] == "Image")
}

impl Columns {
    /// The columns of a file of that schema; `known` is what `datasets` knows of the columns, and `image` is the name of the images'
    /// column, if it is given.
    pub(super) fn of(file: &Schema, known: &Value, image: Option<&str>, in_splits: bool) -> Result<Self, String> {
        let image = image_column(file, known, image)?;
        let is_struct = matches!(image.data_type(), DataType::Struct(_));
        let classes: Vec<(String, Vec<String>)> = file
            .fields()
            .iter()
            .filter(|field| field.data_type().is_integer())
            .filter_map(|field| {
                let names = known[field.name()]["names"].as_array()?;
                let names = names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
                Some((field.name().clone(), names))
            })
            .collect();
        let label = match (file.field_with_name(LABEL), &classes[..]) {
            (Ok(_), _) => Some(LABEL.to_owned()),
            (Err(_), [(only, _)]) => Some(only.clone()),
            _ => None,
        };
        let own_ids = file.field_with_name(IMAGE_ID).is_ok_and(|field| *field.data_type() == DataType::Utf8);
        let mut fields: Vec<FieldRef> = images::schema().fields().to_vec();
        if label.is_none() {
            fields.retain(|field| field.name() != LABEL);
        }
        if in_splits {
            fields.push(Arc::new(Field::new(SPLIT, DataType::Utf8, true)));
        }
        let mut handed = Vec::new();
        if is_struct && has_path(image) {
            fields.push(Arc::new(Field::new(NAME, DataType::Utf8, true)));
            handed.push(image.name().clone());
        }
        for field in file.fields() {
            let name = field.name();
            if name == image.name() || Some(name) == label.as_ref() || own_ids && name == IMAGE_ID {
                continue;
            }
            // What a table of images said of their files is not true of this one.
            if fields.iter().any(|known| known.name() == name) {
                continue;
            }
            let is_class = classes.iter().any(|(class, _)| class == name);
            let kind = if is_class { DataType::Utf8 } else { plain(field.data_type()) };
            fields.push(Arc::new(Field::new(name, kind, true)));
            handed.push(name.clone());
        }
        let (image, schema) = (image.name().clone(), Arc::new(Schema::new(fields)));
        Ok(Self { schema, image, label, classes, handed, own_ids })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The name of the column of images.
    pub(super) fn image(&self) -> &str {
        &self.image
    }

    /// Whether another file has what the first one has.
    pub(super) fn check(&self, file: &Schema) -> Result<(), String> {
        let own_ids = file.field_with_name(IMAGE_ID).is_ok_and(|field| *field.data_type() == DataType::Utf8);
        if own_ids != self.own_ids {
            return Err(format!("one of the files has ids in `{IMAGE_ID}`, and another has not"));
        }
        let mut needed = self.handed.iter().chain([&self.image]).chain(&self.label);
        match needed.find(|name| file.index_of(name).is_err()) {
            Some(name) => Err(format!("has no column `{name}`, which the first file has")),
            None => Ok(()),
        }
    }

    /// The ids that rows have themselves.
    pub(super) fn ids(&self, batch: &RecordBatch) -> Option<StringArray> {
        let ids = batch.column_by_name(IMAGE_ID).filter(|_| self.own_ids)?;
        Some(ids.as_string::<i32>().clone())
    }

    /// The classes' names.
    pub(super) fn label(&self, batch: &RecordBatch) -> Result<Option<StringArray>, String> {
        let Some(label) = &self.label else { return Ok(None) };
        let column = batch.column_by_name(label).ok_or_else(|| format!("has no column `{label}`"))?;
        Ok(Some(self.texts(label, column)?))
    }

    /// A column of the table, which is handed on, of some rows.
    pub(super) fn handed(&self, batch: &RecordBatch, at: usize, rows: &[u32]) -> Result<ArrayRef, String> {
        let field = self.schema.field(at);
        let first = self.schema.fields().len() - self.handed.len();
        let name = &self.handed[at - first];
        let column = batch.column_by_name(name).ok_or_else(|| format!("has no column `{name}`"))?;
        let values: ArrayRef = if *name == self.image {
            let path = column.as_struct().column_by_name(PATH).ok_or("an image has no field `path`")?;
            cast(path, &DataType::Utf8).map_err(|error| error.to_string())?
        } else if self.classes.iter().any(|(class, _)| class == name) {
            Arc::new(self.texts(name, column)?)
        } else {
            cast(column, field.data_type()).map_err(|error| format!("column `{name}`: {error}"))?
        };
        take(&values, &UInt32Array::from(rows.to_vec()), None).map_err(|error| error.to_string())
    }

    /// A column as texts: of classes, their names.
    fn texts(&self, name: &str, column: &ArrayRef) -> Result<StringArray, String> {
        let refused = |error: arrow::error::ArrowError| format!("column `{name}`: {error}");
        let Some((_, names)) = self.classes.iter().find(|(class, _)| class == name) else {
            return Ok(cast(column, &DataType::Utf8).map_err(refused)?.as_string::<i32>().clone());
        };
        let numbers = cast(column, &DataType::Int64).map_err(refused)?;
        let class = |number: Option<i64>| match number {
            // As `datasets` has it: -1 is a row without a class.
            None | Some(-1) => Ok(None),
            Some(number) => match usize::try_from(number).ok().and_then(|number| names.get(number)) {
                Some(class) => Ok(Some(class.as_str())),
                None => Err(format!("column `{name}` has the class {number}, and there are {} classes", names.len())),
            },
        };
        numbers.as_primitive::<Int64Type>().iter().map(class).collect()
    }
}

/// The column of images.
fn image_column<'a>(file: &'a Schema, known: &Value, image: Option<&str>) -> Result<&'a Field, String> {
    let names = || file.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    let of = |fits: &dyn Fn(&Field) -> bool| -> Vec<&'a Field> {
        file.fields().iter().map(AsRef::as_ref).filter(|field: &&Field| fits(field)).collect()
    };
    if let Some(name) = image {
        let field = file.field_with_name(name).map_err(|_| format!("has no column `{name}`; it has {}", names()))?;
        if !is_image_struct(field) && !is_binary(field.data_type()) {
            let kind = field.data_type();
            return Err(format!("column `{name}` should be a struct with `bytes`, or binary, and is {kind}"));
        }
        return Ok(field);
    }
    let called =
        of(&|field| known[field.name()]["_type"] == "Image" && (is_image_struct(field) || is_binary(field.data_type())));
    let structs = of(&is_image_struct);
    let plain = of(&|field| is_binary(field.data_type()));
    match [called, structs, plain].into_iter().find(|found| !found.is_empty()).as_deref() {
        Some([only]) => Ok(only),
        Some(several) => {
            let several: Vec<&str> = several.iter().map(|field| field.name().as_str()).collect();
            Err(format!("several columns may be the images: {}; column = \"{}\" says which", several.join(", "), several[0]))
        }
        None => Err(format!("has no column of images, a struct with `bytes` or binary; it has {}", names())),
    }
}

fn has_path(image: &Field) -> bool {
    let DataType::Struct(fields) = image.data_type() else { return false };
    fields.iter().any(|field| field.name() == PATH && field.data_type().is_string())
}

/// The type under which a column is handed on.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}
