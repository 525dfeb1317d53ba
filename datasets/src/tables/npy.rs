//! NumPy's `.npy`: one array, whose first axis is the rows.
//!
//! `N` values are the column `value`. `N x D` are vectors, the column `feature`; more axes are flattened in C order, the last one fastest, and
//! the field's metadata has their shape, as of HDF5. Integers of 8 and 16 bits are vectors of the same numbers; those of 32 and 64 bits are
//! no vectors, since f32 does not hold them all.
//!
//! Only the rows of a batch are in memory. In Fortran order these lie in `D` places, and a batch of its own would read each page many
//! times: so a block of rows of up to [`BLOCK_BYTES`] is read in `D` reads, transposed, and yielded in batches.
//!
//! Reference: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, FixedSizeListArray, PrimitiveArray, RecordBatch,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use tessera_schemas::{features, meta};

use super::raw::Raw;
use super::{Batches, Header, VALUE};
use crate::{Error, Read};
use layout::{Description, Layout};

mod layout;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of rows in Fortran order that are read together. They are in memory twice while they are transposed.
const BLOCK_BYTES: u64 = 64 << 20;
/// Rows that are transposed together, so that they stay in the cache.
const TILE_ROWS: usize = 64;

/// Columns and number of rows.
pub fn header(raw: Raw<'_>) -> Result<Header, Error> {
    let npy = Npy::open(raw)?;
    Ok(Header::new(npy.schema().map_err(|message| raw.error(message))?, Some(npy.layout.rows)))
}

