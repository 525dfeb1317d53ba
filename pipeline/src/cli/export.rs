//! `tessera export`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use clap::Args;
use tessera_schemas::IMAGE_ID;

use super::{InFile, Namespace, Session, Usage, counted, summary, tell_notes};
use crate::ask::export::format::FileFormat;
use crate::ask::export::images::{self, Wanted};
use crate::ask::export::safetensors::{Columns, ids_path, is_weights};
use crate::ask::export::{self, NewFile, Rows, safetensors};
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
    #[arg(long, short, value_name = "OUT", value_hint = clap::ValueHint::FilePath, required_unless_present = "images")]
    output: Option<PathBuf>,
    /// Write the rows' images: below a folder, into a WebDataset .tar, or into a .parquet for Hugging Face's `datasets`.
    #[arg(long, value_name = "OUT", value_hint = clap::ValueHint::AnyPath, conflicts_with_all = ["output", "format", "columns"])]
    images: Option<PathBuf>,
    /// With --images: the column with the class of an image, such as cluster: a folder a class.
    #[arg(long, value_name = "COLUMN", requires = "images")]
    by: Option<String>,
    /// With --images and a folder: hard links where the images are whole files of the same disk, in place of copies.
    #[arg(long, requires = "images")]
    hard_links: bool,
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

impl Export {
    pub(super) fn run(self, threads: Option<u16>) -> Result<()> {
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let catalog = &session.catalog;
        let node = session.stage(&self.stage)?;
        if let Some(to) = &self.images {
            return self.images(&session, node, to);
        }
        let output = self.output.as_deref().unwrap_or(Path::new(""));
        let format = self.format.map_or_else(|| FileFormat::of(output).map_err(Usage), Ok)?;
        let schema = export::columns(&catalog.schema(node), &self.columns).map_err(|error| Usage(format!("{error:#}")))?;
        catalog.engine.interrupt.install()?;
        tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node])));
        let open = |schema: &SchemaRef| session.runtime.block_on(Rows::open(catalog, node, schema));
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let file = NewFile::create(output, self.force)?;
        let mut dropped = Vec::new();
        let (count, thing, beside) = match format {
            FileFormat::Safetensors if is_weights(&schema) => {
                let batches = session.runtime.block_on(catalog.collect(node, None))?;
                (safetensors::weights(&schema, &batches, &file)?, "tensor", String::new())
            }
            FileFormat::Safetensors => {
                let columns = Columns::of(&schema)?;
                let ids_path = ids_path(output);
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
            format => {
                let mut rows = open(&schema)?;
                let count = format.write(&mut rows, &file, catalog.engine.threads, &bar)?;
                dropped = rows.dropped();
                (count, "row", String::new())
            }
        };
        bar.close();
        let bytes = file.finish()?;
        let counted = counted(count as usize, thing);
        reporter.say(&format!("{}: {counted}, {bytes} bytes{beside}", output.display()));
        summary::left_out(&dropped);
        Ok(())
    }

    /// Writes the images of a table's rows.
    fn images(&self, session: &Session, node: usize, to: &Path) -> Result<()> {
        let catalog = &session.catalog;
        catalog.engine.interrupt.install()?;
        tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node])));
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let wanted = Wanted { by: self.by.clone(), hard_links: self.hard_links, force: self.force };
        let count = session.runtime.block_on(images::write(catalog, node, to, &wanted, &bar));
        bar.close();
        reporter.say(&format!("{}: {}", to.display(), counted(count? as usize, "image")));
        Ok(())
    }
}
