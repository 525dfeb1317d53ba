//! Where the files of a table's images lie: in their data sets, or where copies of them were written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array as _, LargeStringArray, LargeStringBuilder, RecordBatch};
use arrow::datatypes::DataType;
use tessera_datasets::as_url;
use tessera_datasets::layout::Access;
use tessera_schemas::images::{self, Source};
use tessera_schemas::{IMAGE_ID, meta, printable};
use tokio::runtime::Handle;

use super::super::images::tables_of_images;
use super::super::{Rows, columns};
use crate::engine::catalog::Catalog;
use crate::engine::fetch::{Place, is_within};

/// The column that says where an image lies.
const SOURCE: &str = "source";

/// Paths of images below one folder or bucket, by `image_id`. A million of them take some tens of megabytes.
pub struct Paths {
    place: Place,
    ids: LargeStringArray,
    /// Null where the path is the id.
    paths: LargeStringArray,
    /// Whether an image is a part of its file.
    is_part: Vec<bool>,
    /// Rows by their ids.
    order: Vec<u32>,
}

/// Builds [`Paths`].
#[derive(Default)]
pub struct Gathered {
    ids: LargeStringBuilder,
    paths: LargeStringBuilder,
    is_part: Vec<bool>,
}

impl Gathered {
    /// Adds an image that is a whole file, or a part of one.
    pub fn push(&mut self, image_id: &str, path: &str, is_part: bool) {
        self.ids.append_value(image_id);
        self.paths.append_option((path != image_id).then_some(path));
        self.is_part.push(is_part);
    }

    /// All images, which lie there.
    pub fn at(mut self, place: Place) -> Paths {
        let (ids, paths) = (self.ids.finish(), self.paths.finish());
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by(|&one, &other| ids.value(one as usize).cmp(ids.value(other as usize)));
        Paths { place, ids, paths, is_part: self.is_part, order }
    }
}

impl Paths {
    fn find(&self, id: &str) -> Option<(&str, bool)> {
        let at = self.order.binary_search_by(|&row| self.ids.value(row as usize).cmp(id)).ok()?;
        let row = self.order[at] as usize;
        let path = if self.paths.is_null(row) { self.ids.value(row) } else { self.paths.value(row) };
        Some((path, self.is_part[row]))
    }
}

/// Where the files of a table's images lie.
pub enum Places {
    /// The rows say it.
    Told(Place),
    /// It is known by their ids.
    ById(Vec<Paths>),
}

impl Places {
    /// The places of the images of a stage's table.
    ///
    /// # Errors
    /// The table is of no images, or its rows do not say of which data set they are.
    pub fn open(catalog: &Arc<Catalog>, node: usize, handle: &Handle) -> Result<Self> {
        let roots = catalog.roots(node)?;
        let schema = catalog.schema(node);
        if let Ok(field) = schema.field_with_name(SOURCE)
            && matches!(field.data_type(), DataType::Struct(_))
        {
            return Ok(Self::Told(root_of(catalog.name(node), field.metadata().get(meta::STAGE), &roots)?.clone()));
        }
        let mut all = Vec::new();
        for table in tables_of_images(catalog, node)? {
            let schema = columns(&catalog.schema(table), &[IMAGE_ID.to_owned(), SOURCE.to_owned()])?;
            let mut gathered = Gathered::default();
            for batch in handle.block_on(Rows::open(catalog, table, &schema))? {
                let batch = batch?;
                let sources = images::sources(&batch)?;
                for (id, source) in images::ids(&batch)?.iter().zip(sources) {
                    gathered.push(id.context("a row has no image_id")?, source.path, is_part(&source));
                }
            }
            let name = catalog.name(table).to_owned();
            all.push(gathered.at(root_of(&name, Some(&name), &roots)?.clone()));
        }
        Ok(Self::ById(all))
    }

    /// The folder that all images lie below, if it is one folder on a disk.
    pub fn folder(&self) -> Result<Option<PathBuf>> {
        let mut places: Vec<&Place> = match self {
            Self::Told(place) => vec![place],
            Self::ById(all) => all.iter().map(|paths| &paths.place).collect(),
        };
        places.retain(|place| as_url(&place.root).is_none());
        places.dedup();
        match places[..] {
            [only] => Ok(Some(std::path::absolute(&only.root)?)),
            _ => Ok(None),
        }
    }

