//! Deciding about a source: its files are listed, and those that changed are hashed.

use std::collections::{BinaryHeap, HashSet};
use std::fmt::{Display, Write as _};

use anyhow::Result;
use tessera_datasets::layout::Role;
use tessera_datasets::{Entry, FileDigest, Fingerprint, LeftOut};
use tessera_operators::operator::Source;

use super::super::listing::{self, Hashing, Known, Listing};
use super::super::reason::Reason;
use super::{Ask, Decision, removed};
use crate::engine::catalog::Catalog;
use crate::store::key::{self, KeyParts, Texts};
use crate::store::{DroppedRow, Manifest, StageStore};

/// Bytes of an image, as a guess.
const USUAL_BYTES: u64 = 100 << 10;
/// Shards that are read where some rows alone are asked for.
const LIMITED_SHARDS: usize = 4;

/// Lists a source's files into the decision and the parts of its key. Returns how many rows they may make; none if that takes reading
/// all of a new data set, which was not asked for.
pub(super) fn list(
    catalog: &Catalog,
    node: usize,
    ask: &Ask<'_>,
    store: &StageStore,
    current: Option<&Manifest>,
    parts: &mut KeyParts,
    decision: &mut Decision,
) -> Result<Option<usize>> {
    let name = catalog.name(node);
    let source = catalog.source(node)?;
    let last = listing::read(store);
    let since_ns = listing::now_ns();
    let listed = source.list(catalog.engine.files.as_ref()).map_err(|error| catalog.failed(node, error))?;
    let mut entries = listed.files;
    decision.aside = listed.aside;
    decision.left_out = listed.left_out.into_iter().map(|one| left_out(name, one)).collect();
    let mut there = None;
    if let Some(limit) = catalog.limit.filter(|_| source.lists_images()) {
        let (first, all) = limited(entries, limit, source.as_ref());
        entries = first;
        there = Some(all);
    }
    let rows = entries.iter().map(|entry| rows_in(entry, source.as_ref())).sum::<usize>();
    let known = match last.open() {
        // Under --force, digests of earlier runs are not trusted.
        Ok(known) if ask.force => known.forgotten(),
        Ok(known) => known,
        Err(damaged) => {
            decision.damaged.push(damaged);
            Known::default()
        }
    };
    let outdated = known.outdated;
    if outdated {
        decision.reasons.push(Reason::OutdatedListing);
    }
    let compared = listing::compare(entries, known);
    decision.damaged.extend(compared.damaged);
    let (mut prints, changes) = (compared.prints, compared.changes);
    let is_new = compared.known == 0;
    if is_new && !prints.is_empty() && !ask.hash_all {
        if !outdated {
            decision.reasons.push(Reason::NeverRun);
        }
        decision.parts = rows.div_ceil(catalog.part_rows(node));
        decision.stale_parts = decision.parts;
        return Ok(None);
    }
    let keep = |prints: &[Fingerprint]| {
        // A failure here is not told: the listing is written again at the end, and a failure there is.
        let _ = listing::keep(store, prints, since_ns);
    };
    let is_image = |path: &str| source.role(path) == Role::Image;
    let hashing = Hashing {
        files: catalog.engine.files.as_ref(),
        root: source.root(),
        threads: catalog.engine.threads,
        is_image: &is_image,
        progress: ask.progress,
        keep: &keep,
    };
    listing::hash(&mut prints, &hashing)?;
    decision.listing = Listing { prints, since_ns, outdated: false };
    if !changes.none() && !is_new {
        decision.reasons.push(Reason::Files(changes));
    }
    let key = listing_key(source.as_ref(), &decision.listing.prints, &decision.left_out);
    // `--limit` chooses shards, and then rows in them: so the key has the limit too.
    let are_shards = || decision.listing.prints.iter().any(|print| source.role(&print.entry.path) == Role::Shard);
    parts.listing = Some(match catalog.limit.filter(|_| are_shards()) {
        Some(limit) => key::hash([&*key, &limit.to_string()]),
        None => key,
    });
    let prints = &decision.listing.prints;
    if let Some(current) = current.filter(|current| current.key != parts.key()) {
        removed::check(name, store, source.as_ref(), current, prints, there.as_deref())?;
    }
    if !changes.none() || compared.unsure {
        listing::save(store, &decision.listing).or_else(|error| if ask.hash_all { Err(error) } else { Ok(()) })?;
    }
    Ok(Some(rows))
}

/// About how many rows a file makes, before it is read.
fn rows_in(entry: &Entry, source: &dyn Source) -> usize {
    match source.role(&entry.path) {
        Role::Image => 1,
        Role::Shard => usize::try_from(entry.size.div_ceil(USUAL_BYTES)).unwrap_or(usize::MAX),
        Role::Beside => 0,
    }
}

/// The files that are chosen where the first rows alone are asked for, with those that make no row; and the paths of all that make some.
/// Of shards, few are read.
fn limited(entries: Vec<Entry>, limit: usize, source: &dyn Source) -> (Vec<Entry>, Vec<Box<str>>) {
    let makes_rows = |path: &str| source.role(path) != Role::Beside;
    let rows = entries.iter().map(|entry| &*entry.path).filter(|path| makes_rows(path));
    let are_shards = entries.iter().any(|entry| source.role(&entry.path) == Role::Shard);
    let sample = sample(rows, if are_shards { limit.min(LIMITED_SHARDS) } else { limit });
    let (mut chosen, mut there) = (Vec::new(), Vec::new());
    for entry in entries {
        if !makes_rows(&entry.path) {
            chosen.push(entry);
        } else if sample.contains(&there.len()) {
            there.push(entry.path.clone());
            chosen.push(entry);
        } else {
            there.push(entry.path);
        }
    }
    (chosen, there)
}

/// So many of some paths, by their places, the same ones each time, and from all folders alike: those with the smallest hashes.
pub(in crate::run) fn sample<'a>(paths: impl Iterator<Item = &'a str>, count: usize) -> HashSet<usize> {
    let mut least = BinaryHeap::new();
    for (at, path) in paths.enumerate() {
        let hash = *blake3::hash(path.as_bytes()).as_bytes();
        if least.len() < count {
            least.push((hash, at));
        } else if let Some(mut most) = least.peek_mut().filter(|most| hash < most.0) {
            *most = (hash, at);
        }
    }
    least.into_iter().map(|(_, at)| at).collect()
}

/// What cannot be listed, as a row of the table `dropped`.
pub(in crate::run) fn left_out(stage: &str, one: LeftOut) -> DroppedRow {
    DroppedRow { stage: stage.to_owned(), image_id: one.path.clone(), path: Some(one.path), reason: one.reason }
}

/// All that a source's table says of its files: their digests, and of images their lengths and times.
fn listing_key(source: &dyn Source, prints: &[Fingerprint], left_out: &[DroppedRow]) -> String {
    let mut texts = Texts::default();
    let (mut digits, mut number) = ([0; FileDigest::DIGITS], String::new());
    for Fingerprint { entry, digest, .. } in prints {
        texts.add(&entry.path);
        texts.add(digest.text(&mut digits));
        if source.role(&entry.path) == Role::Image {
            for value in [&entry.size as &dyn Display, &entry.modified_ns] {
                number.clear();
                // Writing to a `String` cannot fail.
                let _ = write!(number, "{value}");
                texts.add(&number);
            }
        }
    }
    for row in left_out {
        ["left out", &row.image_id, &row.reason].into_iter().for_each(|text| texts.add(text));
    }
    texts.hash()
}

#[cfg(test)]
mod many;
#[cfg(test)]
mod tests;
