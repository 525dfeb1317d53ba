//! Stages bound to each other: every schema known and every edge checked, before any image is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context as _, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value};
use tessera_datasets::Files;
use tessera_operators::operator::{BindError, Binding, ColumnKind, Inputs, QueryPlanner, RunError};
use tessera_operators::spec::{Bound, same_content};
use tessera_schemas::meta;

use crate::declare::faults::{Fault, Faults};
use crate::declare::graph::{Edge, Graph, Node, place};
use crate::declare::sweep;

/// A pipeline that can run.
pub struct Plan {
    /// Its stages and edges.
    pub graph: Graph,
    /// What binding found out, stage by stage as in [`Graph::nodes`].
    pub stages: Vec<BoundStage>,
}

/// What is known of a stage before it runs.
pub struct BoundStage {
    /// The table that it yields.
    pub schema: SchemaRef,
    /// The columns that its result depends on, by input.
    pub reads: BTreeMap<String, Vec<String>>,
    /// Its output columns that are its stream's, untouched.
    pub passes: BTreeSet<String>,
    /// Its config, as its key has it.
    pub config: Map<String, Value>,
    /// Files whose bytes are part of its key.
    pub files: Vec<PathBuf>,
    /// Whether its rows follow from their `image_id` as well.
    pub reads_ids: bool,
    /// Whether bad rows fail it.
    pub refuses_drops: bool,
    /// What it takes of its last published table to start from, if it does.
    pub goes_on_from: Option<&'static str>,
    /// What of it beside config and inputs its key has, once that was asked for.
    pub content: OnceLock<Vec<String>>,
    /// Whether it is known by its snapshot alone, as of a stage that the file does not declare: then nothing of it can be made.
    pub recorded: bool,
    /// The operator, until its kernel is made.
    pub operator: Mutex<Option<Box<dyn Bound>>>,
}

impl Plan {
    /// Binds every stage.
    ///
    /// # Errors
    /// Everything that is wrong with the file, its names, its edges and its stages.
    pub fn bind(mut graph: Graph, planner: &dyn QueryPlanner, files: &dyn Files) -> Result<Self, Faults> {
        let mut faults = std::mem::take(&mut graph.faults);
        let faulty: BTreeSet<usize> = (0..graph.nodes.len())
            .filter(|&node| {
                let stage = graph.declaration(node);
                let name = Some(&stage.name.text);
                let inside = |fault: &Fault| stage.places.values().any(|place| *place == fault.span);
                faults.iter().any(|fault| fault.stage.as_ref() == name || inside(fault))
            })
            .collect();
        let mut stages: Vec<Option<BoundStage>> = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let inputs = if faulty.contains(&index) { None } else { inputs(&graph, node, &stages, &mut faults) };
            let stage = graph.declaration(index);
            let bound = match inputs {
                Some(inputs) => bind(&graph, node, &inputs, (planner, files)).map(Some),
                // What is wrong with its keys can be told without its inputs.
                None => node.spec.check(stage.config.clone()).map(|()| None),
            };
            stages.push(bound.unwrap_or_else(|errors| {
                faults.extend(errors.into_iter().map(|error| place(stage, &graph.file.stages, error)));
                None
            }));
        }
        if faults.is_empty() {
            // Without faults every stage is bound.
            Ok(Self { stages: stages.into_iter().flatten().collect(), graph })
        } else {
            Err(Faults::new(&graph.file.path, &graph.file.text, sweep::fold(&graph.file.stages, faults)))
        }
    }
}

impl Plan {
    /// What operators say of their stages, before any kernel is made; each with its stage's place.
    ///
    /// # Errors
    /// A stage cannot do what it is asked for.
    pub fn notes(&self) -> Result<Vec<(usize, String)>> {
        let mut notes = Vec::new();
        for (node, stage) in self.stages.iter().enumerate() {
            let operator = stage.operator.lock().expect("nothing panics while it holds an operator");
            let said = operator.as_ref().map_or(Ok(Vec::new()), |operator| operator.notes());
            let said = said.with_context(|| format!("stage `{}`", self.graph.nodes[node].name))?;
            notes.extend(said.into_iter().map(|note| (node, note)));
        }
        Ok(notes)
    }
}

