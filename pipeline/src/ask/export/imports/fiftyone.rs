//! FiftyOne: a folder in its own format, `FiftyOneDataset`, of which `samples.json` has the images and `metadata.json` their fields.
//!
//! It is the one of its formats that has classes, boxes and plain fields at once, each with its type. It is written as version 0.25 has it;
//! later ones migrate what they read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, IntoInnerError, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use serde_json::{Value, json};
use tessera_datasets::as_url;
use tessera_schemas::boxes::BOXES;

use super::super::NewFile;
use super::super::json::{self as members, Members};
use super::{Items, Told, Wanted, Written, sorted};

/// The version whose format it is.
const VERSION: &str = "0.25.0";
/// Names that FiftyOne has taken.
const TAKEN: [&str; 11] = [
    "id",
    "pk",
    "filepath",
    "media_type",
    "tags",
    "metadata",
    "created_at",
    "last_modified_at",
    "frames",
    "groups",
    "group",
];

/// Whether a user's field may have that name.
pub(super) fn has_place(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('_') && !name.contains(['.', '$']) && !TAKEN.contains(&name)
}

/// A folder that is being written.
pub(super) struct Dataset {
    stage: String,
    to: PathBuf,
    samples: NewFile,
    metadata: NewFile,
    out: BufWriter<File>,
    /// Its fields.
    fields: Vec<Value>,
    by: Option<String>,
    classes: BTreeSet<String>,
    labels: BTreeSet<String>,
    is_first: bool,
}

