//! `images`: lists a data set's images.
//!
//! Output: [`images`](tessera_schemas::images), by `image_id`, the path relative to the data set. In a folder with sub-folders
//! the first folder of the path is the label; images may lie deeper. `width` and `height` (of the stored pixels, before an
//! orientation is applied), `format`, `bytes` and `modified` come from the file's header and from the folder, null where they cannot
//! be read. Config: `path`, `format`, `on_error`, `masks`, …. No pixel is read here; files' bytes are read where size or time changed.
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
//! With `format = "parquet"` or `"arrow"`, images are a column of files, as Hugging Face's `datasets` writes them: `struct<bytes, path>`, or
//! binary. `arrow` is also what `save_to_disk` makes, a folder or a folder of splits, of which the files are those that `state.json` names. With
//! `format = "hdf5"` they are a dataset of pixels, or of whole files' bytes, one a row; or a group of those, a dataset each. A row without
//! bytes is in `dropped`, and so is what is cut off of an Arrow stream. [`embedded`](tessera_datasets::embedded) and
//! [`stack`](tessera_datasets::stack) have the rules.
//!
//! With `masks`, images have a column [`mask`](tessera_schemas::masks), null where there is none: where their masks lie, which `decode` reads.
//! A mask that changes changes the row of its image alone.
//!
//! Reference for the layout: Everingham et al., The PASCAL Visual Object Classes Challenge 2007 (VOC2007) Development Kit.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_datasets::formats::{Format, Opened};
use tessera_datasets::layout::{Access, Found, Role};
use tessera_datasets::tar::Ids;
use tessera_datasets::{Files, Fingerprint, LeftOut, Listed, as_url, folder, masks};

use crate::config::Limits;
use crate::decode::OnError;
use crate::operator::{BindError, Binding, Context, Loss, Operator, Port, RunError, Source};
use allowance::Allowance;

mod allowance;
mod open;

/// Keys of an `images` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set: a folder or a file, from the pipeline file's folder; or its URL, such as s3://bucket/photos.
    path: PathBuf,
    /// How the data set is laid out. Default: the names of its files tell the format; in a bucket, the ending of the URL tells it, and
    /// else it is a folder.
    #[serde(default)]
    format: Option<Format>,
    /// What happens to a file that cannot be listed.
    #[serde(default = "left_out")]
    on_error: OnError,
    /// The most images of the last snapshot that may be gone, as a number or a share such as `"10%"`. If more are gone, the run stops:
    /// a disk may not be mounted. A file that moved is not gone. Default: any number, but not all of them.
    #[serde(default)]
    max_removed: Option<Allowance>,
    /// Of a folder: what the class of an image is. `"path:2"` is the second folder of its path, `"regex:^(\\w+)_"` what the first group
    /// matches in its path, `"none"` gives no class. The folder of a half, such as `train`, does not count. Default: `"path:1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Of a folder: whether its first folders are the halves of the data set, such as `train` and `test`, so that the column `split`
    /// names them. Default: they are if all of them have such names; in a bucket, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    splits: Option<bool>,
    /// Of a folder: patterns such as `"*/2024/**"`; only files that match one are listed. Default: all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    include: Vec<String>,
    /// Of a folder: patterns of files that are not listed. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
    /// Of Parquet, Arrow and HDF5 files: the column, or the path of the dataset or of the group, that holds the images; of a list, the
    /// column that holds their paths. Default: the only one that can hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// Of tars: whether an image is called by its `"name"` in them, or by the `"path"` of its tar and that name. Default: `"name"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<Ids>,
    /// Of image files in a folder: the folder of their masks in the data set's, such as `"SegmentationClass"` of PASCAL VOC. A mask is a PNG
    /// with a palette or of gray, whose pixels are indices of classes; that of `a/b.jpg` is `MASKS/a/b.png` or `MASKS/b.png`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    masks: Option<PathBuf>,
}

fn left_out() -> OnError {
    OnError::Drop
}

/// The bound operator.
#[derive(Debug)]
pub struct Images {
    opened: Opened,
    format: Format,
    on_error: OnError,
    max_removed: Option<Allowance>,
    /// The folder of the masks, as paths have it.
    masks: Option<String>,
}

