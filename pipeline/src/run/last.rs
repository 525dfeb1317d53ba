//! The table that a stage goes on from: the one that it published last, whatever its key.
//!
//! A stage whose snapshot is damaged is made anew from what that one started from: a mended table is the table that it was.

use anyhow::Result;

use super::reason::Reason;
use crate::engine::catalog::Catalog;
use crate::store::snapshots::shown;
use crate::store::{Manifest, StageStore};

/// What a stage starts from.
#[derive(Debug, Default)]
pub struct Start {
    /// The snapshot; none if it starts afresh.
    pub last: Option<Manifest>,
    /// What `plan` says of it.
    pub reason: Option<Reason>,
}

/// Finds what a stage starts from. `key` is its key, if that is known yet.
///
/// # Errors
/// The store's folder cannot be read.
pub fn find(catalog: &Catalog, node: usize, current: Option<&Manifest>, key: Option<&str>, force: bool) -> Result<Start> {
    let (name, stage) = (catalog.name(node), &catalog.plan.stages[node]);
    let Some(what) = stage.goes_on_from else { return Ok(Start::default()) };
    let store = catalog.store.stage(name);
    let operator = catalog.plan.graph.nodes[node].spec.name();
    if force {
        let earlier = current.filter(|current| current.parts_of_key.operator == operator);
        let reason = earlier.map(|_| Reason::StartsAfresh { what, why: None });
        return Ok(Start { last: None, reason });
    }
    let shelf = store.shelf()?;
    let usable = |manifest: &Manifest| manifest.parts_of_key.operator == operator && shelf.damage(manifest).is_none();
    let Some(last) = candidates(&store, current, key)?.into_iter().find(usable) else { return Ok(Start::default()) };
    let fits = store.schema_of(&last).map_err(|error| format!("{error:#}")).and_then(|schema| stage.fits(&schema));
    let id = shown(&last.id);
    Ok(match fits {
        Ok(()) => {
            let reason = Reason::StartsFrom { what, snapshot: id.to_owned() };
            Start { last: Some(last), reason: Some(reason) }
        }
        Err(why) => {
            let reason = Reason::StartsAfresh { what, why: Some((id.to_owned(), why)) };
            Start { last: None, reason: Some(reason) }
        }
    })
}

/// Snapshots to start from, the best first.
fn candidates(store: &StageStore, current: Option<&Manifest>, key: Option<&str>) -> Result<Vec<Manifest>> {
    let mut found = Vec::new();
    match current {
        // The current snapshot has this key, so it is made anew: from the one that it started from.
        Some(current) if Some(current.key.as_str()) == key => match &current.started_from {
            None => return Ok(Vec::new()),
            Some(id) => found.extend(store.manifest(id).ok()),
        },
        Some(current) => found.push(current.clone()),
        None => {}
    }
    found.extend(store.snapshots()?);
    Ok(found)
}
