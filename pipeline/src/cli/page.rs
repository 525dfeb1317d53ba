//! `tessera report -o`: the figures as one HTML file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{InFile, Session, Usage, tell_notes};
use crate::ask::export::NewFile;
use crate::ask::meanwhile;
use crate::ask::page::figures::State;
use crate::ask::page::report::{self, Options};
use crate::run;
use crate::watch::progress::Reporter;

/// Where the figures go.
#[derive(Debug, Args)]
pub struct Page {
    /// Write the figures to this HTML file; `-` writes them to standard output.
    #[arg(long = "output", short = 'o', value_name = "OUT.html", value_hint = clap::ValueHint::FilePath)]
    to: Option<PathBuf>,
    /// With -o: megabytes that the file may have; images of clusters take what the rest leaves.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000), requires = "to")]
    limit_mb: u16,
    /// With -o: overwrite a file that is there.
    #[arg(long, requires = "to")]
    force: bool,
    /// With -o: say nothing while it goes on.
    #[arg(long, short, requires = "to")]
    quiet: bool,
}

/// The file that stands for standard output.
const STDOUT: &str = "-";

impl Page {
    /// Whether figures are asked for.
    ///
    /// # Errors The ending of the file is not one of HTML.
    pub fn wanted(&self) -> Result<Option<&Path>, Usage> {
        let Some(to) = &self.to else { return Ok(None) };
        let ending = to.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if to != Path::new(STDOUT) && !["html", "htm"].contains(&ending.as_str()) {
            return Err(Usage(format!("{}: a report is an HTML file; name one that ends with .html", to.display())));
        }
        Ok(Some(to))
    }

    /// Writes them.
    ///
    /// # Errors
    /// A stage is unknown, a table is damaged, or the file cannot be written.
    pub fn write(
        &self,
        file: &InFile,
        stages: &[String],
        (threads, limit): (Option<u16>, Option<u32>),
        to: &Path,
        out: &mut dyn Write,
    ) -> Result<()> {
        let session = Session::reading(file, threads, limit)?;
        let chosen = session.stages(stages)?;
        session.catalog.engine.interrupt.install()?;
        let new = (to != Path::new(STDOUT)).then(|| NewFile::create(to, self.force)).transpose()?;
        let notes = meanwhile::notes(&session.catalog, &(0..session.catalog.plan.graph.nodes.len()).collect())?;
        tell_notes(&notes);
        // What a run would do is asked in a session of its own: the answers of this one stay those of its generation.
        let states = states(file, threads, limit);
        let bytes = usize::from(self.limit_mb) * 1_000_000;
        let options =
            Options { stages: chosen.into_iter().collect(), arguments: session.catalog.arguments(), bytes, states, notes };
        let reporter = Reporter::new(self.quiet);
        let work = report::report(session.catalog.clone(), options, reporter.clone());
        let page = session.runtime.block_on(session.runtime.spawn(work)).context("the report ended without a word")??;
        match new {
            None => out.write_all(page.as_bytes())?,
            Some(new) => {
                let mut sink: BufWriter<File> = BufWriter::new(new.file()?);
                sink.write_all(page.as_bytes())
                    .and_then(|()| sink.flush())
                    .with_context(|| format!("cannot write {}", to.display()))?;
                let bytes = new.finish()?;
                reporter.say(&format!("{}: {bytes} bytes", to.display()));
            }
        }
        Ok(())
    }
}

/// What a run would do about each stage, if that can be said: the file is bound, and the data are there.
pub fn states(file: &InFile, threads: Option<u16>, limit: Option<u32>) -> Vec<State> {
    let planned =
        Session::limited(file, threads, limit).and_then(|session| run::plan(&session.catalog, &run::Options::default()));
    let one = |stage: run::PlannedStage| State {
        stage: stage.stage,
        action: stage.action.name().to_owned(),
        reasons: stage.reasons,
    };
    planned.map(|stages| stages.into_iter().map(one).collect()).unwrap_or_default()
}
