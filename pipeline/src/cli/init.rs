//! `tessera init`: a pipeline file for a folder of images, which works as it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use tessera_datasets::folder::naming::split;
use tessera_datasets::formats::Format;
use tessera_datasets::local::LocalFiles;
use tessera_datasets::{Entry, Files as _, LeftOut, folder};
use tessera_schemas::printable;

use super::{Usage, counted};
use crate::ask::export::NewFile;

/// The file that is filled in.
const TEMPLATE: &str = include_str!("init.toml");
/// Images whose size is looked at.
const SAMPLED: usize = 64;
/// The side of images, in pixels, unless the folder's are smaller: four tiles of 28 px, which suit the small network.
const SIDE: u32 = 64;
/// The side for smaller images: four tiles of 14 px, not much more than the small network needs.
const LEAST_SIDE: u32 = 32;
/// Puzzles that the training is to see in all, in so many epochs.
const PUZZLES: usize = 300_000;
/// The fewest and the most epochs.
const EPOCHS: (usize, usize) = (3, 60);
/// Puzzles a step.
const BATCH: usize = 64;

/// Which folder, and where the pipeline goes.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder of images.
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    folder: PathBuf,
    /// The pipeline file to write.
    #[arg(long, short, value_name = "FILE", default_value = "pipeline.toml", value_hint = clap::ValueHint::FilePath)]
    output: PathBuf,
    /// Print it instead.
    #[arg(long)]
    stdout: bool,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
}

/// What a folder holds.
#[derive(Debug, Default)]
struct Found {
    images: usize,
    /// Files by their ending in lower case, most first.
    formats: Vec<(String, usize)>,
    /// Folders of the halves of the data set, if all images lie in such.
    halves: BTreeSet<String>,
    /// First folders of the images' paths, behind that of the half, and how many lie in none.
    labels: BTreeMap<String, usize>,
    flat: usize,
    /// Width and height of some, by their short sides.
    sizes: Vec<(u32, u32)>,
    /// How many of those could not be read.
    unreadable: usize,
    /// What cannot be listed.
    left_out: Vec<LeftOut>,
}

impl Init {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<()> {
        let folder = self.folder.display();
        let refuse = |message: String| Err(Usage(message).into());
        if !self.folder.exists() {
            return refuse(format!("there is no folder {folder}"));
        }
        if !self.folder.is_dir() {
            return refuse(format!("{folder} is no folder: name the one that the images lie in"));
        }
        let listed = LocalFiles.list(&self.folder)?;
        let count = listed.files.len();
        if count == 0 && listed.left_out.is_empty() {
            return refuse(format!("the folder {folder} is empty"));
        }
        let listed = folder::images(listed);
        let format = Format::recognise(&LocalFiles, &self.folder)?;
        if format != Format::Folder {
            let name = serde_json::to_string(&format)?;
            let path = serde_json::to_string(&self.folder.to_string_lossy())?;
            return refuse(format!(
                "{folder} looks like a data set of format {name}, and init fills its file from a folder of images: \
                 stage.images = {{ op = \"images\", path = {path} }} lists it"
            ));
        }
        if listed.files.is_empty() {
            return refuse(format!("{folder}: {}", folder::no_image(count)));
        }
        let found = Found { left_out: listed.left_out, ..look(&self.folder, &listed.files) };
        if self.stdout {
            let path = relative(Path::new(""), &self.folder)?;
            write!(out, "{}", fill(&found, &path))?;
            return Ok(());
        }
        let base = self.output.parent().unwrap_or(Path::new(""));
        let text = fill(&found, &relative(base, &self.folder)?);
        let file = NewFile::create(&self.output, self.force)?;
        file.file()?.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.output.display()))?;
        file.finish()?;
        next(out, &found, &self.output)
    }
}