impl Dataset {
    pub(super) fn create(stage: &str, to: &Path, wanted: &Wanted, told: &Told) -> Result<Self> {
        if to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) || to.is_file() {
            bail!("FiftyOne reads a folder, and {} is a file: -o names a folder, which is made", to.display());
        }
        if !wanted.force && fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("the folder {} is not empty: --force overwrites metadata.json and samples.json in it", to.display());
        }
        fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
        let samples = NewFile::create(&to.join("samples.json"), wanted.force)?;
        let metadata = NewFile::create(&to.join("metadata.json"), wanted.force)?;
        let mut out = BufWriter::with_capacity(1 << 20, samples.file()?);
        out.write_all(b"{\"samples\":[")?;
        let (stage, to, by) = (stage.to_owned(), to.to_owned(), wanted.by.clone());
        let (classes, labels) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { stage, to, samples, metadata, out, fields: fields(told), by, classes, labels, is_first: true })
    }

    pub(super) fn write(&mut self, items: &mut Items<'_>) -> Result<()> {
        let (told, rows) = (items.told, items.rows);
        let columns = told.fields().filter_map(|field| Some((field, rows.column_by_name(field.name())?)));
        let columns: Vec<(&FieldRef, ArrayRef)> =
            columns.map(|(field, column)| Ok((field, stored(field, column)?))).collect::<Result<_>>()?;
        let options = members::options();
        let plain = columns.iter().filter(|(field, _)| !is_time(field.data_type())).map(|(field, column)| (*field, column));
        let mut plain = Members::of(plain, &options)?;
        let times: Vec<(String, &Int64Array)> = columns
            .iter()
            .filter(|(field, _)| is_time(field.data_type()))
            .map(|(field, column)| Ok((serde_json::to_string(field.name())?, column.as_primitive::<Int64Type>())))
            .collect::<Result<_>>()?;
        let mut line = Vec::new();
        for row in 0..rows.num_rows() {
            line.clear();
            line.extend_from_slice(if self.is_first { &b"\n{"[..] } else { &b",\n{"[..] });
            self.is_first = false;
            self.sample(items, row, &mut line)?;
            plain.write(row, &mut line);
            for (name, times) in &times {
                match times.is_valid(row) {
                    true => write!(line, ",{name}:{{\"$date\":{{\"$numberLong\":\"{}\"}}}}", times.value(row))?,
                    false => write!(line, ",{name}:null")?,
                }
            }
            line.push(b'}');
            self.out.write_all(&line).with_context(|| format!("cannot write to {}", self.to.display()))?;
        }
        Ok(())
    }

    /// The members of a sample that are no plain columns.
    fn sample(&mut self, items: &mut Items<'_>, row: usize, line: &mut Vec<u8>) -> Result<()> {
        let (path, id) = (&items.addresses[row], items.ids.value(row));
        if as_url(Path::new(path)).is_some() {
            bail!(
                "FiftyOne reads files of a disk, and {path} lies in a bucket: --images FOLDER copies them, and then refers to the copies"
            );
        }
        line.extend_from_slice(b"\"filepath\":");
        serde_json::to_writer(&mut *line, path)?;
        let hash = blake3::hash(path.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        // By it FiftyOne takes and shuffles at random.
        let random = (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
        write!(line, ",\"tags\":[],\"_media_type\":\"image\",\"_rand\":{random}")?;
        if let Some((width, height)) = items.size(row) {
            write!(line, ",\"metadata\":{{\"_cls\":\"ImageMetadata\",\"width\":{width},\"height\":{height}}}")?;
        }
        if let Some(by) = &self.by {
            let class = items.class(row).map(|class| {
                if !self.classes.contains(class) {
                    self.classes.insert(class.to_owned());
                }
                json!({ "_id": self::id(&[&self.stage, by, id]), "_cls": "Classification", "tags": [], "label": class })
            });
            write!(line, ",{}:{}", json!(by), json!(class))?;
        }
        if items.told.boxes {
            let found = items.rectangles(row)?.map(|boxes| {
                let one = |(at, one): (usize, &super::Rectangle<'_>)| {
                    json!({
                        "_id": self::id(&[&self.stage, BOXES, id, &at.to_string()]), "_cls": "Detection", "tags": [],
                        "attributes": {}, "label": one.label,
                        "bounding_box": [one.left, one.top, one.width, one.height], "difficult": one.difficult,
                    })
                };
                let all: Vec<Value> = boxes.iter().enumerate().map(one).collect();
                self.labels.extend(boxes.iter().map(|one| one.label.to_owned()));
                json!({ "_cls": "Detections", "detections": all })
            });
            write!(line, ",\"{BOXES}\":{}", json!(found))?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, written: &mut Written) -> Result<()> {
        self.out.write_all(b"\n]}\n")?;
        self.out.into_inner().map_err(IntoInnerError::into_error)?;
        let mut classes = serde_json::Map::new();
        classes.extend(self.by.map(|by| (by, json!(sorted(self.classes)))));
        classes.extend((!self.labels.is_empty()).then(|| (BOXES.to_owned(), json!(sorted(self.labels)))));
        let metadata = json!({
            "version": VERSION, "media_type": "image", "info": {}, "classes": classes, "sample_fields": self.fields,
        });
        self.metadata.file()?.write_all(format!("{metadata:#}\n").as_bytes())?;
        // A folder without metadata is no data set.
        written.bytes += self.samples.finish()?;
        written.bytes += self.metadata.finish()?;
        Ok(())
    }
}

/// An id of a label, in MongoDB's form: the same for the same.
fn id(of: &[&str]) -> Value {
    let mut hasher = blake3::Hasher::new();
    for text in of {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    json!({ "$oid": hasher.finalize().to_hex()[..24] })
}

/// Whether a type is a moment, which is a `DateTimeField`.
fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..))
}

/// A column in a type that MongoDB has: whole numbers of 64 bits, and times in milliseconds.
fn stored(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(match field.data_type() {
        DataType::UInt64 => cast_with_options(column, &DataType::Int64, &strict).with_context(|| {
            format!("column `{}` holds numbers that FiftyOne cannot: leave it out by --columns", field.name())
        })?,
        DataType::Timestamp(_, zone) => {
            cast(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?, &DataType::Int64)?
        }
        _ => column.clone(),
    })
}

/// How FiftyOne describes a field.
fn field(name: &str, kind: &str, stored_as: &str, more: Value) -> Value {
    let mut field = json!({
        "name": name, "ftype": format!("fiftyone.core.fields.{kind}"), "subfield": null, "embedded_doc_type": null,
        "db_field": stored_as, "fields": [], "description": null, "info": null, "read_only": false,
    });
    if let (Some(field), Value::Object(more)) = (field.as_object_mut(), more) {
        field.extend(more);
    }
    field
}

