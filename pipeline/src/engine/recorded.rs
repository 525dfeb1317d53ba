//! Stages as the store has them: for a reader whose pipeline file cannot be bound, or names them no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::datatypes::Schema;
use tessera_operators::operator::PortKind;

use crate::declare::file::{Declaration, PipelineFile, Text};
use crate::declare::graph::{Edge, Graph, Node};
use crate::declare::plan::{BoundStage, Plan};
use crate::declare::sweep;
use crate::store::Manifest;
use crate::store::generation::Generation;

/// A plan of what a generation has, none of it bound: its tables can be read, and nothing can be made.
pub fn plan(file: PipelineFile, generation: &Generation) -> Plan {
    let mut plan = Plan { graph: Graph { file, nodes: Vec::new(), faults: Vec::new() }, stages: Vec::new() };
    generation.in_order().into_iter().for_each(|manifest| add(&mut plan, manifest));
    sweep::recall(&mut plan.graph.file);
    plan
}

/// Adds the stages that a plan does not have (any more). Cells of sweeps are left out, for a table of all cells means those of the file.
pub fn extend(plan: &mut Plan, generation: &Generation) {
    let known: BTreeSet<String> = plan.graph.families().into_iter().map(|(name, _)| name.to_owned()).collect();
    let is_new = |manifest: &&Arc<Manifest>| !known.contains(sweep::base(&manifest.stage)) && !manifest.stage.contains('@');
    generation.in_order().into_iter().filter(is_new).for_each(|manifest| add(plan, manifest));
}

fn add(plan: &mut Plan, manifest: &Manifest) {
    let parts = &manifest.parts_of_key;
    // An operator that there is no more makes nothing, and its table is read like any other.
    let Some(spec) = tessera_operators::find(&parts.operator) else { return };
    let text = |text: &str| Text { text: text.to_owned(), span: 0..0 };
    let edge = |(input, from): (&String, &String)| {
        let port = spec.inputs().iter().find(|port| port.name == input || port.kind == PortKind::Named)?;
        Some(Edge { name: input.clone(), port, from: plan.graph.find(from)?, span: 0..0 })
    };
    let inputs = || manifest.inputs.iter().flat_map(|(input, stages)| stages.iter().map(move |from| (input, from)));
    let edges = inputs().filter_map(edge).collect();
    let graph = &mut plan.graph;
    graph.nodes.push(Node { declared: graph.file.stages.len(), name: manifest.stage.clone(), spec, edges, view: false });
    graph.file.stages.push(Declaration {
        name: text(&manifest.stage),
        op: text(&parts.operator),
        input: None,
        inputs: inputs().map(|(input, from)| (text(input), text(from))).collect(),
        keep: None,
        seed: None,
        config: parts.config.clone(),
        set: BTreeSet::new(),
        places: BTreeMap::new(),
        cell: Vec::new(),
    });
    plan.stages.push(BoundStage {
        schema: manifest.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty())),
        reads: BTreeMap::new(),
        passes: BTreeSet::new(),
        config: parts.config.clone(),
        files: Vec::new(),
        reads_ids: false,
        refuses_drops: false,
        goes_on_from: None,
        content: OnceLock::new(),
        recorded: true,
        operator: Mutex::new(None),
    });
}
