//! What CIFAR's pickles hold: a dictionary of texts, bytes, lists of whole numbers and NumPy arrays of bytes.
//!
//! Of all that a pickle may have Python call, four functions of NumPy and one of Python are known, and what they would make is made here.
//!
//! Reference: NumPy's `ndarray.__reduce__` and `__setstate__`.

use std::path::PathBuf;

use crate::boxes::excerpt;
use crate::pickle::{FAR, MOST_TEXT, Pickle, Value};
use crate::tar::Packing;
use crate::tar::tape::{Raw, Tape};
use crate::{Error, Files};

/// Entries of a dictionary: CIFAR's have a handful.
const MOST_ENTRIES: usize = 100_000;
/// Sides of an array.
const MOST_SIDES: usize = 16;
/// Entries that a message names.
const NAMED: usize = 20;

/// An array of bytes, whose rows lie one behind another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its sides.
    pub shape: Vec<u64>,
}

/// A dictionary that a file holds.
pub struct Dictionary {
    path: PathBuf,
    pickle: Pickle,
}

impl Dictionary {
    /// Reads a file of so many bytes.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn open(files: &dyn Files, path: PathBuf, size: u64) -> Result<Self, Error> {
        let raw = Raw { files, path: path.clone(), size };
        let pickle = Pickle::read(Tape::open(raw, Packing::None)?, &path)?;
        match pickle.value(pickle.top()) {
            Value::Dict(entries) if entries.len() > MOST_ENTRIES => {
                let message = format!("its pickle has {} entries, and {MOST_ENTRIES} are the most", entries.len());
                Err(Error::format(path, message))
            }
            Value::Dict(_) => Ok(Self { path, pickle }),
            _ => Err(Error::format(path, "its pickle should be a dictionary")),
        }
    }

    fn entries(&self) -> &[(usize, usize)] {
        match self.pickle.value(self.pickle.top()) {
            Value::Dict(entries) => entries,
            _ => &[],
        }
    }

    /// The names of the entries, for messages.
    fn keys(&self) -> String {
        let name = |&(key, _): &(usize, usize)| match self.pickle.bytes(key) {
            Some(name) => excerpt(&String::from_utf8_lossy(&name)),
            None => "?".to_owned(),
        };
        let more = if self.entries().len() > NAMED { ", …" } else { "" };
        self.entries().iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ") + more
    }

    /// The place of an entry's value.
    fn get(&self, key: &str) -> Result<usize, Error> {
        let is_it = |at: usize| self.pickle.bytes(at).is_some_and(|name| *name == *key.as_bytes());
        // Of a key that comes twice, the last entry counts.
        let entry = self.entries().iter().rev().find(|(at, _)| is_it(*at));
        let entry = entry.ok_or_else(|| self.error(format!("its pickle has no `{key}`, but {}", self.keys())))?;
        Ok(entry.1)
    }

    fn error(&self, message: String) -> Error {
        Error::format(&self.path, message)
    }

    /// An array of bytes.
    ///
    /// # Errors The dictionary has no entry of this name, or it is not an array of bytes.
    pub fn array(&self, key: &str) -> Result<Array, Error> {
        let place = self.get(key)?;
        let known = match (self.pickle.value(place), self.pickle.call(place)) {
            (
                Value::Object(object),
                Some(("numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct", _)),
            ) => match object.state.and_then(|state| self.pickle.tuple(state)) {
                Some(&[_, shape, kind, by_columns, data]) => match self.pickle.value(by_columns) {
                    Value::Bool(by_columns) => Some((shape, kind, data, !by_columns)),
                    _ => None,
                },
                _ => None,
            },
            (
                _,
                Some(("numpy.core.numeric _frombuffer" | "numpy._core.numeric _frombuffer", &[data, kind, shape, order])),
            ) => self.pickle.text(order).map(|order| (shape, kind, data, order == "C")),
            _ => None,
        };
        let wrong = |why: String| self.error(format!("`{key}` {why}"));
        let known = known.ok_or_else(|| wrong("should be an array of NumPy's".to_owned()))?;
        let (shape, kind, data, by_rows) = known;
        self.of_bytes(shape, kind, data, by_rows).map_err(wrong)
    }

    /// An array by the places of its parts. The error is what is to be said of it.
    fn of_bytes(&self, shape: usize, kind: usize, data: usize, by_rows: bool) -> Result<Array, String> {
        let kind = match self.pickle.call(kind) {
            Some(("numpy dtype", [kind, ..])) => self.pickle.bytes(*kind).unwrap_or_default(),
            _ => return Err("is an array of NumPy's whose type is not known".to_owned()),
        };
        if !matches!(&*kind, b"u1" | b"|u1" | b"B" | b"uint8") || !by_rows {
            let (kind, order) = (String::from_utf8_lossy(&kind), if by_rows { "rows" } else { "columns" });
            return Err(format!("is an array of items `{kind}` by {order}; known are `u1` by rows"));
        }
        if let Value::Tuple(sides) = self.pickle.value(shape)
            && sides.len() > MOST_SIDES
        {
            return Err(format!("is an array of {} sides, and {MOST_SIDES} are the most", sides.len()));
        }
        let side = |&place: &usize| u64::try_from(self.pickle.int(place)?).ok();
        let shape = self.pickle.tuple(shape).and_then(|sides| sides.iter().map(side).collect::<Option<Vec<_>>>());
        let shape = shape.ok_or("is an array with sides that are no numbers")?;
        let product = shape.iter().try_fold(1_u64, |all, side| all.checked_mul(*side));
        let is_text = |place| matches!(self.pickle.value(place), Value::FarText);
        match (self.pickle.value(data), self.pickle.call(data)) {
            (&Value::Far { offset, length }, _) if product == Some(length) => Ok(Array { offset, shape }),
            (Value::Far { length, .. }, _) => Err(format!("is an array of {shape:?} bytes, and has {length}")),
            (_, Some(("_codecs encode", [text, ..]))) if is_text(*text) => Err(TEXT.to_owned()),
            _ if is_text(data) => Err(TEXT.to_owned()),
            _ => Err(format!("is an array of no more than {FAR} bytes")),
        }
    }

    fn list<T>(&self, key: &str, what: &str, mut get: impl FnMut(usize) -> Option<T>) -> Result<Vec<T>, Error> {
        let list = match self.pickle.value(self.get(key)?) {
            Value::List(items) | Value::Tuple(items) => items.iter().map(|&at| get(at)).collect(),
            _ => None,
        };
        list.ok_or_else(|| self.error(format!("`{key}` should be a list of {what}")))
    }

    /// A list of whole numbers.
    ///
    /// # Errors The dictionary has no such list of this name.
    pub fn numbers(&self, key: &str) -> Result<Vec<i64>, Error> {
        self.list(key, "whole numbers", |place| self.pickle.int(place))
    }

    /// A list of texts.
    ///
    /// # Errors The dictionary has no such list of this name, or the texts are too long together.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        let mut left = MOST_TEXT;
        self.list(key, "texts, of up to 64 MiB in all", |place| {
            let text = self.pickle.bytes(place)?;
            left = left.checked_sub(text.len())?;
            String::from_utf8(text.into_owned()).ok()
        })
    }
}

/// The message for an array whose bytes were kept as a text from which they cannot be told.
const TEXT: &str =
    "is an array whose bytes are kept as text, as Python 3 does for Python 2: write it with protocol 3 or later";

#[cfg(test)]
pub(super) mod tests;