/// Looks at a folder's images.
fn look(root: &Path, images: &[Entry]) -> Found {
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

impl Found {
    /// The image in the middle, by the short side.
    fn median(&self) -> Option<(u32, u32)> {
        self.sizes.get(self.sizes.len() / 2).copied()
    }

    /// Whether the sub-folders can be taken for classes.
    fn labelled(&self) -> bool {
        self.flat == 0 && self.labels.len() > 1
    }

    fn formats(&self) -> String {
        self.formats.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// The pipeline's text.
fn fill(found: &Found, path: &str) -> String {
    let short = found.median().map_or(SIDE, |(width, height)| width.min(height));
    let side = if short < SIDE { LEAST_SIDE } else { SIDE };
    let epochs = (PUZZLES / found.images).clamp(EPOCHS.0, EPOCHS.1);
    let sizes = found.median().map_or_else(String::new, |(width, height)| format!(" (many are {width} x {height})"));
    let labels = if found.labelled() {
        let behind = if found.halves.is_empty() { "" } else { " behind the half's" };
        format!("; the first sub-folder{behind} is the label: {}", found.labels.len())
    } else {
        String::new()
    };
    // A JSON string is one of TOML; `${` would be an environment variable.
    let path = serde_json::Value::from(path).to_string().replace("${", "$${");
    let values = [
        ("@summary@", format!("Clusters of {}: {}.", counted(found.images, "image"), found.formats())),
        ("@labels@", labels),
        ("@path@", path),
        ("@sizes@", sizes),
        ("@side@", side.to_string()),
        // Seven eighths of a cell.
        ("@tile@", (side * 7 / 16).to_string()),
        ("@epochs@", epochs.to_string()),
        ("@puzzles@", (epochs * found.images).to_string()),
        ("@batch@", BATCH.min(found.images).max(2).to_string()),
        ("@k@", found.images.isqrt().clamp(2.min(found.images), 2000).to_string()),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// What was found and written, and what to do next.
fn next(out: &mut dyn Write, found: &Found, file: &Path) -> Result<()> {
    let file = file.to_string_lossy();
    let file = printable(&file);
    writeln!(out, "{}: {}", counted(found.images, "image"), found.formats())?;
    if let (Some((width, height)), Some((low_width, low_height))) = (found.median(), found.sizes.first()) {
        writeln!(
            out,
            "of {} looked at, half are at least {width} x {height}, the smallest is {low_width} x {low_height}",
            found.sizes.len()
        )?;
    }
    if found.unreadable > 0 {
        writeln!(
            out,
            "{} of them cannot be read, and such are left out: the table `dropped` will list them",
            found.unreadable
        )?;
    }
    for one in found.left_out.iter().take(5) {
        writeln!(out, "left out: {}: {}", printable(&one.path), one.reason)?;
    }
    if found.left_out.len() > 5 {
        writeln!(out, "and {} more are left out", found.left_out.len() - 5)?;
    }
    if !found.halves.is_empty() {
        let names: Vec<&str> = found.halves.iter().map(String::as_str).collect();
        writeln!(out, "halves, from the sub-folders: {} (the column `split`)", printable(&names.join(", ")))?;
    }
    if found.labelled() {
        let few: Vec<String> = found.labels.iter().take(5).map(|(name, count)| format!("{name} ({count})")).collect();
        let more = if found.labels.len() > few.len() { ", …" } else { "" };
        writeln!(out, "labels, from the sub-folders: {}{more}", printable(&few.join(", ")))?;
    }
    writeln!(out, "wrote {file}; next:\n  tessera run {file} --limit 100    # a trial on the first images")?;
    writeln!(out, "  tessera run {file}\n  tessera show {file} assigned -o clusters.png")?;
    if found.labelled() {
        writeln!(
            out,
            "  tessera sql {file} \"SELECT nmi(cluster, label), purity(cluster, label) FROM assigned JOIN images USING (image_id)\""
        )?;
    }
    Ok(())
}

/// A folder's path as a file in `base` names it.
fn relative(base: &Path, folder: &Path) -> Result<String> {
    let full = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::canonicalize(path).map_err(|error| Usage(format!("cannot open the folder {}: {error}", path.display())))
    };
    let (base, folder) = (full(base)?, full(folder)?);
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) = (base.components().collect(), folder.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    let path: PathBuf = up.chain(to[shared..].iter().copied()).collect();
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    let text = path.to_str().with_context(|| format!("the path {} is not UTF-8, and TOML is", path.display()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data/photos", "runs"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let at = |base: &str, folder: &str| relative(&dir.path().join(base), &dir.path().join(folder)).unwrap();
        assert_eq!(at("", "data/photos"), "data/photos");
        assert_eq!(at("runs", "data/photos"), "../data/photos");
        assert_eq!(at("data/photos", "data/photos"), ".");
        assert_eq!(at("data/photos", "data"), "..");
        assert!(relative(&dir.path().join("absent"), dir.path()).is_err());
    }

    #[test]
    fn numbers_follow_the_folder() {
        let found =
            |images, size| Found { images, sizes: vec![size], formats: vec![("jpg".into(), images)], ..Found::default() };
        let few = fill(&found(9, (40, 30)), "a \"b\" ${c}");
        for line in ["k = 3 ", "side = 32\n", "tile = 14\n", "batch = 9\n", "epochs = 60 ", "path = \"a \\\"b\\\" $${c}\"\n"]
        {
            assert!(few.contains(line), "{line}: {few}");
        }
        let many = fill(&found(1_000_000, (500, 375)), "x");
        for line in ["k = 1000 ", "side = 64\n", "tile = 28\n", "batch = 64\n", "epochs = 3 "] {
            assert!(many.contains(line), "{line}: {many}");
        }
        assert!(!few.contains('@') && !many.contains('@'));
    }
}
