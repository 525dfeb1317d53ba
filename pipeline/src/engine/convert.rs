//! Errors on their way through DataFusion and back.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use tessera_operators::operator::RunError;

use super::StageError;
use crate::store::Damaged;

/// A stage's failure as DataFusion carries it.
pub fn wrap(stage: &str, error: RunError) -> DataFusionError {
    DataFusionError::External(Box::new(StageError { stage: stage.to_owned(), error }))
}

/// The stage's failure inside DataFusion's error, if that is what it is; else DataFusion's own words.
pub fn unwrap(error: DataFusionError) -> anyhow::Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<StageError>() {
            Ok(stage) => anyhow::Error::new(*stage),
            Err(other) => anyhow::anyhow!(other),
        },
        DataFusionError::Context(_, inner) => unwrap(*inner),
        DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
            Ok(inner) => unwrap(inner),
            Err(shared) => match (damaged(&shared), shared.find_root()) {
                (Some(damaged), _) => anyhow::Error::new(damaged.clone()),
                (None, DataFusionError::External(inner)) => anyhow::anyhow!("{inner}"),
                (None, other) => anyhow::anyhow!(words(other)),
            },
        },
        other => match damaged(&other) {
            Some(damaged) => anyhow::Error::new(damaged.clone()),
            None => anyhow::anyhow!(words(&other)),
        },
    }
}

/// What DataFusion puts before its errors, which says where in its code they come from.
const PHASES: [&str; 5] =
    ["Error during planning: ", "Execution error: ", "Schema error: ", "Arrow error: ", "This feature is not implemented: "];

/// What DataFusion says, on one line. What a query's own values make a function fail at comes as its internal error, and is none.
pub fn words(error: &DataFusionError) -> String {
    if let DataFusionError::SQL(error, _) = error {
        return format!("no SQL that is known: {}", error.to_string().trim_start_matches("sql parser error: "));
    }
    let said = error.strip_backtrace();
    let (said, _) = said.split_once("\nThis issue was likely caused by a bug in DataFusion").unwrap_or((&said, ""));
    let said = said.strip_prefix("Internal error: ").filter(|said| said.contains("failed to call")).unwrap_or(said);
    let said = PHASES.iter().find_map(|phase| said.strip_prefix(phase)).unwrap_or(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// The damaged file that a reader failed at, behind the words of those that it read for.
fn damaged(error: &DataFusionError) -> Option<&Damaged> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(damaged) = error.downcast_ref() {
            return Some(damaged);
        }
        cause = error.source();
    }
    None
}

/// A failure as an operator that waits for rows is told it: the error names the stage that failed.
pub fn to_run_error(error: DataFusionError) -> RunError {
    RunError::Engine(unwrap(error).to_string())
}
