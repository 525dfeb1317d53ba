//! What is known of each cluster, and which one is to be named next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};
use tessera_datasets::local::joined;
use tessera_datasets::names::votes::{self, Known};
use tessera_datasets::names::{Action, Decision, Names, Subject};
use tessera_schemas::{clusters, ids};
use tokio::task::spawn_blocking;

use super::super::clusters::Clusters;
use super::super::failed::Failed;
use super::super::site::{Now, Site};
use crate::ask::page::answer::{literal, name as quoted, short};
use crate::ask::sql::cells::is_made;
use crate::store::names::{NamesFile, version};

/// Images nearest to the centre, and at random, by which a cluster is named.
const NEAREST: usize = 9;
const RANDOM: usize = 9;
/// Ids of one query.
const IDS: usize = 2000;

/// A stage that reads names of clusters: its place and its inputs' in the plan, and the file.
pub struct Labelling {
    pub node: usize,
    pub clusters: usize,
    pub assigned: usize,
    pub file: NamesFile,
}

/// A cluster.
pub struct Cluster {
    pub number: i64,
    /// Its images.
    pub size: f64,
    /// Its most frequent classes, where there are some, and of how many images.
    pub classes: Vec<(String, f64)>,
    /// What is known of it.
    pub known: Option<Known>,
    /// The decision about it, as it was read.
    pub decision: Option<Decision>,
    /// What tells that decision from others.
    pub version: String,
}

/// All clusters of a stage.
pub struct Labels {
    /// The key of their table.
    pub key: String,
    clusters: Vec<Cluster>,
    names: Names,
}

/// An image by which a cluster is named.
pub struct Looked {
    pub id: String,
    /// Whether it is one of the nearest to the centre.
    pub is_near: bool,
}

impl Labelling {
    /// Those of a pipeline.
    pub fn all(now: &Now) -> Vec<Self> {
        let graph = &now.catalog.plan.graph;
        let of = |(node, stage): (usize, &crate::declare::graph::Node)| {
            let (field, usual) = stage.spec.decisions()?;
            let input = |name: &str| stage.edges.iter().find(|edge| edge.name == name).map(|edge| edge.from);
            let path = graph.file.stages[stage.declared].config.get(field).and_then(|path| path.as_str()).unwrap_or(usual);
            let file = NamesFile::new(&joined(&graph.file.base, Path::new(path)));
            Some(Self { node, clusters: input("clusters")?, assigned: input("assigned")?, file })
        };
        graph.nodes.iter().enumerate().filter_map(of).collect()
    }

    /// That of a stage.
    ///
    /// # Errors
    /// It reads no names, or there is no such stage.
    pub fn named(now: &Now, name: &str) -> Result<Self, Failed> {
        let found = Self::all(now).into_iter().find(|stage| stage.name(now) == name);
        found.ok_or_else(|| Failed::missing(format!("`{name}` is no stage that reads names of clusters")))
    }

    /// The stage's name.
    pub fn name<'a>(&self, now: &'a Now) -> &'a str {
        now.catalog.name(self.node)
    }

    /// Its clusters; none where they are not made yet.
    ///
    /// # Errors
    /// A table or the file cannot be read.
    pub async fn labels(&self, site: &Site, now: &Now) -> Result<Option<Labels>, Failed> {
        if ![self.clusters, self.assigned].iter().all(|&node| is_made(&now.catalog, node)) {
            return Ok(None);
        }
        let key = self.key(site, now).await?;
        let file = self.file.clone();
        let names = spawn_blocking(move || file.read()).await.context("the file of names could not be read")??;
        let places = self.places(site, now, &votes::voters(&names, &key)).await?;
        let known = votes::known(&names, &key, &places);
        let found = Clusters::of(site, now, now.catalog.name(self.assigned)).await?;
        let clusters = found.facts.iter().map(|facts| {
            let number = facts.cluster as i32;
            let subject = Subject::Cluster { key: key.clone(), cluster: number };
            let decision = names.of(&subject).cloned();
            Cluster {
                number: facts.cluster,
                size: facts.size,
                classes: facts.classes.clone(),
                known: known.get(&number).cloned(),
                version: version(decision.as_ref()),
                decision,
            }
        });
        let clusters = clusters.collect();
        Ok(Some(Labels { key, clusters, names }))
    }

    /// The key of its table of clusters.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn key(&self, site: &Site, now: &Now) -> Result<String> {
        let table = quoted(now.catalog.name(self.clusters));
        let answer = site.answer(now, format!("SELECT cluster, centroid FROM {table} ORDER BY cluster")).await?;
        Ok(clusters::sorted(std::slice::from_ref(&answer.rows)).context("the table of clusters")?.key())
    }

    /// The clusters of some images, by their canonical ids.
    async fn places(&self, site: &Site, now: &Now, voters: &BTreeSet<String>) -> Result<HashMap<String, i32>> {
        let table = quoted(now.catalog.name(self.assigned));
        let mut places = HashMap::new();
        let all: Vec<&String> = voters.iter().collect();
        for some in all.chunks(IDS) {
            let list: Vec<String> = some.iter().map(|id| literal(id)).collect();
            let sql = format!("SELECT image_id, cluster FROM {table} WHERE canonical_id(image_id) IN ({})", list.join(", "));
            let answer = site.answer(now, sql).await?;
            let (images, numbers) = (answer.texts("image_id")?, answer.numbers("cluster")?);
            for (id, number) in images.iter().flatten().zip(numbers.values()) {
                places.insert(ids::canonical(id).into_owned(), *number as i32);
            }
        }
        Ok(places)
    }

    /// The images by which some clusters are named: the nearest to the centre, and others at random, the same each time.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn looked(&self, site: &Site, now: &Now, numbers: &[i64]) -> Result<HashMap<i64, Vec<Looked>>> {
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        let table = quoted(now.catalog.name(self.assigned));
        let list: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let sql = format!(
            "SELECT cluster, image_id, near, chance FROM (
  SELECT *, row_number() OVER (PARTITION BY cluster ORDER BY (near * 40503 + cluster * 30323) % 65536, near) AS chance FROM (
    SELECT cluster, image_id, row_number() OVER (PARTITION BY cluster ORDER BY distance, image_id) AS near
    FROM {table} WHERE cluster IN ({})))
