//! The file of names, as it is written: a decision at a time, so that none is lost.
//!
//! It lies beside the pipeline file, not in the store. A change reads the file, and writes it anew: to another file, which is kept by the
//! disk before it takes the old one's name. Between reading and writing, a lock on the folder keeps other writers out, and what the writer
//! has not seen is not overwritten: it says which decision it replaces, and another one there is told instead ([`Change::Stale`]).

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tessera_datasets::names::{Decision, Names, Subject};

use super::storage::disk::{settled, write_atomically};

/// The file of a pipeline.
#[derive(Debug, Clone)]
pub struct NamesFile {
    path: PathBuf,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is on the disk.
    Written,
    /// The file says so already, by this decision.
    Same(Option<Decision>),
    /// Somebody decided otherwise meanwhile, and this holds: nothing was written.
    Stale(Option<Decision>),
}

/// What a page says of a decision that it shows, to find out whether it is still the one: empty where there is none.
pub fn version(decision: Option<&Decision>) -> String {
    decision.map_or_else(String::new, |decision| blake3::hash(decision.line().as_bytes()).to_hex()[..16].to_owned())
}

impl NamesFile {
    /// That of a path; it need not be there.
    pub fn new(path: &Path) -> Self {
        // Where the path is a link, what it leads to is written, and not the link.
        Self { path: settled(path) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says now.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong.
    pub fn read(&self) -> Result<Names> {
        Ok(Names::read(&self.path)?)
    }

    /// Decides about a subject, or takes the decision about it back, if that is still the one of the [`version`] that was seen. When it
    /// returns, the change is on the disk.
    ///
    /// # Errors
    /// The file cannot be read or written, or a line of it is wrong: it stays as it is.
    pub fn change(&self, subject: &Subject, seen: &str, to: Option<Decision>) -> Result<Change> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let lock = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
        // Its holder's end lets it go.
        lock.lock().with_context(|| format!("cannot lock {}", folder.display()))?;
        let mut names = self.read()?;
        let now = names.of(subject);
        let same = match (now, &to) {
            (Some(now), Some(to)) => now.action == to.action,
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(Change::Same(now.cloned()));
        }
        if version(now) != seen {
            return Ok(Change::Stale(now.cloned()));
        }
        match to {
            Some(decision) => names.put(decision),
            None => drop(names.remove(subject)),
        }
        write_atomically(&self.path, names.text().as_bytes())?;
        Ok(Change::Written)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tessera_datasets::names::{Action, HEADER, Name};

    use super::*;

    fn subject(cluster: i32) -> Subject {
        Subject::Cluster { key: format!("b3:{:032x}", 7), cluster }
    }

    fn named(cluster: i32, name: &str) -> Decision {
        Decision {
            stage: "clusters".into(),
            subject: subject(cluster),
            action: Action::Name(Name::new(name).unwrap()),
            seen: vec!["a.jpg".into()],
            by: "ana".into(),
            at: "2026-11-27T10:00:00Z".into(),
        }
    }

    #[test]
    fn a_stale_change_is_told_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = NamesFile::new(&folder.path().join("names.csv"));
        assert_eq!(file.change(&subject(1), "", Some(named(1, "dress"))).unwrap(), Change::Written);
        let dress = named(1, "dress");
        // Another page has not seen it.
        assert_eq!(file.change(&subject(1), "", Some(named(1, "skirt"))).unwrap(), Change::Stale(Some(dress.clone())));
        assert_eq!(
            file.change(&subject(1), "", Some(dress.clone())).unwrap(),
            Change::Same(Some(dress.clone())),
            "two who agree"
        );
        assert_eq!(
            file.change(&subject(2), "", Some(named(2, "hat"))).unwrap(),
            Change::Written,
            "other clusters are no conflict"
        );
        assert_eq!(file.change(&subject(1), &version(Some(&dress)), Some(named(1, "skirt"))).unwrap(), Change::Written);
        assert_eq!(file.change(&subject(1), &version(Some(&dress)), None).unwrap(), Change::Stale(Some(named(1, "skirt"))));
        assert_eq!(file.change(&subject(1), &version(Some(&named(1, "skirt"))), None).unwrap(), Change::Written);
        assert_eq!(file.change(&subject(1), "", None).unwrap(), Change::Same(None));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), format!("{HEADER}\n{}\n", named(2, "hat").line()));
    }

    #[test]
    fn writers_at_one_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.csv");
        let write = |first: i32| {
            let file = NamesFile::new(&path);
            for cluster in (first..40).step_by(4) {
                assert_eq!(file.change(&subject(cluster), "", Some(named(cluster, "x"))).unwrap(), Change::Written);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|first| drop(scope.spawn(move || write(first)))));
        assert_eq!(NamesFile::new(&path).read().unwrap().all().len(), 40);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no other file stays");
    }

    #[test]
    fn a_wrong_file_is_not_written_over_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.csv");
        std::fs::write(&path, "image_id,label\na,b\n").unwrap();
        assert!(NamesFile::new(&path).change(&subject(1), "", Some(named(1, "x"))).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "image_id,label\na,b\n");
        let (target, link) = (folder.path().join("elsewhere.csv"), folder.path().join("link.csv"));
        std::fs::write(&target, "").unwrap();
        symlink(&target, &link).unwrap();
        NamesFile::new(&link).change(&subject(1), "", Some(named(1, "x"))).unwrap();
        assert!(link.is_symlink() && NamesFile::new(&target).read().unwrap().all().len() == 1);
    }
}
