//! What a stage has to do, and why.

pub(super) mod listed;
mod removed;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

pub use targets::Reads;

use super::last;
use super::listing::Listing;
use super::reason::Reason;
use super::recipe::WorkRow;
use crate::engine::catalog::{Catalog, Table};
use crate::engine::keys;
use crate::store::key::{self, Change, KeyParts};
use crate::store::{Damaged, DroppedRow, Manifest, Part, Shelf, StageStore};

/// What is done about a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// All rows are made.
    Run,
    /// Rows of the last table may hold, and the others are made.
    Update,
    /// A snapshot holds.
    Reuse,
    /// Computed when read.
    View,
}

impl Action {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Update => "update",
            Self::Reuse => "reuse",
            Self::View => "view",
        }
    }
}

/// A decision about one stage.
pub struct Decision {
    /// What is done.
    pub action: Action,
    /// Why, one reason a line.
    pub reasons: Vec<Reason>,
    /// How many parts the table has, as far as that is known before it is made.
    pub parts: usize,
    /// How many of them are to be made.
    pub stale_parts: usize,
    /// The key and what it is made of; none while an input is not made yet.
    pub key: Option<(String, KeyParts)>,
    /// The snapshot to reuse.
    pub reuse: Option<Arc<Manifest>>,
    /// Where that snapshot lies, if it is another stage's.
    pub lies: Option<StageStore>,
    /// Of a map that works part by part: what each part is to be, and the finished part where there is one.
    pub targets: Vec<(WorkRow, Option<Part>)>,
    /// Of a map: what its rows depend on.
    pub reads: Reads,
    /// Of a source: its files.
    pub listing: Listing,
    /// Of a source: what cannot be listed.
    pub left_out: Vec<DroppedRow>,
    /// For a source, how many files that are not part of the data set there are, by their ending.
    pub aside: BTreeMap<Box<str>, u64>,
    /// What was found damaged on the way.
    pub damaged: Vec<Damaged>,
    /// Whether all is to be made anew, whatever there is.
    pub forced: bool,
    /// The snapshot that is there, unless all is to be made anew.
    pub previous: Option<Arc<Manifest>>,
    /// Of a stage that goes on from its last table: that table's snapshot.
    pub last: Option<Manifest>,
}

impl Decision {
    fn new(action: Action) -> Self {
        Self {
            action,
            reasons: Vec::new(),
            parts: 0,
            stale_parts: 0,
            key: None,
            reuse: None,
            lies: None,
            targets: Vec::new(),
            reads: Reads::default(),
            listing: Listing::default(),
            left_out: Vec::new(),
            aside: BTreeMap::new(),
            damaged: Vec::new(),
            forced: false,
            previous: None,
            last: None,
        }
    }
}

/// How far a decision may go.
pub struct Ask<'a> {
    /// Stages whose tables are not what they will be.
    pub pending: &'a BTreeSet<usize>,
    /// Make it anew in any case.
    pub force: bool,
    /// Whether snapshots of other stages are left where they are.
    pub alone: bool,
    /// Whether all of a new data set may be read for its digests.
    pub hash_all: bool,
    /// Told (done, total) bytes while files are hashed.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// Decides about one stage; those that it reads were decided before.
