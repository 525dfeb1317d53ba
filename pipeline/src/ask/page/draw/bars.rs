//! Bars: a table with a row a thing, whose numbers can be read as well.

use maud::{Markup, html};

use super::{px, shown};
use crate::ask::page::answer::short;

/// A thing, its bar's length, and what is said of it beside.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it is.
    pub name: Vec<String>,
    /// How much.
    pub value: Option<f64>,
    /// The value as it is written; by default a short number.
    pub written: Option<String>,
}

/// Draws bars from zero on, the longest over the whole width; `heads` are those of the names' columns and of the value.
pub fn bars(heads: &[&str], bars: &[Bar]) -> Markup {
    let most = bars.iter().filter_map(|bar| bar.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let width =
        |value: f64| if most > 0.0 && value.is_finite() { px((value / most * 100.0).clamp(0.0, 100.0)) } else { 0.0 };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(heads.join(", ")) {
            table.bars {
                thead { tr { @for head in heads { th scope="col" { (head) } } td {} } }
                tbody {
                    @for bar in bars {
                        tr {
                            @for (at, name) in bar.name.iter().enumerate() {
                                @if at == 0 { th scope="row" { (shown(name)) } } @else { td { (shown(name)) } }
                            }
                            td.number { @match (&bar.written, bar.value) {
                                (Some(written), _) => (written),
                                (None, Some(value)) => (short(value)),
                                (None, None) => "–",
                            } }
                            td.bar { svg aria-hidden="true" height="12" width="100%" {
                                @if let Some(value) = bar.value { rect.mark height="12" width=(format!("{}%", width(value))) {} }
                            } }
                        }
                    }
                }
            }
        }
    }
}
