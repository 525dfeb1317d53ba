//! Named tensors: their initial values, and to and from weights tables.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tch::{Device, Kind, TchError, Tensor};
use tessera_schemas::weights::{self, Weight};

use super::input::channels_last;
use super::network::{Parameter, Start, dimensions};
use crate::operator::{Column, ColumnKind, RunError};
use crate::random::Draw;

/// Bytes of tensors in one batch of a weights table, unless a single one is larger.
pub const BATCH_BYTES: usize = 32 << 20;

/// What a table of weights has.
pub const COLUMNS: [Column; 4] = [
    Column::new("tensor", ColumnKind::Text),
    Column::new("shape", ColumnKind::Any),
    Column::new("dtype", ColumnKind::Text),
    Column::new("data", ColumnKind::Any),
];

/// Tensors by name.
#[derive(Debug, Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    /// The tensors as they are before training, by seed and name alone: neither the device nor other tensors matter.
    ///
    /// # Errors
    /// libtorch refuses, as when memory is short.
    pub fn initial(parameters: &[Parameter], seed: u64, device: Device) -> Result<Self, TchError> {
        let tensor = |parameter: &Parameter| {
            let values = Tensor::f_from_slice(&initial(parameter, seed))?.f_reshape(sizes(&parameter.shape))?;
            let tensor = channels_last(&values)?.f_to_device(device)?;
            Ok((parameter.name.clone(), tensor.f_set_requires_grad(parameter.trained)?))
        };
        parameters.iter().map(tensor).collect::<Result<_, _>>().map(Self)
    }

    /// Takes those tensors from a weights table; it may hold others.
    ///
    /// # Errors
    /// One is missing, has another shape, or is no tensor of floating-point numbers; the message names it.
    pub fn read(batches: &[RecordBatch], parameters: &[Parameter], device: Device) -> Result<Self, RunError> {
        let mut rows = BTreeMap::new();
        for batch in batches {
            rows.extend(weights::rows(batch)?.into_iter().map(|row| (row.tensor, row)));
        }
        let tensor = |parameter: &Parameter| {
            let name = &parameter.name;
            let row = rows.get(name.as_str()).ok_or_else(|| {
                let known = rows.keys().take(20).copied().collect::<Vec<_>>().join(", ");
                let more = if rows.len() > 20 { ", …" } else { "" };
                let shape = dimensions(&parameter.shape);
                RunError::Input(format!("the weights have no tensor `{name}` ({shape}); there are: {known}{more}"))
            })?;
            if !row.shape.iter().copied().eq(sizes(&parameter.shape)) {
                let found = dimensions(&row.shape.iter().map(|&side| side as usize).collect::<Vec<_>>());
                let expected = dimensions(&parameter.shape);
                return Err(RunError::Input(format!(
                    "the tensor `{name}` should be {expected}, and the weights hold {found}"
                )));
            }
            let tensor = channels_last(&floats(row)?)?.f_to_device(device)?;
            Ok((name.clone(), tensor))
        };
        parameters.iter().map(tensor).collect::<Result<_, _>>().map(Self)
    }

    /// Takes from a weights table the values of all wanted tensors that it has under the same name and in the same shape, and returns
    /// the names of the others.
    ///
    /// # Errors
    /// The table is none of weights, or libtorch refuses.
    pub fn adopt(&self, batches: &[RecordBatch], wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, RunError> {
        let _guard = tch::no_grad_guard();
        let mut left: BTreeMap<&str, &Tensor> = self.named().collect();
        for row in batches.iter().map(weights::rows).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            if let Some(tensor) = left.get(row.tensor).filter(|tensor| wanted(row.tensor) && tensor.size() == row.shape) {
                tensor.shallow_clone().f_copy_(&floats(&row)?)?;
                left.remove(row.tensor);
            }
        }
        Ok(left.into_keys().map(str::to_owned).collect())
    }

    /// The table of those tensors, in batches of about [`BATCH_BYTES`].
    ///
    /// # Errors
    /// libtorch refuses to hand them over, or Arrow to take them.
    pub fn write(&self, schema: &SchemaRef) -> Result<Vec<RecordBatch>, RunError> {
        let mut held = Vec::with_capacity(self.0.len());
        for (name, tensor) in &self.0 {
            let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
            let mut values = vec![0f32; tensor.numel()];
            tensor.f_copy_data(&mut values, tensor.numel())?;
            held.push((name, tensor.size(), values));
        }
        let weights = held.iter().map(|(name, shape, values)| Weight {
            tensor: name,
            shape: shape.clone(),
            dtype: "F32",
            data: bytemuck::cast_slice(values),
        });
        batches(schema, weights)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<&Tensor, TchError> {
        self.0.get(name).ok_or_else(|| TchError::TensorNameNotFound(name.to_owned(), "the tensors at hand".to_owned()))
    }

    /// Handles on those that training follows the gradient of.
    pub fn trained(&self) -> Vec<Tensor> {
        self.0.values().filter(|tensor| tensor.requires_grad()).map(Tensor::shallow_clone).collect()
    }

    /// All of them, by name.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The same for a pass in another precision, as autocast would have it: matrices, kernels and their biases as `kind`, copies
    /// through which gradients flow; all else, such as batch normalisation's, as it is.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn cast(&self, kind: Kind) -> Result<Self, TchError> {
        let is_matrix = |name: &str| self.0.get(name).is_some_and(|tensor| tensor.dim() > 1);
        let cast = |(name, tensor): (&String, &Tensor)| {
            let bias = name.strip_suffix(".bias").is_some_and(|stem| is_matrix(&format!("{stem}.weight")));
            let tensor = if is_matrix(name) || bias { tensor.f_to_kind(kind)? } else { tensor.shallow_clone() };
            Ok((name.clone(), tensor))
        };
        self.0.iter().map(cast).collect::<Result<_, _>>().map(Self)
    }

    /// Another handle on the same storage, for another thread.
    pub fn share(&self) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect())
    }
}

