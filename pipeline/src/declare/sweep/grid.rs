//! From axes to cells: which combinations of values a stage depends on, and the stage for each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use tessera_operators::operator::PortKind;

use super::{Axis, Choice, Coordinate, Part};
use crate::declare::file::{Declaration, Text};

/// Stages, and the axes that give something of them.
pub struct Grid<'a> {
    axes: &'a [Axis],
    stages: &'a [Declaration],
    /// For each stage the axes that give something of it.
    own: Vec<Vec<usize>>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Grid<'a> {
    /// `targets` are the stages that each axis gives something of.
    pub fn new(axes: &'a [Axis], targets: &[Vec<usize>], stages: &'a [Declaration]) -> Self {
        let mut own = vec![Vec::new(); stages.len()];
        for (axis, stages) in targets.iter().enumerate() {
            stages.iter().for_each(|&stage| own[stage].push(axis));
        }
        let places = stages.iter().enumerate().rev().map(|(at, stage)| (stage.name.text.as_str(), at)).collect();
        Self { axes, stages, own, places }
    }

    /// The combinations of values that a stage depends on, in any order, each without the axes that it does not depend on. None if there
    /// are more than `most`.
    pub fn combinations(&self, stage: usize, most: usize) -> Option<Vec<BTreeMap<usize, usize>>> {
        let (mut open, mut found) = (vec![BTreeMap::new()], Vec::new());
        while let Some(chosen) = open.pop() {
            match self.undecided(stage, &chosen) {
                None => found.push(chosen),
                Some(axis) => open.extend((0..self.axes[axis].values.len()).map(|value| {
                    let mut chosen = chosen.clone();
                    chosen.insert(axis, value);
                    chosen
                })),
            }
            if open.len() + found.len() > most {
                return None;
            }
        }
        Some(found)
    }

    /// An axis without a value, of the stage or of one that it reads by the values chosen.
    fn undecided(&self, stage: usize, chosen: &BTreeMap<usize, usize>) -> Option<usize> {
        let (mut reached, mut open) = (self.none_but(stage), vec![stage]);
        while let Some(stage) = open.pop() {
            if let Some(axis) = self.own(stage).find(|axis| !chosen.contains_key(axis)) {
                return Some(axis);
            }
            open.extend(
                self.upstream(stage, chosen).into_iter().filter(|&from| !std::mem::replace(&mut reached[from], true)),
            );
        }
        None
    }

    /// A mark for each stage: that one has it.
    fn none_but(&self, stage: usize) -> Vec<bool> {
        let mut marks = vec![false; self.stages.len()];
        marks[stage] = true;
        marks
    }

    /// The axes that give something of the stage itself.
    fn own(&self, stage: usize) -> impl Iterator<Item = usize> {
        self.own[stage].iter().copied()
    }

    /// The stages that a stage reads, by the values chosen.
    fn upstream(&self, stage: usize, chosen: &BTreeMap<usize, usize>) -> Vec<usize> {
        let declared = &self.stages[stage];
        let (mut input, mut ports, mut names) = (declared.input.is_some(), Vec::new(), Vec::new());
        for axis in self.own(stage) {
            match self.axes[axis].part() {
                Part::Input => input = false,
                Part::Inputs(port) => ports.push(port),
                Part::Seed | Part::Key(_) => continue,
            }
            names.extend(chosen.get(&axis).and_then(|&value| self.axes[axis].values[value].value.as_str()));
        }
        names.extend(declared.input.iter().filter(|_| input).map(|from| from.text.as_str()));
        let inputs = declared.inputs.iter().filter(|(port, _)| !ports.contains(&port.text.as_str()));
        names.extend(inputs.map(|(_, from)| from.text.as_str()));
        names.into_iter().filter_map(|name| self.find(name)).collect()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Those of the chosen values that a stage depends on.
    fn relevant(&self, stage: usize, chosen: &BTreeMap<usize, usize>) -> BTreeMap<usize, usize> {
        let (mut reached, mut open, mut kept) = (self.none_but(stage), vec![stage], BTreeMap::new());
        while let Some(stage) = open.pop() {
            kept.extend(self.own(stage).filter_map(|axis| Some((axis, *chosen.get(&axis)?))));
            open.extend(
                self.upstream(stage, chosen).into_iter().filter(|&from| !std::mem::replace(&mut reached[from], true)),
            );
        }
        kept
    }

    /// The cell of those values; `axes` are those that any of the stage's cells depends on.
    pub fn cell(&self, stage: usize, axes: &BTreeSet<usize>, chosen: &BTreeMap<usize, usize>) -> Declaration {
        let mut cell = self.stages[stage].clone();
        for &at in axes {
            let (axis, name) = (&self.axes[at], self.axes[at].name.clone());
            let (is_seed, value) = (matches!(axis.part(), Part::Seed), chosen.get(&at));
            let choice = value.map(|&value| &axis.values[value]);
            let value = choice.map_or(Value::Null, |choice| choice.value.clone());
            cell.cell.push(Coordinate { axis: at, name, value, is_seed });
            if let Some(choice) = choice.filter(|_| self.own[stage].contains(&at)) {
                give(&mut cell, axis, choice);
            }
        }
        let named = tessera_operators::find(&cell.op.text)
            .is_some_and(|spec| matches!(spec.inputs(), [port] if port.kind == PortKind::Named));
        if let Some(input) = cell.input.take_if(|_| named && cell.inputs.is_empty()) {
            // A query goes on to know the table by the stage's name.
            cell.inputs.push((input.clone(), input));
        }
        for from in cell.input.iter_mut().chain(cell.inputs.iter_mut().map(|(_, from)| from)) {
            self.rename(from, chosen);
        }
        self.rename(&mut cell.name, chosen);
        cell
    }

    /// Makes of a stage's name that of its cell.
    fn rename(&self, name: &mut Text, chosen: &BTreeMap<usize, usize>) {
        let Some(stage) = self.find(&name.text) else { return };
        let value = |(axis, value): (usize, usize)| {
            let axis = &self.axes[axis];
            format!("{}={}", axis.name, axis.values[value].name)
        };
        let values: Vec<String> = self.relevant(stage, chosen).into_iter().map(value).collect();
        if !values.is_empty() {
            name.text = format!("{}@{}", name.text, values.join(","));
        }
    }
}

