//! Deciding about a source: its files are listed, and those that changed are hashed.

use std::borrow::Cow;
use std::collections::HashSet;

use anyhow::Result;
use tessera_datasets::{Fingerprint, LeftOut};
use tessera_operators::operator::Source;

use super::super::listing::{self, Hashing, Listing};
use super::super::reason::Reason;
use super::{Ask, Decision, removed};
use crate::engine::catalog::Catalog;
use crate::store::key::{self, KeyParts};
use crate::store::{DroppedRow, Manifest, StageStore};

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
    let since_ns = listing::now_ns();
    let listed = source.list(catalog.engine.files.as_ref()).map_err(|error| catalog.failed(node, error))?;
    let mut entries = listed.files;
    decision.left_out = listed.left_out.into_iter().map(|one| left_out(name, one)).collect();
    let mut there = None;
    if let Some(limit) = catalog.limit.filter(|_| source.row_per_file()) {
        let rows = entries.iter().filter(|entry| source.makes_row(&entry.path));
        let all: HashSet<String> = rows.map(|entry| entry.path.clone()).collect();
        let chosen = sample(&all, limit);
        entries.retain(|entry| !source.makes_row(&entry.path) || chosen.contains(entry.path.as_str()));
        there = Some(all);
    }
    let rows = entries.iter().filter(|entry| source.makes_row(&entry.path)).count();
    let known = match listing::load(store) {
        // What was asked for by force is not believed of before.
        Ok(known) if ask.force => Listing { prints: Vec::new(), ..known },
        Ok(known) => known,
        Err(damaged) => {
            decision.damaged.push(damaged);
            Listing::default()
        }
    };
    let changes = listing::changes(&entries, &known.prints);
    if known.outdated {
        decision.reasons.push(Reason::OutdatedListing);
    }
    if known.prints.is_empty() && !entries.is_empty() && !ask.hash_all {
        if !known.outdated {
            decision.reasons.push(Reason::NeverRun);
        }
        decision.parts = rows.div_ceil(catalog.part_rows(node));
        decision.stale_parts = decision.parts;
        return Ok(None);
    }
    let unsure = known.unsure();
    let keep = |prints: &[Fingerprint]| {
        let listing = Listing { prints: prints.to_vec(), since_ns, outdated: false };
        // It is kept again at the end, and then a refusal is told.
        let _ = listing::save(store, &listing);
    };
    let is_image = |path: &str| source.row_per_file() && source.makes_row(path);
    let hashing = Hashing {
        files: catalog.engine.files.as_ref(),
        root: source.root(),
        threads: catalog.engine.threads,
        is_image: &is_image,
        progress: ask.progress,
        keep: &keep,
    };
    let prints = listing::fingerprint(entries, &known, &hashing)?;
    decision.listing = Listing { prints, since_ns, outdated: false };
    if !changes.none() && !known.prints.is_empty() {
        decision.reasons.push(Reason::Files(changes));
    }
    parts.listing = Some(listing_key(source.as_ref(), decision));
    let prints = &decision.listing.prints;
    if let Some(current) = current.filter(|current| current.key != parts.key()) {
        removed::check(name, store, source.as_ref(), current, prints, there.as_ref())?;
    }
    if !changes.none() || unsure {
        listing::save(store, &decision.listing).or_else(|error| if ask.hash_all { Err(error) } else { Ok(()) })?;
    }
    Ok(Some(rows))
}

/// So many of some paths, the same ones each time, and from all folders alike: those with the smallest hashes.
fn sample(paths: &HashSet<String>, count: usize) -> HashSet<&str> {
    let mut hashed: Vec<([u8; 32], &str)> =
        paths.iter().map(|path| (*blake3::hash(path.as_bytes()).as_bytes(), path.as_str())).collect();
    if count < hashed.len() {
        hashed.select_nth_unstable(count);
        hashed.truncate(count);
    }
    hashed.into_iter().map(|(_, path)| path).collect()
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
    key::hash(texts.iter().map(|text| text.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_all_folders_and_grows() {
        let paths: HashSet<String> = (0..300).map(|at| format!("{}/{at}.jpg", ["cat", "dog", "owl"][at % 3])).collect();
        let (few, more) = (sample(&paths, 30), sample(&paths, 60));
        assert_eq!((few.len(), more.len(), sample(&paths, 0).len(), sample(&paths, 999).len()), (30, 60, 0, 300));
        assert!(few.is_subset(&more));
        for folder in ["cat/", "dog/", "owl/"] {
            assert!(few.iter().filter(|path| path.starts_with(folder)).count() >= 4, "{folder}: {few:?}");
        }
    }
}
