//! Deciding part by part: which parts of a map's table there are, and what each of the others is to be.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use tessera_operators::operator::{ColumnKind, PortKind};
use tessera_schemas::{BYTES, IMAGE_ID};

use super::super::reason::Reason;
use super::super::recipe::WorkRow;
use super::{Action, Decision, key_parts};
use crate::engine::catalog::Catalog;
use crate::store::{Manifest, Part, StageStore, key};

/// Earlier snapshots in which parts are looked for.
const EARLIER: usize = 8;
/// Bytes of the parts that one is made from, at most: all of them are read for it.
const MOST_READ: u64 = 64 << 20;

/// What the rows of a map's table depend on, in the snapshot below.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// The columns that decide what is computed: rows in which these are the same give the same.
    pub columns: BTreeSet<String>,
    /// The columns that the map and the views below it hand on untouched.
    pub handed: BTreeSet<String>,
}

/// Decides part by part: a part's key covers the fused stages, the source part's columns that they depend on, and the sides.
pub(super) fn targets(
    catalog: &Catalog,
    node: usize,
    current: Option<&Manifest>,
    force: bool,
    fine: &dyn Fn(&Part) -> bool,
    decision: &mut Decision,
) -> Result<()> {
    let stream = catalog.stream_of(node).context("a map has a stream")?;
    let (base, views) = catalog.chain(stream);
    let steps: Vec<usize> = views.into_iter().chain([node]).collect();
    let manifest = catalog.manifest(base)?;
    let whole = steps.iter().any(|&step| catalog.plan.graph.nodes[step].spec.looks_back());
    if whole {
        // Rows depend on others anywhere: there is nothing to decide part by part.
        decision.parts = manifest.rows().div_ceil(catalog.part_rows(node) as u64) as usize;
        decision.stale_parts = decision.parts;
        return Ok(());
    }
    let mut recipe = Vec::new();
    for &step in &steps {
        let mut parts = key_parts(catalog, step)?;
        for edge in catalog.plan.graph.nodes[step].edges.iter().filter(|edge| edge.port.kind == PortKind::Stream) {
            parts.inputs.remove(&edge.name);
        }
        recipe.push(parts.key());
    }
    let whole_recipe = key::hash(recipe.iter().map(String::as_str));
    let wanted: BTreeSet<String> = catalog.plan.stages[node].schema.fields().iter().map(|f| f.name().clone()).collect();
    let needed: BTreeSet<String> = catalog.base_columns(&steps, &wanted).into_iter().map(digested).collect();
    for sources in groups(catalog, base, node, &steps, &manifest.parts) {
        let mut texts: Vec<String> = recipe.clone();
        for part in sources {
            for (name, digest) in part.digests.iter().filter(|(name, _)| needed.contains(*name)) {
                texts.extend([name.clone(), digest.clone()]);
            }
            texts.push(part.rows.to_string());
        }
        let key = key::hash(texts.iter().map(String::as_str));
        let (sources, recipe) = (sources.to_vec(), whole_recipe.clone());
        decision.targets.push((WorkRow { key, recipe, sources, anew: force, ..WorkRow::default() }, None));
    }
    if !force {
        finish(&catalog.store.stage(catalog.name(node)), current, fine, decision)?;
    }
    decision.reads = reads(catalog, &steps);
    decision.parts = decision.targets.len();
    decision.stale_parts = decision.targets.iter().filter(|(_, done)| done.is_none()).count();
    let multiplies = steps.iter().any(|&step| catalog.plan.graph.nodes[step].spec.multiplies());
    let is_same = |part: &Part| part.recipe == whole_recipe;
    if !force && !multiplies && current.is_some_and(|current| current.parts.iter().any(is_same)) {
        // Rows of parts that are stale may hold.
        decision.action = Action::Update;
    }
    if decision.stale_parts < decision.parts {
        decision.action = Action::Update;
        decision.reasons.push(Reason::Parts { stale: decision.stale_parts, of: decision.parts });
    }
    Ok(())
}

