//! Rows of files that hold many images: read once for each version of such a file, and kept beside the stage's listing.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tessera_datasets::layout::{Found, Role};
use tessera_datasets::{FileDigest, Fingerprint, LeftOut};
use tessera_operators::operator::{RunError, Source};
use tessera_operators::parallel;
use tessera_schemas::images;

use crate::engine::catalog::Catalog;
use crate::store::key;

/// Rows of some shards, in their order.
#[derive(Default)]
pub(super) struct Rows {
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// What is no row.
    pub left_out: Vec<LeftOut>,
}

/// The rows of the shards among a source's files. `progress` is told (done, total) bytes.
///
/// # Errors
/// A shard cannot be read, or two hold images of one `image_id`.
pub(super) fn rows(
    catalog: &Catalog,
    node: usize,
    prints: &[Fingerprint],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Rows> {
    let source = catalog.source(node)?;
    let role = |print: &Fingerprint| source.role(&print.entry.path);
    let shards: Vec<&Fingerprint> = prints.iter().filter(|print| role(print) == Role::Shard).collect();
    let mut all = Rows::default();
    if shards.is_empty() {
        return Ok(all);
    }
    let beside: Vec<Fingerprint> = prints.iter().filter(|print| role(print) == Role::Beside).cloned().collect();
    let store = catalog.store.stage(catalog.name(node));
    let rule = source.rule();
    let names: Vec<String> = shards.iter().map(|shard| name(catalog, node, &rule, shard, &beside)).collect();
    let known: BTreeSet<String> = store.shards()?.into_iter().collect();
    let (total, done) = (shards.iter().map(|shard| shard.entry.size).sum(), AtomicU64::new(0));
    let found = parallel::each(catalog.engine.threads, shards.len(), |at| -> Result<Found> {
        let (shard, name) = (shards[at], &names[at]);
        if catalog.engine.interrupt.asked() {
            return Err(catalog.failed(node, RunError::Cancelled));
        }
        let kept = known.contains(name).then(|| store.read_shard(name)).flatten();
        let found = match kept {
            Some(kept) => kept,
            None => {
                let found = read(catalog, node, source.as_ref(), shard, &beside)?;
                store.write_shard(name, &found)?;
                found
            }
        };
        let before = done.fetch_add(shard.entry.size, Ordering::Relaxed);
        progress(before + shard.entry.size, total);
        Ok(found)
    });
    for found in found {
        let found = found?;
        all.rows.push(found.rows);
        all.left_out.extend(found.left_out);
    }
    // Rows are kept no longer of shards that are gone, nor of their earlier versions.
    let gone = known.iter().filter(|known| !names.contains(known));
    gone.for_each(|gone| store.remove_shard(gone));
    unique(catalog.name(node), &shards, &all.rows)?;
    Ok(all)
}

/// Under which name the rows of a shard are kept: whatever they depend on is in it.
fn name(catalog: &Catalog, node: usize, rule: &str, shard: &Fingerprint, beside: &[Fingerprint]) -> String {
    let (stage, spec) = (&catalog.plan.stages[node], catalog.plan.graph.nodes[node].spec);
    let (version, config) = (spec.version().to_string(), key::sorted(&stage.config));
    let columns = format!("{:?}", stage.schema);
    let config = serde_json::Value::Object(config).to_string();
    let mut digits = [0; FileDigest::DIGITS];
    let mut texts = vec![spec.name().to_owned(), version, config, columns, rule.to_owned()];
    for print in std::iter::once(shard).chain(beside) {
        texts.extend([print.entry.path.to_string(), print.digest.text(&mut digits).to_owned()]);
    }
    key::hash(texts.iter().map(String::as_str))
}

/// Reads a shard.
fn read(catalog: &Catalog, node: usize, source: &dyn Source, shard: &Fingerprint, beside: &[Fingerprint]) -> Result<Found> {
    let schema = &catalog.plan.stages[node].schema;
    let mut prints = vec![shard.clone()];
    prints.extend_from_slice(beside);
    prints.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    let (mut batches, mut left_out) = (Vec::new(), Vec::new());
    let mut emit = |found: Found| {
        batches.push(RecordBatch::try_new(schema.clone(), found.rows.columns().to_vec())?);
        left_out.extend(found.left_out);
        if catalog.engine.interrupt.asked() { Err(RunError::Cancelled) } else { Ok(()) }
    };
    source.read(catalog.engine.files.as_ref(), &prints, &mut emit).map_err(|error| catalog.failed(node, error))?;
    Ok(Found { rows: concat_batches(schema, &batches)?, left_out })
}

/// Refuses two images of one name.
fn unique(stage: &str, shards: &[&Fingerprint], rows: &[RecordBatch]) -> Result<()> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, rows) in rows.iter().enumerate() {
        for id in images::ids(rows)?.iter().flatten() {
            if let Some(before) = seen.insert(id, at) {
                let (one, two) = (&shards[before].entry.path, &shards[at].entry.path);
                let place = if before == at { format!("twice in {one}") } else { format!("in {one} and in {two}") };
                bail!("stage `{stage}`: an image named `{id}` is {place}: ids = \"path\" puts the file's name before it");
            }
        }
    }
    Ok(())
}
