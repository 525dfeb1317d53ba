//! `images`: lists a data set's images.
//!
//! Output: [`images`](tessera_schemas::images), by `image_id`, the path relative to the data set. In a folder with sub-folders
//! the first folder of the path is the label; images may lie deeper. Config: `path`, `format`. No pixel is read here; files'
//! bytes are hashed where size or time changed.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_datasets::{Entry, Files, Fingerprint, folder};

use crate::operator::{BindError, Binding, Context, Kernel, Operator, Port, RunError, Source};

/// Keys of an `images` stage.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data set's folder, from the pipeline file's.
    path: PathBuf,
    /// How the data set is laid out.
    #[serde(default)]
    format: Format,
}

/// Layouts of data sets.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Image files in a folder, one class a sub-folder or flat.
    #[default]
    Folder,
}

/// The bound operator.
pub struct Images {
    root: PathBuf,
}

impl Operator for Images {
    const NAME: &'static str = "images";
    const SUMMARY: &'static str = "lists the images of a folder, with the first sub-folder as label";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path"];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let Config { path, format: Format::Folder } = config;
        let root = inputs.resolve(&path);
        if !root.is_dir() {
            let what = if root.exists() { "is no folder" } else { "does not exist" };
            let error = BindError::key("path", format!("the folder `{}` {what}", root.display()));
            return Err(vec![error.help("a relative path starts from the pipeline file's folder")]);
        }
        Ok(Self { root })
    }

    fn schema(&self) -> SchemaRef {
        tessera_schemas::images::schema()
    }

    fn kernel(self, _: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Source(Box::new(self)))
    }
}

impl Source for Images {
    fn root(&self) -> &Path {
        &self.root
    }

    fn row_per_file(&self) -> bool {
        true
    }

    fn list(&self, files: &dyn Files) -> Result<Vec<Entry>, RunError> {
        Ok(folder::images(&self.root, files.list(&self.root)?)?)
    }

    fn read(
        &self,
        _: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        folder::batches(entries).try_for_each(|batch| emit(batch?))
    }
}
