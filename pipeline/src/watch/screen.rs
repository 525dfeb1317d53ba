//! The screen: a reader of events that shows them to a person, on stderr. A terminal that moves its cursor has a bar for each stage that is under
//! way; anything else a plain line every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tessera_schemas::{printable, printable_lines};

use super::events::Event;
use super::progress::{duration, tell};
use super::terminal;

/// Seconds between two plain lines.
const PLAIN_SECS: u64 = 5;

/// What shows events.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    quiet: bool,
    /// Whether nothing is shown, and no warnings either.
    is_dark: bool,
    stages: Mutex<HashMap<String, Shown>>,
}

/// A stage that is under way.
#[derive(Debug)]
struct Shown {
    bar: Option<ProgressBar>,
    /// When and where what is under way began.
    start: (Instant, u64),
    last: u64,
    said: Instant,
}

impl Screen {
    /// What stderr is; with `quiet`, it shows warnings alone.
    pub fn of_stderr(quiet: bool) -> Self {
        Self { terminal: terminal::moves(), quiet, is_dark: false, stages: Mutex::default() }
    }

    /// One that nobody looks at.
    pub fn of_nobody() -> Self {
        Self { terminal: false, quiet: true, is_dark: true, stages: Mutex::default() }
    }

    fn stages(&self) -> MutexGuard<'_, HashMap<String, Shown>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows an event, if it is one for people.
    pub fn read(&self, event: &Event) {
        match event {
            Event::Progress { stage, done, total, note } => self.progress(stage, *done, *total, note),
            Event::GoesOn { stage, done } => self.with(stage, |shown| {
                (shown.start, shown.last) = ((Instant::now(), *done), *done);
                if let Some(bar) = &shown.bar {
                    bar.set_position(*done);
                    bar.reset_eta();
                }
            }),
            Event::Said { stage, line, warning } => {
                if self.is_dark || self.quiet && !warning {
                    return;
                }
                let of = stage.as_ref().map_or_else(String::new, |stage| format!("{stage}: "));
                let line = format!("{}{of}{line}", if *warning { "warning: " } else { "" });
                // Above the bar, where there is one.
                match stage.as_ref().and_then(|stage| self.stages().get(stage)?.bar.clone()) {
                    Some(bar) => bar.println(printable_lines(&line)),
                    None => tell(line),
                }
            }
            Event::Ended { stage } => {
                if let Some(bar) = self.stages().remove(stage).and_then(|shown| shown.bar) {
                    bar.finish_and_clear();
                }
            }
            Event::Begun { .. } | Event::Metric { .. } | Event::PartMade { .. } | Event::Done { .. } => {}
        }
    }

    fn with<T>(&self, stage: &str, show: impl FnOnce(&mut Shown) -> T) -> T {
        let mut stages = self.stages();
        if !stages.contains_key(stage) {
            let now = Instant::now();
            let bar = (self.terminal && !self.quiet).then(|| bar(stage));
            stages.insert(stage.to_owned(), Shown { bar, start: (now, 0), last: 0, said: now });
        }
        show(stages.get_mut(stage).expect("it is there"))
    }

    fn progress(&self, stage: &str, done: u64, total: u64, note: &str) {
        let line = self.with(stage, |shown| {
            if done < shown.last {
                // The count of something else.
                shown.start = (Instant::now(), done);
            }
            shown.last = done;
            if let Some(bar) = &shown.bar {
                bar.set_length(total.max(done));
                bar.set_position(done);
                bar.set_message(printable(note).into_owned());
                return None;
            }
            if self.quiet || shown.said.elapsed() < Duration::from_secs(PLAIN_SECS) {
                return None;
            }
            shown.said = Instant::now();
            let (start, first) = shown.start;
            let rate = (done - first) as f64 / start.elapsed().as_secs_f64();
            let left = if done > first { total.saturating_sub(done) as f64 / rate } else { 0.0 };
            let note = if note.is_empty() { String::new() } else { format!(", {note}") };
            Some(format!("{stage}: {done}/{total}, {rate:.1}/s, {} left{note}", duration(left)))
        });
        if let Some(line) = line {
            tell(line);
        }
    }
}

fn bar(stage: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{prefix:>12} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(stage.to_owned());
    bar
}
