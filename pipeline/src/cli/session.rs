//! What commands over a pipeline file share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tessera_operators::memory::Memory;
use tokio::runtime::{Handle, Runtime};

use super::Usage;
use crate::ask::sql::limits::{Exceeded, Limits};
use crate::ask::sql::planner::Planner;
use crate::ask::sql::question::Question;
use crate::ask::sql::streamed::Streamed;
use crate::declare::faults::Faults;
use crate::declare::file::{Override, PipelineFile};
use crate::declare::graph::Graph;
use crate::declare::plan::Plan;
use crate::engine::catalog::Catalog;
use crate::engine::files::AnyFiles;
use crate::engine::{Engine, recorded};
use crate::run::{self, Options};
use crate::serve::site::{Read, Reader};
use crate::store::Store;
use crate::store::generation::Generation;
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::{Reporter, tell};

/// The pipeline file that a command is about.
#[derive(Debug, Clone, Args)]
pub struct InFile {
    /// The pipeline file; where it is left out, the `pipeline.toml` of the working directory.
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

/// What a query may take.
#[derive(Debug, Clone, Copy, Args)]
pub struct Bounds {
    /// Memory that a query may take, such as 2GiB: sorts and joins of more go to files [default: half of what is free].
    #[arg(long, value_name = "BYTES")]
    memory: Option<Memory>,
    /// Seconds that a query may take [default: no end].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no number of seconds above 0");
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

impl Bounds {
    /// The limits of one query, of what is free now.
    pub fn limits(self) -> Limits {
        let rest = Limits::default();
        Limits { memory: self.memory.unwrap_or(rest.memory), timeout: self.timeout }
    }
}

/// A pipeline, its store and its engine.
pub struct Session {
    /// The stages and their tables.
    pub catalog: Arc<Catalog>,
    /// What drives the engine.
    pub runtime: Runtime,
    /// Whether the file could not be bound, so that there are the tables that were made, and no views.
    made_alone: bool,
}

impl Session {
    /// A pipeline that is bound. Its store is not asked for anything.
    ///
    /// # Errors
    /// The file is wrong, or the system gives no threads.
    pub fn open(file: &InFile, threads: Option<u16>) -> Result<Self> {
        let (threads, runtime) = start(threads)?;
        let plan = bind(&file.path, &file.overrides, runtime.handle())?;
        let store = store(&plan.graph.file, None)?;
        Self::over(plan, store, threads, runtime, None)
    }

    /// A pipeline that may not be written yet, over all images or a sample of each data set. Whose store it is, is not asked.
    ///
    /// # Errors
    /// The file is wrong, or the system gives no threads.
    pub fn of(file: PipelineFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let (threads, runtime) = start(threads)?;
        let store = store(&file, limit)?;
        let plan = bind_file(file, runtime.handle())?;
        Self::over(plan, store, threads, runtime, limit)
    }

    /// A pipeline that is bound and whose store is its own, over all images or a sample of each data set.
    ///
    /// # Errors
    /// As [`open`](Self::open); or the store's tables are another file's.
    pub fn limited(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let (threads, runtime) = start(threads)?;
        let plan = bind(&file.path, &file.overrides, runtime.handle())?;
        let store = store(&plan.graph.file, limit)?;
        tell_owner(&store, &file.path)?;
        Self::over(plan, store, threads, runtime, limit)
    }

    /// A pipeline's tables as the store has them: one generation of snapshots, and the views that the file makes of them. A file that
    /// cannot be bound (its images are gone, say) makes no views; that is told, and the snapshots are there all the same.
    ///
    /// # Errors
    /// The file is wrong, and the store has nothing of it; the store is damaged, or the system gives no threads.
    pub fn reading(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let (threads, runtime) = start(threads)?;
        let Found { plan, store, generation, note } = find(file, limit, runtime.handle())?;
        if let Some(note) = &note {
            tell(format_args!("note: {note}"));
        }
        tell_owner(&store, &file.path)?;
        let session = Self { made_alone: note.is_some(), ..Self::over(plan, store, threads, runtime, limit)? };
        session.catalog.load(&generation);
        Ok(session)
    }

