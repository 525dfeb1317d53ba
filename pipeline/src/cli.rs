//! The command line. Data goes to stdout, progress and errors to stderr; [`EXIT_CODES`] says how it ends.

mod arguments;
mod check;
mod completions;
mod diff;
mod docs;
mod ending;
mod export;
mod gc;
mod graph;
mod init;
mod markdown;
mod open_files;
mod page;
mod path;
mod prompt;
mod reference;
mod report;
mod run;
mod serve;
mod session;
mod show;
mod sql;
mod status;
mod stdout;
mod summary;
mod wait;

use std::ffi::OsString;
use std::io::Write as _;

use anyhow::Result;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use serde_json::json;

use crate::ask::sql::output::Format;
use crate::run::Options;
use crate::watch::progress::tell;
use ending::{EXIT_CODES, Usage, refuse, told};
use session::{Bounds, InFile, Namespace, Session};
use stdout::Stdout;

/// Learn from unlabelled images: puzzles in, pseudo-labels out.
///
/// A pipeline is one TOML file of stages; `tessera run FILE` makes their tables and `tessera sql FILE` asks them. A second run
/// does only what changed.
#[derive(Debug, Parser)]
#[command(
    name = "tessera",
    version,
    arg_required_else_help = true,
    after_help = format!("{}\n\n{EXIT_CODES}", "\
Examples:
  tessera check pipeline.toml
  tessera run pipeline.toml --to clusters
  tessera run pipeline.toml --set clusters.k=500
  tessera run pipeline.toml --set 'sweep.clusters.k=[500, 1000]'
  tessera sql pipeline.toml \"SELECT cluster, count(*) FROM assigned GROUP BY cluster ORDER BY 2 DESC\"")
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads that may work at once, at most 1024 [default: all cores].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a pipeline file for a folder of images.
    #[command(after_help = init::HELP)]
    Init(init::Init),
    /// Find everything that is wrong with a pipeline file, before any image is read.
    #[command(after_help = "\
If nothing is wrong, --format json describes the file: its `name`, where its `store` lies, and for each of its `stages` the operator, whether
it is a view, and, for images, the `path` of the data set. The tables of `run --limit N` lie in the store as NAME@N.")]
    Check(check::Check),
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
    #[command(after_help = run::HELP)]
    Run(run::Run),
    /// Ask the stages' tables, and `stages`, `snapshots`, `parts`, `runs`, `metrics` and `dropped`.
    #[command(after_help = "\
Beside DataFusion's functions there are the aggregates nmi(a, b), ami(a, b), ari(a, b), purity(cluster, label) and
accuracy(cluster, label), and the tables snapshot('stage', 'key') of earlier snapshots, whose keys the table `snapshots` lists.
Without a query there is a prompt, where Tab completes names. A query may have parameters, $NAME, whose values --param gives. Columns of
one name are told apart in JSON, CSV and files: cluster, cluster_1.
JSON has no NaN and no infinite numbers: --format json prints null for them, as for nulls; csv and text
print NaN and inf, and the files of -o hold them. Examples:
  tessera sql pipeline.toml
  tessera sql pipeline.toml --format csv < query.sql
  tessera sql 'SELECT * FROM assigned WHERE cluster = $c' --param c=3    # of the pipeline.toml here
  tessera sql pipeline.toml \"SELECT * FROM snapshot('assigned', 'previous') ORDER BY distance LIMIT 10\"
  tessera sql pipeline.toml \"SELECT nmi(a.cluster, i.label) FROM assigned a JOIN images i USING (image_id)\"")]
    Sql(sql::Sql),
    /// Draw the stages and what they read.
    Graph {
        #[command(flatten)]
        file: InFile,
        /// How it is drawn.
        #[arg(long, value_enum, default_value_t)]
        format: graph::Drawing,
    },
    /// Say which stages have a snapshot, of how many rows, and since when, and how the last run ended.
    #[command(after_help = "\
