//! `images`: lists a data set's images.
//!
//! Output: [`images`](tessera_schemas::images), by `image_id`, the path relative to the data set. In a folder with sub-folders
//! the first folder of the path is the label; images may lie deeper. `width` and `height` (of the stored pixels, before an
//! orientation is applied), `format`, `bytes` and `modified` come from the file's header and from the folder, null where they cannot
//! be read. Config: `path`, `format`, `on_error`. No pixel is read here; files' bytes are read where size or time changed.
//!
//! A file that cannot be read is a row all the same: the stage that decodes it says what that means. What cannot be listed (a name
//! that is not UTF-8, a folder that cannot be read), and a folder that is empty, are told, and are in the table `dropped`; with
//! `on_error = "fail"` they fail the run. A folder of other files, and no image, fails it in any case.
//!
//! With `format = "voc"`, `path` is a folder such as PASCAL's `VOC2007`, and an image may show several classes: so there is no
//! `label`, but `split` (`train`, `val`, `test`; `trainval` where that is all that is known; null for an image of none), and for each
//! class that `ImageSets/Main` has files of, in the order of their names, a [`presence`](tessera_schemas::presence) column with 1, -1, 0
//! (difficult) or null. All images of `JPEGImages` are listed. [`voc`] has the rules. A line that changes there changes its rows alone.
//!
//! Reference for the layout: Everingham et al., The PASCAL Visual Object Classes Challenge 2007 (VOC2007) Development Kit.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_datasets::{Files, Fingerprint, LeftOut, Listed, URL_EXAMPLES, URL_SCHEMES, as_url, folder, voc};
use tessera_schemas::{BYTES, IMAGE_ID, PREVIOUS, images, pixels};

use crate::config::Limits;
use crate::decode::OnError;
use crate::operator::{BindError, Binding, Context, Kernel, Loss, Operator, Port, RunError, Source};
use allowance::Allowance;

/// Keys of an `images` stage.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set's folder, from the pipeline file's; or its URL, such as s3://bucket/photos.
    path: PathBuf,
    /// How the data set is laid out. Default `"folder"`.
    #[serde(default)]
    format: Format,
    /// What happens to what cannot be listed. Default `"drop"`.
    #[serde(default = "left_out")]
    on_error: OnError,
    /// The most images of the last snapshot that may be gone, as a number or a share such as `"10%"`: if more are, the run stops, as over
    /// a disk that is not mounted. A file that moved is not gone. Default: any number, but not all of them.
    #[serde(default)]
    max_removed: Option<Allowance>,
}

fn left_out() -> OnError {
    OnError::Drop
}

/// Layouts of data sets.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Image files in a folder, one class a sub-folder or flat.
    #[default]
    Folder,
    /// `JPEGImages` and `ImageSets/Main`, as PASCAL VOC has them.
    Voc,
}

/// The bound operator.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
    layout: Layout,
    on_error: OnError,
    max_removed: Option<Allowance>,
}

/// A format, with what is known of the data set before it is listed.
#[derive(Debug)]
enum Layout {
    Folder,
    Voc { classes: Vec<String> },
}

impl Operator for Images {
    const NAME: &'static str = "images";
    const SUMMARY: &'static str = "lists the images of a folder, with the first sub-folder as label, or of PASCAL VOC";
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path", "on_error", "max_removed"];
    const LIMITS: Limits = &[("max_removed", 1e12)];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let Config { path, format, on_error, max_removed } = config;
        let root = inputs.resolve(&path);
        if let Some(url) = as_url(&root) {
            // What lies in a bucket is asked when it is listed.
            let scheme = url.split("://").next().unwrap_or_default();
            if !URL_SCHEMES.contains(&scheme) {
                let error = BindError::key("path", format!("`{url}` is of no object store that is known"));
                return Err(vec![error.help(format!("a data set is a folder, or {URL_EXAMPLES}"))]);
            }
        } else if !root.is_dir() {
            let what = if root.exists() { "is no folder" } else { "does not exist" };
            let error = BindError::key("path", format!("the folder `{}` {what}", root.display()));
            return Err(vec![error.help("a relative path starts from the pipeline file's folder")]);
        }
        let layout = match format {
            Format::Folder => Layout::Folder,
            Format::Voc => Layout::Voc { classes: classes(&path, &root, inputs.files)? },
        };
        Ok(Self { root, layout, on_error, max_removed })
    }

    fn schema(&self) -> SchemaRef {
        match &self.layout {
            Layout::Folder => images::schema(),
            Layout::Voc { classes } => voc::schema(classes),
        }
    }

    fn refuses_drops(&self) -> bool {
        self.on_error == OnError::Fail
    }

    fn kernel(self, _: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Source(Box::new(self)))
    }
}

