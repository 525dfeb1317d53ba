//! The page of an operator as Markdown, for a book.

use std::fmt::Write as _;

use tessera_operators::OPERATORS;
use tessera_operators::operator::{Port, PortKind};
use tessera_operators::reference::{Key, written};
use tessera_operators::spec::Spec;

use super::needed;
use crate::cli::markdown::{code, prose, table};

/// A table of all operators; `page` is where the page of one lies.
pub fn list(page: impl Fn(&str) -> String) -> String {
    let row = |operator: &&dyn Spec| {
        vec![format!("[{}]({})", code(operator.name()), page(operator.name())), prose(operator.summary())]
    };
    table(&["operator", "what it gives"], &OPERATORS.iter().map(row).collect::<Vec<_>>())
}

/// All that there is to say of an operator.
pub fn page(operator: &dyn Spec) -> String {
    let mut out = format!("# {}\n\n{}.\n\n", operator.name(), capital(&prose(operator.summary())));
    let _ = writeln!(out, "{}\n", kept(operator));
    let _ = writeln!(out, "```toml\n{}\n```", operator.example());
    section(&mut out, "Inputs", &["input", "required", "what it has"], operator.inputs().iter().map(input).collect());
    section(&mut out, "Keys", &["key", "type", "default", "meaning"], operator.keys().iter().map(key).collect());
    let column = |(name, about): &(&str, &str)| vec![column(name), prose(about)];
    section(&mut out, "Table", &["column", "meaning"], operator.output().iter().map(column).collect());
    out
}

/// A heading with its table, if that has rows.
fn section(out: &mut String, title: &str, heads: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        let _ = write!(out, "\n## {title}\n\n{}", table(heads, &rows));
    }
}

fn kept(operator: &dyn Spec) -> String {
    let kept = if operator.view() {
        "Its table is a view: it is computed when it is read, unless the stage has `keep = true`."
    } else {
        "Its table is kept as a snapshot."
    };
    let seeded =
        if operator.seeded() { " It draws random numbers by the pipeline's `seed`, or by the stage's own." } else { "" };
    format!("{kept}{seeded}")
}

fn input(port: &Port) -> Vec<String> {
    let name = if port.kind == PortKind::Named { "of your choice".to_owned() } else { code(port.name) };
    vec![name, if port.required { "yes" } else { "no" }.to_owned(), prose(&needed(port))]
}

fn key(key: &Key) -> Vec<String> {
    let kind = match &key.values[..] {
        [] => prose(&key.kind),
        values => values.iter().map(|choice| code(&format!("\"{}\"", choice.value))).collect::<Vec<_>>().join(", "),
    };
    let default = match &key.default {
        _ if key.is_required => "required".to_owned(),
        Some(default) => code(&written(default)),
        None => String::new(),
    };
    let told = key.values.iter().filter(|choice| !choice.meaning.is_empty());
    let values = told.map(|choice| format!("<br>{}: {}", code(&format!("\"{}\"", choice.value)), prose(&choice.meaning)));
    vec![code(&key.name), kind, default, format!("{}{}", prose(&key.meaning), values.collect::<String>())]
}

/// The name of a column; what stands for several is no name.
fn column(name: &str) -> String {
    if name.contains(' ') { prose(name) } else { code(name) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page says of an operator what the reference has of it, and a table's lines have as many cells as its head.
    #[test]
    fn a_page_has_all_keys_and_whole_tables() {
        for operator in OPERATORS {
            let page = page(*operator);
            assert!(page.starts_with(&format!("# {}\n\n", operator.name())), "{page}");
            assert!(page.contains(&format!("```toml\n{}\n```\n", operator.example())), "{page}");
            for key in operator.keys() {
                assert!(page.contains(&format!("\n| `{}` | ", key.name)), "{}: {page}", key.name);
            }
            let cells = |line: &str| line.replace("\\|", "").matches('|').count();
            for table in page.split("\n\n").filter(|block| block.starts_with("| ")) {
                let count = cells(table.lines().next().unwrap());
                assert!(table.lines().all(|line| cells(line) == count), "{table}");
            }
        }
    }
}