///
/// # Errors
/// A data set cannot be listed, or the store is damaged.
pub fn decide(catalog: &Catalog, node: usize, ask: &Ask<'_>) -> Result<Decision> {
    let this = &catalog.plan.graph.nodes[node];
    if this.view {
        return Ok(Decision::new(Action::View));
    }
    let store = catalog.store.stage(&this.name);
    let mut decision = Decision::new(Action::Run);
    let current = current(&store, &mut decision)?;
    if waits(catalog, node, ask, current.as_deref(), &mut decision)? {
        return Ok(decision);
    }
    let mut parts = key_parts(catalog, node)?;
    // Of a source, as many as its files may make.
    let mut rows = 0;
    if this.spec.inputs().is_empty() {
        match listed::list(catalog, node, ask, &store, current.as_deref(), &mut parts, &mut decision)? {
            Some(listed) => rows = listed,
            None => return Ok(decision),
        }
    }
    let key = parts.key();
    decision.key = Some((key.clone(), parts.clone()));
    let refusal = Refusal::of(catalog, node);
    let fine = |part: &Part| !part.dropped.iter().any(|row| refusal.hits(row));
    if let Some(manifest) = candidate(catalog, node, ask, &key, current.as_ref(), &fine, &mut decision)? {
        decision.action = Action::Reuse;
        decision.parts = manifest.parts.len();
        // Files that were only touched are no reason for anything.
        decision.reasons.clear();
        if let (Some(then), Some(now)) = (&manifest.machine, catalog.machine(node))
            && *then != now
        {
            decision.reasons.push(Reason::Machine { then: then.clone(), now });
        }
        decision.reuse = Some(manifest);
        return Ok(decision);
    }
    decision.forced = ask.force;
    decision.previous = current.clone().filter(|_| !ask.force);
    explain(&parts, current.as_deref(), &mut decision);
    let start = last::find(catalog, node, current.as_deref(), Some(&key), ask.force)?;
    decision.reasons.extend(start.reason);
    decision.last = start.last;
    if catalog.stream_of(node).is_some() {
        targets::targets(catalog, node, current.as_deref(), ask.force, &fine, &mut decision)?;
    } else {
        if decision.previous.is_some() && this.spec.inputs().is_empty() && catalog.source(node)?.lists_images() {
            // Rows of images that are still there hold.
            decision.action = Action::Update;
        }
        decision.parts = rows.div_ceil(catalog.part_rows(node)).max(1);
        decision.stale_parts = decision.parts;
    }
    Ok(decision)
}

/// Whether stages that this one reads will be made first: then no more can be said.
fn waits(
    catalog: &Catalog,
    node: usize,
    ask: &Ask<'_>,
    current: Option<&Manifest>,
    decision: &mut Decision,
) -> Result<bool> {
    let inputs = waits_for(catalog, node, ask.pending);
    if inputs.is_empty() {
        return Ok(false);
    }
    decision.reasons = inputs.into_iter().map(|input| Reason::Waits(catalog.name(input).to_owned())).collect();
    if let (Some(current), true) = (current, catalog.stream_of(node).is_some()) {
        decision.action = Action::Update;
        decision.parts = current.parts.len();
        decision.stale_parts = current.parts.len();
    }
    decision.reasons.extend(last::find(catalog, node, current, None, ask.force)?.reason);
    Ok(true)
}

/// The snapshot to reuse: the current one, an earlier one, or another stage's of the same key.
fn candidate(
    catalog: &Catalog,
    node: usize,
    ask: &Ask<'_>,
    key: &str,
    current: Option<&Arc<Manifest>>,
    fine: &dyn Fn(&Part) -> bool,
    decision: &mut Decision,
) -> Result<Option<Arc<Manifest>>> {
    let name = catalog.name(node);
    let store = catalog.store.stage(name);
    let shelf = store.shelf()?;
    let held = |shelf: &Shelf, manifest: &Manifest| manifest.parts.iter().all(fine) && shelf.damage(manifest).is_none();
    let same = current.filter(|current| current.key == key);
    decision.damaged.extend(same.and_then(|current| shelf.damage(current)));
    if ask.force {
        return Ok(None);
    }
    if let Some(current) = same.filter(|current| held(&shelf, current)) {
        return Ok(Some(current.clone()));
    }
    if let Some(earlier) = store.find(key).into_iter().find(|manifest| held(&shelf, manifest)) {
        return Ok(Some(Arc::new(earlier)));
    }
    // A stage that goes on from its own last table does not take another stage's.
    if ask.alone || (catalog.plan.stages[node].goes_on_from.is_some() && current.is_some()) {
        return Ok(None);
    }
    let mut others = Vec::new();
    for (from, manifest) in catalog.store.elsewhere(name, key)? {
        let manifest = manifest.of_stage(name);
        if held(&from.shelf()?, &manifest) {
            others.push((from, manifest));
        }
    }
    let newest = others.into_iter().max_by_key(|(_, manifest)| manifest.created);
    Ok(newest.map(|(from, manifest)| {
        decision.lies = Some(from);
        Arc::new(manifest)
    }))
}

