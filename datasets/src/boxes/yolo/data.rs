//! The file of the classes' names: one name a line, or `data.yaml`.
//!
//! Of YAML, what such files have is read, and no more. Keys stand at the beginning of their lines; of `names`, `nc`, `kpt_shape`,
//! `path`, `train`, `val` (or `valid`) and `test` the values are looked at. A value is a text on one line (plain, or in single or
//! double quotes); a list, as `[a, b]` over any number of lines or as lines that begin with `- `; or a map from numbers, as `{0: a,
//! 1: b}` or as lines like `0: a`. Values do not lie in each other, and there are no anchors, tags and texts over several lines. Of
//! other keys, lines that belong to them are passed over.

use std::collections::HashMap;

use super::Names;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    pub names: Names,
    /// Whether keypoints follow a box.
    pub has_keypoints: bool,
    /// The folder that the splits' places are relative to.
    pub path: Option<String>,
    /// Where the images of train, val and test are.
    pub places: [Vec<String>; 3],
}

/// Keys whose values are looked at.
const KEYS: [&str; 8] = ["names", "nc", "kpt_shape", "path", "train", "val", "valid", "test"];

/// One name a line; blank lines at the end are left out.
///
/// # Errors There is no name, or a line between others is blank, so that the numbers of the names behind it would be in doubt.
pub fn lines(text: &str) -> Result<Data, String> {
    let names: Vec<&str> = text.trim_end().lines().map(str::trim).collect();
    if let Some(blank) = names.iter().position(|name| name.is_empty()) {
        return Err(format!("line {}: it is blank, and should be the name of class {blank}", blank + 1));
    }
    Ok(Data { names: names.into_iter().map(Into::into).collect(), ..Data::default() })
}

/// A YAML file.
///
/// # Errors
/// It has no names, or is not of the form that is read; the message has the line.
pub fn yaml(text: &str) -> Result<Data, String> {
    let mut data = Data::default();
    let (mut has_names, mut count) = (false, None);
    for section in sections(text)? {
        let places = match section.key.as_str() {
            "names" => {
                has_names = true;
                data.names = names(&section)?;
                continue;
            }
            "nc" => {
                let number = section.scalar()?.as_deref().map(str::parse::<usize>);
                count = number.transpose().map_err(|_| section.fail("`nc` should be the number of classes"))?;
                continue;
            }
            "kpt_shape" => {
                data.has_keypoints = true;
                continue;
            }
            "path" => {
                data.path = section.scalar()?;
                continue;
            }
            "train" => 0,
            "val" | "valid" => 1,
            "test" => 2,
            _ => continue,
        };
        data.places[places] = match section.value()? {
            Value::None => Vec::new(),
            Value::Text(place) => vec![place],
            Value::List(places) => places.into_iter().map(|(_, place)| place).collect(),
            Value::Map(_) => return Err(section.fail("it should be a folder or a file, or a list of these")),
        };
    }
    if !has_names {
        return Err("it has no `names:`; write them as `names: [cat, dog]`, the first for class 0".to_owned());
    }
    match count {
        Some(count) if count != data.names.len() => {
            Err(format!("`nc` is {count}, and `names` has {} names", data.names.len()))
        }
        _ => Ok(data),
    }
}

fn names(section: &Section) -> Result<Names, String> {
    let named = |line: usize, name: String| match name.as_str() {
        "" | "~" => Err(format!("line {line}: a name is empty")),
        _ => Ok(name.into()),
    };
    match section.value()? {
        Value::List(names) => names.into_iter().map(|(line, name)| named(line, name)).collect(),
        Value::Map(mut names) => {
            names.sort_by_key(|(_, number, _)| *number);
            let numbered = (0..).zip(names).map(|(number, (line, key, name))| match key {
                _ if key == number => named(line, name),
                _ if key < number => Err(format!("line {line}: class {key} has a name already")),
                _ => Err(format!("line {line}: class {number} has no name, and class {key} has one")),
            });
            numbered.collect()
        }
        Value::None | Value::Text(_) => Err(section.fail("`names` should be a list, or a map from the classes' numbers")),
    }
}

/// A key, and the text of its value by line, without comments.
struct Section {
    line: usize,
    key: String,
    lines: Vec<(usize, String)>,
}

