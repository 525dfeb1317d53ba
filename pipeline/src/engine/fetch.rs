//! Reading the bytes of images where their rows say that they lie.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};

use arrow::array::{Array as _, BinaryArray, BinaryBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use tessera_datasets::UNREADABLE;
use tessera_datasets::layout::Access;
use tessera_operators::operator::RunError;
use tessera_schemas::images::{self, Source};
use tessera_schemas::masks::{self, Located};
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
    let reads = Reads::of(engine, roots, batch)?;
    let digests = text(batch, "digest").ok();
    let digest = |row: usize| digests.filter(|digests| digests.is_valid(row)).map(|digests| digests.value(row));
    let wanted = images::sources(batch)?.enumerate().map(|(row, source)| Wanted { row, source, digest: digest(row) });
    let (mut bytes, mut unread) = (BinaryBuilder::new(), Vec::new());
    reads.each(&wanted.collect::<Vec<_>>(), &mut |row, read| {
        match read {
            Ok(read) => bytes.append_value(read),
            Err(reason) => {
                bytes.append_null();
                unread.push((row, reason));
            }
        }
        Ok(())
    })?;
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(BYTES, DataType::Binary, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(bytes.finish()));
    Ok((RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?, unread))
}

/// Puts the bytes of masks in the place of a column that says where they lie. Blocks on IO.
///
/// # Errors
/// A mask is not what was listed, as with [`fetch`], or can be none.
pub fn fetch_masks(engine: &Engine, roots: &BTreeMap<String, Place>, batch: &RecordBatch) -> Result<RecordBatch, RunError> {
    let schema = batch.schema();
    let Some(at) = schema.fields().iter().position(|field| masks::is_located(field)) else { return Ok(batch.clone()) };
    let reads = Reads::of(engine, roots, batch)?;
    let wanted = masks::located(batch)?.enumerate().filter_map(|(row, mask)| {
        let Located { path, length, digest } = mask?;
        let source = Source { path, offset: None, length: Some(length), row: None };
        Some(Wanted { row, source, digest: Some(digest) })
    });
    let mut found: Vec<Option<Vec<u8>>> = vec![None; batch.num_rows()];
    reads.each(&wanted.collect::<Vec<_>>(), &mut |row, read| {
        let mask = read.map_err(|reason| reads.fault(row, format!("its mask {reason}")))?;
        found[row] = Some(mask);
        Ok(())
    })?;
    let (mut fields, mut columns) = (schema.fields().to_vec(), batch.columns().to_vec());
    fields[at] = Arc::new(Field::new(masks::MASK, DataType::Binary, true));
    columns[at] = Arc::new(found.iter().map(Option::as_deref).collect::<BinaryArray>());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A file, or a part of one, that a row needs.
struct Wanted<'a> {
    row: usize,
    source: Source<'a>,
    /// What its bytes should hash to, if that is known.
    digest: Option<&'a str>,
}

/// Where the files of a batch's rows may lie.
struct Reads<'a> {
    engine: &'a Engine,
    roots: &'a BTreeMap<String, Place>,
    /// The data set that `source` names, if it does, before the others.
    places: Vec<&'a Place>,
    ids: &'a StringArray,
}

impl<'a> Reads<'a> {
    fn of(engine: &'a Engine, roots: &'a BTreeMap<String, Place>, batch: &'a RecordBatch) -> Result<Self, RunError> {
        let schema = batch.schema_ref();
        let stage = schema.field_with_name("source").ok().and_then(|field| field.metadata().get(meta::STAGE));
        let named = stage.and_then(|stage| roots.get(stage));
        let others = roots.values().filter(|place| named.is_none_or(|named| named != *place));
        let places = named.into_iter().chain(others).collect();
        Ok(Self { engine, roots, places, ids: text(batch, IMAGE_ID)? })
    }

    fn fault(&self, row: usize, reason: String) -> RunError {
        RunError::Row { image_id: self.ids.value(row).to_owned(), reason }
    }

    fn read(&self, place: &Place, sources: &[Source<'_>]) -> Vec<Result<Vec<u8>, tessera_datasets::Error>> {
        place.access.read_each(self.engine.files.as_ref(), &place.root, &self.engine.unpacked, sources)
    }

    /// Reads what rows need, in their order; `take` gets the bytes of each, or why they cannot be read and never could.
    fn each(
        &self,
        wanted: &[Wanted<'_>],
        take: &mut dyn FnMut(usize, Result<Vec<u8>, String>) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let Some((first, others)) = self.places.split_first() else {
            return Err(RunError::Engine("no data set is known for the column `source`".into()));
        };
        let lanes = first.access.at_once(self.engine.files.as_ref(), &first.root).clamp(1, wanted.len().max(1));
        for chunk in wanted.chunks(lanes) {
            let refused: Vec<Option<String>> = chunk.iter().map(|wanted| refusal(&wanted.source)).collect();
            let reads = chunk.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
            let reads: Vec<Source<'_>> = reads.map(|(wanted, _)| wanted.source.clone()).collect();
            let mut outcomes = self.read(first, &reads).into_iter();
            for (wanted, refused) in chunk.iter().zip(refused) {
                let read = match refused {
                    Some(reason) => Err(reason),
                    None => {
                        let outcome = outcomes.next().unwrap_or_else(|| Err(cut_short(&first.root)));
                        self.held(wanted, outcome, first, others)?
                    }
                };
                take(wanted.row, read)?;
            }
        }
        Ok(())
    }

    /// What was read, held against its digest.
    fn held(
        &self,
        wanted: &Wanted<'_>,
        mut outcome: Result<Vec<u8>, tessera_datasets::Error>,
        first: &Place,
        others: &[&Place],
    ) -> Result<Result<Vec<u8>, String>, RunError> {
        let Wanted { row, source, digest: listed } = wanted;
        let is_listed = |read: &[u8]| listed.is_none_or(|digest| digest == key::short(&blake3::hash(read)));
        let mut fits = outcome.as_ref().is_ok_and(|read| is_listed(read));
        for place in others {
            if fits {
                break;
            }
            match self.read(place, std::slice::from_ref(source)).pop().unwrap_or_else(|| Err(cut_short(&place.root))) {
                Ok(other) if is_listed(&other) => (outcome, fits) = (Ok(other), true),
                Err(error) if listed.is_some_and(|digest| digest.starts_with(UNREADABLE)) => outcome = Err(error),
                _ => {}
            }
        }
        match outcome {
            Ok(read) if fits => Ok(Ok(read)),
            Ok(_) => {
                let mut voided = self.engine.voided.lock().unwrap_or_else(PoisonError::into_inner);
                voided.extend(self.roots.keys().map(|stage| (stage.clone(), source.path.to_owned())));
                let path = first.root.join(source.path);
                let path = path.to_string_lossy();
                Err(self.fault(*row, format!("{} changed after it was listed; run again", printable(&path))))
            }
            Err(error) if listed.is_some_and(|digest| !digest.starts_with(UNREADABLE)) => {
                let reason = format!("cannot be read, and could be when it was listed: {error}; run again");
                Err(self.fault(*row, reason))
            }
            Err(error) => Ok(Err(format!("cannot be read: {error}"))),
        }
    }
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
