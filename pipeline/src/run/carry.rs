//! Rows that hold: of a part that is to be made anew, only the rows whose content is new are computed; the others are copied from
//! parts that have them, wherever they lie, under whatever `image_id` they had.
//!
//! What a map computes of a row follows from the columns that it reads and, if it draws random numbers, from the `image_id`. So a row of a
//! renamed or copied image is that of its content, and the columns that the map hands on untouched (the id, labels, where the bytes
//! lie) come from the row that is wanted now. Looked through are the parts of the current snapshot, then those of earlier ones that are
//! still in the store, newest first, until nothing is missing or [`SEARCHED_BYTES`] were read for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, SchemaRef};
use tessera_datasets::UNREADABLE;
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, images, meta, text};

use super::decide::{Reads, Refusal};
use crate::engine::catalog::Catalog;
use crate::engine::snapshot_exec::{Copies, Target};
use crate::store::{DroppedRow, Manifest, Part, Shelf, StageStore};

/// Bytes of sources' parts that are read in search of rows outside of the parts that are replaced, where a changed row seldom is.
const SEARCHED_BYTES: u64 = 256 << 20;

/// Targets that are made from a whole part, by their places, and those that copy rows, with the rows that they compute.
pub type Split = (Vec<(usize, Target)>, Vec<(usize, Target, RecordBatch)>);

/// Finds the rows of stale parts that hold. `kept` are files of the stage's parts that stay; `warn` is told of damaged parts, which
/// are left aside.
///
/// # Errors
/// A part cannot be read.
pub fn carry(
    catalog: &Catalog,
    node: usize,
    stale: Vec<(usize, Target)>,
    current: Option<&Manifest>,
    kept: &BTreeSet<String>,
    reads: &Reads,
    warn: &dyn Fn(&str),
) -> Result<Split> {
    let below = catalog.chain(catalog.stream_of(node).context("a map has a stream")?).0;
    let base = catalog.store.stage(catalog.name(below));
    let store = catalog.store.stage(catalog.name(node));
    let manifest = catalog.manifest(below)?;
    let known: BTreeMap<&str, &Part> = manifest.parts.iter().map(|part| (part.file.as_str(), part)).collect();
    let source = |target: &Target| known.get(target.made_from[0].as_str()).copied().context("a part that is read is listed");
    let sources = stale.iter().map(|(_, target)| source(target)).collect::<Result<Vec<_>>>()?;
    let mut search = Search {
        warn,
        base: &base,
        store: &store,
        reads,
        recipe: stale.first().map_or("", |(_, target)| target.recipe.as_str()).to_owned(),
        schema: &catalog.plan.stages[node].schema,
        refusal: Refusal::of(catalog, node),
        wanted: sources,
        missing: None,
        parts: Vec::new(),
        found: HashMap::new(),
        listed: None,
        shelves: [None, None],
    };
    search.run(current, kept)?;
    if search.found.is_empty() {
        return Ok((stale, Vec::new()));
    }
    let (mut whole, mut partial) = (Vec::new(), Vec::new());
    for (at, mut target) in stale {
        let rows = base.read(source(&target)?)?;
        // The metadata is the plan's: it says which stage's data set the paths belong to.
        let schema = &catalog.plan.stages[below].schema;
        let columns = schema.fields().iter().map(|field| Ok(rows.column(rows.schema().index_of(field.name())?).clone()));
        let rows = RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?)?;
        let rest = search.fill(&mut target, &rows)?;
        if target.copies.is_empty() && target.dropped.is_empty() {
            whole.push((at, target));
        } else {
            partial.push((at, target, rest));
        }
    }
    Ok((whole, partial))
}

/// Where the row of a content is, or what became of it.
#[derive(Debug, Clone)]
enum Found {
    /// A row of an earlier part, by the part's place.
    Row(usize, u32),
    /// It was left out.
    Dropped(DroppedRow),
}

