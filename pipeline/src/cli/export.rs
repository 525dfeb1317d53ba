//! `tessera export`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use clap::{Args, ValueEnum};
use tessera_schemas::IMAGE_ID;

use super::{InFile, Namespace, Session, Usage, counted, summary, tell_notes};
use crate::ask::export::safetensors::{Columns, ids_path, is_weights};
use crate::ask::export::{self, NewFile, Rows, csv, hdf5, safetensors};
use crate::ask::meanwhile;
use crate::watch::progress::Reporter;

/// Which table to write, and where to.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    file: InFile,
    /// The stage whose table is written; views are computed.
    stage: String,
    /// The file to write; its ending says the format.
    #[arg(long, short, value_name = "OUT", value_hint = clap::ValueHint::FilePath)]
    output: PathBuf,
    /// The format, whatever the ending.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Only these columns, in this order.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
    /// Say nothing while it goes on.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    namespace: Namespace,
}

/// A format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Parquet: all types.
    Parquet,
    /// CSV with a header line: vectors and structs spread over columns.
    Csv,
    /// safetensors: weights by name, or a tensor a column.
    Safetensors,
    /// HDF5: a dataset a column, compressed; vectors as N x D, pixels as N x H x W x 3.
    Hdf5,
}

impl FileFormat {
    fn of(path: &Path) -> Result<Self, Usage> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "parquet" | "pq" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "safetensors" => Ok(Self::Safetensors),
            "h5" | "hdf5" => Ok(Self::Hdf5),
            _ => Err(Usage(format!(
                "the ending of {} names no format: parquet, csv, h5 and safetensors do, or --format",
                path.display()
            ))),
        }
    }
}

impl Export {
    pub(super) fn run(self, threads: Option<u16>) -> Result<()> {
        let format = self.format.map_or_else(|| FileFormat::of(&self.output), Ok)?;
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let catalog = &session.catalog;
        let node = session.stage(&self.stage)?;
        let schema = export::columns(&catalog.schema(node), &self.columns).map_err(|error| Usage(format!("{error:#}")))?;
        catalog.engine.interrupt.install()?;
        tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node])));
        let open = |schema: &SchemaRef| session.runtime.block_on(Rows::open(catalog, node, schema));
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let file = NewFile::create(&self.output, self.force)?;
        let mut dropped = Vec::new();
        let (count, thing, beside) = match format {
            FileFormat::Safetensors if is_weights(&schema) => {
                let batches = session.runtime.block_on(catalog.collect(node, None))?;
                (safetensors::weights(&schema, &batches, &file)?, "tensor", String::new())
            }
            FileFormat::Safetensors => {
                let columns = Columns::of(&schema)?;
                let ids_path = ids_path(&self.output);
                let ids = columns.has_text().then(|| NewFile::create(&ids_path, self.force)).transpose()?;
                // The header has the number of rows. A view is computed twice for it.
                let count = match catalog.table(node).and_then(|table| table.manifest) {
                    Some(manifest) => manifest.rows(),
                    None => {
                        let named = |name: &str| schema.fields().iter().position(|field| field.name() == name);
                        let one = schema.project(&[named(IMAGE_ID).unwrap_or(0)])?.into();
                        open(&one)?.try_fold(0, |count, batch| anyhow::Ok(count + batch?.num_rows() as u64))?
                    }
                };
                let mut rows = open(&columns.read)?;
                safetensors::columns(&mut rows, &columns, count, &file, ids.as_ref(), &bar)?;
                dropped = rows.dropped();
                let mut beside = String::new();
                if let Some(ids) = ids {
                    ids.finish()?;
                    beside = format!("; their text: {}", ids_path.display());
                }
                if !columns.left_out.is_empty() {
                    beside.push_str(&format!("; left out, being no numbers: {}", columns.left_out.join(", ")));
                }
                (count, "row", beside)
            }
            FileFormat::Hdf5 => {
                let mut rows = open(&schema)?;
                let count = hdf5::write(&mut rows, &file, catalog.engine.threads, &bar)?;
                dropped = rows.dropped();
                (count, "row", String::new())
            }
            FileFormat::Parquet | FileFormat::Csv => {
                let mut rows = open(&schema)?;
                let write = if format == FileFormat::Csv { csv::write } else { export::parquet };
                let count = write(&mut rows, &file, &bar)?;
                dropped = rows.dropped();
                (count, "row", String::new())
            }
        };
        bar.close();
        let bytes = file.finish()?;
        let counted = counted(count as usize, thing);
        reporter.say(&format!("{}: {counted}, {bytes} bytes{beside}", self.output.display()));
        summary::left_out(&dropped);
        Ok(())
    }
}