/// Cuts tensors into batches of about [`BATCH_BYTES`].
///
/// # Errors
/// Arrow refuses a batch.
pub fn batches<'a>(schema: &SchemaRef, weights: impl Iterator<Item = Weight<'a>>) -> Result<Vec<RecordBatch>, RunError> {
    let weights: Vec<Weight<'_>> = weights.collect();
    let cuts = cuts(weights.iter().map(|weight| weight.data.len()));
    cuts.into_iter().map(|cut| Ok(weights::batch(schema, &weights[cut])?)).collect()
}

/// The same cuts, by the tensors' bytes. There is at least one batch.
pub fn cuts(bytes: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let (mut cuts, mut start, mut end, mut pending) = (Vec::new(), 0, 0, 0);
    for bytes in bytes {
        if pending + bytes > BATCH_BYTES && end > start {
            cuts.push(start..end);
            (start, pending) = (end, 0);
        }
        pending += bytes;
        end += 1;
    }
    cuts.push(start..end);
    cuts
}

/// Sizes as libtorch takes them.
fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&side| side as i64).collect()
}

/// A row of a weights table as f32.
fn floats(row: &Weight<'_>) -> Result<Tensor, RunError> {
    let kind = match row.dtype {
        "F64" => Kind::Double,
        "F32" => Kind::Float,
        "F16" => Kind::Half,
        "BF16" => Kind::BFloat16,
        other => {
            let name = row.tensor;
            return Err(RunError::Input(format!(
                "the tensor `{name}` is of type {other}; F32, F16, BF16 and F64 can be used"
            )));
        }
    };
    let bytes = row.shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
    if bytes != row.data.len() {
        let (name, found) = (row.tensor, row.data.len());
        return Err(RunError::Input(format!(
            "the tensor `{name}` should be {bytes} bytes long by its shape, and is {found}"
        )));
    }
    Ok(Tensor::f_from_data_size(row.data, &row.shape, kind)?.f_to_kind(Kind::Float)?)
}

