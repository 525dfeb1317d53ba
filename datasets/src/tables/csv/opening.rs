//! What a CSV file's first bytes decide: its encoding, its separator and its columns' names.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

use super::super::raw::Raw;
use super::records::{Record, Records};
use super::{CsvOptions, values};
use crate::Error;

/// Bytes in which the separator is looked for.
const SAMPLE_BYTES: usize = 64 << 10;
/// Rows in which the separator is looked for.
const SAMPLE_ROWS: usize = 100;
/// Values that a row may have: those of a vector, a column each, may be many.
const MOST_VALUES: usize = 1 << 20;
/// What may be a separator without being named, the likelier first.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Bytes that are read at once of a compressed file.
const BUFFER_BYTES: usize = 1 << 20;

/// What other files begin with, and what to do about them.
const STRANGERS: [(&[u8], &str); 4] = [
    (b"\xff\xfe", "is UTF-16 text, and UTF-8 can be read: convert it (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "is UTF-16 text, and UTF-8 can be read: convert it (iconv -f UTF-16 -t UTF-8)"),
    (b"\x1f\x8b", "is compressed by gzip: let its name end in .csv.gz or .tsv.gz"),
    (b"PK\x03\x04", "is a ZIP archive, as Excel's workbooks are: save the sheet as CSV"),
];

/// A CSV file at its first row of values.
pub struct Opened<'a> {
    pub records: Records<'a>,
    /// The columns' names. A column without one has its place as name, `column_3`.
    pub names: Vec<String>,
    /// Whether the last column has no name: then it may only be what a separator at each line's end makes.
    pub is_last_nameless: bool,
    /// The first row: where the names are, or the number of columns is decided.
    first_line: u64,
    has_names: bool,
}

impl<'a> Opened<'a> {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be read, is empty or is no UTF-8 text; or it is open to doubt whether its first row has names.
    pub fn new(raw: Raw<'a>, options: &CsvOptions) -> Result<Self, Error> {
        let name = raw.path.to_string_lossy().to_ascii_lowercase();
        let (name, is_compressed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |name| (name, true));
        let mut input: Box<dyn Read + 'a> = if is_compressed {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw.buffered())))
        } else {
            Box::new(raw.stream())
        };
        let mut sample = Vec::new();
        input.by_ref().take(SAMPLE_BYTES as u64).read_to_end(&mut sample).map_err(|error| Error::io(raw.path, error))?;
        if let Some((_, what)) = STRANGERS.iter().find(|(start, _)| sample.starts_with(start)) {
            return Err(raw.error(what));
        }
        let is_whole = sample.len() < SAMPLE_BYTES;
        let mut start = if sample.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut line = 1;
        let declared = declared(&sample[start..]);
        if let Some((_, length)) = declared {
            start += length;
            line += 1;
        }
        let separator = match (options.separator, declared) {
            (Some(separator), _) | (None, Some((separator, _))) => separator,
            (None, None) if name.ends_with(".tsv") => b'\t',
            (None, None) => separator(raw, &sample[start..], is_whole),
        };
        let mut sample = Cursor::new(sample);
        sample.set_position(start as u64);
        let records = Records::new(raw, Box::new(sample.chain(input)), separator, line);
        Self::with_names(raw, records, options.header)
    }

    fn with_names(raw: Raw<'a>, mut records: Records<'a>, header: Option<bool>) -> Result<Self, Error> {
        let empty = || raw.error("is empty; the first line of a CSV file names its columns");
        let first = records.next()?.ok_or_else(empty)?;
        if first.len() > MOST_VALUES {
            let (line, values) = (first.line, first.len());
            return Err(raw.error(format!("line {line} has {values} values, and {MOST_VALUES} are the most that are read")));
        }
        let first_line = first.line;
        let by_place = |at: usize| format!("column_{}", at + 1);
        if header == Some(false) {
            let names = (0..first.len()).map(by_place).collect();
            records.hold();
            return Ok(Self { records, names, is_last_nameless: false, first_line, has_names: false });
        }
        if header.is_none() && first.values().all(values::is_number) {
            return Err(raw.error(format!(
                "line {first_line} should name the columns and has numbers alone: write `header = false` if it is a row, or \
                 `header = true` if they are names"
            )));
        }
        let names = first.values().enumerate().map(|(at, name)| match name.trim() {
            "" => by_place(at),
            name => name.to_owned(),
        });
        let names: Vec<String> = names.collect();
        let is_last_nameless = first.len() > 1 && first.value(first.len() - 1).trim().is_empty();
        Ok(Self { records, names, is_last_nameless, first_line, has_names: true })
    }

    /// The next row, which has a value for each column. One more is let pass if it is empty: some programs end each line with a
    /// separator.
    ///
    /// # Errors
    /// As [`Records::next`], or the row has another number of values.
    pub fn next(&mut self, raw: Raw<'_>) -> Result<Option<Record<'_>>, Error> {
        let width = self.names.len();
        let Some(row) = self.records.next()? else { return Ok(None) };
        if row.len() == width || row.len() == width + 1 && row.value(width).is_empty() {
            return Ok(Some(row));
        }
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let expected = if self.has_names {
            format!("line {} names {}", self.first_line, counted(width, "column"))
        } else {
            format!("line {} has {width}", self.first_line)
        };
        let found = counted(row.len(), "value");
        Err(raw.error(match row.more_lines {
            0 => format!("line {} has {found}, and {expected}", row.line),
            more => format!(
                "the row of lines {} to {} has {found}, and {expected}; a quoted value there goes over several lines, so a quote \
                 may be missing or be too much",
                row.line,
                row.line + more
            ),
        }))
    }
}

/// The separator that the first line declares for Excel, `sep=;`, and the line's length.
fn declared(text: &[u8]) -> Option<(u8, usize)> {
    let rest = text.strip_prefix(b"sep=")?;
    let (&separator, rest) = rest.split_first()?;
    let end = if rest.starts_with(b"\r\n") {
        2
    } else if rest.starts_with(b"\n") || rest.starts_with(b"\r") {
        1
    } else {
        return None;
    };
    Some((separator, b"sep=".len() + 1 + end))
}

/// The separator by which all first rows have equally many values, and the most; else the one that the first row has most of.
/// A comma, if there is none.
fn separator(raw: Raw<'_>, sample: &[u8], is_whole: bool) -> u8 {
    let mut counts = BTreeMap::new();
    for separator in SEPARATORS {
        let mut records = Records::new(raw, Box::new(sample), separator, 1);
        let mut widths = Vec::new();
        let is_sound = loop {
            match records.next() {
                Ok(Some(row)) => widths.push(row.len()),
                Ok(None) => break true,
                // The sample may end within quotes, or within a character.
                Err(_) => break !is_whole && records.is_at_end(),
            }
            if widths.len() == SAMPLE_ROWS {
                break true;
            }
            if records.is_at_end() && !is_whole {
                // The sample cuts this row off.
                widths.truncate((widths.len() - 1).max(1));
                break true;
            }
        };
        let first = widths.first().copied().unwrap_or(1);
        counts.insert(separator, (first, is_sound && widths.iter().all(|&width| width == first)));
    }
    let most = |only_even: bool| {
        let known = SEPARATORS.into_iter().filter(|separator| counts[separator].1 || !only_even);
        // Of equals, the last is the maximum.
        known.filter(|separator| counts[separator].0 > 1).rev().max_by_key(|separator| counts[separator].0)
    };
    most(true).or_else(|| most(false)).unwrap_or(b',')
}
