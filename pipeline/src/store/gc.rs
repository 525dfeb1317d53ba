//! Finding what nothing needs any more.
//!
//! Needed are the current snapshots, those that were current after each of the last few runs that changed any, and those that were current in
//! a span of time until now ([`Keep`]), whenever they were made; of parts, those that such a snapshot lists, and those that an interrupted
//! run finished for the next one; of checkpoints, a stage's newest, unless the stage has published since; of records and events, those since
//! the earliest run that is kept, and of runs that changed nothing no more than the last [`RECORDS`] runs. Everything else can go: older
//! snapshots and their parts, leftovers, tars that were unpacked, stages that the file names no more (cells of a sweep that it does not
//! name, which the command line may have named, once those runs are past), and the tables that `run --limit` made.
//! To find it changes nothing; to delete it, the lock must be held, so that no run is at work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::health::SUSPECT;
use super::history::History;
use super::manifest::Newer;
use super::storage::{Item, Storage};
use super::{
    CHECKPOINTS, EVENTS, Manifest, PARTS, Part, RUNS, SNAPSHOTS, StageStore, Store, UNPACKED, files, folders, seal, stem,
};

/// The last so many runs keep their records though they changed nothing.
const RECORDS: usize = 1000;
/// Kinds of what goes as a whole, its folders as well.
const WHOLES: [&str; 2] = ["stage", "limited"];

/// What of the past is needed.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// What was current after each of so many of the last runs, of those that changed anything.
    pub runs: usize,
    /// What was current at any time since then, in seconds since 1970.
    pub since: Option<u64>,
}

/// A file that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Garbage {
    /// Whose it was: a stage's, a run's, or a limited table's.
    pub stage: String,
    /// `snapshot`, `part`, `record`, `unpacked` of a tar, or `leftover` of an interrupted run; of what goes as a whole, `stage` or `limited`.
    pub kind: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its name in the store.
    #[serde(skip)]
    name: String,
}

/// What was found so far.
struct Found<'a> {
    storage: &'a dyn Storage,
    garbage: Vec<Garbage>,
}

impl Found<'_> {
    fn add(&mut self, stage: &str, kind: &'static str, item: Item) {
        let path = self.storage.place(&item.name);
        self.garbage.push(Garbage { stage: stage.to_owned(), kind, path, bytes: item.bytes, name: item.name });
    }

    /// All that lies in a folder and in those in it.
    fn all(&mut self, stage: &str, kind: &'static str, folder: &str) -> Result<()> {
        for item in self.storage.list(folder)? {
            if item.is_folder {
                self.all(stage, kind, &item.name)?;
            } else {
                self.add(stage, kind, item);
            }
        }
        Ok(())
    }
}

/// Lists what nothing needs. `stages` are those that the pipeline file names; none if that is not known: then all stages stay.
///
/// # Errors
/// A folder cannot be read, or a newer Tessera wrote here. A damaged manifest is garbage, unless it is current: then nothing is.
pub fn find(store: &Store, keep: Keep, stages: Option<&BTreeSet<String>>) -> Result<Vec<Garbage>> {
    let mut found = Found { storage: store.storage.as_ref(), garbage: Vec::new() };
    let mut read = Vec::new();
    for stage in store.stages()? {
        let here = store.stage(&stage);
        let base = |name: &str| name.split_once('@').map_or(name, |(base, _)| base).to_owned();
        let is_named = stages.is_none_or(|known| known.contains(&stage));
        // A cell of a stage that is there may be of a sweep that the command line named.
        let is_cell = stage.contains('@') && stages.is_some_and(|known| known.iter().any(|name| base(name) == base(&stage)));
        if !is_named && !is_cell {
            found.all(&stage, "stage", &here.dir)?;
            continue;
        }
        let manifests = here.files(SNAPSHOTS, "json")?.into_iter();
        let manifests: Vec<(Item, Result<Manifest>)> =
            manifests.map(|item| (item.clone(), here.read_manifest(&item))).collect();
        read.push((is_named, stage, here, manifests));
    }
    let mut history = store.history()?;
    for (_, stage, _, manifests) in &read {
        history.add_made(stage, readable(manifests));
    }
    let window = Window::of(keep, &history);
    for (is_named, stage, here, manifests) in read {
        let kept = window.keeps(&history, &stage, is_named, &manifests);
        if !is_named && kept.is_empty() {
            found.all(&stage, "stage", &here.dir)?;
            continue;
        }
        of_stage(&stage, &here, manifests, &kept, &mut found)?;
    }
    records(store, &window, &history, &mut found)?;
    files(found.storage, &store.pipeline, "tmp")?.into_iter().for_each(|item| found.add(RUNS, "leftover", item));
    // They are unpacked again where they are needed.
    found.all(UNPACKED, "unpacked", UNPACKED)?;
    for name in folders(found.storage, "")? {
        let is_limited = |(base, limit): (&str, &str)| base == store.pipeline && limit.parse::<u32>().is_ok();
        if name.split_once('@').is_some_and(is_limited) {
            found.all(&name, "limited", &name)?;
        }
    }
    found.garbage.sort();
    Ok(found.garbage)
}

