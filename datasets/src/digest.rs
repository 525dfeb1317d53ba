//! What a file's bytes hash to.

use std::fmt;
use std::io;

/// How the digest of a file begins that could not be read.
pub const UNREADABLE: &str = "unreadable: ";
/// Bytes of a hash.
const BYTES: usize = 16;

/// The hash of a file's bytes; or, if they could not be read, why. Tables, keys and listings have it as a text: 32 hexadecimal digits, or
/// `unreadable: permission denied`. The default one is empty: the file was not looked at yet.
///
/// Data sets have millions of files: a hash takes no memory beyond the value itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileDigest(Kept);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kept {
    /// A text of 32 hexadecimal digits in lower case is always kept so: equal texts are equal values.
    Hash([u8; BYTES]),
    Text(Box<str>),
}

impl FileDigest {
    /// Digits of a hash as text.
    pub const DIGITS: usize = 2 * BYTES;

    /// The first 128 bits of a hash.
    pub fn of(hash: &blake3::Hash) -> Self {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&hash.as_bytes()[..BYTES]);
        bytes.into()
    }

    /// The digest of a file that could not be read, and why it could not.
    pub fn unreadable(why: io::ErrorKind) -> Self {
        Self(Kept::Text(format!("{UNREADABLE}{why}").into()))
    }

    /// Whether the file was looked at, and could be read or not.
    pub fn is_known(&self) -> bool {
        !matches!(&self.0, Kept::Text(text) if text.is_empty())
    }

    /// Whether the file could not be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(&self.0, Kept::Text(text) if text.starts_with(UNREADABLE))
    }

    /// The hash, if it is one.
    pub fn hash(&self) -> Option<&[u8; BYTES]> {
        match &self.0 {
            Kept::Hash(bytes) => Some(bytes),
            Kept::Text(_) => None,
        }
    }

    /// As text. Digits are written to the buffer that is given.
    pub fn text<'a>(&'a self, digits: &'a mut [u8; Self::DIGITS]) -> &'a str {
        match &self.0 {
            Kept::Text(text) => text,
            Kept::Hash(bytes) => {
                for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                    pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                }
                str::from_utf8(digits).unwrap_or_default()
            }
        }
    }
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 15)]
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The bytes that 32 digits stand for.
fn parsed(text: &str) -> Option<[u8; BYTES]> {
    let digits: &[u8; FileDigest::DIGITS] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

impl From<[u8; BYTES]> for FileDigest {
    fn from(hash: [u8; BYTES]) -> Self {
        Self(Kept::Hash(hash))
    }
}

impl From<&str> for FileDigest {
    fn from(text: &str) -> Self {
        Self(parsed(text).map_or_else(|| Kept::Text(text.into()), Kept::Hash))
    }
}

impl From<String> for FileDigest {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Default for FileDigest {
    fn default() -> Self {
        Self(Kept::Text(Box::default()))
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut [0; Self::DIGITS]))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(&mut [0; Self::DIGITS]), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_stays_what_it_is() {
        let hash = blake3::hash(b"bytes");
        let digits = hash.to_hex()[..32].to_owned();
        let upper = digits.to_uppercase();
        let long = format!("{digits}0");
        let odd = format!("{}g", &digits[1..]);
        for text in [&digits, &upper, &long, &odd, &digits[1..], "", "d", "unreadable: not found", &"é".repeat(16)] {
            assert_eq!(FileDigest::from(text).to_string(), text);
            assert_eq!(FileDigest::from(text).hash().is_some(), text == digits, "{text}");
            assert_eq!(FileDigest::from(text).is_known(), !text.is_empty());
        }
        assert_eq!(FileDigest::of(&hash), FileDigest::from(digits.as_str()));
        assert_eq!(FileDigest::from(*FileDigest::of(&hash).hash().unwrap()).to_string(), digits);
        assert_eq!(format!("{:?}", FileDigest::from(digits.as_str())), format!("{digits:?}"));
    }

    #[test]
    fn what_could_not_be_read_says_why() {
        let digest = FileDigest::unreadable(io::ErrorKind::NotFound);
        assert_eq!(digest.to_string(), "unreadable: entity not found");
        assert!(digest.is_unreadable() && digest.is_known() && !FileDigest::default().is_unreadable());
    }

    #[test]
    fn a_digest_is_small() {
        assert_eq!(size_of::<FileDigest>(), 24);
    }
}
