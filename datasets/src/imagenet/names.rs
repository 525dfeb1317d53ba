//! Files of the classes' names and numbers.

use std::collections::HashMap;
use std::path::Path;

use crate::boxes::{excerpt, name_of, text};
use crate::{Error, Files};

/// Classes, their numbers in the development kit, and their names.
pub const NUMBERS: &str = "map_clsloc.txt";
/// Classes by their numbers in WordNet's order.
const INDEX: &str = "imagenet_class_index.json";
/// Files of names, the fuller ones first.
pub const FILES: [&str; 5] = ["LOC_synset_mapping.txt", "synset_words.txt", "words.txt", INDEX, NUMBERS];

/// The classes' names.
///
/// # Errors
/// The file cannot be read, or is not what its name says; the message has the line.
pub fn read(files: &dyn Files, root: &Path, path: &str) -> Result<HashMap<String, String>, Error> {
    let full = root.join(path);
    let bytes = files.read(&full)?;
    let parse = match name_of(path) {
        INDEX => index,
        NUMBERS => |text: &str| {
            let all = numbered(text)?.into_values();
            Ok(all.map(|(class, name)| (class, name.replace('_', " "))).collect())
        },
        _ => lines,
    };
    text(&bytes).and_then(parse).map_err(|message| Error::format(full, message))
}

/// The classes by the development kit's numbers.
///
/// # Errors
/// As [`read`].
pub fn numbers(files: &dyn Files, root: &Path, path: &str) -> Result<HashMap<u32, String>, Error> {
    let full = root.join(path);
    let bytes = files.read(&full)?;
    let found = text(&bytes).and_then(numbered).map_err(|message| Error::format(full, message))?;
    Ok(found.into_iter().map(|(number, (class, _))| (number, class)).collect())
}

/// A class and its name a line.
fn lines(text: &str) -> Result<HashMap<String, String>, String> {
    let mut names = HashMap::new();
    for (number, line) in full_lines(text) {
        let parts = line.split_once(char::is_whitespace).filter(|(class, _)| super::is_class(class));
        let (class, name) = parts.ok_or_else(|| wrong(number, line, "a class and its name, as `n01440764 tench`"))?;
        if names.insert(class.to_owned(), name.trim().to_owned()).is_some() {
            return Err(format!("line {number}: the class {class} is there for the second time"));
        }
    }
    Ok(names)
}

/// A class, its number and its name a line.
fn numbered(text: &str) -> Result<HashMap<u32, (String, String)>, String> {
    let mut found = HashMap::new();
    for (at, line) in full_lines(text) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let (class, number, name) = match parts[..] {
            [class, number, name] if super::is_class(class) => Some((class, number.parse::<u32>().ok(), name)),
            _ => None,
        }
        .and_then(|(class, number, name)| Some((class, number?, name)))
        .ok_or_else(|| wrong(at, line, "a class, its number and its name, as `n02119789 1 kit_fox`"))?;
        if found.insert(number, (class.to_owned(), name.to_owned())).is_some() {
            return Err(format!("line {at}: the number {number} is there for the second time"));
        }
    }
    Ok(found)
}

/// An object whose values are pairs of a class and its name.
fn index(text: &str) -> Result<HashMap<String, String>, String> {
    let found: HashMap<String, (String, String)> = serde_json::from_str(text)
        .map_err(|error| format!("{error}; it should be as {{\"0\": [\"n01440764\", \"tench\"]}}"))?;
    Ok(found.into_values().map(|(class, name)| (class, name.replace('_', " "))).collect())
}

/// Lines with something in them, with their numbers.
pub fn full_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty())
}

/// What a line should be.
pub fn wrong(number: usize, line: &str, what: &str) -> String {
    format!("line {number}: `{}` should be {what}", excerpt(line))
}