/// Gives a cell an axis' value.
fn give(cell: &mut Declaration, axis: &Axis, choice: &Choice) {
    let (key, Choice { value, places, .. }) = (axis.parts().1, choice);
    // Spans of the command line's text mean nothing in the file: point at the stage.
    let at = if axis.set.is_some() { cell.name.span.clone() } else { axis.span.clone() };
    let span = places.get(key).unwrap_or(&at).clone();
    let from = || Text { text: value.as_str().unwrap_or_default().to_owned(), span };
    match axis.part() {
        Part::Seed => cell.seed = value.as_u64().map(|seed| (seed, axis.span.clone())),
        Part::Input => cell.input = Some(from()),
        Part::Inputs(port) => {
            cell.inputs.retain(|(name, _)| name.text != port);
            cell.inputs.push((Text { text: port.to_owned(), span: at }, from()));
        }
        Part::Key(key) => {
            cell.config.insert(key.to_owned(), value.clone());
            cell.places.retain(|path, _| path.split(['.', '[', '=']).next() != Some(key));
            if axis.set.is_some() {
                cell.set.insert(key.to_owned());
            } else {
                cell.set.remove(key);
                cell.places.insert(format!("{key}="), axis.span.clone());
                cell.places.extend(places.clone());
            }
        }
    }
    if let (Part::Input | Part::Inputs(_), Some(_)) = (axis.part(), &axis.set) {
        cell.set.insert(key.split('.').next().unwrap_or_default().to_owned());
    }
}
