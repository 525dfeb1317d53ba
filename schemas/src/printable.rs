//! Text of others (names of files, values of tables) as a terminal may show it.
//!
//! A name can hold any character but `/`: escape sequences that a terminal would obey, line breaks that make one message look like two,
//! marks that turn the order of writing round. People are shown them as escapes such as `\u{1b}`. Data for programs (CSV, JSON,
//! Parquet) stays as it is.

use std::borrow::Cow;

/// Text on one line: what moves the cursor, speaks to the terminal or hides itself as escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Text of several lines: the same, but line breaks and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_bad(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Whether a character is a control (of ASCII or of the range behind it, which old terminals obey as well), a line or paragraph
/// separator, or a mark of direction.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_escapes() {
        assert_eq!(printable("a\u{1b}[2J\u{7}\u{9b}31m\u{7f}.jpg"), "a\\u{1b}[2J\\u{7}\\u{9b}31m\\u{7f}.jpg");
        assert_eq!(printable("one\ntwo\r\tthree"), "one\\ntwo\\r\\tthree");
        assert_eq!(printable_lines("one\ntwo\r\tthree\u{1b}"), "one\ntwo\\r\tthree\\u{1b}");
        assert_eq!(printable("\u{202e}gpj.exe\u{2066}"), "\\u{202e}gpj.exe\\u{2066}");
    }

    #[test]
    fn writing_of_all_peoples_stays() {
        for text in ["", "été 猫 кот \u{1f408}\u{200d}\u{2b1b} قط e\u{301}", "C:\\temp `x` \"y\""] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
