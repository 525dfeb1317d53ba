//! `tessera sql` on a terminal: one query after the other.
//!
//! A statement ends with `;`, commands of the prompt begin with a point. An error or ^C ends a query, never the prompt.

mod editor;
mod statements;
mod words;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use clap::ValueEnum as _;
use tessera_schemas::{printable, text};

use super::{Bounds, InFile, Session, summary, tell_notes};
use crate::ask::sql::output::{Format, print, print_all};
use crate::ask::sql::streamed::Streamed;
use crate::declare::faults::{Faults, closest};
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::{duration, tell};
use editor::{Entered, LineEditor};
use statements::statements;
use words::{COMMANDS, Words};

/// Before a statement.
const PROMPT: &str = "tessera> ";
/// Before its further lines.
const FURTHER: &str = "      -> ";
/// Rows of an answer that are shown as text.
const SHOWN: usize = 200;
const HELP: &str = "\
a statement ends with ;     Tab completes; the arrows bring earlier lines back, ^R searches them
.tables                     the tables there are            (\\d)
.schema TABLE               a table's columns               (\\d TABLE)
.format text|json|csv       how answers are printed
.quit                       leave: also ^D                  (\\q)
^C ends a query, or the line";

/// Whether there is somebody to talk to.
pub fn possible() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb
}

/// A conversation.
pub struct Prompt<'a> {
    file: &'a InFile,
    threads: Option<u16>,
    limit: Option<u32>,
    bounds: Bounds,
    format: Format,
    session: Session,
    interrupt: Interrupt,
    editor: LineEditor,
    /// The beginning of a statement whose `;` has not come yet.
    begun: String,
}

impl<'a> Prompt<'a> {
    /// Opens a pipeline for questions.
    ///
    /// # Errors
    /// The file is wrong, or the store damaged.
    pub fn open(file: &'a InFile, threads: Option<u16>, limit: Option<u32>, bounds: Bounds, format: Format) -> Result<Self> {
        let session = Session::reading(file, threads, limit)?;
        let interrupt = Interrupt::default();
        interrupt.install_asking()?;
        let editor = LineEditor::new(names(&session, bounds, &interrupt)?)?;
        Ok(Self { file, threads, limit, bounds, format, session, interrupt, editor, begun: String::new() })
    }

