//! What a snapshot's key is made of, as data: so that a later plan can say what changed, and a reader what a table is of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tessera_operators::spec::content_name;
use tessera_schemas::meta;

use super::Manifest;

/// Lines that a change tells of one by one.
const TOLD: usize = 3;

/// Fingerprints of a table's columns, by name.
pub type Columns = BTreeMap<String, String>;

/// All that a stage's key is made of; kept with the snapshot, so that a later plan can say what changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The operator's name.
    pub operator: String,
    /// Its version.
    pub version: u32,
    /// Its config after defaults, less what cannot change the result.
    pub config: Map<String, Value>,
    /// The seed, where it matters.
    pub seed: Option<u64>,
    /// Digests of the files that the config names, by their order, and of what else its operator uses, with the names of that.
    pub files: Vec<String>,
    /// Digests of what it reads: input to column to fingerprint.
    pub inputs: BTreeMap<String, Columns>,
    /// Of a source: the digest of its listing.
    pub listing: Option<String>,
}

impl KeyParts {
    /// The key: 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let text = serde_json::to_vec(self).expect("strings and numbers serialise");
        short(&blake3::hash(&text))
    }

    /// What differs from an earlier snapshot's parts.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let (was, is) = (old.operator.clone(), self.operator.clone());
        if was != is {
            return vec![Change::Operator { was, is }];
        }
        let mut changes = self.changes_of_config(old);
        let (files, lines) = self.files_since(old);
        // What differs is told by its name, if it has one.
        if !files.is_empty() || self.files != old.files && lines.is_empty() {
            changes.push(Change::Files(files));
        }
        if !lines.is_empty() {
            changes.push(Change::Lines(lines));
        }
        for (input, columns) in &self.inputs {
            match old.inputs.get(input) {
                None => changes.push(Change::NewInput(input.clone())),
                Some(before) if before != columns => {
                    let changed = |name: &&String| before.get(*name) != columns.get(*name);
                    let columns = columns.keys().filter(changed).cloned().collect();
                    changes.push(Change::Input { input: input.clone(), columns });
                }
                Some(_) => {}
            }
        }
        let gone = old.inputs.keys().filter(|input| !self.inputs.contains_key(*input));
        changes.extend(gone.map(|input| Change::NoInput(input.clone())));
        if self.listing != old.listing {
            changes.push(Change::Listing);
        }
        changes
    }

    /// The names of the files that differ, or are new, where digests have names behind them; and of files whose lines are known one by
    /// one, the lines that came, and those that went.
    fn files_since(&self, old: &Self) -> (Vec<String>, Vec<String>) {
        let (ours, theirs): (BTreeSet<&String>, BTreeSet<&String>) =
            (self.files.iter().collect(), old.files.iter().collect());
        let named = |entry: &&String| content_name(entry).map(|named| (named.name.to_owned(), named.is_line));
        let (mut files, mut lines) = (Vec::new(), Vec::new());
        for (name, is_line) in self.files.iter().filter(|entry| !theirs.contains(entry)).filter_map(|entry| named(&entry)) {
            if is_line { lines.push(name) } else { files.push(name) }
        }
        let gone = old.files.iter().filter(|entry| !ours.contains(entry)).filter_map(|entry| named(&entry));
        lines.extend(gone.filter(|(_, is_line)| *is_line).map(|(name, _)| format!("{name} no more")));
        (files, lines)
    }

    /// What differs in the operator's version, its config and its seed.
    pub fn changes_of_config(&self, old: &Self) -> Vec<Change> {
        let operator = || self.operator.clone();
        let mut changes = Vec::new();
        if self.version != old.version {
            changes.push(Change::Version { operator: operator(), was: old.version, is: self.version });
        }
        let keys: BTreeSet<&String> = self.config.keys().chain(old.config.keys()).collect();
        for key in keys {
            let (is, was) = (self.config.get(key).cloned(), old.config.get(key).cloned());
            if is != was {
                changes.push(Change::Key { operator: operator(), key: key.clone(), was, is });
            }
        }
        if self.seed != old.seed {
            changes.push(Change::Seed { was: old.seed, is: self.seed });
        }
        changes
    }
}

