//! What is wrong with a pipeline file: every fault at its place, all at once.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use tessera_schemas::{printable, printable_lines};

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the file that it is about; `0..0` of what the command line says.
    pub span: Range<usize>,
    /// The stage, or the cell of one, that cannot be bound because of it.
    pub stage: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What is known, and what may have been meant.
    pub help: Option<String>,
}

impl Fault {
    /// A fault without advice.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, stage: None, message: message.into(), help: None }
    }

    /// Whether it is about a place in the file, and not about what the command line says.
    pub fn has_place(&self) -> bool {
        self.span != (0..0)
    }

    /// The same of a stage.
    pub fn of(mut self, stage: &str) -> Self {
        self.stage = Some(stage.to_owned());
        self
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Advice for a name that is not among the known ones.
    pub fn known<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        self.help(match closest(name, &known) {
            Some(close) => format!("did you mean `{close}`? known: {list}"),
            None => format!("known: {list}"),
        })
    }
}

/// The known name that a mistyped one resembles.
pub fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &&&str| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
    known.iter().max_by_key(likeness).filter(|best| likeness(best) > 750).copied()
}

/// All that is wrong with a pipeline file.
#[derive(Debug)]
pub struct Faults {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What is wrong, in the order of the text.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// Sorts the faults by their places.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        faults.dedup();
        Self { path: path.into(), text: text.into(), faults }
    }

    /// One line: the file, the first fault and how many more there are.
    pub fn summary(&self) -> String {
        let first = self.faults.first().map_or("is wrong", |fault| fault.message.as_str());
        let more = self.faults.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        format!("{}: {first}{more}", self.path.display())
    }

    /// The faults as a person reads them: message, `file:line:column`, the text underlined, advice.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_width(160);
        let mut out = String::new();
        let (name, text) = (self.path.to_string_lossy(), quoted(&self.text));
        for fault in self.faults.iter().take(MOST_SHOWN) {
            if self.is_wide(fault) {
                out.push_str(&self.plain(fault));
                continue;
            }
            let mut diagnostic = MietteDiagnostic::new(printable_lines(&fault.message));
            diagnostic.help = fault.help.as_deref().map(|help| printable_lines(help).into_owned());
            let report = if fault.has_place() {
                let underlined = fault.span.start..fault.span.end.max(fault.span.start + 1);
                let source = NamedSource::new(printable(&name), text.clone());
                Report::new(diagnostic.with_label(LabeledSpan::underline(underlined))).with_source_code(source)
            } else {
                Report::new(diagnostic)
            };
            if handler.render_report(&mut out, report.as_ref()).is_err() {
                out.push_str(&printable_lines(&fault.message));
            }
            out.push('\n');
        }
        let count = self.faults.len();
        if count > MOST_SHOWN {
            out.push_str(&format!("and {} more like these\n", count - MOST_SHOWN));
        }
        out.push_str(&format!("{count} fault{} in {}", if count == 1 { "" } else { "s" }, printable(&name)));
        out
    }
}

/// Faults that are shown: whoever mends these sees the next ones.
const MOST_SHOWN: usize = 50;
/// Bytes of a line that is quoted; columns behind 65,535 cannot be underlined.
const MOST_QUOTED: usize = 10_000;

impl Faults {
    /// Whether a fault's lines are too long to be quoted.
    fn is_wide(&self, fault: &Fault) -> bool {
        let start = self.text[..floor(&self.text, fault.span.start)].rfind('\n').map_or(0, |at| at + 1);
        let end = floor(&self.text, fault.span.end);
        let end = self.text[end..].find('\n').map_or(self.text.len(), |at| end + at);
        self.text[start..end.max(start)].split('\n').any(|line| line.len() > MOST_QUOTED)
    }

    /// A fault without the text around it: its place and its message.
    fn plain(&self, fault: &Fault) -> String {
        let before = &self.text[..floor(&self.text, fault.span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before[before.rfind('\n').map_or(0, |at| at + 1)..].chars().count() + 1;
        let help = fault.help.as_deref().map(|help| format!("  help: {}\n", printable_lines(help))).unwrap_or_default();
        let (path, message) = (self.path.to_string_lossy(), printable_lines(&fault.message));
        format!("  x {message}\n   ,-[{}:{line}:{column}]\n{help}\n", printable(&path))
    }
}

/// The nearest place before that between two characters.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// A text with `?` for each byte of what a terminal would obey: places stay where they are.
fn quoted(text: &str) -> String {
    let one = |line: &str| {
        let shown = |c: char| match printable_lines(c.encode_utf8(&mut [0; 4])) {
            Cow::Borrowed(_) => c.to_string(),
            Cow::Owned(_) => "?".repeat(c.len_utf8()),
        };
        match line.strip_suffix("\r\n") {
            Some(line) => line.chars().map(shown).chain(["\r\n".to_owned()]).collect::<String>(),
            None => line.chars().map(shown).collect(),
        }
    };
    text.split_inclusive('\n').map(one).collect()
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}
