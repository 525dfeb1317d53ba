//! The formats of data sets by name, and how one is recognised.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::boxes::{self, Coco, Yolo};
use crate::embedded::{self, Embedded};
use crate::folder::{self, Folder, naming};
use crate::imagenet::ImageNet;
use crate::layout::{Found, Layout, Role};
use crate::list::{self, List};
use crate::masks::{Hiding, Masks};
use crate::planar::cifar::{self, Cifar};
use crate::planar::stl::{self, Stl};
use crate::stack::{self, Stack};
use crate::tar::{Ids, Tar, is_shards};
use crate::voc::{self, Voc};
use crate::{Error, Files, Fingerprint, Listed, as_url};

/// A format, by its name in pipeline files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Image files in a folder, one class a sub-folder or flat.
    Folder,
    /// A text file or a table of the paths of images.
    List,
    /// Tars of images and of the files that belong to each, as WebDataset writes them; or a folder of images in tars.
    #[serde(rename = "webdataset")]
    WebDataset,
    /// Images in a column of Parquet files, as Hugging Face's `datasets` writes them.
    Parquet,
    /// Images in a column of Arrow files, as Hugging Face's `datasets` saves them.
    Arrow,
    /// Images as a dataset of pixels, or of whole files, in HDF5 files.
    Hdf5,
    /// `JPEGImages` and `ImageSets/Main`, as PASCAL VOC has them.
    Voc,
    /// An XML file an image, as PASCAL VOC, LabelImg and Roboflow write them.
    VocXml,
    /// JSON files of boxes, as COCO has them.
    Coco,
    /// A text file of boxes an image, as YOLO reads them.
    Yolo,
    /// ImageNet's folders of classes, with a file of the classes' names.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// CIFAR-10's and CIFAR-100's files, binary or for Python.
    Cifar,
    /// STL-10's binary files.
    Stl10,
}

/// What a data set's names and first bytes leave open.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What paths say of images.
    pub naming: naming::Naming,
    /// Whether a folder's folders are halves of the data set; with `None` their names decide.
    pub splits: Option<bool>,
    /// The column of images, or of their paths.
    pub column: Option<String>,
    /// What images in tars are called.
    pub ids: Ids,
    /// The folder of the images' masks, from the data set's.
    pub masks: Option<String>,
}

/// A data set whose format is known.
#[derive(Debug)]
pub struct Opened {
    /// How it is laid out.
    pub layout: Box<dyn Layout>,
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// Whether a folder's folders are halves.
    pub in_splits: bool,
    /// The masks of the images, if they are wanted.
    masks: Option<Masks>,
}

impl Opened {
    /// [`Layout::schema`], with the masks'.
    pub fn schema(&self) -> SchemaRef {
        self.masks.as_ref().map_or_else(|| self.layout.schema(), Masks::schema)
    }

    /// [`Layout::list`], with the masks.
    ///
    /// # Errors
    /// As [`Layout::list`] and [`Masks::list`].
    pub fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        match &self.masks {
            Some(masks) => masks.list(files, self.layout.as_ref()),
            None => self.layout.list(files),
        }
    }

    /// [`Layout::role`]: a mask is beside its image.
    pub fn role(&self, path: &str) -> Role {
        let is_mask = self.masks.as_ref().is_some_and(|masks| masks.has(path));
        if is_mask { Role::Beside } else { self.layout.role(path) }
    }

    /// [`Layout::rows`], with the masks'; each is handed on.
    ///
    /// # Errors
    /// As [`Layout::rows`] and [`Masks::rows`], or `emit` fails.
    pub fn rows<E: From<Error>>(
        &self,
        files: &dyn Files,
        prints: &[Fingerprint],
        emit: &mut dyn FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.masks {
            Some(masks) => masks.rows(files, self.layout.as_ref(), prints, emit),
            None => self.layout.rows(files, prints)?.try_for_each(|found| emit(found?)),
        }
    }
}

impl Format {
    /// The formats whose images may have [masks](crate::masks) beside them: those of files in a folder.
    pub const WITH_MASKS: [Self; 6] = [Self::Folder, Self::Voc, Self::VocXml, Self::Coco, Self::Yolo, Self::ImageNet];

