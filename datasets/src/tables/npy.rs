//! NumPy's `.npy`: one array, whose first axis is the rows.
//!
//! Reference: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray as _, FixedSizeListArray, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use tessera_schemas::features;

use super::raw::Raw;
use super::{Batches, Header, VALUE};
use crate::Error;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Columns and number of rows.
pub fn header(raw: Raw<'_>) -> Result<Header, Error> {
    let npy = Npy::open(raw)?;
    if npy.width.is_some() && !npy.item.is_floating() {
        return Err(raw.error(format!("holds {} in two dimensions; a column's vectors are of floats", npy.item)));
    }
    Ok(Header { schema: npy.schema(), rows: Some(npy.rows) })
}

/// All rows.
pub fn batches(raw: Raw<'_>, rows: usize) -> Result<Batches<'_>, Error> {
    let npy = Npy::open(raw)?;
    let starts = (0..npy.rows).step_by(rows);
    Ok(Box::new(starts.map(move |start| npy.batch(raw, start, (npy.rows - start).min(rows as u64)))))
}

/// The rows of a two-dimensional array of integers.
pub fn integers(raw: Raw<'_>) -> Result<Vec<Vec<i64>>, Error> {
    let npy = Npy::open(raw)?;
    let (Some(width), true) = (npy.width, npy.item.is_integer()) else {
        return Err(raw.error("is no array of integers in two dimensions"));
    };
    let bytes = raw.read(npy.offset, npy.rows * npy.row_bytes().expect("`open` has multiplied them"))?;
    let all = cast(&values(&bytes, &npy.item), &DataType::Int64).map_err(|error| raw.error(error))?;
    // What is too large for its type has become a null, and is no number that anybody means.
    let all: Vec<i64> = all.as_primitive::<Int64Type>().iter().map(|value| value.unwrap_or(i64::MAX)).collect();
    Ok(all.chunks(width as usize).map(<[i64]>::to_vec).collect())
}

/// An array on disk.
struct Npy {
    /// Where its values begin, in bytes.
    offset: u64,
    item: DataType,
    item_bytes: u64,
    rows: u64,
    /// Of a two-dimensional array.
    width: Option<u64>,
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
        let description = String::from_utf8_lossy(&text).parse::<Description>();
        let npy = description.and_then(|description| description.layout(offset + u64::from(length)));
        let npy = npy.map_err(|message| raw.error(message))?;
        let promised = npy.row_bytes().and_then(|row| row.checked_mul(npy.rows)).and_then(|all| all.checked_add(npy.offset));
        match promised {
            Some(promised) if promised <= raw.size => Ok(npy),
            _ => Err(raw.error(format!("has {} bytes, which are fewer than its header promises", raw.size))),
        }
    }

    fn row_bytes(&self) -> Option<u64> {
        self.item_bytes.checked_mul(self.width.unwrap_or(1))
    }

    fn schema(&self) -> SchemaRef {
        let field = match self.width {
            None => Field::new(VALUE, self.item.clone(), false),
            Some(width) => {
                let item = Arc::new(Field::new("element", self.item.clone(), false));
                Field::new(features::FEATURE, DataType::FixedSizeList(item, width as i32), false)
            }
        };
        Arc::new(Schema::new(vec![field]))
    }

    fn batch(&self, raw: Raw<'_>, start: u64, rows: u64) -> Result<RecordBatch, Error> {
        let row_bytes = self.row_bytes().expect("`open` has multiplied them");
        let bytes = raw.read(self.offset + start * row_bytes, rows * row_bytes)?;
        let schema = self.schema();
        let values = values(&bytes, &self.item);
        let column: ArrayRef = match schema.field(0).data_type() {
            DataType::FixedSizeList(item, width) => Arc::new(FixedSizeListArray::new(item.clone(), *width, values, None)),
            _ => values,
        };
        RecordBatch::try_new(schema, vec![column]).map_err(|error| raw.error(error))
    }
}

/// What the header's text says.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    kind: String,
    columns_first: bool,
    shape: Vec<u64>,
}

impl std::str::FromStr for Description {
    type Err = String;

