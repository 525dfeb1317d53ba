//! Fields of a line: quotes as CSV has them, and lists of ids.

/// A line's fields, without their quotes.
///
/// # Errors
/// A quote is not closed, or something stands behind it: a fragment.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut rest) = (Vec::new(), line);
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => match rest.find(',') {
                Some(end) => (rest[..end].to_owned(), Some(&rest[end + 1..])),
                None => (rest.to_owned(), None),
            },
            Some(quoted) => unquoted(quoted, fields.len() + 1)?,
        };
        fields.push(field);
        match behind {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// What stands in quotes, and what comes behind the comma that follows, if one does.
fn unquoted(text: &str, number: usize) -> Result<(String, Option<&str>), String> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let Some(end) = rest.find('"') else {
            return Err(format!("the quote of field {number} is not closed; a decision is one line"));
        };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.as_bytes().first() {
            Some(b'"') => {
                field.push('"');
                rest = &rest[1..];
            }
            Some(b',') => return Ok((field, Some(&rest[1..]))),
            None => return Ok((field, None)),
            Some(_) => return Err(format!("field {number} goes on behind its quote; a quote in it is written twice")),
        }
    }
}

/// A field as a line has it: in quotes where it needs them.
pub fn quoted(field: &str) -> String {
    let needs = field.contains([',', '"']) || field.starts_with(char::is_whitespace) || field.ends_with(char::is_whitespace);
    if needs { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// An id as a list has it, on one line.
pub fn escaped(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for c in id.chars() {
        match c {
            '\\' | ';' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out
}

/// The ids of a list.
///
/// # Errors
/// An id is empty, or a `\` stands before what needs none: a fragment.
pub fn ids(list: &str) -> Result<Vec<String>, String> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let (mut ids, mut id, mut chars) = (Vec::new(), String::new(), list.chars());
    loop {
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(c @ ('\\' | ';')) => id.push(c),
                Some('n') => id.push('\n'),
                Some('r') => id.push('\r'),
                _ => return Err("a `\\` stands before `\\`, `;`, `n` or `r` alone".to_owned()),
            },
            Some(';') | None if id.is_empty() => return Err("an id of the list is empty".to_owned()),
            Some(';') => ids.push(std::mem::take(&mut id)),
            Some(c) => id.push(c),
            None => {
                ids.push(id);
                return Ok(ids);
            }
        }
    }
}
