//! Packed shards, unpacked once, so that any image in them can be read by itself.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::shards::packing;
use super::tape::{Packing, Raw, Tape};
use crate::{Error, FileDigest, Files};

/// Bytes that are written at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Whether a shard is packed, as its name says.
pub fn is_packed(path: &str) -> bool {
    packing(path).is_some_and(|packing| packing != Packing::None)
}

/// The local file with the unpacked bytes of a shard, in a folder that is made if it is not there. A file that an earlier call made of
/// the same bytes is taken. Of a damaged shard it has what stands before the damage, as its rows do.
///
/// The file appears under its name when it is whole and on the disk, whatever else unpacks the same shard meanwhile.
///
/// # Errors
/// The shard cannot be read; it is not packed; the folder cannot be written to.
pub fn unpack(files: &dyn Files, shard: &Path, digest: &FileDigest, scratch: &Path) -> Result<PathBuf, Error> {
    let packing = packing(&shard.to_string_lossy()).filter(|packing| *packing != Packing::None);
    let packing = packing.ok_or_else(|| Error::format(shard, "it is no packed shard"))?;
    if digest.hash().is_none() {
        return Err(Error::format(shard, format!("it cannot be unpacked: its digest is `{digest}`")));
    }
    let path = scratch.join(format!("{digest}.tar"));
    if path.is_file() {
        return Ok(path);
    }
    let listed = files.list(shard)?.files;
    let [file] = &listed[..] else { return Err(Error::format(shard, "it is a folder, and no shard")) };
    let mut tape = Tape::open(Raw { files, path: shard.to_owned(), size: file.size }, packing)?;
    let fail = |written: u64| {
        move |error: io::Error| {
            let folder = scratch.display();
            let message = format!("it cannot be unpacked into {folder}, where {written} bytes of it are: {error}");
            Error::io(shard, io::Error::new(error.kind(), message))
        }
    };
    std::fs::create_dir_all(scratch).map_err(fail(0))?;
    let temporary = tempfile::Builder::new().prefix(&format!("{digest}.")).suffix(".part").tempfile_in(scratch);
    let mut temporary = temporary.map_err(fail(0))?;
    loop {
        let at = tape.at();
        let bytes = tape.look(PIECE_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len() as u64;
        temporary.write_all(bytes).map_err(fail(at))?;
        tape.skip(length)?;
    }
    temporary.as_file().sync_all().map_err(fail(tape.at()))?;
    temporary.persist(&path).map_err(|error| fail(tape.at())(error.error))?;
    Ok(path)
}
