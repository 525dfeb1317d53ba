//! Masks beside images: PNGs in a folder of the data set, whose pixels are indices of classes.
//!
//! The mask of `a/b.jpg` is `MASKS/a/b.png`, or else, less the first of the image's folders, `MASKS/b.png`: so PASCAL VOC has them in
//! `SegmentationClass`. A mask may be one of one image alone. An image without a mask has a null. Beside the format's own columns there
//! is then [`mask`](tessera_schemas::masks), which says where the mask lies and what its bytes hash to; of the bytes, only the header is read.
//!
//! A mask is a PNG with a palette or of gray, of at most 8 bits a pixel: its pixels are indices. One of colours is an error, since it would
//! have to be guessed which colour is which class. One that cannot be read, is no PNG, or has another size than its image (as the image's
//! file has it, before an orientation is applied) is told, and its image has none; so are masks that have no image.
//!
//! The format itself does not see the folder ([`Hiding`]): its masks are no images.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, Int64Array, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use tessera_schemas::masks::{self, MASK};
use tessera_schemas::{images, int64};

use crate::boxes::pairs::Labels;
use crate::boxes::{ends_in, inside, some, stem_of};
use crate::folder::naming;
use crate::layout::{Found, Layout, Role};
use crate::{Error, Files, Fingerprint, LeftOut, Listed, Read};

mod header;
mod hiding;

pub use hiding::Hiding;

/// The ending of masks.
const PNG: &str = ".png";

/// The masks of a data set.
#[derive(Debug)]
pub struct Masks {
    root: PathBuf,
    /// The folder of the masks, from the root.
    folder: String,
    schema: SchemaRef,
}

/// A folder of a data set as it is written in paths; none if it does not lie within the data set.
pub fn folder(path: &Path) -> Option<String> {
    let parts = path.components().filter(|part| *part != Component::CurDir).map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let parts = parts.collect::<Option<Vec<&str>>>()?;
    Some(parts.join("/")).filter(|folder| !folder.is_empty())
}

impl Masks {
    /// The masks in a folder of a data set of that format.
    ///
    /// # Errors
    /// The format tells something else under the name `mask`.
    pub fn new(root: &Path, folder: &str, format: &dyn Layout) -> Result<Self, Error> {
        let mut fields: Vec<FieldRef> = format.schema().fields().to_vec();
        if fields.iter().any(|field| field.name() == MASK) {
            let message = format!("has a column `{MASK}` of its own, and that of the masks has the same name: rename it");
            return Err(Error::format(root, message));
        }
        fields.push(Arc::new(masks::located_field()));
        Ok(Self { root: root.to_owned(), folder: folder.to_owned(), schema: Arc::new(Schema::new(fields)) })
    }

    /// The format's columns and the masks'.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Whether a file of the data set is a mask.
    pub fn has(&self, path: &str) -> bool {
        path.strip_prefix(&self.folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// What reaches the data set without its masks.
    pub fn hiding<'a>(&self, files: &'a dyn Files) -> Hiding<'a> {
        Hiding::new(files, self.root.join(&self.folder))
    }

    /// The files of the format, by path, and the masks of its images among them.
    ///
    /// # Errors
    /// The format's; the folder cannot be read, or has no mask of an image, or one of two images.
    pub fn list(&self, files: &dyn Files, format: &dyn Layout) -> Result<Listed, Error> {
        let mut listed = format.list(&self.hiding(files))?;
        let place = self.root.join(&self.folder);
        let mut found = naming::only(files.list(&place)?, &|path| ends_in(path, PNG));
        found.files.iter_mut().for_each(|entry| entry.path = inside(&self.folder, &entry.path).into());
        let masks = Labels::of(found.files.iter().map(|entry| &*entry.path), &self.root)?;
        let mut owners: HashMap<&str, &str> = HashMap::new();
        let is_image = |path: &&str| format.role(path) == Role::Image;
        let images = || listed.files.iter().map(|entry| &*entry.path).filter(is_image);
        for image in images() {
            let Some(mask) = self.mask_of(image, &masks) else { continue };
            if let Some(other) = owners.insert(mask, image) {
                let message = format!("it may be the mask of {other} or {image}: put masks into folders as the images are");
                return Err(Error::format(self.root.join(mask), message));
            }
        }
        if let (true, Some(image)) = (owners.is_empty(), images().next()) {
            let wanted = self.wanted(image).collect::<Vec<_>>().join(" and ");
            let message = format!("no mask has the name of an image among {} PNGs: looked for {wanted}", found.files.len());
            return Err(Error::format(place, message));
        }
        let lonely: Vec<&str> =
            found.files.iter().map(|entry| &*entry.path).filter(|mask| !owners.contains_key(mask)).collect();
        if !lonely.is_empty() {
            let (count, names) = (lonely.len(), some(&lonely));
            let what = if count == 1 { "1 mask has no image" } else { &format!("{count} masks have no image") };
            listed.left_out.push(LeftOut {
                path: self.folder.clone(),
                is_folder: false,
                reason: format!("{what}: {names}"),
            });
        }
        let mut owned: Vec<bool> = found.files.iter().map(|entry| owners.contains_key(&*entry.path)).collect();
        drop(owners);
        owned.reverse();
        found.files.retain(|_| owned.pop().unwrap_or_default());
        listed.files.extend(found.files);
        listed.files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let below = found.left_out.into_iter();
        listed.left_out.extend(below.map(|one| LeftOut { path: inside(&self.folder, &one.path), ..one }));
        for (ending, count) in found.aside {
            *listed.aside.entry(ending).or_default() += count;
        }
        Ok(listed)
    }

