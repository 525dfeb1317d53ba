//! `tessera export`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use clap::Args;
use tessera_datasets::layout::Access;
use tessera_schemas::IMAGE_ID;

use super::{InFile, Namespace, Session, Usage, counted, stdout, summary, tell_notes};
use crate::ask::export::format::{FileFormat, Named};
use crate::ask::export::images::{self, Wanted};
use crate::ask::export::imports::places::{Gathered, Places};
use crate::ask::export::imports::{self, Program};
use crate::ask::export::safetensors::{Columns, ids_path, is_weights};
use crate::ask::export::{self, NewFile, Rows, is_stdout, safetensors};
use crate::ask::meanwhile;
use crate::ask::sql::cells::{self, Swept};
use crate::engine::fetch::Place;
use crate::store::DroppedRow;
use crate::watch::progress::{Bar, Reporter};

/// Which table to write, and where to.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    file: InFile,
    /// The stage whose table is written; views are computed, and of a swept stage, the cells that are made are one table.
    stage: String,
    /// The file to write, or `-` for standard output; its ending says the format. For fiftyone, the folder.
    #[arg(long, short, value_name = "OUT", value_hint = clap::ValueHint::AnyPath, required_unless_present = "images")]
    output: Option<PathBuf>,
    /// Write the rows' images: below a folder, into a WebDataset .tar, or into a .parquet for Hugging Face's `datasets`.
    #[arg(long, value_name = "OUT", value_hint = clap::ValueHint::AnyPath)]
    images: Option<PathBuf>,
    /// The column with the class of an image, such as cluster: with --images, each class has a folder; in an import file, it is the label.
    #[arg(long, value_name = "COLUMN")]
    by: Option<String>,
    /// With --images and a folder: hard links where the images are whole files of the same disk, in place of copies.
    #[arg(long, requires = "images")]
    hard_links: bool,
    /// The format, whatever the ending.
    #[arg(long, value_enum)]
    format: Option<Named>,
    /// For label-studio: the folder whose files it serves (LOCAL_FILES_DOCUMENT_ROOT) [default: the one that holds the data set's].
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    document_root: Option<PathBuf>,
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
        self.check()?;
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let output = self.output.as_deref().unwrap_or(Path::new(""));
        let one = || session.stage(&self.stage);
        match (self.format, &self.images) {
            (Some(Named::Import(program)), _) => self.import(&session, one()?, program, output),
            (_, Some(to)) => self.images(&session, one()?, to, &mut |_, _| {}),
            (Some(Named::File(format)), None) => self.table(&session, format, output),
            (None, None) if is_stdout(output) => Err(Usage(
                "-o - has no ending, which would say the format: --format parquet, csv or another says it".to_owned(),
            )
            .into()),
            (None, None) => self.table(&session, FileFormat::of(output).map_err(Usage)?, output),
        }
    }

    /// Writes a stage's table; of a swept stage, that of all its cells.
    fn table(&self, session: &Session, format: FileFormat, output: &Path) -> Result<()> {
        stdout::refuse_terminal(output, format.is_text())?;
        let (catalog, handle) = (&session.catalog, session.runtime.handle());
        let cells = session.stages(std::slice::from_ref(&self.stage))?;
        let swept = (cells.len() > 1 && !self.stage.contains('@')).then(|| Swept::of(catalog, &cells));
        let table = match &swept {
            Some(_) if format == FileFormat::Safetensors => None,
            Some(swept) => Some(swept.schema(catalog)),
            None => None,
        };
        let node = if table.is_some() { cells[0] } else { session.stage(&self.stage)? };
        let all = table.unwrap_or_else(|| catalog.schema(node));
        let schema = export::columns(&all, &self.columns).map_err(|error| Usage(format!("{error:#}")))?;
        catalog.engine.interrupt.install()?;
        tell_notes(&meanwhile::notes(catalog, &cells.iter().copied().collect())?);
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let file = NewFile::at(output, self.force, format.streams())?;
        let mut dropped = Vec::new();
        let (count, thing, beside) = match format {
            FileFormat::Safetensors if is_weights(&schema) => {
                let batches = handle.block_on(catalog.collect(node, None))?;
                (safetensors::weights(&schema, &batches, &file)?, "tensor", String::new())
            }
            FileFormat::Safetensors => {
                let (count, beside) = self.tensors(session, node, &schema, &file, &bar, &mut dropped)?;
                (count, "row", beside)
            }
            format => {
                let mut rows = match &swept {
                    Some(swept) => export::swept::open(catalog, swept, &schema, handle)?,
                    None => handle.block_on(Rows::open(catalog, node, &schema))?,
                };
                let count = format.write(&mut rows, &file, catalog.engine.threads, &bar);
                let count = stdout::of_stream(output, count)?;
                dropped = rows.dropped();
                (count, "row", String::new())
            }
        };
        bar.close();
        let bytes = stdout::of_stream(output, file.finish())?;
        let columns =
            if thing == "row" { format!(" of {}", counted(schema.fields().len(), "column")) } else { String::new() };
        let counted = counted(count as usize, thing);
        reporter.say(&format!("{}{beside}", stdout::written(output, &format!("{counted}{columns}"), bytes)));
        summary::left_out(&dropped);
        if let Some(note) = swept.and_then(|swept| cells::lacking(catalog, &self.stage, &swept.cells)) {
            tell_notes(&[note]);
        }
        Ok(())
    }

    /// Writes the columns of a table as tensors, and their text beside them. Returns how many rows there were, and what else was written.
    fn tensors(
        &self,
        session: &Session,
        node: usize,
        schema: &SchemaRef,
        file: &NewFile,
        bar: &Bar,
        dropped: &mut Vec<DroppedRow>,
    ) -> Result<(u64, String)> {
        let catalog = &session.catalog;
        let output = self.output.as_deref().unwrap_or(Path::new(""));
        let open = |schema: &SchemaRef| session.runtime.block_on(Rows::open(catalog, node, schema));
        let columns = Columns::of(schema)?;
        if columns.has_text() && is_stdout(output) {
            let message =
                "text has no place in safetensors, and goes to a file beside it: name a file, or --columns without text";
            return Err(Usage(message.to_owned()).into());
        }
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
        safetensors::columns(&mut rows, &columns, count, file, ids.as_ref(), bar)?;
        *dropped = rows.dropped();
        let mut beside = String::new();
        if let Some(ids) = ids {
            ids.finish()?;
            beside = format!("; their text: {}", ids_path.display());
        }
        if !columns.left_out.is_empty() {
            beside.push_str(&format!("; left out, for they hold no numbers: {}", columns.left_out.join(", ")));
        }
        Ok((count, beside))
    }

    /// Refuses options that do not go together.
    fn check(&self) -> Result<(), Usage> {
        let program = match self.format {
            Some(Named::Import(program)) => Some(program),
            _ => None,
        };
        let images = self.images.as_deref();
        let wrong = match program {
            _ if images.is_some_and(is_stdout) => "--images writes files: a folder, a .tar or a .parquet",
            Some(_) if self.output.as_deref().is_some_and(is_stdout) => {
                "an import file is written with others beside it: name a file"
            }
            None if images.is_some() && (self.output.is_some() || self.format.is_some() || !self.columns.is_empty()) => {
                "--images writes images alone: --output, --format and --columns are for tables, and --format fiftyone or label-studio \
                 for both"
            }
            None if images.is_none() && self.by.is_some() => {
                "--by names the class of images: it goes with --images, --format fiftyone or --format label-studio"
            }
            Some(_) if self.output.is_none() => "--output says where the import file is written",
            Some(_) if images.is_some_and(|to| !images::is_folder(to)) => {
                "an import file refers to images that are files of their own: --images FOLDER"
            }
            _ if self.document_root.is_some() && program != Some(Program::LabelStudio) => {
                "--document-root goes with --format label-studio"
            }
            _ => return Ok(()),
        };
        Err(Usage(wrong.to_owned()))
    }

    /// Writes the import file of a program, and the images that it refers to before it, if that is wanted.
    fn import(&self, session: &Session, node: usize, program: Program, output: &Path) -> Result<()> {
        let (catalog, handle) = (&session.catalog, session.runtime.handle());
        let places = match &self.images {
            Some(to) => {
                let mut copies = Gathered::default();
                self.images(session, node, to, &mut |id, path| copies.push(id, path, false))?;
                Places::ById(vec![copies.at(Place { root: to.clone(), access: Access::Bytes })])
            }
            None => {
                catalog.engine.interrupt.install()?;
                tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node]))?);
                Places::open(catalog, node, handle)?
            }
        };
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let wanted = imports::Wanted {
            program,
            by: self.by.clone(),
            columns: self.columns.clone(),
            document_root: self.document_root.clone(),
            force: self.force,
        };
        let open = |schema: &SchemaRef| handle.block_on(Rows::open(catalog, node, schema));
        let written = imports::write(catalog, node, output, &wanted, &places, open, &bar);
        bar.close();
        let (written, rows) = written?;
        let (images, columns) = (counted(written.rows as usize, "image"), counted(written.columns, "column"));
        let mut line = format!("{}: {images} of {columns}, {} bytes", output.display(), written.bytes);
        written.beside.iter().for_each(|beside| line.push_str(&format!("; {beside}")));
        if !written.left_out.is_empty() {
            line.push_str(&format!("; left out, for the format has no place for them: {}", written.left_out.join(", ")));
        }
        reporter.say(&line);
        if written.without_size > 0 {
            let images = counted(written.without_size as usize, "image");
            reporter.warn(&format!("the boxes of {images} are left out: width and height are not known"));
        }
        summary::left_out(&rows.dropped());
        Ok(())
    }

    /// Writes the images of a table's rows; `placed` is told of each file.
    fn images(&self, session: &Session, node: usize, to: &Path, placed: &mut dyn FnMut(&str, &str)) -> Result<()> {
        let catalog = &session.catalog;
        catalog.engine.interrupt.install()?;
        tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node]))?);
        let reporter = Reporter::new(self.quiet);
        let bar = reporter.bar(&self.stage);
        let wanted = Wanted { by: self.by.clone(), hard_links: self.hard_links, force: self.force };
        let count = session.runtime.block_on(images::write(catalog, node, to, &wanted, &bar, placed));
        bar.close();
        reporter.say(&format!("{}: {}", to.display(), counted(count? as usize, "image")));
        Ok(())
    }
}
