//! The page of a command as Markdown, from what clap knows of it.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};

use crate::cli::markdown::{code, prose, table};

/// A command and its page.
pub struct Page {
    /// The command's name, without `tessera`.
    pub name: String,
    /// What it does, as Markdown, in one sentence.
    pub about: String,
    /// The page.
    pub text: String,
}

/// The pages of all commands that the list of commands shows.
pub fn pages(all: Command) -> Vec<Page> {
    let mut all = all.term_width(0);
    all.build();
    let shown = all.get_subcommands_mut().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    shown.map(page).collect()
}

fn page(command: &mut Command) -> Page {
    let name = command.get_name().to_owned();
    let about = prose(&text(command.get_about()));
    let mut page = format!("# tessera {name}\n\n{}.\n\n", prose(&text(command.get_long_about().or(command.get_about()))));
    let usage = command.render_usage().to_string();
    let _ = writeln!(page, "```text\n{}\n```", usage.trim().trim_start_matches("Usage: "));
    let shown = || {
        command.get_arguments().filter(|arg| {
            !arg.is_hide_set() && !matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort)
        })
    };
    for (title, is_positional) in [("argument", true), ("option", false)] {
        let rows: Vec<Vec<String>> = shown().filter(|arg| arg.is_positional() == is_positional).map(row).collect();
        if !rows.is_empty() {
            let _ = write!(page, "\n{}", table(&[title, "meaning"], &rows));
        }
    }
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = write!(page, "\n{}", blocks(&more.to_string()));
    }
    Page { name, about, text: page }
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// An argument or option, and all that its help says.
fn row(arg: &Arg) -> Vec<String> {
    let help = text(arg.get_long_help().or(arg.get_help()));
    let mut meaning = format!("{}.", prose(&help.split_whitespace().collect::<Vec<_>>().join(" ")));
    let takes_value = arg.get_action().takes_values();
    for value in arg.get_possible_values().iter().filter(|value| takes_value && !value.is_hide_set()) {
        let about = value.get_help().map(|help| format!(": {}", prose(&help.to_string()))).unwrap_or_default();
        let _ = write!(meaning, "<br>{}{about}", code(value.get_name()));
    }
    if let [default] = arg.get_default_values()
        && takes_value
    {
        let _ = write!(meaning, "<br>Default: {}", code(&default.to_string_lossy()));
    }
    vec![code(&spelled(arg)), meaning]
}

/// How an argument is written: `<FILE>`, `-n, --count <N>`.
fn spelled(arg: &Arg) -> String {
    let values: Vec<String> = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let values = if arg.get_action().takes_values() { values.join(" ") } else { String::new() };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let values = match arg.get_num_args() {
        Some(count) if !values.is_empty() && count.min_values() == 0 => format!("[{}]", values.trim_matches(['<', '>'])),
        _ => values,
    };
    [names.join(", "), values].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What stands beneath a command's help: paragraphs, and between them lines that begin with two spaces, which are code.
fn blocks(text: &str) -> String {
    let mut blocks = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(first) = lines.next() {
        if first.is_empty() {
            continue;
        }
        let is_code = |line: &str| line.starts_with("  ");
        let mut block = vec![first];
        while let Some(next) = lines.next_if(|next| !next.is_empty() && is_code(next) == is_code(first)) {
            block.push(next);
        }
        if is_code(first) {
            let code: Vec<&str> = block.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
            blocks.push(format!("```{}\n{}\n```\n", language(&code), code.join("\n")));
        } else {
            blocks.push(prose(&block.join("\n")) + "\n");
        }
    }
    blocks.join("\n")
}

/// What the lines of an example are written in.
fn language(lines: &[&str]) -> &'static str {
    let begins = |starts: &[&str]| lines.iter().all(|line| starts.iter().any(|start| line.starts_with(start)));
    if lines.first().is_some_and(|line| line.starts_with(['[', '#'])) {
        "toml"
    } else if begins(&["tessera ", "duckdb "]) {
        "sh"
    } else {
        "text"
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn what_stands_beneath_is_paragraphs_and_code() {
        let found = blocks("One\ntwo.\n\nThree. Examples:\n  tessera run\n  tessera sql\n\n  [sweep]\nEnd");
        let expected =
            "One\ntwo.\n\nThree. Examples:\n\n```sh\ntessera run\ntessera sql\n```\n\n```toml\n[sweep]\n```\n\nEnd\n";
        assert_eq!(found, expected);
    }

    #[test]
    fn each_command_has_its_arguments_and_its_examples() {
        let pages = pages(Arguments::command());
        let page = |name: &str| &pages.iter().find(|page| page.name == name).unwrap().text;
        for told in [
            "\n| `<STAGE>` | ",
            "\n| `-o, --output <OUT>` | ",
            "\n| `--columns <A,B,…>` | ",
            "<br>`parquet`: Parquet: all types<br>",
        ] {
            assert!(page("export").contains(told), "{told} is not in {}", page("export"));
        }
        assert!(page("report").contains("\n```toml\n[sweep]\n\"clusters.k\" = "), "{}", page("report"));
        assert!(page("report").contains("\n```sh\ntessera report pipeline.toml\n"), "{}", page("report"));
        assert!(page("diff").contains("\n| `--rows [N]` | "), "{}", page("diff"));
        assert!(!pages.iter().any(|page| page.name == "docs" || page.name == "help"));
    }
}