    /// What reads the tables of the session again, as they are by then: the file is read anew, store and engine stay.
    pub fn reader(&self, file: InFile) -> Reader {
        let (store, engine, limit) = (self.catalog.store.clone(), self.catalog.engine.clone(), self.catalog.limit);
        let runtime = self.runtime.handle().clone();
        Box::new(move || {
            let Found { plan, generation, note, .. } = find(&file, limit.map(|limit| limit as u32), &runtime)?;
            let catalog = Catalog::new(plan, store.clone(), engine.clone(), limit);
            catalog.load(&generation);
            Ok(Read { catalog: Arc::new(catalog), note })
        })
    }

    fn over(plan: Plan, store: Store, threads: usize, runtime: Runtime, limit: Option<u32>) -> Result<Self> {
        let engine =
            Engine::new(threads, Arc::new(AnyFiles::default()), store.unpacked()).context("cannot start threads")?;
        let catalog = Catalog::new(plan, store, engine, limit.map(|limit| limit as usize));
        Ok(Self { catalog: Arc::new(catalog), runtime, made_alone: false })
    }

    /// Reads the file anew, for what it names may have changed meanwhile. Store and engine stay.
    ///
    /// # Errors
    /// The file is wrong.
    pub fn bind_again(&mut self, file: &InFile) -> Result<()> {
        let plan = bind(&file.path, &file.overrides, self.runtime.handle())?;
        let (store, engine) = (self.catalog.store.clone(), self.catalog.engine.clone());
        self.catalog = Arc::new(Catalog::new(plan, store, engine, self.catalog.limit));
        Ok(())
    }

    /// Runs. A part that proves damaged while it is read ends a run; the next one knows, and makes it anew.
    ///
    /// # Errors
    /// A stage fails.
    pub fn run(&mut self, file: &InFile, options: &Options, reporter: Reporter) -> Result<run::Report> {
        let mut blamed = BTreeSet::new();
        loop {
            let error = match self.runtime.block_on(run::run(&self.catalog, options, reporter.clone())) {
                Ok(report) => return Ok(report),
                Err(error) => error,
            };
            match self.catalog.store.health().blamed(&format!("{error:#}")) {
                Some(damaged) if blamed.insert(damaged.path.clone()) => reporter.warn(&damaged.to_string()),
                _ => return Err(error),
            }
            self.bind_again(file)?;
        }
    }

    /// Answers a query as its rows come. One that exceeds its limits and does not see it takes the process with it.
    ///
    /// # Errors
    /// As [`Streamed::open`].
    pub fn ask(&self, question: impl Into<Question>, limits: Limits, interrupt: &Interrupt) -> Result<Streamed> {
        let abandon = |why: Exceeded| {
            tell(format_args!("error: {why}"));
            leave(1);
        };
        let asked = Streamed::open(self.runtime.handle(), &self.catalog, question.into(), limits, interrupt, abandon);
        asked.map_err(|error| {
            if !self.made_alone {
                return error;
            }
            let nodes = &self.catalog.plan.graph.nodes;
            let names = nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
            anyhow!("{error:#}; while the file has faults, there is what was made: {names}")
        })
    }

    /// The stages of these names, cells of swept ones included.
    ///
    /// # Errors A name matches no stage. The command line reports it as a wrong argument (exit 2).
    pub fn stages(&self, names: &[String]) -> Result<Vec<usize>> {
        self.catalog.plan.graph.named(names).map_err(|error| Usage(format!("{error:#}")).into())
    }