enum Value {
    None,
    Text(String),
    /// Each with its line.
    List(Vec<(usize, String)>),
    Map(Vec<(usize, usize, String)>),
}

/// The keys of a file. A key that occurs twice is an error.
fn sections(text: &str) -> Result<Vec<Section>, String> {
    let (mut sections, mut known): (Vec<Section>, HashMap<String, usize>) = Default::default();
    // Brackets that are open.
    let mut depth = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let fail = |message: &str| format!("line {number}: {message}");
        let is_item = |line: &str| line == "-" || line.starts_with("- ");
        let belongs = line.starts_with([' ', '\t']) || is_item(line);
        if depth == 0 && belongs && sections.last().is_some_and(|section| !KEYS.contains(&&*section.key)) {
            // It may be a text of any form.
            continue;
        }
        let (line, now) = without_comment(line, depth).map_err(|message| fail(&message))?;
        if line.trim().is_empty() || (depth == 0 && matches!(line, "---" | "...")) {
            continue;
        }
        if depth > 0 || belongs {
            let Some(section) = sections.last_mut() else { return Err(fail("it belongs to no key")) };
            section.lines.push((number, line.to_owned()));
        } else {
            let (key, rest) = key(line).ok_or_else(|| fail("it should be a key and a colon"))?;
            let key = scalar(key).map_err(|message| fail(&message))?;
            if let Some(before) = known.insert(key.clone(), number) {
                return Err(fail(&format!("`{key}` is in line {before} already")));
            }
            let first = (!rest.is_empty()).then(|| (number, rest.to_owned()));
            sections.push(Section { line: number, key, lines: first.into_iter().collect() });
        }
        depth = now;
    }
    match sections.last() {
        Some(section) if depth > 0 => Err(section.fail("its brackets are not closed")),
        _ => Ok(sections),
    }
}

/// A key and what follows its colon.
fn key(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let colon = line.match_indices(':').map(|(at, _)| at);
    let mut ends = colon.filter(|&at| line[at + 1..].is_empty() || line[at + 1..].starts_with([' ', '\t']));
    ends.next().map(|at| (line[..at].trim(), line[at + 1..].trim()))
}

