//! What a person sees while a run goes on: a bar on a terminal, else a plain line every few seconds; all on stderr.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tessera_schemas::metrics::Metric;
use tessera_schemas::{printable, printable_lines};

use super::events::{Event, Events};

/// Seconds between two plain lines.
const PLAIN_SECS: u64 = 5;
/// Seconds between two notes of a stage's progress.
const NOTED_SECS: u64 = 1;

/// Tells a person something on stderr. What is told may hold names of files and values of tables: none of their characters speaks to
/// the terminal.
pub fn tell(line: impl Display) {
    // Nobody may be listening, which is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}", printable_lines(&line.to_string()));
}

/// Makes bars.
#[derive(Debug, Clone)]
pub struct Reporter {
    terminal: bool,
    quiet: bool,
    events: Events,
}

impl Reporter {
    /// Bars for a terminal, lines for anything else, nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), quiet, events: Events::default() }
    }

    /// The same; what happens is noted as well.
    pub fn noting(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// What happens, for those who watch.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Says one line.
    pub fn say(&self, line: &str) {
        self.events.add(Event::Said { stage: None, line: line.to_owned(), warning: false });
        if !self.quiet {
            tell(line);
        }
    }

    /// Says one line that matters also to those who want to hear nothing.
    pub fn warn(&self, line: &str) {
        self.events.add(Event::Said { stage: None, line: line.to_owned(), warning: true });
        tell(format_args!("warning: {line}"));
    }

    /// A bar for a stage.
    pub fn bar(&self, stage: &str) -> Bar {
        let bar = (self.terminal && !self.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style =
                ProgressStyle::with_template("{prefix:>12} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left {msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(stage.to_owned());
            bar
        });
        let start = Instant::now();
        let quiet = self.quiet || self.terminal;
        let plain = Plain { stage: stage.to_owned(), start: (start, 0), last: 0, said: start, noted: None, quiet };
        Bar { bar, plain: Arc::new(Mutex::new(plain)), events: self.events.clone() }
    }
}

/// The progress of one stage.
#[derive(Debug, Clone)]
pub struct Bar {
    bar: Option<ProgressBar>,
    plain: Arc<Mutex<Plain>>,
    events: Events,
}

#[derive(Debug)]
struct Plain {
    stage: String,
    /// When and where what is under way began.
    start: (Instant, u64),
    last: u64,
    said: Instant,
    /// When its progress was noted.
    noted: Option<Instant>,
    quiet: bool,
}

impl Bar {
    /// Shows how far it is.
    pub fn at(&self, done: u64, total: u64, note: &str) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if done < plain.last {
            // The count of something else.
            plain.start = (Instant::now(), done);
        }
        plain.last = done;
        if plain.noted.is_none_or(|noted| noted.elapsed() > Duration::from_secs(NOTED_SECS)) {
            plain.noted = Some(Instant::now());
            self.events.add(Event::Progress { stage: plain.stage.clone(), done, total, note: note.to_owned() });
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total.max(done));
            bar.set_position(done);
            bar.set_message(printable(note).into_owned());
            return;
        }
        if plain.quiet || plain.said.elapsed() < Duration::from_secs(PLAIN_SECS) {
            return;
        }
        plain.said = Instant::now();
        let (start, first) = plain.start;
        let rate = (done - first) as f64 / start.elapsed().as_secs_f64();
        let left = if done > first { total.saturating_sub(done) as f64 / rate } else { 0.0 };
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        tell(format_args!("{}: {done}/{total}, {rate:.1}/s, {} left{note}", plain.stage, duration(left)));
    }

    /// Notes a number that the stage measured.
    pub fn metric(&self, Metric { epoch, step, name, value }: &Metric) {
        let stage = self.plain.lock().unwrap_or_else(PoisonError::into_inner).stage.clone();
        let value = value.is_finite().then_some(*value);
        self.events.add(Event::Metric { stage, epoch: *epoch, step: *step, name: name.clone(), value });
    }

    /// Notes a part of the stage's table.
    pub fn part(&self, rows: u64) {
        let stage = self.plain.lock().unwrap_or_else(PoisonError::into_inner).stage.clone();
        self.events.add(Event::PartMade { stage, rows });
    }

    fn noted(&self, line: &str, warning: bool) {
        let stage = self.plain.lock().unwrap_or_else(PoisonError::into_inner).stage.clone();
        self.events.add(Event::Said { stage: Some(stage), line: line.to_owned(), warning });
    }

    /// Starts to count from there: what was done before took none of this run's time.
    pub fn begin(&self, done: u64) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.start = (Instant::now(), done);
        plain.last = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// Says one line above the bar.
    pub fn say(&self, line: &str) {
        self.noted(line, false);
        let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.bar {
            Some(bar) => bar.println(printable_lines(&format!("{}: {line}", plain.stage))),
            None if plain.quiet => {}
            None => tell(format_args!("{}: {line}", plain.stage)),
        }
    }

    /// Warns above the bar, also those who want to hear nothing.
    pub fn warn(&self, line: &str) {
        self.noted(line, true);
        let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("warning: {}: {line}", plain.stage);
        match &self.bar {
            Some(bar) => bar.println(printable_lines(&line)),
            None => tell(line),
        }
    }

    /// Takes the bar away.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
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