    /// What a data set looks like: by its names, and where those say nothing by first bytes; by a URL alone, for a pipeline is to be
    /// known where no bucket is in reach.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn recognise(files: &dyn Files, path: &Path) -> Result<Self, Error> {
        let ending = path.to_string_lossy();
        if is_shards(&ending) {
            return Ok(Self::WebDataset);
        }
        if as_url(path).is_some() {
            // What lies in a bucket is asked when it is listed.
            return Ok(match &ending {
                ending if is_parquet(ending) => Self::Parquet,
                ending if is_arrow(ending) => Self::Arrow,
                ending if stack::is_ours(ending) => Self::Hdf5,
                ending if list::is_list(ending) => Self::List,
                _ => Self::Folder,
            });
        }
        let may_be_file = is_parquet(&ending) || is_arrow(&ending) || stack::is_ours(&ending) || list::is_list(&ending);
        if may_be_file && files.names(path, &mut |_, _| false).is_err() {
            return of_file(files, path, &ending);
        }
        let mut seen = Seen::default();
        files.names(path, &mut |name, is_folder| {
            seen.add(name, is_folder);
            // A folder of a million images is not looked through.
            !seen.has_images
        })?;
        seen.format(files, path)
    }

    /// Opens a data set of the format.
    ///
    /// # Errors The data set is not of this format; the message says what it lacks.
    pub fn open(self, files: &dyn Files, path: &Path, options: &Options) -> Result<Opened, Error> {
        let Some(folder) = &options.masks else { return self.open_images(files, path, options) };
        let opened = self.open_images(&Hiding::new(files, path.join(folder)), path, options)?;
        let masks = Masks::new(&opened.root, folder, opened.layout.as_ref())?;
        Ok(Opened { masks: Some(masks), ..opened })
    }

    fn open_images(self, files: &dyn Files, path: &Path, options: &Options) -> Result<Opened, Error> {
        let column = options.column.as_deref();
        let opened = |layout: Box<dyn Layout>, root: PathBuf| Opened { layout, root, in_splits: false, masks: None };
        macro_rules! rooted {
            ($layout:expr) => {{
                let layout = $layout?;
                let root = layout.root().to_owned();
                opened(Box::new(layout), root)
            }};
        }
        Ok(match self {
            Self::Folder => {
                let folder = Folder::open(files, path, options.naming.clone(), options.splits)?;
                let in_splits = folder.in_splits();
                Opened { in_splits, ..opened(Box::new(folder), path.to_owned()) }
            }
            Self::List => rooted!(List::open(files, path, column)),
            Self::WebDataset => rooted!(Tar::open(files, path, options.ids, &[])),
            Self::Parquet => rooted!(Embedded::open(files, path, embedded::Kind::Parquet, column)),
            Self::Arrow => rooted!(Embedded::open(files, path, embedded::Kind::Arrow, column)),
            Self::Hdf5 => rooted!(Stack::open(files, path, column)),
            Self::Voc => opened(Box::new(Voc::open(files, path)?), path.to_owned()),
            Self::VocXml => opened(Box::new(boxes::Voc::open(files, path)?), path.to_owned()),
            Self::Coco => opened(Box::new(Coco::open(files, path)?), path.to_owned()),
            Self::Yolo => opened(Box::new(Yolo::open(files, path)?), path.to_owned()),
            Self::ImageNet => opened(Box::new(ImageNet::open(files, path)?), path.to_owned()),
            Self::Cifar => rooted!(Cifar::open(files, path)),
            Self::Stl10 => rooted!(Stl::open(files, path)),
        })
    }
}

fn is_parquet(path: &str) -> bool {
    embedded::Kind::of(path) == Some(embedded::Kind::Parquet)
}

fn is_arrow(path: &str) -> bool {
    embedded::Kind::of(path) == Some(embedded::Kind::Arrow)
}

/// What a file looks like.
fn of_file(files: &dyn Files, path: &Path, ending: &str) -> Result<Format, Error> {
    if stack::is_ours(ending) {
        return Ok(Format::Hdf5);
    }
    if is_arrow(ending) {
        return Ok(Format::Arrow);
    }
    let first = files.list(path)?.files.into_iter().next();
    let holds_images =
        is_parquet(ending) && first.is_some_and(|first| Embedded::recognises(files, path, embedded::Kind::Parquet, &first));
    Ok(if holds_images { Format::Parquet } else { Format::List })
}

/// What lies in a data set's folder itself.
#[derive(Default)]
struct Seen {
    folders: Vec<String>,
    has_images: bool,
    has_arrays: bool,
    has_shards: bool,
    has_xml: bool,
    has_json: bool,
    /// Files that name classes, or those of data sets that have names of their own.
    known: Vec<String>,
    /// A Parquet file, the first by name.
    parquet: Option<String>,
    /// An Arrow file, the first by name.
    arrow: Option<String>,
}

/// Files that tell a format.
const OF_YOLO: [&str; 5] = ["data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names"];
/// The files that Hugging Face's `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write beside the data.
const OF_DATASETS: [&str; 2] = ["state.json", "dataset_dict.json"];
const OF_IMAGENET: [&str; 3] = ["LOC_synset_mapping.txt", "synset_words.txt", "imagenet_class_index.json"];

