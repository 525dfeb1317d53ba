//! What the terminal that people look at can do.

use std::env;
use std::io::{IsTerminal as _, stderr};

/// Whether stderr is a terminal that can move its cursor: bars are drawn there.
pub fn moves() -> bool {
    stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether what is told on stderr has colours: on such a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub fn has_colours() -> bool {
    moves() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}
