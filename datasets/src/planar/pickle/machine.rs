//! The stack machine whose program a pickle is.

use std::path::PathBuf;

use super::{Array, FAR, MOST_ITEMS, MOST_TEXT, MOST_VALUES, Memo, Value};
use crate::Error;
use crate::tar::tape::Tape;

/// A machine at some place of its program.
pub struct Machine<'a> {
    tape: Tape<'a>,
    pub path: PathBuf,
    /// All values that were made; others name them by their places.
    pub values: Vec<Value>,
    /// Bytes of their texts.
    text: usize,
    stack: Vec<usize>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: Memo,
}

impl<'a> Machine<'a> {
    /// A machine at the beginning of a file.
    pub fn new(tape: Tape<'a>, path: PathBuf) -> Self {
        Self { tape, path, values: Vec::new(), text: 0, stack: Vec::new(), marks: Vec::new(), memo: Memo::new() }
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        let at = self.tape.at();
        Error::format(&self.path, format!("its pickle cannot be read at byte {at}: {message}"))
    }

    /// Runs the program. Returns the place of what it makes.
    ///
    /// # Errors
    /// The file cannot be read, or the program does what is not known.
    pub fn run(&mut self) -> Result<usize, Error> {
        loop {
            let [code] = self.take()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<(), Error> {
        match code {
            // PROTO, FRAME: what they say changes nothing.
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => {
                let [number] = self.take()?;
                self.push(Value::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))?;
            }
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))?;
            }
            0x8a => self.long()?,
            // Strings, by the bytes of their lengths. Python 2's may be text or bytes.
            b'U' | b'C' => self.string(1, false)?,
            b'T' | b'B' => self.string(4, false)?,
            0x8e | 0x96 => self.string(8, false)?,
            0x8c => self.string(1, true)?,
            b'X' => self.string(4, true)?,
            0x8d => self.string(8, true)?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            b'q' => {
                let [place] = self.take()?;
                self.put(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.take()?);
                self.put(place.into())?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'h' => {
                let [place] = self.take()?;
                self.get(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.take()?);
                self.get(place.into())?;
            }
            b'c' => {
                let name = format!("{} {}", self.line()?, self.line()?);
                self.push(Value::Global(name))?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let name = match [&self.values[names[0]], &self.values[names[1]]] {
                    [Value::Bytes(module), Value::Bytes(name)] => {
                        format!("{} {}", String::from_utf8_lossy(module), String::from_utf8_lossy(name))
                    }
                    _ => return Err(self.error("the name of a function should be text")),
                };
                self.push(Value::Global(name))?;
            }
            b'R' => self.call()?,
            b'b' => self.build()?,
            _ => return Err(self.error(format!("operation {code:#04x} is none that CIFAR's files have"))),
        }
        Ok(())
    }

    /// The next bytes of the program.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let found = self.tape.look(N as u64)?.try_into().ok();
        let bytes: [u8; N] = found.ok_or_else(|| self.error("the file ends"))?;
        self.tape.skip(N as u64)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Error> {
        let front = self.tape.look(256)?;
        let end = front.iter().position(|&byte| byte == b'\n');
        let line = end.map(|end| String::from_utf8_lossy(&front[..end]).into_owned());
        let line = line.ok_or_else(|| self.error("a name is too long"))?;
        self.tape.skip(end.map_or(0, |end| end as u64 + 1))?;
        Ok(line)
    }

    fn string(&mut self, width: u64, is_text: bool) -> Result<(), Error> {
        let front = self.tape.look(width)?;
        let length = front.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        if (front.len() as u64) < width {
            return Err(self.error("the file ends"));
        }
        self.tape.skip(width)?;
        let offset = self.tape.at();
        let value = match (length > FAR, is_text) {
            (true, true) => Value::FarText,
            (true, false) => Value::Far { offset, length },
            (false, _) => Value::Bytes(self.tape.look(length)?.to_vec()),
        };
        if !self.tape.skip(length)? {
            return Err(self.error(format!("the file ends within a string of {length} bytes")));
        }
        self.push(value)
    }

    fn long(&mut self) -> Result<(), Error> {
        let [length] = self.take()?;
        let bytes = self.tape.look(length.into())?;
        let mut all = [if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 }; 8];
        if bytes.len() != usize::from(length) || bytes.len() > all.len() {
            return Err(self.error("a whole number has more than 8 bytes"));
        }
        all[..bytes.len()].copy_from_slice(bytes);
        self.tape.skip(length.into())?;
        self.push(Value::Int(i64::from_le_bytes(all)))
    }

    fn push(&mut self, value: Value) -> Result<(), Error> {
        if self.values.len() >= MOST_VALUES {
            return Err(self.error(format!("it has more than {MOST_VALUES} values")));
        }
        self.text += match &value {
            Value::Bytes(text) | Value::Type(text) => text.len(),
            Value::Global(name) => name.len(),
            _ => 0,
        };
        if self.text > MOST_TEXT {
            return Err(self.error(format!("its texts have more than {MOST_TEXT} bytes")));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, Error> {
        let lowest = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= lowest {
            return Err(self.error("a value is missing"));
        }
        self.stack.pop().ok_or_else(|| self.error("a value is missing"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<usize>, Error> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<usize>, Error> {
        let mark = self.marks.pop().ok_or_else(|| self.error("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Value, Error> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(&mut self.values[top])
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), Error> {
        match self.top()? {
            Value::List(all) => all.extend(items),
            _ => return Err(self.error("only a list takes items")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[usize]) -> Result<(), Error> {
        match self.top()? {
            Value::Dict(all) => all.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.error("only a dictionary takes entries")),
        }
        Ok(())
    }

    fn put(&mut self, place: u64) -> Result<(), Error> {
        let top = self.pop()?;
        self.stack.push(top);
        if self.memo.len() >= MOST_VALUES {
            return Err(self.error(format!("it keeps more than {MOST_VALUES} values")));
        }
        self.memo.insert(place, top);
        Ok(())
    }

    fn get(&mut self, place: u64) -> Result<(), Error> {
        let kept = self.memo.get(&place).copied().ok_or_else(|| self.error("a value was never kept"))?;
        if self.stack.len() >= MOST_VALUES {
            return Err(self.error(format!("it has more than {MOST_VALUES} values")));
        }
        self.stack.push(kept);
        Ok(())
    }

    /// The values of a tuple; none if there are more than anything known has.
    fn tuple(&self, place: usize) -> Option<Vec<&Value>> {
        match &self.values[place] {
            Value::Tuple(items) if items.len() <= MOST_ITEMS => Some(items.iter().map(|&item| &self.values[item]).collect()),
            _ => None,
        }
    }

    /// What a known function makes of its arguments.
    fn call(&mut self) -> Result<(), Error> {
        let places = self.pop_many(2)?;
        let Value::Global(name) = &self.values[places[0]] else { return Err(self.error("only functions are called")) };
        let wrong = |name: &str| self.error(format!("`{name}` has arguments that are not known"));
        let arguments = self.tuple(places[1]).ok_or_else(|| wrong(name))?;
        let made = match (name.as_str(), &arguments[..]) {
            ("numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct", _) => Value::Array(None),
            ("numpy dtype", [Value::Bytes(kind), ..]) => Value::Type(kind.clone()),
            // Python 3 writes bytes so for Python 2: as text.
            ("_codecs encode", [Value::Bytes(text), Value::Bytes(latin)]) if latin == b"latin1" => {
                let text = String::from_utf8_lossy(text);
                Value::Bytes(text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect())
            }
            ("_codecs encode", [Value::FarText, ..]) => Value::FarText,
            (
                "numpy.core.numeric _frombuffer" | "numpy._core.numeric _frombuffer",
                [data, Value::Type(kind), Value::Tuple(shape), Value::Bytes(order)],
            ) => Value::Array(Some(self.array(data, kind, shape, order == b"C")?)),
            ("numpy dtype" | "_codecs encode", _) => return Err(wrong(name)),
            _ => return Err(self.error(format!("it names `{name}`, which CIFAR's files do not"))),
        };
        self.push(made)
    }

    /// Sets the state of an array or of a type.
    fn build(&mut self) -> Result<(), Error> {
        let state = self.pop()?;
        let top = self.pop()?;
        self.stack.push(top);
        match &self.values[top] {
            Value::Array(None) => {
                let array = match self.tuple(state).as_deref() {
                    Some([_, Value::Tuple(shape), Value::Type(kind), Value::Bool(by_columns), data]) => {
                        self.array(data, kind, shape, !by_columns)?
                    }
                    _ => return Err(self.error("an array has a state that is not known")),
                };
                self.values[top] = Value::Array(Some(array));
                Ok(())
            }
            // It says in which order the bytes of an item come, and an item has one.
            Value::Type(_) => Ok(()),
            _ => Err(self.error("only arrays are built")),
        }
    }

    fn array(&self, data: &Value, kind: &[u8], shape: &[usize], by_rows: bool) -> Result<Array, Error> {
        let kind_of = String::from_utf8_lossy(kind);
        if !matches!(kind, b"u1" | b"|u1" | b"B" | b"uint8") || !by_rows {
            let order = if by_rows { "by rows" } else { "by columns" };
            return Err(self.error(format!("an array has items `{kind_of}` {order}; known are `u1` by rows")));
        }
        if shape.len() > MOST_ITEMS {
            return Err(self.error(format!("an array has {} sides, and {MOST_ITEMS} are the most", shape.len())));
        }
        let side = |&place: &usize| match self.values[place] {
            Value::Int(side) => u64::try_from(side).ok(),
            _ => None,
        };
        let shape: Option<Vec<u64>> = shape.iter().map(side).collect();
        let shape = shape.ok_or_else(|| self.error("an array has sides that are no numbers"))?;
        let product = shape.iter().try_fold(1_u64, |all, side| all.checked_mul(*side));
        match data {
            Value::Far { offset, length } if product == Some(*length) => Ok(Array { offset: *offset, shape }),
            Value::FarText => Err(self.error(
                "an array's bytes are kept as text, as Python 3 does for Python 2: write it with protocol 3 or later",
            )),
            Value::Far { length, .. } => Err(self.error(format!("an array of {shape:?} bytes has {length}"))),
            _ => Err(self.error(format!("an array has no more than {FAR} bytes"))),
        }
    }
}
