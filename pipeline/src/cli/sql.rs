//! `tessera sql`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Bounds, InFile, Session, Usage, counted, prompt, summary, tell_notes};
use crate::ask::export::format::FileFormat;
use crate::ask::export::{NewFile, Rows};
use crate::ask::sql::limits::{Exceeded, Limits};
use crate::ask::sql::output::{Format, print_all};
use crate::ask::sql::streamed::Streamed;
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::Reporter;

/// A query, and what it may take.
#[derive(Debug, Args)]
pub struct Sql {
    #[command(flatten)]
    file: InFile,
    /// One SELECT; without it, a terminal gets a prompt, and anything else is read as the query.
    query: Option<String>,
    /// Ask the tables that `run --limit N` made.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    bounds: Bounds,
    /// Write the answer to a file; its ending says the format, unless --format does.
    #[arg(long, short, value_name = "OUT", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// How the answer is written; without --output, it is printed, as text by default.
    #[arg(long, value_enum)]
    format: Option<AnswerFormat>,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
}

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AnswerFormat {
    /// A table to look at.
    Text,
    /// One JSON document.
    Json,
    /// CSV with a header line; in a file, vectors and structs are spread over columns.
    Csv,
    /// Parquet, into a file: all types.
    Parquet,
    /// Arrow's file format, into a file: all types.
    Arrow,
    /// NumPy's .npy, into a file: the one column of numbers.
    Npy,
    /// HDF5, into a file: a dataset a column.
    Hdf5,
}

/// Where an answer goes.
enum Target {
    Printed(Format),
    Text(PathBuf, Format),
    File(PathBuf, FileFormat),
}

impl Sql {
    /// Answers it, or those of a person at a prompt.
    ///
    /// # Errors
    /// The query is wrong or exceeds its limits, or what it reads is not there.
    pub fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let target = self.target()?;
        let Self { file, query, limit, bounds, force, .. } = self;
        let query = match query {
            Some(query) => query,
            None if prompt::possible() => {
                let Target::Printed(format) = target else {
                    return Err(Usage("--output writes one answer: give the query as well".to_owned()).into());
                };
                return prompt::Prompt::open(&file, threads, limit, bounds, format)?.run(out);
            }
            None => io::read_to_string(io::stdin()).context("cannot read a query from standard input")?,
        };
        let session = Session::reading(&file, threads, limit)?;
        let answered = answer(&session, &query, bounds.limits(), out, target, force);
        if answered.as_ref().is_err_and(|error| error.is::<Exceeded>()) {
            // What it began may work on for long.
            session.runtime.shutdown_background();
        }
        answered
    }

    fn target(&self) -> Result<Target, Usage> {
        let printed = |format: Option<AnswerFormat>| match format {
            None | Some(AnswerFormat::Text) => Ok(Target::Printed(Format::Text)),
            Some(AnswerFormat::Json) => Ok(Target::Printed(Format::Json)),
            Some(AnswerFormat::Csv) => Ok(Target::Printed(Format::Csv)),
            Some(format) => {
                let ending = format!("{format:?}").to_lowercase();
                Err(Usage(format!("{ending} is written to a file: -o answer.{ending}")))
            }
        };
        let Some(path) = self.output.clone().filter(|path| path.as_os_str() != "-") else { return printed(self.format) };
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        Ok(match self.format {
            Some(AnswerFormat::Text) => Target::Text(path, Format::Text),
            Some(AnswerFormat::Json) => Target::Text(path, Format::Json),
            Some(AnswerFormat::Csv) => Target::File(path, FileFormat::Csv),
            Some(AnswerFormat::Parquet) => Target::File(path, FileFormat::Parquet),
            Some(AnswerFormat::Arrow) => Target::File(path, FileFormat::Arrow),
            Some(AnswerFormat::Npy) => Target::File(path, FileFormat::Npy),
            Some(AnswerFormat::Hdf5) => Target::File(path, FileFormat::Hdf5),
            None if ending == "json" => Target::Text(path, Format::Json),
            None if ending == "txt" => Target::Text(path, Format::Text),
            None => {
                let format = FileFormat::of(&path).map_err(Usage)?;
                Target::File(path, format)
            }
        })
    }
}

/// Answers a query, and tells what else is to be known of the answer.
fn answer(session: &Session, query: &str, limits: Limits, out: &mut dyn Write, target: Target, force: bool) -> Result<()> {
    let mut rows = session.ask(query, limits, &Interrupt::default())?;
    match target {
        Target::Printed(format) => {
            print_all(out, &rows.schema.clone(), &mut rows, format)?;
            out.flush()?;
        }
        Target::Text(path, format) => {
            let file = NewFile::create(&path, force)?;
            let mut sink = BufWriter::new(file.file()?);
            print_all(&mut sink, &rows.schema.clone(), &mut rows, format)?;
            sink.flush()?;
            let bytes = file.finish()?;
            Reporter::new(false).say(&format!("{}: {bytes} bytes", path.display()));
        }
        Target::File(path, format) => {
            let (reporter, threads) = (Reporter::new(false), session.catalog.engine.threads);
            let file = NewFile::create(&path, force)?;
            let count = write(&mut rows, format, &file, threads, &reporter)?;
            let bytes = file.finish()?;
            let (rows, columns) = (counted(count as usize, "row"), counted(rows.schema.fields().len(), "column"));
            reporter.say(&format!("{}: {rows} of {columns}, {bytes} bytes", path.display()));
        }
    }
    let end = rows.end();
    summary::left_out(&end.dropped);
    tell_notes(&end.notes);
    Ok(())
}

fn write(rows: &mut Streamed, format: FileFormat, file: &NewFile, threads: usize, reporter: &Reporter) -> Result<u64> {
    let bar = reporter.bar("answer");
    let mut all = Rows::of(rows.schema.clone(), rows);
    let written = format.write(&mut all, file, threads, &bar);
    bar.close();
    written
}
