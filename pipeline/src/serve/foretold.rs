//! What a run would do about each stage, as `tessera plan` says. It looks at every file of the data set, so it is asked beside the pages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::site::{Foretell, Shared};
use crate::ask::page::figures::State;

/// How long a page waits for it.
const WAIT: Duration = Duration::from_millis(250);
/// How long it holds, if the tables and the file stay: images may have come.
const HOLDS: Duration = Duration::from_secs(60);

/// What was said last, and of which generation.
pub struct Foretold {
    ask: Foretell,
    last: Mutex<Option<Last>>,
}

#[derive(Clone)]
struct Last {
    version: Arc<str>,
    asked: Instant,
    /// None while it is being asked.
    states: Option<Arc<Vec<State>>>,
}

impl Foretold {
    /// Nothing was asked yet.
    pub fn new(ask: Foretell) -> Self {
        Self { ask, last: Mutex::default() }
    }

    /// What a run would do, unless that takes longer than a page waits: then it is there when the page is loaded again.
    pub async fn of(site: &Shared, version: &Arc<str>) -> Option<Arc<Vec<State>>> {
        let start = Instant::now();
        if !site.foretold.begun(version) {
            let (behind, version) = (site.clone(), version.clone());
            spawn_blocking(move || {
                let states = Arc::new((behind.foretold.ask)());
                let mut last = behind.foretold.last.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(last) = last.as_mut().filter(|last| last.version == version) {
                    last.states = Some(states);
                }
            });
        }
        loop {
            let found = site.foretold.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match found {
                Some(Last { version: of, states: Some(states), .. }) if of == *version => return Some(states),
                _ if start.elapsed() > WAIT => return None,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Whether it was asked of that generation already; notes that it is from now on.
    fn begun(&self, version: &Arc<str>) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = last
            .as_ref()
            .is_some_and(|last| last.version == *version && (last.states.is_none() || last.asked.elapsed() < HOLDS));
        if !holds {
            *last = Some(Last { version: version.clone(), asked: Instant::now(), states: None });
        }
        holds
    }
}
