//! A training run's state as bytes: a safetensors file of weights, running statistics and the optimizer's memory, with the position
//! in its metadata.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::chance::Tally;
use super::mean::Sums;
use crate::operator::RunError;
use crate::torch::optimizer::Optimizer;
use crate::torch::tensors::Tensors;

/// The metadata entry with the position.
const POSITION: &str = "position";
/// What the names of weights and running statistics begin with.
const WEIGHTS: &str = "weights/";

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Passes over the data that are done.
    pub epoch: usize,
    /// Steps that are done, of all epochs.
    pub step: usize,
    /// The last example of the last step, if that was in this epoch.
    pub last: Option<String>,
    /// Steps of the first epoch, once it is done.
    #[serde(default)]
    pub first: Option<usize>,
    /// How often each answer was right in this epoch.
    #[serde(default)]
    pub tally: Tally,
    /// Sums of the steps of this epoch.
    pub whole: Sums,
    /// Sums of the steps since the last row of metrics.
    pub recent: Sums,
}

/// The state of a run.
///
/// # Errors
/// libtorch refuses to hand its tensors over.
pub fn write(position: &Position, tensors: &Tensors, optimizer: &Optimizer) -> Result<Vec<u8>, RunError> {
    let mut held = Vec::new();
    for (name, tensor) in named(tensors, optimizer) {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        held.push((name, tensor.size().into_iter().map(|side| side as usize).collect::<Vec<_>>(), bytes));
    }
    let broken = |error: &dyn std::fmt::Display| RunError::Engine(format!("a checkpoint cannot be made: {error}"));
    let views = held.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|error| broken(&error))?;
    let position = serde_json::to_string(position).map_err(|error| broken(&error))?;
    let metadata = HashMap::from([(POSITION.to_owned(), position)]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| broken(&error))
}

/// The position in a state.
///
/// # Errors
/// It is none; the message is a fragment.
pub fn position(state: &[u8]) -> Result<Position, String> {
    let (_, metadata) = SafeTensors::read_metadata(state).map_err(|error| error.to_string())?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(POSITION)).ok_or("it has no position")?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Fills weights, statistics and memory from a state, in their places.
///
/// # Errors
/// It lacks a tensor, or has it in another shape; the message is a fragment.
pub fn fill(state: &[u8], tensors: &Tensors, optimizer: &Optimizer) -> Result<(), String> {
    let held = SafeTensors::deserialize(state).map_err(|error| error.to_string())?;
    let _guard = tch::no_grad_guard();
    for (name, tensor) in named(tensors, optimizer) {
        let view = held.tensor(&name).map_err(|error| error.to_string())?;
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        if view.dtype() != Dtype::F32 || shape != tensor.size() {
            return Err(format!("its tensor `{name}` is of another shape"));
        }
        let copy = || tensor.shallow_clone().f_copy_(&Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?);
        copy().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What of a state has values that are no finite numbers, if anything: a tensor, or the optimizer's memory. No later step makes such
/// values finite again.
///
/// # Errors
/// libtorch refuses.
pub fn unsound(tensors: &Tensors, optimizer: &Optimizer) -> Result<Option<String>, TchError> {
    for (name, tensor) in named(tensors, optimizer) {
        if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            let weight = name.strip_prefix(WEIGHTS).map(|name| format!("the tensor `{name}`"));
            return Ok(Some(weight.unwrap_or_else(|| "the optimizer's memory".to_owned())));
        }
    }
    Ok(None)
}

/// All tensors of a state, by the names that they have there.
fn named<'a>(tensors: &'a Tensors, optimizer: &'a Optimizer) -> impl Iterator<Item = (String, &'a Tensor)> {
    let weights = tensors.named().map(|(name, tensor)| (format!("{WEIGHTS}{name}"), tensor));
    let memory = optimizer.memory().enumerate().flat_map(|(kind, memory)| {
        memory.iter().enumerate().map(move |(at, tensor)| (format!("memory/{kind}/{at}"), tensor))
    });
    weights.chain(memory)
}