    /// The format's rows with the masks'. `prints` has all masks.
    ///
    /// # Errors
    /// The format's; a mask has no indices; or `emit` fails.
    pub fn rows<E: From<Error>>(
        &self,
        files: &dyn Files,
        format: &dyn Layout,
        prints: &[Fingerprint],
        emit: &mut dyn FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let (found, others): (Vec<&Fingerprint>, Vec<&Fingerprint>) =
            prints.iter().partition(|print| self.has(&print.entry.path));
        let others: Vec<Fingerprint> = others.into_iter().cloned().collect();
        let masks = Labels::of(found.iter().map(|print| &*print.entry.path), &self.root)?;
        let print = |path: &str| {
            let at = found.binary_search_by(|print| (*print.entry.path).cmp(path));
            at.ok().map(|at| found[at])
        };
        for one in format.rows(&self.hiding(files), &others)? {
            let Found { rows, mut left_out } = one?;
            let fail = |error: tessera_schemas::SchemaError| Error::format(&self.root, error);
            let ids = images::ids(&rows).map_err(fail)?;
            let owned: Vec<Option<&Fingerprint>> =
                ids.iter().map(|id| self.mask_of(id.unwrap_or_default(), &masks).and_then(print)).collect();
            let rows = self.with_masks(files, &rows, owned, &mut left_out)?;
            emit(Found { rows, left_out })?;
        }
        Ok(())
    }

    /// The format's rows, with what is known of their masks.
    fn with_masks(
        &self,
        files: &dyn Files,
        rows: &RecordBatch,
        mut owned: Vec<Option<&Fingerprint>>,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<RecordBatch, Error> {
        let fail = |error: tessera_schemas::SchemaError| Error::format(&self.root, error);
        let sides = [int64(rows, "width").map_err(fail)?, int64(rows, "height").map_err(fail)?];
        let known = |side: &Int64Array, row: usize| side.is_valid(row).then(|| side.value(row));
        let there = |print: &&Fingerprint| print.entry.size >= header::BYTES && !print.digest.is_unreadable();
        let reads = owned
            .iter()
            .flatten()
            .filter(|print| there(print))
            .map(|print| Read { path: self.root.join(&*print.entry.path), range: Some((0, header::BYTES)) });
        let mut headers = files.read_each(&reads.collect::<Vec<_>>()).into_iter();
        for (row, owned) in owned.iter_mut().enumerate() {
            let Some(print) = *owned else { continue };
            let path = &*print.entry.path;
            let first = if there(&print) { headers.next() } else { None };
            let size = match first {
                Some(bytes) => header::size(&bytes?).map_err(|message| Error::format(self.root.join(path), message))?,
                None => None,
            };
            let image = known(sides[0], row).zip(known(sides[1], row));
            let reason = match (size, image) {
                _ if print.digest.is_unreadable() => print.digest.to_string(),
                (None, _) => "it is no PNG, and a mask has to be one".to_owned(),
                (Some((width, height)), Some((w, h))) if (width, height) != (w, h) => {
                    format!("the mask is {width}x{height}, and its image, as it is stored, {w}x{h}")
                }
                _ => continue,
            };
            left_out.push(LeftOut { path: path.to_owned(), is_folder: false, reason });
            *owned = None;
        }
        let places: Vec<_> = owned
            .into_iter()
            .map(|print| print.map(|print| (&*print.entry.path, print.entry.size, print.digest.to_string())))
            .collect();
        let column = masks::locate(&places).map_err(fail)?;
        let columns = rows.columns().iter().cloned().chain([column]).collect();
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| Error::format(&self.root, error))
    }

    /// The mask of an image.
    fn mask_of<'a>(&self, image: &str, masks: &Labels<'a>) -> Option<&'a str> {
        self.stems(image).find_map(|stem| masks.get(&stem))
    }

    /// Where the mask of an image may lie, without the ending, the first that is there counts.
    fn stems<'a>(&'a self, image: &'a str) -> impl Iterator<Item = String> + 'a {
        let stem = stem_of(image);
        let folders = stem.match_indices('/').map(|(at, _)| at + 1);
        std::iter::once(0).chain(folders).map(move |start| inside(&self.folder, &stem[start..]))
    }

    /// The files that [`stems`](Self::stems) are.
    fn wanted<'a>(&'a self, image: &'a str) -> impl Iterator<Item = String> + 'a {
        self.stems(image).map(|stem| stem + PNG)
    }
}

#[cfg(test)]
mod tests;
