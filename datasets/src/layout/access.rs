//! Reading the bytes of images from where their rows say.

use std::path::{Path, PathBuf};

use tessera_schemas::images::Source;

use super::Access;
use crate::tar::unpacked::is_packed;
use crate::{Error, FileDigest, Files, Read, embedded, planar, stack, tar};

impl Access {
    /// How many images of a data set should be read at once.
    pub fn at_once(&self, files: &dyn Files, root: &Path) -> usize {
        match self {
            Self::Bytes | Self::Unpacked => files.at_once(root),
            // Neighbours lie in one page.
            Self::Column(_) | Self::Array(_) | Self::Planar(_) => usize::MAX,
        }
    }

    /// The bytes of some images of a data set, in their order. `unpacked` is a folder on a local disk, which is made if need be.
    pub fn read_each(
        &self,
        files: &dyn Files,
        root: &Path,
        unpacked: &Path,
        sources: &[Source<'_>],
    ) -> Vec<Result<Vec<u8>, Error>> {
        match self {
            Self::Bytes => files.read_each(&sources.iter().map(|source| range(root, source)).collect::<Vec<_>>()),
            Self::Unpacked => {
                let read = |source: &Source<'_>| -> Result<Read, Error> {
                    let read = range(root, source);
                    if !is_packed(source.path) {
                        return Ok(read);
                    }
                    Ok(Read { path: local(files, &read.path, unpacked)?, ..read })
                };
                let reads: Vec<Result<Read, Error>> = sources.iter().map(read).collect();
                let whole: Vec<Read> = reads.iter().filter_map(|read| read.as_ref().ok().cloned()).collect();
                let mut found = files.read_each(&whole).into_iter();
                let lacking = || Err(Error::format(root, "fewer images were read than were asked for"));
                reads.into_iter().map(|read| read.and_then(|_| found.next().unwrap_or_else(lacking))).collect()
            }
            Self::Planar(planes) => embedded::by_file(root, sources, |path, rows| {
                let inner = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
                let found = planar::read_rows(files, root, planes, &inner, rows)?;
                Ok(found.into_iter().map(Some).collect())
            }),
            Self::Column(column) => embedded::read_each(files, root, column, sources),
            Self::Array(dataset) => stack::read_each(files, root, dataset, sources),
        }
    }
}

/// Where the bytes of an image lie in its file.
fn range(root: &Path, source: &Source<'_>) -> Read {
    let range = source.offset.map(|offset| (offset, source.length.unwrap_or(0)));
    Read { path: root.join(source.path), range }
}

/// The local file with the bytes of a packed shard. It is named after the version of the shard that there is.
fn local(files: &dyn Files, shard: &Path, unpacked: &Path) -> Result<PathBuf, Error> {
    let entry = files.list(shard)?.files.into_iter().next().ok_or_else(|| Error::format(shard, "is gone"))?;
    let name = format!("{} {:?}", shard.display(), entry.version());
    tar::unpacked::unpack(files, shard, &FileDigest::of(&blake3::hash(name.as_bytes())), unpacked)
}
