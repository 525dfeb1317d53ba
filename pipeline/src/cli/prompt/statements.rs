//! Where a statement ends: at a `;` that stands in no string, name or comment.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// The statements that end in `;`, without it, and the text behind the last of them.
///
/// The tokenizer is the one that the engine parses queries with. It stops at a string, a name or a comment that has no end yet: the `;`
/// in it ends nothing, and more lines may follow.
pub fn statements(text: &str) -> (Vec<String>, String) {
    let mut tokens = Vec::new();
    // On an error, `tokens` are those before it.
    let _ = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location_into_buf(&mut tokens);
    let (mut done, mut start, mut is_empty) = (Vec::new(), 0, true);
    let mut places = Places::of(text);
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let at = places.offset(token.span.start);
                if !is_empty {
                    done.push(text[start..at].trim().to_owned());
                }
                (start, is_empty) = (at + 1, true);
            }
            // Comments are white space as well.
            Token::Whitespace(_) => {}
            _ => is_empty = false,
        }
    }
    (done, text[start..].to_owned())
}

/// Walks through a text, to find the byte offsets of places that are given as line and column.
struct Places<'a> {
    rest: std::str::CharIndices<'a>,
    /// The place of the next character.
    next: Location,
}

impl<'a> Places<'a> {
    fn of(text: &'a str) -> Self {
        Self { rest: text.char_indices(), next: Location { line: 1, column: 1 } }
    }

    /// The offset of a place in the text, which is not before the one that was asked for last.
    fn offset(&mut self, place: Location) -> usize {
        while self.next < place
            && let Some((_, char)) = self.rest.next()
        {
            let Location { line, column } = self.next;
            self.next = match char {
                '\n' => Location { line: line + 1, column: 1 },
                _ => Location { line, column: column + 1 },
            };
        }
        self.rest.offset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn splits(text: &str, done: &[&str], rest: &str) {
        assert_eq!(statements(text), (done.iter().map(|&one| one.to_owned()).collect(), rest.to_owned()), "{text}");
    }

    #[test]
    fn statements_end_in_a_semicolon() {
        splits("select 1", &[], "select 1");
        splits("select 1; select\n2; x", &["select 1", "select\n2"], " x");
        splits("select 'é图';\n  select 2 ;x", &["select 'é图'", "select 2"], "x");
        splits(";;", &[], "");
        splits("-- nothing\n;", &[], "");
    }

    #[test]
    fn a_semicolon_in_quotes_or_comments_ends_nothing() {
        splits("select ';' ;", &["select ';'"], "");
        splits("select 'it''s;'", &[], "select 'it''s;'");
        splits("select \"a;b\" from t;", &["select \"a;b\" from t"], "");
        splits("select 1 -- not; yet\n", &[], "select 1 -- not; yet\n");
        splits("select /* a; /* b; */ c; */ 1;", &["select /* a; /* b; */ c; */ 1"], "");
        splits("select $$a;b$$; select $x$ ; $$ ; $x$;", &["select $$a;b$$", "select $x$ ; $$ ; $x$"], "");
        splits(r"select E'\';', 1;", &[r"select E'\';', 1"], "");
    }

    /// A string or a comment that goes on in the next line holds back what stands behind its beginning.
    #[test]
    fn an_open_quote_waits_for_its_end() {
        for open in ["'a; b", "\"a; b", "/* a; b", "$$ a; b", "$x$ a; $$ b;"] {
            splits(&format!("select 1; select {open};\n"), &["select 1"], &format!(" select {open};\n"));
        }
    }
}
