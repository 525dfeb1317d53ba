//! What a value's text can be, and which type has all values of a column.
//!
//! | values of the column | type |
//! | --- | --- |
//! | whole numbers that 64 bits hold: `0`, `-12` | Int64 |
//! | numbers: `0.5`, `.5`, `1e5`, `NaN`, `-inf`, and whole numbers that a float holds exactly | Float64 |
//! | `true` and `false`, also `True` or `TRUE` | Boolean |
//! | lists of numbers of one length, of which one has a fraction: `[0.5, 1.0]` | vector of f32 |
//! | all else | Utf8 |
//!
//! A value that is empty, quoted or not, is null; no word is. What would change as a number stays text: `007`, `+49`, `1,234`, `1,5`, and
//! whole numbers beyond 64 bits. So do dates. Quotes do not matter: programs put them around everything. Spaces around numbers do
//! not either.

use tessera_schemas::printable;

/// Whole numbers that f32 holds exactly reach to here.
const EXACT_F32: u64 = 1 << 24;
/// Whole numbers that f64 holds exactly reach to here.
const EXACT_F64: u64 = 1 << 53;
/// Floats that are words, as Rust, Python, R, C and JavaScript write them.
const NOT_FINITE: [&str; 9] = ["NaN", "nan", "-nan", "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity"];
const BOOLS: [&str; 6] = ["true", "false", "True", "False", "TRUE", "FALSE"];
/// Characters of a value that an error shows.
const SHOWN_CHARS: usize = 60;

/// A type that a column is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnType {
    /// `"text"`: as it is written.
    Text,
    /// `"int"`: whole numbers of 64 bits; `007` is 7.
    Int,
    /// `"float"`: numbers of 64 bits.
    Float,
    /// `"bool"`: true or false in capitals or not, or 1 or 0.
    Bool,
    /// `"vector"`: f32 numbers, in one column as `[1.0, 2.0]` or in columns `NAME_0`, `NAME_1`, …
    Vector,
}

impl ColumnType {
    /// The types' names.
    pub const NAMES: [(&str, Self); 5] =
        [("text", Self::Text), ("int", Self::Int), ("float", Self::Float), ("bool", Self::Bool), ("vector", Self::Vector)];

    /// The type's name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for ColumnType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let known = Self::NAMES.map(|(known, _)| format!("\"{known}\"")).join(", ");
            format!("\"{}\" is no type of a column; known are {known}", printable(name))
        })
    }
}

/// Kinds of values, as a set of bits.
pub mod kind {
    /// A whole number that f32 holds.
    pub const SMALL: u8 = 1;
    /// A whole number that f64 holds, and f32 does not.
    pub const MIDDLE: u8 = 2;
    /// A whole number of 64 bits that no float holds for sure.
    pub const LARGE: u8 = 4;
    pub const FLOAT: u8 = 8;
    pub const BOOL: u8 = 16;
    /// A list of whole numbers.
    pub const WHOLE_LIST: u8 = 32;
    /// A list of numbers of which one has a fraction.
    pub const LIST: u8 = 64;
    pub const TEXT: u8 = 128;

    /// Any whole number.
    pub const WHOLE: u8 = SMALL | MIDDLE | LARGE;
}

/// The kind of a value that is not empty.
pub fn kind(text: &str) -> u8 {
    let text = text.trim_matches(' ');
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => number(text),
        Some(b'-' | b'N' | b'n' | b'i' | b'I') if NOT_FINITE.contains(&text) => kind::FLOAT,
        Some(b'-') => number(text),
        Some(b't' | b'f' | b'T' | b'F') if BOOLS.contains(&text) => kind::BOOL,
        Some(b'[') => list(text).map_or(kind::TEXT, |(_, kind)| kind),
        _ => kind::TEXT,
    }
}

/// Whether the text is a number, and would not change as one.
pub fn is_number(text: &str) -> bool {
    !text.is_empty() && kind(text) & (kind::WHOLE | kind::FLOAT) != 0
}

/// The kind of what may be a number.
fn number(text: &str) -> u8 {
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(unsigned);
    if whole > 1 && unsigned[0] == b'0' {
        return kind::TEXT;
    }
    let mut rest = &unsigned[whole..];
    if rest.is_empty() && whole > 0 {
        return match text.parse::<i64>() {
            Ok(value) if value.unsigned_abs() <= EXACT_F32 => kind::SMALL,
            Ok(value) if value.unsigned_abs() <= EXACT_F64 => kind::MIDDLE,
            Ok(_) => kind::LARGE,
            Err(_) => kind::TEXT,
        };
    }
    let mut some = whole;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        some += count;
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let count = digits(exponent);
        rest = if count > 0 { &exponent[count..] } else { rest };
    }
    if some > 0 && rest.is_empty() { kind::FLOAT } else { kind::TEXT }
}

