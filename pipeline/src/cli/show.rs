//! `tessera show`.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::Float64Array;
use clap::Args;

use super::summary::{self, numbers, print_columns, texts};
use super::{InFile, Namespace, Output, Session, Usage, stdout, tell_notes};
use crate::ask::export::{NewFile, is_stdout};
use crate::ask::meanwhile;
use crate::ask::show::picture::Picture;
use crate::ask::show::{Ask, show};
use crate::ask::sql::output::Format;
use crate::watch::progress::Reporter;

/// Images that people are told the names of.
const LISTED: usize = 32;

/// What to draw.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    file: InFile,
    /// The stage: of puzzles, of pixels, of assignments, or of weights.
    stage: String,
    /// How many images; for assignments, images of each cluster; for weights, filters [default: 9; all filters].
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    count: Option<u16>,
    /// For assignments: only these clusters, and not the 40 largest.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    clusters: Vec<i32>,
    /// The picture to write: a .png, .jpg or .webp, or `-` for a PNG on standard output, without the legend.
    #[arg(long = "output", short = 'o', value_name = "OUT", value_hint = clap::ValueHint::FilePath)]
    picture: PathBuf,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
    /// Print the legend alone, and say nothing else unless something is wrong.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let to_stdout = is_stdout(&self.picture);
        let picture = if to_stdout { Picture::Png } else { Picture::of(&self.picture).map_err(Usage)? };
        stdout::refuse_terminal(&self.picture, false)?;
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let node = session.stage(&self.stage)?;
        tell_notes(&meanwhile::notes(&session.catalog, &BTreeSet::from([node]))?);
        let file = if to_stdout { None } else { Some(NewFile::create(&self.picture, self.force)?) };
        let (count, most_side) = (self.count.map(usize::from), picture.most_side());
        let ask = Ask { count, clusters: &self.clusters, most_side };
        let shown = session.runtime.block_on(show(&session.catalog, node, &ask))?;
        let canvas = &shown.canvas;
        match file {
            None => {
                let mut bytes = Vec::new();
                picture.write(canvas, &mut bytes)?;
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Some(file) => {
                let mut sink = BufWriter::new(file.file()?);
                let written = picture.write(canvas, &mut sink).and_then(|()| Ok(sink.flush()?));
                written.with_context(|| format!("cannot write {}", self.picture.display()))?;
                drop(sink);
                file.finish()?;
            }
        }
        let (legend, reporter) = (&shown.legend, Reporter::new(self.quiet));
        let mut columns = vec![
            ("row", numbers(legend.iter().map(|entry| Some(entry.row as i64)))),
            ("column", numbers(legend.iter().map(|entry| Some(entry.column as i64)))),
            ("image_id", texts(legend.iter().map(|entry| &entry.image_id))),
        ];
        if legend.iter().any(|entry| entry.number.is_some()) {
            let assigned = legend.iter().any(|entry| entry.distance.is_some());
            let name = if assigned { "cluster" } else { "permutation" };
            columns.push((name, numbers(legend.iter().map(|entry| entry.number))));
            if assigned {
                let distances: Float64Array = legend.iter().map(|entry| entry.distance).collect();
                columns.push(("distance", Arc::new(distances)));
            }
        }
        if to_stdout {
            // The picture alone is data there.
        } else if self.output.format != Format::Text || (1..=LISTED).contains(&legend.len()) {
            print_columns(out, columns, self.output.format)?;
        } else if !legend.is_empty() {
            reporter.say(&format!("{} images: --format csv lists them", legend.len()));
        }
        let place = if to_stdout { "standard output".to_owned() } else { self.picture.display().to_string() };
        reporter.say(&format!("{place}: {} x {} pixels", canvas.width, canvas.height));
        if let Some(note) = &shown.note {
            reporter.say(note);
        }
        summary::left_out(&shown.dropped);
        Ok(())
    }
}
