//! Names resolved: stages in the order in which they can run, each with its operator and its inputs.

mod inputs;
mod order;
mod placing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use anyhow::{Result, bail};
use tessera_operators::OPERATORS;
use tessera_operators::operator::Port;
use tessera_operators::spec::Spec;

use super::faults::{Fault, closest};
use super::file::{Declaration, PipelineFile, Text};
use inputs::Input;

pub use placing::place;

/// A pipeline's stages and edges.
pub struct Graph {
    /// The file that it was made from.
    pub file: PipelineFile,
    /// Each stage behind those that it reads.
    pub nodes: Vec<Node>,
    /// What is wrong so far.
    pub faults: Vec<Fault>,
}

/// A stage with its operator.
pub struct Node {
    /// Where it stands in the file's list.
    pub declared: usize,
    /// Its name.
    pub name: String,
    /// What it does.
    pub spec: &'static dyn Spec,
    /// What it reads.
    pub edges: Vec<Edge>,
    /// Whether it is computed when read.
    pub view: bool,
}

/// An input of a stage.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The input's name in the stage.
    pub name: String,
    /// The operator's port that it goes to.
    pub port: &'static Port,
    /// The stage that it comes from, as a place in [`Graph::nodes`].
    pub from: usize,
    /// Where the file says so.
    pub span: Range<usize>,
}

impl Graph {
    /// Resolves operators and inputs. Stages that cannot be resolved are left out, and their faults kept.
    pub fn resolve(mut file: PipelineFile) -> Self {
        let mut faults = std::mem::take(&mut file.faults);
        let specs: Vec<Option<&'static dyn Spec>> =
            file.stages.iter().map(|stage| operator(&stage.op, &mut faults)).collect();
        let mut of_stage = |(stage, spec): (&Declaration, &Option<&'static dyn Spec>)| {
            spec.map(|spec| inputs::resolve(&file, stage, spec, &mut faults)).unwrap_or_default()
        };
        let inputs: Vec<Vec<Input>> = file.stages.iter().zip(&specs).map(&mut of_stage).collect();
        let order = order::order(&file, &inputs, &mut faults);
        let mut nodes: Vec<Node> = Vec::new();
        let mut placed = BTreeMap::new();
        for declared in order {
            let (stage, Some(spec)) = (&file.stages[declared], specs[declared]) else { continue };
            faults.extend(needless(stage, spec));
            // An edge from a stage that has faults itself is left out: the plan binds nothing then.
            let edges = inputs[declared]
                .iter()
                .filter_map(|input| {
                    let from = *placed.get(&input.from)?;
                    Some(Edge { name: input.name.clone(), port: input.port, from, span: input.span.clone() })
                })
                .collect();
            let view = spec.view() && !stage.keep.as_ref().is_some_and(|keep| keep.0);
            placed.insert(declared, nodes.len());
            nodes.push(Node { declared, name: stage.name.text.clone(), spec, edges, view });
        }
        Self { file, nodes, faults }
    }

    /// The kept stages that a stage reads, through views as well, by the names of its inputs.
    pub fn inputs(&self, node: usize) -> BTreeMap<String, Vec<String>> {
        let kept = |from: usize| {
            let (mut found, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(at) = open.pop() {
                if self.nodes[at].view {
                    open.extend(self.nodes[at].edges.iter().map(|edge| edge.from));
                } else {
                    found.insert(at);
                }
            }
            found.into_iter().map(|at| self.nodes[at].name.clone()).collect()
        };
        self.nodes[node].edges.iter().map(|edge| (edge.name.clone(), kept(edge.from))).collect()
    }

    /// The seed of what a stage draws: its own, or the pipeline's.
    pub fn seed(&self, node: usize) -> u64 {
        self.declaration(node).seed.as_ref().map_or(self.file.seed, |seed| seed.0)
    }

    /// The stages of these names; a stage that is swept means its cells, `clusters@k=500` those with this value.
    ///
    /// # Errors
    /// One names none; the message names those that there are.
    pub fn named(&self, names: &[String]) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for name in names {
            match self.matching(name) {
                none if none.is_empty() => found.push(self.only(name)?),
                cells => found.extend(cells),
            }
        }
        Ok(found)
    }

