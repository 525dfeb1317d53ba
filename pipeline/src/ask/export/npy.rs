//! A table's one column of numbers as NumPy's `.npy`: `[rows, D]` of vectors, `[rows, H, W, 3]` of pixels, `[rows]` of numbers.
//!
//! Reference: NumPy, "NEP 1: A simple file format for NumPy arrays".

use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};
use arrow::datatypes::SchemaRef;

use super::safetensors::{tensor_of, write_at};
use super::{NewFile, Rows};
use crate::watch::progress::Bar;

/// Bytes before the numbers: the number of rows is written when it is known, and has room.
const HEAD_BYTES: usize = 192;

/// Writes the numbers of rows. Returns how many rows there were.
///
/// # Errors
/// There is no column of numbers, or there are several; a value is null; or a row cannot be made or written.
pub fn write(rows: &mut Rows<'_>, file: &NewFile, bar: &Bar) -> Result<u64> {
    let (at, shape, kind) = only(&rows.schema)?;
    let name = rows.schema.field(at).name().clone();
    let out = file.file()?;
    let (mut count, mut end, expected) = (0, HEAD_BYTES as u64, rows.expected);
    for batch in rows {
        let batch = batch?;
        if batch.num_rows() > 0 {
            end += write_at(&out, end, batch.column(at)).with_context(|| format!("column `{name}`"))?;
        }
        count += batch.num_rows() as u64;
        bar.at(count, expected, "");
    }
    out.write_all_at(&head(kind, count, &shape)?, 0)?;
    Ok(count)
}

/// The column of numbers, the shape of a value, and NumPy's name of its type.
fn only(schema: &SchemaRef) -> Result<(usize, Vec<u64>, &'static str)> {
    let fields = schema.fields().iter().enumerate();
    let mut found: Vec<_> =
        fields.filter_map(|(at, field)| tensor_of(field).map(|(shape, kind)| (at, shape, kind))).collect();
    let names = |ats: &[usize]| ats.iter().map(|at| schema.field(*at).name().as_str()).collect::<Vec<_>>().join(", ");
    match found.len() {
        1 => {
            let (at, shape, kind) = found.remove(0);
            let kind = numpy(kind).with_context(|| format!("column `{}` has a type that NumPy lacks", names(&[at])))?;
            Ok((at, shape, kind))
        }
        0 => bail!("none of the columns {} is numeric", names(&(0..schema.fields().len()).collect::<Vec<_>>())),
        _ => {
            let found: Vec<usize> = found.iter().map(|(at, ..)| *at).collect();
            bail!("a .npy file holds one column of numbers, and there are {}: --columns names one", names(&found))
        }
    }
}

/// NumPy's name of a type.
fn numpy(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "BOOL" => "|b1",
        "I8" => "|i1",
        "I16" => "<i2",
        "I32" => "<i4",
        "I64" => "<i8",
        "U8" => "|u1",
        "U16" => "<u2",
        "U32" => "<u4",
        "U64" => "<u8",
        "F16" => "<f2",
        "F32" => "<f4",
        "F64" => "<f8",
        _ => return None,
    })
}

/// The bytes before the numbers.
fn head(kind: &str, rows: u64, shape: &[u64]) -> Result<Vec<u8>> {
    let sides: String = shape.iter().map(|side| format!(" {side},")).collect();
    let said = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows},{sides}), }}");
    let room = HEAD_BYTES - 10;
    if said.len() >= room {
        bail!("the shape has {} dimensions, more than a header has room for", shape.len() + 1);
    }
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend(u16::try_from(room)?.to_le_bytes());
    head.extend(said.bytes());
    head.resize(HEAD_BYTES - 1, b' ');
    head.push(b'\n');
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_numpys() {
        let head = head("<f4", 12, &[64, 64, 3]).unwrap();
        assert_eq!((head.len() % 64, &head[..8]), (0, &b"\x93NUMPY\x01\x00"[..]));
        let text = std::str::from_utf8(&head[10..]).unwrap();
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 64, 64, 3,), }");
        assert!(text.ends_with('\n'));
        let one = super::head("|u1", 3, &[]).unwrap();
        assert!(one[10..].starts_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }"));
        assert!(super::head("<f4", 1, &[1; 60]).is_err());
    }
}
