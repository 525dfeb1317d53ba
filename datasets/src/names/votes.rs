//! What is known of each cluster of a table: by a decision about that very table, or carried from an earlier one.
//!
//! A decision about the clusters with the same key holds as it is. Of any other, the images that were seen vote in the clusters that they
//! are in now, each by the newest decision that it was seen for. A cluster of three votes or more takes what two thirds of them say; else
//! it is not named. Cluster numbers of another table say nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tessera_schemas::ids;

use super::{Action, Decision, Names};

/// The fewest votes by which a name is carried.
pub const FEWEST_VOTES: usize = 3;

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Somebody decided about this very cluster.
    Given(Action),
    /// Images that were seen elsewhere say so: the share of the votes.
    Carried(Action, f32),
    /// Images that were seen elsewhere do not agree, or are too few: what most of them say, and its share of the votes, or of three.
    Unsure(Action, f32),
}

impl Known {
    /// From 0, where nothing is known, to 1.
    pub fn certainty(&self) -> f32 {
        match self {
            Self::Given(_) => 1.0,
            Self::Carried(_, share) | Self::Unsure(_, share) => *share,
        }
    }

    /// What holds of the cluster.
    pub fn action(&self) -> Option<&Action> {
        match self {
            Self::Given(action) | Self::Carried(action, _) => Some(action),
            Self::Unsure(..) => None,
        }
    }
}

/// The images whose clusters have to be known, in canonical form, to carry decisions to the table with that key.
pub fn voters(names: &Names, key: &str) -> BTreeSet<String> {
    let elsewhere = names.all().iter().filter(|decision| votes(decision, key));
    elsewhere.flat_map(|decision| &decision.seen).map(|id| ids::canonical(id).into_owned()).collect()
}

/// Whether the images seen for a decision vote: a split says what is to be done, and not what a cluster shows.
fn votes(decision: &Decision, key: &str) -> bool {
    decision.cluster().is_some_and(|(other, _)| other != key) && !matches!(decision.action, Action::Split(_))
}

/// What is known of the clusters of the table with that key; `clusters` has those of the [`voters`] that are in the table, by their
/// canonical ids.
pub fn known(names: &Names, key: &str, clusters: &HashMap<String, i32>) -> BTreeMap<i32, Known> {
    // Each image votes once, by its newest decision; of those of one time, by the last in the order of lines.
    let mut newest: HashMap<String, &Decision> = HashMap::new();
    for decision in names.all().iter().filter(|decision| votes(decision, key)) {
        for id in &decision.seen {
            let last = newest.entry(ids::canonical(id).into_owned()).or_insert(decision);
            if decision.at >= last.at {
                *last = decision;
            }
        }
    }
    // What is said of a cluster, by what it is compared by: how often, and by which decision first.
    let mut said: BTreeMap<i32, BTreeMap<String, (usize, &Action)>> = BTreeMap::new();
    for (id, decision) in newest {
        if let Some(&cluster) = clusters.get(&id) {
            let fold = if let Action::Name(name) = &decision.action { name.fold() } else { String::new() };
            said.entry(cluster).or_default().entry(fold).or_insert((0, &decision.action)).0 += 1;
        }
    }
    let spellings = names.spellings();
    let mut known = BTreeMap::new();
    for (cluster, votes) in said {
        let all: usize = votes.values().map(|vote| vote.0).sum();
        let (fold, (most, action)) = votes.iter().fold(None, largest).expect("a cluster is there for its votes");
        let share = *most as f32 / all.max(FEWEST_VOTES) as f32;
        let action = spelt(action, fold, &spellings);
        let is_carried = all >= FEWEST_VOTES && 3 * most >= 2 * all;
        known.insert(cluster, if is_carried { Known::Carried(action, share) } else { Known::Unsure(action, share) });
    }
    for decision in names.all() {
        if let Some((_, cluster)) = decision.cluster().filter(|(own, _)| *own == key) {
            let fold = if let Action::Name(name) = &decision.action { name.fold() } else { String::new() };
            known.insert(cluster, Known::Given(spelt(&decision.action, &fold, &spellings)));
        }
    }
    known
}

/// The entry of most votes; of as many, the first.
fn largest<'a, 'b>(
    best: Option<(&'a String, &'a (usize, &'b Action))>,
    next: (&'a String, &'a (usize, &'b Action)),
) -> Option<(&'a String, &'a (usize, &'b Action))> {
    best.filter(|best| best.1.0 >= next.1.0).or(Some(next))
}

/// A name as most lines write it.
fn spelt(action: &Action, fold: &str, spellings: &HashMap<String, String>) -> Action {
    match (action, spellings.get(fold)) {
        (Action::Name(name), Some(spelling)) => Action::Name(name.spelt(spelling)),
        _ => action.clone(),
    }
}