fn readable(manifests: &[(Item, Result<Manifest>)]) -> impl Iterator<Item = &Manifest> {
    manifests.iter().filter_map(|(_, manifest)| manifest.as_ref().ok())
}

/// Since when what was current is needed: names of runs, or the beginnings of such.
struct Window {
    /// The earliest of the runs after which what was current is needed.
    after: Option<String>,
    /// The time from which on it is.
    since: Option<String>,
}

impl Window {
    fn of(keep: Keep, history: &History) -> Self {
        let after = history.runs().into_iter().rev().take(keep.runs).min().map(str::to_owned);
        Self { after, since: keep.since.map(run_at) }
    }

    /// The name of a run before which nothing is needed.
    fn begin(&self) -> Option<&String> {
        self.after.iter().chain(&self.since).min()
    }

    /// The snapshots of a stage that are needed whether they are current now or not.
    fn keeps(
        &self,
        history: &History,
        stage: &str,
        is_named: bool,
        manifests: &[(Item, Result<Manifest>)],
    ) -> BTreeSet<String> {
        let turns = history.of(stage);
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        for begin in self.after.iter().chain(&self.since) {
            let first = turns.partition_point(|turn| turn.run < *begin);
            wanted.extend(turns[first..].iter().map(|turn| turn.snapshot.as_str()));
            // What was current when it began, unless the run that is its beginning gave another one. That of a stage which the file does not
            // name is needed only where a run was about it.
            let before =
                turns[..first].last().filter(|_| turns.get(first).is_none_or(|turn| turn.is_found || turn.run != *begin));
            let before = before.map(|turn| turn.snapshot.as_str());
            wanted.extend(before.filter(|before| is_named || history.is_left_since(begin, stage, before)));
        }
        // Of snapshots with the same rows, one is enough: the one whose files have no others, and the current one stays in any case.
        let mut kept: BTreeMap<&str, &Manifest> = BTreeMap::new();
        for manifest in readable(manifests).filter(|manifest| wanted.contains(manifest.id.as_str())) {
            let one = kept.entry(manifest.original()).or_insert(manifest);
            if (manifest.rewrite_of.is_some(), &manifest.id) > (one.rewrite_of.is_some(), &one.id) {
                *one = manifest;
            }
        }
        kept.into_values().map(|manifest| manifest.id.clone()).collect()
    }
}

/// The beginning of the names of runs that start at that time, in seconds since 1970.
fn run_at(seconds: u64) -> String {
    format!("{:013}", u128::from(seconds) * 1000)
}

