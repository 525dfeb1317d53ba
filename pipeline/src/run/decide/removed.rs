//! Whether too many of a source's published rows are gone, as over a disk that is not mounted.

use std::collections::HashMap;

use anyhow::{Result, bail};
use tessera_datasets::layout::Role;
use tessera_datasets::{FileDigest, Fingerprint};
use tessera_operators::operator::Source;
use tessera_schemas::{IMAGE_ID, images, text};

use crate::store::{Manifest, StageStore};

/// Compares the published rows with the files that there are. `there` are the paths of all of them, where `prints` are the first
/// ones alone. Both are sorted by path.
///
/// # Errors
/// More rows are gone than the stage allows.
pub fn check(
    name: &str,
    store: &StageStore,
    source: &dyn Source,
    published: &Manifest,
    prints: &[Fingerprint],
    there: Option<&[Box<str>]>,
) -> Result<()> {
    let holds = |print: &&Fingerprint| source.role(&print.entry.path) != Role::Beside;
    let now = there.map_or_else(|| prints.iter().filter(holds).count(), <[_]>::len);
    let Some(loss) = source.may_lose(published.rows(), now as u64).filter(|_| source.lists_images()) else { return Ok(()) };
    let mut listed = Finder::new(prints.len(), |at| &*prints[at].entry.path);
    let mut all = there.map(|there| Finder::new(there.len(), |at| &*there[at]));
    // For each listed file, whether the published table has its path.
    let mut stays = vec![false; prints.len()];
    let mut gone: Vec<(Box<str>, FileDigest)> = Vec::new();
    for part in &published.parts {
        // A part that cannot be read says nothing of what was there.
        let Ok(rows) = store.read_columns(part, &[IMAGE_ID, "source", "digest"]) else { continue };
        let (names, digests) = (text(&rows, IMAGE_ID)?, text(&rows, "digest")?);
        for (row, source) in images::sources(&rows)?.enumerate() {
            // A row of a shard is there as long as the shard is.
            let place = listed.find(source.path);
            if let Some(at) = place {
                stays[at] = true;
            }
            let is_there = all.as_mut().map_or(place.is_some(), |all| all.find(source.path).is_some());
            if !is_there {
                gone.push((names.value(row).into(), digests.value(row).into()));
            }
        }
    }
    // A file of the same bytes under a new name: it moved.
    let mut moved: HashMap<&FileDigest, usize> = HashMap::new();
    for (print, _) in prints.iter().zip(stays).filter(|(_, stays)| !stays) {
        *moved.entry(&print.digest).or_default() += 1;
    }
    gone.retain(|(_, digest)| match moved.get_mut(digest) {
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
        "stage `{name}`: {count} of the {of} images that the last run listed were removed from {root}, such as `{example}`, and {said}: \
         is the folder whole, and its disk mounted? If they were removed on purpose, --set {name}.{key}={count} permits it"
    )
}

/// Finds texts among sorted ones; at once where each is the next.
struct Finder<'a, F: Fn(usize) -> &'a str> {
    count: usize,
    text: F,
    /// Where the next one is looked for first.
    next: usize,
}

impl<'a, F: Fn(usize) -> &'a str> Finder<'a, F> {
    fn new(count: usize, text: F) -> Self {
        Self { count, text, next: 0 }
    }

    /// The place of a text.
    fn find(&mut self, wanted: &str) -> Option<usize> {
        let is_at = |at: usize| at < self.count && (self.text)(at) == wanted;
        if !is_at(self.next) {
            let (mut low, mut high) = (0, self.count);
            while low < high {
                let middle = low.midpoint(high);
                if (self.text)(middle) < wanted { low = middle + 1 } else { high = middle }
            }
            self.next = low;
            if !is_at(low) {
                return None;
            }
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_in_any_order() {
        let texts: Vec<String> = (0..100).map(|at| format!("{:03}", at * 2)).collect();
        let mut finder = Finder::new(texts.len(), |at| texts[at].as_str());
        let order = (0..200).chain((0..200).rev()).chain((0..200).map(|at| at * 73 % 200));
        for at in order {
            let found = finder.find(&format!("{at:03}"));
            assert_eq!(found, (at % 2 == 0).then_some(at / 2), "{at}");
        }
        assert_eq!(Finder::new(0, |_| "").find(""), None);
    }
}