/// The classes of a data set as VOC has it, or what is wrong with it.
fn classes(path: &Path, root: &Path, files: &dyn Files) -> Result<Vec<String>, Vec<BindError>> {
    let is_remote = as_url(root).is_some();
    let is_lacking = |folder: &&str| !is_remote && !root.join(folder).is_dir();
    let lacking: Vec<&str> = [voc::IMAGES, voc::SETS].into_iter().filter(is_lacking).collect();
    if !lacking.is_empty() {
        let message = format!("the folder `{}` has no {}", root.display(), lacking.join(" and no "));
        let help = match within(root) {
            Some(inner) => format!("`{}` has: try path = {:?}", inner.display(), path.join(&inner)),
            None => format!("format \"voc\" needs a folder such as VOC2007, with {} and {}", voc::IMAGES, voc::SETS),
        };
        return Err(vec![BindError::key("path", message).help(help)]);
    }
    let classes = voc::classes(files, root).map_err(|error| {
        vec![BindError::key("path", error.to_string()).help("format = \"folder\" lists images without classes")]
    })?;
    let schema = images::schema();
    let taken: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let taken = [&taken[..], &[IMAGE_ID, voc::SPLIT, BYTES, PREVIOUS, pixels::PIXELS]].concat();
    let clashes = classes.iter().filter(|class| taken.contains(&class.as_str()));
    let errors: Vec<BindError> = clashes
        .map(|class| {
            let message = format!("the class `{class}` of `{}` has the name of a column that images have", voc::SETS);
            BindError::key("path", message).help(format!("rename its files, `{class}_*.txt`"))
        })
        .collect();
    if errors.is_empty() { Ok(classes) } else { Err(errors) }
}

/// The data set that lies in the folder, or in one of it, such as `VOCdevkit`: relative to it, the first by name.
fn within(root: &Path) -> Option<PathBuf> {
    let inner = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| folder.join(entry.file_name())).collect();
        folders.sort();
        folders
    };
    let below = inner(Path::new(""));
    let deeper = below.iter().flat_map(|folder| inner(folder));
    below.iter().cloned().chain(deeper).find(|folder| {
        let folder = root.join(folder);
        folder.join(voc::IMAGES).is_dir() && folder.join(voc::SETS).is_dir()
    })
}

impl Source for Images {
    fn root(&self) -> &Path {
        &self.root
    }

    fn row_per_file(&self) -> bool {
        true
    }

    fn may_lose(&self, rows: u64, rows_now: u64) -> Option<Loss> {
        let (most, said) = match self.max_removed {
            Some(allowance) => (allowance.of(rows), format!("`max_removed` is {allowance}")),
            None if rows_now == 0 => (rows.saturating_sub(1), "the folder holds no image any more".to_owned()),
            None => return None,
        };
        Some(Loss { most, said, key: "max_removed" })
    }

    fn makes_row(&self, path: &str) -> bool {
        match self.layout {
            Layout::Folder => true,
            Layout::Voc { .. } => voc::is_image(path),
        }
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, RunError> {
        let (mut listed, all) = match &self.layout {
            Layout::Folder => {
                let all = files.list(&self.root)?;
                let count = all.files.len();
                (folder::images(all), count)
            }
            Layout::Voc { classes } => {
                let listed = voc::list(files, &self.root, classes)?;
                let count = listed.files.len();
                (listed, count)
            }
        };
        if !listed.files.iter().any(|file| self.makes_row(&file.path)) {
            // Other files, and no image: that is another folder than was meant. One that is empty may wait for its images.
            if all > 0 && listed.left_out.is_empty() {
                return Err(RunError::Format { path: self.root.clone(), message: folder::no_image(all) });
            }
            listed.left_out.push(LeftOut { path: ".".into(), is_folder: true, reason: folder::no_image(all) });
        }
        match listed.left_out.first().filter(|_| self.on_error == OnError::Fail) {
            Some(first) => {
                let path = if first.path == "." { self.root.clone() } else { self.root.join(&first.path) };
                let more = listed.left_out.len() - 1;
                let more = if more > 0 { format!(" (and {more} more like it)") } else { String::new() };
                Err(RunError::Format { path, message: format!("{}{more}", first.reason) })
            }
            None => Ok(listed),
        }
    }

    fn read(
        &self,
        files: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        match &self.layout {
            Layout::Folder => folder::batches(entries).try_for_each(|batch| emit(batch?)),
            Layout::Voc { classes } => voc::batches(files, &self.root, classes, entries)?.try_for_each(|batch| emit(batch?)),
        }
    }
}

mod allowance;
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::At;
    use crate::trial::bind;

