//! Tensors for golden values, which another implementation can make too (`tests/peers/golden/made.py` does).

use tch::Device;
use tessera_schemas::weights;

use super::network::Parameter;
use super::tensors::{Tensors, batches};
use crate::trial::unit;

/// [`unit`]s, numbered by the tensors' order: times `sqrt(gain / fan-in)` in tensors of more than one dimension, else times 0.2; weights
/// and variances of normalisations are 1 more.
pub fn tensors(parameters: &[Parameter], gain: f64) -> Tensors {
    let bytes = |(number, parameter): (usize, &Parameter)| {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let is_scale = parameter.name.ends_with("weight") || parameter.name.ends_with("running_var");
        let value = |i: usize| match parameter.shape.len() {
            1 => unit(i, number) * 0.2 + if is_scale { 1.0 } else { 0.0 },
            _ => unit(i, number) * (gain / fan_in as f64).sqrt(),
        };
        (0..parameter.shape.iter().product()).flat_map(|i| (value(i) as f32).to_le_bytes()).collect::<Vec<u8>>()
    };
    let data: Vec<_> = parameters.iter().enumerate().map(bytes).collect();
    let rows = parameters.iter().zip(&data).map(|(parameter, data)| weights::Weight {
        tensor: &parameter.name,
        shape: parameter.shape.iter().map(|&side| side as i64).collect(),
        dtype: "F32",
        data,
    });
    let table = batches(&weights::schema(&weights::Network::default()), rows).unwrap();
    Tensors::read(&table, parameters, Device::Cpu).unwrap()
}
