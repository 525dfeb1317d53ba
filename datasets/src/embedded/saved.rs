//! What Hugging Face's `Dataset.save_to_disk` writes beside its Arrow files: which of them are the data set, and what its classes are
//! called.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Kind;
use crate::{Error, Files, LeftOut, Listed};

/// Which files hold the rows.
pub(super) const STATE: &str = "state.json";
/// What the columns are.
pub(super) const INFO: &str = "dataset_info.json";
/// What the names of files begin with that hold what was computed of a data set.
const CACHE: &str = "cache-";
/// Which splits there are, of a folder of them.
pub(super) const SPLITS: &str = "dataset_dict.json";

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data: Vec<Named>,
    #[serde(default, rename = "_indices_data_files")]
    indices: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    filename: String,
}

/// The files that were saved as a data set, by the folders that say which.
#[derive(Default)]
pub(super) struct Saved {
    folders: HashMap<String, HashSet<String>>,
    /// Folders where `datasets` keeps what it prepared, and its caches of it.
    prepared: HashSet<String>,
}

fn parent(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Saved {
    /// Reads what the folders of a listing below `root` say.
    ///
    /// # Errors
    /// A file cannot be read, or rows are chosen by an index, which is not followed.
    pub(super) fn of(files: &dyn Files, root: &Path, listed: &Listed, kind: Kind) -> Result<Self, Error> {
        let mut found = Self::default();
        if kind != Kind::Arrow {
            return Ok(found);
        }
        for entry in listed.files.iter().filter(|entry| parent(&entry.path).1 == STATE) {
            let place = root.join(&*entry.path);
            // A file of that name may be anything else.
            let Ok(state) = serde_json::from_slice::<State>(&files.read(&place)?) else { continue };
            if state.indices.is_some_and(|indices| !indices.is_empty()) {
                let message = "says that rows are chosen by an index: save the data set anew, after `flatten_indices()`";
                return Err(Error::format(place, message));
            }
            let names = state.data.into_iter().map(|named| named.filename).collect();
            found.folders.insert(parent(&entry.path).0.to_owned(), names);
        }
        let infos = listed.files.iter().map(|entry| parent(&entry.path)).filter(|(_, name)| *name == INFO);
        found.prepared = infos.map(|(folder, _)| folder.to_owned()).collect();
        Ok(found)
    }

    /// Whether a file is the data set's, as far as its folder says.
    pub(super) fn has(&self, path: &str) -> bool {
        let (folder, name) = parent(path);
        match self.folders.get(folder) {
            Some(names) => names.contains(name),
            None => !(name.starts_with(CACHE) && self.prepared.contains(folder)),
        }
    }

    /// Whether a file is one of those that say what the others are.
    pub(super) fn is_note(&self, path: &str) -> bool {
        let (folder, name) = parent(path);
        let is_below = |known: &String| folder.is_empty() || known.starts_with(&format!("{folder}/"));
        match name {
            STATE | INFO => self.folders.contains_key(folder),
            SPLITS => self.folders.keys().any(is_below),
            _ => false,
        }
    }

    /// The files that should be there and are not.
    pub(super) fn lacking(&self, listed: &Listed) -> Vec<LeftOut> {
        let there: HashSet<&str> = listed.files.iter().map(|entry| &*entry.path).collect();
        let path = |folder: &str, name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let all = self.folders.iter().flat_map(|(folder, names)| names.iter().map(move |name| path(folder, name)));
        let mut lacking: Vec<String> = all.filter(|path| !there.contains(path.as_str())).collect();
        lacking.sort();
        let reason = format!("is not there, and {STATE} names it");
        lacking.into_iter().map(|path| LeftOut { path, is_folder: false, reason: reason.clone() }).collect()
    }
}

/// What `datasets` knows of the columns of a file, by the notes in its folder; and the path of those.
///
/// # Errors
/// They cannot be read.
pub(super) fn features(
    files: &dyn Files,
    root: &Path,
    first: &str,
    listed: &Listed,
) -> Result<(Value, Option<String>), Error> {
    let (folder, _) = parent(first);
    let info = if folder.is_empty() { INFO.to_owned() } else { format!("{folder}/{INFO}") };
    let is_listed = listed.files.iter().any(|entry| *entry.path == *info);
    let place = root.join(&info);
    // Of an only file, what lies beside it is not listed.
    let is_alone = matches!(&listed.files[..], [only] if *only.path == *first);
    if !(is_listed || is_alone && files.list(&place).is_ok()) {
        return Ok((Value::Null, None));
    }
    let known: Value = serde_json::from_slice(&files.read(&place)?).unwrap_or(Value::Null);
    Ok(match &known["features"] {
        Value::Null => (Value::Null, None),
        features => (features.clone(), Some(info)),
    })
}
