//! What commands over a pipeline file share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use tessera_datasets::local::LocalFiles;
use tokio::runtime::Runtime;

use super::Usage;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::faults::Faults;
use crate::file::{Override, PipelineFile};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::report::Reporter;
use crate::run::{self, Options};
use crate::sql::provider::Planner;
use crate::store::Store;

/// The pipeline file that a command is about.
#[derive(Debug, Args)]
pub struct InFile {
    /// The pipeline file.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub path: PathBuf,
    /// Another value for a key of a stage, of `pipeline` or of `sweep`; may be given several times.
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    pub overrides: Vec<Override>,
}

/// Which of a pipeline's tables a command reads.
#[derive(Debug, Args)]
pub struct Namespace {
    /// The tables that `run --limit N` made.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// A pipeline that is bound, its store and its engine.
pub struct Session {
    /// The stages and their tables.
    pub catalog: Arc<Catalog>,
    /// What drives the engine.
    pub runtime: Runtime,
}

impl Session {
    /// A pipeline whose tables are not looked at yet.
    ///
    /// # Errors
    /// The file is wrong, or the system gives no threads.
    pub fn open(file: &InFile, threads: Option<u16>) -> Result<Self> {
        Self::limited(file, threads, None)
    }

    /// The same over the first images of each data set.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn limited(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let threads = match threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.context("cannot start threads")?;
        let plan = bind(&file.path, &file.overrides, &runtime)?;
        let name = match limit {
            Some(limit) => format!("{}@{limit}", plan.graph.file.name),
            None => plan.graph.file.name.clone(),
        };
        let store = Store::new(&plan.graph.file.store, &name);
        let engine = Engine::new(threads, Arc::new(LocalFiles)).context("cannot start threads")?;
        let catalog = Catalog::new(plan, store, engine, limit.map(|limit| limit as usize));
        Ok(Self { catalog: Arc::new(catalog), runtime })
    }

    /// The same over the snapshots that there are.
    ///
    /// # Errors
    /// As [`open`](Self::open); or the store is damaged.
    pub fn reading(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let session = Self::limited(file, threads, limit)?;
        session.catalog.load_current()?;
        Ok(session)
    }

    /// Runs. A part that proves damaged while it is read ends a run; the next one knows, and makes it anew.
    ///
    /// # Errors
    /// A stage fails.
    pub fn run(&mut self, file: &InFile, options: &Options, reporter: Reporter) -> Result<run::Report> {
        let mut blamed = BTreeSet::new();
        loop {
            let error = match self.runtime.block_on(run::run(&self.catalog, options, reporter)) {
                Ok(report) => return Ok(report),
                Err(error) => error,
            };
            let store = self.catalog.store.clone();
            match store.health().blamed(&format!("{error:#}")) {
                Some(damaged) if blamed.insert(damaged.path.clone()) => reporter.warn(&damaged.to_string()),
                _ => return Err(error),
            }
            let (engine, limit) = (self.catalog.engine.clone(), self.catalog.limit);
            let plan = bind(&file.path, &file.overrides, &self.runtime)?;
            self.catalog = Arc::new(Catalog::new(plan, store, engine, limit));
        }
    }

    /// The stages of these names, cells of swept ones included.
    ///
    /// # Errors
    /// One names none: a wrong argument.
    pub fn stages(&self, names: &[String]) -> Result<Vec<usize>> {
        run::named(&self.catalog, names).map_err(|error| Usage(format!("{error:#}")).into())
    }

    /// The stage of that name.
    ///
    /// # Errors
    /// There is none: a wrong argument.
    pub fn stage(&self, name: &str) -> Result<usize> {
        run::find(&self.catalog, name).map_err(|error| Usage(format!("{error:#}")).into())
    }
}

fn bind(path: &Path, overrides: &[Override], runtime: &Runtime) -> Result<Plan> {
    let file = PipelineFile::read(path, overrides).map_err(|error| {
        // A file that cannot be read is a wrong argument.
        if error.is::<Faults>() { error } else { Usage(format!("{error:#}")).into() }
    })?;
    Ok(Plan::bind(Graph::resolve(file), &Planner { runtime: runtime.handle().clone() })?)
}
