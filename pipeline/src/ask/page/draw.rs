//! Drawings, as SVG and HTML without a colour of their own: the page's style has those, so that one drawing serves light and dark.

pub mod axis;
pub mod bars;
pub mod graph;
pub mod heat;
pub mod lines;

use std::borrow::Cow;

use maud::{Markup, html};
use tessera_schemas::printable;

/// Colours of named things; what comes behind them is gray.
pub const COLOURS: usize = 7;

/// The class that gives the thing of that number its colour.
pub fn colour(at: usize) -> String {
    if at < COLOURS { format!("c{at}") } else { "rest".to_owned() }
}

/// A text of others, its direction kept to itself.
pub fn shown(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

/// A text with an end that is left out where it is longer than so many characters.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => printable(text),
        Some(_) => {
            let end = text.char_indices().nth(most - 1).map_or(text.len(), |(at, _)| at);
            Cow::Owned(format!("{}…", printable(&text[..end])))
        }
    }
}

/// A coordinate, to a tenth of a pixel.
pub fn px(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
