//! `/events`: what happens in a run, as it happens: a message a second at most, whatever has changed, and the whole of it at first.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures::stream::{Stream, unfold};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::failed::Failed;
use super::site::{Shared, Site};
use crate::store::generation;
use crate::watch::events::{Event, Stamped, parse};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Streams at once: of more tabs, the others are not live.
const STREAMS: usize = 32;
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What a page is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// What tells the tables, and what was measured, from earlier ones.
    pub version: String,
    /// The newest run, if it has no record yet.
    pub run: Option<Run>,
}

/// A run that goes on, or that ended without a word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// Whether its process is gone.
    pub killed: bool,
    /// Its stages that are under way.
    pub stages: Vec<Stage>,
}

/// A stage that is being made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Which.
    pub stage: String,
    /// What is done, and all that is to do, in units of its own; 0 of what is not known.
    pub done: u64,
    /// See `done`.
    pub total: u64,
    /// Seconds since it began.
    pub seconds: u64,
    /// A note, such as the loss.
    pub note: String,
}

/// Counts open streams.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = OPEN.fetch_add(1, Ordering::Relaxed);
        let place = Self;
        (taken < STREAMS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream.
pub async fn events(State(site): State<Shared>) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Failed> {
    let place = Place::take().ok_or_else(|| Failed {
        status: StatusCode::SERVICE_UNAVAILABLE,
        why: format!("{STREAMS} pages are live already; this one shows what it shows until it is loaded again"),
    })?;
    let stream = unfold((site, None::<Told>, place), |(site, last, place)| async move {
        let mut wait = last.is_some();
        loop {
            if wait {
                tokio::time::sleep(LOOK).await;
            }
            wait = true;
            let looking = site.clone();
            let Ok(Ok(told)) = spawn_blocking(move || look(&looking)).await else { continue };
            if last.as_ref() != Some(&told) {
                let data = serde_json::to_string(&told).unwrap_or_default();
                return Some((Ok(Message::default().data(data)), (site, Some(told), place)));
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// What was read of the newest run's events so far; shared by all streams.
#[derive(Default)]
pub struct Tail(Mutex<Read>);

#[derive(Default)]
struct Read {
    looked: Option<(Instant, Told)>,
    run: Option<Under>,
}

/// A run under way.
#[derive(Default)]
struct Under {
    id: String,
    /// Bytes of its events that were read, and the line that is not whole yet.
    offset: u64,
    begun: Vec<u8>,
    /// Its stages that are under way, and when each began, in the order in which they did.
    stages: Vec<(u64, Stage)>,
    measured: u64,
    last_ms: u64,
}

impl Under {
    fn read(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') else { return };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        parse(&whole).into_iter().for_each(|stamped| self.add(stamped));
    }

    fn add(&mut self, Stamped { at_ms, event }: Stamped) {
        self.last_ms = at_ms;
        match event {
            Event::Begun { stage, .. } if !self.stages.iter().any(|(_, known)| known.stage == stage) => {
                self.stages.push((at_ms, Stage { stage, done: 0, total: 0, seconds: 0, note: String::new() }));
            }
            Event::Progress { stage, done, total, note } => {
                match self.stages.iter_mut().find(|(_, known)| known.stage == stage) {
                    Some((_, known)) => (known.done, known.total, known.note) = (done, total, note),
                    None => self.stages.push((at_ms, Stage { stage, done, total, seconds: 0, note })),
                }
            }
            Event::Ended { stage } | Event::Done { stage, .. } => self.stages.retain(|known| known.1.stage != stage),
            Event::Metric { .. } => self.measured += 1,
            _ => {}
        }
    }

    fn told(&self, killed: bool, now_ms: u64) -> Run {
        let until = if killed { self.last_ms } else { now_ms };
        let stage = |(began, stage): &(u64, Stage)| Stage { seconds: until.saturating_sub(*began) / 1000, ..stage.clone() };
        Run { id: self.id.clone(), killed, stages: self.stages.iter().map(stage).collect() }
    }
}

/// What is to be told now. Blocks.
fn look(site: &Site) -> anyhow::Result<Told> {
    let store = site.store();
    let mut read = site.tail.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, told)) = &read.looked
        && at.elapsed() < LOOK / 2
    {
        return Ok(told.clone());
    }
    let mut hasher = blake3::Hasher::new();
    for (stage, snapshot) in generation::names(store)? {
        hasher.update(format!("{stage}\0{snapshot}\0").as_bytes());
    }
    let known = read.run.as_ref().map(|run| (run.id.as_str(), run.offset));
    let found = store.underway_since(known)?;
    let run = found.map(|(id, start, bytes)| {
        let mut run = read.run.take().filter(|run| run.id == id && run.offset == start).unwrap_or_default();
        run.id = id;
        run.offset = start + bytes.len() as u64;
        run.read(&bytes);
        hasher.update(format!("{} {}", run.id, run.measured).as_bytes());
        run
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let told = Told {
        version: hasher.finalize().to_hex()[..16].to_owned(),
        run: run.as_ref().map(|run| run.told(store.holder().is_ok_and(|holder| holder.is_none()), now)),
    };
    read.run = run;
    read.looked = Some((Instant::now(), told.clone()));
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_what_its_events_say() {
        let lines = r#"{"at_ms":1000,"event":"begun","stage":"a","action":"run","reasons":[]}
{"at_ms":2000,"event":"progress","stage":"a","done":3,"total":9,"note":""}
{"at_ms":2500,"event":"metric","stage":"a","epoch":1,"step":2,"name":"loss","value":0.5}
{"at_ms":3000,"event":"done","stage":"a","rows":1,"seconds":2.0}
{"at_ms":3000,"event":"begun","stage":"b","action":"run","reasons":[]}
{"at_ms":9000,"event":"progress","stage":"b","done":4,"total":9,"note":"loss 1"}
"#;
        let stage = |seconds| Stage { stage: "b".into(), done: 4, total: 9, seconds, note: "loss 1".into() };
        // However it is cut into pieces.
        for step in [1, 7, 100, 10_000] {
            let mut run = Under { id: "r".into(), ..Under::default() };
            lines.as_bytes().chunks(step).for_each(|bytes| run.read(bytes));
            assert_eq!(run.told(true, 99_000), Run { id: "r".into(), killed: true, stages: vec![stage(6)] });
            assert_eq!(run.told(false, 99_000), Run { id: "r".into(), killed: false, stages: vec![stage(96)] });
            assert_eq!((run.measured, run.begun.len()), (1, 0));
        }
    }
}
