//! What is new: what a run changed of the tables that people look at.
//!
//! Compared are two snapshots of each stage that has another one now: of data sets, which images are new, gone or have other bytes; of assignments, how many
//! images are new, in which clusters, and how many are in another cluster than before; of all, which images were newly left out. Parts that both
//! list are not read, and of the others only ids and the columns that say so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;
use tessera_schemas::clusters::CLUSTER;
use tessera_schemas::digest::{self, Digest};
use tessera_schemas::{IMAGE_ID, int32, text};

use crate::engine::catalog::Catalog;
use crate::store::{DroppedRow, Manifest, Part};

/// Columns of a table of assignments.
const ASSIGNMENTS: usize = 5;

/// What is new.
#[derive(Debug, Default, Serialize)]
pub struct News {
    /// Of data sets and assignments that changed, in the order of the stages.
    pub stages: Vec<StageNews>,
    /// Images that are left out by now and were not before.
    pub dropped: Vec<DroppedRow>,
    /// Stages whose earlier table cannot be compared with, and why.
    #[serde(skip)]
    pub untold: Vec<(String, anyhow::Error)>,
}

/// What is new in one stage's table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StageNews {
    /// The stage.
    pub stage: String,
    /// Rows with an `image_id` that it did not have.
    pub new: u64,
    /// Rows with an `image_id` that it has no longer.
    pub gone: u64,
    /// Of a data set: rows that say something else of the same `image_id`, such as that a file has other bytes.
    pub changed: Option<u64>,
    /// Of assignments: rows that are in another cluster than before.
    pub moved: Option<u64>,
    /// Of assignments: how many of the new rows each cluster has, the most first.
    pub clusters: Vec<Arrivals>,
}

/// New rows of a cluster.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// Its number.
    pub cluster: i32,
    /// How many.
    pub new: u64,
}

/// The columns of a table by which its rows are compared.
struct Compared {
    columns: Vec<String>,
    has_clusters: bool,
}

impl Compared {
    /// Those of a data set's or an assignments' table; none of other tables.
    fn of(schema: &SchemaRef, is_source: bool) -> Option<Self> {
        let has = |name: &str| schema.column_with_name(name).is_some();
        if !has(IMAGE_ID) {
            return None;
        }
        // A table that hands on another's assignments beside columns of its own says the same of them.
        if has(CLUSTER) && has("second_cluster") && schema.fields().len() == ASSIGNMENTS {
            return Some(Self { columns: vec![CLUSTER.to_owned()], has_clusters: true });
        }
        let is_flat = |kind: &DataType| !kind.is_nested() && !kind.is_binary();
        let columns = if has("digest") && has("source") {
            vec!["digest".to_owned()]
        } else {
            let flat = schema.fields().iter().filter(|field| is_flat(field.data_type()) && field.name() != IMAGE_ID);
            flat.map(|field| field.name().clone()).collect()
        };
        is_source.then_some(Self { columns, has_clusters: false })
    }
}

/// What is new in stages of a catalog, whose tables are known, since each had another snapshot, if it had one.
pub fn since(catalog: &Catalog, changed: &[(&str, Option<&str>)]) -> News {
    let (mut news, mut left_out, mut was_left_out) = (News::default(), BTreeSet::new(), BTreeSet::new());
    for (at, node) in catalog.plan.graph.nodes.iter().enumerate() {
        let Some((name, was)) = changed.iter().find(|(name, _)| *name == node.name) else { continue };
        let Some(now) = catalog.table(at).and_then(|table| table.manifest) else { continue };
        let compared = Compared::of(&catalog.plan.stages[at].schema, node.spec.inputs().is_empty());
        let tell = || -> Result<()> {
            let was = was.map(|was| catalog.store.stage(name).manifest(was)).transpose()?;
            left_out.extend(now.dropped().into_iter().cloned());
            was_left_out.extend(was.iter().flat_map(|was| was.dropped()).cloned());
            if let Some(compared) = compared {
                news.stages.push(of_stage(catalog, was.as_ref(), &now, &compared)?);
            }
            Ok(())
        };
        if let Err(error) = tell() {
            news.untold.push(((*name).to_owned(), error));
        }
    }
    news.dropped = left_out.difference(&was_left_out).cloned().collect();
    news
}

fn of_stage(catalog: &Catalog, was: Option<&Manifest>, now: &Manifest, compared: &Compared) -> Result<StageNews> {
    let store = catalog.store.stage(&now.stage);
    let contents = |manifest: &Manifest| manifest.parts.iter().map(Part::content).collect::<BTreeSet<_>>();
    let earlier = was.map(contents).unwrap_or_default();
    let stayed = contents(now);
    let wanted: Vec<&str> = compared.columns.iter().map(String::as_str).chain([IMAGE_ID]).collect();
    // Of each row that may be gone, what it says.
    let mut open: HashMap<String, Option<Digest>> = HashMap::new();
    for part in was.iter().flat_map(|was| &was.parts).filter(|part| !stayed.contains(&part.content())) {
        let rows = store.read_columns(part, &wanted)?;
        let has_all = compared.columns.iter().all(|name| rows.schema().column_with_name(name).is_some());
        let says = if has_all { digest::rows(&rows, &compared.columns)? } else { Vec::new() };
        let ids = text(&rows, IMAGE_ID)?.iter().flatten();
        open.extend(ids.enumerate().map(|(at, id)| (id.to_owned(), says.get(at).copied())));
    }
    let (mut new, mut other, mut clusters) = (0, 0, BTreeMap::<i32, u64>::new());
    for part in now.parts.iter().filter(|part| !earlier.contains(&part.content())) {
        let rows = store.read_columns(part, &wanted)?;
        let says = digest::rows(&rows, &compared.columns)?;
        let numbers = if compared.has_clusters { Some(int32(&rows, CLUSTER)?) } else { None };
        for (at, id) in text(&rows, IMAGE_ID)?.iter().flatten().enumerate() {
            match open.remove(id) {
                Some(said) => other += u64::from(said.is_some_and(|said| said != says[at])),
                None => {
                    new += 1;
                    if let Some(numbers) = numbers {
                        *clusters.entry(numbers.value(at)).or_default() += 1;
                    }
                }
            }
        }
    }
    let mut clusters: Vec<Arrivals> = clusters.into_iter().map(|(cluster, new)| Arrivals { cluster, new }).collect();
    clusters.sort_by_key(|arrivals| std::cmp::Reverse(arrivals.new));
    Ok(StageNews {
        stage: now.stage.clone(),
        new,
        gone: open.len() as u64,
        changed: (!compared.has_clusters).then_some(other),
        moved: compared.has_clusters.then_some(other),
        clusters,
    })
}
