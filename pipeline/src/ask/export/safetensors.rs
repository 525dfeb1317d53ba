//! A table as safetensors: weights by their tensors' names, anything else as one tensor a column.
//!
//! A table of weights gives each row's tensor, and its network and normalisation as the file's metadata. Of another table a column
//! of vectors gives a tensor `[rows, length]` (pixels and tiles: `[rows, H, W, 3]`, as their metadata says), a column of numbers one of
//! `[rows]`. Text goes beside it, a line a row, into `NAME.ids.csv`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use tessera_operators::tensor_file::{Layout, Tensor, entries, width};
use tessera_schemas::{meta, weights};

use super::{NewFile, Rows, csv};
use crate::watch::progress::Bar;

/// Whether a table is one of weights.
pub fn is_weights(schema: &SchemaRef) -> bool {
    weights::rows(&RecordBatch::new_empty(schema.clone())).is_ok()
}

/// Writes a table of weights. Returns how many tensors there were.
///
/// # Errors
/// Two tensors have one name, a tensor's bytes do not fit its shape, or the file cannot be written.
pub fn weights(schema: &SchemaRef, batches: &[RecordBatch], file: &NewFile) -> Result<u64> {
    let mut all = Vec::new();
    for batch in batches {
        all.extend(weights::rows(batch)?);
    }
    let mut tensors = Vec::new();
    for weight in &all {
        let shape: Vec<u64> = weight.shape.iter().map(|&side| side as u64).collect();
        let expected = shape.iter().product::<u64>() * width(weight.dtype).unwrap_or_default();
        if weight.data.len() as u64 != expected {
            let found = weight.data.len();
            bail!("tensor `{}`: {:?} of {} takes {expected} bytes, found {found}", weight.tensor, shape, weight.dtype);
        }
        tensors.push(Tensor { name: weight.tensor.to_owned(), dtype: weight.dtype.to_owned(), shape });
    }
    let metadata = entries(&weights::network(schema)?);
    let layout = Layout::new(&tensors, &metadata).map_err(|message| anyhow!(message))?;
    let out = file.file()?;
    out.write_all_at(&layout.head, 0)?;
    for (weight, place) in all.iter().zip(&layout.places) {
        out.write_all_at(weight.data, place.start)?;
    }
    Ok(all.len() as u64)
}

/// What becomes of a table's columns.
#[derive(Debug)]
pub struct Columns {
    /// A tensor each, with the shape of a row and the type.
    tensors: Vec<(String, Vec<u64>, &'static str)>,
    /// The columns that are read of the table: first those that become tensors, then those of text.
    pub read: SchemaRef,
    /// Columns that have no place in such files.
    pub left_out: Vec<String>,
}

impl Columns {
    /// Sorts a table's columns.
    ///
    /// # Errors No column has numbers.
    pub fn of(schema: &SchemaRef) -> Result<Self> {
        let (mut tensors, mut numeric, mut text, mut left_out) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for field in schema.fields() {
            let name = field.name();
            if let Some((shape, dtype)) = tensor_of(field) {
                tensors.push((name.clone(), shape, dtype));
                numeric.push(field.clone());
            } else if field.data_type() == &DataType::Utf8 {
                text.push(field.clone());
            } else {
                left_out.push(name.clone());
            }
        }
        if tensors.is_empty() {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            bail!(
                "none of the columns {} is numeric, and safetensors holds numbers: write Parquet or CSV",
                known.join(", ")
            );
        }
        numeric.extend(text);
        Ok(Self { tensors, read: Arc::new(Schema::new(numeric)), left_out })
    }

