//! Which split an image belongs to, as `data.yaml` says it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::{ends_in, excerpt, folder_of, inside, split_of, split_word, text};
use super::TXT;
use super::data::Data;
use crate::{Error, Files, folder};

/// In the order of [`Data::places`].
const NAMES: [&str; 3] = ["train", "val", "test"];
/// Bytes of the longest path that a system takes.
const LONGEST_PATH: usize = 4096;

/// The splits of a data set.
#[derive(Debug, Default)]
pub struct Splits {
    /// Folders of images, with their splits' places in [`NAMES`].
    folders: Vec<(String, usize)>,
    /// Images that text files list, with their splits' places in [`NAMES`].
    files: HashMap<String, usize>,
}

impl Splits {
    /// The text files, among all files, that list images.
    pub fn lists<'a>(data: &Data, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
        let paths: HashSet<&str> = paths.collect();
        let places = data.places.iter().flatten().filter(|place| ends_in(place, TXT));
        let mut lists: Vec<String> =
            places.filter_map(|place| candidates(data, place).into_iter().find(|path| paths.contains(&**path))).collect();
        lists.sort_unstable();
        lists.dedup();
        lists
    }

    /// Reads the lists, which are among those of [`Self::lists`].
    ///
    /// # Errors
    /// One cannot be read, or names an image that is not there.
    pub fn read(files: &dyn Files, root: &Path, data: &Data, names: &str, lists: &[String]) -> Result<Self, Error> {
        let mut splits = Self::default();
        if data.places.iter().all(Vec::is_empty) {
            return Ok(splits);
        }
        let listed = files.list(root)?.files;
        let images = || listed.iter().map(|entry| &*entry.path).filter(|path| folder::is_image(path));
        let mut folders: HashSet<&str> = HashSet::new();
        for image in images() {
            let mut folder = folder_of(image);
            while !folder.is_empty() && folders.insert(folder) {
                folder = folder_of(folder);
            }
        }
        let images: HashSet<&str> = images().collect();
        for (rank, place) in
            data.places.iter().enumerate().flat_map(|(rank, all)| all.iter().map(move |place| (rank, place)))
        {
            let candidates = candidates(data, place);
            let Some(list) = candidates.iter().find(|path| lists.contains(path)) else {
                splits
                    .folders
                    .extend(candidates.into_iter().find(|path| folders.contains(&**path)).map(|path| (path, rank)));
                continue;
            };
            let path = root.join(list);
            let bytes = files.read(&path)?;
            let lines = text(&bytes).map_err(|message| Error::format(&path, message))?.lines().map(str::trim);
            for (number, line) in (1..).zip(lines).filter(|(_, line)| !line.is_empty()) {
                let parts = if line.len() > LONGEST_PATH { Vec::new() } else { parts(line) };
                let below = |start: usize| images.get(&*parts[start..].join("/")).copied();
                let beside = images.get(&*inside(folder_of(list), &parts.join("/"))).copied();
                let Some(image) = beside.or_else(|| (0..parts.len()).find_map(below)) else {
                    let message = format!("line {number}: image `{}` is not there; {names} names this list", excerpt(line));
                    return Err(Error::format(path, message));
                };
                splits.files.entry(image.to_owned()).and_modify(|known| *known = rank.min(*known)).or_insert(rank);
            }
        }
        Ok(splits)
    }

    /// The split of an image.
    pub fn of(&self, image: &str) -> Option<&'static str> {
        let is_in = |folder: &str| image.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let by_folder = self.folders.iter().filter(|(folder, _)| is_in(folder)).map(|(_, rank)| *rank);
        let rank = self.files.get(image).copied().into_iter().chain(by_folder).min();
        rank.map_or_else(|| split_of(image), |rank| Some(NAMES[rank]))
    }
}

/// A path's parts, less those that lead out of the data set.
fn parts(path: &str) -> Vec<&str> {
    path.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | "..")).collect()
}

/// Where in the data set a place may be. `data.yaml` may be written for a folder above the data set (`../train/images`), or for
/// another computer (`/home/me/pets/train`): of an absolute path the ends count that tell a place, the longest first.
fn candidates(data: &Data, place: &str) -> Vec<String> {
    let is_absolute = |path: &str| path.starts_with(['/', '\\', '~']) || path.get(1..2) == Some(":");
    if place.len() > LONGEST_PATH {
        return Vec::new();
    }
    let own = parts(place);
    if is_absolute(place) {
        let tells = |start: &usize| own.len() - start > 1 || ends_in(place, TXT) || split_word(own[*start]).is_some();
        return (0..own.len()).filter(tells).map(|start| own[start..].join("/")).collect();
    }
    let above = data.path.as_deref().filter(|path| !is_absolute(path)).map(parts).unwrap_or_default();
    let joined = above.iter().chain(&own).copied().collect::<Vec<_>>().join("/");
    vec![joined, own.join("/")]
}
