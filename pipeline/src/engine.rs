//! The engine: operators inside DataFusion plans.
//!
//! One part of the upstream snapshot is one partition. [`OperatorExec`](operator_exec) runs a bound map on the pool's threads, and what
//! comes out is written as one [`part`]. Views fuse: their maps stand in the same plan.

pub mod catalog;
pub mod convert;
pub mod fetch;
pub mod files;
pub mod in_order;
pub mod keys;
pub mod operator_exec;
pub mod part;
pub mod pool;
pub mod recorded;
pub mod request;
pub mod scan;
pub mod shuffle;
pub mod sorted;
pub mod sound;
pub mod spill;
pub mod step;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::config::Dialect;
use datafusion::execution::config::SessionConfig;
use datafusion::prelude::SessionContext;
use tessera_datasets::Files;
use tessera_operators::operator::RunError;

use crate::watch::interrupt::Interrupt;
use pool::Pool;

/// What all plans of a process share.
pub struct Engine {
    /// Worker threads for operators.
    pub pool: Pool,
    /// How many threads may work at once.
    pub threads: usize,
    /// How files are reached.
    pub files: Arc<dyn Files>,
    /// A folder on a disk of this machine, which may not be there yet: for compressed tars, unpacked.
    pub unpacked: PathBuf,
    /// DataFusion, with nothing registered.
    pub context: SessionContext,
    /// Rows computed so far, by stage.
    pub computed: Counters,
    /// What operators have to say.
    pub said: Said,
    /// Whether somebody wants the work to stop.
    pub interrupt: Interrupt,
    /// Files whose bytes were not those that were listed: stages that may have listed them, and paths.
    pub voided: Mutex<BTreeSet<(String, String)>>,
    /// Whether the kernel under way keeps checkpoints: it is then worth to wait for its next.
    pub keeps: AtomicBool,
}

impl Engine {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(threads: usize, files: Arc<dyn Files>, unpacked: PathBuf) -> std::io::Result<Arc<Self>> {
        let pool = Pool::new(threads)?;
        Ok(Arc::new(Self {
            pool,
            threads,
            files,
            unpacked,
            context: SessionContext::new_with_config(config(threads)),
            computed: Counters::default(),
            said: Said::default(),
            interrupt: Interrupt::default(),
            voided: Mutex::default(),
            keeps: AtomicBool::new(false),
        }))
    }
}

/// Settings that the engine relies on.
pub fn config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(threads).with_information_schema(true);
    let options = config.options_mut();
    // Partition i is part i: files must not move between partitions, not even to idle ones.
    options.execution.enable_file_stream_work_stealing = false;
    options.execution.parquet.schema_force_view_types = false;
    // Field metadata is part of our schemas.
    options.execution.parquet.skip_metadata = false;
    options.optimizer.enable_window_topn = true;
    // Dealing batches out to partitions gathers thousands of rows for each of them, and rows of pixels are a megabyte. A table has its
    // parts for partitions.
    options.optimizer.enable_round_robin_repartition = false;
    // The generic dialect takes `, cluster` for the end of a list.
    options.sql_parser.dialect = Dialect::PostgreSQL;
    config
}

/// Lines for the user that operators came up with, until somebody tells them; of many, the first.
#[derive(Debug, Default)]
pub struct Said(Mutex<Vec<String>>);

impl Said {
    /// Lines that may wait.
    const MOST: usize = 1000;

    /// Adds lines.
    pub fn add(&self, lines: Vec<String>) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = Self::MOST.saturating_sub(all.len());
        all.extend(lines.into_iter().take(room));
    }

    /// Takes those that wait.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Rows by stage.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    /// A stage's counter.
    pub fn of(&self, stage: &str) -> Arc<AtomicU64> {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.entry(stage.to_owned()).or_default().clone()
    }

    /// A stage's rows so far.
    pub fn get(&self, stage: &str) -> u64 {
        self.of(stage).load(Ordering::Relaxed)
    }
}

/// A failure, and the stage that it happened in.
#[derive(Debug, thiserror::Error)]
#[error("stage `{stage}`: {error}")]
pub struct StageError {
    /// The stage.
    pub stage: String,
    /// What happened. Not a source: the message has it already.
    pub error: RunError,
}