impl BoundStage {
    /// What its result follows from beside its config, the files that this names, and its inputs, as it was when this was asked first: all
    /// keys of a run have the same.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn content(&self) -> Result<Vec<String>, RunError> {
        if let Some(content) = self.content.get() {
            return Ok(content.clone());
        }
        let operator = self.operator.lock().expect("nothing panics while it holds an operator");
        let content = operator.as_ref().map_or(Ok(Vec::new()), |operator| operator.content())?;
        Ok(self.content.get_or_init(|| content).clone())
    }

    /// Refuses what that is by now, if it is something else. Says nothing once the stage's kernel was made.
    ///
    /// # Errors
    /// A file changed, or cannot be read any more.
    pub fn unchanged(&self) -> Result<(), RunError> {
        let operator = self.operator.lock().expect("nothing panics while it holds an operator");
        match (operator.as_ref(), self.content.get()) {
            (Some(operator), Some(content)) => same_content(content, &operator.content()?),
            _ => Ok(()),
        }
    }

    /// Whether an input of at most so many rows will do. Nothing is known of it once the stage's kernel was made.
    ///
    /// # Errors
    /// It will not; the error says why.
    pub fn enough(&self, input: &str, rows: u64) -> Result<(), BindError> {
        let operator = self.operator.lock().expect("nothing panics while it holds an operator");
        operator.as_ref().map_or(Ok(()), |operator| operator.enough(input, rows))
    }

    /// Whether an earlier table of the stage, of that schema, is one to start from.
    ///
    /// # Errors
    /// It is none; the message says why.
    pub fn fits(&self, last: &SchemaRef) -> Result<(), String> {
        let operator = self.operator.lock().expect("nothing panics while it holds an operator");
        operator.as_ref().map_or(Ok(()), |operator| operator.fits(last))
    }
}

/// The tables that a stage reads; nothing if one is not known, or lacks what the stage needs, which is told.
fn inputs(graph: &Graph, node: &Node, stages: &[Option<BoundStage>], faults: &mut Vec<Fault>) -> Option<Inputs<SchemaRef>> {
    let mut inputs = Inputs::default();
    let mut fits = true;
    for edge in &node.edges {
        let upstream = stages[edge.from].as_ref()?;
        let found = misfits(node, edge, &graph.nodes[edge.from].name, &upstream.schema);
        fits &= found.is_empty();
        faults.extend(found);
        inputs.0.insert(edge.name.clone(), upstream.schema.clone());
    }
    let missing = node.spec.inputs().iter().any(|port| port.required && !node.edges.iter().any(|edge| edge.port == port));
    (fits && !missing).then_some(inputs)
}

fn bind(
    graph: &Graph,
    node: &Node,
    inputs: &Inputs<SchemaRef>,
    (planner, files): (&dyn QueryPlanner, &dyn Files),
) -> Result<BoundStage, Vec<BindError>> {
    let config = graph.file.stages[node.declared].config.clone();
    let bound = node.spec.bind(config, &Binding { inputs, base: &graph.file.base, planner, files })?;
    Ok(BoundStage {
        schema: rooted(bound.schema(), &node.name),
        reads: node.edges.iter().map(|edge| (edge.name.clone(), bound.reads(&edge.name, edge.port))).collect(),
        passes: bound.passes().into_iter().collect(),
        config: bound.config().clone(),
        files: bound.files().to_vec(),
        reads_ids: bound.reads_ids(),
        refuses_drops: bound.refuses_drops(),
        goes_on_from: bound.goes_on_from(),
        content: OnceLock::new(),
        recorded: false,
        operator: Mutex::new(Some(bound)),
    })
}

/// A `source` column says whose data set its paths are relative to; readers find the folder by that.
fn rooted(schema: SchemaRef, stage: &str) -> SchemaRef {
    let root = |field: &Arc<Field>| match (field.name().as_str(), field.metadata().contains_key(meta::STAGE)) {
        ("source", false) => Arc::new(meta::with(field.as_ref().clone(), meta::STAGE, stage)),
        _ => field.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(root).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// What an input's port needs and its table does not have.
fn misfits(node: &Node, edge: &Edge, from: &str, schema: &SchemaRef) -> Vec<Fault> {
    let known = || {
        let column = |field: &Arc<Field>| format!("{} {}", field.name(), field.data_type());
        format!("`{from}` gives: {}", schema.fields().iter().map(column).collect::<Vec<_>>().join(", "))
    };
    let complain = |message: String| {
        Fault::new(edge.span.clone(), format!("stage `{}`: {message}", node.name)).of(&node.name).help(known())
    };
    edge.port
        .columns
        .iter()
        .filter_map(|column| {
            let needs = || format!("`{}` needs a column `{}`: {}", node.spec.name(), column.name, column.kind.describe());
            if column.kind == ColumnKind::Bytes {
                let located = schema.field_with_name("source").is_ok_and(|f| matches!(f.data_type(), DataType::Struct(_)));
                // Where bytes lie is in no key: by the digest alone is a changed image known.
                let known = schema.field_with_name("digest").is_ok_and(|f| f.data_type() == &DataType::Utf8);
                return match (located, known) {
                    (true, true) => None,
                    (true, false) => Some(complain(format!(
                        "`{}` needs a column `digest` beside `source`: it says which bytes an image has",
                        node.spec.name()
                    ))),
                    (false, _) => Some(complain(needs())),
                };
            }
            match schema.field_with_name(column.name) {
                Ok(field) if column.kind.accepts(field.data_type()) => None,
                Ok(field) => Some(complain(format!("{}, found {}", needs(), field.data_type()))),
                Err(_) => Some(complain(needs())),
            }
        })
        .collect()
}