/// A field of objects of a class.
fn object(name: &str, class: &str, fields: Vec<Value>) -> Value {
    let class = format!("fiftyone.core.{class}");
    field(name, "EmbeddedDocumentField", name, json!({ "embedded_doc_type": class, "fields": fields }))
}

/// All fields of a data set.
fn fields(told: &Told) -> Vec<Value> {
    let plain = |name: &str, kind: &str| field(name, kind, name, Value::Null);
    let list = |name: &str, kind: &str| {
        field(name, "ListField", name, json!({ "subfield": format!("fiftyone.core.fields.{kind}") }))
    };
    let id = || field("id", "ObjectIdField", "_id", Value::Null);
    let tags = || list("tags", "StringField");
    let mut all = vec![id(), plain("filepath", "StringField"), tags()];
    let size = ["size_bytes", "width", "height", "num_channels"].map(|name| plain(name, "IntField"));
    let metadata = size.into_iter().chain([plain("mime_type", "StringField")]).collect();
    all.extend([object("metadata", "metadata.ImageMetadata", metadata)]);
    all.extend([plain("_media_type", "StringField"), plain("_rand", "FloatField"), plain("_dataset_id", "ObjectIdField")]);
    let label = || vec![id(), tags(), plain("label", "StringField"), plain("confidence", "FloatField")];
    if let Some(by) = &told.by {
        let logits = plain("logits", "VectorField");
        all.push(object(by, "labels.Classification", label().into_iter().chain([logits]).collect()));
    }
    all.extend(told.fields().map(|field| plain(field.name(), kind_of(field.data_type()))));
    if told.boxes {
        let attribute = json!({
            "subfield": "fiftyone.core.fields.EmbeddedDocumentField", "embedded_doc_type": "fiftyone.core.labels.Attribute",
        });
        let more = [
            field("attributes", "DictField", "attributes", attribute),
            list("bounding_box", "FloatField"),
            plain("mask", "ArrayField"),
            plain("index", "IntField"),
            plain("difficult", "BooleanField"),
        ];
        let detection = json!({
            "subfield": "fiftyone.core.fields.EmbeddedDocumentField", "embedded_doc_type": "fiftyone.core.labels.Detection",
            "fields": label().into_iter().chain(more).collect::<Vec<_>>(),
        });
        all.push(object(BOXES, "labels.Detections", vec![field("detections", "ListField", "detections", detection)]));
    }
    all
}

/// The field that a column becomes.
fn kind_of(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "BooleanField",
        kind if kind.is_integer() => "IntField",
        kind if kind.is_floating() => "FloatField",
        kind if is_time(kind) => "DateTimeField",
        _ => "StringField",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{TimestampMicrosecondArray, UInt64Array};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn names_that_are_taken_have_no_place() {
        assert!(["label", "width", "größe"].map(has_place).iter().all(|place| *place));
        assert!(["", "id", "tags", "_x", "source.path", "$a", "created_at"].map(has_place).iter().all(|place| !place));
    }

    #[test]
    fn ids_are_of_what_they_name() {
        assert_eq!(id(&["a", "bc"]), id(&["a", "bc"]));
        assert_ne!(id(&["a", "bc"]), id(&["ab", "c"]));
        assert_eq!(id(&["a"])["$oid"].as_str().map(str::len), Some(24));
    }

    #[test]
    fn columns_are_stored_as_mongodb_has_them() {
        let of = |column: ArrayRef| {
            let field: FieldRef = Arc::new(Field::new("n", column.data_type().clone(), true));
            stored(&field, &column)
                .map(|stored| stored.as_primitive::<Int64Type>().value(0))
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("+00:00"))), Ok(1_500));
        assert_eq!(of(Arc::new(UInt64Array::from(vec![7]))), Ok(7));
        assert!(of(Arc::new(UInt64Array::from(vec![u64::MAX]))).unwrap_err().contains("column `n` holds numbers that"));
    }
}