/// Some rows.
pub fn batches(raw: Raw<'_>, rows: usize, range: Range<u64>) -> Result<Batches<'_>, Error> {
    let npy = Npy::open(raw)?;
    let schema = npy.schema().map_err(|message| raw.error(message))?;
    let block = npy.block(rows as u64);
    let end = npy.layout.rows.min(range.end);
    Ok(Box::new((range.start..end).step_by(block as usize).flat_map(move |start| -> Batches<'_> {
        let batch = npy.values(raw, start, (end - start).min(block)).and_then(|values| npy.batch(raw, &schema, values));
        match batch {
            Ok(batch) => {
                let starts = (0..batch.num_rows()).step_by(rows);
                Box::new(starts.map(move |start| Ok(batch.slice(start, rows.min(batch.num_rows() - start)))))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })))
}

/// The rows of a two-dimensional array of integers.
pub fn integers(raw: Raw<'_>) -> Result<Vec<Vec<i64>>, Error> {
    let npy = Npy::open(raw)?;
    let [width] = npy.layout.axes[..] else { return Err(raw.error("is no array of integers in two dimensions")) };
    if !npy.layout.item.is_integer() {
        return Err(raw.error("is no array of integers in two dimensions"));
    }
    let all = npy.values(raw, 0, npy.layout.rows)?;
    let all = cast(&all, &DataType::Int64).map_err(|error| raw.error(error))?;
    // What is too large for its type has become a null, and is no number that anybody means.
    let all: Vec<i64> = all.as_primitive::<Int64Type>().iter().map(|value| value.unwrap_or(i64::MAX)).collect();
    Ok(all.chunks(width as usize).map(<[i64]>::to_vec).collect())
}

/// An array on disk.
struct Npy {
    /// Where its values begin, in bytes.
    offset: u64,
    layout: Layout,
}

impl Npy {
    fn open(raw: Raw<'_>) -> Result<Self, Error> {
        let start = raw.read(0, raw.size.min(12))?;
        if !start.starts_with(MAGIC) {
            return Err(raw.error("is no .npy file: it does not begin with \\x93NUMPY"));
        }
        let (length, offset) = match start[MAGIC.len()..] {
            [1, _, a, b, ..] => (u32::from(u16::from_le_bytes([a, b])), 10),
            [2 | 3, _, a, b, c, d] => (u32::from_le_bytes([a, b, c, d]), 12),
            [] | [1..=3, ..] => return Err(raw.error("ends within its header")),
            [version, ..] => return Err(raw.error(format!("has version {version} of .npy; 1, 2 and 3 are known"))),
        };
        let text = raw.read(offset, u64::from(length))?;
        let layout = String::from_utf8_lossy(&text).parse::<Description>().and_then(Description::layout);
        let layout = layout.map_err(|message| raw.error(message))?;
        let npy = Self { offset: offset + u64::from(length), layout };
        let bytes = npy.layout.row_bytes().checked_mul(npy.layout.rows).and_then(|all| all.checked_add(npy.offset));
        match bytes {
            Some(bytes) if bytes <= raw.size => Ok(npy),
            _ => Err(raw.error(format!("has {} bytes, which are fewer than its header promises", raw.size))),
        }
    }

    fn schema(&self) -> Result<SchemaRef, String> {
        let Layout { item, axes, .. } = &self.layout;
        let field = match (axes.len(), item) {
            (0, _) => Field::new(VALUE, item.clone(), false),
            (_, DataType::Boolean) => {
                return Err("holds truth values in two dimensions; a column's vectors are of floats".into());
            }
            (_, DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64) => {
                return Err(format!(
                    "holds {item} in two dimensions; a column's vectors are of floats: save array.astype(\"float32\") of it"
                ));
            }
            (count, _) => {
                let element = Arc::new(Field::new("element", self.element(), false));
                let kind = DataType::FixedSizeList(element, self.layout.width() as i32);
                let field = Field::new(features::FEATURE, kind, false);
                if count > 1 { meta::with(field, meta::SHAPE, meta::join(axes)) } else { field }
            }
        };
        Ok(Arc::new(Schema::new(vec![field])))
    }

    /// The type of a vector's elements.
    fn element(&self) -> DataType {
        if self.layout.item.is_floating() { self.layout.item.clone() } else { DataType::Float32 }
    }

    /// How many rows are read together, where batches have that many.
    fn block(&self, rows: u64) -> u64 {
        let most = (BLOCK_BYTES / self.layout.row_bytes().max(1)).max(1);
        if self.layout.is_fortran && most > rows { most / rows * rows } else { rows.min(most) }.max(1)
    }

    /// The values of some rows, row by row.
    fn values(&self, raw: Raw<'_>, start: u64, rows: u64) -> Result<ArrayRef, Error> {
        let Layout { item, item_bytes, is_big, is_fortran, .. } = &self.layout;
        let row = self.layout.row_bytes();
        let bytes = if *is_fortran && self.layout.width() > 1 && rows > 0 {
            let (all, size) = (self.layout.rows, *item_bytes);
            // Columns of all rows lie one after another.
            let count = if rows == all { 1 } else { self.layout.width() };
            let length = rows * row / count;
            let place = |column: u64| self.offset + (column * all + start) * size;
            let reads = (0..count).map(|column| Read { path: raw.path.to_owned(), range: Some((place(column), length)) });
            let pieces = raw.files.read_each(&reads.collect::<Vec<_>>());
            let pieces = pieces.into_iter().collect::<Result<Vec<_>, _>>()?;
            let columns: Vec<&[u8]> = pieces.iter().flat_map(|piece| piece.chunks((rows * size) as usize)).collect();
            let order = self.layout.order();
            match size {
                1 => transposed::<1>(&columns, &order),
                2 => transposed::<2>(&columns, &order),
                4 => transposed::<4>(&columns, &order),
                _ => transposed::<8>(&columns, &order),
            }
        } else {
            raw.read(self.offset + start * row, rows * row)?
        };
        Ok(array(&bytes, item, *is_big))
    }

    fn batch(&self, raw: Raw<'_>, schema: &SchemaRef, values: ArrayRef) -> Result<RecordBatch, Error> {
        let column: ArrayRef = match schema.field(0).data_type() {
            DataType::FixedSizeList(item, width) => {
                let values = cast(&values, item.data_type()).map_err(|error| raw.error(error))?;
                Arc::new(FixedSizeListArray::new(item.clone(), *width, values, None))
            }
            _ => values,
        };
        RecordBatch::try_new(schema.clone(), vec![column]).map_err(|error| raw.error(error))
    }
}

/// Rows of values of `SIZE` bytes, of columns that lie one after another; `order` says which column is which value of a row.
fn transposed<const SIZE: usize>(columns: &[&[u8]], order: &[usize]) -> Vec<u8> {
    let rows = columns.first().map_or(0, |column| column.len() / SIZE);
    let width = columns.len();
    let mut bytes = vec![0; rows * width * SIZE];
    let (values, _) = bytes.as_chunks_mut::<SIZE>();
    for (tile, values) in values.chunks_mut(TILE_ROWS * width).enumerate() {
        let start = tile * TILE_ROWS;
        let end = rows.min(start + TILE_ROWS);
        for (column, &at) in columns.iter().zip(order) {
            let (column, _) = column.as_chunks::<SIZE>();
            for (value, row) in column[start..end].iter().zip(values.chunks_mut(width)) {
                row[at] = *value;
            }
        }
    }
    bytes
}

fn array(bytes: &[u8], item: &DataType, is_big: bool) -> ArrayRef {
    macro_rules! numbers {
        ($kind:ty) => {{
            type Value = <$kind as ArrowPrimitiveType>::Native;
            let (values, _) = bytes.as_chunks();
            let read = if is_big { Value::from_be_bytes } else { Value::from_le_bytes };
            Arc::new(PrimitiveArray::<$kind>::from_iter_values(values.iter().map(|&value| read(value))))
        }};
    }
    match item {
        DataType::Boolean => Arc::new(bytes.iter().map(|&byte| Some(byte != 0)).collect::<BooleanArray>()),
        DataType::Float16 => numbers!(Float16Type),
        DataType::Float32 => numbers!(Float32Type),
        DataType::Float64 => numbers!(Float64Type),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        other => unreachable!("a description lets no {other} through"),
    }
}

#[cfg(test)]
mod tests;
