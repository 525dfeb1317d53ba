//! Files of the labels of images that lie in no folder of a class.

use std::collections::HashMap;
use std::path::Path;

use super::names::{self, full_lines, wrong};
use crate::boxes::{name_of, text};
use crate::{Error, Files, folder};

/// The development kit's, with its own numbers of classes.
pub const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
/// Kaggle's: `ImageId,PredictionString`, whose strings begin with a class.
const SOLUTION: &str = "LOC_val_solution.csv";
/// Tiny ImageNet's: an image, a class and a box a line.
const TINY: &str = "val_annotations.txt";
/// A class a line, in the images' order.
const SYNSETS: &str = "imagenet_2012_validation_synset_labels.txt";
/// Files of labels, in the order in which they are taken.
pub const FILES: [&str; 4] = [SOLUTION, TINY, GROUND_TRUTH, SYNSETS];

/// How the published images are called; a number of eight digits from 1 follows.
const VAL: &str = "ILSVRC2012_val_";

/// The name of an image in these files.
pub fn stem(path: &str) -> &str {
    let name = name_of(path);
    if folder::is_image(name) { name.rsplit_once('.').map_or(name, |(stem, _)| stem) } else { name }
}

/// The classes of images, by their names without ending.
///
/// # Errors
/// A file cannot be read, or is not what its name says; the message has the line.
pub fn read(files: &dyn Files, root: &Path, path: &str, numbers: Option<&str>) -> Result<HashMap<String, String>, Error> {
    let numbers = numbers.map(|path| names::numbers(files, root, path)).transpose()?;
    let full = root.join(path);
    let bytes = files.read(&full)?;
    let parse = |text: &str| {
        let mut labels = HashMap::new();
        // The numbers of images count lines, with or without something in them.
        for (at, line) in full_lines(text) {
            let Some((image, class)) = one(name_of(path), at, line, numbers.as_ref())? else { continue };
            if labels.insert(image.clone(), class).is_some() {
                return Err(format!("line {at}: the image {image} is there for the second time"));
            }
        }
        Ok(labels)
    };
    text(&bytes).and_then(parse).map_err(|message| Error::format(full, message))
}

/// An image and its class; none of the line that names the columns.
fn one(
    file: &str,
    at: usize,
    line: &str,
    numbers: Option<&HashMap<u32, String>>,
) -> Result<Option<(String, String)>, String> {
    let class = |found: Option<&str>, what: &str| match found.filter(|class| super::is_class(class)) {
        Some(class) => Ok(class.to_owned()),
        None => Err(wrong(at, line, what)),
    };
    let numbered = || format!("{VAL}{at:08}");
    Ok(Some(match file {
        SOLUTION if at == 1 && line.starts_with("ImageId") => return Ok(None),
        SOLUTION => {
            let what = "an image and its classes, as `ILSVRC2012_val_00000001,n01751748 111 108 431 202`";
            let (image, classes) = line.split_once(',').ok_or_else(|| wrong(at, line, what))?;
            let classes = classes.trim_matches('"').split_whitespace();
            (image.to_owned(), class(classes.into_iter().next(), what)?)
        }
        TINY => {
            let what = "an image and its class, as `val_0.JPEG n03444034 0 32 44 62`";
            let mut parts = line.split_whitespace();
            (stem(parts.next().unwrap_or_default()).to_owned(), class(parts.next(), what)?)
        }
        GROUND_TRUTH => {
            let number = line.parse().map_err(|_| wrong(at, line, "the number of a class"))?;
            let class = numbers.and_then(|numbers| numbers.get(&number));
            (numbered(), class.cloned().ok_or_else(|| format!("line {at}: {} has no class {number}", names::NUMBERS))?)
        }
        _ => (numbered(), class(Some(line), "a class, as n01440764 is")?),
    }))
}
