//! Which snapshots were current when, by the records of runs.
//!
//! A run records for each of its stages the snapshot that it found and the one that it left. A snapshot may be current again, long after it was
//! made: so what was current is read from records, and the time of making counts for those snapshots only that no record names (of runs
//! that were killed, and of earlier versions).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{Manifest, Store, files, seal, stem};

/// What a record says of the snapshots of a run.
#[derive(Debug, Default, Deserialize)]
struct Record {
    error: Option<String>,
    #[serde(default)]
    stages: Vec<Stage>,
}

/// What it says of a stage.
#[derive(Debug, Deserialize)]
struct Stage {
    stage: String,
    /// The snapshot that the run left; records of earlier versions do not say it.
    snapshot: Option<String>,
    /// The one that it found.
    previous: Option<String>,
}

/// A stage got a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The run that gave it.
    pub run: String,
    /// The snapshot.
    pub snapshot: String,
    /// Whether no record says which run gave it: then `run` is the last one before, and empty if there is no earlier record.
    pub is_found: bool,
}

/// The turns of the stages of a pipeline.
#[derive(Debug, Default)]
pub struct History {
    turns: BTreeMap<String, Vec<Turn>>,
    /// Of each run that has a record, the snapshots that it left.
    left: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl History {
    /// A stage's turns, the earliest first.
    pub fn of(&self, stage: &str) -> &[Turn] {
        self.turns.get(stage).map_or(&[], Vec::as_slice)
    }

    /// Whether a run that is not earlier than `begin` left that snapshot.
    pub fn is_left_since(&self, begin: &str, stage: &str, snapshot: &str) -> bool {
        let pair = (stage.to_owned(), snapshot.to_owned());
        self.left.range(begin.to_owned()..).any(|(_, left)| left.contains(&pair))
    }

    /// The runs that gave a stage another snapshot.
    pub fn runs(&self) -> BTreeSet<&str> {
        self.turns.values().flatten().filter(|turn| !turn.is_found).map(|turn| turn.run.as_str()).collect()
    }

    /// Adds a stage's snapshots that no record names, as if each had been current since the run that made it.
    pub fn add_made<'a>(&mut self, stage: &str, made: impl Iterator<Item = &'a Manifest>) {
        let turns = self.turns.entry(stage.to_owned()).or_default();
        let named: BTreeSet<String> = turns.iter().map(|turn| turn.snapshot.clone()).collect();
        let unnamed = made.filter(|manifest| !named.contains(&manifest.id));
        turns.extend(unnamed.map(|manifest| Turn {
            run: manifest.run.clone(),
            snapshot: manifest.id.clone(),
            is_found: false,
        }));
        turns.sort_by(|a, b| a.run.cmp(&b.run));
    }

    /// Adds the record of the next run.
    fn add(&mut self, run: &str, before: &str, record: Record) {
        for Stage { stage, snapshot, previous } in record.stages {
            let turns = self.turns.entry(stage.clone()).or_default();
            // What a run found and no record left, a run gave that was killed before it had a record.
            for (snapshot, run, is_found) in [(&previous, before, true), (&snapshot, run, false)] {
                let Some(snapshot) = snapshot else { continue };
                if turns.last().is_none_or(|last| last.snapshot != *snapshot) {
                    turns.push(Turn { run: run.to_owned(), snapshot: snapshot.clone(), is_found });
                }
            }
            if let Some(snapshot) = snapshot {
                self.left.entry(run.to_owned()).or_default().insert((stage, snapshot));
            }
        }
    }
}

impl Store {
    /// The records of runs that can be read, each with its run's name; the newest first.
    fn records(&self) -> Result<impl DoubleEndedIterator<Item = (String, Record)>> {
        let all = files(self.storage.as_ref(), &self.runs_dir(), "json")?.into_iter().rev();
        let read = |name: &str| {
            let record: Value = seal::read(self.storage.as_ref(), "record of a run", name).ok()?;
            serde_json::from_value(record).ok()
        };
        Ok(all.filter_map(move |item| Some((stem(&item.name).to_owned(), read(&item.name)?))))
    }

    /// Which snapshots were current when, as far as there are records.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn history(&self) -> Result<History> {
        let (mut history, mut before) = (History::default(), String::new());
        for (run, record) in self.records()?.rev() {
            history.add(&run, &before, record);
            before = run;
        }
        Ok(history)
    }

    /// Of each of these stages the snapshot that the last run left that succeeded and was about the stage; `None` for a stage that had none
    /// before the first run that has a record. Stages of which no record says it are left out.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn at_last_success<'a>(&self, stages: impl Iterator<Item = &'a str>) -> Result<BTreeMap<&'a str, Option<String>>> {
        let mut open: BTreeSet<&str> = stages.collect();
        let mut found = BTreeMap::new();
        for (_, record) in self.records()? {
            if open.is_empty() {
                break;
            }
            for stage in record.stages {
                let Some(&name) = open.get(stage.stage.as_str()) else { continue };
                if stage.snapshot.is_none() {
                    // An earlier version's: it does not say.
                    open.remove(name);
                    found.remove(name);
                } else if record.error.is_none() {
                    open.remove(name);
                    found.insert(name, stage.snapshot);
                } else {
                    // The earliest of the runs that failed says what there was before them.
                    found.insert(name, stage.previous);
                }
            }
        }
        Ok(found)
    }

    /// The snapshot of a stage that was current before the current one, and is not the same one in other files.
    pub(super) fn previous<'a>(
        &self,
        stage: &str,
        all: &'a [Manifest],
        now: Option<&Manifest>,
    ) -> Result<Option<&'a Manifest>> {
        let is_other = |manifest: &Manifest| now.is_none_or(|now| now.original() != manifest.original());
        let there = |id: &str| all.iter().find(|manifest| manifest.id == id).filter(|manifest| is_other(manifest));
        let mut history = self.history()?;
        history.add_made(stage, all.iter().rev());
        let found = history.of(stage).iter().rev().find_map(|turn| there(&turn.snapshot));
        Ok(found)
    }
}
