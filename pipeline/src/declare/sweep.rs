//! Sweeps: `[sweep]` lists values for keys of stages, and each combination becomes stages of its own, before any name is resolved.
//!
//! ```toml
//! [sweep]
//! "clusters.k" = [500, 1000, 2000]
//! "clusters.seed" = [1, 2, 3]
//! ```
//!
//! An entry is an axis, `clusters.k = […]` means the same, and `"pipeline.seed" = […]` is one of all stages that draw random numbers
//! and have no seed of their own. `"features.inputs.weights" = ["random", "pretext"]` (or `"features.input"`) is one of stages to read.
//! A stage with swept keys, and each one downstream, is replaced by its cells: one for each combination of the axes that it depends
//! on. All others stay single, and run once. A cell is a stage like any other, `clusters@k=500,seed=1`, and reads the cells upstream that
//! have the same values; nothing behind this module but SQL and reports knows of sweeps.
//!
//! What a cell depends on follows from the stages that it does read: if `pretext` has seeds and `random` has none, there is
//! `features@weights=random`, and one of `features@weights=pretext,seed=…` for each seed. Axes that a cell does not depend on are null.

mod grid;
mod read;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use crate::declare::faults::Fault;
use crate::declare::file::{Declaration, PipelineFile, Reader};
use serde_json::Value;

use grid::Grid;
pub(crate) use read::{fix, read, set};

/// The key of an axis of seeds.
pub const SEED: &str = "seed";
/// The key of an axis of stages to read, for those that read one.
const INPUT: &str = "input";
/// What the key begins with for those that read several.
const INPUTS: &str = "inputs.";
/// What stands for all stages in an axis of seeds.
const PIPELINE: &str = "pipeline";
/// Stages that a file may have with its cells: more are a mistake in a list.
const STAGES: usize = 10_000;
/// Bytes of a cell's name, which names a folder: file systems allow 255.
const NAME_BYTES: usize = 200;
/// Bytes of a value in a name.
const VALUE_BYTES: usize = 32;

/// A key and its values.
#[derive(Debug, Clone)]
pub struct Axis {
    /// `clusters.k`.
    pub path: String,
    /// Where that stands.
    pub span: Range<usize>,
    /// What it is called in cells' names, SQL and reports: its key, or its path if another axis has the same key.
    pub name: String,
    /// Its values, in the order of the text.
    pub values: Vec<Choice>,
    /// What `--set` named, if it gave them.
    pub set: Option<String>,
}

/// One value of an axis.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The value.
    pub value: Value,
    /// The value as cells' names have it.
    pub name: String,
    /// Where it and what is in it stand, by paths that begin with the key.
    pub places: BTreeMap<String, Range<usize>>,
}

/// What an axis gives.
enum Part<'a> {
    /// The stage's seed.
    Seed,
    /// Its only input.
    Input,
    /// The input of that name.
    Inputs(&'a str),
    /// A key of its operator.
    Key(&'a str),
}

/// Where a cell stands on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinate {
    /// The axis' place in [`PipelineFile::axes`].
    pub axis: usize,
    /// The axis' name.
    pub name: String,
    /// The value; null if the cell does not depend on the axis, as others of its stage do.
    pub value: Value,
    /// Whether the axis is one of seeds.
    pub is_seed: bool,
}

/// As names of cells have it: `k=500`.
impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, plain(&self.value))
    }
}

impl Axis {
    /// `clusters` and `k`.
    fn parts(&self) -> (&str, &str) {
        self.path.split_once('.').unwrap_or((&self.path, ""))
    }

    fn part(&self) -> Part<'_> {
        match self.parts().1 {
            SEED => Part::Seed,
            INPUT => Part::Input,
            key => key.strip_prefix(INPUTS).map_or(Part::Key(key), Part::Inputs),
        }
    }

    fn fault(&self, span: &Range<usize>, message: String) -> Fault {
        let given = self.set.as_ref().map(|given| format!(" (from --set {given})")).unwrap_or_default();
        Fault::new(span.clone(), format!("{message}{given}"))
    }
}

/// The stage that a cell's name belongs to.
pub fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// Says of stages that are named like cells where they stand on the axes, as far as their names tell: for stages that a file does not
/// declare.
pub fn recall(file: &mut PipelineFile) {
    let values = |name: &str| -> Vec<(String, String)> {
        let pairs = name.split_once('@').map_or("", |(_, pairs)| pairs).split(',');
        pairs.filter_map(|pair| pair.split_once('=')).map(|(axis, value)| (axis.to_owned(), value.to_owned())).collect()
    };
    let mut axes: Vec<String> = Vec::new();
    let mut of_base: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for stage in &file.stages {
        for (axis, _) in values(&stage.name.text) {
            let at = axes.iter().position(|known| *known == axis).unwrap_or_else(|| {
                axes.push(axis);
                axes.len() - 1
            });
            of_base.entry(base(&stage.name.text).to_owned()).or_default().insert(at);
        }
    }
    for stage in &mut file.stages {
        let own = values(&stage.name.text);
        let coordinate = |&at: &usize| {
            let text = own.iter().find(|(axis, _)| *axis == axes[at]).map(|(_, value)| value);
            let value = text.map_or(Value::Null, |text| match serde_json::from_str::<Value>(text) {
                Ok(value) if !value.is_string() => value,
                _ => Value::from(text.as_str()),
            });
            let is_seed = axes[at].rsplit('.').next() == Some(SEED);
            Coordinate { axis: at, name: axes[at].clone(), value, is_seed }
        };
        stage.cell = of_base.get(base(&stage.name.text)).into_iter().flatten().map(coordinate).collect();
    }
    let axis = |name: &String| Axis { path: name.clone(), span: 0..0, name: name.clone(), values: Vec::new(), set: None };
    file.axes = axes.iter().map(axis).collect();
}

