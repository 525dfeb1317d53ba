//! The types of HDF5's values, and their bytes as columns of Arrow.

use std::fmt;
use std::sync::Arc;

use super::heap::{Heap, REFERENCE_BYTES};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{
    DataType, Field, Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

mod told;

/// Bytes of one value.
pub const MOST_BYTES: u64 = 1 << 30;
/// Bytes of a text that an error shows.
const SHOWN: usize = 60;

/// The type of a dataset's values, as they lie in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Whole numbers of 1, 2, 4 or 8 bytes.
    Int { bytes: usize, signed: bool, big: bool },
    /// IEEE's floats of 2, 4 or 8 bytes.
    Float { bytes: usize, big: bool },
    /// h5py's: an enumeration of FALSE and TRUE in one byte.
    Bool,
    /// Whole numbers that have names.
    Enum { bytes: usize, signed: bool, big: bool, names: Vec<(i128, String)> },
    /// Text of that many bytes at most.
    Text { bytes: usize, pad: Pad },
    /// Text that lies in the file's heap.
    LongText,
    /// Values that lie in the file's heap, as many as there are.
    List(Box<Kind>),
    /// A struct of that many bytes.
    Struct { bytes: usize, members: Vec<Member> },
    /// An array in each value.
    Array { item: Box<Kind>, shape: Vec<u64> },
    /// Bytes.
    Opaque { bytes: usize },
}

/// What follows a text that is shorter than its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pad {
    /// A zero, and then anything.
    Terminated,
    /// Zeros.
    Zeros,
    /// Spaces.
    Spaces,
}

/// A struct's field.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it begins in the struct, in bytes.
    pub offset: usize,
    /// Its type.
    pub kind: Kind,
}

impl Kind {
    /// Bytes of a value in the file.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Int { bytes, .. }
            | Self::Float { bytes, .. }
            | Self::Enum { bytes, .. }
            | Self::Text { bytes, .. }
            | Self::Struct { bytes, .. }
            | Self::Opaque { bytes } => *bytes,
            Self::Bool => 1,
            Self::LongText | Self::List(_) => REFERENCE_BYTES,
            Self::Array { item, shape } => item.bytes() * shape.iter().product::<u64>() as usize,
        }
    }

    /// Whether a value, or a part of it, lies in the file's heap.
    pub fn in_heap(&self) -> bool {
        match self {
            Self::LongText | Self::List(_) => true,
            Self::Struct { members, .. } => members.iter().any(|member| member.kind.in_heap()),
            Self::Array { item, .. } => item.in_heap(),
            _ => false,
        }
    }

    /// The type of a column of such values.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Int { bytes, signed, .. } => int_type(*bytes, *signed),
            Self::Float { bytes: 2, .. } => DataType::Float16,
            Self::Float { bytes: 4, .. } => DataType::Float32,
            Self::Float { .. } => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Enum { .. } | Self::Text { .. } | Self::LongText => DataType::Utf8,
            Self::List(item) => DataType::List(element(item.arrow())),
            Self::Struct { members, .. } => DataType::Struct(fields(members)),
            Self::Array { item, shape } => {
                DataType::FixedSizeList(element(item.arrow()), shape.iter().product::<u64>() as i32)
            }
            Self::Opaque { bytes } => DataType::FixedSizeBinary(*bytes as i32),
        }
    }

    /// A column of the values that lie side by side in `bytes`.
    ///
    /// # Errors A value does not fit its type; the message names its place, counted from 0.
    pub fn column(&self, bytes: &Buffer, heap: &Heap<'_>) -> Result<ArrayRef, String> {
        let rows = bytes.len() / self.bytes();
        Ok(match self {
            Self::Int { bytes: width, signed, big } => ints(bytes, *width, *signed, *big),
            Self::Float { bytes: 2, big } => numbers::<Float16Type, 2>(bytes, *big),
            Self::Float { bytes: 4, big } => numbers::<Float32Type, 4>(bytes, *big),
            Self::Float { big, .. } => numbers::<Float64Type, 8>(bytes, *big),
            Self::Bool => Arc::new(BooleanArray::from_iter(bytes.iter().map(|&byte| Some(byte != 0)))),
            Self::Enum { bytes: width, signed, big, names } => {
                let name = |(row, bytes): (usize, &[u8])| {
                    let value = number(bytes, *signed, *big);
                    let known = names.iter().find(|(known, _)| *known == value);
                    known.map(|(_, name)| name.as_str()).ok_or_else(|| format!("value {row} is {value}, which has no name"))
                };
                let texts = bytes.chunks_exact(*width).enumerate().map(name);
                Arc::new(StringArray::from_iter_values(texts.collect::<Result<Vec<_>, _>>()?))
            }
            Self::Text { bytes: width, pad } => {
                let texts = bytes.chunks_exact(*width).enumerate().map(|(row, bytes)| text(pad.cut(bytes), row));
                Arc::new(StringArray::from_iter_values(texts.collect::<Result<Vec<_>, _>>()?))
            }
            Self::LongText => {
                let mut builder = arrow::array::StringBuilder::with_capacity(rows, rows * 16);
                for row in 0..rows {
                    let found = heap.find(&bytes[row * REFERENCE_BYTES..][..REFERENCE_BYTES], 1)?;
                    // Some programs store a text with the zero at its end.
                    builder.append_value(text(Pad::Terminated.cut(&found), row)?);
                }
                Arc::new(builder.finish())
            }
            Self::List(item) => {
                let mut all = Vec::new();
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0_i32);
                for row in 0..rows {
                    all.extend_from_slice(&heap.find(&bytes[row * REFERENCE_BYTES..][..REFERENCE_BYTES], item.bytes())?);
                    let end = i32::try_from(all.len() / item.bytes()).map_err(|_| "lists of too many values in all")?;
                    offsets.push(end);
                }
                let values = item.column(&Buffer::from_vec(all), heap)?;
                let list = arrow::array::ListArray::try_new(
                    element(item.arrow()),
                    arrow::buffer::OffsetBuffer::new(offsets.into()),
                    values,
                    None,
                );
                Arc::new(list.map_err(|error| error.to_string())?)
            }
            Self::Struct { bytes: width, members } => {
                let columns = members.iter().map(|member| {
                    let packed = member.packed(bytes, *width);
                    member.kind.column(&packed, heap).map_err(|message| format!("field `{}`: {message}", member.name))
                });
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(fields(members), columns, None).map_err(|error| error.to_string())?)
            }
            Self::Array { item, shape } => {
                let values = item.column(bytes, heap)?;
                let width = shape.iter().product::<u64>() as i32;
                Arc::new(FixedSizeListArray::new(element(item.arrow()), width, values, None))
            }
            Self::Opaque { bytes: width } => Arc::new(FixedSizeBinaryArray::new(*width as i32, bytes.clone(), None)),
        })
    }
}

