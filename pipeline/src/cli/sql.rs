//! `tessera sql`.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Bounds, InFile, Output, Session, prompt, summary, tell_notes};
use crate::ask::sql::limits::{Exceeded, Limits};
use crate::ask::sql::output::{Format, print_all};
use crate::watch::interrupt::Interrupt;

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
    #[command(flatten)]
    output: Output,
}

impl Sql {
    /// Answers it, or those of a person at a prompt.
    ///
    /// # Errors
    /// The query is wrong or exceeds its limits, or what it reads is not there.
    pub fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let Self { file, query, limit, bounds, output: Output { format } } = self;
        let query = match query {
            Some(query) => query,
            None if prompt::possible() => {
                return prompt::Prompt::open(&file, threads, limit, bounds, format)?.run(out);
            }
            None => io::read_to_string(io::stdin()).context("cannot read a query from standard input")?,
        };
        let session = Session::reading(&file, threads, limit)?;
        let answered = answer(&session, &query, bounds.limits(), out, format);
        if answered.as_ref().is_err_and(|error| error.is::<Exceeded>()) {
            // What it began may work on for long.
            session.runtime.shutdown_background();
        }
        answered
    }
}

/// Answers a query, and tells what else is to be known of the answer.
fn answer(session: &Session, query: &str, limits: Limits, out: &mut dyn Write, format: Format) -> Result<()> {
    let mut rows = session.ask(query, limits, &Interrupt::default())?;
    print_all(out, &rows.schema.clone(), &mut rows, format)?;
    let end = rows.end();
    out.flush()?;
    summary::left_out(&end.dropped);
    tell_notes(&end.notes);
    Ok(())
}