/// A list's values as texts.
pub fn list_items(text: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = text.trim_matches(' ').strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split(',').map(|item| item.trim_matches(' ')))
}

/// How many numbers a list has, and its kind; none if it is no list of numbers.
pub fn list(text: &str) -> Option<(usize, u8)> {
    let (mut count, mut kinds) = (0, 0);
    for item in list_items(text)? {
        let item = kind_of_item(item);
        if item & (kind::WHOLE | kind::FLOAT) == 0 {
            return None;
        }
        kinds |= item;
        count += 1;
    }
    Some((count, if kinds & kind::FLOAT != 0 { kind::LIST } else { kind::WHOLE_LIST }))
}

fn kind_of_item(item: &str) -> u8 {
    if NOT_FINITE.contains(&item) { kind::FLOAT } else { number(item) }
}

/// A whole number.
///
/// # Errors
/// What it should be.
pub fn int(text: &str) -> Result<i64, &'static str> {
    let text = text.trim_matches(' ');
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "a whole number of 64 bits",
        _ => "a whole number",
    })
}

/// A number.
///
/// # Errors
/// What it should be.
pub fn float<F: std::str::FromStr>(text: &str) -> Result<F, &'static str> {
    text.trim_matches(' ').parse().map_err(|_| "a number")
}

/// A truth value.
///
/// # Errors
/// What it should be.
pub fn bool(text: &str) -> Result<bool, &'static str> {
    match text.trim_matches(' ') {
        "1" => Ok(true),
        "0" => Ok(false),
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("true or false"),
    }
}

/// A value as an error shows it.
pub fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", printable(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_values_kind_is_what_loses_nothing() {
        let cases: [(u8, &[&str]); 7] = [
            (kind::SMALL, &["0", "-0", "7", "-12", " 5 ", "16777216"]),
            (kind::MIDDLE, &["16777217", "-9007199254740992"]),
            (kind::LARGE, &["9007199254740993", "9223372036854775807", "-9223372036854775808"]),
            (kind::FLOAT, &["0.5", "-0.5", ".5", "5.", "1e5", "1E-5", "1.5e+300", "0e0", "NaN", "-inf", "Infinity", "-.5"]),
            (kind::BOOL, &["true", "False", "TRUE"]),
            (kind::LIST, &["[0.5]", "[1.0, 2]", "[1.0,-2e5, NaN]"]),
            (kind::WHOLE_LIST, &["[1,2]", "[0]"]),
        ];
        for (expected, texts) in cases {
            for text in texts {
                assert_eq!(kind(text), expected, "{text}");
            }
        }
        let texts = [
            "007",
            "-07",
            "00",
            "00.5",
            "+5",
            "9223372036854775808",
            "1,234",
            "1,5",
            "1e",
            "1e+",
            ".",
            "-",
            "-.",
            "e5",
            "1.2.3",
            "0x10",
            "1_000",
            "tRue",
            "t",
            "yes",
            "NA",
            "null",
            "None",
            "NAN",
            "infinity",
            "2024-01-31",
            "12:30",
            "[",
            "[]",
            "[ ]",
            "[1.0,]",
            "[1.0 2.0]",
            "[007.5]",
            "[\"a\"]",
            "[[1.0]]",
            "[1.0, null]",
            " ",
            "5\u{a0}",
            "٣",
        ];
        for text in texts {
            assert_eq!(kind(text), kind::TEXT, "{text}");
        }
    }

    #[test]
    fn every_number_can_be_parsed() {
        for text in
            ["0", "-0", ".5", "5.", "1e5", "1E-5", "-nan", "NaN", "inf", "-Inf", "Infinity", "-Infinity", " 5 ", "-.5e-7"]
        {
            assert!(float::<f64>(text).is_ok() && float::<f32>(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn types_have_names() {
        for (name, kind) in ColumnType::NAMES {
            assert_eq!((name.parse(), kind.name()), (Ok(kind), name));
        }
        let error = "Int64".parse::<ColumnType>().unwrap_err();
        assert_eq!(error, "\"Int64\" is no type of a column; known are \"text\", \"int\", \"float\", \"bool\", \"vector\"");
    }
}