WHERE near <= {NEAREST} OR chance <= {} ORDER BY cluster, near",
            list.join(", "),
            NEAREST + RANDOM
        );
        let answer = site.answer(now, sql).await?;
        let (clusters, images) = (answer.numbers("cluster")?, answer.texts("image_id")?);
        let (near, chance) = (answer.numbers("near")?, answer.numbers("chance")?);
        let mut found: HashMap<i64, Vec<Looked>> = HashMap::new();
        let mut others: BTreeMap<(i64, u64), &str> = BTreeMap::new();
        for row in 0..answer.len() {
            let (cluster, id) = (clusters.value(row) as i64, images.value(row));
            match near.value(row) as usize <= NEAREST {
                true => found.entry(cluster).or_default().push(Looked { id: id.to_owned(), is_near: true }),
                false => drop(others.insert((cluster, chance.value(row) as u64), id)),
            }
        }
        for ((cluster, _), id) in others {
            let all = found.entry(cluster).or_default();
            if all.len() < NEAREST + RANDOM {
                all.push(Looked { id: id.to_owned(), is_near: false });
            }
        }
        Ok(found)
    }
}

impl Cluster {
    /// How many images a name would say something of: those that are not named, less what is known of them.
    fn gain(&self) -> f64 {
        self.size * (1.0 - f64::from(self.known.as_ref().map_or(0.0, Known::certainty)))
    }

    /// Whether something holds of it: a name, a split, a mark.
    fn is_decided(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.action().is_some())
    }

    /// What some of its images were named.
    pub fn maybe(&self) -> Option<&str> {
        match &self.known {
            Some(Known::Unsure(Action::Name(name), _)) => Some(name.as_str()),
            _ => None,
        }
    }

    /// What holds of it, in words.
    pub fn words(&self) -> String {
        match self.known.as_ref().and_then(Known::action) {
            Some(Action::Name(name)) => name.as_str().to_owned(),
            Some(action) => action.to_string(),
            None => String::new(),
        }
    }

    /// Who said so.
    pub fn whence(&self) -> String {
        match (&self.known, &self.decision) {
            (Some(Known::Carried(_, share)), _) => {
                format!("carried, {} % of the votes", short((f64::from(*share) * 100.0).round()))
            }
            (_, Some(Decision { by, at, .. })) => {
                [by.as_str(), at].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        }
    }

    /// Whether it is one that is looked for.
    pub fn fits(&self, wanted: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(wanted);
        wanted.is_empty()
            || self.number.to_string() == wanted
            || has(&self.words())
            || self.maybe().is_some_and(has)
            || self.classes.iter().any(|(class, _)| has(class))
    }
}

impl Labels {
    /// The clusters without a name, those first of which a name says most.
    pub fn queue(&self) -> impl Iterator<Item = &Cluster> {
        let mut open: Vec<&Cluster> = self.clusters.iter().filter(|cluster| !cluster.is_decided()).collect();
        open.sort_by(|one, other| other.gain().total_cmp(&one.gain()).then(one.number.cmp(&other.number)));
        open.into_iter()
    }

    /// The others: those decided last first, and behind them what was carried.
    pub fn decided(&self) -> impl Iterator<Item = &Cluster> {
        let mut done: Vec<&Cluster> = self.clusters.iter().filter(|cluster| cluster.is_decided()).collect();
        done.sort_by(|one, other| {
            newest(one.decision.as_ref(), other.decision.as_ref()).then(one.number.cmp(&other.number))
        });
        done.into_iter()
    }

    /// All names that somebody gave, in the alphabet's order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.spellings().into_values().collect();
        names.sort();
        names
    }

    /// The names that were given last.
    pub fn recent(&self, most: usize) -> Vec<String> {
        let mut lines: Vec<&Decision> = self.names.all().iter().collect();
        lines.sort_by(|one, other| newest(Some(one), Some(other)));
        let (mut folds, mut recent) = (BTreeSet::new(), Vec::new());
        for decision in lines {
            if let Action::Name(name) = &decision.action
                && folds.insert(name.fold())
                && recent.len() < most
            {
                recent.push(name.as_str().to_owned());
            }
        }
        recent
    }

    /// How far it is, in a sentence.
    pub fn progress(&self) -> String {
        let mut folds = BTreeSet::new();
        let (mut named, mut clusters, mut all) = (0.0, 0, 0.0);
        for cluster in &self.clusters {
            all += cluster.size;
            if let Some(Action::Name(name)) = cluster.known.as_ref().and_then(Known::action) {
                folds.insert(name.fold());
                named += cluster.size;
                clusters += 1;
            }
        }
        let share = if all > 0.0 { (100.0 * named / all).floor() } else { 0.0 };
        let (names, count) =
            (if folds.len() == 1 { "name" } else { "names" }, if clusters == 1 { "cluster" } else { "clusters" });
        format!("{} {names} of {clusters} {count}, {share} % of images", folds.len())
    }
}

/// The newest decision first; of those of one time, in the order of lines.
fn newest(one: Option<&Decision>, other: Option<&Decision>) -> Ordering {
    let at = |decision: Option<&Decision>| decision.map(|decision| decision.at.clone());
    at(other).cmp(&at(one))
}
