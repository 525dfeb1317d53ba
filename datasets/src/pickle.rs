//! Python's pickles, of protocols 2 to 5, read without running anything: what a pickle would have Python call is kept as an [`Object`],
//! with the names that it would be called by, and whoever reads the pickle makes of it what it knows.
//!
//! Long strings are not read: what is kept of them is where they lie.
//!
//! Reference: Python's `pickletools`.

use std::borrow::Cow;
use std::io::{BufRead as _, Cursor};
use std::path::Path;

use crate::Error;
use crate::tar::tape::Tape;

mod machine;

/// Strings of more bytes are not read.
pub const FAR: u64 = 1024;
/// Values that a pickle may have: CIFAR's have some 100,000, and networks' some twenty a tensor.
const MOST_VALUES: usize = 4_000_000;
/// Bytes of all their texts together: a text that was kept once may be named any number of times.
pub const MOST_TEXT: usize = 64 << 20;
/// Items of a tuple that is looked into: arguments of functions, states, and sides of arrays and tensors.
const MOST_ITEMS: usize = 128;
/// Operations that a pickle may have: it puts values into lists, and takes them out again.
const MOST_OPERATIONS: usize = 8 * MOST_VALUES;

/// A value. Others that belong to it are named by their places.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number of more than 8 bytes.
    Huge,
    /// A number.
    Float(f64),
    /// Text, or bytes: Python 2's strings may be either.
    Bytes(Vec<u8>),
    /// A long string of bytes.
    Far {
        /// Where it begins in the program.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// A long text: bytes of it are not those that Python sees.
    FarText,
    /// A tuple, or a set that does not change.
    Tuple(Vec<usize>),
    /// A list, or a set.
    List(Vec<usize>),
    /// A dictionary's keys and values.
    Dict(Vec<(usize, usize)>),
    /// Something of a module, by both names with a space between them.
    Global(String),
    /// What Python would make by a call.
    Object(Box<Object>),
    /// What lies beside the pickle, by that which names it.
    Persistent(usize),
}

/// What a call would make, and what would be done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The function or the class that is called.
    pub maker: usize,
    /// The tuple of its arguments.
    pub arguments: usize,
    /// The state that the new object is given.
    pub state: Option<usize>,
    /// The values that are put into it, as into a list.
    pub items: Vec<usize>,
    /// The keys and values that are put into it, as into a dictionary.
    pub entries: Vec<(usize, usize)>,
}

/// The bytes that a pickle is, and a position in them.
pub trait Program {
    /// The position.
    fn at(&self) -> u64;

    /// The bytes from the position on, up to so many; fewer only where they end.
    ///
    /// # Errors
    /// They cannot be read.
    fn look(&mut self, length: u64) -> Result<&[u8], Error>;

    /// Moves forward, but not behind the end. Returns whether so many bytes are there.
    ///
    /// # Errors
    /// They cannot be read.
    fn skip(&mut self, length: u64) -> Result<bool, Error>;
}

impl Program for Tape<'_> {
    fn at(&self) -> u64 {
        Tape::at(self)
    }
    fn look(&mut self, length: u64) -> Result<&[u8], Error> {
        Tape::look(self, length)
    }
    fn skip(&mut self, length: u64) -> Result<bool, Error> {
        Tape::skip(self, length)
    }
}

impl Program for Cursor<&[u8]> {
    fn at(&self) -> u64 {
        self.position()
    }
    fn look(&mut self, length: u64) -> Result<&[u8], Error> {
        let left = self.fill_buf().unwrap_or_default();
        Ok(&left[..usize::try_from(length).map_or(left.len(), |length| length.min(left.len()))])
    }
    fn skip(&mut self, length: u64) -> Result<bool, Error> {
        let left = (self.get_ref().len() as u64).saturating_sub(self.position());
        self.set_position(self.position() + length.min(left));
        Ok(length <= left)
    }
}

/// The values of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub struct Pickle {
    values: Vec<Value>,
    top: usize,
}

impl Pickle {
    /// Reads a pickle; the path is for messages.
    ///
    /// # Errors
    /// It cannot be read, has more values or text than memory is kept for, or is no pickle of protocols 2 to 5.
    pub fn read(program: impl Program, path: &Path) -> Result<Self, Error> {
        let mut machine = machine::Machine::new(program, path);
        let top = machine.run()?;
        Ok(Self { values: machine.values, top })
    }

    /// The place of the value that the pickle is of.
    pub fn top(&self) -> usize {
        self.top
    }

    /// The value at a place.
    ///
    /// # Panics
    /// The place is another pickle's.
    pub fn value(&self, place: usize) -> &Value {
        &self.values[place]
    }

    /// Text, unless it is a long one.
    pub fn text(&self, place: usize) -> Option<&str> {
        match self.value(place) {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A short string's bytes. Python 3 writes bytes for Python 2 as text, which is to be encoded.
    pub fn bytes(&self, place: usize) -> Option<Cow<'_, [u8]>> {
        match self.value(place) {
            Value::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            _ => match self.call(place)? {
                ("_codecs encode", &[text, latin]) if self.text(latin)? == "latin1" => {
                    let bytes = self.text(text)?.chars().map(|letter| u8::try_from(letter).ok());
                    bytes.collect::<Option<_>>().map(Cow::Owned)
                }
                _ => None,
            },
        }
    }

    /// A whole number.
    pub fn int(&self, place: usize) -> Option<i64> {
        if let Value::Int(number) = self.value(place) { Some(*number) } else { None }
    }

    /// The items of a tuple; none if there are more than anything known has: one that was kept once may be named any number of times.
    pub fn tuple(&self, place: usize) -> Option<&[usize]> {
        match self.value(place) {
            Value::Tuple(items) if items.len() <= MOST_ITEMS => Some(items),
            _ => None,
        }
    }

    /// Both names of something of a module, with a space between them.
    pub fn global(&self, place: usize) -> Option<&str> {
        if let Value::Global(name) = self.value(place) { Some(name) } else { None }
    }

    /// The names of what an object would be made by, and what that is given.
    pub fn call(&self, place: usize) -> Option<(&str, &[usize])> {
        let Value::Object(object) = self.value(place) else { return None };
        Some((self.global(object.maker)?, self.tuple(object.arguments)?))
    }
}

#[cfg(test)]
mod tests;
