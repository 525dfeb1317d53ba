//! The stack machine whose program a pickle is.

use std::collections::HashMap;
use std::path::Path;

use super::{FAR, MOST_OPERATIONS, MOST_TEXT, MOST_VALUES, Object, Program, Value};
use crate::Error;

/// A machine at some place of its program.
pub struct Machine<'a, P> {
    program: P,
    path: &'a Path,
    /// All values that were made; others name them by their places.
    pub values: Vec<Value>,
    /// Bytes of their texts.
    text: usize,
    stack: Vec<usize>,
    /// Heights of the stack.
    marks: Vec<usize>,
    /// What `PUT` keeps for `GET`.
    memo: HashMap<u64, usize>,
}

impl<'a, P: Program> Machine<'a, P> {
    /// A machine at the beginning of a program.
    pub fn new(program: P, path: &'a Path) -> Self {
        let (values, stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        Self { program, path, values, text: 0, stack, marks, memo }
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        let at = self.program.at();
        Error::format(self.path, format!("its pickle cannot be read at byte {at}: {message}"))
    }

    /// Runs the program. Returns the place of what it makes.
    ///
    /// # Errors
    /// The program cannot be read, or does what is not known.
    pub fn run(&mut self) -> Result<usize, Error> {
        for _ in 0..MOST_OPERATIONS {
            let [code] = self.take()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
        Err(self.error(format!("it has more than {MOST_OPERATIONS} operations")))
    }

    fn step(&mut self, code: u8) -> Result<(), Error> {
        match code {
            // PROTO, FRAME: what they say changes nothing.
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
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
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                let number = f64::from_be_bytes(self.take()?);
                self.push(Value::Float(number))?;
            }
            // Strings, by the bytes of their lengths. Python 2's may be text or bytes.
            b'U' | b'C' => self.string(1, false)?,
            b'T' | b'B' => self.string(4, false)?,
            0x8e | 0x96 => self.string(8, false)?,
            0x8c => self.string(1, true)?,
            b'X' => self.string(4, true)?,
            0x8d => self.string(8, true)?,
            // EMPTY_LIST, EMPTY_SET.
            b']' | 0x8f => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(items))?;
            }
            // TUPLE, FROZENSET.
            b't' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            // APPENDS, ADDITEMS.
            b'e' | 0x90 => {
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
            // REDUCE, NEWOBJ.
            b'R' | 0x81 => {
                let call = self.pop_many(2)?;
                self.call(call[0], call[1])?;
            }
            // NEWOBJ_EX, whose last arguments have names.
            0x92 => {
                let call = self.pop_many(3)?;
                self.call(call[0], call[1])?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let name = self.pop()?;
                self.push(Value::Persistent(name))?;
            }
            _ => return Err(self.error(format!("operation {code:#04x} is not one of protocols 2 to 5"))),
        }
        Ok(())
    }

    /// The next bytes of the program.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let found = self.program.look(N as u64)?.try_into().ok();
        let bytes: [u8; N] = found.ok_or_else(|| self.error("the file ends"))?;
        self.program.skip(N as u64)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Error> {
        let front = self.program.look(256)?;
        let is_last = front.len() < 256;
        let end = front.iter().position(|&byte| byte == b'\n');
        let line = end.map(|end| String::from_utf8_lossy(&front[..end]).into_owned());
        let line = line.ok_or_else(|| self.error(if is_last { "the file ends" } else { "a name is too long" }))?;
        self.program.skip(end.map_or(0, |end| end as u64 + 1))?;
        Ok(line)
    }

    /// A length, which has so many bytes.
    fn length(&mut self, width: u64) -> Result<u64, Error> {
        let front = self.program.look(width)?;
        if (front.len() as u64) < width {
            return Err(self.error("the file ends"));
        }
        let length = front.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        self.program.skip(width)?;
        Ok(length)
    }

    fn string(&mut self, width: u64, is_text: bool) -> Result<(), Error> {
        let length = self.length(width)?;
        let offset = self.program.at();
        let value = match (length > FAR, is_text) {
            (true, true) => Value::FarText,
            (true, false) => Value::Far { offset, length },
            (false, _) => Value::Bytes(self.program.look(length)?.to_vec()),
        };
        if !self.program.skip(length)? {
            return Err(self.error(format!("the file ends within a string of {length} bytes")));
        }
        self.push(value)
    }

    /// A whole number, whose length has so many bytes.
    fn long(&mut self, width: u64) -> Result<(), Error> {
        let length = self.length(width)?;
        let bytes = self.program.look(length.min(9))?;
        let mut all = [if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 }; 8];
        let value = match all.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(all))
            }
            None => Value::Huge,
        };
        if !self.program.skip(length)? {
            return Err(self.error("the file ends"));
        }
        self.push(value)
    }

    fn push(&mut self, value: Value) -> Result<(), Error> {
        if self.values.len() >= MOST_VALUES {
            return Err(self.error(format!("it has more than {MOST_VALUES} values")));
        }
        self.text += match &value {
            Value::Bytes(text) => text.len(),
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

    fn top(&mut self) -> Result<usize, Error> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), Error> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(all) => all.extend(items),
            Value::Object(object) => object.items.extend(items),
            _ => return Err(self.error("only a list takes items")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[usize]) -> Result<(), Error> {
        let top = self.top()?;
        let all = match &mut self.values[top] {
            Value::Dict(all) => all,
            Value::Object(object) => &mut object.entries,
            _ => return Err(self.error("only a dictionary takes entries")),
        };
        all.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn put(&mut self, place: u64) -> Result<(), Error> {
        let top = self.top()?;
        self.memo.insert(place, top);
        if self.memo.len() > MOST_VALUES {
            return Err(self.error(format!("it keeps more than {MOST_VALUES} values")));
        }
        Ok(())
    }

    fn get(&mut self, place: u64) -> Result<(), Error> {
        let kept = self.memo.get(&place).copied().ok_or_else(|| self.error("a value was never kept"))?;
        self.stack.push(kept);
        Ok(())
    }

    /// What would be made by a call.
    fn call(&mut self, maker: usize, arguments: usize) -> Result<(), Error> {
        let object = Object { maker, arguments, state: None, items: Vec::new(), entries: Vec::new() };
        self.push(Value::Object(Box::new(object)))
    }

    /// Tells an object its state.
    fn build(&mut self) -> Result<(), Error> {
        let state = self.pop()?;
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Object(object) => object.state = Some(state),
            _ => return Err(self.error("only an object has a state")),
        }
        Ok(())
    }
}
