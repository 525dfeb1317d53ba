//! `tessera show`.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::Float64Array;
use clap::Args;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use super::summary::{self, numbers, print_columns, texts};
use super::{InFile, Namespace, Output, Session, tell_notes};
use crate::ask::export::NewFile;
use crate::ask::meanwhile;
use crate::ask::show::show;
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
    /// The PNG file to write.
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
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let node = session.stage(&self.stage)?;
        tell_notes(&meanwhile::notes(&session.catalog, &BTreeSet::from([node])));
        let file = NewFile::create(&self.picture, self.force)?;
        let shown = session.runtime.block_on(show(&session.catalog, node, self.count.map(usize::from), &self.clusters))?;
        let canvas = &shown.canvas;
        let encoder = PngEncoder::new(BufWriter::new(file.file()?));
        encoder
            .write_image(&canvas.pixels, canvas.width as u32, canvas.height as u32, ExtendedColorType::Rgb8)
            .with_context(|| format!("cannot write {}", self.picture.display()))?;
        file.finish()?;
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
        if self.output.format != Format::Text || (1..=LISTED).contains(&legend.len()) {
            print_columns(out, columns, self.output.format)?;
        } else if !legend.is_empty() {
            reporter.say(&format!("{} images: --format csv lists them", legend.len()));
        }
        reporter.say(&format!("{}: {} x {} pixels", self.picture.display(), canvas.width, canvas.height));
        if let Some(note) = &shown.note {
            reporter.say(note);
        }
        summary::left_out(&shown.dropped);
        Ok(())
    }
}
