//! A stage's snapshots, current or not, and how people name them.

use anyhow::{Context as _, Result, bail};

use super::{Manifest, SNAPSHOTS, StageStore, Store};

/// Digits of a snapshot's name that messages show.
const SHOWN: usize = 12;

impl StageStore {
    /// All snapshots that can be read, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Manifest>> {
        let all = self.files(SNAPSHOTS, "json")?;
        let mut all: Vec<Manifest> = all.iter().filter_map(|item| self.read_manifest(item).ok()).collect();
        // Runs' names sort by time, and finer than seconds.
        all.sort_by(|a, b| (b.created, &b.run, &b.id).cmp(&(a.created, &a.run, &a.id)));
        Ok(all)
    }

    /// The snapshots that can be read, the newest first, each read when it is asked for. By their files' times: what is first is a
    /// matter of speed alone.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn newest_first(&self) -> Result<impl Iterator<Item = Manifest>> {
        let mut all = self.files(SNAPSHOTS, "json")?;
        all.sort_by_key(|item| std::cmp::Reverse(item.modified));
        Ok(all.into_iter().filter_map(|item| self.read_manifest(&item).ok()))
    }
}

impl Store {
    /// The snapshot that a person names: by its key, by the beginning of it, as `current`, or as `previous`: the one that was current
    /// before, and is not the same one in other files.
    ///
    /// # Errors
    /// None is named so, or several are; the message lists those that there are. Or a part of it is damaged or gone.
    pub fn resolve(&self, stage: &str, named: &str) -> Result<Manifest> {
        let here = self.stage(stage);
        let (all, now) = (here.snapshots()?, here.current()?);
        let current = now.as_ref().map(|manifest| &manifest.id);
        let is_current = |manifest: &&Manifest| Some(&manifest.id) == current;
        let found: Vec<&Manifest> = match named {
            "current" => all.iter().filter(is_current).collect(),
            "previous" => self.previous(stage, &all, now.as_ref())?.into_iter().collect(),
            named => match all.iter().find(|manifest| manifest.id == named) {
                Some(exact) => vec![exact],
                None => all.iter().filter(|manifest| manifest.id.starts_with(named)).collect(),
            },
        };
        let known = || known(&all, current.map(String::as_str));
        match found[..] {
            [manifest] => match here.shelf()?.damage(manifest) {
                None => Ok(manifest.clone()),
                Some(damaged) => {
                    Err(damaged).with_context(|| format!("the snapshot {} of stage `{stage}` cannot be read", manifest.id))
                }
            },
            [] if all.is_empty() => bail!("stage `{stage}` has no snapshot"),
            [] if named == "previous" => bail!("stage `{stage}` has one snapshot only: {}", known()),
            [] => bail!("stage `{stage}` has no snapshot `{named}`; there are: {}", known()),
            _ => bail!("`{named}` begins the names of {} snapshots of stage `{stage}`: {}", found.len(), known()),
        }
    }
}

/// A snapshot's name as messages show it: the first digits of its key, unless an attempt stands behind them.
pub fn shown(id: &str) -> &str {
    if id.contains('-') { id } else { id.get(..SHOWN).unwrap_or(id) }
}

/// Snapshots as messages list them.
pub fn known(all: &[Manifest], current: Option<&str>) -> String {
    let one = |manifest: &Manifest| {
        let note = if Some(manifest.id.as_str()) == current { ", current" } else { "" };
        // An attempt's name begins like the first one's: it is told apart only by its end.
        let shared = all.iter().filter(|other| other.id.get(..SHOWN) == manifest.id.get(..SHOWN)).count() > 1;
        let shown = if shared { &manifest.id } else { manifest.id.get(..SHOWN).unwrap_or(&manifest.id) };
        format!("{shown} ({}{note})", utc(manifest.created))
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Seconds since 1970 as a date and time in UTC.
pub fn utc(seconds: u64) -> String {
    match arrow::temporal_conversions::timestamp_s_to_datetime(seconds as i64) {
        Some(time) => format!("{time} UTC"),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::key::KeyParts;
    use crate::store::{FORMAT, Store};

    fn manifest(id: &str, created: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            id: id.to_owned(),
            stage: "rows".to_owned(),
            key: id.to_owned(),
            parts_of_key: KeyParts {
                operator: "table".to_owned(),
                version: 1,
                config: serde_json::Map::new(),
                seed: None,
                files: Vec::new(),
                inputs: BTreeMap::new(),
                listing: None,
            },
            parts: Vec::new(),
            created,
            run: format!("{created:013}-0"),
            seconds: 0.0,
            metrics: None,
            machine: None,
            started_from: None,
            rewrite_of: None,
            schema: None,
            inputs: BTreeMap::new(),
        }
    }

    #[test]
    fn snapshots_are_found_by_what_people_write() {
        let dir = tempfile::tempdir().unwrap();
        let all = Store::new(dir.path(), "p");
        let store = all.stage("rows");
        assert_eq!(all.resolve("rows", "a").unwrap_err().to_string(), "stage `rows` has no snapshot");
        let (first, second) = ("a".repeat(32), format!("ab{}", "c".repeat(30)));
        store.publish(&manifest(&first, 1)).unwrap();
        let error = all.resolve("rows", "previous").unwrap_err().to_string();
        assert_eq!(error, "stage `rows` has one snapshot only: aaaaaaaaaaaa (1970-01-01 00:00:01 UTC, current)");
        store.publish(&manifest(&second, 2)).unwrap();
        let found = |named: &str| all.resolve("rows", named).map(|manifest| manifest.id).map_err(|e| e.to_string());
        assert_eq!(found("aa"), Ok(first.clone()));
        assert_eq!(found(&second), Ok(second.clone()));
        assert_eq!((found("current"), found("previous")), (Ok(second.clone()), Ok(first.clone())));
        assert!(found("a").unwrap_err().starts_with("`a` begins the names of 2 snapshots of stage `rows`: abcccccccccc ("));
        assert!(found("x").unwrap_err().starts_with("stage `rows` has no snapshot `x`; there are: abcccccccccc (1970"));
        // An older one can be current again: the one before it is then the newer.
        store.point_to(&first).unwrap();
        assert_eq!(found("previous"), Ok(second.clone()));
        // The same rows in other files are no other snapshot, whichever of the two is current.
        let rewrite = format!("{first}-1");
        let rewritten = Manifest { rewrite_of: Some(first.clone()), run: format!("{:013}-0", 1), ..manifest(&rewrite, 1) };
        store.publish(&rewritten).unwrap();
        assert_eq!((found("current"), found("previous")), (Ok(rewrite.clone()), Ok(second.clone())));
        store.point_to(&first).unwrap();
        assert_eq!(found("previous"), Ok(second.clone()));
        store.point_to(&second).unwrap();
        assert_eq!(found("previous"), Ok(rewrite));
    }
}
