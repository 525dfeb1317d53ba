//! Reading images of files that hold many.

use std::collections::HashMap;
use std::path::Path;

use tessera_schemas::images::Source;

use super::{Kind, batches, pages};
use crate::{Error, Files, Read};

/// The bytes of some images, by the rows of their files.
pub(crate) fn read_each(
    files: &dyn Files,
    root: &Path,
    column: &str,
    sources: &[Source<'_>],
) -> Vec<Result<Vec<u8>, Error>> {
    let in_rows = |path: &Path, rows: &[u64]| match Kind::of(&path.to_string_lossy()) {
        Some(Kind::Arrow) => batches::rows(files, path, column, rows),
        _ => pages::rows(files, path, column, rows),
    };
    placed_or(files, root, sources, in_rows)
}

/// Reads images where they lie as they are in their files; has the rows of the others read as [`by_file`] does.
pub(crate) fn placed_or(
    files: &dyn Files,
    root: &Path,
    sources: &[Source<'_>],
    in_rows: impl Fn(&Path, &[u64]) -> Result<Vec<Option<Vec<u8>>>, Error>,
) -> Vec<Result<Vec<u8>, Error>> {
    if sources.iter().all(|source| source.offset.is_none()) {
        return by_file(root, sources, in_rows);
    }
    // Those that lie as they are in their files, and those that do not.
    let (placed, others): (Vec<usize>, Vec<usize>) = (0..sources.len()).partition(|at| sources[*at].offset.is_some());
    let of = |places: &[usize]| places.iter().map(|at| sources[*at].clone()).collect::<Vec<_>>();
    let reads: Vec<Read> = of(&placed)
        .iter()
        .map(|source| Read { path: root.join(source.path), range: source.offset.zip(source.length) })
        .collect();
    let mut read = files.read_each(&reads).into_iter();
    let mut unpacked = by_file(root, &of(&others), in_rows).into_iter();
    let lacking = || Err(Error::format(root, "fewer images were read than were asked for"));
    let found = sources.iter().map(|source| if source.offset.is_some() { read.next() } else { unpacked.next() });
    found.map(|found| found.unwrap_or_else(lacking)).collect()
}

/// Has the rows of each file read together, in their order; a row that is asked for twice comes twice.
pub(crate) fn by_file(
    root: &Path,
    sources: &[Source<'_>],
    read: impl Fn(&Path, &[u64]) -> Result<Vec<Option<Vec<u8>>>, Error>,
) -> Vec<Result<Vec<u8>, Error>> {
    let mut by_file: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
    let mut found: Vec<Option<Result<Vec<u8>, Error>>> = Vec::new();
    found.resize_with(sources.len(), || None);
    for (at, source) in sources.iter().enumerate() {
        match source.row {
            Some(row) => by_file.entry(source.path).or_default().push((row, at)),
            None => found[at] = Some(Err(Error::format(root.join(source.path), "the image is in no row of it"))),
        }
    }
    for (path, mut rows) in by_file {
        rows.sort_unstable();
        let path = root.join(path);
        match read(&path, &rows.iter().map(|(row, _)| *row).collect::<Vec<_>>()) {
            Ok(read) => {
                for ((row, at), bytes) in rows.into_iter().zip(read) {
                    let lacking = || Error::format(&path, format!("row {row} has no bytes"));
                    found[at] = Some(bytes.ok_or_else(lacking));
                }
            }
            Err(error) => {
                let said = error.to_string();
                let mut first = Some(error);
                for (_, at) in rows {
                    found[at] = Some(Err(first.take().unwrap_or_else(|| Error::format(&path, &said))));
                }
            }
        }
    }
    let lacking = || Error::format(root, "fewer images were read than were asked for");
    found.into_iter().map(|found| found.unwrap_or_else(|| Err(lacking()))).collect()
}
