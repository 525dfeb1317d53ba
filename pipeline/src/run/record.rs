//! The record of a run that has ended.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::Report;
use crate::store::Store;

/// Milliseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Writes what is known of a run once it has ended.
pub fn write(store: &Store, id: &str, pipeline: &str, started: u64, report: &Report, error: Option<String>) -> Result<()> {
    let mut record = serde_json::to_value(report)?;
    record["error"] = error.into();
    record["started"] = started.into();
    record["pipeline"] = pipeline.into();
    store.record_run(id, &record)
}

/// Records a run that failed before its first stage, in a store that has records of runs: who asks for the last run should hear of it.
///
/// # Errors
/// The store cannot be read or written.
pub fn record_failure(store: &Store, pipeline: &str, error: String) -> Result<()> {
    if store.newest_runs()?.next().is_none() {
        return Ok(());
    }
    write(store, &store.new_run()?, pipeline, now(), &Report { stages: Vec::new(), seconds: 0.0 }, Some(error))
}