After the table it says when the last run was, how it ended, and when a run last changed a table. It ends with exit code 1 if a table is damaged.")]
    Status(status::Status),
    /// Say which rows differ between two snapshots of a stage: by default, the current one and the one before it.
    #[command(after_help = "\
Rows are compared by image_id where there is one, and otherwise as a whole. The table `snapshots` lists the keys. Examples:
  tessera diff pipeline.toml assigned
  tessera diff pipeline.toml images previous current --rows
  tessera diff pipeline.toml assigned 1a2b3c 4d5e6f --rows 100000 --format csv")]
    Diff(diff::Diff),
    /// Print what stages measured; of a sweep, a row for each combination, with means and deviations over the seeds. With -o, write a page of figures.
    #[command(after_help = "\
Lists of values in a pipeline file make a grid of stages; the stages that they read run once:

  [sweep]
  \"clusters.k\" = [500, 1000, 2000]
  \"clusters.seed\" = [1, 2, 3]

A row sums up the cells that differ only in their seed, and `seeds` is how many these are. A metric's column has the mean of its last values in
these cells and, from two cells on, their sample deviation: `0.7245 ±0.0071` in text, NAME_mean and NAME_sd in csv and json. If the table of a
`sql` stage has one row, its numbers are metrics too. Cells that are not made yet are left out.

With -o OUT.html, one HTML file shows the stages, the clusters with their images, curves, sweeps, probes, filters, the images that were left out and
where the time went, each with its numbers and the SQL that gives them. A browser opens it without a server, and it loads nothing. Examples:
  tessera report pipeline.toml
  tessera report pipeline.toml -o report.html
  tessera report pipeline.toml assigned -o clusters.html --force
  tessera report pipeline.toml clusters --metric objective --format csv
  tessera report pipeline.toml clusters@k=500")]
    Report(report::Report),
    /// Serve the figures, clusters and images as live pages, for a browser on this machine.
    #[command(after_help = serve::HELP)]
    Serve(serve::Serve),
    /// Draw rows of a stage: puzzles beside their images, pixels, the images of each cluster, or a network's first filters.
    #[command(after_help = "\
Of puzzles, it draws the image on the left and the shuffled tiles on the right; tiles of another image are framed. Of pixels, it draws a
sheet of images from all over the table. Of assignments, each row is a cluster, with its number in front, and the images nearest to its
centre come first. Of weights, it draws the filters of the first layer; zero is gray. It prints which image is where.
Examples:
  tessera show pipeline.toml puzzles -n 9 -o puzzles.png
  tessera show pipeline.toml assigned -n 12 --clusters 3,17 -o clusters.png
  tessera show pipeline.toml pretext -o filters.png")]
    Show(show::Show),
    /// Write a stage's table, or its images, for other programs: Parquet, CSV, safetensors, FiftyOne, Label Studio and others.
    #[command(after_help = "\
Parquet holds any table. CSV spreads a vector over the columns feature_0, feature_1, …, and a struct over source.path, …
safetensors holds a table of weights as its tensors, by name, with the network and the normalisation as metadata. Of any other table, it
holds each column of numbers as one tensor [rows, …]; columns of text go beside it, a line a row (features.ids.csv beside
features.safetensors). The file appears when it is whole.

An import file names the images where they lie, the column --by as their class, and all columns of numbers, texts, truth values and times;
a column `boxes` becomes boxes. fiftyone is a folder for fiftyone.Dataset.from_dir(dataset_dir=OUT,
dataset_type=fiftyone.types.FiftyOneDataset). label-studio is a .json of tasks with predictions, beside it an .xml with the labelling
configuration; images are served by Label Studio below --document-root, or lie in a bucket. With --images FOLDER as well, the images are copied
there, and the import file names the copies: images in tars, Parquet and HDF5 files need this. Examples:
  tessera export pipeline.toml features -o features.parquet
  tessera export pipeline.toml assigned -o clusters.csv --columns image_id,cluster
  tessera export pipeline.toml pretext -o pretext.safetensors
  tessera export pipeline.toml assigned --images by_cluster --by cluster
  tessera export pipeline.toml assigned --format fiftyone --by cluster -o clusters
  tessera export pipeline.toml assigned --format label-studio --by cluster -o tasks.json
  tessera export pipeline.toml assigned --images copies --format fiftyone --by cluster -o clusters")]
    Export(export::Export),
    /// Print the Parquet files of a stage's current table, for other programs to read in place.
    #[command(after_help = "\
