//! The line editor, which is rustyline's: it completes [`Words`], and keeps lines in a file from one conversation to the next.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustyline::completion::Completer;
use rustyline::config::{BellStyle, CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::words::Words;

/// Lines that are remembered.
const REMEMBERED: usize = 1000;

/// Reads what a person enters.
pub struct LineEditor {
    editor: Editor<Words, FileHistory>,
    /// Where lines are remembered.
    history: Option<PathBuf>,
}

/// What a person did at a prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Entered a line, or pasted several.
    Text(String),
    /// Pressed ^C: nothing of the line counts.
    Interrupt,
    /// Pressed ^D in an empty line, or closed the terminal.
    End,
}

impl LineEditor {
    /// An editor that knows the lines of earlier conversations.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn new(words: Words) -> Result<Self> {
        let config = Config::builder().max_history_size(REMEMBERED)?;
        let config = config.completion_type(CompletionType::List).completion_show_all_if_ambiguous(true);
        let mut editor = Editor::with_config(config.bell_style(BellStyle::None).build())?;
        editor.set_helper(Some(words));
        let history = history_path();
        if let Some(path) = &history {
            // The first conversation has no file yet, and an unreadable one is no reason not to talk.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Completes other words from now on.
    pub fn complete(&mut self, words: Words) {
        self.editor.set_helper(Some(words));
    }

    /// The words that are completed.
    pub fn words(&self) -> &Words {
        self.editor.helper().expect("an editor is made with words, and gets others in their place")
    }

    /// Lets a person enter a line, and remembers it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn read(&mut self, prompt: &str) -> Result<Entered> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    self.editor.add_history_entry(text.as_str())?;
                }
                Ok(Entered::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Entered::Interrupt),
            Err(ReadlineError::Eof) => Ok(Entered::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

impl Drop for LineEditor {
    fn drop(&mut self) {
        if let Some(path) = &self.history {
            // Not to remember is no reason to fail.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = self.editor.append_history(path);
        }
    }
}

/// Where lines are remembered.
fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("tessera").join("sql_history"))
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, mut found) = self.fitting(&line[..cursor]);
        if let [only] = &mut found[..]
            && !only.ends_with('(')
        {
            only.push(' ');
        }
        Ok((start, found))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