    /// Talks until the other side leaves.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn run(mut self, out: &mut dyn Write) -> Result<()> {
        let name = printable(&self.session.catalog.plan.graph.file.name);
        writeln!(out, "{name}: {} tables; .help says what can be done here", self.editor.words().tables.len())?;
        loop {
            out.flush()?;
            let prompt = if self.begun.trim().is_empty() { PROMPT } else { FURTHER };
            match self.editor.read(prompt)? {
                Entered::Text(text) => match self.enter(out, &text) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => complain(&error),
                },
                Entered::Interrupt => self.begun.clear(),
                Entered::End => return Ok(()),
            }
        }
    }

    /// Does what a line says, or several that were pasted: commands, and statements that end in them. Returns whether to leave. An error
    /// ends what was entered together.
    fn enter(&mut self, out: &mut dyn Write, text: &str) -> Result<bool> {
        for line in text.split('\n') {
            if self.begun.trim().is_empty() && line.trim_start().starts_with(['.', '\\']) {
                if self.command(out, line.trim())? {
                    return Ok(true);
                }
                continue;
            }
            self.begun.push_str(line);
            self.begun.push('\n');
            if line.contains(';') {
                let (done, rest) = statements(&self.begun);
                self.begun = rest;
                for statement in done {
                    self.answer(out, &statement)?;
                }
            }
        }
        Ok(false)
    }

    /// Does what a command of the prompt says, and whether it says to leave.
    fn command(&mut self, out: &mut dyn Write, line: &str) -> Result<bool> {
        let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim().trim_end_matches(';');
        match (command.trim_end_matches(';'), argument) {
            (".quit" | ".exit" | "\\q", _) => return Ok(true),
            (".help" | "\\?" | "\\h", _) => writeln!(out, "{HELP}")?,
            (".tables" | "\\d" | "\\dt", "") => self.answer(
                out,
                "SELECT table_name AS name, operator, rows, made FROM information_schema.tables t LEFT JOIN stages s \
                 ON s.stage = t.table_name WHERE table_schema = 'public' ORDER BY operator IS NULL, name",
            )?,
            (".schema", "") => bail!(".schema wants a table: {}", self.tables()),
            (".schema" | "\\d", table) => {
                if !self.editor.words().tables.contains_key(table) {
                    let known: Vec<&str> = self.editor.words().tables.keys().map(String::as_str).collect();
                    let hint = closest(table, &known).map(|close| format!("did you mean `{close}`? ")).unwrap_or_default();
                    bail!("unknown table `{table}`; {hint}tables: {}", self.tables());
                }
                let query = format!(
                    "SELECT column_name AS name, data_type AS type, is_nullable = 'YES' AS nullable \
                     FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
                );
                self.answer(out, &query)?;
            }
            (".format", format) => match Format::from_str(format, true) {
                Ok(format) => self.format = format,
                Err(_) => bail!(".format wants text, json or csv"),
            },
            (other, _) => bail!("unknown command `{other}`; commands: {}", COMMANDS.join(", ")),
        }
        Ok(false)
    }

    fn tables(&self) -> String {
        self.editor.words().tables.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Answers a query, unless ^C comes first.
    fn answer(&mut self, out: &mut dyn Write, query: &str) -> Result<()> {
        self.refresh()?;
        let start = Instant::now();
        let mut answer = ask(&self.session, query, self.bounds, &self.interrupt)?;
        let schema = answer.schema.clone();
        if self.format == Format::Text {
            let (shown, rows) = head(&mut answer, SHOWN)?;
            print(out, &schema, &shown, Format::Text)?;
            let note = if rows > SHOWN { format!(", {SHOWN} of them shown") } else { String::new() };
            let rows = super::counted(rows, "row");
            writeln!(out, "{rows} in {}{note}", duration(start.elapsed().as_secs_f64()))?;
        } else {
            print_all(out, &schema, &mut answer, self.format)?;
        }
        out.flush()?;
        let end = answer.end();
        tell_notes(&end.notes);
        summary::left_out(&end.dropped);
        Ok(())
    }

    /// Looks at the pipeline anew if a run made other tables meanwhile.
    fn refresh(&mut self) -> Result<()> {
        let catalog = &self.session.catalog;
        let mut changed = false;
        for (at, node) in catalog.plan.graph.nodes.iter().enumerate().filter(|(_, node)| !node.view) {
            let known = catalog.table(at).and_then(|table| table.manifest).map(|manifest| manifest.id.clone());
            changed |= catalog.store.stage(&node.name).current()?.map(|manifest| manifest.id) != known;
        }
        if changed {
            self.session = Session::reading(self.file, self.threads, self.limit)?;
            self.editor.complete(names(&self.session, self.bounds, &self.interrupt)?);
        }
        Ok(())
    }
}

/// Starts a query that ^C ends.
fn ask(session: &Session, query: &str, bounds: Bounds, interrupt: &Interrupt) -> Result<Streamed> {
    interrupt.clear();
    session.ask(query, bounds.limits(), interrupt)
}

/// The tables and their columns.
fn names(session: &Session, bounds: Bounds, interrupt: &Interrupt) -> Result<Words> {
    let query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' \
                 ORDER BY table_name, ordinal_position";
    let mut words = Words::default();
    for batch in ask(session, query, bounds, interrupt)? {
        let batch = batch?;
        let (tables, columns) = (text(&batch, "table_name")?, text(&batch, "column_name")?);
        for (table, column) in tables.iter().flatten().zip(columns.iter().flatten()) {
            let columns = words.tables.entry(table.to_owned()).or_default();
            // What is completed is written to the terminal as it is.
            columns.extend(matches!(printable(column), Cow::Borrowed(_)).then(|| column.to_owned()));
        }
    }
    Ok(words)
}

/// The first rows, and how many there are.
fn head(batches: &mut dyn Iterator<Item = Result<RecordBatch>>, most: usize) -> Result<(Vec<RecordBatch>, usize)> {
    let (mut head, mut rows) = (Vec::new(), 0);
    for batch in batches {
        let batch = batch?;
        let taken = most.saturating_sub(rows).min(batch.num_rows());
        if taken > 0 {
            head.push(batch.slice(0, taken));
        }
        rows += batch.num_rows();
    }
    Ok((head, rows))
}

fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Faults>() {
        Some(faults) => {
            let _ = writeln!(io::stderr(), "{}", faults.render(crate::watch::terminal::has_colours()));
        }
        None => tell(format_args!("error: {error:#}")),
    }
}