impl Seen {
    fn add(&mut self, name: &str, is_folder: bool) {
        if is_folder {
            self.folders.push(name.to_owned());
            return;
        }
        let extension = naming::extension(name).to_ascii_lowercase();
        self.has_images |= folder::is_image(name);
        self.has_arrays |= stack::is_ours(name);
        self.has_shards |= is_shards(name);
        self.has_xml |= extension == "xml";
        self.has_json |= extension == "json";
        if is_parquet(name) && name != "metadata.parquet" && self.parquet.as_deref().is_none_or(|first| name < first) {
            self.parquet = Some(name.to_owned());
        }
        if is_arrow(name) && self.arrow.as_deref().is_none_or(|first| name < first) {
            self.arrow = Some(name.to_owned());
        }
        let of_several = OF_YOLO.contains(&name) || OF_IMAGENET.contains(&name) || OF_DATASETS.contains(&name);
        let names_itself = of_several || cifar::is_name(name) || stl::is_name(name);
        if names_itself {
            self.known.push(name.to_owned());
        }
    }

    fn has_folder(&self, name: &str) -> bool {
        self.folders.iter().any(|folder| folder.eq_ignore_ascii_case(name))
    }

    fn format(&self, files: &dyn Files, path: &Path) -> Result<Format, Error> {
        let knows = |names: &[&str]| self.known.iter().any(|name| names.contains(&name.as_str()));
        if self.folders.iter().any(|name| name == voc::IMAGES) && self.folders.iter().any(|name| name == "ImageSets") {
            return Ok(Format::Voc);
        }
        if self.has_images {
            return Ok(Format::Folder);
        }
        if self.known.iter().any(|name| cifar::is_name(name)) || self.folders.iter().any(|name| cifar::is_name(name)) {
            return Ok(Format::Cifar);
        }
        if self.known.iter().any(|name| stl::is_name(name)) || self.folders.iter().any(|name| stl::is_name(name)) {
            return Ok(Format::Stl10);
        }
        if knows(&OF_IMAGENET) {
            return Ok(Format::ImageNet);
        }
        if (knows(&OF_YOLO) || self.has_folder("images") && self.has_folder("labels")) && Yolo::recognises(files, path) {
            return Ok(Format::Yolo);
        }
        if knows(&["dataset_dict.json"]) || knows(&["state.json"]) && self.arrow.is_some() {
            return Ok(Format::Arrow);
        }
        let halves: Vec<&String> = self.folders.iter().filter(|name| naming::split(name).is_some()).collect();
        if (self.has_folder("annotations") || self.has_xml || self.has_json || !halves.is_empty())
            && let Some(found) = annotated(files, path, &halves, self)?
        {
            return Ok(found);
        }
        if self.has_shards {
            return Ok(Format::WebDataset);
        }
        let holds_images = |name: PathBuf, kind: embedded::Kind| -> Result<bool, Error> {
            let place = path.join(name);
            let first = files.list(&place)?.files.into_iter().next();
            Ok(first.is_some_and(|first| Embedded::recognises(files, &place, kind, &first)))
        };
        for name in self.parquet.iter().map(PathBuf::from).chain(data_file(files, path, self)) {
            if holds_images(name, embedded::Kind::Parquet)? {
                return Ok(Format::Parquet);
            }
        }
        if let Some(name) = &self.arrow
            && holds_images(name.into(), embedded::Kind::Arrow)?
        {
            return Ok(Format::Arrow);
        }
        Ok(if self.has_arrays { Format::Hdf5 } else { Format::Folder })
    }
}

/// Whether images have annotations, in a folder of them or beside them in halves.
fn annotated(files: &dyn Files, path: &Path, halves: &[&String], seen: &Seen) -> Result<Option<Format>, Error> {
    let (mut xml, mut json) = (seen.has_xml || seen.folders.iter().any(|name| name == "Annotations"), seen.has_json);
    json |= seen.has_folder("annotations");
    for half in halves {
        // A few names tell what the others are.
        let mut left = 64;
        files.names(&path.join(half), &mut |name, is_folder| {
            left -= 1;
            let extension = naming::extension(name);
            xml |= !is_folder && extension.eq_ignore_ascii_case("xml");
            json |= !is_folder && name.ends_with(".coco.json");
            left > 0
        })?;
    }
    if json && Coco::recognises(files, path) {
        return Ok(Some(Format::Coco));
    }
    Ok((xml && boxes::Voc::recognises(files, path)).then_some(Format::VocXml))
}

/// The first Parquet file of the folder `data`, where Hugging Face's hub has them.
fn data_file(files: &dyn Files, path: &Path, seen: &Seen) -> Option<PathBuf> {
    let folder = seen.folders.iter().find(|name| *name == "data" || *name == "default")?;
    let mut first: Option<String> = None;
    let visited = files.names(&path.join(folder), &mut |name, is_folder| {
        if !is_folder && is_parquet(name) && first.as_deref().is_none_or(|first| name < first) {
            first = Some(name.to_owned());
        }
        true
    });
    visited.ok()?;
    Some(Path::new(folder).join(first?))
}

#[cfg(test)]
mod tests;
