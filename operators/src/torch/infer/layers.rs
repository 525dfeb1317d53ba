//! The `layer` key: a name, or a list of names.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, de};
use tessera_schemas::features;

use super::super::network::Name;
use crate::operator::BindError;

/// The layers asked for, and whether as a list: then their columns have their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// One, as the column `feature`.
    One(String),
    /// Some, each as a column of its name.
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Layers;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a layer's name, or a list of names")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Layers, E> {
                Ok(Layers::One(name.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<Layers, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element()? {
                    all.push(name);
                }
                Ok(Layers::Several(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Layers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(name) => serializer.serialize_str(name),
            Self::Several(names) => serializer.collect_seq(names),
        }
    }
}

impl Layers {
    /// Their names.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    /// The key of the `i`th name, and its column.
    pub fn place(&self, i: usize) -> (String, &str) {
        match self {
            Self::One(_) => ("layer".to_owned(), features::FEATURE),
            Self::Several(names) => (format!("layer[{i}]"), &names[i]),
        }
    }

    /// What is wrong with them, for a network that has those.
    pub fn faults(&self, known: &[&str], network: Name) -> Vec<BindError> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, name) in self.names().iter().enumerate() {
            let (key, column) = self.place(i);
            if !known.contains(&name.as_str()) {
                let fault = BindError::key(&key, format!("`{}` has no layer `{name}`", network.text()));
                faults.push(fault.help(format!("known: {}", known.join(", "))));
            } else if !seen.insert(name) {
                faults.push(BindError::key(&key, format!("the layer `{column}` is there twice")));
            }
        }
        if self.names().is_empty() {
            faults.push(BindError::key("layer", "names no layer").help(format!("known: {}", known.join(", "))));
        }
        faults
    }
}
