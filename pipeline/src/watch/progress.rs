//! What happens in a run, told as it happens: to the file of its events, and to the screen of whoever started it.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tessera_schemas::metrics::Metric;
use tessera_schemas::printable_lines;

use super::events::{Event, Events};
use super::screen::Screen;

/// Whether lines on stderr begin with the time.
static STAMPED: AtomicBool = AtomicBool::new(false);

/// From now on each thing that is told begins with the time, unless a terminal shows it: RFC 3339, in UTC (`2026-11-28T12:20:39Z`).
pub fn stamp() {
    STAMPED.store(!std::io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Tells a person something on stderr. What is told may hold names of files and values of tables: none of their characters speaks to
/// the terminal.
pub fn tell(line: impl Display) {
    // Nobody may be listening, which is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}{}", time(), printable_lines(&line.to_string()));
}

/// What a message begins with: the time and a space, or nothing.
pub fn time() -> String {
    if !STAMPED.load(Ordering::Relaxed) {
        return String::new();
    }
    format!("{} ", humantime::format_rfc3339_seconds(SystemTime::now()))
}

/// Tells what happens.
#[derive(Debug, Clone)]
pub struct Reporter {
    screen: Arc<Screen>,
    events: Events,
}

impl Reporter {
    /// Bars for a terminal, lines for anything else, warnings alone if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { screen: Arc::new(Screen::of_stderr(quiet)), events: Events::default() }
    }

    /// Nothing at all.
    pub fn silent() -> Self {
        Self { screen: Arc::new(Screen::of_nobody()), events: Events::default() }
    }

    /// The same; what happens goes to a file as well.
    pub fn noting(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// Tells an event to all who read them.
    pub fn add(&self, event: Event) {
        self.screen.read(&event);
        self.events.add(event);
    }

    /// Says one line.
    pub fn say(&self, line: &str) {
        self.add(Event::Said { stage: None, line: line.to_owned(), warning: false });
    }

    /// Says one line that matters also to those who want to hear nothing.
    pub fn warn(&self, line: &str) {
        self.add(Event::Said { stage: None, line: line.to_owned(), warning: true });
    }

    /// Tells of one stage.
    pub fn bar(&self, stage: &str) -> Bar {
        Bar { stage: stage.into(), reporter: self.clone() }
    }
}

/// Tells of one stage.
#[derive(Debug, Clone)]
pub struct Bar {
    stage: Arc<str>,
    reporter: Reporter,
}

impl Bar {
    fn stage(&self) -> String {
        self.stage.as_ref().to_owned()
    }

    /// Tells how far it is.
    pub fn at(&self, done: u64, total: u64, note: &str) {
        self.reporter.add(Event::Progress { stage: self.stage(), done, total, note: note.to_owned() });
    }

    /// Tells a number that the stage measured.
    pub fn metric(&self, Metric { epoch, step, name, value }: &Metric) {
        let value = value.is_finite().then_some(*value);
        let (stage, name) = (self.stage(), name.clone());
        self.reporter.add(Event::Metric { stage, epoch: *epoch, step: *step, name, value });
    }

    /// Tells of a part of the stage's table.
    pub fn part(&self, rows: u64) {
        self.reporter.add(Event::PartMade { stage: self.stage(), rows });
    }

    /// Starts to count from `done`: what was done before took no time of this run.
    pub fn begin(&self, done: u64) {
        self.reporter.add(Event::GoesOn { stage: self.stage(), done });
    }

    /// Says one line of the stage.
    pub fn say(&self, line: &str) {
        self.reporter.add(Event::Said { stage: Some(self.stage()), line: line.to_owned(), warning: false });
    }

    /// Says one that matters also to those who want to hear nothing.
    pub fn warn(&self, line: &str) {
        self.reporter.add(Event::Said { stage: Some(self.stage()), line: line.to_owned(), warning: true });
    }

    /// Nothing more is under way in the stage.
    pub fn close(&self) {
        self.reporter.add(Event::Ended { stage: self.stage() });
    }
}

/// Seconds as a person says them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
