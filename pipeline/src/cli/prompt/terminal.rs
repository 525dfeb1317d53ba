//! The terminal, key by key.

use std::io::{self, Read};
use std::mem::MaybeUninit;

/// The terminal without its own line editing and without signals of its keys, until dropped.
pub struct Raw(libc::termios);

impl Raw {
    /// Takes the terminal at standard input.
    ///
    /// # Errors
    /// It is none.
    pub fn enter() -> io::Result<Self> {
        let mut found = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the pointer is to memory for one `termios`, which the call fills if it succeeds.
        let before = unsafe {
            if libc::tcgetattr(libc::STDIN_FILENO, found.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            found.assume_init()
        };
        let mut raw = before;
        // SAFETY: the pointer is to a `termios` of our own.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // A line end on the way out still begins a new line at its beginning.
        raw.c_oflag = before.c_oflag;
        set(&raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        let _ = set(&self.0);
    }
}

fn set(attributes: &libc::termios) -> io::Result<()> {
    // SAFETY: the pointer is to a `termios` that is only read. DRAIN keeps what was typed ahead.
    let done = unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, attributes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character to insert.
    Char(char),
    /// Ends the line.
    Enter,
    /// Completes.
    Tab,
    /// Deletes before the cursor.
    Backspace,
    /// Deletes at the cursor.
    Delete,
    /// One character, or with `word` one word.
    Left { word: bool },
    /// One character, or with `word` one word.
    Right { word: bool },
    /// To the earlier line.
    Up,
    /// To the later line.
    Down,
    /// To the line's beginning.
    Home,
    /// To the line's end.
    End,
    /// Cuts from the cursor to the end.
    CutEnd,
    /// Cuts from the beginning to the cursor.
    CutStart,
    /// Cuts the word before the cursor.
    CutWord,
    /// Puts in what was cut.
    Paste,
    /// Clears the screen.
    Clear,
    /// ^C.
    Interrupt,
    /// ^D.
    EndOfInput,
    /// Anything else.
    Other,
}

/// Reads one key; none at the input's end. An escape waits for what it begins.
///
/// # Errors
/// The input cannot be read.
pub fn key(input: &mut impl Read) -> io::Result<Option<Key>> {
    let Some(first) = byte(input)? else { return Ok(None) };
    Ok(Some(match first {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x01 => Key::Home,
        0x02 => Key::Left { word: false },
        0x03 => Key::Interrupt,
        0x04 => Key::EndOfInput,
        0x05 => Key::End,
        0x06 => Key::Right { word: false },
        0x0b => Key::CutEnd,
        0x0c => Key::Clear,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x15 => Key::CutStart,
        0x17 => Key::CutWord,
        0x19 => Key::Paste,
        0x1b => escape(input)?,
        0..0x20 => Key::Other,
        first => character(first, input)?,
    }))
}

fn byte(input: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn character(first: u8, input: &mut impl Read) -> io::Result<Key> {
    let more = match first {
        0xc0..0xe0 => 1,
        0xe0..0xf0 => 2,
        0xf0..0xf8 => 3,
        _ => 0,
    };
    let mut bytes = vec![first];
    for _ in 0..more {
        bytes.extend(byte(input)?);
    }
    Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next()).map_or(Key::Other, Key::Char))
}

/// `ESC [ … letter`, `ESC O letter`, or a letter with Alt.
fn escape(input: &mut impl Read) -> io::Result<Key> {
    let Some(kind) = byte(input)? else { return Ok(Key::Other) };
    match kind {
        b'b' => return Ok(Key::Left { word: true }),
        b'f' => return Ok(Key::Right { word: true }),
        0x7f => return Ok(Key::CutWord),
        b'[' | b'O' => {}
        _ => return Ok(Key::Other),
    }
    let mut parameters = Vec::new();
    loop {
        let Some(byte) = byte(input)? else { return Ok(Key::Other) };
        if !(0x40..0x7f).contains(&byte) {
            parameters.push(byte);
            continue;
        }
        let word = parameters.ends_with(b";5") || parameters.ends_with(b";3");
        return Ok(match (byte, &parameters[..]) {
            (b'A', _) => Key::Up,
            (b'B', _) => Key::Down,
            (b'C', _) => Key::Right { word },
            (b'D', _) => Key::Left { word },
            (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
            (b'F', _) | (b'~', b"4" | b"8") => Key::End,
            (b'~', b"3") => Key::Delete,
            _ => Key::Other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let mut input = &b"a\xc3\xa9\x1b[A\x1b[1;5D\x1b[3~\x1bOH\x1bf\x1b[200~\x01\x03\x04\r"[..];
        let keys: Vec<Key> = std::iter::from_fn(|| key(&mut input).unwrap()).collect();
        let expected = [
            Key::Char('a'),
            Key::Char('é'),
            Key::Up,
            Key::Left { word: true },
            Key::Delete,
            Key::Home,
            Key::Right { word: true },
            Key::Other,
            Key::Home,
            Key::Interrupt,
            Key::EndOfInput,
            Key::Enter,
        ];
        assert_eq!(keys, expected);
    }
}
