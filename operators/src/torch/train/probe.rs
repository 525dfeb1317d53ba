//! The probe: how well a layer's features tell labelled images apart while the network learns.
//!
//! Each image's label is guessed from the others' by a weighted vote of its nearest neighbours (Wu et al., 2018,
//! <https://arxiv.org/abs/1805.01978>, section 3.4). Nothing is fitted, so that it costs one pass and one product. A network that
//! takes a shortcut solves ever more puzzles while this number stays where it was.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use tch::{Kind, Tensor};
use tessera_schemas::column;
use tessera_schemas::pixels::{self, Pixels};

use super::PROBE;
use super::settings::Settings;
use crate::operator::{BindError, Order, RunError, Tables};
use crate::torch::forward::{self, Mode, Tape};
use crate::torch::input::normalised;
use crate::torch::network::{Step, walk};
use crate::torch::normalisation::Normalisation;
use crate::torch::tensors::Tensors;

/// Neighbours that vote.
const NEIGHBOURS: usize = 20;
/// A vote weighs `exp(cosine / TEMPERATURE)` (the paper's value).
const TEMPERATURE: f64 = 0.07;
/// Images that go through the network at once, and rows of one product.
const BLOCK: usize = 64;

/// A bound probe.
#[derive(Debug)]
pub struct Probe {
    steps: Vec<Step>,
    layer: String,
    label: String,
    size: [usize; 2],
    normalisation: Normalisation,
}

impl Probe {
    /// A probe on images of that schema.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn bind(settings: &Settings, schema: &SchemaRef, normalisation: Normalisation) -> Result<Self, Vec<BindError>> {
        let mut faults = Vec::new();
        let network = settings.network.network();
        let layers = network.layers();
        let layer = match &settings.probing.layer {
            Some(layer) if layers.contains(&layer.as_str()) => layer.clone(),
            Some(layer) => {
                let fault = BindError::key("probe_layer", format!("`{layer}` is no layer of `{}`", settings.network.text()));
                faults.push(fault.help(format!("known: {}", layers.join(", "))));
                String::new()
            }
            None => layers.last().map(|&layer| layer.to_owned()).unwrap_or_default(),
        };
        let label = settings.probing.label.clone();
        let is_label = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::Int32 | DataType::Int64);
        match column::field(schema, &label) {
            Ok(field) if is_label(field.data_type()) => {}
            Ok(field) => {
                let message = format!("`{label}` should be text or whole numbers, found {}", field.data_type());
                faults.push(BindError::key("probe_label", message));
            }
            Err(error) => faults.push(BindError::input(PROBE, error.to_string()).help("`probe_label` names another column")),
        }
        let size = pixels::size(schema).map(<[usize; 2]>::from);
        let steps = network.up_to(std::slice::from_ref(&layer)).to_vec();
        match &size {
            Ok([height, width]) => {
                if let Err(error) = walk(&steps, &[3, *height, *width]) {
                    faults
                        .push(BindError::input(PROBE, format!("its images of {height}x{width} px are too small: {error}")));
                }
            }
            Err(error) => faults.push(BindError::input(PROBE, error.to_string()).help("`decode` makes images")),
        }
        match size {
            Ok(size) if faults.is_empty() => Ok(Self { steps, layer, label, size, normalisation }),
            _ => Err(faults),
        }
    }

    /// The columns that it reads.
    pub fn columns(&self) -> [&str; 2] {
        [pixels::PIXELS, &self.label]
    }

    /// The share of images whose label the others' tell.
    ///
    /// # Errors
    /// The input cannot be read, or has fewer than two labelled images; or `cancelled` says that it is to stop.
    pub fn accuracy(
        &self,
        tables: &dyn Tables,
        tensors: &Tensors,
        device: tch::Device,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<f64, RunError> {
        let _guard = tch::no_grad_guard();
        let (mut features, mut labels, mut known) = (Vec::new(), Vec::new(), BTreeMap::new());
        for batch in tables.scan(PROBE, Order::Sorted)? {
            let batch = batch?;
            let names = cast(column(&batch, &self.label)?, &DataType::Utf8)?;
            let (names, pixels) = (names.as_string::<i32>(), Pixels::of(&batch)?);
            let rows: Vec<usize> = (0..batch.num_rows()).filter(|&row| names.is_valid(row)).collect();
            for rows in rows.chunks(BLOCK) {
                if cancelled() {
                    return Err(RunError::Cancelled);
                }
                let bytes: Vec<u8> = rows.iter().flat_map(|&row| pixels.row(row)).copied().collect();
                features.push(self.features(&bytes, tensors, device)?);
                for &row in rows {
                    let next = known.len();
                    labels.push(*known.entry(names.value(row).to_owned()).or_insert(next));
                }
            }
        }
        if labels.len() < 2 {
            let (found, label) = (labels.len(), &self.label);
            return Err(RunError::Input(format!("the probe needs two images or more with a `{label}`, and found {found}")));
        }
        let neighbours = neighbours(&Tensor::f_cat(&features, 0)?, cancelled)?;
        let right = labels.iter().zip(&neighbours).filter(|(label, near)| vote(near, &labels, known.len()) == **label);
        Ok(right.count() as f64 / labels.len() as f64)
    }

    /// Unit vectors `N x C` on the CPU: the layer's mean over each map.
    fn features(&self, bytes: &[u8], tensors: &Tensors, device: tch::Device) -> Result<Tensor, RunError> {
        let input = normalised(bytes, self.size, self.normalisation, device)?;
        let mut found = None;
        let _ = forward::run(&self.steps, tensors, input, Mode::Evaluate, &mut Tape::default(), &mut |name, value| {
            if name == self.layer {
                found = Some(if value.dim() == 4 {
                    value.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?
                } else {
                    value.copy()
                });
            }
            Ok(())
        })?;
        let means = found.ok_or_else(|| RunError::Engine(format!("the network has no layer `{}`", self.layer)))?;
        let norms = means.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?.f_clamp_min(1e-12)?;
        Ok(means.f_div(&norms)?.f_to_device(tch::Device::Cpu)?)
    }
}

