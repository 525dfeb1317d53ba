//! Lines to decisions; what is wrong with a line is said with its number.

use std::io;
use std::path::Path;

use tessera_schemas::printable;

use super::{Action, Decision, HEADER, IMAGE, MOST_BYTES, MOST_PARTS, Name, Names, Subject, field};
use crate::Error;

/// Faults that a message tells of one by one.
const TOLD: usize = 5;
/// Hexadecimal digits of a key.
const DIGITS: usize = 32;

impl Names {
    /// Reads a file; one that is not there says that nothing is named yet.
    ///
    /// # Errors
    /// It cannot be read, is no file, or a line of it is wrong.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let about = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            about => about.map_err(|error| Error::io(path, error))?,
        };
        if !about.is_file() {
            return Err(Error::format(path, "it is no file: names of clusters are lines of a text file"));
        }
        if about.len() > MOST_BYTES {
            return Err(Error::format(path, format!("it has {} bytes, and at most {MOST_BYTES} are read", about.len())));
        }
        Self::parse(path, &std::fs::read(path).map_err(|error| Error::io(path, error))?)
    }

    /// Reads the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    /// A line is wrong, or two lines decide differently about one subject.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Error::format(path, format!("line {line}: it is no UTF-8 text"))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let lines = (1..).zip(text.split('\n')).map(|(number, line)| (number, line.strip_suffix('\r').unwrap_or(line)));
        let mut lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let Some((number, header)) = lines.next() else { return Ok(Self::default()) };
        if header != HEADER {
            return Err(Error::format(path, format!("line {number}: it should be the header `{HEADER}`")));
        }
        let (mut decisions, mut numbers, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in lines {
            match decision(line) {
                Ok(decision) => {
                    decisions.push(decision);
                    numbers.push(number);
                }
                Err(fault) => faults.push(format!("line {number}: {fault}")),
            }
        }
        if !faults.is_empty() {
            let more = faults.len().saturating_sub(TOLD);
            faults.truncate(TOLD);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return Err(Error::format(path, faults.join("; ") + &more));
        }
        let said = |place: usize| (numbers[place], decisions[place].action.to_string());
        Self::new(decisions.iter().cloned()).map_err(|(one, other)| {
            let ((first, one), (second, two)) = (said(one), said(other));
            let subject = &decisions[other].subject;
            let message = format!("lines {first} and {second}: {subject} is {one} and {two}: keep one of the lines");
            Error::format(path, message)
        })
    }
}

/// What a line says.
fn decision(line: &str) -> Result<Decision, String> {
    if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| line.starts_with(mark)) {
        return Err("git left a conflict here: keep the lines that are right, and take its marks away".to_owned());
    }
    let fields = field::split(line)?;
    let [stage, key, subject, action, value, seen, by, at] = &fields[..] else {
        return Err(format!("{} fields, and a decision has 8: {HEADER}", fields.len()));
    };
    for (name, text) in [("clusters", stage), ("by", by)] {
        if printable(text) != **text || text.chars().count() > super::LONGEST {
            return Err(format!("`{name}` is no short text that can be seen: {}", printable(text)));
        }
    }
    if !at.is_empty() && !is_time(at) {
        return Err(format!("`at` is {}, and should be a time such as 2026-11-27T10:00:00Z", printable(at)));
    }
    let subject = subject_of(stage, key, subject)?;
    let action = action_of(action, value)?;
    if matches!(subject, Subject::Image(_)) && !matches!(action, Action::Name(_)) {
        return Err(format!("an image can be named alone, and not be {action}: write `name`"));
    }
    let seen = field::ids(seen).map_err(|fault| format!("`seen`: {fault}"))?;
    Ok(Decision { stage: stage.clone(), subject, action, seen, by: by.clone(), at: at.clone() })
}

fn subject_of(stage: &str, key: &str, subject: &str) -> Result<Subject, String> {
    if key.is_empty() {
        if stage != IMAGE {
            return Err(format!("`key` is empty, which is for lines that begin with `{IMAGE}`"));
        }
        return match &field::ids(subject).map_err(|fault| format!("the image's id: {fault}"))?[..] {
            [id] => Ok(Subject::Image(id.clone())),
            ids => Err(format!("{} images, and a line names one; a `;` in an id has a `\\` before it", ids.len())),
        };
    }
    let digits = key.strip_prefix("b3:").unwrap_or_default();
    if digits.len() != DIGITS || !digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("`key` is {}, and should be `b3:` and {DIGITS} hexadecimal digits", printable(key)));
    }
    if stage.is_empty() {
        return Err("the first field is empty, and should be the stage of the clusters".to_owned());
    }
    match subject.parse::<i32>() {
        Ok(cluster) if cluster >= 0 && cluster.to_string() == subject => {
            Ok(Subject::Cluster { key: key.to_owned(), cluster })
        }
        _ => Err(format!("`cluster` is {}, and should be a number from 0", printable(subject))),
    }
}

fn action_of(action: &str, value: &str) -> Result<Action, String> {
    match action {
        "name" => Ok(Action::Name(Name::new(value)?)),
        "split" => match value.parse::<u32>() {
            Ok(parts) if (2..=MOST_PARTS).contains(&parts) => Ok(Action::Split(parts)),
            _ => Err(format!("`value` is {}, and a cluster is split in 2 to {MOST_PARTS}", printable(value))),
        },
        "mixed" if value.is_empty() => Ok(Action::Mixed),
        "mixed" => Err(format!("`value` is {}, and `mixed` has none", printable(value))),
        other => Err(format!("`action` is {}, and should be `name`, `split` or `mixed`", printable(other))),
    }
}

/// Whether a text is a time of UTC to the second.
fn is_time(text: &str) -> bool {
    let shape = |(c, like): (char, char)| if like == '0' { c.is_ascii_digit() } else { c == like };
    const LIKE: &str = "0000-00-00T00:00:00Z";
    if text.len() != LIKE.len() || !text.chars().zip(LIKE.chars()).all(shape) {
        return false;
    }
    let within = |range: std::ops::Range<usize>, from: u32, to: u32| {
        text[range].parse::<u32>().is_ok_and(|number| (from..=to).contains(&number))
    };
    within(5..7, 1, 12) && within(8..10, 1, 31) && within(11..13, 0, 23) && within(14..16, 0, 59) && within(17..19, 0, 60)
}
