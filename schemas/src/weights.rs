//! `weights`: a network's tensors by name (torchvision's names where such a network exists).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryArray, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::{SchemaError, column, meta, text};

/// What a weights table says of the network that it belongs to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// The network's name, where one is known.
    pub name: Option<String>,
    /// Mean that its input is normalised with, of RGB in 0..1, where one is known.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of the same.
    pub deviation: Option<[f32; 3]>,
    /// `tile`, `tile-channel` or `none`: how a network that learnt from tiles had them normalised.
    pub normalisation: Option<String>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<'a> {
    /// Its name.
    pub tensor: &'a str,
    /// Its shape, outermost first; empty for a scalar.
    pub shape: Vec<i64>,
    /// safetensors' name of its type: `F32`, `F16`, `BF16`, `I64`, …
    pub dtype: &'a str,
    /// Row-major, little endian.
    pub data: &'a [u8],
}

fn shape_item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Int64, false))
}

/// `tensor`, `shape`, `dtype`, `data`; the network is in the metadata of `tensor`.
pub fn schema(network: &Network) -> SchemaRef {
    let mut tensor = Field::new("tensor", DataType::Utf8, false);
    let entries = [
        (meta::NETWORK, network.name.clone()),
        (meta::MEAN, network.mean.map(|m| meta::join(&m))),
        (meta::DEVIATION, network.deviation.map(|d| meta::join(&d))),
        (meta::NORMALISATION, network.normalisation.clone()),
    ];
    for (key, value) in entries {
        if let Some(value) = value {
            tensor = meta::with(tensor, key, value);
        }
    }
    Arc::new(Schema::new(vec![
        tensor,
        Field::new("shape", DataType::List(shape_item()), false),
        Field::new("dtype", DataType::Utf8, false),
        Field::new("data", DataType::LargeBinary, false),
    ]))
}

/// The network in a weights schema's metadata.
///
/// # Errors
/// There is no `tensor` column, or its metadata is malformed.
pub fn network(schema: &SchemaRef) -> Result<Network, SchemaError> {
    let field = column::field(schema, "tensor")?;
    let triple = |key| field.metadata().contains_key(key).then(|| meta::array::<f32, 3>(field, key)).transpose();
    Ok(Network {
        name: field.metadata().get(meta::NETWORK).cloned(),
        mean: triple(meta::MEAN)?,
        deviation: triple(meta::DEVIATION)?,
        normalisation: field.metadata().get(meta::NORMALISATION).cloned(),
    })
}

/// A batch of the schema, which [`schema`] made.
///
/// # Errors
/// Arrow refuses the columns (never, for well-formed weights).
pub fn batch(schema: &SchemaRef, weights: &[Weight<'_>]) -> Result<RecordBatch, SchemaError> {
    let shapes = arrow::array::Int64Array::from_iter_values(weights.iter().flat_map(|w| w.shape.iter().copied()));
    let offsets = OffsetBuffer::from_lengths(weights.iter().map(|w| w.shape.len()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(weights.iter().map(|w| w.tensor))),
        Arc::new(ListArray::try_new(shape_item(), offsets, Arc::new(shapes), None)?),
        Arc::new(StringArray::from_iter_values(weights.iter().map(|w| w.dtype))),
        Arc::new(LargeBinaryArray::from_iter_values(weights.iter().map(|w| w.data))),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// A batch's tensors, row by row (no copy of the data).
///
/// # Errors
/// A column is missing or has another type.
pub fn rows(batch: &RecordBatch) -> Result<Vec<Weight<'_>>, SchemaError> {
    let (tensor, dtype) = (text(batch, "tensor")?, text(batch, "dtype")?);
    let shape = column(batch, "shape")?;
    let shape = shape.as_list_opt::<i32>().ok_or_else(|| column::wrong("shape", "List<Int64>", shape.data_type()))?;
    let data = column(batch, "data")?;
    let data = data.as_binary_opt::<i64>().ok_or_else(|| column::wrong("data", "LargeBinary", data.data_type()))?;
    (0..batch.num_rows())
        .map(|row| {
            let sizes = shape.value(row);
            let sizes = sizes
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| column::wrong("shape", "List<Int64>", shape.data_type()))?;
            Ok(Weight {
                tensor: tensor.value(row),
                shape: sizes.values().to_vec(),
                dtype: dtype.value(row),
                data: data.value(row),
            })
        })
        .collect()
}
