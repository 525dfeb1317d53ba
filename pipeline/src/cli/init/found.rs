//! What a folder holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use tessera_datasets::folder::naming::split;
use tessera_datasets::formats::{Format, Options};
use tessera_datasets::layout::Role;
use tessera_datasets::local::LocalFiles;
use tessera_datasets::{Entry, Files as _, LeftOut, folder};
use tessera_schemas::{presence, printable};

use super::super::{Usage, counted};

/// Images whose size is looked at.
const SAMPLED: usize = 64;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// How many images.
    pub images: usize,
    /// Their paths in the data set.
    pub ids: Vec<Box<str>>,
    /// Files by their ending in lower case, most first.
    pub formats: Vec<(String, usize)>,
    /// How the data set is laid out, unless it is a plain folder.
    pub layout: Option<String>,
    /// Folders of the halves of the data set, if all images lie in such.
    pub halves: BTreeSet<String>,
    /// Whether there is a column `split`.
    pub has_split: bool,
    /// Whether there is a column `boxes`.
    pub has_boxes: bool,
    /// Columns that say for a class each whether an image shows it.
    pub classes: usize,
    /// Whether the data set itself has labels, whatever the folders are called.
    pub has_labels: bool,
    /// First folders of the images' paths, behind that of the half.
    pub labels: BTreeMap<String, usize>,
    /// How many images lie in none.
    pub flat: usize,
    /// Width and height of some, by their short sides.
    pub sizes: Vec<(u32, u32)>,
    /// How many of those could not be read.
    pub unreadable: usize,
    /// What cannot be listed.
    pub left_out: Vec<LeftOut>,
}

impl Found {
    /// Looks at a folder.
    ///
    /// # Errors
    /// It is none, or holds no images, or its data set is of a kind whose images are not files.
    pub fn look(root: &Path) -> Result<Self> {
        let place = root.display();
        let refuse = |message: String| Err(Usage(message).into());
        if !root.exists() {
            return refuse(format!("there is no folder {place}"));
        }
        if !root.is_dir() {
            return refuse(format!("{place} is no folder: name the one that the images lie in"));
        }
        let format = Format::recognise(&LocalFiles, root)?;
        if !Format::WITH_MASKS.contains(&format) {
            let name = serde_json::to_string(&format)?;
            let path = serde_json::to_string(&root.to_string_lossy())?;
            return refuse(format!(
                "{place} looks like a data set of format {name}, and init fills its file from image files in a folder: \
                 stage.images = {{ op = \"images\", path = {path} }} lists it"
            ));
        }
        if format == Format::Folder {
            let all = LocalFiles.list(root)?;
            if all.files.is_empty() && all.left_out.is_empty() {
                return refuse(format!("the folder {place} is empty"));
            }
            let count = all.files.len();
            if folder::images(all).files.is_empty() {
                return refuse(format!("{place}: {}", folder::no_image(count)));
            }
        }
        let opened = format.open(&LocalFiles, root, &Options::default())?;
        let mut listed = opened.list(&LocalFiles)?;
        listed.files.retain(|entry| opened.role(&entry.path) == Role::Image);
        if listed.files.is_empty() {
            return refuse(format!("{place}: no image is listed there"));
        }
        let schema = opened.schema();
        let has = |name: &str| schema.column_with_name(name).is_some();
        let mut found = Self { left_out: listed.left_out, ..count(root, &listed.files) };
        found.has_split = has("split");
        found.has_boxes = has("boxes");
        found.classes = presence::names(&schema).len();
        if format != Format::Folder {
            found.layout = Some(serde_json::to_value(format)?.as_str().unwrap_or_default().to_owned());
            found.has_labels = has("label") && found.classes == 0;
            (found.halves, found.labels) = (BTreeSet::new(), BTreeMap::new());
        }
        found.ids = listed.files.into_iter().map(|entry| entry.path).collect();
        Ok(found)
    }

    /// The image in the middle, by the short side.
    pub fn median(&self) -> Option<(u32, u32)> {
        self.sizes.get(self.sizes.len() / 2).copied()
    }

    /// Whether the column `label` tells images apart.
    pub fn labelled(&self) -> bool {
        self.has_labels || self.flat == 0 && self.labels.len() > 1
    }

    /// `12 jpg, 3 png`.
    pub fn formats(&self) -> String {
        self.formats.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }

