//! The command line. Data goes to stdout, progress and errors to stderr; 0: ok, 1: the run failed, 2: usage or a wrong file.

mod graph;
mod summary;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tessera_datasets::local::LocalFiles;
use tokio::runtime::Runtime;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::faults::Faults;
use crate::file::{Override, PipelineFile};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::report::Reporter;
use crate::run::{self, Options};
use crate::sql::output::{Format, print};
use crate::sql::provider::Planner;
use crate::store::{Store, gc};
use crate::{run::decide::Action, sql};

/// Learn from unlabelled images: puzzles in, pseudo-labels out.
///
/// A pipeline is one TOML file of stages; `tessera run FILE` makes their tables and `tessera sql FILE` asks them. A second run
/// does only what changed.
#[derive(Debug, Parser)]
#[command(
    name = "tessera",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tessera check pipeline.toml
  tessera run pipeline.toml --to clusters
  tessera run pipeline.toml --set clusters.k=500
  tessera sql pipeline.toml \"SELECT cluster, count(*) FROM assigned GROUP BY cluster ORDER BY 2 DESC\""
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads that may work at once [default: all cores].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find everything that is wrong with a pipeline file, before any image is read.
    Check(InFile),
    /// Say what a run would do, and why.
    Plan {
        #[command(flatten)]
        file: InFile,
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        output: Output,
    },
    /// Make what is not made yet or has changed.
    Run {
        #[command(flatten)]
        file: InFile,
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        output: Output,
        /// Say nothing while it goes on.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Ask the stages' tables, and `stages`, `parts`, `runs`, `metrics` and `dropped`.
    #[command(after_help = "\
Beside DataFusion's functions there are the aggregates nmi(a, b), ami(a, b), ari(a, b), purity(cluster, label) and
accuracy(cluster, label). Example:
  tessera sql pipeline.toml \"SELECT nmi(a.cluster, i.label) FROM assigned a JOIN images i USING (image_id)\"")]
    Sql {
        #[command(flatten)]
        file: InFile,
        /// One SELECT; without it, the query is read from standard input.
        query: Option<String>,
        /// Ask the tables that `run --limit N` made.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        #[command(flatten)]
        output: Output,
    },
    /// Draw the stages and what they read.
    Graph {
        #[command(flatten)]
        file: InFile,
        /// How it is drawn.
        #[arg(long, value_enum, default_value_t)]
        format: graph::Drawing,
    },
    /// Say which stages have a snapshot, of how many rows, and since when.
    Status {
        #[command(flatten)]
        file: InFile,
        #[command(flatten)]
        output: Output,
    },
    /// Say what of the store nothing needs any more, and with --delete delete it.
    #[command(after_help = "\
