//! Rows that hold: of a part that is to be made anew, only the rows whose input changed are computed; the others are copied from
//! the parts that have them, wherever they lie.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, SchemaRef};
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, meta, text};

use crate::engine::snapshot_exec::{Copies, Target};
use crate::store::{Part, StageStore};

/// Where the rows of a stage's earlier parts came from.
pub struct Earlier<'a> {
    base: &'a StageStore,
    store: &'a StageStore,
    columns: &'a BTreeSet<String>,
    parts: Vec<Part>,
    /// All parts of the stage below, by their files.
    listed: BTreeMap<String, Part>,
    /// Of each image that went into one of the parts: which part, and what its input was.
    inputs: HashMap<String, (usize, Digest)>,
    /// Rows of the parts by image, read when they are needed.
    rows: BTreeMap<usize, HashMap<String, u32>>,
}

impl<'a> Earlier<'a> {
    /// Looks up what the parts were made from. Parts that are gone or damaged, or whose sources are, those of another recipe, and
    /// those that lack a column of the table are left aside.
    pub fn new(
        base: &'a StageStore,
        store: &'a StageStore,
        columns: &'a BTreeSet<String>,
        recipe: &str,
        schema: &SchemaRef,
        parts: impl IntoIterator<Item = Part>,
    ) -> Result<Self> {
        let digested = |field: &&Arc<Field>| !field.metadata().contains_key(meta::UNDIGESTED);
        let has_all =
            |part: &Part| schema.fields().iter().filter(digested).all(|field| part.digests.contains_key(field.name()));
        let same = |part: &Part| part.recipe == recipe && part.made_from.len() == 1 && has_all(part);
        let fits = |part: &Part| same(part) && store.holds(part);
        let parts: Vec<Part> = parts.into_iter().filter(fits).collect();
        let listed = if parts.is_empty() { BTreeMap::new() } else { base.listed()? };
        let mut inputs = HashMap::new();
        for (at, part) in parts.iter().enumerate() {
            let Some(Ok(source)) = listed.get(&part.made_from[0]).map(|part| base.read(part)) else { continue };
            let ids = text(&source, IMAGE_ID)?;
            for (row, fingerprint) in digest::rows(&source, columns)?.into_iter().enumerate() {
                inputs.insert(ids.value(row).to_owned(), (at, fingerprint));
            }
        }
        Ok(Self { base, store, columns, parts, listed, inputs, rows: BTreeMap::new() })
    }

    /// Whether there is anything to copy from.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// What of a new source part holds goes into the target's copies; returned are the source's rows that are to be computed,
    /// those that a stage dropped which now refuses to among them.
    ///
    /// # Errors
    /// A part cannot be read.
    pub fn carry(&mut self, target: &mut Target, refusing: &BTreeSet<&str>) -> Result<RecordBatch> {
        let source = self.listed.get(&target.made_from[0]).context("a part that is read is listed")?;
        let source = self.base.read(source)?;
        let ids = text(&source, IMAGE_ID)?;
        let mut copies: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut compute = Vec::new();
        for (row, fingerprint) in digest::rows(&source, self.columns)?.into_iter().enumerate() {
            let id = ids.value(row);
            let known = self.inputs.get(id).filter(|(_, before)| *before == fingerprint).map(|(at, _)| *at);
            let Some(at) = known else {
                compute.push(row as u32);
                continue;
            };
            if let Some(&from) = self.rows_of(at)?.get(id) {
                copies.entry(at).or_default().push(from);
                continue;
            }
            let dropped = self.parts[at].dropped.iter().find(|dropped| dropped.image_id == id);
            match dropped.filter(|dropped| !refusing.contains(dropped.stage.as_str())) {
                Some(dropped) => target.dropped.push(dropped.clone()),
                None => compute.push(row as u32),
            }
        }
        let copies = copies.into_iter().map(|(at, rows)| Copies { part: self.parts[at].clone(), rows });
        target.copies = copies.collect();
        Ok(take_record_batch(&source, &UInt32Array::from(compute))?)
    }

    fn rows_of(&mut self, at: usize) -> Result<&HashMap<String, u32>> {
        if !self.rows.contains_key(&at) {
            let part = self.store.read(&self.parts[at])?;
            let ids = text(&part, IMAGE_ID)?;
            let rows = (0..ids.len()).map(|row| (ids.value(row).to_owned(), row as u32)).collect();
            self.rows.insert(at, rows);
        }
        Ok(&self.rows[&at])
    }
}
