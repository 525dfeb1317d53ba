//! What a stage has to do, and why.

mod removed;
mod targets;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tessera_datasets::{Fingerprint, LeftOut};
use tessera_operators::operator::Source;

pub use targets::Reads;

use super::last;
use crate::catalog::{Catalog, Table};
use crate::engine::snapshot_exec::Target;
use crate::keys::{self, Columns, KeyParts};
use crate::listing::{self, Listing};
use crate::store::{Damaged, DroppedRow, Manifest, Part, StageStore};

/// What is done about a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// All parts are made.
    Run,
    /// Some parts are made.
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
    pub reasons: Vec<String>,
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
    pub targets: Vec<(Target, Option<Part>)>,
    /// Of a map: what its rows depend on.
    pub reads: Reads,
    /// Of a source: its files.
    pub listing: Listing,
    /// Of a source: what cannot be listed.
    pub left_out: Vec<DroppedRow>,
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
    let graph = &catalog.plan.graph;
    let this = &graph.nodes[node];
    if this.view {
        return Ok(Decision::new(Action::View));
    }
    let store = catalog.store.stage(&this.name);
    let mut decision = Decision::new(Action::Run);
    let current = current(&store, &mut decision)?;
    let waits: Vec<&str> = waits_for(catalog, node, ask.pending).into_iter().map(|at| catalog.name(at)).collect();
    if !waits.is_empty() {
        decision.reasons = waits.iter().map(|input| format!("{}: input {input} will be made first", this.name)).collect();
        if let (Some(current), true) = (&current, catalog.stream_of(node).is_some()) {
            decision.action = Action::Update;
            decision.parts = current.parts.len();
            decision.stale_parts = current.parts.len();
        }
        decision.reasons.extend(last::find(catalog, node, current.as_deref(), None, ask.force)?.reason);
        return Ok(decision);
    }
    let mut parts = key_parts(catalog, node)?;
    // Of a source, as many as its files may make.
    let mut rows = 0;
    if this.spec.inputs().is_empty() {
        let source = catalog.source(node)?;
        let since_ns = listing::now_ns();
        let listed = source.list(catalog.engine.files.as_ref()).map_err(|error| catalog.failed(node, error))?;
        let mut entries = listed.files;
        decision.left_out = listed.left_out.into_iter().map(|one| left_out(&this.name, one)).collect();
        let mut there = None;
        if let Some(limit) = catalog.limit.filter(|_| source.row_per_file()) {
            let rows = entries.iter().filter(|entry| source.makes_row(&entry.path));
            there = Some(rows.map(|entry| entry.path.clone()).collect());
            let mut seen = 0;
            entries.retain(|entry| {
                let makes_row = source.makes_row(&entry.path);
                seen += usize::from(makes_row);
                !makes_row || seen <= limit
            });
        }
        rows = entries.iter().filter(|entry| source.makes_row(&entry.path)).count();
        let known = match listing::load(&store.listing()) {
            Ok(known) => known,
            Err(damaged) => {
                decision.damaged.push(damaged);
                Listing::default()
            }
        };
        let changes = listing::changes(&entries, &known.prints);
        if known.outdated {
            decision.reasons.push(format!("{}: an earlier version listed its files, which are read again once", this.name));
        }
        if known.prints.is_empty() && !entries.is_empty() && !ask.hash_all {
            if !known.outdated {
                decision.reasons.push(format!("{}: never run", this.name));
            }
            decision.parts = rows.div_ceil(graph.file.part_rows);
            decision.stale_parts = decision.parts;
            return Ok(decision);
        }
        let unsure = known.unsure();
        let prints = listing::fingerprint(
            catalog.engine.files.as_ref(),
            source.root(),
            entries,
            &known,
            catalog.engine.threads,
            &|path| source.row_per_file() && source.makes_row(path),
            ask.progress,
        )?;
        decision.listing = Listing { prints, since_ns, outdated: false };
        if !changes.none() && !known.prints.is_empty() {
            let count = |n: usize, what: &str| if n > 0 { format!(" {n} {what}") } else { String::new() };
            let told = [count(changes.added, "added"), count(changes.removed, "removed"), count(changes.touched, "touched")];
            let told: Vec<&str> = told.iter().filter(|t| !t.is_empty()).map(|t| t.trim()).collect();
            decision.reasons.push(format!("{}: files {}", this.name, told.join(", ")));
        }
        parts.listing = Some(listing_key(source.as_ref(), &decision));
        let prints = &decision.listing.prints;
        if let Some(current) = current.as_deref().filter(|current| current.key != parts.key()) {
            removed::check(&this.name, &store, source.as_ref(), current, prints, there.as_ref())?;
        }
        if !changes.none() || unsure {
            listing::save(&store.listing(), &decision.listing)
                .or_else(|error| if ask.hash_all { Err(error) } else { Ok(()) })?;
        }
    }
    let key = parts.key();
    decision.key = Some((key.clone(), parts.clone()));
    let refusal = Refusal::of(catalog, node);
    let fine = |part: &Part| !part.dropped.iter().any(|row| refusal.hits(row));
    let held = |manifest: &Manifest| manifest.parts.iter().all(fine) && store.damage(manifest).is_none();
    let damage = current.as_ref().filter(|current| current.key == key).and_then(|current| store.damage(current));
    let candidate = match &current {
        _ if ask.force => None,
        Some(current) if current.key == key && held(current) => Some(current.clone()),
        _ => store.find(&key).into_iter().find(held).map(Arc::new),
    };
    decision.damaged.extend(damage);
    // What goes on from its own last table is not given another stage's.
    let foreign = candidate.is_none()
        && !(ask.force || ask.alone)
        && (catalog.plan.stages[node].goes_on_from.is_none() || current.is_none());
    let candidate = match candidate {
        None if foreign => {
            let others = catalog.store.elsewhere(&this.name, &key)?;
            let held = |(from, manifest): &(StageStore, Manifest)| {
                manifest.parts.iter().all(fine) && from.damage(manifest).is_none()
            };
            let others = others.into_iter().map(|(from, manifest)| (from, manifest.of_stage(&this.name)));
            let found = others.filter(held).max_by_key(|(_, manifest)| manifest.created);
            found.map(|(from, manifest)| {
                decision.lies = Some(from);
                Arc::new(manifest)
            })
        }
        own => own,
    };
    if let Some(manifest) = candidate {
        decision.action = Action::Reuse;
        decision.parts = manifest.parts.len();
        // Files that were only touched are no reason for anything.
        decision.reasons.clear();
        if let (Some(then), Some(now)) = (&manifest.machine, catalog.machine(node))
            && *then != now
        {
            let name = &this.name;
            decision
                .reasons
                .push(format!("{name}: made on {then}, and here it is {now}: made anew, its last digits would differ"));
        }
        decision.reuse = Some(manifest);
        return Ok(decision);
    }
    decision.forced = ask.force;
    decision.previous = current.clone().filter(|_| !ask.force);
    if ask.force {
        decision.reasons.push(format!("{}: forced", this.name));
    } else {
        match &current {
            None if decision.reasons.is_empty() && decision.damaged.is_empty() => {
                decision.reasons.push(format!("{}: never run", this.name))
            }
            None => {}
            Some(old) if old.key != key => {
                let changes = parts.changes_since(&this.name, &old.parts_of_key);
                let told = decision.reasons.iter().any(|reason| reason.contains(": files "));
                decision.reasons.extend(changes.into_iter().filter(|c| !(told && c.ends_with(": files changed"))));
            }
            Some(_) if !decision.damaged.is_empty() => {}
            Some(_) => decision.reasons.push(format!("{}: rows were dropped, and on_error is \"fail\"", this.name)),
        }
    }
    let start = last::find(catalog, node, current.as_deref(), Some(&key), ask.force)?;
    decision.reasons.extend(start.reason);
    decision.last = start.last;
    if catalog.stream_of(node).is_some() {
        targets::targets(catalog, node, current.as_deref(), ask.force, &fine, &mut decision)?;
    } else {
        decision.parts = rows.div_ceil(graph.file.part_rows).max(1);
        decision.stale_parts = decision.parts;
    }
    Ok(decision)
}

