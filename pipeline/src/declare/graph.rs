//! Names resolved: stages in the order in which they can run, each with its operator and its inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use anyhow::{Result, bail};
use tessera_operators::OPERATORS;
use tessera_operators::operator::{At, BindError, Port, PortKind};
use tessera_operators::spec::Spec;

use super::faults::{Fault, closest};
use super::file::{Declaration, PipelineFile, Text};

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
        let inputs: Vec<Vec<Input>> = file
            .stages
            .iter()
            .zip(&specs)
            .map(|(stage, spec)| spec.map(|spec| inputs(&file, stage, spec, &mut faults)).unwrap_or_default())
            .collect();
        let order = order(&file, &inputs, &mut faults);
        let mut nodes: Vec<Node> = Vec::new();
        let mut placed = BTreeMap::new();
        for declared in order {
            let (stage, Some(spec)) = (&file.stages[declared], specs[declared]) else { continue };
            if let Some((_, span)) = stage.keep.as_ref().filter(|_| !spec.view()) {
                let fault =
                    Fault::new(span.clone(), format!("`keep` is for views, and `{}` always keeps its table", spec.name()));
                faults.push(fault);
            }
            // An edge from a stage that has faults itself is left out: the plan binds nothing then.
            let edges = inputs[declared]
                .iter()
                .filter_map(|input| {
                    let from = *placed.get(&input.from)?;
                    Some(Edge { name: input.name.clone(), port: input.port, from, span: input.span.clone() })
                })
                .collect();
            if let Some((_, span)) = stage.seed.as_ref().filter(|_| !spec.seeded()) {
                let message =
                    format!("stage `{}`: `{}` draws no random numbers, and needs no `seed`", stage.name.text, spec.name());
                let seeded = OPERATORS.iter().filter(|spec| spec.seeded()).map(|spec| spec.name());
                faults.push(
                    Fault::new(span.clone(), message)
                        .of(&stage.name.text)
                        .help(format!("those that do: {}", seeded.collect::<Vec<_>>().join(", "))),
                );
            }
            let view = spec.view() && !stage.keep.as_ref().is_some_and(|keep| keep.0);
            placed.insert(declared, nodes.len());
            nodes.push(Node { declared, name: stage.name.text.clone(), spec, edges, view });
        }
        for (stage, spec) in file.stages.iter().zip(&specs) {
            if let Some(Err(errors)) = spec.map(|spec| spec.check(stage.config.clone())) {
                faults.extend(errors.into_iter().map(|error| place(stage, error)));
            }
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

/// An operator's complaint as a fault of the file.
pub fn place(stage: &Declaration, error: BindError) -> Fault {
    let name = &stage.name.text;
    let span = match &error.at {
        At::Stage => stage.name.span.clone(),
        At::Unknown(key) => stage.place_of_key(key),
        At::Key(path) => stage.place(path),
        At::Input(port) => input_span(stage, port),
    };
    let key = match &error.at {
        At::Stage => None,
        At::Key(path) | At::Unknown(path) => path.split(['.', '[']).next(),
        At::Input(_) => ["input", "inputs"].into_iter().find(|key| stage.set.contains(*key)),
    };
    let given = key.filter(|key| stage.set.contains(*key)).map(|key| format!(" (from --set {}.{key})", stage.base()));
    let mut fault = Fault::new(span, format!("stage `{name}`: {}{}", error.message, given.unwrap_or_default())).of(name);
    fault.help = error.help;
    if let At::Unknown(key) = &error.at {
        let fields = tessera_operators::find(&stage.op.text).map(Spec::fields).unwrap_or_default();
        let seed = tessera_operators::find(&stage.op.text).is_some_and(Spec::seeded).then_some("seed");
        let general = ["op", "input", "inputs", "keep"].into_iter().chain(seed);
        return Fault { help: None, ..fault }.known(key, fields.iter().copied().chain(general));
    }
    fault
}

fn input_span(stage: &Declaration, port: &str) -> Range<usize> {
    let named = stage.inputs.iter().find(|(name, _)| name.text == port).map(|(_, from)| from);
    named.or(stage.input.as_ref()).map_or_else(|| stage.name.span.clone(), |from| from.span.clone())
}

fn operator(op: &Text, faults: &mut Vec<Fault>) -> Option<&'static dyn Spec> {
    let found = tessera_operators::find(&op.text);
    if found.is_none() {
        let fault = Fault::new(op.span.clone(), format!("unknown operator `{}`", op.text));
        faults.push(fault.known(&op.text, OPERATORS.iter().map(|operator| operator.name())));
    }
    found
}

struct Input {
    name: String,
    port: &'static Port,
    from: usize,
    span: Range<usize>,
}

