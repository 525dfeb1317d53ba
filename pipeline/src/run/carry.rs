//! Rows that hold: of a part that is to be made anew, only the rows whose content is new are computed; the others are copied from
//! parts that have them, wherever they lie, under whatever `image_id` they had.
//!
//! What a map computes of a row follows from the columns that it reads and, if it says so, from the `image_id`. So a row of a
//! renamed or copied image is that of its content, and the columns that the map hands on untouched (the id, labels, where the bytes
//! lie) come from the row that is wanted now. Looked through are the parts of the current snapshot, then those of earlier ones that are
//! still in the store, newest first, until nothing is missing or [`SEARCHED_BYTES`] were read for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, RecordBatch, StringArray};
use arrow::datatypes::{Field, SchemaRef};
use tessera_datasets::UNREADABLE;
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, images, meta, text};

use super::decide::{Reads, Refusal};
use super::recipe::{Copies, WorkRow};
use crate::engine::catalog::Catalog;
use crate::store::{DroppedRow, Manifest, Part, Shelf, StageStore};

/// Bytes of sources' parts that are read in search of rows outside of the parts that are replaced, where a changed row seldom is.
const SEARCHED_BYTES: u64 = 256 << 20;

/// Finds the rows of stale parts that hold, and says of each part which rows are copied and which computed. `kept` are files of the
/// stage's parts that stay; `warn` is told of damaged parts, which are left aside.
///
/// # Errors
/// A part cannot be read.
pub fn carry(
    catalog: &Catalog,
    node: usize,
    mut stale: Vec<(usize, WorkRow)>,
    current: Option<&Manifest>,
    kept: &BTreeSet<String>,
    reads: &Reads,
    warn: &dyn Fn(&str),
) -> Result<Vec<(usize, WorkRow)>> {
    let below = catalog.chain(catalog.stream_of(node).context("a map has a stream")?).0;
    let base = catalog.store.stage(catalog.name(below));
    let store = catalog.store.stage(catalog.name(node));
    let sources = stale.iter().flat_map(|(_, row)| &row.sources).map(|part| (part.content(), part.clone())).collect();
    let mut search = Search {
        warn,
        base: &base,
        store: &store,
        reads,
        recipe: stale.first().map_or("", |(_, row)| row.recipe.as_str()).to_owned(),
        schema: &catalog.plan.stages[node].schema,
        refusal: Refusal::of(catalog, node),
        wanted: sources,
        missing: None,
        same: HashMap::new(),
        parts: Vec::new(),
        found: HashMap::new(),
        listed: None,
        shelves: [None, None],
    };
    search.run(current, kept)?;
    if !search.found.is_empty() || !search.same.is_empty() {
        for (_, row) in &mut stale {
            search.fill(row)?;
        }
    }
    Ok(stale)
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
    /// The source parts whose rows are looked for, by their contents.
    wanted: BTreeMap<String, Part>,
    /// Those of them that an earlier part was made from as well, by the place of that part in `parts`: their rows have not changed.
    same: HashMap<String, usize>,
    /// Contents of the others that are not found yet; none before the first part that may have some.
    missing: Option<HashSet<Digest>>,
    /// Parts that have some.
    parts: Vec<Part>,
    found: HashMap<Digest, Found>,
    /// All parts of the stage below, by their contents.
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
        for part in current.iter().flat_map(|manifest| &manifest.parts) {
            self.recognise(part)?;
        }
        if self.same.len() == self.wanted.len() {
            return Ok(());
        }
        let (stay, go): (Vec<&Part>, Vec<&Part>) =
            current.iter().flat_map(|manifest| &manifest.parts).partition(|part| kept.contains(&part.file));
        let mut seen = HashSet::new();
        for part in go {
            seen.insert(part.content());
            self.look(part)?;
        }
        let mut left = SEARCHED_BYTES;
        let mut more = |search: &mut Self, parts: &[&Part]| -> Result<bool> {
            for part in parts.iter().filter(|part| seen.insert(part.content())) {
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

    /// Whether a part's rows would be those that are wanted, for sources of the same contents: not those of another recipe, of parts that
    /// lack a column of the table, or that are gone or damaged.
    fn is_alike(&mut self, part: &Part) -> Result<bool> {
        let digested = |field: &&Arc<Field>| !field.metadata().contains_key(meta::UNDIGESTED);
        let has_all = self.schema.fields().iter().filter(digested).all(|f| part.digests.contains_key(f.name()));
        Ok(part.recipe == self.recipe && has_all && holds(self.store, &mut self.shelves[0], part)?)
    }

    /// Takes the sources for known that a part was made from as well: nothing is read for that.
    fn recognise(&mut self, part: &Part) -> Result<()> {
        let is_new = |content: &&String| self.wanted.contains_key(*content) && !self.same.contains_key(*content);
        let shared: Vec<String> = part.made_from.iter().filter(is_new).cloned().collect();
        if !shared.is_empty() && self.is_alike(part)? {
            let at = self.parts.len();
            self.parts.push(part.clone());
            self.same.extend(shared.into_iter().map(|content| (content, at)));
        }
        Ok(())
    }

    /// Looks for contents in a part's sources; returns how many bytes were read for it. Sources that are wanted themselves, and are known,
    /// are passed over, and so are those that are gone or damaged.
    fn look(&mut self, part: &Part) -> Result<u64> {
        if self.is_over() || !self.is_alike(part)? {
            return Ok(0);
        }
        if self.listed.is_none() {
            self.listed = Some(self.base.listed()?);
        }
        let (mut bytes, mut hits) = (0, Vec::new());
        for from in &part.made_from {
            let source = self.listed.as_ref().and_then(|listed| listed.get(from)).cloned();
            let Some(source) = source.filter(|source| !self.same.contains_key(&source.content())) else { continue };
            if !holds(self.base, &mut self.shelves[1], &source)? {
                continue;
            }
            bytes += source.bytes;
            let (ids, contents) = match self.contents(&source) {
                Ok(contents) => contents,
                Err(error) => {
                    self.leave(&error);
                    continue;
                }
            };
            if self.missing.is_none() {
                let mut missing = HashSet::new();
                for wanted in self.wanted.values().filter(|wanted| !self.same.contains_key(&wanted.content())) {
                    missing.extend(self.contents(wanted)?.1);
                }
                self.missing = Some(missing);
            }
            let missing = self.missing.as_ref().expect("it was filled");
            let rows = (0..contents.len()).filter(|&row| missing.contains(&contents[row]));
            hits.extend(rows.map(|row| (ids.value(row).to_owned(), contents[row])));
        }
        if hits.is_empty() {
            return Ok(bytes);
        }
        let rows = match self.rows_of(part) {
            Ok(rows) => rows,
            Err(error) => {
                self.leave(&error);
                return Ok(bytes);
            }
        };
        for (id, content) in hits {
            let found = match self.become_of(part, &rows, &id) {
                Some(Became::Row(row)) => Found::Row(self.parts.len(), row),
                Some(Became::Dropped(dropped)) => Found::Dropped(dropped),
                None => continue,
            };
            if self.missing.as_mut().is_some_and(|missing| missing.remove(&content)) {
                self.found.insert(content, found);
            }
        }
        self.parts.push(part.clone());
        Ok(bytes)
    }

    /// Where the rows of a part are, by their ids.
    fn rows_of(&self, part: &Part) -> Result<HashMap<String, u32>> {
        let made = self.store.read_columns(part, &[IMAGE_ID])?;
        let made = text(&made, IMAGE_ID)?;
        Ok((0..made.len()).map(|row| (made.value(row).to_owned(), row as u32)).collect())
    }

    /// What became of a row of that id in a part.
    fn become_of(&self, part: &Part, rows: &HashMap<String, u32>, id: &str) -> Option<Became> {
        match rows.get(id) {
            Some(&row) => Some(Became::Row(row)),
            None => {
                let dropped = part.dropped.iter().find(|dropped| dropped.image_id == id)?;
                (!self.refusal.hits(dropped)).then(|| Became::Dropped(dropped.clone()))
            }
        }
    }

    /// Leaves a part aside that cannot be read.
    fn leave(&self, error: &anyhow::Error) {
        (self.warn)(&format!("{error:#}; its rows are computed anew"));
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

    /// What was found of the rows of its sources goes into a work row.
    fn fill(&self, row: &mut WorkRow) -> Result<()> {
        let mut copies: BTreeMap<usize, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        let (mut compute, mut before) = (Vec::new(), 0_u32);
        let mut held: HashMap<usize, HashMap<String, u32>> = HashMap::new();
        for source in &row.sources {
            let known = self.same.get(&source.content()).copied();
            if let Some(at) = known
                && !held.contains_key(&at)
            {
                match self.rows_of(&self.parts[at]) {
                    Ok(rows) => drop(held.insert(at, rows)),
                    Err(error) => self.leave(&error),
                }
            }
            let known = known.and_then(|at| Some((at, held.get(&at)?)));
            let columns: Vec<&str> = match known {
                Some(_) => vec![IMAGE_ID, "source"],
                None => self.reads.columns.iter().map(String::as_str).chain([IMAGE_ID, "source"]).collect(),
            };
            let rows = self.base.read_columns(source, &columns)?;
            let ids = text(&rows, IMAGE_ID)?;
            let contents = if known.is_some() { None } else { Some(self.fingerprints(&rows)?) };
            for (at, id) in (0..ids.len()).map(|at| (at, ids.value(at))) {
                let found = match known {
                    Some((part, held)) => match self.become_of(&self.parts[part], held, id) {
                        Some(Became::Row(row)) => Some(Found::Row(part, row)),
                        Some(Became::Dropped(dropped)) => Some(Found::Dropped(dropped)),
                        None => None,
                    },
                    None => contents.as_ref().and_then(|contents| self.found.get(&contents[at])).cloned(),
                };
                match found {
                    Some(Found::Row(part, from)) => {
                        let (rows, onto) = copies.entry(part).or_default();
                        rows.push(from);
                        onto.push(before + at as u32);
                    }
                    Some(Found::Dropped(dropped)) if tells(&dropped, id) => {
                        row.dropped.push(moved(&dropped, &rows, at)?);
                    }
                    _ => compute.push(before + at as u32),
                }
            }
            before += rows.num_rows() as u32;
        }
        if copies.is_empty() && row.dropped.is_empty() {
            return Ok(());
        }
        row.compute = Some(compute);
        let parts = copies.into_iter();
        row.copies = parts.map(|(at, (rows, onto))| Copies { part: self.parts[at].clone(), rows, onto }).collect();
        Ok(())
    }
}

/// What became of a row.
enum Became {
    /// It is that row of the part.
    Row(u32),
    /// It was left out.
    Dropped(DroppedRow),
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