/// Each row's nearest other rows and their cosines, nearest first.
fn neighbours(features: &Tensor, cancelled: &dyn Fn() -> bool) -> Result<Vec<Vec<(usize, f64)>>, RunError> {
    let count = features.size()[0];
    let near = NEIGHBOURS.min(count as usize - 1) as i64;
    let (columns, mut all) = (features.f_tr()?, Vec::with_capacity(count as usize));
    for start in (0..count).step_by(BLOCK) {
        if cancelled() {
            return Err(RunError::Cancelled);
        }
        let rows = BLOCK.min((count - start) as usize) as i64;
        let cosines = features.f_narrow(0, start, rows)?.f_matmul(&columns)?;
        // An image is no neighbour of itself.
        let _ = cosines.f_narrow(1, start, rows)?.f_fill_diagonal_(-2.0, false)?;
        let (values, places) = cosines.f_topk(near, 1, true, true)?;
        let values = Vec::<f32>::try_from(&values.f_reshape([-1])?)?;
        let places = Vec::<i64>::try_from(&places.f_reshape([-1])?)?;
        let pairs: Vec<_> = places.iter().zip(&values).map(|(&place, &value)| (place as usize, f64::from(value))).collect();
        all.extend(pairs.chunks(near as usize).map(<[_]>::to_vec));
    }
    Ok(all)
}

/// The label that a row's neighbours vote for; of several with equal weights, the first seen.
fn vote(near: &[(usize, f64)], labels: &[usize], known: usize) -> usize {
    let mut weights = vec![0.0; known];
    for &(row, cosine) in near {
        weights[labels[row]] += ((cosine - 1.0) / TEMPERATURE).exp();
    }
    (0..known).fold(0, |best, label| if weights[label] > weights[best] { label } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_the_others() {
        let rows = [[1.0f32, 0.0], [0.0, 1.0], [0.8, 0.6]];
        let features = Tensor::from_slice(&rows.concat()).view([3, 2]);
        let found = neighbours(&features, &|| false).unwrap();
        let places: Vec<Vec<usize>> = found.iter().map(|near| near.iter().map(|pair| pair.0).collect()).collect();
        assert_eq!(places, [[2, 1], [2, 0], [0, 1]]);
        assert!((found[0][0].1 - 0.8).abs() < 1e-6);
    }

    #[test]
    fn nearer_neighbours_weigh_more() {
        let labels = [0, 1, 1, 1];
        assert_eq!(vote(&[(0, 0.99), (1, 0.5), (2, 0.5), (3, 0.5)], &labels, 2), 0);
        assert_eq!(vote(&[(0, 0.9), (1, 0.9), (2, 0.9)], &labels, 2), 1);
    }
}
