//! `tessera sql`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Bounds, InFile, Session, Usage, counted, prompt, stdout, summary, tell_notes};
use crate::ask::export::format::FileFormat;
use crate::ask::export::{NewFile, Rows, is_stdout};
use crate::ask::sql::limits::{Exceeded, Limits};
use crate::ask::sql::output::{Format, distinct, print_all, with_distinct};
use crate::ask::sql::question::Question;
use crate::ask::sql::streamed::Streamed;
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::Reporter;

/// A query, and what it may take.
#[derive(Debug, Args)]
pub struct Sql {
    #[command(flatten)]
    file: InFile,
    /// One SELECT; without it, a terminal gets a prompt, and anything else is read as the query. Values for its parameters, `$NAME`, are
    /// given by --param.
    query: Option<String>,
    /// Ask the tables that `run --limit N` made.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    bounds: Bounds,
    /// A value for a parameter of the query, `$NAME`; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
    /// Write the answer to a file, or `-` for standard output; its ending says the format, unless --format does.
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
        let Self { file, query, limit, bounds, param, force, .. } = self;
        let text = match query {
            Some(query) => query,
            None if prompt::possible() => {
                let Target::Printed(format) = target else {
                    return Err(Usage("--output writes one answer: give the query as well".to_owned()).into());
                };
                if !param.is_empty() {
                    return Err(Usage("--param gives one query its values: give the query as well".to_owned()).into());
                }
                return prompt::Prompt::open(&file, threads, limit, bounds, format)?.run(out);
            }
            None => io::read_to_string(io::stdin()).context("cannot read a query from standard input")?,
        };
        let session = Session::reading(&file, threads, limit)?;
        let answered = answer(&session, Question { text, values: param }, bounds.limits(), out, target, force);
        if answered.as_ref().is_err_and(|error| error.is::<Exceeded>()) {
            // What it began may work on for long.
            session.runtime.shutdown_background();
        }
        answered
    }

    fn target(&self) -> Result<Target, Usage> {
        let format = self.format;
        let Some(path) = self.output.clone() else {
            return match format {
                Some(format) if format.file().is_some() && format != AnswerFormat::Csv => {
                    let ending = format!("{format:?}").to_lowercase();
                    Err(Usage(format!("{ending} is written to a file: -o answer.{ending}, or -o - for standard output")))
                }
                format => Ok(Target::Printed(format.unwrap_or(AnswerFormat::Text).printed())),
            };
        };
        if is_stdout(&path) {
            return match format.and_then(AnswerFormat::file) {
                Some(file) if !file.is_text() => {
                    stdout::refuse_terminal(&path, false)?;
                    Ok(Target::File(path, file))
                }
                _ => Ok(Target::Printed(format.unwrap_or(AnswerFormat::Text).printed())),
            };
        }
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        Ok(match (format, format.and_then(AnswerFormat::file)) {
            (_, Some(file)) => Target::File(path, file),
            (Some(format), None) => Target::Text(path, format.printed()),
            (None, None) if ending == "json" => Target::Text(path, Format::Json),
            (None, None) if ending == "txt" => Target::Text(path, Format::Text),
            (None, None) => {
                let format = FileFormat::of(&path).map_err(Usage)?;
                Target::File(path, format)
            }
        })
    }
}

impl AnswerFormat {
    /// The format of a file, of those that are no text to look at.
    fn file(self) -> Option<FileFormat> {
        match self {
            Self::Text | Self::Json => None,
            Self::Csv => Some(FileFormat::Csv),
            Self::Parquet => Some(FileFormat::Parquet),
            Self::Arrow => Some(FileFormat::Arrow),
            Self::Npy => Some(FileFormat::Npy),
            Self::Hdf5 => Some(FileFormat::Hdf5),
        }
    }

    /// The same of what is printed.
    fn printed(self) -> Format {
        match self {
            Self::Json => Format::Json,
            Self::Csv => Format::Csv,
            _ => Format::Text,
        }
    }
}

/// A parameter's name, with or without its `$`, and its value.
fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE"))?;
    let name = name.trim().trim_start_matches('$');
    if name.is_empty() { Err(format!("`{text}` names no parameter")) } else { Ok((name.to_owned(), value.to_owned())) }
}

/// Answers a query, and tells what else is to be known of the answer.
fn answer(
    session: &Session,
    question: Question,
    limits: Limits,
    out: &mut dyn Write,
    target: Target,
    force: bool,
) -> Result<()> {
    let mut rows = session.ask(question, limits, &Interrupt::default())?;
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
            let file = NewFile::at(&path, force, format.streams())?;
            let count = stdout::of_stream(&path, write(&mut rows, format, &file, threads, &reporter))?;
            let bytes = stdout::of_stream(&path, file.finish())?;
            let (rows, columns) = (counted(count as usize, "row"), counted(rows.schema.fields().len(), "column"));
            reporter.say(&stdout::written(&path, &format!("{rows} of {columns}"), bytes));
        }
    }
    let end = rows.end();
    summary::left_out(&end.dropped);
    tell_notes(&end.notes);
    Ok(())
}

fn write(rows: &mut Streamed, format: FileFormat, file: &NewFile, threads: usize, reporter: &Reporter) -> Result<u64> {
    let bar = reporter.bar("answer");
    let schema = distinct(&rows.schema);
    let mut all = Rows::of(schema, rows.map(|batch| with_distinct(&batch?)));
    let written = format.write(&mut all, file, threads, &bar);
    bar.close();
    written
}