    /// The stage of that name, or the only cell that it means.
    ///
    /// # Errors
    /// There is none, or several cells; the message names those that there are.
    pub fn only(&self, name: &str) -> Result<usize> {
        if let Some(node) = self.find(name) {
            return Ok(node);
        }
        let cells = self.matching(name);
        if let [only] = cells[..] {
            return Ok(only);
        }
        if !cells.is_empty() {
            let cells: Vec<&str> = cells.into_iter().map(|node| self.nodes[node].name.as_str()).collect();
            bail!("stage `{name}` is swept, and one cell is wanted here: {}", cells.join(", "));
        }
        let names: Vec<&str> = self.families().into_iter().map(|(name, _)| name).collect();
        let hint = closest(name, &names).map(|close| format!("did you mean `{close}`? ")).unwrap_or_default();
        bail!("unknown stage `{name}`; {hint}stages: {}", names.join(", "))
    }

    /// The stages of that name: one, or cells of a swept stage; `clusters@k=500` means those with this value.
    pub fn matching(&self, name: &str) -> Vec<usize> {
        let (base, values) = name.split_once('@').unwrap_or((name, ""));
        let wanted: Vec<&str> = values.split(',').filter(|value| !value.is_empty()).collect();
        let fits = |&node: &usize| {
            let stage = self.declaration(node);
            let known = || stage.cell.iter().filter(|coordinate| !coordinate.value.is_null());
            let has = |wanted: &&str| known().any(|coordinate| coordinate.to_string() == **wanted);
            stage.base() == base && wanted.iter().all(has)
        };
        let mut found: Vec<usize> = (0..self.nodes.len()).filter(fits).collect();
        found.sort_by_key(|&node| self.nodes[node].declared);
        found
    }

    /// The stages as the file names them, each with its cells; those of a stage that is not swept are itself.
    pub fn families(&self) -> Vec<(&str, Vec<usize>)> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&node| self.nodes[node].declared);
        let mut families: Vec<(&str, Vec<usize>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for node in order {
            let base = self.declaration(node).base();
            let place = *places.entry(base).or_insert_with(|| {
                families.push((base, Vec::new()));
                families.len() - 1
            });
            families[place].1.push(node);
        }
        families
    }

    /// A stage's place in the list.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The stage as it is written.
    pub fn declaration(&self, node: usize) -> &Declaration {
        &self.file.stages[self.nodes[node].declared]
    }

    /// The kept stages that read a stage, through views as well, by their names.
    pub fn readers(&self, of: usize) -> Vec<&str> {
        let mut through = BTreeSet::from([of]);
        let mut found = Vec::new();
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.edges.is_empty()) {
            if !node.edges.iter().any(|edge| through.contains(&edge.from)) {
                continue;
            }
            if node.view {
                through.insert(at);
            } else {
                found.push(node.name.as_str());
            }
        }
        found
    }

    /// The stages that some depend on, these included.
    pub fn upstream(&self, of: &[usize]) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = of.iter().copied().collect();
        for node in (0..self.nodes.len()).rev() {
            if all.contains(&node) {
                all.extend(self.nodes[node].edges.iter().map(|edge| edge.from));
            }
        }
        all
    }
}

/// Complaints about `keep` and `seed` where they say nothing.
fn needless(stage: &Declaration, spec: &'static dyn Spec) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some((_, span)) = stage.keep.as_ref().filter(|_| !spec.view()) {
        let message = format!("`keep` is for views, and `{}` always keeps its table", spec.name());
        faults.push(Fault::new(span.clone(), message));
    }
    if let Some((_, span)) = stage.seed.as_ref().filter(|_| !spec.seeded()) {
        let message = format!("stage `{}`: `{}` draws no random numbers, and needs no `seed`", stage.name.text, spec.name());
        let seeded: Vec<&str> = OPERATORS.iter().filter(|spec| spec.seeded()).map(|spec| spec.name()).collect();
        let fault = Fault::new(span.clone(), message).of(&stage.name.text);
        faults.push(fault.help(format!("those that do: {}", seeded.join(", "))));
    }
    faults
}

fn operator(op: &Text, faults: &mut Vec<Fault>) -> Option<&'static dyn Spec> {
    let found = tessera_operators::find(&op.text);
    if found.is_none() {
        let fault = Fault::new(op.span.clone(), format!("unknown operator `{}`", op.text));
        faults.push(fault.known(&op.text, OPERATORS.iter().map(|operator| operator.name())));
    }
    found
}
