//! What the columns of a data set of tars are, and where its labels are: decided from its first samples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tessera_schemas::images;

use super::packing;
use super::tape::Raw;
use super::walk::{Part, Walk};
use crate::{Entry, Error, Files};

/// Samples with images that are looked at when a data set is opened.
pub const PROBED_SAMPLES: usize = 1000;
/// Bytes that are fetched or unpacked for it.
pub const PROBED_BYTES: u64 = 64 << 20;
/// So many of a member's first bytes are looked at to see whether it is text.
const FRONT_BYTES: u64 = 64 << 10;
/// Columns that a data set may have beside those of images: endings above that, which are names with dots, are not looked at.
const MOST_COLUMNS: usize = 64;
/// Of so many samples, at least one must have a member with an ending that has dots within.
const RARE: usize = 100;
/// The ending of a label.
pub const LABEL: &str = "cls";
/// Endings of what is no text, even if it looks like it.
const BINARY: [&str; 29] = [
    "npy",
    "npz",
    "pyd",
    "pickle",
    "pkl",
    "pth",
    "pt",
    "ten",
    "tb",
    "mp",
    "msgpack",
    "cbor",
    "safetensors",
    "avif",
    "heic",
    "heif",
    "jxl",
    "jp2",
    "ppm",
    "pgm",
    "pbm",
    "flac",
    "mp3",
    "wav",
    "mp4",
    "avi",
    "mov",
    "gz",
    "zip",
];

/// What a row's `image_id` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// The path of its member in the tar.
    #[default]
    Name,
    /// The path of its shard, a slash, and the path of its member.
    Path,
}

/// Where an image's label is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// The text of its sample's member with the ending `cls`.
    Cls,
    /// The first folder of its path.
    Folder {
        /// Behind this one, if it lies in it.
        within: Option<String>,
    },
}

/// A column with the text of members.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// The members' ending.
    pub ending: String,
    /// The column's name.
    pub name: String,
}

/// What the rows of a shard follow from, beside its bytes and its path: plain data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    /// What a row is called.
    pub ids: Ids,
    /// Where its label is.
    pub labels: Labels,
    /// The columns behind those of images.
    pub columns: Vec<Column>,
}

/// The rule of a data set, by its first samples.
pub fn probed(files: &dyn Files, root: &Path, shards: &[Entry], ids: Ids, taken: &[&str]) -> Result<Rule, Error> {
    let mut seen = Seen::default();
    for (at, shard) in shards.iter().enumerate() {
        seen.look(files, root, shard)?;
        if seen.samples > 0 || seen.cost >= PROBED_BYTES {
            seen.is_all &= at + 1 == shards.len();
            break;
        }
    }
    Ok(seen.rule(ids, taken))
}

/// What samples were seen to have.
#[derive(Default)]
struct Seen {
    samples: usize,
    cost: u64,
    /// Whether there is no further shard or sample.
    is_all: bool,
    /// By ending, how many samples with images have it as text; none if one of them has it as something else.
    texts: BTreeMap<String, Option<usize>>,
    folders: Folders,
}

impl Seen {
    fn look(&mut self, files: &dyn Files, root: &Path, shard: &Entry) -> Result<(), Error> {
        let Some(packing) = packing(&shard.path) else { return Ok(()) };
        let raw = Raw { files, path: root.join(&*shard.path), size: shard.size };
        let mut walk = Walk::open(raw, &shard.path, packing)?;
        let wants = |ending: &str| is_name(ending) && !BINARY.contains(&last(ending));
        let mut sample = Sample::default();
        self.is_all = false;
        while self.samples < PROBED_SAMPLES && self.cost + walk.cost() < PROBED_BYTES {
            let Some(part) = walk.next(&wants)? else {
                self.is_all = walk.is_whole;
                break;
            };
            if sample.key != part.key() {
                self.add(std::mem::take(&mut sample));
                part.key().clone_into(&mut sample.key);
            }
            if part.is_image {
                sample.has_image = true;
                self.folders.see(&part);
            } else {
                let text = is_text(walk.front(&part, FRONT_BYTES)?);
                *sample.texts.entry(part.ending).or_insert(true) &= text;
            }
        }
        self.add(sample);
        self.cost += walk.cost();
        Ok(())
    }