    /// Whether there is text, which goes beside the file.
    pub fn has_text(&self) -> bool {
        self.read.fields().len() > self.tensors.len()
    }
}

/// Where the text of a table's rows goes.
pub fn ids_path(path: &Path) -> PathBuf {
    path.with_extension("ids.csv")
}

/// Writes `count` rows: numbers into the file, text into `ids`.
///
/// # Errors
/// There are other than `count` rows, a number is null, or a row cannot be made or written.
pub fn columns(
    rows: &mut Rows<'_>,
    columns: &Columns,
    count: u64,
    file: &NewFile,
    ids: Option<&NewFile>,
    bar: &Bar,
) -> Result<()> {
    let tensors: Vec<Tensor> = columns
        .tensors
        .iter()
        .map(|(name, shape, dtype)| {
            let shape = std::iter::once(count).chain(shape.iter().copied()).collect();
            Tensor { name: name.clone(), dtype: (*dtype).to_owned(), shape }
        })
        .collect();
    let layout = Layout::new(&tensors, &BTreeMap::new()).map_err(|message| anyhow!(message))?;
    let out = file.file()?;
    out.write_all_at(&layout.head, 0)?;
    let mut at: Vec<u64> = layout.places.iter().map(|place| place.start).collect();
    let texts: Vec<usize> = (tensors.len()..columns.read.fields().len()).collect();
    let mut lines = ids.map(|ids| csv::Lines::new(ids, &columns.read.project(&texts)?)).transpose()?;
    let (mut done, expected) = (0, rows.expected);
    for batch in rows {
        let batch = batch?;
        done += batch.num_rows() as u64;
        if done > count {
            break;
        }
        for ((column, at), tensor) in batch.columns().iter().zip(&mut at).zip(&tensors) {
            *at += write_at(&out, *at, column).with_context(|| format!("column `{}`", tensor.name))?;
        }
        if let Some(lines) = &mut lines {
            lines.write(&batch.project(&texts)?)?;
        }
        bar.at(done, expected, "");
    }
    if done != count {
        bail!("the table had {count} rows when they were counted, and has others now: is a run at work?");
    }
    if let Some(lines) = lines {
        lines.finish()?;
    }
    Ok(())
}

/// The shape of a value and its type, where it is numeric.
pub(super) fn tensor_of(field: &Field) -> Option<(Vec<u64>, &'static str)> {
    match field.data_type() {
        DataType::FixedSizeList(item, length) => {
            let declared = meta::list::<u64>(field, meta::SHAPE).unwrap_or_default();
            let fits = declared.iter().product::<u64>() == *length as u64 && !declared.is_empty();
            let shape = if fits { declared } else { vec![*length as u64] };
            Some((shape, dtype(item.data_type())?))
        }
        other => Some((Vec::new(), dtype(other)?)),
    }
}

fn dtype(kind: &DataType) -> Option<&'static str> {
    Some(match kind {
        DataType::Boolean => "BOOL",
        DataType::Int8 => "I8",
        DataType::Int16 => "I16",
        DataType::Int32 => "I32",
        DataType::Int64 => "I64",
        DataType::UInt8 => "U8",
        DataType::UInt16 => "U16",
        DataType::UInt32 => "U32",
        DataType::UInt64 => "U64",
        DataType::Float16 => "F16",
        DataType::Float32 => "F32",
        DataType::Float64 => "F64",
        _ => return None,
    })
}

/// Writes a column's values and returns how many bytes they took.
pub(super) fn write_at(out: &File, at: u64, column: &ArrayRef) -> Result<u64> {
    let nulls = "has nulls, and such files hold numbers alone: leave it out by --columns";
    if column.null_count() > 0 {
        bail!(nulls);
    }
    let values = match column.as_fixed_size_list_opt() {
        Some(list) => {
            let width = list.value_length() as usize;
            list.values().slice(list.value_offset(0) as usize, list.len() * width)
        }
        None => column.clone(),
    };
    if values.null_count() > 0 {
        bail!(nulls);
    }
    fn raw<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>) -> Vec<u8> {
        values.values().inner().as_slice().to_vec()
    }
    let bytes = match values.data_type() {
        DataType::Boolean => values.as_boolean().values().iter().map(u8::from).collect(),
        DataType::Int8 => raw(values.as_primitive::<Int8Type>()),
        DataType::Int16 => raw(values.as_primitive::<Int16Type>()),
        DataType::Int32 => raw(values.as_primitive::<Int32Type>()),
        DataType::Int64 => raw(values.as_primitive::<Int64Type>()),
        DataType::UInt8 => raw(values.as_primitive::<UInt8Type>()),
        DataType::UInt16 => raw(values.as_primitive::<UInt16Type>()),
        DataType::UInt32 => raw(values.as_primitive::<UInt32Type>()),
        DataType::UInt64 => raw(values.as_primitive::<UInt64Type>()),
        DataType::Float16 => raw(values.as_primitive::<Float16Type>()),
        DataType::Float32 => raw(values.as_primitive::<Float32Type>()),
        DataType::Float64 => raw(values.as_primitive::<Float64Type>()),
        other => bail!("is of {other}, and safetensors has no such type"),
    };
    out.write_all_at(&bytes, at)?;
    Ok(bytes.len() as u64)
}