/// Parts of the base that are made into one part each: neighbours, where their rows become narrow ones. Where a group ends follows from the
/// parts there, so that a change moves the ends of few groups.
fn groups<'a>(catalog: &Catalog, base: usize, node: usize, steps: &[usize], parts: &'a [Part]) -> Vec<&'a [Part]> {
    let file = &catalog.plan.graph.file;
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    // Rows about as wide as those below are as many in a part. A map that reads pixels or files works long on a part, and each part that is
    // finished is kept.
    let is_narrower = catalog.part_rows(node) >= 2 * catalog.part_rows(base);
    if !is_narrower || file.part_rows.is_some() || steps.len() > 1 || reads_files(catalog, node) || rows == 0 {
        return parts.chunks(1).collect();
    }
    let wide = (bytes / rows).max(1);
    let many = (MOST_READ / wide).min(catalog.part_rows(node) as u64);
    let mut groups = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (at, part) in parts.iter().enumerate() {
        held += part.rows;
        let next = parts.get(at + 1);
        let ends =
            next.is_none_or(|next| held + next.rows > many || held * 4 > many && is_end(&next.key, many / part.rows.max(1)));
        if ends {
            groups.push(&parts[start..=at]);
            (start, held) = (at + 1, 0);
        }
    }
    groups
}

/// Whether a map reads the bytes of files.
fn reads_files(catalog: &Catalog, node: usize) -> bool {
    let mut columns = catalog.plan.graph.nodes[node].edges.iter().flat_map(|edge| edge.port.columns);
    columns.any(|column| column.kind == ColumnKind::Bytes)
}

/// Whether a group ends before a part: about one part in so many.
fn is_end(key: &str, one_in: u64) -> bool {
    let drawn = u64::from_str_radix(key.get(..8).unwrap_or("0"), 16).unwrap_or(0);
    drawn % one_in.max(1) == 0
}

/// Finds the parts that are made: those of an interrupted run, of the current snapshot, and of earlier ones.
fn finish(
    store: &StageStore,
    current: Option<&Manifest>,
    fine: &dyn Fn(&Part) -> bool,
    decision: &mut Decision,
) -> Result<()> {
    let mut open: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (target, _)) in decision.targets.iter().enumerate() {
        open.entry(target.key.clone()).or_default().push(at);
    }
    let shelf = store.shelf()?;
    let mut take = |parts: Vec<Part>, targets: &mut Vec<(WorkRow, Option<Part>)>| {
        for part in parts {
            if open.contains_key(&part.key) && fine(&part) && shelf.holds(&part) {
                for at in open.remove(&part.key).into_iter().flatten() {
                    targets[at].1 = Some(part.clone());
                }
            }
        }
        open.is_empty()
    };
    let (noted, damaged) = store.noted()?;
    decision.damaged.extend(damaged);
    let now = current.map(|manifest| manifest.parts.clone()).unwrap_or_default();
    if take(now, &mut decision.targets) || take(noted, &mut decision.targets) {
        return Ok(());
    }
    for manifest in store.newest_first()?.take(EARLIER) {
        if take(manifest.parts, &mut decision.targets) {
            break;
        }
    }
    Ok(())
}

/// The column by which a column's values are known: of encoded bytes, that of their digests.
fn digested(name: String) -> String {
    if name == BYTES { "digest".to_owned() } else { name }
}

/// What rows that go through these steps, from the base up, depend on. Some follow from the `image_id`, as what is
/// drawn at random does.
fn reads(catalog: &Catalog, steps: &[usize]) -> Reads {
    let stages = &catalog.plan.stages;
    let mut columns: BTreeSet<String> = catalog.base_columns(steps, &BTreeSet::new()).into_iter().map(digested).collect();
    let passes = steps.iter().map(|&step| &stages[step].passes);
    let handed: BTreeSet<String> =
        passes.cloned().reduce(|all, some| all.intersection(&some).cloned().collect()).unwrap_or_default();
    if handed.contains(IMAGE_ID) && !steps.iter().any(|&step| stages[step].reads_ids) {
        columns.remove(IMAGE_ID);
    }
    Reads { columns, handed }
}