    /// Reads a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
    fn from_str(text: &str) -> Result<Self, String> {
        let entry = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':")).ok_or(format!("its header has no `{key}`"))?;
            Ok::<_, String>(rest.trim_start())
        };
        let kind = entry("descr")?;
        let kind = kind.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (kind, _) = kind.ok_or("has several fields a value (a structured array); save one array a file")?;
        let columns_first = entry("fortran_order")?.starts_with("True");
        let shape = entry("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.ok_or("its header has no shape")?;
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape = axes.map(|axis| axis.parse().map_err(|_| format!("its header has the shape ({shape})")));
        Ok(Self { kind: kind.to_owned(), columns_first, shape: shape.collect::<Result<_, _>>()? })
    }
}

impl Description {
    fn layout(self, offset: u64) -> Result<Npy, String> {
        let (rows, width) = match self.shape[..] {
            [rows] => (rows, None),
            [rows, width] if (1..=i32::MAX as u64).contains(&width) => (rows, Some(width)),
            _ => {
                let shape = self.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                return Err(format!("has shape ({shape}); (rows, width) and (rows) can be read"));
            }
        };
        if width.is_some() && self.columns_first {
            return Err("is in Fortran order; save numpy.ascontiguousarray of it".into());
        }
        let (item, item_bytes) = match self.kind.as_str() {
            "<f2" => (DataType::Float16, 2),
            "<f4" => (DataType::Float32, 4),
            "<f8" => (DataType::Float64, 8),
            "|i1" => (DataType::Int8, 1),
            "<i2" => (DataType::Int16, 2),
            "<i4" => (DataType::Int32, 4),
            "<i8" => (DataType::Int64, 8),
            "|u1" => (DataType::UInt8, 1),
            "<u2" => (DataType::UInt16, 2),
            "<u4" => (DataType::UInt32, 4),
            "<u8" => (DataType::UInt64, 8),
            kind => return Err(format!("holds values of type {kind}; little-endian floats and integers can be read")),
        };
        Ok(Npy { offset, item, item_bytes, rows, width })
    }
}

fn values(bytes: &[u8], item: &DataType) -> ArrayRef {
    macro_rules! little_endian {
        ($kind:ty) => {{
            type Value = <$kind as ArrowPrimitiveType>::Native;
            let (values, _) = bytes.as_chunks();
            Arc::new(PrimitiveArray::<$kind>::from_iter_values(values.iter().map(|&value| Value::from_le_bytes(value))))
        }};
    }
    match item {
        DataType::Float16 => little_endian!(Float16Type),
        DataType::Float32 => little_endian!(Float32Type),
        DataType::Float64 => little_endian!(Float64Type),
        DataType::Int8 => little_endian!(Int8Type),
        DataType::Int16 => little_endian!(Int16Type),
        DataType::Int32 => little_endian!(Int32Type),
        DataType::Int64 => little_endian!(Int64Type),
        DataType::UInt8 => little_endian!(UInt8Type),
        DataType::UInt16 => little_endian!(UInt16Type),
        DataType::UInt32 => little_endian!(UInt32Type),
        DataType::UInt64 => little_endian!(UInt64Type),
        other => unreachable!("a description lets no {other} through"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_python_dicts() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n";
        let found: Description = text.parse().unwrap();
        assert_eq!(found, Description { kind: "<f4".into(), columns_first: false, shape: vec![3, 2] });
        let found: Description = "{'shape':(7,),'fortran_order': True, 'descr':'|u1'}".parse().unwrap();
        assert_eq!(found, Description { kind: "|u1".into(), columns_first: true, shape: vec![7] });
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refused = |text: &str| text.parse::<Description>().and_then(|d| d.layout(0).map(|_| ())).unwrap_err();
        let dict = |kind: &str, order: &str, shape: &str| {
            format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}}}")
        };
        assert!(refused(&dict("'>f4'", "False", "(3, 2)")).contains(">f4; little-endian floats and integers"));
        assert!(refused(&dict("'<U5'", "False", "(3,)")).contains("<U5; little-endian floats and integers"));
        assert!(refused(&dict("'<f4'", "True", "(3, 2)")).contains("Fortran order"));
        assert!(refused(&dict("'<f4'", "False", "(3, 2, 5)")).contains("shape (3, 2, 5)"));
        assert!(refused(&dict("'<f4'", "False", "(3, 0)")).contains("shape (3, 0)"));
        assert!(refused(&dict("'<f4'", "False", "(-3,)")).contains("shape (-3,)"));
        assert!(refused(&dict("[('a', '<f4')]", "False", "(3,)")).contains("structured"));
        assert!(refused("{'descr': '<f4'}").contains("no `fortran_order`"));
    }
}