/// A tensor's first values, row-major.
fn initial(parameter: &Parameter, seed: u64) -> Vec<f32> {
    let count = parameter.shape.iter().product();
    let deviation = match parameter.start {
        Start::Zeros => return vec![0.0; count],
        Start::Ones => return vec![1.0; count],
        Start::Kaiming => (2.0 / parameter.shape[1..].iter().product::<usize>() as f64).sqrt(),
        Start::Normal { deviation } => deviation,
    };
    let mut draw = Draw::new(seed, "train", "init", &parameter.name, 0);
    let mut values = Vec::with_capacity(count + 1);
    // Box and Muller, 1958: two normal numbers from two uniform ones, the first kept off zero.
    while values.len() < count {
        let radius = (-2.0 * (1.0 - draw.unit()).ln()).sqrt() * deviation;
        let (sine, cosine) = (TAU * draw.unit()).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, shape: &[usize], start: Start) -> Parameter {
        Parameter { name: name.to_owned(), shape: shape.to_vec(), start, trained: true }
    }

    fn table(weights: &[Weight<'_>]) -> RecordBatch {
        weights::batch(&weights::schema(&weights::Network::default()), weights).unwrap()
    }

    #[test]
    fn initial_values_have_the_deviation_asked_for() {
        let values = initial(&parameter("a", &[200, 10, 3, 3], Start::Kaiming), 1);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.005 && (variance * 45.0 - 1.0).abs() < 0.05, "{mean} {variance}");
        let odd = initial(&parameter("a", &[3, 5], Start::Normal { deviation: 0.001 }), 1);
        assert!(odd.len() == 15 && odd.iter().all(|v| v.abs() < 0.006 && *v != 0.0));
        assert_eq!(initial(&parameter("a", &[2], Start::Ones), 1), [1.0, 1.0]);
    }

    #[test]
    fn initial_values_depend_on_seed_and_name() {
        let of = |name, seed| initial(&parameter(name, &[4, 4], Start::Kaiming), seed);
        assert_eq!(of("a", 1), of("a", 1));
        assert_ne!(of("a", 1), of("b", 1));
        assert_ne!(of("a", 1), of("a", 2));
    }

    #[test]
    fn tables_round_trip() {
        let parameters = [parameter("c.weight", &[4, 3, 2, 2], Start::Kaiming), parameter("c.bias", &[4], Start::Ones)];
        let tensors = Tensors::initial(&parameters, 7, Device::Cpu).unwrap();
        let written = tensors.write(&weights::schema(&weights::Network::default())).unwrap();
        let rows = weights::rows(&written[0]).unwrap();
        assert_eq!(rows[1].data, bytemuck::cast_slice::<f32, u8>(&initial(&parameters[0], 7)));
        let read = Tensors::read(&written, &parameters, Device::Cpu).unwrap();
        for parameter in &parameters {
            assert!(read.find(&parameter.name).unwrap().equal(tensors.find(&parameter.name).unwrap()));
        }
        assert!(read.find("d").is_err());
    }

    #[test]
    fn batches_are_bounded() {
        let half = vec![0u8; BATCH_BYTES / 2];
        let weight = |tensor, data| Weight { tensor, shape: vec![1], dtype: "F32", data };
        let schema = weights::schema(&weights::Network::default());
        let all = [weight("a", &half[..]), weight("b", &half), weight("c", &half[..4])];
        let rows: Vec<_> = batches(&schema, all.into_iter()).unwrap().iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [2, 1]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |weights: &[Weight<'_>]| {
            let wanted = [parameter("conv1.weight", &[2, 1], Start::Ones)];
            Tensors::read(&[table(weights)], &wanted, Device::Cpu).unwrap_err().to_string()
        };
        let weight = |tensor, shape: &[i64], dtype, data| Weight { tensor, shape: shape.to_vec(), dtype, data };
        assert_eq!(
            fault(&[weight("conv.weight", &[2, 1], "F32", &[0; 8])]),
            "the weights have no tensor `conv1.weight` (2x1); there are: conv.weight"
        );
        assert_eq!(
            fault(&[weight("conv1.weight", &[2, 3], "F32", &[0; 24])]),
            "the tensor `conv1.weight` should be 2x1, and the weights hold 2x3"
        );
        assert_eq!(
            fault(&[weight("conv1.weight", &[2, 1], "I64", &[0; 16])]),
            "the tensor `conv1.weight` is of type I64; F32, F16, BF16 and F64 can be used"
        );
        assert_eq!(
            fault(&[weight("conv1.weight", &[2, 1], "F32", &[0; 4])]),
            "the tensor `conv1.weight` should be 8 bytes long by its shape, and is 4"
        );
    }

    #[test]
    fn half_precision_is_read() {
        let row = Weight { tensor: "a", shape: vec![2], dtype: "BF16", data: &[0x80, 0x3f, 0x00, 0xc0] };
        let read = Tensors::read(&[table(&[row])], &[parameter("a", &[2], Start::Ones)], Device::Cpu).unwrap();
        assert_eq!(Vec::<f32>::try_from(read.find("a").unwrap()).unwrap(), [1.0, -2.0]);
    }
}