    /// The absolute path or the URL of each image's file.
    ///
    /// # Errors
    /// An image is of no data set, or has no file of its own.
    pub fn of(&self, batch: &RecordBatch) -> Result<Vec<String>> {
        let ids = images::ids(batch)?;
        match self {
            Self::Told(place) => {
                let sources = images::sources(batch)?;
                ids.iter()
                    .zip(sources)
                    .map(|(id, source)| address(place, id.unwrap_or_default(), source.path, is_part(&source)))
                    .collect()
            }
            Self::ById(all) => {
                let one = |id: Option<&str>| {
                    let id = id.context("a row has no image_id")?;
                    let found = all.iter().find_map(|paths| Some((paths, paths.find(id)?)));
                    let (paths, (path, is_part)) = found
                        .with_context(|| format!("`{}` is not an image of the data set, but made of one", printable(id)))?;
                    address(&paths.place, id, path, is_part)
                };
                ids.iter().map(one).collect()
            }
        }
    }
}

/// Whether an image is a range or a row of its file.
fn is_part(source: &Source<'_>) -> bool {
    source.offset.is_some() || source.row.is_some()
}

/// Where the rows of a stage's table lie: in the data set that they name, or in the only one.
fn root_of<'a>(stage: &str, named: Option<&String>, roots: &'a BTreeMap<String, Place>) -> Result<&'a Place> {
    let only = if roots.len() == 1 { roots.values().next() } else { None };
    named.and_then(|named| roots.get(named)).or(only).with_context(|| {
        format!("the rows of stage `{stage}` do not say of which data set they are: --images FOLDER writes their files, and then refers to those")
    })
}

fn address(place: &Place, id: &str, path: &str, is_part: bool) -> Result<String> {
    if is_part || place.access != Access::Bytes {
        bail!(
            "image `{}` is a part of {} and has no file of its own: --images FOLDER writes each to a file, and then refers to those",
            printable(id),
            printable(&place.root.join(path).to_string_lossy())
        );
    }
    if !is_within(path) {
        bail!("image `{}`: its path `{}` leads out of the data set's folder", printable(id), printable(path));
    }
    if let Some(url) = as_url(&place.root) {
        return Ok(format!("{}/{path}", url.trim_end_matches('/')));
    }
    let path = std::path::absolute(place.root.join(path))?;
    let text = path.to_str().with_context(|| format!("{} is no UTF-8, and JSON holds nothing else", path.display()))?;
    Ok(text.to_owned())
}

/// The folder that a path lies in; a root itself for a root.
pub fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &str) -> Place {
        Place { root: root.into(), access: Access::Bytes }
    }

    #[test]
    fn images_are_found_by_their_ids() {
        let mut gathered = Gathered::default();
        for (id, path) in [("c.png", "c.png"), ("a", "x/a.png"), ("b.png", "b.png")] {
            gathered.push(id, path, id == "b.png");
        }
        let paths = gathered.at(place("/data"));
        assert_eq!(paths.find("a"), Some(("x/a.png", false)));
        assert_eq!(paths.find("b.png"), Some(("b.png", true)));
        assert_eq!((paths.find("c.png"), paths.find("d")), (Some(("c.png", false)), None));
    }

    #[test]
    fn files_have_absolute_paths_and_objects_their_urls() {
        let of =
            |root: &str, path: &str, is_part| address(&place(root), "id", path, is_part).map_err(|error| error.to_string());
        assert_eq!(of("/data/set", "a b.png", false), Ok("/data/set/a b.png".into()));
        assert_eq!(of("s3://bucket/set/", "a%b.png", false), Ok("s3://bucket/set/a%b.png".into()));
        assert!(of("/data", "../a.png", false).unwrap_err().contains("leads out of"));
        assert!(of("/data", "a.tar", true).unwrap_err().contains("is a part of /data/a.tar and has no file of its own"));
    }
}