/// One thing that differs between what two keys are made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The operator; then nothing else is compared.
    Operator { was: String, is: String },
    /// The operator's version.
    Version { operator: String, was: u32, is: u32 },
    /// A value of the config; none where it was unset.
    Key { operator: String, key: String, was: Option<Value>, is: Option<Value> },
    /// The seed.
    Seed { was: Option<u64>, is: Option<u64> },
    /// The bytes of files that the config names, by their names as far as those are known.
    Files(Vec<String>),
    /// Lines of such a file that came or went, each as it is told.
    Lines(Vec<String>),
    /// An input that it did not read.
    NewInput(String),
    /// Columns of an input.
    Input { input: String, columns: Vec<String> },
    /// An input that it reads no more.
    NoInput(String),
    /// A source's files.
    Listing,
}

/// As `plan` says it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "unset".to_owned(), compact);
        let seed = |seed: &Option<u64>| seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        match self {
            Self::Operator { was, is } => write!(f, "operator {was} -> {is}"),
            Self::Version { operator, was, is } => write!(f, "{operator} version {was} -> {is}"),
            Self::Key { operator, key, was, is } => write!(f, "{operator}.{key} {} -> {}", value(was), value(is)),
            Self::Seed { was, is } => write!(f, "seed {} -> {}", seed(was), seed(is)),
            Self::Files(names) if names.is_empty() => f.write_str("a file that it names changed"),
            Self::Files(names) => write!(f, "{} changed", names.join(", ")),
            Self::Lines(lines) => {
                f.write_str(&lines[..lines.len().min(TOLD)].join(", "))?;
                match lines.len().saturating_sub(TOLD) {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more lines"),
                }
            }
            Self::NewInput(input) => write!(f, "new input {input}"),
            Self::Input { input, columns } => write!(f, "input {input} changed ({})", columns.join(", ")),
            Self::NoInput(input) => write!(f, "without input {input}"),
            Self::Listing => f.write_str("files changed"),
        }
    }
}

/// A value on one short line.
pub fn compact(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// Keys in one order, whatever order the file had.
pub fn sorted(map: &Map<String, Value>) -> Map<String, Value> {
    fn value(v: &Value) -> Value {
        match v {
            Value::Object(map) => Value::Object(sorted(map)),
            Value::Array(items) => Value::Array(items.iter().map(value).collect()),
            other => other.clone(),
        }
    }
    let ordered: BTreeMap<&String, &Value> = map.iter().collect();
    ordered.into_iter().map(|(key, v)| (key.clone(), value(v))).collect()
}

/// The first 128 bits of a hash, in hexadecimal digits.
pub fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}

/// Hashes texts, framed.
pub fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = Texts::default();
    texts.into_iter().for_each(|text| all.add(text));
    all.hash()
}

/// A hash of many texts, framed, of which none need be kept.
#[derive(Default)]
pub struct Texts {
    hasher: blake3::Hasher,
    /// What is not hashed yet: the hash is several times faster over many bytes at once.
    pending: Vec<u8>,
}

impl Texts {
    /// Bytes that are hashed at once.
    const AT_ONCE: usize = 64 << 10;

