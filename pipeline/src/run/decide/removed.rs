//! Whether too many of a source's published rows are gone, as over a disk that is not mounted.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};
use arrow::array::Array as _;
use tessera_datasets::Fingerprint;
use tessera_operators::operator::Source;
use tessera_schemas::{IMAGE_ID, text};

use crate::store::{Manifest, StageStore};

/// Compares the published rows with the files that there are. `there` are the paths of all of them, where `prints` are the first
/// ones alone.
///
/// # Errors
/// More rows are gone than the stage allows.
pub fn check(
    name: &str,
    store: &StageStore,
    source: &dyn Source,
    published: &Manifest,
    prints: &[Fingerprint],
    there: Option<&HashSet<String>>,
) -> Result<()> {
    let makes_row = |print: &&Fingerprint| source.makes_row(&print.entry.path);
    let now = there.map_or_else(|| prints.iter().filter(makes_row).count(), HashSet::len);
    let Some(loss) = source.may_lose(published.rows(), now as u64).filter(|_| source.row_per_file()) else { return Ok(()) };
    let paths: HashSet<&str> = match there {
        Some(there) => there.iter().map(String::as_str).collect(),
        None => prints.iter().map(|print| print.entry.path.as_str()).collect(),
    };
    let mut ids = HashSet::new();
    let mut gone: Vec<(String, String)> = Vec::new();
    for part in &published.parts {
        // A part that cannot be read says nothing of what was there.
        let Ok(rows) = store.read_columns(part, &[IMAGE_ID, "digest"]) else { continue };
        let (names, digests) = (text(&rows, IMAGE_ID)?, text(&rows, "digest")?);
        for row in 0..names.len() {
            ids.insert(names.value(row).to_owned());
            if !paths.contains(names.value(row)) {
                gone.push((names.value(row).to_owned(), digests.value(row).to_owned()));
            }
        }
    }
    // A file of the same bytes under a new name: it moved.
    let mut moved: HashMap<&str, usize> = HashMap::new();
    for print in prints.iter().filter(|print| !ids.contains(&print.entry.path)) {
        *moved.entry(&print.digest).or_default() += 1;
    }
    gone.retain(|(_, digest)| match moved.get_mut(digest.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    if gone.len() as u64 <= loss.most {
        return Ok(());
    }
    let (count, of, example) = (gone.len(), published.rows(), gone.iter().map(|(id, _)| id).min().expect("some are gone"));
    let (root, key, said) = (source.root().display(), loss.key, loss.said);
    bail!(
        "stage `{name}`: {count} of the {of} images that the last run listed are gone from {root}, such as `{example}`, and {said}: \
         is the folder whole, and its disk mounted? If it is meant, --set {name}.{key}={count} lets them go"
    )
}
