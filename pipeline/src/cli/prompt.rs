//! `tessera sql` on a terminal: one query after the other.
//!
//! Lines are edited here rather than by a line editor's library: those there are need other features of crates that the engine is built
//! on. A statement ends with `;`, commands of the prompt begin with a point. An error or ^C ends a query, never the prompt.

mod line;
mod terminal;
mod words;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::PathBuf;
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
use line::{History, Line};
use terminal::{Key, Raw, key};
use words::{COMMANDS, Words, common, statements};

/// Before a statement.
const PROMPT: &str = "tessera> ";
/// Before its further lines.
const FURTHER: &str = "      -> ";
/// Rows of an answer that are shown as text.
const SHOWN: usize = 200;
const HELP: &str = "\
a statement ends with ;     Tab completes, the arrows bring earlier lines back
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
    words: Words,
    history: History,
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
        let history = history_path().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let (words, history) = (Words::default(), History::read(&history));
        let mut prompt = Self { file, threads, limit, bounds, format, session, interrupt, words, history };
        prompt.words = prompt.names()?;
        Ok(prompt)
    }

    /// Talks until the other side leaves.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn run(mut self, out: &mut dyn Write) -> Result<()> {
        let name = &self.session.catalog.plan.graph.file.name;
        let name = printable(name);
        writeln!(out, "{name}: {} tables; .help says what can be done here", self.words.tables.len())?;
        let mut text = String::new();
        while let Some(line) = self.read(out, if text.trim().is_empty() { PROMPT } else { FURTHER })? {
            let Some(line) = line else {
                text.clear();
                continue;
            };
            self.history.add(&line);
            if text.trim().is_empty() && line.trim_start().starts_with(['.', '\\']) {
                match self.command(out, line.trim()) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => complain(&error),
                }
                continue;
            }
            text.push_str(&line);
            text.push('\n');
            let (done, rest) = statements(&text);
            text = rest;
            for statement in done {
                if let Err(error) = self.answer(out, &statement) {
                    complain(&error);
                    break;
                }
            }
        }
        if let Some(path) = history_path() {
            // Not to remember is no reason to fail.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(path, self.history.write());
        }
        Ok(())
    }

    /// Reads a line: none at the end, nothing of it after ^C.
    fn read(&mut self, out: &mut dyn Write, prompt: &str) -> Result<Option<Option<String>>> {
        out.flush()?;
        let _raw = Raw::enter()?;
        let (mut input, mut line) = (io::stdin().lock(), Line::default());
        loop {
            let columns = usize::from(console::Term::stdout().size().1).saturating_sub(prompt.len() + 1).max(10);
            let (shown, cursor) = line.window(columns);
            write!(out, "\r\x1b[K{prompt}{shown}\r\x1b[{}C", prompt.len() + cursor)?;
            out.flush()?;
            let Some(key) = key(&mut input.by_ref())? else { return Ok(None) };
            match key {
                Key::Enter => {
                    writeln!(out, "\r\x1b[K{prompt}{}", line.text())?;
                    return Ok(Some(Some(line.text())));
                }
                Key::Interrupt => {
                    writeln!(out, "^C")?;
                    return Ok(Some(None));
                }
                Key::EndOfInput if line.is_empty() => {
                    writeln!(out)?;
                    return Ok(None);
                }
                Key::Up => self.history.earlier(&mut line),
                Key::Down => self.history.later(&mut line),
                Key::Clear => write!(out, "\x1b[H\x1b[2J")?,
                Key::Tab => self.complete(out, &mut line, columns)?,
                key => line.edit(key),
            }
        }
    }

    fn complete(&self, out: &mut dyn Write, line: &mut Line, columns: usize) -> Result<()> {
        let (typed, found) = self.words.complete(&line.before());
        match &found[..] {
            [] => {}
            [one] => line.replace(typed, &if one.ends_with('(') { one.clone() } else { format!("{one} ") }),
            several => {
                let shared = common(several);
                if shared.chars().count() > typed {
                    line.replace(typed, &shared);
                } else {
                    let width = several.iter().map(|word| word.chars().count()).max().unwrap_or(0) + 2;
                    writeln!(out)?;
                    for row in several.chunks((columns / width).max(1)) {
                        let row: String = row.iter().map(|word| format!("{word:width$}")).collect();
                        writeln!(out, "{}", row.trim_end())?;
                    }
                }
            }
        }
        Ok(())
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
                if !self.words.tables.contains_key(table) {
                    let known: Vec<&str> = self.words.tables.keys().map(String::as_str).collect();
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
        self.words.tables.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Answers a query, unless ^C comes first.
    fn answer(&mut self, out: &mut dyn Write, query: &str) -> Result<()> {
        self.refresh()?;
        let start = Instant::now();
        let mut answer = self.ask(query)?;
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

    fn ask(&self, query: &str) -> Result<Streamed> {
        self.interrupt.clear();
        self.session.ask(query, self.bounds.limits(), &self.interrupt)
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
            self.words = self.names()?;
        }
        Ok(())
    }

    /// Tables and their columns.
    fn names(&self) -> Result<Words> {
        let query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' \
                     ORDER BY table_name, ordinal_position";
        let mut words = Words::default();
        for batch in self.ask(query)? {
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

/// Where lines are remembered.
fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("tessera").join("sql_history"))
}
