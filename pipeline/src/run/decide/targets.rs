//! Deciding part by part: which parts of a map's table there are, and what each of the others is to be.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use tessera_operators::operator::PortKind;
use tessera_schemas::{BYTES, IMAGE_ID};

use super::super::reason::Reason;
use super::{Action, Decision, key_parts};
use crate::engine::catalog::Catalog;
use crate::engine::snapshot_exec::Target;
use crate::store::{Manifest, Part, StageStore, key};

/// Earlier snapshots in which parts are looked for.
const EARLIER: usize = 8;

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
        decision.parts = manifest.rows().div_ceil(catalog.plan.graph.file.part_rows as u64) as usize;
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
    for part in &manifest.parts {
        let mut texts: Vec<&str> = recipe.iter().map(|key| key.as_str()).collect();
        for (name, digest) in part.digests.iter().filter(|(name, _)| needed.contains(*name)) {
            texts.extend([name.as_str(), digest.as_str()]);
        }
        let rows = part.rows.to_string();
        texts.push(&rows);
        let part_key = key::hash(texts);
        let (made_from, ids) = (vec![part.file.clone()], part.ids.clone());
        decision
            .targets
            .push((Target { key: part_key, recipe: whole_recipe.clone(), made_from, ids, ..Target::default() }, None));
    }
    if !force {
        finish(&catalog.store.stage(catalog.name(node)), current, fine, decision)?;
    }
    decision.reads = reads(catalog, &steps);
    decision.parts = decision.targets.len();
    decision.stale_parts = decision.targets.iter().filter(|(_, done)| done.is_none()).count();
    if decision.stale_parts < decision.parts {
        decision.action = Action::Update;
        decision.reasons.push(Reason::Parts { stale: decision.stale_parts, of: decision.parts });
    }
    Ok(())
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
    let mut take = |parts: Vec<Part>, targets: &mut Vec<(Target, Option<Part>)>| {
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

/// What rows that go through these steps, from the base up, depend on. What is drawn at random follows from the `image_id`.
fn reads(catalog: &Catalog, steps: &[usize]) -> Reads {
    let (graph, stages) = (&catalog.plan.graph, &catalog.plan.stages);
    let mut columns: BTreeSet<String> = catalog.base_columns(steps, &BTreeSet::new()).into_iter().map(digested).collect();
    let passes = steps.iter().map(|&step| &stages[step].passes);
    let handed: BTreeSet<String> =
        passes.cloned().reduce(|all, some| all.intersection(&some).cloned().collect()).unwrap_or_default();
    if handed.contains(IMAGE_ID) && !steps.iter().any(|&step| graph.nodes[step].spec.seeded()) {
        columns.remove(IMAGE_ID);
    }
    Reads { columns, handed }
}
