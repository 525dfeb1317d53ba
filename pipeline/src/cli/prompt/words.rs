//! What can be written at a place: keywords, tables, columns.

use std::collections::{BTreeMap, BTreeSet};

/// Words that queries are made of.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SUM",
    "THEN",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];
/// Tessera's own functions.
const FUNCTIONS: &[&str] = &["accuracy(", "ami(", "ari(", "nmi(", "purity(", "snapshot("];
/// The prompt's own commands.
pub const COMMANDS: &[&str] = &[".format", ".help", ".quit", ".schema", ".tables"];

/// The names that a pipeline has.
#[derive(Debug, Default)]
pub struct Words {
    /// Columns by table.
    pub tables: BTreeMap<String, Vec<String>>,
}

impl Words {
    /// Tables that queries name without quotes. Cells of a swept stage are found in the table of the stage.
    fn plain(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.tables.iter().filter(|(table, _)| !table.contains('@'))
    }

    /// Where the word before the cursor begins, in bytes, and what the word can be.
    pub fn fitting(&self, before: &str) -> (usize, Vec<String>) {
        let start = word_start(before);
        let (ahead, word) = before.split_at(start);
        let command = before.trim_start();
        if command.starts_with('.') {
            let (word, found) = self.of_command(command);
            return (before.len() - word.len(), found);
        }
        if let Some(table) = ahead.strip_suffix('.') {
            let found = match self.tables.get(&table[word_start(table)..]) {
                Some(columns) => beginning(word, columns.iter().map(String::as_str)),
                // What stands before the point may be an alias.
                None => beginning(word, self.tables.values().flatten().map(String::as_str)),
            };
            return (start, found);
        }
        let last = ahead.trim_end().rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
        if ["FROM", "JOIN"].iter().any(|keyword| last.eq_ignore_ascii_case(keyword)) {
            return (start, beginning(word, self.plain().map(|(table, _)| table.as_str()).chain(["snapshot("])));
        }
        if word.is_empty() {
            return (start, Vec::new());
        }
        let names = self.plain().flat_map(|(table, columns)| std::iter::once(table).chain(columns)).map(String::as_str);
        let mut found = beginning(word, names.chain(FUNCTIONS.iter().copied()));
        let small = word.chars().all(|c| !c.is_uppercase());
        let keywords = beginning(word, KEYWORDS.iter().copied());
        found.extend(keywords.into_iter().map(|keyword| if small { keyword.to_lowercase() } else { keyword }));
        found.dedup();
        (start, found)
    }

    /// The word that a command of the prompt ends with so far, and what it can be.
    fn of_command<'a>(&self, line: &'a str) -> (&'a str, Vec<String>) {
        let fitting = |names: &mut dyn Iterator<Item = &str>, word: &'a str| {
            (word, names.filter(|name| name.starts_with(word)).map(str::to_owned).collect())
        };
        match line.split_once(' ') {
            None => fitting(&mut COMMANDS.iter().copied(), line),
            Some((".schema", table)) => fitting(&mut self.tables.keys().map(String::as_str), table.trim_start()),
            Some((".format", format)) => fitting(&mut ["csv", "json", "text"].into_iter(), format.trim_start()),
            Some(_) => ("", Vec::new()),
        }
    }
}

/// Where the letters, digits and `_` at a text's end begin.
fn word_start(text: &str) -> usize {
    text.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len()
}

/// The names that begin with a word, whatever their case, in order and each once.
fn beginning<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let word = word.to_lowercase();
    let found: BTreeSet<&str> = names.filter(|name| name.to_lowercase().starts_with(&word)).collect();
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let tables =
            [("assigned", columns(&["image_id", "cluster", "distance"])), ("images", columns(&["image_id", "label"]))];
        Words { tables: tables.map(|(name, columns)| (name.to_owned(), columns)).into() }
    }

    #[track_caller]
    fn completes(before: &str, length: usize, expected: &[&str]) {
        let (start, found) = words().fitting(before);
        assert_eq!(
            (before.len() - start, found),
            (length, expected.iter().map(|name| (*name).to_owned()).collect()),
            "{before}"
        );
    }

    #[test]
    fn words_fit_their_place() {
        completes("sel", 3, &["select"]);
        completes("SEL", 3, &["SELECT"]);
        completes("select * from ", 0, &["assigned", "images", "snapshot("]);
        completes("select * from im", 2, &["images"]);
        completes("select assigned.", 0, &["cluster", "distance", "image_id"]);
        completes("select a.cl", 2, &["cluster"]);
        completes("select clu", 3, &["cluster"]);
        completes("SELECT nm", 2, &["nmi("]);
        completes("select (", 0, &[]);
        completes(".sch", 4, &[".schema"]);
        completes(".schema i", 1, &["images"]);
        completes(".format ", 0, &["csv", "json", "text"]);
        completes("日本 sel", 3, &["select"]);
        completes("  .schema im", 2, &["images"]);
        completes("select 日本.cl", 2, &["cluster"]);
    }
}
