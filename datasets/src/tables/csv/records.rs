//! The rows of a CSV file, one at a time, as texts.
//!
//! Lines end in `\n`, `\r\n` or `\r`. A value that begins with a quote ends at the next quote that is not doubled, and may hold
//! separators and line ends. Blank lines are no rows. Widespread readers, the `csv` crate among them, accept what cannot be meant: a quote
//! that nothing closes, text behind a closing quote. This one refuses it and names the line, and so is our own.
//!
//! Reference: RFC 4180, "Common format and MIME type for comma-separated values (CSV) files".

use std::io::{ErrorKind, Read};

use memchr::{memchr, memchr_iter, memchr3};

use super::super::raw::Raw;
use crate::Error;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that a row may have. A quote that nothing closes must not fill the memory.
const LONGEST_ROW_BYTES: usize = 64 << 20;

/// A file at one of its rows.
pub struct Records<'a> {
    raw: Raw<'a>,
    input: Box<dyn Read + 'a>,
    separator: u8,
    buffer: Vec<u8>,
    /// Where the next row begins in the buffer.
    next: usize,
    /// Where the bytes in the buffer end.
    end: usize,
    /// Whether the buffer's end is the file's.
    is_last: bool,
    /// The line that the next row begins in, counted from 1.
    line: u64,
    /// Where the last row lies in the buffer, the line it begins in, and how many more lines it has.
    row: (usize, usize),
    row_line: u64,
    more_lines: u64,
    /// The values' places in the row.
    values: Vec<(usize, usize)>,
    held: bool,
}

/// A row.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    text: &'a str,
    values: &'a [(usize, usize)],
    /// The line that it begins in, counted from 1.
    pub line: u64,
    /// How many line ends its values hold.
    pub more_lines: u64,
}

/// What the bytes in the buffer are.
enum Found {
    /// A row, where it ends and where the next one begins.
    Row(usize, usize),
    /// Only a part of a row; the line of the quote that is open there.
    Part(Option<u64>),
}

impl<'a> Record<'a> {
    /// How many values it has.
    pub fn len(self) -> usize {
        self.values.len()
    }

    /// A value's text, without quotes.
    pub fn value(self, at: usize) -> &'a str {
        let (start, end) = self.values[at];
        &self.text[start..end]
    }

    /// All values.
    pub fn values(self) -> impl Iterator<Item = &'a str> {
        self.values.iter().map(move |&(start, end)| &self.text[start..end])
    }
}

impl<'a> Records<'a> {
    /// The rows of a stream that begins in that line of the file.
    pub fn new(raw: Raw<'a>, input: Box<dyn Read + 'a>, separator: u8, line: u64) -> Self {
        Self {
            raw,
            input,
            separator,
            buffer: Vec::new(),
            next: 0,
            end: 0,
            is_last: false,
            line,
            row: (0, 0),
            row_line: line,
            more_lines: 0,
            values: Vec::new(),
            held: false,
        }
    }

