//! What happens in a run, as it happens: one JSON object a line, in the file `runs/ID.events` of the store.
//!
//! Whoever watches a run reads them: the screen as they come, the table `metrics` from the file, until the run's record is there. A log that cannot be written ends nothing: it is given up.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Time between two notes of a stage's progress.
const NOTED: Duration = Duration::from_secs(1);
/// How long a line may wait for the file.
const FLUSH: Duration = Duration::from_millis(200);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage begins to be made.
    Begun {
        /// Which.
        stage: String,
        /// `run` or `update`.
        action: String,
        /// Why.
        reasons: Vec<String>,
    },
    /// How far a stage is, in units of its own.
    Progress {
        /// Which.
        stage: String,
        /// What is done.
        done: u64,
        /// All that is to do, as far as it is known.
        total: u64,
        /// A note for people, such as the loss.
        note: String,
    },
    /// A number that a stage measured.
    Metric {
        /// Which stage.
        stage: String,
        /// Pass over the data, or iteration.
        epoch: i64,
        /// Step since the start.
        step: i64,
        /// The metric's name.
        name: String,
        /// Its value; null for what is no number.
        value: Option<f64>,
    },
    /// A line for people.
    Said {
        /// Whose, if it is a stage's.
        stage: Option<String>,
        /// What.
        line: String,
        /// Whether it matters also to those who want to hear nothing.
        warning: bool,
    },
    /// A part of a stage's table is on the disk.
    PartMade {
        /// Which stage.
        stage: String,
        /// Rows of the part.
        rows: u64,
    },
    /// What a stage counts goes on from here: what was done before took no time of this run.
    GoesOn {
        /// Which.
        stage: String,
        /// What was done.
        done: u64,
    },
    /// Nothing more is under way in a stage, whether or not it is made.
    Ended {
        /// Which.
        stage: String,
    },
    /// A stage is made.
    Done {
        /// Which.
        stage: String,
        /// Rows of its table.
        rows: u64,
        /// How long that took.
        seconds: f64,
    },
}

/// An event and when it was, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// When.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// A run's events, on their way to a file.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Mutex<Log>>>);

struct Log {
    /// When each stage's progress was last noted.
    noted: HashMap<String, Instant>,
    /// None once it was given up.
    file: Option<BufWriter<Box<dyn Write + Send>>>,
    flushed: Instant,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Events" } else { "no events" })
    }
}

impl Events {
    /// Events that go to a file.
    pub fn to(file: Box<dyn Write + Send>) -> Self {
        Self(Some(Arc::new(Mutex::new(Log {
            noted: HashMap::new(),
            file: Some(BufWriter::new(file)),
            flushed: Instant::now(),
        }))))
    }

    /// Adds one.
    pub fn add(&self, event: Event) {
        let Some(log) = &self.0 else { return };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Progress { stage, .. } = &event {
            // More often it is of use to nobody who reads the file.
            if log.noted.get(stage).is_some_and(|noted| noted.elapsed() < NOTED) {
                return;
            }
            log.noted.insert(stage.clone(), Instant::now());
        }
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let soon = !matches!(event, Event::Metric { .. }) || log.flushed.elapsed() > FLUSH;
        let Some(file) = &mut log.file else { return };
        let line = serde_json::to_vec(&Stamped { at_ms, event }).unwrap_or_default();
        let mut write = || {
            file.write_all(&line)?;
            file.write_all(b"\n")?;
            if soon { file.flush() } else { Ok(()) }
        };
        match write() {
            Ok(()) if soon => log.flushed = Instant::now(),
            Ok(()) => {}
            Err(_) => log.file = None,
        }
    }
}

/// The events of a file, as far as it is whole: its last line may still be on its way.
pub fn parse(bytes: &[u8]) -> Vec<Stamped> {
    bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that several hands hold.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut held = self.0.lock().unwrap();
            if self.1 > 0 && held.len() > self.1 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            held.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn metric(value: f64) -> Event {
        let value = value.is_finite().then_some(value);
        Event::Metric { stage: "pretext".into(), epoch: 1, step: 2, name: "loss".into(), value }
    }

    #[test]
    fn events_are_lines_that_can_be_read_at_any_moment() {
        let file = Shared::default();
        let events = Events::to(Box::new(file.clone()));
        let done = Event::Done { stage: "pretext".into(), rows: 3, seconds: 0.5 };
        for event in [metric(0.25), metric(f64::NAN), done.clone()] {
            events.add(event);
        }
        let bytes = file.0.lock().unwrap().clone();
        let found: Vec<Event> = parse(&bytes).into_iter().map(|stamped| stamped.event).collect();
        assert_eq!(found, [metric(0.25), metric(f64::NAN), done]);
        assert!(parse(&bytes).iter().all(|stamped| stamped.at_ms > 1_700_000_000_000));
        for end in 0..bytes.len() {
            let whole = bytes[..end].iter().filter(|&&byte| byte == b'\n').count();
            assert!((whole..=whole + 1).contains(&parse(&bytes[..end]).len()), "cut at {end}");
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.lines().nth(1).unwrap().ends_with(r#""name":"loss","value":null}"#), "{text}");
    }

    #[test]
    fn a_full_disk_ends_the_log_alone() {
        let file = Shared(Arc::default(), 10);
        let events = Events::to(Box::new(file.clone()));
        for _ in 0..5 {
            events.add(Event::Said { stage: None, line: "hello".into(), warning: false });
        }
        assert_eq!(parse(&file.0.lock().unwrap()).len(), 1);
        Events::default().add(metric(1.0));
    }
}
