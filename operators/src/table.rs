//! `table`: the rows of table files as they are.
//!
//! Output: the files' columns; text becomes Utf8, lists of floats that have one length become `FixedSizeList<Float32>`, and
//! without an `image_id` the rows are numbered, zero-padded, as the first column. Rows stay in the files' order. Of `rows = "1000:2000"`,
//! those rows alone; their numbers are those that they have in the whole table, so that labels made for that one fit. Config: `path`,
//! a Parquet, CSV, JSON lines, `.npy`, HDF5 or Arrow file, or a folder of such files that have the same columns; `dataset`, of HDF5
//! files: a dataset, a group whose datasets are the columns, a list of datasets, or `{ column = "/its/dataset", … }`. Values are
//! bit-exact, but floats in vectors are rounded to f32; a NaN is passed on.
//!
//! Of CSV files, what they do not say is found by looking at all of their values, and can be said: `types`, as `{ column = "text", … }`,
//! `separator` and `header`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_datasets::layout::Found;
use tessera_datasets::tables::{CsvOptions, Datasets, Reading, RowRange};
use tessera_datasets::{Entry, Error, Files, Fingerprint, Listed, as_url, tables};

use crate::operator::{BindError, Binding, Context, Operator, Port, RunError, Source};

/// Keys of a `table` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file, or a folder of files, from the pipeline file's folder.
    path: PathBuf,
    /// Of HDF5 files: a dataset's or a group's path, a list of datasets, or `{ column = "/path", … }`. Default: the root's datasets, a column each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataset: Option<Dataset>,
    /// Of CSV files: columns' types, `{ column = "text", … }` or `"int"`, `"float"`, `"bool"`, `"vector"`; a vector is one column of
    /// lists, `[1.0, 2.0]`, or columns `NAME_0`, `NAME_1`, … Default: the type that all values have and that loses nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    types: BTreeMap<String, String>,
    /// Of CSV files: the character that separates values. Default: a comma, semicolon, tab or `|`, as the first rows have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    separator: Option<String>,
    /// Of CSV files: whether the first line names the columns; if not, they are `column_1`, `column_2`, … Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<bool>,
    /// Which rows, of all files in their order, as Python slices: `"1000:2000"` is without the row 2000, `":500"` the first 500, `"-100:"`
    /// the last 100. Rows without an `image_id` are numbered as in the whole table. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<String>,
}

/// Datasets of HDF5 files.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged, expecting = "a dataset's path, a list of paths, or { column = \"/path\", … }")]
enum Dataset {
    One(String),
    Several(Vec<String>),
    Columns(BTreeMap<String, String>),
}

/// The bound operator.
pub struct Table {
    path: PathBuf,
    /// The path, or its folder if it is a file.
    root: PathBuf,
    schema: SchemaRef,
    reading: Reading,
}

impl Operator for Table {
    const NAME: &'static str = "table";
    const SUMMARY: &'static str = "reads Parquet, CSV, JSON lines, .npy, HDF5 and Arrow files as they are";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", "the file's own, or the number of the row"),
        ("each other of the files", "as it is; lists of numbers of one length are vectors"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.labels]
op = "table"
path = "labels.csv"
"#;
    // 2: all values of a CSV file decide its columns' types, and dates are text.
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[];
    const NEUTRAL: &'static [&'static str] = &["path"];
    type Config = Config;
    type Kernel = Box<dyn Source>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let csv = csv_options(&config)?;
        let rows = config.rows.as_deref().map(str::parse::<RowRange>).transpose();
        let rows = rows.map_err(|message| vec![BindError::key("rows", message)])?;
        let path = inputs.resolve(&config.path);
        let is_remote = as_url(&path).is_some();
        if !is_remote && !path.exists() {
            let error = BindError::key("path", format!("the file or folder `{}` does not exist", path.display()));
            return Err(vec![error.help("a relative path starts from the pipeline file's folder")]);
        }
        if let Some(store) = store_of(&path) {
            let message =
                format!("`{}` lies in the store `{}`, which has earlier files as well", path.display(), store.display());
            let help = "`tessera path FILE STAGE` prints those of the current table, and `tessera export` writes it to a file of its own";
            return Err(vec![BindError::key("path", message).help(help)]);
        }
        let faulty = |error: Error| vec![BindError::key("path", error.to_string())];
        let entries = list(inputs.files, &path).map_err(faulty)?;
        let is_file = match &entries[..] {
            // A file lists itself, by its name.
            [only] if is_remote => path.ends_with(&*only.path),
            _ => path.is_file(),
        };
        let root = if is_file { path.parent().unwrap_or(&path).to_owned() } else { path.clone() };
        let datasets = match config.dataset {
            None => Datasets::All,
            Some(Dataset::One(path)) => Datasets::One(path),
            Some(Dataset::Several(paths)) => Datasets::Columns(named(paths)?),
            Some(Dataset::Columns(columns)) => Datasets::Columns(columns),
        };
        let at = if datasets == Datasets::All { "path" } else { "dataset" };
        let reading = Reading { datasets, csv, rows, threads: 1 };
        let schema = tables::schema(inputs.files, &root, &entries, &reading);
        let schema = schema.map_err(|error| vec![BindError::key(at, error.to_string())])?;
        if let Some(range) = &reading.rows {
            // Of other files it is found out when they are read.
            let promised = tables::promised(inputs.files, &root, &entries, &reading).map_err(faulty)?;
            if let Some(Err(message)) = promised.map(|rows| range.of(rows)) {
                return Err(vec![BindError::key("rows", format!("{}: {message}", path.display()))]);
            }
        }
        let faults = reading.csv.faults(&schema);
        if !faults.is_empty() {
            let error = |(name, message)| BindError::key(&format!("types.{name}"), message);
            return Err(faults.into_iter().map(error).collect());
        }
        Ok(Self { path, root, schema, reading })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn kernel(mut self, context: &Context) -> Result<Box<dyn Source>, RunError> {
        self.reading.threads = context.threads;
        Ok(Box::new(self))
    }
}

