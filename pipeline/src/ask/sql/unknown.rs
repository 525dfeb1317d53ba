//! Tables that a query names and that are not there.

use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;

use crate::declare::faults::closest;

/// Names that a message lists.
const LISTED: usize = 40;

/// What to say of the first table that a query names and a context lacks; nothing if it has them all, or if the text is no statement.
pub fn table(context: &SessionContext, sql: &str) -> Option<String> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).ok()?;
    let named = state.resolve_table_references(&statement).ok()?;
    let is_there = |table: &TableReference| {
        state.table_functions().contains_key(table.table()) || context.table_exist(table.clone()).unwrap_or(false)
    };
    let unknown = named.iter().find(|table| !is_there(table))?;
    let catalog = &state.config().options().catalog;
    let schema = context.catalog(&catalog.default_catalog)?.schema(&catalog.default_schema)?;
    Some(message(unknown, schema.table_names()))
}

/// The message for a table that is not there: it lists the tables that are, first the one that may have been meant. Cells of a sweep
/// are in the table of their stage.
fn message(unknown: &TableReference, mut known: Vec<String>) -> String {
    known.retain(|name| !name.contains('@'));
    known.sort();
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let name = unknown.table();
    let same = names.iter().copied().find(|known| known.eq_ignore_ascii_case(name));
    let close = same.or_else(|| closest(name, &names));
    let close = close.map(|close| format!("did you mean `{}`? ", written(close))).unwrap_or_default();
    let list = names.iter().take(LISTED).map(|name| written(name)).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(LISTED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("there is no table `{unknown}`; {close}tables: {list}{more}")
}

/// A name as a query has to write it: SQL takes what is not in quotes in small letters.
fn written(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let plain = name.chars().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, known: &[&str]) -> String {
        message(&TableReference::bare(name), known.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn the_closest_table_is_offered_as_it_is_written() {
        assert_eq!(
            said("cluster", &["stages", "clusters", "clusters@k=3"]),
            "there is no table `cluster`; did you mean `clusters`? tables: clusters, stages"
        );
        assert_eq!(
            said("rows-1", &["Rows-1", "runs"]),
            "there is no table `rows-1`; did you mean `\"Rows-1\"`? tables: \"Rows-1\", runs"
        );
        assert_eq!(said("xyz", &["runs"]), "there is no table `xyz`; tables: runs");
        let many: Vec<String> = (0..50).map(|at| format!("t{at:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said("q", &many).ends_with(", t39 and 10 more"));
    }
}