/// A value as a part of a folder's name: plain where it can be, else with the beginning of its hash, so that others differ from it.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    if !text.is_empty() && text.len() <= VALUE_BYTES && text.chars().all(fits) {
        return text;
    }
    let start: String = text.chars().take(VALUE_BYTES - 9).map(|c| if fits(c) { c } else { '_' }).collect();
    format!("{start}~{}", &blake3::hash(text.as_bytes()).to_hex()[..8])
}

/// Replaces each stage that depends on an axis by its cells. Axes with faults are left out, and their faults told.
pub(crate) fn expand(file: &mut PipelineFile, reader: &mut Reader) {
    let seeded_alone: BTreeSet<String> =
        file.axes.iter().filter_map(|axis| Some(axis.path.strip_suffix(".seed")?.to_owned())).collect();
    let (mut axes, mut targets) = (Vec::new(), Vec::new());
    for axis in std::mem::take(&mut file.axes) {
        match targets::find(&file.stages, &axis, &seeded_alone) {
            Ok(found) => {
                axes.push(axis);
                targets.push(found);
            }
            Err(faults) => reader.faults.extend(faults),
        }
    }
    let key = |axis: &Axis| axis.parts().1.rsplit('.').next().unwrap_or_default().to_owned();
    let keys: Vec<String> = axes.iter().map(key).collect();
    for (axis, key) in axes.iter_mut().zip(&keys) {
        let alone = keys.iter().filter(|other| *other == key).count() == 1;
        axis.name = if alone { key.clone() } else { axis.path.clone() };
    }
    file.axes = axes;
    let Some(first) = file.axes.first() else { return };
    let grid = Grid::new(&file.axes, &targets, &file.stages);
    let mut cells: Vec<Declaration> = Vec::new();
    for stage in 0..file.stages.len() {
        match grid.combinations(stage, STAGES.saturating_sub(cells.len())) {
            Some(mut combinations) => {
                let axes: BTreeSet<usize> = combinations.iter().flat_map(|chosen| chosen.keys().copied()).collect();
                // The last axis is the fastest.
                let place = |chosen: &BTreeMap<usize, usize>| -> Vec<usize> {
                    axes.iter().map(|axis| chosen.get(axis).copied().unwrap_or_default()).collect()
                };
                combinations.sort_by_cached_key(place);
                cells.extend(combinations.iter().map(|chosen| grid.cell(stage, &axes, chosen)));
            }
            None => {
                let fault = first.fault(&first.span, format!("the sweep makes more than {STAGES} stages"));
                reader.faults.push(fault.help("a stage has a cell for each combination of the axes that it depends on"));
                return;
            }
        }
    }
    if let Some(long) = cells.iter().find(|cell| cell.name.text.len() > NAME_BYTES) {
        let message = format!("a cell's name has {} bytes, and should have at most {NAME_BYTES}", long.name.text.len());
        reader.faults.push(Fault::new(long.name.span.clone(), message).help("sweep fewer keys, or shorter values"));
    }
    file.stages = cells;
}

/// Faults that all cells of a stage share become one of the stage; of those that only some have, one cell is named.
pub fn fold(stages: &[Declaration], faults: Vec<Fault>) -> Vec<Fault> {
    let mut cells: Vec<(&str, &str)> =
        stages.iter().filter(|stage| !stage.cell.is_empty()).map(|stage| (stage.name.text.as_str(), stage.base())).collect();
    // `clusters@k=5` is the beginning of another cell's name in a text.
    cells.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let based = |text: &str| cells.iter().fold(text.to_owned(), |text, (name, base)| text.replace(name, base));
    let mut groups: Vec<(Fault, &str, Vec<Fault>)> = Vec::new();
    for fault in faults {
        let whose = cells.iter().find(|(name, _)| fault.stage.as_deref() == Some(*name));
        let stage = whose.map(|(_, base)| (*base).to_owned()).or_else(|| fault.stage.clone());
        let help = fault.help.as_deref().map(based);
        let shared = Fault { message: based(&fault.message), help, stage, ..fault.clone() };
        let base = whose.map_or("", |(_, base)| base);
        match groups.iter_mut().find(|(known, whose, _)| *known == shared && *whose == base) {
            Some((_, _, all)) if all.contains(&fault) => {}
            Some((_, _, all)) => all.push(fault),
            None => groups.push((shared, base, vec![fault])),
        }
    }
    let one = |(shared, base, mut all): (Fault, &str, Vec<Fault>)| {
        let count = cells.iter().filter(|(_, of)| *of == base).count();
        if base.is_empty() || all.len() == count {
            return shared;
        }
        let more = all.len() - 1;
        let mut first = all.swap_remove(0);
        if more > 0 {
            first.message.push_str(&format!(" (and {more} more of its {count} cells)"));
        }
        first
    };
    groups.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests;
