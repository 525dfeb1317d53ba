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

    /// How many characters before the cursor are the beginning of a word, and what the word can be.
    pub fn complete(&self, before: &str) -> (usize, Vec<String>) {
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        if before.trim_start().starts_with('.') {
            return self.command(before.trim_start());
        }
        let ahead = before[..start].trim_end();
        let fitting = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            let lower = word.to_lowercase();
            let found: BTreeSet<String> =
                names.filter(|name| name.to_lowercase().starts_with(&lower)).map(str::to_owned).collect();
            found.into_iter().collect()
        };
        let length = word.chars().count();
        if let Some(table) = before[..start].strip_suffix('.') {
            let from = table.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
            let columns = table.get(from..).and_then(|table| self.tables.get(table));
            let all = self.tables.values().flatten();
            // What stands before the point may be an alias.
            let names: Vec<&str> =
                columns.map_or_else(|| all.map(String::as_str).collect(), |c| c.iter().map(String::as_str).collect());
            return (length, fitting(&mut names.into_iter()));
        }
        let last = ahead.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default().to_uppercase();
        if last == "FROM" || last == "JOIN" {
            let names = self.plain().map(|(table, _)| table.as_str()).chain(["snapshot("]);
            return (length, fitting(&mut { names }));
        }
        if word.is_empty() {
            return (0, Vec::new());
        }
        let names = self.plain().flat_map(|(table, columns)| std::iter::once(table).chain(columns)).map(String::as_str);
        let mut found = fitting(&mut names.chain(FUNCTIONS.iter().copied()));
        let small = word.chars().all(|c| !c.is_uppercase());
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.to_lowercase().starts_with(&word.to_lowercase()));
        found.extend(keywords.map(|keyword| if small { keyword.to_lowercase() } else { (*keyword).to_owned() }));
        found.dedup();
        (length, found)
    }

    fn command(&self, line: &str) -> (usize, Vec<String>) {
        let fitting = |names: Vec<&str>, word: &str| -> (usize, Vec<String>) {
            let found = names.into_iter().filter(|name| name.starts_with(word)).map(str::to_owned).collect();
            (word.chars().count(), found)
        };
        match line.split_once(' ') {
            None => fitting(COMMANDS.to_vec(), line),
            Some((".schema", table)) => fitting(self.tables.keys().map(String::as_str).collect(), table.trim_start()),
            Some((".format", format)) => fitting(vec!["csv", "json", "text"], format.trim_start()),
            Some(_) => (0, Vec::new()),
        }
    }
}

/// What all words begin with.
pub fn common(words: &[String]) -> String {
    let Some((first, rest)) = words.split_first() else { return String::new() };
    let shared = |prefix: &str, word: &String| {
        prefix.chars().zip(word.chars()).take_while(|(a, b)| a == b).map(|(char, _)| char).collect::<String>()
    };
    rest.iter().fold(first.clone(), |prefix, word| shared(&prefix, word))
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
        assert_eq!(words().complete(before), (length, expected.iter().map(|name| (*name).to_owned()).collect()), "{before}");
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
        assert_eq!(common(&["image_id".into(), "images".into()]), "image");
        assert_eq!(common(&[]), "");
    }
}