    fn add(&mut self, sample: Sample) {
        if sample.has_image {
            self.samples += 1;
            for (ending, is_text) in sample.texts {
                let known = self.texts.entry(ending).or_insert(Some(0));
                *known = known.filter(|_| is_text).map(|count| count + 1);
            }
        }
    }

    fn rule(self, ids: Ids, taken: &[&str]) -> Rule {
        let is_column =
            |ending: &str, count: usize| ending != LABEL && (!ending.contains('.') || count * RARE >= self.samples);
        let mut endings: Vec<(&str, usize)> =
            self.texts.iter().filter_map(|(ending, count)| Some((ending.as_str(), (*count)?))).collect();
        let has_label = endings.iter().any(|(ending, _)| *ending == LABEL);
        endings.retain(|(ending, count)| is_column(ending, *count));
        // The most frequent ones; the sort keeps the order of those that are as frequent.
        endings.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        endings.truncate(MOST_COLUMNS);
        let endings: BTreeSet<&str> = endings.into_iter().map(|(ending, _)| ending).collect();
        let images = images::schema();
        let mut names: BTreeSet<String> = images.fields().iter().map(|field| field.name().clone()).collect();
        names.extend(taken.iter().map(|name| (*name).to_owned()));
        let mut columns = Vec::new();
        for ending in endings {
            let plain = ending.replace(['.', '-'], "_");
            let numbered = (2..).map(|at| format!("sample_{plain}_{at}"));
            let mut known = [plain.clone(), format!("sample_{plain}")].into_iter().chain(numbered);
            let Some(name) = known.find(|name| names.insert(name.clone())) else { continue };
            columns.push(Column { ending: ending.to_owned(), name });
        }
        let labels = if has_label { Labels::Cls } else { Labels::Folder { within: self.folders.around(self.is_all) } };
        Rule { ids, labels, columns }
    }
}

#[derive(Default)]
struct Sample {
    key: String,
    has_image: bool,
    texts: BTreeMap<String, bool>,
}

/// The folder that all images lie in, if it is one.
#[derive(Default)]
struct Folders {
    first: Option<String>,
    /// An image lies in another folder, or in none.
    is_mixed: bool,
    /// An image lies in no further folder below the first.
    is_last: bool,
}

impl Folders {
    fn see(&mut self, part: &Part) {
        let Some((first, behind)) = part.path.split_once('/') else {
            self.is_mixed = true;
            return;
        };
        self.is_last |= !behind.contains('/');
        self.is_mixed |= self.first.get_or_insert_with(|| first.to_owned()) != first;
    }

    /// The folder that is no class, but lies around all of them. Of one that has images itself, only a look at all of them says that:
    /// the first thousand may be those of the first class.
    fn around(self, is_all: bool) -> Option<String> {
        self.first.filter(|_| !self.is_mixed && (is_all || !self.is_last))
    }
}

/// What follows an ending's last dot.
pub fn last(ending: &str) -> &str {
    ending.rsplit_once('.').map_or(ending, |(_, last)| last)
}

/// Whether an ending can become a column's name.
fn is_name(ending: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !ending.is_empty() && ending.len() <= 64 && ending.bytes().all(is_letter)
}

/// Whether bytes begin as text does.
fn is_text(front: &[u8]) -> bool {
    let text = match std::str::from_utf8(front) {
        Ok(text) => text,
        // The last letter may be cut.
        Err(error) if error.error_len().is_none() && front.len() as u64 == FRONT_BYTES => {
            std::str::from_utf8(&front[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|letter| letter.is_control() && !letter.is_whitespace())
}
