//! Keys: the fingerprints that decide whether a snapshot or a part can be reused, and why not.
//!
//! A stage's key covers its operator and version, its config after defaults less what cannot change the result, the columns
//! that it reads of each input (and, of a map that keeps its table, those that it hands on), and the seed if it draws random numbers.
//! A column of a snapshot is known by its digest; a
//! column of a view by the key of the view (its recipe), or, where the view hands it on, by the input's column.

use std::collections::BTreeMap;

use arrow::datatypes::{Field, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tessera_operators::operator::PortKind;
use tessera_schemas::digest::TableDigest;
use tessera_schemas::{BYTES, meta};

use crate::graph::{Edge, Node};
use crate::plan::BoundStage;

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
    /// Digests of the files that the config names, by their order.
    pub files: Vec<String>,
    /// Digests of what it reads: input to column to fingerprint.
    pub inputs: BTreeMap<String, Columns>,
    /// Of a source: the digest of its listing.
    pub listing: Option<String>,
}

impl KeyParts {
    /// The parts for a stage, given its inputs' columns.
    pub fn new(node: &Node, stage: &BoundStage, seed: u64, files: Vec<String>, inputs: &BTreeMap<String, Columns>) -> Self {
        let read = |(input, columns): (&String, &Columns)| {
            let names = stage.reads.get(input).into_iter().flatten();
            let streamed = |edge: &Edge| edge.name == *input && edge.port.kind == PortKind::Stream;
            // A view's columns are known one by one; a snapshot has copies of what it hands on.
            let copied = (!node.view && node.edges.iter().any(streamed)).then_some(&stage.passes);
            // The bytes of an image are known by the digest that its listing has.
            let source = |name: &String| if name == BYTES { "digest".to_owned() } else { name.clone() };
            let names = names.chain(copied.into_iter().flatten()).map(source);
            let read = names.filter_map(|name| Some((name.clone(), columns.get(&name)?.clone()))).collect();
            (input.clone(), read)
        };
        Self {
            operator: node.spec.name().to_owned(),
            version: node.spec.version(),
            config: sorted(&stage.config),
            seed: node.spec.seeded().then_some(seed),
            files,
            inputs: inputs.iter().map(read).collect(),
            listing: None,
        }
    }

    /// The key: 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let text = serde_json::to_vec(self).expect("strings and numbers serialise");
        short(&blake3::hash(&text))
    }

    /// What differs from an earlier snapshot's parts, as `plan` says it.
    pub fn changes_since(&self, stage: &str, old: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.operator != old.operator {
            return vec![format!("{stage}: operator {} -> {}", old.operator, self.operator)];
        }
        if self.version != old.version {
            changes.push(format!("{stage}: {} version {} -> {}", self.operator, old.version, self.version));
        }
        let keys: std::collections::BTreeSet<&String> = self.config.keys().chain(old.config.keys()).collect();
        for key in keys {
            let (new, was) = (self.config.get(key), old.config.get(key));
            if new != was {
                let show = |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), compact);
                changes.push(format!("{stage}: {}.{key} {} -> {}", self.operator, show(was), show(new)));
            }
        }
        if self.seed != old.seed {
            let show = |seed: Option<u64>| seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
            changes.push(format!("{stage}: seed {} -> {}", show(old.seed), show(self.seed)));
        }
        if self.files != old.files {
            changes.push(format!("{stage}: a file that it names changed"));
        }
        for (input, columns) in &self.inputs {
            match old.inputs.get(input) {
                None => changes.push(format!("{stage}: new input {input}")),
                Some(before) if before != columns => {
                    let changed = |name: &&String| before.get(*name) != columns.get(*name);
                    let names: Vec<&str> = columns.keys().filter(changed).map(String::as_str).collect();
                    changes.push(format!("{stage}: input {input} changed ({})", names.join(", ")));
                }
                Some(_) => {}
            }
        }
        changes.extend(
            old.inputs.keys().filter(|i| !self.inputs.contains_key(*i)).map(|i| format!("{stage}: without input {i}")),
        );
        if self.listing != old.listing {
            changes.push(format!("{stage}: files changed"));
        }
        changes
    }
}

/// A value on one short line.
fn compact(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// Keys in one order, whatever order the file had.
fn sorted(map: &Map<String, Value>) -> Map<String, Value> {
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
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    short(&hasher.finalize())
}

/// What a field says beyond its values: its type, and metadata that readers act on.
fn kind(field: &Field) -> String {
    let mut entries: Vec<(&String, &String)> =
        field.metadata().iter().filter(|(key, _)| key.starts_with("tessera.") && key.as_str() != meta::STAGE).collect();
    entries.sort();
    format!("{:?} {entries:?}", field.data_type())
}

/// The columns of a snapshot.
pub fn of_snapshot(schema: &SchemaRef, digest: &TableDigest) -> Columns {
    let rows = digest.rows.to_string();
    schema
        .fields()
        .iter()
        .filter_map(|field| {
            let sum = digest.columns.get(field.name())?.to_string();
            Some((field.name().clone(), hash([field.name().as_str(), &kind(field), &rows, &sum])))
        })
        .collect()
}

/// The columns of a view: its recipe, or what it hands on.
pub fn of_view(key: &str, stage: &BoundStage, stream: &Columns) -> Columns {
    let one = |field: &std::sync::Arc<Field>| {
        let name = field.name();
        let passed = stage.passes.contains(name).then(|| stream.get(name)).flatten();
        let fingerprint = match passed {
            Some(column) => hash(["passed", key, column]),
            None => hash(["computed", key, name, &kind(field)]),
        };
        (name.clone(), fingerprint)
    };
    stage.schema.fields().iter().map(one).collect()
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
        assert_eq!(
            new.changes_since("clusters", &old),
            ["clusters: kmeans.k 1000 -> 2000", "clusters: seed 3 -> 4", "clusters: input features changed (feature)"]
        );
        assert!(old.changes_since("clusters", &old).is_empty());
    }
}
