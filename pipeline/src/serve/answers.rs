//! Answers of pages' queries, kept by query and generation, so that a page that is loaded again asks nothing twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use arrow::compute::concat_batches;
use tessera_operators::memory::Memory;
use tokio::sync::{OnceCell, Semaphore};

use super::site::Now;
use crate::ask::page::answer::Answer;
use crate::ask::sql;
use crate::ask::sql::limits::Limits;

/// Bytes of answers that are kept.
const KEPT: usize = 128 << 20;
/// Bytes that one query of a page may hold, and how long it may take.
const MEMORY: u64 = 512 << 20;
const TIME: Duration = Duration::from_secs(60);
/// Queries of pages that run at once.
const AT_ONCE: usize = 2;
/// Words of queries whose answers change without a new generation: runs go on, and snapshots go.
const CHANGING: [&str; 4] = ["metrics", "runs", "snapshots", "previous"];

/// Answers by generation and query.
pub struct Answers {
    kept: Mutex<Kept>,
    turns: Semaphore,
}

#[derive(Default)]
struct Kept {
    by_query: HashMap<(Arc<str>, String), Entry>,
    clock: u64,
}

struct Entry {
    cell: Arc<OnceCell<Arc<Answer>>>,
    bytes: usize,
    used: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Self { kept: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Answers {
    /// The answer to a query of a generation. Who asks while it is being answered waits for the same.
    ///
    /// # Errors
    /// A table is not there or damaged, or the query takes more than it may.
    pub async fn of(&self, now: &Now, sql: String) -> Result<Arc<Answer>> {
        if CHANGING.iter().any(|word| sql.contains(word)) {
            return Ok(Arc::new(self.ask(now, &sql).await?));
        }
        let key = (now.version.clone(), sql);
        let cell = self.kept().cell(&key);
        let answer = cell.get_or_try_init(|| async { anyhow::Ok(Arc::new(self.ask(now, &key.1).await?)) }).await?.clone();
        self.kept().note(&key, answer.rows.get_array_memory_size() + key.1.len());
        Ok(answer)
    }

    async fn ask(&self, now: &Now, sql: &str) -> Result<Answer> {
        let _turn = self.turns.acquire().await?;
        let limits = Limits { memory: Memory(MEMORY), timeout: None };
        let work = async {
            let mut asked = sql::ask(&now.catalog, &sql.into(), limits).await?;
            let mut batches = Vec::new();
            while let Some(batch) = asked.next().await {
                batches.push(batch?);
            }
            let rows = concat_batches(&asked.schema, &batches)?;
            anyhow::Ok(Answer { sql: sql.to_owned(), rows, dropped: asked.dropped() })
        };
        let answered = tokio::time::timeout(TIME, work).await;
        answered
            .with_context(|| format!("the query took longer than {} s", TIME.as_secs()))?
            .with_context(|| format!("cannot answer `{sql}`"))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn cell(&mut self, key: &(Arc<str>, String)) -> Arc<OnceCell<Arc<Answer>>> {
        self.clock += 1;
        let used = self.clock;
        let entry = self.by_query.entry(key.clone()).or_insert_with(|| Entry { cell: Arc::default(), bytes: 0, used });
        entry.used = used;
        entry.cell.clone()
    }

    /// Notes how large an answer is, and lets go of those that were asked for longest ago.
    fn note(&mut self, key: &(Arc<str>, String), bytes: usize) {
        if let Some(entry) = self.by_query.get_mut(key) {
            entry.bytes = bytes;
        }
        let mut all: usize = self.by_query.values().map(|entry| entry.bytes).sum();
        while all > KEPT {
            let oldest = self.by_query.iter().filter(|(_, entry)| entry.bytes > 0).min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            all -= self.by_query.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_asked_for_longest_ago_go_first() {
        let mut kept = Kept::default();
        let key = |name: &str| (Arc::from("v"), name.to_owned());
        for name in ["a", "b", "c"] {
            kept.cell(&key(name));
            kept.note(&key(name), KEPT / 3);
        }
        kept.cell(&key("a"));
        kept.cell(&key("d"));
        kept.note(&key("d"), KEPT / 3);
        let mut left: Vec<&str> = kept.by_query.keys().map(|(_, name)| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "c", "d"]);
        kept.note(&key("d"), KEPT + 1);
        assert!(kept.by_query.values().all(|entry| entry.bytes <= KEPT));
    }
}