/// The inputs of one stage, names resolved to ports and stages.
fn inputs(file: &PipelineFile, stage: &Declaration, spec: &'static dyn Spec, faults: &mut Vec<Fault>) -> Vec<Input> {
    let name = &stage.name.text;
    let ports = spec.inputs();
    let describe = || match ports {
        [] => format!("`{}` reads no other stage", spec.name()),
        [port] if port.kind == PortKind::Named => format!("`{}` reads any stages, by names of your choice", spec.name()),
        _ => {
            let one = |port: &Port| format!("{}{}", port.name, if port.required { "" } else { " (optional)" });
            format!("inputs of `{}`: {}", spec.name(), ports.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    };
    let mut found: Vec<Input> = Vec::new();
    let mut pairs: Vec<(Option<&Text>, &Text)> = stage.inputs.iter().map(|(input, from)| (Some(input), from)).collect();
    if let Some(input) = &stage.input {
        if !stage.inputs.is_empty() {
            let fault = Fault::new(input.span.clone(), format!("stage `{name}` has both `input` and `inputs`")).of(name);
            faults.push(fault.help("write all of them in `inputs = { … }`"));
        }
        pairs.push((None, input));
    }
    for (input, from) in pairs {
        let upstream = file.stages.iter().position(|other| other.name.text == from.text);
        if upstream.is_none() {
            let mut names: Vec<&str> =
                file.stages.iter().map(Declaration::base).filter(|other| *other != stage.base()).collect();
            names.dedup();
            faults.push(
                Fault::new(from.span.clone(), format!("stage `{name}`: unknown input stage `{}`", from.text))
                    .of(name)
                    .known(&from.text, names),
            );
        }
        let required: Vec<&'static Port> = ports.iter().filter(|port| port.required).collect();
        let (port, local) = match (input, ports) {
            (None, [port]) if port.kind == PortKind::Named => (Some(port), from.text.clone()),
            (Some(input), [port]) if port.kind == PortKind::Named => (Some(port), input.text.clone()),
            (Some(input), _) => (ports.iter().find(|port| port.name == input.text), input.text.clone()),
            (None, _) => match required.as_slice() {
                [port] => (Some(*port), port.name.to_owned()),
                // Where none has to be there, the first is what is mostly meant.
                [] => ports.first().map_or((None, String::new()), |port| (Some(port), port.name.to_owned())),
                _ => (None, String::new()),
            },
        };
        let Some(port) = port else {
            let (span, message) = match input {
                Some(input) => {
                    (input.span.clone(), format!("stage `{name}`: `{}` has no input `{}`", spec.name(), input.text))
                }
                None if ports.is_empty() => (from.span.clone(), format!("stage `{name}`: `{}` takes no input", spec.name())),
                None => (from.span.clone(), format!("stage `{name}`: `{}` needs its inputs by name", spec.name())),
            };
            faults.push(Fault::new(span, message).of(name).help(describe()));
            continue;
        };
        if let Some(from_index) = upstream {
            found.push(Input { name: local, port, from: from_index, span: from.span.clone() });
        }
    }
    let given = |port: &Port| {
        let by_name = stage.inputs.iter().any(|(input, _)| input.text == port.name || port.kind == PortKind::Named);
        by_name || stage.input.is_some()
    };
    for port in ports.iter().filter(|port| port.required && !given(port)) {
        let what = if port.kind == PortKind::Named { "an input".to_owned() } else { format!("its input `{}`", port.name) };
        faults.push(Fault::new(stage.name.span.clone(), format!("stage `{name}` lacks {what}")).of(name).help(describe()));
    }
    found
}

/// Stages in an order in which each stands behind its inputs; of those that could stand anywhere, as in the file.
fn order(file: &PipelineFile, inputs: &[Vec<Input>], faults: &mut Vec<Fault>) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    struct Walk<'a> {
        file: &'a PipelineFile,
        inputs: &'a [Vec<Input>],
        marks: Vec<Mark>,
        path: Vec<usize>,
        order: Vec<usize>,
        faults: &'a mut Vec<Fault>,
    }
    impl Walk<'_> {
        fn visit(&mut self, stage: usize) {
            self.marks[stage] = Mark::Open;
            self.path.push(stage);
            for input in &self.inputs[stage] {
                match self.marks[input.from] {
                    Mark::New => self.visit(input.from),
                    Mark::Done => {}
                    Mark::Open => {
                        let start = self.path.iter().position(|&s| s == input.from).unwrap_or(0);
                        let mut names: Vec<&str> =
                            self.path[start..].iter().rev().map(|&s| self.file.stages[s].name.text.as_str()).collect();
                        names.insert(0, &self.file.stages[input.from].name.text);
                        let message = format!("stages read each other in a circle: {}", names.join(" -> "));
                        self.faults.push(
                            Fault::new(input.span.clone(), message)
                                .help("each arrow points to a stage that reads the one before it"),
                        );
                    }
                }
            }
            self.path.pop();
            self.marks[stage] = Mark::Done;
            self.order.push(stage);
        }
    }
    let marks = vec![Mark::New; file.stages.len()];
    let mut walk = Walk { file, inputs, marks, path: Vec::new(), order: Vec::new(), faults };
    for stage in 0..file.stages.len() {
        if walk.marks[stage] == Mark::New {
            walk.visit(stage);
        }
    }
    walk.order
}
