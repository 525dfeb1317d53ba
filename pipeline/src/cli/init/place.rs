//! Paths in a pipeline file: as they were given, as long as they lead to the same place from there.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use tessera_datasets::local::joined;

use super::super::Usage;

/// A path of the command line as a file in the folder `base` names it. One from the root, or from the home by `~`, stays as it is; a relative one stays
/// so where the file lies in this folder, and starts from the file's elsewhere.
///
/// # Errors
/// The folder is not there, or the path is not UTF-8.
pub fn from(base: &Path, path: &Path) -> Result<String> {
    let is_here = base.components().all(|part| part == Component::CurDir);
    let stays = path.is_absolute() || path.starts_with("~") || is_here;
    let path = if stays { path.to_owned() } else { relative(base, path)? };
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    let text = path.to_str().with_context(|| format!("the path {} is not UTF-8, and TOML is", path.display()))?;
    Ok(text.to_owned())
}

/// A path relative to this folder, relative to another one.
fn relative(base: &Path, path: &Path) -> Result<PathBuf> {
    let full = |path: &Path| {
        let opened = fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { path });
        opened.map_err(|error| Usage(format!("cannot open {}: {error}", path.display())))
    };
    let (target, base, here) = (full(path)?, full(base)?, full(Path::new("."))?);
    // Links on the way stay what they are, unless another place would be meant.
    let kept = between(&base, &tidy(&here.join(path)));
    let is_meant = fs::canonicalize(base.join(&kept)).is_ok_and(|found| found == target);
    Ok(if is_meant { kept } else { between(&base, &target) })
}

/// A path without `.`, and without `..` behind a name.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}

/// The way from one folder to another, both from the root.
fn between(base: &Path, target: &Path) -> PathBuf {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) = (base.components().collect(), target.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    up.chain(to[shared..].iter().copied()).collect()
}

/// A file that was found from the folder `looked`, which was given as `folder`, as if it had been given likewise.
pub fn beside(folder: &Path, file: &Path, looked: &Path) -> PathBuf {
    match file.strip_prefix(looked) {
        Ok(below) => folder.join(below),
        Err(_) => {
            let name = file.file_name().unwrap_or_default();
            let kept = folder.parent().map_or_else(|| file.to_owned(), |parent| parent.join(name));
            let full = |path: &Path| fs::canonicalize(joined(Path::new(""), path)).ok();
            if full(&kept).is_some_and(|kept| Some(kept) == full(file)) { kept } else { file.to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_stays() {
        let here = Path::new("");
        for path in ["photos", "photos/", "./photos", "../photos", "~/photos", "/data/photos"] {
            assert_eq!(from(here, Path::new(path)).unwrap(), path);
            assert_eq!(from(Path::new("."), Path::new(path)).unwrap(), path);
        }
        for path in ["~/photos", "/data/photos/"] {
            assert_eq!(from(Path::new("sub"), Path::new(path)).unwrap(), path);
        }
    }

    #[test]
    fn relative_paths_start_from_the_file() {
        // Of this crate's folder, in which tests run.
        let at = |base: &str, path: &str| from(Path::new(base), Path::new(path)).unwrap();
        assert_eq!(at("src", "src/cli"), "cli");
        assert_eq!(at("src", "python/src"), "../python/src");
        assert_eq!(at("src/cli", "./python"), "../../python");
        assert_eq!(at("src/cli", "src/cli"), ".");
        assert_eq!(at("src/cli", "src/../src"), "..");
        assert!(from(Path::new("absent"), Path::new("src")).is_err());
    }

    #[test]
    fn ways_between_folders() {
        assert_eq!(between(Path::new("/a/runs"), Path::new("/a/data/photos")), Path::new("../data/photos"));
        assert_eq!(tidy(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(
            beside(Path::new("photos"), Path::new("photos/labels.csv"), Path::new("photos")),
            Path::new("photos/labels.csv")
        );
        let far = PathBuf::from("/home/of/another/labels.csv");
        assert_eq!(beside(Path::new("~/photos"), &far, Path::new("/home/photos")), far);
    }
}