    /// Folders of a data set whose files of classes have these names.
    fn made(root: &Path, names: &[&str]) {
        for folder in [voc::IMAGES, voc::SETS] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        names.iter().for_each(|name| std::fs::write(root.join(voc::SETS).join(name), "").unwrap());
    }

    fn faults(path: &Path) -> Vec<(String, String)> {
        let errors = bind::<Images>(json!({ "path": path, "format": "voc" }), &[]).expect_err("it should not bind");
        assert!(errors.iter().all(|error| error.at == At::Key("path".into())));
        errors.into_iter().map(|error| (error.message, error.help.unwrap_or_default())).collect()
    }

    #[test]
    fn a_folder_around_the_data_set_is_told_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let parted = |path: &Path| faults(path).remove(0);
        let (message, help) = parted(dir.path());
        assert!(message.ends_with("` has no JPEGImages and no ImageSets/Main"), "{message}");
        assert_eq!(help, "format \"voc\" needs a folder such as VOC2007, with JPEGImages and ImageSets/Main");
        made(&dir.path().join("VOCdevkit/VOC2012"), &["cat_train.txt"]);
        made(&dir.path().join("VOCdevkit/VOC2007"), &["cat_train.txt"]);
        for (path, inner) in [(dir.path().to_owned(), "VOCdevkit/VOC2007"), (dir.path().join("VOCdevkit"), "VOC2007")] {
            let whole = path.join(inner);
            assert_eq!(parted(&path).1, format!("`{inner}` has: try path = {whole:?}"));
            let images: Images = bind(json!({ "path": whole, "format": "voc" }), &[]).unwrap();
            assert_eq!(tessera_schemas::presence::names(&images.schema()), ["cat"]);
        }
        std::fs::remove_dir(dir.path().join("VOCdevkit/VOC2007/JPEGImages")).unwrap();
        let (message, help) = parted(&dir.path().join("VOCdevkit/VOC2007"));
        assert!(message.ends_with("VOC2007` has no JPEGImages") && help.starts_with("format"), "{message} {help}");
    }

    #[test]
    fn classes_are_columns_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), &["train.txt"]);
        let (message, help) = faults(dir.path()).remove(0);
        assert!(message.contains("ImageSets/Main: no class among 1 files"), "{message}");
        assert_eq!(help, "format = \"folder\" lists images without classes");
        made(dir.path(), &["split_train.txt", "cat_train.txt", "label_val.txt", "pixels_test.txt"]);
        let found = faults(dir.path());
        let names: Vec<&str> = found.iter().map(|(message, _)| message.split('`').nth(1).unwrap()).collect();
        assert_eq!(names, ["label", "pixels", "split"]);
        let message = "the class `label` of `ImageSets/Main` has the name of a column that images have";
        assert_eq!(found[0], (message.to_owned(), "rename its files, `label_*.txt`".to_owned()));
    }

    #[test]
    fn a_loss_is_allowed_by_number_or_share() {
        let dir = tempfile::tempdir().unwrap();
        let loss = |most: serde_json::Value, now| {
            let images: Images = bind(json!({ "path": dir.path(), "max_removed": most }), &[]).unwrap();
            images.may_lose(200, now).map(|loss| (loss.most, loss.said))
        };
        assert_eq!(loss(json!("10%"), 100), Some((20, "`max_removed` is \"10%\"".into())));
        assert_eq!(loss(json!(3), 100), Some((3, "`max_removed` is 3".into())));
        assert_eq!(loss(serde_json::Value::Null, 1), None);
        assert_eq!(loss(serde_json::Value::Null, 0), Some((199, "the folder holds no image any more".into())));
        assert_eq!(loss(json!("100%"), 0).unwrap().0, 200);
    }

    #[test]
    fn unknown_formats_are_told_the_known_ones() {
        let errors = bind::<Images>(json!({ "path": ".", "format": "coco" }), &[]).unwrap_err();
        assert_eq!(errors[0].at, At::Key("format".into()));
        assert_eq!(errors[0].message, "`format`: unknown variant `coco`, expected `folder` or `voc`");
    }
}