    /// The next row.
    ///
    /// # Errors
    /// The file cannot be read, a quote is not closed or stands where it cannot, or the row is not UTF-8 text.
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        if !self.held && !self.advance()? {
            return Ok(None);
        }
        self.held = false;
        let (start, end) = self.row;
        // `advance` has checked it.
        let text = str::from_utf8(&self.buffer[start..end]).map_err(|error| self.raw.error(error))?;
        Ok(Some(Record { text, values: &self.values, line: self.row_line, more_lines: self.more_lines }))
    }

    /// Makes `next` yield the last row once more.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Whether the last row, or the one with the error, ends where the stream does.
    pub fn is_at_end(&self) -> bool {
        self.is_last && self.next == self.end
    }

    /// Goes to the next row, if there is one.
    pub fn advance(&mut self) -> Result<bool, Error> {
        loop {
            if self.next == self.end && self.is_last {
                return Ok(false);
            }
            let (end, next) = match self.split()? {
                Found::Part(open) => {
                    self.fill(open)?;
                    continue;
                }
                Found::Row(end, next) => (end, next),
            };
            self.row = (self.next, end);
            self.row_line = self.line;
            self.line += 1 + self.more_lines;
            let is_blank = end == self.next;
            self.next = next;
            if !is_blank {
                self.check()?;
                return Ok(true);
            }
        }
    }

    /// Finds the next row's values.
    fn split(&mut self) -> Result<Found, Error> {
        self.values.clear();
        self.more_lines = 0;
        let bytes = &self.buffer[self.next..self.end];
        let mut at = 0;
        loop {
            let start = at;
            if bytes.get(at) == Some(&b'"') {
                let line = self.line + self.more_lines;
                let mut from = at + 1;
                let mut is_doubled = false;
                let close = loop {
                    let Some(quote) = memchr(b'"', &bytes[from..]).map(|quote| from + quote) else {
                        if self.is_last {
                            self.next = self.end;
                            return Err(self.unclosed(line, "is not closed before the file ends"));
                        }
                        return Ok(Found::Part(Some(line)));
                    };
                    match bytes.get(quote + 1) {
                        Some(b'"') => (is_doubled, from) = (true, quote + 2),
                        None if !self.is_last => return Ok(Found::Part(Some(line))),
                        _ => break quote,
                    }
                };
                self.more_lines += line_ends(&bytes[start..close]);
                // `check` sees by the quote that the value has doubled ones: no other value begins with a quote.
                self.values.push((if is_doubled { start } else { start + 1 }, close));
                at = close + 1;
            } else {
                match memchr3(self.separator, b'\n', b'\r', &bytes[at..]) {
                    Some(length) => at += length,
                    None if self.is_last => at = bytes.len(),
                    None => return Ok(Found::Part(None)),
                }
                self.values.push((start, at));
            }
            match bytes.get(at) {
                None if self.is_last => return Ok(Found::Row(self.end, self.end)),
                None => return Ok(Found::Part(None)),
                Some(b'\n') => return Ok(Found::Row(self.next + at, self.next + at + 1)),
                Some(b'\r') => match bytes.get(at + 1) {
                    Some(b'\n') => return Ok(Found::Row(self.next + at, self.next + at + 2)),
                    None if !self.is_last => return Ok(Found::Part(None)),
                    _ => return Ok(Found::Row(self.next + at, self.next + at + 1)),
                },
                Some(&byte) if byte == self.separator => at += 1,
                Some(_) => {
                    let (line, opened) =
                        (self.line + self.more_lines, self.line + self.more_lines - line_ends(&bytes[start..at]));
                    let opened = if line == opened { String::new() } else { format!(", which opens in line {opened},") };
                    return Err(self.raw.error(format!(
                        "line {line}: text follows the closing quote of a value{opened} where a separator should be; quotes within \
                         a quoted value are doubled: \"a \"\"b\"\" c\""
                    )));
                }
            }
        }
    }

    /// Checks the row's bytes, and takes doubled quotes as one.
    fn check(&mut self) -> Result<(), Error> {
        let (start, end) = self.row;
        let row = &mut self.buffer[start..end];
        let at_line = |row: &[u8], byte: usize| self.row_line + line_ends(&row[..byte]);
        if let Err(error) = str::from_utf8(row) {
            let (line, byte) = (at_line(row, error.valid_up_to()), row[error.valid_up_to()]);
            return Err(self.raw.error(format!(
                "line {line}: the byte 0x{byte:02x} is not UTF-8 text; if the file is Latin-1, as Windows and Excel write it, convert \
                 it: iconv -f WINDOWS-1252 -t UTF-8"
            )));
        }
        if let Some(byte) = memchr(0, row) {
            let line = at_line(row, byte);
            return Err(self.raw.error(format!(
                "line {line}: has a NUL byte, and text has none; if the file is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8"
            )));
        }
        for value in &mut self.values {
            let bytes = &row[value.0..value.1];
            match bytes.first() {
                Some(b'"') => *value = undouble(row, *value),
                Some(b' ') if bytes.trim_ascii_start().first() == Some(&b'"') => {
                    return Err(self.raw.error(format!(
                        "line {}: a space comes before a value's opening quote; drop it, or put the space into the quotes",
                        self.row_line
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn unclosed(&self, line: u64, what: &str) -> Error {
        self.raw.error(format!("line {line}: the quote that opens a value there {what}"))
    }

    /// Reads more bytes behind those that are left; `open` is the line of an open quote.
    fn fill(&mut self, open: Option<u64>) -> Result<(), Error> {
        self.buffer.copy_within(self.next..self.end, 0);
        (self.next, self.end) = (0, self.end - self.next);
        if self.end >= LONGEST_ROW_BYTES {
            let most = LONGEST_ROW_BYTES >> 20;
            return Err(match open {
                Some(line) => self.unclosed(line, &format!("is not closed within {most} MiB")),
                None => self.raw.error(format!("line {}: is longer than {most} MiB", self.line)),
            });
        }
        if self.end == self.buffer.len() {
            self.buffer.resize((2 * self.end).max(CHUNK_BYTES), 0);
        }
        while self.end < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.is_last = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(self.raw.path, error)),
            }
        }
        Ok(())
    }
}

/// The place of a quoted value whose doubled quotes have become one; it begins with its own quote.
fn undouble(row: &mut [u8], (start, end): (usize, usize)) -> (usize, usize) {
    let (mut from, mut to) = (start + 1, start + 1);
    while from < end {
        row[to] = row[from];
        from += if row[from] == b'"' { 2 } else { 1 };
        to += 1;
    }
    // What is left over could be a part of a character.
    row[to..end].fill(b' ');
    (start + 1, to)
}

/// How many lines end in those bytes.
pub fn line_ends(bytes: &[u8]) -> u64 {
    let returns = memchr_iter(b'\r', bytes).filter(|&at| bytes.get(at + 1) != Some(&b'\n'));
    (memchr_iter(b'\n', bytes).count() + returns.count()) as u64
}