impl Member {
    /// The field's bytes alone, of structs of that many bytes.
    pub fn packed(&self, structs: &Buffer, width: usize) -> Buffer {
        let bytes = self.kind.bytes();
        let mut packed = Vec::with_capacity(structs.len() / width * bytes);
        for one in structs.chunks_exact(width) {
            packed.extend_from_slice(&one[self.offset..self.offset + bytes]);
        }
        Buffer::from_vec(packed)
    }
}

impl Pad {
    /// A text without what follows it.
    fn cut(self, bytes: &[u8]) -> &[u8] {
        let end = match self {
            Self::Terminated => bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()),
            Self::Zeros => bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
            Self::Spaces => bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1),
        };
        &bytes[..end]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { bytes, signed, .. } => write!(f, "{}int{}", if *signed { "" } else { "u" }, bytes * 8),
            Self::Float { bytes, .. } => write!(f, "float{}", bytes * 8),
            Self::Bool => f.write_str("bool"),
            Self::Enum { .. } => f.write_str("enumeration"),
            Self::Text { bytes, .. } => write!(f, "text of {bytes} bytes"),
            Self::LongText => f.write_str("text"),
            Self::List(item) => write!(f, "lists of {item}"),
            Self::Struct { members, .. } => {
                let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
                write!(f, "struct of {}", names.join(", "))
            }
            Self::Array { item, shape } => write!(f, "{} {item}", sides(shape)),
            Self::Opaque { bytes } => write!(f, "{bytes} opaque bytes"),
        }
    }
}

/// `3 x 32 x 32`.
pub fn sides(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}

/// The field of a list's values.
pub fn element(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", kind, false))
}

fn fields(members: &[Member]) -> Fields {
    members.iter().map(|member| Field::new(&member.name, member.kind.arrow(), false)).collect()
}

fn text(bytes: &[u8], row: usize) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| {
        let (shown, more) = if bytes.len() > SHOWN { (&bytes[..SHOWN], "…") } else { (bytes, "") };
        format!("text {row} is not UTF-8: `{}{more}`", shown.escape_ascii())
    })
}

fn int_type(bytes: usize, signed: bool) -> DataType {
    match (bytes, signed) {
        (1, true) => DataType::Int8,
        (2, true) => DataType::Int16,
        (4, true) => DataType::Int32,
        (_, true) => DataType::Int64,
        (1, false) => DataType::UInt8,
        (2, false) => DataType::UInt16,
        (4, false) => DataType::UInt32,
        (_, false) => DataType::UInt64,
    }
}

fn ints(bytes: &Buffer, width: usize, signed: bool, big: bool) -> ArrayRef {
    match (width, signed) {
        (1, true) => numbers::<Int8Type, 1>(bytes, big),
        (2, true) => numbers::<Int16Type, 2>(bytes, big),
        (4, true) => numbers::<Int32Type, 4>(bytes, big),
        (_, true) => numbers::<Int64Type, 8>(bytes, big),
        (1, false) => numbers::<UInt8Type, 1>(bytes, big),
        (2, false) => numbers::<UInt16Type, 2>(bytes, big),
        (4, false) => numbers::<UInt32Type, 4>(bytes, big),
        (_, false) => numbers::<UInt64Type, 8>(bytes, big),
    }
}

/// Numbers of `N` bytes; without a copy where they lie as the machine has them.
fn numbers<T: ArrowPrimitiveType, const N: usize>(bytes: &Buffer, big: bool) -> ArrayRef {
    let aligned = bytes.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let buffer = if big || !aligned {
        let (values, _) = bytes.as_slice().as_chunks::<N>();
        let mut turned = arrow::buffer::MutableBuffer::with_capacity(bytes.len());
        for value in values {
            let mut value = *value;
            if big {
                value.reverse();
            }
            turned.extend_from_slice(&value);
        }
        turned.into()
    } else {
        bytes.clone()
    };
    let length = bytes.len() / N;
    Arc::new(PrimitiveArray::<T>::new(arrow::buffer::ScalarBuffer::new(buffer, 0, length), None))
}

/// A whole number of up to 8 bytes.
fn number(bytes: &[u8], signed: bool, big: bool) -> i128 {
    let mut wide = [0_u8; 8];
    for (at, &byte) in bytes.iter().enumerate() {
        wide[if big { bytes.len() - 1 - at } else { at }] = byte;
    }
    let unused = 64 - 8 * bytes.len() as u32;
    let value = u64::from_le_bytes(wide) << unused;
    if signed { i128::from(value as i64 >> unused) } else { i128::from(value >> unused) }
}
