//! Images in tars: `WebDataset`'s shards, and tars of image files as they are.
//!
//! A member's name up to the first dot behind its last slash is the key of its sample, what follows that dot is its ending, in lower
//! case: `a/0001.left.jpg` is the image `left.jpg` of the sample `a/0001`. The members of a sample follow one another. Each image of a
//! sample makes a row, which has the text of the sample's other members beside.
//!
//! What those columns are is decided when a data set is opened, from the first samples of its first shard that has any: as many as
//! [`PROBED_SAMPLES`], or as fit into [`PROBED_BYTES`]. Members with endings that only later samples have are not looked at; where a
//! sample lacks a member, its value is null. [`Rule`] is all that was decided so: two data sets of one rule make the same rows of a shard.
//!
//! `__MACOSX`, hidden members and those whose first folder begins and ends with two underscores are passed over, as are members that
//! are neither images nor text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::images;

use crate::layout::{Access, Layout, Role};
use crate::{Error, Files, Fingerprint, LeftOut, Listed, folder};

pub use rule::{Column, Ids, Labels, PROBED_BYTES, PROBED_SAMPLES, Rule};
pub use shards::{ENDINGS, packing};
pub use tape::Packing;

mod members;
mod rows;
mod rule;
mod shards;
pub(crate) mod tape;
pub mod unpacked;
mod walk;

/// A data set of shards.
#[derive(Debug)]
pub struct Tar {
    root: PathBuf,
    shards: shards::Shards,
    rule: Rule,
}

impl Tar {
    /// Opens a shard, a folder of shards, or a path that stands for several: `/data/train-{000..127}.tar`, `{a,b}.tar`, `train-*.tar`.
    /// Columns get no name among `taken`, nor one that images have.
    ///
    /// # Errors
    /// The path cannot be listed, or has no shard; the first shard cannot be read.
    pub fn open(files: &dyn Files, path: &Path, ids: Ids, taken: &[&str]) -> Result<Self, Error> {
        let (root, shards) = shards::Shards::of(files, path)?;
        let listed = shards.list(files, &root)?;
        if listed.files.is_empty() {
            let reason = listed.left_out.first().map(|one| format!("; {}: {}", one.path, one.reason)).unwrap_or_default();
            return Err(Error::format(path, format!("no shard is there: those end in {}{reason}", shards::endings())));
        }
        let rule = rule::probed(files, &root, &listed.files, ids, taken)?;
        Ok(Self { root, shards, rule })
    }

    /// The folder that the paths of shards are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the rows of a shard follow from, beside its bytes and its path.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl Layout for Tar {
    fn schema(&self) -> SchemaRef {
        let texts = self.rule.columns.iter().map(|column| Arc::new(Field::new(&column.name, DataType::Utf8, true)));
        let fields: Vec<FieldRef> = images::schema().fields().iter().cloned().chain(texts).collect();
        Arc::new(Schema::new(fields))
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        self.shards.list(files, &self.root)
    }

    fn role(&self, path: &str) -> Role {
        if packing(path).is_some() { Role::Shard } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<crate::layout::Rows<'a>, Error> {
        let schema = self.schema();
        let shards = prints.iter().filter_map(|print| Some((print, packing(&print.entry.path)?)));
        let rows = shards
            .map(move |(print, packing)| rows::Rows::open(files, &self.root, &self.rule, schema.clone(), print, packing));
        // An iterator of what cannot be opened is that error alone.
        Ok(Box::new(rows.flat_map(|rows| -> crate::layout::Rows<'a> {
            match rows {
                Ok(rows) => Box::new(rows),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })))
    }

    fn rule(&self) -> String {
        format!("{:?}", self.rule)
    }

    fn access(&self) -> Access {
        Access::Unpacked
    }
}

/// Whether a path ends like that of a shard, or of a pattern of some.
pub fn is_shards(path: &str) -> bool {
    packing(path).is_some()
}

/// Whether a path is that of shards: it ends as one, or is a folder with shards and without image files. Reads no file.
///
/// # Errors
/// The folder cannot be listed.
pub fn recognises(files: &dyn Files, path: &Path) -> Result<bool, Error> {
    if path.to_str().is_some_and(|path| packing(path).is_some()) {
        return Ok(true);
    }
    Ok(recognises_listed(&files.list(path)?))
}

/// Whether a folder that holds these files is one of shards.
pub fn recognises_listed(listed: &Listed) -> bool {
    let mut paths = listed.files.iter().map(|file| &*file.path);
    paths.clone().any(|path| packing(path).is_some()) && !paths.any(folder::is_image)
}

/// What cannot be made a row of a shard; or of a member, which is behind a slash.
fn left_out(shard: &str, member: Option<&str>, reason: impl Into<String>) -> LeftOut {
    let path = member.map_or_else(|| shard.to_owned(), |member| format!("{shard}/{member}"));
    LeftOut { path, is_folder: false, reason: reason.into() }
}

#[cfg(test)]
pub(crate) mod tests;
