//! WebDataset's tar: of each image its file, `.cls` with its class, and `.json` with what else the table says.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
use arrow::array::Array as _;
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::super::NewFile;
use super::{Images, Wanted, safe};
use crate::watch::progress::Bar;

/// Bytes of a header, and what members are filled up to.
const BLOCK: usize = 512;

/// Writes all images into one tar.
pub(super) fn write(all: &Images<'_>, to: &Path, wanted: &Wanted, bar: &Bar) -> Result<u64> {
    let file = NewFile::create(to, wanted.force)?;
    let mut out = BufWriter::with_capacity(1 << 20, file.file()?);
    let mut keys = HashSet::new();
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let schema = all.rows.schema();
    let told = schema
        .fields()
        .iter()
        .zip(all.rows.columns())
        .filter(|(field, _)| !["source", "digest"].contains(&field.name().as_str()));
    let mut columns = Vec::new();
    for (field, column) in told {
        columns.push((serde_json::to_string(field.name())?, column, make_encoder(field, column, &options)?));
    }
    let count = all.each(bar, |image| {
        // A key ends at the first point of the name.
        let name = safe(image.id);
        let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem).replace('.', "_");
        let ending = image.file_name().rsplit_once('.').map_or("bin".to_owned(), |(_, ending)| ending.to_ascii_lowercase());
        let mut key = stem.clone();
        for more in 1.. {
            if keys.insert(key.clone()) {
                break;
            }
            key = format!("{stem}-{more}");
        }
        member(&mut out, &format!("{key}.{ending}"), image.bytes)?;
        if let Some(class) = image.class {
            member(&mut out, &format!("{key}.cls"), class.as_bytes())?;
        }
        let mut json = Vec::new();
        for (name, column, encoder) in &mut columns {
            json.push(if json.is_empty() { b'{' } else { b',' });
            json.extend_from_slice(name.as_bytes());
            json.push(b':');
            if column.is_null(image.row) {
                json.extend_from_slice(b"null");
            } else {
                encoder.encode(image.row, &mut json);
            }
        }
        json.push(b'}');
        member(&mut out, &format!("{key}.json"), &json)
    })?;
    out.write_all(&[0; 2 * BLOCK])?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.finish()?;
    Ok(count)
}

/// Writes a member: its header, its bytes, and what fills up the block. A long name has a pax header before it.
fn member(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<()> {
    if name.len() > 100 {
        let mut length = name.len() + " path=\n".len();
        // The number counts its own digits.
        length += length.to_string().len();
        if length.to_string().len() + name.len() + " path=\n".len() != length {
            length = length.to_string().len() + name.len() + " path=\n".len();
        }
        let record = format!("{length} path={name}\n");
        out.write_all(&header("pax", record.len() as u64, b'x')?)?;
        fill(out, record.as_bytes())?;
    }
    let mut end = name.len().min(100);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    out.write_all(&header(&name[..end], bytes.len() as u64, b'0')?)?;
    fill(out, bytes)
}

fn fill(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes)?;
    Ok(out.write_all(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])?)
}

/// A header as ustar has it.
fn header(name: &str, size: u64, kind: u8) -> Result<[u8; BLOCK]> {
    if size >= 1 << 33 {
        bail!("`{name}` is too long for a tar");
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}