Kept are the current snapshots and what the last runs made. Example:
  tessera gc pipeline.toml --keep-runs 1 --delete")]
    Gc {
        #[command(flatten)]
        file: InFile,
        /// Keep also what this many of the last runs made.
        #[arg(long, default_value_t = 3, value_name = "N")]
        keep_runs: usize,
        /// Delete it.
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List the operators, or describe one.
    Operators {
        /// The one to describe.
        name: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct InFile {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Another value for a key of a stage, or of `pipeline`; may be given several times.
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    overrides: Vec<Override>,
}

#[derive(Debug, Args)]
struct Choice {
    /// Only this stage and what it reads; may be given several times.
    #[arg(long, value_name = "STAGE")]
    to: Vec<String>,
    /// Make this stage anew, whether it changed or not; may be given several times.
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// Only the first N images, in a namespace of their own: the full tables stay as they are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
struct Output {
    /// How data is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Choice {
    fn options(self) -> Options {
        Options { to: self.to, force: self.force }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match command(arguments) {
        Ok(code) => code,
        Err(error) => {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            match error.downcast_ref::<Faults>() {
                Some(faults) => eprintln!("{}", faults.render(io::stderr().is_terminal())),
                None => eprintln!("error: {error:#}"),
            }
            let usage = error.is::<Faults>() || error.is::<Usage>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// A wrong command line that clap could not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// What commands over a pipeline file share.
struct Session {
    catalog: Arc<Catalog>,
    runtime: Runtime,
}

impl Session {
    fn open(file: &InFile, threads: Option<u16>) -> Result<Self> {
        Self::limited(file, threads, None)
    }

    /// The same over the first images of each data set.
    fn limited(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
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
    fn reading(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Result<Self> {
        let session = Self::limited(file, threads, limit)?;
        session.catalog.load_current()?;
        Ok(session)
    }
}

fn bind(path: &Path, overrides: &[Override], runtime: &Runtime) -> Result<Plan> {
    let file = PipelineFile::read(path, overrides).map_err(|error| {
        // A file that cannot be read is a wrong argument.
        if error.is::<Faults>() { error } else { Usage(format!("{error:#}")).into() }
    })?;
    Ok(Plan::bind(Graph::resolve(file), &Planner { runtime: runtime.handle().clone() })?)
}

fn command(arguments: Arguments) -> Result<ExitCode> {
    let threads = arguments.threads;
    let mut out = io::stdout().lock();
    match arguments.command {
        Command::Check(file) => {
            let session = Session::open(&file, threads)?;
            let plan = &session.catalog.plan;
            for (node, note) in plan.notes()? {
                writeln!(out, "{}: {note}", plan.graph.nodes[node].name)?;
            }
            writeln!(out, "{}: {} stages, nothing wrong", file.path.display(), plan.stages.len())?;
        }
        Command::Plan { file, choice, output } => {
            let session = Session::limited(&file, threads, choice.limit)?;
            let stages = run::plan(&session.catalog, &check_names(&session, choice)?)?;
            match output.format {
                Format::Json => writeln!(out, "{}", json!({ "stages": stages }))?,
                format => summary::plan(&mut out, &stages, format)?,
            }
        }
        Command::Run { file, choice, output, quiet } => {
            let session = Session::limited(&file, threads, choice.limit)?;
            let options = check_names(&session, choice)?;
            let _lock = session.catalog.store.lock()?;
            let report = session.runtime.block_on(run::run(&session.catalog, &options, Reporter::new(quiet)))?;
            match output.format {
                Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
                format => summary::run(&mut out, &report, format)?,
            }
        }
        Command::Sql { file, query, limit, output } => {
            let query = match query {
                Some(query) => query,
                None => io::read_to_string(io::stdin()).context("cannot read a query from standard input")?,
            };
            let session = Session::reading(&file, threads, limit)?;
            let answer = session.runtime.block_on(sql::query(&session.catalog, &query))?;
            print(&mut out, &answer.schema, &answer.batches, output.format)?;
            summary::left_out(&mut io::stderr(), &answer.dropped)?;
        }
        Command::Graph { file, format } => {
            let session = Session::open(&file, threads)?;
            graph::draw(&mut out, &session.catalog.plan, format)?;
        }
        Command::Status { file, output } => {
            let session = Session::reading(&file, threads, None)?;
            let query = "SELECT stage, operator, is_view, rows, parts, bytes, seconds, made FROM stages";
            let answer = session.runtime.block_on(sql::query(&session.catalog, query))?;
            print(&mut out, &answer.schema, &answer.batches, output.format)?;
        }
        Command::Gc { file, keep_runs, delete, output } => {
            let session = Session::open(&file, threads)?;
            let _lock = session.catalog.store.lock()?;
            let garbage = gc::find(&session.catalog.store, keep_runs)?;
            if delete {
                gc::delete(&garbage)?;
            }
            match output.format {
                Format::Json => writeln!(out, "{}", serde_json::to_string(&garbage)?)?,
                format => summary::garbage(&mut out, &garbage, delete, format)?,
            }
        }
        Command::Operators { name, output } => summary::operators(&mut out, name.as_deref(), output.format)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Stage names of the command line, checked before anything runs.
fn check_names(session: &Session, choice: Choice) -> Result<Options> {
    for name in choice.to.iter().chain(&choice.force) {
        run::find(&session.catalog, name).map_err(|error| Usage(format!("{error:#}")))?;
    }
    Ok(choice.options())
}

/// The word for an action, as tables show it.
fn word(action: Action) -> &'static str {
    action.name()
}
