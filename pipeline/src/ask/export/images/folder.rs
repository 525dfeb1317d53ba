//! A folder a class.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tessera_datasets::as_url;
use tessera_datasets::layout::Access;
use tessera_schemas::images;

use super::super::NewFile;
use super::{Images, NO_CLASS, Wanted, safe};
use crate::watch::progress::Bar;

/// Writes images below a folder, which is made; `placed` is told of each where it lies there.
pub(super) fn write(
    all: &Images<'_>,
    to: &Path,
    wanted: &Wanted,
    bar: &Bar,
    placed: &mut dyn FnMut(&str, &str),
) -> Result<u64> {
    if to.exists() && !to.is_dir() {
        bail!("{} is a file: name a folder, or a file that ends in .tar or .parquet", to.display());
    }
    if !wanted.force && fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("the folder {} is not empty: --force adds to it, and overwrites files of the same names", to.display());
    }
    let places: Vec<_> = images::sources(&all.located)?.collect();
    all.each(bar, |image| {
        let (class, name) = (all.classes.as_ref().map(|_| safe(image.class.unwrap_or(NO_CLASS))), image.file_name());
        let folder = class.as_ref().map_or_else(|| to.to_owned(), |class| to.join(class));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let path = folder.join(&name);
        placed(image.id, &class.map_or(name.clone(), |class| format!("{class}/{name}")));
        if wanted.hard_links
            && let Some(from) = whole_file(all, &places[image.row])
        {
            match fs::hard_link(&from, &path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && wanted.force => {
                    fs::remove_file(&path)?;
                    return Ok(fs::hard_link(&from, &path)?);
                }
                // It lies on another disk.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                Err(error) => return Err(error).with_context(|| format!("cannot link {}", path.display())),
            }
        }
        let file = NewFile::create(&path, wanted.force)?;
        file.file()?.write_all(image.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        file.finish()?;
        Ok(())
    })
}

/// The file that an image is, if it is one of this machine's alone.
fn whole_file(all: &Images<'_>, source: &images::Source<'_>) -> Option<std::path::PathBuf> {
    let mut places = all.places.values();
    let (only, others) = (places.next()?, places.next());
    let is_file =
        others.is_none() && only.access == Access::Bytes && source.offset.is_none() && as_url(&only.root).is_none();
    is_file.then(|| only.root.join(source.path))
}
