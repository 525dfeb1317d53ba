//! A column's values as bytes, and as lists' values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeListArray, OffsetSizeTrait};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, UInt8Type};
use hdf5_metno::Group;

use super::super::chunked::Chunked;
use super::super::raw::Item;
use super::TEXT_STEP;

/// Bytes of the longest text.
const LONGEST_TEXT: usize = 1 << 20;

/// The bytes of values that take one number of them; those of nulls are NaN, or zeros.
pub fn plain(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<Vec<u8>, String> {
    let (values, width) = match column.as_fixed_size_list_opt() {
        Some(list) => {
            let list: &FixedSizeListArray = list;
            let width = list.value_length() as usize;
            (list.values().slice(list.value_offset(0) as usize, list.len() * width), width)
        }
        None => (column.clone(), 1),
    };
    if width > 1 && values.null_count() > 0 {
        return Err("a vector has a null among its numbers".into());
    }
    let mut bytes: Vec<u8> = match values.data_type() {
        DataType::Boolean => values.as_boolean().values().iter().map(u8::from).collect(),
        DataType::Null => vec![0; values.len()],
        kind => {
            let bytes = match kind {
                DataType::FixedSizeBinary(bytes) => *bytes as usize,
                kind => kind.primitive_width().ok_or_else(|| format!("is of {kind}"))?,
            };
            let data = values.to_data();
            data.buffers()[0].as_slice()[data.offset() * bytes..][..values.len() * bytes].to_vec()
        }
    };
    let Some(nulls) = nulls else { return Ok(bytes) };
    let item = bytes.len() / values.len().max(1);
    let nothing = match values.data_type() {
        DataType::Float16 => 0x7e00_u16.to_le_bytes().to_vec(),
        DataType::Float32 => f32::NAN.to_le_bytes().to_vec(),
        DataType::Float64 => f64::NAN.to_le_bytes().to_vec(),
        _ => vec![0; item],
    };
    for row in (0..nulls.len()).filter(|&row| nulls.is_null(row)) {
        for value in bytes[row * width * item..(row + 1) * width * item].chunks_exact_mut(item) {
            value.copy_from_slice(&nothing);
        }
    }
    Ok(bytes)
}

/// Appends texts, after making their places longer where one needs it.
pub fn text(data: &mut Option<Chunked>, column: &ArrayRef, group: &Group, name: &str, threads: usize) -> Result<(), String> {
    let texts = column.as_string::<i32>();
    let longest = texts.iter().flatten().map(str::len).max().unwrap_or_default();
    if longest > LONGEST_TEXT {
        return Err(format!("a text has {longest} bytes, and HDF5's are best kept below {LONGEST_TEXT}: write Parquet"));
    }
    if texts.iter().flatten().any(|text| text.ends_with('\0')) {
        return Err("a text ends with a zero, which HDF5 takes for the end of a shorter one: write Parquet".into());
    }
    let data = match data {
        Some(data) if data.width() >= longest => data,
        Some(data) => {
            data.widen(group, longest.max(data.width() * 3 / 2).next_multiple_of(TEXT_STEP))?;
            data
        }
        None => {
            let width = longest.max(1).next_multiple_of(TEXT_STEP);
            data.insert(Chunked::create(group, name, Item::Text(width), &[], threads)?)
        }
    };
    let width = data.width();
    // Wide texts go in pieces, so that memory does not depend on the longest of a batch.
    let rows = ((8 << 20) / width).max(1);
    for start in (0..texts.len()).step_by(rows) {
        let end = texts.len().min(start + rows);
        let mut bytes = vec![0; (end - start) * width];
        for (row, place) in (start..end).zip(bytes.chunks_exact_mut(width)) {
            if texts.is_valid(row) {
                let text = texts.value(row).as_bytes();
                place[..text.len()].copy_from_slice(text);
            }
        }
        data.push(&bytes)?;
    }
    Ok(())
}

/// Where each list's values begin and end, from 0 on, and the values.
pub fn items(column: &ArrayRef) -> Result<(Vec<i64>, ArrayRef), String> {
    fn of<O: OffsetSizeTrait>(offsets: &[O]) -> (Vec<i64>, usize, usize) {
        let number = |offset: &O| offset.as_usize() as i64;
        let first = offsets.first().map_or(0, number);
        let bounds: Vec<i64> = offsets.iter().map(|offset| number(offset) - first).collect();
        let length = bounds.last().copied().unwrap_or_default() as usize;
        (bounds, first as usize, length)
    }
    let bytes = |buffer: &arrow::buffer::Buffer, start: usize, length: usize| -> ArrayRef {
        let values = buffer.slice_with_length(start, length);
        Arc::new(arrow::array::PrimitiveArray::<UInt8Type>::new(values.into(), None))
    };
    Ok(match column.data_type() {
        DataType::List(_) => {
            let (bounds, start, length) = of(column.as_list::<i32>().value_offsets());
            (bounds, column.as_list::<i32>().values().slice(start, length))
        }
        DataType::LargeList(_) => {
            let (bounds, start, length) = of(column.as_list::<i64>().value_offsets());
            (bounds, column.as_list::<i64>().values().slice(start, length))
        }
        DataType::Binary => {
            let (bounds, start, length) = of(column.as_binary::<i32>().value_offsets());
            (bounds, bytes(column.as_binary::<i32>().values(), start, length))
        }
        DataType::LargeBinary => {
            let (bounds, start, length) = of(column.as_binary::<i64>().value_offsets());
            (bounds, bytes(column.as_binary::<i64>().values(), start, length))
        }
        DataType::FixedSizeList(_, width) => {
            let list = column.as_fixed_size_list();
            let width = i64::from(*width);
            let bounds = (0..=list.len() as i64).map(|row| row * width).collect();
            (bounds, list.values().slice(list.value_offset(0) as usize, list.len() * width as usize))
        }
        other => return Err(format!("is of {other}")),
    })
}
