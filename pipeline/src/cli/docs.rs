//! `tessera docs`: the pages of all operators and commands as Markdown, for a book (mdBook).

mod commands;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory};
use tessera_operators::OPERATORS;

use super::arguments::with_optional_file;
use super::counted;
use super::markdown::{code, table};
use super::reference::markdown as operators;
use commands::Page;

/// Where to.
#[derive(Debug, Args)]
pub struct Docs {
    /// The folder: `operators/NAME.md`, `commands/NAME.md`, and `contents.md`, a list of them for mdBook's SUMMARY.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    folder: PathBuf,
}

impl Docs {
    pub(super) fn run<C: CommandFactory>(self, out: &mut dyn Write) -> Result<()> {
        let commands = commands::pages(with_optional_file(C::command()));
        let files = files(&commands);
        for (path, text) in &files {
            write(&self.folder.join(path), text)?;
        }
        Ok(writeln!(out, "{}: {}", self.folder.display(), counted(files.len(), "file"))?)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// All files, by their paths in the folder.
fn files(commands: &[Page]) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> =
        commands.iter().map(|page| (format!("commands/{}.md", page.name), page.text.clone())).collect();
    let pages = OPERATORS.iter().map(|operator| (format!("operators/{}.md", operator.name()), operators::page(*operator)));
    files.extend(pages);
    let row =
        |page: &Page| vec![format!("[{}]({}.md)", code(&format!("tessera {}", page.name)), page.name), page.about.clone()];
    let commands_table = table(&["command", "what it does"], &commands.iter().map(row).collect::<Vec<_>>());
    files.push(("commands/README.md".to_owned(), format!("# Commands\n\n{commands_table}")));
    let operators_table = operators::list(|name| format!("{name}.md"));
    files.push(("operators/README.md".to_owned(), format!("# Operators\n\n{operators_table}")));
    files.push(("contents.md".to_owned(), contents(commands)));
    files
}

/// The list for mdBook's SUMMARY; its paths are from the folder that all lies in.
fn contents(commands: &[Page]) -> String {
    let mut lines = vec!["- [Commands](commands/README.md)".to_owned()];
    lines.extend(commands.iter().map(|page| format!("  - [{}](commands/{0}.md)", page.name)));
    lines.push("- [Operators](operators/README.md)".to_owned());
    lines.extend(OPERATORS.iter().map(|operator| format!("  - [{}](operators/{0}.md)", operator.name())));
    lines.join("\n") + "\n"
}