/// A search for rows in a stage's earlier parts.
struct Search<'a> {
    warn: &'a dyn Fn(&str),
    base: &'a StageStore,
    store: &'a StageStore,
    reads: &'a Reads,
    recipe: String,
    schema: &'a SchemaRef,
    /// Which rows may not be dropped.
    refusal: Refusal<'a>,
    /// The source parts whose rows are looked for.
    wanted: Vec<&'a Part>,
    /// Contents that are not found yet; none before the first part that may have some.
    missing: Option<HashSet<Digest>>,
    /// Parts that have some.
    parts: Vec<Part>,
    found: HashMap<Digest, Found>,
    /// All parts of the stage below, by their files.
    listed: Option<BTreeMap<String, Part>>,
    /// What lies among this stage's parts, and among those below; looked at when that is asked.
    shelves: [Option<Shelf>; 2],
}

/// Whether a part is whole, as far as that is seen without reading it.
fn holds(store: &StageStore, shelf: &mut Option<Shelf>, part: &Part) -> Result<bool> {
    let shelf = match shelf {
        Some(shelf) => shelf,
        None => shelf.insert(store.shelf()?),
    };
    Ok(shelf.holds(part))
}

impl Search<'_> {
    /// Looks through the parts that go, those that stay, and those of earlier snapshots.
    fn run(&mut self, current: Option<&Manifest>, kept: &BTreeSet<String>) -> Result<()> {
        let (stay, go): (Vec<&Part>, Vec<&Part>) =
            current.iter().flat_map(|manifest| &manifest.parts).partition(|part| kept.contains(&part.file));
        let mut seen = HashSet::new();
        for part in go {
            seen.insert(part.file.clone());
            self.look(part)?;
        }
        let mut left = SEARCHED_BYTES;
        let mut more = |search: &mut Self, parts: &[&Part]| -> Result<bool> {
            for part in parts.iter().filter(|part| seen.insert(part.file.clone())) {
                match left.checked_sub(search.look(part)?) {
                    Some(rest) if !search.is_over() => left = rest,
                    _ => return Ok(false),
                }
            }
            Ok(true)
        };
        if !more(self, &stay)? {
            return Ok(());
        }
        for manifest in self.store.newest_first()? {
            let parts: Vec<&Part> = manifest.parts.iter().collect();
            if !more(self, &parts)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing is missing.
    fn is_over(&self) -> bool {
        self.missing.as_ref().is_some_and(HashSet::is_empty)
    }

    /// Looks for contents in a part's source; returns how many bytes were read for it. Parts that are gone or damaged, or whose sources
    /// are, those of another recipe, and those that lack a column of the table are left aside.
    fn look(&mut self, part: &Part) -> Result<u64> {
        let digested = |field: &&Arc<Field>| !field.metadata().contains_key(meta::UNDIGESTED);
        let has_all = || self.schema.fields().iter().filter(digested).all(|f| part.digests.contains_key(f.name()));
        let [from] = &part.made_from[..] else { return Ok(0) };
        let [own, below] = &mut self.shelves;
        if part.recipe != self.recipe
            || !has_all()
            || self.missing.as_ref().is_some_and(HashSet::is_empty)
            || !holds(self.store, own, part)?
        {
            return Ok(0);
        }
        let source = match &self.listed {
            Some(listed) => listed.get(from),
            None => self.listed.insert(self.base.listed()?).get(from),
        };
        let Some(source) = source.cloned() else { return Ok(0) };
        if !holds(self.base, below, &source)? {
            return Ok(0);
        }
        let (ids, contents) = match self.contents(&source) {
            Ok(contents) => contents,
            Err(error) => return self.leave(source.bytes, &error),
        };
        if self.missing.is_none() {
            let mut missing = HashSet::new();
            for part in &self.wanted {
                missing.extend(self.contents(part)?.1);
            }
            self.missing = Some(missing);
        }
        let missing = self.missing.as_mut().expect("it was filled");
        let hits: Vec<usize> = (0..contents.len()).filter(|&row| missing.contains(&contents[row])).collect();
        if hits.is_empty() {
            return Ok(source.bytes);
        }
        let made = match self.store.read_columns(part, &[IMAGE_ID]) {
            Ok(made) => made,
            Err(error) => return self.leave(source.bytes, &error),
        };
        let made = text(&made, IMAGE_ID)?;
        let rows: HashMap<&str, u32> = (0..made.len()).map(|row| (made.value(row), row as u32)).collect();
        for row in hits {
            let (id, content) = (ids.value(row), contents[row]);
            let found = match rows.get(id) {
                Some(&row) => Found::Row(self.parts.len(), row),
                None => match part.dropped.iter().find(|dropped| dropped.image_id == id) {
                    Some(dropped) if !self.refusal.hits(dropped) => Found::Dropped(dropped.clone()),
                    _ => continue,
                },
            };
            missing.remove(&content);
            self.found.insert(content, found);
        }
        self.parts.push(part.clone());
        Ok(source.bytes)
    }

    /// Leaves a part aside that cannot be read.
    fn leave(&self, bytes: u64, error: &anyhow::Error) -> Result<u64> {
        (self.warn)(&format!("{error:#}; its rows are computed anew"));
        Ok(bytes)
    }

    /// The ids and contents of a source part's rows.
    fn contents(&self, part: &Part) -> Result<(StringArray, Vec<Digest>)> {
        let columns: Vec<&str> = self.reads.columns.iter().map(String::as_str).chain([IMAGE_ID]).collect();
        let rows = self.base.read_columns(part, &columns)?;
        Ok((text(&rows, IMAGE_ID)?.clone(), self.fingerprints(&rows)?))
    }

    /// What tells each row's content from another. The bytes of a file that could not be read are not known: it is known by its id.
    fn fingerprints(&self, rows: &RecordBatch) -> Result<Vec<Digest>> {
        let mut contents = digest::rows(rows, &self.reads.columns)?;
        let Ok(digests) = text(rows, "digest") else { return Ok(contents) };
        let unreadable = |row: &usize| digests.is_valid(*row) && digests.value(*row).starts_with(UNREADABLE);
        let id = IMAGE_ID.to_owned();
        for row in (0..rows.num_rows()).filter(unreadable) {
            let columns = self.reads.columns.iter().filter(|name| **name != id).chain([&id]);
            contents[row] = digest::rows(&rows.slice(row, 1), columns)?[0];
        }
        Ok(contents)
    }

    /// What was found of a new source part's rows goes into the target; returned are those that are to be computed.
    fn fill(&self, target: &mut Target, rows: &RecordBatch) -> Result<RecordBatch> {
        let ids = text(rows, IMAGE_ID)?;
        let mut copies: BTreeMap<usize, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        let mut compute = Vec::new();
        for (row, content) in self.fingerprints(rows)?.into_iter().enumerate() {
            match self.found.get(&content) {
                Some(Found::Row(at, from)) => {
                    let (from_rows, to_rows) = copies.entry(*at).or_default();
                    from_rows.push(*from);
                    to_rows.push(row as u32);
                }
                Some(Found::Dropped(dropped)) if tells(dropped, ids.value(row)) => {
                    target.dropped.push(moved(dropped, rows, row)?);
                }
                _ => compute.push(row as u32),
            }
        }
        let handed: Vec<usize> =
            self.reads.handed.iter().map(|name| rows.schema().index_of(name)).collect::<Result<_, _>>()?;
        let handed = rows.project(&handed)?;
        for (at, (from, to)) in copies {
            let handed = take_record_batch(&handed, &UInt32Array::from(to))?;
            target.copies.push(Copies { part: self.parts[at].clone(), rows: from, handed });
        }
        Ok(take_record_batch(rows, &UInt32Array::from(compute))?)
    }
}

/// Whether the reason why a row was left out is also one of a row of that id with the same content: not if it names the other one.
fn tells(dropped: &DroppedRow, id: &str) -> bool {
    let names = |name: &str| dropped.reason.contains(name);
    dropped.image_id == id || !(names(&dropped.image_id) || dropped.path.as_deref().is_some_and(names))
}

/// A row that was left out, as the row of the same content that is left out now.
fn moved(dropped: &DroppedRow, rows: &RecordBatch, row: usize) -> Result<DroppedRow> {
    let source = images::sources(rows).ok().and_then(|mut sources| sources.nth(row));
    let path = dropped.path.as_ref().and(source).map(|source| source.path.to_owned());
    let image_id = text(rows, IMAGE_ID)?.value(row).to_owned();
    Ok(DroppedRow { stage: dropped.stage.clone(), image_id, path, reason: dropped.reason.clone() })
}
