//! A snapshot that another stage has of the same key, made this stage's own.

use anyhow::{Context as _, Result};
use tessera_schemas::metrics;

use crate::engine::catalog::Catalog;
use crate::store::{Manifest, StageStore};

/// Publishes a snapshot that lies elsewhere as the stage's own, in the name of this run. `found` names the stage already.
///
/// # Errors
/// Something of it is damaged, or the disk says no; readers then still see the old snapshot.
pub fn adopt(catalog: &Catalog, node: usize, from: &StageStore, found: &Manifest, run: &str) -> Result<Manifest> {
    let store = catalog.store.stage(catalog.name(node));
    let work = || -> Result<Manifest> {
        store.take_over(from, &found.parts)?;
        let id = store.new_snapshot(&found.key);
        let metrics = match &found.metrics {
            Some(_) => Some(store.write_metrics(&id, &metrics::renamed(&from.metrics(found)?, &found.stage, &id)?)?),
            None => None,
        };
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (schema, inputs) = (Some(catalog.plan.stages[node].schema.clone()), catalog.plan.graph.inputs(node));
        let run = run.to_owned();
        let manifest = Manifest { id, metrics, created, run, schema, inputs, rewrite_of: None, ..found.clone() };
        store.publish(&manifest)?;
        Ok(manifest)
    };
    work().with_context(|| format!("cannot take over the snapshot {} of {}", found.id, from.place()))
}