/// What cannot be listed, as a row of the table `dropped`.
fn left_out(stage: &str, one: LeftOut) -> DroppedRow {
    DroppedRow { stage: stage.to_owned(), image_id: one.path.clone(), path: Some(one.path), reason: one.reason }
}

/// All that a source's table says of its files: their digests, and of images their lengths and times.
fn listing_key(source: &dyn Source, decision: &Decision) -> String {
    let mut texts: Vec<Cow<'_, str>> = Vec::new();
    for Fingerprint { entry, digest, .. } in &decision.listing.prints {
        texts.extend([Cow::from(&entry.path), digest.into()]);
        if source.row_per_file() && source.makes_row(&entry.path) {
            texts.extend([entry.size.to_string().into(), entry.modified_ns.to_string().into()]);
        }
    }
    texts.extend(decision.left_out.iter().flat_map(|row| ["left out".into(), (&row.image_id).into(), (&row.reason).into()]));
    keys::hash(texts.iter().map(|text| text.as_ref()))
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
    let (graph, stage) = (&catalog.plan.graph, &catalog.plan.stages[node]);
    let mut inputs = BTreeMap::new();
    for edge in &graph.nodes[node].edges {
        let table = catalog.table(edge.from);
        let table = table.with_context(|| format!("the table of stage `{}` is not known", catalog.name(edge.from)))?;
        inputs.insert(edge.name.clone(), table.columns);
    }
    let mut files = Vec::new();
    for path in &stage.files {
        let bytes = catalog.engine.files.read(path).map_err(|error| catalog.failed(node, error.into()))?;
        files.push(keys::short(&blake3::hash(&bytes)));
    }
    Ok(KeyParts::new(&graph.nodes[node], stage, graph.seed(node), files, &inputs))
}

/// A view's table: fingerprints of its columns.
///
/// # Errors
/// A table that it reads is not known.
pub fn view(catalog: &Catalog, node: usize) -> Result<Table> {
    let key = key_parts(catalog, node)?.key();
    let stream = catalog.stream_of(node).and_then(|from| catalog.table(from)).map(|table| table.columns).unwrap_or_default();
    Ok(Table { manifest: None, columns: keys::of_view(&key, &catalog.plan.stages[node], &stream) })
}

/// A snapshot's table.
///
/// # Errors
/// Its digests are damaged.
pub fn snapshot(catalog: &Catalog, node: usize, manifest: Arc<Manifest>) -> Result<Table> {
    let columns: Columns = keys::of_snapshot(&catalog.plan.stages[node].schema, &manifest.digest()?);
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
