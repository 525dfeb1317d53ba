//! `names.csv`: what people decided about clusters, and about single images. It lies beside a pipeline file, and in git with it.
//!
//! A line is a decision, and lines are sorted, so that git merges what two people decided:
//!
//! ```csv
//! clusters,key,cluster,action,value,seen,by,at
//! clusters,b3:9f2c41d0a7e35b6812f4c9d07b1e6a53,17,name,dress,train/a.jpg;train/b.jpg,ana,2026-11-27T10:00:00Z
//! clusters,b3:9f2c41d0a7e35b6812f4c9d07b1e6a53,23,split,4,train/c.jpg;train/d.jpg,ana,2026-11-27T10:00:09Z
//! clusters,b3:9f2c41d0a7e35b6812f4c9d07b1e6a53,31,mixed,,train/e.jpg,ana,2026-11-27T10:00:12Z
//! image,,train/x.jpg,name,hat,,ana,2026-11-27T10:01:00Z
//! ```
//!
//! The first field is the stage whose clusters somebody looked at, or `image`; `key` is the fingerprint of that table of clusters
//! ([`clusters::key`](tessera_schemas::clusters::key)), and empty for an image. `seen` has the images that were on the screen, by which a
//! decision is carried to other clusters of the same images ([`votes`]). In ids, `\`, `;` and line breaks have a `\` before them. Two
//! different decisions about one cluster, or one image, are an error that names both lines.

mod field;
mod name;
mod read;
pub mod votes;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

pub use name::{LONGEST, Name};

/// The columns of the file.
pub const HEADER: &str = "clusters,key,cluster,action,value,seen,by,at";
/// The most parts that a cluster is split into.
pub const MOST_PARTS: u32 = 100;
/// The most bytes that a file may have.
pub const MOST_BYTES: u64 = 1 << 28;
/// The first field of a decision about an image.
const IMAGE: &str = "image";

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A cluster of the table with that key.
    Cluster {
        /// The key of the table of clusters.
        key: String,
        /// The cluster's number.
        cluster: i32,
    },
    /// An image, by its id.
    Image(String),
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its images show this.
    Name(Name),
    /// It is several things, and becomes so many clusters.
    Split(u32),
    /// It is several things, and stays as it is, without a name.
    Mixed,
}

/// A decision: a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The stage whose clusters were looked at; `image` for an image.
    pub stage: String,
    /// What it is about.
    pub subject: Subject,
    /// What was decided.
    pub action: Action,
    /// The images that were on the screen.
    pub seen: Vec<String>,
    /// Who decided; may be empty.
    pub by: String,
    /// When, such as `2026-11-27T10:00:00Z`; may be empty.
    pub at: String,
}

/// All decisions, sorted, one for each subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Decision>);

impl Action {
    /// Whether it says the same: names are compared without letters' case.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.fold() == other.fold(),
            _ => self == other,
        }
    }

    /// The fields `action` and `value`.
    pub fn fields(&self) -> (&'static str, String) {
        match self {
            Self::Name(name) => ("name", name.as_str().to_owned()),
            Self::Split(parts) => ("split", parts.to_string()),
            Self::Mixed => ("mixed", String::new()),
        }
    }
}

/// As messages say it behind the subject.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "named {name}"),
            Self::Split(parts) => write!(f, "split in {parts}"),
            Self::Mixed => f.write_str("marked as mixed"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { cluster, .. } => write!(f, "cluster {cluster}"),
            Self::Image(id) => write!(f, "image {id}"),
        }
    }
}

impl Decision {
    /// The order of lines: by stage, key and number, so that a decision has one place.
    fn order(&self, other: &Self) -> Ordering {
        self.stage.cmp(&other.stage).then_with(|| self.subject.cmp(&other.subject))
    }

    /// Its line, without a line's end.
    pub fn line(&self) -> String {
        let (key, subject) = match &self.subject {
            Subject::Cluster { key, cluster } => (key.as_str(), cluster.to_string()),
            Subject::Image(id) => ("", field::escaped(id)),
        };
        let seen: Vec<String> = self.seen.iter().map(|id| field::escaped(id)).collect();
        let (action, value) = self.action.fields();
        let fields = [&self.stage, key, &subject, action, &value, &seen.join(";"), &self.by, &self.at];
        fields.map(field::quoted).join(",")
    }

    /// Its key and number, if it is about a cluster.
    pub fn cluster(&self) -> Option<(&str, i32)> {
        match &self.subject {
            Subject::Cluster { key, cluster } => Some((key, *cluster)),
            Subject::Image(_) => None,
        }
    }
}

impl Names {
    /// Decisions in any order.
    ///
    /// # Errors
    /// Two of them are about one subject and differ: their places among the decisions.
    pub fn new(decisions: impl IntoIterator<Item = Decision>) -> Result<Self, (usize, usize)> {
        let mut kept: BTreeMap<Subject, (usize, Decision)> = BTreeMap::new();
        for (place, decision) in decisions.into_iter().enumerate() {
            match kept.get(&decision.subject) {
                Some((first, earlier)) if !earlier.action.is(&decision.action) => return Err((*first, place)),
                // Of one decision that two people made, the later line stays.
                Some((_, earlier)) if earlier.at >= decision.at => {}
                _ => drop(kept.insert(decision.subject.clone(), (place, decision))),
            }
        }
        let mut all: Vec<Decision> = kept.into_values().map(|(_, decision)| decision).collect();
        all.sort_by(Decision::order);
        Ok(Self(all))
    }

    /// All of them, in the order of their lines.
    pub fn all(&self) -> &[Decision] {
        &self.0
    }

    /// The decision about a subject.
    pub fn of(&self, subject: &Subject) -> Option<&Decision> {
        self.0.iter().find(|decision| decision.subject == *subject)
    }

    /// Puts a decision in the place of the one about its subject.
    pub fn put(&mut self, decision: Decision) {
        self.remove(&decision.subject);
        let place = self.0.partition_point(|other| other.order(&decision) == Ordering::Less);
        self.0.insert(place, decision);
    }

    /// Takes the decision about a subject away.
    pub fn remove(&mut self, subject: &Subject) -> Option<Decision> {
        let place = self.0.iter().position(|decision| decision.subject == *subject)?;
        Some(self.0.remove(place))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for decision in &self.0 {
            // A text takes whatever is written to it.
            let _ = writeln!(text, "{}", decision.line());
        }
        text
    }

    /// How each name is written, by what it is compared by: as most lines have it, and of as many the first in order.
    pub fn spellings(&self) -> HashMap<String, String> {
        let mut counts: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
        for decision in &self.0 {
            if let Action::Name(name) = &decision.action {
                *counts.entry(name.fold()).or_default().entry(name.as_str()).or_default() += 1;
            }
        }
        let most = |spellings: BTreeMap<&str, usize>| {
            let mut all = spellings.into_iter();
            let first = all.next().expect("a name is written in some way");
            all.fold(first, |most, next| if next.1 > most.1 { next } else { most }).0.to_owned()
        };
        counts.into_iter().map(|(fold, spellings)| (fold, most(spellings))).collect()
    }
}

#[cfg(test)]
mod tests;