impl Operator for Images {
    const NAME: &'static str = "images";
    const SUMMARY: &'static str = "lists the images of a folder, of tars, Parquet, Arrow or HDF5 files, or a known data set";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", "the image's path in the data set, or what the format calls it"),
        ("source", "where its bytes are: path, offset, length, row"),
        ("label", "its class, if it has one; of PASCAL VOC a column a class in its place"),
        ("digest", "the hash of its bytes"),
        ("width", "its width in stored pixels, before an orientation is applied"),
        ("height", "its height, in the same way"),
        ("format", "`jpeg`, `png`, …, whatever its name ends in"),
        ("bytes", "the length of its file"),
        ("modified", "when its file was last written to"),
        ("each other of the data set", "`split`, `boxes`, columns of its tables"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.images]
op = "images"
path = "photos"
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path", "on_error", "max_removed"];
    const LIMITS: Limits = &[("max_removed", 1e12)];
    type Config = Config;
    type Kernel = Box<dyn Source>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let (format, opened) = open::open(&config, inputs)?;
        let masks = config.masks.as_deref().and_then(masks::folder);
        Ok(Self { opened, format, on_error: config.on_error, max_removed: config.max_removed, masks })
    }

    fn schema(&self) -> SchemaRef {
        self.opened.schema()
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut settled = vec![("format", json!(self.format))];
        if self.opened.in_splits {
            settled.push(("splits", json!(true)));
        }
        if let Some(masks) = &self.masks {
            settled.push(("masks", json!(masks)));
        }
        settled
    }

    fn refuses_drops(&self) -> bool {
        self.on_error == OnError::Fail
    }

    fn kernel(mut self, context: &Context) -> Result<Box<dyn Source>, RunError> {
        self.opened.layout.use_threads(context.threads);
        Ok(Box::new(self))
    }
}

impl Source for Images {
    fn root(&self) -> &Path {
        &self.opened.root
    }

    fn lists_images(&self) -> bool {
        true
    }

    fn role(&self, path: &str) -> Role {
        self.opened.role(path)
    }

    fn rule(&self) -> String {
        self.opened.layout.rule()
    }

    fn access(&self) -> Access {
        self.opened.layout.access()
    }

    fn may_lose(&self, rows: u64, rows_now: u64) -> Option<Loss> {
        let (most, said) = match self.max_removed {
            Some(allowance) => (allowance.of(rows), format!("`max_removed` is {allowance}")),
            None if rows_now == 0 => (rows.saturating_sub(1), "the folder holds no image any more".to_owned()),
            None => return None,
        };
        Some(Loss { most, said, key: "max_removed" })
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, RunError> {
        let root = self.root();
        let mut listed = self.opened.list(files)?;
        if !listed.files.iter().any(|file| self.role(&file.path) != Role::Beside) {
            let others = listed.files.len() + listed.aside.values().sum::<u64>() as usize;
            let held = as_url(root).and_then(|_| folder::holders(&listed)).unwrap_or_default();
            let reason = folder::no_image(others) + &held;
            // Other files, and no image: that is another folder than was meant. One that is empty may wait for its images.
            if others > 0 && listed.left_out.is_empty() {
                return Err(RunError::Format { path: root.to_owned(), message: reason });
            }
            listed.left_out.push(LeftOut { path: ".".into(), is_folder: true, reason });
        }
        match listed.left_out.first().filter(|_| self.on_error == OnError::Fail) {
            Some(first) => {
                let path = if first.path == "." { root.to_owned() } else { root.join(&first.path) };
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
        emit: &mut dyn FnMut(Found) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        self.opened.rows(files, entries, emit)
    }
}

#[cfg(test)]
mod tests {
    use tessera_datasets::voc;

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
        let errors = bind::<Images>(json!({ "path": ".", "format": "cocoa" }), &[]).unwrap_err();
        assert_eq!(errors[0].at, At::Key("format".into()));
        assert_eq!(
            errors[0].message,
            "`format`: unknown variant `cocoa`, expected one of `folder`, `list`, `webdataset`, `parquet`, `arrow`, `hdf5`, `voc`, `voc-xml`, `coco`, `yolo`, `imagenet`, `cifar`, `stl10`"
        );
    }
}
