//! The `layer` key: a name, or a list of names.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::features;

use super::super::network::Name;
use crate::names::Names;
use crate::operator::BindError;

/// The layers asked for: one, as the column `feature`, or some, each as a column of its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(transparent)]
pub struct Layers(Names);

impl Layers {
    /// Their names.
    pub fn names(&self) -> &[String] {
        self.0.all()
    }

    /// The key of the `i`th name, and its column.
    pub fn place(&self, i: usize) -> (String, &str) {
        match &self.0 {
            Names::One(_) => ("layer".to_owned(), features::FEATURE),
            Names::Several(names) => (format!("layer[{i}]"), &names[i]),
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
