//! What paths say of images: which half of a data set they lie in, which class they show, and whether they are wanted.

use std::collections::BTreeMap;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use glob::{MatchOptions, Pattern};
use regex::Regex;

use crate::Listed;

/// What folders of halves are called, and what the half is: as Hugging Face's imagefolder knows them.
const SPLITS: [(&str, [&str; 4]); 3] = [
    ("train", ["train", "training", "", ""]),
    ("validation", ["validation", "valid", "val", "dev"]),
    ("test", ["test", "testing", "eval", "evaluation"]),
];
/// Files are wanted by patterns as shells match them: a star stays within one folder.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The half that a folder of that name holds: `train`, `validation` or `test`; none if it is another folder.
pub fn split(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let known = SPLITS.iter().find(|(_, names)| names.iter().any(|known| !known.is_empty() && *known == name));
    known.map(|(split, _)| *split)
}

/// How a class is found in a path.
#[derive(Debug, Clone)]
pub enum Label {
    /// The folder at that place, from 1.
    Folder(usize),
    /// What the first group of a regular expression matches.
    Group(Box<Regex>),
    /// There are no classes.
    None,
}

impl Default for Label {
    fn default() -> Self {
        Self::Folder(1)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("path", place)) => match place.parse() {
                Ok(place) if place > 0 => Ok(Self::Folder(place)),
                _ => Err(format!("`{place}` should be a folder's place in the path, from 1, as in \"path:2\"")),
            },
            Some(("regex", pattern)) => {
                let regex = Regex::new(pattern).map_err(|error| {
                    // The last line says what is wrong, those before show where.
                    let said = error.to_string();
                    said.lines().last().map_or_else(String::new, |line| line.trim().replace("error: ", ""))
                })?;
                if regex.captures_len() < 2 {
                    return Err(format!("`{pattern}` should have a group in parentheses, which is the class"));
                }
                Ok(Self::Group(Box::new(regex)))
            }
            _ => Err(format!("`{text}` is no rule for labels")),
        }
    }
}

/// What paths say.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// How classes are named.
    pub label: Label,
    /// Only files that match one of these are wanted, if there are any.
    pub include: Vec<Pattern>,
    /// Files that match one of these are not wanted.
    pub exclude: Vec<Pattern>,
}

impl Naming {
    /// The class that a path tells; it begins behind the folder of its half.
    pub fn label<'a>(&self, path: &'a str) -> Option<&'a str> {
        match &self.label {
            Label::None => None,
            Label::Folder(place) => {
                let (folders, _) = path.rsplit_once('/')?;
                folders.split('/').nth(place - 1)
            }
            Label::Group(regex) => Some(regex.captures(path)?.get(1)?.as_str()),
        }
    }

    /// Whether a file is wanted, by its path in the data set.
    pub fn wants(&self, path: &str) -> bool {
        let is_of = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches_with(path, MATCHING));
        (self.include.is_empty() || is_of(&self.include)) && !is_of(&self.exclude)
    }
}

/// A file's ending; what begins with its only dot is a hidden file without one.
pub fn extension(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, extension)| extension)
}

/// Counts a file that is no image, by its ending.
pub(super) fn set_aside(path: &str, aside: &mut BTreeMap<Box<str>, u64>) {
    let extension = extension(path).to_ascii_lowercase();
    *aside.entry(extension.into()).or_default() += 1;
}

/// The files of a data set among others, which are counted; what was left out stays if it may be one of them.
pub(crate) fn only(mut listed: Listed, is_ours: &dyn Fn(&str) -> bool) -> Listed {
    for entry in listed.files.extract_if(.., |entry| !is_ours(&entry.path)) {
        set_aside(&entry.path, &mut listed.aside);
    }
    listed.left_out.retain(|one| one.is_folder || is_ours(&one.path));
    listed
}

/// One column's texts, and another's where it has none.
pub(super) fn over(first: &ArrayRef, second: &ArrayRef) -> ArrayRef {
    let (first, second) = (first.as_string::<i32>(), second.as_string::<i32>());
    let one = |row: usize| {
        let of = |texts: &'_ StringArray| texts.is_valid(row).then(|| texts.value(row).to_owned());
        of(first).or_else(|| of(second))
    };
    std::sync::Arc::new((0..first.len()).map(one).collect::<StringArray>())
}
