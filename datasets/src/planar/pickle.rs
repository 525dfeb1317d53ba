//! Python's pickles, as far as CIFAR's files need them: dictionaries of texts, bytes, lists of whole numbers and NumPy arrays of bytes.
//!
//! Nothing is ever run: of all that a pickle may name, four functions of NumPy and one of Python are known, and what they would make is made
//! here. Long strings are not read: what is kept of them is where they lie in the file.
//!
//! References: Python's `pickletools`; NumPy's `ndarray.__reduce__` and `__setstate__`.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::boxes::excerpt;
use crate::tar::Packing;
use crate::tar::tape::{Raw, Tape};
use crate::{Error, Files};

mod machine;

/// Strings of more bytes are not read.
const FAR: u64 = 1024;
/// Values that a pickle may have: CIFAR's have some 100,000.
const MOST_VALUES: usize = 4_000_000;
/// Bytes of all their texts together: a text that was kept once may be named any number of times.
const MOST_TEXT: usize = 64 << 20;
/// Items of a tuple that is looked into: arguments of functions, states and sides of arrays.
const MOST_ITEMS: usize = 16;
/// Entries that a message names.
const NAMED: usize = 20;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Text, or Python 2's strings, which may be either.
    Bytes(Vec<u8>),
    /// A long string of bytes.
    Far {
        /// Where it begins in the file.
        offset: u64,
        length: u64,
    },
    /// A long text: bytes of it are not those that Python sees.
    FarText,
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    /// Something of a module, by both names.
    Global(String),
    /// NumPy's type of an array's items.
    Type(Vec<u8>),
    Array(Option<Array>),
}

/// An array of bytes, whose rows lie one behind another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its sides.
    pub shape: Vec<u64>,
}

/// A dictionary that a file holds.
pub struct Pickle {
    path: PathBuf,
    values: Vec<Value>,
    entries: Vec<(usize, usize)>,
}

impl Pickle {
    /// Reads a file of so many bytes.
    ///
    /// # Errors
    /// The file cannot be read, or has something else than what is known.
    pub fn open(files: &dyn Files, path: PathBuf, size: u64) -> Result<Self, Error> {
        let raw = Raw { files, path: path.clone(), size };
        let mut machine = machine::Machine::new(Tape::open(raw, Packing::None)?, path);
        let top = machine.run()?;
        let machine::Machine { path, mut values, .. } = machine;
        match std::mem::replace(&mut values[top], Value::None) {
            Value::Dict(entries) => Ok(Self { path, values, entries }),
            _ => Err(Error::format(path, "its pickle should be a dictionary")),
        }
    }

    /// The names of the entries, for messages.
    fn keys(&self) -> String {
        let name = |key: &usize| match &self.values[*key] {
            Value::Bytes(name) => excerpt(&String::from_utf8_lossy(name)),
            _ => "?".to_owned(),
        };
        let more = if self.entries.len() > NAMED { ", …" } else { "" };
        self.entries.iter().take(NAMED).map(|(key, _)| name(key)).collect::<Vec<_>>().join(", ") + more
    }

    fn get(&self, key: &str) -> Result<&Value, Error> {
        let is_it = |at: &usize| matches!(&self.values[*at], Value::Bytes(name) if name == key.as_bytes());
        // Of a key that comes twice, the last entry counts.
        let entry = self.entries.iter().rev().find(|(at, _)| is_it(at));
        let entry = entry.ok_or_else(|| self.error(format!("its pickle has no `{key}`, but {}", self.keys())))?;
        Ok(&self.values[entry.1])
    }

    fn error(&self, message: String) -> Error {
        Error::format(&self.path, message)
    }

    /// An array of bytes.
    ///
    /// # Errors
    /// There is none of the name.
    pub fn array(&self, key: &str) -> Result<Array, Error> {
        match self.get(key)? {
            Value::Array(Some(array)) => Ok(array.clone()),
            _ => Err(self.error(format!("`{key}` should be an array of NumPy's, of more than {FAR} bytes"))),
        }
    }

    fn list<T>(&self, key: &str, what: &str, mut get: impl FnMut(&Value) -> Option<T>) -> Result<Vec<T>, Error> {
        let list = match self.get(key)? {
            Value::List(items) | Value::Tuple(items) => items.iter().map(|&at| get(&self.values[at])).collect(),
            _ => None,
        };
        list.ok_or_else(|| self.error(format!("`{key}` should be a list of {what}")))
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// There is none of the name.
    pub fn numbers(&self, key: &str) -> Result<Vec<i64>, Error> {
        self.list(key, "whole numbers", |value| if let Value::Int(number) = value { Some(*number) } else { None })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// There is none of the name, or they are too long in all.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        let mut left = MOST_TEXT;
        self.list(key, "texts, of up to 64 MiB in all", |value| match value {
            Value::Bytes(bytes) => {
                left = left.checked_sub(bytes.len())?;
                String::from_utf8(bytes.clone()).ok()
            }
            _ => None,
        })
    }
}

/// What `PUT` keeps for `GET`.
type Memo = HashMap<u64, usize>;

#[cfg(test)]
pub(super) mod tests;