    /// What the pipeline file says of the data set, behind a comment.
    pub fn comment(&self) -> String {
        match &self.layout {
            Some(layout) if self.classes > 0 => {
                format!("; a data set as \"{layout}\", with {} columns of classes", self.classes)
            }
            Some(layout) if self.has_boxes => format!("; a data set as \"{layout}\", with the column `boxes`"),
            Some(layout) => format!("; a data set as \"{layout}\""),
            None if self.labelled() => {
                let behind = if self.halves.is_empty() { "" } else { " behind the half's" };
                format!("; the first sub-folder{behind} is the label: {}", self.labels.len())
            }
            None => String::new(),
        }
    }

    /// Says what was found.
    ///
    /// # Errors
    /// The output is closed.
    pub fn tell(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}: {}", counted(self.images, "image"), self.formats())?;
        if let (Some((width, height)), Some((low_width, low_height))) = (self.median(), self.sizes.first()) {
            writeln!(
                out,
                "of {} looked at, half are at least {width} x {height}, the smallest is {low_width} x {low_height}",
                self.sizes.len()
            )?;
        }
        if self.unreadable > 0 {
            writeln!(
                out,
                "{} of them cannot be read, and such are left out: the table `dropped` will list them",
                self.unreadable
            )?;
        }
        for one in self.left_out.iter().take(5) {
            writeln!(out, "left out: {}: {}", printable(&one.path), one.reason)?;
        }
        if self.left_out.len() > 5 {
            writeln!(out, "and {} more are left out", self.left_out.len() - 5)?;
        }
        if let Some(layout) = &self.layout {
            let mut told = Vec::new();
            if self.classes > 0 {
                told.push(format!("{} of classes (1, -1 or 0)", counted(self.classes, "column")));
            }
            told.extend(self.has_labels.then(|| "the column `label`".to_owned()));
            told.extend(self.has_boxes.then(|| "boxes (the column `boxes`)".to_owned()));
            told.extend(self.has_split.then(|| "halves (the column `split`)".to_owned()));
            let told = if told.is_empty() { String::new() } else { format!(", with {}", told.join(", ")) };
            writeln!(out, "a data set of format \"{layout}\"{told}")?;
        }
        if !self.halves.is_empty() {
            let names: Vec<&str> = self.halves.iter().map(String::as_str).collect();
            writeln!(out, "halves, from the sub-folders: {} (the column `split`)", printable(&names.join(", ")))?;
        }
        if self.layout.is_none() && self.labelled() {
            let few: Vec<String> = self.labels.iter().take(5).map(|(name, count)| format!("{name} ({count})")).collect();
            let more = if self.labels.len() > few.len() { ", …" } else { "" };
            writeln!(out, "labels, from the sub-folders: {}{more}", printable(&few.join(", ")))?;
        }
        Ok(())
    }
}

/// Looks at the images' names, and at some of the images.
fn count(root: &Path, images: &[Entry]) -> Found {
    let mut found = Found { images: images.len(), ..Found::default() };
    let mut formats: BTreeMap<String, usize> = BTreeMap::new();
    let half = |image: &Entry| {
        let (first, _) = image.path.split_once('/')?;
        split(first).map(|_| first.to_owned())
    };
    if images.iter().all(|image| half(image).is_some()) {
        found.halves = images.iter().filter_map(half).collect();
    }
    for image in images {
        let extension = Path::new(&*image.path).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        *formats.entry(extension).or_default() += 1;
        let path = match image.path.split_once('/') {
            Some((_, rest)) if !found.halves.is_empty() => rest,
            _ => &image.path,
        };
        match path.split_once('/') {
            Some((first, _)) => *found.labels.entry(first.to_owned()).or_default() += 1,
            None => found.flat += 1,
        }
    }
    found.formats = formats.into_iter().collect();
    found.formats.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let sampled = SAMPLED.min(images.len());
    for at in 0..sampled {
        let path = root.join(&*images[at * images.len() / sampled].path);
        let reader = image::ImageReader::open(&path).and_then(|reader| reader.with_guessed_format());
        match reader.map(|reader| reader.into_dimensions()) {
            Ok(Ok(size)) => found.sizes.push(size),
            _ => found.unreadable += 1,
        }
    }
    found.sizes.sort_by_key(|(width, height)| *width.min(height));
    found
}