/// Says why a stage is made.
fn explain(parts: &KeyParts, current: Option<&Manifest>, decision: &mut Decision) {
    let reasons = &mut decision.reasons;
    match current {
        _ if decision.forced => reasons.push(Reason::Forced),
        None if reasons.is_empty() && decision.damaged.is_empty() => reasons.push(Reason::NeverRun),
        None => {}
        Some(old) if old.key != parts.key() => {
            // The reason `Files` has counted already which files changed.
            let told = reasons.iter().any(|reason| matches!(reason, Reason::Files(_)));
            let changes = parts.changes_since(&old.parts_of_key).into_iter();
            reasons.extend(changes.filter(|change| !(told && *change == Change::Listing)).map(Reason::Changed));
        }
        Some(_) if !decision.damaged.is_empty() => {}
        Some(_) => reasons.push(Reason::Dropped),
    }
}

/// The snapshot that is there; one that cannot be read is as good as none.
fn current(store: &StageStore, decision: &mut Decision) -> Result<Option<Arc<Manifest>>> {
    match store.current() {
        Ok(current) => Ok(current.map(Arc::new)),
        Err(error) => {
            decision.damaged.push(error.downcast::<Damaged>()?);
            Ok(None)
        }
    }
}

/// The stages that must be made before this one can be decided about: pending ones that it reads, through views as well.
fn waits_for(catalog: &Catalog, node: usize, pending: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for edge in &catalog.plan.graph.nodes[node].edges {
        if pending.contains(&edge.from) {
            found.insert(edge.from);
        } else if catalog.plan.graph.nodes[edge.from].view {
            found.extend(waits_for(catalog, edge.from, pending));
        }
    }
    found
}

/// What a stage's key is made of, but for a source's listing.
fn key_parts(catalog: &Catalog, node: usize) -> Result<KeyParts> {
    keys::of_stage(catalog, node, |from| catalog.table(from).map(|table| table.columns))
}

/// A view's table: fingerprints of its columns.
///
/// # Errors
/// A table that it reads is not known.
pub fn view(catalog: &Catalog, node: usize) -> Result<Table> {
    let columns = keys::of_view(catalog, node, |from| catalog.table(from).map(|table| table.columns))?;
    Ok(Table { manifest: None, columns })
}

/// A snapshot's table.
///
/// # Errors
/// Its digests are damaged.
pub fn snapshot(catalog: &Catalog, node: usize, manifest: Arc<Manifest>) -> Result<Table> {
    let columns = key::of_snapshot(&catalog.plan.stages[node].schema, &manifest)?;
    Ok(Table { manifest: Some(manifest), columns })
}

/// The stages that a snapshot's rows go through.
pub struct Refusal<'a> {
    stages: BTreeSet<&'a str>,
    /// Those that refuse to drop any row.
    refusing: BTreeSet<&'a str>,
}

impl<'a> Refusal<'a> {
    /// Of one stage's table.
    pub fn of(catalog: &'a Catalog, node: usize) -> Self {
        let mut nodes: BTreeSet<usize> = BTreeSet::from([node]);
        for edge in &catalog.plan.graph.nodes[node].edges {
            nodes.extend(catalog.chain(edge.from).1);
        }
        let refuses = |at: &&usize| catalog.plan.stages[**at].refuses_drops;
        let refusing = nodes.iter().filter(refuses).map(|&at| catalog.name(at)).collect();
        Self { stages: nodes.iter().map(|&at| catalog.name(at)).collect(), refusing }
    }

    /// Whether a row may not have been dropped. One that a stage dropped which has another name by now may be of any of them.
    pub fn hits(&self, row: &DroppedRow) -> bool {
        let known = self.stages.contains(row.stage.as_str());
        self.refusing.contains(row.stage.as_str()) || !known && !self.refusing.is_empty()
    }
}
