//! A heat map: a table of counts, each cell's shade its share of its row.

use std::collections::HashMap;

use maud::{Markup, html};

use super::shown;
use crate::ask::page::answer::short;

/// Shades that the page's style has, from none to full.
const SHADES: f64 = 10.0;

/// Draws counts: a row for each of `rows`, a column for each of `columns`; a pair that has no count is empty.
pub fn heat(what: [&str; 2], rows: &[String], columns: &[String], counts: &HashMap<(usize, usize), f64>) -> Markup {
    let totals: Vec<f64> =
        (0..rows.len()).map(|row| (0..columns.len()).filter_map(|column| counts.get(&(row, column))).sum()).collect();
    let shade = |row: usize, count: f64| (count / totals[row].max(1.0) * SHADES).ceil().clamp(0.0, SHADES);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("{} against {}", what[0], what[1])) {
            table.heat {
                thead { tr {
                    th scope="col" { (what[0]) }
                    @for column in columns { th.turned scope="col" { span { (shown(column)) } } }
                } }
                tbody {
                    @for (row, name) in rows.iter().enumerate() {
                        tr {
                            th scope="row" { (shown(name)) }
                            @for column in 0..columns.len() {
                                @match counts.get(&(row, column)) {
                                    Some(&count) => td class=(format!("h{}", shade(row, count))) { (short(count)) },
                                    None => td {},
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
