//! Markdown for a book: text whose signs mean nothing, and tables.

use std::fmt::Write as _;

/// Text as Markdown that reads as the text does: what is between backticks stays as it is, and so do options such as `--force`.
pub fn prose(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let words = |part: &str| part.split_inclusive(char::is_whitespace).map(word).collect::<String>();
    let part = |(at, part): (usize, &&str)| match at % 2 {
        0 => words(part),
        _ if at + 1 < parts.len() => code(part),
        // A backtick that none closes.
        _ => format!("`{}", words(part)),
    };
    parts.iter().enumerate().map(part).collect()
}

/// Text as code within a line.
pub fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// A word of a text, what surrounds it included.
fn word(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let Some(start) = text.find("--").filter(|start| !text[..*start].contains(is_part)) else { return plain(text) };
    let end = text[start..].find(|c| !is_part(c)).map_or(text.len(), |end| start + end);
    if end == start + 2 {
        return plain(text);
    }
    format!("{}{}{}", plain(&text[..start]), code(&text[start..end]), plain(&text[end..]))
}

/// Text without a sign that Markdown takes for its own.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '*' | '[' | ']' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A table of cells that are Markdown.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut out = line(&heads.iter().map(|&head| head.to_owned()).collect::<Vec<_>>());
    let _ = writeln!(out, "|{}", " --- |".repeat(heads.len()));
    rows.iter().for_each(|row| out.push_str(&line(row)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_markdown_are_read_as_they_stand() {
        let found = prose("`a*b` of <FILE>, a*b [x] (--to STAGE), `--x` and --keep-runs; a -- b");
        assert_eq!(found, "`a*b` of &lt;FILE>, a\\*b \\[x\\] (`--to` STAGE), `--x` and `--keep-runs`; a -- b");
        assert_eq!(prose("one ` alone *"), "one ` alone \\*");
    }

    #[test]
    fn a_cell_ends_where_it_ends() {
        let rows = [vec!["`a|b`".to_owned(), String::new()]];
        assert_eq!(table(&["key", "value"], &rows), "| key | value |\n| --- | --- |\n| `a\\|b` |  |\n");
    }
}
