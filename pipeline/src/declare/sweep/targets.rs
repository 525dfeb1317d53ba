//! What axes are of: the stages whose key one gives, and what is wrong with it as one of theirs.

use std::collections::BTreeSet;

use tessera_operators::operator::PortKind;
use tessera_operators::spec::Spec;

use super::{Axis, Choice, INPUTS, PIPELINE, Part, SEED};
use crate::declare::faults::Fault;
use crate::declare::file::Declaration;

/// The stages whose key an axis gives; `seeded_alone` are those that have an axis of seeds of their own.
pub(super) fn find(stages: &[Declaration], axis: &Axis, seeded_alone: &BTreeSet<String>) -> Result<Vec<usize>, Vec<Fault>> {
    let (name, key) = axis.parts();
    let mut faults = values(axis);
    let stage = stages.iter().position(|stage| stage.name.text == name);
    let found = match stage {
        Some(stage) => {
            // Of an operator that is unknown, that is told.
            if let Some(spec) = tessera_operators::find(&stages[stage].op.text) {
                faults.extend(unfit(axis, spec));
            }
            vec![stage]
        }
        None if name == PIPELINE && key == SEED => match of_pipeline(stages, seeded_alone) {
            none if none.is_empty() => {
                faults.push(axis.fault(&axis.span, "no stage draws random numbers by the pipeline's seed".to_owned()));
                none
            }
            found => found,
        },
        None if name == PIPELINE => {
            let message = format!("`{}` cannot be swept: of [pipeline], only its `seed`", axis.path);
            faults.push(axis.fault(&axis.span, message));
            Vec::new()
        }
        None => {
            let fault = axis.fault(&axis.span, format!("the sweep names the unknown stage `{name}`"));
            faults.push(fault.known(name, stages.iter().map(|stage| stage.name.text.as_str())));
            Vec::new()
        }
    };
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// The stages that draw random numbers by the pipeline's seed.
fn of_pipeline(stages: &[Declaration], seeded_alone: &BTreeSet<String>) -> Vec<usize> {
    let seeded = |stage: &Declaration| tessera_operators::find(&stage.op.text).is_some_and(Spec::seeded);
    let takes = |stage: &Declaration| seeded(stage) && stage.seed.is_none() && !seeded_alone.contains(&stage.name.text);
    (0..stages.len()).filter(|&stage| takes(&stages[stage])).collect()
}

/// Complains of values that an axis of stages or of seeds cannot have.
fn values(axis: &Axis) -> Vec<Fault> {
    let key = axis.parts().1;
    let (fits, wanted): (fn(&Choice) -> bool, &str) = match axis.part() {
        Part::Input | Part::Inputs(_) => (|choice| choice.value.is_string(), "name a stage"),
        Part::Seed => (|choice| choice.value.as_u64().is_some(), "be a whole number of at least 0"),
        Part::Key(_) => return Vec::new(),
    };
    let told = |choice: &Choice| {
        let span = choice.places.get(key).unwrap_or(&axis.span);
        axis.fault(span, format!("`{key}` should {wanted}, found {}", choice.value))
    };
    axis.values.iter().filter(|choice| !fits(choice)).map(told).collect()
}

/// What is wrong with an axis as one of that operator.
fn unfit(axis: &Axis, spec: &'static dyn Spec) -> Option<Fault> {
    match axis.part() {
        Part::Key(key) if !spec.fields().contains(&key) => {
            let fault = axis.fault(&axis.span, format!("`{}` has no key `{key}` to sweep", spec.name()));
            let ports = spec.inputs().iter().map(|port| format!("{INPUTS}{}", port.name));
            let fields = spec.fields().iter().map(|&field| field.to_owned());
            let all: Vec<String> = fields.chain(spec.seeded().then(|| SEED.to_owned())).chain(ports).collect();
            Some(fault.known(key, all.iter().map(String::as_str)))
        }
        Part::Input if matches!(spec.inputs(), [port] if port.kind == PortKind::Named) => {
            let message = "a query knows its tables by name, and the name would be another each time".to_owned();
            let help = format!("`{}.{INPUTS}NAME`, and FROM NAME in the query", axis.parts().0);
            Some(axis.fault(&axis.span, message).help(help))
        }
        Part::Inputs(port) if !port.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') => {
            let fault = axis.fault(&axis.span, format!("`{port}` cannot name an input that is swept"));
            Some(fault.help("it is a part of cells' names: use lower-case letters, digits and `_`"))
        }
        _ => None,
    }
}
