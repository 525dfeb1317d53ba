//! Images and the files beside them that say what they show: one a file, paired by their names.

use std::collections::HashMap;
use std::path::Path;

use super::{some, stem_of};
use crate::{Error, Files, Read};

/// Label files, by their paths without the ending.
#[derive(Debug, Default)]
pub struct Labels<'a>(HashMap<&'a str, &'a str>);

impl<'a> Labels<'a> {
    /// # Errors
    /// Two differ in their endings only (`a.xml`, `a.XML`).
    pub fn of(paths: impl IntoIterator<Item = &'a str>, root: &Path) -> Result<Self, Error> {
        let mut known = HashMap::new();
        for path in paths {
            if let Some(other) = known.insert(stem_of(path), path) {
                return Err(Error::format(root.join(path), format!("{other} is about the same image: remove one of them")));
            }
        }
        Ok(Self(known))
    }

    /// The file that has this path without its ending.
    pub fn get(&self, stem: &str) -> Option<&'a str> {
        self.0.get(stem).copied()
    }
}

/// Checks that each label file is about one image; `owner` names the label file of an image.
///
/// # Errors A label file is about no image, or about several. `wanted` says where the image of a label file would be.
pub fn check<'a>(
    root: &Path,
    labels: impl IntoIterator<Item = &'a str>,
    images: impl IntoIterator<Item = &'a str>,
    owner: impl Fn(&'a str) -> Result<Option<&'a str>, Error>,
    wanted: impl Fn(&str) -> String,
) -> Result<(), Error> {
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for image in images {
        let Some(label) = owner(image)? else { continue };
        if let Some(other) = taken.insert(label, image) {
            let message = format!("it may be about {other} or {image}: images must differ in more than their endings");
            return Err(Error::format(root.join(label), message));
        }
    }
    let mut lonely: Vec<&str> = labels.into_iter().filter(|label| !taken.contains_key(label)).collect();
    lonely.sort_unstable();
    match lonely[..] {
        [] => Ok(()),
        [first] => Err(Error::format(root.join(first), format!("it has no image {}", wanted(first)))),
        [first, ref rest @ ..] => {
            let message = format!("it has no image {}; nor have {}", wanted(first), some(rest));
            Err(Error::format(root.join(first), message))
        }
    }
}

/// The bytes of files, in order; none where there is no file.
///
/// # Errors
/// One cannot be read.
pub fn read(files: &dyn Files, root: &Path, paths: &[Option<&str>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let reads: Vec<Read> = paths.iter().flatten().map(|path| Read { path: root.join(path), range: None }).collect();
    let mut found = files.read_each(&reads).into_iter();
    paths.iter().map(|path| path.is_some().then(|| found.next()).flatten().transpose()).collect()
}
