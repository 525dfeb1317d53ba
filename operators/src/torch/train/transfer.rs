//! What training starts from: the weights of another stage, and the layers that keep them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tessera_schemas::weights;

use std::collections::BTreeSet;

use super::WEIGHTS;
use super::config::Take;
use super::settings::Settings;
use crate::operator::{BindError, Order, RunError, Sink, Tables};
use crate::torch::network::{Form, walk};
use crate::torch::normalisation::Normalisation;
use crate::torch::tensors::Tensors;

/// How images are normalised: as the config says, else as they were for the weights, else by ImageNet's values.
///
/// # Errors
/// The weights are of another network, or are none.
pub fn normalisation(settings: &Settings, start: Option<&SchemaRef>) -> Result<Normalisation, BindError> {
    let Some(start) = start else { return Ok(settings.images.normalisation()) };
    let said = weights::network(start)
        .map_err(|error| BindError::input(WEIGHTS, error.to_string()).help("`train` and `weights` make weights"))?;
    let wanted = settings.network.text();
    if let Some(name) = said.name.as_deref().filter(|name| *name != wanted) {
        let fault = BindError::input(WEIGHTS, format!("they are of `{name}`, and the stage trains `{wanted}`"));
        return Err(fault.help(format!("network = \"{name}\", or other weights")));
    }
    let given = settings.images.mean.is_some() || settings.images.deviation.is_some();
    let known = if given { None } else { Normalisation::of_weights(&said) };
    Ok(known.unwrap_or_else(|| settings.images.normalisation()))
}

/// How many steps of the trunk are not trained.
///
/// # Errors
/// `freeze` names no layer of the network, or there are no weights whose layers could stay as they are.
pub fn frozen(settings: &Settings, start: Option<&SchemaRef>) -> Result<usize, BindError> {
    for (key, given) in [("freeze", settings.start.freeze.is_some()), ("take", settings.start.take.is_some())] {
        if given && start.is_none() {
            let fault = BindError::key(key, format!("is of the input `{WEIGHTS}`, and the stage has none"));
            return Err(fault.help("`train` and `weights` make weights"));
        }
    }
    let Some(layer) = &settings.start.freeze else { return Ok(0) };
    let network = settings.network.network();
    let layers = network.layers();
    if !layers.contains(&layer.as_str()) {
        let fault = BindError::key("freeze", format!("`{layer}` is no layer of `{}`", settings.network.text()));
        return Err(fault.help(format!("known: {}", layers.join(", "))));
    }
    Ok(network.up_to(std::slice::from_ref(layer)).len())
}

/// Fills tensors from the input, if there is one, and says which start anew.
///
/// # Errors
/// It lacks a tensor of the trunk that is to be taken, or cannot be read.
pub fn start(
    settings: &Settings,
    form: &Form,
    tensors: &Tensors,
    tables: &dyn Tables,
    sink: &mut dyn Sink,
) -> Result<(), RunError> {
    if tables.schema(WEIGHTS).is_none() {
        return Ok(());
    }
    let batches: Vec<RecordBatch> = tables.scan(WEIGHTS, Order::Stored)?.collect::<Result<_, _>>()?;
    let steps = match settings.start.take {
        Some(Take::Frozen) => &form.shared[..form.frozen],
        Some(Take::All) | None => &settings.network.network().trunk[..],
    };
    let (_, trunk) = walk(steps, &form.input).map_err(|error| RunError::Engine(error.to_string()))?;
    let names: BTreeSet<&str> = trunk.iter().map(|parameter| parameter.name.as_str()).collect();
    let taken = |name: &str| settings.start.take != Some(Take::Frozen) || names.contains(name);
    let anew = tensors.adopt(&batches, taken)?;
    if let Some(missing) = trunk.iter().find(|parameter| anew.contains(&parameter.name)) {
        let (name, shape) = (&missing.name, crate::torch::network::dimensions(&missing.shape));
        return Err(RunError::Input(format!("the weights to start from have no tensor `{name}` of {shape}")));
    }
    let said = tables.schema(WEIGHTS).map(|schema| weights::network(&schema)).transpose()?.unwrap_or_default();
    if form.pieces == 1 && settings.images.mean.is_none() && Normalisation::of_weights(&said).is_none() {
        sink.say("images are normalised by ImageNet's mean and deviation: the weights do not say how they were for them");
    }
    let list = if anew.is_empty() { "none".to_owned() } else { anew.join(", ") };
    sink.say(&format!("starts from `{WEIGHTS}`; tensors that start anew: {list}"));
    Ok(())
}
