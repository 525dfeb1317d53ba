//! Reading the bytes of images where their rows say that they lie.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};

use arrow::array::{Array as _, BinaryBuilder, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use tessera_datasets::UNREADABLE;
use tessera_datasets::layout::Access;
use tessera_operators::operator::RunError;
use tessera_schemas::images::{self, Source};
use tessera_schemas::{BYTES, IMAGE_ID, meta, printable, text};

use super::Engine;
use crate::store::key;

/// Bytes of an encoded image that are read at most: more than any that is decoded, and far below what a column can hold.
const MAX_BYTES: u64 = 1 << 30;

/// Where a data set lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// How bytes are reached in it.
    pub access: Access,
}

/// Adds the column of bytes that the batch's `source` points at. Blocks on IO.
///
/// A table may have rows of several data sets (a `UNION ALL`), and a row does not say of which: then its file is looked for in each,
/// and the digest tells which one is meant.
///
/// # Errors
/// An image is not what was listed: its bytes have another digest, or can no longer be read. Its row would be kept under the
/// key of what it was, so that it is no bad row to leave out.
pub fn fetch(
    engine: &Engine,
    roots: &BTreeMap<String, Place>,
    batch: &RecordBatch,
) -> Result<(RecordBatch, Vec<(usize, String)>), RunError> {
    let files = engine.files.as_ref();
    let schema = batch.schema();
    let stage = schema.field_with_name("source").ok().and_then(|field| field.metadata().get(meta::STAGE));
    let named = stage.and_then(|stage| roots.get(stage));
    let others = roots.values().filter(|place| named.is_none_or(|named| named != *place));
    let places: Vec<&Place> = named.into_iter().chain(others).collect();
    let Some((first, others)) = places.split_first() else {
        return Err(RunError::Engine("no data set is known for the column `source`".into()));
    };
    let read = |place: &Place, sources: &[Source<'_>]| place.access.read_each(files, &place.root, &engine.unpacked, sources);
    let mut bytes = BinaryBuilder::new();
    let mut unread = Vec::new();
    let digests = text(batch, "digest").ok();
    let ids = text(batch, IMAGE_ID)?;
    let sources: Vec<Source<'_>> = images::sources(batch)?.collect();
    let lanes = first.access.at_once(files, &first.root).clamp(1, sources.len().max(1));
    for (chunk, wanted) in sources.chunks(lanes).enumerate() {
        let refused: Vec<Option<String>> = wanted.iter().map(refusal).collect();
        let reads = wanted.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let reads: Vec<Source<'_>> = reads.map(|(source, _)| source.clone()).collect();
        let mut outcomes = read(first, &reads).into_iter();
        for (row, refused) in (chunk * lanes..).zip(refused) {
            if let Some(reason) = refused {
                bytes.append_null();
                unread.push((row, reason));
                continue;
            }
            let mut outcome = outcomes.next().unwrap_or_else(|| Err(cut_short(&first.root)));
            let source = &sources[row];
            let listed = digests.filter(|digests| digests.is_valid(row)).map(|digests| digests.value(row));
            let changed = |reason: String| RunError::Row { image_id: ids.value(row).to_owned(), reason };
            let is_listed = |read: &[u8]| listed.is_none_or(|digest| digest == key::short(&blake3::hash(read)));
            let mut fits = outcome.as_ref().is_ok_and(|read| is_listed(read));
            for place in others {
                if fits {
                    break;
                }
                match read(place, std::slice::from_ref(source)).pop().unwrap_or_else(|| Err(cut_short(&place.root))) {
                    Ok(other) if is_listed(&other) => (outcome, fits) = (Ok(other), true),
                    Err(error) if listed.is_some_and(|digest| digest.starts_with(UNREADABLE)) => outcome = Err(error),
                    _ => {}
                }
            }
            match outcome {
                Ok(read) if fits => bytes.append_value(read),
                Ok(_) => {
                    let mut voided = engine.voided.lock().unwrap_or_else(PoisonError::into_inner);
                    voided.extend(roots.keys().map(|stage| (stage.clone(), source.path.to_owned())));
                    let path = first.root.join(source.path);
                    let path = path.to_string_lossy();
                    return Err(changed(format!("{} changed after it was listed; run again", printable(&path))));
                }
                Err(error) if listed.is_some_and(|digest| !digest.starts_with(UNREADABLE)) => {
                    let reason = format!("cannot be read, and could be when it was listed: {error}; run again");
                    return Err(changed(reason));
                }
                Err(error) => {
                    bytes.append_null();
                    unread.push((row, format!("cannot be read: {error}")));
                }
            }
        }
    }
    let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(BYTES, DataType::Binary, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(bytes.finish()));
    Ok((RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?, unread))
}

/// Why a row's bytes are not read, if so.
fn refusal(source: &Source<'_>) -> Option<String> {
    if let Some(length) = source.length.filter(|&length| length > MAX_BYTES) {
        return Some(format!("has {} MiB, and at most {} MiB are read of an image", length >> 20, MAX_BYTES >> 20));
    }
    let path = printable(source.path);
    (!is_within(source.path)).then(|| format!("cannot be read: its path `{path}` leads out of the data set's folder"))
}

fn cut_short(root: &Path) -> tessera_datasets::Error {
    tessera_datasets::Error::format(root, "fewer files were read than were asked for")
}

/// Whether a path stays in the folder that it starts from, as far as it says itself: a table of a user's may say anything.
pub fn is_within(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
