//! Data sets whose images have label files beside them, which say what the images show and where: PASCAL VOC's XML, COCO's JSON and
//! YOLO's text files.
//!
//! Each of the three is a [`Layout`](crate::layout::Layout) whose tables are those of images without a label, and behind that `split`
//! and [`boxes`](tessera_schemas::boxes), which says what a coordinate means. Formats that pair files by their names ([`Voc`] and
//! [`Yolo`]) refuse a label file that has no image, as [`Coco`] refuses the name of an image that is not there: a table without it
//! would be smaller than the one that was meant. An image without a label has null boxes.
//!
//! A split is called `train`, `val` or `test`, whichever of the usual words (`valid`, `validation`, `val2017`, …) the data set has
//! for it.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::boxes::{self, Boxed, Builder};
use tessera_schemas::images;

pub use coco::Coco;
pub use voc::Voc;
pub use yolo::Yolo;

use crate::{Entry, Error, Fingerprint, Listed, folder};

mod coco;
pub(crate) mod pairs;
mod voc;
mod yolo;

/// The column with the split that an image belongs to.
pub const SPLIT: &str = "split";
/// The column of an images table that these lack: an image may show several classes.
const LABEL: &str = "label";

/// An images table without `label`, and behind it `split` and `boxes`.
pub(crate) fn schema() -> SchemaRef {
    let images = images::schema();
    let mut fields: Vec<FieldRef> = images.fields().iter().filter(|field| field.name() != LABEL).cloned().collect();
    fields.push(Arc::new(Field::new(SPLIT, DataType::Utf8, true)));
    fields.push(Arc::new(boxes::field()));
    Arc::new(Schema::new(fields))
}

/// An object as a label file has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// Left, upper, right and lower edge.
    pub sides: [f32; 4],
    pub label: Arc<str>,
    pub difficult: bool,
}

impl Object {
    fn boxed(&self) -> Boxed<'_> {
        let [x0, y0, x1, y1] = self.sides;
        Boxed { x0, y0, x1, y1, label: &self.label, difficult: self.difficult }
    }
}

/// Four edges as a table holds them, unless one of them is no number, or is too large for it.
fn sides(edges: [f64; 4]) -> Option<[f32; 4]> {
    let edges = edges.map(|edge| edge as f32);
    edges.iter().all(|edge| edge.is_finite()).then_some(edges)
}

/// What a format found out of an image.
#[derive(Debug, Clone, Default)]
struct Known<'a> {
    split: Option<&'a str>,
    /// None: nobody said what it shows.
    objects: Option<Vec<Object>>,
}

/// Some rows of the table.
fn batch<'a>(images: &[&Fingerprint], known: impl IntoIterator<Item = Known<'a>>) -> Result<RecordBatch, Error> {
    let build = || {
        let mut boxes = Builder::default();
        let splits = known.into_iter().map(|known| {
            match &known.objects {
                Some(objects) => boxes.push(objects.iter().map(Object::boxed)),
                None => boxes.push_null(),
            }
            known.split
        });
        let splits: StringArray = splits.collect();
        let listed = images::batch(images.iter().map(|print| folder::image(print, None)))?;
        let schema = schema();
        let listed = schema.fields().iter().map_while(|field| listed.column_by_name(field.name()).cloned());
        let columns = listed.chain([Arc::new(splits) as ArrayRef, boxes.finish()?]).collect();
        Ok::<_, tessera_schemas::SchemaError>(RecordBatch::try_new(schema.clone(), columns)?)
    };
    build().map_err(|error| Error::format("", error))
}

/// The split that a name speaks of: `train2017` is `train`, `valid` is `val`; none if it is no name of a split.
pub(crate) fn split_word(name: &str) -> Option<&'static str> {
    let word = name.trim_end_matches(|last: char| last.is_ascii_digit()).trim_end_matches(['-', '_']).to_ascii_lowercase();
    match word.as_str() {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" => Some("val"),
        "test" | "testing" => Some("test"),
        _ => None,
    }
}

/// The split that a file's folders speak of, the first that does.
pub(crate) fn split_of(path: &str) -> Option<&'static str> {
    folder_of(path).split('/').find_map(split_word)
}

/// The folder that a file is in; empty if that is the data set's.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A file's name.
pub(crate) fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A path without its ending.
pub(crate) fn stem_of(path: &str) -> &str {
    let start = path.len() - name_of(path).len();
    path[start..].rfind('.').filter(|&dot| dot > 0).map_or(path, |dot| &path[..start + dot])
}

/// Whether a name has this ending, in letters of either case.
pub(crate) fn ends_in(path: &str, ending: &str) -> bool {
    let name = name_of(path);
    name.len() > ending.len()
        && name.is_char_boundary(name.len() - ending.len())
        && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

/// A path below a folder, which may be the data set's.
pub(crate) fn inside(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// A file's text, without a byte order mark.
///
/// # Errors
/// It is not UTF-8; the message has the line.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, String> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err("it is UTF-16 text; save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        format!("line {}: the byte {byte:#04x} is not UTF-8 (it may be Latin-1); save the file as UTF-8", line_of(good))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The number of the line that these bytes end in, from 1.
pub(crate) fn line_of(before: &[u8]) -> usize {
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// At most so much of what a file has, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Refuses a listing without a file that may say what images show: the table would be another one.
///
/// # Errors
/// There is such a file or folder.
pub(crate) fn refuse_left_out(root: &Path, listed: &Listed, may_be: impl Fn(&str, bool) -> bool) -> Result<(), Error> {
    match listed.left_out.iter().find(|one| may_be(&one.path, one.is_folder)) {
        Some(one) => Err(Error::format(root.join(&one.path), &one.reason)),
        None => Ok(()),
    }
}

/// A listing's images, and those of its other files that are kept, by path.
pub(crate) fn keep(mut listed: Listed, is_kept: impl Fn(&Entry) -> bool) -> Listed {
    listed.files.retain(|entry| folder::is_image(&entry.path) || is_kept(entry));
    listed.left_out.retain(|one| one.is_folder || folder::is_image(&one.path));
    listed
}

/// The first few of some names, and how many more there are.
pub(crate) fn some(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [first @ .., last] if names.len() <= 3 => first.iter().chain([last]).copied().collect::<Vec<_>>().join(", "),
        _ => format!("{} and {} more", names[..3].join(", "), names.len() - 3),
    }
}

#[cfg(test)]
pub(crate) mod tests;