Their folder has files of earlier tables as well, so read the printed files and not the whole folder. A run makes new files and leaves these as
they are, until `tessera gc --delete`. Example, with DuckDB:
  duckdb -c \"SELECT * FROM read_parquet([$(tessera path pipeline.toml assigned | sed \"s/.*/'&'/\" | paste -sd,)])\"")]
    Path(path::Path),
    /// Say what of the store nothing needs any more, and with --delete delete it.
    #[command(after_help = "\
It keeps the current snapshots, the tables that the last runs made (runs that changed nothing do not count), with --keep TIME what was
current at some time since then, and what an interrupted run finished. It deletes stages that the file does not name any more, and the tables of
`run --limit`; with --limit N, it looks at those tables alone. `tessera run --gc` does the same after a run. Examples:
  tessera gc pipeline.toml --keep-runs 1 --delete
  tessera gc pipeline.toml --keep \"7 days\" --delete")]
    Gc(gc::Gc),
    /// List the operators, or describe one: what it reads, its keys, its table.
    #[command(after_help = "\
Examples:
  tessera operators
  tessera operators kmeans
  tessera operators kmeans --format markdown
  tessera operators --networks --side 64
  tessera operators --networks --pytorch > networks.py
  tessera operators --format json")]
    Operators(reference::Operators),
    /// Print the JSON schema of pipeline files, with which editors complete and check them.
    #[command(after_help = "\
With the extension Even Better TOML (taplo), a pipeline file that begins with this line is completed and checked as it is typed:
  #:schema tessera.json
Example:
  tessera schema > tessera.json")]
    Schema,
    /// Print a script that completes commands and options in a shell.
    #[command(after_help = "\
To install it:
  bash        tessera completions bash > ~/.local/share/bash-completion/completions/tessera
  zsh         tessera completions zsh > ~/.zfunc/_tessera    # with fpath+=~/.zfunc before compinit in ~/.zshrc
  fish        tessera completions fish > ~/.config/fish/completions/tessera.fish
  powershell  tessera completions powershell >> $PROFILE
  elvish      tessera completions elvish >> ~/.config/elvish/rc.elv")]
    Completions(completions::Completions),
    /// Write a page of each command and each operator, as Markdown for a book.
    #[command(hide = true)]
    Docs(docs::Docs),
}

#[derive(Debug, Args)]
struct Choice {
    /// Only this stage and what it reads; may be given several times.
    #[arg(long, value_name = "STAGE")]
    to: Vec<String>,
    /// Make this stage anew, whether it changed or not; may be given several times.
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// Only N of the images, chosen by the hashes of their names. Their tables are separate, and the full tables stay as they are.
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

/// Runs the command line of this process, and ends it. libtorch takes a tenth of a second to forget its operators one by one, which
/// nobody waits for.
pub fn main() -> ! {
    session::leave(i32::from(run_command_line()))
}

/// Runs the command line of this process, and says how it ends.
fn run_command_line() -> u8 {
    quiet_workers();
    open_files::raise();
    match parse(wait::joined(std::env::args_os())).and_then(command) {
        Ok(code) => code,
        Err(error) => told(&error),
    }
}

/// The words of a command line as what they mean. A wrong one, or one that asks for help, ends the process.
fn parse(words: Vec<OsString>) -> Result<Arguments> {
    let all = arguments::with_optional_file(Arguments::command());
    let words = arguments::with_file(&all, words)?;
    let parsed = all.try_get_matches_from(words).and_then(|found| Arguments::from_arg_matches(&found));
    Ok(parsed.unwrap_or_else(|error| refuse(&error)))
}

/// A panic on a worker's thread becomes an error of what it worked for, and is told as such; with RUST_BACKTRACE, where it was as well.
fn quiet_workers() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let is_worker = thread.name().is_some_and(|name| name.starts_with("tokio") || name.starts_with("tessera-"));
        if !is_worker || std::env::var_os("RUST_BACKTRACE").is_some() {
            tell(panic);
        }
    }));
}