/// What the stage says of CSV files.
fn csv_options(config: &Config) -> Result<CsvOptions, Vec<BindError>> {
    let mut errors = Vec::new();
    let mut options = CsvOptions { header: config.header, ..CsvOptions::default() };
    for (name, kind) in &config.types {
        match kind.parse() {
            Ok(kind) => {
                options.types.insert(name.clone(), kind);
            }
            Err(message) => errors.push(BindError::key(&format!("types.{name}"), message)),
        }
    }
    match config.separator.as_deref().map(CsvOptions::parse_separator).transpose() {
        Ok(separator) => options.separator = separator,
        Err(message) => errors.push(BindError::key("separator", message)),
    }
    if errors.is_empty() { Ok(options) } else { Err(errors) }
}

/// Datasets as columns of their own names.
fn named(paths: Vec<String>) -> Result<BTreeMap<String, String>, Vec<BindError>> {
    let mut columns = BTreeMap::new();
    for path in paths {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(other) = columns.insert(name.clone(), path.clone()) {
            let message = format!("`{other}` and `{path}` would both be the column `{name}`");
            let help = format!("name the columns: dataset = {{ {name} = {other:?}, other = {path:?} }}");
            return Err(vec![BindError::key("dataset", message).help(help)]);
        }
    }
    Ok(columns)
}

fn list(files: &dyn Files, path: &Path) -> Result<Vec<Entry>, Error> {
    tables::tables(path, files.list(path)?)
}

/// The store that a folder of parts, or one around it, belongs to: what lies there comes and goes, and is not one table.
fn store_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    // STORE/PIPELINE/STAGE has a pointer and a folder of manifests.
    let is_stage = |folder: &Path| folder.join("current").is_file() && folder.join("snapshots").is_dir();
    let below = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    if let Some(stage) = path.ancestors().take(3).find(|folder| is_stage(folder)) {
        return stage.ancestors().nth(2).map(Path::to_owned);
    }
    if !path.is_dir() {
        return None;
    }
    let pipelines = || below(&path).into_iter().filter(|folder| folder.is_dir());
    if pipelines().any(|stage| is_stage(&stage)) {
        return path.parent().map(Path::to_owned);
    }
    let is_store = path.join("lock").is_file() && pipelines().any(|pipeline| below(&pipeline).iter().any(|s| is_stage(s)));
    is_store.then_some(path)
}

impl Source for Table {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, RunError> {
        Ok(Listed { files: list(files, &self.path)?, ..Listed::default() })
    }

    fn read(
        &self,
        files: &dyn Files,
        entries: &[Fingerprint],
        emit: &mut dyn FnMut(Found) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        tables::read(files, &self.root, entries, &self.schema, &self.reading, &mut |batch: RecordBatch| emit(batch.into()))
    }
}

#[cfg(test)]
mod tests;