    /// Goes on with one more.
    pub fn add(&mut self, text: &str) {
        self.pending.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.pending.extend_from_slice(text.as_bytes());
        if self.pending.len() >= Self::AT_ONCE {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
    }

    /// The hash of all.
    pub fn hash(mut self) -> String {
        self.hasher.update(&self.pending);
        short(&self.hasher.finalize())
    }
}

/// What a field says beyond its values: its type, and metadata that readers act on.
pub fn kind(field: &Field) -> String {
    let mut entries: Vec<(&String, &String)> =
        field.metadata().iter().filter(|(key, _)| key.starts_with("tessera.") && key.as_str() != meta::STAGE).collect();
    entries.sort();
    format!("{:?} {entries:?}", field.data_type())
}

/// The name under which [`Columns`] have a column that has no digest, since it only says where something lies: it is known by the
/// snapshot that stores it. Queries, which may answer with its values, depend on it; operators, which see what lies there, do not.
pub fn stored(name: &str) -> String {
    format!("stored {name}")
}

/// The columns of a snapshot.
///
/// # Errors
/// Its digests are damaged.
pub fn of_snapshot(schema: &SchemaRef, manifest: &Manifest) -> anyhow::Result<Columns> {
    let digest = manifest.digest()?;
    let rows = digest.rows.to_string();
    let one = |field: &Arc<Field>| {
        let name = field.name();
        match digest.columns.get(name) {
            Some(sum) => (name.clone(), hash([name.as_str(), &kind(field), &rows, &sum.to_string()])),
            None => (stored(name), hash([name.as_str(), &manifest.id])),
        }
    };
    Ok(schema.fields().iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(config: Value) -> KeyParts {
        let Value::Object(config) = config else { panic!("not an object") };
        KeyParts {
            operator: "kmeans".into(),
            version: 1,
            config: sorted(&config),
            seed: Some(3),
            files: Vec::new(),
            inputs: BTreeMap::from([("features".into(), Columns::from([("feature".into(), "aa".into())]))]),
            listing: None,
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let one = parts(serde_json::json!({"k": 5, "init": {"b": 1, "a": 2}}));
        let two = parts(serde_json::json!({"init": {"a": 2, "b": 1}, "k": 5}));
        assert_eq!(one.key(), two.key());
        assert_ne!(one.key(), parts(serde_json::json!({"k": 6})).key());
    }

    /// A part that the key left out would let an old snapshot pass for a new one.
    #[test]
    fn every_part_is_in_the_key() {
        let whole = parts(serde_json::json!({"k": 5}));
        let changes: [fn(&mut KeyParts); 8] = [
            |parts| parts.operator = "pca".into(),
            |parts| parts.version = 2,
            |parts| parts.config = sorted(&serde_json::Map::new()),
            |parts| parts.seed = Some(4),
            |parts| parts.files.push("ff".into()),
            |parts| parts.inputs.clear(),
            |parts| drop(parts.inputs.get_mut("features").unwrap().insert("feature".into(), "bb".into())),
            |parts| parts.listing = Some("ee".into()),
        ];
        let mut keys = std::collections::BTreeSet::from([whole.key()]);
        for change in changes {
            let mut other = parts(serde_json::json!({"k": 5}));
            change(&mut other);
            keys.insert(other.key());
        }
        assert_eq!(keys.len(), 9);
    }

    #[test]
    fn changes_are_told() {
        let old = parts(serde_json::json!({"k": 1000, "restarts": 1}));
        let mut new = parts(serde_json::json!({"k": 2000, "restarts": 1}));
        new.seed = Some(4);
        new.inputs.get_mut("features").unwrap().insert("feature".into(), "bb".into());
        let told: Vec<String> = new.changes_since(&old).iter().map(Change::to_string).collect();
        assert_eq!(told, ["kmeans.k 1000 -> 2000", "seed 3 -> 4", "input features changed (feature)"]);
        assert!(old.changes_since(&old).is_empty());
    }

    #[test]
    fn lines_of_a_file_are_told_one_by_one() {
        let of = |files: &[&str]| {
            let files = files.iter().map(|entry| (*entry).to_owned()).collect();
            KeyParts { files, ..parts(serde_json::json!({})) }
        };
        let told = |new: &[&str], old: &[&str]| {
            of(new).changes_since(&of(old)).iter().map(Change::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(told(&["line a n: 1 named x", "line b n: 2 named y"], &["line a n: 1 named x"]), "n: 2 named y");
        assert_eq!(told(&["line c n: 1 named z"], &["line a n: 1 named x"]), "n: 1 named z, n: 1 named x no more");
        let five = ["line a 1", "line b 2", "line c 3", "line d 4", "line e 5"];
        assert_eq!(told(&five, &[]), "1, 2, 3, and 2 more lines");
        assert_eq!(told(&["aa rotate.py", "line a 1"], &["bb rotate.py"]), "rotate.py changed; 1");
        assert_eq!(told(&["aa"], &["bb"]), "a file that it names changed");
        assert_eq!(told(&["aa n.csv"], &["line a 1"]), "n.csv changed; 1 no more");
    }
}