    /// The stage of that name.
    ///
    /// # Errors No stage has this name. The command line reports it as a wrong argument (exit 2).
    pub fn stage(&self, name: &str) -> Result<usize> {
        self.catalog.plan.graph.only(name).map_err(|error| Usage(format!("{error:#}")).into())
    }
}

/// A pipeline's tables as the store has them.
struct Found {
    plan: Plan,
    store: Store,
    generation: Generation,
    /// Of a file that cannot be bound: why, and that there are no views.
    note: Option<String>,
}

/// Finds a pipeline's tables.
///
/// # Errors
/// As [`Session::reading`].
fn find(file: &InFile, limit: Option<u32>, runtime: &Handle) -> Result<Found> {
    let error = match bind(&file.path, &file.overrides, runtime) {
        Ok(mut plan) => {
            let store = store(&plan.graph.file, limit)?;
            let generation = Generation::read(&store)?;
            recorded::extend(&mut plan, &generation);
            return Ok(Found { plan, store, generation, note: None });
        }
        // What the command line changes would not be answered for.
        Err(error) if !file.overrides.is_empty() => return Err(error),
        Err(error) => error,
    };
    let Some(faults) = error.downcast_ref::<Faults>() else { return Err(error) };
    let place = PipelineFile::read_place(&file.path)?;
    let store = store(&place, limit)?;
    let generation = Generation::read(&store)?;
    if generation.is_empty() {
        return Err(error);
    }
    let note = format!("{}; the answer is what the last runs made, without views", faults.summary());
    Ok(Found { plan: recorded::plan(place, &generation), store, generation, note: Some(note) })
}

/// Ends the process at once: a query that does not end by itself is not waited for, and neither is what libraries do at the end.
pub fn leave(code: i32) -> ! {
    tessera_operators::leave();
    // SAFETY: nothing of this process runs on.
    unsafe { libc::_exit(code) }
}

/// A pipeline's store, or that of a sample of its images, and the names of the stages that its file has, if the file can be read that far.
///
/// # Errors
/// The file cannot be read, or does not say where its store is.
pub fn store_of(file: &InFile, limit: Option<u32>) -> Result<(Store, Option<BTreeSet<String>>)> {
    match PipelineFile::read(&file.path, &file.overrides) {
        Ok(read) if read.faults.is_empty() => {
            let names = read.stages.iter().map(|stage| stage.name.text.clone()).collect();
            Ok((store(&read, limit)?, Some(names)))
        }
        Ok(_) => Ok((store(&PipelineFile::read_place(&file.path)?, limit)?, None)),
        Err(error) if error.is::<Faults>() => Ok((store(&PipelineFile::read_place(&file.path)?, limit)?, None)),
        Err(error) => Err(Usage(format!("{error:#}")).into()),
    }
}

/// Records that a run failed before it began, so that `status` tells of it: its file has faults, or its images are gone. Where it cannot be
/// recorded, it was told all the same.
pub fn record_failure(file: &InFile, limit: Option<u32>, error: &anyhow::Error) {
    let Some(faults) = error.downcast_ref::<Faults>() else { return };
    let record = || -> Result<()> {
        let place = PipelineFile::read_place(&file.path)?;
        let store = store(&place, limit)?;
        store.check_owner(&file.path)?;
        run::record_failure(&store, &place.name, faults.summary())
    };
    let _ = record();
}

/// Makes sure that a store's tables are a file's, and tells what a person should know of that.
///
/// # Errors
/// They are another file's.
pub fn tell_owner(store: &Store, file: &Path) -> Result<()> {
    if let Some(note) = store.check_owner(file)? {
        tell(format_args!("note: {note}"));
    }
    Ok(())
}

/// Bytes of a thread's stack, of which only what is used takes memory: queries are trees that are walked by recursion.
const STACK: usize = 64 << 20;

/// How many threads may work, and what drives the engine.
fn start(threads: Option<u16>) -> Result<(usize, Runtime)> {
    let threads = match threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_stack_size(STACK).enable_all().build();
    Ok((threads, runtime.context("cannot start threads")?))
}

/// Where a file's tables lie, or those of its first images.
fn store(file: &PipelineFile, limit: Option<u32>) -> Result<Store> {
    let name = limit.map_or_else(|| file.name.clone(), |limit| format!("{}@{limit}", file.name));
    Store::at_place(&file.store, &name)
}

fn bind(path: &Path, overrides: &[Override], runtime: &Handle) -> Result<Plan> {
    let file = PipelineFile::read(path, overrides).map_err(|error| {
        // A file that cannot be read is a wrong argument.
        if error.is::<Faults>() { error } else { Usage(format!("{error:#}")).into() }
    })?;
    bind_file(file, runtime)
}

fn bind_file(file: PipelineFile, runtime: &Handle) -> Result<Plan> {
    Ok(Plan::bind(Graph::resolve(file), &Planner { runtime: runtime.clone() }, &AnyFiles::default())?)
}
