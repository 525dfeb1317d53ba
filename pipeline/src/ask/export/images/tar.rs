//! WebDataset's tar: of each image its file, `.cls` with its class, and `.json` with what else the table says.

use std::collections::HashSet;
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::Path;

use anyhow::Result;
use tar::{Builder, Header};

use super::super::NewFile;
use super::super::json::{self, Members};
use super::{Images, Wanted, safe};
use crate::watch::progress::Bar;

/// Writes all images into one tar. The same images make the same bytes.
pub(super) fn write(all: &Images<'_>, to: &Path, wanted: &Wanted, bar: &Bar) -> Result<u64> {
    let file = NewFile::create(to, wanted.force)?;
    let mut out = Builder::new(BufWriter::with_capacity(1 << 20, file.file()?));
    let mut keys = HashSet::new();
    let (options, schema) = (json::options(), all.rows.schema());
    let told = schema.fields().iter().zip(all.rows.columns());
    let mut members =
        Members::of(told.filter(|(field, _)| !["source", "digest"].contains(&field.name().as_str())), &options)?;
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
        let mut json = vec![b'{'];
        members.write(image.row, &mut json);
        json.push(b'}');
        member(&mut out, &format!("{key}.json"), &json)
    })?;
    out.into_inner()?.into_inner().map_err(IntoInnerError::into_error)?;
    file.finish()?;
    Ok(count)
}

/// Writes a member of no time and no owner.
fn member(out: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    Ok(out.append_data(&mut header, name, bytes)?)
}