/// More threads than that a system may refuse, and no machine has as many cores.
const MOST_THREADS: i64 = 1024;

fn command(arguments: Arguments) -> Result<u8> {
    let threads = arguments.threads;
    let mut out = Stdout::lock();
    match arguments.command {
        Command::Init(init) => init.run(&mut out, threads)?,
        Command::Completions(completions) => completions.run::<Arguments>(&mut out)?,
        Command::Docs(docs) => docs.run::<Arguments>(&mut out)?,
        Command::Check(check) => check.run(&mut out, threads)?,
        Command::Plan { file, choice, output } => {
            let session = Session::limited(&file, threads, choice.limit)?;
            let stages = crate::run::plan(&session.catalog, &check_names(&session, choice)?)?;
            match output.format {
                Format::Json => writeln!(out, "{}", json!({ "stages": stages }))?,
                format => summary::plan(&mut out, &stages, format)?,
            }
        }
        Command::Run(run) => {
            let code = run.run(&mut out, threads)?;
            out.flush()?;
            return Ok(code);
        }
        Command::Sql(sql) => sql.run(&mut out, threads)?,
        Command::Graph { file, format } => {
            let session = Session::open(&file, threads)?;
            graph::draw(&mut out, &session.catalog.plan, format)?;
        }
        Command::Status(status) => return status.run(&mut out, threads),
        Command::Report(report) => report.run(&mut out, threads)?,
        Command::Serve(serve) => return serve.run(&mut out, threads),
        Command::Diff(diff) => diff.run(&mut out, threads)?,
        Command::Show(show) => show.run(&mut out, threads)?,
        Command::Export(export) => export.run(threads)?,
        Command::Path(path) => path.run(&mut out, threads)?,
        Command::Gc(gc) => gc.run(&mut out)?,
        Command::Operators(operators) => operators.run(&mut out)?,
        Command::Schema => reference::schema(&mut out)?,
    }
    out.flush()?;
    Ok(0)
}

/// Stage names of the command line, checked before anything runs.
fn check_names(session: &Session, choice: Choice) -> Result<Options> {
    let graph = &session.catalog.plan.graph;
    let (to, forced) = (session.stages(&choice.to)?, session.stages(&choice.force)?);
    let made = if to.is_empty() { (0..graph.nodes.len()).collect() } else { graph.upstream(&to) };
    for node in forced {
        let name = session.catalog.name(node);
        if graph.nodes[node].view {
            let readers = graph.readers(node);
            let readers = if readers.is_empty() { String::new() } else { format!(": force {}", readers.join(" or ")) };
            let message = format!(
                "--force {name}: `{name}` is a view, computed whenever it is read; what reads it can be forced{readers}"
            );
            return Err(Usage(message).into());
        }
        if !made.contains(&node) {
            let message =
                format!("--force {name}: `{name}` is not among the stages that --to names and those that they read");
            return Err(Usage(message).into());
        }
    }
    Ok(choice.options())
}

/// Tells what is to be known of an answer.
fn tell_notes(notes: &[String]) {
    notes.iter().for_each(|note| tell(format_args!("note: {note}")));
}

/// A number of things, in words: `1 stage`, `7 stages`.
fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
