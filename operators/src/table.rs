//! `table`: rows of table files, as they are.
//!
//! Output: the files' columns; without an `image_id`, the row's number, zero-padded. Lists of floats of one length become vectors
//! that `kmeans` reads. Config: `path`, a Parquet or CSV file, or a folder of them with one schema. Exact.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_datasets::local::LocalFiles;
use tessera_datasets::{Entry, Files, Fingerprint, tables};

use crate::operator::{BindError, Binding, Context, Kernel, Operator, Port, RunError, Source};

/// Keys of a `table` stage.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A table file or a folder of them, from the pipeline file's folder.
    path: PathBuf,
}

/// The bound operator.
pub struct Table {
    path: PathBuf,
    root: PathBuf,
    schema: SchemaRef,
}

impl Operator for Table {
    const NAME: &'static str = "table";
    const SUMMARY: &'static str = "rows of Parquet and CSV files";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path"];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let path = inputs.resolve(&config.path);
        let at_path = |message: String| vec![BindError::key("path", message)];
        if !path.exists() {
            let error = BindError::key("path", format!("`{}` does not exist", path.display()));
            return Err(vec![error.help("a relative path starts from the pipeline file's folder")]);
        }
        let root = if path.is_dir() { path.clone() } else { path.parent().unwrap_or(Path::new("")).to_owned() };
        let entries = LocalFiles.list(&path).and_then(|entries| tables::files(&path, entries));
        let entries = entries.map_err(|error| at_path(error.to_string()))?;
        // There is at least one: `tables::files` refuses an empty list.
        let first = entries.first().map(|entry| root.join(&entry.path)).unwrap_or_default();
        let schema = tables::schema(&LocalFiles, &first).map_err(|error| at_path(error.to_string()))?;
        Ok(Self { path, root, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(self, _: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Source(Box::new(self)))
    }
}

impl Source for Table {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, files: &dyn Files) -> Result<Vec<Entry>, RunError> {
        Ok(tables::files(&self.path, files.list(&self.path)?)?)
    }

    fn read(
        &self,
        files: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let paths: Vec<&str> = entries.iter().map(|print| print.entry.path.as_str()).collect();
        tables::read(files, &self.root, &paths, &self.schema, emit)
    }
}