/// What a stage that stays does not need; `kept` are the snapshots that stay, beside the current one.
fn of_stage(
    stage: &str,
    here: &StageStore,
    manifests: Vec<(Item, Result<Manifest>)>,
    kept: &BTreeSet<String>,
    found: &mut Found<'_>,
) -> Result<()> {
    let current = here.current().with_context(|| format!("stage `{stage}` is left alone"))?;
    let current = current.map(|manifest| manifest.id).unwrap_or_default();
    // What was written before the pointer was is of no interrupted run: that one would have written the pointer.
    let published = here.published()?;
    let mut needed = BTreeSet::new();
    for (item, manifest) in manifests {
        match manifest {
            Ok(manifest) if manifest.id == current || kept.contains(&manifest.id) => {
                needed.extend(manifest.parts.iter().map(|part| here.part_name(&part.file)));
                needed.insert(here.metrics_name(&manifest.id));
            }
            Err(error) if error.is::<Newer>() => return Err(error),
            _ => found.add(stage, "snapshot", item),
        }
    }
    let part_of = |item: &Item| here.part_name(&format!("{}.parquet", stem(&item.name)));
    for note in here.files(PARTS, "json")? {
        // What an interrupted run finished, the next one takes; what a manifest lists needs no note.
        let noted = seal::read::<Part>(found.storage, "note", &note.name);
        let Ok(part) = noted.map(|part| here.part_name(&part.file)) else {
            found.add(stage, "leftover", note);
            continue;
        };
        if needed.contains(&part) || published.is_some_and(|published| note.modified <= published) {
            found.add(stage, "leftover", note);
        } else {
            needed.insert(part);
        }
    }
    for (folder, kind) in [(SNAPSHOTS, "snapshot"), (PARTS, "part")] {
        for item in here.files(folder, "parquet")?.into_iter().filter(|item| !needed.contains(&item.name)) {
            found.add(stage, kind, item);
        }
    }
    stale_checkpoints(here, published)?.into_iter().for_each(|item| found.add(stage, "leftover", item));
    for item in here.files(PARTS, SUSPECT)?.into_iter().filter(|item| !needed.contains(&part_of(item))) {
        found.add(stage, "leftover", item);
    }
    for folder in [here.dir.clone(), here.name(SNAPSHOTS), here.name(PARTS), here.name(CHECKPOINTS)] {
        files(found.storage, &folder, "tmp")?.into_iter().for_each(|item| found.add(stage, "leftover", item));
    }
    Ok(())
}

/// Records and events of runs before those that are kept, and of runs that changed nothing those that are too many.
fn records(store: &Store, window: &Window, history: &History, found: &mut Found<'_>) -> Result<()> {
    let folder = store.runs_dir();
    let (begin, changed) = (window.begin(), history.runs());
    for ending in ["json", EVENTS] {
        let all = files(found.storage, &folder, ending)?;
        let surplus = all.len().saturating_sub(RECORDS);
        for (at, item) in all.into_iter().enumerate() {
            let run = stem(&item.name);
            if at < surplus && !changed.contains(run) || begin.is_some_and(|begin| run < begin.as_str()) {
                found.add(RUNS, "record", item);
            }
        }
    }
    files(found.storage, &folder, "tmp")?.into_iter().for_each(|item| found.add(RUNS, "leftover", item));
    Ok(())
}

/// All checkpoints of a stage but the newest, and that one too if it was written before the stage published.
fn stale_checkpoints(here: &StageStore, published: Option<SystemTime>) -> Result<Vec<Item>> {
    let mut found = here.storage.list(&here.name(CHECKPOINTS))?;
    found.retain(|item| !item.is_folder && !item.name.rsplit('/').next().unwrap_or_default().contains('.'));
    found.sort_by_key(|item| item.modified);
    if found.last().is_some_and(|item| published.is_none_or(|published| item.modified > published)) {
        found.pop();
    }
    Ok(found)
}

impl Store {
    /// Deletes what was found.
    ///
    /// # Errors
    /// A file cannot be deleted; those before it are gone.
    pub fn delete(&self, garbage: &[Garbage]) -> Result<()> {
        // Manifests go first: one without its parts would be a damaged snapshot.
        let (manifests, others): (Vec<_>, Vec<_>) = garbage.iter().partition(|file| file.kind == "snapshot");
        for files in [manifests, others] {
            let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            self.storage.remove_all(&names).context("not everything could be deleted")?;
        }
        // Folders of what went as a whole; one that is not empty stays.
        for file in garbage.iter().filter(|file| WHOLES.contains(&file.kind)) {
            let mut name = file.name.as_str();
            while let Some((folder, _)) = name.rsplit_once('/') {
                if self.storage.remove_folder(folder).is_err() {
                    break;
                }
                name = folder;
            }
        }
        Ok(())
    }
}