/// A line without its comment, and how many brackets are open at its end, given how many are before it.
fn without_comment(line: &str, mut depth: usize) -> Result<(&str, usize), String> {
    let (mut quote, mut last, mut before) = (None, None, ' ');
    for (at, char) in line.char_indices() {
        match (quote, char) {
            (Some(open), _) if char == open && !(open == '"' && before == '\\') => quote = None,
            (Some(_), _) => {}
            (None, '#') if before.is_whitespace() => return Ok((line[..at].trim_end(), depth)),
            (None, '\'' | '"') if matches!(last, None | Some('[' | '{' | ',' | ':' | '-')) => quote = Some(char),
            (None, '[' | '{') if depth > 0 || matches!(last, None | Some(':' | '-' | ',')) => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = if quote == Some('"') && before == '\\' && char == '\\' { ' ' } else { char };
        last = if char.is_whitespace() { last } else { Some(char) };
    }
    match quote {
        Some(_) => Err("a text in quotes should end on its line".to_owned()),
        None => Ok((line.trim_end(), depth)),
    }
}

/// A text as it is written: plain, or in quotes.
fn scalar(text: &str) -> Result<String, String> {
    let text = text.trim();
    let inside = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if inside('\'') {
        return Ok(text[1..text.len() - 1].replace("''", "'"));
    }
    if inside('"') {
        return unescaped(&text[1..text.len() - 1]);
    }
    match text.chars().next() {
        Some(first @ ('&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '[' | '{' | '\'' | '"')) => {
            Err(format!("a value that begins with `{first}` is not read here: write it as a plain text"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// What stands in double quotes. Programs write what is not ASCII as `\xe9`, `\u732b` or `\U0001f408`.
fn unescaped(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let mut plain = String::new();
    while let Some(char) = chars.next() {
        if char != '\\' {
            plain.push(char);
            continue;
        }
        let kind = chars.next().unwrap_or_default();
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let code: String = chars.by_ref().take(digits).collect();
        let read = match kind {
            '"' | '\\' | '/' => Some(kind),
            'n' => Some('\n'),
            't' => Some('\t'),
            _ if code.len() == digits => u32::from_str_radix(&code, 16).ok().and_then(char::from_u32),
            _ => None,
        };
        plain.push(read.ok_or_else(|| format!("`\\{kind}{code}` is not read here"))?);
    }
    Ok(plain)
}

impl Section {
    fn fail(&self, message: &str) -> String {
        format!("line {}: {message}", self.line)
    }

    fn scalar(&self) -> Result<Option<String>, String> {
        match self.value()? {
            Value::None => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(self.fail(&format!("`{}` should be one text", self.key))),
        }
    }

    fn value(&self) -> Result<Value, String> {
        let at = |line: usize| move |message: String| format!("line {line}: {message}");
        let Some((first, text)) = self.lines.first() else { return Ok(Value::None) };
        let text = text.trim();
        if text.starts_with(['[', '{']) {
            return self.flow();
        }
        if text == "-" || text.starts_with("- ") {
            let item = |(line, text): &(usize, String)| {
                let item = text.trim().strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' '));
                let item = item.ok_or_else(|| at(*line)("it should begin with `- `, as those before it".to_owned()))?;
                Ok((*line, scalar(item).map_err(at(*line))?))
            };
            return Ok(Value::List(self.lines.iter().map(item).collect::<Result<_, String>>()?));
        }
        if *first > self.line && key(text).is_some() {
            let pair = |(line, text): &(usize, String)| pair(*line, text);
            return Ok(Value::Map(self.lines.iter().map(pair).collect::<Result<_, String>>()?));
        }
        match &self.lines[..] {
            [_] => match scalar(text).map_err(at(*first))?.as_str() {
                "" | "~" | "null" => Ok(Value::None),
                text => Ok(Value::Text(text.to_owned())),
            },
            [_, (second, _), ..] => Err(at(*second)(format!("the value of `{}` should be on one line", self.key))),
            [] => Ok(Value::None),
        }
    }

    /// What stands in brackets.
    fn flow(&self) -> Result<Value, String> {
        let (mut items, mut item, mut quote) = (Vec::new(), String::new(), None);
        let close = if self.lines[0].1.trim_start().starts_with('[') { ']' } else { '}' };
        let (mut is_open, mut is_closed) = (false, false);
        for (line, text) in &self.lines {
            for char in text.trim().chars().chain([' ']) {
                match (quote, char) {
                    _ if is_closed && !char.is_whitespace() => {
                        return Err(format!("line {line}: `{char}` follows `{close}`"));
                    }
                    (None, '[' | '{') if !is_open => is_open = true,
                    (None, '[' | '{') if item.trim().is_empty() => {
                        return Err(format!("line {line}: lists in lists are not read here"));
                    }
                    (None, ',') => items.push((*line, std::mem::take(&mut item))),
                    (None, char) if char == close => {
                        is_closed = true;
                        // A comma may stand behind the last.
                        if !item.trim().is_empty() {
                            items.push((*line, std::mem::take(&mut item)));
                        }
                    }
                    (None, '\'' | '"') if item.trim().is_empty() || item.trim_end().ends_with(':') => {
                        quote = Some(char);
                        item.push(char);
                    }
                    (open, char) => {
                        if open == Some(char) && !(char == '"' && item.ends_with('\\')) {
                            quote = None;
                        }
                        item.push(char);
                    }
                }
            }
        }
        if !is_closed {
            return Err(self.fail(&format!("`{close}` is missing")));
        }
        if close == '}' {
            return Ok(Value::Map(items.iter().map(|(line, item)| pair(*line, item)).collect::<Result<_, String>>()?));
        }
        let text = |(line, item): (usize, String)| match scalar(&item) {
            Ok(text) => Ok((line, text)),
            Err(message) => Err(format!("line {line}: {message}")),
        };
        Ok(Value::List(items.into_iter().map(text).collect::<Result<_, String>>()?))
    }
}

/// A number and a name.
fn pair(line: usize, text: &str) -> Result<(usize, usize, String), String> {
    let wrong = || format!("line {line}: `{}` should be the number of a class and its name, as `0: cat`", text.trim());
    let (number, name) = key(text).ok_or_else(wrong)?;
    let number = scalar(number).ok().and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    Ok((line, number, scalar(name).map_err(|message| format!("line {line}: {message}"))?))
}
